//! Identities: the id, the address and the key of the node with a number.
//!
//! All of them follow from the number and the seed of the simulation, and an address leads back to its number.

use std::net::Ipv4Addr;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;

use super::links::Transport;
use crate::key::Key;

/// First octets of addresses: neither private nor shared, nor of a block that one organisation holds (the
/// registry of IANA).
const OCTETS: [(u8, u8); 3] = [(77, 99), (101, 126), (130, 168)];

/// How many IP groups there are: 88 first octets with 256 second ones.
const GROUPS: usize = 88 * 256;

/// The port of every node: the one that IPFS nodes listen on by default.
const PORT: u16 = 4001;

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

/// Returns where a node listens. No two of the first 22,528 nodes share an IP group.
pub(super) fn address(n: usize, transport: Transport) -> Multiaddr {
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
    let ip = Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::new(first, second, third, fourth)));
    match transport {
        Transport::Quic => ip.with(Protocol::Udp(PORT)).with(Protocol::QuicV1),
        Transport::Tcp => ip.with(Protocol::Tcp(PORT)),
    }
}

/// Returns a number whose address is of the group of the node `n`, where that node is the first.
pub(super) const fn in_group(n: usize, at: usize) -> usize {
    n + at * GROUPS
}

/// Returns the number of the node that listens at an address, if any could.
pub(super) fn node_at(address: &Multiaddr) -> Option<usize> {
    let Some(Protocol::Ip4(ip)) = address.iter().next() else {
        return None;
    };
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
    use crate::addrs::{IpGroup, Reach};
    use std::collections::BTreeSet;

    #[test]
    fn addresses_lead_back_and_lie_in_groups_of_their_own() {
        let mut groups = BTreeSet::new();
        for n in (0..GROUPS).step_by(7).chain([GROUPS, 25_000, 99_999, 1_000_000]) {
            for transport in [Transport::Quic, Transport::Tcp] {
                let address = address(n, transport);
                assert_eq!(node_at(&address), Some(n), "{address}");
                assert_eq!(Reach::of(&address), Reach::World);
            }
            let group = IpGroup::of(&address(n, Transport::Quic)).unwrap();
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
        assert_eq!(node_at(&"/ip4/8.8.8.8/tcp/1".parse().unwrap()), None);
        assert_eq!(node_at(&"/ip4/77.0.0.0/tcp/1".parse().unwrap()), None);
    }

    #[test]
    fn ids_differ_and_follow_from_the_seed() {
        let ids: BTreeSet<_> = (0..100).map(|n| peer_id(1, n)).collect();
        assert_eq!(ids.len(), 100);
        assert_eq!(peer_id(1, 5), peer_id(1, 5));
        assert_ne!(peer_id(1, 5), peer_id(2, 5));
        assert_eq!(peer_id(1, 5).to_bytes().len(), 38);
    }
}
