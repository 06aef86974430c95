//! Rows of servers under load: how long an honest client waits while sixteen others ask as fast as they can, and what it costs the
//! machine to refuse a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpu_time::ThreadTime;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, identity};
use libp2p_kademlia::dht::{Dht, InboundId, Input, Output};
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::time::{Now, SystemTime};
use libp2p_kademlia::{Config, Mode};

use super::carrier::Carrier;
use super::driver::{Driver, Load};
use super::floor::Floor;
use super::measured::{Measured, runtime};
use super::nodes::{self, peer};
use super::server::{DEADLINE, find_node};
use super::table::{Figure, Line, Table};
use super::{Failure, Options, keys};

/// How many peers ask as fast as they can.
const FLOODERS: usize = 16;
/// How many requests each of them makes before it looks whether it is to end.
const ROUND: usize = 512;
/// The honest client asks once in this time.
const EVERY: Duration = Duration::from_millis(2);
/// For so long others have asked already when it begins: longer than their bursts last.
const WARM_UP: Duration = Duration::from_secs(2);
/// How often the machine refuses.
const REFUSALS: u64 = 200_000;

/// Measures servers that are flooded, and prints a line for each row.
pub(crate) fn rows(options: &Options, carrier: Carrier, table: &mut Table) {
    for (flooders, beside) in [(0, "alone"), (FLOODERS, "beside 16 at line rate")] {
        let name = format!("FIND_NODE far, {}, p99 of one {beside}", carrier.name());
        if !options.wants(&name) {
            continue;
        }
        let theirs = waits(options, carrier, flooders, move |local| nodes::theirs(local, carrier));
        let ours = waits(options, carrier, flooders, move |local| nodes::ours(local, carrier));
        let floor = match &ours {
            Ok((_, answer)) => {
                let answer = answer.clone();
                waits(options, carrier, flooders, move |_| Floor::new(move |_: &[u8]| answer.clone()))
            }
            Err(_) => Err("it is not known how long an answer is".into()),
        };
        let [floor, theirs, ours] =
            [floor, theirs, ours].map(|waited| Some(waited.map(|(p99, _)| Figure::plain(p99))));
        table.line(Line { name: &name, unit: "µs", floor, theirs, ours, most: None });
    }
}

/// Measures what the machine takes to refuse, and prints a line.
pub(crate) fn refusal(options: &Options, table: &mut Table) {
    let name = "FIND_NODE beyond its rate, refused by the machine";
    if options.wants(name) {
        let (floor, theirs, ours) = (None, None, Some(refuse()));
        table.line(Line { name, unit: "µs", floor, theirs, ours, most: Some(2.5) });
    }
}

/// Returns how long the hundredth part of an honest client's requests takes at least, in µs, while so many others flood the server;
/// and an answer.
fn waits<B: NetworkBehaviour>(
    options: &Options,
    carrier: Carrier,
    flooders: usize,
    make: impl FnOnce(PeerId) -> B + Send + 'static,
) -> Result<(f64, Bytes), Failure> {
    runtime().block_on(async {
        let server = Measured::start(carrier, false, make).await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (flood, at) = (is_over.clone(), server.at());
        let flooding = thread::spawn(move || runtime().block_on(flood_with(carrier, flooders, &at, &flood)));
        let waited = tokio::time::timeout(DEADLINE, ask_now_and_then(options, carrier, &server)).await;
        is_over.store(true, Ordering::Relaxed);
        let flooded = flooding.join().map_err(|_| "a flooder has panicked");
        server.stop();
        flooded?;
        waited.map_err(|_| "it takes too long")?
    })
}

/// The honest client: asks once in a while, and is answered.
async fn ask_now_and_then(
    options: &Options,
    carrier: Carrier,
    server: &Measured,
) -> Result<(f64, Bytes), Failure> {
    let keypair = identity::Keypair::generate_ed25519();
    let (is_short, requests) =
        if options.cpu < Duration::from_millis(50) { (true, 50) } else { (false, 2000) };
    let mut driver = Driver::connect(carrier, &keypair, &server.at()).await?;
    let load = Arc::new(load(server.peer));
    driver.ask_once(&load).await?;
    if !is_short {
        tokio::time::sleep(WARM_UP).await;
    }
    let mut waited = Vec::new();
    let mut next = tokio::time::Instant::now();
    for _ in 0..requests {
        next += EVERY;
        tokio::time::sleep_until(next).await;
        let begun = Instant::now();
        driver.ask_once(&load).await?;
        waited.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    waited.sort_by(f64::total_cmp);
    Ok((waited[waited.len() * 99 / 100], driver.answer.take().unwrap_or_default()))
}

fn load(server: PeerId) -> Load {
    let is_right: fn(&Response) -> bool =
        |response| matches!(response, Response::FindNode { closer_peers } if closer_peers.len() == 20);
    Load { requests: vec![find_node(keys::far(server))], last: None, opens_streams: false, is_right }
}

/// Asks as fast as the server answers until it is over, on new streams where some have ended.
async fn flood_with(
    carrier: Carrier,
    flooders: usize,
    server: &super::measured::Place,
    is_over: &AtomicBool,
) {
    let flood = async || {
        let keypair = identity::Keypair::generate_ed25519();
        let load = Arc::new(load(server.peer));
        while !is_over.load(Ordering::Relaxed) {
            let Ok(mut driver) = Driver::connect(carrier, &keypair, server).await else { continue };
            // Whoever is refused too much has no stream left, and begins anew.
            while !is_over.load(Ordering::Relaxed) && driver.drive(&load, ROUND).await.is_ok() {}
        }
    };
    futures::future::join_all((0..flooders).map(|_| flood())).await;
}

/// Lets a machine that is late refuse what is beyond a peer's rate; returns what one refusal takes.
fn refuse() -> Result<Figure, Failure> {
    let now = Now::new(Instant::now(), SystemTime::now());
    let local = peer(0);
    let mut dht = Dht::new(local, MemoryStore::new(local), Config::default(), [7; 32], now);
    dht.set_mode(now, Some(Mode::Server));
    let late = now.late_by(Duration::from_millis(20));
    let key = Bytes::from(keys::far(local));
    let mut refused = 0;
    let mut ask = |id: u64, dht: &mut Dht<MemoryStore>| {
        let request = Request::FindNode { key: key.clone() };
        let connection = libp2p_kademlia::dht::ConnectionId(1);
        let asked = Input::RequestReceived { from: peer(1), connection, id: InboundId(id), request };
        dht.handle_input(late, asked);
        while let Some(output) = dht.poll_output() {
            refused += u64::from(matches!(output, Output::RefuseRequest { .. }));
        }
    };
    (0..1000).for_each(|id| ask(id, &mut dht));
    let (begun, mut took) = (ThreadTime::now(), Duration::ZERO);
    let counted = allocation_counter::measure(|| {
        (1000..1000 + REFUSALS).for_each(|id| ask(id, &mut dht));
        took = begun.elapsed();
    });
    if refused < REFUSALS {
        return Err(format!("{refused} of {REFUSALS} were refused"));
    }
    let each = |what: f64| what / REFUSALS as f64;
    let allocations = Some(each(counted.count_total as f64));
    Ok(Figure { value: each(took.as_secs_f64() * 1e6), allocations })
}
