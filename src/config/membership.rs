//! Membership: who belongs to a network that is not open to everybody.
//!
//! Knows ids only.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use libp2p_identity::PeerId;

/// The members of a permissioned network: a peer that is none is treated as [banned](crate::Behaviour::ban).
#[derive(Clone)]
pub struct Membership(Arc<dyn Fn(&PeerId) -> bool + Send + Sync>);

impl Membership {
    /// Makes a membership of these peers and no others.
    pub fn of(peers: impl IntoIterator<Item = PeerId>) -> Self {
        let members: HashSet<_> = peers.into_iter().collect();
        Self::when(move |peer| members.contains(peer))
    }

    /// Makes a membership of those of whom a function says so. It is called for each message and each peer that is named, and must
    /// be quick; what it says of a peer may change.
    pub fn when(is_member: impl Fn(&PeerId) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_member))
    }

    pub(crate) fn has(&self, peer: &PeerId) -> bool {
        (self.0)(peer)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").finish_non_exhaustive()
    }
}
