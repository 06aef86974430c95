use std::collections::BTreeMap;

use super::*;
use crate::query::lookup::tests::{MS, by_distance, cold, exact, fixed, peer, target};
use crate::rng::Rng;
use crate::rng::cases::cases;
use crate::time::start;

fn asks(query: &mut Disjoint) -> Vec<PeerId> {
    std::iter::from_fn(|| match query.next(start(), &cold) {
        Next::Ask(peer, _) => Some(peer),
        Next::Wait | Next::Done => None,
    })
    .collect()
}

#[test]
fn peers_are_dealt_out_and_nobody_is_asked_twice() {
    let peers = by_distance(12);
    let mut query = Disjoint::new(target(), exact(3, 1), 3, peers.iter().copied());
    let mut first = asks(&mut query);
    first.sort();
    let mut expected: Vec<_> = peers[..3].iter().map(|(_, peer)| *peer).collect();
    expected.sort();
    assert_eq!(first, expected, "each path begins with its own closest");
    // All three name the same two; each is asked by one path only.
    for (_, peer) in &peers[..3] {
        query.answered(peer, peers[3..5].iter().copied());
    }
    let second = asks(&mut query);
    let mut unique = second.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), second.len());
}

#[test]
fn a_peer_that_is_named_twice_is_dealt_out_once() {
    let peers = by_distance(3);
    let query = Disjoint::new(target(), exact(5, 1), 2, [peers[0], peers[1], peers[0], peers[2]]);
    let knows = |path: usize| [0, 1, 2].map(|at| query.paths[path].knows(&peers[at].1));
    assert_eq!([knows(0), knows(1)], [[true, false, true], [false, true, false]]);
    assert_eq!(Disjoint::new(target(), exact(5, 1), 3, [peers[0]; 3]).paths.len(), 1);
}

#[test]
fn what_a_liar_names_stays_in_its_path() {
    let peers = by_distance(40);
    let mut query = Disjoint::new(target(), exact(5, 1), 2, peers[30..32].iter().copied());
    assert_eq!(asks(&mut query).len(), 2);
    query.answered(&peers[30].1, peers[..3].iter().copied());
    assert!(query.paths[0].knows(&peers[0].1) != query.paths[1].knows(&peers[0].1));
}

#[test]
fn more_paths_than_peers_is_no_problem() {
    let mut query = Disjoint::new(target(), exact(5, 2), 8, by_distance(2));
    assert_eq!(query.paths.len(), 2);
    for peer in asks(&mut query) {
        query.answered(&peer, []);
    }
    assert_eq!(query.next(start(), &cold), Next::Done);
    assert_eq!(query.closest_answered(20).len(), 2);
    assert_eq!(Disjoint::new(target(), exact(5, 2), 8, []).next(start(), &cold), Next::Done);
}

#[test]
fn a_failure_counts_in_every_path() {
    let peers = by_distance(4);
    let mut query = Disjoint::new(target(), exact(4, 1), 2, peers[..2].iter().copied());
    asks(&mut query);
    query.answered(&peers[0].1, [peers[2]]);
    query.answered(&peers[1].1, [peers[2]]);
    assert_eq!(asks(&mut query), [peers[2].1]);
    query.failed(&peers[2].1);
    assert_eq!(query.next(start(), &cold), Next::Done);
    let left: Vec<_> = peers[..2].iter().map(|(_, peer)| *peer).collect();
    assert_eq!(query.closest_answered(4), left);
    assert_eq!(query.closest_not_failed(4), left);
    assert_eq!((query.counts().requests, query.counts().failed), (3, 1));
}

/// Runs a query against honest peers that know their neighbourhood, and against liars that name only liars.
fn run(paths: usize, liar_percent: u64, seed: u64) -> (Disjoint, BTreeMap<PeerId, u32>, Vec<PeerId>) {
    let mut rng = Rng::from_u64(seed);
    let peers = by_distance(400);
    let lies: Vec<bool> = peers.iter().map(|_| rng.below(100) < liar_percent).collect();
    let liars: Vec<_> = peers.iter().zip(&lies).filter(|(_, lies)| **lies).map(|(peer, _)| *peer).collect();
    let start_with: Vec<_> = (0..20).map(|_| peers[200 + usize::try_from(rng.below(200)).unwrap()]).collect();
    let mut query =
        Disjoint::new(target(), Rules { parallelism: fixed(3), ..exact(20, 3) }, paths, start_with);
    let mut asked = BTreeMap::new();
    let mut open = Vec::new();
    let mut now = start();
    loop {
        match query.next(now, &cold) {
            Next::Done => break,
            Next::Ask(peer, _) => {
                *asked.entry(peer).or_insert(0) += 1;
                open.push(peer);
            }
            Next::Wait if open.is_empty() => now = query.deadline().expect("it waits for something"),
            Next::Wait => {
                now += MS;
                let peer = open.swap_remove(usize::try_from(rng.below(open.len() as u64)).unwrap());
                let index = peers.iter().position(|(_, p)| *p == peer).unwrap();
                if lies[index] {
                    query.answered(&peer, liars.iter().take(20).copied());
                } else {
                    let near = index / 8;
                    query.answered(&peer, peers[near..].iter().take(20).copied());
                }
            }
        }
    }
    let honest = peers.iter().zip(&lies).take(20).filter(|(_, lies)| !**lies).map(|((_, p), _)| *p).collect();
    (query, asked, honest)
}

#[test]
fn liars_on_one_path_do_not_mislead_the_others() {
    let reached = |paths| {
        (0..100)
            .filter(|seed| {
                let (query, _, honest) = run(paths, 20, *seed);
                query.closest_answered(40).iter().any(|peer| honest.contains(peer))
            })
            .count()
    };
    assert!(reached(4) >= 99, "{}", reached(4));
}

#[test]
fn honest_paths_meet_and_share_the_closest() {
    let (query, asked, truth) = run(4, 0, 1);
    assert_eq!(query.closest_answered(20), truth);
    assert!(asked.len() < 80, "four paths cost {} requests, not four times one path's", asked.len());
    assert!(query.hops() >= 2);
}

#[test]
fn nobody_is_asked_twice_whatever_happens() {
    cases(32, |rng| {
        let (query, asked, _) = run(1 + rng.place(7), rng.below(50), rng.next_u64());
        assert!(asked.values().all(|times| *times == 1));
        assert_eq!(query.counts().requests as usize, asked.len());
        assert!(!query.knows(&peer(100_000)));
    });
}
