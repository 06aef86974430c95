//! Seeds: the peers whose addresses the application has given.
//!
//! Knows ids and addresses; whether a seed is in the table or answers is told to it.

use indexmap::IndexMap;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::Addresses;
use crate::error::{RequestError, SeedOutcome};
use crate::key::Key;

#[derive(Clone, Debug)]
struct Seed {
    key: Key,
    addresses: Addresses,
    result: Option<Result<(), RequestError>>,
}

/// The seeds of a node.
///
/// They are candidates of every lookup and are not forgotten however silent they are, so that a node which has lost
/// everybody finds back.
///
/// Bounds: the configured number; one more is refused.
#[derive(Clone, Debug)]
pub(super) struct Seeds {
    seeds: IndexMap<PeerId, Seed>,
    max: usize,
}

impl Seeds {
    pub(super) fn new(max: usize) -> Self {
        Self { seeds: IndexMap::new(), max }
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.seeds.contains_key(peer)
    }

    /// Adds an address of a seed, and returns whether there was room for the seed.
    pub(super) fn add(&mut self, key: Key, peer: PeerId, address: Multiaddr) -> bool {
        if self.seeds.len() >= self.max && !self.seeds.contains_key(&peer) {
            return false;
        }
        let seed = Seed { key, addresses: Addresses::empty(), result: None };
        let seed = self.seeds.entry(peer).or_insert(seed);
        seed.addresses = seed.addresses.with_reported(address);
        true
    }

    /// Removes an address of a seed, and the seed with its last one. Returns whether the seed is gone.
    pub(super) fn remove_address(&mut self, peer: &PeerId, address: &Multiaddr) -> bool {
        let Some(seed) = self.seeds.get_mut(peer) else {
            return false;
        };
        seed.addresses = seed.addresses.without(address);
        seed.addresses.is_empty() && self.remove(peer)
    }

    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        self.seeds.shift_remove(peer).is_some()
    }

    /// Notes what came of asking a seed.
    pub(super) fn asked(&mut self, peer: &PeerId, result: Result<(), RequestError>) {
        if let Some(seed) = self.seeds.get_mut(peer) {
            seed.result = Some(result);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, PeerId)> {
        self.seeds.iter().map(|(peer, seed)| (seed.key, *peer))
    }

    pub(super) fn addresses(&self, peer: &PeerId) -> Option<&Addresses> {
        self.seeds.get(peer).map(|seed| &seed.addresses)
    }

    /// Iterates over the seeds of which nothing has been heard yet, neither an answer nor a failure.
    pub(super) fn unheard(&self) -> impl Iterator<Item = (Key, PeerId, &Addresses)> {
        let unheard = self.seeds.iter().filter(|(_, seed)| seed.result.is_none());
        unheard.map(|(peer, seed)| (seed.key, *peer, &seed.addresses))
    }

    pub(super) fn outcomes(&self) -> Vec<SeedOutcome> {
        self.seeds.iter().map(|(peer, seed)| SeedOutcome { peer: *peer, result: seed.result }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[seed; 32]).unwrap()).unwrap()
    }

    #[test]
    fn seeds_are_bounded_and_go_with_their_last_address() {
        let address = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}").parse::<Multiaddr>().unwrap();
        let mut seeds = Seeds::new(2);
        let key = Key::sha256(b"");
        assert!(seeds.add(key, peer(1), address(1)) && seeds.add(key, peer(2), address(1)));
        assert!(!seeds.add(key, peer(3), address(1)), "there is no room");
        assert!(seeds.add(key, peer(1), address(2)), "but for another address");
        assert!(!seeds.remove_address(&peer(1), &address(1)));
        assert!(seeds.contains(&peer(1)));
        assert!(seeds.remove_address(&peer(1), &address(2)));
        assert!(!seeds.contains(&peer(1)) && !seeds.remove(&peer(1)));
        assert!(seeds.add(key, peer(3), address(1)));
    }

    #[test]
    fn outcomes_are_the_latest() {
        let mut seeds = Seeds::new(2);
        seeds.add(Key::sha256(b""), peer(1), "/memory/1".parse().unwrap());
        seeds.asked(&peer(1), Err(RequestError::Unreachable));
        seeds.asked(&peer(9), Ok(()));
        assert_eq!(
            seeds.outcomes(),
            [SeedOutcome { peer: peer(1), result: Some(Err(RequestError::Unreachable)) }]
        );
        seeds.asked(&peer(1), Ok(()));
        assert_eq!(seeds.outcomes()[0].result, Some(Ok(())));
    }
}
