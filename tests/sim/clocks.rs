//! Nodes whose machines sleep, and whose wall clocks are set.

use std::time::SystemTime;

use libp2p_kademlia::sim::{Reached, Scenario, Start, World};
use libp2p_kademlia::{Quorum, Record, RecordKey};

use super::{MS, SECOND};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// A third of them hold a record.
const NODES: usize = 60;

fn network() -> World {
    World::new(&Scenario {
        nodes: NODES,
        start: Start::Join { every: 100 * MS, seeds: 1 },
        settle: 60 * SECOND,
        ..Scenario::default()
    })
}

/// Puts a record that ends in two hours, and returns who holds it.
fn put(world: &mut World, key: &RecordKey) -> Vec<usize> {
    let ends = SystemTime::UNIX_EPOCH + world.now() + 2 * HOUR;
    assert!(world.put_record(
        7,
        Record { expires: Some(ends), ..Record::new(key.clone(), "value") },
        Quorum::One
    ));
    world.run_for(20 * SECOND);
    (0..NODES).filter(|n| *n != 7 && holds(world, *n, key)).collect()
}

fn holds(world: &World, n: usize, key: &RecordKey) -> bool {
    use libp2p_kademlia::store::RecordStore as _;
    let wall = SystemTime::UNIX_EPOCH;
    world.node(n).is_some_and(|dht| dht.store().get(wall, key).unwrap().is_some())
}

fn finds(world: &mut World, n: usize, key: &RecordKey) -> bool {
    let before = world.record_outcomes().len();
    assert!(world.get_record(n, key.clone(), None));
    world.run_for(30 * SECOND);
    world.record_outcomes().get(before).is_some_and(|outcome| matches!(outcome.reached, Reached::Got(_)))
}

#[test]
fn whoever_has_slept_returns_nothing_that_has_ended_and_finds_back_at_once() {
    let mut world = network();
    let key = RecordKey::from("a record of two hours");
    let holders = put(&mut world, &key);
    assert!(holders.len() >= 20, "{holders:?}");
    let sleepers: Vec<_> = holders.iter().copied().take(5).collect();
    sleepers.iter().for_each(|n| world.suspend(*n));
    world.run_for(4 * HOUR);
    sleepers.iter().for_each(|n| world.resume(*n));
    world.run_for(SECOND);
    for n in &sleepers {
        assert!(!holds(&world, *n, &key), "node {n} still has it");
    }
    let woke = world.now();
    for n in &sleepers {
        world.look_up(*n, b"anything");
    }
    world.run_for(30 * SECOND);
    let outcomes: Vec<_> = world.outcomes().iter().filter(|outcome| outcome.began >= woke).collect();
    assert_eq!(outcomes.len(), sleepers.len());
    for outcome in outcomes {
        assert!(outcome.success && outcome.recall >= 0.9 && outcome.took <= 15 * SECOND, "{outcome:?}");
    }
    world.check().unwrap();
}

#[test]
fn clocks_that_are_set_harm_nobody_else() {
    for ahead in [-1800, 1800, 40 * 365 * 24 * 3600] {
        let mut world = network();
        let key = RecordKey::from("a record of two hours");
        let holders = put(&mut world, &key);
        let set: Vec<_> = holders.iter().copied().take(3).collect();
        set.iter().for_each(|n| world.set_clock(*n, ahead));
        let before = world.traffic().requests;
        world.run_for(600 * SECOND);
        let requests = (world.traffic().requests - before) / NODES as u64;
        assert!(requests < 400, "{requests} a node in ten minutes: a storm");
        // Whoever is far ahead has dropped it, and may have been given it anew.
        let searcher = (0..NODES).find(|n| !holders.contains(n) && *n != 7).unwrap();
        assert!(finds(&mut world, searcher, &key), "{ahead}");
        assert!(ahead > 7200 || set.iter().all(|n| holds(&world, *n, &key)), "{ahead}");
        world.check().unwrap();
    }
}
