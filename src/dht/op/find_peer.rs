//! Finds one peer and its addresses.

use std::cmp::Reverse;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::machine::{Begin, End, FilteredAnswer, Findings, Machine, Step, View, preimage_of};
use super::search::Search;
use crate::addrs::{Addresses, Reach};
use crate::config::Config;
use crate::dht::advice::Failure;
use crate::dht::context::Context;
use crate::dht::view::Parts;
use crate::error::fates::so_far;
use crate::error::{Fates, NoKnownPeers, QueryError, RequestError, query_error};
use crate::event::{Precision, ProgressStep, QueryStats};
use crate::peer::PeerInfo;
use crate::query::lookup::Place;
use crate::time::Instant;

/// The outcome of a search for one peer.
pub type FindPeerResult = Result<FindPeerOk, FindPeerError>;

/// A peer that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FindPeerOk {
    /// The peer with its addresses.
    pub peer: PeerInfo,
    /// How sure it is that the addresses are the peer's.
    pub evidence: Evidence,
}

/// The confidence in the addresses of a peer that was found: what speaks for them, ordered from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// Nobody says so now. Within the last 24 hours this node met the peer there, was told so by another part of the program,
    /// or found it there; addresses may lead through a relay that the peer has left.
    Remembered,
    /// One peer said so.
    OneReport,
    /// Several peers named the same address.
    SeveralReports,
    /// The peer itself answered at one of them, or is connected.
    Answered,
}

/// Why a peer was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindPeerError {
    /// The search ended and nobody knew an address of the peer: it is offline, a client, or of another network. Search again
    /// later.
    #[error("none of those that answered knows an address of the peer (the closest of them: {})", .closest.len())]
    NotFound {
        /// The closest peers that answered, nearest first.
        closest: Vec<PeerInfo>,
    },
    /// Nobody that was asked has answered. See what became of them, add the address of a peer that serves the protocol, and
    /// search again.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// What became of those that were asked.
        fates: Fates,
    },
    /// What any query may fail of: see [`QueryError`] for what to do.
    #[error("{cause}{}", so_far("closest peers that had answered", .closest.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The peer.
        peer: PeerId,
        /// The closest peers that had answered, nearest first.
        closest: Vec<PeerInfo>,
    },
}

query_error!(FindPeerError);

impl Findings for FindPeerResult {
    fn found(&self) -> &[PeerInfo] {
        self.as_ref().map_or(&[], |ok| std::slice::from_ref(&ok.peer))
    }

    fn is_remembered(&self) -> bool {
        matches!(self, Ok(FindPeerOk { evidence: Evidence::Remembered, .. }))
    }

    fn failure(&self) -> Option<Failure> {
        match self {
            Err(FindPeerError::NoAnswer { fates, .. }) => Some(Failure::of_fates(fates)),
            Err(error) => Failure::of_query(error.query_error()),
            Ok(_) => None,
        }
    }
}

/// What is seen of a search for one peer that runs.
#[derive(Debug)]
pub(in crate::dht) struct FindPeerInfo {
    pub(in crate::dht) peer: PeerId,
}

/// A search for one peer.
///
/// # What it decides
/// When the peer is found. Anybody can name any address, so a single report does not end the search while others may
/// still report: it ends when the peer itself has answered, or two peers have named the same address, or the search is
/// over; then all addresses that were named are returned. If nobody has named one, those are that this node has learnt of
/// itself within 24 hours, relayed ones too, and marked as remembered.
///
/// # Spec
/// libp2p kad-dht, "Peer routing". `libp2p-kad` has no such operation; `go-libp2p-kad-dht` ends when it has dialled the
/// peer.
#[derive(Debug)]
pub(in crate::dht) struct FindPeer {
    peer: PeerId,
    search: Search,
    /// All addresses that were named for the peer, with how many peers have named each.
    reports: Vec<(Multiaddr, u32)>,
    evidence: Option<Evidence>,
    /// Where it was, as this node knew before.
    remembered: Addresses,
}

/// How many addresses that were named are counted; more than all peers of a lookup have if they tell the truth.
/// Chosen, not measured.
const MAX_REPORTS: usize = 256;

impl FindPeer {
    /// A peer has named these addresses.
    fn reported(&mut self, addresses: &Addresses) {
        for address in addresses {
            if let Some((_, count)) = self.reports.iter_mut().find(|(known, _)| known == address) {
                *count += 1;
            } else if self.reports.len() < MAX_REPORTS {
                self.reports.push((address.clone(), 1));
            }
        }
        let agreed = self.reports.iter().any(|(_, count)| *count > 1);
        let evidence = if agreed { Evidence::SeveralReports } else { Evidence::OneReport };
        self.evidence = self.evidence.max(Some(evidence));
    }

    /// Returns the addresses: where it has been met first, then those that most have named.
    fn found(&self, view: &View<'_>, evidence: Evidence) -> FindPeerOk {
        let mut reports: Vec<_> = self.reports.iter().collect();
        reports.sort_by_key(|(_, count)| Reverse(*count));
        let named = Addresses::empty().merged(reports.into_iter().map(|(address, _)| address.clone()));
        let met_at = view.peers.addresses(&self.peer);
        let addrs = match evidence {
            Evidence::Answered => met_at.merged(named.iter().cloned()),
            Evidence::OneReport | Evidence::SeveralReports => named.merged(met_at.iter().cloned()),
            Evidence::Remembered => self.remembered.clone(),
        };
        FindPeerOk { peer: PeerInfo { peer_id: self.peer, addrs: addrs.into_vec() }, evidence }
    }

    /// Returns what speaks for an address of the peer, if there is any.
    fn evidence(&self) -> Option<Evidence> {
        self.evidence.or_else(|| (!self.remembered.is_empty()).then_some(Evidence::Remembered))
    }

    fn closest(&self, view: &View<'_>) -> Vec<PeerInfo> {
        self.search.closest_answered(view, view.config.bucket_size().get())
    }
}

impl Begin for FindPeer {
    type Command = PeerId;
    type Info = FindPeerInfo;
    type Result = FindPeerResult;

    fn seen(peer: &PeerId, _: &Config) -> FindPeerInfo {
        FindPeerInfo { peer: *peer }
    }

    /// Begins to search a peer, unless it is connected or this node itself, or nobody is known who could be asked.
    fn begin(now: Instant, peer: PeerId, parts: &mut Parts<'_>) -> Result<Self, Box<FindPeerResult>> {
        let ok = |addresses: Addresses, evidence| {
            let peer = PeerInfo { peer_id: peer, addrs: addresses.into_vec() };
            Err(Box::new(Ok(FindPeerOk { peer, evidence })))
        };
        let Context { local, config, .. } = &*parts.cx;
        if peer == local.peer {
            return ok(local.addresses_for(Reach::World), Evidence::Answered);
        }
        let known = parts.peers.get(&peer);
        if let Some(known) = known.filter(|known| known.is_connected() && !known.addresses.is_empty()) {
            return ok(known.addresses.clone(), Evidence::Answered);
        }
        let (key, k) = (parts.peers.key(&peer), config.bucket_size().get());
        let remembered = parts.peers.remembered(now, &peer);
        match Search::begin(now, preimage_of(&peer, key), k, Precision::Near, parts) {
            Ok(mut search) => {
                // It may still be where it was last heard of, and it is its own best witness.
                search.add(peer, key, parts.peers.dialable(&peer));
                Ok(Self { peer, search, reports: Vec::new(), evidence: None, remembered })
            }
            Err(NoKnownPeers()) if !remembered.is_empty() => ok(remembered, Evidence::Remembered),
            Err(error) => {
                let error = FindPeerError::Query { cause: error.into(), peer, closest: Vec::new() };
                Err(Box::new(Err(error)))
            }
        }
    }
}

impl<R: From<FindPeerResult>, I: From<FindPeerInfo>> Machine<R, I> for FindPeer {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        let evidence = match self.evidence {
            Some(evidence) if evidence > Evidence::OneReport => Some(evidence),
            Some(_) | None => match self.search.next(now, view, 0) {
                Some(step) => return step,
                None => self.evidence(),
            },
        };
        Step::Done(R::from(match evidence {
            Some(evidence) => Ok(self.found(view, evidence)),
            None if !self.search.has_answers() => {
                Err(FindPeerError::NoAnswer { fates: self.search.fates(view) })
            }
            None => Err(FindPeerError::NotFound { closest: self.closest(view) }),
        }))
    }

    fn knows(&self, _: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        self.search.knows(peer, addresses)
    }

    fn place(&mut self, now: Instant, to: &PeerId, _: u16, place: Place) {
        self.search.place(now, to, place);
    }

    fn answered(&mut self, from: &PeerId, _: u16, answer: FilteredAnswer) {
        if *from == self.peer {
            self.evidence = Some(Evidence::Answered);
        } else if !answer.target.is_empty() {
            self.reported(&answer.target);
        }
        self.search.answered(from, answer);
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        self.search.failed(from, error);
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        R::from(match (self.evidence(), why) {
            (Some(evidence), End::Timeout | End::Enough) => Ok(self.found(view, evidence)),
            (_, End::Cancelled | End::Refused { .. }) | (None, End::Timeout) => {
                let (peer, closest) = (self.peer, self.closest(view));
                Err(FindPeerError::Query { cause: why.cause(), peer, closest })
            }
            (None, End::Enough) => Err(FindPeerError::NotFound { closest: self.closest(view) }),
        })
    }

    fn looks_for(&self) -> Option<&PeerId> {
        Some(&self.peer)
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(FindPeerInfo { peer: self.peer })
    }

    fn count(&self, stats: &mut QueryStats) {
        self.search.count(stats);
    }
}
