//! Rows of clients: what queries cost in a network of responders, and how many requests they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use cpu_time::ThreadTime;
use futures::StreamExt as _;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identity};
use libp2p_kademlia::Key;
use libp2p_kademlia::message::Request;

use super::carrier::{Carrier, run, swarm};
use super::lean::Lean;
use super::measured::{Used, runtime, settle};
use super::querying::{Client, Found, Ours, Query, Theirs};
use super::responders::{K, RESPONDERS, Responders};
use super::server::{DEADLINE, frame};
use super::table::{Cell, Figure, Line, Table};
use super::{Failure, Options, keys};

/// How many keys are searched, in turn.
const KEYS: u32 = 256;
/// How many queries make all connections before anything is counted.
const WARM_UP: u64 = 128;
/// How many lookups run at once where not all do.
const AT_ONCE: usize = 32;
/// How many allocations a request may cost at most.
const ALLOCATIONS: f64 = 30.0;
/// How many requests the lean client has in flight for each of them.
const IN_FLIGHT: usize = 4;

/// When enough was measured.
#[derive(Clone, Copy, Debug)]
enum Enough {
    Cpu(Duration),
    Queries(u64),
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
struct Plan {
    query: Query,
    at_once: usize,
    enough: Enough,
}

/// What it has taken.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    used: Used,
    requests: u64,
    queries: u64,
    /// How many of them have found as much as they look for.
    complete: u64,
    /// How many peers they have found that are among the closest.
    right: u64,
}

impl Taken {
    /// Returns what a request has cost.
    fn by_request(&self) -> Figure {
        let value = self.used.cpu.as_secs_f64() * 1e6 / self.requests as f64;
        Figure { value, allocations: Some(self.used.allocations as f64 / self.requests as f64) }
    }

    fn requests_a_query(&self) -> Figure {
        Figure::plain(self.requests as f64 / self.queries as f64)
    }

    fn complete(&self) -> Figure {
        Figure::plain(self.complete as f64 / self.queries as f64)
    }

    fn recall(&self) -> Figure {
        Figure::plain(self.right as f64 / (self.queries * K as u64) as f64)
    }

    fn complete_a_second(&self) -> Figure {
        Figure::plain(self.complete as f64 / self.used.cpu.as_secs_f64())
    }

    fn by_query(&self) -> Figure {
        let value = self.used.cpu.as_secs_f64() * 1e6 / self.queries as f64;
        Figure { value, allocations: Some(self.used.allocations as f64 / self.queries as f64) }
    }
}

type Outcome = Result<Taken, Failure>;

/// What is shown of what was taken: what is said behind the name of a row, the unit, the figure.
type Shown = (&'static str, &'static str, fn(&Taken) -> Figure);

/// Measures clients, and prints some lines for each row.
pub(crate) fn rows(options: &Options, carrier: Carrier, table: &mut Table) {
    let cpu = options.requests.map_or(Enough::Cpu(options.cpu), |lookups| Enough::Queries(lookups as u64));
    let burst = options.burst;
    let lookups = Plan { query: Query::Closest, at_once: AT_ONCE, enough: cpu };
    let shown: &[Shown] = &[
        ("CPU a request", "µs", Taken::by_request),
        ("requests a lookup", "requests", Taken::requests_a_query),
        ("found 20", "share", Taken::complete),
        ("recall", "share", Taken::recall),
        ("lookups that found 20, a CPU second", "lookups", Taken::complete_a_second),
    ];
    row(options, carrier, table, (&format!("{AT_ONCE} lookups at once"), lookups, shown));
    let all = Plan { at_once: burst, enough: Enough::Queries(burst as u64), ..lookups };
    let shown: &[Shown] = &[
        ("requests a lookup", "requests", Taken::requests_a_query),
        ("found 20", "share", Taken::complete),
        ("recall", "share", Taken::recall),
        ("lookups that found 20, a CPU second", "lookups", Taken::complete_a_second),
    ];
    row(options, carrier, table, (&format!("{burst} lookups at once"), all, shown));
    let one = Plan { query: Query::Value, at_once: 1, enough: cpu };
    let shown: &[Shown] =
        &[("requests", "requests", Taken::requests_a_query), ("CPU", "µs", Taken::by_query)];
    row(options, carrier, table, ("get, first value of 20", one, shown));
    let one = Plan { query: Query::Provider, ..one };
    row(options, carrier, table, ("first provider of 20", one, shown));
}

/// Measures what one plan takes.
fn row(options: &Options, carrier: Carrier, table: &mut Table, (name, plan, shown): (&str, Plan, &[Shown])) {
    let name = format!("{name}, {}", carrier.name());
    if !options.wants(&name) {
        return;
    }
    let responders = match Responders::start(carrier) {
        Ok(responders) => responders,
        Err(failure) => return table.note(format!("{name}: {failure}")),
    };
    // Only of requests it makes sense to ask what they cost without a query.
    let is_lean = plan.query == Query::Closest && plan.at_once == AT_ONCE;
    let lean = is_lean.then(|| lean(carrier, &responders, plan.enough));
    let theirs = client::<Theirs>(carrier, &responders, options.settles, plan);
    let mut ours = client::<Ours>(carrier, &responders, options.settles, plan);
    // What else the machine does can only add to them: a request that comes late is made to another peer as well.
    for _ in 0..2 {
        let made = ours.as_ref().ok().and_then(|taken| taken.by_request().allocations);
        if !is_lean || options.requests.is_some() || made.is_none_or(|made| made <= ALLOCATIONS) {
            break;
        }
        ours = client::<Ours>(carrier, &responders, options.settles, plan);
    }
    for (whose, outcome) in [("libp2p-kad", &theirs), ("here", &ours)] {
        if let Ok(taken) = outcome
            && plan.query != Query::Closest
            && taken.complete < taken.queries
        {
            let missed = taken.queries - taken.complete;
            table.note(format!("{name}, {whose}: {missed} of {} have found nothing", taken.queries));
        }
    }
    for (at, (what, unit, figure)) in shown.iter().enumerate() {
        let cell = |outcome: &Outcome| -> Cell { Some(outcome.as_ref().map(figure).map_err(Clone::clone)) };
        // The lean client makes requests, and nothing else.
        let floor = lean.as_ref().filter(|_| at == 0).and_then(cell);
        let (theirs, ours) = (cell(&theirs), cell(&ours));
        let most = is_lean.then_some(ALLOCATIONS);
        table.line(Line { name: &format!("{name}: {what}"), unit, floor, theirs, ours, most });
    }
}

/// Runs a client on a thread of its own.
fn on_thread(run: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    thread::spawn(run).join().unwrap_or_else(|_| Err("it has panicked".into()))
}

fn client<C: Client>(carrier: Carrier, responders: &Responders, settles: bool, plan: Plan) -> Outcome {
    let (peers, asked) = (responders.peers.clone(), responders.asked.clone());
    on_thread(move || {
        let (runtime, keypair) = (runtime(), identity::Keypair::generate_ed25519());
        let _guard = runtime.enter();
        let mut swarm = swarm(carrier, &keypair, C::behaviour(keypair.public().to_peer_id()));
        for (peer, address) in peers.iter() {
            C::add(swarm.behaviour_mut(), peer, address.clone());
        }
        if settles {
            settle(&runtime, &mut swarm);
        }
        let mut client = C::default();
        let warm_up = Plan { query: Query::Closest, at_once: 8, enough: Enough::Queries(WARM_UP) };
        runtime.block_on(within(drive(&mut client, &mut swarm, warm_up)))?;
        let before = requests(&runtime, &mut swarm, &asked);
        let mut used = Used::default();
        let found = used.count(|| runtime.block_on(within(drive(&mut client, &mut swarm, plan))))?;
        let taken = judge(&found, &peers);
        Ok(Taken { used, requests: requests(&runtime, &mut swarm, &asked) - before, ..taken })
    })
}

async fn within<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(DEADLINE, future).await.map_err(|_| "it takes too long".into())
}

/// Returns how many requests have arrived, a little later: what nobody waits for any more may still be on its way.
fn requests<B: NetworkBehaviour>(
    runtime: &tokio::runtime::Runtime,
    swarm: &mut Swarm<B>,
    asked: &Arc<AtomicU64>,
) -> u64 {
    let pause = Duration::from_millis(100);
    let _ = runtime.block_on(async { tokio::time::timeout(pause, run(swarm)).await });
    asked.load(Ordering::Relaxed)
}

/// Says how much of what there is was found.
fn judge(found: &[Found], peers: &[(PeerId, Multiaddr)]) -> Taken {
    let mut taken = Taken { queries: found.len() as u64, ..Taken::default() };
    for found in found {
        match found {
            Found::Peers { key, peers: found } => {
                let target = Key::sha256(key);
                let mut closest: Vec<_> = peers.iter().map(|(peer, _)| *peer).collect();
                closest.sort_by_cached_key(|peer| target.distance(&Key::of_peer(peer, Key::sha256)));
                closest.truncate(K);
                taken.complete += u64::from(found.len() >= K);
                taken.right += found.iter().filter(|peer| closest.contains(peer)).count() as u64;
            }
            Found::Others(found) => taken.complete += u64::from(*found > 0),
        }
    }
    taken
}

/// Keeps queries running until enough have begun, and waits for the last of them.
async fn drive<C: Client>(client: &mut C, swarm: &mut Swarm<C::Behaviour>, plan: Plan) -> Vec<Found> {
    let (mut begun, mut taken, start) = (0, Vec::new(), ThreadTime::now());
    let mut is_enough = false;
    loop {
        while !is_enough && begun - (taken.len() as u64) < plan.at_once as u64 {
            let key = keys::hash(u32::try_from(begun % u64::from(KEYS)).unwrap());
            client.begin(swarm.behaviour_mut(), plan.query, key);
            begun += 1;
            is_enough = match plan.enough {
                Enough::Cpu(cpu) => start.elapsed() >= cpu,
                Enough::Queries(queries) => begun >= queries,
            };
        }
        if begun == taken.len() as u64 {
            return taken;
        }
        if let SwarmEvent::Behaviour(event) = swarm.select_next_some().await
            && let Some(found) = client.took(swarm.behaviour_mut(), event)
        {
            taken.push(found);
        }
    }
}

/// Makes the same requests without a query: as many in flight, all the time.
fn lean(carrier: Carrier, responders: &Responders, enough: Enough) -> Outcome {
    let peers = responders.peers.clone();
    on_thread(move || {
        let (runtime, keypair) = (runtime(), identity::Keypair::generate_ed25519());
        let _guard = runtime.enter();
        let mut swarm = swarm(carrier, &keypair, Lean::default());
        let find_node = |n| frame(&Request::FindNode { key: keys::hash(n).into() });
        let frames: Vec<_> = (0..KEYS).map(find_node).collect();
        runtime.block_on(within(connect(&mut swarm, &peers)))??;
        runtime.block_on(within(ask(&mut swarm, &frames, Enough::Queries(WARM_UP))))?;
        let mut used = Used::default();
        let requests = used.count(|| runtime.block_on(within(ask(&mut swarm, &frames, enough))))?;
        Ok(Taken { used, requests, ..Taken::default() })
    })
}

async fn connect(swarm: &mut Swarm<Lean>, peers: &[(PeerId, Multiaddr)]) -> Result<(), Failure> {
    for (peer, address) in peers {
        swarm.dial(address.clone()).map_err(|error| error.to_string())?;
        while !swarm.is_connected(peer) {
            swarm.select_next_some().await;
        }
    }
    Ok(())
}

/// Asks all responders alike, and returns how many requests were answered.
async fn ask(swarm: &mut Swarm<Lean>, frames: &[Bytes], enough: Enough) -> u64 {
    let (mut made, mut answered, start) = (0, 0, ThreadTime::now());
    let mut frames = frames.iter().cycle();
    let mut is_enough = false;
    for connection in (0..RESPONDERS).cycle().take(AT_ONCE * IN_FLIGHT) {
        swarm.behaviour_mut().ask(connection, frames.next().unwrap().clone());
        made += 1;
    }
    while answered < made {
        if let SwarmEvent::Behaviour(answer) = swarm.select_next_some().await {
            assert!(!answer.body.is_empty(), "an empty answer");
            answered += 1;
            is_enough = is_enough
                || match enough {
                    Enough::Cpu(cpu) => answered % 256 == 0 && start.elapsed() >= cpu,
                    // As many as that many lookups make.
                    Enough::Queries(queries) => made >= queries * K as u64,
                };
            if !is_enough {
                swarm.behaviour_mut().ask(answer.connection, frames.next().unwrap().clone());
                made += 1;
            }
        }
    }
    answered
}
