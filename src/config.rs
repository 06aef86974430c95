//! The configuration: every number and rule a user may change, with one set of defaults.
//!
//! Knows keys and addresses only. A value that would be invalid either has no representation or is refused here.

pub(crate) mod least;
mod providers;
mod records;
mod storing;
mod timeouts;

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};
use std::ops::RangeInclusive;
use std::sync::Arc;

use libp2p_core::Multiaddr;

pub(crate) use providers::Providers;
pub(crate) use records::Records;
pub use records::{Caching, OwnRecords, StoreInserts};
pub use timeouts::{Percentile, TimeoutPolicy};

use crate::error::ConfigError;
use crate::key::{Key, KeyHash};
use crate::time::{Duration, FAR};

/// The `k` of the specification: 20 peers in a bucket, in an answer and in a result.
pub const K_VALUE: NonZeroUsize = NonZeroUsize::new(20).unwrap();

/// The name of the protocol in the public IPFS network.
pub const PROTOCOL_NAME: &str = "/ipfs/kad/1.0.0";

/// How a peer that has proved itself enters the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BucketInserts {
    /// At once, if its bucket has room.
    #[default]
    OnConnected,
    /// Only after [`add_address`](crate::Behaviour::add_address); others are reported as
    /// [`RoutablePeer`](crate::Event::RoutablePeer).
    Manual,
}

/// How many requests of one lookup are in flight: sent, unanswered and not past their soft timeout.
///
/// The closing or stall burst, when all that is left of the `k` closest is asked at once, comes on top: at most `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parallelism {
    /// Always so many: the α of the paper.
    Fixed(NonZeroU8),
    /// Starts with `start` and widens by one on each soft timeout, up to `max`.
    Adaptive {
        /// In flight at first.
        start: NonZeroU8,
        /// In flight at most, but not less than `start`.
        max: NonZeroU8,
    },
}

impl Parallelism {
    pub(crate) const fn start(self) -> usize {
        match self {
            Self::Fixed(n) | Self::Adaptive { start: n, .. } => n.get() as usize,
        }
    }

    pub(crate) const fn max(self) -> usize {
        match self {
            Self::Fixed(n) => n.get() as usize,
            Self::Adaptive { start, max } => {
                if start.get() > max.get() {
                    start.get() as usize
                } else {
                    max.get() as usize
                }
            }
        }
    }
}

/// When the node joins the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Joining {
    /// By itself when the first seed or peer appears, and again with back-off while it is alone or knows few peers.
    #[default]
    Automatic,
    /// Only by [`bootstrap`](crate::Behaviour::bootstrap).
    OnRequest,
}

/// Which connections are kept open when nobody uses them. Others are closed by the swarm's idle timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeepAlive {
    /// Those to the `k` peers of the routing table that are closest to this node.
    #[default]
    Closest,
    /// Those to all peers of the routing table.
    Table,
    /// None.
    Nobody,
}

/// How many peers of one IP group the routing table takes, against one hand filling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpDiversity {
    /// Peers of one group in one bucket.
    pub per_bucket: NonZeroU8,
    /// Peers of one group in the whole table.
    pub per_table: NonZeroU16,
    /// Networks whose addresses belong to no group, each as an address and the length of its prefix in bits.
    pub exempt: Vec<(IpAddr, u8)>,
}

impl Default for IpDiversity {
    fn default() -> Self {
        const TWO: NonZeroU8 = NonZeroU8::new(2).unwrap();
        const THREE: NonZeroU16 = NonZeroU16::new(3).unwrap();
        Self { per_bucket: TWO, per_table: THREE, exempt: Vec::new() }
    }
}

impl IpDiversity {
    /// Returns whether the address lies in an exempt network.
    pub(crate) fn is_exempt(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, true),
            IpAddr::V6(ip) => (ip.to_bits(), false),
        };
        self.exempt.iter().any(|(net, prefix)| {
            let ((net, net_v4), (ip, ip_v4)) = (bits(*net), bits(ip));
            let differing = (net ^ ip).leading_zeros();
            net_v4 == ip_v4 && differing >= u32::from(*prefix)
        })
    }
}

/// Decides which addresses are kept and dialled: `true` keeps one.
pub type AddressFilter = Arc<dyn Fn(&Multiaddr) -> bool + Send + Sync>;

/// The configuration of a node. [`Config::default`] suits the public IPFS network and most others.
///
/// Differs from `libp2p-kad`: built by `with_*`, and values that make no sense have no representation or are refused. Each
/// duration has a least value, below which a node would do nothing else; [`Duration::MAX`] means never, as does whatever is
/// longer than 30 years.
#[derive(Clone)]
pub struct Config {
    pub(crate) protocol_name: Arc<str>,
    pub(crate) key_hash: KeyHash,
    pub(crate) seed: Option<[u8; 32]>,
    pub(crate) bucket_size: NonZeroU8,
    pub(crate) replication: Option<NonZeroU8>,
    pub(crate) replacements: u8,
    pub(crate) grace: Duration,
    pub(crate) bucket_inserts: BucketInserts,
    pub(crate) diversity: Option<IpDiversity>,
    pub(crate) parallelism: Parallelism,
    pub(crate) beta: NonZeroU8,
    pub(crate) paths: NonZeroU8,
    pub(crate) query_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) soft_timeout: RangeInclusive<Duration>,
    pub(crate) timeout_policy: TimeoutPolicy,
    pub(crate) max_queries: NonZeroUsize,
    pub(crate) max_dials: NonZeroUsize,
    pub(crate) max_known_peers: NonZeroUsize,
    pub(crate) max_seeds: NonZeroUsize,
    pub(crate) address_filter: Option<AddressFilter>,
    pub(crate) joining: Joining,
    pub(crate) refresh_interval: Option<Duration>,
    pub(crate) low_peers: usize,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) max_frame: NonZeroUsize,
    pub(crate) max_inbound_streams: NonZeroUsize,
    pub(crate) inbound_idle: Duration,
    pub(crate) outbound_idle: Duration,
    pub(crate) stream_timeout: Duration,
    pub(crate) max_connection_buffer: NonZeroUsize,
    pub(crate) max_node_buffer: NonZeroUsize,
    pub(crate) records: Records,
    pub(crate) providers: Providers,
}

impl Default for Config {
    fn default() -> Self {
        #[expect(clippy::unwrap_used, reason = "constants, none of which is zero")]
        const fn nz8(n: u8) -> NonZeroU8 {
            NonZeroU8::new(n).unwrap()
        }
        #[expect(clippy::unwrap_used, reason = "constants, none of which is zero")]
        const fn nz(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).unwrap()
        }
        const SECOND: Duration = Duration::from_secs(1);
        Self {
            protocol_name: PROTOCOL_NAME.into(),
            key_hash: Key::sha256,
            seed: None,
            bucket_size: nz8(20),
            replication: None,
            replacements: 4,
            grace: 720 * SECOND,
            bucket_inserts: BucketInserts::OnConnected,
            diversity: Some(IpDiversity::default()),
            parallelism: Parallelism::Adaptive { start: nz8(4), max: nz8(6) },
            beta: nz8(3),
            paths: nz8(1),
            query_timeout: 60 * SECOND,
            request_timeout: 10 * SECOND,
            soft_timeout: Duration::from_millis(50)..=5 * SECOND,
            timeout_policy: TimeoutPolicy::Fitted,
            max_queries: nz(1024),
            max_dials: nz(64),
            max_known_peers: nz(1024),
            max_seeds: nz(256),
            address_filter: None,
            joining: Joining::Automatic,
            refresh_interval: Some(600 * SECOND),
            low_peers: 10,
            keep_alive: KeepAlive::Closest,
            max_frame: nz(128 * 1024),
            max_inbound_streams: nz(32),
            inbound_idle: 60 * SECOND,
            outbound_idle: 30 * SECOND,
            stream_timeout: 10 * SECOND,
            max_connection_buffer: nz(256 * 1024),
            max_node_buffer: nz(64 * 1024 * 1024),
            records: Records::default(),
            providers: Providers::new(K_VALUE),
        }
    }
}

impl Config {
    /// Starts from the defaults, for a network of the given protocol name.
    ///
    /// # Errors
    /// [`ConfigError::ProtocolName`] if the name does not begin with a slash.
    pub fn new(protocol_name: impl AsRef<str>) -> Result<Self, ConfigError> {
        let name = protocol_name.as_ref();
        if !name.starts_with('/') {
            return Err(ConfigError::ProtocolName(name.to_owned()));
        }
        Ok(Self { protocol_name: name.into(), ..Self::default() })
    }

    /// Returns the name of the protocol. Networks of different names do not mix.
    pub fn protocol_name(&self) -> &str {
        &self.protocol_name
    }

    /// Sets the function from bytes to keys.
    ///
    /// All nodes of a network must use the same one. Default: SHA-256 (`spec`, "Distance function").
    #[must_use]
    pub fn with_key_hash(mut self, hash: KeyHash) -> Self {
        self.key_hash = hash;
        self
    }

    /// Sets the seed of all random choices, so that a run can be repeated.
    ///
    /// Default: none; the swarm behaviour takes one from the system.
    #[must_use]
    pub fn with_seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets `k`: how many peers a bucket holds, an answer names and a lookup returns, and a record is stored at.
    ///
    /// More makes the network survive more failures at once; every lookup, store and table costs in proportion. All
    /// nodes of a network should agree. Default: 20 (`spec`, "Replication parameter").
    #[must_use]
    pub fn with_bucket_size(mut self, k: NonZeroU8) -> Self {
        self.bucket_size = k;
        self
    }

    /// Returns `k`.
    pub fn bucket_size(&self) -> NonZeroUsize {
        self.bucket_size.into()
    }

    /// Sets how many of the closest peers hold a record or are told of a provider, and are asked for them: at most `k`.
    ///
    /// Fewer cost less, and what they hold is lost sooner. Buckets, answers and searches for the closest peers stay at `k`. All
    /// nodes of a network should agree: whoever holds a record puts it anew at as many as he is configured for. Default: `k`
    /// (`spec`, "Replication parameter").
    #[must_use]
    pub fn with_replication_factor(mut self, peers: NonZeroU8) -> Self {
        self.replication = Some(peers);
        self
    }

    /// Returns how many of the closest peers hold a record.
    pub fn replication_factor(&self) -> NonZeroUsize {
        self.replication.map_or(self.bucket_size, |peers| peers.min(self.bucket_size)).into()
    }

    /// Sets how many peers wait for a place in each full bucket; the one that waits longest makes room for another.
    ///
    /// More fills a gap sooner, for some 250 bytes each. Default: 4 (paper §4.1 asks for a cache; its size is ours).
    #[must_use]
    pub fn with_replacement_cache(mut self, peers: u8) -> Self {
        self.replacements = peers;
        self
    }

    /// Sets for how long a peer may be silent before it is probed, and challenged by a newcomer.
    ///
    /// Less finds dead peers sooner; each peer of the table costs a request in that time. Default: 12 minutes, with which
    /// some 2 % of the entries are stale where nodes stay for 10,000 s on average, at less than a thousand requests an hour
    /// (`tests/sim/golden/churn-day.txt`). At least 10 seconds.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_grace_period(mut self, grace: Duration) -> Result<Self, ConfigError> {
        self.grace = least::span("grace period", least::GRACE, grace)?;
        Ok(self)
    }

    /// Sets how peers enter the routing table. Default: [`BucketInserts::OnConnected`].
    #[must_use]
    pub fn with_bucket_inserts(mut self, inserts: BucketInserts) -> Self {
        self.bucket_inserts = inserts;
        self
    }

    /// Sets the limits per IP group, or none.
    ///
    /// Tighter limits make it dearer to fill a table from one network, and keep more honest neighbours of one provider
    /// out. Default: 2 per bucket, 3 per table (IPFS Kademlia DHT `spec`).
    #[must_use]
    pub fn with_ip_diversity(mut self, limits: impl Into<Option<IpDiversity>>) -> Self {
        self.diversity = limits.into();
        self
    }

    /// Sets how many requests of one lookup are in flight.
    ///
    /// More hides slow peers and costs requests. Default: adaptive from 4 to 6 (measured:
    /// `tests/sim/golden/parallelism.txt`, 10,000 nodes of which one or three in ten are silent).
    #[must_use]
    pub fn with_parallelism(mut self, parallelism: Parallelism) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// Sets β: how many of the closest peers must have answered before a lookup that needs no more may stop.
    ///
    /// Default: 3 (`go-libp2p-kad-dht`).
    #[must_use]
    pub fn with_beta(mut self, beta: NonZeroU8) -> Self {
        self.beta = beta;
        self
    }

    /// Sets how many disjoint paths a lookup takes.
    ///
    /// More survive more lying peers: with three in ten of 10,000 nodes colluding, an honest one of the closest is reached in
    /// 98.8 % of lookups by one path and in all of them by four, at twice the requests (measured:
    /// `tests/sim/golden/colluders.txt`; S/Kademlia). Default: 1.
    #[must_use]
    pub fn with_disjoint_paths(mut self, paths: NonZeroU8) -> Self {
        self.paths = paths;
        self
    }

    /// Sets the time after which a query ends with what it has. Default: 60 seconds (`libp2p-kad`).
    /// At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_query_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.query_timeout = least::span("query timeout", least::ANSWER, timeout)?;
        Ok(self)
    }

    /// Sets the time after which a request has failed, dialling included. Default: 10 seconds (`go-libp2p-kad-dht`).
    ///
    /// At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter, [`ConfigError::SoftTimeouts`] if a soft timeout could be longer.
    pub fn with_request_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.request_timeout = least::span("request timeout", least::ANSWER, timeout)?;
        self.checked()
    }

    /// Sets the range of the soft timeout, after which the next peer is asked though the answer still counts.
    ///
    /// Within it the timeout follows the round-trip times that were seen. Default: 50 ms to 5 s. At least 1 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it begins below that, [`ConfigError::SoftTimeouts`] if the range is empty or exceeds the
    /// request timeout.
    pub fn with_soft_timeout(mut self, range: RangeInclusive<Duration>) -> Result<Self, ConfigError> {
        let (start, end) = range.into_inner();
        let start = least::span("soft timeout", least::SOFT, start)?;
        self.soft_timeout = start..=end.min(FAR);
        self.checked()
    }

    /// Sets the policy that decides how long a lookup waits for slow peers, within the range of the soft timeout.
    ///
    /// A fixed quantile costs nothing and is easily told beforehand. But the 90th percentile loses 2.5 % of the closest of a
    /// healthy network, where the fitted policy loses 0.6 %; and with the 99th a lookup takes 1.19 s instead of 0.68 s in the
    /// middle where three in ten are silent. Default: [`TimeoutPolicy::Fitted`] (measured:
    /// `tests/sim/golden/timeout-policies.txt`).
    #[must_use]
    pub fn with_timeout_policy(mut self, policy: TimeoutPolicy) -> Self {
        self.timeout_policy = policy;
        self
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let ordered = self.soft_timeout.start() <= self.soft_timeout.end();
        if ordered && *self.soft_timeout.end() <= self.request_timeout {
            Ok(self)
        } else {
            Err(ConfigError::SoftTimeouts)
        }
    }

    /// Sets how many queries run at once; one more ends at once with an error. Default: 1,024.
    #[must_use]
    pub fn with_max_queries(mut self, queries: NonZeroUsize) -> Self {
        self.max_queries = queries;
        self
    }

    /// Sets how many dials are under way at once; more wait their turn. Default: 64.
    #[must_use]
    pub fn with_max_dials(mut self, dials: NonZeroUsize) -> Self {
        self.max_dials = dials;
        self
    }

    /// Sets of how many peers outside the routing table addresses and failures are remembered, for 24 hours at most.
    ///
    /// When there are more, those that were heard of longest ago are forgotten, connected ones never. Default: 1,024,
    /// some 300 bytes each.
    #[must_use]
    pub fn with_max_known_peers(mut self, peers: NonZeroUsize) -> Self {
        self.max_known_peers = peers;
        self
    }

    /// Sets how many seeds are kept; one more is refused. Default: 256.
    #[must_use]
    pub fn with_max_seeds(mut self, seeds: NonZeroUsize) -> Self {
        self.max_seeds = seeds;
        self
    }

    /// Sets which addresses are kept and dialled, for instance only those of transports that the swarm has.
    ///
    /// An address that is filtered out is neither stored nor handed on. Default: all. The simulator's results repeat
    /// only if the filter is a pure function.
    #[must_use]
    pub fn with_address_filter(
        mut self,
        filter: impl Fn(&Multiaddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.address_filter = Some(Arc::new(filter));
        self
    }

    /// Sets when the node joins the network. Default: [`Joining::Automatic`].
    #[must_use]
    pub fn with_joining(mut self, joining: Joining) -> Self {
        self.joining = joining;
        self
    }

    /// Sets after how long a bucket that no lookup touched is looked up, or never.
    ///
    /// Default: 10 minutes (`spec`, "Bootstrap process"). At least 10 seconds.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_refresh_interval(mut self, interval: Option<Duration>) -> Result<Self, ConfigError> {
        self.refresh_interval = least::interval("refresh interval", least::REFRESH, interval)?;
        Ok(self)
    }

    /// Sets up to how many peers in the routing table count as few, so that the node joins again.
    ///
    /// Default: 10 (`go-libp2p-kad-dht`).
    #[must_use]
    pub fn with_low_peers(mut self, peers: usize) -> Self {
        self.low_peers = peers;
        self
    }

    /// Sets which unused connections are kept open. Default: [`KeepAlive::Closest`].
    #[must_use]
    pub fn with_keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Sets how many bytes a message of another peer may have; a longer one ends its stream.
    ///
    /// The messages that are arriving on one connection may have four times that together, but for short ones; a stream on
    /// which one more begins is read on when another is complete. Default: 128 KiB; `go-libp2p-kad-dht` sends up to 4 MiB,
    /// `libp2p-kad` reads 16 KiB.
    #[must_use]
    pub fn with_max_message_size(mut self, bytes: NonZeroUsize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Sets how many streams one connection may have open to this node.
    ///
    /// One more closes the oldest that is idle, or is refused if none is. Default: 32 (`libp2p-kad`).
    #[must_use]
    pub fn with_max_inbound_streams(mut self, streams: NonZeroUsize) -> Self {
        self.max_inbound_streams = streams;
        self
    }

    /// Sets after how long without a request an inbound stream is closed. Default: 1 minute
    /// (`go-libp2p-kad-dht`). At least 100 ms, or streams would end before what is asked on them arrives.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_inbound_idle_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.inbound_idle = least::span("inbound idle timeout", least::ANSWER, timeout)?;
        Ok(self)
    }

    /// Sets after how long without a request an outbound stream is closed.
    ///
    /// Less spares the peers' stream slots (py-libp2p has 12 in all); opening one anew costs a round trip unless the
    /// swarm negotiates lazily. Default: 30 seconds. At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_outbound_idle_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.outbound_idle = least::span("outbound idle timeout", least::ANSWER, timeout)?;
        Ok(self)
    }

    /// Sets how long opening a stream, reading a message that has begun and writing one may take. Default: 10 seconds.
    /// At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_stream_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.stream_timeout = least::span("stream timeout", least::ANSWER, timeout)?;
        Ok(self)
    }

    /// Sets how many bytes of answers may wait to be written on one connection; beyond it the peer is not read from.
    ///
    /// An answer that the node has yet to give counts as the longest one there is. Whatever the limit, one request is
    /// always read when no answer waits, so that it may be exceeded by one answer. More serves a peer better that asks much
    /// at once. What the muxer holds comes on top. Default: 256 KiB, a window of yamux (measured: 20 connections that asked
    /// for 50 kB and read nothing held 254 MB without a limit).
    #[must_use]
    pub fn with_max_connection_buffer(mut self, bytes: NonZeroUsize) -> Self {
        self.max_connection_buffer = bytes;
        self
    }

    /// Sets how many bytes of answers may wait to be written on all connections; beyond it nobody is read from for whom
    /// an answer waits.
    ///
    /// Whoever reads his answers is served even then, one request at a time, so that it may be exceeded by one answer for
    /// each connection. Default: 64 MiB, 256 connections that hold all they may.
    #[must_use]
    pub fn with_max_node_buffer(mut self, bytes: NonZeroUsize) -> Self {
        self.max_node_buffer = bytes;
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("protocol_name", &self.protocol_name)
            .field("bucket_size", &self.bucket_size)
            .field("replication", &self.replication)
            .field("parallelism", &self.parallelism)
            .field("paths", &self.paths)
            .field("query_timeout", &self.query_timeout)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_refused() {
        assert_eq!(Config::new("kad").unwrap_err(), ConfigError::ProtocolName("kad".into()));
        assert_eq!(Config::new("/my/kad").unwrap().protocol_name(), "/my/kad");
        let second = Duration::from_secs(1);
        let reversed = 2 * second..=second;
        assert_eq!(Config::default().with_soft_timeout(reversed).unwrap_err(), ConfigError::SoftTimeouts);
        assert!(Config::default().with_soft_timeout(second..=11 * second).is_err());
        assert!(Config::default().with_request_timeout(4 * second).is_err());
        assert!(Config::default().with_request_timeout(5 * second).is_ok());
    }

    #[test]
    fn exempt_networks() {
        let limits = IpDiversity {
            exempt: vec![("203.0.113.0".parse().unwrap(), 24), ("2001:db8::".parse().unwrap(), 32)],
            ..IpDiversity::default()
        };
        let exempt = |ip: &str| limits.is_exempt(ip.parse().unwrap());
        assert!(exempt("203.0.113.9") && exempt("2001:db8:1::1") && exempt("::ffff:203.0.113.9"));
        assert!(!exempt("203.0.114.9") && !exempt("2001:db9::1"));
        let everything = IpDiversity { exempt: vec![("0.0.0.0".parse().unwrap(), 0)], ..limits };
        assert!(everything.is_exempt("9.9.9.9".parse().unwrap()));
        assert!(!everything.is_exempt("2001:db8::1".parse().unwrap()), "families apart");
    }
}
