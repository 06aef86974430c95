//! Where dialled names have led to: a wrapper of the transport that tells the node.
//!
//! Knows transports and addresses; knows neither the node nor what a group is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use libp2p_core::transport::map::Map;
use libp2p_core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_identity::PeerId;

use crate::addrs;

/// So many connections are remembered that the node has not heard of yet. Chosen, not measured: the swarm tells it of each at once.
const MAX_RESOLVED: usize = 1024;

/// A dial of some transport.
type BoxedDial<T> =
    Pin<Box<dyn Future<Output = Result<<T as Transport>::Output, <T as Transport>::Error>> + Send>>;

/// A connection to a peer that was dialled by a name.
#[derive(Debug)]
struct Resolved {
    peer: PeerId,
    name: Multiaddr,
    address: Multiaddr,
}

/// The IP addresses that dialled names have led to, for a node that is to count peers by them.
///
/// Where IP diversity is limited all peers that were dialled by a name are one group, since a swarm does not tell what a name has
/// resolved to: a quarter of the table at the most. For a network whose servers are known by their names that is too few. Then wrap
/// the transport in two places, and give the node the same value: each peer counts at its IP address.
///
/// ```text
/// let resolved = ResolvedAddresses::default();
/// let tcp = resolved.below_dns(tcp::tokio::Transport::new(tcp::Config::default()));
/// let transport = dns::tokio::Transport::system(tcp)?
///     .upgrade(Version::V1Lazy).authenticate(noise::Config::new(&keypair)?).multiplex(yamux::Config::default());
/// let transport = resolved.above_dns(transport).boxed();
/// let behaviour = Behaviour::new(local_peer_id, store).with_resolved_addresses(resolved);
/// ```
///
/// Clones are the same list.
///
/// # Bounds
/// 1,024 connections of which the node has not heard, or that the program has refused.
#[derive(Clone, Debug, Default)]
pub struct ResolvedAddresses(Arc<Mutex<VecDeque<Resolved>>>);

/// Returns an address without the peer at its end.
fn without_peer(address: Multiaddr) -> Multiaddr {
    addrs::without_peer(address).0
}

thread_local! {
    /// Where the dial that is being polled has led to, if one is.
    static REACHED: RefCell<Option<Option<Multiaddr>>> = const { RefCell::new(None) };
}

impl ResolvedAddresses {
    /// Wraps the transport that dials IP addresses, below the one that resolves names.
    pub fn below_dns<T: Transport>(&self, transport: T) -> BelowDns<T> {
        transport.map(note)
    }

    /// Wraps the transport that resolves names, or one around it, and knows who is at the other end.
    pub fn above_dns<T>(&self, transport: T) -> AboveDns<T> {
        AboveDns { transport, resolved: self.clone() }
    }

    /// Adds a connection to a peer that was dialled by a name.
    pub(super) fn add(&self, peer: PeerId, name: Multiaddr, address: Multiaddr) {
        let resolved = Resolved { peer, name, address };
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() == MAX_RESOLVED {
            list.pop_front();
        }
        list.push_back(resolved);
    }

    /// Takes the address out at which a peer was reached last that was dialled by a name. What is left of connections before, which
    /// the program may have refused, goes too.
    pub(super) fn take(&self, peer: &PeerId, name: &Multiaddr) -> Option<Multiaddr> {
        let name = without_peer(name.clone());
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |resolved: &Resolved| resolved.peer == *peer && resolved.name == name;
        let latest =
            list.iter().rev().find(|resolved| is_it(resolved)).map(|latest| latest.address.clone())?;
        list.retain(|resolved| !is_it(resolved));
        Some(latest)
    }
}

/// A transport that dials IP addresses and says to which it has come; see [`ResolvedAddresses`].
pub type BelowDns<T> = Map<T, fn(<T as Transport>::Output, ConnectedPoint) -> <T as Transport>::Output>;

/// Says to which address a dial has come: to the transport above, which polls it in the same call.
fn note<O>(output: O, endpoint: ConnectedPoint) -> O {
    if let ConnectedPoint::Dialer { address, .. } = endpoint {
        REACHED.with_borrow_mut(|reached| {
            if let Some(reached) = reached {
                *reached = Some(address);
            }
        });
    }
    output
}

/// A transport that takes note of where the names lead to that it dials; see [`ResolvedAddresses`].
#[derive(Debug)]
pub struct AboveDns<T> {
    transport: T,
    resolved: ResolvedAddresses,
}

impl<T, M> Transport for AboveDns<T>
where
    T: Transport<Output = (PeerId, M)> + Unpin,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = DialByName<T>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.transport.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.transport.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = Box::pin(self.transport.dial(address.clone(), opts)?);
        Ok(DialByName { dial, name: without_peer(address), reached: None, resolved: self.resolved.clone() })
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.transport).poll(cx)
    }
}

/// A dial whose way is noted; see [`ResolvedAddresses`].
pub struct DialByName<T: Transport> {
    dial: BoxedDial<T>,
    name: Multiaddr,
    /// The last address that was reached on its behalf.
    reached: Option<Multiaddr>,
    resolved: ResolvedAddresses,
}

impl<T: Transport> fmt::Debug for DialByName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, reached, .. } = self;
        f.debug_struct("DialByName").field("name", name).field("reached", reached).finish_non_exhaustive()
    }
}

impl<T, M> Future for DialByName<T>
where
    T: Transport<Output = (PeerId, M)>,
{
    type Output = Result<T::Output, T::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reached = self.reached.take();
        // One dial may be polled by another, as by a relay's transport: each has its own.
        let outer = REACHED.replace(Some(reached));
        let polled = self.dial.as_mut().poll(cx);
        self.reached = REACHED.replace(outer).flatten();
        if let Poll::Ready(Ok((peer, _))) = &polled
            && let Some(address) = self.reached.take().map(without_peer)
            && address != self.name
        {
            let (peer, name) = (*peer, self.name.clone());
            self.resolved.add(peer, name, address);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::{FutureExt as _, StreamExt as _};
    use libp2p_core::Endpoint;
    use libp2p_core::multiaddr::Protocol;
    use libp2p_core::transport::memory::Channel;
    use libp2p_core::transport::{Boxed, MemoryTransport, PortUse};

    type Chan = Channel<Vec<u8>>;

    use super::*;

    /// Resolves `/dns4/n<PORT>/…` to a place in memory.
    struct Names<T>(T);

    impl<T> Transport for Names<T>
    where
        T: Transport + Unpin,
        T::Dial: Send + 'static,
    {
        type Output = T::Output;
        type Error = T::Error;
        type ListenerUpgrade = T::ListenerUpgrade;
        type Dial = BoxedDial<T>;

        fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
            self.0.listen_on(id, address)
        }

        fn remove_listener(&mut self, id: ListenerId) -> bool {
            self.0.remove_listener(id)
        }

        fn dial(
            &mut self,
            address: Multiaddr,
            opts: DialOpts,
        ) -> Result<Self::Dial, TransportError<Self::Error>> {
            let Some(Protocol::Dns4(name)) = address.iter().next() else {
                return self.0.dial(address, opts).map(|dial| dial.boxed());
            };
            let port: u64 = name.trim_start_matches('n').parse().unwrap();
            self.0.dial(Protocol::Memory(port).into(), opts).map(|dial| dial.boxed())
        }

        fn poll(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
            Pin::new(&mut self.0).poll(cx)
        }
    }

    fn peer(n: u8) -> PeerId {
        let hash = libp2p_core::multihash::Multihash::wrap(0x12, &[n; 32]).unwrap();
        PeerId::from_multihash(hash).unwrap()
    }

    const OPTS: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };

    #[test]
    fn what_a_name_has_led_to_is_told_once_for_each_connection() {
        let mut listener = MemoryTransport::new();
        listener.listen_on(ListenerId::next(), "/memory/0".parse().unwrap()).unwrap();
        let mut listener = listener.boxed();
        let Some(TransportEvent::NewAddress { listen_addr, .. }) = block_on(listener.next()) else {
            panic!()
        };
        let Some(Protocol::Memory(port)) = listen_addr.iter().next() else { panic!() };
        let resolved = ResolvedAddresses::default();
        let below = Names(resolved.below_dns(MemoryTransport::new()));
        // An upgrade takes longer than the way there.
        let upgraded = below.boxed().and_then(|channel, _| async move {
            let mut is_ready = false;
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut is_ready, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Ok::<_, std::io::Error>((peer(1), channel))
        });
        let known = upgraded.boxed();
        let mut above = resolved.above_dns(known);
        let name: Multiaddr = format!("/dns4/n{port}/tcp/1").parse().unwrap();
        let with_peer = name.clone().with(Protocol::P2p(peer(1)));
        let dial =
            |above: &mut AboveDns<Boxed<(PeerId, Chan)>>, listener: &mut Boxed<Chan>, address: &Multiaddr| {
                let dial = above.dial(address.clone(), OPTS).unwrap();
                let (dialled, taken) = block_on(futures::future::join(dial, listener.next()));
                assert!(matches!(taken, Some(TransportEvent::Incoming { .. })), "{taken:?}");
                dialled.unwrap().0
            };
        for address in [&name, &with_peer] {
            assert_eq!(dial(&mut above, &mut listener, address), peer(1));
            assert_eq!(resolved.take(&peer(2), &name), None, "of another");
            assert_eq!(resolved.take(&peer(1), &with_peer), Some(listen_addr.clone()));
            assert_eq!(resolved.take(&peer(1), &name), None, "once");
        }
        assert_eq!(dial(&mut above, &mut listener, &listen_addr), peer(1));
        assert_eq!(resolved.take(&peer(1), &listen_addr), None, "it was no name");
        // Two at once, polled in turn: each has its own way.
        let dials = [&listen_addr, &name].map(|address| above.dial(address.clone(), OPTS).unwrap());
        let taken = async {
            for _ in 0..2 {
                assert!(matches!(listener.next().await, Some(TransportEvent::Incoming { .. })));
            }
        };
        block_on(futures::future::join(futures::future::try_join_all(dials), taken)).0.unwrap();
        assert_eq!(resolved.take(&peer(1), &listen_addr), None);
        assert_eq!(resolved.take(&peer(1), &name), Some(listen_addr.clone()));
        for address in ["/ip4/1.1.1.1/tcp/1", "/ip4/2.2.2.2/tcp/1"] {
            resolved.add(peer(1), name.clone(), address.parse().unwrap());
        }
        assert_eq!(resolved.take(&peer(1), &name), Some("/ip4/2.2.2.2/tcp/1".parse().unwrap()), "the latest");
        assert_eq!(resolved.take(&peer(1), &name), None, "what was refused before is gone");
        for _ in 0..2 * MAX_RESOLVED {
            resolved.add(peer(1), name.clone(), listen_addr.clone());
        }
        assert_eq!(resolved.0.lock().unwrap().len(), MAX_RESOLVED);
    }
}
