//! Charging: the groups and peers charged for what is kept for others, how much each may take, and what makes way for what.
//!
//! Knows peers, IP groups and amounts; neither keys nor values, nor where anything is kept. Records and provider records are
//! charged by the same [`charge`], so that whatever holds for one holds for the other.
//!
//! # Who is charged
//! Whatever a peer wants kept is charged to the IP group of its connection. What it hands on for another publisher, a replica,
//! is charged to the peer itself besides: under whatever addresses it comes, and however many others have given it something
//! to hand on, it takes no more than one share. A provider record is never a replica, since a statement counts only of the
//! peer that makes it.
//!
//! # What makes way
//! A replica displaces nothing. Its publisher is a claim; so it gets what room is left, and what a publisher has put
//! itself, whose id its connection proves, takes that back. A peer that grinds keys that lie next to a node, and leaves records
//! under them with its neighbours to be handed on, thus takes free room at most.

use libp2p_identity::PeerId;

use super::Source;
use crate::addrs::IpGroup;
use crate::peer::PackedPeerId;

/// One IP group may take one part in so many of the room for others, and so may one peer of what it hands on.
///
/// All that one is handed on comes from some `k` = 20 neighbours: with a sixteenth each they can still fill the room, so that
/// an honest newcomer is given everything. Chosen; `tests/sim/golden/laundering.txt` holds what comes of it.
pub(super) const SHARE: usize = 16;

/// The providers of one IP group may be one part in so many of those of a key. Chosen, not measured.
pub(super) const KEY_SHARE: usize = 4;

/// So many things, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

impl Amount {
    /// Returns the amount of so many things whose bytes are not counted.
    pub(super) const fn of(count: usize) -> Self {
        Self { count, bytes: 0 }
    }

    pub(super) const fn plus(self, more: Self) -> Self {
        Self { count: self.count + more.count, bytes: self.bytes + more.bytes }
    }

    pub(super) const fn minus(self, less: Self) -> Self {
        Self { count: self.count.saturating_sub(less.count), bytes: self.bytes.saturating_sub(less.bytes) }
    }

    pub(super) const fn fits(self, room: Self) -> bool {
        self.count <= room.count && self.bytes <= room.bytes
    }

    /// Returns one part in so many, rounded up.
    const fn share(self, parts: usize) -> Self {
        Self { count: self.count.div_ceil(parts), bytes: self.bytes.div_ceil(parts) }
    }
}

/// The IP group that is charged for something that is kept for others, and the peer that has handed it on, if one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    group: Option<IpGroup>,
    handed_on_by: Option<PackedPeerId>,
}

impl Charge {
    /// Returns the charge for what a peer wants kept that is of `author`; of the peer itself if no author is named and it does
    /// not hand it on.
    pub(super) fn of(author: Option<&PeerId>, source: &Source) -> Self {
        let is_replica = source.hands_on || author.is_some_and(|author| *author != source.peer);
        Self { group: source.group, handed_on_by: is_replica.then(|| PackedPeerId::from(&source.peer)) }
    }

    /// Returns the charge for what its author wants kept itself.
    pub(super) const fn direct(group: Option<IpGroup>) -> Self {
        Self { group, handed_on_by: None }
    }

    /// Returns the group that is charged; a peer that belongs to none is bounded by the room alone.
    pub(super) const fn group(&self) -> Option<IpGroup> {
        self.group
    }

    /// Returns the peer that has handed it on; `None` if its author has put it here.
    pub(super) const fn handed_on_by(&self) -> Option<&PackedPeerId> {
        self.handed_on_by.as_ref()
    }

    pub(super) const fn is_replica(&self) -> bool {
        self.handed_on_by.is_some()
    }

    /// Returns whether it takes the room of something else that is kept for others.
    pub(super) const fn displaces(&self, is_replica: bool, is_farther: bool) -> bool {
        !self.is_replica() && (is_replica || is_farther)
    }

    /// Returns the charge as bytes: nothing, or the group; of a replica 255 · the length of the group · group · peer.
    #[cfg(feature = "redb")]
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let group = self.group.map_or_else(Vec::new, IpGroup::to_bytes);
        match &self.handed_on_by {
            None => group,
            Some(peer) => {
                let len = u8::try_from(group.len()).unwrap_or(0);
                [&[REPLICA, len], &group[..], &peer.unpacked().to_bytes()].concat()
            }
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has written.
    #[cfg(feature = "redb")]
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let group = |bytes: &[u8]| {
            if bytes.is_empty() { Some(None) } else { IpGroup::from_bytes(bytes).map(Some) }
        };
        let Some(rest) = bytes.strip_prefix(&[REPLICA]) else {
            return Some(Self::direct(group(bytes)?));
        };
        let (len, rest) = rest.split_first()?;
        let (name, peer) = rest.split_at_checked(usize::from(*len))?;
        let peer = PeerId::from_bytes(peer).ok()?;
        Some(Self { group: group(name)?, handed_on_by: Some(PackedPeerId::from(&peer)) })
    }
}

/// What stands first in the bytes of a replica's charge, where the kind of a group would: in the format of the
/// store on disk no kind has this number.
#[cfg(feature = "redb")]
const REPLICA: u8 = 255;

/// What is taken already: of all the room for others, by the group that is charged, by the peer that hands on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) all: Amount,
    pub(super) group: Amount,
    pub(super) peer: Amount,
}

/// What is too small for something more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// The share of the peer that hands it on.
    Peer,
    /// The share of the group.
    Group,
    /// The room for others.
    Room,
}

/// Checks whether something more fits the shares that `charge` names, and the room; if not, says which is too small.
///
/// Each share is one part in `parts` of the room. The shares come first: what is beyond one takes nobody else's room.
pub(super) fn charge(
    charge: &Charge,
    cost: Amount,
    taken: &Taken,
    room: Amount,
    parts: usize,
) -> Result<(), Beyond> {
    let share = room.share(parts);
    if charge.is_replica() && !taken.peer.plus(cost).fits(share) {
        Err(Beyond::Peer)
    } else if charge.group.is_some() && !taken.group.plus(cost).fits(share) {
        Err(Beyond::Group)
    } else if !taken.all.plus(cost).fits(room) {
        Err(Beyond::Room)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[n; 32]).unwrap()).unwrap()
    }

    fn source(n: u8, group: Option<u8>) -> Source {
        Source { peer: peer(n), group: group.map(|group| IpGroup::V4([group, 0])), hands_on: false }
    }

    #[test]
    fn whoever_names_another_author_hands_on() {
        let from = source(1, Some(7));
        assert!(!Charge::of(None, &from).is_replica() && !Charge::of(Some(&peer(1)), &from).is_replica());
        let replica = Charge::of(Some(&peer(2)), &from);
        assert!(replica.handed_on_by().unwrap().is(&peer(1)) && replica.group() == from.group);
    }

    #[test]
    fn the_shares_of_the_peer_and_of_the_group_come_before_the_room() {
        let (room, one) = (Amount { count: 160, bytes: 1600 }, Amount { count: 1, bytes: 10 });
        let ten = Amount { count: 10, bytes: 100 };
        let nothing = Taken::default();
        let [direct, homeless] = [Some(1), None].map(|group| Charge::of(None, &source(1, group)));
        let [replica, homeless_replica] =
            [Some(1), None].map(|group| Charge::of(Some(&peer(2)), &source(1, group)));
        let of_group = Taken { group: ten, all: ten, ..nothing };
        let of_peer = Taken { peer: ten, ..of_group };
        let of_all = Taken { all: room, ..nothing };
        for (who, taken, expected) in [
            (&direct, nothing, Ok(())),
            (&direct, of_group, Err(Beyond::Group)),
            (&direct, of_all, Err(Beyond::Room)),
            (&homeless, of_group, Ok(())),
            (&homeless, of_all, Err(Beyond::Room)),
            (&replica, of_peer, Err(Beyond::Peer)),
            (&replica, of_group, Err(Beyond::Group)),
            (&homeless_replica, of_peer, Err(Beyond::Peer)),
            (&homeless_replica, of_group, Ok(())),
        ] {
            assert_eq!(charge(who, one, &taken, room, SHARE), expected, "{who:?} {taken:?}");
        }
        // Bytes count as well as numbers.
        let large = Amount { count: 1, bytes: 101 };
        assert_eq!(charge(&direct, large, &nothing, room, SHARE), Err(Beyond::Group));
        assert_eq!(charge(&homeless_replica, large, &nothing, room, SHARE), Err(Beyond::Peer));
        assert_eq!(charge(&homeless, large, &nothing, room, SHARE), Ok(()));
    }

    #[test]
    fn a_replica_displaces_nothing_and_makes_way_for_whatever_its_author_puts() {
        let [direct, replica] =
            [None, Some(peer(2))].map(|author| Charge::of(author.as_ref(), &source(1, None)));
        for is_farther in [true, false] {
            for is_replica in [true, false] {
                assert!(!replica.displaces(is_replica, is_farther));
                assert_eq!(direct.displaces(is_replica, is_farther), is_replica || is_farther);
            }
        }
    }

    #[cfg(feature = "redb")]
    #[test]
    fn a_charge_is_read_as_it_was_written_and_a_group_alone_is_one() {
        for group in [None, Some(1)] {
            for author in [None, Some(peer(2))] {
                let charge = Charge::of(author.as_ref(), &source(1, group));
                assert_eq!(Charge::from_bytes(&charge.to_bytes()), Some(charge));
            }
        }
        let group = IpGroup::V6([1, 2, 3, 4]);
        assert_eq!(Charge::from_bytes(&group.to_bytes()), Some(Charge::direct(Some(group))));
        for bad in [&[9, 9][..], &[255], &[255, 9, 1], &[255, 0], &[255, 0, 1, 2]] {
            assert_eq!(Charge::from_bytes(bad), None, "{bad:?}");
        }
    }
}
