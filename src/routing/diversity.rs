//! IP diversity: how many peers of one group a bucket and the table take.
//!
//! Knows entries' groups; where groups come from is `addrs`' affair.

use super::bucket::Entry;
use crate::addrs::IpGroup;
use crate::config::IpDiversity;

/// Returns whether a newcomer of `group` may stand in a bucket of a table that has these entries.
///
/// A newcomer without a group always may. `leaving` are entries that do not count because the newcomer replaces them.
pub(super) fn allows<'a>(
    limits: Option<&IpDiversity>,
    group: Option<IpGroup>,
    bucket: impl Iterator<Item = &'a Entry>,
    table: impl Iterator<Item = &'a Entry>,
) -> bool {
    let (Some(limits), Some(group)) = (limits, group) else {
        return true;
    };
    let same = |entries: &mut dyn Iterator<Item = &'a Entry>| {
        entries.filter(|entry| entry.group() == Some(group)).count()
    };
    same(&mut { bucket }) < usize::from(limits.per_bucket.get())
        && same(&mut { table }) < usize::from(limits.per_table.get())
}
