//! Settings: scenarios that differ in nothing but their seeds, and what came of them.

use libp2p_kademlia::sim::{Report, Scenario};

/// A scenario, the seeds with which it runs, and what came of each that has run so far.
pub(crate) struct Setting {
    pub(crate) label: String,
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
    /// Returns the scenario with one of the seeds.
    pub(crate) fn with_seed(&self, seed: u64) -> Scenario {
        Scenario { seed, ..self.scenario.clone() }
    }

    /// Returns the runs that were not stopped.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.report.stopped.is_none())
    }
}
