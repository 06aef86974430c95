//! The candidates of a lookup: whom it may ask, whom it has asked, and for how long it waits for them.
//!
//! Knows times and distances; what is done about them is the lookup's affair.

use libp2p_identity::PeerId;

use super::OVERDUE;
use crate::key::Distance;
use crate::time::{Duration, Instant, after};

/// What has become of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CandidateState {
    Unasked,
    /// Asked. Once it is overdue the lookup does not wait for it, but its answer still counts.
    Asked(Waiting),
    Answered,
    /// Whether it was overdue before.
    Failed {
        was_late: bool,
    },
}

/// A request that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) since: Instant,
    /// Whether there was a connection then.
    pub(super) connected: bool,
    /// After so long it is overdue on the way to the target.
    pub(super) usual: Duration,
    /// From then on it is overdue.
    pub(super) soft: Instant,
    pub(super) is_late: bool,
    /// Whether its request waits for a place in this node, and nothing has been done towards the peer.
    pub(super) is_queued: bool,
    pub(super) slot: RequestSlot,
}

impl Waiting {
    /// Its time begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.soft = after(now, self.soft.saturating_duration_since(self.since));
        self.since = now;
    }

    /// Returns by how many quarters of its usual time it has taken longer than that.
    pub(super) fn quarters(&self, now: Instant) -> Option<usize> {
        if self.is_queued {
            return None;
        }
        let over = now.saturating_duration_since(self.since).checked_sub(self.usual)?;
        // A quarter is rounded down to a nanosecond: once it is over it counts, or it would never be.
        let quarters = (over.as_nanos() * 4 + 3).checked_div(self.usual.as_nanos()).unwrap_or(u128::MAX);
        Some(usize::try_from(quarters).unwrap_or(usize::MAX))
    }

    /// Returns when it will have taken one quarter more, as long as that tells anything.
    pub(super) fn next_quarter(&self, now: Instant) -> Option<Instant> {
        if self.is_queued {
            return None;
        }
        let next = self.quarters(now).map_or(0, |quarters| quarters.saturating_add(1));
        let quarters = u32::try_from(next).ok().filter(|_| next < OVERDUE)?;
        Some(after(self.since, self.usual + self.usual * quarters / 4))
    }

    /// Returns when it is given up where no other peer is left: as long after the soft timeout as that was after the request.
    pub(super) fn until(&self) -> Instant {
        after(self.soft, self.soft.saturating_duration_since(self.since))
    }
}

/// The slot that a request in flight takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestSlot {
    /// The configured parallelism.
    Regular,
    /// The closing burst.
    Burst,
    /// Nothing: it has given its slot back, or another path made it.
    Free,
}

/// A peer that a lookup may ask.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) distance: Distance,
    pub(super) peer: PeerId,
    pub(super) state: CandidateState,
    /// How many peers stand between this node and the candidate: 1 if it was known from the start.
    pub(super) depth: u16,
    /// The high bits of the distance of the peer that named it; zero if it was known from the start.
    pub(super) via: u64,
}

/// A peer near the target that is not known to have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Near {
    pub(crate) distance: Distance,
    pub(crate) peer: PeerId,
    pub(crate) has_answered: bool,
    /// Stands for the peer that named it.
    pub(crate) namer: u64,
}

impl Candidate {
    /// Returns what is to be known of it, if it is not known to have failed.
    pub(super) fn near(&self) -> Option<Near> {
        let has_answered = match self.state {
            CandidateState::Failed { .. } => return None,
            CandidateState::Answered => true,
            CandidateState::Unasked | CandidateState::Asked(_) => false,
        };
        Some(Near { distance: self.distance, peer: self.peer, has_answered, namer: self.via })
    }

    /// Neither failed nor overdue: what the stop rule and the window count.
    pub(super) const fn is_promising(&self) -> bool {
        match self.state {
            CandidateState::Unasked | CandidateState::Answered => true,
            CandidateState::Asked(waiting) => !waiting.is_late,
            CandidateState::Failed { .. } => false,
        }
    }
}
