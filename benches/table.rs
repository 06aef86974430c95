//! The routing table: the key of a peer id, and the closest 20 of a table filled from 100,000 random ids.
//!
//! Figures of one run stand in docs/costs.md.

#![expect(clippy::unwrap_used, reason = "a bench")]

use divan::{AllocProfiler, Bencher, black_box};
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kad as kad;
use libp2p_kademlia::addrs::Groups;
use libp2p_kademlia::dht::Dht;
use libp2p_kademlia::routing::{Table, TableConfig};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::time::{Now, SystemTime};
use libp2p_kademlia::{Addresses, Config, KBucketKey, Key};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A peer id like those of ed25519 keys.
fn peer(n: u32) -> PeerId {
    let mut digest = vec![0x08, 0x01, 0x12, 0x20];
    digest.extend(Key::sha256(&n.to_le_bytes()).as_bytes());
    PeerId::from_multihash(Multihash::wrap(0, &digest).unwrap()).unwrap()
}

const LOCAL: u32 = 0;

fn table() -> Table {
    let mut table = Table::new(Key::of_peer(&peer(LOCAL), Key::sha256), TableConfig::default());
    // The one clock reading that every instant of the table is counted from.
    let now = std::hint::black_box(start());
    for n in 1..=100_000 {
        let (id, address) = (peer(n), "/ip4/127.0.0.1/tcp/4001".parse().unwrap());
        table.insert(
            now,
            Key::of_peer(&id, Key::sha256),
            id,
            Addresses::collect(&id, [address]),
            Groups::default(),
        );
    }
    table
}

#[expect(clippy::disallowed_methods, reason = "a bench: nothing depends on the time")]
fn start() -> libp2p_kademlia::time::Instant {
    libp2p_kademlia::time::Instant::now()
}

fn far() -> Key {
    let mut bytes = *Key::of_peer(&peer(LOCAL), Key::sha256).as_bytes();
    bytes[0] ^= 0x80;
    Key::from_bytes(bytes)
}

fn near() -> Key {
    let mut bytes = *Key::of_peer(&peer(LOCAL), Key::sha256).as_bytes();
    bytes[31] ^= 1;
    Key::from_bytes(bytes)
}

#[divan::bench]
fn key_of_a_peer_id(bencher: Bencher<'_, '_>) {
    let id = peer(1);
    bencher.bench(|| Key::of_peer(black_box(&id), Key::sha256));
}

#[divan::bench]
fn key_of_a_peer_id_libp2p_kad(bencher: Bencher<'_, '_>) {
    let id = peer(1);
    bencher.bench(|| kad::KBucketKey::from(*black_box(&id)));
}

#[divan::bench]
fn closest_20_far(bencher: Bencher<'_, '_>) {
    let (table, target) = (table(), far());
    bencher.bench(|| table.closest(black_box(&target)).take(20).fold(0, |sum, entry| sum + entry.failures()));
}

#[divan::bench]
fn closest_20_near(bencher: Bencher<'_, '_>) {
    let (table, target) = (table(), near());
    bencher.bench(|| table.closest(black_box(&target)).take(20).fold(0, |sum, entry| sum + entry.failures()));
}

/// `libp2p-kad` shows its table only through its behaviour, whose keys must be hashed from something.
fn kad_behaviour() -> kad::Behaviour<kad::store::MemoryStore> {
    let local = peer(LOCAL);
    let mut config = kad::Config::new(libp2p::StreamProtocol::new("/ipfs/kad/1.0.0"));
    config.set_periodic_bootstrap_interval(None);
    let mut kad = kad::Behaviour::with_config(local, kad::store::MemoryStore::new(local), config);
    for n in 1..=100_000 {
        kad.add_address(&peer(n), "/ip4/127.0.0.1/tcp/4001".parse().unwrap());
    }
    kad
}

#[divan::bench]
fn closest_20_far_libp2p_kad(bencher: Bencher<'_, '_>) {
    let mut kad = kad_behaviour();
    let own = Key::of_peer(&peer(LOCAL), Key::sha256);
    // A peer of the other half of the keyspace.
    let far = (1..).map(peer).find(|id| own.common_prefix(&Key::of_peer(id, Key::sha256)) == 0).unwrap();
    let target = kad::KBucketKey::from(far);
    bencher.bench_local(|| kad.get_closest_local_peers(black_box(&target)).take(20).count());
}

#[divan::bench]
fn closest_20_near_libp2p_kad(bencher: Bencher<'_, '_>) {
    let mut kad = kad_behaviour();
    let target = kad::KBucketKey::from(peer(LOCAL));
    bencher.bench_local(|| kad.get_closest_local_peers(black_box(&target)).take(20).count());
}

#[divan::bench]
fn a_node_with_an_empty_table(bencher: Bencher<'_, '_>) {
    let (local, now) = (peer(LOCAL), Now::new(start(), SystemTime::UNIX_EPOCH));
    let store = || MemoryStore::new(local);
    bencher.bench(|| Dht::new(local, store(), Config::default(), [0; 32], now));
}

#[divan::bench]
fn a_node_with_an_empty_table_libp2p_kad(bencher: Bencher<'_, '_>) {
    let local = peer(LOCAL);
    bencher.bench(|| kad::Behaviour::new(local, kad::store::MemoryStore::new(local)));
}

#[divan::bench]
fn migration_key(bencher: Bencher<'_, '_>) {
    let id = peer(1);
    bencher.bench(|| KBucketKey::from(*black_box(&id)));
}
