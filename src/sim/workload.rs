//! Workloads: what happens to a network and what its nodes are asked, when, and whom.

use super::nodes::SimNode;
use super::scenario::{Incident, Load, Records, Scenario};
use super::world::World;
use crate::key::Key;
use crate::record::{Record, RecordKey};
use crate::rng::Rng;
use crate::time::Duration;

/// An act of a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScenarioAct {
    Incident(Incident),
    LookUp,
    Put,
    Provide,
    Get,
    Search,
    MeasureHealth,
}

impl ScenarioAct {
    /// Returns whether a node is asked something, as happens often.
    pub(super) const fn is_asking(self) -> bool {
        match self {
            Self::LookUp | Self::Put | Self::Provide | Self::Get | Self::Search => true,
            Self::Incident(_) | Self::MeasureHealth => false,
        }
    }
}

/// So long after the last of what they ask for has begun gets and searches begin, unless the scenario says when. Chosen, not
/// measured: as long as a request may take by default.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// Returns what happens in a scenario, in order.
pub(super) fn acts(scenario: &Scenario) -> Vec<(Duration, ScenarioAct)> {
    let mut acts: Vec<_> =
        scenario.incidents.iter().map(|(at, incident)| (*at, ScenarioAct::Incident(*incident))).collect();
    let mut load = |act: ScenarioAct, load: &Load, first_at: Duration| {
        let at = |n: usize| {
            first_at.saturating_add(load.every.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX)))
        };
        acts.extend((0..load.count).map(|n| (at(n), act)));
        at(load.count.saturating_sub(1)).saturating_add(AFTERWARDS)
    };
    let lookups = &scenario.lookups;
    let Records { puts, gets, provides, searches, .. } = &scenario.records;
    let looked_up = Load { count: lookups.count, first_at: None, every: lookups.every };
    load(ScenarioAct::LookUp, &looked_up, lookups.first_at);
    let after_puts = load(ScenarioAct::Put, puts, puts.first_at.unwrap_or_default());
    let after_provides = load(ScenarioAct::Provide, provides, provides.first_at.unwrap_or_default());
    load(ScenarioAct::Get, gets, gets.first_at.unwrap_or(after_puts));
    load(ScenarioAct::Search, searches, searches.first_at.unwrap_or(after_provides));
    if let Some(every) = scenario.sample_every.filter(|every| !every.is_zero()) {
        let end = acts.iter().map(|(at, _)| *at).max().unwrap_or_default().max(scenario.lasts);
        let mut at = Duration::ZERO;
        while at < end {
            acts.push((at, ScenarioAct::MeasureHealth));
            at += every;
        }
    }
    // What happens at the same time keeps its order: incidents first.
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// Who is asked next, and for what: all that live take turns, in a random order.
///
/// # Bounds
/// The numbers of all nodes, twice.
#[derive(Debug, Default)]
pub(super) struct Asking {
    for_lookups: Vec<usize>,
    for_records: Vec<usize>,
    gets: usize,
    searches: usize,
}

impl Asking {
    /// Lets the next node do what it is asked.
    pub(super) fn ask(&mut self, world: &mut World, scenario: &Scenario, act: ScenarioAct) {
        match act {
            ScenarioAct::LookUp => {
                if let Some(asker) = next(world, &mut self.for_lookups) {
                    let key = world.random_key();
                    world.look_up_as(asker, &key, scenario.lookups.precision);
                }
            }
            ScenarioAct::Put => {
                if let Some(asker) = next(world, &mut self.for_records) {
                    let key = RecordKey::from(world.random_key().to_vec());
                    let record = Record::new(key.clone(), value(&key, scenario.records.value_bytes));
                    world.put_record(asker, record, scenario.records.put_quorum);
                }
            }
            ScenarioAct::Provide => {
                if let Some(asker) = next(world, &mut self.for_records) {
                    let key = RecordKey::from(world.random_key().to_vec());
                    world.provide(asker, key);
                }
            }
            ScenarioAct::Get => {
                if let Some(key) = in_turn(world.records.acknowledged(), &mut self.gets)
                    && let Some(asker) = next(world, &mut self.for_records)
                {
                    world.get_record(asker, key, scenario.records.get_quorum);
                }
            }
            ScenarioAct::Search => {
                if let Some(key) = in_turn(world.records.announced(), &mut self.searches)
                    && let Some(asker) = next(world, &mut self.for_records)
                {
                    world.find_providers(asker, key);
                }
            }
            ScenarioAct::Incident(_) | ScenarioAct::MeasureHealth => {}
        }
    }
}

/// Returns the next of some keys, the first again behind the last.
fn in_turn(keys: &[RecordKey], asked: &mut usize) -> Option<RecordKey> {
    let key = keys.get(asked.checked_rem(keys.len())?)?;
    *asked += 1;
    Some(key.clone())
}

/// Returns the next node of those that live.
fn next(world: &mut World, askers: &mut Vec<usize>) -> Option<usize> {
    loop {
        match askers.pop() {
            Some(n) if world.network.nodes.get(n).is_some_and(SimNode::is_alive) => return Some(n),
            Some(_) => {}
            None => {
                askers.extend(world.alive());
                if askers.is_empty() {
                    return None;
                }
                world.rng.shuffle(askers);
            }
        }
    }
}

/// Returns the value that is put under a key: bytes that no other key has.
fn value(key: &RecordKey, len: usize) -> Vec<u8> {
    let mut value = vec![0; len];
    Rng::from_seed(*Key::sha256(key.as_ref()).as_bytes()).fill(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario::Lookups;

    const SECOND: Duration = Duration::from_secs(1);

    fn times(scenario: &Scenario, of: fn(ScenarioAct) -> bool) -> Vec<u64> {
        acts(scenario).into_iter().filter(|(_, act)| of(*act)).map(|(at, _)| at.as_secs()).collect()
    }

    #[test]
    fn gets_and_searches_follow_what_they_ask_for() {
        let load = |count| Load { count, every: SECOND, ..Load::default() };
        let records = Records {
            puts: load(3),
            gets: load(2),
            provides: load(5),
            searches: load(1),
            ..Records::default()
        };
        let lookups = Lookups { count: 0, ..Lookups::default() };
        let mut scenario = Scenario { records, lookups, ..Scenario::default() };
        assert_eq!(times(&scenario, |act| matches!(act, ScenarioAct::Put)), [0, 1, 2]);
        assert_eq!(times(&scenario, |act| matches!(act, ScenarioAct::Get)), [12, 13]);
        assert_eq!(times(&scenario, |act| matches!(act, ScenarioAct::Provide)), [0, 1, 2, 3, 4]);
        assert_eq!(times(&scenario, |act| matches!(act, ScenarioAct::Search)), [14]);
        scenario.records.gets.first_at = Some(SECOND);
        assert_eq!(times(&scenario, |act| matches!(act, ScenarioAct::Get)), [1, 2]);
        assert!(acts(&scenario).is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn keys_take_turns_and_values_are_their_own() {
        let keys = ["a", "b"].map(RecordKey::from);
        let mut asked = 0;
        let next: Vec<_> = (0..3).filter_map(|_| in_turn(&keys, &mut asked)).collect();
        assert_eq!(next, ["a", "b", "a"].map(RecordKey::from));
        assert_eq!(in_turn(&[], &mut asked), None);
        assert_eq!(value(&keys[0], 40).len(), 40);
        assert_eq!(value(&keys[0], 40), value(&keys[0], 40));
        assert_ne!(value(&keys[0], 40), value(&keys[1], 40));
    }
}
