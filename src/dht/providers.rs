//! Providers: what this node provides, what it searches the providers of, and what others say they provide.
//!
//! Knows the store by its trait. Whom an announcement goes to, and which providers are found, is decided by the operations
//! under `op`.

mod inbound;
mod newcomers;
mod upkeep;

use std::collections::BTreeMap;

use super::op::Operation;
use super::op::get_providers::{Found, GetProviders};
use super::op::watch_providers::WatchProviders;
use super::{Dht, RecordStore};
use crate::addrs::Addresses;
use crate::error::{AddProviderError, GetProvidersError, NoKnownPeers, ProvideReport, StoreError};
use crate::event::{Precision, ProgressStep, QueryId, QueryInfo, QueryResult};
use crate::message::Request;
use crate::peer::KadPeer;
use crate::record::{ProviderRecord, RecordKey};
use crate::store;
use crate::store::republish::{Republish, Spread};
use crate::time::{Duration, Instant, Now, earliest};
use crate::validate::InvalidRecord;

use newcomers::Newcomers;

/// The longest key that anybody provides (`spec` of the public IPFS network; go nodes refuse longer ones).
pub(super) const MAX_KEY: usize = 80;

/// How many keys are provided at once for as long as the program says so (as many as those of others, by default).
const MAX_ADVERTISED: usize = 64 * 1024;

/// What is remembered beside the store.
#[derive(Debug)]
pub(super) struct Providing {
    reprovide: Republish,
    newcomers: Newcomers,
    /// What is provided until it is retired or the program ends, with the addresses that were named last.
    advertised: BTreeMap<RecordKey, Addresses>,
    /// The addresses that others are told now.
    addresses: Addresses,
    /// When those are told the addresses who know others.
    renew_at: Option<Instant>,
}

impl Providing {
    pub(super) fn new(config: &crate::config::Providers) -> Self {
        Self {
            reprovide: Republish::of_announcements(config.publication),
            newcomers: Newcomers::default(),
            advertised: BTreeMap::new(),
            addresses: Addresses::empty(),
            renew_at: None,
        }
    }

    /// The machine has slept.
    pub(super) fn slept(&mut self, now: Instant, by: Duration) {
        self.reprovide.slept(now, by);
    }

    /// Returns when something is due; what is to be announced only if it can be.
    pub(super) fn deadline(&self, can_announce: bool) -> Option<Instant> {
        let announced = earliest(self.reprovide.deadline(), self.newcomers.deadline());
        earliest(self.renew_at, announced.filter(|_| can_announce))
    }
}

impl<S: RecordStore> Dht<S> {
    /// Tells the `k` peers closest to a key that this node provides it. One [`QueryResult::StartProviding`] tells when enough
    /// have been told, or too few can be; the query goes on until it is known what became of all.
    ///
    /// From now on this node tells it anew from time to time, after a restart too if the store outlives it, until
    /// [`stop_providing`](Self::stop_providing). If too few could be told it tries again after a second, doubling to ten
    /// minutes; if some were told, after a minute, doubling; and as soon as it has an address, if it had none that others
    /// could use. Where there are fewer than `k` peers and all have been told, only those are told before the interval is over
    /// who come later. When this node is to be found at other addresses than those that were named, it tells all anew,
    /// beginning within a minute.
    ///
    /// # Errors
    /// Whatever keeps this node's store from taking the key; then nobody is told. A key has 1 to 80 bytes.
    pub fn start_providing(&mut self, now: Now, key: RecordKey) -> Result<QueryId, store::Error> {
        let now = self.tell_time(now);
        check_key(&key)?;
        if self.kept(now, &key).is_none() {
            let record = ProviderRecord::new(key.clone(), self.local.peer, Vec::new());
            self.store.add_provider(self.wall_at(now), record)?;
            self.commit_soon(now);
        }
        Ok(self.provide(now, key))
    }

    /// Does what [`start_providing`](Self::start_providing) does, but not beyond the end of the program: the store takes no
    /// note of it. Lasts until [`retire`](Self::retire). A key may be provided in both ways, and is until both have ended.
    ///
    /// # Errors
    /// [`store::Error::MaxProvidedKeys`] beyond 65,536 keys; [`store::Error::Invalid`] unless the key has 1 to 80 bytes.
    pub fn advertise(&mut self, now: Now, key: RecordKey) -> Result<QueryId, store::Error> {
        let now = self.tell_time(now);
        check_key(&key)?;
        if !self.providing.advertised.contains_key(&key) {
            if self.providing.advertised.len() >= MAX_ADVERTISED {
                return Err(store::Error::MaxProvidedKeys { most: MAX_ADVERTISED });
            }
            self.providing.advertised.insert(key.clone(), Addresses::empty());
        }
        Ok(self.provide(now, key))
    }

    fn provide(&mut self, now: Instant, key: RecordKey) -> QueryId {
        let target = (self.config.key_hash)(key.as_ref());
        self.providing.reprovide.stored(now, key.clone(), target, true, &mut self.rng);
        let (error, spread) = match self.announcement(now, &key) {
            Err(why) => why,
            Ok(add) => match self.begin(now, add) {
                Ok(id) => return id,
                Err(cause) => (AddProviderError::of_query(cause, key.clone()), Spread::Nowhere),
            },
        };
        self.providing.reprovide.was_put(now, &key, spread, &mut self.rng);
        self.not_announced(now, key, error)
    }

    fn not_announced(&mut self, now: Instant, key: RecordKey, error: AddProviderError) -> QueryId {
        let info = QueryInfo::AddProvider { key, sent: 0, report: ProvideReport::default() };
        self.at_once(now, info, QueryResult::StartProviding(Err(error)))
    }

    /// Tells nobody any more that this node provides a key, unless it is [advertised](Self::advertise): an announcement that
    /// runs is cancelled. Others believe it until it ends there.
    ///
    /// # Errors
    /// Whatever the store says.
    pub fn stop_providing(&mut self, now: Now, key: &RecordKey) -> Result<(), store::Error> {
        let now = self.tell_time(now);
        self.store.remove_provider(key, &self.local.peer)?;
        self.commit_soon(now);
        self.stopped(now, key);
        Ok(())
    }

    /// Ends what [`advertise`](Self::advertise) has begun, as [`stop_providing`](Self::stop_providing) does the other.
    pub fn retire(&mut self, now: Now, key: &RecordKey) {
        let now = self.tell_time(now);
        self.providing.advertised.remove(key);
        self.stopped(now, key);
    }

    /// Searches the providers of a key; see [`QueryResult::GetProviders`].
    ///
    /// Each is told as it is found, those first that this node knows itself. It ends when the closest peers have answered;
    /// [`finish`](Self::finish) it when there are enough.
    pub fn get_providers(&mut self, now: Now, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        if key.as_ref().is_empty() {
            return self.not_searched(now, GetProvidersError::EmptyKey { key }, false);
        }
        let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
        let wanted = self.config.replication_factor().get();
        let search = self.search(now, target, wanted, Precision::Exact).ok();
        let found = self.known_providers(now, key.clone());
        if search.is_none() && found.is_empty() {
            return self.not_searched(now, GetProvidersError::of_query(NoKnownPeers(), key), false);
        }
        let search = search.map(|search| search.asking(Request::GetProviders { key: key.clone() }));
        let begun = self.begin(now, Operation::GetProviders(GetProviders::new(found, search)));
        begun.unwrap_or_else(|cause| self.not_searched(now, GetProvidersError::of_query(cause, key), false))
    }

    /// Watches who provides a key: searches its providers at once, again after a second, and then after twice as long each
    /// time, up to five minutes, until it is cancelled. Each provider is told once.
    pub fn watch_providers(&mut self, now: Now, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        let error = if key.as_ref().is_empty() {
            GetProvidersError::EmptyKey { key }
        } else if let Err(cause) = self.has_room() {
            GetProvidersError::of_query(cause, key)
        } else {
            let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
            let wanted = self.config.replication_factor().get();
            let search = self.search(now, target, wanted, Precision::Exact).ok();
            let search = search.map(|search| search.asking(Request::GetProviders { key: key.clone() }));
            let found = self.known_providers(now, key);
            let id = self.insert_lasting(now, Operation::WatchProviders(WatchProviders::new(found, search)));
            self.advance(now);
            return id;
        };
        self.not_searched(now, error, true)
    }

    fn not_searched(&mut self, now: Instant, error: GetProvidersError, is_watch: bool) -> QueryId {
        let (key, step) = (error.key().clone(), ProgressStep::first());
        let info = QueryInfo::GetProviders { key, providers_found: 0, is_watch, step };
        self.at_once(now, info, QueryResult::GetProviders(Err(error)))
    }

    /// A store that cannot be read is as good as none: others know, too.
    fn known_providers(&self, now: Instant, key: RecordKey) -> Found {
        let known = self.providers_of(now, &key).unwrap_or_default();
        Found::new(key, self.local.peer, known)
    }

    /// Returns who provides a key as far as this node knows, itself first.
    fn providers_of(&self, now: Instant, key: &RecordKey) -> store::Result<Vec<ProviderRecord>> {
        let mut known = self.store.providers(self.wall_at(now), key)?;
        let is_named = known.iter().any(|record| record.provider == self.local.peer);
        if !is_named && self.providing.advertised.contains_key(key) {
            known.insert(0, ProviderRecord::new(key.clone(), self.local.peer, Vec::new()));
        }
        Ok(known)
    }

    /// Begins the announcement of a command, whose error goes into the event.
    pub(super) fn provide_or_say_why(&mut self, now: Now, key: RecordKey) -> QueryId {
        let begun = self.start_providing(now, key.clone());
        begun.unwrap_or_else(|error| self.not_provided(now, key, error))
    }

    /// The same of one that ends with the program.
    pub(super) fn advertise_or_say_why(&mut self, now: Now, key: RecordKey) -> QueryId {
        let begun = self.advertise(now, key.clone());
        begun.unwrap_or_else(|error| self.not_provided(now, key, error))
    }

    fn not_provided(&mut self, now: Now, key: RecordKey, error: store::Error) -> QueryId {
        let error = AddProviderError::Store { key: key.clone(), source: StoreError::new(error) };
        self.not_announced(now.instant, key, error)
    }

    /// Names this node in an announcement that leaves, with the addresses that the peer can use.
    pub(super) fn sign(&self, to: &libp2p_identity::PeerId, request: &mut Request) {
        if let Request::AddProvider { providers, .. } = request
            && providers.is_empty()
        {
            providers.push(KadPeer {
                node_id: self.local.peer,
                multiaddrs: self.local.addresses_for(self.peers.reach(to)),
                connection_ty: crate::peer::ConnectionType::Connected,
            });
        }
    }
}

pub(super) fn check_key(key: &RecordKey) -> Result<(), InvalidRecord> {
    match key.as_ref().len() {
        0 => Err(InvalidRecord::new("the key is empty")),
        len if len > MAX_KEY => {
            Err(InvalidRecord::new(format!("the key has {len} bytes, and may have {MAX_KEY}")))
        }
        _ => Ok(()),
    }
}
