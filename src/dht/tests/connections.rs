//! Several connections to one peer, and those through which nothing comes.

use super::*;
use crate::addrs::Reach;
use crate::config::KeepAlive;
use crate::record::RecordKey;

/// What a request waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first connection to peer 1, and others.
const OLD: ConnectionId = ConnectionId(1);
const NEW: ConnectionId = ConnectionId(1001);
const NEWEST: ConnectionId = ConnectionId(1002);

/// A node that has peer 1 in its table and is connected to it once.
fn node(keep_alive: KeepAlive) -> Dht<MemoryStore> {
    let mut dht = new_dht(0, quiet().with_keep_alive(keep_alive));
    admit(&mut dht, start(), [1]);
    dht
}

/// A second connection is there.
fn open(dht: &mut Dht<MemoryStore>, now: Now, connection: ConnectionId, dial: Option<DialId>) -> Vec<Output> {
    let dialled = dial.is_some();
    let connected =
        Input::Connected { located: None, peer: peer(1), connection, address: address(1), dialled, dial };
    dht.handle_input(now, connected);
    outputs(dht)
}

fn end(dht: &mut Dht<MemoryStore>, now: Now, connection: ConnectionId) -> Vec<Output> {
    dht.handle_input(now, Input::Disconnected { peer: peer(1), connection });
    outputs(dht)
}

fn ping(dht: &mut Dht<MemoryStore>, now: Now) -> (QueryId, Vec<Output>) {
    let query = dht.ping(now, peer(1));
    (query, outputs(dht))
}

fn answer(dht: &mut Dht<MemoryStore>, now: Now, id: RequestId, request: &Request) -> Vec<Output> {
    match request {
        Request::Ping => dht.handle_input(now, Input::ResponseReceived { id, response: Response::Pong }),
        _ => name(dht, now, id, &[2]),
    }
    outputs(dht)
}

/// Tells a node the time whenever it wants to know, until then; returns what comes of it, and when.
fn run(dht: &mut Dht<MemoryStore>, until: Now) -> Vec<(Duration, Output)> {
    let mut all = Vec::new();
    while let Some(due) = dht.due().filter(|due| due.at <= until) {
        dht.handle_timeout(due.at);
        let after = due.at.instant.saturating_duration_since(start().instant);
        all.extend(outputs(dht).into_iter().map(|output| (after, output)));
    }
    all
}

/// What was sent to peer 1, and on which connection.
fn sent<'a>(out: impl IntoIterator<Item = &'a Output>) -> Vec<(ConnectionId, RequestId, Request)> {
    let of_output = |output: &Output| match output {
        Output::SendRequest { to, connection, id, request } if *to == peer(1) => {
            Some((*connection, *id, request.clone()))
        }
        _ => None,
    };
    out.into_iter().filter_map(of_output).collect()
}

/// Which connections to peer 1 are closed.
fn closed<'a>(out: impl IntoIterator<Item = &'a Output>) -> Vec<ConnectionId> {
    let of_output = |output: &Output| match output {
        Output::CloseConnection { peer: of, connection } if *of == peer(1) => Some(*connection),
        _ => None,
    };
    out.into_iter().filter_map(of_output).collect()
}

/// The dials of peer 1 beside its connections.
fn beside<'a>(out: impl IntoIterator<Item = &'a Output>) -> Vec<DialId> {
    let of_output = |output: &Output| match output {
        Output::Dial { id, peer: of, beside: true, .. } if *of == Some(peer(1)) => Some(*id),
        _ => None,
    };
    out.into_iter().filter_map(of_output).collect()
}

fn only(out: &[(Duration, Output)]) -> impl Iterator<Item = &Output> {
    out.iter().map(|(_, output)| output)
}

fn failures(dht: &Dht<MemoryStore>) -> u8 {
    dht.table().entry(&key(1), &peer(1)).expect("the peer is in the table").failures()
}

/// Asks peer 1 something on its only connection, through which nothing comes, until the peer is dialled beside it. Returns
/// the query, its request, the dial, and when that is.
fn doubt(dht: &mut Dht<MemoryStore>, now: Now) -> (QueryId, RequestId, DialId, Now) {
    let (query, out) = ping(dht, now);
    let [(_, id, Request::Ping)] = sent(&out)[..] else { panic!("{out:?}") };
    let out = run(dht, now + TIMEOUT - SECOND);
    let [dial] = beside(only(&out))[..] else { panic!("{out:?}") };
    let when = out.iter().find(|(_, output)| matches!(output, Output::Dial { .. })).unwrap().0;
    (query, id, dial, start() + when)
}

#[test]
fn a_connection_through_which_nothing_comes_is_checked_and_then_the_peer_is_dialled_beside_it() {
    let mut dht = node(KeepAlive::Nobody);
    let (_, out) = ping(&mut dht, start());
    assert_eq!(sent(&out).len(), 1);
    let out = run(&mut dht, start() + TIMEOUT - SECOND);
    let [
        (checked, Output::SendRequest { connection: OLD, request: Request::FindNode { .. }, .. }),
        (dialled, Output::Dial { beside: true, .. }),
    ] = &out[..]
    else {
        panic!("{out:?}")
    };
    assert!(*checked <= 3 * SECOND && *dialled == *checked + 3 * SECOND, "{checked:?} {dialled:?}");
}

#[test]
fn a_request_moves_to_the_new_connection_under_a_new_number_and_counts_against_nobody() {
    let mut dht = node(KeepAlive::Nobody);
    let (query, id, dial, now) = doubt(&mut dht, start());
    let out = open(&mut dht, now, NEW, Some(dial));
    let [(NEW, moved, Request::Ping)] = sent(&out)[..] else { panic!("{out:?}") };
    assert_ne!(moved, id);
    let is_cancelled =
        |o: &Output| matches!(o, Output::CancelRequest { connection: OLD, id: of, .. } if *of == id);
    assert!(out.iter().any(is_cancelled) && closed(&out).is_empty(), "{out:?}");
    // Whatever is still told of the old number is of no concern.
    for late in [RequestError::Timeout, RequestError::StreamEnded, RequestError::Disconnected] {
        dht.handle_input(now, Input::RequestFailed { id, error: late });
        assert!(outputs(&mut dht).is_empty(), "{late}");
    }
    dht.handle_input(now, Input::RequestSent { id });
    assert!(answer(&mut dht, now, id, &Request::Ping).is_empty());
    let out = answer(&mut dht, now + MS, moved, &Request::Ping);
    assert!(matches!(result_of(&out, query), Some(QueryResult::Ping(Ok(_)))), "{out:?}");
    assert_eq!((closed(&out), failures(&dht), dht.num_requests()), (vec![OLD], 0, 0));
}

#[test]
fn a_request_moves_at_most_once() {
    let mut dht = node(KeepAlive::Nobody);
    let (query, _, dial, now) = doubt(&mut dht, start());
    open(&mut dht, now, NEW, Some(dial));
    let out = end(&mut dht, now, NEW);
    assert!(sent(&out).iter().all(|(_, _, request)| *request != Request::Ping), "{out:?}");
    assert!(matches!(result_of(&out, query), Some(QueryResult::Ping(Err(_)))), "{out:?}");
    assert!(closed(&out).is_empty() && dht.peers.is_connected(&peer(1)));
}

#[test]
fn a_request_goes_on_when_one_connection_ends_and_then_the_other_and_counts_against_nobody() {
    let (mut dht, now) = (node(KeepAlive::Nobody), start());
    open(&mut dht, now, NEW, None);
    let (query, out) = ping(&mut dht, now);
    let [(NEW, first, Request::Ping)] = sent(&out)[..] else { panic!("{out:?}") };
    let out = end(&mut dht, now, NEW);
    let [(OLD, second, Request::Ping)] = sent(&out)[..] else { panic!("{out:?}") };
    assert!(first != second && dials(&out).is_empty());
    let out = end(&mut dht, now, OLD);
    let [(dial, ..)] = dials(&out)[..] else { panic!("{out:?}") };
    let out = open(&mut dht, now, NEWEST, Some(dial));
    let third = sent(&out).into_iter().find(|(_, _, request)| *request == Request::Ping).unwrap().1;
    let out = answer(&mut dht, now, third, &Request::Ping);
    assert!(matches!(result_of(&out, query), Some(QueryResult::Ping(Ok(_)))), "{out:?}");
    assert_eq!(failures(&dht), 0);
}

#[test]
fn the_end_of_a_closed_connection_that_is_told_late_is_no_second_one() {
    let mut dht = node(KeepAlive::Closest);
    let (_, _, dial, now) = doubt(&mut dht, start());
    let out = open(&mut dht, now, NEW, Some(dial));
    let [(_, moved, _)] = sent(&out)[..] else { panic!("{out:?}") };
    assert_eq!(closed(&answer(&mut dht, now, moved, &Request::Ping)), [OLD]);
    let (query, out) = ping(&mut dht, now);
    let [(NEW, id, Request::Ping)] = sent(&out)[..] else { panic!("{out:?}") };
    let due = dht.due();
    assert!(end(&mut dht, now, OLD).is_empty(), "it counted as gone already");
    assert_eq!((dht.due(), dht.num_requests(), failures(&dht)), (due, 1, 0));
    assert!(dht.table().entry(&key(1), &peer(1)).unwrap().is_connected());
    assert!(result_of(&answer(&mut dht, now, id, &Request::Ping), query).is_some());
}

#[test]
fn a_request_of_the_peer_on_a_closed_connection_is_answered_and_no_more() {
    let mut dht = node(KeepAlive::Nobody);
    let (_, _, dial, now) = doubt(&mut dht, start());
    let out = open(&mut dht, now, NEW, Some(dial));
    let [(_, moved, _)] = sent(&out)[..] else { panic!("{out:?}") };
    answer(&mut dht, now, moved, &Request::Ping);
    // What the peer asks on a connection that counts as gone is answered, and nothing more is made of it.
    let request = Request::Ping;
    let from = peer(1);
    dht.handle_input(now, Input::RequestReceived { from, connection: OLD, id: InboundId(1), request });
    let out = outputs(&mut dht);
    assert!(matches!(&out[..], [Output::SendResponse { id: InboundId(1), .. }, Output::Event(_)]), "{out:?}");
}

#[test]
fn with_a_healthy_connection_beside_the_doubted_one_nobody_is_dialled() {
    let mut dht = node(KeepAlive::Nobody);
    open(&mut dht, start(), NEW, None);
    let (query, out) = ping(&mut dht, start());
    let [(NEW, ..)] = sent(&out)[..] else { panic!("{out:?}") };
    let now = start() + 5 * SECOND;
    let out = run(&mut dht, now);
    assert!(dials(&only(&out).cloned().collect::<Vec<_>>()).is_empty(), "{out:?}");
    let all = sent(only(&out));
    let (_, moved, _) = all.iter().find(|(on, _, request)| (*on, request) == (OLD, &Request::Ping)).unwrap();
    let out = answer(&mut dht, now, *moved, &Request::Ping);
    assert!(matches!(result_of(&out, query), Some(QueryResult::Ping(Ok(_)))), "{out:?}");
    assert_eq!((closed(&out), failures(&dht)), (vec![NEW], 0));
}

#[test]
fn a_connection_that_lives_beside_a_dead_one_is_asked_though_nothing_waits_for_it() {
    let mut dht = node(KeepAlive::Closest);
    open(&mut dht, start(), NEW, None);
    let listening = vec![address(77)];
    dht.handle_input(start(), Input::LocalAddresses { external: vec![], listening });
    let checks = sent(&outputs(&mut dht));
    let [(OLD, ..), (NEW, alive, request)] = &checks[..] else { panic!("{checks:?}") };
    assert!(closed(&answer(&mut dht, start() + MS, *alive, request)).is_empty(), "the old one has its time");
    let out = run(&mut dht, start() + 60 * SECOND);
    assert_eq!(closed(only(&out)), [OLD], "{out:?}");
    assert!(out.iter().any(|(at, o)| *at == 3 * SECOND && matches!(o, Output::CloseConnection { .. })));
    assert_eq!(
        (failures(&dht), dht.num_requests()),
        (0, 0),
        "what was asked on it is no failure of the peer"
    );
}

#[test]
fn a_peer_that_is_silent_on_all_its_connections_is_silent_and_fails_once() {
    let mut dht = node(KeepAlive::Nobody);
    open(&mut dht, start(), NEW, None);
    let (query, _) = ping(&mut dht, start());
    let out = run(&mut dht, start() + TIMEOUT);
    let outs: Vec<_> = only(&out).cloned().collect();
    assert!(matches!(result_of(&outs, query), Some(QueryResult::Ping(Err(_)))));
    assert!(closed(&outs).is_empty() && failures(&dht) == 1, "{out:?}");
    // The checks of the connections fail, too.
    let asked = |out: &[(Duration, Output)]| sent(only(out)).len();
    let probe_at = dht.table().entry(&key(1), &peer(1)).unwrap().probe_at();
    let probed = start() + probe_at.saturating_duration_since(start().instant);
    let out = run(&mut dht, probed - MS);
    assert_eq!((asked(&out), failures(&dht)), (0, 1), "{out:?}");
    run(&mut dht, start() + 2 * TIMEOUT - SECOND);
    assert_eq!((failures(&dht), dht.num_requests()), (1, 1), "all have failed, but for the probe");
}

#[test]
fn a_peer_that_lets_everybody_in_and_says_nothing_has_a_few_connections() {
    let mut dht = node(KeepAlive::Nobody);
    let (mut connections, mut next) = (1, 2000);
    for second in 0..1800 {
        let now = start() + second * SECOND;
        if second % 5 == 0 {
            ping(&mut dht, now);
        }
        let out = run(&mut dht, now + SECOND - MS);
        for dial in beside(only(&out)) {
            open(&mut dht, now + SECOND - MS, ConnectionId(next), Some(dial));
            next += 1;
            connections += 1;
        }
        assert!(closed(only(&out)).is_empty());
    }
    assert!((2..=4).contains(&connections), "{connections}");
}

#[test]
fn a_new_connection_that_is_silent_as_well_is_followed_by_another_only_after_a_pause() {
    let mut dht = node(KeepAlive::Nobody);
    let (_, _, dial, now) = doubt(&mut dht, start());
    open(&mut dht, now, NEW, Some(dial));
    ping(&mut dht, now);
    let out = run(&mut dht, now + TIMEOUT - MS);
    assert!(beside(only(&out)).is_empty(), "{out:?}");
    ping(&mut dht, now + TIMEOUT);
    let out = run(&mut dht, now + 2 * TIMEOUT);
    let [dial] = beside(only(&out))[..] else { panic!("{out:?}") };
    let out = open(&mut dht, now + 2 * TIMEOUT, NEWEST, Some(dial));
    let (_, id, request) = sent(&out).pop().expect("it is tried");
    let out = answer(&mut dht, now + 2 * TIMEOUT, id, &request);
    assert_eq!(closed(&out), [OLD, NEW]);
}

#[test]
fn a_new_connection_is_asked_something_though_nothing_waits_so_that_the_dead_one_is_found_out() {
    let mut dht = node(KeepAlive::Closest);
    // Nothing is asked for five minutes.
    let out = run(&mut dht, start() + 300 * SECOND);
    let [(OLD, _, Request::FindNode { .. })] = sent(only(&out))[..] else { panic!("{out:?}") };
    let out = run(&mut dht, start() + 303 * SECOND);
    let [dial] = beside(only(&out))[..] else { panic!("{out:?}") };
    let now = start() + 304 * SECOND;
    let out = open(&mut dht, now, NEW, Some(dial));
    let [(NEW, id, request)] = &sent(&out)[..] else { panic!("{out:?}") };
    let out = answer(&mut dht, now + MS, *id, request);
    assert_eq!(closed(&out), [OLD]);
    run(&mut dht, now + 60 * SECOND);
    assert_eq!(
        (failures(&dht), dht.num_requests()),
        (0, 0),
        "the peer lives: the check that failed costs nothing"
    );
}

#[test]
fn a_kept_connection_that_is_silent_for_five_minutes_is_checked_and_one_that_is_not_kept_is_not() {
    let mut dht = node(KeepAlive::Closest);
    let heard = start() + 200 * SECOND;
    assert!(sent(only(&run(&mut dht, heard))).is_empty());
    let (_, out) = ping(&mut dht, heard);
    let [(_, id, _)] = sent(&out)[..] else { panic!("{out:?}") };
    answer(&mut dht, heard, id, &Request::Ping);
    assert!(sent(only(&run(&mut dht, heard + 300 * SECOND - MS))).is_empty());
    assert_eq!(sent(only(&run(&mut dht, heard + 300 * SECOND))).len(), 1);
    let mut dht = node(KeepAlive::Nobody);
    assert!(sent(only(&run(&mut dht, start() + 310 * SECOND))).is_empty());
}

#[test]
fn kept_connections_are_checked_at_once_when_own_listen_addresses_come_or_go() {
    let mut dht = node(KeepAlive::Closest);
    open(&mut dht, start(), NEW, None);
    let listen = |dht: &mut Dht<MemoryStore>, listening: &[Multiaddr]| {
        let listening = listening.to_vec();
        dht.handle_input(start(), Input::LocalAddresses { external: vec![], listening });
        let checks = sent(&outputs(dht));
        checks.iter().for_each(|(_, id, request)| drop(answer(dht, start(), *id, request)));
        checks.iter().map(|(on, ..)| *on).collect::<Vec<_>>()
    };
    let [one, other] = [address(77), address(78)];
    assert_eq!(listen(&mut dht, std::slice::from_ref(&one)), [OLD, NEW]);
    assert!(listen(&mut dht, std::slice::from_ref(&one)).is_empty(), "no news");
    assert_eq!(listen(&mut dht, &[one, other.clone()]), [OLD, NEW]);
    assert_eq!(listen(&mut dht, &[other]), [OLD, NEW]);
    let mut dht = node(KeepAlive::Nobody);
    assert!(listen(&mut dht, &[address(77)]).is_empty());
}

#[test]
fn if_the_second_connection_is_denied_nothing_is_closed_and_others_are_dialled_as_before() {
    let mut dht = node(KeepAlive::Nobody);
    (10..18).for_each(|n| learn(&mut dht, start(), n, &[address(n)]));
    let (query, _, dial, now) = doubt(&mut dht, start());
    fail_dial(&mut dht, now, dial, 1, DialFailure::Denied);
    assert!(outputs(&mut dht).is_empty());
    (10..18).for_each(|n| {
        dht.ping(now, peer(n));
    });
    assert_eq!(dials(&outputs(&mut dht)).len(), 8, "at once");
    let out = run(&mut dht, start() + TIMEOUT);
    let all: Vec<_> = only(&out).cloned().collect();
    assert!(matches!(result_of(&all, query), Some(QueryResult::Ping(Err(_)))), "an ordinary failure");
    assert!(closed(&all).is_empty() && dht.peers.is_connected(&peer(1)));
    assert_eq!(failures(&dht), 1);
}

#[test]
fn an_announcement_which_nobody_answers_raises_no_doubt() {
    let mut dht = node(KeepAlive::Nobody);
    dht.handle_input(start(), Input::LocalAddresses { external: vec![address(0)], listening: vec![] });
    dht.start_providing(start(), RecordKey::new(b"key")).unwrap();
    let out = outputs(&mut dht);
    let [(_, id, ref request)] = sent(&out)[..] else { panic!("{out:?}") };
    assert!(matches!(request, Request::FindNode { .. } | Request::GetProviders { .. }));
    name(&mut dht, start(), id, &[]);
    let out = outputs(&mut dht);
    let [(OLD, id, Request::AddProvider { .. })] = sent(&out)[..] else { panic!("{out:?}") };
    dht.handle_input(start(), Input::RequestSent { id });
    outputs(&mut dht);
    let out = run(&mut dht, start() + 30 * SECOND);
    assert!(sent(only(&out)).is_empty(), "{out:?}");
}

#[test]
fn a_peer_that_does_not_speak_the_protocol_loses_no_connection_for_its_silence() {
    let mut dht = node(KeepAlive::Nobody);
    open(&mut dht, start(), NEW, None);
    ping(&mut dht, start());
    dht.handle_input(start(), Input::ProtocolUnsupported { peer: peer(1) });
    outputs(&mut dht);
    run(&mut dht, start() + 9 * SECOND);
    let (from, request) = (peer(1), Request::Ping);
    let now = start() + 9 * SECOND;
    dht.handle_input(now, Input::RequestReceived { from, connection: OLD, id: InboundId(1), request });
    assert!(closed(&outputs(&mut dht)).is_empty());
}

#[test]
fn both_connections_are_kept_and_the_one_that_is_left_stays_kept() {
    let mut dht = node(KeepAlive::Closest);
    let kept = |out: &[Output]| {
        let of_output = |output: &Output| match output {
            Output::KeepAlive { connection, keep, .. } => Some((*connection, *keep)),
            _ => None,
        };
        out.iter().filter_map(of_output).collect::<Vec<_>>()
    };
    assert_eq!(kept(&open(&mut dht, start(), NEW, None)), [(NEW, true)]);
    assert!(kept(&end(&mut dht, start(), OLD)).is_empty());
    assert_eq!(kept(&open(&mut dht, start(), NEWEST, None)), [(NEWEST, true)]);
    dht.remove_peer(start(), peer(1));
    assert_eq!(kept(&outputs(&mut dht)), [(NEW, false), (NEWEST, false)]);
}

/// Some programs dial `<address>/p2p/<id>` with the id once more. Such an address is not kept, but the peer is where it says.
#[test]
fn how_far_away_a_peer_is_says_the_address_that_is_not_kept_too() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let twice = |ip: &str| -> Multiaddr { format!("{ip}/tcp/1/p2p/{0}/p2p/{0}", peer(1)).parse().unwrap() };
    for (ip, reach) in [("/ip4/127.0.0.1", Reach::Machine), ("/ip4/1.2.3.4", Reach::World)] {
        connect_at(&mut dht, now, 1, twice(ip));
        assert_eq!((dht.peers.reach(&peer(1)), dht.peers.addresses(&peer(1)).len()), (reach, 0), "{ip}");
        lose(&mut dht, now, 1);
    }
}
