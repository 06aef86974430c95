//! What is done unasked so that others go on knowing what this node provides, and where it is.
//!
//! Does what `store::republish` says is due, and what `newcomers` says a newcomer lacks; whom an announcement goes to is
//! decided by the operations under `op`.

use libp2p_identity::PeerId;

use super::newcomers::Next;
use crate::addrs::Addresses;
use crate::dht::op::Operation;
use crate::dht::op::add_provider::AddProvider;
use crate::dht::op::tell_one::TellOne;
use crate::dht::queries::Asker;
use crate::dht::{Dht, RecordStore};
use crate::error::{AddProviderError, ProvideReport};
use crate::event::Precision;
use crate::key::Key;
use crate::record::{ProviderRecord, RecordKey};
use crate::store::republish::Spread;
use crate::time::{Duration, Instant, SystemTime, after, wall_after};

/// So many of what is looked at need not be announced and are done with at once; then it rests.
const MAX_SPARED: usize = 256;

/// How long it rests: others have their turn.
const REST: Duration = Duration::from_millis(20);

/// So long after the addresses of this node have changed those who know others are told; several changes come together, as
/// when a program begins to listen.
const RENEW_AFTER: Duration = Duration::from_secs(20);

impl<S: RecordStore> Dht<S> {
    pub(super) fn announcement(
        &mut self,
        now: Instant,
        key: &RecordKey,
    ) -> Result<Operation, (AddProviderError, Spread)> {
        if self.providing.addresses.is_empty() {
            // Whoever was told would know nothing by it.
            let (key, report) = (key.clone(), Box::<ProvideReport>::default());
            return Err((AddProviderError::NoAddress { key, report }, Spread::Unnamed));
        }
        let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
        match self.search(now, target, self.config.replication_factor().get(), Precision::Near) {
            Ok(search) => Ok(Operation::AddProvider(AddProvider::new(
                key.clone(),
                search,
                self.config.protocol_name.clone(),
                self.providing.addresses.clone(),
            ))),
            Err(error) => Err((AddProviderError::of_query(error, key.clone()), Spread::Nowhere)),
        }
    }

    /// Returns whether anything can be announced: there is somebody to tell, something to say, and room for it.
    ///
    /// What is due meanwhile waits for that, and not for a time.
    pub(in crate::dht) fn can_announce(&self) -> bool {
        self.can_put() && !self.providing.addresses.is_empty()
    }

    /// Returns the note of the store that this node provides a key, if there is one.
    pub(super) fn kept(&self, now: Instant, key: &RecordKey) -> Option<ProviderRecord> {
        let known = self.store.providers(self.wall_at(now), key).unwrap_or_default();
        known.into_iter().find(|record| record.provider == self.local.peer)
    }

    fn place(&self, key: &RecordKey) -> (Key, RecordKey) {
        ((self.config.key_hash)(key.as_ref()), key.clone())
    }

    /// A key is not provided any more, unless it is in another way.
    pub(super) fn stopped(&mut self, now: Instant, key: &RecordKey) {
        if self.providing.advertised.contains_key(key) || self.kept(now, key).is_some() {
            return;
        }
        self.providing.reprovide.removed(key);
        let place = self.place(key);
        self.providing.newcomers.forget(&place);
        self.cancel_all(now, |operation, _| match operation {
            Operation::AddProvider(add) => add.key() == key,
            Operation::TellOne(tell) => tell.key() == key,
            Operation::FindPeers(_)
            | Operation::FindPeer(_)
            | Operation::Bootstrap(_)
            | Operation::Ping(_)
            | Operation::Connect(_)
            | Operation::GetRecord(_)
            | Operation::PutRecord(_)
            | Operation::AskPeer(_)
            | Operation::GetProviders(_)
            | Operation::WatchProviders(_) => false,
        });
    }

    /// Takes note of what this node provided when it ended last.
    pub(in crate::dht) fn find_provided(&mut self, now: Instant) {
        let (wall, ttl) = (self.wall_at(now), self.config.providers.ttl);
        let hash = self.config.key_hash;
        let found: Vec<_> = self.store.provided().map(|own| (own.key.clone(), own.expires)).collect();
        for (key, end) in found {
            let hashed = hash(key.as_ref());
            let age = age(wall, end, ttl);
            self.providing.reprovide.resumed(now, key, hashed, age, &mut self.rng);
        }
    }

    /// Announces one key anew whose time has come, or whose holders know other addresses. Returns whether there was one.
    pub(in crate::dht) fn announce_next(&mut self, now: Instant) -> bool {
        if !self.can_announce() {
            return false;
        }
        for _ in 0..MAX_SPARED {
            let Some(key) = self.providing.reprovide.next(now) else {
                return false;
            };
            if !self.providing.reprovide.is_due(&key) && self.is_known_where(now, &key) {
                self.providing.reprovide.spared();
                continue;
            }
            self.providing.reprovide.begun(&key);
            match self.announcement(now, &key) {
                Ok(add) => drop(self.insert(now, add, Asker::Republish)),
                Err((_, spread)) => self.providing.reprovide.done(now, &key, spread, &mut self.rng),
            }
            return true;
        }
        self.providing.reprovide.rest(after(now, REST));
        false
    }

    /// Returns whether the addresses that were named last with a key are those of now.
    fn is_known_where(&self, now: Instant, key: &RecordKey) -> bool {
        let (own, addresses) = (&self.local.peer, &self.providing.addresses);
        match self.providing.advertised.get(key) {
            Some(named) => named == addresses,
            None => {
                self.kept(now, key).is_some_and(|kept| Addresses::collect(own, kept.addresses) == *addresses)
            }
        }
    }

    /// An announcement is over.
    pub(in crate::dht) fn was_announced(&mut self, now: Instant, add: &AddProvider, asker: Asker) {
        let (key, sent) = (add.key(), add.num_sent());
        let spread = match sent {
            _ if add.lacks_address() => Spread::Unnamed,
            0 => Spread::Nowhere,
            sent if sent < add.enough() => Spread::Thin,
            _ => Spread::Wide,
        };
        if asker == Asker::Republish {
            self.providing.reprovide.done(now, key, spread, &mut self.rng);
        } else {
            self.providing.reprovide.was_put(now, key, spread, &mut self.rng);
        }
        if sent > 0 && self.providing.reprovide.knows(key) {
            let (place, k) = (self.place(key), self.config.replication_factor().get());
            self.providing.newcomers.announced(place, &add.asked(), &self.table, k);
            self.take_note(now, key, add.addresses().clone());
        }
    }

    /// Takes note of when and with which addresses a key was announced, so that it is known after a restart when to do it
    /// anew.
    fn take_note(&mut self, now: Instant, key: &RecordKey, addresses: Addresses) {
        if self.kept(now, key).is_some() {
            let wall = self.wall_at(now);
            let expires = Some(wall_after(wall, self.config.providers.ttl));
            let record = ProviderRecord::new(key.clone(), self.local.peer, addresses.clone().into_vec());
            if let Err(error) = self.store.add_provider(wall, ProviderRecord { expires, ..record }) {
                tracing::warn!(%error, "the store did not take note of an announcement");
            }
            self.commit_soon(now);
        }
        if let Some(named) = self.providing.advertised.get_mut(key) {
            *named = addresses;
        }
    }

    /// A peer has entered the table.
    pub(in crate::dht) fn tell_newcomer(&mut self, now: Instant, peer: PeerId, key: Key) {
        self.providing.newcomers.entered(now, peer, key);
    }

    /// Tells a newcomer of one key that it lacks. Returns whether there was one.
    pub(in crate::dht) fn tell_next(&mut self, now: Instant) -> bool {
        if !self.can_announce() {
            return false;
        }
        for _ in 0..MAX_SPARED {
            match self.providing.newcomers.next(now, &self.table, self.config.replication_factor().get()) {
                Next::Tell(to, key) => {
                    self.insert(now, Operation::TellOne(TellOne::new(key, to)), Asker::HandOver(to));
                    return true;
                }
                Next::Announce(key) => self.providing.reprovide.outgrown(now, &key),
                Next::Wait => return false,
            }
        }
        self.providing.newcomers.rest(now);
        false
    }

    /// A newcomer has been told, or has not.
    pub(in crate::dht) fn newcomer_told(&mut self, tell: &TellOne) {
        self.providing.newcomers.done();
        if tell.has_failed() {
            self.providing.newcomers.failed(tell.to());
        }
    }

    /// There is somebody to tell: what nobody could be told is told now.
    pub(in crate::dht) fn hurry_announcements(&mut self, now: Instant) {
        self.providing.reprovide.hurry(now);
    }

    /// The addresses of this node may have changed: whoever could not use any is told at once, the others soon.
    pub(in crate::dht) fn own_addresses_changed(&mut self, now: Instant) {
        let addresses = self.local.provided_at();
        let before = std::mem::replace(&mut self.providing.addresses, addresses);
        let addresses = &self.providing.addresses;
        if *addresses != before && !addresses.is_empty() && !self.providing.reprovide.is_empty() {
            self.providing.renew_at.get_or_insert(after(now, RENEW_AFTER));
            self.hurry_announcements(now);
        }
    }

    /// Does what is due by time alone.
    pub(in crate::dht) fn keep_providing(&mut self, now: Instant) {
        if self.providing.renew_at.take_if(|at| *at <= now).is_some() {
            self.providing.reprovide.renew();
        }
    }
}

/// Returns how long ago something was announced that others believe until `end`.
fn age(wall: SystemTime, end: Option<SystemTime>, ttl: Duration) -> Option<Duration> {
    wall.duration_since(end?.checked_sub(ttl)?).ok()
}
