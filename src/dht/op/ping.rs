//! Pings one peer.

use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::machine::{Ask, Begin, End, FilteredAnswer, Findings, Machine, Step, View, find_node};
use crate::addrs::Addresses;
use crate::config::Config;
use crate::dht::context::Context;
use crate::dht::peers::Urgency;
use crate::dht::view::Parts;
use crate::error::fates::reason;
use crate::error::{QueryError, RequestError, query_error};
use crate::event::{ProgressStep, QueryStats};
use crate::message::Request;
use crate::time::{Duration, Instant};

/// The outcome of a ping.
pub type PingResult = Result<PingOk, PingError>;

/// A peer has answered a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingOk {
    /// The peer.
    pub peer: PeerId,
    /// The time from sending the request to reading the answer, dialling not counted.
    pub rtt: Duration,
}

/// Why a ping failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The peer did not answer. See `source` for why, and what to do.
    #[error("{peer} did not answer: {}", reason(.source, .protocol))]
    Failed {
        /// The peer.
        peer: PeerId,
        /// What happened.
        source: RequestError,
        /// The protocol by which it was asked.
        protocol: Arc<str>,
    },
    /// What any query may fail of: see [`QueryError`] for what to do.
    #[error("{cause}")]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The peer.
        peer: PeerId,
    },
}

query_error!(PingError);

impl Findings for PingResult {}

/// What is seen of a ping that runs.
#[derive(Debug)]
pub(in crate::dht) struct PingInfo {
    pub(in crate::dht) peer: PeerId,
}

/// Asks one peer for a sign of life.
///
/// Some implementations (`libp2p-kad`) end the stream instead of answering a PING. Such a peer is then asked for the
/// peers closest to itself, which everybody answers.
///
/// # States
/// ```text
/// Ping -----> Asked -- stream ended --> Find ----> AskedAgain
///               |                                     |
///               +------------> Over <-----------------+
/// ```
///
/// # Spec
/// libp2p kad-dht, "RPC messages": PING.
#[derive(Debug)]
pub(in crate::dht) struct Ping {
    peer: PeerId,
    state: PingState,
    requests: u32,
}

#[derive(Debug)]
enum PingState {
    Ping,
    Asked,
    Find,
    AskedAgain,
    Over(Result<Duration, RequestError>),
}

impl Ping {
    fn ask<R>(&mut self, request: Request, asked: PingState) -> Step<R> {
        self.state = asked;
        self.requests += 1;
        let (addresses, urgency) = (Addresses::empty(), Urgency::Forced);
        Step::Ask(Ask { to: self.peer, addresses, request, lookup: 0, urgency })
    }
}

fn failed(peer: PeerId, source: RequestError, view: &View<'_>) -> PingError {
    PingError::Failed { peer, source, protocol: view.config.protocol_name.clone() }
}

impl Begin for Ping {
    type Command = PeerId;
    type Info = PingInfo;
    type Result = PingResult;

    fn seen(peer: &PeerId, _: &Config) -> PingInfo {
        PingInfo { peer: *peer }
    }

    /// Begins to ask a peer for a sign of life, unless it is this node itself.
    fn begin(_: Instant, peer: PeerId, parts: &mut Parts<'_>) -> Result<Self, Box<PingResult>> {
        let Context { local, config, .. } = &*parts.cx;
        if peer == local.peer {
            let (source, protocol) = (RequestError::DialRefused, config.protocol_name.clone());
            return Err(Box::new(Err(PingError::Failed { peer, source, protocol })));
        }
        Ok(Self { peer, state: PingState::Ping, requests: 0 })
    }
}

impl<R: From<PingResult>, I: From<PingInfo>> Machine<R, I> for Ping {
    fn next(&mut self, _: Instant, view: &mut View<'_>) -> Step<R> {
        match self.state {
            PingState::Ping => self.ask(Request::Ping, PingState::Asked),
            PingState::Find => self.ask(find_node(&Bytes::from(self.peer.to_bytes())), PingState::AskedAgain),
            PingState::Asked | PingState::AskedAgain => Step::Wait(None),
            PingState::Over(result) => Step::Done(R::from(match result {
                Ok(rtt) => Ok(PingOk { peer: self.peer, rtt }),
                Err(source) => Err(failed(self.peer, source, view)),
            })),
        }
    }

    fn answered(&mut self, _: &PeerId, _: u16, answer: FilteredAnswer) {
        self.state = PingState::Over(Ok(answer.rtt));
    }

    fn failed(&mut self, _: &PeerId, _: u16, error: RequestError) {
        self.state = match (&self.state, error) {
            (PingState::Asked, RequestError::StreamEnded) => PingState::Find,
            (_, error) => PingState::Over(Err(error)),
        };
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        R::from(Err(match why {
            End::Timeout => failed(self.peer, RequestError::Timeout, view),
            End::Cancelled | End::Enough | End::Refused { .. } => {
                PingError::Query { cause: why.cause(), peer: self.peer }
            }
        }))
    }

    fn is_light(&self) -> bool {
        true
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(PingInfo { peer: self.peer })
    }

    fn count(&self, stats: &mut QueryStats) {
        stats.requests = self.requests;
        stats.success = u32::from(matches!(self.state, PingState::Over(Ok(_))));
        stats.failure = match self.state {
            PingState::Ping | PingState::Asked => 0,
            PingState::Find | PingState::AskedAgain => 1,
            PingState::Over(Ok(_)) => self.requests.saturating_sub(1),
            PingState::Over(Err(_)) => self.requests,
        };
    }
}
