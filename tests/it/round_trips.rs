//! Round trips, counted on a link that takes its time. The clock is tokio's and stands still while anything runs.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::swarm::Config as SwarmConfig;
use libp2p::{Swarm, identity, yamux};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{Behaviour, Client, Config, Mode};
use tokio::time::{Instant, Sleep};

use super::support::*;

/// One way; a round trip takes twice that.
const ONE_WAY: Duration = Duration::from_millis(50);

/// A connection whose bytes arrive late.
struct Delayed<C> {
    inner: C,
    arriving: VecDeque<(Instant, Vec<u8>)>,
    ended: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<C> Delayed<C> {
    fn new(inner: C) -> Self {
        Self { inner, arriving: VecDeque::new(), ended: false, sleep: None }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Delayed<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut chunk = [0; 4096];
        while !this.ended {
            match Pin::new(&mut this.inner).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => this.ended = true,
                Poll::Ready(Ok(len)) => {
                    this.arriving.push_back((Instant::now() + ONE_WAY, chunk[..len].to_vec()));
                }
                Poll::Pending => break,
            }
        }
        loop {
            let Some((at, bytes)) = this.arriving.front_mut() else {
                return if this.ended { Poll::Ready(Ok(0)) } else { Poll::Pending };
            };
            if *at <= Instant::now() {
                let len = bytes.len().min(buffer.len());
                buffer[..len].copy_from_slice(&bytes[..len]);
                bytes.drain(..len);
                if bytes.is_empty() {
                    this.arriving.pop_front();
                }
                return Poll::Ready(Ok(len));
            }
            let sleep = this.sleep.insert(Box::pin(tokio::time::sleep_until(*at)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Delayed<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// A node over the slow link, without identify: nobody learns an address, so nothing is asked but by the test.
fn slow(version: Version) -> Swarm<Behaviour> {
    let keypair = identity::Keypair::generate_ed25519();
    let peer_id = keypair.public().to_peer_id();
    let transport = MemoryTransport::new()
        .map(|connection, _| Delayed::new(connection))
        .upgrade(Version::V1)
        .authenticate(libp2p_plaintext::Config::new(&keypair))
        .multiplex(yamux::Config::default())
        .boxed();
    let mut kademlia = Behaviour::with_config(peer_id, MemoryStore::new(peer_id), Config::default());
    kademlia.set_mode(Some(Mode::Server));
    let config = SwarmConfig::with_tokio_executor()
        .with_substream_upgrade_protocol_override(version)
        .with_idle_connection_timeout(Duration::from_secs(3600));
    Swarm::new(transport, kademlia, peer_id, config)
}

fn spawn(mut swarm: Swarm<Behaviour>) -> Client {
    let client = swarm.behaviour().client();
    tokio::spawn(async move {
        loop {
            futures::StreamExt::select_next_some(&mut swarm).await;
        }
    });
    client
}

/// How many round trips a call takes.
async fn round_trips<T>(call: impl Future<Output = T>) -> f64 {
    let start = Instant::now();
    call.await;
    start.elapsed().as_secs_f64() / (2.0 * ONE_WAY.as_secs_f64())
}

/// The round trips of the first and of later requests on a connection that the asker has accepted.
async fn first_and_later(version: Version) -> (f64, f64) {
    let mut listener = slow(version);
    let address = listen(&mut listener, Carrier::Memory).await;
    let mut dialler = slow(version);
    let dialled = *dialler.local_peer_id();
    dialler.dial(address).unwrap();
    let client = loop {
        tokio::select! {
            _ = futures::StreamExt::select_next_some(&mut listener) => {}
            _ = futures::StreamExt::select_next_some(&mut dialler) => {}
        }
        if listener.is_connected(&dialled) {
            break spawn(listener);
        }
    };
    spawn(dialler);
    // The link is quiet: what the dialler asks by itself has been answered.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let first = round_trips(async { client.ping(dialled).await.unwrap() }).await;
    let later = round_trips(async { client.ping(dialled).await.unwrap() }).await;
    (first, later)
}

#[tokio::test(start_paused = true)]
async fn a_request_on_an_open_stream_takes_one_and_the_first_on_a_connection_two() {
    assert_eq!(first_and_later(Version::V1).await, (2.0, 1.0));
}

#[tokio::test(start_paused = true)]
async fn with_lazy_negotiation_the_first_takes_one_too() {
    assert_eq!(first_and_later(Version::V1Lazy).await, (1.0, 1.0));
}

/// How many round trips pass until three quarters of twenty peers, of which only one is known, have been told of a first key; and
/// until as many have been told of a second.
async fn announced(version: Version) -> (f64, f64) {
    let mut hub: Option<(libp2p::PeerId, libp2p::Multiaddr, Client)> = None;
    for _ in 0..21 {
        let mut swarm = slow(version);
        let address = listen(&mut swarm, Carrier::Memory).await;
        let peer = *swarm.local_peer_id();
        let client = spawn(swarm);
        match &hub {
            None => hub = Some((peer, address, client)),
            Some((.., hub)) => drop(hub.add_address(peer, address).await.unwrap()),
        }
    }
    let (peer, address, hub) = hub.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(hub.peer_count().await.unwrap(), 20);
    let mut provider = slow(version);
    listen(&mut provider, Carrier::Memory).await;
    let client = spawn(provider);
    client.add_address(peer, address).await.unwrap();
    let told = async |key: &'static str| {
        round_trips(async {
            let report = client.provide(key.as_bytes()).await.unwrap();
            assert!(report.sent.len() >= 15, "{report:?}");
        })
        .await
    };
    let cold = told("cold").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    (cold, told("warm").await)
}

#[tokio::test(start_paused = true)]
async fn without_identify_a_peer_counts_as_told_when_the_protocol_has_been_negotiated() {
    // Who had not answered yet counted as told a second later, which is ten round trips here: 14 and 10 in all.
    for (version, bar) in [(Version::V1, 11.5), (Version::V1Lazy, 9.5)] {
        let (cold, warm) = announced(version).await;
        assert!(cold <= bar && warm <= 1.5, "{version:?}: {cold} cold, {warm} warm");
    }
}
