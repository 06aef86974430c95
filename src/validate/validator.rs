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
/// # Spec
/// libp2p kad-dht, "Entry validation". Differs: two values are compared instead of one being selected out of many, so that
/// the order is the same whatever the set.
pub trait Validator: Send + Sync {
    /// Returns whether the value may stand under the key at `wall`.
    ///
    /// # Errors
    /// [`InvalidRecord`], with the reason.
    fn validate(&self, wall: SystemTime, key: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord>;

    /// Compares two values of a key that are valid: the greater is the better one, equal ones are as good as each other.
    ///
    /// A total preorder. Of values that are as good as each other a search takes the one seen first, and a holder keeps that
    /// of the latest publisher; see [`OwnRecords`](crate::OwnRecords) for this node's own.
    fn compare(&self, key: &RecordKey, a: &[u8], b: &[u8]) -> Ordering;
}

/// The reason why a record is not worth keeping, in words.
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
