//! Routing upkeep: which peers are in the routing table, and which are asked unasked.
//!
//! Tells the table, the admission, the probe, the refresh and the join what has happened, and says what they want. Knows what
//! is remembered of peers; knows no queries: that a lookup is due is said, and begun by the node.

mod admit;
mod reported;
mod seeds;

use std::collections::VecDeque;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::context::Context;
use super::peers::{BlockEvent, Known, Outcome, Peers, Reply, Requester, Urgency};
use crate::config::{Config, KeepAlive};
use crate::error::AddressError;
use crate::event::RoutingUpdate;
use crate::key::Key;
use crate::message::Request;
use crate::peer::PackedPeerId;
use crate::query::timeout::Phase;
use crate::region::size::SizeEstimator;
use crate::routing::admission::{Admission, Stranger};
use crate::routing::bootstrap::BootstrapSchedule;
use crate::routing::refresh::{Refresh, Target};
use crate::routing::{AdmissionPriority, Probe, Table, TableConfig};
use crate::stats::{self, Stats, gauge};
use crate::time::{Duration, Instant};

use reported::Reported;
pub(super) use seeds::Seeds;

/// A check or a probe that could not be made is tried again after this time (chosen, not measured).
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(30);

/// A change of the routing table that others act upon.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) peer: PeerId,
    pub(super) key: Key,
}

/// What is due by time alone.
#[derive(Debug)]
pub(super) enum Due {
    /// A join is to begin.
    Join,
    /// The own id or a random key is to be looked up, for the table's sake or to learn how large the network is.
    LookUp(Target),
}

/// Keeps the routing table.
///
/// # What it decides
/// Which peers enter and leave the table, which strangers are asked whether they are servers, which peers of the table whether
/// they live, what is looked up when, when the node joins, and whose connections are kept.
///
/// # Inputs
/// Peers that connect, leave, are named, answer and fail: the `on_…` methods; [`add_address`](Self::add_address) and
/// [`remove_peer`](Self::remove_peer) of the application; [`joined`](Self::joined).
///
/// # Outputs
/// Requests to peers, by [`ask_next`](Self::ask_next) and [`try_reported`](Self::try_reported); [`next_due`](Self::next_due);
/// the peers that have entered, by [`next_entered`](Self::next_entered); events.
///
/// # What time does
/// Makes checks, probes, lookups and joins due.
///
/// # Bounds
/// Those of the table, the admission, the seeds and the reported.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) table: Table,
    pub(super) seeds: Seeds,
    pub(super) refresh: Refresh,
    pub(super) size: SizeEstimator,
    admission: Admission,
    probe: Probe,
    join: BootstrapSchedule,
    reported: Reported,
    entered: VecDeque<Entered>,
    /// Peers whose connections are to be kept.
    kept: Box<[PackedPeerId]>,
    kept_is_outdated: bool,
    /// Whether it was told that limits per IP group keep peers out.
    has_warned: bool,
    checks: stats::Checks,
    probes: stats::Checks,
    evicted: stats::Evictions,
}

impl Upkeep {
    pub(super) fn new(local: Key, config: &Config) -> Self {
        Self {
            table: Table::new(local, TableConfig::from(config)),
            seeds: Seeds::new(config.limits.max_seeds.get()),
            refresh: Refresh::new(config.routing.refresh_interval),
            size: SizeEstimator::default(),
            admission: Admission::default(),
            probe: Probe::new(),
            join: BootstrapSchedule::new(config.routing.joining),
            reported: Reported::default(),
            entered: VecDeque::new(),
            kept: Box::default(),
            kept_is_outdated: false,
            has_warned: false,
            checks: stats::Checks::default(),
            probes: stats::Checks::default(),
            evicted: stats::Evictions::default(),
        }
    }

    /// Returns when something is due, and what.
    pub(super) fn deadlines(&self, config: &Config) -> [(Option<Instant>, &'static str); 6] {
        [
            (self.admission.deadline(), "admission"),
            (self.is_low(config).then(|| self.reported.deadline()).flatten(), "reported"),
            (self.probe.deadline(), "probe"),
            (self.refresh.deadline(), "refresh"),
            (self.size.deadline(), "network size"),
            (self.join.deadline(), "join"),
        ]
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.admission.handle_timeout(now);
    }

    /// Fills in what has become of the peers of the table, and of those that were asked.
    pub(super) fn count(&self, stats: &mut Stats) {
        stats.routing_table = self.table.stats();
        let evicted = &mut stats.routing_table.evicted;
        (evicted.unsupported, evicted.denied) = (self.evicted.unsupported, self.evicted.denied);
        // The table has counted them, and does not know why they had to go.
        evicted.removed -= evicted.unsupported + evicted.denied;
        let pending = (self.admission.being_asked(), self.probe.being_asked());
        stats.checks = stats::Checks { pending: gauge(pending.0), ..self.checks.clone() };
        stats.probes = stats::Checks { pending: gauge(pending.1), ..self.probes.clone() };
        stats.queues.strangers = gauge(self.admission.waiting());
    }

    /// Returns whether so few peers are in the table that anybody is welcome.
    pub(super) fn is_low(&self, config: &Config) -> bool {
        self.table.len() <= config.routing.low_peers
    }

    /// Returns the next peer that has entered the table.
    pub(super) fn next_entered(&mut self) -> Option<Entered> {
        self.entered.pop_front()
    }

    /// Takes note that the application names an address of a peer; see [`Dht::add_address`](super::Dht::add_address).
    pub(super) fn add_address(
        &mut self,
        now: Instant,
        peer: PeerId,
        address: Multiaddr,
        cx: &mut Context,
        peers: &mut Peers,
    ) -> Result<RoutingUpdate, AddressError> {
        if !peers.bans.admits(&peer) || peers.bans.has_banned_address(&address) {
            return Err(AddressError::Banned);
        }
        let update = self.add_seed(now, peer, address, cx, peers)?;
        if update == RoutingUpdate::Pending {
            self.admission.forget(&peer);
            let key = peers.key(&peer);
            self.admission
                .offer(now, Stranger { key, peer, priority: AdmissionPriority::Named, group: None });
        }
        Ok(update)
    }

    /// A peer was met at an address that the application has named: a seed, which the query itself asks.
    pub(super) fn on_met(
        &mut self,
        now: Instant,
        peer: PeerId,
        address: Multiaddr,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        self.admission.withdraw(&peer);
        if !peers.admits(&peer) {
            return;
        }
        if let Err(error) = self.add_seed(now, peer, address, cx, peers) {
            tracing::debug!(%peer, %error, "whoever was met is no seed");
        }
    }

    /// A peer that the program blocks leaves the table, and with it all answers; later it is tried as a stranger is.
    pub(super) fn on_block_event(
        &mut self,
        now: Instant,
        event: BlockEvent,
        cx: &mut Context,
        peers: &Peers,
    ) {
        match event {
            BlockEvent::Blocked(peer) => {
                let dropped = self.drop_from_table(now, &peer, cx, peers);
                self.evicted.denied += u64::from(dropped.is_some());
            }
            BlockEvent::Released(peer) => {
                let key = peers.key(&peer);
                self.admission.forget(&peer);
                self.offer(now, key, peer, AdmissionPriority::Named, peers);
            }
        }
    }

    /// Asks one stranger or one peer of the table that is due, if any is. Returns whether there was one.
    pub(super) fn ask_next(&mut self, now: Instant, cx: &mut Context, peers: &mut Peers) -> bool {
        let soft_timeout = |peer: &PeerId| {
            let known = peers.get(peer);
            let soft = peers.estimator().soft_timeout(known.map(|known| &known.rtt), Phase::Hopping);
            if known.is_some_and(Known::is_connected) { soft.connected } else { soft.dialled }
        };
        if let Some((key, peer)) = self.admission.next(now, soft_timeout) {
            if self.table.entry(&key, &peer).is_some() {
                self.admission.done(&peer);
            } else {
                self.ask_for_itself(now, peer, Requester::Check, cx, peers);
            }
        } else if let Some((_, peer)) = self.probe.next(now, &mut self.table) {
            self.ask_for_itself(now, peer, Requester::Probe, cx, peers);
        } else {
            return false;
        }
        true
    }

    /// Asks a peer for itself, though it may have failed lately.
    fn ask_for_itself(
        &mut self,
        now: Instant,
        peer: PeerId,
        requester: Requester,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        let request = Request::FindNode { key: Bytes::from(peer.to_bytes()) };
        match requester {
            Requester::Check => self.checks.started += 1,
            Requester::Probe => self.probes.started += 1,
            Requester::Liveness | Requester::Query(..) => {}
        }
        let seed = self.seeds.addresses(&peer).cloned().unwrap_or_default();
        peers.request(now, peer, &seed, request, (requester, Urgency::Forced), &mut cx.out);
    }

    /// Tries one peer that was reported and not met, if one is due and few are known. Returns whether there was one.
    pub(super) fn try_reported(&mut self, now: Instant, cx: &Context, peers: &Peers) -> bool {
        if !self.is_low(&cx.config) {
            return false;
        }
        let Some(peer) = self.reported.next(now) else {
            return false;
        };
        let key = peers.key(&peer);
        let is_in = self.table.entry(&key, &peer).is_some();
        match peers.get(&peer) {
            // It is a stranger like others.
            Some(known) if known.is_connected() => {}
            Some(known) if !is_in && !known.addresses.is_empty() => {
                self.admission.forget(&peer);
                self.offer(now, key, peer, AdmissionPriority::Named, peers);
            }
            Some(_) | None => self.reported.remove(&peer),
        }
        true
    }

    /// Takes note of what came of a request, whichever requester has made it.
    pub(super) fn on_outcome(
        &mut self,
        now: Instant,
        outcome: &Outcome,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        let Outcome { requester, peer, key, result } = outcome;
        match requester {
            Requester::Check => {
                self.admission.done(peer);
                *(if result.is_ok() { &mut self.checks.passed } else { &mut self.checks.failed }) += 1;
            }
            Requester::Probe => {
                self.probe.done(now);
                *(if result.is_ok() { &mut self.probes.passed } else { &mut self.probes.failed }) += 1;
            }
            Requester::Liveness | Requester::Query(..) => {}
        }
        if !matches!(result, Ok(Reply::Sent)) {
            let result = result.as_ref().map(|_| ()).map_err(|error| *error);
            self.seeds.asked((now, peers.last_answer()), peer, result);
        }
        match result {
            // That something was sent proves nothing.
            Ok(Reply::Sent) => {}
            Ok(Reply::Answer(response, _)) => {
                self.reported.remove(peer);
                if self.table.may_be_cut_off() {
                    self.probe.schedule(now);
                }
                if self.table.answered(now, key, peer) {
                    // In the table already, and live again if it was doubted.
                } else if self.is_proof(*requester, response, &cx.config) {
                    self.admit(now, *key, *peer, cx, peers);
                }
            }
            Err(error) => {
                tracing::debug!(%peer, %error, ?requester, "request failed");
                self.on_failed(now, (key, peer), (*error, *requester == Requester::Probe), cx, peers);
                if *requester == Requester::Check && !error.is_peers_fault() {
                    self.admission.forget(peer);
                }
            }
        }
    }

    /// Returns what is due by time alone, one after the other.
    pub(super) fn next_due(&mut self, now: Instant, cx: &mut Context) -> Option<Due> {
        if self.join.is_due(now) {
            // Whether or not it can.
            self.join.began();
            return Some(Due::Join);
        }
        while self.refresh.deadline().is_some_and(|at| at <= now) {
            if let Some(target) = self.refresh.next(now, &self.table, &mut cx.rng) {
                return Some(Due::LookUp(target));
            }
        }
        self.size.is_due(now, &mut cx.rng).then_some(Due::LookUp(Target::Anywhere))
    }

    /// Returns whether a join is due.
    pub(super) fn join_is_due(&self, now: Instant) -> bool {
        self.join.is_due(now)
    }

    /// A join has begun.
    pub(super) fn join_began(&mut self) {
        self.join.began();
    }

    /// A join has ended.
    pub(super) fn joined(&mut self, now: Instant, reached: bool, cx: &mut Context) {
        let low = self.is_low(&cx.config);
        self.join.ended(now, reached, low, &mut cx.rng);
        self.refresh.looked_up_own(now, &self.table, &mut cx.rng);
        self.refresh.watch(now, &self.table, &mut cx.rng);
        if reached {
            self.size.joined(now, cx.config.routing.refresh_interval.is_some(), &mut cx.rng);
        }
        tracing::debug!(reached, peers = self.table.len(), "join ended");
    }

    /// A key is being looked up: its bucket need not be for a while.
    pub(super) fn looked_up(&mut self, now: Instant, key: &Key, cx: &mut Context) {
        if let Some(bucket) = cx.local.key.distance(key).bucket() {
            self.refresh.looked_up(now, bucket, &mut cx.rng);
        }
    }

    /// Whether the connection to a peer is kept when nobody uses it.
    fn keeps_connected(&self, peer: &PeerId) -> bool {
        self.kept.binary_search(&PackedPeerId::from(peer)).is_ok()
    }

    /// Checks the connections that are kept: something has happened after which they may be dead.
    pub(super) fn check_kept(&self, now: Instant, cx: &mut Context, peers: &mut Peers) {
        for peer in &self.kept {
            peers.check(now, peer.unpacked(), &mut cx.out);
        }
    }

    /// Each peer that may be gone is asked: the machine has slept, or a clock was set.
    pub(super) fn check_all(&mut self, now: Instant, cx: &mut Context, peers: &mut Peers) {
        self.check_kept(now, cx, peers);
        let kept = &self.kept;
        self.table.probe_all(now, |peer| kept.binary_search(&PackedPeerId::from(peer)).is_err());
        self.probe.schedule(now);
    }

    /// Brings the kept connections in line with the table, if that has changed.
    pub(super) fn update_kept(&mut self, now: Instant, cx: &mut Context, peers: &mut Peers) {
        if !std::mem::take(&mut self.kept_is_outdated) {
            return;
        }
        let count = match cx.config.routing.keep_alive {
            KeepAlive::Closest => cx.config.bucket_size().get(),
            KeepAlive::Table => usize::MAX,
            KeepAlive::Nobody => 0,
        };
        let closest = self.table.closest(&cx.local.key).take(count);
        let mut kept: Box<[_]> = closest.map(|entry| PackedPeerId::from(&entry.peer())).collect();
        kept.sort_unstable();
        let before = std::mem::replace(&mut self.kept, kept);
        for (keep, one, other) in [(false, &before, &self.kept), (true, &self.kept, &before)] {
            for peer in missing(one, other) {
                let peer = peer.unpacked();
                peers.keep(now, peer, keep, None, &mut cx.out);
            }
        }
    }

    /// Forgets peers that are of no use any more.
    pub(super) fn sweep(&self, now: Instant, peers: &mut Peers) {
        peers.sweep(now, |key, peer| self.seeds.contains(peer) || self.table.entry(key, peer).is_some());
    }
}

/// Returns what one sorted list has and the other, sorted as well, has not.
fn missing<'a, T: Ord>(one: &'a [T], mut other: &'a [T]) -> impl Iterator<Item = &'a T> {
    one.iter().filter(move |item| {
        while let [first, rest @ ..] = other
            && first < *item
        {
            other = rest;
        }
        other.first() != Some(item)
    })
}
