//! A chat without a server: its peers find each other through the DHT and talk by gossipsub.
//!
//! Without options it starts a node in the room `lobby` and prints the command for a second terminal. Each node advertises
//! itself under the name of its room and discovers the others there; all they have to know is any node of the network, which
//! need not chat. Lines typed are said to everybody; `/who` tells who is there, `/quit` or the end of the input leaves.
//!
//! One line is printed for each event: `NICK: TEXT` is what somebody said; what begins with `*` nobody said. `--script`
//! takes the lines from a file that also says what has to be heard. The log, at the level that `RUST_LOG` says, goes to
//! stderr.

#![expect(
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "an application: it reads the clock, and ignores the events it does not care for"
)]

mod chat;
mod message;
mod node;
mod options;
mod room;
mod screen;
mod script;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use futures::StreamExt as _;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p_gossipsub::IdentTopic;
use libp2p_kademlia::Client;
use tokio::sync::mpsc;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use chat::{Chat, Fault, News, Task};
use options::Options;
use screen::Screen;
use script::Script;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Joins the network, then advertises this node under a name and finds the others, as long as it is not dropped.
async fn rendezvous(client: Client, friends: Vec<Multiaddr>, name: String, news: mpsc::Sender<News>) {
    // The other end is gone only when nothing matters any more.
    let say = async |text: String| drop(news.send(News::Said(text)).await);
    if !friends.is_empty() {
        say(join(&client, friends).await).await;
    }
    let advertise = async {
        let advertised = client.advertise(name.as_str()).await;
        match &advertised {
            // If nobody could be told yet, it is tried again by itself.
            Ok(advertisement) => tracing::debug!(?advertisement, "advertised"),
            Err(error) => say(format!("others may not find you: {error}")).await,
        }
        // It lasts as long as this is kept.
        advertised
    };
    let discover = async {
        let mut found = client.discover(name.as_str());
        while let Some(peer) = found.next().await {
            if news.send(News::Found(peer)).await.is_err() {
                return;
            }
        }
        if let Some(error) = found.error() {
            say(format!("you may not find others: {error}")).await;
        }
        std::future::pending().await
    };
    let _ = futures::join!(advertise, discover);
}

/// Joins through the nodes of the command line, and returns what came of it.
async fn join(client: &Client, friends: Vec<Multiaddr>) -> String {
    let mut failed = Vec::new();
    for address in friends {
        let joined = match address.iter().last() {
            // Asked when the node joins, below.
            Some(Protocol::P2p(peer)) => {
                client.add_address(peer, address.clone()).await.map(|_| ()).map_err(|error| error.to_string())
            }
            Some(_) | None => {
                client.connect(address.clone()).await.map(|_| ()).map_err(|error| error.to_string())
            }
        };
        if let Err(error) = joined {
            failed.push(error);
        }
    }
    match client.bootstrap().await {
        Ok(_) => "you have joined the network, and look for others in the room".to_owned(),
        Err(error) => {
            failed.push(format!("not joined yet: {error}"));
            failed.join("; ")
        }
    }
}

/// Chats until the user has had enough.
async fn run(options: &Options) -> Result<(), Error> {
    let task = match &options.script {
        Some(path) => {
            let wrong = |error: String| format!("--script {}: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            let deadline = Instant::now() + Duration::from_secs(options.max_seconds.get().into());
            Some(Task { script: Script::parse(&text).map_err(wrong)?, deadline })
        }
        None => None,
    };
    let keypair = options.keypair()?;
    let peer_id = keypair.public().to_peer_id();
    let (nick, name) = (options.nick(&peer_id), format!("libp2p-kademlia-chat/{}", options.room));
    let topic = IdentTopic::new(name.clone());
    let (swarm, addresses) = node::start(keypair, &topic, options.mdns, &options.listen()).await?;
    let (screen, lines) = match task {
        Some(_) => (Screen::Pipe, None),
        None => screen::open().map(|(screen, lines)| (screen, Some(lines)))?,
    };
    let client = swarm.behaviour().kademlia.client();
    let mut chat = Chat::new(swarm, screen, topic, nick.clone(), task);
    chat.tell(&format!("you are {nick}, in the room {}. Another terminal gets there by", options.room))?;
    chat.screen.show(&options.invitation(&addresses, peer_id))?;
    if lines.is_some() {
        chat.tell("What you type is said to everybody; /who tells who is here, /quit leaves.")?;
    }
    let (tell, news) = mpsc::channel(64);
    let search = tokio::spawn(rendezvous(client, options.bootstrap.clone(), name, tell));
    let ends = chat.run(lines, news).await;
    // Drops the advertisement: from now on nobody new is sent here.
    search.abort();
    match ends {
        Err(Fault::Output(error)) => Err(error.into()),
        ends => {
            chat.leave().await?;
            ends.map_err(|fault| match fault {
                Fault::Output(error) => error.into(),
                Fault::Script(why) => format!("the script, {why}").into(),
            })
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let said = std::env::var("RUST_LOG").ok().and_then(|said| said.parse::<Targets>().ok());
    let filter = said.unwrap_or_else(|| Targets::new().with_default(LevelFilter::ERROR));
    let print = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(print).init();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has gone.
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
