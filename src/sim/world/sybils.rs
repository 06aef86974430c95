//! Sybils: nodes that one person puts nearest to a key.

use super::World;
use crate::key::Key;
use crate::sim::ids::{address, in_group, peer_id};
use crate::sim::roles::Role;

impl World {
    /// Lets nodes join that are nearer to the hash of some bytes than anybody else, from a few IP groups, and returns their
    /// numbers.
    ///
    /// To whoever asks for providers they name twenty who do not exist, and beside them the true closest peers; else they
    /// play along.
    pub fn surround(&mut self, bytes: &[u8], count: usize, groups: usize) -> Vec<usize> {
        let target = (self.config.key_hash)(bytes);
        let nearest = self.alive().filter_map(|n| Some(target.distance(&self.nodes.get(n)?.key))).min();
        let mut tried = 0;
        let mut sybils = Vec::new();
        let first = self.nodes.len();
        while sybils.len() < count {
            let peer = peer_id(self.seed ^ 0x5b11, tried);
            tried += 1;
            let key = Key::of_peer(&peer, self.config.key_hash);
            if nearest.is_some_and(|nearest| target.distance(&key) >= nearest) {
                continue;
            }
            let place = in_group(first + sybils.len() % groups.max(1), 1 + sybils.len() / groups.max(1));
            let n = self.add_node_as(Role::Sybil, peer, address(place, self.links.transport));
            self.elsewhere.insert(place, n);
            self.arrive(n);
            sybils.push(n);
        }
        sybils
    }
}
