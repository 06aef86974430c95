//! What becomes of a network when something happens to it.

use std::fmt::Write as _;
use std::num::NonZeroU8;

use libp2p_kademlia::Config;
use libp2p_kademlia::sim::{
    Churn, Incident, Links, Lookups, Report, Roles, RoundTrip, Scenario, Start, Summary,
};

use super::{MS, NOW, SECOND, golden, run};

/// Nodes that have joined for real.
fn joined() -> Scenario {
    Scenario { start: Start::Join { every: 100 * MS, seeds: 1 }, settle: 300 * SECOND, ..Scenario::default() }
}

fn line(name: &str, sum: &Summary) -> String {
    format!(
        "{name:<34}{:>8.0}{:>8.0}{:>9.2}{:>9.4}{:>9.4}\n",
        sum.p50.as_secs_f64() * 1e3,
        sum.p99.as_secs_f64() * 1e3,
        sum.requests,
        sum.recall,
        sum.success
    )
}

fn heading() -> String {
    format!("{:<34}{:>8}{:>8}{:>9}{:>9}{:>9}\n", "lookups", "p50", "p99", "requests", "recall", "success")
}

/// Sums up lookups by their order, a hundred at a time.
fn by_hundreds(report: &Report, table: &mut String) {
    for (n, hundred) in report.lookups.chunks(100).enumerate() {
        *table += &line(&format!("{} to {}", n * 100 + 1, n * 100 + hundred.len()), &Summary::of(hundred));
    }
}

/// A fifth dies; the others find those that live.
#[test]
fn a_fifth_is_killed() {
    let report = run(&Scenario {
        nodes: 200,
        incidents: vec![(NOW, Incident::Kill(0.2))],
        lookups: Lookups { count: 300, every: SECOND, ..Lookups::default() },
        ..joined()
    });
    let mut table = heading();
    by_hundreds(&report, &mut table);
    golden("killed.txt", &table);
    assert_eq!(report.lookups.len(), 300);
    let later = Summary::of(&report.lookups[100..]);
    assert!(later.recall >= 0.99 && later.success >= 1.0, "{later:?}");
}

/// A fifth falls silent; the others do not wait for them.
#[test]
fn a_fifth_freezes() {
    let mut table = String::new();
    let even = Links { rtt: RoundTrip::Constant(100 * MS), ..Links::default() };
    for (name, links, p50) in
        [("all 100 ms apart", even, 1000 * MS), ("lognormal", Links::default(), 1400 * MS)]
    {
        let report = run(&Scenario {
            nodes: 200,
            links,
            incidents: vec![(NOW, Incident::Freeze(0.2))],
            lookups: Lookups { count: 300, every: SECOND, ..Lookups::default() },
            ..joined()
        });
        writeln!(table, "{name}").unwrap();
        table += &heading();
        by_hundreds(&report, &mut table);
        let all = report.summary();
        assert!(all.p50 <= p50 && all.recall >= 0.975 && all.success >= 1.0, "{name}: {all:?}");
    }
    golden("frozen.txt", &table);
}

/// A twentieth loses its uplink for an hour, keeps its tables, and finds back within a minute.
#[test]
fn uplinks_are_gone_for_an_hour() {
    let hour = 3600 * SECOND;
    let report = run(&Scenario {
        nodes: 100,
        incidents: vec![(NOW, Incident::CutUplinks(0.5)), (hour, Incident::Heal)],
        lookups: Lookups { count: 200, first_at: hour + 60 * SECOND, every: 100 * MS, ..Lookups::default() },
        sample_every: Some(hour / 2),
        ..joined()
    });
    let mut table = heading();
    by_hundreds(&report, &mut table);
    for health in &report.health {
        writeln!(table, "after {:>6} s: {:.1} peers in a table", health.at.as_secs(), health.entries)
            .unwrap();
    }
    golden("uplinks.txt", &table);
    let (before, during) = (report.health[0].entries, report.health[2].entries);
    assert!(during >= 0.9 * before, "{before} {during}");
    let all = report.summary();
    assert!(all.recall >= 0.97 && all.success >= 1.0, "{all:?}");
}

/// A third is parted from the others for ten minutes. Afterwards all is well, and quiet.
#[test]
fn a_partition_heals_without_a_storm() {
    let report = run(&Scenario {
        nodes: 100,
        incidents: vec![
            (NOW, Incident::Partition { share: 0.33, one_way: false }),
            (600 * SECOND, Incident::Heal),
        ],
        lookups: Lookups { count: 200, first_at: 900 * SECOND, every: 100 * MS, ..Lookups::default() },
        lasts: 3600 * SECOND,
        ..joined()
    });
    let mut table = heading();
    by_hundreds(&report, &mut table);
    writeln!(table, "requests a node and hour: {:.0}", report.requests_per_node_and_hour()).unwrap();
    golden("partition.txt", &table);
    let all = report.summary();
    assert!(all.recall >= 0.99 && all.success >= 1.0, "{all:?}");
    assert!(report.requests_per_node_and_hour() <= 1500.0, "{report}");
}

/// Colluders name only each other; disjoint paths get past them.
fn colluders(name: &str, nodes: usize, lookups: usize, shares: &[f64], paths: &[u8]) -> Vec<(f64, u8, f64)> {
    let mut table =
        format!("{:<12}{:>8}{:>10}{:>9}{:>9}\n", "colluders", "paths", "reached", "recall", "requests");
    let mut reached = Vec::new();
    for share in shares {
        for paths in paths {
            let config = Config::default().with_disjoint_paths(NonZeroU8::new(*paths).unwrap());
            let report = run(&Scenario {
                nodes,
                config,
                roles: Roles { colluders: *share, ..Roles::default() },
                settle: NOW,
                links: Links { warm: true, ..Links::default() },
                lookups: Lookups { count: lookups, every: 5 * MS, ..Lookups::default() },
                ..Scenario::default()
            });
            let sum = report.summary();
            writeln!(
                table,
                "{share:<12}{paths:>8}{:>10.4}{:>9.4}{:>9.2}",
                sum.honest, sum.recall, sum.requests
            )
            .unwrap();
            reached.push((*share, *paths, sum.honest));
        }
    }
    golden(name, &table);
    reached
}

#[test]
fn a_fifth_colludes_among_five_hundred() {
    let reached = colluders("colluders-500.txt", 500, 200, &[0.2], &[1, 4]);
    assert!(reached[1].2 >= 0.995 && reached[1].2 >= reached[0].2, "{reached:?}");
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn colluders_among_ten_thousand() {
    let reached = colluders("colluders.txt", 10_000, 2000, &[0.1, 0.2, 0.3, 0.4], &[1, 2, 4, 8]);
    let of = |share: f64, paths: u8| {
        reached.iter().find(|(s, p, _)| (*s - share).abs() < 0.01 && *p == paths).unwrap().2
    };
    assert!(of(0.2, 4) >= 0.995 && of(0.3, 8) >= 0.995, "{reached:?}");
}

/// Whoever lies about addresses, makes peers up or names a thousand of them does not keep honest nodes from each other.
#[test]
fn liars_poisoners_and_stuffers() {
    let mut table = heading();
    for (name, roles) in [
        ("a tenth lies", Roles { liars: 0.1, ..Roles::default() }),
        ("a tenth poisons", Roles { poisoners: 0.1, ..Roles::default() }),
        ("three tenths poison", Roles { poisoners: 0.3, ..Roles::default() }),
        ("a tenth stuffs", Roles { stuffers: 0.1, ..Roles::default() }),
        ("a tenth cannot be dialled", Roles { undialable: 0.1, ..Roles::default() }),
    ] {
        let report = run(&Scenario {
            nodes: 100,
            roles,
            lookups: Lookups { count: 100, every: SECOND, ..Lookups::default() },
            ..joined()
        });
        let all = report.summary();
        table += &line(name, &all);
        // Who is hostile answers, and is found: of the twenty closest honest ones there can be no more than are among the closest.
        assert!(all.success >= 1.0 && all.of_honest >= 0.95, "{name}: {all:?}");
    }
    golden("hostile.txt", &table);
}

/// Nodes come and go for an hour.
#[test]
fn an_hour_of_churn() {
    let report = churn(100, 3600, 100);
    let mut table = heading();
    by_hundreds(&report, &mut table);
    table += &health(&report);
    golden("churn-hour.txt", &table);
    assert!(report.summary().success >= 1.0, "{report}");
}

fn churn(nodes: usize, lasts: u32, lookups: u32) -> Report {
    run(&Scenario {
        nodes,
        start: Start::Join { every: 100 * MS, seeds: 1 },
        settle: 300 * SECOND,
        churn: Some(Churn::default()),
        lookups: Lookups {
            count: usize::try_from(lookups).unwrap(),
            every: SECOND * lasts / lookups,
            ..Lookups::default()
        },
        lasts: SECOND * lasts,
        sample_every: Some(SECOND * lasts / 12),
        ..Scenario::default()
    })
}

fn health(report: &Report) -> String {
    let mut table = format!("{:>10}{:>12}{:>10}{:>10}\n", "hours", "know near", "stale", "entries");
    for health in &report.health {
        let hours = health.at.as_secs_f64() / 3600.0;
        writeln!(table, "{hours:>10.2}{:>12.4}{:>10.4}{:>10.1}", health.near, health.stale, health.entries)
            .unwrap();
    }
    writeln!(table, "requests a node and hour: {:.0}", report.requests_per_node_and_hour()).unwrap();
    table
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn a_day_of_churn() {
    let report = churn(1000, 86_400, 1440);
    let mut table = heading();
    by_hundreds(&report, &mut table);
    table += &health(&report);
    golden("churn-day.txt", &table);
    let samples = &report.health[1..];
    let count = f64::from(u32::try_from(samples.len()).unwrap());
    let near = samples.iter().map(|health| health.near).sum::<f64>() / count;
    let stale = samples.iter().map(|health| health.stale).sum::<f64>() / count;
    assert!(near >= 0.98 && stale <= 0.03, "{near} {stale}");
    assert!(report.requests_per_node_and_hour() <= 1000.0, "{report}");
}
