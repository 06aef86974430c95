//! The options of the command line, and what follows from them: who the node is, where it listens, whom it joins.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Parser;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::Key;

use crate::message::check_nick;

/// The room whose name nobody has to give.
const ROOM: &str = "lobby";

/// The longest name of a room, in bytes.
const MAX_ROOM: usize = 64;

#[derive(Parser)]
#[command(name = "chat", about = "A chat whose peers find each other through the DHT, without a server")]
pub(crate) struct Options {
    /// The room to talk in: those who give the same name meet.
    #[arg(long, value_name = "NAME", default_value = ROOM, value_parser = room)]
    pub(crate) room: String,
    /// Under which nick the others see you [default: guest-, and the end of the id].
    #[arg(long, value_name = "NICK", value_parser = nick)]
    name: Option<String>,
    /// Join through the node at this address, with or without /p2p/<id>; any number of times. It need not chat.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Listen here; any number of times [default: random TCP and UDP ports of all IPv4 interfaces].
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Multiaddr>,
    /// Find nodes of the local network by mDNS, too.
    #[arg(long)]
    pub(crate) mdns: bool,
    /// Have the id that belongs to this text: the same text, the same id. 64 hexadecimal digits are taken as an Ed25519
    /// secret key. Whoever knows the text can be this node [default: a random id].
    #[arg(long, value_name = "TEXT")]
    id: Option<String>,
    /// Do what stands in this file instead of reading lines: `wait N` for others, `say TEXT`, `expect NICK: TEXT`,
    /// `sleep MS`, `quit`. The exit code tells whether all that was expected was heard.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// How long the script may take.
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "script")]
    pub(crate) max_seconds: NonZeroU32,
}

fn room(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > MAX_ROOM || name.chars().any(char::is_control) {
        return Err(format!("a room has a name of 1 to {MAX_ROOM} bytes, without control characters"));
    }
    Ok(name.to_owned())
}

fn nick(nick: &str) -> Result<String, String> {
    check_nick(nick).map(|()| nick.to_owned())
}

impl Options {
    /// Returns who the node is.
    ///
    /// # Errors
    /// The key is none.
    pub(crate) fn keypair(&self) -> Result<Keypair, String> {
        let Some(text) = &self.id else {
            return Ok(Keypair::generate_ed25519());
        };
        let secret = from_hex(text).unwrap_or_else(|| *Key::sha256(text.as_bytes()).as_bytes());
        Keypair::ed25519_from_bytes(secret).map_err(|error| format!("--id: {error}"))
    }

    pub(crate) fn nick(&self, peer: &PeerId) -> String {
        let id = peer.to_string();
        self.name.clone().unwrap_or_else(|| format!("guest-{}", &id[id.len().saturating_sub(4)..]))
    }

    pub(crate) fn listen(&self) -> Vec<Multiaddr> {
        if !self.listen.is_empty() {
            return self.listen.clone();
        }
        let any = || Multiaddr::empty().with(Protocol::Ip4([0, 0, 0, 0].into()));
        vec![any().with(Protocol::Tcp(0)), any().with(Protocol::Udp(0)).with(Protocol::QuicV1)]
    }

    /// Returns the command that starts another one in the same room, which joins through the first of these addresses.
    pub(crate) fn invitation(&self, addresses: &[Multiaddr], peer: PeerId) -> String {
        let mut command = "cargo run --release --example chat --".to_owned();
        if self.room != ROOM {
            command += &format!(" --room {}", quoted(&self.room));
        }
        if let Some(address) = addresses.iter().min_by_key(|address| paste_first(address)) {
            command += &format!(" --bootstrap {address}/p2p/{peer}");
        }
        command
    }
}

/// Orders addresses by how well they suit a user who starts another node: least first. It is likely on this machine.
fn paste_first(address: &Multiaddr) -> (bool, bool) {
    let is_here = address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    });
    (!is_here, !address.iter().any(|part| matches!(part, Protocol::Tcp(_))))
}

/// Returns the bytes of 64 hexadecimal digits.
fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        digits.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    if rest.is_empty() { bytes.try_into().ok() } else { None }
}

/// Returns the text as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain && !text.starts_with('-') {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
