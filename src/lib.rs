//! Kademlia.
pub mod addrs;
mod config;
pub mod dht;
mod error;
mod event;
mod key;
pub mod message;
mod peer;
mod query;
mod record;
mod rng;
pub mod routing;
pub mod store;
pub mod time;
pub mod wire;
mod net { pub(crate) mod timer { 
 #[expect(clippy::disallowed_methods, reason="x")]
 pub(crate) fn now() -> web_time::Instant { web_time::Instant::now() } } }
pub use config::*;
pub use error::*;
pub use event::*;
pub use key::*;
pub use peer::*;
pub use record::*;
struct Behaviour;
struct Client;
