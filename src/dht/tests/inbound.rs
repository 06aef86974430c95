//! Requests of other peers: who is named to whom, and what is refused.

use super::*;
use crate::config::IpDiversity;
use crate::event::InboundRequest;
use crate::message::SentRecord;
use crate::peer::{ConnectionType, KadPeer};
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::store::RecordStore as _;

/// Who asks: nobody in particular.
const ASKER: usize = 9999;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn ask(dht: &mut Dht<MemoryStore>, now: Now, from: usize, request: Request) -> Vec<Output> {
    dht.handle_input(
        now,
        Input::RequestReceived { from: peer(from), connection: conn(from), id: InboundId(7), request },
    );
    outputs(dht)
}

/// The answer to a request, and what the application is told of it.
fn served(out: &[Output]) -> (Response, InboundRequest) {
    let [Output::SendResponse { id, response, .. }, Output::Event(Event::InboundRequest { request }), ..] =
        out
    else {
        panic!("{out:?}")
    };
    assert_eq!(*id, InboundId(7));
    (response.clone(), request.clone())
}

/// Asks for the peers closest to some bytes, and checks what the application is told.
fn closest_to(dht: &mut Dht<MemoryStore>, now: Now, from: usize, key: &[u8]) -> Vec<KadPeer> {
    let out = ask(dht, now, from, Request::FindNode { key: key.to_vec().into() });
    let (response, event) = served(&out);
    let Response::FindNode { closer_peers } = response else { panic!("{response:?}") };
    let num_closer_peers = closer_peers.len();
    assert_eq!(event, InboundRequest::FindNode { source: peer(from), num_closer_peers });
    closer_peers
}

fn ids(named: &[KadPeer]) -> Vec<PeerId> {
    named.iter().map(|named| named.node_id).collect()
}

/// Asks where a peer is, and returns who is named.
fn where_is(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Vec<PeerId> {
    ids(&closest_to(dht, now, ASKER, &peer(n).to_bytes()))
}

/// The live peers of the table by their distance to some bytes, without one of them.
fn truth(dht: &Dht<MemoryStore>, key: &[u8], without: usize) -> Vec<PeerId> {
    let target = Key::sha256(key);
    let mut all: Vec<_> = dht.table().entries().filter(|entry| entry.is_live()).collect();
    all.sort_by_key(|entry| entry.key().distance(&target));
    all.into_iter().map(|entry| entry.peer()).filter(|id| *id != peer(without)).collect()
}

/// A node with as many of the peers 1 to 300 in its table as find room, each connected.
fn node() -> Dht<MemoryStore> {
    let mut dht = new_dht(0, quiet());
    for n in 1..300 {
        meet(&mut dht, start(), n);
        answer_all(&mut dht, start(), &[n + 1]);
    }
    assert!((60..200).contains(&dht.table().len()));
    dht
}

/// A connected peer that is not in the table, though it has answered.
fn beside_the_table(dht: &Dht<MemoryStore>) -> usize {
    (1..300).find(|n| dht.table().entry(&key(*n), &peer(*n)).is_none()).expect("a bucket is full")
}

/// A node with a small table, 1 to 3, and a connected client, 50, of which identify has told the address.
fn node_with_client() -> Dht<MemoryStore> {
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, start(), [1, 2, 3]);
    dht.handle_input(start(), Input::ProtocolUnsupported { peer: peer(50) });
    connect_at(&mut dht, start(), 50, address(50));
    learn(&mut dht, start(), 50, &[address(50)]);
    assert!(outputs(&mut dht).is_empty());
    dht
}

/// A node with a small table, 1 to 3, that has been answered by another peer, 50, which is not in it.
fn node_answered_by_one_beside() -> Dht<MemoryStore> {
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, start(), [1, 2, 3, 50]);
    dht.handle_input(start(), Input::ProtocolUnsupported { peer: peer(50) });
    assert!(dht.table().entry(&key(50), &peer(50)).is_none());
    outputs(&mut dht);
    dht
}

/// Lets a ping of a connected peer fail.
fn doubt(dht: &mut Dht<MemoryStore>, now: Now, n: usize) {
    dht.ping(now, peer(n));
    let id = asked(&outputs(dht)).pop().expect("it is connected").1;
    dht.handle_input(now, Input::RequestFailed { id, error: RequestError::BadAnswer });
    outputs(dht);
}

#[test]
fn a_ping_is_answered() {
    let mut dht = node_with_client();
    let out = ask(&mut dht, start(), 1, Request::Ping);
    assert_eq!(served(&out), (Response::Pong, InboundRequest::Ping { source: peer(1) }));
    assert!(matches!(&out[0], Output::SendResponse { to, .. } if *to == peer(1)));
}

#[test]
fn the_k_closest_are_named_in_order_and_nobody_else() {
    let mut dht = node();
    for target in 0..200u32 {
        let target = target.to_be_bytes();
        let named = closest_to(&mut dht, start(), ASKER, &target);
        assert_eq!(ids(&named), truth(&dht, &target, ASKER)[..20]);
    }
}

#[test]
fn those_named_have_their_addresses_and_the_state_of_their_connection() {
    let mut dht = node_with_client();
    lose(&mut dht, start(), 2);
    let named = closest_to(&mut dht, start(), ASKER, b"anything");
    assert_eq!(named.len(), 3);
    for (n, state) in [(1, ConnectionType::Connected), (2, ConnectionType::CanConnect)] {
        let one = named.iter().find(|named| named.node_id == peer(n)).unwrap();
        assert_eq!((one.multiaddrs.clone().into_vec(), one.connection_ty), (vec![address(n)], state));
    }
}

#[test]
fn the_asker_is_not_named_to_itself() {
    let mut dht = node();
    let origin = (1..300).find(|n| dht.table().entry(&key(*n), &peer(*n)).is_some()).unwrap();
    let target = peer(origin).to_bytes();
    let named = closest_to(&mut dht, start(), origin, &target);
    assert_eq!(ids(&named), truth(&dht, &target, origin)[..20], "though it is the closest");
}

#[test]
fn a_node_that_is_not_asked_for_itself_does_not_name_itself() {
    let mut dht = node();
    for target in 0..200u32 {
        assert!(!ids(&closest_to(&mut dht, start(), ASKER, &target.to_be_bytes())).contains(&peer(0)));
    }
    assert!(!where_is(&mut dht, start(), 1).contains(&peer(0)));
}

#[test]
fn asked_for_itself_a_node_names_itself_first_and_once_and_then_k_others() {
    let mut dht = node();
    let own = peer(0).to_bytes();
    let named = ids(&closest_to(&mut dht, start(), ASKER, &own));
    assert_eq!(named[0], peer(0));
    assert_eq!(named[1..], truth(&dht, &own, ASKER)[..20]);
}

#[test]
fn asked_for_itself_a_node_that_knows_nobody_still_names_itself() {
    let mut dht = new_dht(0, quiet());
    assert_eq!(where_is(&mut dht, start(), 0), [peer(0)]);
}

#[test]
fn a_node_names_its_confirmed_addresses_or_else_those_the_asker_can_reach() {
    let mut dht = new_dht(0, quiet());
    let parse = |text: &str| text.parse::<Multiaddr>().unwrap();
    let [machine, site, world] =
        ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/5.6.7.8/tcp/1"].map(parse);
    for (n, source) in [(1, "/ip4/127.0.0.1/tcp/9"), (2, "/ip4/10.0.0.9/tcp/9"), (3, "/ip4/1.2.3.4/tcp/9")] {
        let address = parse(source);
        dht.handle_input(start(), connected_at(n, address, false, None));
    }
    let listening = vec![machine.clone(), site.clone(), world.clone()];
    dht.handle_input(start(), Input::LocalAddresses { external: vec![], listening: listening.clone() });
    outputs(&mut dht);
    let mut told = |external: Vec<Multiaddr>, origin| {
        dht.handle_input(start(), Input::LocalAddresses { external, listening: listening.clone() });
        outputs(&mut dht);
        closest_to(&mut dht, start(), origin, &peer(0).to_bytes())[0].multiaddrs.clone().into_vec()
    };
    assert_eq!(told(vec![], 1), [machine, site.clone(), world.clone()]);
    assert_eq!(told(vec![], 2), [site, world.clone()]);
    assert_eq!(told(vec![], 3), [world]);
    let confirmed = parse("/ip4/9.9.9.9/udp/1/quic-v1");
    for origin in [1, 2, 3, ASKER] {
        assert_eq!(told(vec![confirmed.clone()], origin), std::slice::from_ref(&confirmed));
    }
}

#[test]
fn a_connected_target_is_named_first_in_the_table_or_not_client_or_server() {
    let mut dht = node_with_client();
    let named = where_is(&mut dht, start(), 50);
    assert_eq!((named[0], named.len()), (peer(50), 4));
    let named = closest_to(&mut dht, start(), ASKER, &peer(50).to_bytes());
    assert_eq!(named[0].multiaddrs.clone().into_vec(), [address(50)]);
    assert_eq!(named[0].connection_ty, ConnectionType::Connected);
    assert!(
        !ids(&closest_to(&mut dht, start(), ASKER, b"anything")).contains(&peer(50)),
        "only to who asks for it"
    );
    assert_eq!(where_is(&mut dht, start(), 2)[0], peer(2));
    assert_eq!(where_is(&mut dht, start(), 2).len(), 3, "once");
}

#[test]
fn a_connected_target_beside_a_full_table_is_named_before_the_closest() {
    let mut dht = node();
    let n = beside_the_table(&dht);
    let named = where_is(&mut dht, start(), n);
    assert_eq!(named[0], peer(n));
    let closest = truth(&dht, &peer(n).to_bytes(), ASKER);
    assert_eq!(named[1..20], closest[..19]);
}

#[test]
fn no_more_than_k_are_named_unless_a_node_is_asked_for_itself() {
    let mut dht = node();
    let (beside, inside) = (beside_the_table(&dht), 1);
    assert_eq!(where_is(&mut dht, start(), inside).len(), 20);
    assert_eq!(where_is(&mut dht, start(), beside).len(), 20);
}

#[test]
fn a_target_without_an_address_is_not_named() {
    let mut dht = node_with_client();
    let address = "/memory/999999".parse().unwrap();
    dht.handle_input(start(), connected_at(60, address, false, None));
    assert!(!where_is(&mut dht, start(), 60).contains(&peer(60)));
}

#[test]
fn a_target_that_has_answered_is_named_for_a_day_after_it_is_gone() {
    let (mut dht, now) = (node_answered_by_one_beside(), start());
    lose(&mut dht, now, 50);
    let named = closest_to(&mut dht, now, ASKER, &peer(50).to_bytes());
    assert_eq!((named[0].node_id, named[0].connection_ty), (peer(50), ConnectionType::CanConnect));
    assert_eq!(where_is(&mut dht, now + DAY - SECOND, 50)[0], peer(50));
    assert!(!where_is(&mut dht, now + DAY, 50).contains(&peer(50)));
}

#[test]
fn a_target_that_never_answered_is_not_named_when_it_is_gone() {
    let mut dht = node_with_client();
    assert_eq!(where_is(&mut dht, start(), 50)[0], peer(50));
    lose(&mut dht, start(), 50);
    assert!(!where_is(&mut dht, start(), 50).contains(&peer(50)));
}

#[test]
fn a_peer_that_somebody_only_spoke_of_is_never_named() {
    let mut dht = node_with_client();
    dht.find_closest(start(), peer(70).to_bytes());
    let out = answer_all(&mut dht, start(), &[70]);
    assert!(dials(&out).iter().any(|(_, whom, _)| *whom == Some(peer(70))), "it is a candidate");
    assert!(!dht.addresses_of(&peer(70)).is_empty(), "and remembered");
    assert!(!where_is(&mut dht, start(), 70).contains(&peer(70)));
    assert!(!ids(&closest_to(&mut dht, start(), ASKER, b"anything")).contains(&peer(70)));
}

#[test]
fn a_peer_that_another_part_of_the_program_only_spoke_of_is_never_named() {
    let mut dht = node_with_client();
    learn(&mut dht, start(), 70, &[address(70)]);
    assert!(!where_is(&mut dht, start(), 70).contains(&peer(70)));
}

#[test]
fn an_asker_that_asks_for_itself_is_not_named() {
    let mut dht = node_with_client();
    let named = ids(&closest_to(&mut dht, start(), 50, &peer(50).to_bytes()));
    assert_eq!(named.len(), 3);
    assert!(!named.contains(&peer(50)));
}

#[test]
fn a_doubted_peer_is_not_handed_out_before_it_answers() {
    let (mut dht, now) = (node_with_client(), start());
    doubt(&mut dht, now, 2);
    assert!(!ids(&closest_to(&mut dht, now, ASKER, b"anything")).contains(&peer(2)));
    ask(&mut dht, now, 2, Request::Ping);
    assert!(
        !ids(&closest_to(&mut dht, now, ASKER, b"anything")).contains(&peer(2)),
        "asking is not answering"
    );
    dht.ping(now, peer(2));
    answer_all(&mut dht, now, &[1]);
    assert!(ids(&closest_to(&mut dht, now, ASKER, b"anything")).contains(&peer(2)));
}

#[test]
fn doubted_peers_make_room_for_the_next_closest() {
    let mut dht = node();
    let target = b"anything";
    let closest: Vec<_> = truth(&dht, target, ASKER)[..5].to_vec();
    for n in (1..300).filter(|n| closest.contains(&peer(*n))) {
        doubt(&mut dht, start(), n);
    }
    let named = ids(&closest_to(&mut dht, start(), ASKER, target));
    assert_eq!(named.len(), 20);
    assert!(closest.iter().all(|doubted| !named.contains(doubted)));
}

fn every_request() -> Vec<Request> {
    let key = RecordKey::new(b"key");
    let record = SentRecord { key: key.clone(), value: b"value"[..].into(), publisher: None, ttl: None };
    vec![
        Request::Ping,
        Request::FindNode { key: peer(0).to_bytes().into() },
        Request::GetValue { key: key.clone() },
        Request::PutValue { record },
        Request::GetProviders { key: key.clone() },
        Request::AddProvider { key, providers: vec![named_peer(1)] },
    ]
}

#[test]
fn a_client_refuses_everything_and_tells_nobody() {
    let mut dht = node_with_client();
    dht.set_mode(start(), Some(Mode::Client));
    outputs(&mut dht);
    for request in every_request() {
        let out = ask(&mut dht, start(), 1, request);
        let [Output::RefuseRequest { to, id }] = out[..] else { panic!("{out:?}") };
        assert_eq!((to, id), (peer(1), InboundId(7)));
    }
    dht.set_mode(start(), Some(Mode::Server));
    outputs(&mut dht);
    served(&ask(&mut dht, start(), 1, Request::Ping));
}

#[test]
fn a_node_with_a_confirmed_address_serves_by_itself_and_says_so() {
    let mut dht = node_with_client();
    dht.set_mode(start(), None);
    let out = outputs(&mut dht);
    assert!(matches!(out[0], Output::SetMode(Mode::Client)));
    assert!(matches!(&ask(&mut dht, start(), 1, Request::Ping)[..], [Output::RefuseRequest { .. }]));
    let external = vec!["/ip4/5.6.7.8/tcp/1".parse().unwrap()];
    dht.handle_input(start(), Input::LocalAddresses { external, listening: vec![] });
    let out = outputs(&mut dht);
    let [Output::SetMode(Mode::Server), Output::Event(Event::ModeChanged { new_mode: Mode::Server })] =
        out[..]
    else {
        panic!("{out:?}")
    };
    served(&ask(&mut dht, start(), 1, Request::Ping));
    dht.set_mode(start(), Some(Mode::Client));
    assert!(events(&outputs(&mut dht)).is_empty(), "whoever set it knows");
}

#[test]
fn every_request_is_answered_but_for_an_announcement_which_is_taken_as_done() {
    let mut dht = node_with_client();
    for request in every_request() {
        let is_answered = request.is_answered();
        let out = ask(&mut dht, start(), 1, request);
        let is_done = matches!(&out[..], [Output::AcceptRequest { .. }, ..]);
        let is_response = matches!(&out[..], [Output::SendResponse { .. }, ..]);
        assert_eq!((is_response, is_done), (is_answered, !is_answered), "{out:?}");
    }
}

#[test]
fn a_record_is_answered_with_the_time_left_to_it_and_closer_peers() {
    let (mut dht, now) = (node(), start());
    let key = RecordKey::new(b"key");
    let wall = SystemTime::UNIX_EPOCH;
    let record = Record {
        publisher: Some(peer(5)),
        expires: Some(wall + 10 * SECOND),
        ..Record::new(key.clone(), &b"value"[..])
    };
    dht.store_mut().put(wall, record).unwrap();
    let mut get = |now| {
        let (response, event) = served(&ask(&mut dht, now, ASKER, Request::GetValue { key: key.clone() }));
        let Response::GetValue { key: repeated, record, closer_peers } = response else {
            panic!("{response:?}")
        };
        assert_eq!(repeated, Some(key.clone()));
        let present_locally = record.is_some();
        assert_eq!(
            event,
            InboundRequest::GetRecord { source: peer(ASKER), num_closer_peers: 20, present_locally }
        );
        (record, ids(&closer_peers))
    };
    let (record, closer) = get(now + 4 * SECOND);
    let record = record.expect("it is there");
    assert_eq!((record.value.as_ref(), record.publisher), (&b"value"[..], Some(peer(5))));
    assert_eq!((record.key, record.ttl), (key.clone(), Some(6 * SECOND)));
    let (record, _) = get(now + 10 * SECOND);
    assert_eq!(record, None, "it has expired");
    assert_eq!(closer, truth(&dht, b"key", ASKER)[..20]);
}

#[test]
fn the_end_of_a_record_follows_the_wall_clock_as_it_was_set_last() {
    let mut dht = node_with_client();
    let key = RecordKey::new(b"key");
    let wall = SystemTime::UNIX_EPOCH + 1000 * SECOND;
    let record = Record { expires: Some(wall + 10 * SECOND), ..Record::new(key.clone(), &b"value"[..]) };
    dht.store_mut().put(wall, record).unwrap();
    let later = Now::new(start().instant, wall) + SECOND;
    dht.handle_timeout(later);
    outputs(&mut dht);
    let (response, _) = served(&ask(&mut dht, later, ASKER, Request::GetValue { key }));
    let Response::GetValue { record: Some(record), .. } = response else { panic!("{response:?}") };
    assert_eq!(record.ttl, Some(9 * SECOND));
}

#[test]
fn providers_are_answered_with_closer_peers() {
    let (mut dht, now) = (node(), start());
    let (key, wall) = (RecordKey::new(b"key"), SystemTime::UNIX_EPOCH);
    for (n, lasts) in [(500, 10), (1, 10), (501, 1)] {
        let record = ProviderRecord {
            expires: Some(wall + lasts * SECOND),
            ..ProviderRecord::new(key.clone(), peer(n), vec![address(n)])
        };
        let source = crate::store::Source { peer: peer(n), group: None, hands_on: false };
        dht.store_mut().add_provider_from(wall, record, source).unwrap();
    }
    // Only whoever is on this machine can use addresses of its memory.
    connect_at(&mut dht, now, ASKER, address(ASKER));
    outputs(&mut dht);
    let request = Request::GetProviders { key: key.clone() };
    let (response, event) = served(&ask(&mut dht, now + SECOND, ASKER, request));
    let (source, num_closer_peers, num_provider_peers) = (peer(ASKER), 20, 2);
    assert_eq!(event, InboundRequest::GetProvider { source, num_closer_peers, num_provider_peers });
    let Response::GetProviders { key: repeated, provider_peers, closer_peers } = response else {
        panic!("{response:?}")
    };
    assert_eq!((repeated, ids(&provider_peers)), (Some(key), vec![peer(500), peer(1)]));
    assert_eq!(provider_peers[0].multiaddrs.clone().into_vec(), [address(500)]);
    assert_eq!(provider_peers[1].connection_ty, ConnectionType::Connected);
    assert_eq!(ids(&closer_peers), truth(&dht, b"key", ASKER)[..20]);
}

#[test]
fn a_request_of_a_peer_of_the_table_is_a_sign_of_life() {
    let mut dht = node_with_client();
    let seen = |dht: &Dht<MemoryStore>, n| dht.table().entry(&key(n), &peer(n)).unwrap().last_seen();
    let later = start() + 100 * SECOND;
    ask(&mut dht, later, 2, Request::Ping);
    assert_eq!((seen(&dht, 1), seen(&dht, 2)), (start().instant, later.instant));
    let out = ask(&mut dht, later, 2, Request::Ping);
    assert!(asked(&out).is_empty() && dials(&out).is_empty(), "it is not asked in return");
}

#[test]
fn a_node_that_knows_few_names_its_seeds_until_it_has_heard_of_them() {
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, start(), [1, 2, 3]);
    for n in [51, 52] {
        assert_eq!(dht.add_address(start(), peer(n), address(n)), RoutingUpdate::Pending);
    }
    outputs(&mut dht);
    let named = |dht: &mut Dht<MemoryStore>, from| ids(&closest_to(dht, start(), from, b"anything"));
    let sorted = |mut all: Vec<usize>| {
        all.sort_by_key(|n| key(*n).distance(&Key::sha256(b"anything")));
        all.into_iter().map(peer).collect::<Vec<_>>()
    };
    assert_eq!(named(&mut dht, ASKER), sorted(vec![1, 2, 3, 51, 52]), "nearest first, seeds or not");
    assert_eq!(named(&mut dht, 51), sorted(vec![1, 2, 3, 52]), "nobody is told of himself");
    dht.upkeep.seeds.asked((start().instant, None), &peer(51), Err(RequestError::Unreachable));
    assert_eq!(named(&mut dht, ASKER), sorted(vec![1, 2, 3, 52]), "whoever has failed is not named");

    let mut full = node();
    full.add_address(start(), peer(9000), address(9000));
    outputs(&mut full);
    for key in 0..50u8 {
        assert!(
            !ids(&closest_to(&mut full, start(), ASKER, &[key])).contains(&peer(9000)),
            "there are enough"
        );
    }
}

#[test]
fn what_is_beyond_a_rate_is_served_until_the_node_is_late_and_honest_ones_are_served_all_the_same() {
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, start(), 1..=20);
    let late = |millis| Now { late: Duration::from_millis(millis), ..start() };
    let request = || Request::FindNode { key: peer(5).to_bytes().into() };
    let is_served = |dht: &mut Dht<MemoryStore>, now, from| {
        let out = ask(dht, now, from, request());
        let refused = out.iter().any(|o| matches!(o, Output::RefuseRequest { .. }));
        let answered = out.iter().any(|o| matches!(o, Output::SendResponse { .. }));
        assert!(answered != refused, "one of both, always: {out:?}");
        answered
    };
    meet(&mut dht, start(), ASKER);
    outputs(&mut dht);
    assert!((0..300).all(|_| is_served(&mut dht, start(), ASKER)), "it has time");
    assert_eq!(dht.stats().admission.beyond_served, 100);
    assert!(!is_served(&mut dht, late(6), ASKER));
    assert!(is_served(&mut dht, late(6), 1), "one of the table, within its rate");
    assert!(is_served(&mut dht, start(), ASKER), "it has time again");
    let stats = dht.stats();
    let find_node = &stats.inbound_requests.find_node;
    assert_eq!((stats.admission.beyond_refused, find_node.refused, find_node.answered), (1, 1, 302));

    // Without rates whoever asks most gets most.
    let mut config = quiet();
    config.limits.rates = None;
    let mut dht = new_dht(0, config);
    meet(&mut dht, start(), ASKER);
    assert!((0..300).all(|_| is_served(&mut dht, late(100), ASKER)));
}

/// Peers of the table, each in the group of its number, and whom the node names to one that asks for a key.
fn named_by(diversity: IpDiversity, groups: &[u8], target: &[u8]) -> Vec<usize> {
    let (mut dht, now) = (new_dht(0, quiet().with_ip_diversity(diversity)), start());
    dht.set_mode(now, Some(Mode::Server));
    for (n, group) in (1..).zip(groups) {
        let address: Multiaddr = format!("/ip4/20.{group}.1.{n}/tcp/1").parse().unwrap();
        let groups = crate::addrs::Groups::of(&address, crate::addrs::IpGroup::of_ip);
        let addresses = crate::addrs::Addresses::collect(&peer(n), [address]);
        dht.upkeep.table.insert(now.instant, key(n), peer(n), addresses, groups);
    }
    connect_at(&mut dht, now, 900, "/ip4/9.9.9.9/tcp/1".parse().unwrap());
    outputs(&mut dht);
    let out = ask(&mut dht, now, 900, Request::FindNode { key: target.to_vec().into() });
    let [Output::SendResponse { response: Response::FindNode { closer_peers }, .. }, ..] = &out[..] else {
        panic!("{out:?}")
    };
    closer_peers.iter().map(|named| (1..200).find(|n| peer(*n) == named.node_id).unwrap()).collect()
}

#[test]
fn where_diversity_is_soft_others_within_twice_the_distance_are_named_instead_of_a_third_of_a_group() {
    let target = b"a key";
    let mut nearest: Vec<_> = (1..=60).collect();
    nearest.sort_by_key(|n| Key::sha256(target).distance(&key(*n)));
    // Ten of the twenty nearest are of one group.
    let mut groups = [0; 60];
    for (at, n) in nearest.iter().enumerate() {
        groups[n - 1] = if at < 20 && at % 2 == 0 { 1 } else { 10 + u8::try_from(at).unwrap() };
    }
    let of_one = |named: &[usize]| named.iter().filter(|n| groups[**n - 1] == 1).count();
    let off = named_by(IpDiversity::Off, &groups, target);
    let soft = named_by(IpDiversity::Soft, &groups, target);
    assert!(off.len() == 20 && soft.len() == 20 && of_one(&off) >= 5, "{off:?}");
    assert_eq!(of_one(&soft), 2, "{soft:?}");
    assert!(soft.is_sorted_by_key(|n| Key::sha256(target).distance(&key(*n))), "nearest first");
    assert!(off.iter().filter(|n| groups[**n - 1] != 1).all(|n| soft.contains(n)), "nobody else makes way");
    // In one network there are no others: all are named.
    let alike = named_by(IpDiversity::Soft, &[1; 60], target);
    assert_eq!(alike, named_by(IpDiversity::Off, &[1; 60], target));
}
