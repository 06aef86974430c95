//! Blocked peers: those that the program does not let this node dial, whatever else it lets through.
//!
//! Knows ids and times; that a peer is blocked is found out by the dials.

use std::collections::{BTreeSet, VecDeque};

use libp2p_identity::PeerId;

use crate::time::Instant;

/// Of how many peers that the program blocks it is known when they are to be asked again; others are when they are named
/// (chosen, not measured).
const MAX_BLOCKED: usize = 128;

/// What the program's own denials have shown of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum BlockEvent {
    /// It is denied, whatever else is let through.
    Blocked(PeerId),
    /// It may be tried again.
    Released(PeerId),
}

/// The peers that the program blocks.
///
/// # What it decides
/// Which peers are left alone because the program denies them, and when each may be tried again; both are told.
///
/// # Inputs
/// [`block`](Self::block).
///
/// # Outputs
/// [`next_event`](Self::next_event).
///
/// # What time does
/// Releases peers.
///
/// # Bounds
/// 128 peers; of those beyond it is not told when they may be tried again.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    until: BTreeSet<(Instant, PeerId)>,
    events: VecDeque<BlockEvent>,
}

impl Blocked {
    /// A peer is denied while others are let through: it is left alone until then.
    pub(super) fn block(&mut self, peer: PeerId, until: Instant) {
        if self.until.len() < MAX_BLOCKED {
            self.until.insert((until, peer));
        }
        self.events.push_back(BlockEvent::Blocked(peer));
    }

    /// Releases those whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, peer)) = self.until.first().copied().filter(|(at, _)| *at <= now) {
            self.until.pop_first();
            self.events.push_back(BlockEvent::Released(peer));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.first().map(|(at, _)| *at)
    }

    /// Returns what has been shown since it was asked last.
    pub(super) fn next_event(&mut self) -> Option<BlockEvent> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Duration, start};

    fn peer(n: u8) -> PeerId {
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[n; 32]).unwrap()).unwrap()
    }

    #[test]
    fn a_blocked_peer_is_told_of_at_once_and_again_when_it_may_be_tried() {
        let (mut blocked, now) = (Blocked::default(), start());
        for n in 0..200 {
            blocked.block(peer(n), now + Duration::from_secs(u64::from(n)));
            assert_eq!(blocked.next_event(), Some(BlockEvent::Blocked(peer(n))));
        }
        assert_eq!((blocked.next_event(), blocked.deadline()), (None, Some(now)));
        let mut released = Vec::new();
        while let Some(at) = blocked.deadline() {
            blocked.handle_timeout(at);
            released.extend(std::iter::from_fn(|| blocked.next_event()));
        }
        let first: Vec<_> = (0..128).map(|n| BlockEvent::Released(peer(n))).collect();
        assert_eq!(released, first, "no more than it may keep");
    }
}
