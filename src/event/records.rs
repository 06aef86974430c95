//! Results of queries for records.

use libp2p_identity::PeerId;

use super::shortage::Shortage;
use crate::error::{GetRecordError, PutRecordError, PutReport};
use crate::peer::PeerInfo;
use crate::record::{PeerRecord, Record, RecordKey};

/// The outcome of a step of searching a record.
pub type GetRecordResult = Result<GetRecordOk, GetRecordError>;

/// A step of searching a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetRecordOk {
    /// Somebody has a valid record.
    FoundRecord(PeerRecord),
    /// The search is over: this is the best record there was.
    ///
    /// Differs from `libp2p-kad`: peers that had a worse record or none are seen to by this node itself.
    FinishedWithNoAdditionalRecord {
        /// The best of all that were found.
        best: Record,
        /// How many had just that value, this node included.
        agreed: usize,
        /// Why they are fewer than the quorum that was asked for, if they are: where there are fewer peers, all of them are
        /// enough.
        shortage: Option<Shortage>,
    },
}

/// The outcome of storing a record.
pub type PutRecordResult = Result<PutRecordOk, PutRecordError>;

/// A record has been stored, by as many peers as had to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutRecordOk {
    /// Its key.
    pub key: RecordKey,
    /// What became of each peer.
    pub report: PutReport,
}

/// The outcome of asking one peer.
pub type AskPeerResult = Result<AskPeerOk, crate::error::AskPeerError>;

/// What one peer has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskPeerOk {
    /// The peer.
    pub peer: PeerId,
    /// The peers it named, as it named them.
    pub closer: Vec<PeerInfo>,
    /// The record, if one was asked for, the peer had one, and it is valid.
    pub record: Option<Record>,
}
