//! The node: the protocol as one state machine, without I/O, clock or entropy.
//!
//! Composes the parts, which do not know each other. Knows neither frames nor swarms: what has happened comes in as an
//! [`Input`], what is to be done goes out as an [`Output`], and time is an argument.

mod advice;
mod answer;
mod clocks;
mod inbound;
mod io;
mod local;
mod mode;
mod op;
mod peers;
mod providers;
mod queries;
mod records;
mod reported;
mod seeds;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

pub use io::{ConnectionId, Deadline, DialFailure, DialId, InboundId, Input, Output, RequestId, Unreached};
pub use queries::QueryRef;

use crate::addrs::{Addresses, clean, without_peer};
use crate::config::{BucketInserts, Config};
use crate::error::AddressError;
use crate::event::{Event, Mode, QueryId, RoutingUpdate};
use crate::key::Key;
use crate::peer::{PackedPeerId, PeerInfo};
use crate::query::pool::Pool;
use crate::query::rtt::Estimator;
use crate::rng::Rng;
use crate::routing::admission::{Admission, Stranger};
use crate::routing::bootstrap::BootstrapSchedule;
use crate::routing::refresh::Refresh;
use crate::routing::{AdmissionPriority, Entry, Probe, Table, TableConfig, TableSnapshot};
use crate::store::RecordStore;
use crate::time::{Duration, Instant, Now};

use advice::Advice;
use clocks::Clocks;
use local::Local;
use mode::ModeMachine;
use peers::{Peers, Protocol};
use queries::Query;
use reported::Reported;
use seeds::Seeds;

/// A Kademlia node as a pure state machine.
///
/// The swarm's [`Behaviour`](crate::Behaviour) drives it, and so can anybody who has another transport or encoding: it
/// names no swarm, stream or runtime.
///
/// # How to drive it
/// Methods come in four kinds: commands of the user ([`find_closest`](Self::find_closest),
/// [`add_address`](Self::add_address) …), what has happened outside ([`handle_input`](Self::handle_input),
/// [`handle_timeout`](Self::handle_timeout)), what is to be done outside ([`poll_output`](Self::poll_output),
/// [`poll_timeout`](Self::poll_timeout)), and getters.
///
/// 1. After each call that takes `now`, drain [`poll_output`](Self::poll_output) until it returns `None`.
/// 2. Then ask [`poll_timeout`](Self::poll_timeout), and call [`handle_timeout`](Self::handle_timeout) at that time.
///    Calling it early is harmless.
/// 3. `now` never decreases.
/// 4. Same seed, same calls: same outputs.
/// 5. Time moves on: after [`handle_timeout`](Self::handle_timeout) at `now`, [`poll_timeout`](Self::poll_timeout) is `None`
///    or later than `now`.
///
/// # What it decides
/// Everything: whom to dial and when, whom to ask, who enters the routing table, what is answered.
///
/// # Bounds
/// Those of [`Config`] and of its parts. Outputs are bounded by the calls that were made since they were last drained.
#[derive(Debug)]
pub struct Dht<S> {
    config: Config,
    local: Local,
    rng: Rng,
    clocks: Clocks,
    mode: ModeMachine,
    advice: Advice,
    table: Table,
    admission: Admission,
    probe: Probe,
    refresh: Refresh,
    join: BootstrapSchedule,
    seeds: Seeds,
    reported: Reported,
    /// Apart as well.
    peers: Box<Peers>,
    estimator: Estimator,
    queries: Pool<Query>,
    /// Queries that have ended while their last event is still to be taken.
    ended: BTreeMap<QueryId, QueryRef>,
    /// Peers whose connections are to be kept.
    kept: Box<[PackedPeerId]>,
    kept_is_outdated: bool,
    records: Box<records::Records>,
    /// Apart, so that a node does not grow too large to be moved.
    providing: Box<providers::Providing>,
    store: S,
    outputs: VecDeque<Output>,
}

impl<S: RecordStore> Dht<S> {
    /// Makes a node that knows nobody.
    ///
    /// All its random choices follow from `seed`; a seed in the configuration goes before it.
    pub fn new(local: PeerId, store: S, config: Config, seed: [u8; 32], now: Now) -> Self {
        let key = Key::of_peer(&local, config.key_hash);
        let mut this = Self {
            local: Local::new(local, key),
            rng: Rng::from_seed(config.seed.unwrap_or(seed)),
            clocks: Clocks::new(now),
            mode: ModeMachine::new(),
            advice: Advice::default(),
            table: Table::new(key, TableConfig::from(&config)),
            admission: Admission::default(),
            probe: Probe::new(),
            refresh: Refresh::new(config.refresh_interval),
            join: BootstrapSchedule::new(config.joining),
            seeds: Seeds::new(config.max_seeds.get()),
            reported: Reported::default(),
            peers: Box::new(Peers::new(local, &config)),
            estimator: Estimator::new(config.soft_timeout.clone(), config.timeout_policy),
            queries: Pool::new(config.max_queries.get(), config.query_timeout),
            ended: BTreeMap::new(),
            kept: Box::default(),
            kept_is_outdated: false,
            records: Box::new(records::Records::new(&config.records)),
            providing: Box::new(providers::Providing::new(&config.providers)),
            store,
            outputs: VecDeque::new(),
            config,
        };
        this.find_records(now.instant);
        this.find_provided(now.instant);
        this
    }

    /// Tells the node what has happened outside.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        let now = self.tell_time(now);
        let out = &mut self.outputs;
        match input {
            Input::Connected { peer, connection, address, dialled, dial } => {
                self.advice.connected(now);
                self.connected(now, (peer, connection), address, dialled, dial);
            }
            Input::Disconnected { peer, connection } => self.disconnected(now, peer, connection),
            Input::DialFailed { dial, peer, error } => {
                self.peers.dial_failed(now, dial, peer, &error, out);
                if let Some(peer) = peer {
                    let (key, addresses) = (self.peers.key(&peer), self.peers.addresses(&peer));
                    self.addresses_changed(&key, &peer, &addresses);
                }
            }
            Input::AddressesLearned { peer, addresses } => {
                self.advice.heard();
                self.addresses_learned(now, peer, addresses);
            }
            Input::ProtocolConfirmed { peer } => {
                self.advice.heard();
                let protocol = &mut self.peers.remember(now, peer).protocol;
                let before = std::mem::replace(protocol, Protocol::Confirmed);
                if !matches!(before, Protocol::Unknown | Protocol::Confirmed) {
                    self.admission.forget(&peer);
                }
                self.consider(now, peer);
            }
            Input::ProtocolUnsupported { peer } => {
                self.peers.unsupported(now, peer);
                self.drop_from_table(now, &peer);
            }
            Input::ProtocolDoubted { peer } => {
                self.advice.heard();
                self.protocol_doubted(now, peer);
            }
            Input::LocalAddresses { external, listening } => {
                if !external.is_empty() {
                    self.advice.heard();
                }
                if self.local.set_addresses(&external, &listening) {
                    self.check_kept(now);
                }
                self.peers.set_own_reach(self.local.reaches());
                self.own_addresses_changed(now);
                let external = self.local.external().iter().as_slice();
                let changed = self.mode.addresses(now, external, &listening);
                self.mode_changed(changed, true);
            }
            Input::RequestReceived { from, connection, id, request } => {
                self.peers.heard_on(now, &from, connection, out);
                self.serve(now, from, id, request);
            }
            Input::RequestSent { id } => self.peers.sent(now, id, out),
            Input::ResponseReceived { id, response } => self.peers.answered(now, id, response, out),
            Input::RequestFailed { id, error } => self.peers.failed(now, id, error, out),
            Input::StoreAdvanced { progress } => self.store_advanced(now, progress),
        }
        self.advance(now);
    }

    /// Does what is due by time alone.
    pub fn handle_timeout(&mut self, now: Now) {
        let now = self.tell_time(now);
        self.peers.handle_timeout(now, &mut self.outputs);
        self.queries.handle_timeout(now);
        self.admission.handle_timeout(now);
        if self.mode.hint(now) {
            tracing::info!(
                "still a Kademlia client: no external address is confirmed; \
                 call set_mode(Some(Mode::Server)) if others can dial this node"
            );
        }
        self.miss_identify(now);
        self.keep_up(now);
        self.keep_records(now);
        self.keep_providing(now);
        self.advance(now);
        if self.join.is_due(now) {
            // Somebody has left meanwhile, and the table is low: a first join begins at once.
            self.keep_up(now);
            self.advance(now);
        }
        debug_assert!(
            self.poll_timeout().is_none_or(|deadline| deadline.at > now),
            "time does not move on: {:?}",
            self.poll_timeout()
        );
    }

    /// Returns what is to be done outside, in the order in which it is to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        let mut output = self.outputs.pop_front();
        match &mut output {
            Some(Output::SendRequest { to, request, .. }) => self.sign(to, request),
            Some(Output::Event(Event::OutboundQueryProgressed { id, step, .. })) if step.last => {
                self.last_was_taken(*id);
            }
            Some(_) | None => {}
        }
        if output.is_none() && self.outputs.capacity() > OUTPUTS_KEPT {
            // A burst leaves no large buffer behind.
            self.outputs.shrink_to(OUTPUTS_KEPT);
        }
        output
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), and what is due then.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let can_put = self.can_put();
        [
            (self.queries.deadline(), "query"),
            (self.peers.deadline(), "request"),
            (self.admission.deadline(), "admission"),
            (self.reported.deadline().filter(|_| self.is_low()), "reported"),
            (self.probe.deadline(), "probe"),
            (self.refresh.deadline(), "refresh"),
            (self.join.deadline(), "join"),
            (self.mode.deadline(), "mode"),
            (self.advice.deadline(), "advice"),
            (self.records.deadline(can_put), "records"),
            (self.providing.deadline(self.can_announce()), "providers"),
        ]
        .into_iter()
        .filter_map(|(at, reason)| at.map(|at| Deadline { at, reason }))
        .min_by_key(|deadline| deadline.at)
    }

    /// Brings everything to where only time or the outside can move it.
    ///
    /// Ends, since each turn uses up an outcome, a step of a query, a stranger, a probe or somebody who was reported, all of
    /// which are bounded.
    fn advance(&mut self, now: Instant) {
        loop {
            if let Some(outcome) = self.peers.next_outcome() {
                self.settle(now, outcome);
            } else if let Some(met) = self.peers.next_met() {
                self.met(now, met);
            } else if let Some(standing) = self.peers.next_standing() {
                self.standing_changed(now, standing);
            } else if let Some(id) = self.queries.next_ready() {
                self.step(now, id);
            } else if !self.ask_around(now)
                && !self.try_reported(now)
                && !self.put_anew(now)
                && !self.hand_next(now)
                && !self.announce_next(now)
                && !self.tell_next(now)
            {
                break;
            }
        }
        if self.kept_is_outdated {
            self.update_kept(now);
        }
        self.sweep(now);
    }

    /// Adds an address of a peer: as another one if it is in the routing table, else as a seed.
    ///
    /// A seed is a candidate of every lookup, and is checked at once so that it enters the routing table. It is not forgotten
    /// however silent it is, unless another wants its place when it has failed for ten minutes while others answered. Where
    /// peers enter by hand, one that has proved itself enters at once, whether there is room for another seed or not.
    ///
    /// A trailing `/p2p` is cut off. Fails for an address of this node, one that nobody can dial (see [`clean`]) or that the
    /// configured filter refuses, and if there is no room for another seed.
    pub fn add_address(&mut self, now: Now, peer: PeerId, address: Multiaddr) -> RoutingUpdate {
        self.try_add_address(now, peer, address).unwrap_or_else(|error| {
            tracing::debug!(%peer, %error, "an address was not added");
            RoutingUpdate::Failed
        })
    }

    /// Does what [`add_address`](Self::add_address) does, and says why an address cannot be used.
    ///
    /// # Errors
    /// [`AddressError`], where [`add_address`](Self::add_address) returns [`RoutingUpdate::Failed`].
    pub fn try_add_address(
        &mut self,
        now: Now,
        peer: PeerId,
        address: Multiaddr,
    ) -> Result<RoutingUpdate, AddressError> {
        let now = self.tell_time(now);
        let update = self.add_and_check(now, peer, address);
        self.advance(now);
        update
    }

    /// Adds an address of a peer, and has the peer checked if it is a seed that is not in the table.
    fn add_and_check(
        &mut self,
        now: Instant,
        peer: PeerId,
        address: Multiaddr,
    ) -> Result<RoutingUpdate, AddressError> {
        let update = self.add_seed(now, peer, address)?;
        if update == RoutingUpdate::Pending {
            let key = self.peers.key(&peer);
            self.admission.forget(&peer);
            self.admission
                .offer(now, Stranger { key, peer, priority: AdmissionPriority::Named, group: None });
        }
        Ok(update)
    }

    fn add_seed(
        &mut self,
        now: Instant,
        peer: PeerId,
        address: Multiaddr,
    ) -> Result<RoutingUpdate, AddressError> {
        let (plain, named) = without_peer(address.clone());
        self.check_address(&plain, Some(&peer))?;
        if let Some(named) = named.filter(|named| *named != peer) {
            return Err(AddressError::OtherPeer { named });
        }
        let address = clean(address, &peer).ok_or(AddressError::Undialable)?;
        let known = self.peers.remember(now, peer);
        known.addresses = known.addresses.with_reported(address.clone());
        known.trust(&address);
        known.learnt();
        known.is_wanted = true;
        let addresses = known.addresses.clone();
        self.peers.addresses_arrived(now, &peer, &mut self.outputs);
        let key = self.peers.key(&peer);
        let is_seed = self.seeds.add(now, key, peer, address);
        if self.table.entry(&key, &peer).is_some() {
            self.addresses_changed(&key, &peer, &addresses);
            return Ok(RoutingUpdate::Success);
        }
        let by_hand = self.config.bucket_inserts == BucketInserts::Manual;
        if !is_seed && !by_hand {
            return Err(AddressError::TooManySeeds { limit: self.config.max_seeds.get() });
        }
        if by_hand && self.peers.is_server(now, &peer) {
            // The application says yes to what it was asked; whether there is room among the seeds is another question.
            self.admit(now, key, peer);
            if self.table.entry(&key, &peer).is_some() {
                return Ok(RoutingUpdate::Success);
            }
        }
        self.join.known(now);
        Ok(RoutingUpdate::Pending)
    }

    /// Removes an address of a peer; with its last one the peer leaves the routing table and the seeds.
    ///
    /// Returns the entry of a peer that has left the routing table.
    pub fn remove_address(&mut self, now: Now, peer: &PeerId, address: &Multiaddr) -> Option<Entry> {
        let now = self.tell_time(now);
        let address = clean(address.clone(), peer)?;
        self.seeds.remove_address(peer, &address);
        let known = self.peers.get_mut(peer)?;
        known.forget_address(&address);
        known.is_wanted &= !known.addresses.is_empty();
        let addresses = known.addresses.clone();
        let key = self.peers.key(peer);
        if addresses.is_empty() {
            let removed = self.drop_from_table(now, peer);
            self.advance(now);
            return removed;
        }
        self.addresses_changed(&key, peer, &addresses);
        None
    }

    /// Removes a peer from the routing table and the seeds. It may enter again when it answers.
    pub fn remove_peer(&mut self, now: Now, peer: &PeerId) -> Option<Entry> {
        let now = self.tell_time(now);
        self.seeds.remove(peer);
        self.reported.remove(peer);
        if let Some(known) = self.peers.get_mut(peer) {
            known.is_wanted = false;
        }
        let removed = self.drop_from_table(now, peer);
        self.advance(now);
        removed
    }

    /// Sets whether the node serves others, or lets that follow its confirmed external addresses.
    pub fn set_mode(&mut self, now: Now, mode: Option<Mode>) {
        let now = self.tell_time(now);
        let changed = self.mode.set(mode);
        self.mode_changed(changed, mode.is_none());
        self.advance(now);
    }

    fn mode_changed(&mut self, changed: Option<Mode>, by_itself: bool) {
        let Some(new_mode) = changed else { return };
        tracing::debug!(%new_mode, "mode changed");
        self.outputs.push_back(Output::SetMode(new_mode));
        if by_itself {
            self.event(Event::ModeChanged { new_mode });
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn keeps(&self, address: &Multiaddr) -> bool {
        answer::keeps(address, &self.local, &self.config)
    }

    /// Returns why an address without a `/p2p` suffix is not one to reach another peer at, if it is not.
    fn check_address(&self, address: &Multiaddr, peer: Option<&PeerId>) -> Result<(), AddressError> {
        if peer == Some(&self.local.peer) {
            return Err(AddressError::Own);
        }
        answer::check(address, &self.local, &self.config)
    }

    /// Returns whether the node serves others.
    pub fn mode(&self) -> Mode {
        self.mode.mode()
    }

    /// Returns the id of this node.
    pub fn local_peer_id(&self) -> &PeerId {
        &self.local.peer
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the routing table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Returns a picture of the routing table as it is at `now`.
    pub fn snapshot(&self, now: Now) -> TableSnapshot {
        TableSnapshot::of(now.instant, &self.table)
    }

    /// Returns the live peers of the routing table with their addresses, to be added again after a restart.
    pub fn export_peers(&self) -> Vec<PeerInfo> {
        let live = self.table.entries().filter(|entry| entry.is_live());
        live.map(|entry| PeerInfo { peer_id: entry.peer(), addrs: entry.addresses().clone().into_vec() })
            .collect()
    }

    /// Returns what is known of where a peer can be reached.
    pub fn addresses_of(&self, peer: &PeerId) -> Addresses {
        self.peers.dialable(peer)
    }

    /// Returns how many requests are in flight or wait.
    pub fn num_requests(&self) -> usize {
        self.peers.requests()
    }

    /// Returns how many dials hold a slot.
    pub fn num_dials(&self) -> usize {
        self.peers.dials()
    }

    /// Returns whether there is a connection to a peer.
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.is_connected(peer)
    }

    /// Returns of how many peers anything is remembered.
    pub fn num_known_peers(&self) -> usize {
        self.peers.len()
    }

    /// Returns the store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Returns the store, to be changed.
    ///
    /// What is put into it behind the node's back is found when the node next looks it over, a minute later: it is put anew
    /// and handed over from then on, as the node's own or as another's, as the store says.
    /// [`put_record`](Self::put_record) and [`store_local`](Self::store_local) do so at once.
    pub fn store_mut(&mut self) -> &mut S {
        self.records.given_away(self.clocks.latest());
        &mut self.store
    }
}

/// Room for so many outputs is kept while there are none.
const OUTPUTS_KEPT: usize = 4;

/// A check or a probe that could not be made is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
