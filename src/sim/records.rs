//! The queries for records and providers that nodes make, and what came of them.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::shard::ToldResult;
use crate::dht::op::{GetProvidersOk, GetRecordOk, ProvideReport, PutReport, QueryResult};
use crate::event::QueryId;
use crate::record::RecordKey;
use crate::time::{Duration, Instant};

/// The kind of a query for a record or a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordQuery {
    /// A record is put.
    Put,
    /// A record is searched.
    Get,
    /// A provider is announced.
    Provide,
    /// Providers are searched.
    Search,
}

/// A query that begins.
#[derive(Debug)]
pub(super) struct BegunQuery {
    pub(super) kind: RecordQuery,
    pub(super) key: RecordKey,
    /// What is put, or who provides.
    pub(super) is: Option<Said>,
}

/// What is said under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Value(Bytes),
    Provider(PeerId),
}

/// A put or a get that runs.
#[derive(Clone, Debug)]
struct RunningQuery {
    since: Instant,
    kind: RecordQuery,
    key: RecordKey,
    /// When the first record or provider was found, or enough had been told.
    first: Option<Instant>,
    providers: Vec<PeerId>,
}

/// The outcome of a query for a record or a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOutcome {
    /// The node that has asked.
    pub node: usize,
    /// Of what kind it was.
    pub kind: RecordQuery,
    /// The key.
    pub key: RecordKey,
    /// When it began, since the beginning of the world.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// How long until the first record or provider was found, or until enough had been told of one.
    pub first: Option<Duration>,
    /// How many requests it took.
    pub requests: u32,
    /// Soft timeouts.
    pub soft_timeouts: u32,
    /// Dials it caused.
    pub dials: u32,
    /// How many peers had to be asked one after another.
    pub hops: u32,
    /// Whether it is what it was to be: acknowledged by as many as had to, or told to enough; for a get the value of a put of
    /// this world, for a search one who has announced that he provides the key.
    pub success: bool,
    /// What was reached.
    pub reached: Reached,
}

/// The result of a query for a record or a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reached {
    /// The put was acknowledged by as many as had to.
    Put(PutReport),
    /// The value of the best record.
    Got(Bytes),
    /// Enough peers were told of the provider.
    Provided(ProvideReport),
    /// These providers were found.
    Found(Vec<PeerId>),
    /// Why it failed, in words.
    Failed(String),
}

impl Reached {
    /// Returns how many peers have stored it or were told, or how many providers were found; 1 for a value.
    pub(super) const fn peers(&self) -> usize {
        match self {
            Self::Put(report) => report.stored.len(),
            Self::Provided(report) => report.sent.len(),
            Self::Found(found) => found.len(),
            Self::Got(_) => 1,
            Self::Failed(_) => 0,
        }
    }
}

/// The queries for records and providers of all nodes: those that run, and the outcomes of those that have ended.
///
/// # Bounds
/// One entry for each query that was begun, and what was put.
#[derive(Debug, Default)]
pub(super) struct RecordLog {
    running: BTreeMap<(usize, QueryId), RunningQuery>,
    outcomes: Vec<RecordOutcome>,
    said: BTreeMap<RecordKey, Vec<Said>>,
    /// The keys of puts that have succeeded, and of announcements, in the order in which they did.
    acknowledged: Vec<RecordKey>,
    announced: Vec<RecordKey>,
}

impl RecordLog {
    pub(super) fn begin(
        &mut self,
        now: Instant,
        (n, id): (usize, QueryId),
        BegunQuery { kind, key, is }: BegunQuery,
    ) {
        if let Some(is) = is {
            let said = self.said.entry(key.clone()).or_default();
            if !said.contains(&is) {
                said.push(is);
            }
        }
        let query = RunningQuery { since: now, kind, key, first: None, providers: Vec::new() };
        self.running.insert((n, id), query);
    }

    /// A node refuses to do what it is asked.
    pub(super) fn refuse(&mut self, now: Duration, n: usize, begun: BegunQuery, why: &dyn Error) {
        let BegunQuery { kind, key, .. } = begun;
        self.outcomes.push(RecordOutcome {
            node: n,
            kind,
            key,
            began: now,
            took: Duration::ZERO,
            first: None,
            requests: 0,
            soft_timeouts: 0,
            dials: 0,
            hops: 0,
            success: false,
            reached: Reached::Failed(why.to_string()),
        });
    }

    /// Forgets the queries of a node that is gone.
    pub(super) fn forget(&mut self, n: usize) {
        self.running.retain(|(asker, _), _| *asker != n);
    }

    /// Returns the keys of puts that have succeeded, in the order in which they did.
    pub(super) fn acknowledged(&self) -> &[RecordKey] {
        &self.acknowledged
    }

    /// Returns the keys of announcements that have succeeded, in the order in which they did.
    pub(super) fn announced(&self) -> &[RecordKey] {
        &self.announced
    }

    /// Takes the outcomes out.
    pub(super) fn take(&mut self) -> Vec<RecordOutcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Returns whether it is what it was to be, and takes note of what is there to be found.
    fn succeeds(&mut self, key: &RecordKey, reached: &Reached) -> bool {
        let said = self.said.get(key).map_or(&[][..], |said| &said[..]);
        match reached {
            Reached::Put(_) => {
                self.acknowledged.push(key.clone());
                true
            }
            Reached::Provided(_) => {
                self.announced.push(key.clone());
                true
            }
            Reached::Got(value) => said.iter().any(|said| matches!(said, Said::Value(put) if put == value)),
            Reached::Found(found) => {
                said.iter().any(|said| matches!(said, Said::Provider(peer) if found.contains(peer)))
            }
            Reached::Failed(_) => false,
        }
    }

    pub(super) fn has_running(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn outcomes(&self) -> &[RecordOutcome] {
        &self.outcomes
    }

    /// Takes a result of a query. Returns whether it was the last of one that is watched.
    pub(super) fn on_result(&mut self, origin: Instant, told: ToldResult) -> bool {
        let ToldResult { at: now, node: n, query: id, is_last: last, result, stats } = told;
        let Some(open) = self.running.get_mut(&(n, id)) else {
            return false;
        };
        if matches!(
            &result,
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_))) | QueryResult::StartProviding(Ok(_))
        ) {
            open.first.get_or_insert(now);
        }
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = &result {
            let new = providers.iter().map(|found| found.peer_id);
            let new: Vec<_> = new.filter(|peer| !open.providers.contains(peer)).collect();
            // That there are none is told as well.
            if !new.is_empty() {
                open.first.get_or_insert(now);
            }
            open.providers.extend(new);
        }
        if !last {
            return false;
        }
        let failed = |error: &dyn Error| Reached::Failed(error.to_string());
        let reached = if let QueryResult::PutRecord(result) = result {
            result.map_or_else(|error| failed(&error), |ok| Reached::Put(ok.report))
        } else if let QueryResult::GetRecord(result) = result {
            match result {
                Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, .. }) => Reached::Got(best.value),
                Ok(GetRecordOk::FoundRecord(_)) => return false,
                Err(error) => failed(&error),
            }
        } else if let QueryResult::StartProviding(result) = result {
            result.map_or_else(|error| failed(&error), |ok| Reached::Provided(ok.report))
        } else if let QueryResult::GetProviders(result) = result {
            let found = std::mem::take(&mut open.providers);
            result.map_or_else(|error| failed(&error), |_| Reached::Found(found))
        } else {
            return false;
        };
        let Some(RunningQuery { since, kind, key, first, .. }) = self.running.remove(&(n, id)) else {
            return false;
        };
        let passed = |at: Instant| at.saturating_duration_since(since);
        let success = self.succeeds(&key, &reached);
        self.outcomes.push(RecordOutcome {
            node: n,
            kind,
            key,
            began: since.saturating_duration_since(origin),
            took: passed(now),
            first: first.map(passed),
            requests: stats.num_requests(),
            soft_timeouts: stats.num_soft_timeouts(),
            dials: stats.num_dials(),
            hops: stats.hops(),
            success,
            reached,
        });
        true
    }
}
