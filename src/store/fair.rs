//! Fair room: whose statement makes way when there is no room for one more.
//!
//! Knows groups and providers by numbers, and how far keys are; neither keys nor addresses.

use std::collections::{BTreeMap, BTreeSet};

use super::compact::{Number, Tag};

/// The group that a statement counts for; all that belong to none count as one.
pub(super) type GroupNumber = Option<Number>;

/// The shares of all groups in what is kept for others.
///
/// # What it decides
/// Whose statements make way for one of another group: those of the groups that have most, if the other would still have fewer, and of
/// these the ones whose keys are farthest. So a group can fill what nobody wants, and loses it again to whoever has less;
/// whoever floods displaces those that flood as well, and the keys next to this node, which others look for here, stay longest.
///
/// # Bounds
/// Some 40 bytes for each statement, and as much for each group.
///
/// # Invariants
/// Statements that share group, distance and provider stand here once, and count as often as they were told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FairShares {
    sizes: BTreeMap<GroupNumber, usize>,
    by_size: BTreeSet<(usize, GroupNumber)>,
    statements: BTreeSet<(GroupNumber, Tag, Number)>,
}

impl FairShares {
    pub(super) const fn new() -> Self {
        Self { sizes: BTreeMap::new(), by_size: BTreeSet::new(), statements: BTreeSet::new() }
    }

    /// A provider of a group states something about a key that is so far away.
    pub(super) fn entered(&mut self, group: GroupNumber, distance: Tag, provider: Number) {
        self.statements.insert((group, distance, provider));
        self.resize(group, |size| size + 1);
    }

    /// Such a statement has left. `is_last` says whether no other stands at its place.
    pub(super) fn left(&mut self, group: GroupNumber, distance: Tag, provider: Number, is_last: bool) {
        if is_last {
            self.statements.remove(&(group, distance, provider));
        }
        self.resize(group, |size| size.saturating_sub(1));
    }

    fn resize(&mut self, group: GroupNumber, change: impl FnOnce(usize) -> usize) {
        let before = self.sizes.remove(&group).unwrap_or(0);
        self.by_size.remove(&(before, group));
        let now = change(before);
        if now > 0 {
            self.sizes.insert(group, now);
            self.by_size.insert((now, group));
        }
    }

    /// Iterates over the groups that have more than `group` would have with one more, the largest first, and of each over its
    /// statements, the farthest first: by the group, the distance of the key and the provider.
    pub(super) fn larger_than(
        &self,
        group: GroupNumber,
    ) -> impl Iterator<Item = impl Iterator<Item = (GroupNumber, Tag, Number)>> {
        let own = self.size(group);
        let larger = self.by_size.iter().rev().take_while(move |(size, _)| *size > own + 1);
        larger.map(|(_, group)| {
            let (first, last) = ((*group, Tag::MIN, Number::MIN), (*group, Tag::MAX, Number::MAX));
            self.statements.range(first..=last).rev().copied()
        })
    }

    /// Returns whether a group would have less than another even with one more.
    pub(super) fn has_less(&self, group: GroupNumber, other: GroupNumber) -> bool {
        self.size(other) > self.size(group) + 1
    }

    fn size(&self, group: GroupNumber) -> usize {
        self.sizes.get(&group).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u32) -> Number {
        Number::new(n).unwrap()
    }

    fn displaced(shares: &FairShares, group: u32) -> Vec<(Tag, u32)> {
        let all = shares.larger_than(Some(number(group))).next().into_iter().flatten();
        all.map(|(_, distance, provider)| (distance, provider.get())).collect()
    }

    #[test]
    fn the_farthest_of_the_largest_group_make_way_for_whoever_has_less() {
        let mut shares = FairShares::new();
        for distance in [3, 1, 2] {
            shares.entered(Some(number(1)), distance, number(10));
        }
        shares.entered(Some(number(2)), 9, number(20));
        shares.entered(None, 7, number(30));
        let all = [(3, 10), (2, 10), (1, 10)];
        assert_eq!((displaced(&shares, 2), displaced(&shares, 3)), (all.to_vec(), all.to_vec()));
        shares.entered(Some(number(2)), 8, number(20));
        assert_eq!(displaced(&shares, 2), [], "it would have as many");
        shares.left(Some(number(2)), 8, number(20), true);
        assert_eq!(displaced(&shares, 1), [], "its own it does not displace");
        shares.entered(Some(number(1)), 5, number(11));
        assert_eq!(displaced(&shares, 2), [(5, 11), (3, 10), (2, 10), (1, 10)]);
        for distance in 10..20 {
            shares.entered(None, distance, number(30));
        }
        assert_eq!(displaced(&shares, 1)[0], (19, 30), "those of no group are one");
        assert_eq!(shares.larger_than(None).count(), 0);
        assert!(shares.has_less(Some(number(2)), None) && !shares.has_less(None, Some(number(2))));
        assert_eq!(shares.larger_than(Some(number(3))).count(), 2, "the largest first, then the next");
    }

    #[test]
    fn what_stands_at_one_place_leaves_with_its_last() {
        let mut shares = FairShares::new();
        for _ in 0..2 {
            shares.entered(Some(number(1)), 4, number(10));
        }
        shares.entered(Some(number(1)), 5, number(10));
        shares.left(Some(number(1)), 4, number(10), false);
        assert_eq!(displaced(&shares, 2), [(5, 10), (4, 10)]);
        shares.left(Some(number(1)), 4, number(10), true);
        assert_eq!(displaced(&shares, 2), [], "one is not more than it would have");
        shares.left(Some(number(1)), 5, number(10), true);
        assert!(shares.sizes.is_empty() && shares.by_size.is_empty() && shares.statements.is_empty());
    }
}
