//! Why an address cannot be used.

use libp2p_identity::PeerId;

use super::ClientError;

/// Why this node does not use an address, without having tried it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is one of this node itself: give that of another.
    #[error("it is an address of this node itself")]
    Own,
    /// It ends in the id of another peer than was named: give the id of that one, or an address without an id.
    #[error("it is an address of {named}")]
    OtherPeer {
        /// Whose it is.
        named: PeerId,
    },
    /// It has no port, or port 0: what a listener binds to so as to be given one. Use the address that the listener reports.
    #[error("it has no port")]
    NoPort,
    /// Nobody can dial it: it is empty, longer than 512 bytes, an unspecified, multicast or broadcast IP address, or names
    /// several peers. Use one at which a peer can be met.
    #[error("nobody can dial it")]
    Undialable,
    /// The [configured filter](crate::Config::with_address_filter) leaves it out: use another, or change the filter.
    #[error("the configured filter of addresses leaves it out")]
    Filtered,
    /// The peer is banned, or no member of the network: give another, or lift the [ban](crate::Behaviour::ban).
    #[error("the peer is banned, or no member of the network")]
    Banned,
    /// There are as many seeds as are configured, and none of them has failed for so long that it makes way: remove one, or
    /// configure more with [`with_max_seeds`](crate::Config::with_max_seeds).
    #[error("there are {limit} seeds, and no more may be")]
    TooManySeeds {
        /// How many there may be.
        limit: usize,
    },
}

/// Why a client has not added an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddAddressError {
    /// The address cannot be used: see the [`AddressError`] for what is wrong with it and which to give instead.
    #[error("the address was not added: {0}")]
    Address(#[from] AddressError),
    /// The call brought no result: see the [`ClientError`] for whether to call again.
    #[error(transparent)]
    Client(#[from] ClientError),
}
