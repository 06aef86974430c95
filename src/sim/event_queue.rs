//! The event queue of a shard: what happens to its nodes, and when.
//!
//! Knows events as values; what one does the shard decides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dht::{DialId, Input, RequestId};
use crate::message::{Request, Response};
use crate::time::Instant;

/// An event of a node. `link` is the number of a connection, `life` counts the lives of a node.
#[derive(Debug)]
pub(super) enum SimEvent {
    /// Its deadline comes.
    Wake,
    /// It has done its work on the first thing that waits for it, unless its life is over.
    Served { life: u32 },
    /// It is told something, unless its life is over.
    Input { life: u32, input: Box<Input> },
    /// A dial of it reaches the node it was to reach.
    Dialled { life: u32, dial: DialId, to: usize },
    /// Another has dialled it, and is connected.
    Opened { link: u64, by: usize },
    /// A request arrives.
    Request { link: u64, from: usize, id: RequestId, request: Box<Request> },
    /// A request of it that is not answered is out.
    Sent { link: u64, to: usize, id: RequestId },
    /// A response arrives, or the end of a stream without one.
    Response { link: u64, from: usize, id: RequestId, response: Option<Box<Response>> },
    /// It learns by identify what another speaks, and where that is.
    Identified { link: u64, by: usize },
    /// It closes those of its connections that are idle.
    Idle,
    /// A connection of it is lost, and it notices.
    Lost { link: u64, other: usize },
}

/// What is to happen to which node.
#[derive(Debug)]
pub(super) struct ScheduledEvent {
    pub(super) at: Instant,
    pub(super) by: Sender,
    pub(super) to: usize,
    pub(super) event: SimEvent,
}

/// Who has scheduled an event: a node, or the world behind all of them; and the number that it gave to it.
///
/// Events of one time happen in this order, which no other node has a part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sender {
    pub(super) node: u32,
    pub(super) number: u64,
}

impl Sender {
    /// The world is none of the nodes.
    pub(super) const fn world(number: u64) -> Self {
        Self { node: u32::MAX, number }
    }

    pub(super) fn node(n: usize, number: u64) -> Self {
        Self { node: u32::try_from(n).unwrap_or(u32::MAX - 1), number }
    }
}

/// A clock and the events to come, by their time, and then by who has scheduled them and in what order.
///
/// # Bounds
/// Memory is that of the events to come; a place is used again when its event has happened.
#[derive(Debug)]
pub(super) struct EventQueue {
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, Sender, u32)>>,
    slots: Vec<Option<(usize, SimEvent)>>,
    free: Vec<u32>,
}

impl EventQueue {
    pub(super) const fn new(now: Instant) -> Self {
        Self { now, queue: BinaryHeap::new(), slots: Vec::new(), free: Vec::new() }
    }

    /// Returns the virtual time.
    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    /// Sets the virtual time.
    pub(super) const fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Schedules an event; one that is to happen in the past happens now.
    pub(super) fn schedule(&mut self, ScheduledEvent { at, by, to, event }: ScheduledEvent) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some((to, event));
        }
        self.queue.push(Reverse((at.max(self.now), by, slot)));
    }

    /// Returns when the next event happens.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// Returns whether so many events happen before `until`, as far as they are known now.
    pub(super) fn has_before(&self, until: Instant, count: usize) -> bool {
        let heap = self.queue.as_slice();
        // What is below an event in a heap is not earlier: only below those that count are others that do.
        let (mut found, mut below) = (0, vec![0]);
        while let Some(place) = below.pop().filter(|_| found < count) {
            if heap.get(place).is_some_and(|Reverse((at, ..))| *at < until) {
                found += 1;
                below.extend([2 * place + 1, 2 * place + 2]);
            }
        }
        found >= count
    }

    /// Takes out the next event, whose time it is then, and whom it happens to; only one that happens before `until`.
    pub(super) fn pop_before(&mut self, until: Instant) -> Option<(usize, SimEvent)> {
        if self.next_at()? >= until {
            return None;
        }
        let Reverse((at, _, slot)) = self.queue.pop()?;
        self.now = self.now.max(at);
        self.free.push(slot);
        self.slots.get_mut(slot as usize).and_then(Option::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Duration, start};

    #[test]
    fn events_happen_in_the_order_of_their_times_and_then_of_who_has_scheduled_them() {
        let at = |seconds| start() + Duration::from_secs(seconds);
        let mut queue = EventQueue::new(start());
        let wake = |seconds: u64, by: Sender, to: usize| {
            let event = SimEvent::Wake;
            ScheduledEvent { at: at(seconds), by, to, event }
        };
        queue.schedule(wake(2, Sender::node(7, 1), 0));
        queue.schedule(wake(1, Sender::node(7, 2), 1));
        queue.schedule(wake(2, Sender::node(3, 9), 2));
        queue.schedule(wake(2, Sender::world(1), 3));
        queue.schedule(wake(2, Sender::node(3, 8), 4));
        let mut order = Vec::new();
        while let Some((n, _)) = queue.pop_before(at(3)) {
            order.push((queue.now().saturating_duration_since(start()).as_secs(), n));
            if n == 1 {
                queue.schedule(wake(0, Sender::node(9, 1), 5));
            }
        }
        assert_eq!(order, [(1, 1), (1, 5), (2, 4), (2, 2), (2, 0), (2, 3)]);
        queue.schedule(wake(3, Sender::node(1, 1), 1));
        assert!(queue.pop_before(at(3)).is_none() && queue.pop_before(at(4)).is_some());
    }

    #[test]
    fn so_many_are_counted_as_happen_before_a_time() {
        let mut queue = EventQueue::new(start());
        for n in 0..100u64 {
            let (at, by) = (start() + Duration::from_secs(n * 37 % 100), Sender::world(n));
            queue.schedule(ScheduledEvent { at, by, to: 0, event: SimEvent::Wake });
        }
        let before = |seconds, count| queue.has_before(start() + Duration::from_secs(seconds), count);
        assert!(before(20, 20) && !before(20, 21) && before(0, 0) && !before(0, 1) && before(200, 100));
    }
}
