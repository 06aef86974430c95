//! Measures: what lookups and tables are held against, by looking at all nodes at once.

use super::network::Network;
use super::nodes::{Life, SimNode};
use crate::dht::Dht;
use crate::dht::op::{GetClosestPeersError, GetClosestPeersOk};
use crate::event::{Mode, QueryStats};
use crate::key::Key;
use crate::store::MemoryStore;
use crate::time::{Duration, Instant};

/// A lookup under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningLookup {
    pub(super) target: Key,
    pub(super) began: Instant,
}

/// The outcome of a lookup.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LookupOutcome {
    /// The node that asked.
    pub asker: usize,
    /// When it began, since the beginning of the world.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// How many requests it made.
    pub requests: u32,
    /// Soft timeouts.
    pub soft_timeouts: u32,
    /// Dials it caused.
    pub dials: u32,
    /// How many peers had to be asked one after another to find the closest.
    pub hops: u32,
    /// The share of the true `k` closest that it found: servers that live, can be dialled and were there when it began; the
    /// asker is none of them.
    pub recall: f64,
    /// The share that it found of those of the true `k` closest that live, where the silent count among the `k`: no lookup
    /// can tell before it asks them, and a near one does not ask all.
    pub of_closest: f64,
    /// The share that it found of the honest ones among the true `k` closest, the dishonest included, which answer as well: no lookup
    /// can tell them apart before it has asked.
    pub of_honest: f64,
    /// Whether an honest one was among those of the true `k` closest, the dishonest included, that it found.
    pub honest: bool,
    /// Whether it ended without an error.
    pub success: bool,
}

/// The health of the routing tables, at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// When, since the beginning of the world.
    pub at: Duration,
    /// How many nodes live.
    pub alive: usize,
    /// The share of servers that know all but two of their `k` nearest, or all there are.
    pub near: f64,
    /// The share of entries of tables whose peer is gone for more than a minute.
    pub stale: f64,
    /// The mean number of entries.
    pub entries: f64,
}

/// So long a peer may be gone before an entry for it is stale. Chosen, not measured.
const STALE_AFTER: Duration = Duration::from_secs(60);

#[expect(clippy::cast_precision_loss, reason = "numbers of nodes and requests")]
pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Measures what came of a lookup; and how many of those it found are among the closest.
pub(super) fn outcome(
    network: &Network,
    now: Instant,
    n: usize,
    asked: RunningLookup,
    result: Result<GetClosestPeersOk, GetClosestPeersError>,
    stats: &QueryStats,
) -> (LookupOutcome, usize) {
    let success = result.is_ok();
    let found = match result {
        Ok(ok) => ok.peers,
        Err(GetClosestPeersError::Query { peers, .. }) => peers,
        Err(_) => Vec::new(),
    };
    let found: Vec<_> = found.iter().filter_map(|peer| network.nodes.number_of(&peer.peer_id)).collect();
    let k = network.config_of(n).bucket_size().get();
    let asker = network.nodes.get(n).map(|node| node.peer);
    let counts = |node: &SimNode| node.is_findable() && node.born <= asked.began && Some(node.peer) != asker;
    let truth = network.nodes.closest(&asked.target, k, |node| node.is_honest && counts(node));
    let hits = truth.iter().filter(|n| found.contains(n)).count();
    let frozen_too = |node: &SimNode| {
        counts(node) || (node.life == Life::Frozen && node.mode == Mode::Server && node.born <= asked.began)
    };
    let closest = network.nodes.closest(&asked.target, k, |node| node.is_honest && frozen_too(node));
    let living = closest.iter().filter(|n| truth.contains(n)).count();
    let of_closest = closest.iter().filter(|n| truth.contains(n) && found.contains(n)).count();
    let all = network.nodes.closest(&asked.target, k, counts);
    let is_honest = |n: &usize| network.nodes.get(*n).is_some_and(|node| node.is_honest);
    let honest_ones = all.iter().filter(|n| is_honest(n));
    let honest_found = honest_ones.clone().filter(|n| found.contains(n)).count();
    let outcome = LookupOutcome {
        asker: n,
        began: asked.began.saturating_duration_since(network.origin()),
        took: now.saturating_duration_since(asked.began),
        requests: stats.num_requests(),
        soft_timeouts: stats.num_soft_timeouts(),
        dials: stats.num_dials(),
        hops: stats.hops(),
        recall: ratio(hits, truth.len()),
        of_closest: ratio(of_closest, living),
        of_honest: ratio(honest_found, honest_ones.count()),
        honest: honest_found > 0,
        success,
    };
    (outcome, hits)
}

/// Measures all routing tables.
pub(super) fn health<'a>(
    network: &Network,
    now: Instant,
    dht_of: impl Fn(usize) -> Option<&'a Dht<MemoryStore>>,
) -> Health {
    let (mut near, mut servers, mut stale, mut entries) = (0, 0, 0, 0);
    for (n, node) in network.nodes.iter().enumerate().filter(|(_, node)| node.is_alive()) {
        let Some(dht) = dht_of(n) else {
            continue;
        };
        for entry in dht.table().entries() {
            entries += 1;
            let life = network
                .nodes
                .number_of(&entry.peer())
                .and_then(|n| network.nodes.get(n))
                .map(|node| node.life);
            if let Some(Life::Gone(since, _)) = life {
                stale += usize::from(now.saturating_duration_since(since) > STALE_AFTER);
            }
        }
        if node.is_honest && node.is_dialable && node.is_server {
            let k = network.config_of(n).bucket_size().get();
            servers += 1;
            let id = node.peer;
            let nearest =
                network.nodes.closest(&node.key, k, |other| other.is_findable() && other.peer != id);
            let knows = |other: &usize| {
                let other = network.nodes.get(*other);
                other.is_some_and(|other| dht.table().entry(&other.key, &other.peer).is_some())
            };
            let known = nearest.iter().filter(|other| knows(other)).count();
            near += usize::from(known + 2 >= nearest.len());
            debug_assert!(!nearest.contains(&n));
        }
    }
    let alive = network.nodes.alive().count();
    Health {
        at: now.saturating_duration_since(network.origin()),
        alive,
        near: ratio(near, servers),
        stale: if entries == 0 { 0.0 } else { ratio(stale, entries) },
        entries: if alive == 0 { 0.0 } else { ratio(entries, alive) },
    }
}
