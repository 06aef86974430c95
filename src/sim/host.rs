//! The host of a node: the node itself, its ends of connections, and what of it nobody else sees.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::connections::HostConnections;
use super::event_queue::Sender;
use super::measure::RunningLookup;
use super::service::Service;
use super::trace::Trace;
use crate::dht::{Dht, RequestId};
use crate::event::QueryId;
use crate::map::FastHash;
use crate::rng::Rng;
use crate::store::MemoryStore;
use crate::time::{Duration, Instant};

/// The host of a node. Only the shard that it belongs to touches it while time passes.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) dht: Option<Box<Dht<MemoryStore>>>,
    /// What is random about what it sends.
    pub(super) rng: Rng,
    pub(super) connections: HostConnections,
    pub(super) joined: bool,
    pub(super) wake_at: Option<Instant>,
    /// When it looks for connections that are idle.
    pub(super) idle_at: Option<Instant>,
    /// What has arrived and waits, where work takes time.
    pub(super) service: Service,
    /// The requests that it is answering: on which connection they came, whose they are, and how that calls them.
    pub(super) answering: IndexMap<u64, (u64, usize, RequestId), FastHash>,
    /// The lookups that run, of those that are watched.
    pub(super) lookups: BTreeMap<QueryId, RunningLookup>,
    trace: Trace,
    numbers: u64,
}

impl Host {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            dht: None,
            rng,
            connections: HostConnections::default(),
            joined: false,
            wake_at: None,
            idle_at: None,
            service: Service::new(),
            answering: IndexMap::default(),
            lookups: BTreeMap::new(),
            trace: Trace::default(),
            numbers: 0,
        }
    }

    /// Returns a number that it did not return before.
    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Returns the place of an event that it schedules among others of the same time.
    pub(super) fn sends(&mut self, n: usize) -> Sender {
        Sender::node(n, self.number())
    }

    /// Takes note of something that happens to it.
    pub(super) fn note(&mut self, since_start: Duration, what: u64, with: usize) {
        self.trace.note(since_start, what, with);
    }

    pub(super) const fn trace(&self) -> Trace {
        self.trace
    }
}
