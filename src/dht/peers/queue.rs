//! The requests to one peer: those that wait, and those in flight.
//!
//! Knows their numbers, and the pace at which they go.

use std::collections::VecDeque;

use super::pace::Pace;
use crate::dht::io::RequestId;
use crate::time::Instant;

/// How many requests to one peer are in flight at once. Chosen, not measured: four streams of eight.
pub(super) const MAX_IN_FLIGHT: usize = 32;

/// The requests to one peer, in order. Takes a word of memory while there are none, as there are to most peers.
#[derive(Debug, Default)]
pub(super) struct Queue(Option<Box<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<RequestId>,
    in_flight: Vec<RequestId>,
    /// Of a peer that has refused some lately.
    pace: Option<Pace>,
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestRefusal {
    /// The peer does not answer this.
    Final,
    /// It was asked too much at once, and has answered other requests since.
    Busy,
    /// It was asked too much at once: the request waits, and is sent again after a pause.
    Again,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|lines| lines.is_empty())
    }

    pub(super) fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |lines| lines.waiting.len())
    }

    /// Iterates over those that wait, in order.
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = RequestId> {
        self.0.iter().flat_map(|lines| lines.waiting.iter().copied())
    }

    pub(super) fn push_back(&mut self, id: RequestId) {
        self.0.get_or_insert_default().waiting.push_back(id);
    }

    pub(super) fn push_front(&mut self, id: RequestId) {
        self.0.get_or_insert_default().waiting.push_front(id);
    }

    /// Moves the first that waits to those in flight, if there is room for it.
    pub(super) fn send_next(&mut self, now: Instant) -> Option<RequestId> {
        self.change(|lines| {
            let width =
                lines.pace.as_ref().map_or(Some(MAX_IN_FLIGHT), |pace| pace.width(now, MAX_IN_FLIGHT));
            if width.is_none() {
                lines.pace = None;
            }
            if lines.in_flight.len() >= width.unwrap_or(MAX_IN_FLIGHT) {
                return None;
            }
            let id = lines.waiting.pop_front()?;
            lines.in_flight.push(id);
            Some(id)
        })
    }

    /// A request in flight was refused that was sent then; `is_again` if it had been refused before. With others in flight, or while
    /// the pace is slow, that is taken as too much at once.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        id: RequestId,
        sent: Instant,
        is_again: bool,
    ) -> RequestRefusal {
        let Some(lines) = self.0.as_deref_mut().filter(|lines| lines.in_flight.contains(&id)) else {
            return RequestRefusal::Final;
        };
        let in_flight = lines.in_flight.len();
        if let Some(pace) = &mut lines.pace {
            let has_answered = pace.refused(now, sent);
            if is_again {
                return if has_answered { RequestRefusal::Busy } else { RequestRefusal::Final };
            }
        } else if in_flight == 1 || is_again {
            return RequestRefusal::Final;
        }
        lines.pace.get_or_insert_with(|| Pace::new(now, in_flight));
        lines.in_flight.retain(|sent| *sent != id);
        lines.waiting.push_front(id);
        RequestRefusal::Again
    }

    /// Returns until when nothing is sent because the peer has refused something.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        let pace = self.0.as_ref()?.pace.as_ref()?;
        Some(pace.goes_on()).filter(|at| *at > now)
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.change(|lines| {
            lines.pace.take_if(|pace| pace.answered(MAX_IN_FLIGHT));
        });
    }

    pub(super) fn remove(&mut self, id: RequestId) {
        self.change(|lines| {
            lines.waiting.retain(|waiting| *waiting != id);
            lines.in_flight.retain(|sent| *sent != id);
        });
    }

    pub(super) fn take_waiting(&mut self) -> VecDeque<RequestId> {
        self.change(|lines| std::mem::take(&mut lines.waiting))
    }

    /// Adds one that is sent without having waited.
    pub(super) fn push_in_flight(&mut self, id: RequestId) {
        self.0.get_or_insert_default().in_flight.push(id);
    }

    /// Takes those in flight that are concerned.
    pub(super) fn take_in_flight(&mut self, concerns: impl Fn(RequestId) -> bool) -> Vec<RequestId> {
        self.change(|lines| {
            let (taken, left) = lines.in_flight.iter().partition(|id| concerns(**id));
            lines.in_flight = left;
            taken
        })
    }

    fn change<T: Default>(&mut self, change: impl FnOnce(&mut Lines) -> T) -> T {
        let changed = self.0.as_deref_mut().map(change).unwrap_or_default();
        self.0.take_if(|lines| lines.is_empty() && lines.pace.is_none());
        changed
    }
}
