//! Links that take time: a stream whose bytes arrive later than they were sent.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

/// How many bytes are read at once.
const CHUNK: usize = 16 * 1024;

/// How long bytes are under way, one way: the same for all links, and changed while they are used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delay(Arc<AtomicU64>);

impl Delay {
    pub(crate) fn set(&self, one_way: Duration) {
        self.0.store(u64::try_from(one_way.as_micros()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// A stream over a link that takes time. As much is under way as is sent.
pub(crate) struct Slow<S> {
    stream: S,
    delay: Delay,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    /// How much of the first of these was read.
    read: usize,
    is_at_end: bool,
    arrives: Pin<Box<Sleep>>,
}

impl<S> Slow<S> {
    pub(crate) fn new(stream: S, delay: Delay) -> Self {
        let arrives = Box::pin(sleep_until(Instant::now()));
        Self { stream, delay, under_way: VecDeque::new(), read: 0, is_at_end: false, arrives }
    }
}

impl<S: AsyncRead + Unpin> Slow<S> {
    /// Takes whatever has been sent.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_at_end {
            let mut chunk = vec![0; CHUNK];
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
            chunk.truncate(read);
            self.is_at_end = read == 0;
            self.under_way.push_back((Instant::now() + self.delay.get(), chunk));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Slow<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_sent(cx) {
            return Poll::Ready(Err(error));
        }
        let this = &mut *self;
        let Some((at, chunk)) = this.under_way.front() else { return Poll::Pending };
        if *at > Instant::now() {
            this.arrives.as_mut().reset(*at);
            ready!(this.arrives.as_mut().poll(cx));
        }
        let left = &chunk[this.read..];
        let count = left.len().min(buf.len());
        buf[..count].copy_from_slice(&left[..count]);
        this.read += count;
        // The end is found there again.
        if this.read == chunk.len() && count > 0 {
            this.under_way.pop_front();
            this.read = 0;
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slow<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
