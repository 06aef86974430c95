//! Reproviding: which keys are announced anew, and when.
//!
//! Knows keys and times; neither addresses nor peers.

use crate::dht::schedule::{Coverage, FIRST_AGAIN, LONGEST_RETRY, MAX_GATHERED, Schedule, Spans};
use crate::key::Key;
use crate::record::RecordKey;
use crate::rng::Rng;
use crate::stats;
use crate::time::{Duration, Instant};

/// What is due within this part of an interval is announced together with what is due now.
///
/// Chosen. With [`EARLY`] it lets a key be announced 1.05 times in an interval, and no more than 1.11 times
/// (`tests/sim/providers.rs`): what is provided are many small things, where records are few.
const TOGETHER: u32 = 64;

/// A key is announced earlier than it should by up to this part of its interval, so that not all are due at once. Chosen
/// with [`TOGETHER`].
const EARLY: u32 = 12;

/// The schedule of the announcements.
///
/// # What it decides
/// When this node announces its keys anew: every 22 hours, and sooner if nobody or too few were told. All of them are announced
/// anew when they are to be [renewed](Self::renew), a part after the other. The order and how many at once are those of a
/// [`Schedule`]. What others provide is not announced for them.
///
/// # Inputs
/// [`add`](Self::add) and [`remove`](Self::remove) of each key, [`resumed`](Self::resumed) when the node begins;
/// [`done`](Self::done) or [`spared`](Self::spared) of those that were due; [`renew`](Self::renew) and
/// [`outgrown`](Self::outgrown).
///
/// # Outputs
/// [`next`](Self::next): a key to be announced now.
///
/// # What time does
/// Makes keys due.
///
/// # Bounds
/// One entry for each key that this node provides.
#[derive(Debug)]
pub(super) struct Reprovide {
    interval: Option<Duration>,
    schedule: Schedule<()>,
    /// How many, the first ones, are yet to be renewed.
    to_renew: usize,
}

impl Reprovide {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        let longest = interval.unwrap_or_default();
        let schedule = Schedule::new(Spans { longest, together: longest / TOGETHER });
        Self { interval, schedule, to_renew: 0 }
    }

    /// A key is announced now, so that it is due after an interval.
    pub(super) fn add(&mut self, now: Instant, key: RecordKey, place: Key, rng: &mut Rng) {
        let wait = self.interval.map(|interval| interval - early(interval, rng));
        self.schedule.add(now, key, (place, ()), wait);
    }

    /// A key was there when the node began, and was announced `age` ago: it is announced anew when it would have been, or within
    /// ten minutes if that time is past.
    pub(super) fn resumed(
        &mut self,
        now: Instant,
        key: RecordKey,
        place: Key,
        age: Option<Duration>,
        rng: &mut Rng,
    ) {
        let wait = self.interval.map(|interval| {
            let whole = interval - early(interval, rng);
            let left = age.and_then(|age| whole.checked_sub(age));
            left.unwrap_or_else(|| LONGEST_RETRY.min(interval).mul_f64(rng.unit()))
        });
        self.schedule.add(now, key, (place, ()), wait);
    }

    /// A key is not provided any more.
    pub(super) fn remove(&mut self, key: &RecordKey) {
        self.schedule.remove(key);
    }

    /// Returns a key to announce now. Its [`done`](Self::done) or [`spared`](Self::spared) is awaited.
    pub(super) fn next(&mut self, now: Instant) -> Option<RecordKey> {
        if !self.schedule.gather(now) {
            return None;
        }
        self.gather_renewed();
        self.schedule.take()
    }

    /// All keys are to be announced anew, whenever they are due.
    pub(super) fn renew(&mut self) {
        self.to_renew = self.schedule.len();
    }

    /// Makes the next of those ready that are to be renewed.
    fn gather_renewed(&mut self) {
        if self.schedule.num_ready() >= MAX_GATHERED {
            return;
        }
        // From the last to the first: what is scheduled anew meanwhile moves behind them.
        let upto = self.to_renew.min(self.schedule.len());
        self.to_renew = upto.saturating_sub(MAX_GATHERED);
        self.schedule.make_ready(self.to_renew..upto);
    }

    /// Returns whether the time of a key has come, so that it is not announced merely to be renewed.
    pub(super) fn is_due(&self, key: &RecordKey) -> bool {
        self.schedule.is_due(key)
    }

    /// A key that [`next`](Self::next) has returned is announced now, so that its time need not come.
    pub(super) fn begun(&mut self, key: &RecordKey) {
        self.schedule.begun(key);
    }

    /// A key that [`next`](Self::next) has returned need not be renewed; it is announced when it is due.
    pub(super) const fn spared(&mut self) {
        self.schedule.spared();
    }

    /// A key is to be announced soon, with others that have been announced as widely: the network has grown.
    pub(super) fn outgrown(&mut self, now: Instant, key: &RecordKey) {
        let wait = self.interval.map(|interval| FIRST_AGAIN.min(interval));
        self.schedule.bring_forward(now, key, wait);
    }

    /// A key that [`next`](Self::next) has returned has been announced.
    pub(super) fn done(&mut self, now: Instant, key: &RecordKey, coverage: Coverage, rng: &mut Rng) {
        self.schedule.done();
        self.was_announced(now, key, coverage, rng);
    }

    /// A key has been announced, whatever the origin of the query.
    pub(super) fn was_announced(&mut self, now: Instant, key: &RecordKey, coverage: Coverage, rng: &mut Rng) {
        let Some((place, ())) = self.schedule.get(key) else {
            return;
        };
        if !self.schedule.retry(now, key, coverage, self.interval) {
            self.add(now, key.clone(), place, rng);
        }
    }

    /// Nothing is announced for a while, so that others have their turn.
    pub(super) fn rest(&mut self, now: Instant) {
        self.schedule.rest(now);
    }

    /// There is a peer to tell, or an address to tell: keys that wait for it are due.
    pub(super) fn retry_waiting(&mut self, now: Instant) {
        self.schedule.retry_waiting(now);
    }

    /// Returns how many there are, are due and were done.
    pub(super) fn stats(&self, now: Instant) -> stats::Schedule {
        self.schedule.stats(now)
    }

    /// The machine has slept for so long, or its clock was set forward.
    pub(super) fn slept(&mut self, now: Instant, by: Duration) {
        self.schedule.slept(now, by);
    }

    /// Returns whether a key is announced from time to time.
    pub(super) fn knows(&self, key: &RecordKey) -> bool {
        self.schedule.get(key).is_some()
    }

    /// Returns whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        self.schedule.len() == 0
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.schedule.deadline()
    }
}

/// How much earlier than after an interval a key is announced.
fn early(interval: Duration, rng: &mut Rng) -> Duration {
    (interval / EARLY).mul_f64(rng.unit())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::time::start;

    const HOUR: Duration = Duration::from_secs(3600);

    fn fixture() -> (Reprovide, Rng, Instant) {
        (Reprovide::new(Some(22 * HOUR)), Rng::from_u64(1), start())
    }

    fn key(n: u32) -> (RecordKey, Key) {
        let bytes = n.to_be_bytes();
        (RecordKey::new(&bytes), Key::sha256(&bytes))
    }

    #[test]
    fn what_is_announced_is_due_little_earlier_than_it_should() {
        let (mut reprovide, mut rng, mut now) = fixture();
        let mut last = BTreeMap::new();
        for n in 0..200 {
            let (one, place) = key(n);
            reprovide.add(now, one.clone(), place, &mut rng);
            last.insert(one, now);
        }
        for _ in 0..1000 {
            now = reprovide.deadline().unwrap();
            while let Some(one) = reprovide.next(now) {
                reprovide.done(now, &one, Coverage::Full, &mut rng);
                let before = last.insert(one, now).unwrap();
                assert!(now - before <= 22 * HOUR && (now - before).mul_f64(1.11) >= 22 * HOUR);
            }
        }
    }

    #[test]
    fn all_are_renewed_a_part_after_the_other_and_then_it_is_as_it_was() {
        let (mut reprovide, mut rng, now) = fixture();
        for n in 0..5_000 {
            let (one, place) = key(n);
            reprovide.add(now, one, place, &mut rng);
        }
        let first = reprovide.deadline().unwrap();
        reprovide.renew();
        let mut seen = BTreeSet::new();
        let mut twice = 0;
        while let Some(one) = reprovide.next(now) {
            assert!(reprovide.schedule.num_ready() <= 2 * MAX_GATHERED && !reprovide.is_due(&one));
            // Every other one need not be.
            if one.as_ref()[3] % 2 == 0 {
                reprovide.spared();
            } else {
                reprovide.begun(&one);
                assert!(reprovide.is_due(&one));
                reprovide.done(now, &one, Coverage::Full, &mut rng);
            }
            twice += usize::from(!seen.insert(one));
        }
        assert_eq!(seen.len(), 5_000);
        assert!(twice < 5_000, "{twice}");
        let due = reprovide.deadline().unwrap();
        assert!(due - now >= 20 * HOUR && first - now >= 20 * HOUR);
        // All are; no more are looked at.
        assert_eq!(reprovide.schedule.num_due(now + 22 * HOUR), MAX_GATHERED);
    }

    #[test]
    fn an_announcement_is_resumed_where_it_was() {
        let (mut reprovide, mut rng, now) = fixture();
        let (one, place) = key(1);
        for (age, least, most) in [
            (Some(2 * HOUR), HOUR * 217 / 12, 20 * HOUR),
            (Some(30 * HOUR), Duration::ZERO, LONGEST_RETRY),
            (None, Duration::ZERO, LONGEST_RETRY),
        ] {
            reprovide.resumed(now, one.clone(), place, age, &mut rng);
            let wait = reprovide.deadline().unwrap() - now;
            assert!(wait >= least && wait <= most, "{age:?} {wait:?}");
        }
        reprovide.retry_waiting(now);
        assert_ne!(reprovide.deadline(), Some(now), "nothing has failed");
    }

    #[test]
    fn what_the_network_has_outgrown_is_announced_soon_and_never_later_than_it_was_to_be() {
        let (mut reprovide, mut rng, now) = fixture();
        let (one, place) = key(1);
        reprovide.add(now, one.clone(), place, &mut rng);
        reprovide.outgrown(now, &one);
        assert_eq!(reprovide.deadline(), Some(now + FIRST_AGAIN));
        reprovide.outgrown(now + FIRST_AGAIN / 2, &one);
        assert_eq!(reprovide.deadline(), Some(now + FIRST_AGAIN));
        let now = now + FIRST_AGAIN;
        assert_eq!(reprovide.next(now), Some(one.clone()));
        reprovide.outgrown(now, &one);
        assert_eq!(reprovide.deadline(), None, "it is being announced");
        reprovide.remove(&one);
        reprovide.done(now, &one, Coverage::None, &mut rng);
        assert_eq!((reprovide.deadline(), reprovide.knows(&one), reprovide.is_empty()), (None, false, true));
    }
}
