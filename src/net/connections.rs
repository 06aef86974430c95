//! The connections of the swarm: their numbers, and what waits to be handed to their handlers.
//!
//! Knows what is told to handlers as values. Which request goes on which connection is the node's affair.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;

use indexmap::IndexMap;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use super::messages::ToHandler;
use super::wakeup::Wakeup;
use crate::addrs::is_relayed;

/// So much may be handed to a handler and not taken: half of what the queue of a connection holds by the swarm's default
/// (`libp2p-swarm`: 32), so that the swarm is never left with something that it cannot deliver.
const MAX_HANDED: u64 = 16;

/// The credit of one connection, as its handler has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Credit {
    taken: Arc<AtomicU64>,
    wakeup: Arc<Wakeup>,
}

impl Credit {
    /// The handler has taken what it was handed.
    pub(super) fn take(&self) {
        self.taken.fetch_add(1, Ordering::AcqRel);
        self.wakeup.wake();
    }
}

/// A connection that is established.
#[derive(Debug)]
struct EstablishedConnection {
    peer: PeerId,
    id: ConnectionId,
    credit: Credit,
    handed: u64,
    /// What waits for the handler to take what it has.
    outbox: VecDeque<ToHandler>,
    /// Whether it is among those for which something waits.
    is_listed: bool,
}

impl EstablishedConnection {
    fn has_credit(&self) -> bool {
        self.handed.wrapping_sub(self.credit.taken.load(Ordering::Acquire)) < MAX_HANDED
    }

    /// Adds to what waits. What is outdated by it is dropped.
    fn push(&mut self, event: ToHandler) {
        match &event {
            ToHandler::Cancel(id) => {
                let is_it =
                    |waiting: &ToHandler| matches!(waiting, ToHandler::Request(asked) if asked.id == *id);
                if let Some(at) = self.outbox.iter().position(is_it) {
                    self.outbox.remove(at);
                    return;
                }
            }
            ToHandler::KeepAlive(_) => {
                self.outbox.retain(|waiting| !matches!(waiting, ToHandler::KeepAlive(_)))
            }
            ToHandler::Mode(_) => self.outbox.retain(|waiting| !matches!(waiting, ToHandler::Mode(_))),
            ToHandler::Request(..) | ToHandler::Respond(..) | ToHandler::Refuse(_) => {}
        }
        self.outbox.push_back(event);
    }
}

/// Something for a handler, which the swarm is to deliver.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) event: ToHandler,
}

/// All connections of the swarm.
///
/// # What it decides
/// When something is handed to a handler: at once, or when the handler has taken enough of what it has. So a connection
/// whose task does not run holds up itself and no other: the swarm polls no behaviour while it cannot deliver something.
///
/// # Bounds
/// Sixteen events of a connection are on their way. What waits is bounded by what the node has in flight on it: 32
/// requests and as many cancellations, and an answer to each request that its streams let in.
#[derive(Debug, Default)]
pub(super) struct EstablishedConnections {
    open: BTreeMap<u64, EstablishedConnection>,
    /// The numbers of all connections, those being made included.
    numbers: IndexMap<ConnectionId, (u64, Credit)>,
    next_number: u64,
    /// Those for which something waits, each once.
    blocked: VecDeque<u64>,
    /// Those that the node closes and that have not ended yet.
    closing: BTreeMap<u64, PeerId>,
    wakeup: Arc<Wakeup>,
}

impl EstablishedConnections {
    /// A connection is being made. Returns its number and what its handler needs.
    pub(super) fn begin(&mut self, id: ConnectionId) -> (u64, Credit) {
        let number = self.next_number;
        self.next_number += 1;
        let credit = Credit { taken: Arc::default(), wakeup: Arc::clone(&self.wakeup) };
        self.numbers.insert(id, (number, credit.clone()));
        (number, credit)
    }

    /// A connection was not established after all.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.numbers.swap_remove(&id);
    }

    /// A connection is established. Returns its number.
    pub(super) fn established(&mut self, peer: PeerId, id: ConnectionId) -> Option<u64> {
        let (number, credit) = self.numbers.get(&id)?.clone();
        self.open.insert(
            number,
            EstablishedConnection { peer, id, credit, handed: 0, outbox: VecDeque::new(), is_listed: false },
        );
        Some(number)
    }

    /// A connection has ended. Returns its number; what waited for its handler is dropped.
    pub(super) fn closed(&mut self, id: ConnectionId) -> Option<u64> {
        let (number, _) = self.numbers.swap_remove(&id)?;
        self.open.remove(&number);
        self.closing.remove(&number);
        Some(number)
    }

    /// The node closes a connection, which may take long to end. Returns the swarm's own name of it.
    pub(super) fn close(&mut self, number: u64) -> Option<ConnectionId> {
        let connection = self.open.get(&number)?;
        self.closing.insert(number, connection.peer);
        Some(connection.id)
    }

    /// Returns whether a connection to a peer, which the node closes, has not ended yet.
    pub(super) fn is_closing(&self, peer: &PeerId) -> bool {
        self.closing.values().any(|closing| closing == peer)
    }

    /// Returns the number of a connection.
    pub(super) fn number(&self, id: ConnectionId) -> Option<u64> {
        self.numbers.get(&id).map(|(number, _)| *number)
    }

    /// Tells the handler of a connection something. Returns it if it is to be delivered now; otherwise it waits. If the
    /// connection is gone it is dropped: the node has been told.
    pub(super) fn tell(&mut self, number: u64, event: ToHandler) -> Option<Delivery> {
        let connection = self.open.get_mut(&number)?;
        if connection.outbox.is_empty() && connection.has_credit() {
            connection.handed = connection.handed.wrapping_add(1);
            return Some(Delivery { peer: connection.peer, connection: connection.id, event });
        }
        if !std::mem::replace(&mut connection.is_listed, true) {
            self.blocked.push_back(number);
        }
        connection.push(event);
        None
    }

    /// Returns how much waits for handlers to take what they have.
    pub(super) fn waiting(&self) -> usize {
        let blocked = self.blocked.iter().filter_map(|number| self.open.get(number));
        blocked.map(|connection| connection.outbox.len()).sum()
    }

    /// Returns the numbers of all connections.
    pub(super) fn all(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }

    /// Returns something that has waited and can be delivered now; if nothing can, the task is woken when it may be.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Option<Delivery> {
        if self.blocked.is_empty() {
            return None;
        }
        if self.wakeup.wait(cx) {
            return None;
        }
        let delivery = self.next_delivery();
        if delivery.is_some() {
            // There may be more.
            self.wakeup.end();
        }
        delivery
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        for _ in 0..self.blocked.len() {
            let number = self.blocked.pop_front()?;
            let Some(connection) = self.open.get_mut(&number) else {
                continue;
            };
            let event = if connection.has_credit() { connection.outbox.pop_front() } else { None };
            connection.is_listed = !connection.outbox.is_empty();
            if connection.is_listed {
                self.blocked.push_back(number);
            }
            let Some(event) = event else {
                continue;
            };
            connection.handed = connection.handed.wrapping_add(1);
            return Some(Delivery { peer: connection.peer, connection: connection.id, event });
        }
        None
    }
}

/// Returns where the other end is. Of one that came through a relay the swarm tells only who it is: then it is behind the relay.
pub(super) fn remote_address(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if is_relayed(local_addr) => {
            let before = local_addr.iter().take_while(|protocol| *protocol != Protocol::P2pCircuit);
            before.chain([Protocol::P2pCircuit]).collect()
        }
        ConnectedPoint::Listener { .. } | ConnectedPoint::Dialer { .. } => {
            endpoint.get_remote_address().clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::RequestId;
    use crate::event::Mode;
    use crate::message::Request;
    use crate::net::messages::OutboundRequest;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn peer() -> PeerId {
        libp2p_identity::Keypair::ed25519_from_bytes([7; 32]).unwrap().public().to_peer_id()
    }

    fn request(n: u64) -> ToHandler {
        ToHandler::Request(OutboundRequest::new(RequestId::new(n), Request::Ping))
    }

    fn open(connections: &mut EstablishedConnections, id: usize) -> (u64, Credit) {
        let id = ConnectionId::new_unchecked(id);
        let (number, credit) = connections.begin(id);
        assert_eq!(connections.established(peer(), id), Some(number));
        (number, credit)
    }

    #[test]
    fn a_handler_that_takes_nothing_is_handed_sixteen_and_holds_up_nobody_else() {
        let mut connections = EstablishedConnections::default();
        let (stuck, credit) = open(&mut connections, 1);
        let (other, _) = open(&mut connections, 2);
        let handed = (0..100).filter(|n| connections.tell(stuck, request(*n)).is_some()).count();
        assert_eq!(handed, 16);
        assert!(connections.tell(other, request(100)).is_some());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        assert!(connections.poll(&cx).is_none());
        credit.take();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "the behaviour is woken");
        let next = connections.poll(&cx).unwrap();
        assert!(
            matches!(next.event, ToHandler::Request(asked) if asked.id == RequestId::new(16)),
            "in order"
        );
        assert!(connections.poll(&cx).is_none());
    }

    #[test]
    fn what_waits_is_dropped_when_it_is_outdated() {
        let mut connections = EstablishedConnections::default();
        let (number, credit) = open(&mut connections, 1);
        (0..17).for_each(|n| drop(connections.tell(number, request(n))));
        for event in [
            ToHandler::Cancel(RequestId::new(16)),
            ToHandler::KeepAlive(true),
            ToHandler::Cancel(RequestId::new(3)),
            ToHandler::KeepAlive(false),
            ToHandler::Mode(Mode::Client),
            ToHandler::Mode(Mode::Server),
        ] {
            assert!(connections.tell(number, event).is_none());
        }
        (0..16).for_each(|_| credit.take());
        let cx = Context::from_waker(Waker::noop());
        let left: Vec<_> = std::iter::from_fn(|| connections.poll(&cx)).map(|next| next.event).collect();
        assert!(
            matches!(
                left[..],
                [ToHandler::Cancel(_), ToHandler::KeepAlive(false), ToHandler::Mode(Mode::Server)]
            ),
            "{left:?}"
        );
        assert!(connections.tell(number, request(50)).is_some(), "at once again");
    }

    #[test]
    fn a_connection_that_is_gone_is_told_nothing() {
        let mut connections = EstablishedConnections::default();
        let (number, _) = open(&mut connections, 1);
        (0..20).for_each(|n| drop(connections.tell(number, request(n))));
        assert_eq!(connections.closed(ConnectionId::new_unchecked(1)), Some(number));
        assert!(connections.tell(number, request(99)).is_none());
        assert!(connections.poll(&Context::from_waker(Waker::noop())).is_none());
        let id = ConnectionId::new_unchecked(2);
        let (never, _) = connections.begin(id);
        connections.forget(id);
        assert_eq!(
            (connections.close(never), connections.number(id), connections.all()),
            (None, None, vec![])
        );
    }

    #[test]
    fn a_connection_is_listed_once_however_often_what_waits_is_taken_back() {
        let mut connections = EstablishedConnections::default();
        let (number, credit) = open(&mut connections, 1);
        (0..16).for_each(|n| drop(connections.tell(number, request(n))));
        let cx = Context::from_waker(Waker::noop());
        for n in 16..100 {
            assert!(connections.tell(number, request(n)).is_none());
            assert!(connections.tell(number, ToHandler::Cancel(RequestId::new(n))).is_none());
            assert!(n % 7 > 0 || connections.poll(&cx).is_none());
        }
        assert!(connections.blocked.len() <= 1, "{:?}", connections.blocked);
        connections.tell(number, request(200));
        credit.take();
        assert!(connections.poll(&cx).is_some() && connections.poll(&cx).is_none());
        assert!(connections.blocked.is_empty());
    }

    #[test]
    fn a_connection_that_the_node_closes_is_there_until_it_has_ended() {
        let mut connections = EstablishedConnections::default();
        let (number, _) = open(&mut connections, 1);
        assert!(!connections.is_closing(&peer()));
        assert_eq!(connections.close(number), Some(ConnectionId::new_unchecked(1)));
        assert!(connections.is_closing(&peer()));
        connections.closed(ConnectionId::new_unchecked(1));
        assert!(!connections.is_closing(&peer()));
    }

    #[test]
    fn who_comes_through_a_relay_is_behind_it() {
        let relay = "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5/p2p-circuit";
        let id = "/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";
        let listener = |local_addr: &str, send_back_addr: &str| ConnectedPoint::Listener {
            local_addr: local_addr.parse().unwrap(),
            send_back_addr: send_back_addr.parse().unwrap(),
        };
        assert_eq!(remote_address(&listener(relay, id)), relay.parse().unwrap());
        assert_eq!(remote_address(&listener(&format!("{relay}{id}"), id)), relay.parse().unwrap());
        let direct = "/ip4/5.6.7.8/tcp/9".parse().unwrap();
        assert_eq!(remote_address(&listener("/ip4/0.0.0.0/tcp/1", "/ip4/5.6.7.8/tcp/9")), direct);
    }
}
