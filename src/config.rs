//! The configuration: every number and rule a user may change, with one set of defaults.
//!
//! Knows keys and addresses only. A value that would be invalid either has no representation or is refused here.
//!
//! [`Config`] has a setter for each value, and holds them in groups, which can be set as a whole: [`Routing`], [`Lookups`],
//! [`Records`], [`Providers`], [`Limits`]. A [`ConfigBuilder`] checks all groups together.

mod builder;
mod diversity;
pub(crate) mod least;
mod limits;
mod lookups;
mod membership;
mod protection;
mod providers;
mod rates;
mod records;
mod request_filter;
mod routing;
mod setters;
mod timeouts;

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::ops::RangeInclusive;
use std::sync::Arc;

use libp2p_core::Multiaddr;

pub use builder::ConfigBuilder;
pub(crate) use diversity::Grouping;
pub use diversity::{AsnLookup, IpDiversity, IpLimits};
pub use limits::{Limits, RequestWindow};
pub use lookups::{Lookups, Parallelism};
pub use membership::Membership;
pub use protection::Protection;
pub use providers::Providers;
pub use rates::{Rate, Rates};
pub use records::{Caching, OwnRecords, Records, StoreInserts};
pub use request_filter::{OfferedRequest, RequestFilter, RequestVerdict};
pub use routing::{AddressFilter, BucketInserts, Joining, K_VALUE, KeepAlive, Routing};
pub use timeouts::{Percentile, TimeoutPolicy};

use crate::error::ConfigError;
use crate::key::{Key, KeyHash};
use crate::time::{Duration, FAR};

/// The name of the protocol in the public IPFS network.
pub(crate) const IPFS: &str = "/ipfs/kad/1.0.0";

/// The name of the protocol in its networks that are local (`go-libp2p-kad-dht`, "dual").
const IPFS_LAN: &str = "/ipfs/lan/kad/1.0.0";

/// The configuration of a node. [`Config::default`] suits the public IPFS network and most others.
///
/// Differs from `libp2p-kad`: values that make no sense have no representation, are refused by `with_*`, and come as near to what
/// was given as they can by `set_*`, which are as there. Each duration has a least value, below which a node would do nothing
/// else; [`Duration::MAX`] means never, as does whatever is longer than 30 years.
///
/// ```
/// use std::time::Duration;
///
/// use libp2p_kademlia::config::{Config, Limits, Lookups};
///
/// // One by one:
/// let config = Config::for_protocol("/my/kad/1.0.0")?.with_query_timeout(Duration::from_secs(20))?;
///
/// // In groups, with all that is wrong told at once:
/// let lookups = Lookups { query_timeout: Duration::from_secs(20), ..Lookups::default() };
/// let limits = Limits { stream_timeout: Duration::from_secs(5), ..Limits::default() };
/// let config = config.with_lookups(lookups).with_limits(limits).build()?;
/// assert_eq!(config.lookups().query_timeout, Duration::from_secs(20));
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) protocol_name: Arc<str>,
    pub(crate) key_hash: KeyHash,
    pub(crate) seed: Option<[u8; 32]>,
    pub(crate) routing: Routing,
    pub(crate) lookups: Lookups,
    pub(crate) records: Records,
    pub(crate) providers: Providers,
    pub(crate) limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            protocol_name: IPFS.into(),
            key_hash: Key::sha256,
            seed: None,
            routing: Routing::default(),
            lookups: Lookups::default(),
            records: Records::default(),
            providers: Providers::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Starts from the defaults, for a network of the given protocol name, which may come from outside the program.
    ///
    /// # Errors
    /// [`ConfigError::ProtocolName`] if the name does not begin with a slash: give one that does.
    pub fn for_protocol(protocol_name: impl AsRef<str>) -> Result<Self, ConfigError> {
        let config = Self { protocol_name: protocol_name.as_ref().into(), ..Self::default() };
        config.check_name()?;
        Ok(config)
    }

    fn check_name(&self) -> Result<(), ConfigError> {
        if self.protocol_name.starts_with('/') {
            Ok(())
        } else {
            Err(ConfigError::ProtocolName(self.protocol_name.to_string()))
        }
    }

    /// Returns the name of the protocol. Networks of different names do not mix.
    pub fn protocol_name(&self) -> &str {
        &self.protocol_name
    }

    /// Returns the configuration of the routing table.
    pub const fn routing(&self) -> &Routing {
        &self.routing
    }

    /// Returns the configuration of lookups.
    pub const fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Returns the configuration of records.
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Returns the configuration of providers.
    pub const fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Returns the limits of the node.
    pub const fn limits(&self) -> &Limits {
        &self.limits
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
        self.routing.bucket_size = k;
        self
    }

    /// Returns `k`.
    pub fn bucket_size(&self) -> NonZeroUsize {
        self.routing.bucket_size.into()
    }

    /// Sets how many of the closest peers hold a record or are told of a provider, and are asked for them: at most `k`.
    ///
    /// Fewer cost less, and what they hold is lost sooner. Buckets, answers and searches for the closest peers stay at `k`. All
    /// nodes of a network should agree: a holder of a record puts it anew at as many as it is configured for itself. Default:
    /// `k` (`spec`, "Replication parameter").
    #[must_use]
    pub fn with_replication_factor(mut self, peers: NonZeroU8) -> Self {
        self.routing.replication_factor = Some(peers);
        self
    }

    /// Returns how many of the closest peers hold a record.
    pub fn replication_factor(&self) -> NonZeroUsize {
        self.routing
            .replication_factor
            .map_or(self.routing.bucket_size, |peers| peers.min(self.routing.bucket_size))
            .into()
    }

    /// Sets how many peers wait for a place in each full bucket; the one that waits longest makes room for another.
    ///
    /// More fills a gap sooner, for some 250 bytes each. Default: 4 (paper §4.1 asks for a cache; its size is ours).
    #[must_use]
    pub fn with_replacement_cache(mut self, peers: u8) -> Self {
        self.routing.replacement_cache = peers;
        self
    }

    /// Sets for how long a peer may be silent before it is probed, and challenged by a newcomer.
    ///
    /// Less finds dead peers sooner; each peer of the table costs a request in that time. Default: 12 minutes, with which
    /// some 2 % of the entries are stale where nodes stay for 10,000 s on average, at some thousand requests an hour
    /// (`tests/sim/golden/churn-day.txt`). At least 10 seconds.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_grace_period(mut self, grace: Duration) -> Result<Self, ConfigError> {
        self.routing.grace_period = least::GRACE_PERIOD.span(grace)?;
        Ok(self)
    }

    /// Sets how peers enter the routing table. Default: [`BucketInserts::OnConnected`].
    #[must_use]
    pub fn with_bucket_inserts(mut self, inserts: BucketInserts) -> Self {
        self.routing.bucket_inserts = inserts;
        self
    }

    /// Sets what becomes of peers beyond the limits per IP group.
    ///
    /// Strict limits make it dear to fill a table from one network, and keep honest neighbours of one provider out: servers that
    /// share a public network find but few of each other. Default: [`IpDiversity::ByProtocol`], which is strict in the public
    /// network only.
    #[must_use]
    pub fn with_ip_diversity(mut self, diversity: IpDiversity) -> Self {
        self.routing.ip_diversity = diversity;
        self
    }

    /// Returns what becomes of peers beyond the limits per IP group: never [`IpDiversity::ByProtocol`], but what that means here.
    pub fn ip_diversity(&self) -> IpDiversity {
        match (self.routing.ip_diversity, &*self.protocol_name) {
            (IpDiversity::ByProtocol, IPFS) => IpDiversity::Strict,
            (IpDiversity::ByProtocol, IPFS_LAN) => IpDiversity::Off,
            (IpDiversity::ByProtocol, _) => IpDiversity::Soft,
            (chosen, _) => chosen,
        }
    }

    /// Returns the rules of IP diversity, unless there are none.
    pub(crate) fn grouping(&self) -> Option<Grouping> {
        let Routing { ip_limits, asn, .. } = &self.routing;
        Grouping::new(self.ip_diversity(), ip_limits, asn.as_ref())
    }

    /// Sets the limits per IP group. Default: 2 per bucket, 3 per table (IPFS Kademlia DHT `spec`).
    #[must_use]
    pub fn with_ip_limits(mut self, limits: IpLimits) -> Self {
        self.routing.ip_limits = limits;
        self
    }

    /// Sets what tells the autonomous system of an IP address, whose number is then its group in place of the network prefix.
    ///
    /// Default: nothing does.
    #[must_use]
    pub fn with_asn(mut self, asn: impl Fn(IpAddr) -> Option<u32> + Send + Sync + 'static) -> Self {
        self.routing.asn = Some(Arc::new(asn));
        self
    }

    /// Sets who belongs to the network, if not everybody does.
    ///
    /// A peer that is no member is in no table, answer, store or query of this node, and its connections are refused; see
    /// [`ban`](crate::Behaviour::ban). Default: everybody belongs to it.
    #[must_use]
    pub fn with_membership(mut self, members: Membership) -> Self {
        self.routing.membership = Some(members);
        self
    }

    /// Sets what decides about each request of others before it is served: by who asks, from where, what and about which key.
    ///
    /// What it refuses is counted as refused, and no event tells of it. It comes before
    /// [`with_record_filtering`](Self::with_record_filtering), which asks the application about what is to be stored, and takes its
    /// time. Default: all is served.
    #[must_use]
    pub fn with_request_filter(
        mut self,
        filter: impl Fn(&OfferedRequest<'_>) -> RequestVerdict + Send + Sync + 'static,
    ) -> Self {
        self.routing.request_filter = Some(Arc::new(filter));
        self
    }

    /// Sets whether connections to peers that are banned, or are no members, are closed and refused, whatever protocol of the
    /// program they are for. Default: yes.
    #[must_use]
    pub fn with_disconnect_banned(mut self, disconnects: bool) -> Self {
        self.routing.disconnects_banned = disconnects;
        self
    }

    /// Sets how many requests of one lookup, or of each of its disjoint paths, are in flight.
    ///
    /// More hides slow peers and costs requests. Default: adaptive from 4 to 6 (measured:
    /// `tests/sim/golden/parallelism.txt`, 10,000 nodes of which one or three in ten are silent).
    #[must_use]
    pub fn with_parallelism(mut self, parallelism: Parallelism) -> Self {
        self.lookups.parallelism = parallelism;
        self
    }

    /// Sets β: how many of the closest peers must have answered before a lookup that needs no more may stop.
    ///
    /// Default: 3 (`go-libp2p-kad-dht`).
    #[must_use]
    pub fn with_beta(mut self, beta: NonZeroU8) -> Self {
        self.lookups.beta = beta;
        self
    }

    /// Sets how many disjoint paths a lookup takes.
    ///
    /// More survive more lying peers: with three in ten of 10,000 nodes colluding, an honest one of the closest is reached in
    /// 98.8 % of lookups by one path and in all of them by four, at twice the requests (measured:
    /// `tests/sim/golden/colluders.txt`; S/Kademlia). Default: 1.
    #[must_use]
    pub fn with_disjoint_paths(mut self, paths: NonZeroU8) -> Self {
        self.lookups.disjoint_paths = paths;
        self
    }

    /// Sets the time after which a query ends with what it has. Default: 60 seconds (`libp2p-kad`).
    /// At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_query_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.lookups.query_timeout = least::QUERY_TIMEOUT.span(timeout)?;
        Ok(self)
    }

    /// Sets the time after which a request has failed, dialling included. Default: 10 seconds (`go-libp2p-kad-dht`).
    ///
    /// At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter, [`ConfigError::SoftTimeouts`] if a soft timeout could be longer: set the
    /// soft timeout first, or all by a [`ConfigBuilder`].
    pub fn with_request_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.lookups.request_timeout = least::REQUEST_TIMEOUT.span(timeout)?;
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
        let start = least::SOFT_TIMEOUT.span(start)?;
        self.lookups.soft_timeout = start..=end.min(FAR);
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
        self.lookups.timeout_policy = policy;
        self
    }

    fn checked(self) -> Result<Self, ConfigError> {
        self.lookups.check_order()?;
        Ok(self)
    }

    /// Sets how many queries run at once; one more ends at once with an error. Default: 1,024.
    #[must_use]
    pub fn with_max_queries(mut self, queries: NonZeroUsize) -> Self {
        self.limits.max_queries = queries;
        self
    }

    /// Sets how many requests are in flight while further queries are begun; beyond that those stand in line, those of callers
    /// first. Default: adaptive, from 32 to 4,096.
    ///
    /// A fixed one bounds what lookups take of a link or a core that the program shares with others.
    #[must_use]
    pub fn with_request_window(mut self, window: RequestWindow) -> Self {
        self.limits.request_window = window;
        self
    }

    /// Sets how many dials are under way at once; more wait their turn. Default: 64.
    #[must_use]
    pub fn with_max_dials(mut self, dials: NonZeroUsize) -> Self {
        self.limits.max_dials = dials;
        self
    }

    /// Sets of how many peers outside the routing table addresses and failures are remembered, for 24 hours at most.
    ///
    /// When there are more, those that were heard of longest ago are forgotten, connected ones never. Default: 1,024,
    /// some 300 bytes each.
    #[must_use]
    pub fn with_max_known_peers(mut self, peers: NonZeroUsize) -> Self {
        self.limits.max_known_peers = peers;
        self
    }

    /// Sets how many seeds are kept; one more is refused. Default: 256.
    #[must_use]
    pub fn with_max_seeds(mut self, seeds: NonZeroUsize) -> Self {
        self.limits.max_seeds = seeds;
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
        self.routing.address_filter = Some(Arc::new(filter));
        self
    }

    /// Sets when the node joins the network. Default: [`Joining::Automatic`].
    #[must_use]
    pub fn with_joining(mut self, joining: Joining) -> Self {
        self.routing.joining = joining;
        self
    }

    /// Sets after how long a bucket that no lookup touched is looked up, or never.
    ///
    /// Default: 10 minutes (`spec`, "Bootstrap process"). At least 10 seconds.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_refresh_interval(mut self, interval: Option<Duration>) -> Result<Self, ConfigError> {
        self.routing.refresh_interval = least::REFRESH_INTERVAL.interval(interval)?;
        Ok(self)
    }

    /// Sets up to how many peers in the routing table count as few, so that the node joins again.
    ///
    /// Default: 10 (`go-libp2p-kad-dht`).
    #[must_use]
    pub fn with_low_peers(mut self, peers: usize) -> Self {
        self.routing.low_peers = peers;
        self
    }

    /// Sets which unused connections are kept open. Default: [`KeepAlive::Closest`].
    #[must_use]
    pub fn with_keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.routing.keep_alive = keep_alive;
        self
    }

    /// Sets how many bytes a message of another peer may have; a longer one ends its stream.
    ///
    /// The messages that are arriving on one connection may have four times that together, but for short ones; a stream on
    /// which one more begins is read on when another is complete. Default: 128 KiB; `go-libp2p-kad-dht` sends up to 4 MiB,
    /// `libp2p-kad` reads 16 KiB.
    #[must_use]
    pub fn with_max_message_size(mut self, bytes: NonZeroUsize) -> Self {
        self.limits.max_message_size = bytes;
        self
    }

    /// Sets how many streams one connection may have open to this node.
    ///
    /// One more closes the oldest that is idle, or is refused if none is. Default: 32 (`libp2p-kad`).
    #[must_use]
    pub fn with_max_inbound_streams(mut self, streams: NonZeroUsize) -> Self {
        self.limits.max_inbound_streams = streams;
        self
    }

    /// Sets after how long without a request an inbound stream is closed. Default: 1 minute
    /// (`go-libp2p-kad-dht`). At least 100 ms, or streams would end before what is asked on them arrives.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_inbound_idle_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.limits.inbound_idle_timeout = least::INBOUND_IDLE_TIMEOUT.span(timeout)?;
        Ok(self)
    }

    /// Sets after how long without a request an outbound stream is closed.
    ///
    /// Less spares the peers' stream slots (py-libp2p has 12 in all); opening one anew costs a round trip unless the
    /// swarm negotiates lazily. Default: 30 seconds. At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_outbound_idle_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.limits.outbound_idle_timeout = least::OUTBOUND_IDLE_TIMEOUT.span(timeout)?;
        Ok(self)
    }

    /// Sets how long opening a stream, reading a message that has begun and writing one may take. Default: 10 seconds.
    /// At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_stream_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.limits.stream_timeout = least::STREAM_TIMEOUT.span(timeout)?;
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
        self.limits.max_connection_buffer = bytes;
        self
    }

    /// Sets how many bytes of answers may wait to be written on all connections; beyond it no connection is read from on which
    /// an answer waits.
    ///
    /// A peer that reads its answers is served even then, one request at a time, so that it may be exceeded by one answer for
    /// each connection. Default: 64 MiB, 256 connections that hold all they may.
    #[must_use]
    pub fn with_max_node_buffer(mut self, bytes: NonZeroUsize) -> Self {
        self.limits.max_node_buffer = bytes;
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol_name, key_hash, seed, routing, lookups, records, providers, limits } = self;
        f.debug_struct("Config")
            .field("protocol_name", protocol_name)
            .field("key_hash", key_hash)
            // Whoever knows it knows what the node will choose.
            .field("seed", &seed.map(|_| format_args!("..")))
            .field("routing", routing)
            .field("lookups", lookups)
            .field("records", records)
            .field("providers", providers)
            .field("limits", limits)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_refused() {
        assert_eq!(Config::for_protocol("kad").unwrap_err(), ConfigError::ProtocolName("kad".into()));
        assert_eq!(Config::for_protocol("/my/kad").unwrap().protocol_name(), "/my/kad");
        let second = Duration::from_secs(1);
        let reversed = 2 * second..=second;
        assert_eq!(Config::default().with_soft_timeout(reversed).unwrap_err(), ConfigError::SoftTimeouts);
        assert!(Config::default().with_soft_timeout(second..=11 * second).is_err());
        assert!(Config::default().with_request_timeout(4 * second).is_err());
        assert!(Config::default().with_request_timeout(5 * second).is_ok());
    }
}
