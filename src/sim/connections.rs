//! The connections of a node: which there are, and what is under way on each, as far as this end of it knows.
//!
//! Knows node numbers and time; what a connection means to a node is the shard's affair.

use indexmap::IndexMap;
use smallvec::SmallVec;

use crate::dht::RequestId;
use crate::map::FastHash;
use crate::time::Instant;

/// This end of a connection.
#[derive(Debug)]
pub(super) struct ConnectionEnd {
    /// The number of the connection, which both ends know it by; no other has had it.
    pub(super) link: u64,
    pub(super) last_used: Instant,
    /// The requests of this end that were not answered.
    open: Vec<RequestId>,
    /// How many requests of the other end are being answered here.
    serving: u16,
    /// Whether this end keeps it.
    pub(super) keep: bool,
    /// Whether this end has opened no stream yet.
    pub(super) fresh: bool,
    /// Whether nothing passes, which neither end is told.
    pub(super) is_dead: bool,
}

impl ConnectionEnd {
    /// Begins a request of this end, and returns how many are open then.
    pub(super) fn begin_request(&mut self, id: RequestId) -> usize {
        self.open.push(id);
        self.open.len()
    }

    /// Takes out a request of this end. Returns whether its answer was still awaited.
    pub(super) fn close_request(&mut self, id: RequestId) -> bool {
        let at = self.open.iter().position(|open| *open == id);
        at.map(|at| self.open.swap_remove(at)).is_some()
    }

    /// A request of the other end is being answered.
    pub(super) const fn begin_answer(&mut self) {
        self.serving = self.serving.saturating_add(1);
    }

    /// A request of the other end was answered, or will not be.
    pub(super) const fn end_answer(&mut self) {
        self.serving = self.serving.saturating_sub(1);
    }

    /// Returns whether anything is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.serving > 0 || !self.open.is_empty()
    }
}

/// Returns the number of a connection that has always been there, of those where all are connected from the beginning.
pub(super) const fn warm_number(a: usize, b: usize) -> u64 {
    1 << 63 | pair_number(a, b)
}

const fn is_warm(link: u64) -> bool {
    link >> 63 == 1
}

/// Returns the number of a connection of an ideal network.
pub(super) const fn ideal_number(a: usize, b: usize) -> u64 {
    1 << 62 | pair_number(a, b)
}

/// Returns the number of the connection that a node opens as its so manieth. The bits of the others are not reached.
pub(super) const fn opened_number(n: usize, number: u64) -> u64 {
    ((n as u64 & 0x3fff_ffff) << 32) | (number & 0xffff_ffff)
}

const fn pair_number(a: usize, b: usize) -> u64 {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    (a as u64) << 31 | b as u64
}

/// The connections of a node, by the nodes at their other ends: two to one if both have dialled at the same time, none to one
/// that it is connected to without having used that.
#[derive(Debug, Default)]
pub(super) struct HostConnections {
    ends: IndexMap<u32, SmallVec<[ConnectionEnd; 1]>, FastHash>,
    /// To how many it was ever connected at once.
    most: u32,
}

fn short(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl HostConnections {
    /// Adds a connection.
    pub(super) fn insert(&mut self, other: usize, link: u64, now: Instant) {
        let end = ConnectionEnd {
            link,
            last_used: now,
            open: Vec::new(),
            serving: 0,
            keep: false,
            fresh: true,
            is_dead: false,
        };
        self.ends.entry(short(other)).or_default().push(end);
        self.most = self.most.max(short(self.ends.len()));
    }

    /// Another is known to be connected from the beginning. Returns whether that is news.
    pub(super) fn meet(&mut self, other: usize) -> bool {
        let is_new = !self.knows(other);
        if is_new {
            self.ends.insert(short(other), SmallVec::new());
            self.most = self.most.max(short(self.ends.len()));
        }
        is_new
    }

    /// A connection is used: one that has always been there has an end from then on.
    pub(super) fn begin_use(&mut self, other: usize, link: u64, now: Instant) {
        if is_warm(link) && self.ends.get(&short(other)).is_some_and(SmallVec::is_empty) {
            self.insert(other, link, now);
        }
    }

    /// Removes a connection. Returns whether it was there.
    pub(super) fn remove(&mut self, other: usize, link: u64) -> bool {
        let Some(all) = self.ends.get_mut(&short(other)) else {
            return false;
        };
        let at = all.iter().position(|end| end.link == link);
        // One that has always been there has no end before it is used.
        let was_there = at.map(|at| all.swap_remove(at)).is_some() || (all.is_empty() && is_warm(link));
        if all.is_empty() {
            self.ends.swap_remove(&short(other));
        }
        was_there
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.values().map(SmallVec::len).sum()
    }

    /// Returns to how many it was ever connected at once.
    pub(super) const fn most(&self) -> usize {
        self.most as usize
    }

    /// Returns whether the node knows that it is connected to another.
    pub(super) fn knows(&self, other: usize) -> bool {
        self.ends.contains_key(&short(other))
    }

    pub(super) fn get(&self, other: usize, link: u64) -> Option<&ConnectionEnd> {
        self.ends.get(&short(other))?.iter().find(|end| end.link == link)
    }

    pub(super) fn get_mut(&mut self, other: usize, link: u64) -> Option<&mut ConnectionEnd> {
        self.ends.get_mut(&short(other))?.iter_mut().find(|end| end.link == link)
    }

    /// Returns the connections to another, to be changed.
    pub(super) fn to_mut(&mut self, other: usize) -> impl Iterator<Item = &mut ConnectionEnd> {
        self.ends.get_mut(&short(other)).into_iter().flatten()
    }

    /// Returns the numbers of the connections to another.
    pub(super) fn numbers(&self, other: usize) -> SmallVec<[u64; 2]> {
        self.ends.get(&short(other)).into_iter().flatten().map(|end| end.link).collect()
    }

    /// Returns those at the other ends.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> {
        self.ends.keys().map(|other| *other as usize)
    }

    /// Returns the numbers of all connections, with those at the other ends.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, u64)> {
        self.ends.iter().flat_map(|(other, ends)| ends.iter().map(|end| (*other as usize, end.link)))
    }

    /// Returns all connections, to be changed, with those at the other ends.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut ConnectionEnd)> {
        self.ends.iter_mut().flat_map(|(other, ends)| ends.iter_mut().map(|end| (*other as usize, end)))
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
