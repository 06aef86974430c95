//! The fan-out: sends one message to several peers, and counts those that accept it.
//!
//! Knows peer ids and what came of each; neither what is sent nor how.

use std::collections::VecDeque;

use libp2p_identity::PeerId;

use super::lookup::{Place, StatusFn};
use super::timeout::Phase;
use crate::error::RequestError;
use crate::event::QueryStats;
use crate::time::{Duration, FAR, Instant, Moment, after};

/// The outcome of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The request waits for a place in this node; once it begins, the peer is overdue after so long.
    Queued(Duration),
    /// It was asked; it is overdue from this time on.
    Waiting(Instant),
    Accepted,
    Refused,
    Failed(RequestError),
}

impl Fate {
    /// Returns whether it has accepted it, or still may.
    const fn is_hopeful(self) -> bool {
        match self {
            Self::Queued(_) | Self::Waiting(_) | Self::Accepted => true,
            Self::Refused | Self::Failed(_) => false,
        }
    }
}

/// The next step of a fan-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FanoutNext {
    /// Send it to this peer.
    Ask(PeerId),
    /// Nothing before something happens, or until then.
    Wait(Option<Instant>),
    /// It has ended.
    Done,
}

/// The sending of one message to the nearest of some peers.
///
/// # What it decides
/// Which peers it is sent to: as many as are wanted at once, and the next nearest for each that refuses, fails or is overdue,
/// so that as many as are wanted have it in the end; but no more than twice as many. And when it ends.
///
/// # Inputs
/// [`place`](Self::place), [`accepted`](Self::accepted), [`refused`](Self::refused), [`failed`](Self::failed), [`rejected`](Self::rejected);
/// [`extend`](Self::extend) when there are more peers to send it to.
///
/// # Outputs
/// [`next`](Self::next), to be called until it wants nothing more.
///
/// # What time does
/// Makes peers overdue. Their answers still count until the end.
///
/// # End
/// All have answered or failed; or enough have accepted it, and those that have not answered are overdue. Nothing is taken back
/// then: what was sent, or waits for a connection, still arrives.
///
/// # Bounds
/// Twice as many requests as peers are wanted, and those that were added on top.
#[derive(Clone, Debug)]
pub(crate) struct Fanout {
    wanted: usize,
    quorum: usize,
    peers: VecDeque<PeerId>,
    asked: Vec<(PeerId, Fate)>,
}

impl Fanout {
    /// Begins with peers, nearest first: sends it to `wanted` of them, `quorum` of which must accept it.
    pub(crate) fn new(peers: impl IntoIterator<Item = PeerId>, wanted: usize, quorum: usize) -> Self {
        let peers: VecDeque<_> = peers.into_iter().take(2 * wanted).collect();
        Self { wanted, quorum, peers, asked: Vec::new() }
    }

    /// Sends it to these as well, as far as it was not and will not be, before all that wait to take the place of others.
    pub(crate) fn extend(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        let is_asked = |peer: &PeerId| self.asked.iter().any(|(asked, _)| asked == peer);
        let mut all: VecDeque<_> = peers.into_iter().filter(|peer| !is_asked(peer)).collect();
        let (hopeful, more) = (self.asked.iter().filter(|(_, fate)| fate.is_hopeful()).count(), all.len());
        self.wanted = self.wanted.max(hopeful + more);
        all.extend(self.peers.drain(..).filter(|peer| !all.contains(peer)).collect::<Vec<_>>());
        // They are asked however many have failed before.
        all.truncate(more.max((2 * self.wanted).saturating_sub(self.asked.len())));
        self.peers = all;
    }

    pub(crate) fn next(&mut self, at: impl Into<Moment>, status_of: &StatusFn<'_>) -> FanoutNext {
        let Moment { now, seen } = at.into();
        let hopeful = |fate: &Fate| match fate {
            Fate::Waiting(soft) => *soft > seen,
            Fate::Queued(_) | Fate::Accepted => true,
            Fate::Refused | Fate::Failed(_) => false,
        };
        if self.asked.iter().filter(|(_, fate)| hopeful(fate)).count() < self.wanted
            && let Some(peer) = self.peers.pop_front()
        {
            let status = status_of(&peer, Phase::Hopping);
            let usual = status.soft_timeout.of(status.connected);
            // To store takes a little longer than to look up: by half, chosen, not measured.
            self.asked.push((peer, Fate::Waiting(after(now, usual + usual / 2))));
            return FanoutNext::Ask(peer);
        }
        let is_enough = self.num_accepted() >= self.quorum;
        let waiting = self.asked.iter().filter_map(|(_, fate)| match fate {
            Fate::Waiting(soft) => Some(*soft),
            // It begins, or fails; what is enough does not wait for it.
            Fate::Queued(_) if !is_enough => Some(after(now, FAR)),
            Fate::Queued(_) | Fate::Accepted | Fate::Refused | Fate::Failed(_) => None,
        });
        let until = waiting.clone().filter(|soft| *soft > seen).min();
        if waiting.count() == 0 || (until.is_none() && is_enough) {
            return FanoutNext::Done;
        }
        FanoutNext::Wait(until)
    }

    /// Returns whether somebody is awaited who is not overdue, or has not been asked yet.
    pub(crate) fn is_awaiting(&self, at: impl Into<Moment>) -> bool {
        let seen = at.into().seen;
        self.asked.iter().any(|(_, fate)| match fate {
            Fate::Queued(_) => true,
            Fate::Waiting(soft) => *soft > seen,
            Fate::Accepted | Fate::Refused | Fate::Failed(_) => false,
        })
    }

    /// The request to a peer, wanted at `now`, waits for its place, or has got it.
    pub(crate) fn place(&mut self, now: Instant, peer: &PeerId, place: Place) {
        let Some((_, fate)) = self.asked.iter_mut().find(|(known, _)| known == peer) else {
            return;
        };
        match (place, *fate) {
            (Place::Awaited, Fate::Waiting(soft)) => {
                *fate = Fate::Queued(soft.saturating_duration_since(now));
            }
            (Place::Taken, Fate::Queued(usual)) => *fate = Fate::Waiting(after(now, usual)),
            (Place::Delayed(by), Fate::Waiting(soft)) => *fate = Fate::Waiting(after(soft, by)),
            (Place::Awaited | Place::Taken | Place::Delayed(_), _) => {}
        }
    }

    pub(crate) fn accepted(&mut self, peer: &PeerId) {
        self.settle(peer, Fate::Accepted);
    }

    pub(crate) fn refused(&mut self, peer: &PeerId) {
        self.settle(peer, Fate::Refused);
    }

    pub(crate) fn failed(&mut self, peer: &PeerId, error: RequestError) {
        self.settle(peer, Fate::Failed(error));
    }

    /// A peer that was taken to have accepted it has not. Returns whether it was sent to that peer, or is to be.
    pub(crate) fn rejected(&mut self, peer: &PeerId) -> bool {
        let known = self.asked.iter_mut().find(|(known, _)| known == peer);
        known.is_some_and(|(_, fate)| {
            if *fate == Fate::Accepted {
                *fate = Fate::Refused;
            }
            true
        })
    }

    /// Iterates over those to whom it would be sent next.
    pub(crate) fn left(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().copied()
    }

    fn settle(&mut self, peer: &PeerId, fate: Fate) {
        if let Some((_, known)) = self.asked.iter_mut().find(|(known, _)| known == peer)
            && matches!(known, Fate::Waiting(_) | Fate::Queued(_))
        {
            *known = fate;
        }
    }

    /// Returns how many have accepted it.
    pub(crate) fn num_accepted(&self) -> usize {
        self.asked.iter().filter(|(_, fate)| *fate == Fate::Accepted).count()
    }

    /// Adds what it has cost.
    pub(crate) fn count(&self, stats: &mut QueryStats) {
        for (_, fate) in &self.asked {
            stats.requests += 1;
            match fate {
                Fate::Accepted => stats.success += 1,
                Fate::Refused | Fate::Failed(_) => stats.failure += 1,
                Fate::Queued(_) | Fate::Waiting(_) => {}
            }
        }
    }

    /// Iterates over those that were asked, with what became of each.
    pub(crate) fn fates(&self) -> impl Iterator<Item = (PeerId, Fate)> {
        self.asked.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookup::tests::{MS, SOFT, cold, peer};
    use super::*;
    use crate::time::start;

    fn asks(fanout: &mut Fanout, now: Instant) -> Vec<PeerId> {
        std::iter::from_fn(|| match fanout.next(now, &cold) {
            FanoutNext::Ask(peer) => Some(peer),
            FanoutNext::Wait(_) | FanoutNext::Done => None,
        })
        .collect()
    }

    fn peers(range: std::ops::Range<u64>) -> Vec<PeerId> {
        range.map(peer).collect()
    }

    const LATE: crate::time::Duration = SOFT.saturating_mul(3).checked_div(2).unwrap();

    #[test]
    fn all_that_are_wanted_are_asked_at_once() {
        let mut fanout = Fanout::new(peers(0..50), 20, 11);
        assert_eq!(asks(&mut fanout, start()), peers(0..20));
        let wait = FanoutNext::Wait(Some(start() + LATE));
        assert_eq!(fanout.next(start(), &cold), wait);
        for peer in peers(0..19) {
            fanout.accepted(&peer);
            assert_eq!(fanout.next(start() + MS, &cold), wait, "the last one is not given up yet");
        }
        fanout.accepted(&peer(19));
        assert_eq!(fanout.next(start() + MS, &cold), FanoutNext::Done);
        assert_eq!(fanout.num_accepted(), 20);
    }

    #[test]
    fn more_peers_are_asked_than_were_wanted_at_first_and_nobody_twice() {
        let mut fanout = Fanout::new(peers(0..10), 3, usize::MAX);
        assert_eq!(asks(&mut fanout, start()), peers(0..3));
        fanout.failed(&peer(0), RequestError::Unreachable);
        // One is asked already, one waits to take the place of another; those that come are asked before it.
        fanout.extend([1, 4, 20, 21].map(peer));
        assert_eq!(asks(&mut fanout, start()), [4, 20, 21].map(peer));
        fanout.failed(&peer(20), RequestError::Unreachable);
        assert_eq!(asks(&mut fanout, start()), peers(3..4));
        fanout.extend([]);
        assert_eq!(asks(&mut fanout, start()), []);
        // No more than twice as many as are wanted, in all.
        fanout.extend(peers(100..200));
        let asked = asks(&mut fanout, start()).len();
        assert_eq!(asked, 100);
        peers(100..200).iter().for_each(|peer| fanout.failed(peer, RequestError::Unreachable));
        let more = asks(&mut fanout, start()).len();
        assert!(more > 0 && fanout.fates().count() <= 2 * fanout.wanted, "{more}");
        fanout.extend(peers(300..330));
        assert_eq!(asks(&mut fanout, start()), peers(300..330), "though many have failed");
    }

    #[test]
    fn the_next_nearest_takes_the_place_of_one_that_refuses_fails_or_is_slow() {
        let mut fanout = Fanout::new(peers(0..50), 3, 2);
        assert_eq!(asks(&mut fanout, start()), peers(0..3));
        fanout.refused(&peer(0));
        fanout.failed(&peer(1), RequestError::Unreachable);
        assert_eq!(asks(&mut fanout, start()), peers(3..5));
        assert_eq!(fanout.next(start(), &cold), FanoutNext::Wait(Some(start() + LATE)));
        assert_eq!(asks(&mut fanout, start() + LATE), peers(5..6), "six are the most");
        fanout.accepted(&peer(2));
        fanout.accepted(&peer(4));
        fanout.refused(&peer(2));
        let last = start() + LATE + LATE;
        assert_eq!(fanout.next(last, &cold), FanoutNext::Done);
        let pending = fanout.fates().filter(|(_, fate)| matches!(fate, Fate::Waiting(_))).count();
        assert_eq!((fanout.num_accepted(), pending), (2, 2));
    }

    #[test]
    fn without_the_quorum_the_slow_ones_are_awaited_to_the_end() {
        let mut fanout = Fanout::new(peers(0..2), 3, 2);
        assert_eq!(asks(&mut fanout, start()), peers(0..2));
        fanout.accepted(&peer(0));
        let wait = FanoutNext::Wait(None);
        assert_eq!(fanout.next(start() + 100 * LATE, &cold), wait, "the request's own end will come");
        fanout.failed(&peer(1), RequestError::Timeout);
        assert_eq!(fanout.next(start() + 100 * LATE, &cold), FanoutNext::Done);
    }

    #[test]
    fn a_request_that_waits_for_its_place_is_no_silence() {
        let mut fanout = Fanout::new(peers(0..4), 1, 1);
        assert_eq!(asks(&mut fanout, start()), peers(0..1));
        fanout.place(start(), &peer(0), Place::Awaited);
        let FanoutNext::Wait(Some(until)) = fanout.next(start() + 100 * LATE, &cold) else { panic!() };
        assert!(until > start() + 1000 * LATE, "its own end will come");
        let begun = start() + 100 * LATE;
        fanout.place(begun, &peer(0), Place::Taken);
        assert_eq!(fanout.next(begun, &cold), FanoutNext::Wait(Some(begun + LATE)));
        fanout.place(begun, &peer(0), Place::Delayed(LATE));
        assert_eq!(fanout.next(begun, &cold), FanoutNext::Wait(Some(begun + 2 * LATE)));
        assert_eq!(asks(&mut fanout, begun + 2 * LATE), peers(1..2));
    }

    #[test]
    fn nobody_is_done_at_once() {
        assert_eq!(Fanout::new([], 20, 1).next(start(), &cold), FanoutNext::Done);
    }
}
