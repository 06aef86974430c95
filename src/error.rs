//! Errors: one enum per thing that can fail, by whose fault it is; those of a kind of query stand with it, in `dht::op`.
//!
//! Knows peers' ids and addresses; every error carries what was reached before it. What all queries may fail of is one type,
//! [`QueryError`], found in the variant `Query` of each. The text of an error names its cause in one line; `source()` gives
//! the cause as a value.

mod address;
pub(crate) mod fates;
mod query;
mod store;

use crate::time::Duration;

pub use address::{AddAddressError, AddressError};
pub use fates::{Fates, SeedOutcome};
pub use query::QueryError;
pub(crate) use query::query_error;
pub use store::StoreError;

/// Why a [`Config`](crate::Config) cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The protocol name does not begin with a slash: give one that does.
    #[error("the protocol name `{0}` does not begin with a slash")]
    ProtocolName(String),
    /// The least soft timeout is longer than the greatest, or the greatest longer than the request timeout: set them in this
    /// order.
    #[error("soft timeouts must be ordered and not longer than the request timeout")]
    SoftTimeouts,
    /// A duration is shorter than it may be: the node would do nothing else. Give at least the `least`.
    #[error("the {what} must be at least {least:?}")]
    TooShort {
        /// Which one.
        what: &'static str,
        /// The least that it may be.
        least: Duration,
    },
    /// Several things are wrong, at least two, each of another kind or of another value: correct all of them, each as its
    /// own variant says.
    #[error("{}", several(.0))]
    Several(Vec<ConfigError>),
}

fn several(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why one request to one peer brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No address of the peer is known. Not the peer's fault: [add](crate::Behaviour::add_address) one, or
    /// [search](crate::Behaviour::find_peer) the peer.
    #[error("no address of the peer is known")]
    NoAddresses,
    /// This node refused to dial: a limit or a block list of its program, its own id, an aborted attempt. Not the peer's
    /// fault: check what the program allows.
    #[error("this node refused to dial the peer")]
    DialRefused,
    /// The peer could not be reached at any of its addresses: it is off, or they are old. Try again later.
    #[error("the peer could not be reached")]
    Unreachable,
    /// The peer failed lately, or the program blocks it, and a search does not try it again yet. Not counted as another
    /// failure: wait, for 5 seconds after a first failure and twice as long after each further one, up to 10 minutes (a
    /// blocked peer: 10 minutes to a day); or [ping](crate::Behaviour::ping) it, which is tried at once.
    #[error("the peer failed lately and is not tried again yet")]
    BackedOff,
    /// No answer came within the request timeout. Ask others, or the peer again later.
    #[error("no answer came in time")]
    Timeout,
    /// The connection was lost before the answer came. Ask again: it is dialled anew.
    #[error("the connection was lost")]
    Disconnected,
    /// The peer ended the stream instead of answering: it refuses, or does not know this kind of request. Ask
    /// another.
    #[error("the peer ended the stream")]
    StreamEnded,
    /// The peer does not speak the protocol, or no longer: it is a client, or its protocol has another name. Set it to be a
    /// server, or give both the same protocol name.
    #[error("the peer does not speak the protocol (is it a client?)")]
    Unsupported,
    /// The peer would not store what it was sent: it ended the stream, or has another value. Not a failure of the peer: send
    /// what its validators take and it has room for, or send it to others.
    #[error("the peer refused")]
    Refused,
    /// The answer could not be read, or belongs to another request. The peer is broken: ask another.
    #[error("the answer does not fit the request")]
    BadAnswer,
    /// Too many requests wait for this peer or for a dial: 1,024 for a peer. Not the peer's fault: ask less at once, or try
    /// again later.
    #[error("too many requests are waiting")]
    Overloaded,
    /// It was to be told where this node is, which has no address that the peer could use. Not the peer's fault:
    /// listen, or confirm an external address.
    #[error("this node has no address that the peer could use")]
    NoOwnAddress,
    /// The peer is banned, or no member of the network. Not the peer's fault: lift the [ban](crate::Behaviour::ban), or ask others.
    #[error("the peer is banned, or no member of the network")]
    Banned,
}

impl RequestError {
    /// Returns whether the failure says something about the peer, so that its entry in the routing table is doubted.
    pub const fn is_peers_fault(self) -> bool {
        match self {
            Self::Unreachable
            | Self::Timeout
            | Self::Disconnected
            | Self::StreamEnded
            | Self::Unsupported
            | Self::BadAnswer => true,
            Self::NoAddresses
            | Self::DialRefused
            | Self::BackedOff
            | Self::Overloaded
            | Self::Refused
            | Self::NoOwnAddress
            | Self::Banned => false,
        }
    }
}

/// The reason why a peer or a network cannot be banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BanError {
    /// It is this node itself: give another.
    #[error("a node cannot ban itself")]
    Own,
    /// Its end lies in the past: give a later one, or none.
    #[error("the ban would be over already")]
    Over,
    /// The prefix is longer than an address of the network: give at most 32 bits for IPv4, 128 for IPv6.
    #[error("a network has no prefix of {prefix} bits")]
    Prefix {
        /// The length that was given.
        prefix: u8,
    },
    /// As many are banned as can be: remove a ban, or give networks, by shorter prefixes, in place of their peers.
    #[error("{limit} are banned, and no more can be")]
    TooMany {
        /// How many can be.
        limit: usize,
    },
}

/// The reason why a client has banned nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientBanError {
    /// It cannot be: see the [`BanError`] for what is wrong.
    #[error(transparent)]
    Ban(#[from] BanError),
    /// The call brought no result: see the [`ClientError`] for whether to call again.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Neither the routing table has an entry nor is there a seed: nobody can be asked. [Add](crate::Behaviour::add_address) the
/// address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no peer is known: add the address of one")]
pub struct NoKnownPeers();

/// Why a call of a [`Client`](crate::Client) brought no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The swarm is gone, and with it the node: use a client of another.
    #[error("the swarm is gone, and the node with it")]
    Closed,
    /// Too many calls wait for the swarm to be polled. Poll it, and call again.
    #[error("1,024 calls wait for the swarm to be polled, and none more may")]
    Busy,
    /// The time that [`with_deadline`](crate::Client::with_deadline) gives each call was up. Poll the swarm, and call again;
    /// this call is carried out all the same when the swarm is polled.
    #[error("the swarm has not answered in time: is it polled?")]
    Timeout,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_refusals_are_not_the_peers_fault() {
        for error in [
            RequestError::NoAddresses,
            RequestError::DialRefused,
            RequestError::BackedOff,
            RequestError::Overloaded,
            RequestError::Refused,
            RequestError::NoOwnAddress,
            RequestError::Banned,
        ] {
            assert!(!error.is_peers_fault(), "{error}");
        }
        assert!(RequestError::Timeout.is_peers_fault());
    }
}
