//! Republishing: which records are to be put anew, which keys announced anew, and when.
//!
//! Knows keys and times; neither values nor peers.

use std::collections::BTreeSet;
use std::ops::Bound;

use indexmap::IndexMap;

use crate::key::Key;
use crate::record::RecordKey;
use crate::rng::Rng;
use crate::stats::{self, gauge};
use crate::time::{Duration, Instant, after};

use super::catch_up::CatchUp;

/// So many are put at once.
const MAX_AT_ONCE: usize = 4;

/// So many that are due are gathered with one call; those that are due later follow with the next ones.
const MAX_GATHERED: usize = 1024;

/// What is due within this part of an interval is put together with what is due now.
const TOGETHER: u32 = 8;

/// An own record is put earlier than it should by up to this part of its interval, so that not all are due at once.
const EARLY: u32 = 4;

/// The same of announcements. Both together let a key be announced 1.05 times in an interval, and no more than 1.11 times
/// (`tests/sim/providers.rs`): what is provided are many small things, where records are few.
const ANNOUNCED_TOGETHER: u32 = 64;
const ANNOUNCED_EARLY: u32 = 12;

/// An own record that nobody has stored is put again after this time, which doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest time after which it is tried again; what was there when the node began is put within it.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// An own record that fewer have stored than should is put again after this time, which doubles each time.
const FIRST_AGAIN: Duration = Duration::from_secs(60);

/// How many have it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// As many as should.
    Wide,
    /// Fewer: the network was smaller than a bucket, or part of it silent.
    Thin,
    /// Nobody.
    Nowhere,
    /// Too few, since this node could not tell them where it is.
    Unnamed,
}

/// Decides when records are put anew.
///
/// # What it decides
/// A record of this node is put by it every 22 hours, and sooner if nobody or too few had stored it. All of them are put anew
/// when they are to be [renewed](Self::renew), a part after the other. A record of others that it holds is
/// put anew an hour after the latest STORE of it, whoever that came from: each time the first of the holders to remember does
/// it for all. Times are jittered, so that holders do not remember at once. What becomes due is put in the order of the
/// keyspace together with what is due soon, so that those that are neighbours find the same peers connected; and at most four
/// at once.
///
/// # Inputs
/// [`stored`](Self::stored) and [`removed`](Self::removed) of each record; [`done`](Self::done) when one was put.
///
/// # Outputs
/// [`next`](Self::next): a record to be put now.
///
/// # What time does
/// Makes records due. Time that the machine has slept counts as well, but not all at once.
///
/// # Bounds
/// Those of the store: one entry for each record.
///
/// # Spec
/// Maymounkov & Mazières §2.5.
#[derive(Debug)]
pub(crate) struct Republish {
    publication: Option<Duration>,
    replication: Option<Duration>,
    /// Parts of an interval: how much earlier than it should an own record is put, and what goes along with it.
    early: u32,
    together: u32,
    /// All times below but `rests_until` are of this clock.
    clock: CatchUp,
    records: IndexMap<RecordKey, Turn>,
    due: BTreeSet<(Instant, RecordKey)>,
    /// Those whose time has come, in the order of the keyspace.
    ready: BTreeSet<(Key, RecordKey)>,
    /// Where in the keyspace it is.
    at: Key,
    under_way: usize,
    rests_until: Option<Instant>,
    /// All of them in the order of the keyspace, if they are to be found by their places.
    places: Option<BTreeSet<(Key, RecordKey)>>,
    /// How many, the first ones, are yet to be renewed.
    to_renew: usize,
    done: u64,
    lateness: stats::Histogram<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    key: Key,
    is_own: bool,
    /// `None` if its time has come.
    due: Option<Instant>,
    /// How often in a row too few had stored it.
    retries: u8,
    /// Whether it waits for somebody to store it, or for an address to be named.
    is_waiting: bool,
}

impl Republish {
    pub(crate) fn new(publication: Option<Duration>, replication: Option<Duration>) -> Self {
        Self {
            publication,
            replication,
            early: EARLY,
            together: TOGETHER,
            clock: CatchUp::default(),
            records: IndexMap::new(),
            due: BTreeSet::new(),
            ready: BTreeSet::new(),
            at: Key::from_bytes([0; 32]),
            under_way: 0,
            rests_until: None,
            places: None,
            to_renew: 0,
            done: 0,
            lateness: stats::Histogram::default(),
        }
    }

    /// Decides when this node announces its keys anew.
    pub(crate) fn of_announcements(publication: Option<Duration>) -> Self {
        let (early, together) = (ANNOUNCED_EARLY, ANNOUNCED_TOGETHER);
        // What others provide is not announced for them.
        Self { early, together, ..Self::new(publication, None) }
    }

    /// Lets records be found by their [places](Self::next_place), too.
    pub(crate) fn with_places(mut self) -> Self {
        self.places = Some(BTreeSet::new());
        self
    }

    /// A record has been stored, here and elsewhere.
    pub(crate) fn stored(&mut self, now: Instant, record: RecordKey, key: Key, is_own: bool, rng: &mut Rng) {
        let interval = if is_own { self.publication } else { self.replication };
        // An own one never later than it should, one of others never earlier.
        let wait = interval.map(|interval| {
            let jitter = (interval / if is_own { self.early } else { EARLY }).mul_f64(rng.unit());
            if is_own { interval - jitter } else { interval + jitter }
        });
        let due = wait.map(|wait| after(self.clock.time(now), wait));
        self.schedule(record, Turn { key, is_own, due, retries: 0, is_waiting: false });
    }

    /// A record was there when the node began: own ones are put within ten minutes, those of others within an interval.
    pub(crate) fn found(&mut self, now: Instant, record: RecordKey, key: Key, is_own: bool, rng: &mut Rng) {
        let within = if is_own { self.publication.map(|_| TRY_AGAIN) } else { self.replication };
        let wait = within.map(|within| within.mul_f64(rng.unit()));
        let due = wait.map(|wait| after(self.clock.time(now), wait));
        self.schedule(record, Turn { key, is_own, due, retries: 0, is_waiting: false });
    }

    /// An own key was there when the node began, and was announced `age` ago: it is announced anew when it would have been,
    /// or within ten minutes if that time is past.
    pub(crate) fn resumed(
        &mut self,
        now: Instant,
        record: RecordKey,
        key: Key,
        age: Option<Duration>,
        rng: &mut Rng,
    ) {
        let wait = self.publication.map(|interval| {
            let jitter = (interval / self.early).mul_f64(rng.unit());
            let left = age.and_then(|age| (interval - jitter).checked_sub(age));
            left.unwrap_or_else(|| TRY_AGAIN.min(interval).mul_f64(rng.unit()))
        });
        let due = wait.map(|wait| after(self.clock.time(now), wait));
        self.schedule(record, Turn { key, is_own: true, due, retries: 0, is_waiting: false });
    }

    fn schedule(&mut self, record: RecordKey, turn: Turn) {
        self.removed(&record);
        self.due.extend(turn.due.map(|at| (at, record.clone())));
        if let Some(places) = &mut self.places {
            places.insert((turn.key, record.clone()));
        }
        self.records.insert(record, turn);
    }

    /// Returns whether a record is this node's; `None` if nothing is known of it.
    pub(crate) fn is_own(&self, record: &RecordKey) -> Option<bool> {
        self.records.get(record).map(|turn| turn.is_own)
    }

    /// A record is not stored here any more.
    pub(crate) fn removed(&mut self, record: &RecordKey) {
        if let Some(turn) = self.records.swap_remove(record) {
            if let Some(due) = turn.due {
                self.due.remove(&(due, record.clone()));
            }
            let place = (turn.key, record.clone());
            self.ready.remove(&place);
            if let Some(places) = &mut self.places {
                places.remove(&place);
            }
        }
    }

    /// Returns a record to put now. Its [`done`](Self::done) is awaited.
    pub(crate) fn next(&mut self, now: Instant) -> Option<RecordKey> {
        self.rests_until = self.rests_until.filter(|until| *until > now);
        if self.under_way >= MAX_AT_ONCE || self.rests_until.is_some() {
            return None;
        }
        let time = self.clock.time(now);
        if self.due.first().is_some_and(|(at, _)| *at <= time) {
            let soon = after(time, self.replication.or(self.publication).unwrap_or_default() / self.together);
            for _ in 0..MAX_GATHERED {
                let Some((at, record)) = self.due.first().filter(|(at, _)| *at <= soon).cloned() else {
                    break;
                };
                self.due.pop_first();
                self.lateness.observe(time.saturating_duration_since(at));
                if let Some(turn) = self.records.get_mut(&record) {
                    turn.due = None;
                    self.ready.insert((turn.key, record));
                }
            }
        }
        self.gather_renewed();
        // Onward from where it was, and round.
        let here = (self.at, RecordKey::from(Vec::new()));
        let next = self.ready.range(here..).next().or_else(|| self.ready.first())?.clone();
        self.ready.remove(&next);
        let (key, record) = next;
        self.at = key;
        self.under_way += 1;
        Some(record)
    }

    /// All own records are to be put anew, whenever they are due.
    pub(crate) fn renew(&mut self) {
        self.to_renew = self.records.len();
    }

    /// Makes the next of those ready that are to be renewed.
    fn gather_renewed(&mut self) {
        if self.ready.len() >= MAX_GATHERED {
            return;
        }
        // From the last to the first: what is scheduled anew meanwhile moves behind them.
        let upto = self.to_renew.min(self.records.len());
        self.to_renew = upto.saturating_sub(MAX_GATHERED);
        for at in self.to_renew..upto {
            if let Some((record, turn)) = self.records.get_index(at).filter(|(_, turn)| turn.is_own) {
                self.ready.insert((turn.key, record.clone()));
            }
        }
    }

    /// Returns whether the time of a record has come, so that it is not put merely to be renewed.
    pub(crate) fn is_due(&self, record: &RecordKey) -> bool {
        self.records.get(record).is_some_and(|turn| turn.due.is_none())
    }

    /// A record that [`next`](Self::next) has returned is put now, so that its time need not come.
    pub(crate) fn begun(&mut self, record: &RecordKey) {
        if let Some(due) = self.records.get_mut(record).and_then(|turn| turn.due.take()) {
            self.due.remove(&(due, record.clone()));
        }
    }

    /// A record that [`next`](Self::next) has returned need not be renewed; it is put when it is due.
    pub(crate) const fn spared(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// An own record is to be put soon, with others that have been stored as widely: the network has grown.
    pub(crate) fn outgrown(&mut self, now: Instant, record: &RecordKey) {
        if let Some(turn) = self.records.get(record).copied().filter(|turn| turn.due.is_some()) {
            let due = self.publication.map(|interval| after(self.clock.time(now), FIRST_AGAIN.min(interval)));
            let due = due.min(turn.due).or(turn.due);
            self.schedule(record.clone(), Turn { due, ..turn });
        }
    }

    /// A record that [`next`](Self::next) has returned has been put.
    pub(crate) fn done(&mut self, now: Instant, record: &RecordKey, spread: Spread, rng: &mut Rng) {
        self.done += 1;
        self.under_way = self.under_way.saturating_sub(1);
        self.was_put(now, record, spread, rng);
    }

    /// Nothing is put before then, so that others have their turn.
    pub(crate) const fn rest(&mut self, until: Instant) {
        self.rests_until = Some(until);
    }

    /// A record has been put, whoever wanted that.
    pub(crate) fn was_put(&mut self, now: Instant, record: &RecordKey, spread: Spread, rng: &mut Rng) {
        let Some(Turn { key, is_own, retries, .. }) = self.records.get(record).copied() else {
            return;
        };
        let doubled = |first: Duration| first.saturating_mul(1 << retries.min(30));
        let wait = match spread {
            _ if !is_own => None,
            Spread::Wide => None,
            Spread::Thin | Spread::Unnamed => Some(doubled(FIRST_AGAIN)),
            Spread::Nowhere => Some(doubled(FIRST_RETRY).min(TRY_AGAIN)),
        };
        match wait {
            None => self.stored(now, record.clone(), key, is_own, rng),
            Some(wait) => {
                let due = self.publication.map(|interval| after(self.clock.time(now), wait.min(interval)));
                let (retries, is_waiting) = (retries.saturating_add(1), spread != Spread::Thin);
                self.schedule(record.clone(), Turn { key, is_own, due, retries, is_waiting });
            }
        }
    }

    /// There is somebody to put records at, or an address to be named, as perhaps there was not before: those that wait for
    /// it are due, as far as they are among the next ones. What was stored by some is not due for that.
    pub(crate) fn hurry(&mut self, now: Instant) {
        let now = self.clock.time(now);
        let soon = after(now, TRY_AGAIN);
        let late: Vec<_> =
            self.due.range(..(soon, RecordKey::from(Vec::new()))).take(MAX_GATHERED).cloned().collect();
        for (due, record) in late {
            if let Some(turn) = self.records.get_mut(&record).filter(|turn| turn.is_waiting) {
                turn.due = Some(now);
                self.due.remove(&(due, record.clone()));
                self.due.insert((now, record));
            }
        }
    }

    /// The machine has slept for so long, or its clock was set forward: what has become due meanwhile is put by and by.
    pub(crate) fn slept(&mut self, now: Instant, by: Duration) {
        let longest = self.publication.max(self.replication).unwrap_or_default();
        self.clock.fall_behind(now, by, longest);
    }

    /// Returns whether a record is put from time to time.
    pub(crate) fn knows(&self, record: &RecordKey) -> bool {
        self.records.contains_key(record)
    }

    /// Returns how much there is, waits, is being done and was.
    pub(crate) fn stats(&self, now: Instant) -> stats::Schedule {
        let time = self.clock.time(now);
        let due = self.due.iter().take_while(|(at, _)| *at <= time).take(MAX_GATHERED).count();
        stats::Schedule {
            scheduled: gauge(self.records.len()),
            due: gauge(self.ready.len() + due),
            under_way: gauge(self.under_way),
            done: self.done,
            lateness: self.lateness.clone(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.under_way >= MAX_AT_ONCE {
            // It goes on when one of them is done.
            return None;
        }
        self.rests_until.or_else(|| self.due.first().map(|(at, _)| self.clock.when(*at)))
    }

    /// Returns the first record from a place of the keyspace on.
    pub(crate) fn next_place(&self, from: &Bound<(Key, RecordKey)>) -> Option<&(Key, RecordKey)> {
        self.places.as_ref()?.range((from.clone(), Bound::Unbounded)).next()
    }

    /// Returns whether there is no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns how many records are stored here.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
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

    fn all(republish: &mut Republish, now: Instant) -> Vec<RecordKey> {
        std::iter::from_fn(|| republish.next(now)).collect()
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
        republish.done(due, &one, Spread::Nowhere, &mut rng);
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
            republish.done(now, &one, Spread::Nowhere, &mut rng);
            now += Duration::from_secs(wait);
            assert_eq!(republish.deadline(), Some(now));
        }
        assert_eq!(republish.next(now), Some(one.clone()));
        republish.done(now, &one, Spread::Wide, &mut rng);
        assert!(republish.deadline().unwrap() >= now + 16 * HOUR);
        republish.was_put(now, &one, Spread::Thin, &mut rng);
        assert_eq!(republish.deadline(), Some(now + FIRST_AGAIN), "it begins anew");
        republish.was_put(now, &one, Spread::Thin, &mut rng);
        assert_eq!(republish.deadline(), Some(now + 2 * FIRST_AGAIN));
        republish.hurry(now);
        assert_eq!(republish.deadline(), Some(now + 2 * FIRST_AGAIN), "some have it");
        for spread in [Spread::Nowhere, Spread::Unnamed] {
            republish.was_put(now, &one, spread, &mut rng);
            assert_ne!(republish.deadline(), Some(now));
            republish.hurry(now);
            assert_eq!(republish.deadline(), Some(now), "{spread:?}");
        }
    }

    #[test]
    fn what_is_announced_is_due_little_earlier_than_it_should() {
        let (mut rng, mut now) = (Rng::from_u64(1), start());
        let mut republish = Republish::of_announcements(Some(22 * HOUR));
        let mut last = std::collections::BTreeMap::new();
        for n in 0..200 {
            let (one, key) = record(n);
            republish.stored(now, one.clone(), key, true, &mut rng);
            last.insert(one, now);
        }
        for _ in 0..1000 {
            now = republish.deadline().unwrap();
            while let Some(one) = republish.next(now) {
                republish.done(now, &one, Spread::Wide, &mut rng);
                let before = last.insert(one, now).unwrap();
                assert!(now - before <= 22 * HOUR && (now - before).mul_f64(1.11) >= 22 * HOUR);
            }
        }
    }

    #[test]
    fn all_are_renewed_a_part_after_the_other_and_then_it_is_as_it_was() {
        let (mut republish, mut rng, now) =
            (Republish::of_announcements(Some(22 * HOUR)), Rng::from_u64(1), start());
        for n in 0..5_000u32 {
            let bytes = n.to_be_bytes();
            republish.stored(now, RecordKey::new(&bytes), Key::sha256(&bytes), true, &mut rng);
        }
        republish.renew();
        let mut seen = BTreeSet::new();
        let mut twice = 0;
        while let Some(one) = republish.next(now) {
            assert!(republish.ready.len() <= 2 * MAX_GATHERED && !republish.is_due(&one));
            // Every other one need not be.
            if one.as_ref()[3] % 2 == 0 {
                republish.spared();
            } else {
                republish.begun(&one);
                assert!(republish.is_due(&one));
                republish.done(now, &one, Spread::Wide, &mut rng);
            }
            twice += usize::from(!seen.insert(one));
        }
        assert_eq!(seen.len(), 5_000);
        assert!(twice < 5_000, "{twice}");
        let due = republish.deadline().unwrap();
        assert!(due - now >= 20 * HOUR && republish.due.len() == 5_000);
    }

    #[test]
    fn an_announcement_is_resumed_where_it_was() {
        let (mut republish, mut rng, now) = fixture();
        let (one, key) = record(1);
        for (age, least, most) in [
            (Some(2 * HOUR), HOUR * 29 / 2, 20 * HOUR),
            (Some(30 * HOUR), Duration::ZERO, TRY_AGAIN),
            (None, Duration::ZERO, TRY_AGAIN),
        ] {
            republish.resumed(now, one.clone(), key, age, &mut rng);
            let wait = republish.deadline().unwrap() - now;
            assert!(wait >= least && wait <= most, "{age:?} {wait:?}");
        }
        republish.hurry(now);
        assert_ne!(republish.deadline(), Some(now), "nothing has failed");
    }

    #[test]
    fn what_is_due_soon_goes_along_in_the_order_of_the_keyspace_four_at_once() {
        let (mut republish, mut rng, now) = fixture();
        for n in 0..50 {
            let (record, key) = record(n);
            republish.stored(now, record, key, false, &mut rng);
        }
        let later = now + 2 * HOUR;
        let mut order = Vec::new();
        loop {
            let batch = all(&mut republish, later);
            assert!(batch.len() <= MAX_AT_ONCE);
            if batch.is_empty() {
                break;
            }
            for record in batch {
                republish.done(later, &record, Spread::Wide, &mut rng);
                order.push(Key::sha256(record.as_ref()));
            }
        }
        assert_eq!(order.len(), 50);
        assert!(order.is_sorted());
    }

    #[test]
    fn however_many_are_due_a_call_sees_to_a_part_of_them() {
        let (mut republish, mut rng, now) = fixture();
        for n in 0..10_000u32 {
            let bytes = n.to_be_bytes();
            republish.stored(now, RecordKey::new(&bytes), Key::sha256(&bytes), false, &mut rng);
        }
        let later = now + 2 * HOUR;
        assert!(republish.next(later).is_some());
        assert_eq!((republish.ready.len(), republish.due.len()), (MAX_GATHERED - 1, 10_000 - MAX_GATHERED));
        republish.rest(later + HOUR);
        assert_eq!((republish.next(later), republish.deadline()), (None, Some(later + HOUR)));
        assert!(republish.next(later + HOUR).is_some());
        let mut seen = 2;
        while seen < 10_000 {
            let batch = all(&mut republish, later + HOUR);
            assert!(!batch.is_empty(), "{seen}");
            seen += batch.len();
            batch.into_iter().for_each(|record| republish.removed(&record));
            republish.under_way = 0;
        }
    }

    #[test]
    fn what_is_gone_is_not_put() {
        let (mut republish, mut rng, now) = fixture();
        let (one, key) = record(1);
        republish.stored(now, one.clone(), key, false, &mut rng);
        republish.removed(&one);
        assert_eq!((republish.deadline(), republish.next(now + 9 * HOUR)), (None, None));
        republish.stored(now, one.clone(), key, false, &mut rng);
        assert_eq!(republish.next(now + 9 * HOUR), Some(one.clone()));
        republish.removed(&one);
        republish.done(now, &one, Spread::Wide, &mut rng);
        assert_eq!(republish.len(), 0);
        assert_eq!(republish.deadline(), None);
    }

    #[test]
    fn without_intervals_nothing_is_put() {
        let (mut republish, mut rng, now) = (Republish::new(None, None), Rng::from_u64(1), start());
        for (n, own) in [(1, true), (2, false)] {
            let (record, key) = record(n);
            republish.stored(now, record.clone(), key, own, &mut rng);
            republish.found(now, record.clone(), key, own, &mut rng);
            republish.was_put(now, &record, Spread::Nowhere, &mut rng);
        }
        assert_eq!((republish.deadline(), republish.len()), (None, 2));
    }
}
