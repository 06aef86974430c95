//! The parts of a query: the lookup, its disjoint paths, its timeouts, and the pool of all queries that run.
//!
//! Knows keys, peer ids and time as an argument. Never hashes, never sends: each machine says whom it wants asked, and
//! is told what came of it. Answers arrive here filtered by the node.

pub(crate) mod disjoint;
pub(crate) mod fanout;
pub(crate) mod lookup;
pub(crate) mod pool;
pub(crate) mod rtt;
pub(crate) mod silence;
pub(crate) mod timeout;
