//! The rules of the routing table: how many, for how long, and what is held against whom.
//!
//! Plain numbers; knows neither peers nor buckets.

use std::num::NonZeroU8;

use crate::config::{Config, Grouping};
use crate::time::Duration;

/// The configuration of a [`Table`](super::Table).
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// How many peers a bucket holds.
    pub bucket_size: NonZeroU8,
    /// How many peers wait for a place in each full bucket.
    pub replacements: u8,
    /// For how long a peer may be silent before it is probed.
    pub grace: Duration,
    /// The rules of IP diversity, or none.
    pub(crate) diversity: Option<Grouping>,
    /// After a first failure the peer is probed again after this time, which doubles with each further failure.
    pub first_retry: Duration,
    /// The longest time between two probes of a failing peer.
    pub longest_retry: Duration,
}

impl Default for TableConfig {
    fn default() -> Self {
        let config = Config::default();
        Self::from(&config)
    }
}

impl From<&Config> for TableConfig {
    fn from(config: &Config) -> Self {
        Self {
            bucket_size: config.routing.bucket_size,
            replacements: config.routing.replacement_cache,
            grace: config.routing.grace_period,
            diversity: config.grouping(),
            first_retry: FIRST_RETRY,
            longest_retry: LONGEST_RETRY,
        }
    }
}

/// An entry is stale after five failures in a row (Maymounkov & Mazières §4.1).
pub(super) const STALE_AFTER: u8 = 5;

/// After a first failure a peer is probed again after 2 seconds: time enough for a lost packet, none for a dead peer.
/// Chosen, not measured.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(2);

/// A failing peer that is kept because no peer answers is probed at least every minute, so that it is back soon after the
/// network is. Chosen, not measured.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

impl TableConfig {
    pub(super) const fn retries(&self) -> (Duration, Duration) {
        (self.first_retry, self.longest_retry)
    }
}
