//! The node as records, providing and serving see it.
//!
//! Borrowed for one call; nothing of it is kept.

use super::queries::Queries;
use super::storage::Storage;
use super::view::Parts;
use crate::routing::Table;

/// The parts that do what is to be done for records and keys: queries, and the store.
#[derive(Debug)]
pub(super) struct NodeParts<'a, S> {
    pub(super) parts: Parts<'a>,
    pub(super) queries: &'a mut Queries,
    pub(super) storage: &'a mut Storage<S>,
}

impl<S> NodeParts<'_, S> {
    /// Returns whether what is due can be sent; see [`can_send`].
    pub(super) fn can_send(&self) -> bool {
        can_send(self.queries, &self.parts.upkeep.table)
    }
}

/// Returns whether there is anybody to send something to, and room for a query.
///
/// What is due meanwhile waits for that, and not for a time.
pub(super) fn can_send(queries: &Queries, table: &Table) -> bool {
    !queries.is_full() && !table.is_empty()
}
