//! The chat itself: what comes of what is typed, of what others send, and of the time that passes.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Swarm};
use libp2p_gossipsub::{self as gossipsub, IdentTopic, MessageAcceptance, MessageId, PublishError};
use libp2p_kademlia::PeerInfo;
use libp2p_mdns as mdns;
use tokio::sync::mpsc;

use crate::message::{Deed, Message, checked_text};
use crate::node::{Found, Node, NodeEvent};
use crate::room::{HELLO_INTERVAL, Heard, Room};
use crate::screen::{Lines, Screen};
use crate::script::{Next, Script};

/// How many lines are kept while there is nobody to hear them.
const MAX_WAITING: usize = 100;

/// How often is looked what is due.
const TICK: Duration = Duration::from_millis(50);

/// At least this long lies between two hellos, however many come at once.
const HELLO_PAUSE: Duration = Duration::from_millis(250);

/// How long the goodbyes may take.
const LEAVING: Duration = Duration::from_millis(300);

/// What the search for others in the room tells.
pub(crate) enum News {
    Said(String),
    Found(PeerInfo),
}

/// Why the chat ends early.
pub(crate) enum Fault {
    Output(io::Error),
    Script(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Whether the chat goes on.
#[derive(PartialEq, Eq)]
pub(crate) enum Goes {
    On,
    Away,
}

/// A script, and when it has to be over.
pub(crate) struct Task {
    pub(crate) script: Script,
    pub(crate) deadline: Instant,
}

pub(crate) struct Chat {
    pub(crate) swarm: Swarm<Node>,
    pub(crate) screen: Screen,
    topic: IdentTopic,
    nick: String,
    room: Room,
    found: Found,
    task: Option<Task>,
    /// What was said when nobody was there.
    waiting: VecDeque<String>,
    hello_at: Instant,
    last_hello: Instant,
}

impl Chat {
    pub(crate) fn new(
        swarm: Swarm<Node>,
        screen: Screen,
        topic: IdentTopic,
        nick: String,
        task: Option<Task>,
    ) -> Self {
        let (room, found, waiting) = (Room::new(nick.clone()), Found::default(), VecDeque::new());
        let now = Instant::now();
        Self { swarm, screen, topic, nick, room, found, task, waiting, hello_at: now, last_hello: now }
    }

    /// Chats until the user leaves, the input ends or the script is over.
    ///
    /// # Errors
    /// Nobody reads any more, or something that the script expects has not been heard.
    pub(crate) async fn run(
        &mut self,
        mut lines: Option<Lines>,
        mut news: mpsc::Receiver<News>,
    ) -> Result<(), Fault> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut interrupted = pin!(tokio::signal::ctrl_c());
        loop {
            let goes = tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event)?,
                Some(news) = news.recv() => self.on_news(news)?,
                line = next_line(&mut lines) => match line {
                    Some(Ok(line)) => self.on_line(&line)?,
                    Some(Err(error)) => self.tell(&format!("the line could not be read: {error}"))?,
                    None => Goes::Away,
                },
                _ = tick.tick() => self.on_tick()?,
                _ = &mut interrupted => Goes::Away,
            };
            if goes == Goes::Away || self.follow_script()? == Goes::Away {
                return Ok(());
            }
        }
    }

    /// Says goodbye, and waits a moment until it is on its way.
    pub(crate) async fn leave(mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.tell(&format!("nobody has heard your last lines: {}", self.waiting.len()))?;
        }
        if let Err(error) = self.publish(Deed::Bye) {
            tracing::debug!(%error, "no goodbye");
        }
        self.swarm.behaviour_mut().gossipsub.unsubscribe(&self.topic);
        // It always runs out: a swarm has no end.
        let _ = tokio::time::timeout(LEAVING, async {
            loop {
                self.swarm.select_next_some().await;
            }
        })
        .await;
        Ok(())
    }

    /// Tells the user something that nobody has said.
    pub(crate) fn tell(&mut self, text: &str) -> io::Result<Goes> {
        self.screen.show(&format!("* {text}"))?;
        Ok(Goes::On)
    }

    fn on_news(&mut self, news: News) -> io::Result<Goes> {
        match news {
            News::Said(text) => self.tell(&text),
            News::Found(PeerInfo { peer_id, addrs }) => {
                tracing::debug!(%peer_id, ?addrs, "found");
                self.found.add(Instant::now(), peer_id, addrs);
                self.found.dial(Instant::now(), &mut self.swarm);
                Ok(Goes::On)
            }
        }
    }

    fn on_line(&mut self, line: &str) -> io::Result<Goes> {
        match line.trim() {
            "" => Ok(Goes::On),
            "/quit" => Ok(Goes::Away),
            "/who" => {
                let names: Vec<_> = std::iter::once("you").chain(self.room.names()).collect();
                let names = names.join(", ");
                self.tell(&format!("here: {names}"))
            }
            command if command.starts_with('/') => {
                self.tell("unknown command: there are /who and /quit; all other lines are said to everybody")
            }
            text => match checked_text(text) {
                Ok(Some(text)) => self.say(text),
                Ok(None) => Ok(Goes::On),
                Err(error) => self.tell(&format!("not said: {error}")),
            },
        }
    }

    /// Says something, or keeps it until somebody is there.
    fn say(&mut self, text: String) -> io::Result<Goes> {
        if self.waiting.is_empty() {
            match self.publish(Deed::Say(text.clone())) {
                Ok(()) => return Ok(Goes::On),
                Err(PublishError::NoPeersSubscribedToTopic | PublishError::AllQueuesFull(_)) => {
                    self.tell("nobody is here yet: your lines are kept until somebody is")?;
                }
                Err(error) => return self.tell(&format!("not said: {error}")),
            }
        }
        if self.waiting.len() == MAX_WAITING {
            return self.tell(&format!("not said: {MAX_WAITING} lines are waiting for somebody already"));
        }
        self.waiting.push_back(text);
        Ok(Goes::On)
    }

    /// Says what was kept.
    fn say_kept(&mut self) -> io::Result<Goes> {
        let before = self.waiting.len();
        while let Some(text) = self.waiting.front().cloned() {
            if self.publish(Deed::Say(text)).is_err() {
                break;
            }
            self.waiting.pop_front();
        }
        if before > 0 && self.waiting.is_empty() {
            self.tell("somebody is here: your lines have been said")?;
        }
        Ok(Goes::On)
    }

    fn publish(&mut self, deed: Deed) -> Result<(), PublishError> {
        let message = Message { nick: self.nick.clone(), deed }.encode();
        self.swarm.behaviour_mut().gossipsub.publish(self.topic.hash(), message).map(|_| ())
    }

    fn on_event(&mut self, event: SwarmEvent<NodeEvent>) -> io::Result<Goes> {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(NodeEvent::Gossipsub(event)) => return self.on_gossip(now, event),
            SwarmEvent::Behaviour(NodeEvent::Mdns(mdns::Event::Discovered(peers))) => {
                for (peer, address) in peers {
                    self.swarm.behaviour_mut().kademlia.add_address(&peer, address.clone());
                    self.found.add(now, peer, vec![address]);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.lost(now, peer_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "not reached");
                if !self.swarm.is_connected(&peer) {
                    self.found.failed(now, &peer);
                    let left = self.room.unreachable(&peer);
                    return self.tell_left(left);
                }
            }
            _ => {}
        }
        Ok(Goes::On)
    }

    /// Takes note that a peer is not connected any more. If it is still there it can be dialled again; if not it has left.
    fn lost(&mut self, now: Instant, peer: PeerId) {
        if self.room.lost(&peer) {
            self.found.lost(now, peer);
        }
    }

    fn on_gossip(&mut self, now: Instant, event: gossipsub::Event) -> io::Result<Goes> {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                self.on_message(now, propagation_source, &message_id, &message)
            }
            gossipsub::Event::Subscribed { .. } => {
                // Whoever comes wants to know who is here.
                self.hello_at = self.hello_at.min(now.max(self.last_hello + HELLO_PAUSE));
                self.greet(now);
                Ok(Goes::On)
            }
            gossipsub::Event::Unsubscribed { peer_id, .. } => {
                self.room.unsubscribed(now, &peer_id);
                Ok(Goes::On)
            }
            _ => Ok(Goes::On),
        }
    }

    fn on_message(
        &mut self,
        now: Instant,
        from: PeerId,
        id: &MessageId,
        message: &gossipsub::Message,
    ) -> io::Result<Goes> {
        let decoded = Message::decode(&message.data);
        let acceptance =
            if decoded.is_some() { MessageAcceptance::Accept } else { MessageAcceptance::Reject };
        self.swarm.behaviour_mut().gossipsub.report_message_validation_result(id, &from, acceptance);
        // All messages are signed and numbered, or gossipsub would not have taken them.
        let (Some(Message { nick, deed }), Some(peer), Some(number)) =
            (decoded, message.source, message.sequence_number)
        else {
            return Ok(Goes::On);
        };
        if deed == Deed::Bye {
            let left = self.room.bye(now, peer, number);
            return self.tell_left(left);
        }
        let name = match self.room.heard(now, peer, number, &nick) {
            Heard::Joined(name) => {
                self.tell(&format!("{name} joined"))?;
                name
            }
            Heard::Known(name) => name,
            Heard::Stale => return Ok(Goes::On),
        };
        if let Deed::Say(text) = deed {
            self.screen.show(&format!("{name}: {text}"))?;
            if let Some(task) = &mut self.task {
                task.script.heard(&name, &text);
            }
        }
        Ok(Goes::On)
    }

    fn tell_left(&mut self, left: Option<String>) -> io::Result<Goes> {
        left.map_or(Ok(Goes::On), |name| self.tell(&format!("{name} left")))
    }

    fn on_tick(&mut self) -> io::Result<Goes> {
        let now = Instant::now();
        self.found.dial(now, &mut self.swarm);
        self.greet(now);
        for name in self.room.silent(now) {
            self.tell(&format!("{name} left"))?;
        }
        self.say_kept()
    }

    /// Says hello if it is time.
    fn greet(&mut self, now: Instant) {
        if self.hello_at > now {
            return;
        }
        // Nobody may be there to hear it.
        if let Err(error) = self.publish(Deed::Hello) {
            tracing::debug!(%error, "no hello");
        }
        (self.last_hello, self.hello_at) = (now, now + HELLO_INTERVAL);
    }

    fn follow_script(&mut self) -> Result<Goes, Fault> {
        let now = Instant::now();
        loop {
            let Some(task) = &mut self.task else { return Ok(Goes::On) };
            let next =
                if self.waiting.is_empty() { task.script.next(now, self.room.len()) } else { Next::Nothing };
            match next {
                Next::Say(text) => {
                    self.screen.show(&format!("{}: {text}", self.nick))?;
                    self.say(text)?;
                }
                Next::Quit => return Ok(Goes::Away),
                Next::Nothing if now < task.deadline => return Ok(Goes::On),
                Next::Nothing if !self.waiting.is_empty() => {
                    return Err(Fault::Script("nobody was there to hear what was said".to_owned()));
                }
                Next::Nothing => return Err(Fault::Script(format!("in vain: {}", task.script.stuck_at()))),
            }
        }
    }
}

/// Returns what is typed next; waits for ever if nobody types.
async fn next_line(lines: &mut Option<Lines>) -> Option<io::Result<String>> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}
