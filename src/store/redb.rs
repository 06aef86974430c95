//! The store on disk: an embedded database.
//!
//! Knows the trait it implements, and files. What takes how much room, and what has to go, stands in the index, in memory.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ::redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableHandle as _};
use bytes::Bytes;
use indexmap::IndexMap;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::index::{Index, Owner};
use super::{Expired, MemoryStore, MemoryStoreConfig, RecordStore, Result, Source};
use crate::addrs::IpGroup;
use crate::key::Key;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::{Duration, SystemTime};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("libp2p-kademlia/1/records");
const PEERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("libp2p-kademlia/1/peers");

/// So many changes wait for [`commit`](RecordStore::commit) at most; one more commits them.
const MAX_PENDING: usize = 1024;

/// Keeps records, and the peers of the routing table, in a file, so that they survive the process.
///
/// # What survives
/// Everything that was committed, whatever ends the process. The node commits at most every 50 ms or 256 changes, and
/// acknowledges what others want stored only then; a commit writes to the disk and waits for it. Provider records are kept in
/// memory.
///
/// # Bounds
/// Those of [`Limits`](super::Limits) for records. In memory there are some 300 bytes for each, and what waits to be committed; values are
/// read from the file when they are asked for.
///
/// # Errors
/// [`Error::Io`](super::Error::Io), which names the file. A file that is damaged, or is none of this store's, is not opened and not
/// changed.
#[derive(Debug)]
pub struct Redb {
    database: Database,
    path: PathBuf,
    index: Index,
    /// What a commit will write: a record, or nothing in place of one.
    pending: IndexMap<RecordKey, Option<Vec<u8>>>,
    providers: MemoryStore,
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
    /// If there are more records than the bounds allow, those farthest from the node are dropped with the next commit.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io), which names the file.
    pub fn open_with(path: impl AsRef<Path>, local: PeerId, config: MemoryStoreConfig) -> Result<Self> {
        let path = path.as_ref().to_owned();
        // The database checks what it reads, but not everywhere without a panic.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::read(&path, local, &config)));
        let (database, index, dropped) = opened
            .unwrap_or_else(|_| Err(damaged("the file is damaged")))
            .map_err(|error| named(&path, error))?;
        let pending = dropped.into_iter().map(|key| (key, None)).collect();
        Ok(Self { database, path, index, pending, providers: MemoryStore::with_config(local, config) })
    }

    /// Opens the database and reads everything in it once.
    fn read(
        path: &Path,
        local: PeerId,
        config: &MemoryStoreConfig,
    ) -> io::Result<(Database, Index, Vec<RecordKey>)> {
        let database = Database::create(path).map_err(io::Error::other)?;
        let names: Vec<_> = {
            let read = database.begin_read().map_err(io::Error::other)?;
            read.list_tables().map_err(io::Error::other)?.map(|table| table.name().to_owned()).collect()
        };
        if !names.is_empty() && !names.iter().any(|name| name == RECORDS.name()) {
            return Err(damaged("the database is of another program"));
        }
        let write = database.begin_write().map_err(io::Error::other)?;
        write.open_table(RECORDS).map_err(io::Error::other)?;
        write.open_table(PEERS).map_err(io::Error::other)?;
        write.commit().map_err(io::Error::other)?;
        let mut index = Index::new(Key::of_peer(&local, config.records.key_hash), config.records.clone());
        let mut dropped = Vec::new();
        let read = database.begin_read().map_err(io::Error::other)?;
        let table = read.open_table(RECORDS).map_err(io::Error::other)?;
        for entry in table.iter().map_err(io::Error::other)? {
            let (key, value) = entry.map_err(io::Error::other)?;
            let key = RecordKey::new(&key.value());
            let (record, owner) =
                decode(&key, value.value()).ok_or_else(|| damaged("a record is damaged"))?;
            // What has ended goes with the first call that says what time it is.
            let (gone, added) = index.add(SystemTime::UNIX_EPOCH, &record, owner);
            dropped.extend(gone);
            if added.is_err() {
                dropped.push(key);
            }
        }
        drop(table);
        drop(read);
        Ok((database, index, dropped))
    }

    fn store(&mut self, wall: SystemTime, record: &Record, owner: Owner) -> Result<Vec<RecordKey>> {
        if self.pending.len() >= MAX_PENDING {
            self.commit()?;
        }
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

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
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
    let short = |part: &[u8]| u8::try_from(part.len()).unwrap_or(0);
    bytes.push(is_other);
    bytes.push(short(&group));
    bytes.extend_from_slice(&group);
    let end = record.expires.and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok());
    let millis = end.map_or(0, |end| u64::try_from(end.as_millis()).unwrap_or(u64::MAX).max(1));
    bytes.extend_from_slice(&millis.to_be_bytes());
    bytes.push(short(&publisher));
    bytes.extend_from_slice(&publisher);
    bytes.extend_from_slice(&record.value);
    bytes
}

fn decode(key: &RecordKey, bytes: &[u8]) -> Option<(Record, Owner)> {
    let (is_other, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first()?;
    let (group, rest) = rest.split_at_checked(usize::from(*len))?;
    let (millis, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first()?;
    let (publisher, value) = rest.split_at_checked(usize::from(*len))?;
    let owner = match is_other {
        0 => Owner::Own,
        1 if group.is_empty() => Owner::Other(None),
        1 => Owner::Other(Some(IpGroup::from_bytes(group)?)),
        _ => return None,
    };
    let millis = Some(u64::from_be_bytes(*millis)).filter(|millis| *millis > 0);
    let expires = match millis {
        Some(millis) => Some(SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))?),
        None => None,
    };
    let publisher = match publisher {
        [] => None,
        bytes => Some(PeerId::from_bytes(bytes).ok()?),
    };
    let value = Bytes::copy_from_slice(value);
    Some((Record { key: key.clone(), value, publisher, expires }, owner))
}

fn addresses(mut bytes: &[u8]) -> io::Result<Vec<Multiaddr>> {
    let mut addresses = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<2>().ok_or_else(|| damaged("a peer is damaged"))?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (address, rest) = rest.split_at_checked(len).ok_or_else(|| damaged("a peer is damaged"))?;
        addresses.push(Multiaddr::try_from(address.to_vec()).map_err(io::Error::other)?);
        bytes = rest;
    }
    Ok(addresses)
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
    type ProvidedIter<'a> = <MemoryStore as RecordStore>::ProvidedIter<'a>;

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
        let gone = self.index.expire(wall);
        self.forget(&gone);
        Ok(Expired { gone, next: self.index.next_end() })
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
                for address in addrs {
                    let bytes = address.as_ref();
                    let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
                    value.extend_from_slice(&len.to_be_bytes());
                    value.extend_from_slice(bytes);
                }
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
                peers.push(PeerInfo { peer_id, addrs: addresses(value.value())? });
            }
            Ok(peers)
        };
        Ok(load().map_err(|error| named(&self.path, error))?)
    }

    fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
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
            write.commit().map_err(io::Error::other)
        };
        commit().map_err(|error| named(&self.path, error))?;
        self.pending.clear();
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
        self.providers.add_provider(wall, record)
    }

    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>> {
        self.providers.providers(wall, key)
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.providers.provided()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()> {
        self.providers.remove_provider(key, provider)
    }
}

#[cfg(test)]
mod tests;
