//! Finds the record of a key.

use std::cmp::Ordering;
use std::num::NonZeroUsize;

use libp2p_identity::PeerId;

use super::search::{Search, Want};
use super::{Answer, End, Machine, Step, View};
use crate::error::{GetRecordError, QueryError, RequestError};
use crate::event::{GetRecordOk, ProgressStep, QueryInfo, QueryResult, QueryStats, Shortage};
use crate::record::{PeerRecord, Quorum, Record, RecordKey};
use crate::time::{Duration, Instant, SystemTime, wall_after};
use crate::validate::{Namespaces, Validator as _};

/// A search for the record of a key.
///
/// # What it decides
/// Which record is the best, and when enough peers agree on it. Each answer that carries a valid record is told as it comes,
/// the one that this node holds first. With a quorum the search ends when so many have the very value that is the best so far;
/// without one, or while too few agree, when the closest peers have all answered. If what they had is not enough, those that
/// are slow are awaited for three seconds more.
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
    search: Option<Search>,
    /// Who had which, in the order in which they answered.
    found: Vec<PeerRecord>,
    /// The position of the best one.
    best: usize,
    /// So many of them have been told.
    told: usize,
    /// They had none.
    without: Vec<PeerId>,
    is_over: bool,
}

/// What is to be done when the record has been found.
#[derive(Debug)]
pub(in crate::dht) struct FollowUp {
    pub(in crate::dht) record: Record,
    /// They had a worse one.
    pub(in crate::dht) correct: Vec<PeerId>,
    /// They had none and are to cache it until then.
    pub(in crate::dht) cache: Vec<(PeerId, SystemTime)>,
}

impl GetRecord {
    pub(in crate::dht) fn new(
        key: RecordKey,
        quorum: Option<Quorum>,
        validators: Namespaces,
        search: Option<Search>,
        own: Option<Record>,
    ) -> Self {
        let found: Vec<_> = own.map(|record| PeerRecord { peer: None, record }).into_iter().collect();
        let (without, is_over) = (Vec::new(), false);
        Self { key, quorum, validators, search, found, best: 0, told: 0, without, is_over }
    }

    fn best(&self) -> Option<&Record> {
        self.found.get(self.best).map(|found| &found.record)
    }

    /// Returns how many have the very value that is the best.
    fn agreed(&self) -> usize {
        let best = self.best().map(|record| &record.value);
        self.found.iter().filter(|found| Some(&found.record.value) == best).count()
    }

    /// Adds a record that somebody has; the one seen first stays the best among equals.
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

    /// Returns how many must agree: a quorum is counted among those of the closest that were asked.
    fn needed(&self, view: &View<'_>) -> Option<NonZeroUsize> {
        self.quorum.map(|quorum| quorum.of(view.config.replication_factor().get()))
    }

    /// Returns until when somebody slow is awaited who may still have what is lacking.
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
            let Some(search) = &self.search else {
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
                let failed = self.search.as_ref().map_or(0, Search::num_failed);
                let why = if self.is_over { Shortage::NoMorePeers { failed } } else { Shortage::Finished };
                let (best, shortage) = (best.clone(), is_short.then_some(why));
                Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, agreed, shortage })
            }
        }
    }

    /// Returns what is to be done for others now that the search is over, if it has found a record.
    ///
    /// `max_cache` peers cache it, from `wall` on for `longest` at most.
    pub(in crate::dht) fn follow_up(
        &self,
        wall: SystemTime,
        (k, max_cache, longest): (usize, usize, Option<Duration>),
    ) -> Option<FollowUp> {
        let (mut best, search) = (self.best()?.clone(), self.search.as_ref()?);
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

/// How long a record is cached that has no end.
const FOREVER: Duration = Duration::from_secs(48 * 3600);

/// The shortest time for which anything is kept: less is not worth the request.
pub(in crate::dht) const LEAST: Duration = Duration::from_secs(60);

/// Returns how long a record is kept that would last for `ttl`, by a node with `between` nodes between itself and the key:
/// half as long for each beyond `k`, but not less than a minute or than it lasts.
///
/// # Spec
/// Maymounkov & Mazières §2.3. `libp2p-kad` shifts down to nothing: it answers that it has stored what it has not.
pub(in crate::dht) fn shrunk(ttl: Duration, between: usize, k: usize) -> Duration {
    let halvings = u32::try_from(between.saturating_sub(k)).unwrap_or(u32::MAX).min(31);
    (ttl / (1 << halvings)).max(LEAST.min(ttl))
}

impl Machine for GetRecord {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step {
        if let Some(found) = self.found.get(self.told) {
            self.told += 1;
            return Step::Progress(QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found.clone()))));
        }
        if !self.is_over && !self.has_quorum(view) {
            match self.search.as_mut().map_or(Want::Done, |search| search.next(now, view, 0)) {
                Want::Ask(ask) => return Step::Ask(ask),
                Want::Wait(until) => return Step::Wait(until),
                Want::Done => match self.last_chance(now) {
                    Some(until) => return Step::Wait(Some(until)),
                    None => self.is_over = true,
                },
            }
        }
        Step::Done(QueryResult::GetRecord(self.result(view)))
    }

    fn answered(&mut self, now: Instant, from: &PeerId, _: u16, mut answer: Answer) {
        match answer.record.take() {
            Some(record) => self.add(*from, record),
            None => self.without.push(*from),
        }
        if let Some(search) = &mut self.search {
            search.answered(now, from, answer);
        }
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        if let Some(search) = &mut self.search {
            search.failed(from, error);
        }
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        QueryResult::GetRecord(match why {
            End::Timeout | End::Cancelled => {
                let (key, records) = (self.key.clone(), self.by_worth());
                Err(GetRecordError::Query { cause: why.cause(), key, records })
            }
            End::Enough => self.result(view),
        })
    }

    fn info(&self, step: ProgressStep) -> QueryInfo {
        QueryInfo::GetRecord { key: self.key.clone(), quorum: self.quorum, found: self.found.len(), step }
    }

    fn count(&self, stats: &mut QueryStats) {
        if let Some(search) = &self.search {
            search.count(stats);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_halves_with_each_node_beyond_k() {
        let day = Duration::from_secs(24 * 3600);
        let mut last = day;
        for between in 0..100 {
            let kept = shrunk(day, between, 20);
            let halvings = u32::try_from(between.max(20) - 20).unwrap();
            let exact = day.checked_div(1u32.checked_shl(halvings).unwrap_or(u32::MAX)).unwrap();
            assert_eq!(kept, exact.max(LEAST), "{between}");
            assert!(kept <= last, "it never grows");
            last = kept;
        }
        assert_eq!(shrunk(day, 20, 20), day);
        assert_eq!(shrunk(day, 21, 20), day / 2);
        assert_eq!(shrunk(Duration::from_secs(7), 90, 20), Duration::from_secs(7), "it ends by itself");
    }
}
