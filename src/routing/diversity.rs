//! IP diversity: how many peers of one group a bucket and the table take.
//!
//! Knows groups only; where they come from is `addrs`' affair, and whose they are the table's.

use crate::addrs::IpGroup;
use crate::config::IpDiversity;

/// Returns whether a newcomer of `group` may stand in a bucket and a table that have entries of these groups.
///
/// A newcomer without a group always may. An entry that the newcomer replaces is left out by the caller.
pub(super) fn allows(
    limits: Option<&IpDiversity>,
    group: Option<IpGroup>,
    mut bucket: impl Iterator<Item = Option<IpGroup>>,
    mut table: impl Iterator<Item = Option<IpGroup>>,
) -> bool {
    let (Some(limits), Some(group)) = (limits, group) else {
        return true;
    };
    let same = |groups: &mut dyn Iterator<Item = Option<IpGroup>>| {
        groups.filter(|known| *known == Some(group)).count()
    };
    same(&mut bucket) < usize::from(limits.per_bucket.get())
        && same(&mut table) < usize::from(limits.per_table.get())
}
