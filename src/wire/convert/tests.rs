use std::fmt::Write as _;

use quick_protobuf::{BytesReader, MessageRead};

use super::*;
use crate::rng::cases::cases;
use crate::wire::ClientCodec;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn peer(seed: u8) -> PeerId {
    PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[seed; 32]).unwrap()).unwrap()
}

fn named(seed: u8, addresses: &[&str]) -> KadPeer {
    KadPeer {
        node_id: peer(seed),
        multiaddrs: Addresses::collect(&peer(seed), addresses.iter().map(|text| text.parse().unwrap())),
        connection_ty: ConnectionType::Connected,
    }
}

/// The body of the one frame in `frame`.
fn body(frame: &[u8]) -> &[u8] {
    unsigned_varint::decode::usize(frame).unwrap().1
}

fn request_frame(request: &Request) -> BytesMut {
    let mut buffer = BytesMut::new();
    encode_request(request, &mut buffer);
    buffer
}

fn response_frame(response: &Response) -> BytesMut {
    let mut buffer = BytesMut::new();
    encode_response(response, &mut buffer);
    buffer
}

#[derive(Debug)]
struct Vector {
    name: String,
    is_request: bool,
    frame: Vec<u8>,
    request: Option<Vec<u8>>,
}

/// What real nodes of go-libp2p-kad-dht sent.
fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../tests/vectors/go.json");
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    let vectors = json.as_array().unwrap().iter().map(|vector| Vector {
        name: vector["name"].as_str().unwrap().to_owned(),
        is_request: vector["direction"] == "request",
        frame: hex(vector["hex"].as_str().unwrap()),
        request: vector["request_hex"].as_str().map(hex),
    });
    vectors.collect()
}

#[test]
fn everything_a_go_node_sends_is_read() {
    let vectors = vectors();
    assert!(vectors.len() >= 26);
    for Vector { name, is_request, frame, request } in vectors {
        if is_request {
            decode_request(body(&frame)).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else {
            let response = decode_response(body(&frame)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let request = decode_request(body(&request.unwrap())).unwrap();
            assert!(response.answers(&request), "{name}: {response:?} to {request:?}");
        }
    }
}

#[test]
fn what_a_go_node_sends_is_what_we_would_send() {
    // Byte for byte, but for the time of receipt, the type 0 that rust writes out, and other cluster levels.
    let mut same = 0;
    for Vector { name, is_request, frame, request } in vectors() {
        let ours = if is_request {
            request_frame(&decode_request(body(&frame)).unwrap())
        } else {
            response_frame(&decode_response(body(&frame)).unwrap())
        };
        let frame_hex = to_hex(&frame);
        // The time (field 5 of the record) is written by go and left out by us; PONG and echoes carry no level.
        let differs = frame_hex.contains("2a1e3230") || !frame_hex.ends_with("5001");
        if !differs {
            assert_eq!(to_hex(&ours), frame_hex, "{name} {request:02x?}");
            same += 1;
        }
    }
    assert!(same >= 15, "{same}");
}

#[test]
fn each_message_survives_a_round_trip() {
    let key = RecordKey::new(b"/test/key");
    let record = SentRecord {
        key: key.clone(),
        value: Bytes::from_static(b"value"),
        publisher: Some(peer(9)),
        ttl: Some(Duration::from_secs(60)),
    };
    let peers = vec![named(1, &["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1"]), named(2, &[])];
    for request in [
        Request::Ping,
        Request::FindNode { key: Bytes::from_static(b"any") },
        Request::GetValue { key: key.clone() },
        Request::PutValue { record: record.clone() },
        Request::GetProviders { key: key.clone() },
        Request::AddProvider { key: key.clone(), providers: peers.clone() },
    ] {
        assert_eq!(decode_request(body(&request_frame(&request))).unwrap(), request);
    }
    for response in [
        Response::Pong,
        Response::FindNode { closer_peers: peers.clone() },
        Response::FindNode { closer_peers: vec![] },
        Response::GetValue { key: Some(key.clone()), record: Some(record), closer_peers: peers.clone() },
        Response::GetValue { key: None, record: None, closer_peers: vec![] },
        Response::PutValue { key: key.clone(), value: Some(Bytes::from_static(b"value")) },
        Response::GetProviders { key: Some(key), provider_peers: peers.clone(), closer_peers: peers },
    ] {
        assert_eq!(decode_response(body(&response_frame(&response))).unwrap(), response);
    }
}

#[test]
fn the_empty_message_and_unknown_types_are_refused() {
    assert!(matches!(decode_request(&[]), Err(DecodeError::Empty)));
    // Only a cluster level: PUT_VALUE without anything.
    assert!(matches!(decode_request(&[0x50, 1]), Err(DecodeError::Missing("key"))));
    assert!(matches!(decode_request(&[0x08, 6]), Err(DecodeError::UnknownType(6))));
    assert!(matches!(decode_response(&[0x08, 77]), Err(DecodeError::UnknownType(77))));
    // -1 as protobuf writes it.
    let minus_one = [&[0x08][..], &[0xff; 9], &[1]].concat();
    assert!(matches!(decode_request(&minus_one), Err(DecodeError::UnknownType(u64::MAX))));
}

#[test]
fn a_record_must_be_of_the_key_of_its_message() {
    let put = |key: &[u8], record: &[u8]| {
        let mut bytes = vec![0x12, u8::try_from(key.len()).unwrap()];
        bytes.extend(key);
        bytes.extend([0x1a, u8::try_from(record.len()).unwrap()]);
        bytes.extend(record);
        bytes
    };
    assert!(decode_request(&put(b"a", &[0x0a, 1, b'a', 0x12, 1, b'v'])).is_ok());
    let mismatch = decode_request(&put(b"a", &[0x0a, 1, b'b', 0x12, 1, b'v']));
    assert!(matches!(mismatch, Err(DecodeError::KeyMismatch)));
    let keyless = decode_request(&put(b"a", &[0x12, 1, b'v']));
    assert!(matches!(keyless, Err(DecodeError::Missing("record.key"))));
    assert!(matches!(decode_request(&[0x12, 1, b'a']), Err(DecodeError::Missing("record"))));
    let not_utf8 = decode_request(&put(b"a", &[0x0a, 1, b'a', 0x2a, 1, 0xff]));
    assert!(matches!(not_utf8, Err(DecodeError::Missing("record"))));
}

#[test]
fn keys_and_providers_are_required() {
    for message_type in [1, 2, 3, 4] {
        assert!(matches!(decode_request(&[0x08, message_type]), Err(DecodeError::Missing("key"))));
    }
    let add_nobody = decode_request(&[0x08, 2, 0x12, 1, b'k']);
    assert!(matches!(add_nobody, Err(DecodeError::Missing("providerPeers"))));
}

#[test]
fn bad_ids_and_addresses_are_skipped_and_the_rest_is_read() {
    let id = peer(1).to_bytes();
    let other = Multiaddr::empty().with(Protocol::P2p(peer(2))).to_vec();
    let good: Multiaddr = "/ip4/1.2.3.4/tcp/1".parse().unwrap();
    let suffixed = good.clone().with(Protocol::P2p(peer(1)));
    let foreign = good.clone().with(Protocol::P2p(peer(2)));
    let twice = suffixed.clone().with(Protocol::P2p(peer(1)));
    let mut message = vec![0x08, 4];
    let mut push_peer = |id: &[u8], addresses: &[&[u8]], connection: u8| {
        let mut body = vec![0x0a, u8::try_from(id.len()).unwrap()];
        body.extend(id);
        for address in addresses {
            body.extend([0x12, u8::try_from(address.len()).unwrap()]);
            body.extend(*address);
        }
        body.extend([0x18, connection]);
        message.push(0x42);
        message
            .extend(unsigned_varint::encode::usize(body.len(), &mut unsigned_varint::encode::usize_buffer()));
        message.extend(body);
    };
    push_peer(b"not an id", &[good.as_ref()], 1);
    let foreign = foreign.as_ref();
    push_peer(&id, &[&[0xff, 0xff], suffixed.as_ref(), foreign, &other, &[], good.as_ref()], 9);
    push_peer(&id, &[twice.as_ref(), good.as_ref()], 9);
    let Response::FindNode { closer_peers } = decode_response(&message).unwrap() else { panic!() };
    let expected = KadPeer {
        node_id: peer(1),
        multiaddrs: Addresses::collect(&peer(1), [good]),
        connection_ty: ConnectionType::NotConnected,
    };
    assert_eq!(closer_peers, [expected.clone(), expected]);
}

#[test]
fn a_thousand_peers_are_cut() {
    // By hand, since we would not send so many.
    let mut fields = BytesMut::new();
    let mut out = FieldWriter(&mut fields);
    out.number(field::TYPE, PbType::FIND_NODE as u64);
    (0..=255).cycle().take(1000).for_each(|n| out.peer(field::CLOSER_PEERS, &named(n, &[]), 1));
    let Response::FindNode { closer_peers } = decode_response(&fields).unwrap() else { panic!() };
    assert_eq!(closer_peers.len(), MAX_PEERS);
}

#[test]
fn what_is_sent_fits_the_smallest_reader_and_keeps_as_many_peers_as_it_can() {
    let many: Vec<String> =
        (0..MAX_ADDRESSES).map(|n| format!("/dns4/{}{n}.example.com/tcp/1/wss", "x".repeat(60))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for peers in [20, 255] {
        let closer_peers: Vec<_> = (0..peers).map(|n| named(n, &many)).collect();
        let frame = response_frame(&Response::FindNode { closer_peers });
        assert!(frame.len() <= SEND_LIMIT + 3 && frame.len() > SEND_LIMIT / 2, "{}", frame.len());
        let Response::FindNode { closer_peers } = decode_response(body(&frame)).unwrap() else { panic!() };
        assert!(closer_peers.len() >= 20 && closer_peers.iter().all(|peer| !peer.multiaddrs.is_empty()));
    }
}

#[test]
fn a_record_is_never_cut() {
    let key = RecordKey::new(b"k");
    let record =
        |len| SentRecord { key: key.clone(), value: vec![7; len].into(), publisher: None, ttl: None };
    for len in [20_000, 1 << 20] {
        let closer_peers: Vec<_> = (0..20).map(|n| named(n, &["/ip4/1.2.3.4/tcp/1"])).collect();
        let response = Response::GetValue { key: Some(key.clone()), record: Some(record(len)), closer_peers };
        assert_eq!(decode_response(body(&response_frame(&response))).unwrap(), response);
    }
}

#[test]
fn one_buffer_is_enough() {
    let closer_peers: Vec<_> = (0..20).map(|n| named(n, &["/ip4/1.2.3.4/tcp/1"])).collect();
    let response = Response::FindNode { closer_peers };
    let frame = response_frame(&response);
    let mut buffer = BytesMut::with_capacity(frame.len());
    let before = buffer.as_ptr();
    encode_response(&response, &mut buffer);
    assert_eq!((buffer.as_ptr(), &buffer[..]), (before, &frame[..]), "exactly as much as was reserved");
}

#[test]
fn answers_of_other_implementations_are_taken_as_they_are() {
    // libp2p-kad repeats no key; an echo without a value or with the key only in the record.
    let Response::GetProviders { key: None, .. } = decode_response(&[0x08, 3]).unwrap() else { panic!() };
    let echo = decode_response(&[0x12, 1, b'k']).unwrap();
    assert_eq!(echo, Response::PutValue { key: RecordKey::new(b"k"), value: None });
    let in_record = decode_response(&[0x1a, 6, 0x0a, 1, b'k', 0x12, 1, b'v']).unwrap();
    let value = Some(Bytes::from_static(b"v"));
    assert_eq!(in_record, Response::PutValue { key: RecordKey::new(b"k"), value });
    assert!(matches!(decode_response(&[0x50, 1]), Err(DecodeError::Missing("key"))));
    assert!(decode_response(&[0x08, 2]).is_err(), "nobody awaits an answer to ADD_PROVIDER");
}

/// What the generated reader makes of the same bytes.
fn reference(bytes: &[u8]) -> pb::Message<'_> {
    pb::Message::from_reader(&mut BytesReader::from_bytes(bytes), bytes).unwrap()
}

#[test]
fn decoding_never_panics() {
    cases(256, |rng| {
        let bytes = rng.bytes(300);
        let _ = decode_request(&bytes);
        let _ = decode_response(&bytes);
        let mut buffer = BytesMut::from(&bytes[..]);
        let _ = ClientCodec::new(200).decode(&mut buffer);
    });
}

#[test]
fn what_passes_the_check_the_generated_reader_reads_alike() {
    let cache = PeerCache::default();
    cases(256, |rng| {
        let seed = rng.byte();
        let peers = vec![
            named(seed, &["/ip4/1.2.3.4/tcp/1"]),
            named(seed.wrapping_add(1), &["/memory/7", "/ip6/::1/tcp/2"]),
        ];
        let response = Response::GetProviders {
            key: Some(RecordKey::new(b"key")),
            provider_peers: peers.clone(),
            closer_peers: peers,
        };
        let mut bytes = body(&response_frame(&response)).to_vec();
        let at = rng.place(bytes.len());
        bytes[at] = rng.byte();
        if let Ok(view) = MessageView::check(&bytes) {
            let reference = reference(&bytes);
            assert_eq!(view.key, &*reference.key);
            for (list, expected) in [
                (field::CLOSER_PEERS, &reference.closerPeers),
                (field::PROVIDER_PEERS, &reference.providerPeers),
            ] {
                assert_eq!(view.peers(list).count(), expected.len());
                for (found, expected) in view.peers(list).map(PeerView::checked).zip(expected) {
                    assert_eq!(found.id_and_connection().0, &*expected.id);
                    assert!(found.addrs().eq(expected.addrs.iter().map(|address| &**address)));
                }
            }
            // A cache, which knows some of them from before, changes nothing.
            let read = |cache| super::response(&bytes, cache).map_err(|error| error.to_string());
            let without = read(None);
            (0..3).for_each(|_| assert_eq!(read(Some(&cache)), without));
        }
    });
}

/// Field 11 is a status as a number, and a record of its sender as bytes.
#[test]
fn what_has_become_of_an_announcement_is_told_by_a_number() {
    for is_rejected in [false, true] {
        let sent = Response::AddProvider { key: RecordKey::new(b"key"), is_rejected };
        let mut frame = BytesMut::new();
        encode_response(&sent, &mut frame);
        let body = unsigned_varint::decode::usize(&frame).unwrap().1;
        assert!(body.ends_with(&[0x58, u8::from(is_rejected)]), "{body:?}");
        assert_eq!(decode_response(body).unwrap(), sent);
    }
    // ADD_PROVIDER of "key", and then: nothing; a record; a status that nobody knows; a status of nothing.
    let of_key = [0x08, 2, 0x12, 3, b'k', b'e', b'y'];
    let read = |more: &[u8]| decode_response(&[&of_key, more].concat());
    assert!(matches!(read(&[]), Err(DecodeError::UnknownType(2))));
    assert!(matches!(read(&[0x5a, 2, 1, 1]), Err(DecodeError::UnknownType(2))), "py-libp2p");
    let unknown = Response::AddProvider { key: RecordKey::new(b"key"), is_rejected: false };
    assert_eq!(read(&[0x58, 7]).unwrap(), unknown);
    assert!(matches!(decode_response(&[0x08, 2, 0x58, 1]), Err(DecodeError::Missing("key"))));
    // A request may have it, too, and is read without.
    let mut request = BytesMut::new();
    encode_request(&Request::FindNode { key: b"key"[..].into() }, &mut request);
    let body = [unsigned_varint::decode::usize(&request).unwrap().1, &[0x5a, 2, 1, 1]].concat();
    assert!(matches!(decode_request(&body), Ok(Request::FindNode { .. })));
}
