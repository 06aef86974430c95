//! The connections between nodes: how they begin, whether anything passes, and how they end.

use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::{Happening, World};
use crate::dht::{ConnectionId, DialId, Input, RequestId};
use crate::event::Mode;
use crate::message::Request;
use crate::time::{Duration, Instant};

/// After so long a dial that nobody answers has failed, and a connection over which nothing passes is lost: what libp2p's
/// transports do by default.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Tells it from an earlier one between the same nodes.
    pub(super) number: u64,
    pub(super) last_used: Instant,
    /// Whether it is kept, by the lower and by the higher number.
    pub(super) keep: [bool; 2],
    /// Whether no stream was opened yet.
    pub(super) fresh: bool,
    /// Requests that were not answered, with the asker.
    pub(super) open: Vec<(usize, RequestId)>,
    /// Whether nothing passes, which neither end is told.
    pub(super) is_dead: bool,
}

/// After so long a connection over which nothing passes is given up by the system: what Linux does with its default number
/// of retransmissions.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(924);

/// The number of a connection that has always been there, of those where all are connected from the beginning.
pub(super) const fn warm_number(a: usize, b: usize) -> u64 {
    let (a, b) = pair(a, b);
    1 << 63 | (a as u64) << 31 | b as u64
}

const fn pair(a: usize, b: usize) -> (usize, usize) {
    if a < b { (a, b) } else { (b, a) }
}
impl World {
    /// Connects two nodes. Each learns the other's address and whether it is a server, as by identify.
    ///
    /// If both have dialled at the same time there are two connections, as there are in a swarm.
    pub(super) fn connect(&mut self, from: usize, to: usize, dial: Option<DialId>) {
        let link = self.number();
        self.open(from, to, link);
        self.tell_connected(from, to, link, true, dial);
        self.tell_connected(to, from, link, false, None);
        let rtt = self.round_trip(from, to);
        for (who, by) in [(from, to), (to, from)] {
            let time = self.links.one_way(rtt, &mut self.rng) * 2;
            self.later(time, Happening::Identified { link, who, by });
        }
        let (a, b) = pair(from, to);
        self.later(self.links.idle_timeout, Happening::Idle { link, a, b });
    }

    pub(super) fn open(&mut self, a: usize, b: usize, number: u64) {
        let (last_used, keep) = (self.now, [false, false]);
        let open = Vec::new();
        let connection = Connection { number, last_used, keep, fresh: true, open, is_dead: false };
        self.connections.entry(pair(a, b)).or_default().push(connection);
        // Where all are connected, each node has a list of those it has heard of.
        if !self.links.warm {
            for (one, other) in [(a, b), (b, a)] {
                if let Some(node) = self.nodes.get_mut(one)
                    && !node.peers.contains(&other)
                {
                    node.peers.push(other);
                    node.most_peers = node.most_peers.max(node.peers.len());
                }
            }
        }
    }

    pub(super) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.connections.contains_key(&pair(a, b))
    }

    pub(super) fn connection(&self, a: usize, b: usize, number: u64) -> Option<&Connection> {
        self.connections.get(&pair(a, b))?.iter().find(|connection| connection.number == number)
    }

    pub(super) fn connection_mut(&mut self, a: usize, b: usize, number: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&pair(a, b))?.iter_mut().find(|connection| connection.number == number)
    }

    /// Removes a connection, and returns whether it was there.
    fn remove_connection(&mut self, a: usize, b: usize, number: u64) -> bool {
        let Some(all) = self.connections.get_mut(&pair(a, b)) else {
            return false;
        };
        let before = all.len();
        all.retain(|connection| connection.number != number);
        let was_there = all.len() < before;
        if all.is_empty() {
            self.connections.swap_remove(&pair(a, b));
            for (one, other) in [(a, b), (b, a)] {
                if let Some(node) = self.nodes.get_mut(one) {
                    node.peers.retain(|peer| *peer != other);
                }
            }
        }
        was_there
    }

    /// Lets nothing pass any more over the connections that there are between two nodes, which neither is told: a gateway
    /// between them has forgotten them. A new one works.
    pub fn silence(&mut self, a: usize, b: usize) {
        let mut silent = Vec::new();
        for connection in self.connections.get_mut(&pair(a, b)).into_iter().flatten() {
            connection.is_dead = true;
            silent.push(connection.number);
        }
        for link in silent {
            let (a, b) = pair(a, b);
            self.later(GIVEN_UP_AFTER, Happening::Lost { link, a, b });
        }
    }

    /// Lets nothing pass any more over the connections of a node; see [`silence`](Self::silence).
    pub fn silence_all(&mut self, n: usize) {
        for other in self.nodes.get(n).map(|node| node.peers.clone()).unwrap_or_default() {
            self.silence(n, other);
        }
    }

    /// Ends the connections that there are between two nodes; both are told at once.
    pub fn cut(&mut self, a: usize, b: usize) {
        let (a, b) = pair(a, b);
        for link in self.numbers_of(a, b) {
            self.lost(link, a, b);
        }
    }

    /// Ends the connections of a node; see [`cut`](Self::cut).
    pub fn cut_all(&mut self, n: usize) {
        self.reset_all(n);
    }

    /// A node closes a connection. The other end hears of it when the goodbye arrives, if it does.
    pub(super) fn close(&mut self, n: usize, peer: &PeerId, connection: ConnectionId) {
        let (Some(other), Some(own)) = (self.number_of(peer), self.nodes.get(n).map(|node| node.peer)) else {
            return;
        };
        let is_dead = self.connection(n, other, connection.0).is_some_and(|connection| connection.is_dead);
        if !self.remove_connection(n, other, connection.0) {
            return;
        }
        self.trace.note(self.now, 6, n, other);
        let delay = if is_dead { GIVEN_UP_AFTER } else { self.one_way(n, other) };
        let (life, input) = (self.life(other), Box::new(Input::Disconnected { peer: own, connection }));
        self.later(delay, Happening::Input { to: other, life, input });
    }

    fn tell_connected(&mut self, n: usize, other: usize, link: u64, dialled: bool, dial: Option<DialId>) {
        let Some((peer, address)) = self.nodes.get(other).map(|node| (node.peer, node.address.clone()))
        else {
            return;
        };
        let connection = ConnectionId(link);
        self.input(n, Input::Connected { peer, connection, address, dialled, dial });
    }

    /// Where all are connected from the beginning, a node learns of a connection when it hears of the other.
    pub(in crate::sim) fn meet(&mut self, n: usize, other: usize) {
        let Some(node) = self.nodes.get_mut(n).filter(|node| self.links.warm && !node.peers.contains(&other))
        else {
            return;
        };
        if n != other {
            node.peers.push(other);
            node.most_peers = node.peers.len();
            self.tell_connected(n, other, warm_number(n, other), false, None);
        }
    }

    /// A node has always been connected to another, and has dialled it.
    pub(super) fn meet_ideally(&mut self, n: usize, other: usize) -> Vec<(RequestId, Request)> {
        if self.links.warm {
            if let Some(node) = self.nodes.get_mut(n) {
                node.peers.push(other);
                node.most_peers = node.peers.len();
            }
        } else if !self.is_connected(n, other) {
            let link = self.number();
            self.open(n, other, link);
        }
        let known = self.connections.get(&pair(n, other)).and_then(|all| all.first());
        let connection = ConnectionId(known.map_or(warm_number(n, other), |connection| connection.number));
        let Some((peer, address)) = self.nodes.get(other).map(|node| (node.peer, node.address.clone()))
        else {
            return Vec::new();
        };
        self.input_alone(n, Input::Connected { peer, connection, address, dialled: true, dial: None })
    }

    /// Those who were connected to without having connected themselves hear of it, and unused connections begin to age.
    pub(super) fn settle_ideal(&mut self) {
        let all = self.connections.iter().flat_map(|(pair, all)| all.iter().map(|c| (*pair, c.number)));
        let all: Vec<_> = all.collect();
        for ((a, b), link) in all {
            for (n, other) in [(a, b), (b, a)] {
                self.tell_connected(n, other, link, false, None);
            }
            let now = self.now;
            if let Some(connection) = self.connection_mut(a, b, link) {
                connection.last_used = now;
            }
            self.later(self.links.idle_timeout, Happening::Idle { link, a, b });
        }
    }

    pub(super) fn identified(&mut self, link: u64, who: usize, by: usize) {
        if self.connection(who, by, link).is_none_or(|c| c.is_dead) || self.is_cut(who, by) {
            return;
        }
        let Some(other) = self.nodes.get(by).filter(|node| node.is_alive()) else {
            return;
        };
        let (peer, mode, addresses) = (other.peer, other.mode, vec![other.address.clone()]);
        self.trace.note(self.now, 5, who, by);
        self.input(who, Input::AddressesLearned { peer, addresses });
        self.input(who, protocol(peer, mode));
    }

    pub(super) fn mode_changed(&mut self, n: usize, mode: Mode) {
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        node.mode = mode;
        let peer = node.peer;
        for other in node.peers.clone() {
            let time = self.one_way(n, other);
            let (input, life) = (Box::new(protocol(peer, mode)), self.life(other));
            self.later(time, Happening::Input { to: other, life, input });
        }
    }

    pub(super) fn keep_alive(&mut self, n: usize, peer: &PeerId, connection: ConnectionId, keep: bool) {
        let Some(other) = self.number_of(peer) else {
            return;
        };
        let (a, b) = pair(n, other);
        let link = connection.0;
        let Some(connection) = self.connection_mut(a, b, link) else {
            return;
        };
        connection.keep[usize::from(n == b)] = keep;
        let last_used = connection.last_used;
        if !keep && !self.links.warm {
            let at = (last_used + self.links.idle_timeout).max(self.now);
            self.schedule(at, Happening::Idle { link, a, b });
        }
    }

    /// A connection is looked at: it ends if nobody uses it and not both ends want to keep it.
    pub(super) fn idle(&mut self, link: u64, a: usize, b: usize) {
        let Some(connection) = self.connection(a, b, link) else {
            return;
        };
        if connection.keep == [true, true] {
            return;
        }
        let idle_at = connection.last_used + self.links.idle_timeout;
        if !connection.open.is_empty() {
            let pause = self.links.idle_timeout.max(Duration::from_millis(1));
            self.later(pause, Happening::Idle { link, a, b });
        } else if idle_at > self.now {
            self.schedule(idle_at, Happening::Idle { link, a, b });
        } else {
            self.lost(link, a, b);
        }
    }

    /// A connection is gone, and both ends notice.
    pub(super) fn lost(&mut self, link: u64, a: usize, b: usize) {
        if !self.remove_connection(a, b, link) {
            return;
        }
        self.trace.note(self.now, 6, a, b);
        let connection = ConnectionId(link);
        for (one, other) in [(a, b), (b, a)] {
            if let Some(peer) = self.nodes.get(other).map(|node| node.peer) {
                self.input(one, Input::Disconnected { peer, connection });
            }
        }
    }

    /// The connections of a node will be found to be gone: at once by those to whom it says so, else after a while.
    pub(super) fn lose_all(&mut self, n: usize, orderly: bool) {
        let mut peers = self.nodes.get(n).map(|node| node.peers.clone()).unwrap_or_default();
        if self.links.warm {
            peers = (0..self.nodes.len())
                .filter(|other| self.knows(*other, n) || peers.contains(other))
                .collect();
            for other in &peers {
                if !self.is_connected(n, *other) {
                    self.open(n, *other, warm_number(n, *other));
                }
            }
        }
        for other in peers {
            let (a, b) = pair(n, other);
            for link in self.numbers_of(a, b) {
                let delay = if orderly { self.one_way(n, other) } else { DEAD_AFTER };
                self.later(delay, Happening::Lost { link, a, b });
            }
        }
    }

    /// The connections of a node are gone at once.
    pub(super) fn reset_all(&mut self, n: usize) {
        for other in self.nodes.get(n).map(|node| node.peers.clone()).unwrap_or_default() {
            let (a, b) = pair(n, other);
            for link in self.numbers_of(a, b) {
                self.lost(link, a, b);
            }
        }
    }

    fn numbers_of(&self, a: usize, b: usize) -> SmallVec<[u64; 2]> {
        self.connections.get(&pair(a, b)).into_iter().flatten().map(|connection| connection.number).collect()
    }

    pub(super) fn knows(&self, n: usize, other: usize) -> bool {
        self.nodes.get(n).is_some_and(|node| node.peers.contains(&other))
    }

    /// The connections that a partition has cut will be found to be gone.
    pub(super) fn lose_cut(&mut self) {
        let cut: Vec<_> = self.connections.iter().filter(|((a, b), _)| self.is_cut(*a, *b)).collect();
        let numbers = cut.into_iter().flat_map(|((a, b), all)| all.iter().map(|c| (c.number, *a, *b)));
        let cut: Vec<_> = numbers.collect();
        for (link, a, b) in cut {
            self.later(DEAD_AFTER, Happening::Lost { link, a, b });
        }
    }
}

const fn protocol(peer: PeerId, mode: Mode) -> Input {
    match mode {
        Mode::Server => Input::ProtocolConfirmed { peer },
        Mode::Client => Input::ProtocolDoubted { peer },
    }
}
