//! Why queries for peers end early, and why one peer does not answer.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::fates::{reason, so_far};
use super::{Fates, QueryError, RequestError, SeedOutcome};
use crate::peer::PeerInfo;

/// Why a search for the closest peers ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetClosestPeersError {
    /// Nobody that was asked has answered.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// The bytes whose hash was looked for.
        key: Vec<u8>,
        /// What became of those that were asked.
        fates: Fates,
    },
    /// The protocol cannot ask for the hash of no bytes.
    #[error("the key is empty")]
    EmptyKey,
    /// What any query may fail of.
    #[error("{cause}{}", so_far("closest peers that had answered", .peers.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The bytes whose hash was looked for.
        key: Vec<u8>,
        /// The closest peers that had answered, nearest first.
        peers: Vec<PeerInfo>,
    },
}

impl GetClosestPeersError {
    /// Returns the bytes whose hash was looked for.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::NoAnswer { key, .. } | Self::Query { key, .. } => key,
            Self::EmptyKey => &[],
        }
    }

    /// Returns the bytes whose hash was looked for, without the rest.
    pub fn into_key(self) -> Vec<u8> {
        match self {
            Self::NoAnswer { key, .. } | Self::Query { key, .. } => key,
            Self::EmptyKey => Vec::new(),
        }
    }
}

/// Why a peer was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindPeerError {
    /// The search ended and nobody knew an address of the peer.
    #[error("none of those that answered knows an address of the peer (the closest of them: {})", .closest.len())]
    NotFound {
        /// The closest peers that answered, nearest first.
        closest: Vec<PeerInfo>,
    },
    /// Nobody that was asked has answered.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// What became of those that were asked.
        fates: Fates,
    },
    /// What any query may fail of.
    #[error("{cause}{}", so_far("closest peers that had answered", .closest.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The peer.
        peer: PeerId,
        /// The closest peers that had answered, nearest first.
        closest: Vec<PeerInfo>,
    },
}

/// Why joining the network failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// None of the peers that could be asked answered.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// What became of those that were asked.
        fates: Fates,
        /// The seeds, and with what outcome each was asked last.
        outcomes: Vec<SeedOutcome>,
    },
    /// What any query may fail of.
    #[error("{cause}{}", left(.num_remaining.as_ref()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// This node.
        peer: PeerId,
        /// How many buckets were still to be looked up; `None` if the own id was.
        num_remaining: Option<u32>,
    },
}

fn left(buckets: Option<&u32>) -> String {
    buckets.map_or_else(String::new, |left| format!(" (buckets still to be looked up: {left})"))
}

/// Why a ping failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The peer did not answer.
    #[error("{peer} did not answer: {}", reason(.source, .protocol))]
    Failed {
        /// The peer.
        peer: PeerId,
        /// What happened.
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
        /// The peer.
        peer: PeerId,
    },
}

/// Why a peer did not answer what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskPeerError {
    /// The peer did not answer.
    #[error("{peer} did not answer: {}", reason(.source, .protocol))]
    Failed {
        /// The peer.
        peer: PeerId,
        /// What happened.
        source: RequestError,
        /// The protocol by which it was asked.
        protocol: Arc<str>,
    },
    /// The protocol cannot ask for the hash of no bytes.
    #[error("the key is empty")]
    EmptyKey,
    /// What any query may fail of.
    #[error("{cause}")]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The peer.
        peer: PeerId,
    },
}
