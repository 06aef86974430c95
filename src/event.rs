//! What the node tells the application: events, and the statistics of queries. What queries have reached stands with each kind
//! of them, in `dht::op`.
//!
//! Knows plain data only. Names and shapes are those of `libp2p-kad`, so that an application moves over by its import.

use std::fmt;
use std::num::NonZeroUsize;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

mod shortage;

pub use shortage::Shortage;

use crate::addrs::Addresses;
use crate::key::Distance;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::{Duration, Instant};

/// What a part of the node has to tell the application: an [`Event`](crate::Event), but for the result of a query, which the
/// queries keep, since they alone know of what kind it is.
#[derive(Debug)]
pub(crate) enum Notice {
    InboundRequest {
        request: InboundRequest,
    },
    /// The next of the results that are kept belongs to this.
    OutboundQueryProgressed {
        id: QueryId,
        stats: QueryStats,
        step: ProgressStep,
    },
    RoutingUpdated {
        peer: PeerId,
        is_new_peer: bool,
        addresses: Addresses,
        bucket_range: (Distance, Distance),
        old_peer: Option<PeerId>,
    },
    UnroutablePeer {
        peer: PeerId,
    },
    RoutablePeer {
        peer: PeerId,
        address: Multiaddr,
    },
    PendingRoutablePeer {
        peer: PeerId,
        address: Multiaddr,
    },
    IdentifyMissing {
        connected: usize,
    },
    ModeChanged {
        new_mode: Mode,
    },
    RecordConflict {
        source: PeerId,
        record: Record,
        kept: bool,
    },
    Surrounded {
        id: QueryId,
        key: Bytes,
    },
}

/// A request of another peer that has been served.
///
/// Differs from `libp2p-kad`: each names its source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboundRequest {
    /// A sign of life was asked for.
    Ping {
        /// The requester.
        source: PeerId,
    },
    /// The peers closest to a key were asked for.
    FindNode {
        /// The requester.
        source: PeerId,
        /// How many peers were named.
        num_closer_peers: usize,
    },
    /// Providers were asked for.
    GetProvider {
        /// The requester.
        source: PeerId,
        /// How many closer peers were named.
        num_closer_peers: usize,
        /// How many providers were named.
        num_provider_peers: usize,
    },
    /// A record was asked for.
    GetRecord {
        /// The requester.
        source: PeerId,
        /// How many closer peers were named.
        num_closer_peers: usize,
        /// Whether the record was there.
        present_locally: bool,
    },
    /// A record was to be stored.
    PutRecord {
        /// The requester.
        source: PeerId,
        /// The key of the record.
        key: RecordKey,
        /// The record, where the application decides: it waits for [`accept`](crate::Behaviour::accept_record),
        /// [`accept as`](crate::Behaviour::accept_record_as) or [`refuse`](crate::Behaviour::refuse_record) by its number, and
        /// no event tells what comes of that. `None` if it has been stored.
        record: Option<(HeldId, Record)>,
    },
    /// A peer has announced that it provides something.
    AddProvider {
        /// The peer.
        source: PeerId,
        /// What it provides.
        key: RecordKey,
        /// The statement, where the application decides: it waits for
        /// [`accept`](crate::Behaviour::accept_record) or [`refuse`](crate::Behaviour::refuse_record) by its number, and no
        /// event tells what comes of that. `None` if it has been stored.
        record: Option<(HeldId, ProviderRecord)>,
    },
}

/// The number of something that others want stored and that waits for the word of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldId(pub(crate) u64);

/// The number of a query, unique within one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(crate) u64);

impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The precision of a search for the closest peers: when it has found enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// As many as are wanted have answered, and are the result.
    #[default]
    Exact,
    /// The β closest have answered and nobody closer is known. The result holds peers that were named but not asked:
    /// enough where the next step is itself the check, for half of the requests.
    Near,
}

/// Which event of a query this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressStep {
    /// The number of the event, from 1.
    pub count: NonZeroUsize,
    /// Whether it is the last. An announcement goes on after it until all have been told.
    pub last: bool,
}

impl ProgressStep {
    pub(crate) const fn first() -> Self {
        Self { count: NonZeroUsize::MIN, last: false }
    }

    /// Returns this step, marked as the last or not, and moves on to the next.
    pub(crate) const fn advance(&mut self, last: bool) -> Self {
        let this = Self { count: self.count, last };
        self.count = self.count.saturating_add(1);
        this
    }
}

/// The statistics of a query: what it has cost, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    pub(crate) requests: u32,
    pub(crate) success: u32,
    pub(crate) failure: u32,
    pub(crate) soft_timeouts: u32,
    pub(crate) dials: u32,
    pub(crate) hops: u32,
    pub(crate) start: Option<Instant>,
    pub(crate) end: Option<Instant>,
}

impl QueryStats {
    /// Returns the statistics of a query that has not begun.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the number of requests made.
    pub const fn num_requests(&self) -> u32 {
        self.requests
    }

    /// Returns the number of requests that were answered.
    pub const fn num_successes(&self) -> u32 {
        self.success
    }

    /// Returns the number of requests that failed.
    pub const fn num_failures(&self) -> u32 {
        self.failure
    }

    /// Returns the number of requests that are neither answered nor failed. A query may end before they are.
    pub const fn num_pending(&self) -> u32 {
        self.requests.saturating_sub(self.success).saturating_sub(self.failure)
    }

    /// Returns how often a peer was slower than was to be expected, so that the next one was asked.
    pub const fn num_soft_timeouts(&self) -> u32 {
        self.soft_timeouts
    }

    /// Returns the number of requests for which a connection had to be made first.
    pub const fn num_dials(&self) -> u32 {
        self.dials
    }

    /// Returns how many peers had to be asked one after another until the nearest peer that answered was known.
    ///
    /// 1 if it was known from the start.
    pub const fn hops(&self) -> u32 {
        self.hops
    }

    /// Returns how long the query took; of an unfinished one, how long until its latest event.
    pub fn duration(&self) -> Option<Duration> {
        Some(self.end?.saturating_duration_since(self.start?))
    }

    /// Adds up the costs of both; the time is from the earlier start to the later end, the hops are the greater.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            success: self.success + other.success,
            failure: self.failure + other.failure,
            soft_timeouts: self.soft_timeouts + other.soft_timeouts,
            dials: self.dials + other.dials,
            hops: self.hops.max(other.hops),
            start: [self.start, other.start].into_iter().flatten().min(),
            end: self.end.max(other.end),
        }
    }
}

/// The mode of a node: whether it serves others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Asks, but does not answer, and is in nobody's routing table.
    Client,
    /// Answers requests of others.
    Server,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// A routing update: what became of adding an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingUpdate {
    /// The peer is in the routing table; the address was added to its others.
    Success,
    /// The peer was kept as a seed. It enters the routing table, and
    /// [`Event::RoutingUpdated`](crate::Event::RoutingUpdated) tells so, once it has answered.
    Pending,
    /// The address cannot be used: it is of this node or of another peer, one that nobody can dial, filtered out, or
    /// there are too many seeds. [`try_add_address`](crate::Behaviour::try_add_address) says which, by its
    /// [`AddressError`](crate::AddressError).
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_add_up() {
        let start = crate::time::start();
        let second = Duration::from_secs(1);
        let a = QueryStats { requests: 3, success: 1, start: Some(start + second), ..QueryStats::empty() };
        let b = QueryStats {
            requests: 2,
            failure: 1,
            hops: 2,
            start: Some(start),
            end: Some(start + second * 3),
            ..QueryStats::empty()
        };
        let sum = a.merge(b);
        assert_eq!((sum.num_requests(), sum.num_successes(), sum.num_failures()), (5, 1, 1));
        assert_eq!((sum.num_pending(), sum.hops()), (3, 2));
        assert_eq!(sum.duration(), Some(second * 3));
        assert_eq!(QueryStats::empty().duration(), None);
    }

    #[test]
    fn steps_count_from_one() {
        let mut step = ProgressStep::first();
        let first = step.advance(false);
        let last = step.advance(true);
        assert_eq!((first.count.get(), first.last), (1, false));
        assert_eq!((last.count.get(), last.last), (2, true));
    }
}
