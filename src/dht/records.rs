//! Records: what the application stores and searches, what others want stored, and what keeps records alive.
//!
//! Knows the store by its trait. Whom a record goes to, and which one is found, is decided by the operations under `op`.

mod disk;
mod handing;
mod inbound;
mod looking;
mod upkeep;
mod writers;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use libp2p_identity::PeerId;

use self::disk::Disk;
use self::handing::Handing;
use self::inbound::Offer;
use self::looking::Looking;
use self::writers::Publishers;
use super::clocks::Jump;
use super::op::Operation;
use super::op::ask_peer::AskPeer;
use super::op::get_record::GetRecord;
use super::op::put_record::PutRecord;
use super::queries::Asker;
use super::{Dht, RecordStore};
use crate::error::{AskPeerError, GetRecordError, NoKnownPeers, PutRecordError, QueryError, StoreError};
use crate::event::{HeldId, Precision, ProgressStep, QueryId, QueryInfo, QueryResult};
use crate::message::{Request, SentRecord};
use crate::record::{ProviderRecord, Quorum, Record, RecordKey};
use crate::store::republish::{Republish, Spread};
use crate::store::{self, Source};
use crate::time::{Instant, Now, SystemTime, earliest, wall_after};
use crate::validate::{InvalidRecord, Validator as _};

/// What is remembered beside the store.
#[derive(Debug)]
pub(super) struct Records {
    republish: Republish,
    publishers: Publishers,
    held: BTreeMap<HeldId, Held>,
    next_held: u64,
    pub(super) disk: Disk,
    expire_at: Option<Instant>,
    /// Whether there may be something of others that lasts too long, since the clock was set back.
    is_to_shorten: bool,
    handing: Handing,
    looking: Looking,
    /// When the peers of the table are saved, since others have entered.
    save_at: Option<Instant>,
    saved: Option<Instant>,
}

/// Something that waits for the word of the application.
#[derive(Debug)]
struct Held {
    what: HeldWhat,
    until: Instant,
}

#[derive(Debug)]
enum HeldWhat {
    Record(Offer),
    /// What a peer says it provides.
    Provider(PeerId, ProviderRecord),
}

impl Records {
    pub(super) fn new(config: &crate::config::Records) -> Self {
        Self {
            republish: Republish::new(config.publication, config.replication).with_places(),
            publishers: Publishers::default(),
            held: BTreeMap::new(),
            next_held: 0,
            disk: Disk::default(),
            expire_at: None,
            is_to_shorten: false,
            handing: Handing::default(),
            looking: Looking::default(),
            save_at: None,
            saved: None,
        }
    }

    /// Returns when something is due; what is to be put only if there is anybody to put it at.
    pub(super) fn deadline(&self, can_put: bool) -> Option<Instant> {
        let held = self.held.first_key_value().map(|(_, held)| held.until);
        let put = earliest(self.republish.deadline(), self.handing.deadline()).filter(|_| can_put);
        let at = [held, self.disk.deadline(), self.expire_at, self.save_at, self.looking.deadline()];
        at.into_iter().fold(put, earliest)
    }

    /// The application has the store in its hands.
    pub(super) fn given_away(&mut self, now: Instant) {
        self.looking.given_away(now);
    }

    /// A record is not in the store any more.
    fn forget(&mut self, key: &RecordKey) {
        self.republish.removed(key);
        self.publishers.forget(key);
    }

    /// Returns how many records were looked at for the sake of newcomers.
    #[cfg(test)]
    pub(super) const fn looked_at(&self) -> u64 {
        self.handing.looked_at()
    }

    /// Other records have ended now, and others are due.
    pub(super) fn clock_has_jumped(&mut self, now: Instant, jump: Jump) {
        match jump {
            Jump::Forward(by) => self.republish.slept(now, by),
            Jump::Back(_) => self.is_to_shorten = true,
        }
        self.expire_at = Some(now);
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
}

impl<S: RecordStore> Dht<S> {
    /// Searches the record of a key; see [`QueryResult::GetRecord`].
    ///
    /// Each valid record is told as it is found, this node's own first. With a quorum the search ends when so many agree on
    /// the best one so far; a record of this node counts, and may be enough. Without one it ends when the closest peers have
    /// answered.
    pub fn get_record(&mut self, now: Now, key: RecordKey, quorum: Option<Quorum>) -> QueryId {
        let now = self.tell_time(now);
        let at_once = |dht: &mut Self, error: GetRecordError| {
            let (key, step) = (error.key().clone(), ProgressStep::first());
            let info = QueryInfo::GetRecord { key, quorum, found: 0, step };
            dht.at_once(now, info, QueryResult::GetRecord(Err(error)))
        };
        let wall = self.wall_at(now);
        if key.as_ref().is_empty() {
            let source = InvalidRecord::new("the key is empty");
            return at_once(self, GetRecordError::Invalid { key, source });
        }
        if let Err(source) = self.config.records.validators.check_key(&key) {
            // Whatever anybody had, it would not be valid.
            return at_once(self, GetRecordError::Invalid { key, source });
        }
        // A store that cannot be read is as good as none: others may have the record.
        let own = self.store.get(wall, &key).ok().flatten().map(|record| record.into_owned());
        let wanted = self.config.replication_factor().get();
        // One that is here is enough where one is.
        let is_enough = own.is_some() && quorum.is_some_and(|quorum| quorum.of(wanted).get() == 1);
        let search = if is_enough {
            None
        } else {
            let target = (key.bytes().clone(), (self.config.key_hash)(key.as_ref()));
            self.search(now, target, wanted, Precision::Exact).ok()
        };
        if search.is_none() && own.is_none() {
            return at_once(self, GetRecordError::of_query(NoKnownPeers(), key));
        }
        let search = search.map(|search| search.asking(Request::GetValue { key: key.clone() }));
        let get = GetRecord::new(key.clone(), quorum, self.config.records.validators.clone(), search, own);
        let begun = self.begin(now, Operation::GetRecord(get));
        begun.unwrap_or_else(|cause| at_once(self, GetRecordError::of_query(cause, key)))
    }

    /// Stores a record here and at as many of the closest peers to its key as are configured. Ends with one [`QueryResult::PutRecord`], which does not
    /// come before the record would survive a crash here.
    ///
    /// This node is the publisher: it puts the record anew until it is removed or ends. A record without an end lasts as long
    /// as is configured each time it is put.
    ///
    /// # Errors
    /// Whatever keeps this node itself from storing it; then it is sent to nobody.
    pub fn put_record(&mut self, now: Now, record: Record, quorum: Quorum) -> Result<QueryId, store::Error> {
        self.put_record_to_n_closest(now, record, self.config.replication_factor(), quorum)
    }

    /// Stores a record here and at the `copies` closest peers to its key, at most `k`; else as [`put_record`](Self::put_record).
    ///
    /// When it is put anew it is at as many as are configured.
    ///
    /// # Errors
    /// Whatever keeps this node itself from storing it; then it is sent to nobody.
    pub fn put_record_to_n_closest(
        &mut self,
        now: Now,
        mut record: Record,
        copies: NonZeroUsize,
        quorum: Quorum,
    ) -> Result<QueryId, store::Error> {
        let now = self.tell_time(now);
        let copies = copies.min(self.config.bucket_size());
        let wall = self.wall_at(now);
        record.publisher = Some(self.local.peer);
        self.check_own(wall, &record)?;
        self.expire(now);
        self.store.put(wall, record.clone())?;
        let key = (self.config.key_hash)(record.key.as_ref());
        self.records.republish.stored(now, record.key.clone(), key, true, &mut self.rng);
        self.records.publishers.forget(&record.key);
        self.ends(now, record.expires);
        self.commit_soon(now);
        let change = self.unsafe_change();
        let target = (record.key.bytes().clone(), key);
        let sent = self.sent(wall, record.clone(), true);
        let put = match self.search(now, target, copies.get(), Precision::Near) {
            Ok(search) => Ok(PutRecord::new(sent, quorum, search)),
            // That it is here is not said before it is safe.
            Err(NoKnownPeers()) if change.is_some() => Ok(PutRecord::at_nobody(sent, quorum)),
            Err(error) => Err(QueryError::from(error)),
        };
        let begun = put.and_then(|put| self.begin(now, Operation::PutRecord(put.safe_with(change))));
        let error = match begun {
            Ok(id) => {
                self.wake_when_safe(now, change, id);
                return Ok(id);
            }
            Err(cause) => PutRecordError::of_query(cause, record.key.clone()),
        };
        self.records.republish.was_put(now, &record.key, Spread::Nowhere, &mut self.rng);
        Ok(self.not_put(now, quorum, error))
    }

    /// Stores a record here, in place of any of its key, and nowhere else: this node is not its publisher, but serves it and
    /// keeps it alive as it does those of others.
    ///
    /// One without an end lasts as long as is configured. It takes of the room for what others want stored.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then nothing has changed.
    pub fn store_local(&mut self, now: Now, mut record: Record) -> Result<(), store::Error> {
        let now = self.tell_time(now);
        let wall = self.wall_at(now);
        self.check_own(wall, &record)?;
        record.publisher = record.publisher.filter(|publisher| *publisher != self.local.peer);
        record.expires = record.expires.or(self.config.records.ttl.map(|ttl| wall_after(wall, ttl)));
        // The application has it from the publisher.
        let peer = record.publisher.unwrap_or(self.local.peer);
        let source = Source { peer, group: None, hands_on: false };
        let key = record.key.clone();
        self.keep(now, record, source)?;
        self.records.publishers.stored(now, key);
        self.commit_soon(now);
        Ok(())
    }

    /// Stores a record at some peers, and not here. Ends with one [`QueryResult::PutRecord`].
    pub fn put_record_to(
        &mut self,
        now: Now,
        record: Record,
        peers: impl IntoIterator<Item = PeerId>,
        quorum: Quorum,
    ) -> QueryId {
        let now = self.tell_time(now);
        let wall = self.wall_at(now);
        let mut to: Vec<PeerId> = Vec::new();
        for peer in peers {
            if peer != self.local.peer && !to.contains(&peer) {
                to.push(peer);
            }
        }
        let key = record.key.clone();
        let error = match self.check_own(wall, &record) {
            Err(error) => why_not(key, error),
            Ok(()) => {
                let put = PutRecord::to(self.sent(wall, record, true), quorum, to);
                match self.begin(now, Operation::PutRecord(put)) {
                    Ok(id) => return id,
                    Err(cause) => PutRecordError::of_query(cause, key),
                }
            }
        };
        self.not_put(now, quorum, error)
    }

    fn not_put(&mut self, now: Instant, quorum: Quorum, error: PutRecordError) -> QueryId {
        let info = QueryInfo::PutRecord { key: error.key().clone(), quorum, stored: 0 };
        self.at_once(now, info, QueryResult::PutRecord(Err(error)))
    }

    /// Removes a record from this node's store, and puts it no more: a put of it that runs is cancelled. Others keep it until
    /// it ends there.
    ///
    /// # Errors
    /// Whatever the store says.
    pub fn remove_record(&mut self, now: Now, key: &RecordKey) -> Result<(), store::Error> {
        let now = self.tell_time(now);
        self.store.remove(key)?;
        self.records.forget(key);
        self.commit_soon(now);
        self.cancel_all(now, |operation, asker| match (operation, asker) {
            (Operation::PutRecord(put), Asker::Application) => put.key() == key && put.is_to_the_closest(),
            (Operation::PutRecord(put), Asker::Republish | Asker::HandOver(_)) => put.key() == key,
            // What others have is corrected all the same.
            (_, Asker::Upkeep | Asker::Application | Asker::Republish | Asker::HandOver(_)) => false,
        });
        Ok(())
    }

    /// Asks one peer for the peers closest to the hash of `key`. Ends with one [`QueryResult::AskPeer`].
    pub fn find_node_at(&mut self, now: Now, peer: PeerId, key: impl Into<Vec<u8>>) -> QueryId {
        let now = self.tell_time(now);
        let key = bytes::Bytes::from(key.into());
        self.ask_peer(now, peer, key.is_empty(), Request::FindNode { key })
    }

    /// Asks one peer for the record of a key. Ends with one [`QueryResult::AskPeer`].
    pub fn get_record_at(&mut self, now: Now, peer: PeerId, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        self.ask_peer(now, peer, key.as_ref().is_empty(), Request::GetValue { key })
    }

    fn ask_peer(&mut self, now: Instant, peer: PeerId, is_empty: bool, request: Request) -> QueryId {
        let error = if is_empty {
            AskPeerError::EmptyKey
        } else {
            match self.begin(now, Operation::AskPeer(AskPeer::new(peer, request))) {
                Ok(id) => return id,
                Err(cause) => AskPeerError::Query { cause, peer },
            }
        };
        self.at_once(now, QueryInfo::AskPeer { peer }, QueryResult::AskPeer(Err(error)))
    }

    /// Begins a put for a command, whose error goes into the event.
    pub(super) fn put_or_say_why(
        &mut self,
        now: Now,
        record: Record,
        copies: Option<NonZeroUsize>,
        quorum: Quorum,
    ) -> QueryId {
        let copies = copies.unwrap_or(self.config.replication_factor());
        let key = record.key.clone();
        let begun = self.put_record_to_n_closest(now, record, copies, quorum);
        begun.unwrap_or_else(|error| self.not_put(now.instant, quorum, why_not(key, error)))
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
}

/// Returns what the store's word means for a put.
fn why_not(key: RecordKey, error: store::Error) -> PutRecordError {
    if let store::Error::Invalid(source) = error {
        PutRecordError::Invalid { key, source }
    } else {
        PutRecordError::Store { key, source: StoreError::new(error) }
    }
}
