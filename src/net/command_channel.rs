//! The command channel: clients send commands through it to the node, and get back what comes of their queries.
//!
//! Knows clients' commands as values; the behaviour, which executes them, knows the channel.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::StreamExt as _;
use futures::channel::{mpsc, oneshot};
use indexmap::IndexMap;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::dht::Event;
use crate::dht::bans::{Ban, BanTarget};
use crate::dht::op::{Command, QueryResult};
use crate::error::{AddressError, BanError, ClientError, StoreError};
use crate::event::{Mode, QueryId, QueryStats, RoutingUpdate};
use crate::peer::PeerInfo;
use crate::record::{Record, RecordKey};
use crate::region::NetworkSize;
use crate::routing::Experience;
use crate::routing::TableSnapshot;
use crate::stats::Stats;
use crate::time::SystemTime;

/// How many commands wait to be executed at most; one more is refused. Chosen, not measured.
const MAX_COMMANDS: usize = 1024;

/// The sending end of the channel.
#[derive(Clone, Debug)]
pub(crate) struct CommandSender {
    sender: mpsc::Sender<ClientCommand>,
    shared: Arc<SharedCommands>,
}

#[derive(Debug, Default)]
struct SharedCommands {
    waiting: AtomicUsize,
    next_id: AtomicU64,
}

impl CommandSender {
    pub(crate) fn next_id(&self) -> CommandId {
        CommandId(self.shared.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a command. One that follows an earlier command always finds room, since there was room for that: there is one
    /// cancellation, and a word of more room only for what has been taken since the swarm was polled.
    ///
    /// # Errors
    /// [`ClientError::Busy`] if [`MAX_COMMANDS`] wait: try again later. [`ClientError::Closed`] if the swarm is gone.
    pub(crate) fn send(&self, command: ClientCommand) -> Result<(), ClientError> {
        let follows = matches!(
            command,
            ClientCommand::Cancel(_) | ClientCommand::Retire(_) | ClientCommand::MakeRoom(..)
        );
        if self.shared.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_COMMANDS && !follows {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(ClientError::Busy);
        }
        // A sender of its own has room for one command in any case: the count above is what bounds them.
        self.sender.clone().try_send(command).map_err(|_| {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            ClientError::Closed
        })
    }
}

/// A guard of a query that a client waits for: cancels it when it is dropped.
#[derive(Debug)]
pub(crate) struct CancelOnDrop {
    commands: CommandSender,
    /// `None` if there is nothing to cancel.
    pub(crate) id: Option<CommandId>,
}

impl CancelOnDrop {
    pub(crate) fn new(commands: &CommandSender, id: Option<CommandId>) -> Self {
        Self { commands: commands.clone(), id }
    }

    /// Sends another command through the same channel.
    pub(crate) fn send(&self, command: ClientCommand) -> Result<(), ClientError> {
        self.commands.send(command)
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Nothing to cancel if the swarm is gone.
            let _ = self.commands.send(ClientCommand::Cancel(id));
        }
    }
}

/// The id of a command, by which a client knows its query before the node has given it one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CommandId(u64);

/// The return path of a query.
#[derive(Debug)]
pub(crate) enum ReplySender {
    /// The last one, with what the query has cost.
    Last(oneshot::Sender<(QueryResult, QueryStats)>),
    /// The first one, whether it is still awaited or not.
    First(oneshot::Sender<QueryResult>),
    /// Each as it comes. There is room for as many as a query tells before it is told that there is more.
    Each(mpsc::Sender<QueryResult>),
    /// None of them.
    Nobody,
}

/// How many providers of a search wait to be taken, beside those that are told at the beginning and at the end; and how many
/// records: one for each candidate of the lookup. Chosen, not measured.
pub(crate) const MAX_WAITING: usize = 1024;

/// A query tells no more than so many results at a time: one for each that may wait, what this node knew before, what was kept
/// back, and the last.
pub(crate) const MAX_RESULTS: usize = MAX_WAITING + 3;

impl ReplySender {
    /// Returns whether the client has stopped waiting, so that its query is not begun.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Last(reply) => reply.is_canceled(),
            Self::Each(results) => results.is_closed(),
            // Whether anybody still waits does not matter to what the query does.
            Self::First(_) | Self::Nobody => false,
        }
    }
}

/// A command of a client, on its way to the node.
#[derive(Debug)]
pub(crate) enum ClientCommand {
    Query {
        id: CommandId,
        command: Command,
        reply: ReplySender,
    },
    Cancel(CommandId),
    /// A query may tell so many providers more, since as many have been taken.
    MakeRoom(CommandId, usize),
    RoutingTable(oneshot::Sender<TableSnapshot>),
    PeerCount(oneshot::Sender<usize>),
    Stats(oneshot::Sender<Stats>),
    AddAddress(PeerId, Multiaddr, oneshot::Sender<Result<RoutingUpdate, AddressError>>),
    SetMode(Option<Mode>, oneshot::Sender<()>),
    Ban(BanTarget, Option<SystemTime>, String, oneshot::Sender<Result<(), BanError>>),
    Unban(BanTarget, oneshot::Sender<bool>),
    Bans(oneshot::Sender<Vec<Ban>>),
    NetworkSize(oneshot::Sender<Option<NetworkSize>>),
    Report(PeerId, Experience, oneshot::Sender<bool>),
    StoreLocal(Record, oneshot::Sender<Result<(), StoreError>>),
    RemoveRecord(RecordKey, oneshot::Sender<Result<(), StoreError>>),
    StopProviding(RecordKey, oneshot::Sender<Result<(), StoreError>>),
    /// One client more advertises a key.
    Advertise(RecordKey),
    /// One client less does.
    Retire(RecordKey),
    ExportPeers(oneshot::Sender<Vec<PeerInfo>>),
    ImportPeers(Vec<PeerInfo>, oneshot::Sender<usize>),
}

/// The receiving end of the channel.
#[derive(Debug)]
pub(crate) struct CommandReceiver {
    commands: mpsc::Receiver<ClientCommand>,
    sender: CommandSender,
}

impl Default for CommandReceiver {
    fn default() -> Self {
        let (sender, commands) = mpsc::channel(0);
        Self { commands, sender: CommandSender { sender, shared: Arc::default() } }
    }
}

impl CommandReceiver {
    /// Returns a sending end, for a client.
    pub(crate) fn sender(&self) -> CommandSender {
        self.sender.clone()
    }

    /// Returns how many commands wait to be executed.
    pub(crate) fn waiting(&self) -> usize {
        self.sender.shared.waiting.load(Ordering::Relaxed)
    }

    /// Returns the next command.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ClientCommand> {
        match Pin::new(&mut self.commands).poll_next_unpin(cx) {
            Poll::Ready(Some(command)) => {
                self.sender.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                Poll::Ready(command)
            }
            // The receiver keeps a sender itself, so the channel never ends.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The queries of clients that run, with their return paths.
///
/// # Bounds
/// One for each query of a client: as many as the node lets run.
#[derive(Debug, Default)]
pub(crate) struct ClientQueries(IndexMap<QueryId, (CommandId, ReplySender)>);

impl ClientQueries {
    pub(crate) fn insert(&mut self, query: QueryId, command: CommandId, reply: ReplySender) {
        self.0.insert(query, (command, reply));
    }

    /// Returns the query that a command has begun, if it runs.
    pub(crate) fn of_command(&self, command: CommandId) -> Option<QueryId> {
        self.0.iter().find(|(_, (begun_by, _))| *begun_by == command).map(|(query, _)| *query)
    }

    /// Sends the result of a client's query to the client. Returns any other event.
    pub(crate) fn deliver(&mut self, event: Event) -> Option<Event> {
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else {
            return Some(event);
        };
        let Some((_, reply)) = self.0.get_mut(&id) else {
            return Some(Event::OutboundQueryProgressed { id, result, stats, step });
        };
        match reply {
            ReplySender::Each(results) => drop(results.try_send(result)),
            ReplySender::First(_) => {
                if let ReplySender::First(reply) = std::mem::replace(reply, ReplySender::Nobody) {
                    let _ = reply.send(result);
                }
            }
            ReplySender::Last(_) if step.last => {
                if let ReplySender::Last(reply) = std::mem::replace(reply, ReplySender::Nobody) {
                    let _ = reply.send((result, stats));
                }
            }
            ReplySender::Last(_) | ReplySender::Nobody => {}
        }
        if step.last {
            self.0.swap_remove(&id);
        }
        None
    }
}

/// The keys that clients advertise, with the number of clients that advertise each.
#[derive(Debug, Default)]
pub(crate) struct AdvertisedKeys(IndexMap<RecordKey, usize>);

impl AdvertisedKeys {
    pub(crate) fn add(&mut self, key: RecordKey) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Takes one client from a key. Returns whether it was the last.
    pub(crate) fn remove(&mut self, key: &RecordKey) -> bool {
        let Some(count) = self.0.get_mut(key) else {
            return false;
        };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.0.swap_remove(key);
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::MAX_COMMANDS;
    use crate::error::{ClientError, QueryError};

    #[test]
    fn the_texts_name_how_many_commands_may_wait() {
        let limit = format!("{},{:03} calls wait", MAX_COMMANDS / 1000, MAX_COMMANDS % 1000);
        for text in [ClientError::Busy.to_string(), QueryError::Busy.to_string()] {
            assert!(text.starts_with(&limit), "{text}");
        }
    }
}
