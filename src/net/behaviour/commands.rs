//! The commands of an application: each method begins a query, changes something of the node, or looks at it. Clients' are
//! executed by the same methods.

use std::num::NonZeroUsize;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::StreamProtocol;

use super::Behaviour;
use crate::addrs::Addresses;
use crate::dht::bans::{Ban, BanTarget};
use crate::dht::op::{Command, QueryInfo};
use crate::dht::{Dht, QueryRef};
use crate::error::{AddressError, BanError, NoKnownPeers, StoreError};
use crate::event::{HeldId, Mode, Precision, QueryId, QueryStats, RoutingUpdate};
use crate::key::{KBucketKey, Key, Preimage};
use crate::net::command_channel::{ClientCommand, CommandId, MAX_WAITING, ReplySender};
use crate::net::timer;
use crate::peer::{ConnectionType, KadPeer, PeerInfo};
use crate::record::{Quorum, Record, RecordKey};
use crate::region::NetworkSize;
use crate::routing::{EntryView, Experience, KBucketRef, TableSnapshot};
use crate::stats::{Stats, gauge};
use crate::store::{self, RecordStore};
use crate::time::SystemTime;

impl<S: RecordStore + 'static> Behaviour<S> {
    /// Returns the names of the protocol: one.
    pub fn protocol_names(&self) -> &[StreamProtocol] {
        std::slice::from_ref(&self.protocol)
    }

    /// Adds an address of a peer: as another one if it is in the routing table, else as a seed.
    ///
    /// A seed is a candidate of every lookup, and is forgotten only if another wants its place when it has failed for ten
    /// minutes while others answered. It is checked at once, and [`Event::RoutingUpdated`](crate::Event::RoutingUpdated) tells
    /// when it has entered the routing table. With the first seed the node joins by itself. A trailing `/p2p` is cut off.
    /// [`try_add_address`](Self::try_add_address) says why one has failed.
    ///
    /// With [`BucketInserts::Manual`](crate::BucketInserts::Manual) a peer that was reported as
    /// [`RoutablePeer`](crate::Event::RoutablePeer) enters the routing table at once, if its bucket has room.
    pub fn add_address(&mut self, peer: &PeerId, address: Multiaddr) -> RoutingUpdate {
        self.call(|dht, now| dht.add_address(now, *peer, address))
    }

    /// Does what [`add_address`](Self::add_address) does, and says why an address cannot be used.
    ///
    /// # Errors
    /// Each [`AddressError`], which says what to give instead, where [`add_address`](Self::add_address) returns
    /// [`RoutingUpdate::Failed`].
    pub fn try_add_address(
        &mut self,
        peer: &PeerId,
        address: Multiaddr,
    ) -> Result<RoutingUpdate, AddressError> {
        self.call(|dht, now| dht.try_add_address(now, *peer, address))
    }

    /// Removes an address of a peer; with its last one the peer leaves the routing table and the seeds.
    ///
    /// Returns the entry of a peer that has left the routing table.
    pub fn remove_address(
        &mut self,
        peer: &PeerId,
        address: &Multiaddr,
    ) -> Option<EntryView<KBucketKey<PeerId>, Addresses>> {
        self.call(|dht, now| dht.remove_address(now, *peer, address)).as_ref().map(EntryView::of)
    }

    /// Removes a peer from the routing table and the seeds. It may enter again when it answers.
    pub fn remove_peer(&mut self, peer: &PeerId) -> Option<EntryView<KBucketKey<PeerId>, Addresses>> {
        self.call(|dht, now| dht.remove_peer(now, *peer)).as_ref().map(EntryView::of)
    }

    /// Connects to an address and makes the peer there a seed.
    pub fn connect(&mut self, address: Multiaddr) -> QueryId {
        self.call(|dht, now| dht.connect(now, address))
    }

    /// Joins the network: looks up the own id, then every bucket that is farther than the closest neighbour.
    ///
    /// Needs to be called only if [`Joining::OnRequest`](crate::Joining::OnRequest) is configured.
    ///
    /// # Errors
    /// [`NoKnownPeers`] if the routing table is empty and there is no seed: [add](Self::add_address) the address of a peer.
    pub fn bootstrap(&mut self) -> Result<QueryId, NoKnownPeers> {
        self.call(|dht, now| dht.bootstrap(now))
    }

    /// Searches the `k` peers closest to the hash of `key`, which may be a [`PeerId`] or any bytes.
    pub fn get_closest_peers<K: Into<Vec<u8>>>(&mut self, key: K) -> QueryId {
        self.call(|dht, now| dht.find_closest(now, key))
    }

    /// Searches the `num_results` peers closest to the hash of `key`, at most `k`.
    pub fn get_n_closest_peers<K: Into<Vec<u8>>>(&mut self, key: K, num_results: NonZeroUsize) -> QueryId {
        let precision = Precision::Exact;
        self.call(|dht, now| dht.find_n_closest(now, key, num_results, precision))
    }

    /// Searches a peer and its addresses.
    pub fn find_peer(&mut self, peer: PeerId) -> QueryId {
        self.call(|dht, now| dht.find_peer(now, peer))
    }

    /// Searches the record of a key: tells each that is found, until the closest peers have all answered or
    /// [`QueryMut::finish`] is called.
    pub fn get_record(&mut self, key: RecordKey) -> QueryId {
        self.call(|dht, now| dht.get_record(now, key, None))
    }

    /// Searches the record of a key until so many agree on the best.
    pub fn get_record_with(&mut self, key: RecordKey, quorum: Quorum) -> QueryId {
        self.call(|dht, now| dht.get_record(now, key, Some(quorum)))
    }

    /// Stores a record here and at the closest peers to its key, `k` unless [fewer](crate::Config::with_replication_factor)
    /// are configured, and puts it anew until it is removed or ends.
    ///
    /// # Errors
    /// [`store::Error::Invalid`], [`store::Error::MaxRecords`], [`store::Error::ValueTooLarge`], [`store::Error::Busy`] or
    /// [`store::Error::Io`], whatever keeps this node itself from storing it; then it is sent to nobody. Each says what to
    /// do.
    pub fn put_record(&mut self, record: Record, quorum: Quorum) -> Result<QueryId, store::Error> {
        self.call(|dht, now| dht.put_record(now, record, quorum))
    }

    /// Stores a record here and nowhere else: this node is not its publisher, but serves it and keeps it alive as it does those
    /// of others. One without an end lasts as long as is configured.
    ///
    /// # Errors
    /// [`store::Error::Invalid`], [`store::Error::MaxRecords`], [`store::Error::ValueTooLarge`], [`store::Error::Busy`] or
    /// [`store::Error::Io`], whatever keeps it from being stored; then nothing has changed, but for what has ended. Each
    /// says what to do.
    pub fn store_local(&mut self, record: Record) -> Result<(), store::Error> {
        self.call(|dht, now| dht.store_local(now, record))
    }

    /// Stores a record here and at the `copies` closest peers to its key, at most `k`; else as
    /// [`put_record`](Self::put_record). When it is put anew it is at as many as are configured.
    ///
    /// # Errors
    /// [`store::Error::Invalid`], [`store::Error::MaxRecords`], [`store::Error::ValueTooLarge`], [`store::Error::Busy`] or
    /// [`store::Error::Io`], whatever keeps this node itself from storing it; then it is sent to nobody. Each says what to
    /// do.
    pub fn put_record_to_n_closest(
        &mut self,
        record: Record,
        copies: NonZeroUsize,
        quorum: Quorum,
    ) -> Result<QueryId, store::Error> {
        self.call(|dht, now| dht.put_record_to_n_closest(now, record, copies, quorum))
    }

    /// Stores a record at some peers, and not here.
    pub fn put_record_to(
        &mut self,
        record: Record,
        peers: impl IntoIterator<Item = PeerId>,
        quorum: Quorum,
    ) -> QueryId {
        self.call(|dht, now| dht.put_record_to(now, record, peers, quorum))
    }

    /// Removes a record from this node's store, whichever node has published it, and puts it no more: a put of it that runs is
    /// cancelled. Others keep it until it ends there.
    ///
    /// # Errors
    /// [`store::Error::Io`] if the store fails, which says what to do; then nothing has changed.
    pub fn remove_record(&mut self, key: &RecordKey) -> Result<(), store::Error> {
        self.call(|dht, now| dht.remove_record(now, key))
    }

    /// Tells the peers closest to a key that this node provides it, `k` unless
    /// [fewer](crate::Config::with_replication_factor) are configured, now and from time to time until
    /// [`stop_providing`](Self::stop_providing).
    ///
    /// One event tells when three quarters of them have been told, or [as many](crate::Config::with_provided_percent) as are
    /// configured. The others are told behind it, and until that is done [`query`](Self::query) shows what becomes of each.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] unless the key has 1 to 80 bytes; [`store::Error::MaxProvidedKeys`], [`store::Error::Busy`]
    /// or [`store::Error::Io`] if this node's store does not take it. Then nobody is told; each says what to do.
    pub fn start_providing(&mut self, key: RecordKey) -> Result<QueryId, store::Error> {
        self.call(|dht, now| dht.start_providing(now, key))
    }

    /// Does what [`start_providing`](Self::start_providing) does, but not beyond the end of the program: the store takes no
    /// note of it. Lasts until [`retire`](Self::retire).
    ///
    /// # Errors
    /// [`store::Error::MaxProvidedKeys`] beyond 65,536 keys: [retire](Self::retire) another. [`store::Error::Invalid`]
    /// unless the key has 1 to 80 bytes: give one that has.
    pub fn advertise(&mut self, key: RecordKey) -> Result<QueryId, store::Error> {
        self.call(|dht, now| dht.advertise(now, key))
    }

    /// Ends what [`advertise`](Self::advertise) has begun.
    pub fn retire(&mut self, key: &RecordKey) {
        self.call(|dht, now| dht.retire(now, key));
    }

    /// Tells nobody any more that this node provides a key, unless it is advertised: an announcement that runs is cancelled.
    /// Others believe it until it ends there.
    ///
    /// # Errors
    /// [`store::Error::Io`] if the store fails, which says what to do; then nothing has changed.
    pub fn stop_providing(&mut self, key: &RecordKey) -> Result<(), store::Error> {
        self.call(|dht, now| dht.stop_providing(now, key))
    }

    /// Searches the providers of a key: tells each that is found, until the closest peers have all answered or
    /// [`QueryMut::finish`] is called.
    pub fn get_providers(&mut self, key: RecordKey) -> QueryId {
        self.call(|dht, now| dht.get_providers(now, key))
    }

    /// Watches the providers of a key: searches again and again, ever more rarely, until the query is ended. Each provider
    /// is told once, and once more if it had no addresses before.
    pub fn watch_providers(&mut self, key: RecordKey) -> QueryId {
        self.call(|dht, now| dht.watch_providers(now, key))
    }

    /// Stores what another peer wants stored and the application was asked about, of which no second event tells. Returns
    /// whether it still waited.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] if the record has ended while it waited; [`store::Error::Busy`] while the disk has to catch
    /// up; else whatever the store refuses it with. Then nothing has been stored, the peer is refused, and it waits no more:
    /// there is nothing to do, since a peer that still wants it stored sends it again.
    pub fn accept_record(&mut self, id: HeldId) -> Result<bool, store::Error> {
        self.call(|dht, now| dht.accept_record(now, id))
    }

    /// Stores another record in place of one that another peer wants stored and the application was asked about. Returns
    /// whether that still waited.
    ///
    /// Value, publisher and end are as given, but that one which names no publisher, or this node, is of the peer. The peer is
    /// answered as if what it has sent had been stored.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] if the other has another key, has ended or is not valid, or if what waits is a provider
    /// record; [`store::Error::Busy`] while the disk has to catch up; else whatever the store refuses it with, as
    /// [`store::Error::ValueTooLarge`]. Then nothing has been stored, and what the peer has sent still waits: give another,
    /// or [refuse](Self::refuse_record) it.
    pub fn accept_record_as(&mut self, id: HeldId, record: Record) -> Result<bool, store::Error> {
        self.call(|dht, now| dht.accept_record_as(now, id, record))
    }

    /// Refuses what another peer wants stored and the application was asked about. Returns whether it still waited.
    pub fn refuse_record(&mut self, id: HeldId) -> bool {
        self.call(|dht, _| dht.refuse_record(id))
    }

    /// Asks one peer for the peers closest to the hash of `key`, without a search.
    pub fn find_node_at<K: Into<Vec<u8>>>(&mut self, peer: PeerId, key: K) -> QueryId {
        self.call(|dht, now| dht.find_node_at(now, peer, key))
    }

    /// Asks one peer for the record of a key, without a search.
    pub fn get_record_at(&mut self, peer: PeerId, key: RecordKey) -> QueryId {
        self.call(|dht, now| dht.get_record_at(now, peer, key))
    }

    /// Asks one peer for a sign of life, connected or not.
    pub fn ping(&mut self, peer: PeerId) -> QueryId {
        self.call(|dht, now| dht.ping(now, peer))
    }

    /// Asks some peers of the table whom they know: the example of ARCHITECTURE.
    #[cfg(test)]
    pub fn sample(&mut self, count: usize) -> QueryId {
        self.call(|dht, now| dht.run(now, Command::Sample { count }))
    }

    /// Ends a query; its last event says that it was cancelled. Returns whether there was such a query.
    pub fn cancel(&mut self, id: &QueryId) -> bool {
        self.call(|dht, now| dht.cancel(now, *id))
    }

    /// Iterates over the queries that run, and those whose last event has not been taken out of `poll` yet.
    pub fn iter_queries(&self) -> impl Iterator<Item = QueryRef> {
        self.dht.queries()
    }

    /// Returns a query that runs, or whose last event has not been taken out of `poll` yet.
    pub fn query(&self, id: &QueryId) -> Option<QueryRef> {
        self.dht.query(*id)
    }

    /// Returns a query that runs, or whose last event has not been taken out of `poll` yet, to be ended: while an event is
    /// handled that is not the last of its query, the query is there.
    pub fn query_mut(&mut self, id: &QueryId) -> Option<QueryMut<'_, S>> {
        let query = self.dht.query(*id)?;
        Some(QueryMut { query, behaviour: self })
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
    pub fn kbuckets(&self) -> impl Iterator<Item = KBucketRef<'_>> {
        self.dht.table().buckets().map(|bucket| KBucketRef::new(bucket.index(), Some(bucket)))
    }

    /// Returns the bucket in which a peer, a record or any bytes belong, which may be empty; `None` if the key is the node's
    /// own. They are hashed as the configuration says.
    pub fn kbucket<K: Preimage>(&self, key: K) -> Option<KBucketRef<'_>> {
        let key = key.key_by(self.dht.config().key_hash);
        self.dht.table().bucket(&key).map(|bucket| KBucketRef::new(bucket.index(), Some(bucket)))
    }

    /// Iterates over the peers of the routing table, with their keys, by their distance to a key, nearest first.
    pub fn get_closest_local_peers<K: AsRef<Key>>(
        &self,
        key: &K,
    ) -> impl Iterator<Item = KBucketKey<PeerId>> {
        self.dht.table().closest(key.as_ref()).map(|entry| KBucketKey::hashed(entry.peer(), *entry.key()))
    }

    /// Iterates over the at most `k` peers of the routing table that `source` would be told of for a key.
    pub fn find_closest_local_peers<K: AsRef<Key>>(
        &self,
        key: &K,
        source: &PeerId,
    ) -> impl Iterator<Item = KadPeer> {
        let (k, source) = (self.dht.config().bucket_size().get(), *source);
        let live = self.dht.table().closest(key.as_ref()).filter(|entry| entry.is_live());
        live.filter(move |entry| entry.peer() != source).take(k).map(|entry| KadPeer {
            node_id: entry.peer(),
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
        self.dht.snapshot(timer::both())
    }

    /// Returns the number of peers in the routing table; 0 means that the node is not part of a network.
    pub fn peer_count(&self) -> usize {
        self.dht.table().len()
    }

    /// Returns what the node has done since it began, and what it holds now.
    ///
    /// Allocates nothing, but where the store does.
    pub fn stats(&self) -> Stats {
        let mut stats = self.dht.stats();
        stats.transport = self.counts.clone();
        stats.queues.swarm_events = gauge(self.events.len());
        stats.queues.handler_events = gauge(self.connections.waiting());
        stats.queues.calls = gauge(self.commands.waiting());
        stats
    }

    /// Returns the node itself, to be looked at. Its outputs are the swarm's: an application that drives a node by hand until
    /// then hands it over by [`from_dht`](Self::from_dht).
    pub fn dht(&self) -> &Dht<S> {
        &self.dht
    }

    /// Returns the store, to be changed.
    ///
    /// What is put into it behind the node's back is found when the node next looks it over, a minute later: it is put anew
    /// and handed over from then on, as the node's own or as another's, as the store says.
    /// [`put_record`](Self::put_record) and [`store_local`](Self::store_local) do so at once.
    pub fn store_mut(&mut self) -> &mut S {
        self.wake();
        self.dht.store_mut()
    }

    /// Keeps out a peer (`PeerId`), an IP address (`IpAddr`) or an IP network (`(IpAddr, u8)`), until a time or for good, for a
    /// reason that [`bans`](Self::bans) tells.
    ///
    /// A banned peer leaves the routing table and the seeds, is asked nothing, and what was asked of it has failed; it is named
    /// to nobody, as a peer, as a provider or as the publisher of a record; what it asks is refused. Its connections are closed and
    /// new ones refused, for all protocols of the program, unless
    /// [`with_disconnect_banned`](crate::Config::with_disconnect_banned) says otherwise. What a query had found of it before
    /// may still be told. Banned again, it is until then.
    ///
    /// # Errors
    /// Each [`BanError`], which says what to give instead.
    ///
    /// ```
    /// # use libp2p_kademlia::{BanTarget, Behaviour, store::MemoryStore};
    /// # fn example(behaviour: &mut Behaviour, peer: libp2p_identity::PeerId) -> Result<(), libp2p_kademlia::BanError> {
    /// use std::net::IpAddr;
    /// use std::time::{Duration, SystemTime};
    ///
    /// behaviour.ban(peer, None, "spams")?;
    /// let network: IpAddr = "203.0.113.0".parse().unwrap();
    /// behaviour.ban((network, 24), Some(SystemTime::now() + Duration::from_secs(3600)), "floods")?;
    /// assert!(behaviour.unban(peer));
    /// # Ok(()) }
    /// ```
    pub fn ban(
        &mut self,
        target: impl Into<BanTarget>,
        until: Option<SystemTime>,
        why: &str,
    ) -> Result<(), BanError> {
        let target = target.into();
        self.call(|dht, now| dht.ban(now, target, until, why))
    }

    /// Lifts a ban. Returns whether there was one of just that target.
    pub fn unban(&mut self, target: impl Into<BanTarget>) -> bool {
        self.call(|dht, _| dht.unban(target))
    }

    /// Returns who is banned, until when and why.
    pub fn bans(&self) -> Vec<Ban> {
        self.dht.bans()
    }

    /// Tells what the application has experienced with a peer: whether it did what it was good for. Returns whether it is in the
    /// routing table or waits for a place in it.
    ///
    /// It only matters who goes first where there is no room; a peer that is not to be there at all is [banned](Self::ban).
    pub fn report(&mut self, peer: &PeerId, experience: Experience) -> bool {
        self.call(|dht, _| dht.report(*peer, experience))
    }

    /// Returns how large the network is: how many servers there are. `None` as long as no other is known; see
    /// [`NetworkSize`].
    pub fn network_size(&self) -> Option<NetworkSize> {
        self.dht.network_size()
    }

    /// Executes a command of a client. A reply that the client no longer waits for is dropped.
    pub(super) fn execute(&mut self, command: ClientCommand) {
        match command {
            ClientCommand::Query { id, command, reply } => self.begin_query(id, command, reply),
            ClientCommand::Cancel(id) => {
                if let Some(query) = self.client_queries.of_command(id) {
                    self.cancel(&query);
                }
            }
            ClientCommand::MakeRoom(id, more) => {
                if let Some(query) = self.client_queries.of_command(id) {
                    self.call(|dht, now| dht.make_room(now, query, more));
                }
            }
            ClientCommand::RoutingTable(reply) => {
                let _ = reply.send(self.routing_table());
            }
            ClientCommand::PeerCount(reply) => {
                let _ = reply.send(self.peer_count());
            }
            ClientCommand::Stats(reply) => {
                let _ = reply.send(self.stats());
            }
            ClientCommand::AddAddress(peer, address, reply) => {
                let _ = reply.send(self.try_add_address(&peer, address));
            }
            ClientCommand::SetMode(mode, reply) => {
                self.set_mode(mode);
                let _ = reply.send(());
            }
            ClientCommand::Ban(target, until, why, reply) => {
                let _ = reply.send(self.ban(target, until, &why));
            }
            ClientCommand::Unban(target, reply) => {
                let _ = reply.send(self.unban(target));
            }
            ClientCommand::Bans(reply) => {
                let _ = reply.send(self.bans());
            }
            ClientCommand::Report(peer, experience, reply) => {
                let _ = reply.send(self.report(&peer, experience));
            }
            ClientCommand::NetworkSize(reply) => {
                let _ = reply.send(self.network_size());
            }
            ClientCommand::StoreLocal(record, reply) => {
                let _ = reply.send(self.store_local(record).map_err(StoreError::new));
            }
            ClientCommand::RemoveRecord(key, reply) => {
                let _ = reply.send(self.remove_record(&key).map_err(StoreError::new));
            }
            ClientCommand::StopProviding(key, reply) => {
                let _ = reply.send(self.stop_providing(&key).map_err(StoreError::new));
            }
            ClientCommand::Advertise(key) => self.advertised.add(key),
            ClientCommand::Retire(key) => {
                if self.advertised.remove(&key) {
                    self.retire(&key);
                }
            }
            ClientCommand::ExportPeers(reply) => {
                let _ = reply.send(self.dht().export_peers());
            }
            ClientCommand::ImportPeers(peers, reply) => {
                let taken = |peer: &PeerInfo| {
                    let add = |address| self.add_address(&peer.peer_id, address) != RoutingUpdate::Failed;
                    peer.addrs.iter().cloned().map(add).filter(|added| *added).count() > 0
                };
                let _ = reply.send(peers.iter().map(taken).filter(|taken| *taken).count());
            }
        }
    }

    fn begin_query(&mut self, id: CommandId, command: Command, reply: ReplySender) {
        if reply.is_gone() {
            return;
        }
        let query = self.call(|dht, now| dht.run(now, command));
        if matches!(reply, ReplySender::Each(_)) {
            self.call(|dht, now| dht.make_room(now, query, MAX_WAITING));
        }
        self.client_queries.insert(query, id, reply);
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
    pub fn info(&self) -> &QueryInfo {
        self.query.info()
    }

    /// Returns what the query has cost so far.
    pub fn stats(&self) -> &QueryStats {
        self.query.stats()
    }

    /// Ends the query with what it has reached so far, which its last event tells. One that has ended already is left as it is.
    pub fn finish(&mut self) {
        let id = self.query.id();
        self.behaviour.call(|dht, now| dht.finish(now, id));
    }
}
