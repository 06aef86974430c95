//! The configuration of records: how long they last, which validators judge them, how they are spread.

use std::num::NonZeroUsize;

use super::least;
use crate::error::ConfigError;
use crate::time::Duration;
use crate::validate::Namespaces;

/// The unit in which the spec gives these times.
const HOUR: Duration = Duration::from_secs(3600);

/// The configuration of records: which validators judge them, how long they last, when they are put anew.
///
/// ```
/// use std::time::Duration;
///
/// use libp2p_kademlia::config::{Config, Records};
/// use libp2p_kademlia::validate::{Namespaces, PublicKeys};
///
/// let records = Records {
///     validators: Namespaces::default().with("pk", PublicKeys),
///     record_ttl: Some(Duration::from_secs(3600)),
///     publication_interval: Some(Duration::from_secs(1200)),
///     ..Records::default()
/// };
/// let config = Config::builder().with_records(records).build()?;
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Records {
    /// The validators by namespace. Default: none, so that every record is taken. See
    /// [`with_validator`](super::Config::with_validator).
    pub validators: Namespaces,
    /// How long a record lasts that came without an end, and at most one that others want stored: at least 1 second; `None`
    /// sets no end. Default: 48 hours (`spec`, "Entry validation").
    pub record_ttl: Option<Duration>,
    /// How often this node puts its own records anew: at least 1 minute; `None` leaves that to the application. Default: 22
    /// hours (`spec`).
    pub publication_interval: Option<Duration>,
    /// How often the records of others that this node holds are put anew: at least 1 minute; `None` never. Default: an hour
    /// (Maymounkov & Mazières §2.5).
    pub replication_interval: Option<Duration>,
    /// Whether records that were found are cached at peers that lacked them. Default: at one (Maymounkov & Mazières §2.3).
    pub caching: Caching,
    /// Whether the application sees what others want stored before it is. Default: [`StoreInserts::Unfiltered`]
    /// (`libp2p-kad`).
    pub record_filtering: StoreInserts,
    /// What becomes of a record of this node's own when another peer stores another value under its key. Default:
    /// [`OwnRecords::Keep`] (chosen, not measured).
    pub own_records: OwnRecords,
    /// How long something waits for the word of the application where that decides what is stored: at least 100 ms. Default: 5
    /// seconds (half of the ten for which most peers await an answer).
    pub held_for: Duration,
    /// How many records and provider records wait for that word at once; one more is refused. Default: 64 (4 MiB of the
    /// longest values that stores take by default; twice that of the longest that a message can have).
    pub max_held: NonZeroUsize,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            validators: Namespaces::default(),
            record_ttl: Some(48 * HOUR),
            publication_interval: Some(22 * HOUR),
            replication_interval: Some(HOUR),
            caching: Caching::default(),
            record_filtering: StoreInserts::default(),
            own_records: OwnRecords::default(),
            held_for: Duration::from_secs(5),
            max_held: const { NonZeroUsize::new(64).unwrap() },
        }
    }
}

impl Records {
    /// Notes what is wrong, and shortens what is so long that it means never.
    pub(super) fn check(&mut self, wrong: &mut Vec<ConfigError>) {
        least::RECORD_TTL.check_interval(&mut self.record_ttl, wrong);
        least::PUBLICATION_INTERVAL.check_interval(&mut self.publication_interval, wrong);
        least::REPLICATION_INTERVAL.check_interval(&mut self.replication_interval, wrong);
        least::HELD_FOR.check(&mut self.held_for, wrong);
    }
}

/// The caching of records: whether one that was found is stored at peers that lacked it.
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

/// The filtering of records: whether the application sees what others want stored before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StoreInserts {
    /// What is valid is stored.
    #[default]
    Unfiltered,
    /// What is valid is held until the application accepts or refuses it, and no answer is sent before.
    ///
    /// See [`InboundRequest::PutRecord`](crate::InboundRequest::PutRecord). After five seconds without a word it is refused;
    /// at most 64 are held, one more is refused at once. [`with_held_for`](crate::Config::with_held_for) and
    /// [`with_max_held`](crate::Config::with_max_held) set both.
    FilterBoth,
}

/// The treatment of own records: what becomes of one when another peer stores another value under its key.
///
/// Asked only where no validator finds one of the two better: then that one stands, whichever publisher it is of. The application is told
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
