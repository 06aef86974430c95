//! What things cost in allocations and heap: counted, not timed, so that the bounds hold on every machine.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, which reads the clock once")]

use allocation_counter::{AllocationInfo, measure};
use bytes::BytesMut;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;

use libp2p_kademlia::addrs::{Groups, IpGroup};
use libp2p_kademlia::dht::{ConnectionId, Dht, InboundId, Input, Output};
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::routing::{Table, TableConfig};
use libp2p_kademlia::store::{MemoryStore, MemoryStoreConfig, ProviderLimits, RecordStore as _, Source};
use libp2p_kademlia::time::{Instant, Now, SystemTime};
use libp2p_kademlia::wire::{MAX_PEERS, decode_request, decode_response, encode_response};
use libp2p_kademlia::{
    Addresses, Behaviour, Config, ConnectionType, IpDiversity, KadPeer, Key, Mode, ProviderRecord, Quorum,
    Record, Rng,
};

fn peer(n: u32) -> PeerId {
    let mut digest = vec![0x08, 0x01, 0x12, 0x20];
    digest.extend(Key::sha256(&n.to_le_bytes()).as_bytes());
    PeerId::from_multihash(Multihash::wrap(0, &digest).unwrap()).unwrap()
}

fn named(n: u32) -> KadPeer {
    let addresses = [1, 2, 3].map(|port| format!("/ip4/10.0.{}.1/tcp/{port}", n % 256).parse().unwrap());
    KadPeer {
        node_id: peer(n),
        multiaddrs: Addresses::collect(&peer(n), addresses),
        connection_ty: ConnectionType::Connected,
    }
}

fn full_table() -> Table {
    let mut table = Table::new(Key::of_peer(&peer(0), Key::sha256), TableConfig::default());
    let now = Instant::now();
    for n in 1..=100_000 {
        let key = Key::of_peer(&peer(n), Key::sha256);
        table.insert(
            now,
            key,
            peer(n),
            Addresses::collect(&peer(n), ["/memory/1".parse().unwrap()]),
            Groups::default(),
        );
    }
    table
}

#[test]
fn the_closest_peers_of_a_table_cost_nothing() {
    let table = full_table();
    let own = *table.local();
    let mut far = *own.as_bytes();
    far[0] ^= 0x80;
    for target in [own, Key::from_bytes(far), Key::sha256(b"anything")] {
        let info = measure(|| assert_eq!(table.closest(&target).take(20).count(), 20));
        assert_eq!(info.count_total, 0);
    }
}

#[test]
fn the_key_of_a_peer_costs_nothing() {
    let id = peer(1);
    assert_eq!(measure(|| assert_ne!(Key::of_peer(&id, Key::sha256), Key::sha256(b""))).count_total, 0);
}

#[test]
fn a_node_that_knows_nobody_takes_little() {
    let mut kept = None;
    let info = measure(|| kept = Some(Behaviour::new(peer(0), MemoryStore::new(peer(0)))));
    assert!(info.bytes_max <= 24_000, "{info:?}");
    // The behaviour itself is not on the heap before somebody puts it there.
    assert!(size_of::<Behaviour>() <= 4096, "{}", size_of::<Behaviour>());
}

#[test]
fn an_empty_table_takes_less_than_four_kibibytes() {
    let key = Key::of_peer(&peer(0), Key::sha256);
    let config = TableConfig::default();
    let mut kept = None;
    let info = measure(|| kept = Some(Table::new(key, config)));
    assert!(info.bytes_max as usize + size_of::<Table>() < 4096, "{info:?}");
}

/// An answer of 20 peers with 3 addresses each, as one frame.
fn answer() -> (Response, BytesMut) {
    let answer = Response::FindNode { closer_peers: (1..=20).map(named).collect() };
    let mut frame = BytesMut::new();
    encode_response(&answer, &mut frame);
    (answer, frame)
}

fn body(frame: &[u8]) -> &[u8] {
    unsigned_varint::decode::usize(frame).unwrap().1
}

#[test]
fn reading_an_answer_allocates_each_address_and_each_peer_once() {
    let (answer, frame) = answer();
    let mut read = None;
    let info = measure(|| read = Some(decode_response(body(&frame)).unwrap()));
    assert_eq!(read, Some(answer));
    // 60 addresses, 20 lists of them, the list of peers, and one that serves for collecting.
    assert!(info.count_total <= 100, "{info:?}");
    assert_eq!(info.count_total, 82);
}

#[test]
fn writing_an_answer_takes_one_buffer() {
    let (answer, frame) = answer();
    let mut buffer = BytesMut::new();
    assert_eq!(measure(|| encode_response(&answer, &mut buffer)).count_total, 1);
    buffer.clear();
    assert_eq!(measure(|| encode_response(&answer, &mut buffer)).count_total, 0, "it serves again");
    assert_eq!(buffer, frame);
}

/// The bytes that reading a frame may allocate: an address of five bytes on the wire becomes a shared one of 32 and its
/// own, and whatever is beyond the limits of peers and addresses is skipped.
fn bound(frame: usize) -> u64 {
    (64 * frame + 4096) as u64
}

#[test]
fn reading_whatever_comes_allocates_a_small_multiple_of_it() {
    let mut rng = Rng::from_u64(1);
    let (_, frame) = answer();
    let honest = body(&frame).to_vec();
    for round in 0..20_000 {
        let mut bytes = if round % 4 == 0 {
            let mut random = vec![0; usize::try_from(rng.below(600)).unwrap()];
            rng.fill(&mut random);
            random
        } else {
            honest.clone()
        };
        for _ in 0..rng.below(8) {
            let at = usize::try_from(rng.below(bytes.len().max(1) as u64)).unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = u8::try_from(rng.below(256)).unwrap();
            }
        }
        for info in [measure(|| drop(decode_response(&bytes))), measure(|| drop(decode_request(&bytes)))] {
            assert!(info.bytes_max <= bound(bytes.len()), "{info:?} for {} bytes: {bytes:02x?}", bytes.len());
        }
    }
}

#[test]
fn the_worst_frames_are_bounded_too() {
    // As many peers as fit, each with as many of the shortest addresses as fit: /memory/0 has 10 bytes, /tcp/1 has 3.
    let mut id = vec![0x00, 0x01, 0x07];
    let mut peer = vec![0x0a, 3];
    peer.append(&mut id);
    for port in 0..100u8 {
        peer.extend([0x12, 3, 6, 0, port]);
    }
    let len = peer.len();
    let mut body = vec![0x08, 4];
    while body.len() < 128 * 1024 {
        body.extend([0x42, u8::try_from(len & 0x7f).unwrap() | 0x80, u8::try_from(len >> 7).unwrap()]);
        body.extend(&peer);
    }
    let mut read = None;
    let info = measure(|| read = decode_response(&body).ok());
    let Some(Response::FindNode { closer_peers }) = read else { panic!("it is a message") };
    assert_eq!(closer_peers.len(), MAX_PEERS);
    assert!(info.bytes_max <= bound(body.len()), "{info:?}");
}

/// A server with a table of 300 peers or so.
fn server() -> (Dht<MemoryStore>, Now) {
    let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
    let config = Config::default().with_ip_diversity(IpDiversity::Off).with_refresh_interval(None).unwrap();
    let mut dht = Dht::new(peer(0), MemoryStore::new(peer(0)), config, [0; 32], now);
    dht.set_mode(now, Some(Mode::Server));
    for n in 1..=5000 {
        let (id, address) = (peer(n), "/ip4/10.0.0.1/tcp/1".parse().unwrap());
        dht.handle_input(
            now,
            Input::Connected {
                located: None,
                peer: id,
                connection: ConnectionId(n.into()),
                address,
                dialled: true,
                dial: None,
            },
        );
        while let Some(output) = dht.poll_output() {
            if let Output::SendRequest { id, .. } = output {
                let response = Response::FindNode { closer_peers: vec![named(n + 1)] };
                dht.handle_input(now, Input::ResponseReceived { id, response });
            }
        }
        dht.handle_input(now, Input::Disconnected { peer: id, connection: ConnectionId(n.into()) });
    }
    while dht.poll_output().is_some() {}
    (dht, now)
}

#[test]
fn serving_costs_one_list() {
    let (mut dht, now) = server();
    assert!(dht.table().len() > 100, "{}", dht.table().len());
    let mut ask = |key: Vec<u8>| -> AllocationInfo {
        let request = Request::FindNode { key: key.into() };
        // The request and the queue of outputs are there before, as they are in a running node.
        measure(|| {
            dht.handle_input(
                now,
                Input::RequestReceived {
                    from: peer(1),
                    connection: ConnectionId(1),
                    id: InboundId(1),
                    request,
                },
            );
            while let Some(output) = dht.poll_output() {
                if let Output::SendResponse { response: Response::FindNode { closer_peers }, .. } = output {
                    assert!(closer_peers.len() >= 20);
                }
            }
        })
    };
    ask(vec![1]);
    for key in [b"far".to_vec(), peer(0).to_bytes(), peer(77).to_bytes()] {
        let info = ask(key);
        // Asked for itself it lists its own addresses, too.
        assert!(info.count_total <= 3, "{info:?}");
    }
}

#[test]
fn statistics_cost_no_allocation() {
    let (mut dht, now) = server();
    dht.find_closest(now, b"anything".to_vec());
    let mut stats = None;
    assert_eq!(measure(|| stats = Some(dht.stats())).count_total, 0);
    let stats = stats.unwrap();
    assert!(stats.routing_table.entries > 100 && stats.outbound_requests.find_node.pending() > 0);
    let mut sum = stats.clone();
    assert_eq!(measure(|| sum.merge(&stats.since(&stats))).count_total, 0);
}

#[test]
fn queries_that_wait_cost_others_nothing() {
    let (mut dht, now) = server();
    let ask = |dht: &mut Dht<MemoryStore>| {
        let request = Request::FindNode { key: b"far"[..].into() };
        let info = measure(|| {
            dht.handle_input(
                now,
                Input::RequestReceived {
                    from: peer(1),
                    connection: ConnectionId(1),
                    id: InboundId(1),
                    request,
                },
            );
            while dht.poll_output().is_some() {}
        });
        (info.count_total, info.bytes_total)
    };
    ask(&mut dht);
    let before = ask(&mut dht);
    for n in 0..1000u32 {
        dht.find_closest(now, n.to_le_bytes());
        while dht.poll_output().is_some() {}
    }
    assert_eq!(dht.queries().count(), 1000);
    assert_eq!(ask(&mut dht), before);
}

/// A record of 64 KiB to twenty peers: each request shares the one value.
#[test]
fn a_put_does_not_copy_the_value_for_each_peer() {
    let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
    let mut dht = Dht::new(peer(0), MemoryStore::new(peer(0)), Config::default(), [1; 32], now);
    let peers: Vec<_> = (1..=20).map(peer).collect();
    for peer in &peers {
        let address = "/memory/1".parse().unwrap();
        dht.handle_input(
            now,
            Input::Connected {
                located: None,
                peer: *peer,
                connection: ConnectionId(0),
                address,
                dialled: true,
                dial: None,
            },
        );
    }
    while dht.poll_output().is_some() {}
    let record = Record::new("key", vec![7; 64 * 1024]);
    let mut requests = Vec::with_capacity(64);
    let info = measure(|| {
        dht.put_record_to(now, record.clone(), peers.iter().copied(), Quorum::All);
        while let Some(output) = dht.poll_output() {
            if let Output::SendRequest { request: Request::PutValue { record }, .. } = output {
                requests.push(record.value);
            }
        }
    });
    assert_eq!(requests.len(), 20);
    assert!(requests.iter().all(|value| value.as_ptr() == record.value.as_ptr()), "one value for all");
    assert!(info.bytes_total < 64 * 1024, "{info:?}");
    println!("{} allocations, {} bytes", info.count_total, info.bytes_total);
}

/// A million keys with one provider each, a thousand providers with two addresses each, of 250 IP groups; and as many keys
/// of the node's own.
#[test]
fn a_million_provider_records_take_little_and_no_insert_takes_much() {
    let pairs = 1_000_000;
    let providers = ProviderLimits { max_keys: pairs, max_pairs: pairs, ..ProviderLimits::default() };
    let config = MemoryStoreConfig { providers, ..MemoryStoreConfig::default() };
    let wall = SystemTime::UNIX_EPOCH;
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let addresses = ["/ip4/1.2.3.4/tcp/4001", "/ip4/1.2.3.4/udp/4001/quic-v1"];
    for is_own in [false, true] {
        let mut store = MemoryStore::with_config(peer(0), config.clone());
        let (mut kept, mut most) = (0i64, 0);
        for n in 0..u32::try_from(pairs).unwrap() {
            // Made and dropped within the measure: otherwise what is freed there hides what is kept.
            let info = measure(|| {
                let digest = Key::sha256(&n.to_le_bytes());
                let key = Multihash::<64>::wrap(0x12, digest.as_bytes()).unwrap();
                let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
                let end = 2 * day + std::time::Duration::from_secs((n / 100).into());
                let provider = peer(if is_own { 0 } else { 1 + n % 1000 });
                let record = ProviderRecord::new(key, provider, addresses);
                let record = ProviderRecord { expires: Some(wall + end), ..record };
                let [.., a, b] = (n % 250).to_be_bytes();
                let source = Source { peer: provider, group: Some(IpGroup::V4([a, b])), hands_on: false };
                if is_own {
                    store.add_provider(wall, record).unwrap();
                } else {
                    store.add_provider_from(wall, record, source).unwrap();
                }
            });
            kept += info.bytes_current;
            most = most.max(info.bytes_max);
        }
        let each = kept / i64::try_from(pairs).unwrap();
        println!("own: {is_own}: {each} bytes a pair, {most} at once");
        // Beside the 34 bytes of a key 128.
        assert!(each <= 34 + 128, "{each} bytes a pair");
        assert!(most <= 64 * 1024, "{most} bytes at once");
    }
}
