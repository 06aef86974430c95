//! Rows of servers: what a request costs, asked by a bare client.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, identity};
use libp2p_kademlia::message::{Request, Response, SentRecord};
use libp2p_kademlia::wire::encode_request;
use libp2p_kademlia::{Addresses, ConnectionType, KadPeer, Key};

use super::carrier::Carrier;
use super::driver::{Driver, Load};
use super::floor::Floor;
use super::measured::{Measured, Used, runtime};
use super::nodes::{self, PROVIDERS};
use super::table::{Figure, Line, Table};
use super::{Failure, Options};

/// How many keys are written to, in turn: all but the first so many writes are of what is there already.
const KEYS: u32 = 512;
/// How many bytes a value has.
pub(crate) const VALUE: usize = 1024;
/// How many bits a near key has in common with the server's.
const NEAR: u32 = 16;
/// A row that takes so long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    FindNodeFar,
    FindNodeNear,
    GetProviders,
    PutValue,
    AddProvider,
}

impl Ask {
    const fn name(self) -> &'static str {
        match self {
            Self::FindNodeFar => "FIND_NODE far",
            Self::FindNodeNear => "FIND_NODE near",
            Self::GetProviders => "GET_PROVIDERS 20 + 20",
            Self::PutValue => "PUT_VALUE 1 KiB",
            Self::AddProvider => "ADD_PROVIDER",
        }
    }

    /// Returns what is asked of a server by a client, on a stream for each request or not.
    fn load(self, carrier: Carrier, server: PeerId, client: PeerId, opens_streams: bool) -> Load {
        let requests = match self {
            Self::FindNodeFar => vec![find_node(far(server))],
            Self::FindNodeNear => (0..4).map(|n| find_node(near(server, n))).collect(),
            Self::GetProviders => vec![frame(&Request::GetProviders { key: nodes::content().into() })],
            Self::PutValue => (0..KEYS).map(|n| put_value(n, client)).collect(),
            Self::AddProvider => (0..KEYS).map(|n| add_provider(n, client, carrier)).collect(),
        };
        let last = (self == Self::AddProvider).then(|| find_node(far(server)));
        Load { requests, last, opens_streams, is_right: self.is_right() }
    }

    /// Returns what tells a right answer. In the row of ADD_PROVIDER it is that of a FIND_NODE.
    fn is_right(self) -> fn(&Response) -> bool {
        match self {
            Self::FindNodeFar | Self::FindNodeNear | Self::AddProvider => {
                |response| matches!(response, Response::FindNode { closer_peers } if closer_peers.len() == 20)
            }
            Self::GetProviders => |response| {
                matches!(response, Response::GetProviders { provider_peers, closer_peers, .. }
                    if provider_peers.len() == PROVIDERS as usize && closer_peers.len() == 20)
            },
            Self::PutValue => |response| matches!(response, Response::PutValue { .. }),
        }
    }
}

/// Returns a request as it is sent.
pub(crate) fn frame(request: &Request) -> Bytes {
    let mut frame = BytesMut::new();
    encode_request(request, &mut frame);
    frame.freeze()
}

fn find_node(key: Vec<u8>) -> Bytes {
    frame(&Request::FindNode { key: key.into() })
}

/// Returns bytes whose hash lies in the other half of the keyspace than the server.
fn far(server: PeerId) -> Vec<u8> {
    key_with(server, 0, |common| common == 0)
}

/// Returns bytes whose hash lies as near to the server as few of its table.
fn near(server: PeerId, n: u32) -> Vec<u8> {
    key_with(server, n << 24, |common| common >= NEAR)
}

/// Returns bytes whose hash has so many bits in common with the server's key.
fn key_with(server: PeerId, from: u32, fits: impl Fn(u32) -> bool) -> Vec<u8> {
    let own = *Key::of_peer(&server, Key::sha256).as_bytes();
    let common = |bytes: &[u8]| {
        let first = |key: &[u8; 32]| u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
        (first(Key::sha256(bytes).as_bytes()) ^ first(&own)).leading_zeros()
    };
    (from..).map(nodes::hash).find(|bytes| fits(common(bytes))).unwrap()
}

/// Returns a PUT_VALUE as its publisher sends it.
pub(crate) fn put_value(n: u32, publisher: PeerId) -> Bytes {
    let value = nodes::hash(n).into_iter().cycle().take(VALUE).collect::<Vec<_>>();
    let ttl = Some(Duration::from_secs(36 * 60 * 60));
    let (key, publisher) = (nodes::hash(n).into(), Some(publisher));
    frame(&Request::PutValue { record: SentRecord { key, value: value.into(), publisher, ttl } })
}

fn add_provider(n: u32, provider: PeerId, carrier: Carrier) -> Bytes {
    let own = KadPeer {
        node_id: provider,
        multiaddrs: Addresses::collect(&provider, [carrier.nowhere(1)]),
        connection_ty: ConnectionType::Connected,
    };
    frame(&Request::AddProvider { key: nodes::hash(n).into(), providers: vec![own] })
}

/// What is asked, and whether each request has a stream of its own.
const ROWS: [(Ask, bool); 8] = [
    (Ask::FindNodeFar, false),
    (Ask::FindNodeNear, false),
    (Ask::GetProviders, false),
    (Ask::PutValue, false),
    (Ask::AddProvider, false),
    (Ask::FindNodeNear, true),
    (Ask::PutValue, true),
    (Ask::AddProvider, true),
];

/// Measures servers, and prints a line for each row.
pub(crate) fn rows(options: &Options, carrier: Carrier, table: &mut Table) {
    for (ask, opens_streams) in ROWS {
        let streams = if opens_streams { "a stream each" } else { "reused streams" };
        let name = format!("{}, {}, {streams}", ask.name(), carrier.name());
        if !options.wants(&name) {
            continue;
        }
        let row = Row { options, carrier, ask, opens_streams };
        let ours = row.measure(false, move |local| nodes::ours(local, carrier));
        let theirs = row.measure(options.settles, move |local| nodes::theirs(local, carrier));
        let floor = match &ours {
            // As long as the real answer.
            Ok((_, answer)) => {
                let answer = answer.clone();
                row.measure(false, move |_| Floor::new(move |_: &[u8]| answer.clone()))
            }
            Err(_) => Err("there is no answer to be made as long as".into()),
        };
        let cell = |outcome: Result<(Figure, Bytes), Failure>| Some(outcome.map(|(figure, _)| figure));
        let (floor, theirs, ours) = (cell(floor), cell(theirs), cell(ours));
        table.line(Line { name: &name, unit: "µs", floor, theirs, ours });
    }
}

struct Row<'a> {
    options: &'a Options,
    carrier: Carrier,
    ask: Ask,
    opens_streams: bool,
}

impl Row<'_> {
    /// Measures a server, and returns what a request costs and an answer.
    fn measure<B: NetworkBehaviour>(
        &self,
        settles: bool,
        make: impl FnOnce(PeerId) -> B + Send + 'static,
    ) -> Result<(Figure, Bytes), Failure> {
        runtime().block_on(async {
            let server = Measured::start(self.carrier, settles, make).await?;
            let figure = tokio::time::timeout(DEADLINE, self.load(&server)).await;
            server.stop();
            figure.map_err(|_| "it takes too long")?
        })
    }

    async fn load(&self, server: &Measured) -> Result<(Figure, Bytes), Failure> {
        let keypair = identity::Keypair::generate_ed25519();
        let client = keypair.public().to_peer_id();
        let load = Arc::new(self.ask.load(self.carrier, server.peer, client, self.opens_streams));
        let mut driver = Driver::connect(self.carrier, &keypair, server).await?;
        self.repeat(server, &mut driver, &load, self.options.cpu / 5).await?;
        let (used, requests) = self.repeat(server, &mut driver, &load, self.options.cpu).await?;
        let answer = driver.answer.take().unwrap_or_default();
        let value = used.cpu.as_secs_f64() * 1e6 / requests as f64;
        let allocations = Some(used.allocations as f64 / requests as f64);
        Ok((Figure { value, allocations }, answer))
    }

    /// Loads the server until it has used so much processor time, and all keys have had their turn.
    async fn repeat(
        &self,
        server: &Measured,
        driver: &mut Driver,
        load: &Arc<Load>,
        cpu: Duration,
    ) -> Result<(Used, usize), Failure> {
        let (before, mut requests) = (server.used().await?, 0);
        loop {
            // Twice the keys: either stream has them all.
            let some = 2 * KEYS as usize;
            driver.drive(load, some).await?;
            requests += some;
            let used = server.used().await?.since(before);
            if used.cpu >= cpu {
                return Ok((used, requests));
            }
        }
    }
}
