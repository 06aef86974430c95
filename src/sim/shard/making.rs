//! The making of nodes: how one starts and stops, and how it comes by an ideal table.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Asked, Turn};
use crate::addrs::is_relayed;
use crate::config::{Config, Joining, Routing};
use crate::dht::{ConnectionId, Dht, Input};
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::sim::connections::{ideal_number, warm_number};
use crate::sim::ideal;
use crate::sim::links::{mix, seed_of};
use crate::sim::nodes::SimNode;
use crate::sim::service::Service;
use crate::store::{MemoryStore, MemoryStoreConfig};
use crate::time::{Duration, Instant};

/// Starts a node that lives already as far as others see.
pub(in crate::sim) fn start(turn: &mut Turn<'_>, n: usize, stores: MemoryStoreConfig, config: Config) {
    let (network, clocks) = (turn.network, turn.network.clocks(turn.now(), n));
    let Some(node) = network.nodes.get(n) else {
        return;
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&mix(network.seed).to_le_bytes());
    seed[8..16].copy_from_slice(&seed_of(&node.key).to_le_bytes());
    seed[16..20].copy_from_slice(&node.incarnation.to_le_bytes());
    let store = MemoryStore::with_config(node.peer, stores);
    let dht = Box::new(Dht::new(node.peer, store, config, seed, clocks));
    if let Some(host) = turn.host(n) {
        host.dht = Some(dht);
        host.connections.clear();
        host.joined = false;
        host.wake_at = None;
        host.idle_at = None;
    }
    turn.note(n, 1, usize::from(node.is_dialable));
    let listening = vec![node.address.clone()];
    let external = if node.is_dialable && node.is_server { listening.clone() } else { Vec::new() };
    turn.with(n, |dht, now| dht.handle_input(now, Input::LocalAddresses { external, listening }));
    // One behind a relay says so itself, as its program must.
    if node.is_server && (!node.is_dialable || is_relayed(&node.address)) {
        turn.with(n, |dht, now| dht.set_mode(now, Some(Mode::Server)));
    }
}

/// Stops a node, and returns it. Its connections are there until they are found to be lost.
pub(in crate::sim) fn stop(turn: &mut Turn<'_>, n: usize) -> Option<Box<Dht<MemoryStore>>> {
    let host = turn.shard.host_mut(n)?;
    host.service = Service::new();
    host.answering.clear();
    let (dht, lookups) = (host.dht.take(), std::mem::take(&mut host.lookups));
    turn.shard.running -= lookups.len();
    dht
}

/// Returns a configuration with which a node neither joins, nor refreshes, nor probes anybody. Who comes later does all that:
/// its own is as it was given.
fn passive(config: &Config) -> Config {
    let grace_period = Duration::from_secs(365 * 24 * 60 * 60);
    let (joining, refresh_interval) = (Joining::OnRequest, None);
    let routing = Routing { grace_period, joining, refresh_interval, low_peers: 0, ..config.routing.clone() };
    Config { routing, ..config.clone() }
}

/// Starts those of the shard's nodes that are among these, and gives each the table it would have if it knew all the others.
pub(in crate::sim) fn fill_tables(turn: &mut Turn<'_>, stores: &MemoryStoreConfig, numbers: Range<usize>) {
    let began = turn.now();
    for n in turn.shard.numbers_within(numbers) {
        turn.shard.queue.set_now(began);
        let config = passive(turn.network.config_of(n));
        start(turn, n, stores.clone(), config);
        let (network, k) = (turn.network, turn.network.config_of(n).bucket_size().get());
        let others = turn.host(n).map(|host| ideal::peers(&network.nodes, &mut host.rng, k, n));
        for other in others.unwrap_or_default() {
            introduce(turn, n, other);
        }
        turn.with(n, Dht::believe_table);
        disconnect_idle(turn, n);
        // What it meant to look at on its own clock it looks at when time passes for all.
        if let Some(host) = turn.host(n) {
            host.idle_at = None;
        }
        let took = turn.now().saturating_duration_since(began);
        turn.shard.filled = turn.shard.filled.max(took);
    }
    turn.shard.queue.set_now(began);
}

/// What a node does not keep was closed long ago. The other end has not heard of it yet.
fn disconnect_idle(turn: &mut Turn<'_>, n: usize) {
    if turn.network.links.warm {
        return;
    }
    let ends = turn.host(n).into_iter().flat_map(|host| host.connections.iter_mut());
    let idle: Vec<_> = ends.filter(|(_, end)| !end.keep).map(|(other, end)| (other, end.link)).collect();
    for (other, link) in idle {
        if let Some(host) = turn.host(n) {
            host.connections.remove(other, link);
        }
        if let Some(peer) = turn.peer(other) {
            let disconnected = Input::Disconnected { peer, connection: ConnectionId(link) };
            turn.with(n, |dht, now| dht.handle_input(now, disconnected));
        }
    }
}

/// Lets those of the shard's nodes that are among these hear of the connections that others have made to them.
pub(in crate::sim) fn settle_tables(turn: &mut Turn<'_>, dialled_by: &[Vec<u32>], numbers: Range<usize>) {
    for n in turn.shard.numbers_within(numbers) {
        settle_ideally(turn, n, dialled_by.get(n).map_or(&[], Vec::as_slice));
    }
}

/// Lets a node meet another as it would have before: connected, identified, asked once.
fn introduce(turn: &mut Turn<'_>, n: usize, other: usize) {
    let Some(node) = turn.network.nodes.get(other) else {
        return;
    };
    let (peer, key, addresses) = (node.peer, node.key, vec![node.address.clone()]);
    let mut asked = VecDeque::from(meet_ideally(turn, n, other));
    asked.extend(turn.input_alone(n, Input::AddressesLearned { peer, addresses }));
    asked.extend(turn.input_alone(n, Input::ProtocolConfirmed { peer }));
    while let Some(Asked { to, id, request }) = asked.pop_front() {
        let Some(to) = turn.network.nodes.number_of(&to) else {
            continue;
        };
        let answered = turn.now() + turn.network.round_trip(n, to);
        asked.extend(pass(turn, n, answered));
        let response = answer_ideally(turn, to, &request);
        asked.extend(turn.input_alone(n, Input::ResponseReceived { id, response }));
    }
    let is_known = turn.node(n).is_some_and(|dht| dht.table().entry(&key, &peer).is_some());
    assert!(is_known, "node {n} has no room for node {other} in its ideal table");
}

/// Returns what a node answers that knows nobody but itself.
fn answer_ideally(turn: &Turn<'_>, n: usize, request: &Request) -> Response {
    let itself = |node: &SimNode| KadPeer {
        node_id: node.peer,
        multiaddrs: turn.network.nodes.addresses_of(n),
        connection_ty: ConnectionType::CanConnect,
    };
    match request {
        Request::FindNode { .. } => {
            Response::FindNode { closer_peers: turn.network.nodes.get(n).map(itself).into_iter().collect() }
        }
        Request::Ping
        | Request::GetValue { .. }
        | Request::PutValue { .. }
        | Request::GetProviders { .. }
        | Request::AddProvider { .. } => Response::Pong,
    }
}

/// Time passes for one node alone, and with it what is due. Returns what it asks of others.
fn pass(turn: &mut Turn<'_>, n: usize, until: Instant) -> Vec<Asked> {
    let mut asked = Vec::new();
    let due = |turn: &Turn<'_>| turn.node(n).and_then(Dht::poll_timeout).filter(|due| due.at <= until);
    while let Some(due) = due(turn) {
        turn.shard.queue.set_now(due.at.max(turn.now()));
        asked.extend(turn.alone(n, Dht::handle_timeout));
    }
    turn.shard.queue.set_now(until);
    asked
}

/// A node has always been connected to another, and has dialled it.
fn meet_ideally(turn: &mut Turn<'_>, n: usize, other: usize) -> Vec<Asked> {
    let (is_warm, now) = (turn.network.links.warm, turn.now());
    let link = if is_warm { warm_number(n, other) } else { ideal_number(n, other) };
    let Some(host) = turn.host(n) else {
        return Vec::new();
    };
    if is_warm {
        host.connections.meet(other);
    } else {
        host.connections.insert(other, link, now);
    }
    let Some((peer, address)) = turn.network.nodes.get(other).map(|node| (node.peer, node.address.clone()))
    else {
        return Vec::new();
    };
    let connection = ConnectionId(link);
    turn.input_alone(
        n,
        Input::Connected { located: None, peer, connection, address, dialled: true, dial: None },
    )
}

/// A node has always been connected to those that have dialled it, and to those that it has dialled; its unused connections
/// begin to age.
fn settle_ideally(turn: &mut Turn<'_>, n: usize, dialled_by: &[u32]) {
    let now = turn.now();
    for other in dialled_by.iter().map(|other| *other as usize) {
        let link = ideal_number(n, other);
        if turn.host(n).is_some_and(|host| !host.connections.knows(other)) {
            turn.host(n).into_iter().for_each(|host| host.connections.insert(other, link, now));
            turn.tell_connected(n, other, link, false, None);
        }
    }
    let ends = turn.host(n).into_iter().flat_map(|host| host.connections.iter_mut());
    ends.for_each(|(_, end)| end.last_used = now);
    turn.idle_by(n, now + turn.network.links.idle_timeout);
}
