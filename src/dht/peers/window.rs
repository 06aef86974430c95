//! The window of requests in flight: how much the node takes on at once.
//!
//! Knows counts and how late the node is; what is in flight, and what waits for a place, is not its affair.

use std::ops::RangeInclusive;

use crate::config::RequestWindow;
use crate::time::{Duration, Instant, after};

/// The requests that a node has in flight before anything is known of how fast it is: as many as a core handles in some 6 ms
/// (`docs/costs.md`). Chosen; `tests/sim/golden/overload.txt` holds what comes of it.
const FIRST: usize = 256;

/// A node that is later than an answer usually takes has taken on too much: half of the time of its lookups is its own then. But
/// however fast answers are, not one that is no later than the first of these, and however slow, one that is later than the
/// second: a tenth of a round trip on the Internet, and a whole one. Chosen; `tests/sim/golden/overload.txt` holds what comes of it.
const TOO_LATE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(100);

/// Who is later than this is told no more by how much. Chosen, not measured.
const MOST_LATE: Duration = Duration::from_secs(10);

/// The window of requests in flight.
///
/// # What it decides
/// Whether more work is to be begun: as long as fewer requests are in flight than the window is wide. It widens by one with
/// each answer while it is used and the node keeps up, and narrows by a quarter when the node has become late. So a node that
/// waits for far peers takes on more, and one that is busy itself no more than it can drive (additive increase, multiplicative
/// decrease, as TCP's congestion window by RFC 5681 §3.1).
///
/// # Inputs
/// [`late`](Self::late), [`answered`](Self::answered).
///
/// # What time does
/// It narrows once in the time by which the node is late, so that what was taken on before has its effect first.
///
/// # Bounds
/// Those that are configured. What has begun goes on, so that there are more in flight for a while: by the parallelism of each
/// lookup.
#[derive(Clone, Debug)]
pub(super) struct Window {
    least: usize,
    most: usize,
    width: usize,
    /// How late the node is, smoothed.
    lateness: Duration,
    too_late: Duration,
    narrow_after: Option<Instant>,
}

impl Window {
    pub(super) fn new(bounds: RequestWindow) -> Self {
        let (least, most) = match bounds {
            RequestWindow::Fixed(width) => (width.get(), width.get()),
            RequestWindow::Adaptive { least, most } => (least.get(), most.max(least).get()),
        };
        Self {
            least,
            most,
            width: FIRST.clamp(least, most),
            lateness: Duration::ZERO,
            too_late: *TOO_LATE.start(),
            narrow_after: None,
        }
    }

    /// Returns how many requests may be in flight.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// What the node is told was late by so much; an answer usually takes so long.
    pub(super) fn late(&mut self, now: Instant, late: Duration, usual: Option<Duration>) {
        self.lateness = (self.lateness * 7 + late.min(MOST_LATE)) / 8;
        self.too_late = usual.unwrap_or_default().clamp(*TOO_LATE.start(), *TOO_LATE.end());
        if self.lateness > self.too_late && self.narrow_after.is_none_or(|at| at <= now) {
            self.width = (self.width - (self.width / 4).max(1)).max(self.least);
            self.narrow_after = Some(after(now, self.lateness));
        }
    }

    /// A request was answered, while so many were in flight.
    pub(super) fn answered(&mut self, in_flight: usize) {
        if in_flight >= self.width && self.lateness < self.too_late / 2 {
            self.width = self.width.saturating_add(1).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::time::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_widens_while_it_is_used_and_the_node_keeps_up() {
        let mut window = Window::new(RequestWindow::default());
        (0..1000).for_each(|_| window.answered(10));
        assert_eq!(window.width(), FIRST, "there is no need");
        (0..100).for_each(|_| window.answered(usize::MAX));
        assert_eq!(window.width(), FIRST + 100);
        (0..40_000).for_each(|_| window.answered(usize::MAX));
        assert_eq!(window.width(), 4096);
    }

    #[test]
    fn it_narrows_once_for_each_time_by_which_the_node_is_late() {
        let mut window = Window::new(RequestWindow::default());
        window.late(start(), 50 * MS, None);
        assert_eq!(window.width(), FIRST, "one may be chance");
        (0..40).for_each(|_| window.late(start(), 50 * MS, None));
        assert_eq!(window.width(), FIRST - FIRST / 4);
        (0..9).for_each(|_| window.answered(usize::MAX));
        assert_eq!(window.width(), FIRST - FIRST / 4, "it does not widen meanwhile");
        for n in 1..1000 {
            window.late(start() + n * 60 * MS, 50 * MS, None);
        }
        assert_eq!(window.width(), 32);
        (0..40).for_each(|_| window.late(start(), Duration::ZERO, None));
        window.answered(usize::MAX);
        assert_eq!(window.width(), 33);
    }

    #[test]
    fn a_fixed_one_stays_as_wide_as_it_is() {
        for width in [1, 100, 10_000, usize::MAX] {
            let fixed = RequestWindow::Fixed(NonZeroUsize::new(width).unwrap());
            let mut window = Window::new(fixed);
            for n in 0..1000 {
                window.late(start() + n * 60 * MS, 50 * MS, None);
                assert_eq!(window.width(), width);
            }
            (0..40).for_each(|_| window.late(start(), Duration::ZERO, None));
            (0..1000).for_each(|_| window.answered(usize::MAX));
            assert_eq!(window.width(), width);
        }
    }

    #[test]
    fn it_narrows_down_to_the_least_however_little_that_is() {
        let [one, two] = [1, 2].map(|n| NonZeroUsize::new(n).unwrap());
        for least in [one, two] {
            let mut window = Window::new(RequestWindow::Adaptive { least, most: NonZeroUsize::MAX });
            (1..1000).for_each(|n| window.late(start() + n * 60 * MS, 50 * MS, None));
            assert_eq!(window.width(), least.get());
        }
    }

    #[test]
    fn bounds_that_cross_are_the_least() {
        let [five, nine] = [5, 9].map(|n| NonZeroUsize::new(n).unwrap());
        assert_eq!(Window::new(RequestWindow::Adaptive { least: nine, most: five }).width(), 9);
        assert_eq!(Window::new(RequestWindow::Adaptive { least: five, most: nine }).width(), 9);
    }

    #[test]
    fn what_is_too_late_depends_on_how_long_answers_take() {
        let narrows = |late: u32, usual: Option<u32>| {
            let mut window = Window::new(RequestWindow::default());
            (0..40).for_each(|_| window.late(start(), late * MS, usual.map(|usual| usual * MS)));
            window.width() < FIRST
        };
        assert_eq!([9, 11].map(|late| narrows(late, None)), [false, true]);
        assert_eq!([9, 11].map(|late| narrows(late, Some(1))), [false, true]);
        assert_eq!([40, 60].map(|late| narrows(late, Some(50))), [false, true]);
        assert_eq!([90, 110].map(|late| narrows(late, Some(5000))), [false, true]);
    }
}
