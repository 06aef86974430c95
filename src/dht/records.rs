//! Records: what the application stores and searches, what others want stored, and what keeps records alive.
//!
//! Knows the store by its trait. Whom a record goes to, and which one is found, is decided by the operations under `op`.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use super::io::{InboundId, Output};
use super::op::Operation;
use super::op::ask_peer::AskPeer;
use super::op::get_record::{FollowUp, GetRecord, shrunk};
use super::op::put_record::PutRecord;
use super::queries::Asker;
use super::{Dht, RecordStore};
use crate::config::{Caching, StoreInserts};
use crate::error::{AskPeerError, GetRecordError, NoKnownPeers, PutRecordError};
use crate::event::{Event, HeldId, InboundRequest, Precision, QueryId, QueryResult};
use crate::key::Key;
use crate::message::{Request, Response, SentRecord};
use crate::peer::PeerInfo;
use crate::record::Quorum;
use crate::record::{Record, RecordKey};
use crate::store::republish::Republish;
use crate::store::{self, Source};
use crate::time::{Duration, Instant, SystemTime, after, earliest, wall_after};
use crate::validate::{InvalidRecord, Validator as _};

/// How many records of others wait for the word of the application; one more is refused.
const MAX_HELD: usize = 64;

/// How long a record of others waits for the word of the application.
const HELD_FOR: Duration = Duration::from_secs(5);

/// How long an answer waits for the store to be committed, together with others.
const COMMIT_AFTER: Duration = Duration::from_millis(50);

/// So many answers wait at most; then the store is committed at once.
const COMMIT_AT: usize = 256;

/// So many peers of the table are saved.
const MAX_SAVED: usize = 64;

/// So long after somebody has entered the table its peers are saved, and no more often than so.
const SAVE_AFTER: Duration = Duration::from_secs(1);
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What is remembered beside the store.
#[derive(Debug)]
pub(super) struct Records {
    republish: Republish,
    held: BTreeMap<HeldId, Held>,
    next_held: u64,
    /// Answers that wait for the store to be committed.
    uncommitted: Vec<(PeerId, InboundId, Response)>,
    commit_at: Option<Instant>,
    expire_at: Option<Instant>,
    /// When the peers of the table are saved, since others have entered.
    save_at: Option<Instant>,
    saved: Option<Instant>,
}

/// A record that waits for the word of the application.
#[derive(Debug)]
struct Held {
    from: PeerId,
    id: InboundId,
    record: Record,
    until: Instant,
}

impl Records {
    pub(super) fn new(config: &crate::config::Records) -> Self {
        Self {
            republish: Republish::new(config.publication, config.replication),
            held: BTreeMap::new(),
            next_held: 0,
            uncommitted: Vec::new(),
            commit_at: None,
            expire_at: None,
            save_at: None,
            saved: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = self.held.first_key_value().map(|(_, held)| held.until);
        [held, self.commit_at, self.expire_at, self.save_at]
            .into_iter()
            .fold(self.republish.deadline(), earliest)
    }
}

impl<S: RecordStore> Dht<S> {
    /// Takes note of what the store held when the node began: records, and peers to join through.
    pub(super) fn find_records(&mut self, now: Instant) {
        let peers = self.store.load_peers().unwrap_or_else(|error| {
            tracing::warn!(%error, "the peers of the last time could not be loaded");
            Vec::new()
        });
        for PeerInfo { peer_id, addrs } in peers.into_iter().take(MAX_SAVED) {
            for address in addrs {
                self.add_seed(now, peer_id, address);
            }
        }
        let hash = self.config.key_hash;
        let found: Vec<_> = self.store.records().map(|record| (record.key.clone(), record.expires)).collect();
        for (record, expires) in found {
            let (key, is_own) = (hash(record.as_ref()), self.store.is_own(&record));
            self.records.republish.found(now, record, key, is_own, &mut self.rng);
            self.ends(now, expires);
        }
    }

    /// Searches the record of a key; see [`QueryResult::GetRecord`].
    ///
    /// Each valid record is told as it is found, this node's own first. With a quorum the search ends when so many agree on
    /// the best one so far; a record of this node counts, and may be enough. Without one it ends when the closest peers have
    /// answered.
    pub fn get_record(&mut self, now: Instant, key: RecordKey, quorum: Option<Quorum>) -> QueryId {
        let at_once = |dht: &mut Self, error| dht.at_once(now, QueryResult::GetRecord(Err(error)));
        let wall = self.wall_at(now);
        if key.as_ref().is_empty() {
            return at_once(self, GetRecordError::Invalid(InvalidRecord::new("the key is empty")));
        }
        // A store that cannot be read is as good as none: others may have the record.
        let own = self.store.get(wall, &key).ok().flatten().map(|record| record.into_owned());
        let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
        let k = self.config.bucket_size().get();
        let search = self.search(now, target, k, Precision::Exact).ok();
        if search.is_none() && own.is_none() {
            return at_once(self, GetRecordError::NoKnownPeers);
        }
        let search = search.map(|search| search.asking(Request::GetValue { key: key.clone() }));
        let get = GetRecord::new(key, quorum, self.config.records.validators.clone(), search, own);
        match self.begin(now, Operation::GetRecord(get)) {
            Some(id) => id,
            None => at_once(self, GetRecordError::TooManyQueries),
        }
    }

    /// Stores a record here and at the `k` closest peers to its key. Ends with one [`QueryResult::PutRecord`].
    ///
    /// This node is the publisher: it puts the record anew until it is removed or ends. A record without an end lasts as long
    /// as is configured each time it is put.
    ///
    /// # Errors
    /// Whatever keeps this node itself from storing it; then it is sent to nobody.
    pub fn put_record(
        &mut self,
        now: Instant,
        mut record: Record,
        quorum: Quorum,
    ) -> Result<QueryId, store::Error> {
        let wall = self.wall_at(now);
        record.publisher = Some(self.local.peer);
        self.check_own(wall, &record)?;
        self.store.put(wall, record.clone())?;
        let key = (self.config.key_hash)(record.key.as_ref());
        self.records.republish.stored(now, record.key.clone(), key, true, &mut self.rng);
        self.ends(now, record.expires);
        self.commit_soon(now);
        let target = (record.key.bytes().clone(), key);
        let k = self.config.bucket_size().get();
        let error = match self.search(now, target, k, Precision::Near) {
            Err(NoKnownPeers()) => PutRecordError::NoKnownPeers,
            Ok(search) => {
                let put = PutRecord::new(self.sent(wall, record.clone(), true), quorum, search);
                match self.begin(now, Operation::PutRecord(put)) {
                    Some(id) => return Ok(id),
                    None => PutRecordError::TooManyQueries,
                }
            }
        };
        self.records.republish.retry(now, &record.key);
        Ok(self.at_once(now, QueryResult::PutRecord(Err(error))))
    }

    /// Stores a record at some peers, and not here. Ends with one [`QueryResult::PutRecord`].
    pub fn put_record_to(
        &mut self,
        now: Instant,
        record: Record,
        peers: impl IntoIterator<Item = PeerId>,
        quorum: Quorum,
    ) -> QueryId {
        let wall = self.wall_at(now);
        let mut to: Vec<PeerId> = Vec::new();
        for peer in peers {
            if peer != self.local.peer && !to.contains(&peer) {
                to.push(peer);
            }
        }
        let error = match self.check_own(wall, &record) {
            Err(error) => why_not(error),
            Ok(()) => {
                let put = PutRecord::to(self.sent(wall, record, true), quorum, to);
                match self.begin(now, Operation::PutRecord(put)) {
                    Some(id) => return id,
                    None => PutRecordError::TooManyQueries,
                }
            }
        };
        self.at_once(now, QueryResult::PutRecord(Err(error)))
    }

    /// Removes a record from this node's store, and puts it no more. Others keep it until it ends there.
    ///
    /// # Errors
    /// Whatever the store says.
    pub fn remove_record(&mut self, now: Instant, key: &RecordKey) -> Result<(), store::Error> {
        self.records.republish.removed(key);
        self.store.remove(key)?;
        self.commit_soon(now);
        Ok(())
    }

    /// Asks one peer for the peers closest to the hash of `key`. Ends with one [`QueryResult::AskPeer`].
    pub fn find_node_at(&mut self, now: Instant, peer: PeerId, key: impl Into<Vec<u8>>) -> QueryId {
        let key = bytes::Bytes::from(key.into());
        self.ask_peer(now, peer, key.is_empty(), Request::FindNode { key })
    }

    /// Asks one peer for the record of a key. Ends with one [`QueryResult::AskPeer`].
    pub fn get_record_at(&mut self, now: Instant, peer: PeerId, key: RecordKey) -> QueryId {
        self.ask_peer(now, peer, key.as_ref().is_empty(), Request::GetValue { key })
    }

    fn ask_peer(&mut self, now: Instant, peer: PeerId, is_empty: bool, request: Request) -> QueryId {
        let error = if is_empty {
            AskPeerError::EmptyKey
        } else {
            match self.begin(now, Operation::AskPeer(AskPeer::new(peer, request))) {
                Some(id) => return id,
                None => AskPeerError::TooManyQueries,
            }
        };
        self.at_once(now, QueryResult::AskPeer(Err(error)))
    }

    /// Begins a put for a command, whose error goes into the event.
    pub(super) fn put_or_say_why(&mut self, now: Instant, record: Record, quorum: Quorum) -> QueryId {
        self.put_record(now, record, quorum)
            .unwrap_or_else(|error| self.at_once(now, QueryResult::PutRecord(Err(why_not(error)))))
    }

    fn check_own(&self, wall: SystemTime, record: &Record) -> Result<(), store::Error> {
        if record.key.as_ref().is_empty() {
            return Err(InvalidRecord::new("the key is empty").into());
        }
        if record.is_expired(wall) {
            return Err(InvalidRecord::new("the record has ended").into());
        }
        Ok(self.config.records.validators.validate(wall, &record.key, &record.value)?)
    }

    /// Returns a record as it is sent; one of this node's that has no end lasts as long as is configured.
    fn sent(&self, wall: SystemTime, mut record: Record, is_own: bool) -> SentRecord {
        if is_own && record.expires.is_none() {
            record.expires = self.config.records.ttl.map(|ttl| wall_after(wall, ttl));
        }
        SentRecord::of(record, wall)
    }

    /// Returns the record of an answer, if it may stand under its key.
    pub(super) fn valid_record(&self, now: Instant, record: SentRecord) -> Option<Record> {
        let wall = self.wall_at(now);
        let valid = self.config.records.validators.validate(wall, &record.key, &record.value);
        if let Err(error) = &valid {
            tracing::debug!(%error, "a record that was found is not valid");
        }
        valid.ok().map(|()| record.into_record(wall))
    }

    /// A search for a record is over: those that had a worse one are sent the best, and some that had none cache it.
    pub(super) fn see_to_others(&mut self, now: Instant, get: &GetRecord) {
        let wall = self.wall_at(now);
        let max_cache = match self.config.records.caching {
            Caching::Disabled => 0,
            Caching::Enabled { max_peers } => max_peers.get().into(),
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
    pub(super) fn was_put(&mut self, now: Instant, put: &PutRecord, asker: Asker) {
        let anybody = put.num_stored() > 0;
        match asker {
            Asker::Republish => self.records.republish.done(now, put.key(), anybody, &mut self.rng),
            Asker::Application if !anybody && self.store.is_own(put.key()) => {
                self.records.republish.retry(now, put.key());
            }
            Asker::Application | Asker::Upkeep => {}
        }
    }

    /// Puts one record anew whose time has come. Returns whether there was one.
    pub(super) fn put_anew(&mut self, now: Instant) -> bool {
        if self.queries.is_full() || self.table.is_empty() {
            return false;
        }
        let Some(key) = self.records.republish.next(now) else {
            return false;
        };
        let wall = self.wall_at(now);
        let record = self.store.get(wall, &key).ok().flatten().map(|record| record.into_owned());
        let Some(record) = record else {
            self.records.republish.removed(&key);
            self.records.republish.done(now, &key, false, &mut self.rng);
            return true;
        };
        let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
        let (k, is_own) = (self.config.bucket_size().get(), self.store.is_own(&key));
        if !is_own && self.num_closer(&target.1) > k {
            // A copy, cached or left over: those it belongs to see to it, and it ends here.
            self.records.republish.done(now, &key, true, &mut self.rng);
            return true;
        }
        match self.search(now, target, k, Precision::Near) {
            Ok(search) => {
                let put = PutRecord::new(self.sent(wall, record, is_own), Quorum::All, search);
                self.insert(now, Operation::PutRecord(put), Asker::Republish);
            }
            Err(NoKnownPeers()) => self.records.republish.done(now, &key, false, &mut self.rng),
        }
        true
    }

    /// A peer has entered the table: it is sent the records that belong to it now and for which this node is the closest.
    ///
    /// # Spec
    /// Maymounkov & Mazières §2.5. Costs one step in the table for each record that is stored here.
    pub(super) fn hand_over(&mut self, now: Instant, newcomer: &PeerId, theirs: &Key) {
        let (k, wall, own) = (self.config.bucket_size().get(), self.wall_at(now), self.local.key);
        let belongs = |key: &Key| {
            let (mine, theirs) = (key.distance(&own), key.distance(theirs));
            let mut others =
                self.table.closest(key).filter(|entry| entry.is_live() && !entry.is_of(newcomer));
            let nearest = others.next().map(|entry| key.distance(entry.key()));
            // The nearest of those it knows hands over, and nobody else.
            nearest.is_none_or(|nearest| mine < nearest)
                && (theirs < mine
                    || others.take(k).filter(|e| key.distance(e.key()) < theirs).count() + 2 <= k)
        };
        let records = self.records.republish.records().filter(|(_, key)| belongs(key));
        let records: Vec<_> = records.map(|(record, _)| record.clone()).collect();
        for key in records {
            if let Ok(Some(record)) = self.store.get(wall, &key) {
                let sent = self.sent(wall, record.into_owned(), self.store.is_own(&key));
                self.send_to(now, sent, vec![*newcomer]);
            }
        }
    }

    /// A peer wants a record stored.
    pub(super) fn put_value(&mut self, now: Instant, from: PeerId, id: InboundId, record: SentRecord) {
        match self.acceptable(now, record) {
            Err(error) => {
                tracing::debug!(%from, %error, "a record was refused");
                self.outputs.push_back(Output::RefuseRequest { to: from, id });
            }
            // It is here already, and is this node's own.
            Ok((record, true)) => self.answer_put(now, from, id, record),
            Ok((record, false)) => match self.config.records.inserts {
                StoreInserts::Unfiltered => self.store_for(now, from, id, record),
                StoreInserts::FilterBoth => self.hold(now, from, id, record),
            },
        }
    }

    /// Returns the record as it would be stored, and whether it is this node's own already.
    fn acceptable(&self, now: Instant, sent: SentRecord) -> Result<(Record, bool), InvalidRecord> {
        let wall = self.wall_at(now);
        let validators = &self.config.records.validators;
        validators.validate(wall, &sent.key, &sent.value)?;
        let mut record = sent.into_record(wall);
        // Whoever says that it is of this node does not know better than this node.
        record.publisher = record.publisher.filter(|publisher| *publisher != self.local.peer);
        let mut same = None;
        if let Ok(Some(known)) = self.store.get(wall, &record.key) {
            let order = validators.compare(&record.key, &record.value, &known.value);
            let (is_own, is_same) = (self.store.is_own(&record.key), known.value == record.value);
            if order.is_lt() {
                return Err(InvalidRecord::new("a better record is known"));
            }
            if is_own && is_same {
                return Ok((record, true));
            }
            same = is_same.then_some(known.expires);
            if is_own && order.is_eq() {
                return Err(InvalidRecord::new("the key has a record of this node's own, which is as good"));
            }
        }
        let longest = self.config.records.ttl.map(|ttl| wall_after(wall, self.shrunk(&record.key, ttl)));
        // `None` is not less than an end: it is no end.
        record.expires = record.expires.into_iter().chain(longest).min();
        if let Some(known) = same {
            // A copy that somebody had cached for a short time does not shorten the others.
            record.expires = record.expires.and_then(|end| known.map(|known| known.max(end)));
        }
        Ok((record, false))
    }

    /// Returns how long a record is kept here that would last for `ttl`: less, the more nodes are closer to it.
    fn shrunk(&self, key: &RecordKey, ttl: Duration) -> Duration {
        let closer = self.num_closer(&(self.config.key_hash)(key.as_ref()));
        shrunk(ttl, closer, self.config.bucket_size().get())
    }

    /// Returns how many peers of the table are closer to a key than this node.
    fn num_closer(&self, key: &Key) -> usize {
        let own = key.distance(&self.local.key);
        self.table.closest(key).take_while(|entry| key.distance(entry.key()) < own).count()
    }

    /// Asks the application whether a record is to be stored.
    fn hold(&mut self, now: Instant, from: PeerId, id: InboundId, record: Record) {
        if self.records.held.len() >= MAX_HELD {
            self.outputs.push_back(Output::RefuseRequest { to: from, id });
            return;
        }
        let held = HeldId(self.records.next_held);
        self.records.next_held += 1;
        let (key, asked) = (record.key.clone(), Some((held, record.clone())));
        self.records.held.insert(held, Held { from, id, record, until: after(now, HELD_FOR) });
        let request = InboundRequest::PutRecord { source: from, key, record: asked };
        self.event(Event::InboundRequest { request });
    }

    /// Stores a record that waits for the word of the application. Returns whether it still waited.
    pub fn accept_record(&mut self, now: Instant, id: HeldId) -> bool {
        let Some(Held { from, id, record, .. }) = self.records.held.remove(&id) else {
            return false;
        };
        self.store_for(now, from, id, record);
        true
    }

    /// Refuses a record that waits for the word of the application. Returns whether it still waited.
    pub fn refuse_record(&mut self, id: HeldId) -> bool {
        let held = self.records.held.remove(&id);
        self.outputs.extend(held.as_ref().map(|held| Output::RefuseRequest { to: held.from, id: held.id }));
        held.is_some()
    }

    /// Stores a record for another peer, and answers.
    fn store_for(&mut self, now: Instant, from: PeerId, id: InboundId, record: Record) {
        let wall = self.wall_at(now);
        let source = Source { peer: from, group: self.peers.get(&from).and_then(|known| known.group) };
        match self.store.put_from(wall, record.clone(), source) {
            Err(error) => {
                tracing::debug!(%from, %error, "a record was not stored");
                self.outputs.push_back(Output::RefuseRequest { to: from, id });
            }
            Ok(gone) => {
                gone.iter().for_each(|key| self.records.republish.removed(key));
                let key = (self.config.key_hash)(record.key.as_ref());
                self.records.republish.stored(now, record.key.clone(), key, false, &mut self.rng);
                self.ends(now, record.expires);
                self.answer_put(now, from, id, record);
            }
        }
    }

    /// Acknowledges a record, once it would survive a crash.
    fn answer_put(&mut self, now: Instant, from: PeerId, id: InboundId, record: Record) {
        let request = InboundRequest::PutRecord { source: from, key: record.key.clone(), record: None };
        let response = Response::PutValue { key: record.key, value: Some(record.value) };
        if self.store.is_dirty() {
            self.records.uncommitted.push((from, id, response));
            if self.records.uncommitted.len() >= COMMIT_AT {
                self.commit();
            } else {
                self.commit_soon(now);
            }
        } else {
            self.outputs.push_back(Output::SendResponse { to: from, id, response });
        }
        self.event(Event::InboundRequest { request });
    }

    /// The table has changed: its peers are saved soon, but not too often.
    pub(super) fn save_soon(&mut self, now: Instant) {
        if !self.store.keeps_peers() {
            return;
        }
        let earliest = self.records.saved.map_or(now, |saved| after(saved, SAVE_EVERY));
        self.records.save_at.get_or_insert(after(now, SAVE_AFTER).max(earliest));
    }

    /// Saves some peers of the table, the closest first, through which to join the next time.
    fn save(&mut self, now: Instant) {
        (self.records.save_at, self.records.saved) = (None, Some(now));
        let closest = self.table.closest(&self.local.key).filter(|entry| entry.is_live());
        let info = |entry: &crate::routing::Entry| PeerInfo {
            peer_id: entry.peer(),
            addrs: entry.addresses().clone().into_vec(),
        };
        let peers: Vec<_> = closest.take(MAX_SAVED).map(info).collect();
        if let Err(error) = self.store.save_peers(&peers) {
            tracing::warn!(%error, "the peers of the table could not be saved");
        }
    }

    fn commit_soon(&mut self, now: Instant) {
        if self.store.is_dirty() {
            self.records.commit_at.get_or_insert_with(|| after(now, COMMIT_AFTER));
        }
    }

    fn commit(&mut self) {
        self.records.commit_at = None;
        let committed = self.store.commit();
        if let Err(error) = &committed {
            tracing::warn!(%error, "the store could not be committed");
        }
        for (to, id, response) in self.records.uncommitted.drain(..) {
            self.outputs.push_back(match committed {
                Ok(()) => Output::SendResponse { to, id, response },
                Err(_) => Output::RefuseRequest { to, id },
            });
        }
    }

    /// Sees to it that a record is dropped when it ends.
    fn ends(&mut self, now: Instant, end: Option<SystemTime>) {
        let wall = self.wall_at(now);
        let at = end.map(|end| after(now, end.duration_since(wall).unwrap_or_default()));
        self.records.expire_at = earliest(self.records.expire_at, at);
    }

    /// Does what is due by time alone.
    pub(super) fn keep_records(&mut self, now: Instant) {
        while let Some((id, _)) = self.records.held.first_key_value().filter(|(_, held)| held.until <= now) {
            let id = *id;
            self.refuse_record(id);
        }
        if self.records.commit_at.is_some_and(|at| at <= now) {
            self.commit();
        }
        if self.records.save_at.is_some_and(|at| at <= now) {
            self.save(now);
        }
        if self.records.expire_at.is_some_and(|at| at <= now) {
            self.records.expire_at = None;
            match self.store.expire(self.wall_at(now)) {
                Ok(store::Expired { gone, next }) => {
                    gone.iter().for_each(|key| self.records.republish.removed(key));
                    self.ends(now, next);
                }
                Err(error) => {
                    tracing::warn!(%error, "what has ended could not be dropped");
                    self.records.expire_at = Some(after(now, super::TRY_AGAIN));
                }
            }
            self.commit_soon(now);
        }
    }
}

/// Returns what the store's word means for a put.
fn why_not(error: store::Error) -> PutRecordError {
    if let store::Error::Invalid(error) = error {
        PutRecordError::Invalid(error)
    } else {
        PutRecordError::Store(error.to_string())
    }
}
