//! The swarm behaviour: translates between the swarm and the node.
//!
//! Decides nothing: whatever the swarm tells becomes an [`Input`], every [`Output`] becomes something for the swarm.

mod commands;
mod failures;

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::task::{Context, Poll, Waker};

use indexmap::IndexMap;
use libp2p_core::transport::PortUse;
use libp2p_core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{
    AddressChange, ConnectionClosed, ConnectionEstablished, DialFailure as SwarmDialFailure,
    ExternalAddresses, ListenAddresses, NewExternalAddrOfPeer,
};
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler,
    StreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use failures::{BannedConnection, dial_failure};

use super::arrivals::Arrivals;
use super::command_channel::{AdvertisedKeys, ClientQueries, CommandReceiver, CommandSender};
use super::connections::{Delivery, EstablishedConnections, remote_address};
use super::entropy;
use super::handler::Handler;
use super::limits::ConnectionLimits;
use super::messages::{FromHandler, OutboundRequest, ToHandler, Told, connection_of};
use super::resolved::ResolvedAddresses;
use super::shared::Shared;
use super::timer::{self, Timer};
use super::watch::Watch;
use crate::addrs::{Addresses, is_relayed};
use crate::config::Config;
pub use commands::QueryMut;

use crate::dht::Event;
use crate::dht::{self, Dht, DialFailure, DialId, Input, Output};
use crate::stats::{Statistic as _, Transport};
use crate::store::{MemoryStore, RecordStore};
use crate::time::{Instant, Now};

/// How many turns one call of `poll` takes at most, before it lets others have theirs. Chosen, not measured.
const MAX_TURNS: usize = 256;

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
///
/// # What is refused
/// What this node itself refuses, its store above all, is the error that a method returns; then nothing has begun. What others
/// refuse, what a query runs into and that too many run is told by its last event: such a method returns the number alone. Of
/// something that is not there any more a method returns `false` or `None`, which is no error.
///
/// # Ids
/// A method that begins something takes ids and keys by value; one that ends it, changes it or looks at it takes a reference,
/// as `libp2p-kad` does. Of methods that it has signatures are its own.
#[derive(Debug)]
pub struct Behaviour<S = MemoryStore> {
    dht: Dht<S>,
    protocol: StreamProtocol,
    limits: ConnectionLimits,
    /// The room for answers that wait on all connections, and whom the answers of others have named.
    shared: Shared,
    timer: Timer,
    arrivals: Arrivals,
    external: ExternalAddresses,
    listening: ListenAddresses,
    connections: EstablishedConnections,
    /// The node's dials, with whom they are to reach, by the connection they would become.
    dials: IndexMap<ConnectionId, (DialId, Option<PeerId>)>,
    events: VecDeque<ToSwarm<Event, ToHandler>>,
    /// The address of a peer that was just made known, which the swarm tells everybody, this behaviour included.
    echo: Option<(PeerId, Multiaddr)>,
    commands: CommandReceiver,
    client_queries: ClientQueries,
    advertised: AdvertisedKeys,
    watch: Watch,
    waker: Option<Waker>,
    counts: Transport,
    resolved: Option<ResolvedAddresses>,
}

impl<S: RecordStore + 'static> Behaviour<S> {
    /// Makes a node with the default configuration, which is that of the public IPFS network.
    pub fn new(local: PeerId, store: S) -> Self {
        Self::with_config(local, store, Config::default())
    }

    /// Makes a node.
    pub fn with_config(local: PeerId, mut store: S, config: Config) -> Self {
        let watch = Watch::new(&mut store);
        Self::around(Dht::new(local, store, config, entropy::seed(), timer::both()), watch)
    }

    /// Takes a node that was driven by hand until now: for tests and benches that fill a table, or a store, without peers.
    ///
    /// Peers enter its routing table by what the node is told:
    /// [`AddressesLearned`](dht::Input::AddressesLearned), [`Connected`](dht::Input::Connected), a
    /// [`ResponseReceived`](dht::Input::ResponseReceived) to each request that comes out of
    /// [`poll_output`](Dht::poll_output), [`Disconnected`](dht::Input::Disconnected). From here on the swarm alone tells it
    /// what happens and takes its outputs. So each connection must be gone, of which the swarm knows nothing, and each output
    /// taken, which it would carry out; and the clocks must be those of the system.
    pub fn from_dht(mut dht: Dht<S>) -> Self {
        let watch = Watch::new(dht.store_mut());
        Self::around(dht, watch)
    }

    fn around(dht: Dht<S>, watch: Watch) -> Self {
        let config = dht.config();
        let name = config.protocol_name().to_owned();
        #[expect(clippy::expect_used, reason = "the configuration refuses other names")]
        let protocol = StreamProtocol::try_from_owned(name).expect("begins with a slash");
        let limits = ConnectionLimits::from(config);
        let shared = Shared::new(config.limits.max_node_buffer.get());
        Self {
            dht,
            protocol,
            limits,
            shared,
            timer: Timer::default(),
            arrivals: Arrivals::default(),
            external: ExternalAddresses::default(),
            listening: ListenAddresses::default(),
            connections: EstablishedConnections::default(),
            dials: IndexMap::new(),
            events: VecDeque::new(),
            echo: None,
            commands: CommandReceiver::default(),
            client_queries: ClientQueries::default(),
            advertised: AdvertisedKeys::default(),
            watch,
            waker: None,
            counts: Transport::default(),
            resolved: None,
        }
    }

    /// Counts peers that are dialled by a name at the IP address that it leads to, which a wrapper of the transport tells: see
    /// [`ResolvedAddresses`].
    #[must_use]
    pub fn with_resolved_addresses(mut self, resolved: ResolvedAddresses) -> Self {
        self.resolved = Some(resolved);
        self
    }

    /// Calls the node and sees to it that the swarm notices what comes of it.
    fn call<T>(&mut self, call: impl FnOnce(&mut Dht<S>, Now) -> T) -> T {
        let result = call(&mut self.dht, timer::both());
        self.wake();
        result
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Returns the node, for tests that let time pass.
    #[cfg(test)]
    pub(crate) fn dht_mut(&mut self) -> &mut Dht<S> {
        &mut self.dht
    }

    /// Returns the sending end of the command channel, for a client.
    pub(crate) fn command_sender(&self) -> CommandSender {
        self.commands.sender()
    }

    fn input(&mut self, input: Input) {
        self.arrivals.arrived();
        self.dht.handle_input(timer::both().late_by(self.arrivals.late()), input);
    }

    /// Does what is due, or returns that others have their turn first: what has arrived is looked at before what is overdue.
    fn time_out(&mut self, now: Now, due: Instant) -> bool {
        let put_off = self.arrivals.turn(now.instant, due);
        if let Some(put_off) = put_off {
            self.dht.handle_timeout(now.late_by(put_off));
        }
        put_off.is_some()
    }

    fn tell(&mut self, number: u64, event: ToHandler) {
        if let Some(delivery) = self.connections.tell(number, event) {
            self.deliver(delivery);
        }
    }

    fn deliver(&mut self, Delivery { peer, connection, event }: Delivery) {
        let handler = NotifyHandler::One(connection);
        self.events.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event });
    }

    /// Turns what the node wants into what the swarm does. Returns what the application is told: it is taken at once, for its
    /// query may be there only until then.
    fn output(&mut self, output: Output<Event>) -> Option<Event> {
        match output {
            Output::Event(event) => return self.client_queries.deliver(event),
            Output::Dial { id, peer, addresses, beside } => self.dial(id, peer, addresses, beside),
            Output::SendRequest { connection, id, request, .. } => {
                self.tell(connection.0, ToHandler::Request(OutboundRequest::new(id, request)));
            }
            Output::CancelRequest { connection, id, .. } => self.tell(connection.0, ToHandler::Cancel(id)),
            Output::SendResponse { id, response, .. } => {
                self.tell(connection_of(id), ToHandler::Respond(id, response));
            }
            // Its handler has seen that it was looked at.
            Output::AcceptRequest { .. } => {}
            Output::RefuseRequest { id, .. } => self.tell(connection_of(id), ToHandler::Refuse(id)),
            Output::KeepAlive { connection, keep, .. } => self.tell(connection.0, ToHandler::KeepAlive(keep)),
            Output::CloseConnection { peer, connection } => {
                if let Some(id) = self.connections.close(connection.0) {
                    let connection = CloseConnection::One(id);
                    self.events.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
                }
            }
            Output::SetMode(mode) => {
                let all = self.connections.all();
                all.into_iter().for_each(|number| self.tell(number, ToHandler::Mode(mode)));
            }
            Output::AnnounceAddresses { peer, addresses } => {
                let announce = |address| ToSwarm::NewExternalAddrOfPeer { peer_id: peer, address };
                self.events.extend(addresses.into_vec().into_iter().map(announce));
            }
        }
        None
    }

    fn dial(&mut self, id: DialId, peer: Option<PeerId>, mut addresses: Vec<Multiaddr>, beside: bool) {
        let opts = match (peer, addresses.pop()) {
            // Only others may know where it is.
            (Some(peer), None) => DialOpts::peer_id(peer).build(),
            (Some(peer), Some(last)) => {
                addresses.push(last);
                self.dial_at(peer, addresses, beside)
            }
            (None, Some(address)) => DialOpts::unknown_peer_id().address(address).build(),
            (None, None) => {
                let error = DialFailure::NoAddresses;
                return self.input(Input::DialFailed { dial: Some(id), peer, error });
            }
        };
        self.dials.insert(opts.connection_id(), (id, peer));
        self.events.push_back(ToSwarm::Dial { opts });
    }

    /// Dials a peer at these addresses and no others, all at once.
    fn dial_at(&self, peer: PeerId, addresses: Vec<Multiaddr>, beside: bool) -> DialOpts {
        let is_dialled = self.dials.values().any(|(_, dialled)| *dialled == Some(peer));
        // One that is being closed counts as gone, though the swarm may take long to see it.
        let condition = match (self.connections.is_closing(&peer), is_dialled) {
            _ if beside => PeerCondition::NotDialing,
            // This node itself has begun at other addresses, and goes on beside them.
            (true, true) => PeerCondition::Always,
            (true, false) => PeerCondition::NotDialing,
            (false, true) => PeerCondition::Disconnected,
            (false, false) => PeerCondition::DisconnectedAndNotDialing,
        };
        let at_once = u8::try_from(addresses.len()).ok().and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MAX);
        let opts = DialOpts::peer_id(peer).addresses(addresses).condition(condition);
        opts.override_dial_concurrency_factor(at_once).build()
    }

    fn established(&mut self, established: ConnectionEstablished<'_>) {
        let ConnectionEstablished { peer_id: peer, connection_id, endpoint, .. } = established;
        let dial = self.dials.swap_remove(&connection_id).map(|(id, _)| id);
        // The handler was made just before, and its number recorded.
        if let Some(number) = self.connections.established(peer, connection_id) {
            self.connected(peer, number, endpoint, dial);
        }
    }

    fn connected(&mut self, peer: PeerId, number: u64, endpoint: &ConnectedPoint, dial: Option<DialId>) {
        let address = remote_address(endpoint);
        let (connection, dialled) = (dht::ConnectionId(number), endpoint.is_dialer());
        let resolved = self.resolved.as_ref().filter(|_| dialled);
        let located = resolved.and_then(|resolved| resolved.take(&peer, &address));
        self.input(Input::Connected { peer, connection, address, located, dialled, dial });
    }

    fn closed(&mut self, closed: ConnectionClosed<'_>) {
        let ConnectionClosed { peer_id: peer, connection_id, .. } = closed;
        if let Some(number) = self.connections.closed(connection_id) {
            self.input(Input::Disconnected { peer, connection: dht::ConnectionId(number) });
        }
    }

    fn dial_failed(&mut self, failure: SwarmDialFailure<'_>) {
        let SwarmDialFailure { peer_id: peer, error, connection_id } = failure;
        let dial = self.dials.swap_remove(&connection_id).map(|(id, _)| id);
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

    /// Refuses a connection to who is banned, or from where everybody is.
    fn check_ban(&self, peer: Option<&PeerId>, address: &Multiaddr) -> Result<(), ConnectionDenied> {
        if self.dht.refuses(peer, address) {
            return Err(ConnectionDenied::new(BannedConnection));
        }
        Ok(())
    }

    fn new_handler(&mut self, connection: ConnectionId) -> Handler {
        let (number, credit) = self.connections.begin(connection);
        Handler::new(self.protocol.clone(), self.dht.mode(), self.limits, number, (&self.shared, credit))
    }
}

impl<S: RecordStore + 'static> NetworkBehaviour for Behaviour<S> {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Of one that comes through a relay the swarm tells where the relay is.
        self.check_ban(Some(&peer), if is_relayed(local) { local } else { remote })?;
        Ok(self.new_handler(connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check_ban(Some(&peer), remote)?;
        Ok(self.new_handler(connection))
    }

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check_ban(None, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        given: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let only = if let [only] = given { only } else { &Multiaddr::empty() };
        self.check_ban(peer.as_ref(), only)?;
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
                self.connections.forget(failure.connection_id);
                self.dial_failed(failure);
            }
            FromSwarm::ListenFailure(failure) => self.connections.forget(failure.connection_id),
            FromSwarm::AddressChange(AddressChange { peer_id, connection_id, new, .. }) => {
                if let Some(number) = self.connections.number(connection_id) {
                    self.connected(peer_id, number, new, None);
                }
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

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, told: THandlerOutEvent<Self>) {
        let Told { event, at, counts } = told;
        self.counts.merge(&counts);
        let Some(event) = event else {
            return;
        };
        let input = match event {
            FromHandler::RequestReceived(id, request, _) => {
                let connection = dht::ConnectionId(connection_of(id));
                Input::RequestReceived { from: peer, connection, id, request }
            }
            FromHandler::RequestSent(id) => Input::RequestSent { id },
            FromHandler::AnnouncementRejected(key) => Input::AnnouncementRejected { peer, key },
            FromHandler::ResponseReceived(id, response) => Input::ResponseReceived { id, response },
            FromHandler::RequestFailed(id, error) => Input::RequestFailed { id, error },
            FromHandler::Protocol(true) => Input::ProtocolConfirmed { peer },
            FromHandler::Protocol(false) => Input::ProtocolUnsupported { peer },
            FromHandler::Doubted => Input::ProtocolDoubted { peer },
        };
        let now = timer::both();
        let late = self.arrivals.happened(now.instant, at);
        self.dht.handle_input(now.late_by(late), input);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        for _ in 0..MAX_TURNS {
            if let Some(event) = self.events.pop_front() {
                if let ToSwarm::NewExternalAddrOfPeer { peer_id, address } = &event {
                    self.echo = Some((*peer_id, address.clone()));
                }
                return Poll::Ready(event);
            }
            self.dht.resume(timer::both);
            if let Some(output) = self.dht.poll_output() {
                match self.output(output) {
                    Some(event) => return Poll::Ready(ToSwarm::GenerateEvent(event)),
                    None => continue,
                }
            }
            if let Some(delivery) = self.connections.poll(cx) {
                self.deliver(delivery);
                continue;
            }
            if let Poll::Ready(command) = self.commands.poll(cx) {
                self.execute(command);
                // Commands without end do not put off what is due.
                let (deadline, now) = (self.dht.poll_timeout(), timer::both());
                if let Some(due) = deadline.filter(|due| due.at <= now.instant)
                    && !self.time_out(now, due.at)
                {
                    return others_first(cx);
                }
                continue;
            }
            if let Some(progress) = self.watch.poll(cx, self.dht.store()) {
                self.input(Input::StoreAdvanced { progress });
                continue;
            }
            let (deadline, now) = (self.dht.poll_timeout(), timer::both());
            if self.timer.poll(cx, now.instant, deadline).is_ready() {
                if deadline.is_none_or(|due| self.time_out(now, due.at)) {
                    continue;
                }
                return others_first(cx);
            }
            self.arrivals.nothing_is_due();
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.counts.poll_budget_exhausted += 1;
        others_first(cx)
    }
}

/// Comes back to what is left when others have had their turn.
fn others_first<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use futures::channel::oneshot;
    use libp2p_identity::Keypair;

    use super::*;
    use crate::net::command_channel::ClientCommand;
    use crate::time::Duration;

    #[test]
    fn a_table_that_was_filled_without_peers_is_the_swarms() {
        let [local, peer] = [(); 2].map(|()| Keypair::generate_ed25519().public().to_peer_id());
        let config = Config::default().with_joining(crate::config::Joining::OnRequest);
        let now = timer::both();
        let mut dht = Dht::new(local, MemoryStore::new(local), config, [7; 32], now);
        let (address, connection): (Multiaddr, _) =
            ("/ip4/127.0.0.1/tcp/4001".parse().unwrap(), dht::ConnectionId(1));
        dht.handle_input(now, Input::AddressesLearned { peer, addresses: vec![address.clone()] });
        dht.handle_input(
            now,
            Input::Connected { located: None, peer, connection, address, dialled: true, dial: None },
        );
        while let Some(output) = dht.poll_output() {
            if let Output::SendRequest { id, .. } = output {
                let response = crate::message::Response::FindNode { closer_peers: vec![] };
                dht.handle_input(now, Input::ResponseReceived { id, response });
            }
        }
        dht.handle_input(now, Input::Disconnected { peer, connection });
        while dht.poll_output().is_some() {}
        let mut node = Behaviour::from_dht(dht);
        assert_eq!((node.peer_count(), node.dht().is_connected(&peer)), (1, false));
        let polled = node.poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "{polled:?}");
    }

    /// How many of sixty peers enter the table that are dialled by names, of as many IP addresses, which are told or not.
    fn of_sixty_dialled_by_names(is_told: bool) -> usize {
        let peer = |n: u8| {
            let hash = libp2p_core::multihash::Multihash::wrap(0x12, &[n; 32]).unwrap();
            PeerId::from_multihash(hash).unwrap()
        };
        let (local, resolved) = (peer(255), ResolvedAddresses::default());
        let config = Config::default().with_joining(crate::config::Joining::OnRequest);
        let mut node = Behaviour::with_config(local, MemoryStore::new(local), config);
        node = if is_told { node.with_resolved_addresses(resolved.clone()) } else { node };
        for n in 0..60u8 {
            let (peer, id) = (peer(n), ConnectionId::new_unchecked(n.into()));
            let address: Multiaddr = format!("/dns4/n{n}.example/tcp/4001").parse().unwrap();
            resolved.add(peer, address.clone(), format!("/ip4/{}.{n}.1.1/tcp/4001", 20 + n).parse().unwrap());
            let (role_override, port_use) = (Endpoint::Dialer, PortUse::New);
            let _ = node.handle_established_outbound_connection(id, peer, &address, role_override, port_use);
            let endpoint = ConnectedPoint::Dialer { address, role_override, port_use };
            node.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
            let tell = |node: &mut Behaviour<MemoryStore>, event| {
                let told = Told { event: Some(event), at: timer::now(), counts: Transport::default() };
                node.on_connection_handler_event(peer, id, told);
            };
            tell(&mut node, FromHandler::Protocol(true));
            while let Poll::Ready(output) = node.poll(&mut Context::from_waker(Waker::noop())) {
                if let ToSwarm::NotifyHandler { event: ToHandler::Request(asked), .. } = output {
                    let response = crate::message::Response::FindNode { closer_peers: vec![] };
                    tell(&mut node, FromHandler::ResponseReceived(asked.id, response));
                }
            }
        }
        node.peer_count()
    }

    #[test]
    fn peers_that_are_dialled_by_names_count_where_these_lead_to_if_that_is_told() {
        let (untold, told) = (of_sixty_dialled_by_names(false), of_sixty_dialled_by_names(true));
        assert!(untold < 12, "a quarter of each bucket: {untold}");
        assert!(told > 2 * untold, "{told} {untold}");
    }

    #[test]
    fn commands_without_end_do_not_put_off_what_is_due() {
        let [local, silent] = [(); 2].map(|()| Keypair::generate_ed25519().public().to_peer_id());
        let (soft, timeout) = (Duration::from_millis(1), Duration::from_millis(100));
        let config = Config::default().with_soft_timeout(soft..=soft).unwrap();
        let config = config.with_request_timeout(timeout).unwrap();
        let mut node = Behaviour::with_config(local, MemoryStore::new(local), config);
        node.add_address(&silent, "/ip4/127.0.0.1/tcp/4001".parse().unwrap());
        node.ping(silent);
        let (since, commands) = (timer::now(), node.command_sender());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            while commands.send(ClientCommand::PeerCount(oneshot::channel().0)).is_ok() {}
            let polled = node.poll(&mut cx);
            let passed = timer::now() - since;
            if let Poll::Ready(ToSwarm::GenerateEvent(Event::OutboundQueryProgressed { .. })) = polled {
                assert!(passed >= timeout);
                return;
            }
            assert!(passed < 20 * timeout, "time stands still");
        }
    }
}
