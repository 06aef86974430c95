//! Peers as plain data: what is said of a peer in a message and in a result.
//!
//! Knows `addrs`; knows nothing of connections, tables or queries.

use libp2p_core::Multiaddr;
use libp2p_core::multihash::Multihash;
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

/// A connection type: what the sender of a message says of its own connection to a peer. A hint; nothing is decided by it.
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

/// A peer id in 48 bytes instead of 80, for what is kept of thousands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackedPeerId(Packed);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Packed {
    /// Code and digest of a multihash; beyond its length the digest is zero.
    Usual { code: u8, len: u8, digest: [u8; USUAL_DIGEST] },
    /// A digest that no key has, but that an id may claim.
    Unusual(Box<PeerId>),
}

/// The longest digest of an id that was made from a key: of an inlined key (libp2p peer-ids, "Peer Ids").
const USUAL_DIGEST: usize = 42;

impl From<&PeerId> for PackedPeerId {
    fn from(peer: &PeerId) -> Self {
        let (multihash, mut digest) = (peer.as_ref(), [0; USUAL_DIGEST]);
        let bytes = multihash.digest();
        Self(
            match (u8::try_from(multihash.code()), u8::try_from(bytes.len()), digest.get_mut(..bytes.len())) {
                (Ok(code), Ok(len), Some(place)) => {
                    place.copy_from_slice(bytes);
                    Packed::Usual { code, len, digest }
                }
                _ => Packed::Unusual(Box::new(*peer)),
            },
        )
    }
}

impl PackedPeerId {
    /// Returns the id as it was.
    #[expect(clippy::expect_used, reason = "what was taken out of an id makes one")]
    pub(crate) fn unpacked(&self) -> PeerId {
        match &self.0 {
            Packed::Usual { code, len, digest } => {
                let digest = digest.get(..usize::from(*len)).unwrap_or_default();
                let multihash = Multihash::wrap((*code).into(), digest).ok();
                multihash.and_then(|hash| PeerId::from_multihash(hash).ok()).expect("packed from an id")
            }
            Packed::Unusual(peer) => **peer,
        }
    }

    /// Returns whether it is this id.
    pub(crate) fn is(&self, peer: &PeerId) -> bool {
        match &self.0 {
            Packed::Usual { code, len, digest } => {
                let multihash = peer.as_ref();
                digest.get(..usize::from(*len)) == Some(multihash.digest())
                    && multihash.code() == u64::from(*code)
            }
            Packed::Unusual(own) => **own == *peer,
        }
    }
}

impl From<KadPeer> for PeerInfo {
    fn from(peer: KadPeer) -> Self {
        Self { peer_id: peer.node_id, addrs: peer.multiaddrs.into_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_unpacked_as_it_was() {
        let digests = [(0x12, 32), (0, 36), (0, 42), (0, 0), (0x12, 42), (0x12, 43), (0x12, 64), (0x12, 0)];
        let ids = digests.map(|(code, len)| {
            let digest: Vec<u8> = (0..len).map(|n| n ^ 0xa5).collect();
            PeerId::from_multihash(Multihash::wrap(code, &digest).unwrap()).unwrap()
        });
        for id in &ids {
            let packed = PackedPeerId::from(id);
            assert_eq!(packed.unpacked(), *id);
            for other in &ids {
                assert_eq!(packed.is(other), id == other, "{id} {other}");
                assert_eq!(packed == PackedPeerId::from(other), id == other, "{id} {other}");
            }
        }
        assert_eq!(size_of::<PackedPeerId>(), 48);
    }
}
