//! Links: what becomes of a peer when a connection comes or goes, or a dial fails.
//!
//! Knows which requests wait for a connection, but not for whom they are made.

use std::collections::VecDeque;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::dials::{Dial, Whom};
use super::{Link, Met, Peers, Protocol};
use crate::addrs::{IpGroup, Reach};
use crate::dht::io::{DialFailure, DialId, Output};
use crate::error::RequestError;
use crate::event::QueryId;
use crate::time::{Duration, Instant};

impl Peers {
    /// Connects to an address, whoever is there.
    pub(in crate::dht) fn dial_address(
        &mut self,
        now: Instant,
        query: QueryId,
        address: Multiaddr,
        out: &mut VecDeque<Output>,
    ) {
        self.dials.wait_for_address(query, address);
        self.fill_slots(now, out);
    }

    /// Begins dials as long as there are slots.
    pub(super) fn fill_slots(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        while let Some(whom) = self.dials.next() {
            let (peer, addresses) = match whom {
                Whom::Peer(peer) => {
                    let Some(known) = self.known.get_mut(&peer) else {
                        continue;
                    };
                    // Meanwhile it may have connected by itself, or nobody wants it any more.
                    if known.link != Link::Queued {
                        continue;
                    }
                    if known.queue.waiting() == 0 {
                        known.link = Link::Idle;
                        continue;
                    }
                    known.link = Link::Dialling;
                    (Some(peer), known.dialable().into_vec())
                }
                Whom::Anybody(query) => match self.dials.take_address(query) {
                    Some(address) => (None, vec![address]),
                    None => continue,
                },
            };
            let id = self.dials.begin(now, whom);
            out.push_back(Output::Dial { id, peer, addresses });
        }
    }

    /// A connection is there. Returns how long the dial took that led to it.
    pub(in crate::dht) fn connected(
        &mut self,
        now: Instant,
        peer: PeerId,
        (address, dialled): (&Multiaddr, bool),
        dial: Option<DialId>,
        out: &mut VecDeque<Output>,
    ) -> Option<Duration> {
        let exempt = self.group(address);
        let known = self.remember(now, peer);
        known.link = Link::Connected;
        known.reach = Reach::of(address);
        known.group = exempt;
        known.backoff = None;
        if dialled {
            known.addresses = known.addresses.preferring(address).shared_with(&known.hints);
        }
        let dial = dial.and_then(|id| self.dials.end(id));
        // Whatever becomes of a dial of ours, nobody waits for it any more.
        self.dials.give_up_peer(peer);
        if let Some(Dial { whom: Whom::Anybody(query), .. }) = dial {
            self.met.push_back(Met { query, result: Ok(peer) });
        }
        self.serve(now, peer, out);
        self.fill_slots(now, out);
        dial.map(|dial| now.saturating_duration_since(dial.since))
    }

    /// Returns the IP group of the address at which a connection was made, if it is not exempt.
    fn group(&self, address: &Multiaddr) -> Option<IpGroup> {
        let diversity = self.diversity.as_ref()?;
        let exempt = crate::addrs::ip_of(address).is_some_and(|ip| diversity.is_exempt(ip));
        if exempt { None } else { IpGroup::of(address) }
    }

    /// The last connection is gone: what was not answered is tried once more. Returns whether anything was.
    pub(in crate::dht) fn disconnected(
        &mut self,
        now: Instant,
        peer: PeerId,
        out: &mut VecDeque<Output>,
    ) -> bool {
        let second = self.known.second(now);
        let Some(known) = self.known.get_mut(&peer) else {
            return false;
        };
        known.link = Link::Idle;
        if matches!(known.protocol, Protocol::Unsupported | Protocol::Doubted) {
            known.protocol = Protocol::Lapsed;
        }
        known.heard_of(second);
        let interrupted = known.queue.take_in_flight();
        let was_busy = !interrupted.is_empty();
        for id in interrupted.into_iter().rev() {
            self.retry_or_fail(id);
        }
        self.serve(now, peer, out);
        was_busy
    }

    /// A dial has failed: one of this node, or of somebody else to a peer that is waited for.
    pub(in crate::dht) fn dial_failed(
        &mut self,
        now: Instant,
        dial: Option<DialId>,
        peer: Option<PeerId>,
        error: &DialFailure,
        out: &mut VecDeque<Output>,
    ) {
        let dial = dial.and_then(|id| self.dials.end(id));
        match dial.map(|dial| dial.whom) {
            Some(Whom::Anybody(query)) => {
                self.met.push_back(Met { query, result: Err(error.request_error()) });
            }
            Some(Whom::Peer(peer)) => self.own_dial_failed(now, peer, error),
            None => {
                if let Some(known) = peer.and_then(|peer| self.known.get_mut(&peer))
                    && known.link == Link::Awaiting
                {
                    // Somebody else failed, perhaps with other addresses than ours.
                    known.link = Link::Idle;
                }
            }
        }
        if let Some(peer) = peer.or(dial.and_then(|dial| dial.whom.peer())) {
            self.serve(now, peer, out);
        }
        self.fill_slots(now, out);
    }

    fn own_dial_failed(&mut self, now: Instant, peer: PeerId, error: &DialFailure) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        if known.link != Link::Dialling {
            return;
        }
        known.link = Link::Idle;
        match error {
            DialFailure::UnderWay => {
                known.link = Link::Awaiting;
                return;
            }
            DialFailure::WrongPeer { address } | DialFailure::Own { address } => {
                known.forget_address(address);
                // Whoever lied about one address need not have lied about the others.
                if !known.dialable().is_empty() {
                    return;
                }
                if matches!(error, DialFailure::WrongPeer { .. }) {
                    known.failed(now);
                }
            }
            DialFailure::Unreachable { unsupported } => {
                for address in unsupported {
                    known.forget_address(address);
                }
                if known.dialable().is_empty() && !unsupported.is_empty() {
                    // This node has no transport for any of them.
                    return self.fail_waiting(&peer, RequestError::NoAddresses);
                }
                known.failed(now);
            }
            DialFailure::Refused | DialFailure::NoAddresses => {}
        }
        self.fail_waiting(&peer, error.request_error());
    }

    /// Gives back the slot of a dial to an address that nobody waits for any more.
    pub(in crate::dht) fn forget_address(
        &mut self,
        now: Instant,
        query: QueryId,
        out: &mut VecDeque<Output>,
    ) {
        self.dials.give_up_query(query);
        self.fill_slots(now, out);
    }
}
