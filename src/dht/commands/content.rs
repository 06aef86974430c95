//! Commands about content: records, and who provides what.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use libp2p_identity::PeerId;

use crate::dht::Dht;
use crate::dht::op::add_provider::AddProviderInfo;
use crate::dht::op::get_providers::{GetProviders, GetProvidersInfo};
use crate::dht::op::get_record::{GetRecord, GetRecordInfo};
use crate::dht::op::put_record::{PutRecord, PutRecordInfo};
use crate::dht::op::watch_providers::WatchProviders;
use crate::dht::op::{
    AddProviderError, AddProviderResult, GetProvidersError, GetProvidersResult, ProvideReport,
    PutRecordError, PutRecordResult,
};
use crate::dht::providing::Providing;
use crate::dht::records::{check, sent};
use crate::dht::serving::Stock;
use crate::error::StoreError;
use crate::event::{HeldId, ProgressStep, QueryId};
use crate::record::{Quorum, Record, RecordKey};
use crate::store::{self, RecordStore, Source};
use crate::time::{Instant, Now, wall_after};

impl<S: RecordStore> Dht<S> {
    /// Searches the record of a key; see [`QueryResult::GetRecord`](crate::QueryResult::GetRecord).
    ///
    /// Each valid record is told as it is found, this node's own first. With a quorum the search ends when so many agree on
    /// the best one so far; a record of this node counts, and may be enough. Without one it ends when the closest peers have
    /// answered.
    pub fn get_record(&mut self, now: Now, key: RecordKey, quorum: Option<Quorum>) -> QueryId {
        let now = self.tell_time(now);
        let info = GetRecordInfo { key: key.clone(), quorum, found: 0, step: ProgressStep::first() };
        if let Err(result) = GetRecord::check(&key, &self.cx.config) {
            return self.tell(now, info, *result);
        }
        // A store that cannot be read is as good as none: others may have the record.
        let own = self.storage.store.get(self.cx.wall_at(now), &key).ok().flatten().map(Cow::into_owned);
        self.start(now, info, |parts| GetRecord::begin(now, key, quorum, own, parts))
    }

    /// Stores a record here and at as many of the closest peers to its key as are configured. Ends with one
    /// [`QueryResult::PutRecord`](crate::QueryResult::PutRecord), which does not come before the record would survive a crash
    /// here.
    ///
    /// This node is the publisher: it puts the record anew until it is removed or ends. A record without an end lasts as long
    /// as is configured each time it is put.
    ///
    /// # Errors
    /// [`store::Error::Invalid`], [`store::Error::MaxRecords`], [`store::Error::ValueTooLarge`], [`store::Error::Busy`] or
    /// [`store::Error::Io`], whatever keeps this node itself from storing it; then it is sent to nobody. Each says what to
    /// do.
    pub fn put_record(&mut self, now: Now, record: Record, quorum: Quorum) -> Result<QueryId, store::Error> {
        self.put_record_to_n_closest(now, record, self.cx.config.replication_factor(), quorum)
    }

    /// Stores a record here and at the `copies` closest peers to its key, at most `k`; else as
    /// [`put_record`](Self::put_record).
    ///
    /// When it is put anew it is at as many as are configured.
    ///
    /// # Errors
    /// [`store::Error::Invalid`], [`store::Error::MaxRecords`], [`store::Error::ValueTooLarge`], [`store::Error::Busy`] or
    /// [`store::Error::Io`], whatever keeps this node itself from storing it; then it is sent to nobody. Each says what to
    /// do.
    pub fn put_record_to_n_closest(
        &mut self,
        now: Now,
        record: Record,
        copies: NonZeroUsize,
        quorum: Quorum,
    ) -> Result<QueryId, store::Error> {
        let now = self.tell_time(now);
        let copies = copies.min(self.cx.config.bucket_size()).get();
        let info = putting(&record.key, quorum);
        let (_, Stock { mut node, records, .. }) = self.split();
        let begun = records.put(now, record, (copies, quorum), &mut node)?;
        Ok(self.started(now, info, begun))
    }

    /// Begins a put for a command, whose error goes into the event.
    pub(super) fn put_or_tell(
        &mut self,
        now: Now,
        record: Record,
        copies: Option<NonZeroUsize>,
        quorum: Quorum,
    ) -> QueryId {
        let copies = copies.unwrap_or(self.cx.config.replication_factor());
        let key = record.key.clone();
        self.put_record_to_n_closest(now, record, copies, quorum).unwrap_or_else(|error| {
            let info = putting(&key, quorum);
            self.tell(now.instant, info, PutRecordResult::Err(not_put(key, error)))
        })
    }

    /// Stores a record here, in place of any of its key, and nowhere else: this node is not its publisher, but serves it and
    /// keeps it alive as it does those of others.
    ///
    /// One without an end lasts as long as is configured. It takes of the room for what others want stored.
    ///
    /// # Errors
    /// [`store::Error::Invalid`], [`store::Error::MaxRecords`], [`store::Error::ValueTooLarge`], [`store::Error::Busy`] or
    /// [`store::Error::Io`], whatever keeps it from being stored; then nothing has changed, but for what has ended. Each
    /// says what to do.
    pub fn store_local(&mut self, now: Now, mut record: Record) -> Result<(), store::Error> {
        let now = self.tell_time(now);
        let Self { cx, records, storage, .. } = self;
        let wall = cx.wall_at(now);
        check(wall, &record, &cx.config)?;
        record.publisher = record.publisher.filter(|publisher| *publisher != cx.local.peer);
        record.expires = record.expires.or(cx.config.records.record_ttl.map(|ttl| wall_after(wall, ttl)));
        // The application has it from the publisher.
        let peer = record.publisher.unwrap_or(cx.local.peer);
        let source = Source { peer, group: None, hands_on: false };
        let key = record.key.clone();
        records.keep(now, record, source, storage, cx)?;
        records.publishers.stored(now, key);
        storage.commit_soon(now);
        Ok(())
    }

    /// Stores a record at some peers, and not here. Ends with one [`QueryResult::PutRecord`](crate::QueryResult::PutRecord).
    pub fn put_record_to(
        &mut self,
        now: Now,
        record: Record,
        peers: impl IntoIterator<Item = PeerId>,
        quorum: Quorum,
    ) -> QueryId {
        let now = self.tell_time(now);
        let mut to: Vec<PeerId> = Vec::new();
        for peer in peers {
            if peer != self.cx.local.peer && !to.contains(&peer) {
                to.push(peer);
            }
        }
        let info = putting(&record.key, quorum);
        self.start(now, info, |parts| {
            let (wall, config) = (parts.cx.wall_at(now), &parts.cx.config);
            match check(wall, &record, config) {
                Ok(()) => Ok(PutRecord::to(sent(wall, record, true, config), quorum, to)),
                Err(error) => Err(Box::new(PutRecordResult::Err(not_put(record.key, error)))),
            }
        })
    }

    /// Removes a record from this node's store, and puts it no more: a put of it that runs is cancelled. Others keep it until
    /// it ends there.
    ///
    /// # Errors
    /// [`store::Error::Io`] if the store fails, which says what to do; then nothing has changed.
    pub fn remove_record(&mut self, now: Now, key: &RecordKey) -> Result<(), store::Error> {
        let now = self.tell_time(now);
        self.storage.store.remove(key)?;
        self.records.forget(key);
        self.storage.commit_soon(now);
        self.cancel_all(now, self.queries.puts_of(key));
        Ok(())
    }

    /// Stores what waits for the word of the application, of which no second event tells. Returns whether it still waited.
    ///
    /// A better record may have come meanwhile: then it is refused after all.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] if the record has ended while it waited; [`store::Error::Busy`] while the disk has to catch
    /// up; else whatever the store refuses it with. Then nothing has been stored, the peer is refused, and it waits no more:
    /// there is nothing to do, since a peer that still wants it stored sends it again.
    pub fn accept_record(&mut self, now: Now, id: HeldId) -> Result<bool, store::Error> {
        let now = self.tell_time(now);
        let (serving, mut stock) = self.split();
        serving.accept_record(now, id, &mut stock)
    }

    /// Stores another record in place of one that waits for the word of the application. Returns whether that still waited.
    ///
    /// Value, publisher and end are as given, but that one which names no publisher, or this node, is of the peer. The peer is
    /// answered as if what it has sent had been stored. A better record may have come meanwhile: then the peer is refused.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] if the other has another key, has ended or is not valid, or if what waits is a provider
    /// record; [`store::Error::Busy`] while the disk has to catch up; else whatever the store refuses it with, as
    /// [`store::Error::ValueTooLarge`]. Then nothing has been stored, the peer has no answer yet, and what it has sent still
    /// waits: for another, for a [refusal](Self::refuse_record), or for the end of its time.
    pub fn accept_record_as(&mut self, now: Now, id: HeldId, record: Record) -> Result<bool, store::Error> {
        let now = self.tell_time(now);
        let (serving, mut stock) = self.split();
        serving.accept_record_as(now, id, record, &mut stock)
    }

    /// Refuses what waits for the word of the application. Returns whether it still waited.
    pub fn refuse_record(&mut self, id: HeldId) -> bool {
        self.serving.refuse_record(id, &mut self.cx)
    }

    /// Tells the peers closest to a key that this node provides it, `k` unless
    /// [fewer](crate::Config::with_replication_factor) are configured. One
    /// [`QueryResult::StartProviding`](crate::QueryResult::StartProviding) tells when enough have been told, or too few can
    /// be; the query goes on until it is known what became of all.
    ///
    /// From now on this node tells it anew from time to time, after a restart too if the store outlives it, until
    /// [`stop_providing`](Self::stop_providing). If too few could be told it tries again after a second, doubling to ten
    /// minutes; if some were told, after a minute, doubling; and as soon as it has an address, if it had none that others
    /// could use. Where there are fewer than `k` peers and all have been told, only those are told before the interval is over
    /// who come later. When this node is to be found at other addresses than those that were named, it tells all anew,
    /// beginning within a minute.
    ///
    /// # Errors
    /// [`store::Error::Invalid`] unless the key has 1 to 80 bytes; [`store::Error::MaxProvidedKeys`], [`store::Error::Busy`]
    /// or [`store::Error::Io`] if this node's store does not take it. Then nobody is told; each says what to do.
    pub fn start_providing(&mut self, now: Now, key: RecordKey) -> Result<QueryId, store::Error> {
        let now = self.tell_time(now);
        Providing::keep(now, &key, &mut self.storage, &self.cx)?;
        Ok(self.provide(now, key))
    }

    /// Does what [`start_providing`](Self::start_providing) does, but not beyond the end of the program: the store takes no
    /// note of it. Lasts until [`retire`](Self::retire). A key may be provided in both ways, and is until both have ended.
    ///
    /// # Errors
    /// [`store::Error::MaxProvidedKeys`] beyond 65,536 keys: [retire](Self::retire) another. [`store::Error::Invalid`]
    /// unless the key has 1 to 80 bytes: give one that has.
    pub fn advertise(&mut self, now: Now, key: RecordKey) -> Result<QueryId, store::Error> {
        let now = self.tell_time(now);
        self.providing.advertise(&key)?;
        Ok(self.provide(now, key))
    }

    fn provide(&mut self, now: Instant, key: RecordKey) -> QueryId {
        let (_, Stock { mut node, providing, .. }) = self.split();
        let info = announcing(&key);
        let begun = providing.begin(now, key, &mut node);
        self.started(now, info, begun)
    }

    /// Begins to provide a key for a command, whose error goes into the event.
    pub(super) fn provide_or_tell(&mut self, now: Now, key: RecordKey) -> QueryId {
        let begun = self.start_providing(now, key.clone());
        begun.unwrap_or_else(|error| self.not_provided(now, key, error))
    }

    /// Begins to advertise a key for a command, whose error goes into the event.
    pub(super) fn advertise_or_tell(&mut self, now: Now, key: RecordKey) -> QueryId {
        let begun = self.advertise(now, key.clone());
        begun.unwrap_or_else(|error| self.not_provided(now, key, error))
    }

    /// Tells why a command to provide a key could not be carried out.
    fn not_provided(&mut self, now: Now, key: RecordKey, error: store::Error) -> QueryId {
        let info = announcing(&key);
        let error = AddProviderError::Store { key, source: StoreError::new(error) };
        self.tell(now.instant, info, AddProviderResult::Err(error))
    }

    /// Tells nobody any more that this node provides a key, unless it is [advertised](Self::advertise): an announcement that
    /// runs is cancelled. Others believe it until it ends there.
    ///
    /// # Errors
    /// [`store::Error::Io`] if the store fails, which says what to do; then nothing has changed.
    pub fn stop_providing(&mut self, now: Now, key: &RecordKey) -> Result<(), store::Error> {
        let now = self.tell_time(now);
        self.storage.store.remove_provider(key, &self.cx.local.peer)?;
        self.storage.commit_soon(now);
        self.stopped(now, key);
        Ok(())
    }

    /// Ends what [`advertise`](Self::advertise) has begun, as [`stop_providing`](Self::stop_providing) does the other.
    pub fn retire(&mut self, now: Now, key: &RecordKey) {
        let now = self.tell_time(now);
        self.providing.retire(key);
        self.stopped(now, key);
    }

    fn stopped(&mut self, now: Instant, key: &RecordKey) {
        if self.providing.stopped(now, key, &self.storage, &self.cx) {
            self.cancel_all(now, self.queries.announcements_of(key));
        }
    }

    /// Searches the providers of a key; see [`QueryResult::GetProviders`](crate::QueryResult::GetProviders).
    ///
    /// Each is told as it is found, those first that this node knows itself. It ends when the closest peers have answered;
    /// [`finish`](Self::finish) it when there are enough.
    pub fn get_providers(&mut self, now: Now, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        // A store that cannot be read is as good as none: others know, too.
        let known = self.providing.providers_of(now, &key, &self.storage, &self.cx).unwrap_or_default();
        self.start(now, searching(&key, false), |parts| GetProviders::begin(now, key, known, parts))
    }

    /// Watches who provides a key: searches its providers at once, again after a second, and then after twice as long each
    /// time, up to five minutes, until it is cancelled. Each provider is told once, and once more if it had no addresses
    /// before.
    pub fn watch_providers(&mut self, now: Now, key: RecordKey) -> QueryId {
        let now = self.tell_time(now);
        let refused = if key.as_ref().is_empty() {
            Some(GetProvidersError::EmptyKey { key: key.clone() })
        } else {
            self.queries.has_room().err().map(|cause| GetProvidersError::of_query(cause, key.clone()))
        };
        if let Some(error) = refused {
            return self.tell(now, searching(&key, true), GetProvidersResult::Err(error));
        }
        let known = self.providing.providers_of(now, &key, &self.storage, &self.cx).unwrap_or_default();
        let (queries, mut parts) = self.queries_and_parts();
        let watch = WatchProviders::begin(now, key, known, &mut parts);
        let id = queries.insert_lasting(now, watch);
        self.advance(now);
        id
    }
}

/// Returns what is seen of a put that has not begun.
fn putting(key: &RecordKey, quorum: Quorum) -> PutRecordInfo {
    PutRecordInfo { key: key.clone(), quorum, stored: 0 }
}

/// Returns what is seen of an announcement that has not begun.
fn announcing(key: &RecordKey) -> AddProviderInfo {
    AddProviderInfo { key: key.clone(), sent: 0, report: ProvideReport::default() }
}

/// Returns what is seen of a search for providers that has not begun.
fn searching(key: &RecordKey, is_watch: bool) -> GetProvidersInfo {
    GetProvidersInfo { key: key.clone(), providers_found: 0, is_watch, step: ProgressStep::first() }
}

/// Returns what the store's word means for a put.
fn not_put(key: RecordKey, error: store::Error) -> PutRecordError {
    if let store::Error::Invalid(source) = error {
        PutRecordError::Invalid { key, source }
    } else {
        PutRecordError::Store { key, source: StoreError::new(error) }
    }
}
