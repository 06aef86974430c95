//! Swarms for tests: how they are built, run and waited for.

use std::future::Future;
use std::sync::{Mutex, Once};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{Config as SwarmConfig, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, identity, noise, tcp, yamux};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{Behaviour, Client, Config, Event, Mode};
use tracing::Level;

/// The protocol under test and identify, as an application has them.
#[derive(NetworkBehaviour)]
pub(crate) struct Node {
    pub(crate) kademlia: Behaviour,
    pub(crate) identify: identify::Behaviour,
}

/// A peer whose streams a test writes by hand.
#[derive(NetworkBehaviour)]
pub(crate) struct Raw {
    pub(crate) stream: libp2p_stream::Behaviour,
    pub(crate) identify: identify::Behaviour,
}

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Memory,
    Tcp,
    Quic,
}

impl Carrier {
    pub(crate) fn listen(self) -> Multiaddr {
        let address = match self {
            Self::Memory => "/memory/0",
            Self::Tcp => "/ip4/127.0.0.1/tcp/0",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        };
        address.parse().unwrap()
    }
}

pub(crate) fn identify(keypair: &identity::Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new("/test/1.0.0".into(), keypair.public()))
}

pub(crate) fn node(keypair: &identity::Keypair, config: Config) -> Node {
    let peer_id = keypair.public().to_peer_id();
    Node {
        kademlia: Behaviour::with_config(peer_id, MemoryStore::new(peer_id), config),
        identify: identify(keypair),
    }
}

pub(crate) fn raw(keypair: &identity::Keypair) -> Raw {
    Raw { stream: libp2p_stream::Behaviour::new(), identify: identify(keypair) }
}

/// A connection that is kept open by nobody closes after this time.
const IDLE: Duration = Duration::from_secs(30);

/// QUIC, which the facade would bring with a feature that everybody's first build would pay for.
pub(crate) fn quic(keypair: &identity::Keypair) -> libp2p_quic::tokio::Transport {
    libp2p_quic::tokio::Transport::new(libp2p_quic::Config::new(keypair))
}

/// Builds a swarm over the carrier.
pub(crate) fn swarm<B: NetworkBehaviour>(
    carrier: Carrier,
    version: Version,
    behaviour: impl FnOnce(&identity::Keypair) -> B,
) -> Swarm<B> {
    swarm_with_idle(carrier, version, IDLE, behaviour)
}

/// Builds a swarm that closes connections which nobody keeps after the given time.
pub(crate) fn swarm_with_idle<B: NetworkBehaviour>(
    carrier: Carrier,
    version: Version,
    idle: Duration,
    behaviour: impl FnOnce(&identity::Keypair) -> B,
) -> Swarm<B> {
    log();
    let keypair = identity::Keypair::generate_ed25519();
    let settings = |config: SwarmConfig| {
        config.with_substream_upgrade_protocol_override(version).with_idle_connection_timeout(idle)
    };
    match carrier {
        Carrier::Memory => {
            let transport = MemoryTransport::new()
                .upgrade(Version::V1)
                .authenticate(libp2p_plaintext::Config::new(&keypair))
                .multiplex(yamux::Config::default())
                .boxed();
            let config = settings(SwarmConfig::with_tokio_executor());
            let peer_id = keypair.public().to_peer_id();
            Swarm::new(transport, behaviour(&keypair), peer_id, config)
        }
        Carrier::Tcp | Carrier::Quic => SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_other_transport(quic)
            .unwrap()
            .with_behaviour(behaviour)
            .unwrap()
            .with_swarm_config(settings)
            .build(),
    }
}

/// A server node over memory that negotiates lazily.
pub(crate) fn server() -> Swarm<Node> {
    server_over(Carrier::Memory)
}

/// Builds one over a transport.
pub(crate) fn server_over(carrier: Carrier) -> Swarm<Node> {
    let mut swarm = swarm(carrier, Version::V1Lazy, |keypair| node(keypair, Config::default()));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    swarm
}

/// Makes a swarm listen, and returns where.
pub(crate) async fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>, carrier: Carrier) -> Multiaddr {
    swarm.listen_on(carrier.listen()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

/// A node that runs in a task of its own.
pub(crate) struct Running {
    pub(crate) peer_id: PeerId,
    pub(crate) address: Multiaddr,
    pub(crate) client: Client,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Ends the node, its connections included.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Runs a node, and hands its events to `on_event`.
pub(crate) async fn run_with(
    mut swarm: Swarm<Node>,
    carrier: Carrier,
    mut on_event: impl FnMut(SwarmEvent<NodeEvent>) + Send + 'static,
) -> Running {
    let address = listen(&mut swarm, carrier).await;
    let (peer_id, client) = (*swarm.local_peer_id(), swarm.behaviour().kademlia.client());
    let task = tokio::spawn(async move {
        loop {
            on_event(swarm.select_next_some().await);
        }
    });
    Running { peer_id, address, client, task }
}

pub(crate) async fn run(swarm: Swarm<Node>, carrier: Carrier) -> Running {
    run_with(swarm, carrier, drop).await
}

/// A peer whose streams a test writes by hand, running in a task of its own.
pub(crate) struct RunningRaw {
    pub(crate) peer_id: PeerId,
    pub(crate) address: Multiaddr,
    pub(crate) control: libp2p_stream::Control,
}

/// Runs such a peer, and connects it if an address is given.
pub(crate) async fn run_raw(carrier: Carrier, version: Version, dial: Option<&Running>) -> RunningRaw {
    let mut swarm = swarm(carrier, version, raw);
    let address = listen(&mut swarm, carrier).await;
    let (peer_id, control) = (*swarm.local_peer_id(), swarm.behaviour().stream.new_control());
    if let Some(node) = dial {
        swarm.dial(node.address.clone()).unwrap();
        while !swarm.is_connected(&node.peer_id) {
            swarm.select_next_some().await;
        }
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    RunningRaw { peer_id, address, control }
}

/// Waits for a future, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing happened for a minute"),
    }
}

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    within(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) async fn knows(node: &Running, peer: PeerId) -> bool {
    let table = node.client.routing_table().await.unwrap();
    table.peers().any(|entry| entry.peer == peer)
}

/// Waits until each of the nodes has the other in its table.
pub(crate) async fn meet(a: &Running, b: &Running) {
    for (node, other) in [(a, b), (b, a)] {
        eventually(|| knows(node, other.peer_id)).await;
    }
}

/// Makes a node join through another, and waits until they know each other.
pub(crate) async fn join(node: &Running, through: &Running) {
    node.client.add_address(through.peer_id, through.address.clone()).await.unwrap();
    within(node.client.bootstrap()).await.unwrap();
    meet(node, through).await;
}

/// Runs a swarm until the predicate picks one of its events of Kademlia.
pub(crate) async fn until<T>(swarm: &mut Swarm<Node>, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    within(async {
        loop {
            if let SwarmEvent::Behaviour(NodeEvent::Kademlia(event)) = swarm.select_next_some().await
                && let Some(picked) = pick(event)
            {
                return picked;
            }
        }
    })
    .await
}

/// What this crate has logged above `debug`, which no peer may bring about.
static LOUD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Ear;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Ear {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let metadata = event.metadata();
        // What is said of the program's own set-up is said once, and some tests set nodes up wrongly.
        let is_advice = metadata.target() == "libp2p_kademlia::dht::advice";
        let is_ours = metadata.target().starts_with("libp2p_kademlia") && !is_advice;
        if is_ours && *metadata.level() < Level::DEBUG {
            LOUD.lock().unwrap().push(format!("{metadata:?}"));
        }
    }
}

fn log() {
    use tracing_subscriber::prelude::*;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let said = std::env::var("RUST_LOG").ok().and_then(|said| said.parse().ok());
        let filter: tracing_subscriber::filter::Targets = said.unwrap_or_default();
        let print = tracing_subscriber::fmt::layer().with_test_writer().with_filter(filter);
        tracing_subscriber::registry().with(Ear).with(print).init();
    });
}

/// Fails if this crate has logged anything above `debug`.
pub(crate) fn assert_quiet() {
    assert_eq!(*LOUD.lock().unwrap(), Vec::<String>::new());
}
