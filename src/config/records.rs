//! What is done with records: how long they last, who judges them, how they are spread.

use std::num::NonZeroUsize;

use crate::time::Duration;
use crate::validate::Namespaces;

const HOUR: Duration = Duration::from_secs(3600);

/// What is done with records.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) validators: Namespaces,
    pub(crate) ttl: Option<Duration>,
    pub(crate) publication: Option<Duration>,
    pub(crate) replication: Option<Duration>,
    pub(crate) caching: Caching,
    pub(crate) inserts: StoreInserts,
    pub(crate) own: OwnRecords,
    pub(crate) held_for: Duration,
    pub(crate) max_held: NonZeroUsize,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            validators: Namespaces::default(),
            ttl: Some(48 * HOUR),
            publication: Some(22 * HOUR),
            replication: Some(HOUR),
            caching: Caching::default(),
            inserts: StoreInserts::default(),
            own: OwnRecords::default(),
            held_for: Duration::from_secs(5),
            max_held: const { NonZeroUsize::new(64).unwrap() },
        }
    }
}

/// Whether a record that was found is cached at peers that lacked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// It is not.
    Disabled,
    /// At so many of the closest peers that were asked and did not have it.
    Enabled {
        /// How many; with 0 it is not cached.
        max_peers: u16,
    },
}

impl Default for Caching {
    /// At one (Maymounkov & Mazières §2.3).
    fn default() -> Self {
        Self::Enabled { max_peers: 1 }
    }
}

/// Whether the application sees what others want stored before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StoreInserts {
    /// What is valid is stored.
    #[default]
    Unfiltered,
    /// What is valid is held until the application accepts or refuses it, and no answer is sent before.
    ///
    /// See [`InboundRequest::PutRecord`](crate::InboundRequest::PutRecord). After five seconds without a word it is refused;
    /// at most 64 are held, one more is refused at once. [`Config::with_held_for`] and [`Config::with_max_held`] set both.
    FilterBoth,
}

/// What becomes of a record of this node's own when somebody else stores another value under its key.
///
/// Asked only where no validator finds one of the two better: then that one stands, whosever it is. The application is told
/// either way: [`Event::RecordConflict`](crate::Event::RecordConflict).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OwnRecords {
    /// It stays, and the other is refused.
    #[default]
    Keep,
    /// It makes way for what another publisher stores itself, and is this node's no more; for what is only handed on it does
    /// not. `libp2p-kad` lets it make way for either. A put of it that runs goes on with its own value at those it tells, and
    /// reports of that; here the newer stands, and is what this node serves and puts anew from then on.
    Yield,
}
