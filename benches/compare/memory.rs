//! Rows of memory: what a connection and a stored value take of the heap of the thread that has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::swarm::{NetworkBehaviour, dummy};
use libp2p::{PeerId, identity};
use libp2p_kademlia::message::Response;
use tokio::task::JoinSet;

use super::carrier::{Carrier, run, swarm};
use super::driver::{Driver, Load};
use super::floor::Floor;
use super::measured::{Measured, runtime};
use super::server::{DEADLINE, put_value};
use super::table::{Figure, Line, Table};
use super::{Failure, Options, keys, nodes};

/// How many values are stored, with those before them in the middle between two sizes to which a map grows: it doubles at 448 and
/// at 896 entries. `libp2p-kad` keeps 1,024 records by default.
const VALUES: usize = 600;
/// How many before them, for streams and their buffers to be there.
const WARM_UP: usize = 32;
/// Only here: within a process a buffer is freed by another thread than has allocated it.
const CARRIER: Carrier = Carrier::Tcp;

/// Measures servers, and prints a line for each row.
pub(crate) fn rows(options: &Options, table: &mut Table) {
    let name = format!("{} idle connections, {}", options.connections, CARRIER.name());
    if options.wants(&name) {
        let floor = connections(options, false, |_| Floor::new(|_: &[u8]| Bytes::new()));
        let theirs = connections(options, options.settles, |local| nodes::theirs(local, CARRIER));
        let ours = connections(options, false, |local| nodes::ours(local, CARRIER));
        let shown: [Shown; 3] = [
            ("heap of each", "bytes", |idle| idle.heap),
            ("CPU a second", "µs", |idle| idle.cpu),
            ("wake-ups a second", "wake-ups", |idle| idle.sleeps),
        ];
        for (what, unit, figure) in shown {
            let cell = |outcome: &Result<Idle, Failure>| {
                Some(outcome.as_ref().map(|idle| Figure::plain(figure(idle))).map_err(Clone::clone))
            };
            let (floor, theirs, ours) = (cell(&floor), cell(&theirs), cell(&ours));
            table.line(Line { name: &format!("{name}: {what}"), unit, floor, theirs, ours, most: None });
        }
    }
    let name = format!("heap of a stored value of 1 KiB, {}", CARRIER.name());
    if options.wants(&name) {
        let theirs = Some(values(options.settles, |local| nodes::theirs(local, CARRIER)));
        let ours = Some(values(false, |local| nodes::ours(local, CARRIER)));
        table.line(Line { name: &name, unit: "bytes", floor: None, theirs, ours, most: None });
    }
}

/// What connections take on which nothing happens.
struct Idle {
    /// Of each.
    heap: f64,
    /// Of all, in µs a second.
    cpu: f64,
    sleeps: f64,
}

/// What is shown of it: what is said behind the name of a row, the unit, the figure.
type Shown = (&'static str, &'static str, fn(&Idle) -> f64);

/// Measures what connections take on which nothing happens: each is of another peer, which speaks no protocol.
fn connections<B: NetworkBehaviour>(
    options: &Options,
    settles: bool,
    make: impl FnOnce(PeerId) -> B + Send + 'static,
) -> Result<Idle, Failure> {
    let connect = async |server: &Measured| {
        let before = server.used().await?;
        let mut tasks = JoinSet::new();
        for _ in 0..options.connections {
            let keypair = identity::Keypair::generate_ed25519();
            let mut swarm = swarm(CARRIER, &keypair, dummy::Behaviour);
            swarm.dial(server.address.clone()).map_err(|error| error.to_string())?;
            while !swarm.is_connected(&server.peer) {
                swarm.select_next_some().await;
            }
            tasks.spawn(async move { run(&mut swarm).await });
        }
        // What is begun with a connection comes to its end.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let connected = server.used().await?;
        tokio::time::sleep(options.watched).await;
        let idle = server.used().await?;
        let seconds = options.watched.as_secs_f64();
        Ok(Idle {
            heap: idle.since(before).live as f64 / options.connections as f64,
            cpu: idle.since(connected).cpu.as_secs_f64() * 1e6 / seconds,
            sleeps: idle.since(connected).sleeps as f64 / seconds,
        })
    };
    measure(settles, make, connect)
}

/// Measures what a value takes that a peer has stored.
fn values<B: NetworkBehaviour>(
    settles: bool,
    make: impl FnOnce(PeerId) -> B + Send + 'static,
) -> Result<Figure, Failure> {
    let put = async |server: &Measured| {
        let keypair = identity::Keypair::generate_ed25519();
        let client = keypair.public().to_peer_id();
        let mut driver = Driver::connect(CARRIER, &keypair, &server.at()).await?;
        let load = |first, count| {
            let keys = keys::written(server.peer).skip(first).take(count);
            let requests = keys.map(|key| put_value(key, client)).collect();
            let is_right = |response: &Response| matches!(response, Response::PutValue { .. });
            Arc::new(Load { requests, last: None, opens_streams: false, is_right })
        };
        let (warm_up, load) = (load(0, WARM_UP), load(WARM_UP, VALUES));
        driver.drive(&warm_up, WARM_UP).await?;
        let before = server.used().await?;
        driver.drive(&load, VALUES).await?;
        let used = server.used().await?.since(before);
        Ok(Figure::plain(used.live as f64 / VALUES as f64))
    };
    measure(settles, make, put)
}

/// Starts a server and does something with it.
fn measure<B: NetworkBehaviour, T>(
    settles: bool,
    make: impl FnOnce(PeerId) -> B + Send + 'static,
    with: impl AsyncFnOnce(&Measured) -> Result<T, Failure>,
) -> Result<T, Failure> {
    runtime().block_on(async {
        let server = Measured::start(CARRIER, settles, make).await?;
        let figure = tokio::time::timeout(DEADLINE, with(&server)).await;
        server.stop();
        figure.map_err(|_| "it takes too long")?
    })
}
