//! The routing table: buckets of peers by their distance, kept only as far as they are occupied.
//!
//! Knows keys, peers, and which of them answered or failed when. Does no I/O: whom to probe is asked of it, what came of it is
//! told to it.

mod room;

use std::cmp::Reverse;

use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::bucket::{Bucket, Entry, Experience};
use super::rules::TableConfig;
use crate::addrs::{Addresses, Groups};
use crate::key::{BucketIndex, Distance, Key};
use crate::stats::{self, gauge};
use crate::time::Instant;

/// The outcome of inserting a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Insert {
    /// The peer is in the table now; `replaced` was stale and made room.
    Added {
        /// The peer that made room, if one did.
        replaced: Option<PeerId>,
    },
    /// The peer was there already; it has given a sign of life.
    Known,
    /// The bucket is full of peers that are not known to be dead; the peer waits.
    Pending,
    /// The peer was not taken.
    Refused(Refusal),
}

/// The reason why a peer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its key is the key of this node.
    OwnKey,
    /// No address of it is known.
    NoAddresses,
    /// Too many peers of its IP group are there.
    Diversity,
    /// The bucket is full, and no peer may wait.
    Full,
}

/// The outcome of a failure for the entry of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failed {
    /// The peer is not in the table.
    Unknown,
    /// The peer stays, but is not handed out before it answers again.
    Doubted,
    /// The peer has left; the one that waited longest for news of it has its place.
    Replaced(PeerId),
    /// The peer has left.
    Removed,
}

/// The priority of a stranger: how much the table would gain by it; the more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AdmissionPriority {
    /// Its bucket has room for so many.
    Room(u8),
    /// It would be among the `k` closest to the own key, at this distance.
    Near(Reverse<Distance>),
    /// The application has named it, whatever its place.
    Named,
}

/// The routing table.
///
/// # What it decides
/// Which peer stands in which bucket, which waits for a place, which may be named to others, which leaves.
///
/// # An entry's states
/// ```text
///            answered                      failed           failed, others answer,
///  waiting ------------> live <---------------------> doubted ------------------> gone
///     ^     room            \      answered             |     a replacement waits
///     |                      silent for `grace`:        |     or the fifth failure
///     +---- bucket full       to be probed              +--- no peer answers: kept, flagged stale
/// ```
///
/// # Inputs
/// [`insert`](Self::insert) a peer that has answered; [`answered`](Self::answered), [`seen`](Self::seen) and
/// [`failed`](Self::failed) of one that is there; [`remove`](Self::remove).
///
/// # Outputs
/// [`closest`](Self::closest) peers to a key, without an allocation; each entry's
/// [`probe_at`](Entry::probe_at), which [`Probe`](super::Probe) watches.
///
/// # What time does
/// An entry that was silent for the grace period is to be probed, one that failed after a pause, which doubles. Nothing leaves
/// by time alone.
///
/// # Bounds
/// At most 256 buckets of `k` entries and `replacements` waiting peers. A bucket exists only while it has either.
///
/// # Invariants
/// - An entry stands in the bucket of the highest bit of its distance; no peer stands twice; never this node.
/// - A live entry is never displaced, but one beyond the limits per IP group, which it may be where they are soft, and one with
///   which the application had a bad experience. One that failed leaves only if others have answered since it began to fail, and
///   failures count towards that only with answers of others between them: a node that has lost its own uplink keeps
///   its table, the first answer after it does not cost the others their places, and with it all are probed soon.
/// - No more peers of one IP group than the limits allow, in a bucket, in the table and among the `k` nearest, unless they are
///   soft: then those beyond have places that are empty otherwise.
/// - Equal keys of different peers coexist, ordered by peer id.
///
/// # Spec
/// libp2p kad-dht, "Kademlia routing table"; Maymounkov & Mazières §2.2, §2.4, §4.1; IPFS Kademlia DHT, "Routing
/// Table". An entry enters only after it has answered a request of this node, which the caller sees to.
#[derive(Clone, Debug)]
pub struct Table {
    local: Key,
    config: TableConfig,
    /// Occupied buckets, nearest first.
    buckets: Vec<Bucket>,
    len: usize,
    last_answer: Option<Instant>,
    /// Whether some failures may be this node's own outage.
    may_be_cut_off: bool,
    counts: stats::RoutingTable,
}

impl Table {
    /// Makes an empty table of the node with the key `local`. It takes no memory for buckets.
    pub fn new(local: Key, config: TableConfig) -> Self {
        let counts = stats::RoutingTable::default();
        Self { local, config, buckets: Vec::new(), len: 0, last_answer: None, may_be_cut_off: false, counts }
    }

    /// Returns the key of this node.
    pub const fn local(&self) -> &Key {
        &self.local
    }

    /// Returns the rules.
    pub const fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Returns the number of entries, waiting peers not counted.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many peers there are, and what has become of those that were inserted, removed or have failed so far;
    /// walks the buckets.
    pub fn stats(&self) -> stats::RoutingTable {
        let waiting = self.buckets.iter().map(|bucket| bucket.replacements.len()).sum();
        stats::RoutingTable {
            entries: gauge(self.len),
            replacements: gauge(waiting),
            buckets: gauge(self.buckets.len()),
            ..self.counts.clone()
        }
    }

    /// Iterates over the occupied buckets, nearest first.
    pub fn buckets(&self) -> std::slice::Iter<'_, Bucket> {
        self.buckets.iter()
    }

    /// Returns whether the `k` closest peers to this node include every peer of a bucket: the table knows fewer than half of
    /// `k` there and nearer, so that it may lack as many.
    pub(crate) fn is_within_the_closest(&self, bucket: BucketIndex) -> bool {
        let there_and_nearer = self.buckets.iter().take_while(|other| other.index() <= bucket);
        let count: usize = there_and_nearer.map(|bucket| bucket.entries().len()).sum();
        count < usize::from(self.config.bucket_size.get()).div_ceil(2)
    }

    /// Returns the bucket in which `key` belongs, occupied or not; `None` if the key is this node's own.
    pub fn bucket(&self, key: &Key) -> Option<&Bucket> {
        let index = self.local.distance(key).bucket()?;
        let occupied = self.find(index).ok().and_then(|at| self.buckets.get(at));
        occupied.or_else(|| Bucket::empty(index))
    }

    /// Iterates over all entries, nearest bucket first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    /// Returns the entry of a peer.
    pub fn entry(&self, key: &Key, peer: &PeerId) -> Option<&Entry> {
        self.bucket(key)?.entries.iter().find(|entry| entry.is_of(peer))
    }

    /// Iterates over the entries by their distance to `target`, nearest first, doubted ones included.
    ///
    /// Allocates nothing for buckets of up to 24 entries. One step into a bucket sorts that bucket; others are not
    /// touched, so that a key near this node costs no more than one far away.
    pub fn closest(&self, target: &Key) -> Closest<'_> {
        Closest {
            buckets: &self.buckets,
            target: *target,
            path: self.local.distance(target),
            next: Some(Walk::Down(self.buckets.len())),
            bucket: &[],
            sorted: SmallVec::new(),
        }
    }

    /// Inserts a peer that has answered a request of this node, or refreshes it if it is there.
    ///
    /// `groups` are those of the address at which the connection to it was made.
    pub fn insert(
        &mut self,
        now: Instant,
        key: Key,
        peer: PeerId,
        addresses: Addresses,
        groups: Groups,
    ) -> Insert {
        let inserted = self.try_insert(now, key, peer, addresses, groups);
        let counts = &mut self.counts;
        match inserted {
            Insert::Added { replaced } => {
                counts.inserted += 1;
                counts.evicted.replaced += u64::from(replaced.is_some());
            }
            Insert::Known => {}
            Insert::Pending => counts.pending += 1,
            Insert::Refused(Refusal::OwnKey) => counts.refused.own_key += 1,
            Insert::Refused(Refusal::NoAddresses) => counts.refused.no_addresses += 1,
            Insert::Refused(Refusal::Diversity) => counts.refused.diversity += 1,
            Insert::Refused(Refusal::Full) => counts.refused.full += 1,
        }
        inserted
    }

    fn try_insert(
        &mut self,
        now: Instant,
        key: Key,
        peer: PeerId,
        addresses: Addresses,
        groups: Groups,
    ) -> Insert {
        let Some(index) = self.local.distance(&key).bucket() else {
            return Insert::Refused(Refusal::OwnKey);
        };
        if self.answered(now, &key, &peer) {
            self.set_addresses(&key, &peer, &addresses);
            return Insert::Known;
        }
        if addresses.is_empty() {
            return Insert::Refused(Refusal::NoAddresses);
        }
        let is_excess = !self.has_room_for(index, (&key, groups), None);
        if is_excess && !self.is_soft() {
            return Insert::Refused(Refusal::Diversity);
        }
        let in_excess = self.in_excess(index);
        let mut entry = Entry::new(now, key, peer, addresses, groups, &self.config);
        let (k, waiting) =
            (usize::from(self.config.bucket_size.get()), usize::from(self.config.replacements));
        let last_answer = self.last_answer;
        let bucket = self.occupy(index);
        let waited = bucket.replacements.iter().find(|waiting| waiting.is_of(&peer));
        if let Some(experience) = waited.and_then(Entry::experience) {
            entry.set_experience(experience);
        }
        bucket.replacements.retain(|waiting| !waiting.is_of(&peer));
        if bucket.entries.len() < k {
            bucket.push(entry, k);
            self.len += 1;
            return Insert::Added { replaced: None };
        }
        if is_excess {
            return Insert::Refused(Refusal::Diversity);
        }
        let gone = |entry: &Entry| entry.is_dead() && !entry.fails_alone(last_answer);
        let is_bad = |entry: &Entry| entry.experience() == Some(Experience::Bad);
        let place = bucket.entries.iter().position(gone).or(in_excess);
        if let Some(place) = place.or_else(|| bucket.entries.iter().rposition(is_bad)) {
            return Insert::Added { replaced: bucket.replace(place, entry).map(|replaced| replaced.peer()) };
        }
        if bucket.wait(entry, waiting) { Insert::Pending } else { Insert::Refused(Refusal::Full) }
    }

    /// Returns whether failures may be this node's own outage, which ends with the next answer: then those who failed are to be
    /// probed sooner.
    pub(crate) const fn may_be_cut_off(&self) -> bool {
        self.may_be_cut_off
    }

    /// Notes that a peer has answered, and returns whether it is in the table.
    pub fn answered(&mut self, now: Instant, key: &Key, peer: &PeerId) -> bool {
        self.last_answer = Some(now);
        if std::mem::take(&mut self.may_be_cut_off) {
            let (config, last_answer) = (&self.config, self.last_answer);
            let all = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.entries);
            all.for_each(|entry| entry.outage_is_over(config, last_answer));
        }
        self.update(key, peer, |entry, config| entry.answered(now, config))
    }

    /// Notes that a peer has made a request, and returns whether it is in the table.
    ///
    /// This shows that it lives, not that it can be reached: a doubted peer stays doubted.
    pub fn seen(&mut self, now: Instant, key: &Key, peer: &PeerId) -> bool {
        self.update(key, peer, |entry, config| entry.seen(now, config))
    }

    /// Notes what the application has experienced with a peer that is in the table or waits for a place, and returns whether it is.
    ///
    /// Of a full bucket one that was bad makes way for a newcomer, and of those that wait one that was good goes first.
    pub fn report(&mut self, key: &Key, peer: &PeerId, experience: Experience) -> bool {
        let at = self.local.distance(key).bucket().and_then(|index| self.find(index).ok());
        let Some(bucket) = at.and_then(|at| self.buckets.get_mut(at)) else {
            return false;
        };
        let known = bucket.entries.iter_mut().chain(&mut bucket.replacements).find(|entry| entry.is_of(peer));
        known.map(|entry| entry.set_experience(experience)).is_some()
    }

    /// Replaces the addresses of a peer that is in the table, and returns whether that changed anything.
    pub fn set_addresses(&mut self, key: &Key, peer: &PeerId, addresses: &Addresses) -> bool {
        match self.entry_mut(key, peer) {
            Some(entry) if entry.addresses() != addresses && !addresses.is_empty() => {
                entry.set_addresses(addresses.clone());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Notes whether there is a connection to a peer.
    pub fn set_connected(&mut self, key: &Key, peer: &PeerId, connected: bool) {
        self.update(key, peer, |entry, _| entry.set_connected(connected));
    }

    /// Sets when a peer of the table is to be probed next: at once on suspicion, later if it just could not be.
    pub fn probe_at(&mut self, at: Instant, key: &Key, peer: &PeerId) {
        if let Some(entry) = self.entry_mut(key, peer) {
            entry.set_probe_at(at);
        }
    }

    /// Lets the peers be probed that are concerned, the first of them now.
    pub(crate) fn probe_all(&mut self, now: Instant, concerns: impl Fn(&PeerId) -> bool) {
        let all = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.entries);
        all.filter(|entry| concerns(&entry.peer())).for_each(|entry| entry.set_probe_at(now));
    }

    /// Notes that a request or a dial to a peer has failed; `probe` tells whether it was made to see if it still lives.
    ///
    /// A peer that fails a probe, or fails again, gives its place to one that waits, if another peer has answered since
    /// it began to fail; one that fails five times in a row, with answers of others between, leaves in any case.
    pub fn failed(&mut self, now: Instant, key: &Key, peer: &PeerId, probe: bool) -> Failed {
        let last_answer = self.last_answer;
        let mut may_be_cut_off = self.may_be_cut_off;
        self.update(key, peer, |entry, config| may_be_cut_off |= entry.failed(now, config, last_answer));
        self.may_be_cut_off = may_be_cut_off;
        let Some(entry) = self.entry(key, peer) else {
            return Failed::Unknown;
        };
        let alone = entry.fails_alone(last_answer);
        let (dead, challenged) = (entry.is_dead(), probe || entry.failures() > 1);
        if alone || !(dead || challenged) {
            return Failed::Doubted;
        }
        if let Some(replacement) = self.take_replacement(key, peer) {
            self.counts.inserted += 1;
            self.counts.evicted.replaced += 1;
            return Failed::Replaced(replacement);
        }
        if !dead {
            return Failed::Doubted;
        }
        self.take_out(key, peer);
        self.counts.evicted.failed += 1;
        Failed::Removed
    }

    /// Removes a peer from the table and from those that wait, and returns its entry if it had one.
    pub fn remove(&mut self, key: &Key, peer: &PeerId) -> Option<Entry> {
        let removed = self.take_out(key, peer);
        self.counts.evicted.removed += u64::from(removed.is_some());
        removed
    }

    fn take_out(&mut self, key: &Key, peer: &PeerId) -> Option<Entry> {
        let at = self.find(self.local.distance(key).bucket()?).ok()?;
        let bucket = self.buckets.get_mut(at)?;
        bucket.replacements.retain(|waiting| !waiting.is_of(peer));
        let removed = bucket.position(peer).map(|position| bucket.entries.remove(position));
        if bucket.is_empty() {
            self.buckets.remove(at);
        }
        if removed.is_some() {
            self.len -= 1;
        }
        removed
    }

    /// Returns whether a stranger at `key` is worth a request of its own, groups aside.
    ///
    /// It is if it would be among the `k` closest to the own key, of which every one counts, or if its bucket has a stale
    /// entry or is less than a quarter full. The other places are filled by those that answer lookups, for nothing.
    pub fn wants(&self, key: &Key) -> bool {
        self.admission_priority(key).is_some()
    }

    /// Returns the priority of a stranger at `key`, groups aside, if it is worth a request of its own.
    pub(crate) fn admission_priority(&self, key: &Key) -> Option<AdmissionPriority> {
        let k = usize::from(self.config.bucket_size.get());
        let distance = self.local.distance(key);
        distance.bucket()?;
        let entries = self.bucket(key).map_or(&[][..], Bucket::entries);
        if entries.len() < k && self.nearer(key) < k {
            Some(AdmissionPriority::Near(Reverse(distance)))
        } else if entries.len() < k / 4 || entries.is_empty() || entries.iter().any(Entry::is_stale) {
            let live = entries.iter().filter(|entry| !entry.is_stale()).count();
            Some(AdmissionPriority::Room(u8::try_from(k - live).unwrap_or(u8::MAX)))
        } else {
            None
        }
    }

    /// Returns how many entries are nearer to this node than a key.
    pub(crate) fn nearer(&self, key: &Key) -> usize {
        let distance = self.local.distance(key);
        let Some(index) = distance.bucket() else {
            return 0;
        };
        let nearer_buckets = self.buckets.iter().take_while(|bucket| bucket.index() < index);
        let in_bucket = |bucket: &Bucket| {
            bucket.entries.iter().filter(|entry| self.local.distance(entry.key()) < distance).count()
        };
        let own = self.find(index).ok().and_then(|at| self.buckets.get(at));
        nearer_buckets.map(|bucket| bucket.entries.len()).sum::<usize>() + own.map_or(0, in_bucket)
    }

    /// Returns how many entries are nearer to a key than this node.
    pub(crate) fn num_closer(&self, key: &Key) -> usize {
        // At the highest bit in which they differ from this node they agree with the key if that does not.
        let path = self.local.distance(key);
        let closer = self.buckets.iter().filter(|bucket| path.has_bit(bucket.index()));
        closer.map(|bucket| bucket.entries.len()).sum()
    }

    /// Returns whether a peer waits for a place.
    pub(crate) fn is_waiting(&self, key: &Key, peer: &PeerId) -> bool {
        self.bucket(key).is_some_and(|bucket| bucket.replacements.iter().any(|waiting| waiting.is_of(peer)))
    }

    fn entry_mut(&mut self, key: &Key, peer: &PeerId) -> Option<&mut Entry> {
        let at = self.find(self.local.distance(key).bucket()?).ok()?;
        self.buckets.get_mut(at)?.entries.iter_mut().find(|entry| entry.is_of(peer))
    }

    /// Changes the entry of a peer by the table's rules, and returns whether there is one.
    fn update(&mut self, key: &Key, peer: &PeerId, change: impl FnOnce(&mut Entry, &TableConfig)) -> bool {
        let Some(at) = self.local.distance(key).bucket().and_then(|index| self.find(index).ok()) else {
            return false;
        };
        let entries = self.buckets.get_mut(at).into_iter().flat_map(|bucket| &mut bucket.entries);
        let entry = entries.into_iter().find(|entry| entry.is_of(peer));
        entry.map(|entry| change(entry, &self.config)).is_some()
    }

    fn find(&self, index: BucketIndex) -> Result<usize, usize> {
        self.buckets.binary_search_by_key(&index, Bucket::index)
    }

    fn occupy(&mut self, index: BucketIndex) -> &mut Bucket {
        let at = match self.find(index) {
            Ok(at) => at,
            Err(at) => {
                self.buckets.insert(at, Bucket::new(index));
                at
            }
        };
        &mut self.buckets[at]
    }
}

/// The direction in which a [`Closest`] goes on; the number is how many buckets are left below, or done above.
#[derive(Clone, Copy, Debug)]
enum Walk {
    /// From far to near, over the buckets whose bit of the path is set.
    Down(usize),
    /// From near to far, over the others.
    Up(usize),
}

/// An iterator over the entries of a [`Table`] by their distance to a key.
///
/// The buckets whose bit is set in the distance from this node to the key come first, the farthest of them leading:
/// a peer that stands there agrees with the key where this node does not. The others follow, the nearest leading.
#[derive(Clone, Debug)]
pub struct Closest<'a> {
    buckets: &'a [Bucket],
    target: Key,
    /// The distance from this node to the target.
    path: Distance,
    next: Option<Walk>,
    bucket: &'a [Entry],
    /// Positions in `bucket` that have not been returned, farthest first.
    sorted: SmallVec<[(Distance, u8); 24]>,
}

impl<'a> Closest<'a> {
    fn next_bucket(&mut self) -> Option<&'a Bucket> {
        loop {
            match self.next? {
                Walk::Down(0) => self.next = Some(Walk::Up(0)),
                Walk::Down(left) => {
                    self.next = Some(Walk::Down(left - 1));
                    let bucket = self.buckets.get(left - 1)?;
                    if self.path.has_bit(bucket.index()) {
                        return Some(bucket);
                    }
                }
                Walk::Up(done) => {
                    let Some(bucket) = self.buckets.get(done) else {
                        self.next = None;
                        return None;
                    };
                    self.next = Some(Walk::Up(done + 1));
                    if !self.path.has_bit(bucket.index()) {
                        return Some(bucket);
                    }
                }
            }
        }
    }
}

impl<'a> Iterator for Closest<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        loop {
            if let Some((_, position)) = self.sorted.pop() {
                return self.bucket.get(usize::from(position));
            }
            self.bucket = self.next_bucket()?.entries();
            let bucket = self.bucket;
            let distances =
                bucket.iter().zip(0u8..).map(|(entry, at)| (self.target.distance(entry.key()), at));
            self.sorted.extend(distances);
            self.sorted.sort_unstable_by(|(a, a_at), (b, b_at)| {
                // Keys are equal only where the hash is narrow.
                let by_peer = || bucket[usize::from(*b_at)].peer().cmp(&bucket[usize::from(*a_at)].peer());
                b.cmp(a).then_with(by_peer)
            });
        }
    }
}

#[cfg(test)]
pub(in crate::routing) mod tests;
