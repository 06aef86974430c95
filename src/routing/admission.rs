//! Admission: which strangers are asked whether they are servers, before they may enter the table.
//!
//! Knows keys and ids; how a stranger is asked, and what its answer must be, is the node's affair.

use std::collections::{BTreeSet, VecDeque};

use libp2p_identity::PeerId;

use crate::key::Key;
use crate::time::{Duration, Epoch, Instant, Second};

/// How many strangers are asked at once.
const MAX_CHECKS: usize = 8;

/// How many strangers wait to be asked; one more is not asked at all.
const MAX_WAITING: usize = 128;

/// A stranger that has been asked is not asked again before this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Of how many strangers it is remembered that they were asked; the earliest is forgotten for one more.
const MAX_REMEMBERED: usize = 512;

/// Decides which strangers are checked.
///
/// # What it decides
/// A peer enters the table only after it has answered a request of this node. Peers that are asked in the course of a
/// query prove themselves so. This machine picks, among those that just dialled us or were reported, who is asked
/// outright: each at most once in ten minutes, whether it dials, opens streams or is reported again and again.
///
/// # Inputs
/// [`offer`](Self::offer) a stranger; [`done`](Self::done) when its check has ended.
///
/// # Outputs
/// [`next`](Self::next): a stranger to check now.
///
/// # What time does
/// Lets a stranger be asked again. There is no deadline: only an offer or an outcome gives it something to do.
///
/// # Bounds
/// Eight checks at once, 128 waiting, 512 remembered.
///
/// # Spec
/// `go-libp2p-kad-dht`, "lookup check": FIND_NODE for the peer's own id must return at least one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    waiting: VecDeque<(Key, PeerId)>,
    checking: usize,
    /// Those that wait or are being checked, who need not be offered again.
    open: BTreeSet<PeerId>,
    /// Who was asked, and when, the earliest first.
    asked: VecDeque<(Mark, Second)>,
    epoch: Epoch,
}

/// What is remembered of an id: the beginning of its hash. Whoever makes an id with the mark of another's, which takes 2^64
/// attempts, has that one checked ten minutes later.
type Mark = [u8; 8];

fn mark(peer: &PeerId) -> Mark {
    // Not the key, whose hash is the application's and may be a narrow one.
    Key::of_peer(peer, Key::sha256).as_bytes().first_chunk().copied().unwrap_or_default()
}

impl Admission {
    /// Takes note of a stranger, and returns whether it will be checked.
    pub(crate) fn offer(&mut self, now: Instant, key: Key, peer: PeerId) -> bool {
        if self.open.contains(&peer) || self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.epoch.begin(now);
        let (mark, second) = (mark(&peer), self.epoch.second(now));
        while self.asked.front().is_some_and(|(_, asked)| second.since(*asked) >= ASK_AGAIN_AFTER) {
            self.asked.pop_front();
        }
        if self.asked.iter().any(|(known, _)| *known == mark) {
            return false;
        }
        if self.asked.len() >= MAX_REMEMBERED {
            self.asked.pop_front();
        }
        self.asked.push_back((mark, second));
        self.waiting.push_back((key, peer));
        self.open.insert(peer);
        true
    }

    /// Returns a stranger to check now, if one waits and not too many are being checked.
    pub(crate) fn next(&mut self) -> Option<(Key, PeerId)> {
        if self.checking >= MAX_CHECKS {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.checking += 1;
        Some(next)
    }

    /// Notes that a check has ended, well or badly.
    pub(crate) fn done(&mut self, peer: &PeerId) {
        self.open.remove(peer);
        self.checking = self.checking.saturating_sub(1);
    }

    /// Lets a stranger be asked again at once: what is known of it has changed.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        let mark = mark(peer);
        self.asked.retain(|(known, _)| *known != mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::table::tests::peer;
    use crate::time::start;

    fn key(seed: u64) -> Key {
        Key::of_peer(&peer(seed), Key::sha256)
    }

    #[test]
    fn a_stranger_is_asked_once_in_a_while() {
        let mut admission = Admission::default();
        let now = start();
        assert!(admission.offer(now, key(1), peer(1)));
        assert!(!admission.offer(now, key(1), peer(1)), "it waits already");
        assert_eq!(admission.next(), Some((key(1), peer(1))));
        assert_eq!(admission.next(), None);
        admission.done(&peer(1));
        assert!(!admission.offer(now + ASK_AGAIN_AFTER / 2, key(1), peer(1)), "it was asked");
        assert!(admission.offer(now + ASK_AGAIN_AFTER, key(1), peer(1)));
        admission.next();
        admission.done(&peer(1));
        admission.forget(&peer(1));
        assert!(admission.offer(now + ASK_AGAIN_AFTER, key(1), peer(1)));
    }

    #[test]
    fn a_flood_of_strangers_is_bounded() {
        let mut admission = Admission::default();
        let offered = (0..10_000).filter(|seed| admission.offer(start(), key(*seed), peer(*seed))).count();
        assert_eq!(offered, MAX_WAITING);
        assert_eq!(std::iter::from_fn(|| admission.next()).count(), MAX_CHECKS);
        admission.done(&peer(1));
        assert!(admission.next().is_some() && admission.next().is_none());
        for round in 0..10_000 {
            admission.done(&peer(1));
            while admission.next().is_some() {}
            admission.offer(start(), key(round), peer(round));
        }
        assert!(admission.asked.len() <= MAX_REMEMBERED);
    }
}
