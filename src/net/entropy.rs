//! Entropy: the one seed that a node takes from the system.

use std::hash::{BuildHasher as _, RandomState};

/// Returns a seed that no two nodes share.
///
/// The standard library keys its hash maps from the system's entropy; hashing with such keys hands it on. Enough for
/// jitter and for the targets of refreshes, which is all that a node draws; not for secrets.
pub(super) fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for (part, number) in seed.chunks_exact_mut(8).zip(0u64..) {
        part.copy_from_slice(&RandomState::new().hash_one(number).to_le_bytes());
    }
    seed
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_seeds_are_alike() {
        assert_ne!(super::seed(), super::seed());
    }
}
