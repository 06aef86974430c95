//! Trouble with dialling a peer.

use libp2p_core::Multiaddr;

use crate::time::Instant;

/// What went wrong when a peer was dialled, since it was connected last.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Addresses at which nobody answered, the earliest first.
    pub(super) failed: Vec<Multiaddr>,
    /// Whether the program has denied the dial that is waited for.
    pub(super) is_denied: bool,
    /// How often it was denied while others were let through.
    pub(super) denials: u8,
    pub(super) blocks: u8,
    pub(super) blocked_until: Option<Instant>,
}
