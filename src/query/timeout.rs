//! Soft timeouts: how long a slow peer is awaited before the next one is asked.
//!
//! Knows durations and counts; whom they concern is the lookup's affair.

use super::silence::Patience;
use crate::time::Duration;

/// How long to wait for a peer before the next one is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftTimeout {
    pub(crate) connected: Duration,
    pub(crate) dialled: Duration,
}

impl SoftTimeout {
    pub(super) const fn of(self, connected: bool) -> Duration {
        if connected { self.connected } else { self.dialled }
    }
}

/// What a lookup is about when it asks a peer: how long it pays to wait differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// On the way to the target: another peer would do as well.
    Hopping,
    /// Among the closest, each of which is to answer.
    Closing(Patience),
}
