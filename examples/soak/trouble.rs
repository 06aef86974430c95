//! Trouble: what goes wrong between nodes, one thing after another.

use std::time::Duration;

use super::proxy::Way;
use super::{Draw, Honest};

/// What goes wrong, and how often it did.
pub(crate) struct Trouble {
    draw: Draw,
    cut: usize,
    silenced: usize,
    stalled: usize,
    delayed: usize,
    refused: usize,
    doubled: usize,
}

impl Trouble {
    pub(crate) fn new(draw: Draw) -> Self {
        Self { draw, cut: 0, silenced: 0, stalled: 0, delayed: 0, refused: 0, doubled: 0 }
    }

    /// How long it is to the next.
    pub(crate) fn pause(&mut self) -> Duration {
        self.draw.time(20, 180)
    }

    /// Lets one thing go wrong at one node: to one of its connections, or, one time in twenty, to all of them.
    pub(crate) fn make(&mut self, honest: &Honest) {
        let nodes = &honest.nodes;
        let (Some(one), Some(other)) =
            (nodes.get(self.draw.below(nodes.len())), nodes.get(self.draw.below(nodes.len())))
        else {
            return;
        };
        let what = self.draw.below(7);
        if what == 6 {
            // Each dials the other at the same time, be they connected or not.
            if one.peer_id != other.peer_id {
                one.dial(other);
                other.dial(one);
                self.doubled += 1;
            }
            return;
        }
        // QUIC is left alone.
        let Some(proxy) = &one.proxy else {
            return;
        };
        let time = self.draw.time(1000, 8000);
        if what == 5 {
            proxy.refuse_for(time);
            self.refused += 1;
            return;
        }
        let all = self.draw.below(20) == 0;
        let which = self.draw.below(proxy.open().max(1));
        let (way, count) = match what {
            0 => (Way::Cut, &mut self.cut),
            1 => (Way::Silent, &mut self.silenced),
            2 | 3 => (Way::Stalled, &mut self.stalled),
            _ => (Way::Delayed(time / 20), &mut self.delayed),
        };
        *count += proxy.change(way, time, |n| all || n == which);
    }

    /// What went wrong, and how often.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 6] {
        [
            ("connections cut", self.cut),
            ("connections silenced", self.silenced),
            ("connections stalled for a while", self.stalled),
            ("connections delayed for a while", self.delayed),
            ("times a node refused for a while", self.refused),
            ("pairs dialled from both ends", self.doubled),
        ]
    }
}
