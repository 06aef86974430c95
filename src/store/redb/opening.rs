//! Opening a file: what is whole of it is taken in, and nothing is written before that is known.
//!
//! Knows formats and tables; what stands in a row is the store's affair.

use std::collections::BTreeMap;
use std::io;

use ::redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _,
    ReadableTable, ReadableTableMetadata as _, StorageBackend as _,
};
use libp2p_identity::PeerId;

use super::backing::{Backing, FilePlace, REWRITING, WriteMode};
use super::format::{
    Definition, FileTable, FoundRows, Kind, SealedRow, TablePair, Take, VERSION, caught, damaged, fault,
    kind, whole, write_format,
};

/// So many bytes of a file are in memory, so that what is asked for again is not read again. In tests next to none, so that
/// they see the file.
///
/// Source: an eighth of what the records of others may take by default.
const CACHE: usize = if cfg!(test) { 64 << 10 } else { 8 << 20 };

/// So often a damaged file is opened anew for a table after the database has failed on it; what has not been read by then is
/// lost. Two times are enough for what stands before and behind one damaged page, and the others for what stands in it.
/// Chosen, not measured.
const MAX_TRIES: usize = 64;

/// So often a file is opened anew that another process has replaced before it was locked. Each time that one has written all it
/// holds, so that two in a row take a crowd. Chosen, not measured.
const MAX_REPLACED: usize = 8;

/// What stands in a table under a key.
type TableRow = (FileTable, Vec<u8>, SealedRow);

/// A file that is open.
pub(super) enum Handle {
    Open(Database, Backing),
    /// What can be read of a file on which the database has failed.
    ReadOnly(ReadOnlyDatabase),
}

impl Handle {
    pub(super) fn begin_read(&self) -> io::Result<ReadTransaction> {
        match self {
            Self::Open(database, _) => database.begin_read(),
            Self::ReadOnly(database) => database.begin_read(),
        }
        .map_err(fault)
    }

    /// Returns how long the file is; 0 for one that is only read.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Open(_, backing) => backing.len().unwrap_or(0),
            Self::ReadOnly(_) => 0,
        }
    }

    /// Ends the use of a file without a change to it.
    pub(super) fn abandon(self) {
        if let Self::Open(_, backing) = &self {
            backing.freeze();
        }
        drop(caught(|| {
            drop(self);
            Ok(())
        }));
    }
}

/// What was opened, and what there was.
pub(super) struct Opened {
    pub(super) handle: Handle,
    pub(super) found: FoundRows,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Opens the file of a node, or makes one if there is none, and hands on each row that is whole.
///
/// A file of the first format is brought to the present one, and a damaged one is written anew without what is damaged: beside
/// it, and then put in its place. An empty one is taken for new, which is logged.
///
/// # Errors
/// If it cannot be read, is damaged so that nothing can be said of it or it cannot be written anew, has a name that is kept for
/// what is written beside another, or is none of this node's; then no byte has changed.
pub(super) fn open(place: &FilePlace, local: &PeerId, take: Take<'_>) -> io::Result<Opened> {
    if place.is_beside_another() {
        let text =
            format!("a name that ends in {REWRITING} is kept for what takes the place of another file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for _ in 0..MAX_REPLACED {
        if let Some(opened) = open_locked(place, local, take)? {
            place.clean();
            return Ok(opened);
        }
    }
    Err(replaced())
}

fn replaced() -> io::Error {
    io::Error::other("another process has put another file in its place")
}

/// Makes a file where there is none; `None` if another process has done so meanwhile.
fn make(place: &FilePlace, local: &PeerId) -> io::Result<Option<Opened>> {
    let backing = place.backing(WriteMode::Through, true)?;
    if backing.len()? != 0 {
        return Ok(None);
    }
    let database = caught(|| fill(backing.clone(), local, &[]))?;
    if !place.has(&backing) {
        return Ok(None);
    }
    Ok(Some(Opened { handle: Handle::Open(database, backing), found: FoundRows::default() }))
}

/// Opens the file; `None` if another process has put another in its place before it was locked. No row was handed on then.
fn open_locked(place: &FilePlace, local: &PeerId, take: Take<'_>) -> io::Result<Option<Opened>> {
    let was_empty = place.has_empty_file();
    let backing = place.backing(WriteMode::Held, true)?;
    if backing.len()? == 0 {
        drop(backing);
        let made = make(place, local)?;
        if made.is_some() && was_empty {
            let file = place.path().display();
            tracing::warn!(%file, "the file of the store was empty, and is taken for a new one");
        }
        return Ok(made);
    }
    let checked = caught(|| {
        let database = builder()
            .set_check_integrity_on_open(true)
            .create_with_backend(backing.clone())
            .map_err(fault)?;
        let read = database.begin_read().map_err(fault)?;
        Ok((database, read))
    });
    if !place.has(&backing) {
        if let Ok((database, read)) = checked {
            drop(read);
            Handle::Open(database, backing).abandon();
        }
        return Ok(None);
    }
    let (database, read) = match checked {
        Ok(whole) => whole,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            drop(backing);
            return salvage(place, local, take, error).map(Some);
        }
        Err(error) => return Err(error),
    };
    let is = kind(&read, local)?;
    let opened = match is {
        Kind::Current => {
            let found = caught(|| FoundRows::all(&read, take))?;
            drop(read);
            backing.release()?;
            Opened { handle: Handle::Open(database, backing), found }
        }
        Kind::Empty => {
            drop(read);
            backing.release()?;
            caught(|| write(&database, local, &[]))?;
            Opened { handle: Handle::Open(database, backing), found: FoundRows::default() }
        }
        Kind::First => {
            let mut rows = Vec::new();
            let found = caught(|| FoundRows::all_old(&read, &mut keeping(&mut rows, take)))?;
            // The old file stays locked until the new one is in its place.
            write_anew(place, local, (&rows, found), "it is of an earlier format")?
        }
    };
    Ok(Some(opened))
}

/// Hands rows on and keeps those that were taken.
fn keeping<'a>(
    rows: &'a mut Vec<TableRow>,
    take: Take<'a>,
) -> impl FnMut(FileTable, &[u8], &SealedRow) -> bool + 'a {
    |table, key, row| {
        let is_taken = take(table, key, row);
        if is_taken {
            rows.push((table, key.to_vec(), row.clone()));
        }
        is_taken
    }
}

/// Opens a file anew on which the database has failed for want of a disk; its rows are known.
pub(super) fn again(place: &FilePlace, local: &PeerId) -> io::Result<Handle> {
    let backing = place.backing(WriteMode::Held, false)?;
    if backing.len()? == 0 {
        return Err(damaged("the file is gone"));
    }
    caught(|| {
        let database = builder().create_with_backend(backing.clone()).map_err(fault)?;
        match kind(&database.begin_read().map_err(fault)?, local)? {
            Kind::Current => {}
            Kind::Empty | Kind::First => return Err(damaged("the file is another")),
        }
        if !place.has(&backing) {
            return Err(replaced());
        }
        backing.release()?;
        Ok(Handle::Open(database, backing))
    })
}

/// Opens a file to read what can be read of it; nothing is checked.
pub(super) fn read_only(place: &FilePlace) -> io::Result<ReadOnlyDatabase> {
    let backing = place.backing(WriteMode::ReadOnly, false)?;
    if !backing.lock() {
        return Err(io::Error::other("another process has the file"));
    }
    if !place.has(&backing) {
        return Err(replaced());
    }
    // In this mode the database does not ask for more than the rows: neither that the file was closed nor what is free.
    caught(|| {
        let mut builder = builder();
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.open_read_only_with_backend(backing).map_err(fault)
    })
}

/// Makes a database with some rows.
pub(super) fn fill(backing: Backing, local: &PeerId, rows: &[TableRow]) -> io::Result<Database> {
    let mut database = builder().create_with_backend(backing).map_err(fault)?;
    write(&database, local, rows)?;
    database.compact().map_err(fault)?;
    Ok(database)
}

fn write(database: &Database, local: &PeerId, rows: &[TableRow]) -> io::Result<()> {
    let write = database.begin_write().map_err(fault)?;
    write_format(&write, VERSION, local)?;
    for table in FileTable::ALL {
        let mut pair = TablePair::open(&write, table)?;
        for (_, key, row) in rows.iter().filter(|(of, ..)| *of == table) {
            pair.set(key, Some(row))?;
        }
    }
    write.commit().map_err(fault)
}

/// Writes a file anew, and puts it in the place of the one that is there, of which is said why.
fn write_anew(
    place: &FilePlace,
    local: &PeerId,
    (rows, mut found): (&[TableRow], FoundRows),
    why: &str,
) -> io::Result<Opened> {
    let anew = || {
        place.clean();
        let backing = place.begin_beside()?;
        let database = caught(|| fill(backing.clone(), local, rows))?;
        place.replace()?;
        Ok((database, backing))
    };
    let (database, backing) = anew().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("{why}, and cannot be written anew: {error}"))
    })?;
    // What is damaged is not in it.
    found.damaged.clear();
    Ok(Opened { handle: Handle::Open(database, backing), found })
}

/// Takes what is whole of a damaged file, and writes it anew.
fn salvage(place: &FilePlace, local: &PeerId, take: Take<'_>, error: io::Error) -> io::Result<Opened> {
    let mut salvage = Salvage { place, database: None, tries: 0 };
    let Some(is) = salvage.read(|read| Ok(kind(read, local).map_err(|error| (error.kind(), error)))) else {
        return Err(error);
    };
    match is {
        Ok(Kind::Current) => {}
        // Of its rows nobody can tell which are whole.
        Ok(Kind::First | Kind::Empty) => return Err(error),
        Err((io::ErrorKind::InvalidData, _)) => return Err(error),
        Err((_, other)) => return Err(other),
    }
    let mut rows = Vec::new();
    let found = salvage.all(&mut keeping(&mut rows, take));
    write_anew(place, local, (&rows, found), "the file is damaged")
}

/// Reads what can be read of a damaged file.
///
/// # Bounds
/// The database is opened anew [`MAX_TRIES`] times for each table after it has failed. What is read is in memory until it is
/// written: as much as the file has. The database itself allocates a page as long as a damaged pointer says that it is, up to 4 GiB,
/// before it finds that the file ends earlier.
struct Salvage<'a> {
    place: &'a FilePlace,
    database: Option<ReadOnlyDatabase>,
    tries: usize,
}

impl Salvage<'_> {
    /// Reads something, unless the database fails on it.
    fn read<T>(&mut self, act: impl FnOnce(&ReadTransaction) -> io::Result<T>) -> Option<T> {
        if self.database.is_none() && self.tries < MAX_TRIES {
            self.tries += 1;
            self.database = read_only(self.place).ok();
        }
        let database = self.database.as_ref()?;
        let done = caught(|| act(&database.begin_read().map_err(fault)?));
        if done.is_err()
            && let Some(database) = self.database.take()
        {
            Handle::ReadOnly(database).abandon();
        }
        done.ok()
    }

    fn all(&mut self, take: Take<'_>) -> FoundRows {
        let mut found = FoundRows::default();
        for table in FileTable::ALL {
            self.tries = 0;
            let (sums, mut rows) = (self.walk(table.sums()), self.walk(table.rows()));
            let mut seen = 0;
            for (key, sum) in &sums {
                seen += 1;
                let row = rows.remove(key).or_else(|| self.row(table, key));
                let row = row.and_then(|row| whole(table, key, &row, sum));
                found.take(take, table, key, row.as_ref());
            }
            for key in rows.into_keys() {
                seen += 1;
                found.take(take, table, &key, None);
            }
            // How many there were, as far as the file says so and can be believed.
            let said = [table.sums(), table.rows()].map(|definition| {
                self.read(|read| read.open_table(definition).map_err(fault)?.len().map_err(fault))
            });
            let said = said.into_iter().flatten().max();
            let len =
                self.place.backing(WriteMode::ReadOnly, false).and_then(|backing| backing.len()).unwrap_or(0);
            // If it does not say so, there was at least one.
            found.lost += said.unwrap_or(seen + 1).min(len.max(seen)).saturating_sub(seen);
        }
        found
    }

    /// Looks for a row that could not be walked to.
    fn row(&mut self, table: FileTable, key: &[u8]) -> Option<Vec<u8>> {
        let row = self.read(|read| {
            let rows = read.open_table(table.rows()).map_err(fault)?;
            let row = rows.get(key).map_err(fault)?;
            Ok(row.map(|row| row.value().to_vec()))
        });
        row.flatten()
    }

    /// Returns what stands in a table, as far as it can be walked from either end.
    fn walk(&mut self, definition: Definition) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut all = BTreeMap::new();
        for is_backward in [false, true] {
            let whole = self.read(|read| {
                let rows = read.open_table(definition).map_err(fault)?;
                let mut last: Option<Vec<u8>> = None;
                let mut entries = rows.iter().map_err(fault)?;
                while let Some(entry) = if is_backward { entries.next_back() } else { entries.next() } {
                    let (key, row) = entry.map_err(fault)?;
                    let key = key.value().to_vec();
                    // Whoever does not get on goes round in circles.
                    if last.is_some_and(|last| if is_backward { key >= last } else { key <= last }) {
                        return Err(damaged("the keys are in disorder"));
                    }
                    all.entry(key.clone()).or_insert_with(|| row.value().to_vec());
                    last = Some(key);
                }
                Ok(())
            });
            if whole.is_some() {
                break;
            }
        }
        all
    }
}
