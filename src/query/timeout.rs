//! Soft timeouts: how long a slow peer is awaited before the next one is asked.
//!
//! Knows durations and counts; whom they concern is the lookup's affair.

use super::silence::TailQuantile;
use crate::time::Duration;

/// The soft timeout of a request: how long its peer is awaited before the next one is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftTimeout {
    /// Over a connection.
    pub(crate) connected: Duration,
    /// Without one, the dial included.
    pub(crate) dialled: Duration,
}

impl SoftTimeout {
    pub(super) const fn of(self, connected: bool) -> Duration {
        if connected { self.connected } else { self.dialled }
    }
}

/// The phase of a lookup in which it asks a peer: how long it pays to wait differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// On the way to the target: another peer would do as well.
    Hopping,
    /// Among the closest, each of which is to answer.
    Closing(TailQuantile),
}
