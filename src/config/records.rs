//! What is done with records: how long they last, who judges them, how they are spread.

use std::num::NonZeroUsize;

use super::Config;
use super::least;
use crate::error::ConfigError;
use crate::time::Duration;
use crate::validate::{Namespaces, Validator};

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

impl Config {
    /// Adds the validator of a namespace: of the keys that begin with `/namespace/`.
    ///
    /// Without any validator every record is taken. With one, records of all other namespaces are refused; name
    /// [`AcceptAll`](crate::validate::AcceptAll) for those that are to be taken unseen. Default: none.
    #[must_use]
    pub fn with_validator(mut self, namespace: &str, validator: impl Validator + 'static) -> Self {
        self.records.validators = self.records.validators.with(namespace, validator);
        self
    }

    /// Sets how long a record lasts that came without an end, and how long one lasts at most that others want stored.
    ///
    /// Longer survives a longer absence of the publisher; holders keep what nobody wants for as long. `None` sets no end.
    /// Default: 48 hours (`spec`, "Entry validation"). At least 1 second.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_record_ttl(mut self, ttl: Option<Duration>) -> Result<Self, ConfigError> {
        self.records.ttl = least::interval("record TTL", least::TTL, ttl)?;
        Ok(self)
    }

    /// Sets how often this node puts its own records anew; `None` leaves that to the application.
    ///
    /// Should be less than half of the time that a record lasts. Each costs a lookup and `k` requests. Default: 22 hours
    /// (`spec`). At least 1 minute.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_publication_interval(mut self, interval: Option<Duration>) -> Result<Self, ConfigError> {
        self.records.publication = least::interval("publication interval", least::PUBLICATION, interval)?;
        Ok(self)
    }

    /// Sets how often the records of others that this node holds are put anew where they belong now; `None` never.
    ///
    /// Skipped if somebody else has done so meanwhile: with `k` holders one of them does it each time. Shorter survives
    /// faster churn. Default: an hour (Maymounkov & Mazières §2.5). At least 1 minute.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_replication_interval(mut self, interval: Option<Duration>) -> Result<Self, ConfigError> {
        self.records.replication = least::interval("replication interval", least::PUBLICATION, interval)?;
        Ok(self)
    }

    /// Sets whether records that were found are cached at peers that lacked them. Default: at one.
    #[must_use]
    pub fn with_caching(mut self, caching: Caching) -> Self {
        self.records.caching = caching;
        self
    }

    /// Sets whether the application sees what others want stored before it is. Default: [`StoreInserts::Unfiltered`].
    #[must_use]
    pub fn with_record_filtering(mut self, inserts: StoreInserts) -> Self {
        self.records.inserts = inserts;
        self
    }

    /// Sets what becomes of a record of this node's own when somebody else stores another value under its key. Default:
    /// [`OwnRecords::Keep`].
    #[must_use]
    pub fn with_own_records(mut self, own: OwnRecords) -> Self {
        self.records.own = own;
        self
    }

    /// Sets how long something waits for the word of the application where that decides what is stored for others.
    ///
    /// Longer than the stream timeout, or than the ten seconds for which most peers await an answer, is no use. Default: 5
    /// seconds (half of those ten). At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter.
    pub fn with_held_for(mut self, time: Duration) -> Result<Self, ConfigError> {
        self.records.held_for = least::span("time for which records are held", least::ANSWER, time)?;
        Ok(self)
    }

    /// Sets how many records and provider records wait for the word of the application at once; one more is refused.
    ///
    /// More takes the memory of so many values. Default: 64 (4 MiB of the longest values).
    #[must_use]
    pub fn with_max_held(mut self, records: NonZeroUsize) -> Self {
        self.records.max_held = records;
        self
    }
}
