//! Files of the store with any rows, and the rows themselves, for the fuzz targets.

use std::io;
use std::path::Path;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::backing::{FilePlace, WriteMode};
use super::fields::{read_addresses, write_addresses};
use super::format::FileTable;
use super::opening::fill;
use crate::addrs::IpGroup;
use crate::record::RecordKey;
use crate::store::charge::Charge;

/// A row of a file: of which table it is, its key, and what stands in it.
pub type DoorRow = (u8, Vec<u8>, Vec<u8>);

/// Makes the file of a node with some rows, each with a checksum that is right.
pub fn make_file(path: &Path, local: PeerId, rows: Vec<DoorRow>) -> io::Result<()> {
    let sealed = rows.into_iter().map(|(table, key, row)| {
        let table = match table % 3 {
            0 => FileTable::Records,
            1 => FileTable::Providers,
            _ => FileTable::Peers,
        };
        let row = table.seal(&key, row);
        (table, key, row)
    });
    let backing = FilePlace::new(path).backing(WriteMode::Through, true)?;
    fill(backing, &local, &sealed.collect::<Vec<_>>()).map(drop)
}

/// Reads the row of a record, and writes it again; `None` if it cannot be read.
pub fn rewritten_record(key: &[u8], row: &[u8]) -> Option<Vec<u8>> {
    let (record, owner) = super::decode(&RecordKey::new(&key), row)?;
    Some(super::encode(&record, &owner))
}

/// Reads who is charged, and writes it again; `None` if it cannot be read.
pub fn rewritten_charge(bytes: &[u8]) -> Option<Vec<u8>> {
    Charge::from_bytes(bytes).map(|charge| charge.to_bytes())
}

/// Reads an IP group, and writes it again; `None` if it cannot be read.
pub fn rewritten_group(bytes: &[u8]) -> Option<Vec<u8>> {
    IpGroup::from_bytes(bytes).map(IpGroup::to_bytes)
}

/// Reads the addresses of a row; `None` if they cannot be read.
pub fn packed_addresses(bytes: &[u8]) -> Option<Vec<Multiaddr>> {
    read_addresses(bytes)
}

/// Writes addresses as they stand in a row.
pub fn pack_addresses(addresses: &[Multiaddr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_addresses(addresses, &mut bytes);
    bytes
}
