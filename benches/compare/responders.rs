//! The network that clients ask: floors that know each other and everything, on a thread of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use bytes::{Bytes, BytesMut};
use libp2p::{Multiaddr, PeerId, identity};
use libp2p_kademlia::message::{Request, Response, SentRecord};
use libp2p_kademlia::wire::{decode_request, encode_response};
use libp2p_kademlia::{Addresses, ConnectionType, KadPeer, Key};
use tokio::sync::oneshot;

use super::Failure;
use super::carrier::{Carrier, listen, run, swarm};
use super::floor::Floor;
use super::measured::runtime;
use super::server::VALUE;

/// How many there are.
pub(crate) const RESPONDERS: usize = 64;
/// How many peers an answer names, and how many hold whatever is searched: the closest to its key.
pub(crate) const K: usize = 20;

/// The responders, which run until this is dropped.
pub(crate) struct Responders {
    pub(crate) peers: Arc<[(PeerId, Multiaddr)]>,
    /// How many requests have arrived at all of them.
    pub(crate) asked: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Responders {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

impl Responders {
    pub(crate) fn start(carrier: Carrier) -> Result<Self, Failure> {
        let ((tell, told), (stop, stopped)) = (oneshot::channel(), oneshot::channel::<()>());
        let asked = Arc::new(AtomicU64::new(0));
        let counter = asked.clone();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let (network, mut peers) = (Arc::new(OnceLock::new()), Vec::new());
                for own in 0..RESPONDERS {
                    let keypair = identity::Keypair::generate_ed25519();
                    let (network, counter) = (network.clone(), counter.clone());
                    let answer = move |body: &[u8]| {
                        counter.fetch_add(1, Ordering::Relaxed);
                        network.get().map_or_else(Bytes::new, |network: &Network| network.answer(own, body))
                    };
                    let mut swarm = swarm(carrier, &keypair, Floor::new(answer));
                    let address = listen(&mut swarm, carrier).await;
                    peers.push((keypair.public().to_peer_id(), address));
                    tokio::spawn(async move { run(&mut swarm).await });
                }
                let _ = network.set(Network::new(&peers));
                let _ = tell.send(peers);
                let _ = stopped.await;
            });
        });
        let peers = told.blocking_recv().map_err(|_| "the responders have not started")?;
        Ok(Self { peers: peers.into(), asked, stop: Some(stop), thread: Some(thread) })
    }
}

/// What all of them know: each other, and what they have answered before, so that every answer is made once.
struct Network {
    peers: Vec<(Key, KadPeer)>,
    known: Mutex<HashMap<Vec<u8>, Known>>,
}

/// The answers to one request.
struct Known {
    /// The closest to its key, by their places.
    closest: Vec<usize>,
    /// What those answer.
    by_closest: Bytes,
    /// What the others do, who hold nothing.
    by_others: Bytes,
}

impl Network {
    fn new(peers: &[(PeerId, Multiaddr)]) -> Self {
        let named = |(peer, address): &(PeerId, Multiaddr)| KadPeer {
            node_id: *peer,
            multiaddrs: Addresses::collect(peer, [address.clone()]),
            connection_ty: ConnectionType::Connected,
        };
        let peers = peers.iter().map(|peer| (Key::of_peer(&peer.0, Key::sha256), named(peer)));
        Self { peers: peers.collect(), known: Mutex::default() }
    }

    /// Returns the frame with which one of the peers answers.
    fn answer(&self, own: usize, body: &[u8]) -> Bytes {
        let mut answers = self.known.lock().unwrap();
        if let Some(known) = answers.get(body) {
            return known.answer(own);
        }
        let Ok(request) = decode_request(body) else { return Bytes::new() };
        if let Request::PutValue { record } = request {
            return frame(&Response::PutValue { key: record.key, value: Some(record.value) });
        }
        let known = self.know(&request);
        let answer = known.answer(own);
        answers.insert(body.to_vec(), known);
        answer
    }

    fn know(&self, request: &Request) -> Known {
        let key: &[u8] = if let Request::FindNode { key } = request {
            key
        } else if let Request::GetValue { key } | Request::GetProviders { key } = request {
            key.as_ref()
        } else {
            // A PING, or an ADD_PROVIDER, whose answer nobody sends.
            let pong = frame(&Response::Pong);
            return Known { closest: Vec::new(), by_closest: pong.clone(), by_others: pong };
        };
        let target = Key::sha256(key);
        let mut closest: Vec<_> = (0..self.peers.len()).collect();
        closest.sort_by_key(|at| target.distance(&self.peers[*at].0));
        closest.truncate(K);
        let peers: Vec<_> = closest.iter().map(|at| self.peers[*at].1.clone()).collect();
        let answer = |holds: bool| frame(&response(request, key, &peers, holds));
        Known { by_closest: answer(true), by_others: answer(false), closest }
    }
}

impl Known {
    fn answer(&self, own: usize) -> Bytes {
        if self.closest.contains(&own) { &self.by_closest } else { &self.by_others }.clone()
    }
}

/// Returns what somebody answers who holds whatever there is under the key, or nothing, and names these peers.
fn response(request: &Request, key: &[u8], peers: &[KadPeer], holds: bool) -> Response {
    let closer_peers = peers.to_vec();
    if matches!(request, Request::GetValue { .. }) {
        let value = Bytes::from(vec![7; VALUE]);
        let record = SentRecord { key: key.into(), value, publisher: None, ttl: None };
        Response::GetValue { key: Some(key.into()), record: holds.then_some(record), closer_peers }
    } else if matches!(request, Request::GetProviders { .. }) {
        let provider_peers = if holds { peers.to_vec() } else { Vec::new() };
        Response::GetProviders { key: Some(key.into()), provider_peers, closer_peers }
    } else {
        Response::FindNode { closer_peers }
    }
}

fn frame(response: &Response) -> Bytes {
    let mut frame = BytesMut::new();
    encode_response(response, &mut frame);
    frame.freeze()
}
