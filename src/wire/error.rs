//! What is wrong with bytes that are not a message.

use crate::protobuf::Malformed;

/// The reason why bytes are not a message. The stream that they came on cannot be read any further, and ends: a
/// [`Behaviour`](crate::Behaviour) sees to that itself, and a program that reads messages without one does so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame is longer than the configured limit: raise that with
    /// [`with_max_message_size`](crate::Config::with_max_message_size) if the peer is to be understood.
    #[error("a frame of {len} bytes; at most {limit} are read")]
    FrameTooLong {
        /// What the frame announced.
        len: u64,
        /// What is configured.
        limit: usize,
    },
    /// The length in front of the frame is not an unsigned varint in its shortest form. The peer is broken, or speaks
    /// another protocol: ask another.
    #[error("the length of a frame is not an unsigned varint")]
    FrameLength,
    /// The stream ended within a frame: the peer, or the connection, is gone. Try again on another stream.
    #[error("the stream ended within a frame")]
    Truncated,
    /// A varint is longer than its field allows, or runs past the end. The peer is broken: ask another.
    #[error("a varint is too long or cut off")]
    Varint,
    /// A field number is zero. The peer is broken: ask another.
    #[error("a field has the number zero")]
    FieldNumber,
    /// A field runs past the end of what contains it. The peer is broken, or the bytes are not those of a whole frame: give
    /// all of them, or ask another.
    #[error("a field is longer than what contains it")]
    Length,
    /// A group, or a wire type that does not exist. The peer is broken: ask another.
    #[error("wire type {0} is not supported")]
    WireType(u8),
    /// A known field has another wire type than its own. The peer is broken: ask another.
    #[error("field {0} has the wrong wire type")]
    FieldType(u32),
    /// The message is empty, which no message of the protocol is. The peer is broken: ask another.
    #[error("the message is empty")]
    Empty,
    /// The type of the message is none of the six. The peer speaks a newer protocol, or has answered what needs no answer:
    /// ask another.
    #[error("message type {0} is unknown")]
    UnknownType(u64),
    /// A field that this type of message needs is missing or empty. The peer is broken: ask another.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// The key of the message is not the key of its record. The peer is broken, or lies: ask another.
    #[error("the record belongs to another key than the message")]
    KeyMismatch,
    /// The stream failed: try again on another, or ask another peer.
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
