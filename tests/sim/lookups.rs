//! What lookups cost and find, in sickness and in health.

use libp2p_kademlia::sim::{Incident, Links, Lookups, Report, RoundTrip, Scenario, Start};
use libp2p_kademlia::{Config, Parallelism, Percentile, Precision, TimeoutPolicy};
use std::fmt::Write as _;
use std::num::NonZeroU8;
use std::time::Duration;

use super::{MS, NOW, SECOND, golden, head, mean, row, run, seconds};

/// Ideal tables, everybody connected, a share silent from the beginning, nobody looking after anything.
fn silent(nodes: usize, share: f64, precision: Precision, seed: u64) -> Scenario {
    Scenario {
        nodes,
        seed,
        links: Links { warm: true, ..Links::default() },
        settle: NOW,
        incidents: vec![(NOW, Incident::Freeze(share))],
        lookups: Lookups { count: 2000, every: 5 * MS, precision, ..Lookups::default() },
        ..Scenario::default()
    }
}

/// Seeds on which nothing was tuned.
const SEEDS: [u64; 5] = [101, 102, 103, 104, 105];

fn over_seeds(nodes: usize, share: f64, precision: Precision) -> Vec<Report> {
    SEEDS.iter().map(|seed| run(&silent(nodes, share, precision, *seed))).collect()
}

fn time(reports: &[Report], which: fn(&libp2p_kademlia::sim::Summary) -> Duration) -> f64 {
    mean(reports, |all| seconds(which(all)))
}

/// The bars: one in ten silent (L10), three in ten (L30).
#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn silent_peers_among_ten_thousand() {
    let mut table = head("silent, precision, seed");
    let mut all = Vec::new();
    for (share, precision) in
        [(0.1, Precision::Near), (0.1, Precision::Exact), (0.3, Precision::Near), (0.3, Precision::Exact)]
    {
        let reports = over_seeds(10_000, share, precision);
        for (seed, report) in SEEDS.iter().zip(&reports) {
            let sum = report.summary();
            let name = format!("{share} {precision:?} {seed}");
            table += &row(&name, &sum, report.bytes_per_lookup(), sum.of_closest);
        }
        all.push(reports);
    }
    golden("silent-10000.txt", &table);
    let [near10, exact10, near30, exact30] = &all[..] else { unreachable!() };
    assert!(time(near10, |all| all.p50) <= 0.36 && time(near10, |all| all.p99) <= 0.60);
    assert!(mean(near10, |all| all.requests) <= 16.0 && mean(near10, |all| all.of_closest) >= 0.973);
    assert!(time(exact10, |all| all.p50) <= 0.68 && time(exact10, |all| all.p99) <= 1.12);
    assert!(mean(exact10, |all| all.requests) <= 28.5 && mean(exact10, |all| all.of_closest) >= 0.972);
    assert!(time(near30, |all| all.p99) <= 0.82 && time(exact30, |all| all.p99) <= 1.8);
}

/// The same with a twentieth of the nodes, in every test run.
#[test]
fn silent_peers_among_five_hundred() {
    let mut table = head("silent, precision");
    for (share, precision) in [(0.1, Precision::Near), (0.1, Precision::Exact), (0.3, Precision::Exact)] {
        let scenario = silent(500, share, precision, 101);
        let report = run(&Scenario { lookups: Lookups { count: 300, ..scenario.lookups }, ..scenario });
        let sum = report.summary();
        table += &row(&format!("{share} {precision:?}"), &sum, report.bytes_per_lookup(), sum.of_closest);
        assert!(sum.of_closest >= 0.97 && sum.p99 <= 1800 * MS, "{sum:?}");
    }
    golden("silent-500.txt", &table);
}

/// What the fitted policy of soft timeouts is for: with a fixed quantile either a healthy network loses peers of its
/// results, or a sick one is slow.
#[test]
fn timeout_policies_among_three_hundred() {
    let policies = [
        ("fitted", TimeoutPolicy::Fitted),
        ("p90", TimeoutPolicy::Quantile(Percentile::P90)),
        ("p99", TimeoutPolicy::Quantile(Percentile::P99)),
    ];
    let mut table = head("silent, policy");
    let mut all = Vec::new();
    for share in [0.0, 0.3] {
        for (name, policy) in policies {
            let scenario = silent(300, share, Precision::Exact, 101);
            let report = run(&Scenario {
                config: Config::default().with_timeout_policy(policy),
                lookups: Lookups { count: 200, ..scenario.lookups },
                ..scenario
            });
            let sum = report.summary();
            table += &row(&format!("{share} {name}"), &sum, report.bytes_per_lookup(), sum.of_closest);
            all.push(sum);
        }
    }
    golden("timeout-policies.txt", &table);
    let [fitted, p90, _, sick_fitted, _, sick_p99] = &all[..] else { unreachable!() };
    assert!(fitted.of_closest >= p90.of_closest + 0.01, "it keeps what a low quantile loses");
    assert!(2 * sick_fitted.p99 < sick_p99.p99, "it does not wait where a high quantile does");
}

/// How α and β trade requests for time: the source of their defaults. Thirty-two networks, so they are of a size that is run.
#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn parallelism_and_beta() {
    let nz = |n: u8| NonZeroU8::new(n).unwrap();
    let mut table = head("silent, precision, α, β");
    for share in [0.1, 0.3] {
        for (alpha, parallelism) in [
            ("3", Parallelism::Fixed(nz(3))),
            ("4", Parallelism::Fixed(nz(4))),
            ("5", Parallelism::Fixed(nz(5))),
            ("10", Parallelism::Fixed(nz(10))),
            ("3-6", Parallelism::Adaptive { start: nz(3), max: nz(6) }),
            ("4-6", Parallelism::Adaptive { start: nz(4), max: nz(6) }),
            ("4-10", Parallelism::Adaptive { start: nz(4), max: nz(10) }),
        ] {
            // β shows where α is the default, and an exact lookup has none.
            let betas = if alpha == "4-6" { &[3, 1, 5][..] } else { &[3] };
            let near = betas.iter().map(|beta| (Precision::Near, *beta));
            for (precision, beta) in near.chain([(Precision::Exact, 3)]) {
                let config = Config::default().with_parallelism(parallelism).with_beta(nz(beta));
                let report = run(&Scenario { config, ..silent(3000, share, precision, 1) });
                let sum = report.summary();
                let name = format!("{share} {precision:?} α={alpha} β={beta}");
                table += &row(&name, &sum, report.bytes_per_lookup(), sum.of_closest);
            }
        }
    }
    golden("parallelism.txt", &table);
}

fn healthy(nodes: usize, lookups: usize) -> Report {
    run(&Scenario {
        nodes,
        start: Start::Join { every: 20 * MS, seeds: 1 },
        settle: 300 * SECOND,
        lookups: Lookups { count: lookups, ..Lookups::default() },
        ..Scenario::default()
    })
}

fn sizes(name: &str, sizes: &[(usize, usize)]) {
    let mut table = head("nodes");
    for (nodes, lookups) in sizes {
        let report = healthy(*nodes, *lookups);
        let sum = report.summary();
        table += &row(&nodes.to_string(), &sum, report.bytes_per_lookup(), sum.recall);
        assert!(sum.recall >= 0.9995 && sum.success >= 1.0, "{nodes}: {sum:?}");
    }
    golden(name, &table);
}

#[test]
fn healthy_networks_up_to_three_hundred() {
    sizes("sizes-small.txt", &[(30, 200), (100, 500), (300, 400)]);
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn healthy_networks_up_to_ten_thousand() {
    sizes("sizes.txt", &[(100, 2000), (300, 2000), (1000, 2000), (3000, 2000), (10_000, 2000)]);
}

/// A hundred thousand nodes that know each other from the beginning as well as they may; some 19 GB and a quarter of an hour of a core.
#[test]
#[ignore = "takes long: cargo test --release --test sim -- --ignored"]
fn a_healthy_network_of_a_hundred_thousand() {
    let report = run(&Scenario {
        nodes: 100_000,
        lookups: Lookups { count: 10_000, every: 10 * MS, ..Lookups::default() },
        ..Scenario::default()
    });
    let sum = report.summary();
    let mut table = head("nodes");
    table += &row("100000", &sum, report.bytes_per_lookup(), sum.recall);
    assert!(sum.recall >= 0.999 && sum.success >= 1.0, "{sum:?}");
    golden("sizes-100000.txt", &table);
}

/// Three hundred nodes that are connected already, 100 ms apart: at most three round trips and 23 requests.
#[test]
fn a_lookup_takes_three_round_trips() {
    let report = run(&Scenario {
        nodes: 300,
        links: Links { rtt: RoundTrip::Constant(100 * MS), warm: true, ..Links::default() },
        settle: NOW,
        lookups: Lookups { count: 300, ..Lookups::default() },
        ..Scenario::default()
    });
    let sum = report.summary();
    let mut table = head("nodes");
    table += &row("300, 100 ms apart", &sum, report.bytes_per_lookup(), sum.recall);
    golden("three-round-trips.txt", &table);
    assert!(sum.p99 <= 300 * MS && sum.requests <= 23.0 && sum.recall >= 0.9995, "{sum:?}");
}

/// All requests that 300 nodes send until five minutes after the last has joined.
#[test]
fn joining_costs_little() {
    let mut table = String::from("time between two joins    requests a node\n");
    for every in [1000 * MS, 100 * MS, 10 * MS] {
        let report = run(&Scenario {
            nodes: 300,
            start: Start::Join { every, seeds: 1 },
            settle: 300 * SECOND,
            lookups: Lookups { count: 100, ..Lookups::default() },
            ..Scenario::default()
        });
        let requests = report.setup_requests_per_node();
        writeln!(table, "{:>19} ms {requests:>17.1}", every.as_millis()).unwrap();
        assert!(report.joined == 300 && report.summary().recall >= 0.999, "{report}");
    }
    golden("joining.txt", &table);
}
