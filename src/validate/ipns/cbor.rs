//! DAG-CBOR: a signed document to the values of its keys.
//!
//! Knows which forms are DAG-CBOR; knows nothing of IPNS. Written out here because decoders of CBOR hide what DAG-CBOR
//! forbids and go refuses: numbers longer than they need be, and keys that stand twice.

use std::collections::BTreeMap;

use crate::validate::validator::InvalidRecord;

/// How deep values may be nested. Documents of IPNS are flat. Chosen, not measured.
const MAX_DEPTH: usize = 128;

// The major types of RFC 8949 §3.1.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The tag of a link, the only one there is (DAG-CBOR, "Links").
const LINK: u64 = 42;

/// The value of a key, as far as IPNS asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CborValue<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    /// Whatever else, an integer of more than 63 bits included.
    Other,
}

/// A document: a map by its keys, of which each stands once.
pub(super) type Document<'a> = BTreeMap<&'a [u8], CborValue<'a>>;

/// Reads a document: a map, and nothing behind it.
///
/// Numbers and lengths must be as short as they can be and lengths must be definite. The order of keys, the width of
/// floats and whether a text is UTF-8 are not looked at. Goes over the bytes once; what it allocates is a small multiple
/// of their number.
pub(super) fn document(bytes: &[u8]) -> Result<Document<'_>, InvalidRecord> {
    let mut reader = Reader { rest: bytes };
    let document = match reader.head() {
        Some(Head { major: MAP, argument, .. }) => reader.map(argument, MAX_DEPTH),
        Some(_) | None => None,
    };
    document
        .filter(|_| reader.rest.is_empty())
        .ok_or_else(|| InvalidRecord::new("the signed data are no map of DAG-CBOR"))
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// The head of an item.
struct Head {
    major: u8,
    /// The low bits of the first byte: the argument, or how long it is.
    info: u8,
    argument: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn head(&mut self) -> Option<Head> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        let (major, info) = (first >> 5, first & 0x1f);
        let (len, least) = match info {
            0..24 => return Some(Head { major, info, argument: info.into() }),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            // An indefinite length, or nothing that exists.
            _ => return None,
        };
        let argument = self.take(len)?.iter().fold(0, |argument, byte| argument << 8 | u64::from(*byte));
        let is_float = major > TAG;
        (is_float || argument >= least).then_some(Head { major, info, argument })
    }

    /// Reads the entries of a map, whose values may be nested `depth` deep.
    fn map(&mut self, entries: u64, depth: usize) -> Option<Document<'a>> {
        let mut map = BTreeMap::new();
        // However many are announced: each takes at least two bytes.
        for _ in 0..entries {
            let Head { major: TEXT, argument, .. } = self.head()? else { return None };
            let key = self.take(argument)?;
            let value = self.value(depth)?;
            if map.insert(key, value).is_some() {
                return None;
            }
        }
        Some(map)
    }

    fn value(&mut self, depth: usize) -> Option<CborValue<'a>> {
        let Head { major, info, argument } = self.head()?;
        match major {
            UNSIGNED => Some(i64::try_from(argument).map_or(CborValue::Other, CborValue::Integer)),
            NEGATIVE => Some(CborValue::Integer(-1 - i64::try_from(argument).ok()?)),
            BYTES => self.take(argument).map(CborValue::Bytes),
            TEXT => self.take(argument).map(|_| CborValue::Other),
            LIST => {
                let depth = depth.checked_sub(1)?;
                for _ in 0..argument {
                    self.value(depth)?;
                }
                Some(CborValue::Other)
            }
            MAP => self.map(argument, depth.checked_sub(1)?).map(|_| CborValue::Other),
            TAG => self.link(argument),
            _ => is_simple(info, argument).then_some(CborValue::Other),
        }
    }

    /// A CID, which is not looked into, behind a zero.
    fn link(&mut self, tag: u64) -> Option<CborValue<'a>> {
        let Head { major: BYTES, argument, .. } = self.head()? else { return None };
        (tag == LINK && *self.take(argument)?.first()? == 0).then_some(CborValue::Other)
    }
}

/// Whether it is a boolean, null (or undefined, which go reads as null), or a finite float.
fn is_simple(info: u8, bits: u64) -> bool {
    let exponent = match info {
        20..=23 => return true,
        25 => 0x7c00,
        26 => 0x7f80_0000,
        27 => 0x7ff0 << 48,
        _ => return false,
    };
    bits & exponent != exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the key `k` in a map of one entry.
    fn value(bytes: &[u8]) -> Option<CborValue<'static>> {
        let bytes = [&[0xa1, 0x61, b'k'][..], bytes].concat().leak();
        document(bytes).ok().map(|document| document[&b"k"[..]])
    }

    #[test]
    fn integers_have_63_bits_and_a_sign() {
        for (bytes, expected) in [
            (&[0x00][..], Some(CborValue::Integer(0))),
            (&[0x17], Some(CborValue::Integer(23))),
            (&[0x18, 24], Some(CborValue::Integer(24))),
            (&[0x19, 1, 0], Some(CborValue::Integer(256))),
            (&[0x1a, 0, 1, 0, 0], Some(CborValue::Integer(1 << 16))),
            (&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], Some(CborValue::Integer(1 << 32))),
            (&[0x1b, 0x7f, 255, 255, 255, 255, 255, 255, 255], Some(CborValue::Integer(i64::MAX))),
            (&[0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(CborValue::Other)),
            (&[0x20], Some(CborValue::Integer(-1))),
            (&[0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255], Some(CborValue::Integer(i64::MIN))),
            (&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0x18, 23], None),
            (&[0x19, 0, 255], None),
            (&[0x1a, 0, 0, 255, 255], None),
            (&[0x1b, 0, 0, 0, 0, 255, 255, 255, 255], None),
            (&[0x38, 23], None),
            (&[0x1c], None),
            (&[0x1f], None),
        ] {
            assert_eq!(value(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn other_values_are_stepped_over() {
        for (bytes, expected) in [
            (&[0x42, 1, 2][..], Some(CborValue::Bytes(&[1, 2]))),
            (&[0x40], Some(CborValue::Bytes(&[]))),
            (&[0x62, 0xff, 0xff], Some(CborValue::Other)),
            (&[0x80], Some(CborValue::Other)),
            (&[0x82, 1, 0x81, 2], Some(CborValue::Other)),
            (&[0xa1, 0x60, 0xa0], Some(CborValue::Other)),
            (&[0xd8, 42, 0x42, 0, 1], Some(CborValue::Other)),
            (&[0xf4], Some(CborValue::Other)),
            (&[0xf7], Some(CborValue::Other)),
            (&[0xf9, 0x3c, 0], Some(CborValue::Other)),
            (&[0xfb, 0, 0, 0, 0, 0, 0, 0, 0], Some(CborValue::Other)),
            (&[0xf9, 0x7e, 0], None),                      // NaN
            (&[0xfa, 0xff, 0x80, 0, 0], None),             // -Infinity
            (&[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], None), // Infinity
            (&[0xf8, 32], None),                           // a simple value
            (&[0xe0], None),                               // the same
            (&[0xff], None),                               // the end of nothing
            (&[0x5f, 0x41, 1, 0xff], None),                // indefinite lengths
            (&[0x9f, 0xff], None),
            (&[0xbf, 0xff], None),
            (&[0xd8, 43, 0x42, 0, 1], None),   // another tag
            (&[0xd8, 42, 0x42, 1, 1], None),   // a link without its zero
            (&[0xd8, 42, 0x40], None),         // an empty one
            (&[0xd8, 42, 0x01], None),         // one of no bytes
            (&[0xa1, 0x01, 0x01], None),       // a key that is a number
            (&[0xa2, 0x60, 1, 0x60, 2], None), // a key that stands twice
            (&[0x82, 1], None),                // too short
            (&[0x42, 1], None),
            (&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255, 0], None),
            (&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255, 0], None),
            (&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255, 0x60, 0], None),
            (&[], None),
            (&[0x00, 0x00], None), // something behind it
        ] {
            assert_eq!(value(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_document_is_a_map() {
        assert_eq!(document(&[0xa0]).unwrap().len(), 0);
        let unordered = [0xa2, 0x62, b'b', b'b', 1, 0x61, b'a', 2];
        assert_eq!(document(&unordered).unwrap()[&b"a"[..]], CborValue::Integer(2));
        let twice = [0xa2, 0x61, b'a', 1, 0x61, b'a', 1];
        for bytes in
            [&[][..], &[0x80], &[0xf6], &[0xa0, 0x00], &[0xd8, 42, 0xa0], &[0xb8, 0], &[0xbf, 0xff], &twice]
        {
            assert!(document(bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        for (open, last) in [(&[0x81][..], 0x80), (&[0xa1, 0x60], 0xa0)] {
            let nested = |depth: usize| [&open.repeat(depth - 1)[..], &[last]].concat();
            assert_eq!(value(&nested(MAX_DEPTH)), Some(CborValue::Other));
            assert_eq!(value(&nested(MAX_DEPTH + 1)), None);
            assert_eq!(value(&nested(10_000)), None);
        }
    }
}
