//! Settings: scenarios that differ in nothing but their seeds, and what came of them.

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p_kademlia::sim::{Lookups, Report, Scenario};

use super::figures::count;

/// As many as `--lookups` takes.
const MOST_LOOKUPS: f64 = 1e7;

/// A scenario, the seeds with which it runs, and what came of each that has run so far.
pub(crate) struct Setting {
    pub(crate) label: String,
    /// The label of those that differ from it in nothing but how many lookups are offered a second, and how many are.
    pub(crate) offered: Option<(String, NonZeroU32)>,
    pub(crate) scenario: Scenario,
    pub(crate) seeds: Vec<u64>,
    pub(crate) runs: Vec<Run>,
}

/// A run, and what came of it.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) report: Report,
}

impl Setting {
    /// Returns the setting in which so many lookups are offered a second, for as long as they are asked for here.
    pub(crate) fn at_rate(&self, rate: NonZeroU32) -> Result<Self, String> {
        let lookups = self.scenario.lookups;
        let span = lookups.every.as_secs_f64() * count(lookups.count);
        if span <= 0.0 {
            return Err("no time is left to offer lookups in; use --lookups and --every".to_owned());
        }
        let all = span * f64::from(rate.get());
        if all > MOST_LOOKUPS {
            return Err(format!("{all:.0} lookups are more than anybody waits for"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was just seen to fit"
        )]
        let count = (all.round() as usize).max(1);
        let every = Duration::from_secs(1) / rate.get();
        let scenario = Scenario { lookups: Lookups { count, every, ..lookups }, ..self.scenario.clone() };
        let (label, seeds) = (format!("{}, {rate}/s", self.label), self.seeds.clone());
        Ok(Self { label, offered: Some((self.label.clone(), rate)), scenario, seeds, runs: Vec::new() })
    }

    /// Returns the scenario with one of the seeds.
    pub(crate) fn with_seed(&self, seed: u64) -> Scenario {
        Scenario { seed, ..self.scenario.clone() }
    }

    /// Returns the runs that were not stopped.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.report.stopped.is_none())
    }
}
