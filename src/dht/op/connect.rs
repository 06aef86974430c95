//! Connects to an address, whoever is there.

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::machine::{After, Answer, Ask, End, Machine, Step, View, find_node};
use crate::addrs::{Addresses, without_peer};
use crate::dht::context::Context;
use crate::dht::io::{DialFailure, Unreached};
use crate::dht::peers::Urgency;
use crate::error::{AddressError, ConnectError, RequestError};
use crate::event::{ConnectOk, ProgressStep, QueryInfo, QueryResult, QueryStats};
use crate::time::Instant;

/// Connects to an address without knowing the peer. Whoever is met there becomes a seed, and is asked for the peers closest to
/// this node: whether it speaks the protocol only an answer shows.
///
/// # States
/// ```text
/// Begin -----> Dialling --met--> Met -----> Asked -----> Over
///                 |                                       ^
///                 +--nobody there-------------------------+
/// ```
#[derive(Debug)]
pub(in crate::dht) struct Connect {
    address: Multiaddr,
    state: ConnectState,
}

#[derive(Debug)]
enum ConnectState {
    Begin,
    Dialling,
    Met(PeerId),
    Asked(PeerId),
    Over(Result<PeerId, Failure>),
}

#[derive(Debug)]
enum Failure {
    Dial(DialFailure),
    Request(PeerId, RequestError),
}

impl Connect {
    /// Begins to connect to an address.
    ///
    /// # Errors
    /// The result, if the address cannot be used.
    pub(in crate::dht) fn begin(address: Multiaddr, cx: &Context) -> Result<Self, Box<QueryResult>> {
        let (plain, peer) = without_peer(address.clone());
        match cx.check_address(&plain, peer.as_ref()) {
            Ok(()) => Ok(Self { address, state: ConnectState::Begin }),
            Err(source) => Err(Box::new(QueryResult::Connect(Err(ConnectError::Address { address, source })))),
        }
    }

    fn not_serving(&self, peer: PeerId, source: RequestError, view: &View<'_>) -> ConnectError {
        let (address, protocol) = (self.address.clone(), view.config.protocol_name.clone());
        ConnectError::NotServing { peer, address, source, protocol }
    }
}

/// Returns what a failed dial to an address means to whoever wanted to connect.
fn not_met(address: Multiaddr, failure: &DialFailure) -> ConnectError {
    match failure {
        DialFailure::Unreachable { unsupported, .. } if !unsupported.is_empty() => {
            ConnectError::NoTransport { address }
        }
        DialFailure::Unreachable { why, .. } => match why {
            Unreached::Silent => ConnectError::Unreachable { address, reason: "nobody answers there".into() },
            Unreached::Refused => ConnectError::Refused { address },
            Unreached::NotResolved(reason) => ConnectError::NotResolved { address, reason: reason.clone() },
            Unreached::Other(reason) => ConnectError::Unreachable { address, reason: reason.clone() },
        },
        DialFailure::WrongPeer { met, .. } => ConnectError::WrongPeer { address, met: *met },
        DialFailure::Own { .. } => ConnectError::Address { address, source: AddressError::Own },
        DialFailure::Refused | DialFailure::Denied | DialFailure::UnderWay => {
            ConnectError::Denied { address }
        }
        DialFailure::NoAddresses => ConnectError::NoTransport { address },
    }
}

impl Machine for Connect {
    fn next(&mut self, _: Instant, view: &mut View<'_>) -> Step {
        match &self.state {
            ConnectState::Begin => {
                self.state = ConnectState::Dialling;
                Step::Dial(self.address.clone())
            }
            ConnectState::Met(peer) => {
                let (to, addresses, urgency) = (*peer, Addresses::empty(), Urgency::Forced);
                self.state = ConnectState::Asked(to);
                let request = find_node(&Bytes::from(view.local.peer.to_bytes()));
                Step::Ask(Ask { to, addresses, request, lookup: 0, urgency })
            }
            ConnectState::Dialling | ConnectState::Asked(_) => Step::Wait(None),
            ConnectState::Over(result) => Step::Done(QueryResult::Connect(match result {
                Ok(peer) => Ok(ConnectOk { peer: *peer, address: self.address.clone() }),
                Err(Failure::Dial(failure)) => Err(not_met(self.address.clone(), failure)),
                Err(Failure::Request(peer, error)) => Err(self.not_serving(*peer, *error, view)),
            })),
        }
    }

    fn answered(&mut self, _: Instant, from: &PeerId, _: u16, _: Answer) {
        self.state = ConnectState::Over(Ok(*from));
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        self.state = ConnectState::Over(Err(Failure::Request(*from, error)));
    }

    fn address_dialled(&mut self, result: Result<PeerId, DialFailure>) {
        self.state = match result {
            Ok(peer) => ConnectState::Met(peer),
            Err(failure) => ConnectState::Over(Err(Failure::Dial(failure))),
        };
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        QueryResult::Connect(Err(match (why, &self.state) {
            (End::Timeout, ConnectState::Met(peer) | ConnectState::Asked(peer)) => {
                self.not_serving(*peer, RequestError::Timeout, view)
            }
            (End::Timeout, ConnectState::Begin | ConnectState::Dialling | ConnectState::Over(_)) => {
                not_met(self.address.clone(), &DialFailure::unreachable(Unreached::Silent))
            }
            (End::Cancelled | End::Enough | End::Refused { .. }, _) => {
                ConnectError::Query { cause: why.cause(), address: self.address.clone() }
            }
        }))
    }

    fn connects_to(&self) -> Option<&Multiaddr> {
        Some(&self.address)
    }

    fn after(&self, _: Instant, _: &View<'_>) -> After {
        After::Dialled
    }

    fn info(&self, _: ProgressStep) -> QueryInfo {
        QueryInfo::Connect { address: self.address.clone() }
    }

    fn count(&self, stats: &mut QueryStats) {
        stats.dials = 1;
        (stats.requests, stats.success, stats.failure) = match &self.state {
            ConnectState::Begin | ConnectState::Dialling | ConnectState::Met(_) | ConnectState::Over(Err(Failure::Dial(_))) => (0, 0, 0),
            ConnectState::Asked(_) => (1, 0, 0),
            ConnectState::Over(Ok(_)) => (1, 1, 0),
            ConnectState::Over(Err(Failure::Request(..))) => (1, 0, 1),
        };
    }
}
