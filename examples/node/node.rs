//! The node itself: the swarm, and the task in which it runs.

use std::collections::HashSet;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError, identify, noise, tcp, yamux};
use libp2p_kademlia::store::RecordStore;
use libp2p_kademlia::{Behaviour, Client, Config, Event, Mode};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::{Error, hex, place};

/// Kademlia, and identify beside it: that is all the wiring.
#[derive(NetworkBehaviour)]
struct Node<S: RecordStore + Send + 'static> {
    kademlia: Behaviour<S>,
    identify: identify::Behaviour,
}

/// A node whose swarm runs in a task of its own.
pub(crate) struct Running {
    pub(crate) client: Client,
    /// Where it listens.
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends the swarm, and with it the store, and waits until both are gone.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        // An error says that the task has ended by itself.
        let _ = self.task.await;
    }
}

/// Starts a node, and returns it when it listens.
pub(crate) async fn start<S: RecordStore + Send + 'static>(
    keypair: Keypair,
    config: Config,
    store: S,
    listen: &[Multiaddr],
) -> Result<Running, Error> {
    let mut swarm = swarm(keypair, config, store)?;
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let (tell, addresses) = watch::channel(Vec::new());
    let mut silent = HashSet::new();
    for address in listen {
        match swarm.listen_on(address.clone()) {
            Ok(listener) => silent.insert(listener),
            Err(TransportError::Other(error)) => {
                return Err(format!("cannot listen on {address}: {error}").into());
            }
            Err(error) => return Err(format!("cannot listen: {error}").into()),
        };
    }
    // Every listener has told an address, and those that tell several have told all.
    loop {
        let event = if silent.is_empty() {
            swarm.select_next_some().now_or_never()
        } else {
            Some(swarm.select_next_some().await)
        };
        let Some(event) = event else {
            break;
        };
        match &event {
            SwarmEvent::NewListenAddr { listener_id, .. } => {
                silent.remove(listener_id);
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. }
            | SwarmEvent::ListenerError { error, .. } => {
                return Err(format!("cannot listen: {error}").into());
            }
            _ => {}
        }
        note(*swarm.local_peer_id(), &event, &tell);
    }
    let client = swarm.behaviour().kademlia.client();
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => note(*swarm.local_peer_id(), &event, &tell),
                _ = &mut stopped => break,
            }
        }
    });
    Ok(Running { client, addresses, stop, task })
}

fn swarm<S: RecordStore + Send + 'static>(
    keypair: Keypair,
    config: Config,
    store: S,
) -> Result<Swarm<Node<S>>, Error> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let peer_id = keypair.public().to_peer_id();
            let identify = identify::Config::new("/node/1.0.0".into(), keypair.public());
            Node {
                kademlia: Behaviour::with_config(peer_id, store, config),
                identify: identify::Behaviour::new(identify),
            }
        })?
        // The first request on a connection takes one round trip instead of two.
        .with_swarm_config(|config| config.with_substream_upgrade_protocol_override(Version::V1Lazy));
    Ok(swarm.build())
}

/// Takes note of what the swarm says.
fn note<S: RecordStore + Send + 'static>(
    local: PeerId,
    event: &SwarmEvent<NodeEvent<S>>,
    addresses: &watch::Sender<Vec<Multiaddr>>,
) {
    match event {
        SwarmEvent::NewListenAddr { address, .. } => {
            let [mut ip, mut port] = [String::new(), String::new()];
            for part in address {
                match part {
                    Protocol::Ip4(v4) => ip = v4.to_string(),
                    Protocol::Ip6(v6) => ip = v6.to_string(),
                    Protocol::Tcp(tcp) => port = format!("{tcp}/tcp"),
                    _ => {}
                }
            }
            tracing::info!(ip, port, key = hex(place(&local).as_bytes()), id = %local, "listening");
            addresses.send_modify(|addresses| addresses.push(address.clone()));
        }
        SwarmEvent::ExpiredListenAddr { address, .. } => {
            tracing::info!(%address, "no longer listening");
            addresses.send_modify(|addresses| addresses.retain(|known| known != address));
        }
        SwarmEvent::Behaviour(NodeEvent::Kademlia(Event::RoutingUpdated {
            peer, is_new_peer: true, ..
        })) => {
            tracing::info!(%peer, "a peer has entered the table");
        }
        SwarmEvent::Behaviour(NodeEvent::Kademlia(event)) => tracing::debug!(?event),
        _ => {}
    }
}

/// Orders addresses by how well they suit a user who starts another node: least first. It is likely on this machine.
pub(crate) fn paste_first(address: &Multiaddr) -> (bool, bool) {
    let is_elsewhere = !address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    });
    (is_elsewhere, !address.iter().any(|part| matches!(part, Protocol::Tcp(_))))
}
