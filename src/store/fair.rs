//! Fair room: which groups have to make way when there is no room for one more.
//!
//! Knows groups by numbers and how much each has; neither keys nor providers.

use std::collections::{BTreeMap, BTreeSet};

use super::compact::Number;

/// The group that a statement counts for; all that belong to none count as one.
pub(super) type GroupNumber = Option<Number>;

/// The shares of all groups in what is kept for others.
///
/// # What it decides
/// Which groups make way for another: those that have more than it would have with one more, and of these the larger ones. So a group
/// can fill what nobody wants, and loses it again to whoever has less; whoever floods displaces those that flood as well.
///
/// # Bounds
/// Some 80 bytes for each group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FairShares {
    sizes: BTreeMap<GroupNumber, usize>,
    by_size: BTreeSet<(usize, GroupNumber)>,
    all: usize,
}

impl FairShares {
    /// A statement counts for a group.
    pub(super) fn entered(&mut self, group: GroupNumber) {
        self.resize(group, |size| size + 1);
        self.all += 1;
    }

    /// A statement that counted for a group has left.
    pub(super) fn left(&mut self, group: GroupNumber) {
        if self.sizes.contains_key(&group) {
            self.resize(group, |size| size - 1);
            self.all -= 1;
        }
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

    /// Returns whether any statement makes way for one more of a group.
    pub(super) fn any_makes_way(&self, group: GroupNumber) -> bool {
        self.by_size.last().is_some_and(|(_, largest)| self.makes_way(*largest, group))
    }

    /// Returns whether a statement of `other` makes way for one more of `group`.
    pub(super) fn makes_way(&self, other: GroupNumber, group: GroupNumber) -> bool {
        self.size(other) > self.size(group) + 1
    }

    /// Returns whether a group has as much as all groups have on an average, or more.
    pub(super) fn is_large(&self, group: GroupNumber) -> bool {
        self.size(group) * self.sizes.len() >= self.all
    }

    fn size(&self, group: GroupNumber) -> usize {
        self.sizes.get(&group).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_more_makes_way_for_whoever_would_still_have_less() {
        let number = |n| Some(Number::new(n).unwrap());
        let mut shares = FairShares::default();
        for group in [number(1), number(1), number(1), number(2), None, None] {
            shares.entered(group);
        }
        let makes_way = |shares: &FairShares, other, group| shares.makes_way(other, group);
        assert!(makes_way(&shares, number(1), number(2)) && makes_way(&shares, number(1), number(3)));
        assert!(makes_way(&shares, None, number(3)), "those of no group are one");
        assert!(!makes_way(&shares, None, number(2)), "it would have as many");
        assert!(!makes_way(&shares, number(1), number(1)), "its own it does not displace");
        assert!(shares.any_makes_way(number(2)) && !shares.any_makes_way(number(1)));
        assert!(shares.is_large(number(1)) && shares.is_large(None) && !shares.is_large(number(2)));
        shares.left(number(1));
        assert!(!makes_way(&shares, number(1), number(2)));
        [number(1), number(1), number(2), None, None].into_iter().for_each(|group| shares.left(group));
        shares.left(number(7));
        assert_eq!(shares, FairShares::default());
    }
}
