//! The memory of peers: which are remembered, and which are forgotten.
//!
//! Knows what is remembered as values; what is done with it is not its affair.

use libp2p_identity::PeerId;

use super::known::Known;
use crate::key::{Key, KeyHash};
use crate::map::FastMap;
use crate::peer::PackedPeerId;
use crate::time::{Duration, Epoch, Instant, Second, after};

/// Beyond the bound so many newcomers are let in before a peer is forgotten, so that it is not done for each (chosen,
/// not measured).
const SLACK: usize = 64;

/// Peers that were not heard of for a day are looked for this often (chosen, not measured).
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// While more are remembered than the bound, because they are connected or needed otherwise, it is looked this often
/// (chosen, not measured).
const SWEEP_CROWD_EVERY: Duration = Duration::from_secs(60);

/// What is remembered of each peer.
///
/// # Bounds
/// `max` peers beside those that are connected, being asked, or kept for other reasons.
#[derive(Debug)]
pub(super) struct Memory {
    known: FastMap<PackedPeerId, Known>,
    max: usize,
    hash: KeyHash,
    epoch: Epoch,
    /// Peers are forgotten when there are more than so many, or when it is so late.
    sweep_above: usize,
    sweep_at: Option<Instant>,
}

impl Memory {
    pub(super) fn new(max: usize, hash: KeyHash) -> Self {
        Self {
            known: FastMap::default(),
            max,
            hash,
            epoch: Epoch::default(),
            sweep_above: max.saturating_add(SLACK),
            sweep_at: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns how many are connected; looks at all.
    pub(super) fn num_connected(&self) -> usize {
        self.known.values().filter(|known| known.is_connected()).count()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.known.keys().map(PackedPeerId::unpacked)
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Known> {
        self.known.get(&PackedPeerId::from(peer))
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Known> {
        self.known.get_mut(&PackedPeerId::from(peer))
    }

    /// Returns the second that it is, of the memory's own time.
    pub(super) fn second(&self, now: Instant) -> Second {
        self.epoch.second(now)
    }

    /// Returns the key of a peer. It is not kept: to hash an id takes no longer than to find it here.
    pub(super) fn key(&self, peer: &PeerId) -> Key {
        Key::of_peer(peer, self.hash)
    }

    /// Returns what is remembered of a peer, which begins now if there is nothing.
    pub(super) fn remember(&mut self, now: Instant, peer: PeerId) -> &mut Known {
        self.epoch.begin(now);
        let second = self.second(now);
        if self.known.len() == self.known.capacity() {
            // By an eighth instead of twofold: much is remembered, and seldom more.
            self.known.reserve_exact(self.known.len() / 8 + 4);
        }
        let known = self.known.entry(PackedPeerId::from(&peer)).or_insert_with(|| Known::new(second));
        known.heard_of(second);
        known
    }

    /// Forgets peers that were not heard of for a day, and beyond the bound those heard of longest ago.
    ///
    /// Those that are connected, being asked, or that `keep` names stay. Costs one pass, once for every 64 newcomers and
    /// once an hour.
    pub(super) fn sweep(&mut self, now: Instant, keep: impl Fn(&Key, &PeerId) -> bool) {
        let due = *self.sweep_at.get_or_insert_with(|| after(now, SWEEP_EVERY));
        if self.known.len() <= self.sweep_above && now < due {
            return;
        }
        let (hash, second) = (self.hash, self.second(now));
        let may_go = |known: &Known, peer: &PackedPeerId| {
            known.is_idle() && {
                let peer = peer.unpacked();
                !keep(&Key::of_peer(&peer, hash), &peer)
            }
        };
        let idle = self.known.iter().filter(|(peer, known)| may_go(known, peer));
        let mut heard: Vec<Second> = idle.map(|(_, known)| known.heard).collect();
        let mut excess = heard.len().saturating_sub(self.max);
        heard.sort_unstable();
        let newest_to_go = excess.checked_sub(1).and_then(|last| heard.get(last).copied());
        self.known.retain(|peer, known| {
            let is_excess = excess > 0 && newest_to_go.is_some_and(|newest| known.heard <= newest);
            let goes = (is_excess || known.is_forgotten(second)) && may_go(known, peer);
            excess -= usize::from(goes && is_excess);
            !goes
        });
        self.sweep_above = self.known.len().max(self.max).saturating_add(SLACK);
        // Those that may not go now may go soon: connections end.
        let crowded = self.known.len() > self.max.saturating_add(SLACK);
        self.sweep_at = Some(after(now, if crowded { SWEEP_CROWD_EVERY } else { SWEEP_EVERY }));
    }
}
