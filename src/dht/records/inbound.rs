//! What others want stored: judged, held for the application, stored, acknowledged.
//!
//! Knows the store by its trait; what becomes of a record afterwards stands in `upkeep`.

use libp2p_identity::PeerId;

use super::{Held, HeldWhat, Record, RecordStore};
use crate::config::StoreInserts;
use crate::dht::Dht;
use crate::dht::io::{InboundId, Output};
use crate::dht::op::get_record::shrunk;
use crate::event::{Event, HeldId, InboundRequest};
use crate::message::{Response, SentRecord};
use crate::record::{ProviderRecord, RecordKey};
use crate::store::Source;
use crate::time::{Duration, Instant, Now, SystemTime, after, wall_after};
use crate::validate::{InvalidRecord, Validator as _};

/// How many records of others wait for the word of the application; one more is refused.
const MAX_HELD: usize = 64;

/// How long a record of others waits for the word of the application.
const HELD_FOR: Duration = Duration::from_secs(5);

/// What is known of the record that a better or equal one would replace.
struct Standing {
    is_own: bool,
    /// Whether it has the very same value.
    is_same: bool,
    expires: Option<SystemTime>,
}

impl<S: RecordStore> Dht<S> {
    /// A peer wants a record stored.
    pub(in crate::dht) fn put_value(
        &mut self,
        now: Instant,
        from: PeerId,
        id: InboundId,
        record: SentRecord,
    ) {
        if self.records.disk.is_full() {
            return self.refuse(from, id, &"too many records wait for the disk");
        }
        match self.acceptable(now, record) {
            Err(error) => self.refuse(from, id, &error),
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
        self.config.records.validators.validate(wall, &sent.key, &sent.value)?;
        let mut record = sent.into_record(wall);
        // Whoever says that it is of this node does not know better than this node.
        record.publisher = record.publisher.filter(|publisher| *publisher != self.local.peer);
        let same = match self.known(wall, &record)? {
            Some(known) if known.is_own && known.is_same => return Ok((record, true)),
            Some(known) if known.is_same => Some(known.expires),
            Some(_) | None => None,
        };
        let longest = self.config.records.ttl.map(|ttl| wall_after(wall, self.shrunk(&record.key, ttl)));
        // `None` is not less than an end: it is no end.
        record.expires = record.expires.into_iter().chain(longest).min();
        if let Some(known) = same {
            // A copy that somebody had cached for a short time does not shorten the others.
            record.expires = record.expires.and_then(|end| known.map(|known| known.max(end)));
        }
        Ok((record, false))
    }

    /// Asks the application whether a record is to be stored.
    fn hold(&mut self, now: Instant, from: PeerId, id: InboundId, record: Record) {
        if self.records.held.len() >= MAX_HELD {
            return self.refuse(from, id, &"too many records wait for the application");
        }
        let (key, asked) = (record.key.clone(), record.clone());
        let held = self.keep_back(now, from, HeldWhat::Record(id, record));
        let request = InboundRequest::PutRecord { source: from, key, record: Some((held, asked)) };
        self.event(Event::InboundRequest { request });
    }

    /// Asks the application whether what a peer says it provides is to be stored.
    pub(in crate::dht) fn hold_provider(&mut self, now: Instant, from: PeerId, record: ProviderRecord) {
        if self.records.held.len() >= MAX_HELD {
            tracing::debug!(%from, "an announcement is dropped: too many records wait for the application");
            return;
        }
        let (key, asked) = (record.key.clone(), record.clone());
        let held = self.keep_back(now, from, HeldWhat::Provider(record));
        let request = InboundRequest::AddProvider { source: from, key, record: Some((held, asked)) };
        self.event(Event::InboundRequest { request });
    }

    fn keep_back(&mut self, now: Instant, from: PeerId, what: HeldWhat) -> HeldId {
        let held = HeldId(self.records.next_held);
        self.records.next_held += 1;
        self.records.held.insert(held, Held { from, what, until: after(now, HELD_FOR) });
        held
    }

    /// Stores what waits for the word of the application. Returns whether it still waited.
    pub fn accept_record(&mut self, now: Now, id: HeldId) -> bool {
        let now = self.tell_time(now);
        let Some(Held { from, what, .. }) = self.records.held.remove(&id) else {
            return false;
        };
        match what {
            // A better one may have come while it waited.
            HeldWhat::Record(id, _) if self.records.disk.is_full() => {
                self.refuse(from, id, &"too many records wait for the disk");
            }
            HeldWhat::Record(id, record) => match self.known(self.wall_at(now), &record) {
                Ok(_) => self.store_for(now, from, id, record),
                Err(error) => self.refuse(from, id, &error),
            },
            HeldWhat::Provider(record) => self.add_provider_for(now, from, record),
        }
        true
    }

    /// Refuses what waits for the word of the application. Returns whether it still waited.
    pub fn refuse_record(&mut self, id: HeldId) -> bool {
        let Some(Held { from, what, .. }) = self.records.held.remove(&id) else {
            return false;
        };
        if let HeldWhat::Record(id, _) = what {
            self.outputs.push_back(Output::RefuseRequest { to: from, id });
        }
        true
    }

    /// Stores a record for another peer, and answers.
    fn store_for(&mut self, now: Instant, from: PeerId, id: InboundId, record: Record) {
        // What ends by itself is dropped first, and known to be.
        self.expire(now);
        let wall = self.wall_at(now);
        let source = Source { peer: from, group: self.peers.get(&from).and_then(|known| known.group) };
        match self.store.put_from(wall, record.clone(), source) {
            Err(error) => self.refuse(from, id, &error),
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
        self.answer_when_safe(now, from, id, response);
        self.event(Event::InboundRequest { request });
    }

    /// Returns how long a record is kept here that would last for `ttl`: less, the more nodes are closer to it.
    pub(in crate::dht) fn shrunk(&self, key: &RecordKey, ttl: Duration) -> Duration {
        let closer = self.num_closer(&(self.config.key_hash)(key.as_ref()));
        shrunk(ttl, closer, self.config.bucket_size().get())
    }

    fn refuse(&mut self, from: PeerId, id: InboundId, why: &dyn std::fmt::Display) {
        tracing::debug!(%from, %why, "a record is refused");
        self.outputs.push_back(Output::RefuseRequest { to: from, id });
    }

    /// Returns what is known of the record under the key of another, which is worth taking.
    fn known(&self, wall: SystemTime, record: &Record) -> Result<Option<Standing>, InvalidRecord> {
        let Ok(Some(known)) = self.store.get(wall, &record.key) else {
            return Ok(None);
        };
        let order = self.config.records.validators.compare(&record.key, &record.value, &known.value);
        let (is_own, is_same) = (self.store.is_own(&record.key), known.value == record.value);
        if order.is_lt() {
            Err(InvalidRecord::new("a better record is known"))
        } else if is_own && !is_same && order.is_eq() {
            Err(InvalidRecord::new("the key has a record of this node's own, which is as good"))
        } else {
            Ok(Some(Standing { is_own, is_same, expires: known.expires }))
        }
    }
}
