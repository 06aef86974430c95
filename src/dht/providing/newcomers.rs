//! Newcomers: which peers of a small network have not been told yet what this node provides.
//!
//! Knows the table and the places of keys in the keyspace; how a newcomer is told is not its affair.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use indexmap::IndexMap;
use libp2p_identity::PeerId;

use crate::key::Key;
use crate::record::RecordKey;
use crate::routing::Table;
use crate::time::{Duration, Instant, after, earliest};

/// So many newcomers wait at most; what those beyond are not told they are when it is next announced (chosen, not measured).
const MAX_NEWCOMERS: usize = 256;

/// The same of single keys whose announcement was under way when a newcomer came (chosen, not measured).
const MAX_MISSED: usize = 4096;

/// So many are told at once, so that there is room for the application's queries (chosen, not measured).
const MAX_AT_ONCE: usize = 16;

/// So many keys are looked at with one call; then it rests (chosen, not measured).
const MAX_LOOKED_AT: usize = 256;

/// How long it rests: others have their turn (chosen, not measured).
const REST: Duration = Duration::from_millis(20);

/// A peer that leaves the table and enters it again is told all of it again after this time: it may have begun anew and know
/// nothing, or come and go to keep this node busy (chosen, not measured).
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// A newcomer, and how far the keys have been walked for it.
#[derive(Debug)]
struct KeyWalk {
    to: PeerId,
    key: Key,
    /// What was announced after this is known to it already.
    order: u64,
    at: Bound<(Key, RecordKey)>,
    /// Not before then.
    from: Instant,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextAnnouncement {
    /// Tell this newcomer of this key.
    Tell(PeerId, RecordKey),
    /// Announce this key anew: there are more than `k` peers now, and which are the closest a search has to say.
    Announce(RecordKey),
    /// Nothing before something is over or the deadline comes.
    Wait,
}

/// Walks the keys for each newcomer, while the network is smaller than a bucket.
///
/// # What it decides
/// Whom to tell of what. Where all there are, fewer than `k`, have been told of a key, it need not be announced again before
/// its interval is over; but a newcomer is one of the closest, and is told of it, and no other peer is. As soon as there are
/// more than `k`, all these keys are announced anew, once.
///
/// # Inputs
/// [`announced`](Self::announced) and [`forget`](Self::forget) of each key; [`entered`](Self::entered),
/// [`failed`](Self::failed); [`done`](Self::done) for each that was told.
///
/// # Outputs
/// [`next`](Self::next).
///
/// # What time does
/// It goes on after a rest; and a peer that has come again too soon is told.
///
/// # Bounds
/// One entry for each key that fewer than `k` were told of; 256 newcomers; 4,096 keys that were being announced when a newcomer
/// came; 16 on their way at once; 256 looked at with one call. A peer that comes and goes is told every ten minutes.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    /// The keys that all there were have been told of, in the order of the keyspace, and the order in which that was.
    told: BTreeMap<(Key, RecordKey), u64>,
    walks: VecDeque<KeyWalk>,
    missed: VecDeque<(PeerId, Key, (Key, RecordKey))>,
    /// The peers that were walked for lately, and when that began.
    lately: IndexMap<PeerId, Instant>,
    under_way: usize,
    rests_until: Option<Instant>,
    order: u64,
}

impl Newcomers {
    /// A key was announced to some peers: all there are, or `k` and more.
    pub(super) fn announced(&mut self, place: (Key, RecordKey), to: &[PeerId], table: &Table, k: usize) {
        self.order += 1;
        if to.len() >= k || table.len() > k {
            self.told.remove(&place);
            return;
        }
        // Whoever came meanwhile was not told.
        for entry in table.entries().filter(|entry| entry.is_live() && !to.contains(&entry.peer())) {
            if self.missed.len() < MAX_MISSED {
                self.missed.push_back((entry.peer(), *entry.key(), place.clone()));
            }
        }
        self.told.insert(place, self.order);
    }

    /// A key is not provided any more, or was announced to nobody.
    pub(super) fn forget(&mut self, place: &(Key, RecordKey)) {
        self.told.remove(place);
    }

    /// A peer has entered the table. In a large network it is told when a key is next announced.
    pub(super) fn entered(&mut self, now: Instant, (peer, key): (PeerId, Key), table: &Table, k: usize) {
        self.failed(&peer);
        if table.len() > k {
            self.lately = IndexMap::new();
            return;
        }
        self.order += 1;
        self.lately.retain(|_, at| after(*at, AGAIN_AFTER) > now);
        if self.walks.len() >= MAX_NEWCOMERS || self.lately.len() >= MAX_NEWCOMERS {
            return;
        }
        let from = match self.lately.get(&peer).copied() {
            None => now,
            Some(at) if at >= now => at,
            Some(at) => after(at, AGAIN_AFTER),
        };
        self.lately.insert(peer, from);
        let first = Bound::Included((Key::from_bytes([0; 32]), RecordKey::from(Vec::new())));
        self.walks.push_back(KeyWalk { to: peer, key, order: self.order, at: first, from });
    }

    /// A newcomer cannot be told: it is told nothing more before it comes again.
    pub(super) fn failed(&mut self, peer: &PeerId) {
        self.walks.retain(|walk| walk.to != *peer);
        self.missed.retain(|(to, ..)| to != peer);
    }

    /// A newcomer has been told, or has not.
    pub(super) const fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Nothing is done before then, so that others have their turn.
    pub(super) fn rest(&mut self, now: Instant) {
        self.rests_until = Some(after(now, REST));
    }

    /// Returns what to do now. The [`done`](Self::done) of each newcomer that is told is awaited.
    pub(super) fn next(&mut self, now: Instant, table: &Table, k: usize) -> NextAnnouncement {
        self.rests_until = self.rests_until.filter(|until| *until > now);
        if self.under_way >= MAX_AT_ONCE || self.rests_until.is_some() {
            return NextAnnouncement::Wait;
        }
        if table.len() > k {
            (self.walks, self.missed) = (VecDeque::new(), VecDeque::new());
            return self
                .told
                .pop_first()
                .map_or(NextAnnouncement::Wait, |((_, record), _)| NextAnnouncement::Announce(record));
        }
        while let Some((to, theirs, place)) = self.missed.pop_front() {
            if table.entry(&theirs, &to).is_some() && self.told.contains_key(&place) {
                self.under_way += 1;
                return NextAnnouncement::Tell(to, place.1);
            }
        }
        self.walk(now, table)
    }

    fn walk(&mut self, now: Instant, table: &Table) -> NextAnnouncement {
        let mut left = MAX_LOOKED_AT;
        while let Some(which) = self.walks.iter().position(|walk| walk.from <= now) {
            let Some(walk) = self.walks.get_mut(which) else { break };
            while table.entry(&walk.key, &walk.to).is_some()
                && let Some((place, order)) = self.told.range((walk.at.clone(), Bound::Unbounded)).next()
            {
                if left == 0 {
                    self.rests_until = Some(after(now, REST));
                    return NextAnnouncement::Wait;
                }
                left -= 1;
                walk.at = Bound::Excluded(place.clone());
                if *order < walk.order {
                    self.under_way += 1;
                    return NextAnnouncement::Tell(walk.to, place.1.clone());
                }
            }
            // It has been told of all, or has left again.
            self.walks.remove(which);
        }
        NextAnnouncement::Wait
    }

    /// Returns when it goes on though nothing has happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.under_way >= MAX_AT_ONCE {
            // It goes on when one of them is done.
            return None;
        }
        self.rests_until.or_else(|| {
            self.walks.iter().map(|walk| walk.from).fold(None, |at, from| earliest(at, Some(from)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addrs::Addresses;
    use crate::config::Config;
    use crate::routing::TableConfig;
    use crate::time::start;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(n: u8) -> (PeerId, Key) {
        let id =
            PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[n; 32]).unwrap()).unwrap();
        (id, Key::of_peer(&id, Key::sha256))
    }

    fn place(n: u32) -> (Key, RecordKey) {
        let bytes = n.to_be_bytes();
        (Key::sha256(&bytes), RecordKey::new(&bytes))
    }

    fn table_of(peers: impl IntoIterator<Item = u8>) -> Table {
        let mut table = Table::new(peer(0).1, TableConfig::from(&Config::default()));
        for n in peers {
            let (id, key) = peer(n);
            let addresses = Addresses::collect(&id, ["/memory/1".parse().unwrap()]);
            table.insert(start(), key, id, addresses, crate::addrs::Groups::default());
        }
        table
    }

    /// All that is told from now on, as time goes by.
    fn told(newcomers: &mut Newcomers, now: &mut Instant, table: &Table) -> Vec<(PeerId, RecordKey)> {
        let mut told = Vec::new();
        loop {
            match newcomers.next(*now, table, 20) {
                NextAnnouncement::Tell(to, record) => {
                    told.push((to, record));
                    newcomers.done();
                }
                NextAnnouncement::Announce(record) => panic!("{record:?}"),
                NextAnnouncement::Wait => match newcomers.deadline() {
                    Some(at) if at < *now + SECOND * 60 => *now = at,
                    Some(_) | None => return told,
                },
            }
        }
    }

    #[test]
    fn a_newcomer_is_told_of_all_keys_once_and_nobody_else_of_any() {
        let (mut newcomers, mut now) = (Newcomers::default(), start());
        for n in 0..1000 {
            newcomers.announced(place(n), &[peer(1).0], &table_of([1]), 20);
        }
        assert_eq!(told(&mut newcomers, &mut now, &table_of([1])), []);
        newcomers.entered(now, peer(2), &table_of([1, 2]), 20);
        // What is announced now is announced to it, too.
        newcomers.announced(place(7), &[peer(1).0, peer(2).0], &table_of([1, 2]), 20);
        newcomers.forget(&place(8));
        let all = told(&mut newcomers, &mut now, &table_of([1, 2]));
        assert!(all.iter().all(|(to, _)| *to == peer(2).0));
        let mut keys: Vec<_> = all.into_iter().map(|(_, record)| record).collect();
        keys.sort();
        let mut expected: Vec<_> = (0..1000).filter(|n| !(7..9).contains(n)).map(|n| place(n).1).collect();
        expected.sort();
        assert_eq!(keys, expected);
        assert_eq!(
            (newcomers.deadline(), newcomers.next(now, &table_of([1, 2]), 20)),
            (None, NextAnnouncement::Wait)
        );
    }

    #[test]
    fn who_came_while_a_key_was_being_announced_is_told_of_it() {
        let (mut newcomers, mut now) = (Newcomers::default(), start());
        newcomers.entered(now, peer(2), &table_of([1, 2]), 20);
        assert_eq!(newcomers.next(now, &table_of([1, 2]), 20), NextAnnouncement::Wait);
        newcomers.announced(place(1), &[peer(1).0], &table_of([1, 2]), 20);
        assert_eq!(told(&mut newcomers, &mut now, &table_of([1, 2])), [(peer(2).0, place(1).1)]);
    }

    #[test]
    fn who_comes_and_goes_is_told_every_ten_minutes_at_the_most() {
        let (mut newcomers, mut now) = (Newcomers::default(), start());
        newcomers.announced(place(1), &[peer(1).0], &table_of([1]), 20);
        let mut count = 0;
        for _ in 0..3600 {
            newcomers.entered(now, peer(2), &table_of([1, 2]), 20);
            while let NextAnnouncement::Tell(..) = newcomers.next(now, &table_of([1, 2]), 20) {
                newcomers.done();
                count += 1;
            }
            now += SECOND;
        }
        assert_eq!(count, 6);
        // It is told at last, though it does not come again.
        assert!(newcomers.deadline().is_some_and(|at| at <= now + AGAIN_AFTER));
    }

    #[test]
    fn when_there_are_more_than_k_all_is_announced_once() {
        let (mut newcomers, now) = (Newcomers::default(), start());
        for n in 0..10 {
            newcomers.announced(place(n), &[peer(1).0], &table_of([1]), 5);
        }
        let table = table_of(1..7);
        let mut count = 0;
        while let NextAnnouncement::Announce(record) = newcomers.next(now, &table, 5) {
            let place = (Key::sha256(record.as_ref()), record);
            newcomers.announced(place, &[peer(1).0], &table, 5);
            count += 1;
        }
        assert_eq!((count, newcomers.told.len()), (10, 0));
        // Whoever comes now is none of a few, and nothing is kept of it.
        newcomers.entered(now, peer(7), &table, 5);
        assert_eq!((newcomers.walks.len(), newcomers.lately.capacity()), (0, 0));
    }

    #[test]
    fn whoever_cannot_be_told_or_leaves_is_told_nothing_more() {
        let (mut newcomers, mut now) = (Newcomers::default(), start());
        for n in 0..10 {
            newcomers.announced(place(n), &[peer(1).0], &table_of([1]), 20);
        }
        newcomers.entered(now, peer(2), &table_of([1, 2]), 20);
        newcomers.entered(now, peer(3), &table_of([1, 2, 3]), 20);
        assert!(matches!(newcomers.next(now, &table_of([1, 2]), 20), NextAnnouncement::Tell(..)));
        newcomers.failed(&peer(2).0);
        newcomers.done();
        assert_eq!(told(&mut newcomers, &mut now, &table_of([1, 2])), []);
    }
}
