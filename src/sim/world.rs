//! The world: many nodes, one virtual clock, one queue of what happens next.
//!
//! Does what the nodes put out and tells them what comes of it; decides nothing that a node decides.

mod clocks;
mod connections;
mod people;
mod questions;
mod records;
mod sybils;
mod transit;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::BytesMut;
use indexmap::{IndexMap, IndexSet};
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::ids::{address, peer_id};
use super::links::{Links, mix, seed_of};
use super::measure::{Asked, LookupOutcome};
use super::roles::{Role, deal};
use super::scenario::{Churn, Scenario};
use super::trace::Trace;
use crate::config::Config;
use crate::dht::{Dht, InboundId, Input, Output, RequestId};
use crate::event::{Mode, QueryId};
use crate::key::Key;
use crate::rng::Rng;
use crate::store::{MemoryStore, MemoryStoreConfig};
use crate::time::{Duration, Instant, Now, SystemTime};

use connections::Connection;
pub use records::{Reached, RecordOutcome};

/// How a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// Does nothing and answers nothing; its connections stay, dials to it hang.
    Frozen,
    /// Since when; whether dials to it are refused, or hang.
    Gone(Instant, Refuses),
}

/// Whether dials to a node that is gone are refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refuses {
    AtOnce,
    Never,
}

/// A node and what is around it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) dht: Option<Box<Dht<MemoryStore>>>,
    pub(super) peer: PeerId,
    /// Shared by all who know it.
    pub(super) address: Multiaddr,
    pub(super) key: Key,
    pub(super) life: Life,
    pub(super) role: Role,
    pub(super) mode: Mode,
    pub(super) born: Instant,
    /// Counts how often it has begun anew; what was under way for an earlier life is void.
    pub(super) incarnation: u32,
    /// On which side of a partition it is; 0 is the side of the many.
    pub(super) side: usize,
    /// Those it is connected to, in no particular order.
    pub(super) peers: Vec<usize>,
    /// The most it was ever connected to at once.
    pub(super) most_peers: usize,
    pub(super) joined: bool,
    /// For how long its monotonic clock has stood still.
    pub(super) slept: Duration,
    /// Since when it sleeps.
    asleep_since: Option<Instant>,
    /// By how many seconds its wall clock is ahead of the world's.
    pub(super) clock_set: i64,
    wake_at: Option<Instant>,
}

impl Node {
    pub(super) fn is_alive(&self) -> bool {
        self.life == Life::Alive
    }

    /// Whether it is a server that lives and can be dialled: one that a lookup ought to find.
    pub(super) fn is_findable(&self) -> bool {
        self.is_alive() && self.mode == Mode::Server && self.role.is_dialable()
    }
}

/// What happens at some time.
#[derive(Debug)]
enum Happening {
    Wake(usize),
    Input {
        to: usize,
        life: u32,
        input: Box<Input>,
    },
    Dialled {
        from: usize,
        life: u32,
        dial: crate::dht::DialId,
        to: usize,
    },
    Request {
        link: u64,
        from: usize,
        to: usize,
        id: RequestId,
        request: Box<crate::message::Request>,
    },
    /// A request that is not answered is out.
    Sent {
        link: u64,
        from: usize,
        to: usize,
        id: RequestId,
    },
    Response {
        link: u64,
        from: usize,
        to: usize,
        id: RequestId,
        response: Option<Box<crate::message::Response>>,
    },
    Identified {
        link: u64,
        who: usize,
        by: usize,
    },
    Idle {
        link: u64,
        a: usize,
        b: usize,
    },
    Lost {
        link: u64,
        a: usize,
        b: usize,
    },
    Born(usize),
    Leaves {
        who: usize,
        life: u32,
    },
}

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

/// A network of real nodes on a virtual clock, in one thread.
///
/// It drives the very [`Dht`] that the swarm's [`Behaviour`](crate::Behaviour) drives; it has no rule of the protocol of
/// its own. What a swarm would do is simulated: dials, connections that end when idle, identify, lost uplinks.
///
/// A [`Scenario`] makes one and runs it; whoever wants to do more than a scenario can say drives it himself:
///
/// ```
/// use libp2p_kademlia::sim::{Scenario, World};
/// use std::time::Duration;
///
/// let mut world = World::new(&Scenario { nodes: 50, ..Scenario::default() });
/// world.look_up(7, b"any bytes");
/// world.run_for(Duration::from_secs(5));
/// assert_eq!(world.outcomes()[0].recall, 1.0);
/// ```
///
/// # Bounds
/// Memory is that of the nodes, some 100 kB each in a network of 10,000, and of what is under way.
#[derive(Debug)]
pub struct World {
    pub(super) seed: u64,
    pub(super) config: Config,
    stores: MemoryStoreConfig,
    pub(super) links: Links,
    pub(super) churn: Option<Churn>,
    pub(super) origin: Instant,
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) nodes: Vec<Node>,
    pub(super) ids: IndexSet<PeerId>,
    /// Nodes whose addresses are not those of their numbers.
    elsewhere: BTreeMap<usize, usize>,
    pub(super) asked: BTreeMap<(usize, QueryId), Asked>,
    pub(super) outcomes: Vec<LookupOutcome>,
    open_records: BTreeMap<(usize, QueryId), records::Open>,
    record_outcomes: Vec<RecordOutcome>,
    pub(super) trace: Trace,
    /// How many entries of tables were replaced though their peers could be reached.
    pub(super) displaced: u64,
    /// How many of the first nodes are told to newcomers.
    pub(super) seeds: usize,
    /// Those that are away and may come back.
    away: Vec<usize>,
    /// The side from which nothing arrives elsewhere though what is sent to it does, or the other way round.
    deaf: Option<usize>,
    traffic: Traffic,
    connections: IndexMap<(usize, usize), SmallVec<[Connection; 1]>>,
    /// Requests that nodes are answering.
    answering: IndexMap<u64, (u64, usize, RequestId)>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    slots: Vec<Option<Happening>>,
    free: Vec<usize>,
    numbers: u64,
    buffer: BytesMut,
}

impl World {
    /// Makes the network of a scenario, ready for what happens to it.
    ///
    /// # Panics
    /// If the network breaks one of its invariants while it comes to be.
    pub fn new(scenario: &Scenario) -> Self {
        Self::with_stores(scenario, MemoryStoreConfig::default())
    }

    /// Makes the network of a scenario, each node with a store of the given bounds; see [`new`](Self::new).
    ///
    /// # Panics
    /// If the network breaks one of its invariants while it comes to be.
    pub fn with_stores(scenario: &Scenario, stores: MemoryStoreConfig) -> Self {
        let mut world = Self { stores, ..Self::empty(scenario) };
        world.people(scenario);
        world
    }

    fn empty(scenario: &Scenario) -> Self {
        // Where virtual time begins is of no matter; no clock is read after this.
        let origin = crate::net::timer::now();
        Self {
            seed: scenario.seed,
            config: scenario.config.clone(),
            stores: MemoryStoreConfig::default(),
            links: scenario.links.clone(),
            churn: scenario.churn,
            origin,
            now: origin,
            rng: Rng::from_u64(scenario.seed),
            nodes: Vec::new(),
            ids: IndexSet::new(),
            elsewhere: BTreeMap::new(),
            asked: BTreeMap::new(),
            outcomes: Vec::new(),
            open_records: BTreeMap::new(),
            record_outcomes: Vec::new(),
            trace: Trace::default(),
            displaced: 0,
            seeds: 1,
            away: Vec::new(),
            deaf: None,
            traffic: Traffic::default(),
            connections: IndexMap::new(),
            answering: IndexMap::new(),
            queue: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            numbers: 0,
            buffer: BytesMut::new(),
        }
    }

    /// Returns the virtual time that has passed since the beginning.
    pub fn now(&self) -> Duration {
        self.now.saturating_duration_since(self.origin)
    }

    /// Returns the wall-clock time, which began at 1970 with the world.
    pub fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now()
    }

    /// Ends a node's life: it is found to be gone at once.
    pub fn kill(&mut self, n: usize) {
        if self.nodes.get(n).is_some_and(Node::is_alive) {
            self.die(n, Refuses::AtOnce);
        }
    }

    /// Adds a node that joins now, and returns its number.
    pub fn join(&mut self) -> usize {
        let n = self.add_node(Role::Honest);
        self.arrive(n);
        n
    }

    /// Returns how many nodes there have been, the present ones included. They are numbered from 0.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the numbers of the nodes that live.
    pub fn alive(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_alive()).map(|(n, _)| n)
    }

    /// Returns a node, if it has not gone.
    pub fn node(&self, n: usize) -> Option<&Dht<MemoryStore>> {
        self.nodes.get(n)?.dht.as_deref()
    }

    /// Returns the number of the node with an id.
    pub fn number_of(&self, peer: &PeerId) -> Option<usize> {
        self.ids.get_index_of(peer)
    }

    /// Returns what was sent so far.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Returns whether a node plays along, be it a server or a client.
    pub fn is_honest(&self, n: usize) -> bool {
        self.nodes.get(n).is_some_and(|node| node.role.is_honest())
    }

    /// Returns how many connections are open.
    pub fn num_connections(&self) -> usize {
        self.connections.values().map(SmallVec::len).sum()
    }

    /// Returns the hash of everything that has happened so far, and when: the same for the same scenario, always.
    pub const fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Adds a node that does nothing yet.
    pub(super) fn add_node(&mut self, role: Role) -> usize {
        let n = self.nodes.len();
        self.add_node_as(role, peer_id(self.seed, n), address(n, self.links.transport))
    }

    fn add_node_as(&mut self, role: Role, peer: PeerId, address: Multiaddr) -> usize {
        let n = self.nodes.len();
        let key = Key::of_peer(&peer, self.config.key_hash);
        self.ids.insert(peer);
        self.nodes.push(Node {
            dht: None,
            peer,
            address,
            key,
            life: Life::Gone(self.now, Refuses::AtOnce),
            role,
            mode: Mode::Client,
            born: self.now,
            incarnation: 0,
            side: 0,
            peers: Vec::new(),
            most_peers: 0,
            joined: false,
            slept: Duration::ZERO,
            asleep_since: None,
            clock_set: 0,
            wake_at: None,
        });
        n
    }

    /// Brings a node to life, for the first time or again, with nothing but its id.
    ///
    /// What connections it had in an earlier life are reset: whoever still holds one hears of it now.
    pub(super) fn give_birth(&mut self, n: usize) {
        self.reset_all(n);
        let clocks = self.clocks(n);
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        node.incarnation += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&mix(self.seed).to_le_bytes());
        seed[8..16].copy_from_slice(&seed_of(&node.key).to_le_bytes());
        seed[16..20].copy_from_slice(&node.incarnation.to_le_bytes());
        let store = MemoryStore::with_config(node.peer, self.stores.clone());
        let dht = Dht::new(node.peer, store, self.config.clone(), seed, clocks);
        node.dht = Some(Box::new(dht));
        node.life = Life::Alive;
        node.born = self.now;
        node.joined = false;
        node.most_peers = 0;
        node.wake_at = None;
        let (role, listening) = (node.role, vec![node.address.clone()]);
        self.trace.note(self.now, 1, n, usize::from(role.is_dialable()));
        let external = if role.is_dialable() { listening.clone() } else { Vec::new() };
        self.input(n, Input::LocalAddresses { external, listening });
        if role == Role::Undialable {
            self.with(n, |dht, now| dht.set_mode(now, Some(Mode::Server)));
        }
    }

    /// Calls a node that lives, and does what comes of it.
    pub(super) fn with<T>(
        &mut self,
        n: usize,
        call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T,
    ) -> Option<T> {
        let clocks = self.clocks(n);
        let node = self.nodes.get_mut(n).filter(|node| node.is_alive())?;
        let result = call(node.dht.as_deref_mut()?, clocks);
        self.drain(n);
        Some(result)
    }

    /// Calls a node that lives, and leaves what comes of it for later.
    fn with_quietly<T>(&mut self, n: usize, call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T) -> Option<T> {
        let now = self.clocks(n);
        let node = self.nodes.get_mut(n).filter(|node| node.is_alive())?;
        Some(call(node.dht.as_deref_mut()?, now))
    }

    pub(super) fn input(&mut self, n: usize, input: Input) {
        self.with(n, |dht, now| dht.handle_input(now, input));
    }

    /// Tells a node something, and returns what it asks of others instead of sending it.
    fn input_alone(&mut self, n: usize, input: Input) -> Vec<(RequestId, crate::message::Request)> {
        let (mut asked, clocks) = (Vec::new(), self.clocks(n));
        let Some(dht) = self.nodes.get_mut(n).and_then(|node| node.dht.as_deref_mut()) else {
            return asked;
        };
        dht.handle_input(clocks, input);
        while let Some(output) =
            self.nodes.get_mut(n).and_then(|node| node.dht.as_deref_mut()).and_then(Dht::poll_output)
        {
            if let Output::SendRequest { id, request, .. } = output {
                asked.push((id, request));
            } else {
                self.output(n, output);
            }
        }
        asked
    }

    fn drain(&mut self, n: usize) {
        while let Some(output) =
            self.nodes.get_mut(n).and_then(|node| node.dht.as_deref_mut()).and_then(Dht::poll_output)
        {
            self.output(n, output);
        }
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let due = node.dht.as_deref().and_then(Dht::poll_timeout).map(|deadline| deadline.at + node.slept);
        if let Some(at) = due
            && node.wake_at.is_none_or(|known| known > at)
        {
            node.wake_at = Some(at);
            self.schedule(at, Happening::Wake(n));
        }
    }

    fn output(&mut self, n: usize, output: Output) {
        match output {
            Output::Dial { id, peer, addresses, .. } => self.dial(n, id, peer, &addresses),
            Output::SendRequest { to, connection, id, request } => {
                self.send_request((n, &to), connection, id, request);
            }
            Output::SendResponse { id, response, .. } => self.send_response(n, id, Some(response)),
            Output::RefuseRequest { id, .. } => self.send_response(n, id, None),
            Output::AcceptRequest { id, .. } => drop(self.answering.swap_remove(&id.0)),
            Output::CancelRequest { to, connection, id } => self.cancel_request(n, &to, connection, id),
            Output::KeepAlive { peer, connection, keep } => self.keep_alive(n, &peer, connection, keep),
            Output::CloseConnection { peer, connection } => self.close(n, &peer, connection),
            Output::SetMode(mode) => self.mode_changed(n, mode),
            Output::Event(event) => self.heard(n, event),
            // There are no other behaviours.
            Output::AnnounceAddresses { .. } => {}
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(happening);
        }
        let number = self.number();
        self.queue.push(Reverse((at.max(self.now), number, slot)));
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.schedule(self.now + delay, happening);
    }

    const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Lets everything happen that happens within `time`.
    ///
    /// # Panics
    /// If a node breaks an invariant: it does not come to rest, or sends to somebody it is not connected to.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Returns when the next thing happens.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Lets the next thing happen.
    pub(super) fn step(&mut self) {
        let Some(Reverse((at, _, slot))) = self.queue.pop() else {
            return;
        };
        self.now = at;
        let happening = self.slots.get_mut(slot).and_then(Option::take);
        self.free.push(slot);
        if let Some(happening) = happening {
            self.happen(happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(n) => self.wake(n),
            Happening::Input { to, life, input } => {
                if self.nodes.get(to).is_some_and(|node| node.incarnation == life) {
                    self.trace.note(self.now, 2, to, 0);
                    self.input(to, *input);
                }
            }
            Happening::Dialled { from, life, dial, to } => {
                if self.nodes.get(from).is_some_and(|node| node.incarnation == life) {
                    self.dialled(from, dial, to);
                }
            }
            Happening::Request { link, from, to, id, request } => {
                self.deliver_request(link, (from, to), id, *request);
            }
            Happening::Response { link, from, to, id, response } => {
                self.deliver_response(link, (from, to), id, response);
            }
            Happening::Sent { link, from, to, id } => self.sent(link, (from, to), id),
            Happening::Identified { link, who, by } => self.identified(link, who, by),
            Happening::Idle { link, a, b } => self.idle(link, a, b),
            Happening::Lost { link, a, b } => self.lost(link, a, b),
            Happening::Born(n) => self.arrive(n),
            Happening::Leaves { who, life } => self.leave(who, life),
        }
    }

    fn wake(&mut self, n: usize) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        if node.wake_at.is_none_or(|at| at > self.now) || !node.is_alive() {
            // It has changed its mind, or has no mind now.
            return;
        }
        node.wake_at = None;
        self.trace.note(self.now, 3, n, 0);
        self.with(n, |dht, now| dht.handle_timeout(now));
        let (due, now) = (self.node(n).and_then(Dht::poll_timeout), self.clocks(n).instant);
        assert!(due.is_none_or(|due| due.at > now), "time does not move on for node {n}: {due:?}");
    }

    /// The number of an answer that a node owes, for the driver's side.
    fn owe(&mut self, link: u64, asker: usize, id: RequestId) -> InboundId {
        let number = self.number();
        self.answering.insert(number, (link, asker, id));
        InboundId(number)
    }

    pub(super) fn deal_roles(&mut self, scenario: &Scenario) -> Vec<Role> {
        deal(&scenario.roles, scenario.nodes, &mut self.rng)
    }
}
