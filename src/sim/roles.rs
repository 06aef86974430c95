//! Roles: nodes that do not play along, and what they answer.

use super::ids::{address, peer_id};
use super::links::{mix, seed_of};
use super::scenario::Roles;
use super::world::World;
use crate::addrs::Addresses;
use crate::key::Key;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::record::RecordKey;
use crate::rng::Rng;
use crate::time::Duration;

/// How a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Honest,
    Client,
    Undialable,
    Colluder,
    Poisoner,
    Liar,
    Stuffer,
    Laggard,
    /// Makes providers up.
    Sybil,
}

impl Role {
    pub(super) const fn is_dialable(self) -> bool {
        !matches!(self, Self::Client | Self::Undialable)
    }

    pub(super) const fn is_honest(self) -> bool {
        matches!(self, Self::Honest | Self::Client | Self::Undialable)
    }
}

/// Deals roles to nodes at random, each to its exact share. Node 0, whom others join through, is honest.
pub(super) fn deal(roles: &Roles, nodes: usize, rng: &mut Rng) -> Vec<Role> {
    let mut dealt = Vec::with_capacity(nodes);
    for (role, share) in [
        (Role::Client, roles.clients),
        (Role::Undialable, roles.undialable),
        (Role::Colluder, roles.colluders),
        (Role::Poisoner, roles.poisoners),
        (Role::Liar, roles.liars),
        (Role::Stuffer, roles.stuffers),
        (Role::Laggard, roles.laggards),
    ] {
        dealt.extend(std::iter::repeat_n(role, part(nodes, share)));
    }
    dealt.truncate(nodes.saturating_sub(1));
    dealt.resize(nodes, Role::Honest);
    shuffle(&mut dealt, rng);
    if let Some(honest) = dealt.iter().position(|role| *role == Role::Honest) {
        dealt.swap(0, honest);
    }
    dealt
}

/// Returns how many a share of `all` is, rounded.
pub(super) fn part(all: usize, share: f64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of some nodes, between none and all of them"
    )]
    let part = (all as f64 * share.clamp(0.0, 1.0)).round() as usize;
    part
}

/// Fisher and Yates.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for at in (1..items.len()).rev() {
        items.swap(at, below(rng, at + 1));
    }
}

/// Returns a uniform position among `len`.
pub(super) fn below(rng: &mut Rng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).unwrap_or_default()
}

/// How many peers a stuffer names.
const STUFFED: u64 = 1000;

/// By how much a laggard is late: beyond most soft timeouts, and well within what a request may take.
const LATE: Duration = Duration::from_millis(1500);
const LATEST: Duration = Duration::from_millis(3000);

impl World {
    /// Returns what a node that does not play along answers, if it does not leave that to the protocol.
    pub(super) fn false_answer(&self, n: usize, role: Role, request: &Request) -> Option<Response> {
        let key = match request {
            Request::FindNode { key } => key,
            Request::GetProviders { key } if role == Role::Sybil => return Some(self.made_up(key)),
            Request::GetValue { key } if role == Role::Laggard => {
                let closer_peers = self.nobodies(&(self.config.key_hash)(key.as_ref()));
                return Some(Response::GetValue { key: Some(key.clone()), record: None, closer_peers });
            }
            Request::GetProviders { key } if role == Role::Laggard => {
                let closer_peers = self.nobodies(&(self.config.key_hash)(key.as_ref()));
                let provider_peers = Vec::new();
                return Some(Response::GetProviders { key: Some(key.clone()), provider_peers, closer_peers });
            }
            Request::GetProviders { .. }
            | Request::AddProvider { .. }
            | Request::GetValue { .. }
            | Request::PutValue { .. }
            | Request::Ping => return None,
        };
        let target = (self.config.key_hash)(key);
        let k = self.config.bucket_size().get();
        let closer_peers = match role {
            Role::Honest | Role::Client | Role::Undialable | Role::Sybil => return None,
            Role::Colluder => {
                let friends = self.closest(&target, k, |other| other.role == Role::Colluder);
                friends.into_iter().map(|n| self.named(n, self.addresses_of(n))).collect()
            }
            Role::Poisoner | Role::Laggard => self.nobodies(&target),
            Role::Liar => {
                let true_ones =
                    self.closest(&target, k, |other| other.is_alive() && other.role.is_dialable());
                let elsewhere = |n: usize| (n + 1) % self.nodes.len().max(1);
                true_ones.into_iter().map(|n| self.named(n, self.addresses_of(elsewhere(n)))).collect()
            }
            Role::Stuffer => (0..STUFFED).map(|i| self.nobody(mix(n as u64) ^ i)).collect(),
        };
        Some(Response::FindNode { closer_peers })
    }

    /// Providers who do not exist, and the true closest peers.
    fn made_up(&self, key: &RecordKey) -> Response {
        let target = (self.config.key_hash)(key.as_ref());
        let k = self.config.bucket_size().get();
        let provider_peers = (0..k as u64).map(|i| self.nobody(mix(seed_of(&target)) ^ i)).collect();
        let closest = self.closest(&target, 2 * k, |other| other.is_alive() && other.role == Role::Honest);
        let closer_peers = closest.into_iter().take(k).map(|n| self.named(n, self.addresses_of(n))).collect();
        Response::GetProviders { key: Some(key.clone()), provider_peers, closer_peers }
    }

    /// As many nobodies as a lookup is about, the same for each who names them.
    fn nobodies(&self, target: &Key) -> Vec<KadPeer> {
        let k = self.config.bucket_size().get();
        (0..k as u64).map(|i| self.nobody(seed_of(target) ^ i)).collect()
    }

    /// Returns by how much a node answers later than its link makes it.
    pub(super) fn lateness(&mut self, n: usize) -> Duration {
        let is_late = self.nodes.get(n).is_some_and(|node| node.role == Role::Laggard);
        if is_late { LATE + (LATEST - LATE).mul_f64(self.rng.unit()) } else { Duration::ZERO }
    }

    fn named(&self, n: usize, addresses: Addresses) -> KadPeer {
        let node_id = self.nodes.get(n).map_or_else(|| peer_id(self.seed, n), |node| node.peer);
        KadPeer { node_id, multiaddrs: addresses, connection_ty: ConnectionType::CanConnect }
    }

    /// Somebody who does not exist, at an address where nobody is.
    fn nobody(&self, seed: u64) -> KadPeer {
        let node_id = peer_id(!self.seed, usize::try_from(seed).unwrap_or_default());
        let number = 20_000_000 + usize::try_from(mix(seed) % 1_000_000_000).unwrap_or_default();
        let addresses = Addresses::collect(&node_id, [address(number, self.links.transport)]);
        KadPeer { node_id, multiaddrs: addresses, connection_ty: ConnectionType::CanConnect }
    }

    /// Returns the `count` nodes closest to a target among some, closest first: by looking at all of them.
    pub(super) fn closest(
        &self,
        target: &Key,
        count: usize,
        among: impl Fn(&super::world::Node) -> bool,
    ) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| among(node));
        let mut all: Vec<_> = nodes.map(|(n, node)| (target.distance(&node.key), n)).collect();
        if all.len() > count && count > 0 {
            all.select_nth_unstable(count - 1);
            all.truncate(count);
        }
        all.sort_unstable();
        all.into_iter().take(count).map(|(_, n)| n).collect()
    }
}
