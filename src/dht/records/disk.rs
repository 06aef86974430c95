//! What outlives the process: when the store is committed, what is told only then, and the peers through which to join the
//! next time.
//!
//! Knows that a store may be on disk, and how far it has come; what is in it is not its affair.

use std::collections::VecDeque;

use libp2p_identity::PeerId;

use crate::dht::io::{InboundId, Output};
use crate::dht::{Dht, RecordStore, TRY_AGAIN};
use crate::event::QueryId;
use crate::message::Response;
use crate::peer::PeerInfo;
use crate::routing::Entry;
use crate::store::Progress;
use crate::time::{Duration, Instant, after, earliest};

/// How long what was changed waits for a commit, together with what is changed meanwhile.
const COMMIT_AFTER: Duration = Duration::from_millis(50);

/// After a commit has failed it is tried again so soon if somebody waits for it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// When so many answers wait for the disk, the commit is at once.
const COMMIT_AT: usize = 256;

/// So many answers wait for the disk at most; what is put beyond is refused.
const MAX_AWAITING: usize = 1024;

/// So many peers of the table are saved.
pub(super) const MAX_SAVED: usize = 64;

/// So long after somebody has entered the table its peers are saved, and no more often than so.
const SAVE_AFTER: Duration = Duration::from_secs(1);
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Who waits for the disk.
#[derive(Debug)]
enum Awaiting {
    /// A peer, whose request stored a record.
    Peer(PeerId, InboundId, Box<Response>),
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
/// A commit is due soon after a change; after one that could not be written in a second if somebody waits, or else after a
/// while.
///
/// # Bounds
/// 1,024 answers, and the queries there are.
///
/// # Invariants
/// Nothing is known of the disk but what was told: that the store has come further is an input.
#[derive(Debug, Default)]
pub(in crate::dht) struct Disk {
    progress: Progress,
    /// The latest change for which a commit was asked.
    asked: u64,
    commit_at: Option<Instant>,
    /// By the change for which they wait, which never decreases.
    waiting: VecDeque<(u64, Awaiting)>,
}

impl Disk {
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

    /// Returns whether nobody more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_AWAITING
    }

    /// Returns which changes survive a crash, as far as that is known.
    pub(in crate::dht) const fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl<S: RecordStore> Dht<S> {
    /// The table has changed: its peers are saved soon, but not too often.
    pub(in crate::dht) fn save_soon(&mut self, now: Instant) {
        if !self.store.keeps_peers() {
            return;
        }
        let earliest = self.records.saved.map_or(now, |saved| after(saved, SAVE_EVERY));
        self.records.save_at.get_or_insert(after(now, SAVE_AFTER).max(earliest));
    }

    /// Saves some peers of the table, the closest first, through which to join the next time.
    pub(super) fn save(&mut self, now: Instant) {
        (self.records.save_at, self.records.saved) = (None, Some(now));
        let closest = self.table.closest(&self.local.key).filter(|entry| entry.is_live());
        let info =
            |entry: &Entry| PeerInfo { peer_id: entry.peer(), addrs: entry.addresses().clone().into_vec() };
        let peers: Vec<_> = closest.take(MAX_SAVED).map(info).collect();
        if let Err(error) = self.store.save_peers(&peers) {
            tracing::warn!(%error, "the peers of the table could not be saved");
        }
        self.commit_soon(now);
    }

    /// Sees to it that what was changed survives a crash.
    pub(in crate::dht) fn commit_soon(&mut self, now: Instant) {
        let disk = &mut self.records.disk;
        if self.store.written() > disk.asked {
            disk.commit_at = earliest(disk.commit_at, Some(after(now, disk.pause())));
        }
    }

    /// Begins to make what was changed survive a crash.
    pub(super) fn commit(&mut self) {
        self.records.disk.commit_at = None;
        self.records.disk.asked = self.store.written();
        self.store.commit();
    }

    /// Takes note of how far the store was when the node began.
    pub(super) fn disk_found(&mut self, now: Instant) {
        let progress = self.store.progress();
        self.records.disk.progress = progress;
        self.records.disk.asked = progress.durable;
        self.commit_soon(now);
    }

    /// Returns the latest change of the store, unless it is known to survive a crash.
    pub(super) fn unsafe_change(&self) -> Option<u64> {
        let change = self.store.written();
        Some(change).filter(|change| self.records.disk.progress.of(*change) != Some(true))
    }

    /// Answers a peer when the latest change survives a crash.
    pub(super) fn answer_when_safe(&mut self, now: Instant, to: PeerId, id: InboundId, response: Response) {
        let Some(change) = self.unsafe_change() else {
            self.outputs.push_back(Output::SendResponse { to, id, response });
            return;
        };
        self.records.disk.waiting.push_back((change, Awaiting::Peer(to, id, Box::new(response))));
        self.commit_soon(now);
        if self.records.disk.waiting.len() >= COMMIT_AT && self.store.written() > self.records.disk.asked {
            self.commit();
        }
    }

    /// Wakes a query when a change survives a crash, or may not.
    pub(super) fn wake_when_safe(&mut self, now: Instant, change: Option<u64>, query: QueryId) {
        self.records.disk.waiting.extend(change.map(|change| (change, Awaiting::Query(query))));
        self.commit_soon(now);
    }

    /// The store has come further: those who have waited for it are told.
    pub(in crate::dht) fn store_advanced(&mut self, now: Instant, progress: Progress) {
        let disk = &mut self.records.disk;
        disk.progress.durable = disk.progress.durable.max(progress.durable);
        disk.progress.tried = disk.progress.tried.max(progress.tried).max(disk.progress.durable);
        while let Some(is_safe) = disk.waiting.front().and_then(|(change, _)| disk.progress.of(*change)) {
            match disk.waiting.pop_front() {
                Some((_, Awaiting::Peer(to, id, response))) => self.outputs.push_back(if is_safe {
                    Output::SendResponse { to, id, response: *response }
                } else {
                    Output::RefuseRequest { to, id }
                }),
                Some((_, Awaiting::Query(id))) => self.queries.wake(id),
                None => {}
            }
        }
        if disk.progress.tried > disk.progress.durable {
            disk.asked = disk.asked.min(disk.progress.durable);
            disk.commit_at = Some(after(now, disk.pause()));
        }
    }
}
