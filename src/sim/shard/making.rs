//! The making of nodes: how one starts and stops, and how it comes by an ideal table.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Asked, Turn};
use crate::dht::{Dht, Input};
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::sim::ideal;
use crate::sim::links::{mix, seed_of};
use crate::sim::nodes::SimNode;
use crate::sim::service::Service;
use crate::store::{MemoryStore, MemoryStoreConfig};
use crate::time::Instant;

impl Turn<'_> {
    /// Starts a node that lives already as far as others see.
    pub(in crate::sim) fn start(&mut self, n: usize, stores: MemoryStoreConfig) {
        let (network, clocks) = (self.network, self.network.clocks(self.now(), n));
        let (Some(node), config) = (network.nodes.get(n), network.config_of(n).clone()) else {
            return;
        };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&mix(network.seed).to_le_bytes());
        seed[8..16].copy_from_slice(&seed_of(&node.key).to_le_bytes());
        seed[16..20].copy_from_slice(&node.incarnation.to_le_bytes());
        let store = MemoryStore::with_config(node.peer, stores);
        let dht = Box::new(Dht::new(node.peer, store, config, seed, clocks));
        if let Some(host) = self.host(n) {
            host.dht = Some(dht);
            host.connections.clear();
            host.joined = false;
            host.wake_at = None;
            host.idle_at = None;
        }
        self.note(n, 1, usize::from(node.is_dialable));
        let listening = vec![node.address.clone()];
        let external = if node.is_dialable && node.is_server { listening.clone() } else { Vec::new() };
        self.input(n, Input::LocalAddresses { external, listening });
        if node.is_server && !node.is_dialable {
            self.with(n, |dht, now| dht.set_mode(now, Some(Mode::Server)));
        }
    }

    /// Stops a node, and returns it. Its connections are there until they are found to be lost.
    pub(in crate::sim) fn stop(&mut self, n: usize) -> Option<Box<Dht<MemoryStore>>> {
        let host = self.shard.host_mut(n)?;
        host.service = Service::new();
        host.answering.clear();
        let (dht, lookups) = (host.dht.take(), std::mem::take(&mut host.lookups));
        self.shard.running -= lookups.len();
        dht
    }

    /// Starts those of the shard's nodes that are among these, and gives each the table it would have if it knew all the others.
    pub(in crate::sim) fn fill_tables(&mut self, stores: &MemoryStoreConfig, numbers: Range<usize>) {
        let began = self.now();
        for n in self.shard.numbers_within(numbers) {
            self.shard.queue.set_now(began);
            self.start(n, stores.clone());
            let (network, k) = (self.network, self.network.config_of(n).bucket_size().get());
            let others = self.host(n).map(|host| ideal::peers(&network.nodes, &mut host.rng, k, n));
            for other in others.unwrap_or_default() {
                self.introduce(n, other);
            }
            self.disconnect_idle(n);
            let took = self.now().saturating_duration_since(began);
            self.shard.filled = self.shard.filled.max(took);
        }
        self.shard.queue.set_now(began);
    }

    /// What a node does not keep was closed long ago. The other end has not heard of it yet.
    fn disconnect_idle(&mut self, n: usize) {
        if self.network.links.warm {
            return;
        }
        let ends = self.host(n).into_iter().flat_map(|host| host.connections.iter_mut());
        let idle: Vec<_> = ends.filter(|(_, end)| !end.keep).map(|(other, end)| (other, end.link)).collect();
        for (other, link) in idle {
            self.lost(n, link, other);
        }
    }

    /// Lets those of the shard's nodes that are among these hear of the connections that others have made to them.
    pub(in crate::sim) fn settle_tables(&mut self, dialled_by: &[Vec<u32>], numbers: Range<usize>) {
        for n in self.shard.numbers_within(numbers) {
            self.settle_ideally(n, dialled_by.get(n).map_or(&[], Vec::as_slice));
        }
    }

    /// Lets a node meet another as it would have before: connected, identified, asked once.
    fn introduce(&mut self, n: usize, other: usize) {
        let Some(node) = self.network.nodes.get(other) else {
            return;
        };
        let (peer, key, addresses) = (node.peer, node.key, vec![node.address.clone()]);
        let mut asked = VecDeque::from(self.meet_ideally(n, other));
        asked.extend(self.input_alone(n, Input::AddressesLearned { peer, addresses }));
        asked.extend(self.input_alone(n, Input::ProtocolConfirmed { peer }));
        while let Some(Asked { to, id, request }) = asked.pop_front() {
            let Some(to) = self.network.nodes.number_of(&to) else {
                continue;
            };
            let answered = self.now() + self.network.round_trip(n, to);
            asked.extend(self.pass(n, answered));
            let response = self.answer_ideally(to, &request);
            asked.extend(self.input_alone(n, Input::ResponseReceived { id, response }));
        }
        let is_known = self.node(n).is_some_and(|dht| dht.table().entry(&key, &peer).is_some());
        assert!(is_known, "node {n} has no room for node {other} in its ideal table");
    }

    /// Returns what a node answers that knows nobody but itself.
    fn answer_ideally(&self, n: usize, request: &Request) -> Response {
        let itself = |node: &SimNode| KadPeer {
            node_id: node.peer,
            multiaddrs: self.network.nodes.addresses_of(n),
            connection_ty: ConnectionType::CanConnect,
        };
        match request {
            Request::FindNode { .. } => Response::FindNode {
                closer_peers: self.network.nodes.get(n).map(itself).into_iter().collect(),
            },
            Request::Ping
            | Request::GetValue { .. }
            | Request::PutValue { .. }
            | Request::GetProviders { .. }
            | Request::AddProvider { .. } => Response::Pong,
        }
    }

    /// Time passes for one node alone, and with it what is due. Returns what it asks of others.
    fn pass(&mut self, n: usize, until: Instant) -> Vec<Asked> {
        let mut asked = Vec::new();
        let due = |turn: &Self| turn.node(n).and_then(Dht::poll_timeout).filter(|due| due.at <= until);
        while let Some(due) = due(self) {
            self.shard.queue.set_now(due.at.max(self.now()));
            asked.extend(self.alone(n, Dht::handle_timeout));
        }
        self.shard.queue.set_now(until);
        asked
    }
}
