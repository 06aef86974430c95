//! Frames: a length as an unsigned varint, then one message.
//!
//! Knows buffers; does not know streams. One codec for each side of a stream.

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

/// One side of a stream: what it writes, and what it reads.
pub(crate) trait Codec {
    type Sent;
    type Received;

    /// Puts the frame of a message behind what is in a buffer.
    fn encode(&self, message: &Self::Sent, buffer: &mut BytesMut);

    /// Takes the message at the front of a buffer; `None` until all of it has arrived.
    fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Self::Received>, DecodeError>;
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

    /// Puts the frame of a request behind what is in a buffer.
    pub fn encode(&self, request: &Request, buffer: &mut BytesMut) {
        convert::encode_request(request, buffer);
    }

    /// Takes the answer at the front of a buffer; `None` until all of it has arrived.
    ///
    /// # Errors
    /// What keeps the bytes from being an answer. Those of its frame are taken, so that the next one can be read, unless the
    /// length is wrong itself: then the stream is to be closed.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Response>, DecodeError> {
        frame(buffer, self.max_frame, |body| convert::response(body, self.cache.as_ref()))
    }
}

impl ServerCodec {
    /// Makes a codec that reads frames of at most `max_frame` bytes, their length not counted.
    pub const fn new(max_frame: usize) -> Self {
        Self { max_frame }
    }

    /// Puts the frame of an answer behind what is in a buffer.
    pub fn encode(&self, response: &Response, buffer: &mut BytesMut) {
        convert::encode_response(response, buffer);
    }

    /// Takes the request at the front of a buffer; `None` until all of it has arrived.
    ///
    /// # Errors
    /// As those of [`ClientCodec::decode`].
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Request>, DecodeError> {
        frame(buffer, self.max_frame, convert::decode_request)
    }
}

impl Codec for ClientCodec {
    type Sent = Request;
    type Received = Response;

    fn encode(&self, message: &Request, buffer: &mut BytesMut) {
        self.encode(message, buffer);
    }

    fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Response>, DecodeError> {
        self.decode(buffer)
    }
}

impl Codec for ServerCodec {
    type Sent = Response;
    type Received = Request;

    fn encode(&self, message: &Response, buffer: &mut BytesMut) {
        self.encode(message, buffer);
    }

    fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Request>, DecodeError> {
        self.decode(buffer)
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
        let codec = ClientCodec::new(1024);
        codec.encode(&Request::Ping, &mut buffer);
        codec.encode(&Request::FindNode { key: b"key"[..].into() }, &mut buffer);
        buffer
    }

    #[test]
    fn frames_are_read_however_they_arrive() {
        let whole = pipelined();
        let codec = ServerCodec::new(1024);
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
