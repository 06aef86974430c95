//! Finds the closest peers to a key.

use libp2p_identity::PeerId;
use std::num::NonZeroUsize;

use super::search::{Search, Want};
use super::{Answer, End, Machine, Step, View};
use crate::error::{GetClosestPeersError, RequestError};
use crate::event::{GetClosestPeersOk, ProgressStep, QueryInfo, QueryResult, QueryStats, Shortage};
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
    pub(in crate::dht) const fn new(search: Search, asked_for: NonZeroUsize, wanted: NonZeroUsize) -> Self {
        Self { search, asked_for, wanted }
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
            End::Timeout | End::Cancelled => {
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
