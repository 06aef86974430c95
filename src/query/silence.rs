//! Silence: how likely a peer that is late is not going to answer at all, and how long it pays to wait for it.
//!
//! Knows counts only: neither who was asked nor when.

/// What became of the peers that a lookup has asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// They have answered.
    pub(crate) answered: u16,
    /// They have failed, after they were overdue.
    pub(crate) silent: u16,
    /// They have failed before that: whoever is known to be gone is not waited for, and says nothing of those who are.
    pub(crate) refused: u16,
    /// They take longer than the soft timeout on the way: by less than a quarter of it, by less than two quarters …
    pub(crate) overdue: [u16; OVERDUE],
}

/// So many quarters of a soft timeout a peer may be overdue before more of it tells no more.
pub(crate) const OVERDUE: usize = 9;

/// The share of answers that take longer than the soft timeout on the way, and by each further quarter of it: of lognormal
/// round trips with σ = 0.6.
const LATE: [f64; OVERDUE] = [0.16, 0.089, 0.049, 0.028, 0.016, 0.0092, 0.0054, 0.0032, 0.0019];

/// The shares of silent peers that are thought possible.
const SHARES: [f64; 10] = [0.001, 0.004, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45];

/// How likely each share is in a network of which nothing is known: one in fourteen on average.
const UNKNOWN: Silence = Silence([0.12, 0.12, 0.14, 0.16, 0.15, 0.12, 0.08, 0.05, 0.04, 0.02]);

/// By how much what was believed is doubted with each further outcome: what is 256 outcomes old has faded.
const FADES: f64 = 1.0 / 256.0;

/// How likely something has happened to the network since the last lookup.
const SURPRISE: f64 = 1.0 / 20.0;

/// More outcomes of a kind than these tell nothing more.
const ENOUGH: u16 = 64;

/// How many of ten thousand live peers may be given up as silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Patience(pub(super) u16);

/// What is believed of the share of silent peers among those that lookups ask: how likely each share is.
///
/// # What it decides
/// How long an exact lookup waits for each of the closest. A silent peer looks like a slow one until it has failed, after
/// seconds; but if many are late at once, many are silent. So the belief, which each outcome of a request shifts by Bayes'
/// rule, is shifted once more by what a lookup has seen itself, those included that are late, each by how late it is. Without
/// evidence it returns slowly to that of a network of which nothing is known, for something may have happened.
///
/// A live peer may be given up at odds of 1.5 · o^(5/4), where o are the odds of silence: the fewer are silent, the surer a
/// lookup must be. Where one in ten is, it gives a peer up that is a little more likely silent than slow; where one in a
/// thousand is, at four to one.
///
/// # Bounds
/// Ten numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Silence([f64; SHARES.len()]);

impl Default for Silence {
    fn default() -> Self {
        UNKNOWN
    }
}

impl Silence {
    /// Returns how likely a peer lives that was not asked yet, if a lookup has seen this of others.
    pub(crate) fn share_of_living(self, seen: &Seen) -> f64 {
        1.0 - self.given(seen).share()
    }

    fn share(&self) -> f64 {
        self.0.iter().zip(SHARES).map(|(likely, share)| likely * share).sum()
    }

    /// Takes note of whether a peer that was asked has been silent, or has answered.
    pub(super) fn note(&mut self, silent: bool) {
        self.weigh(1, |share| if silent { share } else { 1.0 - share });
        self.normalise();
        self.doubt(FADES);
    }

    /// Returns how long it pays to wait for each of the closest, if a lookup has seen this of others.
    pub(crate) fn patience(self, seen: &Seen) -> Patience {
        let share = self.given(seen).share();
        let odds = share / (1.0 - share);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and what is too much is cut"
        )]
        Patience((10_000.0 * 1.5 * odds * odds.sqrt().sqrt()) as u16)
    }

    /// Returns what is believed once a lookup has seen this.
    fn given(mut self, seen: &Seen) -> Self {
        self.doubt(SURPRISE);
        self.weigh(seen.answered, |share| 1.0 - share);
        self.weigh(seen.silent, |share| share);
        for (count, late) in seen.overdue.iter().zip(LATE) {
            self.weigh(*count, |share| share + (1.0 - share) * late);
        }
        self.normalise();
        self
    }

    fn doubt(&mut self, by: f64) {
        for (likely, unknown) in self.0.iter_mut().zip(UNKNOWN.0) {
            *likely += by * (unknown - *likely);
        }
    }

    fn weigh(&mut self, times: u16, likelihood: impl Fn(f64) -> f64) {
        for (likely, share) in self.0.iter_mut().zip(SHARES) {
            for _ in 0..times.min(ENOUGH) {
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

    fn after(outcomes: impl IntoIterator<Item = bool>) -> Silence {
        let mut silence = Silence::default();
        outcomes.into_iter().for_each(|silent| silence.note(silent));
        silence
    }

    fn late_for(silence: Silence, seen: Seen) -> u16 {
        silence.patience(&seen).0
    }

    #[test]
    fn what_is_believed_is_a_distribution() {
        assert!((UNKNOWN.0.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        for silence in [after([false; 10_000]), after([true; 10_000]), after((0..10_000).map(|n| n % 3 == 0))]
        {
            assert!((silence.0.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{silence:?}");
            assert!(silence.0.iter().all(|likely| *likely > 0.0), "{silence:?}");
        }
    }

    #[test]
    fn the_more_were_silent_the_less_is_waited() {
        let none = Seen::default();
        let of_ten = |silent: usize| late_for(after((0..300).map(|n| n % 10 < silent)), none);
        let (healthy, unknown) = (of_ten(0), late_for(Silence::default(), none));
        assert!(healthy < unknown && unknown < of_ten(1) && of_ten(1) < of_ten(2) && of_ten(2) < of_ten(3));
        assert!(healthy < 100, "{healthy}: a slow peer is not given up in a healthy network");
        assert!((800..1500).contains(&of_ten(1)), "{}", of_ten(1));
    }

    #[test]
    fn many_that_are_late_at_once_are_evidence_whatever_the_past() {
        let healthy = after([false; 1000]);
        let mut seen = Seen { answered: 15, ..Seen::default() };
        let before = late_for(healthy, seen);
        seen.overdue[0] = 2;
        assert!(late_for(healthy, seen) < 200, "a few are always late");
        seen.overdue = [0, 0, 5, 0, 0, 0, 0, 0, 0];
        let late = late_for(healthy, seen);
        assert!(late > 50 * before && late > 500, "{before} {late}");
        // The later, the surer.
        let mut last = 0;
        for quarters in 0..OVERDUE {
            seen.overdue = [0; OVERDUE];
            seen.overdue[quarters] = 3;
            assert!(late_for(healthy, seen) > last, "{quarters}");
            last = late_for(healthy, seen);
        }
    }

    #[test]
    fn who_is_known_to_be_gone_tells_nothing_of_the_others() {
        let seen = Seen { answered: 10, ..Seen::default() };
        let refused = Seen { refused: 10, ..seen };
        assert_eq!(late_for(Silence::default(), seen), late_for(Silence::default(), refused));
    }

    #[test]
    fn the_past_fades() {
        let healed = after((0..3000).map(|n| n < 1000));
        assert!(late_for(healed, Seen::default()) < 100, "{healed:?}");
    }

    #[test]
    fn whatever_is_seen_there_is_an_answer() {
        let most = u16::MAX;
        for silent in [0, most] {
            let seen = Seen { answered: most, silent, refused: most, overdue: [most; OVERDUE] };
            let Patience(late) = after([true; 5000]).patience(&seen);
            assert!(late > 0, "{late}");
        }
    }
}
