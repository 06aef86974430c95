//! Making a file smaller: what is whole of it is written anew beside it, little by little, while it is used.
//!
//! Knows tables and files; when it is worth it the writer decides.

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use ::redb::{Database, ReadTransaction};
use libp2p_identity::PeerId;

use super::backing::{Backing, FilePlace};
use super::batch::{Batch, MAX_QUEUED};
use super::format::{FileTable, TablePair, fault, whole};
use super::opening::{Handle, fill};

/// One step reads and writes so many rows at most, and no more than one beyond so many bytes: a commit that is asked for
/// meanwhile waits for it. Chosen, not measured.
const STEP_ROWS: usize = 1024;
const STEP_BYTES: usize = 1 << 20;

/// A file that is being written anew.
///
/// # What it decides
/// Nothing but what is copied next.
///
/// # Inputs
/// Steps, while nothing else is to be written; what was written to the old file since it began.
///
/// # Bounds
/// [`STEP_BYTES`] a step. What was written meanwhile waits in memory until the end, four times as much as may wait to be written;
/// if it is more, it is given up. On the disk it takes once more what is held.
///
/// # Invariants
/// The old file is whole and in its place until the new one holds everything, on the disk.
pub(super) struct Compaction {
    place: FilePlace,
    /// What the old file held when it began.
    from: ReadTransaction,
    into: Option<(Database, Backing)>,
    /// The table that is copied, and behind which key it goes on.
    table: usize,
    after: Option<Vec<u8>>,
    since: Vec<Arc<Batch>>,
    since_bytes: usize,
}

impl Compaction {
    pub(super) fn begin(place: &FilePlace, local: &PeerId, from: &Handle) -> io::Result<Self> {
        let from = from.begin_read()?;
        place.clean();
        let backing = place.begin_beside()?;
        let into = fill(backing.clone(), local, &[])?;
        Ok(Self {
            place: place.clone(),
            from,
            into: Some((into, backing)),
            table: 0,
            after: None,
            since: Vec::new(),
            since_bytes: 0,
        })
    }

    /// Takes note of what was written to the old file; returns whether it is worth going on.
    pub(super) fn note(&mut self, batch: Arc<Batch>) -> bool {
        self.since_bytes += batch.bytes();
        self.since.push(batch);
        self.since_bytes <= 4 * MAX_QUEUED
    }

    /// Copies some rows, and returns whether all have been.
    pub(super) fn step(&mut self) -> io::Result<bool> {
        let (Some(table), Some((into, _))) = (FileTable::ALL.get(self.table), &self.into) else {
            return Ok(true);
        };
        let sums = self.from.open_table(table.sums()).map_err(fault)?;
        let rows = self.from.open_table(table.rows()).map_err(fault)?;
        let from = self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = sums.range::<&[u8]>((from, Bound::Unbounded)).map_err(fault)?;
        let write = into.begin_write().map_err(fault)?;
        let mut pair = TablePair::open(&write, *table)?;
        let (mut copied, mut bytes, mut last) = (0, 0, None);
        while copied < STEP_ROWS
            && bytes < STEP_BYTES
            && let Some(entry) = range.next()
        {
            let (key, sum) = entry.map_err(fault)?;
            // What is not whole is not there any more: it is found out when it is asked for.
            if let Some(row) = rows.get(key.value()).map_err(fault)?
                && let Some(row) = whole(*table, key.value(), row.value(), sum.value())
            {
                pair.set(key.value(), Some(&row))?;
                bytes += row.row.len();
            }
            copied += 1;
            last = Some(key.value().to_vec());
        }
        drop(pair);
        write.commit().map_err(fault)?;
        if last.is_none() {
            self.table += 1;
        }
        self.after = last;
        Ok(self.table == FileTable::ALL.len())
    }

    /// Writes what has changed since it began, and puts the new file in the place of the old.
    pub(super) fn finish(mut self) -> io::Result<Option<Handle>> {
        let Some((mut into, backing)) = self.into.take() else { return Ok(None) };
        for batch in &self.since {
            batch.write(&into)?;
        }
        into.compact().map_err(fault)?;
        self.place.replace()?;
        Ok(Some(Handle::Open(into, backing)))
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        if let Some((into, backing)) = self.into.take() {
            Handle::Open(into, backing).abandon();
        }
        self.place.clean();
    }
}
