//! This node: its id, its key, and which of its addresses it gives to whom.
//!
//! Knows addresses and how far they reach; knows no other peer.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::{Addresses, Reach, is_relayed};
use crate::key::Key;
use crate::store::kept_addresses;

/// The id of this node, and where it can be reached.
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

    /// Sets where the node can be reached, and where it listens. Returns whether it listens elsewhere than before.
    pub(super) fn set_addresses(&mut self, external: &[Multiaddr], listening: &[Multiaddr]) -> bool {
        self.external = Addresses::collect(&self.peer, external.iter().cloned());
        let listening = Addresses::collect(&self.peer, listening.iter().cloned());
        let before = std::mem::replace(&mut self.listening, listening);
        before != self.listening
    }

    /// Returns whether an address leads to this node, so that it is no other peer's.
    ///
    /// What leads through a relay is judged by its end, which is not part of the address.
    pub(super) fn is_own(&self, address: &Multiaddr) -> bool {
        !is_relayed(address) && self.external.iter().chain(&self.listening).any(|own| own == address)
    }

    /// Returns the addresses that are confirmed.
    pub(super) fn external(&self) -> &Addresses {
        &self.external
    }

    /// Returns how far away a peer may be for any of the addresses to be given to it; `None` if there is none.
    pub(super) fn reaches(&self) -> Option<Reach> {
        if self.external.is_empty() {
            return self.listening.iter().map(Reach::of).max();
        }
        let is_special = self.external.iter().all(|address| Reach::of(address) == Reach::Special);
        Some(if is_special { Reach::Special } else { Reach::World })
    }

    /// Returns the addresses by which other peers are told that this node provides something, the same for all of them, in an
    /// order that does not depend on the program's.
    pub(super) fn provided_at(&self) -> Addresses {
        let all = if self.external.is_empty() { &self.listening } else { &self.external };
        let mut sorted = all.clone().into_vec();
        sorted.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        kept_addresses(&self.peer, sorted)
    }

    /// Returns the addresses to give to a peer whose connection reaches so far.
    ///
    /// The confirmed external ones, special ones only to those within their range; if there are none, those it listens on, as far as the peer can use them: loopback
    /// addresses only to peers on this machine, private ones only to peers on this site.
    pub(super) fn addresses_for(&self, reach: Reach) -> Addresses {
        if !self.external.is_empty() {
            return self.external.told_to(reach);
        }
        self.listening.reaching(reach)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_core::multiaddr::Protocol::{P2p, P2pCircuit};

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
        assert_eq!(given(&local, Reach::World), std::slice::from_ref(&world));
        let external = address("/ip4/5.6.7.8/tcp/1");
        local.set_addresses(std::slice::from_ref(&external), &[machine]);
        assert_eq!(given(&local, Reach::Machine), [external]);
    }

    #[test]
    fn how_far_it_reaches_is_as_far_as_an_address_is_given() {
        let peer: PeerId = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5".parse().unwrap();
        let kinds =
            ["/ip4/192.0.2.1/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip4/192.168.0.2/tcp/1", "/ip4/1.2.3.4/tcp/1"];
        let some = |bits: usize| -> Vec<Multiaddr> {
            (0..4).filter(|n| bits >> n & 1 == 1).map(|n| kinds[n].parse().unwrap()).collect()
        };
        for bits in 0..256 {
            let mut local = Local::new(peer, Key::sha256(b""));
            local.set_addresses(&some(bits & 15), &some(bits >> 4));
            for reach in [Reach::Special, Reach::Machine, Reach::Site, Reach::World] {
                let is_given = !local.addresses_for(reach).is_empty();
                assert_eq!(local.reaches().is_some_and(|far| far >= reach), is_given, "{local:?} {reach:?}");
            }
        }
    }

    #[test]
    fn own_addresses_are_known_as_such_but_a_relays_lead_to_many() {
        let peer: PeerId = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5".parse().unwrap();
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let relayed = address("/ip4/1.2.3.4/tcp/1").with(P2p(peer)).with(P2pCircuit);
        let [own, external] = ["/ip4/127.0.0.1/tcp/1", "/ip4/5.6.7.8/tcp/1"].map(address);
        let mut local = Local::new(peer, Key::sha256(b""));
        local.set_addresses(&[external.clone(), relayed.clone()], std::slice::from_ref(&own));
        assert!(local.is_own(&own) && local.is_own(&external) && !local.is_own(&relayed));
        assert!(!local.is_own(&address("/ip4/127.0.0.1/tcp/2")));
    }

    #[test]
    fn what_nobody_can_dial_or_is_reserved_is_not_given() {
        let peer: PeerId = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5".parse().unwrap();
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let [any, no_port, example, world] =
            ["/ip4/0.0.0.0/tcp/1", "/ip4/1.2.3.4/tcp/0", "/ip4/192.0.2.1/tcp/1", "/ip4/1.2.3.4/tcp/1"]
                .map(address);
        let mut local = Local::new(peer, Key::sha256(b""));
        local.set_addresses(&[any.clone(), no_port, example.clone(), world.clone()], &[]);
        assert_eq!(local.addresses_for(Reach::World).first(), Some(&world));
        assert_eq!(local.addresses_for(Reach::World).len(), 1);
        assert_eq!(local.addresses_for(Reach::Special).into_vec(), [example.clone(), world.clone()]);
        local.set_addresses(&[], &[any, example, world.clone()]);
        assert_eq!(local.addresses_for(Reach::Machine).into_vec(), [world]);
    }
}
