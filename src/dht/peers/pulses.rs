//! Pulses: which connection something is asked on, and what is done about those through which nothing comes.
//!
//! Knows which requests are on which connection, but not for whom they are made.

use std::collections::VecDeque;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::connections::Act;
use super::dials::Whom;
use super::{Known, Owner, Peers, Protocol};
use crate::dht::io::{ConnectionId, Output, RequestId};
use crate::message::Request;
use crate::peer::PackedPeerId;
use crate::time::{Duration, Instant, after};

/// So many peers are dialled beside silent connections at once; others wait for a second.
const MAX_BESIDE: usize = 4;

/// When there was no slot for a dial beside a silent connection, it is tried again after this time.
const SLOT_AGAIN: Duration = Duration::from_secs(1);

impl Peers {
    fn patience(&self, known: &Known) -> Duration {
        known.rtt.usual().map_or(self.patience, |usual| usual.max(self.patience))
    }

    /// Takes note that a request is being sent on the best connection to its peer, and returns that.
    pub(super) fn send_on(&mut self, now: Instant, peer: &PeerId, id: RequestId) -> Option<ConnectionId> {
        let patience = self.patience(self.known.get(peer)?);
        let known = self.known.get_mut(peer)?;
        let on = known.connections.best()?;
        let pending = self.requests.send(id, now, on)?;
        if pending.request.is_answered() {
            known.connections.asked(now, on, patience);
            self.watch(peer, on);
        }
        Some(on)
    }

    /// Something has come through a connection; whichever is dead beside it is closed.
    pub(in crate::dht) fn heard_on(
        &mut self,
        now: Instant,
        peer: &PeerId,
        on: ConnectionId,
        out: &mut VecDeque<Output>,
    ) {
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        let dead = known.connections.heard(now, on);
        if let Some(due) = known.connections.put_off(on, None).flatten() {
            self.due.remove(&(due, on, PackedPeerId::from(peer)));
        }
        self.watch(peer, on);
        for dead in dead {
            self.close(now, *peer, dead, out);
        }
    }

    /// Closes a dead connection; what is on it moves to another.
    fn close(&mut self, now: Instant, peer: PeerId, dead: ConnectionId, out: &mut VecDeque<Output>) {
        tracing::debug!(%peer, "nothing comes through a connection, but through another one: it is closed");
        self.move_requests(&peer, dead, out);
        out.push_back(Output::CloseConnection { peer, connection: dead });
        self.disconnected(now, peer, dead, out);
    }

    /// Sees to it that a connection is looked at when it is to be; earlier does no harm.
    fn watch(&mut self, peer: &PeerId, id: ConnectionId) {
        let Some(known) = self.known.get(peer) else {
            return;
        };
        let Some(at) = known.connections.deadline(id) else {
            return;
        };
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        if known.connections.due(id).is_some_and(|due| due <= at) {
            return;
        }
        if let Some(before) = known.connections.put_off(id, Some(at)) {
            let packed = PackedPeerId::from(peer);
            if let Some(before) = before {
                self.due.remove(&(before, id, packed.clone()));
            }
            self.due.insert((at, id, packed));
        }
    }

    /// Does what is due about connections.
    pub(super) fn look_at_connections(&mut self, now: Instant, out: &mut VecDeque<Output>) {
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
    fn send_check(&mut self, now: Instant, peer: PeerId, on: ConnectionId, out: &mut VecDeque<Output>) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let request = Request::FindNode { key: Bytes::from(peer.to_bytes()) };
        let deadline = after(now, self.request_timeout);
        let id = self.requests.add(peer, Owner::Pulse, request.clone(), deadline);
        known.queue.push_in_flight(id);
        self.requests.send(id, now, on);
        out.push_back(Output::SendRequest { to: peer, connection: on, id, request });
    }

    /// Turns to another connection, or dials the peer beside the silent one.
    fn try_another(&mut self, now: Instant, peer: PeerId, silent: ConnectionId, out: &mut VecDeque<Output>) {
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
        let id = self.dials.begin(now, Whom::Beside(peer), addresses.clone());
        out.push_back(Output::Dial { id, peer: Some(peer), addresses, beside: true });
    }

    /// A connection is new: what is on those through which nothing comes moves to it.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        peer: &PeerId,
        id: ConnectionId,
        out: &mut VecDeque<Output>,
    ) {
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        if known.connections.contains(id) {
            // Its address has changed.
            return;
        }
        known.connections.add(now, id);
        for silent in known.connections.doubted().collect::<Vec<_>>() {
            self.move_requests(peer, silent, out);
        }
    }

    /// Sees to it that something is asked on a connection beside those through which nothing comes: the answer shows that they
    /// are dead.
    pub(super) fn settle_doubts(&mut self, now: Instant, peer: PeerId, out: &mut VecDeque<Output>) {
        let known = self.known.get_mut(&peer).filter(|known| known.protocol != Protocol::Unsupported);
        if let Some(asked) = known.and_then(|known| known.connections.settle(now)) {
            self.send_check(now, peer, asked, out);
            self.watch(&peer, asked);
        }
    }

    /// Lets the requests on a connection wait for another, each once and under a new number: whatever is still heard of
    /// them there is too late.
    fn move_requests(&mut self, peer: &PeerId, from: ConnectionId, out: &mut VecDeque<Output>) {
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        let requests = &self.requests;
        let on_it = known.queue.take_in_flight(|id| {
            requests.get(id).is_some_and(|pending| {
                pending.owner != Owner::Pulse && !pending.retried && pending.is_on(from)
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
        out: &mut VecDeque<Output>,
    ) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let is_news = known.connections.keep(now, keep, self.local < peer);
        for connection in known.connections.iter().collect::<Vec<_>>() {
            if is_news || new == Some(connection) {
                out.push_back(Output::KeepAlive { peer, connection, keep });
                self.watch(&peer, connection);
            }
        }
    }

    /// Checks the connections to a peer now.
    pub(in crate::dht) fn check(&mut self, now: Instant, peer: PeerId, out: &mut VecDeque<Output>) {
        let known = self.known.get_mut(&peer).filter(|known| known.protocol != Protocol::Unsupported);
        let Some(known) = known else {
            return;
        };
        for connection in known.connections.check(now) {
            self.send_check(now, peer, connection, out);
            self.watch(&peer, connection);
        }
    }

    /// A connection is gone, and not looked at any more. Returns whether it was there.
    pub(super) fn closed(&mut self, peer: &PeerId, id: ConnectionId) -> bool {
        let gone = self.known.get_mut(peer).and_then(|known| known.connections.remove(id));
        if let Some(due) = gone.and_then(|connection| connection.due) {
            self.due.remove(&(due, id, PackedPeerId::from(peer)));
        }
        gone.is_some()
    }
}
