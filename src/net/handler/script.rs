//! A stream of bytes that does what a test or a fuzz target says.

use std::cell::RefCell;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use futures::{AsyncRead, AsyncWrite};

/// Both ends of the stream.
#[derive(Debug, Default)]
struct Ends {
    to_read: BytesMut,
    written: Vec<u8>,
    /// How many more bytes can be written.
    window: usize,
    has_ended: bool,
    is_reset: bool,
    is_closed: bool,
}

/// One end of a stream, and the hand that moves the other; clones are the same stream.
#[derive(Clone, Debug, Default)]
pub struct Script(Rc<RefCell<Ends>>);

impl Script {
    /// Makes a stream on which so many bytes can be written.
    pub fn with_window(window: usize) -> Self {
        let script = Self::default();
        script.open_window(window);
        script
    }

    /// Lets so many more bytes be written.
    pub fn open_window(&self, bytes: usize) {
        let mut state = self.0.borrow_mut();
        state.window = state.window.saturating_add(bytes);
    }

    /// Lets nothing more be written.
    pub fn shut_window(&self) {
        self.0.borrow_mut().window = 0;
    }

    /// Sends bytes.
    pub fn push(&self, bytes: &[u8]) {
        self.0.borrow_mut().to_read.extend_from_slice(bytes);
    }

    /// Ends the other side, behind what was sent.
    pub fn end(&self) {
        self.0.borrow_mut().has_ended = true;
    }

    /// Ends both sides at once.
    pub fn reset(&self) {
        self.0.borrow_mut().is_reset = true;
    }

    /// Returns what was written since it was last asked for.
    pub fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().written)
    }

    /// Returns how many bytes were sent and not read.
    pub fn unread(&self) -> usize {
        self.0.borrow().to_read.len()
    }

    /// Returns whether this side was closed in order.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().is_closed
    }

    /// Returns whether the other end was dropped.
    pub fn is_dropped(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl AsyncRead for Script {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize>> {
        let mut state = self.0.borrow_mut();
        if state.is_reset {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if state.to_read.is_empty() {
            return if state.has_ended { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        let len = into.len().min(state.to_read.len());
        if let Some(into) = into.get_mut(..len) {
            state.to_read.copy_to_slice(into);
        }
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let mut state = self.0.borrow_mut();
        if state.is_reset || state.is_closed {
            return Poll::Ready(Err(Error::from(ErrorKind::BrokenPipe)));
        }
        let len = bytes.len().min(state.window);
        if len == 0 {
            return Poll::Pending;
        }
        state.window -= len;
        state.written.extend_from_slice(bytes.get(..len).unwrap_or_default());
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        let is_reset = self.0.borrow().is_reset;
        Poll::Ready(if is_reset { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) })
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.0.borrow_mut();
        // Its last word needs a place, too.
        if state.window == 0 && !state.is_reset {
            return Poll::Pending;
        }
        state.is_closed = true;
        Poll::Ready(Ok(()))
    }
}
