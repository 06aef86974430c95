//! The refresh: which bucket is to be looked up because no lookup has touched it for long.
//!
//! Knows bucket numbers and time; who stands in the buckets does not matter to it.

use super::table::Table;
use crate::key::{BucketIndex, MAX_PREIMAGE_PREFIX};
use crate::rng::Rng;
use crate::time::{Duration, Instant, after};

/// By how much the interval of each bucket varies, so that nodes that started together drift apart: 10 per cent.
const JITTER_PERCENT: u32 = 10;

/// Decides which bucket is looked up next.
///
/// # What it decides
/// Every bucket that can be non-empty is looked up once in the configured interval unless another lookup went there:
/// from the farthest bucket to the nearest occupied one, as far as a random key of it can be put on the wire.
///
/// # Inputs
/// [`looked_up`](Self::looked_up) for every lookup; the table with [`next`](Self::next).
///
/// # Outputs
/// A bucket to look up; [`deadline`](Self::deadline).
///
/// # What time does
/// Makes buckets due, one at a time.
///
/// # Bounds
/// One instant for each of at most 16 buckets.
///
/// # Spec
/// libp2p kad-dht, "Bootstrap process" (every 10 minutes); Maymounkov & Mazières §2.3.
#[derive(Clone, Debug)]
pub(crate) struct Refresh {
    interval: Option<Duration>,
    /// When each bucket is due, by the prefix it shares with the node's key; nothing before the node has joined.
    due: Vec<Instant>,
}

impl Refresh {
    pub(crate) const fn new(interval: Option<Duration>) -> Self {
        Self { interval, due: Vec::new() }
    }

    /// Notes that a lookup goes to a key of this bucket.
    pub(crate) fn looked_up(&mut self, now: Instant, bucket: BucketIndex, rng: &mut Rng) {
        let Some(interval) = self.interval else { return };
        let prefix = usize::try_from(bucket.prefix()).unwrap_or(usize::MAX);
        if let Some(due) = self.due.get_mut(prefix) {
            *due = after(now, rng.jitter(interval, JITTER_PERCENT));
        }
    }

    /// Begins or widens the watch, as the table is now: a bucket that is new to it is due after a whole interval.
    pub(crate) fn watch(&mut self, now: Instant, table: &Table, rng: &mut Rng) {
        let (Some(interval), Some(nearest)) = (self.interval, table.buckets().next()) else { return };
        let depth = nearest.index().prefix().min(MAX_PREIMAGE_PREFIX);
        while self.due.len() <= usize::try_from(depth).unwrap_or_default() {
            self.due.push(after(now, rng.jitter(interval, JITTER_PERCENT)));
        }
    }

    /// Returns a bucket that is due, and takes it as looked up.
    pub(crate) fn next(&mut self, now: Instant, table: &Table, rng: &mut Rng) -> Option<BucketIndex> {
        let interval = self.interval?;
        let nearest = table.buckets().next()?.index();
        let due = (0u32..).zip(&mut self.due).find(|(_, due)| **due <= now);
        let (prefix, due) = due?;
        *due = after(now, rng.jitter(interval, JITTER_PERCENT));
        BucketIndex::with_prefix(prefix).filter(|bucket| *bucket >= nearest)
    }

    /// Returns when the next bucket is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.iter().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::TableConfig;
    use crate::routing::table::tests::Fixture;
    use crate::time::start;

    const INTERVAL: Duration = Duration::from_secs(600);

    fn drain(refresh: &mut Refresh, now: Instant, table: &Table, rng: &mut Rng) -> Vec<u32> {
        let mut found = Vec::new();
        while refresh.deadline().is_some_and(|at| at <= now) {
            found.extend(refresh.next(now, table, rng).map(BucketIndex::prefix));
        }
        found
    }

    #[test]
    fn every_bucket_that_can_be_occupied_is_due_once_in_an_interval() {
        let mut fixture = Fixture::new(TableConfig::default());
        for seed in 1..500 {
            fixture.add(start(), seed);
        }
        let depth = fixture.table.buckets().next().unwrap().index().prefix();
        let mut rng = Rng::from_u64(1);
        let mut refresh = Refresh::new(Some(INTERVAL));
        assert_eq!(refresh.deadline(), None);
        refresh.watch(start(), &fixture.table, &mut rng);
        assert_eq!(drain(&mut refresh, start() + INTERVAL / 2, &fixture.table, &mut rng), [0u32; 0]);
        let late = start() + INTERVAL * 11 / 10;
        assert_eq!(drain(&mut refresh, late, &fixture.table, &mut rng), (0..=depth).collect::<Vec<_>>());
        assert_eq!(drain(&mut refresh, late, &fixture.table, &mut rng), [0u32; 0]);
    }

    #[test]
    fn a_bucket_that_was_looked_up_is_not_due() {
        let mut fixture = Fixture::new(TableConfig::default());
        for seed in 1..100 {
            fixture.add(start(), seed);
        }
        let mut rng = Rng::from_u64(1);
        let mut refresh = Refresh::new(Some(INTERVAL));
        refresh.watch(start(), &fixture.table, &mut rng);
        let later = start() + INTERVAL / 2;
        refresh.looked_up(later, BucketIndex::FARTHEST, &mut rng);
        let due = drain(&mut refresh, start() + INTERVAL * 11 / 10, &fixture.table, &mut rng);
        assert!(!due.contains(&0) && due.contains(&1), "{due:?}");
    }

    #[test]
    fn it_can_be_switched_off() {
        let mut fixture = Fixture::new(TableConfig::default());
        fixture.add(start(), 1);
        let mut rng = Rng::from_u64(1);
        let mut refresh = Refresh::new(None);
        refresh.watch(start(), &fixture.table, &mut rng);
        refresh.looked_up(start(), BucketIndex::FARTHEST, &mut rng);
        assert_eq!(refresh.deadline(), None);
        assert_eq!(refresh.next(start() + 10 * INTERVAL, &fixture.table, &mut rng), None);
    }
}
