//! Two clocks: machines that sleep, and wall clocks that are set, at the start and later, forward and back.

use super::*;
use crate::message::SentRecord;
use crate::record::{Quorum, Record, RecordKey};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Somewhere in the middle of what clocks show, so that there is room on both sides.
fn noon() -> Now {
    Now::new(start().instant, SystemTime::UNIX_EPOCH + 50 * YEAR)
}

/// The reading when the monotonic clock has gone on by `passed`, and the wall clock was set forward by `slept` beside.
fn slept(now: Now, passed: Duration, slept: Duration) -> Now {
    Now::new((now + passed).instant, now.wall + passed + slept)
}

/// The reading when the wall clock was set back.
fn set_back(now: Now, by: Duration) -> Now {
    Now::new(now.instant, now.wall - by)
}

fn node(config: Config) -> Dht<MemoryStore> {
    let mut dht = Dht::new(peer(0), MemoryStore::new(peer(0)), config, [7; 32], noon());
    dht.set_mode(noon(), Some(Mode::Server));
    admit(&mut dht, noon(), [1]);
    outputs(&mut dht);
    dht
}

fn key() -> RecordKey {
    RecordKey::new(b"key")
}

/// A peer puts a record that lasts so long.
fn put(dht: &mut Dht<MemoryStore>, now: Now, ttl: Duration) {
    let record = SentRecord { ttl: Some(ttl), ..SentRecord::of(Record::new(key(), &b"value"[..]), now.wall) };
    let request = Request::PutValue { record };
    let asked = Input::RequestReceived { from: peer(1), connection: conn(1), id: InboundId(1), request };
    dht.handle_input(now, asked);
    assert!(outputs(dht).iter().any(|output| matches!(output, Output::SendResponse { .. })), "it is stored");
}

/// What a peer is told of the record, with how long it lasts.
fn told(dht: &mut Dht<MemoryStore>, now: Now) -> Option<Duration> {
    let request = Request::GetValue { key: key() };
    let asked = Input::RequestReceived { from: peer(1), connection: conn(1), id: InboundId(2), request };
    dht.handle_input(now, asked);
    outputs(dht).into_iter().find_map(|output| {
        if let Output::SendResponse { response: Response::GetValue { record, .. }, .. } = output {
            record.map(|record| record.ttl.expect("it ends"))
        } else {
            None
        }
    })
}

#[test]
fn a_record_that_has_ended_while_the_machine_slept_is_not_returned() {
    for sleep in [2 * HOUR, 8 * HOUR, YEAR] {
        let mut dht = node(quiet());
        put(&mut dht, noon(), HOUR);
        assert!(told(&mut dht, noon() + MINUTE).is_some());
        // Nothing but a call tells the node that it has slept.
        let awake = slept(noon(), 2 * MINUTE, sleep);
        let query = dht.get_record(awake, key(), Some(Quorum::One));
        let out = outputs(&mut dht);
        assert!(result_of(&out, query).is_none(), "it is not found here: {out:?}");
        assert_eq!((told(&mut dht, awake), dht.store().records().count()), (None, 0));
    }
}

#[test]
fn a_record_that_still_lasts_is_told_to_last_for_what_is_left() {
    let mut dht = node(quiet());
    put(&mut dht, noon(), 10 * HOUR);
    assert_eq!(told(&mut dht, slept(noon(), HOUR, 3 * HOUR)), Some(6 * HOUR));
}

#[test]
fn a_clock_that_is_set_back_lets_nothing_of_others_last_longer_than_it_would_from_now() {
    // That providers never end is no reason to leave records as they are.
    let endless = quiet().with_provider_ttl(None).unwrap();
    let cases = [MINUTE, 8 * HOUR, 40 * YEAR].map(|by| (by, quiet()));
    for (by, config) in cases.into_iter().chain([(40 * YEAR, endless)]) {
        let mut dht = node(config);
        put(&mut dht, noon(), 10 * HOUR);
        dht.put_record(
            noon(),
            Record { expires: Some(noon().wall + YEAR), ..Record::new("own", "1") },
            Quorum::One,
        )
        .unwrap();
        outputs(&mut dht);
        let back = set_back(noon() + MINUTE, by);
        let left = told(&mut dht, back).expect("it lasts");
        let longest = dht.config().records.record_ttl.unwrap();
        assert!(left <= longest && left == (10 * HOUR - MINUTE + by).min(longest), "{by:?}: {left:?}");
        let own = dht.store().get(back.wall, &RecordKey::from("own")).unwrap().unwrap().expires;
        assert_eq!(own, Some(noon().wall + YEAR), "what is the node's own ends when it says");
        // And it does end, by time alone.
        dht.handle_timeout(back + longest + HOUR);
        assert!(dht.store().get(back.wall, &key()).unwrap().is_none(), "{by:?}");
    }
}

#[test]
fn a_clock_that_was_wrong_at_the_start_and_is_set_right_later_ends_nothing_too_late() {
    let begun = Now::new(start().instant, SystemTime::UNIX_EPOCH);
    let mut dht = Dht::new(peer(0), MemoryStore::new(peer(0)), quiet(), [7; 32], begun);
    dht.set_mode(begun, Some(Mode::Server));
    admit(&mut dht, begun, [1]);
    let ends = SystemTime::UNIX_EPOCH + 50 * YEAR + HOUR;
    dht.put_record(begun, Record { expires: Some(ends), ..Record::new(key(), "1") }, Quorum::One).unwrap();
    outputs(&mut dht);
    let right = slept(begun, MINUTE, 50 * YEAR);
    dht.handle_timeout(right);
    assert!(dht.store().get(right.wall, &key()).unwrap().is_some());
    let due = dht.poll_timeout().expect("it ends").at;
    assert!(due <= (right + HOUR).instant, "in an hour, as its end says");
    let mut now = right;
    while now < right + HOUR {
        now += MINUTE;
        dht.handle_timeout(now);
        outputs(&mut dht);
    }
    assert_eq!(dht.store().records().count(), 0);
}

#[test]
fn after_a_sleep_kept_connections_are_checked_at_once_and_the_table_is_probed() {
    for back in [false, true] {
        let mut dht = node(quiet());
        admit(&mut dht, noon(), 2..30);
        lose(&mut dht, noon(), 29);
        outputs(&mut dht);
        let now = if back { set_back(noon() + MINUTE, HOUR) } else { slept(noon(), MINUTE, HOUR) };
        dht.handle_timeout(now);
        let out = outputs(&mut dht);
        let checked: BTreeSet<_> = asked(&out).into_iter().map(|(to, ..)| to).collect();
        assert!(checked.len() >= 20, "the twenty that are kept: {}", checked.len());
        let mut reached = checked;
        for second in 1..60 {
            for (_, id, _) in asked(&outputs(&mut dht)).into_iter().chain(asked(&out)) {
                name(&mut dht, now + second * SECOND, id, &[1]);
            }
            let out = outputs(&mut dht);
            reached.extend(asked(&out).into_iter().map(|(to, ..)| to));
            reached.extend(dials(&out).into_iter().filter_map(|(_, who, _)| who));
            for (_, id, _) in asked(&out) {
                name(&mut dht, now + second * SECOND, id, &[1]);
            }
            dht.handle_timeout(now + second * SECOND);
        }
        assert!(reached.len() >= 29, "all of the table: {}", reached.len());
    }
}

#[test]
fn after_a_sleep_nothing_is_asked_on_the_connection_whose_end_is_the_first_thing_heard() {
    let mut dht = node(quiet());
    admit(&mut dht, noon(), 2..30);
    outputs(&mut dht);
    let is_on = |output: &Output, n| {
        matches!(output, Output::SendRequest { connection, .. } | Output::KeepAlive { connection, .. }
            if *connection == conn(n))
    };
    let now = slept(noon(), MINUTE, HOUR);
    dht.handle_input(now, Input::Disconnected { peer: peer(2), connection: conn(2) });
    let out = outputs(&mut dht);
    assert!(!out.iter().any(|output| is_on(output, 2)), "{out:?}");
    assert!((3..30).any(|n| out.iter().any(|output| is_on(output, n))), "the others are checked");
}

#[test]
fn what_became_due_while_the_machine_slept_is_announced_by_and_by() {
    const KEYS: u32 = 500;
    // One is enough.
    let mut dht = node(quiet().with_bucket_size(std::num::NonZeroU8::MIN));
    let mut now = noon();
    listen_at(&mut dht, now, &[address(0)]);
    let told = |dht: &mut Dht<MemoryStore>, now: Now| {
        let mut told = BTreeSet::new();
        loop {
            let out = outputs(dht);
            if out.is_empty() {
                return told;
            }
            for (_, id, request) in asked(&out) {
                match request {
                    Request::AddProvider { key, .. } => {
                        told.insert(key);
                        dht.handle_input(now, Input::RequestSent { id });
                    }
                    _ => name(dht, now, id, &[]),
                }
            }
        }
    };
    for n in 0..KEYS {
        dht.start_providing(now, RecordKey::from(&n.to_be_bytes())).unwrap();
        told(&mut dht, now);
    }
    // They were announced within an hour, and the machine sleeps for a day.
    now = slept(now, HOUR, 24 * HOUR);
    dht.handle_timeout(now);
    let at_once = told(&mut dht, now).len();
    assert!(at_once < 10, "{at_once} at once");
    let (mut all, mut most) = (BTreeSet::new(), 0);
    for _ in 0..90 {
        now += MINUTE;
        dht.handle_timeout(now);
        let some = told(&mut dht, now);
        most = most.max(some.len());
        all.extend(some);
    }
    assert_eq!(all.len(), KEYS as usize, "within an hour and a half");
    // What lies within an eighth of the interval is put together.
    assert!(most < 300, "{most} in one minute");
}
