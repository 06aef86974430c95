//! Statistics: what the shell counts of real streams.

use bytes::BytesMut;
use futures::{AsyncWriteExt as _, StreamExt as _};
use libp2p::core::upgrade::Version;
use libp2p_kademlia::message::{Request, Response};
use libp2p_kademlia::wire::{encode_request, encode_response};

use super::streams::{PROTOCOL, read_response, write_request};
use super::support::*;

/// Every byte of a message is counted once in its direction, and told when the connection has ended if not before.
#[tokio::test]
async fn the_bytes_of_messages_are_counted_by_direction_and_streams_by_what_becomes_of_them() {
    let node = run(server(), Carrier::Memory).await;
    let mut swarm = swarm(Carrier::Memory, Version::V1, raw);
    let mut control = swarm.behaviour().stream.new_control();
    swarm.dial(node.address.clone()).unwrap();
    while !swarm.is_connected(&node.peer_id) {
        swarm.select_next_some().await;
    }
    let running = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let (mut asked, mut answered) = (BytesMut::new(), BytesMut::new());
    encode_request(&Request::Ping, &mut asked);
    encode_response(&Response::Pong, &mut answered);
    let mut stream = within(control.open_stream(node.peer_id, PROTOCOL)).await.unwrap();
    for count in 1..=3 {
        write_request(&mut stream, &Request::Ping).await;
        assert_eq!(within(read_response(&mut stream, &mut BytesMut::new())).await, Some(Response::Pong));
        let stats = node.client.stats().await.unwrap();
        assert_eq!(stats.inbound_requests.ping.answered, count);
        assert_eq!(stats.transport.bytes_received, count * asked.len() as u64, "told with the request");
    }
    // Half a message, and then the end of the stream.
    stream.write_all(&asked[..1]).await.unwrap();
    stream.close().await.unwrap();
    let mut after = Vec::new();
    within(futures::AsyncReadExt::read_to_end(&mut stream, &mut after)).await.ok();
    running.abort();
    let expected = (3 * asked.len() as u64 + 1, 3 * answered.len() as u64, 1, 1);
    eventually(|| async {
        let transport = node.client.stats().await.unwrap().transport;
        let counted = (transport.bytes_received, transport.bytes_sent);
        (counted.0, counted.1, transport.inbound_streams_opened, transport.streams_reset) == expected
    })
    .await;
    node.kill().await;
}

#[tokio::test]
async fn a_stream_that_serves_again_is_counted_as_reused() {
    let (a, b) = (run(server(), Carrier::Memory).await, run(server(), Carrier::Memory).await);
    join(&a, &b).await;
    let before = a.client.stats().await.unwrap();
    for _ in 0..5 {
        within(a.client.ping(b.peer_id)).await.unwrap();
    }
    let since = a.client.stats().await.unwrap().since(&before);
    let sent: u64 = since.outbound_requests.iter().map(|(_, requests)| requests.sent).sum();
    let streams = &since.transport;
    assert_eq!(streams.outbound_streams_opened + streams.outbound_streams_reused, sent, "{since}");
    assert!(streams.outbound_streams_reused >= 4, "{since}");
    assert!(streams.bytes_sent > 0 && streams.bytes_received > 0 && streams.streams_reset == 0, "{since}");
    assert_eq!((since.queries.application.succeeded, since.outbound_requests.ping.succeeded), (5, 5));
    a.kill().await;
    b.kill().await;
}
