//! The options of the command line, and what follows from them: who the node is, where it listens, whom it joins.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::num::{NonZeroU8, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::{Config, Key, Parallelism};

use crate::from_hex;

/// The network whose name nobody has to give.
const NETWORK: &str = "example";

#[derive(Parser)]
#[command(name = "node", about = "A node of a Kademlia network, and commands to use it by")]
pub(crate) struct Options {
    /// Have the id that belongs to this text: the same text, the same id. 64 hexadecimal digits are taken as an Ed25519
    /// secret key. Whoever knows the text can be this node [default: a random id].
    #[arg(long, value_name = "TEXT", conflicts_with = "key_file")]
    id: Option<String>,
    /// Have the id of the private key in this file, which is made if there is none.
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
    /// Listen here; any number of times [default: a random TCP port of all IPv4 interfaces].
    #[arg(long, value_name = "ADDRESS")]
    bind: Vec<Multiaddr>,
    /// Join through the node at this address, with or without /p2p/<id>; any number of times.
    #[arg(long, value_name = "ADDRESS")]
    bootstrap: Vec<Multiaddr>,
    /// The id of the node at the address of --bootstrap, if it does not stand there.
    #[arg(long, value_name = "ID", requires = "bootstrap")]
    bootstrap_id: Option<PeerId>,
    /// Keep records, and the peers to join through the next time, in this file, which is made if there is none
    /// [default: in memory].
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<PathBuf>,
    /// k: how many peers a bucket holds, a search returns and a put stores at [default: 20].
    #[arg(long, value_name = "K")]
    bucket_size: Option<NonZeroU8>,
    /// How many requests of one search are in flight [default: adaptive].
    #[arg(long, value_name = "REQUESTS")]
    parallelism: Option<NonZeroU8>,
    /// How many disjoint paths a search takes [default: 1].
    #[arg(long, value_name = "PATHS")]
    disjoint_paths: Option<NonZeroU8>,
    /// How many seconds a search may take [default: 60].
    #[arg(long, value_name = "SECONDS")]
    query_timeout: Option<NonZeroU32>,
    /// How many seconds a record lasts that came without an end [default: two days].
    #[arg(long, value_name = "SECONDS")]
    record_ttl: Option<NonZeroU32>,
    /// Which network to be part of: nodes of other networks are strangers. The protocol is /NAME/kad/1.0.0, or what is
    /// given if it begins with a slash.
    #[arg(long, value_name = "NAME", default_value = NETWORK)]
    network: String,
}

/// A node to join through.
pub(crate) struct Friend {
    /// Who it is; `None` if it has to be found out.
    pub(crate) peer: Option<PeerId>,
    pub(crate) address: Multiaddr,
}

impl Options {
    /// Returns who the node is.
    pub(crate) fn keypair(&self) -> Result<Keypair, String> {
        match (&self.id, &self.key_file) {
            (Some(text), _) => {
                let secret = from_hex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                let secret = secret.unwrap_or_else(|| *Key::sha256(text.as_bytes()).as_bytes());
                Keypair::ed25519_from_bytes(secret).map_err(|error| format!("--id: {error}"))
            }
            (None, Some(path)) => {
                kept(path).map_err(|error| format!("--key-file {}: {error}", path.display()))
            }
            (None, None) => Ok(Keypair::generate_ed25519()),
        }
    }

    pub(crate) fn config(&self) -> Result<Config, String> {
        let name = match self.network.as_str() {
            "" => return Err("--network: expected a name".to_owned()),
            name if name.starts_with('/') => name.to_owned(),
            name => format!("/{name}/kad/1.0.0"),
        };
        let mut config = Config::for_protocol(name).map_err(|error| format!("--network: {error}"))?;
        if let Some(k) = self.bucket_size {
            config = config.with_bucket_size(k);
        }
        if let Some(requests) = self.parallelism {
            config = config.with_parallelism(Parallelism::Fixed(requests));
        }
        if let Some(paths) = self.disjoint_paths {
            config = config.with_disjoint_paths(paths);
        }
        let seconds = |seconds: NonZeroU32| Duration::from_secs(seconds.get().into());
        if let Some(timeout) = self.query_timeout {
            config = config.with_query_timeout(seconds(timeout)).map_err(|error| error.to_string())?;
        }
        if let Some(ttl) = self.record_ttl {
            config = config.with_record_ttl(Some(seconds(ttl))).map_err(|error| error.to_string())?;
        }
        Ok(config)
    }

    /// Returns the option by which another node becomes part of the same network.
    pub(crate) fn network_option(&self) -> String {
        if self.network == NETWORK { String::new() } else { format!(" --network {}", quoted(&self.network)) }
    }

    pub(crate) fn listen(&self) -> Vec<Multiaddr> {
        if !self.bind.is_empty() {
            return self.bind.clone();
        }
        vec![Multiaddr::empty().with(Protocol::Ip4([0, 0, 0, 0].into())).with(Protocol::Tcp(0))]
    }

    /// Returns whom to join through.
    pub(crate) fn friends(&self) -> Result<Vec<Friend>, String> {
        self.bootstrap
            .iter()
            .map(|address| {
                let written = match address.iter().last() {
                    Some(Protocol::P2p(peer)) => Some(peer),
                    Some(_) | None => None,
                };
                if address.iter().all(|part| matches!(part, Protocol::P2p(_))) {
                    return Err(format!(
                        "--bootstrap {address}: the address is missing, as /ip4/127.0.0.1/tcp/4001"
                    ));
                }
                match (written, self.bootstrap_id) {
                    (Some(written), Some(apart)) if written != apart => {
                        Err(format!("--bootstrap {address} names another id than --bootstrap-id {apart}"))
                    }
                    (written, apart) => Ok(Friend { peer: written.or(apart), address: address.clone() }),
                }
            })
            .collect()
    }
}

/// Returns the keypair of a file, which is made with a new one if there is none.
fn kept(path: &Path) -> io::Result<Keypair> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("not a private key: {error}"));
    match std::fs::read(path) {
        Ok(bytes) => Keypair::from_protobuf_encoding(&bytes).map_err(invalid),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keypair = Keypair::generate_ed25519();
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(path)?;
            file.write_all(&keypair.to_protobuf_encoding().map_err(invalid)?)?;
            file.sync_all()?;
            Ok(keypair)
        }
        Err(error) => Err(error),
    }
}

/// Returns the text as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
