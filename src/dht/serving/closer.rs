//! The closest peers that are named to requesters.

use libp2p_identity::PeerId;

use crate::addrs::{Addresses, Reach};
use crate::dht::bans::Bans;
use crate::dht::op::search::GroupTally;
use crate::dht::view::Parts;
use crate::key::{Key, PeerBytes};
use crate::peer::{ConnectionType, KadPeer};
use crate::routing::Entry;
use crate::time::Instant;

/// Returns the `k` closest peers to a key that the table has and that answer, the asker left out.
///
/// Where IP diversity is soft, some of them may make way for others; see [`diverse`].
///
/// A node that has fewer names its seeds as well, until it has heard of them: while a network starts, what the application
/// said is all that anybody knows.
pub(super) fn closer(target: &Key, from: &PeerId, first: Option<KadPeer>, parts: &Parts<'_>) -> Vec<KadPeer> {
    let Parts { cx, peers, upkeep, .. } = parts;
    let (k, reach) = (cx.config.bucket_size().get(), peers.reach(from));
    let mut named = Vec::with_capacity(k + 1);
    named.extend(first);
    let first = named.first().map(|peer| peer.node_id);
    // Who is a member may have changed since it has entered.
    let is_admitted = |entry: &&Entry| peers.bans.is_idle() || peers.admits(&entry.peer());
    let live = upkeep.table.closest(target).filter(|entry| entry.is_live()).filter(is_admitted);
    let others = live.filter(|entry| !entry.is_of(from) && first.is_none_or(|first| !entry.is_of(&first)));
    let own = usize::from(first == Some(cx.local.peer));
    let room = k + own - named.len();
    // Whom the asker cannot reach it is not told of.
    let is_met = peers.is_connected(from);
    let reachable = others.filter_map(|entry| {
        let multiaddrs = told(entry.addresses(), reach, is_met, &peers.bans);
        let connection_ty = connection(entry.is_connected());
        (!multiaddrs.is_empty())
            .then(|| (KadPeer { node_id: entry.peer(), multiaddrs, connection_ty }, entry))
    });
    if upkeep.table.is_soft() {
        named.extend(diverse(target, reachable, room));
    } else {
        named.extend(reachable.take(room).map(|(peer, _)| peer));
    }
    if named.len() < k + own {
        name_seeds(target, from, (k + own, reach), &mut named, parts);
    }
    named
}

/// Returns the closest of some peers, nearest first; but if more than two of these are of one IP group, and as many that are not live
/// within twice the distance, those: an attacker with a network of its own there would be all that is named.
fn diverse<'a>(
    target: &Key,
    mut live: impl Iterator<Item = (KadPeer, &'a Entry)>,
    room: usize,
) -> impl Iterator<Item = KadPeer> {
    let mut nearest: Vec<_> = live.by_ref().take(room).collect();
    let distance = |entry: &Entry| target.distance(entry.key());
    let mut groups = GroupTally::default();
    let counts: Vec<_> = nearest.iter().map(|(_, entry)| groups.counts(entry.groups())).collect();
    let lacking = counts.iter().filter(|counts| !**counts).count();
    if let Some(reach) =
        nearest.last().map(|(_, entry)| distance(entry).saturating_mul(2)).filter(|_| lacking > 0)
    {
        let near = live.take_while(|(_, entry)| distance(entry) <= reach);
        let others: Vec<_> = near.filter(|(_, entry)| groups.counts(entry.groups())).take(lacking).collect();
        if others.len() == lacking {
            let mut counts = counts.into_iter();
            nearest.retain(|_| counts.next().unwrap_or_default());
            nearest.extend(others);
        }
    }
    nearest.into_iter().map(|(peer, _)| peer)
}

/// Returns the addresses of others that an asker is told whose connection reaches so far, if there is one.
fn told(addresses: &Addresses, reach: Reach, is_met: bool, bans: &Bans) -> Addresses {
    let told = if is_met { addresses.reachable_by(reach) } else { addresses.told_to(reach) };
    bans.allowed(told)
}

/// Adds the closest seeds of which nothing has been heard yet, up to so many peers in all, nearest first.
fn name_seeds(
    target: &Key,
    from: &PeerId,
    (room, reach): (usize, Reach),
    named: &mut Vec<KadPeer>,
    Parts { cx, peers, upkeep, .. }: &Parts<'_>,
) {
    let is_new = |peer: &PeerId| peer != from && named.iter().all(|known| known.node_id != *peer);
    let unheard = upkeep.seeds.unheard().filter(|(_, peer, _)| is_new(peer));
    let mut unheard: Vec<_> = unheard.collect();
    if unheard.is_empty() {
        return;
    }
    unheard.sort_by_key(|(key, peer, _)| (target.distance(key), *peer));
    let first = usize::from(named.first().is_some_and(|peer| peer.node_id == cx.local.peer));
    let room = room.saturating_sub(named.len());
    named.extend(unheard.into_iter().take(room).map(|(_, node_id, addresses)| KadPeer {
        node_id,
        multiaddrs: told(addresses, reach, peers.is_connected(from), &peers.bans),
        connection_ty: connection(peers.is_connected(&node_id)),
    }));
    named[first..].sort_by_key(|peer| target.distance(&peers.key(&peer.node_id)));
}

/// Returns the closest peers to the hash of `key`.
///
/// Led by this node if it is asked for itself, or by the peer whose id the key is if that is connected or has
/// answered lately, in the table or not; a peer that others only spoke of is not named.
///
/// # Spec
/// libp2p kad-dht, "RPC messages": FIND_NODE. go nodes take a peer into their tables only if it names at least one
/// peer when asked for itself.
pub(super) fn closer_to_node(now: Instant, key: &[u8], from: &PeerId, parts: &Parts<'_>) -> Vec<KadPeer> {
    let Parts { cx, peers, .. } = parts;
    let (target, reach) = (cx.hash(key), peers.reach(from));
    let first = if key == PeerBytes::of(&cx.local.peer).as_slice() {
        let multiaddrs = cx.local.addresses_for(reach);
        Some(KadPeer { node_id: cx.local.peer, multiaddrs, connection_ty: ConnectionType::Connected })
    } else {
        PeerId::from_bytes(key).ok().filter(|peer| peer != from && peers.admits(peer)).and_then(|peer| {
            let known = peers.get(&peer)?;
            (peers.is_proven(now, &peer) && !known.addresses.is_empty()).then(|| KadPeer {
                node_id: peer,
                multiaddrs: told(&known.addresses, reach, peers.is_connected(from), &peers.bans),
                connection_ty: connection(known.is_connected()),
            })
        })
    };
    closer(&target, from, first, parts)
}

pub(super) const fn connection(connected: bool) -> ConnectionType {
    if connected { ConnectionType::Connected } else { ConnectionType::CanConnect }
}
