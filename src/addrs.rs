//! Addresses: a bounded, cheaply shared list of a peer's addresses, where an address reaches, and its IP group.
//!
//! Knows nothing else of the crate: neither who has an address nor who may be told of it.

#[cfg(feature = "fuzzing")]
pub(crate) mod door;
mod groups;
mod origin;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;

pub(crate) use groups::proven_ip_of;
pub use groups::{Groups, IpGroup};
pub(crate) use origin::{ConnectionOrigin, relay_of};

/// How many addresses of one peer are kept: 16. More are dropped, those that were reported last first. Chosen, not measured.
pub const MAX_ADDRESSES: usize = 16;

/// How many bytes one address may have: 512. A longer one is dropped; relayed WebTransport addresses have some 250.
/// Chosen, not measured.
pub const MAX_ADDRESS_BYTES: usize = 512;

/// What an address of IPv4 begins with in bytes (multicodec `ip4`).
const IP4: u8 = 0x04;

/// The addresses of one peer: unique, in order of preference, at most [`MAX_ADDRESSES`], without a `/p2p` suffix.
///
/// A clone shares the list, so that an answer which names a peer copies none of its addresses.
///
/// Differs from `libp2p-kad`'s type of this name: it may be empty, and its addresses carry no `/p2p/<id>`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Addresses {
    list: Arc<[Multiaddr]>,
    /// Of all of them: whether any has to be left out is asked of every peer that is named, whether one has seldom.
    reaches: Reaches,
}

impl FromIterator<Multiaddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = Multiaddr>>(addresses: I) -> Self {
        let list: Arc<[Multiaddr]> = addresses.into_iter().collect();
        let reaches = Reaches::of(&list);
        Self { list, reaches }
    }
}

impl Addresses {
    /// Returns the list without an address; it takes no memory.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the list with one address.
    pub fn new(address: Multiaddr) -> Self {
        std::iter::once(address).collect()
    }

    /// Collects the addresses of `peer`, leaving out what [`clean`] refuses, duplicates, and what is too much.
    pub fn collect(peer: &PeerId, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        Self::empty().merged(addresses.into_iter().filter_map(|address| clean(address, peer)))
    }

    /// Takes addresses that are already clean, unique and few enough.
    ///
    /// Drains them, so that a list that serves for many peers is allocated once.
    pub(crate) fn from_clean(addresses: &mut Vec<Multiaddr>) -> Self {
        debug_assert!(addresses.len() <= MAX_ADDRESSES);
        addresses.drain(..).collect()
    }

    /// Returns this list with clean addresses added behind it, as far as there is room; shares it if nothing is new.
    #[must_use]
    pub(crate) fn merged(&self, more: impl IntoIterator<Item = Multiaddr>) -> Self {
        let mut all: Option<Vec<Multiaddr>> = None;
        for address in more {
            let known = all.as_deref().unwrap_or(&self.list);
            if known.len() < MAX_ADDRESSES && !known.contains(&address) {
                all.get_or_insert_with(|| self.list.to_vec()).push(address);
            }
        }
        all.map_or_else(|| self.clone(), |all| all.into_iter().collect())
    }

    /// Returns this list with another behind it, as far as there is room; shares the other if that says it all.
    #[must_use]
    pub(crate) fn joined(&self, other: &Self) -> Self {
        if self.list.iter().all(|address| other.list.first() == Some(address)) {
            // Nothing, or what the other begins with.
            return other.clone();
        }
        self.merged(other.iter().cloned())
    }

    /// Returns this list, or the other if it is the same, so that there is one of them.
    #[must_use]
    pub(crate) fn shared_with(self, other: &Self) -> Self {
        if self == *other { other.clone() } else { self }
    }

    /// Returns this list with a reported address put behind the preferred one; the last one makes room if there is none.
    #[must_use]
    pub(crate) fn with_reported(&self, address: Multiaddr) -> Self {
        if self.list.contains(&address) {
            return self.clone();
        }
        let (preferred, others) = self.list.split_at(self.list.len().min(1));
        let others = others.iter().take(MAX_ADDRESSES - 1 - preferred.len());
        preferred.iter().chain([&address]).chain(others).cloned().collect()
    }

    /// Returns this list with `address` moved or added to the front; the last one makes room if there is none.
    #[must_use]
    pub(crate) fn preferring(&self, address: &Multiaddr) -> Self {
        if self.list.first() == Some(address) {
            return self.clone();
        }
        let others = self.list.iter().filter(|known| *known != address).take(MAX_ADDRESSES - 1);
        std::iter::once(address).chain(others).cloned().collect()
    }

    /// Returns this list without `address`.
    #[must_use]
    pub(crate) fn without(&self, address: &Multiaddr) -> Self {
        if !self.list.contains(address) {
            return self.clone();
        }
        self.iter().filter(|known| *known != address).cloned().collect()
    }

    /// Returns the addresses that may be told to a peer whose connection reaches so far: those of special ranges only within
    /// them. Shares the list unless there is such an address.
    #[must_use]
    pub(crate) fn told_to(&self, reach: Reach) -> Self {
        self.only(|known| reach == Reach::Special || known != Reach::Special)
    }

    /// Returns the addresses at which a peer can reach others whose connection reaches so far; shares the list if it is all of them.
    #[must_use]
    pub(crate) fn reachable_by(&self, reach: Reach) -> Self {
        self.only(|known| reach == Reach::Special || known >= reach)
    }

    /// Returns the addresses that a peer can know of whose connection reaches so far; shares the list if it is all of them.
    #[must_use]
    pub(crate) fn within(&self, reach: Reach) -> Self {
        // A peer of a special range knows nothing of this machine or site for that.
        self.only(|known| {
            if reach == Reach::Special { known == reach || known == Reach::World } else { known >= reach }
        })
    }

    /// Returns the addresses that reach at least so far; shares the list if it is all of them.
    #[must_use]
    pub(crate) fn reaching(&self, reach: Reach) -> Self {
        self.only(|known| known >= reach)
    }

    /// Returns the addresses whose reach is to be kept; shares the list if it is all of them.
    fn only(&self, keep: impl Fn(Reach) -> bool) -> Self {
        if self.reaches.iter().all(&keep) {
            return self.clone();
        }
        self.iter().filter(|address| keep(Reach::of(address))).cloned().collect()
    }

    /// Returns the preferred address.
    pub fn first(&self) -> Option<&Multiaddr> {
        self.list.first()
    }

    /// Iterates over the addresses in order of preference.
    pub fn iter(&self) -> std::slice::Iter<'_, Multiaddr> {
        self.list.iter()
    }

    /// Returns the number of addresses.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there is no address.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds an address as the last one. Returns whether it was added: it was not there, and there was room.
    pub fn insert(&mut self, address: Multiaddr) -> bool {
        let merged = self.merged([address]);
        let is_added = merged.len() > self.len();
        *self = merged;
        is_added
    }

    /// Removes an address, if it is there.
    ///
    /// # Errors
    /// `Err(())` if it is the only one, which stays.
    #[expect(clippy::result_unit_err, reason = "the signature of `libp2p-kad`")]
    pub fn remove(&mut self, address: &Multiaddr) -> Result<(), ()> {
        let left = self.without(address);
        if left.is_empty() && !self.is_empty() {
            return Err(());
        }
        *self = left;
        Ok(())
    }

    /// Puts an address in the place of another. Returns whether that one was there.
    pub fn replace(&mut self, old: &Multiaddr, new: &Multiaddr) -> bool {
        let is_there = self.list.contains(old);
        if is_there {
            let mut all = Self::empty();
            for address in self.iter() {
                all.insert(if address == old { new.clone() } else { address.clone() });
            }
            *self = all;
        }
        is_there
    }

    /// Copies the addresses into a vector.
    pub fn into_vec(self) -> Vec<Multiaddr> {
        self.list.to_vec()
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Addresses {
    type Item = &'a Multiaddr;
    type IntoIter = std::slice::Iter<'a, Multiaddr>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Returns an address of `peer` as it is kept, without a `/p2p` suffix, or `None` if it is none of that peer's.
///
/// Refused are an empty address, one longer than [`MAX_ADDRESS_BYTES`], one that ends in another peer's id or in two, and
/// one that cannot be dialled: an unspecified, multicast or broadcast IP address, or port 0.
pub fn clean(address: Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
    let (address, named) = without_peer(address);
    if named.is_some_and(|named| named != *peer) {
        return None;
    }
    let fits = !address.is_empty() && address.len() <= MAX_ADDRESS_BYTES;
    (fits && is_dialable(&address)).then_some(address)
}

/// Returns whether the address, which is without a `/p2p` suffix, can be dialled at all, as far as it tells.
pub(crate) fn is_dialable(address: &Multiaddr) -> bool {
    let somewhere = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast()),
    };
    let at_no_port = |protocol| {
        // What a listener binds to so as to be given another.
        matches!(protocol, Protocol::Tcp(0) | Protocol::Udp(0) | Protocol::Memory(0))
    };
    // Behind one that was cut off there may be another, under which the swarm would report the address as another one.
    let ends_in_peer = matches!(address.iter().last(), Some(Protocol::P2p(_)));
    ip_of(address).is_none_or(somewhere) && !address.iter().any(at_no_port) && !ends_in_peer
}

/// Returns the address without a `/p2p` suffix, and the peer that it names.
pub(crate) fn without_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let Some(Protocol::P2p(peer)) = address.iter().last() else { return (address, None) };
    address.pop();
    (address, Some(peer))
}

/// Returns the IP address with which the address begins, behind the zone that one of IPv6 may have.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    // Nearly all begin so, and all that a peer names are looked at.
    if let [IP4, a, b, c, d, ..] = address.as_ref() {
        return Some(IpAddr::from([*a, *b, *c, *d]));
    }
    let first = address.iter().find(|protocol| !matches!(protocol, Protocol::Ip6zone(_)))?;
    if let Protocol::Ip4(ip) = first {
        Some(ip.into())
    } else if let Protocol::Ip6(ip) = first {
        Some(ip.into())
    } else {
        None
    }
}

/// Returns whether an IP address lies in a network: an address of it, and the length of its prefix in bits.
pub(crate) fn is_within(ip: IpAddr, (net, prefix): (IpAddr, u8)) -> bool {
    let bits = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, true),
        IpAddr::V6(ip) => (ip.to_bits(), false),
    };
    let ((net, net_v4), (ip, ip_v4)) = (bits(net), bits(ip));
    net_v4 == ip_v4 && (net ^ ip).leading_zeros() >= u32::from(prefix)
}

/// Returns whether the address leads through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|protocol| protocol == Protocol::P2pCircuit)
}

/// The way an address leads to a peer; ordered from the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    /// Straight to it.
    Direct,
    /// By a name that has to be resolved first.
    Named,
    /// Through a relay.
    Relayed,
}

impl Way {
    pub(crate) fn of(address: &Multiaddr) -> Self {
        if is_relayed(address) {
            return Self::Relayed;
        }
        match address.iter().next() {
            Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => {
                Self::Named
            }
            Some(_) | None => Self::Direct,
        }
    }
}

/// The reach of an address: from how far away it can be dialled; ordered from near to far.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reach {
    /// From nowhere that is known: ranges reserved for documentation, benchmarks, tunnels and the future (RFC 6890), which
    /// some laboratories use.
    Special,
    /// From the same machine: loopback and in-memory addresses.
    Machine,
    /// From the same site: private, shared, link-local and unique-local addresses.
    Site,
    /// From anywhere, as far as the address tells.
    World,
}

impl Reach {
    /// Returns how far an address reaches, judged by its first component, or by the IP address behind a zone.
    pub fn of(address: &Multiaddr) -> Self {
        if let Some(ip) = ip_of(address) {
            return Self::of_ip(ip);
        }
        match address.iter().next() {
            Some(Protocol::Memory(_) | Protocol::Unix(_)) => Self::Machine,
            Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
                if name == "localhost" || name.ends_with(".localhost") {
                    Self::Machine
                } else if name.ends_with(".local") {
                    Self::Site
                } else {
                    Self::World
                }
            }
            Some(_) | None => Self::World,
        }
    }

    pub(crate) fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) if ip.is_loopback() || ip.is_unspecified() => Self::Machine,
            IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || is_shared(ip) => Self::Site,
            IpAddr::V6(ip) if ip.is_loopback() || ip.is_unspecified() => Self::Machine,
            IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Self::Site,
            IpAddr::V4(ip) if is_special_v4(ip) => Self::Special,
            IpAddr::V6(ip) if is_special_v6(ip) => Self::Special,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::World,
        }
    }
}

/// A set of reaches: those of the addresses of a list.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Reaches(u8);

impl Reaches {
    fn of(addresses: &[Multiaddr]) -> Self {
        Self(addresses.iter().fold(0, |all, address| all | 1 << Reach::of(address) as u8))
    }

    fn iter(self) -> impl Iterator<Item = Reach> {
        let all = [Reach::Special, Reach::Machine, Reach::Site, Reach::World];
        all.into_iter().filter(move |reach| self.0 & 1 << *reach as u8 != 0)
    }
}

/// Whether the address is of a reserved range (RFC 6890), those of a machine or a site aside.
const fn is_special_v4(ip: Ipv4Addr) -> bool {
    match ip.octets() {
        // This network · protocol assignments, and an example · 6to4 relays · benchmarks · examples · multicast, reserved.
        [0, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => true,
        [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => true,
        _ => false,
    }
}

/// Whether the address is none of a host on the Internet: outside 2000::/3, or an example, a benchmark or a tunnel.
const fn is_special_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // Protocol assignments with Teredo · examples · 6to4 · examples (RFC 9637).
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => true,
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

/// Whether the address is of 100.64.0.0/10, which providers share among customers (RFC 6598).
const fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn peer(seed: u8) -> PeerId {
        let digest = libp2p_core::multihash::Multihash::wrap(0, &[seed; 32]).unwrap();
        PeerId::from_multihash(digest).unwrap()
    }

    #[test]
    fn whoever_was_met_in_a_special_range_names_nothing_of_this_machine_or_site() {
        let all: Addresses =
            ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/198.18.0.1/tcp/1", "/ip4/1.2.3.4/tcp/1"]
                .iter()
                .fold(Addresses::empty(), |all, text| all.merged([text.parse::<Multiaddr>().unwrap()]));
        let kept = |reach| all.within(reach).iter().map(Reach::of).collect::<Vec<_>>();
        assert_eq!(kept(Reach::Special), [Reach::Special, Reach::World]);
        assert_eq!(kept(Reach::Machine), [Reach::Machine, Reach::Site, Reach::World]);
        assert_eq!(kept(Reach::Site), [Reach::Site, Reach::World]);
        assert_eq!(kept(Reach::World), [Reach::World]);
    }

    #[test]
    fn suffix_is_cut_and_foreign_addresses_are_refused() {
        let (own, other) = (peer(1), peer(2));
        let plain = address("/ip4/1.2.3.4/tcp/1");
        assert_eq!(clean(plain.clone(), &own), Some(plain.clone()));
        assert_eq!(clean(plain.clone().with(Protocol::P2p(own)), &own), Some(plain.clone()));
        assert_eq!(clean(plain.clone().with(Protocol::P2p(other)), &own), None);
        for first in [own, other] {
            let twice = plain.clone().with(Protocol::P2p(first)).with(Protocol::P2p(own));
            assert_eq!(clean(twice, &own), None);
        }
        assert_eq!(clean(Multiaddr::empty(), &own), None);
        assert_eq!(clean(Multiaddr::empty().with(Protocol::P2p(own)), &own), None);
        let relayed = plain.with(Protocol::P2p(other)).with(Protocol::P2pCircuit);
        assert!(is_relayed(&relayed));
        assert_eq!(clean(relayed.clone().with(Protocol::P2p(own)), &own), Some(relayed));
        let long = address(&format!("/dns4/{}/tcp/1", "a".repeat(MAX_ADDRESS_BYTES)));
        assert_eq!(clean(long, &own), None);
    }

    #[test]
    fn the_list_is_bounded_unique_and_shared() {
        let all: Vec<_> = (1..=100u16).map(|port| address(&format!("/ip4/1.2.3.4/tcp/{port}"))).collect();
        let list = Addresses::collect(&peer(1), all.iter().chain(&all).cloned());
        assert_eq!(list.len(), MAX_ADDRESSES);
        assert_eq!(list.clone().into_vec(), all[..MAX_ADDRESSES]);
        let same = list.merged(all[..3].iter().cloned());
        assert!(Arc::ptr_eq(&same.list, &list.list), "nothing new, nothing copied");
        let moved = list.preferring(&all[50]);
        assert_eq!((moved.first(), moved.len()), (Some(&all[50]), MAX_ADDRESSES));
        assert_eq!(moved.preferring(&all[3]).first(), Some(&all[3]));
        let reported = list.with_reported(all[60].clone());
        assert_eq!((reported.first(), reported.iter().nth(1)), (Some(&all[0]), Some(&all[60])));
        assert_eq!(
            (reported.len(), Addresses::empty().with_reported(all[1].clone()).len()),
            (MAX_ADDRESSES, 1)
        );
        assert!(!list.without(&all[0]).iter().any(|a| *a == all[0]));
        assert!(Addresses::empty().is_empty());
    }

    #[test]
    fn a_list_can_be_changed_by_hand() {
        let all: Vec<_> = (1..=20u16).map(|port| address(&format!("/ip4/1.2.3.4/tcp/{port}"))).collect();
        let mut list = Addresses::new(all[0].clone());
        assert_eq!((list.remove(&all[1]), list.remove(&all[0]), list.len()), (Ok(()), Err(()), 1));
        let added = all.iter().filter(|address| list.insert((*address).clone())).count();
        assert_eq!((added, list.len()), (MAX_ADDRESSES - 1, MAX_ADDRESSES));
        let before = list.clone();
        assert!(list.replace(&all[1], &all[19]) && !list.replace(&all[1], &all[18]));
        assert_eq!(
            (list.iter().nth(1), list.len(), before.iter().nth(1)),
            (Some(&all[19]), 16, Some(&all[1]))
        );
        assert!(list.replace(&all[19], &all[0]));
        assert_eq!(list.len(), 15, "no address stands twice");
        assert_eq!((list.remove(&all[0]), list.first()), (Ok(()), Some(&all[2])));
    }

    #[test]
    fn reach_is_judged_by_the_first_component() {
        for (text, reach) in [
            ("/ip4/127.0.0.1/tcp/1", Reach::Machine),
            ("/ip6/::1/udp/1/quic-v1", Reach::Machine),
            ("/memory/7", Reach::Machine),
            ("/dns4/localhost/tcp/1", Reach::Machine),
            ("/ip4/10.1.2.3/tcp/1", Reach::Site),
            ("/ip4/100.64.0.1/tcp/1", Reach::Site),
            ("/ip4/169.254.0.1/tcp/1", Reach::Site),
            ("/ip6/fe80::1/tcp/1", Reach::Site),
            ("/ip6/fd00::1/tcp/1", Reach::Site),
            ("/dns/printer.local/tcp/1", Reach::Site),
            ("/ip4/100.128.0.1/tcp/1", Reach::World),
            ("/ip4/1.2.3.4/tcp/1", Reach::World),
            ("/ip6/2606:4700::1/tcp/1", Reach::World),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Reach::Site),
            ("/ip6zone/eth0/ip6/fe80::1/tcp/1", Reach::Site),
            ("/dns/example.com/tcp/1", Reach::World),
        ] {
            assert_eq!(Reach::of(&address(text)), reach, "{text}");
        }
        assert!(
            Reach::Special < Reach::Machine && Reach::Machine < Reach::Site && Reach::Site < Reach::World
        );
    }

    #[test]
    fn reserved_ranges_are_not_public() {
        let special = [
            "0.1.2.3",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.255",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ];
        for ip in special {
            assert_eq!(Reach::of(&address(&format!("/ip4/{ip}/tcp/1"))), Reach::Special, "{ip}");
        }
        for ip in
            ["2001:db8::1", "2001::1", "2001:1ff::1", "2002::1", "3fff::1", "100::1", "64:ff9b::1", "ff02::1"]
        {
            assert_eq!(Reach::of(&address(&format!("/ip6/{ip}/tcp/1"))), Reach::Special, "{ip}");
        }
        // Their neighbours are.
        for ip in
            ["1.0.0.0", "192.0.1.1", "192.0.3.1", "192.88.98.1", "198.17.0.1", "198.20.0.1", "223.0.0.1"]
        {
            assert_eq!(Reach::of(&address(&format!("/ip4/{ip}/tcp/1"))), Reach::World, "{ip}");
        }
        for ip in ["2001:200::1", "2001:db9::1", "2003::1", "3fff:1000::1", "2000::1"] {
            assert_eq!(Reach::of(&address(&format!("/ip6/{ip}/tcp/1"))), Reach::World, "{ip}");
        }
    }

    #[test]
    fn what_is_special_is_told_within_its_range_only() {
        let [special, world] = ["/ip4/198.18.0.1/tcp/1", "/ip4/1.2.3.4/tcp/1"].map(address);
        let both = Addresses::collect(&peer(1), [special, world.clone()]);
        let public = Addresses::collect(&peer(1), [world]);
        for reach in [Reach::Machine, Reach::Site, Reach::World] {
            assert_eq!(both.told_to(reach), public);
        }
        assert!(Arc::ptr_eq(&both.told_to(Reach::Special).list, &both.list));
        assert!(Arc::ptr_eq(&public.told_to(Reach::World).list, &public.list), "nothing is copied");
    }

    #[test]
    fn what_nobody_can_dial_is_refused() {
        for text in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip6/::/udp/1/quic-v1",
            "/ip6/::ffff:0.0.0.0/tcp/1",
            "/ip4/1.2.3.4/tcp/0",
            "/ip4/1.2.3.4/udp/0/quic-v1",
            "/dns4/example.com/tcp/0/wss",
            "/ip4/224.0.0.251/udp/5353/quic-v1",
            "/ip4/255.255.255.255/tcp/1",
            "/ip6/ff02::1/tcp/1",
            "/ip6zone/eth0/ip6/ff02::1/tcp/1",
            "/memory/0",
        ] {
            assert_eq!(clean(address(text), &peer(1)), None, "{text}");
        }
        for text in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/198.18.0.1/tcp/1",
            "/ip6zone/eth0/ip6/fe80::1/tcp/1",
            "/memory/1",
            "/dns/example.com/tcp/443/wss",
            "/dnsaddr/example.com",
            "/unix/tmp",
        ] {
            assert_eq!(clean(address(text), &peer(1)), Some(address(text)), "{text}");
        }
    }

    #[test]
    fn groups() {
        let group = |text: &str| IpGroup::of(&address(text));
        assert_eq!(group("/ip4/1.2.3.4/tcp/1"), Some(IpGroup::V4([1, 2])));
        assert_eq!(group("/ip4/1.2.3.4/tcp/1"), group("/ip4/1.2.200.4/udp/9/quic-v1"));
        assert_ne!(group("/ip4/1.2.3.4/tcp/1"), group("/ip4/1.3.3.4/tcp/1"));
        assert_eq!(group("/ip4/17.1.0.1/tcp/1"), group("/ip4/17.200.0.1/tcp/1"));
        assert_eq!(group("/ip6/::ffff:1.2.3.4/tcp/1"), Some(IpGroup::V4([1, 2])));
        // Not all of IPv6 in one group.
        assert_eq!(group("/ip6/2001:db8:1::1/tcp/1"), group("/ip6/2001:db8:2::1/tcp/1"));
        assert_ne!(group("/ip6/2001:db8:1::1/tcp/1"), group("/ip6/2001:db9:1::1/tcp/1"));
        assert_eq!(group("/dns4/a.example.com/tcp/1"), group("/dns6/b.Example.com./tcp/1"));
        assert_ne!(group("/dns4/a.example.com/tcp/1"), group("/dns4/a.example.org/tcp/1"));
        assert_eq!(group("/dns4/com/tcp/1"), group("/dns6/com/tcp/2"));
        for none in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.1.1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/memory/1",
            "/dns/localhost/tcp/1",
        ] {
            assert_eq!(group(none), None, "{none}");
        }
    }
}
