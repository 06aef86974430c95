//! Commands that begin a query, as plain data: what a handle sends to the node.
//!
//! Knows ids and addresses; who carries a command out, and who waits for it, is not its affair.

use std::num::NonZeroUsize;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::event::Precision;
use crate::record::{Quorum, Record, RecordKey};

/// Begins a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Joins the network.
    Bootstrap,
    /// Searches the peers closest to the hash of some bytes.
    FindClosest {
        /// The bytes.
        key: Vec<u8>,
        /// How many peers, at most `k`; `k` if none is given.
        count: Option<NonZeroUsize>,
        /// When enough has been found.
        precision: Precision,
    },
    /// Searches one peer.
    FindPeer(PeerId),
    /// Waits for a sign of life of one peer.
    Ping(PeerId),
    /// Connects to an address, whoever is there.
    Connect(Multiaddr),
    /// Searches the record of a key.
    GetRecord {
        /// The key.
        key: RecordKey,
        /// How many peers must agree; without one the search goes on until all of the closest have answered.
        quorum: Option<Quorum>,
    },
    /// Stores a record here and at the peers closest to its key.
    PutRecord {
        /// The record.
        record: Record,
        /// At how many peers, at most `k`; as many as are configured if none is given.
        copies: Option<NonZeroUsize>,
        /// How many must have stored it.
        quorum: Quorum,
    },
    /// Stores a record at some peers.
    PutRecordTo {
        /// The record.
        record: Record,
        /// The peers.
        peers: Vec<PeerId>,
        /// How many must have stored it.
        quorum: Quorum,
    },
    /// Tells the peers closest to a key that this node provides it, now and from time to time.
    StartProviding {
        /// The key.
        key: RecordKey,
    },
    /// Tells the peers closest to a key that this node provides it, now and from time to time until it is retired or the
    /// program ends.
    Advertise {
        /// The key.
        key: RecordKey,
    },
    /// Searches the providers of a key.
    GetProviders {
        /// The key.
        key: RecordKey,
    },
    /// Searches the providers of a key again and again, until it is cancelled.
    WatchProviders {
        /// The key.
        key: RecordKey,
    },
    /// Asks one peer for the peers closest to the hash of some bytes.
    FindNodeAt {
        /// Whom to ask.
        peer: PeerId,
        /// The bytes.
        key: Vec<u8>,
    },
    /// Asks one peer for a record.
    GetRecordAt {
        /// Whom to ask.
        peer: PeerId,
        /// The key of the record.
        key: RecordKey,
    },
}
