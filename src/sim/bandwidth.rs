//! Bandwidth: how long it takes until the bytes of a message are out.
//!
//! Knows node numbers, connections by their numbers, and time; neither what is sent nor what becomes of it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use crate::time::{Duration, Instant};

/// What nodes and connections send, one message after another.
///
/// # What it decides
/// When the last byte of a message has left: first the node, whose messages to all others share its uplink, then the
/// connection, each way by itself. Without a bandwidth that is at once.
///
/// # Bounds
/// One time for each node and connection that is sending, and at most twice as many as were when it last forgot, or 1,024.
#[derive(Debug)]
pub(super) struct Bandwidth {
    uplink: Option<NonZeroU64>,
    connection: Option<NonZeroU64>,
    /// Until when a node sends, and until when on one of its connections.
    busy: BTreeMap<(usize, Option<u64>), Instant>,
    forgets_at: usize,
}

/// So many times are kept at least before those that have passed are forgotten. Chosen, not measured.
const LEAST_KEPT: usize = 1024;

impl Bandwidth {
    /// Limits what nodes and connections send to so many bytes a second.
    pub(super) const fn new(uplink: Option<NonZeroU64>, connection: Option<NonZeroU64>) -> Self {
        Self { uplink, connection, busy: BTreeMap::new(), forgets_at: LEAST_KEPT }
    }

    /// Returns how long it takes until a message of so many bytes that a node sends now is out.
    pub(super) fn send(&mut self, now: Instant, node: usize, connection: u64, bytes: usize) -> Duration {
        let mut out = now;
        for (line, rate) in [(None, self.uplink), (Some(connection), self.connection)] {
            if let Some(rate) = rate {
                let busy = self.busy.entry((node, line)).or_insert(out);
                out = (*busy).max(out) + time(bytes, rate);
                *busy = out;
            }
        }
        if self.busy.len() > self.forgets_at {
            self.busy.retain(|_, busy| *busy > now);
            self.forgets_at = (2 * self.busy.len()).max(LEAST_KEPT);
        }
        out.saturating_duration_since(now)
    }
}

/// Returns how long so many bytes take, to the nanosecond, rounded up.
fn time(bytes: usize, rate: NonZeroU64) -> Duration {
    let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn messages_leave_one_after_another_the_node_first_and_then_the_connection() {
        let now = start();
        let rate = NonZeroU64::new;
        let mut none = Bandwidth::new(None, None);
        assert_eq!(none.send(now, 1, 1, 1_000_000), Duration::ZERO);
        assert!(none.busy.is_empty());
        // A kilobyte takes 10 ms.
        let mut uplink = Bandwidth::new(rate(100_000), None);
        assert_eq!(uplink.send(now, 1, 1, 1000), 10 * MS);
        assert_eq!(uplink.send(now, 1, 2, 500), 15 * MS, "whomever it is for, it waits");
        assert_eq!(uplink.send(now, 2, 1, 500), 5 * MS, "each node has its own");
        assert_eq!(uplink.send(now + 15 * MS, 1, 1, 1000), 10 * MS, "what is out is in nobody's way");
        let mut connection = Bandwidth::new(None, rate(100_000));
        assert_eq!(connection.send(now, 1, 1, 1000), 10 * MS);
        assert_eq!(connection.send(now, 1, 2, 1000), 10 * MS, "each connection has its own");
        assert_eq!(connection.send(now, 2, 1, 1000), 10 * MS, "both ways");
        assert_eq!(connection.send(now, 1, 1, 1000), 20 * MS);
        let mut both = Bandwidth::new(rate(1_000_000), rate(100_000));
        assert_eq!(both.send(now, 1, 1, 1000), 11 * MS);
        assert_eq!(both.send(now, 1, 1, 1000), 21 * MS);
        assert_eq!(both.send(now, 1, 2, 1000), 13 * MS);
        assert_eq!(time(1, NonZeroU64::new(3).unwrap()), Duration::from_nanos(333_333_334));
    }

    #[test]
    fn what_is_out_is_forgotten() {
        let mut all = Bandwidth::new(NonZeroU64::new(1000), NonZeroU64::new(1000));
        for n in 0..10_000 {
            let now = start() + MS * u32::try_from(n).unwrap();
            all.send(now, n, 1, 10);
            assert!(all.busy.len() <= LEAST_KEPT + 2, "{}", all.busy.len());
        }
    }
}
