//! The pool: all queries that run, which of them has something to do, and when each must end.
//!
//! Knows numbers and deadlines; what a query does is its own affair.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::event::QueryId;
use crate::time::{Duration, Instant, after, earliest};

/// A bounded set of queries with an admission line, a ready queue and an order of deadlines.
///
/// # What it decides
/// Which query's turn it is. A new one is admitted while the node has room for what it will ask; beyond that the new ones stand in
/// line, and the first of them is admitted when there is room again. Those of callers go before those of the node itself, of
/// which one is admitted after sixteen others. An admitted query is ready when something came of one of its requests, and when its
/// own deadline has come; the ready ones take turns. Nothing costs time in proportion to the queries that wait.
///
/// # States
/// ```text
///            room                     asked: waits
///  In line --------> Admitted, ready <-------------> Admitted, asleep
///     |                  |            woken
///     +--- its end ------+---> over
/// ```
///
/// # Inputs
/// [`insert`](Self::insert), [`wake`](Self::wake), [`sleep`](Self::sleep), [`remove`](Self::remove),
/// [`handle_timeout`](Self::handle_timeout).
///
/// # Outputs
/// [`next_ready`](Self::next_ready); [`deadline`](Self::deadline).
///
/// # What time does
/// Wakes queries at their deadlines; a query whose whole time is up is ready and [`is_over`](Self::is_over), in line or not.
///
/// # Bounds
/// At most `max` queries; each has an end from the start, but for those that are to last.
///
/// # Invariants
/// No query is overtaken by one of its own kind that came later.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    queries: BTreeMap<QueryId, Scheduled<T>>,
    ready: VecDeque<QueryId>,
    line: AdmissionLine,
    /// How many are admitted and have an end.
    admitted: usize,
    deadlines: BTreeSet<(Instant, QueryId)>,
    next_id: u64,
    max: usize,
    timeout: Duration,
}

/// Whom a query is for, which decides when it is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Somebody who waits for it.
    Caller,
    /// The node itself.
    Upkeep,
    /// Anybody: it asks so little that it is admitted at once.
    Light,
}

/// After so many of callers one of the node itself is admitted, if there is one. Chosen, not measured: upkeep is some tenth of
/// what an idle node does.
const CALLERS_FIRST: u32 = 16;

/// The queries that are not admitted yet.
#[derive(Debug)]
struct AdmissionLine {
    // Numbers rise, so that the first is the oldest.
    callers: BTreeSet<QueryId>,
    upkeep: BTreeSet<QueryId>,
    /// How many callers have been admitted before upkeep that waited.
    passed: u32,
}

impl AdmissionLine {
    const fn new() -> Self {
        Self { callers: BTreeSet::new(), upkeep: BTreeSet::new(), passed: 0 }
    }

    fn push(&mut self, id: QueryId, class: Class) {
        match class {
            Class::Caller | Class::Light => self.callers.insert(id),
            Class::Upkeep => self.upkeep.insert(id),
        };
    }

    fn pop(&mut self) -> Option<QueryId> {
        if self.upkeep.is_empty() {
            self.passed = 0;
        } else if self.callers.is_empty() || self.passed >= CALLERS_FIRST {
            self.passed = 0;
            return self.upkeep.pop_first();
        }
        self.passed = self.passed.saturating_add(1);
        self.callers.pop_first()
    }

    fn remove(&mut self, id: QueryId) {
        let _ = self.callers.remove(&id) || self.upkeep.remove(&id);
    }

    fn is_empty(&self) -> bool {
        self.callers.is_empty() && self.upkeep.is_empty()
    }

    fn len(&self) -> usize {
        self.callers.len() + self.upkeep.len()
    }
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
    class: Class,
    is_admitted: bool,
}

impl<T> Pool<T> {
    pub(crate) const fn new(max: usize, timeout: Duration) -> Self {
        Self {
            queries: BTreeMap::new(),
            ready: VecDeque::new(),
            line: AdmissionLine::new(),
            admitted: 0,
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

    /// Returns how many queries stand in line.
    pub(crate) fn in_line(&self) -> usize {
        self.line.len()
    }

    /// Adds a query, which is ready as soon as there is room. The caller sees to it that the pool is not full.
    pub(crate) fn insert(&mut self, now: Instant, query: T, class: Class) -> QueryId {
        self.add(query, class, Some(after(now, self.timeout)))
    }

    /// Adds a query of a caller that lasts until it is removed. The caller sees to it that the pool is not full.
    pub(crate) fn insert_lasting(&mut self, query: T) -> QueryId {
        self.add(query, Class::Caller, None)
    }

    fn add(&mut self, query: T, class: Class, end: Option<Instant>) -> QueryId {
        let id = self.next_id();
        self.deadlines.extend(end.map(|end| (end, id)));
        let query = Box::new(query);
        self.queries
            .insert(id, Scheduled { query, end, wake_at: end, is_ready: true, class, is_admitted: false });
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
        if !slot.is_admitted {
            self.line.remove(id);
        } else if slot.end.is_some() {
            self.admitted -= 1;
        }
        if let Some(wake_at) = slot.wake_at {
            self.deadlines.remove(&(wake_at, id));
        }
        Some(*slot.query)
    }

    /// Makes a query ready, unless it stands in line.
    pub(crate) fn wake(&mut self, id: QueryId) {
        if let Some(slot) = self.queries.get_mut(&id)
            && slot.is_admitted
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

    /// Returns the query whose turn it is; a new one only if there is room for it, or if no other is under way.
    ///
    /// One that has stood in line for three quarters of its time is over: it would only take the time of those behind it.
    pub(crate) fn next_ready(&mut self, now: Instant, has_room: impl Fn() -> bool) -> Option<QueryId> {
        while let Some(id) = self.ready.pop_front() {
            let Some(slot) = self.queries.get_mut(&id) else {
                continue;
            };
            slot.is_ready = false;
            if slot.is_admitted {
                return Some(id);
            }
            let class = slot.class;
            if class == Class::Light || (self.line.is_empty() && self.may_admit(&has_room)) {
                self.admit(id);
                return Some(id);
            }
            self.line.push(id, class);
        }
        if self.line.is_empty() || !self.may_admit(&has_room) {
            return None;
        }
        let id = self.line.pop()?;
        self.admit(id);
        let least = after(now, self.timeout / 4);
        if let Some(slot) = self.queries.get_mut(&id) {
            slot.end = slot.end.map(|end| if end <= least { now } else { end });
        }
        Some(id)
    }

    fn may_admit(&self, has_room: &impl Fn() -> bool) -> bool {
        self.admitted == 0 || has_room()
    }

    fn admit(&mut self, id: QueryId) {
        if let Some(slot) = self.queries.get_mut(&id).filter(|slot| !slot.is_admitted) {
            slot.is_admitted = true;
            // One that lasts is seldom under way.
            self.admitted += usize::from(slot.end.is_some());
            self.line.remove(id);
        }
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
                // Nothing but its end is a deadline of one that stands in line.
                if slot.wake_at.is_none() {
                    self.admit(id);
                }
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
        let ids: Vec<_> = (0..3).map(|n| pool.insert(start(), n, Class::Caller)).collect();
        assert_eq!(
            [pool.next_ready(start(), || true), pool.next_ready(start(), || true)],
            [Some(ids[0]), Some(ids[1])]
        );
        pool.wake(ids[0]);
        pool.wake(ids[0]);
        assert_eq!(
            [
                pool.next_ready(start(), || true),
                pool.next_ready(start(), || true),
                pool.next_ready(start(), || true)
            ],
            [Some(ids[2]), Some(ids[0]), None]
        );
    }

    #[test]
    fn a_deadline_wakes_and_the_end_is_never_forgotten() {
        let mut pool = Pool::new(10, 60 * SECOND);
        let id = pool.insert(start(), (), Class::Caller);
        pool.next_ready(start(), || true);
        assert_eq!(pool.deadline(), Some(start() + 60 * SECOND));
        pool.sleep(id, Some(start() + SECOND));
        assert_eq!(pool.deadline(), Some(start() + SECOND));
        pool.handle_timeout(start() + SECOND);
        assert_eq!(pool.next_ready(start(), || true), Some(id));
        assert!(!pool.is_over(start() + SECOND, id));
        assert_eq!(pool.deadline(), Some(start() + 60 * SECOND), "the end remains");
        pool.sleep(id, Some(start() + 100 * SECOND));
        assert_eq!(pool.deadline(), Some(start() + 60 * SECOND), "no query outlives its end");
        pool.handle_timeout(start() + 60 * SECOND);
        assert_eq!(pool.next_ready(start(), || true), Some(id));
        assert!(pool.is_over(start() + 60 * SECOND, id));
        assert_eq!(pool.remove(id), Some(()));
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn a_lasting_query_wakes_when_it_wants_to_and_has_no_end() {
        let mut pool = Pool::new(10, SECOND);
        let id = pool.insert_lasting(());
        assert_eq!((pool.next_ready(start(), || true), pool.deadline()), (Some(id), None));
        pool.sleep(id, Some(start() + 9 * SECOND));
        assert_eq!(pool.deadline(), Some(start() + 9 * SECOND));
        pool.handle_timeout(start() + 9 * SECOND);
        assert_eq!((pool.next_ready(start(), || true), pool.deadline()), (Some(id), None));
        assert!(!pool.is_over(start() + 1_000_000 * SECOND, id));
        pool.sleep(id, Some(start() + 10 * SECOND));
        assert_eq!(pool.remove(id), Some(()));
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn beyond_what_there_is_room_for_queries_stand_in_line_and_end_there_when_their_time_is_up() {
        let mut pool = Pool::new(10, 60 * SECOND);
        let admitted = pool.insert(start(), 0, Class::Caller);
        assert_eq!(pool.next_ready(start(), || true), Some(admitted));
        let (first, second) =
            (pool.insert(start(), 1, Class::Caller), pool.insert(start() + SECOND, 2, Class::Caller));
        assert_eq!((pool.next_ready(start(), || false), pool.in_line()), (None, 2));
        pool.wake(first);
        pool.wake(admitted);
        assert_eq!(
            [pool.next_ready(start(), || false), pool.next_ready(start(), || false)],
            [Some(admitted), None],
            "what goes on goes on"
        );
        let third = pool.insert(start() + SECOND, 3, Class::Caller);
        assert_eq!(pool.next_ready(start(), || true), Some(first), "none is overtaken");
        pool.handle_timeout(start() + 61 * SECOND);
        pool.sleep(first, None);
        let over: Vec<_> = std::iter::from_fn(|| pool.next_ready(start(), || false)).collect();
        assert_eq!(over, [admitted, first, second, third]);
        assert!(over.iter().all(|id| pool.is_over(start() + 61 * SECOND, *id)));
        over.iter().for_each(|id| assert!(pool.remove(*id).is_some()));
        assert_eq!((pool.next_ready(start(), || true), pool.in_line(), pool.deadline()), (None, 0, None));
    }

    #[test]
    fn callers_go_first_and_upkeep_gets_its_turn() {
        let mut pool = Pool::new(100, 60 * SECOND);
        let first = pool.insert(start(), 0, Class::Caller);
        assert_eq!(pool.next_ready(start(), || false), Some(first), "one is always under way");
        let upkeep: Vec<_> = (0..2).map(|n| pool.insert(start(), n, Class::Upkeep)).collect();
        let callers: Vec<_> = (0..40).map(|n| pool.insert(start(), n, Class::Caller)).collect();
        assert_eq!(pool.next_ready(start(), || false), None);
        let order: Vec<_> = std::iter::from_fn(|| pool.next_ready(start(), || true)).collect();
        assert_eq!(order[..16], callers[..16]);
        assert_eq!((order[16], order[33]), (upkeep[0], upkeep[1]));
        assert_eq!((order.len(), order[41]), (42, callers[39]));
        let light = pool.insert(start(), 0, Class::Light);
        assert_eq!(pool.next_ready(start(), || false), Some(light), "it needs no room");
    }

    #[test]
    fn what_has_ended_in_line_takes_nobodys_turn_and_what_has_little_time_left_is_over() {
        let mut pool = Pool::new(100, 60 * SECOND);
        let running = pool.insert(start(), 0, Class::Caller);
        pool.next_ready(start(), || true);
        let upkeep: Vec<_> = (0..3).map(|n| pool.insert(start(), n, Class::Upkeep)).collect();
        let callers: Vec<_> = (0..40).map(|n| pool.insert(start() + 30 * SECOND, n, Class::Caller)).collect();
        assert_eq!((pool.next_ready(start(), || false), pool.in_line()), (None, 43));
        assert!(pool.remove(upkeep[0]).is_some());
        callers[..10].iter().for_each(|id| assert!(pool.remove(*id).is_some()));
        assert_eq!(pool.in_line(), 32);
        let now = start() + 46 * SECOND;
        let order: Vec<_> = std::iter::from_fn(|| pool.next_ready(now, || true)).collect();
        assert_eq!((order[15], order[16]), (callers[25], upkeep[1]));
        assert!(
            pool.is_over(now, upkeep[1]) && !pool.is_over(now, callers[25]) && !pool.is_over(now, running)
        );
    }

    #[test]
    fn numbers_are_never_used_twice() {
        let mut pool = Pool::new(1, SECOND);
        let first = pool.insert(start(), (), Class::Caller);
        assert!(pool.is_full());
        let second = pool.next_id();
        pool.remove(first);
        let third = pool.insert(start(), (), Class::Caller);
        assert!(first < second && second < third);
        assert!(pool.get(first).is_none() && pool.get_mut(third).is_some());
        pool.wake(first);
        assert_eq!(pool.next_ready(start(), || true), Some(third), "the removed one is skipped");
    }
}
