//! One connection: its streams in both directions, and the requests on them.
//!
//! Knows streams and messages; does not know the node. What a peer does wrong ends a stream here, and is logged at
//! `debug` at most.

mod announcing;
mod inbound;
mod outbound;

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p_core::upgrade::ReadyUpgrade;
use libp2p_swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
    StreamUpgradeError,
};
use libp2p_swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol};

use super::connections::Credit;
use super::timer::{self, Timer};
use super::upgrade::Offer;
use crate::config::Config;
use crate::dht::{InboundId, RequestId};
use crate::error::RequestError;
use crate::event::Mode;
use crate::message::{Request, Response};
use crate::time::{Duration, Instant, after, earliest};

use announcing::Announcing;
use inbound::Inbound;
use outbound::Outbound;

/// What the behaviour tells a handler.
#[derive(Debug)]
pub enum ToHandler {
    /// Send a request.
    Request(RequestId, Request),
    /// Nobody waits for the answer any more; its stream ends.
    Cancel(RequestId),
    /// Answer a request of the peer.
    Respond(InboundId, Response),
    /// A request of the peer that is not answered has been dealt with.
    Accept(InboundId),
    /// Refuse a request of the peer.
    Refuse(InboundId),
    /// Keep the connection open though nobody uses it, or no longer.
    KeepAlive(bool),
    /// Serve from now on, or stop it.
    Mode(Mode),
}

/// What a handler tells the behaviour.
#[derive(Debug)]
pub enum FromHandler {
    /// The peer asks something.
    RequestReceived(InboundId, Request),
    /// A request that is not answered is out.
    RequestSent(RequestId),
    /// The peer has answered.
    ResponseReceived(RequestId, Response),
    /// The peer will not answer.
    RequestFailed(RequestId, RequestError),
    /// The peer is said to serve the protocol, or has shown that it does not.
    Protocol(bool),
    /// Another behaviour says that the peer does not serve the protocol, or no longer.
    Doubted,
}

/// What a stream of this node is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To ask.
    Ask,
    /// To announce, which is not answered.
    Announce,
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    max_frame: usize,
    max_inbound: usize,
    inbound_idle: Duration,
    outbound_idle: Duration,
    stream_timeout: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            max_frame: config.max_frame.get(),
            max_inbound: config.max_inbound_streams.get(),
            inbound_idle: config.inbound_idle,
            outbound_idle: config.outbound_idle,
            stream_timeout: config.stream_timeout,
        }
    }
}

/// The handler of one connection.
///
/// # What it decides
/// On which stream a request goes, when a stream is opened and closed, and whom a stream's early end is blamed on.
///
/// # Bounds
/// The configured inbound streams, the oldest idle one making room; on each at most eight requests being answered.
/// Four outbound streams with eight requests in flight on each, or eight streams with one where the peer closes after
/// each answer, and one for what is not answered. Every read of a message that has begun and every write has a deadline.
pub struct Handler {
    protocol: StreamProtocol,
    mode: Mode,
    limits: Limits,
    keep_alive: bool,
    /// Until then it is kept in any case: whoever has dialled is about to ask.
    fresh_until: Option<Instant>,
    /// The number of this connection, in the upper bits of every [`InboundId`].
    number: u64,
    next_inbound: u64,
    inbound: Vec<Inbound>,
    outbound: Outbound,
    announcing: Announcing,
    /// What the peer has said of its support for the protocol.
    supported: Option<bool>,
    events: VecDeque<FromHandler>,
    timer: Timer,
    credit: Credit,
}

/// A new connection is kept for so long though nothing has come over it, or one that closes what is idle at once would close it
/// before its first request arrives.
const FRESH: Duration = Duration::from_secs(1);

/// How many bits of an [`InboundId`] count the requests of one connection.
const SEQUENCE_BITS: u32 = 24;

/// Returns the number of the connection that an inbound request came on.
pub(super) const fn connection_of(id: InboundId) -> u64 {
    id.0 >> SEQUENCE_BITS
}

impl Handler {
    pub(super) fn new(
        protocol: StreamProtocol,
        mode: Mode,
        limits: Limits,
        number: u64,
        credit: Credit,
    ) -> Self {
        Self {
            protocol,
            mode,
            limits,
            keep_alive: false,
            fresh_until: Some(after(timer::now(), FRESH)),
            number,
            next_inbound: 0,
            inbound: Vec::new(),
            outbound: Outbound::new(limits.max_frame),
            announcing: Announcing::new(limits.max_frame),
            supported: None,
            events: VecDeque::new(),
            timer: Timer::default(),
            credit,
        }
    }

    /// Takes a new stream of the peer; if there are too many, the oldest idle one makes room, or this one is dropped.
    fn accept(&mut self, mut stream: Stream) {
        if self.mode == Mode::Client {
            return;
        }
        if self.inbound.len() >= self.limits.max_inbound {
            let idle = self.inbound.iter().enumerate().filter(|(_, stream)| stream.is_idle());
            match idle.min_by_key(|(_, stream)| stream.since()).map(|(at, _)| at) {
                Some(oldest) => drop(self.inbound.swap_remove(oldest)),
                None => {
                    tracing::debug!("too many inbound streams, all of them busy; the new one is dropped");
                    return;
                }
            }
        }
        stream.ignore_for_keep_alive();
        self.inbound.push(Inbound::new(stream, self.limits.max_frame, timer::now()));
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> bool {
        let mut at = 0;
        while let Some(stream) = self.inbound.get_mut(at) {
            match stream.poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(Some(request)) => {
                    let sequence = self.next_inbound & ((1 << SEQUENCE_BITS) - 1);
                    self.next_inbound += 1;
                    let id = InboundId(self.number << SEQUENCE_BITS | sequence);
                    stream.begin(id, timer::now());
                    self.events.push_back(FromHandler::RequestReceived(id, request));
                    return true;
                }
                Poll::Ready(None) => drop(self.inbound.swap_remove(at)),
            }
        }
        false
    }

    /// Ends streams whose time is up, and sees to it that the task is woken for the next.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) {
        let limits = self.limits;
        loop {
            let inbound = self.inbound.iter().map(|stream| Some(stream.deadline(&limits)));
            let outbound = earliest(self.outbound.deadline(&limits), self.announcing.deadline());
            let deadline = inbound.fold(earliest(outbound, self.fresh_until), earliest);
            if deadline.is_none() {
                return;
            }
            let now = timer::now();
            if self.timer.poll(cx, now, deadline).is_pending() {
                return;
            }
            self.fresh_until.take_if(|until| *until <= now);
            self.inbound.retain(|stream| stream.deadline(&limits) > now);
            self.outbound.close_idle(now, &limits);
            self.announcing.close_idle(now);
        }
    }

    /// Takes note of what another behaviour, as a rule identify, says that the peer speaks.
    ///
    /// That it speaks this protocol is reason to ask it, and that it does not no more than that: the node asks, and
    /// negotiation decides.
    fn protocols_changed(&mut self, change: ProtocolsChange<'_>) {
        let (names_ours, supports) = match change {
            ProtocolsChange::Added(mut added) => (added.any(|protocol| *protocol == self.protocol), true),
            ProtocolsChange::Removed(mut removed) => {
                (removed.any(|protocol| *protocol == self.protocol), false)
            }
        };
        let now_supported = match (names_ours, self.supported) {
            (true, _) => supports,
            // The first list of a peer does not name the protocol: it hardly serves it.
            (false, None) => false,
            (false, Some(_)) => return,
        };
        if self.supported != Some(now_supported) {
            self.supported = Some(now_supported);
            let event = if now_supported { FromHandler::Protocol(true) } else { FromHandler::Doubted };
            self.events.push_back(event);
        }
    }

    fn opening_failed(&mut self, purpose: Purpose, error: &StreamUpgradeError<std::convert::Infallible>) {
        let error = match error {
            StreamUpgradeError::NegotiationFailed => RequestError::Unsupported,
            StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) => RequestError::StreamEnded,
            StreamUpgradeError::Apply(never) => match *never {},
        };
        match purpose {
            Purpose::Ask => self.outbound.opening_failed(error, &mut self.events),
            Purpose::Announce => self.announcing.opening_failed(error, &mut self.events),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = FromHandler;
    type InboundProtocol = Offer;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Purpose;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let offered = (self.mode == Mode::Server).then(|| self.protocol.clone());
        SubstreamProtocol::new(Offer(offered), ()).with_timeout(self.limits.stream_timeout)
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep_alive
            || self.fresh_until.is_some()
            || self.outbound.is_busy()
            || self.announcing.is_busy()
            || self.inbound.iter().any(Inbound::is_answering)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Purpose, Self::ToBehaviour>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
            }
            if self.poll_inbound(cx) || self.outbound.poll(cx, &mut self.events) {
                continue;
            }
            let speaks = self.supported == Some(true) || self.outbound.has_answers();
            if self.announcing.poll(cx, speaks, &mut self.events) {
                continue;
            }
            let ask = self.outbound.wants_stream().then_some(Purpose::Ask);
            let announce = || self.announcing.wants_stream().then_some(Purpose::Announce);
            if let Some(purpose) = ask.or_else(announce) {
                let upgrade = ReadyUpgrade::new(self.protocol.clone());
                let protocol =
                    SubstreamProtocol::new(upgrade, purpose).with_timeout(self.limits.stream_timeout);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
            self.poll_deadlines(cx);
            return Poll::Pending;
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Option<FromHandler>> {
        Poll::Ready(self.events.pop_front())
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        self.credit.take();
        match event {
            ToHandler::Request(id, request) if request.is_answered() => self.outbound.enqueue(id, request),
            ToHandler::Request(id, request) => self.announcing.enqueue(id, request),
            ToHandler::Cancel(id) => {
                self.outbound.cancel(id);
                self.announcing.cancel(id);
            }
            ToHandler::Respond(id, response) => {
                if let Some(stream) = self.inbound.iter_mut().find(|stream| stream.answers(id)) {
                    stream.respond(id, Some(response), timer::now());
                }
            }
            ToHandler::Accept(id) => {
                if let Some(stream) = self.inbound.iter_mut().find(|stream| stream.answers(id)) {
                    stream.accept(id, timer::now());
                }
            }
            ToHandler::Refuse(id) => {
                if let Some(stream) = self.inbound.iter_mut().find(|stream| stream.answers(id)) {
                    stream.respond(id, None, timer::now());
                }
            }
            ToHandler::KeepAlive(keep) => self.keep_alive = keep,
            ToHandler::Mode(mode) => {
                self.mode = mode;
                if mode == Mode::Client {
                    self.inbound.clear();
                }
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum may grow; what is new does not concern us")]
    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Purpose>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.accept(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { mut protocol, info }) => {
                protocol.ignore_for_keep_alive();
                match info {
                    Purpose::Ask => self.outbound.opened(protocol, timer::now()),
                    Purpose::Announce => self.announcing.opened(protocol),
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening_failed(info, &error);
            }
            ConnectionEvent::RemoteProtocolsChange(change) => self.protocols_changed(change),
            _ => {}
        }
    }
}
