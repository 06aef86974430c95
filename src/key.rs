//! The keyspace: 256-bit keys, their XOR distance, and random keys in a bucket.
//!
//! Knows only `rng`. Everything that is ordered by distance is ordered here, big-endian, by one comparison.

mod number;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Shl, Shr};

use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;
use sha2::{Digest as _, Sha256};

pub use number::U256;

use crate::rng::Rng;

/// A function from the bytes of a peer id or of a record key to a point of the keyspace.
pub type KeyHash = fn(&[u8]) -> Key;

/// A point of the keyspace: 256 bits.
///
/// # Spec
/// The libp2p kad-dht specification hashes with SHA-256 ([`Key::sha256`]); a network of its own may choose another
/// function in [`Config`](crate::Config). Narrower hashes are padded with zeros on the right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Takes the bytes as they are, most significant first.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes `bytes` with SHA-256.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Hashes the bytes of a peer id with `hash`, without an allocation.
    pub fn of_peer(peer: &PeerId, hash: KeyHash) -> Self {
        hash(PeerBytes::of(peer).as_slice())
    }

    /// Returns the bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the XOR distance to another key.
    pub fn distance(&self, other: &Self) -> Distance {
        let (a_high, a_low) = self.halves();
        let (b_high, b_low) = other.halves();
        Distance(U256 { high: a_high ^ b_high, low: a_low ^ b_low })
    }

    /// Returns the one key that is `distance` away.
    pub fn at(&self, distance: Distance) -> Self {
        let (high, low) = self.halves();
        Self(U256 { high: high ^ distance.0.high, low: low ^ distance.0.low }.to_big_endian())
    }

    /// Returns how many leading bits both keys share: 256 for equal keys.
    pub fn common_prefix(&self, other: &Self) -> u32 {
        self.distance(other).leading_zeros()
    }

    /// Returns the key behind all that share the first `bits` bits with this one; `None` if they are the last ones.
    pub(crate) fn behind(&self, bits: u32) -> Option<Self> {
        let (high, low) = self.halves();
        let rest = |shared: u32| u128::MAX.checked_shr(shared).unwrap_or(0);
        let (low, carries) = (low | rest(bits.saturating_sub(128))).overflowing_add(1);
        let high = (high | rest(bits)).checked_add(u128::from(carries));
        high.map(|high| Self::from_bytes([0; 32]).at(Distance(U256 { high, low })))
    }

    /// Returns a uniformly random key of the given bucket, seen from this key.
    pub fn random_in_bucket(&self, bucket: BucketIndex, rng: &mut Rng) -> Self {
        self.at(bucket.random_distance(rng))
    }

    /// Searches bytes whose hash lies in the given bucket, seen from this key, and returns them with that hash.
    ///
    /// Requests carry the bytes and each server hashes them, so a random key that goes over the wire must be found
    /// backwards. The search hashes random bytes until one fits: 2^(p + 1) hashes on average for a bucket of keys that
    /// share `p` bits with this one, and at most eight times as many, after which it gives up and returns `None`.
    /// Buckets that share more than [`MAX_PREIMAGE_PREFIX`] bits are refused at once.
    pub fn preimage_in_bucket(
        &self,
        bucket: BucketIndex,
        hash: KeyHash,
        rng: &mut Rng,
    ) -> Option<([u8; 32], Self)> {
        let prefix = bucket.prefix();
        if prefix > MAX_PREIMAGE_PREFIX {
            return None;
        }
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        for counter in 0..(16u32 << prefix) {
            bytes[..4].copy_from_slice(&counter.to_le_bytes());
            let key = hash(&bytes);
            if self.distance(&key).bucket() == Some(bucket) {
                return Some((bytes, key));
            }
        }
        None
    }

    const fn halves(&self) -> (u128, u128) {
        let U256 { high, low } = U256::from_bytes(self.0);
        (high, low)
    }
}

/// The bytes of a peer id on the stack, since [`PeerId::to_bytes`] allocates.
pub(crate) struct PeerBytes {
    buffer: [u8; Self::ROOM],
    len: usize,
}

impl PeerBytes {
    /// Two unsigned varints of ten bytes at most, and 64 bytes of digest, as `PeerId` has room for (the format of multihashes).
    const ROOM: usize = 84;

    pub(crate) fn of(peer: &PeerId) -> Self {
        let (mut buffer, multihash) = ([0; Self::ROOM], peer.as_ref());
        let (digest, len) = (multihash.digest(), multihash.digest().len());
        // Code and length of every usual id fit a byte each.
        if let (Ok(code @ ..0x80), Ok(size @ ..0x80)) = (u8::try_from(multihash.code()), u8::try_from(len)) {
            [buffer[0], buffer[1]] = [code, size];
            if let Some(place) = buffer.get_mut(2..2 + len) {
                place.copy_from_slice(digest);
            }
            return Self { buffer, len: 2 + len };
        }
        let mut rest = &mut buffer[..];
        // Writing into a buffer that holds the longest id cannot fail.
        let len = multihash.write(&mut rest).unwrap_or(0);
        Self { buffer, len }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

/// Returns how many bytes a peer id has.
pub(crate) fn peer_id_len(peer: &PeerId) -> usize {
    let multihash = peer.as_ref();
    if multihash.code() < 0x80 { 2 + multihash.digest().len() } else { multihash.encoded_len() }
}

/// The longest common prefix for which [`Key::preimage_in_bucket`] searches: 15 bits, some 65,000 hashes.
///
/// Source: `go-libp2p-kad-dht`, which refreshes no deeper either; a lookup of one's own id covers what is deeper.
pub const MAX_PREIMAGE_PREFIX: u32 = 15;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(")?;
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("..)")
    }
}

/// The XOR of two keys, ordered as a 256-bit number.
///
/// [`U256`] has the arithmetic; what ranges of responsibility need is here as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Distance(pub U256);

impl Distance {
    /// The distance of a key to itself.
    pub const ZERO: Self = Self(U256::ZERO);
    /// The greatest distance there is.
    pub const MAX: Self = Self(U256::MAX);

    /// Takes the bytes as they are, most significant first.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_bytes(bytes))
    }

    /// Returns the position of the highest set bit, 0 to 255, or `None` for the distance zero.
    pub fn ilog2(&self) -> Option<u32> {
        255u32.checked_sub(self.leading_zeros())
    }

    /// Returns the bucket in which a key at this distance stands, or `None` for the distance zero.
    pub fn bucket(&self) -> Option<BucketIndex> {
        self.ilog2().and_then(|log| u8::try_from(log).ok()).map(BucketIndex)
    }

    /// Returns whether the bit of a bucket is set.
    pub const fn has_bit(&self, bucket: BucketIndex) -> bool {
        let bit = bucket.0 as u32;
        if bit >= 128 { self.0.high >> (bit - 128) & 1 == 1 } else { self.0.low >> bit & 1 == 1 }
    }

    /// Returns the distance as 32 bytes, most significant first.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0.to_big_endian()
    }

    /// Returns the sum, or the greatest distance if that is exceeded.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns so many times the distance, or the greatest distance if that is exceeded.
    #[must_use]
    pub fn saturating_mul(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor.into()))
    }

    /// Returns the high 64 bits: enough to tell a few hundred peers apart.
    pub(crate) const fn high_bits(&self) -> u64 {
        (self.0.high >> 64) as u64
    }

    const fn leading_zeros(&self) -> u32 {
        self.0.leading_zeros()
    }

    /// Keeps the bits below the bucket's, and sets the bucket's.
    const fn truncated_to(self, bucket: BucketIndex) -> Self {
        let (bit, U256 { high, low }) = (bucket.0 as u32, self.0);
        Self(if bit >= 128 {
            let top = 1u128 << (bit - 128);
            U256 { high: (high & (top - 1)) | top, low }
        } else {
            let top = 1u128 << bit;
            U256 { high: 0, low: (low & (top - 1)) | top }
        })
    }
}

impl Shr<u32> for Distance {
    type Output = Self;

    /// Halves the distance so many times; it is zero from 256 on.
    fn shr(self, bits: u32) -> Self {
        Self(self.0 >> bits)
    }
}

impl Shl<u32> for Distance {
    type Output = Self;

    /// Drops so many of the highest bits and doubles the rest as often; it is zero from 256 on.
    fn shl(self, bits: u32) -> Self {
        Self(self.0 << bits)
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance({:064x})", self.0)
    }
}

/// The number of a bucket: `floor(log2(distance))`, so 255 is the far half of the keyspace and 0 the nearest key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketIndex(u8);

impl BucketIndex {
    /// The bucket of all keys that share no leading bit: half of the keyspace.
    pub const FARTHEST: Self = Self(255);

    /// Takes the number of a bucket as it is.
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// Returns the bucket of the keys that share exactly `prefix` leading bits, 0 to 255; 256 and more have none.
    pub fn with_prefix(prefix: u32) -> Option<Self> {
        255u32.checked_sub(prefix).and_then(|index| u8::try_from(index).ok()).map(Self)
    }

    /// Returns the number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns how many leading bits the keys of this bucket share with the owner's: 0 to 255.
    pub const fn prefix(self) -> u32 {
        255 - self.0 as u32
    }

    /// Returns the least and the greatest distance of this bucket, both included.
    pub fn range(self) -> (Distance, Distance) {
        (Distance::ZERO.truncated_to(self), Distance::MAX.truncated_to(self))
    }

    /// Returns a uniformly random distance of this bucket.
    pub fn random_distance(self, rng: &mut Rng) -> Distance {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        Distance::from_bytes(bytes).truncated_to(self)
    }
}

/// Something that has a place in the keyspace, which the hash of the network says.
pub trait Preimage {
    /// Returns its key.
    fn key_by(&self, hash: KeyHash) -> Key;
}

impl Preimage for PeerId {
    fn key_by(&self, hash: KeyHash) -> Key {
        Key::of_peer(self, hash)
    }
}

impl<const S: usize> Preimage for Multihash<S> {
    fn key_by(&self, hash: KeyHash) -> Key {
        hash(&self.to_bytes())
    }
}

impl Preimage for Vec<u8> {
    fn key_by(&self, hash: KeyHash) -> Key {
        hash(self)
    }
}

/// Its own key, whatever the hash.
impl Preimage for Key {
    fn key_by(&self, _: KeyHash) -> Key {
        *self
    }
}

/// A key together with the value it was hashed from.
///
/// The counterpart of `libp2p-kad`'s type of this name, for code that moves over. Two are equal if their keys are.
#[derive(Clone, Copy, Debug)]
pub struct KBucketKey<T> {
    preimage: T,
    key: Key,
}

impl<T> KBucketKey<T> {
    /// Hashes the bytes of `preimage` with SHA-256.
    pub fn new(preimage: T) -> Self
    where
        T: AsRef<[u8]>,
    {
        let key = Key::sha256(preimage.as_ref());
        Self { preimage, key }
    }

    /// Takes a key that was hashed before, maybe by another function.
    pub(crate) const fn hashed(preimage: T, key: Key) -> Self {
        Self { preimage, key }
    }

    /// Returns the value that was hashed.
    pub const fn preimage(&self) -> &T {
        &self.preimage
    }

    /// Returns the value that was hashed, without its key.
    pub fn into_preimage(self) -> T {
        self.preimage
    }

    /// Returns the key.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the bytes of the key.
    pub const fn hashed_bytes(&self) -> &[u8] {
        self.key.as_bytes()
    }

    /// Returns the XOR distance to another key.
    pub fn distance<U: AsRef<Key>>(&self, other: &U) -> Distance {
        self.key.distance(other.as_ref())
    }

    /// Returns the one key that is `distance` away.
    pub fn for_distance(&self, distance: Distance) -> Key {
        self.key.at(distance)
    }
}

impl<T> AsRef<Key> for KBucketKey<T> {
    fn as_ref(&self) -> &Key {
        &self.key
    }
}

impl AsRef<Key> for Key {
    fn as_ref(&self) -> &Key {
        self
    }
}

impl<T> From<KBucketKey<T>> for Key {
    fn from(key: KBucketKey<T>) -> Self {
        key.key
    }
}

impl From<PeerId> for KBucketKey<PeerId> {
    fn from(peer: PeerId) -> Self {
        Self { preimage: peer, key: Key::of_peer(&peer, Key::sha256) }
    }
}

impl<const S: usize> From<Multihash<S>> for KBucketKey<Multihash<S>> {
    fn from(multihash: Multihash<S>) -> Self {
        Self { preimage: multihash, key: Key::sha256(&multihash.to_bytes()) }
    }
}

impl From<Vec<u8>> for KBucketKey<Vec<u8>> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl<T, U> PartialEq<KBucketKey<U>> for KBucketKey<T> {
    fn eq(&self, other: &KBucketKey<U>) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for KBucketKey<T> {}

impl<T> Hash for KBucketKey<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

#[cfg(test)]
mod tests;
