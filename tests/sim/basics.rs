//! The simulator itself: that it repeats, and that what it must notice it notices.

use std::env;
use std::num::{NonZeroU64, NonZeroUsize};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use libp2p_kademlia::message::Request;
use libp2p_kademlia::sim::{
    Answer, Around, Churn, Incident, Links, Load, Lookups, Records, Role, Roles, Scenario, Start, World,
};

use super::{MS, NOW, SECOND, golden, run};

/// Set in a process that sees one run only.
const CHILD: &str = "CHILD";

/// A little of everything that can happen.
fn eventful() -> Scenario {
    Scenario {
        nodes: 60,
        seed: 7,
        links: Links { jitter: 0.2, loss: 0.01, ..Links::default() },
        start: Start::Join { every: 100 * MS, seeds: 2 },
        roles: Roles {
            clients: 0.1,
            undialable: 0.05,
            colluders: 0.05,
            poisoners: 0.05,
            liars: 0.05,
            stuffers: 0.05,
            ..Roles::default()
        },
        churn: Some(Churn { mean_session: 600 * SECOND, ..Churn::default() }),
        incidents: vec![
            (10 * SECOND, Incident::Freeze(0.1)),
            (20 * SECOND, Incident::Partition { share: 0.3, one_way: true }),
            (40 * SECOND, Incident::CutUplinks(0.1)),
            (70 * SECOND, Incident::Heal),
            (80 * SECOND, Incident::Kill(0.1)),
        ],
        lookups: Lookups { count: 60, every: 2 * SECOND, ..Lookups::default() },
        sample_every: Some(30 * SECOND),
        ..Scenario::default()
    }
}

#[test]
fn the_same_seed_is_the_same_network_to_the_last_bit() {
    let report = run(&eventful());
    // The same in every process, every build and on every machine: the file has one line for all of them.
    golden("eventful.txt", &format!("{:016x}\n", report.hash));
    if env::var_os(CHILD).is_some() {
        return;
    }
    assert_eq!(run(&eventful()), report, "and again in this one");
    let other = Scenario { seed: 8, ..eventful() };
    assert_ne!(run(&other).hash, report.hash);
    let threads = NonZeroUsize::new(3).unwrap();
    assert_eq!(run(&Scenario { threads, ..eventful() }), report, "in several threads");
}

/// In an ideal network, too, where nodes are made by all threads, and with work that takes time, and queries of all kinds.
#[test]
fn however_many_threads_work_the_same_happens() {
    let load = Load { count: 10, ..Load::default() };
    let scenario = Scenario {
        nodes: 150,
        work: Duration::from_micros(50),
        links: Links { jitter: 0.1, uplink: NonZeroU64::new(1_000_000), ..Links::default() },
        churn: Some(Churn { mean_session: 300 * SECOND, ..Churn::default() }),
        lookups: Lookups { count: 40, ..Lookups::default() },
        records: Records { puts: load, gets: load, provides: load, searches: load, ..Records::default() },
        ..Scenario::default()
    };
    let one = run(&scenario);
    let two = run(&Scenario { threads: NonZeroUsize::new(2).unwrap(), ..scenario });
    assert_eq!(one, two);
    assert!(one.summary().recall > 0.95 && one.records.len() > 20, "{one}");
}

/// What nobody keeps is closed when it is idle, in an ideal network as well.
#[test]
fn connections_that_nobody_keeps_end_when_they_are_idle() {
    let mut world = World::new(&Scenario { nodes: 300, ..Scenario::default() });
    let before = world.num_connections();
    for n in 0..50 {
        world.look_up(n, format!("{n}").as_bytes());
    }
    assert!(world.run_until_answered(30 * SECOND));
    assert!(world.num_connections() > before + 200, "{}", world.num_connections());
    world.run_for(40 * SECOND);
    assert_eq!(world.num_connections(), before);
}

/// A role that does not keep to what a role may do.
#[derive(Debug)]
struct Panics;

impl Role for Panics {
    fn answer(&self, _: &Around<'_>, _: &Request) -> Answer {
        panic!("this role gives no answer")
    }
}

#[test]
#[should_panic(expected = "this role gives no answer")]
fn a_panic_in_another_thread_is_one_in_this() {
    let roles: Vec<(f64, Arc<dyn Role>)> = vec![(0.9, Arc::new(Panics))];
    let threads = NonZeroUsize::new(2).unwrap();
    let _ = run(&Scenario { nodes: 30, own_roles: roles, threads, ..Scenario::default() });
}

#[test]
fn another_process_sees_the_same() {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        return;
    }
    let child = Command::new(env::current_exe().unwrap())
        .args(["basics::the_same_seed_is_the_same_network_to_the_last_bit", "--exact"])
        .env(CHILD, "1")
        .env_remove("UPDATE_GOLDEN")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[test]
fn what_is_asked_is_answered() {
    let mut world = World::new(&Scenario { nodes: 50, ..Scenario::default() });
    assert_eq!((world.len(), world.alive().count(), world.is_empty()), (50, 50, false));
    world.look_up(7, b"any bytes");
    assert_eq!(world.running().map(|(asker, _)| asker).collect::<Vec<_>>(), [7]);
    assert!(world.run_until_answered(20 * SECOND));
    let outcome = world.outcomes()[0];
    assert!((outcome.asker, outcome.recall, outcome.success) == (7, 1.0, true), "{outcome:?}");
    assert!(outcome.took > NOW && outcome.requests >= 20 && world.traffic().requests >= 20);
    let id = *world.node(7).unwrap().local_peer_id();
    assert_eq!(world.number_of(&id), Some(7));
    world.incident(Incident::Kill(1.0));
    assert_eq!(world.alive().count(), 1, "the first, through whom others join, is spared");
    world.look_up(7, b"whom?");
    assert_eq!(world.running().count(), 0, "the dead are not asked");
}

/// S0-34: networks of 4, 16, 128 and 1,024 nodes that join for real.
#[test]
fn networks_of_all_sizes_come_to_be_and_find_everything() {
    for (nodes, lookups) in [(4, 20), (16, 40), (128, 100), (1024, 60)] {
        let report = run(&Scenario {
            nodes,
            start: Start::Join { every: 100 * MS, seeds: 1 },
            lookups: Lookups { count: lookups, ..Lookups::default() },
            ..Scenario::default()
        });
        let all = report.summary();
        assert_eq!((report.joined, all.count), (nodes, lookups));
        assert!(all.recall >= 0.999 && all.success >= 1.0, "{nodes}: {all:?}");
        // S0-14: at most 2·(k + α·log₂(n/k)) requests, k = 20, α = 4.
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let depth = (nodes as f64 / 20.0).log2().max(0.0);
        assert!(all.requests <= 2.0 * (20.0 + 4.0 * depth), "{nodes}: {all:?}");
        assert_eq!(report.displaced, 0, "nobody who lives is displaced");
        let per_node = report.setup_requests_per_node();
        assert!(per_node < 400.0, "{nodes}: {per_node} requests a node");
    }
}

#[test]
fn clients_are_found_by_nobody_and_find_everybody() {
    let report = run(&Scenario {
        nodes: 120,
        roles: Roles { clients: 0.3, ..Roles::default() },
        start: Start::Join { every: 100 * MS, seeds: 1 },
        lookups: Lookups { count: 60, ..Lookups::default() },
        ..Scenario::default()
    });
    let all = report.summary();
    assert!(all.recall >= 0.995, "{all:?}");
    assert!(report.lookups.iter().all(|lookup| lookup.requests < 84), "nobody asks a client");
}
