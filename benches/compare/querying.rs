//! The clients that are compared: how each begins a query, and how it tells that one is over.

use std::collections::HashSet;

use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, PeerId};
use libp2p_kad as kad;
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{
    Behaviour, Config, Event, GetProvidersOk, GetRecordOk, IpDiversity, QueryId, QueryResult, RecordKey,
};

use super::PROTOCOL;
use super::nodes::Kad;

/// What is searched for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// The closest peers.
    Closest,
    /// One value.
    Value,
    /// One provider, or as many as the first that knows some names.
    Provider,
}

/// What a query has found.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Peers {
        key: Vec<u8>,
        peers: Vec<PeerId>,
    },
    /// So many values or providers.
    Others(usize),
}

impl Found {
    fn is_nothing(&self) -> bool {
        match self {
            Self::Peers { peers, .. } => peers.is_empty(),
            Self::Others(others) => *others == 0,
        }
    }
}

/// A client.
pub(crate) trait Client: Default + Send + 'static {
    type Behaviour: NetworkBehaviour;

    fn behaviour(local: PeerId) -> Self::Behaviour;

    /// Makes a peer known.
    fn add(behaviour: &mut Self::Behaviour, peer: &PeerId, address: Multiaddr);

    /// Begins a query.
    fn begin(&mut self, behaviour: &mut Self::Behaviour, query: Query, key: Vec<u8>);

    /// Takes an event. Returns what a query has found that is over with it.
    fn took(
        &mut self,
        behaviour: &mut Self::Behaviour,
        event: <Self::Behaviour as NetworkBehaviour>::ToSwarm,
    ) -> Option<Found>;
}

/// This crate's.
#[derive(Default)]
pub(crate) struct Ours(HashSet<QueryId>);

impl Client for Ours {
    type Behaviour = Behaviour;

    fn behaviour(local: PeerId) -> Behaviour {
        // All that it asks have one address.
        Behaviour::with_config(
            local,
            MemoryStore::new(local),
            Config::default().with_ip_diversity(IpDiversity::Off),
        )
    }

    fn add(behaviour: &mut Behaviour, peer: &PeerId, address: Multiaddr) {
        behaviour.add_address(peer, address);
    }

    fn begin(&mut self, behaviour: &mut Behaviour, query: Query, key: Vec<u8>) {
        self.0.insert(match query {
            Query::Closest => behaviour.get_closest_peers(key),
            Query::Value => behaviour.get_record(RecordKey::from(key)),
            Query::Provider => behaviour.get_providers(RecordKey::from(key)),
        });
    }

    fn took(&mut self, behaviour: &mut Behaviour, event: Event) -> Option<Found> {
        let Event::OutboundQueryProgressed { id, result, step, .. } = event else { return None };
        let found = if let QueryResult::GetClosestPeers(Ok(ok)) = result {
            Found::Peers { key: ok.key, peers: ok.peers.into_iter().map(|info| info.peer_id).collect() }
        } else if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = result
        {
            Found::Others(providers.len())
        } else {
            let is_record = matches!(result, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_))));
            Found::Others(usize::from(is_record))
        };
        if (found.is_nothing() && !step.last) || !self.0.remove(&id) {
            return None;
        }
        if !step.last
            && let Some(mut query) = behaviour.query_mut(&id)
        {
            query.finish();
        }
        Some(found)
    }
}

/// The one of `libp2p-kad`.
#[derive(Default)]
pub(crate) struct Theirs(HashSet<kad::QueryId>);

impl Client for Theirs {
    type Behaviour = Kad;

    fn behaviour(local: PeerId) -> Kad {
        let store = kad::store::MemoryStore::new(local);
        kad::Behaviour::with_config(local, store, kad::Config::new(PROTOCOL))
    }

    fn add(behaviour: &mut Kad, peer: &PeerId, address: Multiaddr) {
        behaviour.add_address(peer, address);
    }

    fn begin(&mut self, behaviour: &mut Kad, query: Query, key: Vec<u8>) {
        self.0.insert(match query {
            Query::Closest => behaviour.get_closest_peers(key),
            Query::Value => behaviour.get_record(kad::RecordKey::from(key)),
            Query::Provider => behaviour.get_providers(kad::RecordKey::from(key)),
        });
    }

    fn took(&mut self, behaviour: &mut Kad, event: kad::Event) -> Option<Found> {
        use kad::{GetProvidersOk, GetRecordOk, QueryResult};
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return None };
        let found = if let QueryResult::GetClosestPeers(Ok(ok)) = result {
            Found::Peers { key: ok.key, peers: ok.peers.into_iter().map(|info| info.peer_id).collect() }
        } else if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = result
        {
            Found::Others(providers.len())
        } else {
            let is_record = matches!(result, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_))));
            Found::Others(usize::from(is_record))
        };
        if (found.is_nothing() && !step.last) || !self.0.remove(&id) {
            return None;
        }
        if !step.last
            && let Some(mut query) = behaviour.query_mut(&id)
        {
            query.finish();
        }
        Some(found)
    }
}
