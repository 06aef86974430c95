//! The wire: a FIND_NODE answer of 20 peers with 3 addresses each, read and written, beside `prost` in the same run.
//!
//! Figures of one run, and how to count instructions, stand in docs/costs.md.

#![expect(clippy::unwrap_used, reason = "a bench")]

use bytes::BytesMut;
use divan::{AllocProfiler, Bencher, black_box};
use libp2p_core::Multiaddr;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kademlia::message::Response;
use libp2p_kademlia::wire::{decode_response, encode_response};
use libp2p_kademlia::{Addresses, ConnectionType, KadPeer, Key};
use prost::Message as _;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// The messages of proto/dht.proto as `prost` has them.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Peer {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) id: Vec<u8>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub(super) addrs: Vec<Vec<u8>>,
        #[prost(int32, tag = "3")]
        pub(super) connection: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Message {
        #[prost(int32, tag = "1")]
        pub(super) message_type: i32,
        #[prost(int32, tag = "10")]
        pub(super) cluster_level: i32,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) key: Vec<u8>,
        #[prost(message, repeated, tag = "8")]
        pub(super) closer_peers: Vec<Peer>,
        #[prost(message, repeated, tag = "9")]
        pub(super) provider_peers: Vec<Peer>,
    }
}

fn answer() -> Response {
    let peers = (0u16..20).map(|n| {
        let mut digest = vec![0x08, 0x01, 0x12, 0x20];
        digest.extend(Key::sha256(&n.to_le_bytes()).as_bytes());
        let node_id = PeerId::from_multihash(Multihash::wrap(0, &digest).unwrap()).unwrap();
        let addresses = [
            format!("/ip4/147.75.{n}.1/tcp/4001"),
            format!("/ip4/147.75.{n}.1/udp/4001/quic-v1"),
            format!("/ip6/2604:1380:{n}::1/udp/4001/quic-v1"),
        ];
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        KadPeer {
            node_id,
            multiaddrs: Addresses::collect(&node_id, addresses),
            connection_ty: ConnectionType::Connected,
        }
    });
    Response::FindNode { closer_peers: peers.collect() }
}

/// The message without the length in front of it.
fn body() -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode_response(&answer(), &mut frame);
    unsigned_varint::decode::usize(&frame).unwrap().1.to_vec()
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let body = body();
    assert_eq!(decode_response(&body).unwrap(), answer());
    bencher.bench(|| decode_response(black_box(&body)));
}

#[divan::bench]
fn decode_prost(bencher: Bencher<'_, '_>) {
    let body = body();
    bencher.bench(|| proto::Message::decode(black_box(&body[..])));
}

/// To the types an application sees, as `libp2p-kad` makes them: each address gets the peer's id appended.
#[divan::bench]
fn decode_prost_and_convert(bencher: Bencher<'_, '_>) {
    let body = body();
    bencher.bench(|| {
        let message = proto::Message::decode(black_box(&body[..])).unwrap();
        let peers = message.closer_peers.into_iter().map(|peer| {
            let id = PeerId::from_bytes(&peer.id).unwrap();
            let addresses = peer.addrs.into_iter().filter_map(|address| {
                let address = Multiaddr::try_from(address).ok()?;
                address.with_p2p(id).ok()
            });
            (id, addresses.collect::<Vec<_>>(), peer.connection)
        });
        peers.collect::<Vec<_>>()
    });
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let answer = answer();
    bencher.bench(|| {
        let mut buffer = BytesMut::new();
        encode_response(black_box(&answer), &mut buffer);
        buffer
    });
}

#[divan::bench]
fn encode_prost(bencher: Bencher<'_, '_>) {
    let Response::FindNode { closer_peers } = answer() else {
        return;
    };
    bencher.bench(|| {
        let closer_peers = black_box(&closer_peers).iter().map(|peer| proto::Peer {
            id: peer.node_id.to_bytes(),
            addrs: peer.multiaddrs.iter().map(|address| address.to_vec()).collect(),
            connection: 1,
        });
        let message = proto::Message {
            message_type: 4,
            cluster_level: 1,
            closer_peers: closer_peers.collect(),
            ..proto::Message::default()
        };
        message.encode_length_delimited_to_vec()
    });
}
