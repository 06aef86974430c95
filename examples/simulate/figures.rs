//! Figures: what a run came to, number by number, and what several runs of one setting did together.

use libp2p_kademlia::sim::{RecordQuery, RecordSummary, Report, Summary};

/// A figure of a run.
pub(crate) struct Figure {
    /// What it is called in a table.
    pub(crate) name: &'static str,
    /// What it is called in a file.
    pub(crate) key: &'static str,
    /// With how many digits behind the point it is shown.
    pub(crate) digits: usize,
    /// Returns it, if the run has it.
    of: fn(&Sums<'_>) -> Option<f64>,
}

/// A report with its sums, which are made once for all figures.
pub(crate) struct Sums<'a> {
    report: &'a Report,
    lookups: Option<Summary>,
    puts: Option<RecordSummary>,
    gets: Option<RecordSummary>,
    provides: Option<RecordSummary>,
    searches: Option<RecordSummary>,
}

impl<'a> Sums<'a> {
    pub(crate) fn of(report: &'a Report) -> Self {
        let lookups = Some(report.summary()).filter(|all| all.count > 0);
        let of = |kind| Some(report.summary_of(kind)).filter(|all| all.count > 0);
        let (puts, gets) = (of(RecordQuery::Put), of(RecordQuery::Get));
        let (provides, searches) = (of(RecordQuery::Provide), of(RecordQuery::Search));
        Self { report, lookups, puts, gets, provides, searches }
    }
}

impl Figure {
    /// Returns the figure of a run, if it has it.
    pub(crate) fn of(&self, sums: &Sums<'_>) -> Option<f64> {
        (self.of)(sums)
    }
}

const fn figure(
    name: &'static str,
    key: &'static str,
    digits: usize,
    of: fn(&Sums<'_>) -> Option<f64>,
) -> Figure {
    Figure { name, key, digits, of }
}

/// All figures, in the order in which they are shown.
pub(crate) const FIGURES: &[Figure] = &[
    figure("nodes", "nodes", 0, |all| Some(count(all.report.nodes))),
    figure("alive at the end", "alive", 0, |all| Some(count(all.report.alive))),
    figure("requests a node to join", "requests_to_join", 1, |all| {
        (!all.report.ideal).then(|| all.report.setup_requests_per_node())
    }),
    figure("lookups", "lookups", 0, |all| Some(count(all.report.lookups.len()))),
    figure("lookups finished a second", "lookups_a_second", 1, |all| {
        all.lookups.and_then(|_| finished_a_second(all.report))
    }),
    figure("latency p50, ms", "lookup_p50_ms", 0, |all| all.lookups.map(|all| millis(all.p50))),
    figure("latency p90, ms", "lookup_p90_ms", 0, |all| all.lookups.map(|all| millis(all.p90))),
    figure("latency p99, ms", "lookup_p99_ms", 0, |all| all.lookups.map(|all| millis(all.p99))),
    figure("requests a lookup", "lookup_requests", 2, |all| all.lookups.map(|all| all.requests)),
    figure("hops a lookup", "lookup_hops", 2, |all| all.lookups.map(|all| all.hops)),
    figure("dials a lookup", "lookup_dials", 2, |all| all.lookups.map(|all| all.dials)),
    figure("bytes a lookup", "lookup_bytes", 0, |all| all.lookups.map(|_| all.report.bytes_per_lookup())),
    figure("recall of the true closest", "lookup_recall", 4, |all| all.lookups.map(|all| all.recall)),
    figure("the same, the silent counted in", "lookup_of_closest", 4, |all| {
        all.lookups.map(|all| all.of_closest)
    }),
    figure("the same, the dishonest counted in", "lookup_of_honest", 4, |all| {
        all.lookups.map(|all| all.of_honest)
    }),
    figure("ended without an error", "lookup_success", 4, |all| all.lookups.map(|all| all.success)),
    figure("reached an honest one of the closest", "lookup_honest", 4, |all| {
        all.lookups.map(|all| all.honest)
    }),
    figure("puts", "puts", 0, |all| all.puts.map(|all| count(all.count))),
    figure("acknowledged", "put_success", 4, |all| all.puts.map(|all| all.success)),
    figure("put p50, ms", "put_p50_ms", 0, |all| all.puts.map(|all| millis(all.took[0]))),
    figure("put p90, ms", "put_p90_ms", 0, |all| all.puts.map(|all| millis(all.took[1]))),
    figure("put p99, ms", "put_p99_ms", 0, |all| all.puts.map(|all| millis(all.took[2]))),
    figure("requests a put", "put_requests", 2, |all| all.puts.map(|all| all.requests)),
    figure("peers that stored it", "put_reached", 2, |all| all.puts.map(|all| all.reached)),
    figure("gets", "gets", 0, |all| all.gets.map(|all| count(all.count))),
    figure("found the value", "get_success", 4, |all| all.gets.map(|all| all.success)),
    figure("first answer p50, ms", "get_first_p50_ms", 0, |all| all.gets.map(|all| millis(all.first[0]))),
    figure("first answer p90, ms", "get_first_p90_ms", 0, |all| all.gets.map(|all| millis(all.first[1]))),
    figure("first answer p99, ms", "get_first_p99_ms", 0, |all| all.gets.map(|all| millis(all.first[2]))),
    figure("get p50, ms", "get_p50_ms", 0, |all| all.gets.map(|all| millis(all.took[0]))),
    figure("get p90, ms", "get_p90_ms", 0, |all| all.gets.map(|all| millis(all.took[1]))),
    figure("get p99, ms", "get_p99_ms", 0, |all| all.gets.map(|all| millis(all.took[2]))),
    figure("requests a get", "get_requests", 2, |all| all.gets.map(|all| all.requests)),
    figure("announcements", "provides", 0, |all| all.provides.map(|all| count(all.count))),
    figure("told enough", "provide_success", 4, |all| all.provides.map(|all| all.success)),
    figure("enough told p50, ms", "provide_p50_ms", 0, |all| all.provides.map(|all| millis(all.took[0]))),
    figure("enough told p90, ms", "provide_p90_ms", 0, |all| all.provides.map(|all| millis(all.took[1]))),
    figure("enough told p99, ms", "provide_p99_ms", 0, |all| all.provides.map(|all| millis(all.took[2]))),
    figure("requests an announcement", "provide_requests", 2, |all| all.provides.map(|all| all.requests)),
    figure("peers told by then", "provide_reached", 2, |all| all.provides.map(|all| all.reached)),
    figure("searches for providers", "searches", 0, |all| all.searches.map(|all| count(all.count))),
    figure("found the provider", "search_success", 4, |all| all.searches.map(|all| all.success)),
    figure("first provider p50, ms", "search_first_p50_ms", 0, |all| {
        all.searches.map(|all| millis(all.first[0]))
    }),
    figure("first provider p90, ms", "search_first_p90_ms", 0, |all| {
        all.searches.map(|all| millis(all.first[1]))
    }),
    figure("first provider p99, ms", "search_first_p99_ms", 0, |all| {
        all.searches.map(|all| millis(all.first[2]))
    }),
    figure("search p50, ms", "search_p50_ms", 0, |all| all.searches.map(|all| millis(all.took[0]))),
    figure("search p90, ms", "search_p90_ms", 0, |all| all.searches.map(|all| millis(all.took[1]))),
    figure("search p99, ms", "search_p99_ms", 0, |all| all.searches.map(|all| millis(all.took[2]))),
    figure("requests a search", "search_requests", 2, |all| all.searches.map(|all| all.requests)),
    figure("providers found", "search_reached", 2, |all| all.searches.map(|all| all.reached)),
    figure("requests a node and hour", "requests_per_node_and_hour", 0, |all| {
        Some(all.report.requests_per_node_and_hour())
    }),
    figure("know all but 2 of their nearest", "near", 4, |all| {
        all.report.health.last().map(|health| health.near)
    }),
    figure("stale entries", STALE, 4, |all| all.report.health.last().map(|health| health.stale)),
    figure("peers in a table", "entries", 1, |all| all.report.health.last().map(|health| health.entries)),
];

/// Returns how many lookups have ended without an error in a second, from when the first of all began to when the last of these
/// ended.
pub(crate) fn finished_a_second(report: &Report) -> Option<f64> {
    let finished = || report.lookups.iter().filter(|lookup| lookup.success);
    let began = report.lookups.iter().map(|lookup| lookup.began).min()?;
    let ended = finished().map(|lookup| lookup.began + lookup.took).max()?;
    let all = finished().count();
    Some(count(all) / ended.saturating_sub(began).as_secs_f64()).filter(|rate| rate.is_finite())
}

/// The figure that means something else where tables were ideal from the beginning.
pub(crate) const STALE: &str = "stale";

#[expect(clippy::cast_precision_loss, reason = "numbers of nodes and queries")]
pub(crate) const fn count(number: usize) -> f64 {
    number as f64
}

/// Returns a time in milliseconds: the number nearest to it.
#[expect(clippy::cast_precision_loss, reason = "a hundred days are exact")]
pub(crate) const fn millis(time: std::time::Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

/// The mean of a figure over several runs, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mean {
    pub(crate) mean: f64,
    /// The mean of ever more such runs lies no farther away, with a probability of 95 %: half of Student's interval. With one
    /// run nothing is known of that.
    pub(crate) half: Option<f64>,
}

/// Returns the mean of some numbers, if there are any.
pub(crate) fn mean(numbers: &[f64]) -> Option<Mean> {
    let runs = count(numbers.len());
    if numbers.is_empty() {
        return None;
    }
    let mean = numbers.iter().sum::<f64>() / runs;
    let freedom = numbers.len() - 1;
    let half = (freedom > 0).then(|| {
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        student(freedom) * (squares / count(freedom) / runs).sqrt()
    });
    Some(Mean { mean, half })
}

/// Student's t, below which 97.5 % lie, by the degrees of freedom: any table of it, to three digits.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

fn student(freedom: usize) -> f64 {
    // Beyond the table it nears that of the normal distribution, so to two digits.
    STUDENT.get(freedom.saturating_sub(1)).copied().unwrap_or_else(|| 1.96 + 2.4 / count(freedom))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_student() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[3.0]), Some(Mean { mean: 3.0, half: None }));
        assert_eq!(mean(&[3.0; 20]), Some(Mean { mean: 3.0, half: Some(0.0) }));
        // The standard deviation of 1, 2, 3, 4, 5 is √2.5, of the mean √0.5; t is 2.776.
        let five = mean(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert!(five.mean == 3.0 && (five.half.unwrap() - 1.963).abs() < 1e-3, "{five:?}");
        // By a table: 2.021 for 40, 1.984 for 100.
        assert!((student(40) - 2.021).abs() < 2e-3 && (student(100) - 1.984).abs() < 2e-3);
    }
}
