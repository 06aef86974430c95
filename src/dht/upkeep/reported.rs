//! The reported: peers that other parts of the program know an address of, and that have not been met.
//!
//! Knows ids and time; whether a peer is wanted, and how it is tried, is the node's affair.

use libp2p_identity::PeerId;

use crate::map::FastMap;
use crate::time::{Duration, Instant, after};

/// A peer that was tried in vain is tried again after this time, which doubles each time (chosen, not measured).
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time between two attempts (chosen, not measured).
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How many peers are tried. One more, and the one that was reported longest ago is no longer (chosen, not measured).
const MAX_REPORTED: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Attempts {
    next_at: Instant,
    made: u32,
}

/// The peers that were reported.
///
/// # What it decides
/// When each is tried, as long as the node knows few peers: at once when it is reported, and again after 1 s, doubling to a
/// minute. A peer that is reported anew is tried at once, and the doubling begins anew.
///
/// # Inputs
/// [`report`](Self::report); [`remove`](Self::remove) for one that has answered, or that nothing is to be had of.
///
/// # Outputs
/// [`next`](Self::next): a peer to try now; [`deadline`](Self::deadline).
///
/// # What time does
/// Makes the next attempt due, whatever came of the last one.
///
/// # Bounds
/// 256 peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported {
    /// The one that was reported longest ago first.
    peers: FastMap<PeerId, Attempts>,
}

impl Reported {
    /// Takes note that a peer has been reported.
    pub(super) fn report(&mut self, now: Instant, peer: PeerId) {
        self.remove(&peer);
        if self.peers.len() >= MAX_REPORTED {
            self.peers.shift_remove_index(0);
        }
        self.peers.insert(peer, Attempts { next_at: now, made: 0 });
    }

    /// Forgets a peer.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.peers.shift_remove(peer);
        if self.peers.is_empty() {
            self.peers = FastMap::default();
        }
    }

    /// Returns a peer to try now, and puts its next attempt off.
    pub(super) fn next(&mut self, now: Instant) -> Option<PeerId> {
        let (peer, attempts) = self.peers.iter_mut().find(|(_, attempts)| attempts.next_at <= now)?;
        let pause = FIRST_PAUSE.saturating_mul(1 << attempts.made.min(16)).min(LONGEST_PAUSE);
        attempts.made = attempts.made.saturating_add(1);
        attempts.next_at = after(now, pause);
        Some(*peer)
    }

    /// Returns when the next attempt is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.peers.values().map(|attempts| attempts.next_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    fn peer(seed: u16) -> PeerId {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&seed.to_be_bytes());
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &digest).unwrap()).unwrap()
    }

    #[test]
    fn attempts_are_made_at_once_and_then_ever_more_rarely_up_to_a_minute() {
        let (mut reported, mut now) = (Reported::default(), start());
        assert_eq!(reported.deadline(), None);
        reported.report(now, peer(1));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(reported.next(now), Some(peer(1)));
            assert_eq!(reported.next(now), None);
            let at = reported.deadline().unwrap();
            pauses.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        reported.report(now - Duration::from_secs(30), peer(1));
        assert_eq!(reported.next(now), Some(peer(1)), "it is reported anew");
        assert_eq!(reported.deadline(), Some(now + FIRST_PAUSE));
        reported.remove(&peer(1));
        assert_eq!((reported.deadline(), reported.next(now + LONGEST_PAUSE)), (None, None));
    }

    #[test]
    fn whoever_was_reported_longest_ago_makes_room() {
        let mut reported = Reported::default();
        (0..=256).for_each(|seed| reported.report(start(), peer(seed)));
        reported.report(start(), peer(1));
        reported.report(start(), peer(1000));
        let tried: Vec<_> = std::iter::from_fn(|| reported.next(start())).collect();
        assert_eq!(tried.len(), MAX_REPORTED);
        assert!(!tried.contains(&peer(0)) && !tried.contains(&peer(2)) && tried.contains(&peer(1)));
    }
}
