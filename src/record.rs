//! Records as plain data: keys, values, publishers, expiry by the wall clock.
//!
//! Knows nothing of stores, validators or messages.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;

use crate::key::{KBucketKey, Key, KeyHash, Preimage};
use crate::time::SystemTime;

/// The name of a record or of a provided content: any bytes. A clone shares them.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Bytes);

impl RecordKey {
    /// Copies the bytes of the input.
    pub fn new<K: AsRef<[u8]>>(key: &K) -> Self {
        Self(Bytes::copy_from_slice(key.as_ref()))
    }

    /// Copies the bytes of the key into a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Returns the bytes of the key, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Borrow<[u8]> for RecordKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RecordKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for RecordKey {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for RecordKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for RecordKey {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for RecordKey {
    fn from(bytes: &[u8; N]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<&str> for RecordKey {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for RecordKey {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Preimage for RecordKey {
    fn key_by(&self, hash: KeyHash) -> Key {
        hash(self.as_ref())
    }
}

impl From<RecordKey> for KBucketKey<RecordKey> {
    fn from(key: RecordKey) -> Self {
        Self::new(key)
    }
}

impl<const S: usize> From<Multihash<S>> for RecordKey {
    fn from(multihash: Multihash<S>) -> Self {
        Self::from(multihash.to_bytes())
    }
}

/// A value stored in the DHT under a key.
///
/// Differs from `libp2p-kad`'s type of this name: the value is shared [`Bytes`], and expiry is a wall-clock time, so
/// that a record outlives the process that stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: RecordKey,
    /// The value.
    pub value: Bytes,
    /// The peer that published the record first, as far as any peer said; of one that came to its holder without, the sender.
    pub publisher: Option<PeerId>,
    /// When the record ends; `None` means that nobody set an end.
    pub expires: Option<SystemTime>,
}

impl Record {
    /// Makes a record without a publisher or an end.
    pub fn new(key: impl Into<RecordKey>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), publisher: None, expires: None }
    }

    /// Returns whether the record has ended at `wall`.
    pub fn is_expired(&self, wall: SystemTime) -> bool {
        self.expires.is_some_and(|end| wall >= end)
    }
}

/// A record, and the peer that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// The peer; `None` if it is this node.
    pub peer: Option<PeerId>,
    /// The record.
    pub record: Record,
}

/// A quorum: how many peers must agree, or have stored what was to be stored.
///
/// Of a put it is counted among those to which the record was sent, `k` or as many as there are; of a get, among those that have
/// answered, this node's own copy included, and at most the replication factor. Where fewer have answered than were to be asked,
/// the result has a [`Shortage`](crate::Shortage). Differs from `libp2p-kad`, where a majority is always that of `k`, so that
/// small networks never reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// One.
    One,
    /// More than half.
    Majority,
    /// All.
    All,
    /// So many, or all if there are fewer.
    N(NonZeroUsize),
}

impl Quorum {
    /// Returns how many that is among `total`: at least one, so that nobody is never enough.
    pub fn of(self, total: usize) -> NonZeroUsize {
        let wanted = match self {
            Self::One => 1,
            Self::Majority => total / 2 + 1,
            Self::All => total,
            Self::N(n) => n.get().min(total),
        };
        NonZeroUsize::new(wanted).unwrap_or(NonZeroUsize::MIN)
    }
}

/// The statement that a peer provides the content of a key.
///
/// Two are equal if they say the same of the same: by key and provider, whatever their end and addresses.
#[derive(Clone, Debug)]
pub struct ProviderRecord {
    /// The key of the content.
    pub key: RecordKey,
    /// The provider.
    pub provider: PeerId,
    /// When the statement ends; `None` means that nobody set an end.
    pub expires: Option<SystemTime>,
    /// Where the provider can be reached; may be empty.
    pub addresses: Vec<Multiaddr>,
}

impl PartialEq for ProviderRecord {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.provider) == (&other.key, &other.provider)
    }
}

impl Eq for ProviderRecord {}

impl Hash for ProviderRecord {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.key, &self.provider).hash(state);
    }
}

impl ProviderRecord {
    /// Makes a provider record without an end.
    pub fn new(key: impl Into<RecordKey>, provider: PeerId, addresses: Vec<Multiaddr>) -> Self {
        Self { key: key.into(), provider, expires: None, addresses }
    }

    /// Returns whether the statement has ended at `wall`.
    pub fn is_expired(&self, wall: SystemTime) -> bool {
        self.expires.is_some_and(|end| wall >= end)
    }
}

/// Provider records with all that they say, to be compared: they are equal by key and provider alone.
#[cfg(test)]
pub(crate) fn whole<'a>(
    records: impl IntoIterator<Item = &'a ProviderRecord>,
) -> Vec<(ProviderRecord, Option<SystemTime>, Vec<Multiaddr>)> {
    let all = |record: &ProviderRecord| (record.clone(), record.expires, record.addresses.clone());
    records.into_iter().map(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_record_ends_by_the_wall_clock() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        let mut record = Record::new(b"k".to_vec(), b"v".to_vec());
        assert!(!record.is_expired(end));
        record.expires = Some(end);
        assert!(!record.is_expired(end - Duration::from_millis(1)));
        assert!(record.is_expired(end));
    }

    #[test]
    fn a_quorum_is_counted_among_those_there_are() {
        let three = Quorum::N(NonZeroUsize::new(3).unwrap());
        let of =
            |total| [Quorum::One, Quorum::Majority, Quorum::All, three].map(|quorum| quorum.of(total).get());
        assert_eq!(of(20), [1, 11, 20, 3]);
        assert_eq!(of(5), [1, 3, 5, 3]);
        assert_eq!(of(2), [1, 2, 2, 2]);
        assert_eq!(of(1), [1, 1, 1, 1]);
        assert_eq!(of(0), [1, 1, 1, 1]);
    }

    #[test]
    fn a_provider_record_is_known_by_its_key_and_provider() {
        use std::collections::HashSet;
        let (one, other) = (PeerId::random(), PeerId::random());
        let record = ProviderRecord::new("key", one, Vec::new());
        let ended = ProviderRecord {
            expires: Some(SystemTime::UNIX_EPOCH),
            addresses: vec!["/memory/1".parse().unwrap()],
            ..record.clone()
        };
        assert_eq!(record, ended);
        assert_ne!(record, ProviderRecord { provider: other, ..record.clone() });
        assert_ne!(record, ProviderRecord { key: "other".into(), ..record.clone() });
        assert_eq!(HashSet::from([record, ended]).len(), 1);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_key_is_serialized_as_its_bytes() {
        let key = RecordKey::from("key");
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(text, "[107,101,121]");
        assert_eq!(serde_json::from_str::<RecordKey>(&text).unwrap(), key);
    }
}
