//! Many real nodes find each other over real sockets.
//!
//! Starts 50 nodes in this process, which listen on TCP. Each knows only one bootstrap node. When all have joined, random nodes look up random keys and each other; the table at the end says
//! how long it took, what it cost, and how much of the truth was found. The exit code is 0 only if every peer was found
//! and at least 99 % of the closest peers were.
//!
//! With `--listen` or `--bootstrap` it runs a single node instead, which joins an existing network.

#![expect(
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "an application: it reads the clock, and ignores the events it does not care for"
)]

use std::num::NonZeroU8;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, identity, noise, tcp, yamux};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{Behaviour, Client, Config, Key, Mode, Precision};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Many real nodes find each other over real sockets")]
struct Options {
    /// How many nodes to start.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(2..=2000))]
    nodes: u16,
    /// k: how many peers a bucket holds and a lookup returns.
    #[arg(long, default_value = "20")]
    bucket_size: NonZeroU8,
    /// The seed of the identities, of the keys looked up and of the askers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run one node only, listening here.
    #[arg(long)]
    listen: Vec<Multiaddr>,
    /// Run one node only, joining through this address (with or without /p2p/<id>).
    #[arg(long)]
    bootstrap: Vec<Multiaddr>,
}

/// Kademlia, and identify beside it: that is all the wiring.
#[derive(NetworkBehaviour)]
struct Node {
    kademlia: Behaviour,
    identify: identify::Behaviour,
}

fn swarm(keypair: identity::Keypair, config: Config) -> Result<Swarm<Node>, Error> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let peer_id = keypair.public().to_peer_id();
            let identify = identify::Config::new("/discovery/1.0.0".into(), keypair.public());
            Node {
                kademlia: Behaviour::with_config(peer_id, MemoryStore::new(peer_id), config),
                identify: identify::Behaviour::new(identify),
            }
        })?
        // The first request on a connection takes one round trip instead of two.
        .with_swarm_config(|config| {
            config.with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy)
        });
    Ok(swarm.build())
}

/// A node whose swarm runs in a task of its own.
struct Running {
    client: Client,
    peer_id: PeerId,
    key: Key,
    address: Multiaddr,
}

/// Starts a node and waits until it listens.
async fn start(keypair: identity::Keypair, config: Config, listen: Multiaddr) -> Result<Running, Error> {
    let mut swarm = swarm(keypair, config)?;
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    swarm.listen_on(listen)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let (client, peer_id) = (swarm.behaviour().kademlia.client(), *swarm.local_peer_id());
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    Ok(Running { client, peer_id, key: Key::sha256(&peer_id.to_bytes()), address })
}

/// Numbers from a seed: every run with the same seed asks the same questions.
struct Draw(libp2p_kademlia::Rng);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or_default()
    }

    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes);
        bytes
    }
}

fn progress(len: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:12} [{bar:40}] {pos}/{len} {elapsed}");
    let bar = ProgressBar::new(len as u64).with_message(what);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}

/// Starts all nodes; those after the first join through it. Returns them with the time each took to join.
async fn join(options: &Options, draw: &mut Draw) -> Result<(Vec<Running>, Vec<Duration>), Error> {
    let config = || Config::default().with_bucket_size(options.bucket_size);
    let mut nodes: Vec<Running> = Vec::new();
    for _ in 0..options.nodes {
        let keypair = identity::Keypair::ed25519_from_bytes(draw.bytes())?;
        nodes.push(start(keypair, config(), "/ip4/127.0.0.1/tcp/0".parse()?).await?);
    }
    let (bootstrap, address) = (nodes[0].peer_id, nodes[0].address.clone());
    let bar = progress(nodes.len() - 1, "joining");
    let mut joining: FuturesUnordered<_> = nodes[1..]
        .iter()
        .map(|node| async {
            let start = Instant::now();
            node.client.add_address(bootstrap, address.clone()).await?;
            node.client.bootstrap().await?;
            Ok::<_, Error>(start.elapsed())
        })
        .collect();
    let mut times = Vec::new();
    while let Some(time) = joining.next().await {
        times.push(time?);
        bar.inc(1);
    }
    drop(joining);
    bar.finish();
    settle(&nodes).await?;
    Ok((nodes, times))
}

/// Waits until the tables have stopped growing: nodes that all start at once see little of each other at first.
async fn settle(nodes: &[Running]) -> Result<(), Error> {
    let bar = progress(nodes.len() * (nodes.len() - 1), "settling");
    let (mut known, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        let mut now_known = 0;
        for node in nodes {
            now_known += node.client.peer_count().await?;
        }
        if now_known != known {
            (known, since) = (now_known, Instant::now());
        }
        bar.set_position(known as u64);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bar.abandon();
    Ok(())
}

/// What the lookups came to.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    requests: u32,
    found: usize,
    wanted: usize,
}

async fn look_up(nodes: &[Running], options: &Options, draw: &mut Draw) -> Result<Tally, Error> {
    const LOOKUPS: usize = 200;
    let bar = progress(LOOKUPS, "looking up");
    let mut tally = Tally::default();
    for _ in 0..LOOKUPS {
        let asker = draw.below(nodes.len());
        let target = draw.bytes();
        let found = nodes[asker].client.lookup(target, Precision::Exact).await?;
        let key = Key::sha256(&target);
        let mut truth: Vec<_> = nodes.iter().enumerate().filter(|(n, _)| *n != asker).collect();
        truth.sort_by_key(|(_, node)| key.distance(&node.key));
        truth.truncate(usize::from(options.bucket_size.get()));
        let is_found = |peer: &PeerId| found.peers.iter().any(|found| found.peer_id == *peer);
        tally.found += truth.iter().filter(|(_, node)| is_found(&node.peer_id)).count();
        tally.wanted += truth.len();
        tally.requests += found.stats.num_requests();
        tally.times.push(found.stats.duration().unwrap_or_default());
        bar.inc(1);
    }
    bar.finish();
    tally.times.sort();
    Ok(tally)
}

/// Searches random peers from random others; returns how many were searched and how many were found where they are.
async fn find(nodes: &[Running], draw: &mut Draw) -> (usize, usize) {
    const SEARCHES: usize = 50;
    let bar = progress(SEARCHES, "finding");
    let mut found = 0;
    for _ in 0..SEARCHES {
        let asker = draw.below(nodes.len());
        let sought = (asker + 1 + draw.below(nodes.len() - 1)) % nodes.len();
        match nodes[asker].client.find_peer(nodes[sought].peer_id).await {
            Ok(peer) if peer.addrs.contains(&nodes[sought].address) => found += 1,
            Ok(peer) => bar.println(format!("{} was found elsewhere: {:?}", peer.peer_id, peer.addrs)),
            Err(error) => bar.println(format!("{} was not found: {error}", nodes[sought].peer_id)),
        }
        bar.inc(1);
    }
    bar.finish();
    (SEARCHES, found)
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "it prints a table of small numbers")]
async fn network(options: &Options) -> Result<ExitCode, Error> {
    let mut draw = Draw(libp2p_kademlia::Rng::from_u64(options.seed));
    let (nodes, mut joins) = join(options, &mut draw).await?;
    joins.sort();
    let lookups = look_up(&nodes, options, &mut draw).await?;
    let (searches, found) = find(&nodes, &mut draw).await;
    let mut sizes = Vec::new();
    for node in &nodes {
        sizes.push(node.client.peer_count().await?);
    }
    sizes.sort_unstable();
    let recall = lookups.found as f64 / lookups.wanted as f64;
    let requests = f64::from(lookups.requests) / lookups.times.len() as f64;
    println!();
    println!("nodes                       {:>8}", nodes.len());
    println!(
        "join, median / slowest      {:>8.0} / {:.0} ms",
        percentile(&joins, 50),
        percentile(&joins, 100)
    );
    println!(
        "peers in tables, min / median / max {:>8} / {} / {}",
        sizes[0],
        sizes[sizes.len() / 2],
        sizes[sizes.len() - 1]
    );
    println!(
        "lookup, p50 / p99           {:>8.1} / {:.1} ms",
        percentile(&lookups.times, 50),
        percentile(&lookups.times, 99)
    );
    println!("requests per lookup         {requests:>8.1}");
    println!("recall of the true closest  {recall:>8.4}");
    println!("peers found                 {found:>8} of {searches}");
    let good = found == searches && recall >= 0.99;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one node in an existing network until it is interrupted.
#[expect(clippy::print_stdout, reason = "it tells where it is")]
async fn single(options: &Options) -> Result<ExitCode, Error> {
    let keypair = identity::Keypair::generate_ed25519();
    let config = Config::default().with_bucket_size(options.bucket_size);
    let mut swarm = swarm(keypair, config)?;
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let anywhere = ["/ip4/0.0.0.0/tcp/0".parse()?];
    let listen: &[Multiaddr] = if options.listen.is_empty() { &anywhere } else { &options.listen };
    for address in listen {
        swarm.listen_on(address.clone())?;
    }
    for address in &options.bootstrap {
        match address.iter().last() {
            Some(Protocol::P2p(peer)) => {
                swarm.behaviour_mut().kademlia.add_address(&peer, address.clone());
            }
            Some(_) | None => {
                swarm.behaviour_mut().kademlia.connect(address.clone());
            }
        }
    }
    let peer_id = *swarm.local_peer_id();
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => println!("listening on {address}/p2p/{peer_id}"),
                SwarmEvent::Behaviour(NodeEvent::Kademlia(event)) => println!("{event:?}"),
                _ => {}
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    println!("{}", swarm.behaviour().kademlia.routing_table());
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Error> {
    let said = std::env::var("RUST_LOG").ok().and_then(|said| said.parse::<Targets>().ok());
    tracing_subscriber::registry().with(said.unwrap_or_default()).with(fmt::layer()).init();
    let options = Options::parse();
    if options.listen.is_empty() && options.bootstrap.is_empty() {
        network(&options).await
    } else {
        single(&options).await
    }
}
