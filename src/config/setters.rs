//! The setters of whole groups, and of what is done with records and providers.

use std::num::{NonZeroU8, NonZeroUsize};

use super::protection::Protection;
use super::rates::Rates;
use super::records::{Caching, OwnRecords, StoreInserts};
use super::{Config, ConfigBuilder, IPFS, IPFS_LAN, Limits, Lookups, Providers, Records, Routing, least};
use crate::error::ConfigError;
use crate::time::Duration;
use crate::validate::Validator;

impl Config {
    /// Starts from the defaults, to set groups of values and have them checked all at once.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::from(Self::default())
    }

    /// Sets the configuration of the routing table, of a builder that goes on from this configuration.
    pub fn with_routing(self, routing: Routing) -> ConfigBuilder {
        ConfigBuilder::from(self).with_routing(routing)
    }

    /// Sets the configuration of lookups, of a builder that goes on from this configuration.
    pub fn with_lookups(self, lookups: Lookups) -> ConfigBuilder {
        ConfigBuilder::from(self).with_lookups(lookups)
    }

    /// Sets the configuration of records, of a builder that goes on from this configuration.
    pub fn with_records(self, records: Records) -> ConfigBuilder {
        ConfigBuilder::from(self).with_records(records)
    }

    /// Sets the configuration of providers, of a builder that goes on from this configuration.
    pub fn with_providers(self, providers: Providers) -> ConfigBuilder {
        ConfigBuilder::from(self).with_providers(providers)
    }

    /// Sets the limits of the node, of a builder that goes on from this configuration.
    pub fn with_limits(self, limits: Limits) -> ConfigBuilder {
        ConfigBuilder::from(self).with_limits(limits)
    }

    /// Sets what is protected against peers that an attacker has put around its key. Default: [`Protection::ByProtocol`].
    #[must_use]
    pub const fn with_protection(mut self, protection: Protection) -> Self {
        self.lookups.protection = protection;
        self
    }

    /// Returns what is protected: never [`Protection::ByProtocol`], but what that means here.
    pub fn protection(&self) -> Protection {
        match (self.lookups.protection, &*self.protocol_name) {
            (Protection::ByProtocol, IPFS) => Protection::Providers,
            (Protection::ByProtocol, IPFS_LAN) => Protection::Off,
            (Protection::ByProtocol, _) => Protection::All,
            (chosen, _) => chosen,
        }
    }

    /// Returns whether announcements of providers are protected.
    pub(crate) fn protects_providers(&self) -> bool {
        self.protection() != Protection::Off
    }

    /// Returns whether records are protected.
    pub(crate) fn protects_records(&self) -> bool {
        self.protection() == Protection::All
    }

    /// Sets how many requests of one peer, and of its network, are served whatever else there is to do; `None` sets none.
    ///
    /// Less leaves more to others when the node is busy, and harms peers that have much to ask in earnest. Default: those of [`Rates`].
    #[must_use]
    pub const fn with_rates(mut self, rates: Option<Rates>) -> Self {
        self.limits.rates = rates;
        self
    }

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
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_record_ttl(mut self, ttl: Option<Duration>) -> Result<Self, ConfigError> {
        self.records.record_ttl = least::RECORD_TTL.interval(ttl)?;
        Ok(self)
    }

    /// Sets how often this node puts its own records anew; `None` leaves that to the application.
    ///
    /// Should be less than half of the time that a record lasts. Each costs a lookup and `k` requests. Default: 22 hours
    /// (`spec`). At least 1 minute.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_publication_interval(mut self, interval: Option<Duration>) -> Result<Self, ConfigError> {
        self.records.publication_interval = least::PUBLICATION_INTERVAL.interval(interval)?;
        Ok(self)
    }

    /// Sets how often the records of others that this node holds are put anew where they belong now; `None` never.
    ///
    /// Skipped if another peer has done so meanwhile: with `k` holders one of them does it each time. Shorter survives
    /// faster churn. Default: an hour (Maymounkov & Mazières §2.5). At least 1 minute.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_replication_interval(mut self, interval: Option<Duration>) -> Result<Self, ConfigError> {
        self.records.replication_interval = least::REPLICATION_INTERVAL.interval(interval)?;
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
        self.records.record_filtering = inserts;
        self
    }

    /// Sets what becomes of a record of this node's own when another peer stores another value under its key. Default:
    /// [`OwnRecords::Keep`].
    #[must_use]
    pub fn with_own_records(mut self, own: OwnRecords) -> Self {
        self.records.own_records = own;
        self
    }

    /// Sets how long something waits for the word of the application where that decides what is stored for others.
    ///
    /// Longer than the stream timeout, or than the ten seconds for which most peers await an answer, is no use. Default: 5
    /// seconds (half of those ten). At least 100 ms.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_held_for(mut self, time: Duration) -> Result<Self, ConfigError> {
        self.records.held_for = least::HELD_FOR.span(time)?;
        Ok(self)
    }

    /// Sets how many records and provider records wait for the word of the application at once; one more is refused.
    ///
    /// More takes the memory of so many values. Default: 64 (4 MiB of the longest values that stores take by default; twice
    /// that of the longest that a message can have).
    #[must_use]
    pub fn with_max_held(mut self, records: NonZeroUsize) -> Self {
        self.records.max_held = records;
        self
    }

    /// Sets how long this node believes others that they provide something; `None` means until there is no room.
    ///
    /// Longer survives a longer absence of the provider; finders meet more of those that are gone. Addresses are handed on
    /// for 24 hours whatever this is. Default: 48 hours (`spec`, "Content provider advertisement and discovery"). At least 1
    /// second.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_provider_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Result<Self, ConfigError> {
        let ttl = ttl.into().unwrap_or(Duration::MAX);
        self.providers.provider_ttl = least::PROVIDER_TTL.span(ttl)?;
        Ok(self)
    }

    /// Sets how often this node tells others anew what it provides; `None` leaves that to the application.
    ///
    /// Should be less than half of the time for which others believe it. Each key costs a lookup and `k` messages. Default:
    /// 22 hours (`spec`). At least 1 minute.
    ///
    /// # Errors
    /// [`ConfigError::TooShort`] if it is shorter: give the least at least, which the error names.
    pub fn with_provider_publication_interval(
        mut self,
        interval: Option<Duration>,
    ) -> Result<Self, ConfigError> {
        self.providers.provider_publication_interval =
            least::PROVIDER_PUBLICATION_INTERVAL.interval(interval)?;
        Ok(self)
    }

    /// Sets whether peers are told that this node has no room for what they announce (ipfs/specs#537, a draft).
    ///
    /// They announce it to the next nearest then, up to twice as many as usually. Only for networks all of whose peers know that
    /// answer, as this crate does: go nodes would take it for the answer to their next request. Who has closed its side of the stream is
    /// told nothing. Without effect where the application decides what is stored. Default: `false`.
    #[must_use]
    pub const fn with_provider_status(mut self, is_told: bool) -> Self {
        self.providers.provider_status = is_told;
        self
    }

    /// Sets what percentage of the closest peers, as many as hold a record or all that there are, must have been told when
    /// an announcement returns; the others are told in the background. More than 100 counts as 100.
    ///
    /// More waits longer for the slowest; less returns before the provider can be found from everywhere. Default: 75
    /// (`go-libp2p-kad-dht`'s optimistic provide; measured: `tests/sim/golden/providers.txt`).
    #[must_use]
    pub fn with_provided_percent(mut self, percent: NonZeroU8) -> Self {
        self.providers.provided_percent = percent;
        self
    }

    /// Sets how many providers of one answer count.
    ///
    /// More finds more at once in large swarms; fewer leaves less to a peer that makes providers up. Default: 20 (the `k` of
    /// the specification, as many as this library names in an answer).
    #[must_use]
    pub fn with_max_providers_per_answer(mut self, providers: NonZeroUsize) -> Self {
        self.providers.max_providers_per_answer = providers;
        self
    }
}
