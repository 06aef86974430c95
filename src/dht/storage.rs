//! Storage: the store, what of it outlives the process, and what of it ends when.
//!
//! Knows the store by its trait; what is in it is the affair of records and providing.

mod disk;

use libp2p_identity::PeerId;

use super::clocks::Jump;
use super::context::Context;
use super::io::InboundId;
use crate::event::QueryId;
use crate::message::Response;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, Record, RecordKey};
use crate::routing::{Entry, Table};
use crate::stats::{self, gauge};
use crate::store::{self, Progress, RecordStore, Source};
use crate::time::{Duration, FAR, Instant, SystemTime, after, earliest, wall_after};

use disk::{Disk, TRY_AGAIN};

/// So many peers of the table are saved (chosen, not measured).
const MAX_SAVED: usize = 64;

/// So long after a peer has entered the table its peers are saved (chosen, not measured).
const SAVE_AFTER: Duration = Duration::from_secs(1);

/// No more often than so (chosen, not measured).
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// How long it rests after it has dropped something: others have their turn (chosen, not measured).
const REST: Duration = Duration::from_millis(20);

/// The store of a node.
///
/// # What it decides
/// When the store is committed, who is told what survives a crash, when what has ended is dropped, and when the peers of the
/// table are saved.
///
/// # Inputs
/// [`commit_soon`](Self::commit_soon), [`ends`](Self::ends) and [`save_soon`](Self::save_soon) after changes;
/// [`on_progress`](Self::on_progress); [`clock_has_jumped`](Self::clock_has_jumped).
///
/// # Outputs
/// Answers, by the context; the keys that [`expire`](Self::expire) has dropped.
///
/// # What time does
/// Makes commits, ends and saving due.
///
/// # Bounds
/// Those of the store, and 1,024 answers that wait for the disk.
#[derive(Debug)]
pub(super) struct Storage<S> {
    pub(super) store: S,
    disk: Disk,
    expire_at: Option<Instant>,
    /// Whether there may be something of others that lasts too long, since the clock was set back.
    is_to_shorten: bool,
    /// When the peers of the table are saved, since others have entered.
    save_at: Option<Instant>,
    saved: Option<Instant>,
    counts: stats::Store,
}

impl<S: RecordStore> Storage<S> {
    /// Begins with a store as it was left, which may be ahead of the disk.
    pub(super) fn new(store: S) -> Self {
        let disk = Disk::new(store.progress());
        Self {
            store,
            disk,
            expire_at: None,
            is_to_shorten: false,
            save_at: None,
            saved: None,
            counts: stats::Store::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.disk.deadline(), self.expire_at, self.save_at].into_iter().fold(None, earliest)
    }

    /// Saves the peers of the table and commits what was changed, if that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, table: &Table) {
        // Saved first, so that one commit does for both.
        if self.save_at.is_some_and(|at| at <= now) {
            self.save(now, table);
        }
        if self.disk.is_due(now) {
            self.commit();
        }
    }

    /// Returns which changes of the store survive a crash, as far as that is known.
    pub(super) const fn progress(&self) -> Progress {
        self.disk.progress()
    }

    /// Returns the peers that were saved by an earlier run.
    pub(super) fn saved_peers(&self) -> impl Iterator<Item = PeerInfo> {
        let peers = self.store.load_peers().unwrap_or_else(|error| {
            tracing::warn!(%error, "the peers of the last time could not be loaded");
            Vec::new()
        });
        peers.into_iter().take(MAX_SAVED)
    }

    /// The table has changed: its peers are saved soon, but not too often.
    pub(super) fn save_soon(&mut self, now: Instant) {
        if !self.store.keeps_peers() {
            return;
        }
        let earliest = self.saved.map_or(now, |saved| after(saved, SAVE_EVERY));
        self.save_at.get_or_insert(after(now, SAVE_AFTER).max(earliest));
    }

    /// Saves some peers of the table, those first that have been there longest, of different IP groups: the next time the node joins
    /// through them.
    fn save(&mut self, now: Instant, table: &Table) {
        (self.save_at, self.saved) = (None, Some(now));
        let info =
            |entry: &Entry| PeerInfo { peer_id: entry.peer(), addrs: entry.addresses().clone().into_vec() };
        let peers: Vec<_> = table.longest().take(MAX_SAVED).map(info).collect();
        if let Err(error) = self.store.save_peers(&peers) {
            tracing::warn!(%error, "the peers of the table could not be saved");
        }
        self.commit_soon(now);
    }

    /// Sees to it that what was changed survives a crash.
    pub(super) fn commit_soon(&mut self, now: Instant) {
        self.disk.changed(now, self.store.written());
    }

    fn commit(&mut self) {
        self.disk.asked(self.store.written());
        self.store.commit();
    }

    /// Returns the latest change of the store, unless it is known to survive a crash.
    pub(super) fn unsafe_change(&self) -> Option<u64> {
        let change = self.store.written();
        Some(change).filter(|change| self.disk.progress().of(*change) != Some(true))
    }

    /// Returns whether no more answers may wait for the disk.
    pub(super) fn is_full(&self) -> bool {
        self.disk.is_full()
    }

    /// Answers a peer when the latest change survives a crash.
    pub(super) fn answer_when_safe(
        &mut self,
        now: Instant,
        to: PeerId,
        id: InboundId,
        response: Response,
        cx: &mut Context,
    ) {
        let change = self.unsafe_change();
        if self.disk.answer(now, change, (to, id), response, cx) {
            self.commit_soon(now);
            if self.disk.is_urgent(self.store.written()) {
                self.commit();
            }
        }
    }

    /// Has a query woken when a change survives a crash, or may not.
    pub(super) fn wake_when_safe(&mut self, now: Instant, change: Option<u64>, query: QueryId) {
        self.disk.wake(change, query);
        self.commit_soon(now);
    }

    /// The store has come further: the peers that have waited for it are answered, and queries `woken`.
    pub(super) fn on_progress(
        &mut self,
        now: Instant,
        progress: Progress,
        cx: &mut Context,
        woken: impl FnMut(QueryId),
    ) {
        self.disk.advanced(now, progress, cx, woken);
    }

    /// Stores a record of this node.
    ///
    /// # Errors
    /// Whatever the store says.
    pub(super) fn put(&mut self, wall: SystemTime, record: Record) -> store::Result<()> {
        self.store.put(wall, record).inspect_err(|_| self.counts.refused += 1)
    }

    /// Stores a record for another peer, and returns the keys of those that had to make way.
    ///
    /// # Errors
    /// Whatever the store says.
    pub(super) fn put_from(
        &mut self,
        wall: SystemTime,
        record: Record,
        source: Source,
    ) -> store::Result<Vec<RecordKey>> {
        let gone = self.store.put_from(wall, record, source).inspect_err(|_| self.counts.refused += 1)?;
        self.counts.evicted += gauge(gone.len());
        Ok(gone)
    }

    /// Stores what another peer says that it provides.
    ///
    /// # Errors
    /// Whatever the store says.
    pub(super) fn add_provider_from(
        &mut self,
        wall: SystemTime,
        record: ProviderRecord,
        source: Source,
    ) -> store::Result<()> {
        let added = self.store.add_provider_from(wall, record, source);
        added.inspect_err(|_| self.counts.provider_records_refused += 1)
    }

    /// Returns what the store holds and what has become of records so far.
    pub(super) fn stats(&self) -> stats::Store {
        let store::Usage { records, record_bytes, provider_records } = self.store.usage();
        stats::Store {
            records: gauge(records),
            record_bytes: gauge(record_bytes),
            provider_records: gauge(provider_records),
            ..self.counts.clone()
        }
    }

    /// Fills in how many answers have had to wait for the disk, for how long, and how many do.
    pub(super) fn count_held(&self, held: &mut stats::Held) {
        self.disk.count(held);
    }

    /// Returns whether a record of the store is this node's.
    pub(super) fn is_own(&self, record: &Record, local: &PeerId) -> bool {
        record.publisher.as_ref() == Some(local) || self.store.is_own(&record.key)
    }

    /// Sees to it that something is dropped when it ends.
    pub(super) fn ends(&mut self, now: Instant, end: Option<SystemTime>, cx: &Context) {
        let wall = cx.wall_at(now);
        let at = end.map(|end| after(now, end.duration_since(wall).unwrap_or_default()));
        self.expire_at = earliest(self.expire_at, at);
    }

    /// Other things have ended now; what lasts too long since the clock was set back is shortened.
    pub(super) const fn clock_has_jumped(&mut self, now: Instant, jump: Jump) {
        if let Jump::Back(_) = jump {
            self.is_to_shorten = true;
        }
        self.expire_at = Some(now);
    }

    /// Drops what has ended, and returns the keys of records that are gone.
    pub(super) fn expire(&mut self, now: Instant, cx: &Context) -> Vec<RecordKey> {
        if self.expire_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.expire_at = None;
        self.shorten(now, cx);
        let gone = match self.store.expire(cx.wall_at(now)) {
            Ok(store::Expired { gone, next }) => {
                self.ends(now, next, cx);
                // What was too much for one call follows.
                let more = self.is_to_shorten.then(|| after(now, REST));
                self.expire_at = earliest(self.expire_at, more);
                self.expire_at = self.expire_at.map(|at| at.max(after(now, REST)));
                self.counts.expired += gauge(gone.len());
                gone
            }
            Err(error) => {
                tracing::warn!(%error, "what has ended could not be dropped");
                self.expire_at = Some(after(now, TRY_AGAIN));
                Vec::new()
            }
        };
        self.commit_soon(now);
        gone
    }

    /// Lets nothing of others last longer than it would if it were stored now, if the clock was set back.
    fn shorten(&mut self, now: Instant, cx: &Context) {
        if !self.is_to_shorten {
            return;
        }
        // Where no end is given to records, none is known to be wrong.
        let providers = Some(cx.config.providers.provider_ttl).filter(|ttl| *ttl < FAR);
        let longest = cx.config.records.record_ttl.map(|ttl| ttl.max(providers.unwrap_or(ttl)));
        let latest = longest.map(|longest| wall_after(cx.wall_at(now), longest));
        let more = latest.map_or(Ok(false), |latest| self.store.shorten(latest));
        self.is_to_shorten = more.unwrap_or_else(|error| {
            tracing::warn!(%error, "what lasts too long could not be shortened");
            false
        });
    }
}
