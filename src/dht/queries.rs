//! Queries: begun, moved on, told, ended.
//!
//! Knows operations only as state machines; what a kind of query does stands in its own file under `op`.

mod shown;

use std::collections::{BTreeMap, VecDeque};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::answer::{Contents, contents, filter, heard, valid_record};
use super::context::Context;
use super::io::{Output, Queued, take_first};
use super::op::machine::{After, Ask, Elsewhere, End, FilteredAnswer, Step};
use super::op::{Operation, QueryInfo, QueryResult};
use super::peers::{AddressOutcome, Placed, Reply, Requester};
use super::view::Parts;
use crate::addrs::Addresses;
use crate::config::Config;
use crate::error::{QueryError, RequestError};
use crate::event::{Notice, ProgressStep, QueryId, QueryStats};
use crate::message::Response;
use crate::peer::PeerInfo;
use crate::query::lookup::Place;
use crate::query::pool::{Class, Pool};
use crate::record::RecordKey;
use crate::stats::{self, QueryCosts};
use crate::time::{Duration, Instant};
pub use shown::QueryRef;

/// The origin of a query, which is told what it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Application,
    /// Nobody: it keeps the table, or sees to the records of others.
    Upkeep,
    /// Nobody: it puts a record or announces a key anew.
    Republish,
    /// Nobody: it hands a record over to this newcomer.
    HandOver(PeerId),
}

/// A query that runs.
#[derive(Debug)]
pub(super) struct Query {
    operation: Operation,
    origin: Origin,
    start: Instant,
    latest: Instant,
    dials: u32,
    step: ProgressStep,
    last: Last,
    /// How many providers more the origin has room for; `None` if for all.
    room: Option<usize>,
    /// How many events of it the driver has not taken, the last aside.
    untaken: u32,
    /// Whether it would go on if they were.
    is_held: bool,
}

/// Where the last event of a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Ahead,
    /// It is among the outputs.
    Told,
    /// The driver has it; the query goes on.
    Taken,
}

/// A query that is over, and what is left to be done for it.
#[derive(Debug)]
pub(super) struct EndedQuery {
    pub(super) id: QueryId,
    pub(super) origin: Origin,
    pub(super) after: After,
}

/// All queries.
///
/// # What it decides
/// Which query takes its next step, what is told of it, and when it is over. What it has told is taken before it goes on, so
/// that whoever has enough says so before more are asked.
///
/// # Inputs
/// [`begin`](Self::begin) and the like; [`on_reply`](Self::on_reply), [`on_failed`](Self::on_failed),
/// [`on_address_outcome`](Self::on_address_outcome); [`wake`](Self::wake).
///
/// # Outputs
/// Requests and dials, through [`Parts`]; events; what has [`EndedQuery`].
///
/// # What time does
/// Wakes queries at their deadlines, and ends those whose time is up.
///
/// # Bounds
/// The configured number of queries. Of those that have ended, as many are seen as events of theirs wait to be taken; and so many
/// results wait.
#[derive(Debug)]
pub(super) struct Queries {
    pool: Pool<Query>,
    /// Queries that have ended while their last event is still to be taken.
    ended: BTreeMap<QueryId, QueryRef>,
    /// What the events tell that are among the outputs, in their order.
    results: VecDeque<QueryResult>,
    /// Whether a query that was held goes on.
    has_resumed: bool,
    limit: usize,
    // Apart, so that a node does not grow too large to be moved.
    counts: Box<stats::Queries>,
}

impl Queries {
    pub(super) fn new(config: &Config) -> Self {
        let limit = config.limits.max_queries.get();
        let pool = Pool::new(limit, config.lookups.query_timeout);
        let (ended, results) = (BTreeMap::new(), VecDeque::new());
        Self { pool, ended, results, has_resumed: false, limit, counts: Box::default() }
    }

    /// Iterates over the queries of the application that run, and those that have ended while their last event is still to be
    /// taken.
    pub(super) fn iter(&self) -> impl Iterator<Item = QueryRef> {
        let visible = self.pool.iter().filter(|(_, query)| query.origin == Origin::Application);
        visible.map(|(id, query)| query.seen(id)).chain(self.ended.values().cloned())
    }

    /// Returns a query of the application that runs, or whose last event is still to be taken.
    pub(super) fn get(&self, id: QueryId) -> Option<QueryRef> {
        let query = self.pool.get(id).filter(|query| query.origin == Origin::Application);
        query.map(|query| query.seen(id)).or_else(|| self.ended.get(&id).cloned())
    }

    /// The driver takes an event of a query: returns what it tells.
    pub(super) fn take_result(&mut self, id: QueryId, step: ProgressStep) -> Option<QueryResult> {
        match self.pool.get_mut(id) {
            Some(query) if step.last => query.last = Last::Taken,
            Some(query) => {
                query.untaken = query.untaken.saturating_sub(1);
                if query.untaken == 0 && std::mem::take(&mut query.is_held) {
                    self.has_resumed = true;
                    self.pool.wake(id);
                }
            }
            None if step.last => drop(self.ended.remove(&id)),
            None => {}
        }
        take_first(&mut self.results)
    }

    /// Returns whether a query is to go on since what it had told was taken.
    pub(super) const fn has_resumed(&self) -> bool {
        self.has_resumed
    }

    /// Those that are to go on do.
    pub(super) const fn resume(&mut self) {
        self.has_resumed = false;
    }

    /// Tells the application what a query has reached.
    fn tell(
        &mut self,
        id: QueryId,
        result: QueryResult,
        (stats, step): (QueryStats, ProgressStep),
        cx: &mut Context,
    ) {
        self.results.push_back(result);
        cx.tell(Notice::OutboundQueryProgressed { id, stats, step });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pool.deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.pool.handle_timeout(now);
    }

    /// Returns the query whose turn it is; a new one only if there is room for what it will ask.
    pub(super) fn next_ready(&mut self, now: Instant, has_room: impl Fn() -> bool) -> Option<QueryId> {
        self.pool.next_ready(now, has_room)
    }

    /// Makes a query ready.
    pub(super) fn wake(&mut self, id: QueryId) {
        self.pool.wake(id);
    }

    /// Returns how many queries stand in line.
    pub(super) fn in_line(&self) -> usize {
        self.pool.in_line()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pool.is_full()
    }

    /// Returns whether there is room for one more query.
    pub(super) fn has_room(&self) -> Result<(), QueryError> {
        if self.is_full() { Err(QueryError::TooManyQueries { limit: self.limit }) } else { Ok(()) }
    }

    /// Begins a query of the application.
    ///
    /// # Errors
    /// Its result, if there is no room for it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        mut operation: Operation,
        parts: &mut Parts<'_>,
    ) -> Result<QueryId, Box<QueryResult>> {
        if self.is_full() {
            let why = End::Refused { limit: self.limit };
            return Err(Box::new(operation.machine().end(&parts.view(usize::MAX), why)));
        }
        Ok(self.insert(now, operation, Origin::Application))
    }

    /// Begins a query. The caller sees to it that there is room.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        operation: impl Into<Operation>,
        origin: Origin,
    ) -> QueryId {
        self.counts_of(origin).started += 1;
        let operation = operation.into();
        let class = match origin {
            _ if operation.state().is_light() => Class::Light,
            Origin::Application => Class::Caller,
            Origin::Upkeep | Origin::Republish | Origin::HandOver(_) => Class::Upkeep,
        };
        self.pool.insert(now, Query::new(now, operation, origin), class)
    }

    /// Begins a query of the application that lasts until it is ended. The caller sees to it that there is room.
    pub(super) fn insert_lasting(&mut self, now: Instant, operation: impl Into<Operation>) -> QueryId {
        self.counts_of(Origin::Application).started += 1;
        self.pool.insert_lasting(Query::new(now, operation.into(), Origin::Application))
    }

    /// Reports the result of a query that needed not begin, which is there until that is taken as any other is.
    pub(super) fn at_once(
        &mut self,
        now: Instant,
        info: QueryInfo,
        result: QueryResult,
        parts: &mut Parts<'_>,
    ) -> QueryId {
        self.counts.immediate += 1;
        let id = self.pool.next_id();
        let stats = QueryStats { start: Some(now), end: Some(now), ..QueryStats::empty() };
        let step = ProgressStep::first().advance(true);
        self.ended.insert(id, QueryRef::new(id, info, stats));
        advise(&result, parts);
        self.tell(id, result, (stats, step), parts.cx);
        id
    }

    /// Lets a search for providers tell so many more; see [`Dht::make_room`](super::Dht::make_room).
    pub(super) fn make_room(&mut self, id: QueryId, more: usize) {
        if let Some(query) = self.pool.get_mut(id) {
            query.room = Some(query.room.unwrap_or(0).saturating_add(more));
            self.pool.wake(id);
        }
    }

    /// Moves a query on until it waits or has ended.
    pub(super) fn step(&mut self, now: Instant, id: QueryId, parts: &mut Parts<'_>) -> Option<EndedQuery> {
        if self.pool.is_over(now, id) {
            return self.end_early(now, id, End::Timeout, parts);
        }
        loop {
            let query = self.pool.get_mut(id)?;
            if query.untaken > 0 {
                query.is_held = true;
                self.pool.sleep(id, None);
                return None;
            }
            let room = query.room.unwrap_or(usize::MAX);
            match query.operation.machine().next(now, &mut parts.view(room)) {
                Step::Ask(ask) => {
                    query.dials += u32::from(!parts.peers.is_connected(&ask.to));
                    let Ask { to, addresses, request, lookup, urgency } = ask;
                    let requester = (Requester::Query(id, lookup), urgency);
                    if parts.peers.request(now, to, &addresses, request, requester, &mut parts.cx.out) {
                        let now = parts.cx.clocks.moment(now).now;
                        query.operation.machine().place(now, &to, lookup, Place::Awaited);
                    }
                }
                Step::Surrounded(key) => {
                    tracing::warn!(?id, "peers are closer to a key than chance puts them");
                    self.counts.surrounded += 1;
                    parts.cx.tell(Notice::Surrounded { id, key });
                }
                Step::Dial(address) => parts.peers.dial_address(now, id, address, &mut parts.cx.out),
                Step::Progress(result) => self.report(now, id, result, false, parts),
                Step::Told(result) => self.report(now, id, result, true, parts),
                Step::Wait(until) => {
                    debug_assert!(
                        until.is_none_or(|at| at > now),
                        "{:?} waits for what is past",
                        query.operation
                    );
                    self.pool.sleep(id, until);
                    return None;
                }
                Step::Done(result) => return self.end(now, id, result, None, parts),
            }
        }
    }

    /// Ends a query before it is done.
    pub(super) fn end_early(
        &mut self,
        now: Instant,
        id: QueryId,
        why: End,
        parts: &mut Parts<'_>,
    ) -> Option<EndedQuery> {
        let query = self.pool.get_mut(id)?;
        let result = query.operation.machine().end(&parts.view(usize::MAX), why);
        self.end(now, id, result, Some(why), parts)
    }

    fn end(
        &mut self,
        now: Instant,
        id: QueryId,
        result: QueryResult,
        early: Option<End>,
        parts: &mut Parts<'_>,
    ) -> Option<EndedQuery> {
        let (is_cancelled, is_ok) = (early == Some(End::Cancelled), result.is_ok());
        let query = self.pool.get_mut(id).filter(|_| !is_cancelled);
        if let Some(rest) = query.and_then(|query| query.operation.machine().rest(&parts.view(usize::MAX))) {
            self.report(now, id, rest, false, parts);
        }
        self.report(now, id, result, true, parts);
        let query = self.pool.remove(id)?;
        self.count(&query, early, is_ok);
        if query.last == Last::Told {
            self.ended.insert(id, query.seen(id));
        }
        let machine = query.operation.state();
        if is_cancelled || !machine.outlives() {
            parts.peers.abandon(id);
        }
        let after = machine.after(now, &parts.view(usize::MAX));
        Some(EndedQuery { id, origin: query.origin, after })
    }

    fn counts_of(&mut self, origin: Origin) -> &mut QueryCosts {
        if origin == Origin::Application {
            &mut self.counts.application
        } else {
            &mut self.counts.maintenance
        }
    }

    /// Counts a query that is over.
    fn count(&mut self, query: &Query, early: Option<End>, is_ok: bool) {
        let costs = query.stats();
        let counts = self.counts_of(query.origin);
        *match early {
            Some(End::Cancelled) => &mut counts.cancelled,
            Some(End::Timeout) => &mut counts.timed_out,
            Some(End::Enough | End::Refused { .. }) | None if is_ok => &mut counts.succeeded,
            Some(End::Enough | End::Refused { .. }) | None => &mut counts.failed,
        } += 1;
        counts.duration.observe(costs.duration().unwrap_or_default());
        counts.hops.observe(costs.hops().into());
        counts.requests.observe(costs.num_requests().into());
        counts.soft_timeouts.observe(costs.num_soft_timeouts().into());
        counts.dials.observe(costs.num_dials().into());
    }

    /// Returns what has become of all queries so far; walks those that run.
    pub(super) fn stats(&self) -> stats::Queries {
        let mut stats = (*self.counts).clone();
        for (_, query) in self.pool.iter() {
            let is_applications = query.origin == Origin::Application;
            *(if is_applications {
                &mut stats.application.running
            } else {
                &mut stats.maintenance.running
            }) += 1;
        }
        stats
    }

    /// Returns the announcements of a key that run.
    pub(super) fn announcements_of(&self, key: &RecordKey) -> Vec<QueryId> {
        self.those(|query| query.operation.state().announces() == Some(key))
    }

    /// A peer has no room for an announcement of a key. Returns whether one that runs takes note of it.
    pub(super) fn rejected(&mut self, peer: &PeerId, key: &RecordKey) -> bool {
        let mut is_known = false;
        for id in self.announcements_of(key) {
            if let Some(query) = self.pool.get_mut(id)
                && query.operation.machine().rejected(peer)
            {
                is_known = true;
                self.pool.wake(id);
            }
        }
        is_known
    }

    /// Returns the puts of a record that run: those that the application wants at the closest, and those that this node makes
    /// unasked. Others are not concerned when it is removed: what others have is corrected all the same.
    pub(super) fn puts_of(&self, key: &RecordKey) -> Vec<QueryId> {
        self.those(|query| match (query.operation.state().puts(), query.origin) {
            (Some((put, is_to_the_closest)), Origin::Application) => put == key && is_to_the_closest,
            (Some((put, _)), Origin::Republish | Origin::HandOver(_)) => put == key,
            (Some(_), Origin::Upkeep) | (None, _) => false,
        })
    }

    fn those(&self, are: impl Fn(&Query) -> bool) -> Vec<QueryId> {
        self.pool.iter().filter(|(_, query)| are(query)).map(|(id, _)| id).collect()
    }

    /// Returns whether a query that runs sends a record to a peer.
    pub(super) fn sends(&self, key: &RecordKey, to: &PeerId) -> Elsewhere {
        let machines = self.pool.iter().map(|(_, query)| query.operation.state());
        let puts = machines.filter(|machine| machine.puts().is_some_and(|(put, _)| put == key));
        puts.map(|put| put.sends_to(to)).fold(Elsewhere::No, Elsewhere::max)
    }

    fn report(&mut self, now: Instant, id: QueryId, result: QueryResult, last: bool, parts: &mut Parts<'_>) {
        let Some(query) = self.pool.get_mut(id) else {
            return;
        };
        query.latest = now;
        if query.origin != Origin::Application || query.last != Last::Ahead {
            return;
        }
        if last {
            query.last = Last::Told;
        } else {
            query.untaken += 1;
        }
        query.room = query.room.map(|room| room.saturating_sub(result.findings().found().len()));
        let step = query.step.advance(last);
        let stats = query.stats();
        let news = remember_found(now, &result, parts);
        advise(&result, parts);
        self.tell(id, result, (stats, step), parts.cx);
        parts.cx.out.extend(news);
    }

    /// A request of a query has got its place, or goes on late.
    pub(super) fn on_placed(&mut self, now: Instant, placed: Placed, cx: &Context) {
        let Placed { query: id, lookup, to, place } = placed;
        if let Some(query) = self.pool.get_mut(id) {
            query.operation.machine().place(cx.clocks.moment(now).now, &to, lookup, place);
            self.pool.wake(id);
        }
    }

    /// A request of a query has been answered, or sent if it is not answered.
    pub(super) fn on_reply(
        &mut self,
        now: Instant,
        (id, lookup): (QueryId, u16),
        from: &PeerId,
        reply: Reply,
        parts: &Parts<'_>,
    ) {
        match reply {
            Reply::Answer(response, rtt) => self.on_answer(now, (id, lookup), from, (response, rtt), parts),
            Reply::Sent => {
                if let Some(query) = self.pool.get_mut(id) {
                    query.operation.machine().sent(from, lookup);
                    self.pool.wake(id);
                }
            }
        }
    }

    fn on_answer(
        &mut self,
        now: Instant,
        (id, lookup): (QueryId, u16),
        from: &PeerId,
        (response, rtt): (Response, Duration),
        parts: &Parts<'_>,
    ) {
        let (cx, peers) = (&*parts.cx, &*parts.peers);
        let Some(query) = self.pool.get_mut(id) else {
            // Nobody waits for it, so nothing of it is checked: a signature costs more than all the rest.
            return;
        };
        let Contents { closer: named, record, providers } = contents(response);
        let record = record.and_then(|record| valid_record(cx.wall_at(now), record, &cx.config));
        let providers = providers.into_iter().take(cx.config.providers.max_providers_per_answer.get());
        let reach = peers.reach(from);
        let heard = |addresses| heard(addresses, reach, &cx.local, &cx.config);
        let providers = providers.filter(|peer| peers.admits(&peer.node_id));
        let providers = providers.map(|peer| (peer.node_id, heard(peer.multiaddrs))).collect();
        let machine = query.operation.machine();
        let target = machine.looks_for().copied();
        let target = target.and_then(|wanted| named.iter().find(|peer| peer.node_id == wanted));
        let target = target.map_or_else(Addresses::empty, |peer| heard(peer.multiaddrs.clone()));
        let is_known = |peer: &PeerId| peers.is_connected(peer) || !peers.dialable(peer).is_empty();
        let is_old = |peer: &PeerId, addresses: &Addresses| machine.knows(lookup, peer, addresses);
        let mut closer = filter(named, (from, reach), &cx.local, &cx.config, is_known, is_old);
        // Whoever failed this node lately is not a candidate again.
        closer.retain(|named| peers.is_worth_asking(now, &named.peer));
        machine.answered(from, lookup, FilteredAnswer { closer, target, record, providers, rtt });
        self.pool.wake(id);
    }

    /// A request of a query has failed for good.
    pub(super) fn on_failed(&mut self, (id, lookup): (QueryId, u16), peer: &PeerId, error: RequestError) {
        if let Some(query) = self.pool.get_mut(id) {
            query.operation.machine().failed(peer, lookup, error);
            self.pool.wake(id);
        }
    }

    /// An address has been dialled, and a peer was met there or not. Returns the peer that was met, and where.
    pub(super) fn on_address_outcome(
        &mut self,
        AddressOutcome { query: id, result }: AddressOutcome,
    ) -> Option<(PeerId, Multiaddr)> {
        let machine = self.pool.get_mut(id)?.operation.machine();
        let met = result.as_ref().ok().copied().zip(machine.connects_to().cloned());
        machine.address_dialled(result);
        self.pool.wake(id);
        met
    }
}

/// Looks whether a result of the application's query shows that something is set up wrongly.
fn advise(result: &QueryResult, parts: &mut Parts<'_>) {
    if let Some(failure) = result.findings().failure() {
        parts.cx.advise(failure, || parts.peers.num_connected());
    }
}

/// Remembers the addresses of peers that were found. Returns what makes those known to the rest of the program that were not:
/// once for each peer and address.
fn remember_found(now: Instant, result: &QueryResult, parts: &mut Parts<'_>) -> Vec<Queued> {
    let findings = result.findings();
    let mut news = Vec::new();
    for PeerInfo { peer_id, addrs } in findings.found() {
        if *peer_id == parts.cx.local.peer {
            continue;
        }
        let known = parts.peers.remember(now, *peer_id);
        known.hints = known.hints.merged(addrs.iter().cloned());
        if !findings.is_remembered() {
            known.learnt();
        }
        let addresses = known.made_known(&known.dialable());
        if !addresses.is_empty() {
            news.push(Output::AnnounceAddresses { peer: *peer_id, addresses });
        }
    }
    news
}

impl Query {
    const fn new(now: Instant, operation: Operation, origin: Origin) -> Self {
        let (step, last) = (ProgressStep::first(), Last::Ahead);
        let (room, untaken, is_held) = (None, 0, false);
        Self { operation, origin, start: now, latest: now, dials: 0, step, last, room, untaken, is_held }
    }

    fn seen(&self, id: QueryId) -> QueryRef {
        QueryRef::new(id, self.operation.state().info(self.step), self.stats())
    }

    fn stats(&self) -> QueryStats {
        let mut stats = QueryStats { dials: self.dials, ..QueryStats::empty() };
        self.operation.state().count(&mut stats);
        stats.start = Some(self.start);
        stats.end = Some(self.latest);
        stats
    }
}
