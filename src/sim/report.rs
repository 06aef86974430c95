//! Reports: what came of a scenario, as numbers and as a table.

use std::fmt;

use super::measure::{Health, LookupOutcome, ratio};
use super::network::Traffic;
use super::progress::Progress;
use super::records::{RecordOutcome, RecordQuery};
use crate::stats::Stats;
use crate::time::Duration;

/// The report of a scenario that was run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// How many nodes there were at the beginning.
    pub nodes: usize,
    /// How many nodes lived at the end.
    pub alive: usize,
    /// Whether the tables were ideal from the beginning. Then no node needs to join, and none probes those in its table: an
    /// entry leaves it only by failing in a query.
    pub ideal: bool,
    /// How many of the nodes have joined by themselves. Where tables were ideal, that is nobody but those who were asked to.
    pub joined: usize,
    /// What was sent while the network came to be.
    pub setup: Traffic,
    /// How long that took.
    pub setup_took: Duration,
    /// What was sent since.
    pub traffic: Traffic,
    /// How long that took.
    pub took: Duration,
    /// What came of the lookups, in the order in which they ended.
    pub lookups: Vec<LookupOutcome>,
    /// What came of puts, gets, announcements and searches for providers, in the order in which they ended.
    pub records: Vec<RecordOutcome>,
    /// How good the tables were, at each sample and at the end, unless it was stopped before.
    pub health: Vec<Health>,
    /// How many entries of tables were replaced though their peers could be reached.
    pub displaced: u64,
    /// What the nodes have counted since the network came to be, all together, and what they held at the end.
    pub stats: Stats,
    /// How far it had come when it was stopped, if it was.
    pub stopped: Option<Progress>,
    /// The hash of everything that has happened: the same for the same scenario, unless it was stopped.
    pub hash: u64,
}

/// A summary of what some lookups cost and found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// How many there were.
    pub count: usize,
    /// Half of them were faster.
    pub p50: Duration,
    /// Nine of ten were.
    pub p90: Duration,
    /// Ninety-nine of a hundred were.
    pub p99: Duration,
    /// The mean number of requests.
    pub requests: f64,
    /// The mean number of hops.
    pub hops: f64,
    /// The mean number of dials.
    pub dials: f64,
    /// The mean share of the true closest that was found.
    pub recall: f64,
    /// The mean share that was found of those of the true closest that live, where the silent count among the closest.
    pub of_closest: f64,
    /// The share that ended without an error.
    pub success: f64,
    /// The mean share that was found of the honest ones among the true closest, where the dishonest count among the closest.
    pub of_honest: f64,
    /// The share that reached an honest one of the closest.
    pub honest: f64,
}

impl Summary {
    /// Sums up lookups.
    pub fn of<'a>(lookups: impl IntoIterator<Item = &'a LookupOutcome>) -> Self {
        let lookups: Vec<_> = lookups.into_iter().collect();
        let [p50, p90, p99] = percentiles(lookups.iter().map(|lookup| lookup.took).collect());
        let mean = |value: fn(&LookupOutcome) -> f64| {
            let sum: f64 = lookups.iter().map(|lookup| value(lookup)).sum();
            if lookups.is_empty() { 0.0 } else { sum * ratio(1, lookups.len()) }
        };
        Self {
            count: lookups.len(),
            p50,
            p90,
            p99,
            requests: mean(|lookup| f64::from(lookup.requests)),
            hops: mean(|lookup| f64::from(lookup.hops)),
            dials: mean(|lookup| f64::from(lookup.dials)),
            recall: mean(|lookup| lookup.recall),
            of_closest: mean(|lookup| lookup.of_closest),
            success: mean(|lookup| f64::from(u8::from(lookup.success))),
            of_honest: mean(|lookup| lookup.of_honest),
            honest: mean(|lookup| f64::from(u8::from(lookup.honest))),
        }
    }
}

/// Returns within which times half, nine of ten, and ninety-nine of a hundred of some have ended.
fn percentiles(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    [50, 90, 99].map(|percent| {
        let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(at).copied().unwrap_or_default()
    })
}

/// A summary of what some puts, gets, announcements or searches cost and reached.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecordSummary {
    /// How many there were.
    pub count: usize,
    /// The share that was acknowledged, told to enough, or has found what had been put or announced.
    pub success: f64,
    /// How long half, nine of ten and ninety-nine of a hundred took until the first record or provider was found, of those where
    /// one was. A put has nothing of that kind; an announcement ends when enough have been told.
    pub first: [Duration; 3],
    /// How long half, nine of ten and ninety-nine of a hundred took to their ends.
    pub took: [Duration; 3],
    /// The mean number of requests.
    pub requests: f64,
    /// The mean number of peers that have stored the record or were told, or of providers that were found; of values that were
    /// got, one each.
    pub reached: f64,
}

impl RecordSummary {
    /// Sums up queries of one kind.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a RecordOutcome>) -> Self {
        let all: Vec<_> = outcomes.into_iter().collect();
        let mean = |value: &dyn Fn(&RecordOutcome) -> f64| {
            let sum: f64 = all.iter().map(|outcome| value(outcome)).sum();
            if all.is_empty() { 0.0 } else { sum * ratio(1, all.len()) }
        };
        Self {
            count: all.len(),
            success: mean(&|outcome| f64::from(u8::from(outcome.success))),
            first: percentiles(all.iter().filter_map(|outcome| outcome.first).collect()),
            took: percentiles(all.iter().map(|outcome| outcome.took).collect()),
            requests: mean(&|outcome| f64::from(outcome.requests)),
            reached: mean(&|outcome| count(outcome.reached.peers() as u64)),
        }
    }
}

impl Report {
    /// Sums up all lookups.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.lookups)
    }

    /// Sums up all puts, gets, announcements or searches.
    pub fn summary_of(&self, kind: RecordQuery) -> RecordSummary {
        RecordSummary::of(self.records.iter().filter(|outcome| outcome.kind == kind))
    }

    /// Returns how many requests each node sent while the network came to be.
    pub fn setup_requests_per_node(&self) -> f64 {
        count(self.setup.requests) * ratio(1, self.nodes.max(1))
    }

    /// Returns how many requests each node has sent in an hour since.
    pub fn requests_per_node_and_hour(&self) -> f64 {
        let hours = self.took.as_secs_f64() / 3600.0;
        if hours > 0.0 { count(self.traffic.requests) * ratio(1, self.nodes.max(1)) / hours } else { 0.0 }
    }

    /// Returns the bytes sent since the network came to be, for each lookup; what its upkeep sent is among them.
    pub fn bytes_per_lookup(&self) -> f64 {
        count(self.traffic.bytes) * ratio(1, self.lookups.len().max(1))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count that is shown rounded")]
fn count(number: u64) -> f64 {
    number as f64
}

/// Writes a row of a report.
fn row(f: &mut fmt::Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "{name:<38}{:>24}", value.to_string())
}

/// Writes three times in milliseconds.
fn times(f: &mut fmt::Formatter<'_>, name: &str, [p50, p90, p99]: [Duration; 3]) -> fmt::Result {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    row(f, name, format_args!("{:.0} / {:.0} / {:.0}", ms(p50), ms(p90), ms(p99)))
}

/// Writes what came of the puts, gets, announcements and searches that there were.
fn records(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let rows = [
        (RecordQuery::Put, ["puts", "acknowledged", "", "put", "requests a put, peers that stored"]),
        (RecordQuery::Get, ["gets", "found the value", "first answer", "get", "requests a get"]),
        (
            RecordQuery::Provide,
            ["announcements", "told enough", "", "enough told", "requests each, peers told by then"],
        ),
        (
            RecordQuery::Search,
            [
                "searches for providers",
                "found the provider",
                "first provider",
                "search",
                "requests each, found",
            ],
        ),
    ];
    for (kind, [name, success, first, took, requests]) in rows {
        let all = report.summary_of(kind);
        if all.count == 0 {
            continue;
        }
        row(f, name, format_args!("{}", all.count))?;
        row(f, success, format_args!("{:.4}", all.success))?;
        if !first.is_empty() {
            times(f, &format!("{first} p50 / p90 / p99, ms"), all.first)?;
        }
        times(f, &format!("{took} p50 / p90 / p99, ms"), all.took)?;
        match kind {
            RecordQuery::Get => row(f, requests, format_args!("{:.2}", all.requests))?,
            RecordQuery::Put | RecordQuery::Provide | RecordQuery::Search => {
                row(f, requests, format_args!("{:.2} / {:.2}", all.requests, all.reached))?;
            }
        }
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.summary();
        row(f, "nodes, alive at the end", format_args!("{} / {}", self.nodes, self.alive))?;
        if let Some(Progress { stage, done }) = self.stopped {
            row(f, "stopped early", format_args!("{stage}, {:.0} %", 100.0 * done))?;
        }
        if self.ideal {
            row(f, "tables at the beginning", format_args!("ideal: none had to join"))?;
        } else {
            row(f, "joined by themselves", format_args!("{}", self.joined))?;
            row(f, "requests a node to join", format_args!("{:.1}", self.setup_requests_per_node()))?;
        }
        if all.count > 0 {
            row(f, "lookups", format_args!("{}", all.count))?;
            times(f, "latency p50 / p90 / p99, ms", [all.p50, all.p90, all.p99])?;
            row(
                f,
                "requests, hops, dials a lookup",
                format_args!("{:.2} / {:.2} / {:.2}", all.requests, all.hops, all.dials),
            )?;
            row(f, "recall of the true closest", format_args!("{:.4}", all.recall))?;
            row(f, "the same, the silent counted in", format_args!("{:.4}", all.of_closest))?;
            row(f, "the same, the dishonest counted in", format_args!("{:.4}", all.of_honest))?;
            row(f, "ended without an error", format_args!("{:.4}", all.success))?;
            row(f, "reached an honest one of the closest", format_args!("{:.4}", all.honest))?;
        }
        records(f, self)?;
        if self.stopped.is_none() || !self.took.is_zero() {
            row(f, "requests a node and hour", format_args!("{:.0}", self.requests_per_node_and_hour()))?;
        }
        if let Some(health) = self.health.last() {
            row(f, "know all but 2 of their nearest", format_args!("{:.4}", health.near))?;
            let stale = if self.ideal { "stale entries, of which none is probed" } else { "stale entries" };
            row(f, stale, format_args!("{:.4}", health.stale))?;
            row(f, "peers in a table", format_args!("{:.1}", health.entries))?;
        }
        // What was stopped by hand is not repeated by its options.
        if self.stopped.is_some() { Ok(()) } else { writeln!(f, "hash {:016x}", self.hash) }
    }
}
