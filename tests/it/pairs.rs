//! Two connections between two nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::join_all;
use libp2p::core::upgrade::Version;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::{Behaviour, Client, Config, KeepAlive, Mode, Quorum, Record, RecordKey};
use tokio::sync::{mpsc, oneshot};

use super::streams::PROTOCOL;
use super::support::*;

/// What a test wants of a running swarm.
enum Want {
    Dial(DialOpts),
    Close(ConnectionId),
    /// The connections that there are, the oldest first.
    Open(oneshot::Sender<Vec<ConnectionId>>),
    Mode(Mode),
}

/// A node in a task of its own whose connections a test makes and ends.
pub(super) struct Steered {
    pub(super) peer_id: PeerId,
    pub(super) address: Multiaddr,
    pub(super) client: Client,
    wants: mpsc::Sender<Want>,
    /// How many connections have ended.
    pub(super) ended: Arc<AtomicUsize>,
}

impl Steered {
    pub(super) async fn run<B: NetworkBehaviour + Send>(
        mut swarm: Swarm<B>,
        carrier: Carrier,
        kademlia: impl Fn(&mut B) -> &mut Behaviour + Send + 'static,
    ) -> Self
    where
        B::ToSwarm: std::fmt::Debug,
    {
        kademlia(swarm.behaviour_mut()).set_mode(Some(Mode::Server));
        let address = listen(&mut swarm, carrier).await;
        let (peer_id, client) = (*swarm.local_peer_id(), kademlia(swarm.behaviour_mut()).client());
        let (wants, mut wanted) = mpsc::channel(16);
        let ended = Arc::new(AtomicUsize::new(0));
        let count = ended.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => match event {
                        SwarmEvent::ConnectionEstablished { connection_id, .. } => open.push(connection_id),
                        SwarmEvent::ConnectionClosed { connection_id, .. } => {
                            open.retain(|id| *id != connection_id);
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        _ => {}
                    },
                    Some(want) = wanted.recv() => match want {
                        Want::Dial(opts) => swarm.dial(opts).unwrap(),
                        Want::Close(id) => {
                            swarm.close_connection(id);
                        }
                        Want::Open(tell) => drop(tell.send(open.clone())),
                        Want::Mode(mode) => kademlia(swarm.behaviour_mut()).set_mode(Some(mode)),
                    },
                }
            }
        });
        Self { peer_id, address, client, wants, ended }
    }

    pub(super) async fn node(carrier: Carrier, config: Config, idle: Duration) -> Self {
        let swarm = swarm_with_idle(carrier, Version::V1Lazy, idle, |keypair| node(keypair, config));
        Self::run(swarm, carrier, |node| &mut node.kademlia).await
    }

    async fn want(&self, want: Want) {
        assert!(self.wants.send(want).await.is_ok());
    }

    pub(super) async fn open(&self) -> Vec<ConnectionId> {
        let (tell, told) = oneshot::channel();
        self.want(Want::Open(tell)).await;
        told.await.unwrap()
    }

    /// Connects to another beside whatever there is.
    async fn dial(&self, other: &Self) {
        let opts = DialOpts::peer_id(other.peer_id).addresses(vec![other.address.clone()]);
        self.want(Want::Dial(opts.condition(PeerCondition::Always).allocate_new_port().build())).await;
    }

    /// Waits until there are so many connections, as this node sees it.
    async fn until_open(&self, count: usize) -> Vec<ConnectionId> {
        eventually(|| async { self.open().await.len() == count }).await;
        self.open().await
    }

    pub(super) async fn until_known(&self, other: &Self) {
        eventually(|| async {
            let table = self.client.routing_table().await.unwrap();
            table.peers().any(|entry| entry.peer == other.peer_id && entry.is_connected)
        })
        .await;
    }
}

/// Two nodes that have dialled each other at the same time, and have each other in their tables.
async fn pair(carrier: Carrier, config: &Config, idle: Duration) -> (Steered, Steered) {
    let one = Steered::node(carrier, config.clone(), idle).await;
    let other = Steered::node(carrier, config.clone(), idle).await;
    tokio::join!(one.dial(&other), other.dial(&one));
    tokio::join!(one.until_open(2), other.until_open(2));
    tokio::join!(one.until_known(&other), other.until_known(&one));
    (one, other)
}

/// Puts sixteen records at a time while `cut` ends connections, `times` times; returns how many failed and the longest.
async fn put_while_cut(
    one: &Steered,
    other: &Steered,
    times: usize,
    which: fn(&[ConnectionId]) -> Vec<ConnectionId>,
) -> (Vec<String>, Duration) {
    let (mut failed, mut longest, mut cut_last) = (Vec::new(), Duration::ZERO, Vec::new());
    for time in 0..times {
        // What was cut may not have ended yet.
        eventually(|| async { !one.open().await.iter().any(|id| cut_last.contains(id)) }).await;
        for _ in one.open().await.len()..2 {
            one.dial(other).await;
        }
        eventually(|| async { one.open().await.len() >= 2 }).await;
        let open = one.open().await;
        cut_last = which(&open);
        let began = Instant::now();
        let puts = join_all((0..16).map(|n| {
            let record = Record::new(RecordKey::new(&format!("{time} {n}")), vec![7; 500]);
            one.client.put_record_to(record, [other.peer_id], Quorum::All)
        }));
        let cut = async {
            // At another moment each time, by the number of turns that others have had.
            for _ in 0..time % 12 {
                tokio::task::yield_now().await;
            }
            for id in &cut_last {
                one.want(Want::Close(*id)).await;
            }
        };
        let (results, ()) = within(async { tokio::join!(puts, cut) }).await;
        failed.extend(results.into_iter().filter_map(|result| result.err().map(|error| error.to_string())));
        longest = longest.max(began.elapsed());
    }
    (failed, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_a_connection_that_ends_goes_to_the_other_or_a_new_one() {
    for carrier in [Carrier::Memory, Carrier::Tcp] {
        let (one, other) = pair(carrier, &Config::default(), Duration::from_secs(30)).await;
        let newest: fn(&[ConnectionId]) -> Vec<ConnectionId> =
            |open| open.last().copied().into_iter().collect();
        let oldest: fn(&[ConnectionId]) -> Vec<ConnectionId> =
            |open| open.first().copied().into_iter().collect();
        let both: fn(&[ConnectionId]) -> Vec<ConnectionId> = <[_]>::to_vec;
        for (name, which, times) in [("newest", newest, 60), ("oldest", oldest, 60), ("both", both, 30)] {
            let (failed, longest) = put_while_cut(&one, &other, times, which).await;
            assert_eq!(failed, Vec::<String>::new(), "{carrier:?}, {name}");
            // A request that is lost is noticed by its timeout, after ten seconds, or by a check, after three.
            assert!(longest < Duration::from_secs(3), "{carrier:?}, {name}: {longest:?}");
        }
        let table = one.client.routing_table().await.unwrap();
        assert!(table.peers().any(|entry| entry.peer == other.peer_id), "the peer is not blamed");
    }
}

#[tokio::test]
async fn each_of_two_connections_is_kept_and_either_is_left_when_the_other_ends() {
    let idle = Duration::from_millis(50);
    for oldest in [true, false] {
        let config = Config::default().with_keep_alive(KeepAlive::Closest);
        let (one, other) = pair(Carrier::Memory, &config, idle).await;
        let open = one.open().await;
        one.want(Want::Close(if oldest { open[0] } else { open[1] })).await;
        one.until_open(1).await;
        // Thirty times the idle timeout, on the clock that the swarm's timeout uses, and longer than a new one is kept.
        tokio::time::sleep(30 * idle).await;
        assert_eq!((one.open().await.len(), other.open().await.len()), (1, 1));
        within(one.client.ping(other.peer_id)).await.unwrap();
        assert_eq!(one.ended.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn the_mode_reaches_both_connections() {
    let node = Steered::node(Carrier::Memory, Config::default(), Duration::from_secs(30)).await;
    let mut swarm = swarm(Carrier::Memory, Version::V1, raw);
    let mut control = swarm.behaviour().stream.new_control();
    for _ in 0..2 {
        let opts = DialOpts::peer_id(node.peer_id).addresses(vec![node.address.clone()]);
        swarm.dial(opts.condition(PeerCondition::Always).build()).unwrap();
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    node.until_open(2).await;
    // Each stream is opened on one of them at random: twenty are on both.
    for mode in [Mode::Server, Mode::Client, Mode::Server] {
        node.want(Want::Mode(mode)).await;
        let mut told = 0;
        within(async {
            while told < 20 {
                let is_served = control.open_stream(node.peer_id, PROTOCOL).await.is_ok();
                told = if is_served == (mode == Mode::Server) { told + 1 } else { 0 };
            }
        })
        .await;
    }
}
