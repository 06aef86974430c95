//! Commands that begin a query, as plain data: what a handle sends to the node.
//!
//! Knows ids and addresses; who carries a command out, and who waits for it, is not its affair.

use std::num::NonZeroUsize;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::event::Precision;

/// Begins a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Joins the network.
    Bootstrap,
    /// Searches the peers closest to the hash of some bytes.
    FindClosest {
        /// The bytes.
        key: Vec<u8>,
        /// How many peers, at most `k`; `k` if none is given.
        count: Option<NonZeroUsize>,
        /// When enough has been found.
        precision: Precision,
    },
    /// Searches one peer.
    FindPeer(PeerId),
    /// Waits for a sign of life of one peer.
    Ping(PeerId),
    /// Connects to an address, whoever is there.
    Connect(Multiaddr),
}
