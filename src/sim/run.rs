//! Runs: a scenario from its beginning to its report.

use super::checks::Violation;
use super::measure::Health;
use super::network::Traffic;
use super::progress::{Progress, Stage};
use super::report::Report;
use super::scenario::{Scenario, Start};
use super::workload::{Asking, ScenarioAct, acts};
use super::world::World;
use crate::stats::Stats;
use crate::store::MemoryStoreConfig;
use crate::time::{Duration, Instant};

/// What there was when the network had come to be.
#[derive(Debug)]
struct Baseline {
    at: Instant,
    traffic: Traffic,
    stats: Stats,
}

impl Baseline {
    fn now(world: &World) -> Self {
        Self { at: world.at(), traffic: world.traffic(), stats: world.stats() }
    }
}

/// How many acts pass between two checks of the whole world at least, and how many nodes there are to one that passes. Chosen: to
/// check a node takes some 60 µs, and a lookup a millisecond, so that checks take as long as lookups at most.
const CHECK_EVERY: usize = 64;
const NODES_TO_AN_ACT: usize = 16;

impl Scenario {
    /// Runs the scenario.
    ///
    /// # Errors
    /// A [`Violation`] of what must be true of every node at every time: a bug of this library. It tells the command that
    /// repeats it; report both.
    pub fn run(&self) -> Result<Report, Violation> {
        self.run_and_watch(|_, _| ())
    }

    /// Runs the scenario, and shows the world and what share of the run is done every now and then, once it has come to be.
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    pub fn run_and_watch(&self, mut watch: impl FnMut(&World, f64)) -> Result<Report, Violation> {
        self.run_while(|world, progress| {
            if progress.stage == Stage::Running {
                watch(world, progress.done);
            }
            true
        })
    }

    /// Runs the scenario as long as `goes_on` says so, which is shown the world and how far it has come every few milliseconds
    /// from the very beginning.
    ///
    /// Of one that it ends early the report says what there is so far, and at what point that was
    /// ([`Report::stopped`]). Whether it is watched changes nothing else.
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    pub fn run_while(&self, mut goes_on: impl FnMut(&World, Progress) -> bool) -> Result<Report, Violation> {
        let repeated = |violation: Violation| violation.repeated_by(&self.command());
        let mut world = World::empty(self, MemoryStoreConfig::default());
        let mut last = None;
        let goes_on = &mut |world: &World, progress: Progress| {
            last = Some(progress);
            goes_on(world, progress)
        };
        // What stands half-made breaks rules that hold of a network.
        if !world.set_up(self, goes_on) {
            let begun = Baseline::now(&world);
            return Ok(Report { stopped: last, ..self.report(&mut world, &begun) });
        }
        world.check().map_err(repeated)?;
        let begun = Baseline::now(&world);
        let mut health = Vec::new();
        let ran = self.act(&mut world, begun.at, &mut health, goes_on).map_err(repeated)?;
        world.check().map_err(repeated)?;
        if ran {
            health.push(world.health());
            goes_on(&world, Progress::new(Stage::Running, 1.0));
        }
        let mut report = self.report(&mut world, &begun);
        // What the nodes say while they are set up is not always sent.
        super::checks::check_stats(world.now(), &report.traffic, &report.stats).map_err(repeated)?;
        report.stopped = last.filter(|_| !ran);
        report.health = health;
        Ok(report)
    }

    /// Lets everything happen that the scenario says, unless `goes_on` says no meanwhile. Returns what it said last.
    fn act(
        &self,
        world: &mut World,
        zero: Instant,
        health: &mut Vec<Health>,
        goes_on: &mut dyn FnMut(&World, Progress) -> bool,
    ) -> Result<bool, Violation> {
        let acts = acts(self);
        let lasts = acts.last().map_or(Duration::ZERO, |(at, _)| *at).max(self.lasts);
        let running = (Stage::Running, zero, zero + lasts);
        let mut asking = Asking::default();
        for (done, (at, act)) in acts.iter().enumerate() {
            if !world.run_stage(running, zero + *at, goes_on) {
                return Ok(false);
            }
            if done % CHECK_EVERY.max(self.nodes / NODES_TO_AN_ACT) == 0 || !act.is_asking() {
                world.check()?;
            }
            match act {
                ScenarioAct::Incident(incident) => world.incident(*incident),
                ScenarioAct::LookUp
                | ScenarioAct::Put
                | ScenarioAct::Provide
                | ScenarioAct::Get
                | ScenarioAct::Search => asking.ask(world, self, *act),
                ScenarioAct::MeasureHealth => health.push(world.health()),
            }
        }
        world.run_until_answered(self.config_timeout());
        world.run_until_records_settle(self.config_timeout());
        Ok(world.run_stage(running, zero + self.lasts, goes_on))
    }

    /// Returns what there is to tell but for the health of the tables.
    fn report(&self, world: &mut World, begun: &Baseline) -> Report {
        let now = world.at();
        Report {
            nodes: self.nodes,
            alive: world.alive().count(),
            ideal: self.start == Start::Ideal,
            joined: world.joined(),
            setup: begun.traffic,
            setup_took: begun.at.saturating_duration_since(world.network.origin()),
            traffic: since(world.traffic(), begun.traffic),
            took: now.saturating_duration_since(begun.at),
            lookups: world.take_outcomes(),
            records: world.records.take(),
            health: Vec::new(),
            displaced: world.displaced(),
            stats: world.stats().since(&begun.stats),
            stopped: None,
            hash: world.hash(),
        }
    }

    fn config_timeout(&self) -> Duration {
        // A query that has not ended by then never will, which the check tells.
        let configs = self.groups.iter().map(|group| &group.config).chain([&self.config]);
        let longest = configs.map(|config| config.lookups.query_timeout).max();
        longest.unwrap_or_default() + Duration::from_secs(1)
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
