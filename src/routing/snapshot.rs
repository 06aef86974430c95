//! A picture of the routing table for diagnostics: plain data, made once, to be printed or drawn.

use std::fmt;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::table::Table;
use crate::key::{BucketIndex, Key};
use crate::time::{Duration, Instant};

/// The routing table at one moment.
///
/// [`Display`](fmt::Display) prints a table of it, one line for each peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSnapshot {
    /// The key of this node.
    pub local: Key,
    /// The occupied buckets, nearest first.
    pub buckets: Vec<BucketSnapshot>,
}

/// One bucket at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketSnapshot {
    /// Its number.
    pub index: BucketIndex,
    /// The peers in it, those that were silent longest first.
    pub entries: Vec<EntrySnapshot>,
    /// The peers that wait for a place.
    pub waiting: Vec<PeerId>,
}

/// One peer of the table at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntrySnapshot {
    /// The peer.
    pub peer: PeerId,
    /// Its addresses, the preferred one first.
    pub addresses: Vec<Multiaddr>,
    /// How long ago it gave a sign of life.
    pub silent_for: Duration,
    /// How many requests in a row have failed; it is named to others only at 0.
    pub failures: u8,
    /// Whether there is a connection.
    pub is_connected: bool,
}

impl TableSnapshot {
    pub(crate) fn of(now: Instant, table: &Table) -> Self {
        let buckets = table.buckets().map(|bucket| {
            let mut entries: Vec<_> = bucket
                .entries()
                .iter()
                .map(|e| EntrySnapshot {
                    peer: e.peer(),
                    addresses: e.addresses().clone().into_vec(),
                    silent_for: now.saturating_duration_since(e.last_seen()),
                    failures: e.failures(),
                    is_connected: e.is_connected(),
                })
                .collect();
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.silent_for));
            let waiting = bucket.replacements().iter().map(|entry| entry.peer()).collect();
            BucketSnapshot { index: bucket.index(), entries, waiting }
        });
        Self { local: *table.local(), buckets: buckets.collect() }
    }

    /// Returns the number of peers in the table, waiting ones not counted.
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.entries.len()).sum()
    }

    /// Returns whether no peer is in the table.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over the peers in the table, nearest bucket first.
    pub fn peers(&self) -> impl Iterator<Item = &EntrySnapshot> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }
}

impl fmt::Display for TableSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} peers in {} buckets", self.len(), self.buckets.len())?;
        for bucket in &self.buckets {
            writeln!(
                f,
                "bucket {:3}: {} peers, {} waiting",
                bucket.index.get(),
                bucket.entries.len(),
                bucket.waiting.len()
            )?;
            for entry in &bucket.entries {
                let state = match (entry.failures, entry.is_connected) {
                    (0, true) => "connected".to_owned(),
                    (0, false) => "live".to_owned(),
                    (failures, _) => format!("failed {failures}x"),
                };
                let silent = entry.silent_for.as_secs();
                write!(f, "  {}  {state:<10} silent {silent:>5} s ", entry.peer)?;
                entry.addresses.iter().try_for_each(|address| write!(f, " {address}"))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::TableConfig;
    use crate::routing::table::tests::Fixture;
    use crate::time::start;

    #[test]
    fn it_shows_every_peer() {
        let mut fixture = Fixture::new(TableConfig::default());
        for seed in 1..30 {
            fixture.add(start(), seed);
        }
        let later = start() + Duration::from_secs(7);
        let snapshot = TableSnapshot::of(later, &fixture.table);
        assert_eq!(snapshot.len(), fixture.table.len());
        assert!(snapshot.peers().all(|entry| entry.silent_for.as_secs() == 7 && entry.failures == 0));
        let text = snapshot.to_string();
        assert!(snapshot.peers().all(|entry| text.contains(&entry.peer.to_string())), "{text}");
        assert!(text.contains("silent     7 s  /memory/"), "{text}");
    }
}
