//! Streams: reused in both directions, and what happens when one ends early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::Stream;
use libp2p::{PeerId, StreamProtocol};
use libp2p_kademlia::addrs::Addresses;
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::wire::{ClientCodec, ServerCodec};
use libp2p_kademlia::{ConnectError, ConnectionType, KadPeer, PingError, RequestError};

use super::support::*;

pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");

/// Reads the next request of a stream, or `None` at its end.
pub(crate) async fn read_request(stream: &mut Stream, buffer: &mut BytesMut) -> Option<Request> {
    loop {
        if let Some(request) = ServerCodec::new(1 << 20).decode(buffer).unwrap() {
            return Some(request);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(len) => buffer.extend_from_slice(&chunk[..len]),
        }
    }
}

pub(crate) async fn read_response(stream: &mut Stream, buffer: &mut BytesMut) -> Option<Response> {
    loop {
        if let Some(response) = ClientCodec::new(1 << 20).decode(buffer).unwrap() {
            return Some(response);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(len) => buffer.extend_from_slice(&chunk[..len]),
        }
    }
}

pub(crate) async fn write_request(stream: &mut Stream, request: &Request) {
    let mut buffer = BytesMut::new();
    ClientCodec::new(1 << 20).encode(request, &mut buffer);
    stream.write_all(&buffer).await.unwrap();
    stream.flush().await.unwrap();
}

/// Answers as an honest peer would that knows only itself.
pub(crate) fn honest(own: &RunningRaw, request: &Request) -> Response {
    match request {
        Request::Ping => Response::Pong,
        Request::FindNode { .. } => Response::FindNode {
            closer_peers: vec![KadPeer {
                node_id: own.peer_id,
                multiaddrs: Addresses::collect(&own.peer_id, [own.address.clone()]),
                connection_ty: ConnectionType::Connected,
            }],
        },
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn respond(stream: &mut Stream, response: &Response) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    ServerCodec::new(1 << 20).encode(response, &mut buffer);
    stream.write_all(&buffer).await?;
    stream.flush().await
}

/// How a peer treats the streams on which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Keeps each for as many requests as come.
    Keeps,
    /// Closes each behind its first answer.
    ClosesAfterAnswer,
    /// Resets each once it has given so many answers, before the next.
    ResetsAfter(usize),
    /// Answers only when so many requests wait.
    Gathers(usize),
}

/// A peer that serves in the given manner, and counts its streams and answers.
struct Peer {
    raw: RunningRaw,
    streams: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Peer {
    async fn start(version: Version, manner: Manner) -> Self {
        let raw = run_raw(Carrier::Memory, version, None).await;
        let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
        let (streams, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let own =
            RunningRaw { peer_id: raw.peer_id, address: raw.address.clone(), control: raw.control.clone() };
        let (own, count, answered) = (Arc::new(own), streams.clone(), requests.clone());
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, manner, own.clone(), answered.clone()));
            }
        });
        Self { raw, streams, requests }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: Stream, manner: Manner, own: Arc<RunningRaw>, answered: Arc<AtomicUsize>) {
    let mut buffer = BytesMut::new();
    let mut waiting = Vec::new();
    let mut given = 0;
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        if manner == Manner::ResetsAfter(given) {
            return;
        }
        waiting.push(request);
        // Its own id is asked for by the check, which must not wait for company.
        let is_check = matches!(waiting.last(), Some(Request::FindNode { .. }));
        if matches!(manner, Manner::Gathers(wanted) if waiting.len() < wanted && !is_check) {
            continue;
        }
        for request in waiting.drain(..) {
            answered.fetch_add(1, Ordering::Relaxed);
            given += 1;
            if respond(&mut stream, &honest(&own, &request)).await.is_err() {
                return;
            }
        }
        if manner == Manner::ClosesAfterAnswer {
            let _ = stream.close().await;
            return;
        }
    }
}

/// A node that has the peer in its table.
async fn node_knowing(peer: &Peer) -> Running {
    let node = run(server(), Carrier::Memory).await;
    node.client.add_address(peer.raw.peer_id, peer.raw.address.clone()).await.unwrap();
    eventually(|| knows(&node, peer.raw.peer_id)).await;
    node
}

async fn ping(node: &Running, peer: PeerId) -> Result<(), PingError> {
    within(node.client.ping(peer)).await.map(drop)
}

#[tokio::test]
async fn one_stream_serves_many_requests() {
    for version in [Version::V1, Version::V1Lazy] {
        let peer = Peer::start(version, Manner::Keeps).await;
        let node = node_knowing(&peer).await;
        for _ in 0..50 {
            ping(&node, peer.raw.peer_id).await.unwrap();
        }
        // The check and the first lookups may have wanted another at the same time.
        assert!(peer.streams() <= 2, "{} streams", peer.streams());
    }
}

#[tokio::test]
async fn several_requests_are_in_flight_on_one_stream() {
    let peer = Peer::start(Version::V1Lazy, Manner::Gathers(8)).await;
    let node = node_knowing(&peer).await;
    let before = peer.streams();
    // None of the eight is answered before all of them have arrived.
    let pings: Vec<_> = (0..8).map(|_| ping(&node, peer.raw.peer_id)).collect();
    for result in futures::future::join_all(pings).await {
        result.unwrap();
    }
    assert!(peer.streams() <= before + 1, "{} streams", peer.streams());
}

#[tokio::test]
async fn more_requests_than_one_stream_takes_share_a_few() {
    let peer = Peer::start(Version::V1Lazy, Manner::Keeps).await;
    let node = node_knowing(&peer).await;
    let pings: Vec<_> = (0..200).map(|_| ping(&node, peer.raw.peer_id)).collect();
    for result in futures::future::join_all(pings).await {
        result.unwrap();
    }
    assert!(peer.streams() <= 4, "{} streams", peer.streams());
    assert!(peer.requests.load(Ordering::Relaxed) >= 200);
}

#[tokio::test]
async fn a_peer_that_closes_after_each_answer_gets_a_stream_for_each_request() {
    let peer = Peer::start(Version::V1Lazy, Manner::ClosesAfterAnswer).await;
    let node = node_knowing(&peer).await;
    for round in 0..3 {
        let pings: Vec<_> = (0..20).map(|_| ping(&node, peer.raw.peer_id)).collect();
        for result in futures::future::join_all(pings).await {
            result.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    }
    assert!(knows(&node, peer.raw.peer_id).await, "it is not blamed");
    // Some requests were sent twice until the habit was believed; no more.
    let (streams, requests) = (peer.streams(), peer.requests.load(Ordering::Relaxed));
    assert!(streams >= requests && requests <= 60 + 10, "{streams} streams, {requests} requests");
}

#[tokio::test]
async fn a_stale_reused_stream_is_no_failure() {
    let peer = Peer::start(Version::V1Lazy, Manner::ResetsAfter(1)).await;
    let node = node_knowing(&peer).await;
    for _ in 0..10 {
        ping(&node, peer.raw.peer_id).await.unwrap();
    }
    let entry = node.client.routing_table().await.unwrap();
    assert!(entry.peers().all(|entry| entry.failures == 0));
}

#[tokio::test]
async fn a_peer_that_ends_every_stream_fails_after_one_retry() {
    let peer = Peer::start(Version::V1Lazy, Manner::ResetsAfter(0)).await;
    let node = run(server(), Carrier::Memory).await;
    let met = within(node.client.connect(peer.raw.address.clone())).await;
    let ended = RequestError::StreamEnded;
    assert!(matches!(met, Err(ConnectError::NotServing { source, .. }) if source == ended), "{met:?}");
    // The check has failed, or fails now: the peer is not taken.
    let error = ping(&node, peer.raw.peer_id).await.unwrap_err();
    assert!(matches!(error, PingError::Failed { source: RequestError::StreamEnded, .. }), "{error}");
    // PING twice, FIND_NODE in its stead twice; and twice for the check, and for the join.
    assert!(peer.streams() <= 12, "{} streams", peer.streams());
    assert!(!knows(&node, peer.raw.peer_id).await);
}

/// Connects a hand-written peer to a server, and opens a stream.
async fn asking(node: &Running) -> (RunningRaw, Stream) {
    let raw = run_raw(Carrier::Memory, Version::V1Lazy, Some(node)).await;
    let stream = within(raw.control.clone().open_stream(node.peer_id, PROTOCOL)).await.unwrap();
    (raw, stream)
}

#[tokio::test]
async fn an_inbound_stream_serves_many_requests_in_order_pipelined_too() {
    let node = run(server(), Carrier::Memory).await;
    let (_raw, mut stream) = asking(&node).await;
    let mut buffer = BytesMut::new();
    for _ in 0..3 {
        for _ in 0..10 {
            write_request(&mut stream, &Request::Ping).await;
            write_request(&mut stream, &Request::FindNode { key: b"key"[..].into() }).await;
        }
        for _ in 0..10 {
            assert_eq!(within(read_response(&mut stream, &mut buffer)).await, Some(Response::Pong));
            let answer = within(read_response(&mut stream, &mut buffer)).await.unwrap();
            assert!(matches!(answer, Response::FindNode { .. }), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_half_closed_after_the_request_is_answered_and_ends() {
    let node = run(server(), Carrier::Memory).await;
    let (_raw, mut stream) = asking(&node).await;
    write_request(&mut stream, &Request::Ping).await;
    stream.close().await.unwrap();
    let mut buffer = BytesMut::new();
    assert_eq!(within(read_response(&mut stream, &mut buffer)).await, Some(Response::Pong));
    assert_eq!(within(read_response(&mut stream, &mut buffer)).await, None);
}

#[tokio::test]
async fn a_refused_request_ends_the_stream_after_earlier_answers() {
    let node = run(server(), Carrier::Memory).await;
    let (_raw, mut stream) = asking(&node).await;
    let key = libp2p_kademlia::RecordKey::new(b"key");
    let providers = vec![KadPeer {
        node_id: PeerId::random(),
        multiaddrs: Addresses::empty(),
        connection_ty: ConnectionType::NotConnected,
    }];
    write_request(&mut stream, &Request::Ping).await;
    write_request(&mut stream, &Request::AddProvider { key, providers }).await;
    write_request(&mut stream, &Request::Ping).await;
    let mut buffer = BytesMut::new();
    assert_eq!(within(read_response(&mut stream, &mut buffer)).await, Some(Response::Pong));
    assert_eq!(within(read_response(&mut stream, &mut buffer)).await, None);
}

#[tokio::test]
async fn streams_are_reused_over_quic_too() {
    let raw = run_raw(Carrier::Quic, Version::V1Lazy, None).await;
    let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
    let streams = Arc::new(AtomicUsize::new(0));
    let own = RunningRaw { peer_id: raw.peer_id, address: raw.address.clone(), control: raw.control.clone() };
    let (own, count) = (Arc::new(own), streams.clone());
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            // Every third answer is the last of its stream, which QUIC ends with a FIN.
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream, Manner::ResetsAfter(3), own.clone(), Arc::default()));
        }
    });
    let quic =
        swarm(Carrier::Quic, Version::V1Lazy, |keypair| node(keypair, libp2p_kademlia::Config::default()));
    let node = run(quic, Carrier::Quic).await;
    node.client.add_address(raw.peer_id, raw.address.clone()).await.unwrap();
    for _ in 0..12 {
        ping(&node, raw.peer_id).await.unwrap();
    }
    let opened = streams.load(Ordering::Relaxed);
    assert!((4..=7).contains(&opened), "{opened} streams for 12 requests and a check");
}
