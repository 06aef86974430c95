//! A disk in memory whose syncs can be held back, and fail.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{ThreadId, current};
use std::time::Duration;

use ::redb::StorageBackend;

/// How long anybody waits for a test that has gone wrong.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// What a crash leaves.
    synced: Vec<u8>,
    is_shut: bool,
    fails: bool,
    /// What reads and writes is to panic.
    panics: bool,
    /// How many wait for the gate.
    waiting: usize,
    syncs: Vec<ThreadId>,
}

/// A disk in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<(Mutex<State>, Condvar)>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) {
        let (state, timeout) = self.0.1.wait_timeout_while(self.state(), GIVE_UP_AFTER, condition).unwrap();
        drop(state);
        assert!(!timeout.timed_out(), "somebody waits for the disk who should not");
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.0.1.notify_all();
    }

    /// Holds all syncs back from now on.
    pub(crate) fn shut(&self) {
        self.change(|state| state.is_shut = true);
    }

    /// Lets them go on.
    pub(crate) fn open(&self) {
        self.change(|state| state.is_shut = false);
    }

    /// Lets all syncs fail from now on.
    pub(crate) fn fail(&self) {
        self.change(|state| state.fails = true);
    }

    /// Lets them succeed again.
    pub(crate) fn heal(&self) {
        self.change(|state| state.fails = false);
    }

    /// Lets whatever reads or writes panic from now on, or no more.
    pub(crate) fn panic(&self, panics: bool) {
        self.change(|state| state.panics = panics);
    }

    /// Changes bytes beneath whoever has it open: all that are `from` become `to`.
    pub(crate) fn damage(&self, from: &[u8], to: &[u8]) {
        self.change(|state| {
            let places: Vec<_> = (0..state.bytes.len() - from.len())
                .filter(|at| state.bytes[*at..].starts_with(from))
                .collect();
            assert!(!places.is_empty());
            places.into_iter().for_each(|at| state.bytes[at..][..to.len()].copy_from_slice(to));
        });
    }

    fn act(&self) -> MutexGuard<'_, State> {
        let state = self.state();
        if state.panics {
            drop(state);
            panic!("the disk is to panic");
        }
        state
    }

    /// Waits until a sync is held back.
    pub(crate) fn wait_for_sync(&self) {
        self.wait_while(|state| state.waiting == 0);
    }

    /// Returns which threads have waited for the disk.
    pub(crate) fn syncs(&self) -> Vec<ThreadId> {
        self.state().syncs.clone()
    }

    pub(crate) fn forget_syncs(&self) {
        self.change(|state| state.syncs.clear());
    }

    /// Returns a disk as a crash would leave this one.
    pub(crate) fn copy(&self) -> Self {
        let synced = self.state().synced.clone();
        let copy = Self::default();
        copy.change(|state| (state.bytes, state.synced) = (synced.clone(), synced));
        copy
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, at) = (self.act(), usize::try_from(offset).unwrap());
        let read = state.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().bytes.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|state| {
            state.syncs.push(current().id());
            state.waiting += 1;
        });
        self.wait_while(|state| state.is_shut);
        let mut state = self.state();
        state.waiting -= 1;
        if state.fails {
            return Err(io::Error::other("the disk has failed"));
        }
        state.synced = state.bytes.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.act().bytes[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}
