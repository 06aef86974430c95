//! What arrives at nodes: connections, requests and responses, and what ends them.

use std::sync::Arc;

use super::{SimEvent, Turn};
use crate::dht::{ConnectionId, DialFailure, DialId, Input, RequestId, Unreached};
use crate::error::RequestError;
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::sim::adversaries::NetworkAt;
use crate::sim::connections::{opened_number, warm_number};
use crate::sim::network::{DEAD_AFTER, protocol};
use crate::sim::nodes::{Life, Refuses, SimNode};
use crate::sim::roles::{Answer, Around};
use crate::time::{Duration, Instant, earliest};

impl Turn<'_> {
    /// A dial has reached the node it was to reach, if that is still there. It is connected then; the other end hears of it.
    ///
    /// If both have dialled at the same time there are two connections, as there are in a swarm.
    pub(super) fn dialled(&mut self, n: usize, dial: DialId, to: usize) {
        if !self.is_alive(n) {
            // It hears of nothing; its own timeout ends the dial.
            return;
        }
        self.note(n, 4, to);
        let (network, now) = (self.network, self.now());
        if !network.nodes.get(to).is_some_and(SimNode::is_alive) || network.is_cut(n, to) {
            if let Some(peer) = self.peer(to) {
                let error = DialFailure::unreachable(Unreached::Silent);
                let input = Box::new(Input::DialFailed { dial: Some(dial), peer: Some(peer), error });
                let life = network.nodes.life(n);
                self.later(n, DEAD_AFTER, SimEvent::Input { life, input });
            }
            return;
        }
        let Some(host) = self.host(n) else {
            return;
        };
        let link = opened_number(n, host.number());
        host.connections.insert(to, link, now);
        // It is there before anything that is sent over it.
        self.send(n, to, Duration::ZERO, SimEvent::Opened { link, by: n });
        self.begin_connection(n, link, to);
        self.tell_connected(n, to, link, true, Some(dial));
    }

    /// Another node has dialled this one, which is gone by now or not.
    pub(super) fn opened(&mut self, n: usize, link: u64, by: usize) {
        let (network, now) = (self.network, self.now());
        let life = network.nodes.get(n).map_or(Life::Frozen, |node| node.life);
        if life != Life::Alive {
            let is_refused = matches!(life, Life::Gone(_, Refuses::AtOnce));
            let delay = if is_refused { self.one_way(n, by) } else { DEAD_AFTER };
            self.send(n, by, delay, SimEvent::Lost { link, other: n });
            return;
        }
        if let Some(host) = self.host(n) {
            host.connections.insert(by, link, now);
            self.begin_connection(n, link, by);
            self.tell_connected(n, by, link, false, None);
        }
        if network.is_cut(n, by) {
            self.later(n, DEAD_AFTER, SimEvent::Lost { link, other: by });
        }
    }

    /// A connection is new at this end: identify asks, and the idle timeout runs.
    fn begin_connection(&mut self, n: usize, link: u64, other: usize) {
        let asked = self.one_way(n, other) * 2;
        self.later(n, asked, SimEvent::Identified { link, by: other });
        self.idle_by(n, self.now() + self.network.links.idle_timeout);
    }

    pub(super) fn tell_connected(
        &mut self,
        n: usize,
        other: usize,
        link: u64,
        dialled: bool,
        dial: Option<DialId>,
    ) {
        let other = self.network.nodes.get(other).map(|node| (node.peer, node.address.clone()));
        if let Some((peer, address)) = other {
            let connection = ConnectionId(link);
            self.input(n, Input::Connected { located: None, peer, connection, address, dialled, dial });
        }
    }

    /// Where all are connected from the beginning, a node learns of a connection when it hears of the other.
    fn meet(&mut self, n: usize, other: usize) {
        if self.network.links.warm
            && n != other
            && self.host(n).is_some_and(|host| host.connections.meet(other))
        {
            self.tell_connected(n, other, warm_number(n, other), false, None);
        }
    }

    pub(super) fn identified(&mut self, n: usize, link: u64, by: usize) {
        let network = self.network;
        let end = self.shard.host(n).and_then(|host| host.connections.get(by, link));
        if end.is_none_or(|end| end.is_dead) || network.is_cut(n, by) {
            return;
        }
        let Some(other) = network.nodes.get(by).filter(|node| node.is_alive()) else {
            return;
        };
        let (peer, mode, addresses) = (other.peer, other.mode, vec![other.address.clone()]);
        self.note(n, 5, by);
        self.input(n, Input::AddressesLearned { peer, addresses });
        self.input(n, protocol(peer, mode));
    }

    /// A connection may be idle then, so that it is looked at.
    pub(in crate::sim) fn idle_by(&mut self, n: usize, at: Instant) {
        let at = at.max(self.now());
        if self.network.links.warm {
            return;
        }
        if let Some(host) = self.host(n)
            && host.idle_at.is_none_or(|known| known > at)
        {
            host.idle_at = Some(at);
            self.schedule(n, at, SimEvent::Idle);
        }
    }

    /// The connections of a node are looked at: those that are idle and that this end does not keep it closes.
    pub(super) fn idle(&mut self, n: usize) {
        let (timeout, now) = (self.network.links.idle_timeout, self.now());
        let is_alive = self.is_alive(n);
        let Some(host) = self.host(n).filter(|host| host.idle_at.is_some_and(|at| at <= now)) else {
            // It is looked for them later, or was already.
            return;
        };
        host.idle_at = None;
        if !is_alive {
            // A machine that stands still closes nothing.
            return;
        }
        let pause = timeout.max(Duration::from_millis(1));
        let (mut next, mut idle) = (None, Vec::new());
        for (other, end) in host.connections.iter_mut().filter(|(_, end)| !end.keep) {
            let at = if end.is_busy() { now + pause } else { end.last_used + timeout };
            if at > now {
                next = earliest(next, Some(at));
            } else {
                idle.push((other, end.link, end.is_dead));
            }
        }
        for (other, link, is_dead) in idle {
            if !is_dead {
                let delay = self.one_way(n, other);
                self.send(n, other, delay, SimEvent::Lost { link, other: n });
            }
            self.lost(n, link, other);
        }
        if let Some(at) = next {
            self.idle_by(n, at);
        }
    }

    /// A connection is gone, and this end notices.
    pub(in crate::sim) fn lost(&mut self, n: usize, link: u64, other: usize) {
        if self.host(n).is_some_and(|host| host.connections.remove(other, link)) {
            self.note(n, 6, other);
            if let Some(peer) = self.peer(other) {
                self.input(n, Input::Disconnected { peer, connection: ConnectionId(link) });
            }
        }
    }

    /// A request that is not answered is out, if the peer speaks the protocol.
    pub(super) fn sent(&mut self, n: usize, (link, to): (u64, usize), id: RequestId) {
        let end = self.host(n).and_then(|host| host.connections.get_mut(to, link));
        if !end.is_some_and(|end| end.close_request(id)) {
            // Nobody waits any more.
            return;
        }
        let is_server = self.network.nodes.get(to).is_some_and(|node| node.mode == Mode::Server);
        self.input(
            n,
            if is_server {
                Input::RequestSent { id }
            } else {
                Input::RequestFailed { id, error: RequestError::Unsupported }
            },
        );
    }

    pub(super) fn deliver_request(
        &mut self,
        n: usize,
        (link, from): (u64, usize),
        id: RequestId,
        request: Request,
    ) {
        let (network, now) = (self.network, self.now());
        let node = network.nodes.get(n).filter(|node| node.is_alive());
        let Some(role) = node.map(|node| Arc::clone(&node.role)) else {
            return;
        };
        if network.is_blocked(from, n) {
            return;
        }
        self.meet(n, from);
        let Some(host) = self.host(n) else {
            return;
        };
        host.connections.begin_use(from, link, now);
        let Some(end) = host.connections.get_mut(from, link) else {
            // As to bytes of a connection that a machine knows nothing of.
            let delay = self.one_way(n, from);
            self.send(n, from, delay, SimEvent::Lost { link, other: n });
            return;
        };
        if end.is_dead {
            return;
        }
        end.last_used = now;
        self.note(n, 7, from);
        let inbound = self.begin_answer(n, (link, from), id);
        let view = NetworkAt { network, now };
        match role.answer(&Around::new(&view, n, from), &request) {
            Answer::ByProtocol => {
                if let Some(peer) = self.peer(from) {
                    let connection = ConnectionId(link);
                    self.input(n, Input::RequestReceived { from: peer, connection, id: inbound, request });
                }
            }
            Answer::Instead(response) => self.send_response(n, inbound, Some(*response)),
            Answer::Refusal => self.send_response(n, inbound, None),
            Answer::Silence => self.end_answer(n, inbound),
        }
    }

    pub(super) fn deliver_response(
        &mut self,
        n: usize,
        (link, from): (u64, usize),
        id: RequestId,
        response: Option<Box<Response>>,
    ) {
        let (network, now) = (self.network, self.now());
        if network.is_blocked(from, n) {
            return;
        }
        let end = self.host(n).and_then(|host| host.connections.get_mut(from, link));
        let Some(end) = end.filter(|end| !end.is_dead) else {
            return;
        };
        end.last_used = now;
        if let Some(Response::AddProvider { key, is_rejected }) = response.as_deref() {
            if let Some(peer) = self.peer(from).filter(|_| *is_rejected) {
                self.input(n, Input::AnnouncementRejected { peer, key: key.clone() });
            }
            return;
        }
        if !end.close_request(id) {
            // Nobody waits any more.
            return;
        }
        self.note(n, 8, from);
        match response {
            Some(response) => {
                if network.links.warm
                    && let Response::FindNode { closer_peers }
                    | Response::GetValue { closer_peers, .. }
                    | Response::GetProviders { closer_peers, .. } = &*response
                {
                    let named = closer_peers.iter().filter_map(|peer| network.nodes.number_of(&peer.node_id));
                    named.for_each(|other| self.meet(n, other));
                }
                self.input(n, Input::ResponseReceived { id, response: *response });
            }
            None => {
                // As negotiation with a client would tell.
                let is_client = network.nodes.get(from).is_some_and(|node| node.mode == Mode::Client);
                let error = if is_client { RequestError::Unsupported } else { RequestError::StreamEnded };
                self.input(n, Input::RequestFailed { id, error });
            }
        }
    }
}
