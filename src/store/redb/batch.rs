//! A batch: what one commit writes.

use std::io;

use ::redb::Database;
use indexmap::IndexMap;

use super::format::{FileTable, SealedRow, TablePair, fault};
use crate::record::RecordKey;

/// What waits to be written takes so many bytes at most, unless another bound is set.
///
/// Chosen, not measured: a second's worth of a slow disk.
pub(super) const MAX_QUEUED: usize = 4 << 20;

/// What a change takes beside its key and its value. Chosen, not measured.
pub(super) const OVERHEAD: usize = 64;

/// A key and what is to stand there, or nothing.
pub(super) type Row = (Vec<u8>, Option<Vec<u8>>);

/// What one commit writes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    records: IndexMap<RecordKey, Option<SealedRow>>,
    providers: IndexMap<Vec<u8>, Option<SealedRow>>,
    peers: Option<Vec<(Vec<u8>, SealedRow)>>,
    bytes: usize,
}

fn size(key: usize, row: Option<&SealedRow>) -> usize {
    OVERHEAD + key + row.map_or(0, |row| row.row.len())
}

impl Batch {
    pub(super) fn record(&mut self, key: RecordKey, row: Option<SealedRow>) {
        let len = key.as_ref().len();
        self.bytes += size(len, row.as_ref());
        if let Some(before) = self.records.insert(key, row) {
            self.bytes -= size(len, before.as_ref());
        }
    }

    pub(super) fn provider(&mut self, key: Vec<u8>, row: Option<SealedRow>) {
        let len = key.len();
        self.bytes += size(len, row.as_ref());
        if let Some(before) = self.providers.insert(key, row) {
            self.bytes -= size(len, before.as_ref());
        }
    }

    pub(super) fn set_peers(&mut self, peers: Vec<(Vec<u8>, SealedRow)>) {
        self.peers = Some(peers);
    }

    /// Returns what is to stand in the place of a record, if that changes.
    pub(super) fn get_record(&self, key: &RecordKey) -> Option<&Option<SealedRow>> {
        self.records.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len() + self.providers.len() + usize::from(self.peers.is_some())
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts what could not be written beneath what was changed since.
    pub(super) fn is_preceded_by(&mut self, earlier: &Self) {
        for (key, row) in &earlier.records {
            if !self.records.contains_key(key) {
                self.record(key.clone(), row.clone());
            }
        }
        for (key, row) in &earlier.providers {
            if !self.providers.contains_key(key) {
                self.provider(key.clone(), row.clone());
            }
        }
        self.peers = self.peers.take().or_else(|| earlier.peers.clone());
    }

    /// Writes it, and returns how many bytes more and less the file holds.
    pub(super) fn write(&self, database: &Database) -> io::Result<(u64, u64)> {
        let write = database.begin_write().map_err(fault)?;
        let mut held = (0, 0);
        let mut set = |pair: &mut TablePair<'_>, key: &[u8], row: Option<&SealedRow>| {
            let (more, less) = pair.set(key, row)?;
            held = (held.0 + more, held.1 + less);
            io::Result::Ok(())
        };
        let mut pair = TablePair::open(&write, FileTable::Records)?;
        self.records.iter().try_for_each(|(key, row)| set(&mut pair, key.as_ref(), row.as_ref()))?;
        drop(pair);
        let mut pair = TablePair::open(&write, FileTable::Providers)?;
        self.providers.iter().try_for_each(|(key, row)| set(&mut pair, key, row.as_ref()))?;
        drop(pair);
        if let Some(peers) = &self.peers {
            let mut pair = TablePair::open(&write, FileTable::Peers)?;
            pair.clear()?;
            // They are few, and are not counted.
            peers.iter().try_for_each(|(key, row)| pair.set(key, Some(row)).map(drop))?;
        }
        write.commit().map_err(fault)?;
        Ok(held)
    }
}
