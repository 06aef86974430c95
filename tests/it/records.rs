//! Records over real swarms: put, got, streamed, removed, filtered.

use std::sync::mpsc;

use futures::StreamExt as _;
use libp2p::core::upgrade::Version;
use libp2p::swarm::SwarmEvent;
use libp2p_kademlia::{
    Config, Event, GetRecordError, InboundRequest, Mode, PutRecordError, QueryError, Quorum, Record,
    StoreInserts,
};

use super::support::*;

/// Three nodes that know each other.
async fn three(carrier: Carrier) -> [Running; 3] {
    let start = || {
        let mut swarm = swarm(carrier, Version::V1Lazy, |keypair| node(keypair, Config::default()));
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        run(swarm, carrier)
    };
    let nodes = [start().await, start().await, start().await];
    join(&nodes[1], &nodes[0]).await;
    join(&nodes[2], &nodes[0]).await;
    meet(&nodes[1], &nodes[2]).await;
    nodes
}

#[tokio::test]
async fn what_one_puts_the_others_get() {
    for carrier in [Carrier::Memory, Carrier::Tcp, Carrier::Quic] {
        let [a, b, c] = three(carrier).await;
        let mut stored = within(a.client.put(b"key", &b"value"[..])).await.unwrap().stored;
        stored.sort();
        let mut others = vec![b.peer_id, c.peer_id];
        others.sort();
        assert_eq!(stored, others);
        for node in [&a, &b, &c] {
            let record = within(node.client.get(b"key")).await.unwrap();
            assert_eq!((record.value.as_ref(), record.publisher), (&b"value"[..], Some(a.peer_id)));
        }
        let everywhere = within(b.client.get_with(b"key", Quorum::All)).await.unwrap();
        assert_eq!(everywhere.value, "value");
    }
}

#[tokio::test]
async fn every_record_is_streamed_with_its_peer() {
    let [a, b, c] = three(Carrier::Memory).await;
    for (node, value) in [(&b, &b"of b"[..]), (&c, &b"of c"[..])] {
        let record = Record::new(b"key".to_vec(), value);
        within(a.client.put_record_to(record, [node.peer_id], Quorum::All)).await.unwrap();
    }
    let found: Vec<_> = within(a.client.get_all(b"key").collect()).await;
    let mut found: Vec<_> = found
        .into_iter()
        .map(Result::unwrap)
        .map(|found| (found.peer.unwrap(), found.record.value))
        .collect();
    found.sort();
    let mut expected = vec![(b.peer_id, "of b".into()), (c.peer_id, "of c".into())];
    expected.sort();
    assert_eq!(found, expected);
    let nothing: Vec<_> = within(a.client.get_all(b"other").collect()).await;
    assert!(matches!(nothing[..], [Err(GetRecordError::NotFound { .. })]), "{nothing:?}");
    // Whoever drops the stream has ended the search.
    drop(a.client.get_all(b"key"));
    let ok = within(a.client.find_node_at(b.peer_id, *b"key")).await.unwrap();
    assert_eq!(ok.closer.len(), 1);
    let ok = within(a.client.get_record_at(c.peer_id, b"key")).await.unwrap();
    assert_eq!(ok.record.unwrap().value, "of c");
}

#[tokio::test]
async fn alone_a_node_finds_its_own_records() {
    let node = run(server(), Carrier::Memory).await;
    let nobody = Some(QueryError::NoKnownPeers);
    assert_eq!(within(node.client.put(b"key", &b"v"[..])).await.unwrap_err().query_error(), nobody);
    assert_eq!(within(node.client.get(b"key")).await.unwrap().value, "v");
    node.client.try_put(b"second", &b"w"[..]).unwrap();
    assert_eq!(within(node.client.get(b"second")).await.unwrap().value, "w");
    within(node.client.remove(b"key")).await.unwrap();
    assert_eq!(within(node.client.get(b"key")).await.unwrap_err().query_error(), nobody);
    within(node.client.store_local(Record::new(b"of others", "x"))).await.unwrap();
    assert_eq!(within(node.client.get(b"of others")).await.unwrap().value, "x");
    let invalid = within(node.client.put(b"", &b"v"[..])).await;
    assert!(matches!(invalid, Err(PutRecordError::Invalid { .. })), "{invalid:?}");
}

#[tokio::test]
async fn the_application_decides_what_it_stores_for_others() {
    let config = Config::default().with_record_filtering(StoreInserts::FilterBoth);
    let mut swarm = swarm(Carrier::Memory, Version::V1Lazy, |keypair| node(keypair, config));
    swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
    let address = listen(&mut swarm, Carrier::Memory).await;
    let peer_id = *swarm.local_peer_id();
    let (send, seen) = mpsc::channel();
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(NodeEvent::Kademlia(Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some((id, record)), .. },
            })) = swarm.select_next_some().await
            {
                send.send((source, record.value.clone())).unwrap();
                let kademlia = &mut swarm.behaviour_mut().kademlia;
                let waited = if record.value == "good" {
                    kademlia.accept_record(id).unwrap()
                } else {
                    kademlia.refuse_record(id)
                };
                assert!(waited);
            }
        }
    });
    let other = run(server(), Carrier::Memory).await;
    other.client.add_address(peer_id, address).await.unwrap();
    within(other.client.bootstrap()).await.unwrap();
    let report = within(other.client.put(b"one", &b"good"[..])).await.unwrap();
    assert_eq!(report.stored, [peer_id]);
    let error = within(other.client.put(b"two", &b"bad"[..])).await.unwrap_err();
    let PutRecordError::QuorumFailed { report, .. } = error else { panic!("{error:?}") };
    assert_eq!(report.refused, [peer_id]);
    assert_eq!(seen.recv().unwrap(), (other.peer_id, "good".into()));
    assert_eq!(seen.recv().unwrap(), (other.peer_id, "bad".into()));
}
