//! The world: real nodes on a virtual clock, and what they are asked.
//!
//! Lets shards go on together, a window of time after another, and makes the changes that all of them see in between; calls a
//! node itself only when it is asked something.

mod population;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::adversaries::BuiltIn;
use super::checks::{self, Violation};
use super::crew::{Crew, Job};
use super::event_queue::{ScheduledEvent, Sender, SimEvent};
use super::host::Host;
use super::links::Links;
use super::measure::{self, Health, LookupOutcome, RunningLookup};
use super::network::{Network, Traffic};
use super::nodes::SimNode;
use super::progress::{Progress, Stage};
use super::records::{BegunQuery, RecordLog, RecordOutcome, RecordQuery, Said};
use super::roles::Role;
use super::scenario::Scenario;
use super::sessions::Sessions;
use super::shard::{Shard, ShardTold, Turn};
use super::trace::Trace;
use crate::dht::Dht;
use crate::event::{Precision, QueryId};
use crate::record::{Quorum, Record, RecordKey};
use crate::rng::Rng;
use crate::stats::Stats;
use crate::store::{self, MemoryStore, MemoryStoreConfig, RecordStore as _};
use crate::time::{Duration, Instant, Now, SystemTime, after, earliest};

/// How many events of a shard before the end of a window are worth giving it to another thread. Measured with 60 nodes.
const WORTH_A_THREAD: usize = 8;

/// A network of real nodes on a virtual clock, in one thread or several.
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
/// # Windows
/// Time passes in windows as long as the shortest message takes: whatever a node does in one, no other hears of it before the
/// next. So the nodes are shared out among [threads](Scenario::threads), and however many these are, the same happens. What
/// happens to the network as a whole, a node that joins, leaves or is asked something, happens between two windows.
///
/// # Bounds
/// Memory is that of the nodes, some 100 kB each in a network of 10,000 that have joined and 170 kB in an ideal one, whose tables
/// are fuller, and of what is under way.
#[derive(Debug)]
pub struct World {
    /// Shared with those who work while time passes.
    pub(super) network: Arc<Network>,
    pub(super) shards: Vec<Shard>,
    crew: Crew,
    now: Instant,
    /// What is random about the network as a whole.
    pub(super) rng: Rng,
    outcomes: Vec<LookupOutcome>,
    pub(super) records: RecordLog,
    sessions: Sessions,
    stores: MemoryStoreConfig,
    /// What happens to the network as a whole.
    acts: BinaryHeap<Reverse<(Instant, u64, WorldAct)>>,
    numbers: u64,
    /// How many events had happened when the run was looked at last.
    watched: u64,
    trace: Trace,
    /// What those have done that are gone.
    gone: Stats,
    /// The role of whoever has no other.
    honest: Arc<dyn Role>,
}

/// What happens to the network as a whole, at a time that is known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WorldAct {
    Joins(usize),
    /// The session of a node ends, unless its life is over.
    Leaves {
        who: usize,
        life: u32,
    },
}

/// So many events pass between two looks at a run. Chosen, not measured: some milliseconds of work.
const WATCH_EVERY: u64 = 256;

/// The shortest time there is: the unit of clocks, as [`Duration`] has it.
const INSTANT: Duration = Duration::from_nanos(1);

impl World {
    pub(super) fn empty(scenario: &Scenario, stores: MemoryStoreConfig) -> Self {
        // Where virtual time begins is of no matter; no clock is read after this.
        let now = crate::net::timer::now();
        let network = Network::new(scenario, now);
        let threads = scenario.threads.get();
        Self {
            shards: (0..threads).map(|index| Shard::new((index, threads), &network)).collect(),
            network: Arc::new(network),
            crew: Crew::new(threads - 1),
            now,
            rng: Rng::from_u64(scenario.seed),
            outcomes: Vec::new(),
            records: RecordLog::default(),
            sessions: Sessions::new(scenario.churn, scenario.sessions.clone()),
            honest: Arc::new(BuiltIn::Honest),
            stores,
            acts: BinaryHeap::new(),
            numbers: 0,
            watched: 0,
            trace: Trace::default(),
            gone: Stats::default(),
        }
    }

    /// Returns the virtual time that has passed since the beginning.
    pub fn now(&self) -> Duration {
        self.now.saturating_duration_since(self.network.origin())
    }

    pub(super) const fn at(&self) -> Instant {
        self.now
    }

    /// Returns the wall-clock time, which began at 1970 with the world.
    pub fn wall(&self) -> SystemTime {
        self.network.wall(self.now)
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
        self.host(n)?.dht.as_deref()
    }

    pub(super) fn host(&self, n: usize) -> Option<&Host> {
        self.shards.get(n % self.shards.len())?.host(n)
    }

    /// Returns the hosts of all nodes, by their numbers.
    fn hosts(&self) -> impl Iterator<Item = &Host> {
        (0..self.len()).filter_map(|n| self.host(n))
    }

    /// Returns the network, to be changed: nobody works.
    fn network_mut(&mut self) -> &mut Network {
        Arc::make_mut(&mut self.network)
    }

    /// Does something with a node, and with what else its shard has.
    fn turn<T>(&mut self, n: usize, turn: impl FnOnce(&mut Turn<'_>) -> T) -> Option<T> {
        let of = self.shards.len();
        let done = self.shards.get_mut(n % of).map(|shard| turn(&mut Turn { network: &self.network, shard }));
        self.gather();
        done
    }

    /// Returns the number of the node with an id.
    pub fn number_of(&self, peer: &PeerId) -> Option<usize> {
        self.network.nodes.number_of(peer)
    }

    /// Returns what was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.shards.iter().fold(Traffic::default(), |all, shard| all.plus(shard.traffic))
    }

    /// Returns how many entries of tables were replaced though their peers could be reached.
    pub(super) fn displaced(&self) -> u64 {
        self.shards.iter().map(|shard| shard.displaced).sum()
    }

    /// Returns how many nodes have joined since they came.
    pub(super) fn joined(&self) -> usize {
        self.hosts().filter(|host| host.joined).count()
    }

    /// Returns what all nodes have counted together, those included that are gone.
    pub fn stats(&self) -> Stats {
        let mut all = self.gone.clone();
        self.hosts().filter_map(|host| host.dht.as_deref()).for_each(|dht| all.merge(&dht.stats()));
        all
    }

    /// Returns whether a node plays along, be it a server or a client.
    pub fn is_honest(&self, n: usize) -> bool {
        self.network.nodes.get(n).is_some_and(|node| node.is_honest)
    }

    /// Returns how many connections are open.
    pub fn num_connections(&self) -> usize {
        // Each has two ends.
        self.hosts().map(|host| host.connections.len()).sum::<usize>() / 2
    }

    /// Returns the round-trip time between two nodes.
    pub fn round_trip(&self, a: usize, b: usize) -> Duration {
        self.network.round_trip(a, b)
    }

    /// Returns the hash of everything that has happened so far, and when: the same for the same scenario, always.
    pub fn hash(&self) -> u64 {
        Trace::hash(std::iter::once(self.trace).chain(self.hosts().map(Host::trace)))
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
        checks::check(&self.network, self.now, |n| self.host(n))
    }

    /// Measures all routing tables.
    pub fn health(&self) -> Health {
        measure::health(&self.network, self.now, |n| self.node(n))
    }

    /// Returns what came of the lookups that have ended, in the order in which they did.
    pub fn outcomes(&self) -> &[LookupOutcome] {
        &self.outcomes
    }

    /// Takes them out.
    pub(super) fn take_outcomes(&mut self) -> Vec<LookupOutcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Returns what came of puts and gets, in the order in which they ended.
    pub fn record_outcomes(&self) -> &[RecordOutcome] {
        self.records.outcomes()
    }

    /// Returns the lookups that run, with their askers.
    pub fn running(&self) -> impl Iterator<Item = (usize, QueryId)> {
        let of = |(n, host): (usize, &'_ Host)| host.lookups.keys().map(|id| (n, *id)).collect::<Vec<_>>();
        self.hosts().enumerate().flat_map(of)
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
        let began = self.now;
        self.turn(n, |turn| {
            let begun = turn.with_quietly(n, |dht, now| dht.find_n_closest(now, key, count, precision));
            if let Some((id, host)) = begun.zip(turn.shard.host_mut(n)) {
                host.lookups.insert(id, RunningLookup { target, began });
                turn.shard.running += 1;
                turn.note(n, 11, 0);
                turn.drain(n);
            }
        });
    }

    /// Returns random bytes to look up.
    pub(super) fn random_key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        self.rng.fill(&mut key);
        key
    }

    /// Lets a node put a record, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes). That of one that the node refuses is there at once.
    pub fn put_record(&mut self, n: usize, record: Record, quorum: Quorum) -> bool {
        let (key, is) = (record.key.clone(), Some(Said::Value(record.value.clone())));
        let put = self.quietly(n, |dht, now| dht.put_record(now, record, quorum));
        self.watch(n, put, BegunQuery { kind: RecordQuery::Put, key, is })
    }

    /// Lets a node store a record at some others, and not at itself. What comes of it is not kept.
    pub fn put_record_to(&mut self, n: usize, record: &Record, to: &[usize]) {
        let peers: Vec<_> = to.iter().filter_map(|n| Some(self.network.nodes.get(*n)?.peer)).collect();
        self.turn(n, |turn| {
            turn.with(n, |dht, now| dht.put_record_to(now, record.clone(), peers, Quorum::All));
        });
    }

    /// Lets a node search a record, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn get_record(&mut self, n: usize, key: RecordKey, quorum: Option<Quorum>) -> bool {
        let get = self.quietly(n, |dht, now| Ok(dht.get_record(now, key.clone(), quorum)));
        self.watch(n, get, BegunQuery { kind: RecordQuery::Get, key, is: None })
    }

    /// Lets a node provide a key, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes). That of one that the node refuses is there at once.
    pub fn provide(&mut self, n: usize, key: RecordKey) -> bool {
        let is = self.network.nodes.get(n).map(|node| Said::Provider(node.peer));
        let provide = self.quietly(n, |dht, now| dht.start_providing(now, key.clone()));
        self.watch(n, provide, BegunQuery { kind: RecordQuery::Provide, key, is })
    }

    /// Lets a node search the providers of a key, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn find_providers(&mut self, n: usize, key: RecordKey) -> bool {
        let get = self.quietly(n, |dht, now| Ok(dht.get_providers(now, key.clone())));
        self.watch(n, get, BegunQuery { kind: RecordQuery::Search, key, is: None })
    }

    /// Calls a node that lives, and leaves what comes of it for later.
    fn quietly<T>(&mut self, n: usize, call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T) -> Option<T> {
        self.turn(n, |turn| turn.with_quietly(n, call)).flatten()
    }

    /// Waits for a query's end. What it has said already is drained only now, so that nothing is missed.
    fn watch(&mut self, n: usize, query: Option<Result<QueryId, store::Error>>, begun: BegunQuery) -> bool {
        let has_begun = match query {
            Some(Ok(query)) => {
                self.records.begin(self.now, (n, query), begun);
                true
            }
            Some(Err(why)) => {
                self.records.refuse(self.now(), n, begun, &why);
                false
            }
            None => false,
        };
        self.turn(n, |turn| turn.drain(n));
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
        self.network_mut().set_links(links);
    }

    /// Lets nothing pass any more over the connections that there are between two nodes, which neither is told: a gateway
    /// between them has forgotten them. A new one works.
    pub fn silence(&mut self, a: usize, b: usize) {
        for (n, other) in [(a, b), (b, a)] {
            let silent: Vec<_> = self.turn(n, |turn| turn.silence(n, other)).unwrap_or_default();
            for link in silent {
                self.later(n, super::network::GIVEN_UP_AFTER, SimEvent::Lost { link, other });
            }
        }
    }

    /// Lets nothing pass any more over the connections of a node; see [`silence`](Self::silence).
    pub fn silence_all(&mut self, n: usize) {
        for other in self.others(n) {
            self.silence(n, other);
        }
    }

    /// Ends the connections that there are between two nodes; both are told at once.
    pub fn cut(&mut self, a: usize, b: usize) {
        for (n, other) in [(a, b), (b, a)] {
            self.turn(n, |turn| turn.cut(n, other));
        }
    }

    /// Ends the connections of a node; see [`cut`](Self::cut).
    pub fn cut_all(&mut self, n: usize) {
        for other in self.others(n) {
            self.cut(n, other);
        }
    }

    /// Returns those that a node is connected to.
    fn others(&self, n: usize) -> Vec<usize> {
        self.host(n).iter().flat_map(|host| host.connections.others()).collect()
    }

    /// Schedules what happens to a node because of the world.
    fn later(&mut self, to: usize, delay: Duration, event: SimEvent) {
        self.numbers += 1;
        let (at, by, of) = (self.now + delay, Sender::world(self.numbers), self.shards.len());
        if let Some(shard) = self.shards.get_mut(to % of) {
            shard.queue.schedule(ScheduledEvent { at, by, to, event });
        }
    }

    /// Schedules what happens to the network.
    fn act_later(&mut self, delay: Duration, act: WorldAct) {
        self.numbers += 1;
        self.acts.push(Reverse((self.now + delay, self.numbers, act)));
    }

    /// Takes note of something that happens to the network.
    fn note(&mut self, what: u64, with: usize) {
        self.trace.note(self.now(), what, with);
    }

    /// Sets the virtual time, when everything has happened that happens before it.
    fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.shards.iter_mut().for_each(|shard| shard.queue.set_now(now));
    }

    /// Takes what the shards have to tell, in an order that is the same however many there are.
    fn gather(&mut self) {
        let all: Vec<_> = self.shards.iter_mut().map(|shard| std::mem::take(&mut shard.told)).collect();
        let (mut modes, mut lookups, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for told in all {
            let ShardTold { elsewhere, modes: new_modes, lookups: new_lookups, results: new_results } = told;
            let of = self.shards.len();
            for scheduled in elsewhere {
                if let Some(shard) = self.shards.get_mut(scheduled.to % of) {
                    shard.queue.schedule(scheduled);
                }
            }
            modes.extend(new_modes);
            lookups.extend(new_lookups);
            results.extend(new_results);
        }
        // Each node tells in its own order, which a stable sort keeps.
        if !modes.is_empty() {
            modes.sort_by_key(|(at, n, _)| (*at, *n));
            for (_, n, mode) in modes {
                if let Some(node) = self.network_mut().nodes.get_mut(n) {
                    node.mode = mode;
                }
            }
        }
        lookups.sort_by_key(|(at, outcome)| (*at, outcome.asker));
        self.outcomes.extend(lookups.into_iter().map(|(_, outcome)| outcome));
        results.sort_by_key(|told| (told.at, told.node));
        for told in results {
            let (n, at) = (told.node, told.at);
            if self.records.on_result(self.network.origin(), told) {
                let since_start = at.saturating_duration_since(self.network.origin());
                let of = self.shards.len();
                let host = self.shards.get_mut(n % of).and_then(|shard| shard.host_mut(n));
                host.into_iter().for_each(|host| host.note(since_start, 14, 0));
            }
        }
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
        let end = after(self.now, time);
        while self.window(end) {
            let steps = self.steps();
            if steps - self.watched >= WATCH_EVERY {
                self.watched = steps;
                if !goes_on(self) {
                    return false;
                }
            }
        }
        self.set_now(end);
        true
    }

    /// Returns how many events have happened.
    fn steps(&self) -> u64 {
        self.shards.iter().map(|shard| shard.steps).sum()
    }

    /// Lets what comes next happen: a window, or something that happens to the network. Returns whether there was anything up to
    /// `end`.
    fn window(&mut self, end: Instant) -> bool {
        let next = self.shards.iter().filter_map(|shard| shard.queue.next_at()).min();
        let act = self.acts.peek().map(|Reverse((at, ..))| *at);
        let Some(first) = earliest(next, act).filter(|first| *first <= end) else {
            return false;
        };
        if act.is_some_and(|act| act <= first) {
            if let Some(Reverse((at, _, act))) = self.acts.pop() {
                self.set_now(at.max(self.now));
                match act {
                    WorldAct::Joins(n) => self.join_as(n),
                    WorldAct::Leaves { who, life } => self.leave(who, life),
                }
            }
            return true;
        }
        let until = after(first.max(self.now), self.network.least).min(after(end, INSTANT));
        let until = act.map_or(until, |act| until.min(act));
        self.work(&Job::Run(until), |shard| shard.queue.has_before(until, WORTH_A_THREAD));
        self.set_now(until.min(end));
        true
    }

    /// Does a job with all shards, on other threads where it is worth it, and takes what they have to tell.
    fn work(&mut self, job: &Job, is_worth: impl Fn(&Shard) -> bool) {
        self.crew.work(&self.network, &mut self.shards, job, is_worth);
        self.gather();
    }

    /// Lets time pass as [`run_for_while`](Self::run_for_while) does, a stage of a run or a part of one: `since` then to `end`.
    pub(super) fn run_stage(
        &mut self,
        (stage, since, end): (Stage, Instant, Instant),
        until: Instant,
        goes_on: &mut dyn FnMut(&Self, Progress) -> bool,
    ) -> bool {
        let whole = end.saturating_duration_since(since).as_secs_f64();
        let time = until.saturating_duration_since(self.now);
        let mut goes_on = |world: &Self| {
            let passed = world.now.saturating_duration_since(since).as_secs_f64();
            goes_on(world, Progress::new(stage, if whole > 0.0 { passed / whole } else { 1.0 }))
        };
        // A stage in which little happens is shown, too.
        goes_on(self) && self.run_for_while(time, &mut goes_on)
    }

    /// Lets time pass until all lookups have ended, but for no longer than `at_most`. Returns whether they have.
    pub fn run_until_answered(&mut self, at_most: Duration) -> bool {
        self.run_while(|world| world.shards.iter().any(|shard| shard.running > 0), at_most)
    }

    /// Lets time pass until all puts and gets have ended, but for no longer than `at_most`. Returns whether they have.
    pub fn run_until_records_settle(&mut self, at_most: Duration) -> bool {
        self.run_while(|world| world.records.has_running(), at_most)
    }

    fn run_while(&mut self, is_running: impl Fn(&Self) -> bool, at_most: Duration) -> bool {
        let end = after(self.now, at_most);
        while is_running(self) {
            if !self.window(end) {
                return false;
            }
        }
        true
    }
}
