//! The network: what lies between the nodes, and what they put out into it.
//!
//! Takes dials, requests and responses from nodes, and schedules their arrival. Calls no node: what arrives the world delivers.

use bytes::BytesMut;
use indexmap::IndexMap;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::bandwidth::Bandwidth;
use super::connections::{NetworkConnections, pair, warm_number};
use super::event_queue::{EventQueue, SimEvent};
use super::ids::Places;
use super::links::Links;
use super::nodes::{Life, Nodes, Refuses};
use super::scenario::{Scenario, Start};
use super::trace::Trace;
use crate::config::Config;
use crate::dht::{ConnectionId, DialFailure, DialId, InboundId, Input, RequestId, Unreached};
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::rng::Rng;
use crate::time::{Duration, Instant, Now, SystemTime};
use crate::wire::{encode_request, encode_response};

/// After so long a dial that is not answered has failed, and a connection over which nothing passes is lost: what libp2p's
/// transports do by default.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(10);

/// After so long a connection over which nothing passes is given up by the system: what Linux does with its default number
/// of retransmissions.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(924);

/// So many requests of two nodes are in flight between them at most, derived from the node's own bound of 32: both ways.
const MAX_IN_FLIGHT: usize = 64;

/// What was sent, by all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Answers.
    pub responses: u64,
    /// Bytes of both, as they stand on the wire.
    pub bytes: u64,
    /// Dials.
    pub dials: u64,
    /// Those of the requests that announce a provider.
    pub announcements: u64,
}

/// Nodes, the links and connections between them, and the events to come.
///
/// # What it decides
/// How long a message takes, whether it arrives, what becomes of a dial, when a connection ends.
///
/// # What time does
/// Everything that happens is in its [`EventQueue`]; nothing changes by itself.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) seed: u64,
    pub(super) config: Config,
    pub(super) links: Links,
    pub(super) work: Duration,
    pub(super) rng: Rng,
    pub(super) queue: EventQueue,
    pub(super) nodes: Nodes,
    pub(super) places: Places,
    bandwidth: Bandwidth,
    pub(super) connections: NetworkConnections,
    /// The side from which nothing arrives elsewhere though what is sent to it does, or the other way round.
    pub(super) deaf: Option<usize>,
    pub(super) traffic: Traffic,
    trace: Trace,
    /// Requests that nodes are answering.
    answering: IndexMap<u64, (u64, usize, RequestId)>,
    buffer: BytesMut,
}

impl Network {
    pub(super) fn new(scenario: &Scenario, origin: Instant) -> Self {
        let configs = || scenario.groups.iter().map(|group| &group.config).chain([&scenario.config]);
        let limits = configs().filter_map(|config| config.routing.ip_diversity.as_ref());
        let in_group = limits.map(|limits| limits.per_table.get().min(limits.per_bucket.get().into())).min();
        let in_group = in_group.filter(|_| scenario.start == Start::Ideal).map(usize::from);
        let places = Places::new(scenario.links.transport, scenario.nodes, in_group);
        Self {
            seed: scenario.seed,
            config: scenario.config.clone(),
            links: scenario.links.clone(),
            work: scenario.work,
            rng: Rng::from_u64(scenario.seed),
            queue: EventQueue::new(origin),
            nodes: Nodes::default(),
            places,
            bandwidth: Bandwidth::new(scenario.links.uplink, scenario.links.bandwidth),
            connections: NetworkConnections::default(),
            deaf: None,
            traffic: Traffic::default(),
            trace: Trace::default(),
            answering: IndexMap::new(),
            buffer: BytesMut::new(),
        }
    }

    pub(super) const fn now(&self) -> Instant {
        self.queue.now()
    }

    /// Returns the virtual time that has passed since the beginning.
    pub(super) fn since_start(&self) -> Duration {
        self.now().saturating_duration_since(self.queue.origin())
    }

    /// Returns the wall-clock time, which began at 1970.
    pub(super) fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since_start()
    }

    /// Returns what the clocks of a node show: those of the world, less what it has slept and as its own was set.
    pub(super) fn clocks(&self, n: usize) -> Now {
        let (slept, set) = self.nodes.get(n).map_or((Duration::ZERO, 0), |node| (node.slept, node.clock_set));
        let by = Duration::from_secs(set.unsigned_abs());
        let wall = if set < 0 { self.wall().checked_sub(by) } else { self.wall().checked_add(by) };
        let now = self.now();
        Now::new(now.checked_sub(slept).unwrap_or(now), wall.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Returns the configuration of a node.
    pub(super) fn config_of(&self, n: usize) -> &Config {
        self.nodes.get(n).and_then(|node| node.config.as_deref()).unwrap_or(&self.config)
    }

    /// Takes note of something that happens between two nodes.
    pub(super) fn note(&mut self, what: u64, a: usize, b: usize) {
        self.trace.note(self.queue.now(), what, a, b);
    }

    /// Returns the hash of everything that was noted.
    pub(super) const fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Returns the round-trip time between two nodes.
    pub(super) fn round_trip(&self, a: usize, b: usize) -> Duration {
        self.links.round_trip(self.seed, a, b)
    }

    pub(super) fn one_way(&mut self, a: usize, b: usize) -> Duration {
        let rtt = self.round_trip(a, b);
        self.links.one_way(rtt, &mut self.rng)
    }

    /// Returns whether nothing passes from one node to another.
    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        let side = |n: usize| self.nodes.get(n).map_or(0, |node| node.side);
        let (from, to) = (side(from), side(to));
        // What the deaf side sends still arrives.
        from != to && self.deaf != Some(from)
    }

    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }

    /// Dials a peer at all addresses at once.
    pub(super) fn dial(&mut self, n: usize, id: DialId, peer: Option<PeerId>, addresses: &[Multiaddr]) {
        self.traffic.dials += 1;
        let mut reached: Option<(Duration, usize)> = None;
        let mut failed = (Duration::ZERO, DialFailure::NoAddresses);
        for address in addresses {
            let (time, outcome) = self.try_address(n, peer.as_ref(), address);
            match outcome {
                Ok(to) => {
                    if reached.is_none_or(|(known, _)| time < known) {
                        reached = Some((time, to));
                    }
                }
                // All addresses are dialled at once: the last to fail ends it.
                Err(error) if time >= failed.0 => failed = (time, error),
                Err(_) => {}
            }
        }
        let life = self.nodes.life(n);
        match reached {
            Some((time, to)) => self.queue.later(time, SimEvent::Dialled { from: n, life, dial: id, to }),
            None => {
                let (time, error) = failed;
                let input = Box::new(Input::DialFailed { dial: Some(id), peer, error });
                self.queue.later(time, SimEvent::Input { to: n, life, input });
            }
        }
    }

    fn try_address(
        &mut self,
        n: usize,
        peer: Option<&PeerId>,
        address: &Multiaddr,
    ) -> (Duration, Result<usize, DialFailure>) {
        let unreachable = || Err(DialFailure::unreachable(Unreached::Silent));
        let to = self.places.number_of(address).map(|number| self.nodes.at(number));
        let Some((to, node)) = to.and_then(|to| Some((to, self.nodes.get(to)?))) else {
            return (DEAD_AFTER, unreachable());
        };
        if to == n {
            return (Duration::ZERO, Err(DialFailure::Own { address: address.clone() }));
        }
        let (life, is_dialable, id) = (node.life, node.is_dialable, node.peer);
        if !is_dialable || self.is_cut(n, to) {
            return (DEAD_AFTER, unreachable());
        }
        let rtt = self.round_trip(n, to);
        match life {
            Life::Frozen | Life::Gone(_, Refuses::Never) => (DEAD_AFTER, unreachable()),
            Life::Gone(_, Refuses::AtOnce) => (self.links.one_way(rtt, &mut self.rng) * 2, unreachable()),
            Life::Alive => {
                let time = self.links.dial(rtt, &mut self.rng);
                if peer.is_some_and(|peer| *peer != id) {
                    (time, Err(DialFailure::WrongPeer { address: address.clone(), met: id }))
                } else {
                    (time, Ok(to))
                }
            }
        }
    }

    /// Opens a connection, of which neither end is told.
    pub(super) fn open(&mut self, a: usize, b: usize, number: u64) {
        self.connections.insert(a, b, number, self.queue.now());
        // Where all are connected, each node has a list of those it has heard of.
        if !self.links.warm {
            for (one, other) in [(a, b), (b, a)] {
                if let Some(node) = self.nodes.get_mut(one)
                    && !node.peers.contains(&other)
                {
                    node.peers.push(other);
                    node.most_peers = node.most_peers.max(node.peers.len());
                }
            }
        }
    }

    pub(super) fn send_request(
        &mut self,
        (n, to): (usize, &PeerId),
        connection: ConnectionId,
        id: RequestId,
        request: Request,
    ) {
        let Some(to) = self.nodes.number_of(to) else {
            return;
        };
        self.traffic.requests += 1;
        self.traffic.announcements += u64::from(matches!(request, Request::AddProvider { .. }));
        self.buffer.clear();
        encode_request(&request, &mut self.buffer);
        self.traffic.bytes += self.buffer.len() as u64;
        let (link, now) = (connection.0, self.now());
        let is_new = link == warm_number(n, to) && !self.connections.is_connected(n, to);
        if self.links.warm && is_new && self.nodes.knows(n, to) {
            self.open(n, to, link);
        }
        let Some(connection) = self.connections.get_mut(n, to, link) else {
            // Lost this very moment: the node is about to hear of it.
            return;
        };
        connection.last_used = now;
        connection.open.push((n, id));
        let in_flight = connection.open.len();
        assert!(in_flight <= MAX_IN_FLIGHT, "{in_flight} requests are in flight between two nodes");
        let is_dead = connection.is_dead;
        let fresh = std::mem::replace(&mut connection.fresh, false) && !self.links.warm;
        if is_dead {
            return;
        }
        let rtt = self.round_trip(n, to);
        let out = self.bandwidth.send(now, n, link, self.buffer.len());
        let mut time = out + self.links.one_way(rtt, &mut self.rng);
        if fresh {
            time += self.links.first_stream(rtt, &mut self.rng);
        }
        if !request.is_answered() {
            // On a connection that is in use the bytes are out at once; on a new one identify tells first what the peer speaks.
            let known = if fresh { rtt } else { Duration::ZERO };
            self.queue.later(out + known, SimEvent::Sent { link, from: n, to, id });
        }
        self.queue.later(time, SimEvent::Request { link, from: n, to, id, request: Box::new(request) });
    }

    pub(super) fn cancel_request(&mut self, n: usize, to: &PeerId, connection: ConnectionId, id: RequestId) {
        if let Some(to) = self.nodes.number_of(to)
            && let Some(connection) = self.connections.get_mut(n, to, connection.0)
        {
            connection.close_request(n, id);
        }
    }

    /// Returns the id of a request that has arrived, by which the node is to answer it.
    pub(super) fn begin_answer(&mut self, link: u64, asker: usize, id: RequestId) -> InboundId {
        let number = self.queue.number();
        self.answering.insert(number, (link, asker, id));
        InboundId(number)
    }

    /// A request needs no answer.
    pub(super) fn end_answer(&mut self, id: InboundId) {
        self.answering.swap_remove(&id.0);
    }

    /// Sends a response, or ends the stream without one.
    pub(super) fn send_response(&mut self, n: usize, id: InboundId, response: Option<Response>) {
        let Some((link, to, id)) = self.answering.swap_remove(&id.0) else {
            return;
        };
        let mut out = Duration::ZERO;
        if let Some(response) = &response {
            self.traffic.responses += 1;
            self.buffer.clear();
            encode_response(response, &mut self.buffer);
            self.traffic.bytes += self.buffer.len() as u64;
            out = self.bandwidth.send(self.queue.now(), n, link, self.buffer.len());
        }
        let time = out + self.one_way(n, to);
        let late = self.nodes.get(n).map(|node| node.role.lateness(&mut self.rng));
        let response = response.map(Box::new);
        let time = time + late.unwrap_or_default();
        self.queue.later(time, SimEvent::Response { link, from: n, to, id, response });
    }

    /// A node becomes a client or a server, which its peers hear by identify.
    pub(super) fn set_mode(&mut self, n: usize, mode: Mode) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        node.mode = mode;
        let peer = node.peer;
        for other in node.peers.clone() {
            let time = self.one_way(n, other);
            let (input, life) = (Box::new(protocol(peer, mode)), self.nodes.life(other));
            self.queue.later(time, SimEvent::Input { to: other, life, input });
        }
    }

    pub(super) fn keep_alive(&mut self, n: usize, peer: &PeerId, connection: ConnectionId, keep: bool) {
        let Some(other) = self.nodes.number_of(peer) else {
            return;
        };
        let (a, b) = pair(n, other);
        let link = connection.0;
        let Some(connection) = self.connections.get_mut(a, b, link) else {
            return;
        };
        connection.keep[usize::from(n == b)] = keep;
        let last_used = connection.last_used;
        if !keep && !self.links.warm {
            let at = (last_used + self.links.idle_timeout).max(self.now());
            self.queue.schedule(at, SimEvent::Idle { link, a, b });
        }
    }

    /// A node closes a connection. The other end hears of it when the goodbye arrives, if it does.
    pub(super) fn close(&mut self, n: usize, peer: &PeerId, connection: ConnectionId) {
        let own = self.nodes.get(n).map(|node| node.peer);
        let (Some(other), Some(own)) = (self.nodes.number_of(peer), own) else {
            return;
        };
        let is_dead = self.connections.get(n, other, connection.0).is_some_and(|found| found.is_dead);
        if !self.connections.remove(&mut self.nodes, (n, other), connection.0) {
            return;
        }
        self.note(6, n, other);
        let delay = if is_dead { GIVEN_UP_AFTER } else { self.one_way(n, other) };
        let (life, input) = (self.nodes.life(other), Box::new(Input::Disconnected { peer: own, connection }));
        self.queue.later(delay, SimEvent::Input { to: other, life, input });
    }

    /// Lets nothing pass any more over the connections that there are between two nodes, which neither is told.
    pub(super) fn silence(&mut self, a: usize, b: usize) {
        let mut silent = Vec::new();
        for connection in self.connections.between_mut(a, b) {
            connection.is_dead = true;
            silent.push(connection.number);
        }
        for link in silent {
            let (a, b) = pair(a, b);
            self.queue.later(GIVEN_UP_AFTER, SimEvent::Lost { link, a, b });
        }
    }

    /// The connections of a node will be found to be gone: at once if it takes its leave of its peers, else after a while.
    pub(super) fn lose_all(&mut self, n: usize, orderly: bool) {
        let mut peers = self.nodes.get(n).map(|node| node.peers.clone()).unwrap_or_default();
        if self.links.warm {
            peers = (0..self.nodes.len())
                .filter(|other| self.nodes.knows(*other, n) || peers.contains(other))
                .collect();
            for other in &peers {
                if !self.connections.is_connected(n, *other) {
                    self.open(n, *other, warm_number(n, *other));
                }
            }
        }
        for other in peers {
            let (a, b) = pair(n, other);
            for link in self.connections.numbers(a, b) {
                let delay = if orderly { self.one_way(n, other) } else { DEAD_AFTER };
                self.queue.later(delay, SimEvent::Lost { link, a, b });
            }
        }
    }

    /// The connections that a partition has cut will be found to be gone.
    pub(super) fn lose_cut(&mut self) {
        let cut: Vec<_> = self.connections.all().filter(|((a, b), _)| self.is_cut(*a, *b)).collect();
        for ((a, b), link) in cut {
            self.queue.later(DEAD_AFTER, SimEvent::Lost { link, a, b });
        }
    }
}

/// Returns what a peer learns by identify of a node's mode.
pub(super) const fn protocol(peer: PeerId, mode: Mode) -> Input {
    match mode {
        Mode::Server => Input::ProtocolConfirmed { peer },
        Mode::Client => Input::ProtocolDoubted { peer },
    }
}
