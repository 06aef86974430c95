//! Why an address cannot be used, and why nobody was reached at one.

use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::fates::reason;
use super::{ClientError, QueryError, RequestError};

/// Why this node does not use an address, without having tried it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is one of this node itself.
    #[error("it is an address of this node itself")]
    Own,
    /// It ends in the id of another peer than was named.
    #[error("it is an address of {named}")]
    OtherPeer {
        /// Whose it is.
        named: PeerId,
    },
    /// It has no port, or port 0: what a listener binds to so as to be given one.
    #[error("it has no port")]
    NoPort,
    /// Nobody can dial it: it is empty, longer than 512 bytes, an unspecified, multicast or broadcast IP address, or names
    /// several peers.
    #[error("nobody can dial it")]
    Undialable,
    /// The configured filter leaves it out.
    #[error("the configured filter of addresses leaves it out")]
    Filtered,
    /// There are as many seeds as are configured.
    #[error("there are {limit} seeds, and no more may be")]
    TooManySeeds {
        /// How many there may be.
        limit: usize,
    },
}

/// Why a client has not added an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddAddressError {
    /// The address cannot be used.
    #[error("the address was not added: {0}")]
    Address(#[from] AddressError),
    /// The call was not carried out.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Why connecting to an address failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not one to connect to; it was not tried.
    #[error("{address} cannot be connected to: {source}")]
    Address {
        /// The address.
        address: Multiaddr,
        /// Why not.
        source: AddressError,
    },
    /// Somebody is there, but nobody listens at the port.
    #[error("the connection to {address} was refused: nobody listens there")]
    Refused {
        /// The address.
        address: Multiaddr,
    },
    /// Nobody answers there, or the connection could not be set up.
    #[error("{address} could not be reached: {reason}")]
    Unreachable {
        /// The address.
        address: Multiaddr,
        /// What the transport says.
        reason: Arc<str>,
    },
    /// The swarm has no transport for such an address.
    #[error("no transport of this swarm can dial {address}")]
    NoTransport {
        /// The address.
        address: Multiaddr,
    },
    /// The name in the address stands for no address, or could not be looked up.
    #[error("the name in {address} could not be resolved: {reason}")]
    NotResolved {
        /// The address.
        address: Multiaddr,
        /// What the transport says.
        reason: Arc<str>,
    },
    /// Another peer than the address names is there.
    #[error("at {address} is another peer: {met}")]
    WrongPeer {
        /// The address.
        address: Multiaddr,
        /// Who is there.
        met: PeerId,
    },
    /// This program does not let the dial through: a limit of its own, a block list, or the swarm has aborted it.
    #[error("this program has denied the dial to {address}")]
    Denied {
        /// The address.
        address: Multiaddr,
    },
    /// A peer was met, is connected and a seed now, but does not serve this node: as a rule it does not speak the protocol,
    /// since it is a client or of another network.
    #[error("{peer} was met at {address}, but: {}", reason(.source, .protocol))]
    NotServing {
        /// Who was met.
        peer: PeerId,
        /// The address.
        address: Multiaddr,
        /// Why it does not.
        source: RequestError,
        /// The protocol by which it was asked.
        protocol: Arc<str>,
    },
    /// What any query may fail of.
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
