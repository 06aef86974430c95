//! The desk: where the calls of clients arrive, and where the results of their queries are claimed for them.
//!
//! Knows the behaviour, which carries the calls out. Clients know the desk; it does not know them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::StreamExt as _;
use futures::channel::{mpsc, oneshot};
use indexmap::IndexMap;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::behaviour::Behaviour;
use crate::command::Command;
use crate::error::{AddressError, ClientError, StoreError};
use crate::event::{Event, Mode, QueryId, QueryResult, QueryStats, RoutingUpdate};
use crate::peer::PeerInfo;
use crate::record::{Record, RecordKey};
use crate::routing::TableSnapshot;
use crate::stats::Stats;
use crate::store::RecordStore;

/// How many calls wait to be carried out at most; one more is refused.
const MAX_CALLS: usize = 1024;

/// The sending end of a desk.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    sender: mpsc::Sender<Call>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    next_ticket: AtomicU64,
}

impl Calls {
    pub(crate) fn next_ticket(&self) -> Ticket {
        Ticket(self.shared.next_ticket.fetch_add(1, Ordering::Relaxed))
    }

    /// Leaves a call at the desk. What follows an earlier call always finds room, since there was room for that: there is one
    /// cancellation, and a word of more room only for what has been taken since the swarm was polled.
    pub(crate) fn send(&self, call: Call) -> Result<(), ClientError> {
        let follows = matches!(call, Call::Cancel(_) | Call::Retire(_) | Call::More(..));
        if self.shared.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_CALLS && !follows {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(ClientError::Busy);
        }
        // A sender of its own has room for one call in any case: the count above is what bounds them.
        self.sender.clone().try_send(call).map_err(|_| {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            ClientError::Closed
        })
    }
}

/// Cancels a query when whoever waits for it does so no more.
#[derive(Debug)]
pub(crate) struct CancelOnDrop {
    calls: Calls,
    /// `None` if there is nothing to cancel.
    pub(crate) ticket: Option<Ticket>,
}

impl CancelOnDrop {
    pub(crate) fn new(calls: &Calls, ticket: Option<Ticket>) -> Self {
        Self { calls: calls.clone(), ticket }
    }

    /// Leaves another call at the same desk.
    pub(crate) fn send(&self, call: Call) -> Result<(), ClientError> {
        self.calls.send(call)
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // Nothing to cancel if the swarm is gone.
            let _ = self.calls.send(Call::Cancel(ticket));
        }
    }
}

/// The number under which a client knows its query before the node has given it one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

/// Where the results of a query go.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// The last one, with what the query has cost.
    Last(oneshot::Sender<(QueryResult, QueryStats)>),
    /// The first one, whether anybody still waits for it or not.
    First(oneshot::Sender<QueryResult>),
    /// Each as it comes. There is room for as many as a query tells before it is told that there is more.
    Each(mpsc::Sender<QueryResult>),
    /// None of them.
    Nobody,
}

/// How many providers wait to be taken by whoever searches them, beside those that are told at the beginning and at the end; and
/// how many records: one for each candidate of the lookup.
pub(crate) const MAX_WAITING: usize = 1024;

/// A query tells no more than so many results at a time: one for each that may wait, what this node knew before, what was kept
/// back, and the last.
pub(crate) const MAX_RESULTS: usize = MAX_WAITING + 3;

impl ReplyTo {
    fn is_gone(&self) -> bool {
        match self {
            Self::Last(reply) => reply.is_canceled(),
            Self::Each(results) => results.is_closed(),
            // Whether anybody still waits does not matter to what the query does.
            Self::First(_) | Self::Nobody => false,
        }
    }
}

/// A call of a client, on its way to the node.
#[derive(Debug)]
pub(crate) enum Call {
    Query {
        ticket: Ticket,
        command: Command,
        reply: ReplyTo,
    },
    Cancel(Ticket),
    /// So many of the providers that a query has told have been taken.
    More(Ticket, usize),
    RoutingTable(oneshot::Sender<TableSnapshot>),
    PeerCount(oneshot::Sender<usize>),
    Stats(oneshot::Sender<Stats>),
    AddAddress(PeerId, Multiaddr, oneshot::Sender<Result<RoutingUpdate, AddressError>>),
    SetMode(Option<Mode>, oneshot::Sender<()>),
    StoreLocal(Record, oneshot::Sender<Result<(), StoreError>>),
    RemoveRecord(RecordKey, oneshot::Sender<Result<(), StoreError>>),
    StopProviding(RecordKey, oneshot::Sender<Result<(), StoreError>>),
    /// One more wants this key provided.
    Advertise(RecordKey),
    /// One of those wants it no more.
    Retire(RecordKey),
    ExportPeers(oneshot::Sender<Vec<PeerInfo>>),
    ImportPeers(Vec<PeerInfo>, oneshot::Sender<usize>),
}

impl Call {
    /// Does what the client asks.
    pub(crate) fn carry_out<S: RecordStore + 'static>(self, node: &mut Behaviour<S>) {
        // Whoever no longer waits for the reply is not told.
        match self {
            Self::Query { ticket, command, reply } => {
                if !reply.is_gone() {
                    let id = node.run(command);
                    if matches!(reply, ReplyTo::Each(_)) {
                        node.make_room(id, MAX_WAITING);
                    }
                    node.desk_mut().waiting.insert(id, Waiting { ticket, reply });
                }
            }
            Self::Cancel(ticket) => {
                if let Some(id) = node.desk().query_of(ticket) {
                    node.cancel(&id);
                }
            }
            Self::More(ticket, taken) => {
                if let Some(id) = node.desk().query_of(ticket) {
                    node.make_room(id, taken);
                }
            }
            Self::RoutingTable(reply) => {
                let _ = reply.send(node.routing_table());
            }
            Self::PeerCount(reply) => {
                let _ = reply.send(node.peer_count());
            }
            Self::Stats(reply) => {
                let _ = reply.send(node.stats());
            }
            Self::AddAddress(peer, address, reply) => {
                let _ = reply.send(node.try_add_address(&peer, address));
            }
            Self::SetMode(mode, reply) => {
                node.set_mode(mode);
                let _ = reply.send(());
            }
            Self::StoreLocal(record, reply) => {
                let _ = reply.send(node.store_local(record).map_err(StoreError::new));
            }
            Self::RemoveRecord(key, reply) => {
                let _ = reply.send(node.remove_record(&key).map_err(StoreError::new));
            }
            Self::StopProviding(key, reply) => {
                let _ = reply.send(node.stop_providing(&key).map_err(StoreError::new));
            }
            Self::Advertise(key) => *node.desk_mut().advertised.entry(key).or_default() += 1,
            Self::Retire(key) => {
                if node.desk_mut().retire(&key) {
                    node.retire(&key);
                }
            }
            Self::ExportPeers(reply) => {
                let _ = reply.send(node.dht().export_peers());
            }
            Self::ImportPeers(peers, reply) => {
                let taken = |peer: &PeerInfo| {
                    let add = |address| node.add_address(&peer.peer_id, address) != RoutingUpdate::Failed;
                    peer.addrs.iter().cloned().map(add).filter(|added| *added).count() > 0
                };
                let _ = reply.send(peers.iter().map(taken).filter(|taken| *taken).count());
            }
        }
    }
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    reply: ReplyTo,
}

/// Where clients leave their calls, and where results wait to be claimed for them.
#[derive(Debug)]
pub(crate) struct Desk {
    calls: mpsc::Receiver<Call>,
    sender: Calls,
    waiting: IndexMap<QueryId, Waiting>,
    /// By how many of the clients each key is advertised.
    advertised: IndexMap<RecordKey, usize>,
}

impl Default for Desk {
    fn default() -> Self {
        let (sender, calls) = mpsc::channel(0);
        Self {
            calls,
            sender: Calls { sender, shared: Arc::default() },
            waiting: IndexMap::new(),
            advertised: IndexMap::new(),
        }
    }
}

impl Desk {
    /// Returns the sending end, for a client.
    pub(crate) fn calls(&self) -> Calls {
        self.sender.clone()
    }

    /// Returns how many calls wait to be carried out.
    pub(super) fn waiting(&self) -> usize {
        self.sender.shared.waiting.load(Ordering::Relaxed)
    }

    /// Returns the next call.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Call> {
        match Pin::new(&mut self.calls).poll_next_unpin(cx) {
            Poll::Ready(Some(call)) => {
                self.sender.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                Poll::Ready(call)
            }
            // The desk keeps a sender itself, so the channel never ends.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// One of those that advertise a key does so no more. Returns whether it was the last.
    fn retire(&mut self, key: &RecordKey) -> bool {
        let Some(count) = self.advertised.get_mut(key) else {
            return false;
        };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.advertised.swap_remove(key);
        }
        is_last
    }

    fn query_of(&self, ticket: Ticket) -> Option<QueryId> {
        self.waiting.iter().find(|(_, waiting)| waiting.ticket == ticket).map(|(id, _)| *id)
    }

    /// Keeps an event back if it is of a client's query, and hands the last one to the client.
    pub(crate) fn claim(&mut self, event: Event) -> Option<Event> {
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else {
            return Some(event);
        };
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return Some(Event::OutboundQueryProgressed { id, result, stats, step });
        };
        match &mut waiting.reply {
            ReplyTo::Each(results) => drop(results.try_send(result)),
            reply @ ReplyTo::First(_) => {
                if let ReplyTo::First(reply) = std::mem::replace(reply, ReplyTo::Nobody) {
                    let _ = reply.send(result);
                }
            }
            reply @ ReplyTo::Last(_) if step.last => {
                if let ReplyTo::Last(reply) = std::mem::replace(reply, ReplyTo::Nobody) {
                    let _ = reply.send((result, stats));
                }
            }
            ReplyTo::Last(_) | ReplyTo::Nobody => {}
        }
        if step.last {
            self.waiting.swap_remove(&id);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;
    use libp2p_swarm::{NetworkBehaviour as _, ToSwarm};
    use std::task::Waker;

    use super::*;
    use crate::config::Config;
    use crate::net::timer;
    use crate::store::MemoryStore;
    use crate::time::Duration;

    #[test]
    fn the_texts_name_how_many_calls_may_wait() {
        let limit = format!("{},{:03} calls wait", MAX_CALLS / 1000, MAX_CALLS % 1000);
        for text in [ClientError::Busy.to_string(), crate::error::QueryError::Busy.to_string()] {
            assert!(text.starts_with(&limit), "{text}");
        }
    }

    #[test]
    fn calls_without_end_do_not_put_off_what_is_due() {
        let [local, silent] = [(); 2].map(|()| Keypair::generate_ed25519().public().to_peer_id());
        let (soft, timeout) = (Duration::from_millis(1), Duration::from_millis(100));
        let config = Config::default().with_soft_timeout(soft..=soft).unwrap();
        let config = config.with_request_timeout(timeout).unwrap();
        let mut node = Behaviour::with_config(local, MemoryStore::new(local), config);
        node.add_address(&silent, "/ip4/127.0.0.1/tcp/4001".parse().unwrap());
        node.ping(silent);
        let (since, calls) = (timer::now(), node.desk().calls());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            while calls.send(Call::PeerCount(oneshot::channel().0)).is_ok() {}
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
