//! Finds the providers of a key.

use bytes::Bytes;
use indexmap::{IndexMap, IndexSet};
use libp2p_identity::PeerId;

use super::search::{Search, Want};
use super::machine::{Answer, End, Machine, Step, View};
use crate::addrs::Addresses;
use crate::dht::view::Parts;
use crate::error::{GetProvidersError, NoKnownPeers, RequestError};
use crate::event::{GetProvidersOk, Precision, ProgressStep, QueryInfo, QueryResult, QueryStats, Shortage};
use crate::message::Request;
use crate::peer::PeerInfo;
use crate::record::{ProviderRecord, RecordKey};
use crate::time::Instant;

/// How many providers are remembered. Of more the one that was found first of those that were told is forgotten, and told
/// again if it is met again; while so many wait to be told, no others are taken.
const MAX_FOUND: usize = 4096;

/// The providers that were found, and those of them that were not told yet.
///
/// # What it decides
/// Which are new: each provider is told once, and once more if it had no addresses then and now has. It counts as told only
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
}

impl ProvidersFound {
    pub(super) fn new(
        key: RecordKey,
        local: PeerId,
        known: impl IntoIterator<Item = ProviderRecord>,
    ) -> Self {
        let mut this = Self { key, local, found: IndexMap::new(), untold: IndexSet::new() };
        for record in known {
            let addresses = Addresses::collect(&record.provider, record.addresses);
            this.add(record.provider, &addresses);
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
        if !self.found.contains_key(&provider) && !self.has_room() {
            return;
        }
        let known = self.found.get(&provider);
        // Where this node itself is it need not be told by others.
        let news =
            known.is_some_and(|known| known.is_empty() && !addresses.is_empty()) && provider != self.local;
        if known.is_none() || news {
            self.untold.insert(provider);
        }
        let known = self.found.entry(provider).or_default();
        *known = known.merged(addresses.iter().cloned());
    }

    /// Sees to it that there is room for one more, if that is possible without losing one that nobody was told.
    fn has_room(&mut self) -> bool {
        if self.found.len() < MAX_FOUND {
            return true;
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
    pub(super) fn news(&mut self, view: &View<'_>) -> Option<QueryResult> {
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
        (!providers.is_empty())
            .then(|| QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { key, providers })))
    }
}

/// Begins to search the peers closest to a key, who are asked for its providers.
pub(super) fn search_of(now: Instant, key: &RecordKey, parts: &mut Parts<'_>) -> Option<Search> {
    let target = (key.bytes().clone(), parts.cx.hash(key.as_ref()));
    let wanted = parts.cx.config.replication_factor().get();
    let search = Search::begin(now, target, wanted, Precision::Exact, parts).ok();
    search.map(|search| search.asking(Request::GetProviders { key: key.clone() }))
}

/// A search for the providers of a key.
///
/// # What it decides
/// When it has asked enough: when all of the closest have answered, as an exact search has it, and of each IP group two of
/// them count. How many providers were found never ends it, since anybody can make providers up; the asker ends it when it
/// has what it wants. If nobody was named, those that are slow are awaited for three seconds more.
///
/// # Outputs
/// Providers as they are found, those that this node's store knows first; at the end those for which the asker had no room.
///
/// # Bounds
/// Those of the search, and of [`ProvidersFound`].
///
/// # Spec
/// libp2p kad-dht, "Content provider discovery".
#[derive(Debug)]
pub(in crate::dht) struct GetProviders {
    found: ProvidersFound,
    search: Option<Search>,
    is_over: bool,
}

impl GetProviders {
    /// Begins to search the providers of a key, of which this node may know some itself.
    ///
    /// # Errors
    /// The result, if the key is empty, or nobody is known and this node knows none.
    pub(in crate::dht) fn begin(
        now: Instant,
        key: RecordKey,
        known: Vec<ProviderRecord>,
        parts: &mut Parts<'_>,
    ) -> Result<Self, Box<QueryResult>> {
        if key.as_ref().is_empty() {
            return Err(Box::new(QueryResult::GetProviders(Err(GetProvidersError::EmptyKey { key }))));
        }
        let search = search_of(now, &key, parts);
        let found = ProvidersFound::new(key.clone(), parts.cx.local.peer, known);
        if search.is_none() && found.is_empty() {
            return Err(Box::new(QueryResult::GetProviders(Err(GetProvidersError::of_query(NoKnownPeers(), key)))));
        }
        Ok(Self { found, search, is_over: false })
    }

    /// Returns until when somebody slow is awaited who may still name a provider where nobody else has.
    fn last_chance(&mut self, now: Instant) -> Option<Instant> {
        self.search.as_mut().filter(|_| self.found.is_empty())?.last_chance(now)
    }

    fn closest_peers(&self, view: &View<'_>) -> Vec<PeerId> {
        let closest = self.search.iter().flat_map(|search| search.closest_answered(view, search.wanted()));
        closest.map(|peer| peer.peer_id).collect()
    }

    fn result(&self, view: &View<'_>) -> QueryResult {
        if let Some(search) = self.search.as_ref().filter(|search| !search.has_answers())
            && self.found.is_empty()
        {
            let (key, fates) = (self.found.key().clone(), search.fates(view));
            return QueryResult::GetProviders(Err(GetProvidersError::NoAnswer { key, fates }));
        }
        let (closest_peers, wanted) = (self.closest_peers(view), view.config.replication_factor().get());
        let failed = self.search.as_ref().map_or(0, Search::num_failed);
        let why = if self.is_over { Shortage::NoMorePeers { failed } } else { Shortage::Finished };
        let shortage = (closest_peers.len() < wanted).then_some(why);
        QueryResult::GetProviders(Ok(GetProvidersOk::FinishedWithNoAdditionalRecord {
            closest_peers,
            shortage,
        }))
    }
}

impl Machine for GetProviders {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step {
        if let Some(news) = self.found.news(view) {
            return Step::Progress(news);
        }
        if !self.is_over {
            match self.search.as_mut().map_or(Want::Done, |search| search.next_diverse(now, view, 0)) {
                Want::Ask(ask) => return Step::Ask(ask),
                Want::Wait(until) => return Step::Wait(until),
                Want::Done => match self.last_chance(now) {
                    Some(until) => return Step::Wait(Some(until)),
                    None => self.is_over = true,
                },
            }
        }
        Step::Done(self.result(view))
    }

    fn answered(&mut self, now: Instant, from: &PeerId, _: u16, mut answer: Answer) {
        for (provider, addresses) in std::mem::take(&mut answer.providers) {
            self.found.add(provider, &addresses);
        }
        if let Some(search) = &mut self.search {
            search.answered(now, from, answer);
        }
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        if let Some(search) = &mut self.search {
            search.failed(from, error);
        }
    }

    fn end(&mut self, view: &View<'_>, why: End) -> QueryResult {
        let key = self.found.key().clone();
        match why {
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                let (cause, closest_peers) = (why.cause(), self.closest_peers(view));
                QueryResult::GetProviders(Err(GetProvidersError::Query { cause, key, closest_peers }))
            }
            End::Enough => self.result(view),
        }
    }

    fn rest(&mut self, view: &View<'_>) -> Option<QueryResult> {
        self.found.news(view)
    }

    fn info(&self, step: ProgressStep) -> QueryInfo {
        let (key, providers_found) = (self.found.key().clone(), self.found.len());
        QueryInfo::GetProviders { key, providers_found, is_watch: false, step }
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
        let (mut found, none) = (ProvidersFound::new(RecordKey::new(b"k"), peer(usize::MAX), []), Addresses::empty());
        (0..MAX_FOUND + 10).for_each(|n| found.add(peer(n), &none));
        assert_eq!((found.len(), found.untold.len()), (MAX_FOUND, MAX_FOUND));
        assert!(found.untold.contains(&peer(0)) && !found.found.contains_key(&peer(MAX_FOUND)));
        // Two have been told; they make room for the next, and may be met again.
        found.untold.drain(..2);
        (MAX_FOUND..MAX_FOUND + 10).for_each(|n| found.add(peer(n), &none));
        assert_eq!((found.len(), found.untold.len()), (MAX_FOUND, MAX_FOUND));
        assert!(!found.found.contains_key(&peer(0)) && found.untold.contains(&peer(MAX_FOUND + 1)));
    }
}
