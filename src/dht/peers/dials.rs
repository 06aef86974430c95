//! Dials: which are under way, and who waits for a slot.
//!
//! Knows peers and addresses as values; what a dial is for, and what its outcome means, is not its affair.

use std::collections::{BTreeMap, VecDeque};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::dht::io::DialId;
use crate::event::QueryId;
use crate::time::Instant;

/// Whom a dial is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Peer(PeerId),
    /// Whoever is at the address that a query has given.
    Anybody(QueryId),
}

impl Whom {
    pub(super) const fn peer(self) -> Option<PeerId> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Anybody(_) => None,
        }
    }
}

/// A dial under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    pub(super) since: Instant,
    pub(super) whom: Whom,
}

/// The slots for dials.
///
/// # What it decides
/// The order of dials: first come, first served.
///
/// # Bounds
/// At most `max` dials hold a slot. Those that wait are bounded by the peers with requests and by the queries.
#[derive(Debug)]
pub(super) struct Dials {
    max: usize,
    /// Each in a place of its own, or the room for eleven would stay when there are none.
    under_way: BTreeMap<DialId, Box<Dial>>,
    waiting: VecDeque<Whom>,
    /// The addresses of dials to nobody in particular that wait.
    addresses: BTreeMap<QueryId, Multiaddr>,
    next: u64,
}

impl Dials {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            under_way: BTreeMap::new(),
            waiting: VecDeque::new(),
            addresses: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    pub(super) fn wait_for_peer(&mut self, peer: PeerId) {
        self.waiting.push_back(Whom::Peer(peer));
    }

    pub(super) fn wait_for_address(&mut self, query: QueryId, address: Multiaddr) {
        self.addresses.insert(query, address);
        self.waiting.push_back(Whom::Anybody(query));
    }

    /// Returns who is next, if there is a slot.
    pub(super) fn next(&mut self) -> Option<Whom> {
        if self.under_way.len() < self.max { self.waiting.pop_front() } else { None }
    }

    /// Returns the address that a query waits to have dialled.
    pub(super) fn take_address(&mut self, query: QueryId) -> Option<Multiaddr> {
        self.addresses.remove(&query)
    }

    /// A dial begins, and takes a slot.
    pub(super) fn begin(&mut self, now: Instant, whom: Whom) -> DialId {
        let id = DialId(self.next);
        self.next += 1;
        self.under_way.insert(id, Box::new(Dial { since: now, whom }));
        id
    }

    /// A dial has ended, and gives its slot back; `None` if it had done so before.
    pub(super) fn end(&mut self, id: DialId) -> Option<Dial> {
        self.under_way.remove(&id).map(|dial| *dial)
    }

    /// Returns the dial that began longest ago: numbers rise with time.
    pub(super) fn oldest(&self) -> Option<(DialId, Dial)> {
        self.under_way.first_key_value().map(|(id, dial)| (*id, **dial))
    }

    /// Nobody waits for a dial to this peer any more: it gives its slot back, though it may still succeed.
    pub(super) fn give_up_peer(&mut self, peer: PeerId) {
        self.waiting.retain(|whom| *whom != Whom::Peer(peer));
        self.under_way.retain(|_, dial| dial.whom != Whom::Peer(peer));
    }

    /// Nobody waits for the address of this query any more.
    pub(super) fn give_up_query(&mut self, query: QueryId) {
        self.addresses.remove(&query);
        self.under_way.retain(|_, dial| dial.whom != Whom::Anybody(query));
    }
}
