//! The pace of requests to a peer that refuses some of them.
//!
//! Knows counts and times; which requests they are is not its affair.

use crate::time::{Duration, Instant, after};

/// After a refusal nothing is sent for so long, which doubles with each further one, and for how long at most: a tenth of the time
/// in which servers let a burst through again, and no more than a lookup waits for a slow peer (chosen, not measured).
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1600));

/// After so long without a refusal the peer is as any other (chosen, not measured).
const ENDS: Duration = Duration::from_secs(10);

/// The pace of requests to one peer.
///
/// # What it decides
/// How many requests are in flight at once to a peer that has refused one while others were in flight, and when they go on: half as
/// many after a pause, and one more for each window of answers (additive increase, multiplicative decrease, as TCP's congestion
/// window by RFC 5681 §3.1). A stream that ends is the only way in which the protocol refuses.
///
/// # Inputs
/// [`refused`](Self::refused), [`answered`](Self::answered).
///
/// # What time does
/// Ends a pause, and in the end the slowness.
#[derive(Debug)]
pub(super) struct Pace {
    width: usize,
    /// How many were answered since it has widened.
    answers: usize,
    /// Whether anything was answered since the pace was slowed, and between then and the time before.
    has_answered: bool,
    had_answered: bool,
    slowed: Instant,
    pause: Duration,
}

impl Pace {
    /// Slows down to half of so many requests in flight.
    pub(super) fn new(now: Instant, in_flight: usize) -> Self {
        let width = (in_flight / 2).max(1);
        Self { width, answers: 0, has_answered: false, had_answered: false, slowed: now, pause: PAUSE.0 }
    }

    /// A request that was sent then was refused. What was sent before the pace was slowed says nothing new. Returns whether the
    /// peer has answered others of those that were sent with it.
    pub(super) fn refused(&mut self, now: Instant, sent: Instant) -> bool {
        if sent < self.goes_on() {
            return self.had_answered || self.has_answered;
        }
        let had_answered = self.has_answered;
        let pause = if had_answered { PAUSE.0 } else { (self.pause * 2).min(PAUSE.1) };
        *self = Self { pause, had_answered, ..Self::new(now, self.width) };
        had_answered
    }

    /// A request was answered. Returns whether the peer keeps up with so many in flight as are sent at most.
    pub(super) fn answered(&mut self, most: usize) -> bool {
        self.has_answered = true;
        self.answers += 1;
        if self.answers >= self.width {
            self.answers = 0;
            self.width += 1;
        }
        self.width >= most
    }

    /// Returns when requests go on.
    pub(super) fn goes_on(&self) -> Instant {
        after(self.slowed, self.pause)
    }

    /// Returns how many requests may be in flight, of so many at most; `None` if the peer is as any other by now.
    pub(super) fn width(&self, now: Instant, most: usize) -> Option<usize> {
        let is_slow = now.saturating_duration_since(self.slowed) < ENDS;
        is_slow.then(|| if now < self.goes_on() { 0 } else { self.width.min(most) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_halves_once_for_all_that_was_sent_before_and_widens_with_the_answers() {
        let mut pace = Pace::new(start(), 32);
        assert!((0..31).all(|_| !pace.refused(start() + MS, start())));
        assert_eq!(pace.width(start() + 99 * MS, 32), Some(0));
        assert_eq!(pace.width(start() + 100 * MS, 32), Some(16));
        assert!((0..16).all(|_| !pace.answered(32)));
        assert_eq!(pace.width(start() + 200 * MS, 32), Some(17));
        assert!((0..1000).any(|_| pace.answered(32)), "it keeps up");
    }

    #[test]
    fn whoever_answers_nothing_is_asked_ever_less_and_one_at_a_time_in_the_end() {
        let (mut pace, mut now) = (Pace::new(start(), 32), start());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(pace.goes_on() - now);
            now = pace.goes_on();
            pace.refused(now, now);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 1600].map(|n| n * MS));
        assert_eq!((pace.width(now, 32), pace.width(pace.goes_on(), 32)), (Some(0), Some(1)));
        assert_eq!(pace.width(now + ENDS, 32), None, "it is as any other");
    }

    #[test]
    fn a_peer_that_answers_in_between_is_waited_for_as_short_as_the_first_time() {
        let mut pace = Pace::new(start(), 8);
        pace.refused(pace.goes_on(), pace.goes_on());
        assert_eq!(pace.pause, 200 * MS);
        pace.answered(32);
        let sent = pace.goes_on();
        assert!(pace.refused(sent + MS, sent), "it has answered another");
        assert!(pace.refused(sent + 2 * MS, sent), "and is not blamed for any of that time");
        assert_eq!(pace.pause, 100 * MS);
        assert!(!pace.refused(pace.goes_on(), pace.goes_on()), "of the next time it has answered nothing");
    }
}
