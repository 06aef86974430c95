//! Runs: a scenario from its beginning to its report.

use super::checks::Violation;
use super::network::Traffic;
use super::nodes::Node;
use super::report::Report;
use super::roles::shuffle;
use super::scenario::{Incident, Scenario, Start};
use super::world::World;
use crate::time::Duration;

/// An act of a scenario.
#[derive(Clone, Copy, Debug)]
enum Act {
    Incident(Incident),
    LookUp,
    MeasureHealth,
}

/// How many acts pass between two checks of the whole world. Chosen, not measured: a check costs as much as some lookups.
const CHECK_EVERY: usize = 64;

impl Scenario {
    /// Runs the scenario.
    ///
    /// # Errors
    /// A [`Violation`] of what must be true of every node at every time: a bug of this library. It tells the command that
    /// repeats it; report both.
    pub fn run(&self) -> Result<Report, Violation> {
        self.run_and_watch(|_, _| ())
    }

    /// Runs the scenario, and shows the world and what share of the run is done every now and then.
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    pub fn run_and_watch(&self, mut watch: impl FnMut(&World, f64)) -> Result<Report, Violation> {
        let repeated = |violation: Violation| violation.repeated_by(&self.command());
        let mut world = World::new(self);
        world.check().map_err(repeated)?;
        let (setup, zero) = (world.traffic(), world.network.now());
        let setup_stats = world.stats();
        let mut health = Vec::new();
        let mut askers = Vec::new();
        let acts = self.acts();
        for (done, (at, act)) in acts.iter().enumerate() {
            world.run_until(zero + *at);
            if done % CHECK_EVERY == 0 || !matches!(act, Act::LookUp) {
                world.check().map_err(repeated)?;
                watch(&world, super::measure::ratio(done, acts.len()));
            }
            match act {
                Act::Incident(incident) => world.incident(*incident),
                Act::LookUp => self.look_up(&mut world, &mut askers),
                Act::MeasureHealth => health.push(world.health()),
            }
        }
        world.run_until_answered(self.config_timeout());
        world.run_until(zero + self.lasts);
        world.check().map_err(repeated)?;
        let (stats, traffic) = (world.stats(), since(world.traffic(), setup));
        // What the nodes say while they are set up is not always sent.
        super::checks::check_stats(&world.network, &traffic, &stats.since(&setup_stats)).map_err(repeated)?;
        health.push(world.health());
        watch(&world, 1.0);
        let joined = match self.start {
            Start::Ideal => world.len(),
            Start::Join { .. } => world.network.nodes.iter().filter(|node| node.joined).count(),
        };
        Ok(Report {
            nodes: self.nodes,
            alive: world.alive().count(),
            joined,
            setup,
            setup_took: zero.saturating_duration_since(world.network.queue.origin()),
            traffic,
            took: world.network.now().saturating_duration_since(zero),
            lookups: std::mem::take(&mut world.lookups.outcomes),
            health,
            displaced: world.displaced,
            stats: stats.since(&setup_stats),
            hash: world.hash(),
        })
    }

    fn config_timeout(&self) -> Duration {
        // A query that has not ended by then never will, which the check tells.
        self.config.lookups.query_timeout + Duration::from_secs(1)
    }

    /// Returns what happens, in order.
    fn acts(&self) -> Vec<(Duration, Act)> {
        let mut acts: Vec<_> =
            self.incidents.iter().map(|(at, incident)| (*at, Act::Incident(*incident))).collect();
        let lookups = &self.lookups;
        for n in 0..u32::try_from(lookups.count).unwrap_or(u32::MAX) {
            acts.push((lookups.first_at + lookups.every * n, Act::LookUp));
        }
        if let Some(every) = self.sample_every.filter(|every| !every.is_zero()) {
            let end = acts.iter().map(|(at, _)| *at).max().unwrap_or_default().max(self.lasts);
            let mut at = Duration::ZERO;
            while at < end {
                acts.push((at, Act::MeasureHealth));
                at += every;
            }
        }
        // What happens at the same time keeps its order: incidents first.
        acts.sort_by_key(|(at, _)| *at);
        acts
    }

    /// Lets the next node look something up: all that live take turns, in a random order.
    fn look_up(&self, world: &mut World, askers: &mut Vec<usize>) {
        let asker = loop {
            match askers.pop() {
                Some(n) if world.network.nodes.get(n).is_some_and(Node::is_alive) => break n,
                Some(_) => {}
                None => {
                    askers.extend(world.alive());
                    if askers.is_empty() {
                        return;
                    }
                    shuffle(askers, &mut world.network.rng);
                }
            }
        };
        let key = world.random_key();
        world.look_up_as(asker, &key, self.lookups.precision);
    }
}

const fn since(now: Traffic, then: Traffic) -> Traffic {
    Traffic {
        requests: now.requests - then.requests,
        responses: now.responses - then.responses,
        bytes: now.bytes - then.bytes,
        dials: now.dials - then.dials,
        announcements: now.announcements - then.announcements,
    }
}
