//! The cache of decoded peers: whom answers name again and again is decoded once.
//!
//! Knows bytes and what they read as. That it is there shows in nothing but what an answer costs.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use crate::map::FastHash;
use crate::peer::KadPeer;

/// How many peers are kept: 512. The answers to 32 lookups at once name some 640 of the closest. Chosen, not measured.
const SLOTS: usize = 512;

/// A peer of more bytes is not kept: 256. One with four addresses has some 150. Chosen, not measured.
const MAX_BYTES: usize = 256;

/// A cache of the peers that answers have named lately, shared by the streams of a node.
///
/// # What it decides
/// Whether a peer needs to be decoded, or was before from the very same bytes. A peer has one slot, by the hash of its bytes; it is
/// kept when it is named for the second time in a row there, so that what is named once costs no memory.
///
/// # Bounds
/// 512 peers, each of 256 bytes at most, and what they read as: some 300 kB as a rule, 700 kB if each has the most addresses that
/// fit. Nothing until an answer is read. Other streams wait for no decoding: only looking up and keeping is done under the lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerCache(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<CacheSlot>,
    hasher: FastHash,
}

#[derive(Debug, Default)]
struct CacheSlot {
    /// The hash of the bytes that were seen last.
    latest: u64,
    known: Option<Box<KnownPeer>>,
}

#[derive(Debug)]
struct KnownPeer {
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
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = None;
        out.extend(peers.filter_map(|bytes| {
            if bytes.len() > MAX_BYTES {
                slots = None;
                return decode(bytes);
            }
            let sought = match slots.get_or_insert_with(lock).get(bytes) {
                Ok(known) => return Some(known),
                Err(sought) => sought,
            };
            slots = None;
            let peer = decode(bytes)?;
            slots.get_or_insert_with(lock).keep(sought, bytes, &peer);
            Some(peer)
        }));
    }
}

/// A peer that is not there: its slot, and whether it was seen there last.
#[derive(Clone, Copy)]
struct Sought {
    place: usize,
    is_seen: bool,
}

impl Slots {
    /// Returns a peer that was read from the same bytes before, or else where it is to be kept.
    fn get(&mut self, bytes: &[u8]) -> Result<KadPeer, Sought> {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, CacheSlot::default);
        }
        let hash = self.hasher.hash_one(bytes);
        let place = usize::try_from(hash % (SLOTS as u64)).unwrap_or_default();
        let Some(slot) = self.slots.get_mut(place) else {
            return Err(Sought { place, is_seen: false });
        };
        let is_seen = std::mem::replace(&mut slot.latest, hash) == hash;
        match slot.known.as_ref().filter(|known| *known.bytes == *bytes) {
            Some(known) => Ok(known.peer.clone()),
            None => Err(Sought { place, is_seen }),
        }
    }

    /// Keeps a peer that was sought for the second time in a row.
    fn keep(&mut self, sought: Sought, bytes: &[u8], peer: &KadPeer) {
        if let Some(slot) = self.slots.get_mut(sought.place).filter(|_| sought.is_seen) {
            slot.known = Some(Box::new(KnownPeer { bytes: bytes.into(), peer: peer.clone() }));
        }
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
    fn decoded<'a>(cache: &PeerCache, peers: impl IntoIterator<Item = (&'a [u8], KadPeer)>) -> usize {
        let mut count = 0;
        for (bytes, peer) in peers {
            let mut read = Vec::new();
            let decode = |found| {
                assert_eq!(found, bytes);
                count += 1;
                Some(peer.clone())
            };
            cache.read(std::iter::once(bytes), decode, &mut read);
            assert_eq!(read, [peer]);
        }
        count
    }

    fn num_kept(cache: &PeerCache) -> usize {
        cache.0.lock().unwrap().slots.iter().filter(|slot| slot.known.is_some()).count()
    }

    #[test]
    fn a_peer_is_decoded_twice_and_no_more_and_its_bytes_decide() {
        let cache = PeerCache::default();
        let (first, second) = (peer(), peer());
        assert_eq!(decoded(&cache, vec![(&b"first"[..], first.clone()); 9]), 2);
        assert_eq!(decoded(&cache, vec![(&b"second"[..], second); 9]), 2);
        assert_eq!(decoded(&cache, [(&b"first"[..], first)]), 0);
        // Something else in its slot does not read as it.
        let all: Vec<[u8; 4]> = (0..100_000u32).map(u32::to_be_bytes).collect();
        let all: Vec<_> = all.iter().map(|bytes| (&bytes[..], peer())).collect();
        assert_eq!(decoded(&cache, all.iter().cloned()), all.len(), "each was there once");
    }

    #[test]
    fn what_cannot_be_read_or_is_long_is_not_kept_and_no_more_than_there_are_slots() {
        let cache = PeerCache::default();
        let long = [7; MAX_BYTES + 1];
        assert_eq!(decoded(&cache, vec![(&long[..], peer()); 5]), 5);
        for _ in 0..5 {
            let mut read = Vec::new();
            cache.read(std::iter::once(&b"nobody"[..]), |_| None, &mut read);
            assert_eq!(read, []);
        }
        assert_eq!(num_kept(&cache), 0);
        for n in 0..10_000u32 {
            let one = peer();
            assert!(decoded(&cache, vec![(&n.to_be_bytes()[..], one); 3]) <= 2);
        }
        assert!(num_kept(&cache) <= SLOTS);
    }

    #[test]
    fn a_list_is_read_in_its_order_whatever_is_known_of_it() {
        let cache = PeerCache::default();
        let all: Vec<_> = (0..40u8).map(|n| (vec![n; 1 + usize::from(n) * 8], peer())).collect();
        for _ in 0..3 {
            for count in [1, 7, 40, 20] {
                let mut read = Vec::new();
                let decode = |bytes| {
                    assert!(cache.0.try_lock().is_ok(), "others wait for it");
                    all.iter().find(|(known, _)| known == bytes).map(|(_, peer)| peer.clone())
                };
                cache.read(all.iter().take(count).map(|(bytes, _)| &bytes[..]), decode, &mut read);
                assert!(read.iter().eq(all.iter().take(count).map(|(_, peer)| peer)), "{count}");
            }
        }
    }
}
