//! Why a result has less than was asked for.

use std::fmt;

/// A shortage: why a result has less than was asked for. (If time was up, there is an error instead, with what was found.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortage {
    /// There are no more peers: all that are known or were named have been asked.
    NoMorePeers {
        /// So many of them did not answer.
        failed: usize,
    },
    /// More are never searched at once: `k` of the configuration.
    Limit {
        /// How many are.
        limit: usize,
    },
    /// The query was finished before it was done.
    Finished,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMorePeers { failed: 0 } => f.write_str("there are no more peers"),
            Self::NoMorePeers { failed } => {
                write!(f, "there are no more peers, but for {failed} that did not answer")
            }
            Self::Limit { limit } => write!(f, "no more than {limit} are searched at once"),
            Self::Finished => f.write_str("the query was finished before it was done"),
        }
    }
}
