//! Requests to peers: dialled for, sent, retried, given up, and whose failure it was.

use super::*;
use crate::dht::op::{PingError, PingOk};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A node that is connected to one server, with number 100.
fn node_with(config: Config) -> Dht<MemoryStore> {
    let mut dht = new_dht(0, config);
    admit(&mut dht, start(), [100]);
    dht
}

/// A node that is connected to one server, with number 100, and knows where the peers 1 to 9 are.
fn node() -> Dht<MemoryStore> {
    let mut dht = node_with(quiet());
    (1..10).for_each(|n| learn(&mut dht, start(), n, &[address(n)]));
    assert!(outputs(&mut dht).is_empty(), "nobody is checked");
    dht
}

/// A node in whose table stand a connected peer, 100, and one without a connection, 1.
fn node_and_one() -> Dht<MemoryStore> {
    let mut dht = node();
    admit(&mut dht, start(), [1]);
    lose(&mut dht, start(), 1);
    assert!(asked(&outputs(&mut dht)).is_empty());
    dht
}

fn ping(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> (QueryId, Vec<Output>) {
    let query = dht.ping(now, peer(n));
    (query, outputs(dht))
}

/// Pings a peer, and returns the query and the dial that it takes.
fn ping_by_dial(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> (QueryId, DialId) {
    let (query, out) = ping(dht, now, n);
    let [(dial, Some(whom), _)] = dials(&out)[..] else { panic!("{out:?}") };
    assert_eq!(whom, peer(n));
    (query, dial)
}

/// Pings a connected peer, and returns the query and its request.
fn ping_by_request(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> (QueryId, RequestId) {
    let (query, out) = ping(dht, now, n);
    let [(to, id, Request::Ping)] = asked(&out)[..] else { panic!("{out:?}") };
    assert_eq!(to, peer(n));
    (query, id)
}

fn answered(dht: &mut Dht<MemoryStore>, now: Now, id: RequestId) -> Vec<Output> {
    dht.handle_input(now, Input::ResponseReceived { id, response: Response::Pong });
    outputs(dht)
}

fn failed(dht: &mut Dht<MemoryStore>, now: Now, id: RequestId, error: RequestError) -> Vec<Output> {
    dht.handle_input(now, Input::RequestFailed { id, error });
    outputs(dht)
}

fn dial_failed(
    dht: &mut Dht<MemoryStore>,
    now: Now,
    id: DialId,
    n: usize,
    error: DialFailure,
) -> Vec<Output> {
    fail_dial(dht, now, id, n, error);
    outputs(dht)
}

fn connected(dht: &mut Dht<MemoryStore>, now: Now, n: usize, dial: Option<DialId>) -> Vec<Output> {
    dht.handle_input(now, connected_at(n, address(n), true, dial));
    outputs(dht)
}

fn timed(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<Output> {
    dht.handle_timeout(now);
    outputs(dht)
}

/// How a ping ended: its round-trip time, or what happened instead. `None` if it has not.
fn pinged(outputs: &[Output], query: QueryId) -> Option<Result<Duration, RequestError>> {
    let QueryResult::Ping(result) = result_of(outputs, query)? else { panic!("{query} is no ping") };
    Some(result.map(|PingOk { rtt, .. }| rtt).map_err(|error| {
        let PingError::Failed { source: error, .. } = error else { panic!("{error}") };
        error
    }))
}

fn failures(dht: &Dht<MemoryStore>, n: usize) -> u8 {
    dht.table().entry(&key(n), &peer(n)).expect("the peer is in the table").failures()
}

/// Lets a lookup hear of a peer, and returns the dial if it asks that peer.
fn dial_of_a_lookup(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Option<DialId> {
    let query = dht.find_closest(now, *b"anything");
    let out = outputs(dht);
    let (_, id, _) = asked(&out).into_iter().find(|(to, ..)| *to == peer(100)).expect("100 is asked");
    name(dht, now, id, &[n]);
    let all = [out, outputs(dht)].concat();
    assert!(asked(&all).iter().all(|(to, ..)| *to == peer(100)));
    dht.cancel(now, query);
    outputs(dht);
    let dial = dials(&all).into_iter().find(|(_, whom, _)| *whom == Some(peer(n)));
    dial.map(|(id, ..)| id)
}

#[test]
fn a_request_to_a_peer_without_connection_dials_first_and_is_sent_when_connected() {
    let (mut dht, now) = (node(), start());
    let (first, out) = ping(&mut dht, now, 1);
    let [(dial, Some(whom), ref addresses)] = dials(&out)[..] else { panic!("{out:?}") };
    assert_eq!((whom, addresses.as_slice()), (peer(1), &[address(1)][..]));
    assert_eq!(out.len(), 1, "nothing is sent yet: {out:?}");
    let (second, out) = ping(&mut dht, now, 1);
    assert!(out.is_empty(), "one dial is enough: {out:?}");
    assert_eq!(dht.num_requests(), 2);
    let out = connected(&mut dht, now + SECOND, 1, Some(dial));
    let sent = asked(&out);
    assert!(sent.len() >= 2 && sent.iter().all(|(to, ..)| *to == peer(1)), "{out:?}");
    for (query, (_, id, request)) in [first, second].into_iter().zip(sent) {
        assert_eq!(request, Request::Ping);
        assert_eq!(pinged(&answered(&mut dht, now + SECOND, id), query), Some(Ok(Duration::ZERO)));
    }
}

#[test]
fn a_request_to_a_peer_whose_address_nobody_told_is_dialled_all_the_same() {
    let mut dht = node();
    let (_, out) = ping(&mut dht, start(), 50);
    assert!(
        matches!(&dials(&out)[..], [(_, Some(whom), addresses)] if *whom == peer(50) && addresses.is_empty())
    );
}

#[test]
fn whoever_connects_by_himself_gets_what_waits_for_him() {
    let mut dht = node();
    ping_by_dial(&mut dht, start(), 1);
    let source = "/memory/999999".parse().unwrap();
    dht.handle_input(start(), connected_at(1, source, false, None));
    assert!(asked(&outputs(&mut dht)).iter().any(|(_, _, request)| *request == Request::Ping));
}

#[test]
fn a_failed_dial_is_unreachable_and_the_entry_is_doubted() {
    let (mut dht, now) = (node_and_one(), start());
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let out = dial_failed(&mut dht, now, dial, 1, unreachable());
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
    assert_eq!((failures(&dht, 1), dht.num_requests()), (1, 0));
    assert!(!dht.table().entry(&key(1), &peer(1)).unwrap().is_live());
}

#[test]
fn an_unreachable_peer_is_left_alone_for_twice_as_long_each_time_up_to_ten_minutes() {
    let (mut dht, mut now) = (node(), start());
    let mut dial = dial_of_a_lookup(&mut dht, now, 1).expect("it did not fail yet");
    for pause in [5, 10, 20, 40, 80, 160, 320, 600, 600, 600] {
        dial_failed(&mut dht, now, dial, 1, unreachable());
        let over = now + pause * SECOND;
        assert_eq!(dial_of_a_lookup(&mut dht, over - MS, 1), None, "it failed less than {pause} s ago");
        now = over;
        dial = dial_of_a_lookup(&mut dht, now, 1).unwrap_or_else(|| panic!("{pause} s are over"));
    }
}

#[test]
fn a_peer_that_connects_is_not_left_alone_any_more() {
    let (mut dht, now) = (node(), start());
    let (_, dial) = ping_by_dial(&mut dht, now, 1);
    dial_failed(&mut dht, now, dial, 1, unreachable());
    assert!(!dht.peers.is_worth_asking(now.instant, &peer(1)));
    connected(&mut dht, now, 1, None);
    assert!(dht.peers.is_worth_asking(now.instant, &peer(1)));
}

#[test]
fn a_peer_that_answers_begins_anew_with_the_shortest_pause() {
    let (mut dht, mut now) = (node(), start());
    for _ in 0..3 {
        let (_, dial) = ping_by_dial(&mut dht, now, 1);
        dial_failed(&mut dht, now, dial, 1, unreachable());
        now += 100 * SECOND;
    }
    admit(&mut dht, now, [1]);
    lose(&mut dht, now, 1);
    let (_, dial) = ping_by_dial(&mut dht, now, 1);
    dial_failed(&mut dht, now, dial, 1, unreachable());
    assert!(!dht.peers.is_worth_asking((now + 5 * SECOND - MS).instant, &peer(1)));
    assert!(dht.peers.is_worth_asking((now + 5 * SECOND).instant, &peer(1)));
}

#[test]
fn several_requests_that_fail_by_one_dial_count_as_one_failure() {
    let (mut dht, now) = (node_and_one(), start());
    let (first, dial) = ping_by_dial(&mut dht, now, 1);
    let others: Vec<_> = (0..9).map(|_| ping(&mut dht, now, 1).0).collect();
    let out = dial_failed(&mut dht, now, dial, 1, unreachable());
    for query in others.into_iter().chain([first]) {
        assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
    }
    assert_eq!(failures(&dht, 1), 1, "five in a row make a peer stale, one dial does not");
}

#[test]
fn several_requests_that_fail_at_once_make_one_pause() {
    let (mut dht, now) = (node(), start());
    let (_, dial) = ping_by_dial(&mut dht, now, 1);
    (0..9).for_each(|_| assert!(ping(&mut dht, now, 1).1.is_empty()));
    dial_failed(&mut dht, now, dial, 1, unreachable());
    assert_eq!(dial_of_a_lookup(&mut dht, now + 5 * SECOND - MS, 1), None);
    assert!(dial_of_a_lookup(&mut dht, now + 5 * SECOND, 1).is_some());
}

#[test]
fn several_requests_that_time_out_at_once_count_as_one_failure() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    for _ in 0..9 {
        ping_by_request(&mut dht, now, 1);
    }
    timed(&mut dht, now + TIMEOUT);
    assert_eq!(failures(&dht, 1), 1);
}

/// Lets the dial of a peer of the table fail, checks that it does not count, and returns what is told.
fn refused(error: DialFailure) -> RequestError {
    let (mut dht, now) = (node_and_one(), start());
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let out = dial_failed(&mut dht, now, dial, 1, error);
    assert_eq!((failures(&dht, 1), dht.num_requests()), (0, 0));
    assert!(dht.peers.is_worth_asking(now.instant, &peer(1)), "it is not left alone");
    assert!(dial_of_a_lookup(&mut dht, now, 1).is_some(), "it is asked again at once");
    let told = pinged(&out, query).expect("it has ended").expect_err("it has failed");
    assert!(!told.is_peers_fault());
    told
}

#[test]
fn a_refusal_of_our_own_is_not_the_peers_failure() {
    assert_eq!(refused(DialFailure::Refused), RequestError::DialRefused);
}

#[test]
fn having_no_address_is_not_the_peers_failure() {
    assert_eq!(refused(DialFailure::NoAddresses), RequestError::NoAddresses);
}

#[test]
fn meeting_ourselves_at_its_only_address_is_not_the_peers_failure() {
    assert_eq!(refused(DialFailure::Own { address: address(1) }), RequestError::DialRefused);
}

#[test]
fn an_own_address_is_forgotten_and_the_others_are_dialled() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(21)]);
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let out = dial_failed(&mut dht, now, dial, 1, DialFailure::Own { address: address(1) });
    assert_eq!(pinged(&out, query), None);
    assert!(
        matches!(&dials(&out)[..], [(_, Some(whom), left)] if *whom == peer(1) && *left == [address(21)])
    );
}

#[test]
fn a_dial_of_somebody_else_is_awaited_and_not_the_peers_failure() {
    let (mut dht, now) = (node_and_one(), start());
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let out = dial_failed(&mut dht, now, dial, 1, DialFailure::UnderWay);
    assert!(out.is_empty(), "it waits: {out:?}");
    assert_eq!((failures(&dht, 1), dht.num_requests()), (0, 1));
    assert!(dht.peers.is_worth_asking(now.instant, &peer(1)));
    assert!(ping(&mut dht, now, 1).1.is_empty(), "nor is it dialled for another request");
    let out = connected(&mut dht, now + SECOND, 1, None);
    let (_, id, _) = asked(&out)[0].clone();
    assert_eq!(asked(&out).len(), 2);
    assert_eq!(pinged(&answered(&mut dht, now + SECOND, id), query), Some(Ok(Duration::ZERO)));
}

#[test]
fn when_the_dial_of_somebody_else_fails_we_dial_ourselves() {
    let (mut dht, now) = (node_and_one(), start());
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    dial_failed(&mut dht, now, dial, 1, DialFailure::UnderWay);
    dht.handle_input(now, Input::DialFailed { dial: None, peer: Some(peer(1)), error: unreachable() });
    let out = outputs(&mut dht);
    let [(again, Some(whom), ref addresses)] = dials(&out)[..] else { panic!("{out:?}") };
    assert!(whom == peer(1) && again != dial && *addresses == [address(1)]);
    assert_eq!((failures(&dht, 1), pinged(&out, query)), (0, None));
    let out = dial_failed(&mut dht, now, again, 1, unreachable());
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
}

#[test]
fn the_dial_of_somebody_else_says_nothing_to_a_node_that_does_not_wait_for_it() {
    let (mut dht, now) = (node_and_one(), start());
    let foreign = Input::DialFailed { dial: None, peer: Some(peer(1)), error: unreachable() };
    dht.handle_input(now, foreign.clone());
    assert!(outputs(&mut dht).is_empty());
    assert_eq!(failures(&dht, 1), 0);
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    dht.handle_input(now, foreign);
    assert!(outputs(&mut dht).is_empty(), "our own dial is still under way");
    let out = dial_failed(&mut dht, now, dial, 1, unreachable());
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
}

fn wrong_peer(address: Multiaddr) -> DialFailure {
    DialFailure::WrongPeer { address, met: peer(99) }
}

#[test]
fn an_address_at_which_another_peer_answers_is_dropped_and_the_others_are_dialled() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(21)]);
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let out = dial_failed(&mut dht, now, dial, 1, wrong_peer(address(1)));
    let [(again, _, ref addresses)] = dials(&out)[..] else { panic!("{out:?}") };
    assert_eq!((addresses.as_slice(), pinged(&out, query)), (&[address(21)][..], None));
    assert_eq!(dht.addresses_of(&peer(1)).into_vec(), [address(21)]);
    let out = dial_failed(&mut dht, now, again, 1, wrong_peer(address(21)));
    assert!(dials(&out).is_empty(), "none is left");
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
    assert!(dht.addresses_of(&peer(1)).is_empty() && !dht.peers.is_worth_asking(now.instant, &peer(1)));
}

#[test]
fn a_dial_that_fails_at_an_address_that_was_not_dialled_is_not_made_again() {
    let (mut dht, now) = (node(), start());
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let out = dial_failed(&mut dht, now, dial, 1, wrong_peer(address(22)));
    assert!(dials(&out).is_empty(), "{out:?}");
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
}

#[test]
fn unsupported_addresses_are_forgotten() {
    let (mut dht, now) = (node(), start());
    learn(&mut dht, now, 1, &[address(21), address(22)]);
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let error =
        DialFailure::Unreachable { unsupported: vec![address(1), address(22)], why: Unreached::Silent };
    let out = dial_failed(&mut dht, now, dial, 1, error);
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
    assert_eq!(dht.addresses_of(&peer(1)).into_vec(), [address(21)]);
    let (_, out) = ping(&mut dht, now, 1);
    assert!(matches!(&dials(&out)[..], [(_, _, left)] if *left == [address(21)]), "{out:?}");
}

/// A node with a live peer of the table, 1, that was said to be at two addresses: at the first another peer
/// answers. It has connected by itself.
fn with_a_wrong_address() -> Dht<MemoryStore> {
    let (mut dht, now) = (node_and_one(), start());
    learn(&mut dht, now, 1, &[address(21)]);
    outputs(&mut dht);
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    dial_failed(&mut dht, now, dial, 1, wrong_peer(address(1)));
    let address = "/memory/999999".parse().unwrap();
    dht.handle_input(now, connected_at(1, address, false, None));
    assert!(matches!(pinged(&answer_all(&mut dht, now, &[2]), query), Some(Ok(_))));
    dht
}

#[test]
fn a_wrong_address_is_not_handed_on() {
    let mut dht = with_a_wrong_address();
    let request = Request::FindNode { key: b"anything"[..].into() };
    dht.handle_input(
        start(),
        Input::RequestReceived { from: peer(100), connection: conn(100), id: InboundId(1), request },
    );
    let out = outputs(&mut dht);
    let [Output::SendResponse { response: Response::FindNode { closer_peers }, .. }, ..] = &out[..] else {
        panic!("{out:?}")
    };
    let one = closer_peers.iter().find(|named| named.node_id == peer(1)).expect("it is live");
    assert_eq!(one.multiaddrs.clone().into_vec(), [address(21)]);
}

#[test]
fn a_lookup_does_not_bring_a_wrong_address_back() {
    let (mut dht, now) = (with_a_wrong_address(), start());
    lose(&mut dht, now, 1);
    dht.find_closest(now, *b"anything");
    let out = outputs(&mut dht);
    let mut dialled = dials(&out).into_iter().filter(|(_, whom, _)| *whom == Some(peer(1)));
    let (_, _, addresses) = dialled.next().expect("1 is in the table, and dialled");
    assert_eq!(addresses, [address(21)]);
}

#[test]
fn a_request_that_is_not_answered_in_time_is_cancelled_and_the_peer_doubted() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let (query, id) = ping_by_request(&mut dht, now, 1);
    let due = now + TIMEOUT;
    let out = timed(&mut dht, due - MS);
    assert!(pinged(&out, query).is_none() && !out.iter().any(|o| matches!(o, Output::CancelRequest { .. })));
    assert_eq!(dht.due().map(|deadline| (deadline.at, deadline.reason)), Some((due, "request")));
    let out = timed(&mut dht, due);
    assert!(
        out.iter()
            .any(|o| matches!(o, Output::CancelRequest { to, id: of, .. } if *to == peer(1) && *of == id))
    );
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Timeout)));
    assert_eq!((failures(&dht, 1), dht.num_requests()), (1, 1), "the check of its connection is left");
    assert!(!dht.peers.is_worth_asking(due.instant, &peer(1)));
    let out = answered(&mut dht, due + MS, id);
    assert!(out.is_empty(), "it is too late: {out:?}");
    assert_eq!(failures(&dht, 1), 1);
}

#[test]
fn a_request_that_was_never_sent_is_not_cancelled() {
    let (mut dht, now) = (node(), start());
    let (query, _) = ping_by_dial(&mut dht, now, 1);
    let out = timed(&mut dht, now + TIMEOUT);
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Timeout)));
    assert!(!out.iter().any(|output| matches!(output, Output::CancelRequest { .. })), "{out:?}");
}

#[test]
fn time_that_dialling_takes_counts() {
    let (mut dht, now) = (node(), start());
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let out = connected(&mut dht, now + TIMEOUT - SECOND, 1, Some(dial));
    assert!(asked(&out).iter().any(|(_, _, request)| *request == Request::Ping));
    let out = timed(&mut dht, now + TIMEOUT);
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Timeout)));
}

#[test]
fn a_request_whose_connection_is_lost_is_sent_once_more_over_another() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let (query, id) = ping_by_request(&mut dht, now, 1);
    lose(&mut dht, now, 1);
    let out = outputs(&mut dht);
    let [(dial, ..)] = dials(&out)[..] else { panic!("{out:?}") };
    assert_eq!((pinged(&out, query), failures(&dht, 1)), (None, 0));
    let out = connected(&mut dht, now, 1, Some(dial));
    assert!(asked(&out).contains(&(peer(1), id, Request::Ping)), "{out:?}");
    let (_, other) = ping_by_request(&mut dht, now, 1);
    answered(&mut dht, now, other);
    lose(&mut dht, now, 1);
    let out = outputs(&mut dht);
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Disconnected)));
    assert!(failures(&dht, 1) > 0);
}

#[test]
fn requests_that_lost_their_connection_keep_their_order() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let before: Vec<_> = (0..20).map(|_| ping_by_request(&mut dht, now, 1).1).collect();
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    let out = connected(&mut dht, now, 1, None);
    let pings = asked(&out).into_iter().filter(|(_, _, request)| *request == Request::Ping);
    assert_eq!(pings.map(|(_, id, _)| id).collect::<Vec<_>>(), before);
}

#[test]
fn a_retried_request_keeps_its_deadline() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let (query, _) = ping_by_request(&mut dht, now, 1);
    lose(&mut dht, now + 9 * SECOND, 1);
    connected(&mut dht, now + 9 * SECOND, 1, None);
    assert_eq!(pinged(&timed(&mut dht, now + TIMEOUT), query), Some(Err(RequestError::Timeout)));
}

#[test]
fn a_request_that_one_of_several_connections_lost_is_sent_once_more_on_another() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let (query, id) = ping_by_request(&mut dht, now, 1);
    let out = failed(&mut dht, now, id, RequestError::Disconnected);
    assert_eq!(asked(&out), [(peer(1), id, Request::Ping)]);
    assert!(dials(&out).is_empty(), "there is another connection");
    let out = failed(&mut dht, now, id, RequestError::Disconnected);
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Disconnected)));
    assert!(asked(&out).is_empty());
    assert_eq!(failures(&dht, 1), 1);
}

#[test]
fn an_answer_of_another_kind_is_a_bad_one() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let (query, id) = ping_by_request(&mut dht, now, 1);
    name(&mut dht, now, id, &[2]);
    assert_eq!(pinged(&outputs(&mut dht), query), Some(Err(RequestError::BadAnswer)));
    assert_eq!((failures(&dht, 1), dht.num_requests()), (1, 0));
}

#[test]
fn at_most_32_requests_are_in_flight_to_one_peer_and_the_others_wait_their_turn() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let mut flying = VecDeque::new();
    let queries: Vec<_> = (0..40).map(|_| dht.ping(now, peer(1))).collect();
    flying.extend(asked(&outputs(&mut dht)).into_iter().map(|(_, id, _)| id));
    assert_eq!((flying.len(), dht.num_requests()), (32, 40));
    for (query, left) in queries.into_iter().zip((0..40).rev()) {
        let out = answered(&mut dht, now, flying.pop_front().unwrap());
        assert!(matches!(pinged(&out, query), Some(Ok(_))), "they are answered in their order");
        let next = asked(&out);
        assert_eq!(next.len(), usize::from(left >= 32), "one more for the one that was answered");
        flying.extend(next.into_iter().map(|(_, id, _)| id));
        assert_eq!(dht.num_requests(), left);
    }
}

#[test]
fn what_has_waited_until_its_time_is_up_is_not_sent_in_the_end_and_not_the_peers_failure() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let queries: Vec<_> = (0..40).map(|_| dht.ping(now, peer(1))).collect();
    assert_eq!(asked(&outputs(&mut dht)).len(), 32);
    let out = timed(&mut dht, now + TIMEOUT);
    let errors: Vec<_> = queries.into_iter().map(|query| pinged(&out, query)).collect();
    assert!(errors[..32].iter().all(|error| *error == Some(Err(RequestError::Timeout))), "{errors:?}");
    assert!(errors[32..].iter().all(|error| *error == Some(Err(RequestError::Overloaded))), "{errors:?}");
    let pings = asked(&out).into_iter().filter(|(_, _, request)| *request == Request::Ping).count();
    assert_eq!(pings, 0, "they are sent and cancelled at once");
}

fn two_dials() -> Config {
    quiet().with_max_dials(std::num::NonZeroUsize::new(2).unwrap())
}

#[test]
fn only_as_many_dials_as_configured_are_under_way_at_once() {
    let (mut dht, now) = (node_with(two_dials()), start());
    let (_, first) = ping_by_dial(&mut dht, now, 1);
    let (_, second) = ping_by_dial(&mut dht, now, 2);
    (3..7).for_each(|n| assert!(ping(&mut dht, now, n).1.is_empty()));
    let whom = |out: &[Output]| dials(out).into_iter().map(|(_, whom, _)| whom.unwrap()).collect::<Vec<_>>();
    assert_eq!(whom(&dial_failed(&mut dht, now, first, 1, unreachable())), [peer(3)], "a failure makes room");
    assert_eq!(whom(&connected(&mut dht, now, 2, Some(second))), [peer(4)], "so does a success");
    assert!(whom(&connected(&mut dht, now, 5, None)).is_empty(), "whoever came by himself took no slot");
    lose(&mut dht, now, 5);
}

#[test]
fn a_hanging_dial_gives_its_slot_back_at_the_request_timeout_and_its_late_success_counts() {
    let (mut dht, now) = (node_with(two_dials()), start());
    let (query, hanging) = ping_by_dial(&mut dht, now, 1);
    ping_by_dial(&mut dht, now + 5 * SECOND, 2);
    let (_, out) = ping(&mut dht, now + 5 * SECOND, 3);
    assert!(out.is_empty());
    let out = timed(&mut dht, now + TIMEOUT);
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Timeout)));
    assert!(matches!(&dials(&out)[..], [(_, Some(whom), _)] if *whom == peer(3)), "{out:?}");
    let out = connected(&mut dht, now + TIMEOUT + SECOND, 1, Some(hanging));
    assert!(dials(&out).is_empty());
    assert!(dht.peers.is_worth_asking((now + TIMEOUT + SECOND).instant, &peer(1)));
    let (_, out) = ping(&mut dht, now + TIMEOUT + SECOND, 1);
    assert_eq!(asked(&out).len(), 1, "there is a connection: {out:?}");
    assert!(ping(&mut dht, now + TIMEOUT + SECOND, 4).1.is_empty(), "its slot was given back only once");
}

#[test]
fn a_hanging_dial_gives_its_slot_back_though_later_requests_wait_for_it() {
    let (mut dht, now) = (node_with(two_dials()), start());
    ping_by_dial(&mut dht, now, 1);
    ping_by_dial(&mut dht, now, 2);
    assert!(ping(&mut dht, now + 9 * SECOND, 1).1.is_empty());
    assert!(ping(&mut dht, now + 9 * SECOND, 2).1.is_empty());
    assert!(ping(&mut dht, now + 9 * SECOND, 3).1.is_empty());
    let out = timed(&mut dht, now + TIMEOUT);
    assert!(dials(&out).iter().any(|(_, whom, _)| *whom == Some(peer(3))), "{out:?}");
}

#[test]
fn a_hanging_dial_of_an_address_gives_its_slot_back_at_the_request_timeout() {
    let (mut dht, now) = (node_with(two_dials()), start());
    dht.connect(now, address(1));
    dht.connect(now, address(2));
    assert_eq!(dials(&outputs(&mut dht)).len(), 2);
    assert!(ping(&mut dht, now + 5 * SECOND, 3).1.is_empty());
    let out = timed(&mut dht, now + TIMEOUT);
    assert!(dials(&out).iter().any(|(_, whom, _)| *whom == Some(peer(3))), "{out:?}");
}

#[test]
fn a_peer_that_connects_by_itself_does_not_keep_the_slot_of_our_dial_for_ever() {
    let (mut dht, now) = (node_with(two_dials()), start());
    for n in [1, 2] {
        ping_by_dial(&mut dht, now, n);
        let out = connected(&mut dht, now, n, None);
        for (_, id, request) in asked(&out) {
            if request == Request::Ping {
                answered(&mut dht, now, id);
            } else {
                name(&mut dht, now, id, &[n + 1]);
            }
        }
    }
    outputs(&mut dht);
    timed(&mut dht, now + TIMEOUT);
    let (_, out) = ping(&mut dht, now + TIMEOUT, 3);
    assert_eq!(dials(&out).len(), 1, "both dials are over: {out:?}");
}

#[test]
fn a_request_that_never_got_a_slot_is_not_the_peers_failure() {
    let (mut dht, now) = (node_with(two_dials()), start());
    admit(&mut dht, now, [3]);
    lose(&mut dht, now, 3);
    outputs(&mut dht);
    ping_by_dial(&mut dht, now, 1);
    ping_by_dial(&mut dht, now, 2);
    let (query, out) = ping(&mut dht, now, 3);
    assert!(out.is_empty(), "there is no slot");
    let out = timed(&mut dht, now + TIMEOUT);
    let error = pinged(&out, query).expect("its time is up").expect_err("it was not even dialled");
    assert!(!error.is_peers_fault(), "{error}");
    assert_eq!(failures(&dht, 3), 0);
    assert!(dht.peers.is_worth_asking((now + TIMEOUT).instant, &peer(3)));
}

#[test]
fn a_peer_nobody_waits_for_any_more_is_not_dialled_when_a_slot_is_free() {
    let (mut dht, now) = (node_with(two_dials()), start());
    ping_by_dial(&mut dht, now, 1);
    let (_, dial) = ping_by_dial(&mut dht, now + SECOND, 2);
    assert!(ping(&mut dht, now, 3).1.is_empty());
    let out = timed(&mut dht, now + TIMEOUT);
    assert!(dials(&out).is_empty(), "3 has waited as long as 1: {out:?}");
    assert!(dials(&dial_failed(&mut dht, now + TIMEOUT, dial, 2, unreachable())).is_empty());
}

#[test]
fn what_a_cancelled_query_has_not_asked_yet_takes_no_dial() {
    let (mut dht, now) = (node_with(two_dials()), start());
    let (_, dial) = ping_by_dial(&mut dht, now, 1);
    ping_by_dial(&mut dht, now, 2);
    let (cancelled, _) = ping(&mut dht, now, 3);
    ping(&mut dht, now, 4);
    dht.cancel(now, cancelled);
    outputs(&mut dht);
    let out = dial_failed(&mut dht, now, dial, 1, unreachable());
    let whom: Vec<_> = dials(&out).into_iter().map(|(_, whom, _)| whom).collect();
    assert_eq!(whom, [Some(peer(4))]);
}

#[test]
fn unknown_requests_and_dials_are_ignored() {
    let (mut dht, now) = (node_and_one(), start());
    let (query, dial) = ping_by_dial(&mut dht, now, 1);
    let id = RequestId::new(999_999);
    for unknown in [
        Input::ResponseReceived { id, response: Response::Pong },
        Input::RequestFailed { id, error: RequestError::Timeout },
        Input::RequestFailed { id, error: RequestError::Disconnected },
        Input::DialFailed { dial: Some(DialId(999_999)), peer: Some(peer(1)), error: unreachable() },
        Input::DialFailed { dial: Some(DialId(999_999)), peer: None, error: DialFailure::Refused },
        Input::DialFailed { dial: None, peer: None, error: DialFailure::UnderWay },
        Input::Disconnected { peer: peer(77), connection: conn(77) },
    ] {
        dht.handle_input(now, unknown.clone());
        assert!(outputs(&mut dht).is_empty(), "{unknown:?}");
    }
    assert_eq!((failures(&dht, 1), dht.num_requests()), (0, 1));
    let out = connected(&mut dht, now, 2, Some(DialId(999_999)));
    assert!(asked(&out).iter().all(|(to, ..)| *to == peer(2)), "a connection is one whoever made it");
    let out = dial_failed(&mut dht, now, dial, 1, unreachable());
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
}

#[test]
fn an_answer_to_a_request_that_waits_to_be_sent_again_does_not_upset_the_others() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let (first, id) = ping_by_request(&mut dht, now, 1);
    let (second, other) = ping_by_request(&mut dht, now, 1);
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    assert!(pinged(&answered(&mut dht, now, id), first).is_some());
    let out = connected(&mut dht, now, 1, None);
    let pings = asked(&out).into_iter().filter(|(_, _, request)| *request == Request::Ping);
    assert_eq!(pings.map(|(_, id, _)| id).collect::<Vec<_>>(), [other]);
    assert!(pinged(&answered(&mut dht, now, other), second).is_some());
}

#[test]
fn a_failure_reported_twice_costs_one_retry() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    let (query, id) = ping_by_request(&mut dht, now, 1);
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    let out = failed(&mut dht, now, id, RequestError::Disconnected);
    assert_eq!(pinged(&out, query), None, "it waits for another connection already");
    let out = connected(&mut dht, now, 1, None);
    assert_eq!(asked(&out).iter().filter(|(_, sent, _)| *sent == id).count(), 1);
}

#[test]
fn what_waits_for_a_peer_fails_when_it_does_not_serve_the_protocol() {
    let (mut dht, now) = (node(), start());
    let (query, _) = ping_by_dial(&mut dht, now, 1);
    dht.handle_input(now, Input::ProtocolUnsupported { peer: peer(1) });
    assert_eq!(pinged(&outputs(&mut dht), query), Some(Err(RequestError::Unsupported)));
    let (query, out) = ping(&mut dht, now, 1);
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unsupported)), "nor is it asked again");
}

/// A lone node to which anything happens in any order.
struct Chaos {
    dht: Dht<MemoryStore>,
    now: Now,
    rng: Rng,
    requests: Vec<RequestId>,
    dials: Vec<DialId>,
    inbound: u64,
    /// The queries seen, and whether they have ended.
    queries: BTreeMap<QueryId, bool>,
}

const PEERS: usize = 40;

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_u64(seed);
        let mut small = |max| std::num::NonZeroU8::new(1 + u8::try_from(rng.below(max)).unwrap()).unwrap();
        let config = Config::default()
            .with_bucket_size(small(8))
            .with_disjoint_paths(small(3))
            .with_max_dials(small(6).into())
            .with_max_queries(small(12).into())
            .with_max_seeds(small(6).into())
            .with_max_known_peers(small(8).into());
        let (dht, now) = (new_dht(0, config), start());
        Self { dht, now, rng, requests: vec![], dials: vec![], inbound: 0, queries: BTreeMap::new() }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap()
    }

    fn peer(&mut self) -> PeerId {
        peer(self.below(PEERS))
    }

    /// One of a few keys.
    fn key(&mut self) -> crate::record::RecordKey {
        crate::record::RecordKey::new(&[u8::try_from(self.below(4)).unwrap()])
    }

    fn address(&mut self) -> Multiaddr {
        let n = self.below(PEERS);
        match self.below(4) {
            0 => format!("/ip4/1.2.3.{n}/tcp/1").parse().unwrap(),
            1 => address(n).with(libp2p_core::multiaddr::Protocol::P2p(self.peer())),
            2 => Multiaddr::empty(),
            _ => address(n),
        }
    }

    fn addresses(&mut self) -> Vec<Multiaddr> {
        (0..self.below(4)).map(|_| self.address()).collect()
    }

    /// One of those seen lately, or one that never was.
    fn one_of<T: Copy>(&mut self, seen: fn(&Self) -> &Vec<T>, unknown: T) -> T {
        let back = self.below(12);
        let seen = seen(self);
        seen.len().checked_sub(1 + back).map_or(unknown, |at| seen[at])
    }

    fn request(&mut self) -> RequestId {
        self.one_of(|chaos| &chaos.requests, RequestId::new(u64::MAX))
    }

    fn dial(&mut self) -> Option<DialId> {
        (self.below(4) > 0).then(|| self.one_of(|chaos| &chaos.dials, DialId(u64::MAX)))
    }

    fn response(&mut self) -> Response {
        if self.below(5) == 0 {
            return Response::Pong;
        }
        let closer_peers = (0..self.below(12)).map(|_| named_peer(self.below(PEERS))).collect();
        let provider_peers = (0..self.below(4)).map(|_| named_peer(self.below(PEERS))).collect();
        match self.below(4) {
            0 => Response::GetProviders { key: None, provider_peers, closer_peers },
            1 => Response::GetValue { key: None, record: None, closer_peers },
            _ => Response::FindNode { closer_peers },
        }
    }

    fn dial_failure(&mut self) -> DialFailure {
        match self.below(7) {
            0 => wrong_peer(self.address()),
            1 => DialFailure::Own { address: self.address() },
            2 => DialFailure::Refused,
            3 => DialFailure::UnderWay,
            4 => DialFailure::NoAddresses,
            _ => DialFailure::Unreachable { unsupported: self.addresses(), why: Unreached::Silent },
        }
    }

    fn error(&mut self) -> RequestError {
        let errors = [
            RequestError::Disconnected,
            RequestError::Timeout,
            RequestError::StreamEnded,
            RequestError::Unsupported,
            RequestError::BadAnswer,
            RequestError::Overloaded,
        ];
        errors[self.below(errors.len())]
    }

    fn input(&mut self) -> Input {
        let who = self.below(PEERS);
        let (peer, connection) = (peer(who), conn(3 * who + self.below(3)));
        match self.below(16) {
            0..=3 => {
                let (address, dialled, dial) = (self.address(), self.below(2) == 0, self.dial());
                Input::Connected { located: None, peer, connection, address, dialled, dial }
            }
            4 => Input::Disconnected { peer, connection },
            5 | 6 => {
                let (dial, peer) = (self.dial(), (self.below(3) > 0).then_some(peer));
                Input::DialFailed { dial, peer, error: self.dial_failure() }
            }
            7 => Input::AddressesLearned { peer, addresses: self.addresses() },
            8 => Input::ProtocolConfirmed { peer },
            9 if self.below(2) == 0 => Input::ProtocolDoubted { peer },
            9 => Input::ProtocolUnsupported { peer },
            10 => Input::LocalAddresses { external: self.addresses(), listening: self.addresses() },
            11 => {
                self.inbound += 1;
                let (key, who) = (self.key(), self.below(PEERS));
                let request = match self.below(6) {
                    0 => Request::Ping,
                    1 => Request::GetProviders { key },
                    2 | 3 => Request::AddProvider { key, providers: vec![named_peer(who)] },
                    4 => Request::GetValue { key },
                    _ => Request::FindNode { key: self.peer().to_bytes().into() },
                };
                Input::RequestReceived { from: peer, connection, id: InboundId(self.inbound), request }
            }
            12 => Input::RequestFailed { id: self.request(), error: self.error() },
            13 => Input::RequestSent { id: self.request() },
            _ => Input::ResponseReceived { id: self.request(), response: self.response() },
        }
    }

    fn command(&mut self) {
        let (now, peer, address) = (self.now, self.peer(), self.address());
        let (key, query) = (self.key(), QueryId(self.rng.below(200)));
        let dht = &mut self.dht;
        let begun = match self.rng.below(20) {
            0 | 1 => Some(dht.find_closest(now, peer.to_bytes())),
            2 => Some(dht.find_peer(now, peer)),
            3 | 4 => Some(dht.ping(now, peer)),
            5 => Some(dht.connect(now, address)),
            6 => dht.bootstrap(now).ok(),
            7 => {
                dht.cancel(now, query);
                None
            }
            8 => {
                dht.finish(now, query);
                None
            }
            14 => dht.start_providing(now, key).ok(),
            15 => dht.stop_providing(now, &key).map(|()| None).unwrap(),
            16 => Some(dht.get_providers(now, key)),
            17 => Some(dht.watch_providers(now, key)),
            18 => {
                dht.put_record(now, crate::record::Record::new(key, "value"), crate::record::Quorum::One).ok()
            }
            19 => Some(dht.get_record(now, key, None)),
            9 => dht.remove_address(now, peer, &address).and(None),
            10 => dht.remove_peer(now, peer).and(None),
            11 => {
                dht.set_mode(now, [None, Some(Mode::Client), Some(Mode::Server)][self.rng.below(3) as usize]);
                None
            }
            _ => {
                dht.add_address(now, peer, address);
                None
            }
        };
        if let Some(query) = begun {
            self.queries.entry(query).or_insert(false);
        }
    }

    fn drain(&mut self) {
        for output in outputs(&mut self.dht) {
            if let Output::SendRequest { id, .. } = output {
                self.requests.push(id);
            } else if let Output::Dial { id, .. } = output {
                self.dials.push(id);
            } else if let Output::Event(Event::OutboundQueryProgressed { id, step, .. }) = output {
                let over = self.queries.entry(id).or_insert(false);
                assert!(!*over, "{id} has ended already");
                *over = step.last;
            }
        }
    }

    /// Lets time pass, and checks that the node has then done what was due.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        check_refresh(&self.dht, self.now.instant);
        self.dht.handle_timeout(self.now);
        self.drain();
        let deadline = self.dht.due();
        assert!(deadline.is_none_or(|deadline| deadline.at > self.now), "{deadline:?} is never done");
    }

    fn act(&mut self) {
        match self.below(12) {
            0 => {
                let time = [MS, 100 * MS, SECOND, 7 * SECOND, 100 * SECOND][self.below(5)];
                self.wait(time);
            }
            1..=3 => self.command(),
            _ => {
                let input = self.input();
                self.dht.handle_input(self.now, input);
            }
        }
        self.drain();
    }

    /// Lets time pass until nothing more happens but upkeep.
    fn calm(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.dht.due().filter(|deadline| deadline.at <= end) {
            self.wait(deadline.at - self.now);
        }
        self.wait(end - self.now);
    }
}

fn asked_of(out: &[Output], n: usize) -> usize {
    asked(out).into_iter().filter(|(to, ..)| *to == peer(n)).count()
}

#[test]
fn every_request_and_every_query_ends_whatever_happens_in_whatever_order() {
    let mut asked = 0;
    for seed in 0..150 {
        let mut chaos = Chaos::new(seed);
        (0..1500).for_each(|_| chaos.act());
        for n in 0..PEERS {
            chaos.dht.remove_peer(chaos.now, peer(n));
            chaos.dht.handle_input(chaos.now, Input::ProtocolUnsupported { peer: peer(n) });
        }
        chaos.drain();
        // Some would watch for ever.
        for query in chaos.queries.clone().into_keys() {
            chaos.dht.cancel(chaos.now, query);
        }
        chaos.drain();
        chaos.calm(100 * SECOND);
        assert_eq!(chaos.dht.num_requests(), 0, "seed {seed}");
        let open: Vec<_> = chaos.queries.iter().filter(|(_, over)| !**over).collect();
        assert!(open.is_empty() && chaos.dht.queries().next().is_none(), "seed {seed}: {open:?}");
        asked += chaos.requests.len();
        // Nor has anything leaked: there are slots for a dial and for a check.
        let (dht, now) = (&mut chaos.dht, chaos.now);
        ping_by_dial(dht, now, 998);
        learn(dht, now, 999, &[address(999)]);
        assert!(asked_of(&connected(dht, now, 999, None), 999) > 0, "seed {seed}");
    }
    assert!(asked > 10_000, "{asked} requests show little");
}

#[test]
fn whatever_happens_the_same_seed_does_the_same() {
    let run = |seed| {
        let mut chaos = Chaos::new(seed);
        (0..500).for_each(|_| chaos.act());
        (chaos.requests, chaos.dials, chaos.queries, chaos.dht.due())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}
