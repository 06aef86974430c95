//! What this node provides.
//!
//! Knows the keys, until when others hold the statement, and the addresses that were named; nothing of what others provide.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};

use libp2p_identity::PeerId;

use super::compact::PackedKey;
use super::providers::kept_addresses;
use super::{Error, Result};
use crate::addrs::Addresses;
use crate::record::{ProviderRecord, RecordKey};
use crate::time::SystemTime;

/// A statement of this node.
#[derive(Clone, Debug)]
struct Own {
    expires: Option<SystemTime>,
    addresses: Addresses,
}

impl Own {
    fn record(&self, key: RecordKey, provider: PeerId) -> ProviderRecord {
        ProviderRecord { key, provider, expires: self.expires, addresses: self.addresses.clone().into_vec() }
    }
}

/// Puts what this node provides itself before what others do.
pub(super) fn first<T>(own: Option<T>, mut others: Vec<T>) -> Vec<T> {
    if let Some(own) = own {
        others.insert(0, own);
    }
    others
}

/// The statements of this node; they end only when they are removed.
///
/// # Bounds
/// `max_keys`, some 120 bytes for each with a key of up to 38 bytes. Addresses are kept once while they do not change. Nothing
/// is kept in one piece that grows with the whole.
#[derive(Debug)]
pub(super) struct Provided {
    local: PeerId,
    max_keys: usize,
    keys: BTreeMap<PackedKey, Own>,
    /// The addresses that were named last.
    addresses: Addresses,
}

impl Provided {
    pub(super) fn new(local: PeerId, max_keys: usize) -> Self {
        Self { local, max_keys, keys: BTreeMap::new(), addresses: Addresses::empty() }
    }

    /// Takes a statement in, in place of an earlier one of its key.
    ///
    /// # Errors
    /// [`Error::MaxProvidedKeys`]; then nothing has changed.
    pub(super) fn add(&mut self, record: &ProviderRecord) -> Result<()> {
        let key = PackedKey::new(record.key.as_ref());
        if self.keys.len() >= self.max_keys && !self.keys.contains_key(&key) {
            return Err(Error::MaxProvidedKeys { most: self.max_keys });
        }
        let addresses = kept_addresses(&self.local, record.addresses.iter().cloned());
        self.addresses = addresses.shared_with(&self.addresses);
        self.keys.insert(key, Own { expires: record.expires, addresses: self.addresses.clone() });
        Ok(())
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<ProviderRecord> {
        let own = self.keys.get(&PackedKey::new(key.as_ref()));
        own.map(|own| own.record(key.clone(), self.local))
    }

    /// Returns this node and its addresses, which are shared, if it provides a key.
    pub(super) fn addresses(&self, key: &RecordKey) -> Option<(PeerId, Addresses)> {
        let own = self.keys.get(&PackedKey::new(key.as_ref()));
        own.map(|own| (self.local, own.addresses.clone()))
    }

    /// Removes the statement about a key, and returns whether there was one.
    pub(super) fn remove(&mut self, key: &RecordKey) -> bool {
        self.keys.remove(&PackedKey::new(key.as_ref())).is_some()
    }

    pub(super) fn iter(&self) -> Iter<'_> {
        Iter { local: self.local, keys: self.keys.iter() }
    }
}

/// Iterates over the statements of a node, which are unpacked one by one.
#[derive(Debug)]
pub struct Iter<'a> {
    local: PeerId,
    keys: btree_map::Iter<'a, PackedKey, Own>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Cow<'a, ProviderRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, own) = self.keys.next()?;
        Some(Cow::Owned(own.record(RecordKey::from(key.as_bytes()), self.local)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.keys.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_statement_is_returned_as_it_was_and_its_addresses_are_kept_once() {
        let local =
            PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &[1; 32]).unwrap()).unwrap();
        let mut provided = Provided::new(local, 3);
        let addresses = vec!["/ip4/1.2.3.4/tcp/1".parse().unwrap()];
        let record = |key: &'static str| ProviderRecord {
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1)),
            ..ProviderRecord::new(key, local, addresses.clone())
        };
        for key in ["one", "two", "three", "one"] {
            provided.add(&record(key)).unwrap();
        }
        assert_eq!(provided.get(&"two".into()), Some(record("two")));
        let mut lists = provided.keys.values().map(|own| own.addresses.iter().as_slice().as_ptr());
        let first = lists.next().unwrap();
        assert!(lists.all(|list| list == first));
        assert!(matches!(provided.add(&record("four")), Err(Error::MaxProvidedKeys { most: 3 })));
        assert_eq!(provided.iter().len(), 3);
        assert!(provided.remove(&"two".into()) && !provided.remove(&"two".into()));
        provided.add(&record("four")).unwrap();
        let mut all: Vec<_> = provided.iter().map(|record| record.key.to_vec()).collect();
        all.sort();
        assert_eq!(all, [&b"four"[..], b"one", b"three"]);
    }
}
