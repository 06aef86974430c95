//! The lookup: finds the peers closest to a key by asking ever closer ones.
//!
//! Knows keys, peer ids, what was asked and what came of it. Does not know addresses, connections or messages.

mod candidate;

use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::silence::{OVERDUE, SilenceEvidence, TailQuantile};
use super::timeout::{Phase, SoftTimeout, TailPolicy};
use crate::config::Parallelism;
use crate::key::{BucketIndex, Distance, Key};
use crate::time::{Duration, Instant, Moment, after};

pub(crate) use candidate::Near;
use candidate::{Candidate, CandidateState, RequestSlot, Waiting};

/// How many candidates a lookup keeps; of more, the farthest that were not asked are dropped. Chosen, not measured: 25 full
/// answers that name no peer twice.
const MAX_CANDIDATES: usize = 512;

/// So many more than are wanted an exact lookup asks at once in the end, at most, if as many are likely to be silent. Chosen;
/// `tests/sim/golden/silent-10000.txt` holds what it costs.
const MAX_SPARE: usize = 2;

/// For so long a peer is awaited at most because others are overdue: a usual round trip on the Internet. Chosen;
/// `tests/sim/golden/link-turns-slow.txt` and `silenced.txt` hold what comes of it.
const PATIENT: Duration = Duration::from_millis(100);

/// The rules of a lookup: how many are wanted, and how it goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How many peers are wanted: the window in which candidates are asked.
    pub(crate) wanted: usize,
    /// How many of the closest must have answered. All that are wanted make the lookup *exact*; β make it *near*, which
    /// is enough where the next step is itself the check.
    pub(crate) must_answer: usize,
    pub(crate) parallelism: Parallelism,
    /// The policy of soft timeouts as it was when the lookup began.
    pub(crate) policy: TailPolicy,
}

impl Rules {
    const fn is_exact(&self) -> bool {
        self.must_answer >= self.wanted
    }
}

/// The status of a peer that a query may ask: how it is reached, and how long it would be awaited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerStatus {
    /// Whether there is a connection.
    pub(crate) connected: bool,
    /// Whether it is to be asked only when no other peer is left.
    pub(crate) deferred: bool,
    /// Whether a request to it may wait for a place in this node, so that its silence says nothing.
    pub(crate) queued: bool,
    /// How long it is awaited before the next one is asked.
    pub(crate) soft_timeout: SoftTimeout,
}

/// The function that returns the status of a peer, as it is in a phase of the lookup.
pub(crate) type StatusFn<'a> = dyn Fn(&PeerId, Phase) -> PeerStatus + 'a;

/// The place in this node that a request needs before anything is done towards its peer: a dial, or one of those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits for one.
    Awaited,
    /// It has one: its peer's time begins.
    Taken,
    /// It has one, and goes on so much later than it could: this node is late.
    Delayed(Duration),
}

/// The next step of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This peer is to be asked; if nothing comes of it by the time, another will be.
    Ask(PeerId, Instant),
    /// Nothing before something happens or the deadline comes.
    Wait,
    /// It has ended.
    Done,
}

/// The counters of one lookup.
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
/// Which candidate is asked next, and when it has ended. There are no rounds: whenever a slot is free, the closest candidate
/// that was not asked gets it, among the closest `wanted` that have neither failed nor are overdue. Among candidates of the
/// same distance bucket those with a connection go first.
///
/// # A candidate's states
/// ```text
///              asked             soft timeout
///  Unasked -----------> Waiting --------------> Late
///     |                 ^  |  |                  |  |
///     | asked     begun |  |  |                  |  |
///     +------> Queued --+  |  |                  |  |
///                answered  |  |  failed          |  |
///                          v  v                  v  v
///                    Answered  Failed      Answered  Failed
/// ```
/// A request is queued while it waits for a place in this node: that is nobody's silence, and no time of its peer's.
///
/// # Inputs
/// [`learn`](Self::learn) of candidates; [`place`](Self::place), [`answered`](Self::answered) and
/// [`failed`](Self::failed) of those that were asked.
///
/// # Outputs
/// [`next`](Self::next), to be called until it wants nothing more; [`deadline`](Self::deadline).
///
/// # What time does
/// Peers are awaited up to when all that has arrived was looked at: what waits in this node may be their answers. A soft timeout
/// frees the slot of a request and, if parallelism is adaptive, adds one. Overdue peers never hold a
/// lookup back that has its answers; if no other peer is left, it waits for them for as long again as the soft timeout
/// was, or until they fail if none has answered at all. Once the closest has answered, it is decided anew with each answer
/// and each quarter of a soft timeout which peers are overdue: slow ones are awaited again, and the more are silent, the
/// sooner they are given up.
///
/// # End
/// The closest `must_answer` peers that have neither failed nor are overdue have answered; or no peer is left to ask.
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
    /// When it was found out who is overdue, among the closest or not, if nothing has happened to it since.
    expired_at: Option<(Instant, bool)>,
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
            expired_at: None,
        }
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns whether a request is outstanding: neither answered nor failed, late or not.
    pub(crate) fn has_outstanding(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// Adds candidates that `from` has named, or that were known from the start. Those that are known are left as they
    /// are, whatever had become of them.
    pub(crate) fn learn(&mut self, from: Option<&PeerId>, peers: impl IntoIterator<Item = (Key, PeerId)>) {
        self.expired_at = None;
        let from = from.and_then(|peer| self.get(peer));
        let (depth, via) = from.map_or((0, 0), |from| (from.depth, from.distance.high_bits()));
        let depth = depth + 1;
        for (key, peer) in peers {
            let distance = self.target.distance(&key);
            let place = self
                .candidates
                .binary_search_by(|known| known.distance.cmp(&distance).then_with(|| known.peer.cmp(&peer)));
            if let Err(at) = place {
                self.candidates
                    .insert(at, Candidate { distance, peer, state: CandidateState::Unasked, depth, via });
            }
        }
        if self.candidates.len() > MAX_CANDIDATES {
            let mut excess = self.candidates.len() - MAX_CANDIDATES;
            let mut index = self.candidates.len();
            self.candidates.reverse();
            self.candidates.retain(|candidate| {
                index -= 1;
                let drop =
                    excess > 0 && candidate.state == CandidateState::Unasked && index >= self.rules.wanted;
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

    /// Returns whether a candidate was asked, whatever has become of that.
    pub(crate) fn has_asked(&self, peer: &PeerId) -> bool {
        self.get(peer).is_some_and(|candidate| candidate.state != CandidateState::Unasked)
    }

    /// The request to a peer waits for its place, or has got it.
    pub(crate) fn place(&mut self, now: Instant, peer: &PeerId, place: Place) {
        self.expired_at = None;
        let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.peer == *peer) else {
            return;
        };
        let CandidateState::Asked(waiting) = &mut candidate.state else {
            return;
        };
        match place {
            Place::Awaited => waiting.is_queued = true,
            Place::Taken => {
                if std::mem::take(&mut waiting.is_queued) && !waiting.is_late {
                    waiting.begin(now);
                }
            }
            Place::Delayed(by) => waiting.begin(after(waiting.since, by)),
        }
    }

    /// A peer has answered a request of this lookup, late or in time.
    pub(crate) fn answered(&mut self, peer: &PeerId) {
        self.settle(peer, CandidateState::Answered);
        self.counts.answered += 1;
    }

    /// A request of this lookup has failed for good.
    pub(crate) fn failed(&mut self, peer: &PeerId) {
        self.settle(peer, CandidateState::Failed { was_late: false });
        self.counts.failed += 1;
    }

    /// Another path asks the peer, or has asked it: it is not asked again, but counts.
    pub(crate) fn asked_elsewhere(&mut self, since: Instant, peer: &PeerId, soft: Instant) {
        let (usual, slot) = (soft.saturating_duration_since(since), RequestSlot::Free);
        let waiting = Waiting { since, connected: true, usual, soft, is_late: false, is_queued: false, slot };
        self.settle(peer, CandidateState::Asked(waiting));
    }

    /// The peer that another path had asked has answered there; what it named stays there.
    pub(crate) fn answered_elsewhere(&mut self, peer: &PeerId) {
        self.settle(peer, CandidateState::Answered);
    }

    /// The peer that another path had asked has failed there.
    pub(crate) fn failed_elsewhere(&mut self, peer: &PeerId) {
        self.settle(peer, CandidateState::Failed { was_late: false });
    }

    fn settle(&mut self, peer: &PeerId, state: CandidateState) {
        self.expired_at = None;
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.peer == *peer)
            && let CandidateState::Asked(Waiting { slot, is_late, .. }) =
                std::mem::replace(&mut candidate.state, state)
        {
            if let CandidateState::Failed { was_late } = &mut candidate.state {
                *was_late = is_late;
            }
            self.free(slot);
        }
    }

    const fn free(&mut self, slot: RequestSlot) {
        match slot {
            RequestSlot::Regular => self.in_flight -= 1,
            RequestSlot::Burst => self.burst -= 1,
            RequestSlot::Free => {}
        }
    }

    fn get(&self, peer: &PeerId) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.peer == *peer)
    }

    /// The links of this node have changed: whoever was awaited as long as answers took before is awaited as long as they take
    /// now, and taken back if it was given up for that.
    pub(crate) fn links_changed(&mut self, status_of: &StatusFn<'_>) {
        self.expired_at = None;
        for candidate in &mut self.candidates {
            if let CandidateState::Asked(waiting) = &mut candidate.state {
                let soft = status_of(&candidate.peer, Phase::Hopping).soft_timeout.of(waiting.connected);
                waiting.usual = waiting.usual.max(soft);
                waiting.soft = waiting.soft.max(after(waiting.since, soft));
            }
        }
    }

    /// Returns what the lookup wants now. It is asked again after each [`Next::Ask`].
    pub(crate) fn next(&mut self, at: impl Into<Moment>, status_of: &StatusFn<'_>) -> Next {
        let Moment { now, seen } = at.into();
        // Whoever was asked meanwhile is not overdue; but when it was found out, the closest of all may have turned out to be.
        let is_closing = self.is_closing();
        if self.expired_at.replace((seen, is_closing)) != Some((seen, is_closing)) {
            self.expire(seen, is_closing, status_of);
        }
        self.deadline = None;
        if self.has_ended() {
            return Next::Done;
        }
        if let Some((at, slot)) = self.choose(seen, status_of) {
            let closing =
                self.is_closing().then(|| Phase::Closing(self.rules.policy.closing(&self.evidence(seen))));
            let patience = self.patience();
            if let Some(candidate) = self.candidates.get_mut(at) {
                let PeerStatus { connected, soft_timeout, .. } = status_of(&candidate.peer, Phase::Hopping);
                let usual = soft_timeout.of(connected);
                let soft = closing
                    .map_or(usual, |phase| status_of(&candidate.peer, phase).soft_timeout.of(connected));
                let soft = after(now, soft.saturating_mul(patience).min(PATIENT).max(soft));
                let waiting =
                    Waiting { since: now, connected, usual, soft, is_late: false, is_queued: false, slot };
                candidate.state = CandidateState::Asked(waiting);
                match slot {
                    RequestSlot::Burst => self.burst += 1,
                    RequestSlot::Regular | RequestSlot::Free => self.in_flight += 1,
                }
                self.counts.requests += 1;
                return Next::Ask(candidate.peer, soft);
            }
        }
        let soft = self.waiting().filter(|waiting| !waiting.is_late).map(|waiting| waiting.soft).min();
        if let Some(soft) = soft {
            // Among the closest time alone may tell that a peer is overdue, because others are.
            let closing = self.is_closing();
            let quarters =
                self.waiting().filter(|_| closing).filter_map(|waiting| waiting.next_quarter(seen));
            self.deadline = quarters.chain([soft]).min();
            return Next::Wait;
        }
        self.wait_for_late(seen)
    }

    /// How many times as long as usual the next one is awaited, up to a usual round trip: while nobody has answered and four are overdue it
    /// may be this node's own link, and each two more double it, as RFC 6298 §5.5 does for one peer.
    fn patience(&self) -> u32 {
        let late = if self.counts.answered == 0 {
            self.waiting().filter(|waiting| waiting.is_late).count()
        } else {
            0
        };
        if late < 4 { 1 } else { 1 << (late / 2).min(6) }
    }

    fn waiting(&self) -> impl Iterator<Item = Waiting> {
        self.candidates.iter().filter_map(|candidate| match candidate.state {
            CandidateState::Asked(waiting) => Some(waiting),
            CandidateState::Unasked | CandidateState::Answered | CandidateState::Failed { .. } => None,
        })
    }

    /// No peer is left to ask, and only overdue ones are awaited.
    fn wait_for_late(&mut self, now: Instant) -> Next {
        match self.waiting().map(|waiting| waiting.until()).max() {
            None => Next::Done,
            // Until they fail: any answer is better than none.
            Some(_) if !self.candidates.iter().any(|c| c.state == CandidateState::Answered) => Next::Wait,
            Some(until) if until <= now => Next::Done,
            Some(until) => {
                self.deadline = Some(until);
                Next::Wait
            }
        }
    }

    /// Wants so many more peers than before.
    pub(crate) const fn widen(&mut self, more: usize) {
        self.expired_at = None;
        self.rules.wanted += more;
        self.rules.must_answer += more;
    }

    /// Returns when [`next`](Self::next) is to be called though nothing has happened.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Finds the peers that are overdue.
    ///
    /// On the way to the target that was settled when the peer was asked. Among the closest it follows the evidence since:
    /// a peer that was overdue on the way is awaited again, for each of the closest is to answer; and the more are silent, the
    /// less is waited for each.
    fn expire(&mut self, now: Instant, is_closing: bool, status_of: &StatusFn<'_>) {
        let closing = is_closing.then(|| self.evidence(now));
        let policy = self.rules.policy;
        let mut tails = [None::<TailQuantile>; OVERDUE + 1];
        let mut freed = SmallVec::<[RequestSlot; 8]>::new();
        for candidate in &mut self.candidates {
            let CandidateState::Asked(waiting) = &mut candidate.state else {
                continue;
            };
            if let Some(mut evidence) = closing {
                let quarters = waiting.quarters(now).map(|quarters| quarters.min(OVERDUE - 1));
                // What it has done itself says nothing of the others.
                if let Some(count) = quarters.and_then(|at| evidence.overdue.get_mut(at)) {
                    *count -= 1;
                }
                let tail = match tails.get_mut(quarters.map_or(OVERDUE, |at| at)) {
                    Some(known) => *known.get_or_insert_with(|| policy.closing(&evidence)),
                    None => policy.closing(&evidence),
                };
                let soft = status_of(&candidate.peer, Phase::Closing(tail)).soft_timeout;
                waiting.soft = after(waiting.since, soft.of(waiting.connected));
            }
            if waiting.is_queued
                && waiting.soft <= now
                && !waiting.is_late
                && status_of(&candidate.peer, Phase::Hopping).queued
            {
                waiting.begin(now);
            }
            waiting.is_late = waiting.soft <= now;
            if waiting.is_late {
                freed.push(std::mem::replace(&mut waiting.slot, RequestSlot::Free));
            }
        }
        for slot in freed {
            self.free(slot);
            if slot != RequestSlot::Free {
                self.counts.soft_timeouts += 1;
                self.width = (self.width + 1).min(self.rules.parallelism.max());
            }
        }
    }

    fn promising(&self) -> impl Iterator<Item = (usize, &Candidate)> {
        self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_promising())
    }

    /// Whether the closest that are promising have answered, as many as must.
    fn has_ended(&self) -> bool {
        let mut closest = self.promising().take(self.rules.must_answer);
        let answered = closest.by_ref().take_while(|(_, c)| c.state == CandidateState::Answered).count();
        answered == self.rules.must_answer
    }

    /// Whether the closest of all has answered and an exact lookup wants those beside it: from here on each counts.
    fn is_closing(&self) -> bool {
        self.rules.is_exact()
            && self
                .promising()
                .next()
                .is_some_and(|(_, candidate)| candidate.state == CandidateState::Answered)
    }

    /// Returns the position of the candidate to ask now, and what its request counts against.
    fn choose(&self, now: Instant, status_of: &StatusFn<'_>) -> Option<(usize, RequestSlot)> {
        let closing = self.is_closing();
        let window = self.rules.wanted + if closing { self.likely_silent(now) } else { 0 };
        let slot = if self.in_flight < self.width {
            RequestSlot::Regular
        } else if closing && self.burst < window {
            RequestSlot::Burst
        } else {
            return None;
        };
        let mut first: Option<(usize, Option<BucketIndex>)> = None;
        let mut last_resort = None;
        for (at, candidate) in
            self.promising().take(window).filter(|(_, c)| c.state == CandidateState::Unasked)
        {
            let bucket = candidate.distance.bucket();
            if first.is_some_and(|(_, closest)| closest != bucket) {
                break;
            }
            let status = status_of(&candidate.peer, Phase::Hopping);
            if status.deferred {
                last_resort.get_or_insert(at);
            } else if status.connected {
                return Some((at, slot));
            } else {
                first.get_or_insert((at, bucket));
            }
        }
        first.map(|(at, _)| at).or(last_resort).map(|at| (at, slot))
    }

    /// How many of those still to answer are likely not to, by the evidence so far.
    fn likely_silent(&self, now: Instant) -> usize {
        let SilenceEvidence { answered, silent, refused, overdue } = self.evidence(now);
        let silent =
            u32::from(silent) + u32::from(refused) + overdue.iter().copied().map(u32::from).sum::<u32>();
        let settled = u32::from(answered) + silent;
        let closest = self.promising().take(self.rules.wanted);
        let open = u32::try_from(closest.filter(|(_, c)| c.state != CandidateState::Answered).count())
            .unwrap_or(u32::MAX);
        // Rounded to the nearest whole number.
        let likely = (2 * open * silent + settled).checked_div(2 * settled).unwrap_or(0);
        usize::try_from(likely).unwrap_or(MAX_SPARE).min(MAX_SPARE)
    }

    /// The outcomes of the requests so far.
    fn evidence(&self, now: Instant) -> SilenceEvidence {
        let mut evidence = SilenceEvidence::default();
        for candidate in &self.candidates {
            match candidate.state {
                CandidateState::Answered => evidence.answered += 1,
                CandidateState::Failed { was_late: true } => evidence.silent += 1,
                CandidateState::Failed { was_late: false } => evidence.refused += 1,
                CandidateState::Asked(waiting) => {
                    if let Some(quarters) = waiting.quarters(now)
                        && let Some(count) = evidence.overdue.get_mut(quarters.min(OVERDUE - 1))
                    {
                        *count += 1;
                    }
                }
                CandidateState::Unasked => {}
            }
        }
        evidence
    }

    /// Iterates over the peers that have answered, closest first.
    pub(crate) fn closest_answered(&self) -> impl Iterator<Item = (Distance, PeerId)> {
        let answered = self.candidates.iter().filter(|candidate| candidate.state == CandidateState::Answered);
        answered.map(|candidate| (candidate.distance, candidate.peer))
    }

    /// Iterates over the peers that are not known to have failed, asked or not, closest first.
    pub(crate) fn closest_not_failed(&self) -> impl Iterator<Item = (Distance, PeerId)> {
        let alive = self
            .candidates
            .iter()
            .filter(|candidate| !matches!(candidate.state, CandidateState::Failed { .. }));
        alive.map(|candidate| (candidate.distance, candidate.peer))
    }

    /// Iterates over the same, with what is known of each.
    pub(crate) fn near(&self) -> impl Iterator<Item = Near> {
        self.candidates.iter().filter_map(Candidate::near)
    }

    /// Iterates over the peers that are not known to have failed, closest first, with how likely each lives: one that has
    /// answered does, one that is overdue does not, and of the others it is the share of all, the evidence of this lookup
    /// included.
    pub(super) fn living(&self, now: Instant) -> impl Iterator<Item = (Distance, PeerId, f64)> {
        let others = self.rules.policy.live_share(&self.evidence(now));
        self.candidates.iter().filter_map(move |candidate| {
            let living = match candidate.state {
                CandidateState::Answered => 1.0,
                CandidateState::Asked(waiting) if waiting.is_late => 0.0,
                CandidateState::Asked(_) | CandidateState::Unasked => others,
                CandidateState::Failed { .. } => return None,
            };
            Some((candidate.distance, candidate.peer, living))
        })
    }

    /// Returns the peers that have led to the closest one that answered, itself the last: each has named the next.
    pub(crate) fn path(&self) -> Vec<PeerId> {
        let mut path: Vec<PeerId> = Vec::new();
        let mut next = self.candidates.iter().find(|candidate| candidate.state == CandidateState::Answered);
        while let Some(Candidate { peer, via, .. }) = next.filter(|next| !path.contains(&next.peer)) {
            path.push(*peer);
            next =
                self.candidates.iter().find(|candidate| *via != 0 && candidate.distance.high_bits() == *via);
        }
        path.reverse();
        path
    }

    /// Returns how many peers had to be asked one after another to know the closest one that answered.
    pub(crate) fn hops(&self) -> u32 {
        let closest = self.candidates.iter().find(|candidate| candidate.state == CandidateState::Answered);
        closest.map_or(0, |candidate| candidate.depth.into())
    }
}

#[cfg(test)]
pub(in crate::query) mod tests;
