//! The routing table as the node keeps it: who enters, who waits, who leaves, who is kept and probed.

use super::*;
use crate::config::{BucketInserts, IpDiversity, IpLimits, KeepAlive};
use crate::dht::upkeep::TRY_AGAIN;
use crate::key::{BucketIndex, Distance};
use crate::peer::KadPeer;
use std::num::{NonZeroU8, NonZeroUsize};

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// The default grace period.
const GRACE: Duration = Duration::from_secs(720);

/// A node that is connected to one server, with number 100.
fn node_with(config: Config) -> Dht<MemoryStore> {
    let mut dht = new_dht(0, config);
    admit(&mut dht, start(), [100]);
    dht
}

fn node() -> Dht<MemoryStore> {
    node_with(quiet())
}

fn is_in(dht: &Dht<MemoryStore>, n: usize) -> bool {
    dht.table().entry(&key(n), &peer(n)).is_some()
}

fn input(dht: &mut Dht<MemoryStore>, now: Now, input: Input) -> Vec<Output> {
    dht.handle_input(now, input);
    outputs(dht)
}

fn timed(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<Output> {
    dht.handle_timeout(now);
    outputs(dht)
}

/// A peer has come by itself, from a port at which nobody can dial it.
fn come(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Vec<Output> {
    let address = "/memory/999999".parse().unwrap();
    input(dht, now, connected_at(n, address, false, None))
}

/// A peer that this node has dialled says that it is a server, and answers whatever it is asked.
fn enter_at(dht: &mut Dht<MemoryStore>, now: Now, n: usize, at: &str) -> Vec<Output> {
    connect_at(dht, now, n, at.parse().unwrap());
    dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(n) });
    answer_all(dht, now, &[n + 1])
}

fn enter(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Vec<Output> {
    let mut out = enter_at(dht, now, n, &address(n).to_string());
    out.extend(prove(dht, now, n).into_iter().filter(|output| {
        // What the ping itself leads to is not the table's affair.
        !matches!(output, Output::Event(Event::OutboundQueryProgressed { .. }))
    }));
    out
}

/// The requests by which a peer is checked or probed.
fn checks(out: &[Output], n: usize) -> Vec<RequestId> {
    let own = Request::FindNode { key: peer(n).to_bytes().into() };
    let of_peer = asked(out).into_iter().filter(|(to, _, request)| *to == peer(n) && *request == own);
    of_peer.map(|(_, id, _)| id).collect()
}

fn check(out: &[Output], n: usize) -> RequestId {
    let [id] = checks(out, n)[..] else { panic!("{n} is not asked once: {out:?}") };
    id
}

/// Lets a ping of a connected peer fail.
fn fail(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Vec<Output> {
    dht.ping(now, peer(n));
    let (to, id, _) = asked(&outputs(dht)).pop().expect("it is connected");
    assert_eq!(to, peer(n));
    input(dht, now, Input::RequestFailed { id, error: RequestError::BadAnswer })
}

/// Lets a ping of a connected peer be answered.
fn succeed(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Vec<Output> {
    dht.ping(now, peer(n));
    answer_all(dht, now, &[n + 1])
}

/// Of `RoutingUpdated`: the peer, whether it is new, its addresses and who made room for it.
type Update = (PeerId, bool, Vec<Multiaddr>, Option<PeerId>);

fn updates(out: &[Output]) -> Vec<Update> {
    let mut updates = Vec::new();
    for event in events(out) {
        if let Event::RoutingUpdated {
            peer,
            is_new_peer,
            addresses,
            bucket_range: (least, greatest),
            old_peer,
        } = event
        {
            let distance = key(0).distance(&Key::of_peer(&peer, Key::sha256));
            assert!(least <= distance && distance <= greatest && least.bucket() == greatest.bucket());
            updates.push((peer, is_new_peer, addresses.into_vec(), old_peer));
        }
    }
    updates
}

/// Peers of the farthest bucket.
fn far() -> impl Iterator<Item = usize> {
    (1..).filter(|n| *n != 100 && key(0).distance(&key(*n)).bucket() == Some(BucketIndex::FARTHEST))
}

/// Some peers, nearest first.
fn by_distance() -> Vec<usize> {
    let mut all: Vec<_> = (1..400).filter(|n| *n != 100).collect();
    all.sort_by_key(|n| key(0).distance(&key(*n)));
    all
}

fn bucket_of(k: u8) -> Config {
    quiet().with_bucket_size(NonZeroU8::new(k).unwrap())
}

#[test]
fn a_stranger_that_dials_in_and_asks_a_hundred_times_is_checked_once_and_enters_when_it_answers() {
    let (mut dht, now) = (node(), start());
    let mut out = come(&mut dht, now, 1);
    for n in 0..100 {
        let request = Request::FindNode { key: b"anything"[..].into() };
        out.extend(input(
            &mut dht,
            now,
            Input::RequestReceived { from: peer(1), connection: conn(1), id: InboundId(n), request },
        ));
        out.extend(input(&mut dht, now, Input::ProtocolConfirmed { peer: peer(1) }));
        learn(&mut dht, now, 1, &[address(1)]);
        out.extend(outputs(&mut dht));
    }
    assert_eq!(asked(&out).len(), 1);
    let id = check(&out, 1);
    assert!(!is_in(&dht, 1), "it has only asked");
    name(&mut dht, now, id, &[100]);
    assert_eq!(updates(&outputs(&mut dht)), [(peer(1), true, vec![address(1)], None)]);
    assert!(is_in(&dht, 1));
}

#[test]
fn a_stranger_that_fails_its_check_does_not_enter_and_is_checked_again_after_ten_minutes() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1)]);
    let id = check(&come(&mut dht, now, 1), 1);
    input(&mut dht, now, Input::RequestFailed { id, error: RequestError::StreamEnded });
    let mut ask = |now| {
        let request = Input::RequestReceived {
            from: peer(1),
            connection: conn(1),
            id: InboundId(1),
            request: Request::Ping,
        };
        let out = input(&mut dht, now, request);
        assert!(!is_in(&dht, 1));
        checks(&out, 1).len()
    };
    assert_eq!([ask(now), ask(now + TEN_MINUTES - MS), ask(now + TEN_MINUTES)], [0, 0, 1]);
}

#[test]
fn a_flood_of_strangers_is_checked_a_few_at_a_time() {
    let (mut dht, now) = (node(), start());
    let mut open = VecDeque::new();
    let mut all = 0;
    for n in 200..400 {
        learn(&mut dht, now, n, &[address(n)]);
        open.extend(asked(&come(&mut dht, now, n)));
    }
    while let Some((_, id, _)) = open.pop_front() {
        all += 1;
        assert!(open.len() < 8);
        let failed = Input::RequestFailed { id, error: RequestError::StreamEnded };
        open.extend(asked(&input(&mut dht, now, failed)));
    }
    assert!((100..=200).contains(&all), "{all} were checked");
    assert_eq!(dht.table().len(), 1);
}

#[test]
fn whoever_names_nobody_when_asked_for_itself_enters_only_while_the_table_is_low() {
    let mut dht = new_dht(0, quiet().with_low_peers(2));
    let nobody = |dht: &mut Dht<MemoryStore>, n: usize| {
        connect_at(dht, start(), n, address(n));
        answer_all(dht, start(), &[]);
        is_in(dht, n)
    };
    assert!([1, 2, 3].into_iter().all(|n| nobody(&mut dht, n)), "up to two peers are few");
    assert!(!nobody(&mut dht, 4));
    dht.remove_peer(start(), peer(1));
    assert!(nobody(&mut dht, 5));
}

#[test]
fn whoever_answers_a_query_has_proved_itself() {
    let (mut dht, now) = (node(), start());
    let query = dht.find_closest(now, *b"anything");
    let id = asked(&outputs(&mut dht))[0].1;
    name(&mut dht, now, id, &[1]);
    let out = outputs(&mut dht);
    let [(dial, Some(_), _)] = dials(&out)[..] else { panic!("{out:?}") };
    let out = input(&mut dht, now, connected_at(1, address(1), true, Some(dial)));
    let request = Request::FindNode { key: b"anything"[..].into() };
    let asked_by_query = asked(&out).into_iter().find(|(_, _, sent)| *sent == request).expect("1 is asked");
    assert!(!is_in(&dht, 1));
    name(&mut dht, now, asked_by_query.1, &[]);
    assert!(is_in(&dht, 1), "though it knows nobody");
    assert!(result_of(&outputs(&mut dht), query).is_some());
}

#[test]
fn a_peer_that_stops_serving_leaves_and_is_kept_out() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    assert!(is_in(&dht, 1));
    input(&mut dht, now, Input::ProtocolUnsupported { peer: peer(1) });
    assert!(!is_in(&dht, 1));
    let later = now + 2 * TEN_MINUTES;
    learn(&mut dht, later, 1, &[address(1), address(21)]);
    let request = Input::RequestReceived {
        from: peer(1),
        connection: conn(1),
        id: InboundId(1),
        request: Request::Ping,
    };
    let out = [input(&mut dht, later, request), come(&mut dht, later, 1)].concat();
    assert!(asked(&out).iter().all(|(to, ..)| *to != peer(1)) && dials(&out).is_empty(), "{out:?}");
    dht.find_closest(later, *b"anything");
    let out = answer_all(&mut dht, later, &[1]);
    assert!(asked(&out).iter().all(|(to, ..)| *to != peer(1)) && dials(&out).is_empty(), "{out:?}");
    assert!(!is_in(&dht, 1));
}

#[test]
fn a_peer_that_serves_again_is_let_in_again() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    input(&mut dht, now, Input::ProtocolUnsupported { peer: peer(1) });
    let out = input(&mut dht, now + SECOND, Input::ProtocolConfirmed { peer: peer(1) });
    let id = check(&out, 1);
    name(&mut dht, now + SECOND, id, &[100]);
    assert!(is_in(&dht, 1));
}

#[test]
fn a_peer_that_begins_to_serve_is_checked_though_it_was_as_a_client() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1)]);
    let id = check(&come(&mut dht, now, 1), 1);
    input(&mut dht, now, Input::RequestFailed { id, error: RequestError::Unsupported });
    input(&mut dht, now, Input::ProtocolUnsupported { peer: peer(1) });
    let out = input(&mut dht, now + SECOND, Input::ProtocolConfirmed { peer: peer(1) });
    assert_eq!(checks(&out, 1).len(), 1);
}

#[test]
fn whoever_connects_anew_may_have_become_a_server() {
    let (mut dht, now) = (node(), start());
    input(&mut dht, now, Input::ProtocolUnsupported { peer: peer(1) });
    learn(&mut dht, now, 1, &[address(1)]);
    assert!(come(&mut dht, now, 1).is_empty(), "it has said that it is a client");
    lose(&mut dht, now, 1);
    assert_eq!(checks(&come(&mut dht, now, 1), 1).len(), 1);
}

#[test]
fn whoever_was_asked_as_a_client_and_says_after_connecting_anew_that_it_serves_is_asked_again() {
    // py-libp2p does not tell by identify that it has become a server: it has to connect anew.
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1)]);
    let id = check(&come(&mut dht, now, 1), 1);
    input(&mut dht, now, Input::RequestFailed { id, error: RequestError::Unsupported });
    input(&mut dht, now, Input::ProtocolUnsupported { peer: peer(1) });
    lose(&mut dht, now, 1);
    assert!(come(&mut dht, now + SECOND, 1).is_empty(), "it was asked lately");
    let out = input(&mut dht, now + SECOND, Input::ProtocolConfirmed { peer: peer(1) });
    assert_eq!(checks(&out, 1).len(), 1);
}

#[test]
fn an_answer_that_was_under_way_does_not_let_a_client_in() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1)]);
    let id = check(&come(&mut dht, now, 1), 1);
    input(&mut dht, now, Input::ProtocolUnsupported { peer: peer(1) });
    name(&mut dht, now, id, &[100]);
    assert!(!is_in(&dht, 1));
}

#[test]
fn what_somebody_says_takes_nobody_out_of_the_table() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    for n in 0..3 {
        let now = now + n * SECOND;
        let out = input(&mut dht, now, Input::ProtocolDoubted { peer: peer(1) });
        let id = check(&out, 1);
        assert!(
            input(&mut dht, now, Input::ProtocolDoubted { peer: peer(1) }).is_empty(),
            "it is being asked"
        );
        name(&mut dht, now, id, &[100]);
        assert!(updates(&outputs(&mut dht)).is_empty() && is_in(&dht, 1));
    }
    // Nor does its silence mean more than that of others.
    let id = check(&input(&mut dht, now, Input::ProtocolDoubted { peer: peer(1) }), 1);
    input(&mut dht, now, Input::RequestFailed { id, error: RequestError::Timeout });
    assert!(is_in(&dht, 1));
}

#[test]
fn whoever_is_said_to_have_become_a_client_and_has_leaves_at_once_though_others_are_silent() {
    let (mut dht, now) = (node(), start());
    let all: Vec<_> = (1..=12).filter(|n| *n != 100).collect();
    all.iter().for_each(|n| drop(enter(&mut dht, now, *n)));
    let mut ids = Vec::new();
    for n in &all {
        ids.push(check(&input(&mut dht, now, Input::ProtocolDoubted { peer: peer(*n) }), *n));
    }
    let (id, error) = (ids[11], RequestError::Unsupported);
    input(&mut dht, now, Input::RequestFailed { id, error });
    assert!(!is_in(&dht, 12) && is_in(&dht, 1));
    assert!(input(&mut dht, now, Input::ProtocolDoubted { peer: peer(12) }).is_empty(), "that is known");
}

#[test]
fn a_stranger_that_is_said_to_be_a_client_is_asked_only_for_a_reason() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1)]);
    input(&mut dht, now, Input::ProtocolDoubted { peer: peer(1) });
    assert!(come(&mut dht, now, 1).is_empty());
    // An application's ping is a reason, and its own answer decides.
    dht.ping(now, peer(1));
    answer_all(&mut dht, now, &[100]);
    assert!(is_in(&dht, 1));
    // So is a table in which every peer counts.
    let mut dht = new_dht(0, quiet());
    come(&mut dht, now, 1);
    input(&mut dht, now, Input::ProtocolDoubted { peer: peer(1) });
    learn(&mut dht, now, 1, &[address(1)]);
    assert_eq!(checks(&outputs(&mut dht), 1).len(), 1);
}

#[test]
fn a_waiting_peer_that_is_said_to_be_a_client_is_asked() {
    for (serves, expected) in [(true, true), (false, false)] {
        let (dht, n) = moved_up(|dht, n| {
            let id = check(&input(dht, start(), Input::ProtocolDoubted { peer: peer(n) }), n);
            if serves {
                name(dht, start(), id, &[100]);
            } else {
                let error = RequestError::Unsupported;
                dht.handle_input(start(), Input::RequestFailed { id, error });
            }
            outputs(dht);
        });
        assert_eq!(is_in(&dht, n), expected);
    }
}

/// Lets time pass until the node asks or dials what `found` looks for, and returns when that was.
fn wait_for<T>(
    dht: &mut Dht<MemoryStore>,
    now: Now,
    most: Duration,
    found: impl Fn(&[Output]) -> Option<T>,
) -> (Now, T) {
    let mut at = now;
    loop {
        if let Some(found) = found(&outputs(dht)) {
            return (at, found);
        }
        let next = dht.due().expect("there is something to wait for").at;
        assert!(next > at, "time moves on");
        assert!(next <= now + most, "it takes more than {most:?}");
        at = next;
        dht.handle_timeout(at);
    }
}

#[test]
fn an_honest_stranger_is_checked_within_five_seconds_though_136_silent_ones_are_nearer_and_came_before() {
    for octet in [None, Some(1u8)] {
        let (mut dht, now) = (new_dht(0, quiet()), start());
        let mut nearest: Vec<usize> = (1..1000).collect();
        nearest.sort_by_key(|n| key(0).distance(&key(*n)));
        let (silent, honest) = (&nearest[..136], nearest[136]);
        let address = |n: usize| match octet {
            None => address(n),
            Some(octet) => format!("/ip4/1.{octet}.{}.{}/tcp/1", n / 256, n % 256).parse().unwrap(),
        };
        let mut first = None;
        for n in silent.iter().chain([&honest]) {
            connect_at(&mut dht, now, *n, address(*n));
            dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(*n) });
            let out = outputs(&mut dht);
            first = first.or(checks(&out, *n).first().map(|id| (*n, *id)));
        }
        let asked = |out: &[Output]| checks(out, honest).first().copied();
        let (at, id) = wait_for(&mut dht, now, 5 * SECOND, asked);
        name(&mut dht, at, id, &[100]);
        assert!(is_in(&dht, honest));
        // And whoever was only slow is not forgotten.
        let (slow, id) = first.expect("somebody was asked first");
        name(&mut dht, at + SECOND, id, &[100]);
        assert!(is_in(&dht, slow));
    }
}

#[test]
fn strangers_of_one_network_do_not_delay_one_of_another() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    for n in 1..=136 {
        connect_at(&mut dht, now, n, format!("/ip4/1.1.0.{n}/tcp/1").parse().unwrap());
    }
    outputs(&mut dht);
    connect_at(&mut dht, now, 500, "/ip4/2.2.2.2/tcp/1".parse().unwrap());
    let (at, _) = wait_for(&mut dht, now, 5 * SECOND, |out| checks(out, 500).first().copied());
    assert!(at <= now + SECOND, "at the first place that becomes free");
}

#[test]
fn whoever_was_reported_and_is_not_up_is_tried_again_while_the_table_is_low_and_at_once_when_reported_anew() {
    let (mut dht, mut now) = (new_dht(0, quiet()), start());
    learn(&mut dht, now, 1, &[address(1)]);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let (at, dial) = wait_for(&mut dht, now, 61 * SECOND, |out| dials(out).first().map(|dial| dial.0));
        fail_dial(&mut dht, at, dial, 1, unreachable());
        pauses.push((at - now).as_secs());
        now = at;
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    now += SECOND;
    learn(&mut dht, now, 1, &[address(1)]);
    let dial = dials(&outputs(&mut dht))[0].0;
    fail_dial(&mut dht, now, dial, 1, unreachable());
    let (at, dial) = wait_for(&mut dht, now, SECOND, |out| dials(out).first().map(|dial| dial.0));
    assert_eq!(at, now + SECOND, "the doubling begins anew");
    // Now it is up.
    let connected = connected_at(1, address(1), true, Some(dial));
    let id = check(&input(&mut dht, at, connected), 1);
    name(&mut dht, at, id, &[]);
    assert!(is_in(&dht, 1));
    outputs(&mut dht);
    lose(&mut dht, at, 1);
    assert!(timed(&mut dht, at + 5 * SECOND).is_empty(), "it is not tried any more");
}

#[test]
fn whoever_was_reported_is_not_tried_while_the_table_is_not_low_nor_when_it_speaks_something_else() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1)]);
    assert!(outputs(&mut dht).is_empty());
    let dialled = dials(&timed(&mut dht, now + TEN_MINUTES));
    assert!(!dialled.iter().any(|(_, whom, _)| *whom == Some(peer(1))), "{dialled:?}");
    dht.remove_peer(now + TEN_MINUTES, peer(100));
    let (now, dial) =
        wait_for(&mut dht, now + TEN_MINUTES, SECOND, |out| dials(out).first().map(|dial| dial.0));
    let connected = connected_at(1, address(1), true, Some(dial));
    let id = check(&input(&mut dht, now, connected), 1);
    input(&mut dht, now, Input::RequestFailed { id, error: RequestError::Unsupported });
    lose(&mut dht, now, 1);
    let dialled = dials(&timed(&mut dht, now + TEN_MINUTES));
    assert!(!dialled.iter().any(|(_, whom, _)| *whom == Some(peer(1))), "{dialled:?}");
}

#[test]
fn a_request_that_finds_the_protocol_unsupported_removes_the_peer_and_is_the_last() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    dht.ping(now, peer(1));
    let id = asked(&outputs(&mut dht))[0].1;
    input(&mut dht, now, Input::RequestFailed { id, error: RequestError::Unsupported });
    assert!(!is_in(&dht, 1));
    dht.find_closest(now, *b"anything");
    let out = answer_all(&mut dht, now, &[1]);
    assert!(asked(&out).iter().all(|(to, ..)| *to != peer(1)), "{out:?}");
}

#[test]
fn a_server_without_an_address_waits_and_is_checked_when_one_arrives() {
    let (mut dht, now) = (node(), start());
    let mut out = come(&mut dht, now, 1);
    out.extend(input(&mut dht, now, Input::ProtocolConfirmed { peer: peer(1) }));
    assert!(asked(&out).is_empty());
    learn(&mut dht, now + SECOND, 1, &[address(1)]);
    let id = check(&outputs(&mut dht), 1);
    name(&mut dht, now + SECOND, id, &[100]);
    assert!(is_in(&dht, 1));
}

#[test]
fn a_protocol_may_be_confirmed_before_there_is_a_connection() {
    let (mut dht, now) = (node(), start());
    let out = input(&mut dht, now, Input::ProtocolConfirmed { peer: peer(1) });
    learn(&mut dht, now, 1, &[address(1)]);
    assert!(out.is_empty() && outputs(&mut dht).is_empty(), "nobody dials for it");
    assert_eq!(checks(&come(&mut dht, now, 1), 1).len(), 1);
}

#[test]
fn addresses_survive_disconnection() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1), address(21)]);
    come(&mut dht, now, 1);
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    let later = now + 23 * 3600 * SECOND;
    timed(&mut dht, later);
    assert_eq!(dht.addresses_of(&peer(1)).len(), 2);
    dht.ping(later, peer(1));
    let out = outputs(&mut dht);
    let (_, _, dialled) =
        dials(&out).into_iter().find(|(_, whom, _)| *whom == Some(peer(1))).expect("dialled");
    assert_eq!(dialled.len(), 2);
}

#[test]
fn what_is_remembered_of_a_peer_is_forgotten_after_a_day_of_silence() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(1)]);
    timed(&mut dht, now + 25 * 3600 * SECOND);
    learn(&mut dht, now + 25 * 3600 * SECOND, 2, &[address(2)]);
    assert!(dht.addresses_of(&peer(1)).is_empty(), "a day is the longest");
}

#[test]
fn a_peer_that_is_merely_reported_is_dialled_for_a_check_while_the_table_is_low() {
    let mut dht = new_dht(0, quiet().with_low_peers(1));
    let report = |dht: &mut Dht<MemoryStore>, n: usize| {
        learn(dht, start(), n, &[address(n)]);
        let out = outputs(dht);
        assert!(out.len() == dials(&out).len(), "{out:?}");
        dials(&out)
    };
    for n in [1, 2] {
        let [(dial, Some(whom), ref at)] = report(&mut dht, n)[..] else { panic!("{n} is not dialled") };
        assert_eq!((whom, at.as_slice()), (peer(n), &[address(n)][..]));
        let connected = connected_at(n, address(n), true, Some(dial));
        let id = check(&input(&mut dht, start(), connected), n);
        name(&mut dht, start(), id, &[n + 1]);
        outputs(&mut dht);
        assert!(is_in(&dht, n));
    }
    assert!(report(&mut dht, 3).is_empty(), "two are enough");
    assert_eq!(dht.addresses_of(&peer(3)).into_vec(), [address(3)], "but it is remembered");
}

#[test]
fn a_check_that_we_could_not_make_is_made_when_the_peer_turns_up_again() {
    let mut dht = new_dht(0, quiet());
    let now = start();
    learn(&mut dht, now, 1, &[address(1)]);
    let [(dial, ..)] = dials(&outputs(&mut dht))[..] else { panic!("the table is low") };
    fail_dial(&mut dht, now, dial, 1, DialFailure::Refused);
    outputs(&mut dht);
    let later = now + TRY_AGAIN;
    let mut out = timed(&mut dht, later);
    out.extend(come(&mut dht, later, 1));
    assert_eq!(checks(&out, 1).len(), 1);
}

#[test]
fn with_manual_inserts_a_peer_is_reported_once_and_enters_after_its_address_was_added() {
    let (mut dht, now) = (new_dht(0, quiet().with_bucket_inserts(BucketInserts::Manual)), start());
    let mut out = enter(&mut dht, now, 1);
    out.extend(succeed(&mut dht, now, 1));
    out.extend(succeed(&mut dht, now, 1));
    let told = |out: &[Output]| {
        let mut told = 0;
        for event in events(out) {
            if let Event::RoutablePeer { peer: routable, address: at } = event {
                assert_eq!((routable, at), (peer(1), address(1)));
                told += 1;
            }
        }
        told
    };
    assert_eq!((told(&out), is_in(&dht, 1)), (1, false), "{out:?}");
    assert_eq!(dht.add_address(now, peer(1), address(1)), RoutingUpdate::Success, "it has just answered");
    let out = outputs(&mut dht);
    assert_eq!(updates(&out), [(peer(1), true, vec![address(1)], None)]);
    assert_eq!((told(&out), is_in(&dht, 1)), (0, true));
}

#[test]
fn with_manual_inserts_whoever_is_reported_enters_though_there_is_no_room_among_the_seeds() {
    let config =
        quiet().with_bucket_inserts(BucketInserts::Manual).with_max_seeds(NonZeroUsize::new(2).unwrap());
    let (mut dht, now) = (new_dht(0, config), start());
    for n in [200, 201] {
        assert_eq!(dht.add_address(now, peer(n), address(n)), RoutingUpdate::Pending);
    }
    outputs(&mut dht);
    for n in 1..=8 {
        enter(&mut dht, now, n);
        assert!(!is_in(&dht, n));
        assert_eq!(dht.add_address(now, peer(n), address(n)), RoutingUpdate::Success, "{n}");
        assert!(is_in(&dht, n));
    }
    // One that this node has not met is checked first, and enters then.
    assert_eq!(dht.add_address(now, peer(9), address(9)), RoutingUpdate::Pending);
    assert!(!is_in(&dht, 9));
    enter(&mut dht, now, 9);
    assert!(is_in(&dht, 9));
    // Whoever was taken out by hand is not let in again unasked.
    dht.remove_peer(now, peer(9)).unwrap();
    succeed(&mut dht, now, 9);
    assert!(!is_in(&dht, 9));
}

#[test]
fn a_peer_is_reported_once_though_identify_repeats_its_addresses() {
    let (mut dht, now) = (new_dht(0, quiet().with_bucket_inserts(BucketInserts::Manual)), start());
    let mut out = enter(&mut dht, now, 1);
    for _ in 0..5 {
        learn(&mut dht, now, 1, &[address(1)]);
        out.extend(succeed(&mut dht, now, 1));
    }
    let routable = events(&out).into_iter().filter(|event| matches!(event, Event::RoutablePeer { .. }));
    assert_eq!(routable.count(), 1);
}

#[test]
fn a_connected_server_without_an_address_is_unroutable_once() {
    let (mut dht, now) = (node(), start());
    let mut out = come(&mut dht, now, 1);
    assert!(events(&out).is_empty(), "it may be a client");
    for n in 0..3 {
        out.extend(input(&mut dht, now, Input::ProtocolConfirmed { peer: peer(1) }));
        let request = Input::RequestReceived {
            from: peer(1),
            connection: conn(1),
            id: InboundId(n),
            request: Request::Ping,
        };
        out.extend(input(&mut dht, now, request));
    }
    let unroutable = |event: &Event| matches!(event, Event::UnroutablePeer { peer: one } if *one == peer(1));
    assert_eq!(events(&out).iter().filter(|event| unroutable(event)).count(), 1);
}

#[test]
fn a_peer_that_finds_its_bucket_full_waits_and_takes_the_place_of_a_dead_one() {
    let (mut dht, now) = (new_dht(0, bucket_of(2)), start());
    let [a, b, c]: [usize; 3] = far().take(3).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(updates(&enter(&mut dht, now, a)), [(peer(a), true, vec![address(a)], None)]);
    enter(&mut dht, now, b);
    let out = enter(&mut dht, now, c);
    let [Event::PendingRoutablePeer { peer: pending, address: at }] = &events(&out)[..] else {
        panic!("{out:?}")
    };
    assert_eq!((*pending, at), (peer(c), &address(c)));
    assert!(updates(&out).is_empty() && !is_in(&dht, c));
    assert!(updates(&fail(&mut dht, now + SECOND, a)).is_empty(), "once is a doubt");
    succeed(&mut dht, now + 2 * SECOND, b);
    let out = fail(&mut dht, now + 3 * SECOND, a);
    assert_eq!(updates(&out), [(peer(c), true, vec![address(c)], Some(peer(a)))]);
    assert!(is_in(&dht, c) && !is_in(&dht, a));
}

/// A node whose farthest bucket is full, and the peer that waits; `change` happens before that moves up.
fn moved_up(change: impl FnOnce(&mut Dht<MemoryStore>, usize)) -> (Dht<MemoryStore>, usize) {
    let (mut dht, now) = (new_dht(0, bucket_of(2)), start());
    let [a, b, c]: [usize; 3] = far().take(3).collect::<Vec<_>>().try_into().unwrap();
    for n in [a, b, c] {
        enter(&mut dht, now, n);
    }
    change(&mut dht, c);
    fail(&mut dht, now + SECOND, a);
    succeed(&mut dht, now + 2 * SECOND, b);
    fail(&mut dht, now + 3 * SECOND, a);
    (dht, c)
}

#[test]
fn a_waiting_peer_that_moves_up_is_known_to_be_connected_or_not() {
    let (dht, n) = moved_up(|_, _| {});
    assert!(dht.table().entry(&key(n), &peer(n)).expect("it has moved up").is_connected());
    let (dht, n) = moved_up(|dht, n| lose(dht, start(), n));
    assert!(!dht.table().entry(&key(n), &peer(n)).expect("it has moved up").is_connected());
}

#[test]
fn a_waiting_peer_moves_up_with_the_addresses_that_were_learnt_meanwhile() {
    let (dht, n) = moved_up(|dht, n| learn(dht, start(), n, &[address(5000)]));
    let entry = dht.table().entry(&key(n), &peer(n)).expect("it has moved up");
    assert_eq!(entry.addresses().clone().into_vec(), [address(n), address(5000)]);
}

#[test]
fn a_waiting_peer_that_has_failed_is_not_handed_out_when_it_moves_up() {
    let (dht, n) = moved_up(|dht, n| drop(fail(dht, start(), n)));
    assert!(dht.table().entry(&key(n), &peer(n)).is_none_or(|entry| !entry.is_live()));
}

#[test]
fn a_waiting_peer_that_stops_serving_does_not_move_up() {
    let (dht, n) = moved_up(|dht, n| dht.handle_input(start(), Input::ProtocolUnsupported { peer: peer(n) }));
    assert!(!is_in(&dht, n));
}

#[test]
fn a_new_address_of_a_peer_of_the_table_is_an_update_and_a_known_one_is_not() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    learn(&mut dht, now, 1, &[address(21)]);
    let both = vec![address(1), address(21)];
    assert_eq!(updates(&outputs(&mut dht)), [(peer(1), false, both, None)]);
    learn(&mut dht, now, 1, &[address(21), address(1)]);
    assert!(outputs(&mut dht).is_empty());
    assert_eq!(dht.add_address(now, peer(1), address(22)), RoutingUpdate::Success);
    let all = vec![address(1), address(22), address(21)];
    assert_eq!(updates(&outputs(&mut dht)), [(peer(1), false, all, None)]);
}

#[test]
fn the_address_that_worked_last_comes_first() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    learn(&mut dht, now, 1, &[address(21)]);
    lose(&mut dht, now, 1);
    connect_at(&mut dht, now, 1, address(21));
    let first = dht.table().entry(&key(1), &peer(1)).unwrap().addresses().first().cloned();
    assert_eq!(first, Some(address(21)));
    come(&mut dht, now, 1);
    assert_eq!(
        dht.addresses_of(&peer(1)).into_vec(),
        [address(21), address(1)],
        "a source port is no address"
    );
}

fn keeps(out: &[Output]) -> Vec<(PeerId, bool)> {
    let keep = |o: &Output| {
        if let Output::KeepAlive { peer, keep, .. } = o { Some((*peer, *keep)) } else { None }
    };
    sorted(out.iter().filter_map(keep))
}

fn sorted(kept: impl IntoIterator<Item = (PeerId, bool)>) -> Vec<(PeerId, bool)> {
    let mut all: Vec<_> = kept.into_iter().collect();
    all.sort();
    all
}

#[test]
fn connections_to_the_k_closest_are_kept_and_no_longer_when_a_closer_one_is_there() {
    let (mut dht, now) = (new_dht(0, bucket_of(2)), start());
    let mut farthest: Vec<_> = far().take(2).collect();
    farthest.sort_by_key(|n| key(0).distance(&key(*n)));
    let (near, [close, distant]) = (by_distance()[0], farthest[..].try_into().unwrap());
    assert_eq!(keeps(&enter(&mut dht, now, distant)), [(peer(distant), true)]);
    assert_eq!(keeps(&enter(&mut dht, now, close)), [(peer(close), true)]);
    let displaced = sorted([(peer(near), true), (peer(distant), false)]);
    assert_eq!(keeps(&enter(&mut dht, now, near)), displaced);
    lose(&mut dht, now, near);
    assert!(keeps(&outputs(&mut dht)).is_empty(), "there is nothing to keep");
    connect_at(&mut dht, now, near, address(near));
    assert_eq!(keeps(&outputs(&mut dht)), [(peer(near), true)]);
    dht.remove_peer(now, peer(near));
    let back = sorted([(peer(near), false), (peer(distant), true)]);
    assert_eq!(keeps(&outputs(&mut dht)), back);
}

#[test]
fn whoever_is_not_connected_is_not_told_to_be_kept() {
    let (mut dht, now) = (new_dht(0, bucket_of(2)), start());
    let mut farthest: Vec<_> = far().take(2).collect();
    farthest.sort_by_key(|n| std::cmp::Reverse(key(0).distance(&key(*n))));
    for n in farthest {
        enter(&mut dht, now, n);
        lose(&mut dht, now, n);
    }
    outputs(&mut dht);
    let near = by_distance()[0];
    assert_eq!(keeps(&enter(&mut dht, now, near)), [(peer(near), true)]);
}

#[test]
fn all_connections_of_the_table_are_kept_or_none_if_so_configured() {
    for (keep_alive, expected) in [(KeepAlive::Nobody, 0), (KeepAlive::Table, 3), (KeepAlive::Closest, 2)] {
        let (mut dht, now) = (new_dht(0, bucket_of(2).with_keep_alive(keep_alive)), start());
        // From far to near, so that nobody is displaced among the first two.
        let peers = [far().next().unwrap(), by_distance()[1], by_distance()[0]];
        let mut kept = BTreeSet::new();
        for n in peers {
            for (peer, keep) in keeps(&enter(&mut dht, now, n)) {
                if keep {
                    kept.insert(peer)
                } else {
                    kept.remove(&peer)
                };
            }
        }
        assert_eq!((kept.len(), dht.table().len()), (expected, 3), "{keep_alive:?}");
    }
}

/// Disconnects a peer of the table that was silent for so long. Returns how often it is probed, and what else
/// it is asked.
fn disconnected(config: Config, silent: Duration, busy: bool) -> (usize, Vec<Request>) {
    let (mut dht, now) = (node_with(config), start());
    enter(&mut dht, now, 1);
    let now = now + silent;
    if busy {
        dht.ping(now, peer(1));
        assert_eq!(asked(&outputs(&mut dht)).len(), 1);
    }
    lose(&mut dht, now, 1);
    let out = outputs(&mut dht);
    let Some((dial, whom, _)) = dials(&out).pop() else {
        assert!(out.is_empty() && timed(&mut dht, now + SECOND).is_empty());
        return (0, Vec::new());
    };
    assert_eq!((dials(&out).len(), whom), (1, Some(peer(1))));
    let connected = connected_at(1, address(1), true, Some(dial));
    dht.handle_input(now, connected);
    let out = answer_all(&mut dht, now, &[100]);
    let probes = checks(&out, 1).len();
    let own = Request::FindNode { key: peer(1).to_bytes().into() };
    let others = asked(&out).into_iter().map(|(_, _, request)| request).filter(|request| *request != own);
    (probes, others.collect())
}

#[test]
fn a_kept_connection_that_ends_though_it_was_idle_longer_than_swarms_wait_is_suspicious() {
    assert_eq!(disconnected(quiet(), 31 * SECOND, false), (1, vec![]));
    assert_eq!(disconnected(quiet(), 30 * SECOND, false), (0, vec![]), "an idle timeout may have closed it");
}

#[test]
fn a_connection_that_is_not_kept_may_end() {
    let nobody = quiet().with_keep_alive(KeepAlive::Nobody);
    assert_eq!(disconnected(nobody, 31 * SECOND, false), (0, vec![]));
}

#[test]
fn a_connection_that_ends_with_a_request_in_flight_is_suspicious() {
    let nobody = quiet().with_keep_alive(KeepAlive::Nobody);
    assert_eq!(disconnected(nobody, SECOND, true), (1, vec![Request::Ping]));
    assert_eq!(disconnected(quiet(), 31 * SECOND, true), (1, vec![Request::Ping]));
}

#[test]
fn a_peer_that_was_silent_for_the_grace_period_is_probed() {
    let (mut dht, now) = (node_with(quiet().with_keep_alive(KeepAlive::Nobody)), start());
    enter(&mut dht, now, 1);
    succeed(&mut dht, now + SECOND, 100);
    assert!(timed(&mut dht, now + GRACE - MS).is_empty());
    assert_eq!(dht.due().map(|deadline| deadline.at), Some(now + GRACE));
    let out = timed(&mut dht, now + GRACE);
    let id = check(&out, 1);
    assert_eq!(asked(&out).len(), 1, "100 has answered a second later");
    name(&mut dht, now + GRACE, id, &[]);
    let entry = dht.table().entry(&key(1), &peer(1)).unwrap();
    assert_eq!((entry.last_seen(), entry.failures()), ((now + GRACE).instant, 0));
}

#[test]
fn a_probe_that_we_could_not_make_is_made_later_and_is_not_the_peers_failure() {
    let (mut dht, now) = (node_with(quiet().with_keep_alive(KeepAlive::Nobody)), start());
    enter(&mut dht, now, 1);
    lose(&mut dht, now, 1);
    succeed(&mut dht, now + SECOND, 100);
    let due = now + GRACE;
    let [(dial, ..)] = dials(&timed(&mut dht, due))[..] else { panic!("it is probed") };
    fail_dial(&mut dht, due, dial, 1, DialFailure::Refused);
    assert!(outputs(&mut dht).is_empty());
    assert_eq!(dht.table().entry(&key(1), &peer(1)).unwrap().failures(), 0);
    assert!(dials(&timed(&mut dht, due + TRY_AGAIN - MS)).is_empty());
    assert_eq!(dials(&timed(&mut dht, due + TRY_AGAIN)).len(), 1);
}

#[test]
fn a_peer_that_fails_five_times_while_others_answer_leaves() {
    let (mut dht, mut now) = (node_with(quiet().with_keep_alive(KeepAlive::Nobody)), start());
    enter(&mut dht, now, 1);
    lose(&mut dht, now, 1);
    dht.ping(now, peer(1));
    for failures in 1..=5 {
        let [(dial, Some(whom), _)] = dials(&outputs(&mut dht))[..] else {
            panic!("{failures}: it is not probed")
        };
        assert_eq!(whom, peer(1));
        assert_eq!(dht.table().entry(&key(1), &peer(1)).map(Entry::failures), Some(failures - 1));
        succeed(&mut dht, now, 100);
        now += SECOND;
        fail_dial(&mut dht, now, dial, 1, unreachable());
        outputs(&mut dht);
        now = dht.due().unwrap().at;
        dht.handle_timeout(now);
    }
    assert!(!is_in(&dht, 1) && is_in(&dht, 100));
}

#[test]
fn the_first_answer_after_an_outage_does_not_cost_the_others_their_places() {
    let (mut dht, mut now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1, 2]);
    lose(&mut dht, now, 1);
    lose(&mut dht, now, 2);
    // Nobody answers for an hour.
    let end = now + 3600 * SECOND;
    let mut open = Vec::new();
    while now < end || open.len() < 2 {
        now = dht.due().unwrap().at;
        dht.handle_timeout(now);
        open.extend(dials(&outputs(&mut dht)));
        if now < end {
            for (dial, whom, _) in open.drain(..) {
                dht.handle_input(
                    now,
                    Input::DialFailed { dial: Some(dial), peer: whom, error: unreachable() },
                );
            }
        }
    }
    // Both are being dialled when the first answers; the dial of the other began too early.
    for (dial, whom, _) in open {
        if whom == Some(peer(1)) {
            let connected = connected_at(1, address(1), true, Some(dial));
            dht.handle_input(now, connected);
            answer_all(&mut dht, now, &[2]);
        } else {
            fail_dial(&mut dht, now + SECOND, dial, 2, unreachable());
        }
    }
    assert!(dht.table().entry(&key(1), &peer(1)).unwrap().is_live());
    assert!(is_in(&dht, 2), "one more failure does not weigh as much as all before");
}

#[test]
fn a_peer_that_was_removed_may_enter_again_when_it_answers() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    let removed = dht.remove_peer(now, peer(1)).expect("it was there");
    assert_eq!(removed.peer(), peer(1));
    assert!(!is_in(&dht, 1) && dht.remove_peer(now, peer(1)).is_none());
    succeed(&mut dht, now, 1);
    assert!(is_in(&dht, 1));
}

#[test]
fn a_seed_that_was_removed_is_not_asked_any_more() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    dht.add_address(now, peer(1), address(1));
    assert!(dht.bootstrap(now).is_ok());
    assert!(dht.remove_peer(now, peer(1)).is_none(), "it was not in the table");
    assert!(dht.bootstrap(now).is_err());
}

#[test]
fn a_peer_leaves_with_its_last_address() {
    let (mut dht, now) = (node(), start());
    enter(&mut dht, now, 1);
    dht.add_address(now, peer(1), address(21));
    outputs(&mut dht);
    assert!(dht.remove_address(now, peer(1), &address(1)).is_none());
    assert_eq!(updates(&outputs(&mut dht)), [(peer(1), false, vec![address(21)], None)]);
    let with_suffix = address(21).with(libp2p_core::multiaddr::Protocol::P2p(peer(1)));
    let removed = dht.remove_address(now, peer(1), &with_suffix).expect("its last one");
    assert_eq!(removed.peer(), peer(1));
    assert!(!is_in(&dht, 1) && dht.addresses_of(&peer(1)).is_empty());
    assert!(dht.remove_address(now, peer(77), &address(77)).is_none(), "nobody knows it");
}

#[test]
fn a_seed_goes_with_its_last_address() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    dht.add_address(now, peer(1), address(1));
    dht.add_address(now, peer(1), address(21));
    dht.remove_address(now, peer(1), &address(1));
    assert!(dht.bootstrap(now).is_ok());
    dht.remove_address(now, peer(1), &address(21));
    assert!(dht.bootstrap(now).is_err());
}

#[test]
fn whoever_was_in_the_table_when_its_address_was_added_is_a_seed_too() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1]);
    assert_eq!(dht.add_address(now, peer(1), address(1)), RoutingUpdate::Success);
    input(&mut dht, now, Input::ProtocolUnsupported { peer: peer(1) });
    assert!(dht.table().is_empty());
    assert!(dht.bootstrap(now).is_ok(), "it is not forgotten");
}

#[test]
fn own_and_foreign_addresses_are_not_added() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let of = |n| address(1).with(libp2p_core::multiaddr::Protocol::P2p(peer(n)));
    assert_eq!(dht.add_address(now, peer(0), address(0)), RoutingUpdate::Failed);
    assert_eq!(dht.add_address(now, peer(1), of(2)), RoutingUpdate::Failed);
    assert_eq!(dht.add_address(now, peer(1), Multiaddr::empty()), RoutingUpdate::Failed);
    assert!(outputs(&mut dht).is_empty() && dht.bootstrap(now).is_err());
    assert_eq!(dht.add_address(now, peer(1), of(1)), RoutingUpdate::Pending);
    assert_eq!(dht.addresses_of(&peer(1)).into_vec(), [address(1)]);
}

#[test]
fn what_nobody_can_dial_and_what_leads_to_this_node_is_refused_at_every_door() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let external = vec!["/ip4/0.0.0.0/tcp/1".parse().unwrap(), address(88)];
    dht.handle_input(now, Input::LocalAddresses { external, listening: vec![address(77)] });
    let bad: Vec<Multiaddr> =
        ["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1", "/ip4/1.2.3.4/tcp/0", "/ip4/224.0.0.1/udp/1"]
            .map(|text| text.parse().unwrap())
            .into_iter()
            .chain([
                address(77),
                address(88),
                address(77).with(libp2p_core::multiaddr::Protocol::P2p(peer(1))),
            ])
            .collect();
    for address in &bad {
        assert_eq!(dht.add_address(now, peer(1), address.clone()), RoutingUpdate::Failed, "{address}");
    }
    for address in &bad {
        learn(&mut dht, now, 1, std::slice::from_ref(address));
        connect_at(&mut dht, now, 1, address.clone());
    }
    assert!(dht.addresses_of(&peer(1)).is_empty());
    assert!(dials(&outputs(&mut dht)).is_empty());
    // Nor are they taken from what others say, on the wire or off it.
    admit(&mut dht, now, [2]);
    dht.find_closest(now, *b"anything");
    let mut named = named_peer(3);
    named.multiaddrs = Addresses::collect(&peer(3), [address(77), address(3)]);
    let id = asked(&outputs(&mut dht))[0].1;
    let response = Response::FindNode { closer_peers: vec![named] };
    let out = input(&mut dht, now, Input::ResponseReceived { id, response });
    assert_eq!(dials(&out)[0].2, [address(3)]);
    // And this node publishes none that nobody can dial.
    let closer = ask_for_own(&mut dht, now);
    assert_eq!(closer[0].multiaddrs.clone().into_vec(), [address(88)]);
}

#[test]
fn an_address_of_a_reserved_range_is_told_within_that_range_only() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let [special, world]: [Multiaddr; 2] =
        ["/ip4/198.18.0.1/tcp/1", "/ip4/1.2.3.4/tcp/1"].map(|text| text.parse().unwrap());
    learn(&mut dht, now, 1, std::slice::from_ref(&world));
    connect_at(&mut dht, now, 1, special.clone());
    for (origin, reach, expected) in [
        (2, "/ip4/5.6.7.8/tcp/9", vec![world.clone()]),
        (3, "/ip4/127.0.0.1/tcp/9", vec![world.clone()]),
        (4, "/ip4/198.19.0.1/tcp/9", vec![special, world]),
    ] {
        connect_at(&mut dht, now, origin, reach.parse().unwrap());
        outputs(&mut dht);
        let request = Request::FindNode { key: peer(1).to_bytes().into() };
        let out = input(
            &mut dht,
            now,
            Input::RequestReceived {
                from: peer(origin),
                connection: conn(origin),
                id: InboundId(1),
                request,
            },
        );
        assert_eq!(named_in(&out)[0].multiaddrs.clone().into_vec(), expected);
    }
}

/// What a peer says of itself is told to others as far as its connection proves it, and as far as they can use it.
#[test]
fn what_a_peer_claims_is_handed_on_only_where_its_connection_shows_that_it_is() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let at = |text: &str| text.parse::<Multiaddr>().unwrap();
    let relayed = |relay: usize| at(&format!("/ip4/9.9.9.9/tcp/1/p2p/{}/p2p-circuit", peer(relay)));
    connect_at(&mut dht, now, 5, at("/ip4/9.9.9.9/tcp/1"));
    let source = at("/ip4/8.8.8.8/tcp/50000");
    dht.handle_input(now, connected_at(1, source, false, None));
    let claims = [
        at("/ip4/8.8.8.8/tcp/4001"),
        at("/ip4/7.7.7.7/tcp/80"),
        at("/ip4/169.254.169.254/tcp/80"),
        at("/dns4/bank.example/tcp/443"),
        relayed(5),
        relayed(6),
    ];
    learn(&mut dht, now, 1, &claims);
    let handed_on = |dht: &Dht<MemoryStore>| dht.peers.get(&peer(1)).unwrap().addresses.clone();
    let mut told = handed_on(&dht).into_vec();
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, [at("/ip4/8.8.8.8/tcp/4001"), relayed(5)], "its own address, and a relay that is known");
    // Where it has been dialled it is.
    dht.handle_input(
        now,
        Input::Connected {
            located: None,
            peer: peer(1),
            connection: conn(2),
            address: at("/ip4/7.7.7.7/tcp/80"),
            dialled: true,
            dial: None,
        },
    );
    assert_eq!(handed_on(&dht).first(), Some(&at("/ip4/7.7.7.7/tcp/80")));
    assert_eq!(
        dht.addresses_of(&peer(1)).len(),
        5,
        "the others are good for dialling, but what is of a machine or a site"
    );
}

/// It has one address for what goes out and another for those who come in.
#[test]
fn a_server_whose_connection_proves_no_address_of_it_is_dialled_once_beside_that() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let at = |text: &str| text.parse::<Multiaddr>().unwrap();
    connect_at(&mut dht, now, 1, at("/ip4/8.8.8.8/tcp/50000"));
    let connected = |dialled, connection, address| Input::Connected {
        located: None,
        peer: peer(2),
        connection: conn(connection),
        address,
        dialled,
        dial: None,
    };
    dht.handle_input(now, connected(false, 2, at("/ip4/7.7.7.7/tcp/50000")));
    dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(2) });
    learn(&mut dht, now, 2, &[at("/ip4/6.6.6.6/tcp/4001")]);
    assert!(dials(&outputs(&mut dht)).is_empty(), "it may say more");
    for _ in 0..3 {
        let (from, connection, id) = (peer(2), conn(2), InboundId(1));
        let request = Request::Ping;
        dht.handle_input(now, Input::RequestReceived { from, connection, id, request });
    }
    let dialled = dials(&outputs(&mut dht));
    assert_eq!(dialled.len(), 1);
    assert_eq!((dialled[0].1, &dialled[0].2[..]), (Some(peer(2)), &[at("/ip4/6.6.6.6/tcp/4001")][..]));
    dht.handle_input(now, connected(true, 3, at("/ip4/6.6.6.6/tcp/4001")));
    answer_all(&mut dht, now, &[1]);
    prove(&mut dht, now, 2);
    let entry = dht.table().entry(&key(2), &peer(2)).unwrap();
    assert_eq!(entry.addresses().first(), Some(&at("/ip4/6.6.6.6/tcp/4001")));
}

/// Each comes from a network of its own, and all of them from one after that.
#[test]
fn whoever_enters_from_elsewhere_and_comes_back_counts_where_it_is() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let all: Vec<usize> = by_distance().into_iter().take(12).collect();
    for n in &all {
        enter_at(&mut dht, now, *n, &format!("/ip4/{}.9.0.1/tcp/1", 20 + n % 200));
    }
    let before = dht.table().len();
    assert!(before >= 10, "{before}");
    for n in &all {
        lose(&mut dht, now, *n);
        connect_at(&mut dht, now, *n, format!("/ip4/7.7.0.1/tcp/{n}").parse().unwrap());
        outputs(&mut dht);
    }
    let home = |entry: &&Entry| entry.groups().iter().any(|group| group == crate::addrs::IpGroup::V4([7, 7]));
    let left = dht.table().entries().filter(home).count();
    assert!((1..=3).contains(&left) && dht.table().len() == left, "{left} of {}", dht.table().len());
}

#[test]
fn addresses_of_a_site_are_told_within_it() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    enter_at(&mut dht, now, 1, "/ip4/10.0.0.1/tcp/1");
    enter_at(&mut dht, now, 2, "/ip4/9.9.9.9/tcp/1");
    for (origin, from, expected) in
        [(3, "/ip4/10.0.0.9/tcp/9", vec![peer(1), peer(2)]), (4, "/ip4/5.6.7.8/tcp/9", vec![peer(2)])]
    {
        connect_at(&mut dht, now, origin, from.parse().unwrap());
        outputs(&mut dht);
        let (from, connection, id) = (peer(origin), conn(origin), InboundId(1));
        let request = Request::FindNode { key: b"anything"[..].into() };
        let out = input(&mut dht, now, Input::RequestReceived { from, connection, id, request });
        let mut named: Vec<_> = named_in(&out).into_iter().map(|named| named.node_id).collect();
        named.retain(|named| expected.contains(named) || [peer(1), peer(2)].contains(named));
        named.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(named, expected);
    }
}

/// Asks a lone node, as a peer that is connected, for the node itself.
fn ask_for_own(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<crate::peer::KadPeer> {
    let request = Request::FindNode { key: dht.local_peer_id().to_bytes().into() };
    let out = input(
        dht,
        now,
        Input::RequestReceived { from: peer(2), connection: conn(2), id: InboundId(1), request },
    );
    named_in(&out)
}

/// The peers that the answer among the outputs names.
fn named_in(outputs: &[Output]) -> Vec<crate::peer::KadPeer> {
    let named = outputs.iter().find_map(|output| match output {
        Output::SendResponse { response: Response::FindNode { closer_peers }, .. } => Some(closer_peers),
        _ => None,
    });
    named.expect("it is answered").clone()
}

#[test]
fn seeds_are_bounded() {
    let config = quiet().with_max_seeds(NonZeroUsize::new(2).unwrap());
    let (mut dht, now) = (new_dht(0, config), start());
    let mut add = |n, at| dht.add_address(now, peer(n), address(at));
    assert_eq!([add(1, 1), add(2, 2)], [RoutingUpdate::Pending; 2]);
    assert_eq!([add(3, 3), add(1, 21)], [RoutingUpdate::Failed, RoutingUpdate::Pending]);
    let out = outputs(&mut dht);
    assert!(dials(&out).iter().all(|(_, whom, _)| *whom != Some(peer(3))), "it is not even checked: {out:?}");
    assert_eq!(dials(&out).len(), 2);
    enter(&mut dht, now, 3);
    assert_eq!(dht.add_address(now, peer(3), address(23)), RoutingUpdate::Success, "it is in the table");
}

/// A node that keeps no IPv4 address.
fn without_ipv4() -> Dht<MemoryStore> {
    node_with(quiet().with_address_filter(|address| !address.to_string().starts_with("/ip4")))
}

fn ipv4(n: usize) -> Multiaddr {
    format!("/ip4/10.0.0.{n}/tcp/1").parse().unwrap()
}

#[test]
fn an_address_that_is_filtered_out_is_neither_added_nor_learnt_nor_met() {
    let (mut dht, now) = (without_ipv4(), start());
    assert_eq!(dht.add_address(now, peer(1), ipv4(1)), RoutingUpdate::Failed);
    assert!(outputs(&mut dht).is_empty());
    learn(&mut dht, now, 2, &[ipv4(2), address(2)]);
    assert_eq!(dht.addresses_of(&peer(2)).into_vec(), [address(2)]);
    connect_at(&mut dht, now, 3, ipv4(3));
    assert!(dht.addresses_of(&peer(3)).is_empty());
    enter(&mut dht, now, 4);
    learn(&mut dht, now, 4, &[ipv4(4)]);
    lose(&mut dht, now, 4);
    connect_at(&mut dht, now, 4, ipv4(4));
    assert_eq!(dht.table().entry(&key(4), &peer(4)).unwrap().addresses().clone().into_vec(), [address(4)]);
}

#[test]
fn an_address_that_is_filtered_out_is_not_dialled_though_an_answer_names_it() {
    let (mut dht, now) = (without_ipv4(), start());
    let named = |n: usize, addresses: Vec<Multiaddr>| KadPeer {
        multiaddrs: Addresses::collect(&peer(n), addresses),
        ..named_peer(n)
    };
    dht.find_closest(now, *b"anything");
    let id = asked(&outputs(&mut dht))[0].1;
    let closer_peers = vec![named(1, vec![ipv4(1)]), named(2, vec![ipv4(2), address(2)])];
    let out =
        input(&mut dht, now, Input::ResponseReceived { id, response: Response::FindNode { closer_peers } });
    let dialled: Vec<_> = dials(&out).into_iter().map(|(_, whom, at)| (whom, at)).collect();
    assert_eq!(dialled, [(Some(peer(2)), vec![address(2)])]);
}

#[test]
fn the_third_of_an_ip_group_in_a_bucket_is_refused_whatever_else_it_claims() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let [a, b, c, d, e]: [usize; 5] = far().take(5).collect::<Vec<_>>().try_into().unwrap();
    for n in [a, b] {
        enter_at(&mut dht, now, n, &format!("/ip4/1.2.{n}.4/tcp/1"));
        assert!(is_in(&dht, n));
    }
    let local = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    learn(&mut dht, now, c, &[local]);
    enter_at(&mut dht, now, c, "/ip4/1.2.200.4/tcp/1");
    assert!(!is_in(&dht, c), "a claimed address exempts nobody");
    let source = "/ip4/1.2.201.4/tcp/50000".parse().unwrap();
    learn(&mut dht, now, d, &["/ip4/7.7.7.7/tcp/1".parse().unwrap()]);
    dht.handle_input(now, connected_at(d, source, false, None));
    answer_all(&mut dht, now, &[100]);
    assert!(!is_in(&dht, d), "where it comes from counts");
    learn(&mut dht, now, e, &["/ip4/1.2.202.4/tcp/1".parse().unwrap()]);
    enter_at(&mut dht, now, e, "/ip4/9.9.9.9/tcp/1");
    assert!(is_in(&dht, e), "a claimed address counts against nobody");
}

/// Lets the three farthest peers of one group try to enter, and returns how many are in.
fn of_one_group(config: Config) -> usize {
    let (mut dht, now) = (new_dht(0, config), start());
    for n in far().take(3) {
        enter_at(&mut dht, now, n, &format!("/ip4/1.2.{n}.4/tcp/1"));
    }
    dht.table().len()
}

#[test]
fn limits_per_ip_group_can_be_lifted() {
    assert_eq!(of_one_group(quiet()), 2);
    assert_eq!(of_one_group(quiet().with_ip_diversity(IpDiversity::Off)), 3);
    let exempt = IpLimits { exempt: vec![("1.2.0.0".parse().unwrap(), 16)], ..IpLimits::default() };
    assert_eq!(of_one_group(quiet().with_ip_limits(exempt)), 3);
}

#[test]
fn the_fourth_of_an_ip_group_in_the_table_is_refused() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let mut bucket = None::<Distance>;
    let mut entered = 0;
    // One from each bucket, so that the limit of a bucket plays no part.
    for n in by_distance().into_iter().rev() {
        let distance = key(0).distance(&key(n));
        if bucket.is_none_or(|last| last.bucket() != distance.bucket()) {
            bucket = Some(distance);
            enter_at(&mut dht, now, n, &format!("/ip4/1.2.{}.4/tcp/1", n % 250));
            entered += 1;
        }
    }
    assert!(entered > 4);
    assert_eq!(dht.table().len(), 3);
}

#[test]
fn a_refresh_that_is_due_when_the_table_is_empty_is_put_off() {
    let config = quiet().with_refresh_interval(Some(TEN_MINUTES)).unwrap();
    let (mut dht, now) = (node_with(config), start());
    dht.remove_peer(now, peer(100));
    assert!(dht.table().is_empty());
    let later = now + 2 * TEN_MINUTES;
    check_refresh(&dht, later.instant);
    timed(&mut dht, later);
    assert!(dht.due().is_none_or(|deadline| deadline.at > later));
}

#[test]
fn what_others_say_of_a_peers_addresses_is_dialled_but_not_handed_on() {
    let mut dht = new_dht(0, Config::default());
    meet(&mut dht, start(), 1);
    answer_all(&mut dht, start(), &[1]);
    // The first peer names the second at its address and at one of somebody else.
    dht.find_closest(start(), b"key".to_vec());
    let lie: Multiaddr = "/ip4/8.8.8.8/tcp/53".parse().unwrap();
    let mut named = named_peer(2);
    named.multiaddrs = Addresses::collect(&peer(2), [lie.clone(), address(2)]);
    let request = outputs(&mut dht).into_iter().find_map(|output| match output {
        Output::SendRequest { id, .. } => Some(id),
        _ => None,
    });
    let response = Response::FindNode { closer_peers: vec![named] };
    dht.handle_input(start(), Input::ResponseReceived { id: request.unwrap(), response });
    let dialled = outputs(&mut dht).into_iter().find_map(|output| match output {
        Output::Dial { id, addresses, .. } => Some((id, addresses)),
        _ => None,
    });
    let (dial, addresses) = dialled.unwrap();
    assert_eq!(addresses, [lie, address(2)], "all of them are tried");
    let connected = connected_at(2, address(2), true, Some(dial));
    dht.handle_input(start(), connected);
    answer_all(&mut dht, start(), &[1]);
    let entry = dht.table().entry(&key(2), &peer(2)).unwrap();
    assert_eq!(entry.addresses().clone().into_vec(), [address(2)], "only where it was met is handed on");
}
