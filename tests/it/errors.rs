//! What callers are told when it goes wrong.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use libp2p_kademlia::validate::PublicKeys;
use libp2p_kademlia::{
    AddAddressError, AddressError, ClientError, Config, ConnectError, GetProvidersError, GetRecordError,
    Mode, PROTOCOL_NAME, PutRecordError, QueryError, RequestError, RoutingUpdate, Shortage,
};

use super::support::*;

/// A node of another network.
async fn other_network() -> Running {
    let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| {
        node(keypair, Config::new(StreamProtocol::new("/other/kad/1.0.0")))
    });
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    run(swarm, Carrier::Memory).await
}

/// A node that has not been told to serve others.
async fn client_node() -> Running {
    let swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, Config::default()));
    run(swarm, Carrier::Memory).await
}

fn unsupported() -> String {
    format!("1 of 1: does not speak {PROTOCOL_NAME} (is it a client?)")
}

#[tokio::test]
async fn a_peer_of_another_protocol_or_a_client_is_named_as_the_cause() {
    for other in [other_network().await, client_node().await] {
        let node = run(server(), Carrier::Memory).await;
        node.client.add_address(other.peer_id, other.address.clone()).await.unwrap();
        let get = within(node.client.get(b"key")).await.unwrap_err();
        assert!(matches!(get, GetRecordError::NoAnswer { .. }), "{get:?}");
        assert!(get.to_string().ends_with(&unsupported()), "{get}");
        let put = within(node.client.put(b"key", &b"v"[..])).await.unwrap_err();
        assert!(matches!(put, PutRecordError::QuorumFailed { .. }), "{put:?}");
        assert!(put.to_string().ends_with(&unsupported()), "{put}");
        let mut providers = node.client.providers(b"key");
        assert_eq!(within(providers.next()).await, None);
        assert!(providers.error().unwrap().to_string().ends_with(&unsupported()));
        let join = within(node.client.bootstrap()).await.unwrap_err();
        assert!(join.to_string().ends_with(&unsupported()), "{join}");
    }
}

#[tokio::test]
async fn connecting_to_a_peer_that_does_not_serve_is_no_success() {
    for other in [other_network().await, client_node().await] {
        let node = run(server(), Carrier::Memory).await;
        let error = within(node.client.connect(other.address.clone())).await.unwrap_err();
        let ConnectError::NotServing { peer, source, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*peer, *source), (other.peer_id, RequestError::Unsupported));
        assert!(error.to_string().contains(PROTOCOL_NAME.as_ref()), "{error}");
    }
}

#[tokio::test]
async fn an_address_at_which_nobody_is_is_named_as_the_cause() {
    let node = run(server(), Carrier::Memory).await;
    node.client.add_address(PeerId::random(), "/memory/4711".parse().unwrap()).await.unwrap();
    let error = within(node.client.get(b"key")).await.unwrap_err();
    assert_eq!(error.to_string(), "nobody has answered: 1 of 1: the peer could not be reached");
}

#[tokio::test]
async fn connecting_says_which_way_it_has_failed() {
    let [node, other] = [(); 2].map(|()| {
        let mut swarm = swarm(Carrier::Tcp, Version::V1Lazy, |keypair| node(keypair, Config::default()));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        swarm
    });
    let (node, other) = (run(node, Carrier::Tcp).await, run(other, Carrier::Tcp).await);
    let connect = |address: Multiaddr| async { within(node.client.connect(address)).await.unwrap_err() };
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = connect(format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).await;
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused:?}");
    let unsupported = connect("/memory/1".parse().unwrap()).await;
    assert!(matches!(unsupported, ConnectError::NoTransport { .. }), "{unsupported:?}");
    let portless = connect("/ip4/127.0.0.1".parse().unwrap()).await;
    assert!(matches!(portless, ConnectError::Address { source: AddressError::NoPort, .. }), "{portless:?}");
    let wrong = connect(other.address.clone().with(Protocol::P2p(PeerId::random()))).await;
    assert!(matches!(wrong, ConnectError::WrongPeer { met, .. } if met == other.peer_id), "{wrong:?}");
    let own = connect(node.address.clone()).await;
    assert!(matches!(own, ConnectError::Address { source: AddressError::Own, .. }), "{own:?}");
    assert_eq!(within(node.client.connect(other.address.clone())).await, Ok(other.peer_id));
}

#[tokio::test]
async fn adding_an_address_says_why_it_cannot_be_used() {
    let config = Config::default()
        .with_address_filter(|address| !address.to_string().starts_with("/ip6"))
        .with_max_seeds(std::num::NonZeroUsize::MIN);
    let node =
        run(swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config)), Carrier::Memory).await;
    let (peer, another) = (PeerId::random(), PeerId::random());
    let at = |text: &str| text.parse::<Multiaddr>().unwrap();
    for (of, address, why) in [
        (node.peer_id, at("/memory/5"), AddressError::Own),
        (peer, node.address.clone(), AddressError::Own),
        (peer, at("/memory/5").with(Protocol::P2p(another)), AddressError::OtherPeer { named: another }),
        (peer, at("/ip4/1.2.3.4/tcp/0"), AddressError::NoPort),
        (peer, at("/ip4/0.0.0.0/tcp/1"), AddressError::Undialable),
        (peer, at("/ip6/::1/tcp/1"), AddressError::Filtered),
    ] {
        let added = node.client.try_add_address(of, address.clone()).await;
        assert_eq!(added, Err(AddAddressError::Address(why)), "{address}");
        assert_eq!(node.client.add_address(of, address).await, Ok(RoutingUpdate::Failed));
    }
    assert_eq!(node.client.try_add_address(peer, at("/memory/5")).await, Ok(RoutingUpdate::Pending));
    let full = node.client.try_add_address(another, at("/memory/6")).await.unwrap_err();
    assert_eq!(full.to_string(), "the address was not added: there are 1 seeds, and no more may be");
}

#[tokio::test]
async fn with_a_deadline_calls_of_a_swarm_that_nobody_polls_end() {
    let idle = server();
    let client = idle.behaviour().kademlia.client().with_deadline(Duration::from_millis(10));
    assert_eq!(within(client.peer_count()).await, Err(ClientError::Timeout));
    let timeout = Some(QueryError::Timeout);
    assert_eq!(within(client.get(b"key")).await.unwrap_err().query_error(), timeout);
    assert_eq!(within(client.put(b"key", &b"v"[..])).await.unwrap_err().query_error(), timeout);
    assert_eq!(within(client.provide(b"key")).await.unwrap_err().query_error(), timeout);
    assert_eq!(within(client.bootstrap()).await.unwrap_err().query_error(), timeout);
    let mut providers = client.providers(b"key");
    assert_eq!(within(providers.next()).await, None);
    assert_eq!(providers.error().and_then(GetProvidersError::query_error), timeout);
    let all: Vec<_> = within(client.get_all(b"key").collect()).await;
    let [Err(error)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(error.query_error(), timeout);
    drop(idle);
}

#[tokio::test]
async fn a_deadline_changes_nothing_for_calls_that_end_before() {
    let [a, b] = [run(server(), Carrier::Memory).await, run(server(), Carrier::Memory).await];
    join(&a, &b).await;
    let client = a.client.clone().with_deadline(Duration::from_secs(50));
    assert_eq!(within(client.peer_count()).await, Ok(1));
    within(client.put(b"key", &b"v"[..])).await.unwrap();
    assert_eq!(within(client.get_all(b"key").count()).await, 2);
}

#[tokio::test]
async fn a_key_without_a_validator_is_refused_at_once() {
    let config = Config::default().with_validator("pk", PublicKeys);
    let node =
        run(swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config)), Carrier::Memory).await;
    // Whoever is asked does not answer: it would take a while.
    node.client.add_address(PeerId::random(), "/memory/4711".parse().unwrap()).await.unwrap();
    let get = within(node.client.get(b"/app/key")).await.unwrap_err();
    assert!(matches!(get, GetRecordError::Invalid { .. }), "{get:?}");
    assert!(get.to_string().contains("`app`"), "{get}");
    let put = within(node.client.put(b"key", &b"v"[..])).await.unwrap_err();
    assert!(matches!(put, PutRecordError::Invalid { .. }), "{put:?}");
}

#[tokio::test]
async fn fewer_peers_than_were_wanted_are_explained() {
    let [a, b, c] = [
        run(server(), Carrier::Memory).await,
        run(server(), Carrier::Memory).await,
        run(server(), Carrier::Memory).await,
    ];
    join(&b, &a).await;
    join(&c, &a).await;
    meet(&b, &c).await;
    let found = within(a.client.lookup(*b"key", libp2p_kademlia::Precision::Exact)).await.unwrap();
    assert_eq!((found.peers.len(), found.shortage), (2, Some(Shortage::NoMorePeers { failed: 0 })));
}
