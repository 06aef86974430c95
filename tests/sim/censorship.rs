//! Censorship: peers that somebody has put around a key, so that nobody finds what belongs to it.

use std::fmt::Write as _;
use std::sync::Arc;

use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::sim::{
    Answer, Around, Links, Reached, RecordOutcome, Role, RoundTrip, Scenario, Start, World,
};
use libp2p_kademlia::{
    Config, KBucketDistance as Distance, Key, Protection, Quorum, Record, RecordKey, U256,
};

use super::{MS, SECOND, given, golden};

/// Keeps silent where content is asked for, or is to be stored; else it plays along.
#[derive(Debug)]
struct Mute;

impl Role for Mute {
    fn answer(&self, _: &Around<'_>, request: &Request) -> Answer {
        let is_lookup = matches!(request, Request::FindNode { .. } | Request::Ping);
        if is_lookup { Answer::ByProtocol } else { Answer::Silence }
    }
}

/// Names its fellows and nobody else, makes up providers, and acknowledges what it does not store.
#[derive(Debug)]
struct Deceiver;

impl Role for Deceiver {
    fn answer(&self, around: &Around<'_>, request: &Request) -> Answer {
        let fellows = |key: &[u8]| {
            let closest = around.closest(&around.key_of(key), 20, |other| other.is_fellow && other.is_alive);
            closest.into_iter().map(|n| around.named(n)).collect::<Vec<_>>()
        };
        Answer::Instead(Box::new(match request {
            Request::FindNode { key } => Response::FindNode { closer_peers: fellows(key) },
            Request::GetProviders { key } => {
                let provider_peers = (0..20).map(|n| around.nobody(n)).collect();
                let closer_peers = fellows(key.as_ref());
                Response::GetProviders { key: Some(key.clone()), provider_peers, closer_peers }
            }
            Request::GetValue { key } => {
                let closer_peers = fellows(key.as_ref());
                Response::GetValue { key: Some(key.clone()), record: None, closer_peers }
            }
            Request::PutValue { record } => {
                Response::PutValue { key: record.key.clone(), value: Some(record.value.clone()) }
            }
            Request::AddProvider { .. } | Request::Ping | _ => return Answer::ByProtocol,
        }))
    }
}

/// What the attackers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    /// They are nearest, and mute.
    Silent,
    /// They are nearest, and deceive.
    False,
    /// They deceive, and only so many are among the closest as chance might put there.
    Tuned,
}

/// An attack on one key after another.
#[derive(Clone, Copy, Debug)]
struct Attack {
    sybils: usize,
    groups: usize,
    conduct: Conduct,
    /// Whether they are there before what belongs to the key is published.
    is_before: bool,
}

/// What has come of it, as shares of the keys; and what it has cost for each.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    provider: f64,
    record: f64,
    alarms: f64,
}

fn share(part: usize, of: usize) -> f64 {
    part as f64 / of as f64
}

/// A network that has joined and, where that protects anything, has lived for an hour, so that it knows how large it is.
fn joined(nodes: usize, seed: u64, protection: Protection) -> World {
    let mut world = World::new(&Scenario {
        nodes,
        seed,
        config: Config::default().with_protection(protection),
        links: Links { rtt: RoundTrip::Constant(50 * MS), ..Links::default() },
        start: Start::Join { every: 100 * MS, seeds: 5 },
        ..Scenario::default()
    });
    world.run_for(if protection == Protection::Off { 300 } else { 3600 } * SECOND);
    world
}

/// Returns so many times the mean distance between two of some nodes.
fn spans(times: u64, nodes: usize) -> Distance {
    let span = U256::MAX.checked_div(U256::from(nodes as u64)).unwrap();
    Distance(span).saturating_mul(times)
}

fn attack(world: &mut World, nodes: usize, key: &RecordKey, attack: &Attack) -> Vec<usize> {
    let Attack { sybils, groups, conduct, .. } = *attack;
    let target = Key::sha256(key.as_ref());
    let honest = |n: usize| Some(target.distance(&Key::of_peer(world.node(n)?.local_peer_id(), Key::sha256)));
    let nearest = world.alive().filter_map(honest).min().unwrap();
    let mut place =
        |role: Arc<dyn Role>, range, count| world.place(role, (key.as_ref(), &[range]), count, groups);
    let placed = match conduct {
        Conduct::Silent => place(Arc::new(Mute), Distance::ZERO..nearest, sybils),
        Conduct::False => place(Arc::new(Deceiver), Distance::ZERO..nearest, sybils),
        Conduct::Tuned => {
            // Ten beside the nine honest ones that are as near as twenty seldom are; the others behind them.
            let role: Arc<dyn Role> = Arc::new(Deceiver);
            let mut placed = place(Arc::clone(&role), spans(4, nodes)..spans(9, nodes), 10.min(sybils));
            placed.extend(place(role, spans(9, nodes)..spans(30, nodes), sybils - placed.len()));
            placed
        }
    };
    world.run_for(300 * SECOND);
    placed
}

/// Attacks keys one after another.
fn cell(world: &mut World, nodes: usize, attacked: &Attack, keys: std::ops::Range<usize>) -> Outcome {
    let count = keys.len();
    let (mut providers, mut records, mut alarms) = (0, 0, 0);
    for n in keys {
        // A provided key has 80 bytes at most.
        let Attack { sybils, groups, conduct, is_before } = attacked;
        let key = RecordKey::from(format!("{n}: {sybils} {groups} {conduct:?} {is_before}"));
        let (publisher, reader) = ((n * 7 + 3) % nodes, (n * 13 + 77) % nodes);
        let sybils = if attacked.is_before { attack(world, nodes, &key, attacked) } else { Vec::new() };
        let record = Record::new(key.clone(), format!("value {n}").into_bytes());
        let before = world.stats().queries.surrounded;
        assert!(world.provide(publisher, key.clone()));
        assert!(world.put_record(publisher, record, Quorum::One));
        world.run_until_records_settle(60 * SECOND);
        let sybils = if attacked.is_before { sybils } else { attack(world, nodes, &key, attacked) };
        assert!(world.find_providers(reader, key.clone()));
        assert!(world.get_record(reader, key.clone(), None));
        world.run_until_records_settle(60 * SECOND);
        alarms += usize::from(world.stats().queries.surrounded > before);
        world.check().unwrap();
        let provider = *world.node(publisher).unwrap().local_peer_id();
        let value = format!("value {n}").into_bytes();
        let of_key = || world.record_outcomes().iter().filter(|outcome| outcome.key == key);
        providers += usize::from(of_key().any(|RecordOutcome { reached, .. }| {
            matches!(reached, Reached::Found(found) if found.contains(&provider))
        }));
        records += usize::from(of_key().any(
            |RecordOutcome { reached, .. }| matches!(reached, Reached::Got(got) if got[..] == value[..]),
        ));
        sybils.into_iter().for_each(|sybil| world.kill(sybil));
        world.run_for(60 * SECOND);
    }
    Outcome { provider: share(providers, count), record: share(records, count), alarms: share(alarms, count) }
}

fn head() -> String {
    format!("{:<44}{:>10}{:>8}{:>8}\n", "Sybils, IP groups, conduct, when", "provider", "record", "alarms")
}

fn row(attacked: &Attack, outcome: &Outcome) -> String {
    let Attack { sybils, groups, conduct, is_before } = attacked;
    let when = if *is_before { "before" } else { "after" };
    let name = format!("{sybils}, {groups}, {conduct:?}, {when}").to_lowercase();
    let Outcome { provider, record, alarms } = outcome;
    format!("{name:<44}{provider:>10.3}{record:>8.3}{alarms:>8.3}\n")
}

/// Attacks a network in all ways, so many keys in each, and returns a table of what has come of it.
fn all_ways(nodes: usize, keys: usize, sybils: &[usize]) -> String {
    let mut world = joined(nodes, 1, Protection::All);
    let (mut table, mut all) = (head(), Vec::new());
    let mut next = 0;
    for &sybils in sybils {
        for groups in [2, 20, sybils].into_iter().filter(|groups| *groups != 20 || sybils != 20) {
            for conduct in [Conduct::Silent, Conduct::False, Conduct::Tuned] {
                for is_before in [true, false] {
                    let attack = Attack { sybils, groups, conduct, is_before };
                    let outcome = cell(&mut world, nodes, &attack, next..next + keys);
                    next += keys;
                    table += &row(&attack, &outcome);
                    all.push(outcome);
                }
            }
        }
    }
    let mean = |of: fn(&Outcome) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    writeln!(table, "{:<44}{:>10.4}{:>8.4}", "all", mean(|all| all.provider), mean(|all| all.record))
        .unwrap();
    // The bar.
    assert!(mean(|all| all.provider) >= 0.99 && mean(|all| all.record) >= 0.99, "{table}");
    table
}

#[test]
fn what_is_surrounded_is_found_all_the_same() {
    let nodes = 150;
    let mut world = joined(nodes, 1, Protection::All);
    let attack = |sybils, conduct| Attack { sybils, groups: sybils, conduct, is_before: true };
    let mut table = head();
    for (at, attacked) in [attack(20, Conduct::False), attack(45, Conduct::Silent)].iter().enumerate() {
        let outcome = cell(&mut world, nodes, attacked, at..at + 1);
        table += &row(attacked, &outcome);
        assert!(outcome.provider >= 1.0 && outcome.record >= 1.0, "{table}");
    }
    // What they would do to whoever does not want to be protected.
    let (mut world, attacked) = (joined(nodes, 1, Protection::Off), attack(20, Conduct::False));
    let outcome = cell(&mut world, nodes, &attacked, 0..2);
    table += &format!("the same, not protected\n{}", row(&attacked, &outcome));
    assert!(outcome.provider + outcome.record < 2.0, "they do no harm: {table}");
    golden("censorship-150.txt", &table);
}

#[test]
#[ignore = "takes minutes: cargo test --release --test sim -- --ignored"]
fn keys_of_five_hundred_are_attacked_in_all_ways() {
    golden("censorship-500.txt", &all_ways(500, 4, &[20, 45, 100, 200]));
}

/// As much as is named: `NODES=2000 KEYS=500 SYBILS=45,200 cargo test --release --test sim keys_of_any_number -- --ignored --nocapture`.
#[test]
#[ignore = "takes as long as is asked for"]
fn keys_of_any_number_are_attacked_in_all_ways() {
    let sybils = given("SYBILS", String::from("20,45,100,200"));
    let sybils: Vec<_> = sybils.split(',').map(|one| one.parse().expect("SYBILS=20,45")).collect();
    println!("{}", all_ways(given("NODES", 500), given("KEYS", 500), &sybils));
}
