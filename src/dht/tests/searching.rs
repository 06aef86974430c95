//! Searches: for the closest peers, for one peer, and pings.

use std::num::{NonZeroU8, NonZeroUsize};

use super::*;
use crate::config::{IPFS, Parallelism};
use crate::dht::op::{
    BootstrapError, ConnectError, Evidence, FindPeerError, FindPeerOk, GetClosestPeersError,
    GetClosestPeersOk, PingError, PingOk, QueryInfo,
};
use crate::error::QueryError;
use crate::event::{Precision, ProgressStep};
use crate::peer::{KadPeer, PeerInfo};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The peer that is looked for; nobody else has its number.
const WANTED: usize = 500;

fn node_with(config: Config, peers: impl IntoIterator<Item = usize>) -> Dht<MemoryStore> {
    let mut dht = new_dht(0, config);
    admit(&mut dht, start(), peers);
    dht
}

/// A node that is connected to so many servers, with numbers from 1.
fn node(peers: usize) -> Dht<MemoryStore> {
    node_with(quiet(), 1..=peers)
}

fn one_at_a_time() -> Config {
    quiet().with_parallelism(Parallelism::Fixed(NonZeroU8::MIN))
}

fn nz(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

fn timed(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<Output> {
    dht.handle_timeout(now);
    outputs(dht)
}

/// Names peers with addresses of choice.
fn name_at(
    dht: &mut Dht<MemoryStore>,
    now: Now,
    id: RequestId,
    named: &[(usize, &[Multiaddr])],
) -> Vec<Output> {
    let named = named.iter().map(|(n, at)| KadPeer {
        multiaddrs: Addresses::collect(&peer(*n), at.iter().cloned()),
        ..named_peer(*n)
    });
    let response = Response::FindNode { closer_peers: named.collect() };
    dht.handle_input(now, Input::ResponseReceived { id, response });
    outputs(dht)
}

/// Tells that a dial has led to a peer, and returns what comes of it.
fn arrive(dht: &mut Dht<MemoryStore>, now: Now, n: usize, dial: DialId) -> Vec<Output> {
    let dial = Some(dial);
    dht.handle_input(now, connected_at(n, address(n), true, dial));
    outputs(dht)
}

fn dial_of(out: &[Output], n: usize) -> DialId {
    let dial = dials(out).into_iter().find(|(_, whom, _)| *whom == Some(peer(n)));
    dial.unwrap_or_else(|| panic!("{n} is not dialled: {out:?}")).0
}

fn request_of(out: &[Output], n: usize) -> RequestId {
    let request = asked(out).into_iter().find(|(to, ..)| *to == peer(n));
    request.unwrap_or_else(|| panic!("{n} is not asked: {out:?}")).1
}

/// Answers every request with the same peers and fails every dial, until nothing more comes.
fn play(dht: &mut Dht<MemoryStore>, now: Now, first: Vec<Output>, named: &[usize]) -> Vec<Output> {
    let (mut all, mut new) = (Vec::new(), first);
    while !new.is_empty() {
        for (_, id, request) in asked(&new) {
            assert!(matches!(request, Request::FindNode { .. }), "{request:?}");
            name(dht, now, id, named);
        }
        for (id, whom, _) in dials(&new) {
            dht.handle_input(now, Input::DialFailed { dial: Some(id), peer: whom, error: unreachable() });
        }
        all.append(&mut new);
        new = outputs(dht);
    }
    all
}

/// The peers that are asked, or dialled in order to be.
fn turned_to(out: &[Output]) -> Vec<PeerId> {
    let dialled = dials(out).into_iter().filter_map(|(_, whom, _)| whom);
    asked(out).into_iter().map(|(to, ..)| to).chain(dialled).collect()
}

fn closest_of(out: &[Output], query: QueryId) -> Vec<PeerInfo> {
    let Some(QueryResult::GetClosestPeers(Ok(GetClosestPeersOk { peers, .. }))) = result_of(out, query)
    else {
        panic!("{out:?}")
    };
    peers
}

fn found(out: &[Output], query: QueryId) -> Option<Result<FindPeerOk, FindPeerError>> {
    let QueryResult::FindPeer(result) = result_of(out, query)? else { panic!("{query} looks for no peer") };
    Some(result)
}

fn ids(peers: &[PeerInfo]) -> Vec<PeerId> {
    peers.iter().map(|peer| peer.peer_id).collect()
}

fn sorted(mut peers: Vec<PeerId>) -> Vec<PeerId> {
    peers.sort();
    peers
}

/// The numbers of some peers by their distance to some bytes.
fn by_distance(peers: impl IntoIterator<Item = usize>, target: &[u8]) -> Vec<usize> {
    let mut peers: Vec<_> = peers.into_iter().collect();
    peers.sort_by_key(|n| Key::sha256(target).distance(&key(*n)));
    peers
}

#[test]
fn a_connected_peer_is_found_at_once() {
    let mut dht = node(3);
    let query = dht.find_peer(start(), peer(2));
    let out = outputs(&mut dht);
    let info = PeerInfo { peer_id: peer(2), addrs: vec![address(2)] };
    assert_eq!(found(&out, query), Some(Ok(FindPeerOk { peer: info, evidence: Evidence::Answered })));
    assert!(turned_to(&out).is_empty() && dht.query(query).is_none());
}

#[test]
fn a_node_finds_itself_at_once() {
    let mut dht = new_dht(0, quiet());
    let (external, listening) = (vec![address(77)], vec![address(0)]);
    dht.handle_input(start(), Input::LocalAddresses { external, listening });
    outputs(&mut dht);
    let query = dht.find_peer(start(), peer(0));
    let info = PeerInfo { peer_id: peer(0), addrs: vec![address(77)] };
    let out = outputs(&mut dht);
    assert_eq!(found(&out, query), Some(Ok(FindPeerOk { peer: info, evidence: Evidence::Answered })));
    assert!(!out.iter().any(|output| matches!(output, Output::AnnounceAddresses { .. })));
}

#[test]
fn nobody_is_found_where_nobody_is_known() {
    let mut dht = new_dht(0, quiet());
    let query = dht.find_peer(start(), peer(WANTED));
    assert_eq!(
        found(&outputs(&mut dht), query),
        Some(Err(FindPeerError::Query {
            cause: QueryError::NoKnownPeers,
            peer: peer(WANTED),
            closest: vec![]
        }))
    );
    let query = dht.find_closest(start(), *b"anything");
    let error = GetClosestPeersError::Query {
        cause: QueryError::NoKnownPeers,
        key: b"anything".to_vec(),
        peers: vec![],
    };
    let result = result_of(&outputs(&mut dht), query);
    assert!(matches!(result, Some(QueryResult::GetClosestPeers(Err(told))) if told == error));
}

#[test]
fn a_peer_that_nobody_knows_is_not_found_but_the_closest_are() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let out = answer_all(&mut dht, start(), &[]);
    let Some(Err(FindPeerError::NotFound { closest })) = found(&out, query) else { panic!("{out:?}") };
    let truth = by_distance(1..=8, &peer(WANTED).to_bytes());
    assert_eq!(ids(&closest)[..3], truth[..3].iter().map(|n| peer(*n)).collect::<Vec<_>>());
    assert!(closest.iter().all(|peer| peer.addrs.len() == 1));
}

#[test]
fn the_closest_of_a_search_that_found_nothing_have_answered() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let out = answer_all(&mut dht, start(), &[]);
    let Some(Err(FindPeerError::NotFound { closest })) = found(&out, query) else { panic!("{out:?}") };
    let answered = turned_to(&out);
    assert!(ids(&closest).iter().all(|peer| answered.contains(peer)), "{closest:?}");
}

#[test]
fn two_reporters_that_name_the_same_address_end_the_search_early() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let first = asked(&outputs(&mut dht));
    assert!(first.len() >= 3);
    name(&mut dht, start(), first[0].1, &[WANTED]);
    let out = outputs(&mut dht);
    assert_eq!(found(&out, query), None, "anybody can say anything");
    dial_of(&out, WANTED);
    name(&mut dht, start(), first[1].1, &[WANTED]);
    let info = PeerInfo { peer_id: peer(WANTED), addrs: vec![address(WANTED)] };
    let ok = FindPeerOk { peer: info, evidence: Evidence::SeveralReports };
    assert_eq!(found(&outputs(&mut dht), query), Some(Ok(ok)), "the others are not waited for");
}

#[test]
fn one_reporter_does_not_end_the_search_but_is_heard_in_the_end() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let first = asked(&outputs(&mut dht));
    name(&mut dht, start(), first[0].1, &[WANTED]);
    let mut out = outputs(&mut dht);
    for (_, id, _) in &first[1..] {
        assert_eq!(found(&out, query), None);
        name(&mut dht, start(), *id, &[]);
        out.extend(outputs(&mut dht));
    }
    let all = play(&mut dht, start(), out, &[]);
    let info = PeerInfo { peer_id: peer(WANTED), addrs: vec![address(WANTED)] };
    let ok = FindPeerOk { peer: info, evidence: Evidence::OneReport };
    assert_eq!(found(&all, query), Some(Ok(ok)), "though it could not be reached");
}

#[test]
fn different_addresses_do_not_confirm_each_other() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let first = asked(&outputs(&mut dht));
    name_at(&mut dht, start(), first[0].1, &[(WANTED, &[address(901)])]);
    let out = name_at(&mut dht, start(), first[1].1, &[(WANTED, &[address(902)])]);
    assert_eq!(found(&out, query), None);
}

#[test]
fn the_search_ends_when_the_peer_itself_answers() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let first = asked(&outputs(&mut dht));
    let out = name_at(&mut dht, start(), first[0].1, &[(WANTED, &[address(901), address(WANTED)])]);
    let dial = dial_of(&out, WANTED);
    let out = arrive(&mut dht, start(), WANTED, dial);
    assert_eq!(found(&out, query), None);
    name(&mut dht, start(), request_of(&out, WANTED), &[]);
    let out = outputs(&mut dht);
    let Some(Ok(FindPeerOk { peer: info, evidence })) = found(&out, query) else { panic!("{out:?}") };
    assert_eq!((info.peer_id, evidence), (peer(WANTED), Evidence::Answered));
    assert_eq!(info.addrs[0], address(WANTED), "where it was met");
}

#[test]
fn the_address_of_a_liar_does_not_displace_the_true_one() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let first = asked(&outputs(&mut dht));
    name_at(&mut dht, start(), first[0].1, &[(WANTED, &[address(901)])]);
    name(&mut dht, start(), first[1].1, &[WANTED]);
    assert_eq!(found(&outputs(&mut dht), query), None);
    name(&mut dht, start(), first[2].1, &[WANTED]);
    let out = outputs(&mut dht);
    let Some(Ok(FindPeerOk { peer: info, evidence })) = found(&out, query) else { panic!("{out:?}") };
    assert_eq!(evidence, Evidence::SeveralReports);
    assert!(info.addrs.contains(&address(WANTED)), "{info:?}");
}

#[test]
fn a_liar_with_many_addresses_does_not_crowd_out_the_true_one() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let first = asked(&outputs(&mut dht));
    let lies: Vec<_> = (900..950).map(address).collect();
    name_at(&mut dht, start(), first[0].1, &[(WANTED, &lies)]);
    name(&mut dht, start(), first[1].1, &[WANTED]);
    name(&mut dht, start(), first[2].1, &[WANTED]);
    let out = outputs(&mut dht);
    let Some(Ok(FindPeerOk { peer: info, evidence })) = found(&out, query) else {
        panic!("two have named the same address: {:?}", dht.query(query))
    };
    assert_eq!(evidence, Evidence::SeveralReports);
    assert!(info.addrs.contains(&address(WANTED)), "{info:?}");
}

#[test]
fn an_answer_of_a_thousand_peers_counts_as_k() {
    let mut dht = node(1);
    dht.find_closest(start(), *b"anything");
    let id = asked(&outputs(&mut dht))[0].1;
    name(&mut dht, start(), id, &(101..1101).collect::<Vec<_>>());
    let first = outputs(&mut dht);
    let all = play(&mut dht, start(), first, &[]);
    assert_eq!(sorted(turned_to(&all)), sorted((101..121).map(peer).collect()));
}

/// Lets two peers name a third one, the second with other addresses, and returns where that is dialled.
fn dialled_after(second: &[Multiaddr]) -> Vec<Multiaddr> {
    let target = b"anything";
    let [a, b, c] = by_distance(1..=3, target)[..] else { panic!("there are three") };
    // The farthest is known first and names both others; the nearest is asked next.
    let mut dht = node_with(one_at_a_time(), [c]);
    dht.find_closest(start(), *target);
    let id = request_of(&outputs(&mut dht), c);
    let out = name_at(&mut dht, start(), id, &[(a, &[address(a)]), (b, &[address(900)])]);
    let dial = dial_of(&out, a);
    let id = request_of(&arrive(&mut dht, start(), a, dial), a);
    let out = name_at(&mut dht, start(), id, &[(b, second)]);
    let (_, whom, at) = dials(&out).pop().expect("the middle one is dialled now");
    assert_eq!(whom, Some(peer(b)));
    at
}

#[test]
fn an_empty_list_does_not_erase_addresses() {
    assert_eq!(dialled_after(&[]), [address(900)]);
}

#[test]
fn the_last_to_name_a_peer_does_not_erase_what_others_said() {
    assert_eq!(dialled_after(&[address(901)]), [address(900), address(901)]);
}

#[test]
fn whoever_answers_and_whoever_asks_are_no_news() {
    let mut dht = node(1);
    let query = dht.find_closest(start(), *b"anything");
    let out = answer_all(&mut dht, start(), &[0, 1, 0, 1]);
    assert_eq!(turned_to(&out), [peer(1)]);
    assert_eq!(ids(&closest_of(&out, query)), [peer(1)]);
}

#[test]
fn the_closest_that_answer_are_the_result_nearest_first_with_their_addresses() {
    let mut dht = node(12);
    let query = dht.find_closest(start(), *b"anything");
    let out = answer_all(&mut dht, start(), &[]);
    let peers = closest_of(&out, query);
    let truth = by_distance(1..=12, b"anything");
    let infos = truth.into_iter().map(|n| PeerInfo { peer_id: peer(n), addrs: vec![address(n)] });
    assert_eq!(peers, infos.collect::<Vec<_>>());
}

#[test]
fn as_many_as_are_wanted_but_never_more_than_k_are_found() {
    let mut dht = node_with(quiet().with_bucket_size(NonZeroU8::new(8).unwrap()), 1..=8);
    for (wanted, count) in [(1, 1), (3, 3), (8, 8), (9, 8), (1000, 8)] {
        let query = dht.find_n_closest(start(), *b"anything", nz(wanted), Precision::Exact);
        let info = dht.query(query).map(|query| query.info().clone());
        let (key, num_results, step) = (b"anything".to_vec(), nz(count), ProgressStep::first());
        assert_eq!(info, Some(QueryInfo::GetClosestPeers { key, num_results, step }));
        let peers = closest_of(&answer_all(&mut dht, start(), &[]), query);
        let truth = by_distance(1..=8, b"anything").into_iter().map(peer).take(count);
        assert_eq!(ids(&peers), truth.collect::<Vec<_>>());
    }
}

#[test]
fn a_near_search_asks_fewer_and_returns_whom_it_did_not_ask() {
    let run = |precision| {
        let mut dht = node(20);
        let query = dht.find_n_closest(start(), *b"anything", nz(20), precision);
        let out = answer_all(&mut dht, start(), &[]);
        (closest_of(&out, query), asked(&out).len())
    };
    let ((exact, by_all), (near, by_some)) = (run(Precision::Exact), run(Precision::Near));
    assert_eq!(exact, near, "all are alive");
    assert_eq!((by_all, near.len()), (20, 20));
    assert!((3..10).contains(&by_some), "{by_some} requests");
}

const TOO_MANY: QueryError = QueryError::TooManyQueries { limit: 2 };

#[test]
fn one_query_too_many_ends_at_once() {
    let mut dht = node_with(quiet().with_max_queries(nz(2)), 1..=3);
    let first = dht.find_closest(start(), *b"anything");
    dht.ping(start(), peer(1));
    let open = outputs(&mut dht);
    let end = |dht: &mut Dht<MemoryStore>, query| {
        let out = outputs(dht);
        assert!(turned_to(&out).is_empty() && dht.query(query).is_none());
        result_of(&out, query).expect("it has ended")
    };
    let query = dht.find_closest(start(), *b"more");
    let error = GetClosestPeersError::Query { cause: TOO_MANY, key: b"more".to_vec(), peers: vec![] };
    assert!(matches!(end(&mut dht, query), QueryResult::GetClosestPeers(Err(told)) if told == error));
    let query = dht.find_peer(start(), peer(WANTED));
    assert!(matches!(
        end(&mut dht, query),
        QueryResult::FindPeer(Err(FindPeerError::Query { cause: TOO_MANY, .. }))
    ));
    let query = dht.ping(start(), peer(1));
    assert!(matches!(end(&mut dht, query), QueryResult::Ping(Err(PingError::Query { cause: TOO_MANY, .. }))));
    let query = dht.connect(start(), address(1));
    assert!(matches!(
        end(&mut dht, query),
        QueryResult::Connect(Err(ConnectError::Query { cause: TOO_MANY, .. }))
    ));
    let query = dht.bootstrap(start()).expect("somebody is known");
    assert!(matches!(
        end(&mut dht, query),
        QueryResult::Bootstrap(Err(BootstrapError::Query { cause: TOO_MANY, .. }))
    ));
    play(&mut dht, start(), open.into_iter().filter(asked_by_find).collect(), &[]);
    assert!(dht.query(first).is_none());
    let query = dht.find_closest(start(), *b"more");
    assert!(dht.query(query).is_some(), "there is room again");
}

fn asked_by_find(output: &Output) -> bool {
    matches!(output, Output::SendRequest { request: Request::FindNode { .. }, .. })
}

/// A search among eight peers of which the two closest have answered after a second.
fn half_done() -> (Dht<MemoryStore>, QueryId, Vec<PeerId>) {
    let config = quiet().with_parallelism(Parallelism::Fixed(NonZeroU8::new(2).unwrap()));
    let config =
        config.with_query_timeout(5 * SECOND).unwrap().with_soft_timeout(9 * SECOND..=9 * SECOND).unwrap();
    let mut dht = node_with(config, 1..=8);
    let query = dht.find_closest(start(), *b"anything");
    let first = asked(&outputs(&mut dht));
    for (_, id, _) in &first {
        name(&mut dht, start() + SECOND, *id, &[]);
    }
    assert!(result_of(&outputs(&mut dht), query).is_none());
    (dht, query, first.into_iter().map(|(to, ..)| to).collect())
}

#[test]
fn a_cancelled_query_says_so_last_and_is_silent_from_then_on() {
    let (mut dht, query, answered) = half_done();
    assert!(dht.cancel(start() + SECOND, query));
    let out = outputs(&mut dht);
    let [
        (
            QueryResult::GetClosestPeers(Err(GetClosestPeersError::Query {
                cause: QueryError::Cancelled,
                key,
                peers,
            })),
            _,
            step,
        ),
    ] = &progress(&out, query)[..]
    else {
        panic!("{out:?}")
    };
    assert!(step.last && key == b"anything" && ids(peers) == answered);
    assert!(!dht.cancel(start() + SECOND, query) && dht.query(query).is_none());
    let mut late = answer_all(&mut dht, start() + 2 * SECOND, &[200]);
    late.extend(timed(&mut dht, start() + 100 * SECOND));
    assert!(progress(&late, query).is_empty(), "{late:?}");
    assert!(dials(&late).iter().all(|(_, whom, _)| *whom != Some(peer(200))), "and asks nobody more");
}

#[test]
fn every_kind_of_query_can_be_cancelled() {
    let mut dht = node(3);
    let queries = [
        dht.find_peer(start(), peer(WANTED)),
        dht.ping(start(), peer(1)),
        dht.connect(start(), address(9)),
        dht.bootstrap(start()).unwrap(),
    ];
    outputs(&mut dht);
    assert!(queries.iter().all(|query| dht.cancel(start(), *query)));
    let out = outputs(&mut dht);
    let [find, ping, connect, join] = queries.map(|query| result_of(&out, query));
    assert!(matches!(
        find,
        Some(QueryResult::FindPeer(Err(FindPeerError::Query { cause: QueryError::Cancelled, .. })))
    ));
    assert!(matches!(
        ping,
        Some(QueryResult::Ping(Err(PingError::Query { cause: QueryError::Cancelled, .. })))
    ));
    assert!(matches!(
        connect,
        Some(QueryResult::Connect(Err(ConnectError::Query { cause: QueryError::Cancelled, .. })))
    ));
    assert!(matches!(
        join,
        Some(QueryResult::Bootstrap(Err(BootstrapError::Query { cause: QueryError::Cancelled, .. })))
    ));
    assert_eq!(dht.queries().count(), 0);
}

#[test]
fn a_finished_query_returns_what_is_there() {
    let (mut dht, query, answered) = half_done();
    assert!(dht.finish(start() + SECOND, query));
    let out = outputs(&mut dht);
    assert_eq!(ids(&closest_of(&out, query)), answered);
    assert_eq!(progress(&out, query).len(), 1);
    assert!(!dht.finish(start() + SECOND, query) && dht.query(query).is_none());
}

#[test]
fn a_finished_search_for_a_peer_returns_its_one_report_or_the_closest() {
    for named in [true, false] {
        let mut dht = node(8);
        let query = dht.find_peer(start(), peer(WANTED));
        let id = asked(&outputs(&mut dht))[0].1;
        name(&mut dht, start(), id, if named { &[WANTED] } else { &[] });
        dht.finish(start(), query);
        match found(&outputs(&mut dht), query) {
            Some(Ok(FindPeerOk { evidence, .. })) => assert!(named && evidence == Evidence::OneReport),
            Some(Err(FindPeerError::NotFound { closest })) => assert!(!named && !closest.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_query_ends_exactly_at_its_deadline_with_what_it_has() {
    let (mut dht, query, answered) = half_done();
    let due = start() + 5 * SECOND;
    assert_eq!(dht.due().map(|deadline| (deadline.at, deadline.reason)), Some((due, "query")));
    assert!(progress(&timed(&mut dht, due - MS), query).is_empty());
    let out = timed(&mut dht, due);
    let [
        (
            QueryResult::GetClosestPeers(Err(GetClosestPeersError::Query {
                cause: QueryError::Timeout,
                key,
                peers,
            })),
            stats,
            step,
        ),
    ] = &progress(&out, query)[..]
    else {
        panic!("{out:?}")
    };
    assert!(step.last && key == b"anything" && ids(peers) == answered);
    assert_eq!((stats.duration(), stats.num_successes(), stats.num_pending()), (Some(5 * SECOND), 2, 6));
}

#[test]
fn a_search_for_a_peer_that_times_out_tells_the_closest_or_the_one_report() {
    for named in [true, false] {
        let config = quiet()
            .with_query_timeout(5 * SECOND)
            .unwrap()
            .with_soft_timeout(9 * SECOND..=9 * SECOND)
            .unwrap();
        let mut dht = node_with(config, 1..=8);
        let query = dht.find_peer(start(), peer(WANTED));
        let id = asked(&outputs(&mut dht))[0].1;
        name(&mut dht, start(), id, if named { &[WANTED] } else { &[] });
        match found(&timed(&mut dht, start() + 5 * SECOND), query) {
            Some(Ok(FindPeerOk { evidence, .. })) => assert!(named && evidence == Evidence::OneReport),
            Some(Err(FindPeerError::Query { cause: QueryError::Timeout, closest, .. })) => {
                assert!(!named && !closest.is_empty())
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn running_queries_can_be_looked_at() {
    let mut dht = node(3);
    let find = dht.find_closest(start(), *b"anything");
    let peer_search = dht.find_peer(start(), peer(WANTED));
    let ping = dht.ping(start(), peer(1));
    let connect = dht.connect(start(), address(9));
    let join = dht.bootstrap(start()).unwrap();
    let infos: BTreeMap<_, _> = dht.queries().map(|query| (query.id(), query.info().clone())).collect();
    let step = ProgressStep::first();
    let expected = [
        (find, QueryInfo::GetClosestPeers { key: b"anything".to_vec(), num_results: nz(20), step }),
        (peer_search, QueryInfo::FindPeer { peer: peer(WANTED) }),
        (ping, QueryInfo::Ping { peer: peer(1) }),
        (connect, QueryInfo::Connect { address: address(9) }),
        (join, QueryInfo::Bootstrap { peer: peer(0), remaining: None, step }),
    ];
    assert_eq!(infos, BTreeMap::from(expected.clone()));
    for (id, info) in expected {
        assert_eq!(dht.query(id).map(|query| query.info().clone()), Some(info));
    }
    assert_eq!(dht.query(find).map(|query| query.stats().num_requests()), Some(3));
    answer_all(&mut dht, start(), &[]);
    assert_eq!(dht.queries().map(|query| query.id()).collect::<Vec<_>>(), [connect]);
}

#[test]
fn a_lookup_that_only_keeps_the_table_is_not_shown() {
    let mut dht = node_with(quiet().with_refresh_interval(Some(600 * SECOND)).unwrap(), 1..=20);
    let out = timed(&mut dht, start() + 700 * SECOND);
    let for_buckets = asked(&out)
        .into_iter()
        .filter(|(_, _, request)| matches!(request, Request::FindNode { key } if key.len() == 32));
    assert!(for_buckets.count() > 0);
    assert_eq!(dht.queries().count(), 0);
    assert!(events(&answer_all(&mut dht, start() + 700 * SECOND, &[])).is_empty());
}

#[test]
fn statistics_tell_what_a_query_has_cost() {
    let target = peer(2).to_bytes();
    let (mut dht, t) = (node(1), start());
    let query = dht.find_closest(t, target);
    let id = request_of(&outputs(&mut dht), 1);
    name(&mut dht, t + 100 * MS, id, &[2, 3]);
    let out = outputs(&mut dht);
    let stats = *dht.query(query).unwrap().stats();
    assert_eq!(
        (stats.num_requests(), stats.num_successes(), stats.num_pending(), stats.num_dials()),
        (3, 1, 2, 2)
    );
    assert_eq!(stats.hops(), 1);
    fail_dial(&mut dht, t + 150 * MS, dial_of(&out, 3), 3, unreachable());
    let id = request_of(&arrive(&mut dht, t + 200 * MS, 2, dial_of(&out, 2)), 2);
    name(&mut dht, t + 300 * MS, id, &[]);
    let out = outputs(&mut dht);
    let [(_, stats, step)] = progress(&out, query)[..] else { panic!("{out:?}") };
    assert!(step.last && step.count == NonZeroUsize::MIN);
    assert_eq!((stats.num_requests(), stats.num_successes(), stats.num_failures()), (3, 2, 1));
    assert_eq!((stats.num_pending(), stats.num_dials(), stats.hops()), (0, 2, 2));
    assert_eq!((stats.duration(), stats.num_soft_timeouts()), (Some(300 * MS), 0));
}

#[test]
fn whoever_cannot_be_asked_is_not_counted() {
    let mut dht = node(1);
    dht.handle_input(start(), Input::ProtocolUnsupported { peer: peer(2) });
    let query = dht.find_closest(start(), *b"anything");
    let out = answer_all(&mut dht, start(), &[2]);
    let stats = progress(&out, query)[0].1;
    assert_eq!((stats.num_requests(), stats.num_failures(), stats.num_dials()), (1, 0, 0), "it is a client");
    let search = |dht: &mut Dht<MemoryStore>| {
        let query = dht.find_closest(start(), *b"anything");
        let first = outputs(dht);
        let stats = progress(&play(dht, start(), first, &[3]), query)[0].1;
        (stats.num_requests(), stats.num_failures(), stats.num_dials())
    };
    assert_eq!(search(&mut dht), (2, 1, 1));
    assert_eq!(search(&mut dht), (1, 0, 0), "it has just failed");
}

#[test]
fn a_slow_peer_shows_in_the_statistics_and_its_late_answer_counts() {
    let config = one_at_a_time().with_soft_timeout(SECOND..=SECOND).unwrap();
    let mut dht = node_with(config, 1..=2);
    let [near, far] = by_distance(1..=2, b"anything")[..] else { panic!() };
    let query = dht.find_closest(start(), *b"anything");
    let slow = request_of(&outputs(&mut dht), near);
    assert_eq!(dht.due().map(|deadline| deadline.at), Some(start() + SECOND));
    let out = timed(&mut dht, start() + SECOND);
    let quick = request_of(&out, far);
    assert_eq!(dht.query(query).unwrap().stats().num_soft_timeouts(), 1);
    name(&mut dht, start() + SECOND, slow, &[]);
    name(&mut dht, start() + SECOND, quick, &[]);
    assert_eq!(ids(&closest_of(&outputs(&mut dht), query)), [peer(near), peer(far)]);
}

/// Which peers are announced, with their addresses.
fn announced(out: &[Output]) -> BTreeMap<PeerId, Vec<Multiaddr>> {
    let announced = |output: &Output| {
        if let Output::AnnounceAddresses { peer, addresses } = output {
            Some((*peer, addresses.clone().into_vec()))
        } else {
            None
        }
    };
    let all: Vec<_> = out.iter().filter_map(announced).collect();
    let count = all.len();
    let all: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(all.len(), count, "nobody twice");
    all
}

#[test]
fn whoever_was_found_is_announced_once_and_remembered() {
    let mut dht = node(3);
    dht.find_closest(start(), *b"anything");
    let out = answer_all(&mut dht, start(), &[]);
    let expected = (1..=3).map(|n| (peer(n), vec![address(n)])).collect();
    assert_eq!(announced(&out), expected);
    dht.find_closest(start(), *b"anything");
    dht.find_peer(start(), peer(1));
    let out = answer_all(&mut dht, start(), &[]);
    assert!(announced(&out).is_empty() && !events(&out).is_empty());
    assert!((1..=3).all(|n| dht.addresses_of(&peer(n)).into_vec() == [address(n)]));
}

#[test]
fn a_peer_that_was_searched_for_is_announced_after_its_result_and_can_be_dialled() {
    let mut dht = node(8);
    let query = dht.find_peer(start(), peer(WANTED));
    let out = answer_all(&mut dht, start(), &[WANTED]);
    assert!(matches!(found(&out, query), Some(Ok(_))));
    assert_eq!(announced(&out).get(&peer(WANTED)), Some(&vec![address(WANTED)]));
    let at = |wanted: fn(&Output) -> bool| out.iter().position(wanted).unwrap();
    let result = |output: &Output| matches!(output, Output::Event(Event::OutboundQueryProgressed { .. }));
    assert!(at(|output| matches!(output, Output::AnnounceAddresses { .. })) > at(result));
    assert_eq!(dht.addresses_of(&peer(WANTED)).into_vec(), [address(WANTED)]);
}

#[test]
fn each_address_of_whoever_is_found_is_announced_once() {
    let mut dht = node(4);
    let [one, other] = [600, 601].map(address);
    for (named, new) in [(&[one.clone()][..], vec![one.clone()]), (&[one, other.clone()], vec![other])] {
        let query = dht.find_peer(start(), peer(WANTED));
        let mut out = outputs(&mut dht);
        for (_, id, _) in asked(&out) {
            out.extend(name_at(&mut dht, start(), id, &[(WANTED, named)]));
        }
        assert!(matches!(
            found(&out, query),
            Some(Ok(FindPeerOk { evidence: Evidence::SeveralReports, .. }))
        ));
        assert_eq!(announced(&out).remove(&peer(WANTED)), Some(new));
    }
}

#[test]
fn a_peer_that_nobody_knows_any_more_is_found_where_it_was_within_a_day_relayed_or_not() {
    let relayed: Multiaddr = format!("/ip4/1.2.3.4/tcp/1/p2p/{}/p2p-circuit", peer(9)).parse().unwrap();
    let remembered = FindPeerOk {
        peer: PeerInfo { peer_id: peer(WANTED), addrs: vec![relayed.clone()] },
        evidence: Evidence::Remembered,
    };
    // Somebody else is asked, or there is nobody to ask.
    for others in [3, 0] {
        let mut dht = node(others);
        learn(&mut dht, start(), WANTED, std::slice::from_ref(&relayed));
        outputs(&mut dht);
        let mut seek = |now: Now| {
            let query = dht.find_peer(now, peer(WANTED));
            let first = outputs(&mut dht);
            found(&play(&mut dht, now, first, &[]), query)
        };
        assert_eq!(seek(start()), Some(Ok(remembered.clone())));
        assert_eq!(seek(start() + Duration::from_secs(23 * 3600)), Some(Ok(remembered.clone())));
        // That it is searched again and again makes nothing younger.
        assert!(matches!(seek(start() + Duration::from_secs(24 * 3600)), Some(Err(_))));
    }
}

#[test]
fn what_the_peer_itself_says_goes_before_what_is_remembered() {
    let mut dht = node(3);
    learn(&mut dht, start(), WANTED, &[address(700)]);
    let query = dht.find_peer(start(), peer(WANTED));
    let mut out = outputs(&mut dht);
    for (_, id, _) in asked(&out) {
        out.extend(name_at(&mut dht, start(), id, &[(WANTED, &[address(701)])]));
    }
    let Some(Ok(ok)) = found(&out, query) else { panic!("{out:?}") };
    assert_eq!(ok.evidence, Evidence::SeveralReports);
    assert_eq!(ok.peer.addrs, [address(701), address(700)]);
}

#[test]
fn a_seed_that_failed_lately_is_asked_when_somebody_names_it_later() {
    let (mut dht, now) = (node(1), start());
    dht.add_address(now, peer(2), address(2));
    dht.ping(now, peer(2));
    for (dial, ..) in dials(&outputs(&mut dht)) {
        fail_dial(&mut dht, now, dial, 2, unreachable());
    }
    outputs(&mut dht);
    let lookup = dht.find_closest(now, b"key".to_vec());
    let first = asked(&outputs(&mut dht));
    assert_eq!(first.len(), 1, "it is left alone");
    let now = now + 6 * SECOND;
    name(&mut dht, now, first[0].1, &[2]);
    outputs(&mut dht);
    assert_eq!(dht.query(lookup).map(|query| query.stats().num_requests()), Some(2));
}

#[test]
fn a_query_is_there_until_its_last_event_has_been_taken() {
    let mut dht = new_dht(0, quiet());
    let key = crate::record::RecordKey::new(b"own");
    dht.start_providing(start(), key.clone()).unwrap();
    outputs(&mut dht);
    // It ends as soon as its first event is taken, with another.
    let query = dht.get_providers(start(), key);
    for is_last in [false, true] {
        assert!(dht.query(query).is_some() && dht.queries().any(|one| one.id() == query));
        let Some(Output::Event(Event::OutboundQueryProgressed { step, .. })) = dht.poll_output() else {
            panic!("there is no event")
        };
        assert_eq!(step.last, is_last);
    }
    assert!(!dht.finish(start(), query) && !dht.cancel(start(), query), "it has ended");
    assert!(dht.query(query).is_none() && dht.queries().next().is_none());
    assert!(outputs(&mut dht).is_empty());
}

#[test]
fn a_query_that_ends_with_its_first_call_is_there_until_its_event_has_been_taken() {
    use crate::dht::op::Command;
    let mut dht = new_dht(0, quiet());
    let key = || crate::record::RecordKey::new(b"key");
    let invalid = crate::record::Record::new(b"", "value");
    let quorum = crate::record::Quorum::One;
    let precision = Precision::Exact;
    for command in [
        Command::Bootstrap,
        Command::FindClosest { key: b"key".to_vec(), count: None, precision },
        Command::FindClosest { key: vec![], count: NonZeroUsize::new(3), precision },
        Command::FindPeer { peer: peer(0) },
        Command::FindPeer { peer: peer(1) },
        Command::Ping { peer: peer(0) },
        Command::Connect { address: "/ip4/127.0.0.1".parse().unwrap() },
        Command::GetRecord { key: key(), quorum: Some(quorum) },
        Command::PutRecord { record: invalid.clone(), copies: None, quorum },
        Command::PutRecordTo { record: invalid, peers: vec![peer(1)], quorum },
        Command::StartProviding { key: crate::record::RecordKey::new(b"") },
        Command::Advertise { key: crate::record::RecordKey::new(b"") },
        Command::GetProviders { key: key() },
        Command::WatchProviders { key: crate::record::RecordKey::new(b"") },
        Command::FindNodeAt { peer: peer(1), key: vec![] },
        Command::GetRecordAt { peer: peer(1), key: crate::record::RecordKey::new(b"") },
    ] {
        let text = format!("{command:?}");
        let id = dht.run(start(), command);
        let seen = dht.query(id).unwrap_or_else(|| panic!("{text}: it is there"));
        assert_eq!(dht.queries().map(|query| query.id()).collect::<Vec<_>>(), [id], "{text}");
        assert_eq!((seen.id(), seen.stats().num_requests()), (id, 0), "{text}");
        assert!(!dht.finish(start(), id) && !dht.cancel(start(), id), "{text}: it has ended");
        let steps: Vec<_> =
            progress(&outputs(&mut dht), id).into_iter().map(|(.., step)| step.last).collect();
        assert_eq!(steps, [true], "{text}");
        assert!(dht.query(id).is_none(), "{text}");
    }
}

#[test]
fn what_others_have_reported_is_not_announced_back_to_them() {
    let mut dht = node(3);
    learn(&mut dht, start(), 2, &[address(2)]);
    outputs(&mut dht);
    dht.find_closest(start(), *b"anything");
    let out = answer_all(&mut dht, start(), &[]);
    assert_eq!(announced(&out).into_keys().collect::<Vec<_>>(), sorted(vec![peer(1), peer(3)]));
}

fn pinged(out: &[Output], query: QueryId) -> Option<Result<PingOk, PingError>> {
    let QueryResult::Ping(result) = result_of(out, query)? else { panic!("{query} is no ping") };
    Some(result)
}

#[test]
fn the_round_trip_of_a_ping_is_measured_without_the_dial() {
    let (mut dht, t) = (node(1), start());
    learn(&mut dht, t, 2, &[address(2)]);
    let query = dht.ping(t, peer(2));
    let dial = dial_of(&outputs(&mut dht), 2);
    let out = arrive(&mut dht, t + SECOND, 2, dial);
    let (_, id, _) = asked(&out).into_iter().find(|(_, _, request)| *request == Request::Ping).unwrap();
    dht.handle_input(t + SECOND + 123 * MS, Input::ResponseReceived { id, response: Response::Pong });
    let ok = PingOk { peer: peer(2), rtt: 123 * MS };
    let out = outputs(&mut dht);
    assert_eq!(pinged(&out, query), Some(Ok(ok)));
    let stats = progress(&out, query)[0].1;
    assert_eq!((stats.num_requests(), stats.num_successes(), stats.num_dials()), (1, 1, 1));
    assert_eq!(stats.duration(), Some(SECOND + 123 * MS));
}

#[test]
fn whoever_ends_the_stream_instead_of_answering_a_ping_is_asked_for_itself() {
    let (mut dht, t) = (node(1), start());
    let query = dht.ping(t, peer(1));
    let id = request_of(&outputs(&mut dht), 1);
    dht.handle_input(t + SECOND, Input::RequestFailed { id, error: RequestError::StreamEnded });
    let out = outputs(&mut dht);
    let own = Request::FindNode { key: peer(1).to_bytes().into() };
    let find =
        asked(&out).into_iter().find(|(_, _, request)| *request == own).expect("everybody answers that").1;
    assert_eq!(pinged(&out, query), None);
    name(&mut dht, t + SECOND + 50 * MS, find, &[]);
    let out = outputs(&mut dht);
    assert_eq!(pinged(&out, query), Some(Ok(PingOk { peer: peer(1), rtt: 50 * MS })));
    let stats = progress(&out, query)[0].1;
    assert_eq!((stats.num_requests(), stats.num_successes(), stats.num_failures()), (2, 1, 1));
}

#[test]
fn whoever_does_not_answer_that_either_has_failed() {
    let (mut dht, t) = (node(1), start());
    let query = dht.ping(t, peer(1));
    let mut out = outputs(&mut dht);
    for _ in 0..2 {
        assert_eq!(pinged(&out, query), None);
        let id = request_of(&out, 1);
        dht.handle_input(t, Input::RequestFailed { id, error: RequestError::StreamEnded });
        out = outputs(&mut dht);
    }
    let error = PingError::Failed { peer: peer(1), source: RequestError::StreamEnded, protocol: IPFS.into() };
    assert_eq!(pinged(&out, query), Some(Err(error)));
}

#[test]
fn a_ping_that_is_not_answered_fails() {
    let (mut dht, t) = (node(1), start());
    let query = dht.ping(t, peer(1));
    outputs(&mut dht);
    let error = PingError::Failed { peer: peer(1), source: RequestError::Timeout, protocol: IPFS.into() };
    assert_eq!(pinged(&timed(&mut dht, t + TIMEOUT), query), Some(Err(error)));
}

#[test]
fn a_peer_that_failed_lately_is_not_a_candidate_again() {
    let (mut dht, t) = (node(2), start());
    let search = |dht: &mut Dht<MemoryStore>, now| {
        let query = dht.find_closest(now, *b"anything");
        let first = outputs(dht);
        let out = play(dht, now, first, &[3]);
        assert_eq!(sorted(ids(&closest_of(&out, query))), sorted(vec![peer(1), peer(2)]));
        dials(&out).len()
    };
    assert_eq!(search(&mut dht, t), 1);
    assert_eq!([search(&mut dht, t + SECOND), search(&mut dht, t + 5 * SECOND - MS)], [0, 0]);
    assert_eq!(search(&mut dht, t + 5 * SECOND), 1);
}

#[test]
fn when_everybody_failed_lately_everybody_is_asked_again() {
    let (mut dht, t) = (node(3), start());
    for n in 1..=3 {
        lose(&mut dht, t, n);
    }
    for _ in 0..3 {
        let query = dht.find_closest(t, *b"anything");
        let first = outputs(&mut dht);
        let out = play(&mut dht, t, first, &[]);
        assert_eq!(sorted(turned_to(&out)), sorted((1..=3).map(peer).collect()));
        let Some(QueryResult::GetClosestPeers(Err(error))) = result_of(&out, query) else {
            panic!("{out:?}")
        };
        assert_eq!(error.to_string(), "nobody has answered: 3 of 3: the peer could not be reached");
    }
}

#[test]
fn seeds_are_candidates_of_every_lookup() {
    let (mut dht, mut now) = (node(3), start());
    dht.add_address(now, peer(9), address(9));
    let dial = dial_of(&outputs(&mut dht), 9);
    fail_dial(&mut dht, now, dial, 9, unreachable());
    for target in [&b"one"[..], b"two", b"three"] {
        now += 1000 * SECOND;
        dht.find_closest(now, target);
        let first = outputs(&mut dht);
        let out = play(&mut dht, now, first, &[]);
        let dialled = dials(&out).into_iter().find(|(_, whom, _)| *whom == Some(peer(9)));
        assert_eq!(dialled.map(|(_, _, at)| at), Some(vec![address(9)]), "however silent it is");
    }
}

#[test]
fn the_first_requests_go_to_the_closest_as_many_as_are_configured() {
    for alpha in [1, 3, 10] {
        let parallelism = Parallelism::Fixed(NonZeroU8::new(alpha).unwrap());
        let mut dht = node_with(quiet().with_parallelism(parallelism), 1..=15);
        let alpha = usize::from(alpha);
        dht.find_closest(start(), *b"anything");
        let first = asked(&outputs(&mut dht));
        let closest = by_distance(1..=15, b"anything").into_iter().take(alpha).map(peer);
        assert_eq!(first.iter().map(|(to, ..)| *to).collect::<Vec<_>>(), closest.collect::<Vec<_>>());
        let second = by_distance(1..=15, b"anything")[alpha - 1];
        let id = first.iter().find(|(to, ..)| *to == peer(second)).unwrap().1;
        if alpha > 1 {
            name(&mut dht, start(), id, &[]);
            let next = by_distance(1..=15, b"anything")[alpha];
            let sent: Vec<_> = asked(&outputs(&mut dht)).into_iter().map(|(to, ..)| to).collect();
            assert_eq!(sent, [peer(next)], "a free slot goes to the next");
        }
    }
}

#[test]
fn a_connected_peer_is_asked_before_one_as_close_that_must_be_dialled() {
    let (mut alike, mut apart) = (0, 0);
    for target in 0..100u32 {
        let target = target.to_be_bytes();
        let order = by_distance(1..=30, &target);
        let bucket = |n: usize| Key::sha256(&target).distance(&key(n)).bucket();
        let mut dht = node_with(one_at_a_time(), 1..=30);
        lose(&mut dht, start(), order[0]);
        dht.find_closest(start(), target);
        let turned_to = turned_to(&outputs(&mut dht));
        if bucket(order[0]) == bucket(order[1]) {
            alike += 1;
            assert_eq!(turned_to, [peer(order[1])]);
        } else {
            apart += 1;
            assert_eq!(turned_to, [peer(order[0])], "a closer one is worth a dial");
        }
    }
    assert!(alike > 10 && apart > 10, "{alike} {apart}");
}

#[test]
fn a_peer_that_was_met_before_is_asked_where_it_was() {
    let mut net = Net::new(3, &Config::default());
    // Node 0 knows node 2 only by an address; the others have never heard of it.
    net.add_address(0, 1);
    net.run_for(5 * SECOND);
    net.input(0, Input::AddressesLearned { peer: peer(2), addresses: vec![address(2)] });
    net.with(0, |dht, now| dht.remove_peer(now, peer(2)));
    let id = net.with(0, |dht, now| dht.find_peer(now, peer(2)));
    let (QueryResult::FindPeer(Ok(found)), _) = net.result(0, id) else { panic!("it is not found") };
    assert_eq!((found.peer.addrs, found.evidence), (vec![address(2)], crate::dht::op::Evidence::Answered));
}

#[test]
fn no_bytes_cannot_be_looked_up_and_nobody_pings_himself() {
    let mut net = Net::new(2, &Config::default());
    net.add_address(0, 1);
    net.run_for(5 * SECOND);
    let id = net.with(0, |dht, now| dht.find_closest(now, Vec::new()));
    let (result, _) = net.result(0, id);
    let empty = QueryResult::GetClosestPeers(Err(crate::dht::op::GetClosestPeersError::EmptyKey));
    assert_eq!(format!("{result:?}"), format!("{empty:?}"));
    let dials = net.dials;
    let id = net.with(0, |dht, now| dht.ping(now, peer(0)));
    let (QueryResult::Ping(result), _) = net.result(0, id) else { panic!("another result") };
    assert!(result.is_err());
    assert_eq!(net.dials, dials);
}
