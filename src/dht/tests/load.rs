//! What one call may cost: counted, not timed.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::message::SentRecord;
use crate::record::{Quorum, Record, RecordKey};
use crate::store::{Limits, MemoryStoreConfig, RecordStore as _, Source};
use crate::validate::{InvalidRecord, Validator};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

/// Takes every value, and counts how often it is asked to.
struct Counting(Arc<AtomicUsize>);

impl Validator for Counting {
    fn validate(&self, _: SystemTime, _: &RecordKey, _: &[u8]) -> Result<(), InvalidRecord> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }

    fn compare(&self, _: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }
}

#[test]
fn a_late_answer_is_not_validated() {
    let validated = Arc::new(AtomicUsize::new(0));
    let config = quiet().with_validator("n", Counting(validated.clone()));
    let (mut dht, now) = (new_dht(0, config), start());
    admit(&mut dht, now, 1..=5);
    let key = RecordKey::new(b"/n/key");
    let query = dht.get_record(now, key.clone(), Some(Quorum::One));
    let requests = asked(&outputs(&mut dht));
    assert!(requests.len() > 1, "several are asked at once: {requests:?}");
    for (n, (_, id, _)) in requests.into_iter().enumerate() {
        let record = Some(SentRecord::of(Record::new(key.clone(), "value"), WALL));
        let response = Response::GetValue { key: Some(key.clone()), record, closer_peers: vec![] };
        dht.handle_input(now, Input::ResponseReceived { id, response });
        outputs(&mut dht);
        assert!(dht.query(query).is_none(), "the first answer is enough");
        assert_eq!(validated.load(Relaxed), 1, "answer {n}");
    }
}

#[test]
fn queries_beyond_what_is_driven_at_once_stand_in_line_and_none_is_overtaken() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=30);
    let queries: Vec<_> = (0..1000u32).map(|n| dht.find_closest(now, n.to_be_bytes().to_vec())).collect();
    let ids = |out: &[Output]| asked(out).into_iter().map(|(_, id, _)| id).collect::<Vec<_>>();
    let (mut unanswered, mut over) = (VecDeque::from(ids(&outputs(&mut dht))), Vec::new());
    let in_line = dht.stats().queues.queries;
    let mut driven = 1000 - in_line;
    assert!((20..200).contains(&driven), "{driven} are driven");
    assert!(unanswered.len() <= 256 + 8, "{} requests are in flight", unanswered.len());
    for n in 0..100_000 {
        let Some(id) = unanswered.pop_front() else { break };
        name(&mut dht, now, id, &[]);
        let new = outputs(&mut dht);
        over.extend(events(&new).into_iter().filter_map(|event| match event {
            Event::OutboundQueryProgressed { id, step, .. } if step.last => Some(id),
            _ => None,
        }));
        unanswered.extend(ids(&new));
        // What has begun goes on: those that are driven ask all of the closest in the end.
        if n % 16 == 0 {
            let queues = dht.stats().queues;
            driven = driven.max(1000 - queues.queries - over.len() as u64);
            let window = usize::try_from(queues.request_window).unwrap();
            assert!(dht.num_requests() < 2 * window + 1000, "{} of {window}", dht.num_requests());
        }
    }
    assert_eq!(over.len(), 1000, "all end");
    let order = |query: &QueryId| queries.iter().position(|known| known == query).unwrap();
    let overtaken = over.iter().enumerate().map(|(at, query)| order(query).abs_diff(at)).max();
    assert!(overtaken.is_some_and(|by| by <= 2 * usize::try_from(driven).unwrap()), "{overtaken:?}");
    assert_eq!(dht.stats().queues.queries, 0);
}

#[test]
fn a_query_in_line_ends_when_its_time_is_up_and_can_be_cancelled_there() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=30);
    let queries: Vec<_> = (0..1000u32).map(|n| dht.find_closest(now, n.to_be_bytes().to_vec())).collect();
    outputs(&mut dht);
    let last = *queries.last().unwrap();
    dht.cancel(now, last);
    assert!(result_of(&outputs(&mut dht), last).is_some(), "it has not begun");
    let (mut out, mut now) = (Vec::new(), now);
    while let Some(due) = dht.due().filter(|due| due.at <= start() + 70 * SECOND) {
        now = due.at;
        dht.handle_timeout(now);
        out.extend(outputs(&mut dht));
    }
    assert!(now >= start() + 10 * SECOND);
    let ended = queries.iter().filter(|query| result_of(&out, **query).is_some()).count();
    assert_eq!(ended, 999);
    assert_eq!((dht.stats().queues.queries, dht.queries().count()), (0, 0));
}

const RECORDS: u32 = 32 * 1024;

/// A node that holds so many records of others when it begins, which end after `lasts`.
fn with_records(count: u32, config: Config, lasts: Duration) -> Dht<MemoryStore> {
    let limits = Limits { max_records: 64 * 1024, ..Limits::default() };
    let mut store = MemoryStore::with_config(
        peer(0),
        MemoryStoreConfig { records: limits, ..MemoryStoreConfig::default() },
    );
    for n in 0..count {
        let record =
            Record { expires: Some(WALL + lasts), ..Record::new(RecordKey::from(&n.to_be_bytes()), "v") };
        store.put_from(WALL, record, Source { peer: peer(1), group: None, hands_on: false }).unwrap();
    }
    let mut dht = Dht::new(peer(0), store, config, [0; 32], start());
    dht.set_mode(start(), Some(Mode::Server));
    outputs(&mut dht);
    dht
}

/// Peers from far away to near.
fn by_distance(count: usize) -> Vec<usize> {
    let mut peers: Vec<_> = (1..=count).collect();
    peers.sort_by_key(|n| std::cmp::Reverse(key(0).distance(&key(*n))));
    peers
}

/// The records that belong to a newcomer, by a look at all of them.
fn of_newcomer(dht: &Dht<MemoryStore>, n: usize) -> BTreeSet<RecordKey> {
    let (own, theirs, k) = (key(0), key(n), dht.cx.config.bucket_size().get());
    let others: Vec<_> =
        dht.table().entries().filter(|entry| entry.is_live() && !entry.is_of(&peer(n))).collect();
    let belongs = |at: &Key| {
        let mine = at.distance(&own);
        let is_nearest = others.iter().all(|entry| at.distance(entry.key()) > mine);
        let closer = others.iter().filter(|entry| at.distance(entry.key()) < at.distance(&theirs)).count();
        is_nearest && (at.distance(&theirs) < mine || closer < k)
    };
    let records = dht.store().records().map(|record| record.key.clone());
    records.filter(|record| belongs(&Key::sha256(record.as_ref()))).collect()
}

/// Answers whatever the node asks, until it asks nothing more, and returns which records it has put.
fn take_all(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<RecordKey> {
    let mut put = Vec::new();
    loop {
        let out = outputs(dht);
        if out.is_empty() {
            return put;
        }
        for (dial, to, addresses) in dials(&out) {
            let (peer, address, dial) = (to.unwrap(), addresses[0].clone(), Some(dial));
            dht.handle_input(
                now,
                Input::Connected {
                    located: None,
                    peer,
                    connection: ConnectionId(dial.map_or(0, |dial| 1_000_000 + dial.0)),
                    address,
                    dialled: true,
                    dial,
                },
            );
        }
        for (_, id, request) in asked(&out) {
            let response = match request {
                Request::PutValue { record } => {
                    put.push(record.key.clone());
                    Response::PutValue { key: record.key, value: Some(record.value) }
                }
                Request::Ping => Response::Pong,
                _ => Response::FindNode { closer_peers: vec![named_peer(1)] },
            };
            dht.handle_input(now, Input::ResponseReceived { id, response });
        }
    }
}

/// Puts peers into the table, and hands them nothing.
fn fill(dht: &mut Dht<MemoryStore>, peers: impl IntoIterator<Item = usize>) {
    for n in peers {
        let addresses = Addresses::collect(&peer(n), [address(n)]);
        dht.upkeep.table.insert(start().instant, key(n), peer(n), addresses, crate::addrs::Groups::default());
    }
}

/// Lets a server enter the table and take whatever it is sent, and returns that and how many records were looked at; `None`
/// if there is no room for it.
fn enters(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Option<(BTreeSet<RecordKey>, u64)> {
    let before = dht.records.looked_at();
    meet(dht, now, n);
    dht.ping(now, peer(n));
    let sent = take_all(dht, now);
    let (looked_at, set) = (dht.records.looked_at() - before, BTreeSet::from_iter(sent.iter().cloned()));
    assert_eq!(set.len(), sent.len(), "each once");
    dht.table().entry(&key(n), &peer(n))?;
    assert_eq!(set, of_newcomer(dht, n), "peer {n}");
    Some((set, looked_at))
}

const LASTING: Duration = Duration::from_secs(1000 * 3600);

#[test]
fn a_newcomer_makes_the_node_look_at_the_records_that_are_its_own_and_at_few_others() {
    let config = quiet().with_replication_interval(None).unwrap();
    for (records, there, newcomers) in [(2000, 0, 40), (RECORDS, 300, 600)] {
        let mut dht = with_records(records, config.clone(), LASTING);
        fill(&mut dht, 1..=there);
        let (mut sent, mut entered) = (0, 0);
        for n in there + 1..=newcomers {
            let Some((own, looked_at)) = enters(&mut dht, start(), n) else { continue };
            assert!(looked_at <= 2 * own.len() as u64 + 50, "{looked_at} for {}", own.len());
            (sent, entered) = (sent + own.len(), entered + 1);
        }
        assert!(entered >= 20 && sent > 100, "{sent} were sent to {entered}");
    }
}

#[test]
fn a_neighbour_that_flips_its_support_costs_no_more_than_the_records_that_are_its_own() {
    let mut dht = with_records(RECORDS, quiet().with_replication_interval(None).unwrap(), LASTING);
    let mut now = start();
    let peers = by_distance(400);
    fill(&mut dht, peers.iter().copied());
    let inside: Vec<_> =
        peers.into_iter().filter(|n| dht.table().entry(&key(*n), &peer(*n)).is_some()).collect();
    let (near, far) = (inside[inside.len() - 1], inside[0]);
    let mut own = Vec::new();
    for n in [near, far] {
        for _ in 0..20 {
            now += 60 * SECOND;
            dht.handle_input(now, Input::ProtocolUnsupported { peer: peer(n) });
            outputs(&mut dht);
            dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(n) });
            let (handed, looked_at) = enters(&mut dht, now, n).expect("it is there again");
            assert!(looked_at <= 2 * handed.len() as u64 + 50, "{looked_at} for {}", handed.len());
            own.push(handed.len());
        }
    }
    assert!(own[0] > 10 && own[20..].iter().all(|own| *own == 0), "{own:?}");
}

/// A node that asks one peer so many things at once, and what it asks.
fn asking_one(count: usize) -> (Dht<MemoryStore>, Vec<QueryId>, Vec<RequestId>) {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1]);
    let queries = (0..count).map(|n| dht.find_closest(now, n.to_be_bytes().to_vec())).collect();
    let asked = asked(&outputs(&mut dht)).into_iter().map(|(_, id, _)| id).collect();
    (dht, queries, asked)
}

fn refuse(dht: &mut Dht<MemoryStore>, now: Now, id: RequestId) {
    dht.handle_input(now, Input::RequestFailed { id, error: RequestError::StreamEnded });
}

#[test]
fn a_peer_that_refuses_what_is_too_much_is_asked_half_as_much_and_once_more() {
    let (mut dht, queries, ids) = asking_one(16);
    assert_eq!(ids.len(), 16);
    let now = start() + MS;
    let (refused, answered) = ids.split_at(12);
    refused.iter().for_each(|id| refuse(&mut dht, now, *id));
    answered.iter().for_each(|id| name(&mut dht, now, *id, &[]));
    let out = outputs(&mut dht);
    assert!(asked(&out).is_empty(), "nothing is sent before the pause is over");
    let mut over = queries.iter().filter(|query| result_of(&out, **query).is_some()).count();
    assert_eq!(over, 4);
    let (mut out, mut now, goes_on) = (Vec::new(), now, now + 100 * MS);
    while asked(&out).is_empty() {
        now = dht.due().unwrap().at;
        dht.handle_timeout(now);
        out = outputs(&mut dht);
    }
    assert_eq!((now, asked(&out).len()), (goes_on, 8), "half as many");
    let mut rounds = 0;
    while over < 16 {
        let ids = asked(&out).into_iter().map(|(_, id, _)| id).collect::<Vec<_>>();
        assert!(ids.len() <= 10, "{}", ids.len());
        (now, rounds) = (now + MS, rounds + 1);
        ids.iter().for_each(|id| name(&mut dht, now, *id, &[]));
        out = outputs(&mut dht);
        over += queries.iter().filter(|query| result_of(&out, **query).is_some()).count();
    }
    assert_eq!(rounds, 2);
    let entry = dht.table().entry(&key(1), &peer(1)).unwrap();
    assert!(entry.is_live(), "it is as good as before");
    assert_eq!(dht.stats().outbound_requests.find_node.failed, crate::stats::RequestFailures::default());
}

#[test]
fn a_peer_that_refuses_all_of_it_has_failed_after_the_second_time() {
    let (mut dht, queries, ids) = asking_one(48);
    assert_eq!(ids.len(), 32, "the others wait");
    let mut now = start() + MS;
    ids.iter().for_each(|id| refuse(&mut dht, now, *id));
    let (mut sent, mut over) = (ids.len(), BTreeSet::<QueryId>::new());
    while over.len() < queries.len() {
        let out = outputs(&mut dht);
        over.extend(queries.iter().filter(|query| result_of(&out, **query).is_some()));
        let requests = asked(&out);
        sent += requests.len();
        requests.iter().for_each(|(_, id, _)| refuse(&mut dht, now, *id));
        if !requests.is_empty() {
            continue;
        }
        let Some(due) = dht.due().filter(|_| over.len() < queries.len()) else { continue };
        now = due.at.max(now);
        dht.handle_timeout(now);
    }
    assert!(now <= start() + SECOND, "nobody waits for the whole time of a request");
    // Besides it is asked whether the connection is dead.
    assert!(sent <= 32 + 16 + 1, "half of them once more: {sent}");
    let failed = dht.stats().outbound_requests.find_node.failed;
    assert!(
        (48..=49).contains(&failed.stream_ended) && failed.overloaded + failed.timeout == 0,
        "{failed:?}"
    );
    assert!(dht.table().entry(&key(1), &peer(1)).is_none_or(|entry| !entry.is_live()));
}

#[test]
fn a_peer_that_answers_half_of_what_is_asked_again_is_blamed_for_nothing() {
    let (mut dht, _, ids) = asking_one(32);
    let mut now = start() + MS;
    ids.iter().for_each(|id| refuse(&mut dht, now, *id));
    let mut again = Vec::new();
    // Before that it is asked whether the connection is dead.
    while again.len() < 2 {
        again.iter().for_each(|(_, id, _)| name(&mut dht, now, *id, &[]));
        now = dht.due().unwrap().at;
        dht.handle_timeout(now);
        again = asked(&outputs(&mut dht));
    }
    assert_eq!(again.len(), 16);
    for (at, (_, id, _)) in again.into_iter().enumerate() {
        if at % 2 == 0 { name(&mut dht, now, id, &[]) } else { refuse(&mut dht, now, id) }
    }
    let failed = dht.stats().outbound_requests.find_node.failed;
    assert_eq!((failed.refused, failed.stream_ended), (8, 0));
    assert!(dht.table().entry(&key(1), &peer(1)).unwrap().is_live());
    // And the rest goes on.
    now = dht.due().unwrap().at;
    while asked(&outputs(&mut dht)).is_empty() {
        assert!(now <= start() + SECOND);
        dht.handle_timeout(now);
        now = dht.due().unwrap().at;
    }
}

#[test]
fn one_that_refuses_the_only_thing_it_is_asked_has_failed_at_once() {
    let (mut dht, queries, ids) = asking_one(1);
    refuse(&mut dht, start(), ids[0]);
    let out = outputs(&mut dht);
    assert!(result_of(&out, queries[0]).is_some() && asked(&out).is_empty());
}

#[test]
fn what_is_handed_to_one_that_leaves_again_ends() {
    let mut dht = with_records(1000, quiet().with_replication_interval(None).unwrap(), LASTING);
    let now = start();
    meet(&mut dht, now, 1);
    let requests = asked(&outputs(&mut dht));
    let [(_, id, _)] = requests[..] else { panic!("it is checked: {requests:?}") };
    name(&mut dht, now, id, &[2]);
    let first = asked(&outputs(&mut dht));
    assert_eq!(first.len(), 16);
    dht.handle_input(now, Input::ProtocolUnsupported { peer: peer(1) });
    outputs(&mut dht);
    for (_, id, _) in first {
        dht.handle_input(now, Input::RequestFailed { id, error: RequestError::StreamEnded });
    }
    assert!(asked(&outputs(&mut dht)).is_empty());
}

#[test]
fn many_records_that_end_at_once_are_dropped_by_and_by() {
    let mut dht = with_records(5000, quiet().with_replication_interval(None).unwrap(), SECOND);
    let (mut now, mut calls) = (start() + SECOND, 0);
    let mut before = 5000;
    while before > 0 {
        dht.handle_timeout(now);
        let left = dht.store().records().count();
        assert!(before - left <= 1024, "{} with one call", before - left);
        assert!(dht.store().get(now.wall, &RecordKey::from(&4999u32.to_be_bytes())).unwrap().is_none());
        (before, calls) = (left, calls + 1);
        let Some(next) = dht.due().filter(|_| left > 0) else { break };
        assert!(next.at > now && next.at <= now + 20 * MS, "it goes on soon");
        now += next.at - now;
    }
    assert_eq!((before, calls, dht.records.num_scheduled()), (0, 5, (0, 0)));
}

#[test]
fn many_records_that_need_not_be_put_anew_are_seen_to_by_and_by() {
    let hour = 3600 * SECOND;
    let config =
        quiet().with_replication_interval(Some(hour)).unwrap().with_grace_period(1000 * hour).unwrap();
    let mut dht = with_records(5000, config, 1000 * hour);
    let mut now = start();
    // So many that most records have more than `k` others nearer to them.
    fill(&mut dht, 1..=400);
    now += 2 * hour;
    let (mut put, mut calls) = (BTreeSet::new(), 0);
    while dht.due().is_some_and(|next| next.at <= now + 20 * MS) && calls < 1000 {
        dht.handle_timeout(now);
        put.extend(take_all(&mut dht, now));
        (now, calls) = (now + 20 * MS, calls + 1);
    }
    // Two hundred and fifty-six are spared between two rests, and any number is put.
    assert!((10..100).contains(&calls), "{calls} calls");
    let near = |n: u32| {
        let key = Key::sha256(&n.to_be_bytes());
        dht.table()
            .closest(&key)
            .nth(20)
            .is_none_or(|entry| key.distance(entry.key()) > key.distance(&dht.cx.local.key))
    };
    let own: BTreeSet<_> =
        (0..5000).filter(|n| near(*n)).map(|n| RecordKey::from(&n.to_be_bytes())).collect();
    assert_eq!(put, own, "and none is forgotten");
}

/// Returns what is to be done up to the first event of a query.
fn until_told(dht: &mut Dht<MemoryStore>, query: QueryId) -> Vec<Output> {
    let mut out = Vec::new();
    while let Some(output) = dht.poll_output() {
        let is_told = !progress(std::slice::from_ref(&output), query).is_empty();
        out.push(output);
        if is_told {
            break;
        }
    }
    out
}

#[test]
fn a_query_waits_until_what_it_has_told_is_taken_so_that_enough_is_enough() {
    let key = RecordKey::new(b"key");
    let provider =
        |n| Response::GetProviders { key: None, provider_peers: vec![named_peer(n)], closer_peers: vec![] };
    let value = |_| {
        let record = Some(SentRecord::of(Record::new(key.clone(), "value"), WALL));
        Response::GetValue { key: Some(key.clone()), record, closer_peers: vec![] }
    };
    let get = |dht: &mut Dht<MemoryStore>| dht.get_record(start(), key.clone(), None);
    let find = |dht: &mut Dht<MemoryStore>| dht.get_providers(start(), key.clone());
    type Begin<'a> = &'a dyn Fn(&mut Dht<MemoryStore>) -> QueryId;
    type Answer<'a> = &'a dyn Fn(usize) -> Response;
    for (begin, answer) in [(&get as Begin<'_>, &value as Answer<'_>), (&find, &provider)] {
        let new = || {
            let mut dht = new_dht(0, quiet());
            admit(&mut dht, start(), 1..=20);
            let query = begin(&mut dht);
            let first = asked(&outputs(&mut dht));
            assert_eq!(first.len(), 4);
            (dht, query, first)
        };
        let now = start();
        // Whoever has enough says so before anybody else is asked, though several have answered meanwhile.
        let (mut dht, query, first) = new();
        for (n, (_, id, _)) in first.iter().enumerate() {
            dht.handle_input(now, Input::ResponseReceived { id: *id, response: answer(100 + n) });
        }
        assert!(asked(&until_told(&mut dht, query)).is_empty(), "it is told first");
        assert!(dht.finish(now, query));
        assert!(asked(&outputs(&mut dht)).is_empty());
        // Whoever has not takes the event, and it goes on by itself.
        let (mut dht, query, first) = new();
        dht.handle_input(now, Input::ResponseReceived { id: first[0].1, response: answer(100) });
        assert!(asked(&until_told(&mut dht, query)).is_empty());
        assert!(!asked(&outputs(&mut dht)).is_empty());
        // One of which nothing is taken ends all the same.
        let (mut dht, query, first) = new();
        dht.handle_input(now, Input::ResponseReceived { id: first[0].1, response: answer(100) });
        let later = now + 3600 * Duration::from_secs(1);
        dht.handle_timeout(later);
        assert!(result_of(&outputs(&mut dht), query).is_some(), "its time is up");
    }
}
