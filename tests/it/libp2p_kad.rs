//! A real peer: `libp2p-kad` in the same network, each finding peers through the other.

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt as _;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, identity};
use libp2p_kad as kad;
use libp2p_kademlia::{Config, Mode, PingError, PutRecordError, Quorum, Record};
use tokio::sync::{mpsc, oneshot};

use super::support::*;

/// `libp2p-kad` as its users wire it: identify's addresses are handed on by hand.
#[derive(NetworkBehaviour)]
struct Theirs {
    kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
}

fn theirs(keypair: &identity::Keypair) -> Theirs {
    let peer_id = keypair.public().to_peer_id();
    let config = kad::Config::new(libp2p::StreamProtocol::new("/ipfs/kad/1.0.0"));
    let mut kad = kad::Behaviour::with_config(peer_id, kad::store::MemoryStore::new(peer_id), config);
    kad.set_mode(Some(kad::Mode::Server));
    let identify = identify::Config::new("/test/1.0.0".into(), keypair.public());
    Theirs { kad, identify: identify::Behaviour::new(identify) }
}

/// What a test asks of such a peer.
enum Ask {
    Add(PeerId, Multiaddr),
    Closest(Vec<u8>, oneshot::Sender<Vec<PeerId>>),
    Knows(PeerId, oneshot::Sender<bool>),
    Put(kad::Record, oneshot::Sender<bool>),
    Get(Vec<u8>, oneshot::Sender<Option<kad::Record>>),
    Provide(Vec<u8>, oneshot::Sender<bool>),
    Providers(Vec<u8>, oneshot::Sender<Vec<PeerId>>),
}

struct RunningTheirs {
    peer_id: PeerId,
    address: Multiaddr,
    asks: mpsc::Sender<Ask>,
}

impl RunningTheirs {
    async fn closest(&self, key: impl Into<Vec<u8>>) -> Vec<PeerId> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Closest(key.into(), reply)).await.ok().unwrap();
        within(answer).await.unwrap()
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> bool {
        let (reply, answer) = oneshot::channel();
        let record = kad::Record::new(key.to_vec(), value.to_vec());
        self.asks.send(Ask::Put(record, reply)).await.ok().unwrap();
        within(answer).await.unwrap()
    }

    async fn get(&self, key: &[u8]) -> Option<kad::Record> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Get(key.to_vec(), reply)).await.ok().unwrap();
        within(answer).await.unwrap()
    }

    async fn provide(&self, key: &[u8]) -> bool {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Provide(key.to_vec(), reply)).await.ok().unwrap();
        within(answer).await.unwrap()
    }

    async fn providers(&self, key: &[u8]) -> Vec<PeerId> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Providers(key.to_vec(), reply)).await.ok().unwrap();
        within(answer).await.unwrap()
    }

    async fn knows(&self, peer: PeerId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Knows(peer, reply)).await.ok().unwrap();
        within(answer).await.unwrap()
    }
}

/// Queries of such a peer, and who waits for them.
#[derive(Default)]
struct Open {
    closest: HashMap<kad::QueryId, oneshot::Sender<Vec<PeerId>>>,
    puts: HashMap<kad::QueryId, oneshot::Sender<bool>>,
    gets: HashMap<kad::QueryId, oneshot::Sender<Option<kad::Record>>>,
    provides: HashMap<kad::QueryId, oneshot::Sender<bool>>,
    providers: HashMap<kad::QueryId, (Vec<PeerId>, oneshot::Sender<Vec<PeerId>>)>,
}

impl Open {
    fn progressed(&mut self, id: kad::QueryId, result: kad::QueryResult, last: bool) {
        match result {
            kad::QueryResult::GetClosestPeers(Ok(ok)) => {
                if let Some(reply) = self.closest.remove(&id) {
                    let _ = reply.send(ok.peers.into_iter().map(|peer| peer.peer_id).collect());
                }
            }
            kad::QueryResult::PutRecord(result) => {
                if let Some(reply) = self.puts.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                if let Some(reply) = self.gets.remove(&id) {
                    let _ = reply.send(Some(found.record));
                }
            }
            kad::QueryResult::StartProviding(result) => {
                if let Some(reply) = self.provides.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            kad::QueryResult::GetProviders(result) => {
                if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = result
                    && let Some((found, _)) = self.providers.get_mut(&id)
                {
                    found.extend(providers);
                }
                if last && let Some((found, reply)) = self.providers.remove(&id) {
                    let _ = reply.send(found);
                }
            }
            kad::QueryResult::GetRecord(_) if last => {
                if let Some(reply) = self.gets.remove(&id) {
                    let _ = reply.send(None);
                }
            }
            _ => {}
        }
    }
}

async fn run_theirs(carrier: Carrier, version: Version) -> RunningTheirs {
    let mut swarm: Swarm<Theirs> = swarm(carrier, version, theirs);
    let address = listen(&mut swarm, carrier).await;
    let peer_id = *swarm.local_peer_id();
    let (asks, mut asked) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut open = Open::default();
        loop {
            tokio::select! {
                event = swarm.select_next_some() => match event {
                    SwarmEvent::Behaviour(TheirsEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                        for address in info.listen_addrs {
                            swarm.behaviour_mut().kad.add_address(&peer_id, address);
                        }
                    }
                    SwarmEvent::Behaviour(TheirsEvent::Kad(kad::Event::OutboundQueryProgressed {
                        id,
                        result,
                        step,
                        ..
                    })) => open.progressed(id, result, step.last),
                    _ => {}
                },
                ask = asked.recv() => match ask {
                    Some(Ask::Put(record, reply)) => {
                        let id = swarm.behaviour_mut().kad.put_record(record, kad::Quorum::One).unwrap();
                        open.puts.insert(id, reply);
                    }
                    Some(Ask::Get(key, reply)) => {
                        open.gets.insert(swarm.behaviour_mut().kad.get_record(key.into()), reply);
                    }
                    Some(Ask::Provide(key, reply)) => {
                        let id = swarm.behaviour_mut().kad.start_providing(key.into()).unwrap();
                        open.provides.insert(id, reply);
                    }
                    Some(Ask::Providers(key, reply)) => {
                        let id = swarm.behaviour_mut().kad.get_providers(key.into());
                        open.providers.insert(id, (Vec::new(), reply));
                    }
                    Some(Ask::Add(peer, address)) => {
                        swarm.behaviour_mut().kad.add_address(&peer, address);
                    }
                    Some(Ask::Closest(key, reply)) => {
                        open.closest.insert(swarm.behaviour_mut().kad.get_closest_peers(key), reply);
                    }
                    Some(Ask::Knows(peer, reply)) => {
                        let mut buckets = swarm.behaviour_mut().kad.kbuckets();
                        let known = buckets.any(|bucket| {
                            bucket.iter().any(|entry| *entry.node.key.preimage() == peer)
                        });
                        drop(buckets);
                        let _ = reply.send(known);
                    }
                    None => break,
                },
            }
        }
    });
    RunningTheirs { peer_id, address, asks }
}

fn ours(carrier: Carrier, version: Version) -> Swarm<Node> {
    let mut swarm = swarm(carrier, version, |keypair| node(keypair, Config::default()));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    swarm
}

/// Two of ours know only one of theirs, and the other way about; everybody finds everybody.
async fn mixed(carrier: Carrier, version: Version) {
    // Through theirs.
    let hub = run_theirs(carrier, version).await;
    let [a, b] = [run(ours(carrier, version), carrier).await, run(ours(carrier, version), carrier).await];
    for node in [&a, &b] {
        node.client.add_address(hub.peer_id, hub.address.clone()).await.unwrap();
        within(node.client.bootstrap()).await.unwrap();
        eventually(|| knows(node, hub.peer_id)).await;
        eventually(|| hub.knows(node.peer_id)).await;
    }
    let found = within(a.client.find_peer(b.peer_id)).await.unwrap();
    assert!(found.addrs.contains(&b.address), "{found:?}");
    // Through ours.
    let [c, d] = [run_theirs(carrier, version).await, run_theirs(carrier, version).await];
    for peer in [&c, &d] {
        peer.asks.send(Ask::Add(a.peer_id, a.address.clone())).await.ok().unwrap();
        within(async { while !peer.closest(peer.peer_id).await.contains(&a.peer_id) {} }).await;
        eventually(|| knows(&a, peer.peer_id)).await;
    }
    within(async { while !c.closest(d.peer_id).await.contains(&d.peer_id) {} }).await;
    // All five are servers: whoever asks finds the four others.
    let all = [hub.peer_id, a.peer_id, b.peer_id, c.peer_id, d.peer_id];
    for node in [&a, &b] {
        let others: BTreeSet<_> = all.into_iter().filter(|peer| *peer != node.peer_id).collect();
        eventually(|| async {
            let found = node.client.closest_peers(*b"key").await.unwrap();
            found.iter().map(|peer| peer.peer_id).collect::<BTreeSet<_>>() == others
        })
        .await;
    }
    for peer in [&hub, &c, &d] {
        let others: BTreeSet<_> = all.into_iter().filter(|other| *other != peer.peer_id).collect();
        eventually(|| async { peer.closest(*b"key").await.into_iter().collect::<BTreeSet<_>>() == others })
            .await;
    }
    // It does not answer a PING; it is asked for itself instead.
    let pong: Result<_, PingError> = within(a.client.ping(c.peer_id)).await;
    assert_eq!(pong.unwrap().peer, c.peer_id);
}

#[tokio::test]
async fn over_tcp() {
    mixed(Carrier::Tcp, Version::V1Lazy).await;
}

#[tokio::test]
async fn over_quic() {
    mixed(Carrier::Quic, Version::V1Lazy).await;
}

#[tokio::test]
async fn with_negotiation_that_is_not_lazy() {
    mixed(Carrier::Tcp, Version::V1).await;
}

#[tokio::test]
async fn their_clients_enter_no_table() {
    let hub = run(ours(Carrier::Memory, Version::V1Lazy), Carrier::Memory).await;
    let mut client: Swarm<Theirs> = swarm(Carrier::Memory, Version::V1Lazy, |keypair| {
        let mut theirs = theirs(keypair);
        theirs.kad.set_mode(Some(kad::Mode::Client));
        theirs
    });
    listen(&mut client, Carrier::Memory).await;
    client.behaviour_mut().kad.add_address(&hub.peer_id, hub.address.clone());
    let peer_id = *client.local_peer_id();
    let id = client.behaviour_mut().kad.get_closest_peers(b"key".to_vec());
    within(async {
        loop {
            if let SwarmEvent::Behaviour(TheirsEvent::Kad(kad::Event::OutboundQueryProgressed {
                id: of, ..
            })) = client.select_next_some().await
                && of == id
            {
                return;
            }
        }
    })
    .await;
    assert!(!knows(&hub, peer_id).await);
}

#[tokio::test]
async fn records_of_theirs_are_read_by_ours_and_ours_by_theirs() {
    let (carrier, version) = (Carrier::Tcp, Version::V1Lazy);
    let hub = run_theirs(carrier, version).await;
    let [a, b] = [run(ours(carrier, version), carrier).await, run(ours(carrier, version), carrier).await];
    for node in [&a, &b] {
        node.client.add_address(hub.peer_id, hub.address.clone()).await.unwrap();
        within(node.client.bootstrap()).await.unwrap();
        eventually(|| hub.knows(node.peer_id)).await;
        eventually(|| knows(node, hub.peer_id)).await;
    }
    meet(&a, &b).await;
    let report = within(a.client.put(b"of ours", &b"our value"[..])).await.unwrap();
    assert!(report.stored.contains(&hub.peer_id) && report.refused.is_empty(), "{report:?}");
    assert_eq!(within(b.client.get(b"of ours")).await.unwrap().value, "our value");
    let read = hub.get(b"of ours").await.unwrap();
    assert_eq!((read.value.as_slice(), read.publisher), (&b"our value"[..], Some(a.peer_id)));
    assert!(hub.put(b"of theirs", b"their value").await);
    for node in [&a, &b] {
        let read = within(node.client.get(b"of theirs")).await.unwrap();
        assert_eq!((read.value.as_ref(), read.publisher), (&b"their value"[..], Some(hub.peer_id)));
        assert!(read.expires.is_some(), "theirs says how long it lasts");
    }
    // It reads 16 KiB at most: the error says who did not store it, the others have, and nothing is harmed.
    let large = vec![7; 20 * 1024];
    let result =
        within(a.client.put_record(Record::new(b"large".to_vec(), large.clone()), Quorum::All)).await;
    let Err(PutRecordError::QuorumFailed { report, quorum, .. }) = result else { panic!("{result:?}") };
    assert_eq!(
        (quorum.get(), report.stored.as_slice(), report.refused.as_slice()),
        (2, &[b.peer_id][..], &[hub.peer_id][..])
    );
    assert_eq!(within(b.client.get(b"large")).await.unwrap().value, large);
    assert!(within(a.client.closest_peers(*b"anything")).await.unwrap().len() == 2, "both still answer");
}

#[tokio::test]
async fn providers_of_theirs_are_found_by_ours_with_addresses_and_ours_by_theirs() {
    let (carrier, version) = (Carrier::Tcp, Version::V1Lazy);
    let hub = run_theirs(carrier, version).await;
    let other = run_theirs(carrier, version).await;
    let [a, b] = [run(ours(carrier, version), carrier).await, run(ours(carrier, version), carrier).await];
    for node in [&a, &b] {
        node.client.add_address(hub.peer_id, hub.address.clone()).await.unwrap();
        within(node.client.bootstrap()).await.unwrap();
        eventually(|| hub.knows(node.peer_id)).await;
        eventually(|| knows(node, hub.peer_id)).await;
    }
    other.asks.send(Ask::Add(a.peer_id, a.address.clone())).await.ok().unwrap();
    within(async { while !other.closest(other.peer_id).await.contains(&a.peer_id) {} }).await;
    meet(&a, &b).await;
    eventually(|| knows(&b, other.peer_id)).await;
    let report = within(a.client.provide(b"of ours")).await.unwrap();
    assert!(report.sent.contains(&hub.peer_id), "{report:?}");
    eventually(|| async { hub.providers(b"of ours").await.contains(&a.peer_id) }).await;
    eventually(|| async { other.providers(b"of ours").await.contains(&a.peer_id) }).await;
    assert!(other.provide(b"of theirs").await);
    for node in [&a, &b] {
        eventually(|| async {
            let found: Vec<_> = within(node.client.providers(b"of theirs").collect()).await;
            // It announces external addresses only, of which it has none here: ours know it by identify.
            found.iter().any(|peer| peer.peer_id == other.peer_id && peer.addrs.contains(&other.address))
        })
        .await;
    }
}
