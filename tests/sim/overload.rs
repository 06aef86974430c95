//! More work than there is time for: lookups of one busy node, and links that turn slow.

use std::fmt::Write as _;
use std::time::Duration;

use libp2p_kademlia::sim::{Links, LookupOutcome, RoundTrip, Scenario, World};

use super::{MS, NOW, SECOND, golden};

/// How long a node works on a message: what a busy client of real streams takes (`docs/costs.md`).
const WORK: Duration = Duration::from_micros(50);

/// What became of some lookups.
struct Outcomes {
    took: Vec<Duration>,
    lookups: f64,
    recall: f64,
    complete: f64,
    requests: f64,
    /// From the first that began to the last that ended.
    all: Duration,
}

impl Outcomes {
    fn of(outcomes: &[&LookupOutcome]) -> Self {
        let lookups = f64::from(u32::try_from(outcomes.len()).unwrap());
        let mean = |of: &dyn Fn(&LookupOutcome) -> f64| outcomes.iter().map(|o| of(o)).sum::<f64>() / lookups;
        let mut took: Vec<_> = outcomes.iter().map(|o| o.took).collect();
        took.sort_unstable();
        let began = outcomes.iter().map(|o| o.began).min().unwrap();
        let ended = outcomes.iter().map(|o| o.began + o.took).max().unwrap();
        Self {
            lookups,
            recall: mean(&|o| o.recall),
            complete: mean(&|o| f64::from(u8::from(o.success && o.recall >= 1.0))),
            requests: mean(&|o| f64::from(o.requests)),
            took,
            all: ended - began,
        }
    }

    fn row(&self, name: &str) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let at = |share: usize| ms(self.took[(self.took.len() - 1) * share / 100]);
        format!(
            "{name:<34}{:>9.0}{:>9.0}{:>9.0}{:>10.1}{:>10.2}{:>10.4}{:>10.4}\n",
            at(50),
            at(99),
            ms(self.all),
            self.lookups / self.all.as_secs_f64(),
            self.requests,
            self.recall,
            self.complete
        )
    }
}

fn head(first: &str) -> String {
    format!(
        "{first:<34}{:>9}{:>9}{:>9}{:>10}{:>10}{:>10}{:>10}\n",
        "p50, ms", "p99, ms", "all, ms", "a second", "requests", "recall", "all found"
    )
}

fn world(seed: u64, nodes: usize, rtt: RoundTrip, warm: bool) -> World {
    World::new(&Scenario {
        seed,
        nodes,
        work: WORK,
        links: Links { rtt, warm, ..Links::default() },
        settle: 60 * SECOND,
        ..Scenario::default()
    })
}

/// A node looks up so many keys at once.
fn at_once(world: &mut World, node: usize, count: usize) -> Vec<LookupOutcome> {
    let before = world.outcomes().len();
    (0..count).for_each(|n| world.look_up(node, format!("{count}: {n}").as_bytes()));
    while world.outcomes().len() < before + count {
        world.run_for(SECOND);
    }
    world.outcomes()[before..].to_vec()
}

/// So many lookups at once as each of the `counts` says, each by a node of its own that has rested, in several networks.
fn in_networks<const N: usize>(counts: [usize; N], world: impl Fn(u64) -> World) -> [Outcomes; N] {
    let (mut outcomes, mut took) = (counts.map(|_| Vec::new()), [NOW; N]);
    for seed in 1..=NETWORKS {
        let mut world = world(seed);
        for (node, count) in counts.into_iter().enumerate() {
            let new = at_once(&mut world, node, count);
            took[node] += Outcomes::of(&new.iter().collect::<Vec<_>>()).all;
            outcomes[node].extend(new);
        }
    }
    let mut took = took.into_iter();
    outcomes.map(|of| Outcomes { all: took.next().unwrap(), ..Outcomes::of(&of.iter().collect::<Vec<_>>()) })
}

/// Of one network much is chance: which links are slow, and whether one of the closest is behind them.
const NETWORKS: u64 = 3;

/// However many are asked for at once: it takes longer in proportion, and nothing is lost.
#[test]
fn what_is_too_much_at_once_takes_longer_and_loses_nothing() {
    let mut table = head("nodes, round trip, lookups at once");
    let far = RoundTrip::Lognormal { median: 100 * MS, sigma: 0.6 };
    for (name, nodes, rtt, warm) in
        [("64, .1 ms", 65, RoundTrip::Constant(MS / 10), true), ("300, 100 ms", 300, far, false)]
    {
        let counts = [1, 32, 1000];
        let all = in_networks(counts, |seed| world(seed, nodes, rtt.clone(), warm));
        for (count, outcomes) in counts.iter().zip(&all) {
            assert!(outcomes.recall >= 0.995 && outcomes.requests <= 22.0, "{}", outcomes.row(name));
            table += &outcomes.row(&format!("{name}, {count}"));
        }
    }
    golden("overload.txt", &table);
}

/// Links of next to no time take 100 ms from one moment to the next.
#[test]
fn links_that_turn_slow_are_followed_within_a_lookup() {
    let mut table = head("lookup");
    let mut world = world(1, 300, RoundTrip::Constant(MS), true);
    let before = Outcomes::of(&at_once(&mut world, 0, 1).iter().collect::<Vec<_>>());
    for n in 0..100 {
        world.look_up(0, format!("before {n}").as_bytes());
        world.run_for(SECOND);
    }
    table += &before.row("before");
    world.set_links(Links { rtt: RoundTrip::Constant(100 * MS), warm: true, ..Links::default() });
    let mut first = world.outcomes().len();
    for (name, count) in [("1st", 1), ("2nd to 10th", 9), ("11th to 30th", 20)] {
        for n in 0..count {
            world.look_up(0, format!("{name} {n}").as_bytes());
            world.run_for(10 * SECOND);
        }
        let outcomes: Vec<_> = world.outcomes()[first..].iter().collect();
        first = world.outcomes().len();
        let all = Outcomes::of(&outcomes);
        assert!(all.recall >= 0.99 && all.requests <= 30.0, "{}", all.row(name));
        writeln!(table, "{}", Outcomes::of(&outcomes).row(name).trim_end()).unwrap();
    }
    golden("link-turns-slow.txt", &table);
}
