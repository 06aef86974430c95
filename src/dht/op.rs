//! Operations: what a query does, one file for each kind.
//!
//! An operation says what it wants as a [`Step`], and is told what came of it. It sees the rest of the node through
//! [`View`] and changes nothing of it.

pub(super) mod add_provider;
pub(super) mod ask_peer;
pub(super) mod bootstrap;
pub(super) mod connect;
pub(super) mod find_peer;
pub(super) mod find_peers;
pub(super) mod get_providers;
pub(super) mod get_record;
pub(super) mod ping;
pub(super) mod put_record;
pub(super) mod search;
pub(super) mod tell_one;
pub(super) mod watch_providers;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::answer::Named;
use super::io::DialFailure;
use super::local::Local;
use super::peers::{Peers, Urgency};
use super::seeds::Seeds;
use crate::addrs::Addresses;
use crate::config::Config;
use crate::error::{QueryError, RequestError};
use crate::event::{ProgressStep, QueryInfo, QueryResult, QueryStats};
use crate::key::Key;
use crate::message::Request;
use crate::query::lookup::PeerStatus;
use crate::query::rtt::Estimator;
use crate::query::timeout::Phase;
use crate::record::Record;
use crate::rng::Rng;
use crate::routing::Table;
use crate::store::Progress;
use crate::time::{Duration, Instant};

/// What an operation sees of the node.
pub(super) struct View<'a> {
    pub(super) local: &'a Local,
    pub(super) config: &'a Config,
    pub(super) table: &'a Table,
    pub(super) seeds: &'a Seeds,
    pub(super) peers: &'a Peers,
    pub(super) estimator: &'a Estimator,
    /// Which changes of the store survive a crash.
    pub(super) progress: &'a Progress,
    pub(super) refresh: &'a mut crate::routing::refresh::Refresh,
    pub(super) rng: &'a mut Rng,
    /// How many providers the asker has room for; the others are kept until it has more.
    pub(super) room: usize,
}

impl View<'_> {
    /// Returns what is known of asking a peer.
    pub(super) fn peer_status(&self, peer: &PeerId, phase: Phase) -> PeerStatus {
        let known = self.peers.get(peer);
        let connected = known.is_some_and(|known| known.is_connected());
        let rtt = known.map(|known| &known.rtt);
        let (queued, soft_timeout) = (self.peers.is_held(peer), self.estimator.soft_timeout(rtt, phase));
        PeerStatus { connected, deferred: false, queued, soft_timeout }
    }
}

/// A request that an operation wants made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) to: PeerId,
    /// Where the peer may be, beside what is known of it.
    pub(super) addresses: Addresses,
    pub(super) request: Request,
    /// Which of the operation's lookups asks.
    pub(super) lookup: u16,
    pub(super) urgency: Urgency,
}

/// What an operation wants.
#[derive(Debug)]
pub(super) enum Step {
    Ask(Ask),
    /// Connect to an address, whoever is there.
    Dial(Multiaddr),
    /// Tell the asker what was reached so far.
    Progress(QueryResult),
    /// Tell the asker the last that it is told. The operation goes on.
    Told(QueryResult),
    /// Nothing before something happens, or until then: a time that lies ahead.
    Wait(Option<Instant>),
    Done(QueryResult),
}

/// What an answer says to an operation.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The peers it names, as far as they count.
    pub(super) closer: Vec<Named>,
    /// The addresses it names for the peer that the operation looks for.
    pub(super) target: Addresses,
    /// The record it carries, if that is valid.
    pub(super) record: Option<Record>,
    /// The providers it names, as far as they count.
    pub(super) providers: Vec<(PeerId, Addresses)>,
    pub(super) rtt: Duration,
}

/// Why an operation ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its time is up.
    Timeout,
    /// It was cancelled.
    Cancelled,
    /// What it has is enough for the asker.
    Enough,
}

impl End {
    /// Returns the cause of the error with which an operation ends that can end in no other way.
    pub(super) const fn cause(self) -> QueryError {
        match self {
            Self::Timeout => QueryError::Timeout,
            Self::Cancelled | Self::Enough => QueryError::Cancelled,
        }
    }
}

/// The state machine of an operation.
pub(super) trait Machine {
    /// Returns what the operation wants now; asked again until it waits or is done.
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step;

    /// A peer has answered a request of one of the operation's lookups.
    fn answered(&mut self, now: Instant, from: &PeerId, lookup: u16, answer: Answer);

    /// A request that is not answered has been sent.
    fn sent(&mut self, _from: &PeerId, _lookup: u16) {}

    /// A request has failed for good.
    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError);

    /// An address that was to be dialled has been, and this is who was there.
    fn met(&mut self, _result: Result<PeerId, DialFailure>) {}

    /// Returns the result of an operation that ends before it is done.
    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult;

    /// Returns what was found and not told yet, to be told before the last result.
    fn rest(&mut self, _: &View<'_>) -> Option<QueryResult> {
        None
    }

    /// Returns the peer whose addresses matter to the operation wherever they are named.
    fn looks_for(&self) -> Option<&PeerId> {
        None
    }

    /// Returns what the operation is about and how far it is; `step` is its next event.
    fn info(&self, step: ProgressStep) -> QueryInfo;

    /// Fills in what the operation's lookups have cost.
    fn count(&self, stats: &mut QueryStats);
}

/// All kinds of operation.
#[derive(Debug)]
pub(super) enum Operation {
    FindPeers(find_peers::FindPeers),
    FindPeer(find_peer::FindPeer),
    Bootstrap(bootstrap::Bootstrap),
    Ping(ping::Ping),
    Connect(connect::Connect),
    GetRecord(get_record::GetRecord),
    PutRecord(put_record::PutRecord),
    AskPeer(ask_peer::AskPeer),
    AddProvider(add_provider::AddProvider),
    TellOne(tell_one::TellOne),
    GetProviders(get_providers::GetProviders),
    WatchProviders(watch_providers::WatchProviders),
}

/// Returns the state machine of an operation; the one place where kinds are told apart.
macro_rules! machine {
    ($operation:expr) => {
        match $operation {
            Operation::FindPeers(machine) => machine,
            Operation::FindPeer(machine) => machine,
            Operation::Bootstrap(machine) => machine,
            Operation::Ping(machine) => machine,
            Operation::Connect(machine) => machine,
            Operation::GetRecord(machine) => machine,
            Operation::PutRecord(machine) => machine,
            Operation::AskPeer(machine) => machine,
            Operation::AddProvider(machine) => machine,
            Operation::TellOne(machine) => machine,
            Operation::GetProviders(machine) => machine,
            Operation::WatchProviders(machine) => machine,
        }
    };
}

impl Operation {
    /// Returns the state machine, to be moved on.
    pub(super) fn machine(&mut self) -> &mut dyn Machine {
        machine!(self)
    }

    /// Returns the state machine, to be looked at.
    pub(super) fn state(&self) -> &dyn Machine {
        machine!(self)
    }
}

/// Returns the request for the peers closest to the hash of `key`.
pub(super) fn find_node(key: &Bytes) -> Request {
    Request::FindNode { key: key.clone() }
}

/// Returns the bytes of a peer id with their key.
pub(super) fn preimage_of(peer: &PeerId, key: Key) -> (Bytes, Key) {
    (Bytes::from(peer.to_bytes()), key)
}
