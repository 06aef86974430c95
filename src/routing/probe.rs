//! The probe: asks peers of the table that were silent, failed or lost their connection whether they still live.
//!
//! Knows the table's deadlines; what is asked and how it is sent is the node's affair.

use libp2p_identity::PeerId;

use super::table::Table;
use crate::key::Key;
use crate::time::{Duration, Instant, after};

/// How many peers are probed at once: enough for a table of 200 peers within a few seconds, few enough to be no burst. Chosen,
/// not measured.
const MAX_PROBES: usize = 8;

/// A peer that is being probed is not probed again before this time, should its outcome be lost. Chosen, not
/// measured: six request timeouts.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The probing of a [`Table`]: watches its deadlines and says which peer to ask whether it still lives.
///
/// # What it decides
/// Which peer is to be asked next, and when to look again.
///
/// # Inputs
/// [`next`](Self::next) with the table; [`done`](Self::done) for each peer it returned, whatever came of it (the table
/// is told apart from that); [`schedule`](Self::schedule) when the table's deadlines have moved forward.
///
/// # Outputs
/// A peer to probe; [`deadline`](Self::deadline).
///
/// # Bounds
/// Eight probes at once, beside one for each peer whose support for the protocol is doubted. A look at the table costs one pass
/// over its entries, and happens only when a deadline has come.
#[derive(Clone, Debug)]
pub struct Probe {
    in_flight: usize,
    look_at: Option<Instant>,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// Makes a probe that has nothing to do before it is told to [`schedule`](Self::schedule).
    pub const fn new() -> Self {
        Self { in_flight: 0, look_at: None }
    }

    /// Looks at the table not later than `at`: an entry is new, or its deadline has moved forward.
    pub fn schedule(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    /// Does what [`schedule`](Self::schedule) does.
    #[deprecated(since = "0.2.0", note = "`schedule`")]
    #[doc(hidden)]
    pub fn hurry(&mut self, at: Instant) {
        self.schedule(at);
    }

    /// Returns the peer that is overdue longest, and puts its next deadline off; `None` if none is due or enough are
    /// being asked.
    pub fn next(&mut self, now: Instant, table: &mut Table) -> Option<(Key, PeerId)> {
        if self.in_flight >= MAX_PROBES || self.look_at.is_none_or(|at| at > now) {
            return None;
        }
        let first = table.entries().min_by_key(|entry| entry.probe_at());
        self.look_at = first.map(|entry| entry.probe_at());
        let (key, peer) = first.filter(|entry| entry.probe_at() <= now).map(|e| (*e.key(), e.peer()))?;
        table.probe_at(after(now, FORGOTTEN_AFTER), &key, &peer);
        self.in_flight += 1;
        Some((key, peer))
    }

    /// Notes that a peer of the table is asked at once, beside those that are due.
    pub(crate) fn begin(&mut self, now: Instant, table: &mut Table, key: &Key, peer: &PeerId) {
        table.probe_at(after(now, FORGOTTEN_AFTER), key, peer);
        self.in_flight += 1;
    }

    /// Notes that a probe has ended.
    pub fn done(&mut self, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.schedule(now);
    }

    /// Returns how many are being asked.
    pub(crate) const fn being_asked(&self) -> usize {
        self.in_flight
    }

    /// Returns when to call [`next`](Self::next); `None` while nothing is due or enough are being asked.
    pub fn deadline(&self) -> Option<Instant> {
        self.look_at.filter(|_| self.in_flight < MAX_PROBES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::table::tests::{Fixture, peer};
    use crate::routing::{Failed, TableConfig};
    use crate::time::start;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_peer_is_probed_after_the_grace_period_and_not_before() {
        let mut fixture = Fixture::new(TableConfig { grace: 60 * SECOND, ..TableConfig::default() });
        let mut probe = Probe::new();
        let now = start();
        let (key, id) = fixture.add(now, 1);
        probe.schedule(now);
        assert_eq!(probe.next(now, &mut fixture.table), None);
        assert_eq!(probe.deadline(), Some(now + 60 * SECOND));
        let due = now + 60 * SECOND;
        assert_eq!(probe.next(due - SECOND, &mut fixture.table), None);
        assert_eq!(probe.next(due, &mut fixture.table), Some((key, id)));
        assert_eq!(probe.next(due, &mut fixture.table), None, "it is being asked already");
        probe.done(due);
        assert!(fixture.table.answered(due, &key, &id));
        assert_eq!(probe.next(due, &mut fixture.table), None);
        assert_eq!(probe.deadline(), Some(due + 60 * SECOND));
    }

    #[test]
    fn a_failing_peer_is_probed_with_back_off() {
        let mut fixture = Fixture::new(TableConfig::default());
        let now = start();
        let (key, id) = fixture.add(now, 1);
        let mut probe = Probe::new();
        let mut at = now;
        for (failures, wait) in [(1, 2), (2, 4), (3, 8), (4, 16), (5, 32)] {
            assert_eq!(fixture.table.failed(at, &key, &id, true), Failed::Doubted, "nobody else answers");
            assert_eq!(fixture.table.entry(&key, &id).unwrap().failures(), failures);
            probe.schedule(at);
            assert_eq!(probe.next(at, &mut fixture.table), None);
            assert_eq!(probe.deadline(), Some(at + wait * SECOND));
            at += wait * SECOND;
            assert_eq!(probe.next(at, &mut fixture.table), Some((key, id)));
            probe.done(at);
        }
    }

    #[test]
    fn only_so_many_are_probed_at_once() {
        let mut fixture = Fixture::new(TableConfig { grace: SECOND, ..TableConfig::default() });
        let now = start();
        for seed in 1..=20 {
            fixture.add(now, seed);
        }
        let mut probe = Probe::new();
        let due = now + SECOND;
        probe.schedule(due);
        let probed: Vec<_> = std::iter::from_fn(|| probe.next(due, &mut fixture.table)).collect();
        assert_eq!(probed.len(), MAX_PROBES);
        assert_eq!(probe.deadline(), None, "an outcome wakes it, not time");
        probe.done(due);
        assert!(probe.next(due, &mut fixture.table).is_some());
        assert!(!probed.iter().any(|(_, id)| *id == peer(99)));
    }

    #[test]
    fn the_outcome_of_a_probe_may_be_lost() {
        let mut fixture = Fixture::new(TableConfig { grace: SECOND, ..TableConfig::default() });
        let now = start();
        let (key, id) = fixture.add(now, 1);
        let mut probe = Probe::new();
        probe.schedule(now + SECOND);
        assert!(probe.next(now + SECOND, &mut fixture.table).is_some());
        probe.done(now + SECOND);
        let again = now + SECOND + FORGOTTEN_AFTER;
        assert_eq!(probe.next(again - SECOND, &mut fixture.table), None);
        assert_eq!(probe.next(again, &mut fixture.table), Some((key, id)));
    }
}
