//! The nodes of a network: what each is, how it lives, and which are where.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexSet;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::roles::Role;
use super::service::Service;
use crate::addrs::Addresses;
use crate::config::Config;
use crate::dht::Dht;
use crate::event::Mode;
use crate::key::Key;
use crate::stats::Stats;
use crate::store::MemoryStore;
use crate::time::{Duration, Instant};

/// How a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// Does nothing and answers nothing; its connections stay, dials to it hang.
    Frozen,
    /// Since when; whether dials to it are refused, or hang.
    Gone(Instant, Refuses),
}

/// Whether dials to a node that is gone are refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refuses {
    AtOnce,
    Never,
}

/// A node and what is around it.
#[derive(Debug)]
pub(super) struct SimNode {
    pub(super) dht: Option<Box<Dht<MemoryStore>>>,
    pub(super) peer: PeerId,
    /// Shared by all who know it.
    pub(super) address: Multiaddr,
    pub(super) key: Key,
    pub(super) life: Life,
    pub(super) role: Arc<dyn Role>,
    /// What its role said of it when it was made.
    pub(super) is_honest: bool,
    pub(super) is_dialable: bool,
    pub(super) is_server: bool,
    /// Its configuration, unless that is the one of most.
    pub(super) config: Option<Arc<Config>>,
    pub(super) mode: Mode,
    pub(super) born: Instant,
    /// Counts how often it has begun anew; what was under way for an earlier life is void.
    pub(super) incarnation: u32,
    /// On which side of a partition it is; 0 is the side of the many.
    pub(super) side: usize,
    /// Those it is connected to, in no particular order.
    pub(super) peers: Vec<usize>,
    /// The most it was ever connected to at once.
    pub(super) most_peers: usize,
    pub(super) joined: bool,
    /// For how long its monotonic clock has stood still.
    pub(super) slept: Duration,
    /// Since when it sleeps.
    pub(super) asleep_since: Option<Instant>,
    /// By how many seconds its wall clock is ahead of the world's.
    pub(super) clock_set: i64,
    pub(super) wake_at: Option<Instant>,
    /// What has arrived and waits, where work takes time.
    pub(super) service: Service,
}

impl SimNode {
    /// Makes a node that is not there yet.
    pub(super) fn new(role: Arc<dyn Role>, peer: PeerId, address: Multiaddr, key: Key, now: Instant) -> Self {
        let (is_honest, is_dialable, is_server) = (role.is_honest(), role.is_dialable(), role.is_server());
        Self {
            dht: None,
            peer,
            address,
            key,
            life: Life::Gone(now, Refuses::AtOnce),
            role,
            is_honest,
            is_dialable,
            is_server,
            config: None,
            mode: Mode::Client,
            born: now,
            incarnation: 0,
            side: 0,
            peers: Vec::new(),
            most_peers: 0,
            joined: false,
            slept: Duration::ZERO,
            asleep_since: None,
            clock_set: 0,
            wake_at: None,
            service: Service::new(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.life == Life::Alive
    }

    /// Returns whether it is a server that lives and can be dialled: one that a lookup ought to find.
    pub(super) fn is_findable(&self) -> bool {
        self.is_alive() && self.mode == Mode::Server && self.is_dialable
    }
}

/// All nodes there have been, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    all: Vec<SimNode>,
    ids: IndexSet<PeerId>,
    /// What those have done that are gone.
    gone: Stats,
    /// Nodes whose addresses are not those of their numbers.
    moved: BTreeMap<usize, usize>,
}

impl Nodes {
    /// Adds a node, and returns its number.
    pub(super) fn push(&mut self, node: SimNode) -> usize {
        self.ids.insert(node.peer);
        self.all.push(node);
        self.all.len() - 1
    }

    /// The address that is that of one number belongs to another node.
    pub(super) fn set_address_of(&mut self, number: usize, n: usize) {
        self.moved.insert(number, n);
    }

    /// A node is gone, and with it whatever it knew; what it has done still counts.
    pub(super) fn end(&mut self, n: usize, life: Life) {
        if let Some(node) = self.all.get_mut(n) {
            node.life = life;
            node.mode = Mode::Client;
            node.service = Service::new();
            if let Some(dht) = node.dht.take() {
                // Those who are gone hold nothing.
                self.gone.merge(&dht.stats().without_gauges());
            }
        }
    }

    /// Returns what all nodes have done, those included that are gone, and what those hold that are there.
    pub(super) fn stats(&self) -> Stats {
        let mut all = self.gone.clone();
        self.all.iter().filter_map(|node| node.dht.as_deref()).for_each(|dht| all.merge(&dht.stats()));
        all
    }

    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, n: usize) -> Option<&SimNode> {
        self.all.get(n)
    }

    pub(super) fn get_mut(&mut self, n: usize) -> Option<&mut SimNode> {
        self.all.get_mut(n)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SimNode> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut SimNode> {
        self.all.iter_mut()
    }

    /// Returns the numbers of the nodes that live.
    pub(super) fn alive(&self) -> impl Iterator<Item = usize> {
        self.all.iter().enumerate().filter(|(_, node)| node.is_alive()).map(|(n, _)| n)
    }

    /// Returns the number of the node with an id.
    pub(super) fn number_of(&self, peer: &PeerId) -> Option<usize> {
        self.ids.get_index_of(peer)
    }

    /// Returns the number of the node that listens at the address of a number, if there is such a node.
    pub(super) fn at(&self, number: usize) -> usize {
        self.moved.get(&number).copied().unwrap_or(number)
    }

    /// Returns how often a node has begun anew.
    pub(super) fn life(&self, n: usize) -> u32 {
        self.get(n).map_or(0, |node| node.incarnation)
    }

    /// Returns whether a node has the life of that number.
    pub(super) fn has_life(&self, n: usize, life: u32) -> bool {
        self.get(n).is_some_and(|node| node.incarnation == life)
    }

    /// Returns whether a node knows that it is connected to another.
    pub(super) fn knows(&self, n: usize, other: usize) -> bool {
        self.get(n).is_some_and(|node| node.peers.contains(&other))
    }

    /// Returns what an honest node would say of where a node is.
    pub(super) fn addresses_of(&self, n: usize) -> Addresses {
        let node = self.get(n);
        node.map_or_else(Addresses::empty, |node| Addresses::collect(&node.peer, [node.address.clone()]))
    }

    /// Returns the `count` nodes closest to a target among some, closest first: by looking at all of them.
    pub(super) fn closest(&self, target: &Key, count: usize, among: impl Fn(&SimNode) -> bool) -> Vec<usize> {
        self.closest_numbered(target, count, |_, node| among(node))
    }

    /// Does the same, with the number of each.
    pub(super) fn closest_numbered(
        &self,
        target: &Key,
        count: usize,
        among: impl Fn(usize, &SimNode) -> bool,
    ) -> Vec<usize> {
        let nodes = self.all.iter().enumerate().filter(|(n, node)| among(*n, node));
        let mut all: Vec<_> = nodes.map(|(n, node)| (target.distance(&node.key), n)).collect();
        if all.len() > count && count > 0 {
            all.select_nth_unstable(count - 1);
            all.truncate(count);
        }
        all.sort_unstable();
        all.into_iter().take(count).map(|(_, n)| n).collect()
    }
}
