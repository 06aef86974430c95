//! What others say of providers, and what they are told.
//!
//! Knows the store by its trait. A statement counts only of the peer that makes it.

use libp2p_identity::PeerId;

use super::closer::{closer, connection};
use super::held::HeldRequest;
use super::{Serving, Stock};
use crate::addrs::{Addresses, Reach};
use crate::config::StoreInserts;
use crate::dht::answer::kept;
use crate::dht::context::Context;
use crate::dht::io::InboundId;
use crate::dht::providing::check_key;
use crate::dht::view::Parts;
use crate::event::{InboundRequest, Notice};
use crate::message::{MessageType, Response};
use crate::peer::KadPeer;
use crate::record::{ProviderRecord, RecordKey};
use crate::store::{self, RecordStore, Source, kept_of};
use crate::time::{Instant, after, wall_after};

impl Serving {
    /// A peer says what it provides. It is not answered, unless there is no room and senders are to be told so.
    ///
    /// # Spec
    /// libp2p kad-dht, "Content provider advertisement": only the entry of the sender counts. A message without one, or with
    /// a key longer than 80 bytes, ends the stream, as with go nodes; one that there is no room for does not, since what
    /// comes behind it on the stream would be lost.
    pub(super) fn add_provider<S: RecordStore>(
        &mut self,
        now: Instant,
        (from, id): (PeerId, InboundId),
        key: RecordKey,
        providers: Vec<KadPeer>,
        stock: &mut Stock<'_, S>,
    ) {
        let cx = &mut *stock.node.parts.cx;
        let own = providers.into_iter().find(|provider| provider.node_id == from);
        let Some(own) = own.filter(|_| check_key(&key).is_ok()) else {
            tracing::debug!(%from, "an announcement of another peer, or of a key that cannot be, is refused");
            cx.refuse(from, id, MessageType::AddProvider);
            return;
        };
        let addresses = kept_of(kept(own.multiaddrs, &cx.local, &cx.config)).into_vec();
        let record = ProviderRecord::new(key.clone(), from, addresses);
        let tells = cx.config.providers.provider_status;
        match cx.config.records.record_filtering {
            StoreInserts::Unfiltered if tells => {
                let added = add_provider_for(now, from, record, true, stock);
                let cx = &mut *stock.node.parts.cx;
                let is_full = |error: &_| {
                    matches!(error, store::Error::MaxProviders { .. } | store::Error::MaxProvidedKeys { .. })
                };
                match added.as_ref().err().is_some_and(is_full) {
                    true => cx.respond(from, id, Response::AddProvider { key, is_rejected: true }),
                    false => cx.accept(from, id, MessageType::AddProvider),
                }
            }
            StoreInserts::Unfiltered => {
                cx.accept(from, id, MessageType::AddProvider);
                drop(add_provider_for(now, from, record, true, stock));
            }
            StoreInserts::FilterBoth => {
                cx.accept(from, id, MessageType::AddProvider);
                self.hold_provider(now, from, record, cx);
            }
        }
    }

    /// Asks the application whether what a peer says it provides is to be stored.
    fn hold_provider(&mut self, now: Instant, from: PeerId, record: ProviderRecord, cx: &mut Context) {
        if self.held.len() >= cx.config.records.max_held.get() {
            tracing::debug!(%from, "an announcement is dropped: too many records wait for the application");
            return;
        }
        let (key, asked) = (record.key.clone(), record.clone());
        let until = after(now, cx.config.records.held_for);
        let held = self.held.insert(HeldRequest::Provider(from, record), until);
        let request = InboundRequest::AddProvider { source: from, key, record: Some((held, asked)) };
        cx.tell(Notice::InboundRequest { request });
    }

    /// Returns the providers of a key and the peers closest to it.
    ///
    /// This node itself first, if it provides the key. Of more providers than fit, half are the store's first choice, which is
    /// one of each IP group in turn, and half are chosen at random, so that each is found by some requester. The requester
    /// itself is the first to be left out.
    pub(super) fn get_providers<S: RecordStore>(
        &self,
        now: Instant,
        key: RecordKey,
        from: &PeerId,
        stock: &mut Stock<'_, S>,
    ) -> Option<(Response, InboundRequest)> {
        let (providing, node) = (&*stock.providing, &mut stock.node);
        let mut known = providing.providers_of(now, &key, node.storage, node.parts.cx).ok()?;
        let room = node.parts.cx.config.bucket_size().get();
        known.retain(|(provider, _)| node.parts.peers.admits(provider));
        if known.len() > room {
            known.retain(|(provider, _)| provider != from);
            for at in room.div_ceil(2)..known.len().min(room) {
                let left = known.len() - at;
                known
                    .swap(at, at + usize::try_from(node.parts.cx.rng.below(left as u64)).unwrap_or_default());
            }
            known.truncate(room);
        }
        let reach = node.parts.peers.reach(from);
        let provider_peers: Vec<_> =
            known.into_iter().map(|known| named(known, reach, &node.parts)).collect();
        let closer_peers = closer(&node.parts.cx.hash(key.as_ref()), from, None, &node.parts);
        let request = InboundRequest::GetProvider {
            source: *from,
            num_closer_peers: closer_peers.len(),
            num_provider_peers: provider_peers.len(),
        };
        Some((Response::GetProviders { key: Some(key), provider_peers, closer_peers }, request))
    }
}

/// Takes note of what a peer provides; the application is told unless it was asked.
///
/// # Errors
/// Whatever keeps it from being stored.
pub(super) fn add_provider_for<S: RecordStore>(
    now: Instant,
    from: PeerId,
    record: ProviderRecord,
    tells: bool,
    stock: &mut Stock<'_, S>,
) -> Result<(), store::Error> {
    let Parts { peers, cx, .. } = &mut stock.node.parts;
    // What ends by itself is dropped first.
    stock.records.expire(now, stock.node.storage, cx);
    let wall = cx.wall_at(now);
    let group = peers.get(&from).and_then(|known| known.groups.charged());
    let source = Source { peer: from, group, hands_on: false };
    let key = record.key.clone();
    let ends =
        wall_after(wall, stock.node.parts.shrunk(&key, stock.node.parts.cx.config.providers.provider_ttl));
    let record = ProviderRecord { expires: Some(ends), ..record };
    let (storage, cx) = (&mut *stock.node.storage, &mut *stock.node.parts.cx);
    let added = storage.add_provider_from(wall, record, source);
    added.inspect_err(|error| tracing::debug!(%from, %error, "an announcement is not taken"))?;
    storage.ends(now, Some(ends), cx);
    storage.commit_soon(now);
    if tells {
        let request = InboundRequest::AddProvider { source: from, key, record: None };
        cx.tell(Notice::InboundRequest { request });
    }
    Ok(())
}

/// Returns a provider with the addresses that a requester can use whose connection reaches so far: those it has announced, and
/// those that are proven; of this node, its own.
fn named(
    (node_id, announced): (PeerId, Addresses),
    reach: Reach,
    Parts { cx, peers, .. }: &Parts<'_>,
) -> KadPeer {
    if node_id == cx.local.peer {
        let multiaddrs = cx.local.addresses_for(reach);
        return KadPeer { node_id, multiaddrs, connection_ty: connection(false) };
    }
    let announced = announced.reaching(reach);
    // Looked up once.
    let Some(known) = peers.get(&node_id) else {
        let multiaddrs = peers.bans.allowed(announced);
        return KadPeer { node_id, multiaddrs, connection_ty: connection(false) };
    };
    let multiaddrs = announced.merged(known.addresses.reaching(reach).iter().cloned());
    let multiaddrs = peers.bans.allowed(multiaddrs);
    KadPeer { node_id, multiaddrs, connection_ty: connection(known.is_connected()) }
}
