//! Republishing: which records are put anew, and when.
//!
//! Knows keys and times; neither values nor peers.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::dht::schedule::{Coverage, LONGEST_RETRY, Schedule, Spans};
use crate::key::Key;
use crate::record::RecordKey;
use crate::rng::Rng;
use crate::stats;
use crate::time::{Duration, Instant};

/// What is due within this part of an interval is put together with what is due now (chosen, not measured).
const TOGETHER: u32 = 8;

/// A record is put earlier than it should, or later if it is another's, by up to this part of its interval, so that not all are
/// due at once (chosen, not measured).
const JITTER: u32 = 4;

/// The schedule of the records.
///
/// # What it decides
/// When records are put anew. A record of this node is put by it every 22 hours, and sooner if nobody had stored it. A record
/// of others that it holds is put anew an hour after the latest STORE of it, whichever peer that came from: each time the first
/// of the holders to remember does it for all. Times are jittered, so that holders do not remember at once. The order and how
/// many at once are those of a [`Schedule`].
///
/// # Inputs
/// [`stored`](Self::stored) and [`removed`](Self::removed) of each record, [`found`](Self::found) when the node begins;
/// [`done`](Self::done) when one was put.
///
/// # Outputs
/// [`next`](Self::next): a record to be put now. [`next_place`](Self::next_place): all of them in the order of the keyspace.
///
/// # What time does
/// Makes records due.
///
/// # Bounds
/// Those of the store: one entry for each record.
///
/// # Spec
/// Maymounkov & Mazières §2.5.
#[derive(Debug)]
pub(super) struct Republish {
    publication: Option<Duration>,
    replication: Option<Duration>,
    /// With each record it is noted whether it is this node's own.
    schedule: Schedule<bool>,
    /// All of them in the order of the keyspace.
    places: BTreeSet<(Key, RecordKey)>,
}

impl Republish {
    pub(super) fn new(publication: Option<Duration>, replication: Option<Duration>) -> Self {
        let spans = Spans {
            longest: publication.max(replication).unwrap_or_default(),
            together: replication.or(publication).unwrap_or_default() / TOGETHER,
        };
        Self { publication, replication, schedule: Schedule::new(spans), places: BTreeSet::new() }
    }

    /// A record has been stored, here and elsewhere.
    pub(super) fn stored(
        &mut self,
        now: Instant,
        record: RecordKey,
        place: Key,
        is_own: bool,
        rng: &mut Rng,
    ) {
        let interval = if is_own { self.publication } else { self.replication };
        // An own one never later than it should, one of others never earlier.
        let wait = interval.map(|interval| {
            let jitter = (interval / JITTER).mul_f64(rng.unit());
            if is_own { interval - jitter } else { interval + jitter }
        });
        self.add(now, record, (place, is_own), wait);
    }

    /// A record was there when the node began: own ones are put within ten minutes, those of others within an interval.
    pub(super) fn found(&mut self, now: Instant, record: RecordKey, place: Key, is_own: bool, rng: &mut Rng) {
        let within = if is_own { self.publication.map(|_| LONGEST_RETRY) } else { self.replication };
        let wait = within.map(|within| within.mul_f64(rng.unit()));
        self.add(now, record, (place, is_own), wait);
    }

    fn add(&mut self, now: Instant, record: RecordKey, entry: (Key, bool), wait: Option<Duration>) {
        self.places.insert((entry.0, record.clone()));
        self.schedule.add(now, record, entry, wait);
    }

    /// Returns whether a record is this node's; `None` if nothing is known of it.
    pub(super) fn is_own(&self, record: &RecordKey) -> Option<bool> {
        self.schedule.get(record).map(|(_, is_own)| is_own)
    }

    /// A record is not stored here any more.
    pub(super) fn removed(&mut self, record: &RecordKey) {
        if let Some(place) = self.schedule.remove(record) {
            self.places.remove(&(place, record.clone()));
        }
    }

    /// Returns a record to put now. Its [`done`](Self::done) is awaited.
    pub(super) fn next(&mut self, now: Instant) -> Option<RecordKey> {
        self.schedule.next(now)
    }

    /// A record that [`next`](Self::next) has returned has been put.
    pub(super) fn done(&mut self, now: Instant, record: &RecordKey, coverage: Coverage, rng: &mut Rng) {
        self.schedule.done();
        self.was_put(now, record, coverage, rng);
    }

    /// A record has been put, whatever the origin of the query.
    pub(super) fn was_put(&mut self, now: Instant, record: &RecordKey, coverage: Coverage, rng: &mut Rng) {
        let Some((place, is_own)) = self.schedule.get(record) else {
            return;
        };
        if !(is_own && self.schedule.retry(now, record, coverage, self.publication)) {
            self.stored(now, record.clone(), place, is_own, rng);
        }
    }

    /// Nothing is put for a while, so that others have their turn.
    pub(super) fn rest(&mut self, now: Instant) {
        self.schedule.rest(now);
    }

    /// Returns how many there are, are due and were done.
    pub(super) fn stats(&self, now: Instant) -> stats::Schedule {
        self.schedule.stats(now)
    }

    /// The machine has slept for so long, or its clock was set forward.
    pub(super) fn slept(&mut self, now: Instant, by: Duration) {
        self.schedule.slept(now, by);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.schedule.deadline()
    }

    /// Returns the first record from a place of the keyspace on.
    pub(super) fn next_place(&self, from: &Bound<(Key, RecordKey)>) -> Option<&(Key, RecordKey)> {
        self.places.range((from.clone(), Bound::Unbounded)).next()
    }

    /// Returns how many records are stored here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.schedule.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const HOUR: Duration = Duration::from_secs(3600);

    fn fixture() -> (Republish, Rng, Instant) {
        (Republish::new(Some(22 * HOUR), Some(HOUR)), Rng::from_u64(1), start())
    }

    fn record(n: u8) -> (RecordKey, Key) {
        (RecordKey::new(&[n]), Key::sha256(&[n]))
    }

    #[test]
    fn a_record_of_others_is_put_an_hour_after_the_latest_store() {
        let (mut republish, mut rng, now) = fixture();
        let (one, key) = record(1);
        republish.stored(now, one.clone(), key, false, &mut rng);
        republish.stored(now + HOUR / 2, one.clone(), key, false, &mut rng);
        let due = republish.deadline().unwrap();
        assert!(due >= now + HOUR * 3 / 2 && due <= now + HOUR * 7 / 4);
        assert_eq!(republish.next(due - Duration::from_nanos(1)), None);
        assert_eq!(republish.next(due), Some(one.clone()));
        assert_eq!((republish.next(due), republish.deadline()), (None, None));
        republish.done(due, &one, Coverage::None, &mut rng);
        assert!(republish.deadline().unwrap() >= due + HOUR);
    }

    #[test]
    fn an_own_record_is_put_in_time_and_sooner_if_nobody_took_it() {
        let (mut republish, mut rng, now) = fixture();
        let (one, key) = record(1);
        republish.stored(now, one.clone(), key, true, &mut rng);
        let due = republish.deadline().unwrap();
        assert!(due <= now + 22 * HOUR && due >= now + 16 * HOUR);
        let mut now = due;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            assert_eq!(republish.next(now), Some(one.clone()));
            republish.done(now, &one, Coverage::None, &mut rng);
            now += Duration::from_secs(wait);
            assert_eq!(republish.deadline(), Some(now));
        }
        assert_eq!(republish.next(now), Some(one.clone()));
        republish.done(now, &one, Coverage::Full, &mut rng);
        assert!(republish.deadline().unwrap() >= now + 16 * HOUR);
        republish.was_put(now, &one, Coverage::None, &mut rng);
        assert_eq!(republish.deadline(), Some(now + Duration::from_secs(1)), "it begins anew");
    }

    #[test]
    fn what_is_gone_is_not_put_and_has_no_place() {
        let (mut republish, mut rng, now) = fixture();
        let (one, key) = record(1);
        let first = Bound::Included((Key::from_bytes([0; 32]), RecordKey::from(Vec::new())));
        republish.stored(now, one.clone(), key, false, &mut rng);
        assert_eq!(republish.next_place(&first), Some(&(key, one.clone())));
        republish.removed(&one);
        assert_eq!((republish.deadline(), republish.next(now + 9 * HOUR)), (None, None));
        assert_eq!(republish.next_place(&first), None);
        republish.stored(now, one.clone(), key, false, &mut rng);
        assert_eq!(republish.next(now + 9 * HOUR), Some(one.clone()));
        republish.removed(&one);
        republish.done(now, &one, Coverage::Full, &mut rng);
        assert_eq!((republish.len(), republish.next_place(&first)), (0, None));
        assert_eq!(republish.deadline(), None);
    }

    #[test]
    fn without_intervals_nothing_is_put() {
        let (mut republish, mut rng, now) = (Republish::new(None, None), Rng::from_u64(1), start());
        for (n, own) in [(1, true), (2, false)] {
            let (record, key) = record(n);
            republish.stored(now, record.clone(), key, own, &mut rng);
            republish.found(now, record.clone(), key, own, &mut rng);
            republish.was_put(now, &record, Coverage::None, &mut rng);
        }
        assert_eq!((republish.deadline(), republish.len()), (None, 2));
    }
}
