//! What passes between nodes: dials, requests and answers.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::connections::{DEAD_AFTER, warm_number};
use super::{Happening, Life, Refuses, World};
use crate::addrs::Addresses;
use crate::dht::{ConnectionId, DialFailure, DialId, InboundId, Input, RequestId, Unreached};
use crate::error::RequestError;
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::sim::ids::node_at;
use crate::time::Duration;
use crate::wire::{encode_request, encode_response};

impl World {
    /// Returns the round-trip time between two nodes.
    pub fn round_trip(&self, a: usize, b: usize) -> Duration {
        self.links.round_trip(self.seed, a, b)
    }

    pub(super) fn one_way(&mut self, a: usize, b: usize) -> Duration {
        let rtt = self.round_trip(a, b);
        self.links.one_way(rtt, &mut self.rng)
    }

    /// Returns whether nothing passes from one node to another.
    fn is_blocked(&self, from: usize, to: usize) -> bool {
        let side = |n: usize| self.nodes.get(n).map_or(0, |node| node.side);
        let (from, to) = (side(from), side(to));
        // What the deaf side sends still arrives.
        from != to && self.deaf != Some(from)
    }

    pub(in crate::sim) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }

    pub(super) fn life(&self, n: usize) -> u32 {
        self.nodes.get(n).map_or(0, |node| node.incarnation)
    }

    pub(super) fn dial(&mut self, n: usize, id: DialId, peer: Option<PeerId>, addresses: &[Multiaddr]) {
        self.traffic.dials += 1;
        let mut reached: Option<(Duration, usize)> = None;
        let mut failed = (Duration::ZERO, DialFailure::NoAddresses);
        for address in addresses {
            let (time, outcome) = self.try_address(n, peer.as_ref(), address);
            match outcome {
                Ok(to) => {
                    if reached.is_none_or(|(known, _)| time < known) {
                        reached = Some((time, to));
                    }
                }
                // All addresses are dialled at once: the last to fail ends it.
                Err(error) if time >= failed.0 => failed = (time, error),
                Err(_) => {}
            }
        }
        let life = self.life(n);
        match reached {
            Some((time, to)) => self.later(time, Happening::Dialled { from: n, life, dial: id, to }),
            None => {
                let (time, error) = failed;
                let input = Box::new(Input::DialFailed { dial: Some(id), peer, error });
                self.later(time, Happening::Input { to: n, life, input });
            }
        }
    }

    /// Returns the number of the node that listens at an address, if any could.
    fn at(&self, address: &Multiaddr) -> Option<usize> {
        let number = node_at(address)?;
        Some(self.elsewhere.get(&number).copied().unwrap_or(number))
    }

    fn try_address(
        &mut self,
        n: usize,
        peer: Option<&PeerId>,
        address: &Multiaddr,
    ) -> (Duration, Result<usize, DialFailure>) {
        let unreachable = || Err(DialFailure::unreachable(Unreached::Silent));
        let Some((to, node)) = self.at(address).and_then(|to| Some((to, self.nodes.get(to)?))) else {
            return (DEAD_AFTER, unreachable());
        };
        if to == n {
            return (Duration::ZERO, Err(DialFailure::Own { address: address.clone() }));
        }
        let (life, is_dialable, id) = (node.life, node.role.is_dialable(), node.peer);
        if !is_dialable || self.is_cut(n, to) {
            return (DEAD_AFTER, unreachable());
        }
        let rtt = self.round_trip(n, to);
        match life {
            Life::Frozen | Life::Gone(_, Refuses::Never) => (DEAD_AFTER, unreachable()),
            Life::Gone(_, Refuses::AtOnce) => (self.links.one_way(rtt, &mut self.rng) * 2, unreachable()),
            Life::Alive => {
                let time = self.links.dial(rtt, &mut self.rng);
                if peer.is_some_and(|peer| *peer != id) {
                    (time, Err(DialFailure::WrongPeer { address: address.clone(), met: id }))
                } else {
                    (time, Ok(to))
                }
            }
        }
    }

    /// A dial arrives where it was to go, if that is still there.
    pub(super) fn dialled(&mut self, from: usize, dial: DialId, to: usize) {
        self.trace.note(self.now, 4, from, to);
        let is_there = self.nodes.get(to).is_some_and(super::Node::is_alive) && !self.is_cut(from, to);
        if is_there {
            self.connect(from, to, Some(dial));
        } else if let Some(peer) = self.nodes.get(to).map(|node| node.peer) {
            let error = DialFailure::unreachable(Unreached::Silent);
            let input = Box::new(Input::DialFailed { dial: Some(dial), peer: Some(peer), error });
            let life = self.life(from);
            self.later(DEAD_AFTER, Happening::Input { to: from, life, input });
        }
    }

    pub(super) fn send_request(
        &mut self,
        (n, to): (usize, &PeerId),
        connection: ConnectionId,
        id: RequestId,
        request: Request,
    ) {
        let Some(to) = self.number_of(to) else {
            return;
        };
        self.traffic.requests += 1;
        self.traffic.announcements += u64::from(matches!(request, Request::AddProvider { .. }));
        self.buffer.clear();
        encode_request(&request, &mut self.buffer);
        self.traffic.bytes += self.buffer.len() as u64;
        let (link, now) = (connection.0, self.now);
        let is_new = link == warm_number(n, to) && !self.is_connected(n, to);
        if self.links.warm && is_new && self.knows(n, to) {
            self.open(n, to, link);
        }
        let Some(connection) = self.connection_mut(n, to, link) else {
            // Lost this very moment: the node is about to hear of it.
            return;
        };
        connection.last_used = now;
        connection.open.push((n, id));
        assert!(
            connection.open.len() <= 64,
            "{} requests are in flight between two nodes",
            connection.open.len()
        );
        let is_dead = connection.is_dead;
        let fresh = std::mem::replace(&mut connection.fresh, false) && !self.links.warm;
        if is_dead {
            return;
        }
        let rtt = self.round_trip(n, to);
        let mut time = self.links.one_way(rtt, &mut self.rng);
        if fresh {
            time += self.links.first_stream(rtt, &mut self.rng);
        }
        if !request.is_answered() {
            // On a connection that is in use the bytes are out at once; on a new one identify tells first what the peer speaks.
            let known = if fresh { rtt } else { Duration::ZERO };
            self.later(known, Happening::Sent { link, from: n, to, id });
        }
        self.later(time, Happening::Request { link, from: n, to, id, request: Box::new(request) });
    }

    /// A request that is not answered is out, if the peer speaks the protocol.
    pub(super) fn sent(&mut self, link: u64, (from, to): (usize, usize), id: RequestId) {
        let Some(connection) = self.connection_mut(from, to, link) else {
            return;
        };
        let before = connection.open.len();
        connection.open.retain(|open| *open != (from, id));
        if connection.open.len() == before {
            // Nobody waits any more.
            return;
        }
        let is_server = self.nodes.get(to).is_some_and(|node| node.mode == Mode::Server);
        self.input(
            from,
            if is_server {
                Input::RequestSent { id }
            } else {
                Input::RequestFailed { id, error: RequestError::Unsupported }
            },
        );
    }

    pub(super) fn cancel_request(&mut self, n: usize, to: &PeerId, connection: ConnectionId, id: RequestId) {
        if let Some(to) = self.number_of(to)
            && let Some(connection) = self.connection_mut(n, to, connection.0)
        {
            connection.open.retain(|open| *open != (n, id));
        }
    }

    pub(super) fn deliver_request(
        &mut self,
        link: u64,
        (from, to): (usize, usize),
        id: RequestId,
        request: Request,
    ) {
        let is_open = self.connection(from, to, link).is_some_and(|c| !c.is_dead);
        let Some(node) = self.nodes.get(to).filter(|node| node.is_alive()) else {
            return;
        };
        if !is_open || self.is_blocked(from, to) {
            return;
        }
        self.trace.note(self.now, 7, from, to);
        let role = node.role;
        self.meet(to, from);
        let inbound = self.owe(link, from, id);
        if let Some(response) = self.false_answer(to, role, &request) {
            self.send_response(to, inbound, Some(response));
        } else if let Some(peer) = self.nodes.get(from).map(|node| node.peer) {
            let connection = ConnectionId(link);
            self.input(to, Input::RequestReceived { from: peer, connection, id: inbound, request });
        }
    }

    pub(super) fn send_response(&mut self, n: usize, id: InboundId, response: Option<Response>) {
        let Some((link, to, id)) = self.answering.swap_remove(&id.0) else {
            return;
        };
        if let Some(response) = &response {
            self.traffic.responses += 1;
            self.buffer.clear();
            encode_response(response, &mut self.buffer);
            self.traffic.bytes += self.buffer.len() as u64;
        }
        let time = self.one_way(n, to) + self.lateness(n);
        let response = response.map(Box::new);
        self.later(time, Happening::Response { link, from: n, to, id, response });
    }

    pub(super) fn deliver_response(
        &mut self,
        link: u64,
        (from, to): (usize, usize),
        id: RequestId,
        response: Option<Box<Response>>,
    ) {
        if self.is_blocked(from, to) {
            return;
        }
        let now = self.now;
        let Some(connection) = self.connection_mut(from, to, link).filter(|c| !c.is_dead) else {
            return;
        };
        let before = connection.open.len();
        connection.open.retain(|open| *open != (to, id));
        connection.last_used = now;
        if connection.open.len() == before {
            // Nobody waits any more.
            return;
        }
        self.trace.note(now, 8, from, to);
        match response {
            Some(response) => {
                if self.links.warm
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
                let is_client = self.nodes.get(from).is_some_and(|node| node.mode == Mode::Client);
                let error = if is_client { RequestError::Unsupported } else { RequestError::StreamEnded };
                self.input(to, Input::RequestFailed { id, error });
            }
        }
    }

    /// What an honest node would say of where a node is.
    pub(in crate::sim) fn addresses_of(&self, n: usize) -> Addresses {
        let node = self.nodes.get(n);
        node.map_or_else(Addresses::empty, |node| Addresses::collect(&node.peer, [node.address.clone()]))
    }
}
