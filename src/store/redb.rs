//! The store on disk: an embedded database.
//!
//! Knows the trait it implements, and files. What takes how much room, and what has to go, stands in the index, in memory.

mod providers;
mod writer;

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ::redb::{Database, ReadableDatabase as _, ReadableTable, TableDefinition, TableHandle as _};
use bytes::Bytes;
use libp2p_identity::PeerId;

use self::providers::{PROVIDERS, Statements, read_addresses, write_addresses};
use self::writer::Writer;
use super::charge::Charge;
use super::index::{Index, MAX_ENDED, Owner};
use super::{
    Expired, Listed, MemoryStoreConfig, Progress, RecordStore, Result, Source, Wake, not_theirs, provided,
};
use crate::key::Key;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::{Duration, SystemTime};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("libp2p-kademlia/1/records");
const PEERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("libp2p-kademlia/1/peers");

/// So many that have ended are dropped between two looks at how much waits to be written.
const ENDED_AT_ONCE: usize = 64;

/// Keeps records, provider records and the peers of the routing table in a file, so that they survive the process.
///
/// # What survives
/// Everything that is durable by [`progress`](RecordStore::progress), whatever ends the process; and everything, if it ends by
/// dropping the store. The node asks for a commit at most every 50 ms, or after 256 records of others, and acknowledges what
/// others want stored, and reports what the application does, only when it is durable. A commit writes to the disk and waits
/// for it, in a thread of the store's own: no method but [`sync`](Self::sync) does, nor opening and dropping it. What was
/// changed is read back at once.
///
/// # Bounds
/// Those of [`Limits`](super::Limits) for records. In memory there are some 300 bytes for each; values are read from the file
/// when they are asked for. Those of [`ProviderLimits`](super::ProviderLimits) for provider records, which are in memory as a
/// [`MemoryStore`](super::MemoryStore) keeps them, and in the file only to be there again; their keys may have 65,535 bytes.
/// What waits to be written takes 4 MiB, or what is set [`with_max_queued`](Self::with_max_queued): what would be more is refused
/// as [`Error::Busy`](super::Error::Busy) until the disk has caught up. Only removing is always possible.
///
/// # Errors
/// [`Error::Io`](super::Error::Io), which names the file. A file that is damaged, or is none of this store's, is not opened and not
/// changed.
#[derive(Debug)]
pub struct Redb {
    writer: Writer,
    local: PeerId,
    index: Index,
    statements: Statements,
    /// The peers that were saved since the file was opened.
    saved: Option<Vec<PeerInfo>>,
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
        let path = path.as_ref();
        let create = || Database::create(path).map_err(io::Error::other);
        Self::open_by(create, path.to_owned(), local, &config)
    }

    /// Opens the store of the node `local` on something else than a file.
    #[cfg(test)]
    pub(crate) fn open_on(backend: impl ::redb::StorageBackend, local: PeerId) -> Result<Self> {
        let create = || ::redb::Builder::new().create_with_backend(backend).map_err(io::Error::other);
        Self::open_by(create, PathBuf::from("test"), local, &MemoryStoreConfig::default())
    }

    fn open_by(
        create: impl FnOnce() -> io::Result<Database>,
        path: PathBuf,
        local: PeerId,
        config: &MemoryStoreConfig,
    ) -> Result<Self> {
        // The database checks what it reads, but not everywhere without a panic.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::read(create()?, local, config)));
        let (database, contents) = opened
            .unwrap_or_else(|_| Err(damaged("the file is damaged")))
            .map_err(|error| named(&path, error))?;
        let Contents { index, dropped, mut statements } = contents;
        let writer = Writer::new(database, path)?;
        dropped.into_iter().for_each(|key| writer.record(key, None));
        writer.providers(statements.take());
        Ok(Self { writer, local, index, statements, saved: None })
    }

    /// Sets how many bytes may wait to be written.
    #[must_use]
    pub fn with_max_queued(mut self, bytes: usize) -> Self {
        self.writer.set_max_queued(bytes);
        self
    }

    /// Waits until everything that was changed so far survives a crash. Blocks the thread for as long as the disk takes.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io), which names the file; then it is tried again with the next commit.
    pub fn sync(&mut self) -> Result<()> {
        self.writer.sync()
    }

    /// Waits until every commit that was asked for is over.
    #[cfg(test)]
    pub(crate) fn rest(&self) {
        self.writer.rest();
    }

    /// Reads everything in a database once; nothing is written unless it could be read.
    fn read(
        database: Database,
        local: PeerId,
        config: &MemoryStoreConfig,
    ) -> io::Result<(Database, Contents)> {
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

    /// Takes down what has changed of the provider records.
    fn write_statements(&mut self) {
        self.writer.providers(self.statements.take());
    }

    fn store(&mut self, wall: SystemTime, record: &Record, owner: Owner) -> Result<Vec<RecordKey>> {
        self.writer.check_room(record.key.as_ref().len() + record.value.len())?;
        let (gone, added) = self.index.add(wall, record, owner.clone());
        self.forget(&gone);
        added?;
        let owner = self.index.get(&record.key).map_or(&owner, |meta| &meta.owner);
        self.writer.record(record.key.clone(), Some(encode(record, owner).into()));
        Ok(gone)
    }

    fn forget(&mut self, gone: &[RecordKey]) {
        gone.iter().for_each(|key| self.writer.record(key.clone(), None));
    }

    fn load(&self, key: &RecordKey) -> Result<Option<Record>> {
        if self.index.get(key).is_none() {
            return Ok(None);
        }
        let read = |value: &[u8]| decode(key, value).ok_or_else(|| damaged("a record is damaged"));
        Ok(self.writer.read(key, read)?.map(|(record, _)| record))
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

/// Returns about how many bytes a statement takes in the file.
fn statement_len(record: &ProviderRecord) -> usize {
    record.key.as_ref().len() + record.addresses.iter().map(|address| 2 + address.len()).sum::<usize>()
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
/// owner (0 own, 1 other) · charge · end in milliseconds since 1970, 0 for none · publisher · value.
///
/// Charge and publisher are led by their length, one byte. The charge is an IP group, unless others hand the record on.
fn encode(record: &Record, owner: &Owner) -> Vec<u8> {
    let publisher = record.publisher.map(|peer| peer.to_bytes()).unwrap_or_default();
    let (is_other, charge) = match owner {
        Owner::Own => (0, Vec::new()),
        Owner::Other(charge) => (1, charge.to_bytes()),
    };
    let mut bytes = Vec::with_capacity(16 + charge.len() + publisher.len() + record.value.len());
    bytes.push(is_other);
    bytes.push(short(&charge));
    bytes.extend_from_slice(&charge);
    bytes.extend_from_slice(&end_millis(record.expires).to_be_bytes());
    bytes.push(short(&publisher));
    bytes.extend_from_slice(&publisher);
    bytes.extend_from_slice(&record.value);
    bytes
}

fn decode(key: &RecordKey, bytes: &[u8]) -> Option<(Record, Owner)> {
    let (is_other, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first()?;
    let (charge, rest) = rest.split_at_checked(usize::from(*len))?;
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first()?;
    let (publisher, value) = rest.split_at_checked(usize::from(*len))?;
    let owner = match is_other {
        0 => Owner::Own,
        1 => Owner::Other(Charge::from_bytes(charge)?),
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
        let charge = Charge::of(record.publisher.as_ref(), &source);
        self.store(wall, &record, Owner::Other(charge))
    }

    fn is_own(&self, key: &RecordKey) -> bool {
        self.index.is_own(key)
    }

    fn expire(&mut self, wall: SystemTime) -> Result<Expired> {
        let mut gone = Vec::new();
        // What there is no room for goes with the next calls.
        for _ in 0..MAX_ENDED / ENDED_AT_ONCE {
            if !self.writer.has_room() {
                break;
            }
            let some = self.index.expire(wall, ENDED_AT_ONCE);
            self.forget(&some);
            let is_over = some.is_empty() && !self.statements.drop_ended(wall, ENDED_AT_ONCE);
            self.write_statements();
            gone.extend(some);
            if is_over {
                break;
            }
        }
        let next = [self.index.next_end(), self.statements.others.next_end()].into_iter().flatten().min();
        Ok(Expired { gone, next })
    }

    fn shorten(&mut self, latest: SystemTime) -> Result<bool> {
        if !self.writer.has_room() {
            return Ok(true);
        }
        let late = self.index.shorten(latest, ENDED_AT_ONCE);
        for (key, owner) in &late {
            if let Some(record) = self.load(key)? {
                let record = Record { expires: Some(latest), ..record };
                self.writer.record(key.clone(), Some(encode(&record, owner).into()));
            }
        }
        let more = self.statements.shorten(latest, ENDED_AT_ONCE);
        self.write_statements();
        Ok(more || late.len() == ENDED_AT_ONCE)
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn save_peers(&mut self, peers: &[PeerInfo]) -> Result<()> {
        let row = |peer: &PeerInfo| {
            let mut value = Vec::new();
            write_addresses(&peer.addrs, &mut value);
            (peer.peer_id.to_bytes(), value)
        };
        self.writer.peers(peers.iter().map(row).collect());
        self.saved = Some(peers.to_vec());
        Ok(())
    }

    fn load_peers(&self) -> Result<Vec<PeerInfo>> {
        let load = || -> io::Result<Vec<PeerInfo>> {
            let read = self.writer.database().begin_read().map_err(io::Error::other)?;
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
        match &self.saved {
            Some(saved) => Ok(saved.clone()),
            None => Ok(load().map_err(|error| named(self.writer.path(), error))?),
        }
    }

    fn written(&self) -> u64 {
        self.writer.written()
    }

    fn progress(&self) -> Progress {
        self.writer.progress()
    }

    fn commit(&mut self) {
        self.writer.commit();
    }

    fn on_progress(&mut self, call: Wake) {
        self.writer.on_progress(call);
    }

    fn remove(&mut self, key: &RecordKey) -> Result<()> {
        if self.index.remove(key).is_some() {
            self.writer.record(key.clone(), None);
        }
        Ok(())
    }

    fn list(&self, before: Option<usize>, most: usize) -> Listed {
        self.index.list(before, most)
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        Records { store: self, keys: self.index.keys() }
    }

    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()> {
        if record.provider != self.local {
            let source = Source { peer: record.provider, group: None };
            return self.add_provider_from(wall, record, source);
        }
        self.writer.check_room(statement_len(&record))?;
        let added = self.statements.add(record);
        self.write_statements();
        added
    }

    fn add_provider_from(&mut self, wall: SystemTime, record: ProviderRecord, source: Source) -> Result<()> {
        if record.provider == self.local {
            return Err(not_theirs());
        }
        self.writer.check_room(statement_len(&record))?;
        self.statements.drop_ended(wall, ENDED_AT_ONCE);
        let added = self.statements.add_from(wall, record, source.group);
        self.write_statements();
        added
    }

    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>> {
        Ok(self.statements.get(wall, key))
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.statements.provided()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()> {
        self.statements.remove(key, provider);
        self.write_statements();
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
