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
    /// A protocol name must begin with a slash: put one before it.
    #[error("the protocol name `{0}` does not begin with a slash")]
    ProtocolName(String),
    /// The least soft timeout is longer than the greatest, or the greatest longer than the request timeout: order them.
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
    /// Several things are wrong, at least two, each of another kind or of another value: all must be set right.
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
    /// No address of the peer is known. Not the peer's fault: add one, or search the peer.
    #[error("no address of the peer is known")]
    NoAddresses,
    /// This node refused to dial: a limit of its own, its own id, an aborted attempt. Not the peer's fault: see what
    /// the program allows.
    #[error("this node refused to dial the peer")]
    DialRefused,
    /// The peer could not be reached at any of its addresses: it is off, or they are old. Try again later.
    #[error("the peer could not be reached")]
    Unreachable,
    /// The peer failed lately and is not tried again yet. Not counted as another failure: wait for some minutes.
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
    /// The peer does not speak the protocol, or no longer: it is a client, or its protocol has another name. Make it a server.
    #[error("the peer does not speak the protocol (is it a client?)")]
    Unsupported,
    /// The peer would not store what it was sent: it ended the stream, or has another value. Not a failure of the peer: put
    /// what its validators take, or at others.
    #[error("the peer refused")]
    Refused,
    /// The answer could not be read, or belongs to another request. The peer is broken: ask another.
    #[error("the answer does not fit the request")]
    BadAnswer,
    /// Too many requests wait for this peer or for a dial. Not the peer's fault: ask less at once.
    #[error("too many requests are waiting")]
    Overloaded,
    /// It was to be told where this node is, which has no address that the peer could use. Not the peer's fault:
    /// listen, or confirm an external address.
    #[error("this node has no address that the peer could use")]
    NoOwnAddress,
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
            | Self::NoOwnAddress => false,
        }
    }
}

/// Neither the routing table has an entry nor is there a seed: nobody can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no peer is known: add the address of one")]
pub struct NoKnownPeers();

/// Why a call of a [`Client`](crate::Client) was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The swarm is gone, and with it the node: make a client of another.
    #[error("the swarm is gone, and the node with it")]
    Closed,
    /// Too many calls wait for the swarm to be polled. Poll it, and call again.
    #[error("1,024 calls wait for the swarm to be polled, and none more may")]
    Busy,
    /// The time that [`with_deadline`](crate::Client::with_deadline) gives each call was up. Poll the swarm,
    /// and call again.
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
        ] {
            assert!(!error.is_peers_fault(), "{error}");
        }
        assert!(RequestError::Timeout.is_peers_fault());
    }
}
