//! The fields of the rows of a file: times, lengths, addresses.

use libp2p_core::Multiaddr;

use crate::time::{Duration, SystemTime};

/// Returns a time in milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads what [`millis`] has returned; `None` if there is no such time.
pub(super) fn from_millis(bytes: [u8; 8]) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::from_be_bytes(bytes)))
}

/// Returns an end in milliseconds since 1970, 0 for none.
pub(super) fn end_millis(end: Option<SystemTime>) -> u64 {
    end.map_or(0, |end| millis(end).max(1))
}

/// Reads what [`end_millis`] has returned; `None` if there is no such time.
pub(super) fn from_end_millis(bytes: [u8; 8]) -> Option<Option<SystemTime>> {
    if bytes == [0; 8] { Some(None) } else { from_millis(bytes).map(Some) }
}

/// Returns the length of a part that leads it, one byte.
pub(super) fn short(part: &[u8]) -> u8 {
    u8::try_from(part.len()).unwrap_or(0)
}

/// Writes addresses, each led by its length, two bytes.
pub(super) fn write_addresses(addresses: &[Multiaddr], bytes: &mut Vec<u8>) {
    for address in addresses {
        // One that is longer would not be kept by anybody.
        if let Ok(len) = u16::try_from(address.len()) {
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(address.as_ref());
        }
    }
}

/// Reads what [`write_addresses`] has written.
pub(super) fn read_addresses(mut bytes: &[u8]) -> Option<Vec<Multiaddr>> {
    let mut addresses = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (address, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        addresses.push(Multiaddr::try_from(address.to_vec()).ok()?);
        bytes = rest;
    }
    Some(addresses)
}
