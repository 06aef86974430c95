//! Histograms with fixed bounds.

use std::fmt;

use super::statistic::Statistic;
use crate::time::Duration;

/// How many buckets a histogram has, the one without an upper bound included. Chosen, not measured.
pub const BUCKETS: usize = 20;

/// A unit of a [`Histogram`]: times, or numbers.
pub trait Observed: Copy + Ord + Default + fmt::Debug + Sealed {
    /// The upper bounds of all buckets but the last, each included in its bucket.
    const BOUNDS: [Self; BUCKETS - 1];
}

/// Closed to others, since the bounds are.
pub trait Sealed: Sized {
    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;
    #[doc(hidden)]
    fn minus(self, other: Self) -> Self;
}

impl Sealed for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    fn minus(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl Sealed for Duration {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    fn minus(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl Observed for u64 {
    /// Dense where the requests, hops and dials of a lookup of `k` = 20 lie (chosen, not measured).
    const BOUNDS: [Self; BUCKETS - 1] =
        [0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 30, 40, 50, 75, 100, 200, 500];
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Observed for Duration {
    /// From a millisecond to ten minutes, two or three to each decade (chosen, not measured).
    const BOUNDS: [Self; BUCKETS - 1] = [
        ms(1),
        ms(3),
        ms(10),
        ms(20),
        ms(50),
        ms(100),
        ms(200),
        ms(300),
        ms(500),
        ms(750),
        ms(1_000),
        ms(2_000),
        ms(5_000),
        ms(10_000),
        ms(20_000),
        ms(30_000),
        ms(60_000),
        ms(180_000),
        ms(600_000),
    ];
}

/// A histogram: how often what was observed lay within which bounds, the sum of it, and the greatest.
///
/// # Bounds
/// [`BUCKETS`] counts, a sum and a maximum, whatever is observed. Sums and counts stop at the greatest number there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T> {
    counts: [u64; BUCKETS],
    sum: T,
    max: T,
}

impl<T: Observed> Histogram<T> {
    /// Adds one observation.
    pub fn observe(&mut self, value: T) {
        let at = T::BOUNDS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum = self.sum.plus(value);
        self.max = self.max.max(value);
    }

    /// Iterates over the buckets: the upper bound of each, which is included, and how many observations lie in it. The last
    /// has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<T>, u64)> {
        let bounds = T::BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts)
    }

    /// Returns how many observations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all observations.
    pub const fn sum(&self) -> T {
        self.sum
    }

    /// Returns the greatest observation; of a difference, the greatest up to the later of both.
    pub const fn max(&self) -> T {
        self.max
    }
}

impl<T: Observed> Statistic for Histogram<T> {
    fn merge(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
        self.sum = self.sum.plus(other.sum);
        self.max = self.max.max(other.max);
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (own, earlier) in counts.iter_mut().zip(earlier.counts) {
            *own = own.saturating_sub(earlier);
        }
        Self { counts, sum: self.sum.minus(earlier.sum), max: self.max }
    }

    fn clear_gauges(&mut self) {}

    fn show(&self, f: &mut fmt::Formatter<'_>, name: &dyn fmt::Display) -> fmt::Result {
        let count = self.count();
        if count > 0 {
            writeln!(f, "{name}_count {count}")?;
            writeln!(f, "{name}_sum {:?}", self.sum)?;
            writeln!(f, "{name}_max {:?}", self.max)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_observation_lies_in_the_bucket_of_its_bound() {
        fn check<T: Observed>(above_all: T) {
            assert!(T::BOUNDS.is_sorted_by(|a, b| a < b), "{:?}", T::BOUNDS);
            for (at, bound) in T::BOUNDS.into_iter().enumerate() {
                let mut histogram = Histogram::default();
                histogram.observe(bound);
                let hit = histogram.buckets().position(|(_, count)| count == 1);
                assert_eq!((hit, histogram.count()), (Some(at), 1));
                assert_eq!(histogram.buckets().nth(at), Some((Some(bound), 1)));
                assert_eq!((histogram.sum(), histogram.max()), (bound, bound));
            }
            let mut histogram = Histogram::default();
            histogram.observe(above_all);
            assert_eq!(histogram.buckets().last(), Some((None, 1)));
        }
        check(501u64);
        check(ms(600_001));
    }

    #[test]
    fn histograms_add_up_and_what_was_since_is_the_difference() {
        let mut before = Histogram::<u64>::default();
        [1, 7, 7].into_iter().for_each(|n| before.observe(n));
        let mut after = before.clone();
        [3, 2000].into_iter().for_each(|n| after.observe(n));
        let since = after.since(&before);
        assert_eq!((since.count(), since.sum(), since.max()), (2, 2003, 2000));
        let mut sum = before.clone();
        sum.merge(&since);
        assert_eq!(sum, after);
        after.observe(u64::MAX);
        assert_eq!(after.sum(), u64::MAX, "it stops there");
    }
}
