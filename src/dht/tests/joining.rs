//! Joining the network: when, how, and what the application is told.

use super::*;
use crate::config::{IPFS, Joining};
use crate::dht::op::{BootstrapError, BootstrapOk, ConnectError, ConnectOk, GetClosestPeersError, QueryInfo};
use crate::error::{AddressError, Fates, QueryError, SeedOutcome};
use crate::key::BucketIndex;
use crate::peer::PeerInfo;
use crate::region::size::SizeEstimator;
use crate::routing::bootstrap::buckets_to_look_up;

/// How long a node waits for more seeds after the first.
const GATHER: Duration = Duration::from_millis(50);

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// A node that joins by itself.
fn node() -> Dht<MemoryStore> {
    new_dht(0, Config::default().with_refresh_interval(None).unwrap())
}

fn timed(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<Output> {
    dht.handle_timeout(now);
    outputs(dht)
}

fn arrive(dht: &mut Dht<MemoryStore>, now: Now, n: usize, dial: DialId) {
    let dial = Some(dial);
    dht.handle_input(now, connected_at(n, address(n), true, dial));
}

/// The join that runs.
fn join_of(dht: &Dht<MemoryStore>) -> Option<QueryId> {
    let mut joins = dht.queries().filter(|query| matches!(query.info(), QueryInfo::Bootstrap { .. }));
    joins.next().map(|query| query.id())
}

/// What the events say of joins, one after another.
fn steps<'a>(
    events: impl IntoIterator<Item = &'a Event>,
) -> Vec<(Result<BootstrapOk, BootstrapError>, usize, bool)> {
    let mut steps = Vec::new();
    for event in events {
        if let Event::OutboundQueryProgressed { result: QueryResult::Bootstrap(result), step, .. } = event {
            steps.push((result.clone(), step.count.get(), step.last));
        }
    }
    steps
}

/// Fails every dial until nothing more is dialled, and returns all outputs.
fn fail_all(dht: &mut Dht<MemoryStore>, now: Now, first: Vec<Output>) -> Vec<Output> {
    let (mut all, mut new) = (Vec::new(), first);
    while !new.is_empty() {
        assert!(asked(&new).is_empty(), "nobody is connected");
        for (id, whom, _) in dials(&new) {
            dht.handle_input(now, Input::DialFailed { dial: Some(id), peer: whom, error: unreachable() });
        }
        all.append(&mut new);
        new = outputs(dht);
    }
    all
}

#[test]
fn a_node_joins_by_itself_soon_after_its_first_seed() {
    let (mut dht, now) = (node(), start());
    assert_eq!(dht.due(), None);
    assert_eq!(dht.add_address(now, peer(1), address(1)), RoutingUpdate::Pending);
    let [(dial, Some(whom), _)] = dials(&outputs(&mut dht))[..] else { panic!("it is checked at once") };
    assert_eq!(whom, peer(1));
    assert_eq!(dht.due(), Some(Due { at: now + GATHER, reason: "join" }));
    dht.add_address(now + 30 * MS, peer(2), address(2));
    outputs(&mut dht);
    timed(&mut dht, now + GATHER - MS);
    assert_eq!(join_of(&dht), None);
    timed(&mut dht, now + GATHER);
    let join = join_of(&dht).expect("the time is up");
    assert_eq!(dht.query(join).unwrap().stats().num_requests(), 2, "by both");
    arrive(&mut dht, now + GATHER, 1, dial);
    assert!(asked(&outputs(&mut dht)).iter().any(|(to, _, request)| {
        *to == peer(1) && *request == Request::FindNode { key: peer(0).to_bytes().into() }
    }));
}

#[test]
fn a_node_joins_by_itself_when_the_first_peer_enters_its_table() {
    let (mut dht, now) = (node(), start());
    admit(&mut dht, now, [1]);
    assert_eq!(dht.due(), Some(Due { at: now + GATHER, reason: "join" }));
    timed(&mut dht, now + GATHER);
    assert!(join_of(&dht).is_some());
}

#[test]
fn a_seed_with_several_addresses_is_checked_once() {
    let (mut dht, now) = (node(), start());
    for n in 1..9 {
        assert_eq!(dht.add_address(now, peer(1), address(n)), RoutingUpdate::Pending);
    }
    let [(dial, ..)] = dials(&outputs(&mut dht))[..] else { panic!("one dial is enough") };
    arrive(&mut dht, now, 1, dial);
    assert_eq!(asked(&outputs(&mut dht)).len(), 1);
}

#[test]
fn each_step_of_a_join_is_told_and_the_first_says_what_became_of_the_seeds() {
    let mut net = Net::new(60, &Config::default());
    net.join_all(100 * MS);
    let n = net.add(Config::default());
    net.add_address(n, 0);
    net.kill(1);
    net.add_address(n, 1);
    net.run_for(20 * SECOND);
    let steps = steps(&net.nodes[n].events);
    assert!(steps.len() >= 2, "{steps:?}");
    for (at, (result, count, last)) in steps.iter().enumerate() {
        let BootstrapOk { peer: own, num_remaining, outcomes } = result.as_ref().expect("somebody answers");
        assert_eq!((*own, *count, *last), (peer(n), at + 1, at + 1 == steps.len()));
        assert_eq!(usize::try_from(*num_remaining), Ok(steps.len() - 1 - at), "it counts down to nothing");
        assert_eq!(outcomes.is_empty(), at > 0);
    }
    let Ok(BootstrapOk { outcomes, .. }) = &steps[0].0 else { panic!("{steps:?}") };
    let expected = [
        SeedOutcome { peer: peer(0), result: Some(Ok(())) },
        SeedOutcome { peer: peer(1), result: Some(Err(RequestError::Unreachable)) },
    ];
    assert_eq!(*outcomes, expected);
}

/// A node that joins on request only, with as many of 200 connected peers in its table as find room.
fn full(config: Config) -> Dht<MemoryStore> {
    let mut dht = new_dht(0, config.with_joining(Joining::OnRequest));
    for n in 1..200 {
        connect_at(&mut dht, start(), n, address(n));
        answer_all(&mut dht, start(), &[n + 1]);
    }
    dht
}

/// The random keys that are looked up, with the bucket in which each hashes.
fn looked_up(out: &[Output]) -> BTreeMap<Vec<u8>, BucketIndex> {
    let mut keys = BTreeMap::new();
    for (_, _, request) in asked(out) {
        let Request::FindNode { key: asked } = request else { panic!("{request:?}") };
        if PeerId::from_bytes(&asked).is_err() {
            let bucket = key(0).distance(&Key::sha256(&asked)).bucket().unwrap();
            keys.insert(asked.to_vec(), bucket);
        }
    }
    keys
}

#[test]
fn the_own_id_is_looked_up_and_then_every_bucket_farther_than_the_closest_neighbour_once() {
    let (mut dht, now) = (full(Config::default()), start());
    let expected = buckets_to_look_up(dht.table());
    let nearest = dht.table().buckets().next().unwrap().index();
    assert_eq!(expected.len(), usize::try_from(nearest.prefix()).unwrap());
    let join = dht.bootstrap(now).unwrap();
    let first = outputs(&mut dht);
    let own = Request::FindNode { key: peer(0).to_bytes().into() };
    assert!(asked(&first).iter().all(|(_, _, request)| *request == own) && !asked(&first).is_empty());
    for (_, id, _) in asked(&first) {
        name(&mut dht, now, id, &[]);
    }
    let out = answer_all(&mut dht, now, &[]);
    let keys = looked_up(&out);
    assert_eq!(keys.len(), expected.len(), "one key for each");
    assert_eq!(keys.into_values().collect::<BTreeSet<_>>(), expected.iter().copied().collect());
    let told = steps(&events(&out));
    let progress = progress(&out, join);
    assert_eq!((told.len(), progress.len()), (1 + expected.len(), told.len()));
    let stats = progress.last().unwrap().1;
    assert_eq!(usize::try_from(stats.num_requests()).unwrap(), asked(&first).len() + asked(&out).len());
    assert_eq!((stats.num_failures(), stats.num_dials()), (0, 0));
}

#[test]
fn how_far_a_join_is_can_be_looked_at() {
    let (mut dht, now) = (full(Config::default()), start());
    let join = dht.bootstrap(now).unwrap();
    let remaining = |dht: &Dht<MemoryStore>| {
        let query = dht.query(join)?;
        let QueryInfo::Bootstrap { peer: own, remaining, .. } = query.info() else { panic!("{query:?}") };
        assert_eq!(*own, peer(0));
        Some(*remaining)
    };
    assert_eq!(remaining(&dht), Some(None));
    let mut seen = BTreeSet::new();
    while let Some(output) = dht.poll_output() {
        for (_, id, _) in asked(&[output]) {
            name(&mut dht, now, id, &[]);
        }
        seen.extend(remaining(&dht).flatten());
    }
    let count = u32::try_from(buckets_to_look_up(dht.table()).len()).unwrap();
    assert!(count > 2 && seen == (1..=count).collect(), "{seen:?}");
    assert_eq!(remaining(&dht), None, "it is over");
}

#[test]
fn a_node_that_knows_nobody_cannot_join_and_says_nothing() {
    let (mut dht, now) = (node(), start());
    assert!(dht.bootstrap(now).is_err());
    assert!(outputs(&mut dht).is_empty());
    assert_eq!((dht.queries().count(), dht.due()), (0, None));
}

#[test]
fn a_join_that_nobody_answers_fails_and_tells_why() {
    let (mut dht, now) = (node(), start());
    dht.add_address(now, peer(1), address(1));
    dht.add_address(now, peer(2), address(2));
    let join = dht.bootstrap(now).unwrap();
    let mut first = outputs(&mut dht);
    let (dial, ..) = dials(&first).into_iter().find(|(_, whom, _)| *whom == Some(peer(2))).unwrap();
    first.retain(|output| !matches!(output, Output::Dial { id, .. } if *id == dial));
    fail_dial(&mut dht, now, dial, 2, DialFailure::Refused);
    let out = fail_all(&mut dht, now, first);
    let outcome = |n, error| SeedOutcome { peer: peer(n), result: Some(Err(error)) };
    let outcomes = vec![outcome(1, RequestError::Unreachable), outcome(2, RequestError::DialRefused)];
    let failed = vec![(peer(2), RequestError::DialRefused), (peer(1), RequestError::Unreachable)];
    let fates = Fates { failed, pending: 0, protocol: IPFS.into() };
    assert_eq!(steps(&events(&out)), [(Err(BootstrapError::NoAnswer { fates, outcomes }), 1, true)]);
    assert!(dht.query(join).is_none());
}

#[test]
fn a_join_that_nobody_answers_is_tried_again_with_doubling_pauses() {
    let (mut dht, mut now) = (node(), start());
    dht.add_address(now, peer(1), address(1));
    let first = outputs(&mut dht);
    fail_all(&mut dht, now, first);
    now += GATHER;
    for expected in [2u32, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
        let out = timed(&mut dht, now);
        assert!(dials(&out).iter().any(|(_, whom, _)| *whom == Some(peer(1))), "though it failed lately");
        let out = fail_all(&mut dht, now, out);
        assert!(matches!(&steps(&events(&out))[..], [(Err(BootstrapError::NoAnswer { .. }), _, true)]));
        let next = dht.due().expect("it tries again");
        assert_eq!(next.reason, "join");
        let (pause, expected) = (next.at - now, expected * SECOND);
        assert!(pause >= expected * 3 / 4 && pause <= expected * 5 / 4, "{pause:?} instead of {expected:?}");
        assert!(timed(&mut dht, next.at - MS).is_empty());
        now = next.at;
    }
}

#[test]
fn a_new_seed_is_a_reason_not_to_wait_any_longer() {
    let (mut dht, mut now) = (node(), start());
    dht.add_address(now, peer(1), address(1));
    for _ in 0..8 {
        let out = [outputs(&mut dht), timed(&mut dht, now)].concat();
        fail_all(&mut dht, now, out);
        now = dht.due().unwrap().at;
    }
    now -= 10 * SECOND;
    dht.add_address(now, peer(2), address(2));
    outputs(&mut dht);
    assert_eq!(dht.due(), Some(Due { at: now + GATHER, reason: "join" }));
}

#[test]
fn a_node_that_joins_on_request_never_does_so_by_itself() {
    let (mut dht, now) = (new_dht(0, quiet().with_low_peers(10)), start());
    dht.add_address(now, peer(50), address(50));
    admit(&mut dht, now, [1, 2, 3]);
    dht.bootstrap(now).unwrap();
    answer_all(&mut dht, now, &[]);
    timed(&mut dht, now + 30 * SECOND);
    assert_eq!(dht.queries().count(), 0, "the join is over");
    dht.remove_peer(now, peer(1));
    let mut later = now + 30 * SECOND;
    while let Some(deadline) = dht.due().filter(|deadline| deadline.at < now + 3600 * SECOND) {
        later = later.max(deadline.at);
        dht.handle_timeout(later);
        let out = answer_all(&mut dht, later, &[]);
        assert!(steps(&events(&out)).is_empty() && dht.queries().count() == 0);
    }
}

#[test]
fn a_table_that_has_become_low_is_a_reason_to_join_again() {
    let (mut dht, now) =
        (new_dht(0, Config::default().with_low_peers(2).with_refresh_interval(None).unwrap()), start());
    admit(&mut dht, now, 1..=4);
    dht.handle_timeout(now + GATHER);
    assert!(join_of(&dht).is_some());
    answer_all(&mut dht, now + GATHER, &[]);
    assert_eq!(join_of(&dht), None, "it has joined");
    let later = now + SECOND;
    dht.remove_peer(later, peer(1));
    timed(&mut dht, later);
    assert_eq!(join_of(&dht), None, "three are more than two");
    dht.remove_peer(later, peer(2));
    assert_eq!(dht.due().map(|deadline| deadline.at), Some(later));
    dht.handle_timeout(later);
    assert!(join_of(&dht).is_some());
    answer_all(&mut dht, later, &[]);
    let again = dht.due().expect("the table is still low");
    assert!(again.reason == "join" && again.at > later + SECOND, "{again:?}");
}

#[test]
fn a_join_for_which_there_is_no_room_is_put_off_and_not_told() {
    let config =
        Config::default().with_max_queries(std::num::NonZeroUsize::MIN).with_refresh_interval(None).unwrap();
    let (mut dht, now) = (new_dht(0, config), start());
    dht.add_address(now, peer(1), address(1));
    dht.ping(now, peer(1));
    outputs(&mut dht);
    let due = now + GATHER;
    let out = timed(&mut dht, due);
    assert!(events(&out).is_empty(), "nobody asked for it: {out:?}");
    let deadline = dht.due().expect("the ping ends");
    assert!(deadline.at > due, "{deadline:?} is due again and again");
    let mut joined = false;
    for second in 1..30 {
        timed(&mut dht, due + second * SECOND);
        joined |= join_of(&dht).is_some();
    }
    assert!(joined, "but it is not forgotten");
}

#[test]
fn a_join_that_takes_too_long_tells_how_far_it_came() {
    let config = quiet().with_query_timeout(5 * SECOND).unwrap();
    let (mut dht, now) = (new_dht(0, config.clone()), start());
    dht.add_address(now, peer(1), address(1));
    dht.bootstrap(now).unwrap();
    outputs(&mut dht);
    let told = steps(&events(&timed(&mut dht, now + 5 * SECOND)));
    let timeout = |num_remaining| {
        Err(BootstrapError::Query { cause: QueryError::Timeout, peer: peer(0), num_remaining })
    };
    assert_eq!(told, [(timeout(None), 1, true)], "nobody answers");

    let mut dht = full(config);
    dht.bootstrap(now).unwrap();
    let own = asked(&outputs(&mut dht));
    let answer = |dht: &mut Dht<MemoryStore>, own: Vec<(PeerId, RequestId, Request)>| {
        own.into_iter().for_each(|(_, id, _)| name(dht, now, id, &[]));
    };
    answer(&mut dht, own);
    let burst = asked(&outputs(&mut dht));
    answer(&mut dht, burst);
    outputs(&mut dht);
    let told = steps(&events(&timed(&mut dht, now + 5 * SECOND)));
    let all = u32::try_from(buckets_to_look_up(dht.table()).len()).unwrap();
    assert_eq!(told, [(timeout(Some(all)), 2, true)], "nobody answers for the buckets");
}

#[test]
fn a_join_that_was_cancelled_is_tried_again() {
    let (mut dht, now) = (node(), start());
    dht.add_address(now, peer(1), address(1));
    let join = dht.bootstrap(now).unwrap();
    assert!(dht.cancel(now, join));
    let told = steps(&events(&outputs(&mut dht)));
    assert_eq!(
        told,
        [(
            Err(BootstrapError::Query { cause: QueryError::Cancelled, peer: peer(0), num_remaining: None }),
            1,
            true
        )]
    );
    let again = std::iter::from_fn(|| {
        let at = dht.due()?.at;
        dht.handle_timeout(at);
        Some(at)
    });
    let again = again.take_while(|at| *at < now + 60 * SECOND).count();
    assert!(again > 0 && join_of(&dht).is_some_and(|running| running != join));
}

#[test]
fn one_join_runs_at_a_time() {
    let (mut dht, now) = (node(), start());
    dht.add_address(now, peer(1), address(1));
    dht.bootstrap(now).unwrap();
    timed(&mut dht, now + GATHER);
    timed(&mut dht, now + SECOND);
    assert_eq!(dht.queries().count(), 1, "the one that was asked for will do");
}

#[test]
fn whoever_exported_its_peers_joins_though_its_bootstrap_node_is_dead() {
    let mut net = Net::new(30, &Config::default());
    net.join_all(100 * MS);
    let exported: Vec<PeerInfo> = net.nodes[7].dht.export_peers();
    assert!(exported.len() >= 10 && exported.iter().all(|info| !info.addrs.is_empty()));
    net.kill(0);
    let n = net.add(Config::default());
    net.add_address(n, 0);
    net.run_for(10 * SECOND);
    assert!(net.nodes[n].dht.table().is_empty(), "it does not get in by a dead node");
    for PeerInfo { peer_id, addrs } in exported {
        for address in addrs {
            net.with(n, |dht, now| dht.add_address(now, peer_id, address));
        }
    }
    net.run_for(10 * SECOND);
    assert_eq!(net.closest(n, b"target").0, net.truth(n, b"target", 20));
    assert!(steps(&net.nodes[n].events).iter().any(|(result, _, last)| result.is_ok() && *last));
}

#[test]
fn only_live_peers_are_exported() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1, 2]);
    dht.ping(now, peer(1));
    let id = asked(&outputs(&mut dht))[0].1;
    dht.handle_input(now, Input::RequestFailed { id, error: RequestError::BadAnswer });
    assert_eq!(dht.export_peers(), [PeerInfo { peer_id: peer(2), addrs: vec![address(2)] }]);
}

#[test]
fn whoever_is_met_at_an_address_is_a_seed_and_leads_into_the_network() {
    let mut net = Net::new(20, &Config::default());
    net.join_all(100 * MS);
    let n = net.add(Config::default());
    let query = net.with(n, |dht, now| dht.connect(now, address(3)));
    let (result, stats) = net.result(n, query);
    let ok = ConnectOk { peer: peer(3), address: address(3) };
    assert!(matches!(result, QueryResult::Connect(Ok(met)) if met == ok));
    assert_eq!((stats.num_dials(), stats.num_requests()), (1, 1));
    assert!(net.is_connected(n, 3));
    net.run_for(20 * SECOND);
    assert_eq!(net.closest(n, b"target").0, net.truth(n, b"target", 20));
    let first = steps(&net.nodes[n].events)[0].0.clone().expect("it has joined");
    assert_eq!(first.outcomes, [SeedOutcome { peer: peer(3), result: Some(Ok(())) }]);
}

#[test]
fn whoever_is_met_at_an_address_is_checked_once() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    dht.connect(now, address(1));
    let [(dial, None, ref at)] = dials(&outputs(&mut dht))[..] else { panic!("it is dialled") };
    assert_eq!(*at, [address(1)]);
    arrive(&mut dht, now, 1, dial);
    assert_eq!(asked(&outputs(&mut dht)).len(), 1);
}

#[test]
fn whoever_is_connected_already_is_met_too() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1]);
    let query = dht.connect(now, address(21));
    let [(dial, ..)] = dials(&outputs(&mut dht))[..] else { panic!("nobody knows who is there") };
    let second = connected_at(1, address(21), true, Some(dial));
    dht.handle_input(now, second);
    let out = answer_all(&mut dht, now, &[]);
    let ok = ConnectOk { peer: peer(1), address: address(21) };
    assert!(matches!(result_of(&out, query), Some(QueryResult::Connect(Ok(met))) if met == ok));
    assert_eq!(dht.addresses_of(&peer(1)).into_vec(), [address(21), address(1)]);
}

fn connect_error(out: &[Output], query: QueryId) -> Option<ConnectError> {
    let QueryResult::Connect(result) = result_of(out, query)? else { panic!("{query} connects nothing") };
    result.err()
}

#[test]
fn an_address_at_which_nobody_is_fails() {
    let (of, why) = (|| address(1), |text: &str| text.into());
    let unsupported = DialFailure::Unreachable { unsupported: vec![of()], why: Unreached::Silent };
    let unreachable = |why| DialFailure::unreachable(why);
    let silent = ConnectError::Unreachable { address: of(), reason: why("nobody answers there") };
    let broken = ConnectError::Unreachable { address: of(), reason: why("broken") };
    let nameless = ConnectError::NotResolved { address: of(), reason: why("no such name") };
    let own = ConnectError::Address { address: of(), source: AddressError::Own };
    for (failure, error) in [
        (unreachable(Unreached::Silent), silent),
        (unreachable(Unreached::Refused), ConnectError::Refused { address: of() }),
        (unreachable(Unreached::Other(why("broken"))), broken),
        (unreachable(Unreached::NotResolved(why("no such name"))), nameless),
        (unsupported, ConnectError::NoTransport { address: of() }),
        (
            DialFailure::WrongPeer { address: of(), met: peer(7) },
            ConnectError::WrongPeer { address: of(), met: peer(7) },
        ),
        (DialFailure::Refused, ConnectError::Denied { address: of() }),
        (DialFailure::Own { address: of() }, own),
    ] {
        let (mut dht, now) = (new_dht(0, quiet()), start());
        let query = dht.connect(now, address(1));
        let [(dial, ..)] = dials(&outputs(&mut dht))[..] else { panic!("it is dialled") };
        dht.handle_input(now, Input::DialFailed { dial: Some(dial), peer: None, error: failure });
        assert_eq!(connect_error(&outputs(&mut dht), query), Some(error));
        assert!(dht.bootstrap(now).is_err(), "there is no seed");
    }
}

#[test]
fn an_address_that_hangs_ends_with_its_query() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let query = dht.connect(now, address(1));
    let [(dial, ..)] = dials(&outputs(&mut dht))[..] else { panic!("it is dialled") };
    let out = timed(&mut dht, now + 60 * SECOND);
    assert!(matches!(connect_error(&out, query), Some(ConnectError::Unreachable { .. })));
    arrive(&mut dht, now + 61 * SECOND, 1, dial);
    let out = outputs(&mut dht);
    assert!(events(&out).is_empty(), "it is over");
    assert_eq!(asked(&out).len(), 1, "but a connection is one");
}

#[test]
fn own_and_filtered_addresses_are_not_connected_to() {
    let config = quiet().with_address_filter(|address| !address.to_string().starts_with("/ip4"));
    let (mut dht, now) = (new_dht(0, config), start());
    let own = address(0).with(libp2p_core::multiaddr::Protocol::P2p(peer(0)));
    for (address, source) in [
        (own, AddressError::Own),
        ("/ip4/1.2.3.4/tcp/1".parse().unwrap(), AddressError::Filtered),
        ("/ip4/1.2.3.4/tcp/0".parse().unwrap(), AddressError::NoPort),
        ("/ip4/1.2.3.4".parse().unwrap(), AddressError::NoPort),
        ("/dns/example.org".parse().unwrap(), AddressError::NoPort),
        ("/ip4/0.0.0.0/tcp/1".parse().unwrap(), AddressError::Undialable),
        (Multiaddr::empty(), AddressError::Undialable),
    ] {
        let query = dht.connect(now, address.clone());
        let out = outputs(&mut dht);
        assert!(dials(&out).is_empty());
        assert_eq!(connect_error(&out, query), Some(ConnectError::Address { address, source }));
    }
}

/// Lets time pass for a lone node whose peers all answer, and returns its outputs.
fn idle(dht: &mut Dht<MemoryStore>, end: Now) -> Vec<Output> {
    let mut out = Vec::new();
    while let Some(deadline) = dht.due().filter(|deadline| deadline.at <= end) {
        dht.handle_timeout(deadline.at);
        out.extend(answer_all(dht, deadline.at, &[]));
    }
    out
}

#[test]
fn buckets_that_no_lookup_touched_are_looked_up_after_ten_minutes_and_nobody_is_told() {
    let (mut dht, now) = (full(Config::default()), start());
    let all: BTreeSet<_> = buckets_to_look_up(dht.table()).into_iter().collect();
    assert!(all.len() > 3);
    let half = now + TEN_MINUTES / 2;
    idle(&mut dht, half);
    let in_bucket = |bucket: BucketIndex| {
        let found = |n: &u32| key(0).distance(&Key::sha256(&n.to_be_bytes())).bucket() == Some(bucket);
        (0..).find(found).unwrap()
    };
    let touched = [BucketIndex::FARTHEST, BucketIndex::with_prefix(2).unwrap()];
    for bucket in touched {
        dht.find_closest(half, in_bucket(bucket).to_be_bytes());
    }
    answer_all(&mut dht, half, &[]);
    assert!(looked_up(&idle(&mut dht, now + TEN_MINUTES * 9 / 10 - MS)).is_empty());
    let out = idle(&mut dht, now + TEN_MINUTES * 11 / 10);
    let refreshed = looked_up(&out);
    let table = dht.table();
    // The others are where all are among the closest, which the lookup of the own id finds.
    let is_due = |bucket: &BucketIndex| !touched.contains(bucket) && !table.is_within_the_closest(*bucket);
    let expected: BTreeSet<_> = all.into_iter().filter(is_due).collect();
    assert!(expected.len() > 1);
    assert_eq!(refreshed.len(), expected.len(), "each once");
    assert_eq!(refreshed.into_values().collect::<BTreeSet<_>>(), expected);
    assert!(events(&out).is_empty() && out.iter().all(|o| !matches!(o, Output::AnnounceAddresses { .. })));
}

#[test]
fn a_join_counts_as_a_lookup_of_every_bucket_it_looks_up() {
    let (mut dht, now) = (full(Config::default()), start());
    let half = now + TEN_MINUTES / 2;
    idle(&mut dht, half);
    dht.bootstrap(half).unwrap();
    let joined = looked_up(&answer_all(&mut dht, half, &[]));
    // Random keys, which are looked up to learn how large the network is, go anywhere.
    dht.upkeep.size = SizeEstimator::default();
    let refreshed = looked_up(&idle(&mut dht, now + TEN_MINUTES * 13 / 10));
    let again: BTreeSet<_> = refreshed.into_values().collect();
    let twice: Vec<_> = joined.into_values().filter(|bucket| again.contains(bucket)).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// A network of thirty of which one has been cut off for an hour, and still is.
fn cut_off_for_an_hour(n: usize) -> Net {
    let mut net = Net::new(30, &Config::default());
    net.join_all(100 * MS);
    net.cut_off(n);
    net.run_for(3600 * SECOND);
    net
}

#[test]
fn as_soon_as_anybody_answers_after_an_outage_everybody_is_probed() {
    let mut net = cut_off_for_an_hour(5);
    let doubted = |net: &Net| net.nodes[5].dht.table().entries().filter(|entry| !entry.is_live()).count();
    let all = doubted(&net);
    assert!(all >= 20, "{all}");
    net.cut_off = None;
    let (mut waited, second) = (0, SECOND);
    while doubted(&net) == all {
        net.run_for(second);
        waited += 1;
    }
    // A dial that was under way when the network came back hangs as long as any.
    net.run_for(12 * second);
    assert!(waited <= 60 && doubted(&net) == 0, "{waited} s, then {} of {all}", doubted(&net));
}

fn in_table(net: &Net, n: usize) -> BTreeSet<PeerId> {
    net.nodes[n].dht.table().entries().map(|entry| entry.peer()).collect()
}

#[test]
fn a_node_that_is_cut_off_for_an_hour_keeps_its_table_and_finds_back() {
    let mut net = Net::new(30, &Config::default());
    net.join_all(100 * MS);
    let (n, before) = (5, in_table(&net, 5));
    assert!(before.len() >= 25);
    net.cut_off(n);
    let lookup = net.with(n, |dht, now| dht.find_closest(now, *b"target"));
    let (result, _) = net.result(n, lookup);
    let QueryResult::GetClosestPeers(Err(error @ GetClosestPeersError::NoAnswer { .. })) = result else {
        panic!("{result:?}")
    };
    assert!(error.to_string().starts_with("nobody has answered: "), "{error}");
    net.run_for(3600 * SECOND);
    assert_eq!(before, in_table(&net, n), "nobody else answers, so nobody is to blame");
    assert!(net.nodes[n].dht.export_peers().len() < 5, "but they are doubted");
    net.cut_off = None;
    net.run_for(100 * SECOND);
    assert_eq!(before, in_table(&net, n), "the first that answers does not cost the others their places");
    assert_eq!(net.nodes[n].dht.export_peers().len(), before.len());
    assert_eq!(net.closest(n, b"target").0, net.truth(n, b"target", 20));
}

#[test]
fn a_lookup_works_soon_after_the_network_is_back() {
    let mut net = cut_off_for_an_hour(5);
    net.cut_off = None;
    // Dials that hang are not taken back, so that a lookup which begins at once would wait for some.
    net.run_for(30 * SECOND);
    let (found, _) = net.closest(5, b"target");
    let truth = net.truth(5, b"target", 20);
    let hits = truth.iter().filter(|peer| found.contains(peer)).count();
    assert!(hits >= 18, "{hits} of 20");
}
