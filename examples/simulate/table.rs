//! A table of several runs, side by side.

use std::fmt;

use libp2p_kademlia::sim::{Report, Summary};

use super::Run;

/// What each run came to, in a column of its own.
pub(crate) struct Table<'a>(pub(crate) &'a [Run]);

/// A row: its name, and what it shows of a run and the sum of its lookups.
type Row = (&'static str, fn(&Report, &Summary) -> String);

const ROWS: [Row; 19] = [
    ("nodes", |report, _| report.nodes.to_string()),
    ("alive at the end", |report, _| report.alive.to_string()),
    ("requests a node to join", |report, _| format!("{:.1}", report.setup_requests_per_node())),
    ("lookups", |_, all| all.count.to_string()),
    ("latency p50, ms", |_, all| format!("{:.0}", all.p50.as_secs_f64() * 1e3)),
    ("latency p90, ms", |_, all| format!("{:.0}", all.p90.as_secs_f64() * 1e3)),
    ("latency p99, ms", |_, all| format!("{:.0}", all.p99.as_secs_f64() * 1e3)),
    ("requests a lookup", |_, all| format!("{:.2}", all.requests)),
    ("hops a lookup", |_, all| format!("{:.2}", all.hops)),
    ("dials a lookup", |_, all| format!("{:.2}", all.dials)),
    ("bytes a lookup", |report, _| format!("{:.0}", report.bytes_per_lookup())),
    ("recall of the true closest", |_, all| format!("{:.4}", all.recall)),
    ("the same, the silent counted in", |_, all| format!("{:.4}", all.of_closest)),
    ("ended without an error", |_, all| format!("{:.4}", all.success)),
    ("reached an honest one of the closest", |_, all| format!("{:.4}", all.honest)),
    ("requests a node and hour", |report, _| format!("{:.0}", report.requests_per_node_and_hour())),
    ("know all but 2 of their nearest", |report, _| {
        report.health.last().map_or_else(String::new, |health| format!("{:.4}", health.near))
    }),
    ("stale entries", |report, _| {
        report.health.last().map_or_else(String::new, |health| format!("{:.4}", health.stale))
    }),
    ("peers in a table", |report, _| {
        report.health.last().map_or_else(String::new, |health| format!("{:.1}", health.entries))
    }),
];

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |run: &Run| run.label.chars().count().max(10) + 2;
        let summaries: Vec<_> = self.0.iter().map(|run| run.report.summary()).collect();
        write!(f, "{:<38}", "")?;
        for run in self.0 {
            write!(f, "{:>width$}", run.label, width = width(run))?;
        }
        writeln!(f)?;
        for (name, show) in ROWS {
            write!(f, "{name:<38}")?;
            for (run, summary) in self.0.iter().zip(&summaries) {
                write!(f, "{:>width$}", show(&run.report, summary), width = width(run))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
