//! What keeps records alive, unasked: put anew, handed over, corrected, cached, ended.
//!
//! Does what `store::republish` says is due; whom a record goes to is decided by the operations under `op`.

use std::borrow::Cow;

use libp2p_identity::PeerId;

use super::disk::MAX_SAVED;
use super::handing::Next;
use super::looking::MAX_LOOKED_AT;
use crate::config::Caching;
use crate::dht::op::Operation;
use crate::dht::op::get_record::{FollowUp, GetRecord};
use crate::dht::op::put_record::{Elsewhere, PutRecord};
use crate::dht::queries::Asker;
use crate::dht::{Dht, RecordStore, TRY_AGAIN};
use crate::error::NoKnownPeers;
use crate::event::Precision;
use crate::key::Key;
use crate::message::SentRecord;
use crate::peer::PeerInfo;
use crate::record::{Quorum, Record, RecordKey};
use crate::store;
use crate::store::republish::Spread;
use crate::time::{Duration, Instant, SystemTime, after, earliest, wall_after};

/// So many that are due and need not be put are done with at once; then it rests.
const MAX_SPARED: usize = 256;

/// How long it rests: others have their turn.
const REST: Duration = Duration::from_millis(20);

impl<S: RecordStore> Dht<S> {
    /// Takes note of what the store held when the node began: records, and peers to join through.
    pub(in crate::dht) fn find_records(&mut self, now: Instant) {
        let peers = self.store.load_peers().unwrap_or_else(|error| {
            tracing::warn!(%error, "the peers of the last time could not be loaded");
            Vec::new()
        });
        for PeerInfo { peer_id, addrs } in peers.into_iter().take(MAX_SAVED) {
            for address in addrs {
                if let Err(error) = self.add_and_check(now, peer_id, address) {
                    tracing::debug!(peer = %peer_id, %error, "a peer of an earlier run was not added");
                }
            }
        }
        let seen = |record: Cow<'_, Record>| (record.key.clone(), record.expires, self.is_own(&record));
        let found: Vec<_> = self.store.records().map(seen).collect();
        for (record, expires, is_own) in found {
            self.found(now, record, expires, is_own);
        }
        self.disk_found(now);
    }

    /// A record is in the store that was not, as far as this node knew, or was another's.
    fn found(&mut self, now: Instant, record: RecordKey, expires: Option<SystemTime>, is_own: bool) {
        let key = (self.config.key_hash)(record.as_ref());
        if is_own {
            self.records.publishers.forget(&record);
        } else {
            // Perhaps its publisher has stored it just before.
            self.records.publishers.stored(now, record.clone());
        }
        self.records.republish.found(now, record, key, is_own, &mut self.rng);
        self.ends(now, expires);
    }

    /// Looks over some of what the store holds: the application may have changed it.
    fn look_over(&mut self, now: Instant) {
        let Some(before) = self.records.looking.due(now) else {
            return;
        };
        let some = self.store.list(before, MAX_LOOKED_AT);
        self.records.looking.looked(now, &some);
        for (key, expires) in some.keys {
            let known = self.records.republish.is_own(&key);
            if known == Some(self.store.is_own(&key)) {
                continue;
            }
            let record = self.store.get(SystemTime::UNIX_EPOCH, &key).ok().flatten();
            if let Some(is_own) = record.map(|record| self.is_own(&record)).filter(|is| known != Some(*is)) {
                self.found(now, key, expires, is_own);
            }
        }
        self.commit_soon(now);
    }

    /// A search for a record is over: those that had a worse one are sent the best, and some that had none cache it.
    pub(in crate::dht) fn see_to_others(&mut self, now: Instant, get: &GetRecord) {
        let wall = self.wall_at(now);
        let max_cache = match self.config.records.caching {
            Caching::Disabled => 0,
            Caching::Enabled { max_peers } => max_peers.into(),
        };
        let rules = (self.config.bucket_size().get(), max_cache, self.config.records.ttl);
        let Some(FollowUp { record, correct, cache }) = get.follow_up(wall, rules) else {
            return;
        };
        if !correct.is_empty() {
            self.send_to(now, SentRecord::of(record.clone(), wall), correct);
        }
        for (peer, until) in cache {
            let record = Record { expires: Some(until), ..record.clone() };
            self.send_to(now, SentRecord::of(record, wall), vec![peer]);
        }
    }

    /// Stores a record at some peers; nobody is told what comes of it.
    fn send_to(&mut self, now: Instant, record: SentRecord, peers: Vec<PeerId>) {
        if !self.queries.is_full() {
            let put = PutRecord::to(record, Quorum::All, peers);
            self.insert(now, Operation::PutRecord(put), Asker::Upkeep);
        }
    }

    /// A put is over.
    pub(in crate::dht) fn was_put(&mut self, now: Instant, put: &PutRecord, asker: Asker) {
        let anybody = put.num_stored() > 0;
        let spread = if anybody { Spread::Wide } else { Spread::Nowhere };
        self.records.handing.put_is_over(put.key(), put.has_reached());
        match asker {
            Asker::Republish => self.records.republish.done(now, put.key(), spread, &mut self.rng),
            Asker::HandOver(to) => {
                self.records.handing.done();
                if put.has_failed() {
                    // It does not answer, or not yet: what it lacks it gets when that is next put anew.
                    self.records.handing.failed(&to);
                }
            }
            Asker::Application if !anybody && self.records.republish.is_own(put.key()) == Some(true) => {
                self.records.republish.was_put(now, put.key(), spread, &mut self.rng);
            }
            Asker::Application | Asker::Upkeep => {}
        }
    }

    /// Returns whether there is anybody to put a record at, and room for it.
    ///
    /// What is due meanwhile waits for that, and not for a time.
    pub(in crate::dht) fn can_put(&self) -> bool {
        !self.queries.is_full() && !self.table.is_empty()
    }

    /// Puts one record anew whose time has come. Returns whether there was one.
    pub(in crate::dht) fn put_anew(&mut self, now: Instant) -> bool {
        if !self.can_put() {
            return false;
        }
        for _ in 0..MAX_SPARED {
            let Some(key) = self.records.republish.next(now) else {
                return false;
            };
            if self.put_one_anew(now, key) {
                return true;
            }
        }
        self.records.republish.rest(after(now, REST));
        false
    }

    /// Puts a record anew. Returns whether it had to be.
    fn put_one_anew(&mut self, now: Instant, key: RecordKey) -> bool {
        let wall = self.wall_at(now);
        let record = self.store.get(wall, &key).ok().flatten().map(|record| record.into_owned());
        let Some(record) = record else {
            self.records.forget(&key);
            self.records.republish.done(now, &key, Spread::Nowhere, &mut self.rng);
            return false;
        };
        let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
        let (copies, is_own) = (self.config.replication_factor().get(), self.is_own(&record));
        if !is_own && self.num_closer(&target.1) > copies {
            // A copy, cached or left over: those it belongs to see to it, and it ends here.
            self.records.republish.done(now, &key, Spread::Wide, &mut self.rng);
            return false;
        }
        match self.search(now, target, copies, Precision::Near) {
            Ok(search) => {
                let put = PutRecord::new(self.sent(wall, record, is_own), Quorum::All, search);
                self.insert(now, Operation::PutRecord(put), Asker::Republish);
            }
            Err(NoKnownPeers()) => self.records.republish.done(now, &key, Spread::Nowhere, &mut self.rng),
        }
        true
    }

    /// A peer has entered the table: it is sent the records that belong to it now and for which this node is the closest.
    pub(in crate::dht) fn hand_over(&mut self, newcomer: &PeerId, theirs: &Key) {
        self.records.handing.entered(*newcomer, *theirs);
    }

    /// Returns how many peers of the table are closer to a key than this node.
    pub(super) fn num_closer(&self, key: &Key) -> usize {
        let own = key.distance(&self.local.key);
        self.table.closest(key).take_while(|entry| key.distance(entry.key()) < own).count()
    }

    /// Sees to it that a record is dropped when it ends.
    pub(in crate::dht) fn ends(&mut self, now: Instant, end: Option<SystemTime>) {
        let wall = self.wall_at(now);
        let at = end.map(|end| after(now, end.duration_since(wall).unwrap_or_default()));
        self.records.expire_at = earliest(self.records.expire_at, at);
    }

    /// Does what is due by time alone.
    pub(in crate::dht) fn keep_records(&mut self, now: Instant) {
        while let Some((id, _)) = self.records.held.first_key_value().filter(|(_, held)| held.until <= now) {
            let id = *id;
            self.refuse_record(id);
        }
        // Saved first, so that one commit does for both.
        if self.records.save_at.is_some_and(|at| at <= now) {
            self.save(now);
        }
        if self.records.disk.is_due(now) {
            self.commit();
        }
        self.expire(now);
        self.look_over(now);
    }

    /// Drops what has ended.
    pub(in crate::dht) fn expire(&mut self, now: Instant) {
        if self.records.expire_at.is_some_and(|at| at <= now) {
            self.records.expire_at = None;
            self.shorten(now);
            match self.store.expire(self.wall_at(now)) {
                Ok(store::Expired { gone, next }) => {
                    gone.iter().for_each(|key| self.records.forget(key));
                    self.ends(now, next);
                    // What was too much for one call follows.
                    let more = self.records.is_to_shorten.then(|| after(now, REST));
                    self.records.expire_at = earliest(self.records.expire_at, more);
                    self.records.expire_at = self.records.expire_at.map(|at| at.max(after(now, REST)));
                }
                Err(error) => {
                    tracing::warn!(%error, "what has ended could not be dropped");
                    self.records.expire_at = Some(after(now, TRY_AGAIN));
                }
            }
            self.commit_soon(now);
        }
    }

    /// Lets nothing of others last longer than it would if it were stored now, if the clock was set back.
    fn shorten(&mut self, now: Instant) {
        if !self.records.is_to_shorten {
            return;
        }
        // Where no end is given to records, none is known to be wrong.
        let longest = self.config.records.ttl.map(|ttl| ttl.max(self.config.providers.ttl));
        let latest = longest.map(|longest| wall_after(self.wall_at(now), longest));
        let more = latest.map_or(Ok(false), |latest| self.store.shorten(latest));
        self.records.is_to_shorten = more.unwrap_or_else(|error| {
            tracing::warn!(%error, "what lasts too long could not be shortened");
            false
        });
    }

    /// Hands over the next record to a newcomer. Returns whether there was one.
    pub(in crate::dht) fn hand_next(&mut self, now: Instant) -> bool {
        if self.queries.is_full() {
            return false;
        }
        let (records, copies, queries) =
            (&mut *self.records, self.config.replication_factor().get(), &self.queries);
        // What a put sends it anyway is not sent twice.
        let sends = |to: &PeerId, key: &RecordKey| {
            let puts = queries.iter().filter_map(|(_, query)| query.put()).filter(|put| put.key() == key);
            puts.map(|put| put.sends_to(to)).fold(Elsewhere::No, Elsewhere::max)
        };
        let next = records.handing.next(now, &records.republish, &self.table, copies, &sends);
        let Next::Send(to, key) = next else {
            return false;
        };
        let wall = self.wall_at(now);
        if let Ok(Some(record)) = self.store.get(wall, &key).map(|record| record.map(Cow::into_owned)) {
            let is_own = self.is_own(&record);
            let sent = self.sent(wall, record, is_own);
            let put = PutRecord::to(sent, Quorum::All, vec![to]);
            self.insert(now, Operation::PutRecord(put), Asker::HandOver(to));
        } else {
            self.records.handing.done();
        }
        true
    }
}
