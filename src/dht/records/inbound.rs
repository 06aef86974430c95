//! What others want stored: judged, held for the application, stored, acknowledged.
//!
//! Knows the store by its trait; what becomes of a record afterwards stands in `upkeep`.

use libp2p_identity::PeerId;

use super::writers::{Known, Verdict, Way, judge};
use super::{Held, HeldWhat, Record, RecordStore};
use crate::config::StoreInserts;
use crate::dht::Dht;
use crate::dht::io::{InboundId, Output};
use crate::dht::op::get_record::shrunk;
use crate::event::{Event, HeldId, InboundRequest};
use crate::message::{Response, SentRecord};
use crate::record::{ProviderRecord, RecordKey};
use crate::store::{self, Source};
use crate::time::{Duration, Instant, Now, SystemTime, after, wall_after};
use crate::validate::{InvalidRecord, Validator as _};

/// A record that a peer wants stored.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    from: PeerId,
    /// The request that is answered then.
    id: InboundId,
    way: Way,
    /// As it would be stored.
    record: Record,
}

impl<S: RecordStore> Dht<S> {
    /// A peer wants a record stored.
    pub(in crate::dht) fn put_value(&mut self, now: Instant, from: PeerId, id: InboundId, sent: SentRecord) {
        let wall = self.wall_at(now);
        if let Err(error) = self.config.records.validators.validate(wall, &sent.key, &sent.value) {
            return self.refuse(from, id, &error);
        }
        let mut record = sent.into_record(wall);
        let way = Way::of(record.publisher.as_ref(), &from, &self.local.peer);
        // Whoever says that it is of this node does not know better than this node. Whoever names nobody has published it: it
        // is so that it is handed on, and not as this node's.
        record.publisher = record.publisher.filter(|publisher| *publisher != self.local.peer).or(Some(from));
        let mut offer = Offer { from, id, way, record };
        let Some((verdict, known)) = self.judged(now, &offer) else {
            return;
        };
        self.limit(wall, &mut offer.record);
        if verdict == Verdict::Renew
            && let Some(known) = known
        {
            renew(&mut offer, &known);
        }
        match self.config.records.inserts {
            // It is here already.
            StoreInserts::Unfiltered | StoreInserts::FilterBoth if verdict == Verdict::Own => {
                self.answer_put(now, &offer, true);
            }
            StoreInserts::Unfiltered => {
                if let Err(error) = self.store_for(now, &offer, offer.record.clone(), verdict, true) {
                    self.refuse(from, id, &error);
                }
            }
            StoreInserts::FilterBoth => self.hold(now, offer),
        }
    }

    /// Lets a record of others last for no longer than is configured.
    fn limit(&self, wall: SystemTime, record: &mut Record) {
        let longest = self.config.records.ttl.map(|ttl| wall_after(wall, self.shrunk(&record.key, ttl)));
        // `None` is not less than an end: it is no end.
        record.expires = record.expires.into_iter().chain(longest).min();
    }

    /// Returns what is to be done with a record that may stand under its key, and what stands there; `None` if it may not, of
    /// which everybody is told.
    fn judged(&mut self, now: Instant, offer: &Offer) -> Option<(Verdict, Option<Record>)> {
        let Offer { from, id, way, record } = offer;
        if self.records.disk.is_full() {
            self.refuse(*from, *id, &"too many records wait for the disk");
            return None;
        }
        let known =
            self.store.get(self.wall_at(now), &record.key).ok().flatten().map(|known| known.into_owned());
        let standing = known.as_ref().map(|known| Known {
            is_own: self.is_own(known),
            is_same: known.value == record.value,
            is_fresh: self.records.publishers.is_fresh(now, &record.key, self.config.records.publication),
            order: self.config.records.validators.compare(&record.key, &record.value, &known.value),
        });
        let verdict = judge(standing, *way, self.config.records.own);
        match verdict {
            Verdict::Take | Verdict::Renew | Verdict::Supersede | Verdict::Own => Some((verdict, known)),
            Verdict::Refuse(why) => {
                self.refuse(*from, *id, &why);
                None
            }
            Verdict::Keep => {
                self.tell_conflict(*from, record, true);
                self.refuse(*from, *id, &"the key has a record of this node's own, which is as good");
                None
            }
        }
    }

    fn tell_conflict(&mut self, source: PeerId, record: &Record, kept: bool) {
        self.event(Event::RecordConflict { source, record: record.clone(), kept });
    }

    /// Returns whether a record of the store is this node's.
    pub(super) fn is_own(&self, record: &Record) -> bool {
        record.publisher == Some(self.local.peer) || self.store.is_own(&record.key)
    }

    /// Asks the application whether a record is to be stored.
    fn hold(&mut self, now: Instant, offer: Offer) {
        let Offer { from, id, .. } = offer;
        if self.records.held.len() >= self.config.records.max_held.get() {
            return self.refuse(from, id, &"too many records wait for the application");
        }
        let (key, asked) = (offer.record.key.clone(), offer.record.clone());
        let held = self.keep_back(now, HeldWhat::Record(offer));
        let request = InboundRequest::PutRecord { source: from, key, record: Some((held, asked)) };
        self.event(Event::InboundRequest { request });
    }

    /// Asks the application whether what a peer says it provides is to be stored.
    pub(in crate::dht) fn hold_provider(&mut self, now: Instant, from: PeerId, record: ProviderRecord) {
        if self.records.held.len() >= self.config.records.max_held.get() {
            tracing::debug!(%from, "an announcement is dropped: too many records wait for the application");
            return;
        }
        let (key, asked) = (record.key.clone(), record.clone());
        let held = self.keep_back(now, HeldWhat::Provider(from, record));
        let request = InboundRequest::AddProvider { source: from, key, record: Some((held, asked)) };
        self.event(Event::InboundRequest { request });
    }

    fn keep_back(&mut self, now: Instant, what: HeldWhat) -> HeldId {
        let held = HeldId(self.records.next_held);
        self.records.next_held += 1;
        let until = after(now, self.config.records.held_for);
        self.records.held.insert(held, Held { what, until });
        held
    }

    /// Stores what waits for the word of the application, of which no second event tells. Returns whether it still waited.
    ///
    /// A better record may have come meanwhile: then it is refused after all.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] if the record has ended while it waited; else whatever keeps it from being stored. Then nothing
    /// has been stored, the peer is refused, and it waits no more: as it is it would not be taken later either.
    pub fn accept_record(&mut self, now: Now, id: HeldId) -> Result<bool, store::Error> {
        let now = self.tell_time(now);
        match self.records.held.remove(&id).map(|held| held.what) {
            None => return Ok(false),
            Some(HeldWhat::Record(offer)) => {
                let record = offer.record.clone();
                let accepted = self.accepted(now, &offer, record);
                accepted.inspect_err(|error| self.refuse(offer.from, offer.id, error))?;
            }
            Some(HeldWhat::Provider(from, record)) => self.add_provider_for(now, from, record, false)?,
        }
        Ok(true)
    }

    /// Stores another record in place of one that waits for the word of the application. Returns whether that still waited.
    ///
    /// Value, publisher and end are as given, but that one which names no publisher, or this node, is of the peer. The peer is
    /// answered as if what it has sent had been stored. A better record may have come meanwhile: then the peer is refused.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] if the other has another key, has ended or is not valid, or if what waits is a provider
    /// record; else whatever keeps it from being stored, as that it is too large. Then nothing has been stored, the peer has no
    /// answer yet, and what it has sent still waits: for another, for a refusal, or for the end of its time.
    pub fn accept_record_as(
        &mut self,
        now: Now,
        id: HeldId,
        mut record: Record,
    ) -> Result<bool, store::Error> {
        let now = self.tell_time(now);
        let Some(held) = self.records.held.get(&id) else {
            return Ok(false);
        };
        let HeldWhat::Record(offer) = &held.what else {
            return Err(InvalidRecord::new("what waits is a provider record").into());
        };
        if offer.record.key != record.key {
            return Err(InvalidRecord::new("what waits has another key").into());
        }
        self.check_own(self.wall_at(now), &record)?;
        let publisher = record.publisher.filter(|publisher| *publisher != self.local.peer);
        record.publisher = publisher.or(Some(offer.from));
        let offer = offer.clone();
        self.accepted(now, &offer, record)?;
        self.records.held.remove(&id);
        Ok(true)
    }

    /// The application wants a record stored in answer to an offer, which is answered.
    ///
    /// # Errors
    /// Whatever keeps the record from being stored; then there is no answer yet.
    fn accepted(&mut self, now: Instant, offer: &Offer, record: Record) -> Result<(), store::Error> {
        if record.is_expired(self.wall_at(now)) {
            return Err(InvalidRecord::new("the record has ended").into());
        }
        if self.records.disk.is_full() {
            return Err(store::Error::Busy);
        }
        let Offer { from, id, way, .. } = *offer;
        let mut offer_as = Offer { from, id, way, record };
        let Some((verdict, known)) = self.judged(now, &offer_as) else {
            return Ok(());
        };
        if verdict == Verdict::Own {
            self.answer_put(now, offer, false);
            return Ok(());
        }
        if let (Verdict::Renew, Some(known)) = (verdict, known)
            && offer_as.record == offer.record
        {
            renew(&mut offer_as, &known);
        }
        self.store_for(now, offer, offer_as.record, verdict, false)
    }

    /// Refuses what waits for the word of the application. Returns whether it still waited.
    pub fn refuse_record(&mut self, id: HeldId) -> bool {
        let Some(Held { what, .. }) = self.records.held.remove(&id) else {
            return false;
        };
        if let HeldWhat::Record(Offer { from, id, .. }) = what {
            self.outputs.push_back(Output::RefuseRequest { to: from, id });
        }
        true
    }

    /// Stores a record for another peer, and answers.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then there is no answer yet.
    fn store_for(
        &mut self,
        now: Instant,
        offer: &Offer,
        record: Record,
        verdict: Verdict,
        tells: bool,
    ) -> Result<(), store::Error> {
        let Offer { from, way, .. } = *offer;
        let group = self.peers.get(&from).and_then(|known| known.group);
        let source = Source { peer: from, group, hands_on: way != Way::Direct };
        let key = record.key.clone();
        self.keep(now, record, source)?;
        match (way, verdict) {
            (Way::Direct, _) => self.records.publishers.stored(now, key),
            // It is what a publisher has stored.
            (Way::HandedOn | Way::BroughtBack, Verdict::Renew) => {}
            (Way::HandedOn | Way::BroughtBack, _) => self.records.publishers.forget(&key),
        }
        if verdict == Verdict::Supersede {
            self.tell_conflict(from, &offer.record, false);
        }
        self.answer_put(now, offer, tells);
        Ok(())
    }

    /// Keeps a record that is not this node's, in place of any of its key.
    pub(super) fn keep(&mut self, now: Instant, record: Record, source: Source) -> Result<(), store::Error> {
        // What ends by itself is dropped first, and known to be.
        self.expire(now);
        let (name, ends) = (record.key.clone(), record.expires);
        let gone = self.store.put_from(self.wall_at(now), record, source)?;
        gone.iter().for_each(|key| self.records.forget(key));
        let key = (self.config.key_hash)(name.as_ref());
        self.records.republish.stored(now, name, key, false, &mut self.rng);
        self.ends(now, ends);
        Ok(())
    }

    /// Acknowledges a record, once it would survive a crash; the application is told unless it was asked.
    fn answer_put(&mut self, now: Instant, offer: &Offer, tells: bool) {
        let (key, value) = (offer.record.key.clone(), Some(offer.record.value.clone()));
        let response = Response::PutValue { key: key.clone(), value };
        self.answer_when_safe(now, offer.from, offer.id, response);
        if tells {
            let request = InboundRequest::PutRecord { source: offer.from, key, record: None };
            self.event(Event::InboundRequest { request });
        }
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
}

/// A record that is here already lasts as long as either says, and is still of whoever was its publisher: to put the same is no
/// reason to be named in its place.
fn renew(offer: &mut Offer, known: &Record) {
    // A copy that somebody had cached for a short time does not shorten the others.
    offer.record.expires = offer.record.expires.and_then(|end| known.expires.map(|known| known.max(end)));
    offer.record.publisher = known.publisher.or(offer.record.publisher);
}
