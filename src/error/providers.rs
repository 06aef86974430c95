//! Why queries for providers end early.

use std::num::NonZeroUsize;

use libp2p_identity::PeerId;

use super::RequestError;
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
}

/// Why too few peers know that this node provides a key. It goes on trying by itself unless the key was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddProviderError {
    /// It could be sent to fewer than are enough.
    #[error("{} of {enough} peers were told", report.sent.len())]
    TooFew {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<ProvideReport>,
        /// How many would have been enough.
        enough: NonZeroUsize,
    },
    /// The query's time was up.
    #[error("the query timed out when {} peers were told", report.sent.len())]
    Timeout {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<ProvideReport>,
    },
    /// This node's own store did not take the key. Nobody was told.
    #[error("this node's store did not take the key: {0}")]
    Store(String),
    /// Nobody could be asked. Others are told as soon as somebody is known.
    #[error("no peer is known: add the address of one")]
    NoKnownPeers,
    /// As many queries were running as are configured. Others are told when there is room.
    #[error("too many queries are running")]
    TooManyQueries,
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled {
        /// What became of each peer.
        report: Box<ProvideReport>,
    },
    /// Too many calls wait for the swarm to be polled: this one was not carried out. Only a [`Client`](crate::Client) returns it.
    #[error("too many calls are waiting")]
    Busy,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone")]
    Closed,
}

/// Why a search for providers ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetProvidersError {
    /// The query's time was up.
    #[error("the query timed out")]
    Timeout {
        /// The key.
        key: RecordKey,
        /// The closest peers that had answered, nearest first.
        closest_peers: Vec<PeerId>,
    },
    /// The protocol cannot ask for the providers of no bytes.
    #[error("the key is empty")]
    EmptyKey,
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
