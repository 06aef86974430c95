//! The requests to one peer: those that wait, and those in flight.
//!
//! Knows their numbers only.

use std::collections::VecDeque;

use crate::dht::io::RequestId;

/// The requests to one peer, in order. Takes a word of memory while there are none, as there are to most peers.
#[derive(Debug, Default)]
pub(super) struct Queue(Option<Box<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<RequestId>,
    in_flight: Vec<RequestId>,
}

impl Queue {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
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

    /// Moves the first that waits to those in flight, if fewer than `max` are.
    pub(super) fn send_next(&mut self, max: usize) -> Option<RequestId> {
        let lines = self.0.as_deref_mut().filter(|lines| lines.in_flight.len() < max)?;
        let id = lines.waiting.pop_front()?;
        lines.in_flight.push(id);
        Some(id)
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
        self.0.take_if(|lines| lines.waiting.is_empty() && lines.in_flight.is_empty());
        changed
    }
}
