//! What the connections of a node share.

use super::budget::NodeBuffer;
use crate::wire::PeerCache;

/// What the connections of a node share: the room for their answers, and whom the answers of others have named.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) buffer: NodeBuffer,
    pub(super) cache: PeerCache,
}

impl Shared {
    /// Makes what a node's connections share, whose answers hold so many bytes together at most.
    pub(super) fn new(max_buffer: usize) -> Self {
        Self { buffer: NodeBuffer::new(max_buffer), cache: PeerCache::default() }
    }
}
