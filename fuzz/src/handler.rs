//! The streams of a connection, told whatever may happen in any order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::BytesMut;
use libp2p_kademlia::dht::{InboundId, RequestId};
use libp2p_kademlia::fuzzing::{
    DoorAction, DoorConnection, DoorNode, FromHandler, OutboundRequest, Purpose, Script, ToHandler,
};
use libp2p_kademlia::message::{Request, Response, SentRecord};
use libp2p_kademlia::time::{Duration, Instant};
use libp2p_kademlia::wire::{encode_request, encode_response};
use libp2p_kademlia::{Config, Mode, RecordKey, RequestError};

/// What messages may have, answers that wait on the connection, and on the node.
const FRAME: usize = 6 * 1024;
const CONNECTION: usize = 20_000;
const NODE: usize = 30_000;

/// How much one answer may exceed a limit by, as long as it may be: peers, and a value.
const ANSWER: usize = 80 * 1024 + 64;

const STREAMS: usize = 6;

fn nz(n: usize) -> std::num::NonZeroUsize {
    std::num::NonZeroUsize::new(n).expect("not zero")
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    Config::default()
        .with_max_message_size(nz(FRAME))
        .with_max_inbound_streams(nz(STREAMS))
        .with_max_connection_buffer(nz(CONNECTION))
        .with_max_node_buffer(nz(NODE))
});

fn key(n: u8) -> RecordKey {
    RecordKey::new(&[n])
}

fn record(n: u8, len: usize) -> SentRecord {
    SentRecord { key: key(n), value: vec![n; len].into(), publisher: None, ttl: None }
}

fn request(arg: u8) -> Request {
    match arg % 8 {
        0 => Request::Ping,
        1 => Request::FindNode { key: vec![arg; 1 + usize::from(arg)].into() },
        2 => Request::GetValue { key: key(arg) },
        3 => Request::GetProviders { key: key(arg) },
        4 => Request::PutValue { record: record(arg, usize::from(arg) * 20) },
        _ => Request::AddProvider { key: key(arg), providers: vec![] },
    }
}

/// What the peer may send: requests, and things that are none.
fn sent(arg: u8) -> BytesMut {
    let mut bytes = BytesMut::new();
    match arg % 8 {
        0 => encode_request(&Request::Ping, &mut bytes),
        1 => encode_request(&Request::FindNode { key: vec![arg; 5_000].into() }, &mut bytes),
        2 => encode_request(&Request::GetValue { key: key(arg) }, &mut bytes),
        3 => (0..8).for_each(|_| encode_request(&Request::GetProviders { key: key(arg) }, &mut bytes)),
        4 => encode_request(&Request::PutValue { record: record(arg, 4_500) }, &mut bytes),
        5 => encode_response(&Response::Pong, &mut bytes),
        6 => bytes.extend_from_slice(&[0xff; 4]),
        // An answer to an announcement, as py-libp2p gives it.
        _ => bytes.extend_from_slice(&[2, 8, 2]),
    }
    bytes
}

fn answer_to(request: &Request, arg: u8) -> Response {
    match request {
        Request::GetValue { key } => {
            let record = SentRecord {
                key: key.clone(),
                value: vec![arg; usize::from(arg) * 30].into(),
                publisher: None,
                ttl: None,
            };
            Response::GetValue { key: Some(key.clone()), record: Some(record), closer_peers: vec![] }
        }
        Request::GetProviders { key } => {
            Response::GetProviders { key: Some(key.clone()), provider_peers: vec![], closer_peers: vec![] }
        }
        Request::PutValue { record } => {
            Response::PutValue { key: record.key.clone(), value: Some(record.value.clone()) }
        }
        Request::FindNode { .. } => Response::FindNode { closer_peers: vec![] },
        _ => Response::Pong,
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream, and what the peer holds back of what it has begun to send.
struct Line {
    script: Script,
    rest: BytesMut,
}

struct World {
    now: Instant,
    node: DoorNode,
    other: DoorConnection,
    connection: DoorConnection,
    flag: Arc<Flag>,
    waker: Waker,
    lines: Vec<Line>,
    wanted: Vec<Purpose>,
    /// What this node has asked, by number, and has no outcome of.
    asked: BTreeMap<u64, ()>,
    next: u64,
    /// What the peer has asked.
    to_answer: Vec<(InboundId, Request)>,
}

impl World {
    fn new() -> Self {
        let (now, node) = (*START, DoorNode::new(&CONFIG));
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        Self {
            now,
            other: DoorConnection::new(&CONFIG, &node, now),
            connection: DoorConnection::new(&CONFIG, &node, now),
            node,
            waker: Waker::from(flag.clone()),
            flag,
            lines: Vec::new(),
            wanted: Vec::new(),
            asked: BTreeMap::new(),
            next: 0,
            to_answer: Vec::new(),
        }
    }

    /// Polls until nothing comes any more, and checks what must hold then.
    fn run(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "it never comes to rest");
            self.flag.0.store(false, Ordering::Relaxed);
            match self.connection.poll(&mut Context::from_waker(&self.waker), self.now) {
                Poll::Ready(DoorAction::Tell(event)) => self.told(event),
                Poll::Ready(DoorAction::Open(purpose)) => self.wanted.push(purpose),
                Poll::Pending if self.flag.0.load(Ordering::Relaxed) => {}
                Poll::Pending => break,
            }
        }
        // Whatever could have moved on would not be woken for it.
        let before = self.state();
        let again = self.connection.poll(&mut Context::from_waker(&self.waker), self.now);
        assert!(again.is_pending() && self.state() == before, "it was not at rest: {again:?}");
        let deadline = self.connection.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "overdue");
        assert!(self.wanted.len() <= 9, "too many streams are being opened");
        let (answers, half) = self.connection.held();
        assert!(answers <= CONNECTION + ANSWER, "{answers} bytes of answers");
        assert!(self.node.held() <= NODE + 2 * ANSWER, "{} bytes of answers", self.node.held());
        assert!(half <= 4 * FRAME + (STREAMS + 9) * 2 * 4096, "{half} bytes of half messages");
    }

    /// What is held, and what waits in the streams.
    fn state(&self) -> ((usize, usize), usize) {
        (self.connection.held(), self.lines.iter().map(|line| line.script.unread()).sum())
    }

    fn told(&mut self, event: FromHandler) {
        match event {
            FromHandler::RequestReceived(id, request, _) => self.to_answer.push((id, request)),
            FromHandler::RequestSent(id)
            | FromHandler::ResponseReceived(id, _)
            | FromHandler::RequestFailed(id, _) => self.outcome(id),
            FromHandler::Protocol(_) | FromHandler::Doubted | FromHandler::AnnouncementRejected(_) => {}
        }
    }

    fn outcome(&mut self, id: RequestId) {
        let number = self.asked.keys().copied().find(|number| RequestId::new(*number) == id);
        let known = number.and_then(|number| self.asked.remove(&number));
        assert!(known.is_some(), "a second outcome of {id:?}");
    }

    /// Lets time pass, from one deadline to the next.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while let Some(deadline) = self.connection.deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline;
            // By the clock alone, as it must do, or as the handler does it.
            if steps % 2 == 0 {
                self.connection.on_timeout(self.now);
                let next = self.connection.deadline();
                assert!(next.is_none_or(|next| next > self.now), "the deadline is not used up");
            }
            self.run();
            steps += 1;
            assert!(steps < 100 + time.as_millis() / 100, "too many deadlines");
        }
        self.now = until;
        self.run();
    }

    fn line(&mut self, n: u8) -> Option<&mut Line> {
        self.lines.retain(|line| !line.script.is_dropped());
        let at = usize::from(n) % self.lines.len().max(1);
        self.lines.get_mut(at)
    }

    fn add(&mut self, window: usize) -> Script {
        let script = Script::with_window(window);
        self.lines.push(Line { script: script.clone(), rest: BytesMut::new() });
        script
    }

    fn step(&mut self, op: u8, arg: u8) {
        match op % 16 {
            0 => {
                let script = self.add(usize::from(arg) * 300);
                self.connection.accept(script, self.now);
            }
            1 | 2 => {
                self.connection
                    .take(ToHandler::Request(OutboundRequest::new(RequestId::new(self.next), request(arg))));
                self.asked.insert(self.next, ());
                self.next += 1;
            }
            3 => self.cancel(arg),
            4 => self.open(arg),
            5 => self.send(op / 16, arg),
            6 => self.send_rest(op / 16, arg),
            7 => self.answer_us(op / 16, arg),
            8 | 9 => self.answer(op / 16, arg),
            10 => {
                if let Some(line) = self.line(op / 16) {
                    line.script.open_window(usize::from(arg) * 400);
                }
            }
            11 => self.harm(op / 16, arg),
            12 => return self.pass(Duration::from_millis(u64::from(arg) * 4)),
            13 => return self.pass(Duration::from_millis(u64::from(arg) * 150)),
            14 => self.shell(arg),
            _ => {
                // Another connection of the node comes and goes, or fills what both share.
                self.other = DoorConnection::new(&CONFIG, &self.node, self.now);
                let script = Script::with_window(0);
                (0..arg % 4).for_each(|n| script.push(&sent(n)));
                self.other.accept(script, self.now);
                let _ = self.other.poll(&mut Context::from_waker(&self.waker), self.now);
            }
        }
        self.run();
    }

    fn cancel(&mut self, arg: u8) {
        let at = usize::from(arg) % self.asked.len().max(1);
        if let Some(number) = self.asked.keys().copied().nth(at) {
            self.asked.remove(&number);
            self.connection.take(ToHandler::Cancel(RequestId::new(number)));
        }
    }

    fn open(&mut self, arg: u8) {
        if self.wanted.is_empty() {
            return;
        }
        let purpose = self.wanted.swap_remove(usize::from(arg) % self.wanted.len());
        match arg {
            0..8 => self.connection.opening_failed(purpose, RequestError::Unsupported),
            8..24 => self.connection.opening_failed(purpose, RequestError::StreamEnded),
            _ => {
                let script = self.add(usize::from(arg - 24) * 200);
                self.connection.opened(purpose, script, self.now);
            }
        }
    }

    /// The peer begins a message, and sends so much of it.
    fn send(&mut self, to: u8, arg: u8) {
        if let Some(line) = self.line(to) {
            line.rest.extend_from_slice(&sent(arg));
            let first = (usize::from(arg) * 21).min(line.rest.len());
            line.script.push(&line.rest.split_to(first));
        }
    }

    fn send_rest(&mut self, to: u8, arg: u8) {
        if let Some(line) = self.line(to) {
            let more = (1 + usize::from(arg) * 50).min(line.rest.len());
            line.script.push(&line.rest.split_to(more));
        }
    }

    /// The peer answers what it has read, whole or in part.
    fn answer_us(&mut self, on: u8, arg: u8) {
        if let Some(line) = self.line(on) {
            let mut bytes = BytesMut::new();
            let written = line.script.take_written();
            let mut written = BytesMut::from(&written[..]);
            let codec = libp2p_kademlia::wire::ServerCodec::new(usize::MAX);
            while let Ok(Some(request)) = codec.decode(&mut written) {
                if request.is_answered() || arg.is_multiple_of(4) {
                    encode_response(&answer_to(&request, arg), &mut bytes);
                }
            }
            line.rest.extend_from_slice(&bytes);
            let first = line.rest.len().saturating_sub(usize::from(arg / 4) * 8);
            line.script.push(&line.rest.split_to(first));
        }
    }

    /// The node answers.
    fn answer(&mut self, at: u8, arg: u8) {
        if self.to_answer.is_empty() {
            return;
        }
        let (id, request) = self.to_answer.remove(usize::from(at) % self.to_answer.len());
        self.connection.take(match (request.is_answered(), arg) {
            // As a rule it says nothing of an announcement.
            (false, 16..128) => return,
            (_, 16..) => ToHandler::Respond(id, answer_to(&request, arg)),
            (_, ..16) => ToHandler::Refuse(id),
        });
    }

    fn harm(&mut self, to: u8, arg: u8) {
        if let Some(line) = self.line(to) {
            match arg % 4 {
                0 => line.script.reset(),
                1 => line.script.end(),
                _ => line.script.shut_window(),
            }
        }
    }

    fn shell(&mut self, arg: u8) {
        match arg % 8 {
            0 => self.connection.take(ToHandler::Mode(Mode::Client)),
            1 | 2 => self.connection.take(ToHandler::Mode(Mode::Server)),
            3 => self.connection.set_supported(false),
            4 => self.connection.set_supported(true),
            _ => self.connection.take(ToHandler::KeepAlive(arg > 127)),
        }
    }

    /// Whatever is under way ends when the node gives up and time passes.
    fn end(mut self, goes_down: bool) {
        if goes_down {
            while let Some(event) = self.connection.close() {
                self.told(event);
            }
            self.connection.take_all().into_iter().for_each(|id| self.outcome(id));
            assert!(self.asked.is_empty(), "no outcome of {:?}", self.asked);
        } else {
            for number in std::mem::take(&mut self.asked).into_keys() {
                self.connection.take(ToHandler::Cancel(RequestId::new(number)));
            }
            // Whatever a handler takes, its task polls it then: a message that had no room beside what was cancelled goes on.
            self.run();
            self.pass(Duration::from_secs(200));
            assert!(self.lines.iter().all(|line| line.script.is_dropped()), "a stream outlives all");
            assert_eq!(self.connection.held(), (0, 0));
        }
        let Self { node, connection, other, .. } = self;
        drop((connection, other));
        assert_eq!(node.held(), 0, "it is given back");
    }
}

/// Does to the streams of a connection whatever may happen to them; each request has one outcome, what waits is bounded,
/// and time moves on.
pub fn handler(data: &[u8]) {
    let mut world = World::new();
    for step in data.chunks_exact(2).take(100) {
        world.step(step[0], step[1]);
    }
    world.end(data.len() % 4 < 2);
}
