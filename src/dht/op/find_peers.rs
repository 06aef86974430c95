//! Finds the closest peers to a key.

use std::num::NonZeroUsize;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::bootstrap::{look_up_bucket, look_up_own};
use super::machine::{Answer, End, Machine, Step, View};
use super::search::{Search, Want};
use crate::dht::view::Parts;
use crate::error::{GetClosestPeersError, RequestError};
use crate::event::{
    GetClosestPeersOk, Precision, ProgressStep, QueryInfo, QueryResult, QueryStats, Shortage,
};
use crate::routing::refresh::Target;
use crate::time::Instant;

/// A search for the closest peers to a key.
///
/// Ends when as many as were wanted have answered; see [`Lookup`](crate::query::lookup::Lookup).
#[derive(Debug)]
pub(in crate::dht) struct FindPeers {
    search: Search,
    /// How many were asked for.
    asked_for: NonZeroUsize,
    /// As many of them as are searched at once.
    wanted: NonZeroUsize,
}

impl FindPeers {
    /// Begins to search the `asked_for` peers closest to the hash of some bytes, at most `k`.
    ///
    /// # Errors
    /// The result, if the key is empty or nobody is known.
    pub(in crate::dht) fn begin(
        now: Instant,
        key: Vec<u8>,
        asked_for: NonZeroUsize,
        precision: Precision,
        parts: &mut Parts<'_>,
    ) -> Result<Self, Box<QueryResult>> {
        if key.is_empty() {
            return Err(Box::new(QueryResult::GetClosestPeers(Err(GetClosestPeersError::EmptyKey))));
        }
        let preimage = Bytes::from(key);
        let target = (preimage.clone(), parts.cx.hash(&preimage));
        let wanted = asked_for.min(parts.cx.config.bucket_size());
        match Search::begin(now, target, wanted.get(), precision, parts) {
            Ok(search) => Ok(Self { search, asked_for, wanted }),
            Err(error) => {
                let (cause, key) = (error.into(), preimage.to_vec());
                let error = GetClosestPeersError::Query { cause, key, peers: Vec::new() };
                Err(Box::new(QueryResult::GetClosestPeers(Err(error))))
            }
        }
    }

    /// Begins to look up the own id or a random key of a bucket for the table's sake; `None` if there is nobody to ask.
    pub(in crate::dht) fn of_upkeep(now: Instant, target: Target, parts: &mut Parts<'_>) -> Option<Self> {
        let wanted = parts.cx.config.bucket_size();
        let mut view = parts.view(usize::MAX);
        let search = match target {
            Target::Own => look_up_own(now, &view),
            Target::Bucket(bucket) => look_up_bucket(now, &mut view, bucket),
        };
        search.map(|search| Self { search, asked_for: wanted, wanted })
    }

    fn result(&self, view: &View<'_>, is_over: bool) -> GetClosestPeersOk {
        let peers = self.search.closest(view, self.wanted.get());
        let shortage = if peers.len() >= self.asked_for.get() {
            None
        } else if peers.len() >= self.wanted.get() {
            Some(Shortage::Limit { limit: self.wanted.get() })
        } else if is_over {
            Some(Shortage::NoMorePeers { failed: self.search.num_failed() })
        } else {
            Some(Shortage::Finished)
        };
        let (key, path) = (self.search.preimage().to_vec(), self.search.path());
        GetClosestPeersOk { key, peers, path, shortage }
    }
}

impl Machine for FindPeers {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step {
        match self.search.next(now, view, 0) {
            Want::Ask(ask) => Step::Ask(ask),
            Want::Wait(until) => Step::Wait(until),
            Want::Done if !self.search.has_answers() => {
                let (key, fates) = (self.search.preimage().to_vec(), self.search.fates(view));
                Step::Done(QueryResult::GetClosestPeers(Err(GetClosestPeersError::NoAnswer { key, fates })))
            }
            Want::Done => Step::Done(QueryResult::GetClosestPeers(Ok(self.result(view, true)))),
        }
    }

    fn answered(&mut self, now: Instant, from: &PeerId, _: u16, answer: Answer) {
        self.search.answered(now, from, answer);
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        self.search.failed(from, error);
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        let ok = self.result(view, false);
        QueryResult::GetClosestPeers(match why {
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                let GetClosestPeersOk { key, peers, .. } = ok;
                Err(GetClosestPeersError::Query { cause: why.cause(), key, peers })
            }
            End::Enough => Ok(ok),
        })
    }

    fn info(&self, step: ProgressStep) -> QueryInfo {
        QueryInfo::GetClosestPeers { key: self.search.preimage().to_vec(), num_results: self.wanted, step }
    }

    fn count(&self, stats: &mut QueryStats) {
        self.search.count(stats);
    }
}
