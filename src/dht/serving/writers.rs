//! Two publishers that write one key: whose value stands.
//!
//! Knows which peer sends a record, whose it is, and whether a publisher has stored one itself. Which values are valid, and
//! which of two is better, the validators say.

use std::cmp::Ordering;

use libp2p_identity::PeerId;

use crate::config::OwnRecords;

/// How a record comes from another peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// From its publisher, or from a sender that names none.
    Direct,
    /// From a sender that hands it on.
    HandedOn,
    /// From a sender that hands it on as this node's own, as it may once have been.
    BroughtBack,
}

impl Arrival {
    pub(super) fn of(publisher: Option<&PeerId>, from: &PeerId, local: &PeerId) -> Self {
        match publisher {
            Some(publisher) if publisher == local => Self::BroughtBack,
            Some(publisher) if publisher != from => Self::HandedOn,
            Some(_) | None => Self::Direct,
        }
    }
}

/// The record that stands under the key of one that comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandingRecord {
    pub(super) is_own: bool,
    /// Whether it has the very same value.
    pub(super) is_same: bool,
    /// Whether a publisher has stored it itself within the time after which it does so again.
    pub(super) is_fresh: bool,
    /// How the value that comes compares with it.
    pub(super) order: Ordering,
}

/// What is to be done with a record that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored: nothing stands there, or what does gives way.
    Take,
    /// It is what stands there: that lasts as long as either.
    Renew,
    /// It takes the place of this node's own, which is told.
    Supersede,
    /// It is this node's own.
    Own,
    Refuse(&'static str),
    /// It is refused for this node's own, which is told.
    Keep,
}

/// Decides whose value stands under a key.
///
/// A better value stands, whosever the others are. Of values that are as good as each other, as all are where nothing
/// validates, that of the latest publisher does. What is only handed on fills a gap: it replaces nothing that a publisher has
/// stored itself within the time after which that does so again, or else an old value would come back from a holder that has
/// missed the new one. This node's own makes way as [`OwnRecords`] says.
pub(super) fn judge(known: Option<StandingRecord>, way: Arrival, own: OwnRecords) -> Verdict {
    let Some(StandingRecord { is_own, is_same, is_fresh, order }) = known else {
        return Verdict::Take;
    };
    match (order, is_own, way) {
        (Ordering::Less, ..) => Verdict::Refuse("a better record is known"),
        (_, true, _) if is_same => Verdict::Own,
        (_, false, _) if is_same => Verdict::Renew,
        (Ordering::Greater, true, _) => Verdict::Supersede,
        (Ordering::Equal, true, Arrival::BroughtBack) => {
            Verdict::Refuse("it is an earlier one of this node's own")
        }
        (Ordering::Equal, true, Arrival::Direct) if own == OwnRecords::Yield => Verdict::Supersede,
        (Ordering::Equal, true, Arrival::Direct | Arrival::HandedOn) => Verdict::Keep,
        (Ordering::Equal, false, Arrival::HandedOn | Arrival::BroughtBack) if is_fresh => {
            Verdict::Refuse("a publisher has stored another one itself")
        }
        (Ordering::Greater | Ordering::Equal, false, _) => Verdict::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering::{Equal, Greater, Less};

    const WAYS: [Arrival; 3] = [Arrival::Direct, Arrival::HandedOn, Arrival::BroughtBack];

    fn known(is_own: bool, is_same: bool, is_fresh: bool, order: Ordering) -> Option<StandingRecord> {
        Some(StandingRecord { is_own, is_same, is_fresh, order })
    }

    #[test]
    fn whoever_names_itself_or_nobody_is_the_publisher() {
        let [local, from, other] = [1, 2, 3].map(|n| {
            PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[n; 32]).unwrap()).unwrap()
        });
        let of = |publisher| Arrival::of(publisher, &from, &local);
        assert_eq!([of(None), of(Some(&from))], [Arrival::Direct; 2]);
        assert_eq!([of(Some(&other)), of(Some(&local))], [Arrival::HandedOn, Arrival::BroughtBack]);
    }

    #[test]
    fn a_better_value_stands_whosever_the_other_is() {
        for way in WAYS {
            for own in [OwnRecords::Keep, OwnRecords::Yield] {
                for is_fresh in [true, false] {
                    let judge = |is_own, order| judge(known(is_own, false, is_fresh, order), way, own);
                    assert_eq!(
                        (judge(false, Greater), judge(true, Greater)),
                        (Verdict::Take, Verdict::Supersede)
                    );
                    for is_own in [true, false] {
                        assert!(matches!(judge(is_own, Less), Verdict::Refuse(_)));
                    }
                }
            }
        }
    }

    #[test]
    fn of_equal_values_the_latest_publishers_stands_and_what_is_handed_on_fills_gaps() {
        for own in [OwnRecords::Keep, OwnRecords::Yield] {
            let judge = |known, way| judge(known, way, own);
            for way in WAYS {
                assert_eq!(judge(None, way), Verdict::Take);
                assert_eq!(judge(known(false, true, true, Equal), way), Verdict::Renew);
                assert_eq!(judge(known(true, true, false, Equal), way), Verdict::Own);
                assert_eq!(
                    judge(known(false, false, false, Equal), way),
                    Verdict::Take,
                    "what nobody puts any more"
                );
            }
            let fresh = known(false, false, true, Equal);
            assert_eq!(judge(fresh, Arrival::Direct), Verdict::Take);
            for way in [Arrival::HandedOn, Arrival::BroughtBack] {
                assert!(matches!(judge(fresh, way), Verdict::Refuse(_)));
            }
            let yields = own == OwnRecords::Yield;
            let mine = known(true, false, false, Equal);
            assert_eq!(judge(mine, Arrival::Direct), if yields { Verdict::Supersede } else { Verdict::Keep });
            assert_eq!(judge(mine, Arrival::HandedOn), Verdict::Keep);
            assert!(matches!(judge(mine, Arrival::BroughtBack), Verdict::Refuse(_)), "that is no conflict");
        }
    }
}
