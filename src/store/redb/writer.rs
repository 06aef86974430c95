//! The thread that writes: what was changed waits here until it is on the disk.
//!
//! Knows the tables and bytes; what stands in a row, and when a commit is due, is the store's affair.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use ::redb::{Database, ReadableDatabase as _, TableDefinition, WriteTransaction};
use bytes::Bytes;
use indexmap::IndexMap;

use super::super::{Error, Progress, Result, Wake};
use super::{PEERS, PROVIDERS, RECORDS, damaged, named};
use crate::record::RecordKey;

/// What waits to be written takes so many bytes at most, unless another bound is set.
///
/// Source: issue 12 §7; a second's worth of a slow disk.
pub(super) const MAX_QUEUED: usize = 4 << 20;

/// What a change takes beside its key and its value.
const OVERHEAD: usize = 64;

/// So many changes wait for a commit to be asked for; one more asks for it.
const MAX_UNASKED: usize = 1024;

/// A key and what is to stand there, or nothing.
pub(super) type Row = (Vec<u8>, Option<Vec<u8>>);

/// What one commit writes.
#[derive(Debug, Default)]
struct Batch {
    records: IndexMap<RecordKey, Option<Bytes>>,
    providers: IndexMap<Vec<u8>, Option<Vec<u8>>>,
    peers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    bytes: usize,
}

fn size<V: AsRef<[u8]>>(key: &[u8], value: Option<&V>) -> usize {
    OVERHEAD + key.len() + value.map_or(0, |value| value.as_ref().len())
}

impl Batch {
    fn record(&mut self, key: RecordKey, value: Option<Bytes>) {
        self.bytes += size(key.as_ref(), value.as_ref());
        let len = key.as_ref().len();
        if let Some(before) = self.records.insert(key, value) {
            self.bytes -= OVERHEAD + len + before.map_or(0, |value| value.len());
        }
    }

    fn provider(&mut self, (key, value): Row) {
        self.bytes += size(&key, value.as_ref());
        let len = key.len();
        if let Some(before) = self.providers.insert(key, value) {
            self.bytes -= OVERHEAD + len + before.map_or(0, |value| value.len());
        }
    }

    fn len(&self) -> usize {
        self.records.len() + self.providers.len() + usize::from(self.peers.is_some())
    }

    /// Puts what could not be written beneath what was changed since.
    fn is_preceded_by(&mut self, earlier: &Self) {
        for (key, value) in &earlier.records {
            if !self.records.contains_key(key) {
                self.record(key.clone(), value.clone());
            }
        }
        for (key, value) in &earlier.providers {
            if !self.providers.contains_key(key) {
                self.provider((key.clone(), value.clone()));
            }
        }
        self.peers = self.peers.take().or_else(|| earlier.peers.clone());
    }

    fn write(&self, database: &Database) -> io::Result<()> {
        let write = database.begin_write().map_err(io::Error::other)?;
        let records = self.records.iter().map(|(key, value)| (key.as_ref(), value.as_deref()));
        write_rows(&write, RECORDS, records)?;
        let providers = self.providers.iter().map(|(key, value)| (&key[..], value.as_deref()));
        write_rows(&write, PROVIDERS, providers)?;
        if let Some(peers) = &self.peers {
            write.delete_table(PEERS).map_err(io::Error::other)?;
            write_rows(&write, PEERS, peers.iter().map(|(key, value)| (&key[..], Some(&value[..]))))?;
        }
        write.commit().map_err(io::Error::other)
    }
}

fn write_rows<'a>(
    write: &WriteTransaction,
    table: TableDefinition<'_, &[u8], &[u8]>,
    rows: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> io::Result<()> {
    let mut table = write.open_table(table).map_err(io::Error::other)?;
    for (key, value) in rows {
        match value {
            Some(value) => drop(table.insert(key, value).map_err(io::Error::other)?),
            None => drop(table.remove(key).map_err(io::Error::other)?),
        }
    }
    Ok(())
}

#[derive(Default)]
struct State {
    /// What was changed since the last commit began.
    pending: Batch,
    /// What a commit writes just now; it can be read here until it can be read in the file.
    writing: Arc<Batch>,
    written: u64,
    progress: Progress,
    /// How many commits are over.
    commits: u64,
    /// Why the latest commit has failed, if it has.
    failure: Option<(io::ErrorKind, String)>,
    is_asked: bool,
    is_closed: bool,
    wake: Option<Wake>,
}

struct Shared {
    database: Database,
    path: PathBuf,
    state: Mutex<State>,
    /// Something is to be written, or the store is dropped.
    asked: Condvar,
    /// A commit is over.
    done: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done while it is held can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whatever is asked for, until the store is dropped.
    fn run(&self) {
        loop {
            let mut state = self.state();
            while !state.is_asked && !state.is_closed {
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let is_last = state.is_closed;
            drop(state);
            self.write();
            if is_last {
                return;
            }
        }
    }

    /// Writes what waits, if anything does.
    fn write(&self) {
        let mut state = self.state();
        state.is_asked = false;
        if state.pending.len() == 0 {
            drop(state);
            return self.done.notify_all();
        }
        let batch = Arc::new(std::mem::take(&mut state.pending));
        let upto = state.written;
        state.writing = batch.clone();
        drop(state);
        // The database checks what it reads, but not everywhere without a panic.
        let written = catch_unwind(AssertUnwindSafe(|| batch.write(&self.database)))
            .unwrap_or_else(|_| Err(damaged("the file is damaged")))
            .map_err(|error| named(&self.path, error));
        let mut state = self.state();
        state.writing = Arc::default();
        state.progress.tried = upto;
        state.commits += 1;
        match written {
            Ok(()) => {
                state.progress.durable = upto;
                state.failure = None;
            }
            Err(error) => {
                tracing::warn!(%error, "the store could not be written to the disk");
                state.pending.is_preceded_by(&batch);
                state.failure = Some((error.kind(), error.to_string()));
            }
        }
        let wake = state.wake.clone();
        drop(state);
        self.done.notify_all();
        wake.into_iter().for_each(|wake| wake());
    }
}

/// Writes what was changed, in a thread of its own, so that nobody else waits for the disk.
///
/// # What it decides
/// Nothing of what is written; that what was changed while a commit runs is written with the next one.
///
/// # States
/// ```text
/// changed --commit asked for--> being written --> durable
///    ^                               |
///    +-----------could not be--------+
/// ```
///
/// # Bounds
/// [`MAX_QUEUED`] bytes wait or are being written, or as many as is set; so many changes more as only make room. Where there
/// are no threads (wasm) whoever asks for a commit writes it.
///
/// # Invariants
/// Of each key the latest change is what is read and what is written. What is durable has been synced to the disk. The thread
/// holds no lock while it waits for the disk, and ends with the writer, after it has written what waits.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    max_queued: usize,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let State { pending, progress, .. } = &*self.shared.state();
        f.debug_struct("Writer").field("waiting", &pending.len()).field("progress", progress).finish()
    }
}

impl Writer {
    pub(super) fn new(database: Database, path: PathBuf) -> io::Result<Self> {
        let state = Mutex::default();
        let shared = Arc::new(Shared { database, path, state, asked: Condvar::new(), done: Condvar::new() });
        let thread = if cfg!(target_family = "wasm") {
            None
        } else {
            let shared = shared.clone();
            Some(Builder::new().name("kademlia-store".to_owned()).spawn(move || shared.run())?)
        };
        Ok(Self { shared, thread, max_queued: MAX_QUEUED })
    }

    pub(super) const fn set_max_queued(&mut self, bytes: usize) {
        self.max_queued = bytes;
    }

    /// Returns whether so many bytes more may wait; if nothing waits, any may.
    ///
    /// # Errors
    /// [`Error::Busy`]; [`Error::Io`] if the disk does not take anything.
    pub(super) fn check_room(&self, bytes: usize) -> Result<()> {
        let state = self.shared.state();
        let queued = state.pending.bytes + state.writing.bytes;
        if queued == 0 || queued + OVERHEAD + bytes <= self.max_queued {
            return Ok(());
        }
        Err(match &state.failure {
            Some((kind, text)) => io::Error::new(*kind, text.clone()).into(),
            None => Error::Busy,
        })
    }

    /// Returns whether there is room for anything.
    pub(super) fn has_room(&self) -> bool {
        let state = self.shared.state();
        state.pending.bytes + state.writing.bytes < self.max_queued
    }

    fn change(&self, change: impl FnOnce(&mut Batch)) {
        let mut state = self.shared.state();
        change(&mut state.pending);
        state.written += 1;
        if state.pending.len() >= MAX_UNASKED && state.failure.is_none() {
            drop(state);
            self.commit();
        }
    }

    pub(super) fn record(&self, key: RecordKey, value: Option<Bytes>) {
        self.change(|batch| batch.record(key, value));
    }

    pub(super) fn providers(&self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            self.change(|batch| batch.provider(row));
        }
    }

    pub(super) fn peers(&self, peers: Vec<(Vec<u8>, Vec<u8>)>) {
        self.change(|batch| batch.peers = Some(peers));
    }

    /// Returns what stands or will stand in the file under the key of a record.
    pub(super) fn read<T>(
        &self,
        key: &RecordKey,
        read: impl FnOnce(&[u8]) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let state = self.shared.state();
        let waits = state.pending.records.get(key).or_else(|| state.writing.records.get(key)).cloned();
        drop(state);
        let read = match waits {
            Some(value) => value.as_deref().map(read).transpose(),
            None => self.read_file(key, read),
        };
        read.map_err(|error| named(&self.shared.path, error))
    }

    fn read_file<T>(
        &self,
        key: &RecordKey,
        read: impl FnOnce(&[u8]) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let transaction = self.shared.database.begin_read().map_err(io::Error::other)?;
        let table = transaction.open_table(RECORDS).map_err(io::Error::other)?;
        let value = table.get(key.as_ref()).map_err(io::Error::other)?;
        value.map(|value| read(value.value())).transpose()
    }

    pub(super) fn database(&self) -> &Database {
        &self.shared.database
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.shared.path
    }

    pub(super) fn written(&self) -> u64 {
        self.shared.state().written
    }

    pub(super) fn progress(&self) -> Progress {
        self.shared.state().progress
    }

    pub(super) fn on_progress(&self, call: Wake) {
        self.shared.state().wake = Some(call);
    }

    /// Asks for a commit of what was changed so far.
    pub(super) fn commit(&self) {
        if self.thread.is_none() {
            return self.shared.write();
        }
        self.shared.state().is_asked = true;
        self.shared.asked.notify_one();
    }

    /// Waits until everything that was changed so far is durable.
    ///
    /// # Errors
    /// [`Error::Io`]; then it is tried again with the next commit.
    pub(super) fn sync(&self) -> Result<()> {
        let mut state = self.shared.state();
        let (upto, commits) = (state.written, state.commits);
        if state.progress.of(upto) != Some(true) {
            drop(state);
            self.commit();
            state = self.shared.state();
        }
        while state.progress.of(upto) != Some(true) {
            match &state.failure {
                Some((kind, text)) if state.commits > commits => {
                    return Err(io::Error::new(*kind, text.clone()).into());
                }
                Some(_) | None => {
                    state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
        Ok(())
    }

    /// Waits until everything is written that was asked for.
    #[cfg(test)]
    pub(super) fn rest(&self) {
        let mut state = self.shared.state();
        while state.is_asked || state.writing.len() > 0 {
            state = self.shared.done.wait(state).unwrap();
        }
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        let state = self.shared.state();
        state.pending.bytes + state.writing.bytes
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.asked.notify_one();
        match self.thread.take() {
            // It catches its panics.
            Some(thread) => drop(thread.join()),
            None => self.shared.write(),
        }
    }
}
