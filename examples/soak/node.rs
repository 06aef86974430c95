//! Honest nodes: how they are set up and where they say they are.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{Config, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, identity, noise, tcp, yamux};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{Behaviour, Client, Key, Mode};
use libp2p_quic as quic;
use tokio::sync::mpsc;

use super::Error;
use super::proxy::Proxy;

/// Kademlia, and identify beside it.
#[derive(NetworkBehaviour)]
struct Node {
    kademlia: Behaviour,
    identify: identify::Behaviour,
}

/// How often the tasks of honest nodes and of their connections were polled.
static POLLS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn polls() -> u64 {
    POLLS.load(Ordering::Relaxed)
}

/// Spawns a task of an honest node, whose polls are counted.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        let mut task = pin!(task);
        poll_fn(|cx| {
            POLLS.fetch_add(1, Ordering::Relaxed);
            task.as_mut().poll(cx)
        })
        .await;
    });
}

/// A node whose swarm runs in a task of its own.
pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) peer_id: PeerId,
    pub(crate) key: Key,
    /// Where it says that it is: at its proxy, if it has one.
    pub(crate) address: Multiaddr,
    pub(crate) proxy: Option<Proxy>,
    dials: mpsc::Sender<(PeerId, Multiaddr)>,
}

impl Running {
    /// Starts a node that listens on TCP behind a proxy, or on QUIC, and is told to nobody yet.
    pub(crate) async fn start(keypair: identity::Keypair, quic: bool) -> Result<Self, Error> {
        let mut swarm = swarm(keypair)?;
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        let listen = if quic { "/ip4/127.0.0.1/udp/0/quic-v1" } else { "/ip4/127.0.0.1/tcp/0" };
        swarm.listen_on(listen.parse()?)?;
        let own = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (address, proxy) = if let Some(socket) = socket(&own) {
            let proxy = Proxy::before(socket).await?;
            (format!("/ip4/127.0.0.1/tcp/{}", proxy.address.port()).parse()?, Some(proxy))
        } else {
            (own, None)
        };
        swarm.add_external_address(address.clone());
        let (client, peer_id) = (swarm.behaviour().kademlia.client(), *swarm.local_peer_id());
        let (dials, mut ordered) = mpsc::channel(16);
        spawn(async move {
            loop {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    Some((peer, address)) = ordered.recv() => {
                        let options = DialOpts::peer_id(peer).condition(PeerCondition::Always);
                        // A dial that is refused is one connection less.
                        let _ = swarm.dial(options.addresses(vec![address]).build());
                    }
                }
            }
        });
        let key = Key::sha256(&peer_id.to_bytes());
        Ok(Self { client, peer_id, key, address, proxy, dials })
    }

    /// Dials another, be it connected or not.
    pub(crate) fn dial(&self, other: &Self) {
        let _ = self.dials.try_send((other.peer_id, other.address.clone()));
    }
}

fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => Some((ip, port).into()),
        _ => None,
    }
}

fn swarm(keypair: identity::Keypair) -> Result<Swarm<Node>, Error> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_other_transport(|keypair| quic::tokio::Transport::new(quic::Config::new(keypair)))?
        .with_behaviour(|keypair| {
            let peer_id = keypair.public().to_peer_id();
            // Only the proxy is told to others.
            let identify =
                identify::Config::new("/soak/1.0.0".into(), keypair.public()).with_hide_listen_addrs(true);
            Node {
                kademlia: Behaviour::new(peer_id, MemoryStore::new(peer_id)),
                identify: identify::Behaviour::new(identify),
            }
        })?
        .with_swarm_config(|_| {
            Config::with_executor(|task: Pin<Box<dyn Future<Output = ()> + Send>>| spawn(task))
                .with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy)
        });
    Ok(swarm.build())
}
