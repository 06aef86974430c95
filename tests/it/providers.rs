//! Providers on real swarms: announced, found, met by name; and how announcements travel.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures::{AsyncWriteExt as _, StreamExt as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::Stream;
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::{
    AddProviderError, Client, Config, GetProvidersError, PeerInfo, QueryError, RecordKey, RequestError,
};
use tokio::sync::mpsc;

use super::streams::{PROTOCOL, honest, read_request, read_response, respond, write_request};
use super::support::*;

fn key(name: &str) -> RecordKey {
    RecordKey::new(&name)
}

async fn network(carrier: Carrier, count: usize) -> Vec<Running> {
    let mut nodes: Vec<Running> = Vec::new();
    for _ in 0..count {
        let mut swarm = swarm(carrier, Version::V1Lazy, |keypair| node(keypair, Config::default()));
        swarm.behaviour_mut().kademlia.set_mode(Some(libp2p_kademlia::Mode::Server));
        let node = run(swarm, carrier).await;
        if let Some(first) = nodes.first() {
            join(&node, first).await;
        }
        nodes.push(node);
    }
    nodes
}

async fn all(client: &Client, of: &str) -> Vec<PeerInfo> {
    let mut providers = client.providers(key(of));
    let found = within(providers.by_ref().collect::<Vec<_>>()).await;
    assert_eq!(providers.error(), None);
    found
}

async fn provided_and_found(carrier: Carrier) {
    let nodes = network(carrier, 5).await;
    let report = within(nodes[1].client.provide(key("content"))).await.unwrap();
    assert!(report.sent.len() >= 3, "{report:?}");
    for node in [&nodes[0], &nodes[4]] {
        eventually(|| async {
            let found = all(&node.client, "content").await;
            found.len() == 1 && found[0].peer_id == nodes[1].peer_id && !found[0].addrs.is_empty()
        })
        .await;
        let found = all(&node.client, "content").await;
        assert!(found[0].addrs.contains(&nodes[1].address), "{found:?}");
    }
    // Nobody provides this, which is no error.
    assert!(all(&nodes[3].client, "nothing").await.is_empty());
    nodes[1].client.stop_providing(key("content")).await.unwrap();
}

#[tokio::test]
async fn over_tcp() {
    provided_and_found(Carrier::Tcp).await;
}

#[tokio::test]
async fn over_quic() {
    provided_and_found(Carrier::Quic).await;
}

#[tokio::test]
async fn peers_meet_by_name_whoever_comes_first() {
    let nodes = network(Carrier::Memory, 4).await;
    let mut first = nodes[1].client.discover("lobby");
    let lobby = within(nodes[1].client.advertise("lobby")).await.unwrap();
    assert_eq!(lobby.name(), "lobby");
    assert!(lobby.first().is_ok(), "{lobby:?}");
    let mut second = nodes[2].client.discover("lobby");
    assert_eq!(within(second.next()).await.unwrap().peer_id, nodes[1].peer_id);
    // The one that came first goes on watching, and does not find itself.
    let _too = within(nodes[2].client.advertise("lobby")).await.unwrap();
    let found = within(first.next()).await.unwrap();
    assert_eq!((found.peer_id, found.addrs.contains(&nodes[2].address)), (nodes[2].peer_id, true));
    // Another room is another room.
    assert!(all(&nodes[0].client, "lobby").await.is_empty(), "the name is hashed");
    let mut other = nodes[3].client.discover("another");
    assert!(tokio::time::timeout(Duration::from_secs(2), other.next()).await.is_err(), "it watches on");
}

#[tokio::test]
async fn an_advertisement_ends_with_the_last_guard() {
    // Alone it knows only what it provides itself.
    let node = run(server(), Carrier::Memory).await;
    let provided = || async {
        let mut own = node.client.providers(libp2p_kademlia::rendezvous_key("lobby"));
        within(own.next()).await.map(|found| found.peer_id)
    };
    let one = within(node.client.advertise("lobby")).await.unwrap();
    let two = within(node.client.advertise("lobby")).await.unwrap();
    drop(one);
    assert_eq!(provided().await, Some(node.peer_id));
    drop(two);
    assert_eq!(provided().await, None);
}

#[tokio::test]
async fn whoever_is_alone_is_told_so_and_advertised_when_somebody_comes() {
    let [alone, hub, other] = [
        run(server(), Carrier::Memory).await,
        run(server(), Carrier::Memory).await,
        run(server(), Carrier::Memory).await,
    ];
    let nobody = Some(QueryError::NoKnownPeers);
    let provided = within(alone.client.provide(key("x"))).await;
    assert_eq!(provided.unwrap_err().query_error(), nobody);
    let mut none = alone.client.providers(key("y"));
    assert_eq!(within(none.next()).await, None);
    assert_eq!(none.error().and_then(GetProvidersError::query_error), nobody);
    let lobby = within(alone.client.advertise("lobby")).await.unwrap();
    assert_eq!(lobby.first().as_ref().unwrap_err().query_error(), nobody);
    let mut watching = alone.client.discover("lobby");
    join(&other, &hub).await;
    let _other = within(other.client.advertise("lobby")).await.unwrap();
    join(&alone, &hub).await;
    assert_eq!(within(watching.next()).await.unwrap().peer_id, other.peer_id);
    let mut found = other.client.discover("lobby");
    assert_eq!(within(found.next()).await.unwrap().peer_id, alone.peer_id);
}

#[tokio::test]
async fn a_dropped_swarm_ends_every_stream() {
    let nodes = network(Carrier::Memory, 2).await;
    let [_, node] = <[Running; 2]>::try_from(nodes).ok().unwrap();
    let client = node.client.clone();
    let mut watching = client.discover("lobby");
    node.kill().await;
    assert_eq!(within(watching.next()).await, None);
    let closed = Some(QueryError::Closed);
    assert_eq!(watching.error().and_then(GetProvidersError::query_error), closed);
    assert_eq!(within(client.provide(key("x"))).await.unwrap_err().query_error(), closed);
    assert_eq!(within(client.advertise("x")).await.unwrap_err().query_error(), closed);
}

/// What a peer that a test writes by hand has read: on which of its streams, and what.
type Seen = mpsc::UnboundedReceiver<(usize, Request)>;

/// How such a peer treats announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Reads them, as it should.
    Reads,
    /// Answers them, as py-libp2p does.
    Answers,
    /// Resets the first stream on which one comes, before it has read it.
    ResetsFirst,
    /// Answers each with a hundred messages that nobody asked for.
    Floods,
}

async fn peer(manner: Manner) -> (RunningRaw, Seen) {
    let raw = run_raw(Carrier::Memory, Version::V1Lazy, None).await;
    let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
    let own = RunningRaw { peer_id: raw.peer_id, address: raw.address.clone(), control: raw.control.clone() };
    let own = Arc::new(own);
    let (send, seen) = mpsc::unbounded_channel();
    let streams = Arc::new(AtomicUsize::new(0));
    let resets = Arc::new(AtomicUsize::new(usize::from(manner == Manner::ResetsFirst)));
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            let number = streams.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream, number, manner, own.clone(), send.clone(), resets.clone()));
        }
    });
    (raw, seen)
}

async fn serve(
    mut stream: Stream,
    number: usize,
    manner: Manner,
    own: Arc<RunningRaw>,
    seen: mpsc::UnboundedSender<(usize, Request)>,
    resets: Arc<AtomicUsize>,
) {
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let is_answered = request.is_answered();
        if !is_answered && resets.load(Ordering::Relaxed) > 0 {
            resets.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        if is_answered {
            let response = match &request {
                Request::GetProviders { key } => Response::GetProviders {
                    key: Some(key.clone()),
                    provider_peers: vec![],
                    closer_peers: vec![],
                },
                request => honest(&own, request),
            };
            let _ = respond(&mut stream, &response).await;
        } else if manner == Manner::Floods {
            let _ = stream.write_all(&[2, 8, 5].repeat(100)).await;
            let _ = stream.flush().await;
        } else if manner == Manner::Answers {
            // An ADD_PROVIDER with nothing in it: type 2.
            let _ = stream.write_all(&[2, 8, 2]).await;
            let _ = stream.flush().await;
        }
        let _ = seen.send((number, request));
    }
}

async fn announcing_to(manner: Manner) -> (Running, RunningRaw, Seen) {
    let (raw, seen) = peer(manner).await;
    let node = run(server(), Carrier::Memory).await;
    node.client.add_address(raw.peer_id, raw.address.clone()).await.unwrap();
    eventually(|| knows(&node, raw.peer_id)).await;
    (node, raw, seen)
}

async fn announcements(seen: &mut Seen, count: usize) -> Vec<(usize, RecordKey)> {
    let mut found = Vec::new();
    while found.len() < count {
        if let (stream, Request::AddProvider { key, .. }) = within(seen.recv()).await.unwrap() {
            found.push((stream, key));
        }
    }
    found
}

#[tokio::test]
async fn announcements_share_a_stream_of_their_own_and_an_answer_shifts_nothing() {
    for manner in [Manner::Reads, Manner::Answers] {
        let (node, raw, mut seen) = announcing_to(manner).await;
        for n in 0..20 {
            let report = within(node.client.provide(key(&format!("{n}")))).await.unwrap();
            assert_eq!(report.sent, [raw.peer_id]);
        }
        let announced = announcements(&mut seen, 20).await;
        let stream = announced[0].0;
        assert!(announced.iter().all(|(of, _)| *of == stream), "{announced:?}");
        let keys: Vec<_> = announced.into_iter().map(|(_, key)| key).collect();
        assert_eq!(keys, (0..20).map(|n| key(&format!("{n}"))).collect::<Vec<_>>(), "in order");
        // Had the answers come on the stream of the others, these would be taken for theirs.
        for _ in 0..10 {
            within(node.client.ping(raw.peer_id)).await.unwrap();
            assert_eq!(within(node.client.closest_peers(*b"any")).await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn what_was_on_a_stream_that_was_reset_is_sent_again() {
    let (node, raw, mut seen) = announcing_to(Manner::ResetsFirst).await;
    let report = within(node.client.provide(key("x"))).await.unwrap();
    assert_eq!(report.sent, [raw.peer_id]);
    assert_eq!(announcements(&mut seen, 1).await[0].1, key("x"));
}

#[tokio::test]
async fn a_peer_that_floods_the_stream_of_announcements_harms_nothing_else() {
    let (node, raw, mut seen) = announcing_to(Manner::Floods).await;
    for n in 0..5 {
        let report = within(node.client.provide(key(&format!("{n}")))).await.unwrap();
        assert_eq!(report.sent, [raw.peer_id]);
        assert_eq!(announcements(&mut seen, 1).await.len(), 1);
        within(node.client.ping(raw.peer_id)).await.unwrap();
    }
    assert_eq!(within(node.client.closest_peers(*b"any")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_speak_the_protocol_was_not_told() {
    let raw = run_raw(Carrier::Memory, Version::V1Lazy, None).await;
    let node = run(server(), Carrier::Memory).await;
    node.client.add_address(raw.peer_id, raw.address.clone()).await.unwrap();
    let error = within(node.client.provide(key("x"))).await.unwrap_err();
    let nobody_told = match &error {
        AddProviderError::TooFew { report, .. } => {
            report.sent.is_empty()
                && report.failed.iter().all(|(_, error)| *error == RequestError::Unsupported)
        }
        AddProviderError::Query { cause: QueryError::NoKnownPeers, .. } => true,
        _ => false,
    };
    assert!(nobody_told, "{error:?}");
}

#[tokio::test]
async fn an_announcement_is_not_answered_and_its_stream_goes_on() {
    let node = run(server(), Carrier::Memory).await;
    let raw = run_raw(Carrier::Memory, Version::V1, Some(&node)).await;
    let mut stream = raw.control.clone().open_stream(node.peer_id, PROTOCOL).await.unwrap();
    let own = |request: &Request| honest(&raw, request);
    let Response::FindNode { closer_peers: named } = own(&Request::FindNode { key: vec![1].into() }) else {
        panic!()
    };
    for n in 0..3 {
        let announce = Request::AddProvider { key: key(&format!("{n}")), providers: named.clone() };
        write_request(&mut stream, &announce).await;
    }
    write_request(&mut stream, &Request::Ping).await;
    let mut buffer = BytesMut::new();
    let first = within(read_response(&mut stream, &mut buffer)).await;
    assert_eq!(first, Some(Response::Pong), "the only answer");
    write_request(&mut stream, &Request::GetProviders { key: key("1") }).await;
    let Some(Response::GetProviders { provider_peers, .. }) =
        within(read_response(&mut stream, &mut buffer)).await
    else {
        panic!()
    };
    assert_eq!(provider_peers.iter().map(|peer| peer.node_id).collect::<Vec<_>>(), [raw.peer_id]);
    assert!(!provider_peers[0].multiaddrs.is_empty());
    // Somebody else's: the stream ends.
    let mut other = named.clone();
    other[0].node_id = node.peer_id;
    write_request(&mut stream, &Request::AddProvider { key: key("9"), providers: other }).await;
    assert_eq!(within(read_response(&mut stream, &mut buffer)).await, None);
}
