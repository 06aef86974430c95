//! Randomness: one seeded generator whose stream is the same on every machine and in every build.
//!
//! Knows nothing else of the crate. The seed comes from outside; nothing below `net` asks the system for entropy.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A seeded generator: same seed, same calls, same numbers.
///
/// The stream is ChaCha with 8 rounds, whose output the `rand_chacha` crate promises not to change.
#[derive(Clone)]
pub struct Rng(ChaCha8Rng);

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The state would let a reader of a log foretell the numbers.
        f.write_str("Rng")
    }
}

impl Rng {
    /// Starts the stream that belongs to `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// Starts the stream that belongs to a small seed; the other bytes of the seed are zero.
    pub fn from_u64(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self::from_seed(bytes)
    }

    /// Returns 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `bytes` with uniform bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// Returns a uniform number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Lemire's multiply-and-shift; the rejected range makes it exact.
        let reject_below = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit product")]
            let (high, low) = ((product >> 64) as u64, product as u64);
            if low >= reject_below {
                return high;
            }
        }
    }

    /// Returns a uniform number in `0.0..1.0` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let bits = (self.next_u64() >> 11) as f64;
        bits / (1u64 << 53) as f64
    }

    /// Brings some things into a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).unwrap_or_default();
            items.swap(at, other);
        }
    }

    /// Returns `duration` changed by up to `percent` per cent in either direction, uniformly.
    ///
    /// Timers that many nodes start together drift apart by it.
    pub fn jitter(&mut self, duration: Duration, percent: u32) -> Duration {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let spread = (nanos / 100).saturating_mul(u64::from(percent.min(100)));
        let low = nanos - spread;
        Duration::from_nanos(low.saturating_add(self.below(spread.saturating_mul(2).saturating_add(1))))
    }
}

/// Properties: what holds for whatever is drawn.
#[cfg(test)]
pub(crate) mod cases {
    use std::ops::Range;

    use super::Rng;

    /// Tells which case failed while the test unwinds.
    struct Case(u64);

    impl Drop for Case {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("it is case {}: Rng::from_u64({}) draws it again", self.0, self.0);
            }
        }
    }

    /// Holds a property against so many cases, each drawn from a generator of its own.
    pub(crate) fn cases(count: u64, mut property: impl FnMut(&mut Rng)) {
        for seed in 0..count {
            let _case = Case(seed);
            property(&mut Rng::from_u64(seed));
        }
    }

    impl Rng {
        /// Returns a uniform number of a range.
        pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
            range.start + self.below(range.end - range.start)
        }

        /// Returns a place in something of this length.
        pub(crate) fn place(&mut self, length: usize) -> usize {
            usize::try_from(self.below(length as u64)).unwrap()
        }

        pub(crate) fn byte(&mut self) -> u8 {
            self.next_u64().to_le_bytes()[0]
        }

        /// Returns fewer bytes than `end`, of any value.
        pub(crate) fn bytes(&mut self, end: usize) -> Vec<u8> {
            let mut bytes = vec![0; self.place(end)];
            self.fill(&mut bytes);
            bytes
        }
    }

    #[test]
    fn all_cases_are_drawn_and_differ() {
        let mut drawn = std::collections::BTreeSet::new();
        cases(100, |rng| {
            assert!((3..7).contains(&rng.within(3..7)) && rng.place(5) < 5 && rng.bytes(9).len() < 9);
            drawn.insert(rng.next_u64());
        });
        assert_eq!(drawn.len(), 100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_promised() {
        // The first bytes of ChaCha8's key stream for a key of zeros are 3e00ef2f895f40d6; a change would change every
        // simulation.
        let mut rng = Rng::from_seed([0; 32]);
        assert_eq!([rng.next_u64(), rng.next_u64()], [0xd640_5f89_2fef_003e, 0xa1a5_091f_e8b8_5b7f]);
    }

    #[test]
    fn below_is_uniform_and_bounded() {
        let mut rng = Rng::from_u64(1);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[usize::try_from(rng.below(7)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn jitter_stays_within_its_percentage() {
        let mut rng = Rng::from_u64(2);
        let base = Duration::from_secs(100);
        let drawn: Vec<_> = (0..1000).map(|_| rng.jitter(base, 10)).collect();
        assert!(drawn.iter().all(|d| (90.0..=110.0).contains(&d.as_secs_f64())));
        assert!(
            drawn.iter().any(|d| d.as_secs_f64() < 92.0) && drawn.iter().any(|d| d.as_secs_f64() > 108.0)
        );
        assert_eq!(rng.jitter(base, 0), base);
        assert!((0..100).all(|_| (0.0..1.0).contains(&rng.unit())));
    }
}
