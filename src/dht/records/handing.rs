//! Handing over: what a newcomer to the table is sent, as far as this node is the one to send it.
//!
//! Knows the table and the places of records in the keyspace; what is in a record, and how it is sent, is not its affair.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use libp2p_identity::PeerId;

use super::republish::Republish;

use crate::dht::op::machine::Elsewhere;
use crate::key::Key;
use crate::record::RecordKey;
use crate::routing::Table;
use crate::time::{Duration, Instant, after};

/// So many newcomers wait at most; what those beyond lack they get when it is next put anew (chosen, not measured).
const MAX_NEWCOMERS: usize = 256;

/// So many records are handed over at once, so that a newcomer leaves room for the application's queries
/// (chosen, not measured).
const MAX_AT_ONCE: usize = 16;

/// So many records are looked at between two that are handed over; then it rests (chosen, not measured).
const MAX_LOOKED_AT: usize = 256;

/// How long it rests: others have their turn, and thousands of records a second are looked at still (chosen, not measured).
const REST: Duration = Duration::from_millis(20);

/// So many records that a put may send to newcomers wait for what becomes of it; and of so many a newcomer is known to have them
/// before they come. What is beyond may be sent twice, or when it is next put anew (chosen, not measured).
const MAX_AWAITED: usize = 1024;

/// A newcomer, and how far the records have been walked for it.
#[derive(Debug)]
struct RecordWalk {
    to: PeerId,
    key: Key,
    /// Where it goes on.
    at: Bound<(Key, RecordKey)>,
    /// What it has otherwise, of what is to come.
    has: BTreeSet<RecordKey>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextHandOver {
    /// Send this record to this newcomer.
    Send(PeerId, RecordKey),
    /// Nothing before something is over or the deadline comes.
    Wait,
}

/// Walks the records for each newcomer.
///
/// # What it decides
/// Which records a newcomer is sent: those that belong to it now, and of which this node is the closest of those it knows.
///
/// The records are walked in the order of the keyspace. Whether a record belongs to a newcomer follows from the first bits of
/// its place alone, since each comparison of two distances does: where it does not, all that share these bits are passed over
/// at once. So no more are looked at than belong to it, and a few for each bucket.
///
/// Often it is a put that makes a peer a newcomer. What a put sends to it is not sent again, and as long as that is open, since
/// the put searches the closest still, it is awaited.
///
/// # Inputs
/// [`entered`](Self::entered), [`failed`](Self::failed), [`put_is_over`](Self::put_is_over); [`done`](Self::done) for each that
/// was sent.
///
/// # Outputs
/// [`next`](Self::next).
///
/// # What time does
/// It goes on after a rest.
///
/// # Bounds
/// 256 newcomers, the earliest first; 16 records on their way at once; 256 looked at with one call; 1,024 that wait for a put.
///
/// # Spec
/// Maymounkov & Mazières §2.5.
#[derive(Debug, Default)]
pub(super) struct Handing {
    walks: VecDeque<RecordWalk>,
    /// The newcomers to which a record belongs that a put may send them.
    waiting: BTreeMap<RecordKey, Vec<PeerId>>,
    num_waiting: usize,
    /// What a put has not sent them.
    left_out: VecDeque<(PeerId, RecordKey)>,
    under_way: usize,
    rests_until: Option<Instant>,
    /// How many records were looked at.
    looked_at: u64,
}

impl Handing {
    /// A peer has entered the table. If it has done so before, it is begun with anew.
    pub(super) fn entered(&mut self, newcomer: PeerId, key: Key) {
        self.failed(&newcomer);
        if self.walks.len() < MAX_NEWCOMERS {
            let first = Bound::Included((Key::from_bytes([0; 32]), RecordKey::from(Vec::new())));
            self.walks.push_back(RecordWalk { to: newcomer, key, at: first, has: BTreeSet::new() });
        }
    }

    /// A newcomer does not answer: it is sent nothing more.
    pub(super) fn failed(&mut self, newcomer: &PeerId) {
        self.walks.retain(|walk| walk.to != *newcomer);
        self.left_out.retain(|(to, _)| to != newcomer);
    }

    /// A put is over that has sent a record to some peers.
    pub(super) fn put_is_over(&mut self, record: &RecordKey, reached: &[PeerId]) {
        if self.walks.is_empty() && self.waiting.is_empty() {
            return;
        }
        for walk in self.walks.iter_mut().filter(|walk| reached.contains(&walk.to)) {
            if walk.has.len() < MAX_AWAITED {
                walk.has.insert(record.clone());
            }
        }
        let waited = self.waiting.remove(record).unwrap_or_default();
        self.num_waiting -= waited.len();
        let left_out = waited.into_iter().filter(|peer| !reached.contains(peer));
        self.left_out.extend(left_out.map(|peer| (peer, record.clone())));
    }

    /// A put may send a record to a newcomer: what becomes of that is awaited.
    fn wait_for_put(&mut self, to: PeerId, record: RecordKey) {
        if self.num_waiting + self.left_out.len() < MAX_AWAITED {
            self.num_waiting += 1;
            self.waiting.entry(record).or_default().push(to);
        }
    }

    /// Something that was sent has arrived, or has not.
    pub(super) const fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Returns what to send now, to whom, as far as no put does. Its [`done`](Self::done) is awaited.
    pub(super) fn next(
        &mut self,
        now: Instant,
        records: &Republish,
        table: &Table,
        k: usize,
        put: &dyn Fn(&PeerId, &RecordKey) -> Elsewhere,
    ) -> NextHandOver {
        self.rests_until = self.rests_until.filter(|until| *until > now);
        if self.under_way >= MAX_AT_ONCE || self.rests_until.is_some() {
            return NextHandOver::Wait;
        }
        let mut left = MAX_LOOKED_AT;
        while let Some((to, record)) = self.next_that_belongs(&mut left, records, table, k) {
            match put(&to, &record) {
                Elsewhere::Yes => {}
                Elsewhere::Perhaps => self.wait_for_put(to, record),
                Elsewhere::No => {
                    self.under_way += 1;
                    return NextHandOver::Send(to, record);
                }
            }
        }
        if left == 0 && !self.walks.is_empty() {
            self.rests_until = Some(after(now, REST));
        }
        NextHandOver::Wait
    }

    /// Returns what belongs to a newcomer that does not have it; `None` if there is nothing more, or none are `left` to be
    /// looked at.
    fn next_that_belongs(
        &mut self,
        left: &mut usize,
        records: &Republish,
        table: &Table,
        k: usize,
    ) -> Option<(PeerId, RecordKey)> {
        if let Some(left_out) = self.left_out.pop_front() {
            return Some(left_out);
        }
        while let Some(walk) = self.walks.front_mut() {
            if table.entry(&walk.key, &walk.to).is_none() {
                // It has left again.
                self.walks.pop_front();
                continue;
            }
            while let Some((key, record)) = records.next_place(&walk.at) {
                if *left == 0 {
                    return None;
                }
                *left -= 1;
                self.looked_at += 1;
                match belongs(table, k, (&walk.to, &walk.key), key) {
                    Ok(()) => {
                        walk.at = Bound::Excluded((*key, record.clone()));
                        if !walk.has.remove(record) {
                            return Some((walk.to, record.clone()));
                        }
                    }
                    Err(bits) => match key.behind(bits) {
                        Some(next) => walk.at = Bound::Included((next, RecordKey::from(Vec::new()))),
                        None => break,
                    },
                }
            }
            self.walks.pop_front();
            tracing::trace!(looked_at = self.looked_at, "a newcomer has all records that belong to it");
        }
        None
    }

    /// Returns when it goes on after a rest.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.rests_until
    }

    /// Returns how many records were looked at in all.
    #[cfg(test)]
    pub(super) const fn looked_at(&self) -> u64 {
        self.looked_at
    }
}

/// Tells whether a newcomer is one of the `k` closest to a key, and this node the closest of all others it knows.
///
/// # Errors
/// How many of the first bits of the key settle that it is not so.
fn belongs(table: &Table, k: usize, (newcomer, theirs): (&PeerId, &Key), key: &Key) -> Result<(), u32> {
    let (own, to_newcomer) = (table.local(), key.distance(theirs));
    let to_own = key.distance(own);
    let others = table.closest(key).filter(|entry| entry.is_live() && !entry.is_of(newcomer));
    let closer = others.take(k).map(|entry| entry.key());
    let mut bits = own.common_prefix(theirs);
    if k < 2 && to_own < to_newcomer {
        return Err(bits + 1);
    }
    let mut num_closer = 0;
    for other in closer {
        let distance = key.distance(other);
        if num_closer == 0 && distance < to_own {
            return Err(own.common_prefix(other) + 1);
        }
        if to_newcomer < to_own || to_newcomer < distance {
            return Ok(());
        }
        // At the first bit in which two differ it is settled which of them is closer.
        bits = bits.max(other.common_prefix(theirs));
        num_closer += 1;
    }
    if num_closer < k || to_newcomer < to_own { Ok(()) } else { Err(bits + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addrs::Addresses;
    use crate::config::Config;
    use crate::rng::Rng;
    use crate::routing::TableConfig;
    use crate::time::start;

    fn peer(n: u8) -> PeerId {
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[n; 32]).unwrap()).unwrap()
    }

    #[test]
    fn where_few_of_many_belong_to_a_newcomer_it_rests_between_and_forgets_none() {
        let (mut rng, mut now) = (Rng::from_u64(1), start());
        let mut key = || {
            let mut bytes = [0; 32];
            rng.fill(&mut bytes);
            Key::from_bytes(bytes)
        };
        let own = key();
        // Nobody is far from this node, so that its records are scattered over all the keyspace.
        let mut table = Table::new(own, TableConfig::from(&Config::default()));
        let mut keys = Vec::new();
        for n in 8..20 {
            let mut bits = *key().as_bytes();
            bits[0] = 0;
            bits[1] = 0;
            bits[2] = 0;
            bits[n / 8] |= 0x80 >> (n % 8);
            let far = own.at(Key::from_bytes([0; 32]).distance(&Key::from_bytes(bits)));
            let id = peer(u8::try_from(n).unwrap());
            let addresses = Addresses::collect(&id, ["/memory/1".parse().unwrap()]);
            table.insert(now, far, id, addresses, crate::addrs::Groups::default());
            keys.push((id, far));
        }
        assert_eq!(table.len(), 12);
        let mut records = Republish::new(None, None);
        let mut rng = Rng::from_u64(2);
        for n in 0..32 * 1024u32 {
            let record = RecordKey::new(&n.to_be_bytes());
            let place = Key::sha256(record.as_ref());
            records.stored(now, record, place, false, &mut rng);
        }
        let (newcomer, theirs) = keys[5];
        let mut handing = Handing::default();
        handing.entered(newcomer, theirs);
        let (mut sent, mut rests) = (Vec::new(), 0);
        loop {
            let before = handing.looked_at();
            let next = handing.next(now, &records, &table, 20, &|_, _| Elsewhere::No);
            assert!(handing.looked_at() - before <= 256);
            match (next, handing.deadline()) {
                (NextHandOver::Send(to, record), _) => {
                    assert_eq!(to, newcomer);
                    sent.push(Key::sha256(record.as_ref()));
                    handing.done();
                }
                (NextHandOver::Wait, Some(until)) => {
                    assert_eq!(
                        (until, handing.next(now, &records, &table, 20, &|_, _| Elsewhere::No)),
                        (after(now, REST), NextHandOver::Wait)
                    );
                    (now, rests) = (until, rests + 1);
                }
                (NextHandOver::Wait, None) => break,
            }
        }
        let is_own = |place: &Key| {
            let others = keys.iter().filter(|(id, _)| *id != newcomer);
            others.into_iter().all(|(_, other)| place.distance(other) > place.distance(&own))
        };
        let all = (0..32 * 1024u32).map(|n| Key::sha256(&n.to_be_bytes()));
        let mut expected: Vec<_> = all.filter(is_own).collect();
        expected.sort_unstable();
        assert_eq!(sent, expected);
        assert!(!sent.is_empty() && sent.len() < 100 && rests > 0, "{} with {rests} rests", sent.len());
        assert!(handing.looked_at() < 8 * 1024, "{}", handing.looked_at());
    }
}
