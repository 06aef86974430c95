//! A node on a thread of its own, connection tasks included: what is counted is that thread's processor time and memory.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use cpu_time::ThreadTime;
use futures::StreamExt as _;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, PeerId, Swarm, identity};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::carrier::{Carrier, listen, run, swarm};

/// What a thread has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    pub(crate) allocations: u64,
    /// Bytes that were allocated and are not freed.
    pub(crate) live: i64,
    /// How often the thread was put to sleep; of servers.
    pub(crate) sleeps: u64,
}

impl Used {
    /// Does something, and adds what it uses.
    pub(crate) fn count<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let (start, mut result) = (ThreadTime::now(), None);
        let info = allocation_counter::measure(|| result = Some(call()));
        self.cpu += start.elapsed();
        self.allocations += info.count_total;
        self.live += info.bytes_current;
        result.unwrap()
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            allocations: self.allocations - before.allocations,
            live: self.live - before.live,
            sleeps: self.sleeps - before.sleeps,
        }
    }
}

/// Makes the runtime of one thread.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a swarm until it has come to rest: `libp2p-kad` joins by itself half a second after it has heard of peers.
pub(crate) fn settle<B: NetworkBehaviour>(runtime: &Runtime, swarm: &mut Swarm<B>) {
    let mut quiet = 0;
    for _ in 0..100 {
        let start = ThreadTime::now();
        let _ =
            runtime.block_on(async { tokio::time::timeout(Duration::from_millis(100), run(swarm)).await });
        quiet = if start.elapsed() < Duration::from_millis(1) { quiet + 1 } else { 0 };
        if quiet == 7 {
            return;
        }
    }
}

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) address: Multiaddr,
    pub(crate) peer: PeerId,
}

/// A server that runs on its thread.
pub(crate) struct Measured {
    pub(crate) address: Multiaddr,
    pub(crate) peer: PeerId,
    asks: mpsc::Sender<oneshot::Sender<Used>>,
    thread: thread::JoinHandle<()>,
}

impl Measured {
    /// Starts a server, and waits until it listens and, if it is to, has settled.
    pub(crate) async fn start<B: NetworkBehaviour>(
        carrier: Carrier,
        settles: bool,
        make: impl FnOnce(PeerId) -> B + Send + 'static,
    ) -> Result<Self, Failure> {
        let (tell, told) = oneshot::channel();
        let (asks, mut asked) = mpsc::channel(1);
        let thread = thread::spawn(move || {
            let (runtime, keypair) = (runtime(), identity::Keypair::generate_ed25519());
            let peer = keypair.public().to_peer_id();
            let mut swarm = {
                let _guard = runtime.enter();
                swarm(carrier, &keypair, make(peer))
            };
            let address = runtime.block_on(listen(&mut swarm, carrier));
            if settles {
                settle(&runtime, &mut swarm);
            }
            if tell.send((address, peer)).is_ok() {
                serve(&runtime, &mut swarm, &mut asked);
            }
            // Connections end within their runtime.
            let _guard = runtime.enter();
            drop(swarm);
        });
        let (address, peer) = told.await.map_err(|_| "the server has not started")?;
        Ok(Self { address, peer, asks, thread })
    }

    /// Returns where it is.
    pub(crate) fn at(&self) -> Place {
        Place { address: self.address.clone(), peer: self.peer }
    }

    /// Returns what the thread has used since the server started.
    pub(crate) async fn used(&self) -> Result<Used, Failure> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(reply).await.map_err(|_| "the server has ended")?;
        Ok(answer.await.map_err(|_| "the server has ended")?)
    }

    /// Ends the server.
    pub(crate) fn stop(self) {
        drop(self.asks);
        let _ = self.thread.join();
    }
}

/// Runs the swarm, and tells what was used when it is asked, until nobody can ask any more.
fn serve<B: NetworkBehaviour>(
    runtime: &Runtime,
    swarm: &mut Swarm<B>,
    asked: &mut mpsc::Receiver<oneshot::Sender<Used>>,
) {
    let mut used = Used::default();
    while let Some(reply) = used.count(|| runtime.block_on(until_asked(swarm, asked))) {
        used.sleeps = runtime.metrics().worker_park_count(0);
        let _ = reply.send(used);
    }
}

fn until_asked<'a, B: NetworkBehaviour, T>(
    swarm: &'a mut Swarm<B>,
    asked: &'a mut mpsc::Receiver<T>,
) -> impl Future<Output = Option<T>> + 'a {
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = swarm.poll_next_unpin(cx) {}
        asked.poll_recv(cx)
    })
}
