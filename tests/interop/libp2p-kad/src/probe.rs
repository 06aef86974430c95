//! A peer that is no DHT: it sees and sends the very bytes of the protocol, and counts streams.
//!
//! Serves just enough that others take it for a server: it names itself and whom it was told to name, keeps what is put,
//! and notes each stream that is opened to it. It speaks the JSON protocol with commands of its own: `know`, `seen`,
//! `send`.

#[expect(dead_code, reason = "a probe has no queries whose results to tell")]
#[path = "../../../../examples/peer/protocol.rs"]
mod protocol;

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser as _;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux,
};
use libp2p_stream as stream;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use protocol::{Command, Options, from_hex, hex};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// No message is longer.
const MAX_FRAME: usize = 8 * 1024 * 1024;

#[derive(NetworkBehaviour)]
struct Probe {
    stream: stream::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes, tag = "2")]
    key: Vec<u8>,
    /// As it came: nothing of it is looked at.
    #[prost(bytes, optional, tag = "3")]
    record: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "8")]
    closer: Vec<Named>,
    #[prost(message, repeated, tag = "9")]
    providers: Vec<Named>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(bytes, tag = "1")]
    id: Vec<u8>,
    #[prost(bytes, repeated, tag = "2")]
    addrs: Vec<Vec<u8>>,
    #[prost(int32, tag = "3")]
    connection: i32,
}

const PUT_VALUE: i32 = 0;
const GET_VALUE: i32 = 1;
const ADD_PROVIDER: i32 = 2;
const GET_PROVIDERS: i32 = 3;
const FIND_NODE: i32 = 4;

/// A stream that was opened to the probe.
struct Seen {
    from: PeerId,
    /// The bytes of each request with its length, and of the answer to it.
    exchanges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    end: &'static str,
}

/// What the probe has seen, and what it answers with.
#[derive(Default)]
struct State {
    streams: Vec<Seen>,
    /// Whom it names in its answers, itself first.
    known: Vec<Named>,
    records: HashMap<Vec<u8>, Vec<u8>>,
    providers: HashMap<Vec<u8>, Vec<Named>>,
}

impl State {
    /// Returns the answer to a request, if it gets one.
    fn answer(&mut self, request: &Message) -> Option<Message> {
        let mut answer = Message { kind: request.kind, key: request.key.clone(), ..Message::default() };
        match request.kind {
            PUT_VALUE => {
                answer.record.clone_from(&request.record);
                if let Some(record) = &request.record {
                    self.records.insert(request.key.clone(), record.clone());
                }
            }
            GET_VALUE => {
                answer.record = self.records.get(&request.key).cloned();
                answer.closer.clone_from(&self.known);
            }
            ADD_PROVIDER => {
                self.providers.insert(request.key.clone(), request.providers.clone());
                return None;
            }
            GET_PROVIDERS => {
                answer.providers = self.providers.get(&request.key).cloned().unwrap_or_default();
                answer.closer.clone_from(&self.known);
            }
            FIND_NODE => {
                answer.key.clear();
                answer.closer.clone_from(&self.known);
            }
            _ => {}
        }
        Some(answer)
    }
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    // What it holds is whole after each statement.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a message with its length. `None` if the stream has ended between two.
async fn read_frame(stream: &mut Stream) -> io::Result<Option<(Vec<u8>, usize)>> {
    let (mut frame, mut length) = (Vec::new(), 0usize);
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return if frame.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * frame.len());
        frame.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
        if frame.len() > 4 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if length > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let head = frame.len();
    frame.resize(head + length, 0);
    stream.read_exact(frame.get_mut(head..).unwrap_or_default()).await?;
    Ok(Some((frame, head)))
}

/// Returns a message with its length before it.
fn framed(message: &Message) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

/// Serves one stream, and notes what comes.
async fn serve_stream(state: Shared, from: PeerId, mut stream: Stream) {
    let at = {
        let mut state = lock(&state);
        state.streams.push(Seen { from, exchanges: Vec::new(), end: "open" });
        state.streams.len() - 1
    };
    let end = loop {
        let (frame, head) = match read_frame(&mut stream).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break "closed",
            Err(_) => break "reset",
        };
        let request = Message::decode(frame.get(head..).unwrap_or_default());
        let answer = {
            let mut state = lock(&state);
            let answer = request.ok().and_then(|request| state.answer(&request));
            let answer = answer.map(|answer| framed(&answer));
            if let Some(seen) = state.streams.get_mut(at) {
                seen.exchanges.push((frame, answer.clone()));
            }
            answer
        };
        if let Some(answer) = answer
            && (stream.write_all(&answer).await.is_err() || stream.flush().await.is_err())
        {
            break "reset";
        }
    };
    if let Some(seen) = lock(&state).streams.get_mut(at) {
        seen.end = end;
    }
    // Whoever has closed its half gets the other one.
    let _ = stream.close().await;
}

/// Something to be done where the swarm is.
type Ask = Box<dyn FnOnce(&mut Swarm<Probe>, &mut Dials) + Send>;
type Dials = HashMap<ConnectionId, oneshot::Sender<Result<PeerId, String>>>;

#[derive(Clone)]
struct Node {
    state: Shared,
    asks: mpsc::Sender<Ask>,
    control: stream::Control,
    protocol: StreamProtocol,
}

impl Node {
    async fn with<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Swarm<Probe>, &mut Dials) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let ask: Ask = Box::new(move |swarm, dials| {
            // Nobody waits any more if the command has timed out.
            let _ = reply.send(f(swarm, dials));
        });
        self.asks.send(ask).await.map_err(|_| "the swarm is gone")?;
        answer.await.map_err(|_| "the swarm is gone".to_owned())
    }

    async fn connect(&self, address: Multiaddr) -> Result<Value, String> {
        let answer = self.with(move |swarm, dials| {
            let (reply, answer) = oneshot::channel();
            let options = DialOpts::from(address);
            let id = options.connection_id();
            match swarm.dial(options) {
                Ok(()) => {
                    dials.insert(id, reply);
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

    /// Sets whom the probe names in its answers beside itself.
    fn know(&self, call: &Value) -> Result<Value, String> {
        let mut known = Vec::new();
        for peer in call["peers"].as_array().into_iter().flatten() {
            let id: PeerId = peer["peerId"].as_str().and_then(|id| id.parse().ok()).ok_or("`peerId`")?;
            let addrs = peer["addrs"].as_array().into_iter().flatten();
            let addrs = addrs.filter_map(|address| address.as_str()?.parse::<Multiaddr>().ok());
            known.push(Named {
                id: id.to_bytes(),
                addrs: addrs.map(|address| address.to_vec()).collect(),
                connection: 1,
            });
        }
        let mut state = lock(&self.state);
        state.known.truncate(1);
        state.known.extend(known);
        Ok(json!({}))
    }

    /// Tells what was sent to the probe.
    fn seen(&self) -> Value {
        let state = lock(&self.state);
        let streams = state.streams.iter().map(|seen| {
            let exchanges = seen.exchanges.iter().map(
                |(request, answer)| json!({ "request": hex(request), "answer": answer.as_deref().map(hex) }),
            );
            json!({
                "peerId": seen.from.to_base58(),
                "exchanges": exchanges.collect::<Vec<_>>(),
                "end": seen.end,
            })
        });
        json!({ "streams": streams.collect::<Vec<_>>() })
    }

    /// Opens a stream and sends frames over it: one after the other's answer, or all at once. Tells what came back.
    async fn send(&self, call: &Value) -> Result<Value, String> {
        let peer: PeerId = call["peerId"].as_str().and_then(|id| id.parse().ok()).ok_or("`peerId`")?;
        let frames: Option<Vec<_>> = call["frames"]
            .as_array()
            .ok_or("`frames`")?
            .iter()
            .map(|frame| from_hex(frame.as_str()?))
            .collect();
        let frames = frames.ok_or("`frames`")?;
        let flag = |name: &str| call[name].as_bool().unwrap_or_default();
        let wait = Duration::from_millis(call["waitMs"].as_u64().unwrap_or(5_000));
        let idle = Duration::from_millis(call["idleMs"].as_u64().unwrap_or_default());
        let mut control = self.control.clone();
        let opened = control.open_stream(peer, self.protocol.clone()).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        let (mut answers, mut end) = (Vec::new(), "open");
        let all = frames.len();
        let batches: Vec<Vec<u8>> = if flag("pipelined") { vec![frames.concat()] } else { frames };
        let each = if flag("pipelined") { all } else { 1 };
        for (n, batch) in batches.iter().enumerate() {
            if n > 0 {
                tokio::time::sleep(idle).await;
            }
            // A peer that has ended the stream is noticed when its answer is read.
            let _ = stream.write_all(batch).await;
            let _ = stream.flush().await;
            if flag("close") && n + 1 == batches.len() {
                let _ = stream.close().await;
            }
            for _ in 0..each {
                match tokio::time::timeout(wait, read_frame(&mut stream)).await {
                    Ok(Ok(Some((frame, _)))) => answers.push(hex(&frame)),
                    Ok(Ok(None)) => end = "closed",
                    Ok(Err(_)) => end = "reset",
                    Err(_) => end = "silent",
                }
                if end != "open" {
                    break;
                }
            }
            if end != "open" {
                break;
            }
        }
        Ok(json!({ "answers": answers, "end": end }))
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
            Command::Other(call) => match call["cmd"].as_str() {
                Some("know") => self.know(&call),
                Some("seen") => Ok(self.seen()),
                Some("send") => self.send(&call).await,
                _ => Err(protocol::unknown(&call)),
            },
            _ => Err("a probe does not search".to_owned()),
        }
    }
}

fn note(dials: &mut Dials, event: SwarmEvent<ProbeEvent>) {
    match event {
        SwarmEvent::ConnectionEstablished { connection_id, peer_id, .. } => {
            if let Some(reply) = dials.remove(&connection_id) {
                let _ = reply.send(Ok(peer_id));
            }
        }
        SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
            if let Some(reply) = dials.remove(&connection_id) {
                let _ = reply.send(Err(error.to_string()));
            }
        }
        _ => {}
    }
}

async fn run(options: &Options) -> Result<ExitCode, Error> {
    let protocol = StreamProtocol::try_from_owned(options.protocol.clone())?;
    let mut swarm = SwarmBuilder::with_existing_identity(options.keypair()?)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let identify = identify::Config::new("/interop/1.0.0".into(), keypair.public());
            Probe {
                stream: stream::Behaviour::new(),
                identify: identify::Behaviour::new(identify),
                ping: ping::Behaviour::default(),
            }
        })?
        // Nobody keeps a connection alive here: streams of this behaviour do, and they may be few.
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    swarm.listen_on(options.listen.clone())?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let (peer_id, state) = (*swarm.local_peer_id(), Shared::default());
    let itself = Named { id: peer_id.to_bytes(), addrs: vec![address.to_vec()], connection: 1 };
    lock(&state).known.push(itself);
    let mut control = swarm.behaviour().stream.new_control();
    let mut incoming = control.accept(protocol.clone()).map_err(|error| error.to_string())?;
    let for_streams = state.clone();
    tokio::spawn(async move {
        while let Some((from, stream)) = incoming.next().await {
            tokio::spawn(serve_stream(for_streams.clone(), from, stream));
        }
    });
    let (asks, mut asked) = mpsc::channel::<Ask>(64);
    tokio::spawn(async move {
        let mut dials = Dials::default();
        loop {
            tokio::select! {
                event = swarm.select_next_some() => note(&mut dials, event),
                ask = asked.recv() => match ask {
                    Some(ask) => ask(&mut swarm, &mut dials),
                    None => break,
                },
            }
        }
    });
    protocol::say_ready("probe", env!("CARGO_PKG_VERSION"), options, peer_id, &[address])?;
    Ok(protocol::serve(Node { state, asks, control, protocol }, options).await)
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
