//! The thread that writes: what was changed waits here until it is on the disk.
//!
//! Knows the tables and bytes; what stands in a row, and when a commit is due, is the store's affair.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::super::{Error, Progress, Result, Wake};
use super::backing::FilePlace;
use super::batch::{Batch, MAX_QUEUED, OVERHEAD, Row};
use super::compaction::Compaction;
use super::format::{FileTable, SealedRow, Sum, caught, damaged, fault, whole};
use super::opening::{Handle, again, read_only};
use crate::record::RecordKey;

/// So many changes wait for a commit to be asked for; one more asks for it. Chosen, not measured.
const MAX_UNASKED: usize = 1024;

/// A file that is smaller is not made smaller: the database itself takes as much.
///
/// Source: redb, whose new file has room for a mebibyte.
const MIN_LOOSE: u64 = 1 << 20;

/// Why the file cannot be written.
#[derive(Clone, Debug)]
struct WriteFailure {
    kind: io::ErrorKind,
    text: String,
    /// The database has failed on the file itself: nothing more is written until the store is opened anew.
    is_final: bool,
}

impl WriteFailure {
    fn error(&self) -> Error {
        io::Error::new(self.kind, self.text.clone()).into()
    }
}

#[derive(Default)]
struct WriterState {
    /// What was changed since the last commit began.
    pending: Batch,
    /// What a commit writes just now; it can be read here until it can be read in the file.
    writing: Arc<Batch>,
    written: u64,
    progress: Progress,
    /// How many commits are over.
    commits: u64,
    /// Why the latest commit has failed, if it has.
    failure: Option<WriteFailure>,
    /// The database has failed, and does not go on before it is opened anew.
    is_stuck: bool,
    is_asked: bool,
    is_closed: bool,
    wake: Option<Wake>,
    /// How long the file is, and what the rows of it take.
    len: u64,
    held: u64,
    /// The same when it was last made smaller.
    compacted: Option<(u64, u64)>,
    is_compacting: bool,
}

impl WriterState {
    fn is_broken(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.is_final)
    }

    /// Returns whether the file is worth being made smaller: it is more than twice as long as what it holds, and has grown, or
    /// holds less, since that was done last.
    fn is_loose(&self) -> bool {
        let is_new = |(len, held)| self.len > len + len / 4 || self.held < held - held / 4;
        self.len > 2 * self.held + MIN_LOOSE && self.failure.is_none() && self.compacted.is_none_or(is_new)
    }
}

struct SharedWriter {
    /// Nothing while the file is opened anew. Only the thread that writes changes it.
    handle: RwLock<Option<Handle>>,
    place: FilePlace,
    local: PeerId,
    state: Mutex<WriterState>,
    /// Something is to be written, or the store is dropped.
    asked: Condvar,
    /// A commit is over.
    done: Condvar,
}

impl SharedWriter {
    fn state(&self) -> MutexGuard<'_, WriterState> {
        // Nothing that is done while it is held can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whatever is asked for, until the store is dropped; in between it makes the file smaller.
    fn run(&self) {
        let mut compaction = None;
        loop {
            let mut state = self.state();
            state.is_compacting = compaction.is_some();
            while !state.is_asked && !state.is_closed && compaction.is_none() && !state.is_loose() {
                self.done.notify_all();
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let (is_asked, is_last) = (state.is_asked, state.is_closed);
            state.is_compacting = true;
            drop(state);
            if is_asked || is_last {
                let written = self.write();
                let going = compaction.take();
                compaction = going.filter(|_| !is_last).and_then(|mut going: Compaction| match written {
                    Some(batch) => going.note(batch).then_some(going),
                    None => Some(going),
                });
            } else {
                compaction = self.compact(compaction);
            }
            if is_last {
                return;
            }
        }
    }

    /// Makes the file smaller by a step.
    fn compact(&self, compaction: Option<Compaction>) -> Option<Compaction> {
        let done = caught(|| {
            let mut going = match compaction {
                Some(going) => going,
                None => match &*self.handle() {
                    Some(handle) => Compaction::begin(&self.place, &self.local, handle)?,
                    None => return Ok((None, None)),
                },
            };
            Ok(if going.step()? { (None, going.finish()?) } else { (Some(going), None) })
        });
        let error = match done {
            Ok((Some(going), _)) => return Some(going),
            Ok((None, smaller)) => {
                if let Some(smaller) = smaller {
                    self.exchange(Some(smaller));
                }
                None
            }
            Err(error) => Some(self.place.named(&error)),
        };
        let len = self.handle().as_ref().map_or(0, Handle::len);
        let mut state = self.state();
        state.len = len;
        state.compacted = Some((state.len, state.held));
        drop(state);
        if let Some(error) = error {
            tracing::warn!(%error, "the store could not be made smaller");
            if error.kind() == io::ErrorKind::InvalidData {
                self.fail(&error, false);
            }
        }
        None
    }

    fn handle(&self) -> std::sync::RwLockReadGuard<'_, Option<Handle>> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another handle in the place of the one there is, which is not used any more.
    fn exchange(&self, handle: Option<Handle>) {
        let mut place = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, handle);
        drop(place);
        if let Some(before) = before {
            before.abandon();
        }
    }

    /// Takes down that the file could not be written, or read.
    fn fail(&self, error: &io::Error, ask: bool) {
        let mut state = self.state();
        if state.is_broken() {
            return;
        }
        let is_final = error.kind() == io::ErrorKind::InvalidData;
        let text = if is_final { format!("{error}; nothing is stored any more") } else { error.to_string() };
        tracing::warn!(error = text, "the store could not be written to the disk");
        state.failure = Some(WriteFailure { kind: error.kind(), text, is_final });
        (state.is_stuck, state.is_asked) = (true, state.is_asked || is_final || ask);
        drop(state);
        self.asked.notify_one();
    }

    /// Opens the file anew after the database has failed on it: to be written, or only to be read.
    fn open_again(&self) -> io::Result<()> {
        let mut state = self.state();
        if !state.is_stuck {
            return Ok(());
        }
        let is_broken = state.is_broken();
        // There is one try to read a damaged file.
        state.is_stuck = !is_broken;
        drop(state);
        self.exchange(None);
        if is_broken {
            self.exchange(read_only(&self.place).ok().map(Handle::ReadOnly));
            return Ok(());
        }
        let handle = again(&self.place, &self.local)?;
        self.exchange(Some(handle));
        self.state().is_stuck = false;
        Ok(())
    }

    /// Writes what waits, if anything does, and returns what was written.
    fn write(&self) -> Option<Arc<Batch>> {
        self.state().is_asked = false;
        let opened = self.open_again();
        let mut state = self.state();
        if state.is_broken() {
            // None of it will be written.
            state.progress.tried = state.written;
            state.commits += 1;
            return self.tell(state, None);
        }
        if state.pending.len() == 0 {
            if opened.is_ok() {
                state.failure = None;
            }
            drop(state);
            self.done.notify_all();
            return None;
        }
        let batch = Arc::new(std::mem::take(&mut state.pending));
        let upto = state.written;
        state.writing = batch.clone();
        drop(state);
        let written = opened.and_then(|()| {
            caught(|| match &*self.handle() {
                Some(Handle::Open(database, backing)) => {
                    let held = batch.write(database)?;
                    Ok((held, ::redb::StorageBackend::len(backing)?))
                }
                Some(Handle::ReadOnly(_)) | None => Err(damaged("the file is not open")),
            })
        });
        if let Err(error) = &written {
            self.fail(&self.place.named(error), false);
        }
        let mut state = self.state();
        state.writing = Arc::default();
        state.progress.tried = upto;
        state.commits += 1;
        match written {
            Ok(((more, less), len)) => {
                state.progress.durable = upto;
                state.failure = None;
                (state.held, state.len) = ((state.held + more).saturating_sub(less), len);
                self.tell(state, Some(batch))
            }
            Err(_) => {
                state.pending.is_preceded_by(&batch);
                self.tell(state, None)
            }
        }
    }

    /// Tells every waiter that a commit is over.
    fn tell(&self, state: MutexGuard<'_, WriterState>, written: Option<Arc<Batch>>) -> Option<Arc<Batch>> {
        let wake = state.wake.clone();
        drop(state);
        self.done.notify_all();
        wake.into_iter().for_each(|wake| wake());
        written
    }
}

/// Writes what was changed, in a thread of its own, so that nobody else waits for the disk.
///
/// # What it decides
/// Nothing of what is written; that what was changed while a commit runs is written with the next one, when a file is opened
/// anew, and when it is made smaller.
///
/// # States
/// ```text
/// changed --commit asked for--> being written --> durable
///    ^                               |
///    |                               +--the file is damaged, or the database has panicked--> only read, for good
///    +--the disk has failed: opened anew before the next commit
/// ```
///
/// # Bounds
/// [`MAX_QUEUED`] bytes wait or are being written, or as many as is set; so many changes more as only make room. Where there
/// are no threads (wasm) the caller that asks for a commit writes it, and the file is not made smaller. A commit that is asked
/// for while it is waits for one step, of about 1 MiB, or for the end: what was changed since the beginning, at most 16 MiB.
///
/// # Invariants
/// Of each key the latest change is what is read and what is written. What is durable has been synced to the disk. No reader
/// waits while the thread waits for the disk: while it opens the file anew there is none, and readers are told so. It ends
/// with the writer, after it has written what waits.
pub(super) struct Writer {
    shared: Arc<SharedWriter>,
    thread: Option<JoinHandle<()>>,
    max_queued: usize,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WriterState { pending, progress, .. } = &*self.shared.state();
        f.debug_struct("Writer").field("waiting", &pending.len()).field("progress", progress).finish()
    }
}

impl Writer {
    /// Begins with a file that holds so many bytes.
    pub(super) fn new(handle: Handle, place: FilePlace, local: PeerId, held: u64) -> io::Result<Self> {
        let state = WriterState { len: handle.len(), held, ..WriterState::default() };
        let shared = Arc::new(SharedWriter {
            handle: RwLock::new(Some(handle)),
            place,
            local,
            state: Mutex::new(state),
            asked: Condvar::new(),
            done: Condvar::new(),
        });
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
    /// [`Error::Busy`]; [`Error::Io`] if the disk does not take anything, or will not any more.
    pub(super) fn check_room(&self, bytes: usize) -> Result<()> {
        let state = self.shared.state();
        if let Some(failure) = state.failure.as_ref().filter(|failure| failure.is_final) {
            return Err(failure.error());
        }
        let queued = state.pending.bytes() + state.writing.bytes();
        if queued == 0 || queued + OVERHEAD + bytes <= self.max_queued {
            return Ok(());
        }
        Err(match &state.failure {
            Some(failure) => failure.error(),
            None => Error::Busy,
        })
    }

    /// Returns whether there is room for anything.
    pub(super) fn has_room(&self) -> bool {
        let state = self.shared.state();
        // Where nothing is written any more nothing waits.
        state.is_broken() || state.pending.bytes() + state.writing.bytes() < self.max_queued
    }

    fn change(&self, change: impl FnOnce(&mut Batch)) {
        let mut state = self.shared.state();
        state.written += 1;
        if state.is_broken() {
            // It would wait for ever.
            return;
        }
        change(&mut state.pending);
        if state.pending.len() >= MAX_UNASKED && state.failure.is_none() {
            drop(state);
            self.commit();
        }
    }

    pub(super) fn record(&self, key: RecordKey, row: Option<SealedRow>) {
        self.change(|batch| batch.record(key, row));
    }

    pub(super) fn providers(&self, rows: impl IntoIterator<Item = Row>) {
        for (key, row) in rows {
            let row = row.map(|row| FileTable::Providers.seal(&key, row));
            self.change(|batch| batch.provider(key, row));
        }
    }

    pub(super) fn peers(&self, peers: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
        let seal = |(key, row): (Vec<u8>, Vec<u8>)| {
            let row = FileTable::Peers.seal(&key, row);
            (key, row)
        };
        let peers = peers.into_iter().map(seal).collect();
        self.change(|batch| batch.set_peers(peers));
    }

    /// Returns what stands or will stand in the file under the key of a record: nothing if that does not have the checksum.
    ///
    /// # Errors
    /// If the file cannot be read. If the database has panicked on it, nothing more is written.
    pub(super) fn read(&self, key: &RecordKey, sum: Sum) -> io::Result<Option<Bytes>> {
        let state = self.shared.state();
        let waits = state.pending.get_record(key).or_else(|| state.writing.get_record(key)).cloned();
        let failure = state.failure.clone();
        drop(state);
        if let Some(row) = waits {
            return Ok(row.map(|row| row.row));
        }
        let read = caught(|| match &*self.shared.handle() {
            Some(handle) => Ok(Some(read_row(handle, key, sum))),
            None => Ok(None),
        });
        match read {
            Ok(Some(Ok(row))) => Ok(row),
            // A page is damaged, and with it what stands there.
            Ok(Some(Err(error))) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Ok(Some(Err(error))) | Err(error) => {
                let error = self.shared.place.named(&error);
                self.shared.fail(&error, true);
                Err(error)
            }
            Ok(None) => {
                if failure.as_ref().is_some_and(|failure| !failure.is_final) {
                    self.commit();
                }
                let why =
                    failure.map_or_else(|| "it is being opened anew".to_owned(), |failure| failure.text);
                Err(self.shared.place.named(&io::Error::other(why)))
            }
        }
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
            return drop(self.shared.write());
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
                Some(failure) if state.commits > commits => return Err(failure.error()),
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
        while state.is_asked || state.writing.len() > 0 || state.is_compacting || state.is_loose() {
            state = self.shared.done.wait(state).unwrap();
        }
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        let state = self.shared.state();
        state.pending.bytes() + state.writing.bytes()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.asked.notify_one();
        match self.thread.take() {
            // It catches its panics.
            Some(thread) => drop(thread.join()),
            None => drop(self.shared.write()),
        }
        // It is closed here, whoever else has heard of it.
        let handle = self.shared.handle.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(caught(|| {
            drop(handle);
            Ok(())
        }));
    }
}

/// Reads the row of a record, if it is the one that has the checksum.
fn read_row(handle: &Handle, key: &RecordKey, sum: Sum) -> io::Result<Option<Bytes>> {
    let table = handle.begin_read()?.open_table(FileTable::Records.rows()).map_err(fault)?;
    let row = table.get(key.as_ref()).map_err(fault)?;
    let row = row.and_then(|row| whole(FileTable::Records, key.as_ref(), row.value(), &sum));
    Ok(row.map(|row| row.row))
}
