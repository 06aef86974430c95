//! The limits of a connection: how much its streams may hold, and for how long.

use crate::config::Config;
use crate::time::Duration;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    pub(super) max_frame: usize,
    pub(super) max_inbound: usize,
    pub(super) inbound_idle: Duration,
    pub(super) outbound_idle: Duration,
    pub(super) stream_timeout: Duration,
    pub(super) max_connection_buffer: usize,
}

impl From<&Config> for ConnectionLimits {
    fn from(config: &Config) -> Self {
        Self {
            max_frame: config.limits.max_message_size.get(),
            max_inbound: config.limits.max_inbound_streams.get(),
            inbound_idle: config.limits.inbound_idle_timeout,
            outbound_idle: config.limits.outbound_idle_timeout,
            stream_timeout: config.limits.stream_timeout,
            max_connection_buffer: config.limits.max_connection_buffer.get(),
        }
    }
}

/// A message is put into the buffer of a stream while less than so much is in it, and then all of it is written before
/// more is: small ones share a write, and each has its time. Chosen, not measured: a page.
pub(super) const WRITE_BATCH: usize = 4096;
