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
use super::{Failure, Options, nodes};

/// How many values are stored; `libp2p-kad` keeps 1,024 records by default.
const VALUES: u32 = 1000;
/// How many before them, for streams and their buffers to be there.
const WARM_UP: u32 = 24;

/// Measures servers, and prints a line for each row.
pub(crate) fn rows(options: &Options, carrier: Carrier, table: &mut Table) {
    let name = format!("heap of an idle connection, {}", carrier.name());
    if options.wants(&name) {
        let floor = connections(options, carrier, false, |_| Floor::new(|_: &[u8]| Bytes::new()));
        let theirs =
            connections(options, carrier, options.settles, move |local| nodes::theirs(local, carrier));
        let ours = connections(options, carrier, false, move |local| nodes::ours(local, carrier));
        let (floor, theirs, ours) = (Some(floor), Some(theirs), Some(ours));
        table.line(Line { name: &name, unit: "bytes", floor, theirs, ours });
    }
    let name = format!("heap of a stored value of 1 KiB, {}", carrier.name());
    if options.wants(&name) {
        let theirs = Some(values(carrier, options.settles, move |local| nodes::theirs(local, carrier)));
        let ours = Some(values(carrier, false, move |local| nodes::ours(local, carrier)));
        table.line(Line { name: &name, unit: "bytes", floor: None, theirs, ours });
    }
}

/// Measures what a connection takes on which nothing happens: each is of another peer, which speaks no protocol.
fn connections<B: NetworkBehaviour>(
    options: &Options,
    carrier: Carrier,
    settles: bool,
    make: impl FnOnce(PeerId) -> B + Send + 'static,
) -> Result<Figure, Failure> {
    let connect = async |server: &Measured| {
        let before = server.used().await?;
        let mut tasks = JoinSet::new();
        for _ in 0..options.connections {
            let keypair = identity::Keypair::generate_ed25519();
            let mut swarm = swarm(carrier, &keypair, dummy::Behaviour);
            swarm.dial(server.address.clone()).map_err(|error| error.to_string())?;
            while !swarm.is_connected(&server.peer) {
                swarm.select_next_some().await;
            }
            tasks.spawn(async move { run(&mut swarm).await });
        }
        // A server may want to know who is there.
        let pause = if options.settles { Duration::from_secs(3) } else { Duration::from_millis(100) };
        tokio::time::sleep(pause).await;
        let used = server.used().await?.since(before);
        Ok(Figure::plain(used.live as f64 / options.connections as f64))
    };
    measure(carrier, settles, make, connect)
}

/// Measures what a value takes that a peer has stored.
fn values<B: NetworkBehaviour>(
    carrier: Carrier,
    settles: bool,
    make: impl FnOnce(PeerId) -> B + Send + 'static,
) -> Result<Figure, Failure> {
    let put = async |server: &Measured| {
        let keypair = identity::Keypair::generate_ed25519();
        let client = keypair.public().to_peer_id();
        let mut driver = Driver::connect(carrier, &keypair, server).await?;
        let load = |numbers: std::ops::Range<u32>| {
            let requests = numbers.map(|n| put_value(n, client)).collect();
            let is_right = |response: &Response| matches!(response, Response::PutValue { .. });
            Arc::new(Load { requests, last: None, opens_streams: false, is_right })
        };
        driver.drive(&load(0..WARM_UP), WARM_UP as usize).await?;
        let before = server.used().await?;
        driver.drive(&load(WARM_UP..WARM_UP + VALUES), VALUES as usize).await?;
        let used = server.used().await?.since(before);
        Ok(Figure::plain(used.live as f64 / f64::from(VALUES)))
    };
    measure(carrier, settles, make, put)
}

/// Starts a server and does something with it.
fn measure<B: NetworkBehaviour>(
    carrier: Carrier,
    settles: bool,
    make: impl FnOnce(PeerId) -> B + Send + 'static,
    with: impl AsyncFnOnce(&Measured) -> Result<Figure, Failure>,
) -> Result<Figure, Failure> {
    runtime().block_on(async {
        let server = Measured::start(carrier, settles, make).await?;
        let figure = tokio::time::timeout(DEADLINE, with(&server)).await;
        server.stop();
        figure.map_err(|_| "it takes too long")?
    })
}
