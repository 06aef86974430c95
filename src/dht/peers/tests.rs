use std::num::NonZeroUsize;

use super::*;
use crate::dht::io::ConnectionId;
use crate::dht::io::DialFailure;
use crate::dht::tests::{MS, SECOND, address, peer, unreachable};
use crate::query::rtt::Era;
use crate::time::start;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Peers of whom only so many that are idle are remembered.
fn remembering(max: usize) -> Peers {
    let config = Config::default().with_max_known_peers(NonZeroUsize::new(max).unwrap());
    Peers::new(&Local::new(peer(0), Key::of_peer(&peer(0), config.key_hash)), &config)
}

fn sweep(peers: &mut Peers, now: Instant) {
    peers.sweep(now, |_, _| false);
}

fn ask(peers: &mut Peers, now: Instant, n: usize, urgency: Urgency) -> Outputs {
    let mut out = VecDeque::new();
    peers.request(now, peer(n), &Addresses::empty(), Request::Ping, (Requester::Check, urgency), &mut out);
    out
}

fn connect(peers: &mut Peers, now: Instant, n: usize) -> Outputs {
    let mut out = VecDeque::new();
    peers.connected(now, (peer(n), ConnectionId(n as u64)), (&address(n), &address(n), true), None, &mut out);
    out
}

fn errors(peers: &mut Peers) -> Vec<RequestError> {
    std::iter::from_fn(|| peers.next_outcome()).filter_map(|outcome| outcome.result.err()).collect()
}

#[test]
fn requests_beyond_a_thousand_waiting_ones_fail_at_once_and_not_by_the_peer() {
    let (mut peers, now) = (remembering(1), start());
    connect(&mut peers, now, 1);
    let sent = (0..32 + 1024).map(|_| ask(&mut peers, now, 1, Urgency::Forced).len()).sum::<usize>();
    assert_eq!((sent, errors(&mut peers)), (32, vec![]));
    assert!(ask(&mut peers, now, 1, Urgency::Forced).is_empty());
    assert_eq!(errors(&mut peers), [RequestError::Overloaded]);
    assert!(peers.get(&peer(1)).is_some_and(|known| known.failures.is_none()));
}

#[test]
fn requests_that_are_overdue_take_no_room() {
    let (mut peers, now) = (remembering(100), start());
    for n in 1..=8 {
        connect(&mut peers, now, n);
        (0..32).for_each(|_| drop(ask(&mut peers, now, n, Urgency::Forced)));
    }
    assert!(!peers.has_room(now) && !peers.has_room(now + peers.patience - MS));
    assert!(peers.has_room(now + peers.patience), "nobody waits for silent ones");
    // Where others are fast, a busy node's requests are slow before they are silent.
    peers.patience = 5 * MS;
    assert!(!peers.has_room(now + SECOND - MS) && peers.has_room(now + SECOND));
}

#[test]
fn an_answer_counts_as_recent_for_a_day() {
    let mut peers = remembering(1);
    peers.remember(start(), peer(1));
    let second = peers.known.second(start());
    assert!(!peers.is_proven(start(), &peer(1)));
    peers.get_mut(&peer(1)).unwrap().answered(second, MS, Era::default());
    assert!(peers.is_proven(start() + DAY - MS, &peer(1)));
    assert!(!peers.is_proven(start() + DAY, &peer(1)));
}

#[test]
fn the_back_off_doubles_once_for_failures_at_once_and_ends_with_an_answer() {
    let (mut peers, mut now) = (remembering(1), start());
    let second = peers.known.second(now);
    let known = peers.remember(now, peer(1));
    for pause in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
        (0..3).for_each(|_| known.failed(now, None));
        assert!(known.is_backed_off(now + pause * SECOND - MS, None), "{pause}");
        now += pause * SECOND;
        assert!(!known.is_backed_off(now, None), "{pause}");
    }
    known.answered(second, MS, Era::default());
    known.failed(now, None);
    assert!(known.is_backed_off(now, None) && !known.is_backed_off(now + 5 * SECOND, None));
}

#[test]
fn who_is_in_a_hurry_does_not_mind_the_back_off() {
    let mut peers = remembering(10);
    let Some(Output::Dial { id, .. }) = ask(&mut peers, start(), 1, Urgency::Patient).pop_front() else {
        panic!()
    };
    peers.dial_failed(start(), Some(id), Some(peer(1)), &unreachable(), &mut VecDeque::new());
    assert_eq!(errors(&mut peers), [RequestError::Unreachable]);
    assert!(ask(&mut peers, start(), 1, Urgency::Patient).is_empty());
    assert_eq!(errors(&mut peers), [RequestError::BackedOff]);
    assert_eq!(ask(&mut peers, start(), 1, Urgency::Forced).len(), 1);
    assert!(errors(&mut peers).is_empty());
}

#[test]
fn those_heard_of_longest_ago_are_forgotten_first() {
    let mut peers = remembering(100);
    for n in 0..200 {
        peers.remember(start() + MS * u32::try_from(n).unwrap(), peer(n));
    }
    sweep(&mut peers, start() + SECOND);
    assert_eq!(peers.len(), 100);
    assert!((100..200).all(|n| peers.get(&peer(n)).is_some()));
}

#[test]
fn of_many_heard_of_at_once_as_many_as_configured_are_remembered() {
    let mut peers = remembering(100);
    for n in 0..200 {
        peers.remember(start(), peer(n));
    }
    sweep(&mut peers, start());
    assert_eq!(peers.len(), 100);
}

#[test]
fn whoever_is_connected_asked_or_needed_is_not_forgotten() {
    let mut peers = remembering(1);
    (0..50).for_each(|n| drop(connect(&mut peers, start(), n)));
    (50..60).for_each(|n| drop(ask(&mut peers, start(), n, Urgency::Patient)));
    for n in 60..200 {
        peers.remember(start() + MS * u32::try_from(n).unwrap(), peer(n));
    }
    peers.sweep(start() + 2 * DAY, |_, id| *id == peer(70));
    assert!((0..60).chain([70]).all(|n| peers.get(&peer(n)).is_some()));
    assert_eq!(peers.len(), 61, "all others are a day old");
}

#[test]
fn nobody_who_is_connected_is_dialled() {
    let mut peers = remembering(10);
    assert!(connect(&mut peers, start(), 1).is_empty());
    let out = ask(&mut peers, start(), 1, Urgency::Patient);
    assert!(matches!(out.front(), Some(Output::SendRequest { to, .. }) if *to == peer(1)));
    assert_eq!((out.len(), peers.requests()), (1, 1));
}

#[test]
fn the_time_a_dial_took_is_learnt_from_once() {
    let mut peers = remembering(10);
    let Some(Output::Dial { id, .. }) = ask(&mut peers, start(), 1, Urgency::Patient).pop_front() else {
        panic!()
    };
    let mut expected = |now, dial| {
        peers.connected(
            now,
            (peer(1), ConnectionId(1)),
            (&address(1), &address(1), true),
            dial,
            &mut VecDeque::new(),
        );
        let soft = peers.estimator().soft_timeout(None, Phase::Hopping);
        soft.dialled - soft.connected
    };
    assert_eq!(
        expected(start() + SECOND, Some(id)),
        SECOND * 3 / 2,
        "as long as the longest and half as long again"
    );
    assert_eq!(expected(start() + 2 * SECOND, Some(id)), SECOND * 3 / 2);
    assert_eq!(expected(start() + 2 * SECOND, None), SECOND * 3 / 2);
}

#[test]
fn a_blocked_peer_is_left_alone_for_twice_as_long_each_time_and_a_connection_ends_that() {
    let (mut peers, mut now) = (remembering(1), start());
    let known = peers.remember(now, peer(1));
    assert!((0..2).all(|_| known.denied_alone(now).is_none()), "three times make it sure");
    for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 24 * 60, 24 * 60] {
        let until = now + minutes * 60 * SECOND;
        assert_eq!(known.denied_alone(now), Some(until));
        assert_eq!(known.denied_alone(now), None, "while it lasts nothing is added");
        assert!(
            known.refusal(until - MS, None, Urgency::Patient).is_some()
                && known.refusal(until, None, Urgency::Patient).is_none()
        );
        now = until;
    }
    connect(&mut peers, now, 1);
    let known = peers.get_mut(&peer(1)).unwrap();
    assert!((0..2).all(|_| known.denied_alone(now).is_none()));
}

#[test]
fn what_is_kept_of_dials_that_are_over_is_nothing() {
    let (mut peers, now) = (remembering(1000), start());
    for n in 1..200 {
        let out = ask(&mut peers, now, n, Urgency::Patient);
        let failed = DialFailure::Denied;
        for output in out {
            if let Output::Dial { id, peer, .. } = output {
                let error = if n % 3 == 0 { &failed } else { &unreachable() };
                peers.dial_failed(now, Some(id), peer, error, &mut VecDeque::new());
            }
        }
    }
    let mut out = VecDeque::new();
    for second in 1..30 {
        peers.handle_timeout(now + second * SECOND, &mut out);
        assert!(peers.deadline().is_none_or(|at| at > now + second * SECOND));
    }
    assert_eq!((peers.requests(), peers.dials()), (0, 0));
    assert!(peers.dials.is_empty_for_test());
}
