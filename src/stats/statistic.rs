//! What all groups of numbers have in common.

use std::fmt;

/// What can be added up, compared with what it was, and shown.
pub(crate) trait Statistic {
    fn merge(&mut self, other: &Self);

    /// Returns what has happened since; gauges are as they are now.
    #[must_use]
    fn since(&self, earlier: &Self) -> Self;

    fn clear_gauges(&mut self);

    /// Writes each number that is not zero on a line of its own, under this name.
    fn show(&self, f: &mut fmt::Formatter<'_>, name: &dyn fmt::Display) -> fmt::Result;
}
