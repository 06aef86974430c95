//! The node: Kademlia to find others by, gossipsub to talk to them, and the connections to those who were found.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError, identify, noise, ping, tcp, yamux};
use libp2p_gossipsub::{
    self as gossipsub, IdentTopic, IdentityTransform, MessageAuthenticity, WhitelistSubscriptionFilter,
};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{Behaviour, Mode};
use {libp2p_mdns as mdns, libp2p_quic as quic};

use crate::Error;

/// How many peers are dialled, and dialled again, because they were found.
const MAX_FOUND: usize = 256;

/// How often a peer is dialled in vain: an advertisement outlives those who do not take it back.
const MAX_TRIES: u32 = 4;

#[derive(NetworkBehaviour)]
pub(crate) struct Node {
    pub(crate) kademlia: Behaviour,
    pub(crate) gossipsub: gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    identify: identify::Behaviour,
    // JavaScript peers take only those who answer it into their tables.
    ping: ping::Behaviour,
}

/// Starts a node in a topic, and returns it with its addresses when it listens.
///
/// # Errors
/// An address to listen on is not to be had.
pub(crate) async fn start(
    keypair: Keypair,
    topic: &IdentTopic,
    mdns: bool,
    listen: &[Multiaddr],
) -> Result<(Swarm<Node>, Vec<Multiaddr>), Error> {
    let mut swarm = swarm(keypair, topic, mdns)?;
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    swarm.behaviour_mut().gossipsub.subscribe(topic)?;
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
    let mut addresses = Vec::new();
    // Every listener has told an address, and those that tell several have told all.
    loop {
        let event = if silent.is_empty() {
            swarm.select_next_some().now_or_never()
        } else {
            Some(swarm.select_next_some().await)
        };
        match event {
            Some(SwarmEvent::NewListenAddr { listener_id, address }) => {
                silent.remove(&listener_id);
                addresses.push(address);
            }
            Some(
                SwarmEvent::ListenerClosed { reason: Err(error), .. }
                | SwarmEvent::ListenerError { error, .. },
            ) => return Err(format!("cannot listen: {error}").into()),
            Some(_) => {}
            None => return Ok((swarm, addresses)),
        }
    }
}

fn swarm(keypair: Keypair, topic: &IdentTopic, mdns: bool) -> Result<Swarm<Node>, Error> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_other_transport(|keypair| quic::tokio::Transport::new(quic::Config::new(keypair)))?
        .with_behaviour(|keypair| {
            let peer_id = keypair.public().to_peer_id();
            let identify = identify::Config::new("/chat/1.0.0".into(), keypair.public());
            let mdns = mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), peer_id));
            Ok(Node {
                kademlia: Behaviour::new(peer_id, MemoryStore::new(peer_id)),
                gossipsub: gossipsub(keypair.clone(), topic)?,
                mdns: mdns.transpose()?.into(),
                identify: identify::Behaviour::new(identify),
                ping: ping::Behaviour::new(ping::Config::new()),
            })
        })?
        // The first request on a connection takes one round trip instead of two.
        .with_swarm_config(|config| {
            config
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
                // Gossipsub keeps only some of the connections in a large room; the others are no burden for a while.
                .with_idle_connection_timeout(Duration::from_secs(60))
        });
    Ok(swarm.build())
}

fn gossipsub(
    keypair: Keypair,
    topic: &IdentTopic,
) -> Result<gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>, Error> {
    let config = gossipsub::ConfigBuilder::default()
        // What is no message of this program is not handed on.
        .validate_messages()
        .heartbeat_initial_delay(Duration::from_secs(1))
        .build()?;
    // Nobody can fill the memory with names of other topics.
    let only = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
    Ok(gossipsub::Behaviour::new_with_subscription_filter(
        MessageAuthenticity::Signed(keypair),
        config,
        only,
    )?)
}

/// The peers that were found, and when each is to be dialled.
#[derive(Default)]
pub(crate) struct Found {
    peers: HashMap<PeerId, Dial>,
}

struct Dial {
    addresses: Vec<Multiaddr>,
    failures: u32,
    /// `None` while it is connected, or dialled.
    due: Option<Instant>,
}

impl Found {
    pub(crate) fn add(&mut self, now: Instant, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.peers.len() < MAX_FOUND || self.peers.contains_key(&peer) {
            self.peers.insert(peer, Dial { addresses, failures: 0, due: Some(now) });
        }
    }

    /// Dials a peer anew whose connection has been lost.
    pub(crate) fn lost(&mut self, now: Instant, peer: PeerId) {
        let addresses = self.peers.remove(&peer).map(|dial| dial.addresses).unwrap_or_default();
        self.add(now, peer, addresses);
    }

    /// Dials a peer once more after a while, a few times.
    pub(crate) fn failed(&mut self, now: Instant, peer: &PeerId) {
        let Some(dial) = self.peers.get_mut(peer) else { return };
        dial.failures += 1;
        if dial.failures == MAX_TRIES {
            self.peers.remove(peer);
        } else {
            dial.due = Some(now + Duration::from_secs(1 << dial.failures));
        }
    }

    /// Dials whose time has come.
    pub(crate) fn dial(&mut self, now: Instant, swarm: &mut Swarm<Node>) {
        let due = self.peers.iter_mut().filter(|(_, dial)| dial.due.is_some_and(|at| at <= now));
        for (peer, dial) in due {
            dial.due = None;
            if swarm.is_connected(peer) {
                continue;
            }
            let addresses = dial.addresses.clone();
            // Kademlia may have heard of others since.
            let options = DialOpts::peer_id(*peer).addresses(addresses).extend_addresses_through_behaviour();
            if let Err(error) = swarm.dial(options.build()) {
                // It is dialled already, by somebody else; or the swarm tells the failure by an event, too.
                tracing::debug!(%peer, %error, "not dialled");
            }
        }
    }
}
