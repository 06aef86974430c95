//! Outcomes: for whom requests and dials are made, and what came of them.

use libp2p_identity::PeerId;

use crate::dht::io::DialFailure;
use crate::error::RequestError;
use crate::event::QueryId;
use crate::key::Key;
use crate::message::Response;
use crate::query::lookup::Place;
use crate::time::Duration;

/// The requester: for whom a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Requester {
    /// A query, and which of its lookups.
    Query(QueryId, u16),
    /// The check of a stranger.
    Check,
    /// The probe of a peer of the table.
    Probe,
    /// A connection, to see whether anything comes through it.
    Liveness,
}

/// Whether a request is made though the peer failed lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Urgency {
    /// Not before its back-off is over.
    Patient,
    /// At once.
    Forced,
}

/// What has become of the place of a request of a query.
#[derive(Clone, Copy, Debug)]
pub(in crate::dht) struct Placed {
    pub(in crate::dht) query: QueryId,
    pub(in crate::dht) lookup: u16,
    pub(in crate::dht) to: PeerId,
    pub(in crate::dht) place: Place,
}

/// What came of a request that did not fail.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "used up as soon as it is made")]
pub(in crate::dht) enum Reply {
    /// The answer and the time it took since the request was sent.
    Answer(Response, Duration),
    /// It was sent; nothing is answered.
    Sent,
}

/// What came of a request.
#[derive(Debug)]
pub(in crate::dht) struct Outcome {
    pub(in crate::dht) requester: Requester,
    pub(in crate::dht) peer: PeerId,
    pub(in crate::dht) key: Key,
    pub(in crate::dht) result: Result<Reply, RequestError>,
}

/// The outcome of dialling an address without knowing who is there.
#[derive(Debug)]
pub(in crate::dht) struct AddressOutcome {
    pub(in crate::dht) query: QueryId,
    pub(in crate::dht) result: Result<PeerId, DialFailure>,
}
