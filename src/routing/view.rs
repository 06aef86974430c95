//! The routing table as `libp2p-kad` shows it: a bucket, occupied or not, and its entries.
//!
//! Knows buckets and entries; decides nothing. [`Bucket`] and [`Entry`] say more.

use std::marker::PhantomData;

use libp2p_identity::PeerId;

use super::bucket::{Bucket, Entry};
use crate::addrs::Addresses;
use crate::key::{BucketIndex, Distance, KBucketKey, Key};
use crate::peer::{ConnectionType, KadPeer};
use crate::rng::Rng;

/// A bucket of the routing table, occupied or not.
#[derive(Clone, Copy, Debug)]
pub struct KBucketRef<'a, K = KBucketKey<PeerId>, V = Addresses> {
    index: BucketIndex,
    bucket: Option<&'a Bucket>,
    shape: PhantomData<fn() -> (K, V)>,
}

impl<'a> KBucketRef<'a> {
    pub(crate) const fn new(index: BucketIndex, bucket: Option<&'a Bucket>) -> Self {
        Self { index, bucket, shape: PhantomData }
    }

    /// Returns the number of the bucket.
    pub const fn index(&self) -> BucketIndex {
        self.index
    }

    /// Returns the least and the greatest distance of the bucket, both included.
    pub fn range(&self) -> (Distance, Distance) {
        self.index.range()
    }

    /// Returns whether a key at this distance belongs here.
    pub fn contains(&self, distance: &Distance) -> bool {
        distance.bucket() == Some(self.index)
    }

    /// Returns a uniformly random distance at which a key belongs here.
    pub fn rand_distance(&self, rng: &mut Rng) -> Distance {
        self.index.random_distance(rng)
    }

    /// Returns whether no peer is in the bucket.
    pub fn is_empty(&self) -> bool {
        self.num_entries() == 0
    }

    /// Returns how many peers are in the bucket, those not counted that wait for a place.
    pub fn num_entries(&self) -> usize {
        self.entries().len()
    }

    /// Returns whether a peer waits for a place.
    pub fn has_pending(&self) -> bool {
        !self.replacements().is_empty()
    }

    /// Iterates over the peers in the bucket, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = EntryView<KBucketKey<PeerId>, &'a Addresses>> + use<'a> {
        self.entries().iter().map(|entry| EntryView {
            node: Node { key: KBucketKey::hashed(entry.peer(), *entry.key()), value: entry.addresses() },
            status: NodeStatus::of(entry),
        })
    }

    /// Returns the entries in no particular order.
    pub fn entries(&self) -> &'a [Entry] {
        self.bucket.map_or(&[], Bucket::entries)
    }

    /// Returns the replacement cache: the peers that wait for a place, those that wait longest first.
    pub fn replacements(&self) -> &'a [Entry] {
        self.bucket.map_or(&[], Bucket::replacements)
    }
}

/// An entry of the routing table, as it was when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<K, V> {
    /// The peer and its addresses.
    pub node: Node<K, V>,
    /// Whether there is a connection to it.
    pub status: NodeStatus,
}

/// A key, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<K, V> {
    /// The key.
    pub key: K,
    /// What is known of it.
    pub value: V,
}

impl EntryView<KBucketKey<PeerId>, Addresses> {
    pub(crate) fn of(entry: &Entry) -> Self {
        let node =
            Node { key: KBucketKey::hashed(entry.peer(), *entry.key()), value: entry.addresses().clone() };
        Self { node, status: NodeStatus::of(entry) }
    }
}

impl<K: Clone, V: Clone> EntryView<K, &V> {
    /// Returns the same with addresses of its own.
    pub fn to_owned(&self) -> EntryView<K, V> {
        let Node { key, value } = &self.node;
        EntryView { node: Node { key: key.clone(), value: V::clone(value) }, status: self.status }
    }
}

impl<K: AsRef<Key>, V> AsRef<Key> for EntryView<K, V> {
    fn as_ref(&self) -> &Key {
        self.node.key.as_ref()
    }
}

impl From<EntryView<KBucketKey<PeerId>, Addresses>> for KadPeer {
    fn from(entry: EntryView<KBucketKey<PeerId>, Addresses>) -> Self {
        let Node { key, value } = entry.node;
        let connection_ty = match entry.status {
            NodeStatus::Connected => ConnectionType::Connected,
            NodeStatus::Disconnected => ConnectionType::NotConnected,
        };
        Self { node_id: key.into_preimage(), multiaddrs: value, connection_ty }
    }
}

/// The status of a peer: whether there is a connection to it. Whether it still answers is another thing: see [`Entry::is_live`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStatus {
    /// There is.
    Connected,
    /// There is none.
    Disconnected,
}

impl NodeStatus {
    const fn of(entry: &Entry) -> Self {
        if entry.is_connected() { Self::Connected } else { Self::Disconnected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::TableConfig;
    use crate::routing::table::tests::Fixture;
    use crate::time::start;

    #[test]
    fn a_bucket_is_shown_whether_anybody_is_in_it_or_not() {
        let mut fixture = Fixture::new(TableConfig::default());
        for seed in 1..120 {
            fixture.add(start(), seed);
        }
        let (table, mut rng) = (&fixture.table, Rng::from_u64(1));
        let mut shown = 0;
        for index in (0..=255).map(BucketIndex::new) {
            let bucket = KBucketRef::new(index, table.buckets().find(|bucket| bucket.index() == index));
            assert_eq!(
                (bucket.num_entries() == 0, bucket.iter().count()),
                (bucket.is_empty(), bucket.num_entries())
            );
            assert!(bucket.contains(&bucket.rand_distance(&mut rng)) && !bucket.contains(&Distance::ZERO));
            assert_eq!(bucket.range(), index.range());
            assert_eq!(bucket.has_pending(), !bucket.replacements().is_empty());
            for entry in bucket.iter() {
                shown += 1;
                let owned = entry.to_owned();
                assert_eq!((&owned.node.value, owned.status), (entry.node.value, NodeStatus::Disconnected));
                let of_table = table.entry(entry.as_ref(), entry.node.key.preimage()).unwrap();
                assert_eq!(EntryView::of(of_table), owned);
            }
        }
        let full =
            table.buckets().last().map(|bucket| KBucketRef::new(bucket.index(), Some(bucket))).unwrap();
        assert!(full.has_pending() && full.num_entries() == 20);
        assert_eq!((shown, shown), (table.len(), table.entries().count()));
    }
}
