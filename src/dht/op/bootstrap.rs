//! Joins the network.

use std::collections::VecDeque;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::machine::{After, End, FilteredAnswer, Findings, Machine, Step, View, preimage_of};
use super::search::{Goal, Search};
use crate::addrs::Addresses;
use crate::dht::advice::Failure;
use crate::dht::view::Parts;
use crate::error::{Fates, NoKnownPeers, QueryError, RequestError, SeedOutcome, query_error};
use crate::event::{Precision, ProgressStep, QueryStats};
use crate::key::BucketIndex;
use crate::query::lookup::Place;
use crate::routing::bootstrap::buckets_to_look_up;
use crate::time::{Instant, earliest};

/// The outcome of one step of joining.
pub type BootstrapResult = Result<BootstrapOk, BootstrapError>;

/// One step of joining has been done: a lookup of the own id, or of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootstrapOk {
    /// This node.
    pub peer: PeerId,
    /// How many buckets are still to be looked up.
    pub num_remaining: u32,
    /// What became of asking each seed; filled in the first step only.
    pub outcomes: Vec<SeedOutcome>,
}

/// Why joining the network failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// None of the peers that could be asked answered. See what became of them, and add the address of one that is up and
    /// speaks the protocol; this node tries again by itself unless it joins on request.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// What became of those that were asked.
        fates: Fates,
        /// The seeds, and with what outcome each was asked last.
        outcomes: Vec<SeedOutcome>,
    },
    /// What any query may fail of: see [`QueryError`] for what to do.
    #[error("{cause}{}", left(.num_remaining.as_ref()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// This node.
        peer: PeerId,
        /// How many buckets were still to be looked up; `None` if the own id was.
        num_remaining: Option<u32>,
    },
}

fn left(buckets: Option<&u32>) -> String {
    buckets.map_or_else(String::new, |left| format!(" (buckets still to be looked up: {left})"))
}

query_error!(BootstrapError);

impl Findings for BootstrapResult {
    fn failure(&self) -> Option<Failure> {
        match self {
            Err(BootstrapError::NoAnswer { fates, .. }) => Some(Failure::of_fates(fates)),
            Err(BootstrapError::Query { .. }) | Ok(_) => None,
        }
    }
}

/// What is seen of a join that runs.
#[derive(Debug)]
pub(in crate::dht) struct BootstrapInfo {
    pub(in crate::dht) peer: PeerId,
    pub(in crate::dht) remaining: Option<u32>,
    pub(in crate::dht) step: ProgressStep,
}

/// How many buckets are looked up at once: their lookups share most of the peers they ask. Chosen, not measured.
const MAX_LOOKUPS: usize = 3;

/// Looks up the own id, then every bucket that is farther than the closest neighbour.
///
/// # States
/// ```text
/// Own id --answers--> Buckets (three at once, nearest first) --none left--> over
///    |
///    +--nobody answers--> over, failed
/// ```
///
/// # Outputs
/// One event for each lookup that has ended, the last one marked; the first tells what came of asking each seed.
///
/// # Spec
/// libp2p kad-dht, "Bootstrap process"; Maymounkov & Mazières §2.3. The own id is looked up exactly; the buckets only so
/// far that the closest has answered, since any peer of a bucket will do.
#[derive(Debug)]
pub(in crate::dht) struct Bootstrap {
    local: PeerId,
    own: Search,
    own_is_over: bool,
    buckets: VecDeque<BucketIndex>,
    /// Running lookups of buckets, by the number they were given.
    lookups: Vec<(u16, Search)>,
    next_lookup: u16,
    /// What the lookups have cost that are over.
    spent: QueryStats,
    is_over: bool,
}

impl Bootstrap {
    /// Begins to join.
    ///
    /// # Errors
    /// [`NoKnownPeers`] if the table is empty and there is no seed.
    pub(in crate::dht) fn begin(now: Instant, parts: &mut Parts<'_>) -> Result<Self, NoKnownPeers> {
        let own = look_up_own(now, &parts.view(usize::MAX)).ok_or(NoKnownPeers())?;
        Ok(Self {
            local: parts.cx.local.peer,
            own,
            own_is_over: false,
            buckets: VecDeque::new(),
            lookups: Vec::new(),
            next_lookup: 1,
            spent: QueryStats::empty(),
            is_over: false,
        })
    }

    /// Returns what is seen of a join that cannot begin.
    pub(in crate::dht) const fn seen(peer: PeerId) -> BootstrapInfo {
        BootstrapInfo { peer, remaining: None, step: ProgressStep::first() }
    }

    /// Returns the result of a join that cannot begin.
    pub(in crate::dht) fn refused(peer: PeerId, cause: QueryError) -> BootstrapResult {
        Err(BootstrapError::Query { cause, peer, num_remaining: None })
    }

    fn remaining(&self) -> u32 {
        u32::try_from(self.buckets.len() + self.lookups.len()).unwrap_or(u32::MAX)
    }

    /// A lookup is over: tells so, and ends with the last.
    fn over<R: From<BootstrapResult>>(&mut self, view: &View<'_>, own: bool) -> Step<R> {
        let outcomes = if own { view.seeds.outcomes() } else { Vec::new() };
        let num_remaining = self.remaining();
        let result = Ok(BootstrapOk { peer: self.local, num_remaining, outcomes });
        if num_remaining == 0 {
            self.is_over = true;
            Step::Done(R::from(result))
        } else {
            Step::Progress(R::from(result))
        }
    }

    fn next_of_own<R: From<BootstrapResult>>(&mut self, now: Instant, view: &View<'_>) -> Step<R> {
        match self.own.next(now, view, 0) {
            Some(step) => step,
            None if !self.own.has_answers() => {
                let (fates, outcomes) = (self.own.fates(view), view.seeds.outcomes());
                Step::Done(R::from(Err(BootstrapError::NoAnswer { fates, outcomes })))
            }
            None => {
                self.own_is_over = true;
                self.buckets = buckets_to_look_up(view.table).into();
                self.over(view, true)
            }
        }
    }

    /// Begins lookups of further buckets as long as there is room for them.
    fn begin_lookups(&mut self, now: Instant, view: &mut View<'_>) {
        while self.lookups.len() < MAX_LOOKUPS
            && let Some(bucket) = self.buckets.pop_front()
        {
            if let Some(search) = look_up_bucket(now, view, bucket) {
                self.lookups.push((self.next_lookup, search));
                self.next_lookup += 1;
            }
        }
    }
}

/// Begins the lookup of a random key of a bucket; `None` if there is nobody to ask, or no such key can be found.
pub(in crate::dht) fn look_up_bucket(
    now: Instant,
    view: &mut View<'_>,
    bucket: BucketIndex,
) -> Option<Search> {
    let (bytes, key) = view.local.key.preimage_in_bucket(bucket, view.config.key_hash, view.rng)?;
    let k = view.config.bucket_size().get();
    view.refresh.looked_up(now, bucket, view.rng);
    Search::new(now, view, (Bytes::copy_from_slice(&bytes), key), k, Goal::Anybody)
}

/// Begins the lookup of the own id; `None` if there is nobody to ask.
pub(in crate::dht) fn look_up_own(now: Instant, view: &View<'_>) -> Option<Search> {
    let k = view.config.bucket_size().get();
    Search::new(now, view, preimage_of(&view.local.peer, view.local.key), k, Goal::Closest(Precision::Exact))
}

impl<R: From<BootstrapResult>, I: From<BootstrapInfo>> Machine<R, I> for Bootstrap {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        if !self.own_is_over {
            return self.next_of_own(now, view);
        }
        self.begin_lookups(now, view);
        if self.lookups.is_empty() && !self.is_over {
            // No key was found for what was left.
            return self.over(view, false);
        }
        let mut wake_at = None;
        for at in 0..self.lookups.len() {
            let Some((number, search)) = self.lookups.get_mut(at) else {
                break;
            };
            match search.next(now, view, *number) {
                Some(Step::Wait(until)) => wake_at = earliest(wake_at, until),
                Some(step) => return step,
                None => {
                    let (_, search) = self.lookups.remove(at);
                    search.count(&mut self.spent);
                    return self.over(view, false);
                }
            }
        }
        Step::Wait(wake_at)
    }

    fn knows(&self, lookup: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        let mut lookups = self.lookups.iter();
        let search = if lookup == 0 {
            Some(&self.own)
        } else {
            lookups.find_map(|(number, search)| (*number == lookup).then_some(search))
        };
        search.is_some_and(|search| search.knows(peer, addresses))
    }

    fn place(&mut self, now: Instant, to: &PeerId, lookup: u16, place: Place) {
        if lookup == 0 {
            self.own.place(now, to, place);
        } else if let Some((_, search)) = self.lookups.iter_mut().find(|(number, _)| *number == lookup) {
            search.place(now, to, place);
        }
    }

    fn answered(&mut self, from: &PeerId, lookup: u16, answer: FilteredAnswer) {
        if lookup == 0 {
            self.own.answered(from, answer);
        } else if let Some((_, search)) = self.lookups.iter_mut().find(|(number, _)| *number == lookup) {
            search.answered(from, answer);
        }
    }

    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError) {
        if lookup == 0 {
            self.own.failed(from, error);
        } else if let Some((_, search)) = self.lookups.iter_mut().find(|(number, _)| *number == lookup) {
            search.failed(from, error);
        }
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        let peer = self.local;
        let num_remaining = self.own_is_over.then(|| self.remaining());
        R::from(match why {
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                Err(BootstrapError::Query { cause: why.cause(), peer, num_remaining })
            }
            End::Enough => {
                Ok(BootstrapOk { peer, num_remaining: self.remaining(), outcomes: view.seeds.outcomes() })
            }
        })
    }

    fn after(&self, _: Instant, _: &View<'_>) -> After {
        After::Joined(self.own.has_answers())
    }

    fn info(&self, step: ProgressStep) -> I {
        let remaining = self.own_is_over.then(|| self.remaining());
        I::from(BootstrapInfo { peer: self.local, remaining, step })
    }

    fn count(&self, stats: &mut QueryStats) {
        self.own.count(stats);
        self.lookups.iter().for_each(|(_, search)| search.count(stats));
        *stats = stats.merge(QueryStats { start: None, end: None, ..self.spent });
    }
}
