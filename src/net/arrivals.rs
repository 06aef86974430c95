//! Arrivals: what has come from outside is looked at before what is overdue.
//!
//! Knows counts and how late a deadline is; what arrives, and what is due, is not its affair.

use crate::time::Duration;

/// A deadline is put off by no more than this, however much arrives. Chosen, not measured: a twentieth of what the public network
/// takes for a lookup.
const AT_MOST: Duration = Duration::from_millis(100);

/// The order of what has arrived and what is overdue.
///
/// A swarm polls its behaviours before its connections: when a program comes back from other work, what is overdue would come
/// before the answers that have arrived meanwhile. So a deadline that has come waits for one round of the swarm in which nothing
/// arrives.
///
/// # What time does
/// A deadline that is later than 100 ms has its turn whatever arrives.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    count: u64,
    /// How much had arrived when a deadline was put off last.
    put_off_at: Option<u64>,
}

impl Arrivals {
    /// Something has arrived.
    pub(super) const fn arrived(&mut self) {
        self.count = self.count.wrapping_add(1);
    }

    /// A deadline has come, so long ago. Returns whether it has its turn; if not, the others have theirs first.
    pub(super) fn is_turn(&mut self, late: Duration) -> bool {
        let is_turn = late >= AT_MOST || self.put_off_at == Some(self.count);
        self.put_off_at = (!is_turn).then_some(self.count);
        is_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_waits_for_a_round_in_which_nothing_arrives_but_not_for_long() {
        let (mut arrivals, now) = (Arrivals::default(), Duration::ZERO);
        assert!(!arrivals.is_turn(now), "what has arrived may wait to be told");
        assert!(arrivals.is_turn(now));
        assert!(!arrivals.is_turn(now), "the next one waits, too");
        for _ in 0..100 {
            arrivals.arrived();
            assert!(!arrivals.is_turn(now));
        }
        arrivals.arrived();
        assert!(arrivals.is_turn(AT_MOST));
        assert!(!arrivals.is_turn(now));
    }
}
