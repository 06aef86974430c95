//! Time: the clock types the crate speaks, and arithmetic on them that cannot overflow.
//!
//! Knows nothing else of the crate, and reads no clock: below `net`, time is an argument.

pub use std::time::Duration;
pub use web_time::{Instant, SystemTime};

/// Where a sum of an instant and a duration ends when the platform cannot represent it: far enough to mean never.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the instant `delay` after `now`; where the platform cannot represent it, one so far away that it means never.
pub(crate) fn after(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay.min(FAR)).unwrap_or(now)
}

/// Returns the wall-clock time `delay` after `wall`, or `wall` itself where the platform cannot represent it.
pub(crate) fn wall_after(wall: SystemTime, delay: Duration) -> SystemTime {
    wall.checked_add(delay).unwrap_or(wall)
}

/// Returns the earlier of two deadlines, where `None` means never.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
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
        assert_eq!(wall_after(wall, Duration::MAX), wall);
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
