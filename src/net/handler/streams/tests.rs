//! Tests of the streams of a connection, on virtual time and streams that follow a script.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use bytes::BytesMut;
use libp2p_core::multihash::Multihash;
use libp2p_identity::PeerId;

use super::*;
use crate::addrs::Addresses;
use crate::config::Config;
use crate::dht::RequestId;
use crate::message::{Request, Response, SentRecord};
use crate::net::handler::script::Script;
use crate::net::messages::OutboundRequest;
use crate::peer::{ConnectionType, KadPeer};
use crate::record::RecordKey;
use crate::time::start;
use crate::wire::{encode_request, encode_response};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Counts how often the task was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection, the time, and what it has told.
struct Net {
    streams: Streams<Script>,
    now: Instant,
    woken: Arc<Woken>,
    told: Vec<FromHandler>,
    opens: Vec<Purpose>,
    polls: usize,
}

impl Net {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let node = Shared::new(config.limits.max_node_buffer.get());
        Self::of(&config, &node)
    }

    fn of(config: &Config, node: &Shared) -> Self {
        let now = start();
        let streams = Streams::new(ConnectionLimits::from(config), Mode::Server, 1, node, now);
        Self { streams, now, woken: Arc::default(), told: Vec::new(), opens: Vec::new(), polls: 0 }
    }

    /// Polls until nothing more comes. It must not take for ever.
    fn run(&mut self) {
        let waker = Waker::from(self.woken.clone());
        for _ in 0..100_000 {
            let woken = self.woken.0.load(Ordering::Relaxed);
            self.polls += 1;
            match self.streams.poll(&mut Context::from_waker(&waker), self.now) {
                Poll::Ready(Action::Tell(event)) => self.told.push(event),
                Poll::Ready(Action::Open(purpose)) => self.opens.push(purpose),
                Poll::Pending if self.woken.0.load(Ordering::Relaxed) == woken => {
                    let deadline = self.streams.deadline();
                    assert!(deadline.is_none_or(|deadline| deadline > self.now), "overdue and not woken");
                    let held = self.streams.held();
                    let again = self.streams.poll(&mut Context::from_waker(&waker), self.now);
                    assert!(
                        again.is_pending() && self.streams.held() == held,
                        "it was not at rest: {again:?}"
                    );
                    return;
                }
                Poll::Pending => {}
            }
        }
        panic!("it never comes to rest");
    }

    /// Lets time pass, from one deadline to the next.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        self.run();
        while let Some(deadline) = self.streams.deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline;
            self.run();
        }
        self.now = until;
        self.run();
    }

    fn accept(&mut self, window: usize) -> Script {
        let script = Script::with_window(window);
        self.streams.accept(script.clone(), self.now);
        self.run();
        script
    }

    fn ask(&mut self, id: u64, request: Request) {
        self.streams.take(ToHandler::Request(OutboundRequest::new(RequestId::new(id), request)));
        self.run();
    }

    /// Opens the stream that is wanted.
    fn open(&mut self, window: usize) -> Script {
        let script = Script::with_window(window);
        let purpose = self.opens.pop().expect("a stream is wanted");
        self.streams.opened(purpose, script.clone(), self.now);
        self.run();
        script
    }

    /// Answers what the peer has asked, and returns how many it was.
    fn answer(&mut self, response: &Response) -> usize {
        let told = std::mem::take(&mut self.told);
        let count = told.len();
        for event in told {
            match event {
                FromHandler::RequestReceived(id, ..) => {
                    self.streams.take(ToHandler::Respond(id, response.clone()))
                }
                other => panic!("{other:?}"),
            }
        }
        self.run();
        count
    }

    fn failed(&mut self) -> Vec<(u64, RequestError)> {
        let told = std::mem::take(&mut self.told);
        told.into_iter()
            .map(|event| match event {
                FromHandler::RequestFailed(id, error) => {
                    ((0..).find(|n| RequestId::new(*n) == id).unwrap(), error)
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn bytes_of(request: &Request) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode_request(request, &mut frame);
    frame.to_vec()
}

fn pong() -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode_response(&Response::Pong, &mut frame);
    frame.to_vec()
}

fn find(len: usize) -> Request {
    Request::FindNode { key: vec![7; len].into() }
}

/// An announcement that names nobody, as no peer sends it.
fn announcement(n: u64) -> Request {
    Request::AddProvider { key: RecordKey::new(&n.to_be_bytes()), providers: vec![] }
}

/// An announcement of a peer.
fn announced_by_peer(n: u64) -> Request {
    let node_id = PeerId::from_multihash(Multihash::wrap(0x12, &[7; 32]).unwrap()).unwrap();
    let own = KadPeer { node_id, multiaddrs: Addresses::empty(), connection_ty: ConnectionType::Connected };
    Request::AddProvider { key: RecordKey::new(&n.to_be_bytes()), providers: vec![own] }
}

fn record(len: usize) -> SentRecord {
    SentRecord { key: RecordKey::new(b"key"), value: vec![7; len].into(), publisher: None, ttl: None }
}

fn value(len: usize) -> Response {
    Response::GetValue { key: None, record: Some(record(len)), closer_peers: vec![] }
}

#[test]
fn a_request_in_two_pieces_is_answered_after_any_silence_below_the_idle_limit() {
    for silence in [0, 5, 9, 10, 11, 15, 25, 40, 59] {
        for gap in [20 * MS, 200 * MS, 9 * SECOND] {
            for len in [30, 60_000] {
                let mut net = Net::new();
                let stream = net.accept(usize::MAX);
                stream.push(&bytes_of(&Request::Ping));
                net.run();
                assert_eq!(net.answer(&Response::Pong), 1);
                assert_eq!(stream.take_written(), pong());
                net.pass(silence * SECOND);
                let request = bytes_of(&find(len));
                let (first, second) = request.split_at(len / 2);
                stream.push(first);
                net.pass(gap);
                stream.push(second);
                net.pass(20 * MS);
                assert_eq!(net.answer(&Response::Pong), 1, "after {silence} s, {gap:?} apart, {len} bytes");
                assert_eq!(stream.take_written(), pong());
            }
        }
    }
}

#[test]
fn an_answer_in_two_pieces_is_taken_after_any_silence_below_the_idle_limit() {
    for silence in [0, 9, 11, 25, 29] {
        for gap in [20 * MS, 200 * MS, 9 * SECOND] {
            let mut net = Net::new();
            net.ask(0, Request::Ping);
            let stream = net.open(usize::MAX);
            stream.push(&pong());
            net.run();
            assert!(matches!(net.told.pop(), Some(FromHandler::ResponseReceived(..))));
            net.pass(silence * SECOND);
            net.ask(1, Request::Ping);
            assert_eq!(net.opens, [], "the stream is reused");
            let answer = pong();
            // It takes its time, but for that the node has a limit, not the stream.
            net.pass(9 * SECOND);
            stream.push(&answer[..2]);
            net.pass(gap);
            stream.push(&answer[2..]);
            net.run();
            let told = net.told.pop();
            assert!(matches!(told, Some(FromHandler::ResponseReceived(..))), "{silence} {gap:?} {told:?}");
        }
    }
}

#[test]
fn a_half_message_has_its_time_from_its_first_byte_on() {
    let mut net = Net::new();
    let stream = net.accept(usize::MAX);
    net.pass(40 * SECOND);
    stream.push(&bytes_of(&find(30))[..20]);
    net.pass(9 * SECOND);
    stream.push(&[7]);
    net.pass(999 * MS);
    assert!(!stream.is_dropped());
    net.pass(MS);
    assert!(stream.is_dropped());
    // The half answer of a peer: its request moves to a fresh stream, once.
    net.ask(0, Request::Ping);
    for _ in 0..2 {
        let stream = net.open(usize::MAX);
        net.pass(20 * SECOND);
        stream.push(&pong()[..3]);
        net.pass(9999 * MS);
        assert!(!stream.is_dropped() && net.told.is_empty());
        net.pass(MS);
        assert!(stream.is_dropped());
    }
    assert_eq!(net.failed(), [(0, RequestError::StreamEnded)]);
}

#[test]
fn who_has_no_room_for_an_announcement_says_so_and_that_is_told() {
    let mut net = Net::new();
    net.streams.set_supported(true);
    let request = |n| OutboundRequest::new(RequestId::new(n), announcement(n));
    (0..3).for_each(|n| net.streams.take(ToHandler::Request(request(n))));
    net.run();
    let stream = net.open(usize::MAX);
    net.told.clear();
    let key = |n| RecordKey::from(announcement(n).key().unwrap());
    let answer = |key, is_rejected| {
        let mut frame = BytesMut::new();
        encode_response(&Response::AddProvider { key, is_rejected }, &mut frame);
        frame
    };
    stream.push(&answer(key(0), false));
    stream.push(&answer(RecordKey::new(b"nobody asked"), true));
    stream.push(&answer(key(1), true));
    net.run();
    assert!(
        matches!(&net.told[..], [FromHandler::AnnouncementRejected(told)] if *told == key(1)),
        "{:?}",
        net.told
    );
    // One for each is taken; who says more is not listened to.
    stream.push(&answer(key(2), true));
    net.run();
    assert_eq!(net.told.len(), 1);
    assert!(stream.is_dropped());
}

#[test]
fn announcements_are_read_while_the_node_keeps_up_and_hold_no_answer_up() {
    let mut net = Net::new();
    let stream = net.accept(usize::MAX);
    let count = MAX_OWN_UNSERVED as u64 + 6;
    for n in 0..count {
        stream.push(&bytes_of(&announced_by_peer(n)));
    }
    stream.push(&bytes_of(&Request::Ping));
    net.run();
    assert_eq!(net.told.len(), MAX_OWN_UNSERVED, "as many as may wait for the node");
    let woken = net.woken.0.load(Ordering::Relaxed);
    net.told.truncate(MAX_OWN_UNSERVED - 1);
    assert_eq!(net.woken.0.load(Ordering::Relaxed), woken + 1, "the node has looked at one");
    net.run();
    assert_eq!(net.told.len(), MAX_OWN_UNSERVED);
    net.told.clear();
    net.run();
    assert_eq!(net.told.len(), 6, "the last announcements, and the ping");
    let ping = net.told.split_off(5);
    net.told = ping;
    assert_eq!(net.answer(&Response::Pong), 1);
    assert_eq!(stream.take_written(), pong(), "no word of the node about announcements was needed");
}

#[test]
fn what_the_node_says_of_an_announcement_goes_out_in_its_place() {
    for is_refused in [false, true] {
        let mut net = Net::new();
        let (stream, other) = (net.accept(usize::MAX), net.accept(usize::MAX));
        stream.push(&bytes_of(&Request::Ping));
        stream.push(&bytes_of(&announced_by_peer(0)));
        stream.push(&bytes_of(&find(30)));
        other.push(&bytes_of(&announced_by_peer(1)));
        net.run();
        let mut ids: Vec<_> = std::mem::take(&mut net.told)
            .into_iter()
            .map(|event| match event {
                FromHandler::RequestReceived(id, request, _) => (request, id),
                event => panic!("{event:?}"),
            })
            .collect();
        let mut take = |key: Option<RecordKey>| {
            let is_it = |(asked, _): &(Request, InboundId)| asked.key().map(RecordKey::from) == key;
            ids.remove(ids.iter().position(is_it).unwrap()).1
        };
        let announced = take(Some(RecordKey::new(&0u64.to_be_bytes())));
        let (ping, last) = (take(None), take(Some(RecordKey::new(&[7; 30]))));
        let key = RecordKey::new(&0u64.to_be_bytes());
        let rejected = Response::AddProvider { key, is_rejected: true };
        let mut frame = BytesMut::new();
        encode_response(&rejected, &mut frame);
        let word =
            if is_refused { ToHandler::Refuse(announced) } else { ToHandler::Respond(announced, rejected) };
        net.streams.take(ToHandler::Respond(last, Response::Pong));
        net.streams.take(word);
        net.run();
        assert_eq!(stream.take_written().len(), 0, "the ping was first");
        net.streams.take(ToHandler::Respond(ping, Response::Pong));
        net.run();
        let expected = if is_refused { pong() } else { [pong(), frame.to_vec(), pong()].concat() };
        assert_eq!(stream.take_written(), expected);
        assert_eq!(stream.is_closed(), is_refused);
        assert!(!other.is_dropped() && !other.is_closed(), "it came on another stream");
    }
}

#[test]
fn a_stream_of_announcements_that_is_not_read_ends_and_costs_no_turns() {
    let mut net = Net::new();
    for n in 0..6000 {
        net.streams.take(ToHandler::Request(OutboundRequest::new(RequestId::new(n), announcement(n))));
    }
    net.run();
    net.streams.set_supported(true);
    let first = net.open(10_000);
    let sent = net.told.iter().filter(|event| matches!(event, FromHandler::RequestSent(_))).count();
    assert!((200..1000).contains(&sent), "{sent}");
    net.told.clear();
    net.polls = 0;
    // The node gives up what is in flight, while the stream stands still.
    net.pass(5 * SECOND);
    for n in 4000..6000 {
        net.streams.take(ToHandler::Cancel(RequestId::new(n)));
    }
    net.pass(4999 * MS);
    assert!(!first.is_dropped() && net.told.is_empty(), "{:?}", net.told.first());
    assert!(net.polls < 20, "{} polls of a connection on which nothing happens", net.polls);
    net.pass(MS);
    assert!(first.is_dropped());
    // What was in the buffer goes on a fresh stream, but that ends, too: nothing is tried a third time.
    let second = net.open(0);
    net.pass(10 * SECOND);
    assert!(second.is_dropped());
    let failed = net.failed();
    assert!(
        !failed.is_empty()
            && failed.iter().all(|(id, error)| *id < 4000 && *error == RequestError::StreamEnded)
    );
    let _third = net.open(usize::MAX);
    net.told.retain(|event| !matches!(event, FromHandler::RequestSent(_)));
    assert!(net.told.is_empty());
    assert!(!net.streams.is_busy(), "whoever was not failed was sent");
}

#[test]
fn an_announcement_has_one_outcome_whatever_becomes_of_its_streams() {
    let mut net = Net::new();
    for n in 0..10 {
        net.ask(n, announcement(n));
    }
    net.streams.take(ToHandler::Cancel(RequestId::new(3)));
    let first = net.open(usize::MAX);
    assert!(!first.take_written().is_empty());
    let sent =
        |net: &Net| net.told.iter().filter(|event| matches!(event, FromHandler::RequestSent(_))).count();
    assert_eq!((net.told.len(), sent(&net)), (9, 9));
    // Some are out, the rest is in the buffer.
    first.shut_window();
    for n in 10..20 {
        net.ask(n, announcement(n));
    }
    net.pass(500 * MS);
    net.streams.take(ToHandler::Cancel(RequestId::new(14)));
    first.reset();
    net.run();
    assert_eq!(net.told.len(), 9);
    let second = net.open(usize::MAX);
    assert_eq!((net.told.len(), sent(&net)), (18, 18));
    second.reset();
    net.run();
    // What was on one stream only is sent once more, too.
    net.open(usize::MAX).reset();
    net.pass(60 * SECOND);
    assert_eq!(net.told.len(), 18, "what was sent has not failed");
    assert_eq!(net.opens, []);
}

#[test]
fn whoever_is_not_known_to_speak_the_protocol_is_told_when_it_has_been_negotiated_and_at_once_from_then_on() {
    let mut net = Net::new();
    net.ask(0, announcement(0));
    assert_eq!(net.opens, [Purpose::Introduce], "its word is awaited");
    net.pass(5 * SECOND);
    assert!(net.told.is_empty());
    let first = net.open(usize::MAX);
    assert!(matches!(net.told[..], [FromHandler::RequestSent(_)]), "no time passes then: {:?}", net.told);
    first.reset();
    net.run();
    net.ask(1, announcement(1));
    assert_eq!(net.opens, [Purpose::Announce], "it is known now");
    net.open(usize::MAX);
    assert_eq!(net.told.len(), 2);
    let mut other = Net::new();
    other.ask(0, announcement(0));
    other.opens.clear();
    other.streams.opening_failed(Purpose::Introduce, RequestError::Unsupported);
    other.run();
    assert!(matches!(
        other.told[..],
        [FromHandler::RequestFailed(_, RequestError::Unsupported), FromHandler::Protocol(false)]
    ));
}

#[test]
fn what_was_sent_is_remembered_within_bounds() {
    let mut net = Net::new();
    net.streams.set_supported(true);
    net.ask(0, announcement(0));
    let stream = net.open(usize::MAX);
    for n in 1..5000 {
        net.ask(n, announcement(n));
    }
    net.told.retain(|event| !matches!(event, FromHandler::RequestSent(_)));
    assert!(net.told.len() == 1, "all are sent: {:?}", net.told);
    stream.take_written();
    stream.reset();
    net.run();
    let again = net.open(usize::MAX).take_written().len() / bytes_of(&announcement(0)).len();
    assert_eq!(again, 1024, "the last ones are sent again");
}

#[test]
fn a_request_that_cannot_be_written_moves_to_a_fresh_stream_once() {
    let mut net = Net::new();
    net.ask(0, find(1000));
    net.ask(1, find(1000));
    let first = net.open(500);
    net.pass(9999 * MS);
    assert!(!first.is_dropped());
    net.pass(MS);
    assert!(first.is_dropped() && net.told.is_empty());
    while !net.opens.is_empty() {
        net.open(500);
    }
    net.pass(10 * SECOND);
    // The second was behind the first on their stream, and is suspected only now.
    assert_eq!(net.failed().len(), 1);
    while !net.opens.is_empty() {
        net.open(usize::MAX).push(&pong());
    }
    net.pass(60 * SECOND);
    assert!(!net.streams.is_busy(), "each has its outcome");
}

#[test]
fn a_peer_that_reads_no_answer_in_time_loses_its_stream() {
    let mut net = Net::new();
    let stream = net.accept(100);
    stream.push(&bytes_of(&Request::GetValue { key: RecordKey::new(b"key") }));
    net.run();
    net.answer(&value(2000));
    net.pass(9999 * MS);
    assert!(!stream.is_dropped());
    net.pass(MS);
    assert!(stream.is_dropped());
    assert_eq!(net.streams.held(), (0, 0));
    // Each answer has its own time: slow, but moving.
    let stream = net.accept(100);
    let ask = bytes_of(&Request::GetValue { key: RecordKey::new(b"key") });
    stream.push(&ask.repeat(8));
    net.run();
    while net.answer(&value(3000)) > 0 {}
    for _ in 0..40 {
        net.pass(SECOND);
        net.answer(&value(3000));
        stream.open_window(1000);
    }
    net.pass(SECOND);
    assert!(!stream.is_dropped());
    assert!(stream.take_written().len() > 8 * 3000);
}

#[test]
fn answers_of_a_connection_that_wait_are_bounded_and_all_come_when_it_reads() {
    let config = Config::default();
    let limit = config.limits.max_connection_buffer.get();
    let mut net = Net::with(config);
    let mut asked = 0;
    let mut answered = 0;
    let streams: Vec<_> = (0..32).map(|_| net.accept(0)).collect();
    for stream in &streams {
        let get = bytes_of(&Request::GetValue { key: RecordKey::new(b"key") });
        stream.push(&get.repeat(20));
        asked += 20;
    }
    net.run();
    loop {
        let some = net.answer(&value(30_000));
        answered += some;
        assert!(net.streams.held().0 <= limit + 80 * 1024, "{:?}", net.streams.held());
        if some == 0 {
            break;
        }
    }
    assert!((5..=20).contains(&answered), "{answered}");
    // Now the peer reads, a little at a time.
    let mut read = 0;
    while answered < asked || net.streams.held().0 > 0 {
        streams.iter().for_each(|stream| stream.open_window(5000));
        net.pass(MS);
        answered += net.answer(&value(30_000));
        assert!(net.streams.held().0 <= limit + 80 * 1024, "{:?}", net.streams.held());
        read += 1;
        assert!(read < 10_000, "{answered} of {asked}");
    }
    let written: usize = streams.iter().map(|stream| stream.take_written().len()).sum();
    assert!(written > asked * 30_000);
}

#[test]
fn a_full_node_reads_on_from_whoever_reads_its_answers() {
    let config = Config::default().with_max_node_buffer(NonZeroUsize::new(100_000).unwrap());
    let node = Shared::new(100_000);
    let (mut greedy, mut other) = (Net::of(&config, &node), Net::of(&config, &node));
    let get = bytes_of(&Request::GetValue { key: RecordKey::new(b"key") });
    let stream = greedy.accept(0);
    stream.push(&get.repeat(8));
    greedy.run();
    let mut answered = 0;
    while let some @ 1.. = greedy.answer(&value(60_000)) {
        answered += some;
    }
    assert_eq!(answered, 2, "the second exceeds the limit");
    assert!(node.buffer.used() > 100_000);
    // It waits, and looks again now and then; that costs next to nothing.
    greedy.polls = 0;
    greedy.pass(5 * SECOND);
    assert!((10..=50).contains(&greedy.polls), "{}", greedy.polls);
    assert_eq!(greedy.told.len(), 0);
    let honest = other.accept(usize::MAX);
    for _ in 0..100 {
        honest.push(&get.repeat(3));
        other.run();
        while other.answer(&value(60_000)) > 0 {}
        assert!(honest.take_written().len() > 3 * 60_000);
    }
    // The greedy one reads at last.
    stream.open_window(usize::MAX);
    greedy.pass(MS);
    while greedy.answer(&value(60_000)) > 0 {}
    assert!(stream.take_written().len() > 8 * 60_000);
    assert_eq!(node.buffer.used(), 0);
    stream.shut_window();
    stream.push(&get);
    greedy.run();
    greedy.answer(&value(60_000));
    assert!(node.buffer.used() > 60_000);
    drop(greedy);
    assert_eq!(node.buffer.used(), 0, "it is given back with the connection");
}

#[test]
fn whoever_waits_for_the_nodes_buffer_is_read_when_another_connection_makes_room() {
    let config = Config::default();
    let node = Shared::new(100_000);
    let (mut one, mut two) = (Net::of(&config, &node), Net::of(&config, &node));
    let get = bytes_of(&Request::GetValue { key: RecordKey::new(b"key") });
    let (full, waits) = (one.accept(0), two.accept(0));
    full.push(&get.repeat(2));
    one.run();
    while one.answer(&value(60_000)) > 0 {}
    // One answer of each is always taken; the next waits until the other has read its own.
    let second = two.accept(usize::MAX);
    waits.push(&get);
    two.run();
    assert_eq!(two.answer(&value(60_000)), 1);
    second.push(&get);
    two.pass(SECOND);
    assert_eq!(two.answer(&value(10)), 0);
    full.open_window(usize::MAX);
    one.run();
    two.pass(RETRY);
    assert_eq!(two.answer(&value(10)), 1);
    assert!(!second.take_written().is_empty());
}

#[test]
fn while_others_wait_for_the_node_a_connection_has_one_request_at_a_time() {
    let node = Shared::new(usize::MAX);
    let mut net = Net::of(&Config::default(), &node);
    let get = bytes_of(&find(32));
    let stream = net.accept(usize::MAX);
    stream.push(&get.repeat(8));
    net.run();
    assert_eq!(net.told.len(), 8, "nobody else is there");
    let others: Vec<_> = (0..MAX_UNSERVED + 8).map(|_| node.unserved.add()).collect();
    net.pass(SECOND);
    assert_eq!(net.answer(&value(10)), 8);
    stream.push(&get.repeat(8));
    for left in (1..=8).rev() {
        net.run();
        assert_eq!((net.told.len(), net.answer(&value(10))), (1, 1), "{left} are left");
    }
    stream.push(&get.repeat(8));
    net.run();
    assert_eq!(net.told.len(), 1);
    drop(others);
    net.pass(RETRY);
    assert_eq!(net.told.len(), 8, "there is little to do: the others come, too");
}

#[test]
fn half_messages_are_bounded_and_each_comes_to_its_end() {
    let config = Config::default();
    let limit = 4 * config.limits.max_message_size.get() + 33 * 2 * 4096;
    let mut net = Net::with(config);
    let request = bytes_of(&find(127 * 1024));
    let streams: Vec<_> = (0..32).map(|_| net.accept(usize::MAX)).collect();
    // All but the last byte of each: what is read is bounded, the rest stays with the muxer.
    for stream in &streams {
        stream.push(&request[..request.len() - 1]);
        net.run();
        assert!(net.streams.held().1 <= limit, "{:?}", net.streams.held());
    }
    assert!(streams.iter().filter(|stream| stream.unread() > 0).count() >= 28);
    // A short message passes them by, even in two pieces.
    let short = net.streams.inbound.len();
    net.pass(SECOND);
    assert_eq!(net.streams.inbound.len(), short);
    // The last bytes come in the reverse order; those that had to wait have not lost time by it.
    net.pass(5 * SECOND);
    let mut answered = 0;
    for stream in streams.iter().rev() {
        stream.push(&request[request.len() - 1..]);
        net.pass(100 * MS);
        answered += net.answer(&Response::Pong);
        assert!(net.streams.held().1 <= limit, "{:?}", net.streams.held());
    }
    net.pass(SECOND);
    answered += net.answer(&Response::Pong);
    assert_eq!(answered, 32);
    assert_eq!(net.streams.held(), (0, 0));
}

#[test]
fn half_messages_that_never_end_give_their_room_to_others_in_time() {
    let mut net = Net::new();
    let request = bytes_of(&find(127 * 1024));
    let stuck: Vec<_> = (0..4).map(|_| net.accept(usize::MAX)).collect();
    for stream in &stuck {
        stream.push(&request[..50_000]);
        net.run();
    }
    let patient = net.accept(usize::MAX);
    patient.push(&request);
    let short = net.accept(usize::MAX);
    let ping = bytes_of(&Request::Ping);
    short.push(&ping[..2]);
    net.run();
    short.push(&ping[2..]);
    net.run();
    assert_eq!(net.answer(&Response::Pong), 1, "a short message passes them by");
    net.pass(9 * SECOND);
    assert_eq!(net.told.len(), 0);
    net.pass(SECOND);
    assert!(stuck.iter().all(Script::is_dropped));
    assert_eq!(net.answer(&Response::Pong), 1);
}

#[test]
fn a_call_takes_a_bounded_number_of_turns_and_wakes_itself() {
    let mut net = Net::new();
    let stream = net.accept(usize::MAX);
    let request = bytes_of(&find(127 * 1024));
    stream.push(&request);
    let waker = Waker::from(net.woken.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(net.streams.poll(&mut cx, net.now).is_pending());
    assert!(stream.unread() > 0, "not all at once");
    assert_eq!(net.woken.0.load(Ordering::Relaxed), 1);
    net.run();
    assert_eq!(net.answer(&Response::Pong), 1);
    // Whoever floods one stream does not keep the others from being read.
    let other = net.accept(usize::MAX);
    stream.push(&bytes_of(&Request::Ping).repeat(100));
    other.push(&bytes_of(&find(3)));
    let first: Vec<_> = (0..2).map(|_| net.streams.poll(&mut cx, net.now)).collect();
    let finds = first.iter().filter(|step| {
        matches!(
            step,
            Poll::Ready(Action::Tell(FromHandler::RequestReceived(_, Request::FindNode { .. }, _)))
        )
    });
    assert_eq!(finds.count(), 1, "{first:?}");
}

#[test]
fn a_cancelled_request_that_is_not_out_leaves_its_stream_alone() {
    let mut net = Net::new();
    net.ask(0, find(3000));
    net.ask(1, find(3000));
    net.ask(2, find(3000));
    let stream = net.open(100);
    // Two are in the buffer, the third waits for them.
    net.streams.take(ToHandler::Cancel(RequestId::new(2)));
    net.run();
    assert!(!stream.is_dropped());
    stream.open_window(usize::MAX);
    net.run();
    assert_eq!(stream.take_written().len(), 2 * bytes_of(&find(3000)).len());
    net.streams.take(ToHandler::Cancel(RequestId::new(0)));
    net.run();
    assert!(stream.is_dropped(), "the answers behind it would come in its place");
    let fresh = net.open(usize::MAX);
    assert_eq!(fresh.take_written(), bytes_of(&find(3000)));
}

#[test]
fn a_closing_stream_has_its_time_too() {
    let mut net = Net::new();
    let stream = net.accept(pong().len());
    stream.push(&bytes_of(&Request::Ping));
    stream.end();
    net.run();
    assert_eq!(net.answer(&Response::Pong), 1);
    assert!(!stream.is_closed() && !stream.is_dropped());
    net.pass(10 * SECOND);
    assert!(stream.is_dropped());
}

#[test]
fn an_answer_to_what_is_not_out_yet_is_none() {
    let mut net = Net::new();
    for id in 0..3 {
        net.ask(id, find(3000));
    }
    let stream = net.open(100);
    let answer = {
        let mut frame = BytesMut::new();
        encode_response(&Response::FindNode { closer_peers: vec![] }, &mut frame);
        frame
    };
    // Two are in the buffer; the third was never sent.
    stream.push(&answer.repeat(3));
    net.run();
    let answered = std::mem::take(&mut net.told);
    assert_eq!(answered.len(), 2, "{answered:?}");
    assert!(stream.is_dropped());
    net.open(usize::MAX).push(&answer);
    net.run();
    assert!(matches!(net.told.pop(), Some(FromHandler::ResponseReceived(..))));
}

#[test]
fn a_peer_that_refused_a_stream_is_tried_with_one_more_after_many_answers() {
    let mut net = Net::new();
    (0..9).for_each(|id| net.ask(id, Request::Ping));
    let first = net.open(usize::MAX);
    let second = net.open(usize::MAX);
    second.reset();
    net.run();
    assert!(net.opens.is_empty(), "the peer has shown how many it allows");
    for id in 9..100 {
        net.ask(id, Request::Ping);
        first.push(&pong());
        net.run();
        if !net.opens.is_empty() {
            assert_eq!(id - 8, 64);
            return;
        }
    }
    panic!("it stays with one stream for ever");
}

#[test]
fn streams_and_bytes_are_counted_until_they_are_told() {
    let config = Config::default().with_max_inbound_streams(NonZeroUsize::new(1).unwrap());
    let mut net = Net::with(config);
    let (mut ping, mut pong) = (BytesMut::new(), BytesMut::new());
    encode_request(&Request::Ping, &mut ping);
    encode_response(&Response::Pong, &mut pong);
    let inbound = net.accept(1000);
    inbound.push(&ping);
    net.run();
    // The only one is busy.
    net.accept(1000);
    assert_eq!(net.streams.uncounted_bytes(), ping.len() as u64);
    assert_eq!(net.answer(&Response::Pong), 1);
    net.ask(1, Request::Ping);
    let outbound = net.open(1000);
    outbound.push(&pong);
    net.run();
    net.ask(2, Request::Ping);
    inbound.reset();
    net.run();
    let counts = net.streams.take_counts();
    let expected = Transport {
        bytes_received: (ping.len() + pong.len()) as u64,
        bytes_sent: (pong.len() + 2 * ping.len()) as u64,
        inbound_streams_opened: 1,
        inbound_streams_refused: 1,
        outbound_streams_opened: 1,
        outbound_streams_reused: 1,
        streams_reset: 1,
        ..Transport::default()
    };
    assert_eq!(counts, expected);
    assert_eq!((net.streams.take_counts(), net.streams.uncounted_bytes()), (Transport::default(), 0));
    // The peer ends the stream on which an answer is awaited.
    outbound.end();
    net.run();
    net.streams.opening_failed(net.opens.pop().unwrap(), RequestError::StreamEnded);
    let counts = net.streams.take_counts();
    assert_eq!((counts.streams_reset, counts.outbound_streams_failed), (1, 1));
}
