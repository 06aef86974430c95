//! Answers are distrusted: what is left of the peers an answer names before a lookup sees them.
//!
//! Knows the answer, who gave it and the rules; changes nothing.

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::local::Local;
use crate::addrs::{Addresses, IpGroup, MAX_ADDRESS_BYTES, Reach, is_dialable};
use crate::config::{Config, IpDiversity};
use crate::error::AddressError;
use crate::key::Key;
use crate::message::{Response, SentRecord};
use crate::peer::KadPeer;
use crate::record::Record;
use crate::time::SystemTime;
use crate::validate::Validator as _;

/// How many peers of one IP group in one answer count. Chosen, not measured: as many as the IPFS `spec` lets into a bucket.
const MAX_PER_GROUP: usize = 2;

/// A closer peer: one that an answer names, ready for a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CloserPeer {
    pub(super) key: Key,
    pub(super) peer: PeerId,
    pub(super) addresses: Addresses,
}

/// What an answer says.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) closer: Vec<KadPeer>,
    pub(super) record: Option<SentRecord>,
    pub(super) providers: Vec<KadPeer>,
}

/// Takes an answer apart.
pub(super) fn contents(response: Response) -> Contents {
    match response {
        Response::GetValue { closer_peers: closer, record, .. } => {
            Contents { closer, record, ..Contents::default() }
        }
        Response::FindNode { closer_peers: closer } => Contents { closer, ..Contents::default() },
        Response::GetProviders { closer_peers: closer, provider_peers: providers, .. } => {
            Contents { closer, providers, record: None }
        }
        Response::Pong | Response::PutValue { .. } | Response::AddProvider { .. } => Contents::default(),
    }
}

/// Returns the record of an answer, if it may stand under its key.
pub(super) fn valid_record(wall: SystemTime, record: SentRecord, config: &Config) -> Option<Record> {
    let valid = config.records.validators.validate(wall, &record.key, &record.value);
    if let Err(error) = &valid {
        tracing::debug!(%error, "a record that was found is not valid");
    }
    valid.ok().map(|()| record.into_record(wall))
}

/// Returns the peers of an answer that count, with their keys.
///
/// At most `k` of them, in the order in which they were named; not this node, not the one that answered, nobody twice;
/// addresses as far as the configured filter keeps them and the one that answered can know of them, none of this node's own;
/// where IP diversity is strict at most two of one IP group, of whatever address they claim to have: a private one beside it exempts
/// nobody. Peers
/// without an address are dropped unless `is_known`; those of whom `is_old` says that they are no news count, and are left out.
pub(super) fn filter(
    answer: Vec<KadPeer>,
    (from, reach): (&PeerId, Reach),
    local: &Local,
    config: &Config,
    is_known: impl Fn(&PeerId) -> bool,
    is_old: impl Fn(&PeerId, &Addresses) -> bool,
) -> Vec<CloserPeer> {
    let k = config.bucket_size().get();
    // Else what is closest stays closest: whose network it is decides who has a place, not who is found.
    let is_strict = config.ip_diversity() == IpDiversity::Strict;
    let mut named: Vec<CloserPeer> = Vec::new();
    let mut old: SmallVec<[PeerId; 20]> = SmallVec::new();
    // Of whom is named or old. Each is held against all before it, and ids are long.
    let mut ends: SmallVec<[u64; 20]> = SmallVec::new();
    let mut groups: SmallVec<[(IpGroup, usize); 24]> = SmallVec::new();
    for KadPeer { node_id: peer, multiaddrs, .. } in answer {
        if named.len() + old.len() == k {
            break;
        }
        let end = end_of(&peer);
        let is_twice =
            ends.contains(&end) && (named.iter().any(|known| known.peer == peer) || old.contains(&peer));
        if peer == *from || peer == local.peer || is_twice {
            continue;
        }
        let is_old = is_old(&peer, &multiaddrs);
        let addresses = if is_old { multiaddrs } else { heard(multiaddrs, reach, local, config) };
        if addresses.is_empty() && !is_known(&peer) {
            continue;
        }
        if is_strict && !has_room(&mut groups, &addresses, config) {
            continue;
        }
        ends.push(end);
        if is_old {
            old.push(peer);
            continue;
        }
        named.push(CloserPeer { key: Key::of_peer(&peer, config.key_hash), peer, addresses });
    }
    named
}

/// Returns the last bytes of an id, which of two ids hardly ever are the same.
fn end_of(peer: &PeerId) -> u64 {
    let last = peer.as_ref().digest().last_chunk();
    last.copied().map_or(0, u64::from_le_bytes)
}

/// Returns the addresses of others that are worth something when a peer names them whose connection reaches so far: those of
/// a machine or a site only of one that was met there. The configured filter keeps them, too.
pub(super) fn heard(addresses: Addresses, reach: Reach, local: &Local, config: &Config) -> Addresses {
    kept(addresses.within(reach), local, config)
}

/// Returns the addresses that are kept: those that the configured filter lets through and that are not this node's own.
pub(super) fn kept(addresses: Addresses, local: &Local, config: &Config) -> Addresses {
    if addresses.iter().all(|address| keeps(address, local, config)) {
        return addresses;
    }
    Addresses::empty().merged(addresses.iter().filter(|address| keeps(address, local, config)).cloned())
}

/// Returns why an address without a `/p2p` suffix, which the application has named, is not one to reach another peer at.
pub(super) fn check(address: &Multiaddr, local: &Local, config: &Config) -> Result<(), AddressError> {
    if local.is_own(address) {
        Err(AddressError::Own)
    } else if has_no_port(address) {
        Err(AddressError::NoPort)
    } else if address.is_empty() || address.len() > MAX_ADDRESS_BYTES || !is_dialable(address) {
        Err(AddressError::Undialable)
    } else if !keeps(address, local, config) {
        Err(AddressError::Filtered)
    } else {
        Ok(())
    }
}

/// Returns whether an address ends with a machine or begins with port 0.
fn has_no_port(address: &Multiaddr) -> bool {
    let is_port_0 = |protocol| matches!(protocol, Protocol::Tcp(0) | Protocol::Udp(0) | Protocol::Memory(0));
    let is_machine = |protocol: &Protocol<'_>| {
        matches!(
            protocol,
            Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)
        )
    };
    address.iter().any(is_port_0) || address.iter().last().as_ref().is_some_and(is_machine)
}

/// Returns whether an address of another peer is kept.
pub(super) fn keeps(address: &Multiaddr, local: &Local, config: &Config) -> bool {
    !local.is_own(address) && config.routing.address_filter.as_ref().is_none_or(|filter| filter(address))
}

/// Counts a peer into the groups of all its addresses, unless one of them is full.
fn has_room(groups: &mut SmallVec<[(IpGroup, usize); 24]>, addresses: &Addresses, config: &Config) -> bool {
    let exempt = |ip| config.routing.ip_limits.is_exempt(ip);
    let mut own: SmallVec<[IpGroup; 4]> = SmallVec::new();
    for address in addresses {
        if crate::addrs::ip_of(address).is_some_and(exempt) {
            continue;
        }
        if let Some(group) = IpGroup::of(address)
            && !own.contains(&group)
        {
            own.push(group);
        }
    }
    let full =
        |group: &IpGroup| groups.iter().any(|(known, count)| known == group && *count >= MAX_PER_GROUP);
    if own.iter().any(full) {
        return false;
    }
    for group in own {
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, count)) => *count += 1,
            None => groups.push((group, 1)),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::ConnectionType;

    fn peer(seed: u16) -> PeerId {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&seed.to_be_bytes());
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &digest).unwrap()).unwrap()
    }

    fn named(seed: u16, addresses: &[&str]) -> KadPeer {
        let multiaddrs = Addresses::collect(&peer(seed), addresses.iter().map(|text| text.parse().unwrap()));
        KadPeer { node_id: peer(seed), multiaddrs, connection_ty: ConnectionType::NotConnected }
    }

    fn this_node() -> Local {
        Local::new(peer(0), Key::of_peer(&peer(0), Key::sha256))
    }

    fn local(seed: u16) -> KadPeer {
        named(seed, &[&format!("/ip4/127.0.0.1/tcp/{seed}")])
    }

    fn run(answer: Vec<KadPeer>, config: &Config) -> Vec<PeerId> {
        let from = (&peer(1), Reach::Machine);
        let is_known = |peer_id: &PeerId| *peer_id == peer(900);
        let found = filter(answer, from, &this_node(), config, is_known, |_, _| false);
        found.iter().for_each(|named| assert_eq!(named.key, Key::of_peer(&named.peer, Key::sha256)));
        found.into_iter().map(|named| named.peer).collect()
    }

    #[test]
    fn a_thousand_peers_count_as_twenty() {
        let found = run((2..1002).map(local).collect(), &Config::default());
        assert_eq!(found, (2..22).map(peer).collect::<Vec<_>>());
    }

    #[test]
    fn this_node_the_responder_and_repetitions_do_not_count() {
        let found = run(vec![local(0), local(1), local(1), local(2), local(2), local(3)], &Config::default());
        assert_eq!(found, [peer(2), peer(3)]);
    }

    #[test]
    fn nobody_counts_without_an_address_unless_one_is_known() {
        assert_eq!(run(vec![named(2, &[]), named(900, &[])], &Config::default()), [peer(900)]);
    }

    #[test]
    fn two_of_one_group_count_and_a_private_address_exempts_nobody() {
        let in_group = |seed| named(seed, &[&format!("/ip4/1.2.{seed}.4/tcp/1")]);
        let with_private =
            |seed| named(seed, &[&format!("/ip4/10.0.0.{seed}/tcp/1"), &format!("/ip4/1.2.{seed}.4/tcp/1")]);
        let answer =
            vec![in_group(2), in_group(3), in_group(4), with_private(5), local(6), local(7), local(8)];
        assert_eq!(run(answer, &Config::default()), [peer(2), peer(3), peer(6), peer(7), peer(8)]);
        let everybody =
            run((2..9).map(in_group).collect(), &Config::default().with_ip_diversity(IpDiversity::Off));
        assert_eq!(everybody.len(), 7);
    }

    #[test]
    fn nobody_names_addresses_of_a_machine_or_a_site_who_was_not_met_there() {
        let [machine, site, world] = ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.1/tcp/1", "/ip4/1.2.3.4/tcp/1"];
        for (reach, left) in [
            (Reach::Machine, &[machine, site, world][..]),
            (Reach::Site, &[site, world]),
            (Reach::World, &[world]),
        ] {
            let answer = vec![named(2, &[machine, site, world]), named(3, &[machine])];
            let found =
                filter(answer, (&peer(1), reach), &this_node(), &Config::default(), |_| false, |_, _| false);
            let addresses: Vec<_> = found[0].addresses.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, left);
            assert_eq!(found.len() == 2, reach == Reach::Machine, "whoever is nowhere else does not count");
        }
    }

    #[test]
    fn what_the_filter_refuses_is_not_kept() {
        let config = Config::default().with_address_filter(|address| address.to_string().contains("/udp/"));
        let both = named(2, &["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1"]);
        let from = (&peer(1), Reach::Machine);
        let found = filter(vec![both, local(3)], from, &this_node(), &config, |_| false, |_, _| false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].addresses.len(), 1);
    }

    #[test]
    fn an_own_address_of_another_peer_is_not_kept() {
        let mut this = this_node();
        let own = "/ip4/127.0.0.1/tcp/7".parse().unwrap();
        this.set_addresses(&[], std::slice::from_ref(&own));
        let both = named(2, &["/ip4/127.0.0.1/tcp/7", "/ip4/127.0.0.1/tcp/8"]);
        let found = filter(
            vec![both, local(7)],
            (&peer(1), Reach::Machine),
            &this,
            &Config::default(),
            |_| false,
            |_, _| false,
        );
        assert_eq!(found.len(), 1, "nothing is left of the other");
        assert!(found[0].addresses.len() == 1 && !found[0].addresses.iter().any(|address| *address == own));
    }

    #[test]
    fn those_that_are_no_news_are_left_out_and_count_all_the_same() {
        let from = (&peer(1), Reach::World);
        let old = |known: &PeerId, _: &Addresses| (2..12).any(|seed| *known == peer(seed));
        let answer = (2..60).map(|seed| named(seed, &[&format!("/ip4/9.{seed}.0.1/tcp/1")]));
        let found = filter(answer.collect(), from, &this_node(), &Config::default(), |_| false, old);
        let found: Vec<_> = found.into_iter().map(|named| named.peer).collect();
        assert_eq!(found, (12..22).map(peer).collect::<Vec<_>>(), "twenty are looked at");
        let answer = (10..20).map(|seed| named(seed, &[&format!("/ip4/9.9.9.{seed}/tcp/1")]));
        let found = filter(answer.collect(), from, &this_node(), &Config::default(), |_| false, old);
        assert_eq!(found, [], "their group is full");
        let twice = [2, 2, 2, 30].map(|seed| named(seed, &["/ip4/9.9.9.9/tcp/1"]));
        let found = filter(twice.to_vec(), from, &this_node(), &Config::default(), |_| false, old);
        assert_eq!(found.len(), 1, "nobody counts twice");
    }
}
