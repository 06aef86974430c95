//! Soft timeouts: how long a slow peer is awaited before the next one is asked, and the policy that decides it.
//!
//! Knows durations and counts; whom they concern is the lookup's affair, and how long answers take that of `rtt`.

use super::silence::{SilenceEvidence, SilencePrior, TailQuantile};
use crate::config::TimeoutPolicy;
use crate::time::Duration;

/// The soft timeout of a request: how long its peer is awaited before the next one is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftTimeout {
    /// Over a connection.
    pub(crate) connected: Duration,
    /// Without one, the dial included.
    pub(crate) dialled: Duration,
}

impl SoftTimeout {
    pub(super) const fn of(self, connected: bool) -> Duration {
        if connected { self.connected } else { self.dialled }
    }
}

/// The phase of a lookup in which it asks a peer: how long it pays to wait differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// On the way to the target: another peer would do as well.
    Hopping,
    /// Among the closest, each of which is to answer.
    Closing(TailQuantile),
}

/// The tail quantile on the way to the target: one answer in five may come late, and fewer do, for `rtt` adds an eighth.
/// RFC 6298's four variations stand for it, too. Chosen; `tests/sim/golden/silent-10000.txt` holds what comes of it.
pub(super) const HOPPING: TailQuantile = TailQuantile(2000);

/// The policy of soft timeouts, with what it has learnt.
///
/// # What it decides
/// Which share of live peers may be given up as silent: the tail quantile of a timeout, which
/// [`Estimator`](super::rtt::Estimator) turns into a time. A lookup keeps the policy as it was when it began.
///
/// # Inputs
/// [`observe`](Self::observe).
///
/// # Outputs
/// [`hopping`](Self::hopping), [`closing`](Self::closing), [`live_share`](Self::live_share).
///
/// # Bounds
/// Ten numbers; allocates nothing. Deterministic.
///
/// # To add another
/// A variant here and one of [`TimeoutPolicy`]; nothing else knows which there are but the simulator's command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TailPolicy {
    /// Follows the share of silent peers.
    Fitted(SilencePrior),
    /// Always the same.
    Quantile(TailQuantile),
}

impl TailPolicy {
    pub(crate) fn new(policy: TimeoutPolicy) -> Self {
        match policy {
            TimeoutPolicy::Fitted => Self::Fitted(SilencePrior::default()),
            TimeoutPolicy::Quantile(percentile) => {
                Self::Quantile(TailQuantile(100 * u16::from(100u8.saturating_sub(percentile.get()))))
            }
        }
    }

    /// Takes note of whether a peer that a lookup has asked has been silent, or has answered.
    pub(super) fn observe(&mut self, was_silent: bool) {
        match self {
            Self::Fitted(prior) => prior.observe(was_silent),
            Self::Quantile(_) => {}
        }
    }

    /// Returns the tail quantile on the way to the target.
    pub(super) const fn hopping(&self) -> TailQuantile {
        match self {
            Self::Fitted(_) => HOPPING,
            Self::Quantile(tail) => *tail,
        }
    }

    /// Returns the tail quantile among the closest, given the evidence of the lookup: never zero, nor more than on the way.
    pub(super) fn closing(&self, evidence: &SilenceEvidence) -> TailQuantile {
        match self {
            Self::Fitted(prior) => prior.tail_quantile(evidence).clamp(TailQuantile(1), HOPPING),
            Self::Quantile(tail) => *tail,
        }
    }

    /// Returns how likely a peer lives that was not asked yet, given the evidence of the lookup.
    pub(super) fn live_share(&self, evidence: &SilenceEvidence) -> f64 {
        match self {
            Self::Fitted(prior) => prior.live_share(evidence),
            Self::Quantile(_) => {
                let (answered, silent) = (f64::from(evidence.answered), f64::from(evidence.silent));
                // Nothing is known before the first outcome; then it is as in the lookup.
                if silent > 0.0 { answered / (answered + silent) } else { 1.0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Percentile;

    const NONE: SilenceEvidence = SilenceEvidence { answered: 0, silent: 0, refused: 0, overdue: [0; 9] };

    #[test]
    fn a_fixed_quantile_learns_nothing() {
        let mut policy = TailPolicy::new(TimeoutPolicy::Quantile(Percentile::P90));
        let before = policy;
        (0..1000).for_each(|n| policy.observe(n % 2 == 0));
        assert_eq!(policy, before);
        let sick = SilenceEvidence { answered: 3, silent: 1, overdue: [4; 9], ..NONE };
        for evidence in [NONE, sick] {
            assert_eq!(
                (policy.hopping(), policy.closing(&evidence)),
                (TailQuantile(1000), TailQuantile(1000))
            );
        }
        assert!((policy.live_share(&NONE) - 1.0).abs() < 1e-9);
        assert!((policy.live_share(&sick) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn the_fitted_one_waits_longer_among_the_closest_unless_many_are_silent() {
        let policy = |silent_of_ten| {
            let mut policy = TailPolicy::new(TimeoutPolicy::Fitted);
            (0..300).for_each(|n| policy.observe(n % 10 < silent_of_ten));
            policy
        };
        let tails: Vec<_> = [0, 1, 3, 9].map(|silent| policy(silent).closing(&NONE)).into();
        assert!(tails.is_sorted() && tails[0] < tails[1], "{tails:?}");
        assert_eq!(tails[3], policy(9).hopping(), "never less long than on the way");
        assert!(policy(3).live_share(&NONE) < policy(0).live_share(&NONE));
    }
}
