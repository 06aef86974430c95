//! Routes: at which addresses a peer is dialled next, and what came of those that were.
//!
//! Knows what is remembered of one peer; which peer is dialled, and when, is not its affair.

use libp2p_core::Multiaddr;

use super::dials::Attempt;
use super::known::Known;
use crate::addrs::{IpGroup, MAX_ADDRESSES, Reach, Way};
use crate::time::{Duration, Instant, after};

/// How many addresses are dialled at once (chosen, not measured).
const BATCH: usize = 6;

/// At how many addresses at which nobody has met the peer it is dialled, at most (chosen, not measured).
pub(super) const MAX_HEARSAY: usize = 3;

/// How many of them may be of one IP group (chosen, not measured).
const MAX_PER_GROUP: usize = 2;

/// A peer that was denied so often while others were let through is left alone (chosen, not measured).
const DENIALS: u8 = 3;

/// A peer that the program blocks is left alone for so long at first, which doubles each time (chosen, not measured).
const FIRST_BLOCK: Duration = Duration::from_secs(600);

/// The longest time for which it is left alone (chosen, not measured).
const LONGEST_BLOCK: Duration = Duration::from_secs(24 * 60 * 60);

impl Known {
    /// Returns where to dial the peer next: at most six addresses that were not tried in this attempt.
    ///
    /// The one that worked last comes first, then direct ones of the same reach, other direct ones, names, relayed ones.
    /// Whatever has failed since the last connection comes after the rest. Of those at which nobody has met the peer and
    /// which the application has not named, three are dialled in all, two of an IP group.
    pub(super) fn next_batch(
        &self,
        attempt: Option<&Attempt>,
        is_exempt: impl Fn(&Multiaddr) -> bool,
    ) -> Vec<Multiaddr> {
        let is_tried = |address: &Multiaddr| attempt.is_some_and(|attempt| attempt.tried.contains(address));
        let mut all: Vec<&Multiaddr> = Vec::new();
        for address in self.trusted.iter().chain(&self.addresses).chain(&self.hints) {
            if !is_tried(address) && !all.contains(&address) {
                all.push(address);
            }
        }
        all.sort_by_key(|address| self.rank(address));
        let mut heard: Vec<Multiaddr> = attempt.map_or_else(Vec::new, |attempt| attempt.hearsay.clone());
        let mut batch = Vec::with_capacity(all.len().min(BATCH));
        for address in all {
            if batch.len() == BATCH {
                break;
            }
            if self.is_hearsay(address) {
                if heard.len() >= MAX_HEARSAY || (!is_exempt(address) && is_crowded(&heard, address)) {
                    continue;
                }
                heard.push(address.clone());
            }
            batch.push(address.clone());
        }
        batch
    }

    /// Returns whether nobody has met the peer at an address, nor the application has named it.
    pub(super) fn is_hearsay(&self, address: &Multiaddr) -> bool {
        !self.trusted.iter().any(|trusted| trusted == address)
    }

    fn rank(&self, address: &Multiaddr) -> (usize, usize, u8) {
        let mut failed = self.trouble.iter().flat_map(|trouble| &trouble.failed);
        let failed = failed.position(|failed| failed == address).map_or(0, |at| at + 1);
        let worked = self.worked && self.trusted.first() == Some(address);
        let way = match Way::of(address) {
            _ if worked => 0,
            Way::Direct if Reach::of(address) == self.reach => 1,
            Way::Direct => 2,
            Way::Named => 3,
            Way::Relayed => 4,
        };
        (usize::from(failed > 0), failed, way)
    }

    /// Takes note of an address that the application has named.
    pub(in crate::dht) fn trust(&mut self, address: &Multiaddr) {
        self.trusted = self.trusted.merged([address.clone()]).shared_with(&self.addresses);
    }

    /// The peer was reached at an address.
    pub(super) fn worked_at(&mut self, address: &Multiaddr) {
        self.worked = true;
        self.trusted = self.trusted.preferring(address).shared_with(&self.addresses);
    }

    /// Nobody answered at an address: it is tried last.
    pub(super) fn failed_at(&mut self, address: &Multiaddr) {
        let failed = &mut self.trouble.get_or_insert_default().failed;
        failed.retain(|known| known != address);
        if failed.len() >= 2 * MAX_ADDRESSES {
            failed.remove(0);
        }
        failed.push(address.clone());
    }

    /// The program has denied a dial to the peer, which waits for another place.
    pub(super) fn denied(&mut self) {
        self.trouble.get_or_insert_default().is_denied = true;
    }

    pub(super) fn is_denied(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.is_denied)
    }

    /// The peer was denied while another was let through. Returns until when it is left alone, if that was too often.
    pub(super) fn denied_alone(&mut self, now: Instant) -> Option<Instant> {
        if self.is_blocked(now) {
            return None;
        }
        let trouble = self.trouble.get_or_insert_default();
        trouble.denials += 1;
        if trouble.denials < DENIALS {
            return None;
        }
        // Whoever is denied again after that need not be so three times.
        trouble.denials = DENIALS - 1;
        let pause = FIRST_BLOCK.saturating_mul(1 << trouble.blocks.min(16)).min(LONGEST_BLOCK);
        trouble.blocks = trouble.blocks.saturating_add(1);
        let until = after(now, pause);
        trouble.blocked_until = Some(until);
        Some(until)
    }

    /// Returns whether the program blocks the peer, as far as is known.
    pub(super) fn is_blocked(&self, now: Instant) -> bool {
        self.trouble.as_ref().and_then(|trouble| trouble.blocked_until).is_some_and(|until| until > now)
    }
}

fn is_crowded(heard: &[Multiaddr], address: &Multiaddr) -> bool {
    let group = IpGroup::of(address);
    group.is_some() && heard.iter().filter(|known| IpGroup::of(known) == group).count() >= MAX_PER_GROUP
}

#[cfg(test)]
impl Known {
    /// Returns where the peer would be dialled first.
    pub(in crate::dht) fn batch_for_test(&self) -> Vec<Multiaddr> {
        self.next_batch(None, |_| true)
    }

    /// Lets an address be one at which nobody has answered.
    pub(in crate::dht) fn fail_for_test(&mut self, address: &Multiaddr) {
        self.failed_at(address);
    }
}
