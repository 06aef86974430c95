//! Finds the providers of a key.

use bytes::Bytes;
use indexmap::{IndexMap, IndexSet};
use libp2p_identity::PeerId;

use super::machine::{End, FilteredAnswer, Findings, Machine, Step, View};
use super::region::RegionSearch;
use super::search::Search;
use crate::addrs::Addresses;
use crate::dht::advice::Failure;
use crate::dht::view::Parts;
use crate::error::fates::so_far;
use crate::error::{Fates, NoKnownPeers, QueryError, RequestError, query_error};
use crate::event::{Precision, ProgressStep, QueryStats, Shortage};
use crate::message::Request;
use crate::peer::PeerInfo;
use crate::query::lookup::Place;
use crate::record::RecordKey;
use crate::time::Instant;

/// The outcome of a step of searching providers.
pub type GetProvidersResult = Result<GetProvidersOk, GetProvidersError>;

/// A step of searching providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetProvidersOk {
    /// Providers were found that were not known before, or whose addresses were not; none if the search is over, has been answered,
    /// and nobody has named any.
    ///
    /// Differs from `libp2p-kad`: each comes with its addresses; an empty list comes once.
    FoundProviders {
        /// The key.
        key: RecordKey,
        /// The providers. One that comes a second time now has addresses.
        providers: Vec<PeerInfo>,
    },
    /// The search is over: all of the closest peers have been asked.
    FinishedWithNoAdditionalRecord {
        /// The closest peers that answered, nearest first.
        closest_peers: Vec<PeerId>,
        /// Why fewer of the closest have answered than were to be asked, if fewer have: a peer that was not asked may know
        /// more providers. `None` for a watch, which asks again and again.
        shortage: Option<Shortage>,
    },
}

/// Why a search for providers ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetProvidersError {
    /// This node knows no provider, and nobody that was asked has answered. See what became of them, add the address of a peer
    /// that serves the protocol, and search again.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// The key.
        key: RecordKey,
        /// What became of those that were asked.
        fates: Fates,
    },
    /// The protocol cannot ask for the providers of no bytes: give at least one.
    #[error("the key is empty")]
    EmptyKey {
        /// The key, which is empty.
        key: RecordKey,
    },
    /// What any query may fail of: see [`QueryError`] for what to do.
    #[error("{cause}{}", so_far("closest peers that had answered", .closest_peers.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The key.
        key: RecordKey,
        /// The closest peers that had answered, nearest first.
        closest_peers: Vec<PeerId>,
    },
}

impl GetProvidersError {
    /// Returns the key.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::NoAnswer { key, .. } | Self::EmptyKey { key } | Self::Query { key, .. } => key,
        }
    }

    /// Returns the key, without the rest.
    pub fn into_key(self) -> RecordKey {
        self.key().clone()
    }

    pub(crate) fn of_query(cause: impl Into<QueryError>, key: RecordKey) -> Self {
        Self::Query { cause: cause.into(), key, closest_peers: Vec::new() }
    }
}

query_error!(GetProvidersError);

impl Findings for GetProvidersResult {
    fn found(&self) -> &[PeerInfo] {
        match self {
            Ok(GetProvidersOk::FoundProviders { providers, .. }) => providers,
            Ok(GetProvidersOk::FinishedWithNoAdditionalRecord { .. }) | Err(_) => &[],
        }
    }

    fn failure(&self) -> Option<Failure> {
        match self {
            Err(GetProvidersError::NoAnswer { fates, .. }) => Some(Failure::of_fates(fates)),
            Err(error) => Failure::of_query(error.query_error()),
            Ok(_) => None,
        }
    }
}

/// What is seen of a search for providers that runs.
#[derive(Debug)]
pub(in crate::dht) struct GetProvidersInfo {
    pub(in crate::dht) key: RecordKey,
    pub(in crate::dht) providers_found: usize,
    pub(in crate::dht) is_watch: bool,
    pub(in crate::dht) step: ProgressStep,
}

/// How many providers are remembered. Of more the one that was found first of those that were told is forgotten, and told
/// again if it is met again; while so many wait to be told, no others are taken. Chosen, not measured.
const MAX_FOUND: usize = 4096;

/// So many of the providers that one peer names are told at once. Chosen, not measured: a quarter of what answers name.
const AT_ONCE: usize = 5;

/// The providers that were found, and those of them that were not told yet.
///
/// # What it decides
/// Which are new, and which are told first: five that a peer names at once, the others when the search is over. Each provider is told once, and once more if it had no addresses then and now has. It counts as told only
/// when it is: what the asker has no room for waits. This node itself is told once, whatever others say of it.
///
/// # Bounds
/// 4,096 providers.
#[derive(Debug)]
pub(in crate::dht) struct ProvidersFound {
    key: RecordKey,
    local: PeerId,
    found: IndexMap<PeerId, Addresses>,
    /// In the order in which they were found.
    untold: IndexSet<PeerId>,
    /// Those that are told behind all these: some peer has named many.
    last: IndexSet<PeerId>,
}

impl ProvidersFound {
    pub(super) fn new(
        key: RecordKey,
        local: PeerId,
        known: impl IntoIterator<Item = (PeerId, Addresses)>,
    ) -> Self {
        let mut this =
            Self { key, local, found: IndexMap::new(), untold: IndexSet::new(), last: IndexSet::new() };
        for (provider, addresses) in known {
            this.add(provider, &addresses);
        }
        this
    }

    fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Returns the bytes whose hash the providers are to be found near.
    pub(super) fn preimage(&self) -> &Bytes {
        self.key.bytes()
    }

    pub(super) fn add(&mut self, provider: PeerId, addresses: &Addresses) {
        if self.take(provider, addresses) {
            self.last.swap_remove(&provider);
            self.untold.insert(provider);
        }
    }

    /// Takes note of a provider and its addresses. Returns whether that is news.
    fn take(&mut self, provider: PeerId, addresses: &Addresses) -> bool {
        if !self.found.contains_key(&provider) && !self.has_room() {
            return false;
        }
        let known = self.found.get(&provider);
        // Where this node itself is it need not be told by others.
        let news =
            known.is_some_and(|known| known.is_empty() && !addresses.is_empty()) && provider != self.local;
        let is_news = known.is_none() || news;
        let known = self.found.entry(provider).or_default();
        *known = known.merged(addresses.iter().cloned());
        is_news
    }

    /// Adds what an answer names: the first few are told at once, the others when the search is over, so that nobody crowds out what
    /// others name.
    pub(super) fn add_all(&mut self, providers: Vec<(PeerId, Addresses)>) {
        for (at, (provider, addresses)) in providers.into_iter().enumerate() {
            let is_news = self.take(provider, &addresses);
            if at < AT_ONCE && (self.last.swap_remove(&provider) || is_news) {
                self.untold.insert(provider);
            } else if is_news && !self.untold.contains(&provider) {
                self.last.insert(provider);
            }
        }
    }

    /// The search is over: all others may be told, too.
    pub(super) fn release(&mut self) {
        self.untold.extend(self.last.drain(..));
    }

    /// Sees to it that there is room for one more, if that is possible without losing one that nobody was told.
    fn has_room(&mut self) -> bool {
        if self.found.len() < MAX_FOUND {
            return true;
        }
        // Before one that was told one goes that some peer has named among many.
        if let Some(last) = self.last.pop() {
            return self.found.shift_remove(&last).is_some();
        }
        if self.untold.len() >= self.found.len() {
            return false;
        }
        let told = self.found.keys().position(|known| !self.untold.contains(known));
        told.is_some_and(|told| self.found.shift_remove_index(told).is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// Returns what was found and not told yet, as far as the asker has room, if there is anything.
    pub(super) fn news(&mut self, view: &View<'_>) -> Option<GetProvidersResult> {
        let mut untold: Vec<_> = self.untold.drain(..view.room.min(self.untold.len())).collect();
        untold.sort_unstable();
        let info = |peer_id| {
            let named = self.found.get(&peer_id).into_iter().flatten().cloned();
            let addresses = if peer_id == self.local {
                // It can use all of its own addresses itself, and knows them better than anybody.
                view.local.addresses_for(crate::addrs::Reach::Machine)
            } else {
                view.peers.addresses(&peer_id).merged(named)
            };
            PeerInfo { peer_id, addrs: addresses.into_vec() }
        };
        let providers: Vec<_> = untold.into_iter().map(info).collect();
        let key = self.key.clone();
        (!providers.is_empty()).then(|| Ok(GetProvidersOk::FoundProviders { key, providers }))
    }
}

/// Begins to search the peers closest to a key, which are asked for its providers.
pub(super) fn search_of(now: Instant, key: &RecordKey, parts: &mut Parts<'_>) -> Option<RegionSearch> {
    let target = (key.bytes().clone(), parts.cx.hash(key.as_ref()));
    let wanted = parts.cx.config.replication_factor().get();
    let search = Search::begin(now, target, wanted, Precision::Exact, parts).ok();
    search.map(|search| search.asking(Request::GetProviders { key: key.clone() }).into())
}

/// A search for the providers of a key.
///
/// # What it decides
/// When it has asked enough: when all of the closest have answered, as an exact search has it, and of each IP group two of
/// them count; then all others of the key's region, if it is [protected](crate::Protection). How many providers were found never ends it, since anybody can make providers up; the asker ends it when it
/// has what it wants. If nobody was named, those that are slow are awaited for three seconds more.
///
/// # Outputs
/// Providers as they are found, those that this node's store knows first; at the end those for which the asker had no room. Where
/// there are none, an empty list before the end, as users of `libp2p-kad` expect.
///
/// # Bounds
/// Those of the search, and of [`ProvidersFound`].
///
/// # Spec
/// libp2p kad-dht, "Content provider discovery".
#[derive(Debug)]
pub(in crate::dht) struct GetProviders {
    found: ProvidersFound,
    search: Option<RegionSearch>,
    is_over: bool,
    /// Whether the asker was told that there are none.
    has_told_none: bool,
}

impl GetProviders {
    /// Begins to search the providers of a key, of which this node may know some itself.
    ///
    /// # Errors
    /// The result, if the key is empty, or nobody is known and this node knows none.
    pub(in crate::dht) fn begin(
        now: Instant,
        key: RecordKey,
        known: Vec<(PeerId, Addresses)>,
        parts: &mut Parts<'_>,
    ) -> Result<Self, Box<GetProvidersResult>> {
        if key.as_ref().is_empty() {
            return Err(Box::new(Err(GetProvidersError::EmptyKey { key })));
        }
        let search = search_of(now, &key, parts);
        let found = ProvidersFound::new(key.clone(), parts.cx.local.peer, known);
        if search.is_none() && found.is_empty() {
            return Err(Box::new(Err(GetProvidersError::of_query(NoKnownPeers(), key))));
        }
        Ok(Self { found, search, is_over: false, has_told_none: false })
    }

    /// Returns until when a slow peer is awaited that may still name a provider where no other has.
    fn last_chance(&mut self, now: Instant) -> Option<Instant> {
        self.search.as_mut().filter(|_| self.found.is_empty())?.last_chance(now)
    }

    fn closest_peers(&self, view: &View<'_>) -> Vec<PeerId> {
        let searches = self.search.iter().map(|search| &search.search);
        let closest = searches.flat_map(|search| search.closest_answered(view, search.wanted()));
        closest.map(|peer| peer.peer_id).collect()
    }

    fn result(&self, view: &View<'_>) -> GetProvidersResult {
        let search = self.search.as_ref().map(|search| &search.search);
        if let Some(search) = search.filter(|search| !search.has_answers())
            && self.found.is_empty()
        {
            let (key, fates) = (self.found.key().clone(), search.fates(view));
            return Err(GetProvidersError::NoAnswer { key, fates });
        }
        let (closest_peers, wanted) = (self.closest_peers(view), view.config.replication_factor().get());
        let failed = search.map_or(0, Search::num_failed);
        let why = if self.is_over { Shortage::NoMorePeers { failed } } else { Shortage::Finished };
        let shortage = (closest_peers.len() < wanted).then_some(why);
        Ok(GetProvidersOk::FinishedWithNoAdditionalRecord { closest_peers, shortage })
    }
}

impl<R: From<GetProvidersResult>, I: From<GetProvidersInfo>> Machine<R, I> for GetProviders {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        if let Some(news) = self.found.news(view) {
            return Step::Progress(R::from(news));
        }
        if !self.is_over {
            let is_protected = view.config.protects_providers();
            let search = self.search.as_mut();
            if let Some(step) = search.and_then(|search| search.next_everywhere(now, view, is_protected)) {
                return step;
            }
            if let Some(until) = self.last_chance(now) {
                return Step::Wait(Some(until));
            }
            self.is_over = true;
            self.found.release();
            if let Some(news) = self.found.news(view) {
                return Step::Progress(R::from(news));
            }
        }
        let result = self.result(view);
        if result.is_ok() && self.found.is_empty() && !std::mem::replace(&mut self.has_told_none, true) {
            let none =
                GetProvidersOk::FoundProviders { key: self.found.key().clone(), providers: Vec::new() };
            return Step::Progress(R::from(Ok(none)));
        }
        Step::Done(R::from(result))
    }

    fn knows(&self, lookup: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        self.search.as_ref().is_some_and(|search| search.knows(lookup, peer, addresses))
    }

    fn place(&mut self, now: Instant, to: &PeerId, lookup: u16, place: Place) {
        if let Some(search) = &mut self.search {
            search.place(now, to, lookup, place);
        }
    }

    fn answered(&mut self, from: &PeerId, lookup: u16, mut answer: FilteredAnswer) {
        self.found.add_all(std::mem::take(&mut answer.providers));
        if let Some(search) = &mut self.search {
            search.answered(from, lookup, answer);
        }
    }

    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError) {
        if let Some(search) = &mut self.search {
            search.failed(from, lookup, error);
        }
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        let key = self.found.key().clone();
        match why {
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                let (cause, closest_peers) = (why.cause(), self.closest_peers(view));
                R::from(Err(GetProvidersError::Query { cause, key, closest_peers }))
            }
            End::Enough => R::from(self.result(view)),
        }
    }

    fn rest(&mut self, view: &View<'_>) -> Option<R> {
        self.found.release();
        self.found.news(view).map(R::from)
    }

    fn is_light(&self) -> bool {
        self.search.is_none()
    }

    fn info(&self, step: ProgressStep) -> I {
        let (key, providers_found) = (self.found.key().clone(), self.found.len());
        I::from(GetProvidersInfo { key, providers_found, is_watch: false, step })
    }

    fn count(&self, stats: &mut QueryStats) {
        if let Some(search) = &self.search {
            search.count(stats);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    fn peer(seed: usize) -> PeerId {
        let digest = *Key::sha256(&seed.to_le_bytes()).as_bytes();
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &digest).unwrap()).unwrap()
    }

    #[test]
    fn nobody_is_forgotten_before_being_told() {
        let (mut found, none) =
            (ProvidersFound::new(RecordKey::new(b"k"), peer(usize::MAX), []), Addresses::empty());
        (0..MAX_FOUND + 10).for_each(|n| found.add(peer(n), &none));
        assert_eq!((found.len(), found.untold.len()), (MAX_FOUND, MAX_FOUND));
        assert!(found.untold.contains(&peer(0)) && !found.found.contains_key(&peer(MAX_FOUND)));
        // Two have been told; they make room for the next, and may be met again.
        found.untold.drain(..2);
        (MAX_FOUND..MAX_FOUND + 10).for_each(|n| found.add(peer(n), &none));
        assert_eq!((found.len(), found.untold.len()), (MAX_FOUND, MAX_FOUND));
        assert!(!found.found.contains_key(&peer(0)) && found.untold.contains(&peer(MAX_FOUND + 1)));
    }

    #[test]
    fn what_one_peer_names_in_plenty_is_told_last_and_first_to_go() {
        let (mut found, none) =
            (ProvidersFound::new(RecordKey::new(b"k"), peer(usize::MAX), []), Addresses::empty());
        let named =
            |range: std::ops::Range<usize>| range.map(|n| (peer(n), none.clone())).collect::<Vec<_>>();
        found.add_all(named(0..20));
        assert_eq!((found.untold.len(), found.last.len()), (AT_ONCE, 15));
        // Another names some of them, too, among its first.
        found.add_all(named(10..12));
        assert_eq!((found.untold.len(), found.last.len()), (AT_ONCE + 2, 13));
        found.release();
        assert_eq!((found.untold.len(), found.last.len()), (20, 0));
        found.untold.clear();
        // Crowds fill it, and those whom others name are told all the same.
        (0..MAX_FOUND).for_each(|n| found.add_all(named(100 + 20 * n..120 + 20 * n)));
        assert!(found.len() == MAX_FOUND && found.last.is_empty());
        let told: Vec<_> = (0..20).map(|n| 100 + 20 * n).collect();
        assert!(told.iter().all(|n| found.untold.contains(&peer(*n))));
    }
}
