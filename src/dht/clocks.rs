//! Clocks: what time it is, and whether the wall clock has jumped.
//!
//! Knows both clocks as they are told; what a jump means for records, schedules and connections is decided here, what is
//! done about it by their own machines.

use crate::stats;
use crate::time::{Duration, Instant, Moment, Now, SystemTime, after, wall_after};

/// A wall clock that differs by more from what the monotonic one lets expect was set, or the machine has slept. NTP slews
/// by half a thousandth (RFC 5905 §11.3) and steps beyond an eighth of a second; a call after an hour of rest finds a slewed
/// clock two seconds off. What is beyond that is chosen, not measured.
const JUMP: Duration = Duration::from_secs(5);

/// A node that is called so much late was kept from its work; timers of a usual granularity are less. Chosen, not measured.
const STOOD_STILL: Duration = Duration::from_millis(5);

/// A jump of the wall clock against the monotonic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    /// The machine has slept, or the clock was set forward.
    Forward(Duration),
    /// The clock was set back.
    Back(Duration),
}

/// The latest reading of both clocks.
///
/// # What it decides
/// Whether the wall clock has gone on as the monotonic one has, from each reading to the next.
///
/// # Bounds
/// A jump of up to five seconds is taken over and not noticed.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    latest: Now,
    /// How long the program has stood still in all, as far as that was noticed.
    stood_still: Duration,
    /// How late the node is in this call: what arrived before it was told what has.
    late: Duration,
    // Apart, so that a node does not grow too large to be moved.
    counts: Box<stats::Clock>,
}

impl Clocks {
    pub(super) fn new(now: Now) -> Self {
        Self { latest: now, stood_still: Duration::ZERO, late: Duration::ZERO, counts: Box::default() }
    }

    /// Takes a reading, and returns how the wall clock has jumped since the one before.
    pub(super) fn tell(&mut self, now: Now) -> Option<Jump> {
        let expected = self.wall_at(now.instant);
        self.latest = now;
        let jump = match now.wall.duration_since(expected) {
            Ok(ahead) => Jump::Forward(ahead),
            Err(behind) => Jump::Back(behind.duration()),
        };
        let (Jump::Forward(by) | Jump::Back(by)) = jump;
        if by <= JUMP {
            return None;
        }
        match jump {
            Jump::Forward(_) => self.counts.jumps_forward += 1,
            Jump::Back(_) => self.counts.jumps_backward += 1,
        }
        Some(jump)
    }

    /// The node is called at `now` though it had asked for `due`; earlier does not count. Returns by how much it is late.
    ///
    /// If it was not called meanwhile, and not on purpose, the program has stood still: that time is taken out of the node's own.
    pub(super) fn called(&mut self, now: Now, due: Option<Instant>) -> Duration {
        let Some(late) = due.and_then(|due| now.instant.checked_duration_since(due)) else {
            return Duration::ZERO;
        };
        self.counts.lateness.observe(late);
        let since_called = now.instant.saturating_duration_since(self.latest.instant);
        let stood_still = late.min(since_called).saturating_sub(now.late);
        self.late = late;
        if stood_still >= STOOD_STILL {
            self.stood_still = self.stood_still.saturating_add(stood_still);
            self.late = late.saturating_sub(stood_still);
        }
        late
    }

    /// The node is told something that has waited for so long in this program.
    pub(super) fn told(&mut self, late: Duration) {
        self.late = late;
    }

    /// Returns how late the node is in this call, without what the program has stood still.
    pub(super) const fn late(&self) -> Duration {
        self.late
    }

    /// Returns how long the program has stood still in all.
    pub(super) const fn stood_still(&self) -> Duration {
        self.stood_still
    }

    /// Returns the moment of the node's own time: without what the program has stood still, and without what waits to be told.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        let now = now.checked_sub(self.stood_still).unwrap_or(now);
        Moment { now, seen: now.checked_sub(self.late).unwrap_or(now) }
    }

    /// Returns when, by the clock, something of the node's own time can be seen to have come, if the node is as late as now.
    pub(super) fn clock_time(&self, own: Instant) -> Instant {
        after(own, self.stood_still.saturating_add(self.late))
    }

    /// Returns how late the node was called, and how often a clock has jumped.
    pub(super) fn stats(&self) -> stats::Clock {
        (*self.counts).clone()
    }

    /// Returns when it was read last.
    pub(super) const fn latest(&self) -> Instant {
        self.latest.instant
    }

    /// Returns what the wall clock shows at an instant, if it is not set.
    pub(super) fn wall_at(&self, now: Instant) -> SystemTime {
        wall_after(self.latest.wall, now.saturating_duration_since(self.latest.instant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const SECOND: Duration = Duration::from_secs(1);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn a_jump_of_either_clock_against_the_other_is_noticed_once() {
        let wall = SystemTime::UNIX_EPOCH + 50 * YEAR;
        for by in [6 * SECOND, 60 * SECOND, 8 * 3600 * SECOND, 40 * YEAR] {
            for forward in [true, false] {
                let mut clocks = Clocks::new(Now::new(start(), wall));
                assert_eq!(clocks.tell(Now::new(start(), wall) + 3600 * SECOND), None);
                let then = Now::new(start(), wall) + 7200 * SECOND;
                let set = if forward { then.wall + by } else { then.wall - by };
                let expected = if forward { Jump::Forward(by) } else { Jump::Back(by) };
                assert_eq!(clocks.tell(Now::new(then.instant, set)), Some(expected));
                assert_eq!(clocks.tell(Now::new(then.instant, set) + SECOND), None, "once");
                assert_eq!(clocks.wall_at(then.instant + 9 * SECOND), set + 9 * SECOND);
            }
        }
    }

    #[test]
    fn what_waits_to_be_told_is_not_judged_and_what_the_program_stood_still_is_no_time() {
        const MS: Duration = Duration::from_millis(1);
        let (now, wall) = (start() + 1000 * SECOND, SystemTime::UNIX_EPOCH);
        let mut clocks = Clocks::new(Now::new(now, wall));
        let at = |now| Now::new(now, wall);
        assert_eq!(clocks.moment(now), Moment::from(now));
        // A long queue: what is told has waited, and so has the deadline behind it.
        clocks.told(40 * MS);
        assert_eq!(clocks.moment(now), Moment { now, seen: now - 40 * MS });
        assert_eq!(clocks.called(at(now), Some(now - 30 * MS)), 30 * MS);
        assert_eq!(clocks.moment(now), Moment { now, seen: now - 30 * MS }, "all before that was told");
        assert_eq!(clocks.clock_time(now), now + 30 * MS);
        // The program stood still: nobody can tell what has arrived meanwhile.
        assert_eq!(clocks.called(at(now + SECOND), Some(now)), SECOND);
        let own = clocks.moment(now + SECOND);
        assert_eq!(own, Moment::from(now), "no time has passed");
        assert_eq!(clocks.clock_time(own.now), now + SECOND);
        assert_eq!(clocks.called(at(now + SECOND + 4 * MS), Some(now + SECOND)), 4 * MS);
        assert_eq!(clocks.moment(now + SECOND + 4 * MS).now, now + 4 * MS, "timers are never exact");
        assert_eq!(
            clocks.called(at(now + SECOND), Some(now + 9 * SECOND)),
            Duration::ZERO,
            "early is not late"
        );
    }

    #[test]
    fn a_deadline_that_was_put_off_on_purpose_is_late_and_the_program_has_not_stood_still() {
        const MS: Duration = Duration::from_millis(1);
        let (start, wall) = (start() + 1000 * SECOND, SystemTime::UNIX_EPOCH);
        let mut clocks = Clocks::new(Now::new(start, wall));
        let mut now = start;
        // Much arrives all the time, and is told at once.
        for _ in 0..100 {
            let due = now;
            now += 100 * MS;
            clocks.told(MS);
            let late = clocks.called(Now::new(now, wall).late_by(100 * MS), Some(due));
            assert_eq!(late, 100 * MS);
        }
        let moment = clocks.moment(now);
        assert_eq!((moment.now, moment.seen), (now, now - 100 * MS), "time has gone on");
        // It stood still for a second before that was noticed.
        clocks.called(Now::new(now + 1100 * MS, wall).late_by(100 * MS), Some(now));
        assert_eq!(clocks.moment(now + 1100 * MS).now, now + 100 * MS);
    }

    #[test]
    fn a_clock_that_is_slewed_has_not_jumped() {
        let mut clocks = Clocks::new(Now::new(start(), SystemTime::UNIX_EPOCH + YEAR));
        for hour in 1..1000u32 {
            // By half a thousandth, for weeks.
            let wall = SystemTime::UNIX_EPOCH + YEAR + hour * 3600 * SECOND - hour * 1800 * SECOND / 1000;
            assert_eq!(clocks.tell(Now::new(start() + hour * 3600 * SECOND, wall)), None, "{hour}");
        }
    }
}
