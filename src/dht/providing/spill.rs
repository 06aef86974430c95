//! Spill-over: who is told in the place of a peer that has no room for an announcement.
//!
//! Knows keys and peers; how one is told is not its affair.

use std::collections::VecDeque;

use libp2p_identity::PeerId;

use crate::addrs::Addresses;
use crate::record::RecordKey;
use crate::time::{Duration, Instant, after};

/// Of so many announcements that are over it is remembered who is next, and for so long: a peer that has no room says so a round
/// trip after it was told (chosen, not measured; some 2 kB each).
const MAX_REMEMBERED: usize = 64;
const REMEMBERED: Duration = Duration::from_secs(10);

/// An announcement that is over.
#[derive(Debug)]
struct PastAnnouncement {
    key: RecordKey,
    at: Instant,
    told: Vec<PeerId>,
    next: VecDeque<(PeerId, Addresses)>,
}

/// The spill-over of announcements.
///
/// # What it decides
/// Whom to tell in the place of a peer that has no room: the next nearest of the search, each once, as many again as were told at
/// first. While an announcement runs it sees to that itself.
///
/// # Inputs
/// [`announced`](Self::announced), [`rejected`](Self::rejected).
///
/// # Outputs
/// [`next`](Self::next).
///
/// # What time does
/// After ten seconds it is not remembered who is next.
///
/// # Bounds
/// 64 announcements, `k` peers of each to be told; a peer is counted once for a key.
///
/// # Spec
/// A draft, ipfs/specs#537.
#[derive(Debug, Default)]
pub(super) struct SpillOver {
    past: VecDeque<PastAnnouncement>,
    to_tell: VecDeque<(RecordKey, PeerId, Addresses)>,
}

impl SpillOver {
    /// A key was announced to some peers; these are next.
    pub(super) fn announced(
        &mut self,
        now: Instant,
        key: &RecordKey,
        told: Vec<PeerId>,
        next: Vec<(PeerId, Addresses)>,
    ) {
        self.past.retain(|past| past.key != *key && after(past.at, REMEMBERED) > now);
        if next.is_empty() {
            return;
        }
        if self.past.len() >= MAX_REMEMBERED {
            self.past.pop_front();
        }
        let (key, next) = (key.clone(), next.into());
        self.past.push_back(PastAnnouncement { key, at: now, told, next });
    }

    /// A peer has no room for an announcement.
    pub(super) fn rejected(&mut self, now: Instant, peer: &PeerId, key: &RecordKey) {
        let known = self.past.iter_mut().find(|past| past.key == *key && after(past.at, REMEMBERED) > now);
        let Some(past) = known else {
            return;
        };
        // Each of them says so once.
        let Some(at) = past.told.iter().position(|told| told == peer) else {
            return;
        };
        past.told.swap_remove(at);
        if let Some((next, addresses)) = past.next.pop_front() {
            past.told.push(next);
            self.to_tell.push_back((key.clone(), next, addresses));
        }
    }

    /// Returns whom to tell of which key.
    pub(super) fn next(&mut self) -> Option<(RecordKey, PeerId, Addresses)> {
        self.to_tell.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::tests::peer;
    use crate::time::start;

    fn next(of: impl IntoIterator<Item = usize>) -> Vec<(PeerId, Addresses)> {
        of.into_iter().map(|n| (peer(n), Addresses::empty())).collect()
    }

    fn told(spill: &mut SpillOver) -> Vec<PeerId> {
        std::iter::from_fn(|| spill.next()).map(|(_, to, _)| to).collect()
    }

    #[test]
    fn the_next_nearest_is_told_for_each_that_has_no_room_and_each_counts_once() {
        let (mut spill, key) = (SpillOver::default(), RecordKey::new(b"key"));
        spill.announced(start(), &key, vec![peer(1), peer(2)], next([3, 4]));
        for _ in 0..5 {
            spill.rejected(start(), &peer(1), &key);
            spill.rejected(start(), &peer(9), &key);
            spill.rejected(start(), &peer(2), &RecordKey::new(b"another"));
        }
        assert_eq!(told(&mut spill), [peer(3)]);
        spill.rejected(start(), &peer(3), &key);
        assert_eq!(told(&mut spill), [peer(4)], "it has none either");
        spill.rejected(start(), &peer(4), &key);
        spill.rejected(start(), &peer(2), &key);
        assert_eq!(told(&mut spill), [], "there is nobody else");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends() {
        let mut spill = SpillOver::default();
        let key = |n: u32| RecordKey::new(&n.to_be_bytes());
        (0..1000).for_each(|n| spill.announced(start(), &key(n), vec![peer(1)], next(2..22)));
        assert_eq!(spill.past.len(), MAX_REMEMBERED);
        spill.rejected(start(), &peer(1), &key(0));
        spill.rejected(start() + REMEMBERED, &peer(1), &key(999));
        assert_eq!(told(&mut spill), []);
        spill.announced(start() + REMEMBERED, &key(1), vec![peer(1)], next(2..4));
        assert_eq!(spill.past.len(), 1);
    }
}
