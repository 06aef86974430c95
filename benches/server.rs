//! A server under load: 16 FIND_NODE requests in flight on reused streams, in memory; beside `libp2p-kad` and a bare
//! echo of canned bytes in the same run.
//!
//! The server has a thread to itself, connection tasks included; what is counted is that thread's processor time and
//! allocations. Prints a table; figures of one run stand in docs/costs.md. `--quick` makes a short run.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench: it prints a table, and has threads of its own"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use cpu_time::ThreadTime;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{Config as SwarmConfig, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identity, yamux};
use libp2p_core::multihash::Multihash;
use libp2p_kad as kad;
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::time::{Instant, Now, SystemTime};
use libp2p_kademlia::wire::{decode_response, encode_request, encode_response};
use libp2p_kademlia::{Behaviour, IpDiversity, Key, Mode};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
const IN_FLIGHT: usize = 16;
/// Over so many streams.
const STREAMS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Ours,
    Theirs,
    Echo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Far,
    Near,
}

fn peer(n: u32) -> PeerId {
    let mut digest = vec![0x08, 0x01, 0x12, 0x20];
    digest.extend(Key::sha256(&n.to_le_bytes()).as_bytes());
    PeerId::from_multihash(Multihash::wrap(0, &digest).unwrap()).unwrap()
}

fn address(n: u32) -> Multiaddr {
    format!("/ip4/10.{}.{}.{}/tcp/4001", n >> 16, n >> 8 & 255, n & 255).parse().unwrap()
}

fn swarm<B: NetworkBehaviour>(keypair: &identity::Keypair, behaviour: B) -> Swarm<B> {
    let transport = MemoryTransport::new()
        .upgrade(Version::V1)
        .authenticate(libp2p_plaintext::Config::new(keypair))
        .multiplex(yamux::Config::default())
        .boxed();
    let config = SwarmConfig::with_tokio_executor()
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_idle_connection_timeout(Duration::from_secs(600));
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
}

/// How many peers are offered to the table; some 300 of them find a place in it.
const OFFERED: u32 = 20_000;

/// A node whose table is full.
fn ours(local: PeerId) -> Behaviour {
    use libp2p_kademlia::dht::{ConnectionId, Dht, Input, Output};
    let config = libp2p_kademlia::Config::default()
        .with_joining(libp2p_kademlia::Joining::OnRequest)
        .with_refresh_interval(None)
        .unwrap()
        .with_ip_diversity(IpDiversity::Off);
    let now = Now::new(Instant::now(), SystemTime::now());
    let mut dht = Dht::new(local, MemoryStore::new(local), config, [7; 32], now);
    dht.set_mode(now, Some(Mode::Server));
    for n in 1..=OFFERED {
        let (peer, address, connection) = (peer(n), address(n), ConnectionId(n.into()));
        dht.handle_input(now, Input::AddressesLearned { peer, addresses: vec![address.clone()] });
        dht.handle_input(
            now,
            Input::Connected { located: None, peer, connection, address, dialled: true, dial: None },
        );
        while let Some(output) = dht.poll_output() {
            if let Output::SendRequest { to, id, .. } = output {
                let named = libp2p_kademlia::KadPeer {
                    node_id: to,
                    multiaddrs: libp2p_kademlia::Addresses::empty(),
                    connection_ty: libp2p_kademlia::ConnectionType::Connected,
                };
                let response = Response::FindNode { closer_peers: vec![named] };
                dht.handle_input(now, Input::ResponseReceived { id, response });
            }
        }
        dht.handle_input(now, Input::Disconnected { peer, connection });
    }
    while dht.poll_output().is_some() {}
    Behaviour::from_dht(dht)
}

fn theirs(local: PeerId) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut config = kad::Config::new(PROTOCOL);
    config.set_periodic_bootstrap_interval(None);
    let mut kad = kad::Behaviour::with_config(local, kad::store::MemoryStore::new(local), config);
    kad.set_mode(Some(kad::Mode::Server));
    for n in 1..=OFFERED {
        kad.add_address(&peer(n), address(n));
    }
    kad
}

/// What the server's thread has used.
struct Used {
    cpu: Duration,
    allocations: u64,
}

/// Runs the swarm until told to stop; counts from the first request on, which `begun` tells of.
fn serve<B: NetworkBehaviour>(
    make: impl FnOnce(PeerId) -> B + Send + 'static,
    on_start: impl FnOnce(&mut Swarm<B>) + Send + 'static,
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
) -> (Multiaddr, PeerId, thread::JoinHandle<Used>) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let keypair = identity::Keypair::generate_ed25519();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = runtime.block_on(async {
            let local = tokio::task::LocalSet::new();
            let mut swarm = swarm(&keypair, make(keypair.public().to_peer_id()));
            on_start(&mut swarm);
            swarm.listen_on("/memory/0".parse().unwrap()).unwrap();
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    tell.send((address, *swarm.local_peer_id())).unwrap();
                    break;
                }
            }
            drop(local);
            swarm
        });
        let mut swarm = local;
        let run_until = |swarm: &mut Swarm<B>, flag: &AtomicBool| {
            runtime.block_on(async {
                while !flag.load(Ordering::Relaxed) {
                    let _ = tokio::time::timeout(Duration::from_millis(5), swarm.select_next_some()).await;
                }
            });
        };
        run_until(&mut swarm, &begun);
        let start = ThreadTime::now();
        let info = allocation_counter::measure(|| run_until(&mut swarm, &stop));
        Used { cpu: start.elapsed(), allocations: info.count_total }
    });
    let (address, peer) = told.recv().unwrap();
    (address, peer, thread)
}

/// Starts a server of the given kind.
fn start(
    server: Server,
    stop: &Arc<AtomicBool>,
    begun: &Arc<AtomicBool>,
) -> (Multiaddr, PeerId, thread::JoinHandle<Used>) {
    let (stop, begun) = (stop.clone(), begun.clone());
    match server {
        Server::Ours => serve(ours, |_| {}, stop, begun),
        Server::Theirs => serve(theirs, |_| {}, stop, begun),
        Server::Echo => {
            let echo = |swarm: &mut Swarm<libp2p_stream::Behaviour>| {
                let mut incoming = swarm.behaviour().new_control().accept(PROTOCOL).unwrap();
                tokio::spawn(async move {
                    while let Some((_, stream)) = incoming.next().await {
                        tokio::spawn(echo(stream));
                    }
                });
            };
            serve(|_| libp2p_stream::Behaviour::new(), echo, stop, begun)
        }
    }
}

/// Answers every frame with the same bytes, as long as a real answer.
async fn echo(mut stream: libp2p::swarm::Stream) {
    let peers = (1..=20).map(|n| libp2p_kademlia::KadPeer {
        node_id: peer(n),
        multiaddrs: libp2p_kademlia::Addresses::collect(&peer(n), [address(n)]),
        connection_ty: libp2p_kademlia::ConnectionType::Connected,
    });
    let mut canned = BytesMut::new();
    encode_response(&Response::FindNode { closer_peers: peers.collect() }, &mut canned);
    let (mut buffer, mut chunk) = (BytesMut::new(), [0; 4096]);
    while let Ok(len @ 1..) = stream.read(&mut chunk).await {
        buffer.extend_from_slice(&chunk[..len]);
        while let Some(end) = frame(&buffer) {
            let _ = buffer.split_to(end);
            if stream.write_all(&canned).await.is_err() {
                return;
            }
        }
        if stream.flush().await.is_err() {
            return;
        }
    }
}

/// The length of the first whole frame of a buffer.
fn frame(buffer: &[u8]) -> Option<usize> {
    let (len, rest) = unsigned_varint::decode::usize(buffer).ok()?;
    let end = buffer.len() - rest.len() + len;
    (buffer.len() >= end).then_some(end)
}

/// Keeps requests in flight on the streams until so many are answered; checks one answer in a thousand.
async fn load(mut control: libp2p_stream::Control, server: PeerId, target: Target, requests: usize) {
    let own = *Key::of_peer(&server, Key::sha256).as_bytes();
    // Near: the server's own id would be answered with one peer more; a near key is hard to find, so its id it is.
    let key = match target {
        Target::Near => server.to_bytes(),
        Target::Far => (0u64..)
            .map(|n| n.to_le_bytes().to_vec())
            .find(|bytes| Key::sha256(bytes).as_bytes()[0] ^ own[0] >= 0x80)
            .unwrap(),
    };
    let mut request = BytesMut::new();
    encode_request(&Request::FindNode { key: key.into() }, &mut request);
    let mut tasks = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = control.open_stream(server, PROTOCOL).await.unwrap();
        // One after another: each has been taken up when its first answer is there.
        drive(&mut stream, &request, 1).await;
        let request = request.clone();
        tasks.push(tokio::spawn(async move { drive(&mut stream, &request, requests / STREAMS).await }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Keeps requests in flight on one stream until so many are answered.
async fn drive(stream: &mut libp2p::swarm::Stream, request: &[u8], requests: usize) {
    let (mut sent, mut answered) = (0, 0);
    let (mut buffer, mut chunk) = (BytesMut::new(), vec![0; 65_536]);
    while answered < requests {
        let missing = (IN_FLIGHT / STREAMS).min(requests - answered).saturating_sub(sent - answered);
        if missing > 0 {
            stream.write_all(&request.repeat(missing)).await.unwrap();
            stream.flush().await.unwrap();
            sent += missing;
        }
        let len = stream.read(&mut chunk).await.unwrap();
        assert!(len > 0, "the server ended the stream");
        buffer.extend_from_slice(&chunk[..len]);
        while let Some(end) = frame(&buffer) {
            let answer = buffer.split_to(end);
            if answered % 1000 == 0 {
                let body = unsigned_varint::decode::usize(&answer).unwrap().1;
                let Ok(Response::FindNode { closer_peers }) = decode_response(body) else {
                    panic!("no answer")
                };
                assert!(closer_peers.len() >= 20, "{} peers", closer_peers.len());
            }
            answered += 1;
        }
    }
}

/// Loads a server, and returns processor time and allocations for each request.
fn measure(server: Server, target: Target, requests: usize) -> (f64, f64) {
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (address, id, thread) = start(server, &stop, &begun);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let keypair = identity::Keypair::generate_ed25519();
        let mut swarm = swarm(&keypair, libp2p_stream::Behaviour::new());
        let control = swarm.behaviour().new_control();
        swarm.dial(address).unwrap();
        while !swarm.is_connected(&id) {
            swarm.select_next_some().await;
        }
        let driver = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        load(control.clone(), id, target, requests / 10).await;
        begun.store(true, Ordering::Relaxed);
        // The server notices within its polling interval; what it does until then is not counted.
        tokio::time::sleep(Duration::from_millis(50)).await;
        load(control, id, target, requests).await;
        stop.store(true, Ordering::Relaxed);
        driver.abort();
    });
    let used = thread.join().expect("the server ends");
    (used.cpu.as_secs_f64() * 1e6 / requests as f64, used.allocations as f64 / requests as f64)
}

fn main() {
    // `cargo test --benches` runs it too, briefly.
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let requests = if quick { 2_000 } else { 100_000 };
    println!("{:<14} {:>6} {:>14} {:>14}", "server", "key", "µs a request", "allocations");
    for server in [Server::Ours, Server::Theirs, Server::Echo] {
        for target in [Target::Far, Target::Near] {
            let (cpu, allocations) = measure(server, target, requests);
            println!(
                "{:<14} {:>6} {cpu:>14.2} {allocations:>14.1}",
                format!("{server:?}"),
                format!("{target:?}")
            );
        }
    }
}
