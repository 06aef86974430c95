//! A stream on which the peer asks.
//!
//! Answers go out in the order of the requests, however the node decides on them. The peer may half-close right after
//! a request (`libp2p-kad` does) or keep the stream for more (go, js and py do).

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::{AsyncRead, AsyncWrite};

use crate::dht::InboundId;
use crate::message::{Request, Response};
use crate::net::budget::ReadBudget;
use crate::net::exchange::Exchange;
use crate::net::limits::{ConnectionLimits, WRITE_BATCH};
use crate::net::messages::SEQUENCE_BITS;
use crate::time::{Instant, after, earliest};
use crate::wire::{SEND_LIMIT, ServerCodec, encode_response};

/// How many requests of one stream are being answered at once; while there are so many, no more are read.
/// Chosen, not measured: what this node itself has in flight on one.
const MAX_ANSWERING: usize = 8;

/// Of so many announcements of a stream it is known that they came on it, should the node have something to say of one. Chosen, not
/// measured: it says so at once, and what it cannot say costs nobody anything.
const MAX_ANNOUNCED: usize = 16;

/// How much longer than peers alone an answer with a record is taken to be.
///
/// Source: the longest value that stores take by default.
const MAX_VALUE: usize = 64 * 1024;

/// The place of one request in the order of the answers.
#[derive(Debug)]
struct AnswerSlot {
    id: InboundId,
    state: AnswerState,
}

#[derive(Debug)]
enum AnswerState {
    /// The node has it, since then; the answer will not be longer than `reserved`.
    Open {
        asked: Instant,
        reserved: usize,
    },
    /// The frame of the answer.
    Answered(BytesMut),
    Refused,
}

/// One inbound stream.
///
/// # What it decides
/// When the peer is read from: not while answers wait that it does not read, nor while eight of its requests are being
/// answered. An announcement is not answered, and holds nothing up; what the node has to say of it all the same has its place
/// behind what came before it. A peer that has closed its side behind an announcement is told nothing of it.
///
/// # What time does
/// A stream on which nothing goes on ends when it was not used for the idle limit. A message that arrives, a request in
/// the node's hands and what is being written have the stream's timeout each.
///
/// # Bounds
/// Eight requests being answered, and sixteen announcements of which something is said; of what is encoded, one answer more than [`WRITE_BATCH`] at once is in the buffer of the stream.
/// [`held`](Self::held) says how much that is.
#[derive(Debug)]
pub(super) struct Inbound<T> {
    exchange: Exchange<T, ServerCodec>,
    slots: VecDeque<AnswerSlot>,
    /// The latest announcements.
    announced: VecDeque<InboundId>,
    /// Whether the peer will send nothing more.
    half_closed: bool,
    /// When the stream was used last.
    since: Instant,
    /// Whether it has ended otherwise than in order.
    is_reset: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Inbound<T> {
    pub(super) fn new(stream: T, max_frame: usize, now: Instant) -> Self {
        let exchange = Exchange::new(stream, ServerCodec::new(max_frame));
        Self {
            exchange,
            slots: VecDeque::new(),
            announced: VecDeque::new(),
            half_closed: false,
            since: now,
            is_reset: false,
        }
    }

    /// Returns whether nothing is going on: no request is being answered, read or written.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.exchange.is_quiet()
    }

    /// Returns whether it has ended otherwise than in order.
    pub(super) const fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub(super) fn is_answering(&self) -> bool {
        !self.slots.is_empty() || self.exchange.is_writing()
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// Returns how many bytes wait to be written, those included that are to come.
    pub(super) fn held(&self) -> usize {
        let held = |slot: &AnswerSlot| match &slot.state {
            AnswerState::Open { reserved, .. } => *reserved,
            AnswerState::Answered(frame) => frame.len(),
            AnswerState::Refused => 0,
        };
        self.exchange.unwritten() + self.slots.iter().map(held).sum::<usize>()
    }

    /// Returns how many bytes an incomplete message has reserved.
    pub(super) const fn reserved(&self) -> usize {
        self.exchange.reserved()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn unread(&self) -> usize {
        self.exchange.unread()
    }

    /// Returns when the stream is to end unless something happens on it.
    pub(super) fn deadline(&self, limits: &ConnectionLimits) -> Option<Instant> {
        if self.is_idle() {
            return Some(after(self.since, limits.inbound_idle));
        }
        let answer = match self.slots.front().map(|slot| &slot.state) {
            Some(AnswerState::Open { asked, .. }) => Some(after(*asked, limits.stream_timeout)),
            Some(AnswerState::Answered(_) | AnswerState::Refused) | None => None,
        };
        earliest(answer, self.exchange.deadline(limits.stream_timeout))
    }

    /// A request has been read; its answer will be given under `id`.
    pub(super) fn begin(&mut self, id: InboundId, request: &Request, now: Instant) {
        if request.is_answered() {
            let state = AnswerState::Open { asked: now, reserved: longest_answer(request) };
            self.slots.push_back(AnswerSlot { id, state });
            return;
        }
        if self.announced.len() == MAX_ANNOUNCED {
            self.announced.pop_front();
        }
        self.announced.push_back(id);
    }

    /// Returns whether it waits for the answer to a request.
    pub(super) fn answers(&self, id: InboundId) -> bool {
        self.slots.iter().any(|slot| slot.id == id)
    }

    /// Returns whether an announcement came on it of which nothing was said yet.
    pub(super) fn announced(&self, id: InboundId) -> bool {
        self.announced.contains(&id)
    }

    fn decide(&mut self, id: InboundId, decided: AnswerState) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            slot.state = decided;
            return;
        }
        // An announcement has no place yet: behind what came before it.
        self.announced.retain(|announced| *announced != id);
        let at = self.slots.iter().position(|slot| is_before(id, slot.id)).unwrap_or(self.slots.len());
        self.slots.insert(at, AnswerSlot { id, state: decided });
    }

    /// Answers a request.
    pub(super) fn respond(&mut self, id: InboundId, response: &Response) {
        let mut frame = BytesMut::new();
        encode_response(response, &mut frame);
        self.decide(id, AnswerState::Answered(frame));
    }

    /// Refuses a request: behind the answers before it, the stream ends.
    pub(super) fn refuse(&mut self, id: InboundId) {
        self.decide(id, AnswerState::Refused);
    }

    /// Puts the next answers into the buffer, if it is empty.
    fn write_answers(&mut self, now: Instant) {
        if self.exchange.is_writing() {
            return;
        }
        while self.exchange.unwritten() < WRITE_BATCH
            && let Some(slot) = self.slots.pop_front()
        {
            match slot.state {
                AnswerState::Open { .. } => {
                    self.slots.push_front(slot);
                    return;
                }
                AnswerState::Answered(frame) => self.exchange.send_frame(frame, now),
                // What was asked before has been answered; what was asked after is lost with the stream.
                AnswerState::Refused => {
                    self.half_closed = true;
                    self.slots.clear();
                }
            }
        }
    }

    /// Returns a request that was read; ready without one when the stream has ended. It is read only if it `may_read`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        may_read: bool,
        budget: &mut ReadBudget,
    ) -> Poll<Option<Request>> {
        loop {
            self.write_answers(now);
            let was_writing = self.exchange.is_writing();
            if self.half_closed && self.slots.is_empty() {
                return self.exchange.poll_close(cx, now, budget).map(|_| None);
            }
            match self.exchange.poll_flush(cx, budget) {
                Poll::Ready(Ok(())) if was_writing => {
                    self.since = now;
                    continue;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.is_reset = true;
                    return Poll::Ready(None);
                }
                // The peer does not read: it is not read from either.
                Poll::Pending => {
                    self.exchange.pause(now);
                    return Poll::Pending;
                }
            }
            if self.half_closed || !may_read || self.slots.len() >= MAX_ANSWERING {
                self.exchange.pause(now);
                return Poll::Pending;
            }
            match self.exchange.poll_read(cx, now, budget) {
                Poll::Ready(Ok(Some(request))) => {
                    self.since = now;
                    return Poll::Ready(Some(request));
                }
                Poll::Ready(Ok(None)) => self.half_closed = true,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "inbound stream ends");
                    self.is_reset = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Returns whether a request of a connection came before another; numbers begin anew when they are used up.
const fn is_before(id: InboundId, other: InboundId) -> bool {
    let ahead = other.0.wrapping_sub(id.0) & ((1 << SEQUENCE_BITS) - 1);
    ahead != 0 && ahead < 1 << (SEQUENCE_BITS - 1)
}

/// Returns how long the answer to a request may be.
fn longest_answer(request: &Request) -> usize {
    match request {
        Request::Ping => 16,
        // It reserves nothing, for it has none as a rule.
        Request::AddProvider { .. } => 0,
        Request::FindNode { .. } => SEND_LIMIT,
        Request::GetProviders { key } => SEND_LIMIT + key.as_ref().len(),
        Request::GetValue { .. } => SEND_LIMIT + MAX_VALUE,
        // The record comes back, and its key twice.
        Request::PutValue { record } => 64 + 2 * record.key.as_ref().len() + record.value.len(),
    }
}
