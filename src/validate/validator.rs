//! The validator: what judges records, and the reason it gives for refusing one.

use std::cmp::Ordering;

use crate::protobuf::Malformed;
use crate::record::RecordKey;
use crate::time::SystemTime;

/// The validator of the records of one namespace: which are valid, and which of two is better.
///
/// Called before a record is stored for others, before one that others sent is returned, and to choose the best of several.
/// It must be quick: it runs where the node is polled.
///
/// ```
/// use std::cmp::Ordering;
///
/// use libp2p_kademlia::time::SystemTime;
/// use libp2p_kademlia::validate::{InvalidRecord, Validator};
/// use libp2p_kademlia::{Config, RecordKey};
///
/// /// Values are numbers of eight bytes, of which the greatest stands.
/// struct Counter;
///
/// impl Validator for Counter {
///     fn validate(&self, _: SystemTime, _: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord> {
///         if value.len() == 8 { Ok(()) } else { Err(InvalidRecord::new("not a number of eight bytes")) }
///     }
///
///     fn compare(&self, _: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
///         a.cmp(b)
///     }
/// }
///
/// let config = Config::default().with_validator("counter", Counter); // of keys like `/counter/visitors`
/// ```
///
/// # Spec
/// libp2p kad-dht, "Entry validation". Differs: two values are compared instead of one being selected out of many, so that
/// the order is the same whatever the set.
pub trait Validator: Send + Sync {
    /// Returns whether the value may stand under the key at `wall`.
    ///
    /// # Errors
    /// [`InvalidRecord`], with the reason: in words by which its publisher can correct it.
    fn validate(&self, wall: SystemTime, key: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord>;

    /// Compares two values of a key that are valid: the greater is the better one, equal ones are as good as each other.
    ///
    /// A total preorder. Of values that are as good as each other a search takes the one seen first, and a holder keeps that
    /// of the latest publisher; see [`OwnRecords`](crate::OwnRecords) for this node's own.
    fn compare(&self, key: &RecordKey, a: &[u8], b: &[u8]) -> Ordering;
}

/// The reason why a record is not worth keeping, in words: correct what it names, and put the record again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRecord(String);

impl InvalidRecord {
    /// Makes an error with a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<Malformed> for InvalidRecord {
    fn from(malformed: Malformed) -> Self {
        Self::new(format!("malformed protobuf: {malformed}"))
    }
}
