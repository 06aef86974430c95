//! Frames: a length as an unsigned varint, then one message.
//!
//! Knows buffers; does not know streams. One codec for each side of a stream.

use asynchronous_codec::{Decoder, Encoder};
use bytes::{Buf as _, BytesMut};

use super::cache::PeerCache;
use super::convert;
use super::error::DecodeError;
use crate::message::{Request, Response};

/// The codec of the side that asks: writes requests, reads answers.
#[derive(Clone, Debug)]
pub struct ClientCodec {
    max_frame: usize,
    cache: Option<PeerCache>,
}

/// The codec of the side that serves: reads requests, writes answers.
#[derive(Clone, Copy, Debug)]
pub struct ServerCodec {
    max_frame: usize,
}

impl ClientCodec {
    /// Makes a codec that reads frames of at most `max_frame` bytes, their length not counted.
    pub const fn new(max_frame: usize) -> Self {
        Self { max_frame, cache: None }
    }

    /// Lets it decode whom answers name only as far as others that share the cache have not.
    pub(crate) fn with_cache(self, cache: PeerCache) -> Self {
        Self { cache: Some(cache), ..self }
    }
}

impl ServerCodec {
    /// Makes a codec that reads frames of at most `max_frame` bytes, their length not counted.
    pub const fn new(max_frame: usize) -> Self {
        Self { max_frame }
    }
}

impl Encoder for ClientCodec {
    type Item<'a> = &'a Request;
    type Error = DecodeError;

    fn encode(&mut self, request: &Request, buffer: &mut BytesMut) -> Result<(), DecodeError> {
        convert::encode_request(request, buffer);
        Ok(())
    }
}

impl Decoder for ClientCodec {
    type Item = Response;
    type Error = DecodeError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Response>, DecodeError> {
        frame(buffer, self.max_frame, |body| convert::response(body, self.cache.as_ref()))
    }
}

impl Encoder for ServerCodec {
    type Item<'a> = &'a Response;
    type Error = DecodeError;

    fn encode(&mut self, response: &Response, buffer: &mut BytesMut) -> Result<(), DecodeError> {
        convert::encode_response(response, buffer);
        Ok(())
    }
}

impl Decoder for ServerCodec {
    type Item = Request;
    type Error = DecodeError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, DecodeError> {
        frame(buffer, self.max_frame, convert::decode_request)
    }
}

/// Takes one whole frame from the front of the buffer and decodes it; `None` until all of it has arrived.
///
/// The limit is checked as soon as the length has arrived, so that nothing is buffered for a frame that is too long.
fn frame<T>(
    buffer: &mut BytesMut,
    max_frame: usize,
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    let (len, prefix) = match unsigned_varint::decode::u64(buffer) {
        Ok((len, body)) => (len, buffer.len() - body.len()),
        Err(unsigned_varint::decode::Error::Insufficient) => return Ok(None),
        Err(_) => return Err(DecodeError::FrameLength),
    };
    let too_long = DecodeError::FrameTooLong { len, limit: max_frame };
    let len = usize::try_from(len).ok().filter(|len| *len <= max_frame).ok_or(too_long)?;
    let Some(body) = buffer.get(prefix..prefix + len) else {
        return Ok(None);
    };
    let message = decode(body);
    // What cannot be read is over, too: whoever wants to may go on behind it.
    buffer.advance(prefix + len);
    message.map(Some)
}

/// Returns how long the frame at the front of the buffer is, its length included; `None` until that has arrived.
pub(crate) fn frame_len(buffer: &[u8]) -> Option<usize> {
    let (len, body) = unsigned_varint::decode::usize(buffer).ok()?;
    Some(len.saturating_add(buffer.len() - body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipelined() -> BytesMut {
        let mut buffer = BytesMut::new();
        let mut codec = ClientCodec::new(1024);
        codec.encode(&Request::Ping, &mut buffer).unwrap();
        codec.encode(&Request::FindNode { key: b"key"[..].into() }, &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn frames_are_read_however_they_arrive() {
        let whole = pipelined();
        let mut codec = ServerCodec::new(1024);
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for byte in &whole {
            buffer.extend_from_slice(&[*byte]);
            while let Some(request) = codec.decode(&mut buffer).unwrap() {
                read.push(request);
            }
        }
        assert_eq!(read, [Request::Ping, Request::FindNode { key: b"key"[..].into() }]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_length_alone() {
        let mut buffer = BytesMut::from(&[0x81, 0x08][..]);
        let error = ServerCodec::new(1024).decode(&mut buffer).unwrap_err();
        assert!(matches!(error, DecodeError::FrameTooLong { len: 1025, limit: 1024 }), "{error}");
        let mut endless = BytesMut::from(&[0xff; 11][..]);
        assert!(matches!(ServerCodec::new(1024).decode(&mut endless), Err(DecodeError::FrameLength)));
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let mut buffer = BytesMut::from(&[0][..]);
        assert!(matches!(ServerCodec::new(1024).decode(&mut buffer), Err(DecodeError::Empty)));
    }
}
