//! What is wrong with bytes that are not a message.

use crate::protobuf::Malformed;

/// The reason why bytes are not a message. The stream that they came on cannot be read any further, and ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame is longer than the configured limit.
    #[error("a frame of {len} bytes; at most {limit} are read")]
    FrameTooLong {
        /// What the frame announced.
        len: u64,
        /// What is configured.
        limit: usize,
    },
    /// The length in front of the frame is not an unsigned varint in its shortest form.
    #[error("the length of a frame is not an unsigned varint")]
    FrameLength,
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
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
    /// The message is empty.
    #[error("the message is empty")]
    Empty,
    /// The type of the message is none of the six.
    #[error("message type {0} is unknown")]
    UnknownType(u64),
    /// A field that this type of message needs is missing or empty.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// The key of the message is not the key of its record.
    #[error("the record belongs to another key than the message")]
    KeyMismatch,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Malformed> for DecodeError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Varint => Self::Varint,
            Malformed::FieldNumber => Self::FieldNumber,
            Malformed::Length => Self::Length,
            Malformed::WireType(wire_type) => Self::WireType(wire_type),
            Malformed::FieldType(field) => Self::FieldType(field),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_malformed_is_told_in_the_same_words() {
        for malformed in [
            Malformed::Varint,
            Malformed::FieldNumber,
            Malformed::Length,
            Malformed::WireType(3),
            Malformed::FieldType(7),
        ] {
            assert_eq!(DecodeError::from(malformed).to_string(), malformed.to_string());
        }
    }
}
