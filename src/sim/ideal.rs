//! Ideal tables: the peers that a node would have if it knew all the others.

use super::nodes::Nodes;
use super::roles::below;
use crate::rng::Rng;

/// Returns `k` random nodes of each bucket of a node, or all that belong there.
pub(super) fn peers(nodes: &Nodes, rng: &mut Rng, k: usize, n: usize) -> Vec<usize> {
    let Some(own) = nodes.get(n).map(|node| node.key) else {
        return Vec::new();
    };
    let key = |n: &u32| nodes.get(*n as usize).map_or(own, |node| node.key);
    let is_server = |n: &usize| nodes.get(*n).is_some_and(|node| node.is_server);
    // The nodes that share a prefix with this one, ever longer, are a shrinking range of the sorted list.
    let mut range = nodes.by_key();
    let mut peers = Vec::new();
    for prefix in 0..256u32 {
        if range.len() <= 1 {
            break;
        }
        let start =
            range.partition_point(|other| own.common_prefix(&key(other)) <= prefix && key(other) < own);
        let end = range.partition_point(|other| own.common_prefix(&key(other)) > prefix || key(other) < own);
        let (before, rest) = range.split_at(start);
        let (inside, behind) = rest.split_at(end.saturating_sub(start));
        let len = before.len() + behind.len();
        let at = |at: usize| before.get(at).or_else(|| behind.get(at - before.len())).map(|n| *n as usize);
        peers.extend(drawn(rng, k, len, |place| at(place).filter(|other| *other != n && is_server(other))));
        range = inside;
    }
    peers
}

/// So many times as many draws as there are to be drawn are made before all are looked at. Chosen, not measured.
const DRAWS: usize = 8;

/// Returns `k` random ones of those that are at the places of a list, or all of them: not each place has one.
fn drawn(rng: &mut Rng, k: usize, len: usize, at: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
    let mut drawn = Vec::with_capacity(k);
    if len > DRAWS * k {
        // Of a long list a few places are drawn, and those again that have none or were drawn before.
        for _ in 0..DRAWS * k {
            if let Some(one) = at(below(rng, len)).filter(|one| !drawn.contains(one)) {
                drawn.push(one);
                if drawn.len() == k {
                    return drawn;
                }
            }
        }
        drawn.clear();
    }
    // The first k of a shuffled list; only they need to be drawn.
    let mut all: Vec<usize> = (0..len).filter_map(at).collect();
    let wanted = k.min(all.len());
    for at in 0..wanted {
        let other = at + below(rng, all.len() - at);
        all.swap(at, other);
    }
    all.truncate(wanted);
    all
}
