//! IP groups: which addresses are taken to have one owner, and into which groups a connection counts.
//!
//! Knows addresses only; how many of one group are let in where is not its affair.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use sha2::{Digest as _, Sha256};

use super::{Reach, ip_of, is_relayed};

/// The IP group of an address: addresses of one group are taken to have one owner.
///
/// IPv4 by /16, but by /8 in the blocks that one organisation has held since the class-A days; IPv6 by /32; both by autonomous
/// system where the application [knows it](crate::config::Routing::asn). A name by its last two labels while it is only claimed,
/// and all names together when they were dialled, since who has one domain has a thousand names. Loopback, private, link-local and
/// in-memory addresses belong to no group; those of other special ranges do, so that naming one is no way out of the limits.
///
/// # Spec
/// IPFS Kademlia DHT, "Routing Table" (IP diversity). Without a table of autonomous systems an IPv6 group is a /32;
/// `go-libp2p-kad-dht` puts all IPv6 addresses of unknown systems into one group, which is not done here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IpGroup {
    /// An IPv4 /8 of one organisation.
    V4ClassA(u8),
    /// An IPv4 /16.
    V4([u8; 2]),
    /// An IPv6 /32.
    V6([u8; 4]),
    /// A hash of the last two labels of a name.
    Name([u8; 8]),
    /// An autonomous system.
    As(u32),
    /// All that were dialled by a name which does not prove its IP address, unless [`ResolvedAddresses`](crate::ResolvedAddresses)
    /// tell it.
    Named,
    /// All that are connected through a relay.
    Relayed,
}

/// The IPv4 /8 blocks that count as one group each (IPFS Kademlia DHT spec; the list of go-libp2p-kbucket).
const CLASS_A: [u8; 8] = [12, 17, 19, 38, 48, 53, 56, 73];

impl IpGroup {
    /// Returns the group of an address that is only claimed, judged by its first component: of a relayed one, the relay's.
    pub fn of(address: &Multiaddr) -> Option<Self> {
        if let Some(ip) = proven_ip_of(address) {
            return Self::of_ip(ip);
        }
        let name = name_of(address)?;
        (Reach::of(address) == Reach::World).then(|| Self::of_name(&name))
    }

    /// Returns whether it is one of those in which are all whose IP addresses are not known.
    pub(crate) const fn is_indirect(self) -> bool {
        matches!(self, Self::Named | Self::Relayed)
    }

    /// Returns the group of an IP address.
    pub fn of_ip(ip: IpAddr) -> Option<Self> {
        if matches!(Reach::of_ip(ip), Reach::Machine | Reach::Site) {
            return None;
        }
        Some(match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                if CLASS_A.contains(&a) { Self::V4ClassA(a) } else { Self::V4([a, b]) }
            }
            IpAddr::V6(ip) => Self::of_ipv6(ip),
        })
    }

    /// Returns the group as bytes, its kind first.
    #[cfg(feature = "redb")]
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::V4ClassA(a) => vec![0, a],
            Self::V4([a, b]) => vec![1, a, b],
            Self::V6(bytes) => [&[2], &bytes[..]].concat(),
            Self::Name(bytes) => [&[3], &bytes[..]].concat(),
            Self::As(number) => [&[4], &number.to_be_bytes()[..]].concat(),
            Self::Named => vec![5],
            Self::Relayed => vec![6],
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has written.
    #[cfg(feature = "redb")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0, a] => Some(Self::V4ClassA(*a)),
            [1, a, b] => Some(Self::V4([*a, *b])),
            [2, rest @ ..] => Some(Self::V6(rest.try_into().ok()?)),
            [3, rest @ ..] => Some(Self::Name(rest.try_into().ok()?)),
            [4, rest @ ..] => Some(Self::As(u32::from_be_bytes(rest.try_into().ok()?))),
            [5] => Some(Self::Named),
            [6] => Some(Self::Relayed),
            _ => None,
        }
    }

    fn of_ipv6(ip: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = ip.octets();
        Self::V6([a, b, c, d])
    }

    fn of_name(name: &str) -> Self {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let owner = name.rmatch_indices('.').nth(1).map_or(name.as_str(), |(at, _)| &name[at + 1..]);
        let mut hash = [0; 8];
        hash.copy_from_slice(&Sha256::digest(owner)[..8]);
        Self::Name(hash)
    }
}

/// The groups of a peer: into which it counts by the address of its connection. Nothing that it claims changes them.
///
/// None for one of this machine or site; that of its IP address for another. [`IpGroup::Named`] for one that was dialled by a
/// name: what that resolved to a swarm does not tell. One behind a relay counts into the relay's and into
/// [`IpGroup::Relayed`], which is all that is known of one that came through a relay of its own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    own: Option<IpGroup>,
    relayed: bool,
}

impl Groups {
    /// Returns the groups of a connection to an address, when those of IP addresses are what `of_ip` says.
    pub fn of(address: &Multiaddr, of_ip: impl FnOnce(IpAddr) -> Option<IpGroup>) -> Self {
        let first = address.iter().next();
        // A listener at a relay is told who comes, not from where.
        let relayed = is_relayed(address) || matches!(first, Some(Protocol::P2p(_)));
        let own = match proven_ip_of(address) {
            Some(ip) => of_ip(ip),
            None => name_of(address).filter(|_| Reach::of(address) == Reach::World).map(|_| IpGroup::Named),
        };
        Self { own, relayed }
    }

    /// Iterates over the groups: none, one or two.
    pub fn iter(self) -> impl Iterator<Item = IpGroup> {
        self.own.into_iter().chain(self.relayed.then_some(IpGroup::Relayed))
    }

    /// Returns the one group to which is charged what the peer stores: that of all relayed ones before its relay's.
    pub fn charged(self) -> Option<IpGroup> {
        if self.relayed { Some(IpGroup::Relayed) } else { self.own }
    }

    /// Returns whether the IP address of the peer is not known.
    pub(crate) fn is_indirect(self) -> bool {
        self.iter().any(IpGroup::is_indirect)
    }
}

/// The domain whose names say which IP address they stand for (AutoTLS; `p2p-forge`, "Peer ID" names).
const PROVEN: &str = "libp2p.direct";

/// Returns the IP address that an address begins with, or that its name proves.
pub(crate) fn proven_ip_of(address: &Multiaddr) -> Option<IpAddr> {
    ip_of(address).or_else(|| {
        let name = name_of(address)?;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (ip, _) = name.strip_suffix(PROVEN)?.strip_suffix('.')?.split_once('.')?;
        let v4 = ip.replace('-', ".").parse().map(IpAddr::V4);
        v4.or_else(|_| ip.replace('-', ":").parse().map(IpAddr::V6)).ok()
    })
}

/// Returns the name that an address begins with.
fn name_of(address: &Multiaddr) -> Option<Cow<'_, str>> {
    let first = address.iter().next()?;
    if let Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) = first
    {
        Some(name)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p_core::multihash::Multihash;
    use libp2p_identity::PeerId;

    const RELAY: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    fn groups(address: &str) -> Vec<IpGroup> {
        Groups::of(&address.parse().unwrap(), IpGroup::of_ip).iter().collect()
    }

    #[test]
    fn a_direct_connection_counts_into_the_group_of_its_ip_address() {
        assert_eq!(groups("/ip4/1.2.3.4/tcp/1"), [IpGroup::V4([1, 2])]);
        assert_eq!(groups("/ip4/10.0.0.1/tcp/1"), []);
        assert_eq!(groups("/memory/7"), []);
    }

    #[test]
    fn all_names_are_one_group_but_those_that_prove_their_ip_address() {
        for name in ["/dns4/a.example/tcp/1", "/dns/b.other/tcp/443/wss", "/dnsaddr/c.third"] {
            assert_eq!(groups(name), [IpGroup::Named], "{name}");
        }
        assert_eq!(groups("/dns4/localhost/tcp/1"), []);
        let proven = "/dns4/1-2-3-4.k51qzi5uqu5dj.libp2p.direct/tcp/443/wss";
        assert_eq!(groups(proven), [IpGroup::V4([1, 2])]);
        assert_eq!(groups("/dns6/2a00-1--7.k51.libp2p.direct/tcp/1"), [IpGroup::V6([0x2a, 0, 0, 1])]);
        assert_eq!(groups("/dns4/1-2-3-4.k51.notlibp2p.direct/tcp/1"), [IpGroup::Named]);
        assert_eq!(groups("/dns4/1-2-3-4.k51.libp2p.direct.example/tcp/1"), [IpGroup::Named]);
        assert_eq!(groups("/dns4/k51.libp2p.direct/tcp/1"), [IpGroup::Named]);
        assert_eq!(IpGroup::of(&proven.parse().unwrap()), Some(IpGroup::V4([1, 2])), "claimed");
    }

    #[test]
    fn whoever_is_behind_a_relay_counts_into_its_group_and_into_that_of_all_relayed_ones() {
        let behind = |relay: &str| groups(&format!("{relay}/p2p/{RELAY}/p2p-circuit"));
        assert_eq!(behind("/ip4/1.2.3.4/tcp/1"), [IpGroup::V4([1, 2]), IpGroup::Relayed]);
        assert_eq!(behind("/dns4/a.example/tcp/1"), [IpGroup::Named, IpGroup::Relayed]);
        assert_eq!(behind("/ip4/10.0.0.1/tcp/1"), [IpGroup::Relayed]);
        let id = PeerId::from_multihash(Multihash::wrap(0, b"somebody").unwrap()).unwrap();
        let alone = Groups::of(&Multiaddr::empty().with(Protocol::P2p(id)), IpGroup::of_ip);
        assert_eq!(alone.iter().collect::<Vec<_>>(), [IpGroup::Relayed], "all that a listener is told");
        assert_eq!((alone.charged(), alone.is_indirect()), (Some(IpGroup::Relayed), true));
    }
}
