//! The configuration of providers: how many are told, how long they are believed, when others are told again.

use std::num::{NonZeroU8, NonZeroUsize};

use super::least;
use super::routing::K_VALUE;
use crate::error::ConfigError;
use crate::time::Duration;

/// The unit in which the spec gives these times.
const HOUR: Duration = Duration::from_secs(3600);

/// The configuration of providers: how long they are believed, and how they are announced.
///
/// ```
/// use std::time::Duration;
///
/// use libp2p_kademlia::config::{Config, Providers};
///
/// let providers = Providers { provider_ttl: Duration::from_secs(3600), ..Providers::default() };
/// let config = Config::builder().with_providers(providers).build()?;
/// assert_eq!(config.providers().provider_ttl, Duration::from_secs(3600));
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers {
    /// How long this node believes others that they provide something: at least 1 second; [`Duration::MAX`] means until there
    /// is no room. Default: 48 hours (`spec`, "Content provider advertisement and discovery").
    pub provider_ttl: Duration,
    /// How often this node tells others anew what it provides: at least 1 minute; `None` leaves that to the application.
    /// Default: 22 hours (`spec`).
    pub provider_publication_interval: Option<Duration>,
    /// What percentage of the closest peers, as many as hold a record or all that there are, must have been told when an
    /// announcement returns; more than 100 counts as 100. Default: 75 (`go-libp2p-kad-dht`; measured:
    /// `tests/sim/golden/providers.txt`).
    pub provided_percent: NonZeroU8,
    /// Whether peers are told that this node has no room for what they announce, so that they announce it to the next nearest.
    /// Only for networks all of whose peers know that answer, as this crate does: go nodes would take it for the answer to their
    /// next request. Without effect where the application decides what is stored. Default: `false`: the answer is a draft
    /// (ipfs/specs#537).
    pub provider_status: bool,
    /// How many providers of one answer count. Default: 20 (the `k` of the specification).
    pub max_providers_per_answer: NonZeroUsize,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            provider_ttl: 48 * HOUR,
            provider_publication_interval: Some(22 * HOUR),
            provided_percent: const { NonZeroU8::new(75).unwrap() },
            provider_status: false,
            max_providers_per_answer: K_VALUE,
        }
    }
}

impl Providers {
    /// Notes what is wrong, and shortens what is so long that it means never.
    pub(super) fn check(&mut self, wrong: &mut Vec<ConfigError>) {
        least::PROVIDER_TTL.check(&mut self.provider_ttl, wrong);
        least::PROVIDER_PUBLICATION_INTERVAL.check_interval(&mut self.provider_publication_interval, wrong);
    }

    /// Returns how many of so many peers are enough.
    pub(crate) fn enough_of(&self, total: usize) -> NonZeroUsize {
        let percent = usize::from(self.provided_percent.get().min(100));
        NonZeroUsize::new((total * percent).div_ceil(100)).unwrap_or(NonZeroUsize::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_rounded_up_and_never_nobody() {
        let mut config = Providers::default();
        assert_eq!([0, 1, 2, 3, 4, 20].map(|total| config.enough_of(total).get()), [1, 1, 2, 3, 3, 15]);
        config.provided_percent = NonZeroU8::MAX;
        assert_eq!(config.enough_of(20).get(), 20);
    }
}
