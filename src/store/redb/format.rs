//! The format of the file: its tables, what each row is checked against, and what the file says of itself.
//!
//! Knows bytes and tables; what stands in a row is the store's affair.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::redb::{ReadTransaction, ReadableTable, ReadableTableMetadata as _, TableDefinition, TableHandle as _};
use ::redb::{Table as Rows, WriteTransaction};
use bytes::Bytes;
use libp2p_identity::PeerId;
use sha2::{Digest as _, Sha256};

/// The format that is written. Of the first one nothing was checked, and the file did not say whose it is.
pub(super) const VERSION: u32 = 2;

pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What the file says of itself, the same way in every format to come: version, four bytes · id of the node · checksum.
const FORMAT: Definition = TableDefinition::new("libp2p-kademlia/format");
const FORMAT_KEY: &[u8] = b"format";

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileTable {
    Records,
    Providers,
    Peers,
}

impl FileTable {
    pub(super) const ALL: [Self; 3] = [Self::Records, Self::Providers, Self::Peers];

    pub(super) const fn rows(self) -> Definition {
        TableDefinition::new(match self {
            Self::Records => "libp2p-kademlia/2/records",
            Self::Providers => "libp2p-kademlia/2/providers",
            Self::Peers => "libp2p-kademlia/2/peers",
        })
    }

    /// The table in which the checksum of each row stands, under the same key: neither is believed without the other, so
    /// that a page of an earlier time in place of today's is found out, too.
    pub(super) const fn sums(self) -> Definition {
        TableDefinition::new(match self {
            Self::Records => "libp2p-kademlia/2/records/sums",
            Self::Providers => "libp2p-kademlia/2/providers/sums",
            Self::Peers => "libp2p-kademlia/2/peers/sums",
        })
    }

    /// The table of the first format.
    pub(super) const fn old(self) -> Definition {
        TableDefinition::new(match self {
            Self::Records => "libp2p-kademlia/1/records",
            Self::Providers => "libp2p-kademlia/1/providers",
            Self::Peers => "libp2p-kademlia/1/peers",
        })
    }

    /// Returns a row with its checksum.
    pub(super) fn seal(self, key: &[u8], row: impl Into<Bytes>) -> SealedRow {
        let row = row.into();
        SealedRow { sum: sum(self.rows().name(), key, &row), row }
    }

    /// Returns whether a row is the one that has a checksum.
    pub(super) fn is_whole(self, key: &[u8], row: &[u8], expected: &[u8]) -> bool {
        sum(self.rows().name(), key, row) == expected
    }
}

/// The checksum of a row: of its table, its key and itself.
///
/// The first eight bytes of a SHA-256 hash: that is here already, and a value of 1 KiB takes some microseconds.
pub(super) type Sum = [u8; 8];

fn sum(table: &str, key: &[u8], row: &[u8]) -> Sum {
    let mut hash = Sha256::new();
    for part in [table.as_bytes(), key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(row);
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk().copied().unwrap_or_default()
}

/// A row and its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealedRow {
    pub(super) row: Bytes,
    pub(super) sum: Sum,
}

/// Returns about how many bytes a row takes in the file with its checksum.
pub(super) const fn cost(key: usize, row: usize) -> u64 {
    /// The lengths that lead a key and a row, in either table.
    ///
    /// Source: redb's description of its format, four bytes for each.
    const LENGTHS: usize = 16;
    (2 * key + row + size_of::<Sum>() + LENGTHS) as u64
}

/// Two tables of a transaction that are written together.
pub(super) struct TablePair<'t> {
    rows: Rows<'t, &'static [u8], &'static [u8]>,
    sums: Rows<'t, &'static [u8], &'static [u8]>,
}

impl<'t> TablePair<'t> {
    pub(super) fn open(write: &'t WriteTransaction, table: FileTable) -> io::Result<Self> {
        let rows = write.open_table(table.rows()).map_err(fault)?;
        Ok(Self { rows, sums: write.open_table(table.sums()).map_err(fault)? })
    }

    /// Puts a row in place, or removes it, and returns how many bytes more and less that takes.
    pub(super) fn set(&mut self, key: &[u8], row: Option<&SealedRow>) -> io::Result<(u64, u64)> {
        let before = if let Some(SealedRow { row, sum }) = row {
            self.sums.insert(key, &sum[..]).map_err(fault)?;
            self.rows.insert(key, &row[..]).map_err(fault)?.map(|before| before.value().len())
        } else {
            self.sums.remove(key).map_err(fault)?;
            self.rows.remove(key).map_err(fault)?.map(|before| before.value().len())
        };
        let more = row.map_or(0, |row| cost(key.len(), row.row.len()));
        Ok((more, before.map_or(0, |before| cost(key.len(), before))))
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.rows.retain(|_, _| false).map_err(fault)?;
        self.sums.retain(|_, _| false).map_err(fault)
    }
}

/// Which rows of a file there are.
#[derive(Debug, Default)]
pub(super) struct FoundRows {
    /// What those take that are whole.
    pub(super) held: u64,
    /// How many are not.
    pub(super) lost: u64,
    /// Those of them that have a key.
    pub(super) damaged: Vec<(FileTable, Vec<u8>)>,
}

/// Takes a row in, and returns whether it could be understood.
pub(super) type Take<'a> = &'a mut dyn FnMut(FileTable, &[u8], &SealedRow) -> bool;

impl FoundRows {
    pub(super) fn take(&mut self, take: Take<'_>, table: FileTable, key: &[u8], row: Option<&SealedRow>) {
        match row {
            Some(row) if take(table, key, row) => self.held += cost(key.len(), row.row.len()),
            Some(_) | None => {
                self.lost += 1;
                self.damaged.push((table, key.to_vec()));
            }
        }
    }

    /// Reads all rows of a file whose pages are whole.
    pub(super) fn all(read: &ReadTransaction, take: Take<'_>) -> io::Result<Self> {
        let mut found = Self::default();
        for table in FileTable::ALL {
            let rows = read.open_table(table.rows()).map_err(fault)?;
            let sums = read.open_table(table.sums()).map_err(fault)?;
            let mut there = 0;
            for entry in sums.iter().map_err(fault)? {
                let (key, sum) = entry.map_err(fault)?;
                let row = rows.get(key.value()).map_err(fault)?;
                there += u64::from(row.is_some());
                let row = row.and_then(|row| whole(table, key.value(), row.value(), sum.value()));
                found.take(take, table, key.value(), row.as_ref());
            }
            if rows.len().map_err(fault)? != there {
                for entry in rows.iter().map_err(fault)? {
                    let (key, _) = entry.map_err(fault)?;
                    if sums.get(key.value()).map_err(fault)?.is_none() {
                        found.take(take, table, key.value(), None);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Reads all rows of a file of the first format.
    pub(super) fn all_old(read: &ReadTransaction, take: Take<'_>) -> io::Result<Self> {
        let mut found = Self::default();
        let names = names(read)?;
        for table in FileTable::ALL {
            // Not every version had each.
            if !names.iter().any(|name| name == table.old().name()) {
                continue;
            }
            let rows = read.open_table(table.old()).map_err(fault)?;
            for entry in rows.iter().map_err(fault)? {
                let (key, row) = entry.map_err(fault)?;
                let row = table.seal(key.value(), row.value().to_vec());
                found.take(take, table, key.value(), Some(&row));
            }
        }
        Ok(found)
    }
}

pub(super) fn whole(table: FileTable, key: &[u8], row: &[u8], sum: &[u8]) -> Option<SealedRow> {
    let sum: &Sum = sum.first_chunk().filter(|_| table.is_whole(key, row, sum))?;
    Some(SealedRow { row: Bytes::copy_from_slice(row), sum: *sum })
}

fn names(read: &ReadTransaction) -> io::Result<Vec<String>> {
    Ok(read.list_tables().map_err(fault)?.map(|table| table.name().to_owned()).collect())
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    First,
    Current,
}

/// Reads of which format and whose a file is.
///
/// # Errors
/// If it is of a newer format, of another node, or of another program.
pub(super) fn kind(read: &ReadTransaction, local: &PeerId) -> io::Result<Kind> {
    let names = names(read)?;
    let has = |table: Definition| names.iter().any(|name| name == table.name());
    if !has(FORMAT) {
        return match names.is_empty() {
            true => Ok(Kind::Empty),
            false if has(FileTable::Records.old()) => Ok(Kind::First),
            false => Err(damaged("the database is of another program, or damaged")),
        };
    }
    let table = read.open_table(FORMAT).map_err(fault)?;
    let row = table.get(FORMAT_KEY).map_err(fault)?;
    let row = row.as_ref().map_or(&[][..], |row| row.value());
    let said = row.split_last_chunk::<8>();
    let said = said.filter(|(said, expected)| sum(FORMAT.name(), FORMAT_KEY, said) == **expected);
    let said = said.and_then(|(said, _)| said.split_first_chunk::<4>());
    let Some((version, id)) = said else {
        return Err(damaged("the file is damaged: it does not say whose it is"));
    };
    let version = u32::from_be_bytes(*version);
    if version != VERSION {
        let text =
            format!("the file is of format {version}, and the newest that this version knows is {VERSION}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let id = PeerId::from_bytes(id).map_err(|_| damaged("the file is damaged: it is of no node"))?;
    if id != *local {
        let text = format!("the file is of the node {id}, and this node is {local}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(Kind::Current)
}

/// Makes a file one of the present format, without any rows.
pub(super) fn write_format(write: &WriteTransaction, version: u32, local: &PeerId) -> io::Result<()> {
    let mut said = version.to_be_bytes().to_vec();
    said.extend(local.to_bytes());
    said.extend(sum(FORMAT.name(), FORMAT_KEY, &said));
    write.open_table(FORMAT).map_err(fault)?.insert(FORMAT_KEY, &said[..]).map_err(fault)?;
    for table in FileTable::ALL {
        TablePair::open(write, table)?;
    }
    Ok(())
}

pub(super) fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Returns an error of the database as one of files: of damage as [`InvalidData`](io::ErrorKind::InvalidData).
pub(super) fn fault(error: impl Into<::redb::Error>) -> io::Error {
    use ::redb::Error::{Corrupted, Io, LockPoisoned, TableTypeMismatch, TypeDefinitionChanged};
    let error = error.into();
    if let Io(io) = &error {
        // Beyond the end is what damage points to.
        return match io.kind() == io::ErrorKind::UnexpectedEof {
            true => damaged("the file is damaged: it ends too early"),
            false => io::Error::new(io.kind(), io.to_string()),
        };
    }
    let is_damage = matches!(
        error,
        Corrupted(_) | LockPoisoned(_) | TableTypeMismatch { .. } | TypeDefinitionChanged { .. }
    );
    io::Error::new(if is_damage { io::ErrorKind::InvalidData } else { io::ErrorKind::Other }, error)
}

/// Does something in the database, which checks what it reads, but not everywhere without a panic.
pub(super) fn caught<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(damaged("the file is damaged: the database has panicked")))
}
