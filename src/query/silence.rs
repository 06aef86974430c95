//! The prior of silent peers: how likely a late peer is never going to answer, and how long it pays to wait for it.
//!
//! Knows counts only: neither who was asked nor when.

/// The outcomes of the requests of one lookup, as evidence of how many peers are silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SilenceEvidence {
    /// They have answered.
    pub(crate) answered: u16,
    /// They have failed, after they were overdue.
    pub(crate) silent: u16,
    /// They have failed before that: a peer that is known to be gone is not waited for, and says nothing of the others.
    pub(crate) refused: u16,
    /// They take longer than the soft timeout on the way: by less than a quarter of it, by less than two quarters …
    pub(crate) overdue: [u16; OVERDUE],
}

/// So many quarters of a soft timeout a peer may be overdue before more of it tells no more. Chosen: at nine quarters one
/// live peer in 500 is still to answer.
pub(crate) const OVERDUE: usize = 9;

/// The survival function of round trips: the share of answers that take longer than the soft timeout on the way, and by each
/// further quarter of it. Computed for lognormal round trips with σ = 0.6, those of the simulator's
/// `Links::default`.
const SURVIVAL: [f64; OVERDUE] = [0.16, 0.089, 0.049, 0.028, 0.016, 0.0092, 0.0054, 0.0032, 0.0019];

/// The shares of silent peers that are thought possible. Chosen; what comes of these and of the numbers below is held by
/// `tests/sim/golden/silent-10000.txt`.
const SHARES: [f64; 10] = [0.001, 0.004, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45];

/// How likely each share is in a network of which nothing is known: one in fourteen on average. Chosen, not measured.
const INITIAL: SilencePrior = SilencePrior([0.12, 0.12, 0.14, 0.16, 0.15, 0.12, 0.08, 0.05, 0.04, 0.02]);

/// The rate of forgetting: how far the prior returns to the initial one with each outcome, so that it remembers some 256 of
/// them. Chosen, not measured.
const FORGETTING_RATE: f64 = 1.0 / 256.0;

/// How likely the network has changed since the last lookup. Chosen, not measured.
const CHANGE_PROBABILITY: f64 = 1.0 / 20.0;

/// Outcomes of one kind beyond these change nothing: products of so many do not underflow. Chosen, not measured.
const MAX_COUNT: u16 = 64;

/// The tail quantile of a timeout: how many of ten thousand live peers answer only after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TailQuantile(pub(super) u16);

/// The prior of the share of silent peers among those that lookups ask: how likely each share is.
///
/// # What it decides
/// How long an exact lookup waits for each of the closest. A silent peer looks like a slow one until it has failed, after
/// seconds; but if many are late at once, many are silent. So the prior, which each outcome of a request shifts by Bayes'
/// rule, is shifted once more by the evidence of the lookup itself, late peers included, each by how late it is. Without
/// evidence it returns slowly to that of a network of which nothing is known, for the network may have changed.
///
/// A live peer may be given up at odds of 1.5 · o^(5/4), where o are the odds of silence: the fewer are silent, the surer a
/// lookup must be. Where one in ten is, it gives a peer up that is a little more likely silent than slow; where one in a
/// thousand is, at four to one. (Factor and exponent are chosen.)
///
/// # Bounds
/// Ten numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SilencePrior([f64; SHARES.len()]);

impl Default for SilencePrior {
    fn default() -> Self {
        INITIAL
    }
}

impl SilencePrior {
    /// Returns how likely a peer lives that was not asked yet, given the evidence of a lookup.
    pub(super) fn live_share(self, evidence: &SilenceEvidence) -> f64 {
        1.0 - self.posterior(evidence).mean()
    }

    fn mean(&self) -> f64 {
        self.0.iter().zip(SHARES).map(|(likely, share)| likely * share).sum()
    }

    /// Takes note of whether a peer that was asked has been silent, or has answered.
    pub(super) fn observe(&mut self, was_silent: bool) {
        self.update(1, |share| if was_silent { share } else { 1.0 - share });
        self.normalise();
        self.forget(FORGETTING_RATE);
    }

    /// Returns the tail quantile at which it pays to give up each of the closest, given the evidence of a lookup.
    pub(super) fn tail_quantile(self, evidence: &SilenceEvidence) -> TailQuantile {
        let share = self.posterior(evidence).mean();
        let odds = share / (1.0 - share);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and what is too much is cut"
        )]
        TailQuantile((10_000.0 * 1.5 * odds * odds.sqrt().sqrt()) as u16)
    }

    /// Returns the distribution given the evidence of a lookup.
    fn posterior(mut self, evidence: &SilenceEvidence) -> Self {
        self.forget(CHANGE_PROBABILITY);
        self.update(evidence.answered, |share| 1.0 - share);
        self.update(evidence.silent, |share| share);
        for (count, late) in evidence.overdue.iter().zip(SURVIVAL) {
            self.update(*count, |share| share + (1.0 - share) * late);
        }
        self.normalise();
        self
    }

    fn forget(&mut self, rate: f64) {
        for (likely, initial) in self.0.iter_mut().zip(INITIAL.0) {
            *likely += rate * (initial - *likely);
        }
    }

    fn update(&mut self, times: u16, likelihood: impl Fn(f64) -> f64) {
        for (likely, share) in self.0.iter_mut().zip(SHARES) {
            for _ in 0..times.min(MAX_COUNT) {
                *likely *= likelihood(share);
            }
        }
    }

    fn normalise(&mut self) {
        // Not zero: the greatest share is left with 10^-214 at least.
        let sum = self.0.iter().sum::<f64>();
        self.0.iter_mut().for_each(|likely| *likely /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(outcomes: impl IntoIterator<Item = bool>) -> SilencePrior {
        let mut prior = SilencePrior::default();
        outcomes.into_iter().for_each(|silent| prior.observe(silent));
        prior
    }

    fn late_for(prior: SilencePrior, evidence: SilenceEvidence) -> u16 {
        prior.tail_quantile(&evidence).0
    }

    #[test]
    fn the_prior_is_a_distribution() {
        assert!((INITIAL.0.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        for prior in [after([false; 10_000]), after([true; 10_000]), after((0..10_000).map(|n| n % 3 == 0))] {
            assert!((prior.0.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{prior:?}");
            assert!(prior.0.iter().all(|likely| *likely > 0.0), "{prior:?}");
        }
    }

    #[test]
    fn the_more_were_silent_the_less_is_waited() {
        let none = SilenceEvidence::default();
        let of_ten = |silent: usize| late_for(after((0..300).map(|n| n % 10 < silent)), none);
        let (healthy, unknown) = (of_ten(0), late_for(SilencePrior::default(), none));
        assert!(healthy < unknown && unknown < of_ten(1) && of_ten(1) < of_ten(2) && of_ten(2) < of_ten(3));
        assert!(healthy < 100, "{healthy}: a slow peer is not given up in a healthy network");
        assert!((800..1500).contains(&of_ten(1)), "{}", of_ten(1));
    }

    #[test]
    fn many_that_are_late_at_once_are_evidence_whatever_the_past() {
        let healthy = after([false; 1000]);
        let mut evidence = SilenceEvidence { answered: 15, ..SilenceEvidence::default() };
        let before = late_for(healthy, evidence);
        evidence.overdue[0] = 2;
        assert!(late_for(healthy, evidence) < 200, "a few are always late");
        evidence.overdue = [0, 0, 5, 0, 0, 0, 0, 0, 0];
        let late = late_for(healthy, evidence);
        assert!(late > 50 * before && late > 500, "{before} {late}");
        // The later, the surer.
        let mut last = 0;
        for quarters in 0..OVERDUE {
            evidence.overdue = [0; OVERDUE];
            evidence.overdue[quarters] = 3;
            assert!(late_for(healthy, evidence) > last, "{quarters}");
            last = late_for(healthy, evidence);
        }
    }

    #[test]
    fn who_is_known_to_be_gone_tells_nothing_of_the_others() {
        let evidence = SilenceEvidence { answered: 10, ..SilenceEvidence::default() };
        let refused = SilenceEvidence { refused: 10, ..evidence };
        assert_eq!(late_for(SilencePrior::default(), evidence), late_for(SilencePrior::default(), refused));
    }

    #[test]
    fn the_past_fades() {
        let healed = after((0..3000).map(|n| n < 1000));
        assert!(late_for(healed, SilenceEvidence::default()) < 100, "{healed:?}");
    }

    #[test]
    fn whatever_the_evidence_there_is_an_answer() {
        let most = u16::MAX;
        for silent in [0, most] {
            let evidence =
                SilenceEvidence { answered: most, silent, refused: most, overdue: [most; OVERDUE] };
            let TailQuantile(late) = after([true; 5000]).tail_quantile(&evidence);
            assert!(late > 0, "{late}");
        }
    }
}
