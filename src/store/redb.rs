//! The store on disk: an embedded database.
//!
//! Knows the trait it implements, and files. What takes how much room, and what has to go, stands in the index, in memory.

mod providers;

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ::redb::{Database, ReadableDatabase as _, ReadableTable, TableDefinition, TableHandle as _};
use bytes::Bytes;
use indexmap::IndexMap;
use libp2p_identity::PeerId;

use self::providers::{PROVIDERS, Statements, read_addresses, write_addresses};
use super::index::{Index, Owner};
use super::{Expired, MemoryStoreConfig, RecordStore, Result, Source, not_theirs, provided};
use crate::addrs::IpGroup;
use crate::key::Key;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::{Duration, SystemTime};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("libp2p-kademlia/1/records");
const PEERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("libp2p-kademlia/1/peers");

/// So many changes wait for [`commit`](RecordStore::commit) at most; one more commits them.
const MAX_PENDING: usize = 1024;

/// So many provider records that have ended are dropped with one commit.
const MAX_ENDED: usize = 16 * 1024;

/// Keeps records, provider records and the peers of the routing table in a file, so that they survive the process.
///
/// # What survives
/// Everything that was committed, whatever ends the process. The node commits at most every 50 ms or 256 changes, and
/// acknowledges what others want stored only then; a commit writes to the disk and waits for it.
///
/// # Bounds
/// Those of [`Limits`](super::Limits) for records. In memory there are some 300 bytes for each, and what waits to be
/// committed; values are read from the file when they are asked for. Those of [`ProviderLimits`](super::ProviderLimits) for
/// provider records, which are in memory as a [`MemoryStore`](super::MemoryStore) keeps them, and in the file only to be there
/// again; their keys may have 65,535 bytes.
///
/// # Errors
/// [`Error::Io`](super::Error::Io), which names the file. A file that is damaged, or is none of this store's, is not opened and not
/// changed.
#[derive(Debug)]
pub struct Redb {
    database: Database,
    path: PathBuf,
    local: PeerId,
    index: Index,
    /// What a commit will write: a record, or nothing in place of one.
    pending: IndexMap<RecordKey, Option<Vec<u8>>>,
    statements: Statements,
}

/// What stands in a file.
struct Contents {
    index: Index,
    /// The records that are beyond the bounds.
    dropped: Vec<RecordKey>,
    statements: Statements,
}

impl Redb {
    /// Opens the store of the node `local` at a path, or makes one if there is no file.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io), which names the file.
    pub fn open(path: impl AsRef<Path>, local: PeerId) -> Result<Self> {
        Self::open_with(path, local, MemoryStoreConfig::default())
    }

    /// Opens the store of the node `local` at a path, with the given bounds.
    ///
    /// If there are more records than the bounds allow, those farthest from the node are dropped with the next commit; so are
    /// provider records beyond theirs, and those that are a former identity's own.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io), which names the file.
    pub fn open_with(path: impl AsRef<Path>, local: PeerId, config: MemoryStoreConfig) -> Result<Self> {
        let path = path.as_ref().to_owned();
        // The database checks what it reads, but not everywhere without a panic.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::read(&path, local, &config)));
        let (database, contents) = opened
            .unwrap_or_else(|_| Err(damaged("the file is damaged")))
            .map_err(|error| named(&path, error))?;
        let Contents { index, dropped, statements } = contents;
        let pending = dropped.into_iter().map(|key| (key, None)).collect();
        Ok(Self { database, path, local, index, pending, statements })
    }

    /// Opens the database and reads everything in it once; nothing is written unless it could be read.
    fn read(path: &Path, local: PeerId, config: &MemoryStoreConfig) -> io::Result<(Database, Contents)> {
        let database = Database::create(path).map_err(io::Error::other)?;
        let read = database.begin_read().map_err(io::Error::other)?;
        let names: Vec<_> =
            read.list_tables().map_err(io::Error::other)?.map(|table| table.name().to_owned()).collect();
        let exists = |table: TableDefinition<'_, &[u8], &[u8]>| names.iter().any(|name| name == table.name());
        if !names.is_empty() && !exists(RECORDS) {
            return Err(damaged("the database is of another program"));
        }
        let index = Index::new(Key::of_peer(&local, config.records.key_hash), config.records.clone());
        let statements = Statements::new(local, config.providers.clone());
        let mut contents = Contents { index, dropped: Vec::new(), statements };
        if exists(RECORDS) {
            contents.load_records(&read.open_table(RECORDS).map_err(io::Error::other)?)?;
        }
        // An earlier version had none.
        if exists(PROVIDERS) {
            contents.statements.load(&read.open_table(PROVIDERS).map_err(io::Error::other)?)?;
        }
        drop(read);
        let tables = [RECORDS, PEERS, PROVIDERS];
        if !tables.into_iter().all(exists) {
            let write = database.begin_write().map_err(io::Error::other)?;
            for table in tables {
                write.open_table(table).map_err(io::Error::other)?;
            }
            write.commit().map_err(io::Error::other)?;
        }
        Ok((database, contents))
    }

    /// Sees to it that one more change may wait.
    fn make_room(&mut self) -> Result<()> {
        if self.pending.len() + self.statements.waiting() >= MAX_PENDING {
            self.commit()?;
        }
        Ok(())
    }

    /// Drops the provider records that have ended; if they are many, as after a long sleep, not all with one commit.
    fn expire_providers(&mut self, wall: SystemTime) -> Result<()> {
        while self.statements.drop_ended(wall, MAX_ENDED) {
            self.commit()?;
        }
        Ok(())
    }

    fn store(&mut self, wall: SystemTime, record: &Record, owner: Owner) -> Result<Vec<RecordKey>> {
        self.make_room()?;
        let (gone, added) = self.index.add(wall, record, owner);
        self.forget(&gone);
        added?;
        self.pending.insert(record.key.clone(), Some(encode(record, owner)));
        Ok(gone)
    }

    fn forget(&mut self, gone: &[RecordKey]) {
        self.pending.extend(gone.iter().map(|key| (key.clone(), None)));
    }

    fn load(&self, key: &RecordKey) -> Result<Option<Record>> {
        let load = || -> io::Result<Option<Record>> {
            let read = self.database.begin_read().map_err(io::Error::other)?;
            let table = read.open_table(RECORDS).map_err(io::Error::other)?;
            let Some(value) = table.get(key.as_ref()).map_err(io::Error::other)? else {
                return Ok(None);
            };
            decode(key, value.value())
                .map(|(record, _)| Some(record))
                .ok_or_else(|| damaged("a record is damaged"))
        };
        match self.pending.get(key) {
            Some(value) => Ok(value.as_ref().and_then(|value| decode(key, value)).map(|(record, _)| record)),
            None if self.index.get(key).is_none() => Ok(None),
            None => Ok(load().map_err(|error| named(&self.path, error))?),
        }
    }

    /// Returns how many bytes the keys and values take that others wanted stored.
    pub fn foreign_bytes(&self) -> usize {
        self.index.foreign_bytes()
    }
}

impl Contents {
    fn load_records(&mut self, table: &impl ReadableTable<&'static [u8], &'static [u8]>) -> io::Result<()> {
        for entry in table.iter().map_err(io::Error::other)? {
            let (key, value) = entry.map_err(io::Error::other)?;
            let key = RecordKey::new(&key.value());
            let (record, owner) =
                decode(&key, value.value()).ok_or_else(|| damaged("a record is damaged"))?;
            // What has ended goes with the first call that says what time it is.
            let (gone, added) = self.index.add(SystemTime::UNIX_EPOCH, &record, owner);
            self.dropped.extend(gone);
            if added.is_err() {
                self.dropped.push(key);
            }
        }
        Ok(())
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Returns a time in milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads what [`millis`] has returned; `None` if there is no such time.
fn from_millis(bytes: [u8; 8]) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::from_be_bytes(bytes)))
}

/// Returns an end in milliseconds since 1970, 0 for none.
fn end_millis(end: Option<SystemTime>) -> u64 {
    end.map_or(0, |end| millis(end).max(1))
}

/// Reads what [`end_millis`] has returned; `None` if there is no such time.
fn from_end_millis(bytes: [u8; 8]) -> Option<Option<SystemTime>> {
    if bytes == [0; 8] { Some(None) } else { from_millis(bytes).map(Some) }
}

/// Returns the length of a part that leads it, one byte.
fn short(part: &[u8]) -> u8 {
    u8::try_from(part.len()).unwrap_or(0)
}

/// Returns a record as it stands in the file, without its key:
/// owner (0 own, 1 other) · group · end in milliseconds since 1970, 0 for none · publisher · value.
///
/// Group and publisher are led by their length, one byte.
fn encode(record: &Record, owner: Owner) -> Vec<u8> {
    let publisher = record.publisher.map(|peer| peer.to_bytes()).unwrap_or_default();
    let (is_other, group) = match owner {
        Owner::Own => (0, Vec::new()),
        Owner::Other(group) => (1, group.map_or_else(Vec::new, |group| group.to_bytes())),
    };
    let mut bytes = Vec::with_capacity(16 + group.len() + publisher.len() + record.value.len());
    bytes.push(is_other);
    bytes.push(short(&group));
    bytes.extend_from_slice(&group);
    bytes.extend_from_slice(&end_millis(record.expires).to_be_bytes());
    bytes.push(short(&publisher));
    bytes.extend_from_slice(&publisher);
    bytes.extend_from_slice(&record.value);
    bytes
}

fn decode(key: &RecordKey, bytes: &[u8]) -> Option<(Record, Owner)> {
    let (is_other, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first()?;
    let (group, rest) = rest.split_at_checked(usize::from(*len))?;
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first()?;
    let (publisher, value) = rest.split_at_checked(usize::from(*len))?;
    let owner = match is_other {
        0 => Owner::Own,
        1 if group.is_empty() => Owner::Other(None),
        1 => Owner::Other(Some(IpGroup::from_bytes(group)?)),
        _ => return None,
    };
    let expires = from_end_millis(*end)?;
    let publisher = match publisher {
        [] => None,
        bytes => Some(PeerId::from_bytes(bytes).ok()?),
    };
    let value = Bytes::copy_from_slice(value);
    Some((Record { key: key.clone(), value, publisher, expires }, owner))
}

/// Iterates over the records of a [`Redb`], read one by one; one that cannot be read is left out.
#[derive(Debug)]
pub struct Records<'a> {
    store: &'a Redb,
    keys: indexmap::map::Keys<'a, RecordKey, super::index::Meta>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Cow<'a, Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let store = self.store;
        self.keys.find_map(|key| store.load(key).ok().flatten()).map(Cow::Owned)
    }
}

impl RecordStore for Redb {
    type RecordsIter<'a> = Records<'a>;
    type ProvidedIter<'a> = provided::Iter<'a>;

    fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>> {
        let record = self.load(key)?.filter(|record| !record.is_expired(wall));
        Ok(record.map(Cow::Owned))
    }

    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()> {
        self.store(wall, &record, Owner::Own).map(|_| ())
    }

    fn put_from(&mut self, wall: SystemTime, record: Record, source: Source) -> Result<Vec<RecordKey>> {
        self.store(wall, &record, Owner::Other(source.group))
    }

    fn is_own(&self, key: &RecordKey) -> bool {
        self.index.is_own(key)
    }

    fn expire(&mut self, wall: SystemTime) -> Result<Expired> {
        self.expire_providers(wall)?;
        let gone = self.index.expire(wall);
        self.forget(&gone);
        let next = [self.index.next_end(), self.statements.others.next_end()].into_iter().flatten().min();
        Ok(Expired { gone, next })
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn save_peers(&mut self, peers: &[PeerInfo]) -> Result<()> {
        let save = || -> io::Result<()> {
            let write = self.database.begin_write().map_err(io::Error::other)?;
            write.delete_table(PEERS).map_err(io::Error::other)?;
            let mut table = write.open_table(PEERS).map_err(io::Error::other)?;
            for PeerInfo { peer_id, addrs } in peers {
                let mut value = Vec::new();
                write_addresses(addrs, &mut value);
                table.insert(&peer_id.to_bytes()[..], &value[..]).map_err(io::Error::other)?;
            }
            drop(table);
            write.commit().map_err(io::Error::other)
        };
        Ok(save().map_err(|error| named(&self.path, error))?)
    }

    fn load_peers(&self) -> Result<Vec<PeerInfo>> {
        let load = || -> io::Result<Vec<PeerInfo>> {
            let read = self.database.begin_read().map_err(io::Error::other)?;
            let table = read.open_table(PEERS).map_err(io::Error::other)?;
            let mut peers = Vec::new();
            for entry in table.iter().map_err(io::Error::other)? {
                let (key, value) = entry.map_err(io::Error::other)?;
                let peer_id = PeerId::from_bytes(key.value()).map_err(io::Error::other)?;
                let addrs = read_addresses(value.value()).ok_or_else(|| damaged("a peer is damaged"))?;
                peers.push(PeerInfo { peer_id, addrs });
            }
            Ok(peers)
        };
        Ok(load().map_err(|error| named(&self.path, error))?)
    }

    fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || self.statements.waiting() > 0
    }

    fn commit(&mut self) -> Result<()> {
        let commit = || -> io::Result<()> {
            let write = self.database.begin_write().map_err(io::Error::other)?;
            let mut table = write.open_table(RECORDS).map_err(io::Error::other)?;
            for (key, value) in &self.pending {
                match value {
                    Some(value) => drop(table.insert(key.as_ref(), &value[..]).map_err(io::Error::other)?),
                    None => drop(table.remove(key.as_ref()).map_err(io::Error::other)?),
                }
            }
            drop(table);
            self.statements.write(&write)?;
            write.commit().map_err(io::Error::other)
        };
        commit().map_err(|error| named(&self.path, error))?;
        self.pending.clear();
        self.statements.written();
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) -> Result<()> {
        if self.index.remove(key).is_some() {
            self.pending.insert(key.clone(), None);
        }
        Ok(())
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        Records { store: self, keys: self.index.keys() }
    }

    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()> {
        if record.provider != self.local {
            let source = Source { peer: record.provider, group: None };
            return self.add_provider_from(wall, record, source);
        }
        self.make_room()?;
        self.statements.add(record)
    }

    fn add_provider_from(&mut self, wall: SystemTime, record: ProviderRecord, source: Source) -> Result<()> {
        if record.provider == self.local {
            return Err(not_theirs());
        }
        self.make_room()?;
        self.expire_providers(wall)?;
        self.statements.add_from(wall, record, source.group)
    }

    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>> {
        Ok(self.statements.get(wall, key))
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.statements.provided()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()> {
        self.make_room()?;
        self.statements.remove(key, provider);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
