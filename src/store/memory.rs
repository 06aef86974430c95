//! The store in memory: bounded maps.
//!
//! Knows the trait it implements. What is its own (published or provided by this node) has room of its own, so that
//! strangers cannot take it.

use std::borrow::Cow;

use indexmap::IndexMap;
use libp2p_identity::PeerId;

use super::charge::Charge;
use super::index::{Index, Limits, MAX_ENDED, Ownership};
use super::provided::{self, Provided};
use super::providers::{ProviderIndex, ProviderLimits};
use super::{Expired, Listed, RecordStore, Result, Source, Usage, not_theirs};
use crate::addrs::Addresses;
use crate::key::KeyHash;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::SystemTime;

/// The bounds of a [`MemoryStore`].
#[derive(Clone, Debug, Default)]
pub struct MemoryStoreConfig {
    /// How much room there is for records.
    pub records: Limits,
    /// How much room there is for provider records.
    pub providers: ProviderLimits,
}

/// Keeps records in memory; they end with the process.
///
/// What is dropped or refused when there is no room: see [`Limits`] and [`ProviderLimits`].
#[derive(Debug)]
pub struct MemoryStore {
    local: PeerId,
    index: Index,
    records: IndexMap<RecordKey, Record>,
    provided: Provided,
    providers: ProviderIndex,
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
            index: Index::new(local, config.records),
            records: IndexMap::new(),
            provided: Provided::new(local, config.providers.max_own_keys),
            providers: ProviderIndex::new(&local, config.providers),
        }
    }

    /// Keeps the records for which `keep` is true, and what it makes of them.
    ///
    /// A record stays what it was if there is no room for what was made of it, and its key is always what it was.
    pub fn retain(&mut self, mut keep: impl FnMut(&RecordKey, &mut Record) -> bool) {
        let mut changed = Vec::new();
        self.records.retain(|key, record| {
            let mut kept = record.clone();
            if !keep(key, &mut kept) {
                self.index.remove(key);
                return false;
            }
            kept.key.clone_from(key);
            changed.extend((kept != *record).then_some(kept));
            true
        });
        for record in changed {
            if let Some(owner) = self.index.get(&record.key).map(|meta| meta.owner.clone())
                && let Err(error) = self.store(SystemTime::UNIX_EPOCH, record, owner)
            {
                tracing::debug!(%error, "a record stays what it was");
            }
        }
    }

    /// Returns how many bytes the keys and values take that others wanted stored.
    pub fn foreign_bytes(&self) -> usize {
        self.index.foreign_bytes()
    }

    fn store(&mut self, wall: SystemTime, record: Record, owner: Ownership) -> Result<Vec<RecordKey>> {
        let is_same = self.records.get(&record.key).is_some_and(|known| known.value == record.value);
        let (gone, added) = self.index.add(wall, &record, owner, is_same);
        for key in &gone {
            self.records.swap_remove(key);
        }
        added?;
        self.records.insert(record.key.clone(), record);
        Ok(gone)
    }

    fn expire_providers(&mut self, wall: SystemTime) {
        (0..MAX_ENDED).try_for_each(|_| self.providers.pop_ended(wall).map(drop));
    }
}

/// Iterates over the records of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryRecords<'a>(indexmap::map::Values<'a, RecordKey, Record>);

impl<'a> Iterator for MemoryRecords<'a> {
    type Item = Cow<'a, Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Cow::Borrowed)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for MemoryRecords<'_> {}

impl RecordStore for MemoryStore {
    type RecordsIter<'a> = MemoryRecords<'a>;
    type ProvidedIter<'a> = provided::Iter<'a>;

    fn set_key_hash(&mut self, hash: KeyHash) {
        self.index.set_key_hash(hash);
    }

    fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>> {
        let record = self.records.get(key).filter(|record| !record.is_expired(wall));
        Ok(record.map(Cow::Borrowed))
    }

    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()> {
        self.store(wall, record, Ownership::Own).map(|_| ())
    }

    fn put_from(&mut self, wall: SystemTime, record: Record, source: Source) -> Result<Vec<RecordKey>> {
        let charge = Charge::of(record.publisher.as_ref(), &source);
        self.store(wall, record, Ownership::Other(charge))
    }

    fn is_own(&self, key: &RecordKey) -> bool {
        self.index.is_own(key)
    }

    fn expire(&mut self, wall: SystemTime) -> Result<Expired> {
        let gone = self.index.expire(wall, MAX_ENDED);
        for key in &gone {
            self.records.swap_remove(key);
        }
        self.expire_providers(wall);
        let next = [self.index.next_end(), self.providers.next_end()].into_iter().flatten().min();
        Ok(Expired { gone, next })
    }

    fn usage(&self) -> Usage {
        let (records, record_bytes) = self.index.taken();
        let provider_records = self.provided.iter().len() + self.providers.len().1;
        Usage { records, record_bytes, provider_records }
    }

    fn shorten(&mut self, latest: SystemTime) -> Result<bool> {
        let late = self.index.shorten(latest, MAX_ENDED);
        for (key, _) in &late {
            if let Some(record) = self.records.get_mut(key) {
                record.expires = Some(latest);
            }
        }
        let providers = (0..MAX_ENDED).take_while(|_| self.providers.shorten(latest).is_some()).count();
        Ok(late.len() == MAX_ENDED || providers == MAX_ENDED)
    }

    fn remove(&mut self, key: &RecordKey) -> Result<()> {
        self.index.remove(key);
        self.records.swap_remove(key);
        Ok(())
    }

    fn list(&self, before: Option<usize>, most: usize) -> Listed {
        self.index.list(before, most)
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        MemoryRecords(self.records.values())
    }

    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()> {
        if record.provider == self.local {
            return self.provided.add(&record);
        }
        let source = Source { peer: record.provider, group: None, hands_on: false };
        self.add_provider_from(wall, record, source)
    }

    fn add_provider_from(&mut self, wall: SystemTime, record: ProviderRecord, source: Source) -> Result<()> {
        if record.provider == self.local {
            return Err(not_theirs());
        }
        self.expire_providers(wall);
        self.providers.add(wall, &record, source.group).map(drop)
    }

    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>> {
        Ok(self.provided.get(key).into_iter().chain(self.providers.get(wall, key)).collect())
    }

    fn provider_addresses(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<(PeerId, Addresses)>> {
        Ok(provided::first(self.provided.addresses(key), self.providers.addresses(wall, key)))
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.provided.iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()> {
        if *provider == self.local {
            self.provided.remove(key);
        } else {
            self.providers.remove(key, provider);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addrs::IpGroup;
    use crate::key::Key;
    use crate::record::whole;
    use crate::store::Error;
    use crate::time::Duration;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn peer(seed: u8) -> PeerId {
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[seed; 32]).unwrap()).unwrap()
    }

    fn store() -> MemoryStore {
        let config = MemoryStoreConfig {
            records: Limits { max_records: 2, max_value_bytes: 3, ..Limits::default() },
            providers: ProviderLimits { max_keys: 2, max_own_keys: 2, max_per_key: 2, max_pairs: 3 },
        };
        MemoryStore::with_config(peer(0), config)
    }

    fn record(key: u8, value: &'static [u8]) -> Record {
        Record::new(vec![key], value)
    }

    fn somebody() -> Source {
        Source { peer: peer(9), group: None, hands_on: false }
    }

    fn keys(store: &MemoryStore) -> Vec<u8> {
        let mut keys: Vec<u8> = store.records().map(|record| record.key.as_ref()[0]).collect();
        keys.sort_unstable();
        keys
    }

    /// The keys 0 to 255, nearest to the store first.
    fn by_distance(_: &MemoryStore) -> Vec<u8> {
        let mut keys: Vec<u8> = (0..=255).collect();
        keys.sort_by_key(|key| Key::of_peer(&peer(0), Key::sha256).distance(&Key::sha256(&[*key])));
        keys
    }

    fn check(store: &MemoryStore) {
        store.index.check();
        assert_eq!(store.records.len(), store.index.keys().count());
    }

    #[test]
    fn what_is_near_the_hash_of_the_network_says() {
        /// Of the keys of one byte the least, or the greatest, is the nearest to any node.
        fn least(bytes: &[u8]) -> Key {
            Key::from_bytes([if let [key] = bytes { *key } else { 0 }; 32])
        }
        fn greatest(bytes: &[u8]) -> Key {
            Key::from_bytes([if let [key] = bytes { !*key } else { 0 }; 32])
        }
        for (hash, left) in [(least as KeyHash, [1, 2]), (greatest, [2, 3])] {
            // What is here already is measured anew.
            for before in 0..3 {
                let mut store = store();
                for (n, key) in [1, 3, 2].into_iter().enumerate() {
                    if n == before {
                        store.set_key_hash(hash);
                        check(&store);
                    }
                    store.put_from(WALL, record(key, b"a"), somebody()).unwrap();
                }
                assert_eq!(keys(&store), left, "{before}");
            }
        }
    }

    #[test]
    fn when_there_is_no_room_the_farthest_makes_way_for_a_nearer_one() {
        let mut store = store();
        let near = by_distance(&store);
        let put = |store: &mut MemoryStore, at: usize| {
            let result = store.put_from(WALL, record(near[at], b"a"), somebody());
            check(store);
            result
        };
        put(&mut store, 100).unwrap();
        put(&mut store, 200).unwrap();
        assert!(matches!(put(&mut store, 201), Err(Error::MaxRecords { .. })), "it would be the farthest");
        put(&mut store, 150).unwrap();
        let mut left = [near[100], near[150]];
        left.sort_unstable();
        assert_eq!(keys(&store), left);
        put(&mut store, 150).unwrap();
        assert!(matches!(
            store.put_from(WALL, record(near[0], b"long"), somebody()),
            Err(Error::ValueTooLarge { .. })
        ));
        assert_eq!(keys(&store), left, "nothing has changed");
    }

    /// The bar: of a thousand records of 200 groups 95 % survive 16 hostile groups whose keys are ground to be nearest.
    #[test]
    fn keys_that_are_ground_to_be_near_evict_nobody_who_has_less() {
        let records = Limits { max_records: 4096, ..Limits::default() };
        let mut store =
            MemoryStore::with_config(peer(0), MemoryStoreConfig { records, ..Default::default() });
        let of = |n: u32| {
            let group = Some(IpGroup::V4([u8::try_from(n / 200).unwrap(), u8::try_from(n % 200).unwrap()]));
            Source { peer: peer(u8::try_from(n % 200).unwrap()), group, hands_on: false }
        };
        let put = |store: &mut MemoryStore, key: Vec<u8>, n: u32| {
            store.put_from(WALL, Record::new(key, vec![1; 100]), of(n)).is_ok()
        };
        let honest = |n: u32| format!("honest {n}").into_bytes();
        for n in 0..500 {
            assert!(put(&mut store, honest(n), n % 200));
        }
        let distance = |key: &[u8]| Key::of_peer(&peer(0), Key::sha256).distance(&Key::sha256(key));
        let mut ground: Vec<Vec<u8>> = (0..100_000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        ground.sort_by_key(|key| distance(key));
        // Sixteen groups of their own, each with its whole share; a host without a group beside them.
        for (n, key) in (0u32..).zip(&ground[..20_000]) {
            put(&mut store, key.clone(), 200 + n % 16);
            drop(store.put_from(WALL, Record::new([key, &b"!"[..]].concat(), vec![1; 100]), somebody()));
        }
        assert!(store.records().count() > 4000, "it is full");
        assert!((500..1000).all(|n| put(&mut store, honest(n), n % 200)), "honest newcomers have less");
        for (n, key) in (0u32..).zip(&ground[20_000..40_000]) {
            put(&mut store, key.clone(), 200 + n % 16);
        }
        let left =
            (0..1000).filter(|n| store.get(WALL, &RecordKey::from(honest(*n))).unwrap().is_some()).count();
        assert_eq!(left, 1000);
        check(&store);
    }

    /// One group has most of the places and next to no bytes; others have all bytes.
    #[test]
    fn a_crowd_of_tiny_records_shields_no_large_ones() {
        let records = Limits { max_records: 1600, max_bytes: 1 << 20, ..Limits::default() };
        let mut store =
            MemoryStore::with_config(peer(0), MemoryStoreConfig { records, ..Default::default() });
        let of = |n: u8| Source { peer: peer(n), group: Some(IpGroup::V4([n, 1])), hands_on: false };
        let mut put = |n: u8, key: u32, bytes: usize| {
            store.put_from(WALL, Record::new(key.to_be_bytes().to_vec(), vec![1; bytes]), of(n))
        };
        assert!((0..100).all(|key| put(1, key, 1).is_ok()));
        for n in 2..18 {
            (0..8).for_each(|key| drop(put(n, 1000 * u32::from(n) + key, 8000)));
        }
        let gone = put(99, 7, 50_000).unwrap();
        assert!((1..10).contains(&gone.len()), "{} tiny ones would not have helped", gone.len());
        check(&store);
        assert!(
            (0..100).all(|key: u32| store.get(WALL, &RecordKey::new(&key.to_be_bytes())).unwrap().is_some())
        );
    }

    #[test]
    fn what_is_the_nodes_own_has_room_of_its_own_and_is_never_dropped() {
        let mut store = store();
        let near = by_distance(&store);
        for at in [254, 255] {
            store.put(WALL, record(near[at], b"own")).unwrap();
        }
        assert!(matches!(store.put(WALL, record(near[0], b"own")), Err(Error::MaxRecords { .. })));
        for nearest in &near[..10] {
            drop(store.put_from(WALL, record(*nearest, b"a"), somebody()));
            check(&store);
        }
        assert_eq!(store.records().count(), 4);
        assert!(store.is_own(&RecordKey::new(&[near[255]])) && !store.is_own(&RecordKey::new(&[near[0]])));
        store.retain(|key, _| key.as_ref() == [near[0]]);
        check(&store);
        assert_eq!(keys(&store), [near[0]]);
        store.remove(&RecordKey::new(&[near[0]])).unwrap();
        check(&store);
        assert!(store.records().next().is_none());
    }

    #[test]
    fn what_is_retained_can_be_changed_as_far_as_there_is_room() {
        let mut store = store();
        let end = WALL + Duration::from_secs(10);
        store.put(WALL, record(1, b"own")).unwrap();
        store.put_from(WALL, record(2, b"abc"), somebody()).unwrap();
        store.put_from(WALL, record(3, b"abc"), somebody()).unwrap();
        store.retain(|key, record| {
            record.key = "another".into();
            record.expires = Some(end);
            record.value = if key.as_ref() == [2] { "too long".into() } else { "a".into() };
            key.as_ref() != [3]
        });
        check(&store);
        let get = |key| store.get(WALL, &RecordKey::new(&[key])).unwrap().map(Cow::into_owned);
        assert_eq!(get(1), Some(Record { expires: Some(end), ..record(1, b"a") }));
        assert_eq!((get(2), get(3)), (Some(record(2, b"abc")), None));
        assert!(store.is_own(&RecordKey::new(&[1])) && !store.is_own(&RecordKey::new(&[2])));
        assert_eq!(store.expire(end).unwrap().gone, [RecordKey::new(&[1])], "its end is the new one");
    }

    #[test]
    fn bytes_are_bounded_as_well() {
        let config = MemoryStoreConfig {
            records: Limits { max_bytes: 40, ..Limits::default() },
            ..MemoryStoreConfig::default()
        };
        let mut store = MemoryStore::with_config(peer(0), config);
        let near = by_distance(&store);
        for at in (0..100).rev() {
            store.put_from(WALL, record(near[at], b"123456789"), somebody()).unwrap();
            check(&store);
            assert!(store.foreign_bytes() <= 40);
        }
        assert_eq!(store.records().count(), 4);
        let large = Record::new(vec![near[50]], vec![0; 60]);
        assert!(store.put_from(WALL, large, somebody()).is_err());
        assert_eq!(store.records().count(), 4);
    }

    #[test]
    fn a_flood_from_a_few_ip_groups_takes_their_share_and_no_more() {
        let config = MemoryStoreConfig {
            records: Limits { max_records: 160, ..Limits::default() },
            ..MemoryStoreConfig::default()
        };
        let mut store = MemoryStore::with_config(peer(0), config);
        let from =
            |group: u8| Source { peer: peer(0), group: Some(IpGroup::V4([group, 0])), hands_on: false };
        for n in 0..100u8 {
            store.put_from(WALL, Record::new(vec![1, n], b"honest".to_vec()), from(n)).unwrap();
        }
        for n in 0..1_000_000u32 {
            let record = Record::new(n.to_be_bytes().to_vec(), b"flood".to_vec());
            let source = Source {
                peer: peer(u8::try_from(n % 40).unwrap()),
                ..from(200 + u8::try_from(n % 4).unwrap())
            };
            drop(store.put_from(WALL, record, source));
        }
        check(&store);
        let honest = store.records().filter(|record| record.value == "honest").count();
        assert_eq!(honest, 100);
        assert_eq!(store.records().count(), 100 + 4 * 10, "each group has a sixteenth");
    }

    /// A store with room for 160 records of others.
    fn roomy() -> MemoryStore {
        let records = Limits { max_records: 160, ..Limits::default() };
        MemoryStore::with_config(peer(0), MemoryStoreConfig { records, ..MemoryStoreConfig::default() })
    }

    /// A peer in an IP group of its own.
    fn from(n: u8) -> Source {
        Source { peer: peer(n), group: Some(IpGroup::V4([n, 0])), hands_on: false }
    }

    fn count(store: &MemoryStore, value: &str) -> usize {
        store.records().filter(|record| record.value == value).count()
    }

    #[test]
    fn what_is_handed_on_is_bounded_for_each_peer_under_whatever_addresses_it_comes() {
        let mut store = roomy();
        for n in 0..200u8 {
            let record = Record { publisher: Some(peer(n)), ..Record::new(vec![2, n], "handed on") };
            let group = (n % 3 > 0).then_some(IpGroup::V4([n, 0]));
            drop(store.put_from(WALL, record, Source { peer: peer(250), group, hands_on: false }));
            check(&store);
        }
        assert_eq!(store.records().count(), 10, "a sixteenth");
        // What it publishes itself is its group's.
        store.put_from(WALL, Record::new("its own", "put"), from(250)).unwrap();
        assert_eq!(store.records().count(), 11);
    }

    #[test]
    fn what_is_handed_on_displaces_nothing_and_makes_way_for_what_is_put() {
        let mut store = roomy();
        let near = by_distance(&store);
        let far = &near[96..];
        for n in 0..100u8 {
            store.put_from(WALL, Record::new(vec![far[usize::from(n)]], "put"), from(n)).unwrap();
        }
        // Forty neighbours hand on more than there is room for.
        for n in 0..96u8 {
            for other in 0..40 {
                let key = vec![near[usize::from(n)], other];
                let record = Record { publisher: Some(peer(99)), ..Record::new(key, "handed on") };
                drop(store.put_from(WALL, record, from(200 + other)));
            }
        }
        check(&store);
        assert_eq!((count(&store, "put"), count(&store, "handed on")), (100, 60), "no more than was free");
        for n in 100..160u8 {
            store.put_from(WALL, Record::new(vec![far[usize::from(n)]], "put"), from(n)).unwrap();
            check(&store);
        }
        assert_eq!((count(&store, "put"), count(&store, "handed on")), (160, 0), "however far it is");
    }

    #[test]
    fn a_groups_own_record_takes_the_place_of_what_it_has_handed_on() {
        let mut store = roomy();
        for n in 0..20u8 {
            let record = Record { publisher: Some(peer(99)), ..Record::new(vec![2, n], "handed on") };
            drop(store.put_from(WALL, record, from(7)));
        }
        for n in 0..10u8 {
            store.put_from(WALL, Record::new(vec![3, n], "put"), from(7)).unwrap();
            check(&store);
        }
        assert_eq!((count(&store, "put"), count(&store, "handed on")), (10, 0));
    }

    #[test]
    fn what_its_publisher_has_put_stays_so_though_others_hand_the_same_on() {
        let mut store = roomy();
        let record = Record { publisher: Some(peer(1)), ..Record::new("k", "value") };
        store.put_from(WALL, record.clone(), from(1)).unwrap();
        let direct = Charge::of(Some(&peer(1)), &from(1));
        store.put_from(WALL, record.clone(), from(2)).unwrap();
        assert_eq!(store.index.get(&record.key).unwrap().owner, Ownership::Other(direct.clone()));
        // Another value is another's, and what was handed on is its publisher's when that comes.
        let other = Record { value: "longer than before".into(), ..record.clone() };
        store.put_from(WALL, other.clone(), from(2)).unwrap();
        let handed_on = Charge::of(Some(&peer(1)), &from(2));
        assert_eq!(store.index.get(&record.key).unwrap().owner, Ownership::Other(handed_on));
        store.put_from(WALL, other, from(1)).unwrap();
        assert_eq!(store.index.get(&record.key).unwrap().owner, Ownership::Other(direct));
        check(&store);
    }

    #[test]
    fn keys_are_listed_from_the_last_on_so_that_removing_some_hides_none() {
        let mut store = roomy();
        for n in 0..100u8 {
            let record = Record { expires: Some(WALL + Duration::from_secs(9)), ..record(n, b"a") };
            store.put_from(WALL, record, from(n)).unwrap();
        }
        let (mut seen, mut gone) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut before = None;
        for turn in 0..15u8 {
            let some = store.list(before, 7);
            assert!(some.keys.iter().all(|(_, end)| *end == Some(WALL + Duration::from_secs(9))));
            seen.extend(some.keys.into_iter().map(|(key, _)| key));
            before = some.before;
            assert_eq!(before.is_none(), turn == 14);
            let key = RecordKey::new(&[turn * 5]);
            store.remove(&key).unwrap();
            gone.insert(key);
        }
        assert!(
            (0..100u8).map(|n| RecordKey::new(&[n])).all(|key| gone.contains(&key) || seen.contains(&key))
        );
        assert_eq!(MemoryStore::new(peer(0)).list(None, 7), Listed::default());
    }

    #[test]
    fn a_record_is_gone_when_it_ends_and_not_before() {
        let mut store = store();
        let (end, second) = (WALL + Duration::from_secs(10), Duration::from_secs(1));
        for (key, end) in [(1, end), (2, end + second)] {
            store.put_from(WALL, Record { expires: Some(end), ..record(key, b"a") }, somebody()).unwrap();
        }
        let key = RecordKey::new(&[1]);
        assert_eq!(store.expire(end - second).unwrap(), Expired { gone: vec![], next: Some(end) });
        assert!(store.get(end - Duration::from_nanos(1), &key).unwrap().is_some());
        assert!(store.get(end, &key).unwrap().is_none());
        assert_eq!(store.records().count(), 2);
        assert_eq!(store.expire(end).unwrap(), Expired { gone: vec![key], next: Some(end + second) });
        check(&store);
        assert_eq!(keys(&store), [2]);
        // One that has ended makes room for any.
        store.put_from(end + second, record(3, b"a"), somebody()).unwrap();
        assert_eq!(keys(&store), [3]);
        assert_eq!(store.expire(end + second).unwrap(), Expired::default());
    }

    #[test]
    fn strangers_cannot_take_the_room_for_what_this_node_provides() {
        let mut store = store();
        let provider = |key: u8, seed: u8| ProviderRecord::new(vec![key], peer(seed), vec![]);
        for key in [1, 2] {
            store.add_provider_from(WALL, provider(key, 1), somebody()).unwrap();
        }
        let full = store.add_provider_from(WALL, provider(3, 1), somebody());
        assert!(matches!(full, Err(Error::MaxProvidedKeys { .. })));
        for key in [3, 4, 4] {
            store.add_provider(WALL, provider(key, 0)).unwrap();
        }
        assert!(matches!(store.add_provider(WALL, provider(5, 0)), Err(Error::MaxProvidedKeys { .. })));
        assert_eq!(store.provided().count(), 2);
        store.add_provider_from(WALL, provider(1, 2), somebody()).unwrap();
        store.add_provider_from(WALL, provider(1, 2), somebody()).unwrap();
        let full = store.add_provider_from(WALL, provider(1, 3), somebody());
        assert!(matches!(full, Err(Error::MaxProviders { .. })));
        let full = store.add_provider_from(WALL, provider(2, 3), somebody());
        assert!(matches!(full, Err(Error::MaxProvidedKeys { .. })), "of pairs there are enough");
        store.remove_provider(&RecordKey::new(&[3]), &peer(0)).unwrap();
        store.remove_provider(&RecordKey::new(&[2]), &peer(1)).unwrap();
        assert_eq!(store.provided().count(), 1);
        // One of another counts as one that it makes itself.
        store.add_provider(WALL, provider(3, 1)).unwrap();
        assert_eq!((store.provided().count(), store.providers.len()), (1, (2, 3)));
    }

    #[test]
    fn the_nodes_own_statement_comes_first_and_stays_whatever_its_end() {
        let mut store = store();
        let (key, end) = (RecordKey::new(&[1]), WALL + Duration::from_secs(10));
        let record = |seed| ProviderRecord {
            expires: Some(end),
            ..ProviderRecord::new(key.clone(), peer(seed), vec!["/ip4/1.2.3.4/tcp/1".parse().unwrap()])
        };
        store.add_provider_from(WALL, record(1), somebody()).unwrap();
        store.add_provider(WALL, record(0)).unwrap();
        let forged = ProviderRecord { expires: None, ..record(0) };
        assert!(matches!(store.add_provider_from(WALL, forged, somebody()), Err(Error::Invalid(_))));
        assert_eq!(whole(&store.providers(WALL, &key).unwrap()), whole(&[record(0), record(1)]));
        let there = |seed| (peer(seed), Addresses::new("/ip4/1.2.3.4/tcp/1".parse().unwrap()));
        assert_eq!(store.provider_addresses(WALL, &key).unwrap(), [there(0), there(1)]);
        assert_eq!(store.expire(WALL).unwrap().next, Some(end));
        assert_eq!(store.expire(end).unwrap(), Expired::default());
        assert_eq!(whole(&store.providers(end, &key).unwrap()), whole(&[record(0)]));
        assert_eq!(whole(&store.provided().map(Cow::into_owned).collect::<Vec<_>>()), whole(&[record(0)]));
        store.remove_provider(&key, &peer(0)).unwrap();
        assert!(store.providers(end, &key).unwrap().is_empty() && store.provided().next().is_none());
    }

    #[test]
    fn expired_providers_make_room() {
        let mut store = store();
        let end = WALL + Duration::from_secs(10);
        for key in [1, 2] {
            let record = ProviderRecord::new(vec![key], peer(1), vec![]);
            let record = ProviderRecord { expires: Some(end), ..record };
            store.add_provider_from(WALL, record, somebody()).unwrap();
        }
        assert!(store.providers(end, &RecordKey::new(&[1])).unwrap().is_empty());
        let record = ProviderRecord::new(vec![3], peer(1), vec![]);
        store.add_provider_from(end, record, somebody()).unwrap();
        assert_eq!(store.providers.len(), (1, 1));
    }

    #[test]
    fn whoever_puts_anew_what_others_have_put_does_not_make_it_its_own_to_drop() {
        let (mut store, mut wall) = (roomy(), WALL);
        let near = by_distance(&store);
        for n in 0..100u8 {
            let key = vec![near[100 + usize::from(n)]];
            store.put_from(wall, Record::new(key, "honest"), from(n)).unwrap();
        }
        for n in 0..100u8 {
            let key = vec![near[100 + usize::from(n)]];
            drop(store.put_from(wall, Record::new(key, "honest"), from(250)));
            for m in 0..10u8 {
                let mine = Record::new(vec![near[usize::from(m)]], "evil");
                let expires = Some(wall + Duration::from_secs(1));
                drop(store.put_from(wall, Record { expires, ..mine }, from(250)));
            }
            check(&store);
            wall += Duration::from_secs(2);
        }
        assert_eq!(count(&store, "honest"), 100);
    }

    #[test]
    fn another_value_as_long_is_charged_to_whoever_hands_it_on() {
        let mut store = roomy();
        for n in 0..50u8 {
            store.put_from(WALL, Record::new(vec![n], "abc"), from(n)).unwrap();
        }
        for n in 0..50u8 {
            let record = Record { publisher: Some(peer(99)), ..Record::new(vec![n], "xyz") };
            drop(store.put_from(WALL, record, from(250)));
        }
        check(&store);
        assert_eq!(count(&store, "xyz"), 10, "a sixteenth");
    }
}
