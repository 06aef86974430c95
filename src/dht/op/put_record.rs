//! Stores a record at other peers.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::machine::{After, Ask, Elsewhere, End, FilteredAnswer, Findings, Machine, Step, Stored, View};
use super::region::RegionSearch;
use super::search::Search;
use crate::addrs::Addresses;
use crate::dht::advice::Failure;
use crate::dht::peers::Urgency;
use crate::error::fates::{after_semicolon, so_far, told};
use crate::error::{QueryError, RequestError, StoreError, query_error};
use crate::event::{ProgressStep, QueryStats};
use crate::message::{Request, SentRecord};
use crate::query::fanout::{Fanout, FanoutNext, Fate};
use crate::query::lookup::Place;
use crate::record::{Quorum, RecordKey};
use crate::time::{Instant, earliest};
use crate::validate::InvalidRecord;

/// The outcome of storing a record.
pub type PutRecordResult = Result<PutRecordOk, PutRecordError>;

/// A record has been stored, by as many peers as had to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutRecordOk {
    /// Its key.
    pub key: RecordKey,
    /// What became of each peer.
    pub report: PutReport,
}

/// The report of a put: what became of each peer to which the record was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutReport {
    /// They have stored it.
    pub stored: Vec<PeerId>,
    /// They ended the stream instead of answering, or have another value: the protocol carries no reason.
    pub refused: Vec<PeerId>,
    /// They could not be reached, or did not answer.
    pub failed: Vec<(PeerId, RequestError)>,
    /// They are slow: nobody waited for them, but the record is still on its way to them.
    pub pending: Vec<PeerId>,
    /// The protocol by which it was sent.
    pub protocol: Arc<str>,
}

impl PutReport {
    /// Returns whether there was nobody to send it to.
    pub const fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.refused.is_empty() && self.failed.is_empty() && self.pending.is_empty()
    }

    /// Tells of how many there is no success, and why, behind a semicolon; nothing if of none.
    fn reasons(&self) -> String {
        let total = self.stored.len() + self.refused.len() + self.failed.len() + self.pending.len();
        let refused = self.refused.iter().map(|_| RequestError::Refused);
        let errors = self.failed.iter().map(|(_, error)| *error).chain(refused);
        after_semicolon(&told(total, errors, self.pending.len(), &self.protocol))
    }
}

impl fmt::Display for PutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stored{}", self.stored.len(), self.reasons())
    }
}

/// Why a record was not stored by as many peers as had to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutRecordError {
    /// Fewer than the quorum have stored it. See the report for why. If this node has published it, it is put anew in time;
    /// call again to try at once, or with a smaller quorum.
    #[error("{} of {quorum} peers have stored the record{}", .report.stored.len(), .report.reasons())]
    QuorumFailed {
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<PutReport>,
        /// How many had to store it.
        quorum: NonZeroUsize,
    },
    /// The record is not valid (its key is empty, it has ended, a validator refuses it), or no validator is configured for
    /// its namespace. It was sent to nobody: give one that is valid, or configure a validator.
    #[error("the record is not valid: {source}")]
    Invalid {
        /// The key.
        key: RecordKey,
        /// Why not.
        source: InvalidRecord,
    },
    /// This node's own store did not take it, and it was sent to nobody; or it could not make it safe, and others may have
    /// it; or it could not remove it. See `source` for what to do, and call again.
    #[error("this node's store did not take the record: {source}")]
    Store {
        /// The key.
        key: RecordKey,
        /// What the store says.
        source: StoreError,
    },
    /// What any query may fail of: see [`QueryError`]. After [`NoKnownPeers`](QueryError::NoKnownPeers) and
    /// [`TooManyQueries`](QueryError::TooManyQueries) this node has stored the record, and puts it when it can; not so one
    /// that was to go to some peers only, for which to call again.
    #[error("{cause}{}", so_far("peers that had stored the record", .report.stored.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// What became of each peer.
        report: Box<PutReport>,
    },
}

impl PutRecordError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::QuorumFailed { key, .. }
            | Self::Invalid { key, .. }
            | Self::Store { key, .. }
            | Self::Query { key, .. } => key,
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

query_error!(PutRecordError);

impl Findings for PutRecordResult {
    fn failure(&self) -> Option<Failure> {
        match self {
            Err(PutRecordError::QuorumFailed { report, .. }) => {
                let is_failure = report.stored.is_empty() && report.refused.is_empty();
                is_failure.then(|| Failure::of_peers(&report.failed, report.pending.len()))
            }
            Err(error) => Failure::of_query(error.query_error()),
            Ok(_) => None,
        }
    }
}

/// What is seen of a put that runs.
#[derive(Debug)]
pub(in crate::dht) struct PutRecordInfo {
    pub(in crate::dht) key: RecordKey,
    pub(in crate::dht) quorum: Quorum,
    pub(in crate::dht) stored: usize,
}

/// Stores a record at the closest peers to its key, or at some peers.
///
/// # What it decides
/// Whom it is sent to, and whether enough have stored it. The search for the closest need not be exact, since each STORE is
/// itself the check: a peer that does not answer is replaced by the next closest. It ends when all have answered or failed; or
/// when the quorum is reached and the others are slow, which it names as pending, and which get the record nevertheless. If
/// this node has stored it too, it does not end before that is safe.
///
/// # States
/// ```text
/// Searching --closest known--> Storing --settled--> over
/// ```
///
/// # Spec
/// libp2p kad-dht, "Value storage". Differs from `libp2p-kad`: reports every peer, and loses no request when the quorum is
/// reached.
#[derive(Debug)]
pub(in crate::dht) struct PutRecord {
    record: SentRecord,
    quorum: Quorum,
    search: Option<RegionSearch>,
    /// So many are to hold it.
    copies: usize,
    /// They have failed already while the closest were searched.
    failed: Vec<(PeerId, RequestError)>,
    fanout: Option<Fanout>,
    /// The change of this node's own store that is to survive a crash before anything is reported.
    change: Option<u64>,
}

/// Why a record is not safe here.
const NOT_WRITTEN: &str = "it could not be written to the disk";
const NOT_YET_WRITTEN: &str = "it is not on the disk yet";

/// The number of the requests that store: chosen, where those of the search have 0.
const STORE: u16 = 1;

impl PutRecord {
    /// Stores it at the closest peers.
    pub(in crate::dht) fn new(record: SentRecord, quorum: Quorum, search: Search) -> Self {
        let copies = search.wanted();
        Self {
            record,
            quorum,
            search: Some(search.into()),
            copies,
            failed: Vec::new(),
            fanout: None,
            change: None,
        }
    }

    /// Stores it at some peers.
    pub(in crate::dht) fn to(record: SentRecord, quorum: Quorum, peers: Vec<PeerId>) -> Self {
        let count = peers.len();
        let fanout = Some(Fanout::new(peers, count, quorum.of(count).get()));
        Self { record, quorum, search: None, copies: count, failed: Vec::new(), fanout, change: None }
    }

    /// Stores it at nobody, since nobody is known; only what this node itself does is reported.
    pub(in crate::dht) const fn at_nobody(record: SentRecord, quorum: Quorum) -> Self {
        Self { record, quorum, search: None, copies: 0, failed: Vec::new(), fanout: None, change: None }
    }

    /// Reports nothing before a change of this node's own store is known to survive a crash, or not to.
    pub(in crate::dht) fn safe_with(self, change: Option<u64>) -> Self {
        Self { change, ..self }
    }

    /// Returns whether what was stored here survives a crash; `None` if that is not known yet.
    fn is_safe(&self, view: &View<'_>) -> Option<bool> {
        self.change.map_or(Some(true), |change| view.progress.of(change))
    }

    /// Returns how many have stored it.
    fn num_stored(&self) -> usize {
        self.fanout.as_ref().map_or(0, Fanout::num_accepted)
    }

    fn report(&self, view: &View<'_>) -> PutReport {
        let protocol = view.config.protocol_name.clone();
        let mut report = PutReport { protocol, ..PutReport::default() };
        for (peer, fate) in self.fanout.iter().flat_map(Fanout::fates) {
            match fate {
                Fate::Accepted => report.stored.push(peer),
                Fate::Refused => report.refused.push(peer),
                Fate::Failed(error) => report.failed.push((peer, error)),
                Fate::Queued(_) | Fate::Waiting(_) => report.pending.push(peer),
            }
        }
        if self.fanout.iter().flat_map(Fanout::fates).next().is_none() {
            // There was nobody to send it to: at least they are told who have failed before.
            report.failed.clone_from(&self.failed);
        }
        report
    }

    fn result(&self, view: &View<'_>) -> PutRecordResult {
        let key = self.record.key.clone();
        let unsafe_since = match self.is_safe(view) {
            Some(true) => None,
            Some(false) => Some(NOT_WRITTEN),
            None => Some(NOT_YET_WRITTEN),
        };
        if let Some(why) = unsafe_since {
            return Err(PutRecordError::Store { key, source: StoreError::new(why) });
        }
        if self.fanout.is_none() && self.search.is_none() {
            return Err(PutRecordError::of_query(QueryError::NoKnownPeers, key));
        }
        let report = self.report(view);
        let asked = self.fanout.iter().flat_map(Fanout::fates).count();
        // Those that took the place of others do not make the quorum greater.
        let quorum = self.quorum.of(asked.min(self.copies));
        if report.stored.len() >= quorum.get() {
            Ok(PutRecordOk { key, report })
        } else {
            Err(PutRecordError::QuorumFailed { key, report: Box::new(report), quorum })
        }
    }

    fn store_at<R>(&self, peer: PeerId) -> Step<R> {
        let request = Request::PutValue { record: self.record.clone() };
        Step::Ask(match &self.search {
            Some(search) => search.ask(peer, request, STORE),
            None => {
                let (addresses, urgency) = (Addresses::empty(), Urgency::Forced);
                Ask { to: peer, addresses, request, lookup: STORE, urgency }
            }
        })
    }
}

impl<R: From<PutRecordResult>, I: From<PutRecordInfo>> Machine<R, I> for PutRecord {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        if self.fanout.is_none()
            && let Some(search) = &mut self.search
        {
            if let Some(step) = search.search.next(now, view, 0) {
                return step;
            }
            if view.config.protects_records() {
                search.enclose(now, view);
            }
            let peers = search.search.closest_ids(2 * self.copies);
            let quorum = self.quorum.of(peers.len().min(self.copies)).get();
            self.fanout = Some(Fanout::new(peers, self.copies, quorum));
        }
        let mut wake_at = None;
        if let Some((search, fanout)) = self.search.as_mut().zip(self.fanout.as_mut()) {
            match search.next_beside(now, view, fanout) {
                Ok(step) => return step,
                Err(until) => wake_at = until,
            }
        }
        let is_enclosing = self.search.as_ref().is_some_and(RegionSearch::is_enclosing);
        let status_of = |peer: &PeerId, phase| view.peer_status(peer, phase);
        match self
            .fanout
            .as_mut()
            .map_or(FanoutNext::Done, |fanout| fanout.next(view.moment(now), &status_of))
        {
            FanoutNext::Ask(peer) => self.store_at(peer),
            FanoutNext::Wait(until) => Step::Wait(earliest(wake_at, until.map(|at| view.clock_time(at)))),
            FanoutNext::Done if is_enclosing => Step::Wait(wake_at),
            // It is woken when the disk is done.
            FanoutNext::Done if self.is_safe(view).is_none() => Step::Wait(None),
            FanoutNext::Done => Step::Done(R::from(self.result(view))),
        }
    }

    fn knows(&self, lookup: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        let search = self.search.as_ref().filter(|_| lookup != STORE);
        search.is_some_and(|search| search.knows(lookup, peer, addresses))
    }

    fn place(&mut self, now: Instant, to: &PeerId, lookup: u16, place: Place) {
        match (lookup, &mut self.fanout, &mut self.search) {
            (STORE, Some(fanout), _) => fanout.place(now, to, place),
            (_, _, Some(search)) => search.place(now, to, lookup, place),
            (_, _, None) => {}
        }
    }

    fn answered(&mut self, from: &PeerId, lookup: u16, answer: FilteredAnswer) {
        match (lookup, &mut self.fanout, &mut self.search) {
            (STORE, Some(fanout), _) => fanout.accepted(from),
            (_, _, Some(search)) => search.answered(from, lookup, answer),
            (_, _, None) => {}
        }
    }

    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError) {
        match (lookup, &mut self.fanout, &mut self.search) {
            (STORE, Some(fanout), _) if error == RequestError::Refused => fanout.refused(from),
            (STORE, Some(fanout), _) => fanout.failed(from, error),
            (_, _, Some(search)) => {
                search.failed(from, lookup, error);
                self.failed.push((*from, error));
            }
            (_, _, None) => {}
        }
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        let (key, report) = (self.record.key.clone(), Box::new(self.report(view)));
        let is_enough = report.stored.len() >= self.quorum.of(self.copies).get();
        match why {
            // Others would only have been told beside.
            End::Timeout if is_enough => R::from(self.result(view)),
            End::Timeout | End::Cancelled => {
                R::from(Err(PutRecordError::Query { cause: why.cause(), key, report }))
            }
            End::Refused { .. } => {
                R::from(Err(PutRecordError::of_query(why.cause(), self.record.key.clone())))
            }
            End::Enough => R::from(self.result(view)),
        }
    }

    fn outlives(&self) -> bool {
        true
    }

    fn puts(&self) -> Option<(&RecordKey, bool)> {
        let is_to_the_closest = self.search.is_some() || self.fanout.is_none();
        Some((&self.record.key, is_to_the_closest))
    }

    fn sends_to(&self, peer: &PeerId) -> Elsewhere {
        match (&self.fanout, &self.search) {
            (Some(fanout), _) if fanout.fates().any(|(sent, _)| sent == *peer) => Elsewhere::Yes,
            (None, Some(_)) => Elsewhere::Perhaps,
            (Some(_), _) | (None, None) => Elsewhere::No,
        }
    }

    fn after(&self, _: Instant, _: &View<'_>) -> After {
        let (mut reached, mut has_failed) = (Vec::new(), false);
        for (peer, fate) in self.fanout.iter().flat_map(Fanout::fates) {
            match fate {
                Fate::Accepted | Fate::Refused | Fate::Queued(_) | Fate::Waiting(_) => reached.push(peer),
                Fate::Failed(_) => has_failed = true,
            }
        }
        let (key, is_stored) = (self.record.key.clone(), self.num_stored() > 0);
        After::Put(Stored { key, is_stored, reached, has_failed })
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(PutRecordInfo {
            key: self.record.key.clone(),
            quorum: self.quorum,
            stored: self.num_stored(),
        })
    }

    fn count(&self, stats: &mut QueryStats) {
        if let Some(search) = &self.search {
            search.count(stats);
        }
        self.fanout.iter().for_each(|fanout| fanout.count(stats));
    }
}
