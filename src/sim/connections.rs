//! The connections between nodes: which there are, and what is under way on each.
//!
//! Knows node numbers and time; what a connection means to a node is the world's affair.

use indexmap::IndexMap;
use smallvec::SmallVec;

use super::nodes::Nodes;
use crate::dht::RequestId;
use crate::time::Instant;

/// One connection.
#[derive(Debug)]
pub(super) struct NetworkConnection {
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

impl NetworkConnection {
    /// Takes out a request of a node. Returns whether its answer was still awaited.
    pub(super) fn close_request(&mut self, asker: usize, id: RequestId) -> bool {
        let before = self.open.len();
        self.open.retain(|open| *open != (asker, id));
        self.open.len() < before
    }
}

/// Returns the number of a connection that has always been there, of those where all are connected from the beginning.
pub(super) const fn warm_number(a: usize, b: usize) -> u64 {
    let (a, b) = pair(a, b);
    1 << 63 | (a as u64) << 31 | b as u64
}

/// Returns two nodes, the lower number first.
pub(super) const fn pair(a: usize, b: usize) -> (usize, usize) {
    if a < b { (a, b) } else { (b, a) }
}

/// All connections, by the nodes that they connect: two if both have dialled at the same time.
#[derive(Debug, Default)]
pub(super) struct NetworkConnections(IndexMap<(usize, usize), SmallVec<[NetworkConnection; 1]>>);

impl NetworkConnections {
    /// Adds a connection.
    pub(super) fn insert(&mut self, a: usize, b: usize, number: u64, now: Instant) {
        let (last_used, keep, open) = (now, [false, false], Vec::new());
        let connection = NetworkConnection { number, last_used, keep, fresh: true, open, is_dead: false };
        self.0.entry(pair(a, b)).or_default().push(connection);
    }

    /// Removes a connection; with the last one between two nodes, they are no peers of each other any more. Returns whether
    /// it was there.
    pub(super) fn remove(&mut self, nodes: &mut Nodes, (a, b): (usize, usize), number: u64) -> bool {
        let Some(all) = self.0.get_mut(&pair(a, b)) else {
            return false;
        };
        let before = all.len();
        all.retain(|connection| connection.number != number);
        let was_there = all.len() < before;
        if all.is_empty() {
            self.0.swap_remove(&pair(a, b));
            for (one, other) in [(a, b), (b, a)] {
                if let Some(node) = nodes.get_mut(one) {
                    node.peers.retain(|peer| *peer != other);
                }
            }
        }
        was_there
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(SmallVec::len).sum()
    }

    pub(super) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.0.contains_key(&pair(a, b))
    }

    pub(super) fn get(&self, a: usize, b: usize, number: u64) -> Option<&NetworkConnection> {
        self.between(a, b).find(|connection| connection.number == number)
    }

    pub(super) fn get_mut(&mut self, a: usize, b: usize, number: u64) -> Option<&mut NetworkConnection> {
        self.between_mut(a, b).find(|connection| connection.number == number)
    }

    /// Returns the connections between two nodes.
    pub(super) fn between(&self, a: usize, b: usize) -> impl Iterator<Item = &NetworkConnection> {
        self.0.get(&pair(a, b)).into_iter().flatten()
    }

    /// Returns the connections between two nodes, to be changed.
    pub(super) fn between_mut(&mut self, a: usize, b: usize) -> impl Iterator<Item = &mut NetworkConnection> {
        self.0.get_mut(&pair(a, b)).into_iter().flatten()
    }

    /// Returns the numbers of the connections between two nodes.
    pub(super) fn numbers(&self, a: usize, b: usize) -> SmallVec<[u64; 2]> {
        self.between(a, b).map(|connection| connection.number).collect()
    }

    /// Returns the numbers of all connections, with the nodes that they connect.
    pub(super) fn all(&self) -> impl Iterator<Item = ((usize, usize), u64)> {
        self.0.iter().flat_map(|(pair, all)| all.iter().map(|connection| (*pair, connection.number)))
    }
}
