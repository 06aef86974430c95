//! Nodes on virtual time: a small network of [`Dht`]s, joined by messages that take their time.

mod advice;
mod bans;
mod clocks;
mod connections;
mod dials;
#[cfg(feature = "redb")]
mod durable;
mod inbound;
mod joining;
mod load;
mod network;
mod providers;
mod records;
mod replication;
mod requests;
mod searching;
mod settings;
mod stats;
mod stored;
mod table;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use libp2p_core::Multiaddr;

use super::*;
use crate::addrs::Addresses;
use crate::dht::op::QueryResult;
use crate::error::RequestError;
use crate::event::Mode;
use crate::event::{ProgressStep, QueryId, QueryStats, RoutingUpdate};
use crate::key::Key;
use crate::message::{Request, Response};
use crate::rng::Rng;
use crate::routing::Entry;
use crate::store::MemoryStore;
use crate::time::{Duration, SystemTime};

pub(super) type Output = super::Output<Event>;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Where virtual time begins; the wall clock shows 1970.
pub(super) fn start() -> Now {
    Now::new(crate::time::start(), SystemTime::UNIX_EPOCH)
}

/// When a node wants to be called, by both clocks, if the wall clock is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Now,
    pub(super) reason: &'static str,
}

impl<S: RecordStore> Dht<S> {
    pub(super) fn due(&self) -> Option<Due> {
        let Deadline { at, reason } = self.poll_timeout()?;
        Some(Due { at: start() + at.saturating_duration_since(start().instant), reason })
    }
}

/// The peer with the number `n`, whose id is a hash so that keys are spread evenly.
pub(super) fn peer(n: usize) -> PeerId {
    let digest = *Key::sha256(&n.to_le_bytes()).as_bytes();
    PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &digest).unwrap()).unwrap()
}

/// The connection to the peer with the number `n`.
pub(super) fn conn(n: usize) -> ConnectionId {
    ConnectionId(n as u64)
}

pub(super) fn address(n: usize) -> Multiaddr {
    format!("/memory/{}", n + 1).parse().unwrap()
}

pub(super) fn key(n: usize) -> Key {
    Key::of_peer(&peer(n), Key::sha256)
}

pub(super) fn new_dht(n: usize, config: Config) -> Dht<MemoryStore> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    let mut dht = Dht::new(peer(n), MemoryStore::new(peer(n)), config, seed, start());
    dht.set_mode(start(), Some(Mode::Server));
    while dht.poll_output().is_some() {}
    dht
}

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Alive,
    /// Dials are refused; connections are reset.
    Dead,
    /// Dials hang, requests are swallowed, connections stay.
    Frozen,
}

#[derive(Debug)]
enum Happening {
    Input(usize, Input),
    Request { from: usize, to: usize, id: RequestId, request: Request },
    Dialled { from: usize, to: usize, id: DialId },
    Wake(usize),
}

pub(super) struct Node {
    pub(super) dht: Dht<MemoryStore>,
    pub(super) health: Health,
    pub(super) events: Vec<Event>,
    pub(super) announced: Vec<PeerId>,
    connections: BTreeSet<usize>,
    wake_at: Option<Now>,
    /// Requests of others that are being answered.
    answering: BTreeMap<InboundId, (usize, RequestId)>,
}

pub(super) struct Net {
    pub(super) now: Now,
    pub(super) nodes: Vec<Node>,
    /// One way.
    pub(super) latency: Duration,
    pub(super) requests_sent: u64,
    /// Those of them that announce a provider.
    pub(super) announcements: usize,
    pub(super) dials: u64,
    /// The node to and from which nothing gets through.
    pub(super) cut_off: Option<usize>,
    queue: BinaryHeap<Reverse<(Now, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    numbers: BTreeMap<PeerId, usize>,
    next: u64,
}

impl Net {
    pub(super) fn new(nodes: usize, config: &Config) -> Self {
        let mut net = Self {
            now: start(),
            nodes: Vec::new(),
            latency: 50 * MS,
            requests_sent: 0,
            announcements: 0,
            dials: 0,
            cut_off: None,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
        };
        for n in 0..nodes {
            net.add(config.clone());
            assert_eq!(net.nodes.len(), n + 1);
        }
        net
    }

    pub(super) fn add(&mut self, config: Config) -> usize {
        let n = self.nodes.len();
        let mut dht = new_dht(n, config);
        let listening = vec![address(n)];
        dht.handle_input(self.now, Input::LocalAddresses { external: vec![], listening });
        self.nodes.push(Node {
            dht,
            health: Health::Alive,
            events: Vec::new(),
            announced: Vec::new(),
            connections: BTreeSet::new(),
            wake_at: None,
            answering: BTreeMap::new(),
        });
        self.numbers.insert(peer(n), n);
        self.drain(n);
        n
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.queue.push(Reverse((self.now + delay, self.next)));
        self.happenings.insert(self.next, happening);
        self.next += 1;
    }

    /// Makes the nodes `0..n` join, one after another, through node 0.
    pub(super) fn join_all(&mut self, apart: Duration) {
        for n in 1..self.nodes.len() {
            self.add_address(n, 0);
            self.run_for(apart);
        }
        self.run_for(20 * SECOND);
    }

    pub(super) fn add_address(&mut self, n: usize, of: usize) -> RoutingUpdate {
        self.with(n, |dht, now| dht.add_address(now, peer(of), address(of)))
    }

    /// Calls a command of a node and does what comes of it.
    pub(super) fn with<T>(&mut self, n: usize, call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T) -> T {
        let result = call(&mut self.nodes[n].dht, self.now);
        self.drain(n);
        result
    }

    pub(super) fn input(&mut self, n: usize, input: Input) {
        if self.nodes[n].health == Health::Alive {
            self.with(n, |dht, now| dht.handle_input(now, input));
        }
    }

    pub(super) fn kill(&mut self, n: usize) {
        self.nodes[n].health = Health::Dead;
        for other in std::mem::take(&mut self.nodes[n].connections) {
            self.nodes[other].connections.remove(&n);
            self.later(
                self.latency,
                Happening::Input(other, Input::Disconnected { peer: peer(n), connection: conn(n) }),
            );
        }
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
        if self.nodes[a].connections.remove(&b) {
            self.nodes[b].connections.remove(&a);
            self.input(a, Input::Disconnected { peer: peer(b), connection: conn(b) });
            self.input(b, Input::Disconnected { peer: peer(a), connection: conn(a) });
        }
    }

    /// Takes a node its uplink: its connections end, and dials to and from it hang.
    pub(super) fn cut_off(&mut self, n: usize) {
        self.cut_off = Some(n);
        (0..self.nodes.len()).for_each(|other| self.disconnect(n, other));
    }

    fn is_cut_off(&self, a: usize, b: usize) -> bool {
        self.cut_off.is_some_and(|n| n == a || n == b)
    }

    pub(super) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.nodes[a].connections.contains(&b)
    }

    fn drain(&mut self, n: usize) {
        while let Some(output) = self.nodes[n].dht.poll_output() {
            self.output(n, output);
        }
        let wake_at = self.nodes[n].dht.due().map(|deadline| deadline.at);
        if let Some(at) = wake_at
            && self.nodes[n].wake_at.is_none_or(|known| known > at || known <= self.now)
        {
            self.nodes[n].wake_at = Some(at);
            let delay = at - self.now;
            self.later(delay, Happening::Wake(n));
        }
    }

    fn output(&mut self, n: usize, output: Output) {
        match output {
            Output::Dial { id, peer, addresses, .. } => {
                self.dials += 1;
                let number =
                    |address: &Multiaddr| (0..self.nodes.len()).find(|n| self::address(*n) == *address);
                match addresses.iter().find_map(number) {
                    Some(to) => self.later(self.latency * 4, Happening::Dialled { from: n, to, id }),
                    None => {
                        let error = DialFailure::NoAddresses;
                        let failed = Input::DialFailed { dial: Some(id), peer, error };
                        self.later(Duration::ZERO, Happening::Input(n, failed));
                    }
                }
            }
            Output::SendRequest { to, id, request, .. } => {
                self.requests_sent += 1;
                self.announcements += usize::from(matches!(request, Request::AddProvider { .. }));
                let to = self.numbers[&to];
                assert!(self.nodes[n].connections.contains(&to) || self.nodes[to].health != Health::Alive);
                if !request.is_answered() {
                    self.later(Duration::ZERO, Happening::Input(n, Input::RequestSent { id }));
                }
                self.later(self.latency, Happening::Request { from: n, to, id, request });
            }
            Output::SendResponse { id, response, .. } => {
                let (to, id) = self.nodes[n].answering.remove(&id).unwrap();
                self.later(self.latency, Happening::Input(to, Input::ResponseReceived { id, response }));
            }
            Output::AcceptRequest { id, .. } => {
                self.nodes[n].answering.remove(&id).unwrap();
            }
            Output::RefuseRequest { id, .. } => {
                let (to, id) = self.nodes[n].answering.remove(&id).unwrap();
                let error = match self.nodes[n].dht.mode() {
                    Mode::Server => RequestError::StreamEnded,
                    Mode::Client => RequestError::Unsupported,
                };
                self.later(self.latency, Happening::Input(to, Input::RequestFailed { id, error }));
            }
            Output::AnnounceAddresses { peer, .. } => self.nodes[n].announced.push(peer),
            Output::Event(event) => self.nodes[n].events.push(event),
            Output::CloseConnection { .. }
            | Output::CancelRequest { .. }
            | Output::KeepAlive { .. }
            | Output::SetMode(_) => {}
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Input(n, input) => self.input(n, input),
            Happening::Request { from, to, id, request } => {
                let node = &mut self.nodes[to];
                if node.health != Health::Alive || !node.connections.contains(&from) {
                    return;
                }
                if self.is_cut_off(from, to) {
                    return;
                }
                self.next += 1;
                let inbound = InboundId(self.next);
                self.nodes[to].answering.insert(inbound, (from, id));
                self.input(
                    to,
                    Input::RequestReceived { from: peer(from), connection: conn(from), id: inbound, request },
                );
            }
            Happening::Dialled { from, to, .. } if self.is_cut_off(from, to) => {}
            Happening::Dialled { from, to, id } => match self.nodes[to].health {
                Health::Frozen => {}
                Health::Dead => {
                    let error = DialFailure::unreachable(Unreached::Silent);
                    self.input(from, Input::DialFailed { dial: Some(id), peer: Some(peer(to)), error });
                }
                Health::Alive => self.connect(from, to, Some(id)),
            },
            Happening::Wake(n) => {
                if self.nodes[n].wake_at.is_some_and(|at| at <= self.now) {
                    self.nodes[n].wake_at = None;
                    if self.nodes[n].health != Health::Dead {
                        self.with(n, |dht, now| dht.handle_timeout(now));
                    }
                }
            }
        }
    }

    /// Connects two nodes; each learns the other's address and that it is a server, as by identify.
    pub(super) fn connect(&mut self, from: usize, to: usize, dial: Option<DialId>) {
        if self.nodes[from].connections.contains(&to) {
            return;
        }
        self.nodes[from].connections.insert(to);
        self.nodes[to].connections.insert(from);
        let dialled = connected_at(to, address(to), true, dial);
        self.input(from, dialled);
        let source = "/memory/999999".parse().unwrap();
        self.input(to, connected_at(from, source, false, None));
        for (n, other) in [(from, to), (to, from)] {
            let addresses = vec![address(other)];
            let learned = Input::AddressesLearned { peer: peer(other), addresses };
            self.later(self.latency, Happening::Input(n, learned));
            let is_server = self.nodes[other].dht.mode() == Mode::Server;
            let peer = peer(other);
            let protocol =
                if is_server { Input::ProtocolConfirmed { peer } } else { Input::ProtocolDoubted { peer } };
            self.later(self.latency, Happening::Input(n, protocol));
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, id))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = at.max(self.now);
            let happening = self.happenings.remove(&id).unwrap();
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs until the query has ended, and returns its last result.
    pub(super) fn result(&mut self, n: usize, query: QueryId) -> (QueryResult, QueryStats) {
        for _ in 0..100_000 {
            for event in &self.nodes[n].events {
                if let Event::OutboundQueryProgressed { id, result, stats, step } = event
                    && *id == query
                    && step.last
                {
                    return (result.clone(), *stats);
                }
            }
            self.run_for(MS);
        }
        panic!("the query did not end within 100 seconds");
    }

    pub(super) fn closest(&mut self, n: usize, target: &[u8]) -> (Vec<PeerId>, QueryStats) {
        let id = self.with(n, |dht, now| dht.find_closest(now, target));
        match self.result(n, id) {
            (QueryResult::GetClosestPeers(Ok(ok)), stats) => {
                (ok.peers.into_iter().map(|peer| peer.peer_id).collect(), stats)
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    /// The `count` live nodes closest to a target, but for the asker.
    pub(super) fn truth(&self, origin: usize, target: &[u8], count: usize) -> Vec<PeerId> {
        let target = Key::sha256(target);
        let mut all: Vec<_> = (0..self.nodes.len())
            .filter(|n| *n != origin && self.nodes[*n].health == Health::Alive)
            .filter(|n| self.nodes[*n].dht.mode() == Mode::Server)
            .collect();
        all.sort_by_key(|n| target.distance(&key(*n)));
        all.into_iter().take(count).map(peer).collect()
    }

    pub(super) fn knows(&self, n: usize, other: usize) -> bool {
        self.nodes[n].dht.table().entry(&key(other), &peer(other)).is_some()
    }
}

/// Drains the outputs of a node that stands alone.
pub(super) fn outputs(dht: &mut Dht<MemoryStore>) -> Vec<Output> {
    std::iter::from_fn(|| dht.poll_output()).collect()
}

/// Tells a lone node that it is connected to a server.
pub(super) fn meet(dht: &mut Dht<MemoryStore>, now: Now, n: usize) {
    dht.handle_input(now, Input::AddressesLearned { peer: peer(n), addresses: vec![address(n)] });
    connect_at(dht, now, n, address(n));
    dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(n) });
}

/// Answers whatever a lone node asks, naming `named`, until it asks nothing more.
pub(super) fn answer_all(dht: &mut Dht<MemoryStore>, now: Now, named: &[usize]) -> Vec<Output> {
    let mut all = Vec::new();
    loop {
        let new = outputs(dht);
        if new.is_empty() {
            return all;
        }
        for output in &new {
            if let Output::SendRequest { id, request, .. } = output {
                let closer_peers = named.iter().map(|n| named_peer(*n)).collect();
                let response = match request {
                    Request::Ping => Response::Pong,
                    Request::FindNode { .. } => Response::FindNode { closer_peers },
                    Request::GetValue { .. }
                    | Request::PutValue { .. }
                    | Request::GetProviders { .. }
                    | Request::AddProvider { .. } => panic!("{request:?}"),
                };
                dht.handle_input(now, Input::ResponseReceived { id: *id, response });
            }
        }
        all.extend(new);
    }
}

pub(super) fn named_peer(n: usize) -> crate::peer::KadPeer {
    crate::peer::KadPeer {
        node_id: peer(n),
        multiaddrs: Addresses::collect(&peer(n), [address(n)]),
        connection_ty: crate::peer::ConnectionType::NotConnected,
    }
}

/// The default configuration, but a lone node neither joins nor refreshes, and checks nobody who is merely
/// reported once it has a peer.
pub(super) fn quiet() -> Config {
    Config::default()
        .with_joining(crate::config::Joining::OnRequest)
        .with_refresh_interval(None)
        .unwrap()
        .with_low_peers(0)
}

/// Puts connected servers into the table of a lone node.
pub(super) fn admit(dht: &mut Dht<MemoryStore>, now: Now, peers: impl IntoIterator<Item = usize>) {
    for n in peers {
        connect_at(dht, now, n, address(n));
        dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(n) });
        answer_all(dht, now, &[n + 1]);
        // A stranger whose bucket is well filled is not asked for its own sake.
        prove(dht, now, n);
        assert!(dht.table().entry(&key(n), &peer(n)).is_some(), "there is no room for peer {n}");
    }
}

/// Lets a connected peer prove itself by an answer, unless it has.
pub(super) fn prove(dht: &mut Dht<MemoryStore>, now: Now, n: usize) -> Vec<Output> {
    if dht.table().entry(&key(n), &peer(n)).is_some() {
        return Vec::new();
    }
    dht.ping(now, peer(n));
    answer_all(dht, now, &[n + 1])
}

/// Tells a lone node that it has dialled a peer, for whomever, at an address.
pub(super) fn connect_at(dht: &mut Dht<MemoryStore>, now: Now, n: usize, address: Multiaddr) {
    dht.handle_input(now, connected_at(n, address, true, None));
}

/// Returns that there is a connection to a peer, which has the peer's number.
pub(super) fn connected_at(n: usize, address: Multiaddr, dialled: bool, dial: Option<DialId>) -> Input {
    Input::Connected { peer: peer(n), connection: conn(n), address, located: None, dialled, dial }
}

/// Tells a lone node that the last connection to a peer is gone.
pub(super) fn lose(dht: &mut Dht<MemoryStore>, now: Now, n: usize) {
    dht.handle_input(now, Input::Disconnected { peer: peer(n), connection: conn(n) });
}

/// Tells a lone node, as identify would, where a peer can be reached.
pub(super) fn learn(dht: &mut Dht<MemoryStore>, now: Now, n: usize, addresses: &[Multiaddr]) {
    dht.handle_input(now, Input::AddressesLearned { peer: peer(n), addresses: addresses.to_vec() });
}

/// Tells a lone node where it listens.
pub(super) fn listen_at<S: RecordStore>(dht: &mut Dht<S>, now: Now, addresses: &[Multiaddr]) {
    let listening = addresses.to_vec();
    dht.handle_input(now, Input::LocalAddresses { external: vec![], listening });
}

/// Answers a FIND_NODE of a lone node.
pub(super) fn name(dht: &mut Dht<MemoryStore>, now: Now, id: RequestId, named: &[usize]) {
    let closer_peers = named.iter().map(|n| named_peer(*n)).collect();
    dht.handle_input(now, Input::ResponseReceived { id, response: Response::FindNode { closer_peers } });
}

/// Tells a lone node that its dial of a peer has failed.
pub(super) fn fail_dial(dht: &mut Dht<MemoryStore>, now: Now, id: DialId, n: usize, error: DialFailure) {
    dht.handle_input(now, Input::DialFailed { dial: Some(id), peer: Some(peer(n)), error });
}

/// Why a dial fails if nobody is there.
pub(super) fn unreachable() -> DialFailure {
    DialFailure::unreachable(Unreached::Silent)
}

/// The dials among the outputs.
pub(super) fn dials(outputs: &[Output]) -> Vec<(DialId, Option<PeerId>, Vec<Multiaddr>)> {
    let dial = |output: &Output| {
        if let Output::Dial { id, peer, addresses, .. } = output {
            Some((*id, *peer, addresses.clone()))
        } else {
            None
        }
    };
    outputs.iter().filter_map(dial).collect()
}

/// The requests among the outputs.
pub(super) fn asked(outputs: &[Output]) -> Vec<(PeerId, RequestId, Request)> {
    let request = |output: &Output| {
        if let Output::SendRequest { to, id, request, .. } = output {
            Some((*to, *id, request.clone()))
        } else {
            None
        }
    };
    outputs.iter().filter_map(request).collect()
}

/// The events among the outputs.
pub(super) fn events(outputs: &[Output]) -> Vec<Event> {
    let event = |output: &Output| if let Output::Event(event) = output { Some(event.clone()) } else { None };
    outputs.iter().filter_map(event).collect()
}

/// What the outputs say of a query.
pub(super) fn progress(outputs: &[Output], query: QueryId) -> Vec<(QueryResult, QueryStats, ProgressStep)> {
    let progress = |event: Event| {
        if let Event::OutboundQueryProgressed { id, result, stats, step } = event
            && id == query
        {
            Some((result, stats, step))
        } else {
            None
        }
    };
    events(outputs).into_iter().filter_map(progress).collect()
}

/// The last result of a query, if the outputs say that it has ended.
pub(super) fn result_of(outputs: &[Output], query: QueryId) -> Option<QueryResult> {
    let last = progress(outputs, query).pop()?;
    last.2.last.then_some(last.0)
}

/// Fails, where the node itself would not return, if its refresh never gets past what is due.
pub(super) fn check_refresh(dht: &Dht<MemoryStore>, now: Instant) {
    let (mut refresh, mut rng) = (dht.upkeep.refresh.clone(), dht.cx.rng.clone());
    let mut deadline_of_next = || {
        refresh.next(now, &dht.upkeep.table, &mut rng);
        refresh.deadline()
    };
    assert!((0..64).any(|_| deadline_of_next().is_none_or(|at| at > now)), "a refresh that is due stays due");
}
