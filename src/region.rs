//! Regions of the keyspace: how large the network is, and how far around a key those live who are to hold what belongs to it.
//!
//! Knows distances, how many peers are at most this far away, and time. Asks nobody: the lookups that it wants are operations of
//! the node.

pub(crate) mod gamma;
pub(crate) mod size;

pub use size::NetworkSize;
