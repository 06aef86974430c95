//! Commands: what the application asks the node to do about peers and queries, and what it may look at.
//!
//! Each begins what its own file under `op` says, or tells a part; none decides anything.

mod content;

use std::num::NonZeroUsize;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::Dht;
use super::bans::{Ban, BanTarget};
use super::op::ask_peer::{AskPeer, AskPeerInfo};
use super::op::bootstrap::Bootstrap;
use super::op::connect::Connect;
use super::op::find_peer::FindPeer;
use super::op::find_peers::FindPeers;
use super::op::machine::{Begin, End};
use super::op::ping::Ping;
use super::op::{self, Command, Operation, QueryInfo, QueryResult, kinds, with_sample};
use super::queries::QueryRef;
use super::view::{Parts, network_size};
use crate::addrs::{Addresses, clean};
use crate::config::Config;
use crate::error::{AddressError, BanError, NoKnownPeers};
use crate::event::{Mode, Precision, QueryId, RoutingUpdate};
use crate::peer::PeerInfo;
use crate::record::RecordKey;
use crate::region::NetworkSize;
use crate::routing::{Entry, Experience, Table, TableSnapshot};
use crate::store::RecordStore;
use crate::time::{Instant, Now, SystemTime};

/// Makes the way from each command to what begins it, of the list of all kinds.
macro_rules! run {
    ($(
        $(#[$result_doc:meta])+
        $result:ident($outcome:ty) by $($module:ident::$machine:ident),+;
        $(#[$info_doc:meta])+
        $info:ident($info_module:ident::$seen:ident) { $( $(#[$field_doc:meta])+ $field:ident: $type:ty, )* }
        commands {
            $(
                $(#[$command_doc:meta])+
                $command:ident $({ $( $(#[$argument_doc:meta])+ $argument:ident: $argument_type:ty, )+ })?
                    => $method:ident($($begun_module:ident::$begun:ident)?);
            )+
        }
    )*) => {
        impl<S: RecordStore> Dht<S> {
            /// Begins the query of a command. Its last event tells if it could not begin.
            pub fn run(&mut self, now: Now, command: Command) -> QueryId {
                match command {
                    $($(
                        Command::$command $({ $($argument),+ })? => {
                            run!(@ self, now, $method($($begun_module::$begun)?), $($($argument),+)?)
                        }
                    )+)*
                }
            }
        }
    };
    (@ $dht:ident, $now:ident, $method:ident($module:ident::$machine:ident), $($argument:ident),*) => {
        $dht.$method::<op::$module::$machine>($now, ($($argument),*))
    };
    (@ $dht:ident, $now:ident, $method:ident(), $($argument:ident),*) => {
        $dht.$method($now, $($argument),*)
    };
}

kinds!(run);

impl<S: RecordStore> Dht<S> {
    /// Begins a query that needs nothing but peers, or tells its result if it need not, or cannot, begin.
    fn begin<M>(&mut self, now: Now, command: M::Command) -> QueryId
    where
        M: Begin + Into<Operation>,
        QueryInfo: From<M::Info>,
        QueryResult: From<M::Result>,
    {
        let now = self.tell_time(now);
        let info = M::seen(&command, &self.cx.config);
        self.start(now, info, |parts| M::begin(now, command, parts))
    }

    /// Begins a query of the application, or tells the result of one that need not, or cannot, begin.
    fn start<T: Into<Operation>, R: Into<QueryResult>>(
        &mut self,
        now: Instant,
        info: impl Into<QueryInfo>,
        begun: impl FnOnce(&mut Parts<'_>) -> Result<T, Box<R>>,
    ) -> QueryId {
        let (queries, mut parts) = self.queries_and_parts();
        let begun = match begun(&mut parts) {
            Ok(begun) => queries.begin(now, begun.into(), &mut parts),
            Err(result) => Err(Box::new((*result).into())),
        };
        self.started(now, info, begun)
    }

    /// Moves a query on that has begun, or tells the result of one that has not.
    fn started(
        &mut self,
        now: Instant,
        info: impl Into<QueryInfo>,
        begun: Result<QueryId, Box<QueryResult>>,
    ) -> QueryId {
        match begun {
            Ok(id) => {
                self.advance(now);
                id
            }
            Err(result) => self.tell(now, info, *result),
        }
    }

    /// Tells the result of a query that needed not begin.
    fn tell(&mut self, now: Instant, info: impl Into<QueryInfo>, result: impl Into<QueryResult>) -> QueryId {
        let (queries, mut parts) = self.queries_and_parts();
        queries.at_once(now, info.into(), result.into(), &mut parts)
    }

    /// Searches the `k` peers closest to the hash of `key`; see [`find_n_closest`](Self::find_n_closest).
    pub fn find_closest(&mut self, now: Now, key: impl Into<Vec<u8>>) -> QueryId {
        self.find_n_closest(now, key, self.cx.config.bucket_size(), Precision::Exact)
    }

    /// Searches the `count` peers closest to the hash of `key`, at most `k`, as precisely as is asked for.
    ///
    /// Ends with one [`QueryResult::GetClosestPeers`].
    pub fn find_n_closest(
        &mut self,
        now: Now,
        key: impl Into<Vec<u8>>,
        count: NonZeroUsize,
        precision: Precision,
    ) -> QueryId {
        self.begin::<FindPeers>(now, (key.into(), Some(count), precision))
    }

    /// Searches a peer and its addresses. Ends with one [`QueryResult::FindPeer`].
    ///
    /// A connected peer whose address is known and this node itself are found at once.
    pub fn find_peer(&mut self, now: Now, peer: PeerId) -> QueryId {
        self.begin::<FindPeer>(now, peer)
    }

    /// Asks one peer for a sign of life, connected or not. Ends with one [`QueryResult::Ping`].
    pub fn ping(&mut self, now: Now, peer: PeerId) -> QueryId {
        self.begin::<Ping>(now, peer)
    }

    /// Connects to an address and makes the peer that is there a seed. Ends with one [`QueryResult::Connect`].
    ///
    /// If the address ends in `/p2p/<id>`, only that peer will do.
    pub fn connect(&mut self, now: Now, address: Multiaddr) -> QueryId {
        self.begin::<Connect>(now, address)
    }

    /// Joins the network: looks up the own id, then every bucket that is farther than the closest neighbour.
    ///
    /// Ends with a [`QueryResult::Bootstrap`]; one precedes it for each lookup.
    ///
    /// # Errors
    /// [`NoKnownPeers`] if the routing table is empty and there is no seed: [add](Self::add_address) the address of a peer.
    pub fn bootstrap(&mut self, now: Now) -> Result<QueryId, NoKnownPeers> {
        let now = self.tell_time(now);
        self.begin_join(now)
    }

    /// Begins a join for a command, whose error goes into the event.
    fn join_or_tell(&mut self, now: Now) -> QueryId {
        self.bootstrap(now).unwrap_or_else(|error| {
            let peer = self.cx.local.peer;
            self.tell(now.instant, Bootstrap::seen(peer), Bootstrap::refused(peer, error.into()))
        })
    }

    /// Asks one peer for the peers closest to the hash of `key`. Ends with one [`QueryResult::AskPeer`].
    pub fn find_node_at(&mut self, now: Now, peer: PeerId, key: impl Into<Vec<u8>>) -> QueryId {
        let (now, key) = (self.tell_time(now), key.into());
        self.start(now, AskPeerInfo { peer }, |_| AskPeer::find_node(peer, key))
    }

    /// Asks one peer for the record of a key. Ends with one [`QueryResult::AskPeer`].
    pub fn get_record_at(&mut self, now: Now, peer: PeerId, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        self.start(now, AskPeerInfo { peer }, |_| AskPeer::get_record(peer, key))
    }

    /// Ends a query. Its last event says that it was cancelled, unless it was told already. Returns whether there was such a
    /// query.
    pub fn cancel(&mut self, now: Now, id: QueryId) -> bool {
        self.end_early(now, id, End::Cancelled)
    }

    /// Ends a query with what it has reached so far. Returns whether there was such a query.
    pub fn finish(&mut self, now: Now, id: QueryId) -> bool {
        self.end_early(now, id, End::Enough)
    }

    fn end_early(&mut self, now: Now, id: QueryId, why: End) -> bool {
        let now = self.tell_time(now);
        if self.queries.get(id).is_none() {
            return false;
        }
        let has_run = self.end_one(now, id, why);
        if has_run {
            self.advance(now);
        }
        has_run
    }

    /// Ends a query before it is done. Returns whether it ran.
    fn end_one(&mut self, now: Instant, id: QueryId, why: End) -> bool {
        let (queries, mut parts) = self.queries_and_parts();
        let ended = queries.end_early(now, id, why, &mut parts);
        let has_run = ended.is_some();
        self.conclude(now, ended);
        has_run
    }

    /// Cancels some queries, whatever their origin.
    fn cancel_all(&mut self, now: Instant, ids: impl IntoIterator<Item = QueryId>) {
        for id in ids {
            self.end_one(now, id, End::Cancelled);
        }
        self.advance(now);
    }

    /// Lets a search for providers tell so many more, and then no others until this is called again. Whatever else it finds is
    /// kept, up to 4,096, and told when there is room, or at its end. A search for which this is never called tells all at
    /// once.
    pub fn make_room(&mut self, now: Now, id: QueryId, more: usize) {
        let now = self.tell_time(now);
        self.queries.make_room(id, more);
        self.advance(now);
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
    /// Each [`AddressError`], which says what to give instead, where [`add_address`](Self::add_address) returns
    /// [`RoutingUpdate::Failed`].
    pub fn try_add_address(
        &mut self,
        now: Now,
        peer: PeerId,
        address: Multiaddr,
    ) -> Result<RoutingUpdate, AddressError> {
        let now = self.tell_time(now);
        let Self { cx, peers, upkeep, .. } = self;
        let update = upkeep.add_address(now, peer, address, cx, peers);
        self.advance(now);
        update
    }

    /// Removes an address of a peer; with its last one the peer leaves the routing table and the seeds.
    ///
    /// Returns the entry of a peer that has left the routing table.
    pub fn remove_address(&mut self, now: Now, peer: PeerId, address: &Multiaddr) -> Option<Entry> {
        let now = self.tell_time(now);
        let address = clean(address.clone(), &peer)?;
        let Self { cx, peers, upkeep, .. } = self;
        let removed = upkeep.remove_address(now, &peer, &address, cx, peers);
        self.advance(now);
        removed
    }

    /// Removes a peer from the routing table and the seeds. It may enter again when it answers.
    pub fn remove_peer(&mut self, now: Now, peer: PeerId) -> Option<Entry> {
        let now = self.tell_time(now);
        let Self { cx, peers, upkeep, .. } = self;
        let removed = upkeep.remove_peer(now, &peer, cx, peers);
        self.advance(now);
        removed
    }

    /// Tells what the application has experienced with a peer. Returns whether it is in the routing table, or waits for a place in it:
    /// then it counts as long as it is.
    ///
    /// It only matters who goes first: one that was bad makes way for a newcomer where there is no room, and one that was good is the
    /// first of those that wait. The latest word counts.
    pub fn report(&mut self, peer: PeerId, experience: Experience) -> bool {
        let key = self.peers.key(&peer);
        self.upkeep.table.report(&key, &peer, experience)
    }

    /// Sets whether the node serves others, or lets that follow its confirmed external addresses.
    pub fn set_mode(&mut self, now: Now, mode: Option<Mode>) {
        let now = self.tell_time(now);
        let changed = self.cx.mode.set(mode);
        self.cx.mode_changed(changed, mode.is_none());
        self.advance(now);
    }

    /// Keeps out a peer, or an IP network, until a time of the wall clock or for good, and says why to the application that asks.
    ///
    /// A banned peer leaves the routing table and the seeds, is asked nothing, and what was asked of it has failed; it is named
    /// to nobody, as a peer, a provider or by a record that it has published; what it asks is refused; its connections are closed,
    /// if that is configured. Of a network all peers that are connected from it, and all addresses in it. Banned again, it is until then.
    ///
    /// # Errors
    /// Each [`BanError`], which says what to give instead.
    pub fn ban(
        &mut self,
        now: Now,
        target: impl Into<BanTarget>,
        until: Option<SystemTime>,
        why: &str,
    ) -> Result<(), BanError> {
        let now = self.tell_time(now);
        self.queries_and_parts().1.ban(now, target.into(), until, why)?;
        self.advance(now);
        Ok(())
    }

    /// Lifts a ban. Returns whether there was one of just that target.
    pub fn unban(&mut self, target: impl Into<BanTarget>) -> bool {
        self.peers.bans.remove(target.into())
    }

    /// Returns who is banned, until when and why.
    pub fn bans(&self) -> Vec<Ban> {
        self.peers.bans.iter().collect()
    }

    /// The table is as if the node had joined: what it tells of the network's size is believed.
    #[cfg(feature = "simulator")]
    pub(crate) fn believe_table(&mut self, now: Now) {
        self.upkeep.size.joined(now.instant, false, &mut self.cx.rng);
    }

    /// Returns how large the network is: how many servers there are. `None` as long as no other is known.
    ///
    /// Learnt of lookups of random keys, of which the node makes sixteen in two hours; before there are five of the own routing
    /// table, whose interval is wide.
    pub fn network_size(&self) -> Option<NetworkSize> {
        let (k, own) = (self.cx.config.bucket_size().get(), &self.cx.local.key);
        network_size(self.cx.clocks.latest(), &self.upkeep.size, &self.upkeep.table, (own, 1..=k))
    }

    /// Returns whether a connection is refused, to a peer or from an address: who is there is banned, or no member.
    pub(crate) fn refuses(&self, peer: Option<&PeerId>, address: &Multiaddr) -> bool {
        let bans = &self.peers.bans;
        self.cx.config.routing.disconnects_banned
            && (peer.is_some_and(|peer| !bans.admits(peer)) || bans.has_banned_address(address))
    }

    /// Returns whether the node serves others.
    pub fn mode(&self) -> Mode {
        self.cx.mode.mode()
    }

    /// Returns the id of this node.
    pub fn local_peer_id(&self) -> &PeerId {
        &self.cx.local.peer
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.cx.config
    }

    /// Returns the routing table.
    pub fn table(&self) -> &Table {
        &self.upkeep.table
    }

    /// Returns a picture of the routing table as it is at `now`.
    pub fn snapshot(&self, now: Now) -> TableSnapshot {
        TableSnapshot::of(now.instant, &self.upkeep.table)
    }

    /// Returns the live peers of the routing table with their addresses, to be added again after a restart.
    pub fn export_peers(&self) -> Vec<PeerInfo> {
        let live = self.upkeep.table.entries().filter(|entry| entry.is_live());
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

    /// Iterates over the queries of the application that run, and those that have ended while their last event is still to be
    /// taken.
    pub fn queries(&self) -> impl Iterator<Item = QueryRef> {
        self.queries.iter()
    }

    /// Returns a query of the application that runs, or whose last event is still to be taken.
    pub fn query(&self, id: QueryId) -> Option<QueryRef> {
        self.queries.get(id)
    }

    /// Returns the store.
    pub fn store(&self) -> &S {
        &self.storage.store
    }

    /// Returns the store, to be changed.
    ///
    /// What is put into it behind the node's back is found when the node next looks it over, a minute later: it is put anew
    /// and handed over from then on, as the node's own or as another's, as the store says.
    /// [`put_record`](Self::put_record) and [`store_local`](Self::store_local) do so at once.
    pub fn store_mut(&mut self) -> &mut S {
        self.records.given_away(self.cx.clocks.latest());
        &mut self.storage.store
    }
}
