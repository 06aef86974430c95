//! A node as a process: its options, the line that says it is ready, and commands and answers as lines of JSON.
//!
//! Knows no DHT: a [`Node`] carries the commands out. The peers of the interop matrix that are written in Rust share this
//! file, so that they differ in nothing else.

use std::future::Future;
use std::io::{self, BufRead as _, Write as _};
use std::num::NonZeroU8;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How long a command may take that does not say it.
const TIMEOUT_MS: u64 = 30_000;
/// How many lines wait to be carried out.
const MAX_LINES: usize = 64;

#[derive(Parser)]
#[command(about = "A node as a process: commands and answers are lines of JSON")]
pub(crate) struct Options {
    /// Serve others, or only ask them.
    #[arg(long, value_name = "MODE", value_enum, default_value = "server")]
    pub(crate) mode: Mode,
    /// The name of the protocol.
    #[arg(long, value_name = "NAME", default_value = "/ipfs/kad/1.0.0")]
    pub(crate) protocol: String,
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "/ip4/127.0.0.1/tcp/0")]
    pub(crate) listen: Multiaddr,
    /// Any value is taken under the keys `/<namespace>/..`.
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub(crate) namespace: String,
    /// The Ed25519 secret key, 64 hexadecimal digits [default: a random one].
    #[arg(long, value_name = "HEX")]
    seed: Option<String>,
    /// How many peers a bucket holds, a search returns and a put stores at.
    #[arg(long, value_name = "K", default_value = "20")]
    pub(crate) k: NonZeroU8,
    /// After how many seconds the process ends by itself, with code 3.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    max_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Server,
    Client,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl Options {
    /// Returns who the node is.
    pub(crate) fn keypair(&self) -> Result<Keypair, String> {
        let Some(seed) = &self.seed else {
            return Ok(Keypair::generate_ed25519());
        };
        let secret = from_hex(seed).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let secret = secret.ok_or("--seed: expected 64 hexadecimal digits")?;
        Keypair::ed25519_from_bytes(secret).map_err(|error| format!("--seed: {error}"))
    }
}

/// What a line asks for.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Connect(Multiaddr),
    Disconnect(PeerId),
    Connections,
    FindPeer {
        peer: PeerId,
        /// Whether the network is asked even if the peer is known.
        network: bool,
    },
    ClosestPeers {
        key: Vec<u8>,
    },
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Get {
        key: Vec<u8>,
    },
    Provide {
        multihash: Vec<u8>,
    },
    FindProviders {
        multihash: Vec<u8>,
        count: usize,
    },
    Table,
    TableSize,
    /// Beyond the protocol: changes the mode of a node that runs.
    SetMode(Mode),
    /// Something that the protocol does not know.
    Other(Value),
}

/// Says that a node does not know a command either.
pub(crate) fn unknown(call: &Value) -> String {
    format!("unknown command {}", call["cmd"])
}

/// Who carries commands out.
pub(crate) trait Node: Clone + Send + Sync + 'static {
    /// Carries one out, and returns its result, or why there is none.
    fn obey(&self, command: Command) -> impl Future<Output = Result<Value, String>> + Send;
}

/// A peer and where it is, as results name it.
pub(crate) fn named<'a>(peer: &PeerId, addrs: impl IntoIterator<Item = &'a Multiaddr>) -> Value {
    let addrs: Vec<_> = addrs.into_iter().map(ToString::to_string).collect();
    json!({ "peerId": peer.to_base58(), "addrs": addrs })
}

/// Tells that the node listens, and where.
pub(crate) fn say_ready(
    implementation: &str,
    version: &str,
    options: &Options,
    peer: PeerId,
    addrs: &[Multiaddr],
) -> io::Result<()> {
    let addrs: Vec<_> =
        addrs.iter().map(|address| address.clone().with(Protocol::P2p(peer)).to_string()).collect();
    say(&json!({
        "ready": true,
        "impl": implementation,
        "version": version,
        "peerId": peer.to_base58(),
        "addrs": addrs,
        "protocol": options.protocol,
        "mode": options.mode.name(),
    }))
}

/// Carries out the lines of stdin, all at once, until they end, one says `stop`, or the time is up.
pub(crate) async fn serve(node: impl Node, options: &Options) -> ExitCode {
    let mut lines = lines();
    let time_is_up = tokio::time::sleep(Duration::from_secs(options.max_seconds));
    tokio::pin!(time_is_up);
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = &mut time_is_up => return ExitCode::from(3),
        };
        let Some(line) = line else {
            return ExitCode::SUCCESS;
        };
        if line.trim().is_empty() {
            continue;
        }
        let call: Value = match serde_json::from_str(&line) {
            Ok(call) => call,
            Err(error) => {
                answer(&Value::Null, Err(format!("not a line of JSON: {error}")));
                continue;
            }
        };
        let id = call["id"].clone();
        if call["cmd"] == "stop" {
            answer(&id, Ok(json!({})));
            return ExitCode::SUCCESS;
        }
        let command = match command(&call) {
            Ok(command) => command,
            Err(error) => {
                answer(&id, Err(error));
                continue;
            }
        };
        let (node, timeout) = (node.clone(), call["timeoutMs"].as_u64().unwrap_or(TIMEOUT_MS));
        tokio::spawn(async move {
            let result = tokio::time::timeout(Duration::from_millis(timeout), node.obey(command)).await;
            answer(&id, result.unwrap_or_else(|_| Err(format!("timeout after {timeout} ms"))));
        });
    }
}

/// Reads stdin in a thread of its own, since a read of it cannot be given up.
fn lines() -> mpsc::Receiver<String> {
    let (lines, read) = mpsc::channel(MAX_LINES);
    let reader = move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    };
    // Without the thread the channel ends at once, and with it the node.
    drop(thread::Builder::new().name("input".to_owned()).spawn(reader));
    read
}

fn answer(id: &Value, result: Result<Value, String>) {
    let line = match result {
        Ok(result) => json!({ "id": id, "ok": true, "result": result }),
        Err(error) => json!({ "id": id, "ok": false, "error": error }),
    };
    // Whoever does not read any more has gone, and the end of stdin follows.
    let _ = say(&line);
}

fn say(line: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Reads what a call asks for.
fn command(call: &Value) -> Result<Command, String> {
    let text = |name: &str| call[name].as_str().ok_or_else(|| format!("expected `{name}`, a text"));
    let bytes =
        |name: &str| from_hex(text(name)?).ok_or_else(|| format!("`{name}` is not in hexadecimal digits"));
    let peer = || text("peerId")?.parse::<PeerId>().map_err(|error| format!("`peerId`: {error}"));
    let multihash = || match call["cid"].as_str() {
        Some(cid) => multihash_of(cid).ok_or_else(|| format!("`cid`: cannot read {cid}")),
        None => bytes("multihash"),
    };
    Ok(match text("cmd")? {
        "connect" => Command::Connect(text("addr")?.parse().map_err(|error| format!("`addr`: {error}"))?),
        "disconnect" => Command::Disconnect(peer()?),
        "connections" => Command::Connections,
        "findPeer" => {
            Command::FindPeer { peer: peer()?, network: call["network"].as_bool().unwrap_or_default() }
        }
        "getClosestPeers" => Command::ClosestPeers { key: bytes("key")? },
        "put" => Command::Put { key: bytes("key")?, value: bytes("value")? },
        "get" => Command::Get { key: bytes("key")? },
        "provide" => Command::Provide { multihash: multihash()? },
        "findProviders" => {
            let count = call["count"].as_u64().and_then(|count| usize::try_from(count).ok());
            Command::FindProviders { multihash: multihash()?, count: count.unwrap_or(20) }
        }
        "routingTable" => Command::Table,
        "routingTableSize" => Command::TableSize,
        "setMode" => match text("mode")? {
            "server" => Command::SetMode(Mode::Server),
            "client" => Command::SetMode(Mode::Client),
            other => return Err(format!("`mode`: {other} is none")),
        },
        _ => Command::Other(call.clone()),
    })
}

/// Returns the multihash of a CID: of version 0 it is the whole, of version 1 it stands behind two numbers.
fn multihash_of(cid: &str) -> Option<Vec<u8>> {
    if cid.starts_with("Qm") {
        // The id of a peer is a multihash in base58, too.
        return cid.parse::<PeerId>().ok().map(PeerId::to_bytes);
    }
    let bytes = from_base32(cid.strip_prefix('b')?)?;
    let mut rest = &bytes[..];
    for _ in 0..2 {
        let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
        rest = rest.get(end + 1..)?;
    }
    Some(rest.to_vec())
}

/// Reads base32 in lower case without padding, as RFC 4648 has it.
fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for c in text.bytes() {
        let value = match c {
            b'a'..=b'z' => c - b'a',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        held = (held << 5 | u32::from(value)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
