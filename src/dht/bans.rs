//! Bans: whom the application keeps out, until when and why; and who is a member at all.
//!
//! Knows ids, IP addresses and times; at which doors it is asked is the affair of whoever stands there.

use std::net::IpAddr;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::{Addresses, is_within, proven_ip_of};
use crate::config::Membership;
use crate::error::BanError;
use crate::map::FastMap;
use crate::peer::PackedPeerId;
use crate::time::{Instant, SystemTime, after, earliest};

/// How many peers can be banned at once, some 150 bytes each with a short reason (chosen, not measured).
const MAX_PEERS: usize = 65_536;

/// How many IP networks can be banned at once: each address is compared with all of them (chosen, not measured).
const MAX_NETWORKS: usize = 256;

/// How many bytes of a reason are kept (chosen, not measured).
const MAX_WHY: usize = 256;

/// The target of a ban: a peer, or all that are in an IP network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BanTarget {
    /// A peer, wherever it is.
    Peer(PeerId),
    /// All peers at the IP addresses of a network: an address of it, and the length of its prefix in bits.
    Network(IpAddr, u8),
}

impl From<PeerId> for BanTarget {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl From<IpAddr> for BanTarget {
    /// Bans one address.
    fn from(ip: IpAddr) -> Self {
        Self::Network(ip, if ip.is_ipv4() { 32 } else { 128 })
    }
}

impl From<(IpAddr, u8)> for BanTarget {
    fn from((net, prefix): (IpAddr, u8)) -> Self {
        Self::Network(net, prefix)
    }
}

/// A ban that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// Who is banned.
    pub target: BanTarget,
    /// When it ends by itself, if it does.
    pub until: Option<SystemTime>,
    /// The reason that was given, up to 256 bytes of it.
    pub why: String,
}

/// How long a ban lasts, and why.
#[derive(Clone, Debug)]
struct Term {
    ends: Option<Instant>,
    until: Option<SystemTime>,
    why: Box<str>,
}

/// The bans of a node, and its membership.
///
/// # What it decides
/// Whether a peer is admitted: to the table, to queries, to be named, to store something, to be served.
///
/// # Inputs
/// [`add`](Self::add) and [`remove`](Self::remove) of the application; the membership of the configuration.
///
/// # Outputs
/// [`admits`](Self::admits), [`has_banned`](Self::has_banned), [`iter`](Self::iter).
///
/// # What time does
/// Ends bans.
///
/// # Bounds
/// 65,536 peers and 256 networks; 256 bytes of each reason.
#[derive(Debug)]
pub(super) struct Bans {
    local: PeerId,
    membership: Option<Membership>,
    peers: FastMap<PackedPeerId, Term>,
    networks: Vec<(IpAddr, u8, Term)>,
    /// Not later than the first of them ends.
    next_end: Option<Instant>,
}

impl Bans {
    pub(super) fn new(local: PeerId, membership: Option<Membership>) -> Self {
        Self { local, membership, peers: FastMap::default(), networks: Vec::new(), next_end: None }
    }

    /// Bans somebody, or changes until when and why.
    ///
    /// # Errors
    /// [`BanError`] says which.
    pub(super) fn add(
        &mut self,
        (now, wall): (Instant, SystemTime),
        target: BanTarget,
        until: Option<SystemTime>,
        why: &str,
    ) -> Result<(), BanError> {
        let left = |until: SystemTime| until.duration_since(wall).ok().filter(|left| !left.is_zero());
        let lasts = until.map(|until| left(until).ok_or(BanError::Over)).transpose()?;
        let ends = lasts.map(|lasts| after(now, lasts));
        let mut len = why.len().min(MAX_WHY);
        while !why.is_char_boundary(len) {
            len -= 1;
        }
        let term = Term { ends, until, why: why[..len].into() };
        match target {
            BanTarget::Peer(peer) if peer == self.local => return Err(BanError::Own),
            BanTarget::Peer(peer) => {
                let packed = PackedPeerId::from(&peer);
                if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&packed) {
                    return Err(BanError::TooMany { limit: MAX_PEERS });
                }
                self.peers.insert(packed, term);
            }
            BanTarget::Network(net, prefix) => {
                if prefix > if net.is_ipv4() { 32 } else { 128 } {
                    return Err(BanError::Prefix { prefix });
                }
                self.networks.retain(|(known, bits, _)| (*known, *bits) != (net, prefix));
                if self.networks.len() >= MAX_NETWORKS {
                    return Err(BanError::TooMany { limit: MAX_NETWORKS });
                }
                self.networks.push((net, prefix, term));
            }
        }
        self.next_end = earliest(self.next_end, ends);
        Ok(())
    }

    /// Ends a ban. Returns whether there was one.
    pub(super) fn remove(&mut self, target: BanTarget) -> bool {
        match target {
            BanTarget::Peer(peer) => self.peers.swap_remove(&PackedPeerId::from(&peer)).is_some(),
            BanTarget::Network(net, prefix) => {
                let before = self.networks.len();
                self.networks.retain(|(known, bits, _)| (*known, *bits) != (net, prefix));
                self.networks.len() < before
            }
        }
    }

    /// Ends those whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.next_end.is_none_or(|end| end > now) {
            return;
        }
        let goes_on = |term: &Term| term.ends.is_none_or(|end| end > now);
        self.peers.retain(|_, term| goes_on(term));
        self.networks.retain(|(.., term)| goes_on(term));
        let terms = self.peers.values().chain(self.networks.iter().map(|(.., term)| term));
        self.next_end = terms.fold(None, |first, term| earliest(first, term.ends));
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.next_end
    }

    /// Returns whether a peer is a member and not banned, wherever it is. The node itself is admitted in any case.
    pub(super) fn admits(&self, peer: &PeerId) -> bool {
        let is_member = |members: &Membership| *peer == self.local || members.has(peer);
        self.membership.as_ref().is_none_or(is_member)
            && (self.peers.is_empty() || !self.peers.contains_key(&PackedPeerId::from(peer)))
    }

    /// Returns whether an IP address lies in a network that is banned.
    pub(super) fn has_banned(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|(net, prefix, _)| is_within(ip, (*net, *prefix)))
    }

    /// Returns whether an address leads into a network that is banned, as far as it tells.
    pub(super) fn has_banned_address(&self, address: &Multiaddr) -> bool {
        !self.networks.is_empty() && proven_ip_of(address).is_some_and(|ip| self.has_banned(ip))
    }

    /// Returns those of some addresses that do not lead into a network that is banned; shares the list if it is all of them.
    pub(super) fn allowed(&self, addresses: Addresses) -> Addresses {
        if self.networks.is_empty() || !addresses.iter().any(|address| self.has_banned_address(address)) {
            return addresses;
        }
        let allowed = addresses.iter().filter(|address| !self.has_banned_address(address)).cloned();
        Addresses::empty().merged(allowed)
    }

    /// Returns whether anybody is kept out.
    pub(super) fn is_idle(&self) -> bool {
        self.membership.is_none() && self.peers.is_empty() && self.networks.is_empty()
    }

    /// Iterates over the bans: of peers, and then of networks.
    pub(super) fn iter(&self) -> impl Iterator<Item = Ban> {
        let ban = |target, term: &Term| Ban { target, until: term.until, why: term.why.to_string() };
        let peers = self.peers.iter().map(move |(peer, term)| ban(BanTarget::Peer(peer.unpacked()), term));
        let networks = self.networks.iter();
        peers.chain(networks.map(move |(net, bits, term)| ban(BanTarget::Network(*net, *bits), term)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::tests::{MS, SECOND, peer};
    use crate::time::start;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn add(bans: &mut Bans, target: impl Into<BanTarget>, seconds: Option<u32>) -> Result<(), BanError> {
        let until = seconds.map(|seconds| WALL + seconds * SECOND);
        bans.add((start(), WALL + SECOND), target.into(), until, "why")
    }

    #[test]
    fn a_ban_lasts_until_its_end_or_until_it_is_lifted() {
        let mut bans = Bans::new(peer(0), None);
        assert!(bans.is_idle() && bans.admits(&peer(1)));
        add(&mut bans, peer(1), Some(11)).unwrap();
        add(&mut bans, peer(2), None).unwrap();
        assert!(!bans.admits(&peer(1)) && !bans.admits(&peer(2)) && bans.admits(&peer(3)));
        assert_eq!(bans.deadline(), Some(start() + 10 * SECOND));
        bans.handle_timeout(start() + 10 * SECOND - MS);
        assert!(!bans.admits(&peer(1)));
        bans.handle_timeout(start() + 10 * SECOND);
        assert!(bans.admits(&peer(1)) && !bans.admits(&peer(2)));
        assert_eq!(bans.deadline(), None);
        assert!(bans.remove(peer(2).into()) && !bans.remove(peer(2).into()));
        assert!(bans.is_idle());
        assert_eq!(add(&mut bans, peer(1), Some(0)), Err(BanError::Over));
    }

    #[test]
    fn networks_are_banned_by_prefix() {
        let mut bans = Bans::new(peer(0), None);
        let net: IpAddr = "1.2.3.0".parse().unwrap();
        add(&mut bans, (net, 24), None).unwrap();
        add(&mut bans, "2001:db8::1".parse::<IpAddr>().unwrap(), None).unwrap();
        let is_banned = |ip: &str| bans.has_banned(ip.parse().unwrap());
        assert!(is_banned("1.2.3.4") && is_banned("::ffff:1.2.3.4") && is_banned("2001:db8::1"));
        assert!(!is_banned("1.2.4.4") && !is_banned("2001:db8::2"));
        let leads_there = |address: &str| bans.has_banned_address(&address.parse().unwrap());
        assert!(leads_there("/ip4/1.2.3.4/tcp/1") && leads_there("/dns4/1-2-3-4.k51.libp2p.direct/tcp/1"));
        assert!(!leads_there("/dns4/a.example/tcp/1") && !leads_there("/memory/1"));
        assert_eq!(add(&mut bans, (net, 33), None), Err(BanError::Prefix { prefix: 33 }));
        assert_eq!(bans.iter().count(), 2);
        assert!(bans.remove((net, 24).into()) && !bans.has_banned("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn there_are_so_many_at_most_and_reasons_are_cut() {
        let mut bans = Bans::new(peer(0), None);
        for n in 0..=255 {
            add(&mut bans, IpAddr::from([9, 9, 9, n]), None).unwrap();
        }
        let more = add(&mut bans, IpAddr::from([9, 9, 8, 1]), None);
        assert_eq!(more, Err(BanError::TooMany { limit: 256 }));
        add(&mut bans, IpAddr::from([9, 9, 9, 7]), None).unwrap();
        let why = "ä".repeat(200);
        bans.add((start(), WALL), peer(1).into(), None, &why).unwrap();
        assert_eq!(bans.iter().next().unwrap().why, "ä".repeat(128));
    }

    #[test]
    fn whoever_is_no_member_is_not_admitted() {
        let mut bans = Bans::new(peer(0), Some(Membership::of([peer(1), peer(2)])));
        assert!(bans.admits(&peer(1)) && !bans.admits(&peer(3)) && !bans.is_idle());
        assert!(bans.admits(&peer(0)), "the node itself");
        assert_eq!(add(&mut bans, peer(0), None), Err(BanError::Own));
        add(&mut bans, peer(1), None).unwrap();
        assert!(!bans.admits(&peer(1)) && bans.admits(&peer(2)));
    }
}
