//! A behaviour that says of peers that they do not speak a protocol, as anybody in a program can.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll, Waker};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, ProtocolSupport};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use super::support::Node;

/// A node, and beside it a behaviour that knows better.
#[derive(NetworkBehaviour)]
pub(crate) struct Denied {
    pub(crate) node: Node,
    pub(crate) denier: Denier,
}

#[derive(Default)]
pub(crate) struct Denier {
    denied: VecDeque<(PeerId, StreamProtocol)>,
    waker: Option<Waker>,
}

impl Denier {
    /// Says on a connection to the peer that it speaks the protocol no more.
    pub(crate) fn deny(&mut self, peer: PeerId, protocol: &'static str) {
        self.denied.push_back((peer, StreamProtocol::new(protocol)));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Denier {
    type ConnectionHandler = DenierHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(DenierHandler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(DenierHandler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.denied.pop_front() {
            Some((peer_id, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct DenierHandler {
    denied: VecDeque<StreamProtocol>,
}

impl ConnectionHandler for DenierHandler {
    type FromBehaviour = StreamProtocol;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        match self.denied.pop_front() {
            Some(protocol) => {
                let removed = ProtocolSupport::Removed(HashSet::from([protocol]));
                Poll::Ready(ConnectionHandlerEvent::ReportRemoteProtocols(removed))
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, protocol: StreamProtocol) {
        self.denied.push_back(protocol);
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
    }
}
