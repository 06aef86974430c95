//! One stream: messages in, messages out.
//!
//! Knows streams and the codec; knows neither requests in flight nor the peer at the other end.
//!
//! A stream that is idle holds no buffer to speak of. The `Framed` of the crate `asynchronous-codec` holds 16 KiB for each from the
//! start, which is 320 MB for the 20,000 connections of a large server.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use futures::{AsyncRead, AsyncWrite};

use super::budget::ReadBudget;
use crate::stats::gauge;
use crate::time::{Duration, Instant, after, earliest};
use crate::wire::{Codec, DecodeError, frame_len};

/// How many bytes are read at once. Chosen, not measured: a page.
const CHUNK: usize = 4096;

/// How often a stream is read or written in one call; then the task is woken, and others have their turn. Chosen, not
/// measured.
const TURNS: usize = 16;

/// A message up to this length reserves nothing of the connection: its first chunk may be all of it.
pub(super) const SMALL: usize = CHUNK;

/// A buffer that has grown beyond this is given back when it is empty. Chosen, not measured: two chunks.
const KEPT_BUFFER: usize = 8192;

thread_local! {
    /// Where what is read arrives: a page is cleared once for each thread, and not whenever one of many streams is looked at.
    static ARRIVED: RefCell<[u8; CHUNK]> = const { RefCell::new([0; CHUNK]) };
}

/// Reads once, adds what has come to a buffer, and returns how many bytes that was: none at the end of the stream.
fn poll_chunk<T: AsyncRead + Unpin>(
    stream: &mut T,
    cx: &mut Context<'_>,
    into: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut read = |chunk: &mut [u8]| {
        let len = ready!(Pin::new(&mut *stream).poll_read(cx, chunk))?;
        let bytes = chunk.get(..len).unwrap_or_default();
        into.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    };
    ARRIVED.with(|arrived| match arrived.try_borrow_mut() {
        Ok(mut chunk) => read(&mut *chunk),
        // The stream reads another one while it is read itself.
        Err(_) => read(&mut [0; CHUNK]),
    })
}

/// Messages over a stream of bytes.
///
/// # What time does
/// A message that arrives has its time from its first byte on, but for what passes while it is not read by our own choice
/// ([`pause`](Self::pause)). What is written has its time from when the first of it was put into the empty buffer until
/// all of it is flushed: little is put in at once. [`deadline`](Self::deadline) names both; when it has passed, the caller
/// ends the stream.
///
/// # Bounds
/// Reading: a message and [`CHUNK`]; one longer than [`SMALL`] only if the connection has [`ReadBudget`] for it. Writing: what is
/// put in. A call reads and writes [`TURNS`] times at most.
#[derive(Debug)]
pub(super) struct Exchange<T, C> {
    stream: T,
    codec: C,
    read: BytesMut,
    write: BytesMut,
    /// Whether anything was written since the last flush.
    unflushed: bool,
    /// When the message that is arriving began to.
    reading: Option<Instant>,
    /// Since when it is not read, by our own choice.
    paused: Option<Instant>,
    /// Since when something waits to be written, flushed or closed.
    writing: Option<Instant>,
    /// How many bytes the message that is arriving has reserved of the connection.
    reserved: usize,
}

impl<T, C> Exchange<T, C>
where
    T: AsyncRead + AsyncWrite + Unpin,
    C: Codec,
{
    pub(super) fn new(stream: T, codec: C) -> Self {
        Self {
            stream,
            codec,
            read: BytesMut::new(),
            write: BytesMut::new(),
            unflushed: false,
            reading: None,
            paused: None,
            writing: None,
            reserved: 0,
        }
    }

    /// Returns the next message, or `None` at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        budget: &mut ReadBudget,
    ) -> Poll<Result<Option<C::Received>, DecodeError>> {
        self.resume(now);
        for _ in 0..TURNS {
            if !self.read.is_empty()
                && let Some(message) = self.codec.decode(&mut self.read).transpose()
            {
                // One that cannot be read is over, too.
                budget.release(std::mem::take(&mut self.reserved));
                self.reading = (!self.read.is_empty()).then_some(now);
                give_back(&mut self.read);
                return Poll::Ready(message.map(Some));
            }
            if !self.has_room(budget) {
                self.pause(now);
                return Poll::Pending;
            }
            match ready!(poll_chunk(&mut self.stream, cx, &mut self.read))? {
                0 if self.read.is_empty() => return Poll::Ready(Ok(None)),
                0 => return Poll::Ready(Err(DecodeError::Truncated)),
                len => budget.received += gauge(len),
            }
            self.reading.get_or_insert(now);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Returns whether more of the message may be read that is arriving.
    fn has_room(&mut self, budget: &mut ReadBudget) -> bool {
        let wanted = frame_len(&self.read).filter(|len| self.reserved == 0 && *len > SMALL);
        if let Some(len) = wanted {
            if !budget.reserve(len) {
                return false;
            }
            self.reserved = len;
        }
        true
    }

    /// The stream is not read for now: the time of the message that is arriving stands still.
    pub(super) fn pause(&mut self, now: Instant) {
        if self.reading.is_some() {
            self.paused.get_or_insert(now);
        }
    }

    fn resume(&mut self, now: Instant) {
        if let (Some(at), Some(since)) = (self.paused.take(), &mut self.reading) {
            *since = after(*since, now.saturating_duration_since(at));
        }
    }

    /// Returns whether a message has begun to arrive and is not complete.
    pub(super) fn is_reading(&self) -> bool {
        !self.read.is_empty()
    }

    /// Returns whether something is still to be written, flushed or closed.
    pub(super) const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Returns whether nothing is going on.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_reading() && !self.is_writing()
    }

    /// Returns how many bytes wait to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.write.len()
    }

    /// Returns how many bytes the message that is arriving has reserved of the connection.
    pub(super) const fn reserved(&self) -> usize {
        self.reserved
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn unread(&self) -> usize {
        self.read.len()
    }

    /// Returns when the stream is to end unless what is arriving or being written is complete by then.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let reading = self.reading.filter(|_| self.paused.is_none());
        earliest(reading, self.writing).map(|since| after(since, timeout))
    }

    /// Puts a message into the buffer; it is written by [`poll_flush`](Self::poll_flush).
    pub(super) fn send(&mut self, message: &C::Sent, now: Instant) {
        self.codec.encode(message, &mut self.write);
        self.writing.get_or_insert(now);
    }

    /// The same with a message that is encoded already.
    pub(super) fn send_frame(&mut self, frame: BytesMut, now: Instant) {
        if self.write.is_empty() && self.write.capacity() < frame.len() {
            self.write = frame;
        } else {
            self.write.extend_from_slice(&frame);
        }
        self.writing.get_or_insert(now);
    }

    /// Writes what is in the buffer, and flushes.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        budget: &mut ReadBudget,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx, budget))?;
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>, budget: &mut ReadBudget) -> Poll<io::Result<()>> {
        let mut turns = 0;
        while !self.write.is_empty() {
            if turns == TURNS {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            turns += 1;
            let len = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.write))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            budget.sent += gauge(len);
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

    /// Writes what is in the buffer, then ends this side of the stream, for which there is as much time as for a message.
    pub(super) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        budget: &mut ReadBudget,
    ) -> Poll<io::Result<()>> {
        self.writing.get_or_insert(now);
        ready!(self.poll_write_out(cx, budget))?;
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
    use crate::time::start;
    use crate::wire::{ClientCodec, ServerCodec};
    use futures::executor::block_on;
    use futures::io::Cursor;
    use std::future::poll_fn;

    fn frames(requests: &[Request]) -> Vec<u8> {
        let mut buffer = BytesMut::new();
        requests.iter().for_each(|request| ClientCodec::new(0).encode(request, &mut buffer));
        buffer.to_vec()
    }

    fn server(bytes: Vec<u8>) -> Server {
        Exchange::new(Cursor::new(bytes), ServerCodec::new(1 << 20))
    }

    type Server = Exchange<Cursor<Vec<u8>>, ServerCodec>;

    fn read(exchange: &mut Server) -> Result<Option<Request>, DecodeError> {
        block_on(poll_fn(|cx| exchange.poll_read(cx, start(), &mut ReadBudget::new(0))))
    }

    #[test]
    fn pipelined_messages_are_read_until_the_end() {
        let requests = vec![Request::Ping; 1000];
        let mut exchange = server(frames(&requests));
        for _ in &requests {
            assert_eq!(read(&mut exchange).unwrap(), Some(Request::Ping));
        }
        assert_eq!(read(&mut exchange).unwrap(), None);
    }

    #[test]
    fn an_end_within_a_message_is_an_error() {
        let mut bytes = frames(&[Request::FindNode { key: b"key"[..].into() }]);
        bytes.pop();
        let mut exchange = server(bytes);
        let error = read(&mut exchange).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated), "{error}");
        assert!(exchange.is_reading());
    }

    #[test]
    fn a_large_message_leaves_no_large_buffer_behind() {
        let mut exchange = server(frames(&[Request::FindNode { key: vec![7; 100_000].into() }]));
        assert!(read(&mut exchange).unwrap().is_some());
        assert!(exchange.read.capacity() <= KEPT_BUFFER);
        exchange.send(&Response::Pong, start());
        assert!(exchange.is_writing());
        let mut budget = ReadBudget::new(0);
        block_on(poll_fn(|cx| exchange.poll_close(cx, start(), &mut budget))).unwrap();
        assert_eq!(budget.sent, 5, "what was written is counted");
        assert_eq!(exchange.unwritten(), 0);
        assert!(exchange.stream.into_inner().ends_with(&[4, 8, 5, 0x50, 1]));
    }
}
