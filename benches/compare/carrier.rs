//! What carries the bytes, and swarms over it.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{Config as SwarmConfig, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identity, noise, tcp, yamux};

/// What carries the bytes; yamux over it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Channels within the process, nothing encrypted.
    Memory,
    /// TCP on the loopback interface, and Noise.
    Tcp,
}

/// A connection that nobody uses stays open for so long: longer than any row takes.
const IDLE: Duration = Duration::from_secs(600);

impl Carrier {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Tcp];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Tcp => "TCP",
        }
    }

    fn any(self) -> Multiaddr {
        let address = match self {
            Self::Memory => "/memory/0",
            Self::Tcp => "/ip4/127.0.0.1/tcp/0",
        };
        address.parse().unwrap()
    }

    /// Returns an address at which nobody is, one for each number: to dial it fails at once. All have the same length.
    pub(crate) fn nowhere(self, n: u32) -> Multiaddr {
        let (first, port) = match self {
            // This transport dials none of IP at all.
            Self::Memory => (10, 4001),
            // Nobody listens there.
            Self::Tcp => (127, 1),
        };
        format!("/ip4/{first}.{}.{}.{}/tcp/{port}", n >> 16 & 255, n >> 8 & 255, n & 255).parse().unwrap()
    }

    fn transport(self, keypair: &identity::Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
        match self {
            Self::Memory => MemoryTransport::new()
                .upgrade(Version::V1Lazy)
                .authenticate(libp2p_plaintext::Config::new(keypair))
                .multiplex(yamux::Config::default())
                .boxed(),
            Self::Tcp => tcp::tokio::Transport::new(tcp::Config::default())
                .upgrade(Version::V1Lazy)
                .authenticate(noise::Config::new(keypair).unwrap())
                .multiplex(yamux::Config::default())
                .boxed(),
        }
    }
}

/// Makes a swarm. Has to be called within a runtime, which will run its connections.
pub(crate) fn swarm<B: NetworkBehaviour>(
    carrier: Carrier,
    keypair: &identity::Keypair,
    behaviour: B,
) -> Swarm<B> {
    let config = SwarmConfig::with_tokio_executor()
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_idle_connection_timeout(IDLE);
    Swarm::new(carrier.transport(keypair), behaviour, keypair.public().to_peer_id(), config)
}

/// Makes a swarm listen, and returns where.
pub(crate) async fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>, carrier: Carrier) -> Multiaddr {
    swarm.listen_on(carrier.any()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

/// Runs a swarm for ever.
pub(crate) async fn run<B: NetworkBehaviour>(swarm: &mut Swarm<B>) {
    loop {
        swarm.select_next_some().await;
    }
}
