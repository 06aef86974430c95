//! Links: what becomes of a peer when a connection comes or goes, which one something is asked on, and what is done about those
//! through which nothing comes.
//!
//! Knows which requests are on which connection, but not for whom they are made.

use std::net::IpAddr;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::Peers;
use super::connections::{Act, DueConnections};
use super::dials::{Dial, DialTarget, EndedDial};
use super::known::{Known, Link, Protocol};
use super::outcome::{AddressOutcome, Requester};
use super::queue::RequestRefusal;
use super::requests::{PendingRequest, Sent};
use crate::addrs::{ConnectionOrigin, Groups, Reach, is_relayed};
use crate::dht::io::{ConnectionId, DialId, Output, Outputs, RequestId};
use crate::error::RequestError;
use crate::message::{MessageType, Request};
use crate::peer::PackedPeerId;
use crate::time::{Duration, Instant, after};

/// So many peers are dialled beside silent connections at once; others wait for a second (chosen, not measured).
const MAX_BESIDE: usize = 4;

/// When there was no slot for a dial beside a silent connection, it is tried again after this time (chosen, not
/// measured).
const SLOT_AGAIN: Duration = Duration::from_secs(1);

/// What is left of a peer's connections when one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Remaining {
    Others,
    /// That was the last one; whether anything had not been answered.
    Nothing {
        was_busy: bool,
        /// Whether it was not closed for being idle.
        unexpected: bool,
    },
}

impl Peers {
    /// A connection is there.
    pub(in crate::dht) fn connected(
        &mut self,
        now: Instant,
        (peer, connection): (PeerId, ConnectionId),
        (address, located, dialled): (&Multiaddr, &Multiaddr, bool),
        dial: Option<DialId>,
        out: &mut Outputs,
    ) {
        let groups = self.diversity.as_ref().map_or_else(Groups::default, |rules| rules.groups(located));
        let known = self.remember(now, peer);
        known.link = Link::Connected;
        // Who comes through a relay that is near may be anywhere.
        known.reach = if dialled || !is_relayed(located) { Reach::of(located) } else { Reach::World };
        known.groups = groups;
        known.failures = None;
        known.trouble = None;
        known.is_fresh = true;
        known.has_claims = false;
        if dialled {
            known.addresses = known.addresses.preferring(address).shared_with(&known.hints);
            known.worked_at(address);
            known.learnt();
        }
        let dial = dial.and_then(|id| self.dials.end(id, EndedDial::Connected(now)));
        // Whatever becomes of a dial of ours, nobody waits for it any more.
        self.dials.give_up_peer(peer);
        if dialled || dial.is_some() {
            self.let_through(now, &peer, dial.is_some());
        }
        if let Some(Dial { target: DialTarget::Anybody(query), .. }) = dial {
            self.address_outcomes.push_back(AddressOutcome { query, result: Ok(peer) });
        }
        self.opened(now, &peer, (connection, ConnectionOrigin::of(located)), out);
        self.serve(now, peer, out);
        self.settle_doubts(now, peer, out);
        self.fill_slots(now, out);
        if let Some(dial) = dial {
            self.estimator.dialled(now.saturating_duration_since(dial.since).saturating_sub(self.late));
        }
    }

    /// Returns whether a peer is a member of the network, and neither it nor where it is connected from is banned.
    pub(in crate::dht) fn admits(&self, peer: &PeerId) -> bool {
        if self.bans.is_idle() {
            return true;
        }
        self.bans.admits(peer) && !self.ips(peer).any(|ip| self.bans.has_banned(ip))
    }

    /// Returns where the connections of a peer come from, the latest first.
    pub(in crate::dht) fn origins(&self, peer: &PeerId) -> impl Iterator<Item = &ConnectionOrigin> {
        self.get(peer).into_iter().flat_map(|known| known.connections.origins())
    }

    /// Returns the IP addresses from which a peer is connected, as far as they are known, the latest first.
    pub(in crate::dht) fn ips(&self, peer: &PeerId) -> impl Iterator<Item = IpAddr> {
        self.origins(peer).filter_map(|origin| match origin {
            ConnectionOrigin::Ip(ip) => Some(*ip),
            ConnectionOrigin::Unknown | ConnectionOrigin::Local | ConnectionOrigin::Relay(_) => None,
        })
    }

    /// Returns whether a peer has one connection only, and into which groups it counts by that.
    pub(in crate::dht) fn only_groups(&self, peer: &PeerId) -> Option<Groups> {
        let known = self.get(peer)?;
        (known.connections.iter().count() == 1).then_some(known.groups)
    }

    /// A server claims addresses, and nothing shows that it is at any of them: it is dialled there, once, beside its connection.
    pub(in crate::dht) fn prove(&mut self, now: Instant, peer: PeerId, out: &mut Outputs) {
        let Some(known) = self.known.get(&peer).filter(|known| known.is_unproven()) else {
            return;
        };
        let addresses = self.first_batch(known);
        let has_slot = self.dials.num_beside() < MAX_BESIDE && self.dials.has_slot(now);
        if known.protocol != Protocol::Confirmed
            || addresses.is_empty()
            || !has_slot
            || self.dials.is_beside(&peer)
        {
            return;
        }
        let id = self.dials.begin(now, DialTarget::Beside(peer), addresses.clone());
        out.push_back(Output::Dial { id, peer: Some(peer), addresses, beside: true });
    }

    /// Returns the peers of which anything is remembered that are not admitted any more.
    pub(in crate::dht) fn banned(&self) -> Vec<PeerId> {
        self.known.ids().filter(|peer| !self.admits(peer)).collect()
    }

    /// A peer is not admitted any more: what was asked of it has failed, and its connections are closed if that is wanted.
    pub(in crate::dht) fn shut_out(
        &mut self,
        now: Instant,
        peer: PeerId,
        disconnects: bool,
        out: &mut Outputs,
    ) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let connections: Vec<_> = known.connections.iter().collect();
        (known.addresses, known.hints, known.trusted) = Default::default();
        known.worked = false;
        let requests: Vec<_> =
            known.queue.take_in_flight(|_| true).into_iter().chain(known.queue.take_waiting()).collect();
        for id in requests {
            if let Some(Sent { on, .. }) = self.requests.get(id).and_then(|pending| pending.sent) {
                out.push_back(Output::CancelRequest { to: peer, connection: on, id });
            }
            self.finish(id, Err(RequestError::Banned));
        }
        for connection in connections.into_iter().filter(|_| disconnects) {
            out.push_back(Output::CloseConnection { peer, connection });
            self.disconnected(now, peer, connection, out);
        }
    }

    /// A connection is new: what is on those through which nothing comes moves to it.
    fn opened(
        &mut self,
        now: Instant,
        peer: &PeerId,
        (id, origin): (ConnectionId, ConnectionOrigin),
        out: &mut Outputs,
    ) {
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        if known.connections.contains(id) {
            // Its address has changed.
            known.connections.located(id, origin);
            return;
        }
        known.connections.add(now, id);
        known.connections.located(id, origin);
        for silent in known.connections.doubted().collect::<Vec<_>>() {
            self.move_requests(peer, silent, out);
        }
    }

    /// A connection is gone: what was not answered goes to another one that there is, or waits for a new one, once. Returns
    /// what is left.
    pub(in crate::dht) fn disconnected(
        &mut self,
        now: Instant,
        peer: PeerId,
        connection: ConnectionId,
        out: &mut Outputs,
    ) -> Remaining {
        let second = self.known.second(now);
        let ends_unexpectedly = |known: &Known| known.connections.ends_unexpectedly(now, connection);
        let unexpected = self.known.get(&peer).is_some_and(ends_unexpectedly);
        if !self.closed(&peer, connection) {
            // It counts as ended already; only its place in the program was taken until now.
            self.dials.end_pause();
            self.fill_slots(now, out);
            return Remaining::Others;
        }
        let Some(known) = self.known.get_mut(&peer) else {
            return Remaining::Others;
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
        if is_last { Remaining::Nothing { was_busy, unexpected } } else { Remaining::Others }
    }

    /// A connection is gone, and not looked at any more. Returns whether it was there.
    pub(super) fn closed(&mut self, peer: &PeerId, id: ConnectionId) -> bool {
        let gone = self.known.get_mut(peer).and_then(|known| known.connections.remove(id));
        if let Some(due) = gone.as_ref().and_then(|connection| connection.due) {
            self.due.remove(&(due, id, PackedPeerId::from(peer)));
        }
        gone.is_some()
    }

    /// One of several connections ended: what went down with it goes to another, as often as that happens, which is no more
    /// often than the peer makes connections. Returns whether it does.
    fn send_elsewhere(&mut self, id: RequestId) -> bool {
        if self.requests.get(id).is_none_or(|pending| pending.requester == Requester::Liveness) {
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
        let may_be =
            |pending: &&mut PendingRequest| !pending.sent_anew && pending.requester != Requester::Liveness;
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

    /// Takes note that a request is being sent on the best connection to its peer, and returns that.
    pub(super) fn send_on(&mut self, now: Instant, peer: &PeerId, id: RequestId) -> Option<ConnectionId> {
        let known = self.known.get_mut(peer)?;
        let patience = patience(known, self.patience);
        let on = known.connections.best()?;
        let pending = self.requests.send(id, Sent { at: now, stood_still: self.stood_still, on })?;
        if pending.request.is_answered() {
            known.connections.asked(now, on, patience);
            watch(&mut self.due, known, peer, on);
        }
        Some(on)
    }

    /// Something has come through a connection; whichever is dead beside it is closed.
    pub(in crate::dht) fn heard_on(
        &mut self,
        now: Instant,
        peer: &PeerId,
        on: ConnectionId,
        out: &mut Outputs,
    ) {
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        let dead = known.connections.heard(now, on);
        if let Some(due) = known.connections.put_off(on, None).flatten() {
            self.due.remove(&(due, on, PackedPeerId::from(peer)));
        }
        watch(&mut self.due, known, peer, on);
        for dead in dead {
            self.close(now, *peer, dead, out);
        }
    }

    /// Closes a dead connection; what is on it moves to another.
    fn close(&mut self, now: Instant, peer: PeerId, dead: ConnectionId, out: &mut Outputs) {
        tracing::debug!(%peer, "nothing comes through a connection, but through another one: it is closed");
        self.move_requests(&peer, dead, out);
        out.push_back(Output::CloseConnection { peer, connection: dead });
        self.disconnected(now, peer, dead, out);
    }

    /// Sees to it that a connection is looked at when it is to be.
    fn watch(&mut self, peer: &PeerId, id: ConnectionId) {
        if let Some(known) = self.known.get_mut(peer) {
            watch(&mut self.due, known, peer, id);
        }
    }

    /// Does what is due about connections.
    pub(super) fn look_at_connections(&mut self, now: Instant, out: &mut Outputs) {
        while self.due.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, id, packed)) = self.due.pop_first() else {
                return;
            };
            let peer = packed.unpacked();
            let act = self.known.get_mut(&peer).and_then(|known| {
                known.connections.put_off(id, None);
                if known.protocol == Protocol::Unsupported {
                    known.connections.rest(now, id);
                }
                known.connections.on_timeout(now, id)
            });
            match act {
                Some(Act::Check) => self.send_check(now, peer, id, out),
                Some(Act::TurnAway) => self.try_another(now, peer, id, out),
                None => {}
            }
            self.watch(&peer, id);
        }
    }

    /// Asks something that any server answers, on this very connection.
    fn send_check(&mut self, now: Instant, peer: PeerId, on: ConnectionId, out: &mut Outputs) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let request = Request::FindNode { key: Bytes::from(peer.to_bytes()) };
        let deadline = after(now, self.request_timeout);
        let id = self.requests.add(peer, Requester::Liveness, request.clone(), deadline);
        known.queue.push_in_flight(id);
        self.requests.send(id, Sent { at: now, stood_still: self.stood_still, on });
        out.push_back(Output::SendRequest { to: peer, connection: on, id, request });
    }

    /// Turns to another connection, or dials the peer beside the silent one.
    fn try_another(&mut self, now: Instant, peer: PeerId, silent: ConnectionId, out: &mut Outputs) {
        let Some(known) = self.known.get(&peer) else {
            return;
        };
        if known.connections.is_outlived(silent) {
            return self.close(now, peer, silent, out);
        }
        if known.connections.is_any_undoubted() {
            self.move_requests(&peer, silent, out);
            self.serve(now, peer, out);
            return self.settle_doubts(now, peer, out);
        }
        let (addresses, pause) = (self.first_batch(known), known.connections.pause(now));
        if addresses.is_empty() || known.connections.is_enough() || self.dials.is_beside(&peer) {
            return;
        }
        let has_slot = self.dials.num_beside() < MAX_BESIDE && self.dials.has_slot(now);
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        if let Some(until) = pause {
            return known.connections.try_again_at(silent, until, false);
        }
        if !has_slot {
            return known.connections.try_again_at(silent, after(now, SLOT_AGAIN), true);
        }
        known.connections.dialled_beside(now);
        tracing::debug!(%peer, "nothing comes through a connection; it is dialled beside it");
        let id = self.dials.begin(now, DialTarget::Beside(peer), addresses.clone());
        out.push_back(Output::Dial { id, peer: Some(peer), addresses, beside: true });
    }

    /// Sees to it that something is asked on a connection beside those through which nothing comes: the answer shows that they
    /// are dead.
    pub(super) fn settle_doubts(&mut self, now: Instant, peer: PeerId, out: &mut Outputs) {
        let known = self.known.get_mut(&peer).filter(|known| known.protocol != Protocol::Unsupported);
        if let Some(asked) = known.and_then(|known| known.connections.settle(now)) {
            self.send_check(now, peer, asked, out);
            self.watch(&peer, asked);
        }
    }

    /// Lets the requests on a connection wait for another, each once and under a new number: whatever is still heard of
    /// them there is too late.
    fn move_requests(&mut self, peer: &PeerId, from: ConnectionId, out: &mut Outputs) {
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        let requests = &self.requests;
        let on_it = known.queue.take_in_flight(|id| {
            requests.get(id).is_some_and(|pending| {
                pending.requester != Requester::Liveness && !pending.retried && pending.is_on(from)
            })
        });
        for id in on_it.into_iter().rev() {
            out.push_back(Output::CancelRequest { to: *peer, connection: from, id });
            if let Some(id) = self.requests.renumber(id) {
                self.retry_or_fail(id);
            }
        }
    }

    /// Sets whether the connections to a peer are kept, or tells a new one of it.
    pub(in crate::dht) fn keep(
        &mut self,
        now: Instant,
        peer: PeerId,
        keep: bool,
        new: Option<ConnectionId>,
        out: &mut Outputs,
    ) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let is_news = known.connections.keep(now, keep, self.own.peer < peer);
        for connection in known.connections.iter().collect::<Vec<_>>() {
            if is_news || new == Some(connection) {
                out.push_back(Output::KeepAlive { peer, connection, keep });
                self.watch(&peer, connection);
            }
        }
    }

    /// A peer has ended the stream of a request instead of answering. Returns the request's error; `None` if it was asked too much
    /// at once, and is to be asked again.
    pub(super) fn refused(&mut self, now: Instant, id: RequestId) -> Option<RequestError> {
        let pending = self.requests.get_mut(id).filter(|pending| pending.requester != Requester::Liveness);
        let known = pending.as_ref().and_then(|pending| self.known.get_mut(&pending.to));
        let (Some(pending), Some(known)) = (pending, known) else {
            return Some(RequestError::StreamEnded);
        };
        // A value may be refused for what it is, and an announcement is not answered.
        let may_be_load = match pending.request.message_type() {
            MessageType::FindNode | MessageType::GetValue | MessageType::GetProviders | MessageType::Ping => {
                true
            }
            MessageType::PutValue | MessageType::AddProvider => false,
        };
        let Some(sent) = pending.sent.filter(|_| may_be_load) else {
            return Some(RequestError::StreamEnded);
        };
        let (to, refusal) = (pending.to, known.queue.refused(now, id, sent.at, pending.refused));
        let paused_until = known.queue.paused_until(now);
        match refusal {
            RequestRefusal::Final => {
                if paused_until.is_some() {
                    // It has answered nothing, however little it was asked: what waits would be refused, too.
                    self.fail_waiting(&to, RequestError::StreamEnded);
                }
                Some(RequestError::StreamEnded)
            }
            RequestRefusal::Busy | RequestRefusal::Again => {
                self.paused.insert((paused_until.unwrap_or(now), to));
                if refusal == RequestRefusal::Busy {
                    return Some(RequestError::Refused);
                }
                pending.refused = true;
                pending.sent = None;
                None
            }
        }
    }

    /// Requests go on to the peers whose pauses are over.
    pub(super) fn end_pauses(&mut self, now: Instant, relieved: &mut Vec<PeerId>) {
        while self.paused.first().is_some_and(|(at, _)| *at <= now) {
            relieved.extend(self.paused.pop_first().map(|(_, peer)| peer));
        }
    }

    /// Checks the connections to a peer now.
    pub(in crate::dht) fn check(&mut self, now: Instant, peer: PeerId, out: &mut Outputs) {
        let known = self.known.get_mut(&peer).filter(|known| known.protocol != Protocol::Unsupported);
        let Some(known) = known else {
            return;
        };
        for connection in known.connections.check(now) {
            self.send_check(now, peer, connection, out);
            self.watch(&peer, connection);
        }
    }
}

/// Returns how long an answer of a peer is waited for before its connection is doubted: usually so long.
fn patience(known: &Known, usually: Duration) -> Duration {
    known.rtt.usual().map_or(usually, |usual| usual.max(usually))
}

/// Sees to it that a connection of a peer that is known is looked at when it is to be; earlier does no harm.
fn watch(due: &mut DueConnections, known: &mut Known, peer: &PeerId, id: ConnectionId) {
    let Some(at) = known.connections.deadline(id) else {
        return;
    };
    if known.connections.due(id).is_some_and(|due| due <= at) {
        return;
    }
    if let Some(before) = known.connections.put_off(id, Some(at)) {
        let packed = PackedPeerId::from(peer);
        if let Some(before) = before {
            due.remove(&(before, id, packed.clone()));
        }
        due.insert((at, id, packed));
    }
}
