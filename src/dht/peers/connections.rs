//! Connections: those that there are to one peer, and whether anything comes through each.
//!
//! Knows numbers and times; what is sent, and how a peer is dialled, is not its affair.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::super::io::ConnectionId;
use crate::addrs::ConnectionOrigin;
use crate::peer::PackedPeerId;
use crate::time::{Duration, Instant, after};

/// After so long without a sign of life a connection that is kept is checked. NAT gateways are to remember an idle TCP
/// connection for two hours (RFC 5382 §5), yet many forget it within some minutes: chosen, not measured.
const SILENT: Duration = Duration::from_secs(300);

/// Of two nodes that keep their connection the one with the smaller id checks it so much sooner: then the other need not
/// (chosen, not measured).
const SOONER: Duration = Duration::from_secs(15);

/// For so long a check is awaited before the peer is dialled beside the connection: a round trip over any link, and a
/// retransmission (RFC 6298: 1 s at first, doubling).
const CHECKED: Duration = Duration::from_secs(3);

/// After a dial of a peer beside its silent connections there is none for so long, doubling each time (chosen, not measured).
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// When a connection was silent for so long it was not closed by an idle timeout, which swarms set shorter
/// (`libp2p-swarm`: ten seconds). Chosen, not measured.
const IDLE: Duration = Duration::from_secs(30);

/// How often that doubles: up to some ten minutes (chosen, not measured).
const MAX_DOUBLINGS: u8 = 6;

/// With so many connections a peer is not dialled beside them: two that began at the same time may both be dead, and a
/// second attempt is made (chosen, not measured).
const ENOUGH: usize = 4;

/// When which connection of whom is to be looked at.
pub(super) type DueConnections = BTreeSet<(Instant, ConnectionId, PackedPeerId)>;

/// What is to be done about a silent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Ask something on it that any server answers.
    Check,
    /// Turn to another connection, or see whether a new one works.
    TurnAway,
}

/// Whether anything comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LivenessState {
    /// Nothing is awaited.
    Calm,
    /// Something was asked, nothing has been heard since, and nothing need have been until then.
    Awaited(Instant),
    /// A check is under way since then.
    Checked(Instant),
    /// The check made then was not answered either. Another is turned to again at the given time, if anything is asked.
    Doubted { since: Instant, again: Instant, is_asked: bool },
}

/// The liveness of one connection.
///
/// # What it decides
/// When a connection that is open may be dead, and what is done to find out. That it *is* dead shows only when another
/// connection to the peer brings something and it does not.
///
/// # States
/// ```text
///                    asked              soft timeout              3 s
///          Calm --------------> Awaited ------------> Checked ---------> Doubted
///          ^  |                    |                   ^   |             turn away, and again if
///          |  +--- kept, and silent for five minutes --+   |             anything is asked
///          |                       |                       |
///          +------- anything heard +-----------------------+--------------+
/// ```
///
/// # Inputs
/// [`asked`](Self::asked), [`heard`](Self::heard), [`check`](Self::check), [`rest`](Self::rest).
///
/// # Outputs
/// [`on_timeout`](Self::on_timeout).
///
/// # What time does
/// Moves it from left to right. What [`deadline`](Self::deadline) names is used up by [`on_timeout`](Self::on_timeout).
#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    /// When something came through last, or when it began.
    heard: Instant,
    /// Whether anything ever came through.
    is_proven: bool,
    state: LivenessState,
}

impl Liveness {
    const fn new(now: Instant) -> Self {
        Self { heard: now, is_proven: false, state: LivenessState::Calm }
    }

    /// Something was asked, to which the answer comes within `patience` as a rule.
    fn asked(&mut self, now: Instant, patience: Duration) {
        match &mut self.state {
            LivenessState::Calm => self.state = LivenessState::Awaited(after(now, patience)),
            LivenessState::Doubted { again, is_asked, .. } => {
                if !std::mem::replace(is_asked, true) {
                    *again = (*again).max(after(now, patience));
                }
            }
            LivenessState::Awaited(_) | LivenessState::Checked(_) => {}
        }
    }

    /// Something has come through.
    const fn heard(&mut self, now: Instant) {
        *self = Self { heard: now, is_proven: true, state: LivenessState::Calm };
    }

    /// Nothing is asked of the peer at all.
    const fn rest(&mut self, now: Instant) {
        self.heard = now;
        self.state = LivenessState::Calm;
    }

    /// Returns whether something has come through since.
    fn is_heard_since(&self, since: Instant) -> bool {
        self.is_proven && self.heard >= since
    }

    /// Begins a check, whatever the time. Returns whether none was under way.
    const fn check(&mut self, now: Instant) -> bool {
        let begins = matches!(self.state, LivenessState::Calm | LivenessState::Awaited(_));
        if begins {
            self.state = LivenessState::Checked(now);
        }
        begins
    }

    /// Whether nothing has come through though a check was made.
    const fn is_doubted(&self) -> bool {
        matches!(self.state, LivenessState::Doubted { .. })
    }

    /// Whether there is no reason to think that nothing comes through.
    fn is_sound(&self) -> bool {
        matches!(self.state, LivenessState::Calm | LivenessState::Awaited(_))
    }

    /// There was nothing to turn to: that is to be tried again then, which lies ahead, in any case or if anything is asked.
    const fn put_off(&mut self, until: Instant, in_any_case: bool) {
        if let LivenessState::Doubted { again, is_asked, .. } = &mut self.state {
            *again = until;
            *is_asked = in_any_case;
        }
    }

    /// Returns when to call [`on_timeout`](Self::on_timeout). `kept` tells that the connection is kept.
    fn deadline(&self, kept: Option<Kept>) -> Option<Instant> {
        match self.state {
            LivenessState::Calm => kept.map(|kept| after(self.heard.max(kept.since), kept.silent)),
            LivenessState::Awaited(until) => Some(until),
            LivenessState::Checked(since) => Some(after(since, CHECKED)),
            LivenessState::Doubted { again, is_asked, .. } => is_asked.then_some(again),
        }
    }

    fn on_timeout(&mut self, now: Instant, kept: Option<Kept>) -> Option<Act> {
        if self.deadline(kept).is_none_or(|at| at > now) {
            return None;
        }
        match self.state {
            LivenessState::Calm | LivenessState::Awaited(_) => {
                self.state = LivenessState::Checked(now);
                Some(Act::Check)
            }
            LivenessState::Checked(since) | LivenessState::Doubted { since, .. } => {
                self.state = LivenessState::Doubted { since, again: now, is_asked: false };
                Some(Act::TurnAway)
            }
        }
    }
}

/// That a connection is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    since: Instant,
    /// When it was silent for so long it is checked.
    silent: Duration,
}

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// Where its other end is.
    origin: ConnectionOrigin,
    liveness: Liveness,
    /// Whether it was still there after a silence in which others close what is idle: so the peer keeps it, too.
    outlived: bool,
    /// Where it stands in the order of deadlines.
    pub(super) due: Option<Instant>,
}

/// The connections to one peer, the newest last.
///
/// Takes a word of memory while there are none, as there are to most peers.
///
/// # Bounds
/// As many as the swarm lets through.
#[derive(Debug, Default)]
pub(super) struct Connections(Option<Box<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// As a rule there is one.
    all: SmallVec<[Connection; 1]>,
    kept: Option<Kept>,
    /// Before then the peer is not dialled beside them.
    paused_until: Option<Instant>,
    /// How often it was, since anything came through.
    beside: u8,
}

impl Connections {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = ConnectionId> {
        self.0.iter().flat_map(|open| open.all.iter().map(|connection| connection.id))
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.0.as_mut()?.all.iter_mut().find(|connection| connection.id == id)
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.iter().any(|known| known == id)
    }

    pub(super) fn add(&mut self, now: Instant, id: ConnectionId) {
        let open = self.0.get_or_insert_default();
        open.all.push(Connection {
            id,
            origin: ConnectionOrigin::Unknown,
            liveness: Liveness::new(now),
            outlived: false,
            due: None,
        });
    }

    /// It is known where the other end of a connection is.
    pub(super) fn located(&mut self, id: ConnectionId, origin: ConnectionOrigin) {
        if let Some(connection) = self.get_mut(id) {
            connection.origin = origin;
        }
    }

    /// Iterates over where the other ends are, the latest first.
    pub(super) fn origins(&self) -> impl Iterator<Item = &ConnectionOrigin> {
        self.0.iter().flat_map(|open| open.all.iter().rev().map(|connection| &connection.origin))
    }

    /// Removes a connection, and returns it if it was there.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let all = &mut self.0.as_mut()?.all;
        let at = all.iter().position(|connection| connection.id == id)?;
        let removed = all.remove(at);
        all.shrink_to_fit();
        self.0.take_if(|open| open.all.is_empty());
        Some(removed)
    }

    /// Returns whether a connection that ends now was not closed for being idle.
    pub(super) fn ends_unexpectedly(&self, now: Instant, id: ConnectionId) -> bool {
        let all = self.0.iter().flat_map(|open| &open.all);
        let mut ends = all.filter(|connection| connection.id == id);
        ends.any(|connection| {
            connection.outlived || now.saturating_duration_since(connection.liveness.heard) > IDLE
        })
    }

    /// Returns the connection on which to ask: the newest of those that seem to live, for it is the least likely to be
    /// stale.
    pub(super) fn best(&self) -> Option<ConnectionId> {
        let all = &self.0.as_ref()?.all;
        let newest = |is: fn(&Liveness) -> bool| all.iter().rev().find(|connection| is(&connection.liveness));
        let undoubted = || newest(|liveness| !liveness.is_doubted());
        newest(Liveness::is_sound).or_else(undoubted).or_else(|| all.last()).map(|connection| connection.id)
    }

    /// Sets whether the connections are kept, and whether this node is the first of both to check them. Returns whether that
    /// is news.
    pub(super) fn keep(&mut self, now: Instant, keep: bool, is_first: bool) -> bool {
        let Some(open) = self.0.as_mut().filter(|open| open.kept.is_some() != keep) else {
            return false;
        };
        let silent = if is_first { SILENT - SOONER } else { SILENT };
        open.kept = keep.then_some(Kept { since: now, silent });
        true
    }

    pub(super) fn asked(&mut self, now: Instant, id: ConnectionId, patience: Duration) {
        if let Some(connection) = self.get_mut(id) {
            connection.liveness.asked(now, patience);
        }
    }

    /// There was nothing to turn to from a connection: that is to be tried again then, in any case or if anything is asked.
    pub(super) fn try_again_at(&mut self, id: ConnectionId, again: Instant, in_any_case: bool) {
        if let Some(connection) = self.get_mut(id) {
            connection.liveness.put_off(again, in_any_case);
        }
    }

    /// Returns until when the peer is not to be dialled beside its connections, for the last time was not long ago.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        self.0.as_ref()?.paused_until.filter(|until| *until > now)
    }

    /// Returns whether there are so many that another would show nothing.
    pub(super) fn is_enough(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.all.len() >= ENOUGH)
    }

    /// The peer is being dialled beside its connections.
    pub(super) fn dialled_beside(&mut self, now: Instant) {
        if let Some(open) = &mut self.0 {
            open.paused_until = Some(after(now, FIRST_PAUSE.saturating_mul(1 << open.beside)));
            open.beside = (open.beside + 1).min(MAX_DOUBLINGS);
        }
    }

    /// Something has come through a connection. Returns those that are dead, since nothing comes through them.
    pub(super) fn heard(&mut self, now: Instant, id: ConnectionId) -> Vec<ConnectionId> {
        let Some(connection) = self.get_mut(id) else {
            return Vec::new();
        };
        connection.outlived |= now.saturating_duration_since(connection.liveness.heard) > IDLE;
        connection.liveness.heard(now);
        if let Some(open) = &mut self.0 {
            open.paused_until = None;
            open.beside = 0;
        }
        let others = self.0.iter().flat_map(|open| &open.all).filter(|other| other.id != id);
        others.filter(|other| other.liveness.is_doubted()).map(|other| other.id).collect()
    }

    /// Returns whether something may come through any of them.
    pub(super) fn is_any_undoubted(&self) -> bool {
        self.0.iter().flat_map(|open| &open.all).any(|connection| !connection.liveness.is_doubted())
    }

    /// Returns the connections through which nothing comes, as far as is known.
    pub(super) fn doubted(&self) -> impl Iterator<Item = ConnectionId> {
        let all = self.0.iter().flat_map(|open| &open.all);
        all.filter(|connection| connection.liveness.is_doubted()).map(|connection| connection.id)
    }

    /// Returns whether a connection is dead: nothing comes through it, though a check was made, and something has come through
    /// another one since.
    pub(super) fn is_outlived(&self, id: ConnectionId) -> bool {
        let all = self.0.iter().flat_map(|open| &open.all);
        let since =
            all.clone().find(|connection| connection.id == id).and_then(|it| match it.liveness.state {
                LivenessState::Doubted { since, .. } => Some(since),
                LivenessState::Calm | LivenessState::Awaited(_) | LivenessState::Checked(_) => None,
            });
        since.is_some_and(|since| {
            all.clone().any(|other| other.id != id && other.liveness.is_heard_since(since))
        })
    }

    /// Begins a check of the connection on which to ask, if others are doubted and nothing is awaited on it. Returns it.
    pub(super) fn settle(&mut self, now: Instant) -> Option<ConnectionId> {
        self.doubted().next()?;
        let best = self.best()?;
        let liveness = &mut self.get_mut(best)?.liveness;
        (liveness.state == LivenessState::Calm && liveness.check(now)).then_some(best)
    }

    /// Nothing is asked of the peer at all, so that nothing need come through.
    pub(super) fn rest(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.liveness.rest(now);
        }
    }

    /// Begins a check of each connection on which none is under way, and returns them.
    pub(super) fn check(&mut self, now: Instant) -> Vec<ConnectionId> {
        let all = self.0.iter_mut().flat_map(|open| &mut open.all);
        all.filter_map(|connection| connection.liveness.check(now).then_some(connection.id)).collect()
    }

    /// Returns when a connection is to be looked at.
    pub(super) fn deadline(&self, id: ConnectionId) -> Option<Instant> {
        let open = self.0.as_ref()?;
        let connection = open.all.iter().find(|connection| connection.id == id)?;
        connection.liveness.deadline(open.kept)
    }

    /// Sets where a connection stands in the order of deadlines, and returns where it stood; `None` if it is gone.
    pub(super) fn put_off(&mut self, id: ConnectionId, due: Option<Instant>) -> Option<Option<Instant>> {
        self.get_mut(id).map(|connection| std::mem::replace(&mut connection.due, due))
    }

    pub(super) fn due(&self, id: ConnectionId) -> Option<Instant> {
        self.0.iter().flat_map(|open| &open.all).find(|connection| connection.id == id)?.due
    }

    pub(super) fn on_timeout(&mut self, now: Instant, id: ConnectionId) -> Option<Act> {
        let open = self.0.as_mut()?;
        let connection = open.all.iter_mut().find(|connection| connection.id == id)?;
        connection.liveness.on_timeout(now, open.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a connection does when nothing more happens, and after how many seconds each.
    fn acts(liveness: &mut Liveness, kept: bool, from: Instant) -> Vec<(u64, Act)> {
        let (mut acts, kept) = (Vec::new(), kept.then_some(Kept { since: from, silent: SILENT }));
        while let Some(at) = liveness.deadline(kept) {
            let act = liveness.on_timeout(at, kept).expect("what is due is done");
            assert!(liveness.deadline(kept).is_none_or(|next| next > at), "time moves on");
            acts.push((at.duration_since(from).as_secs(), act));
        }
        acts
    }

    #[test]
    fn a_connection_that_does_not_answer_is_checked_and_then_another_is_tried() {
        let mut liveness = Liveness::new(start());
        assert_eq!(acts(&mut liveness, false, start()), [], "nothing was asked");
        liveness.asked(start(), SECOND);
        assert_eq!(acts(&mut liveness, false, start()), [(1, Act::Check), (4, Act::TurnAway)]);
        assert!(liveness.is_doubted() && !liveness.is_sound());
        liveness.put_off(start() + 14 * SECOND, false);
        assert_eq!(acts(&mut liveness, false, start()), [], "nothing is asked");
        liveness.asked(start() + 5 * SECOND, SECOND);
        assert_eq!(acts(&mut liveness, false, start()), [(14, Act::TurnAway)], "not before");
        liveness.asked(start() + 20 * SECOND, SECOND);
        assert_eq!(acts(&mut liveness, false, start()), [(21, Act::TurnAway)], "an answer is awaited first");
        liveness.put_off(start() + 22 * SECOND, true);
        assert_eq!(acts(&mut liveness, false, start()), [(22, Act::TurnAway)], "there was no slot");
        liveness.heard(start() + 40 * SECOND);
        assert!(liveness.is_sound());
        assert_eq!(acts(&mut liveness, false, start()), []);
    }

    #[test]
    fn whatever_is_heard_ends_the_doubt() {
        let mut liveness = Liveness::new(start());
        liveness.asked(start(), SECOND);
        liveness.heard(start() + SECOND / 2);
        assert_eq!(liveness.on_timeout(start() + SECOND, None), None);
        liveness.asked(start() + 2 * SECOND, SECOND);
        assert_eq!(liveness.on_timeout(start() + 3 * SECOND, None), Some(Act::Check));
        liveness.heard(start() + 4 * SECOND);
        assert_eq!(liveness.deadline(None), None);
    }

    #[test]
    fn one_that_is_kept_is_checked_when_it_was_silent_for_five_minutes() {
        let mut liveness = Liveness::new(start());
        liveness.heard(start() + 10 * SECOND);
        assert_eq!(acts(&mut liveness, true, start()), [(310, Act::Check), (313, Act::TurnAway)]);
    }

    #[test]
    fn a_peer_is_dialled_beside_its_connections_ever_more_rarely_until_something_is_heard() {
        let (mut connections, mut now) = (Connections::default(), start());
        connections.add(now, ConnectionId(1));
        for pause in [10, 20, 40, 80, 160, 320, 640, 640] {
            assert_eq!(connections.pause(now), None);
            connections.dialled_beside(now);
            assert_eq!(connections.pause(now), Some(now + pause * SECOND));
            now += pause * SECOND;
        }
        connections.dialled_beside(now);
        connections.heard(now, ConnectionId(1));
        assert_eq!(connections.pause(now), None);
        (2..4).for_each(|n| connections.add(now, ConnectionId(n)));
        assert!(!connections.is_enough());
        connections.add(now, ConnectionId(4));
        assert!(connections.is_enough());
    }

    #[test]
    fn a_connection_is_outlived_by_what_comes_through_another_after_it_was_checked() {
        let (old, new) = (ConnectionId(1), ConnectionId(2));
        for (at, is_dead) in [(0, false), (1, true), (2, true)] {
            let (mut connections, now) = (Connections::default(), start());
            connections.add(now, old);
            connections.add(now + 2 * SECOND, new);
            connections.heard(now + at * SECOND, new);
            assert!(connections.get_mut(old).unwrap().liveness.check(now + SECOND));
            assert!(!connections.is_outlived(old));
            assert_eq!(connections.on_timeout(now + SECOND + CHECKED, old), Some(Act::TurnAway));
            assert_eq!(connections.is_outlived(old), is_dead, "{at}");
        }
        let (mut connections, now) = (Connections::default(), start());
        connections.add(now, old);
        connections.check(now);
        connections.add(now, new);
        connections.on_timeout(now + CHECKED, old);
        assert!(!connections.is_outlived(old), "that there is another shows nothing");
        assert_eq!(
            (connections.settle(now), connections.settle(now)),
            (Some(new), None),
            "it is asked, once"
        );
    }

    #[test]
    fn a_check_is_made_once() {
        let mut liveness = Liveness::new(start());
        assert!(liveness.check(start()) && !liveness.check(start()));
        assert_eq!(liveness.deadline(None), Some(start() + CHECKED));
    }

    #[test]
    fn the_newest_that_lives_is_asked_and_the_dead_are_named_when_it_answers() {
        let mut connections = Connections::default();
        assert!(connections.is_empty() && connections.best().is_none());
        let (old, new) = (ConnectionId(1), ConnectionId(2));
        connections.add(start(), old);
        connections.add(start(), new);
        assert_eq!(connections.best(), Some(new));
        connections.asked(start(), new, SECOND);
        connections.check(start());
        connections.on_timeout(start() + CHECKED, new);
        assert_eq!(connections.heard(start() + CHECKED, old), [new]);
        assert_eq!(connections.best(), Some(old));
        assert!(connections.remove(new).is_some() && connections.remove(new).is_none());
        assert_eq!(connections.heard(start() + CHECKED, old), []);
        connections.remove(old);
        assert!(connections.is_empty() && size_of::<Connections>() == size_of::<usize>());
    }
}
