//! Why queries for records end early.

use std::num::NonZeroUsize;

use libp2p_identity::PeerId;

use super::RequestError;
use crate::peer::PeerInfo;
use crate::record::{PeerRecord, RecordKey};
use crate::validate::InvalidRecord;

/// Why a record was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetRecordError {
    /// None of the closest peers has a valid record.
    #[error("none of the closest peers has the record")]
    NotFound {
        /// The key.
        key: RecordKey,
        /// The closest peers that answered, nearest first.
        closest_peers: Vec<PeerInfo>,
    },
    /// Too few agree on the best record.
    #[error("only {agreed} of {quorum} agree on the record")]
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
    /// The query's time was up.
    #[error("the query timed out")]
    Timeout {
        /// The key.
        key: RecordKey,
        /// All that were found, the best first.
        records: Vec<PeerRecord>,
    },
    /// The key is empty, or no validator is configured for its namespace.
    #[error("no record can have this key: {0}")]
    Invalid(InvalidRecord),
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
}

/// Why a record was not stored by as many peers as had to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutRecordError {
    /// Fewer than the quorum have stored it.
    #[error("{} of {quorum} peers have stored the record", report.stored.len())]
    QuorumFailed {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<PutReport>,
        /// How many had to store it.
        quorum: NonZeroUsize,
    },
    /// The query's time was up.
    #[error("the query timed out when {} peers had stored the record", report.stored.len())]
    Timeout {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<PutReport>,
    },
    /// The record is not valid.
    #[error("the record is not valid: {0}")]
    Invalid(InvalidRecord),
    /// This node's own store did not take it, and it was sent to nobody; or it could not make it safe, and others may have it.
    #[error("this node's store did not take the record: {0}")]
    Store(String),
    /// Nobody could be asked. This node has stored the record, and puts it when it has found others.
    #[error("no peer is known: add the address of one")]
    NoKnownPeers,
    /// As many queries were running as are configured.
    #[error("too many queries are running")]
    TooManyQueries,
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled {
        /// What became of each peer.
        report: Box<PutReport>,
    },
    /// Too many calls wait for the swarm to be polled: this one was not carried out. Only a [`Client`](crate::Client) returns it.
    #[error("too many calls are waiting")]
    Busy,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone")]
    Closed,
}

/// Why a peer did not answer what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskPeerError {
    /// The peer did not answer.
    #[error("{peer} did not answer: {error}")]
    Failed {
        /// The peer.
        peer: PeerId,
        /// What happened.
        error: RequestError,
    },
    /// The protocol cannot ask for the hash of no bytes.
    #[error("the key is empty")]
    EmptyKey,
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
