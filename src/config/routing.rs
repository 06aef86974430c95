//! The configuration of the routing table: which peers are in it, how the node joins and stays joined.

use std::fmt;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;

use libp2p_core::Multiaddr;

use super::diversity::{AsnLookup, IpDiversity, IpLimits};
use super::least;
use super::membership::Membership;
use super::request_filter::RequestFilter;
use crate::error::ConfigError;
use crate::time::Duration;

/// The `k` of the specification: 20 peers in a bucket, in an answer and in a result.
pub const K_VALUE: NonZeroUsize = NonZeroUsize::new(20).unwrap();

/// The configuration of the routing table: `k`, which peers enter it, which the node keeps asking, when it joins.
///
/// ```
/// use libp2p_kademlia::config::{Config, IpDiversity, Routing};
///
/// let routing = Routing { low_peers: 3, ip_diversity: IpDiversity::Off, ..Routing::default() };
/// let config = Config::builder().with_routing(routing).build()?;
/// assert_eq!(config.routing().low_peers, 3);
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Routing {
    /// `k`: how many peers a bucket holds, an answer names and a lookup returns, and a record is stored at.
    ///
    /// Default: 20 (`spec`, "Replication parameter"). See
    /// [`with_bucket_size`](super::Config::with_bucket_size).
    pub bucket_size: NonZeroU8,
    /// How many of the closest peers hold a record or are told of a provider: at most `k`, and `k` if it is `None`.
    ///
    /// Default: `None` (`spec`, "Replication parameter"). See
    /// [`with_replication_factor`](super::Config::with_replication_factor).
    pub replication_factor: Option<NonZeroU8>,
    /// How many peers wait for a place in each full bucket, some 250 bytes each.
    ///
    /// Default: 4 (paper §4.1 asks for a cache; its size is ours).
    pub replacement_cache: u8,
    /// For how long a peer may be silent before it is probed, and challenged by a newcomer: at least 10 seconds.
    ///
    /// Default: 12 minutes (measured: `tests/sim/golden/churn-day.txt`). See
    /// [`with_grace_period`](super::Config::with_grace_period).
    pub grace_period: Duration,
    /// How a peer that has proved itself enters the routing table. Default: [`BucketInserts::OnConnected`] (`libp2p-kad`).
    pub bucket_inserts: BucketInserts,
    /// What the limits per IP group mean for peers that exceed them. Default: [`IpDiversity::ByProtocol`]. See
    /// [`with_ip_diversity`](super::Config::with_ip_diversity).
    pub ip_diversity: IpDiversity,
    /// The limits per IP group. Default: 2 per bucket, 3 per table (IPFS Kademlia DHT `spec`).
    pub ip_limits: IpLimits,
    /// The autonomous system to which an IP address belongs: then its number is the group of the address. Default: `None`; the
    /// network prefix is. See [`with_asn`](super::Config::with_asn).
    pub asn: Option<AsnLookup>,
    /// Which addresses are kept and dialled; `None` keeps all, which is the default. See
    /// [`with_address_filter`](super::Config::with_address_filter).
    pub address_filter: Option<AddressFilter>,
    /// Who belongs to the network; `None` lets everybody, which is the default. See
    /// [`with_membership`](super::Config::with_membership).
    pub membership: Option<Membership>,
    /// What decides about each request of others; `None` serves all, which is the default. See
    /// [`with_request_filter`](super::Config::with_request_filter).
    pub request_filter: Option<RequestFilter>,
    /// Whether connections to peers that are banned, or are no members, are closed and refused. Default: yes (chosen, not
    /// measured).
    pub disconnects_banned: bool,
    /// When the node joins the network. Default: [`Joining::Automatic`] (`libp2p-kad`).
    pub joining: Joining,
    /// After how long a bucket that no lookup touched is looked up: at least 10 seconds, or `None` for never.
    ///
    /// Default: 10 minutes (`spec`, "Bootstrap process").
    pub refresh_interval: Option<Duration>,
    /// Up to how many peers in the routing table count as few, so that the node joins again. Default: 10
    /// (`go-libp2p-kad-dht`).
    pub low_peers: usize,
    /// Which unused connections are kept open. Default: [`KeepAlive::Closest`] (chosen, not measured).
    pub keep_alive: KeepAlive,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            bucket_size: const { NonZeroU8::new(20).unwrap() },
            replication_factor: None,
            replacement_cache: 4,
            grace_period: Duration::from_secs(720),
            bucket_inserts: BucketInserts::OnConnected,
            ip_diversity: IpDiversity::ByProtocol,
            ip_limits: IpLimits::default(),
            asn: None,
            address_filter: None,
            membership: None,
            request_filter: None,
            disconnects_banned: true,
            joining: Joining::Automatic,
            refresh_interval: Some(Duration::from_secs(600)),
            low_peers: 10,
            keep_alive: KeepAlive::Closest,
        }
    }
}

impl Routing {
    /// Notes what is wrong, and shortens what is so long that it means never.
    pub(super) fn check(&mut self, wrong: &mut Vec<ConfigError>) {
        least::GRACE_PERIOD.check(&mut self.grace_period, wrong);
        least::REFRESH_INTERVAL.check_interval(&mut self.refresh_interval, wrong);
    }
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bucket_size,
            replication_factor,
            replacement_cache,
            grace_period,
            bucket_inserts,
            ip_diversity,
            ip_limits,
            asn,
            address_filter,
            membership,
            request_filter,
            disconnects_banned,
            joining,
            refresh_interval,
            low_peers,
            keep_alive,
        } = self;
        f.debug_struct("Routing")
            .field("bucket_size", bucket_size)
            .field("replication_factor", replication_factor)
            .field("replacement_cache", replacement_cache)
            .field("grace_period", grace_period)
            .field("bucket_inserts", bucket_inserts)
            .field("ip_diversity", ip_diversity)
            .field("ip_limits", ip_limits)
            .field("asn", &asn.as_ref().map(|_| format_args!("..")))
            .field("address_filter", &address_filter.as_ref().map(|_| format_args!("..")))
            .field("membership", membership)
            .field("request_filter", &request_filter.as_ref().map(|_| format_args!("..")))
            .field("disconnects_banned", disconnects_banned)
            .field("joining", joining)
            .field("refresh_interval", refresh_interval)
            .field("low_peers", low_peers)
            .field("keep_alive", keep_alive)
            .finish()
    }
}

/// The insertion into buckets: how a peer that has proved itself enters the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BucketInserts {
    /// At once, if its bucket has room.
    #[default]
    OnConnected,
    /// Only after [`add_address`](crate::Behaviour::add_address); others are reported as
    /// [`RoutablePeer`](crate::Event::RoutablePeer).
    Manual,
}

/// The way of joining: when the node joins the network.
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

/// Decides which addresses are kept and dialled: `true` keeps one.
pub type AddressFilter = Arc<dyn Fn(&Multiaddr) -> bool + Send + Sync>;
