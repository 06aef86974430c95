//! The refresh: what is to be looked up because no lookup has touched it for long.
//!
//! Knows bucket numbers, how many peers there are, and time; which peers stand in the buckets does not matter to it.

use super::table::Table;
use crate::key::{BucketIndex, MAX_PREIMAGE_PREFIX};
use crate::rng::Rng;
use crate::time::{Duration, Instant, after};

/// By how much the interval of each bucket varies, so that nodes that started together drift apart: 10 per cent. Chosen, not
/// measured.
const JITTER_PERCENT: u32 = 10;

/// When the table has doubled since the neighbours were looked up, they are looked up again after this time.
/// Chosen, not measured.
const GROWTH_DELAY: Duration = Duration::from_secs(1);

/// The target of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The own id, for the neighbours.
    Own,
    /// A random key of a bucket.
    Bucket(BucketIndex),
    /// Any random key, to learn how large the network is.
    Anywhere,
}

/// The refresh of the table: which target is looked up next, and when.
///
/// # What it decides
/// The own id, and the buckets that its lookup does not cover, are looked up once in the configured interval unless another
/// lookup went there: from the farthest bucket to the nearest one with half of `k` peers in it and beyond, as far as a random
/// key of it can be put on the wire. What is deeper is among the `k` closest, whom the lookup of the own id finds; a lookup
/// for each such bucket would ask them all again. The own id also when the table has doubled since: the network has
/// turned out to be larger than it seemed, as it does for the first nodes of a network that starts all at once.
///
/// # Inputs
/// [`looked_up`](Self::looked_up) for every lookup; the table with [`watch`](Self::watch) and [`next`](Self::next).
///
/// # Outputs
/// A target to look up; [`deadline`](Self::deadline).
///
/// # What time does
/// Makes targets due, one at a time.
///
/// # Bounds
/// One instant for the own id and for each of at most 16 buckets.
///
/// # Spec
/// libp2p kad-dht, "Bootstrap process" (every 10 minutes); Maymounkov & Mazières §2.3.
#[derive(Clone, Debug)]
pub(crate) struct Refresh {
    interval: Option<Duration>,
    /// When each bucket is due, by the prefix it shares with the node's key; nothing before the node has joined.
    buckets: Vec<Instant>,
    own: Option<Instant>,
    /// The first of them all: it is asked for with whatever the node does.
    first: Option<Instant>,
    /// How many peers there were when the own id was looked up.
    peers: usize,
}

impl Refresh {
    pub(crate) const fn new(interval: Option<Duration>) -> Self {
        Self { interval, buckets: Vec::new(), own: None, first: None, peers: 0 }
    }

    /// Notes that a lookup goes to a key of this bucket.
    pub(crate) fn looked_up(&mut self, now: Instant, bucket: BucketIndex, rng: &mut Rng) {
        let Some(interval) = self.interval else { return };
        let prefix = usize::try_from(bucket.prefix()).unwrap_or(usize::MAX);
        if let Some(due) = self.buckets.get_mut(prefix) {
            *due = after(now, rng.jitter(interval, JITTER_PERCENT));
            self.find_first();
        }
    }

    /// Notes that the own id has been looked up, with what the table is now.
    pub(crate) fn looked_up_own(&mut self, now: Instant, table: &Table, rng: &mut Rng) {
        self.peers = table.len();
        self.own = self.interval.map(|interval| after(now, rng.jitter(interval, JITTER_PERCENT)));
        self.find_first();
    }

    /// Begins or widens the watch, as the table is now: a bucket that is new to it is due after a whole interval.
    pub(crate) fn watch(&mut self, now: Instant, table: &Table, rng: &mut Rng) {
        let (Some(interval), Some(nearest)) = (self.interval, table.buckets().next()) else {
            return;
        };
        let depth = nearest.index().prefix().min(MAX_PREIMAGE_PREFIX);
        while self.buckets.len() <= usize::try_from(depth).unwrap_or_default() {
            self.buckets.push(after(now, rng.jitter(interval, JITTER_PERCENT)));
        }
        if table.len() >= 2 * self.peers.max(1) {
            let soon = after(now, rng.jitter(GROWTH_DELAY, JITTER_PERCENT));
            self.own = self.own.map(|due| due.min(soon));
        }
        self.find_first();
    }

    /// Returns a target that is due, and takes it as looked up.
    pub(crate) fn next(&mut self, now: Instant, table: &Table, rng: &mut Rng) -> Option<Target> {
        let interval = self.interval?;
        if self.own.is_some_and(|due| due <= now) {
            self.looked_up_own(now, table, rng);
            return Some(Target::Own);
        }
        let (prefix, due) = (0u32..).zip(&mut self.buckets).find(|(_, due)| **due <= now)?;
        *due = after(now, rng.jitter(interval, JITTER_PERCENT));
        self.find_first();
        BucketIndex::with_prefix(prefix)
            .filter(|bucket| !table.is_within_the_closest(*bucket))
            .map(Target::Bucket)
    }

    /// Returns when the next target is due.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.first
    }

    fn find_first(&mut self) {
        self.first = self.buckets.iter().chain(&self.own).min().copied();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::TableConfig;
    use crate::routing::table::tests::Fixture;
    use crate::time::start;

    const INTERVAL: Duration = Duration::from_secs(600);
    /// Stands for the own id among prefixes.
    const OWN: u32 = 256;

    fn drain(refresh: &mut Refresh, now: Instant, table: &Table, rng: &mut Rng) -> Vec<u32> {
        let mut found = Vec::new();
        while refresh.deadline().is_some_and(|at| at <= now) {
            match refresh.next(now, table, rng) {
                Some(Target::Bucket(bucket)) => found.push(bucket.prefix()),
                Some(Target::Own | Target::Anywhere) => found.push(OWN),
                None => {}
            }
        }
        found
    }

    #[test]
    fn every_bucket_that_the_neighbours_do_not_cover_is_due_once_in_an_interval() {
        let mut fixture = Fixture::new(TableConfig::default());
        for seed in 1..500 {
            fixture.add(start(), seed);
        }
        let there_and_nearer = |prefix| -> usize {
            let buckets = fixture.table.buckets().filter(|bucket| bucket.index().prefix() >= prefix);
            buckets.map(|bucket| bucket.entries().len()).sum()
        };
        let due: Vec<_> = (0..256).take_while(|prefix| there_and_nearer(*prefix) >= 10).collect();
        assert!(due.len() > 3 && there_and_nearer(u32::try_from(due.len()).unwrap()) > 0, "{due:?}");
        let mut rng = Rng::from_u64(1);
        let mut refresh = Refresh::new(Some(INTERVAL));
        assert_eq!(refresh.deadline(), None);
        refresh.watch(start(), &fixture.table, &mut rng);
        assert_eq!(drain(&mut refresh, start() + INTERVAL / 2, &fixture.table, &mut rng), [0u32; 0]);
        let late = start() + INTERVAL * 11 / 10;
        assert_eq!(drain(&mut refresh, late, &fixture.table, &mut rng), due);
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
    fn the_own_id_is_due_once_in_an_interval_and_when_the_table_has_doubled() {
        let mut fixture = Fixture::new(TableConfig::default());
        for seed in 1..=10 {
            fixture.add(start(), seed);
        }
        let mut rng = Rng::from_u64(1);
        let mut refresh = Refresh::new(Some(INTERVAL));
        refresh.looked_up_own(start(), &fixture.table, &mut rng);
        for seed in 11..=19 {
            fixture.add(start(), seed);
        }
        refresh.watch(start(), &fixture.table, &mut rng);
        let soon = start() + GROWTH_DELAY * 2;
        assert_eq!(drain(&mut refresh, soon, &fixture.table, &mut rng), [0u32; 0], "not yet doubled");
        fixture.add(start(), 20);
        refresh.watch(start(), &fixture.table, &mut rng);
        assert_eq!(drain(&mut refresh, soon, &fixture.table, &mut rng), [OWN]);
        refresh.watch(soon, &fixture.table, &mut rng);
        assert_eq!(drain(&mut refresh, soon + GROWTH_DELAY * 2, &fixture.table, &mut rng), [0u32; 0]);
        assert!(drain(&mut refresh, soon + INTERVAL * 11 / 10, &fixture.table, &mut rng).contains(&OWN));
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
