//! The trace of a run: one number that tells whether two runs were the same.

use super::links::mix;
use crate::time::{Duration, Instant};

/// A hash of what happens, in order, with the time at which it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    since: Option<Instant>,
}

impl Trace {
    /// Takes note of something that happens between two nodes.
    pub(super) fn note(&mut self, now: Instant, what: u64, a: usize, b: usize) {
        let since = *self.since.get_or_insert(now);
        let time = now.saturating_duration_since(since);
        self.hash = mix(self.hash ^ nanos(time));
        self.hash = mix(self.hash ^ (what << 56) ^ ((a as u64) << 28) ^ b as u64);
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
