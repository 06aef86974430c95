//! What becomes of a damaged file, of one of an earlier or a later format, and of one that is too long.

use std::collections::BTreeMap;

use super::*;
use crate::rng::Rng;
use crate::store::redb::format::{VERSION, caught, write_format};

/// A file of the first format, as its program has left it.
const FIRST: &[u8] = include_bytes!("../../../../tests/redb/format-1.redb");

fn error(path: &Path, local: PeerId) -> String {
    let error = Redb::open(path, local).map(drop).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    error
}

/// Writes a file as a database that is none of the store's affair.
fn tamper(path: &Path, act: impl FnOnce(&::redb::WriteTransaction)) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    act(&write);
    write.commit().unwrap();
}

type Wanted = (BTreeMap<RecordKey, Record>, Vec<ProviderRecord>, Vec<PeerInfo>);

fn wanted(store: &Redb) -> Wanted {
    let all = all(store).into_iter().map(|record| (record.key.clone(), record)).collect();
    let mut said = Vec::new();
    for n in 0..=255u8 {
        said.extend(store.providers(WALL, &RecordKey::new(&[n])).unwrap());
    }
    (all, said, store.load_peers().unwrap())
}

/// Fills a store with what has been changed and removed, too, so that there are old pages in its file.
fn fill(store: &mut Redb) {
    for round in 0..4u8 {
        for n in 0..60u32 {
            let value = vec![round; usize::try_from(20 + n * 7).unwrap()];
            store.put(WALL, Record::new(n.to_be_bytes().to_vec(), value.clone())).unwrap();
            let other =
                Record { expires: Some(WALL + HOUR), ..Record::new(vec![9, n.to_le_bytes()[0]], value) };
            store.put_from(WALL, other, source(1 + n.to_le_bytes()[0] % 50)).unwrap();
            let said = provider(&[n.to_le_bytes()[0]], 1 + round, 1 + u32::from(round));
            store.add_provider_from(WALL, said, source(1 + n.to_le_bytes()[0] % 50)).unwrap();
        }
        store.add_provider(WALL, provider(&[round], 0, 1)).unwrap();
        store.sync().unwrap();
    }
    for n in 0..10u32 {
        store.remove(&n.to_be_bytes().to_vec().into()).unwrap();
        store.remove_provider(&RecordKey::new(&[n.to_le_bytes()[0]]), &peer(0)).unwrap();
    }
    let addrs = vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()];
    store.save_peers(&[PeerInfo { peer_id: peer(1), addrs }]).unwrap();
    store.sync().unwrap();
    // The database may go back by a commit if it was not closed: to one in which the same stood.
    store.put(WALL, Record::new(59u32.to_be_bytes().to_vec(), vec![3; 433])).unwrap();
    store.sync().unwrap();
}

/// How many copies of a file are damaged at once: what takes its time is waiting for the disk.
const AT_ONCE: u32 = 10;

/// Damages copies of a file, and returns how many could be opened, and how many rows were counted as lost of those.
fn damage_at_random(good: &[u8], wanted: &Wanted, seed: u64, times: u32) -> (u32, u64) {
    assert_eq!(times % AT_ONCE, 0);
    std::thread::scope(|scope| {
        let damage = |seed| scope.spawn(move || damage_in_turn(good, wanted, seed, times / AT_ONCE));
        let all: Vec<_> = (0..AT_ONCE).map(|n| damage(seed * 100 + u64::from(n))).collect();
        let found = all.into_iter().map(|one| one.join().expect("it has told why"));
        found.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    })
}

fn damage_in_turn(good: &[u8], wanted: &Wanted, seed: u64, times: u32) -> (u32, u64) {
    let file = File::new();
    let mut rng = Rng::from_u64(seed);
    let (mut opened, mut lost) = (0, 0);
    for round in 0..times {
        let mut bad = good.to_vec();
        for _ in 0..=rng.below(3) {
            let at = usize::try_from(rng.below(bad.len() as u64)).unwrap();
            bad[at] ^= u8::try_from(1 + rng.below(255)).unwrap();
        }
        fs::write(&file.0, &bad).unwrap();
        let tried =
            caught(|| Ok(Redb::open(&file.0, peer(0)))).unwrap_or_else(|_| panic!("{seed} {round}: a panic"));
        let mut store = match tried {
            Ok(store) => store,
            Err(error) => {
                assert!(error.to_string().contains(file.0.to_str().unwrap()), "{seed} {round}: {error}");
                assert_eq!(
                    fs::read(&file.0).unwrap(),
                    bad,
                    "{seed} {round}: what is not opened is not changed"
                );
                continue;
            }
        };
        opened += 1;
        let there = self::wanted(&store);
        for (key, record) in &there.0 {
            assert_eq!(Some(record), wanted.0.get(key), "{seed} {round}: a wrong record");
        }
        assert!(there.1.iter().all(|record| wanted.1.contains(record)), "{seed} {round}: a wrong provider");
        assert!(there.2.iter().all(|peer| wanted.2.contains(peer)), "{seed} {round}: a wrong peer");
        let missing =
            wanted.0.len() - there.0.len() + wanted.1.len() - there.1.len() + wanted.2.len() - there.2.len();
        assert!(store.damaged() >= missing as u64, "{seed} {round}: {} {missing}", store.damaged());
        assert!(missing == 0 || store.damaged() < 1000, "{seed} {round}: {}", store.damaged());
        lost += missing as u64;
        // It goes on, and what is there stays.
        store.put(WALL, Record::new("after", "1")).unwrap();
        store.sync().unwrap();
        drop(store);
        let store = Redb::open(&file.0, peer(0)).unwrap();
        assert_eq!((store.records().count(), store.damaged()), (there.0.len() + 1, 0), "{seed} {round}");
    }
    (opened, lost)
}

#[test]
fn of_a_file_with_damaged_bytes_no_wrong_record_is_served_and_what_is_missing_is_counted() {
    let file = File::new();
    let mut store = file.open();
    fill(&mut store);
    let wanted = wanted(&store);
    assert_eq!((wanted.0.len(), wanted.2.len()), (110, 1));
    let crashed = fs::read(&file.0).unwrap();
    drop(store);
    let closed = fs::read(&file.0).unwrap();
    let (opened, lost) = damage_at_random(&closed, &wanted, 1, 150);
    assert!(opened > 100 && lost > 50, "{opened} {lost}");
    let (opened, lost) = damage_at_random(&crashed, &wanted, 2, 150);
    assert!(opened > 100 && lost > 10, "{opened} {lost}");
}

/// Returns where some bytes stand in a file.
fn places(bytes: &[u8], of: &[u8]) -> Vec<usize> {
    bytes.windows(of.len()).enumerate().filter(|(_, window)| *window == of).map(|(at, _)| at).collect()
}

#[test]
fn rows_that_cannot_be_read_are_counted_if_one_of_their_two_tables_says_how_many_there_were() {
    let file = File::new();
    let mut store = file.open();
    let addrs: Vec<Multiaddr> = vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()];
    let peers = (1..6).map(|n| PeerInfo { peer_id: peer(n), addrs: addrs.clone() });
    store.save_peers(&peers.collect::<Vec<_>>()).unwrap();
    drop(store);
    let mut bytes = fs::read(&file.0).unwrap();
    let names = places(&bytes, b"libp2p-kademlia/2/peers/sums");
    let rows = places(&bytes, addrs[0].as_ref());
    assert!(!names.is_empty() && rows.len() >= 5, "{names:?} {rows:?}");
    names.into_iter().for_each(|at| bytes[at] ^= 1);
    // The kind of their pages.
    rows.into_iter().for_each(|at| bytes[at & !0xfff] = 0x20);
    fs::write(&file.0, &bytes).unwrap();
    let store = file.open();
    assert_eq!((store.load_peers().unwrap(), store.damaged()), (Vec::new(), 5));
}

#[test]
fn a_damaged_file_of_the_first_format_serves_no_wrong_record() {
    let file = File::new();
    fs::write(&file.0, FIRST).unwrap();
    let wanted = wanted(&file.open());
    damage_at_random(FIRST, &wanted, 3, 60);
}

#[test]
fn a_file_of_the_first_format_is_brought_to_the_present_one() {
    let file = File::new();
    fs::write(&file.0, FIRST).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&file.0, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for _ in 0..2 {
        let store = file.open();
        assert_eq!((store.damaged(), store.records().count()), (0, 40));
        for n in 0..20u32 {
            let own =
                Record { publisher: Some(peer(0)), ..Record::new(format!("own {n}"), format!("value {n}")) };
            assert_eq!(store.get(WALL, &own.key).unwrap().as_deref(), Some(&own));
            let other = Record {
                expires: Some(WALL + HOUR * (n + 1)),
                publisher: Some(peer(3)),
                ..Record::new(format!("other {n}"), vec![n.to_le_bytes()[0]; 200])
            };
            assert_eq!(store.get(WALL, &other.key).unwrap().as_deref(), Some(&other));
            assert!(store.is_own(&own.key) && !store.is_own(&other.key));
            let group = Some(IpGroup::V4([n.to_le_bytes()[0], 0]));
            assert_eq!(store.index.get(&other.key).unwrap().owner, Ownership::Other(Charge::direct(group)));
        }
        for n in 0..5u8 {
            let said = store.providers(WALL, &RecordKey::new(&[n])).unwrap();
            assert_eq!(said, [provider(&[n], 0, 1), provider(&[n], 1 + n, 2)]);
        }
        assert_eq!(store.load_peers().unwrap().len(), 1);
        drop(store);
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file.0).unwrap().permissions()) & 0o777,
            0o600,
            "whoever may not read it still may not"
        );
        let beside = file.0.with_file_name(format!("{}.new", file.0.file_name().unwrap().to_str().unwrap()));
        assert!(!beside.exists());
    }
    tamper(&file.0, |write| {
        let names: Vec<_> =
            write.list_tables().unwrap().map(|table| ::redb::TableHandle::name(&table).to_owned()).collect();
        assert!(names.iter().all(|name| !name.starts_with("libp2p-kademlia/1/")), "{names:?}");
    });
}

#[test]
fn the_file_of_another_node_is_refused_and_both_are_named() {
    let file = File::new();
    let mut store = file.open();
    store.put(WALL, Record::new("key", "1")).unwrap();
    drop(store);
    let before = fs::read(&file.0).unwrap();
    let error = error(&file.0, peer(1));
    assert!(error.contains(&peer(0).to_string()) && error.contains(&peer(1).to_string()), "{error}");
    assert_eq!(fs::read(&file.0).unwrap(), before);
    assert_eq!(all(&file.open()).len(), 1);
}

#[test]
fn a_file_of_a_newer_format_is_refused_and_not_touched_even_after_a_crash() {
    let file = File::new();
    drop(file.open());
    let newer = |write: &::redb::WriteTransaction| write_format(write, VERSION + 1, &peer(0)).unwrap();
    tamper(&file.0, newer);
    let database = Database::create(&file.0).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(TableDefinition::<u64, u64>::new("libp2p-kademlia/3/news"))
        .unwrap()
        .insert(1, 2)
        .unwrap();
    write.commit().unwrap();
    let crashed = fs::read(&file.0).unwrap();
    drop(database);
    for before in [fs::read(&file.0).unwrap(), crashed] {
        fs::write(&file.0, &before).unwrap();
        let error = error(&file.0, peer(0));
        assert!(error.contains(&format!("format {}", VERSION + 1)), "{error}");
        assert_eq!(fs::read(&file.0).unwrap(), before);
    }
}

#[test]
fn a_row_is_damaged_that_is_under_another_key_in_another_table_or_cannot_be_understood() {
    let file = File::new();
    let mut store = file.open();
    for key in ["moved", "swapped", "lost", "kept"] {
        store.put(WALL, Record::new(key, key)).unwrap();
    }
    store.add_provider(WALL, provider(b"key", 0, 1)).unwrap();
    store.sync().unwrap();
    drop(store);
    tamper(&file.0, |write| {
        let mut rows = write.open_table(FileTable::Records.rows()).unwrap();
        let mut sums = write.open_table(FileTable::Records.sums()).unwrap();
        let get = |table: &::redb::Table<'_, &'static [u8], &'static [u8]>, key: &str| {
            table.get(key.as_bytes()).unwrap().unwrap().value().to_vec()
        };
        // Of one that is moved the checksum is moved, too.
        let moved = (get(&rows, "moved"), get(&sums, "moved"));
        rows.insert(&b"elsewhere"[..], &moved.0[..]).unwrap();
        sums.insert(&b"elsewhere"[..], &moved.1[..]).unwrap();
        let other = get(&rows, "kept");
        rows.insert(&b"swapped"[..], &other[..]).unwrap();
        rows.remove(&b"lost"[..]).unwrap();
        sums.remove(&b"moved"[..]).unwrap();
        // One of another table.
        let mut others = write.open_table(FileTable::Providers.rows()).unwrap();
        let mut other_sums = write.open_table(FileTable::Providers.sums()).unwrap();
        others.insert(&b"kept"[..], &other[..]).unwrap();
        other_sums.insert(&b"kept"[..], &get(&sums, "kept")[..]).unwrap();
        // A whole one that says nothing.
        let nothing = FileTable::Records.seal(b"nothing", vec![7]);
        rows.insert(&b"nothing"[..], &nothing.row[..]).unwrap();
        sums.insert(&b"nothing"[..], &nothing.sum[..]).unwrap();
    });
    let mut store = file.open();
    assert_eq!(all(&store), [Record::new("kept", "kept")]);
    assert_eq!(provided(&store), [provider(b"key", 0, 1)]);
    assert_eq!(store.damaged(), 6);
    // It is dropped, and counted once.
    store.sync().unwrap();
    drop(store);
    let store = file.open();
    assert_eq!((store.damaged(), all(&store).len()), (0, 1));
}

#[test]
fn a_record_that_is_damaged_beneath_an_open_store_is_dropped_and_counted_once() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap();
    for n in 0..200u8 {
        store.put(WALL, Record::new(vec![n], vec![n; 3000])).unwrap();
    }
    store.sync().unwrap();
    disk.damage(&[1; 100], &[2; 3]);
    for _ in 0..2 {
        assert!(store.get(WALL, &vec![1].into()).unwrap().is_none());
        assert_eq!(store.damaged(), 1);
    }
    assert_eq!(store.records().count(), 199);
    assert_eq!(store.expire(WALL).unwrap().gone, [vec![1].into()], "whoever cares for it is told");
    assert!(!store.is_own(&vec![1].into()));
    store.put(WALL, Record::new(vec![1], "anew")).unwrap();
    store.sync().unwrap();
    assert_eq!(store.get(WALL, &vec![1].into()).unwrap().unwrap().value, "anew");
    assert_eq!(store.damaged(), 1);
}

#[test]
fn after_a_panic_while_writing_what_is_there_is_served_and_nothing_more_is_taken() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap();
    store.put(WALL, Record::new("before", "1")).unwrap();
    store.sync().unwrap();
    store.put(WALL, Record::new("meanwhile", "1")).unwrap();
    disk.panic(true);
    store.commit();
    store.rest();
    disk.panic(false);
    store.commit();
    store.rest();
    for error in [
        store.put(WALL, Record::new("after", "1")).unwrap_err(),
        store.put_from(WALL, Record::new("after", "1"), source(1)).unwrap_err(),
        store.add_provider(WALL, provider(b"key", 0, 1)).unwrap_err(),
        store.sync().unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            text.contains("test: ") && text.contains("panicked") && text.contains("nothing is stored"),
            "{text}"
        );
    }
    assert_eq!(store.progress().of(2), Some(false), "whoever waits is told");
    // Nothing of memory is lost, and removing is always possible.
    assert_eq!(store.get(WALL, &"meanwhile".into()).unwrap().unwrap().value, "1");
    store.remove(&"meanwhile".into()).unwrap();
    assert!(store.get(WALL, &"meanwhile".into()).unwrap().is_none());
    drop(store);
    assert_eq!(all(&Redb::open_on(disk.copy(), peer(0)).unwrap()), [Record::new("before", "1")]);
}

#[test]
fn a_panic_while_reading_is_an_error_that_names_the_file_and_what_can_be_read_is_served_again() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap();
    for n in 0..200u8 {
        store.put(WALL, Record::new(vec![n], vec![n; 3000])).unwrap();
    }
    store.sync().unwrap();
    disk.shut();
    disk.panic(true);
    let failed = (0..200u8).find_map(|n| store.get(WALL, &vec![n].into()).err()).unwrap().to_string();
    assert!(failed.contains("test: ") && failed.contains("panicked"), "{failed}");
    assert!(store.put(WALL, Record::new("after", "1")).is_err());
    store.rest();
    disk.panic(false);
    disk.open();
    drop(store);
    assert_eq!(Redb::open_on(disk.copy(), peer(0)).unwrap().records().count(), 200);
}

#[test]
fn after_a_disk_has_failed_the_file_is_opened_anew_and_all_is_written() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap();
    store.put(WALL, Record::new("before", "1")).unwrap();
    store.sync().unwrap();
    disk.fail();
    store.put(WALL, Record::new("meanwhile", "1")).unwrap();
    for _ in 0..3 {
        assert!(store.sync().unwrap_err().to_string().contains("the disk has failed"));
        assert_eq!(store.get(WALL, &"meanwhile".into()).unwrap().unwrap().value, "1");
    }
    disk.heal();
    store.sync().unwrap();
    assert!(!is_dirty(&store));
    for key in ["before", "meanwhile"] {
        assert_eq!(store.get(WALL, &key.into()).unwrap().unwrap().value, "1");
    }
    drop(store);
    assert_eq!(all(&Redb::open_on(disk.copy(), peer(0)).unwrap()).len(), 2);
}

fn long(n: u32) -> Record {
    Record::new(n.to_be_bytes().to_vec(), vec![n.to_le_bytes()[0]; 1000])
}

/// Puts so many records and removes all but every so many, and returns how long the file may be.
fn swell(store: &mut Redb, all: u32, kept: usize) -> u64 {
    for n in 0..all {
        while store.put(WALL, long(n)).is_err() {
            store.sync().unwrap();
        }
    }
    store.sync().unwrap();
    for n in (0..all).filter(|n| n % (all / u32::try_from(kept).unwrap()) != 0) {
        store.remove(&n.to_be_bytes().to_vec().into()).unwrap();
    }
    2 * 1100 * kept as u64 + (1 << 20)
}

#[test]
fn a_file_shrinks_while_nothing_is_to_be_written_and_what_is_changed_meanwhile_is_in_it() {
    let file = File::new();
    let mut store = file.open();
    let most = swell(&mut store, 16_000, 1000);
    assert!(fs::metadata(&file.0).unwrap().len() > 4 * most);
    // What is written while it is being made smaller is written to both.
    let mut len = u64::MAX;
    for n in 0..10_000u32 {
        store.put(WALL, Record::new(vec![1, 2, 3], n.to_be_bytes().to_vec())).unwrap();
        store.sync().unwrap();
        assert_eq!(
            store.get(WALL, &long(0).key).unwrap().as_deref(),
            Some(&long(0)),
            "it can be read meanwhile"
        );
        len = fs::metadata(&file.0).unwrap().len();
        if len <= most {
            break;
        }
    }
    store.rest();
    assert!(len.min(fs::metadata(&file.0).unwrap().len()) <= most, "{len}");
    let kept = all(&store);
    assert_eq!(kept.len(), 1001);
    store.put(WALL, Record::new("after", "1")).unwrap();
    drop(store);
    let store = file.open();
    assert_eq!((all(&store).len(), store.damaged()), (1002, 0));
    assert!(kept.iter().all(|record| store.get(WALL, &record.key).unwrap().as_deref() == Some(record)));
}

#[test]
fn a_file_that_was_left_too_long_shrinks_when_it_is_opened() {
    let file = File::new();
    let mut store = file.open();
    let most = swell(&mut store, 8000, 500);
    // It ends with the last commit, before anything else is done.
    drop(store);
    let store = file.open();
    store.rest();
    assert_eq!(store.records().count(), 500);
    assert!(fs::metadata(&file.0).unwrap().len() <= most, "{most}");
}
