//! A connection that is open but dead.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{Multiaddr, identity};
use libp2p_kademlia::{Behaviour, Config};

use super::pairs::Steered;
use super::support::*;

/// A gateway before a node: connections pass through it, but those with numbers below the one it is told are forgotten.
fn gateway(to: &Multiaddr) -> (Multiaddr, Arc<AtomicUsize>) {
    use libp2p::multiaddr::Protocol;
    let port =
        to.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let forgotten = Arc::new(AtomicUsize::new(0));
    let told = forgotten.clone();
    std::thread::spawn(move || {
        for (number, near) in listener.incoming().enumerate() {
            let near = near.unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                let told = told.clone();
                std::thread::spawn(move || pass(from, to, number, &told));
            }
        }
    });
    (format!("/ip4/127.0.0.1/tcp/{own}").parse().unwrap(), forgotten)
}

/// Passes bytes on until the connection is forgotten; then they are dropped, and nobody is told, not even of the end.
fn pass(mut from: TcpStream, mut to: TcpStream, number: usize, forgotten: &AtomicUsize) {
    let mut buffer = vec![0; 65_536];
    let is_forgotten = || forgotten.load(Ordering::SeqCst) > number;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !is_forgotten() && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if is_forgotten() {
        // Closed with the test.
        std::mem::forget(to);
    } else {
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// A node beside a limit of connections to one peer.
#[derive(NetworkBehaviour)]
struct Limited {
    kademlia: Behaviour,
    limits: connection_limits::Behaviour,
}

/// Looks something up again and again after the connection is forgotten. Returns when it worked first, and how many of
/// our connections had ended then or ten seconds later.
async fn after_the_drop(node: &Steered, peer: &Steered, at_most: Duration) -> (Option<Duration>, usize) {
    let (address, forget) = gateway(&peer.address);
    node.client.add_address(peer.peer_id, address).await.unwrap();
    node.until_known(peer).await;
    within(node.client.ping(peer.peer_id)).await.unwrap();
    forget.store(1, Ordering::SeqCst);
    let began = Instant::now();
    let mut worked = None;
    while worked.is_none() && began.elapsed() < at_most {
        if node.client.ping(peer.peer_id).await.is_ok() {
            worked = Some(began.elapsed());
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    (worked, node.ended.load(Ordering::SeqCst))
}

fn restricted(limits: ConnectionLimits) -> Swarm<Limited> {
    swarm_with_idle(Carrier::Tcp, Version::V1Lazy, Duration::from_secs(60), |keypair: &identity::Keypair| {
        Limited {
            kademlia: node(keypair, Config::default()).kademlia,
            limits: connection_limits::Behaviour::new(limits),
        }
    })
}

/// In real time, since sockets are real: some five seconds, and with a limit twelve.
#[tokio::test]
async fn a_dead_connection_is_found_out_and_replaced_unless_the_program_denies_a_second_one() {
    let free = async {
        let peer = Steered::node(Carrier::Tcp, Config::default(), Duration::from_secs(60)).await;
        let node = restricted(ConnectionLimits::default());
        let node = Steered::run(node, Carrier::Tcp, |node| &mut node.kademlia).await;
        let (worked, _) = after_the_drop(&node, &peer, Duration::from_secs(30)).await;
        assert!(worked.is_some_and(|after| after <= Duration::from_secs(15)), "{worked:?}");
        eventually(|| async { node.ended.load(Ordering::SeqCst) == 1 }).await;
        assert_eq!(node.open().await.len(), 1, "the new one stays");
    };
    let denied = async {
        let peer = Steered::node(Carrier::Tcp, Config::default(), Duration::from_secs(60)).await;
        let node = restricted(ConnectionLimits::default().with_max_established_per_peer(Some(1)));
        let node = Steered::run(node, Carrier::Tcp, |node| &mut node.kademlia).await;
        let (worked, ended) = after_the_drop(&node, &peer, Duration::from_secs(12)).await;
        assert_eq!((worked, ended, node.open().await.len()), (None, 0, 1), "nothing is closed");
    };
    tokio::join!(free, denied);
}
