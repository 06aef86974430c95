//! Round-trip times: how long an answer takes, estimated from those that came.
//!
//! Knows durations, and whose they are. How sure a timeout is to be stands in `timeout`; what it leads to is the lookup's affair.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use libp2p_identity::PeerId;

use super::timeout::{HOPPING, Phase, SoftTimeout, TailPolicy};
use crate::config::TimeoutPolicy;
use crate::time::{Duration, Instant};

/// The round-trip time of one peer, smoothed (RFC 6298 §2, with its constants), in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: u32,
    variation: u32,
    samples: u8,
    era: Era,
}

/// How often the links of this node have changed, as far as that was noticed; what was learnt before does not tell of them now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Era(u8);

impl Rtt {
    /// Takes note of an answer.
    pub(crate) fn record(&mut self, sample: Duration, era: Era) {
        if self.era != era {
            *self = Self { era, ..Self::default() };
        }
        let sample = micros(sample);
        if self.samples == 0 {
            self.smoothed = sample;
            self.variation = sample / 2;
        } else {
            let average = |old: u32, new: u32, weight: u64| {
                let sum = u64::from(old) * (weight - 1) + u64::from(new);
                u32::try_from(sum / weight).unwrap_or(u32::MAX)
            };
            self.variation = average(self.variation, self.smoothed.abs_diff(sample), 4);
            self.smoothed = average(self.smoothed, sample, 8);
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// Returns the time by which an answer has usually come, once there are enough samples to tell.
    pub(crate) fn usual(&self) -> Option<Duration> {
        self.timeout(usize::from(HOPPING.0))
    }

    /// Returns the time by which an answer has come nearly always, once there are enough samples to tell: the surer it is to
    /// be, the fewer of ten thousand may come `late`.
    fn timeout(&self, late: usize) -> Option<Duration> {
        // RFC 6298's four variations where one in five may; as much again for each eighth of that. A program on a busy machine
        // pauses by much more than its link varies.
        let surer = (usize::from(HOPPING.0) / late.max(1)).checked_ilog2().unwrap_or_default();
        let variations = 4 + surer * 4 / 3;
        // RFC 6298 adds at least the clock's granularity; an eighth does here, or an even link would always be late.
        let margin = self.variation.saturating_mul(variations).max(self.smoothed / 8);
        (self.samples >= 3).then(|| Duration::from_micros(self.smoothed.saturating_add(margin).into()))
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// So many of the latest samples are kept, at least. Chosen, not measured: enough to tell one in a hundred.
const WINDOW: usize = 128;

/// And so many at most, while more requests are in flight than half of them: of those that were sent together the fast are
/// answered first, and would tell of themselves alone. `tests/sim/golden/overload.txt` holds what comes of it.
const WIDEST: usize = 2048;

/// From so many samples on their quantile is trusted; before, the greatest is stretched by half. Chosen, not measured.
const MIN_SAMPLES: usize = 16;

/// The answers of so many peers come late one after another when the links have changed. Chosen;
/// `tests/sim/golden/link-turns-slow.txt` holds what comes of it.
const LATE_IN_A_ROW: usize = 4;

/// One in so many answers is unusual: later than these are those that tell that links have changed. Chosen with the above.
const UNUSUAL: usize = 32;

/// The latest samples, and their order.
#[derive(Clone, Debug, Default)]
struct Samples {
    latest: VecDeque<u32>,
    sorted: Vec<u32>,
}

impl Samples {
    /// Takes note of a sample, while so many more are to come of what was sent before.
    fn record(&mut self, sample: Duration, to_come: usize) {
        let micros = micros(sample);
        while self.latest.len() >= (2 * to_come).clamp(WINDOW, WIDEST) {
            let old = self.latest.pop_front();
            if let Some(at) = old.and_then(|old| self.sorted.binary_search(&old).ok()) {
                self.sorted.remove(at);
            }
        }
        if self.latest.capacity() > 4 * self.latest.len().max(WINDOW) {
            self.latest.shrink_to(WINDOW);
            self.sorted.shrink_to(WINDOW);
        }
        self.latest.push_back(micros);
        let at = self.sorted.partition_point(|known| *known < micros);
        self.sorted.insert(at, micros);
    }

    /// Returns whether a sample is greater than nearly all there are, the latest `of_late` aside, which are great themselves.
    fn is_unusual(&self, sample: Duration, of_late: usize) -> bool {
        let micros = micros(sample);
        let greater = self.sorted.len() - self.sorted.partition_point(|known| *known < micros);
        let others = self.sorted.len().saturating_sub(of_late);
        others >= UNUSUAL && greater.saturating_sub(of_late) * UNUSUAL <= others
    }

    /// Forgets those that are shorter.
    fn keep_from(&mut self, shortest: Duration) {
        let shortest = micros(shortest);
        self.latest.retain(|sample| *sample >= shortest);
        self.sorted.retain(|sample| *sample >= shortest);
    }

    /// Returns a little more than the sample above which `late` of ten thousand lie, or longer while there are few.
    ///
    /// Where so few are to be late that none of the samples tells, the greatest is stretched by a sixth for each halving,
    /// at most to twice its length: a lognormal tail. What the eighth and the sixth do is held by
    /// `tests/sim/golden/silent-10000.txt`.
    fn quantile(&self, late: usize) -> Option<Duration> {
        let len = self.sorted.len();
        let greatest = Duration::from_micros((*self.sorted.last()?).into());
        if len < MIN_SAMPLES {
            return Some(greatest * 3 / 2);
        }
        let above = len * late / TEN_THOUSAND;
        if above == 0 {
            let halvings = (TEN_THOUSAND / (late * len).max(1)).checked_ilog2().unwrap_or_default().min(6);
            return Some(greatest + greatest.saturating_mul(halvings) / 6 + greatest / 8);
        }
        let sample = self.sorted.get(len.saturating_sub(1 + above));
        sample.map(|micros| Duration::from_micros((*micros).into())).map(|sample| sample + sample / 8)
    }
}

/// The unit in which shares are counted: ten-thousandths, as in `TailQuantile`.
const TEN_THOUSAND: usize = 10_000;

/// The estimator of soft timeouts.
///
/// # What it decides
/// How long a lookup waits for a peer before it asks the next one: `srtt + 4·rttvar` of that peer if it is known well, with
/// up to 18 variations among the closest; else a quantile of the latest answers of all peers, and an eighth more. While
/// hopping, when another peer would do as well, one answer in seven may come late; how many among the closest, each of which
/// is to answer, is decided by a [`TailPolicy`]. Without a connection the time of a dial comes on top, estimated likewise.
/// Everything is clamped to the configured range.
///
/// When answers of four peers come later than they were awaited and later than nearly all there were, and nothing that was sent
/// as late as those requests was answered in time, the links have changed, as when a laptop moves to another network: what
/// was learnt of each peer before is forgotten, and of the samples whatever is shorter than those four.
///
/// # Inputs
/// [`answered`](Self::answered), [`asked`](Self::asked), [`dialled`](Self::dialled).
///
/// # Bounds
/// The latest 128 samples of each kind; of answers, twice as many as requests are in flight, up to 2,048.
#[derive(Clone, Debug)]
pub(crate) struct Estimator {
    range: RangeInclusive<Duration>,
    answers: Samples,
    dials: Samples,
    policy: TailPolicy,
    era: Era,
    /// When the latest of the requests was sent that were answered in time.
    in_time: Option<Instant>,
    /// The peers whose answers to later ones have come late since then, and how long they took.
    late: Vec<(PeerId, Duration)>,
}

/// The soft timeout before there is any sample: 1 s, TCP's first (RFC 6298 §2.1).
const FIRST_ANSWER: Duration = Duration::from_secs(1);

impl Estimator {
    pub(crate) fn new(range: RangeInclusive<Duration>, policy: TimeoutPolicy) -> Self {
        Self {
            range,
            answers: Samples::default(),
            dials: Samples::default(),
            policy: TailPolicy::new(policy),
            era: Era::default(),
            in_time: None,
            late: Vec::new(),
        }
    }

    /// Takes note of when a request was sent to a peer, and how long its answer took, while so many more were in flight; `known`
    /// is what was known of the peer.
    pub(crate) fn answered(
        &mut self,
        (peer, known): (&PeerId, Option<&Rtt>),
        (sent, rtt): (Instant, Duration),
        in_flight: usize,
    ) {
        let is_late =
            !self.answers.latest.is_empty() && rtt > self.soft_timeout(known, Phase::Hopping).connected;
        let is_unusual = self.answers.is_unusual(rtt, self.late.len());
        self.answers.record(rtt, in_flight);
        if !is_late {
            self.late = Vec::new();
            self.in_time = self.in_time.max(Some(sent));
            return;
        }
        // There are slow peers, and of what was sent together they answer last.
        if !is_unusual
            || self.in_time.is_some_and(|in_time| sent <= in_time)
            || self.late.iter().any(|(known, _)| known == peer)
        {
            return;
        }
        self.late.push((*peer, rtt));
        if self.late.len() >= LATE_IN_A_ROW {
            let shortest = std::mem::take(&mut self.late).into_iter().map(|(_, rtt)| rtt).min();
            self.era = Era(self.era.0.wrapping_add(1));
            self.answers.keep_from(shortest.unwrap_or_default());
            // A dial takes a round trip at least.
            self.dials.keep_from(shortest.unwrap_or_default());
        }
    }

    /// Returns how often the links have changed.
    pub(crate) const fn era(&self) -> Era {
        self.era
    }

    /// Takes note of whether a peer that a lookup has asked was silent, or has answered.
    ///
    /// Others do not count: a peer that has just connected is known to live.
    pub(crate) fn asked(&mut self, was_silent: bool) {
        self.policy.observe(was_silent);
    }

    /// Returns the policy with what it has learnt so far.
    pub(crate) const fn policy(&self) -> TailPolicy {
        self.policy
    }

    /// Returns how long an answer usually takes.
    pub(crate) fn median(&self) -> Option<Duration> {
        let sorted = &self.answers.sorted;
        sorted.get(sorted.len() / 2).map(|micros| Duration::from_micros((*micros).into()))
    }

    /// Takes note of the time from a dial to its connection.
    pub(crate) fn dialled(&mut self, time: Duration) {
        self.dials.record(time, 0);
    }

    /// Returns how long to wait for a peer before the next one is asked.
    pub(crate) fn soft_timeout(&self, peer: Option<&Rtt>, phase: Phase) -> SoftTimeout {
        let tail = match phase {
            Phase::Hopping => self.policy.hopping(),
            Phase::Closing(tail) => tail,
        };
        let late = usize::from(tail.0);
        let peer = peer.filter(|rtt| rtt.era == self.era);
        let answer = peer.and_then(|rtt| rtt.timeout(late)).or_else(|| self.answers.quantile(late));
        let answer = answer.unwrap_or(FIRST_ANSWER);
        // A dial takes some round trips; until one was seen, as many as TCP, Noise and Yamux need.
        let dial = self.dials.quantile(late).unwrap_or(answer * 4);
        let within = |time: Duration| time.clamp(*self.range.start(), *self.range.end());
        SoftTimeout { connected: within(answer), dialled: within(answer + dial) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::silence::SilenceEvidence;
    use super::*;
    use crate::config::Percentile;
    use crate::time::start;

    const MS: Duration = Duration::from_millis(1);

    /// How long the closest are awaited at the beginning of a lookup.
    fn closing(estimator: &Estimator) -> Duration {
        let phase = Phase::Closing(estimator.policy().closing(&SilenceEvidence::default()));
        estimator.soft_timeout(None, phase).connected
    }

    fn estimator() -> Estimator {
        Estimator::new(10 * MS..=5000 * MS, TimeoutPolicy::Fitted)
    }

    /// Answers a request that was sent behind those that were answered in time.
    fn answer(estimator: &mut Estimator, known: Option<&Rtt>, rtt: Duration) {
        let sent = estimator.in_time.map_or_else(start, |sent| sent + MS);
        estimator.answered((&PeerId::random(), known), (sent, rtt), 0);
    }

    /// The numbers from 1 to `most`, small and great ones in turn.
    fn mixed(most: u32) -> impl Iterator<Item = u32> {
        (0..most).map(move |n| n * 63 % most + 1)
    }

    #[test]
    fn it_starts_careful_and_learns() {
        let mut estimator = estimator();
        let soft = |e: &Estimator, phase| e.soft_timeout(None, phase).connected;
        assert_eq!(soft(&estimator, Phase::Hopping), FIRST_ANSWER);
        answer(&mut estimator, None, 100 * MS);
        assert_eq!(soft(&estimator, Phase::Hopping), 150 * MS, "one sample is stretched");
        for sample in mixed(100) {
            answer(&mut estimator, None, sample * MS);
        }
        assert_eq!(soft(&estimator, Phase::Hopping).as_millis(), 81 * 9 / 8);
        let careful = closing(&estimator);
        (0..1000).for_each(|_| estimator.asked(false));
        assert!(careful < closing(&estimator), "nobody was silent");
        assert!(closing(&estimator).as_millis() >= 100 * 5 / 4, "it is past the latest that was seen");
        for _ in 0..WINDOW {
            answer(&mut estimator, None, 16 * MS);
        }
        assert!(closing(&estimator) <= 34 * MS, "old samples are forgotten");
    }

    #[test]
    fn an_even_link_is_never_late() {
        let mut estimator = estimator();
        let mut peer = Rtt::default();
        for _ in 0..100 {
            answer(&mut estimator, None, 100 * MS);
            peer.record(100 * MS, Era::default());
        }
        assert!(estimator.soft_timeout(None, Phase::Hopping).connected > 110 * MS);
        assert!(estimator.soft_timeout(Some(&peer), Phase::Hopping).connected > 110 * MS);
    }

    #[test]
    fn whoever_pauses_now_and_then_is_awaited_among_the_closest() {
        // As programs on a busy machine do: 24 real peers of four implementations on two cores.
        let mut estimator = estimator();
        (0..1000).for_each(|_| estimator.asked(false));
        let mut peer = Rtt::default();
        for n in 0..40 {
            peer.record(if n % 8 == 0 { 200 * MS } else { 20 * MS }, Era::default());
        }
        let sure = Phase::Closing(estimator.policy().closing(&SilenceEvidence::default()));
        let hopping = estimator.soft_timeout(Some(&peer), Phase::Hopping).connected;
        let closing = estimator.soft_timeout(Some(&peer), sure).connected;
        assert!(hopping < 200 * MS && closing > 250 * MS, "{hopping:?} {closing:?}");
        // Where many are silent nobody is awaited for long.
        (0..200).for_each(|n| estimator.asked(n % 3 == 0));
        let unsure = Phase::Closing(estimator.policy().closing(&SilenceEvidence::default()));
        assert!(estimator.soft_timeout(Some(&peer), unsure).connected < 200 * MS);
    }

    #[test]
    fn the_more_are_silent_the_less_is_waited_for_the_closest() {
        let mut soft = Vec::new();
        for silent_of_ten in [0, 1, 3] {
            let mut estimator = estimator();
            for n in mixed(200) {
                estimator.asked(n % 10 < silent_of_ten);
                if n % 10 >= silent_of_ten {
                    answer(&mut estimator, None, n * MS);
                }
            }
            soft.push(closing(&estimator));
        }
        assert!(soft[0] > soft[1] && soft[1] > soft[2], "{soft:?}");
        assert!(soft[2] > 150 * MS, "{soft:?}");
    }

    #[test]
    fn a_fixed_quantile_is_the_same_in_both_phases_however_many_are_silent() {
        for (percentile, expected) in [(Percentile::P90, 90), (Percentile::P99, 99)] {
            let policy = TimeoutPolicy::Quantile(percentile);
            let mut estimator = Estimator::new(10 * MS..=5000 * MS, policy);
            mixed(100).for_each(|sample| answer(&mut estimator, None, sample * MS));
            for n in 0..200 {
                let hopping = estimator.soft_timeout(None, Phase::Hopping);
                assert_eq!(hopping.connected, expected * MS * 9 / 8, "{percentile:?}");
                assert_eq!(closing(&estimator), hopping.connected);
                estimator.asked(n % 3 == 0);
            }
        }
    }

    #[test]
    fn links_that_turn_slow_are_noticed_by_answers_that_are_late_in_a_row() {
        let mut estimator = estimator();
        let mut peer = Rtt::default();
        for _ in 0..WINDOW {
            answer(&mut estimator, None, 20 * MS);
            estimator.dialled(30 * MS);
            peer.record(20 * MS, estimator.era());
        }
        let era = estimator.era();
        let soft = |estimator: &Estimator| estimator.soft_timeout(Some(&peer), Phase::Hopping);
        for n in 0..100 {
            answer(&mut estimator, Some(&peer), if n % 4 == 0 { 20 * MS } else { 200 * MS });
            assert_eq!(estimator.era(), era, "three of four may be slow for themselves");
        }
        (0..WINDOW).for_each(|_| answer(&mut estimator, None, 20 * MS));
        assert!(soft(&estimator).connected < 30 * MS);
        for _ in 0..LATE_IN_A_ROW {
            answer(&mut estimator, Some(&peer), 200 * MS);
        }
        assert_ne!(estimator.era(), era);
        assert_eq!(soft(&estimator).connected, 300 * MS, "nothing is left of what was learnt before");
        assert!(soft(&estimator).dialled > 600 * MS);
        (0..20).for_each(|_| answer(&mut estimator, Some(&peer), 200 * MS));
        assert_eq!(soft(&estimator).connected, 225 * MS);
    }

    #[test]
    fn a_few_slow_peers_are_not_slow_links() {
        let mut estimator = estimator();
        mixed(100).for_each(|n| answer(&mut estimator, None, n * MS));
        let (era, slow) = (estimator.era(), [PeerId::random(), PeerId::random(), PeerId::random()]);
        let mut sent = start() + 1000 * MS;
        for n in 0..99 {
            estimator.answered((&slow[n % 3], None), (sent, 500 * MS), 0);
            assert_eq!(estimator.era(), era, "three are slow");
            sent += MS;
        }
        (0..WINDOW).for_each(|_| answer(&mut estimator, None, 100 * MS));
        for _ in 0..WINDOW {
            estimator.answered((&PeerId::random(), None), (start(), 500 * MS), 0);
            assert_eq!(estimator.era(), era, "what was sent later was answered in time");
        }
    }

    #[test]
    fn while_many_are_in_flight_late_ones_come_together_and_the_fast_do_not_tell_of_all() {
        let mut estimator = estimator();
        let era = estimator.era();
        mixed(100).for_each(|n| answer(&mut estimator, None, n * 10 * MS));
        let before = estimator.soft_timeout(None, Phase::Hopping).connected;
        // As many as were sent at once: the fast first, the slow last.
        let sent = start() + 1000 * MS;
        for n in 0..500u32 {
            estimator.answered(
                (&PeerId::random(), None),
                (sent, n * 2 * MS),
                usize::try_from(500 - n).unwrap(),
            );
            let soft = estimator.soft_timeout(None, Phase::Hopping).connected;
            assert!(soft > before / 3, "{n}: {soft:?}");
        }
        assert_eq!(estimator.era(), era);
        assert!(estimator.answers.latest.len() <= WIDEST);
        (0..3 * WINDOW).for_each(|_| answer(&mut estimator, None, 10 * MS));
        assert_eq!(estimator.answers.latest.len(), WINDOW, "no more than is needed stays");
    }

    #[test]
    fn a_peer_that_is_known_well_has_its_own_timeout() {
        let mut estimator = estimator();
        for _ in 0..100 {
            answer(&mut estimator, None, 80 * MS);
        }
        let mut slow = Rtt::default();
        slow.record(400 * MS, Era::default());
        assert_eq!(estimator.soft_timeout(Some(&slow), Phase::Hopping).connected, 90 * MS, "not well enough");
        for _ in 0..30 {
            slow.record(400 * MS, Era::default());
        }
        let own = estimator.soft_timeout(Some(&slow), Phase::Hopping).connected;
        assert_eq!(own, 450 * MS);
    }

    #[test]
    fn a_dial_comes_on_top() {
        let mut estimator = estimator();
        for _ in 0..MIN_SAMPLES {
            answer(&mut estimator, None, 80 * MS);
        }
        assert_eq!(estimator.soft_timeout(None, Phase::Hopping).dialled, 450 * MS);
        for _ in 0..MIN_SAMPLES {
            estimator.dialled(240 * MS);
        }
        assert_eq!(estimator.soft_timeout(None, Phase::Hopping).dialled, 360 * MS);
    }

    #[test]
    fn the_range_is_kept() {
        let mut estimator = estimator();
        answer(&mut estimator, None, Duration::ZERO);
        assert_eq!(estimator.soft_timeout(None, Phase::Hopping).connected, 10 * MS);
        answer(&mut estimator, None, Duration::MAX);
        assert_eq!(estimator.soft_timeout(None, Phase::Hopping).connected, 5000 * MS);
    }
}
