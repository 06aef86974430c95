//! Providers in whole networks: how fast they are announced and found, and what Sybils do about it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use libp2p_kademlia::sim::{Hosting, Incident, Links, Reached, RecordOutcome, Scenario, Start, World};
use libp2p_kademlia::store::{MemoryStoreConfig, ProviderLimits};
use libp2p_kademlia::{Config, IpDiversity, Protection, RecordKey};

use super::{MS, NOW, SECOND, golden, seconds};

fn key(n: usize) -> RecordKey {
    RecordKey::from(format!("content {n}"))
}

/// What a run has come to; times in seconds.
#[derive(Clone, Copy, Default)]
struct Figures {
    /// From the call to enough having been told.
    provide: [f64; 2],
    /// From the call to everybody's fate being known.
    all_told: [f64; 2],
    /// The share of the living ones of the true 20 that would name the provider.
    placed: f64,
    first: [f64; 2],
    all_found: [f64; 2],
    found: f64,
    requests: [f64; 2],
}

fn quantiles(times: impl Iterator<Item = Duration>) -> [f64; 2] {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    [50, 99].map(|of| times.get(times.len().saturating_sub(1) * of / 100).map_or(f64::NAN, |t| seconds(*t)))
}

fn share(part: usize, of: usize) -> f64 {
    f64::from(u32::try_from(part).unwrap()) / f64::from(u32::try_from(of).unwrap())
}

fn requests(outcomes: &[RecordOutcome]) -> f64 {
    let sum: u32 = outcomes.iter().map(|outcome| outcome.requests).sum();
    f64::from(sum) / f64::from(u32::try_from(outcomes.len()).unwrap())
}

/// Ideal tables, everybody connected, a share silent from the beginning: keys are provided, then found.
fn measure(nodes: usize, silent: f64, keys: usize, seed: u64) -> Figures {
    let scenario = Scenario {
        nodes,
        seed,
        links: Links { warm: true, ..Links::default() },
        settle: NOW,
        ..Scenario::default()
    };
    let mut world = World::new(&scenario);
    world.incident(Incident::Freeze(silent));
    let alive: Vec<_> = world.alive().collect();
    let provider = |n: usize| alive[(n * 7 + 1) % alive.len()];
    for n in 0..keys {
        assert!(world.provide(provider(n), key(n)));
        world.run_for(20 * MS);
    }
    assert!(world.run_until_records_settle(60 * SECOND));
    world.run_for(5 * SECOND);
    let (mut placed, mut places) = (0, 0);
    for n in 0..keys {
        let holders = world.holders_of_provider(&key(n), provider(n));
        let closest = world.closest_alive(format!("content {n}").as_bytes(), 20);
        let closest = closest.iter().filter(|closest| **closest != provider(n));
        places += closest.clone().count();
        placed += closest.filter(|closest| holders.contains(closest)).count();
    }
    let provides = world.record_outcomes().len();
    for n in 0..keys {
        let finder = alive[(n * 13 + 5) % alive.len()];
        assert!(world.find_providers(finder, key(n)));
        world.run_for(20 * MS);
    }
    assert!(world.run_until_records_settle(60 * SECOND));
    world.check().unwrap();
    let (provides, finds) = world.record_outcomes().split_at(provides);
    let ids: BTreeMap<_, _> =
        (0..keys).map(|n| (key(n), *world.node(provider(n)).unwrap().local_peer_id())).collect();
    let is_found = |find: &&RecordOutcome| matches!(&find.reached, Reached::Found(found) if found.contains(&ids[&find.key]));
    Figures {
        provide: quantiles(provides.iter().filter_map(|outcome| outcome.first)),
        all_told: quantiles(provides.iter().map(|outcome| outcome.took)),
        placed: share(placed, places),
        first: quantiles(finds.iter().filter_map(|outcome| outcome.first)),
        all_found: quantiles(finds.iter().map(|outcome| outcome.took)),
        found: share(finds.iter().filter(is_found).count(), keys),
        requests: [requests(provides), requests(finds)],
    }
}

fn head() -> String {
    format!(
        "{:<16}{:>9}{:>7}{:>9}{:>7}{:>9}{:>6}{:>9}{:>7}{:>9}{:>7}{:>9}{:>6}\n",
        "silent, seed",
        "provide",
        "p99",
        "all told",
        "p99",
        "at true",
        "RPCs",
        "first",
        "p99",
        "all",
        "p99",
        "found",
        "RPCs"
    )
}

fn row(name: &str, all: &Figures) -> String {
    let mut row = String::new();
    let Figures { provide, all_told, placed, first, all_found, found, requests } = all;
    writeln!(
        row,
        "{name:<16}{:>9.3}{:>7.3}{:>9.3}{:>7.3}{placed:>9.4}{:>6.1}{:>9.3}{:>7.3}{:>9.3}{:>7.3}{found:>9.4}{:>6.1}",
        provide[0], provide[1], all_told[0], all_told[1], requests[0], first[0], first[1], all_found[0],
        all_found[1], requests[1]
    )
    .unwrap();
    row
}

/// The bars, with one in ten silent; three in ten beside them.
fn over_seeds(name: &str, nodes: usize, keys: usize, seeds: &[u64]) {
    let mut table = head();
    for silent in [0.1, 0.3] {
        let all: Vec<_> = seeds.iter().map(|seed| measure(nodes, silent, keys, *seed)).collect();
        for (seed, figures) in seeds.iter().zip(&all) {
            table += &row(&format!("{silent} {seed}"), figures);
        }
        let mean = |of: fn(&Figures) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        if silent < 0.2 {
            assert!(mean(|all| all.provide[0]) <= 0.6 && mean(|all| all.provide[1]) <= 1.2, "{table}");
            assert!(mean(|all| all.first[0]) <= 0.15 && mean(|all| all.first[1]) <= 0.4, "{table}");
            assert!(mean(|all| all.placed) >= 0.95, "{table}");
        }
        assert!(mean(|all| all.found) >= 1.0, "{table}");
    }
    golden(name, &table);
}

/// Sixty of one network provide one key at servers that have room for four of a network each: how many of them are held anywhere.
fn crowd(tells: bool) -> usize {
    let limits = ProviderLimits { max_per_key: 16, ..ProviderLimits::default() };
    let stores = MemoryStoreConfig { providers: limits, ..MemoryStoreConfig::default() };
    let config = Config::default().with_provider_status(tells).with_protection(Protection::Off);
    let config = config.with_ip_diversity(IpDiversity::Off);
    let scenario = Scenario { nodes: 300, config, hosting: Hosting::OneNetwork, ..Scenario::default() };
    let mut world = World::with_stores(&scenario, stores);
    let key = RecordKey::new(b"popular");
    for n in 0..60 {
        assert!(world.provide(n * 4, key.clone()));
        world.run_for(100 * MS);
    }
    assert!(world.run_until_records_settle(60 * SECOND));
    world.run_for(20 * SECOND);
    world.check().unwrap();
    (0..60).filter(|n| !world.holders_of_provider(&key, n * 4).is_empty()).count()
}

#[test]
fn what_a_full_server_has_no_room_for_is_told_to_the_next_nearest() {
    let (silent, told) = (crowd(false), crowd(true));
    assert!(told > silent && 2 * told >= 3 * silent, "{told} of 60, {silent} where nobody says so");
}

#[test]
fn announcing_and_finding_among_five_hundred() {
    over_seeds("providers-500.txt", 500, 150, &[101]);
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn announcing_and_finding_among_ten_thousand() {
    over_seeds("providers.txt", 10_000, 1000, &[101, 102, 103, 104, 105]);
}

/// Twenty Sybils in two /16s, nearer to a key than anybody else, name providers who do not exist. Returns in what share of
/// seeds a caller that keeps reading finds the honest provider, and in what share it is among the first twenty.
fn surrounded(nodes: usize, seeds: std::ops::Range<u64>, before: bool) -> (f64, f64) {
    let count = seeds.clone().count();
    let (mut found_by_all, mut among_first) = (0, 0);
    for seed in seeds {
        let scenario = Scenario { nodes, seed, settle: NOW, ..Scenario::default() };
        let mut world = World::new(&scenario);
        let sybils = |world: &mut World| {
            let sybils = world.surround(b"content 0", 20, 2);
            world.run_for(300 * SECOND);
            let closest = world.closest_alive(b"content 0", 20);
            assert!(closest.iter().all(|n| sybils.contains(n)), "they are the closest");
        };
        if before {
            sybils(&mut world);
        }
        assert!(world.provide(3, key(0)));
        assert!(world.run_until_records_settle(60 * SECOND));
        if !before {
            sybils(&mut world);
        }
        assert!(world.find_providers(77, key(0)));
        assert!(world.run_until_records_settle(60 * SECOND));
        world.check().unwrap();
        let provider = *world.node(3).unwrap().local_peer_id();
        let Some(RecordOutcome { reached: Reached::Found(found), .. }) = world.record_outcomes().last()
        else {
            panic!("{:?}", world.record_outcomes().last())
        };
        found_by_all += usize::from(found.contains(&provider));
        among_first += usize::from(found.iter().take(20).any(|found| *found == provider));
    }
    (share(found_by_all, count), share(among_first, count))
}

fn sybils(name: &str, nodes: usize, seeds: std::ops::Range<u64>) {
    let after = surrounded(nodes, seeds.clone(), false);
    let before = surrounded(nodes, seeds.clone(), true);
    let mut table = format!(
        "{:<48}{:>12}{:>14}\n",
        "20 Sybils nearest to the key, in two /16s", "reads on", "takes twenty"
    );
    for (name, (all, first)) in [("arrived after the publication", after), ("there before it", before)] {
        writeln!(table, "{name:<48}{all:>12.3}{first:>14.3}").unwrap();
    }
    golden(name, &table);
    assert!(after.0 >= 0.99, "{table}");
}

#[test]
fn sybils_around_a_key_do_not_hide_its_provider() {
    sybils("sybils-5.txt", 200, 1..6);
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn sybils_around_a_key_do_not_hide_its_provider_in_a_hundred_networks() {
    sybils("sybils.txt", 1000, 1..101);
}

/// Six nodes of two networks announce thousands of keys; whoever provides one thing is found as before.
#[test]
fn a_flood_of_announcements_hides_nobody() {
    let mut world = World::new(&Scenario { nodes: 60, settle: NOW, ..Scenario::default() });
    let flooders = world.surround(b"content 0", 6, 2);
    world.run_for(60 * SECOND);
    for n in 1..=200 {
        for flooder in &flooders {
            assert!(world.provide(*flooder, RecordKey::from(format!("flood {flooder} {n}"))));
        }
        world.run_for(20 * MS);
    }
    assert!(world.provide(3, key(0)));
    assert!(world.run_until_records_settle(60 * SECOND));
    assert!(world.find_providers(40, key(0)));
    assert!(world.run_until_records_settle(60 * SECOND));
    world.check().unwrap();
    let provider = *world.node(3).unwrap().local_peer_id();
    let outcome = world.record_outcomes().last().unwrap();
    let is_found = matches!(&outcome.reached, Reached::Found(found) if found.contains(&provider));
    assert!(is_found, "{outcome:?}");
    assert!(world.holders_of_provider(&key(0), 3).len() >= 15);
}

/// A network smaller than a bucket, whose nodes come one after another while one of them announces; it joins again and again.
/// Returns how many announcements each key takes for each holder: in half an interval, and on an average of the intervals that
/// follow.
fn on_a_lan(nodes: usize, keys: usize, intervals: u32) -> (f64, f64) {
    const HALF: Duration = Duration::from_secs(11 * 3600);
    let start = Start::Join { every: 2 * SECOND, seeds: 1 };
    let mut world = World::new(&Scenario { nodes, start, settle: NOW, ..Scenario::default() });
    let announced = |world: &World, holders: usize| {
        let pairs = f64::from(u32::try_from(keys * holders).unwrap());
        f64::from(u32::try_from(world.traffic().announcements).unwrap()) / pairs
    };
    // It has just come, and so has its last neighbour.
    for n in 0..keys {
        assert!(world.provide(nodes - 2, key(n)));
        world.run_for(5 * MS);
    }
    world.run_for(HALF);
    world.check().unwrap();
    let first = announced(&world, nodes - 1);
    // A store has no room for 100,000 statements of one network.
    let held = || (0..keys.min(10_000)).step_by(keys / 100);
    for n in held() {
        let holders = world.holders_of_provider(&key(n), nodes - 2);
        assert!(holders.len() == nodes - 1 || keys > 10_000, "all know it: {holders:?}");
    }
    world.run_for(2 * HALF * intervals);
    let each = (announced(&world, nodes - 1) - first) / f64::from(intervals);
    // Whoever comes later is told of all, and nobody else of anything.
    let before = world.traffic().announcements;
    let last = world.join();
    world.run_for(SECOND * 3600);
    world.check().unwrap();
    let told = usize::try_from(world.traffic().announcements - before).unwrap();
    assert!(told <= keys + keys / 10, "{told} to a newcomer");
    for n in held() {
        let holders = world.holders_of_provider(&key(n), nodes - 2);
        assert!(holders.contains(&last) || keys > 10_000, "it knows it: {holders:?}");
    }
    (first, each)
}

#[test]
fn on_a_small_lan_a_key_is_announced_once_in_an_interval() {
    for (nodes, keys) in [(3, 1000), (10, 300)] {
        let (first, each) = on_a_lan(nodes, keys, 2);
        assert!(first <= 1.1 && each <= 1.1, "{nodes} nodes: {first} at first, then {each}");
        assert!(first >= 1.0 && each >= 1.0, "{nodes} nodes: {first} at first, then {each}");
    }
}

/// The bar: 100,000 keys.
#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn on_a_small_lan_each_of_a_hundred_thousand_keys_is_announced_once_in_an_interval() {
    for nodes in [3, 10] {
        let (first, each) = on_a_lan(nodes, 100_000, 1);
        println!("{nodes} nodes: {first:.3} at first, then {each:.3}");
        assert!(first <= 1.1 && each <= 1.1, "{nodes} nodes: {first} at first, then {each}");
    }
}
