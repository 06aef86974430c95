//! Seeds: the peers whose addresses the application has given.
//!
//! Knows ids and addresses; whether a seed is in the table or answers is told to it.

use std::cmp::Reverse;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::Addresses;
use crate::error::{RequestError, SeedOutcome};
use crate::failures::Failures;
use crate::key::Key;
use crate::map::FastMap;
use crate::time::{Duration, Instant};

#[derive(Clone, Debug)]
struct Seed {
    key: Key,
    addresses: Addresses,
    result: Option<Result<(), RequestError>>,
    failures: Option<Box<Failures>>,
}

/// A seed that has failed for so long gives way to another: derived from the longest pause after which a peer that fails is
/// tried again.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(600);

/// The seeds of a node.
///
/// They are candidates of every lookup and are not forgotten however silent they are while there is room, so that a node
/// which has lost everybody finds back.
///
/// Bounds: the configured number. For one more the one goes that has failed longest, if that is ten minutes and another peer
/// has answered since; if there is none, one more is refused.
#[derive(Clone, Debug)]
pub(in crate::dht) struct Seeds {
    seeds: FastMap<PeerId, Seed>,
    max: usize,
}

impl Seeds {
    pub(in crate::dht) fn new(max: usize) -> Self {
        Self { seeds: FastMap::default(), max }
    }

    pub(in crate::dht) fn contains(&self, peer: &PeerId) -> bool {
        self.seeds.contains_key(peer)
    }

    /// Adds an address of a seed, and returns whether there was room for the seed; `last_answer` is when any peer has answered.
    pub(in crate::dht) fn add(
        &mut self,
        (now, last_answer): (Instant, Option<Instant>),
        key: Key,
        peer: PeerId,
        address: Multiaddr,
    ) -> bool {
        let is_full = self.seeds.len() >= self.max;
        if is_full && !self.seeds.contains_key(&peer) && !self.make_room(now, last_answer) {
            return false;
        }
        let seed = Seed { key, addresses: Addresses::empty(), result: None, failures: None };
        let seed = self.seeds.entry(peer).or_insert(seed);
        seed.addresses = seed.addresses.with_reported(address);
        true
    }

    /// Forgets the seed that has failed longest, if that is long enough. Returns whether there was one.
    fn make_room(&mut self, now: Instant, last_answer: Option<Instant>) -> bool {
        let failing = self.seeds.iter().filter_map(|(peer, seed)| Some((seed.failures.as_deref()?, *peer)));
        let gives_way = |(failures, _): &(&Failures, PeerId)| {
            failures.last_for(now) >= GIVES_WAY_AFTER && !failures.may_be_own(last_answer)
        };
        // Of several the one that was named first.
        let first = failing.filter(gives_way).min_by_key(|(failures, _)| Reverse(failures.last_for(now)));
        let first = first.map(|(_, peer)| peer);
        first.is_some_and(|peer| self.remove(&peer))
    }

    /// Removes an address of a seed, and the seed with its last one. Returns whether the seed is gone.
    pub(in crate::dht) fn remove_address(&mut self, peer: &PeerId, address: &Multiaddr) -> bool {
        let Some(seed) = self.seeds.get_mut(peer) else {
            return false;
        };
        seed.addresses = seed.addresses.without(address);
        seed.addresses.is_empty() && self.remove(peer)
    }

    pub(in crate::dht) fn remove(&mut self, peer: &PeerId) -> bool {
        self.seeds.shift_remove(peer).is_some()
    }

    /// Notes what came of asking a peer, which may be a seed.
    pub(in crate::dht) fn asked(
        &mut self,
        (now, last_answer): (Instant, Option<Instant>),
        peer: &PeerId,
        result: Result<(), RequestError>,
    ) {
        let Some(seed) = self.seeds.get_mut(peer) else {
            return;
        };
        seed.result = Some(result);
        match result {
            Ok(()) => seed.failures = None,
            Err(error) if error.is_peers_fault() => {
                Failures::count(&mut seed.failures, now, last_answer);
            }
            Err(_) => {}
        }
    }

    pub(in crate::dht) fn iter(&self) -> impl Iterator<Item = (Key, PeerId, &Addresses)> {
        self.seeds.iter().map(|(peer, seed)| (seed.key, *peer, &seed.addresses))
    }

    pub(in crate::dht) fn addresses(&self, peer: &PeerId) -> Option<&Addresses> {
        self.seeds.get(peer).map(|seed| &seed.addresses)
    }

    /// Iterates over the seeds of which nothing has been heard yet, neither an answer nor a failure.
    pub(in crate::dht) fn unheard(&self) -> impl Iterator<Item = (Key, PeerId, &Addresses)> {
        let unheard = self.seeds.iter().filter(|(_, seed)| seed.result.is_none());
        unheard.map(|(peer, seed)| (seed.key, *peer, &seed.addresses))
    }

    pub(in crate::dht) fn outcomes(&self) -> Vec<SeedOutcome> {
        self.seeds.iter().map(|(peer, seed)| SeedOutcome { peer: *peer, result: seed.result }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    fn peer(seed: u8) -> PeerId {
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[seed; 32]).unwrap()).unwrap()
    }

    #[test]
    fn seeds_are_bounded_and_go_with_their_last_address() {
        let address = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}").parse::<Multiaddr>().unwrap();
        let mut seeds = Seeds::new(2);
        let key = Key::sha256(b"");
        assert!(
            seeds.add((start(), None), key, peer(1), address(1))
                && seeds.add((start(), None), key, peer(2), address(1))
        );
        assert!(!seeds.add((start(), None), key, peer(3), address(1)), "there is no room");
        assert!(seeds.add((start(), None), key, peer(1), address(2)), "but for another address");
        assert!(!seeds.remove_address(&peer(1), &address(1)));
        assert!(seeds.contains(&peer(1)));
        assert!(seeds.remove_address(&peer(1), &address(2)));
        assert!(!seeds.contains(&peer(1)) && !seeds.remove(&peer(1)));
        assert!(seeds.add((start(), None), key, peer(3), address(1)));
    }

    #[test]
    fn outcomes_are_the_latest() {
        let mut seeds = Seeds::new(2);
        seeds.add((start(), None), Key::sha256(b""), peer(1), "/memory/1".parse().unwrap());
        seeds.asked((start(), None), &peer(1), Err(RequestError::Unreachable));
        seeds.asked((start(), None), &peer(9), Ok(()));
        assert_eq!(
            seeds.outcomes(),
            [SeedOutcome { peer: peer(1), result: Some(Err(RequestError::Unreachable)) }]
        );
        seeds.asked((start(), None), &peer(1), Ok(()));
        assert_eq!(seeds.outcomes()[0].result, Some(Ok(())));
    }

    #[test]
    fn a_seed_that_has_failed_for_long_gives_way_once_somebody_else_has_answered() {
        let address: Multiaddr = "/memory/1".parse().unwrap();
        let (key, mut seeds, dead) = (Key::sha256(b""), Seeds::new(2), Err(RequestError::Unreachable));
        let add = |seeds: &mut Seeds, at, answer, n| seeds.add((at, answer), key, peer(n), address.clone());
        assert!(add(&mut seeds, start(), None, 1) && add(&mut seeds, start(), None, 2));
        seeds.asked((start(), None), &peer(2), dead);
        seeds.asked((start(), None), &peer(1), Err(RequestError::Overloaded));
        let later = start() + GIVES_WAY_AFTER;
        assert!(!add(&mut seeds, later, None, 3), "it may be this node's own outage");
        let answer = Some(start() + GIVES_WAY_AFTER / 2);
        assert!(!add(&mut seeds, later - Duration::from_millis(1), answer, 3), "it has not failed for long");
        assert!(add(&mut seeds, later, answer, 3));
        assert!(seeds.contains(&peer(1)) && !seeds.contains(&peer(2)));
        seeds.asked((later, answer), &peer(1), dead);
        seeds.asked((later, Some(later)), &peer(1), Ok(()));
        let much_later = later + 9 * GIVES_WAY_AFTER;
        assert!(!add(&mut seeds, much_later, Some(much_later), 4), "it has answered since");
    }
}
