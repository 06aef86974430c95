//! Requests that have no outcome yet: by number, by the time at which they fail, and by the query they are of.
//!
//! Knows messages as values; where a request waits, and what its outcome means, is not its affair.

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

use super::outcome::{Reply, Requester};
use crate::dht::io::{ConnectionId, RequestId};
use crate::error::RequestError;
use crate::event::QueryId;
use crate::message::{MessageType, Request};
use crate::stats::{ByMessageType, OutboundRequests};
use crate::time::{Duration, Instant};

/// That a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at: Instant,
    /// How long the program had stood still by then, in all.
    pub(super) stood_still: Duration,
    pub(super) on: ConnectionId,
}

/// Whether a request's time has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeStart {
    /// It is just being made.
    New,
    /// It waits for a place in this node, as its requester was told.
    Awaited,
    /// Something was done towards its peer.
    Begun,
}

/// A pending request: one without an outcome.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) to: PeerId,
    pub(super) requester: Requester,
    pub(super) request: Request,
    /// When it was sent, and on which connection; `None` while it waits.
    pub(super) sent: Option<Sent>,
    /// Whether a connection was lost with it.
    pub(super) retried: bool,
    /// Whether a connection that had brought nothing yet was lost with it.
    pub(super) sent_anew: bool,
    /// Whether its peer has refused it while it was asked too much at once.
    pub(super) refused: bool,
    start: TimeStart,
    deadline: Instant,
}

impl PendingRequest {
    /// Returns whether something was done towards its peer.
    pub(super) fn has_begun(&self) -> bool {
        self.start == TimeStart::Begun
    }

    /// Returns whether it was sent on a connection.
    pub(super) fn is_on(&self, connection: ConnectionId) -> bool {
        self.sent.is_some_and(|sent| sent.on == connection)
    }
}

/// All requests without an outcome.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Each in a place of its own, or the room for eleven would stay when there are none.
    pending: BTreeMap<RequestId, Box<PendingRequest>>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    by_query: BTreeMap<QueryId, Vec<RequestId>>,
    next: u64,
    counts: ByMessageType<OutboundRequests>,
}

impl Requests {
    pub(super) fn add(
        &mut self,
        to: PeerId,
        requester: Requester,
        request: Request,
        deadline: Instant,
    ) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        self.counts.of_mut(request.message_type()).started += 1;
        self.deadlines.insert((deadline, id));
        if let Requester::Query(query, _) = requester {
            self.by_query.entry(query).or_default().push(id);
        }
        let pending = PendingRequest {
            to,
            requester,
            request,
            sent: None,
            retried: false,
            sent_anew: false,
            refused: false,
            start: TimeStart::New,
            deadline,
        };
        self.pending.insert(id, Box::new(pending));
        id
    }

    /// A request has been made. Returns whether it waits for a place.
    pub(super) fn made(&mut self, id: RequestId) -> bool {
        let Some(pending) = self.get_mut(id).filter(|pending| pending.start == TimeStart::New) else {
            return false;
        };
        pending.start = TimeStart::Awaited;
        true
    }

    /// Something is done towards the peer of a request: it has until `deadline`. Returns it if its requester is to be told.
    pub(super) fn begin(&mut self, id: RequestId, deadline: Instant) -> Option<&PendingRequest> {
        let pending = self.pending.get_mut(&id)?;
        let was = std::mem::replace(&mut pending.start, TimeStart::Begun);
        if was != TimeStart::Awaited {
            return None;
        }
        self.deadlines.remove(&(pending.deadline, id));
        pending.deadline = deadline;
        self.deadlines.insert((deadline, id));
        Some(pending)
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns how many have begun and fail by `until`; walks those that fail by then.
    pub(super) fn overdue(&self, until: Instant) -> usize {
        let failing = self.deadlines.iter().take_while(|(at, _)| *at <= until);
        failing.filter(|(_, id)| self.get(*id).is_some_and(PendingRequest::has_begun)).count()
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&PendingRequest> {
        self.pending.get(&id).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut PendingRequest> {
        self.pending.get_mut(&id).map(Box::as_mut)
    }

    /// A request is not made, for this reason.
    pub(super) const fn refused(&mut self, kind: MessageType, error: RequestError) {
        let counts = self.counts.of_mut(kind);
        counts.started += 1;
        *counts.failed.of_mut(error) += 1;
    }

    /// A request goes out, for the first time or again.
    pub(super) fn send(&mut self, id: RequestId, sent: Sent) -> Option<&PendingRequest> {
        let pending = self.pending.get_mut(&id)?;
        pending.sent = Some(sent);
        self.counts.of_mut(pending.request.message_type()).sent += 1;
        Some(pending)
    }

    /// A request has its outcome.
    pub(super) fn end(
        &mut self,
        id: RequestId,
        result: &Result<Reply, RequestError>,
    ) -> Option<PendingRequest> {
        let pending = self.remove(id)?;
        let counts = self.counts.of_mut(pending.request.message_type());
        match result {
            Ok(reply) => {
                counts.succeeded += 1;
                if let Reply::Answer(_, rtt) = reply {
                    counts.latency.observe(*rtt);
                }
            }
            Err(error) => *counts.failed.of_mut(*error) += 1,
        }
        Some(pending)
    }

    /// A request has no outcome: nobody waits for it any more.
    pub(super) fn cancel(&mut self, id: RequestId) -> Option<PendingRequest> {
        let pending = self.remove(id)?;
        self.counts.of_mut(pending.request.message_type()).cancelled += 1;
        Some(pending)
    }

    fn remove(&mut self, id: RequestId) -> Option<PendingRequest> {
        let pending = *self.pending.remove(&id)?;
        self.deadlines.remove(&(pending.deadline, id));
        if let Requester::Query(query, _) = pending.requester
            && let Some(open) = self.by_query.get_mut(&query)
        {
            open.retain(|open| *open != id);
            if open.is_empty() {
                self.by_query.remove(&query);
            }
        }
        Some(pending)
    }

    /// Gives a request a new number: whatever is heard of the old one is of no concern any more.
    pub(super) fn renumber(&mut self, old: RequestId) -> Option<RequestId> {
        let pending = self.pending.remove(&old)?;
        let new = RequestId(self.next);
        self.next += 1;
        self.deadlines.remove(&(pending.deadline, old));
        self.deadlines.insert((pending.deadline, new));
        if let Requester::Query(query, _) = pending.requester {
            let open = self.by_query.entry(query).or_default();
            open.retain(|open| *open != old);
            open.push(new);
        }
        self.pending.insert(new, pending);
        Some(new)
    }

    /// Returns a request whose time is up.
    pub(super) fn expired(&self, now: Instant) -> Option<RequestId> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// Returns the requests of a query that wait to be sent.
    pub(super) fn unsent_of(&self, query: QueryId) -> Vec<RequestId> {
        let of_query = self.by_query.get(&query).into_iter().flatten();
        let unsent = |id: &&RequestId| self.get(**id).is_some_and(|pending| pending.sent.is_none());
        of_query.filter(unsent).copied().collect()
    }

    /// Returns what has become of all requests so far; walks those that have no outcome.
    pub(super) fn stats(&self) -> ByMessageType<OutboundRequests> {
        let mut stats = self.counts.clone();
        for pending in self.pending.values() {
            let of_kind = stats.of_mut(pending.request.message_type());
            *(if pending.sent.is_some() { &mut of_kind.in_flight } else { &mut of_kind.waiting }) += 1;
        }
        stats
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }
}
