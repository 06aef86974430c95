//! Origins: which of the addresses that a peer claims its connection proves.
//!
//! Knows addresses only; what becomes of those that are not proven is not its affair.

use std::net::IpAddr;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;

use super::groups::proven_ip_of;
use super::{Reach, is_relayed};

/// The origin of a connection: where its address proves the other end to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ConnectionOrigin {
    /// Nowhere that can be told.
    #[default]
    Unknown,
    /// On this machine, in its memory.
    Local,
    /// At an IP address.
    Ip(IpAddr),
    /// Behind a relay.
    Relay(Box<PeerId>),
}

impl ConnectionOrigin {
    pub(crate) fn of(address: &Multiaddr) -> Self {
        if is_relayed(address) {
            return relay_of(address).map_or(Self::Unknown, |relay| Self::Relay(Box::new(relay)));
        }
        match proven_ip_of(address) {
            Some(ip) => Self::Ip(ip.to_canonical()),
            None if Reach::of(address) == Reach::Machine => Self::Local,
            None => Self::Unknown,
        }
    }

    /// Returns whether an address that the peer claims is where it is: at the IP address of its connection, whatever the port, or
    /// on this machine; or behind the relay through which it came, or one that `is_relay` knows.
    pub(crate) fn proves(&self, address: &Multiaddr, is_relay: impl FnOnce(&PeerId) -> bool) -> bool {
        match (Self::of(address), self) {
            (Self::Relay(relay), Self::Relay(own)) => relay == *own || is_relay(&relay),
            (Self::Relay(relay), Self::Unknown | Self::Local | Self::Ip(_)) => is_relay(&relay),
            (Self::Unknown, _) => false,
            (claimed @ (Self::Local | Self::Ip(_)), own) => claimed == *own,
        }
    }
}

/// Returns the relay behind which the address of a relayed connection leads: the last one.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let (mut named, mut relay) = (None, None);
    for protocol in address {
        if let Protocol::P2p(peer) = protocol {
            named = Some(peer);
        } else if protocol == Protocol::P2pCircuit {
            relay = named;
        }
    }
    relay
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAYS: [&str; 2] = [
        "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5",
        "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5",
    ];

    fn proves(connection: &str, claimed: &str) -> bool {
        ConnectionOrigin::of(&connection.parse().unwrap()).proves(&claimed.parse().unwrap(), |_| false)
    }

    #[test]
    fn the_ip_address_of_the_connection_is_proven_whatever_the_port() {
        assert!(proves("/ip4/1.2.3.4/tcp/50000", "/ip4/1.2.3.4/udp/4001/quic-v1"));
        assert!(proves("/ip6/::ffff:1.2.3.4/tcp/50000", "/ip4/1.2.3.4/tcp/1"));
        assert!(proves("/ip4/1.2.3.4/tcp/50000", "/dns4/1-2-3-4.k51qzi5.libp2p.direct/tcp/443/wss"));
        assert!(proves("/memory/7", "/memory/1"));
        for claimed in ["/ip4/1.2.3.5/tcp/1", "/ip6/2a00::1/tcp/1", "/dns4/a.example/tcp/1", "/memory/1"] {
            assert!(!proves("/ip4/1.2.3.4/tcp/50000", claimed), "{claimed}");
        }
        assert!(!proves("/dns4/a.example/tcp/1", "/dns4/a.example/tcp/1"), "what it leads to is not known");
    }

    #[test]
    fn a_relayed_address_is_proven_by_its_relay() {
        let behind = |relay: &str| format!("/ip4/9.9.9.9/tcp/1/p2p/{relay}/p2p-circuit");
        let [one, other] = RELAYS;
        assert!(proves(&behind(one), &behind(one).replace("9.9.9.9", "8.8.8.8")));
        assert!(!proves(&behind(one), &behind(other)));
        assert!(!proves(&behind(one), "/ip4/9.9.9.9/tcp/1"), "that is the relay");
        assert!(!proves("/ip4/9.9.9.9/tcp/1", &behind(one)));
        let (direct, claimed) = ("/ip4/1.2.3.4/tcp/1".parse().unwrap(), behind(one).parse().unwrap());
        assert!(
            ConnectionOrigin::of(&direct).proves(&claimed, |relay| relay.to_string() == one),
            "it is connected"
        );
        assert_eq!(
            relay_of(&format!("/p2p/{one}/p2p-circuit/p2p/{other}").parse().unwrap()).unwrap().to_string(),
            one
        );
    }
}
