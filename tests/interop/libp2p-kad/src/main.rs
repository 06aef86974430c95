//! One node of `libp2p-kad` as a process that speaks the JSON protocol.
//!
//! Wired as its users wire it: what identify learns of a peer is handed to `kad` by hand, the mode is fixed, records are
//! kept in memory, and every number is the default.

#[path = "../../../../examples/peer/protocol.rs"]
mod protocol;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser as _;
use futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
use libp2p_kad as kad;
use libp2p_kad::store::{MemoryStore, RecordStore as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use protocol::{Command, Mode, Options};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(NetworkBehaviour)]
struct Theirs {
    kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// The queries and dials that run, and who waits for them.
#[derive(Default)]
struct Open {
    queries: HashMap<kad::QueryId, mpsc::UnboundedSender<(kad::QueryResult, bool)>>,
    dials: HashMap<ConnectionId, oneshot::Sender<Result<PeerId, String>>>,
}

/// Something to be done where the swarm is.
type Ask = Box<dyn FnOnce(&mut Swarm<Theirs>, &mut Open) + Send>;

/// A way to the swarm, which runs in a task of its own.
#[derive(Clone)]
struct Node {
    asks: mpsc::Sender<Ask>,
}

impl Node {
    /// Does something where the swarm is, and returns its result.
    async fn with<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Swarm<Theirs>, &mut Open) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let ask: Ask = Box::new(move |swarm, open| {
            // Nobody waits any more if the command has timed out.
            let _ = reply.send(f(swarm, open));
        });
        self.asks.send(ask).await.map_err(|_| "the swarm is gone")?;
        answer.await.map_err(|_| "the swarm is gone".to_owned())
    }

    /// Begins a query and returns its results as they come, each with whether it is the last.
    async fn query(
        &self,
        begin: impl FnOnce(&mut kad::Behaviour<MemoryStore>) -> Result<kad::QueryId, String> + Send + 'static,
    ) -> Result<Query, String> {
        let (tell, results) = mpsc::unbounded_channel();
        let begun = self.with(move |swarm, open| {
            let id = begin(&mut swarm.behaviour_mut().kad)?;
            open.queries.insert(id, tell);
            Ok::<_, String>(id)
        });
        Ok(Query { id: begun.await??, results })
    }

    async fn connect(&self, address: Multiaddr) -> Result<Value, String> {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => peer,
            Some(_) | None => return Err("the address has no /p2p/<id>".to_owned()),
        };
        let answer = self.with(move |swarm, open| {
            let (reply, answer) = oneshot::channel();
            if swarm.is_connected(&peer) {
                let _ = reply.send(Ok(peer));
                return answer;
            }
            let options = DialOpts::peer_id(peer).addresses(vec![address]);
            let options = options.condition(PeerCondition::Always).build();
            let id = options.connection_id();
            match swarm.dial(options) {
                Ok(()) => {
                    open.dials.insert(id, reply);
                }
                Err(error) => {
                    let _ = reply.send(Err(error.to_string()));
                }
            }
            answer
        });
        let peer = answer.await?.await.map_err(|_| "the swarm is gone")??;
        Ok(json!({ "peerId": peer.to_base58() }))
    }

    async fn closest_peers(&self, key: Vec<u8>) -> Result<(Vec<kad::PeerInfo>, Vec<String>), String> {
        let mut query = self.query(move |kad| Ok(kad.get_closest_peers(key))).await?;
        while let Some((result, _)) = query.results.recv().await {
            match result {
                kad::QueryResult::GetClosestPeers(Ok(ok)) => return Ok((ok.peers, Vec::new())),
                kad::QueryResult::GetClosestPeers(Err(kad::GetClosestPeersError::Timeout {
                    peers, ..
                })) => return Ok((peers, vec!["the query timed out".to_owned()])),
                _ => {}
            }
        }
        Err("the query ended without a result".to_owned())
    }

    /// Returns the addresses that the table holds of a peer.
    async fn known(&self, peer: PeerId) -> Result<Vec<Multiaddr>, String> {
        self.with(move |swarm, _| {
            let kad = &mut swarm.behaviour_mut().kad;
            let Some(bucket) = kad.kbucket(peer) else {
                return Vec::new();
            };
            let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
            entry.map_or_else(Vec::new, |entry| entry.node.value.iter().cloned().collect())
        })
        .await
    }

    async fn find_peer(&self, peer: PeerId, network: bool) -> Result<Value, String> {
        let known = if network { Vec::new() } else { self.known(peer).await? };
        if !known.is_empty() {
            return Ok(protocol::named(&peer, &known));
        }
        let (peers, _) = self.closest_peers(peer.to_bytes()).await?;
        let found = peers.into_iter().find(|found| found.peer_id == peer && !found.addrs.is_empty());
        let found = found.ok_or("not found")?;
        Ok(protocol::named(&peer, &found.addrs))
    }

    async fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<Value, String> {
        // A smaller quorum would end the query while some are still being dialled.
        let mut query = self
            .query(move |kad| {
                let record = kad::Record::new(key, value);
                kad.put_record(record, kad::Quorum::All).map_err(|error| error.to_string())
            })
            .await?;
        while let Some((result, _)) = query.results.recv().await {
            match result {
                kad::QueryResult::PutRecord(Ok(_)) => return Ok(json!({ "stored": null, "errors": [] })),
                kad::QueryResult::PutRecord(Err(error)) => {
                    let success = match &error {
                        kad::PutRecordError::QuorumFailed { success, .. }
                        | kad::PutRecordError::Timeout { success, .. } => success,
                    };
                    if success.is_empty() {
                        return Err(error.to_string());
                    }
                    return Ok(json!({ "stored": success.len(), "errors": [error.to_string()] }));
                }
                _ => {}
            }
        }
        Err("the query ended without a result".to_owned())
    }

    async fn get(&self, key: Vec<u8>) -> Result<Value, String> {
        let mut query = self.query(move |kad| Ok(kad.get_record(key.into()))).await?;
        let (mut best, mut errors) = (None, Vec::new());
        while let Some((result, last)) = query.results.recv().await {
            match result {
                kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                    best = best.max(Some(found.record.value));
                }
                kad::QueryResult::GetRecord(Err(error)) => errors.push(error.to_string()),
                _ => {}
            }
            if last {
                break;
            }
        }
        let best = best.ok_or_else(|| format!("not found: {}", errors.join(", ")))?;
        Ok(json!({ "value": protocol::hex(&best), "errors": errors }))
    }

    async fn provide(&self, multihash: Vec<u8>) -> Result<Value, String> {
        let mut query = self
            .query(move |kad| kad.start_providing(multihash.into()).map_err(|error| error.to_string()))
            .await?;
        while let Some((result, _)) = query.results.recv().await {
            match result {
                kad::QueryResult::StartProviding(Ok(_)) => return Ok(json!({ "sent": null, "errors": [] })),
                kad::QueryResult::StartProviding(Err(error)) => return Err(error.to_string()),
                _ => {}
            }
        }
        Err("the query ended without a result".to_owned())
    }

    async fn find_providers(&self, multihash: Vec<u8>, count: usize) -> Result<Value, String> {
        let mut query = self.query(move |kad| Ok(kad.get_providers(multihash.into()))).await?;
        let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
        while let Some((result, last)) = query.results.recv().await {
            match result {
                kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders {
                    providers, ..
                })) => found.extend(providers.into_iter().map(|peer| (peer, Vec::new()))),
                kad::QueryResult::GetProviders(Err(error)) => errors.push(error.to_string()),
                _ => {}
            }
            if last || found.len() >= count {
                break;
            }
        }
        if found.len() >= count {
            let id = query.id;
            self.with(move |swarm, _| {
                if let Some(mut query) = swarm.behaviour_mut().kad.query_mut(&id) {
                    query.finish();
                }
            })
            .await?;
        }
        // It names providers without their addresses: whoever wants to dial one asks the table or the network.
        for (peer, addrs) in found.iter_mut().take(count) {
            *addrs = self.known(*peer).await?;
            if addrs.is_empty() {
                let (peers, _) = self.closest_peers(peer.to_bytes()).await?;
                let met = peers.into_iter().find(|found| found.peer_id == *peer);
                *addrs = met.map_or_else(Vec::new, |met| met.addrs);
            }
        }
        let providers: Vec<_> =
            found.iter().take(count).map(|(peer, addrs)| protocol::named(peer, addrs)).collect();
        Ok(json!({ "providers": providers, "errors": errors }))
    }

    async fn table(&self) -> Result<Vec<String>, String> {
        self.with(|swarm, _| {
            let mut peers = Vec::new();
            for bucket in swarm.behaviour_mut().kad.kbuckets() {
                peers.extend(bucket.iter().map(|entry| entry.node.key.preimage().to_base58()));
            }
            peers
        })
        .await
    }
}

impl protocol::Node for Node {
    async fn obey(&self, command: Command) -> Result<Value, String> {
        match command {
            Command::Connect(address) => self.connect(address).await,
            Command::Disconnect(peer) => {
                // An error says that it is not connected, which is what was asked for.
                let _ = self.with(move |swarm, _| swarm.disconnect_peer_id(peer)).await?;
                Ok(json!({}))
            }
            Command::Connections => {
                let peers = self.with(|swarm, _| {
                    swarm.connected_peers().map(|peer| peer.to_base58()).collect::<Vec<_>>()
                });
                Ok(json!({ "peers": peers.await? }))
            }
            Command::FindPeer { peer, network } => self.find_peer(peer, network).await,
            Command::ClosestPeers { key } => {
                let (peers, errors) = self.closest_peers(key).await?;
                let peers: Vec<_> =
                    peers.iter().map(|peer| protocol::named(&peer.peer_id, &peer.addrs)).collect();
                Ok(json!({ "peers": peers, "errors": errors }))
            }
            Command::Put { key, value } => self.put(key, value).await,
            Command::Get { key } => self.get(key).await,
            Command::Provide { multihash } => self.provide(multihash).await,
            Command::FindProviders { multihash, count } => self.find_providers(multihash, count).await,
            Command::Table => Ok(json!({ "peers": self.table().await? })),
            Command::TableSize => Ok(json!({ "size": self.table().await?.len() })),
            Command::SetMode(mode) => {
                self.with(move |swarm, _| swarm.behaviour_mut().kad.set_mode(Some(kad_mode(mode)))).await?;
                Ok(json!({}))
            }
            Command::Other(call) => Err(protocol::unknown(&call)),
        }
    }
}

/// A query that runs.
struct Query {
    id: kad::QueryId,
    results: mpsc::UnboundedReceiver<(kad::QueryResult, bool)>,
}

const fn kad_mode(mode: Mode) -> kad::Mode {
    match mode {
        Mode::Server => kad::Mode::Server,
        Mode::Client => kad::Mode::Client,
    }
}

fn swarm(options: &Options) -> Result<Swarm<Theirs>, Error> {
    let k = NonZeroUsize::from(options.k);
    let protocol = StreamProtocol::try_from_owned(options.protocol.clone())?;
    let mut config = kad::Config::new(protocol);
    config.set_kbucket_size(k).set_replication_factor(k);
    // Which of two values is the better one is for the application to say.
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    let swarm = SwarmBuilder::with_existing_identity(options.keypair()?)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let peer_id = keypair.public().to_peer_id();
            let mut kad = kad::Behaviour::with_config(peer_id, MemoryStore::new(peer_id), config);
            kad.set_mode(Some(kad_mode(options.mode)));
            let identify = identify::Config::new("/interop/1.0.0".into(), keypair.public());
            Theirs { kad, identify: identify::Behaviour::new(identify), ping: ping::Behaviour::default() }
        })?
        .build();
    Ok(swarm)
}

/// What the application has to do with what the swarm says.
fn note(
    swarm: &mut Swarm<Theirs>,
    open: &mut Open,
    protocol: &str,
    namespace: &str,
    event: SwarmEvent<TheirsEvent>,
) {
    match event {
        SwarmEvent::Behaviour(TheirsEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
            // A client has addresses, too, but answers nobody.
            if info.protocols.iter().any(|name| name.as_ref() == protocol) {
                for address in info.listen_addrs {
                    swarm.behaviour_mut().kad.add_address(&peer_id, address);
                }
            }
        }
        SwarmEvent::Behaviour(TheirsEvent::Kad(kad::Event::OutboundQueryProgressed {
            id,
            result,
            step,
            ..
        })) => {
            if let Some(tell) = open.queries.get(&id) {
                let _ = tell.send((result, step.last));
            }
            if step.last {
                open.queries.remove(&id);
            }
        }
        SwarmEvent::Behaviour(TheirsEvent::Kad(kad::Event::InboundRequest { request })) => {
            keep(swarm.behaviour_mut().kad.store_mut(), namespace, request);
        }
        SwarmEvent::ConnectionEstablished { connection_id, peer_id, .. } => {
            if let Some(reply) = open.dials.remove(&connection_id) {
                let _ = reply.send(Ok(peer_id));
            }
        }
        SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
            if let Some(reply) = open.dials.remove(&connection_id) {
                let _ = reply.send(Err(error.to_string()));
            }
        }
        _ => {}
    }
}

/// Stores what others have sent: of several values the bytewise greatest.
fn keep(store: &mut MemoryStore, namespace: &str, request: kad::InboundRequest) {
    match request {
        kad::InboundRequest::PutRecord { record: Some(record), .. } => {
            let is_better = store.get(&record.key).is_none_or(|held| held.value < record.value);
            if is_better && is_of(namespace, record.key.as_ref()) {
                // A full store, or a value too large for it, is not stored, and the sender is not told: so it is there.
                let _ = store.put(record);
            }
        }
        kad::InboundRequest::AddProvider { record: Some(record) } => {
            let _ = store.add_provider(record);
        }
        _ => {}
    }
}

/// Returns whether a key is one of the namespace.
fn is_of(namespace: &str, key: &[u8]) -> bool {
    let rest = key.strip_prefix(b"/").and_then(|rest| rest.strip_prefix(namespace.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b"/"))
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
    // Of its own addresses it names only those that are known to be reachable, as a provider, too.
    swarm.add_external_address(address.clone());
    let peer_id = *swarm.local_peer_id();
    let (asks, mut asked) = mpsc::channel::<Ask>(64);
    let (protocol, namespace) = (options.protocol.clone(), options.namespace.clone());
    tokio::spawn(async move {
        let mut open = Open::default();
        loop {
            tokio::select! {
                event = swarm.select_next_some() => note(&mut swarm, &mut open, &protocol, &namespace, event),
                ask = asked.recv() => match ask {
                    Some(ask) => ask(&mut swarm, &mut open),
                    None => break,
                },
            }
        }
    });
    protocol::say_ready("libp2p-kad", "0.49.0", options, peer_id, &[address])?;
    Ok(protocol::serve(Node { asks }, options).await)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
