//! Stores a record at other peers.

use libp2p_identity::PeerId;

use super::search::{Search, Want};
use super::machine::{After, Answer, Ask, Elsewhere, End, Machine, Step, Stored, View};
use crate::addrs::Addresses;
use crate::dht::peers::Urgency;
use crate::error::{PutRecordError, PutReport, QueryError, RequestError, StoreError};
use crate::event::{ProgressStep, PutRecordOk, QueryInfo, QueryResult, QueryStats};
use crate::message::{Request, SentRecord};
use crate::query::fanout::{Fanout, FanoutNext, Fate};
use crate::record::{Quorum, RecordKey};
use crate::time::Instant;

/// Stores a record at the closest peers to its key, or at some peers.
///
/// # What it decides
/// Whom it is sent to, and whether enough have stored it. The search for the closest need not be exact, since each STORE is
/// itself the check: whoever does not answer is replaced by the next closest. It ends when all have answered or failed; or
/// when the quorum is reached and the others are slow, whom it names as pending, and who get the record nevertheless. If this
/// node has stored it too, it does not end before that is safe.
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
    search: Option<Search>,
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

/// The number of the requests that store, where those of the search have 0.
const STORE: u16 = 1;

impl PutRecord {
    /// Stores it at the closest peers.
    pub(in crate::dht) const fn new(record: SentRecord, quorum: Quorum, search: Search) -> Self {
        let copies = search.wanted();
        Self { record, quorum, search: Some(search), copies, failed: Vec::new(), fanout: None, change: None }
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
                Fate::Waiting(_) => report.pending.push(peer),
            }
        }
        if self.fanout.iter().flat_map(Fanout::fates).next().is_none() {
            // There was nobody to send it to: at least they are told who have failed before.
            report.failed.clone_from(&self.failed);
        }
        report
    }

    fn result(&self, view: &View<'_>) -> QueryResult {
        let key = self.record.key.clone();
        let unsafe_since = match self.is_safe(view) {
            Some(true) => None,
            Some(false) => Some(NOT_WRITTEN),
            None => Some(NOT_YET_WRITTEN),
        };
        if let Some(why) = unsafe_since {
            return QueryResult::PutRecord(Err(PutRecordError::Store { key, source: StoreError::new(why) }));
        }
        if self.fanout.is_none() && self.search.is_none() {
            return QueryResult::PutRecord(Err(PutRecordError::of_query(QueryError::NoKnownPeers, key)));
        }
        let report = self.report(view);
        let asked = self.fanout.iter().flat_map(Fanout::fates).count();
        // Those that took the place of others do not make the quorum greater.
        let quorum = self.quorum.of(asked.min(self.copies));
        QueryResult::PutRecord(if report.stored.len() >= quorum.get() {
            Ok(PutRecordOk { key, report })
        } else {
            Err(PutRecordError::QuorumFailed { key, report: Box::new(report), quorum })
        })
    }

    fn store_at(&self, peer: PeerId) -> Step {
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

impl Machine for PutRecord {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step {
        if self.fanout.is_none()
            && let Some(search) = &mut self.search
        {
            match search.next(now, view, 0) {
                Want::Ask(ask) => return Step::Ask(ask),
                Want::Wait(until) => return Step::Wait(until),
                Want::Done => {}
            }
            let peers = search.closest_ids(2 * self.copies);
            let quorum = self.quorum.of(peers.len().min(self.copies)).get();
            self.fanout = Some(Fanout::new(peers, self.copies, quorum));
        }
        let outlook = |peer: &PeerId, phase| view.peer_status(peer, phase);
        match self.fanout.as_mut().map_or(FanoutNext::Done, |fanout| fanout.next(now, &outlook)) {
            FanoutNext::Ask(peer) => self.store_at(peer),
            FanoutNext::Wait(until) => Step::Wait(until),
            // It is woken when the disk is done.
            FanoutNext::Done if self.is_safe(view).is_none() => Step::Wait(None),
            FanoutNext::Done => Step::Done(self.result(view)),
        }
    }

    fn answered(&mut self, now: Instant, from: &PeerId, lookup: u16, answer: Answer) {
        match (lookup, &mut self.fanout, &mut self.search) {
            (STORE, Some(fanout), _) => fanout.accepted(from),
            (_, _, Some(search)) => search.answered(now, from, answer),
            (_, _, None) => {}
        }
    }

    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError) {
        match (lookup, &mut self.fanout, &mut self.search) {
            (STORE, Some(fanout), _) if error == RequestError::Refused => fanout.refused(from),
            (STORE, Some(fanout), _) => fanout.failed(from, error),
            (_, _, Some(search)) => {
                search.failed(from, error);
                self.failed.push((*from, error));
            }
            (_, _, None) => {}
        }
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        let (key, report) = (self.record.key.clone(), Box::new(self.report(view)));
        match why {
            End::Timeout | End::Cancelled => {
                QueryResult::PutRecord(Err(PutRecordError::Query { cause: why.cause(), key, report }))
            }
            End::Refused { .. } => {
                QueryResult::PutRecord(Err(PutRecordError::of_query(why.cause(), self.record.key.clone())))
            }
            End::Enough => self.result(view),
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
                Fate::Accepted | Fate::Refused | Fate::Waiting(_) => reached.push(peer),
                Fate::Failed(_) => has_failed = true,
            }
        }
        let (key, is_stored) = (self.record.key.clone(), self.num_stored() > 0);
        After::Put(Stored { key, is_stored, reached, has_failed })
    }

    fn info(&self, _: ProgressStep) -> QueryInfo {
        QueryInfo::PutRecord { key: self.record.key.clone(), quorum: self.quorum, stored: self.num_stored() }
    }

    fn count(&self, stats: &mut QueryStats) {
        if let Some(search) = &self.search {
            search.count(stats);
        }
        for (_, fate) in self.fanout.iter().flat_map(Fanout::fates) {
            stats.requests += 1;
            match fate {
                Fate::Accepted => stats.success += 1,
                Fate::Refused | Fate::Failed(_) => stats.failure += 1,
                Fate::Waiting(_) => {}
            }
        }
    }
}
