//! What was acknowledged survives `kill -9`: a child process writes, and is killed, again and again.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, whose child speaks to it")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use libp2p_identity::PeerId;
use libp2p_kademlia::store::{RecordStore as _, Redb};
use libp2p_kademlia::time::SystemTime;
use libp2p_kademlia::{ProviderRecord, Record, RecordKey, Rng};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

fn peer() -> PeerId {
    PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[1; 32]).unwrap()).unwrap()
}

fn key(n: u32) -> RecordKey {
    RecordKey::from(&n.to_be_bytes())
}

fn value(n: u32) -> Vec<u8> {
    vec![n.to_le_bytes()[0]; usize::try_from(n % 3000).unwrap()]
}

/// Writes records and provider records in batches and says up to which one they are durable, until it is killed.
///
/// It does not wait for the disk, but for every second batch, and while there is no room: what it says is what is said meanwhile.
fn write_for_ever(path: &str, from: u32) {
    let mut store = Redb::open(path, peer()).unwrap();
    println!("ready");
    let (mut n, mut said) = (from, from);
    // The latest change of each batch, and how far it went.
    let mut batches = Vec::new();
    loop {
        for _ in 0..=n % 16 {
            store.put(WALL, Record::new(key(n), value(n))).unwrap();
            store.add_provider(WALL, ProviderRecord::new(key(n), peer(), vec![])).unwrap();
            n += 1;
        }
        batches.push((store.written(), n));
        store.commit();
        if batches.len() > 1 {
            store.sync().unwrap();
        }
        let progress = store.progress();
        batches.retain(|(change, upto)| {
            let is_durable = progress.of(*change) == Some(true);
            said = if is_durable { *upto } else { said };
            !is_durable
        });
        println!("{said}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let (Ok(path), Ok(from)) = (env::var("STORE"), env::var("FROM")) {
        return write_for_ever(&path, from.parse().unwrap());
    }
    let path: PathBuf = env::temp_dir().join(format!("libp2p-kademlia-killed-{}", std::process::id()));
    drop(fs::remove_file(&path));
    let (mut rng, mut acknowledged) = (Rng::from_u64(1), 0u32);
    for round in 0..24 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["what_was_acknowledged_survives_a_kill", "--exact", "--nocapture"])
            .env("STORE", &path)
            .env("FROM", acknowledged.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness has words of its own before.
        assert!(lines.any(|line| line.unwrap().ends_with("ready")), "round {round}: it could not be opened");
        for _ in 0..rng.below(20) {
            acknowledged = lines.next().unwrap().unwrap().parse().unwrap();
        }
        // What it writes just now may or may not arrive; what it has said is there.
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = line.parse().unwrap_or(acknowledged);
        }
        let store = Redb::open(&path, peer()).unwrap();
        for n in 0..acknowledged {
            let record = store.get(WALL, &key(n)).unwrap();
            assert_eq!(record.map(|record| record.value.to_vec()), Some(value(n)), "round {round}: {n}");
            let provided = store.providers(WALL, &key(n)).unwrap();
            assert_eq!(provided, [ProviderRecord::new(key(n), peer(), vec![])], "round {round}: {n}");
        }
    }
    assert!(acknowledged > 500, "{acknowledged}");
    fs::remove_file(&path).unwrap();
}
