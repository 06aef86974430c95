//! Publishers: when those of the records that stand here have last stored them themselves.

use std::collections::BTreeMap;

use crate::record::RecordKey;
use crate::time::{Duration, Instant, after};

/// When publishers have last stored themselves what stands here.
///
/// # Bounds
/// Those of the store: one entry for each record at most.
#[derive(Debug, Default)]
pub(in crate::dht) struct Publishers(BTreeMap<RecordKey, Instant>);

impl Publishers {
    /// A publisher has stored what stands here now.
    pub(in crate::dht) fn stored(&mut self, now: Instant, record: RecordKey) {
        self.0.insert(record, now);
    }

    /// What stands here now is not there, or was handed on, or is this node's own.
    pub(in crate::dht) fn forget(&mut self, record: &RecordKey) {
        self.0.remove(record);
    }

    /// Returns whether a publisher has stored what stands here itself, and has no reason to have done so again; for how long
    /// that is `None` where it never ends.
    pub(in crate::dht) fn is_fresh(
        &self,
        now: Instant,
        record: &RecordKey,
        interval: Option<Duration>,
    ) -> bool {
        let stored = self.0.get(record);
        stored.is_some_and(|stored| interval.is_none_or(|interval| now < after(*stored, interval)))
    }

    #[cfg(test)]
    pub(in crate::dht) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_publisher_has_stored_is_fresh_until_it_should_have_done_so_again() {
        let (now, hour) = (crate::time::start(), Duration::from_secs(3600));
        let mut publishers = Publishers::default();
        let (key, other) = (RecordKey::from("k"), RecordKey::from("other"));
        publishers.stored(now, key.clone());
        for (age, interval, is_fresh) in [
            (Duration::ZERO, Some(hour), true),
            (hour - Duration::from_nanos(1), Some(hour), true),
            (hour, Some(hour), false),
            (100 * hour, None, true),
        ] {
            assert_eq!(publishers.is_fresh(now + age, &key, interval), is_fresh, "{age:?} {interval:?}");
        }
        assert!(!publishers.is_fresh(now, &other, None));
        publishers.forget(&key);
        assert!(!publishers.is_fresh(now, &key, None) && publishers.len() == 0);
    }
}
