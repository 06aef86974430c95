//! Asks one peer one thing, without a search.

use libp2p_identity::PeerId;

use super::{Answer, Ask, End, Machine, Step, View};
use crate::addrs::Addresses;
use crate::dht::peers::Urgency;
use crate::error::{AskPeerError, RequestError};
use crate::event::{AskPeerOk, ProgressStep, QueryInfo, QueryResult, QueryStats};
use crate::message::Request;
use crate::peer::PeerInfo;
use crate::time::Instant;

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
    state: State,
}

#[derive(Debug)]
enum State {
    Begin,
    Asked,
    Over(Box<Result<AskPeerOk, RequestError>>),
}

impl AskPeer {
    pub(in crate::dht) const fn new(peer: PeerId, request: Request) -> Self {
        Self { peer, request, state: State::Begin }
    }
}

fn failed(peer: PeerId, source: RequestError, view: &View<'_>) -> AskPeerError {
    AskPeerError::Failed { peer, source, protocol: view.config.protocol_name.clone() }
}

impl Machine for AskPeer {
    fn next(&mut self, _: Instant, view: &mut View<'_>) -> Step {
        match &self.state {
            State::Begin => {
                self.state = State::Asked;
                let (addresses, urgency) = (Addresses::empty(), Urgency::Forced);
                Step::Ask(Ask { to: self.peer, addresses, request: self.request.clone(), lookup: 0, urgency })
            }
            State::Asked => Step::Wait(None),
            State::Over(result) => Step::Done(QueryResult::AskPeer(match &**result {
                Ok(answer) => Ok(answer.clone()),
                Err(source) => Err(failed(self.peer, *source, view)),
            })),
        }
    }

    fn answered(&mut self, _: Instant, from: &PeerId, _: u16, answer: Answer) {
        let info = |named: super::Named| PeerInfo { peer_id: named.peer, addrs: named.addresses.into_vec() };
        let closer = answer.closer.into_iter().map(info).collect();
        let ok = AskPeerOk { peer: *from, closer, record: answer.record };
        self.state = State::Over(Box::new(Ok(ok)));
    }

    fn failed(&mut self, _: &PeerId, _: u16, error: RequestError) {
        self.state = State::Over(Box::new(Err(error)));
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        QueryResult::AskPeer(Err(match why {
            End::Timeout => failed(self.peer, RequestError::Timeout, view),
            End::Cancelled | End::Enough => AskPeerError::Query { cause: why.cause(), peer: self.peer },
        }))
    }

    fn info(&self, _: ProgressStep) -> QueryInfo {
        QueryInfo::AskPeer { peer: self.peer }
    }

    fn count(&self, stats: &mut QueryStats) {
        (stats.requests, stats.success, stats.failure) = match &self.state {
            State::Begin => (0, 0, 0),
            State::Asked => (1, 0, 0),
            State::Over(result) => (1, u32::from(result.is_ok()), u32::from(result.is_err())),
        };
    }
}
