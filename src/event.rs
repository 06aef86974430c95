//! What the node tells the application: events, results of queries, their statistics.
//!
//! Knows plain data only. Names and shapes are those of `libp2p-kad`, so that an application moves over by its import.

use std::fmt;
use std::num::NonZeroUsize;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

mod providers;
mod records;
mod shortage;

pub use providers::{AddProviderOk, AddProviderResult, GetProvidersOk, GetProvidersResult};
pub use records::{AskPeerOk, AskPeerResult, GetRecordOk, GetRecordResult, PutRecordOk, PutRecordResult};
pub use shortage::Shortage;

use crate::addrs::Addresses;
use crate::error::{
    BootstrapError, ConnectError, FindPeerError, GetClosestPeersError, PingError, ProvideReport, SeedOutcome,
};
use crate::key::Distance;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Quorum, Record, RecordKey};
use crate::time::{Duration, Instant};

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
    /// Somebody else has stored another value under the key of a record of this node's own.
    ///
    /// Told each time, while both put theirs; what to do about it is the application's affair: use another key, a validator
    /// that tells which is better, or [`OwnRecords`](crate::OwnRecords).
    RecordConflict {
        /// Who has sent it.
        source: PeerId,
        /// The other's record.
        record: Record,
        /// Whether this node's own still stands. If not, the other has taken its place, and this node puts its own no more.
        kept: bool,
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
        /// Who asked.
        source: PeerId,
    },
    /// The peers closest to a key were asked for.
    FindNode {
        /// Who asked.
        source: PeerId,
        /// How many peers were named.
        num_closer_peers: usize,
    },
    /// Providers were asked for.
    GetProvider {
        /// Who asked.
        source: PeerId,
        /// How many closer peers were named.
        num_closer_peers: usize,
        /// How many providers were named.
        num_provider_peers: usize,
    },
    /// A record was asked for.
    GetRecord {
        /// Who asked.
        source: PeerId,
        /// How many closer peers were named.
        num_closer_peers: usize,
        /// Whether the record was there.
        present_locally: bool,
    },
    /// A record was to be stored.
    PutRecord {
        /// Who asked.
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

/// What a query has reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum QueryResult {
    /// Of joining the network.
    Bootstrap(BootstrapResult),
    /// Of a search for the closest peers.
    GetClosestPeers(GetClosestPeersResult),
    /// Of a search for one peer.
    FindPeer(FindPeerResult),
    /// Of a ping.
    Ping(PingResult),
    /// Of connecting to an address.
    Connect(ConnectResult),
    /// Of searching a record.
    GetRecord(GetRecordResult),
    /// Of storing a record.
    PutRecord(PutRecordResult),
    /// Of asking one peer.
    AskPeer(AskPeerResult),
    /// Of telling others that this node provides something.
    StartProviding(AddProviderResult),
    /// Of searching providers.
    GetProviders(GetProvidersResult),
}

/// The outcome of one step of joining.
pub type BootstrapResult = Result<BootstrapOk, BootstrapError>;

/// One step of joining has been done: a lookup of the own id, or of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapOk {
    /// This node.
    pub peer: PeerId,
    /// How many buckets are still to be looked up.
    pub num_remaining: u32,
    /// What became of asking each seed; filled in the first step only.
    pub outcomes: Vec<SeedOutcome>,
}

/// The outcome of a search for the closest peers.
pub type GetClosestPeersResult = Result<GetClosestPeersOk, GetClosestPeersError>;

/// The closest peers to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetClosestPeersOk {
    /// The bytes whose hash was looked for.
    pub key: Vec<u8>,
    /// The closest peers that answered, nearest first.
    pub peers: Vec<PeerInfo>,
    /// How the search got there: each peer has named the next; the last is the closest that answered.
    pub path: Vec<PeerId>,
    /// Why there are fewer than were asked for, if there are.
    pub shortage: Option<Shortage>,
}

/// The outcome of a search for one peer.
pub type FindPeerResult = Result<FindPeerOk, FindPeerError>;

/// A peer that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindPeerOk {
    /// The peer with its addresses.
    pub peer: PeerInfo,
    /// How sure it is that the addresses are the peer's.
    pub evidence: Evidence,
}

/// What speaks for the addresses of a peer that was found; ordered from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// Nobody says so now. Within the last 24 hours this node met the peer there, was told so by another part of the program,
    /// or found it there; addresses may lead through a relay that the peer has left.
    Remembered,
    /// One peer said so.
    OneReport,
    /// Several peers named the same address.
    SeveralReports,
    /// The peer itself answered at one of them, or is connected.
    Answered,
}

/// The outcome of a ping.
pub type PingResult = Result<PingOk, PingError>;

/// A peer has answered a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingOk {
    /// The peer.
    pub peer: PeerId,
    /// The time from sending the request to reading the answer, dialling not counted.
    pub rtt: Duration,
}

/// The outcome of connecting to an address.
pub type ConnectResult = Result<ConnectOk, ConnectError>;

/// A peer was met at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOk {
    /// Who was met there. It is a seed now.
    pub peer: PeerId,
    /// The address.
    pub address: Multiaddr,
}

/// When a search for the closest peers has found enough.
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

/// What a query has cost, and how long it took.
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

/// What a running query is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryInfo {
    /// Joins the network.
    Bootstrap {
        /// This node.
        peer: PeerId,
        /// How many buckets are still to be looked up; `None` while the own id is.
        remaining: Option<u32>,
        /// Its next event.
        step: ProgressStep,
    },
    /// Searches the closest peers.
    GetClosestPeers {
        /// The bytes whose hash is looked for.
        key: Vec<u8>,
        /// How many peers are wanted.
        num_results: NonZeroUsize,
        /// Its next event.
        step: ProgressStep,
    },
    /// Searches one peer.
    FindPeer {
        /// The peer.
        peer: PeerId,
    },
    /// Waits for a sign of life.
    Ping {
        /// The peer.
        peer: PeerId,
    },
    /// Connects to an address.
    Connect {
        /// The address.
        address: Multiaddr,
    },
    /// Searches a record.
    GetRecord {
        /// Its key.
        key: RecordKey,
        /// How many must agree.
        quorum: Option<Quorum>,
        /// Of how many peers it was received so far.
        found: usize,
        /// Its next event.
        step: ProgressStep,
    },
    /// Stores a record.
    PutRecord {
        /// Its key.
        key: RecordKey,
        /// How many must have stored it.
        quorum: Quorum,
        /// How many have so far.
        stored: usize,
    },
    /// Asks one peer.
    AskPeer {
        /// The peer.
        peer: PeerId,
    },
    /// Tells others that this node provides a key.
    AddProvider {
        /// The key.
        key: RecordKey,
        /// How many have been told so far.
        sent: usize,
        /// What became of each peer so far: the query runs until that of all is known.
        report: ProvideReport,
    },
    /// Searches providers.
    GetProviders {
        /// The key.
        key: RecordKey,
        /// How many have been found so far.
        providers_found: usize,
        /// Whether the search is made again and again until it is cancelled.
        is_watch: bool,
        /// Its next event.
        step: ProgressStep,
    },
}

/// Whether the node serves others.
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

/// What became of adding an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingUpdate {
    /// The peer is in the routing table; the address was added to its others.
    Success,
    /// The peer was kept as a seed. It enters the routing table, and
    /// [`Event::RoutingUpdated`] tells so, once it has answered.
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
