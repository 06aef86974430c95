//! Views: what queries and their operations see of the rest of the node.
//!
//! Borrowed for one call; nothing of it is kept.

use std::ops::RangeInclusive;

use libp2p_identity::PeerId;

use super::bans::BanTarget;
use super::clocks::Clocks;
use super::context::Context;
use super::local::Local;
use super::peers::Peers;
use super::upkeep::{Seeds, Upkeep};
use crate::config::Config;
use crate::error::BanError;
use crate::key::Key;
use crate::query::lookup::PeerStatus;
use crate::query::rtt::Estimator;
use crate::query::timeout::Phase;
use crate::record::RecordKey;
use crate::region::NetworkSize;
use crate::region::size::SizeEstimator;
use crate::rng::Rng;
use crate::routing::Table;
use crate::routing::refresh::Refresh;
use crate::store::Progress;
use crate::time::{Duration, Instant, Moment, SystemTime};

/// The parts of the node that queries work with: they ask peers, and tell what they have learnt.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) cx: &'a mut Context,
    pub(super) peers: &'a mut Peers,
    pub(super) upkeep: &'a mut Upkeep,
    /// Which changes of the store survive a crash.
    pub(super) progress: Progress,
}

impl Parts<'_> {
    /// Returns what an operation sees whose asker has room for so many providers.
    pub(super) fn view(&mut self, room: usize) -> View<'_> {
        let Self { cx, peers, upkeep, progress } = self;
        View {
            local: &cx.local,
            config: &cx.config,
            clocks: &cx.clocks,
            table: &upkeep.table,
            seeds: &upkeep.seeds,
            peers,
            estimator: peers.estimator(),
            progress,
            size: &upkeep.size,
            refresh: &mut upkeep.refresh,
            rng: &mut cx.rng,
            room,
        }
    }

    /// Bans somebody.
    pub(super) fn ban(
        &mut self,
        now: Instant,
        target: BanTarget,
        until: Option<SystemTime>,
        why: &str,
    ) -> Result<(), BanError> {
        let Self { cx, peers, upkeep, .. } = self;
        peers.bans.add((now, cx.wall_at(now)), target, until, why)?;
        upkeep.drop_banned(now, cx, peers);
        Ok(())
    }

    /// Returns how many peers of the table are closer to a key than this node.
    pub(super) fn num_closer(&self, key: &Key) -> usize {
        self.upkeep.table.num_closer(key)
    }

    /// Returns how long a record is kept here that would last for `ttl`: less, the more nodes are closer to it, unless this node
    /// is in its key's region: then it is one of those who are to hold it, whoever has put others nearer.
    pub(super) fn shrunk(&self, key: &RecordKey, ttl: Duration) -> Duration {
        let (key, k) = (self.cx.hash(key.as_ref()), self.cx.config.bucket_size().get());
        let closer = self.num_closer(&key);
        if closer > k && self.is_in_region_of(&key, k) { ttl } else { shrunk(ttl, closer, k) }
    }

    /// Returns whether this node is one of those who are to hold what belongs to a key. A quarter more than its own region counts:
    /// others take the network for smaller.
    pub(super) fn is_in_region_of(&self, key: &Key, k: usize) -> bool {
        let (own, now) = (&self.cx.local.key, self.cx.clocks.latest());
        let size = network_size(now, &self.upkeep.size, &self.upkeep.table, (own, k.max(LEAST_PEERS)..=k));
        let radius = size.map(|size| self.upkeep.size.region(&size, k, k));
        radius.is_some_and(|radius| own.distance(key).0.saturating_sub(radius.0) <= radius.0 >> 2)
    }

    /// A key is being looked up: its bucket need not be for a while.
    pub(super) fn looked_up(&mut self, now: Instant, key: &Key) {
        self.upkeep.looked_up(now, key, self.cx);
    }
}

/// What an operation sees of the node.
pub(super) struct View<'a> {
    pub(super) local: &'a Local,
    pub(super) config: &'a Config,
    pub(super) clocks: &'a Clocks,
    pub(super) table: &'a Table,
    pub(super) seeds: &'a Seeds,
    pub(super) peers: &'a Peers,
    pub(super) estimator: &'a Estimator,
    /// Which changes of the store survive a crash.
    pub(super) progress: &'a Progress,
    pub(super) size: &'a SizeEstimator,
    pub(super) refresh: &'a mut Refresh,
    pub(super) rng: &'a mut Rng,
    /// How many providers the asker has room for; the others are kept until it has more.
    pub(super) room: usize,
}

impl View<'_> {
    /// Returns how large the network is; `None` if neither lookups nor the own table can tell.
    pub(super) fn network_size(&self, now: Instant) -> Option<NetworkSize> {
        let k = self.config.bucket_size().get();
        network_size(now, self.size, self.table, (&self.local.key, k.max(LEAST_PEERS)..=k))
    }

    /// Returns what the wall clock shows at an instant, if it is not set.
    pub(super) fn wall_at(&self, now: Instant) -> SystemTime {
        self.clocks.wall_at(now)
    }

    /// Returns the moment of the node's own time: soft timeouts are of it.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        self.clocks.moment(now)
    }

    /// Returns what the clock will show at a time of the node's own, if it is not late again.
    pub(super) fn clock_time(&self, own: Instant) -> Instant {
        self.clocks.clock_time(own)
    }

    /// Returns what is known of asking a peer.
    pub(super) fn peer_status(&self, peer: &PeerId, phase: Phase) -> PeerStatus {
        let known = self.peers.get(peer);
        let connected = known.is_some_and(|known| known.is_connected());
        let rtt = known.map(|known| &known.rtt);
        let (queued, soft_timeout) =
            (self.peers.waits_for_place(peer), self.estimator.soft_timeout(rtt, phase));
        PeerStatus { connected, deferred: false, queued, soft_timeout }
    }
}

/// Of fewer neighbours the distance says next to nothing: where `k` is less, nothing is known before lookups tell. Chosen, not
/// measured.
const LEAST_PEERS: usize = 8;

/// Returns how large the network is, as lookups or so many of the closest peers of the own table tell; `None` if there are fewer, or
/// the table cannot be believed yet where that matters: where one peer would be enough it does not.
pub(super) fn network_size(
    now: Instant,
    size: &SizeEstimator,
    table: &Table,
    (own, peers): (&Key, RangeInclusive<usize>),
) -> Option<NetworkSize> {
    let is_believed = size.has_joined() || *peers.start() == 1;
    size.size(now, || {
        let closest = table.closest(own).filter(|entry| entry.is_live()).take(*peers.end());
        let (count, last) = (1..).zip(closest).last()?;
        (is_believed && peers.contains(&count)).then(|| (count, own.distance(last.key())))
    })
}

/// The shortest time for which anything is kept: less is not worth the request (chosen, not measured).
const LEAST: Duration = Duration::from_secs(60);

/// Returns how long a record is kept that would last for `ttl`, by a node with `between` nodes between itself and the key:
/// half as long for each beyond `k`, but not less than a minute or than it lasts.
///
/// # Spec
/// Maymounkov & Mazières §2.3. `libp2p-kad` shifts down to nothing: it answers that it has stored what it has not.
pub(super) fn shrunk(ttl: Duration, between: usize, k: usize) -> Duration {
    let halvings = u32::try_from(between.saturating_sub(k)).unwrap_or(u32::MAX).min(31);
    (ttl / (1 << halvings)).max(LEAST.min(ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_halves_with_each_node_beyond_k() {
        let day = Duration::from_secs(24 * 3600);
        let mut last = day;
        for between in 0..100 {
            let kept = shrunk(day, between, 20);
            let halvings = u32::try_from(between.max(20) - 20).unwrap();
            let exact = day.checked_div(1u32.checked_shl(halvings).unwrap_or(u32::MAX)).unwrap();
            assert_eq!(kept, exact.max(LEAST), "{between}");
            assert!(kept <= last, "it never grows");
            last = kept;
        }
        assert_eq!(shrunk(day, 20, 20), day);
        assert_eq!(shrunk(day, 21, 20), day / 2);
        assert_eq!(shrunk(Duration::from_secs(7), 90, 20), Duration::from_secs(7), "it ends by itself");
    }
}
