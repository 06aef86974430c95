//! What is told of an address, and what is done with lists, for the fuzz targets.

use std::net::IpAddr;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{Addresses, ConnectionOrigin, Reach, Way};

/// The way of an address, ordered from the best: direct, by a name, through a relay.
pub fn way(address: &Multiaddr) -> u8 {
    match Way::of(address) {
        Way::Direct => 0,
        Way::Named => 1,
        Way::Relayed => 2,
    }
}

/// Returns the address without a `/p2p` suffix, and the peer that it names.
pub fn without_peer(address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    super::without_peer(address)
}

/// Returns the IP address with which the address begins.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    super::ip_of(address)
}

/// Returns the IP address that an address begins with, or that its name proves.
pub fn proven_ip_of(address: &Multiaddr) -> Option<IpAddr> {
    super::proven_ip_of(address)
}

/// Returns whether an IP address lies in a network.
pub fn is_within(ip: IpAddr, net: (IpAddr, u8)) -> bool {
    super::is_within(ip, net)
}

/// Returns the relay behind which an address leads.
pub fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    super::relay_of(address)
}

/// Returns whether a connection to one address proves that its other end is at another, to a node that is connected to no relay;
/// `None` if where the connection leads cannot be told.
pub fn proves(connection: &Multiaddr, claimed: &Multiaddr) -> Option<bool> {
    let origin = ConnectionOrigin::of(connection);
    (origin != ConnectionOrigin::Unknown).then(|| origin.proves(claimed, |_| false))
}

/// Something that is done to a list.
#[derive(Clone, Copy, Debug)]
pub enum ListStep<'a> {
    /// An address is put behind the preferred one.
    Report(&'a Multiaddr),
    /// An address is moved or added to the front.
    Prefer(&'a Multiaddr),
    /// An address is removed.
    Remove(&'a Multiaddr),
    /// A list is put behind it.
    Join(&'a Addresses),
    /// What may be told to a peer that is so far away is left.
    Tell(Reach),
    /// That at which a peer can reach others who are so far away is left.
    Reachable(Reach),
    /// What a peer can know of that is so far away is left.
    Within(Reach),
    /// What reaches so far is left.
    Reaching(Reach),
}

impl ListStep<'_> {
    /// Returns a list after the step.
    pub fn of(self, list: &Addresses) -> Addresses {
        match self {
            Self::Report(address) => list.with_reported(address.clone()),
            Self::Prefer(address) => list.preferring(address),
            Self::Remove(address) => list.without(address),
            Self::Join(other) => list.joined(other),
            Self::Tell(reach) => list.told_to(reach),
            Self::Reachable(reach) => list.reachable_by(reach),
            Self::Within(reach) => list.within(reach),
            Self::Reaching(reach) => list.reaching(reach),
        }
    }
}
