//! The routing table and the machines that keep it: which peers are in, wait or are doubted, what is to be looked up.
//!
//! Knows keys, peer ids, addresses as opaque lists, and time as an argument. Never hashes, never asks anybody: each
//! machine says what it wants as a value, and is told what came of it.
//!
//! | machine | decides |
//! |---|---|
//! | [`Table`] | which peers are in a bucket, which wait for a place, which are handed out |
//! | [`Probe`] | which peer of the table is to be asked whether it still lives |
//! | `Admission` | which stranger is to be asked whether it is a server |
//! | `Refresh` | which bucket is to be looked up |
//! | `BootstrapSchedule` | when the node joins, and joins again |

pub(crate) mod admission;
pub(crate) mod bootstrap;
mod bucket;
mod diversity;
pub(crate) mod probe;
pub(crate) mod refresh;
mod rules;
mod snapshot;
mod table;
mod view;

pub use bucket::{Bucket, Entry, Experience};
pub use probe::Probe;
pub use rules::TableConfig;
pub use snapshot::{BucketSnapshot, EntrySnapshot, TableSnapshot};
pub(crate) use table::AdmissionPriority;
pub use table::{Closest, Failed, Insert, Refusal, Table};
pub use view::{EntryView, KBucketRef, Node, NodeStatus};
