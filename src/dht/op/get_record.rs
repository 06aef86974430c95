//! Finds the record of a key.

use std::cmp::Ordering;
use std::num::NonZeroUsize;

use libp2p_identity::PeerId;

use super::machine::{After, End, FilteredAnswer, Findings, FollowUp, Machine, Step, View};
use super::region::RegionSearch;
use super::search::Search;
use crate::addrs::Addresses;
use crate::config::{Caching, Config};
use crate::dht::advice::Failure;
use crate::dht::view::{Parts, shrunk};
use crate::error::fates::so_far;
use crate::error::{Fates, NoKnownPeers, QueryError, RequestError, query_error};
use crate::event::{Precision, ProgressStep, QueryStats, Shortage};
use crate::message::Request;
use crate::peer::PeerInfo;
use crate::query::lookup::Place;
use crate::record::{PeerRecord, Quorum, Record, RecordKey};
use crate::time::{Duration, Instant, SystemTime, wall_after};
use crate::validate::{InvalidRecord, Namespaces, Validator as _};

/// The outcome of a step of searching a record.
pub type GetRecordResult = Result<GetRecordOk, GetRecordError>;

/// A step of searching a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetRecordOk {
    /// A peer, or this node itself, has a valid record.
    FoundRecord(PeerRecord),
    /// The search is over: this is the best record there was.
    ///
    /// Differs from `libp2p-kad`: peers that had a worse record or none are seen to by this node itself.
    FinishedWithNoAdditionalRecord {
        /// The best of all that were found.
        best: Record,
        /// How many had just that value, this node included.
        agreed: usize,
        /// How many had another value: each was told as it was found, and the best is what the validator says, or what was found
        /// first where it does not tell.
        disagreed: usize,
        /// Why they are fewer than the quorum that was asked for, if they are: where there are fewer peers, all of them are
        /// enough.
        shortage: Option<Shortage>,
    },
}

/// Why a record was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetRecordError {
    /// None of the closest peers has a valid record. At least one of them has answered: it was not put, or has ended. Search
    /// again when it has been put.
    #[error("none of the closest peers has the record ({} answered)", .closest_peers.len())]
    NotFound {
        /// The key.
        key: RecordKey,
        /// The closest peers that answered, nearest first.
        closest_peers: Vec<PeerInfo>,
    },
    /// Nobody that was asked has answered: whether there is a record nobody could say. See what became of them, add the address
    /// of a peer that serves the protocol, and search again.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// The key.
        key: RecordKey,
        /// What became of those that were asked.
        fates: Fates,
    },
    /// Too few agree on the best record. Take the first of `records` all the same, search with a smaller quorum, or again
    /// later.
    #[error("{agreed} of the {quorum} peers that had to agree on the record do")]
    QuorumFailed {
        /// The key.
        key: RecordKey,
        /// All that were found, the best first.
        records: Vec<PeerRecord>,
        /// How many agree on the best.
        agreed: usize,
        /// How many had to.
        quorum: NonZeroUsize,
    },
    /// The key is empty, or no validator is configured for its namespace. Nobody was asked: correct the key, or configure a
    /// validator.
    #[error("no record can have this key: {source}")]
    Invalid {
        /// The key.
        key: RecordKey,
        /// Why not.
        source: InvalidRecord,
    },
    /// What any query may fail of: see [`QueryError`] for what to do.
    #[error("{cause}{}", so_far("records that were found", .records.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// All that were found, the best first.
        records: Vec<PeerRecord>,
    },
}

impl GetRecordError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::NotFound { key, .. }
            | Self::NoAnswer { key, .. }
            | Self::QuorumFailed { key, .. }
            | Self::Invalid { key, .. }
            | Self::Query { key, .. } => key,
        }
    }

    /// Returns the key, without the rest.
    pub fn into_key(self) -> RecordKey {
        self.key().clone()
    }

    pub(crate) fn of_query(cause: impl Into<QueryError>, key: RecordKey) -> Self {
        Self::Query { cause: cause.into(), key, records: Vec::new() }
    }
}

query_error!(GetRecordError);

impl Findings for GetRecordResult {
    fn failure(&self) -> Option<Failure> {
        match self {
            Err(GetRecordError::NoAnswer { fates, .. }) => Some(Failure::of_fates(fates)),
            Err(error) => Failure::of_query(error.query_error()),
            Ok(_) => None,
        }
    }
}

/// What is seen of a search for a record that runs.
#[derive(Debug)]
pub(in crate::dht) struct GetRecordInfo {
    pub(in crate::dht) key: RecordKey,
    pub(in crate::dht) quorum: Option<Quorum>,
    pub(in crate::dht) found: usize,
    pub(in crate::dht) step: ProgressStep,
}

/// A search for the record of a key.
///
/// # What it decides
/// Which record is the best, and when enough peers agree on it. Each answer that carries a valid record is told as it comes,
/// the one that this node holds first. With a quorum the search ends when so many have the very value that is the best so far;
/// without one, or while too few agree, when the closest peers have all answered. If what they had is not enough, those that
/// are slow are awaited for three seconds more. Of each IP group two of the closest count; and where records are
/// [protected](crate::Protection) all others of the key's region are asked, too.
///
/// # Afterwards
/// Those that had a worse record are sent the best one, and the closest that were asked and had none cache it, for a time that
/// halves with each further node between them and the key beyond `k`: see [`follow_up`](Self::follow_up).
///
/// # Bounds
/// One record for each peer that was asked; equal values are kept once.
///
/// # Spec
/// libp2p kad-dht, "Value retrieval", "Entry correction"; Maymounkov & Mazières §2.3.
#[derive(Debug)]
pub(in crate::dht) struct GetRecord {
    key: RecordKey,
    quorum: Option<Quorum>,
    validators: Namespaces,
    /// `None` if nobody could be asked.
    search: Option<RegionSearch>,
    /// The records that were found, and the peer that had each: this node's own first, then in the order of the answers.
    found: Vec<PeerRecord>,
    /// The position of the best one.
    best: usize,
    /// So many of them have been told.
    told: usize,
    /// They had none.
    without: Vec<PeerId>,
    is_over: bool,
}

impl GetRecord {
    /// Returns why a record that is searched could not be valid, whatever anybody had, if that is so.
    ///
    /// # Errors
    /// The result, if the key is empty or its namespace has no validator.
    pub(in crate::dht) fn check(key: &RecordKey, config: &Config) -> Result<(), Box<GetRecordResult>> {
        let of = |source| {
            let key = key.clone();
            Err(Box::new(Err(GetRecordError::Invalid { key, source })))
        };
        if key.as_ref().is_empty() {
            return of(InvalidRecord::new("the key is empty"));
        }
        config.records.validators.check_key(key).or_else(of)
    }

    /// Begins to search the record of a key, of which this node may have one, its `own`.
    ///
    /// # Errors
    /// The result, if nobody is known and this node has none.
    pub(in crate::dht) fn begin(
        now: Instant,
        key: RecordKey,
        quorum: Option<Quorum>,
        own: Option<Record>,
        parts: &mut Parts<'_>,
    ) -> Result<Self, Box<GetRecordResult>> {
        let wanted = parts.cx.config.replication_factor().get();
        // One that is here is enough where one is.
        let is_enough = own.is_some() && quorum.is_some_and(|quorum| quorum.of(wanted).get() == 1);
        let search = if is_enough {
            None
        } else {
            let target = (key.bytes().clone(), parts.cx.hash(key.as_ref()));
            Search::begin(now, target, wanted, Precision::Exact, parts).ok()
        };
        if search.is_none() && own.is_none() {
            return Err(Box::new(Err(GetRecordError::of_query(NoKnownPeers(), key))));
        }
        let search = search.map(|search| search.asking(Request::GetValue { key: key.clone() }).into());
        let found: Vec<_> = own.map(|record| PeerRecord { peer: None, record }).into_iter().collect();
        let validators = parts.cx.config.records.validators.clone();
        let (without, is_over) = (Vec::new(), false);
        Ok(Self { key, quorum, validators, search, found, best: 0, told: 0, without, is_over })
    }

    fn best(&self) -> Option<&Record> {
        self.found.get(self.best).map(|found| &found.record)
    }

    /// Returns how many have the very value that is the best.
    fn agreed(&self) -> usize {
        let best = self.best().map(|record| &record.value);
        self.found.iter().filter(|found| Some(&found.record.value) == best).count()
    }

    /// Adds a record that a peer has; the one seen first stays the best among equals.
    fn add(&mut self, peer: PeerId, mut record: Record) {
        if let Some(same) = self.found.iter().find(|found| found.record.value == record.value) {
            // Kept once.
            record.value = same.record.value.clone();
        }
        let is_better = self.best().is_some_and(|best| self.compare(&record, best) == Ordering::Greater);
        self.found.push(PeerRecord { peer: Some(peer), record });
        if is_better {
            self.best = self.found.len() - 1;
        }
    }

    fn compare(&self, a: &Record, b: &Record) -> Ordering {
        self.validators.compare(&self.key, &a.value, &b.value)
    }

    /// Returns how many must agree before all have answered: the quorum of as many as hold a record.
    fn needed(&self, view: &View<'_>) -> Option<NonZeroUsize> {
        self.quorum.map(|quorum| quorum.of(view.config.replication_factor().get()))
    }

    /// Returns until when a slow peer is awaited that may still have what is lacking.
    fn last_chance(&mut self, now: Instant) -> Option<Instant> {
        let is_enough = self.best().is_some() && self.quorum.is_none();
        self.search.as_mut().filter(|_| !is_enough)?.last_chance(now)
    }

    fn has_quorum(&self, view: &View<'_>) -> bool {
        self.needed(view).is_some_and(|needed| self.agreed() >= needed.get())
    }

    /// Returns the records that were found, the best first.
    fn by_worth(&self) -> Vec<PeerRecord> {
        let mut records = self.found.clone();
        records.sort_by(|a, b| self.compare(&b.record, &a.record));
        records
    }

    fn result(&self, view: &View<'_>) -> Result<GetRecordOk, GetRecordError> {
        let Some(best) = self.best() else {
            let key = self.key.clone();
            let Some(RegionSearch { search, .. }) = &self.search else {
                return Err(GetRecordError::of_query(QueryError::NoKnownPeers, key));
            };
            if !search.has_answers() {
                return Err(GetRecordError::NoAnswer { key, fates: search.fates(view) });
            }
            let closest_peers = search.closest_answered(view, search.wanted());
            return Err(GetRecordError::NotFound { key, closest_peers });
        };
        let agreed = self.agreed();
        // Where there are fewer peers than are to hold it, all of them are enough.
        let reached = self.found.len() + self.without.len();
        let quorum = self.quorum.map(|quorum| quorum.of(reached.min(view.config.replication_factor().get())));
        match quorum.filter(|quorum| agreed < quorum.get()) {
            Some(quorum) => {
                let records = self.by_worth();
                Err(GetRecordError::QuorumFailed { key: self.key.clone(), records, agreed, quorum })
            }
            None => {
                let is_short = self.needed(view).is_some_and(|needed| agreed < needed.get());
                let failed = self.search.as_ref().map_or(0, |search| search.search.num_failed());
                let why = if self.is_over { Shortage::NoMorePeers { failed } } else { Shortage::Finished };
                let (best, shortage) = (best.clone(), is_short.then_some(why));
                let disagreed = self.found.len() - agreed;
                Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, agreed, disagreed, shortage })
            }
        }
    }

    /// Returns what is to be done for others now that the search is over, if it has found a record.
    ///
    /// `max_cache` peers cache it, from `wall` on for `longest` at most.
    fn follow_up(
        &self,
        wall: SystemTime,
        (k, max_cache, longest): (usize, usize, Option<Duration>),
    ) -> Option<FollowUp> {
        let (mut best, search) = (self.best()?.clone(), &self.search.as_ref()?.search);
        // It is handed on: not as this node's.
        best.publisher = best.publisher.or(self.found.get(self.best)?.peer);
        let worse = self.found.iter().filter(|found| self.compare(&found.record, &best) == Ordering::Less);
        let correct = worse.filter_map(|found| found.peer).collect();
        let left = best.expires.map(|end| end.duration_since(wall).unwrap_or_default());
        let ttl = left.into_iter().chain(longest).min().unwrap_or(FOREVER);
        let mut without: Vec<_> = self.without.iter().map(|peer| (search.closer_than(peer), *peer)).collect();
        without.sort_unstable();
        let cache = without.into_iter().take(max_cache);
        let until = |between: usize| wall_after(wall, shrunk(ttl, between, k));
        let cache = cache.map(|(between, peer)| (peer, until(between))).collect();
        Some(FollowUp { record: best, correct, cache })
    }
}

/// How long a record is cached that has no end: as long as the `spec` has records last ("Entry validation").
const FOREVER: Duration = Duration::from_secs(48 * 3600);

impl<R: From<GetRecordResult>, I: From<GetRecordInfo>> Machine<R, I> for GetRecord {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        if let Some(found) = self.found.get(self.told) {
            self.told += 1;
            return Step::Progress(R::from(Ok(GetRecordOk::FoundRecord(found.clone()))));
        }
        if !self.is_over && !self.has_quorum(view) {
            let is_protected = view.config.protects_records();
            let search = self.search.as_mut();
            if let Some(step) = search.and_then(|search| search.next_everywhere(now, view, is_protected)) {
                return step;
            }
            if let Some(until) = self.last_chance(now) {
                return Step::Wait(Some(until));
            }
            self.is_over = true;
        }
        Step::Done(R::from(self.result(view)))
    }

    fn knows(&self, lookup: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        self.search.as_ref().is_some_and(|search| search.knows(lookup, peer, addresses))
    }

    fn place(&mut self, now: Instant, to: &PeerId, lookup: u16, place: Place) {
        if let Some(search) = &mut self.search {
            search.place(now, to, lookup, place);
        }
    }

    fn answered(&mut self, from: &PeerId, lookup: u16, mut answer: FilteredAnswer) {
        match answer.record.take() {
            Some(record) => self.add(*from, record),
            None if RegionSearch::asks_for_the_key(lookup) => self.without.push(*from),
            None => {}
        }
        if let Some(search) = &mut self.search {
            search.answered(from, lookup, answer);
        }
    }

    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError) {
        if let Some(search) = &mut self.search {
            search.failed(from, lookup, error);
        }
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        R::from(match why {
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                let (key, records) = (self.key.clone(), self.by_worth());
                Err(GetRecordError::Query { cause: why.cause(), key, records })
            }
            End::Enough => self.result(view),
        })
    }

    fn after(&self, now: Instant, view: &View<'_>) -> After {
        let max_cache = match view.config.records.caching {
            Caching::Disabled => 0,
            Caching::Enabled { max_peers } => max_peers.into(),
        };
        let rules = (view.config.bucket_size().get(), max_cache, view.config.records.record_ttl);
        self.follow_up(view.wall_at(now), rules).map_or(After::Nothing, After::Found)
    }

    fn is_light(&self) -> bool {
        self.search.is_none()
    }

    fn info(&self, step: ProgressStep) -> I {
        I::from(GetRecordInfo { key: self.key.clone(), quorum: self.quorum, found: self.found.len(), step })
    }

    fn count(&self, stats: &mut QueryStats) {
        if let Some(search) = &self.search {
            search.count(stats);
        }
    }
}
