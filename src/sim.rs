//! The simulator: networks of real nodes on a virtual clock, in one thread or several, from one seed.
//!
//! It drives the very [`Dht`](crate::dht::Dht) that the swarm's [`Behaviour`](crate::Behaviour) drives, thousands of
//! them, and has no second implementation of any rule: what it measures is what runs in production. Everything outside a
//! node is simulated: links with their delays and losses, dials, connections that end when they are idle, nodes that
//! come, go, fall silent, lie, or sit behind routers.
//!
//! [`Scenario`] says what is simulated, [`World`] is the network, [`Report`] what came of it:
//!
//! ```
//! use libp2p_kademlia::sim::{Incident, Lookups, Scenario};
//! use std::time::Duration;
//!
//! let scenario = Scenario {
//!     nodes: 200,
//!     incidents: vec![(Duration::ZERO, Incident::Freeze(0.1))],
//!     lookups: Lookups { count: 50, ..Lookups::default() },
//!     ..Scenario::default()
//! };
//! let report = scenario.run()?;
//! assert!(report.summary().recall > 0.95);
//! # Ok::<_, libp2p_kademlia::sim::Violation>(())
//! ```
//!
//! What the simulator does not bring users bring themselves: how a node answers is a [`Role`], how long a message takes or a
//! session lasts a [`Draw`], and a [`Group`] of nodes has a configuration of its own.
//!
//! # Determinism
//! The same scenario has the same report and the same [`hash`](Report::hash), in every process, every build, and on every
//! machine: all randomness follows from the seed, and the few functions of real numbers are computed in software.
//!
//! # Cost
//! 10,000 nodes that join one after another, five minutes of rest and 2,000 lookups are some five million messages: three
//! minutes of processor time, some 27,000 messages a second, and less than a gigabyte, 97 kB a node, queue and links included. An
//! ideal network of 10,000 and 2,000 lookups take a minute and 1.7 GB; two threads are 1.5 to 1.6 times as fast as one.
//!
//! # What is not simulated
//! By default bandwidth: a message takes as long as its link, however long it is. [`Links::uplink`] and [`Links::bandwidth`]
//! limit what nodes and connections send; what a node can receive is not limited. How long nodes work on what arrives is
//! [`Scenario::work`], the same for each message; by default none.
//! Streams: requests overtake each other where links jitter.

mod adversaries;
mod bandwidth;
mod checks;
mod command;
mod connections;
mod crew;
mod draw;
mod event_queue;
mod host;
mod ideal;
mod ids;
mod links;
mod measure;
mod network;
mod nodes;
mod progress;
mod records;
mod report;
mod roles;
mod run;
mod scenario;
mod service;
mod sessions;
mod shard;
mod trace;
mod workload;
mod world;

pub use adversaries::BuiltIn;
pub use checks::Violation;
pub use draw::Draw;
pub use links::{Links, RoundTrip, Transport};
pub use measure::{Health, LookupOutcome};
pub use network::Traffic;
pub use progress::{Progress, Stage};
pub use records::{Reached, RecordOutcome, RecordQuery};
pub use report::{RecordSummary, Report, Summary};
pub use roles::{Answer, Around, Other, Role};
pub use scenario::{
    Churn, Group, Hosting, Incident, Load, Lookups, Placement, Records, Roles, Scenario, Session, Size, Start,
};
pub use world::World;
