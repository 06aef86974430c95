//! One stream: messages in, messages out.
//!
//! Knows streams and the codec; knows neither requests in flight nor who is at the other end.
//!
//! A stream that is idle holds no buffer to speak of. `asynchronous-codec`'s `Framed` holds 16 KiB for each from the
//! start, which is 320 MB for the 20,000 connections of a large server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use asynchronous_codec::{Decoder, Encoder};
use bytes::{Buf as _, BytesMut};
use futures::{AsyncRead, AsyncWrite};

use crate::wire::DecodeError;

/// So much is read at once.
const CHUNK: usize = 4096;

/// A buffer that has grown beyond this is given back when it is empty.
const KEPT_BUFFER: usize = 8192;

/// Messages over a stream of bytes.
#[derive(Debug)]
pub(super) struct Exchange<T, C> {
    stream: T,
    codec: C,
    read: BytesMut,
    write: BytesMut,
    /// Whether anything was written since the last flush.
    unflushed: bool,
}

impl<T, C> Exchange<T, C>
where
    T: AsyncRead + AsyncWrite + Unpin,
    C: Decoder<Error = DecodeError>,
    C: for<'a> Encoder<Error = DecodeError>,
{
    pub(super) fn new(stream: T, codec: C) -> Self {
        Self { stream, codec, read: BytesMut::new(), write: BytesMut::new(), unflushed: false }
    }

    /// Returns the next message, or `None` at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<<C as Decoder>::Item>, DecodeError>> {
        loop {
            if !self.read.is_empty()
                && let Some(message) = self.codec.decode(&mut self.read)?
            {
                give_back(&mut self.read);
                return Poll::Ready(Ok(Some(message)));
            }
            let mut chunk = [0; CHUNK];
            let len = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
            match chunk.get(..len) {
                None | Some([]) if self.read.is_empty() => return Poll::Ready(Ok(None)),
                None | Some([]) => return Poll::Ready(Err(DecodeError::Truncated)),
                Some(bytes) => self.read.extend_from_slice(bytes),
            }
        }
    }

    /// Returns whether a message has begun to arrive and is not complete.
    pub(super) fn is_reading(&self) -> bool {
        !self.read.is_empty()
    }

    /// Returns whether something is still to be written or flushed.
    pub(super) fn is_writing(&self) -> bool {
        !self.write.is_empty() || self.unflushed
    }

    /// Puts a message into the buffer; it is written by [`poll_flush`](Self::poll_flush).
    pub(super) fn send(&mut self, message: <C as Encoder>::Item<'_>) -> Result<(), DecodeError> {
        self.codec.encode(message, &mut self.write)
    }

    /// Writes what is in the buffer, and flushes.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write.is_empty() {
            let len = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.write))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.write.advance(len);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
            give_back(&mut self.write);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is in the buffer, then ends this side of the stream.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Frees an empty buffer that has grown large; a small one serves again.
fn give_back(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEPT_BUFFER {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Request, Response};
    use crate::wire::{ClientCodec, ServerCodec};
    use futures::executor::block_on;
    use futures::io::Cursor;
    use std::future::poll_fn;

    fn frames(requests: &[Request]) -> Vec<u8> {
        let mut buffer = BytesMut::new();
        requests.iter().for_each(|request| ClientCodec::new(0).encode(request, &mut buffer).unwrap());
        buffer.to_vec()
    }

    fn server(bytes: Vec<u8>) -> Exchange<Cursor<Vec<u8>>, ServerCodec> {
        Exchange::new(Cursor::new(bytes), ServerCodec::new(1 << 20))
    }

    #[test]
    fn pipelined_messages_are_read_until_the_end() {
        let requests = vec![Request::Ping; 1000];
        let mut exchange = server(frames(&requests));
        for _ in &requests {
            assert_eq!(block_on(poll_fn(|cx| exchange.poll_read(cx))).unwrap(), Some(Request::Ping));
        }
        assert_eq!(block_on(poll_fn(|cx| exchange.poll_read(cx))).unwrap(), None);
    }

    #[test]
    fn an_end_within_a_message_is_an_error() {
        let mut bytes = frames(&[Request::FindNode { key: b"key"[..].into() }]);
        bytes.pop();
        let mut exchange = server(bytes);
        let error = block_on(poll_fn(|cx| exchange.poll_read(cx))).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated), "{error}");
        assert!(exchange.is_reading());
    }

    #[test]
    fn a_large_message_leaves_no_large_buffer_behind() {
        let mut exchange = server(frames(&[Request::FindNode { key: vec![7; 100_000].into() }]));
        assert!(block_on(poll_fn(|cx| exchange.poll_read(cx))).unwrap().is_some());
        assert!(exchange.read.capacity() <= KEPT_BUFFER);
        exchange.send(&Response::Pong).unwrap();
        assert!(exchange.is_writing());
        block_on(poll_fn(|cx| exchange.poll_close(cx))).unwrap();
        assert!(!exchange.is_writing());
        assert!(exchange.stream.into_inner().ends_with(&[4, 8, 5, 0x50, 1]));
    }
}
