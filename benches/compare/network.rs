//! Rows of whole networks: real nodes of one kind that join through one of them, all on one thread, over memory whose links take
//! time or none. Identify tells them of each other, as in most programs; streams and upgrades are negotiated as by default.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cpu_time::ThreadTime;
use futures::StreamExt as _;
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::{Config as SwarmConfig, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, identity, yamux};
use libp2p_kademlia::Key;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::member::{Kind, Member, MemberEvent, Ours, Query, Theirs, Told};
use super::slow::{Delay, Slow};
use super::table::{Figure, Line, Table};
use super::{Failure, Options, PROTOCOL};

/// How many peers a lookup is to find.
const CLOSEST: usize = 20;
/// The round-trip time of links that take time.
const RTT: Duration = Duration::from_millis(100);
/// The time between two that join.
const JOIN_EVERY: Duration = Duration::from_millis(20);
/// A network has come to rest when it has heard so few requests within a second.
const QUIET: u64 = 2;
/// It is not waited longer for that.
const REST: Duration = Duration::from_secs(60);
/// Longer than any query takes.
const DEADLINE: Duration = Duration::from_secs(120);
/// As swarms that are made with libp2p's builder have it: without it, who dials what is frozen would never be told.
const CONNECTING: Duration = Duration::from_secs(10);
/// As swarms have it by default.
const IDLE: Duration = Duration::from_secs(10);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Size {
    nodes: usize,
    /// Lookups one after another, by one node after another.
    single: usize,
    /// Lookups that one node makes, 32 at once.
    many: usize,
    /// Lookups that begin at once when a fifth is frozen.
    frozen: usize,
    /// Nodes that come when all others are there, and ask at once.
    newcomers: usize,
}

/// Measures networks of both kinds, and prints a line for each row.
pub(crate) fn rows(options: &Options, table: &mut Table) {
    let sizes = if options.is_whole {
        let large = Size { nodes: 300, single: 64, many: 256, frozen: 100, newcomers: 10 };
        vec![Size { nodes: 100, many: 0, frozen: 0, newcomers: 0, ..large }, large]
    } else {
        vec![Size { nodes: 30, single: 8, many: 32, frozen: 10, newcomers: 2 }]
    };
    for size in sizes {
        let name = format!("network of {}", size.nodes);
        if !options.wants(&name) {
            continue;
        }
        let (theirs, ours) = (on_thread::<Theirs>(size), on_thread::<Ours>(size));
        let shown = match (&theirs, &ours) {
            (Ok(rows), _) | (_, Ok(rows)) => rows.iter().map(|row| (row.what, row.unit)).collect(),
            (Err(_), Err(_)) => vec![("all of it", "-")],
        };
        for (at, (what, unit)) in shown.into_iter().enumerate() {
            let cell = |rows: &Result<Vec<Row>, Failure>| {
                Some(rows.as_ref().map(|rows| Figure::plain(rows[at].value)).map_err(Clone::clone))
            };
            let (theirs, ours) = (cell(&theirs), cell(&ours));
            let name = format!("{name}: {what}");
            table.line(Line { name: &name, unit, floor: None, theirs, ours, most: None });
        }
    }
}

/// What was measured of a network.
#[derive(Clone, Copy, Debug)]
struct Row {
    what: &'static str,
    unit: &'static str,
    value: f64,
}

/// Runs a network on a thread of its own, whose processor time is that of all its nodes.
fn on_thread<K: Kind>(size: Size) -> Result<Vec<Row>, Failure> {
    let run = move || {
        let runtime = super::measured::runtime();
        let rows = runtime.block_on(measure::<K>(size));
        // Swarms end within their runtime.
        runtime.shutdown_timeout(Duration::from_secs(1));
        rows
    };
    std::thread::spawn(run).join().unwrap_or_else(|_| Err("it has panicked".into()))
}

/// Measures a network from its beginning.
async fn measure<K: Kind>(size: Size) -> Result<Vec<Row>, Failure> {
    let mut network = Network::<K>::default();
    let mut rows = Vec::new();
    for _ in 0..size.nodes {
        network.join(true).await;
        sleep(JOIN_EVERY).await;
    }
    network.rest().await;
    let joined = network.counters.now();
    rows.push(Row {
        what: "join: requests heard a node",
        unit: "requests",
        value: ratio(joined.heard, size.nodes),
    });
    single(&mut network, size, &mut rows).await?;
    if size.many > 0 {
        many(&mut network, size, &mut rows).await?;
    }
    if size.newcomers > 0 {
        slow(&mut network, size, &mut rows).await?;
    }
    if size.frozen > 0 {
        frozen(&mut network, size, &mut rows).await?;
    }
    Ok(rows)
}

/// Lookups one after another, each by another node.
async fn single<K: Kind>(network: &mut Network<K>, size: Size, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let (before, cpu) = (network.counters.now(), ThreadTime::now());
    let mut sum = Sum::default();
    for n in 0..size.single {
        let asker = (7 * n + 1) % size.nodes;
        let key = network.key();
        let answer = network.ask(asker, Query::Closest, &key).await?;
        sum.add(network, asker, &key, &answer);
    }
    let cpu = cpu.elapsed().as_secs_f64() * 1e3 / size.single as f64;
    let after = network.counters.now();
    let each = |count: u64| ratio(count, size.single);
    rows.extend([
        Row { what: "a lookup: CPU of all", unit: "ms", value: cpu },
        Row { what: "a lookup: requests", unit: "requests", value: sum.requests() },
        Row { what: "a lookup: heard by all", unit: "requests", value: each(after.heard - before.heard) },
        Row { what: "a lookup: dials of all", unit: "dials", value: each(after.dials - before.dials) },
        Row { what: "a lookup: recall", unit: "share", value: sum.recall() },
    ]);
    Ok(())
}

/// Lookups of one node, 32 at once.
async fn many<K: Kind>(network: &mut Network<K>, size: Size, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let sum = network.ask_many(1, size.many, 32).await?;
    rows.extend([
        Row { what: "32 lookups at once: requests", unit: "requests", value: sum.requests() },
        Row { what: "32 lookups at once: recall", unit: "share", value: sum.recall() },
    ]);
    Ok(())
}

/// The links become slow: what a node does that knows them as fast, and what newcomers do.
async fn slow<K: Kind>(network: &mut Network<K>, size: Size, rows: &mut Vec<Row>) -> Result<(), Failure> {
    // It has looked up before, over links that took no time.
    network.ask_many(2, 20, 1).await?;
    network.delay.set(RTT / 2);
    let first = network.ask_many(2, 10, 1).await?;
    let key = network.key();
    let before = network.counters.now();
    let put = network.ask(3, Query::Put, &key).await?;
    let dials = network.counters.now().dials - before.dials;
    let (mut closest, mut get) = (Vec::new(), Vec::new());
    for _ in 0..size.newcomers {
        let newcomer = network.join(false).await;
        let target = network.key();
        closest.push(network.ask(newcomer, Query::Closest, &target).await?);
        let newcomer = network.join(false).await;
        get.push(network.ask(newcomer, Query::Get, &key).await?);
    }
    let (got, asked) = (get.iter().filter(|answer| answer.is_ok).count(), get.len());
    if got < asked || !put.is_ok {
        return Err(format!("{got} of {asked} gets have found the value, put: {}", put.is_ok));
    }
    rows.extend([
        Row { what: "links turn to 100 ms, first ten lookups: recall", unit: "share", value: first.recall() },
        Row {
            what: "links turn to 100 ms, first ten lookups: requests",
            unit: "requests",
            value: first.requests(),
        },
        Row { what: "closest, cold", unit: "RTT", value: median(&closest).div_duration_f64(RTT) },
        Row { what: "get, cold", unit: "RTT", value: median(&get).div_duration_f64(RTT) },
        Row { what: "put, warm", unit: "RTT", value: put.took.div_duration_f64(RTT) },
        Row { what: "put, warm: dials of all", unit: "dials", value: ratio(dials, 1) },
    ]);
    network.delay.set(Duration::ZERO);
    Ok(())
}

/// A fifth is frozen, and many lookups begin at once.
async fn frozen<K: Kind>(network: &mut Network<K>, size: Size, rows: &mut Vec<Row>) -> Result<(), Failure> {
    network.rest().await;
    // Neither the first, through which all have joined, nor those that have asked before.
    for n in (10..size.nodes).step_by(5) {
        network.freeze(n);
    }
    let sum = network.ask_many(4, size.frozen, size.frozen).await?;
    rows.extend([
        Row { what: "a fifth frozen, all at once: median", unit: "s", value: sum.median().as_secs_f64() },
        Row { what: "a fifth frozen, all at once: recall", unit: "share", value: sum.recall() },
        Row { what: "a fifth frozen, all at once: requests", unit: "requests", value: sum.requests() },
    ]);
    Ok(())
}

fn ratio(count: u64, of: usize) -> f64 {
    count as f64 / of as f64
}

fn median(answers: &[Answer]) -> Duration {
    let mut times: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// What has happened in a network.
#[derive(Clone, Copy, Debug)]
struct Count {
    heard: u64,
    dials: u64,
}

#[derive(Debug, Default)]
struct Counters {
    heard: AtomicU64,
    dials: AtomicU64,
}

impl Counters {
    fn now(&self) -> Count {
        Count { heard: self.heard.load(Ordering::Relaxed), dials: self.dials.load(Ordering::Relaxed) }
    }
}

/// What a node is asked for.
enum Command {
    Ask(Query, Vec<u8>, oneshot::Sender<Answer>),
    /// It does nothing any more.
    Freeze,
}

/// What came of a query.
#[derive(Clone, Debug)]
struct Answer {
    peers: Vec<PeerId>,
    is_ok: bool,
    requests: u32,
    took: Duration,
}

/// What came of several lookups.
#[derive(Debug, Default)]
struct Sum {
    lookups: usize,
    requests: u64,
    right: usize,
    wanted: usize,
    times: Vec<Duration>,
}

impl Sum {
    fn add<K: Kind>(&mut self, network: &Network<K>, asker: usize, key: &[u8], answer: &Answer) {
        let closest = network.closest(asker, key);
        self.lookups += 1;
        self.requests += u64::from(answer.requests);
        self.right += answer.peers.iter().filter(|peer| closest.contains(peer)).count();
        self.wanted += closest.len();
        self.times.push(answer.took);
    }

    fn requests(&self) -> f64 {
        ratio(self.requests, self.lookups)
    }

    fn recall(&self) -> f64 {
        self.right as f64 / self.wanted as f64
    }

    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[times.len() / 2]
    }
}

/// A node, as the network sees it.
struct Node {
    peer: PeerId,
    key: Key,
    is_server: bool,
    is_frozen: bool,
    commands: mpsc::UnboundedSender<Command>,
}

/// A network.
struct Network<K> {
    nodes: Vec<Node>,
    /// Where the first of them is.
    first: Option<(PeerId, Multiaddr)>,
    delay: Delay,
    counters: Arc<Counters>,
    keys: u32,
    kind: std::marker::PhantomData<K>,
}

impl<K> Default for Network<K> {
    fn default() -> Self {
        let (delay, counters, kind) = (Delay::default(), Arc::default(), std::marker::PhantomData);
        Self { nodes: Vec::new(), first: None, delay, counters, keys: 0, kind }
    }
}

impl<K: Kind> Network<K> {
    /// Adds a node that knows the first one, and returns its number.
    async fn join(&mut self, is_server: bool) -> usize {
        let keypair = identity::Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id();
        let member = Member {
            kad: K::behaviour(peer, is_server),
            identify: identify::Behaviour::new(identify::Config::new("/bench/1".into(), keypair.public())),
        };
        let mut swarm = slow_swarm(&keypair, member, self.delay.clone());
        swarm.listen_on("/memory/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        match &self.first {
            Some((first, at)) => K::join(&mut swarm.behaviour_mut().kad, first, at.clone()),
            None => self.first = Some((peer, address)),
        }
        let (commands, taken) = mpsc::unbounded_channel();
        tokio::spawn(live::<K>(swarm, taken, self.counters.clone()));
        let key = Key::of_peer(&peer, Key::sha256);
        self.nodes.push(Node { peer, key, is_server, is_frozen: false, commands });
        self.nodes.len() - 1
    }

    /// Waits until hardly anybody asks anything.
    async fn rest(&self) {
        let since = Instant::now();
        let mut before = self.counters.now().heard;
        while since.elapsed() < REST {
            sleep(Duration::from_secs(1)).await;
            let now = self.counters.now().heard;
            if now - before <= QUIET {
                return;
            }
            before = now;
        }
    }

    fn freeze(&mut self, n: usize) {
        self.nodes[n].is_frozen = true;
        let _ = self.nodes[n].commands.send(Command::Freeze);
    }

    /// Returns a key that was not returned before.
    fn key(&mut self) -> Vec<u8> {
        self.keys += 1;
        super::keys::hash(self.keys)
    }

    /// Returns the closest servers that are well, but for the one that asks.
    fn closest(&self, asker: usize, key: &[u8]) -> Vec<PeerId> {
        let (target, asker) = (Key::sha256(key), self.nodes[asker].peer);
        let servers = self.nodes.iter().filter(|node| node.is_server && !node.is_frozen);
        let servers = servers.filter(|node| node.peer != asker);
        let mut closest: Vec<_> = servers.map(|node| (target.distance(&node.key), node.peer)).collect();
        closest.sort_unstable();
        closest.into_iter().take(CLOSEST).map(|(_, peer)| peer).collect()
    }

    fn begin(&self, n: usize, query: Query, key: &[u8]) -> oneshot::Receiver<Answer> {
        let (tell, told) = oneshot::channel();
        let _ = self.nodes[n].commands.send(Command::Ask(query, key.to_vec(), tell));
        told
    }

    /// Lets a node ask something, and waits for what comes of it.
    async fn ask(&self, n: usize, query: Query, key: &[u8]) -> Result<Answer, Failure> {
        within(self.begin(n, query, key)).await
    }

    /// Lets a node make lookups, so many at once.
    async fn ask_many(&mut self, n: usize, count: usize, at_once: usize) -> Result<Sum, Failure> {
        let (mut sum, mut begun) = (Sum::default(), 0);
        let mut running = futures::stream::FuturesUnordered::new();
        while sum.lookups < count {
            while begun < count && running.len() < at_once {
                let key = self.key();
                let told = self.begin(n, Query::Closest, &key);
                running.push(async move { (key, within(told).await) });
                begun += 1;
            }
            if let Some((key, answer)) = running.next().await {
                sum.add(self, n, &key, &answer?);
            }
        }
        Ok(sum)
    }
}

async fn within(told: oneshot::Receiver<Answer>) -> Result<Answer, Failure> {
    let answer = tokio::time::timeout(DEADLINE, told).await.map_err(|_| "a query takes too long")?;
    Ok(answer.map_err(|_| "a node has ended")?)
}

/// Makes a swarm whose links take time: for the handshake of TCP, too.
fn slow_swarm<B: NetworkBehaviour>(keypair: &identity::Keypair, behaviour: B, delay: Delay) -> Swarm<B> {
    let dials = delay.clone();
    let transport = MemoryTransport::new()
        .and_then(move |stream, endpoint| {
            let delay = dials.clone();
            async move {
                if endpoint.is_dialer() && !delay.get().is_zero() {
                    sleep(delay.get() * 2).await;
                }
                Ok::<_, std::io::Error>(stream)
            }
        })
        .map(move |stream, _| Slow::new(stream, delay.clone()))
        .upgrade(Version::V1)
        .authenticate(libp2p_plaintext::Config::new(keypair))
        .multiplex(yamux::Config::default())
        .timeout(CONNECTING)
        .boxed();
    let config = SwarmConfig::with_tokio_executor().with_idle_connection_timeout(IDLE);
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
}

/// The life of a node: it does as it is asked, until nobody can ask any more.
async fn live<K: Kind>(
    mut swarm: Swarm<Member<K::Kad>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    counters: Arc<Counters>,
) {
    let mut running = Vec::new();
    loop {
        tokio::select! {
            event = swarm.select_next_some() => on_event::<K>(&mut swarm, event, &counters, &mut running),
            command = commands.recv() => match command {
                Some(Command::Ask(query, key, tell)) => {
                    let id = K::begin(&mut swarm.behaviour_mut().kad, query, key);
                    running.push((id, Instant::now(), tell));
                }
                // What it has open stays open until all of it ends.
                Some(Command::Freeze) => while commands.recv().await.is_some() {},
                None => return,
            },
        }
    }
}

fn on_event<K: Kind>(
    swarm: &mut Swarm<Member<K::Kad>>,
    event: SwarmEvent<MemberEvent<K::Kad>>,
    counters: &Counters,
    running: &mut Vec<(K::Id, Instant, oneshot::Sender<Answer>)>,
) {
    if let SwarmEvent::Dialing { .. } = event {
        counters.dials.fetch_add(1, Ordering::Relaxed);
    } else if let SwarmEvent::Behaviour(MemberEvent::Identify(event)) = event {
        if let identify::Event::Received { peer_id, info, .. } = event
            && info.protocols.contains(&PROTOCOL)
        {
            for address in info.listen_addrs {
                K::identified(&mut swarm.behaviour_mut().kad, &peer_id, address);
            }
        }
    } else if let SwarmEvent::Behaviour(MemberEvent::Kad(event)) = event {
        match K::told(&mut swarm.behaviour_mut().kad, event) {
            Told::Heard => {
                counters.heard.fetch_add(1, Ordering::Relaxed);
            }
            Told::Ended { id, peers, is_ok, requests } => {
                if let Some(at) = running.iter().position(|(running, ..)| *running == id) {
                    let (_, began, tell) = running.swap_remove(at);
                    let _ = tell.send(Answer { peers, is_ok, requests, took: began.elapsed() });
                }
            }
            Told::Nothing => {}
        }
    }
}
