//! Upkeep: what becomes of peers as they connect, answer, fail and leave, and what the node does unasked.
//!
//! Tells the table, the admission, the probe, the refresh and the join what has happened, and does what they want.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::io::{ConnectionId, DialId};
use super::op::find_node;
use super::peers::{Known, Left, Outcome, Owner, Protocol, Reply, Standing, Urgency};
use super::{Dht, RecordStore, TRY_AGAIN};
use crate::addrs::{Addresses, IpGroup, Reach, clean};
use crate::config::{BucketInserts, KeepAlive};
use crate::error::RequestError;
use crate::event::Event;
use crate::key::Key;
use crate::message::Response;
use crate::peer::PackedPeerId;
use crate::query::timeout::Phase;
use crate::routing::admission::Stranger;
use crate::routing::{AdmissionPriority, Entry, Failed, Insert};
use crate::time::{Instant, after};

use bytes::Bytes;

impl<S: RecordStore> Dht<S> {
    pub(super) fn connected(
        &mut self,
        now: Instant,
        (peer, connection): (PeerId, ConnectionId),
        address: Multiaddr,
        dialled: bool,
        dial: Option<DialId>,
    ) {
        let address = clean(address, &peer).unwrap_or_else(Multiaddr::empty);
        let dialled = dialled && !address.is_empty() && self.keeps(&address);
        let took =
            self.peers.connected(now, (peer, connection), (&address, dialled), dial, &mut self.outputs);
        if let Some(took) = took {
            self.estimator.dialled(took);
        }
        let key = self.peers.key(&peer);
        self.table.set_connected(&key, &peer, true);
        if dialled {
            let addresses = self.peers.addresses(&peer);
            self.addresses_changed(&key, &peer, &addresses);
        }
        if self.keeps_connected(&peer) {
            self.peers.keep(now, peer, true, Some(connection), &mut self.outputs);
        }
        self.consider(now, peer);
    }

    pub(super) fn disconnected(&mut self, now: Instant, peer: PeerId, connection: ConnectionId) {
        let left = self.peers.disconnected(now, peer, connection, &mut self.outputs);
        let Left::Nothing { was_busy, unexpected } = left else {
            return;
        };
        let key = self.peers.key(&peer);
        if self.table.entry(&key, &peer).is_none() {
            return;
        }
        self.table.set_connected(&key, &peer, false);
        // Whoever closed a kept connection that was not idle for too long may be gone.
        if was_busy || (self.keeps_connected(&peer) && unexpected) {
            self.table.probe_at(now, &key, &peer);
            self.probe.schedule(now);
        }
    }

    pub(super) fn addresses_learned(&mut self, now: Instant, peer: PeerId, addresses: Vec<Multiaddr>) {
        if peer == self.local.peer {
            return;
        }
        let clean: Vec<_> = addresses.into_iter().filter_map(|address| clean(address, &peer)).collect();
        let kept: Vec<_> = clean.into_iter().filter(|address| self.keeps(address)).collect();
        let known = self.peers.remember(now, peer);
        let before = known.addresses.clone();
        // Whoever is connected from farther away, and says so itself, is not to be sought within this machine or site.
        let nearest = known.is_connected().then_some(known.reach);
        for address in kept.iter().filter(|address| nearest.is_none_or(|near| Reach::of(address) >= near)) {
            known.addresses = known.addresses.with_reported(address.clone());
        }
        known.addresses = std::mem::take(&mut known.addresses).shared_with(&known.hints);
        known.made_known(&Addresses::empty().merged(kept));
        known.learnt();
        known.reported &= known.addresses == before;
        let addresses = known.addresses.clone();
        let is_met = known.is_connected() || known.protocol == Protocol::Unsupported;
        self.peers.addresses_arrived(now, &peer, &mut self.outputs);
        let key = self.peers.key(&peer);
        self.addresses_changed(&key, &peer, &addresses);
        if !is_met && !addresses.is_empty() && self.table.entry(&key, &peer).is_none() {
            self.reported.report(now, peer);
        }
        self.consider(now, peer);
    }

    /// A peer that the program blocks leaves the table, and with it all answers; later it is tried as a stranger is.
    pub(super) fn standing_changed(&mut self, now: Instant, standing: Standing) {
        match standing {
            Standing::Barred(peer) => {
                self.drop_from_table(now, &peer);
            }
            Standing::Freed(peer) => {
                let key = self.peers.key(&peer);
                self.admission.forget(&peer);
                self.offer(now, key, peer, AdmissionPriority::Named);
            }
        }
    }

    /// Takes over the addresses of a peer that is in the table.
    pub(super) fn addresses_changed(&mut self, key: &Key, peer: &PeerId, addresses: &Addresses) {
        if self.table.set_addresses(key, peer, addresses) {
            self.routing_updated(key, *peer, false, None);
        }
    }

    /// Somebody in the program says that a peer does not speak the protocol, or no longer: its own negotiation decides.
    ///
    /// One in the table, or that waits for a place, is asked at once. A stranger has nothing to lose by it.
    pub(super) fn protocol_doubted(&mut self, now: Instant, peer: PeerId) {
        let protocol = &mut self.peers.remember(now, peer).protocol;
        if matches!(protocol, Protocol::Doubted | Protocol::Unsupported) {
            return;
        }
        *protocol = Protocol::Doubted;
        let key = self.peers.key(&peer);
        if self.table.entry(&key, &peer).is_some() {
            self.probe.begin(now, &mut self.table, &key, &peer);
            self.ask_for_itself(now, peer, Owner::Probe);
        } else if self.table.is_waiting(&key, &peer) {
            self.admission.forget(&peer);
            self.offer(now, key, peer, AdmissionPriority::Named);
        }
    }

    /// Sees whether a stranger is to be asked if it is a server.
    ///
    /// One that is connected is; one that somebody else in the program has reported, or says to be no server, only while
    /// the table is low.
    pub(super) fn consider(&mut self, now: Instant, peer: PeerId) {
        let low = self.is_low();
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let connected = known.is_connected();
        if known.protocol == Protocol::Unsupported || peer == self.local.peer {
            return;
        }
        if known.addresses.is_empty() {
            let is_server = known.protocol == Protocol::Confirmed;
            if connected && is_server && !std::mem::replace(&mut known.reported, true) {
                self.event(Event::UnroutablePeer { peer });
            }
            return;
        }
        if !low && (!connected || known.protocol == Protocol::Doubted) {
            return;
        }
        let key = self.peers.key(&peer);
        if self.table.entry(&key, &peer).is_none()
            && let Some(priority) = self.table.admission_priority(&key)
        {
            self.offer(now, key, peer, priority);
        }
    }

    /// Offers a stranger to be asked.
    fn offer(&mut self, now: Instant, key: Key, peer: PeerId, priority: AdmissionPriority) {
        let group = self.peers.get(&peer).and_then(|known| {
            if known.is_connected() { known.group } else { known.addresses.first().and_then(IpGroup::of) }
        });
        self.admission.offer(now, Stranger { key, peer, priority, group });
    }

    pub(super) fn is_low(&self) -> bool {
        self.table.len() <= self.config.low_peers
    }

    /// Asks one stranger or one peer of the table that is due, if any is. Returns whether there was one.
    pub(super) fn ask_around(&mut self, now: Instant) -> bool {
        let (peers, estimator) = (&self.peers, &self.estimator);
        let soft_timeout = |peer: &PeerId| {
            let known = peers.get(peer);
            let soft = estimator.soft_timeout(known.map(|known| &known.rtt), Phase::Hopping);
            if known.is_some_and(Known::is_connected) { soft.connected } else { soft.dialled }
        };
        if let Some((key, peer)) = self.admission.next(now, soft_timeout) {
            if self.table.entry(&key, &peer).is_some() {
                self.admission.done(&peer);
            } else {
                self.ask_for_itself(now, peer, Owner::Check);
            }
        } else if let Some((_, peer)) = self.probe.next(now, &mut self.table) {
            self.ask_for_itself(now, peer, Owner::Probe);
        } else {
            return false;
        }
        true
    }

    /// Asks a peer for itself, though it may have failed lately.
    fn ask_for_itself(&mut self, now: Instant, peer: PeerId, owner: Owner) {
        let request = find_node(&Bytes::from(peer.to_bytes()));
        let seed = self.seeds.addresses(&peer).cloned().unwrap_or_default();
        let owner = (owner, Urgency::Forced);
        self.peers.request(now, peer, &seed, request, owner, &mut self.outputs);
    }

    /// Tries one peer that was reported and not met, if one is due and few are known. Returns whether there was one.
    pub(super) fn try_reported(&mut self, now: Instant) -> bool {
        if !self.is_low() {
            return false;
        }
        let Some(peer) = self.reported.next(now) else {
            return false;
        };
        let key = self.peers.key(&peer);
        let is_in = self.table.entry(&key, &peer).is_some();
        match self.peers.get(&peer) {
            // It is a stranger like others.
            Some(known) if known.is_connected() => {}
            Some(known) if !is_in && !known.addresses.is_empty() => {
                self.admission.forget(&peer);
                self.offer(now, key, peer, AdmissionPriority::Named);
            }
            Some(_) | None => self.reported.remove(&peer),
        }
        true
    }

    /// Takes note of what came of a request.
    pub(super) fn settle(&mut self, now: Instant, outcome: Outcome) {
        let Outcome { owner, peer, key, result } = outcome;
        match owner {
            Owner::Check => self.admission.done(&peer),
            Owner::Probe => self.probe.done(now),
            Owner::Pulse => {}
            Owner::Query(..) => match &result {
                Ok(Reply::Answer(..)) => self.estimator.asked(false),
                Err(RequestError::Timeout) => self.estimator.asked(true),
                // Whoever says no, or of whom another does, was not silent.
                Ok(Reply::Sent) | Err(_) => {}
            },
        }
        if !matches!(result, Ok(Reply::Sent)) {
            self.seeds.asked(now, &peer, result.as_ref().map(|_| ()).map_err(|error| *error));
        }
        match result {
            // That something was sent proves nothing.
            Ok(Reply::Sent) => {
                if let Owner::Query(id, lookup) = owner
                    && let Some(query) = self.queries.get_mut(id)
                {
                    query.sent(&peer, lookup);
                    self.queries.wake(id);
                }
            }
            Ok(Reply::Answer(response, rtt)) => {
                self.reported.remove(&peer);
                // Whoever is slow is checked, so that checks would make all seem slow.
                if owner != Owner::Pulse {
                    self.estimator.answered(rtt);
                    self.peers.be_patient(self.estimator.soft_timeout(None, Phase::Hopping).connected);
                }
                if self.table.answered(now, &key, &peer) {
                    // In the table already, and live again if it was doubted.
                } else if self.is_proof(owner, &response) {
                    self.admit(now, key, peer);
                }
                if let Owner::Query(id, lookup) = owner {
                    self.answered_query(now, (id, lookup), &peer, response, rtt);
                }
            }
            Err(error) => {
                tracing::debug!(%peer, %error, ?owner, "request failed");
                self.failed(now, &key, &peer, error, owner == Owner::Probe);
                if owner == Owner::Check && !error.is_peers_fault() {
                    self.admission.forget(&peer);
                }
                if let Owner::Query(id, lookup) = owner
                    && let Some(query) = self.queries.get_mut(id)
                {
                    query.failed(&peer, lookup, error);
                    self.queries.wake(id);
                }
            }
        }
    }

    /// Whether an answer shows that a stranger is a server worth having.
    ///
    /// Asked for itself it must name at least one peer, as `go-libp2p-kad-dht` has it; while the table is low any answer
    /// will do, since the first nodes of a network know nobody. Any answer to a query will do as well.
    fn is_proof(&self, owner: Owner, response: &Response) -> bool {
        match (owner, response) {
            (Owner::Query(..), _) => true,
            (Owner::Check | Owner::Probe | Owner::Pulse, Response::FindNode { closer_peers }) => {
                !closer_peers.is_empty() || self.is_low()
            }
            (Owner::Check | Owner::Probe | Owner::Pulse, _) => false,
        }
    }

    /// Takes a peer that has proved itself into the table, or reports why not.
    pub(super) fn admit(&mut self, now: Instant, key: Key, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let by_hand = self.config.bucket_inserts == BucketInserts::Manual && !known.is_wanted;
        if known.protocol == Protocol::Unsupported {
            return;
        }
        let (addresses, group, connected) = (known.addresses.clone(), known.group, known.is_connected());
        let Some(address) = addresses.first().cloned() else {
            return;
        };
        if by_hand {
            if !std::mem::replace(&mut known.reported, true) {
                self.event(Event::RoutablePeer { peer, address });
            }
            return;
        }
        match self.table.insert(now, key, peer, addresses, group) {
            Insert::Added { replaced } => {
                self.table.set_connected(&key, &peer, connected);
                self.entered(now, &key, peer, replaced);
            }
            Insert::Pending => {
                if let Some(known) = self.peers.get_mut(&peer)
                    && !std::mem::replace(&mut known.reported, true)
                {
                    self.event(Event::PendingRoutablePeer { peer, address });
                }
            }
            Insert::Known | Insert::Refused(_) => {}
        }
    }

    /// A peer has entered the table, perhaps in the place of another.
    fn entered(&mut self, now: Instant, key: &Key, peer: PeerId, replaced: Option<PeerId>) {
        self.kept_is_outdated = true;
        self.refresh.watch(now, &self.table, &mut self.rng);
        self.join.known(now);
        if let Some(entry) = self.table.entry(key, &peer) {
            self.probe.schedule(entry.probe_at());
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.reported = false;
        }
        self.routing_updated(key, peer, true, replaced);
        self.hand_over(&peer, key);
        self.tell_newcomer(now, peer, *key);
        self.save_soon(now);
    }

    fn routing_updated(&mut self, key: &Key, peer: PeerId, is_new_peer: bool, old_peer: Option<PeerId>) {
        let Some(bucket) = self.local.key.distance(key).bucket() else {
            return;
        };
        let Some(entry) = self.table.entry(key, &peer) else {
            return;
        };
        let addresses = entry.addresses().clone();
        let bucket_range = bucket.range();
        self.event(Event::RoutingUpdated { peer, is_new_peer, addresses, bucket_range, old_peer });
    }

    /// A request to a peer has failed.
    fn failed(&mut self, now: Instant, key: &Key, peer: &PeerId, error: RequestError, probe: bool) {
        if error == RequestError::Unsupported {
            self.reported.remove(peer);
            self.drop_from_table(now, peer);
        } else if error.is_peers_fault() {
            let again = |entry: &Entry| !entry.is_live() && entry.probe_at() > now;
            if !probe && self.table.entry(key, peer).is_some_and(again) {
                // Several failures at once count once.
                return;
            }
            match self.table.failed(now, key, peer, probe) {
                Failed::Replaced(newcomer) => {
                    let newcomer_key = self.peers.key(&newcomer);
                    let (connected, addresses) =
                        (self.peers.is_connected(&newcomer), self.peers.addresses(&newcomer));
                    self.table.set_connected(&newcomer_key, &newcomer, connected);
                    self.table.set_addresses(&newcomer_key, &newcomer, &addresses);
                    self.entered(now, &newcomer_key, newcomer, Some(*peer));
                }
                Failed::Removed => self.left(now),
                Failed::Unknown => {
                    // Nor does it wait for a place any more.
                    self.table.remove(key, peer);
                }
                Failed::Doubted => {}
            }
            if let Some(entry) = self.table.entry(key, peer) {
                self.probe.schedule(entry.probe_at());
            }
        } else if probe {
            let at = after(now, TRY_AGAIN);
            self.table.probe_at(at, key, peer);
            self.probe.schedule(at);
        }
    }

    pub(super) fn drop_from_table(&mut self, now: Instant, peer: &PeerId) -> Option<Entry> {
        let key = self.peers.key(peer);
        let removed = self.table.remove(&key, peer)?;
        self.left(now);
        Some(removed)
    }

    /// A peer has left the table without another in its place.
    fn left(&mut self, now: Instant) {
        self.kept_is_outdated = true;
        if self.is_low() {
            self.join.low(now, &mut self.rng);
        }
    }

    /// Begins what is due: a join, lookups of buckets.
    pub(super) fn keep_up(&mut self, now: Instant) {
        if self.join.is_due(now) && (self.queries.is_full() || self.begin_join(now).is_err()) {
            // Whoever was known has been removed, or there is no room for a query now.
            self.join.began();
            self.joined(now, false);
        }
        while self.refresh.deadline().is_some_and(|at| at <= now) {
            if let Some(target) = self.refresh.next(now, &self.table, &mut self.rng) {
                self.look_up(now, target);
            }
        }
    }

    /// A join has ended.
    pub(super) fn joined(&mut self, now: Instant, reached: bool) {
        let low = self.is_low();
        self.join.ended(now, reached, low, &mut self.rng);
        self.refresh.looked_up_own(now, &self.table, &mut self.rng);
        self.refresh.watch(now, &self.table, &mut self.rng);
        if reached {
            self.hurry_announcements(now);
        }
        tracing::debug!(reached, peers = self.table.len(), "join ended");
    }

    /// Whether the connection to a peer is kept when nobody uses it.
    fn keeps_connected(&self, peer: &PeerId) -> bool {
        self.kept.binary_search(&PackedPeerId::from(peer)).is_ok()
    }

    /// Checks the connections that are kept: something has happened after which they may be dead.
    pub(super) fn check_kept(&mut self, now: Instant) {
        for peer in self.kept.clone() {
            self.peers.check(now, peer.unpacked(), &mut self.outputs);
        }
    }

    /// Brings the kept connections in line with the table.
    pub(super) fn update_kept(&mut self, now: Instant) {
        self.kept_is_outdated = false;
        let count = match self.config.keep_alive {
            KeepAlive::Closest => self.config.bucket_size().get(),
            KeepAlive::Table => usize::MAX,
            KeepAlive::Nobody => 0,
        };
        let closest = self.table.closest(&self.local.key).take(count);
        let mut kept: Box<[_]> = closest.map(|entry| PackedPeerId::from(&entry.peer())).collect();
        kept.sort_unstable();
        let before = std::mem::replace(&mut self.kept, kept);
        for (keep, one, other) in [(false, &before, &self.kept), (true, &self.kept, &before)] {
            for peer in one.iter().filter(|peer| other.binary_search(peer).is_err()) {
                let peer = peer.unpacked();
                self.peers.keep(now, peer, keep, None, &mut self.outputs);
            }
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        let (table, seeds) = (&self.table, &self.seeds);
        self.peers.sweep(now, |key, peer| seeds.contains(peer) || table.entry(key, peer).is_some());
    }
}
