//! The shell: makes the node a [`NetworkBehaviour`](libp2p_swarm::NetworkBehaviour).
//!
//! The only place that knows swarms, streams, wakers, clocks and entropy. It translates and decides nothing.

mod arrivals;
pub(crate) mod behaviour;
mod budget;
pub(crate) mod command_channel;
pub(crate) mod config;
mod connections;
mod entropy;
mod exchange;
pub(crate) mod handler;
mod limits;
mod messages;
pub(crate) mod providers;
pub(crate) mod resolved;
mod shared;
pub(crate) mod timer;
mod upgrade;
mod wakeup;
mod watch;
