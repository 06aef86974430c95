//! The floor: what a server costs that only reads frames and answers with bytes that were made before.
//!
//! Each request goes as an event from the handler to the behaviour and back, as with any behaviour that has one state for
//! all connections. Nothing is parsed but the length of a frame and its first two bytes, which say whether an answer is
//! awaited. Written once, before anything was measured against it, and not changed since.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use futures::task::AtomicWaker;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, THandler, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::PROTOCOL;
use super::pipe::Pipe;

/// How an ADD_PROVIDER begins, which is not answered: its type, in the first field.
const UNANSWERED: &[u8] = &[0x08, 2];

/// Answers each request with what a function says: the whole frame, its length included.
pub(crate) struct Floor<A> {
    answer: A,
    answers: VecDeque<(PeerId, ConnectionId, Answer)>,
}

impl<A: FnMut(&[u8]) -> Bytes> Floor<A> {
    pub(crate) const fn new(answer: A) -> Self {
        Self { answer, answers: VecDeque::new() }
    }
}

/// A request that has arrived on a stream.
#[derive(Debug)]
pub(crate) struct Asked {
    stream: u64,
    body: Bytes,
}

/// What it is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    stream: u64,
    frame: Bytes,
}

impl<A: FnMut(&[u8]) -> Bytes + Send + 'static> NetworkBehaviour for Floor<A> {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, asked: Asked) {
        let frame = (self.answer)(&asked.body);
        if is_answered(&asked.body) {
            self.answers.push_back((peer, connection, Answer { stream: asked.stream, frame }));
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Answer>> {
        // The swarm polls again after each event of a handler.
        match self.answers.pop_front() {
            Some((peer_id, connection, event)) => {
                let handler = NotifyHandler::One(connection);
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event })
            }
            None => Poll::Pending,
        }
    }
}

fn is_answered(body: &[u8]) -> bool {
    !body.starts_with(UNANSWERED)
}

/// The streams of one connection.
#[derive(Default)]
pub(crate) struct Handler {
    task: Arc<AtomicWaker>,
    streams: Vec<Inbound>,
    opened: u64,
    asked: VecDeque<Asked>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Answer;
    type ToBehaviour = Asked;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Asked>> {
        if let Some(asked) = self.asked.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(asked));
        }
        self.task.register(cx.waker());
        while let Some(at) = self.streams.iter().position(|inbound| inbound.signal.take()) {
            match self.streams[at].poll(&mut self.asked) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.streams[at].signal.raise(),
                Poll::Ready(Err(_)) => drop(self.streams.swap_remove(at)),
            }
            if let Some(asked) = self.asked.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(asked));
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, answer: Answer) {
        if let Some(inbound) = self.streams.iter_mut().find(|inbound| inbound.id == answer.stream) {
            inbound.waiting -= 1;
            inbound.pipe.push(&answer.frame);
            inbound.signal.raise();
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) = event {
            self.opened += 1;
            self.streams.push(Inbound::new(self.opened, protocol, self.task.clone()));
        }
    }
}

/// Says that a stream is to be polled: the others of its connection are left alone.
struct Signal {
    is_raised: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Signal {
    /// Raised by the task of the connection itself, which is about to look.
    fn raise(&self) {
        self.is_raised.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.is_raised.load(Ordering::Acquire) && self.is_raised.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
        self.task.wake();
    }
}

/// A stream on which the peer asks, once or again and again.
struct Inbound {
    id: u64,
    pipe: Pipe,
    signal: Arc<Signal>,
    waker: Waker,
    /// How many answers are to come.
    waiting: usize,
    /// Whether the peer will send nothing more.
    is_half_closed: bool,
}

impl Inbound {
    fn new(id: u64, stream: Stream, task: Arc<AtomicWaker>) -> Self {
        let signal = Arc::new(Signal { is_raised: AtomicBool::new(true), task });
        let waker = Waker::from(signal.clone());
        Self { id, pipe: Pipe::new(stream), signal, waker, waiting: 0, is_half_closed: false }
    }

    /// Writes what there is, and reads once. Ready if there may be more to read, or with an error, which may be its end.
    fn poll(&mut self, asked: &mut VecDeque<Asked>) -> Poll<io::Result<()>> {
        let cx = &mut Context::from_waker(&self.waker);
        ready!(self.pipe.poll_flush(cx))?;
        if !self.is_half_closed {
            if ready!(self.pipe.poll_fill(cx))? > 0 {
                while let Some(body) = self.pipe.next_frame() {
                    self.waiting += usize::from(is_answered(&body));
                    asked.push_back(Asked { stream: self.id, body });
                }
                return Poll::Ready(Ok(()));
            }
            self.is_half_closed = true;
        }
        if self.waiting > 0 {
            return Poll::Pending;
        }
        ready!(self.pipe.poll_close(cx))?;
        Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
    }
}
