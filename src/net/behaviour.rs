//! The swarm behaviour: translates between the swarm and the node.
//!
//! Decides nothing: whatever the swarm tells becomes an [`Input`], every [`Output`] becomes something for the swarm.

mod commands;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use indexmap::IndexMap;
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

use super::budget::NodeBuffer;
use super::desk::Desk;
use super::entropy;
use super::handler::{FromHandler, Handler, Limits, ToHandler, connection_of};
use super::timer::{self, Timer};
use crate::addrs::{Addresses, without_peer};
use crate::command::Command;
use crate::config::Config;
pub use commands::QueryMut;

use crate::dht::{Dht, DialFailure, DialId, Input, Output, RequestId};
use crate::error::RequestError;
use crate::event::{Event, QueryId};
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
    /// What answers that wait may hold on all connections.
    buffer: NodeBuffer,
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
        let buffer = NodeBuffer::new(config.max_node_buffer.get());
        Self {
            dht: Dht::new(local, store, config, entropy::seed(), timer::now(), timer::wall()),
            protocol,
            limits,
            buffer,
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
        self.events.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event });
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
                match self.connections.get(&to).and_then(|connections| connections.last()) {
                    Some(connection) => self.notify(to, connection.id, ToHandler::Request(id, request)),
                    None => self.input(Input::RequestFailed { id, error: RequestError::Disconnected }),
                }
            }
            Output::CancelRequest { to, id } => self.notify_all(&to, || ToHandler::Cancel(id)),
            Output::SendResponse { to, id, response } => {
                self.notify_by_number(to, connection_of(id), ToHandler::Respond(id, response));
            }
            Output::AcceptRequest { to, id } => {
                self.notify_by_number(to, connection_of(id), ToHandler::Accept(id));
            }
            Output::RefuseRequest { to, id } => {
                self.notify_by_number(to, connection_of(id), ToHandler::Refuse(id));
            }
            Output::KeepAlive { peer, keep } => self.notify_all(&peer, || ToHandler::KeepAlive(keep)),
            Output::SetMode(mode) => {
                let all: Vec<_> = self.connections.keys().copied().collect();
                all.iter().for_each(|peer| self.notify_all(peer, || ToHandler::Mode(mode)));
            }
            Output::AnnounceAddresses { peer, addresses } => {
                let announce = |address| ToSwarm::NewExternalAddrOfPeer { peer_id: peer, address };
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
                DialOpts::peer_id(peer).addresses(addresses).extend_addresses_through_behaviour().build()
            }
            (None, Some(address)) => DialOpts::unknown_peer_id().address(address).build(),
            (None, None) => {
                let error = DialFailure::NoAddresses;
                return self.input(Input::DialFailed { dial: Some(id), peer, error });
            }
        };
        self.dials.insert(opts.connection_id(), id);
        self.events.push_back(ToSwarm::Dial { opts });
    }

    fn established(&mut self, established: ConnectionEstablished<'_>) {
        let ConnectionEstablished { peer_id: peer, connection_id, endpoint, other_established, .. } =
            established;
        // The handler was made just before, and its number recorded.
        let number =
            self.numbers.iter().rev().find(|(_, id)| **id == connection_id).map(|(number, _)| *number);
        let connection = Connection { id: connection_id, number: number.unwrap_or(u64::MAX) };
        self.connections.entry(peer).or_default().push(connection);
        let dial = self.dials.swap_remove(&connection_id);
        if other_established == 0 || dial.is_some() {
            self.connected(peer, endpoint, dial);
        }
    }

    fn connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint, dial: Option<DialId>) {
        let address = endpoint.get_remote_address().clone();
        let dialled = endpoint.is_dialer();
        self.input(Input::Connected { peer, address, dialled, dial });
    }

    fn closed(&mut self, closed: ConnectionClosed<'_>) {
        let ConnectionClosed { peer_id: peer, connection_id, remaining_established, .. } = closed;
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
                self.input(Input::RequestFailed { id, error: RequestError::Disconnected });
            }
        }
    }

    fn dial_failed(&mut self, failure: SwarmDialFailure<'_>) {
        let SwarmDialFailure { peer_id: peer, error, connection_id } = failure;
        let dial = self.dials.swap_remove(&connection_id);
        let was_made = !matches!(error, DialError::DialPeerConditionFalse(_));
        if dial.is_some() || (peer.is_some() && was_made) {
            self.input(Input::DialFailed { dial, peer, error: dial_failure(error) });
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
        Handler::new(self.protocol.clone(), self.dht.mode(), self.limits, number, &self.buffer)
    }

    /// Forgets the handler of a connection that was not established after all.
    fn forget_handler(&mut self, connection: ConnectionId) {
        self.numbers.retain(|_, id| *id != connection);
    }
}

/// Says what a failed dial means to the node.
fn dial_failure(error: &DialError) -> DialFailure {
    match error {
        DialError::LocalPeerId { address } => DialFailure::Own { address: without_peer(address.clone()).0 },
        DialError::NoAddresses => DialFailure::NoAddresses,
        DialError::DialPeerConditionFalse(_) => DialFailure::UnderWay,
        DialError::Aborted | DialError::Denied { .. } => DialFailure::Refused,
        DialError::WrongPeerId { address, .. } => {
            DialFailure::WrongPeer { address: without_peer(address.clone()).0 }
        }
        DialError::Transport(errors) => {
            let unsupported = errors.iter().filter_map(|(address, error)| match error {
                TransportError::MultiaddrNotSupported(_) => Some(without_peer(address.clone()).0),
                TransportError::Other(_) => None,
            });
            DialFailure::Unreachable { unsupported: unsupported.collect() }
        }
    }
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

    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum may grow; what is new does not concern us")]
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
                    self.input(Input::AddressesLearned { peer, addresses: vec![addr.clone()] });
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
            FromHandler::RequestReceived(id, request) => Input::RequestReceived { from: peer, id, request },
            FromHandler::RequestSent(id) => Input::RequestSent { id },
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
