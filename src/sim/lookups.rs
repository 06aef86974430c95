//! The lookups that nodes make, and what came of them.

use std::collections::BTreeMap;

use super::measure::{self, LookupOutcome, RunningLookup};
use super::network::Network;
use crate::dht::op::{GetClosestPeersError, GetClosestPeersOk};
use crate::event::{QueryId, QueryStats};

/// The lookups of all nodes: those that run, and the outcomes of those that have ended.
///
/// # Bounds
/// One entry for each lookup that was begun.
#[derive(Debug, Default)]
pub(super) struct LookupLog {
    running: BTreeMap<(usize, QueryId), RunningLookup>,
    pub(super) outcomes: Vec<LookupOutcome>,
}

impl LookupLog {
    pub(super) fn begin(&mut self, n: usize, id: QueryId, lookup: RunningLookup) {
        self.running.insert((n, id), lookup);
    }

    /// Measures a lookup that has ended.
    pub(super) fn end(
        &mut self,
        network: &mut Network,
        (n, id): (usize, QueryId),
        result: Result<GetClosestPeersOk, GetClosestPeersError>,
        stats: &QueryStats,
    ) {
        if let Some(lookup) = self.running.remove(&(n, id)) {
            self.outcomes.push(measure::outcome(network, n, lookup, result, stats));
        }
    }

    /// Forgets the lookups of a node that is gone.
    pub(super) fn forget(&mut self, n: usize) {
        self.running.retain(|(asker, _), _| *asker != n);
    }

    pub(super) fn has_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Returns the lookups that run, with their askers.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, QueryId)> {
        self.running.keys().copied()
    }
}
