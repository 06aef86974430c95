//! Connects to an address, whichever peer is there.

use std::sync::Arc;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::machine::{After, Ask, Begin, End, FilteredAnswer, Findings, Machine, Step, View, find_node};
use crate::addrs::{Addresses, without_peer};
use crate::config::Config;
use crate::dht::advice::Failure;
use crate::dht::io::{DialFailure, Unreached};
use crate::dht::peers::Urgency;
use crate::dht::view::Parts;
use crate::error::fates::reason;
use crate::error::{AddressError, QueryError, RequestError, query_error};
use crate::event::{ProgressStep, QueryStats};
use crate::time::Instant;

/// The outcome of connecting to an address.
pub type ConnectResult = Result<ConnectOk, ConnectError>;

/// A peer was met at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOk {
    /// The peer that was met there. It is a seed now.
    pub peer: PeerId,
    /// The address.
    pub address: Multiaddr,
}

/// Why connecting to an address failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not one to connect to, and was not tried. See `source` for what is wrong with it, and which to give
    /// instead.
    #[error("{address} cannot be connected to: {source}")]
    Address {
        /// The address.
        address: Multiaddr,
        /// Why not.
        source: AddressError,
    },
    /// A host is there, but no program listens at the port: check the port, and that the other node runs.
    #[error("the connection to {address} was refused: nobody listens there")]
    Refused {
        /// The address.
        address: Multiaddr,
    },
    /// Nobody answers there, or the connection could not be set up: check the address, and what is between (a firewall, a NAT).
    /// Try again later.
    #[error("{address} could not be reached: {reason}")]
    Unreachable {
        /// The address.
        address: Multiaddr,
        /// What the transport says.
        reason: Arc<str>,
    },
    /// The swarm has no transport for such an address: give it one (a name needs DNS), or use another address.
    #[error("no transport of this swarm can dial {address}")]
    NoTransport {
        /// The address.
        address: Multiaddr,
    },
    /// The name in the address stands for no address, or could not be looked up: check the name and the resolver.
    #[error("the name in {address} could not be resolved: {reason}")]
    NotResolved {
        /// The address.
        address: Multiaddr,
        /// What the transport says.
        reason: Arc<str>,
    },
    /// Another peer than the address names is there: correct the id, or leave it out to take whichever peer is there.
    #[error("at {address} is another peer: {met}")]
    WrongPeer {
        /// The address.
        address: Multiaddr,
        /// The peer that is there.
        met: PeerId,
    },
    /// This program does not let the dial through: a limit of its own, a block list, another dial of the peer that is under
    /// way, or the swarm has aborted it. Raise the limit, or try again when there is room.
    #[error("this program has denied the dial to {address}")]
    Denied {
        /// The address.
        address: Multiaddr,
    },
    /// A peer was met, is connected and a seed now, but does not serve this node: as a rule it does not speak the protocol,
    /// since it is a client or of another network. Set it to be a server, or give both the same protocol name.
    #[error("{peer} was met at {address}, but: {}", reason(.source, .protocol))]
    NotServing {
        /// The peer that was met.
        peer: PeerId,
        /// The address.
        address: Multiaddr,
        /// Why it does not.
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
        /// The address.
        address: Multiaddr,
    },
}

impl ConnectError {
    /// Returns the address.
    pub const fn address(&self) -> &Multiaddr {
        match self {
            Self::Address { address, .. }
            | Self::Refused { address }
            | Self::Unreachable { address, .. }
            | Self::NoTransport { address }
            | Self::NotResolved { address, .. }
            | Self::WrongPeer { address, .. }
            | Self::Denied { address }
            | Self::NotServing { address, .. }
            | Self::Query { address, .. } => address,
        }
    }
}

query_error!(ConnectError);

impl Findings for ConnectResult {
    fn failure(&self) -> Option<Failure> {
        let Err(ConnectError::NotServing { source, .. }) = self else {
            return None;
        };
        (*source == RequestError::Unsupported).then_some(Failure::Unsupported)
    }
}

/// What is seen of a connection to an address that runs.
#[derive(Debug)]
pub(in crate::dht) struct ConnectInfo {
    pub(in crate::dht) address: Multiaddr,
}

/// Connects to an address without knowing the peer. The peer that is met there becomes a seed, and is asked for the peers
/// closest to this node: whether it speaks the protocol only an answer shows.
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
    Over(Result<PeerId, ConnectFailure>),
}

#[derive(Debug)]
enum ConnectFailure {
    Dial(DialFailure),
    Request(PeerId, RequestError),
}

impl Connect {
    fn not_serving(&self, peer: PeerId, source: RequestError, view: &View<'_>) -> ConnectError {
        let (address, protocol) = (self.address.clone(), view.config.protocol_name.clone());
        ConnectError::NotServing { peer, address, source, protocol }
    }
}

/// Returns what a failed dial to an address means to the caller that wanted to connect.
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

impl Begin for Connect {
    type Command = Multiaddr;
    type Info = ConnectInfo;
    type Result = ConnectResult;

    fn seen(address: &Multiaddr, _: &Config) -> ConnectInfo {
        ConnectInfo { address: address.clone() }
    }

    /// Begins to connect to an address, if that can be used.
    fn begin(_: Instant, address: Multiaddr, parts: &mut Parts<'_>) -> Result<Self, Box<ConnectResult>> {
        let (plain, peer) = without_peer(address.clone());
        let bans = &parts.peers.bans;
        let is_banned =
            bans.has_banned_address(&plain) || peer.as_ref().is_some_and(|peer| !bans.admits(peer));
        let checked = parts.cx.check_address(&plain, peer.as_ref());
        match checked.and(if is_banned { Err(AddressError::Banned) } else { Ok(()) }) {
            Ok(()) => Ok(Self { address, state: ConnectState::Begin }),
            Err(source) => Err(Box::new(Err(ConnectError::Address { address, source }))),
        }
    }
}

impl<R: From<ConnectResult>, I: From<ConnectInfo>> Machine<R, I> for Connect {
    fn next(&mut self, _: Instant, view: &mut View<'_>) -> Step<R> {
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
            ConnectState::Over(result) => Step::Done(R::from(match result {
                Ok(peer) => Ok(ConnectOk { peer: *peer, address: self.address.clone() }),
                Err(ConnectFailure::Dial(failure)) => Err(not_met(self.address.clone(), failure)),
                Err(ConnectFailure::Request(peer, error)) => Err(self.not_serving(*peer, *error, view)),
            })),
        }
    }

    fn answered(&mut self, from: &PeerId, _: u16, _: FilteredAnswer) {
        self.state = ConnectState::Over(Ok(*from));
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        self.state = ConnectState::Over(Err(ConnectFailure::Request(*from, error)));
    }

    fn address_dialled(&mut self, result: Result<PeerId, DialFailure>) {
        self.state = match result {
            Ok(peer) => ConnectState::Met(peer),
            Err(failure) => ConnectState::Over(Err(ConnectFailure::Dial(failure))),
        };
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        R::from(Err(match (why, &self.state) {
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

    fn is_light(&self) -> bool {
        true
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(ConnectInfo { address: self.address.clone() })
    }

    fn count(&self, stats: &mut QueryStats) {
        stats.dials = 1;
        (stats.requests, stats.success, stats.failure) = match &self.state {
            ConnectState::Begin
            | ConnectState::Dialling
            | ConnectState::Met(_)
            | ConnectState::Over(Err(ConnectFailure::Dial(_))) => (0, 0, 0),
            ConnectState::Asked(_) => (1, 0, 0),
            ConnectState::Over(Ok(_)) => (1, 1, 0),
            ConnectState::Over(Err(ConnectFailure::Request(..))) => (1, 0, 1),
        };
    }
}
