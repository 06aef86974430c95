//! What users of the simulator bring themselves, and what they see of a run while it goes on.

use std::num::{NonZeroU8, NonZeroU64};
use std::time::Duration;

use libp2p_kademlia::Config;
use libp2p_kademlia::sim::{
    Churn, Draw, Group, Incident, Links, Lookups, Progress, Report, RoundTrip, Scenario, Session, Size,
    Stage, Start, World,
};

use super::{MS, NOW, SECOND, run};

fn small() -> Scenario {
    Scenario { nodes: 100, lookups: Lookups { count: 30, ..Lookups::default() }, ..Scenario::default() }
}

fn joining() -> Scenario {
    Scenario { start: Start::Join { every: 20 * MS, seeds: 1 }, ..small() }
}

/// Runs a scenario until some progress, and returns all that was shown.
fn watched(scenario: &Scenario, until: impl Fn(&Progress) -> bool) -> (Report, Vec<Progress>) {
    let (mut seen, mut shown) = (Vec::new(), 0);
    let report = scenario.run_while(|world, progress| {
        assert!(world.len() <= scenario.nodes);
        if progress.stage == Stage::Running && progress.done >= 1.0 {
            shown = world.outcomes().len();
        }
        seen.push(progress);
        !until(&progress)
    });
    let report = report.unwrap();
    assert!(report.stopped.is_some() || shown == report.lookups.len(), "at the end all outcomes are shown");
    (report, seen)
}

#[test]
fn a_run_is_shown_from_its_beginning_and_watching_changes_nothing() {
    use Stage::{Connecting, Joins, Running, Settling, Tables};
    for (scenario, expected) in
        [(small(), vec![Tables, Connecting, Settling, Running]), (joining(), vec![Joins, Settling, Running])]
    {
        let (report, seen) = watched(&scenario, |_| false);
        let mut stages: Vec<_> = seen.iter().map(|progress| progress.stage).collect();
        stages.dedup();
        assert_eq!(stages, expected);
        for two in seen.windows(2) {
            assert!(two[0].stage != two[1].stage || two[0].done <= two[1].done, "{two:?}");
        }
        assert!(seen.iter().all(|progress| (0.0..=1.0).contains(&progress.done)));
        assert_eq!(seen.last().map(|last| last.done), Some(1.0));
        assert_eq!((report.stopped, report.hash), (None, run(&scenario).hash));
    }
}

#[test]
fn a_run_that_is_stopped_tells_what_it_has() {
    let (report, seen) =
        watched(&small(), |progress| progress.stage == Stage::Running && progress.done >= 0.5);
    assert_eq!(report.stopped, seen.last().copied());
    assert!((5..25).contains(&report.lookups.len()) && report.traffic.requests > 0, "{report}");
    assert!(report.to_string().contains("stopped early") && !report.to_string().contains("hash"));
    let (report, _) = watched(&small(), |progress| progress.done >= 0.5);
    assert_eq!(report.stopped.map(|at| at.stage), Some(Stage::Tables));
    assert!(report.lookups.is_empty() && report.alive < 100, "{report}");
    let (report, _) = watched(&joining(), |progress| progress.stage == Stage::Settling);
    assert!(report.stopped.is_some() && report.lookups.is_empty() && report.alive == 100, "{report}");
}

#[test]
fn a_group_has_its_own_configuration() {
    let group =
        |size, k| Group { size, config: Config::default().with_bucket_size(NonZeroU8::new(k).unwrap()) };
    let groups = vec![group(Size::Share(0.3), 8), group(Size::Nodes(7), 4), group(Size::Share(0.0), 1)];
    let mut world = World::new(&Scenario { groups, ..small() });
    let largest = |world: &World, n: usize| {
        world.node(n).unwrap().table().buckets().map(|bucket| bucket.entries().len()).max().unwrap()
    };
    let sizes: Vec<_> = (0..100).map(|n| largest(&world, n)).collect();
    let count = |k: usize| sizes.iter().filter(|size| **size == k).count();
    assert_eq!((count(4), count(8), count(20)), (7, 30, 63), "{sizes:?}");
    world.check().unwrap();
    // Each is asked for as many as its own `k`.
    let asker = sizes.iter().position(|size| *size == 4).unwrap();
    world.look_up(asker, b"any bytes");
    assert!(world.run_until_answered(20 * SECOND));
    let outcome = world.outcomes()[0];
    assert!(outcome.recall >= 1.0 && outcome.requests < 15, "{outcome:?}");
    let hash = |nodes| {
        let groups = vec![group(Size::Nodes(nodes), 8)];
        run(&Scenario { groups, ..joining() }).hash
    };
    assert_eq!(hash(10), hash(10));
    assert_ne!(hash(10), hash(11));
}

#[test]
fn a_node_that_is_gone_or_silent_is_revived() {
    let mut world = World::new(&joining());
    let id = *world.node(7).unwrap().local_peer_id();
    assert!(!world.revive(7) && !world.revive(1000), "it lives, or never was");
    world.kill(7);
    world.run_for(60 * SECOND);
    assert!(world.node(7).is_none());
    assert!(world.revive(7));
    world.run_for(60 * SECOND);
    let node = world.node(7).unwrap();
    assert_eq!(*node.local_peer_id(), id);
    assert!(node.table().len() > 20 && world.closest_alive(&id.to_bytes(), 1) == [7]);
    world.incident(Incident::Freeze(1.0));
    assert_eq!(world.alive().count(), 1);
    assert!(world.revive(7));
    assert_eq!(world.alive().collect::<Vec<_>>(), [0, 7]);
    world.suspend(7);
    assert!(!world.revive(7), "a machine that sleeps is woken by its clock");
    world.resume(7);
    world.run_for(60 * SECOND);
    world.check().unwrap();
}

#[test]
fn a_node_that_is_revived_is_away_no_more() {
    let churn = Some(Churn { mean_session: 60 * SECOND, new_ids: 0.0, ..Churn::default() });
    let mut world = World::new(&Scenario { churn, nodes: 30, ..joining() });
    for _ in 0..60 {
        world.run_for(10 * SECOND);
        let gone = (0..world.len()).find(|n| world.node(*n).is_none());
        assert!(gone.is_none_or(|gone| world.revive(gone)));
        world.check().unwrap();
    }
    let counted = world.stats().dials.started;
    assert_eq!(counted, world.traffic().dials, "nobody who lives has begun anew");
}

#[test]
fn sessions_last_as_long_as_is_drawn() {
    let draw = |session, _: &mut _| match session {
        Session::UnderWay => 50 * SECOND,
        Session::New => 100 * SECOND,
    };
    let scenario = Scenario {
        churn: Some(Churn { new_ids: 1.0, ..Churn::default() }),
        sessions: Some(Draw::new(draw)),
        ..joining()
    };
    let mut world = World::new(&scenario);
    // All but the first, who comes back with its id, leave and are followed by others.
    for (time, expected) in [(49, 100), (2, 199), (98, 199), (2, 298), (100, 397)] {
        world.run_for(time * SECOND);
        assert_eq!((world.len(), world.alive().count()), (expected, 100), "{:?}", world.now());
    }
    assert_eq!(run(&scenario).hash, run(&scenario).hash);
}

#[test]
fn what_is_sent_takes_its_bytes_over_the_bandwidth() {
    let even = Links { rtt: RoundTrip::Constant(100 * MS), warm: true, ..Links::default() };
    let lookups = Lookups { count: 30, every: SECOND, ..Lookups::default() };
    let p50 = |links: Links| run(&Scenario { links, lookups, settle: NOW, ..small() }).summary().p50;
    let usual = p50(even.clone());
    assert_eq!(usual.as_millis() % 100, 0, "whole round trips: {usual:?}");
    let rate = |rate| NonZeroU64::new(rate);
    // An answer of some 1,200 bytes takes 120 ms more.
    let connection = p50(Links { bandwidth: rate(10_000), ..even.clone() });
    assert!(connection >= usual + 100 * MS && connection <= 4 * usual, "{connection:?}, {usual:?}");
    // Several requests leave a node together.
    let uplink = p50(Links { uplink: rate(10_000), ..even.clone() });
    assert!(uplink >= connection, "{uplink:?}, {connection:?}");
    assert!(p50(Links { uplink: rate(u64::MAX), bandwidth: rate(u64::MAX), ..even }) - usual < MS);
}

#[test]
fn links_delay_as_is_drawn() {
    let slow = |_: Duration, _: &mut _| 500 * MS;
    let links = Links {
        rtt: RoundTrip::Drawn(Draw::new(
            |(_, b): (usize, usize), _: &mut _| {
                if b < 50 { 10 * MS } else { 20 * MS }
            },
        )),
        warm: true,
        ..Links::default()
    };
    let world = World::new(&Scenario { links: links.clone(), settle: NOW, ..small() });
    assert_eq!(
        [world.round_trip(1, 2), world.round_trip(70, 1), world.round_trip(1, 70)],
        [10 * MS, 20 * MS, 20 * MS]
    );
    let fast = run(&Scenario { links: links.clone(), ..small() });
    assert!(fast.summary().p99 < 300 * MS, "{fast}");
    let slow = run(&Scenario { links: Links { delay: Some(Draw::new(slow)), ..links }, ..small() });
    assert!(slow.summary().p50 >= SECOND, "{slow}");
}
