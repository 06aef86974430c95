//! A node as a process that speaks the JSON protocol of the interop matrix, so that any runner can drive it.
//!
//! One JSON object per line: commands on stdin, answers on stdout. `tests/interop/README.md` says which commands there are;
//! `tests/interop/run` starts such nodes beside those of other implementations.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an application: it ignores the events it does not care for"
)]

#[path = "peer/protocol.rs"]
mod protocol;

use std::cmp::Ordering;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser as _;
use futures::StreamExt as _;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::validate::{InvalidRecord, Validator};
use libp2p_kademlia::{
    AddProviderError, Behaviour, Client, Config, FindPeerError, GetClosestPeersError, GetRecordError, Mode,
    PeerInfo, PutRecordError, PutReport, QueryError, RecordKey,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use protocol::{Command, Options, hex, named};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Kademlia, identify beside it, and ping, without which js lets nobody into its table.
#[derive(NetworkBehaviour)]
struct Ours {
    kademlia: Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Takes any value; the bytewise greatest is the best.
struct Greatest;

impl Validator for Greatest {
    fn validate(&self, _: SystemTime, _: &RecordKey, _: &[u8]) -> Result<(), InvalidRecord> {
        Ok(())
    }

    fn compare(&self, _: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }
}

/// Something to be done where the swarm is: what is not the DHT's own business.
enum Ask {
    Connections(oneshot::Sender<Vec<PeerId>>),
    Disconnect(PeerId, oneshot::Sender<()>),
}

/// A way to the node, whose swarm runs in a task of its own.
#[derive(Clone)]
struct Node {
    client: Client,
    asks: mpsc::Sender<Ask>,
}

impl protocol::Node for Node {
    async fn obey(&self, command: Command) -> Result<Value, String> {
        let client = &self.client;
        match command {
            Command::Connect(address) => {
                let peer = client.connect(address).await.map_err(told)?;
                Ok(json!({ "peerId": peer.to_base58() }))
            }
            Command::Disconnect(peer) => {
                self.ask(|reply| Ask::Disconnect(peer, reply)).await?;
                Ok(json!({}))
            }
            Command::Connections => {
                let peers = self.ask(Ask::Connections).await?;
                let peers: Vec<_> = peers.into_iter().map(PeerId::to_base58).collect();
                Ok(json!({ "peers": peers }))
            }
            Command::FindPeer { peer, network } => self.find_peer(peer, network).await,
            Command::ClosestPeers { key } => match client.closest_peers(key).await {
                Ok(peers) => Ok(json!({ "peers": all(&peers), "errors": [] })),
                Err(GetClosestPeersError::Query { cause: QueryError::Timeout, peers, .. })
                    if !peers.is_empty() =>
                {
                    Ok(json!({ "peers": all(&peers), "errors": ["the query timed out"] }))
                }
                Err(error) => Err(told(error)),
            },
            Command::Put { key, value } => self.put(key, value).await,
            Command::Get { key } => self.get(key).await,
            Command::Provide { multihash } => self.provide(multihash).await,
            Command::FindProviders { multihash, count } => self.find_providers(multihash, count).await,
            Command::Table => {
                let table = client.routing_table().await.map_err(told)?;
                let peers: Vec<_> = table.peers().map(|entry| entry.peer.to_base58()).collect();
                Ok(json!({ "peers": peers }))
            }
            Command::TableSize => Ok(json!({ "size": client.peer_count().await.map_err(told)? })),
            Command::SetMode(mode) => {
                client.set_mode(Some(kademlia_mode(mode))).await.map_err(told)?;
                Ok(json!({}))
            }
            Command::Other(call) => Err(protocol::unknown(&call)),
        }
    }
}

impl Node {
    /// Does something where the swarm is, and returns its result.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| "the swarm is gone")?;
        answer.await.map_err(|_| "the swarm is gone".to_owned())
    }

    async fn find_peer(&self, peer: PeerId, network: bool) -> Result<Value, String> {
        if !network {
            let table = self.client.routing_table().await.map_err(told)?;
            let known = table.peers().find(|entry| entry.peer == peer);
            if let Some(entry) = known.filter(|entry| !entry.addresses.is_empty()) {
                return Ok(named(&peer, &entry.addresses));
            }
        }
        match self.client.find_peer(peer).await {
            Ok(found) => Ok(named(&found.peer_id, &found.addrs)),
            Err(FindPeerError::NotFound { .. } | FindPeerError::NoAnswer { .. }) => {
                Err("not found".to_owned())
            }
            Err(error) => Err(told(error)),
        }
    }

    async fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<Value, String> {
        let (report, error) = match self.client.put(key, value).await {
            Ok(report) => (report, None),
            Err(error) => match &error {
                PutRecordError::QuorumFailed { report, .. }
                | PutRecordError::Query { cause: QueryError::Timeout, report, .. } => {
                    ((**report).clone(), Some(error.to_string()))
                }
                _ => return Err(told(error)),
            },
        };
        let PutReport { stored, refused, failed, .. } = &report;
        let mut errors = Vec::from_iter(error);
        errors.extend(refused.iter().map(|peer| format!("{peer} has refused it")));
        errors.extend(failed.iter().map(|(peer, why)| format!("{peer}: {why}")));
        Ok(json!({ "stored": stored.len(), "errors": errors }))
    }

    /// Returns the best of all values that the closest peers have.
    async fn get(&self, key: Vec<u8>) -> Result<Value, String> {
        let mut found = self.client.get_all(key);
        let (mut best, mut errors) = (None, Vec::new());
        while let Some(next) = found.next().await {
            match next {
                Ok(found) => best = best.max(Some(found.record.value)),
                Err(
                    error @ (GetRecordError::NotFound { .. }
                    | GetRecordError::NoAnswer { .. }
                    | GetRecordError::Query { cause: QueryError::NoKnownPeers, .. }),
                ) => {
                    errors.push(format!("not found: {error}"));
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        let best = best.ok_or_else(|| errors.join(", "))?;
        Ok(json!({ "value": hex(&best), "errors": errors }))
    }

    async fn provide(&self, multihash: Vec<u8>) -> Result<Value, String> {
        let (report, error) = match self.client.provide(multihash).await {
            Ok(report) => (report, None),
            Err(error) => match &error {
                AddProviderError::TooFew { report, .. }
                | AddProviderError::Query { cause: QueryError::Timeout, report, .. } => {
                    ((**report).clone(), Some(error.to_string()))
                }
                _ => return Err(told(error)),
            },
        };
        let mut errors = Vec::from_iter(error);
        errors.extend(report.failed.iter().map(|(peer, why)| format!("{peer}: {why}")));
        Ok(json!({ "sent": report.sent.len(), "errors": errors }))
    }

    async fn find_providers(&self, multihash: Vec<u8>, count: usize) -> Result<Value, String> {
        let mut found = self.client.providers(multihash);
        let mut providers = Vec::new();
        while providers.len() < count {
            let Some(provider) = found.next().await else { break };
            providers.push(named(&provider.peer_id, &provider.addrs));
        }
        let errors: Vec<_> = found.error().map(ToString::to_string).into_iter().collect();
        Ok(json!({ "providers": providers, "errors": errors }))
    }
}

fn told(error: impl std::error::Error) -> String {
    error.to_string()
}

fn all(peers: &[PeerInfo]) -> Vec<Value> {
    peers.iter().map(|peer| named(&peer.peer_id, &peer.addrs)).collect()
}

const fn kademlia_mode(mode: protocol::Mode) -> Mode {
    match mode {
        protocol::Mode::Server => Mode::Server,
        protocol::Mode::Client => Mode::Client,
    }
}

fn swarm(options: &Options) -> Result<Swarm<Ours>, Error> {
    let config = Config::for_protocol(&options.protocol)?
        .with_bucket_size(options.k)
        .with_validator(&options.namespace, Greatest);
    let swarm = SwarmBuilder::with_existing_identity(options.keypair()?)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let peer_id = keypair.public().to_peer_id();
            let identify = identify::Config::new("/interop/1.0.0".into(), keypair.public());
            let mut kademlia = Behaviour::with_config(peer_id, MemoryStore::new(peer_id), config);
            kademlia.set_mode(Some(kademlia_mode(options.mode)));
            Ours { kademlia, identify: identify::Behaviour::new(identify), ping: ping::Behaviour::default() }
        })?
        // The first request on a connection takes one round trip instead of two.
        .with_swarm_config(|config| config.with_substream_upgrade_protocol_override(Version::V1Lazy));
    Ok(swarm.build())
}

fn carry_out(swarm: &mut Swarm<Ours>, ask: Ask) {
    // Nobody waits any more if the command has timed out.
    match ask {
        Ask::Connections(reply) => {
            let _ = reply.send(swarm.connected_peers().copied().collect());
        }
        Ask::Disconnect(peer, reply) => {
            // An error says that it is not connected, which is what was asked for.
            let _ = swarm.disconnect_peer_id(peer);
            let _ = reply.send(());
        }
    }
}

async fn run(options: &Options) -> Result<ExitCode, Error> {
    let mut swarm = swarm(options)?;
    swarm.listen_on(options.listen.clone())?;
    let address = loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => break address,
            SwarmEvent::ListenerClosed { reason: Err(error), .. }
            | SwarmEvent::ListenerError { error, .. } => return Err(error.into()),
            _ => {}
        }
    };
    let (peer_id, client) = (*swarm.local_peer_id(), swarm.behaviour().kademlia.client());
    let (asks, mut asked) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                ask = asked.recv() => match ask {
                    Some(ask) => carry_out(&mut swarm, ask),
                    None => break,
                },
            }
        }
    });
    protocol::say_ready("libp2p-kademlia", env!("CARGO_PKG_VERSION"), options, peer_id, &[address])?;
    Ok(protocol::serve(Node { client, asks }, options).await)
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let said = std::env::var("RUST_LOG").ok().and_then(|said| said.parse::<Targets>().ok());
    let print = fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(said.unwrap_or_default()).with(print).init();
    match run(&options).await {
        Ok(code) => code,
        Err(error) => {
            // With nowhere to say it, the code has to do.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
