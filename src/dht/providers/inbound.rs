//! What others say of providers, and what they are told.
//!
//! Knows the store by its trait. A statement counts only of the peer that makes it.

use libp2p_identity::PeerId;

use super::check_key;
use crate::addrs::{Addresses, Reach};
use crate::config::StoreInserts;
use crate::dht::answer::kept;
use crate::dht::inbound::connection;
use crate::dht::io::{InboundId, Output};
use crate::dht::{Dht, RecordStore};
use crate::event::{Event, InboundRequest};
use crate::message::Response;
use crate::peer::KadPeer;
use crate::record::{ProviderRecord, RecordKey};
use crate::store::{self, Source, kept_addresses};
use crate::time::{Instant, wall_after};

impl<S: RecordStore> Dht<S> {
    /// A peer says what it provides. It is not answered.
    ///
    /// # Spec
    /// libp2p kad-dht, "Content provider advertisement": only the entry of the sender counts. A message without one, or with
    /// a key longer than 80 bytes, ends the stream, as with go nodes; one that there is no room for does not, since what
    /// comes behind it on the stream would be lost.
    pub(in crate::dht) fn add_provider(
        &mut self,
        now: Instant,
        from: PeerId,
        id: InboundId,
        key: RecordKey,
        providers: Vec<KadPeer>,
    ) {
        let own = providers.into_iter().find(|provider| provider.node_id == from);
        let Some(own) = own.filter(|_| check_key(&key).is_ok()) else {
            tracing::debug!(%from, "an announcement of another peer, or of a key that cannot be, is refused");
            self.outputs.push_back(Output::RefuseRequest { to: from, id });
            return;
        };
        self.outputs.push_back(Output::AcceptRequest { to: from, id });
        let addresses = kept(own.multiaddrs, &self.local, &self.config).into_vec();
        let addresses = kept_addresses(&from, addresses).into_vec();
        let record = ProviderRecord::new(key, from, addresses);
        match self.config.records.inserts {
            StoreInserts::Unfiltered => drop(self.add_provider_for(now, from, record, true)),
            StoreInserts::FilterBoth => self.hold_provider(now, from, record),
        }
    }

    /// Takes note of what a peer provides; the application is told unless it was asked.
    ///
    /// # Errors
    /// Whatever keeps it from being stored.
    pub(in crate::dht) fn add_provider_for(
        &mut self,
        now: Instant,
        from: PeerId,
        record: ProviderRecord,
        tells: bool,
    ) -> Result<(), store::Error> {
        // What ends by itself is dropped first.
        self.expire(now);
        let wall = self.wall_at(now);
        let ends = wall_after(wall, self.shrunk(&record.key, self.config.providers.ttl));
        let group = self.peers.get(&from).and_then(|known| known.group);
        let source = Source { peer: from, group, hands_on: false };
        let key = record.key.clone();
        let record = ProviderRecord { expires: Some(ends), ..record };
        let added = self.store.add_provider_from(wall, record, source);
        added.inspect_err(|error| tracing::debug!(%from, %error, "an announcement is not taken"))?;
        self.ends(now, Some(ends));
        self.commit_soon(now);
        if tells {
            let request = InboundRequest::AddProvider { source: from, key, record: None };
            self.event(Event::InboundRequest { request });
        }
        Ok(())
    }

    /// Returns the providers of a key and the peers closest to it.
    ///
    /// This node itself first, if it provides the key. Of more providers than fit, half are the store's first choice, which is
    /// one of each IP group in turn, and half are chosen at random, so that each is found by somebody. The asker is the first to
    /// be left out.
    pub(in crate::dht) fn serve_providers(
        &mut self,
        now: Instant,
        key: RecordKey,
        from: &PeerId,
    ) -> Option<(Response, InboundRequest)> {
        let mut known = self.providers_of(now, &key).ok()?;
        let room = self.config.bucket_size().get();
        if known.len() > room {
            known.retain(|record| record.provider != *from);
            for at in room.div_ceil(2)..known.len().min(room) {
                let left = known.len() - at;
                known.swap(at, at + usize::try_from(self.rng.below(left as u64)).unwrap_or_default());
            }
            known.truncate(room);
        }
        let reach = self.peers.reach(from);
        let provider_peers: Vec<_> = known.into_iter().map(|record| self.named(record, reach)).collect();
        let closer_peers = self.closer(&(self.config.key_hash)(key.as_ref()), from, None);
        let request = InboundRequest::GetProvider {
            source: *from,
            num_closer_peers: closer_peers.len(),
            num_provider_peers: provider_peers.len(),
        };
        Some((Response::GetProviders { key: Some(key), provider_peers, closer_peers }, request))
    }

    /// Returns a provider with the addresses that somebody can use whose connection reaches so far: those it has announced,
    /// and those at which this node has met it.
    fn named(&self, record: ProviderRecord, reach: Reach) -> KadPeer {
        let node_id = record.provider;
        let multiaddrs = if node_id == self.local.peer {
            self.local.addresses_for(reach)
        } else {
            let known = self.peers.addresses(&node_id);
            let all = record.addresses.iter().chain(&known);
            Addresses::collect(&node_id, all.filter(|address| Reach::of(address) >= reach).cloned())
        };
        KadPeer { connection_ty: connection(self.peers.is_connected(&node_id)), multiaddrs, node_id }
    }
}
