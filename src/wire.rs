//! The wire: bytes of a stream to messages and back. Every check of foreign bytes is here.
//!
//! ```text
//! bytes --codec: one length-prefixed frame--> frame --check: one structural pass--> view
//!       --convert: ids, addresses, keys, required fields--> Request / Response
//! ```
//!
//! Knows the message types; knows nothing of streams, peers' states or the node. Beyond this module types are valid.
//!
//! # Spec
//! libp2p kad-dht, "RPC messages": protobuf messages, each behind its length as an unsigned varint. What differs:
//! - Unknown fields and addresses or ids that cannot be read are skipped; a message whose structure is broken, whose
//!   type is unknown or whose required fields are missing is an error, and ends the stream.
//! - An empty message is refused, although it would read as PUT_VALUE, whose number is 0.
//! - Peers and addresses beyond [`MAX_PEERS`] and [`MAX_ADDRESSES`](crate::addrs::MAX_ADDRESSES) are skipped.
//! - What is sent never exceeds [`SEND_LIMIT`] as far as peers and addresses can be left out.

mod check;
mod codec;
mod convert;
#[expect(unreachable_pub, elided_lifetimes_in_paths, reason = "generated from proto/dht.proto")]
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
#[allow(dead_code, reason = "used whole by tests, in part by `convert`")]
mod generated {
    pub(super) mod dht;
}

pub(crate) use codec::frame_len;
pub use codec::{ClientCodec, ServerCodec};
pub use convert::{decode_request, decode_response, encode_request, encode_response};

/// How many peers of one list of a message are read: 256. The rest is skipped.
pub const MAX_PEERS: usize = 256;

/// How many bytes a message may have so that every implementation can read it: 16 KiB, the limit of `libp2p-kad`.
///
/// Longer lists of peers are sent with fewer addresses, then with fewer peers.
pub const SEND_LIMIT: usize = 16 * 1024;

/// Why bytes are not a message.
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
