//! Which peers enter the table and which leave it, as they connect, are named, answer and fail.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{Entered, TRY_AGAIN, Upkeep};
use crate::addrs::{Addresses, Groups, IpGroup, clean, relay_of, without_peer};
use crate::config::{BucketInserts, Config, IpDiversity, KeepAlive};
use crate::dht::context::Context;
use crate::dht::io::{ConnectionId, DialId};
use crate::dht::peers::{Peers, Protocol, Remaining, Requester};
use crate::error::{AddressError, RequestError};
use crate::event::{Notice, RoutingUpdate};
use crate::key::Key;
use crate::message::Response;
use crate::routing::admission::Stranger;
use crate::routing::{AdmissionPriority, Entry, Failed, Insert, Refusal};
use crate::time::{Instant, after};

impl Upkeep {
    /// There is a connection to a peer.
    pub(in crate::dht) fn on_connected(
        &mut self,
        now: Instant,
        (peer, connection): (PeerId, ConnectionId),
        (address, located, dialled): (Multiaddr, Option<Multiaddr>, bool),
        dial: Option<DialId>,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        // Whether it is kept or not, it says how far away the peer is.
        let (address, is_clean) =
            clean(address.clone(), &peer).map_or((address, false), |address| (address, true));
        let dialled = dialled && is_clean && cx.keeps(&address);
        let place = (&address, located.as_ref().unwrap_or(&address), dialled);
        peers.connected(now, (peer, connection), place, dial, &mut cx.out);
        if !peers.admits(&peer) {
            return self.shut_out(now, peer, cx, peers);
        }
        let key = peers.key(&peer);
        self.table.set_connected(&key, &peer, true);
        if dialled {
            let addresses = peers.addresses(&peer);
            self.addresses_changed(&key, &peer, &addresses, cx);
        }
        if self.keeps_connected(&peer) {
            peers.keep(now, peer, true, Some(connection), &mut cx.out);
        }
        if let Some(groups) = peers.only_groups(&peer)
            && !self.table.regroup(&key, &peer, groups)
        {
            tracing::debug!(%peer, "a peer has come back from an IP group that is full");
            self.drop_from_table(now, &peer, cx, peers);
        }
        self.consider(now, peer, cx, peers);
    }

    /// A connection to a peer is gone.
    pub(in crate::dht) fn on_disconnected(
        &mut self,
        now: Instant,
        (peer, connection): (PeerId, ConnectionId),
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        let left = peers.disconnected(now, peer, connection, &mut cx.out);
        let Remaining::Nothing { was_busy, unexpected } = left else {
            return;
        };
        let key = peers.key(&peer);
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

    /// A dial has failed: addresses at which nobody was are handed on no more.
    pub(in crate::dht) fn on_dial_failed(&mut self, peer: &PeerId, cx: &mut Context, peers: &Peers) {
        let (key, addresses) = (peers.key(peer), peers.addresses(peer));
        self.addresses_changed(&key, peer, &addresses, cx);
    }

    /// A part of the program has said where a peer can be reached.
    pub(in crate::dht) fn on_addresses(
        &mut self,
        now: Instant,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        if peer == cx.local.peer || !peers.admits(&peer) {
            return;
        }
        let clean = addresses.into_iter().filter_map(|address| clean(address, &peer));
        let clean: Vec<_> = clean.filter(|address| !peers.bans.has_banned_address(address)).collect();
        let kept: Vec<_> = clean.into_iter().filter(|address| cx.keeps(address)).collect();
        // In a network of one's own, that is: servers may have addresses for those who come in that no connection of theirs proves.
        let is_believed = cx.config.ip_diversity() != IpDiversity::Strict;
        let is_connected = |relay: &PeerId| peers.is_connected(relay);
        let relays: Vec<_> = kept.iter().filter_map(relay_of).filter(is_connected).collect();
        let known = peers.remember(now, peer);
        let before = known.addresses.clone();
        for address in &kept {
            if known.is_connected() {
                // It says so itself, by identify.
                known.claimed(address, is_believed, |relay| relays.contains(relay));
            } else {
                known.addresses = known.addresses.with_reported(address.clone());
            }
        }
        known.addresses = std::mem::take(&mut known.addresses).shared_with(&known.hints);
        known.made_known(&Addresses::empty().merged(kept));
        known.learnt();
        known.reported &= known.addresses == before;
        let addresses = known.addresses.clone();
        let is_met = known.is_connected() || known.protocol == Protocol::Unsupported;
        peers.addresses_arrived(now, &peer, &mut cx.out);
        let key = peers.key(&peer);
        self.addresses_changed(&key, &peer, &addresses, cx);
        if !is_met && !addresses.is_empty() && self.table.entry(&key, &peer).is_none() {
            self.reported.report(now, peer);
        }
        self.consider(now, peer, cx, peers);
    }

    /// A source has said that a peer serves the protocol.
    pub(in crate::dht) fn on_confirmed(
        &mut self,
        now: Instant,
        peer: PeerId,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        let protocol = &mut peers.remember(now, peer).protocol;
        let before = std::mem::replace(protocol, Protocol::Confirmed);
        if !matches!(before, Protocol::Unknown | Protocol::Confirmed) {
            self.admission.forget(&peer);
        }
        self.consider(now, peer, cx, peers);
    }

    /// A part of the program says that a peer does not speak the protocol, or no longer: its own negotiation decides.
    ///
    /// One in the table, or that waits for a place, is asked at once. A stranger has nothing to lose by it.
    pub(in crate::dht) fn on_doubted(
        &mut self,
        now: Instant,
        peer: PeerId,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        let protocol = &mut peers.remember(now, peer).protocol;
        if matches!(protocol, Protocol::Doubted | Protocol::Unsupported) {
            return;
        }
        *protocol = Protocol::Doubted;
        let key = peers.key(&peer);
        if self.table.entry(&key, &peer).is_some() {
            self.probe.begin(now, &mut self.table, &key, &peer);
            self.ask_for_itself(now, peer, Requester::Probe, cx, peers);
        } else if self.table.is_waiting(&key, &peer) {
            self.admission.forget(&peer);
            self.offer(now, key, peer, AdmissionPriority::Named, peers);
        }
    }

    /// A peer asks something: it lives; a stranger that asks may be a server.
    pub(in crate::dht) fn on_asked(
        &mut self,
        now: Instant,
        from: PeerId,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        let key = peers.key(&from);
        if !self.table.seen(now, &key, &from) {
            // By now it has said where it is.
            peers.prove(now, from, &mut cx.out);
            self.consider(now, from, cx, peers);
        }
    }

    /// Takes over the addresses of a peer that is in the table.
    fn addresses_changed(&mut self, key: &Key, peer: &PeerId, addresses: &Addresses, cx: &mut Context) {
        if self.table.set_addresses(key, peer, addresses) {
            self.tell_update(key, *peer, false, None, cx);
        }
    }

    /// Sees whether a stranger is to be asked if it is a server.
    ///
    /// One that is connected is; one that another part of the program has reported, or says to be no server, only while
    /// the table is low.
    fn consider(&mut self, now: Instant, peer: PeerId, cx: &mut Context, peers: &mut Peers) {
        let (low, is_admitted) = (self.is_low(&cx.config), peers.admits(&peer));
        let Some(known) = peers.get_mut(&peer) else {
            return;
        };
        let connected = known.is_connected();
        if known.protocol == Protocol::Unsupported || peer == cx.local.peer || !is_admitted {
            return;
        }
        if known.addresses.is_empty() {
            let is_server = known.protocol == Protocol::Confirmed;
            if connected && is_server && !std::mem::replace(&mut known.reported, true) {
                cx.tell(Notice::UnroutablePeer { peer });
            }
            return;
        }
        if !low && (!connected || known.protocol == Protocol::Doubted) {
            return;
        }
        let key = peers.key(&peer);
        if self.table.entry(&key, &peer).is_none()
            && let Some(priority) = self.table.admission_priority(&key)
        {
            self.offer(now, key, peer, priority, peers);
        }
    }

    /// Offers a stranger to be asked.
    pub(super) fn offer(
        &mut self,
        now: Instant,
        key: Key,
        peer: PeerId,
        priority: AdmissionPriority,
        peers: &Peers,
    ) {
        let group = peers.get(&peer).and_then(|known| {
            if known.is_connected() {
                known.groups.charged()
            } else {
                known.addresses.first().and_then(IpGroup::of)
            }
        });
        self.admission.offer(now, Stranger { key, peer, priority, group });
    }

    /// Makes a peer that the application has named a seed.
    pub(super) fn add_seed(
        &mut self,
        now: Instant,
        peer: PeerId,
        address: Multiaddr,
        cx: &mut Context,
        peers: &mut Peers,
    ) -> Result<RoutingUpdate, AddressError> {
        let (plain, named) = without_peer(address.clone());
        cx.check_address(&plain, Some(&peer))?;
        if let Some(named) = named.filter(|named| *named != peer) {
            return Err(AddressError::OtherPeer { named });
        }
        let address = clean(address, &peer).ok_or(AddressError::Undialable)?;
        let known = peers.remember(now, peer);
        known.addresses = known.addresses.with_reported(address.clone());
        known.trust(&address);
        known.learnt();
        known.is_wanted = true;
        let addresses = known.addresses.clone();
        peers.addresses_arrived(now, &peer, &mut cx.out);
        let key = peers.key(&peer);
        let is_seed = self.seeds.add((now, peers.last_answer()), key, peer, address);
        if self.table.entry(&key, &peer).is_some() {
            self.addresses_changed(&key, &peer, &addresses, cx);
            return Ok(RoutingUpdate::Success);
        }
        let by_hand = cx.config.routing.bucket_inserts == BucketInserts::Manual;
        if !is_seed && !by_hand {
            return Err(AddressError::TooManySeeds { limit: cx.config.limits.max_seeds.get() });
        }
        if by_hand && peers.is_server(now, &peer) {
            // The application says yes to what it was asked; whether there is room among the seeds is another question.
            self.admit(now, key, peer, cx, peers);
            if self.table.entry(&key, &peer).is_some() {
                return Ok(RoutingUpdate::Success);
            }
        }
        self.join.known(now);
        Ok(RoutingUpdate::Pending)
    }

    /// Forgets an address of a peer; with its last one the peer leaves the table and the seeds, and its entry is returned.
    pub(in crate::dht) fn remove_address(
        &mut self,
        now: Instant,
        peer: &PeerId,
        address: &Multiaddr,
        cx: &mut Context,
        peers: &mut Peers,
    ) -> Option<Entry> {
        self.seeds.remove_address(peer, address);
        let known = peers.get_mut(peer)?;
        known.forget_address(address);
        known.is_wanted &= !known.addresses.is_empty();
        let addresses = known.addresses.clone();
        if addresses.is_empty() {
            return self.drop_from_table(now, peer, cx, peers);
        }
        let key = peers.key(peer);
        self.addresses_changed(&key, peer, &addresses, cx);
        None
    }

    /// Removes a peer from the table and the seeds.
    pub(in crate::dht) fn remove_peer(
        &mut self,
        now: Instant,
        peer: &PeerId,
        cx: &mut Context,
        peers: &mut Peers,
    ) -> Option<Entry> {
        self.seeds.remove(peer);
        self.reported.remove(peer);
        if let Some(known) = peers.get_mut(peer) {
            known.is_wanted = false;
        }
        self.drop_from_table(now, peer, cx, peers)
    }

    /// Somebody is banned: whoever is not admitted any more leaves the table, the seeds and those that wait to be asked.
    pub(in crate::dht) fn drop_banned(&mut self, now: Instant, cx: &mut Context, peers: &mut Peers) {
        let waiting = self.table.buckets().flat_map(|bucket| bucket.replacements());
        let in_table = self.table.entries().chain(waiting).map(Entry::peer);
        let seeds = self.seeds.iter().map(|(_, peer, _)| peer);
        let mut gone: Vec<_> = in_table.chain(seeds).filter(|peer| !peers.admits(peer)).collect();
        gone.extend(
            self.table
                .entries()
                .filter(|entry| {
                    entry.addresses().iter().all(|address| peers.bans.has_banned_address(address))
                })
                .map(Entry::peer),
        );
        gone.extend(peers.banned());
        gone.sort_unstable();
        gone.dedup();
        for peer in gone {
            tracing::debug!(%peer, "a peer is banned");
            self.shut_out(now, peer, cx, peers);
        }
    }

    /// A peer is not admitted, or no more.
    fn shut_out(&mut self, now: Instant, peer: PeerId, cx: &mut Context, peers: &mut Peers) {
        self.admission.withdraw(&peer);
        self.remove_peer(now, &peer, cx, peers);
        peers.shut_out(now, peer, cx.config.routing.disconnects_banned, &mut cx.out);
    }

    /// Whether an answer shows that a stranger is a server worth having.
    ///
    /// Asked for itself it must name at least one peer, as `go-libp2p-kad-dht` has it; while the table is low any answer
    /// will do, since the first nodes of a network know nobody. Any answer to a query will do as well.
    pub(super) fn is_proof(&self, requester: Requester, response: &Response, config: &Config) -> bool {
        match (requester, response) {
            (Requester::Query(..), _) => true,
            (
                Requester::Check | Requester::Probe | Requester::Liveness,
                Response::FindNode { closer_peers },
            ) => !closer_peers.is_empty() || self.is_low(config),
            (Requester::Check | Requester::Probe | Requester::Liveness, _) => false,
        }
    }

    /// Takes a peer that has proved itself into the table, or reports why not.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        key: Key,
        peer: PeerId,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        let is_admitted = peers.admits(&peer);
        let Some(known) = peers.get_mut(&peer) else {
            return;
        };
        let by_hand = cx.config.routing.bucket_inserts == BucketInserts::Manual && !known.is_wanted;
        if known.protocol == Protocol::Unsupported || !is_admitted {
            return;
        }
        let (addresses, groups, connected) = (known.addresses.clone(), known.groups, known.is_connected());
        let Some(address) = addresses.first().cloned() else {
            return;
        };
        if by_hand {
            if !std::mem::replace(&mut known.reported, true) {
                cx.tell(Notice::RoutablePeer { peer, address });
            }
            return;
        }
        match self.table.insert(now, key, peer, addresses, groups) {
            Insert::Added { replaced } => {
                self.table.set_connected(&key, &peer, connected);
                self.has_entered(now, &key, peer, replaced, cx, peers);
            }
            Insert::Pending => {
                if let Some(known) = peers.get_mut(&peer)
                    && !std::mem::replace(&mut known.reported, true)
                {
                    cx.tell(Notice::PendingRoutablePeer { peer, address });
                }
            }
            Insert::Refused(Refusal::Diversity) => self.warn_of_diversity(&peer, groups),
            Insert::Known | Insert::Refused(_) => {}
        }
    }

    /// Says once that peers are kept out for being of one IP group: whose own servers they are wonders.
    fn warn_of_diversity(&mut self, peer: &PeerId, groups: Groups) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let group = groups.charged();
            tracing::warn!(
                %peer,
                ?group,
                "a peer is not let into the routing table: too many of its IP group are there. This is told once; \
                 `Stats::table` counts. Servers that share a network find each other with `IpDiversity::Soft` or `Off`"
            );
        }
    }

    /// A peer has entered the table, perhaps in the place of another.
    fn has_entered(
        &mut self,
        now: Instant,
        key: &Key,
        peer: PeerId,
        replaced: Option<PeerId>,
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        self.kept_is_outdated |= match cx.config.routing.keep_alive {
            KeepAlive::Table => true,
            KeepAlive::Closest => {
                replaced.is_some() || self.table.nearer(key) < cx.config.bucket_size().get()
            }
            KeepAlive::Nobody => false,
        };
        self.refresh.watch(now, &self.table, &mut cx.rng);
        self.join.known(now);
        if let Some(entry) = self.table.entry(key, &peer) {
            self.probe.schedule(entry.probe_at());
        }
        if let Some(known) = peers.get_mut(&peer) {
            known.reported = false;
        }
        self.tell_update(key, peer, true, replaced, cx);
        self.entered.push_back(Entered { peer, key: *key });
    }

    fn tell_update(
        &self,
        key: &Key,
        peer: PeerId,
        is_new_peer: bool,
        old_peer: Option<PeerId>,
        cx: &mut Context,
    ) {
        let Some(bucket) = cx.local.key.distance(key).bucket() else {
            return;
        };
        let Some(entry) = self.table.entry(key, &peer) else {
            return;
        };
        let addresses = entry.addresses().clone();
        let bucket_range = bucket.range();
        cx.tell(Notice::RoutingUpdated { peer, is_new_peer, addresses, bucket_range, old_peer });
    }

    /// A request to a peer has failed.
    pub(super) fn on_failed(
        &mut self,
        now: Instant,
        (key, peer): (&Key, &PeerId),
        (error, is_probe): (RequestError, bool),
        cx: &mut Context,
        peers: &mut Peers,
    ) {
        if error == RequestError::Banned {
            self.shut_out(now, *peer, cx, peers);
        } else if error == RequestError::Unsupported {
            self.reported.remove(peer);
            self.on_unsupported(now, peer, cx, peers);
        } else if error.is_peers_fault() {
            let again = |entry: &Entry| !entry.is_live() && entry.probe_at() > now;
            if !is_probe && self.table.entry(key, peer).is_some_and(again) {
                // Several failures at once count once.
                return;
            }
            match self.table.failed(now, key, peer, is_probe) {
                Failed::Replaced(newcomer) => {
                    let newcomer_key = peers.key(&newcomer);
                    let (connected, addresses) = (peers.is_connected(&newcomer), peers.addresses(&newcomer));
                    self.table.set_connected(&newcomer_key, &newcomer, connected);
                    self.table.set_addresses(&newcomer_key, &newcomer, &addresses);
                    self.has_entered(now, &newcomer_key, newcomer, Some(*peer), cx, peers);
                }
                Failed::Removed => self.has_left(now, cx),
                Failed::Unknown => {
                    // Nor does it wait for a place any more.
                    self.table.remove(key, peer);
                }
                Failed::Doubted => {}
            }
            if let Some(entry) = self.table.entry(key, peer) {
                self.probe.schedule(entry.probe_at());
            }
        } else if is_probe {
            let at = after(now, TRY_AGAIN);
            self.table.probe_at(at, key, peer);
            self.probe.schedule(at);
        }
    }

    /// A peer does not speak the protocol, or no longer: it leaves the table.
    pub(in crate::dht) fn on_unsupported(
        &mut self,
        now: Instant,
        peer: &PeerId,
        cx: &mut Context,
        peers: &Peers,
    ) {
        let dropped = self.drop_from_table(now, peer, cx, peers);
        self.evicted.unsupported += u64::from(dropped.is_some());
    }

    /// Removes a peer from the table, and returns its entry if it was there.
    pub(super) fn drop_from_table(
        &mut self,
        now: Instant,
        peer: &PeerId,
        cx: &mut Context,
        peers: &Peers,
    ) -> Option<Entry> {
        let key = peers.key(peer);
        let removed = self.table.remove(&key, peer)?;
        self.has_left(now, cx);
        Some(removed)
    }

    /// A peer has left the table without another in its place.
    fn has_left(&mut self, now: Instant, cx: &mut Context) {
        self.kept_is_outdated = true;
        if self.is_low(&cx.config) {
            self.join.low(now, &mut cx.rng);
        }
    }
}
