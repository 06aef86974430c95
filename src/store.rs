//! The store: where the records and provider records of this node are kept.
//!
//! Knows records and wall-clock times that are passed in; knows nothing of messages, queries or who may store what.

mod catch_up;
mod compact;
mod index;
pub mod memory;
mod provided;
mod providers;
#[cfg(feature = "redb")]
mod redb;
pub(crate) mod republish;

use std::borrow::Cow;
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::addrs::IpGroup;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::SystemTime;
use crate::validate::InvalidRecord;
pub use index::Limits;
pub use memory::{MemoryStore, MemoryStoreConfig};
pub(crate) use providers::kept_addresses;
pub use providers::{MAX_PROVIDER_ADDRESS_BYTES, MAX_PROVIDER_ADDRESSES, ProviderLimits};
#[cfg(feature = "redb")]
pub use redb::Redb;
#[cfg(all(test, feature = "redb"))]
pub(crate) use redb::tests::disk::Disk;

/// Who wants something stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The peer.
    pub peer: PeerId,
    /// The IP group of its connection; `None` if it belongs to none, as on a local network.
    pub group: Option<IpGroup>,
}

/// The outcome of using a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store holds as many records as it may.
    #[error("the store cannot hold any more records")]
    MaxRecords,
    /// The store holds as many provider records as it may, of all or of one IP group.
    #[error("the store cannot hold any more provider records")]
    MaxProvidedKeys,
    /// The key has as many providers as it may, of all or of one IP group.
    #[error("the key cannot have any more providers")]
    MaxProviders,
    /// The value is longer than the store takes.
    #[error("the value is too large to be stored")]
    ValueTooLarge,
    /// More was changed than the disk takes; as soon as it has caught up the store takes more.
    #[error("the store cannot take any more before the disk has taken what was changed last")]
    Busy,
    /// The record is not valid.
    #[error("the record is not valid: {0}")]
    Invalid(#[from] InvalidRecord),
    /// What lies beneath the store failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a store calls when it has made progress.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Which of the changes of a store survive a crash; each has a number.
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

/// What has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// The keys of the records that were dropped.
    pub gone: Vec<RecordKey>,
    /// When the next record or the next provider record of another peer ends; a time that is past if some are left that have
    /// ended, and are dropped by the next calls.
    pub next: Option<SystemTime>,
}

/// Keeps records and provider records.
///
/// Differs from `libp2p-kad`'s trait of this name: everything may fail, and the wall-clock time is passed in, so that an
/// expired record is never returned and a store on disk can say what went wrong.
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
    /// [`Error::Io`].
    fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>>;

    /// Stores a record of this node in place of an earlier one of its key.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then nothing has changed.
    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()>;

    /// Stores a record that another peer wants stored in place of an earlier one of its key, and returns the keys of those
    /// that had to make way.
    ///
    /// What others want stored has bounds of its own, so that it cannot take the room of what is this node's.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then nothing has changed.
    fn put_from(&mut self, wall: SystemTime, record: Record, source: Source) -> Result<Vec<RecordKey>>;

    /// Returns whether the record of a key is this node's: stored by [`put`](Self::put).
    fn is_own(&self, key: &RecordKey) -> bool;

    /// Drops records that have ended, and provider records of other peers: as many as take no long time.
    ///
    /// # Errors
    /// [`Error::Io`]; then some may be left, which are dropped the next time.
    fn expire(&mut self, wall: SystemTime) -> Result<Expired>;

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
    /// [`Error::Io`].
    fn load_peers(&self) -> Result<Vec<PeerInfo>> {
        Ok(Vec::new())
    }

    /// Saves peers in place of those that were saved before. A store that ends with the process need not.
    ///
    /// # Errors
    /// [`Error::Io`].
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

    /// Removes the record of a key.
    ///
    /// # Errors
    /// [`Error::Io`].
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
    /// Whatever keeps it from being stored; then nothing has changed.
    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()>;

    /// Stores the statement of another peer that it provides a key, in place of an earlier one of the same key and provider.
    ///
    /// What others say has bounds of its own, so that it cannot take the room of what this node provides: see
    /// [`ProviderLimits`]. Addresses that are named replace those known of the provider; without any those stay. Of each
    /// provider [`MAX_PROVIDER_ADDRESSES`] are kept at most, which have no more than [`MAX_PROVIDER_ADDRESS_BYTES`].
    ///
    /// # Errors
    /// Whatever keeps it from being stored, as that it names this node; then nothing has changed, but for what has ended.
    fn add_provider_from(&mut self, wall: SystemTime, record: ProviderRecord, source: Source) -> Result<()>;

    /// Returns the provider records of a key: first that of this node, ended or not, then those of others that have not expired.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>>;

    /// Iterates over the provider records of this node, ended or not.
    fn provided(&self) -> Self::ProvidedIter<'_>;

    /// Removes the provider record of a key and a provider.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()>;
}

/// Why a statement of another peer is refused that names this node.
fn not_theirs() -> Error {
    InvalidRecord::new("what a node provides only the node itself says").into()
}
