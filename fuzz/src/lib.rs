//! What the fuzz targets do with bytes. `cargo test` replays the corpora through the same functions (tests/corpus.rs).

mod handler;

pub use handler::handler;

use asynchronous_codec::Decoder;
use bytes::BytesMut;
use libp2p_core::Multiaddr;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kademlia::dht::{ConnectionId, Dht, DialFailure, DialId, InboundId, Input, Output, RequestId};
use libp2p_kademlia::message::{Request, Response, SentRecord};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::time::{Duration, Instant, Now, SystemTime};
use libp2p_kademlia::wire::{
    ClientCodec, DecodeError, ServerCodec, decode_request, decode_response, encode_request, encode_response,
};
use libp2p_kademlia::{
    Addresses, Config, ConnectionType, KadPeer, Key, Mode, Precision, QueryInfo, Quorum, Record, RecordKey,
    RequestError,
};

/// Reads the bytes as a request and as an answer. What can be read can be written, and reads the same again.
pub fn decode(data: &[u8]) {
    if let Ok(request) = decode_request(data) {
        let mut frame = BytesMut::new();
        encode_request(&request, &mut frame);
        let again = ServerCodec::new(usize::MAX).decode(&mut frame).expect("what was written can be read");
        assert_same(again.as_ref(), &request, fits(data));
    }
    if let Ok(response) = decode_response(data) {
        let mut frame = BytesMut::new();
        encode_response(&response, &mut frame);
        let again = ClientCodec::new(usize::MAX).decode(&mut frame).expect("what was written can be read");
        assert_same(again.as_ref(), &response, fits(data));
    }
}

/// Whether peers need not be left out to stay below the size that everybody reads.
fn fits(data: &[u8]) -> bool {
    data.len() < 8 * 1024
}

fn assert_same<T: PartialEq + std::fmt::Debug>(again: Option<&T>, first: &T, whole: bool) {
    assert!(again.is_some());
    if whole {
        assert_eq!(again, Some(first));
    }
}

/// Feeds the bytes to both codecs in pieces, whose sizes the first bytes give.
pub fn framing(data: &[u8]) {
    let Some((sizes, stream)) = data.split_at_checked(4) else { return };
    pieces(ServerCodec::new(4096), sizes, stream);
    pieces(ClientCodec::new(4096), sizes, stream);
}

fn pieces<C: Decoder<Error = DecodeError>>(mut codec: C, sizes: &[u8], stream: &[u8]) {
    let (mut whole, mut buffer) = (BytesMut::from(stream), BytesMut::new());
    let (mut at_once, mut in_pieces) = (0, 0);
    let mut failed = false;
    while let Ok(Some(_)) = codec.decode(&mut whole).inspect_err(|_| failed = true) {
        at_once += 1;
    }
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    let mut failed_in_pieces = false;
    while !rest.is_empty() && !failed_in_pieces {
        let size = usize::from(*sizes.next().unwrap_or(&1)) + 1;
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        buffer.extend_from_slice(piece);
        while let Ok(Some(_)) = codec.decode(&mut buffer).inspect_err(|_| failed_in_pieces = true) {
            in_pieces += 1;
        }
    }
    assert_eq!((at_once, failed), (in_pieces, failed_in_pieces), "it matters how the bytes arrive");
}

const PEERS: u8 = 24;

fn peer(n: u8) -> PeerId {
    let digest = *Key::sha256(&[n % PEERS]).as_bytes();
    PeerId::from_multihash(Multihash::wrap(0, &digest).expect("32 bytes fit")).expect("a short identity")
}

fn address(n: u8) -> Multiaddr {
    let n = n % PEERS;
    let text = if n.is_multiple_of(3) {
        format!("/ip4/1.2.3.{n}/tcp/1")
    } else {
        format!("/ip4/127.0.0.1/tcp/{}", n + 1)
    };
    text.parse().expect("an address")
}

/// Tells a node whatever may happen, in any order, and checks that it stays within its bounds.
pub fn dht(data: &[u8]) {
    let mut world = World::new();
    for step in data.chunks_exact(3).take(2000) {
        world.step(step[0], step[1], step[2]);
        world.check();
    }
    // Whatever was begun ends by time alone, but for what is to last; the node itself may begin something meanwhile.
    let ends = |query: &libp2p_kademlia::dht::QueryRef| {
        !matches!(query.info(), QueryInfo::GetProviders { is_watch: true, .. })
    };
    let begun: Vec<_> = world.dht.queries().filter(ends).map(|query| query.id()).collect();
    for _ in 0..70 {
        world.pass(Duration::from_secs(1));
        world.check();
    }
    let outlived = world.dht.queries().find(|query| begun.contains(&query.id()));
    assert!(outlived.is_none(), "it has outlived its time: {outlived:?}");
}

struct World {
    dht: Dht<MemoryStore>,
    now: Now,
    requests: Vec<(RequestId, Request)>,
    dials: Vec<DialId>,
    next_inbound: u64,
    connected: Vec<u8>,
}

impl World {
    fn new() -> Self {
        // The one reading of the clock that all instants are counted from; no result depends on it.
        let now = Now::new(Instant::now(), SystemTime::UNIX_EPOCH);
        let config = Config::default().with_query_timeout(Duration::from_secs(60)).unwrap();
        let store = MemoryStore::new(peer(0));
        let mut dht = Dht::new(peer(0), store, config, [7; 32], now);
        dht.set_mode(now, Some(Mode::Server));
        Self { dht, now, requests: Vec::new(), dials: Vec::new(), next_inbound: 0, connected: Vec::new() }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.dht.handle_timeout(self.now);
        let deadline = self.dht.poll_timeout();
        assert!(deadline.is_none_or(|deadline| deadline.at > self.now.instant), "overdue: {deadline:?}");
    }

    fn check(&mut self) {
        while let Some(output) = self.dht.poll_output() {
            match output {
                Output::Dial { id, .. } => self.dials.push(id),
                Output::SendRequest { id, request, .. } => self.requests.push((id, request)),
                _ => {}
            }
        }
        let table = self.dht.table();
        assert!(table.len() < usize::from(PEERS));
        assert!(table.entries().all(|entry| entry.key() != table.local()));
        assert!(self.dht.num_known_peers() <= usize::from(PEERS) + 1024 + 256);
    }

    fn input(&mut self, input: Input) {
        self.dht.handle_input(self.now, input);
    }

    fn step(&mut self, op: u8, n: u8, arg: u8) {
        let id = peer(n);
        match op % 20 {
            0 => self.connect(n, arg),
            1 => self.disconnect(n),
            2 => self.fail_dial(n, arg),
            3 => self.input(Input::AddressesLearned { peer: id, addresses: vec![address(n), address(arg)] }),
            4 => self.input(Input::ProtocolConfirmed { peer: id }),
            5 if arg.is_multiple_of(2) => self.input(Input::ProtocolDoubted { peer: id }),
            5 => self.input(Input::ProtocolUnsupported { peer: id }),
            6 | 7 => self.ask(id, arg),
            8..=10 => self.answer(n, arg),
            11 => self.fail_request(n, arg),
            12 => self.pass(Duration::from_millis(u64::from(n) * u64::from(arg))),
            13 => drop(self.dht.add_address(self.now, id, address(arg))),
            14 => drop(self.dht.find_closest(self.now, vec![n, arg])),
            15 => drop(self.dht.find_peer(self.now, id)),
            16 => self.command(n, arg),
            17 => drop(self.dht.remove_peer(self.now, &id)),
            18 => self
                .dht
                .set_mode(self.now, [None, Some(Mode::Client), Some(Mode::Server)][usize::from(arg % 3)]),
            _ => {
                let (external, listening) = (vec![address(n)], vec![address(arg)]);
                self.input(Input::LocalAddresses { external, listening });
            }
        }
    }

    fn connect(&mut self, n: u8, arg: u8) {
        let dial = self.take_dial(arg);
        self.connected.push(n % PEERS);
        self.input(Input::Connected {
            peer: peer(n),
            connection: ConnectionId(u64::from(n % (3 * PEERS))),
            address: address(n),
            dialled: arg.is_multiple_of(2),
            dial,
        });
    }

    fn disconnect(&mut self, n: u8) {
        self.connected.retain(|known| *known != n % PEERS);
        self.input(Input::Disconnected {
            peer: peer(n),
            connection: ConnectionId(u64::from(n % (3 * PEERS))),
        });
    }

    fn take_dial(&mut self, arg: u8) -> Option<DialId> {
        (!self.dials.is_empty() && !arg.is_multiple_of(4))
            .then(|| self.dials.swap_remove(usize::from(arg) % self.dials.len()))
    }

    fn fail_dial(&mut self, n: u8, arg: u8) {
        let dial = self.take_dial(arg);
        let error = match arg % 6 {
            0 => DialFailure::Unreachable { unsupported: vec![address(n)] },
            1 => DialFailure::WrongPeer { address: address(n) },
            2 => DialFailure::Own { address: address(n) },
            3 => DialFailure::Refused,
            4 => DialFailure::UnderWay,
            5 => DialFailure::Denied,
            _ => DialFailure::NoAddresses,
        };
        self.input(Input::DialFailed { dial, peer: Some(peer(n)), error });
    }

    fn ask(&mut self, from: PeerId, arg: u8) {
        self.next_inbound += 1;
        let key = RecordKey::new(&[arg]);
        let request = match arg % 7 {
            0 => Request::Ping,
            1 => Request::FindNode { key: peer(arg).to_bytes().into() },
            2 => Request::FindNode { key: vec![arg].into() },
            3 => Request::GetValue { key },
            4 => Request::GetProviders { key },
            5 => Request::AddProvider { key, providers: vec![named(arg)] },
            _ => {
                let value = vec![arg].into();
                Request::PutValue { record: SentRecord { key, value, publisher: None, ttl: None } }
            }
        };
        self.input(Input::RequestReceived {
            from,
            connection: ConnectionId(u64::from(arg)),
            id: InboundId(self.next_inbound),
            request,
        });
    }

    fn answer(&mut self, n: u8, arg: u8) {
        if self.requests.is_empty() {
            return;
        }
        let (id, request) = self.requests.swap_remove(usize::from(n) % self.requests.len());
        let closer_peers = (0..arg % 30).map(|step| named(n.wrapping_add(step))).collect();
        let response = match request {
            Request::Ping if !arg.is_multiple_of(5) => Response::Pong,
            Request::GetProviders { key } => {
                let provider_peers = (0..arg % 3).map(named).collect();
                Response::GetProviders { key: Some(key), provider_peers, closer_peers }
            }
            Request::GetValue { key } => Response::GetValue { key: Some(key), record: None, closer_peers },
            _ => Response::FindNode { closer_peers },
        };
        self.input(Input::ResponseReceived { id, response });
    }

    fn sent(&mut self, n: u8) {
        if !self.requests.is_empty() {
            let (id, _) = self.requests.swap_remove(usize::from(n) % self.requests.len());
            self.input(Input::RequestSent { id });
        }
    }

    fn fail_request(&mut self, n: u8, arg: u8) {
        const ERRORS: [RequestError; 5] = [
            RequestError::Timeout,
            RequestError::Disconnected,
            RequestError::StreamEnded,
            RequestError::Unsupported,
            RequestError::BadAnswer,
        ];
        let id = match self.requests.is_empty() {
            true => RequestId::new(u64::from(n)),
            false => self.requests.swap_remove(usize::from(n) % self.requests.len()).0,
        };
        self.input(Input::RequestFailed { id, error: ERRORS[usize::from(arg % 5)] });
    }

    fn command(&mut self, n: u8, arg: u8) {
        let key = RecordKey::new(&[n]);
        match arg % 13 {
            0 => drop(self.dht.ping(self.now, peer(n))),
            1 => drop(self.dht.connect(self.now, address(n))),
            2 => drop(self.dht.bootstrap(self.now)),
            3 => {
                let k = self.dht.config().bucket_size();
                self.dht.find_n_closest(self.now, vec![n], k, Precision::Near);
            }
            4 => {
                let running: Vec<_> = self.dht.queries().map(|query| query.id()).collect();
                if let Some(id) = running.get(usize::from(n) % running.len().max(1)) {
                    self.dht.cancel(self.now, *id);
                }
            }
            6 => drop(self.dht.start_providing(self.now, key)),
            7 => drop(self.dht.stop_providing(self.now, &key)),
            8 => drop(self.dht.get_providers(self.now, key)),
            9 => drop(self.dht.watch_providers(self.now, key)),
            10 => drop(self.dht.put_record(self.now, Record::new(key, "value"), Quorum::One)),
            11 => drop(self.dht.get_record(self.now, key, None)),
            12 => self.sent(n),
            5 | 13.. => {
                let running: Vec<_> = self.dht.queries().map(|query| query.id()).collect();
                if let Some(id) = running.first() {
                    self.dht.finish(self.now, *id);
                }
            }
        }
    }
}

fn named(n: u8) -> KadPeer {
    let addresses = if n.is_multiple_of(5) { vec![] } else { vec![address(n)] };
    KadPeer {
        node_id: peer(n),
        multiaddrs: Addresses::collect(&peer(n), addresses),
        connection_ty: ConnectionType::NotConnected,
    }
}
