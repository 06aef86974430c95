//! The reader of DAG-CBOR: any bytes, and documents that are made so that what they say is known.

use std::collections::BTreeMap;

use libp2p_kademlia::fuzzing::{DoorValue, cbor_document};

/// How deep the values of a document are nested here: somewhat deeper than the reader goes.
const DEPTH: usize = 130;

// The major types of RFC 8949 §3.1.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Reads the bytes as a document, and as a plan of one. What is read can be written, and reads the same again.
pub fn cbor(data: &[u8]) {
    if let Some(document) = cbor_document(data) {
        assert!(data.split_last().is_some_and(|(_, rest)| cbor_document(rest).is_none()), "it has no end");
        assert_eq!(cbor_document(&[data, &[0xf6]].concat()), None, "something is behind it");
        assert_eq!(cbor_document(&written(&document)), Some(document));
    }
    made(data);
}

/// Writes a head as short as it can be.
fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let bytes = argument.to_be_bytes();
    let (info, len) = match argument {
        0..24 => (bytes[7], 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend_from_slice(&bytes[8 - len..]);
}

fn string(major: u8, bytes: &[u8], out: &mut Vec<u8>) {
    head(major, bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn integer(integer: i64, out: &mut Vec<u8>) {
    match u64::try_from(integer) {
        Ok(integer) => head(UNSIGNED, integer, out),
        Err(_) => head(NEGATIVE, (!integer).cast_unsigned(), out),
    }
}

/// Writes a document; whatever is neither a number nor bytes is null there.
fn written(document: &BTreeMap<&[u8], DoorValue<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    head(MAP, document.len() as u64, &mut out);
    for (key, value) in document {
        string(TEXT, key, &mut out);
        match value {
            DoorValue::Integer(number) => integer(*number, &mut out),
            DoorValue::Bytes(bytes) => string(BYTES, bytes, &mut out),
            DoorValue::Other => out.push(0xf6),
        }
    }
    out
}

/// The rest of the bytes that say what a document has.
struct Plan<'a>(&'a [u8]);

impl<'a> Plan<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let len = usize::from(self.byte() % 9);
        self.take(len).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn some(&mut self) -> &'a [u8] {
        let len = self.byte();
        self.take(usize::from(len))
    }

    /// Writes a value that may be nested `depth` deep; `None` if no reader may take it.
    fn value(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<DoorValue<'a>> {
        match self.byte() % 8 {
            0 => {
                let number = self.number();
                head(UNSIGNED, number, out);
                Some(i64::try_from(number).map_or(DoorValue::Other, DoorValue::Integer))
            }
            1 => {
                let number = self.number();
                head(NEGATIVE, number, out);
                i64::try_from(number).ok().map(|number| DoorValue::Integer(!number))
            }
            2 => {
                let bytes = self.some();
                string(BYTES, bytes, out);
                Some(DoorValue::Bytes(bytes))
            }
            3 => {
                string(TEXT, self.some(), out);
                Some(DoorValue::Other)
            }
            4 => self.list(depth, out),
            5 => self.map(depth, out).map(|_| DoorValue::Other),
            6 => {
                head(TAG, 42, out);
                let link = self.some();
                string(BYTES, link, out);
                (link.first() == Some(&0)).then_some(DoorValue::Other)
            }
            _ => self.simple(out),
        }
    }

    fn list(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<DoorValue<'a>> {
        let len = if depth == 0 { 0 } else { self.byte() % 4 };
        head(LIST, len.into(), out);
        let mut is_good = true;
        for _ in 0..len {
            is_good &= self.value(depth - 1, out).is_some();
        }
        is_good.then_some(DoorValue::Other)
    }

    fn simple(&mut self, out: &mut Vec<u8>) -> Option<DoorValue<'a>> {
        let kind = self.byte() % 8;
        let is_finite = match kind {
            0..=3 => {
                out.push(0xf4 + kind);
                return Some(DoorValue::Other);
            }
            4 => {
                let half = self.take(2);
                out.push(0xf9);
                out.extend_from_slice(half);
                half.len() == 2 && half[0] & 0x7c != 0x7c
            }
            5 => {
                let single = f32::from_bits(self.number() as u32);
                out.push(0xfa);
                out.extend_from_slice(&single.to_be_bytes());
                single.is_finite()
            }
            6 => {
                let double = f64::from_bits(self.number());
                out.push(0xfb);
                out.extend_from_slice(&double.to_be_bytes());
                double.is_finite()
            }
            _ => {
                out.push(0xf8);
                out.push(self.byte());
                false
            }
        };
        is_finite.then_some(DoorValue::Other)
    }

    /// Writes a map, and returns what it says; `None` if no reader may take it.
    fn map(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<BTreeMap<&'a [u8], DoorValue<'a>>> {
        let len = if depth == 0 { 0 } else { self.byte() % 8 };
        head(MAP, len.into(), out);
        let (mut map, mut is_good) = (BTreeMap::new(), true);
        for _ in 0..len {
            let key = self.some();
            string(TEXT, key, out);
            let value = self.value(depth.saturating_sub(1), out);
            is_good &= value.is_some_and(|value| map.insert(key, value).is_none());
        }
        is_good.then_some(map)
    }
}

/// Makes a document by the plan, and holds what is read of it against what was written.
fn made(data: &[u8]) {
    let mut out = Vec::new();
    let document = Plan(data).map(DEPTH, &mut out);
    let read = cbor_document(&out);
    // One that is nested too deep is refused, and no other.
    if read.is_some() || !is_deep(&out) {
        assert_eq!(read, document, "{out:02x?}");
    }
}

/// Whether so many values may stand within each other that the reader gives up: each has a head.
fn is_deep(document: &[u8]) -> bool {
    document.iter().filter(|byte| matches!(*byte >> 5, LIST | MAP)).count() > 128
}
