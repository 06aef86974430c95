//! Hostile peers: nothing they send or leave out stops the node, grows its memory, or is logged above `debug`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p_kademlia::addrs::Addresses;
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::{
    Config, ConnectionType, Event, GetClosestPeersError, InboundRequest, KadPeer, Mode, PingError, Quorum,
    Record, RecordKey, RequestError,
};

use super::streams::{PROTOCOL, honest, read_request, read_response, respond, write_request};
use super::support::*;

/// A server, a hostile peer that is connected to it, and an honest node that is served meanwhile.
struct Scene {
    victim: Running,
    hostile: RunningRaw,
    honest: Running,
}

impl Scene {
    async fn set() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        let victim = run(swarm, Carrier::Memory).await;
        let hostile = run_raw(Carrier::Memory, Version::V1Lazy, Some(&victim)).await;
        let honest = run(server(), Carrier::Memory).await;
        join(&honest, &victim).await;
        Self { victim, hostile, honest }
    }

    async fn stream(&self) -> Stream {
        within(self.hostile.control.clone().open_stream(self.victim.peer_id, PROTOCOL)).await.unwrap()
    }

    /// The honest node is served, and nothing loud was logged.
    async fn is_unharmed(&self) {
        for _ in 0..3 {
            within(self.honest.client.ping(self.victim.peer_id)).await.unwrap();
        }
        assert!(!knows(&self.victim, self.hostile.peer_id).await);
        assert_quiet();
    }
}

/// Waits until the other end has ended the stream.
async fn ended(stream: &mut Stream) {
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "an answer to garbage: {rest:02x?}");
}

#[tokio::test]
async fn bytes_that_are_no_message_end_their_stream() {
    let scene = Scene::set().await;
    let garbage: Vec<u8> = (0..=255).cycle().take(4096).collect();
    for (what, bytes) in [
        ("garbage", &garbage[..]),
        ("an empty frame", &[0]),
        ("an endless varint as the length", &[0xff; 64]),
        ("a frame of 2^60 bytes", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]),
        ("a frame one byte too long", &[0x81, 0x80, 0x08]),
        (
            "an endless varint as the type",
            &[12, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        ("an unknown type", &[2, 0x08, 77]),
        ("a key of the wrong wire type", &[4, 0x08, 4, 0x10, 1]),
        ("a nested length past the end", &[8, 0x42, 2, 0x0a, 5, 0, 0, 0, 0]),
        ("a group", &[2, 0x0b, 0x0c]),
        ("FIND_NODE without a key", &[2, 0x08, 4]),
        ("only a cluster level", &[2, 0x50, 1]),
    ] {
        let mut stream = scene.stream().await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        println!("{what}");
        ended(&mut stream).await;
    }
    scene.is_unharmed().await;
}

#[tokio::test]
async fn ten_thousand_idle_streams_leave_thirty_two() {
    let scene = Scene::set().await;
    let mut open = VecDeque::new();
    for _ in 0..10_000 {
        let mut stream = scene.stream().await;
        // Lazily negotiated: something must be sent for the other end to see the stream at all.
        stream.flush().await.unwrap();
        open.push_back(stream);
        if open.len() > 200 {
            // Long since dropped at the other end in favour of newer ones.
            ended(&mut open.pop_front().unwrap()).await;
        }
    }
    scene.is_unharmed().await;
    eventually(|| {
        let idle = open.iter_mut().filter_map(|stream| {
            let mut byte = [0];
            stream.read(&mut byte).now_or_never().is_none().then_some(())
        });
        let left = idle.count();
        async move { left == 32 }
    })
    .await;
    // The newest are the ones that were kept, and they work.
    let mut stream = open.pop_back().unwrap();
    write_request(&mut stream, &Request::Ping).await;
    assert_eq!(within(read_response(&mut stream, &mut BytesMut::new())).await, Some(Response::Pong));
}

#[tokio::test]
async fn a_message_that_never_ends_runs_out_of_time() {
    let scene = Scene::with(Config::default().with_stream_timeout(Duration::from_millis(200)).unwrap()).await;
    let mut stream = scene.stream().await;
    stream.write_all(&[40, 0x08, 4]).await.unwrap();
    stream.flush().await.unwrap();
    ended(&mut stream).await;
    scene.is_unharmed().await;
}

#[tokio::test]
async fn a_peer_that_reads_no_answers_is_not_read_from_either() {
    let scene = Scene::with(Config::default().with_stream_timeout(Duration::from_millis(500)).unwrap()).await;
    let mut stream = scene.stream().await;
    let mut request = BytesMut::new();
    let find = Request::FindNode { key: scene.victim.peer_id.to_bytes().into() };
    libp2p_kademlia::wire::encode_request(&find, &mut request);
    let flood = request.repeat(1000);
    // Writes until the other end stops reading, or has ended the stream for it.
    let all = within(async {
        let mut written = 0usize;
        while written < 200 << 20 {
            match tokio::time::timeout(Duration::from_secs(5), stream.write(&flood)).await {
                Ok(Ok(len)) => written += len,
                Ok(Err(_)) | Err(_) => return written,
            }
        }
        written
    })
    .await;
    assert!(all < 200 << 20, "everything was read");
    scene.is_unharmed().await;
}

#[tokio::test]
async fn idle_streams_are_closed_in_time() {
    let scene =
        Scene::with(Config::default().with_inbound_idle_timeout(Duration::from_millis(200)).unwrap()).await;
    let mut stream = scene.stream().await;
    write_request(&mut stream, &Request::Ping).await;
    let mut buffer = BytesMut::new();
    assert_eq!(within(read_response(&mut stream, &mut buffer)).await, Some(Response::Pong));
    ended(&mut stream).await;
    scene.is_unharmed().await;
}

/// What a peer answers.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Nothing,
    Garbage,
    TooLong,
    AnotherKind,
    AnotherKey,
    ThousandPeers,
    Unasked,
}

async fn serve(mut stream: Stream, answer: Answer, own: PeerAt) {
    let mut buffer = BytesMut::new();
    if let Answer::Unasked = answer {
        let _ = stream.write_all(&[4, 0x08, 5, 0x50, 1]).await;
        let _ = stream.flush().await;
    }
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let mut bytes = BytesMut::new();
        match answer {
            Answer::Nothing => continue,
            Answer::Garbage => bytes.extend_from_slice(&[9; 100]),
            Answer::TooLong => bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0x7f]),
            Answer::AnotherKind => {
                let kind = match request {
                    Request::Ping => Response::FindNode { closer_peers: vec![] },
                    _ => Response::Pong,
                };
                libp2p_kademlia::wire::encode_response(&kind, &mut bytes);
            }
            Answer::AnotherKey => {
                let key = Some(RecordKey::new(b"another"));
                let wrong = Response::GetValue { key, record: None, closer_peers: vec![] };
                libp2p_kademlia::wire::encode_response(&wrong, &mut bytes);
            }
            Answer::ThousandPeers => thousand_peers(&mut bytes),
            Answer::Unasked => libp2p_kademlia::wire::encode_response(&honest(&own.0, &request), &mut bytes),
        }
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// A FIND_NODE answer that names a thousand made-up peers on one machine.
fn thousand_peers(bytes: &mut BytesMut) {
    let mut body = vec![0x08, 4];
    for n in 0..1000u16 {
        let mut id = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
        id.extend([7; 30]);
        id.extend(n.to_be_bytes());
        let mut peer = vec![0x0a, 38];
        peer.extend(&id);
        peer.extend([0x12, 8, 4, 127, 0, 0, 1, 6, 0, 9]);
        body.extend([0x42, u8::try_from(peer.len()).unwrap()]);
        body.extend(peer);
    }
    bytes.extend_from_slice(unsigned_varint::encode::usize(
        body.len(),
        &mut unsigned_varint::encode::usize_buffer(),
    ));
    bytes.extend_from_slice(&body);
}

#[derive(Clone)]
struct PeerAt(std::sync::Arc<RunningRaw>);

/// A node that is connected to a peer which answers so.
async fn asking(answer: Answer, config: Config) -> (Running, RunningRaw) {
    let raw = run_raw(Carrier::Memory, Version::V1Lazy, None).await;
    let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
    let own = RunningRaw { peer_id: raw.peer_id, address: raw.address.clone(), control: raw.control.clone() };
    let own = PeerAt(std::sync::Arc::new(own));
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(serve(stream, answer, own.clone()));
        }
    });
    let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let node = run(swarm, Carrier::Memory).await;
    node.client.add_address(raw.peer_id, raw.address.clone()).await.unwrap();
    (node, raw)
}

fn hasty() -> Config {
    let second = Duration::from_secs(1);
    Config::default()
        .with_soft_timeout(second / 20..=second / 2)
        .unwrap()
        .with_request_timeout(second)
        .unwrap()
}

#[tokio::test]
async fn answers_that_are_none_are_failures_and_others_are_served_meanwhile() {
    for (answer, expected) in [
        (Answer::Nothing, RequestError::Timeout),
        (Answer::Garbage, RequestError::BadAnswer),
        (Answer::TooLong, RequestError::BadAnswer),
        (Answer::AnotherKind, RequestError::BadAnswer),
        (Answer::AnotherKey, RequestError::BadAnswer),
    ] {
        let (node, raw) = asking(answer, hasty()).await;
        let honest = run(server(), Carrier::Memory).await;
        join(&honest, &node).await;
        let hostile = node.client.ping(raw.peer_id);
        let served = async {
            for _ in 0..10 {
                within(honest.client.ping(node.peer_id)).await.unwrap();
                within(node.client.ping(honest.peer_id)).await.unwrap();
            }
        };
        let (result, ()) = futures::join!(within(hostile), served);
        match result {
            Err(PingError::Failed { source, .. }) => assert_eq!(source, expected, "{answer:?}"),
            other => panic!("{answer:?}: {other:?}"),
        }
        assert!(!knows(&node, raw.peer_id).await, "{answer:?}");
        assert_quiet();
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_shifts_no_other() {
    let (node, raw) = asking(Answer::Unasked, hasty()).await;
    // The stray PONG stands before every answer: a PING takes it, FIND_NODE must not.
    let _ = within(node.client.closest_peers(*b"key")).await;
    let _ = within(node.client.ping(raw.peer_id)).await;
    let found = within(node.client.closest_peers(*b"key")).await;
    let nobody = matches!(&found, Err(GetClosestPeersError::NoAnswer { .. }));
    assert!(nobody || found.is_ok_and(|peers| peers.len() <= 1));
    assert_quiet();
}

#[tokio::test]
async fn a_thousand_named_peers_are_twenty_that_fail() {
    let (node, raw) = asking(Answer::ThousandPeers, hasty()).await;
    eventually(|| knows(&node, raw.peer_id)).await;
    let found = within(node.client.lookup(*b"key", libp2p_kademlia::Precision::Exact)).await.unwrap();
    assert_eq!(found.peers.iter().map(|peer| peer.peer_id).collect::<Vec<_>>(), [raw.peer_id]);
    assert!(found.stats.num_requests() <= 21, "{:?}", found.stats);
    let known = KadPeer {
        node_id: raw.peer_id,
        multiaddrs: Addresses::empty(),
        connection_ty: ConnectionType::NotConnected,
    };
    assert_eq!(node.client.peer_count().await.unwrap(), 1, "{known:?}");
    assert_quiet();
}

/// Answers what is asked, and does not read a stream any more on which something is announced.
async fn serve_but_no_announcements(mut stream: Stream, own: PeerAt, announced: Arc<AtomicUsize>) {
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let response = match &request {
            Request::AddProvider { .. } => {
                announced.fetch_add(1, Ordering::Relaxed);
                return futures::future::pending().await;
            }
            Request::GetProviders { key } => Response::GetProviders {
                key: Some(key.clone()),
                provider_peers: vec![],
                closer_peers: vec![],
            },
            other => honest(&own.0, other),
        };
        if respond(&mut stream, &response).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_the_stream_of_announcements_holds_up_nothing() {
    let raw = run_raw(Carrier::Memory, Version::V1Lazy, None).await;
    let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
    let own = RunningRaw { peer_id: raw.peer_id, address: raw.address.clone(), control: raw.control.clone() };
    let own = PeerAt(Arc::new(own));
    let announced = Arc::new(AtomicUsize::new(0));
    let count = announced.clone();
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(serve_but_no_announcements(stream, own.clone(), count.clone()));
        }
    });
    let config = Config::default().with_stream_timeout(Duration::from_secs(3)).unwrap();
    let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let node = run(swarm, Carrier::Memory).await;
    let honest = run(server(), Carrier::Memory).await;
    join(&honest, &node).await;
    node.client.add_address(raw.peer_id, raw.address.clone()).await.unwrap();
    eventually(|| knows(&node, raw.peer_id)).await;
    let client = node.client.clone();
    let provides = tokio::spawn(async move {
        let provide = |n: u32| {
            let client = client.clone();
            async move { drop(client.provide(RecordKey::new(&n.to_be_bytes())).await) }
        };
        futures::stream::iter(0..6000).map(provide).buffer_unordered(500).collect::<Vec<_>>().await
    });
    eventually(|| async { announced.load(Ordering::Relaxed) > 0 }).await;
    // Longer than the stream may stand still.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        within(node.client.peer_count()).await.unwrap();
        within(node.client.ping(honest.peer_id)).await.unwrap();
        within(honest.client.ping(node.peer_id)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    within(node.client.closest_peers(*b"key")).await.unwrap();
    // It stands still until time is up on it, and then another is tried; no more than one at a time.
    assert!(announced.load(Ordering::Relaxed) <= 4, "{announced:?} streams");
    provides.abort();
    assert_quiet();
}

#[tokio::test]
async fn twenty_connections_that_read_no_answers_make_the_node_hold_little() {
    let answered = Arc::new(AtomicUsize::new(0));
    // Whatever is full stays so for as long as the test lasts.
    let config = Config::default().with_stream_timeout(Duration::from_secs(600)).unwrap();
    let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let count = answered.clone();
    let victim = run_with(swarm, Carrier::Memory, move |event| {
        if let SwarmEvent::Behaviour(NodeEvent::Kademlia(Event::InboundRequest {
            request: InboundRequest::GetRecord { .. },
            ..
        })) = event
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let honest = run(server(), Carrier::Memory).await;
    join(&honest, &victim).await;
    let value = vec![7; 60_000];
    within(honest.client.put_record(Record::new(RecordKey::new(b"key"), value), Quorum::One)).await.unwrap();
    let mut hostile = Vec::new();
    let mut get = BytesMut::new();
    libp2p_kademlia::wire::encode_request(&Request::GetValue { key: RecordKey::new(b"key") }, &mut get);
    for _ in 0..20 {
        let raw = run_raw(Carrier::Memory, Version::V1Lazy, Some(&victim)).await;
        for _ in 0..8 {
            let mut stream = within(raw.control.clone().open_stream(victim.peer_id, PROTOCOL)).await.unwrap();
            stream.write_all(&get.repeat(6000 / get.len())).await.unwrap();
            stream.flush().await.unwrap();
            hostile.push(stream);
        }
    }
    eventually(|| async { answered.load(Ordering::Relaxed) >= 20 * 8 }).await;
    for _ in 0..50 {
        within(victim.client.peer_count()).await.unwrap();
        within(honest.client.ping(victim.peer_id)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The windows of the muxer take four answers of each stream. Of the node's buffer 256 KiB of a connection are as much as
    // five, and one more may exceed it; without a limit it is eight for each stream.
    let limit = 20 * (8 * 4 + 5 + 1);
    assert!(answered.load(Ordering::Relaxed) <= limit, "{answered:?} beyond {limit}");
    assert_quiet();
}
