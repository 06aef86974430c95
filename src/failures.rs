//! The failures of a peer in a row: the one rule of what counts against it, and for how long.
//!
//! Knows times only. Whose fault a failure is says [`RequestError::is_peers_fault`](crate::error::RequestError::is_peers_fault).

use crate::time::{Duration, Instant, after};

/// The failures of one peer since it last answered.
///
/// # What it decides
/// How many of them are the peer's own. Those that no answer of another peer parts may be one outage of this node: as long as
/// nobody answers they count for the pause before the peer is tried again, so that a node that is cut off grows quiet;
/// as soon as anybody answers only those count that an answer parts.
///
/// # Inputs
/// [`count`](Self::count), with when anybody has answered this node last.
///
/// # What time does
/// Nothing: the pause follows from what is noted.
///
/// # Invariants
/// Of one to 255 failures at least one is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failures {
    since: Instant,
    last: Instant,
    in_a_row: u8,
    /// How many of them have an answer of another peer between them.
    proven: u8,
}

impl Failures {
    /// Counts a failure of a peer, which may be the first since it has answered.
    pub(crate) fn count(of: &mut Option<Box<Self>>, now: Instant, last_answer: Option<Instant>) -> Self {
        match of {
            None => **of.insert(Box::new(Self { since: now, last: now, in_a_row: 1, proven: 1 })),
            Some(known) => {
                known.in_a_row = known.in_a_row.saturating_add(1);
                known.proven = known.proven.saturating_add(u8::from(Some(known.last) < last_answer));
                known.last = now;
                **known
            }
        }
    }

    /// Returns how many there are in a row.
    pub(crate) const fn in_a_row(&self) -> u8 {
        self.in_a_row
    }

    /// Returns how many are the peer's own for certain.
    pub(crate) const fn proven(&self) -> u8 {
        self.proven
    }

    /// Returns whether nobody else has answered since they began, so that it may be this node's own outage.
    pub(crate) fn may_be_own(&self, last_answer: Option<Instant>) -> bool {
        Some(self.since) >= last_answer
    }

    /// Returns for how long it has been failing.
    pub(crate) fn last_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Returns until when the peer is left alone: for `first` after its first failure, doubling up to `longest`.
    pub(crate) fn pause(
        &self,
        (first, longest): (Duration, Duration),
        last_answer: Option<Instant>,
    ) -> Instant {
        let is_outage_over = Some(self.last) < last_answer;
        let counted = if is_outage_over { self.proven } else { self.in_a_row };
        let doublings = u32::from(counted.saturating_sub(1)).min(31);
        after(self.last, first.saturating_mul(1 << doublings).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const SECOND: Duration = Duration::from_secs(1);
    const PAUSES: (Duration, Duration) = (SECOND, Duration::from_secs(60));

    /// What is counted when a peer fails every ten minutes, and others answer at these times.
    fn after_failures(count: u32, answers: &[Instant]) -> (Failures, Option<Instant>) {
        let mut failures = None;
        for n in 0..count {
            let now = start() + 600 * SECOND * n;
            let last_answer = answers.iter().copied().filter(|at| *at <= now).max();
            Failures::count(&mut failures, now, last_answer);
        }
        (*failures.unwrap(), answers.iter().copied().max())
    }

    #[test]
    fn the_pause_doubles_up_to_the_longest() {
        for (count, seconds) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (255, 60), (300, 60)] {
            let (failures, _) = after_failures(count, &[]);
            assert_eq!(failures.pause(PAUSES, None), failures.last + seconds * SECOND, "{count}");
        }
    }

    #[test]
    fn failures_that_no_answer_parts_are_one_outage_as_soon_as_anybody_answers() {
        let (failures, _) = after_failures(5, &[]);
        assert_eq!((failures.in_a_row(), failures.proven()), (5, 1));
        assert!(failures.may_be_own(None) && failures.may_be_own(Some(failures.since)));
        let back = Some(failures.last + SECOND);
        assert!(!failures.may_be_own(back));
        assert_eq!(failures.pause(PAUSES, back), failures.last + SECOND);
        assert_eq!(failures.pause(PAUSES, Some(failures.last)), failures.last + 16 * SECOND, "not yet");
    }

    #[test]
    fn failures_between_answers_of_others_are_the_peers_own() {
        let answers: Vec<_> = (0..5).map(|n| start() + 600 * SECOND * n + SECOND).collect();
        let (failures, last_answer) = after_failures(5, &answers);
        assert_eq!((failures.in_a_row(), failures.proven()), (5, 5));
        assert_eq!(failures.pause(PAUSES, last_answer), failures.last + 16 * SECOND);
    }
}
