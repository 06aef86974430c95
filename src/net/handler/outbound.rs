//! The streams on which this node asks.
//!
//! A stream is reused for many requests, several of them in flight; answers are matched by their order and checked.
//! A reused stream may have gone stale, and a peer may close after each answer: neither is a failure of the peer.

use std::collections::VecDeque;
use std::error::Error as _;
use std::task::{Context, Poll};

use libp2p_core::upgrade::NegotiationError;
use libp2p_swarm::Stream;

use super::super::exchange::Exchange;
use super::super::timer;
use super::{FromHandler, Limits};
use crate::dht::RequestId;
use crate::error::RequestError;
use crate::message::{MessageType, Request, Response};
use crate::time::{Duration, Instant, after};
use crate::wire::{ClientCodec, DecodeError};

/// How many requests are in flight on one stream.
const MAX_IN_FLIGHT: usize = 8;

/// How many streams are open or being opened at once.
const MAX_STREAMS: usize = 4;

/// The same where each serves for one request only.
const MAX_SINGLE_STREAMS: usize = 8;

/// A stream that ends so soon after its first answer was closed because of it, and not because it was idle.
const AFTER_ANSWER: Duration = Duration::from_secs(1);

/// After so many streams on which the peer closed behind its first answer, each request gets its own.
const CLOSES_TO_BELIEVE: u32 = 2;

#[derive(Debug)]
struct Pending {
    id: RequestId,
    request: Request,
    /// Whether a stream has ended with this request at its front.
    retried: bool,
}

#[derive(Debug)]
struct Channel {
    exchange: Exchange<Stream, ClientCodec>,
    in_flight: VecDeque<Pending>,
    answered: u32,
    /// When the stream was used last.
    since: Instant,
    /// Takes no more requests, since what is in flight wants it for itself.
    exclusive: bool,
}

impl Channel {
    /// Whether nothing has ever been asked on it.
    fn is_fresh(&self) -> bool {
        self.answered == 0 && self.in_flight.is_empty()
    }

    fn has_room_for(&self, request: &Pending, single: bool) -> bool {
        if single || request.retried {
            return self.is_fresh();
        }
        // A stored value may be large, and a refusal ends the stream: it takes one for itself.
        let alone = request.request.message_type() == MessageType::PutValue;
        let limit = if alone { 1 } else { MAX_IN_FLIGHT };
        !self.exclusive && self.in_flight.len() < limit
    }
}

/// How a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer closed or reset it: the oldest request is suspected.
    Early,
    /// It is of no more use, and nobody is to blame who has not been blamed.
    Over,
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
#[derive(Debug)]
pub(super) struct Outbound {
    max_frame: usize,
    channels: Vec<Channel>,
    opening: usize,
    queue: VecDeque<Pending>,
    closes_after_answer: u32,
    /// How many streams the peer seems to allow at once.
    allowed: usize,
    has_answers: bool,
}

impl Outbound {
    pub(super) const fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            channels: Vec::new(),
            opening: 0,
            queue: VecDeque::new(),
            closes_after_answer: 0,
            allowed: MAX_SINGLE_STREAMS,
            has_answers: false,
        }
    }

    /// Returns whether the peer has answered anything, and so speaks the protocol.
    pub(super) const fn has_answers(&self) -> bool {
        self.has_answers
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.channels.iter().any(|channel| !channel.in_flight.is_empty())
    }

    fn is_single(&self) -> bool {
        self.closes_after_answer >= CLOSES_TO_BELIEVE
    }

    pub(super) fn enqueue(&mut self, id: RequestId, request: Request) {
        self.queue.push_back(Pending { id, request, retried: false });
    }

    /// Forgets a request whose time is up. Its stream ends, since the answers behind it would come in its place.
    pub(super) fn cancel(&mut self, id: RequestId) {
        self.queue.retain(|pending| pending.id != id);
        let carries = |channel: &Channel| channel.in_flight.iter().any(|pending| pending.id == id);
        if let Some(at) = self.channels.iter().position(carries) {
            let channel = self.channels.swap_remove(at);
            self.requeue(channel.in_flight.into_iter().filter(|pending| pending.id != id));
        }
    }

    /// Puts requests back to the front of the queue, in their order.
    fn requeue(&mut self, requests: impl DoubleEndedIterator<Item = Pending>) {
        requests.rev().for_each(|pending| self.queue.push_front(pending));
    }

    /// Returns whether a stream is to be opened, which then counts as being opened.
    pub(super) fn wants_stream(&mut self) -> bool {
        let (max, per_stream) =
            if self.is_single() { (MAX_SINGLE_STREAMS, 1) } else { (MAX_STREAMS, MAX_IN_FLIGHT) };
        if self.queue.len() <= self.opening * per_stream {
            return false;
        }
        if self.channels.len() + self.opening >= max.min(self.allowed) {
            // A request that must have a fresh stream gets the place of an idle one.
            let idle = self.channels.iter().position(|channel| channel.in_flight.is_empty());
            let Some(idle) = idle.filter(|_| self.opening == 0) else {
                return false;
            };
            self.channels.swap_remove(idle);
        }
        self.opening += 1;
        true
    }

    pub(super) fn opened(&mut self, stream: Stream, now: Instant) {
        self.opening = self.opening.saturating_sub(1);
        let exchange = Exchange::new(stream, ClientCodec::new(self.max_frame));
        let in_flight = VecDeque::new();
        self.channels.push(Channel { exchange, in_flight, answered: 0, since: now, exclusive: false });
    }

    /// A stream could not be opened.
    pub(super) fn opening_failed(&mut self, error: RequestError, events: &mut VecDeque<FromHandler>) {
        self.opening = self.opening.saturating_sub(1);
        if error == RequestError::Unsupported {
            self.unsupported(events);
        } else if let Some(first) = self.queue.pop_front() {
            self.blame(first, events);
        }
    }

    /// The peer does not speak the protocol: nothing will be answered.
    fn unsupported(&mut self, events: &mut VecDeque<FromHandler>) {
        for pending in self.queue.drain(..) {
            events.push_back(FromHandler::RequestFailed(pending.id, RequestError::Unsupported));
        }
        events.push_back(FromHandler::Protocol(false));
    }

    /// A stream ended with this request at its front: it is tried once more, then it has failed.
    fn blame(&mut self, first: Pending, events: &mut VecDeque<FromHandler>) {
        if first.retried {
            events.push_back(FromHandler::RequestFailed(first.id, RequestError::StreamEnded));
        } else {
            self.queue.push_front(Pending { retried: true, ..first });
        }
    }

    /// Moves everything on, and returns whether there is an event or a request that found its stream.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, events: &mut VecDeque<FromHandler>) -> bool {
        self.assign();
        let mut at = 0;
        while at < self.channels.len() {
            match self.poll_channel(at, cx, events) {
                Ok(()) => at += 1,
                Err(end) => self.ended(at, end, events),
            }
        }
        self.assign() || !events.is_empty()
    }

    /// Gives waiting requests to streams that have room. Returns whether any was given.
    fn assign(&mut self) -> bool {
        let single = self.is_single();
        let (mut at, mut assigned) = (0, false);
        while let Some(next) = self.queue.get(at)
            && self.channels.iter().any(|channel| channel.in_flight.len() < MAX_IN_FLIGHT)
        {
            let room = |channel: &&mut Channel| channel.has_room_for(next, single);
            let Some(channel) = self.channels.iter_mut().find(room) else {
                // It waits for a fresh stream; those behind it need not.
                at += 1;
                continue;
            };
            let Some(next) = self.queue.remove(at) else { break };
            // Encoding cannot fail.
            let _ = channel.exchange.send(&next.request);
            channel.exclusive = next.request.message_type() == MessageType::PutValue;
            channel.since = timer::now();
            channel.in_flight.push_back(next);
            assigned = true;
        }
        assigned
    }

    fn poll_channel(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
        events: &mut VecDeque<FromHandler>,
    ) -> Result<(), End> {
        let Some(channel) = self.channels.get_mut(at) else {
            return Ok(());
        };
        if let Poll::Ready(Err(error)) = channel.exchange.poll_flush(cx) {
            return Err(end(&error));
        }
        loop {
            match channel.exchange.poll_read(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(None)) => return Err(End::Early),
                Poll::Ready(Err(DecodeError::Io(error))) => return Err(end(&error)),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "outbound stream ends");
                    return Err(fail_first(channel, events));
                }
                Poll::Ready(Ok(Some(response))) => {
                    take_answer(channel, response, events)?;
                    self.has_answers = true;
                }
            }
            if self.closes_after_answer >= CLOSES_TO_BELIEVE && channel.in_flight.is_empty() {
                return Err(End::Over);
            }
            if channel.answered > 1 {
                self.closes_after_answer = 0;
            }
        }
    }

    /// A stream has ended, and what was on it moves or fails.
    fn ended(&mut self, at: usize, end: End, events: &mut VecDeque<FromHandler>) {
        let mut channel = self.channels.swap_remove(at);
        if end == End::Unsupported {
            self.queue.extend(channel.in_flight);
            self.unsupported(events);
            return;
        }
        if end == End::Early && channel.answered == 0 && !self.channels.is_empty() {
            // It was one too many for the peer, which serves on the others.
            self.allowed = self.allowed.min(self.channels.len());
            self.requeue(channel.in_flight.into_iter());
            return;
        }
        let soon = timer::now().saturating_duration_since(channel.since) < AFTER_ANSWER;
        if channel.answered == 1 && soon && !self.is_single() {
            self.closes_after_answer += 1;
        }
        let suspect = if end == End::Early { channel.in_flight.pop_front() } else { None };
        self.requeue(channel.in_flight.into_iter());
        if let Some(first) = suspect {
            self.blame(first, events);
        }
    }

    /// Returns when the first idle stream is to be closed.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let idle = self.channels.iter().filter(|channel| channel.in_flight.is_empty());
        idle.map(|channel| after(channel.since, limits.outbound_idle)).min()
    }

    pub(super) fn close_idle(&mut self, now: Instant, limits: &Limits) {
        self.channels.retain(|channel| {
            !channel.in_flight.is_empty() || after(channel.since, limits.outbound_idle) > now
        });
    }

    /// Returns all requests that are not answered, and forgets them.
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        let in_flight = self.channels.drain(..).flat_map(|channel| channel.in_flight);
        in_flight.chain(self.queue.drain(..)).map(|pending| pending.id).collect()
    }
}

/// Matches an answer with the oldest request of its stream.
fn take_answer(
    channel: &mut Channel,
    response: Response,
    events: &mut VecDeque<FromHandler>,
) -> Result<(), End> {
    // An answer that nobody awaits would shift every later one.
    let Some(first) = channel.in_flight.front() else {
        return Err(End::Over);
    };
    if !response.answers(&first.request) {
        return Err(fail_first(channel, events));
    }
    if let Some(first) = channel.in_flight.pop_front() {
        events.push_back(FromHandler::ResponseReceived(first.id, response));
    }
    channel.answered += 1;
    channel.exclusive = false;
    channel.since = timer::now();
    Ok(())
}

/// The answer to the oldest request is not one; what is behind it on the stream cannot be trusted either.
fn fail_first(channel: &mut Channel, events: &mut VecDeque<FromHandler>) -> End {
    if let Some(first) = channel.in_flight.pop_front() {
        events.push_back(FromHandler::RequestFailed(first.id, RequestError::BadAnswer));
    }
    End::Over
}

fn end(error: &std::io::Error) -> End {
    if is_unsupported(error) {
        return End::Unsupported;
    }
    tracing::debug!(%error, source = ?error.source(), "outbound stream ends");
    End::Early
}

/// Returns whether a stream has ended because the peer does not speak the protocol, as one that was negotiated lazily shows
/// when it is read.
pub(super) fn is_unsupported(error: &std::io::Error) -> bool {
    let negotiation = error.get_ref().and_then(|inner| inner.downcast_ref::<NegotiationError>());
    matches!(negotiation, Some(NegotiationError::Failed))
}
