use super::super::ProviderLimits;
use super::super::index::Limits;
use super::*;
use libp2p_core::Multiaddr;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;
const HOUR: Duration = Duration::from_secs(3600);

/// A file of its own for each test, gone with it.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("libp2p-kademlia-store-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(fs::remove_file(&path));
        Self(path)
    }

    fn open(&self) -> Redb {
        Redb::open(&self.0, peer(0)).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn peer(seed: u8) -> PeerId {
    PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[seed; 32]).unwrap()).unwrap()
}

fn source(group: u8) -> Source {
    Source { peer: peer(9), group: Some(IpGroup::V4([group, 0])) }
}

fn all(store: &Redb) -> Vec<Record> {
    let mut all: Vec<_> = store.records().map(Cow::into_owned).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

#[test]
fn what_was_committed_is_there_again_with_all_that_was_known_of_it() {
    let file = File::new();
    let mut store = file.open();
    let own = Record { publisher: Some(peer(0)), ..Record::new("own", "value") };
    let other = Record { expires: Some(WALL + HOUR), publisher: Some(peer(3)), ..Record::new("other", "") };
    store.put(WALL, own.clone()).unwrap();
    store.put_from(WALL, other.clone(), source(1)).unwrap();
    assert!(store.is_dirty());
    assert_eq!(store.get(WALL, &own.key).unwrap().as_deref(), Some(&own), "before it is committed");
    store.commit().unwrap();
    assert!(!store.is_dirty());
    let kept = all(&store);
    assert_eq!(kept, [other.clone(), own.clone()]);
    drop(store);
    let mut store = file.open();
    assert_eq!(all(&store), kept);
    assert!(store.is_own(&own.key) && !store.is_own(&other.key));
    assert_eq!(store.index.get(&other.key).unwrap().owner, Owner::Other(Some(IpGroup::V4([1, 0]))));
    // What has ended goes, and does not come back.
    assert!(store.get(WALL + HOUR, &other.key).unwrap().is_none());
    assert_eq!(store.expire(WALL + HOUR).unwrap(), Expired { gone: vec![other.key], next: None });
    store.remove(&own.key).unwrap();
    store.commit().unwrap();
    drop(store);
    assert!(all(&file.open()).is_empty());
}

#[test]
fn what_was_not_committed_is_not_there() {
    let file = File::new();
    let mut store = file.open();
    store.put(WALL, Record::new("first", "1")).unwrap();
    store.commit().unwrap();
    store.put(WALL, Record::new("first", "2")).unwrap();
    store.put(WALL, Record::new("second", "2")).unwrap();
    drop(store);
    let left = all(&file.open());
    assert_eq!(left, [Record::new("first", "1")]);
}

#[test]
fn the_bounds_are_those_of_the_index_in_the_file_as_well() {
    let file = File::new();
    let bounds = |max_records| MemoryStoreConfig {
        records: Limits { max_records, ..Limits::default() },
        ..MemoryStoreConfig::default()
    };
    let mut store = Redb::open_with(&file.0, peer(0), bounds(32)).unwrap();
    for n in 0..1000u32 {
        let record = Record::new(n.to_be_bytes().to_vec(), "value");
        drop(store.put_from(WALL, record, source(u8::try_from(n % 200).unwrap())));
    }
    store.commit().unwrap();
    store.index.check();
    let kept = all(&store);
    assert_eq!(kept.len(), 32);
    drop(store);
    assert_eq!(all(&file.open()), kept);
    // Opened with tighter bounds the nearest stay.
    let mut store = Redb::open_with(&file.0, peer(0), bounds(16)).unwrap();
    store.commit().unwrap();
    drop(store);
    assert_eq!(all(&file.open()).len(), 16);
}

#[test]
fn peers_are_saved_and_loaded() {
    let file = File::new();
    let mut store = file.open();
    assert_eq!(store.load_peers().unwrap(), []);
    let addrs: Vec<Multiaddr> =
        ["/ip4/1.2.3.4/tcp/5", "/ip6/::1/udp/6/quic-v1"].map(|text| text.parse().unwrap()).to_vec();
    let peers = [PeerInfo { peer_id: peer(1), addrs }, PeerInfo { peer_id: peer(2), addrs: vec![] }];
    store.save_peers(&peers).unwrap();
    drop(store);
    let mut store = file.open();
    assert_eq!(store.load_peers().unwrap(), peers);
    store.save_peers(&peers[1..]).unwrap();
    assert_eq!(store.load_peers().unwrap(), peers[1..]);
}

#[test]
fn a_foreign_or_damaged_file_is_named_and_not_changed() {
    let file = File::new();
    let error = |what: &str| {
        let before = fs::read(&file.0).unwrap();
        let error = Redb::open(&file.0, peer(0)).map(drop).unwrap_err().to_string();
        assert!(error.contains(file.0.to_str().unwrap()), "{what}: {error}");
        assert_eq!(fs::read(&file.0).unwrap(), before, "{what}");
    };
    fs::write(&file.0, b"Dear diary, this is no database.").unwrap();
    error("a text");
    fs::write(&file.0, vec![0; 100_000]).unwrap();
    error("zeros");
    fs::remove_file(&file.0).unwrap();
    let other = Database::create(&file.0).unwrap();
    let write = other.begin_write().unwrap();
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("accounts");
    write.open_table(table).unwrap().insert(1, 2).unwrap();
    write.commit().unwrap();
    drop(other);
    let error_of_another = Redb::open(&file.0, peer(0)).map(drop).unwrap_err().to_string();
    assert!(error_of_another.contains("another program"), "{error_of_another}");
    fs::remove_file(&file.0).unwrap();
    let mut store = file.open();
    for n in 0..500u32 {
        store.put(WALL, Record::new(n.to_be_bytes().to_vec(), vec![7; 100])).unwrap();
    }
    store.commit().unwrap();
    drop(store);
    let good = fs::read(&file.0).unwrap();
    fs::write(&file.0, &good[..good.len() / 3]).unwrap();
    error("cut short");
    let missing = std::env::temp_dir().join("no such folder").join("store");
    let error = Redb::open(&missing, peer(0)).map(drop).unwrap_err().to_string();
    assert!(error.contains("no such folder"), "{error}");
}

#[test]
fn a_flipped_bit_never_panics() {
    let file = File::new();
    let mut store = file.open();
    for n in 0..50u32 {
        store.put(WALL, Record::new(n.to_be_bytes().to_vec(), vec![7; 100])).unwrap();
    }
    store.commit().unwrap();
    drop(store);
    let good = fs::read(&file.0).unwrap();
    let mut rng = crate::rng::Rng::from_u64(1);
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..100 {
        let mut bad = good.clone();
        let at = usize::try_from(rng.below(bad.len().min(64 * 1024) as u64)).unwrap();
        bad[at] ^= 1 << rng.below(8);
        fs::write(&file.0, &bad).unwrap();
        match Redb::open(&file.0, peer(0)) {
            Ok(store) => {
                drop(all(&store));
                opened += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains(file.0.to_str().unwrap()), "{error}");
                refused += 1;
            }
        }
    }
    assert!(opened > 0, "{opened} {refused}");
}

#[test]
fn every_group_is_read_as_it_was_written() {
    for group in [IpGroup::V4ClassA(1), IpGroup::V4([1, 2]), IpGroup::V6([1, 2, 3, 4]), IpGroup::Name([8; 8])]
    {
        assert_eq!(IpGroup::from_bytes(&group.to_bytes()), Some(group));
    }
    assert_eq!(IpGroup::from_bytes(&[4, 1]), None);
}

fn provider(key: &[u8], seed: u8, hours: u32) -> ProviderRecord {
    let address = format!("/ip4/1.2.3.{seed}/tcp/1").parse().unwrap();
    let record = ProviderRecord::new(key.to_vec(), peer(seed), vec![address]);
    ProviderRecord { expires: Some(WALL + HOUR * hours), ..record }
}

fn provided(store: &Redb) -> Vec<ProviderRecord> {
    store.provided().map(Cow::into_owned).collect()
}

#[test]
fn provider_records_are_there_again_with_all_that_was_known_of_them() {
    let file = File::new();
    let mut store = file.open();
    let key = RecordKey::new(b"key");
    let own = provider(b"key", 0, 1);
    store.add_provider(WALL, own.clone()).unwrap();
    assert!(store.is_dirty());
    store.add_provider(WALL, ProviderRecord { expires: None, ..provider(b"gone", 0, 1) }).unwrap();
    store.add_provider_from(WALL, provider(b"key", 1, 48), source(1)).unwrap();
    // One without an end or addresses of its own has those that are known of its provider.
    let bare = ProviderRecord { expires: None, addresses: vec![], ..provider(b"bare", 1, 0) };
    store.add_provider_from(WALL + 20 * HOUR, bare, source(1)).unwrap();
    store
        .add_provider_from(WALL + HOUR, provider(b"key", 2, 3), Source { group: None, ..source(1) })
        .unwrap();
    store.commit().unwrap();
    assert!(!store.is_dirty());
    store.remove_provider(&RecordKey::new(b"gone"), &peer(0)).unwrap();
    store.remove_provider(&RecordKey::new(b"none"), &peer(3)).unwrap();
    assert!(store.is_dirty());
    store.commit().unwrap();
    let kept = store.providers(WALL + HOUR, &key).unwrap();
    assert_eq!(kept, [own.clone(), provider(b"key", 1, 48), provider(b"key", 2, 3)]);
    drop(store);
    let mut store = file.open();
    store.statements.others.check();
    assert!(!store.is_dirty());
    assert_eq!(store.providers(WALL + HOUR, &key).unwrap(), kept);
    assert_eq!(provided(&store), std::slice::from_ref(&own));
    assert_eq!(store.statements.others.counted(IpGroup::V4([1, 0])), 2);
    // The addresses last a day from when they were announced, not from when they were read or repeated.
    let addresses = |store: &Redb, hours: u32, key: &str| {
        let all = store.providers(WALL + HOUR * hours, &key.into()).unwrap();
        all.into_iter().find(|record| record.provider == peer(1)).unwrap().addresses.len()
    };
    assert_eq!([23, 24].map(|hours| addresses(&store, hours, "key")), [1, 0]);
    assert_eq!([23, 24].map(|hours| addresses(&store, hours, "bare")), [1, 0]);
    // The statements of others end, the node's own does not.
    assert_eq!(store.expire(WALL + 2 * HOUR).unwrap().next, Some(WALL + 3 * HOUR));
    assert_eq!(store.expire(WALL + 48 * HOUR).unwrap(), Expired::default());
    store.remove_provider(&RecordKey::new(b"bare"), &peer(1)).unwrap();
    store.commit().unwrap();
    drop(store);
    let store = file.open();
    assert_eq!(store.statements.others.len(), (0, 0));
    assert_eq!(store.providers(WALL, &key).unwrap(), [own]);
}

#[test]
fn of_the_addresses_that_were_saved_the_latest_count() {
    let file = File::new();
    let mut store = file.open();
    let at = |key: &[u8], seed: u8| ProviderRecord {
        addresses: provider(b"", seed, 0).addresses,
        ..provider(key, 1, 48)
    };
    for (hours, key, seed) in [(2, b"b", 7), (1, b"a", 5), (3, b"c", 9)] {
        store.add_provider_from(WALL + HOUR * hours, at(key, seed), source(1)).unwrap();
    }
    store.commit().unwrap();
    drop(store);
    let mut store = file.open();
    let now = |store: &Redb| store.providers(WALL + 3 * HOUR, &"b".into()).unwrap();
    assert_eq!(now(&store), [at(b"b", 9)]);
    store.remove_provider(&"c".into(), &peer(1)).unwrap();
    store.commit().unwrap();
    drop(store);
    assert_eq!(now(&file.open()), [at(b"b", 7)]);
}

#[test]
fn provider_records_beyond_the_bounds_or_of_a_former_identity_are_dropped() {
    let file = File::new();
    let bounds = |max_pairs, max_own_keys| MemoryStoreConfig {
        providers: ProviderLimits { max_pairs, max_own_keys, ..ProviderLimits::default() },
        ..MemoryStoreConfig::default()
    };
    let mut store = file.open();
    for n in 0..200u8 {
        store.add_provider_from(WALL, provider(&[n], 1 + n, 1), source(n % 2)).unwrap();
        store.add_provider(WALL, provider(&[n], 0, 1)).unwrap();
    }
    store.commit().unwrap();
    drop(store);
    let mut store = Redb::open_with(&file.0, peer(0), bounds(160, 50)).unwrap();
    let left = |store: &Redb| (provided(store).len(), store.statements.others.len());
    assert_eq!(left(&store), (50, (20, 20)), "each of two groups has a sixteenth");
    store.statements.others.check();
    store.commit().unwrap();
    drop(store);
    let store = file.open();
    assert_eq!(left(&store), (50, (20, 20)));
    drop(store);
    let mut store = Redb::open(&file.0, peer(255)).unwrap();
    assert_eq!(left(&store), (0, (20, 20)));
    store.commit().unwrap();
    drop(store);
    assert_eq!(left(&file.open()), (0, (20, 20)));
}

#[test]
fn a_refused_provider_record_changes_nothing_and_what_waits_is_bounded() {
    let file = File::new();
    let mut store = file.open();
    assert!(
        store.add_provider_from(WALL, provider(b"a", 0, 1), source(1)).is_err(),
        "it is the node's affair"
    );
    assert!(store.add_provider_from(WALL, provider(&[7; 70_000], 1, 1), source(1)).is_err());
    assert!(store.add_provider(WALL, provider(&[7; 70_000], 0, 1)).is_err());
    for n in 0..16 {
        store.add_provider_from(WALL, provider(b"a", 1 + n, 1), source(1)).unwrap();
    }
    store.commit().unwrap();
    assert!(store.add_provider_from(WALL, provider(b"a", 99, 1), source(1)).is_err());
    assert!(!store.is_dirty());
    for n in 0..40_000u32 {
        let source = source(u8::try_from(n % 100).unwrap());
        store.add_provider_from(WALL, provider(&n.to_be_bytes(), 1, 1), source).unwrap();
        assert!(store.statements.waiting() <= MAX_PENDING);
    }
    store.expire(WALL + HOUR).unwrap();
    assert!(store.statements.waiting() <= MAX_ENDED);
    store.commit().unwrap();
    drop(store);
    assert_eq!(file.open().statements.others.len(), (0, 0));
}

/// Opens the file of a store as a database, and does something with the rows of its provider records.
fn with_rows<T>(file: &File, act: impl FnOnce(&mut ::redb::Table<'_, &[u8], &[u8]>) -> T) -> T {
    let database = Database::create(&file.0).unwrap();
    let write = database.begin_write().unwrap();
    let done = act(&mut write.open_table(PROVIDERS).unwrap());
    write.commit().unwrap();
    done
}

#[test]
fn a_file_without_provider_records_is_opened() {
    let file = File::new();
    let mut store = file.open();
    store.put(WALL, Record::new("key", "value")).unwrap();
    store.commit().unwrap();
    drop(store);
    let database = Database::create(&file.0).unwrap();
    let write = database.begin_write().unwrap();
    assert!(write.delete_table(PROVIDERS).unwrap(), "as an earlier version left it");
    write.commit().unwrap();
    drop(database);
    let mut store = file.open();
    assert_eq!(all(&store).len(), 1);
    store.add_provider(WALL, provider(b"key", 0, 1)).unwrap();
    store.commit().unwrap();
    drop(store);
    assert_eq!(provided(&file.open()).len(), 1);
}

#[test]
fn a_damaged_provider_record_is_named_and_not_changed() {
    let file = File::new();
    let mut store = file.open();
    store.add_provider_from(WALL, provider(b"key", 1, 1), source(1)).unwrap();
    store.commit().unwrap();
    drop(store);
    let (key, good) = with_rows(&file, |rows| {
        let (key, value) = rows.first().unwrap().unwrap();
        (key.value().to_vec(), value.value().to_vec())
    });
    let mut damaged: Vec<(Vec<u8>, Vec<u8>)> =
        (0..good.len()).map(|len| (key.clone(), good[..len].to_vec())).collect();
    // Without addresses it is a whole one.
    damaged.retain(|(_, value)| value.len() != good.len() - 10);
    damaged.push((key.clone(), [&[2], &good[1..]].concat()));
    damaged.push((key[..key.len() - 1].to_vec(), good.clone()));
    damaged.push((vec![1], good.clone()));
    assert!(damaged.len() > 20);
    for (key, value) in damaged {
        with_rows(&file, |rows| {
            rows.retain(|_, _| false).unwrap();
            rows.insert(&key[..], &value[..]).unwrap();
        });
        let error = Redb::open(&file.0, peer(0)).map(drop).unwrap_err().to_string();
        assert!(error.contains("a provider record is damaged"), "{value:?}: {error}");
        assert!(error.contains(file.0.to_str().unwrap()), "{error}");
        let row = with_rows(&file, |rows| rows.get(&key[..]).unwrap().map(|row| row.value().to_vec()));
        assert_eq!(row, Some(value));
    }
}
