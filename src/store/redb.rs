//! The store on disk: an embedded database.
//!
//! Knows the trait it implements, and files. What takes how much room, and what has to go, stands in the index, in memory.

mod backing;
mod batch;
mod compaction;
#[cfg(feature = "fuzzing")]
pub(crate) mod door;
mod fields;
mod format;
mod opening;
mod providers;
mod writer;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use libp2p_identity::PeerId;

use self::backing::FilePlace;
use self::fields::{end_millis, from_end_millis, read_addresses, short, write_addresses};
use self::format::{FileTable, SealedRow, Sum};
use self::opening::{Opened, open};
use self::providers::Statements;
use self::writer::Writer;
use super::charge::Charge;
use super::index::{Index, MAX_ENDED, Ownership};
use super::{
    Expired, Listed, MemoryStoreConfig, Progress, RecordStore, Result, Source, Usage, Wake, not_theirs,
    provided,
};
use crate::addrs::Addresses;
use crate::key::KeyHash;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::SystemTime;

/// So many that have ended are dropped between two looks at how much waits to be written. Chosen, not measured.
const ENDED_AT_ONCE: usize = 64;

/// Keeps records, provider records and the peers of the routing table in a file, so that they survive the process.
///
/// ```no_run
/// use libp2p_kademlia::{Behaviour, store::Redb};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let keypair = libp2p_identity::Keypair::generate_ed25519();
/// let local = keypair.public().to_peer_id(); // the same each time: the file is of one node
/// let kademlia = Behaviour::new(local, Redb::open("node.kademlia", local)?);
/// # Ok(()) }
/// ```
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
/// What waits to be written takes 4 MiB, or what is set [`with_max_queued`](Self::with_max_queued): what would be more is
/// refused as [`Error::Busy`](super::Error::Busy) until the disk has caught up. Only removing is always possible.
///
/// Reading a value takes one descent in the file and one SHA-256 of the value, in the node's thread: some microseconds for
/// 1 KiB, less than a millisecond for the 64 KiB that are the most by default. 8 MiB of the file are kept in memory.
///
/// The file is at most twice as long as the pages need that hold what is stored, and 1 MiB: if it is longer it is written
/// anew, little by little, while nothing else is to be written, which takes as much room once more beside it, in a file of
/// the same name and `.kademlia-rewriting`, which no store may be called.
///
/// # Damage
/// Each row is checked against a checksum of its table, its key and itself. One that is damaged or not there any more is
/// dropped, counted by [`damaged`](Self::damaged), and named in the log; it is never returned. When the store is opened all
/// pages are checked, and what is whole of a damaged file is written anew. If the database panics all the same, it is caught
/// (unless panics abort the program), and the store takes nothing more: whatever is to be stored is refused with an error
/// that names the file, what is there is returned as long as it can be read, and what was not durable by then is lost with
/// the process. To be opened anew.
///
/// # The file
/// It says of which format and of which node it is. One of the first format, of which neither was so, is brought to the
/// present one; a newer one, another node's and another program's are not opened, and no byte of them changes. One in which
/// nothing stands is taken for new, which a `warn` in the log says.
///
/// One process has it at a time. That another has not put a new file in its place between its opening and its lock is made
/// sure of by the number that the system gives each file, on Unix; elsewhere do not let two processes open one at a time.
///
/// # Errors
/// [`Error::Io`](super::Error::Io), which names the file, and [`Error::Busy`](super::Error::Busy) while too much waits to be
/// written. After the disk has failed, see to the disk: the file is opened anew with the next commit.
#[cfg_attr(docsrs, doc(cfg(feature = "redb")))]
#[derive(Debug)]
pub struct Redb {
    writer: Writer,
    local: PeerId,
    index: Index,
    /// The checksum of each record.
    sums: BTreeMap<RecordKey, Sum>,
    statements: Statements,
    saved: Vec<PeerInfo>,
    lost: Mutex<Lost>,
}

/// What was found to be damaged.
#[derive(Debug, Default)]
struct Lost {
    count: u64,
    /// The records that are to be dropped.
    records: BTreeSet<RecordKey>,
}

/// What stands in a file.
struct FileContents {
    index: Index,
    sums: BTreeMap<RecordKey, Sum>,
    /// The records that are beyond the bounds.
    dropped: Vec<RecordKey>,
    statements: Statements,
    peers: Vec<PeerInfo>,
}

impl Redb {
    /// Opens the store of the node `local` at a path, or makes one if there is no file.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io), which names the file, and the two nodes if it is another's: give the path of this
    /// node's own file, and see to it that no other process has it open.
    pub fn open(path: impl AsRef<Path>, local: PeerId) -> Result<Self> {
        Self::open_with(path, local, MemoryStoreConfig::default())
    }

    /// Opens the store of the node `local` at a path, with the given bounds.
    ///
    /// If there are more records than the bounds allow, those farthest from the node, by SHA-256, are dropped with the next
    /// commit; so are provider records beyond theirs.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io), which names the file, and the two nodes if it is another's: give the path of this
    /// node's own file, and see to it that no other process has it open.
    pub fn open_with(path: impl AsRef<Path>, local: PeerId, config: MemoryStoreConfig) -> Result<Self> {
        Self::open_at(FilePlace::new(path.as_ref()), local, &config)
    }

    /// Opens the store of the node `local` on something else than a file.
    #[cfg(test)]
    pub(crate) fn open_on(disk: tests::disk::Disk, local: PeerId) -> Result<Self> {
        Self::open_on_with(disk, local, &MemoryStoreConfig::default())
    }

    #[cfg(test)]
    pub(crate) fn open_on_with(
        disk: tests::disk::Disk,
        local: PeerId,
        config: &MemoryStoreConfig,
    ) -> Result<Self> {
        Self::open_at(FilePlace::on(disk), local, config)
    }

    fn open_at(place: FilePlace, local: PeerId, config: &MemoryStoreConfig) -> Result<Self> {
        let mut contents = FileContents {
            index: Index::new(local, config.records.clone()),
            sums: BTreeMap::new(),
            dropped: Vec::new(),
            statements: Statements::new(local, config.providers.clone()),
            peers: Vec::new(),
        };
        let opened = open(&place, &local, &mut |table, key, row| contents.take(table, key, row));
        let Opened { handle, found } = opened.map_err(|error| place.named(&error))?;
        if found.lost > 0 {
            let file = place.path().display();
            tracing::warn!(%file, lost = found.lost, "what is damaged of the store was dropped");
        }
        let FileContents { index, sums, dropped, statements, peers } = contents;
        let writer = Writer::new(handle, place, local, found.held)?;
        for (table, key) in found.damaged {
            match table {
                FileTable::Records => writer.record(RecordKey::new(&key), None),
                FileTable::Providers => writer.providers([(key, None)]),
                // They are written as a whole.
                FileTable::Peers => {}
            }
        }
        let lost = Mutex::new(Lost { count: found.lost, records: BTreeSet::new() });
        let mut store = Self { writer, local, index, sums, statements, saved: peers, lost };
        store.forget(&dropped);
        store.write_statements();
        Ok(store)
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
    /// [`Error::Io`](super::Error::Io), which names the file: see to the disk and the room on it; what was not written is
    /// tried again with the next commit.
    pub fn sync(&mut self) -> Result<()> {
        self.writer.sync()
    }

    /// Waits until every commit that was asked for is over.
    #[cfg(test)]
    pub(crate) fn rest(&self) {
        self.writer.rest();
    }

    /// Returns how many rows of the file were dropped because they were damaged, or missing, since the store was opened.
    pub fn damaged(&self) -> u64 {
        self.lost().count
    }

    fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the records that were found to be damaged, and returns which.
    fn drop_damaged(&mut self) -> Vec<RecordKey> {
        let records = std::mem::take(&mut self.lost().records);
        let known = records.into_iter().filter(|key| self.index.remove(key).is_some());
        let known: Vec<_> = known.collect();
        self.forget(&known);
        known
    }

    /// Takes down what has changed of the provider records.
    fn write_statements(&mut self) {
        self.writer.providers(self.statements.take());
    }

    fn store(&mut self, wall: SystemTime, record: &Record, owner: Ownership) -> Result<Vec<RecordKey>> {
        self.writer.check_room(record.key.as_ref().len() + record.value.len())?;
        let mut gone = self.drop_damaged();
        let is_same = self.index.holds_put(&record.key)
            && self.load(&record.key)?.is_some_and(|known| known.value == record.value);
        let (ended, added) = self.index.add(wall, record, owner.clone(), is_same);
        self.forget(&ended);
        added?;
        // What its publisher has put stays so, whoever sends it again.
        let owner = self.index.get(&record.key).map_or(owner, |meta| meta.owner.clone());
        self.write_record(record, &owner);
        gone.extend(ended);
        Ok(gone)
    }

    fn write_record(&mut self, record: &Record, owner: &Ownership) {
        let row = FileTable::Records.seal(record.key.as_ref(), encode(record, owner));
        self.sums.insert(record.key.clone(), row.sum);
        self.writer.record(record.key.clone(), Some(row));
    }

    fn forget(&mut self, gone: &[RecordKey]) {
        for key in gone {
            self.sums.remove(key);
            self.writer.record(key.clone(), None);
        }
    }

    fn load(&self, key: &RecordKey) -> Result<Option<Record>> {
        let Some(sum) = self.sums.get(key).filter(|_| !self.lost().records.contains(key)) else {
            return Ok(None);
        };
        if let Some((record, _)) = self.writer.read(key, *sum)?.and_then(|row| decode(key, &row)) {
            return Ok(Some(record));
        }
        tracing::warn!(?key, "a record in the store is damaged, and was dropped");
        let mut lost = self.lost();
        lost.count += 1;
        lost.records.insert(key.clone());
        Ok(None)
    }

    /// Returns how many bytes the keys and values take that others wanted stored.
    pub fn foreign_bytes(&self) -> usize {
        self.index.foreign_bytes()
    }
}

impl FileContents {
    /// Takes a row in, and returns whether it could be understood.
    fn take(&mut self, table: FileTable, key: &[u8], row: &SealedRow) -> bool {
        match table {
            FileTable::Records => self.take_record(RecordKey::new(&key), row),
            FileTable::Providers => self.statements.load(key, &row.row),
            FileTable::Peers => {
                let Some((peer_id, addrs)) = PeerId::from_bytes(key).ok().zip(read_addresses(&row.row))
                else {
                    return false;
                };
                self.peers.push(PeerInfo { peer_id, addrs });
                true
            }
        }
    }

    fn take_record(&mut self, key: RecordKey, row: &SealedRow) -> bool {
        let Some((record, owner)) = decode(&key, &row.row) else { return false };
        // What has ended goes with the first call that says what time it is.
        let (gone, added) = self.index.add(SystemTime::UNIX_EPOCH, &record, owner, false);
        self.dropped.extend(gone);
        match added {
            Ok(()) => drop(self.sums.insert(key, row.sum)),
            Err(_) => self.dropped.push(key),
        }
        true
    }
}

/// Returns about how many bytes a statement takes in the file.
fn statement_len(record: &ProviderRecord) -> usize {
    record.key.as_ref().len() + record.addresses.iter().map(|address| 2 + address.len()).sum::<usize>()
}

/// Returns a record as it stands in the file, without its key:
/// owner (0 own, 1 other) · charge · end in milliseconds since 1970, 0 for none · publisher · value.
///
/// Charge and publisher are led by their length, one byte. The charge is an IP group, unless others hand the record on.
fn encode(record: &Record, owner: &Ownership) -> Vec<u8> {
    let publisher = record.publisher.map(|peer| peer.to_bytes()).unwrap_or_default();
    let (is_other, charge) = match owner {
        Ownership::Own => (0, Vec::new()),
        Ownership::Other(charge) => (1, charge.to_bytes()),
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

fn decode(key: &RecordKey, bytes: &[u8]) -> Option<(Record, Ownership)> {
    let (is_other, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first()?;
    let (charge, rest) = rest.split_at_checked(usize::from(*len))?;
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first()?;
    let (publisher, value) = rest.split_at_checked(usize::from(*len))?;
    let owner = match is_other {
        0 => Ownership::Own,
        1 => Ownership::Other(Charge::from_bytes(charge)?),
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
pub struct RedbRecords<'a> {
    store: &'a Redb,
    keys: indexmap::map::Keys<'a, RecordKey, super::index::Meta>,
}

impl<'a> Iterator for RedbRecords<'a> {
    type Item = Cow<'a, Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let store = self.store;
        self.keys.find_map(|key| store.load(key).ok().flatten()).map(Cow::Owned)
    }
}

impl RecordStore for Redb {
    type RecordsIter<'a> = RedbRecords<'a>;
    type ProvidedIter<'a> = provided::Iter<'a>;

    fn set_key_hash(&mut self, hash: KeyHash) {
        self.index.set_key_hash(hash);
    }

    fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>> {
        let record = self.load(key)?.filter(|record| !record.is_expired(wall));
        Ok(record.map(Cow::Owned))
    }

    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()> {
        self.store(wall, &record, Ownership::Own).map(|_| ())
    }

    fn put_from(&mut self, wall: SystemTime, record: Record, source: Source) -> Result<Vec<RecordKey>> {
        let charge = Charge::of(record.publisher.as_ref(), &source);
        self.store(wall, &record, Ownership::Other(charge))
    }

    fn is_own(&self, key: &RecordKey) -> bool {
        self.index.is_own(key)
    }

    fn expire(&mut self, wall: SystemTime) -> Result<Expired> {
        let mut gone = self.drop_damaged();
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

    fn usage(&self) -> Usage {
        let (records, record_bytes) = self.index.taken();
        let provider_records = self.statements.provided().len() + self.statements.others.len().1;
        Usage { records, record_bytes, provider_records }
    }

    fn shorten(&mut self, latest: SystemTime) -> Result<bool> {
        if !self.writer.has_room() {
            return Ok(true);
        }
        let late = self.index.shorten(latest, ENDED_AT_ONCE);
        for (key, owner) in &late {
            if let Some(record) = self.load(key)? {
                self.write_record(&Record { expires: Some(latest), ..record }, owner);
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
        self.writer.peers(peers.iter().map(row));
        self.saved = peers.to_vec();
        Ok(())
    }

    fn load_peers(&self) -> Result<Vec<PeerInfo>> {
        Ok(self.saved.clone())
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
            self.forget(std::slice::from_ref(key));
        }
        Ok(())
    }

    fn list(&self, before: Option<usize>, most: usize) -> Listed {
        self.index.list(before, most)
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        RedbRecords { store: self, keys: self.index.keys() }
    }

    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()> {
        if record.provider != self.local {
            let source = Source { peer: record.provider, group: None, hands_on: false };
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

    fn provider_addresses(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<(PeerId, Addresses)>> {
        Ok(self.statements.addresses(wall, key))
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
