//! Arrivals: what has come from outside is looked at before what is overdue.
//!
//! Knows counts and times; what arrives, and what is due, is not its affair.

use crate::time::{Duration, Instant};

/// A deadline is put off by no more than this, however much arrives. Chosen, not measured: a twentieth of what the public network
/// takes for a lookup.
const AT_MOST: Duration = Duration::from_millis(100);

/// The order of what has arrived and what is overdue.
///
/// A swarm polls its behaviours before its connections: when a program comes back from other work, what is overdue would come
/// before the answers that have arrived meanwhile. So a deadline that has come waits for one round of the swarm in which nothing
/// arrives, or until something is told that has happened since it came.
///
/// # What time does
/// A deadline that was put off for 100 ms has its turn whatever arrives.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    count: u64,
    /// When that has happened which was told last, and how long it had waited.
    latest: Option<(Instant, Duration)>,
    /// How much had arrived when a deadline was put off last, and since when it is.
    put_off: Option<(u64, Instant)>,
}

impl Arrivals {
    /// Something is told that has arrived.
    pub(super) const fn arrived(&mut self) {
        self.count = self.count.wrapping_add(1);
    }

    /// Something is told that happened at `at`. Returns how long it has waited.
    pub(super) fn happened(&mut self, now: Instant, at: Instant) -> Duration {
        self.arrived();
        let late = now.saturating_duration_since(at);
        self.latest = Some((at, late));
        late
    }

    /// Returns how long what is told in this round has waited, as far as that is known.
    pub(super) fn late(&self) -> Duration {
        self.latest.map_or(Duration::ZERO, |(_, late)| late)
    }

    /// No deadline has come: all that has arrived was told.
    pub(super) const fn nothing_is_due(&mut self) {
        (self.put_off, self.latest) = (None, None);
    }

    /// A deadline has come. Returns for how long it was put off if it has its turn now; if not, the others have theirs first.
    pub(super) fn turn(&mut self, now: Instant, due: Instant) -> Option<Duration> {
        let (count, since) = self.put_off.unwrap_or((self.count.wrapping_sub(1), now));
        let put_off = now.saturating_duration_since(since);
        let is_told = self.latest.is_some_and(|(at, _)| at >= due);
        if put_off >= AT_MOST || count == self.count || is_told {
            self.nothing_is_due();
            return Some(put_off);
        }
        self.put_off = Some((self.count, since));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_deadline_waits_for_a_round_in_which_nothing_arrives() {
        let (mut arrivals, now) = (Arrivals::default(), start());
        assert_eq!(arrivals.turn(now, now), None, "what has arrived may wait to be told");
        assert_eq!(arrivals.turn(now + MS, now), Some(MS));
        assert_eq!(arrivals.turn(now, now), None, "the next one waits, too");
        for n in 0..50 {
            arrivals.arrived();
            assert_eq!(arrivals.turn(now + n * MS, now), None);
        }
        assert_eq!(arrivals.turn(now + 50 * MS, now), Some(50 * MS));
    }

    #[test]
    fn it_has_its_round_however_late_it_is_and_is_not_put_off_for_long() {
        let (mut arrivals, due) = (Arrivals::default(), start());
        let back = due + 5000 * MS;
        assert_eq!(arrivals.turn(back, due), None, "the program has stood still: answers wait");
        for n in 0..100 {
            arrivals.arrived();
            assert_eq!(arrivals.turn(back + n * MS, due), None);
        }
        arrivals.arrived();
        assert_eq!(arrivals.turn(back + AT_MOST, due), Some(AT_MOST));
        // What was put off and is not due any more is forgotten.
        assert_eq!(arrivals.turn(back, due), None);
        arrivals.nothing_is_due();
        assert_eq!(arrivals.turn(back + AT_MOST, due), None);
    }

    #[test]
    fn it_waits_no_longer_when_what_is_told_has_happened_since() {
        let (mut arrivals, due) = (Arrivals::default(), start() + 1000 * MS);
        let now = due + 30 * MS;
        assert_eq!(arrivals.turn(now, due), None);
        assert_eq!(arrivals.happened(now, due - MS), 31 * MS);
        assert_eq!((arrivals.turn(now, due), arrivals.late()), (None, 31 * MS));
        arrivals.happened(now + MS, due);
        assert_eq!(arrivals.turn(now + MS, due), Some(MS));
        assert_eq!(arrivals.late(), Duration::ZERO);
    }
}
