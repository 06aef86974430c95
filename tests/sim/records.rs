//! Records in whole networks: what is acknowledged is found again.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use libp2p_kademlia::sim::{Churn, Links, Reached, RecordOutcome, RoundTrip, Scenario, Start, World};
use libp2p_kademlia::store::{Limits, MemoryStoreConfig};
use libp2p_kademlia::{Config, Key, Quorum, Record, RecordKey};

use super::{MS, NOW, SECOND, golden};

const HOUR: Duration = Duration::from_secs(3600);

fn joined(nodes: usize) -> Scenario {
    Scenario {
        nodes,
        start: Start::Join { every: 100 * MS, seeds: 1 },
        settle: 300 * SECOND,
        ..Scenario::default()
    }
}

fn key(n: usize) -> RecordKey {
    RecordKey::from(format!("record {n}"))
}

fn value(n: usize) -> String {
    format!("value {n}")
}

/// Lets nodes put records one after another, and returns those that were acknowledged.
fn put(world: &mut World, records: std::ops::Range<usize>, quorum: Quorum) -> Vec<usize> {
    for n in records.clone() {
        let alive: Vec<_> = world.alive().collect();
        let record = Record::new(key(n), value(n));
        assert!(world.put_record(alive[n * 7 % alive.len()], record, quorum));
        world.run_for(100 * MS);
    }
    assert!(world.run_until_records_settle(60 * SECOND));
    let stored = |outcome: &&RecordOutcome| matches!(outcome.reached, Reached::Put(_));
    let all: BTreeSet<_> = world.record_outcomes().iter().filter(stored).map(|o| o.key.clone()).collect();
    records.filter(|n| all.contains(&key(*n))).collect()
}

/// Lets nodes search records, and returns those that were not found, or wrong.
fn missing(world: &mut World, records: &[usize]) -> Vec<usize> {
    let before = world.record_outcomes().len();
    for n in records {
        let alive: Vec<_> = world.alive().collect();
        assert!(world.get_record(alive[(n * 13 + 5) % alive.len()], key(*n), Some(Quorum::One)));
        world.run_for(100 * MS);
    }
    assert!(world.run_until_records_settle(60 * SECOND));
    let outcomes = &world.record_outcomes()[before..];
    let is_right =
        |n: &usize| outcomes.iter().any(|o| o.key == key(*n) && o.reached == Reached::Got(value(*n).into()));
    records.iter().filter(|n| !is_right(n)).copied().collect()
}

fn check(world: &World) {
    world.check().unwrap();
}

fn quantile(mut times: Vec<Duration>, of: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * of / 100]
}

/// Three hundred nodes 100 ms apart that are connected: a put takes at most four round trips, a first answer one.
#[test]
fn a_put_takes_four_round_trips_and_a_first_answer_one() {
    let mut table = format!("{:<24}{:>8}{:>8}{:>8}{:>10}\n", "", "p50", "p90", "p99", "requests");
    let mut world = World::new(&Scenario {
        nodes: 300,
        links: Links { rtt: RoundTrip::Constant(100 * MS), warm: true, ..Links::default() },
        settle: NOW,
        ..Scenario::default()
    });
    let acknowledged = put(&mut world, 0..100, Quorum::All);
    assert_eq!(acknowledged.len(), 100);
    let puts = world.record_outcomes().len();
    assert!(missing(&mut world, &acknowledged).is_empty());
    let (puts, gets) = world.record_outcomes().split_at(puts);
    let mut line = |name: &str, times: Vec<Duration>, outcomes: &[RecordOutcome]| {
        let of = |share| quantile(times.clone(), share).as_millis();
        let requests: u32 = outcomes.iter().map(|outcome| outcome.requests).sum();
        let mean = f64::from(requests) / f64::from(u32::try_from(outcomes.len()).unwrap());
        writeln!(table, "{name:<24}{:>8}{:>8}{:>8}{mean:>10.2}", of(50), of(90), of(99)).unwrap();
        (of(50), of(99))
    };
    let (_, put) = line("put", puts.iter().map(|put| put.took).collect(), puts);
    let (first, _) = line("get, first answer", gets.iter().filter_map(|get| get.first).collect(), gets);
    golden("records-round-trips.txt", &table);
    assert!(put <= 400 && first <= 100, "{table}");
    // At exactly the closest, but for the publisher.
    for outcome in puts {
        let Reached::Put(report) = &outcome.reached else { panic!("{outcome:?}") };
        assert_eq!(
            (report.stored.len(), report.refused.len(), report.failed.len()),
            (20, 0, 0),
            "{outcome:?}"
        );
    }
}

/// As many as k − q holders die at once, and every acknowledged record is still found.
#[test]
fn what_was_acknowledged_is_found_though_half_of_the_holders_die() {
    let mut world = World::new(&joined(100));
    let acknowledged = put(&mut world, 0..40, Quorum::Majority);
    assert_eq!(acknowledged.len(), 40);
    for n in &acknowledged {
        let holders = world.holders(&key(*n)).len();
        assert!(holders >= 11, "{holders} hold it");
    }
    // A majority of 20 is 11; so nine of those of any one record may die.
    world.holders(&key(0)).into_iter().take(9).for_each(|holder| world.kill(holder));
    world.run_for(SECOND);
    check(&world);
    assert_eq!(missing(&mut world, &acknowledged), Vec::<usize>::new());
}

/// An hour of looking after records costs about what one publisher's putting them costs.
#[test]
fn holders_do_not_repeat_each_others_work() {
    let quiet = Config::default().with_refresh_interval(None).unwrap().with_grace_period(24 * HOUR).unwrap();
    let requests = |records: usize| {
        let mut world = World::new(&Scenario { config: quiet.clone(), ..joined(100) });
        put(&mut world, 0..records, Quorum::All);
        let put_cost: u32 = world.record_outcomes().iter().map(|outcome| outcome.requests).sum();
        world.run_for(90 * 60 * SECOND);
        let before = world.traffic().requests;
        world.run_for(4 * HOUR);
        (world.traffic().requests - before, put_cost)
    };
    let (without, _) = requests(0);
    let (with, put_cost) = requests(50);
    let hourly = (with - without) / 4;
    let mut table = String::new();
    writeln!(table, "50 records put, requests:        {put_cost}").unwrap();
    writeln!(table, "an hour of looking after them:   {hourly}").unwrap();
    golden("replication.txt", &table);
    assert!(hourly <= u64::from(put_cost) * 2, "{hourly} an hour, {put_cost} to put them all");
    assert!(hourly * 3 >= u64::from(put_cost), "they are looked after: {hourly}");
}

/// Newcomers have what belongs to them long before it is put anew.
#[test]
fn newcomers_are_given_what_belongs_to_them() {
    let config =
        Config::default().with_replication_interval(None).unwrap().with_publication_interval(None).unwrap();
    let mut world = World::new(&Scenario { config, ..joined(100) });
    let acknowledged = put(&mut world, 0..100, Quorum::All);
    let newcomers: Vec<_> = (0..10)
        .map(|_| {
            let n = world.join();
            world.run_for(20 * SECOND);
            n
        })
        .collect();
    world.run_for(300 * SECOND);
    let (mut has, mut belongs) = (0, 0);
    for n in &acknowledged {
        let closest = world.closest_alive(key(*n).as_ref(), 20);
        let holders = world.holders(&key(*n));
        for newcomer in newcomers.iter().filter(|newcomer| closest.contains(newcomer)) {
            belongs += 1;
            has += usize::from(holders.contains(newcomer));
        }
        let strangers = newcomers.iter().filter(|n| holders.contains(n) && !closest.contains(n)).count();
        // Another newcomer may have come nearer meanwhile.
        assert!(strangers <= 2, "{n}");
    }
    golden("newcomers.txt", &format!("{has} of {belongs} records were handed over\n"));
    assert!(belongs > 100 && has * 100 >= belongs * 90, "{has} of {belongs}");
}

fn through_churn(nodes: usize, records: usize, hours: u32) -> String {
    let config = Config::default().with_publication_interval(None).unwrap();
    let mut world = World::new(&Scenario { config, churn: Some(Churn::default()), ..joined(nodes) });
    let acknowledged = put(&mut world, 0..records, Quorum::Majority);
    let mut table = format!("{:>6}{:>10}{:>10}\n", "hours", "holders", "fewest");
    for hour in 1..=hours {
        world.run_for(HOUR);
        check(&world);
        let holders: Vec<_> = acknowledged.iter().map(|n| world.holders(&key(*n)).len()).collect();
        let mean = holders.iter().sum::<usize>() / holders.len();
        writeln!(table, "{hour:>6}{mean:>10}{:>10}", holders.iter().min().unwrap()).unwrap();
    }
    let lost = missing(&mut world, &acknowledged);
    writeln!(table, "{} of {} records lost", lost.len(), acknowledged.len()).unwrap();
    table
}

/// Nodes come and go, and nobody's publisher puts anything anew: the holders lose nothing.
#[test]
fn six_hours_of_churn_lose_nothing() {
    let table = through_churn(50, 40, 6);
    golden("records-churn.txt", &table);
    assert!(table.ends_with("0 of 40 records lost\n"), "{table}");
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn thirty_six_hours_of_churn_lose_nothing() {
    let table = through_churn(200, 200, 36);
    golden("records-churn-36h.txt", &table);
    assert!(table.ends_with("0 of 200 records lost\n"), "{table}");
}

/// One attacker stores twenty records that lie next to a victim at each of its sixteen neighbours, which hand them on to it as
/// replicas. What publishers have put at the victim stays.
#[test]
fn what_neighbours_hand_on_does_not_crowd_out_what_publishers_have_put() {
    const VICTIM: usize = 7;
    let limits = Limits { max_records: 80, ..Limits::default() };
    let stores = MemoryStoreConfig { records: limits, ..MemoryStoreConfig::default() };
    let mut world = World::with_stores(&joined(30), stores);
    let honest: Vec<_> = put(&mut world, 0..75, Quorum::Majority).into_iter().map(key).collect();
    let victim = *world.node(VICTIM).unwrap().local_peer_id();
    let here = Key::of_peer(&victim, Key::sha256);
    let neighbours = world.closest_alive(&victim.to_bytes(), 17);
    let attacker = world.join();
    world.run_for(60 * SECOND);
    let holds = |world: &World, keys: &[RecordKey]| {
        keys.iter().filter(|key| world.holders(key).contains(&VICTIM)).count()
    };
    // What belongs elsewhere now ends sooner.
    let belongs = |key: &RecordKey| world.closest_alive(key.as_ref(), 20).contains(&VICTIM);
    let before: Vec<_> = honest.into_iter().filter(belongs).collect();
    assert_eq!(holds(&world, &before), before.len());
    // No honest record is as near.
    let ground = (0u64..).map(|n| RecordKey::from(&n.to_be_bytes()));
    let mut ground = ground.filter(|key| here.common_prefix(&Key::sha256(key.as_ref())) >= 10);
    let mut evil = Vec::new();
    for neighbour in neighbours.into_iter().filter(|n| *n != VICTIM) {
        for key in ground.by_ref().take(20) {
            evil.push(key.clone());
            // As their publisher they name nobody, or the neighbour itself, or the victim, or somebody else.
            let named = [None, Some(neighbour), Some(VICTIM), Some(3)][evil.len() % 4];
            let publisher = named.map(|n| *world.node(n).unwrap().local_peer_id());
            let record = Record { publisher, ..Record::new(key, "evil") };
            world.put_record_to(attacker, &record, &[neighbour]);
        }
        world.run_for(SECOND);
    }
    assert_eq!(evil.len(), 320);
    let mut table = format!("{:>6}{:>10}{:>10}\n", "hours", "honest", "evil");
    let mut left = before.len();
    let mut passed = 0;
    for hour in [0, 3, 6] {
        world.run_for(HOUR * (hour - passed));
        passed = hour;
        check(&world);
        left = holds(&world, &before);
        writeln!(table, "{hour:>6}{left:>10}{:>10}", holds(&world, &evil)).unwrap();
    }
    golden("laundering.txt", &table);
    assert!(
        before.len() > 30 && left * 100 >= before.len() * 95,
        "{left} of {} are left:\n{table}",
        before.len()
    );
}
