//! The configuration of lookups: how wide they search, and how long they wait.

use std::num::NonZeroU8;
use std::ops::RangeInclusive;

use super::least;
use super::protection::Protection;
use super::timeouts::TimeoutPolicy;
use crate::error::ConfigError;
use crate::time::{Duration, FAR};

/// The configuration of lookups and of the requests they consist of.
///
/// ```
/// use std::time::Duration;
///
/// use libp2p_kademlia::config::{Config, Lookups};
///
/// let second = Duration::from_secs(1);
/// let lookups =
///     Lookups { request_timeout: 2 * second, soft_timeout: second / 20..=second, ..Lookups::default() };
/// let config = Config::builder().with_lookups(lookups).build()?;
/// assert_eq!(config.lookups().request_timeout, 2 * second);
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// How many requests of one lookup are in flight.
    ///
    /// Default: adaptive from 4 to 6 (measured: `tests/sim/golden/parallelism.txt`). See
    /// [`with_parallelism`](super::Config::with_parallelism).
    pub parallelism: Parallelism,
    /// β: how many of the closest peers must have answered before a lookup that needs no more may stop. Default: 3
    /// (`go-libp2p-kad-dht`).
    pub beta: NonZeroU8,
    /// How many disjoint paths a lookup takes. Default: 1 (measured: `tests/sim/golden/colluders.txt`). See
    /// [`with_disjoint_paths`](super::Config::with_disjoint_paths).
    pub disjoint_paths: NonZeroU8,
    /// The time after which a query ends with what it has: at least 100 ms. Default: 60 seconds (`libp2p-kad`).
    pub query_timeout: Duration,
    /// The time after which a request has failed, dialling included: at least 100 ms. Default: 10 seconds
    /// (`go-libp2p-kad-dht`).
    pub request_timeout: Duration,
    /// The range of the soft timeout, after which the next peer is asked though the answer still counts: it begins at 1 ms or
    /// later, and does not exceed the request timeout. Default: 50 ms to 5 s (chosen, not measured).
    pub soft_timeout: RangeInclusive<Duration>,
    /// The policy that decides how long a lookup waits for slow peers, within the range of the soft timeout.
    ///
    /// Default: [`TimeoutPolicy::Fitted`] (measured: `tests/sim/golden/timeout-policies.txt`).
    pub timeout_policy: TimeoutPolicy,
    /// What is protected against peers that an attacker has put around its key. Default: [`Protection::ByProtocol`].
    pub protection: Protection,
}

impl Default for Lookups {
    fn default() -> Self {
        // Measured, as the doc of the field says.
        const FOUR: NonZeroU8 = NonZeroU8::new(4).unwrap();
        const SIX: NonZeroU8 = NonZeroU8::new(6).unwrap();
        Self {
            parallelism: Parallelism::Adaptive { start: FOUR, max: SIX },
            beta: const { NonZeroU8::new(3).unwrap() },
            disjoint_paths: NonZeroU8::MIN,
            query_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            soft_timeout: Duration::from_millis(50)..=Duration::from_secs(5),
            timeout_policy: TimeoutPolicy::Fitted,
            protection: Protection::ByProtocol,
        }
    }
}

impl Lookups {
    /// Notes what is wrong, and shortens what is so long that it means never.
    pub(super) fn check(&mut self, wrong: &mut Vec<ConfigError>) {
        least::QUERY_TIMEOUT.check(&mut self.query_timeout, wrong);
        least::REQUEST_TIMEOUT.check(&mut self.request_timeout, wrong);
        let (mut start, end) = (*self.soft_timeout.start(), *self.soft_timeout.end());
        least::SOFT_TIMEOUT.check(&mut start, wrong);
        self.soft_timeout = start..=end.min(FAR);
        wrong.extend(self.check_order().err());
    }

    /// Refuses soft timeouts that are not ordered, or may be longer than the request timeout.
    pub(super) fn check_order(&self) -> Result<(), ConfigError> {
        let (start, end) = (self.soft_timeout.start(), self.soft_timeout.end());
        let is_ordered = start <= end && *end <= self.request_timeout;
        if is_ordered { Ok(()) } else { Err(ConfigError::SoftTimeouts) }
    }
}

/// The parallelism of lookups (α): how many requests of one, or of each of its disjoint paths, are in flight: sent, unanswered and not past their soft
/// timeout.
///
/// The closing burst, when all that is left of those that are wanted is asked at once, comes on top: at most two more than are
/// wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parallelism {
    /// Always so many: the α of the paper.
    Fixed(NonZeroU8),
    /// Starts with `start` and widens by one on each soft timeout, up to `max`.
    Adaptive {
        /// In flight at first.
        start: NonZeroU8,
        /// In flight at most, but not less than `start`.
        max: NonZeroU8,
    },
}

impl Parallelism {
    pub(crate) const fn start(self) -> usize {
        match self {
            Self::Fixed(n) | Self::Adaptive { start: n, .. } => n.get() as usize,
        }
    }

    pub(crate) const fn max(self) -> usize {
        match self {
            Self::Fixed(n) => n.get() as usize,
            Self::Adaptive { start, max } => {
                if start.get() > max.get() {
                    start.get() as usize
                } else {
                    max.get() as usize
                }
            }
        }
    }
}
