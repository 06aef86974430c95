//! Disjoint paths: several lookups of one key that share no peer, so that liars on one cannot mislead the others.
//!
//! Knows lookups; like them, it knows neither addresses nor messages.

use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::lookup::{Counts, Lookup, Near, Next, Place, Rules, StatusFn};
use crate::key::{Distance, Key};
use crate::map::FastMap;
use crate::time::{Instant, Moment, after, earliest};

/// The claim of a path to a peer that it has asked, and what became of it.
#[derive(Clone, Copy, Debug)]
struct Claim {
    path: usize,
    outcome: ClaimOutcome,
}

#[derive(Clone, Copy, Debug)]
enum ClaimOutcome {
    Asked { since: Instant, soft: Instant },
    Answered,
    Failed,
}

/// A lookup in one or more disjoint paths.
///
/// # What it decides
/// The path that asks a peer: the first that wants to. No peer is asked twice, and what a peer names is known only to the
/// path that asked it. A path counts what became of a peer in another one, so that honest paths, which meet at the
/// target, ask each of the closest only once.
///
/// # Inputs, outputs, time, bounds
/// Those of [`Lookup`], for each path.
///
/// # End
/// All paths have ended. The result is the closest of all of them together.
///
/// # Spec
/// Baumgart & Mies, S/Kademlia, §4.4.
#[derive(Clone, Debug)]
pub(crate) struct Disjoint {
    paths: SmallVec<[Lookup; 1]>,
    claims: FastMap<PeerId, Claim>,
    turn: usize,
}

impl Disjoint {
    /// Deals the peers out to the paths, the closest one to the first path, the next to the second, and so on.
    pub(crate) fn new(
        target: Key,
        rules: Rules,
        paths: usize,
        peers: impl IntoIterator<Item = (Key, PeerId)>,
    ) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_unstable_by(|(a, one), (b, other)| {
            target.distance(a).cmp(&target.distance(b)).then_with(|| one.cmp(other))
        });
        // One that is there twice would begin two paths.
        peers.dedup_by(|(_, one), (_, other)| one == other);
        let count = paths.max(1).min(peers.len().max(1));
        let mut paths: SmallVec<[Lookup; 1]> = (0..count).map(|_| Lookup::new(target, rules)).collect();
        for (path, peer) in (0..count).cycle().zip(peers) {
            if let Some(path) = paths.get_mut(path) {
                path.learn(None, [peer]);
            }
        }
        Self { paths, claims: FastMap::default(), turn: 0 }
    }

    /// Adds a candidate to the first path.
    pub(crate) fn add(&mut self, key: Key, peer: PeerId) {
        if let Some(path) = self.paths.first_mut() {
            path.learn(None, [(key, peer)]);
        }
    }

    /// Returns whether there is but one path.
    pub(crate) fn is_single(&self) -> bool {
        self.paths.len() == 1
    }

    fn path_of(&self, peer: &PeerId) -> usize {
        self.claims.get(peer).map_or(0, |claim| claim.path)
    }

    /// Returns whether a peer is a candidate of any path.
    pub(crate) fn knows(&self, peer: &PeerId) -> bool {
        self.paths.iter().any(|path| path.knows(peer))
    }

    /// Returns whether no path has asked a candidate yet.
    pub(crate) fn is_unasked(&self, peer: &PeerId) -> bool {
        !self.paths.iter().any(|path| path.has_asked(peer))
    }

    /// The request to a peer waits for its place, or has got it.
    pub(crate) fn place(&mut self, now: Instant, peer: &PeerId, place: Place) {
        self.paths.iter_mut().for_each(|path| path.place(now, peer, place));
        if let Some(Claim { outcome: ClaimOutcome::Asked { since, soft }, .. }) = self.claims.get_mut(peer) {
            let begins = match place {
                Place::Awaited => *since,
                Place::Taken => now,
                Place::Delayed(by) => after(*since, by),
            };
            *soft = after(begins, soft.saturating_duration_since(*since));
            *since = begins;
        }
    }

    /// The links of this node have changed.
    pub(crate) fn links_changed(&mut self, status_of: &StatusFn<'_>) {
        self.paths.iter_mut().for_each(|path| path.links_changed(status_of));
    }

    /// A peer has answered and named others, which only its own path learns of.
    pub(crate) fn answered(&mut self, peer: &PeerId, closer: impl IntoIterator<Item = (Key, PeerId)>) {
        let asked_by = self.path_of(peer);
        let closer: SmallVec<[_; 20]> = closer.into_iter().collect();
        if let Some(path) = self.paths.get_mut(asked_by) {
            path.answered(peer);
            path.learn(Some(peer), closer.iter().copied());
            if self.claims.is_empty() {
                return;
            }
            // What others have asked already is not asked again.
            for (_, named) in &closer {
                match self.claims.get(named) {
                    Some(claim) if claim.path == asked_by => {}
                    Some(Claim { outcome: ClaimOutcome::Asked { since, soft }, .. }) => {
                        path.asked_elsewhere(*since, named, *soft);
                    }
                    Some(Claim { outcome: ClaimOutcome::Answered, .. }) => path.answered_elsewhere(named),
                    Some(Claim { outcome: ClaimOutcome::Failed, .. }) => path.failed_elsewhere(named),
                    None => {}
                }
            }
        }
        self.claim(peer, asked_by, ClaimOutcome::Answered);
        for path in self.others(asked_by) {
            path.answered_elsewhere(peer);
        }
    }

    /// A request to a peer has failed for good.
    pub(crate) fn failed(&mut self, peer: &PeerId) {
        let asked_by = self.path_of(peer);
        if let Some(path) = self.paths.get_mut(asked_by) {
            path.failed(peer);
        }
        self.claim(peer, asked_by, ClaimOutcome::Failed);
        for path in self.others(asked_by) {
            path.failed_elsewhere(peer);
        }
    }

    /// Returns what the lookup wants now; the paths take turns.
    pub(crate) fn next(&mut self, at: impl Into<Moment>, status_of: &StatusFn<'_>) -> Next {
        let at = at.into();
        let mut done = 0;
        for _ in 0..self.paths.len() {
            let turn = self.turn % self.paths.len();
            self.turn = turn + 1;
            let Some(path) = self.paths.get_mut(turn) else {
                break;
            };
            match path.next(at, status_of) {
                Next::Ask(peer, soft) => {
                    self.claim(&peer, turn, ClaimOutcome::Asked { since: at.now, soft });
                    for path in self.others(turn) {
                        path.asked_elsewhere(at.now, &peer, soft);
                    }
                    return Next::Ask(peer, soft);
                }
                Next::Wait => {}
                Next::Done => done += 1,
            }
        }
        if done == self.paths.len() { Next::Done } else { Next::Wait }
    }

    /// Returns whether a request is outstanding: neither answered nor failed, late or not.
    pub(crate) fn has_outstanding(&self) -> bool {
        self.paths.iter().any(Lookup::has_outstanding)
    }

    /// Wants so many more peers than before.
    pub(crate) fn widen(&mut self, more: usize) {
        self.paths.iter_mut().for_each(|path| path.widen(more));
    }

    /// Returns when [`next`](Self::next) is to be called though nothing has happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.paths.iter().map(Lookup::deadline).fold(None, earliest)
    }

    fn claim(&mut self, peer: &PeerId, path: usize, outcome: ClaimOutcome) {
        if !self.is_single() {
            self.claims.insert(*peer, Claim { path, outcome });
        }
    }

    fn others(&mut self, but: usize) -> impl Iterator<Item = &mut Lookup> {
        self.paths.iter_mut().enumerate().filter(move |(at, _)| *at != but).map(|(_, path)| path)
    }

    /// Returns the `count` closest peers that have answered in any path, closest first.
    pub(crate) fn closest_answered(&self, count: usize) -> Vec<PeerId> {
        merge(self.paths.iter().map(Lookup::closest_answered), count).map(|(_, peer)| peer).collect()
    }

    /// Returns how many of the `count` closest have answered in any path, and how far away the last of them is.
    pub(crate) fn farthest_answered(&self, count: usize) -> Option<(usize, Distance)> {
        let closest = merge(self.paths.iter().map(Lookup::closest_answered), count);
        closest.map(|(distance, _)| distance).enumerate().last().map(|(at, distance)| (at + 1, distance))
    }

    /// Returns the peers of all paths that are no farther than this and not known to have failed, asked or not, closest first.
    pub(crate) fn within(&self, radius: Distance) -> Vec<Near> {
        let near = |path: &Lookup| path.near().take_while(|near| near.distance <= radius).collect::<Vec<_>>();
        let mut all: Vec<_> = self.paths.iter().flat_map(near).collect();
        all.sort_unstable_by_key(|near| (near.distance, near.peer, !near.has_answered));
        all.dedup_by_key(|near| near.peer);
        all
    }

    /// Returns the `count` closest peers of all paths that are not known to have failed, asked or not, closest first.
    pub(crate) fn closest_not_failed(&self, count: usize) -> Vec<PeerId> {
        merge(self.paths.iter().map(Lookup::closest_not_failed), count).map(|(_, peer)| peer).collect()
    }

    /// Returns the peers of all paths that are not known to have failed, closest first, with how likely each lives as far as that is
    /// known.
    pub(crate) fn living(&self, now: Instant) -> Vec<(Distance, PeerId, f64)> {
        let mut all: Vec<_> = self.paths.iter().flat_map(|path| path.living(now)).collect();
        all.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(b.2.total_cmp(&a.2)));
        // What one path knows of a peer goes before what another does not.
        all.dedup_by_key(|(_, peer, _)| *peer);
        all
    }

    /// Returns how many of the closest peers that are not known to have failed it takes for so many of them to live, as far
    /// as that is known.
    pub(crate) fn needed_for(&self, now: Instant, living: usize) -> usize {
        let all = self.living(now);
        let mut left = f64::from(u32::try_from(living).unwrap_or(u32::MAX));
        let lacking = |(_, _, likely): &&(Distance, PeerId, f64)| {
            let is_lacking = left > 0.0;
            left -= likely;
            is_lacking
        };
        all.iter().take_while(lacking).count()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.paths.iter().map(Lookup::counts).fold(Counts::default(), |sum, path| Counts {
            requests: sum.requests + path.requests,
            answered: sum.answered + path.answered,
            failed: sum.failed + path.failed,
            soft_timeouts: sum.soft_timeouts + path.soft_timeouts,
        })
    }

    /// Returns the hops of the path that found the closest peer.
    pub(crate) fn hops(&self) -> u32 {
        self.best().map_or(0, Lookup::hops)
    }

    /// Returns the peers that have led to the closest one that answered, itself the last.
    pub(crate) fn path(&self) -> Vec<PeerId> {
        self.best().map_or_else(Vec::new, Lookup::path)
    }

    /// Returns the path that found the closest peer.
    fn best(&self) -> Option<&Lookup> {
        let closest =
            |path: &&Lookup| path.closest_answered().next().map_or(Distance::MAX, |(distance, _)| distance);
        self.paths.iter().min_by_key(closest)
    }
}

fn merge<I: Iterator<Item = (Distance, PeerId)>>(
    paths: impl Iterator<Item = I>,
    count: usize,
) -> impl Iterator<Item = (Distance, PeerId)> {
    let mut all: Vec<_> = paths.flat_map(|path| path.take(count)).collect();
    all.sort();
    all.dedup();
    all.truncate(count);
    all.into_iter()
}

#[cfg(test)]
mod tests;
