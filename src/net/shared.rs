//! What the connections of a node share.

use super::budget::{NodeBuffer, Unserved};
use super::timer;
use crate::time::{Duration, Instant, after};
use crate::wire::PeerCache;

/// What may end a little later ends together with the others that do within this time, so that the program is woken once. Chosen,
/// not measured.
const TOGETHER: Duration = Duration::from_millis(250);

/// What the connections of a node share: the room for their answers, the requests that wait for the node, and whom the answers of
/// others have named.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) buffer: NodeBuffer,
    pub(super) unserved: Unserved,
    pub(super) cache: PeerCache,
    /// When the node has begun.
    began: Instant,
}

impl Shared {
    /// Makes what a node's connections share, whose answers hold so many bytes together at most.
    pub(super) fn new(max_buffer: usize) -> Self {
        let (buffer, unserved) = (NodeBuffer::new(max_buffer), Unserved::default());
        Self { buffer, unserved, cache: PeerCache::default(), began: timer::now() }
    }

    /// Returns when a span of time that is not to be exact ends: on all connections of the node at the same times.
    pub(super) fn roughly_after(&self, now: Instant, span: Duration) -> Instant {
        let end = after(now, span);
        let over = end.saturating_duration_since(self.began).as_nanos() % TOGETHER.as_nanos();
        let left = (TOGETHER.as_nanos() - over) % TOGETHER.as_nanos();
        after(end, Duration::from_nanos(u64::try_from(left).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_end_together_and_never_early() {
        let shared = Shared::new(1);
        let second = Duration::from_secs(1);
        let mut ends: Vec<_> = (0..1000u32)
            .map(|n| {
                let now = after(shared.began, n * Duration::from_micros(997));
                let end = shared.roughly_after(now, second);
                assert!(end >= now + second && end < now + second + TOGETHER);
                end
            })
            .collect();
        ends.dedup();
        assert_eq!(ends.len(), 5, "{ends:?}");
    }
}
