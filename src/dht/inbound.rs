//! Requests of other peers: what is answered.
//!
//! Answers come from the table, the store and what is remembered of peers; nobody is asked for them.

use libp2p_identity::PeerId;

use super::io::{InboundId, Output};
use super::{Dht, RecordStore};
use crate::addrs::Reach;
use crate::event::{Event, InboundRequest, Mode};
use crate::key::{Key, PeerBytes};
use crate::message::{Request, Response, SentRecord};
use crate::peer::{ConnectionType, KadPeer};
use crate::record::RecordKey;
use crate::time::Instant;

impl<S: RecordStore> Dht<S> {
    /// Answers a request, or refuses it.
    pub(super) fn serve(&mut self, now: Instant, from: PeerId, id: InboundId, request: Request) {
        if self.mode() == Mode::Client {
            self.outputs.push_back(Output::RefuseRequest { to: from, id });
            return;
        }
        let answer = match request {
            Request::Ping => Some((Response::Pong, InboundRequest::Ping { source: from })),
            Request::FindNode { key } => {
                let closer_peers = self.closer_to_node(now, &key, &from);
                let num_closer_peers = closer_peers.len();
                let request = InboundRequest::FindNode { source: from, num_closer_peers };
                Some((Response::FindNode { closer_peers }, request))
            }
            Request::GetValue { key } => self.get_value(now, key, &from),
            Request::GetProviders { key } => self.serve_providers(now, key, &from),
            Request::PutValue { record } => {
                self.put_value(now, from, id, record);
                return self.asked_by(now, from);
            }
            Request::AddProvider { key, providers } => {
                self.add_provider(now, from, id, key, providers);
                return self.asked_by(now, from);
            }
        };
        match answer {
            Some((response, request)) => {
                self.outputs.push_back(Output::SendResponse { to: from, id, response });
                self.event(Event::InboundRequest { request });
            }
            None => self.outputs.push_back(Output::RefuseRequest { to: from, id }),
        }
        self.asked_by(now, from);
    }

    /// A peer that asks lives; a stranger that asks may be a server.
    fn asked_by(&mut self, now: Instant, from: PeerId) {
        let key = self.peers.key(&from);
        if !self.table.seen(now, &key, &from) {
            self.consider(now, from);
        }
    }

    /// Returns the `k` closest peers to a key that the table has and that answer, the asker left out.
    ///
    /// A node that has fewer names its seeds as well, until it has heard of them: while a network starts, what the application
    /// said is all that anybody knows.
    pub(super) fn closer(&self, target: &Key, from: &PeerId, first: Option<KadPeer>) -> Vec<KadPeer> {
        let (k, reach) = (self.config.bucket_size().get(), self.peers.reach(from));
        let mut named = Vec::with_capacity(k + 1);
        named.extend(first);
        let first = named.first().map(|peer| peer.node_id);
        let live = self.table.closest(target).filter(|entry| entry.is_live());
        let others =
            live.filter(|entry| !entry.is_of(from) && first.is_none_or(|first| !entry.is_of(&first)));
        let own = usize::from(first == Some(self.local.peer));
        let room = k + own - named.len();
        named.extend(others.take(room).map(|entry| KadPeer {
            node_id: entry.peer(),
            multiaddrs: entry.addresses().told_to(reach),
            connection_ty: connection(entry.is_connected()),
        }));
        if named.len() < k + own {
            self.name_seeds(target, from, k + own, reach, &mut named);
        }
        named
    }

    /// Adds the closest seeds of which nothing has been heard yet, up to so many peers in all, nearest first.
    fn name_seeds(&self, target: &Key, from: &PeerId, room: usize, reach: Reach, named: &mut Vec<KadPeer>) {
        let is_new = |peer: &PeerId| peer != from && named.iter().all(|known| known.node_id != *peer);
        let unheard = self.seeds.unheard().filter(|(_, peer, _)| is_new(peer));
        let mut unheard: Vec<_> = unheard.collect();
        if unheard.is_empty() {
            return;
        }
        unheard.sort_by_key(|(key, peer, _)| (target.distance(key), *peer));
        let first = usize::from(named.first().is_some_and(|peer| peer.node_id == self.local.peer));
        let room = room.saturating_sub(named.len());
        named.extend(unheard.into_iter().take(room).map(|(_, node_id, addresses)| KadPeer {
            node_id,
            multiaddrs: addresses.told_to(reach),
            connection_ty: connection(self.peers.is_connected(&node_id)),
        }));
        named[first..].sort_by_key(|peer| target.distance(&self.peers.key(&peer.node_id)));
    }

    /// Returns the closest peers to the hash of `key`.
    ///
    /// Led by this node if it is asked for itself, or by the peer whose id the key is if that is connected or has
    /// answered lately, in the table or not; a peer that somebody only spoke of is not named.
    ///
    /// # Spec
    /// libp2p kad-dht, "RPC messages": FIND_NODE. go nodes take a peer into their tables only if it names at least one
    /// peer when asked for itself.
    fn closer_to_node(&self, now: Instant, key: &[u8], from: &PeerId) -> Vec<KadPeer> {
        let (target, reach) = ((self.config.key_hash)(key), self.peers.reach(from));
        let first = if key == PeerBytes::of(&self.local.peer).as_slice() {
            let multiaddrs = self.local.addresses_for(reach);
            Some(KadPeer { node_id: self.local.peer, multiaddrs, connection_ty: ConnectionType::Connected })
        } else {
            PeerId::from_bytes(key).ok().filter(|peer| peer != from).and_then(|peer| {
                let known = self.peers.get(&peer)?;
                (self.peers.is_proven(now, &peer) && !known.addresses.is_empty()).then(|| KadPeer {
                    node_id: peer,
                    multiaddrs: known.addresses.told_to(reach),
                    connection_ty: connection(known.is_connected()),
                })
            })
        };
        self.closer(&target, from, first)
    }

    fn get_value(&self, now: Instant, key: RecordKey, from: &PeerId) -> Option<(Response, InboundRequest)> {
        let wall = self.wall_at(now);
        let record = self.store.get(wall, &key).ok()?.map(|record| record.into_owned());
        let closer_peers = self.closer(&(self.config.key_hash)(key.as_ref()), from, None);
        let request = InboundRequest::GetRecord {
            source: *from,
            num_closer_peers: closer_peers.len(),
            present_locally: record.is_some(),
        };
        let record = record.map(|record| SentRecord::of(record, wall));
        Some((Response::GetValue { key: Some(key), record, closer_peers }, request))
    }
}

pub(super) const fn connection(connected: bool) -> ConnectionType {
    if connected { ConnectionType::Connected } else { ConnectionType::CanConnect }
}
