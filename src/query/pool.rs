//! The pool: all queries that run, which of them has something to do, and when each must end.
//!
//! Knows numbers and deadlines; what a query does is its own affair.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::event::QueryId;
use crate::time::{Duration, Instant, after, earliest};

/// A bounded set of queries with a ready queue and an order of deadlines.
///
/// # What it decides
/// Which query's turn it is. A query is ready when it is new, when something came of one of its requests, and when its own
/// deadline has come; the ready ones take turns. Nothing costs time in proportion to the queries that wait.
///
/// # Inputs
/// [`insert`](Self::insert), [`wake`](Self::wake), [`sleep`](Self::sleep), [`remove`](Self::remove),
/// [`handle_timeout`](Self::handle_timeout).
///
/// # Outputs
/// [`next_ready`](Self::next_ready); [`deadline`](Self::deadline).
///
/// # What time does
/// Wakes queries at their deadlines; a query whose whole time is up is ready and [`is_over`](Self::is_over).
///
/// # Bounds
/// At most `max` queries; each has an end from the start, but for those that are to last.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    queries: BTreeMap<QueryId, Scheduled<T>>,
    ready: VecDeque<QueryId>,
    deadlines: BTreeSet<(Instant, QueryId)>,
    next_id: u64,
    max: usize,
    timeout: Duration,
}

/// A query and when it is to be woken.
#[derive(Debug)]
struct Scheduled<T> {
    /// Apart, so that the place of one query does not hold room for ten.
    query: Box<T>,
    /// `None` if it lasts until it is removed.
    end: Option<Instant>,
    wake_at: Option<Instant>,
    is_ready: bool,
}

impl<T> Pool<T> {
    pub(crate) const fn new(max: usize, timeout: Duration) -> Self {
        Self {
            queries: BTreeMap::new(),
            ready: VecDeque::new(),
            deadlines: BTreeSet::new(),
            next_id: 0,
            max,
            timeout,
        }
    }

    /// Gives out a number without a query, for one that ends before it begins.
    pub(crate) const fn next_id(&mut self) -> QueryId {
        let id = QueryId(self.next_id);
        self.next_id += 1;
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.queries.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// Adds a query, which is ready at once. The caller sees to it that the pool is not full.
    pub(crate) fn insert(&mut self, now: Instant, query: T) -> QueryId {
        self.add(query, Some(after(now, self.timeout)))
    }

    /// Adds a query that lasts until it is removed. The caller sees to it that the pool is not full.
    pub(crate) fn insert_lasting(&mut self, query: T) -> QueryId {
        self.add(query, None)
    }

    fn add(&mut self, query: T, end: Option<Instant>) -> QueryId {
        let id = self.next_id();
        self.deadlines.extend(end.map(|end| (end, id)));
        self.queries.insert(id, Scheduled { query: Box::new(query), end, wake_at: end, is_ready: true });
        self.ready.push_back(id);
        id
    }

    pub(crate) fn get(&self, id: QueryId) -> Option<&T> {
        self.queries.get(&id).map(|slot| &*slot.query)
    }

    pub(crate) fn get_mut(&mut self, id: QueryId) -> Option<&mut T> {
        self.queries.get_mut(&id).map(|slot| &mut *slot.query)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueryId, &T)> {
        self.queries.iter().map(|(id, slot)| (*id, &*slot.query))
    }

    pub(crate) fn remove(&mut self, id: QueryId) -> Option<T> {
        let slot = self.queries.remove(&id)?;
        if let Some(wake_at) = slot.wake_at {
            self.deadlines.remove(&(wake_at, id));
        }
        Some(*slot.query)
    }

    /// Makes a query ready.
    pub(crate) fn wake(&mut self, id: QueryId) {
        if let Some(slot) = self.queries.get_mut(&id)
            && !slot.is_ready
        {
            slot.is_ready = true;
            self.ready.push_back(id);
        }
    }

    /// Lets a query wait until it is woken, or until `wake_at`, or its end.
    pub(crate) fn sleep(&mut self, id: QueryId, wake_at: Option<Instant>) {
        if let Some(slot) = self.queries.get_mut(&id) {
            let wake_at = earliest(wake_at, slot.end);
            if wake_at != slot.wake_at {
                if let Some(before) = slot.wake_at {
                    self.deadlines.remove(&(before, id));
                }
                self.deadlines.extend(wake_at.map(|at| (at, id)));
                slot.wake_at = wake_at;
            }
        }
    }

    /// Returns the query whose turn it is.
    pub(crate) fn next_ready(&mut self) -> Option<QueryId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(slot) = self.queries.get_mut(&id) {
                slot.is_ready = false;
                return Some(id);
            }
        }
        None
    }

    /// Returns whether the whole time of a query is up.
    pub(crate) fn is_over(&self, now: Instant, id: QueryId) -> bool {
        self.queries.get(&id).is_some_and(|slot| slot.end.is_some_and(|end| end <= now))
    }

    /// Makes every query ready whose deadline has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            // A deadline stands for one waking; the query sets the next, and its end remains.
            self.deadlines.pop_first();
            if let Some(slot) = self.queries.get_mut(&id) {
                slot.wake_at = slot.end.filter(|end| *end > now);
                self.deadlines.extend(slot.wake_at.map(|end| (end, id)));
            }
            self.wake(id);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ready_queries_take_turns() {
        let mut pool = Pool::new(10, 60 * SECOND);
        let ids: Vec<_> = (0..3).map(|n| pool.insert(start(), n)).collect();
        assert_eq!([pool.next_ready(), pool.next_ready()], [Some(ids[0]), Some(ids[1])]);
        pool.wake(ids[0]);
        pool.wake(ids[0]);
        assert_eq!(
            [pool.next_ready(), pool.next_ready(), pool.next_ready()],
            [Some(ids[2]), Some(ids[0]), None]
        );
    }

    #[test]
    fn a_deadline_wakes_and_the_end_is_never_forgotten() {
        let mut pool = Pool::new(10, 60 * SECOND);
        let id = pool.insert(start(), ());
        pool.next_ready();
        assert_eq!(pool.deadline(), Some(start() + 60 * SECOND));
        pool.sleep(id, Some(start() + SECOND));
        assert_eq!(pool.deadline(), Some(start() + SECOND));
        pool.handle_timeout(start() + SECOND);
        assert_eq!(pool.next_ready(), Some(id));
        assert!(!pool.is_over(start() + SECOND, id));
        assert_eq!(pool.deadline(), Some(start() + 60 * SECOND), "the end remains");
        pool.sleep(id, Some(start() + 100 * SECOND));
        assert_eq!(pool.deadline(), Some(start() + 60 * SECOND), "no query outlives its end");
        pool.handle_timeout(start() + 60 * SECOND);
        assert_eq!(pool.next_ready(), Some(id));
        assert!(pool.is_over(start() + 60 * SECOND, id));
        assert_eq!(pool.remove(id), Some(()));
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn a_lasting_query_wakes_when_it_wants_to_and_has_no_end() {
        let mut pool = Pool::new(10, SECOND);
        let id = pool.insert_lasting(());
        assert_eq!((pool.next_ready(), pool.deadline()), (Some(id), None));
        pool.sleep(id, Some(start() + 9 * SECOND));
        assert_eq!(pool.deadline(), Some(start() + 9 * SECOND));
        pool.handle_timeout(start() + 9 * SECOND);
        assert_eq!((pool.next_ready(), pool.deadline()), (Some(id), None));
        assert!(!pool.is_over(start() + 1_000_000 * SECOND, id));
        pool.sleep(id, Some(start() + 10 * SECOND));
        assert_eq!(pool.remove(id), Some(()));
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn numbers_are_never_used_twice() {
        let mut pool = Pool::new(1, SECOND);
        let first = pool.insert(start(), ());
        assert!(pool.is_full());
        let second = pool.next_id();
        pool.remove(first);
        let third = pool.insert(start(), ());
        assert!(first < second && second < third);
        assert!(pool.get(first).is_none() && pool.get_mut(third).is_some());
        pool.wake(first);
        assert_eq!(pool.next_ready(), Some(third), "the removed one is skipped");
    }
}
