//! All streams of one connection, and what is asked and answered on them.
//!
//! Knows streams of bytes and messages; knows neither the swarm nor the clock: time is an argument.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};

use super::announcing::Announcing;
use super::inbound::Inbound;
use super::outbound::Outbound;
use crate::dht::InboundId;
use crate::error::RequestError;
use crate::event::Mode;
use crate::net::budget::{ReadBudget, Share, Unserved};
use crate::net::limits::ConnectionLimits;
use crate::net::messages::{FromHandler, Purpose, SEQUENCE_BITS, ToHandler};
use crate::net::shared::Shared;
use crate::stats::{Statistic as _, Transport};
use crate::time::{Duration, Instant, after, earliest};

/// How often everything is moved on in one call; then the task is woken, and others have their turn. Chosen, not measured.
const TURNS: usize = 32;

/// A connection that is not read from because of others, whose answers fill the node's buffer or whose requests wait for it, looks
/// again after so long. Chosen, not measured.
const RETRY: Duration = Duration::from_millis(250);

/// While so many requests wait for the node, a connection that has some of them is not read from unless all are its own: one that
/// asks little stands behind as many at the most. Measured: `p99` in `cargo bench --bench compare`.
const MAX_UNSERVED: usize = 8;

/// So many requests of one connection wait for the node, whatever others do. Chosen, not measured: eight streams' worth.
const MAX_OWN_UNSERVED: usize = 64;

/// An action that the streams want done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is handed on at once")]
pub(super) enum Action {
    /// The behaviour is told something.
    Tell(FromHandler),
    /// A stream is opened; [`opened`](Streams::opened) or [`opening_failed`](Streams::opening_failed) says what came of it.
    Open(Purpose),
}

/// The streams of a connection, and the requests on them.
///
/// # What it decides
/// On which stream a request goes, when a stream is opened and closed, when one is read from, and whom a stream's early
/// end is blamed on.
///
/// # Inputs and outputs
/// [`take`](Self::take) takes what the behaviour sends, at any time; streams come by [`accept`](Self::accept) and
/// [`opened`](Self::opened); [`poll`](Self::poll) returns what is to be done.
///
/// # What time does
/// [`deadline`](Self::deadline) says when to call [`on_timeout`](Self::on_timeout), after which it is later than that time
/// or none: each part names only what its own step then uses up.
///
/// # Bounds
/// The configured inbound streams, the oldest idle one making room; on each at most eight requests being answered.
/// Four outbound streams with eight requests in flight on each, or eight streams with one where the peer closes after
/// each answer, and one for what is not answered. Every read of a message that has begun and every write has a deadline.
///
/// Answers that wait, those to come included: the configured bytes of the connection, and one answer more. While they are
/// reached, and while the node's are and an answer waits here, the peer is not read from; nor while 64 of its requests wait for the
/// node, or eight, others' among them, of which one is its own. Half messages: four of the greatest size, and two chunks for each
/// stream.
///
/// A call makes a bounded number of steps.
#[derive(Debug)]
pub(super) struct Streams<T> {
    limits: ConnectionLimits,
    mode: Mode,
    /// The number of this connection, in the upper bits of every [`InboundId`].
    number: u64,
    next_inbound: u64,
    inbound: Vec<Inbound<T>>,
    /// Which of them is read first: each in turn.
    first: usize,
    outbound: Outbound<T>,
    announcing: Announcing<T>,
    /// What the peer has said of its support for the protocol.
    supported: Option<bool>,
    /// Whether the protocol was negotiated on a stream of this connection.
    is_negotiated: bool,
    events: VecDeque<FromHandler>,
    budget: ReadBudget,
    /// What the answers hold.
    share: Share,
    /// What they held when a stream was last not read because of it.
    refused_at: Option<usize>,
    /// Since when the peer is not read from because of others.
    crowded: Option<Instant>,
    /// The requests that wait for the node, of this connection and of all.
    unserved: Unserved,
    /// Whether a stream was last not read because of them.
    was_put_off: bool,
    counts: Transport,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Streams<T> {
    pub(super) fn new(
        limits: ConnectionLimits,
        mode: Mode,
        number: u64,
        node: &Shared,
        now: Instant,
    ) -> Self {
        Self {
            limits,
            mode,
            number,
            next_inbound: 0,
            inbound: Vec::new(),
            first: 0,
            outbound: Outbound::new(limits, node.cache.clone()),
            announcing: Announcing::new(limits, now),
            supported: None,
            is_negotiated: false,
            events: VecDeque::new(),
            budget: ReadBudget::new(limits.max_frame.saturating_mul(4)),
            share: node.buffer.share(),
            refused_at: None,
            crowded: None,
            unserved: node.unserved.of_connection(),
            was_put_off: false,
            counts: Transport::default(),
        }
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns whether a request is under way, in whichever direction.
    pub(super) fn is_busy(&self) -> bool {
        self.outbound.is_busy() || self.announcing.is_busy() || self.inbound.iter().any(Inbound::is_answering)
    }

    /// Returns what the peer has said of its support for the protocol.
    pub(super) const fn supported(&self) -> Option<bool> {
        self.supported
    }

    /// The peer has said whether it supports the protocol.
    pub(super) fn set_supported(&mut self, supported: bool) {
        if self.supported != Some(supported) {
            self.supported = Some(supported);
            let event = if supported { FromHandler::Protocol(true) } else { FromHandler::Doubted };
            self.events.push_back(event);
        }
    }

    /// Takes what the behaviour sends; no matter what the streams do, there is always room.
    pub(super) fn take(&mut self, event: ToHandler) {
        match event {
            ToHandler::Request(asked) if asked.request.is_answered() => self.outbound.enqueue(asked),
            ToHandler::Request(announced) => self.announcing.enqueue(announced),
            ToHandler::Cancel(id) => {
                self.outbound.cancel(id);
                self.announcing.cancel(id);
            }
            ToHandler::Respond(id, response) => self.decide(id, |stream| stream.respond(id, &response)),
            ToHandler::Refuse(id) => self.decide(id, |stream| stream.refuse(id)),
            ToHandler::KeepAlive(_) => {}
            ToHandler::Mode(mode) => {
                self.mode = mode;
                if mode == Mode::Client {
                    self.inbound.clear();
                    self.share.set(0);
                }
            }
        }
    }

    /// Does something with the stream on which a request came, if it still is.
    fn decide(&mut self, id: InboundId, decide: impl FnOnce(&mut Inbound<T>)) {
        let at = self.inbound.iter().position(|stream| stream.answers(id));
        let at = at.or_else(|| self.inbound.iter().position(|stream| stream.announced(id)));
        if let Some(stream) = at.and_then(|at| self.inbound.get_mut(at)) {
            let before = stream.held();
            decide(stream);
            self.share.set((self.share.held() + stream.held()).saturating_sub(before));
        }
    }

    /// Takes a new stream of the peer; if there are too many, the oldest idle one makes room, or this one is dropped.
    pub(super) fn accept(&mut self, stream: T, now: Instant) {
        if self.mode == Mode::Client {
            return;
        }
        if self.inbound.len() >= self.limits.max_inbound {
            let idle = self.inbound.iter().enumerate().filter(|(_, stream)| stream.is_idle());
            match idle.min_by_key(|(_, stream)| stream.since()).map(|(at, _)| at) {
                Some(oldest) => drop(self.inbound.remove(oldest)),
                None => {
                    self.counts.inbound_streams_refused += 1;
                    tracing::debug!("too many inbound streams, all of them busy; the new one is dropped");
                    return;
                }
            }
        }
        self.counts.inbound_streams_opened += 1;
        self.inbound.push(Inbound::new(stream, self.limits.max_frame, now));
    }

    /// A stream that was wanted is open.
    pub(super) fn opened(&mut self, purpose: Purpose, stream: T, now: Instant) {
        self.counts.outbound_streams_opened += 1;
        match purpose {
            Purpose::Ask => self.outbound.opened(stream, now),
            Purpose::Announce => self.announcing.opened(stream, now),
            Purpose::Introduce => {
                self.is_negotiated = true;
                self.announcing.opened(stream, now);
            }
        }
    }

    /// A stream that was wanted could not be opened.
    pub(super) fn opening_failed(&mut self, purpose: Purpose, error: RequestError) {
        self.counts.outbound_streams_failed += 1;
        match purpose {
            Purpose::Ask => self.outbound.opening_failed(error, &mut self.events),
            Purpose::Announce | Purpose::Introduce => {
                self.announcing.opening_failed(error, &mut self.events);
            }
        }
    }

    /// Moves everything on, and returns what is to be done. Pending: when something happens, or at the deadline, more is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Action> {
        for _ in 0..TURNS {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Action::Tell(event));
            }
            if self.turn(cx, now) {
                continue;
            }
            if let Some(purpose) = self.wants_stream() {
                return Poll::Ready(Action::Open(purpose));
            }
            // Only after what has come meanwhile was read: being late ourselves is nobody's fault.
            if self.deadline().is_none_or(|deadline| deadline > now) {
                return Poll::Pending;
            }
            self.on_timeout(now);
        }
        self.counts.handler_budget_exhausted += 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves each stream on once. Returns whether that is worth repeating.
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        self.budget.begin(self.reserved());
        self.refused_at = None;
        self.was_put_off = false;
        let mut moved = self.poll_inbound(cx, now);
        moved |= self.outbound.poll(cx, now, &mut self.budget, &mut self.events);
        moved |= self.announcing.poll(cx, now, &mut self.budget, &mut self.events);
        // Whoever came before one that has made room would not be woken for it.
        let has_room_now = self.refused_at.is_some_and(|then| self.share.held() < then);
        moved
            || has_room_now
            || (self.was_put_off && self.has_turn_after_all(cx))
            || self.budget.may_retry(self.reserved())
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut held = self.share.held();
        let mut has_ended = false;
        for _ in 0..self.inbound.len() {
            let at = if self.first < self.inbound.len() { self.first } else { 0 };
            let may_read = self.may_read(now);
            let Some(stream) = self.inbound.get_mut(at) else { break };
            let before = stream.held();
            let request = match stream.poll(cx, now, may_read, &mut self.budget) {
                Poll::Ready(None) => {
                    self.counts.streams_reset += u64::from(stream.is_reset());
                    held = held.saturating_sub(before);
                    self.share.set(held);
                    has_ended = true;
                    // The next one stands there now.
                    self.inbound.remove(at);
                    self.first = at;
                    continue;
                }
                Poll::Ready(Some(request)) => Some(request),
                Poll::Pending => None,
            };
            let id = InboundId(self.number << SEQUENCE_BITS | self.next_inbound);
            if let Some(request) = &request {
                self.next_inbound = (self.next_inbound + 1) & ((1 << SEQUENCE_BITS) - 1);
                stream.begin(id, request, now);
            }
            held = (held + stream.held()).saturating_sub(before);
            self.share.set(held);
            self.first = at + 1;
            if let Some(request) = request {
                let unserved = self.unserved.add();
                self.events.push_back(FromHandler::RequestReceived(id, request, unserved));
                return true;
            }
        }
        has_ended
    }

    /// Returns whether the answer to one more request has room.
    fn may_read(&mut self, now: Instant) -> bool {
        if !self.has_turn() {
            self.was_put_off = true;
            self.crowded.get_or_insert(now);
            return false;
        }
        let (held, node_has_room) = (self.share.held(), self.share.has_room());
        if held == 0 || (node_has_room && held < self.limits.max_connection_buffer) {
            return true;
        }
        if !node_has_room {
            self.crowded.get_or_insert(now);
        }
        self.refused_at = Some(held);
        false
    }

    /// Returns whether one more request of the peer may wait for the node: while there is much to do, others have their turn first.
    fn has_turn(&self) -> bool {
        let (all, own) = (self.unserved.all(), self.unserved.own());
        own < MAX_OWN_UNSERVED && (all < MAX_UNSERVED || own == 0 || all <= own)
    }

    /// Looks once more, for the node may have looked at one meanwhile; if not, the task is woken when it does.
    fn has_turn_after_all(&self, cx: &Context<'_>) -> bool {
        self.unserved.wait(cx);
        self.has_turn()
    }

    fn wants_stream(&mut self) -> Option<Purpose> {
        let ask = self.outbound.wants_stream().then_some(Purpose::Ask);
        let announce = if self.speaks() { Purpose::Announce } else { Purpose::Introduce };
        ask.or_else(|| self.announcing.wants_stream().then_some(announce))
    }

    /// Returns whether the peer is known to speak the protocol on this connection.
    fn speaks(&self) -> bool {
        self.supported == Some(true) || self.is_negotiated || self.outbound.has_answers()
    }

    /// Returns when [`on_timeout`](Self::on_timeout) is to be called unless something happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let inbound = self.inbound.iter().filter_map(|stream| stream.deadline(&self.limits)).min();
        let crowded = self.crowded.map(|since| after(since, RETRY));
        let asking = earliest(self.outbound.deadline(), self.announcing.deadline());
        earliest(earliest(inbound, crowded), asking)
    }

    /// Ends the streams whose time is up.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        let limits = self.limits;
        let reset = &mut self.counts.streams_reset;
        self.inbound.retain(|stream| {
            let stays = stream.deadline(&limits).is_none_or(|deadline| deadline > now);
            *reset += u64::from(!stays && !stream.is_idle());
            stays
        });
        self.share.set(self.inbound.iter().map(Inbound::held).sum());
        self.crowded.take_if(|since| after(*since, RETRY) <= now);
        self.outbound.on_timeout(now, &mut self.events);
        self.announcing.on_timeout(now, &mut self.events);
        debug_assert!(
            self.deadline().is_none_or(|deadline| deadline > now),
            "a deadline that is not used up"
        );
    }

    /// Returns how many bytes have been moved that [`take_counts`](Self::take_counts) would return.
    pub(super) const fn uncounted_bytes(&self) -> u64 {
        self.budget.received + self.budget.sent
    }

    /// Returns what has happened since it was asked last.
    pub(super) fn take_counts(&mut self) -> Transport {
        let mut counts = std::mem::take(&mut self.counts);
        counts.merge(&std::mem::take(&mut self.outbound.counts));
        counts.merge(&std::mem::take(&mut self.announcing.counts));
        counts.bytes_received = std::mem::take(&mut self.budget.received);
        counts.bytes_sent = std::mem::take(&mut self.budget.sent);
        counts
    }

    /// Returns what is yet to be told as the connection goes down.
    pub(super) fn close(&mut self) -> Option<FromHandler> {
        self.events.pop_front()
    }

    /// Forgets all requests that have no outcome, and returns them: what goes down with a connection.
    #[cfg(feature = "fuzzing")]
    pub(super) fn take_all(&mut self) -> Vec<crate::dht::RequestId> {
        let mut all = self.outbound.take_all();
        all.extend(self.announcing.take_all());
        all
    }

    /// Returns how many bytes incomplete messages have reserved.
    fn reserved(&self) -> usize {
        let inbound: usize = self.inbound.iter().map(Inbound::reserved).sum();
        inbound + self.outbound.reserved() + self.announcing.reserved()
    }

    /// Returns what answers hold that wait or are to come, and what half messages hold, in the buffers themselves.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn held(&self) -> (usize, usize) {
        let answers: usize = self.inbound.iter().map(Inbound::held).sum();
        let inbound: usize = self.inbound.iter().map(Inbound::unread).sum();
        debug_assert_eq!(answers, self.share.held(), "what is counted is what there is");
        (answers, inbound + self.outbound.unread() + self.announcing.unread())
    }
}

#[cfg(test)]
mod tests;
