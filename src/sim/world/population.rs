//! The population: how a network comes to be, which nodes come and go, and what happens to them.

use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{SimEvent, World};
use crate::config::{Config, Joining, Routing};
use crate::dht::{Dht, Input};
use crate::event::Mode;
use crate::key::Key;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::sim::adversaries::{BuiltIn, shares};
use crate::sim::ideal;
use crate::sim::ids::{in_group, peer_id};
use crate::sim::links::{mix, seed_of};
use crate::sim::measure::ratio;
use crate::sim::nodes::{Life, Refuses, SimNode};
use crate::sim::progress::{Progress, Stage};
use crate::sim::roles::{Role, below, deal, part, shuffle};
use crate::sim::scenario::{Group, Incident, Scenario, Size, Start};
use crate::sim::sessions::Successor;
use crate::store::{MemoryStore, MemoryStoreConfig};
use crate::time::Duration;

/// While the tables of an ideal network are filled, and a while longer, so that nothing of it is still under way. Chosen, not
/// measured.
const FILLING: Duration = Duration::from_secs(600);

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
        let mut world = Self::empty(scenario, stores);
        world.set_up(scenario, &mut |_, _| true);
        world
    }

    /// Lets the network come to be, unless `goes_on` says no meanwhile: then it stands as it is, and may not be run on. Returns
    /// whether it has come to be.
    pub(in crate::sim) fn set_up(
        &mut self,
        scenario: &Scenario,
        goes_on: &mut dyn FnMut(&Self, Progress) -> bool,
    ) -> bool {
        let mut roles = shares(&scenario.roles);
        roles.extend(scenario.own_roles.iter().cloned());
        for role in deal(&roles, &self.honest, scenario.nodes, &mut self.network.rng) {
            self.add_node(role);
        }
        self.deal_configs(&scenario.groups, scenario.start == Start::Ideal);
        let began = self.network.now();
        let stands = match scenario.start {
            Start::Ideal => self.make_ideal(goes_on),
            Start::Join { every, seeds } => {
                self.sessions.seeds = seeds.clamp(1, scenario.nodes.max(1));
                for n in 0..scenario.nodes {
                    let at = every * u32::try_from(n).unwrap_or(u32::MAX);
                    self.network.queue.later(at, SimEvent::Joins(n));
                }
                let end = began + every * u32::try_from(scenario.nodes).unwrap_or(u32::MAX);
                self.run_stage((Stage::Joins, began, end), end, goes_on)
            }
        };
        let joined = self.network.now();
        let end = joined + scenario.settle;
        if !stands || !self.run_stage((Stage::Settling, joined, end), end, goes_on) {
            return false;
        }
        if self.sessions.churn.is_some() {
            for n in self.alive().collect::<Vec<_>>() {
                let left = self.sessions.draw(true, &mut self.network.rng);
                self.leaves_in(left, n);
            }
        }
        true
    }

    /// Gives the nodes of each group their configuration. Who is in which is drawn, if there are any.
    fn deal_configs(&mut self, groups: &[Group], is_ideal: bool) {
        if groups.is_empty() {
            return;
        }
        let mut nodes: Vec<_> = (0..self.network.nodes.len()).collect();
        let all = nodes.len();
        shuffle(&mut nodes, &mut self.network.rng);
        for Group { size, config } in groups {
            let count = match *size {
                Size::Share(share) => part(all, share),
                Size::Nodes(count) => count,
            };
            let key_hash = self.network.config.key_hash;
            let mut config = Config { key_hash, ..config.clone() };
            if is_ideal {
                make_passive(&mut config);
            }
            let config = Arc::new(config);
            for n in nodes.drain(nodes.len().saturating_sub(count)..) {
                if let Some(node) = self.network.nodes.get_mut(n) {
                    node.config = Some(Arc::clone(&config));
                }
            }
        }
    }

    /// Adds a node that joins now, and returns its number.
    pub fn join(&mut self) -> usize {
        self.join_in(Arc::clone(&self.honest))
    }

    /// Adds a node of some role that joins now, and returns its number.
    pub fn join_in(&mut self, role: Arc<dyn Role>) -> usize {
        let n = self.add_node(role);
        self.join_as(n);
        n
    }

    /// Brings a node back: one that is gone joins again, with its old id and nothing else; one that has fallen silent lives on
    /// as it was. Returns whether it was one of these; one that sleeps is woken by [`resume`](Self::resume).
    pub fn revive(&mut self, n: usize) -> bool {
        let now = self.network.now();
        let Some(node) = self.network.nodes.get_mut(n) else {
            return false;
        };
        match node.life {
            Life::Alive => false,
            Life::Frozen if node.asleep_since.is_some() => false,
            Life::Frozen => {
                node.life = Life::Alive;
                node.wake_at = Some(now);
                self.network.queue.later(Duration::ZERO, SimEvent::Wake(n));
                true
            }
            Life::Gone(..) => {
                self.sessions.comes_back(n);
                self.join_as(n);
                if self.sessions.churn.is_some() {
                    let time = self.sessions.draw(false, &mut self.network.rng);
                    self.leaves_in(time, n);
                }
                true
            }
        }
    }

    /// Ends a node's life: it is found to be gone at once.
    pub fn kill(&mut self, n: usize) {
        if self.network.nodes.get(n).is_some_and(SimNode::is_alive) {
            self.stop(n, Refuses::AtOnce);
        }
    }

    /// Lets nodes join that are nearer to the hash of some bytes than any other, from a few IP groups, and returns their
    /// numbers.
    ///
    /// Asked for providers they name twenty that do not exist, and beside them the true closest peers; else they play along.
    pub fn surround(&mut self, bytes: &[u8], count: usize, groups: usize) -> Vec<usize> {
        let key_hash = self.network.config.key_hash;
        let target = (key_hash)(bytes);
        let distance = |n| Some(target.distance(&self.network.nodes.get(n)?.key));
        let nearest = self.alive().filter_map(distance).min();
        let mut tried = 0;
        let mut sybils = Vec::new();
        let first = self.network.nodes.len();
        let role: Arc<dyn Role> = Arc::new(BuiltIn::Sybil);
        while sybils.len() < count {
            let peer = peer_id(self.network.seed ^ 0x5b11, tried);
            tried += 1;
            let key = Key::of_peer(&peer, key_hash);
            if nearest.is_some_and(|nearest| target.distance(&key) >= nearest) {
                continue;
            }
            let place = in_group(first + sybils.len() % groups.max(1), 1 + sybils.len() / groups.max(1));
            let n = self.add_node_as(Arc::clone(&role), peer, self.network.places.in_v4(place));
            self.network.nodes.set_address_of(place, n);
            self.join_as(n);
            sybils.push(n);
        }
        sybils
    }

    /// Sends the machine of a node to sleep: it does nothing and answers nothing, and its monotonic clock stands still. Its
    /// connections stay as far as it is concerned.
    pub fn suspend(&mut self, n: usize) {
        let now = self.network.now();
        if let Some(node) = self.network.nodes.get_mut(n).filter(|node| node.is_alive()) {
            node.life = Life::Frozen;
            node.asleep_since = Some(now);
        }
    }

    /// Wakes the machine of a node up. That time has passed only its wall clock tells the node.
    pub fn resume(&mut self, n: usize) {
        let now = self.network.now();
        let Some(node) = self.network.nodes.get_mut(n).filter(|node| node.life == Life::Frozen) else {
            return;
        };
        if let Some(since) = node.asleep_since.take() {
            node.slept += now.saturating_duration_since(since);
            node.life = Life::Alive;
            // What was to wake it counts from its own clock.
            node.wake_at = Some(now);
            self.network.queue.later(Duration::ZERO, SimEvent::Wake(n));
        }
    }

    /// Sets the wall clock of a node: so many seconds ahead of the true time, or behind it.
    pub fn set_clock(&mut self, n: usize, ahead: i64) {
        if let Some(node) = self.network.nodes.get_mut(n) {
            node.clock_set = ahead;
        }
    }

    /// Lets something happen to the network.
    pub fn incident(&mut self, incident: Incident) {
        match incident {
            Incident::Freeze(share) => {
                self.change_some(share, |_, node| node.life = Life::Frozen);
            }
            Incident::Kill(share) => {
                for n in self.some(share) {
                    self.stop(n, Refuses::AtOnce);
                }
            }
            Incident::CutUplinks(share) => {
                self.change_some(share, |n, node| node.side = n + 1);
                self.network.lose_cut();
            }
            Incident::Partition { share, one_way } => {
                let side = self.network.nodes.len() + 1;
                self.change_some(share, |_, node| node.side = side);
                self.network.deaf = one_way.then_some(side);
                self.network.lose_cut();
            }
            Incident::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        let now = self.network.now();
        self.network.deaf = None;
        let mut thawed = Vec::new();
        for (n, node) in self.network.nodes.iter_mut().enumerate() {
            node.side = 0;
            if node.life == Life::Frozen {
                node.life = Life::Alive;
                node.wake_at = Some(now);
                thawed.push(n);
            }
        }
        thawed.into_iter().for_each(|n| self.network.queue.later(Duration::ZERO, SimEvent::Wake(n)));
    }

    fn change_some(&mut self, share: f64, change: impl Fn(usize, &mut SimNode)) {
        for n in self.some(share) {
            if let Some(node) = self.network.nodes.get_mut(n) {
                change(n, node);
            }
        }
    }

    /// Returns a random share of those that live, but never of the first, through which others join.
    fn some(&mut self, share: f64) -> Vec<usize> {
        let mut alive: Vec<_> = self.alive().filter(|n| *n >= self.sessions.seeds).collect();
        let count = part(alive.len(), share);
        shuffle(&mut alive, &mut self.network.rng);
        alive.truncate(count);
        self.network.note(10, count, 0);
        alive
    }

    /// Adds a node that does nothing yet.
    fn add_node(&mut self, role: Arc<dyn Role>) -> usize {
        let n = self.network.nodes.len();
        self.add_node_as(role, peer_id(self.network.seed, n), self.network.places.of(n))
    }

    fn add_node_as(&mut self, role: Arc<dyn Role>, peer: PeerId, address: Multiaddr) -> usize {
        let key = Key::of_peer(&peer, self.network.config.key_hash);
        let node = SimNode::new(role, peer, address, key, self.network.now());
        self.network.nodes.push(node)
    }

    /// Starts a node, for the first time or again, with nothing but its id.
    ///
    /// What connections it had in an earlier life are reset: a node that still holds one hears of it now.
    fn start(&mut self, n: usize) {
        self.reset_all(n);
        let (clocks, now) = (self.network.clocks(n), self.network.now());
        let (seed_of_world, config) = (self.network.seed, self.network.config_of(n).clone());
        let Some(node) = self.network.nodes.get_mut(n) else {
            return;
        };
        node.incarnation += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&mix(seed_of_world).to_le_bytes());
        seed[8..16].copy_from_slice(&seed_of(&node.key).to_le_bytes());
        seed[16..20].copy_from_slice(&node.incarnation.to_le_bytes());
        let store = MemoryStore::with_config(node.peer, self.stores.clone());
        node.dht = Some(Box::new(Dht::new(node.peer, store, config, seed, clocks)));
        node.life = Life::Alive;
        node.born = now;
        node.joined = false;
        node.most_peers = 0;
        node.wake_at = None;
        let (is_dialable, is_server, listening) =
            (node.is_dialable, node.is_server, vec![node.address.clone()]);
        self.network.note(1, n, usize::from(is_dialable));
        let external = if is_dialable && is_server { listening.clone() } else { Vec::new() };
        self.input(n, Input::LocalAddresses { external, listening });
        if is_server && !is_dialable {
            self.with(n, |dht, now| dht.set_mode(now, Some(Mode::Server)));
        }
    }

    /// Stops a node, whose connections are lost.
    fn stop(&mut self, n: usize, refuses: Refuses) {
        self.network.note(9, n, 0);
        self.network.lose_all(n, refuses == Refuses::AtOnce);
        let now = self.network.now();
        self.network.nodes.end(n, Life::Gone(now, refuses));
        self.lookups.forget(n);
        self.records.forget(n);
    }

    /// Starts a node and tells it one of those that were first.
    pub(super) fn join_as(&mut self, n: usize) {
        self.start(n);
        let first = 0..self.sessions.seeds;
        let seeds: Vec<_> = first.filter(|seed| *seed != n).collect();
        let drawn = below(&mut self.network.rng, seeds.len());
        let seed = seeds.get(drawn).and_then(|seed| self.network.nodes.get(*seed));
        if let Some((peer, at)) = seed.map(|node| (node.peer, node.address.clone())) {
            self.with(n, |dht, now| dht.add_address(now, peer, at));
        }
    }

    fn leaves_in(&mut self, time: Duration, n: usize) {
        let life = self.network.nodes.life(n);
        self.network.queue.later(time, SimEvent::Leaves { who: n, life });
    }

    /// The session of a node ends, and another comes.
    pub(super) fn leave(&mut self, n: usize, life: u32) {
        let Some(churn) = self.sessions.churn else {
            return;
        };
        if !self.network.nodes.get(n).is_some_and(|node| node.is_alive() && node.incarnation == life) {
            return;
        }
        let crashes = self.network.rng.unit() < churn.crashes;
        self.stop(n, if crashes { Refuses::Never } else { Refuses::AtOnce });
        let next = match self.sessions.next(n, churn, &mut self.network.rng) {
            Successor::New => {
                let new = self.add_node(Arc::clone(&self.honest));
                let config = self.network.nodes.get(n).and_then(|node| node.config.clone());
                if let Some(node) = self.network.nodes.get_mut(new) {
                    node.config = config;
                }
                new
            }
            Successor::Returns(n) => n,
        };
        self.join_as(next);
        let time = self.sessions.draw(false, &mut self.network.rng);
        self.leaves_in(time, next);
    }

    /// Gives each node the table it would have if it knew all the others, unless `goes_on` says no meanwhile. Returns what it
    /// said last.
    fn make_ideal(&mut self, goes_on: &mut dyn FnMut(&Self, Progress) -> bool) -> bool {
        make_passive(&mut self.network.config);
        let origin = self.network.now();
        let servers = ideal::servers_by_key(&self.network.nodes);
        let nodes = self.network.nodes.len();
        for n in 0..nodes {
            if !goes_on(self, Progress::new(Stage::Tables, ratio(n, nodes))) {
                return false;
            }
            self.network.queue.set_now(origin);
            self.start(n);
            let network = &mut self.network;
            let k = network.config_of(n).bucket_size().get();
            for other in ideal::peers(&network.nodes, &mut network.rng, k, n, &servers) {
                self.introduce(n, other);
            }
        }
        self.network.queue.set_now(origin + FILLING);
        self.settle_ideal(goes_on)
    }

    /// Lets a node meet another as it would have before: connected, identified, asked once.
    fn introduce(&mut self, n: usize, other: usize) {
        let Some(node) = self.network.nodes.get(other) else {
            return;
        };
        let (peer, key, addresses) = (node.peer, node.key, vec![node.address.clone()]);
        let mut asked = self.meet_ideally(n, other);
        asked.extend(self.input_alone(n, Input::AddressesLearned { peer, addresses }));
        asked.extend(self.input_alone(n, Input::ProtocolConfirmed { peer }));
        for (id, request) in asked {
            let answered = self.network.now() + self.round_trip(n, other);
            self.network.queue.set_now(answered);
            let named = KadPeer {
                node_id: peer,
                multiaddrs: self.network.nodes.addresses_of(other),
                connection_ty: ConnectionType::CanConnect,
            };
            let response = match request {
                Request::FindNode { .. } => Response::FindNode { closer_peers: vec![named] },
                Request::Ping
                | Request::GetValue { .. }
                | Request::PutValue { .. }
                | Request::GetProviders { .. }
                | Request::AddProvider { .. } => Response::Pong,
            };
            self.input_alone(n, Input::ResponseReceived { id, response });
        }
        let is_known = self.node(n).is_some_and(|dht| dht.table().entry(&key, &peer).is_some());
        assert!(is_known, "node {n} has no room for node {other} in its ideal table");
    }
}

/// A node with such a configuration neither joins, nor refreshes, nor probes anybody.
fn make_passive(config: &mut Config) {
    let grace_period = Duration::from_secs(365 * 24 * 60 * 60);
    let (joining, refresh_interval) = (Joining::OnRequest, None);
    config.routing =
        Routing { grace_period, joining, refresh_interval, low_peers: 0, ..config.routing.clone() };
}
