//! The trace of a run: one number that tells whether two runs were the same.

use super::links::mix;
use crate::time::Duration;

/// A hash of what happens to one node, in order, with the time at which it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trace(u64);

impl Trace {
    /// Takes note of something that happens, so long after the beginning, and of what it has to do with.
    pub(super) fn note(&mut self, since_start: Duration, what: u64, with: usize) {
        let nanos = u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX);
        self.0 = mix(mix(self.0 ^ nanos) ^ (what << 56) ^ with as u64);
    }

    /// Returns the hash of several: of the world's, and of the nodes' in the order of their numbers.
    pub(super) fn hash(all: impl Iterator<Item = Self>) -> u64 {
        all.fold(0, |hash, trace| mix(hash ^ trace.0))
    }
}
