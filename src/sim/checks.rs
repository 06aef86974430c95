//! Checks: what must be true of every node at every time.

use std::collections::BTreeMap;

use super::host::Host;
use super::network::{Network, Traffic};
use super::nodes::SimNode;
use crate::addrs::IpGroup;
use crate::config::{Config, IpDiversity};
use crate::dht::Dht;
use crate::stats::Stats;
use crate::store::MemoryStore;
use crate::time::{Duration, Instant};

/// A violation of an invariant: a bug of this library. Report it, with the command that repeats it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {at:?}, node {node}: {what}{repeat}")]
#[non_exhaustive]
pub struct Violation {
    /// When, since the beginning of the world.
    pub at: Duration,
    /// The node.
    pub node: usize,
    /// What is wrong with it.
    pub what: String,
    /// The command that repeats it, if a scenario was run.
    pub(super) repeat: String,
}

impl Violation {
    pub(super) fn repeated_by(mut self, command: &str) -> Self {
        self.repeat = format!("\nrepeat it: {command}");
        self
    }
}

/// So many peers beyond its bounds a node may remember, until it next forgets some; those it was connected to at once, at
/// most, come on top, since they go only when it looks. Chosen, not measured.
const SLACK: usize = 128;

/// Checks every node that lives, and fails with the first [`Violation`].
pub(super) fn check<'a>(
    network: &Network,
    now: Instant,
    host_of: impl Fn(usize) -> Option<&'a Host>,
) -> Result<(), Violation> {
    for (n, node) in network.nodes.iter().enumerate().filter(|(_, node)| node.is_alive()) {
        let Some((host, dht)) = host_of(n).and_then(|host| Some((host, host.dht.as_deref()?))) else {
            continue;
        };
        let config = network.config_of(n);
        let wrong = check_table(config, node, dht).or_else(|| check_bounds((node, config), now, host, dht));
        if let Some(what) = wrong.or_else(|| check_connections(network, host, dht)) {
            let at = now.saturating_duration_since(network.origin());
            return Err(Violation { at, node: n, what, repeat: String::new() });
        }
    }
    Ok(())
}

/// Checks that what all nodes say they have sent is what the network was given, and fails with a [`Violation`] of no node in
/// particular.
pub(super) fn check_stats(at: Duration, traffic: &Traffic, stats: &Stats) -> Result<(), Violation> {
    let requests = &stats.outbound_requests;
    let sent: u64 = requests.iter().map(|(_, requests)| requests.sent).sum();
    let counted = (sent, requests.add_provider.sent, stats.dials.started);
    let seen = (traffic.requests, traffic.announcements, traffic.dials);
    if counted == seen {
        return Ok(());
    }
    let what = format!("requests, announcements and dials: {counted:?} are counted, {seen:?} were sent");
    Err(Violation { at, node: 0, what, repeat: String::new() })
}

fn check_table(config: &Config, node: &SimNode, dht: &Dht<MemoryStore>) -> Option<String> {
    let k = config.bucket_size().get();
    let mut in_table: BTreeMap<_, u16> = BTreeMap::new();
    let is_strict = config.ip_diversity() == IpDiversity::Strict;
    let limits = Some(&config.routing.ip_limits).filter(|_| is_strict);
    for bucket in dht.table().buckets() {
        let index = bucket.index();
        if bucket.entries().len() > k || bucket.entries().is_empty() {
            return Some(format!("bucket {} holds {} peers", index.get(), bucket.entries().len()));
        }
        let mut in_bucket: BTreeMap<_, u16> = BTreeMap::new();
        let mut peers: Vec<_> = bucket.entries().iter().map(crate::routing::Entry::peer).collect();
        peers.sort_unstable();
        if peers.windows(2).any(|two| two.first() == two.last()) {
            return Some(format!("bucket {} holds a peer twice", index.get()));
        }
        for entry in bucket.entries() {
            if entry.peer() == node.peer || node.key.distance(entry.key()).bucket() != Some(index) {
                return Some(format!("{} does not belong into bucket {}", entry.peer(), index.get()));
            }
            for group in entry.groups().iter() {
                *in_bucket.entry(group).or_default() += 1;
                *in_table.entry(group).or_default() += 1;
            }
        }
        // Of those whose IP address is not known a quarter of what there is, or was when they came.
        let limit = |group: &IpGroup| {
            let per_bucket = u16::from(limits?.per_bucket.get());
            let quarter = u16::try_from(k / 4).unwrap_or(u16::MAX);
            Some(if group.is_indirect() { per_bucket.max(quarter) } else { per_bucket })
        };
        let is_beyond = |(group, count): &(&IpGroup, &u16)| limit(group).is_some_and(|limit| **count > limit);
        if let Some((group, count)) = in_bucket.iter().find(is_beyond) {
            return Some(format!("bucket {} holds {count} of {group:?}", index.get()));
        }
    }
    let limit = limits.map(|limits| limits.per_table.get());
    let is_beyond = |(group, count): &(&IpGroup, &u16)| {
        !group.is_indirect() && limit.is_some_and(|limit| **count > limit)
    };
    let many = in_table.iter().find(is_beyond);
    many.map(|(group, count)| format!("the table holds {count} of {group:?}"))
}

fn check_connections(network: &Network, host: &Host, dht: &Dht<MemoryStore>) -> Option<String> {
    let others = host.connections.others().filter_map(|other| network.nodes.get(other));
    let others = others.filter(|_| !host.service.is_busy());
    let unknown = others.map(|other| other.peer).find(|peer| !dht.is_connected(peer));
    unknown.map(|peer| format!("it does not know of its connection to {peer}"))
}

fn check_bounds(
    (node, config): (&SimNode, &Config),
    now: Instant,
    host: &Host,
    dht: &Dht<MemoryStore>,
) -> Option<String> {
    let is_busy = host.service.is_busy();
    if dht.num_dials() > config.limits.max_dials.get() {
        return Some(format!("{} dials are under way", dht.num_dials()));
    }
    let table = dht.table();
    let waiting: usize = table.buckets().map(|bucket| bucket.replacements().len()).sum();
    let may_know = config.limits.max_known_peers.get() + table.len() + waiting + host.connections.most();
    let may_know = may_know + dht.num_requests() + config.limits.max_seeds.get() + SLACK;
    if dht.num_known_peers() > may_know {
        return Some(format!("{} peers are remembered, {may_know} may be", dht.num_known_peers()));
    }
    let deadline = dht.poll_timeout();
    let now = now.checked_sub(node.slept).unwrap_or(now);
    if let Some(deadline) = deadline.filter(|deadline| deadline.at < now && !is_busy) {
        let late = now.saturating_duration_since(deadline.at);
        return Some(format!("its {} deadline is overdue by {late:?}", deadline.reason));
    }
    let began = dht.queries().filter_map(|query| query.stats().start).min()?;
    let age = now.saturating_duration_since(began);
    (age > config.lookups.query_timeout && !is_busy).then(|| format!("a query runs for {age:?}"))
}
