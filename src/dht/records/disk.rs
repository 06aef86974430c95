//! What outlives the process: commits of the store, and the peers through which to join the next time.
//!
//! Knows that a store may be on disk; what is in it is not its affair.

use crate::dht::io::Output;
use crate::dht::{Dht, RecordStore, TRY_AGAIN};
use crate::peer::PeerInfo;
use crate::routing::Entry;
use crate::time::{Duration, Instant, after};

/// How long an answer waits for the store to be committed, together with others.
const COMMIT_AFTER: Duration = Duration::from_millis(50);

/// So many peers of the table are saved.
pub(super) const MAX_SAVED: usize = 64;

/// So long after somebody has entered the table its peers are saved, and no more often than so.
const SAVE_AFTER: Duration = Duration::from_secs(1);
const SAVE_EVERY: Duration = Duration::from_secs(60);

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
    }

    /// Sees to it that what was changed survives a crash.
    pub(in crate::dht) fn commit_soon(&mut self, now: Instant) {
        if self.store.is_dirty() {
            self.records.commit_at.get_or_insert_with(|| after(now, COMMIT_AFTER));
        }
    }

    /// Makes what was changed survive a crash, and acknowledges it.
    pub(super) fn commit(&mut self, now: Instant) {
        self.records.commit_at = None;
        let committed = self.store.commit();
        if let Err(error) = &committed {
            tracing::warn!(%error, "the store could not be committed");
            self.records.commit_at = Some(after(now, TRY_AGAIN));
        }
        for (to, id, response) in self.records.uncommitted.drain(..) {
            self.outputs.push_back(match committed {
                Ok(()) => Output::SendResponse { to, id, response },
                Err(_) => Output::RefuseRequest { to, id },
            });
        }
    }
}
