//! One bucket: the peers of one distance range, and those that wait for a place in it.
//!
//! Knows its own entries; knows neither the table nor what a failure means for the node.

use libp2p_identity::PeerId;

use super::rules::{STALE_AFTER, TableConfig};
use crate::addrs::{Addresses, Groups};
use crate::failures::Failures;
use crate::key::{BucketIndex, Distance, Key};
use crate::peer::PackedPeerId;
use crate::time::{Instant, after};

/// An experience of the application with a peer, by which the table chooses who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Experience {
    /// It did not do what it was good for.
    Bad,
    /// It did.
    Good,
}

/// An entry of the routing table: a peer, its addresses, and when it answered or failed.
#[derive(Clone, Debug)]
pub struct Entry {
    key: Key,
    peer: PackedPeerId,
    addresses: Addresses,
    groups: Groups,
    last_seen: Instant,
    probe_at: Instant,
    /// Few fail, so they have a place of their own.
    failures: Option<Box<Failures>>,
    connected: bool,
    experience: Option<Experience>,
}

impl Entry {
    pub(super) fn new(
        now: Instant,
        key: Key,
        peer: PeerId,
        addresses: Addresses,
        groups: Groups,
        config: &TableConfig,
    ) -> Self {
        let probe_at = after(now, config.grace);
        let peer = PackedPeerId::from(&peer);
        let (failures, connected, experience) = (None, false, None);
        Self { key, peer, addresses, groups, last_seen: now, probe_at, failures, connected, experience }
    }

    /// Returns the key of the peer.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the peer.
    pub fn peer(&self) -> PeerId {
        self.peer.unpacked()
    }

    pub(crate) fn is_of(&self, peer: &PeerId) -> bool {
        self.peer.is(peer)
    }

    /// Returns its addresses, the one that worked last first.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the IP groups of the address at which the connection to it was made.
    pub const fn groups(&self) -> Groups {
        self.groups
    }

    /// Returns the first of the IP groups.
    #[deprecated(since = "0.2.0", note = "`groups`")]
    #[doc(hidden)]
    pub fn group(&self) -> Option<crate::addrs::IpGroup> {
        self.groups.iter().next()
    }

    /// Returns when the peer last gave a sign of life.
    pub const fn last_seen(&self) -> Instant {
        self.last_seen
    }

    /// Returns how many requests or dials in a row have failed.
    pub fn failures(&self) -> u8 {
        self.failures.as_ref().map_or(0, |failures| failures.in_a_row())
    }

    /// Returns whether there is a connection to the peer.
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Returns whether the peer may be named to others: its last request was answered.
    pub const fn is_live(&self) -> bool {
        self.failures.is_none()
    }

    /// Returns whether five requests in a row have failed.
    pub fn is_stale(&self) -> bool {
        self.failures() >= STALE_AFTER
    }

    /// Returns whether five requests in a row have failed while others were answered: it is not coming back.
    pub(super) fn is_dead(&self) -> bool {
        self.failures.as_ref().is_some_and(|failures| failures.proven() >= STALE_AFTER)
    }

    /// Returns when the peer is to be probed: after the grace period of silence, or after the back-off of a failure.
    pub const fn probe_at(&self) -> Instant {
        self.probe_at
    }

    /// Returns whether nobody else has answered since it began to fail.
    pub(super) fn fails_alone(&self, last_answer: Option<Instant>) -> bool {
        self.failures.as_ref().is_none_or(|failures| failures.may_be_own(last_answer))
    }

    /// Returns the latest experience that the application has told of.
    pub const fn experience(&self) -> Option<Experience> {
        self.experience
    }

    /// Returns how welcome it is among those that wait.
    pub(super) const fn rank(&self) -> u8 {
        match self.experience {
            Some(Experience::Bad) => 0,
            None => 1,
            Some(Experience::Good) => 2,
        }
    }

    pub(super) const fn set_experience(&mut self, experience: Experience) {
        self.experience = Some(experience);
    }

    pub(super) const fn set_groups(&mut self, groups: Groups) {
        self.groups = groups;
    }

    pub(super) const fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    pub(super) fn set_addresses(&mut self, addresses: Addresses) {
        self.addresses = addresses;
    }

    /// Notes a sign of life. A peer that failed is probed when it was to be.
    pub(super) fn seen(&mut self, now: Instant, config: &TableConfig) {
        self.last_seen = now;
        if self.is_live() {
            self.probe_at = after(now, config.grace);
        }
    }

    pub(super) fn answered(&mut self, now: Instant, config: &TableConfig) {
        self.failures = None;
        self.seen(now, config);
    }

    /// Counts a failure, which puts the next probe off for ever longer. Returns whether it may be this node's own outage.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        config: &TableConfig,
        last_answer: Option<Instant>,
    ) -> bool {
        let failures = Failures::count(&mut self.failures, now, last_answer);
        self.probe_at = failures.pause(config.retries(), last_answer);
        failures.proven() < failures.in_a_row()
    }

    /// Somebody has answered after this node's own outage: what failed meanwhile is probed as if it had failed but once.
    pub(super) fn outage_is_over(&mut self, config: &TableConfig, last_answer: Option<Instant>) {
        if let Some(failures) = &self.failures {
            self.probe_at = self.probe_at.min(failures.pause(config.retries(), last_answer));
        }
    }

    pub(super) const fn set_probe_at(&mut self, at: Instant) {
        self.probe_at = at;
    }
}

/// A bucket: the peers whose distance has its highest bit at its index, and its replacement cache.
///
/// Bounds: at most `k` entries and the configured number of replacements.
#[derive(Clone, Debug)]
pub struct Bucket {
    index: BucketIndex,
    pub(super) entries: Vec<Entry>,
    /// Those that have answered but found no place, oldest first.
    pub(super) replacements: Vec<Entry>,
}

/// The empty buckets that are shown where a table has none.
static EMPTY: [Bucket; 256] = {
    let mut all = [const { Bucket::new(BucketIndex::new(0)) }; 256];
    let mut index = 0;
    loop {
        all[index as usize].index = BucketIndex::new(index);
        if index == u8::MAX {
            break all;
        }
        index += 1;
    }
};

impl Bucket {
    /// Returns an empty bucket.
    pub(super) fn empty(index: BucketIndex) -> Option<&'static Self> {
        EMPTY.get(usize::from(index.get()))
    }

    pub(super) const fn new(index: BucketIndex) -> Self {
        Self { index, entries: Vec::new(), replacements: Vec::new() }
    }

    /// Returns the number of the bucket.
    pub const fn index(&self) -> BucketIndex {
        self.index
    }

    /// Returns the least and the greatest distance of the bucket, both included.
    pub fn range(&self) -> (Distance, Distance) {
        self.index.range()
    }

    /// Returns whether a key at this distance belongs here.
    pub fn contains(&self, distance: &Distance) -> bool {
        distance.bucket() == Some(self.index)
    }

    /// Returns the entries in no particular order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the replacement cache: the peers that wait for a place, those that wait longest first.
    pub fn replacements(&self) -> &[Entry] {
        &self.replacements
    }

    /// Returns the entry that was silent longest.
    pub fn least_recently_seen(&self) -> Option<&Entry> {
        self.entries.iter().min_by_key(|entry| entry.last_seen)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.replacements.is_empty()
    }

    pub(super) fn position(&self, peer: &PeerId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is_of(peer))
    }

    /// Adds an entry; the room grows to `k` exactly, since most buckets fill up.
    pub(super) fn push(&mut self, entry: Entry, k: usize) {
        if self.entries.len() == self.entries.capacity() {
            let grow = (self.entries.len() / 2).max(2).min(k.saturating_sub(self.entries.len())).max(1);
            self.entries.reserve_exact(grow);
        }
        self.entries.push(entry);
    }

    /// Puts an entry behind all others, in the place of one that goes: the longest are first.
    pub(super) fn replace(&mut self, at: usize, entry: Entry) -> Option<Entry> {
        let replaced = (at < self.entries.len()).then(|| self.entries.remove(at))?;
        self.entries.push(entry);
        Some(replaced)
    }

    /// Adds a peer to those that wait, in place of an earlier mention of it; the oldest makes room.
    pub(super) fn wait(&mut self, entry: Entry, room: usize) -> bool {
        self.replacements.retain(|waiting| waiting.peer != entry.peer);
        if room == 0 {
            return false;
        }
        while self.replacements.len() >= room {
            self.replacements.remove(0);
        }
        self.replacements.reserve_exact(1);
        self.replacements.push(entry);
        true
    }
}
