use std::num::NonZeroU8;

use super::*;
use crate::config::TimeoutPolicy;
use crate::rng::Rng;
use crate::rng::cases::cases;
use crate::time::start;

pub(in crate::query) const MS: Duration = Duration::from_millis(1);
pub(in crate::query) const SOFT: Duration = Duration::from_millis(100);

pub(in crate::query) fn peer(seed: u64) -> PeerId {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&seed.to_be_bytes());
    PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0, &digest).unwrap()).unwrap()
}

pub(in crate::query) fn keyed(seed: u64) -> (Key, PeerId) {
    (Key::of_peer(&peer(seed), Key::sha256), peer(seed))
}

pub(in crate::query) fn target() -> Key {
    Key::sha256(b"target")
}

/// The peers 1 to `n`, closest to the target first.
pub(in crate::query) fn by_distance(n: u64) -> Vec<(Key, PeerId)> {
    let mut peers: Vec<_> = (1..=n).map(keyed).collect();
    peers.sort_by_key(|(key, _)| target().distance(key));
    peers
}

pub(in crate::query) fn fixed(alpha: u8) -> Parallelism {
    Parallelism::Fixed(NonZeroU8::new(alpha).unwrap())
}

pub(in crate::query) fn exact(wanted: usize, alpha: u8) -> Rules {
    Rules {
        wanted,
        must_answer: wanted,
        parallelism: fixed(alpha),
        policy: TailPolicy::new(TimeoutPolicy::Fitted),
    }
}

/// A soft timeout that neither a dial nor what was seen of others changes.
const EVEN: SoftTimeout = SoftTimeout { connected: SOFT, dialled: SOFT };

pub(in crate::query) fn cold(_: &PeerId, _: Phase) -> PeerStatus {
    PeerStatus { connected: false, deferred: false, queued: false, soft_timeout: EVEN }
}

fn asks(lookup: &mut Lookup, now: Instant) -> Vec<PeerId> {
    std::iter::from_fn(|| match lookup.next(now, &cold) {
        Next::Ask(peer, _) => Some(peer),
        Next::Wait | Next::Done => None,
    })
    .collect()
}

fn ids(peers: &[(Key, PeerId)]) -> Vec<PeerId> {
    peers.iter().map(|(_, peer)| *peer).collect()
}

#[test]
fn the_alpha_closest_are_asked_first() {
    for alpha in [1, 3, 10] {
        let peers = by_distance(40);
        let mut lookup = Lookup::new(target(), exact(20, alpha));
        lookup.learn(None, peers.iter().rev().copied());
        assert_eq!(asks(&mut lookup, start()), ids(&peers[..usize::from(alpha)]));
    }
}

#[test]
fn a_free_slot_goes_to_the_closest_that_was_not_asked() {
    let peers = by_distance(60);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers[30..50].iter().copied());
    assert_eq!(asks(&mut lookup, start()), ids(&peers[30..33]));
    // Without waiting for the others of a round.
    lookup.answered(&peers[31].1);
    lookup.learn(Some(&peers[31].1), peers[5..25].iter().copied());
    assert_eq!(asks(&mut lookup, start()), [peers[5].1]);
    assert_eq!(lookup.next(start(), &cold), Next::Wait);
}

#[test]
fn when_the_closest_has_answered_the_rest_is_asked_at_once() {
    let peers = by_distance(60);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    assert_eq!(asks(&mut lookup, start()), ids(&peers[..3]));
    lookup.answered(&peers[1].1);
    assert_eq!(asks(&mut lookup, start()), [peers[3].1], "the closest has not answered yet");
    lookup.answered(&peers[0].1);
    assert_eq!(asks(&mut lookup, start()), ids(&peers[4..20]));
    for (_, peer) in &peers[2..20] {
        assert_eq!(lookup.next(start(), &cold), Next::Wait);
        lookup.answered(peer);
    }
    assert_eq!(lookup.next(start(), &cold), Next::Done);
    assert_eq!(lookup.closest_answered().map(|(_, peer)| peer).collect::<Vec<_>>(), ids(&peers[..20]));
    assert_eq!(lookup.counts().requests, 20);
}

#[test]
fn a_closer_peer_stops_the_burst_from_being_the_end() {
    let peers = by_distance(60);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers[10..40].iter().copied());
    asks(&mut lookup, start());
    lookup.answered(&peers[10].1);
    asks(&mut lookup, start());
    for (_, peer) in &peers[11..30] {
        lookup.answered(peer);
        lookup.learn(Some(peer), peers[..5].iter().copied());
    }
    assert_eq!(asks(&mut lookup, start()), ids(&peers[..3]), "hopping again");
}

#[test]
fn near_is_enough_with_beta_answers_and_nobody_closer() {
    let peers = by_distance(60);
    let rules = Rules { must_answer: 3, ..exact(20, 4) };
    let mut lookup = Lookup::new(target(), rules);
    lookup.learn(None, peers.iter().copied());
    assert_eq!(asks(&mut lookup, start()), ids(&peers[..4]));
    for (_, peer) in &peers[..3] {
        assert_ne!(lookup.next(start(), &cold), Next::Done);
        lookup.answered(peer);
    }
    assert_eq!(lookup.next(start(), &cold), Next::Done);
    let found: Vec<_> = lookup.closest_not_failed().take(20).map(|(_, peer)| peer).collect();
    assert_eq!(found, ids(&peers[..20]), "those that were not asked count");
}

#[test]
fn a_soft_timeout_frees_the_slot_and_the_late_answer_counts() {
    let peers = by_distance(40);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    asks(&mut lookup, start());
    assert_eq!(lookup.deadline(), Some(start() + SOFT));
    assert_eq!(asks(&mut lookup, start() + SOFT - MS), []);
    assert_eq!(asks(&mut lookup, start() + SOFT), ids(&peers[3..6]));
    assert_eq!(lookup.counts().soft_timeouts, 3);
    lookup.answered(&peers[0].1);
    assert_eq!(lookup.closest_answered().count(), 1);
    // It is the closest, so the rest is asked at once: all but the two that are overdue, and one or two more.
    let burst = asks(&mut lookup, start() + SOFT);
    assert!((15..=18).contains(&burst.len()), "{}", burst.len());
}

#[test]
fn adaptive_parallelism_widens_by_one_on_each_soft_timeout_up_to_its_maximum() {
    let peers = by_distance(100);
    let (start_width, max) = (NonZeroU8::new(2).unwrap(), NonZeroU8::new(5).unwrap());
    let parallelism = Parallelism::Adaptive { start: start_width, max };
    let mut lookup = Lookup::new(target(), Rules { parallelism, ..exact(60, 1) });
    lookup.learn(None, peers.iter().copied());
    let mut now = start();
    let mut widths = Vec::new();
    for _ in 0..5 {
        asks(&mut lookup, now);
        widths.push(lookup.in_flight);
        now += SOFT;
    }
    assert_eq!(widths, [2, 4, 5, 5, 5]);
}

#[test]
fn overdue_peers_do_not_hold_back_what_has_ended() {
    let peers = by_distance(40);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    asks(&mut lookup, start());
    let now = start() + SOFT;
    let mut asked = asks(&mut lookup, now);
    while let Some(peer) = asked.pop() {
        lookup.answered(&peer);
        asked.extend(asks(&mut lookup, now));
    }
    assert_eq!(lookup.next(now, &cold), Next::Done);
    assert!(lookup.closest_answered().count() >= 20);
}

#[test]
fn with_nobody_else_left_it_waits_for_overdue_peers_as_long_again() {
    let peers = by_distance(3);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    asks(&mut lookup, start());
    lookup.answered(&peers[2].1);
    let now = start() + SOFT;
    assert_eq!(lookup.next(now, &cold), Next::Wait);
    assert_eq!(lookup.deadline(), Some(now + SOFT));
    lookup.answered(&peers[0].1);
    assert_eq!(lookup.next(now + SOFT - MS, &cold), Next::Wait);
    assert_eq!(lookup.next(now + SOFT, &cold), Next::Done);
}

#[test]
fn the_only_peer_may_take_its_time() {
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, [keyed(1)]);
    asks(&mut lookup, start());
    assert_eq!(lookup.next(start() + 50 * SOFT, &cold), Next::Wait);
    assert_eq!(lookup.deadline(), None, "its hard timeout will tell");
    lookup.failed(&peer(1));
    assert_eq!(lookup.next(start() + 50 * SOFT, &cold), Next::Done);
}

#[test]
fn nobody_to_ask_is_an_end() {
    assert_eq!(Lookup::new(target(), exact(20, 3)).next(start(), &cold), Next::Done);
}

#[test]
fn a_connection_goes_before_closeness_within_a_bucket() {
    let peers = by_distance(200);
    let bucket = |index: usize| target().distance(&peers[index].0).bucket();
    let last_alike = (60..200).take_while(|index| bucket(*index) == bucket(60)).last().unwrap();
    assert!(last_alike > 61 && last_alike < 199);
    let ask_first = |connected: usize| {
        let mut lookup = Lookup::new(target(), exact(200, 1));
        lookup.learn(None, peers[60..].iter().copied());
        let warm = peers[connected].1;
        let status_of = move |peer: &PeerId, _: Phase| PeerStatus {
            connected: *peer == warm,
            ..cold(peer, Phase::Hopping)
        };
        lookup.next(start(), &status_of)
    };
    assert_eq!(ask_first(last_alike), Next::Ask(peers[last_alike].1, start() + SOFT));
    assert_eq!(
        ask_first(last_alike + 1),
        Next::Ask(peers[60].1, start() + SOFT),
        "another bucket is too far"
    );
}

#[test]
fn a_request_that_is_queued_in_this_node_is_no_silence() {
    let peers = by_distance(1);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    let queued = |peer: &PeerId, phase: Phase| PeerStatus { queued: true, ..cold(peer, phase) };
    assert!(matches!(lookup.next(start(), &queued), Next::Ask(..)));
    lookup.place(start(), &peers[0].1, Place::Awaited);
    let mut now = start();
    for _ in 0..50 {
        assert_eq!(lookup.next(now, &queued), Next::Wait);
        now = lookup.deadline().expect("somebody is awaited");
    }
    assert_eq!((lookup.counts().soft_timeouts, now), (0, start() + 50 * SOFT));
    let begun = now + SOFT / 3;
    lookup.place(begun, &peers[0].1, Place::Taken);
    assert_eq!(lookup.next(begun, &queued), Next::Wait);
    assert_eq!(lookup.deadline(), Some(begun + SOFT), "its time runs once it has its place, and not before");
    lookup.place(begun, &peers[0].1, Place::Delayed(SOFT / 2));
    assert_eq!(lookup.next(begun, &queued), Next::Wait);
    assert_eq!(lookup.deadline(), Some(begun + SOFT * 3 / 2), "what this node was late is not its peer's");
    lookup.next(begun + SOFT * 3 / 2, &queued);
    assert_eq!(lookup.counts().soft_timeouts, 1, "it has its place");
}

#[test]
fn a_place_that_the_program_does_not_give_is_not_awaited() {
    let peers = by_distance(1);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    assert!(matches!(lookup.next(start(), &cold), Next::Ask(..)));
    lookup.place(start(), &peers[0].1, Place::Awaited);
    lookup.next(start() + SOFT, &cold);
    assert_eq!(lookup.counts().soft_timeouts, 1);
}

#[test]
fn nobody_is_late_whose_answer_may_wait_in_this_node() {
    let peers = by_distance(1);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    assert!(matches!(lookup.next(start(), &cold), Next::Ask(..)));
    let late = |now, by| Moment { now, seen: now - by };
    let now = start() + 3 * SOFT;
    assert_eq!(lookup.next(late(now, 2 * SOFT + MS), &cold), Next::Wait);
    assert_eq!((lookup.counts().soft_timeouts, lookup.deadline()), (0, Some(start() + SOFT)));
    lookup.next(late(now, 2 * SOFT), &cold);
    assert_eq!(lookup.counts().soft_timeouts, 1);
}

#[test]
fn whoever_was_given_up_is_taken_back_when_the_links_have_changed() {
    let peers = by_distance(3);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers.iter().copied());
    assert_eq!(asks(&mut lookup, start()).len(), 3);
    let now = start() + SOFT;
    lookup.next(now, &cold);
    assert_eq!(lookup.counts().soft_timeouts, 3);
    let even = SoftTimeout { connected: 3 * SOFT, dialled: 3 * SOFT };
    let slow = |peer: &PeerId, phase: Phase| PeerStatus { soft_timeout: even, ..cold(peer, phase) };
    lookup.answered(&peers[0].1);
    lookup.links_changed(&slow);
    assert_eq!(lookup.next(now, &slow), Next::Wait, "the others are awaited again");
    assert!(lookup.deadline().is_some_and(|at| at > now + SOFT), "{:?}", lookup.deadline());
}

#[test]
fn a_deferred_peer_is_asked_when_no_other_is_left() {
    let peers = by_distance(4);
    let mut lookup = Lookup::new(target(), exact(20, 4));
    lookup.learn(None, peers.iter().copied());
    let last = [peers[0].1, peers[2].1];
    let status_of =
        |peer: &PeerId, phase: Phase| PeerStatus { deferred: last.contains(peer), ..cold(peer, phase) };
    let asked = std::iter::from_fn(|| match lookup.next(start(), &status_of) {
        Next::Ask(peer, _) => Some(peer),
        Next::Wait | Next::Done => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [peers[1].1, peers[3].1, peers[0].1, peers[2].1]);
}

#[test]
fn what_failed_is_not_asked_again_and_is_replaced_by_the_next() {
    let peers = by_distance(30);
    let mut lookup = Lookup::new(target(), exact(20, 1));
    lookup.learn(None, peers.iter().copied());
    assert_eq!(asks(&mut lookup, start()), [peers[0].1]);
    lookup.failed(&peers[0].1);
    lookup.learn(None, [peers[0]]);
    assert_eq!(asks(&mut lookup, start()), [peers[1].1]);
    lookup.answered(&peers[1].1);
    let burst = asks(&mut lookup, start());
    assert!(burst.contains(&peers[20].1), "twenty others are asked: {}", burst.len());
}

#[test]
fn hops_count_who_had_to_be_asked_one_after_another() {
    let peers = by_distance(30);
    let mut lookup = Lookup::new(target(), exact(1, 1));
    lookup.learn(None, [peers[20]]);
    asks(&mut lookup, start());
    for (from, to) in [(20, 10), (10, 5), (5, 0)] {
        lookup.answered(&peers[from].1);
        lookup.learn(Some(&peers[from].1), [peers[to]]);
        assert_eq!(asks(&mut lookup, start()), [peers[to].1]);
    }
    lookup.answered(&peers[0].1);
    assert_eq!(lookup.next(start(), &cold), Next::Done);
    assert_eq!(lookup.hops(), 4);
    assert_eq!(lookup.path(), [20, 10, 5, 0].map(|at: usize| peers[at].1));
}

#[test]
fn candidates_are_bounded_and_the_closest_are_kept() {
    let peers = by_distance(2000);
    let mut lookup = Lookup::new(target(), exact(20, 3));
    lookup.learn(None, peers[1900..].iter().copied());
    asks(&mut lookup, start());
    for chunk in peers.chunks(100).rev() {
        lookup.learn(Some(&peers[1900].1), chunk.iter().copied());
        assert!(lookup.candidates.len() <= MAX_CANDIDATES);
    }
    assert_eq!(lookup.candidates.iter().take(20).map(|c| c.peer).collect::<Vec<_>>(), ids(&peers[..20]));
    assert_eq!(
        lookup.candidates.iter().filter(|c| c.state != CandidateState::Unasked).count(),
        3,
        "asked ones are kept"
    );
}

/// A network in which everybody knows the `k` closest to any key among those that live, and answers at once.
fn run(n: u64, silent_percent: u64, rules: Rules, seed: u64) -> (Lookup, Vec<PeerId>, usize) {
    let mut rng = crate::rng::Rng::from_u64(seed);
    let peers = by_distance(n);
    let silent: Vec<bool> = peers.iter().map(|_| rng.below(100) < silent_percent).collect();
    let mut lookup = Lookup::new(target(), rules);
    let mut start_with: Vec<_> = (0..20).map(|_| peers[usize::try_from(rng.below(n)).unwrap()]).collect();
    start_with.dedup();
    lookup.learn(None, start_with);
    let mut now = start();
    let (mut asked, mut silent_ones) = (Vec::new(), Vec::<PeerId>::new());
    let mut greatest = 0;
    loop {
        match lookup.next(now, &cold) {
            Next::Done => break,
            Next::Ask(peer, _) => {
                assert!(lookup.burst <= rules.wanted + 2);
                greatest = greatest.max(lookup.in_flight);
                asked.push(peer);
            }
            Next::Wait => {
                let at = rng.below(asked.len().max(1) as u64);
                if asked.is_empty() {
                    match lookup.deadline() {
                        Some(deadline) => now = deadline,
                        // Nobody has answered, so it waits until all have failed.
                        None => silent_ones.drain(..).for_each(|peer| lookup.failed(&peer)),
                    }
                    continue;
                }
                let peer = asked.swap_remove(usize::try_from(at).unwrap());
                let index = peers.iter().position(|(_, p)| *p == peer).unwrap();
                if silent[index] {
                    silent_ones.push(peer);
                    continue;
                }
                lookup.answered(&peer);
                // It knows a few peers in each direction, and its own neighbours well.
                let near = index.saturating_sub(30 + usize::try_from(rng.below(20)).unwrap());
                lookup.learn(Some(&peer), peers[near..].iter().take(20).copied());
            }
        }
    }
    let alive: Vec<_> = peers
        .iter()
        .zip(&silent)
        .filter(|(_, silent)| !**silent)
        .map(|((_, peer), _)| *peer)
        .take(20)
        .collect();
    (lookup, alive, greatest)
}

#[test]
fn in_flight_never_exceeds_alpha_but_for_the_burst() {
    for alpha in [1, 3, 10] {
        for seed in 0..20 {
            let (_, _, greatest) = run(400, 10, exact(20, alpha), seed);
            assert!(greatest <= usize::from(alpha), "α {alpha}, seed {seed}: {greatest}");
        }
    }
}

#[test]
fn without_silent_peers_the_result_is_the_truth() {
    for seed in 0..50 {
        let (lookup, truth, _) = run(300, 0, exact(20, 3), seed);
        let found: Vec<_> = lookup.closest_answered().take(20).map(|(_, peer)| peer).collect();
        assert_eq!(found, truth, "seed {seed}");
    }
}

#[test]
fn it_always_ends_with_the_closest_that_live() {
    cases(64, |rng| {
        let (n, silent, wanted) = (rng.within(1..200), rng.below(60), 1 + rng.place(29));
        let (lookup, _, _) = run(n, silent, exact(wanted, 1 + rng.byte() % 11), rng.next_u64());
        let answered: Vec<_> = lookup.closest_answered().collect();
        assert!(answered.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            lookup.candidates.windows(2).all(|p| (p[0].distance, p[0].peer) < (p[1].distance, p[1].peer))
        );
        let waiting = lookup
            .candidates
            .iter()
            .filter(
                |c| matches!(c.state, CandidateState::Asked(w) if !w.is_late && w.slot != RequestSlot::Free),
            )
            .count();
        assert_eq!(waiting, lookup.in_flight + lookup.burst);
    });
}

/// Something that a lookup is told; what is done to a peer is done to one of those that it knows.
fn disturb(lookup: &mut Lookup, rng: &mut Rng, now: Instant) {
    let known: Vec<_> = lookup.candidates.iter().map(|candidate| candidate.peer).collect();
    let peer = known.get(rng.place(known.len().max(1))).copied();
    match (rng.below(10), peer) {
        (0..3, Some(peer)) => lookup.answered(&peer),
        (3, Some(peer)) => lookup.failed(&peer),
        (4, Some(peer)) => lookup.place(now, &peer, Place::Awaited),
        (5, Some(peer)) => lookup.place(now, &peer, Place::Taken),
        (6, Some(peer)) => lookup.asked_elsewhere(now, &peer, now + SOFT),
        (7, _) => lookup.widen(1),
        (8, _) => lookup.links_changed(&cold),
        _ => {
            let peers: Vec<_> = (0..5).map(|_| keyed(rng.within(1..200))).collect();
            lookup.learn(peer.as_ref(), peers);
        }
    }
}

#[test]
fn nothing_changes_if_it_is_found_out_again_who_is_overdue() {
    cases(64, |rng| {
        let mut lookup = Lookup::new(target(), exact(1 + rng.place(20), 1 + rng.byte() % 6));
        let queued = |peer: &PeerId, phase| PeerStatus {
            queued: peer.to_bytes()[3].is_multiple_of(4),
            ..cold(peer, phase)
        };
        let mut now = start();
        for _ in 0..200 {
            if rng.below(3) == 0 {
                now += SOFT / (1 + u32::from(rng.byte()) % 8);
            }
            if rng.below(2) == 0 {
                disturb(&mut lookup, rng, now);
            }
            let mut other = Lookup { expired_at: None, ..lookup.clone() };
            let at = Moment { now: now + MS * u32::from(rng.byte() % 3), seen: now };
            assert_eq!(lookup.next(at, &queued), other.next(at, &queued));
            assert_eq!(lookup.deadline(), other.deadline());
            let of = |lookup: &Lookup| {
                lookup.candidates.iter().map(|candidate| candidate.state).collect::<Vec<_>>()
            };
            assert_eq!(of(&lookup), of(&other));
        }
    });
}
