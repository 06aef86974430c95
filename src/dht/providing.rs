//! Providing: what this node provides, announced now, and anew so that others go on knowing it and where this node is.
//!
//! Knows the store by its trait. Whom an announcement goes to is decided by the operations under `op`.

mod newcomers;
mod reprovide;
mod spill;

use std::collections::BTreeMap;

use super::context::Context;
use super::node::NodeParts;
use super::op::add_provider::AddProvider;
use super::op::machine::Announced;
use super::op::tell_one::TellOne;
use super::queries::Origin;
use super::schedule::{Coverage, MAX_SPARED};
use super::storage::Storage;
use super::view::Parts;
use crate::addrs::Addresses;
use crate::dht::op::{AddProviderError, AddProviderResult, ProvideReport, QueryResult};
use crate::event::QueryId;
use crate::key::Key;
use crate::record::{ProviderRecord, RecordKey};
use crate::routing::Table;
use crate::stats;
use crate::store::{self, RecordStore};
use crate::time::{Duration, Instant, SystemTime, after, earliest, wall_after};
use crate::validate::InvalidRecord;

use libp2p_identity::PeerId;
use newcomers::{Newcomers, NextAnnouncement};
use reprovide::Reprovide;
use spill::SpillOver;

/// The longest key that anybody provides (`spec` of the public IPFS network; go nodes refuse longer ones).
pub(super) const MAX_KEY: usize = 80;

/// How many keys are provided at once for as long as the program says so. Chosen, not measured: as many as those of
/// others, by default.
const MAX_ADVERTISED: usize = 64 * 1024;

/// What this node provides, beside the store.
///
/// # What it decides
/// When a key is announced anew, and which newcomers are told of it.
///
/// # Inputs
/// [`begin`](Self::begin), [`stopped`](Self::stopped); what has come of announcements, and who has no room for them; peers that
/// enter the table; own addresses.
///
/// # Outputs
/// Queries, by [`announce_next`](Self::announce_next), [`tell_next`](Self::tell_next) and [`spill_next`](Self::spill_next).
///
/// # What time does
/// Makes announcements due.
///
/// # Bounds
/// One entry of the schedule for each key that the store says is this node's, and 65,536 that are advertised.
#[derive(Debug)]
pub(super) struct Providing {
    reprovide: Reprovide,
    newcomers: Newcomers,
    spill_over: SpillOver,
    /// What is provided until it is retired or the program ends, with the addresses that were named last.
    advertised: BTreeMap<RecordKey, Addresses>,
    /// The addresses that others are told now.
    addresses: Addresses,
    /// When the peers that know others are told the addresses.
    renew_at: Option<Instant>,
}

/// So long after the addresses of this node have changed the peers that know others are told; several changes come together, as
/// when a program begins to listen. Chosen, not measured.
const RENEW_AFTER: Duration = Duration::from_secs(20);

impl Providing {
    pub(super) fn new(config: &crate::config::Providers) -> Self {
        Self {
            reprovide: Reprovide::new(config.provider_publication_interval),
            newcomers: Newcomers::default(),
            spill_over: SpillOver::default(),
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

    /// Returns what is announced anew.
    pub(super) fn stats(&self, now: Instant) -> stats::Schedule {
        self.reprovide.stats(now)
    }

    /// Returns whether there are addresses to tell others.
    pub(super) fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Does what is due by time alone.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.renew_at.take_if(|at| *at <= now).is_some() {
            self.reprovide.renew();
        }
    }

    /// Takes note of what this node provided when it ended last.
    pub(super) fn find<S: RecordStore>(&mut self, now: Instant, storage: &Storage<S>, cx: &mut Context) {
        let (wall, ttl) = (cx.wall_at(now), cx.config.providers.provider_ttl);
        let found: Vec<_> = storage.store.provided().map(|own| (own.key.clone(), own.expires)).collect();
        for (key, end) in found {
            let hashed = cx.hash(key.as_ref());
            let age = age(wall, end, ttl);
            self.reprovide.resumed(now, key, hashed, age, &mut cx.rng);
        }
    }

    /// Takes note in the store that this node provides a key from now on.
    ///
    /// # Errors
    /// Whatever keeps the store from it; [`store::Error::Invalid`] unless the key has 1 to 80 bytes.
    pub(super) fn keep<S: RecordStore>(
        now: Instant,
        key: &RecordKey,
        storage: &mut Storage<S>,
        cx: &Context,
    ) -> store::Result<()> {
        check_key(key)?;
        if kept(now, key, storage, cx).is_none() {
            let record = ProviderRecord::new(key.clone(), cx.local.peer, Vec::new());
            storage.store.add_provider(cx.wall_at(now), record)?;
            storage.commit_soon(now);
        }
        Ok(())
    }

    /// Takes note that this node provides a key for as long as the program says so.
    ///
    /// # Errors
    /// [`store::Error::MaxProvidedKeys`] beyond 65,536 keys; [`store::Error::Invalid`] unless the key has 1 to 80 bytes.
    pub(super) fn advertise(&mut self, key: &RecordKey) -> store::Result<()> {
        check_key(key)?;
        if !self.advertised.contains_key(key) {
            if self.advertised.len() >= MAX_ADVERTISED {
                return Err(store::Error::MaxProvidedKeys { most: MAX_ADVERTISED });
            }
            self.advertised.insert(key.clone(), Addresses::empty());
        }
        Ok(())
    }

    /// A key is advertised no more.
    pub(super) fn retire(&mut self, key: &RecordKey) {
        self.advertised.remove(key);
    }

    /// Begins to announce a key: the query, or its result if it cannot begin; then it is tried again.
    pub(super) fn begin<S: RecordStore>(
        &mut self,
        now: Instant,
        key: RecordKey,
        node: &mut NodeParts<'_, S>,
    ) -> Result<QueryId, Box<QueryResult>> {
        let NodeParts { parts, queries, .. } = node;
        let target = parts.cx.hash(key.as_ref());
        self.reprovide.add(now, key.clone(), target, &mut parts.cx.rng);
        let begun = match self.announcement(now, &key, parts) {
            Err((error, coverage)) => Err((Box::new(AddProviderResult::Err(error).into()), coverage)),
            Ok(add) => queries.begin(now, add.into(), parts).map_err(|result| (result, Coverage::None)),
        };
        begun.map_err(|(result, coverage)| {
            self.reprovide.was_announced(now, &key, coverage, &mut parts.cx.rng);
            result
        })
    }

    fn announcement(
        &self,
        now: Instant,
        key: &RecordKey,
        parts: &mut Parts<'_>,
    ) -> Result<AddProvider, (AddProviderError, Coverage)> {
        if self.addresses.is_empty() {
            // Whoever was told would know nothing by it.
            let (key, report) = (key.clone(), Box::<ProvideReport>::default());
            return Err((AddProviderError::NoAddress { key, report }, Coverage::NoAddress));
        }
        AddProvider::begin(now, key.clone(), self.addresses.clone(), parts)
            .map_err(|error| (AddProviderError::of_query(error, key.clone()), Coverage::None))
    }

    /// Returns whether anything can be announced: there is a peer to tell, something to say, and room for it.
    ///
    /// What is due meanwhile waits for that, and not for a time.
    fn can_announce<S>(&self, node: &NodeParts<'_, S>) -> bool {
        node.can_send() && self.has_addresses()
    }

    /// Returns the providers of a key as far as this node knows, itself first, with their addresses, which are shared.
    ///
    /// # Errors
    /// Whatever the store says.
    pub(super) fn providers_of<S: RecordStore>(
        &self,
        now: Instant,
        key: &RecordKey,
        storage: &Storage<S>,
        cx: &Context,
    ) -> store::Result<Vec<(PeerId, Addresses)>> {
        let mut known = storage.store.provider_addresses(cx.wall_at(now), key)?;
        let is_named = known.iter().any(|(provider, _)| *provider == cx.local.peer);
        if !is_named && self.advertised.contains_key(key) {
            known.insert(0, (cx.local.peer, Addresses::empty()));
        }
        Ok(known)
    }

    /// A key is not provided any more, unless it is in another way. Returns whether it is in none.
    pub(super) fn stopped<S: RecordStore>(
        &mut self,
        now: Instant,
        key: &RecordKey,
        storage: &Storage<S>,
        cx: &Context,
    ) -> bool {
        if self.advertised.contains_key(key) || kept(now, key, storage, cx).is_some() {
            return false;
        }
        self.reprovide.remove(key);
        self.newcomers.forget(&place(key, cx));
        true
    }

    /// Announces one key anew whose time has come, or whose holders know other addresses. Returns whether there was one.
    pub(super) fn announce_next<S: RecordStore>(
        &mut self,
        now: Instant,
        node: &mut NodeParts<'_, S>,
    ) -> bool {
        if !self.can_announce(node) {
            return false;
        }
        for _ in 0..MAX_SPARED {
            let Some(key) = self.reprovide.next(now) else {
                return false;
            };
            if !self.reprovide.is_due(&key) && self.is_known_where(now, &key, node) {
                self.reprovide.spared();
                continue;
            }
            self.reprovide.begun(&key);
            match self.announcement(now, &key, &mut node.parts) {
                Ok(add) => drop(node.queries.insert(now, add, Origin::Republish)),
                Err((_, coverage)) => self.reprovide.done(now, &key, coverage, &mut node.parts.cx.rng),
            }
            return true;
        }
        self.reprovide.rest(now);
        false
    }

    /// Returns whether the addresses that were named last with a key are those of now.
    fn is_known_where<S: RecordStore>(&self, now: Instant, key: &RecordKey, node: &NodeParts<'_, S>) -> bool {
        match self.advertised.get(key) {
            Some(named) => *named == self.addresses,
            None => kept(now, key, node.storage, node.parts.cx).is_some_and(|kept| {
                Addresses::collect(&node.parts.cx.local.peer, kept.addresses) == self.addresses
            }),
        }
    }

    /// An announcement is over.
    pub(super) fn on_announced<S: RecordStore>(
        &mut self,
        now: Instant,
        announced: Announced,
        origin: Origin,
        node: &mut NodeParts<'_, S>,
    ) {
        let Announced { key, sent, enough, lacks_address, asked, told, next, addresses } = announced;
        self.spill_over.announced(now, &key, told, next);
        let coverage = match sent {
            _ if lacks_address => Coverage::NoAddress,
            0 => Coverage::None,
            sent if sent < enough => Coverage::Partial,
            _ => Coverage::Full,
        };
        let NodeParts { parts, storage, .. } = node;
        if origin == Origin::Republish {
            self.reprovide.done(now, &key, coverage, &mut parts.cx.rng);
        } else {
            self.reprovide.was_announced(now, &key, coverage, &mut parts.cx.rng);
        }
        if sent > 0 && self.reprovide.knows(&key) {
            let (place, k) = (place(&key, parts.cx), parts.cx.config.replication_factor().get());
            self.newcomers.announced(place, &asked, &parts.upkeep.table, k);
            self.take_note(now, &key, addresses, storage, parts.cx);
        }
    }

    /// Takes note of when and with which addresses a key was announced, so that it is known after a restart when to do it
    /// anew.
    fn take_note<S: RecordStore>(
        &mut self,
        now: Instant,
        key: &RecordKey,
        addresses: Addresses,
        storage: &mut Storage<S>,
        cx: &Context,
    ) {
        if kept(now, key, storage, cx).is_some() {
            let wall = cx.wall_at(now);
            let expires = Some(wall_after(wall, cx.config.providers.provider_ttl));
            let record = ProviderRecord::new(key.clone(), cx.local.peer, addresses.clone().into_vec());
            if let Err(error) = storage.store.add_provider(wall, ProviderRecord { expires, ..record }) {
                tracing::warn!(%error, "the store did not take note of an announcement");
            }
            storage.commit_soon(now);
        }
        if let Some(named) = self.advertised.get_mut(key) {
            *named = addresses;
        }
    }

    /// A peer has entered the table.
    pub(super) fn entered(&mut self, now: Instant, peer: (PeerId, Key), table: &Table, cx: &Context) {
        self.newcomers.entered(now, peer, table, cx.config.bucket_size().get());
    }

    /// Tells a newcomer of one key that it lacks. Returns whether there was one.
    pub(super) fn tell_next<S: RecordStore>(&mut self, now: Instant, node: &mut NodeParts<'_, S>) -> bool {
        if !self.can_announce(node) {
            return false;
        }
        let k = node.parts.cx.config.replication_factor().get();
        for _ in 0..MAX_SPARED {
            match self.newcomers.next(now, &node.parts.upkeep.table, k) {
                NextAnnouncement::Tell(to, key) => {
                    node.queries.insert(now, TellOne::new(key, to), Origin::HandOver(to));
                    return true;
                }
                NextAnnouncement::Announce(key) => self.reprovide.outgrown(now, &key),
                NextAnnouncement::Wait => return false,
            }
        }
        self.newcomers.rest(now);
        false
    }

    /// A newcomer has been told, or could not be.
    pub(super) fn on_told(&mut self, to: &PeerId, is_told: bool) {
        self.newcomers.done();
        if !is_told {
            self.newcomers.failed(to);
        }
    }

    /// A peer has no room for an announcement that is over.
    pub(super) fn rejected(&mut self, now: Instant, peer: &PeerId, key: &RecordKey) {
        self.spill_over.rejected(now, peer, key);
    }

    /// Tells one peer of a key in the place of one that has no room. Returns whether there was one.
    pub(super) fn spill_next<S: RecordStore>(&mut self, now: Instant, node: &mut NodeParts<'_, S>) -> bool {
        let Some((key, to, addresses)) = self.spill_over.next() else {
            return false;
        };
        if self.reprovide.knows(&key) && !node.queries.is_full() {
            node.queries.insert(now, TellOne::spilled(key, to, addresses), Origin::Republish);
        }
        true
    }

    /// There is a peer to tell: what no peer could be told is told now.
    pub(super) fn retry_waiting(&mut self, now: Instant) {
        self.reprovide.retry_waiting(now);
    }

    /// The addresses of this node may have changed: peers that could not use any are told at once, the others soon.
    pub(super) fn on_own_addresses(&mut self, now: Instant, cx: &Context) {
        let addresses = cx.local.provided_at();
        let before = std::mem::replace(&mut self.addresses, addresses);
        let addresses = &self.addresses;
        if *addresses != before && !addresses.is_empty() && !self.reprovide.is_empty() {
            self.renew_at.get_or_insert(after(now, RENEW_AFTER));
            self.retry_waiting(now);
        }
    }
}

/// Returns the note of the store that this node provides a key, if there is one.
fn kept<S: RecordStore>(
    now: Instant,
    key: &RecordKey,
    storage: &Storage<S>,
    cx: &Context,
) -> Option<ProviderRecord> {
    let known = storage.store.providers(cx.wall_at(now), key).unwrap_or_default();
    known.into_iter().find(|record| record.provider == cx.local.peer)
}

fn place(key: &RecordKey, cx: &Context) -> (Key, RecordKey) {
    (cx.hash(key.as_ref()), key.clone())
}

/// Returns how long ago something was announced that others believe until `end`.
fn age(wall: SystemTime, end: Option<SystemTime>, ttl: Duration) -> Option<Duration> {
    wall.duration_since(end?.checked_sub(ttl)?).ok()
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
