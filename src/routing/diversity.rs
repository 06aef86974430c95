//! IP diversity: how many peers of one group a bucket, the table and the nearest take.
//!
//! Knows groups only; where they come from is `addrs`' affair, and whose they are the table's.

use smallvec::SmallVec;

use crate::addrs::{Groups, IpGroup};
use crate::config::IpLimits;

/// Of the peers whose IP address is not known, those of one kind have at most this share of the places: a quarter of a bucket, and
/// of the table. Chosen, not measured: whoever has one host has as many names and relays as there are.
const INDIRECT_SHARE: usize = 4;

/// Of the nearest to the node this share may be doubles: four of twenty. So whoever has two hosts has six of them, however many
/// names and relays it has as well. Chosen, not measured.
const DOUBLES_SHARE: usize = 5;

/// What a newcomer is held against: the groups of those that are there, whom it may replace left out.
#[derive(Clone, Debug)]
pub(super) struct Present<B, T> {
    /// Those in the bucket.
    pub(super) bucket: B,
    /// All of them.
    pub(super) table: T,
    /// How many a bucket holds.
    pub(super) k: usize,
}

/// Returns whether a newcomer of some groups may stand in a bucket and a table. One without a group always may.
///
/// `nearest` gives the groups of the nearest to the node if the newcomer would be one of them.
pub(super) fn allows<B, T, N>(
    limits: &IpLimits,
    groups: Groups,
    present: &Present<B, T>,
    nearest: impl FnOnce() -> Option<N>,
) -> bool
where
    B: Iterator<Item = Groups> + Clone,
    T: Iterator<Item = Groups> + Clone,
    N: Iterator<Item = Groups>,
{
    let has_room = |group| {
        let (taken, most) = present.of(group, limits);
        taken.iter().zip(most).all(|(taken, most)| *taken < most)
    };
    if !groups.iter().all(has_room) {
        return false;
    }
    let may_be_double = groups.is_indirect() || groups.iter().any(|group| present.of(group, limits).0[1] > 0);
    !(may_be_double && nearest().is_some_and(|nearest| is_one_too_many(groups, nearest, present.k)))
}

/// Returns whether a newcomer would be a double too many among the nearest: one whose IP address is not known, or of a group of
/// which there is another.
fn is_one_too_many(groups: Groups, nearest: impl Iterator<Item = Groups>, k: usize) -> bool {
    let mut seen: SmallVec<[IpGroup; 20]> = SmallVec::new();
    let has_seen = |seen: &[IpGroup], groups: Groups| groups.iter().any(|group| seen.contains(&group));
    let mut doubles = 0;
    for other in nearest {
        if other.is_indirect() || has_seen(&seen, other) {
            doubles += 1;
        }
        seen.extend(other.iter());
    }
    (groups.is_indirect() || has_seen(&seen, groups)) && doubles >= (k / DOUBLES_SHARE).max(2)
}

/// Returns whether there are more of the groups of an entry than the limits allow, in its bucket or in the table.
pub(super) fn is_exceeded<B, T>(limits: &IpLimits, groups: Groups, present: &Present<B, T>) -> bool
where
    B: Iterator<Item = Groups> + Clone,
    T: Iterator<Item = Groups> + Clone,
{
    let exceeds = |group| {
        let (taken, most) = present.of(group, limits);
        taken.iter().zip(most).any(|(taken, most)| *taken > most)
    };
    groups.iter().any(exceeds)
}

impl<B, T> Present<B, T>
where
    B: Iterator<Item = Groups> + Clone,
    T: Iterator<Item = Groups> + Clone,
{
    /// Returns how many of a group are in the bucket and in the table, and how many may be.
    fn of(&self, group: IpGroup, limits: &IpLimits) -> ([usize; 2], [usize; 2]) {
        let is_of = |known: &Groups| known.iter().any(|one| one == group);
        let taken = [self.bucket.clone().filter(is_of).count(), self.table.clone().filter(is_of).count()];
        let per_bucket = usize::from(limits.per_bucket.get());
        if !group.is_indirect() {
            return (taken, [per_bucket, usize::from(limits.per_table.get())]);
        }
        let bucket = (self.k / INDIRECT_SHARE).max(per_bucket);
        (taken, [bucket, (self.table.clone().count() / INDIRECT_SHARE).max(bucket)])
    }
}
