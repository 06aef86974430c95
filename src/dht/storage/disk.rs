//! What outlives the process: when the store is committed, and what is told only then.
//!
//! Knows that a store may be on disk, and how far it has come; what is in it is not its affair.

use std::collections::VecDeque;

use libp2p_identity::PeerId;

use crate::dht::context::Context;
use crate::dht::io::InboundId;
use crate::event::QueryId;
use crate::message::{MessageType, Response};
use crate::stats::{self, Histogram, gauge};
use crate::store::Progress;
use crate::time::{Duration, Instant, after, earliest};

/// How long what was changed waits for a commit, together with what is changed meanwhile (chosen, not measured).
const COMMIT_AFTER: Duration = Duration::from_millis(50);

/// What could not be written or dropped is tried again after this time (chosen, not measured).
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(30);

/// After a commit has failed it is tried again so soon if an answer or a query waits for it (chosen, not measured).
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// When so many answers wait for the disk, the commit is at once (chosen, not measured).
const COMMIT_AT: usize = 256;

/// So many answers wait for the disk at most; what is put beyond is refused (chosen, not measured).
const MAX_AWAITING: usize = 1024;

/// A peer or a query that waits for the disk.
#[derive(Debug)]
enum Awaiting {
    /// A peer, whose request stored a record, and since when it waits.
    Peer(PeerId, InboundId, Box<Response>, Instant),
    /// A query that has stored a record here.
    Query(QueryId),
}

/// What is known of the disk.
///
/// # What it decides
/// When the store is committed, and who is told what survives a crash.
///
/// # States
/// ```text
/// changed --at most 50 ms--> commit asked for --the store has advanced--> told: acknowledged, or refused
/// ```
///
/// # What time does
/// A commit is due soon after a change; after one that could not be written in a second if an answer or a query waits, or else
/// after a while.
///
/// # Bounds
/// 1,024 answers, and the queries there are.
///
/// # Invariants
/// Nothing is known of the disk but what was told: that the store has come further is an input.
#[derive(Debug)]
pub(super) struct Disk {
    progress: Progress,
    /// The latest change for which a commit was asked.
    asked: u64,
    commit_at: Option<Instant>,
    /// By the change for which they wait, which never decreases.
    waiting: VecDeque<(u64, Awaiting)>,
    /// How many answers have had to wait.
    held: u64,
    /// How long those took that wait no more.
    latency: Box<Histogram<Duration>>,
}

impl Disk {
    /// Begins where the store is when the node begins.
    pub(super) fn new(progress: Progress) -> Self {
        Self {
            progress,
            asked: progress.durable,
            commit_at: None,
            waiting: VecDeque::new(),
            held: 0,
            latency: Box::default(),
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.commit_at
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.commit_at.is_some_and(|at| at <= now)
    }

    /// Returns how long a change waits for a commit.
    fn pause(&self) -> Duration {
        if self.progress.tried <= self.progress.durable {
            COMMIT_AFTER
        } else if self.waiting.is_empty() {
            TRY_AGAIN
        } else {
            AGAIN_AFTER
        }
    }

    /// The store has made changes up to this one.
    pub(super) fn changed(&mut self, now: Instant, written: u64) {
        if written > self.asked {
            self.commit_at = earliest(self.commit_at, Some(after(now, self.pause())));
        }
    }

    /// A commit of the changes up to this one is asked for.
    pub(super) const fn asked(&mut self, written: u64) {
        (self.commit_at, self.asked) = (None, written);
    }

    /// Returns whether nobody more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_AWAITING
    }

    /// Returns whether so many wait that a commit of the changes up to this one is not put off.
    pub(super) fn is_urgent(&self, written: u64) -> bool {
        self.waiting.len() >= COMMIT_AT && written > self.asked
    }

    /// Returns which changes survive a crash, as far as that is known.
    pub(super) const fn progress(&self) -> Progress {
        self.progress
    }

    /// Answers a peer at once, or when a change survives a crash if one is to. Returns whether the answer waits.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        change: Option<u64>,
        (to, id): (PeerId, InboundId),
        response: Response,
        cx: &mut Context,
    ) -> bool {
        match change {
            None => cx.respond(to, id, response),
            Some(change) => {
                self.held += 1;
                self.waiting.push_back((change, Awaiting::Peer(to, id, Box::new(response), now)));
            }
        }
        change.is_some()
    }

    /// Fills in how many answers have had to wait, for how long, and how many do.
    pub(super) fn count(&self, held: &mut stats::Held) {
        let is_answer = |(_, awaiting): &&(u64, Awaiting)| matches!(awaiting, Awaiting::Peer(..));
        held.disk = self.held;
        held.disk_waiting = gauge(self.waiting.iter().filter(is_answer).count());
        held.disk_latency = (*self.latency).clone();
    }

    /// Has a query woken when a change survives a crash, or may not.
    pub(super) fn wake(&mut self, change: Option<u64>, query: QueryId) {
        self.waiting.extend(change.map(|change| (change, Awaiting::Query(query))));
    }

    /// The store has come further: the peers and queries that have waited for it are told.
    pub(super) fn advanced(
        &mut self,
        now: Instant,
        progress: Progress,
        cx: &mut Context,
        mut woken: impl FnMut(QueryId),
    ) {
        self.progress.durable = self.progress.durable.max(progress.durable);
        self.progress.tried = self.progress.tried.max(progress.tried).max(self.progress.durable);
        while let Some(is_safe) = self.waiting.front().and_then(|(change, _)| self.progress.of(*change)) {
            match self.waiting.pop_front() {
                Some((_, Awaiting::Peer(to, id, response, since))) => {
                    self.latency.observe(now.saturating_duration_since(since));
                    if is_safe {
                        cx.respond(to, id, *response);
                    } else {
                        // Only what stores a record waits.
                        cx.refuse(to, id, MessageType::PutValue);
                    }
                }
                Some((_, Awaiting::Query(id))) => woken(id),
                None => {}
            }
        }
        if self.progress.tried > self.progress.durable {
            self.asked = self.asked.min(self.progress.durable);
            self.commit_at = Some(after(now, self.pause()));
        }
    }
}
