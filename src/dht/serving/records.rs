//! What others want stored: judged, held for the application, stored, acknowledged.
//!
//! Knows the store by its trait; what becomes of a record afterwards stands in `records`.

use std::borrow::Cow;

use libp2p_identity::PeerId;

use super::held::{HeldRequest, RecordOffer};
use super::providers::add_provider_for;
use super::writers::{Arrival, StandingRecord, Verdict, judge};
use super::{Serving, Stock};
use crate::config::StoreInserts;
use crate::dht::context::Context;
use crate::dht::io::InboundId;
use crate::dht::records::check;
use crate::event::{HeldId, InboundRequest, Notice};
use crate::message::{MessageType, Response, SentRecord};
use crate::record::Record;
use crate::store::{self, RecordStore, Source};
use crate::time::{Instant, after, wall_after};
use crate::validate::{InvalidRecord, Validator as _};

impl Serving {
    /// A peer wants a record stored.
    pub(super) fn put_value<S: RecordStore>(
        &mut self,
        now: Instant,
        (from, id): (PeerId, InboundId),
        sent: SentRecord,
        stock: &mut Stock<'_, S>,
    ) {
        let cx = &mut *stock.node.parts.cx;
        let (wall, local) = (cx.wall_at(now), cx.local.peer);
        if let Err(error) = cx.config.records.validators.validate(wall, &sent.key, &sent.value) {
            return refuse(from, id, &error, cx);
        }
        if stock.node.storage.is_full() {
            return refuse(from, id, &"too many records wait for the disk", cx);
        }
        let mut record = sent.into_record(wall);
        let way = Arrival::of(record.publisher.as_ref(), &from, &local);
        // Whoever says that it is of this node does not know better than this node. Whoever names nobody has published it: it
        // is so that it is handed on, and not as this node's.
        record.publisher = record.publisher.filter(|publisher| *publisher != local).or(Some(from));
        if record.publisher.is_some_and(|publisher| !stock.node.parts.peers.bans.admits(&publisher)) {
            return refuse(from, id, &"its publisher is banned", stock.node.parts.cx);
        }
        let mut offer = RecordOffer { from, id, way, record };
        let Some((verdict, known)) = judged(now, &offer, stock) else {
            return;
        };
        limit(now, &mut offer.record, stock);
        if verdict == Verdict::Renew
            && let Some(known) = known
        {
            renew(&mut offer, &known);
        }
        match stock.node.parts.cx.config.records.record_filtering {
            // It is here already.
            StoreInserts::Unfiltered | StoreInserts::FilterBoth if verdict == Verdict::Own => {
                acknowledge(now, &offer, true, stock);
            }
            StoreInserts::Unfiltered => {
                if let Err(error) = store_for(now, &offer, offer.record.clone(), (verdict, true), stock) {
                    refuse(from, id, &error, stock.node.parts.cx);
                }
            }
            StoreInserts::FilterBoth => self.hold(now, offer, stock.node.parts.cx),
        }
    }

    /// Asks the application whether a record is to be stored.
    fn hold(&mut self, now: Instant, offer: RecordOffer, cx: &mut Context) {
        let RecordOffer { from, id, .. } = offer;
        if self.held.len() >= cx.config.records.max_held.get() {
            return refuse(from, id, &"too many records wait for the application", cx);
        }
        let (key, asked) = (offer.record.key.clone(), offer.record.clone());
        let until = after(now, cx.config.records.held_for);
        let held = self.held.insert(HeldRequest::Record(offer), until);
        let request = InboundRequest::PutRecord { source: from, key, record: Some((held, asked)) };
        cx.tell(Notice::InboundRequest { request });
    }

    /// Stores what waits for the word of the application, of which no second event tells. Returns whether it still waited.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then the peer is refused, and it waits no more.
    pub(in crate::dht) fn accept_record<S: RecordStore>(
        &mut self,
        now: Instant,
        id: HeldId,
        stock: &mut Stock<'_, S>,
    ) -> Result<bool, store::Error> {
        if self.is_of_banned(id, stock) {
            self.refuse_record(id, stock.node.parts.cx);
            return Ok(false);
        }
        match self.held.remove(id) {
            None => return Ok(false),
            Some(HeldRequest::Record(offer)) => {
                let record = offer.record.clone();
                let accepted = accepted(now, &offer, record, stock);
                let cx = &mut *stock.node.parts.cx;
                accepted.inspect_err(|error| refuse(offer.from, offer.id, error, cx))?;
            }
            Some(HeldRequest::Provider(from, record)) => add_provider_for(now, from, record, false, stock)?,
        }
        Ok(true)
    }

    /// Returns whether what waits for the word of the application is of a peer that was banned meanwhile.
    fn is_of_banned<S: RecordStore>(&self, id: HeldId, stock: &Stock<'_, S>) -> bool {
        let admits = |peer: &PeerId| stock.node.parts.peers.admits(peer);
        self.held.get(id).is_some_and(|held| match held {
            HeldRequest::Record(offer) => !admits(&offer.from),
            HeldRequest::Provider(from, _) => !admits(from),
        })
    }

    /// Stores another record in place of one that waits for the word of the application. Returns whether that still waited.
    ///
    /// # Errors
    /// Whatever keeps it from being stored; then the peer has no answer yet, and what it has sent still waits.
    pub(in crate::dht) fn accept_record_as<S: RecordStore>(
        &mut self,
        now: Instant,
        id: HeldId,
        mut record: Record,
        stock: &mut Stock<'_, S>,
    ) -> Result<bool, store::Error> {
        if self.is_of_banned(id, stock) {
            self.refuse_record(id, stock.node.parts.cx);
            return Ok(false);
        }
        let offer = match self.held.get(id) {
            None => return Ok(false),
            Some(HeldRequest::Provider(..)) => {
                return Err(InvalidRecord::new("what waits is a provider record").into());
            }
            Some(HeldRequest::Record(offer)) => offer,
        };
        if offer.record.key != record.key {
            return Err(InvalidRecord::new("what waits has another key").into());
        }
        let cx = &*stock.node.parts.cx;
        check(cx.wall_at(now), &record, &cx.config)?;
        let publisher = record.publisher.filter(|publisher| *publisher != cx.local.peer);
        record.publisher = publisher.or(Some(offer.from));
        accepted(now, offer, record, stock)?;
        self.held.remove(id);
        Ok(true)
    }
}

/// Lets a record of others last for no longer than is configured.
fn limit<S>(now: Instant, record: &mut Record, stock: &Stock<'_, S>) {
    let parts = &stock.node.parts;
    let ttl = parts.cx.config.records.record_ttl;
    let longest = ttl.map(|ttl| wall_after(parts.cx.wall_at(now), parts.shrunk(&record.key, ttl)));
    // `None` is not less than an end: it is no end.
    record.expires = record.expires.into_iter().chain(longest).min();
}

/// Returns what is to be done with a record that may stand under its key, and what stands there; `None` if it may not, of
/// which everybody is told.
fn judged<S: RecordStore>(
    now: Instant,
    offer: &RecordOffer,
    stock: &mut Stock<'_, S>,
) -> Option<(Verdict, Option<Record>)> {
    let RecordOffer { from, id, way, record } = offer;
    let (storage, cx) = (&*stock.node.storage, &mut *stock.node.parts.cx);
    let known = storage.store.get(cx.wall_at(now), &record.key).ok().flatten().map(Cow::into_owned);
    let rules = &cx.config.records;
    let standing = known.as_ref().map(|known| StandingRecord {
        is_own: storage.is_own(known, &cx.local.peer),
        is_same: known.value == record.value,
        is_fresh: stock.records.publishers.is_fresh(now, &record.key, rules.publication_interval),
        order: rules.validators.compare(&record.key, &record.value, &known.value),
    });
    let verdict = judge(standing, *way, rules.own_records);
    match verdict {
        Verdict::Take | Verdict::Renew | Verdict::Supersede | Verdict::Own => Some((verdict, known)),
        Verdict::Refuse(why) => {
            refuse(*from, *id, &why, cx);
            None
        }
        Verdict::Keep => {
            cx.tell(Notice::RecordConflict { source: *from, record: record.clone(), kept: true });
            refuse(*from, *id, &"the key has a record of this node's own, which is as good", cx);
            None
        }
    }
}

/// The application wants a record stored in answer to an offer, which is answered.
///
/// # Errors
/// Whatever keeps the record from being stored; then there is no answer yet.
fn accepted<S: RecordStore>(
    now: Instant,
    offer: &RecordOffer,
    record: Record,
    stock: &mut Stock<'_, S>,
) -> Result<(), store::Error> {
    if record.is_expired(stock.node.parts.cx.wall_at(now)) {
        return Err(InvalidRecord::new("the record has ended").into());
    }
    if stock.node.storage.is_full() {
        return Err(store::Error::Busy);
    }
    let RecordOffer { from, id, way, .. } = *offer;
    let mut offer_as = RecordOffer { from, id, way, record };
    let Some((verdict, known)) = judged(now, &offer_as, stock) else {
        return Ok(());
    };
    if verdict == Verdict::Own {
        acknowledge(now, offer, false, stock);
        return Ok(());
    }
    if let (Verdict::Renew, Some(known)) = (verdict, known)
        && offer_as.record == offer.record
    {
        renew(&mut offer_as, &known);
    }
    store_for(now, offer, offer_as.record, (verdict, false), stock)
}

/// Stores a record for another peer, and answers.
///
/// # Errors
/// Whatever keeps it from being stored; then there is no answer yet.
fn store_for<S: RecordStore>(
    now: Instant,
    offer: &RecordOffer,
    record: Record,
    (verdict, tells): (Verdict, bool),
    stock: &mut Stock<'_, S>,
) -> Result<(), store::Error> {
    let RecordOffer { from, way, .. } = *offer;
    let group = stock.node.parts.peers.get(&from).and_then(|known| known.groups.charged());
    let source = Source { peer: from, group, hands_on: way != Arrival::Direct };
    let key = record.key.clone();
    let (records, cx) = (&mut *stock.records, &mut *stock.node.parts.cx);
    records.keep(now, record, source, stock.node.storage, cx)?;
    match (way, verdict) {
        (Arrival::Direct, _) => records.publishers.stored(now, key),
        // It is what a publisher has stored.
        (Arrival::HandedOn | Arrival::BroughtBack, Verdict::Renew) => {}
        (Arrival::HandedOn | Arrival::BroughtBack, _) => records.publishers.forget(&key),
    }
    if verdict == Verdict::Supersede {
        cx.tell(Notice::RecordConflict { source: from, record: offer.record.clone(), kept: false });
    }
    acknowledge(now, offer, tells, stock);
    Ok(())
}

/// Acknowledges a record, once it would survive a crash; the application is told unless it was asked.
fn acknowledge<S: RecordStore>(now: Instant, offer: &RecordOffer, tells: bool, stock: &mut Stock<'_, S>) {
    let (key, value) = (offer.record.key.clone(), Some(offer.record.value.clone()));
    let response = Response::PutValue { key: key.clone(), value };
    let cx = &mut *stock.node.parts.cx;
    stock.node.storage.answer_when_safe(now, offer.from, offer.id, response, cx);
    if tells {
        let request = InboundRequest::PutRecord { source: offer.from, key, record: None };
        cx.tell(Notice::InboundRequest { request });
    }
}

fn refuse(from: PeerId, id: InboundId, why: &dyn std::fmt::Display, cx: &mut Context) {
    tracing::debug!(%from, %why, "a record is refused");
    cx.refuse(from, id, MessageType::PutValue);
}

/// A record that is here already lasts as long as either says, and keeps its publisher, if it has one: to put the same is no
/// reason to be named in its place.
fn renew(offer: &mut RecordOffer, known: &Record) {
    // A copy that somebody had cached for a short time does not shorten the others.
    offer.record.expires = offer.record.expires.and_then(|end| known.expires.map(|known| known.max(end)));
    offer.record.publisher = known.publisher.or(offer.record.publisher);
}
