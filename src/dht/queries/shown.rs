//! What is seen of queries: of those that run, and of those that have ended until the driver has taken their last event.
//!
//! Changes nothing of them.

use crate::dht::op::QueryInfo;
use crate::event::{QueryId, QueryStats};

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
