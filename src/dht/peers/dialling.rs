//! Dialling: how a peer or an address gets connected, one batch of addresses after another, until it is, they are used up or
//! nobody waits any more.
//!
//! Knows which requests wait for a connection, but not for whom they are made.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::Peers;
use super::blocked::BlockEvent;
use super::dials::{Attempt, Dial, DialTarget, EndedDial};
use super::known::{Known, Link};
use super::outcome::{AddressOutcome, Placed, Requester};
use super::requests::PendingRequest;
use super::route::MAX_HEARSAY;
use crate::addrs::{Addresses, ip_of};
use crate::config::Grouping;
use crate::dht::bans::Bans;
use crate::dht::io::{DialFailure, DialId, Output, Outputs, RequestId, Unreached, take_first};
use crate::error::RequestError;
use crate::event::QueryId;
use crate::query::lookup::Place;
use crate::time::{Instant, after};

fn next_batch(
    known: &Known,
    attempt: Option<&Attempt>,
    (diversity, bans): (Option<&Grouping>, &Bans),
) -> Vec<Multiaddr> {
    let mut batch = known.next_batch(attempt, |address| {
        diversity.is_none_or(|rules| ip_of(address).is_some_and(|ip| rules.limits.is_exempt(ip)))
    });
    batch.retain(|address| !bans.has_banned_address(address));
    batch
}

/// Returns what its query is to be told of the place of a request.
fn placed(pending: &PendingRequest, place: Place) -> Option<Placed> {
    match pending.requester {
        Requester::Query(query, lookup) => Some(Placed { query, lookup, to: pending.to, place }),
        Requester::Check | Requester::Probe | Requester::Liveness => None,
    }
}

impl Peers {
    /// Connects to an address, whichever peer is there.
    pub(in crate::dht) fn dial_address(
        &mut self,
        now: Instant,
        query: QueryId,
        address: Multiaddr,
        out: &mut Outputs,
    ) {
        self.dials.wait_for_address(now, query, address);
        self.fill_slots(now, out);
    }

    pub(in crate::dht) fn next_address_outcome(&mut self) -> Option<AddressOutcome> {
        self.address_outcomes.pop_front()
    }

    pub(in crate::dht) fn dials(&self) -> usize {
        self.dials.under_way()
    }

    /// Begins dials as long as there are slots.
    pub(super) fn fill_slots(&mut self, now: Instant, out: &mut Outputs) {
        while let Some(target) = self.dials.next(now) {
            match target {
                DialTarget::Peer(peer) => self.dial_peer(now, peer, out),
                DialTarget::Anybody(query) => {
                    if let Some(address) = self.dials.address(query) {
                        let addresses = vec![address];
                        let id = self.dials.begin(now, target, addresses.clone());
                        out.push_back(Output::Dial { id, peer: None, addresses, beside: false });
                    }
                }
                // It does not wait: it begins at once or later.
                DialTarget::Beside(_) => {}
            }
        }
    }

    /// Dials a peer that waits for it, at its first addresses or at its next.
    pub(super) fn dial_peer(&mut self, now: Instant, peer: PeerId, out: &mut Outputs) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        match known.link {
            Link::Queued | Link::Dialling => {}
            // Meanwhile it may have connected by itself.
            Link::Idle | Link::Awaiting | Link::Connected => return,
        }
        let attempt = self.dials.attempt(&peer);
        let (is_first, is_open) =
            (attempt.is_none(), attempt.as_ref().is_some_and(|attempt| attempt.open > 0));
        let addresses = next_batch(known, attempt.as_deref(), (self.diversity.as_ref(), &self.bans));
        if known.queue.waiting() == 0 || (addresses.is_empty() && !is_first) {
            // Nobody wants it any more, or what was left to try is gone.
            if !is_open {
                known.link = Link::Idle;
                self.dials.give_up_peer(peer);
                self.fail_waiting(&peer, RequestError::Unreachable);
            }
            return;
        }
        known.link = Link::Dialling;
        let id = self.dials.begin(now, DialTarget::Peer(peer), addresses.clone());
        if let Some(attempt) = self.dials.attempt(&peer) {
            let hearsay = addresses.iter().filter(|address| known.is_hearsay(address));
            attempt.hearsay.extend(hearsay.cloned());
            if !next_batch(known, Some(attempt), (self.diversity.as_ref(), &self.bans)).is_empty() {
                self.dials.follow(now, peer);
            }
        }
        out.push_back(Output::Dial { id, peer: Some(peer), addresses, beside: false });
        self.begin_waiting(now, &peer);
    }

    /// Something is done towards the peer of a request: its time begins.
    pub(super) fn begin(&mut self, now: Instant, id: RequestId) {
        if let Some(pending) = self.requests.begin(id, after(now, self.request_timeout)) {
            self.placed.extend(placed(pending, Place::Taken));
        }
    }

    /// A request goes out. If that was begun before, by a dial, it could have gone out when what the node is being told arrived.
    pub(super) fn go_out(&mut self, now: Instant, id: RequestId) {
        match self.requests.get(id) {
            Some(pending) if pending.has_begun() && !self.late.is_zero() => {
                self.placed.extend(placed(pending, Place::Delayed(self.late)));
            }
            Some(_) | None => self.begin(now, id),
        }
    }

    /// Returns the next request of a query that has got its place, or goes on late.
    pub(in crate::dht) fn next_placed(&mut self) -> Option<Placed> {
        take_first(&mut self.placed)
    }

    /// Something is being done towards a peer: the time of all that waits for it begins.
    pub(super) fn begin_waiting(&mut self, now: Instant, peer: &PeerId) {
        let waiting: SmallVec<[_; 4]> =
            self.known.get(peer).into_iter().flat_map(|known| known.queue.all_waiting()).collect();
        waiting.into_iter().for_each(|id| self.begin(now, id));
    }

    /// Drops what a query that is over has not asked yet; answers that are under way still tell of the peers.
    pub(in crate::dht) fn abandon(&mut self, query: QueryId) {
        for id in self.requests.unsent_of(query) {
            if let Some(pending) = self.requests.cancel(id)
                && let Some(known) = self.known.get_mut(&pending.to)
            {
                known.queue.remove(id);
            }
        }
    }

    /// Returns where a peer would be dialled first.
    pub(super) fn first_batch(&self, known: &Known) -> Vec<Multiaddr> {
        next_batch(known, None, (self.diversity.as_ref(), &self.bans))
    }

    /// Returns whether a request to a peer may wait for a place that there will be, as far as it looks: a dial that the program
    /// will let through, or one of those in flight.
    pub(in crate::dht) fn waits_for_place(&self, peer: &PeerId) -> bool {
        self.get(peer).is_some_and(|known| match known.link {
            Link::Queued => !self.dials.are_denied(),
            Link::Connected => known.queue.waiting() > 0,
            Link::Idle | Link::Dialling | Link::Awaiting => false,
        })
    }

    /// Returns the addresses of a peer at which it would be dialled though nobody has met it there; none if it is
    /// connected or has been met anywhere.
    pub(in crate::dht) fn mere_hearsay<'a>(
        &'a self,
        peer: &PeerId,
        named: &'a Addresses,
    ) -> Vec<&'a Multiaddr> {
        let known = self.get(peer);
        if known.is_some_and(|known| known.is_connected() || !known.trusted.is_empty()) {
            return Vec::new();
        }
        let known = known.into_iter().flat_map(|known| known.addresses.iter().chain(&known.hints));
        known.chain(named).take(MAX_HEARSAY).collect()
    }

    /// More may be known of where a peer is: if it is being dialled, it will be there, too.
    pub(in crate::dht) fn addresses_arrived(&mut self, now: Instant, peer: &PeerId, out: &mut Outputs) {
        let Some(known) = self.known.get(peer).filter(|known| known.link == Link::Dialling) else {
            return;
        };
        let Some(attempt) = self.dials.attempt(peer) else {
            return;
        };
        if !next_batch(known, Some(attempt), (self.diversity.as_ref(), &self.bans)).is_empty() {
            self.dials.follow(now, *peer);
            self.dials.handle_timeout(now);
            self.fill_slots(now, out);
        }
    }

    /// A dial has failed: one of this node, or of another part of the program to a peer that is waited for.
    pub(in crate::dht) fn dial_failed(
        &mut self,
        now: Instant,
        dial: Option<DialId>,
        peer: Option<PeerId>,
        error: &DialFailure,
        out: &mut Outputs,
    ) {
        let (id, dial) = (dial, dial.and_then(|id| self.dials.end(id, EndedDial::Failed(error))));
        if let (DialFailure::Denied, Some(id), Some(dial)) = (error, id, &dial)
            // That no second connection to a peer is let through says nothing of first ones.
            && !matches!(dial.target, DialTarget::Beside(_))
        {
            self.dials.denied(now, id, dial.target);
        }
        match &dial {
            Some(Dial { target: DialTarget::Anybody(query), .. }) if *error == DialFailure::Denied => {
                self.address_denied(now, *query);
            }
            Some(Dial { target: DialTarget::Anybody(query), .. }) => {
                self.address_outcomes.push_back(AddressOutcome { query: *query, result: Err(error.clone()) });
            }
            // The connection that there is stays as it is.
            Some(Dial { target: DialTarget::Beside(_), .. }) => {}
            Some(dial @ Dial { target: DialTarget::Peer(peer), .. }) => {
                self.own_dial_failed(now, *peer, dial, error)
            }
            None => {
                if let Some(known) = peer.and_then(|peer| self.known.get_mut(&peer))
                    && known.link == Link::Awaiting
                {
                    // Somebody else failed, perhaps with other addresses than ours.
                    known.link = Link::Idle;
                }
            }
        }
        if let Some(peer) = peer.or(dial.and_then(|dial| dial.target.peer())) {
            self.serve(now, peer, out);
        }
        self.fill_slots(now, out);
    }

    /// A dial to a peer has failed: the addresses that were not tried are next, those that have arrived since included.
    pub(super) fn own_dial_failed(&mut self, now: Instant, peer: PeerId, dial: &Dial, error: &DialFailure) {
        let Some(known) = self.known.get_mut(&peer).filter(|known| known.link == Link::Dialling) else {
            return;
        };
        let Some(attempt) = self.dials.attempt(&peer) else {
            return;
        };
        match error {
            DialFailure::UnderWay => {
                if attempt.open == 0 {
                    known.link = Link::Awaiting;
                    self.dials.give_up_peer(peer);
                }
                return;
            }
            DialFailure::Denied => return self.denied(now, peer, dial),
            DialFailure::WrongPeer { address, .. } | DialFailure::Own { address } => {
                // Whoever lied about one address need not have lied about the others, of which nothing was heard. If it is
                // none of those that were dialled, they are used up all the same: an attempt ends.
                if dial.addresses.contains(address) {
                    attempt.untry(&dial.addresses);
                    attempt.tried.push(address.clone());
                    if known.is_hearsay(address) {
                        attempt.hearsay.push(address.clone());
                    }
                }
                attempt.is_to_blame |= matches!(error, DialFailure::WrongPeer { .. });
                known.forget_address(address);
            }
            DialFailure::Unreachable { unsupported, .. } => {
                let is_supported = |address: &&Multiaddr| !unsupported.contains(address);
                let silent = dial.addresses.iter().filter(is_supported);
                attempt.is_to_blame |= unsupported.is_empty() || silent.clone().next().is_some();
                silent.for_each(|address| known.failed_at(address));
                attempt.untry(unsupported);
                unsupported.iter().for_each(|address| known.forget_address(address));
            }
            DialFailure::Refused | DialFailure::NoAddresses => {}
        }
        self.go_on(now, peer, error);
    }

    /// Goes on with the next addresses, or ends an attempt that has no more.
    fn go_on(&mut self, now: Instant, peer: PeerId, error: &DialFailure) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let Some(attempt) = self.dials.attempt(&peer) else {
            return;
        };
        let (is_open, is_to_blame) = (attempt.open > 0, attempt.is_to_blame);
        let has_more = !next_batch(known, Some(attempt), (self.diversity.as_ref(), &self.bans)).is_empty();
        if has_more && *error != DialFailure::Refused {
            return self.dials.wait_for_more(peer);
        }
        if is_open {
            return;
        }
        self.dials.give_up_peer(peer);
        known.link = Link::Idle;
        let error = if is_to_blame {
            RequestError::Unreachable
        } else if matches!(error, DialFailure::Unreachable { .. }) {
            // This node has no transport for any of them.
            RequestError::NoAddresses
        } else {
            error.request_error()
        };
        if is_to_blame {
            known.failed(now, self.last_answer);
        }
        self.fail_waiting(&peer, error);
    }

    /// The program does not let a dial to a peer through: neither the peer nor a requester that waits for it is at fault.
    fn denied(&mut self, now: Instant, peer: PeerId, dial: &Dial) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        known.denied();
        let is_blocked = known.is_blocked(now);
        if let Some(attempt) = self.dials.attempt(&peer) {
            attempt.untry(&dial.addresses);
            if attempt.open > 0 {
                return self.dials.follow(now, peer);
            }
        }
        self.dials.give_up_peer(peer);
        if is_blocked {
            known.link = Link::Idle;
            return self.fail_waiting(&peer, RequestError::DialRefused);
        }
        known.link = Link::Queued;
        self.dials.wait_again(now, DialTarget::Peer(peer), self.request_timeout);
    }

    /// The program does not let a dial to an address through.
    pub(super) fn address_denied(&mut self, now: Instant, query: QueryId) {
        if !self.dials.wait_again(now, DialTarget::Anybody(query), self.request_timeout) {
            self.address_outcomes.push_back(AddressOutcome { query, result: Err(DialFailure::Denied) });
        }
    }

    /// The program has let a connection to a peer through, which may show that another is blocked.
    pub(super) fn let_through(&mut self, now: Instant, peer: &PeerId, is_own: bool) {
        let Some(suspect) = self.dials.let_through(peer, is_own) else {
            return;
        };
        let Some(known) = self.known.get_mut(&suspect) else {
            return;
        };
        let Some(until) = known.denied_alone(now) else {
            return;
        };
        if known.link == Link::Queued {
            known.link = Link::Idle;
            self.dials.give_up_peer(suspect);
        }
        self.fail_waiting(&suspect, RequestError::DialRefused);
        self.blocked.block(suspect, until);
    }

    /// Nobody waits for a dial any more, whose addresses have not answered in all that time.
    pub(super) fn give_up(&mut self, peer: PeerId) {
        let tried = self.dials.give_up_peer(peer).map(|attempt| attempt.tried).unwrap_or_default();
        if let Some(known) = self.known.get_mut(&peer) {
            tried.iter().for_each(|address| known.failed_at(address));
        }
    }

    /// Gives back the slot of a dial to an address that nobody waits for any more.
    pub(in crate::dht) fn forget_address(&mut self, now: Instant, query: QueryId, out: &mut Outputs) {
        self.dials.give_up_query(query);
        self.fill_slots(now, out);
    }

    /// Gives back the slots of dials that have taken too long, and sees which peers may be dialled again.
    pub(super) fn expire_dials(&mut self, now: Instant, relieved: &mut Vec<PeerId>) {
        let timeout = self.request_timeout;
        while let Some((id, _)) =
            self.dials.oldest().filter(|(_, since)| crate::time::after(*since, timeout) <= now)
        {
            self.expire_dial(id, relieved);
        }
        self.dials.handle_timeout(now);
        self.blocked.handle_timeout(now);
    }

    fn expire_dial(&mut self, id: DialId, relieved: &mut Vec<PeerId>) {
        let Some(dial) = self.dials.end(id, EndedDial::Silent) else {
            return;
        };
        let peer = match dial.target {
            DialTarget::Anybody(query) => {
                let failure = DialFailure::unreachable(Unreached::Silent);
                return self.address_outcomes.push_back(AddressOutcome { query, result: Err(failure) });
            }
            // The connection that there is stays as it is.
            DialTarget::Beside(_) => return,
            DialTarget::Peer(peer) => peer,
        };
        let Some(known) = self.known.get_mut(&peer).filter(|known| known.link == Link::Dialling) else {
            return;
        };
        dial.addresses.iter().for_each(|address| known.failed_at(address));
        if self.dials.attempt(&peer).is_none_or(|attempt| attempt.open == 0) {
            // Those who began to wait later get a dial of their own.
            known.link = Link::Idle;
            self.dials.give_up_peer(peer);
            relieved.push(peer);
        }
    }

    /// Returns what the program's denials have shown since it was asked last.
    pub(in crate::dht) fn next_block_event(&mut self) -> Option<BlockEvent> {
        self.blocked.next_event()
    }
}
