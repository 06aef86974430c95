//! Adversaries: what nodes answer that do not play along.

use super::ids::peer_id;
use super::links::{mix, seed_of};
use super::network::Network;
use super::roles::Role;
use crate::addrs::Addresses;
use crate::key::Key;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::record::RecordKey;

/// How many peers a stuffer names. Chosen, not measured: fifty times what an answer may name.
const STUFFED: u64 = 1000;

/// Returns what a node that does not play along answers, if it does not leave that to the protocol.
pub(super) fn false_answer(network: &Network, n: usize, role: Role, request: &Request) -> Option<Response> {
    let key = match request {
        Request::FindNode { key } => key,
        Request::GetProviders { key } if role == Role::Sybil => return Some(made_up(network, key)),
        Request::GetValue { key } if role == Role::Laggard => {
            let closer_peers = nobodies(network, &(network.config.key_hash)(key.as_ref()));
            return Some(Response::GetValue { key: Some(key.clone()), record: None, closer_peers });
        }
        Request::GetProviders { key } if role == Role::Laggard => {
            let closer_peers = nobodies(network, &(network.config.key_hash)(key.as_ref()));
            let provider_peers = Vec::new();
            return Some(Response::GetProviders { key: Some(key.clone()), provider_peers, closer_peers });
        }
        Request::GetProviders { .. }
        | Request::AddProvider { .. }
        | Request::GetValue { .. }
        | Request::PutValue { .. }
        | Request::Ping => return None,
    };
    let target = (network.config.key_hash)(key);
    let (k, nodes) = (network.config.bucket_size().get(), &network.nodes);
    let closer_peers = match role {
        Role::Honest | Role::Client | Role::Undialable | Role::Sybil => return None,
        Role::Colluder => {
            let friends = nodes.closest(&target, k, |other| other.role == Role::Colluder);
            friends.into_iter().map(|n| named(network, n, nodes.addresses_of(n))).collect()
        }
        Role::Poisoner | Role::Laggard => nobodies(network, &target),
        Role::Liar => {
            let true_ones = nodes.closest(&target, k, |other| other.is_alive() && other.role.is_dialable());
            let elsewhere = |n: usize| (n + 1) % nodes.len().max(1);
            true_ones.into_iter().map(|n| named(network, n, nodes.addresses_of(elsewhere(n)))).collect()
        }
        Role::Stuffer => (0..STUFFED).map(|i| nobody(network, mix(n as u64) ^ i)).collect(),
    };
    Some(Response::FindNode { closer_peers })
}

/// Returns providers that do not exist, and the true closest peers.
fn made_up(network: &Network, key: &RecordKey) -> Response {
    let target = (network.config.key_hash)(key.as_ref());
    let (k, nodes) = (network.config.bucket_size().get(), &network.nodes);
    let provider_peers = (0..k as u64).map(|i| nobody(network, mix(seed_of(&target)) ^ i)).collect();
    let closest = nodes.closest(&target, 2 * k, |other| other.is_alive() && other.role == Role::Honest);
    let closer_peers =
        closest.into_iter().take(k).map(|n| named(network, n, nodes.addresses_of(n))).collect();
    Response::GetProviders { key: Some(key.clone()), provider_peers, closer_peers }
}

/// Returns as many peers that do not exist as a lookup is about, the same for each node that names them.
fn nobodies(network: &Network, target: &Key) -> Vec<KadPeer> {
    let k = network.config.bucket_size().get();
    (0..k as u64).map(|i| nobody(network, seed_of(target) ^ i)).collect()
}

fn named(network: &Network, n: usize, addresses: Addresses) -> KadPeer {
    let node_id = network.nodes.get(n).map_or_else(|| peer_id(network.seed, n), |node| node.peer);
    KadPeer { node_id, multiaddrs: addresses, connection_ty: ConnectionType::CanConnect }
}

/// Returns a peer that does not exist, at an address where nobody is.
fn nobody(network: &Network, seed: u64) -> KadPeer {
    let node_id = peer_id(!network.seed, usize::try_from(seed).unwrap_or_default());
    let number = 20_000_000 + usize::try_from(mix(seed) % 1_000_000_000).unwrap_or_default();
    let addresses = Addresses::collect(&node_id, [network.places.in_v4(number)]);
    KadPeer { node_id, multiaddrs: addresses, connection_ty: ConnectionType::CanConnect }
}
