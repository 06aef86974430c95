//! Adding identify is all the wiring there is, and what is found is given back to the swarm. What other behaviours say is
//! heard, and not more than that.

use std::collections::BTreeSet;

use libp2p::core::upgrade::Version;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p_kademlia::{
    BucketInserts, FindPeerError, GetClosestPeersError, InboundRequest, Joining, QueryError, QueryResult,
};

use super::denier::{Denied, DeniedEvent, Denier};
use super::support::*;
use libp2p::identify;
use libp2p_kademlia::{Config, Event, Mode};

/// Three nodes, of which the second and the third know only the first, find each other.
async fn three_find_each_other(carrier: Carrier, version: Version) {
    let make = || {
        let mut swarm = swarm(carrier, version, |keypair| node(keypair, Config::default()));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        swarm
    };
    let [a, b, c] = [run(make(), carrier).await, run(make(), carrier).await, run(make(), carrier).await];
    for node in [&b, &c] {
        join(node, &a).await;
    }
    let found = within(b.client.find_peer(c.peer_id)).await.unwrap();
    assert!(found.addrs.contains(&c.address), "{found:?}");
    for (node, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        for other in others {
            eventually(|| knows(node, other.peer_id)).await;
        }
        let closest = within(node.client.closest_peers(*b"anything")).await.unwrap();
        let closest: BTreeSet<_> = closest.into_iter().map(|peer| peer.peer_id).collect();
        assert_eq!(closest, others.iter().map(|other| other.peer_id).collect());
    }
}

#[tokio::test]
async fn over_memory() {
    three_find_each_other(Carrier::Memory, Version::V1Lazy).await;
}

#[tokio::test]
async fn over_tcp() {
    three_find_each_other(Carrier::Tcp, Version::V1Lazy).await;
}

#[tokio::test]
async fn over_quic() {
    three_find_each_other(Carrier::Quic, Version::V1Lazy).await;
}

#[tokio::test]
async fn with_negotiation_that_is_not_lazy() {
    three_find_each_other(Carrier::Memory, Version::V1).await;
    three_find_each_other(Carrier::Tcp, Version::V1).await;
}

#[tokio::test]
async fn tcp_and_quic_on_one_node() {
    let make = || {
        let mut swarm = swarm(Carrier::Tcp, Version::V1Lazy, |keypair| node(keypair, Config::default()));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        swarm
    };
    let (tcp, quic) = (run(make(), Carrier::Tcp).await, run(make(), Carrier::Quic).await);
    let third = run(make(), Carrier::Tcp).await;
    join(&quic, &tcp).await;
    join(&third, &tcp).await;
    let found = within(third.client.find_peer(quic.peer_id)).await.unwrap();
    assert!(found.addrs.contains(&quic.address), "{found:?}");
}

#[tokio::test]
async fn another_behaviour_dials_by_id_alone_after_a_lookup() {
    let hub = run(server(), Carrier::Memory).await;
    let hidden = run(server(), Carrier::Memory).await;
    join(&hidden, &hub).await;
    let mut asker = server();
    let kademlia = &mut asker.behaviour_mut().kademlia;
    kademlia.add_address(&hub.peer_id, hub.address.clone());
    assert!(asker.dial(hidden.peer_id).is_err(), "nobody knows where it is");
    let id = asker.behaviour_mut().kademlia.find_peer(hidden.peer_id);
    until(&mut asker, |event| match event {
        Event::OutboundQueryProgressed { id: of, result: QueryResult::FindPeer(result), .. } if of == id => {
            Some(result.unwrap())
        }
        _ => None,
    })
    .await;
    if !asker.is_connected(&hidden.peer_id) {
        asker.dial(DialOpts::peer_id(hidden.peer_id).build()).unwrap();
    }
    within(async {
        while !asker.is_connected(&hidden.peer_id) {
            futures::StreamExt::select_next_some(&mut asker).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_found_is_made_known_to_the_swarm() {
    use futures::StreamExt as _;
    use libp2p::swarm::SwarmEvent;
    let hub = run(server(), Carrier::Memory).await;
    let hidden = run(server(), Carrier::Memory).await;
    join(&hidden, &hub).await;
    let mut asker = server();
    asker.behaviour_mut().kademlia.add_address(&hub.peer_id, hub.address.clone());
    asker.behaviour_mut().kademlia.find_peer(hidden.peer_id);
    let address = within(async {
        loop {
            if let SwarmEvent::NewExternalAddrOfPeer { peer_id, address } = asker.select_next_some().await
                && peer_id == hidden.peer_id
            {
                return address;
            }
        }
    })
    .await;
    assert_eq!(address, hidden.address);
}

#[tokio::test]
async fn a_client_asks_but_is_in_no_table() {
    let hub = run(server(), Carrier::Memory).await;
    let client = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, Config::default()));
    assert_eq!(client.behaviour().kademlia.mode(), Mode::Client, "no address is confirmed");
    let client = run(client, Carrier::Memory).await;
    client.client.add_address(hub.peer_id, hub.address.clone()).await.unwrap();
    within(client.client.bootstrap()).await.unwrap();
    assert!(knows(&client, hub.peer_id).await);
    assert!(within(hub.client.ping(client.peer_id)).await.is_err());
    assert!(!knows(&hub, client.peer_id).await);
    // But whoever asks for it by its id is told where it is.
    let known = || async { hub.client.find_peer(client.peer_id).await.is_ok() };
    eventually(known).await;
    let asker = run(server(), Carrier::Memory).await;
    asker.client.add_address(hub.peer_id, hub.address.clone()).await.unwrap();
    let found = within(asker.client.find_peer(client.peer_id)).await.unwrap();
    assert_eq!(found.addrs, [client.address]);
}

#[tokio::test]
async fn a_node_follows_its_confirmed_addresses_and_changes_both_ways() {
    let hub = run(server(), Carrier::Memory).await;
    let mut changing = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, Config::default()));
    let address = listen(&mut changing, Carrier::Memory).await;
    changing.behaviour_mut().kademlia.add_address(&hub.peer_id, hub.address.clone());
    let peer_id = *changing.local_peer_id();
    changing.add_external_address(address.clone());
    let mode = until(&mut changing, |event| match event {
        Event::ModeChanged { new_mode } => Some(new_mode),
        _ => None,
    })
    .await;
    assert_eq!(mode, Mode::Server);
    let (ended, mut commands) = tokio::sync::mpsc::channel::<()>(1);
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = futures::StreamExt::select_next_some(&mut changing) => {}
                command = commands.recv() => match command {
                    Some(()) => changing.remove_external_address(&address),
                    None => break,
                },
            }
        }
    });
    eventually(|| knows(&hub, peer_id)).await;
    // As a client it does not serve any more, and leaves the tables of others.
    ended.send(()).await.unwrap();
    eventually(|| async { !knows(&hub, peer_id).await }).await;
    drop(ended);
    task.await.unwrap();
}

/// Waits for the next event of a node beside a behaviour that tells nothing.
async fn next_of(swarm: &mut libp2p::Swarm<Denied>) -> NodeEvent {
    loop {
        if let libp2p::swarm::SwarmEvent::Behaviour(DeniedEvent::Node(event)) =
            futures::StreamExt::select_next_some(swarm).await
        {
            return event;
        }
    }
}

#[tokio::test]
async fn a_behaviour_that_reports_an_empty_list_of_protocols_takes_nobody_out_of_the_table() {
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let peer = run_with(server(), Carrier::Memory, move |event| {
        if let libp2p::swarm::SwarmEvent::Behaviour(NodeEvent::Kademlia(Event::InboundRequest { request })) =
            event
            && matches!(request, InboundRequest::FindNode { .. })
        {
            let _ = events.send(());
        }
    })
    .await;
    // Nothing is asked that nobody wants.
    let config = Config::default().with_joining(Joining::OnRequest).with_refresh_interval(None).unwrap();
    let mut hub = swarm(Carrier::Memory, Version::V1Lazy, |keypair| Denied {
        node: node(keypair, config),
        denier: Denier::default(),
    });
    hub.behaviour_mut().node.kademlia.add_address(&peer.peer_id, peer.address.clone());
    // Identify has named the protocol, and the peer has answered.
    let (mut is_in, mut is_identified) = (false, false);
    within(async {
        while !(is_in && is_identified) {
            match next_of(&mut hub).await {
                NodeEvent::Identify(event) => {
                    is_identified |= matches!(event, identify::Event::Received { .. })
                }
                NodeEvent::Kademlia(event) => is_in |= matches!(event, Event::RoutingUpdated { .. }),
            }
        }
    })
    .await;
    while heard.try_recv().is_ok() {}
    hub.behaviour_mut().denier.deny(peer.peer_id, "/ipfs/kad/1.0.0");
    within(async {
        loop {
            tokio::select! {
                _ = next_of(&mut hub) => {}
                Some(()) = heard.recv() => break,
            }
        }
    })
    .await;
    // It was asked, and its answer comes before that to a ping.
    let id = hub.behaviour_mut().node.kademlia.ping(peer.peer_id);
    within(async {
        loop {
            if let NodeEvent::Kademlia(event) = next_of(&mut hub).await
                && let Event::OutboundQueryProgressed { id: of, result, .. } = event
                && of == id
            {
                assert!(matches!(result, QueryResult::Ping(Ok(_))), "{result:?}");
                break;
            }
        }
    })
    .await;
    assert_eq!(
        hub.behaviour().node.kademlia.peer_count(),
        1,
        "what it speaks is known by its own word alone"
    );
}

#[tokio::test]
async fn networks_of_different_names_do_not_mix() {
    let named = |name: &str| {
        let config = Config::for_protocol(name).unwrap();
        let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        swarm
    };
    let (a, b) =
        (run(named("/one/kad"), Carrier::Memory).await, run(named("/two/kad"), Carrier::Memory).await);
    b.client.add_address(a.peer_id, a.address.clone()).await.unwrap();
    assert!(within(b.client.bootstrap()).await.is_err());
    assert!(!knows(&b, a.peer_id).await && !knows(&a, b.peer_id).await);
    let error = within(b.client.find_peer(a.peer_id)).await;
    // It is connected, or nobody knows it: in no case an answer of the other network.
    assert!(matches!(error, Ok(_) | Err(FindPeerError::NotFound { .. })), "{error:?}");
}

#[tokio::test]
async fn admission_by_hand_reports_and_waits() {
    let hub = run(server(), Carrier::Memory).await;
    let config = Config::default().with_bucket_inserts(BucketInserts::Manual);
    let mut manual = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    manual.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    manual.dial(hub.address.clone()).unwrap();
    let (peer, address) = until(&mut manual, |event| match event {
        Event::RoutablePeer { peer, address } => Some((peer, address)),
        _ => None,
    })
    .await;
    assert_eq!((peer, &address), (hub.peer_id, &hub.address));
    assert_eq!(manual.behaviour().kademlia.peer_count(), 0);
    manual.behaviour_mut().kademlia.add_address(&peer, address);
    let is_new = until(&mut manual, |event| match event {
        Event::RoutingUpdated { is_new_peer, .. } => Some(is_new_peer),
        _ => None,
    })
    .await;
    assert!(is_new);
}

#[tokio::test]
async fn requests_of_others_are_told_with_their_source() {
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let server_node = run_with(server(), Carrier::Memory, move |event| {
        if let libp2p::swarm::SwarmEvent::Behaviour(NodeEvent::Kademlia(Event::InboundRequest { request })) =
            event
        {
            let _ = events.send(request);
        }
    })
    .await;
    let asker = run(server(), Carrier::Memory).await;
    asker.client.add_address(server_node.peer_id, server_node.address.clone()).await.unwrap();
    within(asker.client.ping(server_node.peer_id)).await.unwrap();
    within(async {
        let (mut pinged, mut asked) = (false, false);
        while !(pinged && asked) {
            match heard.recv().await.unwrap() {
                InboundRequest::Ping { source } => pinged = source == asker.peer_id,
                InboundRequest::FindNode { source, .. } => asked = source == asker.peer_id,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn queries_are_shown_finished_and_cancelled() {
    let mut alone = server();
    let kademlia = &mut alone.behaviour_mut().kademlia;
    assert!(kademlia.bootstrap().is_err());
    let nobody = kademlia.get_closest_peers(b"key".to_vec());
    let result = until(&mut alone, |event| match event {
        Event::OutboundQueryProgressed { id, result: QueryResult::GetClosestPeers(result), step, .. } => {
            assert_eq!((id, step.last, step.count.get()), (nobody, true, 1));
            Some(result)
        }
        _ => None,
    })
    .await;
    assert!(matches!(result, Err(GetClosestPeersError::Query { cause: QueryError::NoKnownPeers, .. })));
    // Nobody listens there: the query runs until it is ended.
    let hanging = run_raw(Carrier::Memory, Version::V1, None).await;
    let mut control = hanging.control.clone();
    let _accepts = control.accept(libp2p::StreamProtocol::new("/ipfs/kad/1.0.0")).unwrap();
    let kademlia = &mut alone.behaviour_mut().kademlia;
    kademlia.add_address(&hanging.peer_id, hanging.address.clone());
    let (first, second) =
        (kademlia.get_closest_peers(b"a".to_vec()), kademlia.get_closest_peers(b"b".to_vec()));
    assert!(kademlia.iter_queries().any(|query| query.id() == first));
    assert!(kademlia.query(&second).is_some());
    kademlia.query_mut(&first).unwrap().finish();
    assert!(kademlia.cancel(&second) && !kademlia.cancel(&second));
    for expected in [first, second] {
        let (id, result) = until(&mut alone, |event| match event {
            Event::OutboundQueryProgressed { id, result: QueryResult::GetClosestPeers(result), .. } => {
                Some((id, result))
            }
            _ => None,
        })
        .await;
        assert_eq!(id, expected);
        assert_eq!(id == first, result.is_ok());
    }
}

#[tokio::test]
async fn a_query_is_there_while_an_event_is_handled_that_is_not_its_last() {
    use futures::StreamExt as _;
    use libp2p_kademlia::{GetProvidersOk, RecordKey};
    let mut alone = server();
    let kademlia = &mut alone.behaviour_mut().kademlia;
    kademlia.start_providing(RecordKey::new(b"own")).unwrap();
    let query = kademlia.get_providers(RecordKey::new(b"own"));
    let mut found = 0;
    within(async {
        loop {
            let event = alone.select_next_some().await;
            let libp2p::swarm::SwarmEvent::Behaviour(NodeEvent::Kademlia(event)) = event else { continue };
            if let Event::OutboundQueryProgressed {
                id,
                result: QueryResult::GetProviders(result),
                step,
                ..
            } = event
            {
                assert_eq!(id, query);
                if step.last {
                    return;
                }
                assert!(matches!(result, Ok(GetProvidersOk::FoundProviders { .. })));
                found += 1;
                alone.behaviour_mut().kademlia.query_mut(&id).unwrap().finish();
            }
        }
    })
    .await;
    assert_eq!(found, 1);
    assert!(alone.behaviour_mut().kademlia.query_mut(&query).is_none());
}

#[tokio::test]
async fn a_bucket_is_there_for_every_peer_but_the_own() {
    let alone = server();
    let own = *alone.local_peer_id();
    let kademlia = &alone.behaviour().kademlia;
    assert!(kademlia.kbucket(libp2p::PeerId::random()).unwrap().entries().is_empty());
    assert!(kademlia.kbucket(b"bytes".to_vec()).is_some() && kademlia.kbucket(own).is_none());
}

#[tokio::test]
async fn a_bucket_is_that_of_the_hash_of_the_network() {
    use libp2p_kademlia::{Key, RecordKey};
    fn twice(bytes: &[u8]) -> Key {
        Key::sha256(Key::sha256(bytes).as_bytes())
    }
    let config = Config::default().with_key_hash(twice);
    let alone = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    let own = Key::of_peer(alone.local_peer_id(), twice);
    let kademlia = &alone.behaviour().kademlia;
    let index = |key: Key| own.distance(&key).bucket();
    for n in 0..20u8 {
        let (peer, bytes) = (libp2p::PeerId::random(), vec![n; 5]);
        let at = kademlia.kbucket(peer).map(|bucket| bucket.index());
        assert_eq!(at, index(Key::of_peer(&peer, twice)));
        let at = kademlia.kbucket(RecordKey::new(&bytes)).map(|bucket| bucket.index());
        assert_eq!(at, index(twice(&bytes)));
        assert_eq!(kademlia.kbucket(twice(&bytes)).map(|bucket| bucket.index()), at);
    }
}

#[tokio::test]
async fn tcp_quic_and_memory_on_one_node() {
    use libp2p::core::Transport as _;
    use libp2p::core::transport::MemoryTransport;
    use libp2p::{SwarmBuilder, noise, tcp, yamux};
    let mut hub = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_other_transport(quic)
        .unwrap()
        .with_other_transport(|keypair| {
            MemoryTransport::new()
                .upgrade(Version::V1)
                .authenticate(libp2p_plaintext::Config::new(keypair))
                .multiplex(yamux::Config::default())
        })
        .unwrap()
        .with_behaviour(|keypair| node(keypair, Config::default()))
        .unwrap()
        .build();
    hub.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let mut addresses = Vec::new();
    for carrier in [Carrier::Tcp, Carrier::Quic] {
        addresses.push(listen(&mut hub, carrier).await);
    }
    let hub = run(hub, Carrier::Memory).await;
    addresses.push(hub.address.clone());
    for (carrier, address) in [Carrier::Tcp, Carrier::Quic, Carrier::Memory].into_iter().zip(addresses) {
        let mut swarm = swarm(carrier, Version::V1Lazy, |keypair| node(keypair, Config::default()));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        let node = run(swarm, carrier).await;
        node.client.add_address(hub.peer_id, address).await.unwrap();
        within(node.client.bootstrap()).await.unwrap();
        meet(&node, &hub).await;
        within(hub.client.ping(node.peer_id)).await.unwrap();
    }
}

#[tokio::test]
async fn an_address_that_no_transport_can_dial_is_an_error_and_is_forgotten() {
    use libp2p_kademlia::{PingError, RequestError};
    let node = run(server(), Carrier::Memory).await;
    let peer = libp2p::PeerId::random();
    node.client.add_address(peer, "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap()).await.unwrap();
    let error = within(node.client.ping(peer)).await.unwrap_err();
    assert!(matches!(error, PingError::Failed { source: RequestError::NoAddresses, .. }), "{error}");
}
