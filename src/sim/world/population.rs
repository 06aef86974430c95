//! The population: how a network comes to be, which nodes come and go, and what happens to them.

use std::ops::Range;
use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{SimEvent, World, WorldAct};
use crate::config::Config;
use crate::event::Mode;
use crate::key::{Distance, Key};
use crate::rng::Rng;
use crate::sim::adversaries::{BuiltIn, shares};
use crate::sim::connections::warm_number;
use crate::sim::crew::Job;
use crate::sim::host::Host;
use crate::sim::ids::{in_group, peer_id};
use crate::sim::links::{mix, seed_of};
use crate::sim::measure::ratio;
use crate::sim::network::DEAD_AFTER;
use crate::sim::nodes::{Life, Refuses, SimNode};
use crate::sim::progress::{Progress, Stage};
use crate::sim::roles::{Role, below, deal, part};
use crate::sim::scenario::{Group, Hosting, Incident, Placement, Scenario, Size, Start};
use crate::sim::sessions::Successor;
use crate::sim::shard::making;
use crate::store::MemoryStoreConfig;
use crate::time::Duration;

/// So long after the tables of an ideal network were filled nothing of it is still under way: what a request may take by default,
/// and half of that. Chosen, not measured.
const FILLED: Duration = Duration::from_secs(15);

/// So many nodes have their tables filled between two looks at a run. Chosen, not measured: some milliseconds of work.
const AT_ONCE: usize = 32;

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
        for role in deal(&roles, &self.honest, scenario.nodes, &mut self.rng) {
            self.add_node_unsorted(role);
        }
        self.network_mut().nodes.sort();
        self.deal_configs(&scenario.groups);
        let began = self.now;
        let stands = match scenario.start {
            Start::Ideal => self.make_ideal(goes_on),
            Start::Join { every, seeds } => {
                self.sessions.seeds = seeds.clamp(1, scenario.nodes.max(1));
                for n in 0..scenario.nodes {
                    let at = every * u32::try_from(n).unwrap_or(u32::MAX);
                    self.act_later(at, WorldAct::Joins(n));
                }
                let end = began + every * u32::try_from(scenario.nodes).unwrap_or(u32::MAX);
                self.run_stage((Stage::Joins, began, end), end, goes_on)
            }
        };
        let joined = self.now;
        let end = joined + scenario.settle;
        if !stands || !self.run_stage((Stage::Settling, joined, end), end, goes_on) {
            return false;
        }
        if self.sessions.churn.is_some() {
            for n in self.alive().collect::<Vec<_>>() {
                let left = self.sessions.draw(true, &mut self.rng);
                self.leaves_in(left, n);
            }
        }
        true
    }

    /// Gives the nodes of each group their configuration. Who is in which is drawn, if there are any.
    fn deal_configs(&mut self, groups: &[Group]) {
        if groups.is_empty() {
            return;
        }
        let mut nodes: Vec<_> = (0..self.network.nodes.len()).collect();
        let all = nodes.len();
        self.rng.shuffle(&mut nodes);
        for Group { size, config } in groups {
            let count = match *size {
                Size::Share(share) => part(all, share),
                Size::Nodes(count) => count,
            };
            let key_hash = self.network.config.key_hash;
            let config = Arc::new(Config { key_hash, ..config.clone() });
            for n in nodes.drain(nodes.len().saturating_sub(count)..) {
                if let Some(node) = self.network_mut().nodes.get_mut(n) {
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
        let Some(node) = self.network_mut().nodes.get_mut(n) else {
            return false;
        };
        match node.life {
            Life::Alive => false,
            Life::Frozen if node.asleep_since.is_some() => false,
            Life::Frozen => {
                node.life = Life::Alive;
                self.wake(n);
                true
            }
            Life::Gone(..) => {
                self.sessions.comes_back(n);
                self.join_as(n);
                if self.sessions.churn.is_some() {
                    let time = self.sessions.draw(false, &mut self.rng);
                    self.leaves_in(time, n);
                }
                true
            }
        }
    }

    /// A machine that stood still goes on: its deadlines are looked at.
    fn wake(&mut self, n: usize) {
        let now = self.now;
        self.turn(n, |turn| {
            turn.shard.host_mut(n).into_iter().for_each(|host| host.wake_at = Some(now));
            turn.idle_by(n, now);
        });
        self.later(n, Duration::ZERO, SimEvent::Wake);
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
        let target = (self.network.config.key_hash)(bytes);
        let distance = |n| Some(target.distance(&self.network.nodes.get(n)?.key));
        let nearest = self.alive().filter_map(distance).min().unwrap_or(Distance::MAX);
        self.place(Arc::new(BuiltIn::Sybil), (bytes, &[Distance::ZERO..nearest]), count, groups)
    }

    /// Lets nodes of a role join whose distances from the hash of some bytes are these, one range in turn, from a few IP groups or
    /// hosted as one owner's, and returns their numbers.
    ///
    /// # Bounds
    /// Ids are tried until enough fit: for a narrow range that takes long.
    pub fn place(
        &mut self,
        role: Arc<dyn Role>,
        (bytes, distances): (&[u8], &[Range<Distance>]),
        count: usize,
        placement: impl Into<Placement>,
    ) -> Vec<usize> {
        let mut placement = placement.into();
        if placement == Placement::Hosted(Hosting::OneNetwork) {
            placement = Placement::Groups(1);
        }
        let key_hash = self.network.config.key_hash;
        let target = (key_hash)(bytes);
        let mut tried = 0;
        let mut sybils = Vec::new();
        let first = self.network.nodes.len();
        while sybils.len() < count {
            // Others than those that were made before.
            let peer = peer_id(self.network.seed ^ 0x5b11 ^ ((first as u64) << 32), tried);
            tried += 1;
            let key = Key::of_peer(&peer, key_hash);
            let range = distances.get(sybils.len() % distances.len().max(1));
            if range.is_some_and(|range| !range.contains(&target.distance(&key))) {
                continue;
            }
            let (at, places) = (sybils.len(), self.network.places);
            let (place, address) = match placement {
                Placement::Groups(groups) => {
                    let place = in_group(first + at % groups.max(1), 1 + at / groups.max(1));
                    (place, places.in_v4(place))
                }
                Placement::Hosted(hosting) => (first + at, places.hosted(first + at, hosting)),
            };
            let n = self.add_node_as(Arc::clone(&role), peer, address);
            self.network_mut().nodes.sort();
            self.network_mut().nodes.set_address_of(place, n);
            self.join_as(n);
            sybils.push(n);
        }
        sybils
    }

    /// Sends the machine of a node to sleep: it does nothing and answers nothing, and its monotonic clock stands still. Its
    /// connections stay as far as it is concerned.
    pub fn suspend(&mut self, n: usize) {
        let now = self.now;
        if let Some(node) = self.network_mut().nodes.get_mut(n).filter(|node| node.is_alive()) {
            node.life = Life::Frozen;
            node.asleep_since = Some(now);
        }
    }

    /// Wakes the machine of a node up. That time has passed only its wall clock tells the node.
    pub fn resume(&mut self, n: usize) {
        let now = self.now;
        let Some(node) = self.network_mut().nodes.get_mut(n).filter(|node| node.life == Life::Frozen) else {
            return;
        };
        if let Some(since) = node.asleep_since.take() {
            node.slept += now.saturating_duration_since(since);
            node.life = Life::Alive;
            // What was to wake it counts from its own clock.
            self.wake(n);
        }
    }

    /// Sets the wall clock of a node: so many seconds ahead of the true time, or behind it.
    pub fn set_clock(&mut self, n: usize, ahead: i64) {
        if let Some(node) = self.network_mut().nodes.get_mut(n) {
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
                self.lose_cut();
            }
            Incident::Partition { share, one_way } => {
                let side = self.network.nodes.len() + 1;
                self.change_some(share, |_, node| node.side = side);
                self.network_mut().deaf = one_way.then_some(side);
                self.lose_cut();
            }
            Incident::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.network_mut().deaf = None;
        let mut thawed = Vec::new();
        for (n, node) in self.network_mut().nodes.iter_mut().enumerate() {
            node.side = 0;
            if node.life == Life::Frozen {
                node.life = Life::Alive;
                thawed.push(n);
            }
        }
        thawed.into_iter().for_each(|n| self.wake(n));
    }

    fn change_some(&mut self, share: f64, change: impl Fn(usize, &mut SimNode)) {
        for n in self.some(share) {
            if let Some(node) = self.network_mut().nodes.get_mut(n) {
                change(n, node);
            }
        }
    }

    /// The connections of a node will be found to be gone: at once if it takes its leave of its peers, else after a while.
    fn lose_all(&mut self, n: usize, orderly: bool) {
        let mut all: Vec<_> = self.host(n).iter().flat_map(|host| host.connections.all()).collect();
        if self.network.links.warm {
            // Either may know of the connection without the other, and neither need have used it.
            let knows = |a: usize, b: usize| self.host(a).is_some_and(|host| host.connections.knows(b));
            let others = (0..self.len()).filter(|other| knows(n, *other) || knows(*other, n));
            all = others.map(|other| (other, warm_number(n, other))).collect();
        }
        for (other, link) in all {
            let delay =
                if orderly { Arc::clone(&self.network).one_way(n, other, &mut self.rng) } else { DEAD_AFTER };
            self.later(n, delay, SimEvent::Lost { link, other });
            self.later(other, delay, SimEvent::Lost { link, other: n });
        }
    }

    /// The connections that a partition has cut will be found to be gone.
    fn lose_cut(&mut self) {
        let all = (0..self.len()).flat_map(|n| {
            self.host(n).into_iter().flat_map(move |host| host.connections.all()).map(move |end| (n, end))
        });
        let cut: Vec<_> = all.filter(|(n, (other, _))| self.network.is_cut(*n, *other)).collect();
        for (n, (other, link)) in cut {
            self.later(n, DEAD_AFTER, SimEvent::Lost { link, other });
        }
    }

    /// Returns a random share of those that live, but never of the first, through which others join.
    fn some(&mut self, share: f64) -> Vec<usize> {
        let mut alive: Vec<_> = self.alive().filter(|n| *n >= self.sessions.seeds).collect();
        let count = part(alive.len(), share);
        self.rng.shuffle(&mut alive);
        alive.truncate(count);
        self.note(10, count);
        alive
    }

    /// Adds a node that does nothing yet.
    fn add_node(&mut self, role: Arc<dyn Role>) -> usize {
        let n = self.add_node_unsorted(role);
        self.network_mut().nodes.sort();
        n
    }

    /// Does the same, before other nodes are added with it.
    fn add_node_unsorted(&mut self, role: Arc<dyn Role>) -> usize {
        let n = self.network.nodes.len();
        self.add_node_as(role, peer_id(self.network.seed, n), self.network.places.of(n))
    }

    fn add_node_as(&mut self, role: Arc<dyn Role>, peer: PeerId, address: Multiaddr) -> usize {
        let key = Key::of_peer(&peer, self.network.config.key_hash);
        let node = SimNode::new(role, peer, address, key, self.now);
        let n = self.network_mut().nodes.push(node);
        // Another stream than the one of the node's own seed.
        let seed = mix(self.network.seed) ^ mix(!seed_of(&key));
        let of = self.shards.len();
        if let Some(shard) = self.shards.get_mut(n % of) {
            shard.hosts.push(Host::new(Rng::from_u64(seed)));
        }
        n
    }

    /// Starts a node, for the first time or again, with nothing but its id.
    ///
    /// What connections it had in an earlier life are reset: a node that still holds one hears of it now.
    fn start(&mut self, n: usize) {
        self.cut_all(n);
        self.is_born(n);
        let stores = self.stores.clone();
        let config = self.network.config_of(n).clone();
        self.turn(n, |turn| making::start(turn, n, stores, config));
    }

    /// A node begins a life, as far as others see.
    fn is_born(&mut self, n: usize) {
        let now = self.now;
        if let Some(node) = self.network_mut().nodes.get_mut(n) {
            node.incarnation += 1;
            node.life = Life::Alive;
            node.born = now;
        }
    }

    /// Stops a node, whose connections are lost.
    fn stop(&mut self, n: usize, refuses: Refuses) {
        self.turn(n, |turn| turn.note(n, 9, 0));
        self.lose_all(n, refuses == Refuses::AtOnce);
        let now = self.now;
        if let Some(node) = self.network_mut().nodes.get_mut(n) {
            node.life = Life::Gone(now, refuses);
            node.mode = Mode::Client;
        }
        if let Some(dht) = self.turn(n, |turn| making::stop(turn, n)).flatten() {
            // Those who are gone hold nothing.
            self.gone.merge(&dht.stats().without_gauges());
        }
        self.records.forget(n);
    }

    /// Starts a node and tells it one of those that were first.
    pub(super) fn join_as(&mut self, n: usize) {
        self.start(n);
        let first = 0..self.sessions.seeds;
        let seeds: Vec<_> = first.filter(|seed| *seed != n).collect();
        let drawn = below(&mut self.rng, seeds.len());
        let seed = seeds.get(drawn).and_then(|seed| self.network.nodes.get(*seed));
        if let Some((peer, at)) = seed.map(|node| (node.peer, node.address.clone())) {
            self.turn(n, |turn| turn.with(n, |dht, now| dht.add_address(now, peer, at)));
        }
    }

    fn leaves_in(&mut self, time: Duration, n: usize) {
        let life = self.network.nodes.life(n);
        self.act_later(time, WorldAct::Leaves { who: n, life });
    }

    /// The session of a node ends, and another comes.
    pub(super) fn leave(&mut self, n: usize, life: u32) {
        let Some(churn) = self.sessions.churn else {
            return;
        };
        if !self.network.nodes.get(n).is_some_and(|node| node.is_alive() && node.incarnation == life) {
            return;
        }
        let crashes = self.rng.unit() < churn.crashes;
        self.stop(n, if crashes { Refuses::Never } else { Refuses::AtOnce });
        let next = match self.sessions.next(n, churn, &mut self.rng) {
            Successor::New => {
                let new = self.add_node(Arc::clone(&self.honest));
                let config = self.network.nodes.get(n).and_then(|node| node.config.clone());
                if let Some(node) = self.network_mut().nodes.get_mut(new) {
                    node.config = config;
                }
                new
            }
            Successor::Returns(n) => n,
        };
        self.join_as(next);
        let time = self.sessions.draw(false, &mut self.rng);
        self.leaves_in(time, next);
    }

    /// Gives each node the table it would have if it knew all the others, unless `goes_on` says no meanwhile. Returns what it
    /// said last.
    fn make_ideal(&mut self, goes_on: &mut dyn FnMut(&Self, Progress) -> bool) -> bool {
        let (nodes, began) = (self.len(), self.now);
        for from in (0..nodes).step_by(AT_ONCE) {
            if !goes_on(self, Progress::new(Stage::Tables, ratio(from, nodes))) {
                return false;
            }
            let numbers = from..(from + AT_ONCE).min(nodes);
            for n in numbers.clone() {
                self.is_born(n);
            }
            self.work(&Job::FillTables(self.stores.clone(), numbers), |_| true);
        }
        let took = self.shards.iter().map(|shard| shard.filled).max().unwrap_or_default();
        self.set_now(began + took);
        let dialled_by = Arc::new(self.dialled_by());
        for from in (0..nodes).step_by(AT_ONCE) {
            if !goes_on(self, Progress::new(Stage::Connecting, ratio(from, nodes))) {
                return false;
            }
            let numbers = from..(from + AT_ONCE).min(nodes);
            self.work(&Job::Settle(Arc::clone(&dialled_by), numbers), |_| true);
        }
        self.run_for_while(FILLED, &mut |world| goes_on(world, Progress::new(Stage::Connecting, 1.0)))
    }

    /// Returns for each node which others have dialled it.
    fn dialled_by(&self) -> Vec<Vec<u32>> {
        let mut dialled_by = vec![Vec::new(); self.len()];
        if self.network.links.warm {
            return dialled_by;
        }
        for n in 0..self.len() {
            for other in self.host(n).iter().flat_map(|host| host.connections.others()) {
                if let Some(by) = dialled_by.get_mut(other) {
                    by.push(u32::try_from(n).unwrap_or(u32::MAX));
                }
            }
        }
        dialled_by
    }
}
