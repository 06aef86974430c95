//! The store in memory: bounded maps.
//!
//! Knows the trait it implements. What is its own (published or provided by this node) has room of its own, so that
//! strangers cannot take it.

use std::borrow::Cow;

use indexmap::IndexMap;
use libp2p_identity::PeerId;

use super::{Error, RecordStore, Result};
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::SystemTime;

/// The bounds of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryStoreConfig {
    /// How many records of others are kept, and as many of this node's. One more is refused. Default: 1,024.
    pub max_records: usize,
    /// How many bytes a value may have. Default: 65,536.
    pub max_value_bytes: usize,
    /// How many providers a key may have. Default: 20.
    pub max_providers_per_key: usize,
    /// Of how many keys providers are kept, and as many that this node provides. Default: 1,024.
    pub max_provided_keys: usize,
}

impl Default for MemoryStoreConfig {
    fn default() -> Self {
        Self {
            max_records: 1024,
            max_value_bytes: 64 * 1024,
            max_providers_per_key: 20,
            max_provided_keys: 1024,
        }
    }
}

/// Keeps records in memory; they end with the process.
///
/// An expired record takes room until the room is needed, and is never returned.
#[derive(Debug)]
pub struct MemoryStore {
    local: PeerId,
    config: MemoryStoreConfig,
    records: IndexMap<RecordKey, Record>,
    providers: IndexMap<RecordKey, Vec<ProviderRecord>>,
    provided: IndexMap<RecordKey, ProviderRecord>,
}

impl MemoryStore {
    /// Makes an empty store of the node `local` with the default bounds.
    pub fn new(local: PeerId) -> Self {
        Self::with_config(local, MemoryStoreConfig::default())
    }

    /// Makes an empty store of the node `local` with the given bounds.
    pub fn with_config(local: PeerId, config: MemoryStoreConfig) -> Self {
        Self {
            local,
            config,
            records: IndexMap::new(),
            providers: IndexMap::new(),
            provided: IndexMap::new(),
        }
    }

    /// Keeps the records for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&RecordKey, &mut Record) -> bool) {
        self.records.retain(|key, record| keep(key, record));
    }

    fn is_own(&self, record: &Record) -> bool {
        record.publisher == Some(self.local)
    }

    /// Makes room for a record by dropping expired ones, and returns whether there is any.
    fn has_room(&mut self, wall: SystemTime, own: bool) -> bool {
        let full = |store: &Self| {
            let alike = store.records.values().filter(|record| store.is_own(record) == own);
            alike.count() >= store.config.max_records
        };
        if full(self) {
            self.records.retain(|_, record| !record.is_expired(wall));
        }
        !full(self)
    }
}

impl RecordStore for MemoryStore {
    type RecordsIter<'a> =
        std::iter::Map<indexmap::map::Values<'a, RecordKey, Record>, fn(&Record) -> Cow<'_, Record>>;
    type ProvidedIter<'a> = std::iter::Map<
        indexmap::map::Values<'a, RecordKey, ProviderRecord>,
        fn(&ProviderRecord) -> Cow<'_, ProviderRecord>,
    >;

    fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>> {
        let record = self.records.get(key).filter(|record| !record.is_expired(wall));
        Ok(record.map(Cow::Borrowed))
    }

    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()> {
        if record.value.len() > self.config.max_value_bytes {
            return Err(Error::ValueTooLarge);
        }
        let own = self.is_own(&record);
        let replaces_alike = self.records.get(&record.key).is_some_and(|known| self.is_own(known) == own);
        if !replaces_alike && !self.has_room(wall, own) {
            return Err(Error::MaxRecords);
        }
        self.records.insert(record.key.clone(), record);
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) -> Result<()> {
        self.records.swap_remove(key);
        Ok(())
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.records.values().map(|record| Cow::Borrowed(record))
    }

    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()> {
        let max_keys = self.config.max_provided_keys;
        if record.provider == self.local {
            if self.provided.len() >= max_keys && !self.provided.contains_key(&record.key) {
                return Err(Error::MaxProvidedKeys);
            }
            self.provided.insert(record.key.clone(), record);
            return Ok(());
        }
        if self.providers.len() >= max_keys && !self.providers.contains_key(&record.key) {
            self.providers.retain(|_, providers| {
                providers.retain(|provider| !provider.is_expired(wall));
                !providers.is_empty()
            });
            if self.providers.len() >= max_keys {
                return Err(Error::MaxProvidedKeys);
            }
        }
        let providers = self.providers.entry(record.key.clone()).or_default();
        providers.retain(|known| known.provider != record.provider && !known.is_expired(wall));
        if providers.len() >= self.config.max_providers_per_key {
            return Err(Error::MaxProviders);
        }
        providers.push(record);
        Ok(())
    }

    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>> {
        let all = self.provided.get(key).into_iter().chain(self.providers.get(key).into_iter().flatten());
        Ok(all.filter(|record| !record.is_expired(wall)).cloned().collect())
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.provided.values().map(|record| Cow::Borrowed(record))
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()> {
        if *provider == self.local {
            self.provided.swap_remove(key);
        } else if let Some(providers) = self.providers.get_mut(key) {
            providers.retain(|record| record.provider != *provider);
            if providers.is_empty() {
                self.providers.swap_remove(key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn peer(seed: u8) -> PeerId {
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[seed; 32]).unwrap()).unwrap()
    }

    fn store() -> MemoryStore {
        let config = MemoryStoreConfig {
            max_records: 2,
            max_value_bytes: 3,
            max_providers_per_key: 2,
            max_provided_keys: 2,
        };
        MemoryStore::with_config(peer(0), config)
    }

    fn record(key: u8, value: &'static [u8]) -> Record {
        Record::new(vec![key], value)
    }

    #[test]
    fn records_are_bounded_and_own_ones_have_room_of_their_own() {
        let mut store = store();
        store.put(WALL, record(1, b"a")).unwrap();
        store.put(WALL, record(2, b"a")).unwrap();
        assert!(matches!(store.put(WALL, record(3, b"a")), Err(Error::MaxRecords)));
        store.put(WALL, record(2, b"b")).unwrap();
        assert!(matches!(store.put(WALL, record(1, b"long")), Err(Error::ValueTooLarge)));
        let own = Record { publisher: Some(peer(0)), ..record(4, b"o") };
        store.put(WALL, own.clone()).unwrap();
        assert_eq!(store.get(WALL, &own.key).unwrap().as_deref(), Some(&own));
        assert_eq!(store.records().count(), 3);
        store.remove(&own.key).unwrap();
        assert!(store.get(WALL, &own.key).unwrap().is_none());
        store.retain(|key, _| key.as_ref() == [1]);
        assert_eq!(store.records().count(), 1);
    }

    #[test]
    fn an_expired_record_is_not_returned_and_makes_room() {
        let mut store = store();
        let end = WALL + Duration::from_secs(10);
        for key in [1, 2] {
            store.put(WALL, Record { expires: Some(end), ..record(key, b"a") }).unwrap();
        }
        assert!(store.get(end - Duration::from_secs(1), &RecordKey::new(&[1])).unwrap().is_some());
        assert!(store.get(end, &RecordKey::new(&[1])).unwrap().is_none());
        store.put(end, record(3, b"a")).unwrap();
        assert_eq!(store.records().count(), 1);
    }

    #[test]
    fn strangers_cannot_take_the_room_for_what_this_node_provides() {
        let mut store = store();
        let provider = |key: u8, seed: u8| ProviderRecord::new(vec![key], peer(seed), vec![]);
        for key in [1, 2] {
            store.add_provider(WALL, provider(key, 1)).unwrap();
        }
        assert!(matches!(store.add_provider(WALL, provider(3, 1)), Err(Error::MaxProvidedKeys)));
        store.add_provider(WALL, provider(3, 0)).unwrap();
        assert_eq!(store.provided().count(), 1);
        store.add_provider(WALL, provider(1, 2)).unwrap();
        store.add_provider(WALL, provider(1, 2)).unwrap();
        assert!(matches!(store.add_provider(WALL, provider(1, 3)), Err(Error::MaxProviders)));
        assert_eq!(store.providers(WALL, &RecordKey::new(&[1])).unwrap().len(), 2);
        store.remove_provider(&RecordKey::new(&[3]), &peer(0)).unwrap();
        store.remove_provider(&RecordKey::new(&[2]), &peer(1)).unwrap();
        assert_eq!(store.provided().count(), 0);
        store.add_provider(WALL, provider(3, 1)).unwrap();
    }

    #[test]
    fn expired_providers_make_room() {
        let mut store = store();
        let end = WALL + Duration::from_secs(10);
        for key in [1, 2] {
            let record = ProviderRecord::new(vec![key], peer(1), vec![]);
            store.add_provider(WALL, ProviderRecord { expires: Some(end), ..record }).unwrap();
        }
        assert!(store.providers(end, &RecordKey::new(&[1])).unwrap().is_empty());
        store.add_provider(end, ProviderRecord::new(vec![3], peer(1), vec![])).unwrap();
        assert_eq!(store.providers.len(), 1);
    }
}
