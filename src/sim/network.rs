//! The network: which nodes there are, and what lies between them.
//!
//! Nothing of it changes while time passes, so that all shards read it at once. Calls no node and schedules nothing.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::ids::Places;
use super::links::Links;
use super::nodes::{Life, Nodes, Refuses};
use super::scenario::{Scenario, Start};
use crate::config::{Config, IpDiversity};
use crate::dht::{DialFailure, Input, Unreached};
use crate::event::Mode;
use crate::rng::Rng;
use crate::time::{Duration, Instant, Now, SystemTime};

/// After so long a dial that is not answered has failed, and a connection over which nothing passes is lost: what libp2p's
/// transports do by default.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(10);

/// After so long a connection over which nothing passes is given up by the system: what Linux does with its default number
/// of retransmissions.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_secs(924);

/// The traffic of a network: what was sent, by all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Answers.
    pub responses: u64,
    /// Bytes of both, as they stand on the wire.
    pub bytes: u64,
    /// Dials.
    pub dials: u64,
    /// Those of the requests that announce a provider.
    pub announcements: u64,
}

impl Traffic {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            responses: self.responses + other.responses,
            bytes: self.bytes + other.bytes,
            dials: self.dials + other.dials,
            announcements: self.announcements + other.announcements,
        }
    }
}

/// The nodes as all see them, and the links between them.
///
/// # What it decides
/// How long a message takes, what becomes of a dial, whether anything passes.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) seed: u64,
    pub(super) config: Config,
    pub(super) links: Links,
    /// The least time that a message takes from one node to another.
    pub(super) least: Duration,
    pub(super) work: Duration,
    pub(super) nodes: Nodes,
    pub(super) places: Places,
    /// The side from which nothing arrives elsewhere though what is sent to it does, or the other way round.
    pub(super) deaf: Option<usize>,
    origin: Instant,
}

impl Network {
    pub(super) fn new(scenario: &Scenario, origin: Instant) -> Self {
        let configs = || scenario.groups.iter().map(|group| &group.config).chain([&scenario.config]);
        let limits = configs()
            .filter(|config| config.ip_diversity() == IpDiversity::Strict)
            .map(|config| &config.routing.ip_limits);
        let in_group = limits.map(|limits| limits.per_table.get().min(limits.per_bucket.get().into())).min();
        let in_group = in_group.filter(|_| scenario.start == Start::Ideal).map(usize::from);
        let places = Places::new((scenario.links.transport, scenario.hosting), scenario.nodes, in_group);
        Self {
            seed: scenario.seed,
            config: scenario.config.clone(),
            least: scenario.links.least(),
            links: scenario.links.clone(),
            work: scenario.work,
            nodes: Nodes::default(),
            places,
            deaf: None,
            origin,
        }
    }

    /// Returns when virtual time began.
    pub(super) const fn origin(&self) -> Instant {
        self.origin
    }

    /// Changes the links.
    pub(super) fn set_links(&mut self, links: Links) {
        self.least = links.least();
        self.links = links;
    }

    /// Returns the wall-clock time, which began at 1970.
    pub(super) fn wall(&self, now: Instant) -> SystemTime {
        SystemTime::UNIX_EPOCH + now.saturating_duration_since(self.origin)
    }

    /// Returns what the clocks of a node show: those of the world, less what it has slept and as its own was set.
    pub(super) fn clocks(&self, now: Instant, n: usize) -> Now {
        let (slept, set) = self.nodes.get(n).map_or((Duration::ZERO, 0), |node| (node.slept, node.clock_set));
        let by = Duration::from_secs(set.unsigned_abs());
        let wall = self.wall(now);
        let wall = if set < 0 { wall.checked_sub(by) } else { wall.checked_add(by) };
        Now::new(now.checked_sub(slept).unwrap_or(now), wall.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Returns the configuration of a node.
    pub(super) fn config_of(&self, n: usize) -> &Config {
        self.nodes.get(n).and_then(|node| node.config.as_deref()).unwrap_or(&self.config)
    }

    /// Returns the round-trip time between two nodes.
    pub(super) fn round_trip(&self, a: usize, b: usize) -> Duration {
        self.links.round_trip(self.seed, a, b)
    }

    /// Returns how long a message takes.
    pub(super) fn one_way(&self, a: usize, b: usize, rng: &mut Rng) -> Duration {
        self.links.one_way(self.round_trip(a, b), rng)
    }

    /// Returns whether nothing passes from one node to another.
    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        let side = |n: usize| self.nodes.get(n).map_or(0, |node| node.side);
        let (from, to) = (side(from), side(to));
        // What the deaf side sends still arrives.
        from != to && self.deaf != Some(from)
    }

    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }

    /// Returns what comes of a dial of a peer at an address, and after how long.
    pub(super) fn try_address(
        &self,
        n: usize,
        peer: Option<&PeerId>,
        address: &Multiaddr,
        rng: &mut Rng,
    ) -> (Duration, Result<usize, DialFailure>) {
        let unreachable = || Err(DialFailure::unreachable(Unreached::Silent));
        let to = self.places.number_of(address).map(|number| self.nodes.at(number));
        let Some((to, node)) = to.and_then(|to| Some((to, self.nodes.get(to)?))) else {
            return (DEAD_AFTER, unreachable());
        };
        if to == n {
            return (Duration::ZERO, Err(DialFailure::Own { address: address.clone() }));
        }
        if !node.is_dialable || self.is_cut(n, to) {
            return (DEAD_AFTER, unreachable());
        }
        let rtt = self.round_trip(n, to);
        match node.life {
            Life::Frozen | Life::Gone(_, Refuses::Never) => (DEAD_AFTER, unreachable()),
            Life::Gone(_, Refuses::AtOnce) => (self.links.one_way(rtt, rng) * 2, unreachable()),
            Life::Alive => {
                let time = self.links.dial(rtt, rng);
                if peer.is_some_and(|peer| *peer != node.peer) {
                    (time, Err(DialFailure::WrongPeer { address: address.clone(), met: node.peer }))
                } else {
                    (time, Ok(to))
                }
            }
        }
    }
}

/// Returns what a peer learns by identify of a node's mode.
pub(super) const fn protocol(peer: PeerId, mode: Mode) -> Input {
    match mode {
        Mode::Server => Input::ProtocolConfirmed { peer },
        Mode::Client => Input::ProtocolDoubted { peer },
    }
}
