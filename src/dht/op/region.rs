//! The region of a key: those around it who are to hold what belongs to it, however many peers somebody has put nearer.
//!
//! What the operations have in common that store, or search, more than the closest peers tell.

use std::collections::VecDeque;

use bytes::Bytes;
use indexmap::IndexMap;
use libp2p_identity::PeerId;

use super::machine::{Ask, FilteredAnswer, Step, View};
use super::search::{FoundAround, GroupTally, Search};
use crate::addrs::{Addresses, Groups, IpGroup};
use crate::error::RequestError;
use crate::event::QueryStats;
use crate::key::{BucketIndex, Distance, Key};
use crate::map::FastMap;
use crate::message::Request;
use crate::query::fanout::{Fanout, FanoutNext, Fate};
use crate::query::lookup::{Near, Place};
use crate::region::NetworkSize;
use crate::region::size::is_surrounded;
use crate::time::{Duration, Instant, after, earliest};

/// The number of the first lookup of a region: those of the search and of what follows it are lower (chosen).
const FIRST: u16 = 16;

/// The number of the requests to those of a region that are asked what the closest were asked (chosen).
const BEYOND: u16 = 1;

/// How many numbers a search and its region have.
pub(in crate::dht) const NUMBERS: u16 = FIRST + MAX_LOOKUPS;

/// Of a block, half as wide as the next, there are no peers to be found beyond so many: half of one of thirty (computed).
const MAX_BLOCKS: usize = 6;

/// How many lookups a region takes at most, and how many of them at once (chosen, not measured).
const MAX_LOOKUPS: u16 = 16;
const AT_ONCE: usize = 3;

/// How many peers of a region are told or asked; more are drawn at random. After an alarm twice as many (computed: with 27
/// honest holders among 200 others, who writes and who reads meet but for three in a hundred times at 80, and always at 160).
const MAX_CONTACTS: usize = 80;
const MAX_CONTACTS_ALARMED: usize = 160;

/// How many peers are remembered that lookups find in a region (chosen, not measured: as many as 16 lookups may know, of which each
/// knows a quarter).
const MAX_FOUND: usize = 2048;

/// For so long a region is looked at, or a quarter of what a query may take; and for so long those in it are asked. Chosen, not
/// measured: as long as one request may take.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Bytes whose hash lies in a bucket are searched for if that shares so many bits with the key at most: some thousand hashes
/// (chosen, not measured).
const MAX_SEARCHED: u32 = 10;

/// In so many disjoint paths the region of a surrounded key is looked up (chosen; Baumgart & Mies find four to be enough).
const PATHS_ALARMED: usize = 4;

/// The peers of a key's region, found beside a search for the closest that is over.
///
/// # What it decides
/// How far the region reaches, whether the key is surrounded, which lookups find those of the region that the closest do not
/// name, and who of all these is told or asked. The search knows all that are as near as its `k`-th; what lies beyond, up to the
/// end of the region, are the farther parts of a few buckets of the key. In each of these one random key is looked up, and others
/// as long as the answers name nobody outside of it.
///
/// # Inputs
/// Those of its lookups, by their numbers.
///
/// # Outputs
/// [`next`](Self::next) until it wants nothing more; then [`contacts`](Self::contacts).
///
/// # What time does
/// Ends it after ten seconds, with what was found by then.
///
/// # Bounds
/// 16 lookups, three at once; 2,048 peers in the region; 80 contacts, 160 if the key is surrounded.
///
/// # Spec
/// None. Sridhar et al., "Content Censorship in the InterPlanetary File System" (NDSS 2024), from which it differs: the size of
/// the network is learnt of lookups of random keys, and what lies behind those who surround the key is looked up at other keys.
#[derive(Debug)]
struct Region {
    radius: Distance,
    is_surrounded: bool,
    has_told: bool,
    /// Parts of the region in which somebody may be who is not known, the farthest first.
    blocks: VecDeque<BucketIndex>,
    lookups: Vec<(u16, BucketIndex, Search)>,
    begun: u16,
    /// What they have found in the region.
    found: IndexMap<PeerId, FoundAround>,
    /// Whatever the lookups have found by then is all.
    until: Instant,
    /// What the lookups have cost that are over.
    spent: QueryStats,
}

impl Region {
    /// Returns the region of the key of a search that is over. `None` as long as this node knows too few peers to say how large
    /// the network is.
    fn new(now: Instant, view: &View<'_>, search: &Search) -> Option<Self> {
        let size = view.network_size(now)?;
        let until = after(now, (view.config.lookups.query_timeout / 4).min(MAX_TIME));
        let (k, wanted) = (view.config.bucket_size().get(), search.wanted());
        let radius = view.size.region(&size, k, wanted);
        let by_rank = by_rank(search.living(now, view), wanted);
        let is_surrounded = is_surrounded(&size, by_rank.iter().copied());
        let complete = complete(&size, &by_rank, wanted);
        let blocks = blocks(radius, complete, is_surrounded);
        let (lookups, found, spent) = (Vec::new(), IndexMap::new(), QueryStats::empty());
        Some(Self { radius, is_surrounded, has_told: false, blocks, lookups, begun: 0, found, until, spent })
    }

    /// Returns what the region wants now. What its lookups have found the search knows then, too. `None` if it is over.
    fn next<R>(&mut self, now: Instant, view: &mut View<'_>, search: &mut Search) -> Option<Step<R>> {
        if self.is_surrounded && !std::mem::replace(&mut self.has_told, true) {
            return Some(Step::Surrounded(search.preimage().clone()));
        }
        if self.until <= now {
            while !self.lookups.is_empty() {
                self.over(0, search);
            }
            return None;
        }
        loop {
            self.begin_lookups(now, view, search);
            let (mut wake_at, mut over) = (Some(self.until), None);
            for (at, (number, _, lookup)) in self.lookups.iter_mut().enumerate() {
                match lookup.next(now, view, *number) {
                    Some(Step::Wait(until)) => wake_at = earliest(wake_at, until),
                    Some(step) => return Some(step),
                    None => over = Some(at),
                }
            }
            match over {
                Some(at) => self.over(at, search),
                None if self.lookups.is_empty() => return None,
                None => return Some(Step::Wait(wake_at)),
            }
        }
    }

    fn begin_lookups(&mut self, now: Instant, view: &mut View<'_>, search: &Search) {
        while self.lookups.len() < AT_ONCE
            && self.begun < MAX_LOOKUPS
            && let Some(block) = self.blocks.pop_front()
        {
            let Some(target) = self.target_in(block, view, search) else { continue };
            let paths = if self.is_surrounded { PATHS_ALARMED } else { 1 };
            if let Some(lookup) = search.beside(now, view, target, paths, &self.found) {
                self.lookups.push((FIRST + self.begun, block, lookup));
                self.begun += 1;
            }
        }
    }

    /// Returns a key to look up in a block: that of a peer there, which costs no search for bytes; but a random one if somebody
    /// may have chosen where peers are, and bytes are found soon.
    fn target_in(&self, block: BucketIndex, view: &mut View<'_>, search: &Search) -> Option<(Bytes, Key)> {
        let hash = view.config.key_hash;
        let random = |view: &mut View<'_>| {
            let (bytes, key) = search.target().preimage_in_bucket(block, hash, view.rng)?;
            Some((Bytes::copy_from_slice(&bytes), key))
        };
        let of_peer = |view: &mut View<'_>| {
            let known = search.within(block.range().1).into_iter().map(|near| (near.distance, near.peer));
            let found = self.found.iter().map(|(peer, found)| (found.distance, *peer));
            let known: Vec<_> = known.chain(found).filter(|(at, _)| at.bucket() == Some(block)).collect();
            let drawn = view.rng.below(known.len().max(1) as u64);
            let (at, peer) = known.get(usize::try_from(drawn).ok()?)?;
            Some((Bytes::from(peer.to_bytes()), search.target().at(*at)))
        };
        let is_soon = block.prefix() <= MAX_SEARCHED;
        if self.is_surrounded && is_soon {
            random(view).or_else(|| of_peer(view))
        } else {
            of_peer(view).or_else(|| if is_soon { random(view) } else { None })
        }
    }

    /// A lookup is over: takes note of what it has found. If it has named nobody outside of its block, there may be more.
    fn over(&mut self, at: usize, search: &Search) {
        let (_, block, lookup) = self.lookups.remove(at);
        lookup.count(&mut self.spent);
        let before = self.found.len();
        let (target, mut around) = (search.target(), 0);
        for (at, Near { distance, peer, has_answered, namer }) in
            lookup.within(Distance::MAX).into_iter().enumerate()
        {
            let distance = target.distance(&lookup.target().at(distance));
            around += usize::from(at < lookup.wanted() && distance.bucket() == Some(block));
            if distance > self.radius || search.is_candidate(&peer) {
                continue;
            }
            if let Some(known) = self.found.get_mut(&peer) {
                known.has_answered |= has_answered;
            } else if self.found.len() < MAX_FOUND {
                let addresses = lookup.addresses(&peer).cloned().unwrap_or_default();
                self.found.insert(peer, FoundAround { distance, has_answered, namer, addresses });
            }
        }
        if self.found.len() > before && around == lookup.wanted() {
            self.blocks.push_back(block);
        }
    }

    /// Returns whom to tell, or to ask, when the region is over, nearest first, with where those are that the search does not know:
    /// all in the region, and the closest in any case.
    ///
    /// Of too many some are drawn: those first that have answered; then as many of those whom each peer has named, so that nobody who
    /// makes peers up has more of them drawn than others have of theirs, and among these two of an IP group first.
    fn contacts(&self, view: &mut View<'_>, search: &Search) -> Vec<(PeerId, Addresses)> {
        let (radius, wanted) = (self.radius, search.wanted());
        let of_search = search.within(Distance::MAX).into_iter().enumerate();
        let of_search = of_search.filter(|(at, near)| *at < wanted || near.distance <= radius);
        let mut all: Vec<_> = of_search
            .map(|(_, Near { distance, peer, has_answered, namer })| {
                (peer, FoundAround { distance, has_answered, namer, addresses: Addresses::empty() })
            })
            .chain(self.found.iter().map(|(peer, found)| (*peer, found.clone())))
            .collect();
        all.sort_unstable_by_key(|(peer, found)| (found.distance, *peer));
        let most = if self.is_surrounded { MAX_CONTACTS_ALARMED } else { MAX_CONTACTS };
        if all.len() > most {
            view.rng.shuffle(&mut all);
            let groups = |peer: &PeerId, found: &FoundAround| {
                groups_of(view, peer, search.addresses(peer).unwrap_or(&found.addresses))
            };
            all = drawn(all, most, groups);
        }
        all.into_iter().map(|(peer, found)| (peer, found.addresses)).collect()
    }

    fn lookup(&mut self, number: u16) -> Option<&mut Search> {
        self.lookups.iter_mut().find_map(|(known, _, lookup)| (*known == number).then_some(lookup))
    }
}

/// A search whose key's region is looked at when it is over.
#[derive(Debug)]
pub(in crate::dht) struct RegionSearch {
    pub(in crate::dht) search: Search,
    region: Option<Region>,
    /// The asking of those of the region that were not among the closest, and until when it is worth while.
    beyond: Option<(Fanout, Instant)>,
    /// Where those are to be met who were found in the region.
    addresses: FastMap<PeerId, Addresses>,
    /// What the region has cost when it is over.
    spent: QueryStats,
}

impl From<Search> for RegionSearch {
    fn from(search: Search) -> Self {
        let (addresses, spent) = (FastMap::default(), QueryStats::empty());
        Self { search, region: None, beyond: None, addresses, spent }
    }
}

impl RegionSearch {
    /// The search is over: looks at its key's region from now on. Returns whether it can.
    pub(in crate::dht) fn enclose(&mut self, now: Instant, view: &View<'_>) -> bool {
        self.region = Region::new(now, view, &self.search);
        self.region.is_some()
    }

    /// Returns whether the region is looked at.
    pub(in crate::dht) const fn is_enclosing(&self) -> bool {
        self.region.is_some()
    }

    /// Returns what looking at the region wants now. When it is over, those are returned who are to be told or asked, nearest
    /// first: once, and nobody if there is no region.
    fn next_around<R>(&mut self, now: Instant, view: &mut View<'_>) -> Result<Step<R>, Vec<PeerId>> {
        let Some(region) = &mut self.region else {
            return Err(Vec::new());
        };
        if let Some(step) = region.next(now, view, &mut self.search) {
            return Ok(step);
        }
        let contacts = region.contacts(view, &self.search);
        self.spent = region.spent;
        self.region = None;
        let peers = contacts.iter().map(|(peer, _)| *peer).collect();
        self.addresses = contacts.into_iter().filter(|(_, addresses)| !addresses.is_empty()).collect();
        Err(peers)
    }

    /// Returns what looking at the region wants now; or until when it waits. When it is over, those of it are told by `fanout` beside the
    /// closest.
    pub(in crate::dht) fn next_beside<R>(
        &mut self,
        now: Instant,
        view: &mut View<'_>,
        fanout: &mut Fanout,
    ) -> Result<Step<R>, Option<Instant>> {
        match self.next_around(now, view) {
            Ok(Step::Wait(until)) => Err(until),
            Ok(step) => Ok(step),
            Err(contacts) => {
                if !contacts.is_empty() {
                    fanout.extend(contacts);
                }
                Err(None)
            }
        }
    }

    /// Returns what the search wants now that asks the closest, of different IP groups, and then, if its key is protected, all
    /// others of the region the same. `None` if it is over.
    pub(in crate::dht) fn next_everywhere<R>(
        &mut self,
        now: Instant,
        view: &mut View<'_>,
        is_protected: bool,
    ) -> Option<Step<R>> {
        if self.beyond.is_none() {
            if self.region.is_none() {
                if let Some(step) = self.search.next_diverse(now, view, 0) {
                    return Some(step);
                }
                if !is_protected || !self.enclose(now, view) {
                    return None;
                }
            }
            match self.next_around(now, view) {
                Ok(step) => return Some(step),
                Err(mut contacts) => {
                    contacts.retain(|peer| self.search.is_unasked(peer));
                    let (count, until) = (contacts.len(), after(now, MAX_TIME));
                    self.beyond = Some((Fanout::new(contacts, count, usize::MAX), until));
                }
            }
        }
        let status_of = |peer: &PeerId, phase| view.peer_status(peer, phase);
        let (beyond, until) = self.beyond.as_mut()?;
        let moment = view.moment(now);
        match beyond.next(moment, &status_of) {
            FanoutNext::Ask(peer) => {
                return Some(Step::Ask(self.ask(peer, self.search.request().clone(), BEYOND)));
            }
            // Whoever is slow is not waited for; but nobody is slow who has not been asked.
            FanoutNext::Wait(wake_at) if *until > now && beyond.is_awaiting(moment) => {
                return Some(Step::Wait(earliest(wake_at.map(|at| view.clock_time(at)), Some(*until))));
            }
            FanoutNext::Wait(_) | FanoutNext::Done => {}
        }
        // Who was slow may have named closer ones meanwhile.
        self.search.next_diverse(now, view, 0)
    }

    /// Returns until when a slow peer is awaited that may still have what no other has; see [`Search::last_chance`].
    pub(in crate::dht) fn last_chance(&mut self, now: Instant) -> Option<Instant> {
        let is_outstanding = |(_, fate): (PeerId, Fate)| matches!(fate, Fate::Queued(_) | Fate::Waiting(_));
        let others = self.beyond.as_ref().is_some_and(|(beyond, _)| beyond.fates().any(is_outstanding));
        self.search.last_chance(now, others)
    }

    /// Returns a request to a peer where it was found.
    pub(in crate::dht) fn ask(&self, to: PeerId, request: Request, lookup: u16) -> Ask {
        Ask { addresses: self.addresses_of(&to), ..self.search.ask(to, request, lookup) }
    }

    /// Returns where a peer was found, by the search or in the region.
    pub(in crate::dht) fn addresses_of(&self, peer: &PeerId) -> Addresses {
        let known = self.search.addresses(peer).cloned().unwrap_or_default();
        match self.addresses.get(peer) {
            Some(found) => known.joined(found),
            None => known,
        }
    }

    /// Returns the lookup of a number.
    fn lookup(&mut self, number: u16) -> Option<&mut Search> {
        match number {
            0 => Some(&mut self.search),
            _ => self.region.as_mut()?.lookup(number),
        }
    }

    /// Returns whether a request asks for the key itself, and not for peers around it.
    pub(in crate::dht) const fn asks_for_the_key(number: u16) -> bool {
        number < FIRST
    }

    /// Returns whether it is no news to a lookup that a peer is at these addresses.
    pub(in crate::dht) fn knows(&self, number: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        number == 0 && self.search.knows(peer, addresses)
    }

    /// The request of a lookup to a peer waits for its place, or has got it; `now` is the node's own time.
    pub(in crate::dht) fn place(&mut self, now: Instant, to: &PeerId, number: u16, place: Place) {
        if let Some((beyond, _)) = self.beyond.as_mut().filter(|_| number == BEYOND) {
            beyond.place(now, to, place);
        } else if let Some(lookup) = self.lookup(number) {
            lookup.place(now, to, place);
        }
    }

    pub(in crate::dht) fn answered(&mut self, from: &PeerId, number: u16, answer: FilteredAnswer) {
        if let Some((beyond, _)) = self.beyond.as_mut().filter(|_| number == BEYOND) {
            beyond.accepted(from);
        } else if let Some(lookup) = self.lookup(number) {
            lookup.answered(from, answer);
        }
    }

    pub(in crate::dht) fn failed(&mut self, from: &PeerId, number: u16, error: RequestError) {
        if let Some((beyond, _)) = self.beyond.as_mut().filter(|_| number == BEYOND) {
            beyond.failed(from, error);
        } else if let Some(lookup) = self.lookup(number) {
            lookup.failed(from, error);
        }
    }

    /// Adds what the search and its region have cost.
    pub(in crate::dht) fn count(&self, stats: &mut QueryStats) {
        self.search.count(stats);
        self.region.iter().flat_map(|region| &region.lookups).for_each(|(_, _, lookup)| lookup.count(stats));
        let spent = self.region.as_ref().map_or(self.spent, |region| region.spent);
        *stats = stats.merge(QueryStats { start: None, end: None, ..spent });
        self.beyond.iter().for_each(|(beyond, _)| beyond.count(stats));
    }
}

/// Draws some of the peers of a region, which are in random order, and returns them nearest first.
fn drawn(
    mut all: Vec<(PeerId, FoundAround)>,
    most: usize,
    groups_of: impl Fn(&PeerId, &FoundAround) -> Groups,
) -> Vec<(PeerId, FoundAround)> {
    let mut groups = GroupTally::default();
    let mut namers: IndexMap<u64, usize> = IndexMap::new();
    // Those who have answered have their places first. Stable: within each rank in the order in which they were drawn.
    all.sort_by_key(|(_, found)| !found.has_answered);
    all.sort_by_cached_key(|(peer, found)| {
        let is_full = !groups.counts(groups_of(peer, found));
        let named = namers.entry(found.namer).or_default();
        *named += 1;
        (!found.has_answered, *named, is_full)
    });
    all.truncate(most);
    all.sort_unstable_by_key(|(peer, found)| (found.distance, *peer));
    all
}

/// Returns for each of the closest `most` peers that live, as far as that is known, how many are no farther, and how far away it
/// is.
fn by_rank(living: Vec<(Distance, PeerId, f64)>, most: usize) -> Vec<(u32, Distance)> {
    let (mut sum, mut rank) = (0.0, 0);
    let mut by_rank = Vec::with_capacity(most);
    for (distance, _, likely) in living {
        sum += likely;
        if sum >= f64::from(rank + 1) {
            rank += 1;
            by_rank.push((rank, distance));
            if by_rank.len() == most {
                break;
            }
        }
    }
    by_rank
}

/// Returns up to which distance a search knows all peers: as far as the last of those it wanted; everywhere if there are no more
/// in the network, and nowhere if it has found too few.
fn complete(size: &NetworkSize, by_rank: &[(u32, Distance)], wanted: usize) -> Distance {
    match by_rank.last() {
        Some((_, last)) if by_rank.len() >= wanted => *last,
        _ if size.low > 2 * wanted as u64 => Distance::ZERO,
        _ => Distance::MAX,
    }
}

/// Returns the buckets of a key in which there may be peers no farther than `radius` that are not known though all are no farther
/// than `complete`.
fn blocks(radius: Distance, complete: Distance, is_surrounded: bool) -> VecDeque<BucketIndex> {
    let Some(top) = radius.bucket().filter(|_| complete < radius) else {
        return VecDeque::new();
    };
    let lowest = complete.bucket().map_or(0, BucketIndex::get);
    let is_worth_it = |block: &BucketIndex| {
        let (low, high) = block.range();
        let part = high.min(radius).0.saturating_sub(low.max(complete).0);
        // An eighth has four of thirty peers (chosen, not measured).
        is_surrounded || part > radius.0 >> 3
    };
    let blocks = (lowest..=top.get()).rev().take(MAX_BLOCKS).map(BucketIndex::new);
    blocks.filter(is_worth_it).collect()
}

/// Returns the IP groups of a peer: those of its connection, or of where it is said to be.
fn groups_of(view: &View<'_>, peer: &PeerId, named: &Addresses) -> Groups {
    let met = view.peers.get(peer).map(|known| known.groups).filter(|groups| groups.iter().next().is_some());
    let of_named = || named.iter().next().map(|at| Groups::of(at, IpGroup::of_ip)).unwrap_or_default();
    met.unwrap_or_else(of_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many thousandths of the keyspace.
    fn thousandths(count: u64) -> Distance {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(u64::MAX / 1000 * count).to_be_bytes());
        Distance::from_bytes(bytes)
    }

    fn size(low: u64) -> NetworkSize {
        NetworkSize { estimate: 2 * low, low, high: 3 * low, samples: 16 }
    }

    #[test]
    fn what_lies_behind_the_closest_is_looked_up_in_as_few_blocks_as_there_are() {
        let prefixes = |radius, complete, is_surrounded| {
            let blocks = blocks(radius, complete, is_surrounded);
            blocks.into_iter().map(BucketIndex::prefix).collect::<Vec<_>>()
        };
        // An eighth of the keyspace is 125 thousandths.
        assert_eq!(prefixes(thousandths(200), thousandths(130), false), [2], "the rest of one block");
        assert_eq!(prefixes(thousandths(200), thousandths(90), false), [2, 3], "and part of the next");
        assert_eq!(
            prefixes(thousandths(200), thousandths(120), false),
            [2],
            "but not what is next to nothing"
        );
        assert_eq!(
            prefixes(thousandths(200), thousandths(120), true),
            [2, 3],
            "unless somebody may hide there"
        );
        assert_eq!(prefixes(thousandths(200), Distance::ZERO, true), [2, 3, 4, 5, 6, 7]);
        assert_eq!(prefixes(thousandths(200), thousandths(200), true), [0; 0], "all are known");
        assert_eq!(prefixes(thousandths(200), Distance::MAX, true), [0; 0]);
        assert_eq!(prefixes(Distance::ZERO, Distance::ZERO, true), [0; 0]);
    }

    #[test]
    fn peers_count_as_far_as_they_live() {
        let peer = PeerId::random();
        let at = |distance, likely| (thousandths(distance), peer, likely);
        let living = vec![at(1, 1.0), at(2, 0.5), at(3, 0.5), at(4, 0.0), at(5, 1.0), at(6, 1.0)];
        let expected = [(1, thousandths(1)), (2, thousandths(3)), (3, thousandths(5))];
        assert_eq!(by_rank(living, 3), expected);
    }

    /// Who makes peers up has no more of them drawn than others have of theirs, however many IP groups they seem to be of.
    #[test]
    fn of_too_many_contacts_those_who_answered_are_drawn_and_of_each_namer_as_many() {
        let peer = |n: u16| {
            let hash =
                libp2p_core::multihash::Multihash::wrap(0x12, &[&n.to_be_bytes()[..], &[0; 30]].concat());
            PeerId::from_multihash(hash.unwrap()).unwrap()
        };
        let groups = |peer: &PeerId, found: &FoundAround| {
            let [high, low] = [0, 1].map(|at| peer.as_ref().digest()[at]);
            // The liar's are of a group each; the last namer's are all of one.
            let ip = if found.namer == 3 { [9, 9, 1, low] } else { [20 + high, low, 1, 1] };
            Groups::of(
                &format!("/ip4/{}/tcp/1", std::net::Ipv4Addr::from(ip)).parse().unwrap(),
                IpGroup::of_ip,
            )
        };
        for seed in 0..50 {
            // A hundred that a liar has made up, twenty of each of two honest namers, and ten that have answered.
            let of = |namer, count| std::iter::repeat_n(namer, count);
            let namers = of(0, 100).chain(of(1, 20)).chain(of(2, 20)).chain(of(3, 20)).chain(of(4, 10));
            let mut all: Vec<_> = (0..)
                .zip(namers)
                .map(|(n, namer)| {
                    let (distance, addresses) = (thousandths(u64::from(n)), Addresses::empty());
                    (peer(n), FoundAround { distance, has_answered: namer == 4, namer, addresses })
                })
                .collect();
            crate::rng::Rng::from_u64(seed).shuffle(&mut all);
            let drawn = drawn(all, 60, groups);
            assert!(drawn.is_sorted_by_key(|(_, found)| found.distance));
            let of = |namer| drawn.iter().filter(|(_, found)| found.namer == namer).count();
            assert_eq!((drawn.len(), of(4)), (60, 10), "all that have answered");
            // Fifty places for four namers: twelve each, and of the last two places none for a full group.
            let shares = [0, 1, 2].map(of);
            assert!(
                shares.iter().all(|share| (12..=13).contains(share)) && of(3) == 12,
                "{shares:?}, {}",
                of(3)
            );
        }
    }

    #[test]
    fn a_search_that_has_found_too_few_knows_everybody_only_where_there_are_no_more() {
        let ranks = [(1, thousandths(1)), (2, thousandths(2))];
        assert_eq!(complete(&size(1000), &ranks, 2), thousandths(2));
        assert_eq!(complete(&size(1000), &ranks, 20), Distance::ZERO);
        assert_eq!(complete(&size(10), &ranks, 20), Distance::MAX);
    }
}
