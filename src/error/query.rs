//! What any query may fail of.

use super::{ClientError, NoKnownPeers};

/// Why a query has ended, or could not begin, for a reason that has nothing to do with what it asks.
///
/// Found in the variant `Query` of the error of each kind of query, beside what the query had reached, and by its method
/// `query_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Neither the routing table has an entry nor is there a seed: nobody can be asked. Add the address of a peer.
    #[error("no peer is known: add the address of one")]
    NoKnownPeers,
    /// As many queries were running as are configured. What this node is to put or to provide is tried again by itself;
    /// other queries are not: try again when others have ended, or configure more with
    /// [`with_max_queries`](crate::Config::with_max_queries).
    #[error("{limit} queries are running, and no more may")]
    TooManyQueries {
        /// How many may run at once.
        limit: usize,
    },
    /// The query was cancelled: by the application, or since what it was for is gone. Ask again if it is still wanted.
    #[error("the query was cancelled")]
    Cancelled,
    /// The swarm is gone, and no call will be carried out any more: use a client of another. Only a
    /// [`Client`](crate::Client) returns it.
    #[error("the swarm is gone, and the node with it")]
    Closed,
    /// Too many calls wait for the swarm to be polled; this one has not left, and nothing of it is tried again. Call
    /// again when the swarm is polled. Only a [`Client`](crate::Client) returns it.
    #[error("1,024 calls wait for the swarm to be polled, and none more may")]
    Busy,
    /// The query's time was up, or the time that [`with_deadline`](crate::Client::with_deadline) gives each call. Ask again,
    /// or give more time, to queries with [`with_query_timeout`](crate::Config::with_query_timeout).
    #[error("the query timed out")]
    Timeout,
}

impl From<ClientError> for QueryError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Closed => Self::Closed,
            ClientError::Busy => Self::Busy,
            ClientError::Timeout => Self::Timeout,
        }
    }
}

impl From<NoKnownPeers> for QueryError {
    fn from(NoKnownPeers(): NoKnownPeers) -> Self {
        Self::NoKnownPeers
    }
}

/// Gives the error of a kind of query the method that tells what it has in common with all.
macro_rules! query_error {
    ($error:ident) => {
        impl $error {
            /// Returns why the query failed, if that has nothing to do with what it asks.
            pub const fn query_error(&self) -> Option<$crate::error::QueryError> {
                if let Self::Query { cause, .. } = self { Some(*cause) } else { None }
            }
        }
    };
}

pub(crate) use query_error;
