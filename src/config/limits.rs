//! The configuration of limits: how much of everything there may be at once.

use std::num::NonZeroUsize;

use super::least;
use crate::error::ConfigError;
use crate::time::Duration;

/// The limits of a node: how many queries, dials and peers, how large messages and buffers, how long streams stay open.
///
/// What a store holds has limits of its own: [`MemoryStoreConfig`](crate::store::MemoryStoreConfig).
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use libp2p_kademlia::config::{Config, Limits};
///
/// let limits = Limits { max_queries: NonZeroUsize::new(64).unwrap(), ..Limits::default() };
/// let config = Config::builder().with_limits(limits).build()?;
/// assert_eq!(config.limits().max_queries.get(), 64);
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many queries run at once; one more ends at once with an error. Default: 1,024 (chosen, not measured).
    pub max_queries: NonZeroUsize,
    /// How many dials are under way at once; more wait their turn. Default: 64 (chosen, not measured).
    pub max_dials: NonZeroUsize,
    /// Of how many peers outside the routing table addresses and failures are remembered, some 300 bytes each. Default: 1,024
    /// (chosen, not measured).
    pub max_known_peers: NonZeroUsize,
    /// How many seeds are kept; one more is refused. Default: 256 (chosen, not measured).
    pub max_seeds: NonZeroUsize,
    /// How many bytes a message of another peer may have; a longer one ends its stream. Default: 128 KiB (chosen, not measured:
    /// eight times what `libp2p-kad` reads).
    pub max_message_size: NonZeroUsize,
    /// How many streams one connection may have open to this node. Default: 32 (`libp2p-kad`).
    pub max_inbound_streams: NonZeroUsize,
    /// After how long without a request an inbound stream is closed: at least 100 ms. Default: 1 minute
    /// (`go-libp2p-kad-dht`).
    pub inbound_idle_timeout: Duration,
    /// After how long without a request an outbound stream is closed: at least 100 ms. Default: 30 seconds (chosen, not
    /// measured).
    pub outbound_idle_timeout: Duration,
    /// How long opening a stream, reading a message that has begun and writing one may take: at least 100 ms. Default: 10
    /// seconds (`libp2p-kad`).
    pub stream_timeout: Duration,
    /// How many bytes of answers may wait to be written on one connection. Default: 256 KiB, a window of yamux (measured; see
    /// [`with_max_connection_buffer`](super::Config::with_max_connection_buffer)).
    pub max_connection_buffer: NonZeroUsize,
    /// How many bytes of answers may wait to be written on all connections. Default: 64 MiB, 256 connections that hold all they
    /// may (chosen, not measured).
    pub max_node_buffer: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_queries: const { NonZeroUsize::new(1024).unwrap() },
            max_dials: const { NonZeroUsize::new(64).unwrap() },
            max_known_peers: const { NonZeroUsize::new(1024).unwrap() },
            max_seeds: const { NonZeroUsize::new(256).unwrap() },
            max_message_size: const { NonZeroUsize::new(128 * 1024).unwrap() },
            max_inbound_streams: const { NonZeroUsize::new(32).unwrap() },
            inbound_idle_timeout: Duration::from_secs(60),
            outbound_idle_timeout: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(10),
            max_connection_buffer: const { NonZeroUsize::new(256 * 1024).unwrap() },
            max_node_buffer: const { NonZeroUsize::new(64 * 1024 * 1024).unwrap() },
        }
    }
}

impl Limits {
    /// Notes what is wrong, and shortens what is so long that it means never.
    pub(super) fn check(&mut self, wrong: &mut Vec<ConfigError>) {
        least::INBOUND_IDLE_TIMEOUT.check(&mut self.inbound_idle_timeout, wrong);
        least::OUTBOUND_IDLE_TIMEOUT.check(&mut self.outbound_idle_timeout, wrong);
        least::STREAM_TIMEOUT.check(&mut self.stream_timeout, wrong);
    }
}
