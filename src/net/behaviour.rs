//! The swarm behaviour: translates between the swarm and the node.
//!
//! Decides nothing: whatever the swarm tells becomes an [`Input`], every [`Output`] becomes something for the swarm.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};

use indexmap::IndexMap;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::transport::{PortUse, TransportError};
use libp2p_core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{
    AddressChange, ConnectionClosed, ConnectionEstablished, DialFailure as SwarmDialFailure,
    ExternalAddresses, ListenAddresses, NewExternalAddrOfPeer,
};
use libp2p_swarm::dial_opts::DialOpts;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler, StreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use smallvec::SmallVec;

use super::desk::Desk;
use super::entropy;
use super::handler::{FromHandler, Handler, Limits, ToHandler, connection_of};
use super::timer::{self, Timer};
use crate::addrs::Addresses;
use crate::command::Command;
use crate::config::Config;
use crate::dht::{Dht, DialFailure, DialId, Input, Output, QueryRef, RequestId};
use crate::error::{NoKnownPeers, RequestError};
use crate::event::{Event, Mode, QueryId, RoutingUpdate};
use crate::key::Key;
use crate::peer::{ConnectionType, KadPeer};
use crate::routing::{Bucket, Entry, TableSnapshot};
use crate::store::{MemoryStore, RecordStore};

/// A connection as the behaviour knows it.
#[derive(Clone, Copy, Debug)]
struct Connection {
    id: ConnectionId,
    number: u64,
}

/// A Kademlia DHT as a behaviour of a swarm.
///
/// Add `identify` (or mDNS, or any behaviour that reports addresses of peers) to the swarm and that is all the wiring:
/// addresses are taken from the swarm's events, and support for the protocol from its handlers. What queries find is
/// given back to the swarm, so that `swarm.dial(peer_id)` works for any behaviour after a lookup.
///
/// ```
/// use libp2p_kademlia::{Behaviour, Mode, store::MemoryStore};
///
/// let peer_id = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id();
/// let mut kademlia = Behaviour::new(peer_id, MemoryStore::new(peer_id));
/// kademlia.set_mode(Some(Mode::Server));
/// assert_eq!(kademlia.mode(), Mode::Server);
/// ```
///
/// Every method that begins a query returns its number at once; what the query reaches is told by
/// [`Event::OutboundQueryProgressed`]. With a [`Client`](crate::Client) the same is a future.
#[derive(Debug)]
pub struct Behaviour<S = MemoryStore> {
    dht: Dht<S>,
    protocol: StreamProtocol,
    limits: Limits,
    timer: Timer,
    external: ExternalAddresses,
    listening: ListenAddresses,
    connections: IndexMap<PeerId, SmallVec<[Connection; 1]>>,
    /// Which connection each handler's number stands for.
    numbers: BTreeMap<u64, ConnectionId>,
    next_number: u64,
    /// The node's dials by the connection they would become.
    dials: IndexMap<ConnectionId, DialId>,
    /// Requests that went down with one of several connections, until the swarm says which it was.
    lost: IndexMap<ConnectionId, Vec<RequestId>>,
    events: VecDeque<ToSwarm<Event, ToHandler>>,
    /// The address of a peer that was just made known, which the swarm tells everybody, this behaviour included.
    echo: Option<(PeerId, Multiaddr)>,
    desk: Desk,
    waker: Option<Waker>,
}

impl<S: RecordStore + 'static> Behaviour<S> {
    /// Makes a node with the default configuration, which is that of the public IPFS network.
    pub fn new(local: PeerId, store: S) -> Self {
        Self::with_config(local, store, Config::default())
    }

    /// Makes a node.
    pub fn with_config(local: PeerId, store: S, config: Config) -> Self {
        let name = config.protocol_name().to_owned();
        #[expect(clippy::expect_used, reason = "the configuration refuses other names")]
        let protocol = StreamProtocol::try_from_owned(name).expect("begins with a slash");
        let limits = Limits::from(&config);
        Self {
            dht: Dht::new(local, store, config, entropy::seed(), timer::now(), timer::wall()),
            protocol,
            limits,
            timer: Timer::default(),
            external: ExternalAddresses::default(),
            listening: ListenAddresses::default(),
            connections: IndexMap::new(),
            numbers: BTreeMap::new(),
            next_number: 0,
            dials: IndexMap::new(),
            lost: IndexMap::new(),
            events: VecDeque::new(),
            echo: None,
            desk: Desk::default(),
            waker: None,
        }
    }

    /// Calls the node and sees to it that the swarm notices what comes of it.
    fn call<T>(&mut self, call: impl FnOnce(&mut Dht<S>, crate::time::Instant) -> T) -> T {
        let result = call(&mut self.dht, timer::now());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        result
    }

    /// Returns the names of the protocol: one.
    pub fn protocol_names(&self) -> &[StreamProtocol] {
        std::slice::from_ref(&self.protocol)
    }

    /// Adds an address of a peer: as another one if it is in the routing table, else as a seed.
    ///
    /// A seed is a candidate of every lookup and is not forgotten however silent it is. It is checked at once, and
    /// [`Event::RoutingUpdated`] tells when it has entered the routing table. With the first seed the node joins by
    /// itself. A trailing `/p2p` is cut off.
    pub fn add_address(&mut self, peer: &PeerId, address: Multiaddr) -> RoutingUpdate {
        self.call(|dht, now| dht.add_address(now, *peer, address))
    }

    /// Removes an address of a peer; with its last one the peer leaves the routing table and the seeds.
    ///
    /// Returns the entry of a peer that has left the routing table.
    pub fn remove_address(&mut self, peer: &PeerId, address: &Multiaddr) -> Option<Entry> {
        self.call(|dht, now| dht.remove_address(now, peer, address))
    }

    /// Removes a peer from the routing table and the seeds. It may enter again when it answers.
    pub fn remove_peer(&mut self, peer: &PeerId) -> Option<Entry> {
        self.call(|dht, now| dht.remove_peer(now, peer))
    }

    /// Connects to an address and makes whoever is there a seed.
    pub fn connect(&mut self, address: Multiaddr) -> QueryId {
        self.call(|dht, now| dht.connect(now, address))
    }

    /// Joins the network: looks up the own id, then every bucket that is farther than the closest neighbour.
    ///
    /// Needs to be called only if [`Joining::OnRequest`](crate::Joining::OnRequest) is configured.
    ///
    /// # Errors
    /// [`NoKnownPeers`] if the routing table is empty and no address was added.
    pub fn bootstrap(&mut self) -> Result<QueryId, NoKnownPeers> {
        self.call(|dht, now| dht.bootstrap(now))
    }

    /// Searches the `k` peers closest to the hash of `key`, which may be a [`PeerId`] or any bytes.
    pub fn get_closest_peers<K: Into<Vec<u8>>>(&mut self, key: K) -> QueryId {
        self.call(|dht, now| dht.find_closest(now, key))
    }

    /// Searches the `num_results` peers closest to the hash of `key`, at most `k`.
    pub fn get_n_closest_peers<K: Into<Vec<u8>>>(&mut self, key: K, num_results: NonZeroUsize) -> QueryId {
        let precision = crate::event::Precision::Exact;
        self.call(|dht, now| dht.find_n_closest(now, key, num_results, precision))
    }

    /// Searches a peer and its addresses.
    pub fn find_peer(&mut self, peer: PeerId) -> QueryId {
        self.call(|dht, now| dht.find_peer(now, peer))
    }

    /// Asks one peer for a sign of life, connected or not.
    pub fn ping(&mut self, peer: PeerId) -> QueryId {
        self.call(|dht, now| dht.ping(now, peer))
    }

    /// Ends a query; its last event says that it was cancelled. Returns whether there was such a query.
    pub fn cancel(&mut self, id: &QueryId) -> bool {
        self.call(|dht, now| dht.cancel(now, *id))
    }

    /// Iterates over the queries that run.
    pub fn iter_queries(&self) -> impl Iterator<Item = QueryRef> {
        self.dht.queries()
    }

    /// Returns a query that runs.
    pub fn query(&self, id: &QueryId) -> Option<QueryRef> {
        self.dht.query(*id)
    }

    /// Returns a query that runs, to be ended.
    pub fn query_mut(&mut self, id: &QueryId) -> Option<QueryMut<'_, S>> {
        let query = self.dht.query(*id)?;
        Some(QueryMut {
            query,
            behaviour: self,
        })
    }

    /// Sets whether the node serves others; `None` lets that follow its confirmed external addresses.
    pub fn set_mode(&mut self, mode: Option<Mode>) {
        self.call(|dht, now| dht.set_mode(now, mode));
    }

    /// Returns whether the node serves others.
    pub fn mode(&self) -> Mode {
        self.dht.mode()
    }

    /// Iterates over the occupied buckets of the routing table, nearest first.
    pub fn kbuckets(&self) -> impl Iterator<Item = &Bucket> {
        self.dht.table().buckets()
    }

    /// Returns the bucket in which a key belongs; `None` if it is empty or the key is the node's own.
    pub fn kbucket<K: AsRef<Key>>(&self, key: &K) -> Option<&Bucket> {
        self.dht.table().bucket(key.as_ref())
    }

    /// Iterates over the peers of the routing table by their distance to a key, nearest first.
    pub fn get_closest_local_peers<K: AsRef<Key>>(&self, key: &K) -> impl Iterator<Item = PeerId> {
        self.dht.table().closest(key.as_ref()).map(|entry| *entry.peer())
    }

    /// Iterates over the at most `k` peers of the routing table that `source` would be told of for a key.
    pub fn find_closest_local_peers<K: AsRef<Key>>(
        &self,
        key: &K,
        source: &PeerId,
    ) -> impl Iterator<Item = KadPeer> {
        let (k, source) = (self.dht.config().bucket_size().get(), *source);
        let live = self
            .dht
            .table()
            .closest(key.as_ref())
            .filter(|entry| entry.is_live());
        live.filter(move |entry| *entry.peer() != source)
            .take(k)
            .map(|entry| KadPeer {
                node_id: *entry.peer(),
                multiaddrs: entry.addresses().clone(),
                connection_ty: if entry.is_connected() {
                    ConnectionType::Connected
                } else {
                    ConnectionType::CanConnect
                },
            })
    }

    /// Returns a picture of the routing table.
    pub fn routing_table(&self) -> TableSnapshot {
        self.dht.snapshot(timer::now())
    }

    /// Returns the number of peers in the routing table; 0 means that the node is not part of a network.
    pub fn peer_count(&self) -> usize {
        self.dht.table().len()
    }

    /// Returns the node itself, for whatever this face does not show.
    pub fn dht(&self) -> &Dht<S> {
        &self.dht
    }

    /// Returns the node itself, to be told or asked what this face does not offer.
    ///
    /// What it wants done is done when the swarm is polled next.
    pub fn dht_mut(&mut self) -> &mut Dht<S> {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        &mut self.dht
    }

    /// Returns the store, to be changed.
    pub fn store_mut(&mut self) -> &mut S {
        self.dht.store_mut()
    }

    /// Returns the desk at which clients leave their calls.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(crate) fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    /// Begins the query of a command.
    pub(crate) fn run(&mut self, command: Command) -> QueryId {
        self.call(|dht, now| dht.run(now, command))
    }

    fn input(&mut self, input: Input) {
        self.dht.handle_input(timer::now(), input);
    }

    fn notify(&mut self, peer: PeerId, connection: ConnectionId, event: ToHandler) {
        let handler = NotifyHandler::One(connection);
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler,
            event,
        });
    }

    fn notify_by_number(&mut self, to: PeerId, number: u64, event: ToHandler) {
        if let Some(connection) = self.numbers.get(&number) {
            self.notify(to, *connection, event);
        }
    }

    fn notify_all(&mut self, peer: &PeerId, event: impl Fn() -> ToHandler) {
        for connection in self.connections.get(peer).cloned().unwrap_or_default() {
            self.notify(*peer, connection.id, event());
        }
    }

    /// Turns what the node wants into what the swarm does.
    fn output(&mut self, output: Output) {
        match output {
            Output::Dial { id, peer, addresses } => self.dial(id, peer, addresses),
            Output::SendRequest { to, id, request } => {
                // The connection that was made last is the least likely to be stale.
                match self
                    .connections
                    .get(&to)
                    .and_then(|connections| connections.last())
                {
                    Some(connection) => self.notify(to, connection.id, ToHandler::Request(id, request)),
                    None => self.input(Input::RequestFailed {
                        id,
                        error: RequestError::Disconnected,
                    }),
                }
            }
            Output::CancelRequest { to, id } => self.notify_all(&to, || ToHandler::Cancel(id)),
            Output::SendResponse { to, id, response } => {
                self.notify_by_number(to, connection_of(id), ToHandler::Respond(id, response));
            }
            Output::RefuseRequest { to, id } => {
                self.notify_by_number(to, connection_of(id), ToHandler::Refuse(id));
            }
            Output::KeepAlive { peer, keep } => self.notify_all(&peer, || ToHandler::KeepAlive(keep)),
            Output::SetMode(mode) => {
                let all: Vec<_> = self.connections.keys().copied().collect();
                all.iter()
                    .for_each(|peer| self.notify_all(peer, || ToHandler::Mode(mode)));
            }
            Output::AnnounceAddresses { peer, addresses } => {
                let announce = |address| ToSwarm::NewExternalAddrOfPeer {
                    peer_id: peer,
                    address,
                };
                self.events.extend(addresses.into_vec().into_iter().map(announce));
            }
            Output::Event(event) => {
                if let Some(event) = self.desk.claim(event) {
                    self.events.push_back(ToSwarm::GenerateEvent(event));
                }
            }
        }
    }

    fn dial(&mut self, id: DialId, peer: Option<PeerId>, mut addresses: Vec<Multiaddr>) {
        let opts = match (peer, addresses.pop()) {
            (Some(peer), None) => DialOpts::peer_id(peer).build(),
            (Some(peer), Some(last)) => {
                addresses.push(last);
                DialOpts::peer_id(peer)
                    .addresses(addresses)
                    .extend_addresses_through_behaviour()
                    .build()
            }
            (None, Some(address)) => DialOpts::unknown_peer_id().address(address).build(),
            (None, None) => {
                let error = DialFailure::NoAddresses;
                return self.input(Input::DialFailed {
                    dial: Some(id),
                    peer,
                    error,
                });
            }
        };
        self.dials.insert(opts.connection_id(), id);
        self.events.push_back(ToSwarm::Dial { opts });
    }

    fn established(&mut self, established: ConnectionEstablished<'_>) {
        let ConnectionEstablished {
            peer_id: peer,
            connection_id,
            endpoint,
            other_established,
            ..
        } = established;
        // The handler was made just before, and its number recorded.
        let number = self
            .numbers
            .iter()
            .rev()
            .find(|(_, id)| **id == connection_id)
            .map(|(number, _)| *number);
        let connection = Connection {
            id: connection_id,
            number: number.unwrap_or(u64::MAX),
        };
        self.connections.entry(peer).or_default().push(connection);
        let dial = self.dials.swap_remove(&connection_id);
        if other_established == 0 || dial.is_some() {
            self.connected(peer, endpoint, dial);
        }
    }

    fn connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint, dial: Option<DialId>) {
        let address = endpoint.get_remote_address().clone();
        let dialled = endpoint.is_dialer();
        self.input(Input::Connected {
            peer,
            address,
            dialled,
            dial,
        });
    }

    fn closed(&mut self, closed: ConnectionClosed<'_>) {
        let ConnectionClosed {
            peer_id: peer,
            connection_id,
            remaining_established,
            ..
        } = closed;
        let lost = self.lost.swap_remove(&connection_id).unwrap_or_default();
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.retain(|connection| {
                if connection.id == connection_id {
                    self.numbers.remove(&connection.number);
                }
                connection.id != connection_id
            });
        }
        if remaining_established == 0 {
            self.connections.swap_remove(&peer);
            self.input(Input::Disconnected { peer });
        } else {
            for id in lost {
                self.input(Input::RequestFailed {
                    id,
                    error: RequestError::Disconnected,
                });
            }
        }
    }

    fn dial_failed(&mut self, failure: SwarmDialFailure<'_>) {
        let SwarmDialFailure {
            peer_id: peer,
            error,
            connection_id,
        } = failure;
        let dial = self.dials.swap_remove(&connection_id);
        let was_made = !matches!(error, DialError::DialPeerConditionFalse(_));
        if dial.is_some() || (peer.is_some() && was_made) {
            self.input(Input::DialFailed {
                dial,
                peer,
                error: dial_failure(error),
            });
        }
    }

    fn local_addresses_changed(&mut self) {
        let external = self.external.as_slice().to_vec();
        let listening = self.listening.iter().cloned().collect();
        self.input(Input::LocalAddresses { external, listening });
    }

    fn new_handler(&mut self, connection: ConnectionId) -> Handler {
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(number, connection);
        Handler::new(self.protocol.clone(), self.dht.mode(), self.limits, number)
    }

    /// Forgets the handler of a connection that was not established after all.
    fn forget_handler(&mut self, connection: ConnectionId) {
        self.numbers.retain(|_, id| *id != connection);
    }
}

/// Says what a failed dial means to the node.
fn dial_failure(error: &DialError) -> DialFailure {
    match error {
        DialError::LocalPeerId { address } => DialFailure::Own {
            address: without_peer(address),
        },
        DialError::NoAddresses => DialFailure::NoAddresses,
        DialError::DialPeerConditionFalse(_) => DialFailure::UnderWay,
        DialError::Aborted | DialError::Denied { .. } => DialFailure::Refused,
        DialError::WrongPeerId { address, .. } => DialFailure::WrongPeer {
            address: without_peer(address),
        },
        DialError::Transport(errors) => {
            let unsupported = errors.iter().filter_map(|(address, error)| match error {
                TransportError::MultiaddrNotSupported(_) => Some(without_peer(address)),
                TransportError::Other(_) => None,
            });
            DialFailure::Unreachable {
                unsupported: unsupported.collect(),
            }
        }
    }
}

/// Cuts off the peer id with which the swarm dials an address.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

impl<S: RecordStore + 'static> NetworkBehaviour for Behaviour<S> {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.new_handler(connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.new_handler(connection))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let is_own = self.dials.contains_key(&connection);
        let addresses = peer.filter(|_| !is_own).map(|peer| self.dht.addresses_of(&peer));
        Ok(addresses.map_or_else(Vec::new, Addresses::into_vec))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum may grow; what is new does not concern us"
    )]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let external_changed = self.external.on_swarm_event(&event);
        let listening_changed = self.listening.on_swarm_event(&event);
        if external_changed || listening_changed {
            self.local_addresses_changed();
        }
        match event {
            FromSwarm::ConnectionEstablished(established) => self.established(established),
            FromSwarm::ConnectionClosed(closed) => self.closed(closed),
            FromSwarm::DialFailure(failure) => {
                self.forget_handler(failure.connection_id);
                self.dial_failed(failure);
            }
            FromSwarm::ListenFailure(failure) => self.forget_handler(failure.connection_id),
            FromSwarm::AddressChange(AddressChange { peer_id, new, .. }) => {
                self.connected(peer_id, new, None)
            }
            FromSwarm::NewExternalAddrOfPeer(NewExternalAddrOfPeer { peer_id: peer, addr }) => {
                let echo = self.echo.take();
                if !echo.is_some_and(|(known, address)| known == peer && address == *addr) {
                    self.input(Input::AddressesLearned {
                        peer,
                        addresses: vec![addr.clone()],
                    });
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let input = match event {
            FromHandler::RequestReceived(id, request) => Input::RequestReceived {
                from: peer,
                id,
                request,
            },
            FromHandler::ResponseReceived(id, response) => Input::ResponseReceived { id, response },
            FromHandler::RequestFailed(id, error) => Input::RequestFailed { id, error },
            FromHandler::Protocol(true) => Input::ProtocolConfirmed { peer },
            FromHandler::Protocol(false) => Input::ProtocolUnsupported { peer },
            FromHandler::Lost(requests) => {
                self.lost.insert(connection, requests);
                return;
            }
        };
        self.input(input);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let ToSwarm::NewExternalAddrOfPeer { peer_id, address } = &event {
                    self.echo = Some((*peer_id, address.clone()));
                }
                return Poll::Ready(event);
            }
            if let Some(output) = self.dht.poll_output() {
                self.output(output);
                continue;
            }
            if let Poll::Ready(call) = self.desk.poll(cx) {
                call.carry_out(self);
                continue;
            }
            let deadline = self.dht.poll_timeout().map(|deadline| deadline.at);
            let now = timer::now();
            if self.timer.poll(cx, now, deadline).is_ready() {
                self.dht.handle_timeout(now);
                continue;
            }
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
    }
}

/// A query that runs, to be ended.
#[derive(Debug)]
pub struct QueryMut<'a, S: RecordStore + 'static> {
    query: QueryRef,
    behaviour: &'a mut Behaviour<S>,
}

impl<S: RecordStore + 'static> QueryMut<'_, S> {
    /// Returns the number of the query.
    pub fn id(&self) -> QueryId {
        self.query.id()
    }

    /// Returns what the query is about and how far it is.
    pub fn info(&self) -> &crate::event::QueryInfo {
        self.query.info()
    }

    /// Returns what the query has cost so far.
    pub fn stats(&self) -> &crate::event::QueryStats {
        self.query.stats()
    }

    /// Ends the query with what it has reached so far, which its last event tells.
    pub fn finish(&mut self) {
        let id = self.query.id();
        self.behaviour.call(|dht, now| dht.finish(now, id));
    }
}
