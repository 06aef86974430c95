//! What nodes put out: dials, requests, answers, and what ends their connections.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{SimEvent, Turn};
use crate::dht::{ConnectionId, DialFailure, DialId, InboundId, Input, RequestId};
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::sim::connections::ConnectionEnd;
use crate::sim::network::{GIVEN_UP_AFTER, protocol};
use crate::time::Duration;
use crate::wire::{encode_request, encode_response};

/// So many requests of a node are in flight on one connection at most: derived from the node's own bound of 32, and a check.
const MAX_IN_FLIGHT: usize = 33;

impl Turn<'_> {
    /// Dials a peer at all addresses at once.
    pub(super) fn dial(&mut self, n: usize, id: DialId, peer: Option<PeerId>, addresses: &[Multiaddr]) {
        self.shard.traffic.dials += 1;
        let network = self.network;
        let Some(host) = self.host(n) else {
            return;
        };
        let mut reached: Option<(Duration, usize)> = None;
        let mut failed = (Duration::ZERO, DialFailure::NoAddresses);
        for address in addresses {
            let (time, outcome) = network.try_address(n, peer.as_ref(), address, &mut host.rng);
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
        let life = network.nodes.life(n);
        match reached {
            Some((time, to)) => self.later(n, time, SimEvent::Dialled { life, dial: id, to }),
            None => {
                let (time, error) = failed;
                let input = Box::new(Input::DialFailed { dial: Some(id), peer, error });
                self.later(n, time, SimEvent::Input { life, input });
            }
        }
    }

    pub(super) fn send_request(
        &mut self,
        (n, to): (usize, &PeerId),
        connection: ConnectionId,
        id: RequestId,
        request: Request,
    ) {
        let (network, now, shard) = (self.network, self.now(), &mut *self.shard);
        let Some(to) = network.nodes.number_of(to) else {
            return;
        };
        shard.traffic.requests += 1;
        shard.traffic.announcements += u64::from(matches!(request, Request::AddProvider { .. }));
        shard.buffer.clear();
        encode_request(&request, &mut shard.buffer);
        let (link, bytes) = (connection.0, shard.buffer.len());
        shard.traffic.bytes += bytes as u64;
        let Some(host) = shard.hosts.get_mut(n / shard.of) else {
            return;
        };
        let (ends, is_warm) = (&mut host.connections, network.links.warm);
        ends.begin_use(to, link, now);
        let Some(end) = ends.get_mut(to, link) else {
            // Lost this very moment: the node is about to hear of it.
            return;
        };
        end.last_used = now;
        let in_flight = end.begin_request(id);
        assert!(in_flight <= MAX_IN_FLIGHT, "{in_flight} requests are in flight between two nodes");
        let is_fresh = std::mem::replace(&mut end.fresh, false) && !is_warm;
        if end.is_dead {
            return;
        }
        let rtt = network.round_trip(n, to);
        let out = shard.bandwidth.send(now, n, link, bytes);
        let mut time = out + network.links.one_way(rtt, &mut host.rng);
        if is_fresh {
            time += network.links.first_stream(rtt, &mut host.rng);
        }
        if !request.is_answered() {
            // On a connection that is in use the bytes are out at once; on a new one identify tells first what the peer speaks.
            let known = if is_fresh { rtt } else { Duration::ZERO };
            self.later(n, out + known, SimEvent::Sent { link, to, id });
        }
        self.send(n, to, time, SimEvent::Request { link, from: n, id, request: Box::new(request) });
    }

    pub(super) fn cancel_request(&mut self, n: usize, to: &PeerId, connection: ConnectionId, id: RequestId) {
        if let Some(to) = self.network.nodes.number_of(to)
            && let Some(end) = self.host(n).and_then(|host| host.connections.get_mut(to, connection.0))
        {
            end.close_request(id);
        }
    }

    /// Returns the id of a request that has arrived, by which the node is to answer it.
    pub(super) fn begin_answer(&mut self, n: usize, (link, asker): (u64, usize), id: RequestId) -> InboundId {
        let Some(host) = self.host(n) else {
            return InboundId(0);
        };
        let number = host.number();
        host.answering.insert(number, (link, asker, id));
        if let Some(end) = host.connections.get_mut(asker, link) {
            end.begin_answer();
        }
        InboundId(number)
    }

    /// A request was answered, or needs no answer. Returns on which connection it came, whose it is, and how that calls it.
    fn take_answer(&mut self, n: usize, id: InboundId) -> Option<(u64, usize, RequestId)> {
        let now = self.now();
        let host = self.host(n)?;
        let (link, asker, id) = host.answering.swap_remove(&id.0)?;
        if let Some(end) = host.connections.get_mut(asker, link) {
            end.end_answer();
            end.last_used = now;
        }
        Some((link, asker, id))
    }

    /// A request needs no answer.
    pub(super) fn end_answer(&mut self, n: usize, id: InboundId) {
        self.take_answer(n, id);
    }

    /// Sends a response, or ends the stream without one.
    pub(super) fn send_response(&mut self, n: usize, id: InboundId, response: Option<Response>) {
        let Some((link, to, id)) = self.take_answer(n, id) else {
            return;
        };
        let (network, now, shard) = (self.network, self.now(), &mut *self.shard);
        let mut time = Duration::ZERO;
        if let Some(response) = &response {
            shard.traffic.responses += 1;
            shard.buffer.clear();
            encode_response(response, &mut shard.buffer);
            shard.traffic.bytes += shard.buffer.len() as u64;
            time = shard.bandwidth.send(now, n, link, shard.buffer.len());
        }
        time += self.one_way(n, to);
        let role = network.nodes.get(n).map(|node| &node.role);
        let late = role.zip(self.host(n)).map(|(role, host)| role.lateness(&mut host.rng));
        let response = response.map(Box::new);
        let event = SimEvent::Response { link, from: n, id, response };
        self.send(n, to, time + late.unwrap_or_default(), event);
    }

    /// A node becomes a client or a server, which its peers hear by identify.
    pub(super) fn set_mode(&mut self, n: usize, mode: Mode) {
        let (network, now) = (self.network, self.now());
        self.shard.told.modes.push((now, n, mode));
        let others: Vec<_> = self.host(n).iter().flat_map(|host| host.connections.others()).collect();
        let Some(peer) = self.peer(n) else {
            return;
        };
        for other in others {
            let time = self.one_way(n, other);
            let (input, life) = (Box::new(protocol(peer, mode)), network.nodes.life(other));
            self.send(n, other, time, SimEvent::Input { life, input });
        }
    }

    pub(super) fn keep_alive(&mut self, n: usize, peer: &PeerId, connection: ConnectionId, keep: bool) {
        let (links, link) = (&self.network.links, connection.0);
        let Some(other) = self.network.nodes.number_of(peer) else {
            return;
        };
        let Some(end) = self.host(n).and_then(|host| host.connections.get_mut(other, link)) else {
            return;
        };
        end.keep = keep;
        let idle_at = end.last_used + links.idle_timeout;
        if !keep && !links.warm {
            self.idle_by(n, idle_at);
        }
    }

    /// A node closes a connection. The other end hears of it when the goodbye arrives, if it does.
    pub(super) fn close(&mut self, n: usize, peer: &PeerId, connection: ConnectionId) {
        let link = connection.0;
        let Some(other) = self.network.nodes.number_of(peer) else {
            return;
        };
        let Some(host) = self.host(n) else {
            return;
        };
        let is_dead = host.connections.get(other, link).is_some_and(|end| end.is_dead);
        if host.connections.remove(other, link) {
            self.note(n, 6, other);
            let delay = if is_dead { GIVEN_UP_AFTER } else { self.one_way(n, other) };
            self.send(n, other, delay, SimEvent::Lost { link, other: n });
        }
    }

    /// Lets nothing pass any more over the connections of a node to another, as far as this end is concerned. Returns which they
    /// are.
    pub(in crate::sim) fn silence(&mut self, n: usize, other: usize) -> Vec<u64> {
        let ends = self.host(n).into_iter().flat_map(|host| host.connections.to_mut(other));
        let silence = |end: &mut ConnectionEnd| {
            end.is_dead = true;
            end.link
        };
        ends.map(silence).collect()
    }

    /// Ends the connections of a node to another, as far as this end is concerned.
    pub(in crate::sim) fn cut(&mut self, n: usize, other: usize) {
        let links = self.host(n).map(|host| host.connections.numbers(other)).unwrap_or_default();
        for link in links {
            self.lost(n, link, other);
        }
    }
}
