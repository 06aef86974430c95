//! The queries for records and providers that nodes make, and what came of them.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::dht::op::{GetProvidersOk, GetRecordOk, ProvideReport, PutReport, QueryResult};
use crate::event::{QueryId, QueryStats};
use crate::record::RecordKey;
use crate::time::{Duration, Instant};

/// A put or a get that runs.
#[derive(Clone, Debug)]
struct RunningQuery {
    since: Instant,
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
    /// The key.
    pub key: RecordKey,
    /// How long it took.
    pub took: Duration,
    /// How long until the first record or provider was found, or until enough had been told of one.
    pub first: Option<Duration>,
    /// How many requests it took.
    pub requests: u32,
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

/// The queries for records and providers of all nodes: those that run, and the outcomes of those that have ended.
///
/// # Bounds
/// One entry for each query that was begun.
#[derive(Debug, Default)]
pub(super) struct RecordLog {
    running: BTreeMap<(usize, QueryId), RunningQuery>,
    outcomes: Vec<RecordOutcome>,
}

impl RecordLog {
    pub(super) fn begin(&mut self, now: Instant, n: usize, id: QueryId, key: RecordKey) {
        let query = RunningQuery { since: now, key, first: None, providers: Vec::new() };
        self.running.insert((n, id), query);
    }

    pub(super) fn has_running(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn outcomes(&self) -> &[RecordOutcome] {
        &self.outcomes
    }

    /// Takes a result of a query. Returns whether it was the last of one that is watched.
    pub(super) fn on_result(
        &mut self,
        now: Instant,
        (n, id, last): (usize, QueryId, bool),
        result: QueryResult,
        stats: &QueryStats,
    ) -> bool {
        let Some(open) = self.running.get_mut(&(n, id)) else {
            return false;
        };
        if matches!(
            &result,
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_)))
                | QueryResult::StartProviding(Ok(_))
                | QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { .. }))
        ) {
            open.first.get_or_insert(now);
        }
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = &result {
            let new = providers.iter().map(|found| found.peer_id);
            let new: Vec<_> = new.filter(|peer| !open.providers.contains(peer)).collect();
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
        let Some(RunningQuery { since, key, first, .. }) = self.running.remove(&(n, id)) else {
            return false;
        };
        let passed = |at: Instant| at.saturating_duration_since(since);
        let (took, first, requests) = (passed(now), first.map(passed), stats.num_requests());
        self.outcomes.push(RecordOutcome { node: n, key, took, first, requests, reached });
        true
    }
}
