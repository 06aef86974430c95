//! Draws: times that a function of the user's gives.

use std::fmt;
use std::sync::Arc;

use crate::rng::Rng;
use crate::time::Duration;

/// A function that draws a time: it is told what for, and given a generator.
///
/// # Determinism
/// What it returns must follow from its arguments alone, or no run repeats. The generator follows from the seed of the scenario.
pub struct Draw<A>(Arc<Function<A>>);

type Function<A> = dyn Fn(A, &mut Rng) -> Duration + Send + Sync;

impl<A> Draw<A> {
    /// Makes a draw of a function.
    pub fn new(function: impl Fn(A, &mut Rng) -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    pub(super) fn draw(&self, of: A, rng: &mut Rng) -> Duration {
        (self.0)(of, rng)
    }
}

impl<A> Clone for Draw<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A> fmt::Debug for Draw<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Draw(..)")
    }
}

/// The same function, not one that does the same.
impl<A> PartialEq for Draw<A> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
