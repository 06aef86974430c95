//! Mixed faults, a network of twenty for each seed: whatever happens, nothing breaks an invariant.
//!
//! ```sh
//! SEEDS=1..100000 SEEDS_FOR=3600 cargo test --release --test sim seeds_of_mixed -- --ignored --nocapture
//! ```
//!
//! runs for as many seconds as it is given, tells how far it has come, and ends at the first violation with the seed and the command
//! that repeats it.

use std::ops::Range;
use std::time::Duration;

use libp2p_kademlia::sim::{
    Churn, Hosting, Incident, Links, Load, Lookups, Records, Roles, RoundTrip, Scenario, Start,
};
use libp2p_kademlia::{Config, Protection, Rng};

use super::{MS, SECOND, given, given_seeds};

/// So many nodes are enough for whatever goes wrong between two of them.
const NODES: usize = 20;

/// Who does not play along.
fn roles(rng: &mut Rng) -> Roles {
    let mut share = |most: f64| if rng.below(2) == 0 { 0.0 } else { rng.unit() * most };
    Roles {
        clients: share(0.2),
        undialable: share(0.1),
        colluders: share(0.1),
        poisoners: share(0.1),
        liars: share(0.1),
        stuffers: share(0.1),
        laggards: share(0.1),
    }
}

/// The network of a seed: each has faults of its own.
fn network(seed: u64) -> Scenario {
    let mut rng = Rng::from_u64(seed ^ 0x5eed);
    let roles = roles(&mut rng);
    let seconds = |rng: &mut Rng, most: u64| SECOND * u32::try_from(rng.below(most)).unwrap();
    let incidents = (0..rng.below(5)).map(|_| {
        let share = rng.unit() / 2.0;
        let incident = match rng.below(6) {
            0 => Incident::Freeze(share),
            1 => Incident::Kill(share / 2.0),
            2 => Incident::CutUplinks(share),
            3 => Incident::Partition { share, one_way: rng.below(2) == 0 },
            _ => Incident::Heal,
        };
        (seconds(&mut rng, 300), incident)
    });
    let incidents = incidents.collect();
    let churn = (rng.below(2) == 0).then(|| {
        let mean_session = SECOND * 60 + seconds(&mut rng, 1200);
        Churn { mean_session, new_ids: rng.unit(), crashes: rng.unit() }
    });
    let mut load = |most: u64| Load {
        count: usize::try_from(rng.below(most)).unwrap(),
        first_at: Some(seconds(&mut rng, 200)),
        every: MS * u32::try_from(1 + rng.below(5000)).unwrap(),
    };
    let [puts, gets, provides, searches] = [12; 4].map(&mut load);
    let records = Records { puts, gets, provides, searches, ..Records::default() };
    let hosting = [Hosting::Spread, Hosting::Spread, Hosting::OneNetwork, Hosting::OneRelay];
    let hosting = hosting[usize::try_from(rng.below(4)).unwrap()];
    let protection = [Protection::ByProtocol, Protection::Off, Protection::Providers, Protection::All];
    let config = match rng.below(3) {
        0 => Config::default(),
        _ => Config::for_protocol("/seeds/kad/1.0.0").unwrap(),
    };
    let config = config.with_protection(protection[usize::try_from(rng.below(4)).unwrap()]);
    let rtt = if rng.below(2) == 0 { RoundTrip::Constant(50 * MS) } else { Links::default().rtt };
    let start = match rng.below(4) {
        0 => Start::Ideal,
        _ => Start::Join { every: MS * u32::try_from(1 + rng.below(3000)).unwrap(), seeds: 1 },
    };
    Scenario {
        nodes: NODES,
        seed,
        config,
        links: Links {
            rtt,
            loss: [0.0, 0.0, 0.01, 0.1][usize::try_from(rng.below(4)).unwrap()],
            ..Links::default()
        },
        // An ideal table has all nodes that belong there, which limits per network would not let in.
        hosting: if start == Start::Ideal { Hosting::Spread } else { hosting },
        work: if rng.below(4) == 0 { MS / 10 } else { Duration::ZERO },
        start,
        roles,
        churn,
        incidents,
        lookups: Lookups {
            count: usize::try_from(rng.below(20)).unwrap(),
            every: 300 * MS,
            ..Lookups::default()
        },
        records,
        settle: SECOND * 10,
        lasts: SECOND * 400,
        ..Scenario::default()
    }
}

/// Runs the networks of some seeds until the time is up. Returns the seed that would be next.
fn run_all(seeds: Range<u64>, goes_on: impl Fn(u64) -> bool) -> u64 {
    for seed in seeds.clone() {
        if !goes_on(seed) {
            return seed;
        }
        // What panics says so itself; which seed it was is told by the next line.
        let result = std::panic::catch_unwind(|| network(seed).run().map(drop));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(violation)) => panic!("seed {seed}: {violation}"),
            Err(_) => panic!("seed {seed}: it panics; SEEDS={seed}..{} repeats it", seed + 1),
        }
    }
    seeds.end
}

#[test]
fn forty_seeds_of_mixed_faults_break_no_invariant() {
    assert_eq!(run_all(1..41, |_| true), 41);
}

#[test]
#[ignore = "takes as long as it is given: SEEDS_FOR=3600 cargo test --release --test sim seeds_of_mixed -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "how long it runs is no part of what it runs")]
fn seeds_of_mixed_faults_break_no_invariant_for_hours() {
    let Range { start: first, end } = given_seeds(1..100_001);
    let limit = Duration::from_secs(given("SEEDS_FOR", 600));
    let begun = std::time::Instant::now();
    let next = run_all(first..end, |_| begun.elapsed() < limit);
    println!("seeds {first}..{next} break nothing ({} of {})", next - first, end - first);
}
