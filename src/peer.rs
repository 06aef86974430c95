//! Peers as plain data: what is said of a peer in a message and in a result.
//!
//! Knows `addrs`; knows nothing of connections, tables or queries.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::Addresses;

/// A peer and the addresses at which it may be reached, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer.
    pub peer_id: PeerId,
    /// Its addresses, without a `/p2p` suffix; at most [`MAX_ADDRESSES`](crate::addrs::MAX_ADDRESSES).
    pub addrs: Vec<Multiaddr>,
}

/// A peer as a message names it: to be asked, or as a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KadPeer {
    /// The peer.
    pub node_id: PeerId,
    /// Its addresses; may be empty.
    pub multiaddrs: Addresses,
    /// What the sender of the message says of its own connection to the peer.
    pub connection_ty: ConnectionType,
}

/// What the sender of a message says of its own connection to a peer. A hint; nothing is decided by it.
///
/// # Spec
/// libp2p kad-dht, "RPC messages". An unknown number reads as [`NotConnected`](Self::NotConnected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ConnectionType {
    /// The sender has no connection to the peer and knows nothing more.
    #[default]
    NotConnected,
    /// The sender has a live connection to the peer.
    Connected,
    /// The sender was recently connected to the peer.
    CanConnect,
    /// The sender recently failed to connect to the peer.
    CannotConnect,
}

impl From<KadPeer> for PeerInfo {
    fn from(peer: KadPeer) -> Self {
        Self { peer_id: peer.node_id, addrs: peer.multiaddrs.into_vec() }
    }
}
