//! The policy of soft timeouts, as it is configured.

/// The policy that decides how long a lookup waits for a slow peer before it asks the next one.
///
/// Whatever it decides stays within [`with_soft_timeout`](super::Config::with_soft_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TimeoutPolicy {
    /// Fitted to the share of silent peers, which is estimated from the outcomes of requests by Bayes' rule. On the way to the
    /// target one answer in five may come late; among the closest, each of which counts, a peer is awaited until it is about as
    /// likely silent as slow.
    #[default]
    Fitted,
    /// A fixed quantile of the round-trip times that were seen, on the way and among the closest alike, whatever the share of
    /// silent peers.
    Quantile(Percentile),
}

/// A percentile of round-trip times, 50 to 99: so many of a hundred answers come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentile(u8);

impl Percentile {
    /// Nine of ten answers come in time.
    pub const P90: Self = Self(90);
    /// All but one of a hundred answers come in time.
    pub const P99: Self = Self(99);

    /// Takes a percentile; `None` below 50, where more answers would be late than in time, and above 99.
    pub const fn new(percent: u8) -> Option<Self> {
        if percent >= 50 && percent <= 99 { Some(Self(percent)) } else { None }
    }

    /// Returns how many of a hundred answers come in time.
    pub const fn get(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_lies_between_50_and_99() {
        let all: Vec<_> = (0..=u8::MAX).filter_map(Percentile::new).map(Percentile::get).collect();
        assert_eq!(all, (50..=99).collect::<Vec<_>>());
        assert_eq!([Percentile::new(90), Percentile::new(99)], [Percentile::P90, Percentile::P99].map(Some));
    }
}
