//! Ideal tables: the peers that a node would have if it knew all the others.

use super::nodes::Nodes;
use super::roles::below;
use crate::rng::Rng;

/// Returns the servers, by their keys.
pub(super) fn servers_by_key(nodes: &Nodes) -> Vec<usize> {
    let mut by_key: Vec<usize> = (0..nodes.len()).collect();
    by_key.sort_by_key(|n| nodes.get(*n).map(|node| node.key));
    by_key.retain(|n| nodes.get(*n).is_some_and(|node| node.is_server));
    by_key
}

/// Returns `k` random nodes of each bucket of a node, or all that belong there.
pub(super) fn peers(nodes: &Nodes, rng: &mut Rng, k: usize, n: usize, by_key: &[usize]) -> Vec<usize> {
    let Some(own) = nodes.get(n).map(|node| node.key) else {
        return Vec::new();
    };
    let key = |n: &usize| nodes.get(*n).map_or(own, |node| node.key);
    // The nodes that share a prefix with this one, ever longer, are a shrinking range of the sorted list.
    let mut range = by_key;
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
        let mut bucket: Vec<usize> =
            before.iter().chain(behind).copied().filter(|other| *other != n).collect();
        // The first k of a shuffled list; only they need to be drawn.
        let wanted = k.min(bucket.len());
        for at in 0..wanted {
            let other = at + below(rng, bucket.len() - at);
            bucket.swap(at, other);
        }
        peers.extend(bucket.into_iter().take(wanted));
        range = inside;
    }
    peers
}
