//! The shell on real swarms: memory, TCP and QUIC transports, with and without lazy negotiation.

mod client;
mod connections;
mod hostile;
mod libp2p_kad;
mod round_trips;
mod streams;
mod support;
mod wiring;
