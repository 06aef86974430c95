//! A stream on which the peer asks.
//!
//! Answers go out in the order of the requests, however the node decides on them. The peer may half-close right after
//! a request (`libp2p-kad` does) or keep the stream for more (go, js and py do).

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p_swarm::Stream;

use super::super::exchange::Exchange;
use super::Limits;
use crate::dht::InboundId;
use crate::message::{Request, Response};
use crate::time::{Instant, after};
use crate::wire::ServerCodec;

/// How many requests of one stream are being answered at once; while there are so many, no more are read.
const MAX_ANSWERING: usize = 8;

/// The place of one request in the order of the answers.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "at most eight of a stream; a box would cost every answer an allocation"
)]
enum Slot {
    Open(InboundId),
    Answered(Response),
    /// It is not answered.
    Accepted,
    Refused,
}

/// One inbound stream.
#[derive(Debug)]
pub(super) struct Inbound {
    exchange: Exchange<Stream, ServerCodec>,
    slots: VecDeque<Slot>,
    /// Whether the peer will send nothing more.
    half_closed: bool,
    /// When the stream was used last.
    since: Instant,
}

impl Inbound {
    pub(super) fn new(stream: Stream, max_frame: usize, now: Instant) -> Self {
        let exchange = Exchange::new(stream, ServerCodec::new(max_frame));
        Self { exchange, slots: VecDeque::new(), half_closed: false, since: now }
    }

    /// Returns whether nothing is going on: no request is being answered, read or written.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty() && !self.exchange.is_reading() && !self.exchange.is_writing()
    }

    pub(super) fn is_answering(&self) -> bool {
        !self.slots.is_empty() || self.exchange.is_writing()
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// Returns when the stream is to end unless something happens on it.
    pub(super) fn deadline(&self, limits: &Limits) -> Instant {
        let limit = if self.is_idle() { limits.inbound_idle } else { limits.stream_timeout };
        after(self.since, limit)
    }

    /// A request has been read; its answer will be given under `id`.
    pub(super) fn begin(&mut self, id: InboundId, now: Instant) {
        self.slots.push_back(Slot::Open(id));
        self.since = now;
    }

    pub(super) fn answers(&self, id: InboundId) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Open(open) if *open == id))
    }

    /// Answers a request, or refuses it with `None`.
    pub(super) fn respond(&mut self, id: InboundId, response: Option<Response>, now: Instant) {
        let slot = self.slots.iter_mut().find(|slot| matches!(slot, Slot::Open(open) if *open == id));
        if let Some(slot) = slot {
            *slot = response.map_or(Slot::Refused, Slot::Answered);
            self.since = now;
        }
    }

    /// A request that is not answered has been dealt with.
    pub(super) fn accept(&mut self, id: InboundId, now: Instant) {
        let slot = self.slots.iter_mut().find(|slot| matches!(slot, Slot::Open(open) if *open == id));
        if let Some(slot) = slot {
            *slot = Slot::Accepted;
            self.since = now;
        }
    }

    /// Returns a request that was read; ready without one when the stream has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        loop {
            while let Some(slot) = self.slots.pop_front() {
                match slot {
                    Slot::Open(_) => {
                        self.slots.push_front(slot);
                        break;
                    }
                    Slot::Answered(response) => {
                        if self.exchange.send(&response).is_err() {
                            return Poll::Ready(None);
                        }
                    }
                    Slot::Accepted => {}
                    // What was asked before has been answered; what was asked after is lost with the stream.
                    Slot::Refused => {
                        self.half_closed = true;
                        self.slots.clear();
                    }
                }
            }
            match self.exchange.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.half_closed && self.slots.is_empty() => {
                    return self.exchange.poll_close(cx).map(|_| None);
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                // The peer does not read: it is not read from either.
                Poll::Pending => return Poll::Pending,
            }
            if self.half_closed || self.slots.len() >= MAX_ANSWERING {
                return Poll::Pending;
            }
            match self.exchange.poll_read(cx) {
                Poll::Ready(Ok(Some(request))) => return Poll::Ready(Some(request)),
                Poll::Ready(Ok(None)) => self.half_closed = true,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "inbound stream ends");
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
