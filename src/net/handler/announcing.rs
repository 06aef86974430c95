//! The stream on which this node sends what is not answered.
//!
//! Nobody awaits an answer to an announcement, yet some peers send one: on the streams of other requests it would take the
//! place of the next answer. So announcements have a stream of their own, on which whatever comes back is thrown away.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p_swarm::Stream;

use super::super::exchange::Exchange;
use super::super::timer;
use super::FromHandler;
use super::outbound::is_unsupported;
use crate::dht::RequestId;
use crate::error::RequestError;
use crate::message::Request;
use crate::time::{Duration, Instant, after, earliest};
use crate::wire::{ClientCodec, DecodeError};

/// The stream is closed when it was not used for so long: js resets idle ones after ten seconds, and what is written just
/// then is lost.
const IDLE: Duration = Duration::from_secs(5);

/// What was sent within so long before the stream has ended is sent again, once: the peer may not have read it.
const RECENT: Duration = Duration::from_secs(2);

/// A peer that has not said whether it speaks the protocol is taken to do so if it does not end the stream for so long.
const BELIEVED: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Pending {
    id: RequestId,
    request: Request,
    /// Whether a stream has ended behind it.
    retried: bool,
    /// Whether the node was told that it is sent.
    reported: bool,
}

/// The stream, what was written to it, and what waits for it.
///
/// # States of an announcement
/// ```text
/// queued --stream is open--> written --flushed--> out --the peer speaks the protocol--> sent
///   ^                                              |        or says nothing for 1 s
///   +---- the stream has ended, once --------------+
///                                     again, or the peer does not speak it --> failed
/// ```
/// What is sent is remembered for two seconds: if the stream ends meanwhile it is sent once more on a fresh one, since a
/// peer that ends a stream reads nothing that is on its way.
///
/// # Bounds
/// One stream. The node has at most 32 requests in flight to a peer, and remembers each for two seconds here.
#[derive(Debug)]
pub(super) struct Announcing {
    max_frame: usize,
    stream: Option<Exchange<Stream, ClientCodec>>,
    is_opening: bool,
    queue: VecDeque<Pending>,
    /// In the buffer, not flushed.
    written: Vec<Pending>,
    /// Flushed, and when.
    out: VecDeque<(Instant, Pending)>,
    /// When the stream was used last.
    since: Instant,
    has_failed_to_open: bool,
    /// How many answers the peer may send: one for each announcement.
    tolerated: usize,
}

impl Announcing {
    pub(super) fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            stream: None,
            is_opening: false,
            queue: VecDeque::new(),
            written: Vec::new(),
            out: VecDeque::new(),
            since: timer::now(),
            has_failed_to_open: false,
            tolerated: 0,
        }
    }

    /// Returns whether anything is not known to be sent.
    pub(super) fn is_busy(&self) -> bool {
        let unreported = self.out.iter().any(|(_, pending)| !pending.reported);
        unreported || !self.queue.is_empty() || !self.written.is_empty()
    }

    pub(super) fn enqueue(&mut self, id: RequestId, request: Request) {
        self.queue.push_back(Pending { id, request, retried: false, reported: false });
    }

    /// Forgets an announcement whose time is up. If it is in the buffer, the stream ends: the peer does not read.
    pub(super) fn cancel(&mut self, id: RequestId) {
        self.queue.retain(|pending| pending.id != id);
        self.out.retain(|(_, pending)| pending.id != id);
        if self.written.iter().any(|pending| pending.id == id) {
            self.stream = None;
            let written = std::mem::take(&mut self.written);
            written
                .into_iter()
                .rev()
                .filter(|pending| pending.id != id)
                .for_each(|p| self.queue.push_front(p));
        }
    }

    /// Returns whether a stream is to be opened, which then counts as being opened.
    pub(super) fn wants_stream(&mut self) -> bool {
        let wants = !self.queue.is_empty() && self.stream.is_none() && !self.is_opening;
        self.is_opening |= wants;
        wants
    }

    pub(super) fn opened(&mut self, stream: Stream) {
        (self.is_opening, self.has_failed_to_open) = (false, false);
        (self.since, self.tolerated) = (timer::now(), 0);
        self.stream = Some(Exchange::new(stream, ClientCodec::new(self.max_frame)));
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

    /// Moves everything on; `speaks` says whether the peer is known to speak the protocol. Returns whether there is an event.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        speaks: bool,
        events: &mut VecDeque<FromHandler>,
    ) -> bool {
        if let Err(error) = self.poll_stream(cx) {
            self.ended(&error, events);
        }
        let now = timer::now();
        for (since, pending) in &mut self.out {
            if !pending.reported && (speaks || after(*since, BELIEVED) <= now) {
                pending.reported = true;
                events.push_back(FromHandler::RequestSent(pending.id));
            }
        }
        self.out.retain(|(since, pending)| !pending.reported || after(*since, RECENT) > now);
        !events.is_empty()
    }

    /// Writes what waits, and throws away what comes back. Fails with why the stream has ended.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Result<(), DecodeError> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if !self.queue.is_empty() {
            self.since = timer::now();
        }
        for pending in self.queue.drain(..) {
            // Encoding cannot fail.
            let _ = stream.send(&pending.request);
            self.tolerated += 1;
            self.written.push(pending);
        }
        if stream.poll_flush(cx)?.is_ready() && !self.written.is_empty() {
            let now = timer::now();
            self.since = now;
            self.out.extend(self.written.drain(..).map(|pending| (now, pending)));
        }
        loop {
            match stream.poll_read(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(None)) => return Err(DecodeError::Truncated),
                // py-libp2p answers an announcement; it is none of the answers that there are.
                Poll::Ready(Ok(Some(_)) | Err(DecodeError::UnknownType(_))) if self.tolerated > 0 => {
                    self.tolerated -= 1;
                }
                Poll::Ready(Ok(Some(_))) => return Err(DecodeError::Missing("request")),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    /// The stream has ended: what was on it is sent once more.
    fn ended(&mut self, error: &DecodeError, events: &mut VecDeque<FromHandler>) {
        tracing::debug!(%error, "the stream of announcements ends");
        self.stream = None;
        let out = std::mem::take(&mut self.out).into_iter().map(|(_, pending)| pending);
        let lost: Vec<_> = out.chain(self.written.drain(..)).collect();
        for pending in lost.into_iter().rev() {
            if !pending.retried {
                self.queue.push_front(Pending { retried: true, ..pending });
            } else if !pending.reported {
                events.push_back(FromHandler::RequestFailed(pending.id, RequestError::StreamEnded));
            }
        }
        if let DecodeError::Io(error) = error
            && is_unsupported(error)
        {
            self.unsupported(events);
        }
    }

    /// Returns when to call [`poll`](Self::poll) though nothing has happened on the stream, or
    /// [`close_idle`](Self::close_idle).
    pub(super) fn deadline(&self) -> Option<Instant> {
        let idle = self.stream.as_ref().map(|_| after(self.since, IDLE));
        let believed = self.out.iter().filter(|(_, pending)| !pending.reported);
        let believed = believed.map(|(since, _)| after(*since, BELIEVED)).min();
        earliest(idle, believed)
    }

    pub(super) fn close_idle(&mut self, now: Instant) {
        if !self.is_busy() && after(self.since, IDLE) <= now {
            self.stream = None;
            self.out.clear();
        }
    }

    /// Returns all announcements that are not known to be sent, and forgets them.
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        let out = self.out.drain(..).map(|(_, pending)| pending);
        let all = out.chain(self.written.drain(..)).chain(self.queue.drain(..));
        all.filter(|pending| !pending.reported).map(|pending| pending.id).collect()
    }
}
