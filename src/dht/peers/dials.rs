//! Dials: which are under way, how many there may be, and which targets wait for a slot.
//!
//! Knows peers and addresses as values; what a dial is for, and what its outcome means, is not its affair.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::dht::io::{DialFailure, DialId};
use crate::event::QueryId;
use crate::stats;
use crate::time::{Duration, Instant, after, earliest};

/// After so long a peer that has not answered is dialled at its next addresses, too (chosen, not measured).
const SECOND_BATCH_AFTER: Duration = Duration::from_secs(1);

/// So long after that at those that are left: 16 addresses that are named one by one have all been dialled after 2 s
/// (chosen, not measured).
const NEXT_BATCH_AFTER: Duration = Duration::from_millis(500);

/// After a dial that the program has denied nobody is dialled for so long, which doubles while nothing is let through
/// (chosen, not measured).
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest such pause: a request that waits for a place has at least one more chance in its time (chosen, not measured).
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The target of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialTarget {
    Peer(PeerId),
    /// A peer to which there is a connection, through which nothing comes.
    Beside(PeerId),
    /// Whichever peer is at the address that a query has given.
    Anybody(QueryId),
}

impl DialTarget {
    /// Returns the peer that waits to be connected.
    pub(super) const fn peer(self) -> Option<PeerId> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Beside(_) | Self::Anybody(_) => None,
        }
    }
}

/// A dial under way.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) since: Instant,
    pub(super) target: DialTarget,
    pub(super) addresses: Vec<Multiaddr>,
}

/// How a dial has ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum EndedDial<'a> {
    /// There is a connection now.
    Connected(Instant),
    Failed(&'a DialFailure),
    /// It has held its slot for too long.
    Silent,
}

/// What has become of dialling one peer so far: one batch of addresses after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    /// Where it was dialled, or is.
    pub(super) tried: Vec<Multiaddr>,
    /// Those of them at which nobody had ever been met.
    pub(super) hearsay: Vec<Multiaddr>,
    /// How many dials are under way.
    pub(super) open: usize,
    /// Whether the peer was not where it was to be.
    pub(super) is_to_blame: bool,
    latest: Option<Instant>,
    batches: u32,
    /// When the next batch is due, if there is more to try.
    next_at: Option<Instant>,
}

impl Attempt {
    /// Takes back that these addresses were tried.
    pub(super) fn untry(&mut self, addresses: &[Multiaddr]) {
        self.tried.retain(|tried| !addresses.contains(tried));
        self.hearsay.retain(|tried| !addresses.contains(tried));
    }
}

/// The slots for dials.
///
/// # What it decides
/// The order of dials: first come, first served. How many there are at once: after a dial that the program has denied,
/// half as many, and one more after each that it lets through, up to the configured number. Why it was denied is not
/// looked at.
///
/// # What time does
/// The first batch of a peer's addresses is followed by the second after a second, by others after half of one. After a denied dial there is none for 100 ms,
/// doubling to 5 s while nothing is let through, but to one other peer; a connection that ends ends the pause.
///
/// # Bounds
/// At most `max` dials hold a slot. Those that wait are bounded by the peers with requests and by the queries; what is
/// kept of those being dialled, by the slots.
#[derive(Debug)]
pub(super) struct Dials {
    max: usize,
    allowed: usize,
    /// Each in a place of its own, or the room for eleven would stay when there are none.
    under_way: BTreeMap<DialId, Box<Dial>>,
    attempts: BTreeMap<PeerId, Box<Attempt>>,
    due: BTreeSet<(Instant, PeerId)>,
    waiting: VecDeque<DialTarget>,
    /// The addresses of dials to nobody in particular that wait, and since when.
    addresses: BTreeMap<QueryId, (Multiaddr, Instant)>,
    pause: Duration,
    paused_until: Option<Instant>,
    /// Denials of dials that began before this one are no news.
    known_until: u64,
    /// The peer that was denied last, while no other was being dialled.
    suspect: Option<PeerId>,
    next: u64,
    counts: stats::Dials,
}

impl Dials {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            allowed: max,
            under_way: BTreeMap::new(),
            attempts: BTreeMap::new(),
            due: BTreeSet::new(),
            waiting: VecDeque::new(),
            addresses: BTreeMap::new(),
            pause: FIRST_PAUSE,
            paused_until: None,
            known_until: 0,
            suspect: None,
            next: 0,
            counts: stats::Dials::default(),
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    pub(super) fn wait_for_peer(&mut self, peer: PeerId) {
        self.waiting.push_back(DialTarget::Peer(peer));
    }

    /// The next addresses of a peer that is being dialled wait for a slot, before all others.
    pub(super) fn wait_for_more(&mut self, peer: PeerId) {
        if !self.waiting.contains(&DialTarget::Peer(peer)) {
            self.waiting.push_front(DialTarget::Peer(peer));
        }
    }

    pub(super) fn wait_for_address(&mut self, now: Instant, query: QueryId, address: Multiaddr) {
        self.addresses.insert(query, (address, now));
        self.waiting.push_back(DialTarget::Anybody(query));
    }

    /// Returns the target that is next, if there is a slot.
    ///
    /// After a denial only one is: another, so that it shows whether all are denied.
    pub(super) fn next(&mut self, now: Instant) -> Option<DialTarget> {
        if self.under_way.len() >= self.allowed {
            return None;
        }
        if self.paused_until.is_none_or(|until| until <= now) {
            return self.waiting.pop_front();
        }
        let suspect = self.suspect.filter(|_| self.under_way.is_empty())?;
        let other = self.waiting.iter().position(|target| *target != DialTarget::Peer(suspect))?;
        self.waiting.remove(other)
    }

    /// Returns the address that a query waits to have dialled.
    pub(super) fn address(&self, query: QueryId) -> Option<Multiaddr> {
        self.addresses.get(&query).map(|(address, _)| address.clone())
    }

    /// A dial begins, and takes a slot.
    pub(super) fn begin(&mut self, now: Instant, target: DialTarget, addresses: Vec<Multiaddr>) -> DialId {
        let id = DialId(self.next);
        self.next += 1;
        if let DialTarget::Peer(peer) = target {
            let attempt = self.attempts.entry(peer).or_default();
            attempt.tried.extend(addresses.iter().cloned());
            attempt.open += 1;
            attempt.latest = Some(now);
            attempt.batches = attempt.batches.saturating_add(1);
            if let Some(at) = attempt.next_at.take() {
                self.due.remove(&(at, peer));
            }
        }
        self.counts.started += 1;
        self.under_way.insert(id, Box::new(Dial { since: now, target, addresses }));
        id
    }

    /// A dial has ended, and gives its slot back; `None` if it had done so before.
    pub(super) fn end(&mut self, id: DialId, how: EndedDial<'_>) -> Option<Dial> {
        let dial = *self.under_way.remove(&id)?;
        self.count(&dial, how);
        if let Some(attempt) = dial.target.peer().and_then(|peer| self.attempts.get_mut(&peer)) {
            attempt.open = attempt.open.saturating_sub(1);
        }
        Some(dial)
    }

    fn count(&mut self, dial: &Dial, how: EndedDial<'_>) {
        let failed = &mut self.counts.failed;
        let counter = match how {
            EndedDial::Connected(now) => {
                self.counts.duration.observe(now.saturating_duration_since(dial.since));
                &mut self.counts.succeeded
            }
            EndedDial::Silent => &mut failed.timeout,
            EndedDial::Failed(DialFailure::Unreachable { .. }) => &mut failed.unreachable,
            EndedDial::Failed(DialFailure::WrongPeer { .. }) => &mut failed.wrong_peer,
            EndedDial::Failed(DialFailure::Own { .. }) => &mut failed.own,
            EndedDial::Failed(DialFailure::Refused) => &mut failed.refused,
            EndedDial::Failed(DialFailure::Denied) => &mut failed.denied,
            EndedDial::Failed(DialFailure::UnderWay) => &mut failed.under_way,
            EndedDial::Failed(DialFailure::NoAddresses) => &mut failed.no_addresses,
        };
        *counter += 1;
    }

    /// Returns what has become of all dials so far.
    pub(super) fn stats(&self) -> stats::Dials {
        let in_progress = stats::gauge(self.under_way.len());
        stats::Dials { in_progress, waiting: stats::gauge(self.waiting.len()), ..self.counts.clone() }
    }

    /// Drops dials for which nobody waits any more.
    fn abandon(&mut self, target: DialTarget) {
        let before = self.under_way.len();
        self.under_way.retain(|_, dial| dial.target != target);
        self.counts.abandoned += stats::gauge(before - self.under_way.len());
    }

    /// Returns whether a dial could begin now.
    pub(super) fn has_slot(&self, now: Instant) -> bool {
        self.under_way.len() < self.allowed && self.paused_until.is_none_or(|until| until <= now)
    }

    /// Returns how many peers are dialled beside connections.
    pub(super) fn num_beside(&self) -> usize {
        self.under_way.values().filter(|dial| matches!(dial.target, DialTarget::Beside(_))).count()
    }

    /// Returns whether a peer is dialled beside a connection.
    pub(super) fn is_beside(&self, peer: &PeerId) -> bool {
        self.under_way.values().any(|dial| dial.target == DialTarget::Beside(*peer))
    }

    /// Returns the dial that began longest ago: numbers rise with time.
    pub(super) fn oldest(&self) -> Option<(DialId, Instant)> {
        self.under_way.first_key_value().map(|(id, dial)| (*id, dial.since))
    }

    pub(super) fn attempt(&mut self, peer: &PeerId) -> Option<&mut Attempt> {
        self.attempts.get_mut(peer).map(Box::as_mut)
    }

    /// There is more to try for a peer that is being dialled: its next batch follows a second after the latest.
    pub(super) fn follow(&mut self, now: Instant, peer: PeerId) {
        if let Some(attempt) = self.attempts.get_mut(&peer)
            && attempt.next_at.is_none()
        {
            let pause = if attempt.batches > 1 { NEXT_BATCH_AFTER } else { SECOND_BATCH_AFTER };
            let at = attempt.latest.map_or(now, |latest| after(latest, pause)).max(now);
            attempt.next_at = Some(at);
            self.due.insert((at, peer));
        }
    }

    /// Lets those whose next batch is due wait for a slot, and ends a pause that is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.paused_until.take_if(|until| *until <= now);
        while let Some((_, peer)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            if let Some(attempt) = self.attempts.get_mut(&peer) {
                attempt.next_at = None;
                self.wait_for_more(peer);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let pause = self.paused_until.filter(|_| !self.waiting.is_empty());
        earliest(self.due.first().map(|(at, _)| *at), pause)
    }

    /// The program has denied a dial: there are fewer at once from now on, and none for a while.
    pub(super) fn denied(&mut self, now: Instant, id: DialId, target: DialTarget) {
        self.allowed = (self.allowed / 2).max(1);
        // Of several at once none knew of the others.
        if id.0 >= self.known_until {
            self.known_until = self.next;
            self.paused_until = Some(after(now, self.pause));
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        let is_general = self.suspect.is_some_and(|suspect| target.peer() != Some(suspect));
        self.suspect = target.peer().filter(|_| !is_general && self.under_way.is_empty());
    }

    /// The program has let a connection through. Returns the peer that is shown by it to have been denied for itself.
    pub(super) fn let_through(&mut self, peer: &PeerId, is_own: bool) -> Option<PeerId> {
        if is_own {
            self.allowed = self.allowed.saturating_add(1).min(self.max);
            self.pause = FIRST_PAUSE;
            self.paused_until = None;
        }
        self.suspect.take().filter(|suspect| suspect != peer)
    }

    /// Returns whether the program has denied all dials for a while.
    pub(super) fn are_denied(&self) -> bool {
        self.allowed < self.max && self.pause > FIRST_PAUSE * 8
    }

    /// A connection has ended: there may be a place now, so that a peer that is let through shows nothing of the one that was
    /// denied.
    pub(super) fn end_pause(&mut self) {
        self.paused_until = None;
        self.suspect = None;
    }

    /// A target that was denied waits for another place. Returns whether a query's address has not waited too long.
    pub(super) fn wait_again(&mut self, now: Instant, target: DialTarget, at_most: Duration) -> bool {
        if let DialTarget::Anybody(query) = target
            && self.addresses.get(&query).is_none_or(|(_, since)| after(*since, at_most) <= now)
        {
            self.addresses.remove(&query);
            return false;
        }
        self.waiting.push_back(target);
        true
    }

    /// Dialling a peer is over. Returns where it was tried.
    pub(super) fn end_attempt(&mut self, peer: &PeerId) -> Option<Attempt> {
        let attempt = *self.attempts.remove(peer)?;
        if let Some(at) = attempt.next_at {
            self.due.remove(&(at, *peer));
        }
        Some(attempt)
    }

    /// Nobody waits for a dial to this peer any more: it gives its slot back, though it may still succeed. Returns where
    /// the peer was tried.
    pub(super) fn give_up_peer(&mut self, peer: PeerId) -> Option<Attempt> {
        self.waiting.retain(|target| *target != DialTarget::Peer(peer));
        self.abandon(DialTarget::Peer(peer));
        self.end_attempt(&peer)
    }

    /// Nobody waits for the address of this query any more.
    pub(super) fn give_up_query(&mut self, query: QueryId) {
        self.addresses.remove(&query);
        self.abandon(DialTarget::Anybody(query));
    }
}

#[cfg(test)]
impl Dials {
    /// Returns whether no target is dialled or waits for it, and nothing is kept of those that were.
    pub(super) fn is_empty_for_test(&self) -> bool {
        let is_over = self.under_way.is_empty() && self.attempts.is_empty() && self.due.is_empty();
        is_over && self.waiting.is_empty() && self.addresses.is_empty()
    }
}
