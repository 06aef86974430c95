//! Connects to an address, whoever is there.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{Answer, End, Machine, Step, View};
use crate::error::{ConnectError, RequestError};
use crate::event::{ConnectOk, ProgressStep, QueryInfo, QueryResult, QueryStats};
use crate::time::Instant;

/// Connects to an address without knowing the peer. Whoever is met there becomes a seed.
///
/// # States
/// ```text
/// Begin -----> Dialling -----> Over
/// ```
#[derive(Debug)]
pub(in crate::dht) struct Connect {
    address: Multiaddr,
    state: State,
}

#[derive(Debug)]
enum State {
    Begin,
    Dialling,
    Over(Result<PeerId, RequestError>),
}

impl Connect {
    pub(in crate::dht) const fn new(address: Multiaddr) -> Self {
        Self { address, state: State::Begin }
    }

    pub(in crate::dht) const fn address(&self) -> &Multiaddr {
        &self.address
    }
}

impl Machine for Connect {
    fn next(&mut self, _: Instant, _: &mut View<'_>) -> Step {
        match self.state {
            State::Begin => {
                self.state = State::Dialling;
                Step::Dial(self.address.clone())
            }
            State::Dialling => Step::Wait(None),
            State::Over(result) => Step::Done(QueryResult::Connect(match result {
                Ok(peer) => Ok(ConnectOk { peer, address: self.address.clone() }),
                Err(error) => Err(ConnectError::Failed(error)),
            })),
        }
    }

    fn answered(&mut self, _: Instant, _: &PeerId, _: u16, _: Answer) {}

    fn failed(&mut self, _: &PeerId, _: u16, _: RequestError) {}

    fn met(&mut self, result: Result<PeerId, RequestError>) {
        self.state = State::Over(result);
    }

    fn end(&mut self, _: &View<'_>, why: End) -> QueryResult {
        QueryResult::Connect(Err(match why {
            End::Timeout => ConnectError::Failed(RequestError::Timeout),
            End::Cancelled | End::Enough => ConnectError::Cancelled,
        }))
    }

    fn info(&self, _: ProgressStep) -> QueryInfo {
        QueryInfo::Connect { address: self.address.clone() }
    }

    fn count(&self, stats: &mut QueryStats) {
        stats.dials = 1;
    }
}
