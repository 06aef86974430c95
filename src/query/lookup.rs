//! The lookup: finds the peers closest to a key by asking ever closer ones.
//!
//! Knows keys, peer ids, what was asked and what came of it. Does not know addresses, connections or messages.

use libp2p_identity::PeerId;

use super::rtt::Phase;
use crate::config::Parallelism;
use crate::key::{Distance, Key};
use crate::time::{Duration, Instant, after};

/// How many candidates a lookup keeps; of more, the farthest that were not asked are dropped.
const MAX_CANDIDATES: usize = 512;

/// The rules of a lookup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How many peers are wanted: the window in which candidates are asked.
    pub(crate) wanted: usize,
    /// How many of the closest must have answered. All that are wanted make the lookup *exact*; β make it *near*, which
    /// is enough where the next step is itself the check.
    pub(crate) must_answer: usize,
    pub(crate) parallelism: Parallelism,
}

impl Rules {
    const fn is_exact(&self) -> bool {
        self.must_answer >= self.wanted
    }
}

/// What is known of asking a peer, before it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prospect {
    /// Whether there is a connection.
    pub(crate) connected: bool,
    /// How long to wait before the next one is asked.
    pub(crate) soft_timeout: Duration,
}

/// Tells what is known of asking a peer.
pub(crate) type Outlook<'a> = dyn Fn(&PeerId, Phase) -> Prospect + 'a;

/// What a lookup wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This peer is to be asked; if nothing comes of it by the time, another will be.
    Ask(PeerId, Instant),
    /// Nothing before something happens or the deadline comes.
    Wait,
    /// It has ended.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unasked,
    /// Asked and not yet overdue.
    Waiting {
        since: Instant,
        soft: Instant,
        slot: Slot,
    },
    /// Past its soft timeout: nobody waits for it, but its answer still counts. `until` is when patience ends where
    /// nobody else is left.
    Late {
        until: Instant,
    },
    Answered,
    Failed,
}

/// What a request in flight counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// The configured parallelism.
    Regular,
    /// The closing burst.
    Burst,
    /// Nothing here: another path made it.
    Elsewhere,
}

#[derive(Clone, Debug)]
struct Candidate {
    distance: Distance,
    peer: PeerId,
    state: State,
    /// How many peers stand between this node and the candidate: 1 if it was known from the start.
    depth: u16,
}

impl Candidate {
    /// Neither failed nor overdue: what the stop rule and the window count.
    const fn is_promising(&self) -> bool {
        !matches!(self.state, State::Failed | State::Late { .. })
    }
}

/// Numbers of one lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u32,
    pub(crate) answered: u32,
    pub(crate) failed: u32,
    pub(crate) soft_timeouts: u32,
}

/// One iterative lookup, or one of its disjoint paths.
///
/// # What it decides
/// Who is asked next, and when it has ended. There are no rounds: whenever a slot is free, the closest candidate that
/// was not asked gets it, among the closest `wanted` that have neither failed nor are overdue. Among candidates of the
/// same distance bucket those with a connection go first.
///
/// # A candidate's states
/// ```text
///              asked             soft timeout
///  Unasked -----------> Waiting --------------> Late
///                        |   |                  |  |
///              answered  |   |  failed          |  |
///                        v   v                  v  v
///                  Answered  Failed       Answered  Failed
/// ```
///
/// # Inputs
/// [`learn`](Self::learn) of candidates; [`answered`](Self::answered) and [`failed`](Self::failed) of those that were
/// asked.
///
/// # Outputs
/// [`next`](Self::next), to be called until it wants nothing more; [`deadline`](Self::deadline).
///
/// # What time does
/// A soft timeout frees the slot of a request and, if parallelism is adaptive, adds one. Overdue peers never hold a
/// lookup back that has its answers; if nobody else is left, it waits for them for as long again as the soft timeout
/// was, or until they fail if nobody has answered at all.
///
/// # End
/// The closest `must_answer` peers that have neither failed nor are overdue have answered; or nobody is left to ask.
/// An exact lookup asks all that is left of the `wanted` closest at once when the closest of all has answered, and one
/// or two more if as many are likely to be silent.
///
/// # Bounds
/// 512 candidates. In flight: the configured parallelism, and `wanted` + 2 of a closing burst.
///
/// # Spec
/// libp2p kad-dht, "Peer routing"; Maymounkov & Mazières §2.3. What differs: no rounds, and two timeouts instead of one.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    target: Key,
    rules: Rules,
    /// By distance, then by id.
    candidates: Vec<Candidate>,
    /// Requests in flight, those of the closing burst apart.
    in_flight: usize,
    burst: usize,
    width: usize,
    counts: Counts,
    deadline: Option<Instant>,
}

impl Lookup {
    pub(crate) const fn new(target: Key, rules: Rules) -> Self {
        Self {
            target,
            rules,
            candidates: Vec::new(),
            in_flight: 0,
            burst: 0,
            width: rules.parallelism.start(),
            counts: Counts { requests: 0, answered: 0, failed: 0, soft_timeouts: 0 },
            deadline: None,
        }
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds candidates that `from` has named, or that were known from the start. Those that are known are left as they
    /// are, whatever had become of them.
    pub(crate) fn learn(&mut self, from: Option<&PeerId>, peers: impl IntoIterator<Item = (Key, PeerId)>) {
        let depth = from.and_then(|peer| self.get(peer)).map_or(0, |candidate| candidate.depth) + 1;
        for (key, peer) in peers {
            let distance = self.target.distance(&key);
            let place =
                self.candidates.binary_search_by(|known| (known.distance, known.peer).cmp(&(distance, peer)));
            if let Err(at) = place {
                self.candidates.insert(at, Candidate { distance, peer, state: State::Unasked, depth });
            }
        }
        if self.candidates.len() > MAX_CANDIDATES {
            let mut excess = self.candidates.len() - MAX_CANDIDATES;
            let mut index = self.candidates.len();
            self.candidates.reverse();
            self.candidates.retain(|candidate| {
                index -= 1;
                let drop = excess > 0 && candidate.state == State::Unasked && index >= self.rules.wanted;
                excess -= usize::from(drop);
                !drop
            });
            self.candidates.reverse();
        }
    }

    /// Returns whether a peer is a candidate.
    pub(crate) fn knows(&self, peer: &PeerId) -> bool {
        self.get(peer).is_some()
    }

    /// A peer has answered a request of this lookup, late or in time.
    pub(crate) fn answered(&mut self, peer: &PeerId) {
        self.settle(peer, State::Answered);
        self.counts.answered += 1;
    }

    /// A request of this lookup has failed for good.
    pub(crate) fn failed(&mut self, peer: &PeerId) {
        self.settle(peer, State::Failed);
        self.counts.failed += 1;
    }

    /// Another path asks the peer, or has asked it: it is not asked again, but counts.
    pub(crate) fn asked_elsewhere(&mut self, now: Instant, peer: &PeerId, soft: Instant) {
        self.settle(peer, State::Waiting { since: now, soft, slot: Slot::Elsewhere });
    }

    /// The peer that another path had asked has answered there; what it named stays there.
    pub(crate) fn answered_elsewhere(&mut self, peer: &PeerId) {
        self.settle(peer, State::Answered);
    }

    /// The peer that another path had asked has failed there.
    pub(crate) fn failed_elsewhere(&mut self, peer: &PeerId) {
        self.settle(peer, State::Failed);
    }

    fn settle(&mut self, peer: &PeerId, state: State) {
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.peer == *peer)
            && let State::Waiting { slot, .. } = std::mem::replace(&mut candidate.state, state)
        {
            self.free(slot);
        }
    }

    const fn free(&mut self, slot: Slot) {
        match slot {
            Slot::Regular => self.in_flight -= 1,
            Slot::Burst => self.burst -= 1,
            Slot::Elsewhere => {}
        }
    }

    fn get(&self, peer: &PeerId) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.peer == *peer)
    }

    /// Returns what the lookup wants now. It is asked again after each [`Next::Ask`].
    pub(crate) fn next(&mut self, now: Instant, outlook: &Outlook<'_>) -> Next {
        self.expire(now);
        self.deadline = None;
        if self.has_ended() {
            return Next::Done;
        }
        if let Some((at, slot)) = self.choose(outlook) {
            let phase = if self.is_closing() { Phase::Closing } else { Phase::Hopping };
            if let Some(candidate) = self.candidates.get_mut(at) {
                let soft = after(now, outlook(&candidate.peer, phase).soft_timeout);
                candidate.state = State::Waiting { since: now, soft, slot };
                match slot {
                    Slot::Burst => self.burst += 1,
                    Slot::Regular | Slot::Elsewhere => self.in_flight += 1,
                }
                self.counts.requests += 1;
                return Next::Ask(candidate.peer, soft);
            }
        }
        let softs = self.candidates.iter().filter_map(|candidate| match candidate.state {
            State::Waiting { soft, .. } => Some(soft),
            State::Unasked | State::Late { .. } | State::Answered | State::Failed => None,
        });
        if let Some(soft) = softs.min() {
            self.deadline = Some(soft);
            return Next::Wait;
        }
        self.wait_for_late(now)
    }

    /// Nobody is left to ask, and nobody is awaited but those that are overdue.
    fn wait_for_late(&mut self, now: Instant) -> Next {
        let patience = self.candidates.iter().filter_map(|candidate| match candidate.state {
            State::Late { until } => Some(until),
            State::Unasked | State::Waiting { .. } | State::Answered | State::Failed => None,
        });
        match patience.max() {
            None => Next::Done,
            // Until they fail: any answer is better than none.
            Some(_) if !self.candidates.iter().any(|c| c.state == State::Answered) => Next::Wait,
            Some(until) if until <= now => Next::Done,
            Some(until) => {
                self.deadline = Some(until);
                Next::Wait
            }
        }
    }

    /// Returns when [`next`](Self::next) is to be called though nothing has happened.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn expire(&mut self, now: Instant) {
        for at in 0..self.candidates.len() {
            let Some(candidate) = self.candidates.get_mut(at) else {
                break;
            };
            if let State::Waiting { since, soft, slot } = candidate.state
                && soft <= now
            {
                let until = after(soft, soft.saturating_duration_since(since));
                candidate.state = State::Late { until };
                self.free(slot);
                if slot != Slot::Elsewhere {
                    self.counts.soft_timeouts += 1;
                    self.width = (self.width + 1).min(self.rules.parallelism.max());
                }
            }
        }
    }

    fn promising(&self) -> impl Iterator<Item = (usize, &Candidate)> {
        self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_promising())
    }

    /// Whether the closest that are promising have answered, as many as must.
    fn has_ended(&self) -> bool {
        let mut closest = self.promising().take(self.rules.must_answer);
        let answered = closest.by_ref().take_while(|(_, c)| c.state == State::Answered).count();
        answered == self.rules.must_answer
    }

    /// Whether the closest of all has answered: from here on there is nothing to find but what stands beside it.
    fn is_closing(&self) -> bool {
        self.promising().next().is_some_and(|(_, candidate)| candidate.state == State::Answered)
    }

    /// Returns the position of the candidate to ask now, and what its request counts against.
    fn choose(&self, outlook: &Outlook<'_>) -> Option<(usize, Slot)> {
        let closing = self.rules.is_exact() && self.is_closing();
        let window = self.rules.wanted + if closing { self.likely_silent() } else { 0 };
        let slot = if self.in_flight < self.width {
            Slot::Regular
        } else if closing && self.burst < window {
            Slot::Burst
        } else {
            return None;
        };
        let mut unasked = self.promising().take(window).filter(|(_, c)| c.state == State::Unasked);
        let (first, closest) = unasked.next()?;
        if outlook(&closest.peer, Phase::Hopping).connected {
            return Some((first, slot));
        }
        let bucket = closest.distance.bucket();
        let alike = unasked.take_while(|(_, candidate)| candidate.distance.bucket() == bucket);
        let mut connected = alike.filter(|(_, candidate)| outlook(&candidate.peer, Phase::Hopping).connected);
        Some((connected.next().map_or(first, |(at, _)| at), slot))
    }

    /// How many of those still to answer are likely not to, by what was seen so far: none, one or two.
    fn likely_silent(&self) -> usize {
        let (mut silent, mut settled, mut open) = (0usize, 0usize, 0usize);
        for (_, candidate) in self.promising().take(self.rules.wanted) {
            open += usize::from(candidate.state != State::Answered);
        }
        for candidate in &self.candidates {
            match candidate.state {
                State::Failed | State::Late { .. } => {
                    silent += 1;
                    settled += 1;
                }
                State::Answered => settled += 1,
                State::Unasked | State::Waiting { .. } => {}
            }
        }
        // Rounded to the nearest whole number.
        (2 * open * silent + settled).checked_div(2 * settled).unwrap_or(0).min(2)
    }

    /// Iterates over the peers that have answered, closest first.
    pub(crate) fn closest_answered(&self) -> impl Iterator<Item = (Distance, PeerId)> {
        let answered = self.candidates.iter().filter(|candidate| candidate.state == State::Answered);
        answered.map(|candidate| (candidate.distance, candidate.peer))
    }

    /// Iterates over the peers that are not known to have failed, asked or not, closest first.
    pub(crate) fn closest_not_failed(&self) -> impl Iterator<Item = (Distance, PeerId)> {
        let alive = self.candidates.iter().filter(|candidate| candidate.state != State::Failed);
        alive.map(|candidate| (candidate.distance, candidate.peer))
    }

    /// Returns how many peers had to be asked one after another to know the closest one that answered.
    pub(crate) fn hops(&self) -> u32 {
        let closest = self.candidates.iter().find(|candidate| candidate.state == State::Answered);
        closest.map_or(0, |candidate| candidate.depth.into())
    }
}

#[cfg(test)]
pub(in crate::query) mod tests;
