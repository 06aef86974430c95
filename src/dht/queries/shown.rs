//! What is seen of queries: of those that run, and of those that have ended until the driver has taken their last event.
//!
//! Changes nothing of them.

use super::{Asker, Last, Queries, Query};
use crate::event::{QueryId, QueryInfo, QueryStats};

impl Queries {
    /// Iterates over the queries of the application that run, and those that have ended while their last event is still to be
    /// taken.
    pub(in crate::dht) fn iter(&self) -> impl Iterator<Item = QueryRef> {
        let visible = self.pool.iter().filter(|(_, query)| query.asker == Asker::Application);
        visible.map(|(id, query)| query.seen(id)).chain(self.ended.values().cloned())
    }

    /// Returns a query of the application that runs, or whose last event is still to be taken.
    pub(in crate::dht) fn get(&self, id: QueryId) -> Option<QueryRef> {
        let query = self.pool.get(id).filter(|query| query.asker == Asker::Application);
        query.map(|query| query.seen(id)).or_else(|| self.ended.get(&id).cloned())
    }

    /// The driver has taken the last event of a query.
    pub(in crate::dht) fn last_was_taken(&mut self, id: QueryId) {
        match self.pool.get_mut(id) {
            Some(query) => query.last = Last::Taken,
            None => drop(self.ended.remove(&id)),
        }
    }
}

impl Query {
    pub(super) fn seen(&self, id: QueryId) -> QueryRef {
        QueryRef { id, info: self.operation.state().info(self.step), stats: self.stats() }
    }
}

/// A query that runs, as it was when it was asked for.
#[derive(Clone, Debug)]
pub struct QueryRef {
    id: QueryId,
    info: QueryInfo,
    stats: QueryStats,
}

impl QueryRef {
    pub(super) const fn new(id: QueryId, info: QueryInfo, stats: QueryStats) -> Self {
        Self { id, info, stats }
    }

    /// Returns the number of the query.
    pub const fn id(&self) -> QueryId {
        self.id
    }

    /// Returns what the query is about and how far it is.
    pub const fn info(&self) -> &QueryInfo {
        &self.info
    }

    /// Returns what the query has cost so far.
    pub const fn stats(&self) -> &QueryStats {
        &self.stats
    }
}
