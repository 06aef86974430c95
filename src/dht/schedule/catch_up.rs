//! Catching up: the time of a schedule after the machine has slept.
//!
//! Knows instants and durations only.

use crate::time::{Duration, Instant, after};

/// A schedule that has fallen behind goes on so many times as fast until it has caught up: a day within an hour, so that
/// what has become due meanwhile is not due all at once. Chosen, not measured.
const PACE: u32 = 24;

/// The time of a schedule.
///
/// # What it decides
/// What time it is for a schedule: the monotonic clock's, and beyond it what was slept away, which is caught up little by
/// little.
///
/// # What time does
/// While it is behind, an hour of the monotonic clock is a day of the schedule.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CatchUp {
    /// What has been caught up.
    caught_up: Duration,
    /// Since when it is behind, and by how much.
    behind: Option<(Instant, Duration)>,
}

impl CatchUp {
    /// So much time has passed of which the monotonic clock knows nothing; of more than `most` no more is caught up.
    pub(super) fn fall_behind(&mut self, now: Instant, by: Duration, most: Duration) {
        let gained = self.gained(now);
        self.caught_up = self.caught_up.saturating_add(gained);
        let left = self.behind.map_or(Duration::ZERO, |(_, behind)| behind.saturating_sub(gained));
        self.behind = Some((now, left.saturating_add(by).min(most)));
    }

    /// Returns how much of what it was behind has been caught up.
    fn gained(&self, now: Instant) -> Duration {
        self.behind.map_or(Duration::ZERO, |(since, behind)| {
            now.saturating_duration_since(since).saturating_mul(PACE - 1).min(behind)
        })
    }

    /// Returns what time it is for the schedule.
    pub(super) fn time(&self, now: Instant) -> Instant {
        after(after(now, self.caught_up), self.gained(now))
    }

    /// Returns when it will be a time of the schedule: not before, and no longer after than a nanosecond.
    pub(super) fn when(&self, time: Instant) -> Instant {
        let Some((since, behind)) = self.behind else {
            return time.checked_sub(self.caught_up).unwrap_or(time);
        };
        // What time it was for the schedule when it fell behind, and what it will be when it has caught up.
        let from = after(since, self.caught_up);
        let ahead = time.saturating_duration_since(from);
        let hurries_for = behind / (PACE - 1);
        if ahead > behind + hurries_for {
            return after(since, ahead - behind);
        }
        let nanos = ahead.as_nanos().div_ceil(u128::from(PACE));
        after(since, Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_schedule_that_was_never_behind_keeps_the_clocks_time() {
        let schedule = CatchUp::default();
        assert_eq!((schedule.time(start()), schedule.when(start() + HOUR)), (start(), start() + HOUR));
    }

    #[test]
    fn a_day_is_caught_up_within_about_an_hour() {
        let mut schedule = CatchUp::default();
        schedule.fall_behind(start(), 23 * HOUR, 100 * HOUR);
        assert_eq!(schedule.time(start()), start(), "nothing is due at once");
        assert_eq!(schedule.time(start() + HOUR / 2), start() + 12 * HOUR);
        assert_eq!(schedule.time(start() + HOUR), start() + 24 * HOUR);
        assert_eq!(schedule.time(start() + 3 * HOUR), start() + 26 * HOUR);
        schedule.fall_behind(start() + 4 * HOUR, 23 * HOUR, HOUR);
        assert_eq!(schedule.time(start() + 6 * HOUR), start() + 30 * HOUR, "no more than an hour of it");
    }

    #[test]
    fn when_has_come_to_the_nanosecond() {
        for behind in 0..100 {
            let mut schedule = CatchUp::default();
            schedule.fall_behind(start(), Duration::from_nanos(behind), HOUR);
            for ahead in 0..200 {
                let time = start() + Duration::from_nanos(ahead);
                assert!(schedule.time(schedule.when(time)) >= time, "{behind} {ahead}");
            }
        }
    }

    #[test]
    fn when_is_the_other_way_round() {
        let mut schedule = CatchUp::default();
        for (at, by) in [(0, 9), (1, 5), (2, 50), (30, 3)] {
            schedule.fall_behind(start() + at * HOUR, by * HOUR, 22 * HOUR);
            for minute in 0..6000u32 {
                let time = schedule.time(start() + at * HOUR) + minute * HOUR / 60;
                let when = schedule.when(time);
                assert!(schedule.time(when) >= time, "it has come");
                let before = when - Duration::from_nanos(2);
                assert!(minute == 0 || schedule.time(before) < time, "and not long ago: {minute}");
            }
        }
    }
}
