//! What is remembered of one peer.

use super::connections::Connections;
use super::outcome::Urgency;
use super::queue::Queue;
use super::trouble::Trouble;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::{Addresses, Groups, Reach};
use crate::error::RequestError;
use crate::failures::Failures;
use crate::query::rtt::{Era, Rtt};
use crate::time::{Duration, Instant, Second};

/// After a first failure a peer is left alone for so long, which doubles with each further one, and for how long at most
/// (chosen, not measured).
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// How many requests wait for one peer; one more fails at once (chosen, not measured).
const MAX_WAITING: usize = 1024;

/// A peer that was not heard of for so long is forgotten, and its answer no longer counts as recent
/// (`go-libp2p-kad-dht` serves addresses of providers for 24 h).
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// How this node is linked to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Link {
    Idle,
    /// Waits for a slot to be dialled in.
    Queued,
    Dialling,
    /// Another part of the program dials it.
    Awaiting,
    Connected,
}

/// What is known of a peer's support for the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Protocol {
    Unknown,
    Confirmed,
    /// Another source says that it is not supported; the peer itself has not been asked since.
    Doubted,
    /// Negotiation has shown that it is not supported.
    Unsupported,
    /// It was not supported on the last connection, or doubted; what the next one says is news.
    Lapsed,
}

/// What is remembered of one peer.
#[derive(Debug)]
pub(in crate::dht) struct Known {
    /// Where the peer is, as the peer itself, the application or a connection has shown. Only these are handed on.
    pub(in crate::dht) addresses: Addresses,
    /// Those of them at which this node has met it, the latest first, and those that the application has named.
    pub(super) trusted: Addresses,
    /// Whether the first of those has ever worked.
    pub(super) worked: bool,
    /// Where others say that it is: good for dialling, and for nothing else.
    pub(in crate::dht) hints: Addresses,
    pub(in crate::dht) link: Link,
    pub(in crate::dht) protocol: Protocol,
    /// Whether the latest connection has brought no answer yet.
    pub(super) is_fresh: bool,
    /// Of the latest connection.
    pub(in crate::dht) reach: Reach,
    /// Of the latest connection.
    pub(in crate::dht) groups: Groups,
    pub(in crate::dht) rtt: Rtt,
    /// Whether it claims to be somewhere that no connection of it proves.
    pub(super) has_claims: bool,
    /// Those that were made known to other parts of the program, or came from there.
    pub(in crate::dht) announced: Addresses,
    /// Whether the application wants it in the table, where that is decided by hand.
    pub(in crate::dht) is_wanted: bool,
    /// Whether the application was told why the peer is not in the table.
    pub(in crate::dht) reported: bool,
    pub(super) connections: Connections,
    pub(super) queue: Queue,
    /// Few fail, so they have a place of their own.
    pub(super) failures: Option<Box<Failures>>,
    pub(super) trouble: Option<Box<Trouble>>,
    pub(super) heard: Second,
    /// When an address was learnt that may be given to a requester that searches the peer.
    learnt: Option<Second>,
    answered: Option<Second>,
}

impl Known {
    pub(super) fn new(now: Second) -> Self {
        Self {
            addresses: Addresses::empty(),
            trusted: Addresses::empty(),
            worked: false,
            hints: Addresses::empty(),
            link: Link::Idle,
            protocol: Protocol::Unknown,
            is_fresh: false,
            reach: Reach::World,
            groups: Groups::default(),
            rtt: Rtt::default(),
            has_claims: false,
            announced: Addresses::empty(),
            is_wanted: false,
            reported: false,
            connections: Connections::default(),
            queue: Queue::default(),
            failures: None,
            trouble: None,
            heard: now,
            learnt: None,
            answered: None,
        }
    }

    pub(in crate::dht) const fn is_connected(&self) -> bool {
        matches!(self.link, Link::Connected)
    }

    /// Returns where to dial the peer: proven addresses first, then those that others name.
    pub(in crate::dht) fn dialable(&self) -> Addresses {
        self.addresses.joined(&self.hints)
    }

    /// An address was learnt just now, from more than hearsay, or has been confirmed.
    pub(in crate::dht) const fn learnt(&mut self) {
        self.learnt = Some(self.heard);
    }

    /// Returns where the peer was within the last 24 hours.
    pub(super) fn remembered(&self, now: Second) -> Addresses {
        let is_recent = self.learnt.is_some_and(|at| now.since(at) < REMEMBERED);
        if is_recent { self.dialable() } else { Addresses::empty() }
    }

    /// Sorts an address that the peer claims while it is connected: those that a connection of it proves are handed on, and all that
    /// it claims if it `is_believed`; others are good for dialling only. `is_relay` tells the relays that this node is connected to.
    pub(in crate::dht) fn claimed(
        &mut self,
        address: &Multiaddr,
        is_believed: bool,
        is_relay: impl Fn(&PeerId) -> bool,
    ) {
        if Reach::of(address) < self.reach && self.reach != Reach::Special {
            // Whoever is connected from farther away is not to be sought within this machine or site.
            return;
        }
        let is_proven = || self.connections.origins().any(|origin| origin.proves(address, &is_relay));
        if is_believed || is_proven() || self.addresses.iter().any(|known| known == address) {
            self.addresses = self.addresses.with_reported(address.clone());
        } else {
            self.hints = self.hints.with_reported(address.clone());
            self.has_claims = true;
        }
    }

    /// Returns whether the peer claims addresses of which none was tried in vain, and nothing is known of where it is but that:
    /// where it has an address for those who come in and another for what goes out, its connection proves nothing.
    pub(super) fn is_unproven(&self) -> bool {
        let has_failed = self.trouble.as_ref().is_some_and(|trouble| !trouble.failed.is_empty());
        self.is_connected() && self.addresses.is_empty() && self.has_claims && !has_failed
    }

    /// Takes note of addresses that the program knows. Returns those that it did not know.
    pub(in crate::dht) fn made_known(&mut self, addresses: &Addresses) -> Addresses {
        let before = self.announced.len();
        let all = self.announced.joined(addresses);
        let new = Addresses::empty().merged(all.iter().skip(before).cloned());
        let is_same = |other: &Addresses| {
            all.len() == other.len() && all.iter().all(|one| other.iter().any(|known| known == one))
        };
        self.announced =
            [&self.addresses, &self.hints].into_iter().find(|other| is_same(other)).unwrap_or(&all).clone();
        new
    }

    /// Returns whether the peer is a server, as far as this node has seen itself, and has not failed since.
    pub(super) fn is_server(&self, now: Second) -> bool {
        self.has_answered_lately(now) && self.protocol == Protocol::Confirmed && self.failures.is_none()
    }

    /// Forgets an address, whichever source named it.
    pub(in crate::dht) fn forget_address(&mut self, address: &Multiaddr) {
        self.addresses = self.addresses.without(address);
        if self.trusted.first() == Some(address) {
            self.worked = false;
        }
        self.trusted = self.trusted.without(address);
        self.hints = self.hints.without(address);
    }

    /// Returns whether the peer has answered this node within the last 24 hours.
    pub(super) fn has_answered_lately(&self, now: Second) -> bool {
        self.answered.is_some_and(|at| now.since(at) < REMEMBERED)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.link == Link::Idle && self.queue.is_empty()
    }

    pub(super) fn is_forgotten(&self, now: Second) -> bool {
        now.since(self.heard) >= REMEMBERED
    }

    /// Returns whether the peer is left alone, for it failed lately; `last_answer` is when any peer has answered.
    pub(super) fn is_backed_off(&self, now: Instant, last_answer: Option<Instant>) -> bool {
        self.failures.as_ref().is_some_and(|failures| failures.pause(BACKOFF, last_answer) > now)
    }

    /// Returns why a request is not even tried; `last_answer` is when any peer has answered.
    pub(super) fn refusal(
        &self,
        now: Instant,
        last_answer: Option<Instant>,
        urgency: Urgency,
    ) -> Option<RequestError> {
        if self.protocol == Protocol::Unsupported {
            Some(RequestError::Unsupported)
        } else if urgency == Urgency::Patient
            && (self.is_backed_off(now, last_answer) || self.is_blocked(now))
        {
            Some(RequestError::BackedOff)
        } else if self.queue.waiting() >= MAX_WAITING {
            Some(RequestError::Overloaded)
        } else {
            None
        }
    }

    pub(super) const fn heard_of(&mut self, now: Second) {
        self.heard = now;
    }

    pub(super) fn answered(&mut self, now: Second, rtt: Duration, era: Era) {
        self.heard = now;
        self.answered = Some(now);
        self.is_fresh = false;
        self.failures = None;
        self.queue.answered();
        if self.protocol != Protocol::Unsupported {
            self.protocol = Protocol::Confirmed;
        }
        self.rtt.record(rtt, era);
    }

    /// Leaves the peer alone for longer than last time; several failures at once count once.
    pub(super) fn failed(&mut self, now: Instant, last_answer: Option<Instant>) {
        if !self.is_backed_off(now, last_answer) {
            Failures::count(&mut self.failures, now, last_answer);
        }
    }
}
