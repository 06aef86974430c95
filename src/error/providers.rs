//! Why queries for providers end early.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::fates::{after_semicolon, so_far, told};
use super::{Fates, QueryError, RequestError, StoreError};
use crate::record::RecordKey;

/// What became of each peer that is to know that this node provides a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvideReport {
    /// It was sent to them. The protocol has no acknowledgement.
    pub sent: Vec<PeerId>,
    /// They could not be reached, or do not serve the protocol.
    pub failed: Vec<(PeerId, RequestError)>,
    /// It is still on its way to them.
    pub pending: Vec<PeerId>,
    /// The protocol by which they were told.
    pub protocol: Arc<str>,
}

impl ProvideReport {
    /// Returns whether there was nobody to tell.
    pub const fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.failed.is_empty() && self.pending.is_empty()
    }

    /// Tells of how many there is no success, and why, behind a semicolon; nothing if of none.
    fn why_not(&self) -> String {
        let total = self.sent.len() + self.failed.len() + self.pending.len();
        after_semicolon(&told(
            total,
            self.failed.iter().map(|(_, error)| *error),
            self.pending.len(),
            &self.protocol,
        ))
    }
}

impl fmt::Display for ProvideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} told{}", self.sent.len(), self.why_not())
    }
}

/// Why too few peers know that this node provides a key. It goes on trying by itself unless the key was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddProviderError {
    /// It could be sent to fewer than are enough.
    #[error("{} of {enough} peers were told{}", .report.sent.len(), .report.why_not())]
    TooFew {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<ProvideReport>,
        /// How many would have been enough.
        enough: NonZeroUsize,
    },
    /// This node's own store did not take the key. Nobody was told.
    #[error("this node's store did not take the key: {source}")]
    Store {
        /// The key.
        key: RecordKey,
        /// What the store says.
        source: StoreError,
    },
    /// What any query may fail of. Others are told as soon as somebody is known, or there is room.
    #[error("{cause}{}", so_far("peers that were told", .report.sent.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<ProvideReport>,
    },
    /// Fewer than are enough were told, since this node has no address that the others could use: it does not listen, or
    /// only where they cannot dial. They are told as soon as it has one.
    #[error("this node has no address that others could use: {} peers were told", report.sent.len())]
    NoAddress {
        /// The key.
        key: RecordKey,
        /// What became of each peer; of nobody if there is no address at all, for then nobody is asked.
        report: Box<ProvideReport>,
    },
}

impl AddProviderError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::TooFew { key, .. }
            | Self::Store { key, .. }
            | Self::Query { key, .. }
            | Self::NoAddress { key, .. } => key,
        }
    }

    /// Returns the key, without the rest.
    pub fn into_key(self) -> RecordKey {
        self.key().clone()
    }

    pub(crate) fn of_query(cause: impl Into<QueryError>, key: RecordKey) -> Self {
        Self::Query { cause: cause.into(), key, report: Box::default() }
    }
}

/// Why a search for providers ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetProvidersError {
    /// This node knows no provider, and nobody that was asked has answered.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// The key.
        key: RecordKey,
        /// What became of those that were asked.
        fates: Fates,
    },
    /// The protocol cannot ask for the providers of no bytes.
    #[error("the key is empty")]
    EmptyKey {
        /// The key, which is empty.
        key: RecordKey,
    },
    /// What any query may fail of.
    #[error("{cause}{}", so_far("closest peers that had answered", .closest_peers.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// The closest peers that had answered, nearest first.
        closest_peers: Vec<PeerId>,
    },
}

impl GetProvidersError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::NoAnswer { key, .. } | Self::EmptyKey { key } | Self::Query { key, .. } => key,
        }
    }

    /// Returns the key, without the rest.
    pub fn into_key(self) -> RecordKey {
        self.key().clone()
    }

    pub(crate) fn of_query(cause: impl Into<QueryError>, key: RecordKey) -> Self {
        Self::Query { cause: cause.into(), key, closest_peers: Vec::new() }
    }
}
