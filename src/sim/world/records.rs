//! Records and providers: put, announced and searched by nodes of the world, and where they are.

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::World;
use crate::error::{ProvideReport, PutReport};
use crate::event::{GetProvidersOk, GetRecordOk, QueryId, QueryResult, QueryStats};
use crate::record::{Quorum, Record, RecordKey};
use crate::store::RecordStore as _;
use crate::time::{Duration, Instant};

/// A put or a get that runs.
#[derive(Clone, Debug)]
pub(super) struct Open {
    since: Instant,
    key: RecordKey,
    /// When the first record or provider was found, or enough had been told.
    first: Option<Instant>,
    providers: Vec<PeerId>,
}

/// What came of a put or of a get.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOutcome {
    /// Who has asked.
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

/// What a put or a get has reached.
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

impl World {
    /// Lets a node put a record, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn put_record(&mut self, n: usize, record: Record, quorum: Quorum) -> bool {
        let key = record.key.clone();
        let put = self.with_quietly(n, |dht, now| dht.put_record(now, record, quorum).ok());
        self.watch(n, put.flatten(), key)
    }

    /// Lets a node store a record at some others, and not at itself. Nobody is told what comes of it.
    pub fn put_record_to(&mut self, n: usize, record: &Record, to: &[usize]) {
        let peers: Vec<_> = to.iter().filter_map(|n| Some(self.nodes.get(*n)?.peer)).collect();
        self.with(n, |dht, now| dht.put_record_to(now, record.clone(), peers, Quorum::All));
    }

    /// Lets a node search a record, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn get_record(&mut self, n: usize, key: RecordKey, quorum: Option<Quorum>) -> bool {
        let get = self.with_quietly(n, |dht, now| dht.get_record(now, key.clone(), quorum));
        self.watch(n, get, key)
    }

    /// Lets a node provide a key, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn provide(&mut self, n: usize, key: RecordKey) -> bool {
        let provide = self.with_quietly(n, |dht, now| dht.start_providing(now, key.clone()).ok());
        self.watch(n, provide.flatten(), key)
    }

    /// Lets a node search the providers of a key, and returns whether it does; its outcome will be among
    /// [`record_outcomes`](Self::record_outcomes).
    pub fn find_providers(&mut self, n: usize, key: RecordKey) -> bool {
        let get = self.with_quietly(n, |dht, now| dht.get_providers(now, key.clone()));
        self.watch(n, get, key)
    }

    /// Returns the numbers of the nodes that live and would name a provider of a key.
    pub fn holders_of_provider(&self, key: &RecordKey, provider: usize) -> Vec<usize> {
        let wall = self.wall();
        let Some(peer) = self.nodes.get(provider).map(|node| node.peer) else {
            return Vec::new();
        };
        let names = |n: &usize| {
            let known = self.node(*n).and_then(|dht| dht.store().providers(wall, key).ok());
            *n != provider && known.is_some_and(|known| known.iter().any(|record| record.provider == peer))
        };
        self.alive().filter(names).collect()
    }

    /// Waits for a query's end. What it has said already is drained only now, so that nothing is missed.
    fn watch(&mut self, n: usize, query: Option<QueryId>, key: RecordKey) -> bool {
        if let Some(query) = query {
            self.open_records
                .insert((n, query), Open { since: self.now, key, first: None, providers: Vec::new() });
        }
        self.drain(n);
        query.is_some()
    }

    /// Returns what came of puts and gets, in the order in which they ended.
    pub fn record_outcomes(&self) -> &[RecordOutcome] {
        &self.record_outcomes
    }

    /// Returns the numbers of the nodes that live and hold a record that has not ended.
    pub fn holders(&self, key: &RecordKey) -> Vec<usize> {
        let wall = self.wall();
        let holds =
            |n: &usize| self.node(*n).is_some_and(|dht| matches!(dht.store().get(wall, key), Ok(Some(_))));
        self.alive().filter(holds).collect()
    }

    /// Returns the numbers of the living servers that are truly the closest to the hash of some bytes, nearest first.
    pub fn closest_alive(&self, bytes: &[u8], count: usize) -> Vec<usize> {
        self.closest(&(self.config.key_hash)(bytes), count, super::Node::is_findable)
    }

    /// Lets time pass until all puts and gets have ended, but for no longer than `at_most`. Returns whether they have.
    pub fn run_until_records_settle(&mut self, at_most: Duration) -> bool {
        let end = self.now + at_most;
        while !self.open_records.is_empty() {
            match self.next_at() {
                Some(at) if at <= end => self.step(),
                Some(_) | None => return false,
            }
        }
        true
    }

    pub(super) fn heard_of_record(
        &mut self,
        n: usize,
        (id, last): (QueryId, bool),
        result: QueryResult,
        stats: &QueryStats,
    ) {
        let now = self.now;
        let Some(open) = self.open_records.get_mut(&(n, id)) else {
            return;
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
            return;
        }
        let reached = match result {
            QueryResult::PutRecord(Ok(ok)) => Reached::Put(ok.report),
            QueryResult::PutRecord(Err(error)) => Reached::Failed(error.to_string()),
            QueryResult::GetRecord(Ok(GetRecordOk::FinishedWithNoAdditionalRecord { best, .. })) => {
                Reached::Got(best.value)
            }
            QueryResult::GetRecord(Err(error)) => Reached::Failed(error.to_string()),
            QueryResult::StartProviding(Ok(ok)) => Reached::Provided(ok.report),
            QueryResult::StartProviding(Err(error)) => Reached::Failed(error.to_string()),
            QueryResult::GetProviders(Ok(_)) => Reached::Found(std::mem::take(&mut open.providers)),
            QueryResult::GetProviders(Err(error)) => Reached::Failed(error.to_string()),
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_)))
            | QueryResult::Bootstrap(_)
            | QueryResult::GetClosestPeers(_)
            | QueryResult::FindPeer(_)
            | QueryResult::Ping(_)
            | QueryResult::Connect(_)
            | QueryResult::AskPeer(_) => return,
        };
        if let Some(Open { since, key, first, .. }) = self.open_records.remove(&(n, id)) {
            let passed = |at: Instant| at.saturating_duration_since(since);
            self.record_outcomes.push(RecordOutcome {
                node: n,
                key,
                took: passed(now),
                first: first.map(passed),
                requests: stats.num_requests(),
                reached,
            });
            self.trace.note(now, 14, n, 0);
        }
    }
}
