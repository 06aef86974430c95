//! The client: a handle that works anywhere, ends always, and cancels what is dropped.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::PeerId;
use libp2p::core::upgrade::Version;
use libp2p_kademlia::routing::Experience;
use libp2p_kademlia::store::{Expired, MemoryStore, RecordStore, Result as StoreResult, Source};
use libp2p_kademlia::time::SystemTime;
use libp2p_kademlia::{
    BanError, BanTarget, Behaviour, ClientBanError, ClientError, Config, GetClosestPeersError, Mode,
    PingError, Precision, ProviderRecord, QueryError, Record, RecordKey, RequestError, RoutingUpdate,
};

use super::streams::PROTOCOL;
use super::support::*;

#[tokio::test]
async fn it_does_what_the_behaviour_does() {
    let hub = run(server(), Carrier::Memory).await;
    let node = run(server(), Carrier::Memory).await;
    let client = node.client.clone();
    assert_eq!(client.peer_count().await, Ok(0));
    assert_eq!(within(client.bootstrap()).await.unwrap_err().query_error(), Some(QueryError::NoKnownPeers));
    let lost = within(client.find_peer(hub.peer_id)).await.unwrap_err();
    assert_eq!(lost.query_error(), Some(QueryError::NoKnownPeers));
    assert_eq!(client.add_address(hub.peer_id, hub.address.clone()).await, Ok(RoutingUpdate::Pending));
    let joined = within(client.bootstrap()).await.unwrap();
    assert_eq!((joined.peer, joined.num_remaining), (node.peer_id, 0));
    meet(&node, &hub).await;
    let ping = within(client.ping(hub.peer_id)).await.unwrap();
    assert!(ping.peer == hub.peer_id && ping.rtt < Duration::from_secs(5));
    let found = within(client.find_peer(hub.peer_id)).await.unwrap();
    assert_eq!((found.peer_id, found.addrs), (hub.peer_id, vec![hub.address.clone()]));
    let closest = within(client.closest_peers(*b"key")).await.unwrap();
    assert_eq!(closest.len(), 1);
    let near = within(client.lookup(*b"key", Precision::Near)).await.unwrap();
    assert_eq!((near.peers.len(), near.stats.num_requests()), (1, 1));
    let table = client.routing_table().await.unwrap();
    assert_eq!(table.len(), 1);
    assert!(table.to_string().contains(&hub.peer_id.to_string()));
    client.set_mode(Some(Mode::Client)).await.unwrap();
    assert!(within(hub.client.ping(node.peer_id)).await.is_err(), "it does not serve any more");
}

#[tokio::test]
async fn who_is_banned_is_disconnected_and_gone_from_answers_until_the_ban_is_lifted() {
    let hub = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
    let (good, bad) = (
        run(server_over(Carrier::Tcp), Carrier::Tcp).await,
        run(server_over(Carrier::Tcp), Carrier::Tcp).await,
    );
    for node in [&good, &bad] {
        node.client.add_address(hub.peer_id, hub.address.clone()).await.unwrap();
        within(node.client.bootstrap()).await.unwrap();
        meet(node, &hub).await;
    }
    hub.client.ban(bad.peer_id, None, "spams").await.unwrap();
    let bans = hub.client.bans().await.unwrap();
    assert_eq!((bans.len(), bans[0].target, &*bans[0].why), (1, BanTarget::Peer(bad.peer_id), "spams"));
    assert!(!knows(&hub, bad.peer_id).await);
    let refused = within(hub.client.ping(bad.peer_id)).await.unwrap_err();
    assert!(matches!(refused, PingError::Failed { source: RequestError::Banned, .. }), "{refused:?}");
    assert!(within(bad.client.ping(hub.peer_id)).await.is_err(), "it is let in no more");
    let told = within(good.client.find_node_at(hub.peer_id, bad.peer_id.to_bytes())).await.unwrap();
    assert!(told.closer.iter().all(|peer| peer.peer_id != bad.peer_id), "{told:?}");
    // All of this machine are kept out but for as long as that lasts.
    let all: std::net::IpAddr = "127.0.0.0".parse().unwrap();
    let soon = Some(SystemTime::now() + Duration::from_millis(300));
    hub.client.ban((all, 8), soon, "a test").await.unwrap();
    assert!(within(good.client.ping(hub.peer_id)).await.is_err());
    let past = hub.client.ban((all, 8), Some(SystemTime::UNIX_EPOCH), "late").await;
    assert_eq!(past, Err(ClientBanError::Ban(BanError::Over)));
    eventually(|| async { hub.client.bans().await.unwrap().len() == 1 }).await;
    eventually(|| async { good.client.ping(hub.peer_id).await.is_ok() }).await;
    assert_eq!(hub.client.unban(bad.peer_id).await, Ok(true));
    eventually(|| async { bad.client.ping(hub.peer_id).await.is_ok() }).await;
}

#[tokio::test]
async fn a_node_tells_how_large_its_network_is_and_is_told_of_experience() {
    let hub = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
    assert_eq!(hub.client.network_size().await, Ok(None), "nobody is known");
    let mut others = Vec::new();
    for _ in 0..4 {
        let node = run(server_over(Carrier::Tcp), Carrier::Tcp).await;
        node.client.add_address(hub.peer_id, hub.address.clone()).await.unwrap();
        within(node.client.bootstrap()).await.unwrap();
        meet(&node, &hub).await;
        others.push(node);
    }
    eventually(|| async { hub.client.peer_count().await == Ok(4) }).await;
    let size = hub.client.network_size().await.unwrap().unwrap();
    assert!(size.low <= 5 && size.high >= 4 && size.samples == 0, "{size:?}");
    assert_eq!(hub.client.report(others[0].peer_id, Experience::Bad).await, Ok(true));
    assert_eq!(
        hub.client.report(hub.peer_id, Experience::Good).await,
        Ok(false),
        "it is not in its own table"
    );
}

#[tokio::test]
async fn a_restarted_node_joins_without_its_bootstrap_node() {
    let hub = run(server(), Carrier::Memory).await;
    let friend = run(server(), Carrier::Memory).await;
    let node = run(server(), Carrier::Memory).await;
    join(&friend, &hub).await;
    join(&node, &hub).await;
    within(node.client.closest_peers(friend.peer_id)).await.unwrap();
    meet(&node, &friend).await;
    let saved = node.client.export_peers().await.unwrap();
    assert_eq!(saved.len(), 2);
    node.kill().await;
    hub.kill().await;
    let again = run(server(), Carrier::Memory).await;
    assert_eq!(again.client.import_peers(saved).await, Ok(2));
    within(again.client.bootstrap()).await.unwrap();
    meet(&again, &friend).await;
}

/// A node with a query that nobody answers.
async fn hanging() -> (Running, RunningRaw, libp2p_stream::IncomingStreams) {
    let raw = run_raw(Carrier::Memory, Version::V1Lazy, None).await;
    let streams = raw.control.clone().accept(PROTOCOL).unwrap();
    let config = Config::default().with_query_timeout(Duration::from_millis(300)).unwrap();
    let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let node = run(swarm, Carrier::Memory).await;
    node.client.add_address(raw.peer_id, raw.address.clone()).await.unwrap();
    (node, raw, streams)
}

#[tokio::test]
async fn every_call_has_a_deadline() {
    let (node, raw, _streams) = hanging().await;
    let error = within(node.client.closest_peers(*b"key")).await.unwrap_err();
    assert!(matches!(error, GetClosestPeersError::Query { cause: QueryError::Timeout, .. }), "{error}");
    let error = within(node.client.ping(raw.peer_id)).await.unwrap_err();
    assert!(matches!(error, PingError::Failed { .. }), "{error}");
    assert!(within(node.client.bootstrap()).await.is_err());
}

#[tokio::test]
async fn dropping_the_future_cancels_the_query() {
    let (raw, config) = (run_raw(Carrier::Memory, Version::V1Lazy, None).await, Config::default());
    let _streams = raw.control.clone().accept(PROTOCOL).unwrap();
    let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    swarm.behaviour_mut().kademlia.add_address(&raw.peer_id, raw.address.clone());
    let client = swarm.behaviour().kademlia.client();
    let mut call = Box::pin(client.closest_peers(*b"key"));
    let running = |swarm: &libp2p::Swarm<Node>| {
        let about_key = |query: &libp2p_kademlia::QueryRef| {
            matches!(query.info(), libp2p_kademlia::QueryInfo::GetClosestPeers { .. })
        };
        swarm.behaviour().kademlia.iter_queries().filter(about_key).count()
    };
    within(async {
        while running(&swarm) == 0 {
            assert!(call.as_mut().now_or_never().is_none());
            swarm.next().now_or_never();
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(call);
    within(async {
        while running(&swarm) == 1 {
            swarm.next().now_or_never();
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_swarm_ends_every_call() {
    let (node, raw, _streams) = hanging().await;
    let client = node.client.clone();
    let calls = tokio::spawn({
        let client = client.clone();
        async move {
            futures::join!(
                client.closest_peers(*b"key"),
                client.ping(raw.peer_id),
                client.bootstrap(),
                client.find_peer(PeerId::random()),
            )
        }
    });
    tokio::task::yield_now().await;
    node.kill().await;
    let (closest, ping, bootstrap, find) = within(calls).await.unwrap();
    // Whatever had not ended by then was ended by it.
    assert!(closest.is_err() && ping.is_err() && bootstrap.is_err() && find.is_err());
    assert_eq!(within(client.peer_count()).await, Err(ClientError::Closed));
    let closed = within(client.ping(PeerId::random())).await.unwrap_err();
    assert_eq!(closed.query_error(), Some(QueryError::Closed));
    assert_eq!(within(client.bootstrap()).await.unwrap_err().query_error(), Some(QueryError::Closed));
}

#[tokio::test]
async fn calls_that_nobody_carries_out_are_bounded() {
    let idle = server();
    let client = idle.behaviour().kademlia.client();
    let mut calls: Vec<_> = (0..3000).map(|_| Box::pin(client.peer_count())).collect();
    let refused = calls.iter_mut().filter_map(|call| call.as_mut().now_or_never());
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 3000 - 1024);
    assert!(refused.iter().all(|result| *result == Err(ClientError::Busy)));
    drop(idle);
}

#[test]
fn any_executor_will_do() {
    // The swarm runs on tokio in a thread of its own; the client is used from another executor.
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let hub = run(server(), Carrier::Memory).await;
            let node = run(server(), Carrier::Memory).await;
            send.send((node.client.clone(), hub.peer_id, hub.address.clone())).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let (client, peer, address) = receive.recv().unwrap();
    let ping = futures::executor::block_on(async move {
        client.add_address(peer, address).await.unwrap();
        client.bootstrap().await.unwrap();
        client.ping(peer).await
    });
    assert_eq!(ping.unwrap().peer, peer);
}

/// A store that tells when it is dropped, inside the node, inside the swarm.
struct Told {
    store: MemoryStore,
    _token: Arc<()>,
}

impl RecordStore for Told {
    type RecordsIter<'a> = <MemoryStore as RecordStore>::RecordsIter<'a>;
    type ProvidedIter<'a> = <MemoryStore as RecordStore>::ProvidedIter<'a>;

    fn get(&self, wall: SystemTime, key: &RecordKey) -> StoreResult<Option<Cow<'_, Record>>> {
        self.store.get(wall, key)
    }

    fn put(&mut self, wall: SystemTime, record: Record) -> StoreResult<()> {
        self.store.put(wall, record)
    }

    fn put_from(&mut self, wall: SystemTime, record: Record, source: Source) -> StoreResult<Vec<RecordKey>> {
        self.store.put_from(wall, record, source)
    }

    fn is_own(&self, key: &RecordKey) -> bool {
        self.store.is_own(key)
    }

    fn expire(&mut self, wall: SystemTime) -> StoreResult<Expired> {
        self.store.expire(wall)
    }

    fn remove(&mut self, key: &RecordKey) -> StoreResult<()> {
        self.store.remove(key)
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.store.records()
    }

    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> StoreResult<()> {
        self.store.add_provider(wall, record)
    }

    fn add_provider_from(
        &mut self,
        wall: SystemTime,
        record: ProviderRecord,
        source: Source,
    ) -> StoreResult<()> {
        self.store.add_provider_from(wall, record, source)
    }

    fn providers(&self, wall: SystemTime, key: &RecordKey) -> StoreResult<Vec<ProviderRecord>> {
        self.store.providers(wall, key)
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.store.provided()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> StoreResult<()> {
        self.store.remove_provider(key, provider)
    }
}

#[tokio::test]
async fn dropping_everything_frees_everything() {
    let hub = run(server(), Carrier::Memory).await;
    let token = Arc::new(());
    let mut node = swarm(Carrier::Memory, Version::V1Lazy, |keypair| {
        let peer_id = keypair.public().to_peer_id();
        let store = MemoryStore::new(peer_id);
        Behaviour::new(peer_id, Told { store, _token: token.clone() })
    });
    node.behaviour_mut().add_address(&hub.peer_id, hub.address.clone());
    let client = node.behaviour().client();
    let task = tokio::spawn(async move {
        loop {
            node.select_next_some().await;
        }
    });
    within(client.bootstrap()).await.unwrap();
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.find_peer(PeerId::random()).await }
    });
    task.abort();
    let _ = task.await;
    let _ = within(pending).await;
    assert_eq!(Arc::strong_count(&token), 1, "only the test holds it now, the client alive or not");
}

#[tokio::test]
async fn a_call_that_finds_no_room_is_told_from_a_query_that_finds_none() {
    let swarm = server();
    let client = swarm.behaviour().kademlia.client();
    // Nobody polls the swarm.
    while client.try_put(RecordKey::new(b"key"), "value").is_ok() {}
    let busy = Some(QueryError::Busy);
    let advertised = within(client.advertise("lobby")).await;
    assert_eq!(advertised.err().and_then(|error| error.query_error()), busy);
    let provided = within(client.provide(RecordKey::new(b"k"))).await;
    assert_eq!(provided.err().and_then(|error| error.query_error()), busy);
    let found = within(client.find_peer(PeerId::random())).await;
    assert_eq!(found.err().and_then(|error| error.query_error()), busy);
    let got = within(client.get(RecordKey::new(b"k"))).await;
    assert_eq!(got.err().and_then(|error| error.query_error()), busy);
    let mut none = client.providers(RecordKey::new(b"k"));
    assert_eq!(within(none.next()).await, None);
    assert_eq!(none.error().and_then(|error| error.query_error()), busy);
}
