//! Where [`Command`](crate::Command) was in 0.1.

/// A command: begins a query.
#[deprecated(since = "0.2.0", note = "`libp2p_kademlia::Command`")]
pub type Command = crate::dht::op::Command;
