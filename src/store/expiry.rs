//! An index of ends: what ends next.
//!
//! Knows keys and wall-clock times only.

use std::collections::BTreeSet;

use crate::record::RecordKey;
use crate::time::SystemTime;

/// Keys by the time at which what is kept under them ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Expiry(BTreeSet<(SystemTime, RecordKey)>);

impl Expiry {
    pub(super) fn insert(&mut self, end: Option<SystemTime>, key: &RecordKey) {
        self.0.extend(end.map(|end| (end, key.clone())));
    }

    pub(super) fn remove(&mut self, end: Option<SystemTime>, key: &RecordKey) {
        if let Some(end) = end {
            self.0.remove(&(end, key.clone()));
        }
    }

    /// Removes a key whose time has come, and returns it.
    pub(super) fn pop(&mut self, wall: SystemTime) -> Option<RecordKey> {
        let (end, _) = self.0.first()?;
        if *end > wall { None } else { self.0.pop_first().map(|(_, key)| key) }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns when the next one ends.
    pub(super) fn next(&self) -> Option<SystemTime> {
        self.0.first().map(|(end, _)| *end)
    }
}
