//! What is done with providers: how many are told, how long they are believed, when others are told again.

use std::num::{NonZeroU8, NonZeroUsize};

use crate::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// What is done with providers.
#[derive(Clone, Debug)]
pub(crate) struct Providers {
    pub(crate) ttl: Duration,
    pub(crate) publication: Option<Duration>,
    pub(crate) enough: NonZeroU8,
    pub(crate) max_of_answer: NonZeroUsize,
}

impl Providers {
    pub(crate) const fn new(max_of_answer: NonZeroUsize) -> Self {
        Self {
            ttl: HOUR.saturating_mul(48),
            publication: Some(HOUR.saturating_mul(22)),
            enough: const { NonZeroU8::new(75).unwrap() },
            max_of_answer,
        }
    }

    /// Returns how many of so many peers are enough.
    pub(crate) fn enough_of(&self, total: usize) -> NonZeroUsize {
        let percent = usize::from(self.enough.get().min(100));
        NonZeroUsize::new((total * percent).div_ceil(100)).unwrap_or(NonZeroUsize::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_rounded_up_and_never_nobody() {
        let mut config = Providers::new(NonZeroUsize::MIN);
        assert_eq!([0, 1, 2, 3, 4, 20].map(|total| config.enough_of(total).get()), [1, 1, 2, 3, 3, 15]);
        config.enough = NonZeroU8::MAX;
        assert_eq!(config.enough_of(20).get(), 20);
    }
}
