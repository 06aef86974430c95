//! Where the file is, and what stands between it and the database.
//!
//! Knows files; knows nothing of what is in them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redb::backends::FileBackend;
use ::redb::{BackendError, StorageBackend};

use super::format::fault;

/// What is to take the place of a file is written where this stands behind its name. No store may have such a name, so that none is
/// taken for what was left over.
pub(super) const REWRITING: &str = ".kademlia-rewriting";

/// With what a file of the database begins.
///
/// Source: redb's description of its format.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Which file one is, whatever its name: its device, and its number there.
type Identity = (u64, u64);

/// Returns which file one is, where the system numbers them.
#[cfg(unix)]
fn identity(of: &fs::Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    Some((of.dev(), of.ino()))
}

#[cfg(not(unix))]
const fn identity(_: &fs::Metadata) -> Option<Identity> {
    None
}

/// Where a file is.
#[derive(Clone, Debug)]
pub(super) struct FilePlace {
    path: PathBuf,
    #[cfg(test)]
    disk: Option<super::tests::disk::Disk>,
}

impl FilePlace {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            #[cfg(test)]
            disk: None,
        }
    }

    #[cfg(test)]
    pub(super) fn on(disk: super::tests::disk::Disk) -> Self {
        Self { path: PathBuf::from("test"), disk: Some(disk) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns an error that names the file.
    pub(super) fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// Opens what is there; `create` makes a file if there is none.
    pub(super) fn backing(&self, mode: WriteMode, create: bool) -> io::Result<Backing> {
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            return Ok(Backing::new(disk.clone(), mode, None));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(create).truncate(false).open(&self.path)?;
        let identity = identity(&file.metadata()?);
        #[cfg(test)]
        super::tests::meanwhile();
        Ok(Backing::new(FileBackend::new(file).map_err(fault)?, mode, identity))
    }

    /// Returns whether a file that was opened here, and is locked, still stands here: before it was locked another process may
    /// have put a new one in its place, and what is written to the old one is lost.
    ///
    /// Where the system does not number files it is taken for granted.
    pub(super) fn has(&self, opened: &Backing) -> bool {
        let Some(opened) = opened.0.identity else {
            return true;
        };
        fs::metadata(&self.path).ok().as_ref().and_then(identity) == Some(opened)
    }

    /// Returns whether there is a file in which nothing stands.
    pub(super) fn has_empty_file(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|there| there.is_file() && there.len() == 0)
    }

    /// Returns whether this is where what is to take the place of another file is written.
    pub(super) fn is_beside_another(&self) -> bool {
        let real = self.real();
        let name = real.as_os_str().as_encoded_bytes();
        let end = name.len().checked_sub(REWRITING.len()).and_then(|at| name.get(at..));
        // There are systems to which large letters are as good as small ones.
        end.is_some_and(|end| end.eq_ignore_ascii_case(REWRITING.as_bytes()))
    }

    /// Returns the place beside this one where what is to take its place is written.
    pub(super) fn beside(&self) -> io::Result<Self> {
        #[cfg(test)]
        if self.disk.is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut path = self.real().into_os_string();
        path.push(REWRITING);
        Ok(Self::new(Path::new(&path)))
    }

    /// Removes what a process has left beside the file that ended while it wrote there.
    ///
    /// What another process has open is not that, nor what is no file of the database: it is left as it is, and logged.
    pub(super) fn clean(&self) {
        if let Ok(beside) = self.beside()
            && let Ok(left) = beside.backing(WriteMode::Held, false)
            && left.lock()
        {
            if left.is_of_database().unwrap_or(false) {
                drop(left);
                drop(fs::remove_file(beside.path));
            } else {
                let file = beside.path.display();
                tracing::warn!(%file, "what is in the way of the store is not its own, and is left as it is");
            }
        }
    }

    /// Makes a file beside this one, in which nothing stands.
    pub(super) fn begin_beside(&self) -> io::Result<Backing> {
        let beside = self.beside()?;
        let empty = || {
            let backing = beside.backing(WriteMode::Through, true)?;
            match backing.len()? {
                0 => Ok(backing),
                _ => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is in the way")),
            }
        };
        empty().map_err(|error| beside.named(&error))
    }

    /// Returns where the file itself is, if the path is that of a link.
    fn real(&self) -> PathBuf {
        fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// Puts what was written beside the file in its place, for those who may use that: all of it, or nothing.
    pub(super) fn replace(&self) -> io::Result<()> {
        let (real, beside) = (self.real(), self.beside()?.path);
        fs::set_permissions(&beside, fs::metadata(&real)?.permissions())?;
        fs::rename(beside, &real)?;
        // That it has another file now is the folder's affair; not every system can be asked to remember that.
        if let Some(folder) = real.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            drop(File::open(folder).and_then(|folder| folder.sync_all()));
        }
        Ok(())
    }
}

/// Something that is done to a file.
#[derive(Debug)]
enum FileAct {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// What becomes of what the database does to a file.
#[derive(Debug)]
pub(super) enum WriteMode {
    /// It is done.
    Through,
    /// It is seen by the database, and is not done before it is [released](Backing::release).
    Held,
    /// It is refused, and the file is shown as one that was closed: what can be read of it can be read.
    ReadOnly,
}

#[derive(Debug)]
enum BackingState {
    Through,
    Held(Vec<FileAct>),
    ReadOnly,
}

/// Stands between a database and its file.
///
/// # Invariants
/// Of a file that is held or only read no byte changes.
#[derive(Clone, Debug)]
pub(super) struct Backing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    below: Box<dyn StorageBackend>,
    /// Which file it is, if it is one and the system says so.
    identity: Option<Identity>,
    state: Mutex<BackingState>,
}

/// Where in a file of the database stands whether it was closed, and which bit says that it was not.
///
/// Source: redb's description of its format.
const FLAGS_AT: u64 = 9;
const NOT_CLOSED: u8 = 2;

impl Backing {
    fn new(below: impl StorageBackend, mode: WriteMode, identity: Option<Identity>) -> Self {
        let state = match mode {
            WriteMode::Through => BackingState::Through,
            WriteMode::Held => BackingState::Held(Vec::new()),
            WriteMode::ReadOnly => BackingState::ReadOnly,
        };
        Self(Arc::new(Inner { below: Box::new(below), identity, state: Mutex::new(state) }))
    }

    /// Returns whether it is a file of the database, be it one that has only been begun.
    fn is_of_database(&self) -> io::Result<bool> {
        let mut begins = [0; MAGIC.len()];
        let len = usize::try_from(self.0.below.len()?).unwrap_or(usize::MAX).min(begins.len());
        self.0.below.read(0, &mut begins[..len])?;
        // It is marked as one when the rest of its head stands there.
        Ok(begins == MAGIC || begins == [0; MAGIC.len()])
    }

    fn state(&self) -> MutexGuard<'_, BackingState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what was held, in its order, and whatever is done from now on.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut state = self.state();
        let BackingState::Held(acts) = std::mem::replace(&mut *state, BackingState::ReadOnly) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        for act in acts {
            match act {
                FileAct::Write(at, data) => self.0.below.write(at, &data)?,
                FileAct::SetLen(len) => self.0.below.set_len(len)?,
                FileAct::Sync => self.0.below.sync_data()?,
            }
        }
        *state = BackingState::Through;
        Ok(())
    }

    /// Does nothing more to the file.
    pub(super) fn freeze(&self) {
        *self.state() = BackingState::ReadOnly;
    }

    /// Keeps other processes from the file; returns whether that is possible.
    pub(super) fn lock(&self) -> bool {
        // Where there are no locks there are no other processes.
        self.0.below.try_lock_range(Bound::Unbounded, Bound::Unbounded).unwrap_or(true)
    }

    fn act(&self, act: FileAct) -> io::Result<()> {
        let mut state = self.state();
        match &mut *state {
            BackingState::Held(acts) => acts.push(act),
            BackingState::ReadOnly => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            BackingState::Through => {
                drop(state);
                return match act {
                    FileAct::Write(at, data) => self.0.below.write(at, &data),
                    FileAct::SetLen(len) => self.0.below.set_len(len),
                    FileAct::Sync => self.0.below.sync_data(),
                };
            }
        }
        Ok(())
    }

    fn is_through(&self) -> bool {
        matches!(*self.state(), BackingState::Through)
    }

    /// Does with a lock what the file can; one that is only read has its own.
    fn locking<T>(
        &self,
        without: T,
        act: impl FnOnce(&dyn StorageBackend) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let is_read_only = matches!(*self.state(), BackingState::ReadOnly);
        if is_read_only { Ok(without) } else { act(&*self.0.below) }
    }
}

/// How long a file is after something was done to it.
fn len_after(len: u64, acts: &[FileAct]) -> u64 {
    let last = acts.iter().rev().find_map(|act| match act {
        FileAct::SetLen(len) => Some(*len),
        FileAct::Write(..) | FileAct::Sync => None,
    });
    last.unwrap_or(len)
}

/// Does to what was read from an offset of a file what was done to that.
fn overlay(offset: u64, out: &mut [u8], acts: &[FileAct]) {
    let place = |at: u64, len: usize| usize::try_from(at.saturating_sub(offset)).unwrap_or(len).min(len);
    for act in acts {
        match act {
            FileAct::Write(at, data) => {
                let (from, to) = (place(*at, out.len()), place(*at + data.len() as u64, out.len()));
                let skipped =
                    usize::try_from(offset.saturating_sub(*at)).unwrap_or(data.len()).min(data.len());
                out[from..to].copy_from_slice(&data[skipped..][..to - from]);
            }
            FileAct::SetLen(len) => {
                let from = place(*len, out.len());
                out[from..].fill(0);
            }
            FileAct::Sync => {}
        }
    }
}

impl StorageBackend for Backing {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        let len = self.0.below.len()?;
        Ok(if let BackingState::Held(acts) = &*state { len_after(len, acts) } else { len })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        match &*state {
            BackingState::Through => {
                drop(state);
                self.0.below.read(offset, out)
            }
            BackingState::ReadOnly => {
                drop(state);
                self.0.below.read(offset, out)?;
                if let Some(flags) =
                    FLAGS_AT.checked_sub(offset).and_then(|at| out.get_mut(usize::try_from(at).ok()?))
                {
                    *flags &= !NOT_CLOSED;
                }
                Ok(())
            }
            BackingState::Held(acts) => {
                let len = self.0.below.len()?;
                if offset + out.len() as u64 > len_after(len, acts) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let there = usize::try_from(len.saturating_sub(offset)).unwrap_or(out.len()).min(out.len());
                let (from_file, beyond) = out.split_at_mut(there);
                self.0.below.read(offset, from_file)?;
                beyond.fill(0);
                overlay(offset, out, acts);
                Ok(())
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.act(FileAct::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.act(FileAct::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.is_through() {
            return self.0.below.write(offset, data);
        }
        self.act(FileAct::Write(offset, data.to_vec()))
    }

    fn close(&self) -> io::Result<()> {
        self.0.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locking(true, |below| below.try_lock_range(start, end))
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locking(true, |below| below.try_lock_shared_range(start, end))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locking((), |below| below.lock_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locking((), |below| below.lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locking((), |below| below.unlock_range(start, end))
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locking(false, |below| below.query_lock_range(start, end))
    }
}
