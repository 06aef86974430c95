//! What is done with providers: how many are told, how long they are believed, when others are told again.

use std::num::{NonZeroU8, NonZeroUsize};

use super::Config;
use super::least;
use crate::error::ConfigError;
use crate::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// What is done with providers.
#[derive(Clone, Debug)]
pub(crate) struct Providers {
    pub(crate) ttl: Duration,
    pub(crate) publication: Option<Duration>,
    pub(crate) enough: NonZeroU8,
    pub(crate) max_of_answer: NonZeroUsize,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            ttl: 48 * HOUR,
            publication: Some(22 * HOUR),
            enough: const { NonZeroU8::new(75).unwrap() },
            max_of_answer: super::K_VALUE,
        }
    }
}

impl Providers {
    /// Returns how many of so many peers are enough.
    pub(crate) fn enough_of(&self, total: usize) -> NonZeroUsize {
        let percent = usize::from(self.enough.get().min(100));
        NonZeroUsize::new((total * percent).div_ceil(100)).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Config {
    /// Sets how long this node believes others that they provide something; `None` means until there is no room.
    ///
    /// Longer survives a longer absence of the provider; finders meet more of those that are gone. Addresses are handed on
    /// for 24 hours whatever this is. Default: 48 hours (`spec`, "Content provider advertisement and discovery"). At least 1 second.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_provider_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Result<Self, ConfigError> {
        let ttl = ttl.into().unwrap_or(Duration::MAX);
        self.providers.ttl = least::span("provider TTL", least::TTL, ttl)?;
        Ok(self)
    }

    /// Sets how often this node tells others anew what it provides; `None` leaves that to the application.
    ///
    /// Should be less than half of the time for which others believe it. Each key costs a lookup and `k` messages. Default:
    /// 22 hours (`spec`). At least 1 minute.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_provider_publication_interval(
        mut self,
        interval: Option<Duration>,
    ) -> Result<Self, ConfigError> {
        self.providers.publication =
            least::interval("provider publication interval", least::PUBLICATION, interval)?;
        Ok(self)
    }

    /// Sets what percentage of `k` peers must have been told when an announcement returns; the others are told in the
    /// background. More than 100 counts as 100.
    ///
    /// More waits longer for the slowest; less returns before the provider can be found from everywhere. Default: 75
    /// (`go-libp2p-kad-dht`'s optimistic provide; measured: `tests/sim/golden/providers.txt`).
    #[must_use]
    pub fn with_provided_percent(mut self, percent: NonZeroU8) -> Self {
        self.providers.enough = percent;
        self
    }

    /// Sets how many providers of one answer count.
    ///
    /// More finds more at once in large swarms; fewer leaves less to a peer that makes providers up. Default: 20 (the `k` of
    /// the specification, as many as this library names in an answer).
    #[must_use]
    pub fn with_max_providers_per_answer(mut self, providers: NonZeroUsize) -> Self {
        self.providers.max_of_answer = providers;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_rounded_up_and_never_nobody() {
        let mut config = Providers::default();
        assert_eq!([0, 1, 2, 3, 4, 20].map(|total| config.enough_of(total).get()), [1, 1, 2, 3, 3, 15]);
        config.enough = NonZeroU8::MAX;
        assert_eq!(config.enough_of(20).get(), 20);
    }
}
