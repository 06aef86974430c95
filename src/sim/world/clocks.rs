//! The clocks of nodes: machines that sleep, and wall clocks that are set.

use super::{Happening, Life, World};
use crate::time::{Duration, Now, SystemTime};

impl World {
    /// Returns what the clocks of a node show: those of the world, less what it has slept and as its own was set.
    pub(super) fn clocks(&self, n: usize) -> Now {
        let (slept, set) = self.nodes.get(n).map_or((Duration::ZERO, 0), |node| (node.slept, node.clock_set));
        let by = Duration::from_secs(set.unsigned_abs());
        let wall = if set < 0 { self.wall().checked_sub(by) } else { self.wall().checked_add(by) };
        Now::new(self.now.checked_sub(slept).unwrap_or(self.now), wall.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Sends the machine of a node to sleep: it does nothing and answers nothing, and its monotonic clock stands still. Its
    /// connections stay as far as it is concerned.
    pub fn suspend(&mut self, n: usize) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(n).filter(|node| node.is_alive()) {
            node.life = Life::Frozen;
            node.asleep_since = Some(now);
        }
    }

    /// Wakes the machine of a node up. Nobody tells the node that time has passed but its wall clock.
    pub fn resume(&mut self, n: usize) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.life == Life::Frozen) else {
            return;
        };
        if let Some(since) = node.asleep_since.take() {
            node.slept += now.saturating_duration_since(since);
            node.life = Life::Alive;
            // What was to wake it counts from its own clock.
            node.wake_at = Some(now);
            self.later(Duration::ZERO, Happening::Wake(n));
        }
    }

    /// Sets the wall clock of a node: so many seconds ahead of the true time, or behind it.
    pub fn set_clock(&mut self, n: usize, ahead: i64) {
        if let Some(node) = self.nodes.get_mut(n) {
            node.clock_set = ahead;
        }
    }
}
