//! Joining: when the node joins the network, and when it joins again.
//!
//! Knows how many peers are known and time; the lookups that make up a join are an operation of the node.

use crate::config::Joining;
use crate::key::BucketIndex;
use crate::rng::Rng;
use crate::time::{Duration, Instant, after};

use super::table::Table;

/// After a join that reached no peer or left the table low the next begins after this time, which doubles each time.
///
/// Short, since nodes of a network that starts all at once see little of each other at first; a network that just is
/// small costs a few requests. Chosen, not measured.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// The longest time between two attempts of a node that is alone or knows few peers: as often as the specification asks for a
/// refresh ("Bootstrap process").
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// Peers that appear together are joined by together: a join waits this long for more of them. Chosen, not measured.
const GATHER_TIME: Duration = Duration::from_millis(50);

/// The schedule by which the node joins, and joins again.
///
/// # What it decides
/// The time of each join.
///
/// # States
/// ```text
///         a peer is known                 began              reached peers
/// Alone -----------------> Due(at) -----------------> Running -----------> Joined
///                           ^   ^                        |                   |
///                           |   +--- no peer answered ---+                   |
///                           |        (2 s, doubling)                         |
///                           +------------ the table is low ------------------+
///                                     (at once, then 2 s, doubling)
/// ```
///
/// # Inputs
/// [`known`](Self::known), [`low`](Self::low), [`began`](Self::began), [`ended`](Self::ended).
///
/// # Outputs
/// [`is_due`](Self::is_due); [`deadline`](Self::deadline).
///
/// # What time does
/// Makes a join due. Waiting times vary by a quarter, so that a network that fell apart does not join in one moment.
///
/// # Bounds
/// One join at a time; waiting times of 10 minutes at most.
#[derive(Clone, Debug)]
pub(crate) struct BootstrapSchedule {
    joining: Joining,
    state: JoinState,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JoinState {
    Alone,
    /// `alone` if no peer has answered yet, so that a new one is a reason not to wait any longer.
    Due {
        at: Instant,
        alone: bool,
    },
    Running,
    Joined,
}

impl BootstrapSchedule {
    pub(crate) const fn new(joining: Joining) -> Self {
        Self { joining, state: JoinState::Alone, failures: 0 }
    }

    /// A seed or a peer of the table has appeared.
    pub(crate) fn known(&mut self, now: Instant) {
        let soon = after(now, GATHER_TIME);
        match self.state {
            JoinState::Alone => self.state = JoinState::Due { at: soon, alone: true },
            JoinState::Due { at, alone: true } => {
                self.state = JoinState::Due { at: at.min(soon), alone: true }
            }
            JoinState::Due { alone: false, .. } | JoinState::Running | JoinState::Joined => {}
        }
    }

    /// The table has become low, though the node had joined.
    pub(crate) fn low(&mut self, now: Instant, rng: &mut Rng) {
        if self.state == JoinState::Joined {
            self.state = JoinState::Due { at: after(now, self.pause(rng)), alone: false };
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// A join has begun, by itself or on request.
    pub(crate) const fn began(&mut self) {
        self.state = JoinState::Running;
    }

    /// A join has ended: whether any peer answered, and whether the table is still low.
    pub(crate) fn ended(&mut self, now: Instant, reached: bool, low: bool, rng: &mut Rng) {
        if reached && !low {
            self.failures = 0;
            self.state = JoinState::Joined;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.state = JoinState::Due { at: after(now, self.pause(rng)), alone: !reached };
    }

    /// Returns the time to wait after as many failures as there were: none after none.
    fn pause(&self, rng: &mut Rng) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        rng.jitter(FIRST_RETRY.saturating_mul(1 << doublings.min(16)).min(LONGEST_RETRY), 25)
    }

    /// Returns whether a join is to begin by itself.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match (self.joining, self.state) {
            (Joining::Automatic, JoinState::Due { at, .. }) => Some(at),
            (Joining::Automatic | Joining::OnRequest, _) => None,
        }
    }
}

/// Returns the buckets to look up after the own id has been: every one farther than the closest neighbour's, nearest
/// first, since those were just seen by the neighbours.
///
/// # Spec
/// Maymounkov & Mazières §2.3. Buckets whose random keys cannot be put on the wire are left out; the neighbours cover
/// them.
pub(crate) fn buckets_to_look_up(table: &Table) -> Vec<BucketIndex> {
    let Some(nearest) = table.closest(table.local()).next() else {
        return Vec::new();
    };
    let depth = table.local().common_prefix(nearest.key()).min(crate::key::MAX_PREIMAGE_PREFIX + 1);
    (0..depth).rev().filter_map(BucketIndex::with_prefix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::TableConfig;
    use crate::routing::table::tests::Fixture;
    use crate::time::start;

    #[test]
    fn it_joins_when_the_first_peer_appears() {
        let mut join = BootstrapSchedule::new(Joining::Automatic);
        assert_eq!(join.deadline(), None);
        join.known(start());
        assert_eq!(join.deadline(), Some(start() + GATHER_TIME));
        assert!(!join.is_due(start()) && join.is_due(start() + GATHER_TIME));
        join.began();
        assert_eq!(join.state, JoinState::Running);
        assert_eq!(join.deadline(), None);
        join.ended(start() + GATHER_TIME, true, false, &mut Rng::from_u64(1));
        assert_eq!(join.deadline(), None);
    }

    #[test]
    fn while_alone_it_tries_again_with_back_off() {
        let mut rng = Rng::from_u64(1);
        let mut join = BootstrapSchedule::new(Joining::Automatic);
        let mut now = start();
        join.known(now);
        let mut waits = Vec::new();
        for _ in 0..14 {
            now = join.deadline().unwrap();
            join.began();
            join.ended(now, false, true, &mut rng);
            waits.push(join.deadline().unwrap() - now);
        }
        let seconds: Vec<_> = waits.iter().map(Duration::as_secs_f64).collect();
        assert!((1.5..=2.5).contains(&seconds[0]) && (3.0..=5.0).contains(&seconds[1]), "{seconds:?}");
        assert!(seconds.iter().all(|wait| *wait <= 750.0));
        assert!(seconds[13] >= 450.0, "{seconds:?}");
        // A new peer cuts the wait short.
        join.known(now);
        assert_eq!(join.deadline(), Some(now + GATHER_TIME));
    }

    #[test]
    fn a_low_table_is_a_reason_to_join_again() {
        let mut rng = Rng::from_u64(1);
        let mut join = BootstrapSchedule::new(Joining::Automatic);
        let now = start();
        join.low(now, &mut rng);
        assert_eq!(join.deadline(), None, "nobody to ask");
        join.known(now);
        join.began();
        join.ended(now, true, false, &mut rng);
        join.low(now, &mut rng);
        assert_eq!(join.deadline(), Some(now), "at once the first time");
        join.began();
        join.ended(now, true, true, &mut rng);
        let wait = join.deadline().unwrap() - now;
        assert!(wait >= Duration::from_secs(3), "the network is small: {wait:?}");
    }

    #[test]
    fn on_request_means_on_request() {
        let mut join = BootstrapSchedule::new(Joining::OnRequest);
        join.known(start());
        assert_eq!(join.deadline(), None);
        assert!(!join.is_due(start() + LONGEST_RETRY));
    }

    #[test]
    fn every_bucket_farther_than_the_closest_neighbour_is_looked_up() {
        let mut fixture = Fixture::new(TableConfig::default());
        assert_eq!(buckets_to_look_up(&fixture.table), []);
        for seed in 1..300 {
            fixture.add(start(), seed);
        }
        let nearest = fixture.table.buckets().next().unwrap().index();
        let buckets = buckets_to_look_up(&fixture.table);
        assert_eq!(buckets.len(), usize::try_from(nearest.prefix()).unwrap());
        assert!(buckets.iter().all(|bucket| *bucket > nearest));
        assert!(buckets.is_sorted());
    }
}
