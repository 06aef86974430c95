//! What waits for the word of the application.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use crate::dht::io::InboundId;
use crate::event::HeldId;
use crate::record::{ProviderRecord, Record};
use crate::stats;
use crate::time::Instant;

use super::writers::Arrival;

/// A record that a peer wants stored.
#[derive(Clone, Debug)]
pub(super) struct RecordOffer {
    pub(super) from: PeerId,
    /// The request that is answered then.
    pub(super) id: InboundId,
    pub(super) way: Arrival,
    /// As it would be stored.
    pub(super) record: Record,
}

/// A request that waits for the word of the application.
#[derive(Debug)]
pub(super) enum HeldRequest {
    Record(RecordOffer),
    /// What a peer says it provides.
    Provider(PeerId, ProviderRecord),
}

/// The requests that wait for the word of the application.
///
/// # What time does
/// Ends the wait; all wait equally long, so that the order of the numbers is that of the ends.
///
/// # Bounds
/// As many as the caller lets in.
#[derive(Debug, Default)]
pub(super) struct HeldRequests {
    held: BTreeMap<HeldId, (HeldRequest, Instant)>,
    next: u64,
    expired: u64,
}

impl HeldRequests {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns what was held so far, and how many of the records among it wait.
    pub(super) fn stats(&self) -> (stats::Held, u64) {
        let is_record = |(held, _): &&(HeldRequest, Instant)| matches!(held, HeldRequest::Record(_));
        let records = self.held.values().filter(is_record).count();
        let held = stats::Held {
            // Each has a number of its own.
            application: self.next,
            application_expired: self.expired,
            application_waiting: stats::gauge(self.held.len()),
            ..stats::Held::default()
        };
        (held, stats::gauge(records))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.first_key_value().map(|(_, (_, until))| *until)
    }

    pub(super) fn insert(&mut self, held: HeldRequest, until: Instant) -> HeldId {
        let id = HeldId(self.next);
        self.next += 1;
        self.held.insert(id, (held, until));
        id
    }

    pub(super) fn get(&self, id: HeldId) -> Option<&HeldRequest> {
        self.held.get(&id).map(|(held, _)| held)
    }

    pub(super) fn remove(&mut self, id: HeldId) -> Option<HeldRequest> {
        self.held.remove(&id).map(|(held, _)| held)
    }

    /// Returns something that has waited for too long, and waits no more.
    pub(super) fn expired(&mut self, now: Instant) -> Option<HeldRequest> {
        let first = self.held.first_entry().filter(|first| first.get().1 <= now)?;
        self.expired += 1;
        Some(first.remove().0)
    }
}
