//! The streams of a connection without a swarm, for the fuzz targets.

use std::task::{Context, Poll};

use super::streams::{self, Streams};
use crate::config::Config;
use crate::dht::RequestId;
use crate::error::RequestError;
use crate::event::Mode;
use crate::net::limits::ConnectionLimits;
use crate::net::shared::Shared;
use crate::time::Instant;

pub use super::script::Script;
pub use crate::net::messages::{FromHandler, OutboundRequest, Purpose, ToHandler};

/// An action that the connection wants done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is handed on at once")]
pub enum DoorAction {
    /// The behaviour is told something.
    Tell(FromHandler),
    /// A stream is opened.
    Open(Purpose),
}

/// What answers may hold on all connections.
#[derive(Clone, Debug)]
pub struct DoorNode(Shared);

impl DoorNode {
    /// Makes a node that holds as much as is configured.
    pub fn new(config: &Config) -> Self {
        Self(Shared::new(config.limits.max_node_buffer.get()))
    }

    /// Returns how much is held.
    pub fn held(&self) -> usize {
        self.0.buffer.used()
    }
}

/// The streams of one connection of a server.
#[derive(Debug)]
pub struct DoorConnection(Streams<Script>);

impl DoorConnection {
    /// Makes a connection without streams.
    pub fn new(config: &Config, node: &DoorNode, now: Instant) -> Self {
        Self(Streams::new(ConnectionLimits::from(config), Mode::Server, 1, &node.0, now))
    }

    /// Tells it something.
    pub fn take(&mut self, event: ToHandler) {
        self.0.take(event);
    }

    /// The peer has opened a stream.
    pub fn accept(&mut self, stream: Script, now: Instant) {
        self.0.accept(stream, now);
    }

    /// A stream that was wanted is open.
    pub fn opened(&mut self, purpose: Purpose, stream: Script, now: Instant) {
        self.0.opened(purpose, stream, now);
    }

    /// A stream that was wanted could not be opened.
    pub fn opening_failed(&mut self, purpose: Purpose, error: RequestError) {
        self.0.opening_failed(purpose, error);
    }

    /// The peer has said whether it speaks the protocol.
    pub fn set_supported(&mut self, supported: bool) {
        self.0.set_supported(supported);
    }

    /// Moves everything on.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<DoorAction> {
        self.0.poll(cx, now).map(|step| match step {
            streams::Action::Tell(event) => DoorAction::Tell(event),
            streams::Action::Open(purpose) => DoorAction::Open(purpose),
        })
    }

    /// Returns when it is to be polled again though nothing has happened.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }

    /// Ends what is overdue.
    pub fn on_timeout(&mut self, now: Instant) {
        self.0.on_timeout(now);
    }

    /// Returns the next of what is to be told as the connection goes down.
    pub fn close(&mut self) -> Option<FromHandler> {
        self.0.close()
    }

    /// Returns the requests without an outcome, which go down with the connection, and forgets them.
    pub fn take_all(&mut self) -> Vec<RequestId> {
        self.0.take_all()
    }

    /// Returns what answers hold that wait or are to come, and what half messages hold.
    pub fn held(&self) -> (usize, usize) {
        self.0.held()
    }
}
