//! Whole networks on virtual time, held against golden tables.
//!
//! `cargo test --test sim` runs the small ones. The large ones take minutes and want a release build:
//! `cargo test --release --test sim -- --ignored`. `UPDATE_GOLDEN=1` rewrites the tables instead of comparing them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attacks;
mod basics;
mod calibration;
mod censorship;
mod clocks;
mod eclipse;
mod faults;
mod lookups;
mod overload;
mod providers;
mod records;
mod seams;
mod seeds;
mod silenced;
mod soak;
mod workloads;

use std::fmt::{Debug, Write as _};
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use std::{env, fs};

use libp2p_kademlia::sim::{Report, Scenario, Summary};

/// The beginning, from which times count; and no time at all.
const NOW: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Runs a scenario; what it must never do fails the test with the command that repeats it.
fn run(scenario: &Scenario) -> Report {
    scenario.run().unwrap_or_else(|violation| panic!("{violation}"))
}

/// Returns what the environment gives under a name, or what is usual.
fn given<T: FromStr<Err: Debug>>(name: &str, usual: T) -> T {
    env::var(name).map_or(usual, |given| given.parse().unwrap_or_else(|error| panic!("{name}: {error:?}")))
}

/// Returns the seeds that the environment gives, or the usual ones.
fn given_seeds(usual: Range<u64>) -> Range<u64> {
    env::var("SEEDS").map_or(usual, |seeds| {
        let (first, end) = seeds.split_once("..").unwrap_or_else(|| panic!("SEEDS={seeds}, not first..end"));
        first.parse().unwrap()..end.parse().unwrap()
    })
}

/// Compares a table with the golden one of that name, or rewrites that.
fn golden(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/golden").join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, table).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(table, expected, "{}: UPDATE_GOLDEN=1 rewrites it", path.display());
}

/// The head of a table of lookups.
fn head(first: &str) -> String {
    format!(
        "{first:<34}{:>8}{:>8}{:>8}{:>9}{:>6}{:>8}{:>9}{:>9}{:>9}\n",
        "p50", "p90", "p99", "requests", "hops", "dials", "bytes", "recall", "success"
    )
}

/// A row of it: times in milliseconds.
fn row(name: &str, all: &Summary, bytes: f64, recall: f64) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut row = String::new();
    writeln!(
        row,
        "{name:<34}{:>8.0}{:>8.0}{:>8.0}{:>9.2}{:>6.2}{:>8.2}{:>9.0}{recall:>9.4}{:>9.4}",
        ms(all.p50),
        ms(all.p90),
        ms(all.p99),
        all.requests,
        all.hops,
        all.dials,
        bytes,
        all.success
    )
    .unwrap();
    row
}

/// The mean of some figure over reports.
fn mean(reports: &[Report], figure: impl Fn(&Summary) -> f64) -> f64 {
    let sum: f64 = reports.iter().map(|report| figure(&report.summary())).sum();
    sum / f64::from(u32::try_from(reports.len()).unwrap())
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
