//! The streams on which this node asks.
//!
//! A stream is reused for many requests, several of them in flight; answers are matched by their order and checked.
//! A reused stream may have gone stale, and a peer may close after each answer: neither is a failure of the peer.

mod queue;

use std::collections::VecDeque;
use std::error::Error as _;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p_core::upgrade::NegotiationError;

use crate::dht::RequestId;
use crate::error::RequestError;
use crate::message::Response;
use crate::net::budget::ReadBudget;
use crate::net::exchange::Exchange;
use crate::net::limits::{ConnectionLimits, WRITE_BATCH};
use crate::net::messages::{FromHandler, OutboundRequest};
use crate::stats::Transport;
use crate::time::{Duration, Instant, after};
use crate::wire::{ClientCodec, DecodeError, PeerCache};

use queue::{RequestQueue, wants_stream_alone};

/// How many requests are in flight on one stream. Chosen, not measured: four such streams carry the 32 that the node has in
/// flight with a peer.
const MAX_IN_FLIGHT: usize = 8;

/// How many streams are open or being opened at once. Chosen, not measured; see [`MAX_IN_FLIGHT`].
const MAX_STREAMS: usize = 4;

/// The same where each serves for one request only. Chosen, not measured.
const MAX_SINGLE_STREAMS: usize = 8;

/// A stream that ends so soon after its first answer was closed because of it, and not because it was
/// idle. Chosen, not measured: the shortest idle limits of others are ten seconds.
const AFTER_ANSWER: Duration = Duration::from_secs(1);

/// After so many answers a peer that seemed to allow fewer streams is tried with one more: what one costs in vain is little
/// beside them. Chosen, not measured.
const ANSWERS_TO_TRY: u32 = 64;

/// After so many streams on which the peer closed behind its first answer, each request gets its own. Chosen, not
/// measured: one may be chance.
const CLOSES_TO_BELIEVE: u32 = 2;

/// A stream, and the requests that are in flight on it, oldest first.
#[derive(Debug)]
struct OutboundStream<T> {
    exchange: Exchange<T, ClientCodec>,
    in_flight: VecDeque<OutboundRequest>,
    /// How many of them, the last ones, are not in the buffer yet.
    unwritten: usize,
    answered: u32,
    /// When the stream was used last.
    since: Instant,
    /// Takes no more requests, since what is in flight wants it for itself.
    exclusive: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> OutboundStream<T> {
    fn new(stream: T, codec: ClientCodec, now: Instant) -> Self {
        Self {
            exchange: Exchange::new(stream, codec),
            in_flight: VecDeque::new(),
            unwritten: 0,
            answered: 0,
            since: now,
            exclusive: false,
        }
    }

    /// Whether nothing has ever been asked on it.
    fn is_fresh(&self) -> bool {
        self.answered == 0 && self.in_flight.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.exchange.is_quiet()
    }

    fn has_room_for(&self, request: &OutboundRequest, single: bool) -> bool {
        if single || request.is_retried {
            return self.is_fresh();
        }
        let limit = if wants_stream_alone(request) { 1 } else { MAX_IN_FLIGHT };
        !self.exclusive && self.in_flight.len() < limit
    }

    fn give(&mut self, request: OutboundRequest, now: Instant) {
        self.exclusive = wants_stream_alone(&request);
        self.since = now;
        self.in_flight.push_back(request);
        self.unwritten += 1;
    }

    /// Puts the next requests into the buffer whenever it is empty, and writes them.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant, budget: &mut ReadBudget) -> std::io::Result<()> {
        loop {
            let is_free = !self.exchange.is_writing();
            while is_free && self.unwritten > 0 && self.exchange.unwritten() < WRITE_BATCH {
                let next = self.in_flight.len() - self.unwritten;
                let Some(next) = self.in_flight.get(next) else { break };
                self.exchange.send(&next.request, now);
                self.unwritten -= 1;
            }
            match self.exchange.poll_flush(cx, budget) {
                Poll::Ready(Ok(())) if self.unwritten > 0 => {}
                Poll::Ready(result) => return result,
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Takes out the oldest request, if it has been put into the buffer: a peer may answer what it has not been asked.
    fn pop_asked(&mut self) -> Option<OutboundRequest> {
        if self.in_flight.len() > self.unwritten { self.in_flight.pop_front() } else { None }
    }

    /// Takes out a request that is not answered. Returns whether the stream is of use without it.
    fn cancel(&mut self, id: RequestId) -> bool {
        let Some(at) = self.in_flight.iter().position(|pending| pending.id == id) else {
            return true;
        };
        self.in_flight.remove(at);
        let is_unwritten = at + self.unwritten > self.in_flight.len();
        self.unwritten -= usize::from(is_unwritten);
        self.exclusive &= !self.in_flight.is_empty();
        is_unwritten
    }

    fn deadline(&self, limits: &ConnectionLimits) -> Option<Instant> {
        if self.is_idle() {
            return Some(after(self.since, limits.outbound_idle));
        }
        self.exchange.deadline(limits.stream_timeout)
    }
}

/// How a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    /// The peer closed or reset it: the oldest request is suspected.
    Early,
    /// What was being written or read on it was not complete in time: the oldest request is suspected.
    Late,
    /// It is of no more use, and no request is suspected that has not been dealt with.
    Over,
    /// What came on it cannot be trusted, and the request that is to blame, if one is, has failed.
    Bad,
    /// The peer does not speak the protocol, as a lazily negotiated stream shows only when it is read.
    Unsupported,
}

/// All outbound streams of a connection, and the requests that wait for one.
///
/// # States of a request
/// ```text
/// queued ---stream has room---> in flight ---answered---> over
///   ^                             |   |
///   |   stream ended early:       |   +--- answer does not fit ---> failed; the stream ends
///   +--- first in order, once ----+
///   +--- not first, uncounted ----+--- first in order, again ---> failed
/// ```
/// A stream that ends before its first answer while others of the connection live was one too many for the peer: all
/// that was on it moves, uncounted, and fewer streams are opened from then on.
///
/// # What time does
/// A stream on which nothing goes on is closed when it was not used for the idle limit. What is being written to it, and a
/// half answer, have the stream's timeout; then it has ended early. A request that is out and not answered has no time
/// here: the node cancels it.
///
/// # Bounds
/// Four streams of eight requests, or eight of one. What waits is bounded by what the node sends; a cancellation costs the
/// logarithm of that.
#[derive(Debug)]
pub(super) struct Outbound<T> {
    limits: ConnectionLimits,
    cache: PeerCache,
    streams: Vec<OutboundStream<T>>,
    opening: usize,
    queue: RequestQueue,
    closes_after_answer: u32,
    /// How many streams the peer seems to allow at once.
    allowed: usize,
    /// How many answers have come since that was changed.
    answers: u32,
    has_answers: bool,
    pub(super) counts: Transport,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Outbound<T> {
    pub(super) fn new(limits: ConnectionLimits, cache: PeerCache) -> Self {
        Self {
            limits,
            cache,
            streams: Vec::new(),
            opening: 0,
            queue: RequestQueue::default(),
            closes_after_answer: 0,
            allowed: MAX_SINGLE_STREAMS,
            answers: 0,
            has_answers: false,
            counts: Transport::default(),
        }
    }

    /// Returns whether the peer has answered anything, and so speaks the protocol.
    pub(super) const fn has_answers(&self) -> bool {
        self.has_answers
    }

    pub(super) fn is_busy(&self) -> bool {
        self.queue.len() > 0 || self.streams.iter().any(|stream| !stream.in_flight.is_empty())
    }

    const fn is_single(&self) -> bool {
        self.closes_after_answer >= CLOSES_TO_BELIEVE
    }

    /// Returns how many bytes incomplete messages have reserved.
    pub(super) fn reserved(&self) -> usize {
        self.streams.iter().map(|stream| stream.exchange.reserved()).sum()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn unread(&self) -> usize {
        self.streams.iter().map(|stream| stream.exchange.unread()).sum()
    }

    pub(super) fn enqueue(&mut self, request: OutboundRequest) {
        self.queue.insert(request);
    }

    /// Forgets a request whose time is up. If it is out, its stream ends, since the answers behind it would come in its
    /// place.
    pub(super) fn cancel(&mut self, id: RequestId) {
        if self.queue.remove(id) {
            return;
        }
        if let Some(at) = self.streams.iter_mut().position(|stream| !stream.cancel(id)) {
            let stream = self.streams.swap_remove(at);
            self.counts.streams_reset += 1;
            self.queue.extend(stream.in_flight);
        }
    }

    /// Returns whether a stream is to be opened, which then counts as being opened.
    pub(super) fn wants_stream(&mut self) -> bool {
        let (max, per_stream) =
            if self.is_single() { (MAX_SINGLE_STREAMS, 1) } else { (MAX_STREAMS, MAX_IN_FLIGHT) };
        if self.queue.len() <= self.opening * per_stream {
            return false;
        }
        if self.streams.len() + self.opening >= max.min(self.allowed) {
            // A request that must have a fresh stream gets the place of an idle one.
            let idle = self.streams.iter().position(|stream| stream.in_flight.is_empty());
            let Some(idle) = idle.filter(|_| self.opening == 0) else {
                return false;
            };
            self.streams.swap_remove(idle);
        }
        self.opening += 1;
        true
    }

    pub(super) fn opened(&mut self, stream: T, now: Instant) {
        self.opening = self.opening.saturating_sub(1);
        let codec = ClientCodec::new(self.limits.max_frame).with_cache(self.cache.clone());
        self.streams.push(OutboundStream::new(stream, codec, now));
    }

    /// A stream could not be opened.
    pub(super) fn opening_failed(&mut self, error: RequestError, events: &mut VecDeque<FromHandler>) {
        self.opening = self.opening.saturating_sub(1);
        if error == RequestError::Unsupported {
            self.unsupported(events);
        } else if let Some(first) = self.queue.pop_first() {
            self.blame(first, events);
        }
    }

    /// The peer does not speak the protocol: nothing will be answered.
    fn unsupported(&mut self, events: &mut VecDeque<FromHandler>) {
        for pending in self.queue.take_all() {
            events.push_back(FromHandler::RequestFailed(pending.id, RequestError::Unsupported));
        }
        events.push_back(FromHandler::Protocol(false));
    }

    /// A stream ended with this request at its front: it is tried once more, then it has failed.
    fn blame(&mut self, first: OutboundRequest, events: &mut VecDeque<FromHandler>) {
        if first.is_retried {
            events.push_back(FromHandler::RequestFailed(first.id, RequestError::StreamEnded));
        } else {
            self.queue.insert(OutboundRequest { is_retried: true, ..first });
        }
    }

    /// Moves everything on, and returns whether there is an event or a request that found its stream.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        budget: &mut ReadBudget,
        events: &mut VecDeque<FromHandler>,
    ) -> bool {
        self.assign(now);
        let mut at = 0;
        while at < self.streams.len() {
            match self.poll_stream(at, cx, now, budget, events) {
                Ok(()) => at += 1,
                Err(end) => self.ended(at, end, now, events),
            }
        }
        self.assign(now) || !events.is_empty()
    }

    /// Gives waiting requests to streams that have room. Returns whether any was given.
    fn assign(&mut self, now: Instant) -> bool {
        let single = self.is_single();
        let mut assigned = false;
        loop {
            let place_for = |next: &OutboundRequest| {
                self.streams.iter().position(|stream| stream.has_room_for(next, single))
            };
            let Some((next, at)) = self.queue.pop_first_that(place_for) else {
                return assigned;
            };
            if let Some(stream) = self.streams.get_mut(at) {
                self.counts.outbound_streams_reused += u64::from(!stream.is_fresh());
                stream.give(next, now);
            }
            assigned = true;
        }
    }

    fn poll_stream(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
        now: Instant,
        budget: &mut ReadBudget,
        events: &mut VecDeque<FromHandler>,
    ) -> Result<(), StreamEnd> {
        let Some(stream) = self.streams.get_mut(at) else {
            return Ok(());
        };
        stream.write(cx, now, budget).map_err(|error| end(&error))?;
        loop {
            match stream.exchange.poll_read(cx, now, budget) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(None)) => return Err(StreamEnd::Early),
                Poll::Ready(Err(DecodeError::Io(error))) => return Err(end(&error)),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "outbound stream ends");
                    return Err(fail_first(stream, events));
                }
                Poll::Ready(Ok(Some(response))) => {
                    take_answer(stream, response, now, events)?;
                    self.has_answers = true;
                    self.answers += 1;
                    if self.answers >= ANSWERS_TO_TRY {
                        self.answers = 0;
                        self.allowed = (self.allowed + 1).min(MAX_SINGLE_STREAMS);
                    }
                }
            }
            if self.closes_after_answer >= CLOSES_TO_BELIEVE && stream.in_flight.is_empty() {
                return Err(StreamEnd::Over);
            }
            if stream.answered > 1 {
                self.closes_after_answer = 0;
            }
        }
    }

    /// A stream has ended, and what was on it moves or fails.
    fn ended(&mut self, at: usize, end: StreamEnd, now: Instant, events: &mut VecDeque<FromHandler>) {
        let mut stream = self.streams.swap_remove(at);
        if end == StreamEnd::Unsupported {
            self.queue.extend(stream.in_flight);
            self.unsupported(events);
            return;
        }
        let is_reset = matches!(end, StreamEnd::Late | StreamEnd::Bad) || !stream.in_flight.is_empty();
        self.counts.streams_reset += u64::from(is_reset);
        if end == StreamEnd::Early && stream.answered == 0 && !self.streams.is_empty() {
            // It was one too many for the peer, which serves on the others.
            self.allowed = self.allowed.min(self.streams.len());
            self.answers = 0;
            self.queue.extend(stream.in_flight);
            return;
        }
        let soon = now.saturating_duration_since(stream.since) < AFTER_ANSWER;
        if end != StreamEnd::Late && stream.answered == 1 && soon && !self.is_single() {
            self.closes_after_answer += 1;
        }
        let is_suspected = matches!(end, StreamEnd::Early | StreamEnd::Late);
        let suspect = if is_suspected { stream.in_flight.pop_front() } else { None };
        self.queue.extend(stream.in_flight);
        if let Some(first) = suspect {
            self.blame(first, events);
        }
    }

    /// Returns when the first stream is to be closed unless something happens on it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.streams.iter().filter_map(|stream| stream.deadline(&self.limits)).min()
    }

    /// Closes the streams whose time is up.
    pub(super) fn on_timeout(&mut self, now: Instant, events: &mut VecDeque<FromHandler>) {
        let mut at = 0;
        while let Some(stream) = self.streams.get(at) {
            if stream.deadline(&self.limits).is_none_or(|deadline| deadline > now) {
                at += 1;
            } else if stream.is_idle() {
                self.streams.swap_remove(at);
            } else {
                tracing::debug!("outbound stream ends: not written or not read in time");
                self.ended(at, StreamEnd::Late, now, events);
            }
        }
    }

    /// Returns all requests that are not answered, and forgets them.
    #[cfg(feature = "fuzzing")]
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        let in_flight = self.streams.drain(..).flat_map(|stream| stream.in_flight);
        in_flight.chain(self.queue.take_all()).map(|pending| pending.id).collect()
    }
}

/// Matches an answer with the oldest request of its stream.
fn take_answer<T: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut OutboundStream<T>,
    response: Response,
    now: Instant,
    events: &mut VecDeque<FromHandler>,
) -> Result<(), StreamEnd> {
    // An answer that nobody awaits would shift every later one.
    let Some(first) = stream.pop_asked() else {
        return Err(StreamEnd::Bad);
    };
    if !response.answers(&first.request) {
        events.push_back(FromHandler::RequestFailed(first.id, RequestError::BadAnswer));
        return Err(StreamEnd::Bad);
    }
    events.push_back(FromHandler::ResponseReceived(first.id, response));
    stream.answered += 1;
    stream.exclusive = false;
    stream.since = now;
    Ok(())
}

/// What should answer the oldest request cannot be read; what is behind it on the stream cannot be trusted either.
fn fail_first<T: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut OutboundStream<T>,
    events: &mut VecDeque<FromHandler>,
) -> StreamEnd {
    if let Some(first) = stream.pop_asked() {
        events.push_back(FromHandler::RequestFailed(first.id, RequestError::BadAnswer));
    }
    StreamEnd::Bad
}

fn end(error: &std::io::Error) -> StreamEnd {
    if is_unsupported(error) {
        return StreamEnd::Unsupported;
    }
    tracing::debug!(%error, source = ?error.source(), "outbound stream ends");
    StreamEnd::Early
}

/// Returns whether a stream has ended because the peer does not speak the protocol, as one that was negotiated lazily shows
/// when it is read.
pub(super) fn is_unsupported(error: &std::io::Error) -> bool {
    let negotiation = error.get_ref().and_then(|inner| inner.downcast_ref::<NegotiationError>());
    matches!(negotiation, Some(NegotiationError::Failed))
}
