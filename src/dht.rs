//! The node: the protocol as one state machine, without I/O, clock or entropy.
//!
//! Composes the parts, and holds the contract. Knows neither frames nor swarms: what has happened comes in as an
//! [`Input`], what is to be done goes out as an [`Output`], and time is an argument.

mod advice;
mod answer;
pub(crate) mod bans;
mod clocks;
mod commands;
mod context;
mod event;
mod io;
mod local;
mod mode;
mod node;
pub(crate) mod op;
mod peers;
mod providing;
mod queries;
mod records;
mod schedule;
mod serving;
mod storage;
mod upkeep;
mod view;

use libp2p_identity::PeerId;

pub use event::Event;
pub use io::{ConnectionId, Deadline, DialFailure, DialId, InboundId, Input, Output, RequestId, Unreached};
pub use queries::QueryRef;

use crate::config::Config;
use crate::error::NoKnownPeers;
use crate::event::{Notice, QueryId};
use crate::peer::PeerInfo;
use crate::stats::{Stats, gauge};
use crate::store::RecordStore;
use crate::time::{Instant, Now};

use clocks::Jump;
use context::Context;
use node::{NodeParts, can_send};
use op::bootstrap::Bootstrap;
use op::find_peers::FindPeers;
use op::machine::After;
use peers::{Outcome, Peers, Requester};
use providing::Providing;
use queries::{EndedQuery, Origin, Queries};
use records::RecordKeeping;
use serving::{Serving, Stock};
use storage::Storage;
use upkeep::{Due, Entered, Upkeep};
use view::Parts;

/// A Kademlia node as a pure state machine.
///
/// The swarm's [`Behaviour`](crate::Behaviour) drives it, and so can an application that has another transport or encoding: it
/// names no swarm, stream or runtime.
///
/// # How to drive it
/// Methods come in four kinds: commands of the user ([`find_closest`](Self::find_closest),
/// [`add_address`](Self::add_address) …), what has happened outside ([`handle_input`](Self::handle_input),
/// [`handle_timeout`](Self::handle_timeout)), what is to be done outside ([`poll_output`](Self::poll_output),
/// [`poll_timeout`](Self::poll_timeout)), and getters.
///
/// 1. After each call that takes `now`, drain [`poll_output`](Self::poll_output) until it returns `None`.
/// 2. Then ask [`poll_timeout`](Self::poll_timeout), and call [`handle_timeout`](Self::handle_timeout) at that time.
///    Calling it early is harmless.
/// 3. `now` never decreases.
/// 4. Same seed, same calls: same outputs.
/// 5. Time moves on: after [`handle_timeout`](Self::handle_timeout) at `now`, [`poll_timeout`](Self::poll_timeout) is `None`
///    or later than `now`.
///
/// Commands take ids by value, getters by reference.
///
/// ```
/// use libp2p_kademlia::dht::{Dht, Output};
/// use libp2p_kademlia::time::{Instant, Now, SystemTime};
/// use libp2p_kademlia::{Config, store::MemoryStore};
///
/// # let peer = || libp2p_identity::Keypair::generate_ed25519().public().to_peer_id();
/// let (local, friend) = (peer(), peer());
/// let now = Now::new(Instant::now(), SystemTime::now());
/// let mut dht = Dht::new(local, MemoryStore::new(local), Config::default(), [7; 32], now);
/// dht.add_address(now, friend, "/ip4/203.0.113.7/tcp/4001".parse()?);
///
/// let mut dialled = Vec::new();
/// while let Some(output) = dht.poll_output() {
///     if let Output::Dial { peer, .. } = output {
///         dialled.push(peer); // and when it is there: handle_input(now, Input::Connected { .. })
///     }
/// }
/// assert_eq!(dialled, [Some(friend)]);
/// assert!(dht.poll_timeout().is_some(), "it is to be called again, whatever happens");
/// # Ok::<(), libp2p_core::multiaddr::Error>(())
/// ```
///
/// # What it decides
/// Everything: whom to dial and when, whom to ask, who enters the routing table, what is answered.
///
/// # Bounds
/// Those of [`Config`] and of its parts. Outputs are bounded by the calls that were made since they were last drained.
#[derive(Debug)]
pub struct Dht<S> {
    cx: Context,
    // Apart, so that a node does not grow too large to be moved.
    peers: Box<Peers>,
    upkeep: Box<Upkeep>,
    queries: Queries,
    records: Box<RecordKeeping>,
    providing: Box<Providing>,
    serving: Serving,
    storage: Storage<S>,
}

impl<S: RecordStore> Dht<S> {
    /// Makes a node that knows nobody.
    ///
    /// All its random choices follow from `seed`; a seed in the configuration goes before it.
    pub fn new(local: PeerId, mut store: S, config: Config, seed: [u8; 32], now: Now) -> Self {
        store.set_key_hash(config.key_hash);
        let cx = Context::new(local, config, seed, now);
        let mut this = Self {
            peers: Box::new(Peers::new(&cx.local, &cx.config)),
            upkeep: Box::new(Upkeep::new(cx.local.key, &cx.config)),
            queries: Queries::new(&cx.config),
            records: Box::new(RecordKeeping::new(&cx.config.records)),
            providing: Box::new(Providing::new(&cx.config.providers)),
            serving: Serving::default(),
            storage: Storage::new(store),
            cx,
        };
        this.find(now.instant);
        this
    }

    /// Takes note of what the store held when the node began: peers to join through, records, and keys that it provided.
    fn find(&mut self, now: Instant) {
        let Self { cx, peers, upkeep, records, providing, storage, .. } = self;
        for PeerInfo { peer_id, addrs } in storage.saved_peers() {
            for address in addrs {
                if let Err(error) = upkeep.add_address(now, peer_id, address, cx, peers) {
                    tracing::debug!(peer = %peer_id, %error, "a peer of an earlier run was not added");
                }
            }
        }
        records.find(now, storage, cx);
        storage.commit_soon(now);
        providing.find(now, storage, cx);
    }

    /// Borrows the parts: the one that serves, and what it works with.
    fn split(&mut self) -> (&mut Serving, Stock<'_, S>) {
        let Self { cx, peers, upkeep, queries, records, providing, serving, storage } = self;
        let parts = Parts { cx, peers, upkeep, progress: storage.progress() };
        (serving, Stock { node: NodeParts { parts, queries, storage }, records, providing })
    }

    /// Borrows the queries, and the parts that they work with.
    fn queries_and_parts(&mut self) -> (&mut Queries, Parts<'_>) {
        let (_, Stock { node: NodeParts { parts, queries, .. }, .. }) = self.split();
        (queries, parts)
    }

    /// Tells the node what has happened outside.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        self.cx.clocks.told(now.late);
        self.peers.called(now.instant, now.late, &self.cx.clocks);
        let (now, has_jumped) = self.note_time(now);
        let Self { cx, peers, upkeep, queries, providing, storage, .. } = self;
        match input {
            Input::Connected { peer, connection, address, located, dialled, dial } => {
                cx.advice.connected(now);
                let place = (address, located, dialled);
                upkeep.on_connected(now, (peer, connection), place, dial, cx, peers);
            }
            Input::Disconnected { peer, connection } => {
                upkeep.on_disconnected(now, (peer, connection), cx, peers);
            }
            Input::DialFailed { dial, peer, error } => {
                peers.dial_failed(now, dial, peer, &error, &mut cx.out);
                peer.iter().for_each(|peer| upkeep.on_dial_failed(peer, cx, peers));
            }
            Input::AddressesLearned { peer, addresses } => {
                cx.advice.heard();
                upkeep.on_addresses(now, peer, addresses, cx, peers);
            }
            Input::ProtocolConfirmed { peer } => {
                cx.advice.heard();
                upkeep.on_confirmed(now, peer, cx, peers);
            }
            Input::ProtocolUnsupported { peer } => {
                peers.unsupported(now, peer);
                upkeep.on_unsupported(now, &peer, cx, peers);
            }
            Input::ProtocolDoubted { peer } => {
                cx.advice.heard();
                upkeep.on_doubted(now, peer, cx, peers);
            }
            Input::LocalAddresses { external, listening } => {
                if !external.is_empty() {
                    cx.advice.heard();
                }
                if cx.local.set_addresses(&external, &listening) {
                    upkeep.check_kept(now, cx, peers);
                }
                peers.set_own(&cx.local);
                providing.on_own_addresses(now, cx);
                let external = cx.local.external().iter().as_slice();
                let changed = cx.mode.addresses(now, external, &listening);
                cx.mode_changed(changed, true);
            }
            Input::RequestReceived { from, connection, id, request } => {
                peers.heard_on(now, &from, connection, &mut cx.out);
                let (serving, mut stock) = self.split();
                if serving.serve(now, (from, id), request, &mut stock) {
                    let Parts { cx, peers, upkeep, .. } = stock.node.parts;
                    upkeep.on_asked(now, from, cx, peers);
                }
            }
            Input::RequestSent { id } => peers.sent(now, id, &mut cx.out),
            Input::ResponseReceived { id, response } => peers.answered(now, id, response, &mut cx.out),
            Input::RequestFailed { id, error } => peers.failed(now, id, error, &mut cx.out),
            Input::AnnouncementRejected { peer, key } => {
                if !queries.rejected(&peer, &key) {
                    providing.rejected(now, &peer, &key);
                }
            }
            Input::StoreAdvanced { progress } => {
                storage.on_progress(now, progress, cx, |id| queries.wake(id));
            }
        }
        if has_jumped {
            // Not before: it may have told of the end of a connection, on which nothing is to be asked then.
            self.check_all(now);
        }
        self.advance(now);
    }

    /// Does what is due by time alone. [`Now::late`] is for how long the driver has put that off on purpose.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = self.poll_timeout().map(|deadline| deadline.at);
        let late = self.cx.clocks.called(now, due).saturating_sub(now.late);
        self.peers.called(now.instant, late, &self.cx.clocks);
        let now = self.check_time(now);
        let Self { cx, peers, upkeep, queries, .. } = self;
        peers.handle_timeout(now, &mut cx.out);
        queries.handle_timeout(now);
        upkeep.handle_timeout(now);
        if cx.mode.hint(now) {
            tracing::info!(
                "still a Kademlia client: no external address is confirmed; \
                 call set_mode(Some(Mode::Server)) if others can dial this node"
            );
        }
        let num_connected = || if upkeep.table.is_empty() { peers.num_connected() } else { 0 };
        if let Some(connected) = cx.advice.misses_identify(now, num_connected) {
            cx.tell(Notice::IdentifyMissing { connected });
        }
        self.look_up_due(now);
        let Self { cx, upkeep, records, providing, serving, storage, .. } = self;
        serving.handle_timeout(now, cx);
        storage.handle_timeout(now, &upkeep.table);
        records.expire(now, storage, cx);
        records.look_over(now, storage, cx);
        providing.handle_timeout(now);
        self.advance(now);
        if self.upkeep.join_is_due(now) {
            // Somebody has left meanwhile, and the table is low: a first join begins at once.
            self.look_up_due(now);
            self.advance(now);
        }
        debug_assert!(
            self.poll_timeout().is_none_or(|deadline| deadline.at > now),
            "time does not move on: {:?}",
            self.poll_timeout()
        );
    }

    /// Returns what is to be done outside, in the order in which it is to be done.
    ///
    /// A query waits until its events are taken, and goes on with the next call after that: who has found enough ends it
    /// in between.
    pub fn poll_output(&mut self) -> Option<Output<Event>> {
        loop {
            if let Some(output) = self.cx.next_output() {
                let result = |id, step| self.queries.take_result(id, step);
                let output = output.with_event(|notice| Event::new(notice, result));
                debug_assert!(output.is_some(), "an event of a query whose result is gone");
                if output.is_some() {
                    return output;
                }
            } else if self.queries.has_resumed() {
                self.queries.resume();
                self.advance(self.cx.clocks.latest());
            } else {
                return None;
            }
        }
    }

    /// Lets queries go on whose events were taken. [`poll_output`](Self::poll_output) does so at the latest time that it knows of.
    pub(crate) fn resume(&mut self, now: impl FnOnce() -> Now) {
        if self.queries.has_resumed() {
            let now = self.tell_time(now());
            self.queries.resume();
            self.advance(now);
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), and what is due then.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let can_send = can_send(&self.queries, &self.upkeep.table);
        [
            (self.queries.deadline(), "query"),
            (self.peers.deadline(), "request"),
            (self.cx.mode.deadline(), "mode"),
            (self.cx.advice.deadline(), "advice"),
            (self.serving.deadline(), "held record"),
            (self.storage.deadline(), "store"),
            (self.records.deadline(can_send), "records"),
            (self.providing.deadline(can_send && self.providing.has_addresses()), "providers"),
        ]
        .into_iter()
        .chain(self.upkeep.deadlines(&self.cx.config))
        .filter_map(|(at, reason)| at.map(|at| Deadline { at, reason }))
        .min_by_key(|deadline| deadline.at)
    }

    /// Brings everything to where only time or the outside can move it.
    ///
    /// Ends, since each turn uses up an outcome, the event of a blocked peer, a step of a query, a stranger, a probe, a
    /// reported peer, or something to be put, handed over or announced, all of which are bounded.
    fn advance(&mut self, now: Instant) {
        loop {
            while let Some(Entered { peer, key }) = self.upkeep.next_entered() {
                self.records.entered(&peer, &key);
                self.providing.entered(now, (peer, key), &self.upkeep.table, &self.cx);
                self.storage.save_soon(now);
            }
            let (_, Stock { mut node, records, providing }) = self.split();
            let Parts { cx, peers, upkeep, .. } = &mut node.parts;
            if let Some(placed) = peers.next_placed() {
                node.queries.on_placed(now, placed, cx);
            } else if let Some(outcome) = peers.next_outcome() {
                self.settle(now, outcome);
            } else if let Some(outcome) = peers.next_address_outcome() {
                if let Some((peer, address)) = node.queries.on_address_outcome(outcome) {
                    upkeep.on_met(now, peer, address, cx, peers);
                }
            } else if let Some(event) = peers.next_block_event() {
                upkeep.on_block_event(now, event, cx, peers);
            } else if let Some(id) = node.queries.next_ready(now, || peers.has_room(now)) {
                let ended = node.queries.step(now, id, &mut node.parts);
                self.conclude(now, ended);
            } else if !upkeep.ask_next(now, cx, peers)
                && !upkeep.try_reported(now, cx, peers)
                && !records.put_next(now, &mut node)
                && !records.hand_next(now, &mut node)
                && !providing.announce_next(now, &mut node)
                && !providing.tell_next(now, &mut node)
                && !providing.spill_next(now, &mut node)
            {
                break;
            }
        }
        let Self { cx, peers, upkeep, .. } = self;
        upkeep.update_kept(now, cx, peers);
        upkeep.sweep(now, peers);
    }

    /// Tells the routing upkeep, and the query that has made it, what came of a request.
    fn settle(&mut self, now: Instant, outcome: Outcome) {
        let (queries, parts) = self.queries_and_parts();
        parts.upkeep.on_outcome(now, &outcome, parts.cx, parts.peers);
        let Outcome { requester, peer, result, .. } = outcome;
        if let Requester::Query(id, lookup) = requester {
            match result {
                Ok(reply) => queries.on_reply(now, (id, lookup), &peer, reply, &parts),
                Err(error) => queries.on_failed((id, lookup), &peer, error),
            }
        }
    }

    /// Does what is left to be done for a query that is over.
    fn conclude(&mut self, now: Instant, ended: Option<EndedQuery>) {
        let Some(EndedQuery { id, origin, after }) = ended else {
            return;
        };
        let (_, Stock { mut node, records, providing }) = self.split();
        let Parts { cx, peers, upkeep, .. } = &mut node.parts;
        match after {
            After::Nothing => {}
            After::Joined(reached) => {
                upkeep.joined(now, reached, cx);
                if reached {
                    providing.retry_waiting(now);
                }
            }
            After::Dialled => peers.forget_address(now, id, &mut cx.out),
            After::Found(found) => records.on_found(now, found, &mut node),
            After::Put(stored) => records.on_put(now, &stored, origin, cx),
            After::Announced(announced) => providing.on_announced(now, announced, origin, &mut node),
            After::Told(to, is_told) => providing.on_told(&to, is_told),
            After::Measured { peers, farthest } => upkeep.size.on_lookup(now, peers, farthest),
        }
    }

    /// Begins what the routing upkeep wants looked up: a join, buckets.
    fn look_up_due(&mut self, now: Instant) {
        while let Some(due) = self.upkeep.next_due(now, &mut self.cx) {
            match due {
                Due::Join => {
                    if self.queries.is_full() || self.begin_join(now).is_err() {
                        // Whoever was known has been removed, or there is no room for a query now.
                        self.upkeep.joined(now, false, &mut self.cx);
                    }
                }
                Due::LookUp(target) => {
                    let (queries, mut parts) = self.queries_and_parts();
                    if let Some(search) = FindPeers::of_upkeep(now, target, &mut parts)
                        && !queries.is_full()
                    {
                        queries.insert(now, search, Origin::Upkeep);
                    }
                }
            }
        }
    }

    fn begin_join(&mut self, now: Instant) -> Result<QueryId, NoKnownPeers> {
        let (queries, mut parts) = self.queries_and_parts();
        let join = Bootstrap::begin(now, &mut parts)?;
        match queries.begin(now, join.into(), &mut parts) {
            Ok(id) => {
                parts.upkeep.join_began();
                self.advance(now);
                Ok(id)
            }
            Err(result) => {
                let info = Bootstrap::seen(parts.cx.local.peer).into();
                Ok(queries.at_once(now, info, *result, &mut parts))
            }
        }
    }

    /// Takes note of the time. If a clock has jumped, each peer that may be gone is asked.
    fn tell_time(&mut self, now: Now) -> Instant {
        self.cx.clocks.told(now.late);
        self.check_time(now)
    }

    fn check_time(&mut self, now: Now) -> Instant {
        let (now, has_jumped) = self.note_time(now);
        if has_jumped {
            self.check_all(now);
        }
        now
    }

    /// Each peer that may be gone is asked.
    fn check_all(&mut self, now: Instant) {
        self.upkeep.check_all(now, &mut self.cx, &mut self.peers);
    }

    /// Takes note of the time. Returns whether a clock has jumped.
    fn note_time(&mut self, now: Now) -> (Instant, bool) {
        let jump = self.cx.clocks.tell(now);
        if let Some(jump) = jump {
            self.clock_has_jumped(now.instant, jump);
        }
        (now.instant, jump.is_some())
    }

    /// Whatever depends on the wall clock is computed anew.
    ///
    /// # What a jump means
    /// Ends are times of the wall clock: what has ended by it is gone, whether the machine has slept or the clock was wrong.
    /// What is to be put or announced anew follows the time that has passed: if it was slept away, the schedules catch up, a
    /// day within an hour. After a clock was set back, nothing of others lasts longer than it would if it were stored now.
    fn clock_has_jumped(&mut self, now: Instant, jump: Jump) {
        tracing::info!(?jump, "the wall clock has jumped: ends are computed anew, and peers are checked");
        let Self { cx, records, providing, storage, .. } = self;
        if let Jump::Forward(by) = jump {
            records.slept(now, by);
            providing.slept(now, by);
        }
        storage.clock_has_jumped(now, jump);
        records.expire(now, storage, cx);
    }

    /// Returns what the node has done since it began, and what it holds now. [`transport`](Stats::transport) is the driver's to
    /// fill in.
    ///
    /// Allocates nothing, but where the store does. Schedules are those of the latest call that took the time.
    pub fn stats(&self) -> Stats {
        let now = self.cx.clocks.latest();
        let mut stats = Stats {
            inbound_requests: (*self.cx.served).clone(),
            queries: self.queries.stats(),
            store: self.storage.stats(),
            republish: self.records.stats(now),
            reprovide: self.providing.stats(now),
            clock: self.cx.clocks.stats(),
            ..Stats::default()
        };
        let records_held = self.serving.count(&mut stats);
        self.storage.count_held(&mut stats.held);
        stats.inbound_requests.put_value.pending = stats.held.disk_waiting + records_held;
        stats.queues.outputs = gauge(self.cx.out.len());
        stats.queues.queries = gauge(self.queries.in_line());
        self.peers.count(&mut stats);
        self.upkeep.count(&mut stats);
        stats
    }
}

#[cfg(test)]
mod tests;
