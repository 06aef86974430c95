//! Protobuf's wire format: foreign bytes to fields that lie within them.
//!
//! Knows no message. The one reader of the crate: `wire` checks messages with it, `validate` records that are protobuf.

/// The content of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number, which no known field is.
    Fixed,
}

impl<'a> Value<'a> {
    /// Returns the number that the field `field` holds.
    ///
    /// # Errors
    /// [`Malformed::FieldType`] if it holds something else; the message is refused.
    pub(crate) fn number(self, field: u32) -> Result<u64, Malformed> {
        match self {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed => Err(Malformed::FieldType(field)),
        }
    }

    /// Returns the bytes that the field `field` holds.
    ///
    /// # Errors
    /// [`Malformed::FieldType`] if it holds something else; the message is refused.
    pub(crate) fn bytes(self, field: u32) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Fixed => Err(Malformed::FieldType(field)),
        }
    }
}

/// The reason why bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// A varint is longer than its field allows, or runs past the end.
    #[error("a varint is too long or cut off")]
    Varint,
    /// A field number is zero.
    #[error("a field has the number zero")]
    FieldNumber,
    /// A field runs past the end of what contains it.
    #[error("a field is longer than what contains it")]
    Length,
    /// A group, or a wire type that does not exist.
    #[error("wire type {0} is not supported")]
    WireType(u8),
    /// A known field has another wire type than its own.
    #[error("field {0} has the wrong wire type")]
    FieldType(u32),
}

/// An iterator over the fields of a message, which ends after the first error. Allocates nothing.
///
/// # Bounds
/// One pass over the bytes. Tags and lengths have at most five bytes and 32 bits, numbers ten bytes and 64 bits.
///
/// # Spec
/// Protocol Buffers, "Encoding". Differs: groups, which are deprecated, are refused, and so are tags and lengths of more
/// than 32 bits, which other readers cut.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self, longest: usize) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().take(longest).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte of a 64-bit number has room for one bit.
            if index == 9 && bits > 1 {
                return Err(Malformed::Varint);
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }

    /// A tag or a length: five bytes and 32 bits at most.
    fn short(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint(5)?).map_err(|_| Malformed::Varint)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = self.short()?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed::FieldNumber);
        }
        let value = match tag & 7 {
            0 => Value::Number(self.varint(10)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.short()?).map_err(|_| Malformed::Length)?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            #[expect(clippy::cast_possible_truncation, reason = "three bits")]
            other => return Err(Malformed::WireType(other as u8)),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        Fields::new(bytes).collect()
    }

    #[test]
    fn every_wire_type_but_groups_is_read() {
        let message = [0x08, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4];
        let expected =
            vec![(1, Value::Number(300)), (2, Value::Bytes(b"hi")), (3, Value::Fixed), (4, Value::Fixed)];
        assert_eq!(fields(&message), Ok(expected));
        assert_eq!(fields(&[]), Ok(vec![]));
        for wire_type in [3, 4, 6, 7] {
            assert_eq!(fields(&[0x08 | wire_type, 0]), Err(Malformed::WireType(wire_type)));
        }
        assert_eq!(fields(&[0x00, 0]), Err(Malformed::FieldNumber));
    }

    #[test]
    fn tags_numbers_and_lengths_have_an_end() {
        let number = |last| [&[0x08][..], &[0xff; 9], &[last]].concat();
        assert_eq!(fields(&number(0x01)), Ok(vec![(1, Value::Number(u64::MAX))]));
        for bytes in [
            &number(0x02)[..],
            &[0x08],
            &[0x08, 0x80],
            &[0x12],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x1f, 0],
            &[0x8a, 0x80, 0x80, 0x80, 0x10, 0],
            &[0x88, 0x80, 0x80, 0x80, 0x80, 0x00, 4],
        ] {
            assert_eq!(fields(bytes), Err(Malformed::Varint), "{bytes:02x?}");
        }
        for bytes in [
            &[0x12, 1][..],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            &[0x19, 1, 2, 3, 4, 5, 6, 7],
            &[0x25, 1, 2, 3],
        ] {
            assert_eq!(fields(bytes), Err(Malformed::Length), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_field_of_another_wire_type_is_refused_by_its_number() {
        assert_eq!(Value::Number(7).number(3), Ok(7));
        assert_eq!(Value::Bytes(b"b").bytes(3), Ok(&b"b"[..]));
        for value in [Value::Bytes(b"b"), Value::Fixed] {
            assert_eq!(value.number(3), Err(Malformed::FieldType(3)));
        }
        for value in [Value::Number(7), Value::Fixed] {
            assert_eq!(value.bytes(3), Err(Malformed::FieldType(3)));
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut fields = Fields::new(&[0x00, 0, 0x08, 1]);
        assert!(fields.next().unwrap().is_err());
        assert_eq!(fields.next(), None);
    }
}
