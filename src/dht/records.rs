//! Records: what keeps them alive, unasked: put anew, handed over, corrected, cached.
//!
//! Knows the store by its trait. Whom a record goes to, and which one is found, is decided by the operations under `op`; what
//! others want stored comes through `serving`.

mod handing;
mod looking;
mod publishers;
mod republish;

use std::borrow::Cow;

use libp2p_identity::PeerId;

use super::context::Context;
use super::node::NodeParts;
use super::op::machine::{FollowUp, Stored};
use super::op::put_record::PutRecord;
use super::op::search::Search;
use super::peers::Peers;
use super::queries::Origin;
use super::schedule::{Coverage, MAX_SPARED};
use super::storage::Storage;
use crate::config::Config;
use crate::dht::op::{PutRecordError, PutRecordResult, QueryResult};
use crate::error::NoKnownPeers;
use crate::event::{Precision, QueryId};
use crate::key::Key;
use crate::message::SentRecord;
use crate::record::{Quorum, Record, RecordKey};
use crate::stats;
use crate::store::{self, RecordStore, Source};
use crate::time::{Duration, Instant, SystemTime, earliest, wall_after};
use crate::validate::{InvalidRecord, Validator as _};

use handing::{Handing, NextHandOver};
use looking::{Looking, MAX_LOOKED_AT};
use publishers::Publishers;
use republish::Republish;

/// The records of a node, beside the store.
///
/// # What it decides
/// When a record is put anew, what newcomers to the table are sent, which peers are corrected and which cache a record, and
/// whether a publisher has stored one itself.
///
/// # Inputs
/// [`keep`](Self::keep) and [`put`](Self::put) of records; [`forget`](Self::forget) of those that are gone;
/// [`entered`](Self::entered) of peers; what has come of puts and searches.
///
/// # Outputs
/// Queries, by [`put_next`](Self::put_next) and [`hand_next`](Self::hand_next).
///
/// # What time does
/// Makes records due to be put, and lets what rests go on.
///
/// # Bounds
/// One entry of the schedule for each record of the store, and those of [`Handing`].
#[derive(Debug)]
pub(super) struct RecordKeeping {
    republish: Republish,
    pub(super) publishers: Publishers,
    handing: Handing,
    looking: Looking,
}

impl RecordKeeping {
    pub(super) fn new(config: &crate::config::Records) -> Self {
        Self {
            republish: Republish::new(config.publication_interval, config.replication_interval),
            publishers: Publishers::default(),
            handing: Handing::default(),
            looking: Looking::default(),
        }
    }

    /// Returns when something is due; what is to be put only if there is anybody to put it at.
    pub(super) fn deadline(&self, can_put: bool) -> Option<Instant> {
        let put = earliest(self.republish.deadline(), self.handing.deadline()).filter(|_| can_put);
        earliest(put, self.looking.deadline())
    }

    /// Returns what is put anew.
    pub(super) fn stats(&self, now: Instant) -> stats::Schedule {
        self.republish.stats(now)
    }

    /// The application has the store in its hands.
    pub(super) fn given_away(&mut self, now: Instant) {
        self.looking.given_away(now);
    }

    /// A record is not in the store any more.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        self.republish.removed(key);
        self.publishers.forget(key);
    }

    /// Returns how many records were looked at for the sake of newcomers.
    #[cfg(test)]
    pub(super) const fn looked_at(&self) -> u64 {
        self.handing.looked_at()
    }

    /// The machine has slept.
    pub(super) fn slept(&mut self, now: Instant, by: Duration) {
        self.republish.slept(now, by);
    }

    /// Returns whether a record is put anew as this node's.
    #[cfg(test)]
    pub(super) fn republish_is_own(&self, record: &RecordKey) -> Option<bool> {
        self.republish.is_own(record)
    }

    /// Returns for how many records it is known when they are put anew, and when a publisher has stored them.
    #[cfg(test)]
    pub(super) fn num_scheduled(&self) -> (usize, usize) {
        (self.republish.len(), self.publishers.len())
    }

    /// Takes note of what the store held when the node began.
    pub(super) fn find<S: RecordStore>(&mut self, now: Instant, storage: &mut Storage<S>, cx: &mut Context) {
        let seen = |record: Cow<'_, Record>| {
            (record.key.clone(), record.expires, storage.is_own(&record, &cx.local.peer))
        };
        let found: Vec<_> = storage.store.records().map(seen).collect();
        for (record, expires, is_own) in found {
            self.found(now, (record, expires, is_own), storage, cx);
        }
    }

    /// A record is in the store that was not, as far as this node knew, or was another's.
    fn found<S: RecordStore>(
        &mut self,
        now: Instant,
        (record, expires, is_own): (RecordKey, Option<SystemTime>, bool),
        storage: &mut Storage<S>,
        cx: &mut Context,
    ) {
        let key = cx.hash(record.as_ref());
        if is_own {
            self.publishers.forget(&record);
        } else {
            // Perhaps its publisher has stored it just before.
            self.publishers.stored(now, record.clone());
        }
        self.republish.found(now, record, key, is_own, &mut cx.rng);
        storage.ends(now, expires, cx);
    }

    /// Looks over some of what the store holds, if it is time: the application may have changed it.
    pub(super) fn look_over<S: RecordStore>(
        &mut self,
        now: Instant,
        storage: &mut Storage<S>,
        cx: &mut Context,
    ) {
        let Some(before) = self.looking.due(now) else {
            return;
        };
        let some = storage.store.list(before, MAX_LOOKED_AT);
        self.looking.looked(now, &some);
        for (key, expires) in some.keys {
            let known = self.republish.is_own(&key);
            if known == Some(storage.store.is_own(&key)) {
                continue;
            }
            let record = storage.store.get(SystemTime::UNIX_EPOCH, &key).ok().flatten();
            let is_own = record.map(|record| storage.is_own(&record, &cx.local.peer));
            if let Some(is_own) = is_own.filter(|is| known != Some(*is)) {
                self.found(now, (key, expires, is_own), storage, cx);
            }
        }
        storage.commit_soon(now);
    }

    /// Stores a record of this node's, and begins to put it at as many of the closest peers as are wanted: the query, or its
    /// result if it cannot begin; then it is tried again.
    ///
    /// # Errors
    /// Whatever keeps this node itself from storing it; then it is sent to nobody.
    pub(super) fn put<S: RecordStore>(
        &mut self,
        now: Instant,
        mut record: Record,
        (copies, quorum): (usize, Quorum),
        node: &mut NodeParts<'_, S>,
    ) -> store::Result<Result<QueryId, Box<QueryResult>>> {
        let NodeParts { parts, queries, storage } = node;
        let wall = parts.cx.wall_at(now);
        record.publisher = Some(parts.cx.local.peer);
        check(wall, &record, &parts.cx.config)?;
        self.expire(now, storage, parts.cx);
        storage.put(wall, record.clone())?;
        let (name, key) = (record.key.clone(), parts.cx.hash(record.key.as_ref()));
        self.republish.stored(now, name.clone(), key, true, &mut parts.cx.rng);
        self.publishers.forget(&name);
        storage.ends(now, record.expires, parts.cx);
        storage.commit_soon(now);
        let change = storage.unsafe_change();
        let target = (name.bytes().clone(), key);
        let sent = sent(wall, record, true, &parts.cx.config);
        let put = match Search::begin(now, target, copies, Precision::Near, parts) {
            Ok(search) => Ok(PutRecord::new(sent, quorum, search)),
            // That it is here is not said before it is safe.
            Err(NoKnownPeers()) if change.is_some() => Ok(PutRecord::at_nobody(sent, quorum)),
            Err(error) => {
                Err(Box::new(PutRecordResult::Err(PutRecordError::of_query(error, name.clone())).into()))
            }
        };
        let begun = put.and_then(|put| queries.begin(now, put.safe_with(change).into(), parts));
        match &begun {
            Ok(id) => storage.wake_when_safe(now, change, *id),
            Err(_) => self.republish.was_put(now, &name, Coverage::None, &mut parts.cx.rng),
        }
        Ok(begun)
    }

    /// Keeps a record that is not this node's, in place of any of its key.
    pub(super) fn keep<S: RecordStore>(
        &mut self,
        now: Instant,
        record: Record,
        source: Source,
        storage: &mut Storage<S>,
        cx: &mut Context,
    ) -> Result<(), store::Error> {
        // What ends by itself is dropped first, and known to be.
        self.expire(now, storage, cx);
        let (name, ends) = (record.key.clone(), record.expires);
        let gone = storage.put_from(cx.wall_at(now), record, source)?;
        gone.iter().for_each(|key| self.forget(key));
        let key = cx.hash(name.as_ref());
        self.republish.stored(now, name, key, false, &mut cx.rng);
        storage.ends(now, ends, cx);
        Ok(())
    }

    /// Drops what has ended.
    pub(super) fn expire<S: RecordStore>(&mut self, now: Instant, storage: &mut Storage<S>, cx: &Context) {
        storage.expire(now, cx).iter().for_each(|key| self.forget(key));
    }

    /// A search for a record is over: those that had a worse one are sent the best, and some that had none cache it.
    pub(super) fn on_found<S: RecordStore>(
        &self,
        now: Instant,
        found: FollowUp,
        node: &mut NodeParts<'_, S>,
    ) {
        let wall = node.parts.cx.wall_at(now);
        let FollowUp { record, correct, cache } = found;
        let mut send_to = |record, peers| {
            // Where callers stand in line nothing is done for others.
            if !node.queries.is_full() && node.queries.in_line() == 0 {
                let put = PutRecord::to(SentRecord::of(record, wall), Quorum::All, peers);
                node.queries.insert(now, put, Origin::Upkeep);
            }
        };
        if !correct.is_empty() {
            send_to(record.clone(), correct);
        }
        for (peer, until) in cache {
            send_to(Record { expires: Some(until), ..record.clone() }, vec![peer]);
        }
    }

    /// A put is over.
    pub(super) fn on_put(&mut self, now: Instant, put: &Stored, origin: Origin, cx: &mut Context) {
        let Stored { key, is_stored, reached, has_failed } = put;
        let coverage = if *is_stored { Coverage::Full } else { Coverage::None };
        self.handing.put_is_over(key, reached);
        match origin {
            Origin::Republish => self.republish.done(now, key, coverage, &mut cx.rng),
            Origin::HandOver(to) => {
                self.handing.done();
                if *has_failed {
                    // It does not answer, or not yet: what it lacks it gets when that is next put anew.
                    self.handing.failed(&to);
                }
            }
            Origin::Application if !is_stored && self.republish.is_own(key) == Some(true) => {
                self.republish.was_put(now, key, coverage, &mut cx.rng);
            }
            Origin::Application | Origin::Upkeep => {}
        }
    }

    /// Puts one record anew whose time has come. Returns whether there was one.
    pub(super) fn put_next<S: RecordStore>(&mut self, now: Instant, node: &mut NodeParts<'_, S>) -> bool {
        if !node.can_send() {
            return false;
        }
        for _ in 0..MAX_SPARED {
            let Some(key) = self.republish.next(now) else {
                return false;
            };
            if self.put_one_anew(now, key, node) {
                return true;
            }
        }
        self.republish.rest(now);
        false
    }

    /// Puts a record anew. Returns whether it had to be.
    fn put_one_anew<S: RecordStore>(
        &mut self,
        now: Instant,
        key: RecordKey,
        node: &mut NodeParts<'_, S>,
    ) -> bool {
        let wall = node.parts.cx.wall_at(now);
        let record = node.storage.store.get(wall, &key).ok().flatten().map(Cow::into_owned);
        // One of a publisher that is banned meanwhile is spread no more.
        let Some(record) = record.filter(|record| is_admitted(record, node.parts.peers)) else {
            self.forget(&key);
            self.republish.done(now, &key, Coverage::None, &mut node.parts.cx.rng);
            return false;
        };
        let target = (key.bytes().clone(), node.parts.cx.hash(key.as_ref()));
        let copies = node.parts.cx.config.replication_factor().get();
        let is_own = node.storage.is_own(&record, &node.parts.cx.local.peer);
        let is_copy = !is_own && node.parts.num_closer(&target.1) > copies;
        if is_copy && !node.parts.is_in_region_of(&target.1, copies) {
            // A copy, cached or left over: those it belongs to see to it, and it ends here.
            self.republish.done(now, &key, Coverage::Full, &mut node.parts.cx.rng);
            return false;
        }
        match Search::begin(now, target, copies, Precision::Near, &mut node.parts) {
            Ok(search) => {
                let sent = sent(wall, record, is_own, &node.parts.cx.config);
                node.queries.insert(now, PutRecord::new(sent, Quorum::All, search), Origin::Republish);
            }
            Err(NoKnownPeers()) => {
                self.republish.done(now, &key, Coverage::None, &mut node.parts.cx.rng);
            }
        }
        true
    }

    /// A peer has entered the table: it is sent the records that belong to it now and for which this node is the closest.
    pub(super) fn entered(&mut self, newcomer: &PeerId, theirs: &Key) {
        self.handing.entered(*newcomer, *theirs);
    }

    /// Hands over the next record to a newcomer. Returns whether there was one.
    pub(super) fn hand_next<S: RecordStore>(&mut self, now: Instant, node: &mut NodeParts<'_, S>) -> bool {
        if node.queries.is_full() {
            return false;
        }
        let (queries, table) = (&*node.queries, &node.parts.upkeep.table);
        let copies = node.parts.cx.config.replication_factor().get();
        // What a put sends it anyway is not sent twice.
        let sends = |to: &PeerId, key: &RecordKey| queries.sends(key, to);
        let next = self.handing.next(now, &self.republish, table, copies, &sends);
        let NextHandOver::Send(to, key) = next else {
            return false;
        };
        let wall = node.parts.cx.wall_at(now);
        if let Ok(Some(record)) = node.storage.store.get(wall, &key).map(|record| record.map(Cow::into_owned))
            && is_admitted(&record, node.parts.peers)
        {
            let is_own = node.storage.is_own(&record, &node.parts.cx.local.peer);
            let sent = sent(wall, record, is_own, &node.parts.cx.config);
            node.queries.insert(now, PutRecord::to(sent, Quorum::All, vec![to]), Origin::HandOver(to));
        } else {
            self.handing.done();
        }
        true
    }
}

/// Returns whether the publisher of a record, if it names one, is not banned.
pub(super) fn is_admitted(record: &Record, peers: &Peers) -> bool {
    record.publisher.is_none_or(|publisher| peers.bans.admits(&publisher))
}

/// Returns why a record of the application cannot be stored, if it cannot.
pub(super) fn check(wall: SystemTime, record: &Record, config: &Config) -> Result<(), store::Error> {
    if record.key.as_ref().is_empty() {
        return Err(InvalidRecord::new("the key is empty").into());
    }
    if record.is_expired(wall) {
        return Err(InvalidRecord::new("the record has ended").into());
    }
    Ok(config.records.validators.validate(wall, &record.key, &record.value)?)
}

/// Returns a record as it is sent; one of this node's that has no end lasts as long as is configured.
pub(super) fn sent(wall: SystemTime, mut record: Record, is_own: bool, config: &Config) -> SentRecord {
    if is_own && record.expires.is_none() {
        record.expires = config.records.record_ttl.map(|ttl| wall_after(wall, ttl));
    }
    SentRecord::of(record, wall)
}
