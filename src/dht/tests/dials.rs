//! Dials: at which addresses, in which order, how many at once; what the program denies; what is mere hearsay.

use super::*;
use crate::dht::op::{PingError, PingOk};
use crate::peer::{ConnectionType, KadPeer};

const TIMEOUT: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// A node that knows nobody.
fn node() -> Dht<MemoryStore> {
    new_dht(0, quiet())
}

/// A node with connected servers in its table.
fn node_among(peers: std::ops::Range<usize>) -> Dht<MemoryStore> {
    let mut dht = node();
    admit(&mut dht, start(), peers);
    outputs(&mut dht);
    dht
}

fn at(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// Tells a node an address of the peer 1 as the application does, and returns what comes of it.
fn add(dht: &mut Dht<MemoryStore>, now: Now, address: &Multiaddr) -> Vec<Output> {
    dht.add_address(now, peer(1), address.clone());
    outputs(dht)
}

fn timed(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<Output> {
    dht.handle_timeout(now);
    assert!(dht.due().is_none_or(|deadline| deadline.at > now), "time moves on");
    outputs(dht)
}

fn failed(dht: &mut Dht<MemoryStore>, now: Now, dial: DialId, n: usize, error: DialFailure) -> Vec<Output> {
    fail_dial(dht, now, dial, n, error);
    outputs(dht)
}

fn connected(dht: &mut Dht<MemoryStore>, now: Now, n: usize, dial: DialId) -> Vec<Output> {
    let input = connected_at(n, address(n), true, Some(dial));
    dht.handle_input(now, input);
    outputs(dht)
}

/// Where the peer 1 is dialled by the one dial among the outputs.
fn dialled(out: &[Output]) -> (DialId, Vec<Multiaddr>) {
    let [(id, Some(whom), addresses)] = &dials(out)[..] else { panic!("{out:?}") };
    assert_eq!(*whom, peer(1));
    (*id, addresses.clone())
}

fn whom(out: &[Output]) -> Vec<PeerId> {
    dials(out).into_iter().map(|(_, whom, _)| whom.unwrap()).collect()
}

fn pinged(outputs: &[Output], query: QueryId) -> Option<Result<Duration, RequestError>> {
    let QueryResult::Ping(result) = result_of(outputs, query)? else { panic!("{query} is no ping") };
    Some(result.map(|PingOk { rtt, .. }| rtt).map_err(|error| {
        let PingError::Failed { source: error, .. } = error else { panic!("{error}") };
        error
    }))
}

fn seed_result(dht: &Dht<MemoryStore>) -> Option<Result<(), RequestError>> {
    dht.upkeep.seeds.outcomes()[0].result
}

#[test]
fn an_address_that_arrives_while_a_dial_runs_is_dialled_before_anybody_hears_of_a_failure() {
    let (mut dht, now) = (node(), start());
    let (first, addresses) = dialled(&add(&mut dht, now, &address(21)));
    assert_eq!(addresses, [address(21)]);
    assert!(add(&mut dht, now, &address(22)).is_empty(), "the first may still answer");
    let (second, addresses) = dialled(&failed(&mut dht, now, first, 1, unreachable()));
    assert_eq!((addresses, seed_result(&dht)), (vec![address(22)], None));
    assert!(dials(&failed(&mut dht, now, second, 1, unreachable())).is_empty());
    assert_eq!(seed_result(&dht), Some(Err(RequestError::Unreachable)));
}

#[test]
fn an_address_that_arrives_while_another_hangs_is_dialled_a_second_after_that() {
    let (mut dht, now) = (node(), start());
    add(&mut dht, now, &address(21));
    add(&mut dht, now + 200 * MS, &address(22));
    assert!(timed(&mut dht, now + SECOND - MS).is_empty());
    assert_eq!(dht.due().map(|deadline| deadline.at), Some(now + SECOND));
    let (_, addresses) = dialled(&timed(&mut dht, now + SECOND));
    assert_eq!(addresses, [address(22)]);
    let (_, addresses) = dialled(&add(&mut dht, now + 5 * SECOND, &address(23)));
    assert_eq!(addresses, [address(23)], "what comes later still is dialled at once");
}

#[test]
fn an_address_that_somebody_reports_while_a_dial_runs_belongs_to_it() {
    let (mut dht, now) = (node(), start());
    let (first, _) = dialled(&add(&mut dht, now, &address(21)));
    learn(&mut dht, now, 1, &[address(22)]);
    let (_, addresses) = dialled(&failed(&mut dht, now, first, 1, unreachable()));
    assert_eq!(addresses, [address(22)]);
}

#[test]
fn sixteen_addresses_are_dialled_six_at_a_time_until_one_answers() {
    let (mut dht, now) = (node(), start());
    dht.handle_input(now, connected_at(1, address(99), false, None));
    (0..16).for_each(|n| drop(add(&mut dht, now, &at(&format!("/ip4/1.2.3.4/tcp/{}", 1000 + n)))));
    lose(&mut dht, now, 1);
    let mut seen: Vec<Multiaddr> = Vec::new();
    let mut out = outputs(&mut dht);
    let mut latest = None;
    for (until_next, count) in [(1000, 6), (1500, 6), (2000, 4)] {
        let (id, addresses) = dialled(&out);
        assert_eq!(addresses.len(), count);
        assert!(addresses.iter().all(|address| !seen.contains(address)));
        seen.extend(addresses);
        latest = Some(id);
        assert!(timed(&mut dht, now + (until_next - 1) * MS).is_empty());
        out = timed(&mut dht, now + until_next * MS);
    }
    assert!(dials(&out).is_empty() && seen.len() == 16);
    assert_eq!(dht.num_dials(), 3);
    assert!(!asked(&connected(&mut dht, now + 2 * SECOND, 1, latest.unwrap())).is_empty());
    assert_eq!(dht.num_dials(), 0, "the others hold no slot any more");
}

#[test]
fn a_batch_that_fails_is_followed_by_the_next_at_once() {
    let (mut dht, now) = (node(), start());
    for n in 0..8 {
        add(&mut dht, now, &at(&format!("/ip4/1.2.3.4/tcp/{}", 1000 + n)));
    }
    let (query, out) = (dht.ping(now, peer(1)), outputs(&mut dht));
    assert!(dials(&out).is_empty());
    // The first address was dialled alone; the other seven were named while it was.
    let (second, addresses) = dialled(&failed(&mut dht, now, DialId(0), 1, unreachable()));
    assert_eq!(addresses.len(), 6);
    let (third, addresses) = dialled(&failed(&mut dht, now, second, 1, unreachable()));
    assert_eq!(addresses.len(), 1);
    let out = failed(&mut dht, now, third, 1, unreachable());
    assert_eq!(pinged(&out, query), Some(Err(RequestError::Unreachable)));
}

#[test]
fn the_address_that_worked_last_comes_first_then_direct_ones_names_and_relayed_ones_and_what_failed_last() {
    let (mut dht, now) = (node(), start());
    let relayed =
        at("/ip4/5.6.7.8/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit");
    let (name, site) = (at("/dns4/example.org/tcp/1"), at("/ip4/192.168.1.1/tcp/1"));
    let (direct, dead, worked) =
        (at("/ip4/1.2.3.4/tcp/1"), at("/ip4/1.2.3.4/tcp/2"), at("/ip4/1.2.3.4/tcp/3"));
    connect_at(&mut dht, now, 1, worked.clone());
    for address in [&relayed, &name, &site, &dead, &direct] {
        dht.add_address(now, peer(1), (*address).clone());
    }
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    dht.ping(now, peer(1));
    timed(&mut dht, now + 2 * TIMEOUT);
    // All are taken to be dead now. When it is reached anew, that is forgotten.
    connect_at(&mut dht, now + 2 * TIMEOUT, 1, worked.clone());
    outputs(&mut dht);
    lose(&mut dht, now + 2 * TIMEOUT, 1);
    let known = dht.peers.get_mut(&peer(1)).unwrap();
    let order = known.batch_for_test();
    assert_eq!(order[0], worked);
    assert_eq!(order[3..], [site, name, relayed.clone()]);
    known.fail_for_test(&worked);
    known.fail_for_test(&dead);
    let order = known.batch_for_test();
    assert_eq!(order, [direct, order[1].clone(), order[2].clone(), relayed, worked, dead]);
}

#[test]
fn what_the_program_denies_is_no_failure_and_waits_for_a_place() {
    let (mut dht, now) = (node_among(100..101), start());
    admit(&mut dht, now, [1]);
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    let query = dht.ping(now, peer(1));
    let (dial, _) = dialled(&outputs(&mut dht));
    let out = failed(&mut dht, now, dial, 1, DialFailure::Denied);
    assert!(out.is_empty(), "there is a pause: {out:?}");
    assert!(dht.peers.is_worth_asking(now.instant, &peer(1)));
    assert_eq!(dht.due().map(|deadline| deadline.at), Some(now + 100 * MS));
    let (dial, _) = dialled(&timed(&mut dht, now + 100 * MS));
    let out = connected(&mut dht, now + 100 * MS, 1, dial);
    let (_, id, _) = asked(&out).into_iter().find(|(_, _, request)| *request == Request::Ping).unwrap();
    dht.handle_input(now + 100 * MS, Input::ResponseReceived { id, response: Response::Pong });
    assert!(matches!(pinged(&outputs(&mut dht), query), Some(Ok(_))));
    assert_eq!(dht.table().entry(&key(1), &peer(1)).unwrap().failures(), 0);
}

#[test]
fn what_is_always_denied_is_tried_ever_more_rarely_and_refused_in_the_end() {
    let (mut dht, now) = (node(), start());
    let query = dht.ping(now, peer(1));
    let (mut out, mut count, mut pauses) = (outputs(&mut dht), 0, Vec::new());
    let mut time = now;
    let result = loop {
        for (dial, ..) in dials(&out) {
            count += 1;
            pauses.push(time);
            fail_dial(&mut dht, time, dial, 1, DialFailure::Denied);
        }
        out.extend(outputs(&mut dht));
        if let Some(result) = pinged(&out, query) {
            break result;
        }
        time = dht.due().unwrap().at;
        out = timed(&mut dht, time);
    };
    assert_eq!((result, time), (Err(RequestError::DialRefused), now + TIMEOUT));
    assert!((5..=8).contains(&count), "{count} dials in ten seconds: {pauses:?}");
    assert!(dht.peers.is_worth_asking(time.instant, &peer(1)));
}

#[test]
fn a_connection_that_ends_makes_a_place_at_once() {
    let (mut dht, now) = (node_among(100..102), start());
    let query = dht.ping(now, peer(1));
    let (dial, _) = dialled(&outputs(&mut dht));
    assert!(failed(&mut dht, now, dial, 1, DialFailure::Denied).is_empty());
    lose(&mut dht, now, 100);
    assert_eq!(whom(&outputs(&mut dht)), [peer(1)]);
    assert!(dht.query(query).is_some());
}

#[test]
fn so_many_dials_as_the_program_lets_through_are_under_way() {
    let (mut dht, mut now) = (node(), start());
    // Two at once are let through, whoever it is for.
    let mut under_way: Vec<(DialId, usize)> = Vec::new();
    let mut reached: BTreeSet<usize> = BTreeSet::new();
    let mut denied = 0;
    for n in 1..21 {
        dht.ping(now, peer(n));
    }
    while reached.len() < 20 {
        for (dial, who, _) in dials(&outputs(&mut dht)) {
            let n = (1..21).find(|n| Some(peer(*n)) == who).unwrap();
            if under_way.len() < 2 {
                under_way.push((dial, n));
            } else {
                denied += 1;
                fail_dial(&mut dht, now, dial, n, DialFailure::Denied);
            }
        }
        now += 10 * MS;
        for (dial, n) in std::mem::take(&mut under_way) {
            let input = connected_at(n, address(n), true, Some(dial));
            dht.handle_input(now, input);
            reached.insert(n);
        }
        dht.handle_timeout(now);
        assert!(now < start() + TIMEOUT, "{} of 20 were reached", reached.len());
    }
    assert!(denied < 18 + 20, "{denied} were denied");
}

/// Denies all dials to the peer 1 until it is given up, then lets one to the peer `n` through. Takes 20 s.
fn block(dht: &mut Dht<MemoryStore>, now: Now, n: usize) {
    block_until(dht, now, n, |_, _| {});
}

/// The same, while something happens in between.
fn block_until(dht: &mut Dht<MemoryStore>, now: Now, n: usize, then: fn(&mut Dht<MemoryStore>, Now)) {
    dht.ping(now, peer(1));
    let mut time = now;
    while time <= now + TIMEOUT {
        for (dial, whom, _) in dials(&outputs(dht)) {
            let error = if whom == Some(peer(1)) { DialFailure::Denied } else { DialFailure::Refused };
            dht.handle_input(time, Input::DialFailed { dial: Some(dial), peer: whom, error });
        }
        time += 100 * MS;
        dht.handle_timeout(time);
    }
    then(dht, time);
    outputs(dht);
    dht.ping(time, peer(n));
    let out = outputs(dht);
    let [(dial, Some(who), _)] = dials(&out)[..] else { panic!("{out:?}") };
    assert_eq!(who, peer(n));
    for (_, id, _) in asked(&connected(dht, time, n, dial)) {
        dht.handle_input(time, Input::ResponseReceived { id, response: Response::Pong });
    }
    lose(dht, time, n);
    outputs(dht);
    dht.handle_timeout(now + 2 * TIMEOUT);
    for (dial, whom, _) in dials(&outputs(dht)) {
        let error = DialFailure::Refused;
        dht.handle_input(now + 2 * TIMEOUT, Input::DialFailed { dial: Some(dial), peer: whom, error });
    }
}

#[test]
fn a_peer_that_is_denied_three_times_while_others_are_let_through_leaves_the_table_and_is_tried_after_ten_minutes()
 {
    let (mut dht, now) = (node_among(100..101), start());
    admit(&mut dht, now, [1]);
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    for round in 0..3 {
        assert!(dht.table().entry(&key(1), &peer(1)).is_some(), "{round}");
        block(&mut dht, now + round * MINUTE, 200 + usize::try_from(round).unwrap());
    }
    assert!(dht.table().entry(&key(1), &peer(1)).is_none());
    let barred = now + 2 * MINUTE;
    assert!(!dht.peers.is_worth_asking((barred + 9 * MINUTE).instant, &peer(1)));
    assert!(!whom(&timed(&mut dht, barred + 9 * MINUTE)).contains(&peer(1)));
    let out = timed(&mut dht, barred + 11 * MINUTE);
    assert!(whom(&out).contains(&peer(1)), "{out:?}");
    assert!(dht.peers.is_worth_asking((barred + 11 * MINUTE).instant, &peer(1)));
}

#[test]
fn nobody_is_blocked_because_there_was_a_place_for_others_after_a_connection_had_ended() {
    let (mut dht, now) = (node_among(100..101), start());
    admit(&mut dht, now, [1]);
    lose(&mut dht, now, 1);
    outputs(&mut dht);
    for round in 0..5 {
        block_until(&mut dht, now + round * MINUTE, 200 + usize::try_from(round).unwrap(), |dht, now| {
            let (peer, connection) = (peer(300), conn(300));
            let input = Input::Connected {
                located: None,
                peer,
                connection,
                address: address(300),
                dialled: false,
                dial: None,
            };
            dht.handle_input(now, input);
            lose(dht, now, 300);
        });
    }
    assert!(dht.table().entry(&key(1), &peer(1)).is_some());
}

#[test]
fn a_limit_that_meets_everybody_blocks_nobody() {
    let (mut dht, now) = (node_among(100..101), start());
    admit(&mut dht, now, [1, 2]);
    lose(&mut dht, now, 1);
    lose(&mut dht, now, 2);
    outputs(&mut dht);
    for round in 0..10 {
        let now = now + round * MINUTE;
        for n in [1, 2] {
            dht.ping(now, peer(n));
        }
        let mut time = now;
        while time < now + TIMEOUT {
            for (dial, who, _) in dials(&outputs(&mut dht)) {
                let n = if who == Some(peer(1)) { 1 } else { 2 };
                fail_dial(&mut dht, time, dial, n, DialFailure::Denied);
            }
            time += 50 * MS;
            dht.handle_timeout(time);
        }
        outputs(&mut dht);
    }
    assert!([1, 2].iter().all(|n| dht.table().entry(&key(*n), &peer(*n)).is_some()));
}

#[test]
fn a_connection_closed_between_dial_and_request_is_made_again_once_uncounted() {
    let (mut dht, now) = (node_among(100..101), start());
    let query = dht.ping(now, peer(1));
    let mut out = outputs(&mut dht);
    for _ in 0..2 {
        let (dial, _) = dialled(&out);
        assert!(asked(&connected(&mut dht, now, 1, dial)).iter().any(|(_, _, r)| *r == Request::Ping));
        lose(&mut dht, now, 1);
        out = outputs(&mut dht);
        assert_eq!(pinged(&out, query), None);
    }
    let (dial, _) = dialled(&out);
    connected(&mut dht, now, 1, dial);
    lose(&mut dht, now, 1);
    assert_eq!(pinged(&outputs(&mut dht), query), Some(Err(RequestError::Disconnected)));
}

/// Who is named at so many addresses, each of an IP group of its own.
fn made_up(n: usize, addresses: usize) -> KadPeer {
    let address = |at: usize| at_port(&format!("{}.{}.3.4", 1 + n % 9, at), 4000 + at);
    let multiaddrs = Addresses::collect(&peer(n), (0..addresses).map(address));
    KadPeer { node_id: peer(n), multiaddrs, connection_ty: ConnectionType::CanConnect }
}

fn at_port(ip: &str, port: usize) -> Multiaddr {
    at(&format!("/ip4/{ip}/tcp/{port}"))
}

/// A node that has met the server 100 at an address.
fn node_that_met(server: &str) -> Dht<MemoryStore> {
    let mut dht = node();
    connect_at(&mut dht, start(), 100, at(server));
    dht.handle_input(start(), Input::ProtocolConfirmed { peer: peer(100) });
    answer_all(&mut dht, start(), &[]);
    prove(&mut dht, start(), 100);
    outputs(&mut dht);
    dht
}

/// Asks the server 100 for a key, lets it name these, and returns where they are dialled.
fn dialled_of(dht: &mut Dht<MemoryStore>, now: Now, named: &[KadPeer]) -> Vec<(PeerId, Vec<Multiaddr>)> {
    dht.find_closest(now, *b"anything");
    let out = outputs(dht);
    let (_, id, _) = asked(&out).into_iter().find(|(to, ..)| *to == peer(100)).expect("100 is asked");
    let response = Response::FindNode { closer_peers: named.to_vec() };
    dht.handle_input(now, Input::ResponseReceived { id, response });
    let mut all = Vec::new();
    let mut out = outputs(dht);
    let mut time = now;
    while time < now + TIMEOUT {
        all.extend(dials(&out).into_iter().map(|(_, whom, addresses)| (whom.unwrap(), addresses)));
        for (id, whom, _) in dials(&out) {
            let error = unreachable();
            dht.handle_input(time, Input::DialFailed { dial: Some(id), peer: whom, error });
        }
        time += 100 * MS;
        dht.handle_timeout(time);
        out = outputs(dht);
    }
    all
}

#[test]
fn a_peer_of_whom_others_have_told_is_dialled_at_three_addresses() {
    let mut dht = node_that_met("/ip4/9.9.9.9/tcp/1");
    let named: Vec<_> = (200..220).map(|n| made_up(n, 16)).collect();
    let mut count: BTreeMap<PeerId, usize> = BTreeMap::new();
    for (whom, addresses) in dialled_of(&mut dht, start(), &named) {
        *count.entry(whom).or_default() += addresses.len();
    }
    assert!(!count.is_empty() && count.values().all(|count| *count <= 3), "{count:?}");
}

#[test]
fn nobody_is_dialled_within_a_machine_or_a_site_because_one_from_outside_says_so() {
    let named = |n: usize| {
        let addresses = ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.0.1/tcp/1", "/ip4/169.254.1.1/tcp/1"].map(at);
        let multiaddrs = Addresses::collect(&peer(n), addresses);
        KadPeer { node_id: peer(n), multiaddrs, connection_ty: ConnectionType::CanConnect }
    };
    let mut dht = node_that_met("/ip4/9.9.9.9/tcp/1");
    assert_eq!(dialled_of(&mut dht, start(), &[named(200)]), []);
    let mut dht = node_that_met("/ip4/127.0.0.1/tcp/77");
    let all = dialled_of(&mut dht, start(), &[named(200)]);
    assert_eq!(all.len(), 1, "whoever is met within the machine may say so: {all:?}");
    assert_eq!(all[0].1.len(), 3);
}

#[test]
fn while_others_are_left_to_ask_two_addresses_of_an_ip_group_are_dialled() {
    let mut dht = node_that_met("/ip4/9.9.9.9/tcp/1");
    admit(&mut dht, start(), [101, 102]);
    let in_group = |n: usize| {
        let multiaddrs = Addresses::collect(&peer(n), [at_port(&format!("1.2.3.{}", n % 200), 1)]);
        KadPeer { node_id: peer(n), multiaddrs, connection_ty: ConnectionType::CanConnect }
    };
    // Three servers name two each of the same group, and 100 somebody else, too.
    dht.find_closest(start(), *b"anything");
    let out = outputs(&mut dht);
    let requests = asked(&out);
    assert_eq!(requests.len(), 3);
    for (to, id, _) in requests {
        let n = (100..103).find(|n| peer(*n) == to).unwrap();
        let mut named = vec![in_group(200 + 2 * n), in_group(201 + 2 * n)];
        if n == 102 {
            named.extend((0..6).map(|other| made_up(300 + other, 1)));
        }
        let response = Response::FindNode { closer_peers: named };
        dht.handle_input(start(), Input::ResponseReceived { id, response });
    }
    let of_group = |out: &[Output]| {
        let addresses = dials(out).into_iter().flat_map(|(_, _, addresses)| addresses);
        addresses.filter(|address| address.to_string().starts_with("/ip4/1.2.")).count()
    };
    let (mut time, mut others) = (start(), BTreeSet::new());
    let mut early = 0;
    let mut all = 0;
    while time < start() + TIMEOUT {
        let out = outputs(&mut dht);
        all += of_group(&out);
        for (id, whom, addresses) in dials(&out) {
            if !addresses[0].to_string().starts_with("/ip4/1.2.") {
                others.insert(whom);
            }
            dht.handle_input(time, Input::DialFailed { dial: Some(id), peer: whom, error: unreachable() });
        }
        if others.len() < 6 {
            early = all;
        }
        time += 100 * MS;
        dht.handle_timeout(time);
    }
    assert!(early <= 2, "{early} were dialled while others were left");
    assert_eq!((others.len(), all), (6, 6), "in the end all are asked");
}

#[test]
fn a_stranger_who_names_addresses_and_leaves_is_dialled_where_it_came_from_if_anywhere() {
    let (mut dht, now) = (node_that_met("/ip4/9.9.9.9/tcp/1"), start());
    let source = at("/ip4/8.8.8.8/tcp/5");
    dht.handle_input(now, connected_at(1, source, false, None));
    dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(1) });
    let addresses: Vec<_> = (0..16).map(|n| at_port(&format!("7.{n}.0.1"), 80)).collect();
    learn(&mut dht, now, 1, &addresses);
    learn(&mut dht, now, 1, &[at("/ip4/127.0.0.1/tcp/22"), at("/ip4/10.0.0.1/tcp/22")]);
    learn(&mut dht, now, 1, &[at("/ip4/169.254.169.254/tcp/80"), at("/ip4/8.8.8.8/tcp/4001")]);
    lose(&mut dht, now, 1);
    let mut all = Vec::new();
    let mut time = now;
    while time < now + 2 * TIMEOUT {
        for (id, whom, addresses) in dials(&outputs(&mut dht)) {
            assert_eq!(whom, Some(peer(1)));
            all.extend(addresses);
            dht.handle_input(time, Input::DialFailed { dial: Some(id), peer: whom, error: unreachable() });
        }
        time += 100 * MS;
        dht.handle_timeout(time);
    }
    all.retain(|address| *address != at("/ip4/8.8.8.8/tcp/4001"));
    assert!(all.len() <= 3, "{all:?}");
    assert!(all.iter().all(|address| address.to_string().starts_with("/ip4/7.")));
}
