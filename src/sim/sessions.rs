//! The sessions of nodes: how long one lasts, and which node comes when another has left.

use super::draw::Draw;
use super::roles::below;
use super::scenario::{Churn, Session};
use crate::rng::Rng;
use crate::time::Duration;

/// The node that comes when another has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Successor {
    /// One that was never there.
    New,
    /// One that comes back.
    Returns(usize),
}

/// The sessions of a network with churn.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) churn: Option<Churn>,
    /// How long sessions last, if not as usual.
    lengths: Option<Draw<Session>>,
    /// How many of the first nodes are told to newcomers. They come back at once.
    pub(super) seeds: usize,
    /// Those that are away and may come back.
    away: Vec<usize>,
}

impl Sessions {
    pub(super) const fn new(churn: Option<Churn>, lengths: Option<Draw<Session>>) -> Self {
        Self { churn, lengths, seeds: 1, away: Vec::new() }
    }

    /// Draws how long a session lasts, or what is left of one that is under way.
    ///
    /// Weibull with shape 0.5 is the square of an exponential; its mean is twice its scale. A node that is met in the midst of
    /// a session is met in a long one: its length follows the square of a Gamma(3) variable, of which a uniform part is
    /// left.
    pub(super) fn draw(&self, under_way: bool, rng: &mut Rng) -> Duration {
        if let Some(lengths) = &self.lengths {
            return lengths.draw(if under_way { Session::UnderWay } else { Session::New }, rng);
        }
        let scale = self.churn.map_or(0.0, |churn| churn.mean_session.as_secs_f64()) / 2.0;
        let mut exponential = || -libm::log(1.0 - rng.unit());
        let seconds = if under_way {
            let gamma = exponential() + exponential() + exponential();
            scale * gamma * gamma * rng.unit()
        } else {
            let one = exponential();
            scale * one * one
        };
        Duration::from_secs_f64(seconds)
    }

    /// A node that was away is back, so that it does not come once more.
    pub(super) fn comes_back(&mut self, n: usize) {
        self.away.retain(|away| *away != n);
    }

    /// A node has left. Returns which comes.
    pub(super) fn next(&mut self, left: usize, churn: Churn, rng: &mut Rng) -> Successor {
        if left >= self.seeds {
            self.away.push(left);
        }
        let is_new = rng.unit() < churn.new_ids;
        if left < self.seeds {
            Successor::Returns(left)
        } else if is_new || self.away.len() <= 1 {
            Successor::New
        } else {
            let at = below(rng, self.away.len());
            Successor::Returns(self.away.swap_remove(at))
        }
    }
}
