//! The index of a store: what is kept, what it takes, when it ends, and what has to make way.
//!
//! Knows keys and sizes; where the values are is the store's affair.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::{IndexMap, IndexSet};
use libp2p_identity::PeerId;

use super::charge::{self, Amount, Beyond, Charge, SHARE, Taken};
use super::{Error, Listed, Result};
use crate::addrs::IpGroup;
use crate::key::{Distance, Key, KeyHash};
use crate::peer::PackedPeerId;
use crate::record::{Record, RecordKey};
use crate::time::SystemTime;

/// The limits of a store: how much room there is for records.
///
/// # When there is none
/// Records that have ended go first. The senders of one IP group have a sixteenth of the room for others, and so has each peer
/// of what it hands on for others. A record that its publisher has sent itself, or that names none, takes the place of what
/// was handed on; then, if all the room is taken, of the farthest from the store's node that the group has which has most, as long
/// as that has more than its own would have; and then of the farthest of its own group if it is nearer itself, as it does where that
/// is beyond its share. So nobody evicts what others have by being nearer. A record that was handed on takes no other's place.
/// Whatever finds none is refused. What the node stores itself has room of its own, and is never dropped.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many records of others are kept, and as many of the node's own. Default: 16,384.
    pub max_records: usize,
    /// How many bytes the keys and values of others may have together, and those of the node. Default: 64 MiB.
    pub max_bytes: usize,
    /// How many bytes a value may have. Default: 65,536.
    pub max_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_records: 16 * 1024, max_bytes: 64 << 20, max_value_bytes: 64 * 1024 }
    }
}

/// So many records that have ended are dropped with one call, and so many provider records; the rest with the next ones.
/// Chosen, not measured.
pub(super) const MAX_ENDED: usize = 1024;

/// Whose a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    Own,
    Other(Charge),
}

/// What is known of a record beside its value.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    distance: Distance,
    bytes: usize,
    ends: Option<SystemTime>,
    pub(super) owner: Ownership,
}

impl Meta {
    const fn cost(&self) -> Amount {
        Amount { count: 1, bytes: self.bytes }
    }

    fn place(&self, key: &RecordKey) -> EvictionPlace {
        let is_replica = matches!(&self.owner, Ownership::Other(charge) if charge.is_replica());
        (is_replica, self.distance, key.clone())
    }
}

/// Where a record stands among others: what makes way first is last. Whether it was handed on, how far it is, its key.
type EvictionPlace = (bool, Distance, RecordKey);

/// What some records take, with the bytes of each.
#[derive(Clone, Debug, Default)]
struct Occupied {
    taken: Amount,
    records: BTreeMap<EvictionPlace, usize>,
}

impl Occupied {
    fn add(&mut self, key: &RecordKey, meta: &Meta) {
        self.taken = self.taken.plus(meta.cost());
        self.records.insert(meta.place(key), meta.bytes);
    }

    fn remove(&mut self, key: &RecordKey, meta: &Meta) {
        if self.records.remove(&meta.place(key)).is_some() {
            self.taken = self.taken.minus(meta.cost());
        }
    }
}

/// What is kept.
///
/// # Invariants
/// The rooms, the groups, the peers and the ends are those of the records; no room holds more than its limits.
#[derive(Debug)]
pub(super) struct Index {
    peer: PeerId,
    local: Key,
    hash: KeyHash,
    pub(super) limits: Limits,
    records: IndexMap<RecordKey, Meta>,
    own: Occupied,
    foreign: Occupied,
    /// Those of others; all that belong to no group count as one.
    by_group: BTreeMap<Option<IpGroup>, Occupied>,
    /// How much of the room each group has.
    by_size: BTreeSet<(u64, Option<IpGroup>)>,
    /// What each peer has handed on.
    by_peer: BTreeMap<PackedPeerId, Amount>,
    ends: BTreeSet<(SystemTime, RecordKey)>,
}

/// Of so many groups at most records make way for one (chosen, not measured).
const MAX_DISPLACED: usize = 32;

/// Returns what part of the room so much is, by count or by bytes, whichever is more: of two to the thirty-second.
fn part_of(limits: &Limits, amount: Amount) -> u64 {
    let part = |taken: usize, of: usize| ((taken as u128) << 32).checked_div(of as u128).unwrap_or(u128::MAX);
    let part = part(amount.count, limits.max_records).max(part(amount.bytes, limits.max_bytes));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// The room of a group of which nothing is kept.
static NOTHING: Occupied = Occupied { taken: Amount::of(0), records: BTreeMap::new() };

impl Index {
    pub(super) fn new(peer: PeerId, limits: Limits) -> Self {
        let hash = Key::sha256;
        Self {
            peer,
            local: Key::of_peer(&peer, hash),
            hash,
            limits,
            records: IndexMap::new(),
            own: Occupied::default(),
            foreign: Occupied::default(),
            by_group: BTreeMap::new(),
            by_size: BTreeSet::new(),
            by_peer: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Measures how far records are by the hash of the network, those too that are here already.
    pub(super) fn set_key_hash(&mut self, hash: KeyHash) {
        if std::ptr::fn_addr_eq(self.hash, hash) {
            return;
        }
        (self.hash, self.local) = (hash, Key::of_peer(&self.peer, hash));
        let keys: Vec<_> = self.records.keys().cloned().collect();
        for key in keys {
            if let Some(mut meta) = self.remove(&key) {
                meta.distance = self.distance(&key);
                self.insert(key, meta);
            }
        }
    }

    fn distance(&self, key: &RecordKey) -> Distance {
        self.local.distance(&(self.hash)(key.as_ref()))
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&Meta> {
        self.records.get(key)
    }

    pub(super) fn is_own(&self, key: &RecordKey) -> bool {
        self.get(key).is_some_and(|meta| meta.owner == Ownership::Own)
    }

    /// Returns whether there is a record of others that its publisher has put here.
    #[cfg(feature = "redb")]
    pub(super) fn holds_put(&self, key: &RecordKey) -> bool {
        self.get(key)
            .is_some_and(|meta| matches!(&meta.owner, Ownership::Other(known) if !known.is_replica()))
    }

    #[cfg(any(test, feature = "redb"))]
    pub(super) fn keys(&self) -> indexmap::map::Keys<'_, RecordKey, Meta> {
        self.records.keys()
    }

    /// Returns how many records there are, and how many bytes their keys and values take.
    pub(super) const fn taken(&self) -> (usize, usize) {
        let (own, foreign) = (self.own.taken, self.foreign.taken);
        (own.count + foreign.count, own.bytes + foreign.bytes)
    }

    /// Returns how many bytes the keys and values of others take.
    pub(super) fn foreign_bytes(&self) -> usize {
        self.foreign.taken.bytes
    }

    /// Changes the rooms in which what is somebody's is kept.
    fn change(&mut self, owner: &Ownership, change: impl Fn(&mut Occupied)) {
        let Ownership::Other(charge) = owner else {
            return change(&mut self.own);
        };
        change(&mut self.foreign);
        let (limits, group) = (&self.limits, charge.group());
        let room = self.by_group.entry(group).or_default();
        let before = part_of(limits, room.taken);
        change(room);
        let (now, is_empty) = (part_of(limits, room.taken), room.records.is_empty());
        // The new one first, so that where there is but one group nothing is freed to be taken again.
        if !is_empty {
            self.by_size.insert((now, group));
        }
        if is_empty || before != now {
            self.by_size.remove(&(before, group));
        }
        if is_empty {
            self.by_group.remove(&group);
        }
    }

    pub(super) fn remove(&mut self, key: &RecordKey) -> Option<Meta> {
        let meta = self.records.swap_remove(key)?;
        self.change(&meta.owner, |room| room.remove(key, &meta));
        if let Ownership::Other(charge) = &meta.owner
            && let Some(peer) = charge.handed_on_by()
            && let Some(taken) = self.by_peer.get_mut(peer)
        {
            *taken = taken.minus(meta.cost());
            if taken.count == 0 {
                self.by_peer.remove(peer);
            }
        }
        if let Some(end) = meta.ends {
            self.ends.remove(&(end, key.clone()));
        }
        Some(meta)
    }

    fn insert(&mut self, key: RecordKey, meta: Meta) {
        self.change(&meta.owner, |room| room.add(&key, &meta));
        if let Ownership::Other(charge) = &meta.owner
            && let Some(peer) = charge.handed_on_by()
        {
            let taken = self.by_peer.entry(peer.clone()).or_default();
            *taken = taken.plus(meta.cost());
        }
        self.ends.extend(meta.ends.map(|end| (end, key.clone())));
        self.records.insert(key, meta);
    }

    /// Takes a record in, in place of an earlier one of its key, which `is_same` if it has the same value, and returns the keys
    /// of those that have to go.
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`], [`Error::MaxRecords`]; then nothing has changed, but for what has ended.
    pub(super) fn add(
        &mut self,
        wall: SystemTime,
        record: &Record,
        owner: Ownership,
        is_same: bool,
    ) -> (Vec<RecordKey>, Result<()>) {
        let Limits { max_records, max_bytes, max_value_bytes, .. } = self.limits;
        let bytes = record.value.len();
        if bytes > max_value_bytes {
            return (Vec::new(), Err(Error::ValueTooLarge { bytes, most: max_value_bytes }));
        }
        let mut meta = Meta {
            distance: self.distance(&record.key),
            bytes: record.key.as_ref().len() + record.value.len(),
            ends: record.expires,
            owner,
        };
        let mut gone = self.expire(wall, MAX_ENDED);
        let before = self.remove(&record.key);
        if let (Some(Meta { owner: Ownership::Other(known), .. }), Ownership::Other(_)) =
            (&before, &meta.owner)
            && is_same
            && !known.is_replica()
        {
            // What its publisher has put here stays so, though others hand the same on; nor is it anybody else's who puts the
            // same, or else whoever does could have it make way for what is its own.
            meta.owner = Ownership::Other(known.clone());
        }
        let Some(evicted) = self.to_evict(&meta) else {
            before.into_iter().for_each(|meta| self.insert(record.key.clone(), meta));
            return (gone, Err(Error::MaxRecords { records: max_records, bytes: max_bytes }));
        };
        for key in &evicted {
            self.remove(key);
        }
        gone.extend(evicted);
        self.insert(record.key.clone(), meta);
        (gone, Ok(()))
    }

    /// Returns the rooms of the groups that have most of what is lacking, places or bytes, the largest first, each with its records:
    /// what makes way first is first.
    fn largest(
        &self,
        size: &impl Fn(Amount) -> usize,
    ) -> Vec<(&Occupied, impl Iterator<Item = (&EvictionPlace, &usize)>)> {
        let groups = self.by_size.iter().rev().take(MAX_DISPLACED);
        let mut rooms: Vec<_> = groups.filter_map(|(_, group)| self.by_group.get(group)).collect();
        rooms.sort_by_key(|room| std::cmp::Reverse(size(room.taken)));
        rooms.into_iter().map(|room| (room, room.records.iter().rev())).collect()
    }

    /// Returns which records have to go so that one more fits.
    fn to_evict(&self, meta: &Meta) -> Option<IndexSet<RecordKey>> {
        let room = Amount { count: self.limits.max_records, bytes: self.limits.max_bytes };
        let Ownership::Other(charge) = &meta.owner else {
            let own = Taken { all: self.own.taken, ..Taken::default() };
            return charge::charge(&Charge::direct(None), meta.cost(), &own, room, SHARE)
                .ok()
                .map(|()| IndexSet::new());
        };
        let of_group = self.by_group.get(&charge.group()).unwrap_or(&NOTHING);
        let of_peer = charge.handed_on_by().and_then(|peer| self.by_peer.get(peer));
        let mut taken = Taken {
            all: self.foreign.taken,
            group: of_group.taken,
            peer: of_peer.copied().unwrap_or_default(),
        };
        if charge::charge(charge, meta.cost(), &taken, room, SHARE).is_ok() {
            return Some(IndexSet::new());
        }
        let mut group = of_group.records.iter().rev();
        let lacks_places = !self.foreign.taken.plus(Amount::of(1)).fits(Amount { bytes: usize::MAX, ..room });
        let size = |amount: Amount| if lacks_places { amount.count } else { amount.bytes };
        let mut larger = self.largest(&size).into_iter();
        let (mut others, mut freed_of_larger) = (larger.next(), Amount::of(0));
        let mut replicas = self.foreign.records.iter().rev().take_while(|((is_replica, ..), _)| *is_replica);
        let mut evicted = IndexSet::new();
        loop {
            let beyond = match charge::charge(charge, meta.cost(), &taken, room, SHARE) {
                Ok(()) => return Some(evicted),
                Err(beyond) => beyond,
            };
            // What lies nearer displaces what its own group has farther away, and nobody else's; whoever has less displaces the
            // farthest of the group that has most, and of the next, as long as that has more.
            let own = size(taken.group.plus(meta.cost()));
            let (last, is_of_group) = match beyond {
                Beyond::Peer => (None, false),
                Beyond::Group => (group.next(), true),
                Beyond::Room => match replicas.next() {
                    Some(replica) => (Some(replica), false),
                    None => {
                        while others
                            .as_ref()
                            .is_some_and(|(room, _)| size(room.taken.minus(freed_of_larger)) <= own)
                        {
                            (others, freed_of_larger) = (larger.next(), Amount::of(0));
                        }
                        match &mut others {
                            Some((_, records)) => (records.next(), false),
                            None => (group.next(), true),
                        }
                    }
                },
            };
            let ((is_replica, distance, key), bytes) = last?;
            if evicted.contains(key) {
                continue;
            }
            if !charge.displaces(*is_replica, !is_of_group || *distance > meta.distance) {
                return None;
            }
            evicted.insert(key.clone());
            let freed = Amount { count: 1, bytes: *bytes };
            taken.all = taken.all.minus(freed);
            if is_of_group {
                taken.group = taken.group.minus(freed);
            } else if others
                .as_ref()
                .is_some_and(|(room, _)| room.records.contains_key(&(*is_replica, *distance, key.clone())))
            {
                freed_of_larger = freed_of_larger.plus(freed);
            }
        }
    }

    /// Drops so many at most of what has ended, what ended first, and returns the keys.
    pub(super) fn expire(&mut self, wall: SystemTime, most: usize) -> Vec<RecordKey> {
        let mut gone = Vec::new();
        while gone.len() < most
            && let Some((_, key)) = self.ends.first().filter(|(end, _)| *end <= wall).cloned()
        {
            self.remove(&key);
            gone.push(key);
        }
        gone
    }

    /// Lets so many records of others at most end at `latest` that would end later, and returns them.
    pub(super) fn shorten(&mut self, latest: SystemTime, most: usize) -> Vec<(RecordKey, Ownership)> {
        let late = self.ends.iter().rev().take_while(|(end, _)| *end > latest);
        let late = late.filter_map(|(_, key)| Some((key.clone(), self.records.get(key)?.owner.clone())));
        let late: Vec<_> = late.filter(|(_, owner)| *owner != Ownership::Own).take(most).collect();
        for (key, _) in &late {
            if let Some(meta) = self.records.get_mut(key)
                && let Some(end) = meta.ends.replace(latest)
            {
                self.ends.remove(&(end, key.clone()));
                self.ends.insert((latest, key.clone()));
            }
        }
        late
    }

    /// Returns when the next record ends.
    pub(super) fn next_end(&self) -> Option<SystemTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Lists so many keys at most that stand before a place, the last first, with the ends of their records.
    ///
    /// Whatever is removed meanwhile, the last takes its place; so none that stays is left out.
    pub(super) fn list(&self, before: Option<usize>, most: usize) -> Listed {
        let before = before.unwrap_or(usize::MAX).min(self.records.len());
        let from = before.saturating_sub(most);
        let some = self.records.get_range(from..before).into_iter().flatten().rev();
        let keys = some.map(|(key, meta)| (key.clone(), meta.ends)).collect();
        Listed { keys, before: Some(from).filter(|from| *from > 0) }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let of = |own: bool| self.records.values().filter(move |meta| (meta.owner == Ownership::Own) == own);
        let sum =
            |all: &mut dyn Iterator<Item = &Meta>| all.fold(Amount::of(0), |sum, meta| sum.plus(meta.cost()));
        let (most, Limits { max_records, max_bytes, .. }) = (SHARE, self.limits.clone());
        for (room, own) in [(&self.own, true), (&self.foreign, false)] {
            assert_eq!((room.taken, room.records.len()), (sum(&mut of(own)), room.taken.count));
            assert!(room.taken.count <= max_records && room.taken.bytes <= max_bytes);
        }
        let mut groups: BTreeMap<Option<IpGroup>, Amount> = BTreeMap::new();
        let mut peers: BTreeMap<PackedPeerId, Amount> = BTreeMap::new();
        for meta in of(false) {
            let Ownership::Other(charge) = &meta.owner else { continue };
            let taken = groups.entry(charge.group()).or_default();
            *taken = taken.plus(meta.cost());
            if let Some(peer) = charge.handed_on_by() {
                let taken = peers.entry(peer.clone()).or_default();
                *taken = taken.plus(meta.cost());
            }
        }
        assert_eq!(
            self.by_group.iter().map(|(group, room)| (*group, room.taken)).collect::<BTreeMap<_, _>>(),
            groups
        );
        assert_eq!(self.by_peer, peers);
        let by_size = groups.iter().map(|(group, taken)| (part_of(&self.limits, *taken), *group));
        assert_eq!(self.by_size, by_size.collect());
        let groups = groups.iter().filter_map(|(group, taken)| group.map(|_| taken));
        for taken in groups.chain(peers.values()) {
            assert!(taken.count <= max_records.div_ceil(most) && taken.bytes <= max_bytes.div_ceil(most));
        }
        assert_eq!(self.ends.len(), self.records.values().filter(|meta| meta.ends.is_some()).count());
    }
}
