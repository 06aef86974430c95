//! Frames over a stream: what the floor and the lean client have in common.
//!
//! Written once, before anything was measured against it, and not changed since.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{AsyncRead as _, AsyncWrite as _};
use libp2p::swarm::Stream;

/// The first buffer of a stream: some have one request, and end.
const FIRST: usize = 2 * 1024;
/// The buffers after it.
const CHUNK: usize = 16 * 1024;
/// With less room than this in the buffer the next one begins.
const LEAST_ROOM: usize = 512;

/// A stream, what has been read from it and is no whole frame yet, and what is still to be written to it.
pub(crate) struct Pipe {
    stream: Stream,
    /// What has been read, and room for more behind it. Frames are cut off its front, and nothing is copied.
    read: BytesMut,
    filled: usize,
    write: Vec<u8>,
    written: usize,
    is_unflushed: bool,
}

impl Pipe {
    pub(crate) fn new(stream: Stream) -> Self {
        let (read, write) = (BytesMut::new(), Vec::new());
        Self { stream, read, filled: 0, write, written: 0, is_unflushed: false }
    }

    /// Puts a whole frame behind what is to be written.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        self.write.extend_from_slice(frame);
    }

    /// Writes all that is to be written, as much as there is at once, and flushes.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.write.len() {
            let len = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.write[self.written..]))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += len;
            self.is_unflushed = true;
        }
        self.write.clear();
        self.written = 0;
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    /// Reads once, and returns how many bytes came: none at the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.len() - self.filled < LEAST_ROOM {
            let size = if self.read.is_empty() && self.filled == 0 { FIRST } else { CHUNK + self.filled };
            let mut next = BytesMut::zeroed(size);
            next[..self.filled].copy_from_slice(&self.read[..self.filled]);
            self.read = next;
        }
        let len = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut self.read[self.filled..]))?;
        self.filled += len;
        Poll::Ready(Ok(len))
    }

    /// Takes the body of the next frame that has arrived as a whole.
    pub(crate) fn next_frame(&mut self) -> Option<Bytes> {
        let (len, rest) = unsigned_varint::decode::usize(&self.read[..self.filled]).ok()?;
        if rest.len() < len {
            return None;
        }
        let prefix = self.filled - rest.len();
        self.filled -= prefix + len;
        self.read.advance(prefix);
        Some(self.read.split_to(len).freeze())
    }
}
