//! While hostile peers work against a node, its own calls and its lookups over honest peers take as long as without them.
//!
//! Machines that run tests are noisy: medians are compared, within one run, and the node has the same work to do in both.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::{AsyncWriteExt as _, FutureExt as _, StreamExt as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p::{PeerId, identity};
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::{Addresses, Client, Config, ConnectionType, KadPeer, Key, Mode, Precision, RecordKey};
use tokio::task::JoinHandle;

use super::streams::{PROTOCOL, read_request, respond};
use super::support::*;

/// So much longer a call or a lookup may take, by the median.
const LONGER: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// How many peers a lookup is about: with [`HONEST`] ones it can do without the hostile one.
const K: u8 = 10;
const HONEST: usize = 12;

/// A node, and the honest peers around it.
struct Stage {
    victim: Running,
    honest: Vec<Running>,
}

/// What a node's application lets it do in the meantime, for ever.
type Work = fn(Client, Arc<Vec<[u8; 8]>>) -> BoxFuture<'static, ()>;

fn idle(_: Client, _: Arc<Vec<[u8; 8]>>) -> BoxFuture<'static, ()> {
    futures::future::pending().boxed()
}

/// Searches what is nowhere, under the keys.
fn search(client: Client, keys: Arc<Vec<[u8; 8]>>) -> BoxFuture<'static, ()> {
    async move {
        for key in keys.iter().cycle() {
            let _ = client.get(RecordKey::new(key)).await;
            let _ = client.providers(RecordKey::new(key)).collect::<Vec<_>>().await;
        }
    }
    .boxed()
}

/// Looks up the keys.
fn look_up(client: Client, keys: Arc<Vec<[u8; 8]>>) -> BoxFuture<'static, ()> {
    async move {
        for key in keys.iter().cycle() {
            let _ = client.closest_peers(*key).await;
        }
    }
    .boxed()
}

/// Provides more than fits into a stream that nobody reads.
fn provide(client: Client, _: Arc<Vec<[u8; 8]>>) -> BoxFuture<'static, ()> {
    async move {
        let provide = |n: u32| {
            let client = client.clone();
            async move { drop(client.provide(RecordKey::new(&n.to_be_bytes())).await) }
        };
        futures::stream::iter(0..6000).map(provide).buffer_unordered(500).collect::<Vec<_>>().await;
    }
    .boxed()
}

fn server_over_tcp(config: &Config) -> libp2p::Swarm<Node> {
    let config = config.clone().with_bucket_size(K.try_into().unwrap());
    let mut swarm = swarm(Carrier::Tcp, Version::V1Lazy, |keypair| node(keypair, config));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    swarm
}

fn key_of(peer: PeerId) -> Key {
    Key::sha256(&peer.to_bytes())
}

impl Stage {
    async fn set(honest: usize) -> Self {
        Self::with_config(honest, &Config::default()).await
    }

    async fn with_config(honest: usize, config: &Config) -> Self {
        let victim = run(server_over_tcp(config), Carrier::Tcp).await;
        let mut all = Vec::new();
        for _ in 0..honest {
            let node = run(server_over_tcp(config), Carrier::Tcp).await;
            node.client.add_address(victim.peer_id, victim.address.clone()).await.unwrap();
            within(node.client.bootstrap()).await.unwrap();
            all.push(node);
        }
        let stage = Self { victim, honest: all };
        let enough = honest.min(usize::from(K));
        eventually(|| async { stage.victim.client.peer_count().await.unwrap() >= enough }).await;
        stage
    }

    /// Keys to which a peer is the nearest, or the farthest, of all but the node itself.
    fn keys(&self, whom: PeerId, nearest: bool) -> Arc<Vec<[u8; 8]>> {
        let others: Vec<_> = self.honest.iter().map(|node| key_of(node.peer_id)).collect();
        let own = key_of(whom);
        let fits = |bytes: &[u8; 8]| {
            let key = Key::sha256(bytes);
            let mine = key.distance(&own);
            others.iter().all(|other| (mine < key.distance(other)) == nearest)
        };
        Arc::new((0u64..).map(u64::to_be_bytes).filter(fits).take(20).collect())
    }

    /// Lets the node work, and measures its calls and its lookups of keys meanwhile; returns the medians.
    async fn medians(
        &self,
        work: Work,
        at: &Arc<Vec<[u8; 8]>>,
        targets: &[[u8; 8]],
        time: Duration,
    ) -> (Duration, Duration, Duration) {
        let working = tokio::spawn(work(self.victim.client.clone(), at.clone()));
        let client = self.victim.client.clone();
        // Calls come whether the last was answered or not: those that come while the node stands still all count.
        let calling = tokio::spawn(async move {
            let (begun, mut calls) = (Instant::now(), Vec::new());
            while begun.elapsed() < time {
                let client = client.clone();
                calls.push(tokio::spawn(async move {
                    let begun = Instant::now();
                    within(client.peer_count()).await.unwrap();
                    begun.elapsed()
                }));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        });
        let (begun, mut lookups) = (Instant::now(), Vec::new());
        for target in targets.iter().cycle() {
            if begun.elapsed() > time && lookups.len() >= 5 {
                break;
            }
            let one = Instant::now();
            let found = within(self.victim.client.lookup(*target, Precision::Exact)).await.unwrap();
            assert!(found.peers.len() >= self.honest.len().min(usize::from(K)), "{found:?}");
            lookups.push(one.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let calls = calling.await.unwrap();
        working.abort();
        let longest = calls.iter().copied().max().unwrap_or_default();
        (median(calls), median(lookups), longest)
    }

    /// Measures without a hostile peer and with it.
    async fn is_untroubled_by(
        &self,
        work: Work,
        hostile: impl AsyncFnOnce(&Running) -> Hostile,
        time: Duration,
    ) {
        let nobody = PeerId::random();
        let (at, targets) = (self.keys(nobody, true), self.keys(nobody, false));
        let before = self.medians(work, &at, &targets, 2 * SECOND).await;
        let hostile = hostile(&self.victim).await;
        let (at, targets) = (self.keys(hostile.peer_id, true), self.keys(hostile.peer_id, false));
        let during = self.medians(work, &at, &targets, time).await;
        assert!(hostile.acts.load(Ordering::Relaxed) > 0, "the hostile peer has done nothing");
        assert!(during.0 <= before.0 + LONGER, "calls took {:?}, then {:?}", before.0, during.0);
        assert!(during.1 <= before.1 + LONGER, "lookups took {:?}, then {:?}", before.1, during.1);
        assert!(during.2 <= before.2 + SECOND, "a call took {:?} at most, then {:?}", before.2, during.2);
        assert_quiet();
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Who works against it. It stops when this is dropped.
struct Hostile {
    peer_id: PeerId,
    acts: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Hostile {
    fn new(peer_id: PeerId) -> Self {
        Self { peer_id, acts: Arc::default(), tasks: Vec::new() }
    }
}

/// What a peer that is in the table does when it is asked.
#[derive(Clone)]
enum Manner {
    /// Names these, so much later.
    Names(Duration, Vec<KadPeer>),
    /// Does not read a stream any more on which something is announced.
    DeafToAnnouncements,
}

/// Runs a peer that answers in some manner, and makes it known to the node.
async fn asked(victim: &Running, manner: Manner) -> Hostile {
    let raw = loop {
        let raw = run_raw(Carrier::Tcp, Version::V1Lazy, None).await;
        // In the farthest bucket there might be no room for it.
        if key_of(raw.peer_id).common_prefix(&key_of(victim.peer_id)) > 0 {
            break raw;
        }
    };
    let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
    let mut hostile = Hostile::new(raw.peer_id);
    let acts = hostile.acts.clone();
    hostile.tasks.push(tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(serve(stream, manner.clone(), acts.clone()));
        }
    }));
    victim.client.add_address(raw.peer_id, raw.address.clone()).await.unwrap();
    eventually(|| knows(victim, raw.peer_id)).await;
    hostile.acts.store(0, Ordering::Relaxed);
    hostile
}

async fn serve(mut stream: Stream, manner: Manner, acts: Arc<AtomicUsize>) {
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let closer_peers = match &manner {
            Manner::Names(late, peers) => {
                acts.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(*late).await;
                peers.clone()
            }
            Manner::DeafToAnnouncements => Vec::new(),
        };
        let response = match request {
            Request::FindNode { .. } => Response::FindNode { closer_peers },
            Request::GetValue { key } => Response::GetValue { key: Some(key), record: None, closer_peers },
            Request::GetProviders { key } => {
                Response::GetProviders { key: Some(key), provider_peers: vec![], closer_peers }
            }
            Request::AddProvider { .. } => {
                acts.fetch_add(1, Ordering::Relaxed);
                return futures::future::pending().await;
            }
            _ => Response::Pong,
        };
        if respond(&mut stream, &response).await.is_err() {
            return;
        }
    }
}

/// Twenty peers that nobody has met, each at so many addresses of a place that takes connections and says nothing.
fn made_up(addresses: u8, place: &TcpListener) -> Vec<KadPeer> {
    let port = place.local_addr().unwrap().port();
    let one = |n: u8| {
        let peer = identity::Keypair::generate_ed25519().public().to_peer_id();
        let addresses =
            (0..addresses).map(|at| format!("/ip4/127.1.{n}.{}/tcp/{port}", at + 1).parse().unwrap());
        let multiaddrs = Addresses::collect(&peer, addresses);
        KadPeer { node_id: peer, multiaddrs, connection_ty: ConnectionType::CanConnect }
    };
    (0..20).map(one).collect()
}

fn silent_place() -> TcpListener {
    TcpListener::bind("0.0.0.0:0").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_one_that_answers_late_and_names_nobodies() {
    let (stage, nowhere) = (Stage::set(HONEST).await, silent_place());
    let late = Duration::from_millis(1500);
    let manner = Manner::Names(late, made_up(1, &nowhere));
    stage.is_untroubled_by(search, async |victim| asked(victim, manner).await, 8 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_one_that_names_sixteen_addresses_for_each_of_twenty_made_up_peers() {
    let (stage, nowhere) = (Stage::set(HONEST).await, silent_place());
    let manner = Manner::Names(Duration::ZERO, made_up(16, &nowhere));
    stage.is_untroubled_by(look_up, async |victim| asked(victim, manner).await, 4 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_one_that_does_not_read_announcements() {
    // Of few peers, so that much is announced to each.
    let config = Config::default().with_stream_timeout(3 * SECOND).unwrap();
    let stage = Stage::with_config(2, &config).await;
    // Longer than a stream may stand still, and than what is cancelled lasts.
    stage
        .is_untroubled_by(
            provide,
            async |victim| asked(victim, Manner::DeafToAnnouncements).await,
            5 * SECOND,
        )
        .await;
}

/// Opens streams to the node, writes the same on each, and reads nothing.
async fn unread(victim: &Running, connections: usize, bytes: Vec<u8>, every: Duration) -> Hostile {
    let mut hostile = Hostile::new(PeerId::random());
    for _ in 0..connections {
        let raw = run_raw(Carrier::Tcp, Version::V1Lazy, Some(victim)).await;
        let (mut control, bytes, acts) = (raw.control.clone(), bytes.clone(), hostile.acts.clone());
        let victim = victim.peer_id;
        hostile.tasks.push(tokio::spawn(async move {
            let mut held = VecDeque::new();
            loop {
                if let Ok(mut stream) = control.open_stream(victim, PROTOCOL).await {
                    let _ = tokio::time::timeout(SECOND, stream.write_all(&bytes)).await;
                    let _ = tokio::time::timeout(SECOND, stream.flush()).await;
                    acts.fetch_add(1, Ordering::Relaxed);
                    held.push_back(stream);
                }
                if held.len() > 32 {
                    held.pop_front();
                }
                tokio::time::sleep(every).await;
            }
        }));
    }
    hostile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_half_requests() {
    let stage = Stage::set(HONEST).await;
    // A message of 128 KiB, of which a few bytes come.
    let half = vec![0x80, 0x80, 0x08, 0x08, 4, 0x12, 0xf0, 0xff, 0x07];
    stage.is_untroubled_by(idle, async |victim| unread(victim, 1, half, SECOND / 50).await, 4 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_twenty_connections_that_never_read() {
    let stage = Stage::set(HONEST).await;
    let mut request = BytesMut::new();
    let find = Request::FindNode { key: stage.victim.peer_id.to_bytes().into() };
    libp2p_kademlia::wire::encode_request(&find, &mut request);
    let flood = request.repeat(100);
    stage
        .is_untroubled_by(idle, async |victim| unread(victim, 20, flood, SECOND / 5).await, 4 * SECOND)
        .await;
}

/// Connects to the node and leaves again, as fast as it can.
async fn restless(victim: &Running) -> Hostile {
    let mut swarm = swarm(Carrier::Tcp, Version::V1Lazy, raw);
    let mut hostile = Hostile::new(*swarm.local_peer_id());
    let (acts, peer, address) = (hostile.acts.clone(), victim.peer_id, victim.address.clone());
    hostile.tasks.push(tokio::spawn(async move {
        loop {
            swarm.dial(address.clone()).unwrap();
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => break,
                    SwarmEvent::OutgoingConnectionError { .. } => break,
                    _ => {}
                }
            }
            acts.fetch_add(1, Ordering::Relaxed);
            let _ = swarm.disconnect_peer_id(peer);
        }
    }));
    hostile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_one_that_connects_anew_all_the_time() {
    let stage = Stage::set(HONEST).await;
    stage.is_untroubled_by(idle, restless, 4 * SECOND).await;
}

/// Peers that connect, speak the protocol and answer nothing.
async fn silent_strangers(victim: &Running) -> Hostile {
    let mut hostile = Hostile::new(PeerId::random());
    for _ in 0..40 {
        let raw = run_raw(Carrier::Tcp, Version::V1Lazy, Some(victim)).await;
        let mut incoming = raw.control.clone().accept(PROTOCOL).unwrap();
        let acts = hostile.acts.clone();
        hostile.tasks.push(tokio::spawn(async move {
            let mut held = Vec::new();
            while let Some((_, stream)) = incoming.next().await {
                acts.fetch_add(1, Ordering::Relaxed);
                held.push(stream);
            }
        }));
    }
    hostile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_strangers_that_connect_and_are_silent() {
    let stage = Stage::set(HONEST).await;
    stage.is_untroubled_by(idle, silent_strangers, 4 * SECOND).await;
}
