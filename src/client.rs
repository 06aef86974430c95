//! The client: a handle to a node whose swarm runs elsewhere.
//!
//! Knows the behaviour only as where its commands are executed. Each goes through the bounded command channel with its own
//! return path; the node's queries do the rest.

mod others;

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, TryFutureExt as _, select};
use futures::stream::{self, BoxStream, StreamExt as _};
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::dht::op::{
    AskPeerError, AskPeerOk, BootstrapError, BootstrapOk, Command, ConnectError, ConnectOk, ConnectResult,
    FindPeerError, FindPeerOk, GetClosestPeersError, GetClosestPeersResult, GetRecordError, GetRecordOk,
    GetRecordResult, PingError, PingOk, PutRecordError, PutRecordResult, PutReport, QueryResult,
    ResultOfKind,
};
use crate::error::{AddAddressError, ClientError, QueryError};
use crate::event::{Mode, Precision, QueryStats, RoutingUpdate, Shortage};
use crate::net::behaviour::Behaviour;
use crate::net::command_channel::{CancelOnDrop, ClientCommand, CommandSender, MAX_RESULTS, ReplySender};
use crate::net::timer::{self, Sleep};
use crate::peer::PeerInfo;
use crate::record::{PeerRecord, Quorum, Record, RecordKey};
use crate::routing::TableSnapshot;
use crate::stats::Stats;
use crate::store::RecordStore;
use crate::time::Duration;

/// A handle to a node: cloneable, `Send`, usable from any task and any executor while the swarm runs elsewhere.
///
/// Made by [`Behaviour::client`]. Every method returns a future that ends while the swarm is polled: with a result, with the
/// query's deadline, or with an error as soon as the swarm is gone. Dropping the future cancels the query.
///
/// Nothing moves in a swarm that no task polls: a call to it waits until one does. Have a task poll it (`loop { let event =
/// swarm.select_next_some().await; … }`), and nothing else that blocks in that task, least of all a call of this client.
/// [`with_deadline`](Self::with_deadline) makes calls end all the same.
///
/// A query of a client is answered to it alone: the swarm emits no
/// [`Event::OutboundQueryProgressed`](crate::Event::OutboundQueryProgressed) for it.
///
/// # Bounds
/// At most 1,024 calls wait for the swarm to be polled; one more fails at once.
///
/// ```no_run
/// # async fn example(swarm: &libp2p_kademlia::Behaviour, peer_id: libp2p_identity::PeerId)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let client = swarm.client();
/// client.bootstrap().await?;
/// let found = client.find_peer(peer_id).await?;
/// println!("{} is at {:?}", found.peer_id, found.addrs);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    commands: CommandSender,
    local: PeerId,
    /// How long each call may take.
    limit: Option<Duration>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl<S: RecordStore + 'static> Behaviour<S> {
    /// Returns a handle to this node.
    pub fn client(&self) -> Client {
        Client { commands: self.command_sender(), local: *self.dht().local_peer_id(), limit: None }
    }
}

impl Client {
    /// Returns the id of the node.
    pub const fn local_peer_id(&self) -> PeerId {
        self.local
    }

    /// Returns this client with a deadline for each call, by the clock of this call alone: it holds though nobody polls the
    /// swarm, too.
    ///
    /// A call that has not ended by then ends with [`QueryError::Timeout`] or [`ClientError::Timeout`], and its query is
    /// cancelled; what is to be provided goes on. A stream of records or providers ends so, counted from its beginning;
    /// [`discover`](Self::discover) has none.
    ///
    /// A put that has not ended by then sends its record to nobody more, and does not say which peers have it already. If the
    /// node had taken the call, the record is stored here and this node's own all the same: it is put anew in its time, soon if
    /// nobody has stored it, until it is [removed](Self::remove). If it had not, since nobody polled the swarm, nothing is
    /// stored. [`try_put`](Self::try_put) has no deadline.
    #[must_use]
    pub fn with_deadline(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Waits for a call no longer than it may take.
    async fn within<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let Some(limit) = self.limit else {
            return call.await;
        };
        match select(pin!(call), timer::sleep(limit)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(ClientError::Timeout),
        }
    }

    pub(crate) const fn commands(&self) -> &CommandSender {
        &self.commands
    }

    /// Joins the network, and returns when the last bucket has been looked up.
    ///
    /// # Errors
    /// [`BootstrapError::NoAnswer`] if nobody answered; [`BootstrapError::Query`] if nobody is known, or for another
    /// [`QueryError`]. Each says what to do.
    pub async fn bootstrap(&self) -> Result<BootstrapOk, BootstrapError> {
        let failed = |cause| Err(BootstrapError::Query { cause, peer: self.local, num_remaining: None });
        self.query(Command::Bootstrap).await.unwrap_or_else(failed)
    }

    /// Searches a peer and its addresses, as far as they are known; [`locate`](Self::locate) tells how sure they are.
    ///
    /// # Errors
    /// [`FindPeerError::NotFound`] if the search ended and nobody knew an address of the peer, [`FindPeerError::NoAnswer`]
    /// if nobody answered, [`FindPeerError::Query`] if it could not be made. Each says what to do.
    pub async fn find_peer(&self, peer: PeerId) -> Result<PeerInfo, FindPeerError> {
        self.locate(peer).await.map(|FindPeerOk { peer, .. }| peer)
    }

    /// Searches a peer and its addresses, and tells what speaks for them: that it answered there, that others say so, or only
    /// that it was there within the last 24 hours.
    ///
    /// # Errors
    /// Each [`FindPeerError`], as of [`find_peer`](Self::find_peer).
    pub async fn locate(&self, peer: PeerId) -> Result<FindPeerOk, FindPeerError> {
        let failed = |cause| Err(FindPeerError::Query { cause, peer, closest: Vec::new() });
        self.query(Command::FindPeer { peer }).await.unwrap_or_else(failed)
    }

    /// Searches the `k` peers closest to the hash of `key`, nearest first.
    ///
    /// # Errors
    /// [`GetClosestPeersError::EmptyKey`] if there are no bytes, [`GetClosestPeersError::NoAnswer`] if nobody answered, and
    /// [`GetClosestPeersError::Query`], which carries the peers that were reached. Each says what to do.
    pub async fn closest_peers(
        &self,
        key: impl Into<Vec<u8>>,
    ) -> Result<Vec<PeerInfo>, GetClosestPeersError> {
        self.lookup(key, Precision::Exact).await.map(|found| found.peers)
    }

    /// Searches the `k` peers closest to the hash of `key` as precisely as is asked for, and tells what it has cost.
    ///
    /// # Errors
    /// [`GetClosestPeersError::EmptyKey`] if there are no bytes, [`GetClosestPeersError::NoAnswer`] if nobody answered, and
    /// [`GetClosestPeersError::Query`], which carries the peers that were reached. Each says what to do.
    pub async fn lookup(
        &self,
        key: impl Into<Vec<u8>>,
        precision: Precision,
    ) -> Result<Found, GetClosestPeersError> {
        let key = key.into();
        let command = Command::FindClosest { key: key.clone(), count: None, precision };
        match self.query_with_stats::<GetClosestPeersResult>(command).await {
            Ok((result, stats)) => {
                result.map(|ok| Found { peers: ok.peers, path: ok.path, shortage: ok.shortage, stats })
            }
            Err(cause) => Err(GetClosestPeersError::Query { cause, key, peers: Vec::new() }),
        }
    }

    /// Asks one peer for a sign of life, connected or not.
    ///
    /// # Errors
    /// [`PingError::Failed`] with the reason if the peer did not answer, [`PingError::Query`] if it could not be asked. Each
    /// says what to do.
    pub async fn ping(&self, peer: PeerId) -> Result<PingOk, PingError> {
        let failed = |cause| Err(PingError::Query { cause, peer });
        self.query(Command::Ping { peer }).await.unwrap_or_else(failed)
    }

    /// Connects to an address and makes the peer that is there a seed, whose id is returned.
    ///
    /// # Errors
    /// Each [`ConnectError`], which says what to do: [`ConnectError::Address`] if the address was not tried,
    /// [`ConnectError::NotServing`] if the peer that is there is a seed now but does not serve this node,
    /// [`ConnectError::Query`] if it could not begin, and the others if no peer was reached.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, ConnectError> {
        match self.query::<ConnectResult>(Command::Connect { address: address.clone() }).await {
            Ok(result) => result.map(|ConnectOk { peer, .. }| peer),
            Err(cause) => Err(ConnectError::Query { cause, address }),
        }
    }

    /// Stores a value here and at the closest peers to its key, `k` unless [fewer](crate::Config::with_replication_factor)
    /// are configured, and puts it anew until it is removed.
    ///
    /// Returns what became of each peer, when most of them have stored it.
    ///
    /// ```no_run
    /// # async fn example(client: libp2p_kademlia::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let report = client.put("greeting", "good morning").await?;
    /// println!("{} have stored it, {} have failed", report.stored.len(), report.failed.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`PutRecordError::Invalid`], [`PutRecordError::Store`], [`PutRecordError::QuorumFailed`] and
    /// [`PutRecordError::Query`], of which the last two say what became of each peer, and each what to do.
    pub async fn put(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<PutReport, PutRecordError> {
        self.put_record(Record::new(key, value), Quorum::Majority).await
    }

    /// Stores a record here and at the closest peers to its key, `k` unless [fewer](crate::Config::with_replication_factor)
    /// are configured, so many of whom must have stored it.
    ///
    /// # Errors
    /// [`PutRecordError::Invalid`], [`PutRecordError::Store`], [`PutRecordError::QuorumFailed`] and
    /// [`PutRecordError::Query`], of which the last two say what became of each peer, and each what to do.
    pub async fn put_record(&self, record: Record, quorum: Quorum) -> Result<PutReport, PutRecordError> {
        self.put_by(record.key.clone(), Command::PutRecord { record, copies: None, quorum }).await
    }

    /// Stores a record here and at the `copies` closest peers to its key, at most `k`; else as
    /// [`put_record`](Self::put_record). When it is put anew it is at as many as are configured.
    ///
    /// # Errors
    /// [`PutRecordError::Invalid`], [`PutRecordError::Store`], [`PutRecordError::QuorumFailed`] and
    /// [`PutRecordError::Query`], of which the last two say what became of each peer, and each what to do.
    pub async fn put_record_to_n_closest(
        &self,
        record: Record,
        copies: NonZeroUsize,
        quorum: Quorum,
    ) -> Result<PutReport, PutRecordError> {
        self.put_by(record.key.clone(), Command::PutRecord { record, copies: Some(copies), quorum }).await
    }

    /// Stores a record at some peers, and not here.
    ///
    /// # Errors
    /// [`PutRecordError::Invalid`], [`PutRecordError::QuorumFailed`] and [`PutRecordError::Query`], of which the last two say
    /// what became of each peer, and each what to do.
    pub async fn put_record_to(
        &self,
        record: Record,
        peers: impl IntoIterator<Item = PeerId>,
        quorum: Quorum,
    ) -> Result<PutReport, PutRecordError> {
        let peers = peers.into_iter().collect();
        self.put_by(record.key.clone(), Command::PutRecordTo { record, peers, quorum }).await
    }

    async fn put_by(&self, key: RecordKey, command: Command) -> Result<PutReport, PutRecordError> {
        match self.query::<PutRecordResult>(command).await {
            Ok(result) => result.map(|ok| ok.report),
            Err(cause) => Err(PutRecordError::of_query(cause, key)),
        }
    }

    /// Does what [`put`](Self::put) does, and waits for nothing. Whether it succeeds nobody is told.
    ///
    /// # Errors
    /// [`ClientError::Closed`] and [`ClientError::Busy`], if the call cannot be left: each says whether to call again.
    pub fn try_put(&self, key: impl Into<RecordKey>, value: impl Into<Bytes>) -> Result<(), ClientError> {
        let (record, copies) = (Record::new(key, value), None);
        let command = Command::PutRecord { record, copies, quorum: Quorum::One };
        let id = self.commands.next_id();
        self.commands.send(ClientCommand::Query { id, command, reply: ReplySender::Nobody })
    }

    /// Searches the record of a key, and returns the first valid one. One that this node holds needs no network.
    ///
    /// ```no_run
    /// # async fn example(client: libp2p_kademlia::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use libp2p_kademlia::GetRecordError;
    ///
    /// match client.get("greeting").await {
    ///     Ok(record) => println!("{:?}", record.value),
    ///     Err(GetRecordError::NotFound { .. }) => println!("nobody has put it"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`GetRecordError::NotFound`] if none of the closest peers has one, [`GetRecordError::NoAnswer`] if nobody answered,
    /// [`GetRecordError::Invalid`] if no record can have the key, [`GetRecordError::Query`] if it could not be searched.
    /// Each says what to do.
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<Record, GetRecordError> {
        self.get_with(key, Quorum::One).await
    }

    /// Searches the record of a key until so many agree on the best of those that were found.
    ///
    /// # Errors
    /// [`GetRecordError::QuorumFailed`] if too few agree, which carries the records; else as of [`get`](Self::get).
    pub async fn get_with(
        &self,
        key: impl Into<RecordKey>,
        quorum: Quorum,
    ) -> Result<Record, GetRecordError> {
        let key = key.into();
        let command = Command::GetRecord { key: key.clone(), quorum: Some(quorum) };
        match self.query(command).await {
            Ok(Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, .. })) => Ok(best),
            Ok(Ok(GetRecordOk::FoundRecord(found))) => Ok(found.record),
            Ok(Err(error)) => Err(error),
            Err(cause) => Err(GetRecordError::of_query(cause, key)),
        }
    }

    /// Searches the record of a key at all of the closest peers: returns each valid one with its peer, as they come.
    ///
    /// Dropping the stream ends the search. The last item is an error, as of [`get`](Self::get), if none was found or the
    /// search ended early.
    pub fn get_all(
        &self,
        key: impl Into<RecordKey>,
    ) -> BoxStream<'static, Result<PeerRecord, GetRecordError>> {
        let (reply, results) = mpsc::channel(MAX_RESULTS);
        let id = self.commands.next_id();
        let key = key.into();
        let command = Command::GetRecord { key: key.clone(), quorum: None };
        let sent = self.commands.send(ClientCommand::Query { id, command, reply: ReplySender::Each(reply) });
        let error = sent.err().map(|error| GetRecordError::of_query(error, key.clone()));
        let guard = CancelOnDrop::new(&self.commands, error.is_none().then_some(id));
        let limit = self.limit.map(timer::sleep);
        let begin = Some(Finding { key, results, error, limit, guard });
        stream::unfold(begin, |finding| async { finding?.next().await }).boxed()
    }

    /// Stores a record here and nowhere else; see [`Behaviour::store_local`](crate::Behaviour::store_local).
    ///
    /// # Errors
    /// [`PutRecordError::Store`] with what keeps it from being stored, also if it is not valid; [`PutRecordError::Query`] if
    /// the call was not carried out. Each says what to do.
    pub async fn store_local(&self, record: Record) -> Result<(), PutRecordError> {
        let key = record.key.clone();
        match self.ask(|reply| ClientCommand::StoreLocal(record, reply)).await {
            Ok(result) => result.map_err(|source| PutRecordError::Store { key, source }),
            Err(error) => Err(PutRecordError::of_query(error, key)),
        }
    }

    /// Removes a record from this node's store, and puts it no more. Others keep it until it ends there.
    ///
    /// # Errors
    /// [`PutRecordError::Store`] if this node's store cannot, [`PutRecordError::Query`] if the call was not carried out:
    /// call again.
    pub async fn remove(&self, key: impl Into<RecordKey>) -> Result<(), PutRecordError> {
        let key = key.into();
        match self.ask(|reply| ClientCommand::RemoveRecord(key.clone(), reply)).await {
            Ok(result) => result.map_err(|source| PutRecordError::Store { key, source }),
            Err(error) => Err(PutRecordError::of_query(error, key)),
        }
    }

    /// Asks one peer for the peers closest to the hash of `key`, without a search.
    ///
    /// # Errors
    /// [`AskPeerError::Failed`] with the reason if the peer did not answer, [`AskPeerError::EmptyKey`] if there are no
    /// bytes, [`AskPeerError::Query`] if it could not be asked. Each says what to do.
    pub async fn find_node_at(
        &self,
        peer: PeerId,
        key: impl Into<Vec<u8>>,
    ) -> Result<AskPeerOk, AskPeerError> {
        self.ask_peer(peer, Command::FindNodeAt { peer, key: key.into() }).await
    }

    /// Asks one peer for the record of a key, without a search.
    ///
    /// # Errors
    /// [`AskPeerError::Failed`] with the reason if the peer did not answer, [`AskPeerError::EmptyKey`] if there are no
    /// bytes, [`AskPeerError::Query`] if it could not be asked. Each says what to do.
    pub async fn get_record_at(
        &self,
        peer: PeerId,
        key: impl Into<RecordKey>,
    ) -> Result<AskPeerOk, AskPeerError> {
        self.ask_peer(peer, Command::GetRecordAt { peer, key: key.into() }).await
    }

    async fn ask_peer(&self, peer: PeerId, command: Command) -> Result<AskPeerOk, AskPeerError> {
        self.query(command).await.unwrap_or_else(|cause| Err(AskPeerError::Query { cause, peer }))
    }

    /// Asks some peers of the table whom they know: the example of ARCHITECTURE.
    ///
    /// # Errors
    /// [`SampleError::NoAnswer`](crate::dht::op::SampleError::NoAnswer) if none of them has answered.
    #[cfg(test)]
    pub async fn sample(&self, count: usize) -> crate::dht::op::SampleResult {
        let failed = |cause| Err(crate::dht::op::SampleError::Query { cause });
        self.query(Command::Sample { count }).await.unwrap_or_else(failed)
    }

    /// Returns a picture of the routing table.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn routing_table(&self) -> Result<TableSnapshot, ClientError> {
        self.ask(ClientCommand::RoutingTable).await
    }

    /// Returns the number of peers in the routing table; 0 means that the node is not part of a network.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn peer_count(&self) -> Result<usize, ClientError> {
        self.ask(ClientCommand::PeerCount).await
    }

    /// Returns what the node has done since it began, and what it holds now: requests, queries, the routing table, dials, the
    /// store, streams and bytes, and how late it was.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    ///
    /// ```no_run
    /// # async fn example(client: libp2p_kademlia::Client) -> Result<(), libp2p_kademlia::ClientError> {
    /// let before = client.stats().await?;
    /// // … a minute later
    /// let minute = client.stats().await?.since(&before);
    /// let asked = &minute.outbound_requests.find_node;
    /// println!("{} FIND_NODE, {} without an answer in time", asked.started, asked.failed.timeout);
    /// println!("{} bytes out, {:?} late at most", minute.transport.bytes_sent, minute.clock.lateness.max());
    /// println!("{minute}"); // whatever is not zero, a line each
    /// # Ok(()) }
    /// ```
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        self.ask(ClientCommand::Stats).await
    }

    /// Adds an address of a peer; see [`Behaviour::add_address`].
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn add_address(&self, peer: PeerId, address: Multiaddr) -> Result<RoutingUpdate, ClientError> {
        let added = self.ask(|reply| ClientCommand::AddAddress(peer, address, reply)).await?;
        Ok(added.unwrap_or(RoutingUpdate::Failed))
    }

    /// Adds an address of a peer, and says why it cannot be used; see [`Behaviour::try_add_address`].
    ///
    /// # Errors
    /// [`AddAddressError::Address`] if the address cannot be used, [`AddAddressError::Client`] if the call brought no
    /// result. Each says what to do.
    pub async fn try_add_address(
        &self,
        peer: PeerId,
        address: Multiaddr,
    ) -> Result<RoutingUpdate, AddAddressError> {
        Ok(self.ask(|reply| ClientCommand::AddAddress(peer, address, reply)).await??)
    }

    /// Sets whether the node serves others; see [`Behaviour::set_mode`].
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn set_mode(&self, mode: Option<Mode>) -> Result<(), ClientError> {
        self.ask(|reply| ClientCommand::SetMode(mode, reply)).await
    }

    /// Returns the live peers of the routing table with their addresses.
    ///
    /// Given to [`import_peers`](Self::import_peers) of the restarted node, they let it join without its bootstrap node.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn export_peers(&self) -> Result<Vec<PeerInfo>, ClientError> {
        self.ask(ClientCommand::ExportPeers).await
    }

    /// Adds peers that an earlier run exported, as seeds. Returns how many were taken.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn import_peers(&self, peers: Vec<PeerInfo>) -> Result<usize, ClientError> {
        self.ask(|reply| ClientCommand::ImportPeers(peers, reply)).await
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> ClientCommand) -> Result<T, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(call(reply))?;
        self.within(answer.map_err(|_| ClientError::Closed)).await
    }

    /// Begins a query and waits for its last result; cancels it if the wait is dropped.
    async fn query<T: ResultOfKind>(&self, command: Command) -> Result<T, QueryError> {
        self.query_with_stats(command).await.map(|(result, _)| result)
    }

    async fn query_with_stats<T: ResultOfKind>(
        &self,
        command: Command,
    ) -> Result<(T, QueryStats), QueryError> {
        let (reply, answer) = oneshot::channel();
        let id = self.commands.next_id();
        self.commands.send(ClientCommand::Query { id, command, reply: ReplySender::Last(reply) })?;
        let mut guard = CancelOnDrop::new(&self.commands, Some(id));
        let result = self.within(answer.map_err(|_| ClientError::Closed)).await;
        if !matches!(result, Err(ClientError::Timeout)) {
            guard.id = None;
        }
        let (result, stats) = result?;
        Ok((of_kind(result)?, stats))
    }
}

/// Returns a result as one of its command's kind. One of another kind never comes.
fn of_kind<T: ResultOfKind>(result: QueryResult) -> Result<T, ClientError> {
    T::of(result).ok_or(ClientError::Closed)
}

/// What a search has found, and what it has cost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The closest peers, nearest first.
    pub peers: Vec<PeerInfo>,
    /// How the search got there: each peer has named the next; the last is the closest that answered.
    pub path: Vec<PeerId>,
    /// Why there are fewer than `k`, if there are.
    pub shortage: Option<Shortage>,
    /// Requests, successes, failures, dials, hops, time.
    pub stats: QueryStats,
}

/// A search that runs, and what it has found and nobody has taken yet.
struct Finding {
    key: RecordKey,
    results: mpsc::Receiver<QueryResult>,
    /// Why the search could not begin.
    error: Option<GetRecordError>,
    /// How long it may take.
    limit: Option<Sleep>,
    guard: CancelOnDrop,
}

impl Finding {
    async fn next(mut self) -> Option<(Result<PeerRecord, GetRecordError>, Option<Self>)> {
        if let Some(error) = self.error {
            return Some((Err(error), None));
        }
        let next = match &mut self.limit {
            None => self.results.next().await,
            Some(limit) => match select(self.results.next(), limit).await {
                Either::Left((next, _)) => next,
                Either::Right(((), _)) => {
                    let error = GetRecordError::of_query(QueryError::Timeout, self.key.clone());
                    return Some((Err(error), None));
                }
            },
        };
        match next.and_then(GetRecordResult::of) {
            Some(Ok(GetRecordOk::FoundRecord(found))) => Some((Ok(found), Some(self))),
            Some(Err(error)) => {
                self.guard.id = None;
                Some((Err(error), None))
            }
            Some(Ok(GetRecordOk::FinishedWithNoAdditionalRecord { .. })) => {
                self.guard.id = None;
                None
            }
            None => Some((Err(GetRecordError::of_query(ClientError::Closed, self.key.clone())), None)),
        }
    }
}
