//! Connections that are open but dead: a gateway has forgotten them, and tells nobody.

use std::fmt::Write as _;

use libp2p_kademlia::sim::{Links, LookupOutcome, Scenario, Start, World};

use super::{MS, SECOND, golden};

/// Every tenth node loses all its connections without being told, while new ones work.
const SILENCED: usize = 10;

/// Each of them looks something up every second, for a minute.
fn look_up(world: &mut World, silenced: &[usize], seconds: u32) {
    for second in 0..seconds {
        for n in silenced {
            world.look_up(*n, format!("key {second} of {n}").as_bytes());
        }
        world.run_for(SECOND);
    }
    world.run_for(30 * SECOND);
}

/// The entries of the tables of all nodes.
fn entries(world: &World) -> Vec<usize> {
    (0..world.len()).map(|n| world.node(n).unwrap().table().len()).collect()
}

#[test]
fn nodes_whose_connections_are_dead_find_out_within_seconds_and_blame_nobody() {
    let mut world = World::new(&Scenario {
        nodes: 300,
        start: Start::Join { every: 100 * MS, seeds: 1 },
        settle: 300 * SECOND,
        // So that connections are open that are not kept, too.
        links: Links { idle_timeout: 120 * SECOND, ..Links::default() },
        ..Scenario::default()
    });
    let silenced: Vec<_> = (SILENCED / 2..300).step_by(SILENCED).collect();
    let (before, connections) = (entries(&world), world.num_connections());
    let dropped = world.now();
    silenced.iter().for_each(|n| world.silence_all(*n));
    look_up(&mut world, &silenced, 60);
    let mut table = format!(
        "{:<24}{:>10}{:>12}{:>10}{:>10}\n",
        "lookups begun after, s", "success", "recall", "p50, ms", "max, ms"
    );
    let outcomes: Vec<_> = world.outcomes().iter().filter(|outcome| outcome.began >= dropped).collect();
    let spans = [(0, 5), (5, 15), (15, 30), (30, 60)];
    for (from, to) in spans {
        let of_span: Vec<&LookupOutcome> = outcomes
            .iter()
            .copied()
            .filter(|o| (dropped + from * SECOND..dropped + to * SECOND).contains(&o.began))
            .collect();
        let count = f64::from(u32::try_from(of_span.len()).unwrap());
        let success = of_span.iter().map(|o| f64::from(u8::from(o.success))).sum::<f64>() / count;
        let recall = of_span.iter().map(|o| o.recall).sum::<f64>() / count;
        let mut took: Vec<_> = of_span.iter().map(|o| o.took).collect();
        took.sort_unstable();
        let ms = |at: usize| took[at].as_secs_f64() * 1e3;
        writeln!(
            table,
            "{:<24}{success:>10.4}{recall:>12.4}{:>10.0}{:>10.0}",
            format!("{from} to {to}"),
            ms(took.len() / 2),
            ms(took.len() - 1)
        )
        .unwrap();
        if from >= 30 {
            assert!(recall >= 0.99 && success >= 1.0, "{table}");
        }
    }
    for n in &silenced {
        let first = outcomes
            .iter()
            .filter(|o| o.asker == *n && o.success && o.recall >= 0.9)
            .map(|o| o.began + o.took)
            .min();
        let after = first.map(|at| at - dropped);
        assert!(after.is_some_and(|after| after <= 15 * SECOND), "node {n}: {after:?}");
    }
    let lost: usize =
        before.iter().zip(entries(&world)).map(|(before, now)| before.saturating_sub(now)).sum();
    let total: usize = before.iter().sum();
    writeln!(table, "connections {connections}, entries of tables {total}, lost {lost}").unwrap();
    golden("silenced.txt", &table);
    assert_eq!(lost, 0, "{table}");
}
