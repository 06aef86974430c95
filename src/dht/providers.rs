//! Providers: what this node provides, what it searches the providers of, and what others say they provide.
//!
//! Knows the store by its trait. Whom an announcement goes to, and which providers are found, is decided by the operations
//! under `op`.

mod inbound;

use super::op::Operation;
use super::op::add_provider::AddProvider;
use super::op::get_providers::{Found, GetProviders};
use super::op::watch_providers::WatchProviders;
use super::queries::Asker;
use super::{Dht, RecordStore};
use crate::error::{AddProviderError, GetProvidersError, NoKnownPeers};
use crate::event::{Precision, QueryId, QueryResult};
use crate::message::Request;
use crate::peer::KadPeer;
use crate::record::{ProviderRecord, RecordKey};
use crate::store;
use crate::store::republish::{Republish, Spread};
use crate::time::{Duration, Instant, Now, SystemTime, wall_after};
use crate::validate::InvalidRecord;

/// The longest key that anybody provides (`spec` of the public IPFS network; go nodes refuse longer ones).
pub(super) const MAX_KEY: usize = 80;

/// What is remembered beside the store.
#[derive(Debug)]
pub(super) struct Providing {
    reprovide: Republish,
}

impl Providing {
    pub(super) fn new(config: &crate::config::Providers) -> Self {
        // What others provide is not announced for them.
        Self { reprovide: Republish::new(config.publication, None) }
    }

    /// The machine has slept.
    pub(super) fn slept(&mut self, now: Instant, by: Duration) {
        self.reprovide.slept(now, by);
    }

    pub(super) fn deadline(&self, can_announce: bool) -> Option<Instant> {
        if can_announce { self.reprovide.deadline() } else { None }
    }
}

impl<S: RecordStore> Dht<S> {
    /// Tells the `k` peers closest to a key that this node provides it. One [`QueryResult::StartProviding`] tells when enough
    /// have been told, or too few can be; the query goes on until it is known what became of all.
    ///
    /// From now on this node tells it anew from time to time, after a restart too if the store outlives it, until
    /// [`stop_providing`](Self::stop_providing). If too few could be told it tries again after a second, doubling to ten
    /// minutes; while the network is smaller than `k`, after a minute, doubling.
    ///
    /// # Errors
    /// Whatever keeps this node's store from taking the key; then nobody is told. A key has 1 to 80 bytes.
    pub fn start_providing(&mut self, now: Now, key: RecordKey) -> Result<QueryId, store::Error> {
        let now = self.tell_time(now);
        check_key(&key)?;
        let wall = self.wall_at(now);
        let target = (self.config.key_hash)(key.as_ref());
        if !self.providing.reprovide.knows(&key) {
            let record = ProviderRecord::new(key.clone(), self.local.peer, Vec::new());
            self.store.add_provider(wall, record)?;
            self.commit_soon(now);
        }
        self.providing.reprovide.stored(now, key.clone(), target, true, &mut self.rng);
        let error = match self.announcement(now, &key) {
            Err(NoKnownPeers()) => AddProviderError::NoKnownPeers,
            Ok(add) => match self.begin(now, add) {
                Some(id) => return Ok(id),
                None => AddProviderError::TooManyQueries,
            },
        };
        self.providing.reprovide.was_put(now, &key, Spread::Nowhere, &mut self.rng);
        Ok(self.at_once(now, QueryResult::StartProviding(Err(error))))
    }

    fn announcement(&mut self, now: Instant, key: &RecordKey) -> Result<Operation, NoKnownPeers> {
        let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
        let search = self.search(now, target, self.config.bucket_size().get(), Precision::Near)?;
        Ok(Operation::AddProvider(AddProvider::new(key.clone(), search)))
    }

    /// Tells nobody any more that this node provides a key. Others believe it until it ends there.
    ///
    /// # Errors
    /// Whatever the store says.
    pub fn stop_providing(&mut self, now: Now, key: &RecordKey) -> Result<(), store::Error> {
        let now = self.tell_time(now);
        self.store.remove_provider(key, &self.local.peer)?;
        self.providing.reprovide.removed(key);
        self.commit_soon(now);
        Ok(())
    }

    /// Searches the providers of a key; see [`QueryResult::GetProviders`].
    ///
    /// Each is told as it is found, those first that this node knows itself. It ends when the closest peers have answered;
    /// [`finish`](Self::finish) it when there are enough.
    pub fn get_providers(&mut self, now: Now, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        let at_once = |dht: &mut Self, error| dht.at_once(now, QueryResult::GetProviders(Err(error)));
        if key.as_ref().is_empty() {
            return at_once(self, GetProvidersError::EmptyKey);
        }
        let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
        let k = self.config.bucket_size().get();
        let search = self.search(now, target, k, Precision::Exact).ok();
        let found = self.known_providers(now, key.clone());
        if search.is_none() && found.is_empty() {
            return at_once(self, GetProvidersError::NoKnownPeers);
        }
        let search = search.map(|search| search.asking(Request::GetProviders { key }));
        match self.begin(now, Operation::GetProviders(GetProviders::new(found, search))) {
            Some(id) => id,
            None => at_once(self, GetProvidersError::TooManyQueries),
        }
    }

    /// Watches who provides a key: searches its providers at once, again after a second, and then after twice as long each
    /// time, up to five minutes, until it is cancelled. Each provider is told once.
    pub fn watch_providers(&mut self, now: Now, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        let error = if key.as_ref().is_empty() {
            GetProvidersError::EmptyKey
        } else if self.queries.is_full() {
            GetProvidersError::TooManyQueries
        } else {
            let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
            let k = self.config.bucket_size().get();
            let search = self.search(now, target, k, Precision::Exact).ok();
            let search = search.map(|search| search.asking(Request::GetProviders { key: key.clone() }));
            let found = self.known_providers(now, key);
            let id = self.insert_lasting(now, Operation::WatchProviders(WatchProviders::new(found, search)));
            self.advance(now);
            return id;
        };
        self.at_once(now, QueryResult::GetProviders(Err(error)))
    }

    /// A store that cannot be read is as good as none: others know, too.
    fn known_providers(&self, now: Instant, key: RecordKey) -> Found {
        let known = self.store.providers(self.wall_at(now), &key).unwrap_or_default();
        Found::new(key, known)
    }

    /// Begins the announcement of a command, whose error goes into the event.
    pub(super) fn provide_or_say_why(&mut self, now: Now, key: RecordKey) -> QueryId {
        self.start_providing(now, key).unwrap_or_else(|error| {
            let error = AddProviderError::Store(error.to_string());
            self.at_once(now.instant, QueryResult::StartProviding(Err(error)))
        })
    }

    /// Takes note of what this node provided when it ended last.
    pub(super) fn find_provided(&mut self, now: Instant) {
        let (wall, ttl) = (self.wall_at(now), self.config.providers.ttl);
        let hash = self.config.key_hash;
        let found: Vec<_> = self.store.provided().map(|own| (own.key.clone(), own.expires)).collect();
        for (key, end) in found {
            let hashed = hash(key.as_ref());
            let age = age(wall, end, ttl);
            self.providing.reprovide.resumed(now, key, hashed, age, &mut self.rng);
        }
    }

    /// Announces one key anew whose time has come. Returns whether there was one.
    pub(super) fn announce_next(&mut self, now: Instant) -> bool {
        if !self.can_put() {
            return false;
        }
        let Some(key) = self.providing.reprovide.next(now) else {
            return false;
        };
        match self.announcement(now, &key) {
            Ok(add) => drop(self.insert(now, add, Asker::Republish)),
            Err(NoKnownPeers()) => {
                self.providing.reprovide.done(now, &key, Spread::Nowhere, &mut self.rng);
            }
        }
        true
    }

    /// An announcement is over.
    pub(super) fn was_announced(&mut self, now: Instant, add: &AddProvider, asker: Asker) {
        let (key, sent) = (add.key(), add.num_sent());
        let enough = self.config.providers.enough_of(self.config.bucket_size().get()).get();
        let spread = match sent {
            0 => Spread::Nowhere,
            sent if sent < enough => Spread::Thin,
            _ => Spread::Wide,
        };
        if asker == Asker::Republish {
            self.providing.reprovide.done(now, key, spread, &mut self.rng);
        } else {
            self.providing.reprovide.was_put(now, key, spread, &mut self.rng);
        }
        if sent > 0 && self.providing.reprovide.knows(key) {
            // So that it is known after a restart when to announce it anew.
            let wall = self.wall_at(now);
            let expires = Some(wall_after(wall, self.config.providers.ttl));
            let record =
                ProviderRecord { expires, ..ProviderRecord::new(key.clone(), self.local.peer, Vec::new()) };
            if let Err(error) = self.store.add_provider(wall, record) {
                tracing::warn!(%error, "the store did not take note of an announcement");
            }
            self.commit_soon(now);
        }
    }

    /// There is somebody to tell: what nobody could be told is told now.
    pub(super) fn hurry_announcements(&mut self, now: Instant) {
        self.providing.reprovide.hurry(now);
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

/// Returns how long ago something was announced that others believe until `end`.
fn age(wall: SystemTime, end: Option<SystemTime>, ttl: Duration) -> Option<Duration> {
    wall.duration_since(end?.checked_sub(ttl)?).ok()
}

pub(super) fn check_key(key: &RecordKey) -> Result<(), InvalidRecord> {
    match key.as_ref().len() {
        0 => Err(InvalidRecord::new("the key is empty")),
        len if len > MAX_KEY => Err(InvalidRecord::new("the key is longer than 80 bytes")),
        _ => Ok(()),
    }
}
