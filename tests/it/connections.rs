//! Connections: refused by this program, lost, limited, kept.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::{
    AddressError, Behaviour, Client, Config, ConnectError, Event, Mode, PingError, QueryResult, RequestError,
};

use super::support::*;

/// A node beside a behaviour that refuses connections.
#[derive(NetworkBehaviour)]
struct Limited {
    kademlia: Behaviour,
    limits: connection_limits::Behaviour,
}

/// The default configuration, but a request lasts a second.
fn hasty() -> Config {
    let config = Config::default().with_soft_timeout(Duration::from_millis(50)..=Duration::from_millis(500));
    config.unwrap().with_request_timeout(Duration::from_secs(1)).unwrap()
}

#[tokio::test]
async fn a_dial_that_connection_limits_refuse_is_not_the_peers_failure() {
    let peer = run(server(), Carrier::Memory).await;
    let limits = ConnectionLimits::default().with_max_pending_outgoing(Some(0));
    let mut limited = swarm(Carrier::Memory, Version::V1Lazy, |keypair| Limited {
        kademlia: node(keypair, hasty()).kademlia,
        limits: connection_limits::Behaviour::new(limits),
    });
    limited.behaviour_mut().kademlia.add_address(&peer.peer_id, peer.address.clone());
    let id = limited.behaviour_mut().kademlia.ping(peer.peer_id);
    let ping = async |swarm: &mut Swarm<Limited>, id| {
        within(async {
            loop {
                if let SwarmEvent::Behaviour(LimitedEvent::Kademlia(Event::OutboundQueryProgressed {
                    id: of,
                    result: QueryResult::Ping(result),
                    ..
                })) = swarm.select_next_some().await
                    && of == id
                {
                    return result;
                }
            }
        })
        .await
    };
    let refused = ping(&mut limited, id).await;
    assert!(
        matches!(refused, Err(PingError::Failed { source: RequestError::DialRefused, .. })),
        "{refused:?}"
    );
    // It waited for a place as long as a request lasts. It is not left alone for it: as soon as the limit is gone it is asked.
    *limited.behaviour_mut().limits.limits_mut() = ConnectionLimits::default();
    let id = limited.behaviour_mut().kademlia.ping(peer.peer_id);
    ping(&mut limited, id).await.unwrap();
}

#[tokio::test]
async fn an_address_without_an_id_is_enough() {
    let hub = run(server(), Carrier::Memory).await;
    let node = run(server(), Carrier::Memory).await;
    assert_eq!(within(node.client.connect(hub.address.clone())).await.unwrap(), hub.peer_id);
    // Whoever was met there is a seed: the node joins by itself.
    meet(&node, &hub).await;
    let nowhere: Multiaddr = "/memory/4711".parse().unwrap();
    let error = within(node.client.connect(nowhere)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    let own = within(node.client.connect(node.address.clone())).await.unwrap_err();
    assert!(matches!(own, ConnectError::Address { source: AddressError::Own, .. }), "{own}");
}

#[tokio::test]
async fn an_address_of_somebody_else_is_forgotten_and_the_others_are_tried() {
    let right = run(server(), Carrier::Memory).await;
    let wrong = run(server(), Carrier::Memory).await;
    let node = run(server(), Carrier::Memory).await;
    // The swarm dials all addresses of a peer at once, and the wrong one may answer first.
    for address in [&right.address, &wrong.address] {
        node.client.add_address(right.peer_id, address.clone()).await.unwrap();
    }
    meet(&node, &right).await;
    within(node.client.ping(right.peer_id)).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_is_killed_fails_and_one_that_comes_back_is_found_again() {
    let hub = run(server(), Carrier::Memory).await;
    let node = run(server(), Carrier::Memory).await;
    join(&node, &hub).await;
    let (peer_id, address) = (hub.peer_id, hub.address.clone());
    hub.kill().await;
    let error = within(node.client.ping(peer_id)).await.unwrap_err();
    let PingError::Failed { source: error, .. } = error else { panic!("{error}") };
    assert!(matches!(error, RequestError::Unreachable | RequestError::Disconnected), "{error}");
    assert!(address.to_string().starts_with("/memory/"));
    // The table that has lost everybody is kept.
    assert_eq!(node.client.peer_count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_request_in_flight_on_a_lost_connection_is_made_again() {
    let hub = run(server(), Carrier::Memory).await;
    let mut swarm = server();
    listen(&mut swarm, Carrier::Memory).await;
    swarm.behaviour_mut().kademlia.add_address(&hub.peer_id, hub.address.clone());
    until(&mut swarm, |event| matches!(event, Event::RoutingUpdated { .. }).then_some(())).await;
    for _ in 0..10 {
        let id = swarm.behaviour_mut().kademlia.ping(hub.peer_id);
        let _ = swarm.disconnect_peer_id(hub.peer_id);
        let result = until(&mut swarm, |event| match event {
            Event::OutboundQueryProgressed { id: of, result: QueryResult::Ping(result), .. } if of == id => {
                Some(result)
            }
            _ => None,
        })
        .await;
        result.unwrap();
    }
}

#[tokio::test]
async fn only_the_closest_connections_are_kept() {
    use libp2p_kademlia::KeepAlive;
    let quick = |keep_alive| {
        let config = Config::default().with_keep_alive(keep_alive);
        let idle = Duration::from_millis(50);
        let mut swarm =
            swarm_with_idle(Carrier::Memory, Version::V1Lazy, idle, |keypair| node(keypair, config));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        swarm
    };
    for (keep_alive, kept) in [(KeepAlive::Closest, true), (KeepAlive::Nobody, false)] {
        let hub = run(quick(keep_alive), Carrier::Memory).await;
        let node = run(quick(keep_alive), Carrier::Memory).await;
        join(&node, &hub).await;
        let is_connected = async |client: &Client, peer: PeerId| {
            let table = client.routing_table().await.unwrap();
            table.peers().any(|entry| entry.peer == peer && entry.is_connected)
        };
        if kept {
            // Ten times the idle timeout, on the clock that the swarm's timeout uses.
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert!(is_connected(&node.client, hub.peer_id).await);
            }
        } else {
            eventually(|| async { !is_connected(&node.client, hub.peer_id).await }).await;
            assert!(knows(&node, hub.peer_id).await, "the entry stays");
        }
    }
}

#[tokio::test]
async fn idle_streams_keep_no_connection_open() {
    use super::streams::{PROTOCOL, write_request};
    use libp2p_kademlia::message::Request;
    let idle = Duration::from_millis(100);
    let mut swarm =
        swarm_with_idle(Carrier::Memory, Version::V1Lazy, idle, |keypair| node(keypair, Config::default()));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let server = run(swarm, Carrier::Memory).await;
    let raw = run_raw(Carrier::Memory, Version::V1Lazy, Some(&server)).await;
    let mut stream = raw.control.clone().open_stream(server.peer_id, PROTOCOL).await.unwrap();
    write_request(&mut stream, &Request::Ping).await;
    // The answer, then the end, although this side keeps the stream.
    let mut answer = Vec::new();
    let _ = within(futures::AsyncReadExt::read_to_end(&mut stream, &mut answer)).await;
    assert_eq!(answer, [4, 8, 5, 0x50, 1]);
}
