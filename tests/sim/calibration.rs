//! Calibration: hops over the real routing table, counted in rounds, against a figure measured elsewhere.
//!
//! RFM19.1 of ProbeLab counts rounds: each asks the α closest peers known, and the walk ends when one of them is among the
//! true `k`. The walker here is for this comparison only; lookups have no rounds.

use std::fmt::Write as _;
use std::num::NonZeroU8;

use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kademlia::config::Config;
use libp2p_kademlia::routing::{Table, TableConfig};
use libp2p_kademlia::time::Instant;
use libp2p_kademlia::{Addresses, Key, Rng};

use super::golden;

const ALPHA: usize = 10;

/// Whatever `k` is, the walk ends at one of so many.
const TRUE_CLOSEST: usize = 20;

/// Nodes in the order of their keys, each with the table it would have if it knew everybody.
struct Network {
    peers: Vec<(Key, PeerId)>,
    tables: Vec<Option<Table>>,
    k: usize,
    rng: Rng,
    now: Instant,
}

impl Network {
    fn new(nodes: usize, k: u8) -> Self {
        let mut rng = Rng::from_u64(19);
        let mut peers: Vec<_> = (0..nodes).map(|_| somebody(&mut rng)).collect();
        peers.sort_unstable();
        // Virtual time stands still.
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        Self { tables: vec![None; nodes], peers, k: k.into(), rng, now }
    }

    /// The table of a node, made when it is first asked.
    fn table(&mut self, n: usize) -> &Table {
        if self.tables[n].is_none() {
            self.tables[n] = Some(self.ideal(n));
        }
        self.tables[n].as_ref().unwrap()
    }

    fn ideal(&mut self, n: usize) -> Table {
        let own = self.peers[n].0;
        let k = NonZeroU8::new(u8::try_from(self.k).unwrap()).unwrap();
        let config = Config::default().with_bucket_size(k);
        let mut table = Table::new(own, TableConfig::from(&config));
        let (mut from, mut to) = (0, self.peers.len());
        for prefix in 0..256 {
            if to - from <= 1 {
                break;
            }
            // Those that share more than this prefix lie together.
            let inside = &self.peers[from..to];
            let shares = |key: &Key| own.common_prefix(key) > prefix;
            let start = from + inside.partition_point(|(key, _)| !shares(key) && *key < own);
            let end = from + inside.partition_point(|(key, _)| shares(key) || *key < own);
            let mut bucket: Vec<_> = (from..start).chain(end..to).collect();
            for place in 0..self.k.min(bucket.len()) {
                let other = place + usize::try_from(self.rng.below((bucket.len() - place) as u64)).unwrap();
                bucket.swap(place, other);
                let (key, peer) = self.peers[bucket[place]];
                let address = "/memory/1".parse().unwrap();
                table.insert(
                    self.now,
                    key,
                    peer,
                    Addresses::collect(&peer, [address]),
                    libp2p_kademlia::addrs::Groups::default(),
                );
            }
            (from, to) = (start, end);
        }
        table
    }

    /// Rounds until one of the peers asked is among the true `k` closest.
    fn rounds(&mut self, asker: usize, target: &Key) -> u32 {
        let own = self.peers[asker].0;
        let mut all: Vec<_> = self.peers.iter().filter(|(key, _)| *key != own).map(|(key, _)| *key).collect();
        let (k, distance) = (self.k, |key: &Key| target.distance(key));
        all.select_nth_unstable_by_key(TRUE_CLOSEST - 1, distance);
        let truth: Vec<_> = all[..TRUE_CLOSEST].to_vec();
        let mut known: Vec<(Key, bool)> =
            self.table(asker).closest(target).take(k).map(|entry| (*entry.key(), false)).collect();
        for round in 1.. {
            known.sort_unstable_by_key(|(key, _)| distance(key));
            known.dedup_by_key(|(key, _)| *key);
            let asked: Vec<_> =
                known.iter().filter(|(_, asked)| !asked).take(ALPHA).map(|(key, _)| *key).collect();
            assert!(!asked.is_empty(), "the walk is stuck");
            if asked.iter().any(|key| truth.contains(key)) {
                return round;
            }
            for key in asked {
                let n = self.peers.binary_search_by_key(&key, |(key, _)| *key).unwrap();
                let named: Vec<_> = self.table(n).closest(target).take(k).map(|entry| *entry.key()).collect();
                known.iter_mut().filter(|(known, _)| *known == key).for_each(|(_, asked)| *asked = true);
                for key in named {
                    if !known.iter().any(|(known, _)| *known == key) {
                        known.push((key, false));
                    }
                }
            }
        }
        unreachable!()
    }
}

fn somebody(rng: &mut Rng) -> (Key, PeerId) {
    let mut digest = [0; 32];
    rng.fill(&mut digest);
    let peer = PeerId::from_multihash(Multihash::wrap(0, &digest).unwrap()).unwrap();
    (Key::of_peer(&peer, Key::sha256), peer)
}

fn hops(nodes: usize, k: u8, lookups: u32) -> f64 {
    let mut network = Network::new(nodes, k);
    let mut rounds = 0;
    for _ in 0..lookups {
        let asker = usize::try_from(network.rng.below(nodes as u64)).unwrap();
        let mut target = [0; 32];
        network.rng.fill(&mut target);
        rounds += network.rounds(asker, &Key::from_bytes(target));
    }
    f64::from(rounds) / f64::from(lookups)
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn hops_are_those_of_rfm19() {
    let mut table = String::from("n = 25000, α = 10\n  k    hops  RFM19.1\n");
    let mut wrong = Vec::new();
    for (k, expected) in [(20, 1.929), (10, 2.165), (50, 1.806)] {
        let measured = hops(25_000, k, 5000);
        writeln!(table, "{k:>3}{measured:>8.3}{expected:>9.3}").unwrap();
        if (measured - expected).abs() > 0.02 {
            wrong.push((k, measured, expected));
        }
    }
    golden("calibration.txt", &table);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn small_networks_take_fewer() {
    let (small, large) = (hops(100, 20, 100), hops(1500, 20, 100));
    assert!(1.0 <= small && small < large && large < 2.0, "{small} {large}");
}
