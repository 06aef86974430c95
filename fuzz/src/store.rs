//! Any bytes as the file of a store: a damaged one, one with rows that no program has written, one that is none.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kademlia::addrs::IpGroup;
use libp2p_kademlia::fuzzing::{DoorRow, make_file, rewritten_record};
use libp2p_kademlia::store::{RecordStore as _, Redb, Source};
use libp2p_kademlia::time::{Duration, SystemTime};
use libp2p_kademlia::{PeerInfo, ProviderRecord, Record, RecordKey};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;
const HOUR: Duration = Duration::from_secs(3600);

/// A file of the first format, as its program has left it.
const FIRST: &[u8] = include_bytes!("../../tests/redb/format-1.redb");

fn peer(n: u8) -> PeerId {
    let digest = Multihash::wrap(0, &[n; 32]).expect("it fits");
    PeerId::from_multihash(digest).expect("an identity hash is an id")
}

/// A file that is gone with the input, and what was written beside it.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("libp2p-kademlia-bytes-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn beside(&self) -> PathBuf {
        let mut path = self.0.clone().into_os_string();
        path.push(".kademlia-rewriting");
        path.into()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
        drop(fs::remove_file(self.beside()));
    }
}

/// What can be read of a store.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    records: BTreeMap<RecordKey, Record>,
    providers: Vec<ProviderRecord>,
    peers: Vec<PeerInfo>,
}

impl Held {
    fn of(store: &Redb) -> Self {
        let records = store.records().map(|record| (record.key.clone(), record.into_owned())).collect();
        let mut providers = Vec::new();
        for n in 0..8u8 {
            providers.extend(store.providers(WALL, &RecordKey::new(&[n])).expect("they are in memory"));
        }
        Self { records, providers, peers: store.load_peers().expect("they are in memory") }
    }

    /// Whether there is nothing here that is not there; the order is that of neither.
    fn is_within(&self, other: &Self) -> bool {
        self.records.iter().all(|(key, record)| other.records.get(key) == Some(record))
            && self.providers.iter().all(|record| other.providers.contains(record))
            && self.peers.iter().all(|peer| other.peers.contains(peer))
    }
}

/// A file, and what stands in it.
struct Good {
    bytes: Vec<u8>,
    held: Held,
}

/// A file of each kind: as a crash leaves it, as it is closed, of the first format. Each is made, or read, once.
static GOOD: LazyLock<[Good; 3]> = LazyLock::new(|| {
    let file = Temporary::new();
    let mut store = Redb::open(&file.0, peer(0)).expect("there is room");
    for n in 0..8u8 {
        let value = vec![n; 20 + usize::from(n) * 200];
        store.put(WALL, Record::new(vec![0, n], value.clone())).expect("there is room");
        let other = Record { expires: Some(WALL + HOUR), ..Record::new(vec![1, n], value) };
        let source = Source { peer: peer(2), group: Some(IpGroup::V4([1, n])), hands_on: n % 2 == 0 };
        store.put_from(WALL, other, source).expect("there is room");
        let said = ProviderRecord { expires: Some(WALL + HOUR), ..provider(n, 1 + n % 2) };
        store.add_provider_from(WALL, said, source).expect("there is room");
    }
    store.add_provider(WALL, provider(7, 0)).expect("there is room");
    store.sync().expect("the disk works");
    store.save_peers(&[PeerInfo { peer_id: peer(1), addrs: vec![address()] }]).expect("there is room");
    store.sync().expect("the disk works");
    // The database may go back by a commit if it was not closed: to one in which the same stood.
    store.put(WALL, Record::new(vec![0, 7], vec![7; 1420])).expect("there is room");
    store.sync().expect("the disk works");
    let held = Held::of(&store);
    let crashed = fs::read(&file.0).expect("it is there");
    drop(store);
    let closed = fs::read(&file.0).expect("it is there");
    fs::write(&file.0, FIRST).expect("there is room");
    let first = Held::of(&Redb::open(&file.0, peer(0)).expect("it is whole"));
    [
        Good { bytes: crashed, held: held.clone() },
        Good { bytes: closed, held },
        Good { bytes: FIRST.to_vec(), held: first },
    ]
});

fn address() -> libp2p_core::Multiaddr {
    "/ip4/1.2.3.4/tcp/5".parse().expect("it is one")
}

fn provider(key: u8, of: u8) -> ProviderRecord {
    ProviderRecord::new(RecordKey::new(&[key]), peer(of), vec![address()])
}

/// Opens the bytes as a store: they are refused and stay as they are, or the store works and its file is whole again.
pub fn store(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let file = Temporary::new();
    let good = match kind % 8 {
        0 => {
            fs::write(&file.0, rest).expect("there is room");
            None
        }
        1..=3 => {
            // What was written here can be read; whatever is read can be written again.
            make_file(&file.0, peer(0), rows(rest)).expect("there is room");
            None
        }
        of => {
            let good = &GOOD[usize::from(of) % 3];
            fs::write(&file.0, damaged(&good.bytes, rest)).expect("there is room");
            Some(good)
        }
    };
    let before = fs::read(&file.0).expect("it is there");
    let Ok(store) = Redb::open(&file.0, peer(0)) else {
        assert!(fs::read(&file.0).expect("it is there") == before, "what is not opened is changed");
        assert!(!file.beside().exists(), "something is left beside it");
        return;
    };
    let held = Held::of(&store);
    if let Some(good) = good {
        assert!(held.is_within(&good.held), "what was never stored is served");
        let missing = good.held.records.len() + good.held.providers.len() + good.held.peers.len()
            - held.records.len()
            - held.providers.len()
            - held.peers.len();
        // Of a table that nothing is left of nobody can tell what there was.
        assert!(missing == 0 || store.damaged() > 0, "{missing} are missing");
    }
    goes_on(&file, store, &held);
}

/// Overwrites some bytes, each run led by four bytes of where it begins and one of how long it is; one of 255 cuts the file.
fn damaged(good: &[u8], mut runs: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    while let Some(([at @ .., len], rest)) = runs.split_first_chunk::<5>() {
        let at = u32::from_le_bytes(*at) as usize % bytes.len();
        if *len == 255 {
            // One without any bytes is taken for new.
            bytes.truncate(at.max(1));
        }
        let (run, rest) = rest.split_at(usize::from(len % 32).min(rest.len()));
        bytes.iter_mut().skip(at).zip(run).for_each(|(old, new)| *old = *new);
        runs = rest;
    }
    bytes
}

/// Reads rows: table, length of the key, length of the row in two bytes, key, row.
fn rows(mut bytes: &[u8]) -> Vec<DoorRow> {
    let mut rows = Vec::new();
    while let Some(([table, key, low, high], rest)) = bytes.split_first_chunk::<4>() {
        let (key, rest) = rest.split_at(usize::from(*key).min(rest.len()));
        let (row, rest) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
        if let Some(again) = rewritten_record(key, row) {
            assert_eq!(rewritten_record(key, &again).as_deref(), Some(&*again));
        }
        rows.push((*table, key.to_vec(), row.to_vec()));
        bytes = rest;
    }
    rows
}

/// The store takes something more, and what is there stays.
fn goes_on(file: &Temporary, mut store: Redb, held: &Held) {
    let own = Record::new("written after the file was opened", "1");
    store.put(WALL, own.clone()).expect("there is room");
    let source = Source { peer: peer(4), group: Some(IpGroup::V4([9, 9])), hands_on: false };
    let other = Record { expires: Some(WALL + HOUR), ..Record::new("written by another", "2") };
    // There may be no room for it, nor for what else others bring.
    drop(store.put_from(WALL, other.clone(), source));
    drop(store.add_provider_from(WALL, provider(200, 5), source));
    store.add_provider(WALL, provider(201, 0)).expect("there is room");
    // Peers are written as a whole: until then what is damaged of them stays.
    store.save_peers(&held.peers).expect("there is room");
    store.sync().expect("the disk works");
    assert_eq!(store.get(WALL, &own.key).expect("it can be read").as_deref(), Some(&own));
    drop(store);

    let mut store = Redb::open(&file.0, peer(0)).expect("it was closed");
    assert_eq!(store.damaged(), 0, "what is damaged was not dropped");
    let mut again = Held::of(&store);
    assert_eq!(again.records.remove(&own.key), Some(own));
    again.records.remove(&other.key);
    assert!(again.is_within(held), "more than there was");
    let ended = store.expire(WALL + HOUR * 1_000_000).expect("the disk works").gone;
    assert!(ended.iter().all(|key| store.records().all(|record| record.key != *key)));
    let late = store.shorten(WALL).expect("the disk works");
    assert!(!late || store.written() > 0);
    for key in store.records().map(|record| record.key.clone()).collect::<Vec<_>>() {
        store.remove(&key).expect("that is always possible");
    }
    store.save_peers(&[]).expect("there is room");
    store.sync().expect("the disk works");
    assert_eq!((store.records().count(), store.usage().records), (0, 0));
}
