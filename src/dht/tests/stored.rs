//! Whose records are stored: two who write one key, what the application decides, and what it stores itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::records::*;
use super::*;
use crate::config::{OwnRecords, StoreInserts};
use crate::event::{HeldId, InboundRequest};
use crate::message::SentRecord;
use crate::record::{ProviderRecord, Quorum, Record, RecordKey};
use crate::store::{Error, Result as Stored};

/// A record as somebody sends it of whom it is.
fn of(publisher: usize, value: &'static [u8]) -> SentRecord {
    SentRecord { publisher: Some(peer(publisher)), ..sent(value) }
}

/// Sends a node a record, and returns whether it is acknowledged and which conflicts the application is told of: from whom,
/// with which value, and whether its own stands.
fn offer(
    dht: &mut Dht<MemoryStore>,
    now: Now,
    from: usize,
    record: SentRecord,
) -> (bool, Vec<(PeerId, Vec<u8>, bool)>) {
    let request = Request::PutValue { record: record.clone() };
    let input =
        Input::RequestReceived { from: peer(from), connection: conn(from), id: InboundId(7), request };
    dht.handle_input(now, input);
    let out = outputs(dht);
    let conflict = |event| match event {
        Event::RecordConflict { source, record, kept } => Some((source, record.value.to_vec(), kept)),
        _ => None,
    };
    (verdict(&out, &record).unwrap(), events(&out).into_iter().filter_map(conflict).collect())
}

fn value(dht: &Dht<MemoryStore>, wall: SystemTime) -> Vec<u8> {
    held(dht, wall).unwrap().value.to_vec()
}

#[test]
fn the_latest_to_put_a_record_itself_stands_and_what_is_handed_on_fills_a_gap() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    assert!(put(&mut dht, now, 1, of(9, b"handed on")), "nothing was there");
    assert!(put(&mut dht, now, 1, sent(b"put")), "by somebody who names nobody");
    assert!(put(&mut dht, now, 2, of(2, b"put by another")));
    assert!(!put(&mut dht, now, 3, of(1, b"put")), "an old one does not come back");
    assert_eq!(value(&dht, WALL), b"put by another");
    // The same lasts, whoever hands it on, but is not put by that.
    let later = now + 21 * HOUR;
    assert!(put(&mut dht, later, 3, of(2, b"put by another")));
    assert_eq!(held(&dht, later.wall).unwrap().publisher, Some(peer(2)));
    assert!(!put(&mut dht, later, 3, of(1, b"put")));
    // Nobody puts it any more.
    let later = now + 22 * HOUR;
    assert!(put(&mut dht, later, 3, of(1, b"put")));
    assert!(put(&mut dht, later, 4, of(2, b"put by another")), "what was handed on stands for nobody");
    assert_eq!(value(&dht, later.wall), b"put by another");
}

#[test]
fn an_own_record_makes_way_as_is_configured_and_the_application_is_told() {
    for own in [OwnRecords::Keep, OwnRecords::Yield] {
        let (mut dht, now) = (new_dht(0, quiet().with_own_records(own)), start());
        dht.put_record(now, record(b"old"), Quorum::One).unwrap();
        dht.put_record(now, record(b"own"), Quorum::One).unwrap();
        outputs(&mut dht);
        assert_eq!(offer(&mut dht, now, 1, of(0, b"own")), (true, vec![]), "its own comes back");
        assert_eq!(offer(&mut dht, now, 1, of(0, b"old")), (false, vec![]), "that is no conflict");
        let told = vec![(peer(1), b"other".to_vec(), true)];
        assert_eq!(
            offer(&mut dht, now, 1, of(2, b"other")),
            (false, told),
            "what is handed on takes nothing"
        );
        let yields = own == OwnRecords::Yield;
        let told = vec![(peer(1), b"other".to_vec(), !yields)];
        assert_eq!(offer(&mut dht, now, 1, sent(b"other")), (yields, told));
        let expected: &[u8] = if yields { b"other" } else { b"own" };
        assert_eq!((value(&dht, WALL), dht.store().is_own(&record_key())), (expected.to_vec(), !yields));
        if yields {
            assert_eq!(offer(&mut dht, now, 2, sent(b"third")), (true, vec![]), "it is not its own any more");
        }
    }
}

#[test]
fn a_better_record_takes_the_place_of_an_own_one_and_the_owner_is_told() {
    for own in [OwnRecords::Keep, OwnRecords::Yield] {
        let (mut dht, now) = (new_dht(0, validating().with_own_records(own)), start());
        dht.put_record(now, record(b"5"), Quorum::One).unwrap();
        outputs(&mut dht);
        assert_eq!(offer(&mut dht, now, 1, of(2, b"4")), (false, vec![]), "nothing becomes of a worse one");
        let told = vec![(peer(1), b"6".to_vec(), false)];
        assert_eq!(offer(&mut dht, now, 1, of(2, b"6")), (true, told));
        assert_eq!((value(&dht, WALL), dht.store().is_own(&record_key())), (b"6".to_vec(), false));
    }
}

#[test]
fn what_is_handed_on_never_looks_as_if_its_holder_had_published_it() {
    let (mut dht, mut now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=2);
    for (n, publisher) in [None, Some(peer(0)), Some(peer(3)), Some(peer(1))].into_iter().enumerate() {
        let record = Record { publisher, ..Record::new(vec![u8::try_from(n).unwrap()], "v") };
        assert!(put(&mut dht, now, 1, SentRecord::of(record, WALL)));
    }
    let mut seen = BTreeMap::new();
    let end = now + 3 * HOUR;
    while let Some(due) = dht.due().filter(|due| due.at <= end) {
        now = due.at.max(now);
        dht.handle_timeout(now);
        while let Some(output) = dht.poll_output() {
            let Output::SendRequest { id, request, .. } = output else { continue };
            let response = match request {
                Request::PutValue { record } => {
                    seen.insert(record.key.to_vec(), record.publisher);
                    Response::PutValue { key: record.key, value: None }
                }
                _ => Response::FindNode { closer_peers: vec![] },
            };
            dht.handle_input(now, Input::ResponseReceived { id, response });
        }
    }
    let expected = [peer(1), peer(1), peer(3), peer(1)].map(Some).into_iter().enumerate();
    assert_eq!(seen, expected.map(|(n, peer)| (vec![u8::try_from(n).unwrap()], peer)).collect());
}

#[test]
fn what_is_found_and_passed_on_names_whoever_had_it() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=2);
    dht.get_record(now, record_key(), None);
    let mut had = None;
    for (n, (to, id, _)) in asked(&outputs(&mut dht)).into_iter().enumerate() {
        let record = (n == 0).then(|| sent(b"1"));
        had = had.or(Some(to));
        let response = Response::GetValue { key: None, record, closer_peers: vec![] };
        dht.handle_input(now, Input::ResponseReceived { id, response });
    }
    let [(_, _, Request::PutValue { record })] = &asked(&outputs(&mut dht))[..] else {
        panic!("it is cached")
    };
    assert_eq!(record.publisher, had);
}

/// Sends a node a record, or a provider record, of which it asks the application.
fn hold(dht: &mut Dht<MemoryStore>, now: Now, from: usize, request: Request) -> Option<HeldId> {
    let input =
        Input::RequestReceived { from: peer(from), connection: conn(from), id: InboundId(7), request };
    dht.handle_input(now, input);
    events(&outputs(dht)).into_iter().find_map(|event| match event {
        Event::InboundRequest { request: InboundRequest::PutRecord { record: Some((id, _)), .. } } => {
            Some(id)
        }
        Event::InboundRequest { request: InboundRequest::AddProvider { record: Some((id, _)), .. } } => {
            Some(id)
        }
        _ => None,
    })
}

fn put_request(value: &'static [u8]) -> Request {
    Request::PutValue { record: sent(value) }
}

fn provide_request(n: usize) -> Request {
    Request::AddProvider { key: RecordKey::new(b"k"), providers: vec![named_peer(n)] }
}

#[test]
fn what_is_held_may_be_stored_changed() {
    let (mut dht, now) = (new_dht(0, validating().with_record_filtering(StoreInserts::FilterBoth)), start());
    let id = hold(&mut dht, now, 1, put_request(b"1")).unwrap();
    let ended = Record { expires: Some(WALL), ..record(b"2") };
    for bad in [Record::new(&b"/n/other"[..], &b"2"[..]), record(b"12"), ended] {
        assert!(matches!(dht.accept_record_as(now, id, bad), Err(Error::Invalid(_))));
    }
    assert!(outputs(&mut dht).is_empty(), "it waits still");
    let changed = Record { expires: Some(WALL + HOUR), publisher: Some(peer(5)), ..record(b"2") };
    assert!(dht.accept_record_as(now, id, changed.clone()).unwrap());
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), Some(true), "as if it had been stored as it came");
    assert_eq!(held(&dht, WALL), Some(changed.clone()));
    assert!(!dht.accept_record_as(now, id, changed).unwrap() && !dht.accept_record(now, id).unwrap());
    // It is never this node's own.
    let id = hold(&mut dht, now, 1, put_request(b"3")).unwrap();
    let ours = Record { publisher: Some(peer(0)), ..record(b"4") };
    assert!(dht.accept_record_as(now, id, ours).unwrap());
    assert_eq!(held(&dht, WALL).unwrap().publisher, Some(peer(1)));
    assert!(!dht.store().is_own(&record_key()));
    // Nor is it better than it is.
    let id = hold(&mut dht, now, 1, put_request(b"7")).unwrap();
    outputs(&mut dht);
    assert!(dht.accept_record_as(now, id, record(b"3")).unwrap());
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"7")), Some(false));
    let provider = hold(&mut dht, now, 1, provide_request(1)).unwrap();
    assert!(matches!(dht.accept_record_as(now, provider, record(b"1")), Err(Error::Invalid(_))));
    assert!(dht.accept_record(now, provider).unwrap());
}

#[test]
fn what_the_store_refuses_is_told_to_whoever_accepts_it() {
    let (mut dht, now) = (new_dht(0, quiet().with_record_filtering(StoreInserts::FilterBoth)), start());
    let id = hold(&mut dht, now, 1, put_request(b"1")).unwrap();
    let large = Record::new(record_key(), vec![0; 65_537]);
    assert!(matches!(dht.accept_record_as(now, id, large.clone()), Err(Error::ValueTooLarge { .. })));
    assert!(outputs(&mut dht).is_empty() && held(&dht, WALL).is_none(), "it waits still");
    assert!(dht.accept_record_as(now, id, record(b"2")).unwrap());
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), Some(true));
    assert_eq!(value(&dht, WALL), b"2");
    // What is accepted as it came is refused: it will not become any smaller.
    let large = SentRecord::of(large, WALL);
    let id = hold(&mut dht, now, 1, Request::PutValue { record: large.clone() }).unwrap();
    assert!(matches!(dht.accept_record(now, id), Err(Error::ValueTooLarge { .. })));
    assert_eq!(verdict(&outputs(&mut dht), &large), Some(false));
    assert!(!dht.accept_record(now, id).unwrap());
    assert_eq!(value(&dht, WALL), b"2");
}

#[test]
fn what_ends_while_it_is_held_is_refused() {
    let (mut dht, now) = (new_dht(0, quiet().with_record_filtering(StoreInserts::FilterBoth)), start());
    let short = Record { expires: Some(WALL + SECOND), ..record(b"1") };
    let request = Request::PutValue { record: SentRecord::of(short, WALL) };
    let id = hold(&mut dht, now, 1, request).unwrap();
    let later = now + SECOND;
    let accepted = dht.accept_record(later, id);
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), Some(false));
    assert_eq!(accepted.unwrap_err().to_string(), "the record is not valid: the record has ended");
    assert_eq!(dht.store().records().count(), 0);
}

#[test]
fn whoever_puts_the_same_does_not_become_its_publisher() {
    for inserts in [StoreInserts::Unfiltered, StoreInserts::FilterBoth] {
        let (mut dht, now) = (new_dht(0, quiet().with_record_filtering(inserts)), start());
        let put = |dht: &mut Dht<MemoryStore>, from, record| match inserts {
            StoreInserts::Unfiltered => assert!(put(dht, now, from, record)),
            StoreInserts::FilterBoth => {
                let id = hold(dht, now, from, Request::PutValue { record }).unwrap();
                assert!(dht.accept_record(now, id).unwrap());
                outputs(dht);
            }
        };
        // Of whom each is, and of whom the record is then.
        for (from, record, publisher) in [
            (1, sent(b"put"), 1),
            (2, sent(b"put"), 1),
            (2, of(2, b"put"), 1),
            (3, of(2, b"put"), 1),
            (1, of(1, b"put"), 1),
            (2, of(2, b"another"), 2),
            (1, of(2, b"another"), 2),
            (1, sent(b"another"), 2),
        ] {
            put(&mut dht, from, record);
            assert_eq!(held(&dht, WALL).unwrap().publisher, Some(peer(publisher)));
        }
        // Nor of what was only handed on.
        dht.remove_record(now, &record_key()).unwrap();
        put(&mut dht, 3, of(1, b"handed on"));
        put(&mut dht, 2, sent(b"handed on"));
        assert_eq!(held(&dht, WALL).unwrap().publisher, Some(peer(1)));
    }
}

#[test]
fn a_put_goes_on_with_its_own_value_though_the_record_has_made_way_here() {
    let (mut dht, now) = (new_dht(0, quiet().with_own_records(OwnRecords::Yield)), start());
    admit(&mut dht, now, 1..=3);
    let id = dht.put_record(now, record(b"own"), Quorum::All).unwrap();
    let mut out = outputs(&mut dht);
    let told = vec![(peer(1), b"other".to_vec(), false)];
    assert_eq!(offer(&mut dht, now, 1, sent(b"other")), (true, told));
    let mut put = Vec::new();
    let result = loop {
        for (to, id, request) in asked(&out) {
            let response = match request {
                Request::PutValue { record } => {
                    put.push((to, record.value.to_vec()));
                    Response::PutValue { key: record.key, value: None }
                }
                _ => Response::FindNode { closer_peers: vec![] },
            };
            dht.handle_input(now, Input::ResponseReceived { id, response });
        }
        out = outputs(&mut dht);
        if let Some(result) = result_of(&out, id) {
            break result;
        }
    };
    let QueryResult::PutRecord(Ok(ok)) = result else { panic!("{result:?}") };
    assert_eq!(ok.report.stored.len(), 3);
    assert!(put.len() == 3 && put.iter().all(|(_, value)| value == b"own"), "{put:?}");
    assert_eq!((value(&dht, WALL), dht.store().is_own(&record_key())), (b"other".to_vec(), false));
    assert_eq!(dht.records.republish_is_own(&record_key()), Some(false), "it is put anew as the other's");
}

#[test]
fn whoever_was_asked_is_not_told_again() {
    let (mut dht, now) = (new_dht(0, quiet().with_record_filtering(StoreInserts::FilterBoth)), start());
    for as_it_is in [true, false] {
        let id = hold(&mut dht, now, 1, put_request(b"1")).unwrap();
        let waited = if as_it_is {
            dht.accept_record(now, id).unwrap()
        } else {
            dht.accept_record_as(now, id, record(b"2")).unwrap()
        };
        assert!(waited);
        assert_eq!(events(&outputs(&mut dht)).len(), 0);
        let id = hold(&mut dht, now, 1, provide_request(1)).unwrap();
        assert!(dht.accept_record(now, id).unwrap());
        assert_eq!(events(&outputs(&mut dht)).len(), 0);
    }
    // But of what it was not asked for: that is here already, as its own.
    dht.put_record(now, record(b"1"), Quorum::One).unwrap();
    outputs(&mut dht);
    let request = put_request(b"1");
    dht.handle_input(
        now,
        Input::RequestReceived { from: peer(1), connection: conn(1), id: InboundId(7), request },
    );
    assert_eq!(events(&outputs(&mut dht)).len(), 1);
}

#[test]
fn how_much_is_held_and_for_how_long_is_configured() {
    let config = quiet().with_record_filtering(StoreInserts::FilterBoth);
    let config = config.with_held_for(2 * SECOND).unwrap().with_max_held(NonZeroUsize::new(3).unwrap());
    let (mut dht, now) = (new_dht(0, config), start());
    let held: Vec<_> = (1..6).filter_map(|n| hold(&mut dht, now, n, put_request(b"1"))).collect();
    assert_eq!((held.len(), dht.due().unwrap().at), (3, now + 2 * SECOND));
    dht.handle_timeout(now + 2 * SECOND - MS);
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), None);
    dht.handle_timeout(now + 2 * SECOND);
    assert_eq!(verdict(&outputs(&mut dht), &sent(b"1")), Some(false));
    assert!(!dht.accept_record(now + 2 * SECOND, held[0]).unwrap());
    assert!(hold(&mut dht, now + 2 * SECOND, 1, put_request(b"1")).is_some());
}

/// Lets time pass for a lone node whose peers store what it sends, and returns what it has put at them, with the publisher.
fn put_until(dht: &mut Dht<MemoryStore>, now: &mut Now, end: Now) -> Vec<(RecordKey, Option<PeerId>)> {
    let mut seen = Vec::new();
    loop {
        while let Some(output) = dht.poll_output() {
            let Output::SendRequest { id, request, .. } = output else { continue };
            let response = match request {
                Request::PutValue { record } => {
                    seen.push((record.key.clone(), record.publisher));
                    Response::PutValue { key: record.key, value: None }
                }
                _ => Response::FindNode { closer_peers: vec![] },
            };
            dht.handle_input(*now, Input::ResponseReceived { id, response });
        }
        let Some(due) = dht.due().filter(|due| due.at <= end) else { break };
        *now = due.at.max(*now);
        dht.handle_timeout(*now);
    }
    *now = end;
    seen
}

#[test]
fn what_is_stored_locally_is_served_and_kept_alive_but_not_owned() {
    let (mut dht, mut now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=1);
    assert!(matches!(dht.store_local(now, Record::new(vec![], "v")), Err(Error::Invalid(_))));
    let ours = Record { publisher: Some(peer(0)), ..record(b"v") };
    dht.store_local(now, ours).unwrap();
    assert!(asked(&outputs(&mut dht)).is_empty(), "and nowhere else");
    let stored = held(&dht, WALL).unwrap();
    assert_eq!((stored.publisher, stored.expires), (None, Some(WALL + 2 * DAY)));
    assert!(!dht.store().is_own(&record_key()));
    assert_eq!(dht.due().unwrap().at.min(now + 2 * DAY), dht.due().unwrap().at, "it is known to end");
    let (end, middle) = (now + 50 * HOUR, now + 47 * HOUR);
    assert!(put_until(&mut dht, &mut now, middle).len() > 10, "hourly, as those of others");
    let last = put_until(&mut dht, &mut now, end);
    assert!(last.len() < 3 && held(&dht, now.wall).is_none(), "it ends");
    // In place of an own one it makes it another's.
    dht.put_record(now, record(b"own"), Quorum::One).unwrap();
    dht.store_local(now, record(b"other")).unwrap();
    assert!(!dht.store().is_own(&record_key()));
    assert!(!put(&mut dht, now, 1, of(9, b"handed on")), "the application has it from the publisher");
}

#[test]
fn what_the_application_has_put_into_the_store_is_found_and_put_anew() {
    let (mut dht, mut now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=1);
    put_until(&mut dht, &mut now, start() + SECOND);
    let source = crate::store::Source { peer: peer(5), group: None, hands_on: false };
    for n in 0..600u32 {
        let key = RecordKey::from(&n.to_be_bytes());
        if n.is_multiple_of(2) {
            dht.store_mut().put(now.wall, Record::new(key, "own")).unwrap();
        } else {
            let record = Record { expires: Some(now.wall + DAY), ..Record::new(key, "other") };
            dht.store_mut().put_from(now.wall, record, source).unwrap();
        }
    }
    assert_eq!(dht.records.num_scheduled().0, 0);
    let after = now + 61 * SECOND;
    let seen = put_until(&mut dht, &mut now, after);
    assert_eq!(dht.records.num_scheduled().0, 600, "in parts, but all of them");
    let after = now + 601 * SECOND;
    let mut seen: Vec<_> = seen.into_iter().chain(put_until(&mut dht, &mut now, after)).collect();
    seen.retain(|(key, _)| key.as_ref()[3].is_multiple_of(2));
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 300, "its own within ten minutes");
    // What ends is known to, and what has become its own, or is no more, as well.
    let key = RecordKey::from(&1u32.to_be_bytes());
    dht.store_mut().put(now.wall, Record::new(key.clone(), "own")).unwrap();
    let after = now + 61 * SECOND;
    put_until(&mut dht, &mut now, after);
    assert_eq!(dht.records.republish_is_own(&key), Some(true));
    let after = now + DAY;
    put_until(&mut dht, &mut now, after);
    assert_eq!((dht.store().records().count(), dht.records.num_scheduled().0), (301, 301));
}

#[test]
fn a_newcomer_is_handed_what_the_application_has_put_into_the_store() {
    let (mut dht, mut now) = (new_dht(0, quiet().with_publication_interval(None).unwrap()), start());
    dht.store_mut().put(now.wall, record(b"v")).unwrap();
    let after = now + 61 * SECOND;
    put_until(&mut dht, &mut now, after);
    meet(&mut dht, now, 1);
    let out = outputs(&mut dht);
    let [(_, id, Request::FindNode { .. })] = asked(&out)[..] else { panic!("it is checked: {out:?}") };
    name(&mut dht, now, id, &[2]);
    assert_eq!(puts(&outputs(&mut dht)).len(), 1);
}

/// A put to somebody who enters the table by answering it, or while it searches, arrives once.
#[test]
fn what_a_put_sends_to_a_newcomer_is_not_handed_over_as_well() {
    for checked_first in [true, false] {
        let (mut dht, now) = (new_dht(0, quiet().with_soft_timeout(50 * MS..=SECOND).unwrap()), start());
        dht.add_address(now, peer(1), address(1));
        connect_at(&mut dht, now, 1, address(1));
        let mut open = asked(&outputs(&mut dht));
        let query = dht.put_record(now, record(b"v"), Quorum::One).unwrap();
        open.extend(asked(&outputs(&mut dht)));
        assert!(open.len() >= 2, "it is checked, and asked for the closest: {open:?}");
        if !checked_first {
            open.reverse();
        }
        let (mut arrived, mut seen) = (0, Vec::new());
        while !open.is_empty() {
            let (_, id, request) = open.remove(0);
            let response = match request {
                Request::PutValue { record } => {
                    arrived += 1;
                    Response::PutValue { key: record.key, value: None }
                }
                _ => Response::FindNode { closer_peers: vec![named_peer(2)] },
            };
            dht.handle_input(now, Input::ResponseReceived { id, response });
            loop {
                let out = outputs(&mut dht);
                for (dial, peer, _) in dials(&out) {
                    let (error, dial) = (unreachable(), Some(dial));
                    dht.handle_input(now, Input::DialFailed { dial, peer, error });
                }
                open.extend(asked(&out));
                if out.is_empty() {
                    break;
                }
                seen.extend(out);
            }
        }
        assert!(dht.table().entry(&key(1), &peer(1)).is_some());
        assert!(result_of(&seen, query).is_some());
        assert_eq!(arrived, 1, "checked first: {checked_first}");
    }
}

/// A store that knows nothing of whose its records are, nor how many there may be.
struct Plain {
    local: PeerId,
    records: BTreeMap<RecordKey, Record>,
}

impl RecordStore for Plain {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, wall: SystemTime, key: &RecordKey) -> Stored<Option<Cow<'_, Record>>> {
        assert_ne!(self.local, peer(9));
        Ok(self.records.get(key).filter(|record| !record.is_expired(wall)).map(Cow::Borrowed))
    }

    fn put(&mut self, _: SystemTime, record: Record) -> Stored<()> {
        self.records.insert(record.key.clone(), record);
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) -> Stored<()> {
        self.records.remove(key);
        Ok(())
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.records.values().map(Cow::Borrowed).collect::<Vec<_>>().into_iter()
    }

    fn add_provider(&mut self, _: SystemTime, _: ProviderRecord) -> Stored<()> {
        Ok(())
    }

    fn providers(&self, _: SystemTime, _: &RecordKey) -> Stored<Vec<ProviderRecord>> {
        Ok(Vec::new())
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) -> Stored<()> {
        Ok(())
    }
}

#[test]
fn with_a_store_that_knows_only_what_libp2p_kads_does_own_records_are_known_and_those_of_others_end() {
    let store = || Plain { local: peer(0), records: BTreeMap::new() };
    let mut dht = Dht::new(peer(0), store(), quiet(), [0; 32], start());
    let mut now = start();
    dht.set_mode(now, Some(Mode::Server));
    dht.put_record(now, record(b"own"), Quorum::One).unwrap();
    for n in 0..100u8 {
        let record = Record { expires: Some(WALL + HOUR * u32::from(n + 1)), ..Record::new(vec![n], "v") };
        let request = Request::PutValue { record: SentRecord::of(record, WALL) };
        let (from, connection) = (peer(1), conn(1));
        dht.handle_input(now, Input::RequestReceived { from, connection, id: InboundId(n.into()), request });
    }
    let request = Request::PutValue { record: sent(b"another") };
    let (from, connection) = (peer(1), conn(1));
    dht.handle_input(now, Input::RequestReceived { from, connection, id: InboundId(200), request });
    let out: Vec<_> = std::iter::from_fn(|| dht.poll_output()).collect();
    assert!(events(&out).iter().any(|event| matches!(event, Event::RecordConflict { kept: true, .. })));
    assert_eq!(dht.records.republish_is_own(&record_key()), Some(true));
    // Those that say so end when they say, the others by the configuration.
    now += 10 * HOUR;
    dht.handle_timeout(now);
    assert_eq!(dht.store().records().count(), 91);
    now += 39 * HOUR;
    dht.handle_timeout(now);
    assert_eq!(dht.store().records().count(), 1, "its own");
    // What such a store held when the node began is known by its publisher.
    let found = Plain { local: peer(0), records: dht.store().records.clone() };
    let dht = Dht::new(peer(0), found, quiet(), [0; 32], now);
    assert_eq!(dht.records.republish_is_own(&record_key()), Some(true));
}

#[test]
fn what_is_handed_on_as_this_nodes_own_is_charged_to_the_peer_that_does() {
    let limits = crate::store::Limits { max_records: 160, ..crate::store::Limits::default() };
    let config = crate::store::MemoryStoreConfig { records: limits, ..Default::default() };
    let store = MemoryStore::with_config(peer(0), config);
    let (mut dht, now) = (Dht::new(peer(0), store, quiet(), [0; 32], start()), start());
    dht.set_mode(now, Some(Mode::Server));
    let send = |dht: &mut Dht<MemoryStore>, from: usize, publisher: usize, n: u32, value: &'static str| {
        let key = [value.as_bytes(), &n.to_be_bytes()].concat();
        let record = Record { publisher: Some(peer(publisher)), ..Record::new(key, value) };
        let request = Request::PutValue { record: SentRecord::of(record, WALL) };
        let (from, connection) = (peer(from), conn(from));
        dht.handle_input(now, Input::RequestReceived { from, connection, id: InboundId(7), request });
        outputs(dht);
    };
    let count = |dht: &Dht<MemoryStore>, value| dht.store().records().filter(|it| it.value == value).count();
    for n in 0..100 {
        send(&mut dht, 100 + n as usize, 100 + n as usize, n, "honest");
    }
    assert_eq!(count(&dht, "honest"), 100);
    for neighbour in 1..=16 {
        for n in 0..200 {
            send(&mut dht, neighbour, 0, 1000 * neighbour as u32 + n, "evil");
        }
        assert!(count(&dht, "evil") <= 10 * neighbour, "{}", count(&dht, "evil"));
    }
    assert_eq!((count(&dht, "honest"), count(&dht, "evil")), (100, 60));
}
