//! The bytes of real peers: go, js, py and `libp2p-kad`, as they really send them. All are read, and answered as those peers
//! expect, without any of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "tests: they fail by panicking, and read the clock once"
)]

use std::fs;
use std::path::Path;

use bytes::BytesMut;
use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::addrs::Addresses;
use libp2p_kademlia::dht::{ConnectionId, Dht, InboundId, Input, Output};
use libp2p_kademlia::message::{MessageType, Request, Response};
use libp2p_kademlia::store::{MemoryStore, RecordStore as _};
use libp2p_kademlia::time::{Instant, Now, SystemTime};
use libp2p_kademlia::wire::{DecodeError, decode_request, decode_response, encode_request, encode_response};
use libp2p_kademlia::{Config, ConnectionType, KadPeer, Mode, PROTOCOL_NAME};

/// One message as a real peer has sent it.
struct Vector {
    kind: &'static str,
    name: String,
    is_request: bool,
    message_type: String,
    /// `None` if the peer did not answer.
    frame: Option<Vec<u8>>,
    /// What it answers, if that is known.
    request: Option<Vec<u8>>,
    note: String,
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Reads the file of a kind of peer.
fn vectors(kind: &'static str) -> Vec<Vector> {
    let file = if kind == "go" { "go.json".to_owned() } else { format!("peers/{kind}.json") };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().map(str::to_owned);
    let vector = |value: serde_json::Value| Vector {
        kind,
        name: text(&value, "name").unwrap(),
        is_request: text(&value, "direction").unwrap() == "request",
        message_type: text(&value, "type").unwrap(),
        frame: text(&value, "hex").map(|text| hex(&text)),
        request: text(&value, "request_hex").map(|text| hex(&text)),
        note: text(&value, "note").unwrap_or_default(),
    };
    all.into_iter().map(vector).collect()
}

fn everything() -> impl Iterator<Item = Vector> {
    ["go", "js", "py", "libp2p-kad"].into_iter().flat_map(vectors)
}

/// A frame without its length.
fn body(frame: &[u8]) -> &[u8] {
    let prefix = frame.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    &frame[prefix..]
}

const fn type_name(message: MessageType) -> &'static str {
    match message {
        MessageType::PutValue => "PUT_VALUE",
        MessageType::GetValue => "GET_VALUE",
        MessageType::AddProvider => "ADD_PROVIDER",
        MessageType::GetProviders => "GET_PROVIDERS",
        MessageType::FindNode => "FIND_NODE",
        MessageType::Ping => "PING",
    }
}

#[test]
fn every_request_of_real_peers_is_read_and_survives() {
    let mut count = 0;
    for vector in everything().filter(|vector| vector.is_request) {
        let place = format!("{}: {}", vector.kind, vector.name);
        let request = decode_request(body(&vector.frame.unwrap())).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(type_name(request.message_type()), vector.message_type, "{place}");
        let mut again = BytesMut::new();
        encode_request(&request, &mut again);
        assert_eq!(decode_request(body(&again)).unwrap(), request, "{place}");
        count += 1;
    }
    assert_eq!(count, 10 + 8 + 10 + 8, "of go, js, py and libp2p-kad");
}

#[test]
fn every_answer_of_real_peers_is_read_as_what_it_is() {
    let (mut read, mut silent) = (0, 0);
    for vector in everything().filter(|vector| !vector.is_request) {
        let place = format!("{}: {}", vector.kind, vector.name);
        let Some(frame) = &vector.frame else {
            // They ended the stream, or said nothing: what is not answered, not known, or refused.
            assert!(
                ["ADD_PROVIDER", "none", "PING", "PUT_VALUE"].contains(&vector.message_type.as_str()),
                "{place}"
            );
            silent += 1;
            continue;
        };
        match decode_response(body(frame)) {
            Ok(response) => {
                let mut again = BytesMut::new();
                encode_response(&response, &mut again);
                assert_eq!(decode_response(body(&again)).unwrap(), response, "{place}");
                if let Some(request) = &vector.request
                    && let Ok(request) = decode_request(body(request))
                {
                    assert!(response.answers(&request), "{place}: {response:?}");
                }
                read += 1;
            }
            // py answers an announcement, which nobody may take for the answer to something else.
            Err(DecodeError::UnknownType(2)) if vector.kind == "py" => {
                assert_eq!(vector.message_type, "ADD_PROVIDER", "{place}");
                silent += 1;
            }
            // libp2p-kad takes an empty message for the PUT_VALUE of an empty record.
            Err(error) => {
                assert_eq!(
                    (vector.kind, vector.message_type.as_str()),
                    ("libp2p-kad", "none"),
                    "{place}: {error}"
                );
                silent += 1;
            }
        }
    }
    assert!(read >= 45 && silent >= 10, "{read} read, {silent} are none");
}

/// A server that knows some peers, and what it says.
struct Server {
    dht: Dht<MemoryStore>,
    now: Now,
    asked: u64,
}

fn somebody(n: u8) -> (PeerId, Multiaddr) {
    let key = libp2p::identity::Keypair::ed25519_from_bytes([100 + n; 32]).unwrap();
    (key.public().to_peer_id(), format!("/ip4/127.0.0.1/tcp/{}", 4000 + u16::from(n)).parse().unwrap())
}

impl Server {
    fn start() -> Self {
        let now = Now::new(Instant::now(), SystemTime::now());
        let (peer, address) = somebody(0);
        let mut dht = Dht::new(peer, MemoryStore::new(peer), Config::default(), [7; 32], now);
        dht.set_mode(now, Some(Mode::Server));
        dht.handle_input(now, Input::LocalAddresses { external: vec![], listening: vec![address] });
        let mut this = Self { dht, now, asked: 0 };
        for n in 1..6 {
            this.meet(somebody(n));
        }
        assert_eq!(this.dht.table().len(), 5);
        this
    }

    /// Lets a server connect, which proves itself.
    fn meet(&mut self, (peer, address): (PeerId, Multiaddr)) {
        let (dht, now) = (&mut self.dht, self.now);
        dht.handle_input(now, Input::AddressesLearned { peer, addresses: vec![address.clone()] });
        dht.handle_input(
            now,
            Input::Connected {
                located: None,
                peer,
                connection: ConnectionId(0),
                address,
                dialled: true,
                dial: None,
            },
        );
        dht.handle_input(now, Input::ProtocolConfirmed { peer });
        while let Some(output) = dht.poll_output() {
            if let Output::SendRequest { id, to, request: Request::FindNode { .. }, .. } = output {
                let named = KadPeer {
                    node_id: to,
                    multiaddrs: Addresses::collect(&to, [somebody(9).1]),
                    connection_ty: ConnectionType::Connected,
                };
                let response = Response::FindNode { closer_peers: vec![named] };
                dht.handle_input(now, Input::ResponseReceived { id, response });
            }
        }
    }

    /// Returns the bytes of the answer; `Err` says whether the request was taken without one.
    fn answer(&mut self, from: PeerId, request: Request) -> Result<Vec<u8>, bool> {
        self.asked += 1;
        let id = InboundId(self.asked);
        self.dht.handle_input(
            self.now,
            Input::RequestReceived { from, connection: ConnectionId(0), id, request },
        );
        let mut answer = None;
        while let Some(output) = self.dht.poll_output() {
            match output {
                Output::SendResponse { id: of, response, .. } if of == id => {
                    let mut bytes = BytesMut::new();
                    encode_response(&response, &mut bytes);
                    answer = Some(Ok(body(&bytes).to_vec()));
                }
                Output::AcceptRequest { id: of, .. } if of == id => answer = Some(Err(true)),
                Output::RefuseRequest { id: of, .. } if of == id => answer = Some(Err(false)),
                _ => {}
            }
        }
        answer.expect("every request has an end")
    }
}

/// Who has sent a request, as the note says.
fn sender(vector: &Vector) -> PeerId {
    let words = || vector.note.split([' ', ';', ',']);
    let marks = ["is", "from"];
    let named = words()
        .zip(words().skip(1))
        .find_map(|(mark, id)| if marks.contains(&mark) { id.parse().ok() } else { None });
    named.unwrap_or_else(|| panic!("{}: who sent it? {}", vector.name, vector.note))
}

#[test]
fn every_request_of_real_peers_is_answered_as_they_expect() {
    for vector in everything().filter(|vector| vector.is_request) {
        let place = format!("{}: {}", vector.kind, vector.name);
        let from = sender(&vector);
        let mut server = Server::start();
        server.meet((from, somebody(8).1));
        let request = decode_request(body(vector.frame.as_ref().unwrap())).unwrap();
        let answer = server.answer(from, request.clone());
        match &request {
            Request::AddProvider { key, .. } => {
                assert_eq!(answer, Err(true), "{place}: nobody reads an answer to it");
                let known = server.dht.store().providers(SystemTime::now(), key).unwrap();
                assert_eq!(known.len(), 1, "{place}");
                assert_eq!(known[0].provider, from, "{place}");
                // And it is named with an address at which it can be dialled, which js and py insist on.
                let asked = server.answer(somebody(1).0, Request::GetProviders { key: key.clone() }).unwrap();
                let Response::GetProviders { provider_peers, .. } = decode_response(&asked).unwrap() else {
                    panic!("{place}")
                };
                assert!(!provider_peers[0].multiaddrs.is_empty(), "{place}");
                continue;
            }
            Request::PutValue { record } => {
                let answer = decode_response(&answer.unwrap()).unwrap();
                // go, js and py expect the key, and the very value.
                let expected =
                    Response::PutValue { key: record.key.clone(), value: Some(record.value.clone()) };
                assert_eq!(answer, expected, "{place}");
                continue;
            }
            _ => {}
        }
        let answer = answer.unwrap_or_else(|_| panic!("{place}: it is not answered"));
        let response = decode_response(&answer).unwrap();
        assert!(response.answers(&request), "{place}");
        let (closer, key) = match &response {
            Response::FindNode { closer_peers } => (closer_peers.as_slice(), None),
            Response::GetValue { closer_peers, key, .. }
            | Response::GetProviders { closer_peers, key, .. } => (closer_peers.as_slice(), Some(key)),
            Response::Pong => continue,
            other => panic!("{place}: {other:?}"),
        };
        // The key is repeated, but in the answer to FIND_NODE; js drops a whole answer over one peer it cannot read.
        assert!(key.is_none_or(Option::is_some), "{place}");
        assert_eq!(closer.len(), 5, "{place}: all but the asker");
        assert!(closer.iter().all(|peer| peer.node_id != from && !peer.multiaddrs.is_empty()), "{place}");
    }
}

#[test]
fn a_peer_that_is_asked_for_itself_names_itself_with_addresses() {
    // Or a go node never takes it into its table.
    let mut server = Server::start();
    let (own, _) = somebody(0);
    let answer = server.answer(somebody(1).0, Request::FindNode { key: own.to_bytes().into() }).unwrap();
    let Response::FindNode { closer_peers } = decode_response(&answer).unwrap() else { panic!() };
    assert_eq!(closer_peers[0].node_id, own);
    assert_eq!(closer_peers.iter().filter(|peer| peer.node_id == own).count(), 1, "once");
    assert!(!closer_peers[0].multiaddrs.is_empty());
    assert_eq!(Config::default().protocol_name(), PROTOCOL_NAME.as_ref());
}
