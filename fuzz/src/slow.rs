//! A store in memory that takes its time to make changes survive, as a disk does.

use std::borrow::Cow;

use libp2p_identity::PeerId;
use libp2p_kademlia::store::{Expired, MemoryStore, Progress, RecordStore, Result, Source};
use libp2p_kademlia::time::SystemTime;
use libp2p_kademlia::{KeyHash, ProviderRecord, Record, RecordKey};

/// Commits only when it is told to, and then perhaps fails.
pub(crate) struct Slow {
    inner: MemoryStore,
    written: u64,
    asked: u64,
    progress: Progress,
}

impl Slow {
    pub(crate) fn new(local: PeerId) -> Self {
        Self { inner: MemoryStore::new(local), written: 0, asked: 0, progress: Progress::default() }
    }

    /// Tries to write what it was asked to, and returns how far it has come if that is farther than before.
    pub(crate) fn advance(&mut self, works: bool) -> Option<Progress> {
        let durable = if works { self.asked } else { self.progress.durable };
        let before = std::mem::replace(&mut self.progress, Progress { durable, tried: self.asked });
        (before != self.progress).then_some(self.progress)
    }
}

impl RecordStore for Slow {
    type RecordsIter<'a> = <MemoryStore as RecordStore>::RecordsIter<'a>;
    type ProvidedIter<'a> = <MemoryStore as RecordStore>::ProvidedIter<'a>;

    fn set_key_hash(&mut self, hash: KeyHash) {
        self.inner.set_key_hash(hash);
    }

    fn get(&self, wall: SystemTime, key: &RecordKey) -> Result<Option<Cow<'_, Record>>> {
        self.inner.get(wall, key)
    }

    fn put(&mut self, wall: SystemTime, record: Record) -> Result<()> {
        self.written += 1;
        self.inner.put(wall, record)
    }

    fn put_from(&mut self, wall: SystemTime, record: Record, source: Source) -> Result<Vec<RecordKey>> {
        self.written += 1;
        self.inner.put_from(wall, record, source)
    }

    fn is_own(&self, key: &RecordKey) -> bool {
        self.inner.is_own(key)
    }

    fn expire(&mut self, wall: SystemTime) -> Result<Expired> {
        self.inner.expire(wall)
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn commit(&mut self) {
        self.asked = self.written;
    }

    fn remove(&mut self, key: &RecordKey) -> Result<()> {
        self.written += 1;
        self.inner.remove(key)
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.inner.records()
    }

    fn add_provider(&mut self, wall: SystemTime, record: ProviderRecord) -> Result<()> {
        self.written += 1;
        self.inner.add_provider(wall, record)
    }

    fn add_provider_from(&mut self, wall: SystemTime, record: ProviderRecord, source: Source) -> Result<()> {
        self.written += 1;
        self.inner.add_provider_from(wall, record, source)
    }

    fn providers(&self, wall: SystemTime, key: &RecordKey) -> Result<Vec<ProviderRecord>> {
        self.inner.providers(wall, key)
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.inner.provided()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<()> {
        self.written += 1;
        self.inner.remove_provider(key, provider)
    }
}
