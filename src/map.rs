//! The map of what is looked up with every answer.

use indexmap::IndexMap;

/// A fast hash, from a seed that is not told.
pub(crate) type FastHash = foldhash::fast::RandomState;

/// A map in the order of insertion whose keys are hashed fast.
///
/// For maps that are bounded: who found out the seed could make their entries collide.
pub(crate) type FastMap<K, V> = IndexMap<K, V, FastHash>;
