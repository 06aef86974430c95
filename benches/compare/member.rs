//! The nodes that networks are made of: what each kind is asked, and what it tells.

use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, PeerId, identify};
use libp2p_kad as kad;
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{
    Behaviour, Config, Event, GetRecordOk, IpDiversity, Mode, QueryId, QueryResult, Quorum, Record, RecordKey,
};

use super::PROTOCOL;
use super::nodes::Kad;
use super::server::VALUE;

/// What a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// The closest peers.
    Closest,
    /// The first value.
    Get,
    /// To store a value at the closest peers, a majority of them.
    Put,
}

/// What a node tells.
pub(crate) enum Told<I> {
    /// A request has arrived.
    Heard,
    Ended {
        id: I,
        peers: Vec<PeerId>,
        is_ok: bool,
        requests: u32,
    },
    Nothing,
}

/// A node with identify beside it.
#[derive(NetworkBehaviour)]
pub(crate) struct Member<B: NetworkBehaviour> {
    pub(crate) kad: B,
    pub(crate) identify: identify::Behaviour,
}

/// A kind of node.
pub(crate) trait Kind: 'static {
    type Kad: NetworkBehaviour<ToSwarm: Send> + Send;
    type Id: PartialEq + Send + 'static;

    fn behaviour(local: PeerId, is_server: bool) -> Self::Kad;

    /// Makes the node known through which all join.
    fn join(kad: &mut Self::Kad, first: &PeerId, address: Multiaddr);

    /// Identify has told where a server is.
    fn identified(kad: &mut Self::Kad, peer: &PeerId, address: Multiaddr);

    fn begin(kad: &mut Self::Kad, query: Query, key: Vec<u8>) -> Self::Id;

    fn told(kad: &mut Self::Kad, event: <Self::Kad as NetworkBehaviour>::ToSwarm) -> Told<Self::Id>;
}

/// This crate's.
pub(crate) struct Ours;

impl Kind for Ours {
    type Kad = Behaviour;
    type Id = QueryId;

    fn behaviour(local: PeerId, is_server: bool) -> Behaviour {
        // All are in one process.
        let config = Config::default().with_ip_diversity(IpDiversity::Off);
        let mut behaviour = Behaviour::with_config(local, MemoryStore::new(local), config);
        behaviour.set_mode(Some(if is_server { Mode::Server } else { Mode::Client }));
        behaviour
    }

    fn join(kad: &mut Behaviour, first: &PeerId, address: Multiaddr) {
        kad.add_address(first, address);
    }

    // The swarm tells it.
    fn identified(_: &mut Behaviour, _: &PeerId, _: Multiaddr) {}

    fn begin(kad: &mut Behaviour, query: Query, key: Vec<u8>) -> QueryId {
        match query {
            Query::Closest => kad.get_closest_peers(key),
            Query::Get => kad.get_record(RecordKey::from(key)),
            Query::Put => kad.put_record(Record::new(key, vec![7; VALUE]), Quorum::Majority).unwrap(),
        }
    }

    fn told(kad: &mut Behaviour, event: Event) -> Told<QueryId> {
        if let Event::InboundRequest { .. } = event {
            return Told::Heard;
        }
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else { return Told::Nothing };
        let requests = stats.num_requests();
        let ended = |peers, is_ok| Told::Ended { id, peers, is_ok, requests };
        if let QueryResult::GetClosestPeers(Ok(ok)) = result {
            ended(ok.peers.into_iter().map(|info| info.peer_id).collect(), true)
        } else if let QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_))) = result {
            kad.query_mut(&id).into_iter().for_each(|mut query| query.finish());
            ended(Vec::new(), true)
        } else if let QueryResult::PutRecord(result) = result {
            ended(Vec::new(), result.is_ok())
        } else if step.last {
            ended(Vec::new(), false)
        } else {
            Told::Nothing
        }
    }
}

/// Those of `libp2p-kad`.
pub(crate) struct Theirs;

impl Kind for Theirs {
    type Kad = Kad;
    type Id = kad::QueryId;

    fn behaviour(local: PeerId, is_server: bool) -> Kad {
        let store = kad::store::MemoryStore::new(local);
        let mut behaviour = kad::Behaviour::with_config(local, store, kad::Config::new(PROTOCOL));
        behaviour.set_mode(Some(if is_server { kad::Mode::Server } else { kad::Mode::Client }));
        behaviour
    }

    fn join(kad: &mut Kad, first: &PeerId, address: Multiaddr) {
        kad.add_address(first, address);
        kad.bootstrap().unwrap();
    }

    fn identified(kad: &mut Kad, peer: &PeerId, address: Multiaddr) {
        kad.add_address(peer, address);
    }

    fn begin(kad: &mut Kad, query: Query, key: Vec<u8>) -> kad::QueryId {
        match query {
            Query::Closest => kad.get_closest_peers(key),
            Query::Get => kad.get_record(kad::RecordKey::from(key)),
            Query::Put => {
                let key = kad::RecordKey::from(key);
                kad.put_record(kad::Record::new(key, vec![7; VALUE]), kad::Quorum::Majority).unwrap()
            }
        }
    }

    fn told(kad: &mut Kad, event: kad::Event) -> Told<kad::QueryId> {
        if let kad::Event::InboundRequest { .. } = event {
            return Told::Heard;
        }
        let kad::Event::OutboundQueryProgressed { id, result, stats, step } = event else {
            return Told::Nothing;
        };
        let requests = stats.num_requests();
        let ended = |peers, is_ok| Told::Ended { id, peers, is_ok, requests };
        if let kad::QueryResult::GetClosestPeers(Ok(ok)) = result {
            ended(ok.peers.into_iter().map(|info| info.peer_id).collect(), true)
        } else if let kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(_))) = result {
            kad.query_mut(&id).into_iter().for_each(|mut query| query.finish());
            ended(Vec::new(), true)
        } else if let kad::QueryResult::PutRecord(result) = result {
            ended(Vec::new(), result.is_ok())
        } else if step.last {
            ended(Vec::new(), false)
        } else {
            Told::Nothing
        }
    }
}
