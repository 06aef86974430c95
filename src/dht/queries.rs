//! Queries: begun, moved on, ended.
//!
//! Knows operations only as state machines; what a kind of query does stands in its own file under `op`.

mod shown;

use std::num::NonZeroUsize;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::answer::{Contents, contents, filter, heard};
use super::io::Output;
use super::op::bootstrap::{Bootstrap, look_up_bucket, look_up_own};
use super::op::connect::Connect;
use super::op::find_peer::FindPeer;
use super::op::find_peers::FindPeers;
use super::op::ping::Ping;
use super::op::put_record::PutRecord;
use super::op::search::{Goal, Search};
use super::op::{Answer, Ask, End, Operation, Step, View, preimage_of};
use super::peers::{Met, Owner};
use super::{Dht, RecordStore};
use crate::addrs::{Addresses, without_peer};
use crate::command::Command;
use crate::error::{
    AddProviderError, BootstrapError, ConnectError, FindPeerError, GetClosestPeersError, GetProvidersError,
    NoKnownPeers, PingError, PutRecordError, QueryError, RequestError,
};
use crate::event::{
    Event, Evidence, FindPeerOk, GetClosestPeersOk, GetProvidersOk, Precision, ProgressStep, QueryId,
    QueryInfo, QueryResult, QueryStats,
};
use crate::key::Key;
use crate::message::Response;
use crate::peer::PeerInfo;
use crate::routing::refresh::Target;
use crate::time::{Duration, Instant, Now};
pub use shown::QueryRef;

/// Who is told what a query reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Application,
    /// Nobody: it keeps the table, or sees to the records of others.
    Upkeep,
    /// Nobody: it puts a record or announces a key anew.
    Republish,
    /// Nobody: it hands a record over to this newcomer.
    HandOver(PeerId),
}

/// A query that runs.
#[derive(Debug)]
pub(super) struct Query {
    operation: Operation,
    asker: Asker,
    start: Instant,
    latest: Instant,
    dials: u32,
    step: ProgressStep,
    last: Last,
    /// How many providers more the asker has room for; `None` if for all.
    room: Option<usize>,
}

/// Where the last event of a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Ahead,
    /// It is among the outputs.
    Told,
    /// The driver has it; the query goes on.
    Taken,
}

impl Query {
    /// Returns the put that it is, if it is one.
    pub(super) const fn put(&self) -> Option<&PutRecord> {
        if let Operation::PutRecord(put) = &self.operation { Some(put) } else { None }
    }
}

/// Borrows the parts that an operation sees, beside the queries themselves.
macro_rules! view {
    ($dht:ident) => {
        View {
            local: &$dht.local,
            config: &$dht.config,
            table: &$dht.table,
            seeds: &$dht.seeds,
            peers: &$dht.peers,
            estimator: &$dht.estimator,
            progress: $dht.records.disk.progress(),
            refresh: &mut $dht.refresh,
            rng: &mut $dht.rng,
            room: usize::MAX,
        }
    };
}

impl<S: RecordStore> Dht<S> {
    /// Begins the query of a command. Its last event tells if it could not begin.
    pub fn run(&mut self, now: Now, command: Command) -> QueryId {
        match command {
            Command::Bootstrap => {
                self.bootstrap(now).unwrap_or_else(|error| self.not_joined(now.instant, error))
            }
            Command::FindClosest { key, count, precision } => {
                let count = count.unwrap_or(self.config.bucket_size());
                self.find_n_closest(now, key, count, precision)
            }
            Command::FindPeer(peer) => self.find_peer(now, peer),
            Command::Ping(peer) => self.ping(now, peer),
            Command::Connect(address) => self.connect(now, address),
            Command::GetRecord { key, quorum } => self.get_record(now, key, quorum),
            Command::PutRecord { record, copies, quorum } => self.put_or_say_why(now, record, copies, quorum),
            Command::PutRecordTo { record, peers, quorum } => self.put_record_to(now, record, peers, quorum),
            Command::StartProviding { key } => self.provide_or_say_why(now, key),
            Command::Advertise { key } => self.advertise_or_say_why(now, key),
            Command::GetProviders { key } => self.get_providers(now, key),
            Command::WatchProviders { key } => self.watch_providers(now, key),
            Command::FindNodeAt { peer, key } => self.find_node_at(now, peer, key),
            Command::GetRecordAt { peer, key } => self.get_record_at(now, peer, key),
        }
    }

    /// Searches the `k` peers closest to the hash of `key`; see [`find_n_closest`](Self::find_n_closest).
    pub fn find_closest(&mut self, now: Now, key: impl Into<Vec<u8>>) -> QueryId {
        self.find_n_closest(now, key, self.config.bucket_size(), Precision::Exact)
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
        let now = self.tell_time(now);
        let preimage = Bytes::from(key.into());
        let wanted = count.min(self.config.bucket_size());
        let key = preimage.to_vec();
        let info =
            QueryInfo::GetClosestPeers { key: key.clone(), num_results: wanted, step: ProgressStep::first() };
        if preimage.is_empty() {
            let error = GetClosestPeersError::EmptyKey;
            return self.at_once(now, info, QueryResult::GetClosestPeers(Err(error)));
        }
        let hashed = (self.config.key_hash)(&preimage);
        let search = self.search(now, (preimage, hashed), wanted.get(), precision);
        let begun = search
            .map_err(QueryError::from)
            .and_then(|search| self.begin(now, Operation::FindPeers(FindPeers::new(search, count, wanted))));
        begun.unwrap_or_else(|cause| {
            let error = GetClosestPeersError::Query { cause, key, peers: Vec::new() };
            self.at_once(now, info, QueryResult::GetClosestPeers(Err(error)))
        })
    }

    /// Searches a peer and its addresses. Ends with one [`QueryResult::FindPeer`].
    ///
    /// A connected peer and this node itself are found at once.
    pub fn find_peer(&mut self, now: Now, peer: PeerId) -> QueryId {
        let (now, info) = (self.tell_time(now), QueryInfo::FindPeer { peer });
        let known = self.peers.get(&peer).filter(|known| known.is_connected() && !known.addresses.is_empty());
        let found = if peer == self.local.peer {
            Some(self.local.addresses_for(crate::addrs::Reach::World))
        } else {
            known.map(|known| known.addresses.clone())
        };
        if let Some(addresses) = found {
            let peer = PeerInfo { peer_id: peer, addrs: addresses.into_vec() };
            let found = FindPeerOk { peer, evidence: Evidence::Answered };
            return self.at_once(now, info, QueryResult::FindPeer(Ok(found)));
        }
        let k = self.config.bucket_size().get();
        let target = preimage_of(&peer, self.peers.key(&peer));
        let remembered = self.peers.remembered(now, &peer);
        let cause = match self.search(now, target, k, Precision::Near) {
            Err(NoKnownPeers()) if !remembered.is_empty() => {
                let peer = PeerInfo { peer_id: peer, addrs: remembered.into_vec() };
                let found = FindPeerOk { peer, evidence: Evidence::Remembered };
                return self.at_once(now, info, QueryResult::FindPeer(Ok(found)));
            }
            Err(error) => error.into(),
            Ok(mut search) => {
                // It may still be where it was last heard of, and it is its own best witness.
                search.add(peer, self.peers.key(&peer), self.peers.dialable(&peer));
                match self.begin(now, Operation::FindPeer(FindPeer::new(peer, search, remembered))) {
                    Ok(id) => return id,
                    Err(cause) => cause,
                }
            }
        };
        let error = FindPeerError::Query { cause, peer, closest: Vec::new() };
        self.at_once(now, info, QueryResult::FindPeer(Err(error)))
    }

    /// Asks one peer for a sign of life, connected or not. Ends with one [`QueryResult::Ping`].
    pub fn ping(&mut self, now: Now, peer: PeerId) -> QueryId {
        let (now, info) = (self.tell_time(now), QueryInfo::Ping { peer });
        if peer == self.local.peer {
            let (source, protocol) = (RequestError::DialRefused, self.config.protocol_name.clone());
            let error = PingError::Failed { peer, source, protocol };
            return self.at_once(now, info, QueryResult::Ping(Err(error)));
        }
        self.begin(now, Operation::Ping(Ping::new(peer))).unwrap_or_else(|cause| {
            self.at_once(now, info, QueryResult::Ping(Err(PingError::Query { cause, peer })))
        })
    }

    /// Connects to an address and makes whoever is there a seed. Ends with one [`QueryResult::Connect`].
    ///
    /// If the address ends in `/p2p/<id>`, only that peer will do.
    pub fn connect(&mut self, now: Now, address: Multiaddr) -> QueryId {
        let now = self.tell_time(now);
        let (plain, peer) = without_peer(address.clone());
        let info = QueryInfo::Connect { address: address.clone() };
        let usable = self.check_address(&plain, peer.as_ref());
        let error = match usable {
            Err(source) => ConnectError::Address { address, source },
            Ok(()) => match self.begin(now, Operation::Connect(Connect::new(address.clone()))) {
                Ok(id) => return id,
                Err(cause) => ConnectError::Query { cause, address },
            },
        };
        self.at_once(now, info, QueryResult::Connect(Err(error)))
    }

    /// Joins the network: looks up the own id, then every bucket that is farther than the closest neighbour.
    ///
    /// Ends with a [`QueryResult::Bootstrap`]; one precedes it for each lookup.
    ///
    /// # Errors
    /// [`NoKnownPeers`] if the routing table is empty and there is no seed.
    pub fn bootstrap(&mut self, now: Now) -> Result<QueryId, NoKnownPeers> {
        let now = self.tell_time(now);
        self.begin_join(now)
    }

    pub(super) fn begin_join(&mut self, now: Instant) -> Result<QueryId, NoKnownPeers> {
        let own = look_up_own(now, &view!(self)).ok_or(NoKnownPeers())?;
        match self.begin(now, Operation::Bootstrap(Bootstrap::new(self.local.peer, own))) {
            Ok(id) => {
                self.join.began();
                Ok(id)
            }
            Err(cause) => Ok(self.not_joined(now, cause)),
        }
    }

    fn not_joined(&mut self, now: Instant, cause: impl Into<QueryError>) -> QueryId {
        let peer = self.local.peer;
        let error = BootstrapError::Query { cause: cause.into(), peer, num_remaining: None };
        let info = QueryInfo::Bootstrap { peer, remaining: None, step: ProgressStep::first() };
        self.at_once(now, info, QueryResult::Bootstrap(Err(error)))
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
        if self.query(id).is_none() {
            return false;
        }
        let Some(query) = self.queries.get_mut(id) else {
            return false;
        };
        let result = query.operation.machine().end(&view!(self), why);
        self.end(now, id, result);
        self.advance(now);
        true
    }

    /// Cancels those queries that are concerned, whoever has asked for them.
    pub(super) fn cancel_all(&mut self, now: Instant, concerns: impl Fn(&Operation, Asker) -> bool) {
        let concerned = self.queries.iter().filter(|(_, query)| concerns(&query.operation, query.asker));
        let ids: Vec<_> = concerned.map(|(id, _)| id).collect();
        for id in ids {
            if let Some(query) = self.queries.get_mut(id) {
                let result = query.operation.machine().end(&view!(self), End::Cancelled);
                self.end(now, id, result);
            }
        }
        self.advance(now);
    }

    /// Lets a search for providers tell so many more, and then no others until this is called again. Whatever else it finds is
    /// kept, up to 4,096, and told when there is room, or at its end. A search for which this is never called tells all at once.
    pub fn make_room(&mut self, now: Now, id: QueryId, more: usize) {
        let now = self.tell_time(now);
        if let Some(query) = self.queries.get_mut(id) {
            query.room = Some(query.room.unwrap_or(0).saturating_add(more));
            self.queries.wake(id);
            self.advance(now);
        }
    }

    /// Looks up the own id or a random key of a bucket for the table's sake.
    pub(super) fn look_up(&mut self, now: Instant, target: Target) {
        let wanted = self.config.bucket_size();
        let search = match target {
            Target::Own => look_up_own(now, &view!(self)),
            Target::Bucket(bucket) => look_up_bucket(now, &mut view!(self), bucket),
        };
        if let Some(search) = search
            && !self.queries.is_full()
        {
            let operation = Operation::FindPeers(FindPeers::new(search, wanted, wanted));
            self.insert(now, operation, Asker::Upkeep);
        }
    }

    pub(super) fn search(
        &mut self,
        now: Instant,
        target: (Bytes, Key),
        wanted: usize,
        precision: Precision,
    ) -> Result<Search, NoKnownPeers> {
        if let Some(bucket) = self.local.key.distance(&target.1).bucket() {
            self.refresh.looked_up(now, bucket, &mut self.rng);
        }
        Search::new(now, &view!(self), target, wanted, Goal::Closest(precision)).ok_or(NoKnownPeers())
    }

    /// Begins a query of the application, if there is room.
    pub(super) fn begin(&mut self, now: Instant, operation: Operation) -> Result<QueryId, QueryError> {
        self.has_room()?;
        let id = self.insert(now, operation, Asker::Application);
        self.advance(now);
        Ok(id)
    }

    /// Returns whether there is room for one more query.
    pub(super) fn has_room(&self) -> Result<(), QueryError> {
        let limit = self.config.max_queries.get();
        if self.queries.is_full() { Err(QueryError::TooManyQueries { limit }) } else { Ok(()) }
    }

    pub(super) fn insert(&mut self, now: Instant, operation: Operation, asker: Asker) -> QueryId {
        self.queries.insert(now, Query::new(now, operation, asker))
    }

    /// Begins a query of the application that lasts until it is ended. The caller sees to it that there is room.
    pub(super) fn insert_lasting(&mut self, now: Instant, operation: Operation) -> QueryId {
        self.queries.insert_lasting(Query::new(now, operation, Asker::Application))
    }

    /// Moves a query on until it waits or has ended.
    pub(super) fn step(&mut self, now: Instant, id: QueryId) {
        if self.queries.is_over(now, id) {
            let Some(query) = self.queries.get_mut(id) else {
                return;
            };
            let result = query.operation.machine().end(&view!(self), End::Timeout);
            return self.end(now, id, result);
        }
        loop {
            let Some(query) = self.queries.get_mut(id) else {
                return;
            };
            let room = query.room.unwrap_or(usize::MAX);
            match query.operation.machine().next(now, &mut View { room, ..view!(self) }) {
                Step::Ask(ask) => self.ask(now, id, ask),
                Step::Dial(address) => {
                    let out = &mut self.outputs;
                    self.peers.dial_address(now, id, address, out);
                }
                Step::Progress(result) => self.report(now, id, result, false),
                Step::Told(result) => self.report(now, id, result, true),
                Step::Wait(until) => {
                    debug_assert!(
                        until.is_none_or(|at| at > now),
                        "{:?} waits for what is past",
                        query.operation
                    );
                    return self.queries.sleep(id, until);
                }
                Step::Done(result) => return self.end(now, id, result),
            }
        }
    }

    fn ask(&mut self, now: Instant, id: QueryId, ask: Ask) {
        if !self.peers.is_connected(&ask.to)
            && let Some(query) = self.queries.get_mut(id)
        {
            query.dials += 1;
        }
        let owner = (Owner::Query(id, ask.lookup), ask.urgency);
        self.peers.request(now, ask.to, &ask.addresses, ask.request, owner, &mut self.outputs);
    }

    fn end(&mut self, now: Instant, id: QueryId, result: QueryResult) {
        let is_cancelled = matches!(
            result,
            QueryResult::PutRecord(Err(PutRecordError::Query { cause: QueryError::Cancelled, .. }))
                | QueryResult::StartProviding(Err(AddProviderError::Query {
                    cause: QueryError::Cancelled,
                    ..
                }))
                | QueryResult::GetProviders(Err(GetProvidersError::Query {
                    cause: QueryError::Cancelled,
                    ..
                }))
        );
        let query = self.queries.get_mut(id).filter(|_| !is_cancelled);
        if let Some(rest) = query.and_then(|query| query.operation.machine().rest(&view!(self))) {
            self.report(now, id, rest, false);
        }
        self.report(now, id, result, true);
        let Some(query) = self.queries.remove(id) else {
            return;
        };
        if query.last == Last::Told {
            self.ended.insert(id, query.seen(id));
        }
        // What is to be stored is not lost because enough have stored it, or because a dial takes long.
        let sends = matches!(
            query.operation,
            Operation::PutRecord(_) | Operation::AddProvider(_) | Operation::TellOne(_)
        );
        if is_cancelled || !sends {
            self.peers.abandon(id);
        }
        match query.operation {
            Operation::Bootstrap(join) => self.joined(now, join.has_reached_anybody()),
            Operation::Connect(_) => self.peers.forget_address(now, id, &mut self.outputs),
            Operation::GetRecord(get) => self.see_to_others(now, &get),
            Operation::PutRecord(put) => self.was_put(now, &put, query.asker),
            Operation::AddProvider(add) => self.was_announced(now, &add, query.asker),
            Operation::TellOne(tell) => self.newcomer_told(&tell),
            Operation::FindPeers(_)
            | Operation::FindPeer(_)
            | Operation::Ping(_)
            | Operation::AskPeer(_)
            | Operation::GetProviders(_)
            | Operation::WatchProviders(_) => {}
        }
    }

    fn report(&mut self, now: Instant, id: QueryId, result: QueryResult, last: bool) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        query.latest = now;
        if query.asker != Asker::Application || query.last != Last::Ahead {
            return;
        }
        if last {
            query.last = Last::Told;
        }
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = &result {
            query.room = query.room.map(|room| room.saturating_sub(providers.len()));
        }
        let step = query.step.advance(last);
        let stats = query.stats();
        let news = self.remember_found(now, &result);
        self.advise(&result);
        self.event(Event::OutboundQueryProgressed { id, result, stats, step });
        self.outputs.extend(news);
    }

    /// Remembers the addresses of peers that were found. Returns what makes those known to the rest of the program that were not:
    /// once for each peer and address.
    fn remember_found(&mut self, now: Instant, result: &QueryResult) -> Vec<Output> {
        let found: &[PeerInfo] = match result {
            QueryResult::GetClosestPeers(Ok(GetClosestPeersOk { peers, .. })) => peers,
            QueryResult::FindPeer(Ok(FindPeerOk { peer, .. })) => std::slice::from_ref(peer),
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => providers,
            QueryResult::GetClosestPeers(Err(_))
            | QueryResult::FindPeer(Err(_))
            | QueryResult::Bootstrap(_)
            | QueryResult::Ping(_)
            | QueryResult::Connect(_)
            | QueryResult::GetRecord(_)
            | QueryResult::PutRecord(_)
            | QueryResult::AskPeer(_)
            | QueryResult::StartProviding(_)
            | QueryResult::GetProviders(_) => &[],
        };
        let is_remembered =
            matches!(result, QueryResult::FindPeer(Ok(FindPeerOk { evidence: Evidence::Remembered, .. })));
        let mut news = Vec::new();
        for PeerInfo { peer_id, addrs } in found {
            if *peer_id == self.local.peer {
                continue;
            }
            let known = self.peers.remember(now, *peer_id);
            known.hints = known.hints.merged(addrs.iter().cloned());
            if !is_remembered {
                known.learnt();
            }
            let addresses = known.made_known(&known.dialable());
            if !addresses.is_empty() {
                news.push(Output::AnnounceAddresses { peer: *peer_id, addresses });
            }
        }
        news
    }

    /// Hands an answer to the query that waits for it.
    pub(super) fn answered_query(
        &mut self,
        now: Instant,
        (id, lookup): (QueryId, u16),
        from: &PeerId,
        response: Response,
        rtt: Duration,
    ) {
        if self.queries.get(id).is_none() {
            // Nobody waits for it, so nothing of it is checked: a signature costs more than all the rest.
            return;
        }
        let Contents { closer: named, record, providers } = contents(response);
        let record = record.and_then(|record| self.valid_record(now, record));
        let providers = providers.into_iter().take(self.config.providers.max_of_answer.get());
        let reach = self.peers.reach(from);
        let heard = |addresses| heard(addresses, reach, &self.local, &self.config);
        let providers: Vec<_> = providers.map(|peer| (peer.node_id, heard(peer.multiaddrs))).collect();
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        let target = query.operation.machine().looks_for().copied();
        let target = target.and_then(|wanted| named.iter().find(|peer| peer.node_id == wanted));
        let target = target.map_or_else(Addresses::empty, |peer| heard(peer.multiaddrs.clone()));
        let is_known = |peer: &PeerId| self.peers.is_connected(peer) || !self.peers.dialable(peer).is_empty();
        let mut closer = filter(named, (from, reach), &self.local, &self.config, is_known);
        // Whoever failed this node lately is not a candidate again.
        closer.retain(|named| self.peers.is_worth_asking(now, &named.peer));
        let query = query.operation.machine();
        query.answered(now, from, lookup, Answer { closer, target, record, providers, rtt });
        self.queries.wake(id);
    }

    /// An address has been dialled, and somebody was there or not.
    pub(super) fn met(&mut self, now: Instant, Met { query: id, result }: Met) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        if let (&Ok(peer), Operation::Connect(connect)) = (&result, &query.operation) {
            let address = connect.address().clone();
            query.operation.machine().met(Ok(peer));
            self.queries.wake(id);
            // The query itself asks it, so that nothing else need check it.
            self.admission.withdraw(&peer);
            if let Err(error) = self.add_seed(now, peer, address) {
                tracing::debug!(%peer, %error, "whoever was met is no seed");
            }
            return;
        }
        query.operation.machine().met(result);
        self.queries.wake(id);
    }
}

impl Query {
    const fn new(now: Instant, operation: Operation, asker: Asker) -> Self {
        let (step, last) = (ProgressStep::first(), Last::Ahead);
        Self { operation, asker, start: now, latest: now, dials: 0, step, last, room: None }
    }

    pub(super) fn sent(&mut self, peer: &PeerId, lookup: u16) {
        self.operation.machine().sent(peer, lookup);
    }

    pub(super) fn failed(&mut self, peer: &PeerId, lookup: u16, error: RequestError) {
        self.operation.machine().failed(peer, lookup, error);
    }

    fn stats(&self) -> QueryStats {
        let mut stats = QueryStats { dials: self.dials, ..QueryStats::empty() };
        self.operation.state().count(&mut stats);
        stats.start = Some(self.start);
        stats.end = Some(self.latest);
        stats
    }
}
