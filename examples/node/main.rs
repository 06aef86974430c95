//! A node for hands-on use: start two in two terminals, put on one, get on the other.
//!
//! Without options it has a random id, listens on a random TCP port of all interfaces, serves others and
//! stores whatever they put. It prints the command that starts another node which joins it, then reads commands: from a
//! terminal with line editing and history, from a pipe line by line, one after another. `help` lists them.
//!
//! What commands print goes to stdout; the log, at the level that `RUST_LOG` says, to stderr.

#![expect(
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "an application: it reads the clock, and ignores the events it does not care for"
)]

mod commands;
mod input;
mod node;
mod options;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::store::{MemoryStore, RecordStore, Redb};
use libp2p_kademlia::{Client, Key};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use commands::{Fault, Session};
use options::{Friend, Options};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Joins through the friends of the command line, and says what came of it.
async fn join(client: &Client, friends: Vec<Friend>) -> io::Result<()> {
    let mut out = io::stdout();
    for Friend { peer, address } in friends {
        let said = match peer {
            // Asked when the node joins, below.
            Some(peer) => {
                let added = client.try_add_address(peer, address.clone()).await;
                added.err().map(|error| format!("{address} of {peer}: {error}"))
            }
            None => Some(match client.connect(address.clone()).await {
                Ok(peer) => format!("met {peer} at {address}"),
                Err(error) => error.to_string(),
            }),
        };
        if let Some(said) = said {
            writeln!(out, "{said}")?;
        }
    }
    writeln!(out, "{}", commands::joined(client).await)
}

/// Runs a node until its user has had enough.
async fn run<S: RecordStore + Send + 'static>(
    options: Options,
    keypair: Keypair,
    store: S,
) -> Result<(), Error> {
    let (friends, config, network) = (options.friends()?, options.config()?, options.network_option());
    let (peer_id, protocol) = (keypair.public().to_peer_id(), config.protocol_name().to_owned());
    let node = node::start(keypair, config, store, &options.listen()).await?;
    let (client, addresses) = (node.client.clone(), node.addresses.clone());
    let session = Session { client, peer_id, addresses, protocol, network };
    let ends = serve(&session, friends).await;
    node.stop().await;
    match ends {
        // Whoever reads has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ends => Ok(ends?),
    }
}

/// Tells where the node is, joins, and carries out commands.
async fn serve(session: &Session, friends: Vec<Friend>) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "This node is {}. Another one that joins it:", session.peer_id)?;
    writeln!(out, "{}", session.invitation())?;
    if !friends.is_empty() {
        join(&session.client, friends).await?;
    }
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if is_terminal {
        writeln!(out, "`help` lists the commands, `quit` or ctrl-D ends the node.")?;
    }
    let mut lines = input::start(is_terminal)?;
    while let Some(input::Line { text, done }) = lines.recv().await {
        let said = match text {
            Ok(text) => tokio::select! {
                said = session.obey(&text, &mut out) => said,
                () = input::interrupted(is_terminal) => Err(Fault::Told("interrupted".to_owned())),
            },
            Err(error) => Err(Fault::Told(format!("the line could not be read: {error}"))),
        };
        match said {
            Ok(()) => {}
            Err(Fault::Told(text)) => writeln!(out, "{text}")?,
            Err(Fault::Output(error)) => return Err(error),
            Err(Fault::Quit) => break,
        }
        out.flush()?;
        // Only now is the next line read, so that no prompt stands in the middle of what is printed.
        let _ = done.send(());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let said = std::env::var("RUST_LOG").ok().and_then(|said| said.parse::<Targets>().ok());
    let filter = said.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let print = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(print).init();
    let ends = match options.keypair() {
        Ok(keypair) => {
            let peer_id = keypair.public().to_peer_id();
            match options.store.as_ref().map(|path| Redb::open(path, peer_id)) {
                Some(Ok(store)) => run(options, keypair, store).await,
                Some(Err(error)) => Err(format!("--store: {error}").into()),
                None => run(options, keypair, MemoryStore::new(peer_id)).await,
            }
        }
        Err(error) => Err(error.into()),
    };
    match ends {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The place of a peer in the keyspace.
fn place(peer: &PeerId) -> Key {
    Key::of_peer(peer, Key::sha256)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the bytes of an even number of hexadecimal digits.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        digits.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    (!pairs.is_empty() && rest.is_empty()).then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Returns the address with the id of the peer behind it.
fn with_id(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    address.clone().with_p2p(peer).unwrap_or_else(|address| address)
}
