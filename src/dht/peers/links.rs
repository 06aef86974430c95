//! Links: what becomes of a peer when a connection comes or goes, or a dial fails.
//!
//! Knows which requests wait for a connection, but not for whom they are made.

use std::collections::VecDeque;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::dials::{Dial, Ended, Whom};
use super::requests::Pending;
use super::{Link, Met, Owner, Peers, Protocol};
use crate::addrs::{IpGroup, Reach};
use crate::dht::io::{ConnectionId, DialFailure, DialId, Output, RequestId};
use crate::event::QueryId;
use crate::time::Instant;

/// What is left of a peer's connections when one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Left {
    Others,
    /// That was the last one; whether anything had not been answered.
    Nothing {
        was_busy: bool,
        /// Whether it was not closed for being idle.
        unexpected: bool,
    },
}

impl Peers {
    /// Connects to an address, whoever is there.
    pub(in crate::dht) fn dial_address(
        &mut self,
        now: Instant,
        query: QueryId,
        address: Multiaddr,
        out: &mut VecDeque<Output>,
    ) {
        self.dials.wait_for_address(now, query, address);
        self.fill_slots(now, out);
    }

    /// Begins dials as long as there are slots.
    pub(super) fn fill_slots(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        while let Some(whom) = self.dials.next(now) {
            match whom {
                Whom::Peer(peer) => self.dial_peer(now, peer, out),
                Whom::Anybody(query) => {
                    if let Some(address) = self.dials.address(query) {
                        let addresses = vec![address];
                        let id = self.dials.begin(now, whom, addresses.clone());
                        out.push_back(Output::Dial { id, peer: None, addresses, beside: false });
                    }
                }
                // It does not wait: it begins at once or later.
                Whom::Beside(_) => {}
            }
        }
    }

    /// A connection is there.
    pub(in crate::dht) fn connected(
        &mut self,
        now: Instant,
        (peer, connection): (PeerId, ConnectionId),
        (address, dialled): (&Multiaddr, bool),
        dial: Option<DialId>,
        out: &mut VecDeque<Output>,
    ) {
        let exempt = self.group(address);
        let known = self.remember(now, peer);
        known.link = Link::Connected;
        known.reach = Reach::of(address);
        known.group = exempt;
        known.backoff = None;
        known.trouble = None;
        known.is_fresh = true;
        if dialled {
            known.addresses = known.addresses.preferring(address).shared_with(&known.hints);
            known.worked_at(address);
            known.learnt();
        }
        let dial = dial.and_then(|id| self.dials.end(id, Ended::Connected(now)));
        // Whatever becomes of a dial of ours, nobody waits for it any more.
        self.dials.give_up_peer(peer);
        if dialled || dial.is_some() {
            self.let_through(now, &peer, dial.is_some());
        }
        if let Some(Dial { whom: Whom::Anybody(query), .. }) = dial {
            self.met.push_back(Met { query, result: Ok(peer) });
        }
        self.opened(now, &peer, connection, out);
        self.serve(now, peer, out);
        self.settle_doubts(now, peer, out);
        self.fill_slots(now, out);
        if let Some(dial) = dial {
            self.estimator.dialled(now.saturating_duration_since(dial.since));
        }
    }

    /// Returns the IP group of the address at which a connection was made, if it is not exempt.
    fn group(&self, address: &Multiaddr) -> Option<IpGroup> {
        let diversity = self.diversity.as_ref()?;
        let exempt = crate::addrs::ip_of(address).is_some_and(|ip| diversity.is_exempt(ip));
        if exempt { None } else { IpGroup::of(address) }
    }

    /// A connection is gone: what was not answered goes to another one that there is, or waits for a new one, once. Returns
    /// what is left.
    pub(in crate::dht) fn disconnected(
        &mut self,
        now: Instant,
        peer: PeerId,
        connection: ConnectionId,
        out: &mut VecDeque<Output>,
    ) -> Left {
        let second = self.known.second(now);
        let ends_unexpectedly = |known: &super::Known| known.connections.ends_unexpectedly(now, connection);
        let unexpected = self.known.get(&peer).is_some_and(ends_unexpectedly);
        if !self.closed(&peer, connection) {
            // It counts as ended already; only its place in the program was taken until now.
            self.dials.end_pause();
            self.fill_slots(now, out);
            return Left::Others;
        }
        let Some(known) = self.known.get_mut(&peer) else {
            return Left::Others;
        };
        let is_last = known.connections.is_empty();
        if is_last {
            known.link = Link::Idle;
            if matches!(known.protocol, Protocol::Unsupported | Protocol::Doubted) {
                known.protocol = Protocol::Lapsed;
            }
        }
        known.heard_of(second);
        // Until now it was there.
        known.learnt();
        let is_fresh = known.is_fresh && is_last;
        let has_another = known.connections.is_any_undoubted();
        let requests = &self.requests;
        let interrupted = known.queue.take_in_flight(|id| {
            is_last || requests.get(id).is_some_and(|pending| pending.is_on(connection))
        });
        let was_busy = !interrupted.is_empty();
        for id in interrupted.into_iter().rev() {
            if !(has_another && self.send_elsewhere(id) || is_fresh && self.send_anew(id)) {
                self.retry_or_fail(id);
            }
        }
        self.dials.end_pause();
        self.serve(now, peer, out);
        self.fill_slots(now, out);
        if is_last { Left::Nothing { was_busy, unexpected } } else { Left::Others }
    }

    /// One of several connections ended: what went down with it goes to another, as often as that happens, which is no more
    /// often than the peer makes connections. Returns whether it does.
    fn send_elsewhere(&mut self, id: RequestId) -> bool {
        if self.requests.get(id).is_none_or(|pending| pending.owner == Owner::Pulse) {
            return false;
        }
        let Some(id) = self.requests.renumber(id) else {
            return false;
        };
        if let Some(pending) = self.requests.get_mut(id) {
            pending.sent = None;
            let to = pending.to;
            if let Some(known) = self.known.get_mut(&to) {
                known.queue.push_front(id);
            }
        }
        true
    }

    /// A connection ended before it brought anything: what went down with it waits for another, without having been
    /// retried. Returns whether it does; it is done once.
    fn send_anew(&mut self, id: RequestId) -> bool {
        let may_be = |pending: &&mut Pending| !pending.sent_anew && pending.owner != Owner::Pulse;
        let Some(pending) = self.requests.get_mut(id).filter(may_be) else {
            return false;
        };
        pending.sent_anew = true;
        pending.sent = None;
        if let Some(known) = self.known.get_mut(&pending.to) {
            known.queue.push_front(id);
        }
        true
    }

    /// A dial has failed: one of this node, or of somebody else to a peer that is waited for.
    pub(in crate::dht) fn dial_failed(
        &mut self,
        now: Instant,
        dial: Option<DialId>,
        peer: Option<PeerId>,
        error: &DialFailure,
        out: &mut VecDeque<Output>,
    ) {
        let (id, dial) = (dial, dial.and_then(|id| self.dials.end(id, Ended::Failed(error))));
        if let (DialFailure::Denied, Some(id), Some(dial)) = (error, id, &dial)
            // That no second connection to a peer is let through says nothing of first ones.
            && !matches!(dial.whom, Whom::Beside(_))
        {
            self.dials.denied(now, id, dial.whom);
        }
        match &dial {
            Some(Dial { whom: Whom::Anybody(query), .. }) if *error == DialFailure::Denied => {
                self.address_denied(now, *query);
            }
            Some(Dial { whom: Whom::Anybody(query), .. }) => {
                self.met.push_back(Met { query: *query, result: Err(error.clone()) });
            }
            // The connection that there is stays as it is.
            Some(Dial { whom: Whom::Beside(_), .. }) => {}
            Some(dial @ Dial { whom: Whom::Peer(peer), .. }) => self.own_dial_failed(now, *peer, dial, error),
            None => {
                if let Some(known) = peer.and_then(|peer| self.known.get_mut(&peer))
                    && known.link == Link::Awaiting
                {
                    // Somebody else failed, perhaps with other addresses than ours.
                    known.link = Link::Idle;
                }
            }
        }
        if let Some(peer) = peer.or(dial.and_then(|dial| dial.whom.peer())) {
            self.serve(now, peer, out);
        }
        self.fill_slots(now, out);
    }

    /// Gives back the slot of a dial to an address that nobody waits for any more.
    pub(in crate::dht) fn forget_address(
        &mut self,
        now: Instant,
        query: QueryId,
        out: &mut VecDeque<Output>,
    ) {
        self.dials.give_up_query(query);
        self.fill_slots(now, out);
    }
}
