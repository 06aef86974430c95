//! Questions: what nodes are asked by those who use them, and what they answer.

use super::World;
use crate::event::{Event, Precision, QueryId, QueryResult};
use crate::sim::measure::Asked;
use crate::time::Duration;

impl World {
    /// Lets a node look up the peers closest to the hash of `key`. [`outcomes`](Self::outcomes) tells what came of it.
    ///
    /// A node that does not live is not asked.
    pub fn look_up(&mut self, n: usize, key: &[u8]) {
        self.look_up_as(n, key, Precision::Exact);
    }

    /// Lets a node look up as precisely as is asked for.
    pub fn look_up_as(&mut self, n: usize, key: &[u8], precision: Precision) {
        let target = (self.config.key_hash)(key);
        let (count, clocks) = (self.config.bucket_size(), self.clocks(n));
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.is_alive()) else {
            return;
        };
        let Some(dht) = node.dht.as_deref_mut() else {
            return;
        };
        let id = dht.find_n_closest(clocks, key, count, precision);
        self.trace.note(self.now, 11, n, 0);
        self.asked.insert((n, id), Asked { target, began: self.now });
        self.drain(n);
    }

    /// Returns random bytes to look up.
    pub(in crate::sim) fn any_key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        self.rng.fill(&mut key);
        key
    }

    /// Lets time pass until all lookups have ended, but for no longer than `at_most`. Returns whether they have.
    pub fn run_until_answered(&mut self, at_most: Duration) -> bool {
        let end = self.now + at_most;
        while !self.asked.is_empty() {
            match self.next_at() {
                Some(at) if at <= end => self.step(),
                Some(_) | None => return false,
            }
        }
        true
    }

    /// A node tells its application something.
    pub(super) fn heard(&mut self, n: usize, event: Event) {
        if let Event::RoutingUpdated { old_peer: Some(old), .. } = &event {
            let old =
                self.number_of(old).filter(|old| !self.is_cut(n, *old)).and_then(|old| self.nodes.get(old));
            self.displaced += u64::from(old.is_some_and(crate::sim::world::Node::is_findable));
        }
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else {
            return;
        };
        match result {
            QueryResult::GetClosestPeers(result) if step.last => {
                if let Some(asked) = self.asked.remove(&(n, id)) {
                    self.answered(n, asked, result, stats);
                }
            }
            QueryResult::Bootstrap(result) if step.last => {
                if let Some(node) = self.nodes.get_mut(n) {
                    node.joined |= result.is_ok();
                }
                self.trace.note(self.now, 12, n, 0);
            }
            QueryResult::GetRecord(_)
            | QueryResult::PutRecord(_)
            | QueryResult::StartProviding(_)
            | QueryResult::GetProviders(_) => {
                self.heard_of_record(n, (id, step.last), result, &stats);
            }
            QueryResult::GetClosestPeers(_)
            | QueryResult::Bootstrap(_)
            | QueryResult::FindPeer(_)
            | QueryResult::Ping(_)
            | QueryResult::Connect(_)
            | QueryResult::AskPeer(_) => {}
        }
    }

    /// Returns the lookups that run, with their askers.
    pub fn running(&self) -> impl Iterator<Item = (usize, QueryId)> {
        self.asked.keys().copied()
    }
}
