//! What is told only when it would survive a crash.

use super::*;
use crate::dht::op::PutRecordError;
use crate::error::QueryError;
use crate::message::SentRecord;
use crate::peer::PeerInfo;
use crate::record::{Quorum, Record, RecordKey};
use crate::store::{Disk, Progress, RecordStore as _, Redb};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;
const HOUR: Duration = Duration::from_secs(3600);

fn on(disk: &Disk) -> Dht<Redb> {
    let mut dht = Dht::new(peer(0), Redb::open_on(disk.clone(), peer(0)).unwrap(), quiet(), [0; 32], start());
    dht.set_mode(start(), Some(Mode::Server));
    all(&mut dht);
    dht
}

fn all(dht: &mut Dht<Redb>) -> Vec<Output> {
    std::iter::from_fn(|| dht.poll_output()).collect()
}

fn put(dht: &mut Dht<Redb>, now: Now, n: u64) {
    let record = SentRecord::of(Record::new(RecordKey::from(&n.to_be_bytes()), "v"), WALL);
    let (id, request) = (InboundId(n), Request::PutValue { record });
    dht.handle_input(now, Input::RequestReceived { from: peer(1), connection: conn(1), id, request });
}

/// The requests that were answered, and those that were refused.
fn answered(dht: &mut Dht<Redb>) -> (Vec<u64>, Vec<u64>) {
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    for output in all(dht) {
        match output {
            Output::SendResponse { id, .. } => yes.push(id.0),
            Output::RefuseRequest { id, .. } => no.push(id.0),
            _ => {}
        }
    }
    (yes, no)
}

fn advance(dht: &mut Dht<Redb>, now: Now, durable: u64, tried: u64) {
    dht.handle_input(now, Input::StoreAdvanced { progress: Progress { durable, tried } });
}

/// An answer to a PUT_VALUE says that the record is safe: it waits for the disk, together with others.
#[test]
fn nothing_is_acknowledged_that_a_crash_would_undo() {
    let disk = Disk::default();
    let (mut dht, now) = (on(&disk), start());
    disk.forget_syncs();
    disk.shut();
    put(&mut dht, now, 1);
    put(&mut dht, now + 10 * MS, 2);
    assert_eq!(dht.due().unwrap().at, now + 50 * MS);
    dht.handle_timeout(now + 50 * MS);
    disk.wait_for_sync();
    // The node goes on while the disk does not.
    put(&mut dht, now + 60 * MS, 3);
    assert_eq!(answered(&mut dht), (vec![], vec![]));
    disk.open();
    dht.store().rest();
    assert_eq!(answered(&mut dht), (vec![], vec![]), "it does not know yet");
    let progress = dht.store().progress();
    assert_eq!(progress.of(2), Some(true));
    let left = Redb::open_on(disk.copy(), peer(0)).unwrap();
    assert!(left.records().count() >= 2);
    advance(&mut dht, now + 60 * MS, 2, 2);
    assert_eq!(answered(&mut dht), (vec![1, 2], vec![]));
    let held = dht.stats().held;
    assert_eq!((held.disk, held.disk_waiting, held.disk_latency.count()), (3, 1, 2));
    assert_eq!((held.disk_latency.sum(), held.disk_latency.max()), (110 * MS, 60 * MS));
    // Many do not wait for the time.
    for n in 4..300 {
        put(&mut dht, now + 61 * MS, n);
    }
    dht.store().rest();
    assert!(dht.store().progress().durable >= 258, "{:?}", dht.store().progress());
    assert!(
        !disk.syncs().contains(&std::thread::current().id()),
        "no commit is made where the node is called"
    );
    drop(dht);
    // What was there when the node began is put anew, and ends in time.
    let dht = on(&disk.copy());
    assert_eq!(dht.store().records().count(), 299);
    assert!(dht.records.deadline(true).unwrap() <= (now + HOUR).instant);
}

#[test]
fn what_the_disk_does_not_take_is_refused_and_tried_again() {
    let disk = Disk::default();
    let (mut dht, now) = (on(&disk), start());
    disk.shut();
    for n in 1..=3 {
        put(&mut dht, now, n);
    }
    dht.handle_timeout(now + 50 * MS);
    put(&mut dht, now + 51 * MS, 4);
    advance(&mut dht, now + 52 * MS, 1, 3);
    assert_eq!(answered(&mut dht), (vec![1], vec![2, 3]));
    assert_eq!(dht.due().unwrap().at, now + 52 * MS + SECOND, "somebody waits");
    // It neither goes back nor forgets.
    advance(&mut dht, now + 53 * MS, 0, 0);
    assert_eq!(answered(&mut dht), (vec![], vec![]));
    dht.handle_timeout(now + 31 * SECOND);
    advance(&mut dht, now + 31 * SECOND, 4, 4);
    assert_eq!(answered(&mut dht), (vec![4], vec![]));
    disk.open();
}

#[test]
fn whoever_waits_after_a_commit_has_failed_waits_for_a_second() {
    let disk = Disk::default();
    let (mut dht, now) = (on(&disk), start());
    disk.shut();
    put(&mut dht, now, 1);
    dht.handle_timeout(now + 50 * MS);
    advance(&mut dht, now + 60 * MS, 0, 1);
    assert_eq!(answered(&mut dht), (vec![], vec![1]));
    assert_eq!(dht.due().unwrap().at, now + 60 * MS + 30 * SECOND, "nobody waits");
    put(&mut dht, now + 5 * SECOND, 2);
    assert_eq!(dht.due().unwrap().at, now + 6 * SECOND);
    dht.put_record(now + 7 * SECOND, Record::new("own", "v"), Quorum::One).unwrap();
    dht.handle_timeout(now + 7 * SECOND);
    advance(&mut dht, now + 7 * SECOND, 0, 3);
    dht.put_record(now + 8 * SECOND, Record::new("another", "v"), Quorum::One).unwrap();
    assert!(dht.due().unwrap().at <= now + 9 * SECOND);
    disk.open();
}

#[test]
fn answers_that_wait_for_the_disk_are_bounded() {
    let disk = Disk::default();
    let (mut dht, now) = (on(&disk), start());
    disk.shut();
    for n in 1..=1100 {
        put(&mut dht, now, n);
    }
    let (yes, no) = answered(&mut dht);
    assert_eq!((yes.len(), no), (0, (1025..=1100).collect()));
    assert_eq!(dht.store().records().count(), 1024, "what is refused is not stored");
    advance(&mut dht, now, 1024, 1024);
    assert_eq!(answered(&mut dht).0.len(), 1024);
    disk.open();
}

/// The last result of a query, if it has ended.
fn last(out: &[Output], query: QueryId) -> Option<QueryResult> {
    out.iter().find_map(|output| match output {
        Output::Event(Event::OutboundQueryProgressed { id, result, step, .. })
            if *id == query && step.last =>
        {
            Some(result.clone())
        }
        _ => None,
    })
}

/// Lets a server enter the table of a lone node.
fn admit_one(dht: &mut Dht<Redb>, now: Now) {
    let (address, peer) = (address(1), peer(1));
    dht.handle_input(now, Input::AddressesLearned { peer, addresses: vec![address.clone()] });
    dht.handle_input(
        now,
        Input::Connected { located: None, peer, connection: conn(1), address, dialled: true, dial: None },
    );
    dht.handle_input(now, Input::ProtocolConfirmed { peer });
    answer(dht, now);
    assert_eq!(dht.table().len(), 1);
}

/// Answers whatever the node asks, until it asks nothing more.
fn answer(dht: &mut Dht<Redb>, now: Now) -> Vec<Output> {
    let mut seen = Vec::new();
    loop {
        let out = all(dht);
        if out.is_empty() {
            return seen;
        }
        for (_, id, request) in asked(&out) {
            let response = match request {
                Request::PutValue { record } => {
                    Response::PutValue { key: record.key, value: Some(record.value) }
                }
                _ => Response::FindNode { closer_peers: vec![named_peer(1)] },
            };
            dht.handle_input(now, Input::ResponseReceived { id, response });
        }
        seen.extend(out);
    }
}

#[test]
fn a_put_is_reported_only_when_it_is_safe_here() {
    for (is_alone, is_taken) in [(false, true), (false, false), (true, true), (true, false)] {
        let disk = Disk::default();
        let (mut dht, now) = (on(&disk), start());
        if !is_alone {
            admit_one(&mut dht, now);
        }
        disk.shut();
        let query = dht.put_record(now, Record::new("key", "value"), Quorum::One).unwrap();
        let out = answer(&mut dht, now);
        assert_eq!(
            asked(&out).iter().any(|(_, _, request)| matches!(request, Request::PutValue { .. })),
            !is_alone
        );
        assert!(last(&out, query).is_none(), "others have it, but here it is not safe yet");
        let change = dht.store().written();
        advance(&mut dht, now, if is_taken { change } else { 0 }, change);
        let result = last(&all(&mut dht), query).expect("it is over");
        let QueryResult::PutRecord(result) = result else { panic!("{result:?}") };
        match result {
            Ok(ok) => assert!(is_taken && !is_alone && ok.report.stored == [peer(1)]),
            Err(PutRecordError::Query { cause: QueryError::NoKnownPeers, .. }) => {
                assert!(is_taken && is_alone)
            }
            Err(PutRecordError::Store { .. }) => assert!(!is_taken),
            Err(error) => panic!("{error}"),
        }
        disk.open();
    }
}

#[test]
fn a_put_that_is_ended_early_does_not_claim_to_be_safe_here() {
    let disk = Disk::default();
    let (mut dht, now) = (on(&disk), start());
    admit_one(&mut dht, now);
    disk.shut();
    let query = dht.put_record(now, Record::new("key", "value"), Quorum::One).unwrap();
    answer(&mut dht, now);
    assert!(dht.finish(now, query));
    let result = last(&all(&mut dht), query);
    assert!(matches!(result, Some(QueryResult::PutRecord(Err(PutRecordError::Store { .. })))), "{result:?}");
    advance(&mut dht, now, 1, 1);
    disk.open();
}

#[test]
fn a_node_that_comes_back_meets_those_it_had_longest_before_its_bootstrap_nodes() {
    let disk = Disk::default();
    let mut store = Redb::open_on(disk.clone(), peer(0)).unwrap();
    let saved = [1, 2].map(|n| PeerInfo { peer_id: peer(n), addrs: vec![address(n)] });
    store.save_peers(&saved).unwrap();
    drop(store);
    let store = Redb::open_on(disk.copy(), peer(0)).unwrap();
    let config = Config::default().with_max_dials(std::num::NonZeroUsize::new(2).unwrap());
    let mut dht = Dht::new(peer(0), store, config, [0; 32], start());
    dht.add_address(start(), peer(3), address(3));
    let mut now = start();
    let mut met = Vec::new();
    while met.len() < 3 {
        for (dial, to, _) in dials(&all(&mut dht)) {
            met.extend(to);
            dht.handle_input(now, Input::DialFailed { dial: Some(dial), peer: to, error: unreachable() });
        }
        if let Some(due) = dht.due().filter(|_| met.len() < 3) {
            now = due.at;
            dht.handle_timeout(now);
        }
    }
    assert_eq!(met[..3], [1, 2, 3].map(peer));
}
