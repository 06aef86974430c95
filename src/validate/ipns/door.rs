//! The parsers of what a record has signed, without a record, for the fuzz targets.

use std::collections::BTreeMap;

use super::cbor::{self, CborValue};
use super::rfc3339;
use crate::time::SystemTime;

/// A value of a document, as far as IPNS asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorValue<'a> {
    /// An integer of at most 63 bits.
    Integer(i64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Whatever else.
    Other,
}

/// Reads a document of DAG-CBOR; `None` if it is none.
pub fn cbor_document(bytes: &[u8]) -> Option<BTreeMap<&[u8], DoorValue<'_>>> {
    let document = cbor::document(bytes).ok()?;
    let shown = |value| match value {
        CborValue::Integer(integer) => DoorValue::Integer(integer),
        CborValue::Bytes(bytes) => DoorValue::Bytes(bytes),
        CborValue::Other => DoorValue::Other,
    };
    Some(document.into_iter().map(|(key, value)| (key, shown(value))).collect())
}

/// Reads a time, in nanoseconds from 1970; `None` if it is none.
pub fn parse_time(text: &[u8]) -> Option<i128> {
    rfc3339::parse(text)
}

/// Returns the nanoseconds from 1970 to a time of the wall clock.
pub fn wall_nanoseconds(wall: SystemTime) -> i128 {
    rfc3339::nanoseconds(wall)
}
