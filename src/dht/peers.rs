//! Peers: connections, dials, requests in flight and waiting, and what is remembered of each peer.
//!
//! Knows ids, addresses, messages and time; knows neither tables nor queries. What came of a request is handed back
//! with the requester it was made for.

use std::collections::{BTreeSet, VecDeque};

use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::bans::Bans;
use super::clocks::Clocks;
use super::io::{Output, Outputs, RequestId};
use super::local::Local;
use crate::addrs::{Addresses, Reach};
use crate::config::{Config, Grouping};
use crate::error::RequestError;
use crate::key::Key;
use crate::message::{Request, Response};
use crate::peer::{ConnectionType, KadPeer};
use crate::query::rtt::Estimator;
use crate::query::timeout::Phase;
use crate::stats::{Stats, gauge};
use crate::time::{Duration, Instant, after, earliest};

mod blocked;
mod connections;
mod dialling;
mod dials;
mod known;
mod links;
mod memory;
mod outcome;
mod pace;
mod queue;
mod requests;
mod route;
mod trouble;
mod window;

pub(super) use blocked::BlockEvent;
use blocked::Blocked;
use connections::DueConnections;
use dials::Dials;
pub(super) use known::{Known, Link, Protocol};
pub(super) use links::Remaining;
use memory::Memory;
pub(super) use outcome::{AddressOutcome, Outcome, Placed, Reply, Requester, Urgency};
use requests::{Requests, Sent};
use window::Window;

/// A request that is silent for so long is no work any more, however fast others are answered: on a busy node all are slow at first.
/// TCP's first timeout (RFC 6298 §2.1).
const SILENT: Duration = Duration::from_secs(1);

/// All peers this node has to do with.
///
/// # What it decides
/// Whether a request needs a dial, when it is sent, when it has failed, whom to leave alone for a while, and whom to
/// forget.
///
/// # A peer's states
/// ```text
///                    request            slot free              connected
///            Idle -----------> Queued -----------> Dialling ------------> Connected
///             ^ ^                                   |  |                      |
///             | +---------- failed: back-off -------+  | another part of the  |
///             |                                        | program dials it     |
///             |                                        v                      |
///             |                             Awaiting (its outcome) ---------->+
///             +-------------------------- disconnected -----------------------+
/// ```
///
/// # Inputs
/// [`request`](Self::request) and what the driver tells of connections, dials and answers.
///
/// # Outputs
/// Dials and requests, pushed to the caller's queue; outcomes by [`next_outcome`](Self::next_outcome) and
/// [`next_address_outcome`](Self::next_address_outcome); whom the program blocks by
/// [`next_block_event`](Self::next_block_event).
///
/// # What time does
/// A request fails when its time is up, dialling included; it is the peer's failure only if it was awaited for as long as an
/// answer is at the most, or the peer could not be reached. A peer that could not be reached or did not answer is left
/// alone for 5 s, doubling to 10 min; of failures that no answer parts, as in an outage of this node, one counts once anybody
/// answers. A peer that ends streams while several requests are in flight is asked half as much at once after a pause, and what
/// it has refused once more, but for values, which it may refuse for what they are.
///
/// # Bounds
/// 32 requests in flight and 1,024 waiting for each peer, and a check on each connection; a peer is dialled beside its
/// connections while there are fewer than four; the configured dials and remembered peers. A dial that takes
/// longer than the request timeout gives its slot back. A remembered peer is forgotten after 24 hours. Of 128 peers that the
/// program blocks it is known when they are to be tried again.
///
/// # Invariants
/// Every request has exactly one outcome. A lost connection moves its unanswered requests to another that there is, or else to
/// one new connection, once, and once more if it had brought nothing yet. One that is doubted moves them once.
#[derive(Debug)]
pub(super) struct Peers {
    request_timeout: Duration,
    diversity: Option<Grouping>,
    known: Memory,
    requests: Requests,
    dials: Dials,
    outcomes: VecDeque<Outcome>,
    placed: VecDeque<Placed>,
    address_outcomes: VecDeque<AddressOutcome>,
    blocked: Blocked,
    /// Whom the application keeps out.
    pub(super) bans: Bans,
    /// When which connection is to be looked at.
    due: DueConnections,
    /// When requests to peers go on that have refused some.
    paused: BTreeSet<(Instant, PeerId)>,
    /// For how long an answer is usually awaited.
    patience: Duration,
    /// The id and addresses of this node, for the peers that it tells where it is.
    own: Local,
    /// How far away a peer may be that can use an address of this node.
    own_reach: Option<Reach>,
    estimator: Estimator,
    window: Window,
    /// How long what the node is being told has waited in this program.
    late: Duration,
    /// How long the program has stood still in all.
    stood_still: Duration,
    /// When any peer has answered last: what failed before, and has not failed since, may have been this node's own outage.
    last_answer: Option<Instant>,
}

impl Peers {
    pub(super) fn new(own: &Local, config: &Config) -> Self {
        Self {
            dials: Dials::new(config.limits.max_dials.get()),
            known: Memory::new(config.limits.max_known_peers.get(), config.key_hash),
            request_timeout: config.lookups.request_timeout,
            diversity: config.grouping(),
            requests: Requests::default(),
            outcomes: VecDeque::new(),
            placed: VecDeque::new(),
            address_outcomes: VecDeque::new(),
            blocked: Blocked::default(),
            bans: Bans::new(own.peer, config.routing.membership.clone()),
            due: DueConnections::new(),
            paused: BTreeSet::new(),
            patience: *config.lookups.soft_timeout.end(),
            own: own.clone(),
            own_reach: None,
            estimator: Estimator::new(config.lookups.soft_timeout.clone(), config.lookups.timeout_policy),
            window: Window::new(config.limits.request_window),
            late: Duration::ZERO,
            stood_still: Duration::ZERO,
            last_answer: None,
        }
    }

    /// What the node is told from now on has waited in this program for so long.
    pub(super) fn called(&mut self, now: Instant, late: Duration, clocks: &Clocks) {
        self.window.late(now, late, self.estimator.median());
        self.late = clocks.late();
        self.stood_still = clocks.stood_still();
    }

    /// Returns whether there is room for the requests of one more query.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        let (open, width) = (self.requests.len(), self.window.width());
        open < width || {
            // Those that nobody waits for any more are no work.
            let begun = now
                .checked_sub(self.patience.max(SILENT))
                .and_then(|at| at.checked_add(self.request_timeout));
            open - begun.map_or(0, |until| self.requests.overdue(until)) < width
        }
    }

    /// Takes note of the addresses of this node: a peer is told of those that it can use, and nothing is announced to one that
    /// cannot use any.
    pub(super) fn set_own(&mut self, own: &Local) {
        self.own = own.clone();
        self.own_reach = own.reaches();
    }

    /// Returns what has been learnt of how long answers and dials take.
    pub(super) const fn estimator(&self) -> &Estimator {
        &self.estimator
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Known> {
        self.known.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Known> {
        self.known.get_mut(peer)
    }

    /// Returns how many peers are connected; walks all that are known.
    pub(super) fn num_connected(&self) -> usize {
        self.known.num_connected()
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.get(peer).is_some_and(Known::is_connected)
    }

    /// Returns the key of a peer.
    pub(super) fn key(&self, peer: &PeerId) -> Key {
        self.known.key(peer)
    }

    /// Returns whether a peer is connected, or has answered this node within the last 24 hours.
    pub(super) fn is_proven(&self, now: Instant, peer: &PeerId) -> bool {
        let second = self.known.second(now);
        self.get(peer).is_some_and(|known| known.is_connected() || known.has_answered_lately(second))
    }

    /// Returns the proven addresses of a peer.
    pub(super) fn addresses(&self, peer: &PeerId) -> Addresses {
        self.get(peer).map_or_else(Addresses::empty, |known| known.addresses.clone())
    }

    /// Returns where a peer may be dialled, proven or not.
    pub(super) fn dialable(&self, peer: &PeerId) -> Addresses {
        self.get(peer).map_or_else(Addresses::empty, Known::dialable)
    }

    /// Returns where a peer was within the last 24 hours.
    pub(super) fn remembered(&self, now: Instant, peer: &PeerId) -> Addresses {
        self.get(peer).map_or_else(Addresses::empty, |known| known.remembered(self.known.second(now)))
    }

    /// Returns whether a peer is a server, as far as this node has seen itself, and has not failed since.
    pub(super) fn is_server(&self, now: Instant, peer: &PeerId) -> bool {
        self.get(peer).is_some_and(|known| known.is_server(self.known.second(now)))
    }

    /// Returns how far the connection of a peer reaches, or that it comes from anywhere if there is none.
    pub(super) fn reach(&self, peer: &PeerId) -> Reach {
        self.get(peer).map_or(Reach::World, |known| known.reach)
    }

    /// Returns what is remembered of a peer, which begins now if there is nothing.
    pub(super) fn remember(&mut self, now: Instant, peer: PeerId) -> &mut Known {
        self.known.remember(now, peer)
    }

    /// Returns whether a request to the peer would be made: it has not failed lately, and is no client.
    pub(super) fn is_worth_asking(&self, now: Instant, peer: &PeerId) -> bool {
        let refusal = |known: &Known| known.refusal(now, self.last_answer, Urgency::Patient);
        self.get(peer).and_then(refusal).is_none() && self.admits(peer)
    }

    /// Returns when any peer has answered last.
    pub(super) const fn last_answer(&self) -> Option<Instant> {
        self.last_answer
    }

    /// Makes a request: sends it, or connects first, or lets it wait its turn. Returns whether it waits for a place; when it has
    /// got one is told by [`next_placed`](Self::next_placed).
    pub(super) fn request(
        &mut self,
        now: Instant,
        to: PeerId,
        addresses: &Addresses,
        request: Request,
        (requester, urgency): (Requester, Urgency),
        out: &mut Outputs,
    ) -> bool {
        let deadline = after(now, self.request_timeout);
        let last_answer = self.last_answer;
        let banned = Some(RequestError::Banned).filter(|_| !self.admits(&to));
        let known = self.remember(now, to);
        known.hints = known.hints.joined(addresses);
        if let Some(error) = banned.or_else(|| known.refusal(now, last_answer, urgency)) {
            self.requests.refused(request.message_type(), error);
            let key = self.key(&to);
            self.outcomes.push_back(Outcome { requester, peer: to, key, result: Err(error) });
            return false;
        }
        let id = self.requests.add(to, requester, request, deadline);
        if let Some(known) = self.known.get_mut(&to) {
            known.queue.push_back(id);
        }
        self.serve(now, to, out);
        self.addresses_arrived(now, &to, out);
        self.requests.made(id)
    }

    /// Sends what can be sent to a peer, or sees to it that there will be a connection.
    fn serve(&mut self, now: Instant, peer: PeerId, out: &mut Outputs) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let is_paused = known.queue.paused_until(now).is_some();
        match known.link {
            Link::Connected if !is_paused => {
                let mut to_send = SmallVec::<[_; 1]>::new();
                let mut useless = SmallVec::<[_; 1]>::new();
                let is_usable = self.own_reach.is_some_and(|far| far >= known.reach);
                while let Some(id) = known.queue.send_next(now) {
                    let Some(pending) = self.requests.get_mut(id) else {
                        known.queue.remove(id);
                        continue;
                    };
                    if !is_usable && !pending.request.is_answered() {
                        known.queue.remove(id);
                        useless.push(id);
                        continue;
                    }
                    let request = pending.request.clone();
                    to_send.push((id, request));
                }
                for id in useless {
                    self.finish(id, Err(RequestError::NoOwnAddress));
                }
                for (id, mut request) in to_send {
                    self.go_out(now, id);
                    if let Some(connection) = self.send_on(now, &peer, id) {
                        self.sign(&peer, &mut request);
                        out.push_back(Output::SendRequest { to: peer, connection, id, request });
                    }
                }
            }
            Link::Idle if known.queue.waiting() > 0 => {
                known.link = Link::Queued;
                self.dials.wait_for_peer(peer);
                self.fill_slots(now, out);
            }
            Link::Idle | Link::Queued => {}
            Link::Connected | Link::Dialling | Link::Awaiting => self.begin_waiting(now, &peer),
        }
    }

    /// Names this node in an announcement that leaves, with the addresses that the peer can use: only now is it known how far
    /// the connection reaches.
    fn sign(&self, to: &PeerId, request: &mut Request) {
        if let Request::AddProvider { providers, .. } = request
            && providers.is_empty()
        {
            providers.push(KadPeer {
                node_id: self.own.peer,
                multiaddrs: self.own.addresses_for(self.reach(to)),
                connection_ty: ConnectionType::Connected,
            });
        }
    }

    /// A request that was in flight on a connection that is gone waits for a new one, but only once.
    fn retry_or_fail(&mut self, id: RequestId) {
        let Some(pending) = self.requests.get_mut(id) else {
            return;
        };
        if pending.requester == Requester::Liveness {
            // What it was to show is known.
            self.requests.cancel(id);
            return;
        }
        if std::mem::replace(&mut pending.retried, true) {
            self.finish(id, Err(RequestError::Disconnected));
            return;
        }
        pending.sent = None;
        if let Some(known) = self.known.get_mut(&pending.to) {
            known.queue.push_front(id);
        }
    }

    fn fail_waiting(&mut self, peer: &PeerId, error: RequestError) {
        let Some(known) = self.known.get_mut(peer) else {
            return;
        };
        for id in known.queue.take_waiting() {
            self.finish(id, Err(error));
        }
    }

    /// A peer does not serve the protocol: nothing is asked of it before it says otherwise or connects anew.
    pub(super) fn unsupported(&mut self, now: Instant, peer: PeerId) {
        self.remember(now, peer).protocol = Protocol::Unsupported;
        self.fail_waiting(&peer, RequestError::Unsupported);
    }

    /// A request has been answered.
    pub(super) fn answered(&mut self, now: Instant, id: RequestId, response: Response, out: &mut Outputs) {
        let fits = self.requests.get(id).is_some_and(|pending| response.answers(&pending.request));
        self.heard_of_request(now, id, out);
        self.settle(now, id, if fits { Ok(response) } else { Err(RequestError::BadAnswer) }, out);
    }

    /// A peer has reacted to a request.
    fn heard_of_request(&mut self, now: Instant, id: RequestId, out: &mut Outputs) {
        let sent = self.requests.get(id).and_then(|pending| Some((pending.to, pending.sent?.on)));
        if let Some((peer, on)) = sent {
            self.heard_on(now, &peer, on, out);
        }
    }

    /// A request that is not answered has been sent.
    pub(super) fn sent(&mut self, now: Instant, id: RequestId, out: &mut Outputs) {
        let Some(pending) = self.requests.get(id).filter(|pending| !pending.request.is_answered()) else {
            return;
        };
        let peer = pending.to;
        let second = self.known.second(now);
        if let Some(known) = self.known.get_mut(&peer) {
            known.queue.remove(id);
            known.heard_of(second);
        }
        self.finish(id, Ok(Reply::Sent));
        self.serve(now, peer, out);
    }

    /// A request will not be answered.
    pub(super) fn failed(&mut self, now: Instant, id: RequestId, error: RequestError, out: &mut Outputs) {
        if error == RequestError::Unsupported
            && let Some(peer) = self.requests.get(id).map(|pending| pending.to)
        {
            self.unsupported(now, peer);
        }
        // A stream may have ended on this side.
        if matches!(error, RequestError::Unsupported | RequestError::BadAnswer) {
            self.heard_of_request(now, id, out);
        }
        if error == RequestError::Disconnected {
            if self.requests.get(id).is_none_or(|pending| pending.sent.is_none()) {
                // It waits to be sent again already.
                return;
            }
            // Of several connections one is gone: it is tried on another.
            let peer = self.requests.get(id).map(|pending| pending.to);
            if let Some(known) = peer.and_then(|peer| self.known.get_mut(&peer)) {
                known.queue.remove(id);
            }
            self.retry_or_fail(id);
            if let Some(peer) = peer {
                self.serve(now, peer, out);
            }
            return;
        }
        let error = if error == RequestError::StreamEnded { self.refused(now, id) } else { Some(error) };
        if let Some(error) = error {
            self.settle(now, id, Err(error), out);
        }
    }

    fn settle(
        &mut self,
        now: Instant,
        id: RequestId,
        result: Result<Response, RequestError>,
        out: &mut Outputs,
    ) {
        let Some(pending) = self.requests.get(id) else {
            return;
        };
        let (peer, sent) = (pending.to, pending.sent.map_or(now, |sent| sent.at));
        let stood_still = pending.sent.map_or(self.stood_still, |sent| sent.stood_still);
        let stood_still = self.stood_still.saturating_sub(stood_still);
        let result = result.map_err(|error| match (&pending.request, error) {
            // The protocol has no other way to refuse.
            (Request::PutValue { .. }, RequestError::StreamEnded | RequestError::BadAnswer) => {
                RequestError::Refused
            }
            (_, error) => error,
        });
        let rtt = now.saturating_duration_since(sent).saturating_sub(self.late).saturating_sub(stood_still);
        let second = self.known.second(now);
        // Whoever is slow is checked, so that checks would make all seem slow.
        let is_sample = result.is_ok() && pending.requester != Requester::Liveness;
        if result.is_ok() {
            self.last_answer = Some(now);
            self.window.answered(self.requests.len());
        }
        if is_sample {
            let rest = self.requests.len().saturating_sub(1);
            let known = self.known.get(&peer).map(|known| &known.rtt);
            self.estimator.answered((&peer, known), (sent, rtt), rest);
            self.patience = self.estimator.soft_timeout(None, Phase::Hopping).connected;
        }
        let era = self.estimator.era();
        if let Some(known) = self.known.get_mut(&peer) {
            known.queue.remove(id);
            match &result {
                Ok(_) => known.answered(second, rtt, era),
                Err(error) if error.is_peers_fault() => known.failed(now, self.last_answer),
                Err(_) => {}
            }
        }
        self.finish(id, result.map(|response| Reply::Answer(response, rtt)));
        self.serve(now, peer, out);
    }

    fn finish(&mut self, id: RequestId, result: Result<Reply, RequestError>) {
        let Some(pending) = self.requests.end(id, &result) else {
            return;
        };
        let key = self.key(&pending.to);
        self.outcomes.push_back(Outcome { requester: pending.requester, peer: pending.to, key, result });
    }

    /// Fails every request whose time is up.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs) {
        self.bans.handle_timeout(now);
        let mut relieved = Vec::new();
        while let Some(id) = self.requests.expired(now) {
            let Some(pending) = self.requests.get(id) else { break };
            let (peer, sent) = (pending.to, pending.sent);
            let has_had_its_time =
                sent.is_some_and(|sent| now.saturating_duration_since(sent.at) >= self.patience);
            let mut error = RequestError::Timeout;
            if let Some(Sent { on, .. }) = sent {
                out.push_back(Output::CancelRequest { to: peer, connection: on, id });
            }
            if let Some(known) = self.known.get_mut(&peer) {
                known.queue.remove(id);
                if known.link == Link::Queued {
                    // It was this node that had no slot, or this program that denied it.
                    error =
                        if known.is_denied() { RequestError::DialRefused } else { RequestError::Overloaded };
                } else if known.link == Link::Connected && !has_had_its_time {
                    // It waited behind others of this node, or for a connection that came late.
                    error = RequestError::Overloaded;
                } else {
                    known.failed(now, self.last_answer);
                }
                if known.queue.waiting() == 0 && matches!(known.link, Link::Dialling | Link::Awaiting) {
                    known.link = Link::Idle;
                    self.give_up(peer);
                }
            }
            self.finish(id, Err(error));
            relieved.push(peer);
        }
        self.expire_dials(now, &mut relieved);
        self.end_pauses(now, &mut relieved);
        self.look_at_connections(now, out);
        self.fill_slots(now, out);
        for peer in relieved {
            self.serve(now, peer, out);
        }
    }

    /// Returns what came of the next request, from which has been learnt how long answers take.
    pub(super) fn next_outcome(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.pop_front();
        match &outcome {
            Some(outcome) => self.learn(outcome),
            // Most nodes have nothing to settle most of the time.
            None => self.outcomes = VecDeque::new(),
        }
        outcome
    }

    fn learn(&mut self, Outcome { requester, result, .. }: &Outcome) {
        match (requester, result) {
            (Requester::Query(..), Ok(Reply::Answer(..))) => self.estimator.asked(false),
            (Requester::Query(..), Err(RequestError::Timeout)) => self.estimator.asked(true),
            // Whoever says no, or of whom another does, was not silent; and what is asked unasked is no sample of whom lookups
            // meet.
            (Requester::Query(..) | Requester::Check | Requester::Probe | Requester::Liveness, _) => {}
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let dial = self.dials.oldest().map(|(_, since)| after(since, self.request_timeout));
        let connection = self.due.first().map(|(at, ..)| *at);
        let due = [
            self.requests.deadline(),
            dial,
            self.dials.deadline(),
            self.blocked.deadline(),
            connection,
            self.bans.deadline(),
            self.paused.first().map(|(at, _)| *at),
        ];
        due.into_iter().fold(None, earliest)
    }

    /// Returns how many requests wait or are in flight.
    pub(super) fn requests(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Fills in what has become of requests and dials.
    pub(super) fn count(&self, stats: &mut Stats) {
        (stats.outbound_requests, stats.dials) = (self.requests.stats(), self.dials.stats());
        stats.queues.request_window = gauge(self.window.width());
    }

    /// Forgets peers; see [`Memory::sweep`].
    pub(super) fn sweep(&mut self, now: Instant, keep: impl Fn(&Key, &PeerId) -> bool) {
        self.known.sweep(now, keep);
    }
}

#[cfg(test)]
mod tests;
