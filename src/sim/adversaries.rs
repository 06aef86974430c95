//! Adversaries: the built-in roles, and what they see of a network.

use std::sync::Arc;

use super::ids::peer_id;
use super::links::{mix, seed_of};
use super::network::Network;
use super::roles::{Answer, Around, NetworkView, Other, Role, is_same};
use super::scenario::Roles;
use crate::addrs::Addresses;
use crate::key::Key;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::record::RecordKey;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// A role that the simulator brings itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuiltIn {
    /// Plays along.
    Honest,
    /// Plays along behind a router: asks, does not serve and cannot be dialled.
    Client,
    /// Plays along and serves, but cannot be dialled.
    Undialable,
    /// Names only its fellows, those nearest to what is asked for.
    Colluder,
    /// Names made-up peers that are nearest to what is asked for, at addresses where no node answers.
    Poisoner,
    /// Names the right peers at addresses of others.
    Liar,
    /// Names a thousand made-up peers anywhere.
    Stuffer,
    /// Answers late, 1.5 to 3 s, and names made-up peers, even where a record or a provider is asked for.
    Laggard,
    /// Makes providers up, and names the true closest peers beside them.
    Sybil,
}

/// How many peers a stuffer names. Chosen, not measured: fifty times what an answer may name.
const STUFFED: u64 = 1000;

/// By how much a laggard is late: beyond most soft timeouts, and well within what a request may take. Chosen, not measured.
const LATE: Duration = Duration::from_millis(1500);
const LATEST: Duration = Duration::from_millis(3000);

impl Role for BuiltIn {
    fn is_honest(&self) -> bool {
        matches!(self, Self::Honest | Self::Client | Self::Undialable)
    }

    fn is_dialable(&self) -> bool {
        !matches!(self, Self::Client | Self::Undialable)
    }

    fn is_server(&self) -> bool {
        *self != Self::Client
    }

    fn answer(&self, around: &Around<'_>, request: &Request) -> Answer {
        let answer = false_answer(*self, around, request).map(Box::new);
        answer.map_or(Answer::ByProtocol, Answer::Instead)
    }

    fn lateness(&self, rng: &mut Rng) -> Duration {
        if *self == Self::Laggard { LATE + (LATEST - LATE).mul_f64(rng.unit()) } else { Duration::ZERO }
    }
}

/// Returns the built-in roles with their shares.
pub(super) fn shares(roles: &Roles) -> Vec<(f64, Arc<dyn Role>)> {
    let Roles { clients, undialable, colluders, poisoners, liars, stuffers, laggards } = *roles;
    let role = |share: f64, role: BuiltIn| -> (f64, Arc<dyn Role>) { (share, Arc::new(role)) };
    vec![
        role(clients, BuiltIn::Client),
        role(undialable, BuiltIn::Undialable),
        role(colluders, BuiltIn::Colluder),
        role(poisoners, BuiltIn::Poisoner),
        role(liars, BuiltIn::Liar),
        role(stuffers, BuiltIn::Stuffer),
        role(laggards, BuiltIn::Laggard),
    ]
}

/// Returns what a node that does not play along answers, if it does not leave that to the protocol.
fn false_answer(role: BuiltIn, around: &Around<'_>, request: &Request) -> Option<Response> {
    let key = match request {
        Request::FindNode { key } => key,
        Request::GetProviders { key } if role == BuiltIn::Sybil => return Some(made_up(around, key)),
        Request::GetValue { key } if role == BuiltIn::Laggard => {
            let closer_peers = nobodies(around, &around.key_of(key.as_ref()));
            return Some(Response::GetValue { key: Some(key.clone()), record: None, closer_peers });
        }
        Request::GetProviders { key } if role == BuiltIn::Laggard => {
            let closer_peers = nobodies(around, &around.key_of(key.as_ref()));
            let provider_peers = Vec::new();
            return Some(Response::GetProviders { key: Some(key.clone()), provider_peers, closer_peers });
        }
        Request::GetProviders { .. }
        | Request::AddProvider { .. }
        | Request::GetValue { .. }
        | Request::PutValue { .. }
        | Request::Ping => return None,
    };
    let target = around.key_of(key);
    let k = around.bucket_size();
    let closer_peers = match role {
        BuiltIn::Honest | BuiltIn::Client | BuiltIn::Undialable | BuiltIn::Sybil => return None,
        BuiltIn::Colluder => {
            let friends = around.closest(&target, k, |other| other.is_fellow);
            friends.into_iter().map(|n| around.named(n)).collect()
        }
        BuiltIn::Poisoner | BuiltIn::Laggard => nobodies(around, &target),
        BuiltIn::Liar => {
            let true_ones = around.closest(&target, k, |other| other.is_alive && other.is_dialable);
            let elsewhere = |n: usize| (n + 1) % around.num_nodes().max(1);
            true_ones.into_iter().map(|n| around.named_at(n, elsewhere(n))).collect()
        }
        BuiltIn::Stuffer => (0..STUFFED).map(|i| around.nobody(mix(around.me() as u64) ^ i)).collect(),
    };
    Some(Response::FindNode { closer_peers })
}

/// Returns providers that do not exist, and the true closest peers.
fn made_up(around: &Around<'_>, key: &RecordKey) -> Response {
    let target = around.key_of(key.as_ref());
    let k = around.bucket_size();
    let provider_peers = (0..k as u64).map(|i| around.nobody(mix(seed_of(&target)) ^ i)).collect();
    let closest =
        around.closest(&target, 2 * k, |other| other.is_alive && other.is_honest && other.is_dialable);
    let closer_peers = closest.into_iter().take(k).map(|n| around.named(n)).collect();
    Response::GetProviders { key: Some(key.clone()), provider_peers, closer_peers }
}

/// Returns as many peers that do not exist as a lookup is about, the same for each node that names them.
fn nobodies(around: &Around<'_>, target: &Key) -> Vec<KadPeer> {
    (0..around.bucket_size() as u64).map(|i| around.nobody(seed_of(target) ^ i)).collect()
}

/// The network at one time.
#[derive(Clone, Copy)]
pub(super) struct NetworkAt<'a> {
    pub(super) network: &'a Network,
    pub(super) now: Instant,
}

impl NetworkView for NetworkAt<'_> {
    fn since_start(&self) -> Duration {
        self.now.saturating_duration_since(self.network.origin())
    }

    fn len(&self) -> usize {
        self.network.nodes.len()
    }

    fn bucket_size(&self, n: usize) -> usize {
        self.network.config_of(n).bucket_size().get()
    }

    fn key_of(&self, bytes: &[u8]) -> Key {
        (self.network.config.key_hash)(bytes)
    }

    fn closest(&self, me: usize, target: &Key, count: usize, among: &dyn Fn(&Other) -> bool) -> Vec<usize> {
        let own = self.network.nodes.get(me).map(|node| &node.role);
        self.network.nodes.closest_numbered(target, count, |number, node| {
            among(&Other {
                number,
                is_alive: node.is_alive(),
                is_honest: node.is_honest,
                is_dialable: node.is_dialable,
                is_fellow: own.is_some_and(|own| is_same(own, &node.role)),
            })
        })
    }

    fn named(&self, n: usize, at: usize) -> KadPeer {
        let node_id =
            self.network.nodes.get(n).map_or_else(|| peer_id(self.network.seed, n), |node| node.peer);
        KadPeer {
            node_id,
            multiaddrs: self.network.nodes.addresses_of(at),
            connection_ty: ConnectionType::CanConnect,
        }
    }

    fn nobody(&self, seed: u64) -> KadPeer {
        let node_id = peer_id(!self.network.seed, usize::try_from(seed).unwrap_or_default());
        let number = 20_000_000 + usize::try_from(mix(seed) % 1_000_000_000).unwrap_or_default();
        let multiaddrs = Addresses::collect(&node_id, [self.network.places.in_v4(number)]);
        KadPeer { node_id, multiaddrs, connection_ty: ConnectionType::CanConnect }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::roles::deal;
    use crate::sim::scenario::{Lookups, Scenario};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts what it is asked, and keeps silent, refuses or names one that it makes up.
    #[derive(Debug, Default)]
    struct Own {
        asked: AtomicUsize,
    }

    impl Role for Own {
        fn answer(&self, around: &Around<'_>, request: &Request) -> Answer {
            assert!(around.me() != around.asker() && around.now() > Duration::ZERO);
            let Request::FindNode { key } = request else {
                return Answer::ByProtocol;
            };
            let target = around.key_of(key);
            let fellows = around.closest(&target, 100, |other| other.is_fellow);
            assert!(fellows.contains(&around.me()) && fellows.len() == 20, "{fellows:?}");
            match self.asked.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => Answer::Silence,
                1 => Answer::Refusal,
                _ => {
                    let closer_peers = vec![around.nobody(7)];
                    Answer::Instead(Box::new(Response::FindNode { closer_peers }))
                }
            }
        }
    }

    #[test]
    fn a_role_of_ones_own_is_asked_and_its_runs_repeat() {
        let run = |share| {
            let own = Arc::new(Own::default());
            let report = Scenario {
                nodes: 100,
                own_roles: vec![(share, Arc::<Own>::clone(&own))],
                lookups: Lookups { count: 40, ..Lookups::default() },
                ..Scenario::default()
            };
            (report.run().unwrap(), own.asked.load(Ordering::Relaxed))
        };
        let (report, asked) = run(0.2);
        assert!(asked > 40, "{asked}");
        let soft_timeouts: u32 = report.lookups.iter().map(|lookup| lookup.soft_timeouts).sum();
        assert!(soft_timeouts > 10 && report.summary().recall > 0.9, "{soft_timeouts} {report}");
        assert_eq!((run(0.2).0.hash, run(0.0).1), (report.hash, 0));
    }

    #[test]
    fn roles_are_dealt_to_their_exact_shares_and_the_first_plays_along() {
        let honest: Arc<dyn Role> = Arc::new(BuiltIn::Honest);
        let shares = shares(&Roles { liars: 0.3, clients: 0.1, ..Roles::default() });
        for seed in 0..20 {
            let dealt = deal(&shares, &honest, 50, &mut Rng::from_u64(seed));
            let count = |name: &str| dealt.iter().filter(|role| format!("{role:?}") == name).count();
            assert_eq!((dealt.len(), count("Liar"), count("Client"), count("Honest")), (50, 15, 5, 30));
            assert!(is_same(&dealt[0], &honest));
        }
    }
}
