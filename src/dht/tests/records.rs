//! Records: stored, found, corrected, cached, handed over, put anew, ended.

use std::cmp::Ordering;

use super::*;
use crate::config::{Caching, StoreInserts};
use crate::dht::op::{GetRecordError, GetRecordOk, PutRecordError, PutReport};
use crate::error::QueryError;
use crate::event::{HeldId, InboundRequest};
use crate::message::SentRecord;
use crate::record::{PeerRecord, Quorum, Record, RecordKey};
use crate::store::RecordStore as _;
use crate::validate::{InvalidRecord, Validator};

pub(super) const WALL: SystemTime = SystemTime::UNIX_EPOCH;
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Values of one byte, of which the greater is the better.
pub(super) struct Bytewise;

impl Validator for Bytewise {
    fn validate(&self, _: SystemTime, _: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord> {
        if value.len() == 1 { Ok(()) } else { Err(InvalidRecord::new("not one byte")) }
    }

    fn compare(&self, _: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }
}

pub(super) fn validating() -> Config {
    quiet().with_validator("n", Bytewise)
}

pub(super) fn record_key() -> RecordKey {
    RecordKey::new(b"/n/key")
}

pub(super) fn record(value: &'static [u8]) -> Record {
    Record::new(record_key(), value)
}

pub(super) fn sent(value: &'static [u8]) -> SentRecord {
    SentRecord::of(record(value), WALL)
}

/// What a node answers to a PUT_VALUE: `true` if it acknowledges it.
pub(super) fn put(dht: &mut Dht<MemoryStore>, now: Now, from: usize, record: SentRecord) -> bool {
    let request = Request::PutValue { record: record.clone() };
    dht.handle_input(
        now,
        Input::RequestReceived { from: peer(from), connection: conn(from), id: InboundId(7), request },
    );
    verdict(&outputs(dht), &record).expect("it is answered")
}

pub(super) fn verdict(out: &[Output], sent: &SentRecord) -> Option<bool> {
    out.iter().find_map(|output| match output {
        Output::SendResponse { id: InboundId(7), response, .. } => {
            let (key, value) = (sent.key.clone(), Some(sent.value.clone()));
            assert_eq!(*response, Response::PutValue { key, value }, "with key and value, always");
            Some(true)
        }
        Output::RefuseRequest { id: InboundId(7), .. } => Some(false),
        _ => None,
    })
}

pub(super) fn held(dht: &Dht<MemoryStore>, wall: SystemTime) -> Option<Record> {
    dht.store().get(wall, &record_key()).unwrap().map(|record| record.into_owned())
}

/// A network of which all know each other.
fn net(nodes: usize, config: &Config) -> Net {
    let mut net = Net::new(nodes, config);
    net.join_all(10 * MS);
    net.run_for(60 * SECOND);
    net
}

fn joining(config: Config) -> Config {
    config.with_joining(crate::config::Joining::Automatic)
}

fn put_at(net: &mut Net, n: usize, record: Record, quorum: Quorum) -> Result<PutReport, PutRecordError> {
    let id = net.with(n, |dht, now| dht.put_record(now, record, quorum)).unwrap();
    match net.result(n, id).0 {
        QueryResult::PutRecord(result) => result.map(|ok| ok.report),
        other => panic!("{other:?}"),
    }
}

fn get_at(
    net: &mut Net,
    n: usize,
    key: &RecordKey,
    quorum: Option<Quorum>,
) -> Result<(Record, usize), GetRecordError> {
    let id = net.with(n, |dht, now| dht.get_record(now, key.clone(), quorum));
    match net.result(n, id).0 {
        QueryResult::GetRecord(Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, agreed, .. })) => {
            Ok((best, agreed))
        }
        QueryResult::GetRecord(Err(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

/// The numbers of the nodes that hold the record.
fn holders(net: &Net, key: &RecordKey) -> Vec<usize> {
    let holds = |n: &usize| net.nodes[*n].dht.store().get(WALL, key).unwrap().is_some();
    (0..net.nodes.len()).filter(holds).collect()
}

#[test]
fn a_record_is_stored_at_exactly_the_closest_and_found_by_everybody() {
    let mut net = net(60, &joining(Config::default()));
    let key = RecordKey::new(b"some key");
    let report = put_at(&mut net, 3, Record::new(key.clone(), &b"value"[..]), Quorum::All).unwrap();
    let mut stored = report.stored.clone();
    let mut truth = net.truth(3, b"some key", 20);
    stored.sort();
    truth.sort();
    assert_eq!(stored, truth, "exactly the 20 closest");
    assert!(report.refused.is_empty() && report.failed.is_empty() && report.pending.is_empty());
    let mut expected: Vec<_> = truth.iter().map(|id| (0..60).find(|n| peer(*n) == *id).unwrap()).collect();
    expected.push(3);
    expected.sort_unstable();
    assert_eq!(holders(&net, &key), expected, "and the publisher");
    for n in 0..60 {
        let (found, agreed) = get_at(&mut net, n, &key, Some(Quorum::One)).unwrap();
        assert_eq!(
            (found.value.as_ref(), found.publisher, agreed >= 1),
            (&b"value"[..], Some(peer(3)), true)
        );
    }
    let (_, agreed) = get_at(&mut net, 40, &key, Some(Quorum::Majority)).unwrap();
    assert!(agreed >= 11);
}

#[test]
fn a_node_that_is_alone_with_a_record_to_be_put_comes_to_rest() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    dht.put_record(now, record(&[1]), Quorum::One).unwrap();
    for days in 0..5 {
        let later = now + DAY * days;
        dht.handle_timeout(later);
        outputs(&mut dht);
        assert!(dht.due().is_none_or(|deadline| deadline.at > later), "on day {days}");
    }
}

#[test]
fn two_nodes_are_a_network() {
    let mut net = net(2, &joining(Config::default()));
    let key = RecordKey::new(b"k");
    let report = put_at(&mut net, 0, Record::new(key.clone(), &b"v"[..]), Quorum::Majority).unwrap();
    assert_eq!(report.stored, [peer(1)]);
    assert_eq!(get_at(&mut net, 1, &key, Some(Quorum::All)).unwrap().0.value, "v");
    // What nobody has is not found, and who was asked is told.
    let error = get_at(&mut net, 1, &RecordKey::new(b"other"), Some(Quorum::One)).unwrap_err();
    let GetRecordError::NotFound { closest_peers, .. } = error else { panic!("{error:?}") };
    assert_eq!(closest_peers.len(), 1);
}

#[test]
fn alone_a_record_is_kept_and_put_when_somebody_comes() {
    let mut net = Net::new(1, &joining(Config::default()));
    let key = RecordKey::new(b"k");
    let error = put_at(&mut net, 0, Record::new(key.clone(), &b"v"[..]), Quorum::One).unwrap_err();
    assert_eq!(error.query_error(), Some(QueryError::NoKnownPeers));
    assert_eq!(get_at(&mut net, 0, &key, Some(Quorum::One)).unwrap().1, 1, "a local one needs no network");
    let error = get_at(&mut net, 0, &RecordKey::new(b"other"), None).unwrap_err();
    assert_eq!(error.query_error(), Some(QueryError::NoKnownPeers));
    let n = net.add(joining(Config::default()));
    net.add_address(n, 0);
    net.run_for(30 * SECOND);
    assert_eq!(holders(&net, &key), [0, n], "it was handed over");
}

#[test]
fn what_is_not_valid_is_neither_sent_nor_stored_nor_returned() {
    let mut dht = new_dht(0, validating());
    for bad in [record(b"12"), Record::new(b"/other/key".to_vec(), &b"1"[..]), Record::new(vec![], &b"1"[..])]
    {
        let error = dht.put_record(start(), bad.clone(), Quorum::One).unwrap_err();
        assert!(matches!(error, crate::store::Error::Invalid(_)), "{bad:?}");
        let sent = SentRecord::of(bad, WALL);
        if !sent.key.as_ref().is_empty() {
            assert!(!put(&mut dht, start(), 1, sent));
        }
    }
    let ended = Record { expires: Some(WALL), ..record(b"1") };
    assert!(dht.put_record(start(), ended, Quorum::One).is_err());
    assert_eq!(dht.store().records().count(), 0);
    // A peer that answers with such a one has none.
    admit(&mut dht, start(), 1..=1);
    let query = dht.get_record(start(), record_key(), Some(Quorum::One));
    let [(_, id, _)] = asked(&outputs(&mut dht))[..] else { panic!("one is asked") };
    let response = Response::GetValue { key: None, record: Some(sent(b"12")), closer_peers: vec![] };
    dht.handle_input(start(), Input::ResponseReceived { id, response });
    let out = outputs(&mut dht);
    assert!(
        matches!(result_of(&out, query), Some(QueryResult::GetRecord(Err(GetRecordError::NotFound { .. })))),
        "{out:?}"
    );
}

#[test]
fn a_worse_record_is_refused_and_a_better_one_taken_even_for_an_own_one() {
    let (mut dht, now) = (new_dht(0, validating()), start());
    assert!(put(&mut dht, now, 1, sent(b"5")));
    assert!(!put(&mut dht, now, 2, sent(b"4")), "worse");
    assert!(put(&mut dht, now, 2, sent(b"5")), "the same");
    assert_eq!(held(&dht, WALL).unwrap().value, "5");
    dht.put_record(now, record(b"6"), Quorum::One).unwrap();
    outputs(&mut dht);
    assert!(put(&mut dht, now, 1, sent(b"6")), "the same as this node's own");
    assert!(dht.store().is_own(&record_key()));
    assert!(!put(&mut dht, now, 1, sent(b"5")));
    assert!(put(&mut dht, now, 1, sent(b"7")), "somebody has published a better one");
    assert_eq!(
        (held(&dht, WALL).unwrap().value.as_ref(), dht.store().is_own(&record_key())),
        (&b"7"[..], false)
    );
}

#[test]
fn without_a_validator_the_latest_is_kept_but_an_own_record_stays() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    assert!(put(&mut dht, now, 1, sent(b"first")) && put(&mut dht, now, 2, sent(b"second")));
    assert_eq!(held(&dht, WALL).unwrap().value, "second");
    dht.put_record(now, record(b"own"), Quorum::One).unwrap();
    outputs(&mut dht);
    assert!(!put(&mut dht, now, 1, sent(b"third")));
    // Whoever claims that this node has published it is not believed.
    dht.remove_record(now, &record_key()).unwrap();
    assert!(put(&mut dht, now, 1, SentRecord { publisher: Some(peer(0)), ..sent(b"forged") }));
    let publisher = held(&dht, WALL).unwrap().publisher;
    assert_eq!((publisher, dht.store().is_own(&record_key())), (Some(peer(1)), false));
}

#[test]
fn a_record_ends_when_it_says_so_or_when_the_configuration_does() {
    let second = SECOND;
    for (ttl, configured, lasts) in [
        (None, Some(DAY), Some(DAY)),
        (Some(HOUR), Some(DAY), Some(HOUR)),
        (Some(30 * DAY), Some(DAY), Some(DAY)),
        (Some(HOUR), None, Some(HOUR)),
        (None, None, None),
    ] {
        let (mut dht, now) = (new_dht(0, quiet().with_record_ttl(configured).unwrap()), start());
        assert!(put(&mut dht, now, 1, SentRecord { ttl, ..sent(b"1") }));
        assert_eq!(held(&dht, WALL).unwrap().expires, lasts.map(|lasts| WALL + lasts));
        let Some(lasts) = lasts else { continue };
        let before = now + lasts - second;
        dht.handle_timeout(before);
        assert_eq!(dht.store().records().count(), 1, "{ttl:?} {configured:?}");
        assert!(dht.due().unwrap().at <= now + lasts);
        dht.handle_timeout(now + lasts);
        assert_eq!(dht.store().records().count(), 0, "nobody had to ask for it");
    }
}

#[test]
fn a_copy_that_ends_soon_does_not_shorten_one_that_lasts() {
    let (mut dht, now) = (new_dht(0, validating()), start());
    assert!(put(&mut dht, now, 1, SentRecord { ttl: Some(10 * HOUR), ..sent(b"1") }));
    assert!(put(&mut dht, now, 2, SentRecord { ttl: Some(HOUR), ..sent(b"1") }));
    assert_eq!(held(&dht, WALL).unwrap().expires, Some(WALL + 10 * HOUR));
    assert!(put(&mut dht, now, 2, SentRecord { ttl: Some(20 * HOUR), ..sent(b"1") }));
    assert_eq!(held(&dht, WALL).unwrap().expires, Some(WALL + 20 * HOUR), "but longer is longer");
    assert!(put(&mut dht, now, 2, SentRecord { ttl: Some(HOUR), ..sent(b"2") }));
    assert_eq!(held(&dht, WALL).unwrap().expires, Some(WALL + HOUR), "and another value is another record");
}

#[test]
fn a_cached_copy_is_not_put_anew() {
    let (mut dht, now) = (new_dht(0, quiet().with_replication_interval(Some(HOUR)).unwrap()), start());
    for n in 1..=300 {
        meet(&mut dht, now, n);
        answer_all(&mut dht, now, &[n + 1]);
        prove(&mut dht, now, n);
    }
    let closer = |dht: &Dht<MemoryStore>, key: &[u8]| {
        let (key, own) = (Key::sha256(key), dht.cx.local.key);
        dht.table().entries().filter(|entry| key.distance(entry.key()) < key.distance(&own)).count()
    };
    let find = |wanted: bool| (0..u32::MAX).find(|n| (closer(&dht, &n.to_be_bytes()) < 5) == wanted).unwrap();
    let (near, far) = (find(true), (0..u32::MAX).find(|n| closer(&dht, &n.to_be_bytes()) > 30).unwrap());
    for n in [near, far] {
        let record =
            Record { expires: Some(WALL + DAY), ..Record::new(RecordKey::from(&n.to_be_bytes()), "v") };
        assert!(put(&mut dht, now, 1, SentRecord::of(record, WALL)));
    }
    dht.handle_timeout(now + 2 * HOUR);
    let keys: Vec<_> = asked(&outputs(&mut dht))
        .into_iter()
        .filter_map(|(_, _, request)| match request {
            Request::FindNode { key } => Some(key),
            _ => None,
        })
        .collect();
    assert!(keys.iter().any(|key| key[..] == near.to_be_bytes()));
    assert!(!keys.iter().any(|key| key[..] == far.to_be_bytes()));
}

#[test]
fn the_more_nodes_are_closer_the_shorter_a_record_is_kept() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    for n in 1..=300 {
        meet(&mut dht, now, n);
        answer_all(&mut dht, now, &[n + 1]);
        prove(&mut dht, now, n);
    }
    assert!(dht.table().len() > 60);
    // As after the lookup of its own id.
    dht.upkeep.size.joined(now.instant, false, &mut dht.cx.rng);
    let (mut least, mut farthest_in_region) = (2 * DAY, 0);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..200u32 {
        let key = RecordKey::new(&n.to_be_bytes());
        let hashed = Key::sha256(key.as_ref());
        let own = hashed.distance(&dht.cx.local.key);
        let closer = dht.table().entries().filter(|entry| hashed.distance(entry.key()) < own).count();
        let record = SentRecord::of(Record::new(key.clone(), &b"v"[..]), WALL);
        assert!(put(&mut dht, now, 1, record), "it is acknowledged, and stored");
        let kept = dht.store().get(WALL, &key).unwrap().unwrap().expires.unwrap();
        let halvings = u32::try_from(closer.saturating_sub(20).min(31)).unwrap();
        let is_in_region = dht.queries_and_parts().1.is_in_region_of(&hashed, 20);
        let expected = if is_in_region { 2 * DAY } else { (2 * DAY / (1 << halvings)).max(60 * SECOND) };
        assert_eq!(kept, WALL + expected, "{closer} are closer");
        farthest_in_region = farthest_in_region.max(if is_in_region { closer } else { 0 });
        least = least.min(expected);
        seen.insert(halvings.min(12));
    }
    assert!(seen.len() > 8 && least == 60 * SECOND, "{seen:?}");
    assert!((21..60).contains(&farthest_in_region), "{farthest_in_region}");
}

#[test]
fn peers_with_a_worse_record_are_corrected_and_the_closest_without_one_caches_it() {
    let (mut dht, now) = (new_dht(0, validating().with_replication_interval(None).unwrap()), start());
    admit(&mut dht, now, 1..=6);
    let query = dht.get_record(now, record_key(), None);
    let by_distance = |dht: &Dht<MemoryStore>| -> Vec<PeerId> {
        dht.table().closest(&Key::sha256(b"/n/key")).map(|entry| entry.peer()).collect()
    };
    let near = by_distance(&dht);
    let values: [Option<&'static [u8]>; 6] = [None, Some(b"3"), Some(b"5"), None, Some(b"4"), Some(b"5")];
    let mut out = outputs(&mut dht);
    let mut seen = Vec::new();
    let mut stores = Vec::new();
    for _ in 0..20 {
        for (to, id, request) in asked(&out) {
            if let Request::PutValue { record } = request {
                stores.push((to, record));
                continue;
            }
            let at = near.iter().position(|known| *known == to).unwrap();
            let record = values[at].map(|value| SentRecord { ttl: Some(HOUR), ..sent(value) });
            let response = Response::GetValue { key: Some(record_key()), record, closer_peers: vec![] };
            dht.handle_input(now, Input::ResponseReceived { id, response });
        }
        seen.extend(out);
        out = outputs(&mut dht);
    }
    let steps = progress(&seen, query);
    let found: Vec<_> = steps
        .iter()
        .filter_map(|(result, _, _)| match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(PeerRecord { peer, record }))) => {
                Some((peer.unwrap(), record.value.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), 4, "every record with its source");
    let Some((
        QueryResult::GetRecord(Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, agreed, .. })),
        _,
        _,
    )) = steps.last()
    else {
        panic!("{steps:?}")
    };
    assert_eq!((best.value.as_ref(), *agreed), (&b"5"[..], 2));
    stores.sort_by_key(|(to, _)| near.iter().position(|known| known == to));
    let to: Vec<_> = stores.iter().map(|(to, record)| (*to, record.value.clone())).collect();
    let five = bytes::Bytes::from_static(b"5");
    assert_eq!(to, [(near[0], five.clone()), (near[1], five.clone()), (near[4], five)]);
    assert!(stores.iter().all(|(_, record)| record.ttl == Some(HOUR)), "the time that is left: {stores:?}");
}

#[test]
fn neither_a_record_of_another_key_nor_a_crowd_of_made_up_peers_derails_a_search() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=3);
    let query = dht.get_record(now, record_key(), Some(Quorum::One));
    let (mut out, mut asked_of) = (outputs(&mut dht), Vec::new());
    let mut seen = Vec::new();
    while result_of(&seen, query).is_none() {
        let requests = asked(&out);
        assert!(!requests.is_empty() || !dials(&out).is_empty(), "it goes on");
        for (to, id, _) in requests {
            let at = asked_of.len();
            asked_of.push(to);
            let response = match at {
                // A record of another key.
                0 => {
                    let other = SentRecord::of(Record::new("/n/other", "wrong"), WALL);
                    Response::GetValue { key: None, record: Some(other), closer_peers: vec![] }
                }
                // Three hundred peers that nobody can reach.
                1 => {
                    let closer_peers = (1000..1300).map(named_peer).collect();
                    Response::GetValue { key: Some(record_key()), record: None, closer_peers }
                }
                _ => Response::GetValue { key: None, record: Some(sent(b"right")), closer_peers: vec![] },
            };
            dht.handle_input(now, Input::ResponseReceived { id, response });
        }
        for (id, peer, _) in dials(&out) {
            let (error, dial) = (unreachable(), Some(id));
            dht.handle_input(now, Input::DialFailed { dial, peer, error });
        }
        seen.extend(out);
        out = outputs(&mut dht);
        seen.extend(out.iter().cloned());
    }
    let Some(QueryResult::GetRecord(Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, .. }))) =
        result_of(&seen, query)
    else {
        panic!("{:?}", result_of(&seen, query))
    };
    assert_eq!(best.value, "right");
}

#[test]
fn caching_can_be_turned_off() {
    let (mut dht, now) = (new_dht(0, quiet().with_caching(Caching::Disabled)), start());
    admit(&mut dht, now, 1..=2);
    dht.get_record(now, record_key(), Some(Quorum::One));
    for (n, (_, id, _)) in asked(&outputs(&mut dht)).into_iter().enumerate() {
        let record = (n == 1).then(|| sent(b"1"));
        let response = Response::GetValue { key: None, record, closer_peers: vec![] };
        dht.handle_input(now, Input::ResponseReceived { id, response });
    }
    assert!(asked(&outputs(&mut dht)).is_empty());
}

#[test]
fn a_quorum_that_is_not_reached_says_what_there_was() {
    let (mut dht, now) = (new_dht(0, validating()), start());
    admit(&mut dht, now, 1..=3);
    let query = dht.get_record(now, record_key(), Some(Quorum::All));
    let values: [&'static [u8]; 3] = [b"1", b"2", b"2"];
    for (n, (_, id, _)) in asked(&outputs(&mut dht)).into_iter().enumerate() {
        let response = Response::GetValue { key: None, record: Some(sent(values[n])), closer_peers: vec![] };
        dht.handle_input(now, Input::ResponseReceived { id, response });
    }
    let out = outputs(&mut dht);
    let Some(QueryResult::GetRecord(Err(GetRecordError::QuorumFailed { records, agreed, quorum, .. }))) =
        result_of(&out, query)
    else {
        panic!("{out:?}")
    };
    assert_eq!((agreed, quorum.get()), (2, 3));
    let values: Vec<_> = records.iter().map(|found| found.record.value.clone()).collect();
    assert_eq!(values, ["2", "2", "1"], "the best first");
}

/// What came of a put to three peers that do as they are told.
fn put_to_three(
    outcomes: [Option<Result<(), RequestError>>; 3],
    quorum: Quorum,
) -> (Option<QueryResult>, Vec<Output>) {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    (1..=3).for_each(|n| meet(&mut dht, now, n));
    outputs(&mut dht);
    let query = dht.put_record_to(now, record(b"1"), [peer(1), peer(2), peer(3), peer(0), peer(1)], quorum);
    let requests = asked(&outputs(&mut dht));
    assert_eq!(requests.len(), 3, "neither to itself nor twice");
    for ((_, id, request), outcome) in requests.into_iter().zip(outcomes) {
        let Request::PutValue { record } = request else { panic!("{request:?}") };
        match outcome {
            Some(Ok(())) => {
                let response = Response::PutValue { key: record.key, value: None };
                dht.handle_input(now, Input::ResponseReceived { id, response });
            }
            Some(Err(RequestError::BadAnswer)) => {
                let response = Response::PutValue { key: record.key, value: Some(b"other"[..].into()) };
                dht.handle_input(now, Input::ResponseReceived { id, response });
            }
            Some(Err(error)) => dht.handle_input(now, Input::RequestFailed { id, error }),
            None => {}
        }
    }
    let mut out = outputs(&mut dht);
    dht.handle_timeout(now + 5 * SECOND);
    out.extend(outputs(&mut dht));
    (result_of(&out, query), out)
}

#[test]
fn a_put_tells_what_became_of_each_peer() {
    let (result, _) = put_to_three(
        [Some(Ok(())), Some(Err(RequestError::StreamEnded)), Some(Err(RequestError::BadAnswer))],
        Quorum::Majority,
    );
    let Some(QueryResult::PutRecord(Err(PutRecordError::QuorumFailed { report, quorum, .. }))) = result
    else {
        panic!("{result:?}")
    };
    assert_eq!((report.stored.len(), report.refused.len(), quorum.get()), (1, 2, 2));
    let (result, _) =
        put_to_three([Some(Ok(())), Some(Err(RequestError::Timeout)), Some(Ok(()))], Quorum::Majority);
    let Some(QueryResult::PutRecord(Ok(ok))) = result else { panic!("{result:?}") };
    assert_eq!(ok.report.stored.len(), 2);
    assert_eq!(ok.report.failed.len(), 1);
    // All twenty stores failed: that is no success.
    let failed = Some(Err(RequestError::Timeout));
    let (result, _) = put_to_three([failed; 3], Quorum::One);
    assert!(
        matches!(result, Some(QueryResult::PutRecord(Err(PutRecordError::QuorumFailed { .. })))),
        "{result:?}"
    );
}

#[test]
fn a_put_to_nobody_or_to_the_dead_says_so() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let query = dht.put_record_to(now, record(b"1"), [peer(0)], Quorum::One);
    let result = result_of(&outputs(&mut dht), query);
    let Some(QueryResult::PutRecord(Err(PutRecordError::QuorumFailed { report, .. }))) = result else {
        panic!("{result:?}")
    };
    assert!(report.is_empty());
    admit(&mut dht, now, 1..=1);
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    let query = dht.put_record(now, record(b"1"), Quorum::One).unwrap();
    let [(dial, ..)] = dials(&outputs(&mut dht))[..] else { panic!("it is dialled") };
    fail_dial(&mut dht, now, dial, 1, unreachable());
    let result = result_of(&outputs(&mut dht), query);
    let Some(QueryResult::PutRecord(Err(PutRecordError::QuorumFailed { report, .. }))) = result else {
        panic!("{result:?}")
    };
    assert_eq!(report.failed, [(peer(1), RequestError::Unreachable)]);
}

#[test]
fn who_is_still_being_dialled_may_have_what_the_others_have_not() {
    for has_it in [true, false] {
        let quick = quiet().with_soft_timeout(50 * MS..=100 * MS).unwrap();
        let (mut dht, now) = (new_dht(0, quick), start());
        admit(&mut dht, now, 1..=2);
        lose(&mut dht, now, 2);
        outputs(&mut dht);
        let query = dht.get_record(now, record_key(), Some(Quorum::One));
        let out = outputs(&mut dht);
        let ([(_, id, _)], [(dial, ..)]) = (&asked(&out)[..], &dials(&out)[..]) else { panic!("{out:?}") };
        let nothing = || Response::GetValue { key: None, record: None, closer_peers: vec![] };
        dht.handle_input(now, Input::ResponseReceived { id: *id, response: nothing() });
        let mut later = now;
        let mut ended = None;
        while ended.is_none() && later < now + 20 * SECOND {
            ended = result_of(&outputs(&mut dht), query);
            let Some(at) = dht.due().map(|deadline| deadline.at).filter(|_| ended.is_none()) else {
                break;
            };
            if has_it && at >= now + SECOND {
                break;
            }
            later = at.max(later);
            dht.handle_timeout(later);
        }
        if has_it {
            assert!(ended.is_none(), "{ended:?}");
            let input = connected_at(2, address(2), true, Some(*dial));
            dht.handle_input(now + SECOND, input);
            let [(_, id, _)] = asked(&outputs(&mut dht))[..] else { panic!("it is asked") };
            let response = Response::GetValue { key: None, record: Some(sent(b"1")), closer_peers: vec![] };
            dht.handle_input(now + SECOND, Input::ResponseReceived { id, response });
            ended = result_of(&outputs(&mut dht), query);
            assert!(matches!(ended, Some(QueryResult::GetRecord(Ok(_)))), "{ended:?}");
        } else {
            assert!(matches!(ended, Some(QueryResult::GetRecord(Err(GetRecordError::NotFound { .. })))));
            assert!(later >= now + 3 * SECOND && later < now + 4 * SECOND, "{:?}", later - now);
        }
    }
}

/// Lets a node do what is due until some time; fails if time stands still.
pub(super) fn pass(dht: &mut Dht<MemoryStore>, now: &mut Now, until: Now) -> Vec<Output> {
    let mut all = outputs(dht);
    while let Some(deadline) = dht.due().filter(|deadline| deadline.at <= until) {
        *now = deadline.at.max(*now);
        dht.handle_timeout(*now);
        let next = dht.due();
        assert!(next.is_none_or(|next| next.at > *now), "{next:?} at {now:?}");
        all.extend(outputs(dht));
    }
    *now = until;
    all
}

#[test]
fn time_moves_on_when_the_last_slow_peer_names_somebody_who_is_silent() {
    for late in [1500, 2200, 2900] {
        for providers in [false, true] {
            let quick = quiet().with_soft_timeout(50 * MS..=100 * MS).unwrap();
            let (mut dht, mut now) = (new_dht(0, quick), start());
            admit(&mut dht, now, 1..=2);
            outputs(&mut dht);
            let (query, nothing) = if providers {
                let nothing =
                    |closer_peers| Response::GetProviders { key: None, provider_peers: vec![], closer_peers };
                (dht.get_providers(now, record_key()), nothing as fn(_) -> _)
            } else {
                let nothing = |closer_peers| Response::GetValue { key: None, record: None, closer_peers };
                (dht.get_record(now, record_key(), None), nothing as fn(_) -> _)
            };
            let out = outputs(&mut dht);
            let [(_, first, _), (_, slow, _)] = asked(&out)[..] else { panic!("{out:?}") };
            dht.handle_input(now, Input::ResponseReceived { id: first, response: nothing(vec![]) });
            let answers_at = now + late * MS;
            let out = pass(&mut dht, &mut now, answers_at);
            assert!(result_of(&out, query).is_none(), "the slow one is awaited");
            dht.handle_input(
                now,
                Input::ResponseReceived { id: slow, response: nothing(vec![named_peer(3)]) },
            );
            let until = now + 20 * SECOND;
            let out = pass(&mut dht, &mut now, until);
            assert!(result_of(&out, query).is_some(), "it has ended: {out:?}");
        }
    }
}

#[test]
fn a_refusal_is_no_failure_of_the_peer() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=1);
    dht.put_record_to(now, record(b"1"), [peer(1)], Quorum::One);
    let [(_, id, _)] = asked(&outputs(&mut dht))[..] else { panic!("it is asked") };
    dht.handle_input(now, Input::RequestFailed { id, error: RequestError::StreamEnded });
    outputs(&mut dht);
    assert_eq!(dht.table().entry(&key(1), &peer(1)).unwrap().failures(), 0);
    assert!(dht.peers.is_worth_asking(now.instant, &peer(1)));
}

#[test]
fn slow_peers_do_not_hold_up_a_put_that_has_its_quorum_and_still_get_the_record() {
    let (result, _) = put_to_three([Some(Ok(())), Some(Ok(())), None], Quorum::Majority);
    let Some(QueryResult::PutRecord(Ok(ok))) = result else { panic!("{result:?}") };
    assert_eq!((ok.report.stored.len(), ok.report.pending.len()), (2, 1));
    let (result, _) = put_to_three([Some(Ok(())), Some(Ok(())), None], Quorum::All);
    assert!(result.is_none(), "the quorum is not reached yet");
}

#[test]
fn whoever_must_be_dialled_first_is_sent_the_record_though_the_quorum_is_reached() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=2);
    lose(&mut dht, now, 2);
    outputs(&mut dht);
    let query = dht.put_record_to(now, record(b"1"), [peer(1), peer(2)], Quorum::One);
    let out = outputs(&mut dht);
    let ([(_, id, Request::PutValue { .. })], [(dial, ..)]) = (&asked(&out)[..], &dials(&out)[..]) else {
        panic!("{out:?}")
    };
    let response = Response::PutValue { key: record_key(), value: None };
    dht.handle_input(now, Input::ResponseReceived { id: *id, response });
    dht.handle_timeout(now + 6 * SECOND);
    let out = outputs(&mut dht);
    assert!(matches!(result_of(&out, query), Some(QueryResult::PutRecord(Ok(_)))), "{out:?}");
    let address = address(2);
    dht.handle_input(now + 7 * SECOND, connected_at(2, address, true, Some(*dial)));
    assert!(
        asked(&outputs(&mut dht))
            .iter()
            .any(|(to, _, request)| *to == peer(2) && matches!(request, Request::PutValue { .. })),
        "nothing is dropped because a dial was needed"
    );
}

#[test]
fn the_application_may_refuse_before_anything_is_answered() {
    let config = quiet().with_record_filtering(StoreInserts::FilterBoth);
    let offer = |dht: &mut Dht<MemoryStore>, now: Now| -> Option<HeldId> {
        let request = Request::PutValue { record: sent(b"1") };
        dht.handle_input(
            now,
            Input::RequestReceived { from: peer(1), connection: conn(1), id: InboundId(7), request },
        );
        let out = outputs(dht);
        let event = events(&out).into_iter().find_map(|event| match event {
            Event::InboundRequest { request: InboundRequest::PutRecord { source, key, record } } => {
                assert_eq!((source, key), (peer(1), record_key()));
                record
            }
            _ => None,
        });
        assert_eq!(verdict(&out, &sent(b"1")), if event.is_some() { None } else { Some(false) });
        event.map(|(id, record)| {
            assert_eq!(record.value, "1");
            id
        })
    };
    let (mut dht, now) = (new_dht(0, config), start());
    let id = offer(&mut dht, now).unwrap();
    assert!(dht.accept_record(now, id).unwrap() && !dht.accept_record(now, id).unwrap());
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), Some(true));
    dht.remove_record(now, &record_key()).unwrap();
    let id = offer(&mut dht, now).unwrap();
    assert!(dht.refuse_record(id) && !dht.refuse_record(id));
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), Some(false));
    // Whoever says nothing for five seconds has refused.
    let id = offer(&mut dht, now).unwrap();
    assert!(dht.due().unwrap().at <= now + 5 * SECOND);
    dht.handle_timeout(now + 5 * SECOND);
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), Some(false));
    assert!(!dht.accept_record(now, id).unwrap());
    // More than can be held are refused at once.
    let later = now + 6 * SECOND;
    assert_eq!((0..100).filter(|_| offer(&mut dht, later).is_some()).count(), 64);
    assert_eq!(dht.store().records().count(), 0);
}

#[test]
fn a_newcomer_gets_what_belongs_to_it_from_the_closest_holder_alone() {
    let config = joining(Config::default()).with_replication_interval(None).unwrap();
    let mut net = net(40, &config);
    let keys: Vec<_> = (0..60u8).map(|n| RecordKey::new(&[n])).collect();
    for (n, key) in keys.iter().enumerate() {
        put_at(&mut net, n % 40, Record::new(key.clone(), &b"v"[..]), Quorum::All).unwrap();
    }
    let newcomer = net.add(config);
    net.add_address(newcomer, 0);
    net.run_for(60 * SECOND);
    let belongs = |key: &RecordKey| {
        let hashed = Key::sha256(key.as_ref());
        let own = hashed.distance(&super::key(newcomer));
        let distance = |n: &usize| hashed.distance(&super::key(*n));
        let closest = (0..40).min_by_key(distance).unwrap();
        // Whoever has no room for the newcomer in its table learns of it when it next puts the record anew.
        (0..40).filter(|n| distance(n) < own).count() < 20 && net.knows(closest, newcomer)
    };
    let (mut handed, mut expected) = (0, 0);
    for key in &keys {
        let has = net.nodes[newcomer].dht.store().get(WALL, key).unwrap().is_some();
        handed += usize::from(has);
        expected += usize::from(belongs(key));
        assert!(!has || belongs(key), "nothing else");
    }
    assert!(expected > 20 && handed == expected, "{handed} of {expected}");
    let puts = net.nodes[newcomer]
        .events
        .iter()
        .filter(|event| matches!(event, Event::InboundRequest { request: InboundRequest::PutRecord { .. } }));
    assert_eq!(puts.count(), expected, "each once");
}

#[test]
fn records_are_put_anew_by_one_holder_for_all() {
    let mut net = net(30, &joining(Config::default()));
    let key = RecordKey::new(b"some key");
    put_at(&mut net, 3, Record::new(key.clone(), &b"v"[..]), Quorum::All).unwrap();
    let stores = |net: &Net| -> usize {
        let is_put = |event: &&Event| {
            matches!(event, Event::InboundRequest { request: InboundRequest::PutRecord { .. } })
        };
        net.nodes.iter().map(|node| node.events.iter().filter(is_put).count()).sum()
    };
    let before = stores(&net);
    assert_eq!(before, 20);
    net.run_for(5 * HOUR);
    let hourly = (stores(&net) - before) as f64 / 5.0;
    assert!((10.0..=40.0).contains(&hourly), "{hourly} an hour, where 20 holders would send 400");
    // Even if the publisher and half of the holders go, it is still there a day later.
    for n in holders(&net, &key).into_iter().take(11) {
        net.kill(n);
    }
    net.run_for(20 * HOUR);
    let origin = (0..30).find(|n| net.nodes[*n].health == Health::Alive).unwrap();
    assert_eq!(get_at(&mut net, origin, &key, Some(Quorum::One)).unwrap().0.value, "v");
}

#[test]
fn the_publisher_puts_its_record_anew_until_it_is_removed() {
    let (mut dht, mut now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=1);
    dht.put_record(now, record(b"1"), Quorum::One).unwrap();
    let mut times = Vec::new();
    let end = now + 3 * DAY;
    while now < end {
        for output in outputs(&mut dht) {
            if let Output::SendRequest { id, request, .. } = output {
                let response = match request {
                    Request::PutValue { record } => {
                        assert_eq!(record.ttl, Some(2 * DAY), "it lasts anew");
                        times.push(now);
                        Response::PutValue { key: record.key, value: None }
                    }
                    _ => Response::FindNode { closer_peers: vec![] },
                };
                dht.handle_input(now, Input::ResponseReceived { id, response });
            }
        }
        let Some(at) = dht.due().map(|deadline| deadline.at) else { break };
        now = at.max(now);
        dht.handle_timeout(now);
    }
    assert!((4..=6).contains(&times.len()), "{} times in three days", times.len());
    let gaps = times.windows(2).map(|two| two[1] - two[0]);
    assert!(gaps.clone().all(|gap| gap <= 22 * HOUR && gap >= 16 * HOUR), "{:?}", gaps.collect::<Vec<_>>());
    dht.remove_record(now, &record_key()).unwrap();
    assert!(held(&dht, WALL).is_none());
}

#[test]
fn a_record_of_ones_own_is_no_lookup_of_its_bucket() {
    let config = quiet().with_refresh_interval(Some(HOUR)).unwrap().with_publication_interval(None).unwrap();
    let (mut dht, now) = (new_dht(0, config.with_grace_period(DAY).unwrap()), start());
    admit(&mut dht, now, 1..=10);
    dht.put_record(now, record(b"1"), Quorum::One).unwrap();
    outputs(&mut dht);
    dht.handle_timeout(now + 10 * SECOND);
    outputs(&mut dht);
    let before = dht.upkeep.refresh.deadline();
    assert!(before.is_some());
    let query = dht.get_record(now + 20 * SECOND, record_key(), Some(Quorum::One));
    let found = result_of(&outputs(&mut dht), query);
    assert!(matches!(found, Some(QueryResult::GetRecord(Ok(_)))), "{found:?}");
    assert_eq!(dht.upkeep.refresh.deadline(), before);
}

#[test]
fn what_has_ended_is_not_remembered_though_the_next_one_is_refused() {
    let limits = crate::store::Limits { max_value_bytes: 3, ..Default::default() };
    let config = crate::store::MemoryStoreConfig { records: limits, ..Default::default() };
    let store = MemoryStore::with_config(peer(0), config);
    let mut dht = Dht::new(peer(0), store, quiet(), [0; 32], start());
    dht.set_mode(start(), Some(Mode::Server));
    outputs(&mut dht);
    assert!(put(&mut dht, start(), 1, SentRecord { ttl: Some(SECOND), ..sent(b"1") }));
    assert_eq!(dht.records.num_scheduled(), (1, 1));
    // Before the node is called for what has ended, somebody puts something that is refused.
    assert!(!put(&mut dht, start() + SECOND, 1, sent(b"long")));
    assert!(put(&mut dht, start() + SECOND, 1, SentRecord::of(Record::new("other", "1"), WALL)));
    assert_eq!((dht.records.num_scheduled(), dht.store().records().count()), ((1, 1), 1));
}

#[test]
fn what_was_accepted_too_late_does_not_take_the_place_of_a_better_one() {
    let config = validating().with_record_filtering(StoreInserts::FilterBoth);
    let (mut dht, now) = (new_dht(0, config), start());
    let mut held_ids = Vec::new();
    for (n, value) in [b"4", b"7"].into_iter().enumerate() {
        let (id, record) = (InboundId(n as u64), sent(value));
        dht.handle_input(
            now,
            Input::RequestReceived {
                from: peer(n),
                connection: conn(n),
                id,
                request: Request::PutValue { record },
            },
        );
        held_ids.extend(events(&outputs(&mut dht)).into_iter().find_map(|event| match event {
            Event::InboundRequest { request: InboundRequest::PutRecord { record: Some((id, _)), .. } } => {
                Some(id)
            }
            _ => None,
        }));
    }
    let [worse, better] = held_ids[..] else { panic!("both are held") };
    assert!(dht.accept_record(now, better).unwrap());
    assert!(outputs(&mut dht).iter().any(|out| matches!(out, Output::SendResponse { id: InboundId(1), .. })));
    assert!(dht.accept_record(now, worse).unwrap());
    assert!(
        outputs(&mut dht).iter().any(|out| matches!(out, Output::RefuseRequest { id: InboundId(0), .. }))
    );
    assert_eq!(held(&dht, WALL).unwrap().value, "7");
}

/// A node alone with so many records that belong to whoever comes.
fn with_records(count: u32) -> Dht<MemoryStore> {
    let mut dht = new_dht(0, quiet().with_replication_interval(None).unwrap());
    for n in 0..count {
        let record = Record::new(RecordKey::from(&n.to_be_bytes()), "v");
        assert!(put(&mut dht, start(), 9, SentRecord::of(record, WALL)));
    }
    dht
}

pub(super) fn puts(out: &[Output]) -> Vec<(RequestId, RecordKey)> {
    let put = |(_, id, request)| match request {
        Request::PutValue { record } => Some((id, record.key)),
        _ => None,
    };
    asked(out).into_iter().filter_map(put).collect()
}

/// Lets a peer enter the table, and returns what it is handed at once.
fn enters(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Vec<(RequestId, RecordKey)> {
    meet(dht, now, n);
    let out = outputs(dht);
    let [(_, id, Request::FindNode { .. })] = asked(&out)[..] else { panic!("it is checked: {out:?}") };
    name(dht, now, id, &[n + 1]);
    puts(&outputs(dht))
}

#[test]
fn handing_over_many_records_leaves_room_for_the_application() {
    let (mut dht, now) = (with_records(2000), start());
    let mut open = enters(&mut dht, now, 1);
    let query = dht.get_record(now, RecordKey::from("other"), None);
    assert!(dht.query(query).is_some(), "there is room for it");
    let mut handed = std::collections::BTreeSet::new();
    while !open.is_empty() {
        assert!(open.len() <= 16, "{} at once", open.len());
        for (id, key) in std::mem::take(&mut open) {
            assert!(handed.insert(key.clone()), "each once");
            let response = Response::PutValue { key, value: None };
            dht.handle_input(now, Input::ResponseReceived { id, response });
            open.extend(puts(&outputs(&mut dht)));
        }
    }
    assert_eq!(handed.len(), 2000);
}

#[test]
fn whoever_does_not_answer_is_handed_nothing_more() {
    for (error, more) in [(RequestError::Timeout, false), (RequestError::StreamEnded, true)] {
        let (mut dht, now) = (with_records(200), start());
        let open = enters(&mut dht, now, 1);
        assert_eq!(open.len(), 16);
        for (id, _) in open {
            dht.handle_input(now, Input::RequestFailed { id, error });
        }
        // One that it refuses says nothing of the others.
        assert_eq!(!puts(&outputs(&mut dht)).is_empty(), more, "{error}");
    }
}

#[test]
fn a_record_that_is_removed_is_put_no_further() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, now, [1, 2, 3]);
    let id = dht.put_record(now, record(b"1"), Quorum::All).unwrap();
    let other = dht.put_record_to(now, record(b"2"), [peer(1)], Quorum::One);
    let out = outputs(&mut dht);
    dht.remove_record(now, &record_key()).unwrap();
    for (_, id, request) in asked(&out) {
        if matches!(request, Request::FindNode { .. }) {
            name(&mut dht, now, id, &[]);
        }
    }
    let out = outputs(&mut dht);
    assert!(matches!(
        result_of(&out, id),
        Some(QueryResult::PutRecord(Err(PutRecordError::Query { cause: QueryError::Cancelled, .. })))
    ));
    assert!(asked(&out).iter().all(|(_, _, request)| !matches!(request, Request::PutValue { .. })));
    assert!(dht.query(other).is_some(), "what was to be stored elsewhere still is");
}
