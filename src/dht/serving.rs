//! Serving: the one door for what other peers ask, and what they are answered.
//!
//! Answers come from the table, the store and what is remembered of peers; nobody is asked for them.

mod closer;
mod held;
mod providers;
mod rates;
mod records;
mod writers;

use libp2p_identity::PeerId;

use super::bans::BanTarget;
use super::context::Context;
use super::io::InboundId;
use super::node::NodeParts;
use super::providing::Providing;
use super::records::RecordKeeping;
use super::view::Parts;
use crate::addrs::ConnectionOrigin;
use crate::config::{OfferedRequest, RequestVerdict};
use crate::event::Notice;
use crate::event::{HeldId, InboundRequest, Mode};
use crate::message::{MessageType, Request, Response, SentRecord};
use crate::peer::PackedPeerId;
use crate::record::RecordKey;
use crate::stats::{self, Stats};
use crate::store::RecordStore;
use crate::time::Instant;

use closer::{closer, closer_to_node};
use held::{HeldRequest, HeldRequests};
use rates::{RateGroup, RateLimiter, RateVerdict, RequestSender};

/// What a node serves others, and what of that waits for the application.
///
/// # What it decides
/// What is answered, what is refused, and what is stored for others.
///
/// # Inputs
/// [`serve`](Self::serve) for each request; the application's word on what is held.
///
/// # Outputs
/// Answers and events, by the context.
///
/// # What time does
/// Refuses what the application has not spoken of in time; gives senders back what they are owed.
///
/// # Bounds
/// As many held records as are configured, and those of the rates.
#[derive(Debug, Default)]
pub(super) struct Serving {
    held: HeldRequests,
    rates: RateLimiter,
    admission: stats::Admission,
}

/// The parts of the node that serving works with.
#[derive(Debug)]
pub(super) struct Stock<'a, S> {
    pub(super) node: NodeParts<'a, S>,
    pub(super) records: &'a mut RecordKeeping,
    pub(super) providing: &'a mut Providing,
}

impl Serving {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.deadline()
    }

    /// Fills in what was held for the application and what was beyond a rate. Returns how many of the records among what is held
    /// wait.
    pub(super) fn count(&self, stats: &mut Stats) -> u64 {
        let (held, records) = self.held.stats();
        stats.held = held;
        stats.admission.clone_from(&self.admission);
        records
    }

    /// Refuses what the application has not spoken of in time.
    pub(super) fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        while let Some(what) = self.held.expired(now) {
            refuse(what, cx);
        }
    }

    /// Refuses what waits for the word of the application. Returns whether it still waited.
    pub(super) fn refuse_record(&mut self, id: HeldId, cx: &mut Context) -> bool {
        let held = self.held.remove(id);
        let has_waited = held.is_some();
        held.into_iter().for_each(|what| refuse(what, cx));
        has_waited
    }

    /// Answers a request, or refuses it. Returns whether this node is a server.
    pub(super) fn serve<S: RecordStore>(
        &mut self,
        now: Instant,
        (from, id): (PeerId, InboundId),
        request: Request,
        stock: &mut Stock<'_, S>,
    ) -> bool {
        let (node, kind) = (&mut stock.node, request.message_type());
        node.parts.cx.served.of_mut(kind).received += 1;
        let is_served = node.parts.cx.mode.mode() != Mode::Client && node.parts.peers.admits(&from);
        if is_served && !self.is_within_rate(now, from, kind, &node.parts) {
            refuse_for_now(from, id, kind, node.parts.cx);
            return false;
        }
        if !is_served || !filter(now, &from, &request, &mut node.parts) {
            node.parts.cx.refuse(from, id, kind);
            return false;
        }
        let answer = match request {
            Request::Ping => Some((Response::Pong, InboundRequest::Ping { source: from })),
            Request::FindNode { key } => {
                let closer_peers = closer_to_node(now, &key, &from, &node.parts);
                let num_closer_peers = closer_peers.len();
                let request = InboundRequest::FindNode { source: from, num_closer_peers };
                Some((Response::FindNode { closer_peers }, request))
            }
            Request::GetValue { key } => get_value(now, key, &from, node),
            Request::GetProviders { key } => self.get_providers(now, key, &from, stock),
            Request::PutValue { record } => {
                self.put_value(now, (from, id), record, stock);
                return true;
            }
            Request::AddProvider { key, providers } => {
                self.add_provider(now, (from, id), key, providers, stock);
                return true;
            }
        };
        let cx = &mut *stock.node.parts.cx;
        match answer {
            Some((response, request)) => {
                cx.respond(from, id, response);
                cx.tell(Notice::InboundRequest { request });
            }
            None => cx.refuse(from, id, kind),
        }
        true
    }

    /// Returns whether a request is within what its sender is guaranteed, or there is little else to do.
    fn is_within_rate(&mut self, now: Instant, from: PeerId, kind: MessageType, parts: &Parts<'_>) -> bool {
        let Some(rates) = &parts.cx.config.limits.rates else {
            return true;
        };
        let late = parts.cx.clocks.late();
        // Who it is matters only then.
        let is_member = !late.is_zero() && parts.upkeep.table.entry(&parts.peers.key(&from), &from).is_some();
        let limits = &parts.cx.config.routing.ip_limits;
        let group = parts.peers.origins(&from).find_map(|origin| match origin {
            ConnectionOrigin::Ip(ip) if !limits.is_exempt(*ip) => RateGroup::of(*ip),
            ConnectionOrigin::Relay(relay) => Some(RateGroup::Relay(PackedPeerId::from(&**relay))),
            ConnectionOrigin::Ip(_) | ConnectionOrigin::Unknown | ConnectionOrigin::Local => None,
        });
        let sender = RequestSender { peer: from, group, is_member };
        let verdict = self.rates.judge(now, late, &sender, kind, rates);
        match verdict {
            RateVerdict::Within => {}
            RateVerdict::Beyond => self.admission.beyond_served += 1,
            RateVerdict::Refused => self.admission.beyond_refused += 1,
        }
        verdict != RateVerdict::Refused
    }
}

/// Asks the filter of the application about a request. Returns whether it is served.
fn filter(now: Instant, from: &PeerId, request: &Request, parts: &mut Parts<'_>) -> bool {
    let Some(filter) = parts.cx.config.routing.request_filter.clone() else {
        return true;
    };
    let (ip, kind, key) = (parts.peers.ips(from).next(), request.message_type(), request.key());
    let (until, why) = match filter(&OfferedRequest { from, ip, kind, key }) {
        RequestVerdict::Allow => return true,
        RequestVerdict::Refuse => return false,
        RequestVerdict::Ban { until, why } => (until, why),
    };
    if let Err(error) = parts.ban(now, BanTarget::Peer(*from), until, &why) {
        tracing::warn!(peer = %from, %error, "the request filter bans a peer that cannot be banned");
    }
    false
}

/// Refuses a request that there is no time for. An announcement is dropped as one is for which there is no room: if its stream
/// ended, those behind it would be lost that its sender takes for sent.
fn refuse_for_now(from: PeerId, id: InboundId, kind: MessageType, cx: &mut Context) {
    match kind {
        MessageType::AddProvider => cx.accept(from, id, kind),
        MessageType::PutValue
        | MessageType::GetValue
        | MessageType::GetProviders
        | MessageType::FindNode
        | MessageType::Ping => cx.refuse(from, id, kind),
    }
}

/// Refuses what a peer has sent; an announcement has been taken as done already.
fn refuse(what: HeldRequest, cx: &mut Context) {
    if let HeldRequest::Record(offer) = what {
        cx.refuse(offer.from, offer.id, MessageType::PutValue);
    }
}

fn get_value<S: RecordStore>(
    now: Instant,
    key: RecordKey,
    from: &PeerId,
    node: &NodeParts<'_, S>,
) -> Option<(Response, InboundRequest)> {
    let wall = node.parts.cx.wall_at(now);
    let record = node.storage.store.get(wall, &key).ok()?.map(|record| record.into_owned());
    let peers = &node.parts.peers;
    let record =
        record.filter(|record| record.publisher.is_none_or(|publisher| peers.bans.admits(&publisher)));
    let closer_peers = closer(&node.parts.cx.hash(key.as_ref()), from, None, &node.parts);
    let request = InboundRequest::GetRecord {
        source: *from,
        num_closer_peers: closer_peers.len(),
        present_locally: record.is_some(),
    };
    let record = record.map(|record| SentRecord::of(record, wall));
    Some((Response::GetValue { key: Some(key), record, closer_peers }, request))
}
