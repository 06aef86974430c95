use std::net::IpAddr;

use super::*;
use crate::config::{Membership, RequestVerdict};
use crate::dht::InboundId;
use crate::dht::bans::BanTarget;
use crate::error::{AddressError, BanError};
use crate::message::{MessageType, SentRecord};
use crate::record::{Record, RecordKey};

/// Whom a stranger, who is connected, is told of when it asks for some bytes.
fn named(dht: &mut Dht<MemoryStore>, now: Now, key: &[u8]) -> Vec<PeerId> {
    let request = Request::FindNode { key: key.to_vec().into() };
    let Some(Response::FindNode { closer_peers }) = ask(dht, now, 90, request) else { panic!("refused") };
    closer_peers.into_iter().map(|peer| peer.node_id).collect()
}

/// Asks as a peer, and returns the answer, if it is not refused.
fn ask(dht: &mut Dht<MemoryStore>, now: Now, from: usize, request: Request) -> Option<Response> {
    outputs(dht);
    let (from, connection, id) = (peer(from), conn(from), InboundId(7));
    dht.handle_input(now, Input::RequestReceived { from, connection, id, request });
    outputs(dht).into_iter().find_map(|output| match output {
        Output::SendResponse { response, .. } => Some(Some(response)),
        Output::RefuseRequest { .. } | Output::AcceptRequest { .. } => Some(None),
        _ => None,
    })?
}

fn closed(out: &[Output]) -> Vec<PeerId> {
    let closes = |output: &Output| match output {
        Output::CloseConnection { peer, .. } => Some(*peer),
        _ => None,
    };
    out.iter().filter_map(closes).collect()
}

fn ban(dht: &mut Dht<MemoryStore>, now: Now, target: impl Into<BanTarget>) -> Vec<Output> {
    outputs(dht);
    dht.ban(now, target, None, "it spams").unwrap();
    outputs(dht)
}

#[test]
fn whoever_is_banned_is_named_to_nobody_asked_nothing_and_served_nothing() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1, 2, 3, 4]);
    connect_at(&mut dht, now, 90, address(90));
    let provided = Request::AddProvider { key: RecordKey::new(b"content"), providers: vec![named_peer(2)] };
    ask(&mut dht, now, 2, provided);
    dht.ping(now, peer(2));
    let out = ban(&mut dht, now, peer(2));
    assert_eq!(closed(&out), [peer(2)]);
    let has_failed = |event: &Event| {
        matches!(event, Event::OutboundQueryProgressed { result: QueryResult::Ping(Err(error)), .. }
            if format!("{error:?}").contains("Banned"))
    };
    assert!(out.iter().any(|output| matches!(output, Output::Event(event) if has_failed(event))), "{out:?}");
    assert!(dht.table().entry(&key(2), &peer(2)).is_none());
    for n in 0..2_000u32 {
        assert!(!named(&mut dht, now, &n.to_be_bytes()).contains(&peer(2)));
    }
    assert!(!named(&mut dht, now, &peer(2).to_bytes()).contains(&peer(2)), "nor to who looks for it");
    let providers = Request::GetProviders { key: RecordKey::new(b"content") };
    let Some(Response::GetProviders { provider_peers, .. }) = ask(&mut dht, now, 90, providers) else {
        panic!("refused")
    };
    assert!(provider_peers.is_empty(), "{provider_peers:?}");
    // It comes again, is named by others and by the application, and asks.
    connect_at(&mut dht, now, 2, address(2));
    assert_eq!(closed(&outputs(&mut dht)), [peer(2)]);
    assert_eq!(ask(&mut dht, now, 2, Request::Ping), None);
    assert_eq!(dht.try_add_address(now, peer(2), address(2)), Err(AddressError::Banned));
    dht.find_closest(now, peer(2).to_bytes());
    let asked = answer_all(&mut dht, now, &[2, 3]);
    assert!(!asked.iter().any(|output| matches!(output, Output::SendRequest { to, .. } if *to == peer(2))));
    assert!(dials(&asked).iter().all(|(_, whom, _)| *whom != Some(peer(2))));
    let bans = dht.bans();
    assert_eq!((bans.len(), bans[0].target, &*bans[0].why), (1, BanTarget::Peer(peer(2)), "it spams"));
    // It is let in again.
    assert!(dht.unban(peer(2)));
    admit(&mut dht, now, [2]);
    assert_eq!(ask(&mut dht, now, 2, Request::Ping), Some(Response::Pong));
}

/// Of so many answers of all kinds, after peers that are connected, in the table, provide and have published were banned, none names
/// one of them.
fn none_of_so_many_names_them(answers: u32) {
    let (mut dht, now) = (new_dht(0, quiet().with_rates(None)), start());
    admit(&mut dht, now, 1..=30);
    let in_table: Vec<_> = (1..=30).filter(|n| dht.table().entry(&key(*n), &peer(*n)).is_some()).collect();
    connect_at(&mut dht, now, 9000, address(9000));
    let keys = [0u8, 1, 2, 3].map(|n| RecordKey::new(&[n]));
    let (bad, good) = (in_table[3], in_table[5]);
    for key in &keys {
        for n in [bad, good] {
            let request = Request::AddProvider { key: key.clone(), providers: vec![named_peer(n)] };
            ask(&mut dht, now, n, request);
        }
        let record = Record { publisher: Some(peer(bad)), ..Record::new(key.clone(), "v") };
        let record = SentRecord::of(record, SystemTime::UNIX_EPOCH);
        ask(&mut dht, now, bad, Request::PutValue { record });
    }
    for n in in_table.iter().step_by(7).copied().chain([bad]) {
        ban(&mut dht, now, peer(n));
    }
    let banned: BTreeSet<_> = in_table.iter().step_by(7).copied().chain([bad]).map(peer).collect();
    let mut named = 0;
    for n in 0..answers {
        let key = keys[n as usize % 4].clone();
        let request = match n % 3 {
            0 => Request::FindNode { key: n.to_be_bytes().to_vec().into() },
            1 => Request::GetProviders { key },
            _ => Request::GetValue { key },
        };
        let (closer, providers) = match ask(&mut dht, now, 9000, request) {
            Some(Response::FindNode { closer_peers }) => (closer_peers, vec![]),
            Some(Response::GetProviders { closer_peers, provider_peers, .. }) => {
                (closer_peers, provider_peers)
            }
            Some(Response::GetValue { closer_peers, record, .. }) => {
                assert_eq!(record, None, "a banned peer has published it");
                (closer_peers, vec![])
            }
            other => panic!("{other:?}"),
        };
        for peer in closer.iter().chain(&providers) {
            assert!(!banned.contains(&peer.node_id), "answer {n}");
            named += 1;
        }
    }
    assert!(named > 10 * answers as usize);
}

#[test]
fn no_answer_names_who_was_banned() {
    none_of_so_many_names_them(5_000);
}

#[test]
#[ignore = "takes minutes: cargo test --release --lib a_million -- --ignored"]
fn no_answer_of_a_million_names_who_was_banned() {
    none_of_so_many_names_them(1_000_000);
}

#[test]
fn a_ban_ends_by_itself_and_connections_may_stay() {
    let config = quiet().with_disconnect_banned(false);
    let (mut dht, now) = (new_dht(0, config), start());
    admit(&mut dht, now, [1, 2]);
    let until = Some(now.wall + 60 * SECOND);
    dht.ban(now, peer(2), until, "").unwrap();
    assert_eq!(closed(&outputs(&mut dht)), []);
    assert_eq!(ask(&mut dht, now, 2, Request::Ping), None);
    let later = now + 60 * SECOND;
    dht.handle_timeout(later);
    assert_eq!(ask(&mut dht, later, 2, Request::Ping), Some(Response::Pong));
    assert_eq!((dht.bans(), dht.ban(later, peer(1), until, "")), (vec![], Err(BanError::Over)));
}

#[test]
fn from_a_network_that_is_banned_nobody_is_let_in_and_nobody_is_dialled_there() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let at = |text: &str| text.parse::<Multiaddr>().unwrap();
    for (n, place) in [(1, "/ip4/9.9.1.1/tcp/1"), (2, "/ip4/9.8.1.1/tcp/1"), (3, "/ip4/7.7.7.7/tcp/1")] {
        connect_at(&mut dht, now, n, at(place));
        dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(n) });
        answer_all(&mut dht, now, &[n + 1]);
        prove(&mut dht, now, n);
    }
    assert_eq!(dht.table().len(), 3);
    let net: IpAddr = "9.9.0.0".parse().unwrap();
    assert_eq!(closed(&ban(&mut dht, now, (net, 16))), [peer(1)]);
    assert_eq!(dht.table().len(), 2);
    // Another of it is named by somebody: it is not dialled, and met there it is sent away.
    dht.find_closest(now, *b"anything");
    let mut told = named_peer(5);
    told.multiaddrs = Addresses::collect(&peer(5), [at("/ip4/9.9.200.1/tcp/1"), at("/ip4/6.6.6.6/tcp/1")]);
    let id = asked(&outputs(&mut dht))[0].1;
    let response = Response::FindNode { closer_peers: vec![told] };
    dht.handle_input(now, Input::ResponseReceived { id, response });
    let out = outputs(&mut dht);
    let dialled: Vec<_> = dials(&out).into_iter().flat_map(|(_, _, addresses)| addresses).collect();
    assert_eq!(dialled, [at("/ip4/6.6.6.6/tcp/1")]);
    connect_at(&mut dht, now, 6, at("/ip4/9.9.3.3/tcp/50000"));
    assert_eq!(closed(&outputs(&mut dht)), [peer(6)]);
    assert!(
        dht.refuses(None, &at("/ip4/9.9.3.3/tcp/50001")) && !dht.refuses(None, &at("/ip4/9.8.3.3/tcp/1"))
    );
}

#[test]
fn who_is_no_member_is_treated_like_one_that_is_banned() {
    let members = Membership::when(|id| (1..=3).any(|n| peer(n) == *id));
    let (mut dht, now) = (new_dht(0, quiet().with_membership(members)), start());
    admit(&mut dht, now, [1, 2]);
    connect_at(&mut dht, now, 7, address(7));
    assert_eq!(closed(&outputs(&mut dht)), [peer(7)]);
    assert_eq!(dht.try_add_address(now, peer(7), address(7)), Err(AddressError::Banned));
    assert!(dht.refuses(Some(&peer(7)), &address(7)) && !dht.refuses(Some(&peer(3)), &address(3)));
    dht.find_closest(now, *b"anything");
    let out = answer_all(&mut dht, now, &[3, 7]);
    let dialled: Vec<_> = dials(&out).into_iter().map(|(_, whom, _)| whom.unwrap()).collect();
    assert_eq!(dialled, [peer(3)]);
    let query = dht.ping(now, peer(7));
    let out = outputs(&mut dht);
    let text = format!("{out:?}");
    assert!(text.contains("Banned") && text.contains(&format!("{query:?}")), "{text}");
    assert_eq!(RequestError::Banned.to_string(), "the peer is banned, or no member of the network");
}

#[test]
fn the_request_filter_refuses_and_bans_before_anything_is_served() {
    let config = quiet().with_request_filter(|offered| {
        if offered.key == Some(b"secret") {
            RequestVerdict::Ban { until: None, why: format!("asks for {:?}", offered.kind) }
        } else if offered.ip == Some([9, 9, 9, 9].into()) || offered.kind == MessageType::Ping {
            RequestVerdict::Refuse
        } else {
            RequestVerdict::Allow
        }
    });
    let (mut dht, now) = (new_dht(0, config), start());
    for n in [1, 2, 90] {
        connect_at(&mut dht, now, n, address(n));
    }
    connect_at(&mut dht, now, 3, "/ip4/9.9.9.9/tcp/1".parse().unwrap());
    let find = |key: &[u8]| Request::FindNode { key: key.to_vec().into() };
    assert!(ask(&mut dht, now, 1, find(b"anything")).is_some());
    assert!(ask(&mut dht, now, 1, Request::Ping).is_none());
    assert!(ask(&mut dht, now, 3, find(b"anything")).is_none());
    assert!(ask(&mut dht, now, 2, find(b"secret")).is_none());
    assert!(ask(&mut dht, now, 2, find(b"anything")).is_none(), "it is banned");
    let bans = dht.bans();
    assert_eq!((bans.len(), bans[0].target, &*bans[0].why), (1, peer(2).into(), "asks for FindNode"));
    let stats = dht.stats().inbound_requests;
    assert_eq!((stats.find_node.refused, stats.ping.refused, stats.find_node.answered), (3, 1, 1));
}

/// What a member is may change, and a peer may come from a banned network later.
#[test]
fn whoever_is_admitted_no_more_leaves_the_table_when_that_is_seen_and_is_named_no_more_at_once() {
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_open = open.clone();
    let members =
        Membership::when(move |id| *id != peer(2) || is_open.load(std::sync::atomic::Ordering::Relaxed));
    let config = quiet().with_membership(members).with_disconnect_banned(false);
    let (mut dht, now) = (new_dht(0, config), start());
    admit(&mut dht, now, [1, 2, 3]);
    connect_at(&mut dht, now, 90, address(90));
    assert!(named(&mut dht, now, b"anything").contains(&peer(2)));
    open.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(!named(&mut dht, now, b"anything").contains(&peer(2)));
    dht.ping(now, peer(2));
    outputs(&mut dht);
    assert!(dht.table().entry(&key(2), &peer(2)).is_none());
    let net: IpAddr = "9.9.0.0".parse().unwrap();
    ban(&mut dht, now, (net, 16));
    assert_eq!(
        dht.try_add_address(now, peer(5), "/ip4/9.9.1.1/tcp/1".parse().unwrap()),
        Err(AddressError::Banned)
    );
    // Another connection from elsewhere is no way in.
    connect_at(&mut dht, now, 3, "/ip4/9.9.1.1/tcp/5".parse().unwrap());
    assert!(dht.table().entry(&key(3), &peer(3)).is_none());
    assert_eq!(ask(&mut dht, now, 3, Request::Ping), None);
}

#[test]
fn what_waits_for_the_application_is_refused_when_its_sender_is_banned_meanwhile() {
    let config = quiet().with_record_filtering(crate::config::StoreInserts::FilterBoth);
    let (mut dht, now) = (new_dht(0, config), start());
    admit(&mut dht, now, [1, 2]);
    outputs(&mut dht);
    let provided = Request::AddProvider { key: RecordKey::new(b"content"), providers: vec![named_peer(2)] };
    let (from, connection, id) = (peer(2), conn(2), InboundId(7));
    dht.handle_input(now, Input::RequestReceived { from, connection, id, request: provided });
    let held = outputs(&mut dht).into_iter().find_map(|output| match output {
        Output::Event(Event::InboundRequest {
            request: crate::event::InboundRequest::AddProvider { record: Some((held, _)), .. },
        }) => Some(held),
        _ => None,
    });
    ban(&mut dht, now, peer(2));
    assert!(!dht.accept_record(now, held.unwrap()).unwrap());
    assert!(dht.store().providers(now.wall, &RecordKey::new(b"content")).unwrap().is_empty());
}
