//! Statistics: each number moves by what has happened, and sums add up.

use super::records::{put, record, record_key, sent};
use super::*;
use crate::config::StoreInserts;
use crate::record::{Quorum, RecordKey};
use crate::stats::{Checks, DialFailures, Evictions, Held, QueryCosts, RequestFailures, Stats};

const HOUR: Duration = Duration::from_secs(3600);

/// Checks what the docs of the groups promise of their sums.
fn check(dht: &Dht<MemoryStore>) -> Stats {
    let stats = dht.stats();
    for (kind, requests) in stats.outbound_requests.iter() {
        let ended = requests.succeeded + requests.failed.total() + requests.cancelled;
        assert_eq!(requests.started, ended + requests.pending(), "{kind}: {requests:?}");
        let answered = if kind == "add_provider" { 0 } else { requests.succeeded };
        assert_eq!(requests.latency.count(), answered, "{kind}");
    }
    let pending: u64 = stats.outbound_requests.iter().map(|(_, requests)| requests.pending()).sum();
    assert_eq!(pending, dht.num_requests() as u64);
    for (kind, requests) in stats.inbound_requests.iter() {
        let ended = requests.answered + requests.refused;
        assert_eq!(requests.received, ended + requests.pending, "{kind}: {requests:?}");
    }
    for queries in [&stats.queries.application, &stats.queries.maintenance] {
        let ended = queries.succeeded + queries.failed + queries.timed_out + queries.cancelled;
        assert_eq!(queries.started, ended + queries.running, "{queries:?}");
        assert_eq!(queries.duration.count(), ended);
    }
    let table = &stats.routing_table;
    assert_eq!(table.inserted, table.entries + table.evicted.total(), "{table:?}");
    assert_eq!(table.entries, dht.table().len() as u64);
    let dials = &stats.dials;
    let ended = dials.succeeded + dials.failed.total() + dials.abandoned;
    assert_eq!(dials.started, ended + dials.in_progress, "{dials:?}");
    assert_eq!((dials.in_progress, dials.duration.count()), (dht.num_dials() as u64, dials.succeeded));
    for Checks { started, passed, failed, pending, .. } in [&stats.checks, &stats.probes] {
        assert_eq!(*started, passed + failed + pending);
    }
    stats
}

#[test]
fn sums_add_up_at_every_node_of_a_network_in_trouble_and_nothing_is_counted_that_was_not_sent() {
    let mut net = Net::new(30, &Config::default());
    let check_all = |net: &Net| {
        let mut all = Stats::default();
        net.nodes.iter().for_each(|node| all.merge(&check(&node.dht)));
        let sent: u64 = all.outbound_requests.iter().map(|(_, requests)| requests.sent).sum();
        assert_eq!((sent, all.dials.started), (net.requests_sent, net.dials));
        assert_eq!(all.outbound_requests.add_provider.sent, net.announcements as u64);
        for ((kind, out), (_, inbound)) in all.outbound_requests.iter().zip(all.inbound_requests.iter()) {
            assert!(inbound.received <= out.sent && out.latency.count() <= inbound.answered, "{kind}");
        }
        all
    };
    net.join_all(SECOND / 3);
    check_all(&net);
    let query = net.with(3, |dht, now| dht.put_record(now, record(b"v"), Quorum::One).unwrap());
    net.result(3, query);
    let query = net.with(4, |dht, now| dht.start_providing(now, RecordKey::new(b"content")).unwrap());
    net.result(4, query);
    (5..9).for_each(|n| net.kill(n));
    (9..12).for_each(|n| net.nodes[n].health = Health::Frozen);
    for n in 12..30 {
        net.closest(n, &[n as u8]);
        check_all(&net);
    }
    let query = net.with(20, |dht, now| dht.get_record(now, record_key(), None));
    net.result(20, query);
    net.with(21, |dht, now| {
        let id = dht.find_closest(now, b"cancelled".to_vec());
        dht.cancel(now, id);
    });
    for _ in 0..12 {
        net.run_for(HOUR / 6);
        check_all(&net);
    }
    let all = check_all(&net);
    assert_eq!(net.nodes[21].dht.stats().queries.application.cancelled, 1);
    let seen = [
        all.outbound_requests.find_node.failed.timeout,
        all.outbound_requests.put_value.succeeded,
        all.outbound_requests.add_provider.succeeded,
        all.outbound_requests.get_value.succeeded,
        all.dials.failed.unreachable,
        all.dials.failed.timeout,
        all.routing_table.evicted.failed + all.routing_table.evicted.replaced,
        all.checks.passed,
        all.probes.failed,
        all.queries.maintenance.succeeded,
        all.republish.done,
    ];
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn an_answer_a_refusal_and_a_request_out_of_time_count_once_each_with_the_time_they_took() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1, 2, 3]);
    let before = check(&dht);
    for n in 1..=3 {
        dht.ping(now, peer(n));
    }
    let asked = asked(&outputs(&mut dht));
    let waiting = check(&dht).since(&before).outbound_requests.ping;
    assert_eq!((waiting.started, waiting.sent, waiting.in_flight, waiting.waiting), (3, 3, 3, 0));
    let later = now + 70 * MS;
    dht.handle_input(later, Input::ResponseReceived { id: asked[0].1, response: Response::Pong });
    dht.handle_input(later, Input::RequestFailed { id: asked[1].1, error: RequestError::BadAnswer });
    while check(&dht).outbound_requests.ping.pending() > 0 {
        let due = dht.due().unwrap();
        dht.handle_timeout(due.at);
        outputs(&mut dht);
    }
    let ping = check(&dht).since(&before).outbound_requests.ping;
    let failed = RequestFailures { bad_answer: 1, timeout: 1, ..RequestFailures::default() };
    assert_eq!((ping.succeeded, ping.failed, ping.cancelled), (1, failed, 0));
    assert_eq!((ping.latency.sum(), ping.latency.max()), (70 * MS, 70 * MS));
    let QueryCosts { succeeded, failed, requests, hops, .. } = check(&dht).since(&before).queries.application;
    assert_eq!((succeeded, failed, requests.sum(), hops.count()), (1, 2, 3, 3));
}

#[test]
fn whoever_is_not_asked_again_so_soon_counts_as_such_though_nothing_is_sent() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, [1]);
    lose(&mut dht, now, 1);
    dht.handle_input(now, Input::ProtocolUnsupported { peer: peer(1) });
    let before = check(&dht);
    dht.find_node_at(now, peer(1), b"k".to_vec());
    let requests = check(&dht).since(&before).outbound_requests.find_node;
    assert_eq!((requests.started, requests.sent, requests.failed.total()), (1, 0, 1), "{requests:?}");
    assert_eq!(before.routing_table.evicted, Evictions { unsupported: 1, ..Evictions::default() });
}

#[test]
fn what_others_ask_is_counted_by_kind_and_by_what_becomes_of_it() {
    let mut config = quiet().with_record_filtering(StoreInserts::FilterBoth);
    config = config.with_max_held(std::num::NonZeroUsize::new(2).unwrap());
    let (mut dht, now) = (new_dht(0, config), start());
    let ask = |dht: &mut Dht<MemoryStore>, n: u64, request| {
        let (from, connection, id) = (peer(1), conn(1), InboundId(n));
        dht.handle_input(now, Input::RequestReceived { from, connection, id, request });
    };
    ask(&mut dht, 0, Request::Ping);
    ask(&mut dht, 1, Request::FindNode { key: b"k"[..].into() });
    for n in 2..5 {
        ask(&mut dht, n, Request::PutValue { record: sent(b"v") });
    }
    ask(&mut dht, 5, Request::AddProvider { key: record_key(), providers: vec![] });
    let stats = check(&dht);
    let inbound = &stats.inbound_requests;
    assert_eq!((inbound.ping.answered, inbound.find_node.answered, inbound.add_provider.refused), (1, 1, 1));
    assert_eq!((inbound.put_value.received, inbound.put_value.refused, inbound.put_value.pending), (3, 1, 2));
    let held = Held { application: 2, application_waiting: 2, ..Held::default() };
    assert_eq!(stats.held, held);
    let ids = events(&outputs(&mut dht)).into_iter().filter_map(|event| match event {
        Event::InboundRequest { request: crate::event::InboundRequest::PutRecord { record, .. } } => {
            record.map(|(id, _)| id)
        }
        _ => None,
    });
    let ids: Vec<_> = ids.collect();
    assert!(dht.accept_record(now, ids[0]).unwrap());
    let put_value = check(&dht).inbound_requests.put_value;
    assert_eq!((put_value.answered, put_value.pending, dht.stats().store.records), (1, 1, 1));
    dht.handle_timeout(dht.due().unwrap().at.max(now + HOUR));
    assert_eq!(check(&dht).held.application_expired, 1);
    dht.set_mode(now + HOUR, Some(Mode::Client));
    ask(&mut dht, 6, Request::Ping);
    assert_eq!(check(&dht).inbound_requests.ping.refused, 1, "a client");
}

#[test]
fn the_store_counts_what_it_holds_what_ends_and_what_it_does_not_take() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    assert!(put(&mut dht, now, 1, sent(b"value")));
    let mut large = sent(b"");
    large.value = vec![0; 70_000].into();
    assert!(!put(&mut dht, now, 1, large));
    let store = check(&dht).store;
    let bytes = record_key().as_ref().len() + 5;
    assert_eq!((store.records, store.record_bytes, store.refused), (1, bytes as u64, 1));
    let mut ended = now;
    while dht.stats().store.records > 0 {
        ended = dht.due().unwrap().at;
        dht.handle_timeout(ended);
        outputs(&mut dht);
    }
    let store = check(&dht).store;
    assert_eq!((store.expired, store.record_bytes, store.evicted), (1, 0, 0), "{ended:?}");
}

#[test]
fn dials_count_by_what_came_of_them() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let failures = [
        unreachable(),
        DialFailure::Denied,
        DialFailure::Refused,
        DialFailure::WrongPeer { address: address(4), met: peer(99) },
        DialFailure::UnderWay,
    ];
    for (n, failure) in (1..).zip(failures) {
        learn(&mut dht, now, n, &[address(n)]);
        dht.ping(now, peer(n));
        let (id, ..) = dials(&outputs(&mut dht)).pop().unwrap();
        fail_dial(&mut dht, now, id, n, failure);
        check(&dht);
        // What was denied pauses the others; a connection that ends ends the pause.
        connect_at(&mut dht, now, 50, address(50));
        lose(&mut dht, now, 50);
        dht.remove_peer(now, peer(n));
        outputs(&mut dht);
    }
    let stats = check(&dht).dials;
    let one =
        DialFailures { unreachable: 1, wrong_peer: 1, refused: 1, under_way: 1, ..stats.failed.clone() };
    assert_eq!(stats.failed, one);
    assert!(stats.failed.denied >= 1 && stats.succeeded == 0);
    let (mut dht, later) = (new_dht(0, quiet()), now + 130 * MS);
    learn(&mut dht, now, 1, &[address(1)]);
    dht.ping(now, peer(1));
    let (id, ..) = dials(&outputs(&mut dht)).pop().unwrap();
    let (peer, address) = (peer(1), address(1));
    let connected =
        Input::Connected { located: None, peer, connection: conn(1), address, dialled: true, dial: Some(id) };
    dht.handle_input(later, connected);
    let stats = check(&dht).dials;
    assert_eq!((stats.started, stats.succeeded, stats.duration.sum()), (1, 1, 130 * MS));
}

#[test]
fn how_late_the_node_is_called_is_counted_and_early_is_not() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    dht.handle_timeout(now);
    assert_eq!(check(&dht).clock.lateness.count(), 0, "nothing was due");
    learn(&mut dht, now, 1, &[address(1)]);
    dht.ping(now, peer(1));
    outputs(&mut dht);
    let due = dht.due().unwrap().at;
    dht.handle_timeout(now + MS);
    assert_eq!(check(&dht).clock.lateness.count(), 0, "early is harmless");
    dht.handle_timeout(due + 3 * SECOND);
    let lateness = check(&dht).clock.lateness;
    assert_eq!((lateness.count(), lateness.max()), (1, 3 * SECOND));
}

#[test]
fn jumps_of_the_clock_are_counted_by_direction() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    let later = Now::new(now.instant + SECOND, now.wall + HOUR);
    dht.handle_timeout(later);
    dht.handle_timeout(later + SECOND);
    let back = Now::new(later.instant + 2 * SECOND, now.wall + 2 * SECOND);
    dht.handle_timeout(back);
    let clock = check(&dht).clock;
    assert_eq!((clock.jumps_forward, clock.jumps_backward), (1, 1));
}

#[test]
fn peers_that_enter_and_leave_the_table_count_with_the_reason() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    admit(&mut dht, now, 1..=3);
    dht.handle_input(now, Input::ProtocolUnsupported { peer: peer(1) });
    dht.remove_peer(now, peer(2));
    let table = check(&dht).routing_table;
    let evicted = Evictions { unsupported: 1, removed: 1, ..Evictions::default() };
    assert_eq!((table.inserted, table.entries, table.buckets, table.evicted), (3, 1, 1, evicted));
}
