use std::collections::BTreeSet;
use std::num::NonZeroU8;

use super::*;
use crate::addrs::IpGroup;
use crate::config::{Config, IpDiversity};
use crate::rng::Rng;
use crate::rng::cases::cases;
use crate::routing::rules::FIRST_RETRY;
use crate::time::{Duration, start};

/// A peer whose id is made from a small number.
pub(in crate::routing) fn peer(seed: u64) -> PeerId {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&seed.to_be_bytes());
    PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &digest).unwrap()).unwrap()
}

fn key(seed: u64) -> Key {
    Key::of_peer(&peer(seed), Key::sha256)
}

fn addresses(seed: u64) -> Addresses {
    Addresses::collect(&peer(seed), [format!("/memory/{seed}").parse().unwrap()])
}

fn public(seed: u64, second: u8) -> (Addresses, Groups) {
    at(seed, &format!("/ip4/1.{second}.0.1/tcp/{}", 1 + seed % 60_000))
}

fn at(seed: u64, address: &str) -> (Addresses, Groups) {
    let address = address.parse().unwrap();
    let groups = Groups::of(&address, IpGroup::of_ip);
    (Addresses::collect(&peer(seed), [address]), groups)
}

const SECOND: Duration = Duration::from_secs(1);

pub(in crate::routing) struct Fixture {
    pub(in crate::routing) table: Table,
}

impl Fixture {
    pub(in crate::routing) fn new(config: TableConfig) -> Self {
        Self { table: Table::new(key(0), config) }
    }

    pub(in crate::routing) fn add(&mut self, now: Instant, seed: u64) -> (Key, PeerId) {
        self.table.insert(now, key(seed), peer(seed), addresses(seed), Groups::default());
        (key(seed), peer(seed))
    }

    /// Adds peers of the farthest bucket until it is full, and returns them with the next ones that would belong there.
    fn fill_farthest(&mut self, now: Instant, more: usize) -> (Vec<u64>, Vec<u64>) {
        let k = usize::from(self.table.config.bucket_size.get());
        let far = |seed: &u64| key(0).distance(&key(*seed)).bucket() == Some(BucketIndex::FARTHEST);
        let mut seeds: Vec<u64> = (1..).filter(far).take(k + more).collect();
        let next = seeds.split_off(k);
        for (seed, step) in seeds.iter().zip(0u32..) {
            self.add(now + SECOND * step, *seed);
        }
        (seeds, next)
    }
}

fn small(k: u8) -> TableConfig {
    TableConfig { bucket_size: NonZeroU8::new(k).unwrap(), ..TableConfig::default() }
}

fn check_invariants(table: &Table) {
    let mut seen = BTreeSet::new();
    let mut len = 0;
    let mut last = None;
    for bucket in table.buckets() {
        assert!(last < Some(bucket.index()), "buckets are in order and unique");
        last = Some(bucket.index());
        assert!(!bucket.is_empty(), "a bucket exists only while it is occupied");
        assert!(bucket.entries().len() <= usize::from(table.config.bucket_size.get()));
        assert!(bucket.replacements().len() <= usize::from(table.config.replacements));
        for entry in bucket.entries().iter().chain(bucket.replacements()) {
            assert_eq!(table.local.distance(entry.key()).bucket(), Some(bucket.index()));
            assert!(seen.insert(entry.peer()), "nobody stands twice");
        }
        len += bucket.entries().len();
    }
    assert_eq!(len, table.len());
    if let Some(rules) = table.config.diversity.as_ref().filter(|rules| !rules.is_soft) {
        let groups: BTreeSet<_> = table.entries().flat_map(|entry| entry.groups().iter()).collect();
        for group in groups {
            let of = |entries: &mut dyn Iterator<Item = &Entry>| {
                entries.filter(|entry| entry.groups().iter().any(|own| own == group)).count()
            };
            let quarter = usize::from(table.config.bucket_size.get()) / 4;
            let (bucket, all) = if group.is_indirect() {
                (quarter.max(2), (table.len() / 4).max(quarter).max(2))
            } else {
                (usize::from(rules.limits.per_bucket.get()), usize::from(rules.limits.per_table.get()))
            };
            assert!(of(&mut table.entries()) <= all);
            for one in table.buckets() {
                assert!(of(&mut one.entries().iter()) <= bucket);
            }
        }
    }
}

#[test]
fn a_peer_enters_the_bucket_of_its_distance() {
    let mut fixture = Fixture::new(TableConfig::default());
    for seed in 1..200 {
        let (key, peer) = fixture.add(start(), seed);
        if let Some(bucket) = fixture.table.bucket(&key) {
            assert_eq!(bucket.index(), fixture.table.local().distance(&key).bucket().unwrap());
        }
        assert_eq!(
            fixture.table.entry(&key, &peer).is_some(),
            fixture.table.bucket(&key).unwrap().position(&peer).is_some()
        );
    }
    check_invariants(&fixture.table);
}

#[test]
fn the_own_key_and_peers_without_an_address_are_refused() {
    let mut fixture = Fixture::new(TableConfig::default());
    let own = fixture.table.insert(start(), key(0), peer(1), addresses(1), Groups::default());
    assert_eq!(own, Insert::Refused(Refusal::OwnKey));
    let nowhere = fixture.table.insert(start(), key(1), peer(1), Addresses::empty(), Groups::default());
    assert_eq!(nowhere, Insert::Refused(Refusal::NoAddresses));
    assert!(fixture.table.is_empty() && fixture.table.buckets.is_empty());
}

#[test]
fn a_live_entry_is_never_displaced() {
    let mut fixture = Fixture::new(small(5));
    let (inside, next) = fixture.fill_farthest(start(), 10);
    let now = start() + 100 * SECOND;
    for seed in &next {
        let outcome = fixture.table.insert(now, key(*seed), peer(*seed), addresses(*seed), Groups::default());
        assert_eq!(outcome, Insert::Pending);
    }
    for seed in &inside {
        assert!(fixture.table.entry(&key(*seed), &peer(*seed)).is_some());
    }
    let bucket = fixture.table.bucket(&key(inside[0])).unwrap();
    let waiting: Vec<_> = bucket.replacements().iter().map(|entry| entry.peer()).collect();
    assert_eq!(waiting, next[6..].iter().map(|seed| peer(*seed)).collect::<Vec<_>>(), "the newest four wait");
    check_invariants(&fixture.table);
}

#[test]
fn a_dead_entry_gives_its_place_to_the_pending_one_within_one_probe() {
    let mut fixture = Fixture::new(small(5));
    let (inside, next) = fixture.fill_farthest(start(), 1);
    let oldest = fixture.table.bucket(&key(inside[0])).unwrap().least_recently_seen().unwrap().peer();
    assert_eq!(oldest, peer(inside[0]));
    let now = start() + 800 * SECOND;
    fixture.add(now, next[0]);
    // It is challenged only after the grace period, when its probe is due.
    assert!(fixture.table.entry(&key(inside[0]), &oldest).unwrap().probe_at() <= now);
    fixture.table.answered(now + SECOND, &key(inside[1]), &peer(inside[1]));
    let outcome = fixture.table.failed(now, &key(inside[0]), &oldest, true);
    assert_eq!(outcome, Failed::Replaced(peer(next[0])));
    assert!(fixture.table.entry(&key(next[0]), &peer(next[0])).is_some());
    assert!(fixture.table.entry(&key(inside[0]), &oldest).is_none());
    check_invariants(&fixture.table);
}

#[test]
fn a_live_oldest_entry_stays_and_the_pending_one_does_not_enter() {
    let mut fixture = Fixture::new(small(5));
    let (inside, next) = fixture.fill_farthest(start(), 1);
    let now = start() + 800 * SECOND;
    fixture.add(now, next[0]);
    assert!(fixture.table.answered(now, &key(inside[0]), &peer(inside[0])));
    assert!(fixture.table.entry(&key(next[0]), &peer(next[0])).is_none());
    assert_eq!(
        fixture.table.bucket(&key(inside[0])).unwrap().least_recently_seen().unwrap().peer(),
        peer(inside[1])
    );
}

#[test]
fn one_lost_request_displaces_nobody() {
    let mut fixture = Fixture::new(small(5));
    let (inside, next) = fixture.fill_farthest(start(), 1);
    let now = start() + 60 * SECOND;
    fixture.add(now, next[0]);
    assert_eq!(fixture.table.failed(now, &key(inside[0]), &peer(inside[0]), false), Failed::Doubted);
    assert!(!fixture.table.entry(&key(inside[0]), &peer(inside[0])).unwrap().is_live());
    fixture.table.answered(now + SECOND, &key(inside[0]), &peer(inside[0]));
    assert!(fixture.table.entry(&key(inside[0]), &peer(inside[0])).unwrap().is_live());
}

#[test]
fn five_failures_in_a_row_remove_a_peer_if_others_answer() {
    let mut fixture = Fixture::new(TableConfig::default());
    let (key_a, a) = fixture.add(start(), 1);
    let (key_b, b) = fixture.add(start(), 2);
    let now = start() + SECOND;
    for _ in 0..4 {
        assert_eq!(fixture.table.failed(now, &key_a, &a, true), Failed::Doubted);
        fixture.table.answered(now + SECOND, &key_b, &b);
    }
    assert_eq!(fixture.table.failed(now + 2 * SECOND, &key_a, &a, true), Failed::Removed);
    assert_eq!(fixture.table.failed(now + 2 * SECOND, &key_a, &a, true), Failed::Unknown);
    assert_eq!(fixture.table.len(), 1);
    check_invariants(&fixture.table);
}

#[test]
fn a_node_that_has_lost_everybody_keeps_its_table() {
    let mut fixture = Fixture::new(small(5));
    let (inside, next) = fixture.fill_farthest(start(), 1);
    fixture.add(start() + 10 * SECOND, next[0]);
    let now = start() + 20 * SECOND;
    for round in 0..20u32 {
        for seed in &inside {
            let outcome = fixture.table.failed(now + SECOND * round, &key(*seed), &peer(*seed), true);
            assert_eq!(outcome, Failed::Doubted);
        }
    }
    assert_eq!(fixture.table.len(), 5);
    assert!(fixture.table.entries().all(|entry| entry.is_stale() && !entry.is_live()));
    // Nor does the first answer after it cost the others their places: a newcomer waits until one fails again.
    let back = now + 100 * SECOND;
    fixture.table.answered(back, &key(inside[0]), &peer(inside[0]));
    assert_eq!(fixture.table.entries().filter(|entry| entry.is_live()).count(), 1);
    let outcome =
        fixture.table.insert(back, key(next[0]), peer(next[0]), addresses(next[0]), Groups::default());
    assert_eq!(outcome, Insert::Pending);
    let outcome = fixture.table.failed(back + SECOND, &key(inside[1]), &peer(inside[1]), true);
    assert_eq!(outcome, Failed::Replaced(peer(next[0])));
    check_invariants(&fixture.table);
}

#[test]
fn a_request_refreshes_but_does_not_clear_a_doubt() {
    let mut fixture = Fixture::new(TableConfig::default());
    let (key, id) = fixture.add(start(), 1);
    let now = start() + 50 * SECOND;
    assert!(fixture.table.seen(now, &key, &id));
    let entry = fixture.table.entry(&key, &id).unwrap();
    assert_eq!((entry.last_seen(), entry.probe_at()), (now, now + fixture.table.config.grace));
    fixture.table.failed(now, &key, &id, false);
    fixture.table.seen(now + SECOND, &key, &id);
    let entry = fixture.table.entry(&key, &id).unwrap();
    assert!(!entry.is_live());
    assert_eq!(entry.probe_at(), now + FIRST_RETRY);
    assert!(!fixture.table.seen(now, &key, &peer(77)));
}

#[test]
fn least_recently_seen_follows_every_sign_of_life() {
    let mut fixture = Fixture::new(small(5));
    let (inside, _) = fixture.fill_farthest(start(), 0);
    let mut order = inside.clone();
    let mut now = start() + 100 * SECOND;
    for pick in [0usize, 2, 2, 1, 4, 3, 0] {
        now += SECOND;
        fixture.table.answered(now, &key(inside[pick]), &peer(inside[pick]));
        order.retain(|seed| *seed != inside[pick]);
        order.push(inside[pick]);
        let oldest = fixture.table.bucket(&key(inside[0])).unwrap().least_recently_seen().unwrap();
        assert_eq!(oldest.peer(), peer(order[0]));
    }
}

#[test]
fn one_group_gets_two_places_in_a_bucket_and_three_in_the_table() {
    let mut fixture = Fixture::new(TableConfig::default());
    let mut added = 0;
    let mut refused = 0;
    for seed in 1..100 {
        let (addresses, groups) = public(seed, 7);
        match fixture.table.insert(start(), key(seed), peer(seed), addresses, groups) {
            Insert::Added { .. } => added += 1,
            Insert::Refused(Refusal::Diversity) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((added, refused), (3, 96));
    check_invariants(&fixture.table);
    let (addresses, groups) = public(100, 8);
    let other = fixture.table.insert(start(), key(100), peer(100), addresses, groups);
    assert!(matches!(other, Insert::Added { .. }));
}

#[test]
fn a_replacement_must_fit_the_limits_too() {
    let mut fixture = Fixture::new(small(3));
    let (inside, next) = fixture.fill_farthest(start(), 4);
    let now = start() + SECOND * 10;
    // Two of one group wait, and two of it already stand elsewhere in the table.
    let near: Vec<u64> = (1000..).filter(|seed| key(0).common_prefix(&key(*seed)) > 0).take(2).collect();
    for seed in near.iter().chain(&next) {
        let (addresses, groups) = public(*seed, 9);
        fixture.table.insert(now, key(*seed), peer(*seed), addresses, groups);
    }
    for seed in &inside {
        fixture.table.answered(now + SECOND, &key(near[0]), &peer(near[0]));
        fixture.table.failed(now, &key(*seed), &peer(*seed), true);
    }
    check_invariants(&fixture.table);
    assert_eq!(fixture.table.entries().filter(|entry| entry.groups() != Groups::default()).count(), 3);
}

/// The peers nearest to the node among so many, nearest first.
fn nearest(of: u64, count: usize) -> Vec<u64> {
    let mut all: Vec<_> = (1..of).collect();
    all.sort_by_key(|seed| key(0).distance(&key(*seed)));
    all.truncate(count);
    all
}

/// One host that has a name for each of its peers, or a place at a relay, or comes through one.
#[test]
fn whoever_has_names_and_relays_has_a_quarter_of_the_table_and_four_of_the_nearest() {
    let relay = "p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5/p2p-circuit";
    for trick in
        ["/dns4/H.example.com/tcp/1", "/dns4/example.H.com/tcp/1", "/ip4/7.H.0.1/tcp/1/R", "/p2p-circuit"]
    {
        let mut fixture = Fixture::new(TableConfig::default());
        // Sixty honest ones that were there first, each in a network of its own.
        for seed in 1..=60u64 {
            let (addresses, groups) = public(seed, u8::try_from(seed).unwrap());
            fixture.table.insert(start(), key(seed), peer(seed), addresses, groups);
        }
        let is_hostile = |entry: &&Entry| (1..=60).all(|seed| !entry.is_of(&peer(seed)));
        // Those nearest to the victim of twenty thousand, and as many as there happen to be.
        for (n, seed) in nearest(20_000, 200).into_iter().chain(20_000..21_000).enumerate() {
            let address = trick.replace('H', &format!("{}", n % 256)).replace('R', relay);
            let (addresses, groups) = at(seed, &address);
            fixture.table.insert(start(), key(seed), peer(seed), addresses, groups);
        }
        check_invariants(&fixture.table);
        let near = fixture.table.closest(&key(0)).take(20).filter(is_hostile).count();
        let (hostile, all) = (fixture.table.entries().filter(is_hostile).count(), fixture.table.len());
        assert!(hostile > 2 && hostile * 4 <= all, "{trick}: {hostile} of {all}");
        assert!(near <= 4, "{trick}: {near} of the nearest");
    }
}

/// Two hosts that do all of it.
#[test]
fn whoever_has_two_hosts_has_six_of_the_nearest_whatever_else_it_has() {
    for order in 0..3 {
        let mut fixture = Fixture::new(TableConfig::default());
        for seed in 1..=60u64 {
            let (addresses, groups) = public(seed, u8::try_from(seed).unwrap());
            fixture.table.insert(start(), key(seed), peer(seed), addresses, groups);
        }
        let is_hostile = |entry: &&Entry| (1..=60).all(|seed| !entry.is_of(&peer(seed)));
        for (n, seed) in nearest(60_000, 600).into_iter().enumerate() {
            let address = match (n + order) % 4 {
                0 => "/ip4/201.1.0.1/tcp/1".to_owned(),
                1 => "/ip4/202.1.0.1/tcp/1".to_owned(),
                2 => format!("/dns4/{n}.example.com/tcp/1"),
                _ => "/p2p-circuit".to_owned(),
            };
            let (addresses, groups) = at(seed, &address);
            fixture.table.insert(start(), key(seed), peer(seed), addresses, groups);
        }
        check_invariants(&fixture.table);
        let near = fixture.table.closest(&key(0)).take(20).filter(is_hostile).count();
        let (hostile, all) = (fixture.table.entries().filter(is_hostile).count(), fixture.table.len());
        assert!(near <= 6 && hostile * 4 <= all, "{near} of the nearest, {hostile} of {all}");
    }
}

#[test]
fn where_limits_are_soft_those_beyond_have_what_nobody_wants_and_go_first() {
    let soft = Config::default().with_ip_diversity(IpDiversity::Soft);
    let mut fixture =
        Fixture::new(TableConfig { bucket_size: NonZeroU8::new(8).unwrap(), ..TableConfig::from(&soft) });
    let all: Vec<u64> = (1..).filter(|seed| key(0).common_prefix(&key(*seed)) == 0).take(24).collect();
    let (far, others) = all.split_at(10);
    let mut insert = |seed: u64, second: u8| {
        let (addresses, groups) = public(seed, second);
        fixture.table.insert(start(), key(seed), peer(seed), addresses, groups)
    };
    for seed in &far[..8] {
        assert_eq!(insert(*seed, 7), Insert::Added { replaced: None }, "there is room");
    }
    assert_eq!(insert(far[8], 7), Insert::Refused(Refusal::Diversity), "there is none");
    // Others come: of the first group two stay, and nobody else makes room.
    for (n, seed) in others[..6].iter().enumerate() {
        let outcome = insert(*seed, 8 + u8::try_from(n).unwrap());
        assert!(
            matches!(outcome, Insert::Added { replaced: Some(gone) } if far.iter().any(|one| peer(*one) == gone))
        );
    }
    assert_eq!(insert(others[6], 100), Insert::Pending);
    assert_eq!(insert(far[9], 7), Insert::Refused(Refusal::Diversity));
    let left =
        fixture.table.entries().filter(|entry| far.iter().any(|seed| entry.is_of(&peer(*seed)))).count();
    assert_eq!((left, fixture.table.len()), (2, 8));
}

#[test]
fn equal_keys_coexist_in_the_order_of_their_ids() {
    // A keyspace of 16 bits, as narrow hashes make it.
    let narrow = |seed: u64| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&key(seed).as_bytes()[..2]);
        bytes[1] = 0;
        Key::from_bytes(bytes)
    };
    let mut table = Table::new(narrow(0), small(255));
    let mut inserted = Vec::new();
    for seed in 1..2000 {
        if let Insert::Added { .. } =
            table.insert(start(), narrow(seed), peer(seed), addresses(seed), Groups::default())
        {
            inserted.push((narrow(seed), peer(seed)));
        }
    }
    let target = narrow(5);
    inserted.sort_by_key(|(key, peer)| (target.distance(key), *peer));
    let found: Vec<_> = table.closest(&target).map(|entry| (*entry.key(), entry.peer())).collect();
    assert_eq!(found, inserted);
    assert!(inserted.windows(2).any(|pair| pair[0].0 == pair[1].0), "there were equal keys");
}

#[test]
fn memory_follows_the_occupied_depth() {
    let mut fixture = Fixture::new(TableConfig::default());
    for seed in 1..=10_000 {
        fixture.add(start(), seed);
    }
    check_invariants(&fixture.table);
    let buckets = fixture.table.buckets.len();
    assert!((9..=18).contains(&buckets), "{buckets}");
    let room: usize = fixture.table.buckets.iter().map(|bucket| bucket.entries.capacity()).sum();
    assert!(room <= fixture.table.len() + 20, "room for {room}, {} in use", fixture.table.len());
}

#[test]
fn removing_the_last_one_removes_the_bucket() {
    let mut fixture = Fixture::new(TableConfig::default());
    let (key, id) = fixture.add(start(), 1);
    assert_eq!(fixture.table.remove(&key, &id).unwrap().peer(), id);
    assert!(fixture.table.remove(&key, &id).is_none());
    assert!(fixture.table.buckets.is_empty());
}

#[test]
fn closest_equals_brute_force_on_ten_thousand_tables() {
    let mut rng = crate::rng::Rng::from_u64(11);
    for round in 0..10_000u64 {
        let size = rng.below(60);
        let local = key(rng.next_u64());
        let mut table = Table::new(local, small(1 + u8::try_from(rng.below(20)).unwrap()));
        for _ in 0..size {
            // Half of the peers near the node, so that many buckets are occupied.
            let seed = rng.next_u64();
            let index = BucketIndex::new(u8::try_from(256 - 1 - rng.below(40)).unwrap());
            let key = if rng.below(2) == 0 { key(seed) } else { local.random_in_bucket(index, &mut rng) };
            table.insert(start(), key, peer(seed), addresses(seed), Groups::default());
        }
        let target = match round % 3 {
            0 => key(rng.next_u64()),
            1 => local,
            _ => {
                local.random_in_bucket(BucketIndex::new(u8::try_from(255 - rng.below(40)).unwrap()), &mut rng)
            }
        };
        let mut expected: Vec<_> =
            table.entries().map(|entry| (target.distance(entry.key()), entry.peer())).collect();
        expected.sort();
        let found: Vec<_> =
            table.closest(&target).map(|entry| (target.distance(entry.key()), entry.peer())).collect();
        assert_eq!(found, expected, "round {round}");
        let own = target.distance(&local);
        let closer = table.closest(&target).take_while(|entry| target.distance(entry.key()) < own);
        assert_eq!(table.num_closer(&target), closer.count(), "round {round}");
        if let Some(entry) = table.entries().next() {
            let closer = table
                .entries()
                .filter(|other| entry.key().distance(other.key()) < entry.key().distance(&local));
            assert_eq!(table.num_closer(entry.key()), closer.count(), "round {round}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u8),
    Answered(u64),
    Seen(u64),
    Failed(u64, bool),
    Remove(u64),
}

fn step(rng: &mut Rng) -> Step {
    let seed = rng.within(1..60);
    match rng.below(12) {
        0..4 => Step::Insert(seed, rng.byte() % 6),
        4..6 => Step::Answered(seed),
        6 => Step::Seen(seed),
        7..11 => Step::Failed(seed, rng.below(2) == 0),
        _ => Step::Remove(seed),
    }
}

#[test]
fn invariants_hold_whatever_happens() {
    cases(256, |rng| {
        let (k, steps) = (1 + rng.byte() % 5, rng.within(1..200));
        let steps: Vec<_> = (0..steps).map(|_| step(rng)).collect();
        let mut table = Table::new(key(0), small(k));
        let mut now = start();
        for step in steps {
            now += SECOND;
            let live: Vec<_> =
                table.entries().filter(|entry| entry.is_live()).map(|e| (*e.key(), e.peer())).collect();
            let mut touched = None;
            match step {
                Step::Insert(seed, group) => {
                    // A group of zero stands for none.
                    let (addresses, groups) =
                        if group == 0 { (addresses(seed), Groups::default()) } else { public(seed, group) };
                    table.insert(now, key(seed), peer(seed), addresses, groups);
                }
                Step::Answered(seed) => drop(table.answered(now, &key(seed), &peer(seed))),
                Step::Seen(seed) => drop(table.seen(now, &key(seed), &peer(seed))),
                Step::Failed(seed, probe) => {
                    touched = Some(peer(seed));
                    table.failed(now, &key(seed), &peer(seed), probe);
                }
                Step::Remove(seed) => {
                    touched = Some(peer(seed));
                    table.remove(&key(seed), &peer(seed));
                }
            }
            check_invariants(&table);
            for (key, peer) in live {
                assert!(
                    Some(peer) == touched || table.entry(&key, &peer).is_some(),
                    "a live entry was displaced"
                );
            }
        }
    });
}

#[test]
fn there_is_a_bucket_for_every_key_but_the_own() {
    let local = Key::sha256(b"local");
    let table = Table::new(local, TableConfig::default());
    for index in (0..=u8::MAX).map(BucketIndex::new) {
        let (least, greatest) = index.range();
        for key in [local.at(least), local.at(greatest)] {
            let bucket = table.bucket(&key).unwrap();
            assert!(bucket.index() == index && bucket.entries().is_empty());
        }
    }
    assert!(table.bucket(&local).is_none());
}

#[test]
fn whoever_was_bad_makes_way_and_whoever_was_good_goes_first_of_those_that_wait() {
    let mut fixture = Fixture::new(small(4));
    let (there, next) = fixture.fill_farthest(start(), 5);
    let now = start() + SECOND * 10;
    let report =
        |fixture: &mut Fixture, seed, experience| fixture.table.report(&key(seed), &peer(seed), experience);
    assert!(!report(&mut fixture, next[0], Experience::Bad), "it is not known");
    for seed in &next[..3] {
        fixture.add(now, *seed);
    }
    assert!(fixture.table.entry(&key(next[0]), &peer(next[0])).is_none(), "it waits");
    assert!(
        report(&mut fixture, next[1], Experience::Good) && report(&mut fixture, next[2], Experience::Bad)
    );
    // A newcomer takes the place of the one that was bad, not of the others, and the latest word counts.
    assert!(
        report(&mut fixture, there[1], Experience::Bad) && report(&mut fixture, there[2], Experience::Bad)
    );
    assert!(report(&mut fixture, there[2], Experience::Good));
    let (_, newcomer) = fixture.add(now, next[3]);
    assert!(fixture.table.entry(&key(next[3]), &newcomer).is_some());
    assert!(fixture.table.entry(&key(there[1]), &peer(there[1])).is_none());
    // Of those that wait the good one comes first, though another came later.
    for step in 1..3 {
        let at = now + SECOND * (2 * step);
        fixture.table.failed(at, &key(there[0]), &peer(there[0]), true);
        fixture.table.answered(at + SECOND, &key(there[2]), &peer(there[2]));
    }
    assert!(fixture.table.entry(&key(next[1]), &peer(next[1])).is_some());
    check_invariants(&fixture.table);
}

#[test]
fn those_that_were_there_longest_are_of_different_groups_and_buckets() {
    let mut fixture =
        Fixture::new(TableConfig { bucket_size: NonZeroU8::new(8).unwrap(), ..TableConfig::default() });
    let mut order = Vec::new();
    for seed in 1..200 {
        // Three of each group at most are let in.
        let (addresses, groups) = public(seed, u8::try_from(seed % 40).unwrap());
        let now = start() + SECOND * u32::try_from(seed).unwrap();
        if let Insert::Added { .. } = fixture.table.insert(now, key(seed), peer(seed), addresses, groups) {
            order.push(seed);
        }
    }
    let longest: Vec<_> = fixture.table.longest().collect();
    assert_eq!(longest.len(), fixture.table.len());
    let buckets = fixture.table.buckets().count();
    let first: BTreeSet<_> =
        longest[..buckets.min(5)].iter().map(|entry| key(0).distance(entry.key()).bucket()).collect();
    assert!(first.len() >= 4, "of each bucket one in turn");
    let mut groups = BTreeSet::new();
    let different =
        longest.iter().take_while(|entry| entry.groups().iter().all(|group| groups.insert(group))).count();
    assert!(different >= 20, "{different}");
    let of_farthest: Vec<_> = longest
        .iter()
        .filter(|entry| key(0).distance(entry.key()).bucket() == Some(BucketIndex::FARTHEST))
        .map(|entry| order.iter().position(|seed| peer(*seed) == entry.peer()).unwrap())
        .collect();
    assert!(of_farthest.len() > 4 && of_farthest[0] < *of_farthest.last().unwrap(), "{of_farthest:?}");
}
