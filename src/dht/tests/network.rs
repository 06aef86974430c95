//! Whole networks.

use super::*;

#[test]
fn two_nodes_find_each_other() {
    let mut net = Net::new(2, &Config::default());
    assert_eq!(net.add_address(1, 0), RoutingUpdate::Pending);
    net.run_for(5 * SECOND);
    assert!(net.knows(1, 0) && net.knows(0, 1), "each is in the other's table");
    assert_eq!(net.closest(0, b"anything").0, [peer(1)]);
    assert_eq!(net.closest(1, b"anything").0, [peer(0)]);
}

#[test]
fn sixteen_nodes_all_know_each_other() {
    let mut net = Net::new(16, &Config::default());
    net.join_all(SECOND);
    for n in 0..16 {
        let (found, _) = net.closest(n, b"target");
        assert_eq!(found, net.truth(n, b"target", 20), "node {n}");
    }
}

fn exact_recall(nodes: usize, lookups: usize) -> Net {
    let mut net = Net::new(nodes, &Config::default());
    net.join_all(100 * MS);
    let mut requests = 0;
    for lookup in 0..lookups {
        let origin = (lookup * 7919) % nodes;
        let target = lookup.to_le_bytes();
        let (found, stats) = net.closest(origin, &target);
        assert_eq!(found, net.truth(origin, &target, 20), "lookup {lookup} by {origin}");
        requests += stats.num_requests();
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (mean, depth) = (f64::from(requests) / lookups as f64, (nodes as f64 / 20.0).log2().max(0.0));
    assert!(mean <= 2.0 * (20.0 + 10.0 * depth), "{mean} requests a lookup");
    net
}

#[test]
fn lookups_are_exact_among_128_nodes() {
    let net = exact_recall(128, 40);
    for node in &net.nodes {
        assert!(node.dht.num_known_peers() <= 1024 + 256 + 64);
    }
}

#[test]
fn a_lookup_in_a_healthy_network_takes_few_round_trips() {
    let mut net = Net::new(300, &Config::default());
    net.join_all(100 * MS);
    let mut slowest = Duration::ZERO;
    for lookup in 0..30usize {
        // Twice to be connected to those who are asked, then for the count.
        net.closest(lookup, &lookup.to_le_bytes());
        net.closest(lookup, &lookup.to_le_bytes());
        let (_, stats) = net.closest(lookup, &lookup.to_le_bytes());
        assert_eq!((stats.num_failures(), stats.num_dials()), (0, 0));
        slowest = slowest.max(stats.duration().unwrap());
    }
    assert!(slowest <= 3 * net.latency * 2, "{slowest:?}");
}

/// Tables with room in each bucket have not met all there are, so that lookups have to tell; and they fill them.
#[test]
fn lookups_tell_the_size_of_small_networks_too() {
    let mut net = Net::new(60, &Config::default());
    net.join_all(100 * MS);
    net.run_for(45 * 60 * SECOND);
    let size = net.nodes[3].dht.network_size().unwrap();
    assert!(size.samples >= 5 && (size.low..=size.high).contains(&60), "{size:?}");
}

#[test]
fn same_seed_same_network() {
    let run = || {
        let mut net = Net::new(40, &Config::default());
        net.join_all(100 * MS);
        let (found, stats) = net.closest(7, b"target");
        (net.requests_sent, net.dials, found, stats.num_requests(), net.next)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_fifth_dies_and_lookups_find_those_that_live() {
    let mut net = Net::new(100, &Config::default());
    net.join_all(100 * MS);
    for n in (0..100).step_by(5) {
        net.kill(n);
    }
    let mut hits = 0;
    for lookup in 0..60usize {
        let origin = (lookup * 5) % 100 + 1;
        let (found, _) = net.closest(origin, &lookup.to_le_bytes());
        let truth = net.truth(origin, &lookup.to_le_bytes(), 20);
        hits += truth.iter().filter(|peer| found.contains(peer)).count();
        net.run_for(SECOND);
    }
    assert!(hits >= 60 * 20 * 98 / 100, "{hits} of {}", 60 * 20);
}

#[test]
fn a_fifth_freezes_and_lookups_stay_quick() {
    let mut net = Net::new(100, &Config::default());
    net.join_all(100 * MS);
    for n in (0..100).step_by(5) {
        net.nodes[n].health = Health::Frozen;
    }
    let mut times = Vec::new();
    for lookup in 0..40usize {
        let origin = (lookup * 5) % 100 + 1;
        let (found, stats) = net.closest(origin, &lookup.to_le_bytes());
        let live = net.truth(origin, b"", 100);
        let frozen = found.iter().filter(|peer| !live.contains(peer)).count();
        assert_eq!((found.len(), frozen), (20, 0), "lookup {lookup}: {stats:?}");
        times.push(stats.duration().unwrap());
        net.run_for(SECOND);
    }
    times.sort();
    assert!(times[times.len() / 2] <= SECOND, "{times:?}");
}

#[test]
fn clients_are_in_no_table_and_in_no_answer() {
    let mut net = Net::new(30, &Config::default());
    for n in (3..30).step_by(3) {
        net.with(n, |dht, now| dht.set_mode(now, Some(Mode::Client)));
    }
    net.join_all(100 * MS);
    for n in 0..30 {
        for client in (3..30).step_by(3) {
            assert!(!net.knows(n, client), "{n} knows the client {client}");
        }
        let (found, _) = net.closest(n, b"target");
        assert_eq!(found, net.truth(n, b"target", 20));
    }
}

#[test]
fn disjoint_paths_find_the_same_peers() {
    let four = Config::default().with_disjoint_paths(std::num::NonZeroU8::new(4).unwrap());
    let mut net = Net::new(100, &four);
    net.join_all(100 * MS);
    for lookup in 0..20usize {
        let (found, _) = net.closest(lookup, &lookup.to_le_bytes());
        assert_eq!(found, net.truth(lookup, &lookup.to_le_bytes(), 20));
    }
}

#[test]
fn k_sets_buckets_answers_and_results() {
    for k in [5u8, 40] {
        let config = Config::default().with_bucket_size(std::num::NonZeroU8::new(k).unwrap());
        let mut net = Net::new(120, &config);
        net.join_all(100 * MS);
        let k = usize::from(k);
        // Who answers fills the buckets.
        for lookup in 0..60usize {
            net.closest(3, &lookup.to_le_bytes());
        }
        for n in 0..120 {
            let table = net.nodes[n].dht.table();
            assert!(table.buckets().all(|bucket| bucket.entries().len() <= k));
        }
        assert!(
            net.nodes
                .iter()
                .any(|node| { node.dht.table().buckets().any(|bucket| bucket.entries().len() == k) })
        );
        let (found, _) = net.closest(3, b"target");
        assert_eq!(found, net.truth(3, b"target", k));
        let record = crate::record::Record::new("target", "value");
        let id = net.with(3, |dht, now| dht.put_record(now, record, crate::record::Quorum::All)).unwrap();
        let (QueryResult::PutRecord(Ok(put)), _) = net.result(3, id) else { panic!("it is stored") };
        assert_eq!(put.report.stored.len(), k);
        let id = InboundId(u64::MAX);
        let request = Request::FindNode { key: b"target"[..].into() };
        let dht = &mut net.nodes[4].dht;
        dht.handle_input(net.now, Input::RequestReceived { from: peer(5), connection: conn(5), id, request });
        let named = outputs(dht).into_iter().find_map(|output| match output {
            Output::SendResponse { response: Response::FindNode { closer_peers }, .. } => {
                Some(closer_peers.len())
            }
            _ => None,
        });
        assert_eq!(named, Some(k));
    }
}

#[test]
fn an_hour_without_anybody_asking_is_quiet_and_keeps_the_tables() {
    let mut net = Net::new(60, &Config::default());
    net.join_all(100 * MS);
    let before = net.requests_sent;
    net.run_for(3600 * SECOND);
    let per_node = (net.requests_sent - before) / 60;
    assert!(per_node <= 1000, "{per_node} requests a node and hour");
    let (found, _) = net.closest(1, b"later");
    assert_eq!(found, net.truth(1, b"later", 20));
    assert!(net.nodes.iter().all(|node| node.dht.table().entries().all(Entry::is_live)));
}

#[test]
fn no_deadline_is_ever_overdue() {
    let mut net = Net::new(40, &Config::default());
    net.join_all(200 * MS);
    for n in (0..40).step_by(4) {
        net.nodes[n].health = Health::Frozen;
    }
    for lookup in 0..10usize {
        net.with(lookup * 4 + 1, |dht, now| dht.find_closest(now, lookup.to_le_bytes()));
    }
    for _ in 0..3000 {
        net.run_for(50 * MS);
        for node in net.nodes.iter().filter(|node| node.health == Health::Alive) {
            let deadline = node.dht.due();
            assert!(deadline.is_none_or(|deadline| deadline.at > net.now), "{deadline:?} at {:?}", net.now);
        }
    }
    let mut alive = net.nodes.iter().filter(|node| node.health == Health::Alive);
    assert!(alive.all(|node| node.dht.queries().count() == 0));
}

#[test]
fn a_keyspace_of_sixteen_bits_has_equal_keys_and_full_buckets_and_works() {
    let narrow: crate::key::KeyHash = |bytes| {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&Key::sha256(bytes).as_bytes()[..2]);
        // Only eleven of the sixteen bits differ, so that many of 300 nodes share their key with another.
        key[1] &= 0xe0;
        Key::from_bytes(key)
    };
    let config =
        Config::default().with_key_hash(narrow).with_bucket_size(std::num::NonZeroU8::new(8).unwrap());
    let mut net = Net::new(300, &config);
    net.join_all(100 * MS);
    let keys: BTreeSet<_> = (0..300).map(|n| Key::of_peer(&peer(n), narrow)).collect();
    assert!(keys.len() < 290, "{} keys of 300 nodes", keys.len());
    assert!(
        net.nodes.iter().any(|node| node.dht.table().buckets().any(|bucket| bucket.entries().len() == 8))
    );
    for lookup in 0..60usize {
        let target = lookup.to_le_bytes();
        let (found, _) = net.closest(lookup, &target);
        // Which of several with the same key are the closest is a matter of their ids.
        let target = narrow(&target);
        let distance = |peer: &PeerId| target.distance(&Key::of_peer(peer, narrow));
        let mut truth: Vec<_> = (0..300).filter(|n| *n != lookup).map(|n| distance(&peer(n))).collect();
        truth.sort();
        let found: Vec<_> = found.iter().map(distance).collect();
        assert_eq!(found, truth[..8], "lookup {lookup}");
    }
}
