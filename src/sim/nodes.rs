//! The nodes of a network as all of them see each other: what each is, how it lives, and which are where.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexSet;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::roles::Role;
use crate::addrs::Addresses;
use crate::config::Config;
use crate::event::Mode;
use crate::key::Key;
use crate::map::FastHash;
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

/// A node as others see it. It changes only while no time passes.
#[derive(Clone, Debug)]
pub(super) struct SimNode {
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
    /// For how long its monotonic clock has stood still.
    pub(super) slept: Duration,
    /// Since when it sleeps.
    pub(super) asleep_since: Option<Instant>,
    /// By how many seconds its wall clock is ahead of the world's.
    pub(super) clock_set: i64,
}

impl SimNode {
    /// Makes a node that is not there yet.
    pub(super) fn new(role: Arc<dyn Role>, peer: PeerId, address: Multiaddr, key: Key, now: Instant) -> Self {
        let (is_honest, is_dialable, is_server) = (role.is_honest(), role.is_dialable(), role.is_server());
        Self {
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
            slept: Duration::ZERO,
            asleep_since: None,
            clock_set: 0,
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
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    all: Vec<SimNode>,
    ids: IndexSet<PeerId, FastHash>,
    /// Their numbers in the order of their keys, but for those that came after it was made.
    by_key: Vec<u32>,
    /// Nodes whose addresses are not those of their numbers.
    moved: BTreeMap<usize, usize>,
}

/// So few nodes are looked at one by one. Chosen, not measured.
const FEW: usize = 32;

impl Nodes {
    /// Adds a node, and returns its number.
    pub(super) fn push(&mut self, node: SimNode) -> usize {
        self.ids.insert(node.peer);
        self.all.push(node);
        self.all.len() - 1
    }

    /// Sorts by their keys those that came since it was done last.
    pub(super) fn sort(&mut self) {
        if self.by_key.len() < self.all.len() {
            let new = self.by_key.len()..self.all.len();
            self.by_key.extend(new.map(|n| u32::try_from(n).unwrap_or(u32::MAX)));
            let key = |n: &u32| self.all.get(*n as usize).map(|node| node.key);
            self.by_key.sort_by_key(key);
        }
    }

    /// Returns the numbers of all nodes in the order of their keys.
    pub(super) fn by_key(&self) -> &[u32] {
        &self.by_key
    }

    /// The address that is that of one number belongs to another node.
    pub(super) fn set_address_of(&mut self, number: usize, n: usize) {
        self.moved.insert(number, n);
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

    /// Returns what an honest node would say of where a node is.
    pub(super) fn addresses_of(&self, n: usize) -> Addresses {
        let node = self.get(n);
        node.map_or_else(Addresses::empty, |node| Addresses::collect(&node.peer, [node.address.clone()]))
    }

    /// Returns the `count` nodes closest to a target among some, closest first.
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
        debug_assert_eq!(self.by_key.len(), self.all.len(), "they are sorted before time passes");
        let mut found = Vec::with_capacity(count);
        self.descend(target, count, &among, (0..self.by_key.len(), 0), &mut found);
        found
    }

    /// Adds the closest of a range to those that were found. All of it share `depth` bits.
    ///
    /// Those that share the next bit with the target are nearer than all that do not.
    fn descend(
        &self,
        target: &Key,
        count: usize,
        among: &impl Fn(usize, &SimNode) -> bool,
        (range, depth): (Range<usize>, u32),
        found: &mut Vec<usize>,
    ) {
        if found.len() >= count || range.is_empty() {
            return;
        }
        let slice = self.by_key.get(range.clone()).unwrap_or_default();
        if slice.len() <= FEW || depth == 256 {
            let node = |n: &u32| self.all.get(*n as usize).map(|node| (*n as usize, node));
            let some = slice.iter().filter_map(node).filter(|(n, node)| among(*n, node));
            let mut some: Vec<_> = some.map(|(n, node)| (target.distance(&node.key), n)).collect();
            some.sort_unstable();
            found.extend(some.into_iter().map(|(_, n)| n).take(count - found.len()));
            return;
        }
        let bit = |n: &u32| self.all.get(*n as usize).is_some_and(|node| bit(&node.key, depth));
        let ones = range.start + slice.partition_point(|n| !bit(n));
        let (zeros, ones) = (range.start..ones, ones..range.end);
        let (near, far) = if self::bit(target, depth) { (ones, zeros) } else { (zeros, ones) };
        self.descend(target, count, among, (near, depth + 1), found);
        self.descend(target, count, among, (far, depth + 1), found);
    }
}

/// Returns one bit of a key, the most significant first.
fn bit(key: &Key, at: u32) -> bool {
    let byte = key.as_bytes().get(at as usize / 8).copied().unwrap_or_default();
    byte & (0x80 >> (at % 8)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::sim::adversaries::BuiltIn;
    use crate::sim::ids::peer_id;
    use crate::time::start;

    #[test]
    fn the_closest_are_those_that_a_look_at_all_finds() {
        let mut nodes = Nodes::default();
        let role: Arc<dyn Role> = Arc::new(BuiltIn::Honest);
        for n in 0..500 {
            let peer = peer_id(3, n);
            let key = Key::of_peer(&peer, Key::sha256);
            let mut node = SimNode::new(Arc::clone(&role), peer, Multiaddr::empty(), key, start());
            node.is_dialable = n % 3 != 0;
            nodes.push(node);
            nodes.sort();
        }
        let mut rng = Rng::from_u64(1);
        for count in [0, 1, 20, 400] {
            for _ in 0..20 {
                let target = Key::sha256(&rng.next_u64().to_be_bytes());
                let mut all: Vec<_> = (0..500).filter(|n| n % 3 != 0).collect();
                all.sort_by_key(|n| target.distance(&nodes.get(*n).unwrap().key));
                all.truncate(count);
                assert_eq!(nodes.closest(&target, count, |node| node.is_dialable), all);
            }
        }
    }
}
