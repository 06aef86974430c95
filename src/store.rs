//! The store: where the records and provider records of this node are kept.
//!
//! Knows records and wall-clock times that are passed in; knows nothing of messages, queries or who may store what.

mod charge;
mod compact;
mod fair;
mod index;
pub mod memory;
mod provided;
mod providers;
#[cfg(feature = "redb")]
mod redb;

use std::borrow::Cow;
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::addrs::{Addresses, IpGroup};
use crate::key::KeyHash;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::SystemTime;
use crate::validate::InvalidRecord;
pub use index::Limits;
pub use memory::{MemoryStore, MemoryStoreConfig};
pub use providers::{MAX_PROVIDER_ADDRESS_BYTES, MAX_PROVIDER_ADDRESSES, ProviderLimits};
pub(crate) use providers::{kept_addresses, kept_of};
#[cfg(feature = "redb")]
pub use redb::Redb;
#[cfg(all(feature = "fuzzing", feature = "redb"))]
pub(crate) use redb::door;
#[cfg(all(test, feature = "redb"))]
pub(crate) use redb::tests::disk::Disk;

/// The sender that wants something stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The peer.
    pub peer: PeerId,
    /// The IP group of its connection; `None` if it belongs to none, as on a local network.
    pub group: Option<IpGroup>,
    /// Whether it hands on what it says is another's, whichever that is stored as. What names another than the peer as its
    /// publisher is handed on in any case.
    pub hands_on: bool,
}

/// The outcome of using a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a store did not do what it was asked, by the stores of this crate; one of the application's own may mean something
/// else by a variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store holds as many records as it may, or as many bytes of them: of all, of one IP group or of one peer. Remove
    /// some of the node's own, or raise [`max_records`](Limits::max_records) or [`max_bytes`](Limits::max_bytes); for what
    /// others want stored there is nothing to do, and they are refused.
    #[error(
        "the store cannot hold any more records: at most {records} records of {bytes} bytes, of one network fewer"
    )]
    MaxRecords {
        /// How many records of others it may hold in all, and as many of the node's own.
        records: usize,
        /// How many bytes those of others may have together, and those of the node.
        bytes: usize,
    },
    /// The store holds as many provider records, or keys of them, as it may: of all or of one IP group; or this node
    /// advertises as many keys as it may, 65,536. Remove some of the node's own, or raise the bounds in [`ProviderLimits`];
    /// for what others provide there is nothing to do, and it is not kept.
    #[error("the store cannot hold any more provider records: at most {most}, of one network fewer")]
    MaxProvidedKeys {
        /// How many of this kind there may be in all.
        most: usize,
    },
    /// The key has as many providers as it may, of all or of one IP group. Raise
    /// [`max_per_key`](ProviderLimits::max_per_key), or leave it: there is nothing to do, since those that are kept are
    /// found.
    #[error("the key cannot have any more providers: at most {most}, of one network fewer")]
    MaxProviders {
        /// How many it may have in all.
        most: usize,
    },
    /// The value is longer than the store takes: give a shorter one, or raise [`max_value_bytes`](Limits::max_value_bytes),
    /// here and at those who are to hold it.
    #[error("the value is too large to be stored: {bytes} bytes of at most {most}")]
    ValueTooLarge {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// More was changed than the disk takes, and as soon as it has caught up the store takes more: try again a little later.
    /// If it comes often, use a faster disk or, with `Redb`, raise its `with_max_queued`.
    #[error("the store cannot take any more before the disk has taken what was changed last")]
    Busy,
    /// The record is not valid, by a validator or by the rules that hold for all: its key has no bytes or too many, it has
    /// ended, it says what only this node may. See the reason, and correct the record or the key.
    #[error("the record is not valid: {0}")]
    Invalid(#[from] InvalidRecord),
    /// What lies beneath the store failed; of a store on disk the error names the file. Check the path, who may write there,
    /// and the room on the disk; then try again, or open the store anew.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A waker: what a store calls when it has made progress.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The progress of a store: which of its changes survive a crash; each has a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Those up to this one do.
    pub durable: u64,
    /// Those up to this one were to be made to; what of them is not durable could not be written, and may be lost.
    pub tried: u64,
}

impl Progress {
    /// Returns whether a change survives a crash; `None` if that is not known yet.
    pub const fn of(&self, change: u64) -> Option<bool> {
        if change <= self.durable {
            Some(true)
        } else if change <= self.tried {
            Some(false)
        } else {
            None
        }
    }
}

/// The expired: what has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// The keys of the records that were dropped.
    pub gone: Vec<RecordKey>,
    /// When the next record or the next provider record of another peer ends; a time that is past if some are left that have
    /// ended, and are dropped by the next calls.
    pub next: Option<SystemTime>,
}

/// Some keys of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The keys, each with the end of its record.
    pub keys: Vec<(RecordKey, Option<SystemTime>)>,
    /// Before which place to go on; `None` if there are no more.
    pub before: Option<usize>,
}

/// The usage of a store: how much it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Records, the node's own and others'.
    pub records: usize,
    /// Bytes of their keys and values.
    pub record_bytes: usize,
    /// Provider records, the node's own and others'.
    pub provider_records: usize,
}

/// Keeps records and provider records.
///
/// Differs from `libp2p-kad`'s trait of this name: everything may fail, and the wall-clock time is passed in, so that an
/// expired record is never returned and a store on disk can say what went wrong.
///
/// # A store of one's own
/// What `libp2p-kad`'s trait has is to be written; all else has a default, which suits a store that holds little, ends with
/// the process and trusts every peer it hears of. One that is to stand on the Internet bounds what others store:
/// see [`put_from`](Self::put_from) and [`add_provider_from`](Self::add_provider_from).
///
/// ```
/// use libp2p_kademlia::store::{RecordStore, Result};
/// use libp2p_kademlia::time::SystemTime;
/// use libp2p_kademlia::{Behaviour, ProviderRecord, Record, RecordKey};
/// use libp2p_identity::PeerId;
/// use std::borrow::Cow;
///
/// struct Plain { local: PeerId, records: Vec<Record>, providers: Vec<ProviderRecord> }
///
/// impl RecordStore for Plain {
///     type RecordsIter<'a> = Box<dyn Iterator<Item = Cow<'a, Record>> + 'a>;
///     type ProvidedIter<'a> = Box<dyn Iterator<Item = Cow<'a, ProviderRecord>> + 'a>;
///     fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>> {
///         Ok(self.records.iter().find(|r| r.key == *key && !r.is_expired(wall)).map(Cow::Borrowed))
///     }
///     fn put(&mut self, _: SystemTime, r: Record) -> Result<()> { self.remove(&r.key)?; Ok(self.records.push(r)) }
///     fn remove(&mut self, key: &RecordKey) -> Result<()> { Ok(self.records.retain(|r| r.key != *key)) }
///     fn records(&self) -> Self::RecordsIter<'_> { Box::new(self.records.iter().map(Cow::Borrowed)) }
///     fn add_provider(&mut self, _: SystemTime, record: ProviderRecord) -> Result<()> {
///         self.remove_provider(&record.key, &record.provider)?;
///         Ok(self.providers.push(record))
///     }
///     fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>> {
///         Ok(self.providers.iter().filter(|p| p.key == *key && !p.is_expired(wall)).cloned().collect())
///     }
///     fn provided(&self) -> Self::ProvidedIter<'_> {
///         Box::new(self.providers.iter().filter(|p| p.provider == self.local).map(Cow::Borrowed))
///     }
///     fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()> {
///         Ok(self.providers.retain(|p| p.key != *key || p.provider != *provider))
///     }
/// }
///
/// let local = PeerId::random();
/// let behaviour = Behaviour::new(local, Plain { local, records: vec![], providers: vec![] });
/// ```
pub trait RecordStore {
    /// Iterates over records.
    type RecordsIter<'a>: Iterator<Item = Cow<'a, Record>>
    where
        Self: 'a;
    /// Iterates over provider records.
    type ProvidedIter<'a>: Iterator<Item = Cow<'a, ProviderRecord>>
    where
        Self: 'a;

    /// Returns the record of a key unless it has expired.
    ///
    /// # Errors
    /// [`Error::Io`], if what lies beneath the store fails.
    fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>>;

    /// Stores a record of this node in place of an earlier one of its key.
    ///
    /// # Errors
    /// [`Error::MaxRecords`], [`Error::ValueTooLarge`], [`Error::Busy`], [`Error::Io`] or [`Error::Invalid`]: whatever keeps it
    /// from being stored; then nothing has changed, but for what has ended.
    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()>;

    /// Stores a record that another peer wants stored in place of an earlier one of its key, and returns the keys of those
    /// that had to make way.
    ///
    /// What others want stored should have bounds of its own, so that it cannot take the room of what is this node's. The
    /// stores of this crate charge it to the sender: see [`Limits`]. A record whose publisher is not the sender is a replica,
    /// which the sender hands on. Unless a store says otherwise it is [`put`](Self::put) like any other.
    ///
    /// # Errors
    /// [`Error::MaxRecords`], [`Error::ValueTooLarge`], [`Error::Busy`], [`Error::Io`] or [`Error::Invalid`]: whatever keeps it
    /// from being stored; then nothing has changed, but for what has ended.
    fn put_from(&mut self, wall: SystemTime, record: Record, source: Source) -> Result<Vec<RecordKey>> {
        let _ = source;
        self.put(wall, record).map(|()| Vec::new())
    }

    /// Returns whether the record of a key is this node's: stored by [`put`](Self::put), and not by
    /// [`put_from`](Self::put_from).
    ///
    /// A record whose publisher is this node is its own whatever the store says, so that one need not remember.
    fn is_own(&self, key: &RecordKey) -> bool {
        let _ = key;
        false
    }

    /// Drops records that have ended, and provider records of other peers: as many as take no long time.
    ///
    /// Unless a store says otherwise it looks at all records, and leaves provider records to the store.
    ///
    /// # Errors
    /// [`Error::Io`]; then some may be left, which are dropped the next time.
    fn expire(&mut self, wall: SystemTime) -> Result<Expired> {
        let mut expired = Expired::default();
        for record in self.records() {
            if record.is_expired(wall) {
                expired.gone.push(record.key.clone());
            } else {
                expired.next = expired.next.into_iter().chain(record.expires).min();
            }
        }
        expired.gone.iter().try_for_each(|key| self.remove(key))?;
        Ok(expired)
    }

    /// Lists so many keys at most that stand before a place, or at the end, the last first, so that a node looks over all of
    /// them a part at a time.
    ///
    /// Unless a store says otherwise it walks its records, each time from the first on.
    fn list(&self, before: Option<usize>, most: usize) -> Listed {
        let before = before.unwrap_or(usize::MAX).min(self.records().count());
        let from = before.saturating_sub(most);
        let some = self.records().skip(from).take(before - from);
        let mut keys: Vec<_> = some.map(|record| (record.key.clone(), record.expires)).collect();
        keys.reverse();
        Listed { keys, before: Some(from).filter(|from| *from > 0) }
    }

    /// Returns how much is stored.
    ///
    /// Unless a store says otherwise it walks its records, and those of what this node provides: others' are not known to be
    /// there. One that holds much counts as it goes.
    fn usage(&self) -> Usage {
        let bytes = |record: Cow<'_, Record>| record.key.as_ref().len() + record.value.len();
        let (records, record_bytes) =
            self.records().map(bytes).fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        Usage { records, record_bytes, provider_records: self.provided().count() }
    }

    /// Lets no record and no provider record of another peer end later than `latest`: the clock was wrong when it was stored.
    /// Changes as many as take no long time, and returns whether some are left.
    ///
    /// A store that does not keep them for longer than it is told by a clock that was set back need not.
    ///
    /// # Errors
    /// [`Error::Io`]; then some may be left, which end when they say.
    fn shorten(&mut self, latest: SystemTime) -> Result<bool> {
        let _ = latest;
        Ok(false)
    }

    /// Returns whether peers are to be saved here: the store outlives the process.
    fn keeps_peers(&self) -> bool {
        false
    }

    /// Returns the peers that were saved, so that a node that starts again joins through them.
    ///
    /// # Errors
    /// [`Error::Io`], if what lies beneath the store fails.
    fn load_peers(&self) -> Result<Vec<PeerInfo>> {
        Ok(Vec::new())
    }

    /// Saves peers in place of those that were saved before. A store that ends with the process need not.
    ///
    /// # Errors
    /// [`Error::Io`], if what lies beneath the store fails.
    fn save_peers(&mut self, peers: &[PeerInfo]) -> Result<()> {
        let _ = peers;
        Ok(())
    }

    /// Returns the number of the latest change of anything that is to outlive the process: records, provider records,
    /// saved peers. Each change has the next number.
    fn written(&self) -> u64 {
        0
    }

    /// Returns which changes survive a crash. Unless a store says otherwise every change does so at once.
    ///
    /// The answer to a request that stored a record, and the report of the application's own, are held back until then. A
    /// provider record is never acknowledged; the node commits it soon all the same.
    fn progress(&self) -> Progress {
        Progress { durable: self.written(), tried: self.written() }
    }

    /// Begins to make whatever was changed survive a crash, and does not wait for it: [`progress`](Self::progress) tells
    /// what has become of it. What could not be written is tried again with the next call.
    fn commit(&mut self) {}

    /// Takes what is to be called, from any thread, each time [`progress`](Self::progress) has changed; it takes the place
    /// of an earlier one. A store whose changes survive at once need not call it.
    fn on_progress(&mut self, call: Wake) {
        let _ = call;
    }

    /// Sets the hash of the network, by which records are near to this node or far from it. The node does so once, with that of
    /// its configuration, before it uses the store; until then it is SHA-256. A store to which that is all the same need not
    /// know.
    fn set_key_hash(&mut self, hash: KeyHash) {
        let _ = hash;
    }

    /// Removes the record of a key.
    ///
    /// # Errors
    /// [`Error::Io`], if what lies beneath the store fails.
    fn remove(&mut self, key: &RecordKey) -> Result<()>;

    /// Iterates over all records, expired ones included.
    fn records(&self) -> Self::RecordsIter<'_>;

    /// Stores the statement that this node provides a key, in place of an earlier one.
    ///
    /// It stays until [`remove_provider`](Self::remove_provider), whatever its `expires`: that says until when others hold it,
    /// so that a node which starts again knows when to announce it anew. A statement of another peer counts as one that this
    /// peer makes from no IP group.
    ///
    /// # Errors
    /// [`Error::MaxProvidedKeys`], [`Error::Busy`], [`Error::Io`] or [`Error::Invalid`]: whatever keeps it from being stored;
    /// then nothing has changed, but for what has ended.
    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()>;

    /// Stores the statement of another peer that it provides a key, in place of an earlier one of the same key and provider.
    ///
    /// What others say has bounds of its own, so that it cannot take the room of what this node provides: see
    /// [`ProviderLimits`]. Addresses that are named replace those known of the provider; without any those stay. Of each
    /// provider [`MAX_PROVIDER_ADDRESSES`] are kept at most, which have no more than [`MAX_PROVIDER_ADDRESS_BYTES`]. Unless a
    /// store says otherwise it is [added](Self::add_provider) like any other.
    ///
    /// # Errors
    /// [`Error::MaxProvidedKeys`], [`Error::MaxProviders`], [`Error::Busy`], [`Error::Io`], or [`Error::Invalid`] if it
    /// names this node: whatever keeps it from being stored; then nothing has changed, but for what has ended.
    fn add_provider_from(&mut self, wall: SystemTime, record: ProviderRecord, source: Source) -> Result<()> {
        let _ = source;
        self.add_provider(wall, record)
    }

    /// Returns the provider records of a key: first that of this node, ended or not, then those of others that have not
    /// expired.
    ///
    /// # Errors
    /// [`Error::Io`], if what lies beneath the store fails.
    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>>;

    /// Returns the providers of a key in the order of [`providers`](Self::providers), with their addresses.
    ///
    /// That is all an answer to GET_PROVIDERS needs: a store that shares the lists it keeps copies nothing. Unless it says
    /// otherwise they are taken from the records.
    ///
    /// # Errors
    /// [`Error::Io`], if what lies beneath the store fails.
    fn provider_addresses(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<(PeerId, Addresses)>> {
        let with_addresses = |record: ProviderRecord| {
            let addresses = Addresses::collect(&record.provider, record.addresses);
            (record.provider, addresses)
        };
        Ok(self.providers(wall, key)?.into_iter().map(with_addresses).collect())
    }

    /// Iterates over the provider records of this node, ended or not.
    fn provided(&self) -> Self::ProvidedIter<'_>;

    /// Removes the provider record of a key and a provider.
    ///
    /// # Errors
    /// [`Error::Io`], if what lies beneath the store fails.
    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()>;
}

/// Why a statement of another peer is refused that names this node.
fn not_theirs() -> Error {
    InvalidRecord::new("what a node provides only the node itself says").into()
}
