//! Pings one peer.

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::machine::{Answer, Ask, End, Machine, Step, View, find_node};
use crate::addrs::Addresses;
use crate::dht::context::Context;
use crate::dht::peers::Urgency;
use crate::error::{PingError, RequestError};
use crate::event::{PingOk, ProgressStep, QueryInfo, QueryResult, QueryStats};
use crate::message::Request;
use crate::time::{Duration, Instant};

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
    /// Begins to ask a peer for a sign of life.
    ///
    /// # Errors
    /// The result, if the peer is this node itself.
    pub(in crate::dht) fn begin(peer: PeerId, cx: &Context) -> Result<Self, Box<QueryResult>> {
        if peer == cx.local.peer {
            let (source, protocol) = (RequestError::DialRefused, cx.config.protocol_name.clone());
            return Err(Box::new(QueryResult::Ping(Err(PingError::Failed { peer, source, protocol }))));
        }
        Ok(Self { peer, state: PingState::Ping, requests: 0 })
    }

    fn ask(&mut self, request: Request, asked: PingState) -> Step {
        self.state = asked;
        self.requests += 1;
        let (addresses, urgency) = (Addresses::empty(), Urgency::Forced);
        Step::Ask(Ask { to: self.peer, addresses, request, lookup: 0, urgency })
    }
}

fn failed(peer: PeerId, source: RequestError, view: &View<'_>) -> PingError {
    PingError::Failed { peer, source, protocol: view.config.protocol_name.clone() }
}

impl Machine for Ping {
    fn next(&mut self, _: Instant, view: &mut View<'_>) -> Step {
        match self.state {
            PingState::Ping => self.ask(Request::Ping, PingState::Asked),
            PingState::Find => self.ask(find_node(&Bytes::from(self.peer.to_bytes())), PingState::AskedAgain),
            PingState::Asked | PingState::AskedAgain => Step::Wait(None),
            PingState::Over(result) => Step::Done(QueryResult::Ping(match result {
                Ok(rtt) => Ok(PingOk { peer: self.peer, rtt }),
                Err(source) => Err(failed(self.peer, source, view)),
            })),
        }
    }

    fn answered(&mut self, _: Instant, _: &PeerId, _: u16, answer: Answer) {
        self.state = PingState::Over(Ok(answer.rtt));
    }

    fn failed(&mut self, _: &PeerId, _: u16, error: RequestError) {
        self.state = match (&self.state, error) {
            (PingState::Asked, RequestError::StreamEnded) => PingState::Find,
            (_, error) => PingState::Over(Err(error)),
        };
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        QueryResult::Ping(Err(match why {
            End::Timeout => failed(self.peer, RequestError::Timeout, view),
            End::Cancelled | End::Enough | End::Refused { .. } => {
                PingError::Query { cause: why.cause(), peer: self.peer }
            }
        }))
    }

    fn info(&self, _: ProgressStep) -> QueryInfo {
        QueryInfo::Ping { peer: self.peer }
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
