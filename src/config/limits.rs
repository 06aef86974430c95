//! The configuration of limits: how much of everything there may be at once.

use std::num::NonZeroUsize;

use super::least;
use super::rates::Rates;
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
    /// How many requests are in flight while further queries are begun; beyond that those stand in line. Default: adaptive
    /// from 32 to 4,096 (measured: `tests/sim/golden/overload.txt`). See
    /// [`with_request_window`](super::Config::with_request_window).
    pub request_window: RequestWindow,
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
    /// The rates of requests that a peer is guaranteed, and its network; beyond them it is served as long as this node keeps up.
    /// `None` sets none: the peer that asks most gets most. Default: those of [`Rates`].
    pub rates: Option<Rates>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_queries: const { NonZeroUsize::new(1024).unwrap() },
            request_window: RequestWindow::default(),
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
            rates: Some(Rates::default()),
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

/// The request window: how many requests are in flight while further queries are begun, those of queries and of the node itself, but for those that are
/// overdue.
///
/// Queries that have begun go on whatever the window, so that there are more for a while: by the parallelism of each. One that asks
/// no more than one peer begins in any case, and so does one when no other is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestWindow {
    /// Always so many. With [`NonZeroUsize::MAX`] no query stands in line, as in `libp2p-kad`: a node that is asked for more
    /// than it can drive then takes its own lateness for the silence of others.
    Fixed(NonZeroUsize),
    /// Wider while the node keeps up with the answers, narrower when it has become late itself.
    Adaptive {
        /// How many there may be in any case.
        least: NonZeroUsize,
        /// How many at most, but not less than `least`.
        most: NonZeroUsize,
    },
}

impl Default for RequestWindow {
    fn default() -> Self {
        // What a few lookups ask at once, so that they go on however late the node is; and what a core handles in a tenth of a
        // second, at some 300 bytes each. Chosen, not measured.
        const LEAST: NonZeroUsize = NonZeroUsize::new(32).unwrap();
        const MOST: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
        Self::Adaptive { least: LEAST, most: MOST }
    }
}
