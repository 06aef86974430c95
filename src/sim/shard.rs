//! Shards: nodes that one thread looks after, and what happens to them.
//!
//! Calls nodes when events say so, and does what they put out; decides nothing that a node decides.

mod arrivals;
pub(super) mod making;
mod sending;

use std::ops::Range;

use bytes::BytesMut;
use libp2p_identity::PeerId;

use super::bandwidth::Bandwidth;
use super::event_queue::{EventQueue, ScheduledEvent, SimEvent};
use super::host::Host;
use super::measure::{self, LookupOutcome};
use super::network::{Network, Traffic};
use super::nodes::SimNode;
use super::service::{Service, Task};
use crate::dht::op::QueryResult;
use crate::dht::{Dht, Event, Input, Output, RequestId};
use crate::event::{Mode, QueryId, QueryStats};
use crate::message::Request;
use crate::store::MemoryStore;
use crate::time::{Duration, Instant, Now};

/// What a node has told of a query for records or providers.
#[derive(Debug)]
pub(super) struct ToldResult {
    pub(super) at: Instant,
    pub(super) node: usize,
    pub(super) query: QueryId,
    pub(super) is_last: bool,
    pub(super) result: QueryResult,
    pub(super) stats: QueryStats,
}

/// What a node asks of another.
#[derive(Debug)]
pub(super) struct Asked {
    to: PeerId,
    id: RequestId,
    request: Request,
}

/// What a shard has to tell when a window ends.
#[derive(Debug, Default)]
pub(super) struct ShardTold {
    /// What happens to nodes of other shards.
    pub(super) elsewhere: Vec<ScheduledEvent>,
    /// Nodes that have become clients or servers.
    pub(super) modes: Vec<(Instant, usize, Mode)>,
    /// Lookups that have ended.
    pub(super) lookups: Vec<(Instant, LookupOutcome)>,
    pub(super) results: Vec<ToldResult>,
}

/// A shard: every so manieth node.
///
/// # What it decides
/// In which order things happen to its nodes: by their times, and then by who has scheduled them.
///
/// # Windows
/// Within a window no node hears of what another does in it, since a message takes longer than a window lasts, and the network
/// does not change. So it is of no matter which nodes are together in a shard, and when in a window each has its turn.
#[derive(Debug)]
pub(super) struct Shard {
    /// Which of how many it is.
    index: usize,
    of: usize,
    pub(super) hosts: Vec<Host>,
    pub(super) queue: EventQueue,
    pub(super) traffic: Traffic,
    /// How many entries of tables were replaced though their peers could be reached.
    pub(super) displaced: u64,
    /// How many events have happened.
    pub(super) steps: u64,
    /// How many lookups run that are watched.
    pub(super) running: usize,
    /// How long the filling of an ideal table has taken, of the virtual time.
    pub(super) filled: Duration,
    pub(super) told: ShardTold,
    bandwidth: Bandwidth,
    buffer: BytesMut,
}

impl Shard {
    pub(super) fn new((index, of): (usize, usize), network: &Network) -> Self {
        Self {
            index,
            of,
            hosts: Vec::new(),
            queue: EventQueue::new(network.origin()),
            traffic: Traffic::default(),
            displaced: 0,
            steps: 0,
            running: 0,
            filled: Duration::ZERO,
            told: ShardTold::default(),
            bandwidth: Bandwidth::new(network.links.uplink, network.links.bandwidth),
            buffer: BytesMut::new(),
        }
    }

    pub(super) fn host(&self, n: usize) -> Option<&Host> {
        self.hosts.get(n / self.of)
    }

    pub(super) fn host_mut(&mut self, n: usize) -> Option<&mut Host> {
        self.hosts.get_mut(n / self.of)
    }

    /// Returns the numbers of its nodes that are among these.
    fn numbers_within(&self, numbers: Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let (index, of) = (self.index, self.of);
        numbers.filter(move |n| n % of == index)
    }

    /// Schedules an event, here or elsewhere.
    fn place(&mut self, scheduled: ScheduledEvent) {
        if scheduled.to % self.of == self.index {
            self.queue.schedule(scheduled);
        } else {
            self.told.elsewhere.push(scheduled);
        }
    }
}

/// A shard at work, which sees the network.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) network: &'a Network,
    pub(super) shard: &'a mut Shard,
}

impl Turn<'_> {
    /// Lets everything happen that happens before `until`.
    pub(super) fn run(&mut self, until: Instant) {
        while let Some((n, event)) = self.shard.queue.pop_before(until) {
            self.shard.steps += 1;
            self.step(n, event);
        }
    }

    pub(super) const fn now(&self) -> Instant {
        self.shard.queue.now()
    }

    fn host(&mut self, n: usize) -> Option<&mut Host> {
        self.shard.host_mut(n)
    }

    fn node(&self, n: usize) -> Option<&Dht<MemoryStore>> {
        self.shard.host(n)?.dht.as_deref()
    }

    fn peer(&self, n: usize) -> Option<PeerId> {
        self.network.nodes.get(n).map(|node| node.peer)
    }

    fn is_alive(&self, n: usize) -> bool {
        self.network.nodes.get(n).is_some_and(SimNode::is_alive)
    }

    /// Takes note of something that happens to a node.
    pub(super) fn note(&mut self, n: usize, what: u64, with: usize) {
        let since_start = self.now().saturating_duration_since(self.network.origin());
        if let Some(host) = self.host(n) {
            host.note(since_start, what, with);
        }
    }

    /// Schedules what happens to a node itself.
    fn schedule(&mut self, n: usize, at: Instant, event: SimEvent) {
        if let Some(by) = self.host(n).map(|host| host.sends(n)) {
            self.shard.queue.schedule(ScheduledEvent { at, by, to: n, event });
        }
    }

    /// Schedules what happens to a node itself after a delay.
    fn later(&mut self, n: usize, delay: Duration, event: SimEvent) {
        self.schedule(n, self.now() + delay, event);
    }

    /// Schedules what a node does to another, which takes as long as the shortest message at least.
    fn send(&mut self, n: usize, to: usize, delay: Duration, event: SimEvent) {
        let at = self.now() + delay.max(self.network.least);
        if let Some(by) = self.host(n).map(|host| host.sends(n)) {
            self.shard.place(ScheduledEvent { at, by, to, event });
        }
    }

    /// Returns how long a message of a node takes.
    fn one_way(&mut self, n: usize, to: usize) -> Duration {
        let network = self.network;
        self.host(n).map_or(Duration::ZERO, |host| network.one_way(n, to, &mut host.rng))
    }

    fn step(&mut self, n: usize, event: SimEvent) {
        match event {
            SimEvent::Wake => self.wake(n),
            SimEvent::Served { life } => {
                if self.network.nodes.has_life(n, life) {
                    self.served(n);
                }
            }
            SimEvent::Input { life, input } => {
                if self.network.nodes.has_life(n, life) {
                    self.note(n, 2, 0);
                    self.input(n, *input);
                }
            }
            SimEvent::Dialled { life, dial, to } => {
                if self.network.nodes.has_life(n, life) {
                    self.dialled(n, dial, to);
                }
            }
            SimEvent::Opened { link, by } => self.opened(n, link, by),
            SimEvent::Request { link, from, id, request } => {
                self.deliver_request(n, (link, from), id, *request);
            }
            SimEvent::Response { link, from, id, response } => {
                self.deliver_response(n, (link, from), id, response);
            }
            SimEvent::Sent { link, to, id } => self.sent(n, (link, to), id),
            SimEvent::Identified { link, by } => self.identified(n, link, by),
            SimEvent::Idle => self.idle(n),
            SimEvent::Lost { link, other } => self.lost(n, link, other),
        }
    }

    fn wake(&mut self, n: usize) {
        let (now, is_alive) = (self.now(), self.is_alive(n));
        let Some(host) = self.host(n) else {
            return;
        };
        if host.wake_at.is_none_or(|at| at > now) || !is_alive {
            // It has changed its mind, or has no mind now.
            return;
        }
        host.wake_at = None;
        if !host.service.wakes_later() {
            self.time_out(n);
        }
    }

    /// Tells a node that its deadline has come.
    fn time_out(&mut self, n: usize) {
        self.note(n, 3, 0);
        self.with(n, |dht, now| dht.handle_timeout(now));
        let (due, now) = (self.node(n).and_then(Dht::poll_timeout), self.clocks(n).instant);
        assert!(due.is_none_or(|due| due.at > now), "time does not move on for node {n}: {due:?}");
    }

    fn clocks(&self, n: usize) -> Now {
        self.network.clocks(self.now(), n)
    }

    /// Calls a node that lives, and does what comes of it.
    pub(super) fn with<T>(
        &mut self,
        n: usize,
        call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T,
    ) -> Option<T> {
        let result = self.with_quietly(n, call)?;
        self.drain(n);
        Some(result)
    }

    /// Calls a node that lives, and leaves what comes of it for later.
    pub(super) fn with_quietly<T>(
        &mut self,
        n: usize,
        call: impl FnOnce(&mut Dht<MemoryStore>, Now) -> T,
    ) -> Option<T> {
        let now = self.clocks(n);
        if !self.is_alive(n) {
            return None;
        }
        Some(call(self.host(n)?.dht.as_deref_mut()?, now))
    }

    /// Tells a node something, at once or when it comes to it.
    pub(super) fn input(&mut self, n: usize, input: Input) {
        if self.network.work.is_zero() {
            self.with(n, |dht, now| dht.handle_input(now, input));
            return;
        }
        let arrived = self.clocks(n).instant;
        if self.is_alive(n)
            && let Some(host) = self.host(n)
        {
            host.service.push(arrived, input);
            self.serve(n);
        }
    }

    /// A node begins to work on the first thing that waits for it, unless it works on something.
    fn serve(&mut self, n: usize) {
        let (life, work) = (self.network.nodes.life(n), self.network.work);
        if let Some(cost) = self.host(n).and_then(|host| host.service.begin(work)) {
            self.later(n, cost, SimEvent::Served { life });
        }
    }

    /// A node has done its work on the first thing that waits for it.
    fn served(&mut self, n: usize) {
        let (now, work, is_alive) = (self.clocks(n).instant, self.network.work, self.is_alive(n));
        let Some(host) = self.host(n) else {
            return;
        };
        if !is_alive {
            // What waits for a machine that stands still is lost, and is not answered.
            host.service = Service::new();
            for (_, (link, asker, _)) in std::mem::take(&mut host.answering) {
                host.connections.get_mut(asker, link).into_iter().for_each(|end| end.end_answer());
            }
            return;
        }
        match host.service.done() {
            Some(Task::Input(arrived, input)) => {
                let late = now.saturating_duration_since(arrived).saturating_sub(work);
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
    pub(super) fn input_alone(&mut self, n: usize, input: Input) -> Vec<Asked> {
        self.alone(n, |dht, now| dht.handle_input(now, input))
    }

    /// Calls a node, and returns what it asks of others instead of sending it.
    fn alone(&mut self, n: usize, call: impl FnOnce(&mut Dht<MemoryStore>, Now)) -> Vec<Asked> {
        let mut asked = Vec::new();
        self.with_quietly(n, call);
        while let Some(output) = self.poll_output(n) {
            if let Output::SendRequest { to, id, request, .. } = output {
                asked.push(Asked { to, id, request });
            } else {
                self.output(n, output);
            }
        }
        asked
    }

    fn poll_output(&mut self, n: usize) -> Option<Output<Event>> {
        self.host(n)?.dht.as_deref_mut()?.poll_output()
    }

    /// Does what a node puts out, and schedules its deadline.
    pub(super) fn drain(&mut self, n: usize) {
        while let Some(output) = self.poll_output(n) {
            self.output(n, output);
        }
        let slept = self.network.nodes.get(n).map_or(Duration::ZERO, |node| node.slept);
        let Some(host) = self.host(n) else {
            return;
        };
        let due = host.dht.as_deref().and_then(Dht::poll_timeout).map(|deadline| deadline.at + slept);
        if let Some(at) = due
            && !host.service.is_to_wake()
            && host.wake_at.is_none_or(|known| known > at)
        {
            host.wake_at = Some(at);
            self.schedule(n, at, SimEvent::Wake);
        }
    }

    fn output(&mut self, n: usize, output: Output<Event>) {
        match output {
            Output::Dial { id, peer, addresses, .. } => self.dial(n, id, peer, &addresses),
            Output::SendRequest { to, connection, id, request } => {
                self.send_request((n, &to), connection, id, request);
            }
            Output::SendResponse { id, response, .. } => self.send_response(n, id, Some(response)),
            Output::RefuseRequest { id, .. } => self.send_response(n, id, None),
            Output::AcceptRequest { id, .. } => self.end_answer(n, id),
            Output::CancelRequest { to, connection, id } => self.cancel_request(n, &to, connection, id),
            Output::KeepAlive { peer, connection, keep } => self.keep_alive(n, &peer, connection, keep),
            Output::CloseConnection { peer, connection } => self.close(n, &peer, connection),
            Output::SetMode(mode) => self.set_mode(n, mode),
            Output::Event(event) => self.on_event(n, event),
            // There are no other behaviours.
            Output::AnnounceAddresses { .. } => {}
        }
    }

    /// A node tells its application something.
    fn on_event(&mut self, n: usize, event: Event) {
        let (network, now) = (self.network, self.now());
        if let Event::RoutingUpdated { old_peer: Some(old), .. } = &event {
            let old = network.nodes.number_of(old).filter(|old| !network.is_cut(n, *old));
            let old = old.and_then(|old| network.nodes.get(old));
            self.shard.displaced += u64::from(old.is_some_and(SimNode::is_findable));
        }
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else {
            return;
        };
        if let QueryResult::GetClosestPeers(result) = result {
            if step.last
                && let Some(lookup) = self.host(n).and_then(|host| host.lookups.remove(&id))
            {
                let (outcome, hits) = measure::outcome(network, now, n, lookup, result, &stats);
                self.note(n, 13, hits);
                self.shard.running -= 1;
                self.shard.told.lookups.push((now, outcome));
            }
        } else if let QueryResult::Bootstrap(result) = result {
            if step.last {
                if let Some(host) = self.host(n) {
                    host.joined |= result.is_ok();
                }
                self.note(n, 12, 0);
            }
        } else {
            let told = ToldResult { at: now, node: n, query: id, is_last: step.last, result, stats };
            self.shard.told.results.push(told);
        }
    }
}
