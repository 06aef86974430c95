//! The index of a store: what is kept, what it takes, when it ends, and what has to make way.
//!
//! Knows keys and sizes; where the values are is the store's affair.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::{Error, Result};
use crate::addrs::IpGroup;
use crate::key::{Distance, Key, KeyHash};
use crate::record::{Record, RecordKey};
use crate::time::SystemTime;

/// How much room there is for records.
///
/// # When there is none
/// Records that have ended go first. The senders of one IP group have a sixteenth of the room for others. Beyond that, and
/// when all the room is taken, the farthest from the store's node makes way for a nearer one, of the same group or of any; a
/// record that would be the farthest itself is refused. What the node stores itself has room of its own, and is never dropped.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many records of others are kept, and as many of the node's own. Default: 16,384.
    pub max_records: usize,
    /// How many bytes the keys and values of others may have together, and those of the node. Default: 64 MiB.
    pub max_bytes: usize,
    /// How many bytes a value may have. Default: 65,536.
    pub max_value_bytes: usize,
    /// The hash by which records are near to the node or far from it. Default: SHA-256.
    pub key_hash: KeyHash,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_records: 16 * 1024,
            max_bytes: 64 << 20,
            max_value_bytes: 64 * 1024,
            key_hash: Key::sha256,
        }
    }
}

/// So many records that have ended are dropped with one call, and so many provider records; the rest with the next ones.
pub(super) const MAX_ENDED: usize = 1024;

/// The senders of one IP group may take one part in so many of the room for others.
pub(super) const GROUP_SHARE: usize = 16;

/// Whose a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Own,
    Other(Option<IpGroup>),
}

/// What is known of a record beside its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    distance: Distance,
    bytes: usize,
    ends: Option<SystemTime>,
    pub(super) owner: Owner,
}

/// What some records take, with the bytes of each, nearest first.
#[derive(Clone, Debug, Default)]
struct Room {
    bytes: usize,
    records: BTreeMap<(Distance, RecordKey), usize>,
}

impl Room {
    fn add(&mut self, key: &RecordKey, meta: &Meta) {
        self.bytes += meta.bytes;
        self.records.insert((meta.distance, key.clone()), meta.bytes);
    }

    fn remove(&mut self, key: &RecordKey, meta: &Meta) {
        if let Some(bytes) = self.records.remove(&(meta.distance, key.clone())) {
            self.bytes -= bytes;
        }
    }

    /// Returns the records that have to go so that one more fits, farthest first; `None` if that one is the farthest.
    fn to_evict(&self, meta: &Meta, max_records: usize, max_bytes: usize) -> Option<Vec<RecordKey>> {
        let (mut count, mut bytes) = (self.records.len() + 1, self.bytes + meta.bytes);
        let mut farthest = self.records.iter().rev();
        let mut evicted = Vec::new();
        while count > max_records || bytes > max_bytes {
            let ((_, key), size) = farthest.next().filter(|((distance, _), _)| *distance > meta.distance)?;
            evicted.push(key.clone());
            count -= 1;
            bytes -= size;
        }
        Some(evicted)
    }
}

/// What is kept.
///
/// # Invariants
/// The rooms, the groups and the ends are those of the records; no room holds more than its limits.
#[derive(Debug)]
pub(super) struct Index {
    local: Key,
    pub(super) limits: Limits,
    records: IndexMap<RecordKey, Meta>,
    own: Room,
    foreign: Room,
    by_group: BTreeMap<IpGroup, Room>,
    ends: BTreeSet<(SystemTime, RecordKey)>,
}

/// The room of a group of which nothing is kept.
static NOTHING: Room = Room { bytes: 0, records: BTreeMap::new() };

impl Index {
    pub(super) fn new(local: Key, limits: Limits) -> Self {
        Self {
            local,
            limits,
            records: IndexMap::new(),
            own: Room::default(),
            foreign: Room::default(),
            by_group: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&Meta> {
        self.records.get(key)
    }

    pub(super) fn is_own(&self, key: &RecordKey) -> bool {
        self.get(key).is_some_and(|meta| meta.owner == Owner::Own)
    }

    #[cfg(any(test, feature = "redb"))]
    pub(super) fn keys(&self) -> indexmap::map::Keys<'_, RecordKey, Meta> {
        self.records.keys()
    }

    /// Returns how many bytes the keys and values of others take.
    pub(super) fn foreign_bytes(&self) -> usize {
        self.foreign.bytes
    }

    fn rooms(&mut self, owner: Owner) -> impl Iterator<Item = &mut Room> {
        let (first, group) = match owner {
            Owner::Own => (&mut self.own, None),
            Owner::Other(group) => (&mut self.foreign, group),
        };
        let second = group.map(|group| self.by_group.entry(group).or_default());
        std::iter::once(first).chain(second)
    }

    pub(super) fn remove(&mut self, key: &RecordKey) -> Option<Meta> {
        let meta = self.records.swap_remove(key)?;
        self.rooms(meta.owner).for_each(|room| room.remove(key, &meta));
        if let Owner::Other(Some(group)) = meta.owner
            && self.by_group.get(&group).is_some_and(|room| room.records.is_empty())
        {
            self.by_group.remove(&group);
        }
        if let Some(end) = meta.ends {
            self.ends.remove(&(end, key.clone()));
        }
        Some(meta)
    }

    fn insert(&mut self, key: RecordKey, meta: Meta) {
        self.rooms(meta.owner).for_each(|room| room.add(&key, &meta));
        self.ends.extend(meta.ends.map(|end| (end, key.clone())));
        self.records.insert(key, meta);
    }

    /// Takes a record in, in place of an earlier one of its key, and returns the keys of those that have to go.
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`], [`Error::MaxRecords`]; then nothing has changed, but for what has ended.
    pub(super) fn add(
        &mut self,
        wall: SystemTime,
        record: &Record,
        owner: Owner,
    ) -> (Vec<RecordKey>, Result<()>) {
        if record.value.len() > self.limits.max_value_bytes {
            return (Vec::new(), Err(Error::ValueTooLarge));
        }
        let meta = Meta {
            distance: self.local.distance(&(self.limits.key_hash)(record.key.as_ref())),
            bytes: record.key.as_ref().len() + record.value.len(),
            ends: record.expires,
            owner,
        };
        let mut gone = self.expire(wall, MAX_ENDED);
        let before = self.remove(&record.key);
        let Some(evicted) = self.to_evict(&meta) else {
            before.into_iter().for_each(|meta| self.insert(record.key.clone(), meta));
            return (gone, Err(Error::MaxRecords));
        };
        for key in &evicted {
            self.remove(key);
        }
        gone.extend(evicted);
        self.insert(record.key.clone(), meta);
        (gone, Ok(()))
    }

    /// Returns which records have to go so that one more fits.
    fn to_evict(&self, meta: &Meta) -> Option<Vec<RecordKey>> {
        let Limits { max_records, max_bytes, .. } = self.limits;
        let Owner::Other(group) = meta.owner else {
            let fits = self.own.records.len() < max_records && self.own.bytes + meta.bytes <= max_bytes;
            return fits.then(Vec::new);
        };
        let of_group = group.and_then(|group| self.by_group.get(&group)).unwrap_or(&NOTHING);
        let (share, share_bytes) = (max_records.div_ceil(GROUP_SHARE), max_bytes.div_ceil(GROUP_SHARE));
        match group.map(|_| of_group.to_evict(meta, share, share_bytes)) {
            // Beyond its share: its own farthest make way.
            Some(Some(evicted)) if !evicted.is_empty() => Some(evicted),
            Some(None) => None,
            Some(Some(_)) | None => self.foreign.to_evict(meta, max_records, max_bytes),
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
    pub(super) fn shorten(&mut self, latest: SystemTime, most: usize) -> Vec<(RecordKey, Owner)> {
        let late = self.ends.iter().rev().take_while(|(end, _)| *end > latest);
        let late = late.filter_map(|(_, key)| Some((key.clone(), self.records.get(key)?.owner)));
        let late: Vec<_> = late.filter(|(_, owner)| *owner != Owner::Own).take(most).collect();
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

    #[cfg(test)]
    pub(super) fn check(&self) {
        let of = |own: bool| self.records.values().filter(move |meta| (meta.owner == Owner::Own) == own);
        for (room, own) in [(&self.own, true), (&self.foreign, false)] {
            assert_eq!(room.records.len(), of(own).count());
            assert_eq!(room.bytes, of(own).map(|meta| meta.bytes).sum::<usize>());
            assert!(room.records.len() <= self.limits.max_records && room.bytes <= self.limits.max_bytes);
        }
        let grouped = of(false).filter(|meta| meta.owner != Owner::Other(None)).count();
        assert_eq!(self.by_group.values().map(|room| room.records.len()).sum::<usize>(), grouped);
        assert!(self.by_group.values().all(|room| !room.records.is_empty()));
        assert_eq!(self.ends.len(), self.records.values().filter(|meta| meta.ends.is_some()).count());
    }
}
