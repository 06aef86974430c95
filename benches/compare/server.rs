//! Rows of servers: what a request costs, asked by a bare client.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, identity};
use libp2p_kademlia::message::{Request, Response, SentRecord};
use libp2p_kademlia::wire::encode_request;
use libp2p_kademlia::{Addresses, ConnectionType, KadPeer};

use super::carrier::Carrier;
use super::driver::{Driver, Load};
use super::floor::Floor;
use super::measured::{Measured, runtime};
use super::nodes::{self, PROVIDERS};
use super::table::{Figure, Line, Table};
use super::{Failure, Options, keys};

/// How many keys are written to, in turn: all but the first so many writes are of what is there already.
const KEYS: usize = 512;
/// Of so many figures, each of as much of the time, the one in the middle is shown.
const SLICES: u32 = 5;
/// How many bytes a value has.
pub(crate) const VALUE: usize = 1024;
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
            Self::FindNodeFar => vec![find_node(keys::far(server))],
            Self::FindNodeNear => keys::near(server).take(4).map(find_node).collect(),
            Self::GetProviders => vec![get_providers(keys::content(server))],
            Self::PutValue => keys::written(server).take(KEYS).map(|key| put_value(key, client)).collect(),
            Self::AddProvider => {
                keys::written(server).take(KEYS).map(|key| add_provider(key, client, carrier)).collect()
            }
        };
        let last = (self == Self::AddProvider).then(|| find_node(keys::far(server)));
        Load { requests, last, opens_streams, is_right: self.is_right() }
    }

    /// Returns what tells whether a server has kept what was written, asked by somebody else.
    fn reads_back(self, server: PeerId) -> Option<Load> {
        let request = match self {
            Self::FindNodeFar | Self::FindNodeNear | Self::GetProviders => return None,
            Self::PutValue => get_value,
            Self::AddProvider => get_providers,
        };
        let is_right: fn(&Response) -> bool = |response| {
            matches!(response, Response::GetValue { record: Some(record), .. } if record.value.len() == VALUE)
                || matches!(response, Response::GetProviders { provider_peers, .. } if provider_peers.len() == 1)
        };
        let requests = keys::written(server).take(KEYS).map(request).collect();
        Some(Load { requests, last: None, opens_streams: false, is_right })
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

pub(crate) fn find_node(key: Vec<u8>) -> Bytes {
    frame(&Request::FindNode { key: key.into() })
}

fn get_value(key: Vec<u8>) -> Bytes {
    frame(&Request::GetValue { key: key.into() })
}

fn get_providers(key: Vec<u8>) -> Bytes {
    frame(&Request::GetProviders { key: key.into() })
}

/// Returns a PUT_VALUE as its publisher sends it.
pub(crate) fn put_value(key: Vec<u8>, publisher: PeerId) -> Bytes {
    let value = key.iter().copied().cycle().take(VALUE).collect::<Vec<_>>();
    let ttl = Some(Duration::from_secs(36 * 60 * 60));
    let (key, value, publisher) = (key.into(), value.into(), Some(publisher));
    frame(&Request::PutValue { record: SentRecord { key, value, publisher, ttl } })
}

fn add_provider(key: Vec<u8>, provider: PeerId, carrier: Carrier) -> Bytes {
    let own = KadPeer {
        node_id: provider,
        multiaddrs: Addresses::collect(&provider, [carrier.nowhere(1)]),
        connection_ty: ConnectionType::Connected,
    };
    frame(&Request::AddProvider { key: key.into(), providers: vec![own] })
}

/// What is asked, whether each request has a stream of its own, and how many allocations it may cost at most.
const ROWS: [(Ask, bool, f64); 8] = [
    (Ask::FindNodeFar, false, 16.0),
    (Ask::FindNodeNear, false, 16.0),
    (Ask::GetProviders, false, 28.0),
    (Ask::PutValue, false, 18.0),
    (Ask::AddProvider, false, 22.0),
    (Ask::FindNodeNear, true, 60.0),
    (Ask::PutValue, true, 63.0),
    (Ask::AddProvider, true, 64.0),
];

/// Measures servers, and prints a line for each row.
pub(crate) fn rows(options: &Options, carrier: Carrier, table: &mut Table) {
    for (ask, opens_streams, most) in ROWS {
        let streams = if opens_streams { "a stream each" } else { "reused streams" };
        let name = format!("{}, {}, {streams}", ask.name(), carrier.name());
        if !options.wants(&name) {
            continue;
        }
        let row = Row { options, carrier, ask, opens_streams };
        let ours = row.measure(Whose::Ours, move |local| nodes::ours(local, carrier));
        let theirs = row.measure(Whose::Theirs, move |local| nodes::theirs(local, carrier));
        let floor = match &ours {
            // As long as the real answer.
            Ok((_, answer)) => {
                let answer = answer.clone();
                row.measure(Whose::Floor, move |_| Floor::new(move |_: &[u8]| answer.clone()))
            }
            Err(_) => Err("it is not known how long an answer is".into()),
        };
        let cell = |outcome: Result<(Figure, Bytes), Failure>| Some(outcome.map(|(figure, _)| figure));
        let (floor, theirs, ours) = (cell(floor), cell(theirs), cell(ours));
        table.line(Line { name: &name, unit: "µs", floor, theirs, ours, most: Some(most) });
    }
}

/// Whose a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
    Floor,
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
        whose: Whose,
        make: impl FnOnce(PeerId) -> B + Send + 'static,
    ) -> Result<(Figure, Bytes), Failure> {
        runtime().block_on(async {
            let settles = whose == Whose::Theirs && self.options.settles;
            let server = Measured::start(self.carrier, settles, make).await?;
            let figure = tokio::time::timeout(DEADLINE, self.load(whose, &server)).await;
            server.stop();
            figure.map_err(|_| "it takes too long")?
        })
    }

    async fn load(&self, whose: Whose, server: &Measured) -> Result<(Figure, Bytes), Failure> {
        let keypair = identity::Keypair::generate_ed25519();
        let client = keypair.public().to_peer_id();
        let load = Arc::new(self.ask.load(self.carrier, server.peer, client, self.opens_streams));
        let mut driver = Driver::connect(self.carrier, &keypair, &server.at()).await?;
        let slice = self.options.cpu / SLICES;
        match self.options.requests {
            None => drop(self.repeat(server, &mut driver, &load, slice).await?),
            Some(_) => driver.drive(&load, KEYS).await?,
        }
        let mut figures = Vec::new();
        for _ in 0..self.options.requests.map_or(SLICES, |_| 1) {
            figures.push(self.repeat(server, &mut driver, &load, slice).await?);
        }
        let answer = driver.answer.take().unwrap_or_default();
        if whose != Whose::Floor {
            self.read_back(server).await?;
        }
        figures.sort_by(|one, other| one.value.total_cmp(&other.value));
        Ok((figures[figures.len() / 2], answer))
    }

    /// Checks that what was written is there.
    async fn read_back(&self, server: &Measured) -> Result<(), Failure> {
        let Some(load) = self.ask.reads_back(server.peer) else { return Ok(()) };
        let mut driver =
            Driver::connect(self.carrier, &identity::Keypair::generate_ed25519(), &server.at()).await?;
        driver.drive(&Arc::new(load), KEYS).await
    }

    /// Loads the server until it has used so much processor time, and all keys have had their turn; returns what a request
    /// has cost.
    async fn repeat(
        &self,
        server: &Measured,
        driver: &mut Driver,
        load: &Arc<Load>,
        cpu: Duration,
    ) -> Result<Figure, Failure> {
        let (before, mut requests) = (server.used().await?, 0);
        loop {
            driver.drive(load, KEYS).await?;
            requests += KEYS;
            let used = server.used().await?.since(before);
            if self.options.requests.map_or(used.cpu >= cpu, |enough| requests >= enough) {
                let value = used.cpu.as_secs_f64() * 1e6 / requests as f64;
                let allocations = Some(used.allocations as f64 / requests as f64);
                return Ok(Figure { value, allocations });
            }
        }
    }
}
