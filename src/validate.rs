//! Validation: which records are worth keeping, and which of several under one key is the best.
//!
//! Knows records and the time; knows nothing of who sent them or where they are kept.

#[cfg(feature = "ipns")]
mod ipns;
mod public_key;
mod validator;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::record::RecordKey;
use crate::time::SystemTime;

#[cfg(feature = "ipns")]
pub use self::ipns::Ipns;
#[cfg(all(feature = "fuzzing", feature = "ipns"))]
pub(crate) use self::ipns::door;
pub use self::public_key::PublicKeys;
pub use self::validator::{InvalidRecord, Validator};

/// The validator that takes every value; the one seen first is the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptAll;

impl Validator for AcceptAll {
    fn validate(&self, _: SystemTime, _: &RecordKey, _: &[u8]) -> Result<(), InvalidRecord> {
        Ok(())
    }

    fn compare(&self, _: &RecordKey, _: &[u8], _: &[u8]) -> Ordering {
        Ordering::Equal
    }
}

/// The validators of a node, by namespace.
///
/// The namespace of the key `/ns/rest` is `ns`. Without any validator every record is taken, whatever its key. Once there is
/// one, keys of other namespaces, and keys without one, are refused.
#[derive(Clone, Default)]
pub struct Namespaces(BTreeMap<Vec<u8>, Arc<dyn Validator>>);

impl Namespaces {
    /// Returns these with the validator of one more namespace, which is named without slashes.
    #[must_use]
    pub fn with(mut self, namespace: &str, validator: impl Validator + 'static) -> Self {
        self.0.insert(namespace.as_bytes().to_vec(), Arc::new(validator));
        self
    }

    /// Returns whether any record could stand under a key.
    ///
    /// # Errors
    /// [`InvalidRecord`] if there are validators, but none for the namespace of the key: correct the key, or configure a
    /// validator with [`with_validator`](crate::Config::with_validator).
    pub fn check_key(&self, key: &RecordKey) -> Result<(), InvalidRecord> {
        self.of(key).map(|_| ())
    }

    fn of(&self, key: &RecordKey) -> Result<&dyn Validator, InvalidRecord> {
        if self.0.is_empty() {
            return Ok(&AcceptAll);
        }
        let namespace = namespace(key.as_ref());
        let validator = namespace.and_then(|namespace| self.0.get(namespace));
        validator.map(Arc::as_ref).ok_or_else(|| {
            let named = |name: &[u8]| format!("`{}`", shown(name));
            let those: Vec<_> = self.0.keys().map(|name| named(name)).collect();
            let those = those.join(", ");
            InvalidRecord::new(match namespace {
                Some(namespace) => {
                    format!("no validator for its namespace {}, only for {those}", named(namespace))
                }
                None => format!("it has no namespace, and there are validators only for {those}"),
            })
        })
    }
}

/// Shows a namespace, of a long one no more than the beginning.
fn shown(name: &[u8]) -> String {
    let beginning = name.get(..MAX_SHOWN).unwrap_or(name);
    let dots = if beginning.len() < name.len() { "…" } else { "" };
    format!("{}{dots}", String::from_utf8_lossy(beginning).escape_debug())
}

/// How many bytes of a namespace are shown. Chosen, not measured.
const MAX_SHOWN: usize = 32;

impl Validator for Namespaces {
    fn validate(&self, wall: SystemTime, key: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord> {
        self.of(key)?.validate(wall, key, value)
    }

    fn compare(&self, key: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
        self.of(key).map_or(Ordering::Equal, |validator| validator.compare(key, a, b))
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys().map(|name| String::from_utf8_lossy(name))).finish()
    }
}

/// Returns `ns` of `/ns/rest`.
fn namespace(key: &[u8]) -> Option<&[u8]> {
    let rest = key.strip_prefix(b"/")?;
    let end = rest.iter().position(|byte| *byte == b'/')?;
    rest.get(..end).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    /// The bytes of a vector.
    pub(in crate::validate) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }

    /// Takes values of one byte, of which the greater is the better.
    struct OneByte;

    impl Validator for OneByte {
        fn validate(&self, _: SystemTime, _: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord> {
            if value.len() == 1 { Ok(()) } else { Err(InvalidRecord::new("not one byte")) }
        }

        fn compare(&self, _: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
            a.cmp(b)
        }
    }

    fn key(text: &str) -> RecordKey {
        RecordKey::new(&text)
    }

    #[test]
    fn without_validators_every_record_is_taken() {
        let all = Namespaces::default();
        for text in ["", "/", "no slash", "/pk/x", "\u{0}"] {
            assert_eq!(all.validate(WALL, &key(text), b"any"), Ok(()));
        }
        assert_eq!(all.compare(&key("/a/b"), b"1", b"2"), Ordering::Equal);
    }

    #[test]
    fn with_one_other_namespaces_are_refused() {
        let one = Namespaces::default().with("byte", OneByte).with("any", AcceptAll);
        assert_eq!(one.validate(WALL, &key("/byte/k"), b"1"), Ok(()));
        assert_eq!(one.validate(WALL, &key("/byte/k"), b"12").unwrap_err().to_string(), "not one byte");
        assert_eq!(one.validate(WALL, &key("/any/"), b"12"), Ok(()));
        for other in ["byte", "/byte", "//k", "/bytes/k", "/byt/k", "", "/other/k"] {
            assert!(one.validate(WALL, &key(other), b"1").is_err(), "{other}");
        }
        assert_eq!(one.compare(&key("/byte/k"), b"2", b"1"), Ordering::Greater);
        assert_eq!(one.compare(&key("/any/k"), b"2", b"1"), Ordering::Equal);
    }
}
