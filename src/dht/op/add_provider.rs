//! Tells others that this node provides a key.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::machine::{After, Announced, End, FilteredAnswer, Findings, Machine, Step, View};
use super::region::RegionSearch;
use super::search::{Search, excess};
use crate::addrs::Addresses;
use crate::dht::advice::Failure;
use crate::dht::view::Parts;
use crate::error::fates::{after_semicolon, so_far, told};
use crate::error::{NoKnownPeers, QueryError, RequestError, StoreError, query_error};
use crate::event::{Precision, ProgressStep, QueryStats};
use crate::message::Request;
use crate::query::fanout::{Fanout, FanoutNext, Fate};
use crate::query::lookup::Place;
use crate::record::RecordKey;
use crate::time::{Instant, earliest};

/// The outcome of a step of announcing this node as a provider.
pub type AddProviderResult = Result<AddProviderOk, AddProviderError>;

/// The success of an announcement: as many peers as are enough have been told that this node provides a key.
///
/// Comes once. The others are told behind it: as long as that takes, [`Behaviour::query`](crate::Behaviour::query) shows what
/// becomes of each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddProviderOk {
    /// The key.
    pub key: RecordKey,
    /// What became of each peer so far.
    pub report: ProvideReport,
}

/// The report of an announcement: what became of each peer that is to know that this node provides a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProvideReport {
    /// It was sent to them. The protocol has no acknowledgement.
    pub sent: Vec<PeerId>,
    /// They could not be reached, or do not serve the protocol.
    pub failed: Vec<(PeerId, RequestError)>,
    /// It is still on its way to them.
    pub pending: Vec<PeerId>,
    /// The protocol by which they were told.
    pub protocol: Arc<str>,
}

impl ProvideReport {
    /// Returns whether there was nobody to tell.
    pub const fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.failed.is_empty() && self.pending.is_empty()
    }

    /// Tells of how many there is no success, and why, behind a semicolon; nothing if of none.
    fn reasons(&self) -> String {
        let total = self.sent.len() + self.failed.len() + self.pending.len();
        after_semicolon(&told(
            total,
            self.failed.iter().map(|(_, error)| *error),
            self.pending.len(),
            &self.protocol,
        ))
    }
}

impl fmt::Display for ProvideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} told{}", self.sent.len(), self.reasons())
    }
}

/// Why too few peers know that this node provides a key. It goes on trying by itself, unless the key was refused or the node
/// knows nothing of the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddProviderError {
    /// It could be sent to fewer than are enough. See the report for why. There is nothing to do: this node tries again by
    /// itself, sooner if it is connected to more servers.
    #[error("{} of {enough} peers were told{}", .report.sent.len(), .report.reasons())]
    TooFew {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<ProvideReport>,
        /// How many would have been enough.
        enough: NonZeroUsize,
    },
    /// This node's own store did not take the key, and nobody was told; or it could not remove it. See `source` for what to
    /// do, and call again: nothing is tried again by itself.
    #[error("this node's store did not take the key: {source}")]
    Store {
        /// The key.
        key: RecordKey,
        /// What the store says.
        source: StoreError,
    },
    /// What any query may fail of: see [`QueryError`]. After [`Closed`](QueryError::Closed) and [`Busy`](QueryError::Busy)
    /// the node knows nothing of the call, which is to be made again; after the others there is nothing to do while the key
    /// is provided: others are told as soon as a peer is known, or there is room.
    #[error("{cause}{}", so_far("peers that were told", .report.sent.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<ProvideReport>,
    },
    /// Fewer than are enough were told, since this node has no address that the others could use: it does not listen, or
    /// only where they cannot dial. They are told as soon as it has one: listen, or confirm an external address.
    #[error("this node has no address that others could use: {} peers were told{}", .report.sent.len(), .report.reasons())]
    NoAddress {
        /// The key.
        key: RecordKey,
        /// What became of each peer; of nobody if there is no address at all, for then nobody is asked.
        report: Box<ProvideReport>,
    },
}

impl AddProviderError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::TooFew { key, .. }
            | Self::Store { key, .. }
            | Self::Query { key, .. }
            | Self::NoAddress { key, .. } => key,
        }
    }

    /// Returns the key, without the rest.
    pub fn into_key(self) -> RecordKey {
        self.key().clone()
    }

    pub(crate) fn of_query(cause: impl Into<QueryError>, key: RecordKey) -> Self {
        Self::Query { cause: cause.into(), key, report: Box::default() }
    }
}

query_error!(AddProviderError);

impl Findings for AddProviderResult {
    fn failure(&self) -> Option<Failure> {
        match self {
            Err(AddProviderError::TooFew { report, .. }) => {
                report.sent.is_empty().then(|| Failure::of_peers(&report.failed, report.pending.len()))
            }
            Err(error) => Failure::of_query(error.query_error()),
            Ok(_) => None,
        }
    }
}

/// What is seen of an announcement that runs.
#[derive(Debug)]
pub(in crate::dht) struct AddProviderInfo {
    pub(in crate::dht) key: RecordKey,
    pub(in crate::dht) sent: usize,
    pub(in crate::dht) report: ProvideReport,
}

/// Announces this node at the peers closest to a key.
///
/// # What it decides
/// First a near search for the closest peers. Then it is sent to `k` of them at once, and to the next nearest for each that
/// fails or is slow. Nobody acknowledges it, so a silent peer looks like one that was told: it is sent to as many more as are
/// likely silent, by what is believed of all and what the search has seen. And it is sent to one more for each of the closest
/// of whose IP group there are more than two.
///
/// # States
/// ```text
/// Searching --closest known--> Sending --enough were told: reported--> Sending on --all are settled--> over
///                                |
///                                +--all are settled, too few were told: reported--> over
/// ```
///
/// # Outputs
/// One result: when enough have been told, or when it is clear that too few can be. What becomes of the others is seen in
/// the query's info while it runs. "Told" means that the bytes are out and the peer speaks the
/// protocol, not that a request waits for a dial; the protocol has no acknowledgement.
///
/// A peer that could not use any address of this node is not told, as if it had failed.
///
/// # Bounds
/// Those of the search; then `k` messages to those that live, at most `3k` in sight, and twice that if they fail.
///
/// # Spec
/// libp2p kad-dht, "Content provider advertisement".
#[derive(Debug)]
pub(in crate::dht) struct AddProvider {
    key: RecordKey,
    /// By which the others are told, for the report.
    protocol: Arc<str>,
    search: RegionSearch,
    fanout: Option<Fanout>,
    enough: NonZeroUsize,
    is_reported: bool,
    /// The addresses of this node when it began: some may have been told of these, though it has others since.
    addresses: Addresses,
}

/// The number of the requests that announce: chosen, where those of the search have 0.
const ANNOUNCE: u16 = 1;

impl AddProvider {
    /// Begins to announce a key, with the addresses by which others are told of this node now.
    ///
    /// # Errors
    /// [`NoKnownPeers`] if there is nobody to ask.
    pub(in crate::dht) fn begin(
        now: Instant,
        key: RecordKey,
        addresses: Addresses,
        parts: &mut Parts<'_>,
    ) -> Result<Self, NoKnownPeers> {
        let target = (key.bytes().clone(), parts.cx.hash(key.as_ref()));
        let wanted = parts.cx.config.replication_factor().get();
        let search = Search::begin(now, target, wanted, Precision::Near, parts)?;
        let (fanout, enough, is_reported) = (None, NonZeroUsize::MIN, false);
        let protocol = parts.cx.config.protocol_name.clone();
        Ok(Self { key, protocol, search: search.into(), fanout, enough, is_reported, addresses })
    }

    /// Returns how many have been told.
    fn num_sent(&self) -> usize {
        self.fanout.as_ref().map_or(0, Fanout::num_accepted)
    }

    /// Returns whether too few were told because this node has no address that the others could use.
    fn lacks_address(&self) -> bool {
        let useless = |(_, fate)| fate == Fate::Failed(RequestError::NoOwnAddress);
        let is_rejected = |(_, fate)| fate == Fate::Refused;
        self.num_sent() < self.enough.get() && self.fates().any(useless) && !self.fates().any(is_rejected)
    }

    fn fates(&self) -> impl Iterator<Item = (PeerId, Fate)> {
        self.fanout.iter().flat_map(Fanout::fates)
    }

    /// Returns the next nearest, as many as are told at first, who were not.
    fn left(&self) -> Vec<(PeerId, Addresses)> {
        let left = self.fanout.iter().flat_map(Fanout::left).take(self.search.search.wanted());
        left.map(|peer| (peer, self.search.addresses_of(&peer))).collect()
    }

    fn report(&self) -> ProvideReport {
        let protocol = self.protocol.clone();
        let mut report = ProvideReport { protocol, ..ProvideReport::default() };
        for (peer, fate) in self.fates() {
            match fate {
                Fate::Accepted => report.sent.push(peer),
                Fate::Refused => report.failed.push((peer, RequestError::Refused)),
                Fate::Failed(error) => report.failed.push((peer, error)),
                Fate::Queued(_) | Fate::Waiting(_) => report.pending.push(peer),
            }
        }
        report
    }

    fn result(&self) -> AddProviderResult {
        let (key, report) = (self.key.clone(), self.report());
        if report.sent.len() >= self.enough.get() {
            Ok(AddProviderOk { key, report })
        } else if self.lacks_address() {
            Err(AddProviderError::NoAddress { key, report: Box::new(report) })
        } else {
            Err(AddProviderError::TooFew { key, report: Box::new(report), enough: self.enough })
        }
    }
}

impl<R: From<AddProviderResult>, I: From<AddProviderInfo>> Machine<R, I> for AddProvider {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        let fanout = match &mut self.fanout {
            Some(fanout) => fanout,
            fanout => {
                let search = &mut self.search.search;
                if let Some(step) = search.next(now, view, 0) {
                    return step;
                }
                let k = search.wanted();
                let wanted = search.needed_for(now, view, k).min(2 * k);
                let wanted = wanted + excess(view, &search.closest_ids(wanted)).min(k);
                let peers = search.closest_ids(2 * wanted);
                self.enough = view.config.providers.enough_of(peers.len().min(k));
                if view.config.protects_providers() {
                    self.search.enclose(now, view);
                }
                // All are awaited to their end: what became of each is to be told.
                fanout.insert(Fanout::new(peers, wanted, usize::MAX))
            }
        };
        if !self.is_reported && fanout.num_accepted() >= self.enough.get() {
            self.is_reported = true;
            return Step::Told(R::from(self.result()));
        }
        let wake_at = match self.search.next_beside(now, view, fanout) {
            Ok(step) => return step,
            Err(until) => until,
        };
        match fanout.next(view.moment(now), &|peer: &PeerId, phase| view.peer_status(peer, phase)) {
            FanoutNext::Ask(peer) => {
                // Who provides is filled in as it is sent: only then is it known which addresses the peer can use.
                let request = Request::AddProvider { key: self.key.clone(), providers: Vec::new() };
                Step::Ask(self.search.ask(peer, request, ANNOUNCE))
            }
            FanoutNext::Wait(until) => Step::Wait(earliest(wake_at, until.map(|at| view.clock_time(at)))),
            FanoutNext::Done if self.search.is_enclosing() => Step::Wait(wake_at),
            FanoutNext::Done => Step::Done(R::from(self.result())),
        }
    }

    fn knows(&self, lookup: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        self.search.knows(lookup, peer, addresses)
    }

    fn place(&mut self, now: Instant, to: &PeerId, lookup: u16, place: Place) {
        match (lookup, &mut self.fanout) {
            (ANNOUNCE, Some(fanout)) => fanout.place(now, to, place),
            (_, _) => self.search.place(now, to, lookup, place),
        }
    }

    fn answered(&mut self, from: &PeerId, lookup: u16, answer: FilteredAnswer) {
        if lookup != ANNOUNCE {
            self.search.answered(from, lookup, answer);
        }
    }

    fn sent(&mut self, from: &PeerId, _: u16) {
        if let Some(fanout) = &mut self.fanout {
            fanout.accepted(from);
        }
    }

    fn rejected(&mut self, from: &PeerId) -> bool {
        self.fanout.as_mut().is_some_and(|fanout| fanout.rejected(from))
    }

    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError) {
        match (lookup, &mut self.fanout) {
            (ANNOUNCE, Some(fanout)) => fanout.failed(from, error),
            (_, _) => self.search.failed(from, lookup, error),
        }
    }

    fn end(&mut self, _: &View<'_>, why: End) -> R {
        let (key, report) = (self.key.clone(), Box::new(self.report()));
        match why {
            // It was reported already that enough have been told.
            End::Timeout if self.is_reported => R::from(self.result()),
            End::Timeout | End::Cancelled => {
                R::from(Err(AddProviderError::Query { cause: why.cause(), key, report }))
            }
            End::Refused { .. } => R::from(Err(AddProviderError::of_query(why.cause(), key))),
            End::Enough => R::from(self.result()),
        }
    }

    fn outlives(&self) -> bool {
        true
    }

    fn announces(&self) -> Option<&RecordKey> {
        Some(&self.key)
    }

    fn after(&self, _: Instant, _: &View<'_>) -> After {
        After::Announced(Announced {
            key: self.key.clone(),
            sent: self.num_sent(),
            enough: self.enough.get(),
            lacks_address: self.lacks_address(),
            asked: self.fates().map(|(peer, _)| peer).collect(),
            told: self.fates().filter(|(_, fate)| *fate == Fate::Accepted).map(|(peer, _)| peer).collect(),
            next: self.left(),
            addresses: self.addresses.clone(),
        })
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(AddProviderInfo { key: self.key.clone(), sent: self.num_sent(), report: self.report() })
    }

    fn count(&self, stats: &mut QueryStats) {
        self.search.count(stats);
        self.fanout.iter().for_each(|fanout| fanout.count(stats));
    }
}
