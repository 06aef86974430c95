//! The stream on which this node sends what is not answered.
//!
//! No answer to an announcement is awaited, yet some peers send one: on the streams of other requests it would take the place
//! of the next answer. So announcements have a stream of their own, on which whatever comes back is thrown away, unless it says that
//! there was no room.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};

use super::outbound::is_unsupported;
use crate::dht::RequestId;
use crate::error::RequestError;
use crate::message::Response;
use crate::net::budget::ReadBudget;
use crate::net::exchange::Exchange;
use crate::net::limits::{ConnectionLimits, WRITE_BATCH};
use crate::net::messages::{FromHandler, OutboundRequest};
use crate::stats::Transport;
use crate::time::{Duration, Instant, after, earliest};
use crate::wire::{ClientCodec, DecodeError};

/// The stream is closed when it was not used for so long: js resets idle ones after ten seconds, and what is written just
/// then is lost. Chosen, not measured: half of their time.
const IDLE: Duration = Duration::from_secs(5);

/// What was sent within so long before the stream has ended is sent again, once: the peer may not have read it.
/// Chosen, not measured: longer than most round trips.
const RECENT: Duration = Duration::from_secs(2);

/// Of what was sent within [`RECENT`] so many are remembered, the last ones: some 300 bytes each. Chosen, not measured.
const MAX_RECENT: usize = 1024;

/// So many times the buffer is filled, and so many answers are thrown away, in one call; then others have their turn. Chosen,
/// not measured.
const TURNS: usize = 16;

/// The stream, what was written to it, and what waits for it.
///
/// # States of an announcement
/// ```text
/// queued --stream is open--> written --flushed--> sent
///   ^                          |
///   +- the stream has ended, --+--again, or the peer does not speak the protocol--> failed
///      once
/// ```
/// A stream is opened to a peer that is known to speak the protocol, or so that it is known when the stream is open. What is
/// sent is remembered for two seconds: if the stream ends meanwhile it is sent once more on a fresh one, since a
/// peer that ends a stream reads nothing that is on its way. One that is cancelled is forgotten; if it is in the buffer, its
/// bytes go out all the same.
///
/// # What time does
/// What is in the buffer has the stream's timeout to be written, and then the stream has ended; so it has if a half message
/// arrives and no more. A stream on which nothing is under way is closed when it was
/// not used for five.
///
/// # Bounds
/// One stream, whose buffer takes one announcement more than [`WRITE_BATCH`]. What waits is bounded by what the node sends, what is
/// remembered by [`MAX_RECENT`]. A call looks only at what it moves on, a cancellation costs the logarithm of what there is.
#[derive(Debug)]
pub(super) struct Announcing<T> {
    limits: ConnectionLimits,
    stream: Option<Exchange<T, ClientCodec>>,
    is_opening: bool,
    /// Whether anything was sent on the stream.
    is_used: bool,
    queue: BTreeMap<RequestId, OutboundRequest>,
    /// In the buffer, not flushed.
    written: Vec<OutboundRequest>,
    /// Flushed, and when.
    recent: VecDeque<(Instant, OutboundRequest)>,
    /// When the stream was used last.
    since: Instant,
    has_failed_to_open: bool,
    /// How many answers the peer may send: one for each announcement.
    tolerated: usize,
    pub(super) counts: Transport,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Announcing<T> {
    pub(super) fn new(limits: ConnectionLimits, now: Instant) -> Self {
        Self {
            limits,
            stream: None,
            is_opening: false,
            is_used: false,
            queue: BTreeMap::new(),
            written: Vec::new(),
            recent: VecDeque::new(),
            since: now,
            has_failed_to_open: false,
            tolerated: 0,
            counts: Transport::default(),
        }
    }

    /// Returns whether anything is not known to be sent.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.written.is_empty()
    }

    /// Returns how many bytes an incomplete message has reserved.
    pub(super) fn reserved(&self) -> usize {
        self.stream.as_ref().map_or(0, Exchange::reserved)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn unread(&self) -> usize {
        self.stream.as_ref().map_or(0, Exchange::unread)
    }

    pub(super) fn enqueue(&mut self, request: OutboundRequest) {
        self.queue.insert(request.id, request);
    }

    /// Forgets an announcement whose time is up.
    pub(super) fn cancel(&mut self, id: RequestId) {
        if self.queue.remove(&id).is_none() {
            self.written.retain(|pending| pending.id != id);
        }
    }

    /// Returns whether a stream is to be opened, which then counts as being opened.
    pub(super) fn wants_stream(&mut self) -> bool {
        let wants = !self.queue.is_empty() && self.stream.is_none() && !self.is_opening;
        self.is_opening |= wants;
        wants
    }

    pub(super) fn opened(&mut self, stream: T, now: Instant) {
        (self.is_opening, self.has_failed_to_open) = (false, false);
        (self.since, self.tolerated, self.is_used) = (now, 0, false);
        self.stream = Some(Exchange::new(stream, ClientCodec::new(self.limits.max_frame)));
    }

    /// The stream could not be opened: it is tried once more.
    pub(super) fn opening_failed(&mut self, error: RequestError, events: &mut VecDeque<FromHandler>) {
        self.is_opening = false;
        if error == RequestError::Unsupported {
            self.unsupported(events);
        } else if std::mem::replace(&mut self.has_failed_to_open, true) {
            self.fail_all(error, events);
        }
    }

    fn fail_all(&mut self, error: RequestError, events: &mut VecDeque<FromHandler>) {
        events.extend(self.take_all().into_iter().map(|id| FromHandler::RequestFailed(id, error)));
    }

    fn unsupported(&mut self, events: &mut VecDeque<FromHandler>) {
        self.fail_all(RequestError::Unsupported, events);
        events.push_back(FromHandler::Protocol(false));
    }

    /// Moves everything on. Returns whether there is an event.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        budget: &mut ReadBudget,
        events: &mut VecDeque<FromHandler>,
    ) -> bool {
        if let Err(error) = self.poll_stream(cx, now, budget, events) {
            self.ended(&error, events);
        }
        self.forget(now);
        !events.is_empty()
    }

    /// Writes what waits, and throws away what comes back. Fails with why the stream has ended.
    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        budget: &mut ReadBudget,
        events: &mut VecDeque<FromHandler>,
    ) -> Result<(), DecodeError> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        for turn in 0.. {
            if turn == TURNS {
                cx.waker().wake_by_ref();
                break;
            }
            if !stream.is_writing() {
                while stream.unwritten() < WRITE_BATCH
                    && let Some((_, pending)) = self.queue.pop_first()
                {
                    stream.send(&pending.request, now);
                    self.counts.outbound_streams_reused +=
                        u64::from(std::mem::replace(&mut self.is_used, true));
                    self.tolerated += 1;
                    self.written.push(pending);
                }
            }
            if !stream.is_writing() || stream.poll_flush(cx, budget)?.is_pending() {
                break;
            }
            self.since = now;
            for mut pending in self.written.drain(..) {
                if !std::mem::replace(&mut pending.is_reported, true) {
                    events.push_back(FromHandler::RequestSent(pending.id));
                }
                self.recent.push_back((now, pending));
            }
        }
        for _ in 0..TURNS {
            match stream.poll_read(cx, now, budget) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(None)) => return Err(DecodeError::Truncated),
                Poll::Ready(Ok(Some(Response::AddProvider { key, is_rejected }))) if self.tolerated > 0 => {
                    self.tolerated -= 1;
                    let is_ours = |pending: &OutboundRequest| pending.request.key() == Some(key.as_ref());
                    // What was sent long ago has been told to others anyway, if the peer has not forgotten to say so.
                    if is_rejected && self.recent.iter().any(|(_, pending)| is_ours(pending)) {
                        events.push_back(FromHandler::AnnouncementRejected(key));
                    }
                }
                // py-libp2p answers an announcement; it is none of the answers that there are.
                Poll::Ready(Ok(Some(_)) | Err(DecodeError::UnknownType(_))) if self.tolerated > 0 => {
                    self.tolerated -= 1;
                }
                Poll::Ready(Ok(Some(_))) => return Err(DecodeError::Missing("request")),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Forgets what was sent long ago.
    fn forget(&mut self, now: Instant) {
        while let Some((since, _)) = self.recent.front()
            && (after(*since, RECENT) <= now || self.recent.len() > MAX_RECENT)
        {
            self.recent.pop_front();
        }
    }

    /// The stream has ended: what was on it is sent once more.
    fn ended(&mut self, error: &DecodeError, events: &mut VecDeque<FromHandler>) {
        tracing::debug!(%error, "the stream of announcements ends");
        self.stream = None;
        let is_unsupported = matches!(error, DecodeError::Io(error) if is_unsupported(error));
        let is_in_order = matches!(error, DecodeError::Truncated) && self.written.is_empty();
        self.counts.streams_reset += u64::from(!is_unsupported && !is_in_order);
        let recent = self.recent.drain(..).map(|(_, pending)| pending);
        for pending in recent.chain(self.written.drain(..)) {
            if !pending.is_retried {
                self.queue.insert(pending.id, OutboundRequest { is_retried: true, ..pending });
            } else if !pending.is_reported {
                events.push_back(FromHandler::RequestFailed(pending.id, RequestError::StreamEnded));
            }
        }
        if is_unsupported {
            self.unsupported(events);
        }
    }

    /// Returns when the stream is to end.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stream = self.stream.as_ref();
        let under_way = stream.and_then(|stream| stream.deadline(self.limits.stream_timeout));
        earliest(under_way, self.idle_deadline())
    }

    /// Returns when the stream is closed, if nothing is under way on it.
    fn idle_deadline(&self) -> Option<Instant> {
        let is_idle = !self.is_busy() && self.stream.as_ref().is_some_and(Exchange::is_quiet);
        is_idle.then(|| after(self.since, IDLE))
    }

    /// Does what the deadline is for.
    pub(super) fn on_timeout(&mut self, now: Instant, events: &mut VecDeque<FromHandler>) {
        let stream = self.stream.as_ref();
        let under_way = stream.and_then(|stream| stream.deadline(self.limits.stream_timeout));
        if under_way.is_some_and(|deadline| deadline <= now) {
            self.counts.streams_reset += u64::from(self.written.is_empty());
            self.ended(&DecodeError::Truncated, events);
        }
        if self.idle_deadline().is_some_and(|deadline| deadline <= now) {
            self.stream = None;
            self.recent.clear();
        }
    }

    /// Returns all announcements that are not known to be sent, and forgets them.
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        self.recent.clear();
        let queue = std::mem::take(&mut self.queue).into_values();
        let all = self.written.drain(..).chain(queue);
        all.filter(|pending| !pending.is_reported).map(|pending| pending.id).collect()
    }
}
