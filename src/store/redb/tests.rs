mod damage;
pub(crate) mod disk;

use self::disk::Disk;
use super::super::index::Limits;
use super::super::{Error, ProviderLimits};
use super::*;
use ::redb::{Database, ReadableTable as _, TableDefinition};

use crate::addrs::IpGroup;
use crate::record::whole;
use crate::time::Duration;
use libp2p_core::Multiaddr;
use std::fs;
use std::path::PathBuf;
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
    Source { peer: peer(9), group: Some(IpGroup::V4([group, 0])), hands_on: false }
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
    assert!(is_dirty(&store));
    assert_eq!(store.get(WALL, &own.key).unwrap().as_deref(), Some(&own), "before it is committed");
    store.sync().unwrap();
    assert!(!is_dirty(&store));
    let kept = all(&store);
    assert_eq!(kept, [other.clone(), own.clone()]);
    drop(store);
    let mut store = file.open();
    assert_eq!(all(&store), kept);
    assert!(store.is_own(&own.key) && !store.is_own(&other.key));
    assert_eq!(
        store.index.get(&other.key).unwrap().owner,
        Ownership::Other(Charge::of(other.publisher.as_ref(), &source(1)))
    );
    // What has ended goes, and does not come back.
    assert!(store.get(WALL + HOUR, &other.key).unwrap().is_none());
    assert_eq!(store.expire(WALL + HOUR).unwrap(), Expired { gone: vec![other.key], next: None });
    store.remove(&own.key).unwrap();
    store.sync().unwrap();
    drop(store);
    assert!(all(&file.open()).is_empty());
}

fn is_dirty(store: &Redb) -> bool {
    store.progress().of(store.written()) != Some(true)
}

#[test]
fn what_was_changed_is_in_the_file_when_the_store_has_been_dropped() {
    let file = File::new();
    let mut store = file.open();
    store.put(WALL, Record::new("first", "1")).unwrap();
    store.sync().unwrap();
    store.put(WALL, Record::new("first", "2")).unwrap();
    store.put(WALL, Record::new("second", "2")).unwrap();
    assert!(is_dirty(&store));
    drop(store);
    assert_eq!(all(&file.open()), [Record::new("first", "2"), Record::new("second", "2")]);
}

#[test]
fn nobody_waits_for_the_disk_and_what_was_changed_is_read_at_once() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap();
    store.put(WALL, Record::new("old", "1")).unwrap();
    store.put(WALL, Record::new("gone", "1")).unwrap();
    store.sync().unwrap();
    disk.forget_syncs();
    disk.shut();
    store.put(WALL, Record::new("written", "1")).unwrap();
    store.remove(&"gone".into()).unwrap();
    store.commit();
    disk.wait_for_sync();
    // A commit waits for the disk now, and all this does not.
    store.put(WALL, Record::new("waits", "1")).unwrap();
    store.put(WALL, Record::new("old", "2")).unwrap();
    let other = Record { expires: Some(WALL + HOUR), ..Record::new("other", "1") };
    store.put_from(WALL, other, source(1)).unwrap();
    store.add_provider(WALL, provider(b"own", 0, 1)).unwrap();
    store.add_provider_from(WALL, provider(b"own", 1, 1), source(1)).unwrap();
    store.save_peers(&[PeerInfo { peer_id: peer(1), addrs: vec![] }]).unwrap();
    store.commit();
    assert_eq!(store.expire(WALL + HOUR).unwrap().gone, ["other".into()]);
    let read = |store: &Redb, key: &'static str| {
        let record = store.get(WALL, &key.into()).unwrap();
        record.map(|record| record.value.to_vec())
    };
    let now = [
        ("old", Some(b"2")),
        ("written", Some(b"1")),
        ("waits", Some(b"1")),
        ("gone", None),
        ("other", None),
    ];
    for (key, value) in now {
        assert_eq!(read(&store, key).as_deref(), value.map(|value| &value[..]), "{key}");
    }
    assert_eq!((all(&store).len(), store.load_peers().unwrap().len()), (3, 1));
    assert_eq!(store.progress().of(2), Some(true));
    assert_eq!(
        (store.progress().of(3), store.progress().of(store.written())),
        (None, None),
        "nothing claims more"
    );
    disk.open();
    store.sync().unwrap();
    assert!(!is_dirty(&store));
    for (key, value) in now {
        assert_eq!(read(&store, key).as_deref(), value.map(|value| &value[..]), "{key}");
    }
    let syncs = disk.syncs();
    assert!(!syncs.is_empty() && !syncs.contains(&std::thread::current().id()), "{syncs:?}");
    drop(store);
    let store = Redb::open_on(disk.copy(), peer(0)).unwrap();
    assert_eq!((all(&store).len(), store.load_peers().unwrap().len(), provided(&store).len()), (3, 1, 1));
}

#[test]
fn what_waits_for_the_disk_is_bounded_and_what_is_beyond_is_refused() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap().with_max_queued(100_000);
    disk.shut();
    let record = |n: u32| Record::new(n.to_be_bytes().to_vec(), vec![7; 1000]);
    let mut refused = 0;
    for n in 0..1000 {
        match store.put_from(WALL, Record { expires: Some(WALL + HOUR), ..record(n) }, source(1)) {
            Ok(_) => assert_eq!(refused, 0),
            Err(Error::Busy) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        if n == 50 {
            store.commit();
            disk.wait_for_sync();
        }
        assert!(store.writer.queued() <= 100_000);
    }
    assert!(refused > 850, "{refused}");
    assert!(matches!(store.add_provider(WALL, provider(&[7; 2000], 0, 1)), Err(Error::Busy)));
    assert!(store.provided().next().is_none(), "nothing has changed");
    // What makes room is done later, what the application removes at once.
    store.remove(&0u32.to_be_bytes().to_vec().into()).unwrap();
    let kept = store.records().count();
    disk.open();
    store.sync().unwrap();
    assert_eq!(store.writer.queued(), 0);
    store.put(WALL, record(2000)).unwrap();
    store.sync().unwrap();
    assert_eq!(store.expire(WALL + HOUR).unwrap().gone.len(), kept);
}

#[test]
fn a_disk_that_fails_makes_nothing_durable_and_is_named_when_there_is_no_more_room() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap().with_max_queued(5000);
    store.put(WALL, Record::new("before", "1")).unwrap();
    store.sync().unwrap();
    disk.fail();
    store.put(WALL, Record::new("after", "1")).unwrap();
    for _ in 0..2 {
        store.commit();
        store.rest();
        assert_eq!(store.progress(), Progress { durable: 1, tried: 2 });
        assert_eq!((store.progress().of(1), store.progress().of(2)), (Some(true), Some(false)));
    }
    assert!(matches!(store.sync(), Err(Error::Io(_))));
    let refused =
        (0..100u32).find_map(|n| store.put(WALL, Record::new(n.to_be_bytes().to_vec(), vec![7; 1000])).err());
    assert!(matches!(refused, Some(Error::Io(_))), "{refused:?}");
    assert_eq!(store.progress().of(3), None, "that was not tried");
    drop(store);
    assert_eq!(all(&Redb::open_on(disk.copy(), peer(0)).unwrap()), [Record::new("before", "1")]);
}

#[test]
fn whoever_wants_to_know_is_told_of_progress() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap();
    let (told, tell) = (std::sync::Arc::new(AtomicU32::new(0)), |told: &std::sync::Arc<AtomicU32>| {
        let told = told.clone();
        std::sync::Arc::new(move || {
            told.fetch_add(1, Ordering::Relaxed);
        })
    });
    store.on_progress(tell(&told));
    store.put(WALL, Record::new("key", "1")).unwrap();
    store.rest();
    assert_eq!(told.load(Ordering::Relaxed), 0, "nobody has asked for a commit");
    store.commit();
    drop(store);
    assert_eq!(told.load(Ordering::Relaxed), 1);
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
    store.sync().unwrap();
    store.index.check();
    let kept = all(&store);
    assert_eq!(kept.len(), 32);
    drop(store);
    assert_eq!(all(&file.open()), kept);
    // Opened with tighter bounds the nearest stay.
    let mut store = Redb::open_with(&file.0, peer(0), bounds(16)).unwrap();
    store.sync().unwrap();
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
    store.sync().unwrap();
    drop(store);
    let good = fs::read(&file.0).unwrap();
    fs::write(&file.0, &good[..good.len() / 3]).unwrap();
    error("cut short");
    let missing = std::env::temp_dir().join("no such folder").join("store");
    let error = Redb::open(&missing, peer(0)).map(drop).unwrap_err().to_string();
    assert!(error.contains("no such folder"), "{error}");
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
    assert!(is_dirty(&store));
    store.add_provider(WALL, ProviderRecord { expires: None, ..provider(b"gone", 0, 1) }).unwrap();
    store.add_provider_from(WALL, provider(b"key", 1, 48), source(1)).unwrap();
    // One without an end or addresses of its own has those that are known of its provider.
    let bare = ProviderRecord { expires: None, addresses: vec![], ..provider(b"bare", 1, 0) };
    store.add_provider_from(WALL + 20 * HOUR, bare, source(1)).unwrap();
    store
        .add_provider_from(WALL + HOUR, provider(b"key", 2, 3), Source { group: None, ..source(1) })
        .unwrap();
    store.sync().unwrap();
    assert!(!is_dirty(&store));
    store.remove_provider(&RecordKey::new(b"gone"), &peer(0)).unwrap();
    store.remove_provider(&RecordKey::new(b"none"), &peer(3)).unwrap();
    assert!(is_dirty(&store));
    store.sync().unwrap();
    let kept = store.providers(WALL + HOUR, &key).unwrap();
    let expected = [own.clone(), provider(b"key", 1, 48), provider(b"key", 2, 3)];
    assert_eq!(whole(&kept), whole(&expected));
    let addresses =
        expected.map(|of| (of.provider, crate::addrs::Addresses::collect(&of.provider, of.addresses)));
    assert_eq!(store.provider_addresses(WALL + HOUR, &key).unwrap(), addresses);
    drop(store);
    let mut store = file.open();
    store.statements.others.check();
    assert!(!is_dirty(&store));
    assert_eq!(whole(&store.providers(WALL + HOUR, &key).unwrap()), whole(&kept));
    assert_eq!(whole(&provided(&store)), whole([&own]));
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
    store.sync().unwrap();
    drop(store);
    let store = file.open();
    assert_eq!(store.statements.others.len(), (0, 0));
    assert_eq!(whole(&store.providers(WALL, &key).unwrap()), whole([&own]));
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
    store.sync().unwrap();
    drop(store);
    let mut store = file.open();
    let now = |store: &Redb| store.providers(WALL + 3 * HOUR, &"b".into()).unwrap();
    assert_eq!(now(&store), [at(b"b", 9)]);
    store.remove_provider(&"c".into(), &peer(1)).unwrap();
    store.sync().unwrap();
    drop(store);
    assert_eq!(now(&file.open()), [at(b"b", 7)]);
}

#[test]
fn provider_records_beyond_the_bounds_are_dropped() {
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
    store.sync().unwrap();
    drop(store);
    let mut store = Redb::open_with(&file.0, peer(0), bounds(160, 50)).unwrap();
    let left = |store: &Redb| (provided(store).len(), store.statements.others.len());
    assert_eq!(left(&store), (50, (20, 20)), "each of two groups has a sixteenth");
    store.statements.others.check();
    store.sync().unwrap();
    drop(store);
    let store = file.open();
    assert_eq!(left(&store), (50, (20, 20)));
}

/// A crash leaves what was there before a key had to make way, with all its providers, or what is there since.
#[test]
fn whole_keys_that_make_way_are_gone_or_there_after_a_crash() {
    let config = MemoryStoreConfig {
        providers: ProviderLimits { max_keys: 64, max_pairs: 640, ..ProviderLimits::default() },
        ..MemoryStoreConfig::default()
    };
    let disk = Disk::default();
    let open = |disk: Disk| Redb::open_on_with(disk, peer(0), &config).unwrap();
    let mut store = open(disk.clone());
    // Sixteen groups have four keys each, of which two share each.
    for n in 0..128u8 {
        let (key, of) = (n % 64, 1 + n % 16 + 16 * (n / 64));
        drop(store.add_provider_from(WALL, provider(&[key], of, 2), source(of)));
    }
    store.sync().unwrap();
    let held = |store: &Redb| -> Vec<_> {
        let keys = (0..=u8::MAX).map(|key| RecordKey::from(&[key]));
        let providers = |key: &RecordKey| store.providers(WALL, key).unwrap();
        keys.map(|key| providers(&key).into_iter().map(|record| record.provider).collect::<Vec<_>>())
            .collect()
    };
    let full = held(&store);
    let keys_of = |held: &[Vec<PeerId>]| held.iter().filter(|of| !of.is_empty()).count();
    assert!(keys_of(&full) == 64 && full.iter().any(|of| of.len() == 2), "{full:?}");
    disk.shut();
    for n in 0..3u8 {
        store.add_provider_from(WALL, provider(&[200 + n], 100, 2), source(100)).unwrap();
        store.commit();
    }
    let since = held(&store);
    assert!(
        keys_of(&since) == 64 && keys_of(&since[..200]) == 61,
        "three whole keys have made way: {since:?}"
    );
    let crashed = open(disk.copy());
    crashed.statements.others.check();
    assert_eq!(held(&crashed), full);
    disk.open();
    store.sync().unwrap();
    let crashed = open(disk.copy());
    crashed.statements.others.check();
    assert_eq!(held(&crashed), since);
    assert_eq!(crashed.damaged(), 0);
}

#[test]
fn a_refused_provider_record_changes_nothing_and_what_has_ended_goes_by_and_by() {
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
    store.sync().unwrap();
    assert!(store.add_provider_from(WALL, provider(b"a", 99, 1), source(1)).is_err());
    assert!(!is_dirty(&store));
    for n in 0..40_000u32 {
        let source = source(u8::try_from(n % 100).unwrap());
        let record = provider(&n.to_be_bytes(), 1, 1);
        while let Err(error) = store.add_provider_from(WALL, record.clone(), source) {
            assert!(matches!(error, Error::Busy), "{error}");
            store.sync().unwrap();
        }
    }
    store.sync().unwrap();
    let mut calls = 0;
    while store.expire(WALL + HOUR).unwrap().next.is_some() {
        calls += 1;
        store.sync().unwrap();
    }
    assert!(calls >= 40_000 / MAX_ENDED - 1, "{calls}: so many are dropped at once");
    store.sync().unwrap();
    drop(store);
    assert_eq!(file.open().statements.others.len(), (0, 0));
}

/// Does something, and returns the `warn` lines that it has written.
fn warned(deed: impl FnOnce()) -> Vec<String> {
    let log = File::new();
    let writer = std::sync::Arc::new(fs::File::create(&log.0).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_max_level(tracing::Level::WARN);
    tracing::subscriber::with_default(subscriber.with_ansi(false).finish(), deed);
    fs::read_to_string(&log.0).unwrap().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn an_empty_file_is_taken_for_new_with_one_warning_that_names_it() {
    let file = File::new();
    assert!(warned(|| drop(file.open())).is_empty(), "there was none");
    assert!(warned(|| drop(file.open())).is_empty(), "it is one");
    fs::write(&file.0, "").unwrap();
    let warned = warned(|| assert_eq!(file.open().records().count(), 0));
    assert!(matches!(&warned[..], [line] if line.contains(file.0.to_str().unwrap())), "{warned:?}");
}

#[test]
fn a_damaged_file_that_cannot_be_written_anew_is_named_with_both_reasons() {
    let file = File::new();
    let mut store = file.open();
    for n in 0..500u32 {
        store.put(WALL, Record::new(n.to_be_bytes().to_vec(), vec![7; 100])).unwrap();
    }
    drop(store);
    let good = fs::read(&file.0).unwrap();
    // As in a folder that may not be written, which nothing is for some users.
    let beside = FilePlace::new(&file.0).beside().unwrap().path().to_owned();
    fs::create_dir(&beside).unwrap();
    let errors: Vec<_> = (8192..good.len())
        .step_by(4096)
        .filter_map(|at| {
            let mut bad = good.clone();
            bad[at..][..64].fill(0xa5);
            fs::write(&file.0, &bad).unwrap();
            let error = Redb::open(&file.0, peer(0)).map(drop).err()?.to_string();
            assert_eq!(fs::read(&file.0).unwrap(), bad, "no byte has changed");
            Some(error)
        })
        .take(4)
        .collect();
    fs::remove_dir(&beside).unwrap();
    // Of some of them nothing is whole.
    let both = format!(
        "{}: the file is damaged, and cannot be written anew: {}",
        file.0.display(),
        beside.display()
    );
    assert!(errors.iter().any(|error| error.starts_with(&both)), "{errors:?}");
}

#[test]
fn a_store_beside_another_is_never_taken_for_what_was_left_over() {
    let (file, mut beside) = (File::new(), File::new());
    beside.0 = PathBuf::from(format!("{}.new", file.0.display()));
    for node in [peer(0), peer(1)] {
        drop(fs::remove_file(&beside.0));
        let mut other = Redb::open(&beside.0, node).unwrap();
        other.put(WALL, Record::new("k", "v")).unwrap();
        drop(other);
        drop(file.open());
        assert_eq!(Redb::open(&beside.0, node).unwrap().records().count(), 1);
    }
}

#[test]
fn what_was_left_over_beside_a_file_is_removed_and_nothing_else() {
    let file = File::new();
    drop(file.open());
    let place = FilePlace::new(&file.0);
    let beside = place.beside().unwrap().path().to_owned();
    let begun = || place.begin_beside().unwrap();
    let filled = || opening::fill(begun(), &peer(0), &[]).unwrap();
    // Of a process that has ended before it wrote anything, or later.
    drop(begun());
    assert!(warned(|| drop(file.open())).is_empty() && !beside.exists());
    drop(filled());
    assert!(warned(|| drop(file.open())).is_empty() && !beside.exists());
    // Of one that writes there now.
    let writes = filled();
    assert!(warned(|| drop(file.open())).is_empty() && beside.exists());
    drop(writes);
    fs::write(&beside, "Dear diary").unwrap();
    let warned = warned(|| drop(file.open()));
    assert!(matches!(&warned[..], [line] if line.contains(beside.to_str().unwrap())), "{warned:?}");
    assert_eq!(fs::read(&beside).unwrap(), b"Dear diary");
    fs::remove_file(&beside).unwrap();
    // Nor can anybody have a store there.
    for name in [beside.clone(), PathBuf::from(beside.to_str().unwrap().to_uppercase())] {
        let error = Redb::open(&name, peer(0)).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(name.to_str().unwrap()) && error.contains("is kept for"), "{error}");
        assert!(!name.exists());
    }
}

thread_local! {
    static MEANWHILE: std::cell::RefCell<Option<Box<dyn FnOnce()>>> = const { std::cell::RefCell::new(None) };
}

/// Lets another process do something between the opening of a file and its lock.
pub(super) fn meanwhile() {
    if let Some(act) = MEANWHILE.take() {
        act();
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_is_replaced_before_it_is_locked_is_opened_anew() {
    for before in ["filled", "empty", "damaged"] {
        let (file, other) = (File::new(), File::new());
        match before {
            "filled" => file.open().put(WALL, Record::new("old", "")).unwrap(),
            "empty" => fs::write(&file.0, "").unwrap(),
            _ => fs::write(&file.0, vec![7; 100_000]).unwrap(),
        }
        other.open().put(WALL, Record::new("new", "")).unwrap();
        let (from, to) = (other.0.clone(), file.0.clone());
        MEANWHILE.set(Some(Box::new(move || fs::rename(from, to).unwrap())));
        let mut store = file.open();
        assert_eq!(all(&store), [Record::new("new", "")], "{before}");
        store.put(WALL, Record::new("more", "")).unwrap();
        drop(store);
        assert_eq!(all(&file.open()).len(), 2, "{before}");
    }
}

#[test]
fn what_is_in_the_way_of_the_new_file_is_named() {
    let file = File::new();
    let place = FilePlace::new(&file.0);
    let beside = place.beside().unwrap().path().display().to_string();
    fs::create_dir(&beside).unwrap();
    let error = place.begin_beside().err().unwrap().to_string();
    fs::remove_dir(&beside).unwrap();
    assert!(error.starts_with(&beside), "{error}");
}
