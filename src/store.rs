//! The store: where the records and provider records of this node are kept.
//!
//! Knows records and wall-clock times that are passed in; knows nothing of messages, queries or who may store what.

pub mod memory;

use std::borrow::Cow;

use libp2p_identity::PeerId;

pub use memory::{MemoryStore, MemoryStoreConfig};

use crate::record::{ProviderRecord, Record, RecordKey};
use crate::time::SystemTime;

/// The outcome of using a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store holds as many records as it may.
    #[error("the store cannot hold any more records")]
    MaxRecords,
    /// The store holds provider records of as many keys as it may.
    #[error("the store cannot hold provider records of any more keys")]
    MaxProvidedKeys,
    /// The key has as many providers as it may.
    #[error("the key cannot have any more providers")]
    MaxProviders,
    /// The value is longer than the store takes.
    #[error("the value is too large to be stored")]
    ValueTooLarge,
    /// What lies beneath the store failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
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

    /// Stores a record in place of an earlier one of its key.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then nothing has changed.
    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()>;

    /// Removes the record of a key.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn remove(&mut self, key: &RecordKey) -> Result<()>;

    /// Iterates over all records, expired ones included.
    fn records(&self) -> Self::RecordsIter<'_>;

    /// Stores a provider record in place of an earlier one of its key and provider.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then nothing has changed.
    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()>;

    /// Returns the provider records of a key that have not expired.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>>;

    /// Iterates over the provider records that name this node.
    fn provided(&self) -> Self::ProvidedIter<'_>;

    /// Removes the provider record of a key and a provider.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()>;
}
