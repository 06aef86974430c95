//! The shell on real swarms: memory, TCP and QUIC transports, with and without lazy negotiation.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "tests: they fail by panicking, and an unbounded channel of a test is bounded by the test"
)]

mod client;
mod connections;
mod dead_connections;
mod denier;
mod dials;
mod errors;
mod hostile;
mod libp2p_kad;
mod pairs;
mod providers;
mod records;
mod round_trips;
mod stats;
mod streams;
mod support;
mod untroubled;
mod wiring;
