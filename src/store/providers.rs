//! Who provides what: a compact index of keys and providers.
//!
//! Knows keys, peers and wall-clock times; neither values nor who may announce what.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::{Error, Result};
use crate::addrs::Addresses;
use crate::peer::PackedPeerId;
use crate::record::{ProviderRecord, RecordKey};
use crate::time::{Duration, SystemTime};

/// For so long after a provider's latest announcement its addresses are returned (`go-libp2p-kad-dht`).
const ADDRESSES_LAST: Duration = Duration::from_secs(24 * 60 * 60);

/// A key of up to 38 bytes in place: a multihash of SHA-256 has 34, and most have no place of their own to go to.
#[derive(Clone, Debug)]
enum Key {
    Short { len: u8, bytes: [u8; 38] },
    Long(Box<[u8]>),
}

impl Key {
    fn new(key: &[u8]) -> Self {
        let mut bytes = [0; 38];
        match (u8::try_from(key.len()), bytes.get_mut(..key.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(key);
                Self::Short { len, bytes }
            }
            _ => Self::Long(key.into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, other): (&[u8], &[u8]) = (self.borrow(), other.borrow());
        own.cmp(other)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

/// The number of a provider.
type Number = u32;

/// Seconds since 1970, rounded up; zero is the end of what has none.
type Second = u32;

fn second(time: SystemTime) -> Second {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let up = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    u32::try_from(up).unwrap_or(u32::MAX)
}

/// What is known of a provider, once for all that it provides.
#[derive(Clone, Debug)]
struct Provider {
    peer: PackedPeerId,
    addresses: Addresses,
    announced: SystemTime,
    keys: u32,
}

/// Keys, each with its providers.
///
/// # Bounds
/// `max_keys` keys with `max_per_key` providers each. Some 170 bytes for a key of up to 38 bytes with one provider, the index
/// of ends included; for each provider some 200 and its addresses. Nothing is kept in one piece that grows with the whole.
#[derive(Debug)]
pub(super) struct Providers {
    max_keys: usize,
    max_per_key: usize,
    keys: BTreeMap<Key, SmallVec<[(Number, Second); 2]>>,
    ends: BTreeSet<(Second, Key, Number)>,
    providers: BTreeMap<Number, Provider>,
    numbers: BTreeMap<PackedPeerId, Number>,
    next: Number,
}

impl Providers {
    pub(super) const fn new(max_keys: usize, max_per_key: usize) -> Self {
        Self {
            max_keys,
            max_per_key,
            keys: BTreeMap::new(),
            ends: BTreeSet::new(),
            providers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
        }
    }

    /// Takes a statement in, in place of an earlier one of its key and provider; addresses that are named replace those known.
    pub(super) fn add(&mut self, wall: SystemTime, record: &ProviderRecord) -> Result<()> {
        self.expire(wall);
        let packed = PackedPeerId::from(&record.provider);
        let known = self.numbers.get(&packed).copied();
        match self.keys.get(record.key.as_ref()) {
            None if self.keys.len() >= self.max_keys => return Err(Error::MaxProvidedKeys),
            Some(all)
                if all.len() >= self.max_per_key && !all.iter().any(|(number, _)| Some(*number) == known) =>
            {
                return Err(Error::MaxProviders);
            }
            Some(_) | None => {}
        }
        let number = known.unwrap_or_else(|| self.number(packed, wall));
        let (key, end) = (Key::new(record.key.as_ref()), record.expires.map_or(0, second));
        let all = self.keys.entry(key.clone()).or_default();
        let before = all.iter_mut().find(|(known, _)| *known == number);
        let before = before.map(|(_, known)| std::mem::replace(known, end));
        if before.is_none() {
            all.push((number, end));
        }
        if let Some(before) = before {
            self.ends.remove(&(before, key.clone(), number));
        }
        if end > 0 {
            self.ends.insert((end, key, number));
        }
        if let Some(provider) = self.providers.get_mut(&number) {
            provider.keys += u32::from(before.is_none());
            if !record.addresses.is_empty() {
                provider.addresses = Addresses::collect(&record.provider, record.addresses.iter().cloned());
                provider.announced = wall;
            }
        }
        Ok(())
    }

    /// Gives a provider a number that nobody else has.
    fn number(&mut self, peer: PackedPeerId, wall: SystemTime) -> Number {
        while self.providers.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.numbers.insert(peer.clone(), number);
        let addresses = Addresses::empty();
        self.providers.insert(number, Provider { peer, addresses, announced: wall, keys: 0 });
        number
    }

    /// Returns the statements about a key that have not ended.
    pub(super) fn get(&self, wall: SystemTime, key: &RecordKey) -> Vec<ProviderRecord> {
        let all = self.keys.get(key.as_ref()).into_iter().flatten();
        let now = second(wall);
        let record = |(number, end): &(Number, Second)| {
            let provider = self.providers.get(number)?;
            let since = wall.duration_since(provider.announced).unwrap_or_default();
            let addresses =
                if since < ADDRESSES_LAST { provider.addresses.clone() } else { Addresses::empty() };
            let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs((*end).into()));
            Some(ProviderRecord {
                key: key.clone(),
                provider: provider.peer.unpacked(),
                expires: expires.filter(|_| *end > 0),
                addresses: addresses.into_vec(),
            })
        };
        all.filter(|(_, end)| *end == 0 || *end > now).filter_map(record).collect()
    }

    /// Removes the statement of a provider about a key.
    pub(super) fn remove(&mut self, key: &[u8], provider: &PeerId) {
        let Some(number) = self.numbers.get(&PackedPeerId::from(provider)).copied() else {
            return;
        };
        let end = self.keys.get(key).and_then(|all| all.iter().find(|(known, _)| *known == number));
        if let Some((_, end)) = end.copied() {
            self.ends.remove(&(end, Key::new(key), number));
            self.drop_pair(key, number);
        }
    }

    fn drop_pair(&mut self, key: &[u8], number: Number) {
        if let Some(all) = self.keys.get_mut(key) {
            all.retain(|(known, _)| *known != number);
            if all.is_empty() {
                self.keys.remove(key);
            }
        }
        if let Some(provider) = self.providers.get_mut(&number) {
            provider.keys -= 1;
            if provider.keys == 0
                && let Some(provider) = self.providers.remove(&number)
            {
                self.numbers.remove(&provider.peer);
            }
        }
    }

    /// Drops what has ended, and returns when the next statement ends.
    pub(super) fn expire(&mut self, wall: SystemTime) -> Option<SystemTime> {
        let now = second(wall);
        while let Some((_, key, number)) = self.ends.first().filter(|(end, ..)| *end <= now).cloned() {
            self.ends.pop_first();
            self.drop_pair(key.borrow(), number);
        }
        let next = self.ends.first().map(|(end, ..)| Duration::from_secs((*end).into()));
        next.and_then(|next| SystemTime::UNIX_EPOCH.checked_add(next))
    }

    /// Returns of how many keys providers are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    #[cfg(test)]
    fn check(&self) {
        let pairs: usize = self.keys.values().map(|all| all.len()).sum();
        assert!(self.keys.values().all(|all| !all.is_empty() && all.len() <= self.max_per_key));
        assert_eq!(self.providers.values().map(|provider| provider.keys as usize).sum::<usize>(), pairs);
        assert_eq!(self.providers.len(), self.numbers.len());
        let ending = self.keys.values().flatten().filter(|(_, end)| *end > 0).count();
        assert_eq!(self.ends.len(), ending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p_core::Multiaddr;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;
    const HOUR: Duration = Duration::from_secs(3600);

    fn peer(n: u32) -> PeerId {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0x12, &digest).unwrap()).unwrap()
    }

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/1.2.3.4/tcp/{port}").parse().unwrap()
    }

    fn record(key: &[u8], n: u32, hours: u32) -> ProviderRecord {
        let record = ProviderRecord::new(key.to_vec(), peer(n), vec![at(1)]);
        ProviderRecord { expires: Some(WALL + HOUR * hours), ..record }
    }

    fn ids(providers: &Providers, wall: SystemTime, key: &[u8]) -> Vec<PeerId> {
        let all = providers.get(wall, &RecordKey::from(key));
        all.into_iter().map(|record| record.provider).collect()
    }

    #[test]
    fn a_statement_is_returned_as_it_was_until_it_ends() {
        let mut providers = Providers::new(10, 10);
        for key in [&b""[..], b"short", &[7; 38], &[7; 39], &[7; 80]] {
            let given = record(key, 1, 2);
            providers.add(WALL, &given).unwrap();
            providers.check();
            assert_eq!(providers.get(WALL, &given.key), std::slice::from_ref(&given));
            assert_eq!(providers.get(WALL + HOUR, &given.key), std::slice::from_ref(&given));
            assert_eq!(providers.get(WALL + 2 * HOUR, &given.key), []);
        }
        assert_eq!((providers.len(), providers.providers.len()), (5, 1));
        assert_eq!(providers.expire(WALL + HOUR), Some(WALL + 2 * HOUR));
        assert_eq!(providers.expire(WALL + 2 * HOUR), None);
        providers.check();
        assert_eq!((providers.len(), providers.providers.len()), (0, 0));
    }

    #[test]
    fn a_later_statement_takes_the_place_of_an_earlier_one_and_brings_addresses() {
        let mut providers = Providers::new(10, 10);
        let bare = ProviderRecord { addresses: vec![], ..record(b"k", 1, 2) };
        providers.add(WALL, &bare).unwrap();
        assert_eq!(providers.get(WALL, &bare.key), std::slice::from_ref(&bare));
        providers.add(WALL + HOUR, &record(b"k", 1, 9)).unwrap();
        // One without addresses does not erase those that are known.
        providers.add(WALL + HOUR, &ProviderRecord { addresses: vec![], ..record(b"k", 1, 60) }).unwrap();
        providers.check();
        assert_eq!(providers.get(WALL + HOUR, &bare.key), [record(b"k", 1, 60)]);
        // A day after they were announced addresses are not returned any more; the provider is.
        let later = WALL + 25 * HOUR;
        assert_eq!(providers.get(later - HOUR / 60, &bare.key)[0].addresses.len(), 1);
        assert_eq!(
            providers.get(later, &bare.key),
            [ProviderRecord { addresses: vec![], ..record(b"k", 1, 60) }]
        );
    }

    #[test]
    fn keys_and_providers_are_bounded() {
        let mut providers = Providers::new(2, 3);
        for n in 0..3 {
            providers.add(WALL, &record(b"a", n, 2)).unwrap();
        }
        assert!(matches!(providers.add(WALL, &record(b"a", 9, 2)), Err(Error::MaxProviders)));
        providers.add(WALL, &record(b"a", 2, 3)).unwrap();
        providers.add(WALL, &record(b"b", 9, 2)).unwrap();
        assert!(matches!(providers.add(WALL, &record(b"c", 1, 2)), Err(Error::MaxProvidedKeys)));
        providers.check();
        assert_eq!(ids(&providers, WALL, b"a"), [peer(0), peer(1), peer(2)]);
        providers.remove(b"a", &peer(1));
        providers.remove(b"a", &peer(77));
        providers.remove(b"none", &peer(1));
        providers.check();
        assert_eq!(ids(&providers, WALL, b"a"), [peer(0), peer(2)]);
        // What has ended makes room by itself.
        providers.add(WALL + 2 * HOUR, &record(b"c", 1, 4)).unwrap();
        providers.check();
        assert_eq!(ids(&providers, WALL + 2 * HOUR, b"a"), [peer(2)]);
        assert!(ids(&providers, WALL + 2 * HOUR, b"b").is_empty());
    }

    #[test]
    fn any_statements_in_any_order_leave_it_consistent() {
        let mut rng = crate::rng::Rng::from_u64(1);
        let mut providers = Providers::new(40, 5);
        let mut wall = WALL;
        for _ in 0..20_000 {
            let mut below = |n| u32::try_from(rng.below(n)).unwrap();
            let (key, n) = (vec![1; below(60) as usize], below(30));
            match below(10) {
                0 => wall += HOUR / 4,
                1 | 2 => providers.remove(&key, &peer(n)),
                3 => drop(providers.add(wall, &ProviderRecord { expires: None, ..record(&key, n, 0) })),
                _ => {
                    let expires = Some(wall + HOUR * below(40) / 10);
                    drop(providers.add(wall, &ProviderRecord { expires, ..record(&key, n, 0) }));
                }
            }
            providers.check();
        }
    }
}
