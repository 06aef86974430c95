//! A reader of protobuf's wire format: foreign bytes to fields that lie within them.
//!
//! Knows no message. Follows the rules of `wire`, which has a reader of its own: validators stand below it.

use super::InvalidRecord;

/// The content of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number; no field that a validator knows is one.
    Fixed,
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Result<u64, InvalidRecord> {
        match self {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed => Err(InvalidRecord::new("a protobuf field should be a number")),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], InvalidRecord> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Fixed => Err(InvalidRecord::new("a protobuf field should be of bytes")),
        }
    }
}

/// Iterates over the fields of a message; ends after the first error. Allocates nothing but the error.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self, longest: usize) -> Option<u64> {
        let mut value = 0u64;
        for index in 0..longest {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte of a 64-bit number has room for one bit.
            if index == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A tag or a length: five bytes and 32 bits at most.
    fn short(&mut self) -> Option<u32> {
        u32::try_from(self.varint(5)?).ok()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let tag = self.short()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint(10)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.short()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups, and what does not exist.
            _ => return None,
        };
        let number = tag >> 3;
        (number > 0).then_some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), InvalidRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or_else(|| InvalidRecord::new("malformed protobuf")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
        Fields::new(bytes).collect::<Result<_, _>>().ok()
    }

    #[test]
    fn every_wire_type_but_groups_is_read() {
        let message = [0x08, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4];
        let expected =
            vec![(1, Value::Number(300)), (2, Value::Bytes(b"hi")), (3, Value::Fixed), (4, Value::Fixed)];
        assert_eq!(fields(&message), Some(expected));
        assert_eq!(fields(&[]), Some(vec![]));
        for wire_type in [3, 4, 6, 7] {
            assert_eq!(fields(&[0x08 | wire_type, 0]), None);
        }
        assert_eq!(fields(&[0x00, 0]), None, "field 0");
    }

    #[test]
    fn tags_numbers_and_lengths_have_an_end() {
        let number = |last| [&[0x08][..], &[0xff; 9], &[last]].concat();
        assert_eq!(fields(&number(0x01)), Some(vec![(1, Value::Number(u64::MAX))]));
        for bytes in [
            &number(0x02)[..],
            &[0x08],
            &[0x08, 0x80],
            &[0x12],
            &[0x12, 1],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x1f, 0],
            &[0x8a, 0x80, 0x80, 0x80, 0x10, 0],
            &[0x88, 0x80, 0x80, 0x80, 0x80, 0x00, 4],
            &[0x19, 1, 2, 3, 4, 5, 6, 7],
            &[0x25, 1, 2, 3],
        ] {
            assert_eq!(fields(bytes), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut fields = Fields::new(&[0x00, 0, 0x08, 1]);
        assert!(fields.next().unwrap().is_err());
        assert_eq!(fields.next(), None);
    }
}
