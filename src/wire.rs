//! The wire: bytes of a stream to messages and back. Every check of the bytes of messages is here.
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

mod cache;
mod check;
mod codec;
mod convert;
mod error;
#[expect(unreachable_pub, elided_lifetimes_in_paths, reason = "generated from proto/dht.proto")]
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
#[allow(dead_code, reason = "used whole by tests, in part by `convert`")]
mod generated {
    pub(super) mod dht;
}

pub(crate) use cache::PeerCache;
pub use codec::{ClientCodec, ServerCodec};
pub(crate) use codec::{Codec, frame_len};
pub use convert::{MAX_PEERS, SEND_LIMIT, decode_request, decode_response, encode_request, encode_response};
pub use error::DecodeError;
