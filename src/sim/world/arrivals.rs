//! What arrives at nodes: connections, requests and responses, and what ends them.

use std::sync::Arc;

use super::{SimEvent, World};
use crate::dht::{ConnectionId, DialFailure, DialId, Input, RequestId, Unreached};
use crate::error::RequestError;
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::sim::connections::{pair, warm_number};
use crate::sim::measure::ratio;
use crate::sim::network::{DEAD_AFTER, protocol};
use crate::sim::nodes::SimNode;
use crate::sim::progress::{Progress, Stage};
use crate::sim::roles::{Answer, Around};
use crate::time::Duration;

impl World {
    /// A dial arrives at the node it was to reach, if that is still there.
    pub(super) fn dialled(&mut self, from: usize, dial: DialId, to: usize) {
        self.network.note(4, from, to);
        let node = self.network.nodes.get(to);
        let is_there = node.is_some_and(SimNode::is_alive) && !self.network.is_cut(from, to);
        let peer = node.map(|node| node.peer);
        if is_there {
            self.connect(from, to, dial);
        } else if let Some(peer) = peer {
            let error = DialFailure::unreachable(Unreached::Silent);
            let input = Box::new(Input::DialFailed { dial: Some(dial), peer: Some(peer), error });
            let life = self.network.nodes.life(from);
            self.network.queue.later(DEAD_AFTER, SimEvent::Input { to: from, life, input });
        }
    }

    /// Connects two nodes. Each learns the other's address and whether it is a server, as by identify.
    ///
    /// If both have dialled at the same time there are two connections, as there are in a swarm.
    fn connect(&mut self, from: usize, to: usize, dial: DialId) {
        let link = self.network.queue.number();
        self.network.open(from, to, link);
        self.tell_connected(from, to, link, true, Some(dial));
        self.tell_connected(to, from, link, false, None);
        let network = &mut self.network;
        let rtt = network.round_trip(from, to);
        for (who, by) in [(from, to), (to, from)] {
            let time = network.links.one_way(rtt, &mut network.rng) * 2;
            network.queue.later(time, SimEvent::Identified { link, who, by });
        }
        let (a, b) = pair(from, to);
        network.queue.later(network.links.idle_timeout, SimEvent::Idle { link, a, b });
    }

    fn tell_connected(&mut self, n: usize, other: usize, link: u64, dialled: bool, dial: Option<DialId>) {
        let other = self.network.nodes.get(other).map(|node| (node.peer, node.address.clone()));
        if let Some((peer, address)) = other {
            let connection = ConnectionId(link);
            self.input(n, Input::Connected { peer, connection, address, dialled, dial });
        }
    }

    /// Where all are connected from the beginning, a node learns of a connection when it hears of the other.
    fn meet(&mut self, n: usize, other: usize) {
        if !self.network.links.warm || n == other || self.network.nodes.knows(n, other) {
            return;
        }
        if let Some(node) = self.network.nodes.get_mut(n) {
            node.peers.push(other);
            node.most_peers = node.peers.len();
            self.tell_connected(n, other, warm_number(n, other), false, None);
        }
    }

    /// A node has always been connected to another, and has dialled it.
    pub(super) fn meet_ideally(&mut self, n: usize, other: usize) -> Vec<(RequestId, Request)> {
        let network = &mut self.network;
        if network.links.warm {
            if let Some(node) = network.nodes.get_mut(n) {
                node.peers.push(other);
                node.most_peers = node.peers.len();
            }
        } else if !network.connections.is_connected(n, other) {
            let link = network.queue.number();
            network.open(n, other, link);
        }
        let known = network.connections.between(n, other).next();
        let connection = ConnectionId(known.map_or(warm_number(n, other), |connection| connection.number));
        let Some((peer, address)) = network.nodes.get(other).map(|node| (node.peer, node.address.clone()))
        else {
            return Vec::new();
        };
        self.input_alone(n, Input::Connected { peer, connection, address, dialled: true, dial: None })
    }

    /// Those that were connected to without having connected themselves hear of it, and unused connections begin to age; unless
    /// `goes_on` says no meanwhile. Returns what it said last.
    pub(super) fn settle_ideal(&mut self, goes_on: &mut dyn FnMut(&Self, Progress) -> bool) -> bool {
        let all: Vec<_> = self.network.connections.all().collect();
        let count = all.len();
        for (done, ((a, b), link)) in all.into_iter().enumerate() {
            if !goes_on(self, Progress::new(Stage::Connecting, ratio(done, count))) {
                return false;
            }
            for (n, other) in [(a, b), (b, a)] {
                self.tell_connected(n, other, link, false, None);
            }
            let network = &mut self.network;
            let now = network.now();
            if let Some(connection) = network.connections.get_mut(a, b, link) {
                connection.last_used = now;
            }
            network.queue.later(network.links.idle_timeout, SimEvent::Idle { link, a, b });
        }
        true
    }

    pub(super) fn identified(&mut self, link: u64, who: usize, by: usize) {
        let network = &mut self.network;
        if network.connections.get(who, by, link).is_none_or(|c| c.is_dead) || network.is_cut(who, by) {
            return;
        }
        let Some(other) = network.nodes.get(by).filter(|node| node.is_alive()) else {
            return;
        };
        let (peer, mode, addresses) = (other.peer, other.mode, vec![other.address.clone()]);
        network.note(5, who, by);
        self.input(who, Input::AddressesLearned { peer, addresses });
        self.input(who, protocol(peer, mode));
    }

    /// A connection is looked at: it ends if it is idle and not both ends want to keep it.
    pub(super) fn idle(&mut self, link: u64, a: usize, b: usize) {
        let network = &mut self.network;
        let Some(connection) = network.connections.get(a, b, link) else {
            return;
        };
        if connection.keep == [true, true] {
            return;
        }
        let idle_at = connection.last_used + network.links.idle_timeout;
        if !connection.open.is_empty() {
            let pause = network.links.idle_timeout.max(Duration::from_millis(1));
            network.queue.later(pause, SimEvent::Idle { link, a, b });
        } else if idle_at > network.now() {
            network.queue.schedule(idle_at, SimEvent::Idle { link, a, b });
        } else {
            self.lost(link, a, b);
        }
    }

    /// A connection is gone, and both ends notice.
    pub(super) fn lost(&mut self, link: u64, a: usize, b: usize) {
        let network = &mut self.network;
        if !network.connections.remove(&mut network.nodes, (a, b), link) {
            return;
        }
        network.note(6, a, b);
        let connection = ConnectionId(link);
        for (one, other) in [(a, b), (b, a)] {
            if let Some(peer) = self.network.nodes.get(other).map(|node| node.peer) {
                self.input(one, Input::Disconnected { peer, connection });
            }
        }
    }

    /// The connections of a node are gone at once.
    pub(super) fn reset_all(&mut self, n: usize) {
        for other in self.network.nodes.get(n).map(|node| node.peers.clone()).unwrap_or_default() {
            self.cut(n, other);
        }
    }

    /// A request that is not answered is out, if the peer speaks the protocol.
    pub(super) fn sent(&mut self, link: u64, (from, to): (usize, usize), id: RequestId) {
        let connection = self.network.connections.get_mut(from, to, link);
        if !connection.is_some_and(|connection| connection.close_request(from, id)) {
            // Nobody waits any more.
            return;
        }
        let is_server = self.network.nodes.get(to).is_some_and(|node| node.mode == Mode::Server);
        self.input(
            from,
            if is_server {
                Input::RequestSent { id }
            } else {
                Input::RequestFailed { id, error: RequestError::Unsupported }
            },
        );
    }

    pub(super) fn deliver_request(
        &mut self,
        link: u64,
        (from, to): (usize, usize),
        id: RequestId,
        request: Request,
    ) {
        let network = &mut self.network;
        let is_open = network.connections.get(from, to, link).is_some_and(|c| !c.is_dead);
        let Some(role) =
            network.nodes.get(to).filter(|node| node.is_alive()).map(|node| Arc::clone(&node.role))
        else {
            return;
        };
        if !is_open || network.is_blocked(from, to) {
            return;
        }
        network.note(7, from, to);
        self.meet(to, from);
        let network = &mut self.network;
        let inbound = network.begin_answer(link, from, id);
        match role.answer(&Around::new(network, to, from), &request) {
            Answer::ByProtocol => {
                if let Some(peer) = network.nodes.get(from).map(|node| node.peer) {
                    let connection = ConnectionId(link);
                    self.input(to, Input::RequestReceived { from: peer, connection, id: inbound, request });
                }
            }
            Answer::Instead(response) => network.send_response(to, inbound, Some(*response)),
            Answer::Refusal => network.send_response(to, inbound, None),
            Answer::Silence => network.end_answer(inbound),
        }
    }

    pub(super) fn deliver_response(
        &mut self,
        link: u64,
        (from, to): (usize, usize),
        id: RequestId,
        response: Option<Box<Response>>,
    ) {
        let network = &mut self.network;
        if network.is_blocked(from, to) {
            return;
        }
        let now = network.now();
        let Some(connection) = network.connections.get_mut(from, to, link).filter(|c| !c.is_dead) else {
            return;
        };
        connection.last_used = now;
        if !connection.close_request(to, id) {
            // Nobody waits any more.
            return;
        }
        network.note(8, from, to);
        match response {
            Some(response) => {
                if network.links.warm
                    && let Response::FindNode { closer_peers }
                    | Response::GetValue { closer_peers, .. }
                    | Response::GetProviders { closer_peers, .. } = &*response
                {
                    let named: Vec<_> =
                        closer_peers.iter().filter_map(|peer| self.number_of(&peer.node_id)).collect();
                    named.into_iter().for_each(|other| self.meet(to, other));
                }
                self.input(to, Input::ResponseReceived { id, response: *response });
            }
            None => {
                // As negotiation with a client would tell.
                let is_client = network.nodes.get(from).is_some_and(|node| node.mode == Mode::Client);
                let error = if is_client { RequestError::Unsupported } else { RequestError::StreamEnded };
                self.input(to, Input::RequestFailed { id, error });
            }
        }
    }
}
