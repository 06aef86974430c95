//! Errors: one enum per thing that can fail, by whose fault it is.
//!
//! Knows peers' ids and addresses; every error carries what was reached before it.

mod providers;
mod records;

use libp2p_identity::PeerId;

pub use providers::{AddProviderError, GetProvidersError, ProvideReport};
pub use records::{AskPeerError, GetRecordError, PutRecordError, PutReport};

use crate::peer::PeerInfo;
use crate::time::Duration;

/// Why a [`Config`](crate::Config) cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A protocol name must begin with a slash.
    #[error("the protocol name `{0}` does not begin with a slash")]
    ProtocolName(String),
    /// The least soft timeout is longer than the greatest, or the greatest longer than the request timeout.
    #[error("soft timeouts must be ordered and not longer than the request timeout")]
    SoftTimeouts,
    /// A duration is shorter than it may be: the node would do nothing else.
    #[error("the {what} must be at least {least:?}")]
    TooShort {
        /// Which one.
        what: &'static str,
        /// The least that it may be.
        least: Duration,
    },
}

/// Why one request to one peer brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No address of the peer is known. Not the peer's fault.
    #[error("no address of the peer is known")]
    NoAddresses,
    /// This node refused to dial: a limit of its own, its own id, an aborted attempt. Not the peer's fault.
    #[error("this node refused to dial the peer")]
    DialRefused,
    /// The peer could not be reached at any of its addresses.
    #[error("the peer could not be reached")]
    Unreachable,
    /// The peer failed lately and is not tried again yet. Not counted as another failure.
    #[error("the peer failed lately and is not tried again yet")]
    BackedOff,
    /// No answer came within the request timeout.
    #[error("no answer came in time")]
    Timeout,
    /// The connection was lost before the answer came.
    #[error("the connection was lost")]
    Disconnected,
    /// The peer ended the stream instead of answering: it refuses, or does not know this kind of request.
    #[error("the peer ended the stream")]
    StreamEnded,
    /// The peer does not speak the protocol, or no longer.
    #[error("the peer does not speak the protocol")]
    Unsupported,
    /// The peer would not store what it was sent: it ended the stream, or has another value. Not a failure of the peer.
    #[error("the peer refused")]
    Refused,
    /// The answer could not be read, or belongs to another request.
    #[error("the answer does not fit the request")]
    BadAnswer,
    /// Too many requests wait for this peer or for a dial. Not the peer's fault.
    #[error("too many requests are waiting")]
    Overloaded,
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
            Self::NoAddresses | Self::DialRefused | Self::BackedOff | Self::Overloaded | Self::Refused => {
                false
            }
        }
    }
}

/// Neither the routing table has an entry nor is there a seed: nobody can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no peer is known: add the address of one")]
pub struct NoKnownPeers();

/// Why a search for the closest peers ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetClosestPeersError {
    /// The query's time was up.
    #[error("the query timed out")]
    Timeout {
        /// The bytes whose hash was looked for.
        key: Vec<u8>,
        /// The closest peers that had answered, nearest first.
        peers: Vec<PeerInfo>,
    },
    /// Nobody could be asked.
    #[error("no peer is known: add the address of one")]
    NoKnownPeers {
        /// The bytes whose hash was to be looked for.
        key: Vec<u8>,
    },
    /// The protocol cannot ask for the hash of no bytes.
    #[error("the key is empty")]
    EmptyKey,
    /// As many queries were running as are configured.
    #[error("too many queries are running")]
    TooManyQueries {
        /// The bytes whose hash was to be looked for.
        key: Vec<u8>,
    },
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled {
        /// The bytes whose hash was looked for.
        key: Vec<u8>,
        /// The closest peers that had answered, nearest first.
        peers: Vec<PeerInfo>,
    },
    /// Too many calls wait for the swarm to be polled: this one was not carried out. Only a [`Client`](crate::Client) returns it.
    #[error("too many calls are waiting")]
    Busy,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone")]
    Closed,
}

impl GetClosestPeersError {
    /// Returns the bytes whose hash was looked for; empty if the call was not carried out.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Timeout { key, .. }
            | Self::NoKnownPeers { key }
            | Self::TooManyQueries { key }
            | Self::Cancelled { key, .. } => key,
            Self::EmptyKey | Self::Busy | Self::Closed => &[],
        }
    }

    /// Returns the bytes whose hash was looked for, without the rest.
    pub fn into_key(self) -> Vec<u8> {
        match self {
            Self::Timeout { key, .. }
            | Self::NoKnownPeers { key }
            | Self::TooManyQueries { key }
            | Self::Cancelled { key, .. } => key,
            Self::EmptyKey | Self::Busy | Self::Closed => Vec::new(),
        }
    }
}

/// Why a peer was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindPeerError {
    /// The search ended and nobody knew an address of the peer.
    #[error("nobody knows the peer")]
    NotFound {
        /// The closest peers that answered, nearest first.
        closest: Vec<PeerInfo>,
    },
    /// The query's time was up.
    #[error("the query timed out")]
    Timeout {
        /// The closest peers that had answered, nearest first.
        closest: Vec<PeerInfo>,
    },
    /// Nobody could be asked.
    #[error("no peer is known: add the address of one")]
    NoKnownPeers,
    /// As many queries were running as are configured.
    #[error("too many queries are running")]
    TooManyQueries,
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled,
    /// Too many calls wait for the swarm to be polled: this one was not carried out. Only a [`Client`](crate::Client) returns it.
    #[error("too many calls are waiting")]
    Busy,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone")]
    Closed,
}

/// Why joining the network failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The query's time was up.
    #[error("the query timed out")]
    Timeout {
        /// This node.
        peer: PeerId,
        /// How many buckets were still to be looked up; `None` if the own id was.
        num_remaining: Option<u32>,
    },
    /// None of the peers that could be asked answered.
    #[error("none of the known peers answered")]
    NoAnswer {
        /// Who was asked first, and with what outcome.
        outcomes: Vec<SeedOutcome>,
    },
    /// Nobody could be asked.
    #[error("no peer is known: add the address of one")]
    NoKnownPeers,
    /// As many queries were running as are configured.
    #[error("too many queries are running")]
    TooManyQueries,
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled,
    /// Too many calls wait for the swarm to be polled: this one was not carried out. Only a [`Client`](crate::Client) returns it.
    #[error("too many calls are waiting")]
    Busy,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone")]
    Closed,
}

/// What became of asking one of the seeds while joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedOutcome {
    /// The seed.
    pub peer: PeerId,
    /// Whether it answered when it was asked last; `None` if it was not asked yet, or has not answered yet.
    pub result: Option<Result<(), RequestError>>,
}

/// Why a ping failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The peer did not answer.
    #[error("{peer} did not answer: {error}")]
    Failed {
        /// The peer.
        peer: PeerId,
        /// What happened.
        error: RequestError,
    },
    /// As many queries were running as are configured.
    #[error("too many queries are running")]
    TooManyQueries,
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled,
    /// Too many calls wait for the swarm to be polled: this one was not carried out. Only a [`Client`](crate::Client) returns it.
    #[error("too many calls are waiting")]
    Busy,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone")]
    Closed,
}

/// Why connecting to an address failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody was reached at the address.
    #[error("the address could not be reached: {0}")]
    Failed(RequestError),
    /// The address is of this node, one that nobody can dial, or filtered out by the configuration.
    #[error("the address is not one to connect to")]
    Address,
    /// As many queries were running as are configured.
    #[error("too many queries are running")]
    TooManyQueries,
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled,
    /// Too many calls wait for the swarm to be polled: this one was not carried out. Only a [`Client`](crate::Client) returns it.
    #[error("too many calls are waiting")]
    Busy,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone")]
    Closed,
}

/// Why a call of a [`Client`](crate::Client) was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The swarm is gone, and with it the node.
    #[error("the swarm is gone")]
    Closed,
    /// Too many calls wait for the swarm to be polled.
    #[error("too many calls are waiting")]
    Busy,
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
        ] {
            assert!(!error.is_peers_fault(), "{error}");
        }
        assert!(RequestError::Timeout.is_peers_fault());
    }

    #[test]
    fn keys_survive() {
        let error = GetClosestPeersError::Timeout { key: vec![1], peers: vec![] };
        assert_eq!(error.key(), [1]);
        assert_eq!(error.into_key(), [1]);
    }
}
