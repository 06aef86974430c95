//! Admission: which strangers are asked whether they are servers, before they may enter the table.
//!
//! Knows keys, ids, IP groups and time; how a stranger is asked, and what its answer must be, is the node's affair.

use std::cmp::Reverse;
use std::collections::VecDeque;

use libp2p_identity::PeerId;

use super::table::AdmissionPriority;
use crate::addrs::IpGroup;
use crate::key::Key;
use crate::time::{Duration, Epoch, Instant, Second, after};

/// How many strangers are asked at once; for each that is overdue, one more. Chosen; `tests/sim/golden/joining.txt` holds what
/// it costs.
const MAX_CHECKS: usize = 8;

/// How many strangers wait to be asked, or are being asked, overdue ones included. Chosen, not measured: more than a table
/// usually holds.
const MAX_WAITING: usize = 256;

/// A stranger that has been asked is not asked again before this time: the interval of a refresh. Chosen, not measured.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Of how many strangers it is remembered that they were asked; the earliest is forgotten for one more. Chosen: twice as many
/// as may wait.
const MAX_REMEMBERED: usize = 512;

/// Of how many lanes it is remembered when they had their last turn. Chosen, not measured.
const MAX_LANES: usize = 64;

/// A stranger: a peer that has not proved itself, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) key: Key,
    pub(crate) peer: PeerId,
    pub(crate) priority: AdmissionPriority,
    /// The IP group of its address; all that are in none are one group here.
    pub(crate) group: Option<IpGroup>,
}

/// A lane of fair queueing: one stranger of each is asked in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Named,
    Group(Option<IpGroup>),
}

impl Stranger {
    fn lane(&self) -> Lane {
        if self.priority == AdmissionPriority::Named { Lane::Named } else { Lane::Group(self.group) }
    }
}

/// A stranger that is being asked.
#[derive(Clone, Copy, Debug)]
struct Check {
    peer: PeerId,
    due: Instant,
    is_overdue: bool,
}

/// The admission of strangers to the table: which of them are checked.
///
/// # What it decides
/// A peer enters the table only after it has answered a request of this node. Peers that are asked in the course of a
/// query prove themselves so. This machine picks, among those that just dialled us or were reported, which one is asked
/// outright: each at most once in ten minutes, whether it dials, opens streams or is reported again and again. IP groups take
/// turns, and of one group the stranger that the table would gain most by goes first.
///
/// # A stranger's states
/// ```text
///          offer            next              soft timeout
/// unknown -------> waiting ------> being asked ------------> overdue
///    ^                |                 |                       |
///    +-- displaced ---+                 +-------- done ---------+--> remembered for ten minutes
/// ```
///
/// # Inputs
/// [`offer`](Self::offer) a stranger; [`done`](Self::done) when its check has ended, however late.
///
/// # Outputs
/// [`next`](Self::next): a stranger to check now.
///
/// # What time does
/// A stranger that has not answered by its soft timeout frees its place and, so that many silent ones are soon through,
/// makes room for one more. A stranger may be asked again after a while.
///
/// # Bounds
/// Eight checks at once, and as many more as there are overdue ones; 256 that wait, 256 that are being asked; 512
/// remembered. When there is no room, that of the least priority is displaced in the lane in which most wait: an
/// attacker with many addresses of one group displaces its own. So 136 silent ones are through after four soft timeouts,
/// whatever their priority.
///
/// # Spec
/// `go-libp2p-kad-dht`, "lookup check": FIND_NODE for the peer's own id must return at least one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// In the order in which they came.
    waiting: Vec<Stranger>,
    checks: Vec<Check>,
    /// The lanes that had a turn, the latest last.
    turns: VecDeque<Lane>,
    /// The strangers that were asked, and when, the earliest first.
    asked: VecDeque<(Fingerprint, Second)>,
    epoch: Epoch,
}

/// The fingerprint of an id, which is remembered in its place: the beginning of its hash. To make an id with the fingerprint
/// of another's takes 2^64 attempts, and only delays the check of that one by ten minutes.
type Fingerprint = [u8; 8];

fn fingerprint(peer: &PeerId) -> Fingerprint {
    // Not the key, whose hash is the application's and may be a narrow one.
    Key::of_peer(peer, Key::sha256).as_bytes().first_chunk().copied().unwrap_or_default()
}

impl Admission {
    /// Takes note of a stranger, and returns whether it will be checked.
    pub(crate) fn offer(&mut self, now: Instant, stranger: Stranger) -> bool {
        let peer = stranger.peer;
        let is_open = self.waiting.iter().any(|waiting| waiting.peer == peer)
            || self.checks.iter().any(|check| check.peer == peer);
        if is_open {
            return false;
        }
        self.epoch.begin(now);
        let (fingerprint, second) = (fingerprint(&peer), self.epoch.second(now));
        while self.asked.front().is_some_and(|(_, asked)| second.since(*asked) >= ASK_AGAIN_AFTER) {
            self.asked.pop_front();
        }
        if self.asked.iter().any(|(known, _)| *known == fingerprint) || !self.wait(stranger) {
            return false;
        }
        if self.asked.len() >= MAX_REMEMBERED {
            self.asked.pop_front();
        }
        self.asked.push_back((fingerprint, second));
        true
    }

    /// Lets a stranger wait, and returns whether there is room.
    fn wait(&mut self, stranger: Stranger) -> bool {
        self.waiting.push(stranger);
        if self.waiting.len() <= MAX_WAITING {
            return true;
        }
        let in_lane = |lane: Lane| self.waiting.iter().filter(|waiting| waiting.lane() == lane).count();
        let crowd =
            |(at, waiting): &(usize, &Stranger)| (in_lane(waiting.lane()), Reverse(waiting.priority), *at);
        let displaced = self.waiting.iter().enumerate().max_by_key(crowd).map(|(at, _)| at);
        let displaced = displaced.map(|at| self.waiting.remove(at));
        if let Some(other) = displaced.filter(|other| other.peer != stranger.peer) {
            // It was not asked.
            self.forget(&other.peer);
            return true;
        }
        false
    }

    /// Returns a stranger to check now, if one waits and not too many are being checked; `soft_timeout` says for how long
    /// it has a place.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        soft_timeout: impl Fn(&PeerId) -> Duration,
    ) -> Option<(Key, PeerId)> {
        if self.waiting.is_empty() {
            return None;
        }
        self.handle_timeout(now);
        if !self.has_place() {
            return None;
        }
        let since = |lane: Lane| self.turns.iter().position(|turn| *turn == lane);
        let rank =
            |(at, waiting): &(usize, &Stranger)| (since(waiting.lane()), Reverse(waiting.priority), *at);
        let at = self.waiting.iter().enumerate().min_by_key(rank).map(|(at, _)| at)?;
        let next = self.waiting.remove(at);
        self.turns.retain(|turn| *turn != next.lane());
        self.turns.push_back(next.lane());
        if self.turns.len() > MAX_LANES {
            self.turns.pop_front();
        }
        let due = after(now, soft_timeout(&next.peer));
        self.checks.push(Check { peer: next.peer, due, is_overdue: false });
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        Some((next.key, next.peer))
    }

    /// Another part of the node asks this stranger: if it waits, it does so no more, and is remembered as asked.
    pub(crate) fn withdraw(&mut self, peer: &PeerId) {
        self.waiting.retain(|waiting| waiting.peer != *peer);
    }

    /// Returns how many wait to be asked.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many are being asked.
    pub(crate) const fn being_asked(&self) -> usize {
        self.checks.len()
    }

    fn has_place(&self) -> bool {
        let overdue = self.checks.iter().filter(|check| check.is_overdue).count();
        self.checks.len() - overdue < MAX_CHECKS + overdue && self.checks.len() < MAX_WAITING
    }

    /// Takes their places from those that are silent for too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.checks.iter_mut().for_each(|check| check.is_overdue |= check.due <= now);
    }

    /// Returns when a place becomes free for a stranger that waits, if none answers before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.waiting.is_empty() || self.checks.len() >= MAX_WAITING {
            return None;
        }
        self.checks.iter().filter(|check| !check.is_overdue).map(|check| check.due).min()
    }

    /// Notes that a check has ended, well or badly.
    pub(crate) fn done(&mut self, peer: &PeerId) {
        self.checks.retain(|check| check.peer != *peer);
        if self.checks.is_empty() {
            self.checks = Vec::new();
        }
    }

    /// Lets a stranger be asked again at once: what is known of it has changed.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        let fingerprint = fingerprint(peer);
        self.asked.retain(|(known, _)| *known != fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Distance;
    use crate::routing::table::tests::peer;
    use crate::time::start;

    const SOFT: Duration = Duration::from_secs(1);

    fn key(seed: u64) -> Key {
        Key::of_peer(&peer(seed), Key::sha256)
    }

    fn stranger(seed: u64, room: u8, second_octet: Option<u8>) -> Stranger {
        let group = second_octet.map(|octet| IpGroup::V4([1, octet]));
        Stranger { key: key(seed), peer: peer(seed), priority: AdmissionPriority::Room(room), group }
    }

    fn offer(admission: &mut Admission, now: Instant, seed: u64) -> bool {
        admission.offer(now, stranger(seed, 1, None))
    }

    fn next(admission: &mut Admission, now: Instant) -> Option<PeerId> {
        admission.next(now, |_| SOFT).map(|(key, peer)| {
            assert_eq!(key, Key::of_peer(&peer, Key::sha256));
            peer
        })
    }

    fn all(admission: &mut Admission, now: Instant) -> Vec<PeerId> {
        std::iter::from_fn(|| next(admission, now)).collect()
    }

    #[test]
    fn a_stranger_is_asked_once_in_a_while() {
        let mut admission = Admission::default();
        let now = start();
        assert!(offer(&mut admission, now, 1));
        assert!(!offer(&mut admission, now, 1), "it waits already");
        assert_eq!(next(&mut admission, now), Some(peer(1)));
        assert_eq!(next(&mut admission, now), None);
        assert!(!offer(&mut admission, now + 2 * ASK_AGAIN_AFTER, 1), "it is being asked");
        admission.done(&peer(1));
        assert!(!offer(&mut admission, now + ASK_AGAIN_AFTER / 2, 1), "it was asked");
        assert!(offer(&mut admission, now + ASK_AGAIN_AFTER, 1));
        next(&mut admission, now + ASK_AGAIN_AFTER);
        admission.done(&peer(1));
        admission.forget(&peer(1));
        assert!(offer(&mut admission, now + ASK_AGAIN_AFTER, 1));
    }

    #[test]
    fn a_flood_of_strangers_is_bounded() {
        let (mut admission, mut now) = (Admission::default(), start());
        let offered = (0..10_000).filter(|seed| offer(&mut admission, now, *seed)).count();
        assert_eq!((offered, admission.waiting.len()), (MAX_WAITING, MAX_WAITING));
        assert_eq!(all(&mut admission, now).len(), MAX_CHECKS);
        admission.done(&peer(0));
        assert_eq!(all(&mut admission, now).len(), 1);
        for round in 0..10_000 {
            now += SOFT / 10;
            all(&mut admission, now);
            offer(&mut admission, now, round);
        }
        assert!(admission.checks.len() <= MAX_WAITING && admission.waiting.len() <= MAX_WAITING);
        assert_eq!(admission.deadline(), None, "only an outcome helps");
        assert!(admission.asked.len() <= MAX_REMEMBERED && admission.turns.len() <= MAX_LANES);
    }

    #[test]
    fn the_worthiest_goes_first_and_then_who_came_first() {
        let (mut admission, now) = (Admission::default(), start());
        let near = |seed: u64, distance: &Distance| Stranger {
            priority: AdmissionPriority::Near(Reverse(*distance)),
            ..stranger(seed, 0, None)
        };
        let (close, closer) = (key(1).distance(&key(2)), key(1).distance(&key(1)));
        for stranger in [
            stranger(1, 1, None),
            stranger(2, 20, None),
            stranger(3, 20, None),
            near(4, &close),
            near(5, &closer),
        ] {
            assert!(admission.offer(now, stranger));
        }
        assert_eq!(all(&mut admission, now), [5, 4, 2, 3, 1].map(peer));
    }

    #[test]
    fn groups_take_turns_and_so_does_whom_the_application_has_named() {
        let (mut admission, now) = (Admission::default(), start());
        for seed in 0..6 {
            admission.offer(now, stranger(seed, 20, Some(1)));
        }
        admission.offer(now, stranger(10, 1, Some(2)));
        admission.offer(now, stranger(20, 1, None));
        for seed in [30, 31] {
            admission
                .offer(now, Stranger { priority: AdmissionPriority::Named, ..stranger(seed, 1, Some(1)) });
        }
        assert_eq!(all(&mut admission, now), [30, 0, 10, 20, 31, 1, 2, 3].map(peer));
    }

    #[test]
    fn a_flood_of_one_group_displaces_none_of_another() {
        let (mut admission, now) = (Admission::default(), start());
        assert!(admission.offer(now, stranger(9_000, 1, Some(7))));
        for seed in 0..5_000 {
            admission.offer(now, stranger(seed, 20, Some(1)));
        }
        assert!(admission.offer(now, stranger(9_001, 1, None)), "there is room for another group");
        assert!(!admission.offer(now, stranger(9_002, 1, Some(1))), "not for the least of the flood");
        let first = all(&mut admission, now);
        assert!(first.contains(&peer(9_000)) && first.contains(&peer(9_001)), "{first:?}");
        // Who was displaced was not asked, and may come again.
        let displaced = (0..5_000).find(|seed| admission.offer(now, stranger(*seed, 21, Some(1))));
        assert!(displaced.is_some());
    }

    #[test]
    fn silent_ones_give_way_at_their_soft_timeouts_and_count_when_they_answer_late() {
        let (mut admission, mut now) = (Admission::default(), start());
        for seed in 0..136 {
            assert!(admission.offer(now, stranger(seed, 20, None)));
        }
        assert!(admission.offer(now, stranger(1_000, 1, None)), "after any of them");
        let mut turns = 0;
        while !all(&mut admission, now).contains(&peer(1_000)) {
            let at = admission.deadline().expect("it waits for a place");
            assert!(at > now, "time moves on");
            now = at;
            admission.handle_timeout(now);
            turns += 1;
        }
        assert_eq!((turns, now - start()), (4, 4 * SOFT));
        assert_eq!(admission.deadline(), None, "nobody waits");
        assert!(!offer(&mut admission, now, 0), "its answer is still awaited");
        (0..136).for_each(|seed| admission.done(&peer(seed)));
        assert_eq!(admission.checks.len(), 1);
    }
}
