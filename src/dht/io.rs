//! What goes into the node and what comes out of it.
//!
//! Plain data: past tense for what has happened outside, imperative for what is to be done there.

use std::collections::VecDeque;
use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::error::RequestError;
use crate::event::{Mode, Notice};
use crate::message::{Request, Response};
use crate::record::RecordKey;
use crate::store::Progress;
use crate::time::Instant;

/// The number of a request of this node, unique within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    /// Makes a number for drivers' own tests; the node gives out its own.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// The number that the driver gives to a connection. It gives none twice, and rising ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The number of a dial of this node, unique within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub(super) u64);

/// The number that the driver gives to a request of another peer, so that it knows where the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundId(pub u64);

/// Something that has happened outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A connection to a peer is there, whichever end has dialled it; there may be others. Told again of one that is there, its
    /// address has changed.
    Connected {
        /// The peer.
        peer: PeerId,
        /// The connection.
        connection: ConnectionId,
        /// Where the other end is: the address that was dialled, or the one the peer came from.
        address: Multiaddr,
        /// Where that has turned out to be, if it is known of a name that was dialled: the peer counts there.
        located: Option<Multiaddr>,
        /// Whether this node dialled, so that the address can be dialled again.
        dialled: bool,
        /// The dial of this node that led to it.
        dial: Option<DialId>,
    },
    /// A connection to a peer is gone, with all that was on it. Of one that the node has closed it need not be told.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// The connection.
        connection: ConnectionId,
    },
    /// A dial has failed: one of this node, or one that another part of the program made to a peer.
    DialFailed {
        /// The dial of this node.
        dial: Option<DialId>,
        /// The peer, if it was known.
        peer: Option<PeerId>,
        /// What happened.
        error: DialFailure,
    },
    /// A trustworthy source has said where a peer can be reached.
    AddressesLearned {
        /// The peer.
        peer: PeerId,
        /// The addresses.
        addresses: Vec<Multiaddr>,
    },
    /// A source has said that a peer serves the protocol, as a rule the peer itself.
    ProtocolConfirmed {
        /// The peer.
        peer: PeerId,
    },
    /// Negotiation has shown that a peer does not serve the protocol, or no longer.
    ProtocolUnsupported {
        /// The peer.
        peer: PeerId,
    },
    /// A source has said that a peer does not serve the protocol, or no longer. One that is in the table is asked at once,
    /// and what comes of that decides; a stranger is not asked unless something is wanted of it.
    ProtocolDoubted {
        /// The peer.
        peer: PeerId,
    },
    /// The addresses of this node have changed; both lists are whole.
    LocalAddresses {
        /// Where the node can be reached from outside, confirmed.
        external: Vec<Multiaddr>,
        /// Where the node listens.
        listening: Vec<Multiaddr>,
    },
    /// A peer asks something.
    RequestReceived {
        /// The peer.
        from: PeerId,
        /// The connection on which it asks.
        connection: ConnectionId,
        /// The driver's number of the request.
        id: InboundId,
        /// What is asked.
        request: Request,
    },
    /// A request that is not answered has been sent: its bytes are out, and the peer speaks the protocol.
    RequestSent {
        /// The request.
        id: RequestId,
    },
    /// A request has been answered.
    ResponseReceived {
        /// The request.
        id: RequestId,
        /// The answer.
        response: Response,
    },
    /// A request will not be answered. If its connection is gone, [`Disconnected`](Self::Disconnected) alone says so.
    RequestFailed {
        /// The request.
        id: RequestId,
        /// What happened.
        error: RequestError,
    },
    /// A peer has no room for what this node has announced to it, as servers say that are configured to.
    AnnouncementRejected {
        /// The peer.
        peer: PeerId,
        /// The key.
        key: RecordKey,
    },
    /// The store has come further with making changes survive a crash: what it says of its [`Progress`] is not what it said
    /// last. To be looked for whenever the store calls for it; see [`RecordStore::on_progress`](crate::store::RecordStore::on_progress).
    StoreAdvanced {
        /// What it says now.
        progress: Progress,
    },
}

/// Why a dial has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialFailure {
    /// Nobody answered at any address. Those that this node has no transport for are named.
    Unreachable {
        /// Addresses that cannot be dialled at all.
        unsupported: Vec<Multiaddr>,
        /// Why nobody did at the last of the others.
        why: Unreached,
    },
    /// Another peer answered.
    WrongPeer {
        /// Where.
        address: Multiaddr,
        /// The peer.
        met: PeerId,
    },
    /// This node itself answered at the address.
    Own {
        /// Where.
        address: Multiaddr,
    },
    /// This program has aborted the attempt.
    Refused,
    /// This program does not let it through, before it began or as soon as it was done: a limit, a block list.
    Denied,
    /// There is a connection already, or another part of the program is dialling the peer.
    UnderWay,
    /// There was no address to dial.
    NoAddresses,
}

/// Why nobody was reached at an address, as far as the transport tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreached {
    /// Nobody has answered in time.
    #[default]
    Silent,
    /// The machine is there, but nobody listens at the port.
    Refused,
    /// The name in the address could not be resolved, with what the transport says.
    NotResolved(Arc<str>),
    /// Something else, with what the transport says.
    Other(Arc<str>),
}

impl DialFailure {
    /// Makes the failure of a dial at whose addresses nobody answered, all of which could be dialled.
    pub const fn unreachable(why: Unreached) -> Self {
        Self::Unreachable { unsupported: Vec::new(), why }
    }

    /// Returns what the failure means for a request that waited for the dial.
    pub(super) const fn request_error(&self) -> RequestError {
        match self {
            Self::Unreachable { .. } | Self::WrongPeer { .. } => RequestError::Unreachable,
            Self::Refused | Self::Denied | Self::Own { .. } | Self::UnderWay => RequestError::DialRefused,
            Self::NoAddresses => RequestError::NoAddresses,
        }
    }
}

/// Something to do outside, or an `E` to tell the application.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Output<E> {
    /// Connect to a peer, perhaps beside another dial to it. It is never taken back; success counts however late.
    Dial {
        /// The number under which the outcome is reported.
        id: DialId,
        /// The peer; `None` if it is whichever peer is at the address.
        peer: Option<PeerId>,
        /// Where; empty if only others may know.
        addresses: Vec<Multiaddr>,
        /// Whether to do so though there is a connection, which may be dead.
        beside: bool,
    },
    /// Close a connection through which nothing comes. It counts as gone from now on.
    CloseConnection {
        /// The peer.
        peer: PeerId,
        /// The connection.
        connection: ConnectionId,
    },
    /// Send a request to a connected peer, and report what comes of it. If the connection is gone already,
    /// [`Input::Disconnected`] says so.
    SendRequest {
        /// The peer.
        to: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// The number under which the outcome is reported.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// Nobody waits for the answer to this request any more, since its time is up. Its stream ends.
    CancelRequest {
        /// The peer.
        to: PeerId,
        /// On which connection it was sent.
        connection: ConnectionId,
        /// The request.
        id: RequestId,
    },
    /// Answer a request.
    SendResponse {
        /// The peer.
        to: PeerId,
        /// The driver's number of the request.
        id: InboundId,
        /// The answer.
        response: Response,
    },
    /// Take a request that is not answered as done: its stream goes on.
    AcceptRequest {
        /// The peer.
        to: PeerId,
        /// The driver's number of the request.
        id: InboundId,
    },
    /// Refuse a request: end its stream when earlier answers are out. The protocol has no error answer.
    RefuseRequest {
        /// The peer.
        to: PeerId,
        /// The driver's number of the request.
        id: InboundId,
    },
    /// Keep a connection open though nobody uses it, or no longer.
    KeepAlive {
        /// The peer.
        peer: PeerId,
        /// The connection.
        connection: ConnectionId,
        /// Whether to keep it.
        keep: bool,
    },
    /// Serve others from now on, or stop it and end their streams.
    SetMode(Mode),
    /// Tell other parts of the program where a peer can be reached.
    AnnounceAddresses {
        /// The peer.
        peer: PeerId,
        /// Its addresses.
        addresses: crate::addrs::Addresses,
    },
    /// Tell the application.
    Event(E),
}

/// An output as it waits to be taken.
pub(super) type Queued = Output<Notice>;

/// The outputs that wait to be taken.
pub(super) type Outputs = VecDeque<Queued>;

/// Room for so many is kept in a queue while it is empty (chosen, not measured).
const KEPT: usize = 4;

/// Takes the first out of a queue of what waits to be taken; a burst leaves no large buffer behind.
pub(super) fn take_first<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if queue.is_empty() && queue.capacity() > KEPT {
        queue.shrink_to(KEPT);
    }
    first
}

impl<E> Output<E> {
    /// Returns the output with another event in the place of its own, if it is one; `None` if there is none.
    pub(super) fn with_event<T>(self, other: impl FnOnce(E) -> Option<T>) -> Option<Output<T>> {
        Some(match self {
            Self::Dial { id, peer, addresses, beside } => Output::Dial { id, peer, addresses, beside },
            Self::CloseConnection { peer, connection } => Output::CloseConnection { peer, connection },
            Self::SendRequest { to, connection, id, request } => {
                Output::SendRequest { to, connection, id, request }
            }
            Self::CancelRequest { to, connection, id } => Output::CancelRequest { to, connection, id },
            Self::SendResponse { to, id, response } => Output::SendResponse { to, id, response },
            Self::AcceptRequest { to, id } => Output::AcceptRequest { to, id },
            Self::RefuseRequest { to, id } => Output::RefuseRequest { to, id },
            Self::KeepAlive { peer, connection, keep } => Output::KeepAlive { peer, connection, keep },
            Self::SetMode(mode) => Output::SetMode(mode),
            Self::AnnounceAddresses { peer, addresses } => Output::AnnounceAddresses { peer, addresses },
            Self::Event(event) => Output::Event(other(event)?),
        })
    }
}

/// A deadline: when the node wants to be called, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The time at which to call [`handle_timeout`](super::Dht::handle_timeout).
    pub at: Instant,
    /// What is due then, for diagnostics.
    pub reason: &'static str,
}
