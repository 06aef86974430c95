//! The lean client: what requests cost that only send bytes and receive bytes, with nothing of a DHT.
//!
//! One stream for each connection, which serves again and again. Each request goes as an event from the behaviour to a
//! handler, each answer back and to whoever polls the swarm. Written once, before anything was measured against it, and not
//! changed since.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, StreamProtocol, SubstreamProtocol, THandler, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::PROTOCOL;
use super::pipe::Pipe;

/// Asks over connections that somebody else has made, and knows each by its place in the order in which they were made.
#[derive(Default)]
pub(crate) struct Lean {
    connections: Vec<(PeerId, ConnectionId)>,
    requests: VecDeque<(usize, Bytes)>,
    answers: VecDeque<Answered>,
}

/// An answer that has arrived.
#[derive(Debug)]
pub(crate) struct Answered {
    /// On which connection.
    pub(crate) connection: usize,
    /// What it says, without its length.
    pub(crate) body: Bytes,
}

impl Lean {
    /// Asks on a connection: sends a whole frame.
    pub(crate) fn ask(&mut self, connection: usize, frame: Bytes) {
        self.requests.push_back((connection, frame));
    }
}

impl NetworkBehaviour for Lean {
    type ConnectionHandler = Handler;
    type ToSwarm = Answered;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Err(ConnectionDenied::new("asks only"))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = Handler::new(self.connections.len());
        self.connections.push((peer, connection));
        Ok(handler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, answered: Answered) {
        self.answers.push_back(answered);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Answered, Bytes>> {
        // The swarm polls again after each event of a handler, and whoever asks polls the swarm.
        if let Some(answered) = self.answers.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(answered));
        }
        match self.requests.pop_front() {
            Some((to, event)) => {
                let (peer_id, connection) = self.connections[to];
                let handler = NotifyHandler::One(connection);
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event })
            }
            None => Poll::Pending,
        }
    }
}

/// The stream of one connection.
pub(crate) struct Handler {
    connection: usize,
    stream: Option<Pipe>,
    is_opening: bool,
    /// What is to be sent when the stream is there.
    waiting: VecDeque<Bytes>,
}

impl Handler {
    const fn new(connection: usize) -> Self {
        Self { connection, stream: None, is_opening: false, waiting: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Bytes;
    type ToBehaviour = Answered;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Answered>> {
        let Some(pipe) = &mut self.stream else {
            if self.waiting.is_empty() || self.is_opening {
                return Poll::Pending;
            }
            self.is_opening = true;
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        };
        let flushed = pipe.poll_flush(cx);
        assert!(!matches!(flushed, Poll::Ready(Err(_))), "a responder has ended a stream: {flushed:?}");
        loop {
            if let Some(body) = pipe.next_frame() {
                let answered = Answered { connection: self.connection, body };
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(answered));
            }
            match pipe.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(end) => panic!("a responder has ended a stream: {end:?}"),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn on_behaviour_event(&mut self, frame: Bytes) {
        match &mut self.stream {
            Some(pipe) => pipe.push(&frame),
            None => self.waiting.push_back(frame),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) = event {
            let mut pipe = Pipe::new(protocol);
            self.waiting.drain(..).for_each(|frame| pipe.push(&frame));
            self.stream = Some(pipe);
        }
    }
}
