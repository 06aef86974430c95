//! Hostile peers: seven kinds, which each of them is in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::{NetworkBehaviour, Stream, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, identity, noise, tcp, yamux};
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::wire::{ServerCodec, encode_request, encode_response};
use libp2p_kademlia::{Addresses, ConnectionType, KadPeer};
use libp2p_quic as quic;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Draw, Error};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
const MAX_FRAME: usize = 1 << 20;
/// How many streams one of them holds at once that it has opened.
const MAX_HELD: usize = 64;
/// So long a stream is left unread.
const UNREAD: Duration = Duration::from_secs(60);

/// What a hostile peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Asks and does not read the answers; reads nothing of a stream behind its first request.
    Deaf,
    /// Reads a few bytes at a time.
    Slow,
    /// Answers late and names nobodies.
    Late,
    /// Names sixteen addresses for each of twenty made-up peers.
    Names,
    /// Opens streams and sends half messages.
    Halves,
    /// Resets each stream behind a request.
    Resets,
    /// Connects anew all the time.
    Anew,
}

const KINDS: [Kind; 7] =
    [Kind::Deaf, Kind::Slow, Kind::Late, Kind::Names, Kind::Halves, Kind::Resets, Kind::Anew];

#[derive(NetworkBehaviour)]
struct Raw {
    stream: libp2p_stream::Behaviour,
    identify: identify::Behaviour,
}

/// A place that takes connections and says nothing: what made-up peers are said to listen at.
pub(crate) struct Trap {
    port: u16,
    taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Trap {
    pub(crate) async fn set() -> Result<Self, Error> {
        let listener = TcpListener::bind("0.0.0.0:0").await?;
        let (port, taken) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
        let count = taken.clone();
        let task = tokio::spawn(async move {
            let mut held = VecDeque::new();
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                held.push_back(socket);
                if held.len() > 256 {
                    held.pop_front();
                }
            }
        });
        Ok(Self { port, taken, task })
    }

    /// How many connections were made to nobody.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn nobodies(&self, draw: &mut Draw, addresses: u8) -> Vec<KadPeer> {
        let one = |n: u8| {
            let id = identity::Keypair::ed25519_from_bytes(draw.bytes()).ok()?.public().to_peer_id();
            let at = (0..addresses).filter_map(|at| {
                format!("/ip4/127.1.{n}.{}/tcp/{}", at + 1, self.port).parse::<Multiaddr>().ok()
            });
            let multiaddrs = Addresses::collect(&id, at);
            Some(KadPeer { node_id: id, multiaddrs, connection_ty: ConnectionType::CanConnect })
        };
        (0..20).filter_map(one).collect()
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all of them share: whom they are after, and what they say.
pub(crate) struct Scheme {
    pub(crate) victims: Vec<(PeerId, Multiaddr)>,
    nobodies: Vec<KadPeer>,
    many_addresses: Vec<KadPeer>,
    /// Goes up when each becomes another kind.
    epoch: AtomicUsize,
    asked: AtomicUsize,
}

impl Scheme {
    pub(crate) fn new(victims: Vec<(PeerId, Multiaddr)>, trap: &Trap, draw: &mut Draw) -> Arc<Self> {
        Arc::new(Self {
            victims,
            nobodies: trap.nobodies(draw, 1),
            many_addresses: trap.nobodies(draw, 16),
            epoch: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        })
    }

    /// Each becomes the next kind.
    pub(crate) fn change(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests of honest nodes they have read.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn kind(&self, n: usize) -> Kind {
        let at = (n + self.epoch.load(Ordering::Relaxed)) % KINDS.len();
        KINDS.get(at).copied().unwrap_or(Kind::Deaf)
    }
}

enum Order {
    Dial(PeerId, Multiaddr),
    Leave(PeerId),
}

/// One hostile peer. It is gone when this is dropped.
pub(crate) struct Hostile(Vec<JoinHandle<()>>);

impl Drop for Hostile {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Hostile {
    /// Starts the `n`th of them.
    pub(crate) async fn start(n: usize, scheme: &Arc<Scheme>, mut draw: Draw) -> Result<Self, Error> {
        let keypair = identity::Keypair::ed25519_from_bytes(draw.bytes())?;
        let mut swarm = swarm(keypair)?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let own = (*swarm.local_peer_id(), address);
        let mut control = swarm.behaviour().stream.new_control();
        let mut incoming = control.accept(PROTOCOL)?;
        let (orders, mut ordered) = mpsc::channel(16);
        let swarm = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    Some(order) = ordered.recv() => match order {
                        Order::Dial(peer, address) => {
                            swarm.add_peer_address(peer, address.clone());
                            let _ = swarm.dial(address);
                        }
                        Order::Leave(peer) => drop(swarm.disconnect_peer_id(peer)),
                    },
                }
            }
        });
        let known = scheme.clone();
        let serving = tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(serve(stream, n, known.clone(), own.clone()));
            }
        });
        let attacking = tokio::spawn(attack(n, scheme.clone(), control, orders, draw));
        Ok(Self(vec![swarm, serving, attacking]))
    }
}

fn swarm(keypair: identity::Keypair) -> Result<Swarm<Raw>, Error> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_other_transport(|keypair| quic::tokio::Transport::new(quic::Config::new(keypair)))?
        .with_behaviour(|keypair| Raw {
            stream: libp2p_stream::Behaviour::new(),
            identify: identify::Behaviour::new(identify::Config::new("/soak/1.0.0".into(), keypair.public())),
        })?;
    Ok(swarm.build())
}

/// Does to one victim after another what its kind does, unasked.
async fn attack(
    n: usize,
    scheme: Arc<Scheme>,
    mut control: libp2p_stream::Control,
    orders: mpsc::Sender<Order>,
    mut draw: Draw,
) {
    let mut held = VecDeque::new();
    for (peer, address) in scheme.victims.clone() {
        let _ = orders.send(Order::Dial(peer, address)).await;
    }
    let mut flood = BytesMut::new();
    for n in 0..100u8 {
        encode_request(&Request::FindNode { key: vec![n; 32].into() }, &mut flood);
    }
    loop {
        let Some((victim, address)) = scheme.victims.get(draw.below(scheme.victims.len())).cloned() else {
            return;
        };
        let kind = scheme.kind(n);
        match kind {
            Kind::Anew => {
                let _ = orders.send(Order::Leave(victim)).await;
                let _ = orders.send(Order::Dial(victim, address)).await;
            }
            Kind::Slow | Kind::Late | Kind::Names => {
                // Whom it has lost it comes back to, so that it is asked.
                let _ = orders.send(Order::Dial(victim, address)).await;
                sleep(Duration::from_millis(450)).await;
            }
            Kind::Deaf | Kind::Halves | Kind::Resets => {
                let opened = timeout(UNREAD / 20, control.open_stream(victim, PROTOCOL)).await;
                if let Ok(Ok(mut stream)) = opened {
                    let part = if kind == Kind::Deaf { flood.len() } else { 20 };
                    let bytes = flood.get(..part).unwrap_or_default();
                    let _ = timeout(UNREAD / 20, stream.write_all(bytes)).await;
                    let _ = timeout(UNREAD / 20, stream.flush()).await;
                    if kind != Kind::Resets {
                        held.push_back(stream);
                    }
                }
                if held.len() > MAX_HELD {
                    held.pop_front();
                }
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Serves a stream as its kind does.
async fn serve(mut stream: Stream, n: usize, scheme: Arc<Scheme>, own: (PeerId, Multiaddr)) {
    let mut buffer = BytesMut::new();
    loop {
        let kind = scheme.kind(n);
        let Some(request) = read(&mut stream, &mut buffer, kind == Kind::Slow).await else {
            return;
        };
        scheme.asked.fetch_add(1, Ordering::Relaxed);
        if let Request::AddProvider { .. } = request {
            if kind == Kind::Deaf {
                // The announcements are never read.
                return sleep(UNREAD).await;
            }
            continue;
        }
        let closer_peers = match kind {
            Kind::Late => {
                sleep(Duration::from_millis(2000)).await;
                scheme.nobodies.clone()
            }
            Kind::Names => scheme.many_addresses.clone(),
            Kind::Resets => return,
            Kind::Deaf | Kind::Slow | Kind::Halves | Kind::Anew => {
                let multiaddrs = Addresses::collect(&own.0, [own.1.clone()]);
                vec![KadPeer { node_id: own.0, multiaddrs, connection_ty: ConnectionType::Connected }]
            }
        };
        let response = match request {
            Request::FindNode { .. } => Response::FindNode { closer_peers },
            Request::GetValue { key } => Response::GetValue { key: Some(key), record: None, closer_peers },
            Request::GetProviders { key } => {
                Response::GetProviders { key: Some(key), provider_peers: Vec::new(), closer_peers }
            }
            // Whoever says that he has stored it and has not would be a liar of another kind.
            Request::PutValue { .. } => return,
            _ => Response::Pong,
        };
        let mut bytes = BytesMut::new();
        encode_response(&response, &mut bytes);
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if kind == Kind::Deaf {
            return sleep(UNREAD).await;
        }
    }
}

/// Reads a request, slowly or not, or nothing if the stream ends.
async fn read(stream: &mut Stream, buffer: &mut BytesMut, slowly: bool) -> Option<Request> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(request) = ServerCodec::new(MAX_FRAME).decode(buffer).ok()? {
            return Some(request);
        }
        let part = if slowly { chunk.get_mut(..4)? } else { &mut chunk[..] };
        match stream.read(part).await {
            Ok(0) | Err(_) => return None,
            Ok(len) => buffer.extend_from_slice(chunk.get(..len)?),
        }
        if slowly {
            sleep(Duration::from_millis(50)).await;
        }
    }
}
