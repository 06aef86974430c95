//! The event queue: a virtual clock, and what happens when.
//!
//! Knows events as values; what one does the world decides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dht::{DialId, Input, RequestId};
use crate::message::{Request, Response};
use crate::time::{Duration, Instant};

/// An event of the simulation. `link` is the number of a connection, `life` counts the lives of a node.
#[derive(Debug)]
pub(super) enum SimEvent {
    /// The deadline of a node comes.
    Wake(usize),
    /// A node has done its work on the first thing that waits for it, unless its life is over.
    Served { n: usize, life: u32 },
    /// A node is told something, unless its life is over.
    Input { to: usize, life: u32, input: Box<Input> },
    /// A dial reaches the node it was to reach.
    Dialled { from: usize, life: u32, dial: DialId, to: usize },
    /// A request arrives.
    Request { link: u64, from: usize, to: usize, id: RequestId, request: Box<Request> },
    /// A request that is not answered is out.
    Sent { link: u64, from: usize, to: usize, id: RequestId },
    /// A response arrives, or the end of a stream without one.
    Response { link: u64, from: usize, to: usize, id: RequestId, response: Option<Box<Response>> },
    /// A node learns by identify what another speaks, and where it is.
    Identified { link: u64, who: usize, by: usize },
    /// A connection is closed if it is idle.
    Idle { link: u64, a: usize, b: usize },
    /// A connection is lost, and both ends notice.
    Lost { link: u64, a: usize, b: usize },
    /// A node joins.
    Joins(usize),
    /// The session of a node ends.
    Leaves { who: usize, life: u32 },
}

/// The virtual clock and the events to come, by their time and then in the order in which they were scheduled.
///
/// # Bounds
/// Memory is that of the events to come; a place is used again when its event has happened.
#[derive(Debug)]
pub(super) struct EventQueue {
    origin: Instant,
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    slots: Vec<Option<SimEvent>>,
    free: Vec<usize>,
    numbers: u64,
}

impl EventQueue {
    pub(super) fn new(origin: Instant) -> Self {
        let (queue, slots, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { origin, now: origin, queue, slots, free, numbers: 0 }
    }

    /// Returns when virtual time began.
    pub(super) const fn origin(&self) -> Instant {
        self.origin
    }

    /// Returns the virtual time.
    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    /// Sets the virtual time.
    pub(super) const fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Returns a number that was not returned before.
    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Schedules an event; one that is to happen in the past happens now.
    pub(super) fn schedule(&mut self, at: Instant, event: SimEvent) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(event);
        }
        let number = self.number();
        self.queue.push(Reverse((at.max(self.now), number, slot)));
    }

    /// Schedules an event after a delay.
    pub(super) fn later(&mut self, delay: Duration, event: SimEvent) {
        self.schedule(self.now + delay, event);
    }

    /// Returns when the next event happens.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes out the next event, whose time it is then.
    pub(super) fn pop(&mut self) -> Option<SimEvent> {
        let Reverse((at, _, slot)) = self.queue.pop()?;
        self.now = at;
        self.free.push(slot);
        self.slots.get_mut(slot).and_then(Option::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    #[test]
    fn events_happen_in_the_order_of_their_times_and_then_of_their_scheduling() {
        let mut queue = EventQueue::new(start());
        for (seconds, n) in [(2, 0), (1, 1), (2, 2), (0, 3)] {
            queue.later(Duration::from_secs(seconds), SimEvent::Wake(n));
        }
        let mut order = Vec::new();
        while let Some(SimEvent::Wake(n)) = queue.pop() {
            order.push((queue.now().saturating_duration_since(queue.origin()).as_secs(), n));
            if n == 1 {
                queue.schedule(queue.origin(), SimEvent::Wake(4));
            }
        }
        assert_eq!(order, [(0, 3), (1, 1), (1, 4), (2, 0), (2, 2)]);
    }
}
