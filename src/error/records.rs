//! Why queries for records end early.

use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::fates::{after_semicolon, so_far, told};
use super::{Fates, QueryError, RequestError};
use crate::peer::PeerInfo;
use crate::record::{PeerRecord, RecordKey};
use crate::validate::InvalidRecord;

/// Why this node's own store did not do what it was asked: a [`store::Error`](crate::store::Error), as a rule.
///
/// Two are equal if their texts are.
#[derive(Clone, Debug)]
pub struct StoreError(Arc<dyn Error + Send + Sync>);

impl StoreError {
    /// Makes an error of what the store says.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into().into())
    }

    /// Returns what the store says.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

impl PartialEq for StoreError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for StoreError {}

/// Why a record was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetRecordError {
    /// None of the closest peers has a valid record. At least one of them has answered.
    #[error("none of the closest peers has the record ({} answered)", .closest_peers.len())]
    NotFound {
        /// The key.
        key: RecordKey,
        /// The closest peers that answered, nearest first.
        closest_peers: Vec<PeerInfo>,
    },
    /// Nobody that was asked has answered: whether there is a record nobody could say.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// The key.
        key: RecordKey,
        /// What became of those that were asked.
        fates: Fates,
    },
    /// Too few agree on the best record.
    #[error("{agreed} of the {quorum} peers that had to agree on the record do")]
    QuorumFailed {
        /// The key.
        key: RecordKey,
        /// All that were found, the best first.
        records: Vec<PeerRecord>,
        /// How many agree on the best.
        agreed: usize,
        /// How many had to.
        quorum: NonZeroUsize,
    },
    /// The key is empty, or no validator is configured for its namespace. Nobody was asked.
    #[error("no record can have this key: {source}")]
    Invalid {
        /// The key.
        key: RecordKey,
        /// Why not.
        source: InvalidRecord,
    },
    /// What any query may fail of.
    #[error("{cause}{}", so_far("records that were found", .records.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// All that were found, the best first.
        records: Vec<PeerRecord>,
    },
}

impl GetRecordError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::NotFound { key, .. }
            | Self::NoAnswer { key, .. }
            | Self::QuorumFailed { key, .. }
            | Self::Invalid { key, .. }
            | Self::Query { key, .. } => key,
        }
    }

    /// Returns the key, without the rest.
    pub fn into_key(self) -> RecordKey {
        self.key().clone()
    }

    pub(crate) fn of_query(cause: impl Into<QueryError>, key: RecordKey) -> Self {
        Self::Query { cause: cause.into(), key, records: Vec::new() }
    }
}

/// What became of each peer to which a record was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutReport {
    /// They have stored it.
    pub stored: Vec<PeerId>,
    /// They ended the stream instead of answering, or have another value: the protocol carries no reason.
    pub refused: Vec<PeerId>,
    /// They could not be reached, or did not answer.
    pub failed: Vec<(PeerId, RequestError)>,
    /// They are slow: nobody waited for them, but the record is still on its way to them.
    pub pending: Vec<PeerId>,
    /// The protocol by which it was sent.
    pub protocol: Arc<str>,
}

impl PutReport {
    /// Returns whether there was nobody to send it to.
    pub const fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.refused.is_empty() && self.failed.is_empty() && self.pending.is_empty()
    }

    /// Tells of how many there is no success, and why, behind a semicolon; nothing if of none.
    fn why_not(&self) -> String {
        let total = self.stored.len() + self.refused.len() + self.failed.len() + self.pending.len();
        let refused = self.refused.iter().map(|_| RequestError::Refused);
        let errors = self.failed.iter().map(|(_, error)| *error).chain(refused);
        after_semicolon(&told(total, errors, self.pending.len(), &self.protocol))
    }
}

impl fmt::Display for PutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stored{}", self.stored.len(), self.why_not())
    }
}

/// Why a record was not stored by as many peers as had to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutRecordError {
    /// Fewer than the quorum have stored it.
    #[error("{} of {quorum} peers have stored the record{}", .report.stored.len(), .report.why_not())]
    QuorumFailed {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<PutReport>,
        /// How many had to store it.
        quorum: NonZeroUsize,
    },
    /// The record is not valid, or no validator is configured for its namespace. It was sent to nobody.
    #[error("the record is not valid: {source}")]
    Invalid {
        /// The key.
        key: RecordKey,
        /// Why not.
        source: InvalidRecord,
    },
    /// This node's own store did not take it, and it was sent to nobody; or it could not make it safe, and others may have it.
    #[error("this node's store did not take the record: {source}")]
    Store {
        /// The key.
        key: RecordKey,
        /// What the store says.
        source: StoreError,
    },
    /// What any query may fail of. If [`NoKnownPeers`](QueryError::NoKnownPeers) or
    /// [`TooManyQueries`](QueryError::TooManyQueries), this node has stored the record, and puts it when it can.
    #[error("{cause}{}", so_far("peers that had stored the record", .report.stored.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<PutReport>,
    },
}

impl PutRecordError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::QuorumFailed { key, .. }
            | Self::Invalid { key, .. }
            | Self::Store { key, .. }
            | Self::Query { key, .. } => key,
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
