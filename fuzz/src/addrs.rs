//! Addresses as peers claim them: what is kept of them, what they tell, and lists of them.

use std::net::IpAddr;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kademlia::Addresses;
use libp2p_kademlia::addrs::{Groups, IpGroup, MAX_ADDRESS_BYTES, MAX_ADDRESSES, Reach, clean};
use libp2p_kademlia::fuzzing::{
    ListStep, ip_of, is_within, pack_addresses, packed_addresses, proven_ip_of, proves, relay_of,
    rewritten_charge, rewritten_group, way, without_peer,
};

fn peer(n: u8) -> PeerId {
    let digest = Multihash::wrap(0, &[n; 32]).expect("it fits");
    PeerId::from_multihash(digest).expect("an identity hash is an id")
}

/// Reads the bytes as addresses, as text or in their binary form, and as what the store packs.
pub fn addrs(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    packed(rest);
    let all = if kind % 2 == 0 { lines(rest) } else { parts(rest) };
    for address in &all {
        told(address);
        kept(address);
        for other in &all {
            // Whoever can be told to be somewhere is there, and not somewhere else.
            let (one, two) = (proven_ip_of(address), proven_ip_of(other));
            if way(address) != 2 && way(other) != 2 && one.is_some() && two.is_some() {
                let is_same = one.map(|ip| ip.to_canonical()) == two.map(|ip| ip.to_canonical());
                assert_eq!(proves(address, other), Some(is_same), "{address} {other}");
            }
        }
    }
    lists(&all, *kind);
}

fn lines(bytes: &[u8]) -> Vec<Multiaddr> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().take(2 * MAX_ADDRESSES).filter_map(|line| line.parse().ok()).collect()
}

/// Reads parts that are led by their length, two bytes.
fn parts(mut bytes: &[u8]) -> Vec<Multiaddr> {
    let mut all = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>()
        && all.len() < 2 * MAX_ADDRESSES
    {
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        all.extend(Multiaddr::try_from(part.to_vec()));
        bytes = rest;
    }
    all
}

/// What can be read of packed bytes stands there as it would be written.
fn packed(bytes: &[u8]) {
    if let Some(all) = packed_addresses(bytes) {
        assert_eq!(pack_addresses(&all), bytes);
    }
    if let Some(charge) = rewritten_charge(bytes) {
        assert_eq!(rewritten_charge(&charge).as_deref(), Some(&*charge));
    }
    if let Some(group) = rewritten_group(bytes) {
        assert_eq!(group, bytes);
    }
}

/// Holds what is told of an address against what its components say.
fn told(address: &Multiaddr) {
    let protocols: Vec<_> = address.iter().collect();
    let first = protocols.iter().find(|protocol| !matches!(protocol, Protocol::Ip6zone(_)));
    let ip = match first {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::V4(*ip)),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::V6(*ip)),
        Some(_) | None => None,
    };
    assert_eq!(ip_of(address), ip, "{address}");
    let proven = proven_ip_of(address);
    assert!(ip.is_none() || proven == ip, "{address}");

    let group = IpGroup::of(address);
    if let Some(ip) = proven {
        assert_eq!(group, IpGroup::of_ip(ip), "{address}");
        for prefix in 0..=128 {
            assert!(is_within(ip, (ip, prefix)), "{ip}/{prefix}");
        }
    }
    assert!(group.is_none_or(|group| !matches!(group, IpGroup::Named | IpGroup::Relayed)), "{address}");
    if ip.is_some() || proven.is_none() {
        let is_near = matches!(Reach::of(address), Reach::Machine | Reach::Site);
        assert!(!is_near || group.is_none(), "{address}");
    }
    let of = Groups::of(address, IpGroup::of_ip);
    assert!(of.iter().count() <= 2 && of.iter().next().is_none() == of.charged().is_none(), "{address}");

    let circuit = protocols.iter().rposition(|protocol| *protocol == Protocol::P2pCircuit);
    let before = circuit.and_then(|at| {
        protocols[..at].iter().rev().find_map(|protocol| match protocol {
            Protocol::P2p(peer) => Some(*peer),
            _ => None,
        })
    });
    assert_eq!(relay_of(address), before, "{address}");
    assert_eq!(way(address) == 2, circuit.is_some(), "{address}");
    assert!(circuit.is_none() || of.charged() == Some(IpGroup::Relayed), "{address}");
    assert!(proves(address, address).is_none_or(|is_there| is_there || proven.is_none()), "{address}");
}

/// What is kept of an address is kept again, and is nobody else's.
fn kept(address: &Multiaddr) {
    let (rest, named) = without_peer(address.clone());
    let whole = named.map_or_else(|| rest.clone(), |named| rest.clone().with(Protocol::P2p(named)));
    assert_eq!(whole, *address);
    for owner in [peer(1), named.unwrap_or(peer(2))] {
        let Some(kept) = clean(address.clone(), &owner) else { continue };
        assert_eq!(kept, rest);
        assert!(named.is_none_or(|named| named == owner), "{address}");
        assert!((1..=MAX_ADDRESS_BYTES).contains(&kept.len()), "{address}");
        assert!(!matches!(kept.iter().last(), Some(Protocol::P2p(_))), "{address}");
        assert_eq!(clean(kept.clone(), &owner).as_ref(), Some(&kept));
        assert_eq!(clean(kept.clone().with(Protocol::P2p(owner)), &owner).as_ref(), Some(&kept));
        assert_eq!(clean(kept.clone().with(Protocol::P2p(peer(9))), &owner), None);
    }
}

/// Does steps with a list, and holds each against what it says it does.
fn lists(all: &[Multiaddr], kind: u8) {
    let owner = peer(1);
    let mut list = Addresses::collect(&owner, all.iter().cloned());
    sound(&list);
    assert!(list.iter().all(|kept| clean(kept.clone(), &owner).as_ref() == Some(kept)));
    let other = Addresses::collect(&owner, all.iter().rev().take(usize::from(kind >> 4)).cloned());
    let reaches = [Reach::Special, Reach::Machine, Reach::Site, Reach::World];
    for reach in reaches {
        let near = |known: &Reach| *known >= reach || reach == Reach::Special;
        filtered(&list, ListStep::Reaching(reach), |known| known >= reach);
        filtered(&list, ListStep::Reachable(reach), |known| near(&known));
        filtered(&list, ListStep::Tell(reach), |known| reach == Reach::Special || known != Reach::Special);
        filtered(&list, ListStep::Within(reach), |known| match reach {
            Reach::Special => matches!(known, Reach::Special | Reach::World),
            Reach::Machine | Reach::Site | Reach::World => known >= reach,
        });
    }
    sound(&ListStep::Join(&other).of(&list));
    for (n, address) in all.iter().filter_map(|address| clean(address.clone(), &owner)).enumerate() {
        let before = list.clone();
        list = match (n + usize::from(kind >> 1)) % 4 {
            0 => ListStep::Report(&address).of(&list),
            1 => ListStep::Prefer(&address).of(&list),
            2 => ListStep::Remove(&address).of(&list),
            _ => ListStep::Join(&Addresses::new(address.clone())).of(&list),
        };
        sound(&list);
        let is_there = list.iter().any(|known| *known == address);
        match (n + usize::from(kind >> 1)) % 4 {
            0 => assert!(is_there && (before.is_empty() || list.first() == before.first())),
            1 => assert_eq!(list.first(), Some(&address)),
            2 => assert!(!is_there),
            _ => assert!(is_there || before.len() == MAX_ADDRESSES),
        }
    }
}

fn sound(list: &Addresses) {
    assert!(list.len() <= MAX_ADDRESSES);
    for (n, address) in list.iter().enumerate() {
        assert!(list.iter().skip(n + 1).all(|other| other != address), "{address} stands twice");
    }
    // What is known of all is that of each.
    assert_eq!(list.iter().cloned().collect::<Addresses>(), *list);
}

fn filtered(list: &Addresses, step: ListStep<'_>, keep: impl Fn(Reach) -> bool) {
    let kept = step.of(list);
    let expected = list.iter().filter(|address| keep(Reach::of(address)));
    assert!(kept.iter().eq(expected), "{step:?} of {list:?}");
}
