//! People: how a network comes to be, and what happens to those who make it up.

use super::{Happening, Life, Refuses, World};
use crate::dht::Input;
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::sim::roles::{Role, below, part, shuffle};
use crate::sim::scenario::{Incident, Scenario, Start};
use crate::time::Duration;

/// While the tables of an ideal network are filled, and a while longer, so that nothing of it is still under way.
const FILLING: Duration = Duration::from_secs(600);

impl World {
    /// Makes the nodes of a scenario and lets them find each other.
    pub(super) fn people(&mut self, scenario: &Scenario) {
        for role in self.deal_roles(scenario) {
            self.add_node(role);
        }
        match scenario.start {
            Start::Ideal => self.make_ideal(),
            Start::Join { every, seeds } => {
                self.seeds = seeds.clamp(1, scenario.nodes.max(1));
                for n in 0..scenario.nodes {
                    self.later(every * u32::try_from(n).unwrap_or(u32::MAX), Happening::Born(n));
                }
                self.run_for(every * u32::try_from(scenario.nodes).unwrap_or(u32::MAX));
            }
        }
        self.run_for(scenario.settle);
        if self.churn.is_some() {
            for n in self.alive().collect::<Vec<_>>() {
                let left = self.session(true);
                self.leaves_in(left, n);
            }
        }
    }

    /// A node comes to life and is told one of those that were first.
    pub(super) fn arrive(&mut self, n: usize) {
        self.give_birth(n);
        let first = 0..self.seeds;
        let seeds: Vec<_> = first.filter(|seed| *seed != n).collect();
        if let Some(seed) = seeds.get(below(&mut self.rng, seeds.len()))
            && let Some((peer, at)) = self.nodes.get(*seed).map(|node| (node.peer, node.address.clone()))
        {
            self.with(n, |dht, now| dht.add_address(now, peer, at));
        }
    }

    /// Gives each node the table it would have if it knew everybody.
    fn make_ideal(&mut self) {
        use crate::config::{Config, Joining};
        let grace = Duration::from_secs(365 * 24 * 60 * 60);
        let config = self.config.clone().with_joining(Joining::OnRequest).with_low_peers(0);
        self.config = Config { grace, refresh_interval: None, ..config };
        let origin = self.now;
        let mut by_key: Vec<usize> = (0..self.nodes.len()).collect();
        by_key.sort_by_key(|n| self.nodes.get(*n).map(|node| node.key));
        let servers: Vec<usize> = by_key
            .into_iter()
            .filter(|n| self.nodes.get(*n).is_some_and(|node| node.role != Role::Client))
            .collect();
        for n in 0..self.nodes.len() {
            self.now = origin;
            self.give_birth(n);
            for other in self.ideal_peers(n, &servers) {
                self.introduce(n, other);
            }
        }
        self.now = origin + FILLING;
        self.settle_ideal();
    }

    /// Returns `k` random nodes of each bucket of a node, or all that belong there.
    fn ideal_peers(&mut self, n: usize, by_key: &[usize]) -> Vec<usize> {
        let k = self.config.bucket_size().get();
        let Some(own) = self.nodes.get(n).map(|node| node.key) else {
            return Vec::new();
        };
        let key = |n: &usize| self.nodes.get(*n).map_or(own, |node| node.key);
        // The nodes that share a prefix with this one, ever longer, are a shrinking range of the sorted list.
        let mut range = by_key;
        let mut peers = Vec::new();
        let mut rng = self.rng.clone();
        for prefix in 0..256u32 {
            if range.len() <= 1 {
                break;
            }
            let start =
                range.partition_point(|other| own.common_prefix(&key(other)) <= prefix && key(other) < own);
            let end =
                range.partition_point(|other| own.common_prefix(&key(other)) > prefix || key(other) < own);
            let (before, rest) = range.split_at(start);
            let (inside, behind) = rest.split_at(end.saturating_sub(start));
            let mut bucket: Vec<usize> =
                before.iter().chain(behind).copied().filter(|other| *other != n).collect();
            // The first k of a shuffled list; only they need to be drawn.
            let wanted = k.min(bucket.len());
            for at in 0..wanted {
                let other = at + below(&mut rng, bucket.len() - at);
                bucket.swap(at, other);
            }
            peers.extend(bucket.into_iter().take(wanted));
            range = inside;
        }
        self.rng = rng;
        peers
    }

    /// Lets a node meet another as it would have before: connected, identified, asked once.
    fn introduce(&mut self, n: usize, other: usize) {
        let Some(node) = self.nodes.get(other) else {
            return;
        };
        let (peer, key, addresses) = (node.peer, node.key, vec![node.address.clone()]);
        let mut asked = self.meet_ideally(n, other);
        asked.extend(self.input_alone(n, Input::AddressesLearned { peer, addresses }));
        asked.extend(self.input_alone(n, Input::ProtocolConfirmed { peer }));
        for (id, request) in asked {
            self.now += self.round_trip(n, other);
            let named = KadPeer {
                node_id: peer,
                multiaddrs: self.addresses_of(other),
                connection_ty: ConnectionType::CanConnect,
            };
            let response = match request {
                Request::FindNode { .. } => Response::FindNode { closer_peers: vec![named] },
                Request::Ping
                | Request::GetValue { .. }
                | Request::PutValue { .. }
                | Request::GetProviders { .. }
                | Request::AddProvider { .. } => Response::Pong,
            };
            self.input_alone(n, Input::ResponseReceived { id, response });
        }
        let is_known = self.node(n).is_some_and(|dht| dht.table().entry(&key, &peer).is_some());
        assert!(is_known, "node {n} has no room for node {other} in its ideal table");
    }

    /// How long a session lasts, or what is left of one that is under way.
    ///
    /// Weibull with shape 0.5 is the square of an exponential; its mean is twice its scale. Whoever is met in the midst of
    /// a session is met in a long one: its length follows the square of a Gamma(3) variable, of which a uniform part is
    /// left.
    fn session(&mut self, under_way: bool) -> Duration {
        let scale = self.churn.map_or(0.0, |churn| churn.mean_session.as_secs_f64()) / 2.0;
        let mut exponential = || -libm::log(1.0 - self.rng.unit());
        let seconds = if under_way {
            let gamma = exponential() + exponential() + exponential();
            scale * gamma * gamma * self.rng.unit()
        } else {
            let one = exponential();
            scale * one * one
        };
        Duration::from_secs_f64(seconds)
    }

    fn leaves_in(&mut self, time: Duration, n: usize) {
        let life = self.nodes.get(n).map_or(0, |node| node.incarnation);
        self.later(time, Happening::Leaves { who: n, life });
    }

    /// The session of a node ends, and somebody else comes.
    pub(super) fn leave(&mut self, n: usize, life: u32) {
        let Some(churn) = self.churn else {
            return;
        };
        if !self.nodes.get(n).is_some_and(|node| node.is_alive() && node.incarnation == life) {
            return;
        }
        let crashes = self.rng.unit() < churn.crashes;
        self.die(n, if crashes { Refuses::Never } else { Refuses::AtOnce });
        if n >= self.seeds {
            self.away.push(n);
        }
        let is_new = self.rng.unit() < churn.new_ids;
        let next = if n < self.seeds {
            // Those whom others join through come back at once.
            n
        } else if is_new || self.away.len() <= 1 {
            self.add_node(Role::Honest)
        } else {
            let at = below(&mut self.rng, self.away.len());
            self.away.swap_remove(at)
        };
        self.arrive(next);
        let time = self.session(false);
        self.leaves_in(time, next);
    }

    /// A node is no more.
    pub(super) fn die(&mut self, n: usize, refuses: Refuses) {
        self.trace.note(self.now, 9, n, 0);
        self.lose_all(n, refuses == Refuses::AtOnce);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(n) {
            node.life = Life::Gone(now, refuses);
            node.mode = Mode::Client;
            node.dht = None;
        }
        self.asked.retain(|(asker, _), _| *asker != n);
    }

    /// Lets something happen to the network.
    pub fn incident(&mut self, incident: Incident) {
        match incident {
            Incident::Freeze(share) => {
                for n in self.some(share) {
                    if let Some(node) = self.nodes.get_mut(n) {
                        node.life = Life::Frozen;
                    }
                }
            }
            Incident::Kill(share) => {
                for n in self.some(share) {
                    self.die(n, Refuses::AtOnce);
                }
            }
            Incident::CutUplinks(share) => {
                for n in self.some(share) {
                    if let Some(node) = self.nodes.get_mut(n) {
                        node.side = n + 1;
                    }
                }
                self.lose_cut();
            }
            Incident::Partition { share, one_way } => {
                let side = self.nodes.len() + 1;
                for n in self.some(share) {
                    if let Some(node) = self.nodes.get_mut(n) {
                        node.side = side;
                    }
                }
                self.deaf = one_way.then_some(side);
                self.lose_cut();
            }
            Incident::Heal => {
                self.deaf = None;
                let mut thawed = Vec::new();
                for (n, node) in self.nodes.iter_mut().enumerate() {
                    node.side = 0;
                    if node.life == Life::Frozen {
                        node.life = Life::Alive;
                        node.wake_at = Some(self.now);
                        thawed.push(n);
                    }
                }
                thawed.into_iter().for_each(|n| self.later(Duration::ZERO, Happening::Wake(n)));
            }
        }
    }

    /// Returns a random share of those that live, but never of the first, through whom others join.
    fn some(&mut self, share: f64) -> Vec<usize> {
        let mut alive: Vec<_> = self.alive().filter(|n| *n >= self.seeds).collect();
        let count = part(alive.len(), share);
        shuffle(&mut alive, &mut self.rng);
        alive.truncate(count);
        self.trace.note(self.now, 10, count, 0);
        alive
    }
}
