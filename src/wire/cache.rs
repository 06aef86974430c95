//! The cache of decoded peers: whom answers name again and again is decoded once.
//!
//! Knows bytes and what they read as. That it is there shows in nothing but what an answer costs.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use crate::map::FastHash;
use crate::peer::KadPeer;

/// How many peers are kept: 512. The answers to 32 lookups at once name some 640 of the closest. Chosen, not measured.
const SLOTS: usize = 512;

/// A peer of more bytes is not kept: 512. One with four addresses has some 150. Chosen, not measured.
const MAX_BYTES: usize = 512;

/// A cache of the peers that answers have named lately, shared by the streams of a node.
///
/// # What it decides
/// Whether a peer needs to be decoded, or was before from the very same bytes. A peer has one slot, by the hash of its bytes; it is
/// kept when it is named for the second time in a row there, so that what is named once costs no memory.
///
/// # Bounds
/// 512 peers, each of 512 bytes at most: some 100 kB as a rule, half a megabyte if peers name the longest there are. Nothing until an
/// answer is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerCache(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    hasher: FastHash,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// The hash of the bytes that were seen last.
    latest: u64,
    known: Option<Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    bytes: Box<[u8]>,
    peer: KadPeer,
}

impl PeerCache {
    /// Reads a list of peers, each as `decode` does.
    pub(super) fn read<'a>(
        &self,
        peers: impl Iterator<Item = &'a [u8]>,
        mut decode: impl FnMut(&'a [u8]) -> Option<KadPeer>,
        out: &mut Vec<KadPeer>,
    ) {
        // What another thread left there when it panicked is whole.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.extend(peers.filter_map(|bytes| slots.get_or_decode(bytes, &mut decode)));
    }
}

impl Slots {
    fn get_or_decode<'a>(
        &mut self,
        bytes: &'a [u8],
        decode: impl FnOnce(&'a [u8]) -> Option<KadPeer>,
    ) -> Option<KadPeer> {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let hash = self.hasher.hash_one(bytes);
        let place = usize::try_from(hash % (SLOTS as u64)).unwrap_or_default();
        let slot = self.slots.get_mut(place)?;
        if let Some(known) = slot.known.as_ref().filter(|known| *known.bytes == *bytes) {
            slot.latest = hash;
            return Some(known.peer.clone());
        }
        let peer = decode(bytes)?;
        if std::mem::replace(&mut slot.latest, hash) == hash && bytes.len() <= MAX_BYTES {
            slot.known = Some(Arc::new(Known { bytes: bytes.into(), peer: peer.clone() }));
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;
    use crate::addrs::Addresses;
    use crate::peer::ConnectionType;

    fn peer() -> KadPeer {
        KadPeer {
            node_id: PeerId::random(),
            multiaddrs: Addresses::empty(),
            connection_ty: ConnectionType::NotConnected,
        }
    }

    /// Returns how often the peers were decoded.
    fn decoded<'a>(slots: &mut Slots, peers: impl IntoIterator<Item = (&'a [u8], KadPeer)>) -> usize {
        let mut count = 0;
        for (bytes, peer) in peers {
            let read = slots.get_or_decode(bytes, |read| {
                assert_eq!(read, bytes);
                count += 1;
                Some(peer.clone())
            });
            assert_eq!(read, Some(peer));
        }
        count
    }

    #[test]
    fn a_peer_is_decoded_twice_and_no_more_and_its_bytes_decide() {
        let mut slots = Slots::default();
        let (first, second) = (peer(), peer());
        assert_eq!(decoded(&mut slots, vec![(&b"first"[..], first.clone()); 9]), 2);
        assert_eq!(decoded(&mut slots, vec![(&b"second"[..], second); 9]), 2);
        assert_eq!(decoded(&mut slots, [(&b"first"[..], first)]), 0);
        // Something else in its slot does not read as it.
        let all: Vec<[u8; 4]> = (0..100_000u32).map(u32::to_be_bytes).collect();
        let all: Vec<_> = all.iter().map(|bytes| (&bytes[..], peer())).collect();
        assert_eq!(decoded(&mut slots, all.iter().cloned()), all.len(), "each was there once");
    }

    #[test]
    fn what_cannot_be_read_or_is_long_is_not_kept_and_no_more_than_there_are_slots() {
        let mut slots = Slots::default();
        let long = [7; MAX_BYTES + 1];
        assert_eq!(decoded(&mut slots, vec![(&long[..], peer()); 1]), 1);
        for _ in 0..5 {
            assert_eq!(slots.get_or_decode(b"nobody", |_| None), None);
        }
        assert!(slots.slots.iter().all(|slot| slot.known.is_none()));
        for n in 0..10_000u32 {
            let one = peer();
            assert!(decoded(&mut slots, vec![(&n.to_be_bytes()[..], one); 3]) <= 2);
        }
        assert_eq!(slots.slots.len(), SLOTS);
    }
}
