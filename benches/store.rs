//! What storing costs: in memory, and on disk in batches, where a commit waits for the disk.

#![expect(clippy::unwrap_used, reason = "a bench")]

use divan::{Bencher, black_box};
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kademlia::Record;
use libp2p_kademlia::addrs::IpGroup;
use libp2p_kademlia::store::{MemoryStore, RecordStore as _, Redb, Source};
use libp2p_kademlia::time::SystemTime;

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

fn main() {
    divan::main();
}

fn peer() -> PeerId {
    PeerId::from_multihash(Multihash::wrap(0, &[1; 32]).unwrap()).unwrap()
}

fn record(n: u32) -> Record {
    Record::new(n.to_be_bytes().to_vec(), vec![7; 1024])
}

fn source(n: u32) -> Source {
    Source { peer: peer(), group: Some(IpGroup::V4([n.to_le_bytes()[0], 0])), hands_on: false }
}

/// A record of a stranger into a store that is full.
#[divan::bench]
fn memory_put_when_full(bencher: Bencher<'_, '_>) {
    let mut store = MemoryStore::new(peer());
    let mut n = 0;
    while n < 40_000 {
        drop(store.put_from(WALL, record(n), source(n)));
        n += 1;
    }
    bencher.bench_local(|| {
        n += 1;
        black_box(store.put_from(WALL, record(n), source(n)))
    });
}

/// A batch of records of 1 KiB, committed: what an answer to a PUT_VALUE waits for at most.
#[divan::bench(args = [1, 16, 256])]
fn redb_batch(bencher: Bencher<'_, '_>, batch: u32) {
    let path = std::env::temp_dir().join(format!("libp2p-kademlia-bench-{}-{batch}", std::process::id()));
    drop(std::fs::remove_file(&path));
    let mut store = Redb::open(&path, peer()).unwrap();
    let mut n = 0;
    bencher.bench_local(|| {
        for _ in 0..batch {
            n += 1;
            store.put(WALL, record(n % 10_000)).unwrap();
        }
        store.sync().unwrap();
    });
    drop(store);
    std::fs::remove_file(&path).unwrap();
}
