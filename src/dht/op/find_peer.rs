//! Finds one peer and its addresses.

use libp2p_identity::PeerId;

use super::search::{Search, Want};
use super::{Answer, End, Machine, Step, View};
use crate::addrs::Addresses;
use crate::error::{FindPeerError, RequestError};
use crate::event::{Evidence, FindPeerOk, QueryInfo, QueryResult, QueryStats};
use crate::peer::PeerInfo;
use crate::time::Instant;

/// A search for one peer.
///
/// # What it decides
/// When the peer is found. Anybody can name any address, so a single report does not end the search while others may
/// still report: it ends when the peer itself has answered, or two peers have named the same address, or the search is
/// over; then all addresses that were named are returned.
///
/// # Spec
/// libp2p kad-dht, "Peer routing". `libp2p-kad` has no such operation; `go-libp2p-kad-dht` ends when it has dialled the
/// peer.
#[derive(Debug)]
pub(in crate::dht) struct FindPeer {
    peer: PeerId,
    search: Search,
    /// All addresses that were named for the peer.
    named: Addresses,
    evidence: Option<Evidence>,
}

impl FindPeer {
    pub(in crate::dht) const fn new(peer: PeerId, search: Search, named: Addresses) -> Self {
        Self { peer, search, named, evidence: None }
    }

    fn found(&self, view: &View<'_>, evidence: Evidence) -> FindPeerOk {
        let met_at = view.peers.addresses(&self.peer);
        let addrs = met_at.merged(self.named.iter().cloned()).into_vec();
        FindPeerOk { peer: PeerInfo { peer_id: self.peer, addrs }, evidence }
    }
}

impl Machine for FindPeer {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step {
        let evidence = match self.evidence {
            Some(evidence) if evidence > Evidence::OneReport => Some(evidence),
            Some(_) | None => match self.search.next(now, view, 0) {
                Want::Ask(ask) => return Step::Ask(ask),
                Want::Wait => return Step::Wait,
                Want::Done => self.evidence,
            },
        };
        Step::Done(QueryResult::FindPeer(match evidence {
            Some(evidence) => Ok(self.found(view, evidence)),
            None => Err(FindPeerError::NotFound { closest: self.closest(view) }),
        }))
    }

    fn answered(&mut self, now: Instant, from: &PeerId, _: u16, answer: Answer) {
        if *from == self.peer {
            self.evidence = Some(Evidence::Answered);
        } else if !answer.target.is_empty() {
            let agrees = answer.target.iter().any(|address| self.named.iter().any(|named| named == address));
            let evidence = if agrees { Evidence::SeveralReports } else { Evidence::OneReport };
            self.evidence = self.evidence.max(Some(evidence));
            self.named = self.named.merged(answer.target.iter().cloned());
        }
        self.search.answered(now, from, answer);
    }

    fn failed(&mut self, from: &PeerId, _: u16, _: RequestError) {
        self.search.failed(from);
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        QueryResult::FindPeer(match (self.evidence, why) {
            (_, End::Cancelled) => Err(FindPeerError::Cancelled),
            (Some(evidence), End::Timeout | End::Enough) => Ok(self.found(view, evidence)),
            (None, End::Timeout) => Err(FindPeerError::Timeout { closest: self.closest(view) }),
            (None, End::Enough) => Err(FindPeerError::NotFound { closest: self.closest(view) }),
        })
    }

    fn looks_for(&self) -> Option<&PeerId> {
        Some(&self.peer)
    }

    fn deadline(&self) -> Option<Instant> {
        self.search.deadline()
    }

    fn info(&self) -> QueryInfo {
        QueryInfo::FindPeer { peer: self.peer }
    }

    fn count(&self, stats: &mut QueryStats) {
        self.search.count(stats);
    }
}

impl FindPeer {
    fn closest(&self, view: &View<'_>) -> Vec<PeerInfo> {
        self.search.closest(view, view.config.bucket_size().get())
    }
}
