//! What is done with records: how long they last, who judges them, how they are spread.

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
    /// at most 64 are held, one more is refused at once.
    FilterBoth,
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
}
