//! Watches who provides a key.

use libp2p_identity::PeerId;

use super::get_providers::{
    GetProvidersError, GetProvidersInfo, GetProvidersOk, GetProvidersResult, ProvidersFound, search_of,
};
use super::machine::{Ask, End, FilteredAnswer, Machine, Step, View};
use super::region::{NUMBERS, RegionSearch};
use super::search::{Goal, Search};
use crate::addrs::Addresses;
use crate::dht::view::Parts;
use crate::error::RequestError;
use crate::event::{Precision, ProgressStep, QueryStats};
use crate::message::Request;
use crate::query::lookup::Place;
use crate::record::RecordKey;
use crate::time::{Duration, Instant, after};

/// After the first search the next one begins after this time, which doubles with each (chosen, not measured).
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time between two searches (chosen, not measured).
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Searches the providers of a key again and again, until it is cancelled.
///
/// # What it decides
/// When to search: at once, a second after the first search has ended, then after twice as long as the last time, up to five
/// minutes. As long as nobody is known who could be asked, it tries each second; that costs nothing.
///
/// # States
/// ```text
/// Searching --over--> Pausing --1 s, 2 s, 4 s ... 5 min--> Searching
/// ```
///
/// # Outputs
/// Each provider once, as it is found and the asker has room for it, and once more if it had no addresses before. It ends
/// only if it is told to.
///
/// # Bounds
/// Those of the search, and of [`ProvidersFound`].
#[derive(Debug)]
pub(in crate::dht) struct WatchProviders {
    found: ProvidersFound,
    /// The first number of the search: each has its own, so that late answers to an earlier one are told apart.
    round: u16,
    search: Option<RegionSearch>,
    pause: Duration,
    next_at: Option<Instant>,
    spent: QueryStats,
    /// Whether the asker was told that the key is surrounded.
    has_warned: bool,
}

impl WatchProviders {
    /// Begins to watch who provides a key, of which this node may know some itself.
    pub(in crate::dht) fn begin(
        now: Instant,
        key: RecordKey,
        known: Vec<(PeerId, Addresses)>,
        parts: &mut Parts<'_>,
    ) -> Self {
        let search = search_of(now, &key, parts);
        let (found, spent) = (ProvidersFound::new(key, parts.cx.local.peer, known), QueryStats::empty());
        Self { found, round: 0, search, pause: FIRST_PAUSE, next_at: None, spent, has_warned: false }
    }

    /// Returns which of the present search's requests has a number, if any.
    fn number(&self, lookup: u16) -> Option<u16> {
        lookup.checked_sub(self.round).filter(|number| *number < NUMBERS)
    }

    /// Begins the next search, if its time has come and there is anybody to ask.
    fn search_again(&mut self, now: Instant, view: &View<'_>) {
        if self.next_at.is_some_and(|at| at > now) {
            return;
        }
        let target = (self.found.preimage().clone(), (view.config.key_hash)(self.found.preimage()));
        let k = view.config.replication_factor().get();
        let search = Search::new(now, view, target, k, Goal::Closest(Precision::Exact));
        let request = Request::GetProviders { key: self.found.key().clone() };
        self.search = search.map(|search| search.asking(request).into());
        self.round = self.round.wrapping_add(NUMBERS);
        self.next_at = self.search.is_none().then(|| after(now, FIRST_PAUSE));
    }
}

impl<R: From<GetProvidersResult>, I: From<GetProvidersInfo>> Machine<R, I> for WatchProviders {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        if let Some(news) = self.found.news(view) {
            return Step::Progress(R::from(news));
        }
        if self.search.is_none() {
            self.search_again(now, view);
        }
        let Some(search) = &mut self.search else {
            return Step::Wait(self.next_at);
        };
        let is_protected = view.config.protects_providers();
        let mut step = search.next_everywhere(now, view, is_protected);
        if matches!(step, Some(Step::Surrounded(_))) && std::mem::replace(&mut self.has_warned, true) {
            // Once is enough, however often it is searched.
            step = search.next_everywhere(now, view, is_protected);
        }
        match step {
            Some(Step::Ask(ask)) => Step::Ask(Ask { lookup: self.round + ask.lookup, ..ask }),
            Some(step) => step,
            None => {
                search.count(&mut self.spent);
                self.search = None;
                self.found.release();
                self.next_at = Some(after(now, self.pause));
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                if let Some(news) = self.found.news(view) {
                    return Step::Progress(R::from(news));
                }
                Step::Wait(self.next_at)
            }
        }
    }

    fn knows(&self, lookup: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        let search = self.number(lookup).zip(self.search.as_ref());
        search.is_some_and(|(number, search)| search.knows(number, peer, addresses))
    }

    fn place(&mut self, now: Instant, to: &PeerId, lookup: u16, place: Place) {
        if let Some((number, search)) = self.number(lookup).zip(self.search.as_mut()) {
            search.place(now, to, number, place);
        }
    }

    fn answered(&mut self, from: &PeerId, lookup: u16, mut answer: FilteredAnswer) {
        self.found.add_all(std::mem::take(&mut answer.providers));
        if let Some((number, search)) = self.number(lookup).zip(self.search.as_mut()) {
            search.answered(from, number, answer);
        }
    }

    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError) {
        if let Some((number, search)) = self.number(lookup).zip(self.search.as_mut()) {
            search.failed(from, number, error);
        }
    }

    fn end(&mut self, _: &View<'_>, why: End) -> R {
        R::from(match why {
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                Err(GetProvidersError::of_query(why.cause(), self.found.key().clone()))
            }
            End::Enough => {
                let (closest_peers, shortage) = (Vec::new(), None);
                Ok(GetProvidersOk::FinishedWithNoAdditionalRecord { closest_peers, shortage })
            }
        })
    }

    fn rest(&mut self, view: &View<'_>) -> Option<R> {
        self.found.release();
        self.found.news(view).map(R::from)
    }

    fn info(&self, step: ProgressStep) -> I {
        let (key, providers_found) = (self.found.key().clone(), self.found.len());
        I::from(GetProvidersInfo { key, providers_found, is_watch: true, step })
    }

    fn count(&self, stats: &mut QueryStats) {
        *stats = stats.merge(self.spent);
        if let Some(search) = &self.search {
            search.count(stats);
        }
    }
}
