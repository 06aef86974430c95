//! This node: its id, its key, and which of its addresses it gives to whom.
//!
//! Knows addresses and how far they reach; knows no other peer.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::{Addresses, Reach};
use crate::key::Key;

/// Who this node is and where it can be reached.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) peer: PeerId,
    pub(super) key: Key,
    external: Addresses,
    listening: Addresses,
}

impl Local {
    pub(super) fn new(peer: PeerId, key: Key) -> Self {
        Self { peer, key, external: Addresses::empty(), listening: Addresses::empty() }
    }

    pub(super) fn set_addresses(&mut self, external: &[Multiaddr], listening: &[Multiaddr]) {
        self.external = Addresses::collect(&self.peer, external.iter().cloned());
        self.listening = Addresses::collect(&self.peer, listening.iter().cloned());
    }

    /// Returns the addresses to give to a peer whose connection reaches so far.
    ///
    /// The confirmed external ones; if there are none, those it listens on, as far as the peer can use them: loopback
    /// addresses only to peers on this machine, private ones only to peers on this site.
    pub(super) fn addresses_for(&self, reach: Reach) -> Addresses {
        if !self.external.is_empty() {
            return self.external.clone();
        }
        let usable = self.listening.iter().filter(|address| Reach::of(address) >= reach);
        Addresses::empty().merged(usable.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_to_those_who_can_use_them() {
        let peer: PeerId = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5".parse().unwrap();
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let [machine, site, world] =
            ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.0.2/tcp/1", "/ip4/1.2.3.4/tcp/1"].map(address);
        let mut local = Local::new(peer, Key::sha256(b""));
        local.set_addresses(&[], &[machine.clone(), site.clone(), world.clone()]);
        let given = |local: &Local, reach| local.addresses_for(reach).into_vec();
        assert_eq!(given(&local, Reach::Machine), [machine.clone(), site.clone(), world.clone()]);
        assert_eq!(given(&local, Reach::Site), [site.clone(), world.clone()]);
        assert_eq!(given(&local, Reach::World), [world]);
        let external = address("/ip4/5.6.7.8/tcp/1");
        local.set_addresses(std::slice::from_ref(&external), &[machine]);
        assert_eq!(given(&local, Reach::Machine), [external]);
    }
}
