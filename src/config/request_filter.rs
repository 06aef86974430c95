//! The request filter: the application's word on each request of others before it is served.
//!
//! Knows what a request says of itself; what it is served from is not its affair.

use std::net::IpAddr;
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::message::MessageType;
use crate::time::SystemTime;

/// A request of another peer, as a [`RequestFilter`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OfferedRequest<'a> {
    /// Who asks.
    pub from: &'a PeerId,
    /// The IP address from which it is connected, if that is known: of one behind a relay, or that was dialled by a name, it is not.
    pub ip: Option<IpAddr>,
    /// What is asked.
    pub kind: MessageType,
    /// The key that it is about; a ping is about none.
    pub key: Option<&'a [u8]>,
}

/// The verdict on a request: what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestVerdict {
    /// It is served.
    Allow,
    /// It is refused: its stream ends.
    Refuse,
    /// It is refused, and its sender is banned from now on; see [`ban`](crate::Behaviour::ban).
    Ban {
        /// Until when, if not for good.
        until: Option<SystemTime>,
        /// Why.
        why: String,
    },
}

/// Decides about each request of others, before it is looked at. It is called where the node runs and must be quick.
pub type RequestFilter = Arc<dyn Fn(&OfferedRequest<'_>) -> RequestVerdict + Send + Sync>;
