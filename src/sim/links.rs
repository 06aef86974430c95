//! Links: how long a message takes from one node to another, and what it costs to connect.
//!
//! Knows node numbers, randomness and time; neither what is sent nor which nodes live.

use std::num::NonZeroU64;

use super::draw::Draw;
use crate::key::Key;
use crate::rng::Rng;
use crate::time::Duration;

/// The round-trip times between nodes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RoundTrip {
    /// The same between all.
    Constant(Duration),
    /// Lognormal over the pairs of nodes, fixed for each pair.
    Lognormal {
        /// Half of the pairs are faster.
        median: Duration,
        /// The standard deviation of the logarithm; 0.6 is a network across continents.
        sigma: f64,
    },
    /// Between regions; node `n` lies in region `n` modulo their number.
    Regions(Vec<Vec<Duration>>),
    /// Drawn for each pair of nodes, the lower number first, by a generator of the pair's own: it is asked for each message, and
    /// has to return the same each time.
    Drawn(Draw<(usize, usize)>),
}

/// The transport over which nodes connect, which decides how many round trips that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Transport {
    /// QUIC: one round trip before the first request can be sent.
    #[default]
    Quic,
    /// TCP, Noise and Yamux: three.
    Tcp,
}

impl Transport {
    const fn round_trips(self) -> u32 {
        match self {
            Self::Quic => 1,
            Self::Tcp => 3,
        }
    }
}

/// The links between the nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    /// How long a message and its answer take.
    pub rtt: RoundTrip,
    /// Each message takes up to this share of its time longer, uniformly.
    pub jitter: f64,
    /// The share of messages that are lost on the way, and sent again after 200 ms or one and a half round trips,
    /// whichever is longer, doubling each time.
    pub loss: f64,
    /// Over what nodes connect.
    pub transport: Transport,
    /// Whether streams are negotiated lazily; if not, the first request on a connection and a dial each take a round
    /// trip more.
    pub lazy: bool,
    /// Whether all nodes are connected to each other from the beginning and stay so: nothing is ever dialled.
    pub warm: bool,
    /// How long an idle connection that not both ends want to keep stays open.
    pub idle_timeout: Duration,
    /// How many bytes a second a connection takes each way, one message after another; without a number any.
    pub bandwidth: Option<NonZeroU64>,
    /// How many bytes a second a node sends to all others together, one message after another; without a number any.
    pub uplink: Option<NonZeroU64>,
    /// How long a message takes whose round trip is so long, in place of half of it and jitter. What is lost, and its bytes,
    /// take their time besides.
    pub delay: Option<Draw<Duration>>,
}

impl Default for Links {
    /// Lognormal round trips with a median of 100 ms and σ = 0.6, over QUIC, without jitter or loss.
    fn default() -> Self {
        Self {
            rtt: RoundTrip::Lognormal { median: Duration::from_millis(100), sigma: 0.6 },
            jitter: 0.0,
            loss: 0.0,
            transport: Transport::Quic,
            lazy: true,
            warm: false,
            // What a swarm of libp2p does unless told otherwise.
            idle_timeout: Duration::from_secs(10),
            bandwidth: None,
            uplink: None,
            delay: None,
        }
    }
}

/// No message takes less: bytes over some ten kilometres of glass. Chosen, not measured.
const LEAST: Duration = Duration::from_micros(50);

/// Of lognormal round trips those are left out that are more than so many standard deviations below the median: one pair of
/// three million. Chosen, not measured.
const SHORTEST: f64 = 5.0;

/// How often a message is sent again before the simulation takes it for arrived. Chosen, not measured.
const MAX_RETRANSMISSIONS: u32 = 6;

impl Links {
    /// Returns the round-trip time between two nodes, which is the same both ways and does not change.
    pub(super) fn round_trip(&self, seed: u64, a: usize, b: usize) -> Duration {
        match &self.rtt {
            RoundTrip::Constant(rtt) => *rtt,
            RoundTrip::Lognormal { median, sigma } => {
                median.mul_f64(libm::exp(sigma * gauss(seed, a.min(b), a.max(b))))
            }
            RoundTrip::Regions(matrix) => {
                let region = |n: usize| n.checked_rem(matrix.len()).unwrap_or_default();
                let row = matrix.get(region(a));
                row.and_then(|row| row.get(region(b))).copied().unwrap_or_default()
            }
            RoundTrip::Drawn(draw) => {
                let (a, b) = (a.min(b), a.max(b));
                draw.draw((a, b), &mut Rng::from_u64(seed ^ pair_seed(a, b)))
            }
        }
    }

    /// Returns how long one message takes.
    pub(super) fn one_way(&self, rtt: Duration, rng: &mut Rng) -> Duration {
        let mut time = match &self.delay {
            Some(delay) => delay.draw(rtt, rng),
            None => rtt / 2,
        };
        if self.jitter > 0.0 && self.delay.is_none() {
            time += time.mul_f64(self.jitter * rng.unit());
        }
        if self.loss > 0.0 {
            let mut again = (rtt * 3 / 2).max(Duration::from_millis(200));
            for _ in 0..MAX_RETRANSMISSIONS {
                if rng.unit() >= self.loss {
                    break;
                }
                time += again;
                again *= 2;
            }
        }
        time
    }

    /// Returns the least time that a message takes: a shorter one takes so long.
    pub(super) fn least(&self) -> Duration {
        let rtt = match &self.rtt {
            RoundTrip::Constant(rtt) => *rtt,
            RoundTrip::Lognormal { median, sigma } => median.mul_f64(libm::exp(-SHORTEST * sigma)),
            RoundTrip::Regions(matrix) => matrix.iter().flatten().min().copied().unwrap_or_default(),
            RoundTrip::Drawn(_) => Duration::ZERO,
        };
        let drawn = if self.delay.is_some() { Duration::ZERO } else { rtt / 2 };
        drawn.max(LEAST)
    }

    /// Returns how long it takes to connect to a node that accepts.
    pub(super) fn dial(&self, rtt: Duration, rng: &mut Rng) -> Duration {
        let flights =
            2 * (self.transport.round_trips() + u32::from(!self.lazy && self.transport == Transport::Tcp));
        (0..flights).map(|_| self.one_way(rtt, rng)).sum()
    }

    /// Returns how long the first request on a connection waits for its stream.
    pub(super) fn first_stream(&self, rtt: Duration, rng: &mut Rng) -> Duration {
        if self.lazy { Duration::ZERO } else { self.one_way(rtt, rng) + self.one_way(rtt, rng) }
    }
}

/// Returns 64 bits that belong to a pair of nodes.
const fn pair_seed(a: usize, b: usize) -> u64 {
    mix(((a as u64) << 32) | b as u64)
}

/// Returns a number of the standard normal distribution that belongs to a pair of nodes.
fn gauss(seed: u64, a: usize, b: usize) -> f64 {
    let mut bits = mix(seed ^ pair_seed(a, b));
    let mut unit = || {
        bits = mix(bits);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let unit = ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
        unit
    };
    // Box and Muller; the first number is never zero.
    let (radius, angle) = (libm::sqrt(-2.0 * libm::log(unit())), unit() * std::f64::consts::TAU);
    radius * libm::cos(angle)
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of `bits`.
pub(super) const fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Returns 64 bits that belong to a key, for use as a seed.
pub(super) fn seed_of(key: &Key) -> u64 {
    key.as_bytes().iter().take(8).fold(0, |bits, byte| (bits << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn round_trips_are_lognormal_symmetric_and_fixed() {
        let links = Links::default();
        let mut rtts: Vec<_> = (0..20_000).map(|n| links.round_trip(7, n, 3 * n + 1)).collect();
        assert!((0..100).all(|n| links.round_trip(7, n, 500) == links.round_trip(7, 500, n)));
        assert!((0..100).any(|n| links.round_trip(7, n, 500) != links.round_trip(8, n, 500)));
        rtts.sort();
        let quantile = |q: usize| rtts[rtts.len() * q / 1000].as_secs_f64();
        // exp(0.6 z) for z = 0, 1.2816 and 2.3263.
        for (q, expected) in [(500, 0.100), (900, 0.2158), (990, 0.4038), (100, 0.0463)] {
            assert!((quantile(q) / expected - 1.0).abs() < 0.05, "{q}: {} {expected}", quantile(q));
        }
    }

    #[test]
    fn regions_have_their_own_times() {
        let matrix = vec![vec![10 * MS, 80 * MS], vec![80 * MS, 20 * MS]];
        let links = Links { rtt: RoundTrip::Regions(matrix), ..Links::default() };
        assert_eq!(links.round_trip(1, 0, 2), 10 * MS);
        assert_eq!(links.round_trip(1, 4, 7), 80 * MS);
        assert_eq!(links.round_trip(1, 1, 3), 20 * MS);
    }

    #[test]
    fn delays_that_are_drawn_are_fixed_for_a_pair_and_fresh_for_a_message() {
        let of_pair = |(a, b): (usize, usize), rng: &mut Rng| {
            assert!(a < b);
            MS * u32::try_from(1000 * a + b).unwrap() + MS.mul_f64(rng.unit())
        };
        let rtt = RoundTrip::Drawn(Draw::new(of_pair));
        let delay = Some(Draw::new(|rtt: Duration, rng: &mut Rng| rtt + MS.mul_f64(rng.unit())));
        let links = Links { rtt, delay, jitter: 0.5, ..Links::default() };
        let trip = links.round_trip(1, 3, 2);
        assert!((2003 * MS..2004 * MS).contains(&trip), "{trip:?}");
        assert_eq!((links.round_trip(1, 2, 3), links.round_trip(1, 3, 2)), (trip, trip));
        assert_ne!(links.round_trip(2, 2, 3), trip);
        let mut rng = Rng::from_u64(1);
        let times: Vec<_> = (0..100).map(|_| links.one_way(50 * MS, &mut rng)).collect();
        assert!(times.iter().all(|time| (50 * MS..51 * MS).contains(time)), "{times:?}");
        assert!(times.windows(2).all(|two| two[0] != two[1]));
    }

    #[test]
    fn loss_and_jitter_only_delay() {
        let mut rng = Rng::from_u64(1);
        let even = Links { rtt: RoundTrip::Constant(100 * MS), ..Links::default() };
        assert_eq!(even.one_way(100 * MS, &mut rng), 50 * MS);
        assert_eq!(even.dial(100 * MS, &mut rng), 100 * MS);
        assert_eq!(Links { transport: Transport::Tcp, ..even.clone() }.dial(100 * MS, &mut rng), 300 * MS);
        let tcp = Links { transport: Transport::Tcp, lazy: false, ..even.clone() };
        assert_eq!(tcp.dial(100 * MS, &mut rng), 400 * MS);
        assert_eq!(tcp.first_stream(100 * MS, &mut rng), 100 * MS);
        let bad = Links { loss: 0.1, jitter: 0.5, ..even };
        let times: Vec<_> = (0..10_000).map(|_| bad.one_way(100 * MS, &mut rng)).collect();
        let late = times.iter().filter(|time| **time >= 250 * MS).count();
        assert!((900..1100).contains(&late), "{late}");
        assert!(times.iter().all(|time| *time >= 50 * MS));
        assert!(times.iter().filter(|time| **time < 250 * MS).all(|time| *time <= 75 * MS));
    }
}
