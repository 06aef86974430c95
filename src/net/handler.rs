//! One connection: its streams in both directions, and the requests on them.
//!
//! Knows streams and messages; does not know the node. What a peer does wrong ends a stream here, and is logged at
//! `debug` at most.

mod announcing;
#[cfg(feature = "fuzzing")]
pub(crate) mod door;
mod inbound;
mod outbound;
#[cfg(any(test, feature = "fuzzing"))]
mod script;
mod streams;

use std::task::{Context, Poll};

use libp2p_swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
    StreamUpgradeError,
};
use libp2p_swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol};

use super::connections::Credit;
use super::limits::ConnectionLimits;
use super::messages::{FromHandler, Purpose, ToHandler, Told};
use super::shared::Shared;
use super::timer::{self, Timer};
use super::upgrade::{Offer, Proposal, Refused};
use crate::dht::Deadline;
use crate::error::RequestError;
use crate::event::Mode;
use crate::stats::Transport;
use crate::time::{Duration, Instant, earliest};

use streams::{Action, Streams};

/// A connection that has no event for the behaviour tells what it has counted when it has moved so many bytes. Chosen, not
/// measured.
const TELL_AFTER: u64 = 64 * 1024;

/// The handler of one connection: what the swarm tells it becomes a call of [`Streams`], with the time.
///
/// It takes whatever it is sent at once, makes a bounded number of steps in each `poll`, and reads the clock once in it.
#[derive(Debug)]
pub struct Handler {
    protocol: StreamProtocol,
    stream_timeout: Duration,
    keep_alive: bool,
    /// Until then it is kept in any case: a peer that has dialled is about to ask.
    fresh_until: Option<Instant>,
    streams: Streams<Stream>,
    timer: Timer,
    credit: Credit,
}

/// A new connection is kept for so long though nothing has come over it, or one that closes what is idle at once would close it
/// before its first request arrives; and a little longer, so that many end together. Chosen, not measured: longer than most round
/// trips.
const FRESH: Duration = Duration::from_secs(1);

impl Handler {
    pub(super) fn new(
        protocol: StreamProtocol,
        mode: Mode,
        limits: ConnectionLimits,
        number: u64,
        (node, credit): (&Shared, Credit),
    ) -> Self {
        let now = timer::now();
        Self {
            protocol,
            stream_timeout: limits.stream_timeout,
            keep_alive: false,
            fresh_until: Some(node.roughly_after(now, FRESH)),
            streams: Streams::new(limits, mode, number, node, now),
            timer: Timer::default(),
            credit,
        }
    }

    fn told(&mut self, event: Option<FromHandler>, at: Instant) -> Told {
        Told { event, at, counts: self.streams.take_counts() }
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
        let now_supported = match (names_ours, self.streams.supported()) {
            (true, _) => supports,
            // The first list of a peer does not name the protocol: it hardly serves it.
            (false, None) => false,
            (false, Some(_)) => return,
        };
        self.streams.set_supported(now_supported);
    }

    fn opening_failed(&mut self, purpose: Purpose, error: &StreamUpgradeError<Refused>) {
        let error = match error {
            StreamUpgradeError::NegotiationFailed | StreamUpgradeError::Apply(Refused) => {
                RequestError::Unsupported
            }
            StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) => RequestError::StreamEnded,
        };
        self.streams.opening_failed(purpose, error);
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = Told;
    type InboundProtocol = Offer;
    type OutboundProtocol = Proposal;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Purpose;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let offered = (self.streams.mode() == Mode::Server).then(|| self.protocol.clone());
        SubstreamProtocol::new(Offer(offered), ()).with_timeout(self.stream_timeout)
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep_alive || self.fresh_until.is_some() || self.streams.is_busy()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Purpose, Self::ToBehaviour>> {
        let now = timer::now();
        self.fresh_until.take_if(|until| *until <= now);
        match self.streams.poll(cx, now) {
            Poll::Ready(Action::Tell(event)) => {
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(self.told(Some(event), now)))
            }
            Poll::Ready(Action::Open(purpose)) => {
                let is_confirmed = purpose == Purpose::Introduce;
                let proposal = Proposal { protocol: self.protocol.clone(), is_confirmed };
                let protocol = SubstreamProtocol::new(proposal, purpose).with_timeout(self.stream_timeout);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            Poll::Pending if self.streams.uncounted_bytes() >= TELL_AFTER => {
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(self.told(None, now)))
            }
            Poll::Pending => {
                // If it has come, the streams were not done with their turns, and have woken the task.
                let deadline = earliest(self.streams.deadline(), self.fresh_until);
                let deadline = deadline.map(|at| Deadline { at, reason: "connection" });
                let _ = self.timer.poll(cx, now, deadline);
                Poll::Pending
            }
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Option<Told>> {
        let event = self.streams.close();
        let last = self.told(event, timer::now());
        Poll::Ready(Some(last).filter(|last| last.event.is_some() || last.counts != Transport::default()))
    }

    /// Takes what the behaviour has sent: the one place where it comes in, which never waits.
    fn on_behaviour_event(&mut self, event: ToHandler) {
        self.credit.take();
        if let ToHandler::KeepAlive(keep) = event {
            self.keep_alive = keep;
        }
        self.streams.take(event);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum may grow; what is new does not concern us")]
    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Purpose>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { mut protocol, .. }) => {
                protocol.ignore_for_keep_alive();
                self.streams.accept(protocol, timer::now());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { mut protocol, info }) => {
                protocol.ignore_for_keep_alive();
                self.streams.opened(info, protocol, timer::now());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening_failed(info, &error);
            }
            ConnectionEvent::RemoteProtocolsChange(change) => self.protocols_changed(change),
            _ => {}
        }
    }
}
