//! The configuration of the routing table: which peers are in it, how the node joins and stays joined.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};
use std::sync::Arc;

use libp2p_core::Multiaddr;

use super::least;
use crate::error::ConfigError;
use crate::time::Duration;

/// The `k` of the specification: 20 peers in a bucket, in an answer and in a result.
pub const K_VALUE: NonZeroUsize = NonZeroUsize::new(20).unwrap();

/// The configuration of the routing table: `k`, which peers enter it, which the node keeps asking, when it joins.
///
/// ```
/// use libp2p_kademlia::config::{Config, Routing};
///
/// let routing = Routing { low_peers: 3, ip_diversity: None, ..Routing::default() };
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
    /// The limits per IP group, or none. Default: 2 per bucket, 3 per table (IPFS Kademlia DHT `spec`).
    pub ip_diversity: Option<IpDiversity>,
    /// Which addresses are kept and dialled; `None` keeps all, which is the default. See
    /// [`with_address_filter`](super::Config::with_address_filter).
    pub address_filter: Option<AddressFilter>,
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
            ip_diversity: Some(IpDiversity::default()),
            address_filter: None,
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
            address_filter,
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
            .field("address_filter", &address_filter.as_ref().map(|_| format_args!("..")))
            .field("joining", joining)
            .field("refresh_interval", refresh_interval)
            .field("low_peers", low_peers)
            .field("keep_alive", keep_alive)
            .finish()
    }
}

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
        // As the IPFS Kademlia DHT spec has them.
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

#[cfg(test)]
mod tests {
    use super::*;

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
