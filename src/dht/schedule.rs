//! Schedules: which keys are due, in which order, and how many at once.
//!
//! Knows keys and times; neither what is done with a key, nor values, nor peers.

mod catch_up;

use std::collections::BTreeSet;
use std::ops::Range;

use indexmap::IndexMap;

use crate::key::Key;
use crate::record::RecordKey;
use crate::stats::{self, gauge};
use crate::time::{Duration, Instant, after};

use catch_up::CatchUp;

/// So many are under way at once (chosen, not measured).
const MAX_AT_ONCE: usize = 4;

/// So many that are due are gathered with one call; those that are due later follow with the next ones (chosen, not
/// measured).
pub(super) const MAX_GATHERED: usize = 1024;

/// So many that are due and need nothing are done with at once; then the schedule rests (chosen, not measured).
pub(super) const MAX_SPARED: usize = 256;

/// How long it rests: others have their turn (chosen, not measured).
const REST: Duration = Duration::from_millis(20);

/// What has reached nobody is tried again after this time, which doubles each time (chosen, not measured).
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest time after which it is tried again; what was there when the node began is seen to within it (chosen, not
/// measured).
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// What has reached fewer than it should is tried again after this time, which doubles each time (chosen, not measured).
pub(super) const FIRST_AGAIN: Duration = Duration::from_secs(60);

/// How many peers a record or an announcement has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// As many as it should.
    Full,
    /// Fewer: the network was smaller than a bucket, or part of it silent.
    Partial,
    /// Nobody.
    None,
    /// Too few, since this node had no address that it could have told them.
    NoAddress,
}

/// The spans of time of a schedule.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spans {
    /// The longest interval: of what was slept away no more is caught up.
    pub(super) longest: Duration,
    /// What is due within so long is done together with what is due now.
    pub(super) together: Duration,
}

/// The schedule of what is done with keys again and again.
///
/// # What it decides
/// Which key is next. What becomes due is done in the order of the keyspace together with what is due soon, so that keys that
/// are neighbours find the same peers connected; and at most four at once. What has reached nobody or too few is done again
/// sooner. How long the intervals are is decided by its owner, which notes a `T` with each key.
///
/// # A key's states
/// ```text
///            its time comes, or is near            four are not under way
/// scheduled -----------------------------> ready -------------------------> under way
///     ^                                                                         |
///     +-------------------------- put anew into the schedule -------------------+
/// ```
///
/// # Inputs
/// [`add`](Self::add), [`retry`](Self::retry) and [`remove`](Self::remove) of keys; [`done`](Self::done) when one was done;
/// [`rest`](Self::rest), [`retry_waiting`](Self::retry_waiting), [`slept`](Self::slept).
///
/// # Outputs
/// [`next`](Self::next): a key whose turn it is.
///
/// # What time does
/// Makes keys due. Time that the machine has slept counts as well, but not all at once.
///
/// # Bounds
/// One entry for each key that its owner adds; a call gathers 1,024.
///
/// # Invariants
/// A key is scheduled or due, not both. Nothing is due by time while four are under way: it goes on when one is done.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    spans: Spans,
    /// All times below but `rests_until` are of this clock.
    clock: CatchUp,
    entries: IndexMap<RecordKey, ScheduleEntry<T>>,
    due: BTreeSet<(Instant, RecordKey)>,
    /// Those whose time has come, in the order of the keyspace.
    ready: BTreeSet<(Key, RecordKey)>,
    /// The times of those that are ready.
    late: BTreeSet<(Instant, RecordKey)>,
    /// Where in the keyspace it is.
    at: Key,
    under_way: usize,
    rests_until: Option<Instant>,
    num_done: u64,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
struct ScheduleEntry<T> {
    place: Key,
    note: T,
    /// `None` if it is never due.
    due: Option<Instant>,
    /// Whether its time has come, or need not come any more.
    has_come: bool,
    /// How often in a row it has reached too few.
    retries: u8,
    /// Whether it waits for a peer to reach, or for an address to name.
    is_waiting: bool,
}

impl<T: Copy> Schedule<T> {
    pub(super) fn new(spans: Spans) -> Self {
        Self {
            spans,
            clock: CatchUp::default(),
            entries: IndexMap::new(),
            due: BTreeSet::new(),
            ready: BTreeSet::new(),
            late: BTreeSet::new(),
            at: Key::from_bytes([0; 32]),
            under_way: 0,
            rests_until: None,
            num_done: 0,
        }
    }

    /// Schedules a key in place of whatever was known of it: it is due after `wait`, or never.
    pub(super) fn add(
        &mut self,
        now: Instant,
        key: RecordKey,
        (place, note): (Key, T),
        wait: Option<Duration>,
    ) {
        let due = wait.map(|wait| after(self.clock.time(now), wait));
        self.insert(key, ScheduleEntry { place, note, due, has_come: false, retries: 0, is_waiting: false });
    }

    /// Schedules a key sooner than after its interval, unless it has reached all it should. Returns whether it does.
    ///
    /// It is due never if there is no interval.
    pub(super) fn retry(
        &mut self,
        now: Instant,
        key: &RecordKey,
        coverage: Coverage,
        interval: Option<Duration>,
    ) -> bool {
        let Some(entry) = self.entries.get(key).copied() else {
            return false;
        };
        let doubled = |first: Duration| first.saturating_mul(1 << entry.retries.min(30));
        let wait = match coverage {
            Coverage::Full => return false,
            Coverage::Partial | Coverage::NoAddress => doubled(FIRST_AGAIN),
            Coverage::None => doubled(FIRST_RETRY).min(LONGEST_RETRY),
        };
        let due = interval.map(|interval| after(self.clock.time(now), wait.min(interval)));
        let (retries, is_waiting) = (entry.retries.saturating_add(1), coverage != Coverage::Partial);
        self.insert(key.clone(), ScheduleEntry { due, has_come: false, retries, is_waiting, ..entry });
        true
    }

    /// Lets a key whose time has not come be due after `wait` at the latest.
    pub(super) fn bring_forward(&mut self, now: Instant, key: &RecordKey, wait: Option<Duration>) {
        let entry = self.entries.get(key).copied();
        if let Some(entry) = entry.filter(|entry| !entry.has_come && entry.due.is_some()) {
            let due = wait.map(|wait| after(self.clock.time(now), wait));
            let due = due.min(entry.due).or(entry.due);
            self.insert(key.clone(), ScheduleEntry { due, ..entry });
        }
    }

    fn insert(&mut self, key: RecordKey, entry: ScheduleEntry<T>) {
        self.remove(&key);
        self.due.extend(entry.due.map(|at| (at, key.clone())));
        self.entries.insert(key, entry);
    }

    /// Forgets a key. Returns its place, if it was known.
    pub(super) fn remove(&mut self, key: &RecordKey) -> Option<Key> {
        let entry = self.entries.swap_remove(key)?;
        if let Some(due) = entry.due {
            let listed = (due, key.clone());
            if entry.has_come {
                self.late.remove(&listed)
            } else {
                self.due.remove(&listed)
            };
        }
        self.ready.remove(&(entry.place, key.clone()));
        Some(entry.place)
    }

    /// Returns the place of a key and what is noted with it.
    pub(super) fn get(&self, key: &RecordKey) -> Option<(Key, T)> {
        self.entries.get(key).map(|entry| (entry.place, entry.note))
    }

    /// Returns a key whose turn it is. Its [`done`](Self::done) is awaited.
    pub(super) fn next(&mut self, now: Instant) -> Option<RecordKey> {
        if self.gather(now) { self.take() } else { None }
    }

    /// Makes those ready that are due. Returns whether one of the ready may be [taken](Self::take).
    pub(super) fn gather(&mut self, now: Instant) -> bool {
        self.rests_until = self.rests_until.filter(|until| *until > now);
        if self.under_way >= MAX_AT_ONCE || self.rests_until.is_some() {
            return false;
        }
        let time = self.clock.time(now);
        if self.due.first().is_some_and(|(at, _)| *at <= time) {
            let soon = after(time, self.spans.together);
            for _ in 0..MAX_GATHERED {
                if self.due.first().is_none_or(|(at, _)| *at > soon) {
                    break;
                }
                let Some((at, key)) = self.due.pop_first() else { break };
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.has_come = true;
                    self.ready.insert((entry.place, key.clone()));
                    self.late.insert((at, key));
                }
            }
        }
        true
    }

    /// Returns the next of those that are ready: onward in the keyspace from the last one, and round.
    pub(super) fn take(&mut self) -> Option<RecordKey> {
        let here = (self.at, RecordKey::from(Vec::new()));
        let next = self.ready.range(here..).next().or_else(|| self.ready.first())?.clone();
        self.ready.remove(&next);
        let (place, key) = next;
        if let Some(due) = self.entries.get(&key).filter(|entry| entry.has_come).and_then(|entry| entry.due) {
            self.late.remove(&(due, key.clone()));
        }
        self.at = place;
        self.under_way += 1;
        Some(key)
    }

    /// Makes some of all keys ready, though their time has not come.
    pub(super) fn make_ready(&mut self, which: Range<usize>) {
        for at in which {
            if let Some((key, entry)) = self.entries.get_index(at) {
                self.ready.insert((entry.place, key.clone()));
            }
        }
    }

    /// Returns how many are ready.
    pub(super) fn num_ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns whether the time of a key has come, so that it is not ready merely because it was made so.
    pub(super) fn is_due(&self, key: &RecordKey) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.has_come || entry.due.is_none())
    }

    /// A key that was [taken](Self::take) is being done now, so that its time need not come.
    pub(super) fn begun(&mut self, key: &RecordKey) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| !entry.has_come) {
            entry.has_come = true;
            if let Some(due) = entry.due {
                self.due.remove(&(due, key.clone()));
            }
        }
    }

    /// A key that was [taken](Self::take) is not under way any more; when it is due next is told apart from this.
    pub(super) const fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.num_done += 1;
    }

    /// A key that was [taken](Self::take) need not be done; it stays scheduled as it is.
    pub(super) const fn spared(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Nothing is done for 20 ms, so that others have their turn.
    pub(super) fn rest(&mut self, now: Instant) {
        self.rests_until = Some(after(now, REST));
    }

    /// There is a peer to reach, or an address to name, as perhaps there was not before: keys that wait for it are due, as
    /// far as they are among the next ones. What has reached some is not due for that.
    pub(super) fn retry_waiting(&mut self, now: Instant) {
        let now = self.clock.time(now);
        let soon = after(now, LONGEST_RETRY);
        let next: Vec<_> =
            self.due.range(..(soon, RecordKey::from(Vec::new()))).take(MAX_GATHERED).cloned().collect();
        for (due, key) in next {
            if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.is_waiting) {
                entry.due = Some(now);
                self.due.remove(&(due, key.clone()));
                self.due.insert((now, key));
            }
        }
    }

    /// The machine has slept for so long, or its clock was set forward: what has become due meanwhile is done by and by.
    pub(super) fn slept(&mut self, now: Instant, by: Duration) {
        self.clock.fall_behind(now, by, self.spans.longest);
    }

    /// Returns when the next key is due; `None` while four are under way.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.under_way >= MAX_AT_ONCE {
            // It goes on when one of them is done.
            return None;
        }
        self.rests_until.or_else(|| self.due.first().map(|(at, _)| self.clock.when(*at)))
    }

    /// Returns how many keys are scheduled.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many are due now, whether they are ready or not; of those that are not, 1,024 at most.
    pub(super) fn num_due(&self, now: Instant) -> usize {
        let time = self.clock.time(now);
        self.ready.len() + self.due.iter().take_while(|(at, _)| *at <= time).take(MAX_GATHERED).count()
    }

    /// Returns how late the one is that should have been under way for longest; nothing if none should.
    pub(super) fn lateness(&self, now: Instant) -> Duration {
        let earliest = self.late.first().into_iter().chain(self.due.first()).map(|(at, _)| *at).min();
        earliest.map_or(Duration::ZERO, |at| self.clock.time(now).saturating_duration_since(at))
    }

    /// Returns how many there are, are due and were done, and how late the latest is.
    pub(super) fn stats(&self, now: Instant) -> stats::Schedule {
        stats::Schedule {
            scheduled: gauge(self.len()),
            due: gauge(self.num_due(now)),
            done: self.num_done(),
            lateness: self.lateness(now),
        }
    }

    /// Returns how many were done in all, those included that turned out to need nothing.
    pub(super) const fn num_done(&self) -> u64 {
        self.num_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const HOUR: Duration = Duration::from_secs(3600);

    fn schedule() -> Schedule<()> {
        Schedule::new(Spans { longest: HOUR, together: HOUR / 8 })
    }

    fn key(n: u32) -> (RecordKey, (Key, ())) {
        let bytes = n.to_be_bytes();
        (RecordKey::new(&bytes), (Key::sha256(&bytes), ()))
    }

    fn all(schedule: &mut Schedule<()>, now: Instant) -> Vec<RecordKey> {
        std::iter::from_fn(|| schedule.next(now)).collect()
    }

    #[test]
    fn what_is_due_soon_goes_along_in_the_order_of_the_keyspace_four_at_once() {
        let (mut schedule, now) = (schedule(), start());
        for n in 0..50 {
            let (key, place) = key(n);
            schedule.add(now, key, place, Some(HOUR + n * HOUR / 8 / 50));
        }
        assert_eq!((schedule.deadline(), schedule.next(now)), (Some(now + HOUR), None));
        let mut order = Vec::new();
        loop {
            let batch = all(&mut schedule, now + HOUR);
            assert!(batch.len() <= MAX_AT_ONCE);
            if batch.is_empty() {
                break;
            }
            assert_eq!(schedule.deadline().is_none(), batch.len() == MAX_AT_ONCE || schedule.due.is_empty());
            for key in batch {
                schedule.done();
                order.push(Key::sha256(key.as_ref()));
            }
        }
        assert_eq!(order.len(), 50);
        assert!(order.is_sorted());
    }

    #[test]
    fn however_many_are_due_a_call_sees_to_a_part_of_them() {
        let (mut schedule, now) = (schedule(), start());
        for n in 0..10_000 {
            let (key, place) = key(n);
            schedule.add(now, key, place, Some(HOUR));
        }
        let later = now + 2 * HOUR;
        assert!(schedule.next(later).is_some());
        assert_eq!((schedule.ready.len(), schedule.due.len()), (MAX_GATHERED - 1, 10_000 - MAX_GATHERED));
        schedule.rest(later);
        assert_eq!((schedule.next(later), schedule.deadline()), (None, Some(later + REST)));
        assert!(schedule.next(later + REST).is_some());
        let mut seen = 2;
        while seen < 10_000 {
            let batch = all(&mut schedule, later + REST);
            assert!(!batch.is_empty(), "{seen}");
            seen += batch.len();
            for key in batch {
                schedule.remove(&key);
            }
            schedule.under_way = 0;
        }
    }

    #[test]
    fn what_has_reached_nobody_is_tried_again_soon_and_sooner_when_there_is_somebody() {
        let (mut schedule, now) = (schedule(), start());
        let (one, place) = key(1);
        assert!(!schedule.retry(now, &one, Coverage::None, Some(HOUR)), "it is not scheduled");
        schedule.add(now, one.clone(), place, Some(HOUR));
        assert!(!schedule.retry(now, &one, Coverage::Full, Some(HOUR)));
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            assert!(schedule.retry(now, &one, Coverage::None, Some(HOUR)));
            assert_eq!(schedule.deadline(), Some(now + Duration::from_secs(wait)));
        }
        schedule.add(now, one.clone(), place, Some(HOUR));
        for doubled in [1, 2, 4, 8, 16, 32] {
            schedule.retry(now, &one, Coverage::Partial, Some(HOUR));
            assert_eq!(schedule.deadline(), Some(now + doubled * FIRST_AGAIN));
        }
        schedule.retry(now, &one, Coverage::Partial, Some(HOUR));
        assert_eq!(schedule.deadline(), Some(now + HOUR), "no later than its interval");
        schedule.add(now, one.clone(), place, Some(HOUR));
        for (coverage, is_waiting) in
            [(Coverage::Partial, false), (Coverage::None, true), (Coverage::NoAddress, true)]
        {
            schedule.retry(now, &one, coverage, Some(HOUR));
            assert_ne!(schedule.deadline(), Some(now));
            schedule.retry_waiting(now);
            assert_eq!(schedule.deadline() == Some(now), is_waiting, "{coverage:?}");
        }
        schedule.retry(now, &one, Coverage::None, None);
        assert_eq!((schedule.deadline(), schedule.len()), (None, 1), "without an interval never");
    }

    #[test]
    fn what_is_removed_is_not_done_whatever_it_was_about_to_be() {
        let (mut schedule, now) = (schedule(), start());
        for n in 0..20 {
            let (key, place) = key(n);
            schedule.add(now, key, place, Some(n * HOUR));
        }
        assert_eq!(all(&mut schedule, now + 9 * HOUR).len(), 4);
        schedule.make_ready(10..20);
        for n in 0..20 {
            assert_eq!(schedule.remove(&key(n).0), Some(key(n).1.0));
            assert_eq!(schedule.remove(&key(n).0), None);
        }
        (0..4).for_each(|_| schedule.done());
        assert_eq!((schedule.next(now + 99 * HOUR), schedule.deadline(), schedule.len()), (None, None, 0));
        assert_eq!((schedule.num_due(now + 99 * HOUR), schedule.late.len()), (0, 0));
    }

    #[test]
    fn how_many_are_due_and_how_late_is_known_until_they_are_under_way() {
        let (mut schedule, now) = (schedule(), start());
        let seen = |schedule: &Schedule<()>, now| {
            (schedule.num_due(now), schedule.lateness(now), schedule.num_done())
        };
        assert_eq!(seen(&schedule, now), (0, Duration::ZERO, 0));
        for n in 1..11 {
            let (key, place) = key(n);
            schedule.add(now, key, place, Some(n * HOUR));
        }
        assert_eq!(seen(&schedule, now + HOUR / 2), (0, Duration::ZERO, 0));
        assert_eq!(seen(&schedule, now + 6 * HOUR), (6, 5 * HOUR, 0), "though nobody has asked for them");
        let now = now + 6 * HOUR;
        let batch = all(&mut schedule, now);
        let longest = (1..=6).filter(|n| !batch.contains(&key(*n).0)).map(|n| (6 - n) * HOUR).max();
        assert_eq!(seen(&schedule, now), (2, longest.unwrap(), 0));
        for key in batch {
            let (place, note) = schedule.get(&key).unwrap();
            schedule.done();
            schedule.add(now, key, (place, note), Some(HOUR));
        }
        assert_eq!((all(&mut schedule, now).len(), seen(&schedule, now)), (2, (0, Duration::ZERO, 4)));
        schedule.slept(now, HOUR);
        assert_eq!(seen(&schedule, now), (0, Duration::ZERO, 4), "it is caught up by and by");
        assert_eq!(schedule.num_due(now + HOUR / 24), 5);
    }
}
