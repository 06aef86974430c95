//! A node, told whatever may happen outside in any order, by two clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use libp2p_core::Multiaddr;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use libp2p_kademlia::dht::{
    ConnectionId, Dht, DialFailure, DialId, InboundId, Input, Output, RequestId, Unreached,
};
use libp2p_kademlia::message::{Request, Response, SentRecord};
use libp2p_kademlia::time::{Duration, Instant, Now, SystemTime};
use libp2p_kademlia::{
    Addresses, Config, ConnectionType, Event, HeldId, InboundRequest, Joining, KadPeer, KeepAlive, Key, Mode,
    Precision, QueryId, QueryInfo, Quorum, Record, RecordKey, RequestError, StoreInserts,
};

use super::slow::Slow;

const PEERS: u8 = 24;
const LINKS: usize = 40;
const STALE: usize = 8;
const SECOND: Duration = Duration::from_secs(1);
/// So many steps are taken at most.
const STEPS: usize = 200;
/// Each query has ended after this time, and is over then.
const ENDS: Duration = Duration::from_secs(61);
/// So many deadlines are kept exactly when nothing more happens; then whoever drives the node is late by so much.
const EXACT: usize = 12;
const LATE: Duration = Duration::from_secs(4);

/// What a clock may be set by, or a machine sleep: from what is hardly noticed to what is never right.
const JUMPS: [u64; 8] = [1, 10, 120, 3_600, 28_800, 90_000, 3_000_000, 40 * 365 * 86_400];

/// The one reading of the clock that all instants are counted from; no result depends on it.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static KNOWN: LazyLock<Vec<KadPeer>> = LazyLock::new(|| (0..PEERS).map(make).collect());

fn nz<T: TryFrom<u8, Error: std::fmt::Debug>>(n: u8) -> T {
    T::try_from(n).expect("not zero")
}

/// The usual settings; others that are unusual; narrow bounds and short times.
static CONFIGS: LazyLock<[Config; 3]> = LazyLock::new(|| {
    let usual = Config::default().with_key_hash(mixed);
    let unusual = usual
        .clone()
        .with_bucket_size(nz(3))
        .with_replacement_cache(2)
        .with_low_peers(3)
        .with_disjoint_paths(nz(2))
        .with_ip_diversity(libp2p_kademlia::IpDiversity::Off)
        .with_keep_alive(KeepAlive::Table)
        .with_record_filtering(StoreInserts::FilterBoth);
    let narrow = |config: Config| {
        config
            .with_grace_period(10 * SECOND)?
            .with_refresh_interval(Some(10 * SECOND))?
            .with_query_timeout(20 * SECOND)?
            .with_record_ttl(Some(90 * SECOND))?
            .with_publication_interval(Some(70 * SECOND))?
            .with_replication_interval(Some(60 * SECOND))
    };
    let narrow = narrow(usual.clone()).expect("not too short");
    let narrow = narrow
        .with_bucket_size(nz(2))
        .with_low_peers(1)
        .with_max_queries(nz::<std::num::NonZeroU8>(6).into())
        .with_max_dials(nz::<std::num::NonZeroU8>(2).into())
        .with_max_known_peers(nz::<std::num::NonZeroU8>(12).into())
        .with_max_seeds(nz::<std::num::NonZeroU8>(3).into())
        .with_joining(Joining::OnRequest);
    [usual, unusual, narrow]
});

/// Spreads bytes over the keyspace, more cheaply than a hash that nobody can invert.
fn mixed(bytes: &[u8]) -> Key {
    let stir = |mut word: u64| {
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let mut word = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut eight = [0; 8];
        eight.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        word = stir(word ^ u64::from_le_bytes(eight)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    let mut key = [0; 32];
    for (part, n) in key.chunks_exact_mut(8).zip(1..) {
        part.copy_from_slice(&stir(word.wrapping_mul(n)).to_be_bytes());
    }
    Key::from_bytes(key)
}

fn make(n: u8) -> KadPeer {
    let digest = *Key::sha256(&[n]).as_bytes();
    let node_id =
        PeerId::from_multihash(Multihash::wrap(0, &digest).expect("32 bytes fit")).expect("a short identity");
    let text = match n % 3 {
        0 => format!("/ip4/1.2.3.{n}/tcp/1"),
        1 => format!("/ip4/127.0.0.1/tcp/{}", n + 1),
        _ => format!("/ip4/5.{n}.3.1/tcp/1"),
    };
    let address: Multiaddr = text.parse().expect("an address");
    KadPeer {
        node_id,
        multiaddrs: Addresses::collect(&node_id, [address]),
        connection_ty: ConnectionType::NotConnected,
    }
}

fn known(n: u8) -> &'static KadPeer {
    &KNOWN[usize::from(n % PEERS)]
}

fn peer(n: u8) -> PeerId {
    known(n).node_id
}

fn address(n: u8) -> Multiaddr {
    known(n).multiaddrs.first().expect("it has one").clone()
}

/// A peer as others name it: one in five without an address.
fn named(n: u8) -> KadPeer {
    let mut peer = known(n).clone();
    if n.is_multiple_of(5) {
        peer.multiaddrs = Addresses::empty();
    }
    peer
}

fn record(n: u8, value: u8, ttl: Option<u8>) -> SentRecord {
    let ttl = ttl.map(|ttl| SECOND * ttl.into());
    SentRecord { key: RecordKey::new(&[n]), value: vec![value].into(), publisher: None, ttl }
}

/// Tells a node whatever may happen, in any order, and checks that it stays within its bounds, that what it wants done can
/// be done, and that time moves on.
///
/// Each step is three bytes; those that are left over choose the settings.
pub fn dht(data: &[u8]) {
    let mut world = World::new(&CONFIGS[data.len() % 3]);
    for (n, step) in data.chunks_exact(3).take(STEPS).enumerate() {
        world.step(step[0], step[1], step[2]);
        world.drain();
        if n % 16 == 15 {
            world.check();
        }
    }
    world.end();
}

/// A request of the node that is out.
struct Asked {
    id: RequestId,
    to: PeerId,
    on: ConnectionId,
    request: Request,
}

struct Dialled {
    id: DialId,
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
}

struct World {
    dht: Dht<Slow>,
    now: Now,
    asked: Vec<Asked>,
    /// Requests that were called back, of which the node may still hear.
    stale: Vec<RequestId>,
    dials: Vec<Dialled>,
    links: Vec<(PeerId, ConnectionId)>,
    /// Connections that the node has closed, and whose end was not told.
    closed: Vec<(PeerId, ConnectionId)>,
    next_link: u64,
    /// What others have asked, and was not answered.
    to_answer: BTreeMap<InboundId, (PeerId, bool)>,
    next_inbound: u64,
    held: Vec<HeldId>,
    ended: BTreeSet<QueryId>,
}

impl World {
    fn new(config: &Config) -> Self {
        let now = Now::new(*START, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let mut dht = Dht::new(peer(0), Slow::new(peer(0)), config.clone(), [7; 32], now);
        dht.set_mode(now, Some(Mode::Server));
        let mut world = Self {
            dht,
            now,
            asked: Vec::new(),
            stale: Vec::new(),
            dials: Vec::new(),
            links: Vec::new(),
            closed: Vec::new(),
            next_link: 0,
            to_answer: BTreeMap::new(),
            next_inbound: 0,
            held: Vec::new(),
            ended: BTreeSet::new(),
        };
        world.drain();
        world
    }

    /// Whatever was begun ends by time alone, but for what is to last; the node itself may begin something meanwhile.
    fn end(mut self) {
        let ends = |query: &libp2p_kademlia::QueryRef| {
            !matches!(query.info(), QueryInfo::GetProviders { is_watch: true, .. })
        };
        let begun: Vec<_> = self.dht.queries().filter(ends).map(|query| query.id()).collect();
        let out: Vec<_> = self.asked.iter().map(|asked| asked.id).collect();
        let until = self.now + if begun.is_empty() { SECOND * 10 } else { ENDS };
        for step in 0.. {
            let late = if step < EXACT { Duration::ZERO } else { LATE };
            let Some(next) = self.dht.poll_timeout().map(|deadline| deadline.at) else { break };
            let next = next.max(self.now.instant + late);
            if next > until.instant {
                break;
            }
            self.pass(next.saturating_duration_since(self.now.instant));
            self.drain();
        }
        self.pass(until.instant.saturating_duration_since(self.now.instant));
        self.drain();
        self.check();
        let outlived = begun.iter().find(|query| !self.ended.contains(query));
        assert!(outlived.is_none(), "it has outlived its time: {outlived:?}");
        assert!(self.dht.queries().all(|query| !begun.contains(&query.id())));
        // The longest that a request may take has passed.
        assert!(self.asked.iter().all(|asked| !out.contains(&asked.id)), "a request without an end");
    }

    /// Lets time pass at once: whoever drives the node is late.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.dht.handle_timeout(self.now);
        let deadline = self.dht.poll_timeout();
        assert!(deadline.is_none_or(|deadline| deadline.at > self.now.instant), "overdue: {deadline:?}");
    }

    /// Lets time pass, from deadline to deadline.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while let Some(deadline) = self.dht.poll_timeout().filter(|deadline| deadline.at <= until.instant) {
            self.pass(deadline.at.saturating_duration_since(self.now.instant));
            self.drain();
            steps += 1;
            assert!(steps < 20_000, "too many deadlines: {deadline:?}");
        }
        self.pass(until.instant.saturating_duration_since(self.now.instant));
        self.drain();
    }

    /// Does what the node wants done, and checks that it can be done.
    fn drain(&mut self) {
        while let Some(output) = self.dht.poll_output() {
            match output {
                Output::Dial { id, peer, addresses, .. } => self.dials.push(Dialled { id, peer, addresses }),
                Output::SendRequest { to, connection: on, id, request } => {
                    assert!(self.links.contains(&(to, on)), "{on:?} is not there");
                    assert!(self.asked.iter().all(|asked| asked.id != id), "{id:?} is out already");
                    assert!(!self.stale.contains(&id), "{id:?} was called back");
                    self.asked.push(Asked { id, to, on, request });
                }
                Output::CancelRequest { to, connection: on, id } => {
                    let at =
                        self.asked.iter().position(|asked| (asked.id, asked.to, asked.on) == (id, to, on));
                    self.asked.swap_remove(at.expect("it is out"));
                    self.call_back(id);
                }
                Output::CloseConnection { peer, connection } => {
                    let at = self.links.iter().position(|link| *link == (peer, connection));
                    let link = self.links.remove(at.expect("it is there"));
                    self.down(link.1).into_iter().for_each(|id| self.call_back(id));
                    self.closed.push(link);
                }
                Output::KeepAlive { peer, connection, .. } => {
                    assert!(self.links.contains(&(peer, connection)), "{connection:?} is not there");
                }
                Output::SendResponse { to, id, .. } => {
                    assert_eq!(self.to_answer.remove(&id), Some((to, true)), "an answer to {id:?}");
                }
                Output::AcceptRequest { to, id } => {
                    assert_eq!(self.to_answer.remove(&id), Some((to, false)), "{id:?} is answered");
                }
                Output::RefuseRequest { to, id } => {
                    let asked = self.to_answer.remove(&id);
                    assert!(asked.is_some_and(|(from, _)| from == to), "a refusal of {id:?}");
                }
                Output::AnnounceAddresses { addresses, .. } => assert!(!addresses.is_empty()),
                Output::Event(event) => self.told(event),
                _ => {}
            }
        }
        if self.dials.len() > 64 {
            self.dials.drain(..32);
        }
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::OutboundQueryProgressed { id, step, .. } => {
                let is_first = if step.last { self.ended.insert(id) } else { !self.ended.contains(&id) };
                assert!(is_first, "{id:?} has ended already");
            }
            Event::InboundRequest { request: InboundRequest::PutRecord { record: Some((id, _)), .. } }
            | Event::InboundRequest { request: InboundRequest::AddProvider { record: Some((id, _)), .. } } => {
                self.held.push(id);
            }
            _ => {}
        }
    }

    fn check(&self) {
        let table = self.dht.table();
        assert!(table.len() < usize::from(PEERS));
        assert!(table.entries().all(|entry| entry.key() != table.local()));
        assert!(self.dht.num_known_peers() <= usize::from(PEERS));
        assert!(self.dht.num_dials() <= 64);
        assert!(self.asked.len() <= self.dht.num_requests(), "more is out than the node knows of");
        for n in 0..PEERS {
            let is_linked = self.links.iter().any(|(linked, _)| *linked == peer(n));
            assert_eq!(self.dht.is_connected(&peer(n)), is_linked, "peer {n}");
        }
    }

    fn input(&mut self, input: Input) {
        self.dht.handle_input(self.now, input);
    }

    /// Nothing more is to be heard of a request, though it may have been answered already.
    fn call_back(&mut self, id: RequestId) {
        self.stale.push(id);
        if self.stale.len() > STALE {
            self.stale.remove(0);
        }
    }

    /// A connection is down, with all that was on it.
    fn down(&mut self, connection: ConnectionId) -> Vec<RequestId> {
        self.asked.extract_if(.., |asked| asked.on == connection).map(|asked| asked.id).collect()
    }

    /// Picks a request that is out.
    fn pick(&self, n: u8) -> Option<usize> {
        (!self.asked.is_empty()).then(|| usize::from(n) % self.asked.len())
    }

    fn step(&mut self, op: u8, n: u8, arg: u8) {
        let id = peer(n);
        match op % 28 {
            0 | 20 => self.connect(n, arg),
            1 => self.disconnect(n, arg),
            2 => self.fail_dial(n, arg),
            3 => self.input(Input::AddressesLearned { peer: id, addresses: vec![address(n), address(arg)] }),
            4 => self.input(Input::ProtocolConfirmed { peer: id }),
            5 if arg.is_multiple_of(2) => self.input(Input::ProtocolDoubted { peer: id }),
            5 => self.input(Input::ProtocolUnsupported { peer: id }),
            6 | 7 => self.ask(n, arg),
            8..=10 => self.answer(n, arg),
            11 => self.fail_request(n, arg),
            12 => self.pass(Duration::from_millis(u64::from(n) * u64::from(arg))),
            13 => drop(self.dht.add_address(self.now, id, address(arg))),
            14 => drop(self.dht.find_closest(self.now, vec![n, arg])),
            15 => drop(self.dht.find_peer(self.now, id)),
            16 => self.command(n, arg),
            17 => drop(self.dht.remove_peer(self.now, id)),
            18 => {
                let modes = [None, Some(Mode::Client), Some(Mode::Server)];
                self.dht.set_mode(self.now, modes[usize::from(arg % 3)]);
            }
            19 => {
                let (external, listening) = (vec![address(n)], vec![address(arg)]);
                self.input(Input::LocalAddresses { external, listening });
            }
            21 => self.run(Duration::from_millis(u64::from(n) * u64::from(arg))),
            22 => self.jump(n, arg),
            23 => self.advance_store(arg),
            24 => self.decide(n, arg),
            25 => self.sent(n, arg),
            // Time passes that the node hears of with the next input only.
            26 => self.now += Duration::from_millis(u64::from(n) * u64::from(arg) / 8),
            _ => self.deny(n),
        }
    }

    fn connect(&mut self, n: u8, arg: u8) {
        let again = self.links.iter().position(|(linked, _)| *linked == peer(n));
        if let Some(at) = again.filter(|_| arg % 32 == 28) {
            // The address of a connection changes.
            let (peer, connection) = self.links[at];
            let input = Input::Connected {
                located: None,
                peer,
                connection,
                address: address(arg),
                dialled: false,
                dial: None,
            };
            return self.input(input);
        }
        if self.links.len() >= LINKS || peer(n) == peer(0) {
            return;
        }
        let dial = self.take_dial(arg);
        let (mut whom, mut at) = (peer(n), address(n));
        if let Some(dial) = &dial {
            whom = dial.peer.unwrap_or(whom);
            at = dial.addresses.first().cloned().unwrap_or(at);
        }
        let connection = ConnectionId(self.next_link);
        self.next_link += 1;
        self.links.push((whom, connection));
        self.input(Input::Connected {
            located: None,
            peer: whom,
            connection,
            address: at,
            dialled: dial.is_some() || arg.is_multiple_of(2),
            dial: dial.map(|dial| dial.id),
        });
    }

    fn disconnect(&mut self, n: u8, arg: u8) {
        if arg >= 240 {
            // It was the node that has closed it; or it was never there.
            let told = self.closed.pop().unwrap_or((peer(n), ConnectionId(u64::MAX)));
            return self.input(Input::Disconnected { peer: told.0, connection: told.1 });
        }
        let of_peer = self.links.iter().enumerate().filter(|(_, (linked, _))| *linked == peer(n));
        let of_peer: Vec<_> = of_peer.map(|(at, _)| at).collect();
        let Some(at) = of_peer.get(usize::from(arg) % of_peer.len().max(1)) else {
            return;
        };
        let (peer, connection) = self.links.remove(*at);
        self.down(connection);
        self.input(Input::Disconnected { peer, connection });
    }

    fn take_dial(&mut self, arg: u8) -> Option<Dialled> {
        (!self.dials.is_empty() && !arg.is_multiple_of(4))
            .then(|| self.dials.swap_remove(usize::from(arg) % self.dials.len()))
    }

    fn fail_dial(&mut self, n: u8, arg: u8) {
        let dial = self.take_dial(arg);
        let error = match arg % 7 {
            0 => DialFailure::Unreachable { unsupported: vec![address(n)], why: Unreached::Silent },
            1 => DialFailure::WrongPeer { address: address(n), met: peer(n) },
            2 => DialFailure::Own { address: address(n) },
            3 => DialFailure::Refused,
            4 => DialFailure::UnderWay,
            5 => DialFailure::Denied,
            _ => DialFailure::NoAddresses,
        };
        let whom = dial.as_ref().map_or(Some(peer(n)), |dial| dial.peer);
        self.input(Input::DialFailed { dial: dial.map(|dial| dial.id), peer: whom, error });
    }

    /// The program lets none of some dials through.
    fn deny(&mut self, n: u8) {
        for _ in 0..=n % 4 {
            let Some(Dialled { id, peer, .. }) = self.dials.pop() else {
                return;
            };
            self.input(Input::DialFailed { dial: Some(id), peer, error: DialFailure::Denied });
            self.drain();
        }
    }

    fn ask(&mut self, n: u8, arg: u8) {
        if self.links.is_empty() {
            return;
        }
        let (from, connection) = self.links[usize::from(n) % self.links.len()];
        let id = InboundId(self.next_inbound);
        self.next_inbound += 1;
        let key = RecordKey::new(&[arg]);
        let request = match arg % 7 {
            0 => Request::Ping,
            1 => Request::FindNode { key: peer(arg).to_bytes().into() },
            2 => Request::FindNode { key: vec![arg].into() },
            3 => Request::GetValue { key },
            4 => Request::GetProviders { key },
            5 => Request::AddProvider { key, providers: vec![KadPeer { node_id: from, ..named(arg) }] },
            _ => Request::PutValue { record: record(arg, n, n.is_multiple_of(2).then_some(n)) },
        };
        self.to_answer.insert(id, (from, request.is_answered()));
        self.input(Input::RequestReceived { from, connection, id, request });
    }

    fn answer(&mut self, n: u8, arg: u8) {
        let Some(at) = self.pick(n) else {
            return self.late(n);
        };
        let Asked { id, request, .. } = self.asked.swap_remove(at);
        let closer_peers = (0..arg % 14).map(|step| named(n.wrapping_add(step))).collect();
        let response = match request {
            Request::Ping if !arg.is_multiple_of(5) => Response::Pong,
            Request::GetProviders { key } => {
                let provider_peers = (0..arg % 3).map(named).collect();
                Response::GetProviders { key: Some(key), provider_peers, closer_peers }
            }
            Request::GetValue { key } => {
                let found = (arg % 4 == 3).then(|| record(0, n, n.is_multiple_of(3).then_some(arg)));
                let found = found.map(|found| SentRecord { key: key.clone(), ..found });
                Response::GetValue { key: Some(key), record: found, closer_peers }
            }
            Request::PutValue { record } if !arg.is_multiple_of(5) => {
                Response::PutValue { key: record.key, value: (arg % 2 == 1).then_some(record.value) }
            }
            _ => Response::FindNode { closer_peers },
        };
        self.input(Input::ResponseReceived { id, response });
    }

    /// Something is heard of what was called back.
    fn late(&mut self, n: u8) {
        if let Some(id) = self.stale.get(usize::from(n) % self.stale.len().max(1)).copied() {
            self.input(match n % 3 {
                0 => Input::ResponseReceived { id, response: Response::Pong },
                1 => Input::RequestFailed { id, error: RequestError::Timeout },
                _ => Input::RequestSent { id },
            });
        }
    }

    fn sent(&mut self, n: u8, arg: u8) {
        if arg >= 250 {
            return self.late(n);
        }
        let unanswered = self.asked.iter().position(|asked| !asked.request.is_answered());
        if let Some(at) = unanswered {
            let id = self.asked.swap_remove(at).id;
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
        if let Some(at) = self.pick(n) {
            let id = self.asked.swap_remove(at).id;
            self.input(Input::RequestFailed { id, error: ERRORS[usize::from(arg % 5)] });
        }
    }

    /// Only one of both clocks moves: the other was set, or stood still while the machine slept.
    fn jump(&mut self, n: u8, arg: u8) {
        let by = Duration::from_secs(JUMPS[usize::from(n % 8)]);
        let wall = self.now.wall;
        match arg % 4 {
            0 | 1 => self.now.wall = wall.checked_add(by).unwrap_or(wall),
            2 => self.now.wall = wall.checked_sub(by).unwrap_or(wall),
            _ => self.now.instant += by.min(Duration::from_secs(86_400)),
        }
        if arg >= 128 {
            self.pass(Duration::ZERO);
        }
    }

    fn advance_store(&mut self, arg: u8) {
        if let Some(progress) = self.dht.store_mut().advance(!arg.is_multiple_of(4)) {
            self.input(Input::StoreAdvanced { progress });
        }
    }

    /// The application says whether something is to be stored.
    fn decide(&mut self, n: u8, arg: u8) {
        if !self.held.is_empty() {
            let id = self.held.swap_remove(usize::from(n) % self.held.len());
            match arg % 3 {
                0 => self.dht.refuse_record(id),
                _ => self.dht.accept_record(self.now, id).is_ok(),
            };
        }
    }

    /// Picks a query of the application.
    fn running(&self, n: u8) -> Option<QueryId> {
        let running: Vec<_> = self.dht.queries().map(|query| query.id()).collect();
        running.get(usize::from(n) % running.len().max(1)).copied()
    }

    fn command(&mut self, n: u8, arg: u8) {
        let key = RecordKey::new(&[n]);
        let to = || (0..n % 4).map(|step| peer(n.wrapping_add(step)));
        match arg % 20 {
            0 => drop(self.dht.ping(self.now, peer(n))),
            1 => drop(self.dht.connect(self.now, address(n))),
            2 => drop(self.dht.bootstrap(self.now)),
            3 => {
                let k = self.dht.config().bucket_size();
                self.dht.find_n_closest(self.now, vec![n], k, Precision::Near);
            }
            4 => drop(self.running(n).map(|id| self.dht.cancel(self.now, id))),
            5 => drop(self.running(n).map(|id| self.dht.finish(self.now, id))),
            6 => drop(self.dht.start_providing(self.now, key)),
            7 => drop(self.dht.stop_providing(self.now, &key)),
            8 => drop(self.dht.get_providers(self.now, key)),
            9 => drop(self.dht.watch_providers(self.now, key)),
            10 => drop(self.dht.put_record(self.now, Record::new(key, "value"), Quorum::One)),
            11 => drop(self.dht.get_record(self.now, key, None)),
            12 => drop(self.dht.get_record(self.now, key, Some(Quorum::Majority))),
            13 => drop(self.dht.put_record_to(self.now, Record::new(key, "value"), to(), Quorum::All)),
            14 => drop(self.dht.remove_record(self.now, &key)),
            15 => drop(self.dht.find_node_at(self.now, peer(n), vec![n])),
            16 => drop(self.dht.get_record_at(self.now, peer(n), key)),
            17 => drop(self.dht.remove_address(self.now, peer(n), &address(n))),
            18 => {
                let ends = self.now.wall + Duration::from_secs(u64::from(n) * 8);
                let record = Record { expires: Some(ends), ..Record::new(key, "ends") };
                drop(self.dht.put_record(self.now, record, Quorum::All));
            }
            _ => drop(self.dht.find_closest(self.now, peer(n).to_bytes())),
        }
    }
}
