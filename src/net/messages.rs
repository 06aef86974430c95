//! The messages between the behaviour and the handlers of its connections.

use crate::dht::{InboundId, RequestId};
use crate::error::RequestError;
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::net::budget::UnservedRequest;
use crate::record::RecordKey;
use crate::stats::Transport;
use crate::time::Instant;

/// A request on its way to a stream: the value that the behaviour hands over is the one that waits, and is in flight.
#[derive(Debug)]
pub struct OutboundRequest {
    pub(super) id: RequestId,
    pub(super) request: Request,
    /// Whether a stream has ended with it: it is tried no third time.
    pub(super) is_retried: bool,
    /// Whether the node was told that it is out, as of a request that is not answered.
    pub(super) is_reported: bool,
}

impl OutboundRequest {
    /// Makes a request that was not tried yet.
    pub const fn new(id: RequestId, request: Request) -> Self {
        Self { id, request, is_retried: false, is_reported: false }
    }
}

/// A message of the behaviour to a handler.
#[derive(Debug)]
pub enum ToHandler {
    /// Send a request.
    Request(OutboundRequest),
    /// Cancel a request; its stream ends.
    Cancel(RequestId),
    /// Answer a request of the peer.
    Respond(InboundId, Response),
    /// Refuse a request of the peer.
    Refuse(InboundId),
    /// Keep the connection open though it is idle, or no longer.
    KeepAlive(bool),
    /// Serve from now on, or stop it.
    Mode(Mode),
}

/// A message of a handler to the behaviour.
#[derive(Debug)]
pub enum FromHandler {
    /// The peer asks something.
    RequestReceived(InboundId, Request, UnservedRequest),
    /// A request that is not answered is out.
    RequestSent(RequestId),
    /// The peer has no room for an announcement of a key.
    AnnouncementRejected(RecordKey),
    /// The peer has answered.
    ResponseReceived(RequestId, Response),
    /// The peer will not answer.
    RequestFailed(RequestId, RequestError),
    /// The peer is said to serve the protocol, or has shown that it does not.
    Protocol(bool),
    /// Another behaviour says that the peer does not serve the protocol, or no longer.
    Doubted,
}

/// An event for the behaviour, and what the connection has counted since the one before: so counting costs neither an event of its
/// own nor anything that tasks share. Without an event it goes when much has been counted, and when the connection ends.
#[derive(Debug)]
pub struct Told {
    pub event: Option<FromHandler>,
    /// When it happened: until the behaviour is told it waits.
    pub(super) at: Instant,
    pub(super) counts: Transport,
}

/// The purpose of a stream that this node opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To ask.
    Ask,
    /// To announce, which is not answered, to a peer that is known to speak the protocol.
    Announce,
    /// To announce to one that is not known to: its word is awaited.
    Introduce,
}

/// How many bits of an [`InboundId`] count the requests of one connection. Chosen, not measured: sixteen million requests,
/// of a trillion connections.
pub(super) const SEQUENCE_BITS: u32 = 24;

/// Returns the number of the connection that an inbound request came on.
pub(super) const fn connection_of(id: InboundId) -> u64 {
    id.0 >> SEQUENCE_BITS
}
