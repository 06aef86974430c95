//! IP diversity: how many peers of one IP group are let in, and what becomes of those beyond.
//!
//! Knows limits and IP addresses; what is counted where is the table's affair.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::sync::Arc;

use libp2p_core::Multiaddr;

use crate::addrs::{Groups, IpGroup, is_within};

/// The IP diversity of the routing table: what the limits per IP group ([`IpLimits`]) mean for peers that exceed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IpDiversity {
    /// [`Strict`](Self::Strict) in the public IPFS network, [`Off`](Self::Off) in a network of that name's LAN
    /// (`/ipfs/lan/kad/1.0.0`), and [`Soft`](Self::Soft) in all others.
    #[default]
    ByProtocol,
    /// They are refused, and count in no answer: nobody owns much of a table, and of several servers in one network most are
    /// left out.
    Strict,
    /// They have the places that nobody else wants, and are the first to go when a peer of another group comes: servers of one
    /// network find each other, and a flood displaces nobody.
    Soft,
    /// There are no limits.
    Off,
}

/// Limits per IP group: how many peers of one group the routing table takes, against one hand filling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpLimits {
    /// Peers of one group in one bucket.
    pub per_bucket: NonZeroU8,
    /// Peers of one group in the whole table.
    pub per_table: NonZeroU16,
    /// Networks whose addresses belong to no group, each as an address and the length of its prefix in bits.
    pub exempt: Vec<(IpAddr, u8)>,
}

/// Tells to which autonomous system an IP address belongs, if that is known. It is called for each connection and must be quick.
pub type AsnLookup = Arc<dyn Fn(IpAddr) -> Option<u32> + Send + Sync>;

/// The rules of IP diversity that are in force.
#[derive(Clone)]
pub(crate) struct Grouping {
    pub(crate) is_soft: bool,
    pub(crate) limits: IpLimits,
    asn: Option<AsnLookup>,
}

impl Grouping {
    /// Returns the rules, unless there are none: `diversity` is what they mean.
    pub(super) fn new(diversity: IpDiversity, limits: &IpLimits, asn: Option<&AsnLookup>) -> Option<Self> {
        let is_soft = match diversity {
            IpDiversity::Off => return None,
            IpDiversity::Strict => false,
            IpDiversity::Soft | IpDiversity::ByProtocol => true,
        };
        Some(Self { is_soft, limits: limits.clone(), asn: asn.cloned() })
    }

    /// Returns the groups of a connection to an address.
    pub(crate) fn groups(&self, address: &Multiaddr) -> Groups {
        Groups::of(address, |ip| self.of_ip(ip))
    }

    fn of_ip(&self, ip: IpAddr) -> Option<IpGroup> {
        if self.limits.is_exempt(ip) {
            return None;
        }
        let group = IpGroup::of_ip(ip)?;
        Some(self.asn.as_ref().and_then(|asn| asn(ip)).map_or(group, IpGroup::As))
    }
}

impl fmt::Debug for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grouping").field("is_soft", &self.is_soft).finish_non_exhaustive()
    }
}

impl Default for IpLimits {
    fn default() -> Self {
        // As the IPFS Kademlia DHT spec has them.
        const TWO: NonZeroU8 = NonZeroU8::new(2).unwrap();
        const THREE: NonZeroU16 = NonZeroU16::new(3).unwrap();
        Self { per_bucket: TWO, per_table: THREE, exempt: Vec::new() }
    }
}

impl IpLimits {
    /// Returns whether the address lies in an exempt network.
    pub(crate) fn is_exempt(&self, ip: IpAddr) -> bool {
        self.exempt.iter().any(|net| is_within(ip, *net))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exempt_networks() {
        let limits = IpLimits {
            exempt: vec![("203.0.113.0".parse().unwrap(), 24), ("2001:db8::".parse().unwrap(), 32)],
            ..IpLimits::default()
        };
        let exempt = |ip: &str| limits.is_exempt(ip.parse().unwrap());
        assert!(exempt("203.0.113.9") && exempt("2001:db8:1::1") && exempt("::ffff:203.0.113.9"));
        assert!(!exempt("203.0.114.9") && !exempt("2001:db9::1"));
        let everything = IpLimits { exempt: vec![("0.0.0.0".parse().unwrap(), 0)], ..limits };
        assert!(everything.is_exempt("9.9.9.9".parse().unwrap()));
        assert!(!everything.is_exempt("2001:db8::1".parse().unwrap()), "families apart");
    }
}
