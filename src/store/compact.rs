//! What keeps the index of providers small: packed keys, and numbers in place of names.
//!
//! Knows bytes and how often something is named; neither providers nor times.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::key::Key;

/// A key and a short hash of it, by which it can be found, too.
///
/// Up to 38 bytes are in place: a multihash of SHA-256 has 34, and most have no place of their own to go to. Ordered by the
/// hash first.
#[derive(Clone, Debug)]
pub(super) struct PackedKey {
    tag: Tag,
    bytes: CompactForm,
}

/// The beginning of the SHA-256 hash of a key. Two keys may share it, if a peer makes them so.
pub(super) type Tag = u64;

#[derive(Clone, Debug)]
enum CompactForm {
    Short { len: u8, bytes: [u8; 38] },
    Long(Box<[u8]>),
}

impl PackedKey {
    pub(super) fn new(key: &[u8]) -> Self {
        let tag = Key::sha256(key).as_bytes().first_chunk().map_or(0, |first| Tag::from_be_bytes(*first));
        let mut bytes = [0; 38];
        let bytes = match (u8::try_from(key.len()), bytes.get_mut(..key.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(key);
                CompactForm::Short { len, bytes }
            }
            _ => CompactForm::Long(key.into()),
        };
        Self { tag, bytes }
    }

    /// Returns what stands before every key of a tag.
    pub(super) const fn before(tag: Tag) -> Self {
        Self { tag, bytes: CompactForm::Short { len: 0, bytes: [0; 38] } }
    }

    pub(super) const fn tag(&self) -> Tag {
        self.tag
    }

    /// Returns the key with the tag of another.
    #[cfg(test)]
    pub(super) fn tagged(self, tag: Tag) -> Self {
        Self { tag, ..self }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            CompactForm::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            CompactForm::Long(bytes) => bytes,
        }
    }
}

impl Ord for PackedKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tag.cmp(&other.tag).then_with(|| self.as_bytes().cmp(other.as_bytes()))
    }
}

impl PartialOrd for PackedKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PackedKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PackedKey {}

/// Stands for a name.
pub(super) type Number = NonZeroU32;

/// What is known under a name.
#[derive(Clone, Debug)]
pub(super) struct Named<N, T> {
    pub(super) name: N,
    pub(super) about: T,
    /// How often the name is used.
    pub(super) uses: u32,
}

/// An interner: names that are used often, each with a number for as long as it is used at all.
#[derive(Debug)]
pub(super) struct Interner<N, T> {
    numbers: BTreeMap<N, Number>,
    named: BTreeMap<Number, Named<N, T>>,
    next: Number,
}

impl<N: Ord + Clone, T> Interner<N, T> {
    pub(super) const fn new() -> Self {
        Self { numbers: BTreeMap::new(), named: BTreeMap::new(), next: Number::MIN }
    }

    pub(super) fn number(&self, name: &N) -> Option<Number> {
        self.numbers.get(name).copied()
    }

    pub(super) fn get(&self, number: Number) -> Option<&Named<N, T>> {
        self.named.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: Number) -> Option<&mut Named<N, T>> {
        self.named.get_mut(&number)
    }

    /// Returns how often a name is used.
    pub(super) fn uses(&self, name: &N) -> usize {
        let named = self.number(name).and_then(|number| self.get(number));
        named.and_then(|named| usize::try_from(named.uses).ok()).unwrap_or(0)
    }

    /// Uses a name once more, and returns its number.
    pub(super) fn enter(&mut self, name: N, about: impl FnOnce() -> T) -> Number {
        let number = self.number(&name).unwrap_or_else(|| self.free_number());
        let (named, numbers) = (&mut self.named, &mut self.numbers);
        let entry = named.entry(number).or_insert_with(|| {
            numbers.insert(name.clone(), number);
            Named { name, about: about(), uses: 0 }
        });
        entry.uses += 1;
        number
    }

    /// Uses a name once less, and returns it; with the last use what is known under it is forgotten.
    pub(super) fn leave(&mut self, number: Number) -> Option<N> {
        let named = self.named.get_mut(&number)?;
        named.uses -= 1;
        let name = named.name.clone();
        if named.uses == 0 {
            self.named.remove(&number);
            self.numbers.remove(&name);
        }
        Some(name)
    }

    /// Returns a number that nothing else has.
    fn free_number(&mut self) -> Number {
        while self.named.contains_key(&self.next) {
            self.next = self.next.checked_add(1).unwrap_or(Number::MIN);
        }
        self.next
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Number, &Named<N, T>)> {
        assert_eq!(self.numbers.len(), self.named.len());
        assert!(self.named.iter().all(|(number, named)| self.number(&named.name) == Some(*number)));
        assert!(self.named.values().all(|named| named.uses > 0));
        self.named.iter().map(|(number, named)| (*number, named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_returned_as_it_was_and_found_by_its_tag() {
        for len in [0, 1, 37, 38, 39, 80, 300] {
            let bytes = vec![7; len];
            let key = PackedKey::new(&bytes);
            assert_eq!(key.as_bytes(), bytes);
            assert!(PackedKey::before(key.tag()) <= key);
            assert_ne!(key, PackedKey::new(&[&bytes[..], &[0]].concat()));
        }
        assert_eq!(size_of::<PackedKey>(), 48);
    }

    #[test]
    fn a_number_stands_for_a_name_while_it_is_used() {
        let mut names = Interner::new();
        let one = names.enter("one", || 1);
        let two = names.enter("two", || 2);
        assert_eq!(names.enter("one", || 3), one, "what is known stays");
        assert_eq!((names.uses(&"one"), names.get(one).unwrap().about), (2, 1));
        assert_eq!((names.leave(one), names.uses(&"one")), (Some("one"), 1));
        assert_eq!((names.leave(one), names.uses(&"one")), (Some("one"), 0));
        assert_eq!((names.leave(one), names.number(&"one")), (None, None));
        // Behind the last number comes the first that is free.
        names.next = Number::MAX;
        let others = ["three", "four", "five"].map(|name| names.enter(name, || 0));
        assert_eq!(others[0], Number::MAX);
        assert!(!others.contains(&two) && others[1] != others[2]);
        assert_eq!(names.iter().count(), 4);
    }
}
