//! How much may wait: bytes of half messages of a connection, of answers of a connection and of the node; requests of the node.
//!
//! Knows numbers only. Each part of a sum says how much it holds; the sum says whether there is room for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use super::wakeup::Wakeup;

/// The requests of one connection.
#[derive(Debug, Default)]
struct OwnRequests {
    count: AtomicUsize,
    wakeup: Wakeup,
}

/// The requests that were read and that the node has not looked at yet: of all connections, and of one of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Unserved {
    all: Arc<AtomicUsize>,
    own: Arc<OwnRequests>,
}

impl Unserved {
    /// Returns those of another connection, which has none yet.
    pub(super) fn of_connection(&self) -> Self {
        Self { all: self.all.clone(), own: Arc::default() }
    }

    /// Adds a request: it is there until what is returned is dropped.
    pub(super) fn add(&self) -> UnservedRequest {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.own.count.fetch_add(1, Ordering::Relaxed);
        UnservedRequest(self.clone())
    }

    /// Returns how many there are in all.
    pub(super) fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Returns how many there are of this connection.
    pub(super) fn own(&self) -> usize {
        self.own.count.load(Ordering::Relaxed)
    }

    /// The task is woken when the node looks at a request of this connection.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let _ = self.own.wakeup.wait(cx);
    }
}

/// A request that the node has not looked at yet, as long as it lives.
#[derive(Debug)]
pub struct UnservedRequest(Unserved);

impl Drop for UnservedRequest {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
        self.0.own.count.fetch_sub(1, Ordering::Relaxed);
        self.0.own.wakeup.wake();
    }
}

/// The bytes that the answers of all connections hold together.
#[derive(Clone, Debug)]
pub(super) struct NodeBuffer {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl NodeBuffer {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: Arc::default(), limit }
    }

    /// Returns the part of a connection, which holds nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { node: self.clone(), held: 0 }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The share of one connection in the node's buffer: what its answers hold; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    node: NodeBuffer,
    held: usize,
}

impl Share {
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    pub(super) fn set(&mut self, bytes: usize) {
        if bytes >= self.held {
            self.node.used.fetch_add(bytes - self.held, Ordering::Relaxed);
        } else {
            self.node.used.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
    }

    /// Returns whether the node has room for more.
    pub(super) fn has_room(&self) -> bool {
        self.node.used.load(Ordering::Relaxed) < self.node.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The bytes that incomplete messages of a connection may hold, large ones only.
///
/// A message takes its whole length before more than its beginning is read, and so can always be read to its end; a message
/// that finds no room waits until another is complete. One message always has budget.
#[derive(Debug)]
pub(super) struct ReadBudget {
    taken: usize,
    limit: usize,
    /// How much was reserved when a message was last refused.
    refused_at: Option<usize>,
    /// How many bytes were read and written, whatever they were of, since that was told last.
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl ReadBudget {
    pub(super) const fn new(limit: usize) -> Self {
        Self { taken: 0, limit, refused_at: None, received: 0, sent: 0 }
    }

    /// Begins a round over all streams, which have taken so much together.
    pub(super) const fn begin(&mut self, taken: usize) {
        self.taken = taken;
        self.refused_at = None;
    }

    /// Reserves the bytes of a message, or returns `false`.
    pub(super) const fn reserve(&mut self, bytes: usize) -> bool {
        let has_room = self.taken == 0 || self.taken.saturating_add(bytes) <= self.limit;
        if has_room {
            self.taken += bytes;
        } else {
            self.refused_at = Some(self.taken);
        }
        has_room
    }

    pub(super) const fn release(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
    }

    /// Returns whether a message was refused in this round that may have room with so much reserved.
    pub(super) fn may_retry(&self, taken: usize) -> bool {
        self.refused_at.is_some_and(|then| taken < then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_holds_is_given_back_with_it() {
        let node = NodeBuffer::new(100);
        let (mut one, mut two) = (node.share(), node.share());
        one.set(60);
        assert!(two.has_room());
        two.set(50);
        assert_eq!((node.used(), two.held(), one.has_room()), (110, 50, false));
        drop(one);
        assert!(two.has_room());
        two.set(10);
        assert_eq!(node.used(), 10);
        drop(two);
        assert_eq!(node.used(), 0);
    }

    #[test]
    fn one_message_always_has_room_and_whoever_is_refused_may_retry_when_less_is_taken() {
        let mut budget = ReadBudget::new(100);
        assert!(budget.reserve(150), "the only one");
        assert!(!budget.reserve(1));
        assert!(!budget.may_retry(150) && budget.may_retry(149));
        budget.release(150);
        assert!(budget.reserve(60) && budget.reserve(40) && !budget.reserve(1));
        budget.begin(100);
        assert!(!budget.may_retry(0), "nobody was refused in this round");
    }
}
