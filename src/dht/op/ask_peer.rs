//! Asks one peer one thing, without a search.

use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::machine::{Ask, End, FilteredAnswer, Findings, Machine, Step, View};
use crate::addrs::Addresses;
use crate::dht::peers::Urgency;
use crate::error::fates::reason;
use crate::error::{QueryError, RequestError, query_error};
use crate::event::{ProgressStep, QueryStats};
use crate::message::Request;
use crate::peer::PeerInfo;
use crate::record::{Record, RecordKey};
use crate::time::Instant;

/// The outcome of asking one peer.
pub type AskPeerResult = Result<AskPeerOk, AskPeerError>;

/// The answer of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskPeerOk {
    /// The peer.
    pub peer: PeerId,
    /// The peers it named, as it named them.
    pub closer: Vec<PeerInfo>,
    /// The record, if one was asked for, the peer had one, and it is valid.
    pub record: Option<Record>,
}

/// Why a peer did not answer what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskPeerError {
    /// The peer did not answer. See `source` for why, and what to do; or ask another.
    #[error("{peer} did not answer: {}", reason(.source, .protocol))]
    Failed {
        /// The peer.
        peer: PeerId,
        /// What happened.
        source: RequestError,
        /// The protocol by which it was asked.
        protocol: Arc<str>,
    },
    /// The protocol cannot ask for the hash of no bytes: give at least one.
    #[error("the key is empty")]
    EmptyKey,
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

query_error!(AskPeerError);

impl Findings for AskPeerResult {}

/// What is seen of a question to one peer that runs.
#[derive(Debug)]
pub(in crate::dht) struct AskPeerInfo {
    pub(in crate::dht) peer: PeerId,
}

/// Asks one peer for the peers closest to a key, or for a record.
///
/// # States
/// ```text
/// Begin -----> Asked -----> Over
/// ```
#[derive(Debug)]
pub(in crate::dht) struct AskPeer {
    peer: PeerId,
    request: Request,
    state: AskState,
}

#[derive(Debug)]
enum AskState {
    Begin,
    Asked,
    Over(Box<Result<AskPeerOk, RequestError>>),
}

impl AskPeer {
    /// Begins to ask one peer for the peers closest to a key.
    ///
    /// # Errors
    /// The result, if the key is empty.
    pub(in crate::dht) fn find_node(peer: PeerId, key: Vec<u8>) -> Result<Self, Box<AskPeerResult>> {
        let key = Bytes::from(key);
        Self::begin(peer, key.is_empty(), Request::FindNode { key })
    }

    /// Begins to ask one peer for a record.
    ///
    /// # Errors
    /// The result, if the key is empty.
    pub(in crate::dht) fn get_record(peer: PeerId, key: RecordKey) -> Result<Self, Box<AskPeerResult>> {
        Self::begin(peer, key.as_ref().is_empty(), Request::GetValue { key })
    }

    fn begin(peer: PeerId, is_empty: bool, request: Request) -> Result<Self, Box<AskPeerResult>> {
        if is_empty {
            return Err(Box::new(Err(AskPeerError::EmptyKey)));
        }
        Ok(Self { peer, request, state: AskState::Begin })
    }
}

fn failed(peer: PeerId, source: RequestError, view: &View<'_>) -> AskPeerError {
    AskPeerError::Failed { peer, source, protocol: view.config.protocol_name.clone() }
}

impl<R: From<AskPeerResult>, I: From<AskPeerInfo>> Machine<R, I> for AskPeer {
    fn next(&mut self, _: Instant, view: &mut View<'_>) -> Step<R> {
        match &self.state {
            AskState::Begin => {
                self.state = AskState::Asked;
                let (addresses, urgency) = (Addresses::empty(), Urgency::Forced);
                Step::Ask(Ask { to: self.peer, addresses, request: self.request.clone(), lookup: 0, urgency })
            }
            AskState::Asked => Step::Wait(None),
            AskState::Over(result) => Step::Done(R::from(match &**result {
                Ok(answer) => Ok(answer.clone()),
                Err(source) => Err(failed(self.peer, *source, view)),
            })),
        }
    }

    fn answered(&mut self, from: &PeerId, _: u16, answer: FilteredAnswer) {
        let info = |named: crate::dht::answer::CloserPeer| PeerInfo {
            peer_id: named.peer,
            addrs: named.addresses.into_vec(),
        };
        let closer = answer.closer.into_iter().map(info).collect();
        let ok = AskPeerOk { peer: *from, closer, record: answer.record };
        self.state = AskState::Over(Box::new(Ok(ok)));
    }

    fn failed(&mut self, _: &PeerId, _: u16, error: RequestError) {
        self.state = AskState::Over(Box::new(Err(error)));
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        R::from(Err(match why {
            End::Timeout => failed(self.peer, RequestError::Timeout, view),
            End::Cancelled | End::Enough | End::Refused { .. } => {
                AskPeerError::Query { cause: why.cause(), peer: self.peer }
            }
        }))
    }

    fn is_light(&self) -> bool {
        true
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(AskPeerInfo { peer: self.peer })
    }

    fn count(&self, stats: &mut QueryStats) {
        (stats.requests, stats.success, stats.failure) = match &self.state {
            AskState::Begin => (0, 0, 0),
            AskState::Asked => (1, 0, 0),
            AskState::Over(result) => (1, u32::from(result.is_ok()), u32::from(result.is_err())),
        };
    }
}
