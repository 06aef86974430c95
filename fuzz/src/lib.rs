//! What the fuzz targets do with bytes. `cargo test` replays the corpora through the same functions (tests/corpus.rs).

mod addrs;
#[cfg(feature = "ipns")]
mod cbor;
mod chat;
mod dht;
mod handler;
#[cfg(feature = "ipns")]
mod ipns;
mod slow;
mod store;
#[cfg(feature = "ipns")]
mod time;

pub use addrs::addrs;
#[cfg(feature = "ipns")]
pub use cbor::cbor;
pub use chat::chat;
pub use dht::dht;
pub use handler::handler;
#[cfg(feature = "ipns")]
pub use ipns::ipns;
pub use store::store;
#[cfg(feature = "ipns")]
pub use time::time;

use bytes::BytesMut;
use libp2p_kademlia::wire::{
    ClientCodec, DecodeError, ServerCodec, decode_request, decode_response, encode_request, encode_response,
};

/// Reads the bytes as a request and as an answer. What can be read can be written, and reads the same again.
pub fn decode(data: &[u8]) {
    if let Ok(request) = decode_request(data) {
        let mut frame = BytesMut::new();
        encode_request(&request, &mut frame);
        let again = ServerCodec::new(usize::MAX).decode(&mut frame).expect("what was written can be read");
        assert_same(again.as_ref(), &request, fits(data));
    }
    if let Ok(response) = decode_response(data) {
        let mut frame = BytesMut::new();
        encode_response(&response, &mut frame);
        let again = ClientCodec::new(usize::MAX).decode(&mut frame).expect("what was written can be read");
        assert_same(again.as_ref(), &response, fits(data));
    }
}

/// Whether peers need not be left out to stay below the size that everybody reads.
fn fits(data: &[u8]) -> bool {
    data.len() < 8 * 1024
}

fn assert_same<T: PartialEq + std::fmt::Debug>(again: Option<&T>, first: &T, whole: bool) {
    assert!(again.is_some());
    if whole {
        assert_eq!(again, Some(first));
    }
}

/// Feeds the bytes to both codecs in pieces, whose sizes the first bytes give.
pub fn framing(data: &[u8]) {
    let Some((sizes, stream)) = data.split_at_checked(4) else { return };
    let (server, client) = (ServerCodec::new(4096), ClientCodec::new(4096));
    pieces(|buffer| server.decode(buffer).map(|message| message.is_some()), sizes, stream);
    pieces(|buffer| client.decode(buffer).map(|message| message.is_some()), sizes, stream);
}

fn pieces(decode: impl Fn(&mut BytesMut) -> Result<bool, DecodeError>, sizes: &[u8], stream: &[u8]) {
    let (mut whole, mut buffer) = (BytesMut::from(stream), BytesMut::new());
    let (mut at_once, mut in_pieces) = (0, 0);
    let mut failed = false;
    while let Ok(true) = decode(&mut whole).inspect_err(|_| failed = true) {
        at_once += 1;
    }
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    let mut failed_in_pieces = false;
    while !rest.is_empty() && !failed_in_pieces {
        let size = usize::from(*sizes.next().unwrap_or(&1)) + 1;
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        buffer.extend_from_slice(piece);
        while let Ok(true) = decode(&mut buffer).inspect_err(|_| failed_in_pieces = true) {
            in_pieces += 1;
        }
    }
    assert_eq!((at_once, failed), (in_pieces, failed_in_pieces), "it matters how the bytes arrive");
}
