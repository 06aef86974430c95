//! What loads a server: a bare client, which writes requests that were made before and reads the answers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::Stream;
use libp2p::{PeerId, identity};
use libp2p_kademlia::message::Response;
use libp2p_kademlia::wire::decode_response;
use libp2p_stream::Control;
use tokio::task::{JoinHandle, JoinSet};

use super::carrier::{Carrier, run, swarm};
use super::measured::Place;
use super::{Failure, PROTOCOL};

/// How many requests are in flight, each on another stream: nobody sends a second one on a stream before the first is answered.
const IN_FLIGHT: usize = 16;
/// One answer in so many is looked at.
const LOOKED_AT: usize = 1000;

/// What is asked of a server.
pub(crate) struct Load {
    /// Whole frames, which are sent in turn.
    pub(crate) requests: Vec<Bytes>,
    /// Where those are not answered, a request that is: its answer says that all before it have been read.
    pub(crate) last: Option<Bytes>,
    /// Whether each request has a stream of its own.
    pub(crate) opens_streams: bool,
    /// Whether an answer is what it is to be.
    pub(crate) is_right: fn(&Response) -> bool,
}

impl Load {
    /// Looks at the frame of an answer.
    fn check(&self, frame: &[u8]) -> Result<(), Failure> {
        let body = unsigned_varint::decode::usize(frame).map_err(|error| error.to_string())?.1;
        let response = decode_response(body).map_err(|error| error.to_string())?;
        if (self.is_right)(&response) { Ok(()) } else { Err("a wrong answer".into()) }
    }
}

/// A client that is connected to a server.
pub(crate) struct Driver {
    control: Control,
    server: PeerId,
    lines: Vec<Line>,
    task: JoinHandle<()>,
    /// An answer, its length included.
    pub(crate) answer: Option<Bytes>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    /// Connects.
    pub(crate) async fn connect(
        carrier: Carrier,
        keypair: &identity::Keypair,
        server: &Place,
    ) -> Result<Self, Failure> {
        let mut swarm = swarm(carrier, keypair, libp2p_stream::Behaviour::new());
        let (control, server, address) =
            (swarm.behaviour().new_control(), server.peer, server.address.clone());
        swarm.dial(address).map_err(|error| error.to_string())?;
        while !swarm.is_connected(&server) {
            swarm.select_next_some().await;
        }
        let task = tokio::spawn(async move { run(&mut swarm).await });
        Ok(Self { control, server, lines: Vec::new(), task, answer: None })
    }

    /// Makes so many requests, and waits until the server is done with them.
    pub(crate) async fn drive(&mut self, load: &Arc<Load>, requests: usize) -> Result<(), Failure> {
        if load.opens_streams {
            return self.open_streams(load, requests).await;
        }
        while self.lines.len() < IN_FLIGHT {
            let stream = self.control.open_stream(self.server, PROTOCOL).await;
            self.lines.push(Line::new(stream.map_err(|error| error.to_string())?));
        }
        let each = requests / IN_FLIGHT;
        let drives = self.lines.iter_mut().enumerate().map(|(at, line)| line.drive(load, at * each, each));
        try_join_all(drives).await?;
        self.answer = self.lines.iter_mut().find_map(|line| line.answer.take());
        Ok(())
    }

    /// Makes one request, and waits for its answer.
    pub(crate) async fn ask_once(&mut self, load: &Load) -> Result<(), Failure> {
        if self.lines.is_empty() {
            let stream = self.control.open_stream(self.server, PROTOCOL).await;
            self.lines.push(Line::new(stream.map_err(|error| error.to_string())?));
        }
        let Some(line) = self.lines.first_mut() else { return Err("no stream".into()) };
        line.ask(load, 1).await?;
        self.answer = line.answer.take().or(self.answer.take());
        Ok(())
    }

    async fn open_streams(&mut self, load: &Arc<Load>, requests: usize) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        for from in 0..IN_FLIGHT {
            let (control, server, load) = (self.control.clone(), self.server, load.clone());
            tasks.spawn(open(control, server, load, (from..requests).step_by(IN_FLIGHT)));
        }
        while let Some(answer) = tasks.join_next().await {
            let answer = answer.map_err(|error| error.to_string())??;
            self.answer = answer.or(self.answer.take());
        }
        Ok(())
    }
}

/// Makes one request after the other, each on a stream of its own.
async fn open(
    mut control: Control,
    server: PeerId,
    load: Arc<Load>,
    numbers: impl Iterator<Item = usize>,
) -> Result<Option<Bytes>, Failure> {
    let (mut answer, mut first) = (Vec::new(), None);
    for number in numbers {
        let request = &load.requests[number % load.requests.len()];
        let stream = control.open_stream(server, PROTOCOL).await;
        let mut stream = stream.map_err(|error| error.to_string())?;
        answer.clear();
        let done = async {
            stream.write_all(request).await?;
            stream.close().await?;
            stream.read_to_end(&mut answer).await
        };
        done.await.map_err(|error| error.to_string())?;
        if answer.is_empty() != load.last.is_some() {
            return Err(format!("an answer of {} bytes", answer.len()));
        }
        if load.last.is_none() && (first.is_none() || number % LOOKED_AT == 0) {
            load.check(&answer)?;
            first.get_or_insert_with(|| Bytes::copy_from_slice(&answer));
        }
    }
    Ok(first)
}

/// A stream that serves again and again.
struct Line {
    stream: Stream,
    read: BytesMut,
    chunk: Vec<u8>,
    /// The number of the next request.
    next: usize,
    answer: Option<Bytes>,
}

impl Line {
    fn new(stream: Stream) -> Self {
        let (read, chunk) = (BytesMut::new(), vec![0; 64 * 1024]);
        Self { stream, read, chunk, next: 0, answer: None }
    }

    /// Makes so many requests, the first of which has that number.
    async fn drive(&mut self, load: &Load, first: usize, requests: usize) -> Result<(), Failure> {
        self.next = first;
        match &load.last {
            None => self.ask(load, requests).await,
            Some(last) => self.tell(load, last, requests).await,
        }
    }

    /// Makes one request after the other.
    async fn ask(&mut self, load: &Load, requests: usize) -> Result<(), Failure> {
        for number in 0..requests {
            self.send(load).await?;
            while !self.receive(load, number % LOOKED_AT == 0).await? {}
        }
        Ok(())
    }

    /// Makes requests that are not answered, as fast as the server reads them.
    async fn tell(&mut self, load: &Load, last: &Bytes, requests: usize) -> Result<(), Failure> {
        for _ in 0..requests {
            self.send(load).await?;
        }
        self.write(last).await?;
        while !self.receive(load, true).await? {}
        Ok(())
    }

    async fn send(&mut self, load: &Load) -> Result<(), Failure> {
        let request = &load.requests[self.next % load.requests.len()];
        self.next += 1;
        self.write(request).await
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.stream.write_all(frame).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| error.to_string())
    }

    /// Reads once, and returns whether the answer is complete; looks at it if it is to.
    async fn receive(&mut self, load: &Load, looks: bool) -> Result<bool, Failure> {
        let len = self.stream.read(&mut self.chunk).await.map_err(|error| error.to_string())?;
        if len == 0 {
            return Err("the server has ended a stream".into());
        }
        self.read.extend_from_slice(&self.chunk[..len]);
        let Some(end) = frame(&self.read) else { return Ok(false) };
        let answer = self.read.split_to(end);
        if looks {
            load.check(&answer)?;
            self.answer = Some(answer.freeze());
        }
        Ok(true)
    }
}

/// Returns the length of the first whole frame of a buffer.
fn frame(buffer: &[u8]) -> Option<usize> {
    let (len, rest) = unsigned_varint::decode::usize(buffer).ok()?;
    let end = buffer.len() - rest.len() + len;
    (buffer.len() >= end).then_some(end)
}
