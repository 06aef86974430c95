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
    /// other queries are not.
    #[error("{limit} queries are running, and no more may")]
    TooManyQueries {
        /// How many may run at once.
        limit: usize,
    },
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled,
    /// The swarm is gone. Only a [`Client`](crate::Client) returns it.
    #[error("the swarm is gone, and the node with it")]
    Closed,
    /// Too many calls wait for the swarm to be polled; this one has not left, and nothing of it is tried again. Only a
    /// [`Client`](crate::Client) returns it.
    #[error("1,024 calls wait for the swarm to be polled, and none more may")]
    Busy,
    /// The query's time was up, or the time that [`with_deadline`](crate::Client::with_deadline) gives each call.
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

/// Gives each error of a query the method that tells what it has in common with all.
macro_rules! of_queries {
    ($($error:ident),*) => {$(
        impl super::$error {
            /// Returns why the query failed, if that has nothing to do with what it asks.
            pub const fn query_error(&self) -> Option<QueryError> {
                if let Self::Query { cause, .. } = self { Some(*cause) } else { None }
            }
        }
    )*};
}

of_queries!(
    AddProviderError,
    AskPeerError,
    BootstrapError,
    ConnectError,
    FindPeerError,
    GetClosestPeersError,
    GetProvidersError,
    GetRecordError,
    PingError,
    PutRecordError
);
