//! Forty real nodes in one process, of whose connections something is always amiss, and one in ten of them hostile.
//!
//! Each honest node stands behind a proxy of its own, which delays, stalls, silences, cuts and refuses connections at
//! random; some are reached over QUIC. Pairs are dialled twice, from both ends at once. All the while the honest ones look
//! up keys, each other and records, provide keys, and are asked how many peers they know. At the end all is quiet.
//!
//! The exit code is 0 only if
//! - no call waited for more than a second for the node itself, beyond what this machine was late by,
//! - no lookup, search or get failed: all honest nodes live, and each has answers to give,
//! - a node that has nothing to do takes at most one percent of a core, or, where the machine is slow, half of what it took
//!   while it was disturbed, and is polled, its connections included, at most a hundred times a second,
//! - the last third of the disturbed time took at most a fifth and 16 MiB more memory than the second third.

#![expect(
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "an application: it reads the clock, and ignores what it does not care for"
)]

mod hostile;
mod node;
mod proxy;
mod trouble;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use cpu_time::ProcessTime;
use libp2p::identity;
use libp2p_kademlia::{Key, Precision, Quorum, Record, RecordKey, Rng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use hostile::{Hostile, Scheme, Trap};
use node::Running;
use trouble::Trouble;
use watch::{Machine, Tally, Times, resident};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(
    about = "Forty real nodes of whose connections something is always amiss, one in ten of them hostile"
)]
struct Options {
    /// How long it lasts, joining aside; the last part of it, a quarter or two minutes, is quiet.
    #[arg(long, default_value_t = 0.5)]
    minutes: f64,
    /// How many nodes there are, the hostile ones included.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(10..=400))]
    nodes: u16,
    /// The seed of the identities, of what is asked and of what goes wrong.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A tenth of the nodes.
const HOSTILE: usize = 10;
/// An eighth of the honest nodes is reached over QUIC, without a proxy.
const QUIC: usize = 8;
/// How many records there are to be found.
const RECORDS: u8 = 20;
/// So often a node is asked how many peers it knows.
const CALL_EVERY: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// How much of a core an idle node may take, in percent.
const IDLE_CPU: f64 = 1.0;
/// Or in this part of the processor time of the disturbed time: a machine that is slow for a while is slow in both.
const IDLE_PART: f64 = 0.5;
/// How often the tasks of an idle node and its connections may be polled, a second.
const IDLE_POLLS: f64 = 100.0;
/// For so long may last what is under way when nobody asks for more.
const LAST_QUERY: Duration = Duration::from_secs(60);
/// How much more memory the last third may take than the one before, beyond [`MORE_KIB`].
const MORE: f64 = 1.2;
/// What the allocator may keep at will.
const MORE_KIB: f64 = 16.0 * 1024.0;

/// Numbers from a seed.
struct Draw(Rng);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or_default()
    }

    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes);
        bytes
    }

    /// A draw of its own for somebody else.
    fn child(&mut self) -> Self {
        Self(Rng::from_seed(self.bytes()))
    }

    /// A time between two, in milliseconds.
    fn time(&mut self, least: usize, most: usize) -> Duration {
        Duration::from_millis((least + self.below(most - least + 1)) as u64)
    }
}

/// What came of it.
#[derive(Default)]
struct Tallies {
    calls: Times,
    /// Calls that came back with an error.
    lost: AtomicUsize,
    lookups: Tally,
    /// How many of the closest honest peers lookups found, of how many.
    found: AtomicUsize,
    wanted: AtomicUsize,
    searches: Tally,
    gets: Tally,
    provided: Tally,
}

/// The honest nodes, and what is known of them.
struct Honest {
    nodes: Vec<Running>,
    tallies: Tallies,
    /// Whether nobody asks for anything any more.
    quiet: AtomicBool,
}

impl Honest {
    /// Starts the nodes; those after the first join through it.
    async fn start(count: usize, draw: &mut Draw) -> Result<Arc<Self>, Error> {
        let mut nodes = Vec::new();
        for n in 0..count {
            let keypair = identity::Keypair::ed25519_from_bytes(draw.bytes())?;
            nodes.push(Running::start(keypair, n % QUIC == QUIC - 1).await?);
        }
        let Some((first, others)) = nodes.split_first() else {
            return Err("no nodes".into());
        };
        for node in others {
            node.client.add_address(first.peer_id, first.address.clone()).await?;
            node.client.bootstrap().await?;
        }
        let began = Instant::now();
        for node in &nodes {
            while node.client.peer_count().await? + 2 < count.min(20) && began.elapsed() < 20 * SECOND {
                sleep(CALL_EVERY).await;
            }
        }
        for n in 0..RECORDS {
            let node = nodes.get(draw.below(count)).ok_or("no node")?;
            let record = Record::new(RecordKey::new(&[b'k', n]), vec![n; 200]);
            node.client.put_record(record, Quorum::Majority).await?;
        }
        Ok(Arc::new(Self { nodes, tallies: Tallies::default(), quiet: AtomicBool::new(false) }))
    }

    fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Asks a node all the time how many peers it knows.
    async fn call(self: Arc<Self>, n: usize) {
        while let Some(node) = self.nodes.get(n) {
            let began = Instant::now();
            let is_lost = node.client.peer_count().await.is_err();
            self.tallies.calls.add(began.elapsed());
            self.tallies.lost.fetch_add(usize::from(is_lost), Ordering::Relaxed);
            // Nor is a node idle that is asked ten times a second.
            sleep(if self.is_quiet() { SECOND } else { CALL_EVERY }).await;
        }
    }

    /// Lets a node ask for one thing after another.
    async fn ask(self: Arc<Self>, n: usize, mut draw: Draw) {
        while let Some(node) = self.nodes.get(n).filter(|_| !self.is_quiet()) {
            let began = Instant::now();
            match draw.below(8) {
                0..=2 => {
                    let result = self.look_up(n, draw.bytes()).await;
                    self.tallies.lookups.add(began.elapsed(), result);
                }
                3 | 4 => {
                    let Some(sought) = self.nodes.get(draw.below(self.nodes.len())) else {
                        return;
                    };
                    if sought.peer_id != node.peer_id {
                        let found = node.client.find_peer(sought.peer_id).await;
                        let result = found.map(drop).map_err(|why| format!("node {n}: {why}"));
                        self.tallies.searches.add(began.elapsed(), result);
                    }
                }
                5 | 6 => {
                    let key = RecordKey::new(&[b'k', draw.0.below(RECORDS.into()).to_le_bytes()[0]]);
                    let got = node.client.get(key).await;
                    let result = got.map(drop).map_err(|why| format!("node {n}: {why}"));
                    self.tallies.gets.add(began.elapsed(), result);
                }
                _ => {
                    // Of few keys, so that what is kept does not grow.
                    let key = RecordKey::new(&[b'p', draw.0.below(50).to_le_bytes()[0]]);
                    let told = node.client.provide(key).await;
                    let result = told.map(drop).map_err(|why| format!("node {n}: {why}"));
                    self.tallies.provided.add(began.elapsed(), result);
                }
            }
            sleep(draw.time(200, 2500)).await;
        }
    }

    async fn look_up(&self, n: usize, target: [u8; 32]) -> Result<(), String> {
        let Some(node) = self.nodes.get(n) else {
            return Ok(());
        };
        let found = node.client.lookup(target, Precision::Exact).await;
        let found = found.map_err(|why| format!("node {n}: {why}"))?;
        let key = Key::sha256(&target);
        let mut truth: Vec<_> = self.nodes.iter().filter(|other| other.peer_id != node.peer_id).collect();
        truth.sort_by_key(|other| key.distance(&other.key));
        truth.truncate(20);
        let is_found = |other: &&&Running| found.peers.iter().any(|peer| peer.peer_id == other.peer_id);
        let hits = truth.iter().filter(is_found).count();
        self.tallies.found.fetch_add(hits, Ordering::Relaxed);
        self.tallies.wanted.fetch_add(truth.len(), Ordering::Relaxed);
        if hits == 0 { Err(format!("node {n}: none of the closest was found")) } else { Ok(()) }
    }
}

/// What memory and processor time came to.
#[derive(Default)]
struct Costs {
    /// The mean memory in each third of the disturbed time, in KiB.
    thirds: [f64; 3],
    /// How much of a core a node takes that is disturbed, in percent.
    disturbed: f64,
    /// And one that is idle.
    idle: f64,
    /// How often the tasks of an idle node are polled, a second.
    polls: f64,
}

/// How much of a core the process took since it began to be measured, in percent.
struct Share(Instant, ProcessTime);

impl Share {
    fn begin() -> Self {
        Self(Instant::now(), ProcessTime::now())
    }

    fn of_one_of(&self, nodes: f64) -> f64 {
        self.1.elapsed().as_secs_f64() / self.0.elapsed().as_secs_f64() * 100.0 / nodes
    }
}

/// The disturbed time: returns the mean memory in each third of it.
async fn disturbed(honest: &Arc<Honest>, trouble: &mut Trouble, scheme: &Scheme, time: Duration) -> [f64; 3] {
    let (began, mut samples) = (Instant::now(), [(0.0, 0.0); 3]);
    let (mut sampled, mut changed) = (began, began);
    while began.elapsed() < time {
        trouble.make(honest);
        let third = began.elapsed().as_secs_f64() / time.as_secs_f64() * 3.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0, 1 or 2")]
        let third = (third as usize).min(2);
        if sampled.elapsed() > SECOND / 4
            && let (Some(memory), Some((sum, count))) = (resident(), samples.get_mut(third))
        {
            *sum += kib(memory);
            *count += 1.0;
            sampled = Instant::now();
        }
        // Often enough that each is each kind even in a short run, and long enough that it shows.
        if changed.elapsed() > (time / 14).min(60 * SECOND) {
            scheme.change();
            changed = Instant::now();
        }
        sleep(trouble.pause()).await;
    }
    samples.map(|(sum, count)| if count > 0.0 { sum / count } else { 0.0 })
}

#[expect(clippy::cast_precision_loss, reason = "numbers that are shown rounded")]
const fn kib(memory: u64) -> f64 {
    memory as f64
}

#[expect(clippy::print_stderr, reason = "it says what it is about")]
async fn soak(options: &Options) -> Result<ExitCode, Error> {
    let mut draw = Draw(Rng::from_u64(options.seed));
    let (all, began) = (usize::from(options.nodes), Instant::now());
    let hostile = all / HOSTILE;
    eprintln!("{} honest nodes join", all - hostile);
    let honest = Honest::start(all - hostile, &mut draw).await?;
    let trap = Trap::set().await?;
    let victims = honest.nodes.iter().map(|node| (node.peer_id, node.address.clone())).collect();
    let scheme = Scheme::new(victims, &trap, &mut draw);
    let mut crowd = Vec::new();
    for n in 0..hostile {
        crowd.push(Hostile::start(n, &scheme, draw.child()).await?);
    }
    let machine = Machine::watched();
    let mut asking = JoinSet::new();
    for n in 0..honest.nodes.len() {
        tokio::spawn(honest.clone().call(n));
        asking.spawn(honest.clone().ask(n, draw.child()));
    }
    let total = Duration::from_secs_f64(options.minutes.clamp(0.1, 10_000.0) * 60.0);
    let quiet = (total / 4).clamp(8 * SECOND, 120 * SECOND);
    let mut trouble = Trouble::new(draw.child());
    eprintln!("they joined in {:.1} s; now they are disturbed", began.elapsed().as_secs_f64());
    let share = Share::begin();
    let thirds = disturbed(&honest, &mut trouble, &scheme, total.saturating_sub(quiet)).await;
    let disturbed = share.of_one_of(f64::from(options.nodes));
    honest.quiet.store(true, Ordering::Relaxed);
    drop(crowd);
    eprintln!("now they are left alone");
    // What was under way ends, and who is gone is noticed.
    let _ = timeout(LAST_QUERY, asking.join_all()).await;
    sleep(quiet / 2).await;
    let (share, before) = (Share::begin(), node::polls());
    sleep(quiet / 2).await;
    let nodes = f64::from(u32::try_from(honest.nodes.len())?);
    let idle = share.of_one_of(nodes);
    let polls = f64::from(u32::try_from(node::polls() - before)?) / share.0.elapsed().as_secs_f64() / nodes;
    let costs = Costs { thirds, disturbed, idle, polls };
    table(&honest, hostile, &trouble, (&scheme, &trap), &machine, &costs);
    let broken = broken(&honest.tallies, &scheme, &machine, &costs);
    for bar in &broken {
        eprintln!("FAILED: {bar}");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "it prints a table")]
fn table(
    honest: &Honest,
    hostile: usize,
    trouble: &Trouble,
    (scheme, trap): (&Scheme, &Trap),
    machine: &Machine,
    costs: &Costs,
) {
    let row = |name: &str, value: String| println!("{name:<44}{value:>32}");
    let ms = |times: &Times| {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (half, most) = (ms(times.percentile(50)), ms(times.percentile(99)));
        format!("{half:.1} / {most:.1} / {:.1}", ms(times.worst()))
    };
    let proxies = || honest.nodes.iter().filter_map(|node| node.proxy.as_ref());
    let tallies = &honest.tallies;
    row("nodes, honest / hostile", format!("{} / {hostile}", honest.nodes.len()));
    row("connections through proxies", proxies().map(proxy::Proxy::connections).sum::<usize>().to_string());
    row("of them open at the end", proxies().map(proxy::Proxy::open).sum::<usize>().to_string());
    for (what, count) in trouble.counts() {
        row(what, count.to_string());
    }
    row("requests that hostile peers have read", scheme.asked().to_string());
    row("connections made to nobody", trap.taken().to_string());
    row("calls", tallies.calls.count().to_string());
    row("call p50 / p99 / worst, ms", ms(&tallies.calls));
    row("machine late p50 / p99 / worst, ms", ms(machine.late()));
    for (what, tally) in [
        ("lookups", &tallies.lookups),
        ("searches of a peer", &tallies.searches),
        ("gets of a record", &tallies.gets),
        ("keys provided", &tallies.provided),
    ] {
        row(&format!("{what} / failed"), format!("{} / {}", tally.times.count(), tally.failed()));
        row("  p50 / p99 / worst, ms", ms(&tally.times));
        tally.reasons().iter().for_each(|reason| println!("  failed: {reason}"));
    }
    row("recall of the closest honest peers", format!("{:.4}", recall(tallies)));
    row("disturbed node, % of a core", format!("{:.3}", costs.disturbed));
    row("idle node, % of a core", format!("{:.3}", costs.idle));
    row("idle node, polls a second", format!("{:.1}", costs.polls));
    let [first, second, last] = costs.thirds.map(|kib| kib / 1024.0);
    row("memory by thirds, MiB", format!("{first:.1} / {second:.1} / {last:.1}"));
}

#[expect(clippy::cast_precision_loss, reason = "numbers that are shown rounded")]
fn recall(tallies: &Tallies) -> f64 {
    let (found, wanted) = (tallies.found.load(Ordering::Relaxed), tallies.wanted.load(Ordering::Relaxed));
    found as f64 / wanted.max(1) as f64
}

/// Which bars are not held.
fn broken(tallies: &Tallies, scheme: &Scheme, machine: &Machine, costs: &Costs) -> Vec<String> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    let (worst, late) = (tallies.calls.worst(), machine.late().worst());
    must(worst <= SECOND + late, format!("a call waited for {worst:?}"));
    must(tallies.lost.load(Ordering::Relaxed) == 0, "calls were not answered: a swarm is gone".to_owned());
    for (what, tally) in [
        ("lookups", &tallies.lookups),
        ("searches", &tallies.searches),
        ("gets", &tallies.gets),
        ("provided keys", &tallies.provided),
    ] {
        must(tally.failed() == 0, format!("{} {what} failed", tally.failed()));
        must(tally.times.count() > 0, format!("there were no {what}"));
    }
    must(scheme.asked() > 0, "no hostile peer was ever asked".to_owned());
    let most = IDLE_CPU.max(costs.disturbed * IDLE_PART);
    must(
        costs.idle <= most,
        format!("an idle node takes {:.2} % of a core, more than {most:.2}", costs.idle),
    );
    must(costs.polls <= IDLE_POLLS, format!("an idle node is polled {:.0} times a second", costs.polls));
    let [_, second, last] = costs.thirds;
    must(last <= second * MORE + MORE_KIB, format!("memory grows: {second:.0} KiB, then {last:.0} KiB"));
    broken
}

#[tokio::main]
async fn main() -> Result<ExitCode, Error> {
    let said = std::env::var("RUST_LOG").ok().and_then(|said| said.parse::<Targets>().ok());
    tracing_subscriber::registry().with(said.unwrap_or_default()).with(fmt::layer()).init();
    soak(&Options::parse()).await
}
