//! Handing over: what a newcomer to the table is sent, as far as this node is the one to send it.
//!
//! Knows the table and the places of records in the keyspace; what is in a record, and how it is sent, is not its affair.

use std::collections::VecDeque;
use std::ops::Bound;

use libp2p_identity::PeerId;

use crate::key::Key;
use crate::record::RecordKey;
use crate::routing::Table;
use crate::store::republish::Republish;
use crate::time::{Duration, Instant, after};

/// So many newcomers wait at most; what those beyond lack they get when it is next put anew.
const MAX_NEWCOMERS: usize = 256;

/// So many records are handed over at once, so that a newcomer leaves room for the application's queries.
const MAX_AT_ONCE: usize = 16;

/// So many records are looked at between two that are handed over; then it rests.
const MAX_LOOKED_AT: usize = 256;

/// How long it rests: others have their turn, and thousands of records a second are looked at still.
const REST: Duration = Duration::from_millis(20);

/// A newcomer, and how far the records have been walked for it.
#[derive(Debug)]
struct Walk {
    to: PeerId,
    key: Key,
    /// Where it goes on.
    at: Bound<(Key, RecordKey)>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
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
/// # Inputs
/// [`entered`](Self::entered), [`failed`](Self::failed); [`done`](Self::done) for each that was sent.
///
/// # Outputs
/// [`next`](Self::next).
///
/// # What time does
/// It goes on after a rest.
///
/// # Bounds
/// 256 newcomers, the earliest first; 16 records on their way at once; 256 looked at with one call.
///
/// # Spec
/// Maymounkov & Mazières §2.5.
#[derive(Debug, Default)]
pub(super) struct Handing {
    walks: VecDeque<Walk>,
    under_way: usize,
    rests_until: Option<Instant>,
    /// How many records were looked at.
    looked_at: u64,
}

impl Handing {
    /// A peer has entered the table. Whoever has done so before is begun with anew.
    pub(super) fn entered(&mut self, newcomer: PeerId, key: Key) {
        self.failed(&newcomer);
        if self.walks.len() < MAX_NEWCOMERS {
            let first = Bound::Included((Key::from_bytes([0; 32]), RecordKey::from(Vec::new())));
            self.walks.push_back(Walk { to: newcomer, key, at: first });
        }
    }

    /// A newcomer does not answer: it is sent nothing more.
    pub(super) fn failed(&mut self, newcomer: &PeerId) {
        self.walks.retain(|walk| walk.to != *newcomer);
    }

    /// Something that was sent has arrived, or has not.
    pub(super) const fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Returns what to send now, to whom. Its [`done`](Self::done) is awaited.
    pub(super) fn next(&mut self, now: Instant, records: &Republish, table: &Table, k: usize) -> Next {
        if self.rests_until.take_if(|until| *until <= now).is_none() && self.rests_until.is_some() {
            return Next::Wait;
        }
        if self.under_way >= MAX_AT_ONCE {
            return Next::Wait;
        }
        let mut left = MAX_LOOKED_AT;
        while let Some(walk) = self.walks.front_mut() {
            if table.entry(&walk.key, &walk.to).is_none() {
                // It has left again.
                self.walks.pop_front();
                continue;
            }
            while let Some((key, record)) = records.next_place(&walk.at) {
                if left == 0 {
                    self.rests_until = Some(after(now, REST));
                    return Next::Wait;
                }
                left -= 1;
                self.looked_at += 1;
                match belongs(table, k, (&walk.to, &walk.key), key) {
                    Ok(()) => {
                        let (to, record) = (walk.to, record.clone());
                        walk.at = Bound::Excluded((*key, record.clone()));
                        self.under_way += 1;
                        return Next::Send(to, record);
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
        Next::Wait
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
