//! Room: whether the IP groups of a newcomer let it have a place in the table, and whose that may be.
//!
//! Knows entries and limits; that the newcomer has answered, and that its bucket is full, the table knows.

use std::collections::BTreeSet;

use libp2p_identity::PeerId;

use super::Table;
use crate::addrs::Groups;
use crate::key::{BucketIndex, Key};
use crate::routing::bucket::{Bucket, Entry};
use crate::routing::diversity::{Present, allows, is_exceeded};

impl Table {
    /// Returns whether peers beyond the limits per IP group may have places that are empty.
    pub(crate) fn is_soft(&self) -> bool {
        self.config.diversity.as_ref().is_some_and(|rules| rules.is_soft)
    }

    /// Returns whether the limits per IP group let a newcomer into a bucket, in the place of `replaced` or beside all.
    pub(super) fn has_room_for(
        &self,
        index: BucketIndex,
        (key, groups): (&Key, Groups),
        replaced: Option<&PeerId>,
    ) -> bool {
        let Some(rules) = &self.config.diversity else {
            return true;
        };
        let k = usize::from(self.config.bucket_size.get());
        let stays = |entry: &&Entry| replaced.is_none_or(|peer| !entry.is_of(peer));
        let present = Present {
            bucket: self
                .bucket_at(index)
                .into_iter()
                .flat_map(Bucket::entries)
                .filter(stays)
                .map(Entry::groups),
            table: self.entries().filter(stays).map(Entry::groups),
            k,
        };
        allows(&rules.limits, groups, &present, || {
            let is_near = self.nearer(key) < k;
            is_near.then(|| self.closest(&self.local).filter(stays).take(k).map(Entry::groups))
        })
    }

    /// A peer is connected from elsewhere: it counts into those groups now. Returns whether it may stay where it is, if it is there.
    pub(crate) fn regroup(&mut self, key: &Key, peer: &PeerId, groups: Groups) -> bool {
        let Some(index) = self.local.distance(key).bucket() else {
            return true;
        };
        if let Ok(at) = self.find(index)
            && let Some(bucket) = self.buckets.get_mut(at)
            && let Some(waiting) = bucket.replacements.iter_mut().find(|waiting| waiting.is_of(peer))
        {
            waiting.set_groups(groups);
        }
        let Some(entry) = self.entry(key, peer).filter(|entry| entry.groups() != groups) else {
            return true;
        };
        let may_stay = self.is_soft() || self.has_room_for(index, (entry.key(), groups), Some(peer));
        if let Some(entry) = self.entry_mut(key, peer) {
            entry.set_groups(groups);
        }
        may_stay
    }

    /// Returns the place of the entry of a bucket that is the first to go when a peer of another group comes: the last one beyond
    /// the limits.
    pub(super) fn in_excess(&self, index: BucketIndex) -> Option<usize> {
        let rules = self.config.diversity.as_ref().filter(|rules| rules.is_soft)?;
        let entries = self.bucket_at(index)?.entries();
        let present = Present {
            bucket: entries.iter().map(Entry::groups),
            table: self.entries().map(Entry::groups),
            k: usize::from(self.config.bucket_size.get()),
        };
        entries.iter().rposition(|entry| is_exceeded(&rules.limits, entry.groups(), &present))
    }

    /// Puts the newest waiting peer that the limits allow, one that was good before others, into the place of `peer`.
    pub(super) fn take_replacement(&mut self, key: &Key, peer: &PeerId) -> Option<PeerId> {
        let index = self.local.distance(key).bucket()?;
        let waiting = &self.bucket_at(index)?.replacements;
        let fits = |entry: &Entry| self.has_room_for(index, (entry.key(), entry.groups()), Some(peer));
        let fitting = waiting.iter().enumerate().filter(|(_, entry)| fits(entry));
        let (fitting, _) = fitting.max_by_key(|(at, entry)| (entry.rank(), *at))?;
        let at = self.find(index).ok()?;
        let bucket = self.buckets.get_mut(at)?;
        let place = bucket.position(peer)?;
        let replacement = bucket.replacements.remove(fitting);
        let newcomer = replacement.peer();
        bucket.replace(place, replacement)?;
        Some(newcomer)
    }

    /// Returns the live peers by how long they have been there, of each bucket one in turn: of each IP group the first, then all
    /// others. Whoever was there long is likely to stay, and nobody who has come lately owns many of them.
    pub(crate) fn longest(&self) -> impl Iterator<Item = &Entry> {
        let most = self.buckets.iter().map(|bucket| bucket.entries().len()).max().unwrap_or(0);
        let turns = (0..most)
            .flat_map(|turn| self.buckets.iter().filter_map(move |bucket| bucket.entries().get(turn)));
        let mut groups = BTreeSet::new();
        let is_first = |entry: &&Entry| {
            let of: Vec<_> = entry.groups().iter().collect();
            let is_new = of.is_empty() || of.iter().any(|group| !groups.contains(group));
            groups.extend(of);
            is_new
        };
        let (first, others): (Vec<_>, Vec<_>) = turns.filter(|entry| entry.is_live()).partition(is_first);
        first.into_iter().chain(others)
    }

    fn bucket_at(&self, index: BucketIndex) -> Option<&Bucket> {
        self.find(index).ok().and_then(|at| self.buckets.get(at))
    }
}
