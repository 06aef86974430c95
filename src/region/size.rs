//! The size of the network: how many servers there are, as lookups of random keys tell.

use std::collections::VecDeque;

use super::gamma;
use crate::key::Distance;
use crate::rng::Rng;
use crate::time::{Duration, Instant, after};

/// The size of a network as a node sees it: how many servers there are, itself included if it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkSize {
    /// How many servers there are most likely.
    pub estimate: u64,
    /// There are no fewer with a likelihood of 97.5 %.
    pub low: u64,
    /// There are no more with a likelihood of 97.5 %.
    pub high: u64,
    /// Of how many lookups of random keys this was learnt, without those that were not believed: 0 if of the own routing table alone,
    /// which tells little.
    pub samples: usize,
}

/// How far from a key some of its closest peers are.
#[derive(Clone, Copy, Debug)]
struct SizeSample {
    at: Instant,
    /// How many peers are at most this far away: `k`, where there are as many.
    peers: u32,
    /// As a share of the keyspace.
    distance: f64,
}

/// For so long a lookup counts (chosen, not measured).
const WINDOW: Duration = Duration::from_secs(2 * 3600);

/// So many lookups count at most. Chosen, not measured: 64 bring the interval to 6 %.
const MAX_SAMPLES: usize = 64;

/// With so many lookups the interval reaches 11 % to either side where `k` is 20, and it is worth no more (computed).
const ENOUGH: u32 = 16;

/// With fewer lookups the own table is believed. Chosen, not measured: with 5 the interval reaches 20 %.
const LEAST: usize = 5;

/// By how much the time between two lookups varies, in per cent, and that before the first, so that nodes that start together do
/// not ask together. Chosen, not measured.
const JITTER_PERCENT: u32 = 10;
const FIRST_JITTER_PERCENT: u32 = 50;

/// The normal distribution exceeds this with a likelihood of 2.5 % (computed).
const NORMAL: f64 = 1.959_964;

/// A lookup whose peers are so close, or so far, that it happens by chance less often than this is not believed (chosen, not
/// measured).
const CHANCE: f64 = 1e-4;

/// The twentieth of the closest peers is nearer than this, by the estimated size, once in a thousand times (computed: the
/// Gamma distribution of shape 20).
const SURROUNDED: f64 = 1e-3;

/// Those who are to hold what belongs to a key live within so many times the mean distance of the `k`-th closest peer. Computed:
/// fewer than ten of thirty are there once in 140,000 times.
const REGION: f64 = 1.5;

/// The region reaches at least so many times as far as the `k`-th closest peer of random keys does on an average, and at most so
/// many times (chosen, not measured).
const REGION_CLAMP: (f64, f64) = (1.0, 3.0);

/// The whole keyspace, as the high bits of distances count it: two to the sixty-fourth, by the type that they have (derived).
const KEYSPACE: f64 = 18_446_744_073_709_551_616.0;

/// The estimator of the network's size.
///
/// # What it decides
/// How many servers there are, and when a random key is looked up to learn it.
///
/// The k-th closest of n peers is at the distance k/n on an average, if the keyspace is 1, and n times the sum of N such
/// distances is Gamma distributed with shape kN. Lookups that an attacker has surrounded are found by the median of four groups of
/// them, of which most are honest, and left out: what lies farther from it than chance takes once in ten thousand times.
///
/// # Inputs
/// [`joined`](Self::joined) when the node has joined; [`on_lookup`](Self::on_lookup) with each lookup of a random key that is over.
///
/// # Outputs
/// [`size`](Self::size), [`region`](Self::region) and [`is_surrounded`]; whether a random key
/// [is to be looked up](Self::is_due), and [`deadline`](Self::deadline).
///
/// # What time does
/// Makes lookups due, sixteen in two hours after which they are forgotten.
///
/// # Bounds
/// 64 lookups.
#[derive(Clone, Debug, Default)]
pub(crate) struct SizeEstimator {
    samples: VecDeque<SizeSample>,
    due: Option<Instant>,
    /// Whether the closest peers to this node were looked up, so that the own table can be believed.
    has_joined: bool,
    /// Those that are believed together: how many they are, how many peers they tell of, and the sum of the distances.
    believed: (usize, u32, f64),
}

impl SizeEstimator {
    /// The node has joined: its table can be believed, and if it `looks_up` anything unasked, so random keys are from now on.
    pub(crate) fn joined(&mut self, now: Instant, looks_up: bool, rng: &mut Rng) {
        self.has_joined = true;
        if looks_up && self.due.is_none() {
            self.due = Some(after(now, rng.jitter(WINDOW / ENOUGH, FIRST_JITTER_PERCENT)));
        }
    }

    /// Returns whether a random key is to be looked up, and takes it as looked up.
    pub(crate) fn is_due(&mut self, now: Instant, rng: &mut Rng) -> bool {
        let is_due = self.due.is_some_and(|at| at <= now);
        if is_due {
            self.due = Some(after(now, rng.jitter(WINDOW / ENOUGH, JITTER_PERCENT)));
        }
        is_due
    }

    /// Returns when a random key is to be looked up.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The lookup of a random key is over: `peers` have answered, the last of which is this far away. Only those count that
    /// answered.
    pub(crate) fn on_lookup(&mut self, now: Instant, peers: usize, farthest: Distance) {
        self.forget(now);
        let Ok(peers @ 1..) = u32::try_from(peers) else { return };
        self.samples.truncate(MAX_SAMPLES - 1);
        self.samples.push_front(SizeSample { at: now, peers, distance: share(farthest) });
        self.weigh();
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |sample: &SizeSample| now.saturating_duration_since(sample.at) > WINDOW;
        while self.samples.back().is_some_and(is_old) {
            self.samples.pop_back();
        }
    }

    /// Finds out which lookups are believed.
    fn weigh(&mut self) {
        let sum = |samples: &mut dyn Iterator<Item = &SizeSample>| {
            samples.fold((0, 0, 0.0), |(count, peers, sum), one| {
                (count + 1, peers + one.peers, sum + one.distance)
            })
        };
        let of_group = |group| {
            let (_, peers, distances) = sum(&mut self.samples.iter().skip(group).step_by(4));
            size_of(peers, distances)
        };
        let mut groups: Vec<_> = (0..4).map(of_group).collect();
        groups.sort_by(f64::total_cmp);
        let median = groups.iter().skip(1).take(2).sum::<f64>() / 2.0;
        let is_believed = |sample: &&SizeSample| {
            let chance = gamma::cdf(sample.peers, median * sample.distance);
            self.samples.len() < LEAST || (CHANCE..=1.0 - CHANCE).contains(&chance)
        };
        self.believed = sum(&mut self.samples.iter().filter(is_believed));
    }

    /// Returns whether there are lookups enough to be believed.
    fn has_samples(&self, now: Instant) -> bool {
        let counts = |sample: &SizeSample| now.saturating_duration_since(sample.at) <= WINDOW;
        self.samples.get(LEAST - 1).is_some_and(counts) && self.believed.0 >= LEAST / 2
    }

    /// Returns how large the network is. `own` is what the own table says, until there are lookups enough: how many of the
    /// closest peers to this node are known, and how far away the last of them is.
    pub(crate) fn size(
        &self,
        now: Instant,
        own: impl FnOnce() -> Option<(usize, Distance)>,
    ) -> Option<NetworkSize> {
        let (samples, peers, sum) = if self.has_samples(now) {
            self.believed
        } else {
            let (peers, farthest) = own()?;
            (0, u32::try_from(peers).ok()?, share(farthest))
        };
        let (shape, size) = (f64::from(peers), size_of(peers, sum));
        let bound = |normal| rounded((size * gamma::quantile(shape, normal) / shape).max(1.0));
        let (low, high) = (bound(-NORMAL), bound(NORMAL));
        Some(NetworkSize { estimate: rounded(size).clamp(low, high), low, high, samples })
    }

    /// Returns whether the own table can be believed: the closest peers to this node were looked up.
    pub(crate) const fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// Returns how far from a key those live who are to hold what belongs to it, in a network of a size and with a `k`, where
    /// `wanted` hold it.
    pub(crate) fn region(&self, size: &NetworkSize, k: usize, wanted: usize) -> Distance {
        let [k, wanted] =
            [k, wanted].map(|peers| f64::from(u32::try_from(peers).unwrap_or(u32::MAX)).max(1.0));
        let mean = k / wide(size.estimate.max(1));
        let (least, most) = REGION_CLAMP;
        let (count, _, sum) = self.believed;
        let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let clamp = if size.samples == 0 { mean } else { sum / count.max(1.0) };
        distance((REGION * mean).clamp(least * clamp, most * clamp) * wanted / k)
    }
}

/// Returns whether peers are closer to a key than chance takes, in a network of a size: for each how far away it is, and how many
/// live that are no farther. It happens by chance in three of a thousand lookups at most. Of a size that only the own table tells
/// nothing can be said.
pub(crate) fn is_surrounded(size: &NetworkSize, closest: impl IntoIterator<Item = (u32, Distance)>) -> bool {
    // Few lookups tell little: the size is taken to be as large as it may be.
    let is_known_well = size.samples >= usize::try_from(ENOUGH).unwrap_or(usize::MAX);
    if size.samples == 0 {
        return false;
    }
    let size = wide(if is_known_well { size.estimate } else { size.high });
    closest.into_iter().any(|(peers, distance)| {
        let least = if peers == 20 { SURROUNDED } else { CHANCE };
        gamma::cdf(peers, size * share(distance)) < least
    })
}

/// Returns the size of a network in which so many peers are so far away together; one too few peers, so that it is right on an
/// average.
fn size_of(peers: u32, sum: f64) -> f64 {
    (f64::from(peers) - 1.0) / sum.max(f64::MIN_POSITIVE)
}

/// Returns a distance as a share of the keyspace.
fn share(distance: Distance) -> f64 {
    (wide(distance.high_bits()) + 1.0) / KEYSPACE
}

/// Returns the distance that is such a share of the keyspace.
fn distance(share: f64) -> Distance {
    let high = rounded(share.clamp(0.0, 1.0) * KEYSPACE).to_be_bytes();
    let mut bytes = [u8::MAX; 32];
    bytes[..8].copy_from_slice(&high);
    Distance::from_bytes(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "of a size nobody needs to know more than 52 bits")]
const fn wide(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::time::start;

    /// Returns how far the 20 closest of some keys, in their order, to another are.
    fn closest(keys: &[Key], target: &Key) -> Vec<Distance> {
        // Of all that share a prefix with it, as long as there are as many.
        let mut near = keys;
        for prefix in 1..256 {
            let start = near.partition_point(|key| key < target && key.common_prefix(target) < prefix);
            let end = near.partition_point(|key| key < target || key.common_prefix(target) >= prefix);
            match near.get(start..end) {
                Some(nearer) if nearer.len() >= 20 => near = nearer,
                Some(_) | None => break,
            }
        }
        let mut all: Vec<_> = near.iter().map(|key| target.distance(key)).collect();
        all.sort_unstable();
        all.truncate(20);
        all
    }

    fn random_key(rng: &mut Rng) -> Key {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        Key::from_bytes(bytes)
    }

    fn network(nodes: usize, rng: &mut Rng) -> Vec<Key> {
        let mut keys: Vec<_> = (0..nodes).map(|_| random_key(rng)).collect();
        keys.sort_unstable();
        keys
    }

    fn after_lookups(keys: &[Key], lookups: usize, rng: &mut Rng) -> SizeEstimator {
        let mut estimator = SizeEstimator::default();
        for _ in 0..lookups {
            estimator.on_lookup(start(), 20, *closest(keys, &random_key(rng)).last().unwrap());
        }
        estimator
    }

    fn size(estimator: &SizeEstimator) -> NetworkSize {
        estimator.size(start(), || None).unwrap()
    }

    /// The bars: the interval of 95 % covers the truth for 93 % of the nodes of small networks and 95 ± 2 % of larger ones, and
    /// reaches 11 % to either side at most after 16 lookups.
    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says() {
        for (nodes, networks, lookups) in
            [(300, 200, 16), (1000, 200, 16), (1000, 200, 64), (10_000, 100, 16)]
        {
            let rng = &mut Rng::from_u64(nodes as u64);
            let (mut covered, mut widths, mut all) = (0, 0.0, 0);
            for _ in 0..networks {
                // One of them is the node itself, which its lookups do not find.
                let keys = network(nodes - 1, rng);
                for _ in 0..10 {
                    let size = size(&after_lookups(&keys, lookups, rng));
                    covered += usize::from((size.low..=size.high).contains(&(nodes as u64)));
                    widths += (size.high - size.low) as f64 / 2.0 / size.estimate as f64;
                    assert!(size.samples <= lookups && 4 * size.samples >= 3 * lookups, "{size:?}");
                    all += 1;
                }
            }
            let (covered, width) = (covered as f64 / all as f64, widths / all as f64);
            assert!(
                (0.93..=0.975).contains(&covered) && width <= 0.111,
                "{nodes} nodes: {covered} within, {width} wide"
            );
        }
    }

    /// The bar: one surrounded lookup of sixteen shifts the estimate by 6 % at most.
    #[test]
    fn a_surrounded_lookup_hardly_counts() {
        let rng = &mut Rng::from_u64(1);
        let keys = network(2000, rng);
        let estimate = |estimator: &SizeEstimator| size(estimator).estimate as f64;
        for hidden in [0, 5, 10, 15] {
            for _ in 0..50 {
                let mut estimator = after_lookups(&keys, 15, rng);
                let (before, mut with) = (estimate(&estimator), estimator.clone());
                let closest = closest(&keys, &random_key(rng));
                estimator.on_lookup(start(), 20, *closest.last().unwrap());
                // The attacker has the first places.
                with.on_lookup(start(), 20, closest[19 - hidden]);
                let shift = (estimate(&with) / before - 1.0).abs();
                assert!(shift <= 0.06, "{hidden}: {before} {}", estimate(&with));
            }
        }
    }

    /// A lookup in a network that is away answers little, and far away.
    #[test]
    fn one_bad_lookup_does_not_make_the_region_larger() {
        let rng = &mut Rng::from_u64(8);
        let keys = network(2000, rng);
        let mut estimator = after_lookups(&keys, 15, rng);
        let before = estimator.region(&size(&estimator), 20, 20);
        estimator.on_lookup(start(), 2, distance(0.4));
        assert_eq!(estimator.region(&size(&estimator), 20, 20), before);
    }

    #[test]
    fn of_a_quarter_that_is_surrounded_nobody_is_misled() {
        let rng = &mut Rng::from_u64(2);
        let keys = network(1000, rng);
        let mut estimator = after_lookups(&keys, 12, rng);
        (0..3).for_each(|_| estimator.on_lookup(start(), 20, Distance::from_bytes([0; 32])));
        let NetworkSize { estimate, samples, .. } = size(&estimator);
        assert!((850..=1150).contains(&estimate) && samples == 12, "{estimate}");
    }

    #[test]
    fn before_there_are_five_lookups_the_own_table_is_asked_and_old_ones_are_forgotten() {
        let rng = &mut Rng::from_u64(3);
        let keys = network(1000, rng);
        let own = || Some((20, *closest(&keys, &Key::from_bytes([7; 32])).last().unwrap()));
        let mut estimator = after_lookups(&keys, 4, rng);
        let of_table = estimator.size(start(), own).unwrap();
        assert_eq!((of_table.samples, estimator.size(start(), || None)), (0, None));
        assert!(of_table.low < of_table.estimate && of_table.high > 2 * of_table.low, "{of_table:?}");
        estimator.on_lookup(start(), 20, *closest(&keys, &random_key(rng)).last().unwrap());
        assert_eq!(size(&estimator).samples, 5);
        let later = start() + WINDOW + Duration::from_secs(1);
        assert_eq!(estimator.size(later, || None), None);
        (0..100)
            .for_each(|_| estimator.on_lookup(later, 20, *closest(&keys, &random_key(rng)).last().unwrap()));
        assert_eq!(estimator.size(later, || None).unwrap().samples, MAX_SAMPLES);
    }

    #[test]
    fn small_networks_are_counted() {
        let rng = &mut Rng::from_u64(4);
        for nodes in [2, 5, 19] {
            let mut estimator = SizeEstimator::default();
            let keys = network(nodes, rng);
            for _ in 0..16 {
                let closest = closest(&keys, &random_key(rng));
                estimator.on_lookup(start(), closest.len(), *closest.last().unwrap());
            }
            let NetworkSize { estimate, .. } = size(&estimator);
            assert!(estimate.abs_diff(nodes as u64 + 1) <= 2, "{nodes}: {estimate}");
        }
        let mut nobody = SizeEstimator::default();
        nobody.on_lookup(start(), 0, Distance::ZERO);
        assert_eq!(nobody.size(start(), || None), None);
    }

    /// The bar: by chance there is an alarm in three of a thousand lookups at most; half of the closest may not be hidden.
    #[test]
    fn chance_seldom_looks_like_an_attack_and_an_attack_never_like_chance() {
        let rng = &mut Rng::from_u64(5);
        let (mut alarms, mut all, mut missed) = (0, 0, 0);
        for _ in 0..20 {
            let keys = network(2000, rng);
            for lookups in [5, 16, 16, 40] {
                let size = size(&after_lookups(&keys, lookups, rng));
                for _ in 0..50 {
                    let mut found = closest(&keys, &random_key(rng));
                    let by_rank = |found: &[Distance]| (1..).zip(found.to_vec()).collect::<Vec<_>>();
                    alarms += usize::from(is_surrounded(&size, by_rank(&found)));
                    all += 1;
                    let nearest = found[0];
                    found.truncate(2);
                    found.splice(0..0, vec![nearest; 18]);
                    missed += usize::from(!is_surrounded(&size, by_rank(&found)));
                }
            }
        }
        assert!(alarms as f64 <= 0.003 * all as f64, "{alarms} of {all}");
        assert!(missed as f64 <= 0.01 * all as f64, "{missed} of {all}");
    }

    #[test]
    fn the_region_has_half_as_many_more_as_hold_a_record() {
        let rng = &mut Rng::from_u64(6);
        let keys = network(1000, rng);
        let estimator = after_lookups(&keys, 64, rng);
        let radius = estimator.region(&size(&estimator), 20, 20);
        let within = |target: &Key| keys.iter().filter(|key| target.distance(key) <= radius).count();
        let mean = (0..400).map(|_| within(&random_key(rng))).sum::<usize>() / 400;
        assert!((27..=33).contains(&mean), "{mean}");
        let few = after_lookups(&keys[..10], 0, rng);
        let size = few.size(start(), || Some((10, Distance::MAX))).unwrap();
        assert_eq!(few.region(&size, 20, 20), Distance::MAX, "all of a small network");
    }

    #[test]
    fn as_many_lookups_are_due_as_tell_enough() {
        let rng = &mut Rng::from_u64(7);
        let keys = network(300, rng);
        let mut estimator = SizeEstimator::default();
        assert_eq!((estimator.deadline(), estimator.is_due(start(), rng)), (None, false));
        estimator.joined(start(), true, rng);
        let end = start() + 2 * WINDOW;
        let mut times = Vec::new();
        while let Some(now) = estimator.deadline().filter(|now| *now < end) {
            assert!(estimator.is_due(now, rng) && !estimator.is_due(now, rng));
            estimator.on_lookup(now, 20, *closest(&keys, &random_key(rng)).last().unwrap());
            times.push(now - start());
        }
        assert!(
            times[0] > WINDOW / 32 && times[0] < WINDOW * 3 / 32 && times[4] < WINDOW * 6 / 16,
            "{times:?}"
        );
        let size = estimator.size(end, || None).unwrap();
        assert!((15..=18).contains(&size.samples), "{size:?}");
    }
}
