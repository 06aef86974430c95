//! Identities: the id, the address and the key of the node with a number.
//!
//! All of them follow from the number and the seed of the simulation, and an address leads back to its number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;

use super::links::Transport;
use super::scenario::Hosting;
use crate::addrs::ip_of;
use crate::key::Key;

/// First octets of addresses: neither private nor shared, nor of a block that one organisation holds (the
/// registry of IANA).
const OCTETS: [(u8, u8); 3] = [(77, 99), (101, 126), (130, 168)];

/// How many IPv4 groups there are, derived from [`OCTETS`]: 88 first octets with 256 second ones.
const GROUPS: usize = 88 * 256;

/// The port of every node: the one that IPFS nodes listen on by default.
const PORT: u16 = 4001;

/// The network in which all are that are in one: outside [`OCTETS`] and public (chosen, not measured).
const ONE_NETWORK: [u8; 2] = [170, 1];

/// The first 16 bits of its like of IPv6: outside the block of the others (chosen, not measured).
const ONE_V6: u16 = 0x2a10;

/// The domain under which all are that are under one (RFC 2606).
const DOMAIN: &str = "example.org";

/// Returns the id of a node: it looks like that of an ed25519 key, which does not exist.
pub(super) fn peer_id(seed: u64, n: usize) -> PeerId {
    let mut preimage = [0; 16];
    preimage[..8].copy_from_slice(&seed.to_le_bytes());
    preimage[8..].copy_from_slice(&(n as u64).to_le_bytes());
    let mut digest = [0; 36];
    digest[..4].copy_from_slice(&[8, 1, 18, 32]);
    digest[4..].copy_from_slice(Key::sha256(&preimage).as_bytes());
    #[expect(clippy::expect_used, reason = "36 bytes fit an identity multihash, and up to 42 a peer id")]
    let id =
        Multihash::wrap(0, &digest).ok().and_then(|hash| PeerId::from_multihash(hash).ok()).expect("short");
    id
}

/// Where nodes listen: which address belongs to which number.
///
/// The nodes lie in as many IPv4 groups as there are, in turn. Where ideal tables could not hold so many of one group, those
/// beyond lie in IPv6 groups, each in its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    transport: Transport,
    hosting: Hosting,
    /// The first number that lies in an IPv6 group, if any does.
    first_v6: Option<usize>,
}

/// How many IPv6 groups there are, of /32 each: those of 2a00::/12, the largest block of one registry
/// (the registry of IANA).
const V6_GROUPS: usize = 16 << 16;

/// The first 16 bits of the first of them, derived from that block.
const V6_FIRST: u16 = 0x2a00;

impl Places {
    /// Chooses the places of so many nodes, of whose tables each takes at most `in_group` of a group, if they have such a
    /// limit and are to be ideal.
    pub(super) const fn new(
        (transport, hosting): (Transport, Hosting),
        nodes: usize,
        in_group: Option<usize>,
    ) -> Self {
        let first_v6 = match in_group {
            Some(in_group) if nodes > GROUPS * in_group => Some(GROUPS * in_group),
            Some(_) | None => None,
        };
        Self { transport, hosting, first_v6 }
    }

    /// Returns where a node listens. No two of the first 22,528 nodes share an IP group, if they are spread.
    pub(super) fn of(self, n: usize) -> Multiaddr {
        let [.., high, low] = n.to_be_bytes();
        let last = u16::from_be_bytes([high, low]);
        let [a, b] = ONE_NETWORK;
        match self.hosting {
            Hosting::Spread => self.spread(n),
            Hosting::OneNetwork => self.at_port(Protocol::Ip4(Ipv4Addr::new(a, b, high, low)), PORT),
            Hosting::OneAddress => {
                self.at_port(Protocol::Ip4(Ipv4Addr::new(a, b, 1, 1)), last.saturating_add(1))
            }
            Hosting::OneV6Network => self.at_port(
                Protocol::Ip6(Ipv6Addr::new(ONE_V6, 1, 0, 0, 0, 0, 0, last.saturating_add(1))),
                PORT,
            ),
            Hosting::OneRelay => self.behind_relay(last, 0),
            Hosting::RelaysOfOneHost => self.behind_relay(last, n),
            Hosting::OneDomain => self.at_port(Protocol::Dns4(format!("n{n}.{DOMAIN}").into()), PORT),
        }
    }

    /// Returns where a node listens that is hosted otherwise than the others.
    pub(super) fn hosted(self, n: usize, hosting: Hosting) -> Multiaddr {
        Self { hosting, ..self }.of(n)
    }

    fn behind_relay(self, port: u16, relay: usize) -> Multiaddr {
        let [a, b] = ONE_NETWORK;
        self.at_port(Protocol::Ip4(Ipv4Addr::new(a, b, 1, 2)), port.saturating_add(1))
            .with(Protocol::P2p(peer_id(u64::MAX, relay)))
            .with(Protocol::P2pCircuit)
    }

    fn spread(self, n: usize) -> Multiaddr {
        let Some(beyond) = self.first_v6.and_then(|first| n.checked_sub(first)) else {
            return self.in_v4(n);
        };
        let [.., high, low] = (beyond / V6_GROUPS + 1).to_be_bytes();
        let [.., group, a, b] = (beyond % V6_GROUPS).to_be_bytes();
        let first = V6_FIRST + u16::from(group);
        let [second, last] = [[a, b], [high, low]].map(u16::from_be_bytes);
        self.at_port(Protocol::Ip6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, last)), PORT)
    }

    /// Returns the address in an IPv4 group that belongs to a number, whichever node listens there.
    pub(super) fn in_v4(self, n: usize) -> Multiaddr {
        let (group, host) = (n % GROUPS, n / GROUPS + 1);
        let mut block = group / 256;
        let mut first = 0;
        for (from, to) in OCTETS {
            let len = usize::from(to - from) + 1;
            if block < len {
                first = from + u8::try_from(block).unwrap_or_default();
                break;
            }
            block -= len;
        }
        let [.., second] = group.to_be_bytes();
        let [.., third, fourth] = host.to_be_bytes();
        self.at_port(Protocol::Ip4(Ipv4Addr::new(first, second, third, fourth)), PORT)
    }

    fn at_port(self, host: Protocol<'static>, port: u16) -> Multiaddr {
        let host = Multiaddr::empty().with(host);
        match self.transport {
            Transport::Quic => host.with(Protocol::Udp(port)).with(Protocol::QuicV1),
            Transport::Tcp => host.with(Protocol::Tcp(port)),
        }
    }

    /// Returns the number to which an address belongs, if any.
    pub(super) fn number_of(self, address: &Multiaddr) -> Option<usize> {
        self.number_in_one(address).or_else(|| self.number_of_spread(address))
    }

    /// Returns the number to which an address belongs that has one owner with those of others.
    fn number_in_one(self, address: &Multiaddr) -> Option<usize> {
        let mut protocols = address.iter();
        let first = protocols.next()?;
        let mut port = || {
            let second = protocols.next()?;
            if let Protocol::Udp(port) | Protocol::Tcp(port) = second {
                usize::from(port).checked_sub(1)
            } else {
                None
            }
        };
        if let Protocol::Dns4(name) = first {
            return name.strip_suffix(DOMAIN)?.strip_suffix('.')?.strip_prefix('n')?.parse().ok();
        }
        match ip_of(address)? {
            IpAddr::V4(ip) => {
                let [a, b, high, low] = ip.octets();
                if [a, b] != ONE_NETWORK {
                    None
                } else if self.hosting == Hosting::OneNetwork {
                    Some(usize::from(u16::from_be_bytes([high, low])))
                } else {
                    port()
                }
            }
            IpAddr::V6(ip) => {
                let [first, second, .., last] = ip.segments();
                (first == ONE_V6 && second == 1).then(|| usize::from(last).checked_sub(1))?
            }
        }
    }

    fn number_of_spread(self, address: &Multiaddr) -> Option<usize> {
        let first = address.iter().next()?;
        if let Protocol::Ip4(ip) = first {
            number_in_v4(ip)
        } else if let Protocol::Ip6(ip) = first {
            let [first, second, .., last] = ip.segments();
            let group = usize::from(first.checked_sub(V6_FIRST)?) << 16 | usize::from(second);
            let host = usize::from(last).checked_sub(1)?;
            (group < V6_GROUPS).then_some(host * V6_GROUPS + group)?.checked_add(self.first_v6?)
        } else {
            None
        }
    }
}

/// Returns a number whose IPv4 address is of the group of the number `n`, where that one's is the first.
pub(super) const fn in_group(n: usize, at: usize) -> usize {
    n + at * GROUPS
}

fn number_in_v4(ip: Ipv4Addr) -> Option<usize> {
    let [first, second, third, fourth] = ip.octets();
    let mut block = 0;
    for (from, to) in OCTETS {
        if (from..=to).contains(&first) {
            let group = (block + usize::from(first - from)) * 256 + usize::from(second);
            let host = usize::from(third) * 256 + usize::from(fourth);
            return Some(host.checked_sub(1)? * GROUPS + group);
        }
        block += usize::from(to - from) + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addrs::{Groups, IpGroup, Reach};
    use crate::sim::scenario::{Scenario, Start};
    use crate::sim::world::World;
    use crate::store::MemoryStoreConfig;
    use crate::time::Duration;
    use std::collections::{BTreeMap, BTreeSet};

    fn places(nodes: usize, in_group: usize) -> Places {
        Places::new((Transport::Quic, Hosting::Spread), nodes, Some(in_group))
    }

    #[test]
    fn addresses_lead_back_and_lie_in_groups_of_their_own() {
        let mut groups = BTreeSet::new();
        for n in (0..GROUPS).step_by(7).chain([GROUPS, 25_000, 99_999, 1_000_000]) {
            for transport in [Transport::Quic, Transport::Tcp] {
                let places = Places::new((transport, Hosting::Spread), 2 * GROUPS, Some(2));
                let address = places.of(n);
                assert_eq!(places.number_of(&address), Some(n), "{address}");
                assert_eq!(Reach::of(&address), Reach::World);
            }
            let group = IpGroup::of(&places(1, 2).of(n)).unwrap();
            assert!(matches!(group, IpGroup::V4(_)));
            groups.insert(group);
        }
        assert_eq!(
            groups.len(),
            GROUPS.div_ceil(7) + 4
                - [GROUPS, 25_000, 99_999, 1_000_000]
                    .iter()
                    .filter(|n| (**n % GROUPS).is_multiple_of(7))
                    .count()
        );
        let number = |address: &str| places(1, 2).number_of(&address.parse().unwrap());
        assert_eq!(number("/ip4/8.8.8.8/tcp/1"), None);
        assert_eq!(number("/ip4/77.0.0.0/tcp/1"), None);
        assert_eq!(number("/ip6/2a00::1/tcp/1"), None, "there are none in so small a network");
    }

    /// Up to what was possible before nothing moves; beyond, no group has more than a table takes.
    #[test]
    fn large_ideal_networks_have_groups_enough_and_small_ones_keep_their_addresses() {
        let written = |places: Places, n: usize| places.of(n).to_string();
        for (n, expected) in [
            (0, "/ip4/77.0.0.1/udp/4001/quic-v1"),
            (22_527, "/ip4/168.255.0.1/udp/4001/quic-v1"),
            (45_055, "/ip4/168.255.0.2/udp/4001/quic-v1"),
            (45_056, "/ip4/77.0.0.3/udp/4001/quic-v1"),
        ] {
            for places in [places(45_056, 2), Places::new((Transport::Quic, Hosting::Spread), 200_000, None)]
            {
                assert_eq!(written(places, n), expected);
            }
        }
        for (nodes, in_group) in [(22_529, 1), (45_057, 2), (200_000, 2), (1_000_000, 1)] {
            let large = places(nodes, in_group);
            assert_eq!(written(large, GROUPS * in_group), "/ip6/2a00::1/udp/4001/quic-v1");
            let mut groups = BTreeMap::new();
            for n in 0..nodes {
                let address = large.of(n);
                assert_eq!(large.number_of(&address), Some(n), "{address}");
                assert_eq!(Reach::of(&address), Reach::World);
                *groups.entry(IpGroup::of(&address).unwrap()).or_insert(0) += 1;
            }
            assert_eq!(groups.values().max(), Some(&in_group), "{nodes}");
        }
        // Newcomers beyond the last group share them.
        let last = places(45_057, 2).of(45_056 + V6_GROUPS);
        assert_eq!(last.to_string(), "/ip6/2a00::2/udp/4001/quic-v1");
        assert_eq!(places(45_057, 2).number_of(&last), Some(45_056 + V6_GROUPS));
    }

    /// As in a large network, but with few nodes: most lie in IPv6 groups, and are dialled there.
    #[test]
    fn nodes_in_groups_of_both_kinds_find_each_other() {
        for start in [Start::Ideal, Start::Join { every: Duration::from_millis(100), seeds: 1 }] {
            let scenario = Scenario { nodes: 60, start, ..Scenario::default() };
            let mut world = World::empty(&scenario, MemoryStoreConfig::default());
            let network = std::sync::Arc::make_mut(&mut world.network);
            network.places =
                Places { transport: Transport::Quic, hosting: Hosting::Spread, first_v6: Some(10) };
            assert!(world.set_up(&scenario, &mut |_, _| true));
            for asker in [3, 50] {
                world.look_up(asker, b"any bytes");
            }
            assert!(world.run_until_answered(Duration::from_secs(20)));
            for outcome in world.outcomes() {
                assert!(outcome.recall >= 1.0 && outcome.success, "{outcome:?}");
            }
            world.check().unwrap();
        }
    }

    #[test]
    fn ids_differ_and_follow_from_the_seed() {
        let ids: BTreeSet<_> = (0..100).map(|n| peer_id(1, n)).collect();
        assert_eq!(ids.len(), 100);
        assert_eq!(peer_id(1, 5), peer_id(1, 5));
        assert_ne!(peer_id(1, 5), peer_id(2, 5));
        assert_eq!(peer_id(1, 5).to_bytes().len(), 38);
    }

    #[test]
    fn wherever_all_are_their_addresses_differ_and_lead_back_to_them() {
        let one = [
            Hosting::OneNetwork,
            Hosting::OneAddress,
            Hosting::OneV6Network,
            Hosting::OneRelay,
            Hosting::RelaysOfOneHost,
            Hosting::OneDomain,
        ];
        for hosting in one {
            for transport in [Transport::Quic, Transport::Tcp] {
                let places = Places::new((transport, hosting), 1000, Some(2));
                let groups: BTreeSet<_> =
                    (0..1000).map(|n| Groups::of(&places.of(n), IpGroup::of_ip).charged()).collect();
                assert_eq!(groups.len(), 1, "{hosting:?}");
                if hosting != Hosting::OneNetwork {
                    let elsewhere = Places::new((transport, Hosting::Spread), 1000, Some(2));
                    assert_eq!(elsewhere.number_of(&elsewhere.hosted(77, hosting)), Some(77), "{hosting:?}");
                }
                for n in [0, 1, 255, 256, 59_999] {
                    let address = places.of(n);
                    assert_eq!(places.number_of(&address), Some(n), "{address}");
                    assert_eq!(Reach::of(&address), Reach::World);
                }
                assert_eq!(places.number_of(&places.in_v4(77)), Some(77), "a newcomer that is elsewhere");
            }
        }
    }
}
