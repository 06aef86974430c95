//! Advice: what is wrong with how the application has set up the node, as far as its failures show.
//!
//! Knows how queries have failed, and what has been heard from outside; knows no peers.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::mode::ModeMachine;
use crate::error::{Fates, QueryError, RequestError};
use crate::event::Mode;
use crate::time::{Duration, Instant, after};

/// A node with connections whose swarm tells nothing of who is there gets its line after this time. Identify tells within two
/// round trips of a connection, and a connection may take ten seconds to be set up. Chosen, not measured.
const IDENTIFY_AFTER: Duration = Duration::from_secs(30);

/// Decides when the application is told that something about its set-up keeps the node from working.
///
/// # What it decides
/// One `warn` line each, once, when a query of the application has failed since nobody that was asked speaks the protocol; or
/// while this node is a client by itself. One more, with an event, when there are connections but nothing in the swarm says who
/// is there.
///
/// # Inputs
/// Each failed query; that a connection was made; that another part of the swarm has said where a peer is, what it speaks, or
/// where this node can be reached.
///
/// # What time does
/// 30 s after a connection was made, with the table empty and nothing heard, identify is missing. With the first word of
/// anybody nothing is waited for any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Advice {
    told_of_protocol: bool,
    told_of_client: bool,
    /// Whether anything has said who is there, or this was told already.
    has_heard: bool,
    identify_at: Option<Instant>,
}

impl Advice {
    /// A connection was made.
    pub(super) fn connected(&mut self, now: Instant) {
        if !self.has_heard && self.identify_at.is_none() {
            self.identify_at = Some(after(now, IDENTIFY_AFTER));
        }
    }

    /// Something in the swarm tells who is there.
    pub(super) const fn heard(&mut self) {
        self.has_heard = true;
        self.identify_at = None;
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.identify_at
    }

    /// A query of the application has failed: says so if that shows that something is set up wrongly.
    pub(super) fn of_failure(
        &mut self,
        failure: Failure,
        mode: &ModeMachine,
        num_connected: impl FnOnce() -> usize,
        protocol: &Arc<str>,
    ) {
        // A node that is alone is no client for long: somebody must be there to whom it matters.
        let is_client = mode.is_automatic()
            && mode.mode() == Mode::Client
            && (failure == Failure::Unsupported || num_connected() > 0);
        let (of_protocol_too, of_client) = self.failed(&failure, is_client);
        if of_protocol_too {
            tracing::warn!("{}", of_protocol(protocol));
        }
        if of_client {
            tracing::warn!("{OF_CLIENT}");
        }
    }

    /// Returns how many peers are connected if the time is up by which another part of the swarm should have named them and
    /// none has; warns of it, once.
    pub(super) fn misses_identify(
        &mut self,
        now: Instant,
        num_connected: impl FnOnce() -> usize,
    ) -> Option<usize> {
        if !self.is_due(now) {
            return None;
        }
        let connected = num_connected();
        if connected == 0 {
            return None;
        }
        self.heard();
        tracing::warn!(connected, "{OF_IDENTIFY}");
        Some(connected)
    }

    /// Returns whether the time is up by which another part of the swarm should have said which peers are there.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.identify_at.is_some_and(|at| at <= now);
        if is_due {
            self.identify_at = None;
        }
        is_due
    }

    /// Returns what is to be told of a query that has failed: whether nobody speaks the protocol, and whether the node's own
    /// mode may be why.
    fn failed(&mut self, failure: &Failure, is_client: bool) -> (bool, bool) {
        let of_protocol =
            *failure == Failure::Unsupported && !std::mem::replace(&mut self.told_of_protocol, true);
        let of_client = is_client && !std::mem::replace(&mut self.told_of_client, true);
        (of_protocol, of_client)
    }
}

/// How a query has failed of which nobody that was asked has done what it was for, as far as the set-up may be why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody that was asked speaks the protocol.
    Unsupported,
    /// Nobody has answered, or nobody could be asked.
    Nobody,
}

impl Failure {
    /// Returns how a query has failed that nobody has answered.
    pub(super) fn of_fates(fates: &Fates) -> Self {
        Self::of_peers(&fates.failed, fates.pending)
    }

    /// Returns how a query has failed of which these have failed, and so many others are waited for.
    pub(super) fn of_peers(failed: &[(PeerId, RequestError)], pending: usize) -> Self {
        let is_unsupported = |(_, error): &(_, RequestError)| *error == RequestError::Unsupported;
        if pending == 0 && !failed.is_empty() && failed.iter().all(is_unsupported) {
            Self::Unsupported
        } else {
            Self::Nobody
        }
    }

    /// Returns how a query has failed that has ended for a reason that has nothing to do with what it asks, if the set-up may
    /// be why.
    pub(super) fn of_query(cause: Option<QueryError>) -> Option<Self> {
        (cause == Some(QueryError::NoKnownPeers)).then_some(Self::Nobody)
    }
}

/// What is said where nobody speaks the protocol.
pub(super) fn of_protocol(protocol: &Arc<str>) -> String {
    format!(
        "nobody that was asked speaks {protocol}: the others are clients, or have another name for the protocol; \
         call set_mode(Some(Mode::Server)) on those that can be dialled, and give all the same name"
    )
}

/// What is said to a client.
pub(super) const OF_CLIENT: &str = "a query has failed while this node is a Kademlia client, whom nobody asks or names to \
    others: call set_mode(Some(Mode::Server)) or confirm an external address if others can dial it";

/// What is said where nothing tells who is there.
pub(super) const OF_IDENTIFY: &str = "there are connections, but nothing in this swarm says who is there, what they speak or \
    where they are: add identify to the swarm, here and at the others, or name peers by add_address";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once() {
        let mut advice = Advice::default();
        assert_eq!(advice.failed(&Failure::Nobody, false), (false, false));
        assert_eq!(advice.failed(&Failure::Unsupported, true), (true, true));
        assert_eq!(advice.failed(&Failure::Unsupported, true), (false, false));
    }

    #[test]
    fn whoever_was_silent_may_speak_the_protocol() {
        let peer = PeerId::random();
        let (silent, other) = ((peer, RequestError::Timeout), (peer, RequestError::Unsupported));
        assert_eq!(Failure::of_peers(&[other, other], 0), Failure::Unsupported);
        assert_eq!(Failure::of_peers(&[other, silent], 0), Failure::Nobody);
        assert_eq!(Failure::of_peers(&[other], 1), Failure::Nobody);
        assert_eq!(Failure::of_peers(&[], 0), Failure::Nobody);
    }

    #[test]
    fn the_guide_has_what_is_said() {
        let guide = include_str!("../../docs/errors.md");
        for text in [OF_CLIENT, OF_IDENTIFY, &of_protocol(&"/my/kad/1.0.0".into())] {
            assert!(guide.contains(&format!("`{text}`")), "{text}");
        }
    }
}
