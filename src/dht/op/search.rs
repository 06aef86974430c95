//! A search: a lookup by FIND_NODE, with the addresses of its candidates.
//!
//! What the operations that look for peers have in common. The lookup decides whom to ask; the search knows what to
//! send and where the candidates may be.

use std::num::NonZeroU8;

use bytes::Bytes;
use indexmap::IndexMap;
use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::machine::{Ask, FilteredAnswer, Step, View, find_node};
use crate::addrs::{Addresses, Groups, IpGroup, ip_of};
use crate::config::{IpDiversity, Lookups, Parallelism};
use crate::dht::peers::Urgency;
use crate::dht::view::Parts;
use crate::error::{Fates, NoKnownPeers, RequestError};
use crate::event::{Precision, QueryStats};
use crate::key::{Distance, Key};
use crate::map::FastMap;
use crate::message::Request;
use crate::peer::PeerInfo;
use crate::query::disjoint::Disjoint;
use crate::query::lookup::{Near, Next, PeerStatus, Place, Rules};
use crate::query::rtt::Era;
use crate::routing::Entry;
use crate::time::{Duration, Instant, after};

/// Whom a search is for, which decides when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Goal {
    /// The closest peers.
    Closest(Precision),
    /// Anybody near the key: the closest one known has answered.
    Anybody,
    /// Those around the key: the two closest known have answered, who between them know the others.
    Around,
}

/// A lookup of the key of some bytes.
#[derive(Debug)]
pub(in crate::dht) struct Search {
    preimage: Bytes,
    key: Key,
    request: Request,
    goal: Goal,
    wanted: usize,
    /// So many more are wanted, since some do not count.
    widened: usize,
    /// Until when the slow ones are awaited, since the others did not have what is searched.
    last_chance: Option<Instant>,
    lookup: Disjoint,
    era: Era,
    /// Addresses of candidates as they were named; bounded by the candidates.
    addresses: FastMap<PeerId, Addresses>,
    /// Seeds that failed lately, and so are no candidates from the start; bounded by the seeds.
    absent: Vec<PeerId>,
    /// How many addresses of each IP group were dialled at which nobody had been met.
    dialled: IndexMap<IpGroup, usize>,
    urgency: Urgency,
    /// The peers that failed, and why, before any has answered; bounded by the candidates.
    failures: Vec<(PeerId, RequestError)>,
}

/// A peer that was found beside a search.
#[derive(Clone, Debug)]
pub(in crate::dht) struct FoundAround {
    /// From the key of the search.
    pub(in crate::dht) distance: Distance,
    pub(in crate::dht) has_answered: bool,
    /// Stands for the peer that named it.
    pub(in crate::dht) namer: u64,
    pub(in crate::dht) addresses: Addresses,
}

/// The peers that a search begins with.
#[derive(Default)]
struct FirstPeers {
    peers: Vec<(Key, PeerId)>,
    /// The addresses of these and of all seeds.
    addresses: FastMap<PeerId, Addresses>,
    /// The seeds that are none of them.
    absent: Vec<PeerId>,
}

impl FirstPeers {
    /// Returns those of some peers of the table and of all seeds that are to be asked.
    fn new<'a>(
        view: &View<'_>,
        of_table: impl Iterator<Item = &'a Entry>,
        is_asked: impl Fn(&PeerId) -> bool,
    ) -> Self {
        let mut first = Self::default();
        for entry in of_table {
            let peer = entry.peer();
            if is_asked(&peer) {
                first.peers.push((*entry.key(), peer));
                first.addresses.insert(peer, entry.addresses().clone());
            }
        }
        for (key, peer, addresses) in view.seeds.iter() {
            if first.addresses.contains_key(&peer) {
                continue;
            }
            let known = if is_asked(&peer) {
                first.peers.push((key, peer));
                view.table.entry(&key, &peer).map(Entry::addresses)
            } else {
                first.absent.push(peer);
                None
            };
            first.addresses.insert(peer, known.unwrap_or(addresses).clone());
        }
        first
    }
}

impl Search {
    /// Begins with the closest live peers of the table and the seeds, as far as they did not fail lately; with all there
    /// are if those are none. `None` if nobody is known at all.
    pub(in crate::dht) fn new(
        now: Instant,
        view: &View<'_>,
        (preimage, key): (Bytes, Key),
        wanted: usize,
        goal: Goal,
    ) -> Option<Self> {
        let paths = usize::from(view.config.lookups.disjoint_paths.get());
        // Twice as many as are wanted: they cost nothing unless the closer ones turn out to be silent.
        let k = 2 * view.config.bucket_size().get().max(wanted);
        let fresh = |peer: &PeerId| view.peers.is_worth_asking(now, peer);
        let live = view.table.closest(&key).filter(|entry| entry.is_live()).take(k);
        let (mut first, mut urgency) = (FirstPeers::new(view, live, fresh), Urgency::Patient);
        if first.peers.is_empty() {
            // Everybody failed lately: perhaps it was this node's own connection.
            urgency = Urgency::Forced;
            first = FirstPeers::new(view, view.table.closest(&key).take(k), |_| true);
        }
        Self::from(first, view, (preimage, key), (wanted, goal), (paths, urgency))
    }

    /// Begins to look around a key beside another search, with what that one knows and what else was found; in as many paths as are
    /// given.
    pub(in crate::dht) fn beside(
        &self,
        now: Instant,
        view: &View<'_>,
        (preimage, key): (Bytes, Key),
        paths: usize,
        more: &IndexMap<PeerId, FoundAround>,
    ) -> Option<Self> {
        let wanted = view.config.bucket_size().get();
        let fresh = |peer: &PeerId| view.peers.is_worth_asking(now, peer);
        let live = view.table.closest(&key).filter(|entry| entry.is_live()).take(2 * wanted);
        let mut first = FirstPeers::new(view, live, fresh);
        let named = |near: Near| (self.key.at(near.distance), near.peer, self.addresses.get(&near.peer));
        let mut known: Vec<_> = self.lookup.within(Distance::MAX).into_iter().map(named).collect();
        known.extend(
            more.iter().map(|(peer, found)| (self.key.at(found.distance), *peer, Some(&found.addresses))),
        );
        known.sort_unstable_by_key(|(other, ..)| key.distance(other));
        let known = known.into_iter().filter(|(_, peer, _)| fresh(peer)).take(2 * wanted);
        for (other, peer, addresses) in known {
            if !first.addresses.contains_key(&peer) {
                first.peers.push((other, peer));
                first.addresses.insert(peer, addresses.cloned().unwrap_or_default());
            }
        }
        Self::from(first, view, (preimage, key), (wanted, Goal::Around), (paths, self.urgency))
    }

    /// Begins with some peers; `None` if there are none.
    fn from(
        FirstPeers { peers, addresses, absent }: FirstPeers,
        view: &View<'_>,
        (preimage, key): (Bytes, Key),
        (wanted, goal): (usize, Goal),
        (paths, urgency): (usize, Urgency),
    ) -> Option<Self> {
        if peers.is_empty() {
            return None;
        }
        let Lookups { beta, parallelism, .. } = view.config.lookups;
        let must_answer = match goal {
            Goal::Closest(Precision::Exact) => wanted,
            Goal::Closest(Precision::Near) => usize::from(beta.get()).min(wanted),
            Goal::Anybody => 1,
            Goal::Around => AROUND.min(wanted),
        };
        let parallelism = if goal == Goal::Around { Parallelism::Fixed(TWO) } else { parallelism };
        let rules = Rules { wanted, must_answer, parallelism, policy: view.estimator.policy() };
        let lookup = Disjoint::new(key, rules, paths, peers);
        let request = find_node(&preimage);
        Some(Self {
            preimage,
            key,
            request,
            goal,
            wanted,
            widened: 0,
            last_chance: None,
            era: view.estimator.era(),
            lookup,
            addresses,
            absent,
            dialled: IndexMap::new(),
            urgency,
            failures: Vec::new(),
        })
    }

    /// Begins to search the closest peers to a key, whose bucket need not be looked up for its own sake then.
    ///
    /// # Errors
    /// [`NoKnownPeers`] if there is nobody to ask.
    pub(in crate::dht) fn begin(
        now: Instant,
        target: (Bytes, Key),
        wanted: usize,
        precision: Precision,
        parts: &mut Parts<'_>,
    ) -> Result<Self, NoKnownPeers> {
        parts.looked_up(now, &target.1);
        let view = parts.view(usize::MAX);
        Self::new(now, &view, target, wanted, Goal::Closest(precision)).ok_or(NoKnownPeers())
    }

    /// Returns how many peers are wanted.
    pub(in crate::dht) const fn wanted(&self) -> usize {
        self.wanted
    }

    /// Asks for more than closer peers, which the answers are to name as well.
    #[must_use]
    pub(in crate::dht) fn asking(mut self, request: Request) -> Self {
        self.request = request;
        self
    }

    /// Adds a candidate that is neither in the table nor a seed, if there is anywhere to ask it.
    pub(in crate::dht) fn add(&mut self, peer: PeerId, key: Key, addresses: Addresses) {
        if !addresses.is_empty() {
            self.lookup.add(key, peer);
            self.addresses.insert(peer, addresses);
        }
    }

    /// Returns what the search wants now, asked for by the operation's lookup number `lookup`: to ask a peer, or to wait.
    /// `None` if it is over.
    pub(in crate::dht) fn next<R>(&mut self, now: Instant, view: &View<'_>, lookup: u16) -> Option<Step<R>> {
        let (addresses, dialled) = (&self.addresses, &self.dialled);
        let is_crowded = dialled.values().any(|count| *count >= MAX_PER_GROUP);
        let status_of = |peer: &PeerId, phase| {
            let deferred = is_crowded && {
                let groups = hearsay_groups(view, peer, addresses.get(peer));
                groups.iter().any(|group| dialled.get(group).is_some_and(|count| *count >= MAX_PER_GROUP))
            };
            PeerStatus { deferred, ..view.peer_status(peer, phase) }
        };
        let era = view.estimator.era();
        if std::mem::replace(&mut self.era, era) != era {
            self.lookup.links_changed(&status_of);
        }
        match self.lookup.next(view.moment(now), &status_of) {
            Next::Ask(to, _) => {
                for group in hearsay_groups(view, &to, self.addresses.get(&to)) {
                    *self.dialled.entry(group).or_default() += 1;
                }
                Some(Step::Ask(self.ask(to, self.request.clone(), lookup)))
            }
            Next::Wait => Some(Step::Wait(self.lookup.deadline().map(|at| view.clock_time(at)))),
            Next::Done => None,
        }
    }

    /// Does what [`next`](Self::next) does, but does not end where too many of the closest peers are of one IP group: of
    /// each group two count among those that are wanted, and others are asked in the place of the rest.
    ///
    /// A party that puts peers of its own nearest to a key from a few networks does not hide what the honest peers behind them
    /// hold. At most three times as many peers are asked. Groups are of addresses at which connections were made; a peer that
    /// belongs to none counts.
    pub(in crate::dht) fn next_diverse<R>(
        &mut self,
        now: Instant,
        view: &View<'_>,
        lookup: u16,
    ) -> Option<Step<R>> {
        loop {
            let step = self.next(now, view, lookup);
            if step.is_some() || !self.widen(view) {
                return step;
            }
        }
    }

    /// Wants more peers if some of the closest do not count. Returns whether it does.
    fn widen(&mut self, view: &View<'_>) -> bool {
        let wanted = self.wanted + self.widened;
        let excess = excess(view, &self.lookup.closest_answered(wanted)).min(2 * self.wanted);
        let more = excess.saturating_sub(self.widened);
        self.widened += more;
        self.lookup.widen(more);
        more > 0
    }

    /// Returns a request to a peer where the search has found it.
    pub(in crate::dht) fn ask(&self, to: PeerId, request: Request, lookup: u16) -> Ask {
        let addresses = self.addresses.get(&to).cloned().unwrap_or_default();
        Ask { to, addresses, request, lookup, urgency: self.urgency }
    }

    /// Returns the request that all are asked.
    pub(in crate::dht) const fn request(&self) -> &Request {
        &self.request
    }

    /// Returns whether a peer is a candidate.
    pub(in crate::dht) fn is_candidate(&self, peer: &PeerId) -> bool {
        self.lookup.knows(peer)
    }

    /// Returns whether a candidate was not asked yet.
    pub(in crate::dht) fn is_unasked(&self, peer: &PeerId) -> bool {
        self.lookup.is_unasked(peer)
    }

    /// Returns whether it is no news to the search that a peer is at these addresses.
    pub(in crate::dht) fn knows(&self, peer: &PeerId, addresses: &Addresses) -> bool {
        // Each of several paths knows what its own peers have named.
        self.lookup.is_single()
            && self.addresses.get(peer).is_some_and(|known| known == addresses)
            && !self.absent.contains(peer)
    }

    pub(in crate::dht) fn answered(&mut self, from: &PeerId, answer: FilteredAnswer) {
        for named in &answer.closer {
            let known = self.addresses.entry(named.peer).or_default();
            // The last to name a peer does not erase what others said of it.
            *known = known.joined(&named.addresses);
        }
        self.lookup.answered(from, answer.closer.into_iter().map(|named| (named.key, named.peer)));
        if self.addresses.len() > MAX_ADDRESSED {
            let lookup = &self.lookup;
            self.addresses.retain(|peer, _| lookup.knows(peer));
        }
    }

    /// The request to a peer waits for its place, or has got it; `now` is the node's own time.
    pub(in crate::dht) fn place(&mut self, now: Instant, to: &PeerId, place: Place) {
        self.lookup.place(now, to, place);
    }

    pub(in crate::dht) fn failed(&mut self, from: &PeerId, error: RequestError) {
        self.lookup.failed(from);
        if !self.has_answers() {
            self.failures.push((*from, error));
        }
    }

    /// Returns what has become of those that were asked, as long as none of them has answered.
    pub(in crate::dht) fn fates(&self, view: &View<'_>) -> Fates {
        let counts = self.lookup.counts();
        let pending = counts.requests.saturating_sub(counts.answered).saturating_sub(counts.failed);
        let (failed, protocol) = (self.failures.clone(), view.config.protocol_name.clone());
        Fates { failed, pending: usize::try_from(pending).unwrap_or(usize::MAX), protocol }
    }

    /// Returns until when a slow peer is awaited that may still have what no other has: it is worth three seconds more,
    /// once. `None` if no peer is awaited, neither by the search nor by `others`, or not any more.
    pub(in crate::dht) fn last_chance(&mut self, now: Instant, others: bool) -> Option<Instant> {
        if !others && !self.lookup.has_outstanding() {
            return None;
        }
        let until = *self.last_chance.get_or_insert_with(|| after(now, LAST_CHANCE));
        (until > now).then_some(until)
    }

    pub(in crate::dht) fn preimage(&self) -> &Bytes {
        &self.preimage
    }

    /// Returns how many did not answer.
    pub(in crate::dht) fn num_failed(&self) -> usize {
        usize::try_from(self.lookup.counts().failed).unwrap_or(usize::MAX)
    }

    pub(in crate::dht) fn has_answers(&self) -> bool {
        self.lookup.counts().answered > 0
    }

    /// Returns the closest peers that are not known to have failed, asked or not.
    pub(in crate::dht) fn closest_ids(&self, count: usize) -> Vec<PeerId> {
        self.lookup.closest_not_failed(count)
    }

    /// Returns how many of the closest peers it takes for so many of them to live, as far as that is known.
    pub(in crate::dht) fn needed_for(&self, now: Instant, view: &View<'_>, living: usize) -> usize {
        self.lookup.needed_for(view.moment(now).seen, living)
    }

    /// Returns how many of the `count` closest have answered, and how far away the last of them is.
    pub(in crate::dht) fn farthest_answered(&self, count: usize) -> Option<(usize, Distance)> {
        self.lookup.farthest_answered(count)
    }

    /// Returns the peers that are no farther than this and not known to have failed, asked or not, closest first.
    pub(in crate::dht) fn within(&self, radius: Distance) -> Vec<Near> {
        self.lookup.within(radius)
    }

    /// Returns the peers that are not known to have failed, closest first, with how likely each lives as far as that is known.
    pub(in crate::dht) fn living(&self, now: Instant, view: &View<'_>) -> Vec<(Distance, PeerId, f64)> {
        self.lookup.living(view.moment(now).seen)
    }

    /// Returns where a peer is as the search has found it.
    pub(in crate::dht) fn addresses(&self, peer: &PeerId) -> Option<&Addresses> {
        self.addresses.get(peer)
    }

    pub(in crate::dht) const fn target(&self) -> Key {
        self.key
    }

    /// Returns how many candidates are closer to the target than a peer.
    pub(in crate::dht) fn closer_than(&self, peer: &PeerId) -> usize {
        let all = self.lookup.closest_not_failed(usize::MAX);
        all.iter().position(|known| known == peer).unwrap_or(all.len())
    }

    /// Returns the closest peers with their addresses: those that have answered, of a near search also those that were
    /// not asked.
    pub(in crate::dht) fn closest(&self, view: &View<'_>, count: usize) -> Vec<PeerInfo> {
        let peers = match self.goal {
            Goal::Closest(Precision::Exact) => self.lookup.closest_answered(count),
            Goal::Closest(Precision::Near) | Goal::Anybody | Goal::Around => {
                self.lookup.closest_not_failed(count)
            }
        };
        peers.into_iter().map(|peer| self.info(view, peer)).collect()
    }

    /// Returns the peers that have led to the closest one that answered, itself the last.
    pub(in crate::dht) fn path(&self) -> Vec<PeerId> {
        self.lookup.path()
    }

    /// Returns the closest peers that have answered, with their addresses.
    pub(in crate::dht) fn closest_answered(&self, view: &View<'_>, count: usize) -> Vec<PeerInfo> {
        self.lookup.closest_answered(count).into_iter().map(|peer| self.info(view, peer)).collect()
    }

    /// Returns a peer with its addresses, those first at which this node has met it.
    pub(in crate::dht) fn info(&self, view: &View<'_>, peer_id: PeerId) -> PeerInfo {
        let named = self.addresses.get(&peer_id).into_iter().flatten();
        let addrs = view.peers.addresses(&peer_id).merged(named.cloned()).into_vec();
        PeerInfo { peer_id, addrs }
    }

    /// Adds what the search has cost.
    pub(in crate::dht) fn count(&self, stats: &mut QueryStats) {
        let counts = self.lookup.counts();
        stats.requests += counts.requests;
        stats.success += counts.answered;
        stats.failure += counts.failed;
        stats.soft_timeouts += counts.soft_timeouts;
        stats.hops = stats.hops.max(self.lookup.hops());
    }
}

/// So many of the closest must answer who are asked for those around a key, two at once (measured on models of 10,000 nodes: of β = 2 all live
/// servers are found).
const AROUND: usize = 2;
const TWO: NonZeroU8 = NonZeroU8::new(2).unwrap();

/// When all but the slow have answered, and they had too little, the slow are awaited for so long (chosen, not measured).
const LAST_CHANCE: Duration = Duration::from_secs(3);

/// Returns the IP groups of the addresses at which a peer will be dialled though nobody has met it there.
fn hearsay_groups(view: &View<'_>, peer: &PeerId, named: Option<&Addresses>) -> SmallVec<[IpGroup; 3]> {
    if view.config.ip_diversity() == IpDiversity::Off {
        return SmallVec::new();
    }
    let limits = &view.config.routing.ip_limits;
    let named = named.cloned().unwrap_or_default();
    let addresses = view.peers.mere_hearsay(peer, &named);
    let counted =
        addresses.into_iter().filter(|address| !ip_of(address).is_some_and(|ip| limits.is_exempt(ip)));
    counted.filter_map(IpGroup::of).collect()
}

/// How many peers of one IP group count among the closest, and how many addresses of hearsay are dialled while others are
/// left to ask (chosen, not measured).
const MAX_PER_GROUP: usize = 2;

/// How many of some peers belong to each IP group.
#[derive(Default)]
pub(in crate::dht) struct GroupTally(IndexMap<IpGroup, usize>);

impl GroupTally {
    /// Counts a peer, unless there are enough of one of its groups. Returns whether it counts.
    pub(in crate::dht) fn counts(&mut self, of: Groups) -> bool {
        let is_full = of.iter().any(|group| self.0.get(&group).is_some_and(|count| *count >= MAX_PER_GROUP));
        of.iter().filter(|_| !is_full).for_each(|group| *self.0.entry(group).or_default() += 1);
        !is_full
    }
}

/// Returns how many of some peers do not count, since there are enough of their IP groups.
pub(in crate::dht) fn excess(view: &View<'_>, peers: &[PeerId]) -> usize {
    if view.config.ip_diversity() != IpDiversity::Strict {
        // Whose network it is decides there who has a place, not who is found.
        return 0;
    }
    let mut groups = GroupTally::default();
    let groups_of = |peer: &PeerId| view.peers.get(peer).map(|known| known.groups).unwrap_or_default();
    peers.iter().filter(|peer| !groups.counts(groups_of(peer))).count()
}

/// Beyond so many named peers the addresses of those that are no candidates any more are dropped (chosen, not measured).
const MAX_ADDRESSED: usize = 2048;
