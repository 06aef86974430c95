//! Looking over: what the application has changed in the store behind the node's back.
//!
//! Knows when to look and where to go on; what is found is scheduled by `upkeep`.

use crate::store::Listed;
use crate::time::{Duration, Instant, after};

/// So long after the application was given the store it is looked over, however often it is given it until then
/// (chosen, not measured).
const LOOK_AFTER: Duration = Duration::from_secs(60);

/// So many keys are looked at with one call; then it rests (chosen, not measured).
pub(super) const MAX_LOOKED_AT: usize = 256;

/// How long it rests: others have their turn, and thousands of keys a second are looked at still (chosen, not measured).
const REST: Duration = Duration::from_millis(20);

/// Looks the store over after the application could have changed it.
///
/// # What it decides
/// When the keys of the store are compared with those the node knows of, and which of them next.
///
/// # States
/// ```text
/// at rest --given away--> waits a minute --looks at 256, rests, looks at 256 …--> at rest
/// ```
///
/// # Inputs
/// [`given_away`](Self::given_away); [`looked`](Self::looked) after each part.
///
/// # Outputs
/// [`due`](Self::due): before which place the next part stands.
///
/// # What time does
/// Ends the wait and the rests.
///
/// # Bounds
/// 256 keys at once, and one look-over at a time: what is changed while one is under way is found by another.
#[derive(Debug, Default)]
pub(super) struct Looking {
    at: Option<Instant>,
    before: Option<usize>,
    is_under_way: bool,
    is_to_be_again: bool,
}

impl Looking {
    /// The application has the store in its hands.
    pub(super) fn given_away(&mut self, now: Instant) {
        if self.is_under_way {
            self.is_to_be_again = true;
        } else {
            self.at.get_or_insert(after(now, LOOK_AFTER));
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Returns before which place the next part stands, if it is time to look at it. Its [`looked`](Self::looked) is awaited.
    pub(super) fn due(&mut self, now: Instant) -> Option<Option<usize>> {
        self.at.take_if(|at| *at <= now)?;
        self.is_under_way = true;
        Some(self.before)
    }

    /// A part was looked at.
    pub(super) fn looked(&mut self, now: Instant, at: &Listed) {
        self.before = at.before;
        self.is_under_way = at.before.is_some();
        let again = !self.is_under_way && std::mem::take(&mut self.is_to_be_again);
        let wait = if again { Some(LOOK_AFTER) } else { self.is_under_way.then_some(REST) };
        self.at = wait.map(|wait| after(now, wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    fn part(before: Option<usize>) -> Listed {
        Listed { keys: Vec::new(), before }
    }

    #[test]
    fn it_looks_once_however_often_the_store_is_given_away_and_again_if_that_is_while_it_looks() {
        let (mut now, mut looking) = (start(), Looking::default());
        assert_eq!((looking.deadline(), looking.due(now)), (None, None));
        looking.given_away(now);
        looking.given_away(now + LOOK_AFTER / 2);
        assert_eq!(looking.due(now + LOOK_AFTER / 2), None);
        now += LOOK_AFTER;
        assert_eq!((looking.deadline(), looking.due(now)), (Some(now), Some(None)));
        looking.looked(now, &part(Some(300)));
        assert_eq!((looking.deadline(), looking.due(now)), (Some(now + REST), None));
        looking.given_away(now);
        now += REST;
        assert_eq!(looking.due(now), Some(Some(300)));
        looking.looked(now, &part(None));
        now += LOOK_AFTER;
        assert_eq!((looking.deadline(), looking.due(now)), (Some(now), Some(None)));
        looking.looked(now, &part(None));
        assert_eq!((looking.deadline(), looking.due(now + LOOK_AFTER)), (None, None));
    }
}
