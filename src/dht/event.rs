//! Events: what the node tells the application.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::op::QueryResult;
use crate::addrs::Addresses;
use crate::event::{InboundRequest, Mode, Notice, ProgressStep, QueryId, QueryStats};
use crate::key::Distance;
use crate::record::Record;

/// Something the application may want to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A request of another peer has been served.
    InboundRequest {
        /// What was asked, and by whom.
        request: InboundRequest,
    },
    /// A query of this node has made progress or has ended.
    OutboundQueryProgressed {
        /// The query.
        id: QueryId,
        /// What was reached since the last event of the query.
        result: QueryResult,
        /// What the query has cost so far.
        stats: QueryStats,
        /// Which event of the query this is, and whether it is the last.
        step: ProgressStep,
    },
    /// A peer has entered the routing table, or its addresses have changed.
    RoutingUpdated {
        /// The peer.
        peer: PeerId,
        /// Whether the peer has just entered.
        is_new_peer: bool,
        /// All its addresses.
        addresses: Addresses,
        /// The least and the greatest distance of its bucket, both included.
        bucket_range: (Distance, Distance),
        /// The peer that made room, if one did.
        old_peer: Option<PeerId>,
    },
    /// A peer that speaks the protocol is connected, but no address is known at which it can be dialled.
    UnroutablePeer {
        /// The peer.
        peer: PeerId,
    },
    /// A peer would enter the routing table, but [`BucketInserts::Manual`](crate::BucketInserts::Manual) is configured.
    RoutablePeer {
        /// The peer.
        peer: PeerId,
        /// Its preferred address.
        address: Multiaddr,
    },
    /// A peer waits for a place in its full bucket.
    PendingRoutablePeer {
        /// The peer.
        peer: PeerId,
        /// Its preferred address.
        address: Multiaddr,
    },
    /// There have been connections for half a minute, but nothing in the swarm says who is there, and nobody is in the routing
    /// table: identify, or whatever else reports peers' addresses and protocols, is not part of the swarm. Told once.
    IdentifyMissing {
        /// How many peers are connected.
        connected: usize,
    },
    /// The node has changed between client and server by itself.
    ModeChanged {
        /// What it is now.
        new_mode: Mode,
    },
    /// Another peer has sent another value to be stored under the key of a record of this node's own.
    ///
    /// Told each time, while both put theirs; what to do about it is the application's affair: use another key, a validator
    /// that tells which is better, or [`OwnRecords`](crate::OwnRecords).
    RecordConflict {
        /// The peer that has sent it.
        source: PeerId,
        /// The other's record.
        record: Record,
        /// Whether this node's own still stands. If not, the other has taken its place, and this node puts its own no more.
        kept: bool,
    },
    /// Peers are closer to the key of a query than chance puts them: an attacker has surrounded it with peers of its own, perhaps
    /// so that what belongs to it is not found.
    ///
    /// Told once for a query. It takes disjoint paths from then on, and up to 160 peers around the key are told or asked; see
    /// [`Protection`](crate::Protection). Chance looks like that in three of a thousand queries at most.
    Surrounded {
        /// The query, which may be one that the node makes unasked.
        id: QueryId,
        /// The bytes whose hash is surrounded.
        key: Vec<u8>,
    },
}

impl Event {
    /// Returns what a part tells, with the result of the query if it is of one; `None` if there is none.
    pub(super) fn new(
        notice: Notice,
        result: impl FnOnce(QueryId, ProgressStep) -> Option<QueryResult>,
    ) -> Option<Self> {
        Some(match notice {
            Notice::OutboundQueryProgressed { id, stats, step } => {
                Self::OutboundQueryProgressed { id, result: result(id, step)?, stats, step }
            }
            Notice::InboundRequest { request } => Self::InboundRequest { request },
            Notice::RoutingUpdated { peer, is_new_peer, addresses, bucket_range, old_peer } => {
                Self::RoutingUpdated { peer, is_new_peer, addresses, bucket_range, old_peer }
            }
            Notice::UnroutablePeer { peer } => Self::UnroutablePeer { peer },
            Notice::RoutablePeer { peer, address } => Self::RoutablePeer { peer, address },
            Notice::PendingRoutablePeer { peer, address } => Self::PendingRoutablePeer { peer, address },
            Notice::IdentifyMissing { connected } => Self::IdentifyMissing { connected },
            Notice::ModeChanged { new_mode } => Self::ModeChanged { new_mode },
            Notice::RecordConflict { source, record, kept } => Self::RecordConflict { source, record, kept },
            Notice::Surrounded { id, key } => Self::Surrounded { id, key: key.to_vec() },
        })
    }
}
