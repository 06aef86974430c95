//! Dials: many addresses, limits of the program, addresses of hearsay.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, allow_block_list, identity};
use libp2p_kademlia::addrs::Addresses;
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::{
    Behaviour, Client, Config, ConnectionType, KadPeer, KeepAlive, Mode, PeerInfo, Precision,
};

use super::streams::{PROTOCOL, read_request, respond};
use super::support::*;

/// A place that takes connections and says nothing.
fn hanging() -> (TcpListener, Multiaddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    (listener, address.parse().unwrap())
}

#[tokio::test]
async fn of_sixteen_addresses_the_one_that_is_alive_is_reached() {
    let peer = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
    let node = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
    let dead: Vec<_> = (0..15).map(|_| hanging()).collect();
    for (_, address) in &dead {
        node.client.add_address(peer.peer_id, address.clone()).await.unwrap();
    }
    node.client.add_address(peer.peer_id, peer.address.clone()).await.unwrap();
    // Each dial of a place that says nothing takes as long as a request lasts: had it to end, the ping would fail.
    within(node.client.ping(peer.peer_id)).await.unwrap();
}

#[tokio::test]
async fn all_addresses_of_an_imported_peer_are_dialled() {
    let peer = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
    let node = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
    let (listener, stale) = hanging();
    let addrs = vec![stale, peer.address.clone()];
    let imported = vec![PeerInfo { peer_id: peer.peer_id, addrs }];
    assert_eq!(node.client.import_peers(imported).await, Ok(1));
    within(node.client.ping(peer.peer_id)).await.unwrap();
    drop(listener);
}

/// A node beside behaviours that refuse connections.
#[derive(NetworkBehaviour)]
struct Restricted {
    kademlia: Behaviour,
    limits: connection_limits::Behaviour,
    blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
}

/// A node under limits, and how often it was denied a dial.
struct Limited {
    client: Client,
    denied: Arc<AtomicUsize>,
}

/// Runs a node under limits that blocks whoever is sent to it.
fn run_restricted(
    config: Config,
    limits: ConnectionLimits,
    idle: Duration,
) -> (Limited, tokio::sync::mpsc::Sender<PeerId>) {
    let mut swarm = swarm_with_idle(Carrier::Memory, Version::V1Lazy, idle, |keypair| Restricted {
        kademlia: node(keypair, config).kademlia,
        limits: connection_limits::Behaviour::new(limits),
        blocked: allow_block_list::Behaviour::default(),
    });
    let (block, mut to_block) = tokio::sync::mpsc::channel(1);
    let denied = Arc::new(AtomicUsize::new(0));
    let (client, count) = (swarm.behaviour().kademlia.client(), denied.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    if let SwarmEvent::OutgoingConnectionError { error: DialError::Denied { .. }, .. } = event {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Some(peer) = to_block.recv() => {
                    swarm.behaviour_mut().blocked.block_peer(peer);
                }
            }
        }
    });
    (Limited { client, denied }, block)
}

/// A network of 25 servers, the first of which all have joined through.
async fn network() -> Vec<Running> {
    let mut nodes = vec![run(server(), Carrier::Memory).await];
    for _ in 1..25 {
        let node = run(server(), Carrier::Memory).await;
        // Of 25 the first need not have all in its table.
        node.client.add_address(nodes[0].peer_id, nodes[0].address.clone()).await.unwrap();
        within(node.client.bootstrap()).await.unwrap();
        eventually(|| knows(&node, nodes[0].peer_id)).await;
        nodes.push(node);
    }
    nodes
}

#[tokio::test]
async fn with_two_pending_dials_allowed_a_first_lookup_finds_all_that_it_looks_for() {
    let nodes = network().await;
    let limits = ConnectionLimits::default().with_max_pending_outgoing(Some(2));
    let (limited, _block) = run_restricted(Config::default(), limits, Duration::from_secs(30));
    limited.client.add_address(nodes[0].peer_id, nodes[0].address.clone()).await.unwrap();
    let found = within(limited.client.lookup(b"anything".to_vec(), Precision::Exact)).await.unwrap();
    assert_eq!((found.peers.len(), found.stats.num_failures()), (20, 0), "{:?}", found.stats);
}

#[tokio::test]
async fn with_four_connections_allowed_a_lookup_ends_and_no_dials_storm() {
    let nodes = network().await;
    let limits = ConnectionLimits::default().with_max_established(Some(4));
    let (limited, _block) = run_restricted(Config::default(), limits, Duration::from_secs(30));
    limited.client.add_address(nodes[0].peer_id, nodes[0].address.clone()).await.unwrap();
    let found = within(limited.client.lookup(b"anything".to_vec(), Precision::Exact)).await.unwrap();
    assert!(!found.peers.is_empty());
    // The first burst aside, of which none could know.
    let before = limited.denied.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let denied = limited.denied.load(Ordering::Relaxed) - before;
    assert!(denied <= 15, "{denied} denied dials in five seconds");
    assert!(before <= 64, "{before} denied dials in one lookup");
    // Whoever was denied is not taken for dead.
    assert!(found.stats.num_successes() >= 4 || found.stats.num_failures() == 0, "{:?}", found.stats);
}

#[tokio::test]
async fn a_peer_that_the_program_blocks_leaves_the_table() {
    let config = Config::default().with_soft_timeout(Duration::from_millis(50)..=Duration::from_millis(500));
    let config = config.unwrap().with_request_timeout(Duration::from_secs(1)).unwrap();
    let config = config.with_keep_alive(KeepAlive::Nobody);
    let (node, block) = run_restricted(config, ConnectionLimits::default(), Duration::from_millis(20));
    let [blocked, other] = [run(server(), Carrier::Memory).await, run(server(), Carrier::Memory).await];
    for peer in [&blocked, &other] {
        node.client.add_address(peer.peer_id, peer.address.clone()).await.unwrap();
    }
    let in_table = async |peer: PeerId| {
        let table = node.client.routing_table().await.unwrap();
        table.peers().any(|entry| entry.peer == peer)
    };
    for peer in [&blocked, &other] {
        eventually(|| in_table(peer.peer_id)).await;
    }
    block.send(blocked.peer_id).await.unwrap();
    eventually(|| async {
        let _ = within(node.client.ping(blocked.peer_id)).await;
        // So that others are seen to be let through, which are connected to no more.
        let _ = within(node.client.ping(other.peer_id)).await;
        !in_table(blocked.peer_id).await
    })
    .await;
    assert!(in_table(other.peer_id).await);
    let before = node.denied.load(Ordering::Relaxed);
    let _ = within(node.client.closest_peers(blocked.peer_id.to_bytes())).await;
    assert_eq!(node.denied.load(Ordering::Relaxed), before, "it is not dialled any more");
}

#[tokio::test]
async fn without_any_keep_alive_no_request_fails() {
    for carrier in [Carrier::Memory, Carrier::Tcp] {
        let fleeting = || {
            let config = Config::default().with_keep_alive(KeepAlive::Nobody);
            let mut swarm =
                swarm_with_idle(carrier, Version::V1Lazy, Duration::ZERO, |keypair| node(keypair, config));
            swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
            swarm
        };
        let [one, other] = [run(fleeting(), carrier).await, run(fleeting(), carrier).await];
        one.client.add_address(other.peer_id, other.address.clone()).await.unwrap();
        let mut failures = Vec::new();
        for _ in 0..127 {
            if let Err(error) = within(one.client.ping(other.peer_id)).await {
                failures.push(error);
            }
        }
        assert_eq!(failures, [], "{carrier:?}");
    }
}

/// Answers every request with twenty peers that nobody has met, each at sixteen addresses of one place.
async fn run_liar(victim: &Running, port: u16) -> RunningRaw {
    let raw = run_raw(Carrier::Tcp, Version::V1Lazy, Some(victim)).await;
    let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
    let made_up = (0..20u8).map(|n| {
        let peer = identity::Keypair::generate_ed25519().public().to_peer_id();
        let addresses = (0..16).map(|at| format!("/ip4/127.1.{n}.{}/tcp/{port}", at + 1).parse().unwrap());
        let multiaddrs = Addresses::collect(&peer, addresses);
        KadPeer { node_id: peer, multiaddrs, connection_ty: ConnectionType::CanConnect }
    });
    let closer_peers: Vec<_> = made_up.collect();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            let closer_peers = closer_peers.clone();
            tokio::spawn(async move {
                let mut buffer = BytesMut::new();
                while let Some(request) = read_request(&mut stream, &mut buffer).await {
                    let response = match request {
                        Request::FindNode { .. } => Response::FindNode { closer_peers: closer_peers.clone() },
                        _ => Response::Pong,
                    };
                    if respond(&mut stream, &response).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    raw
}

#[tokio::test]
async fn a_made_up_peer_costs_three_connections() {
    let node = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
    let place = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = place.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    // Each is closed as soon as it is made.
    std::thread::spawn(move || {
        while place.accept().is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let liar = run_liar(&node, port).await;
    node.client.add_address(liar.peer_id, liar.address.clone()).await.unwrap();
    eventually(|| knows(&node, liar.peer_id)).await;
    for n in 0..7 {
        let _ = within(node.client.closest_peers(format!("key {n}").into_bytes())).await;
    }
    let count = count.load(Ordering::Relaxed);
    assert!((1..=60).contains(&count), "{count} connections for twenty peers");
}
