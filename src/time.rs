//! Time: the clock types the crate speaks, and arithmetic on them that cannot overflow.
//!
//! Knows nothing else of the crate, and reads no clock: below `net`, time is an argument.

use std::num::NonZeroU32;
use std::ops::{Add, AddAssign, Sub};
pub use std::time::Duration;

pub use web_time::{Instant, SystemTime};

/// A reading of both clocks at one moment: how much time has passed, and what time it is.
///
/// What does not outlive the process follows the monotonic clock, what does follows the wall clock. They are read together,
/// since each moves in ways of its own: the monotonic one stands still while a machine sleeps, the wall clock is set.
///
/// Readings are ordered by the monotonic clock first, and later ones are made by adding a duration to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// The monotonic clock. It never goes back.
    pub instant: Instant,
    /// The wall clock. It may jump, either way.
    pub wall: SystemTime,
    /// How long what is told with it has waited in this program.
    pub late: Duration,
}

impl Now {
    /// Makes a reading.
    pub const fn new(instant: Instant, wall: SystemTime) -> Self {
        Self { instant, wall, late: Duration::ZERO }
    }

    /// Returns the same reading, with which something is told that has waited in this program for so long: since it arrived,
    /// as far as the program can tell.
    ///
    /// The node then takes on less, and does not take its own lateness for that of others.
    #[must_use]
    pub const fn late_by(self, late: Duration) -> Self {
        Self { late, ..self }
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    /// Returns the reading after both clocks have gone on; one that the platform cannot represent stands still.
    fn add(self, passed: Duration) -> Self {
        Self { instant: after(self.instant, passed), wall: wall_after(self.wall, passed), ..self }
    }
}

impl AddAssign<Duration> for Now {
    fn add_assign(&mut self, passed: Duration) {
        *self = *self + passed;
    }
}

impl Sub for Now {
    type Output = Duration;

    /// Returns how much time has passed since an earlier reading, by the monotonic clock; none since a later one.
    fn sub(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}

/// A moment of the node's own time, by which others are awaited.
///
/// A node that is late itself does not see in time what has arrived. So it asks at one time, and judges at another: whatever
/// arrived before that it has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// When what is done is done.
    pub(crate) now: Instant,
    /// Up to when all that has arrived was looked at.
    pub(crate) seen: Instant,
}

impl From<Instant> for Moment {
    /// The moment of a node that is not late.
    fn from(now: Instant) -> Self {
        Self { now, seen: now }
    }
}

#[cfg(test)]
impl Sub<Duration> for Now {
    type Output = Self;

    fn sub(self, before: Duration) -> Self {
        Self { instant: self.instant - before, wall: self.wall - before, ..self }
    }
}

#[cfg(test)]
impl std::ops::SubAssign<Duration> for Now {
    fn sub_assign(&mut self, before: Duration) {
        *self = *self - before;
    }
}

/// Where a sum of a time and a duration ends, which the platform might not represent: far enough to mean never.
/// Chosen, not measured.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the instant `delay` after `now`; where the platform cannot represent it, one so far away that it means never.
pub(crate) fn after(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay.min(FAR)).unwrap_or(now)
}

/// Returns the wall-clock time `delay` after `wall`; where the platform might not represent it, one that means never.
pub(crate) fn wall_after(wall: SystemTime, delay: Duration) -> SystemTime {
    wall.checked_add(delay.min(FAR)).unwrap_or(wall)
}

/// Returns the earlier of two deadlines, where `None` means never.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// The beginning of the time of a machine that keeps many times: each is a [`Second`] then, with a quarter of an instant's
/// bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epoch(Option<Instant>);

impl Epoch {
    /// Begins now, unless it has begun.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.0.get_or_insert(now);
    }

    /// Returns the second that it is.
    pub(crate) fn second(self, now: Instant) -> Second {
        let since = self.0.map_or(0, |began| now.saturating_duration_since(began).as_secs());
        let second = u32::try_from(since).unwrap_or(u32::MAX).saturating_add(1);
        Second(NonZeroU32::new(second).unwrap_or(NonZeroU32::MIN))
    }
}

/// A second of some epoch, numbered from one. After 136 years time stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Second(NonZeroU32);

impl Second {
    /// Returns how long ago an earlier second was, to within a second.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.get().saturating_sub(earlier.0.get()).into())
    }
}

/// A fixed start of virtual time for tests: they add to it and never read the clock again.
#[cfg(test)]
pub(crate) fn start() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(crate::net::timer::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_instead_of_panicking() {
        let now = start();
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(after(now, Duration::MAX), now + FAR);
        assert!(after(after(now, Duration::MAX), Duration::MAX) >= now);
        let wall = SystemTime::UNIX_EPOCH;
        assert_eq!(wall_after(wall, Duration::from_secs(2)), wall + Duration::from_secs(2));
        assert_eq!(wall_after(wall, Duration::MAX), wall + FAR, "what never ends has not ended yet");
    }

    #[test]
    fn seconds_count_from_the_beginning() {
        let (mut epoch, now) = (Epoch::default(), start());
        assert_eq!(epoch.second(now), Epoch::default().second(now + Duration::from_secs(9)), "not yet begun");
        epoch.begin(now);
        epoch.begin(now + Duration::from_secs(5));
        let (first, third) = (epoch.second(now), epoch.second(now + Duration::from_millis(2999)));
        assert_eq!(third.since(first), Duration::from_secs(2));
        assert_eq!(first.since(third), Duration::ZERO);
        assert!(epoch.second(now + FAR * 10) > third);
        assert_eq!(size_of::<Option<Second>>(), 4);
    }

    #[test]
    fn never_is_later_than_any_deadline() {
        let now = start();
        assert_eq!(earliest(None, None), None);
        assert_eq!(earliest(Some(now), None), Some(now));
        assert_eq!(earliest(None, Some(now)), Some(now));
        assert_eq!(earliest(Some(now + Duration::from_secs(1)), Some(now)), Some(now));
    }
}
