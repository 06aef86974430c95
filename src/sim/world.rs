//! The world: real nodes on a virtual clock, and what they are asked.
//!
//! Calls nodes when events say so, and hands what they put out to the network; decides nothing that a node decides.

mod arrivals;
mod population;

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::adversaries::BuiltIn;
use super::checks::{self, Violation};
use super::event_queue::SimEvent;
use super::links::Links;
use super::lookups::LookupLog;
use super::measure::{self, Health, LookupOutcome, RunningLookup};
use super::network::{Network, Traffic};
use super::nodes::SimNode;
use super::progress::{Progress, Stage};
use super::records::{BegunQuery, RecordLog, RecordOutcome, RecordQuery, Said};
use super::roles::Role;
use super::scenario::Scenario;
use super::service::{Service, Task};
use super::sessions::Sessions;
use crate::dht::op::QueryResult;
use crate::dht::{Dht, Event, Input, Output, RequestId};
use crate::event::{Precision, QueryId};
use crate::message::Request;
use crate::record::{Quorum, Record, RecordKey};
use crate::stats::Stats;
use crate::store::{self, MemoryStore, MemoryStoreConfig, RecordStore as _};
use crate::time::{Duration, Instant, Now, SystemTime};

/// A network of real nodes on a virtual clock, in one thread.
///
/// It drives the very [`Dht`] that the swarm's [`Behaviour`](crate::Behaviour) drives; it has no rule of the protocol of
/// its own. What a swarm would do is simulated: dials, connections that end when idle, identify, lost uplinks.
///
/// A [`Scenario`] makes one and runs it; what a scenario cannot say is done by driving it directly:
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
    pub(super) network: Network,
    pub(super) lookups: LookupLog,
    pub(super) records: RecordLog,
    sessions: Sessions,
    stores: MemoryStoreConfig,
    /// The role of whoever has no other.
    honest: Arc<dyn Role>,
    /// How many entries of tables were replaced though their peers could be reached.
    pub(super) displaced: u64,
    /// How many events have happened.
    steps: u64,
}

/// So many events pass between two looks at a run. Chosen, not measured: some milliseconds of work.
const WATCH_EVERY: u64 = 256;

impl World {
    pub(super) fn empty(scenario: &Scenario, stores: MemoryStoreConfig) -> Self {
        // Where virtual time begins is of no matter; no clock is read after this.
        let origin = crate::net::timer::now();
        Self {
            network: Network::new(scenario, origin),
            lookups: LookupLog::default(),
            records: RecordLog::default(),
            sessions: Sessions::new(scenario.churn, scenario.sessions.clone()),
            honest: Arc::new(BuiltIn::Honest),
            stores,
            displaced: 0,
            steps: 0,
        }
    }

    /// Returns the virtual time that has passed since the beginning.
    pub fn now(&self) -> Duration {
        self.network.since_start()
    }

    /// Returns the wall-clock time, which began at 1970 with the world.
    pub fn wall(&self) -> SystemTime {
        self.network.wall()
    }

    /// Returns how many nodes there have been, the present ones included. They are numbered from 0.
    pub fn len(&self) -> usize {
        self.network.nodes.len()
    }

    /// Returns whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the numbers of the nodes that live.
    pub fn alive(&self) -> impl Iterator<Item = usize> {
        self.network.nodes.alive()
    }

    /// Returns a node, if it has not gone.
    pub fn node(&self, n: usize) -> Option<&Dht<MemoryStore>> {
        self.network.nodes.get(n)?.dht.as_deref()
    }

    /// Returns the number of the node with an id.
    pub fn number_of(&self, peer: &PeerId) -> Option<usize> {
        self.network.nodes.number_of(peer)
    }

    /// Returns what was sent so far.
    pub const fn traffic(&self) -> Traffic {
        self.network.traffic
    }

    /// Returns what all nodes have counted together, those included that are gone.
    pub fn stats(&self) -> Stats {
        self.network.nodes.stats()
    }

    /// Returns whether a node plays along, be it a server or a client.
    pub fn is_honest(&self, n: usize) -> bool {
        self.network.nodes.get(n).is_some_and(|node| node.is_honest)
    }

    /// Returns how many connections are open.
    pub fn num_connections(&self) -> usize {
        self.network.connections.len()
    }

    /// Returns the round-trip time between two nodes.
    pub fn round_trip(&self, a: usize, b: usize) -> Duration {
        self.network.round_trip(a, b)
    }

    /// Returns the hash of everything that has happened so far, and when: the same for the same scenario, always.
    pub const fn hash(&self) -> u64 {
        self.network.hash()
    }

    /// Checks every node that lives.
    ///
    /// Buckets hold at most `k` peers, each where its distance belongs, none twice, never the node itself; IP groups keep
    /// their limits; it knows of all its connections; dials, requests and memory keep theirs; no query is older than it may be,
    /// and no deadline is overdue.
    ///
    /// # Errors
    /// The first [`Violation`]: a bug of this library. It names the node and the time; report it.
    pub fn check(&self) -> Result<(), Violation> {
        checks::check(&self.network)
    }

    /// Measures all routing tables.
    pub fn health(&self) -> Health {
        measure::health(&self.network)
    }

    /// Returns what came of the lookups that have ended, in the order in which they did.
    pub fn outcomes(&self) -> &[LookupOutcome] {
        &self.lookups.outcomes
    }

    /// Returns what came of puts and gets, in the order in which they ended.
    pub fn record_outcomes(&self) -> &[RecordOutcome] {
        self.records.outcomes()
    }

    /// Returns the lookups that run, with their askers.
    pub fn running(&self) -> impl Iterator<Item = (usize, QueryId)> {
        self.lookups.running()
    }

    /// Lets a node look up the peers closest to the hash of `key`. [`outcomes`](Self::outcomes) tells what came of it.
    ///
    /// A node that does not live is not asked.
    pub fn look_up(&mut self, n: usize, key: &[u8]) {
        self.look_up_as(n, key, Precision::Exact);
    }

    /// Lets a node look up as precisely as is asked for.
    pub fn look_up_as(&mut self, n: usize, key: &[u8], precision: Precision) {
        let target = (self.network.config.key_hash)(key);
        let count = self.network.config_of(n).bucket_size();
        let begun = self.with_quietly(n, |dht, now| dht.find_n_closest(now, key, count, precision));
        if let Some(id) = begun {
            self.network.note(11, n, 0);
            self.lookups.begin(n, id, RunningLookup { target, began: self.network.now() });
            self.drain(n);
        }
    }

    /// Returns random bytes to look up.
    pub(super) fn random_key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        self.network.rng.fill(&mut key);
        key
    }

    /// Lets a node put a record, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes). That of one that the node refuses is there at once.
    pub fn put_record(&mut self, n: usize, record: Record, quorum: Quorum) -> bool {
        let (key, is) = (record.key.clone(), Some(Said::Value(record.value.clone())));
        let put = self.with_quietly(n, |dht, now| dht.put_record(now, record, quorum));
        self.watch(n, put, BegunQuery { kind: RecordQuery::Put, key, is })
    }

    /// Lets a node store a record at some others, and not at itself. What comes of it is not kept.
    pub fn put_record_to(&mut self, n: usize, record: &Record, to: &[usize]) {
        let peers: Vec<_> = to.iter().filter_map(|n| Some(self.network.nodes.get(*n)?.peer)).collect();
        self.with(n, |dht, now| dht.put_record_to(now, record.clone(), peers, Quorum::All));
    }

    /// Lets a node search a record, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn get_record(&mut self, n: usize, key: RecordKey, quorum: Option<Quorum>) -> bool {
        let get = self.with_quietly(n, |dht, now| Ok(dht.get_record(now, key.clone(), quorum)));
        self.watch(n, get, BegunQuery { kind: RecordQuery::Get, key, is: None })
    }

    /// Lets a node provide a key, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes). That of one that the node refuses is there at once.
    pub fn provide(&mut self, n: usize, key: RecordKey) -> bool {
        let is = self.network.nodes.get(n).map(|node| Said::Provider(node.peer));
        let provide = self.with_quietly(n, |dht, now| dht.start_providing(now, key.clone()));
        self.watch(n, provide, BegunQuery { kind: RecordQuery::Provide, key, is })
    }

    /// Lets a node search the providers of a key, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn find_providers(&mut self, n: usize, key: RecordKey) -> bool {
        let get = self.with_quietly(n, |dht, now| Ok(dht.get_providers(now, key.clone())));
        self.watch(n, get, BegunQuery { kind: RecordQuery::Search, key, is: None })
    }

    /// Waits for a query's end. What it has said already is drained only now, so that nothing is missed.
    fn watch(&mut self, n: usize, query: Option<Result<QueryId, store::Error>>, begun: BegunQuery) -> bool {
        let has_begun = match query {
            Some(Ok(query)) => {
                self.records.begin(self.network.now(), (n, query), begun);
                true
            }
            Some(Err(why)) => {
                self.records.refuse(self.network.since_start(), n, begun, &why);
                false
            }
            None => false,
        };
        self.drain(n);
        has_begun
    }

    /// Returns the numbers of the nodes that live and would name a provider of a key.
    pub fn holders_of_provider(&self, key: &RecordKey, provider: usize) -> Vec<usize> {
        let wall = self.wall();
        let Some(peer) = self.network.nodes.get(provider).map(|node| node.peer) else {
            return Vec::new();
        };
        let names = |n: &usize| {
            let known = self.node(*n).and_then(|dht| dht.store().providers(wall, key).ok());
            *n != provider && known.is_some_and(|known| known.iter().any(|record| record.provider == peer))
        };
        self.alive().filter(names).collect()
    }

    /// Returns the numbers of the nodes that live and hold a record that has not ended.
    pub fn holders(&self, key: &RecordKey) -> Vec<usize> {
        let wall = self.wall();
        let holds =
            |n: &usize| self.node(*n).is_some_and(|dht| matches!(dht.store().get(wall, key), Ok(Some(_))));
        self.alive().filter(holds).collect()
    }

    /// Returns the numbers of the living servers that are truly the closest to the hash of some bytes, nearest first.
    pub fn closest_alive(&self, bytes: &[u8], count: usize) -> Vec<usize> {
        let target = (self.network.config.key_hash)(bytes);
        self.network.nodes.closest(&target, count, SimNode::is_findable)
    }

    /// Changes the links between the nodes: what is sent from now on takes as long as these take.
    pub fn set_links(&mut self, links: Links) {
        self.network.links = links;
    }

    /// Lets nothing pass any more over the connections that there are between two nodes, which neither is told: a gateway
    /// between them has forgotten them. A new one works.
    pub fn silence(&mut self, a: usize, b: usize) {
        self.network.silence(a, b);
    }

    /// Lets nothing pass any more over the connections of a node; see [`silence`](Self::silence).
    pub fn silence_all(&mut self, n: usize) {
        for other in self.network.nodes.get(n).map(|node| node.peers.clone()).unwrap_or_default() {
            self.silence(n, other);
        }
    }

    /// Ends the connections that there are between two nodes; both are told at once.
    pub fn cut(&mut self, a: usize, b: usize) {
        let (a, b) = super::connections::pair(a, b);
        for link in self.network.connections.numbers(a, b) {
            self.lost(link, a, b);
        }
    }

    /// Ends the connections of a node; see [`cut`](Self::cut).
    pub fn cut_all(&mut self, n: usize) {
        self.reset_all(n);
    }

    /// Lets everything happen that happens within `time`.
    ///
    /// # Panics
    /// If a node breaks an invariant: it does not come to rest, or sends to a peer it is not connected to.
    pub fn run_for(&mut self, time: Duration) {
        self.run_for_while(time, &mut |_| true);
    }

    /// Lets everything happen that happens within `time`, unless `goes_on` says no meanwhile. Returns what it said last.
    pub(super) fn run_for_while(&mut self, time: Duration, goes_on: &mut dyn FnMut(&Self) -> bool) -> bool {
        let end = self.network.now() + time;
        while self.network.queue.next_at().is_some_and(|at| at <= end) {
            self.step();
            if self.steps.is_multiple_of(WATCH_EVERY) && !goes_on(self) {
                return false;
            }
        }
        self.network.queue.set_now(end);
        true
    }

    /// Lets time pass as [`run_for_while`](Self::run_for_while) does, a stage of a run or a part of one: `since` then to `end`.
    pub(super) fn run_stage(
        &mut self,
        (stage, since, end): (Stage, Instant, Instant),
        until: Instant,
        goes_on: &mut dyn FnMut(&Self, Progress) -> bool,
    ) -> bool {
        let whole = end.saturating_duration_since(since).as_secs_f64();
        let time = until.saturating_duration_since(self.network.now());
        self.run_for_while(time, &mut |world| {
            let passed = world.network.now().saturating_duration_since(since).as_secs_f64();
            goes_on(world, Progress::new(stage, if whole > 0.0 { passed / whole } else { 1.0 }))
        })
    }

    /// Lets time pass until all lookups have ended, but for no longer than `at_most`. Returns whether they have.
    pub fn run_until_answered(&mut self, at_most: Duration) -> bool {
        self.run_while(|world| world.lookups.has_running(), at_most)
    }

    /// Lets time pass until all puts and gets have ended, but for no longer than `at_most`. Returns whether they have.
    pub fn run_until_records_settle(&mut self, at_most: Duration) -> bool {
        self.run_while(|world| world.records.has_running(), at_most)
    }

    fn run_while(&mut self, is_running: impl Fn(&Self) -> bool, at_most: Duration) -> bool {
        let end = self.network.now() + at_most;
        while is_running(self) {
            match self.network.queue.next_at() {
                Some(at) if at <= end => self.step(),
                Some(_) | None => return false,
            }
        }
        true
    }

    /// Lets the next event happen.
    fn step(&mut self) {
        let Some(event) = self.network.queue.pop() else {
            return;
        };
        self.steps += 1;
        match event {
            SimEvent::Wake(n) => self.wake(n),
            SimEvent::Served { n, life } => {
                if self.network.nodes.has_life(n, life) {
                    self.served(n);
                }
            }
            SimEvent::Input { to, life, input } => {
                if self.network.nodes.has_life(to, life) {
                    self.network.note(2, to, 0);
                    self.input(to, *input);
                }
            }
            SimEvent::Dialled { from, life, dial, to } => {
                if self.network.nodes.has_life(from, life) {
                    self.dialled(from, dial, to);
                }
            }
            SimEvent::Request { link, from, to, id, request } => {
                self.deliver_request(link, (from, to), id, *request);
            }
            SimEvent::Response { link, from, to, id, response } => {
                self.deliver_response(link, (from, to), id, response);
            }
            SimEvent::Sent { link, from, to, id } => self.sent(link, (from, to), id),
            SimEvent::Identified { link, who, by } => self.identified(link, who, by),
            SimEvent::Idle { link, a, b } => self.idle(link, a, b),
            SimEvent::Lost { link, a, b } => self.lost(link, a, b),
            SimEvent::Joins(n) => self.join_as(n),
            SimEvent::Leaves { who, life } => self.leave(who, life),
        }
    }

    fn wake(&mut self, n: usize) {
        let now = self.network.now();
        let Some(node) = self.network.nodes.get_mut(n) else {
            return;
        };
        if node.wake_at.is_none_or(|at| at > now) || !node.is_alive() {
            // It has changed its mind, or has no mind now.
            return;
        }
        node.wake_at = None;
        if !node.service.wakes_later() {
            self.time_out(n);
        }
    }

    /// Tells a node that its deadline has come.
    fn time_out(&mut self, n: usize) {
        self.network.note(3, n, 0);
        self.with(n, |dht, now| dht.handle_timeout(now));
        let (due, now) = (self.node(n).and_then(Dht::poll_timeout), self.network.clocks(n).instant);
        assert!(due.is_none_or(|due| due.at > now), "time does not move on for node {n}: {due:?}");
    }

    /// Calls a node that lives, and does what comes of it.
    fn with<T>(&mut self, n: usize, call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T) -> Option<T> {
        let result = self.with_quietly(n, call)?;
        self.drain(n);
        Some(result)
    }

    /// Calls a node that lives, and leaves what comes of it for later.
    fn with_quietly<T>(&mut self, n: usize, call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T) -> Option<T> {
        let now = self.network.clocks(n);
        let node = self.network.nodes.get_mut(n).filter(|node| node.is_alive())?;
        Some(call(node.dht.as_deref_mut()?, now))
    }

    /// Tells a node something, at once or when it comes to it.
    fn input(&mut self, n: usize, input: Input) {
        if self.network.work.is_zero() {
            self.with(n, |dht, now| dht.handle_input(now, input));
            return;
        }
        let arrived = self.network.clocks(n).instant;
        if let Some(node) = self.network.nodes.get_mut(n).filter(|node| node.is_alive()) {
            node.service.push(arrived, input);
            self.serve(n);
        }
    }

    /// A node begins to work on the first thing that waits for it, unless it works on something.
    fn serve(&mut self, n: usize) {
        let network = &mut self.network;
        let life = network.nodes.life(n);
        let begun = network.nodes.get_mut(n).and_then(|node| node.service.begin(network.work));
        if let Some(cost) = begun {
            network.queue.later(cost, SimEvent::Served { n, life });
        }
    }

    /// A node has done its work on the first thing that waits for it.
    fn served(&mut self, n: usize) {
        let now = self.network.clocks(n).instant;
        let Some(node) = self.network.nodes.get_mut(n) else {
            return;
        };
        if !node.is_alive() {
            // What waits for a machine that stands still is lost.
            node.service = Service::new();
            return;
        }
        match node.service.done() {
            Some(Task::Input(arrived, input)) => {
                let late = now.saturating_duration_since(arrived).saturating_sub(self.network.work);
                self.with(n, |dht, now| dht.handle_input(now.late_by(late), *input));
            }
            Some(Task::Wake) => {
                let due = self.node(n).and_then(Dht::poll_timeout);
                if due.is_some_and(|due| due.at <= now) {
                    self.time_out(n);
                } else {
                    self.drain(n);
                }
            }
            None => {}
        }
        self.serve(n);
    }

    /// Tells a node something, and returns what it asks of others instead of sending it.
    fn input_alone(&mut self, n: usize, input: Input) -> Vec<(RequestId, Request)> {
        let (mut asked, clocks) = (Vec::new(), self.network.clocks(n));
        let Some(dht) = self.network.nodes.get_mut(n).and_then(|node| node.dht.as_deref_mut()) else {
            return asked;
        };
        dht.handle_input(clocks, input);
        while let Some(output) = self.poll_output(n) {
            if let Output::SendRequest { id, request, .. } = output {
                asked.push((id, request));
            } else {
                self.output(n, output);
            }
        }
        asked
    }

    fn poll_output(&mut self, n: usize) -> Option<Output<Event>> {
        self.network.nodes.get_mut(n)?.dht.as_deref_mut()?.poll_output()
    }

    /// Does what a node puts out, and schedules its deadline.
    fn drain(&mut self, n: usize) {
        while let Some(output) = self.poll_output(n) {
            self.output(n, output);
        }
        let Some(node) = self.network.nodes.get_mut(n) else {
            return;
        };
        let due = node.dht.as_deref().and_then(Dht::poll_timeout).map(|deadline| deadline.at + node.slept);
        if let Some(at) = due
            && !node.service.is_to_wake()
            && node.wake_at.is_none_or(|known| known > at)
        {
            node.wake_at = Some(at);
            self.network.queue.schedule(at, SimEvent::Wake(n));
        }
    }

    fn output(&mut self, n: usize, output: Output<Event>) {
        let network = &mut self.network;
        match output {
            Output::Dial { id, peer, addresses, .. } => network.dial(n, id, peer, &addresses),
            Output::SendRequest { to, connection, id, request } => {
                network.send_request((n, &to), connection, id, request);
            }
            Output::SendResponse { id, response, .. } => network.send_response(n, id, Some(response)),
            Output::RefuseRequest { id, .. } => network.send_response(n, id, None),
            Output::AcceptRequest { id, .. } => network.end_answer(id),
            Output::CancelRequest { to, connection, id } => network.cancel_request(n, &to, connection, id),
            Output::KeepAlive { peer, connection, keep } => network.keep_alive(n, &peer, connection, keep),
            Output::CloseConnection { peer, connection } => network.close(n, &peer, connection),
            Output::SetMode(mode) => network.set_mode(n, mode),
            Output::Event(event) => self.on_event(n, event),
            // There are no other behaviours.
            Output::AnnounceAddresses { .. } => {}
        }
    }

    /// A node tells its application something.
    fn on_event(&mut self, n: usize, event: Event) {
        if let Event::RoutingUpdated { old_peer: Some(old), .. } = &event {
            let old = self.number_of(old).filter(|old| !self.network.is_cut(n, *old));
            let old = old.and_then(|old| self.network.nodes.get(old));
            self.displaced += u64::from(old.is_some_and(SimNode::is_findable));
        }
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else {
            return;
        };
        if let QueryResult::GetClosestPeers(result) = result {
            if step.last {
                self.lookups.end(&mut self.network, (n, id), result, &stats);
            }
        } else if let QueryResult::Bootstrap(result) = result {
            if step.last {
                if let Some(node) = self.network.nodes.get_mut(n) {
                    node.joined |= result.is_ok();
                }
                self.network.note(12, n, 0);
            }
        } else {
            let times = (self.network.queue.origin(), self.network.now());
            if self.records.on_result(times, (n, id, step.last), result, &stats) {
                self.network.note(14, n, 0);
            }
        }
    }
}
