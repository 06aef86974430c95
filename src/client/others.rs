//! Calls of a client about others: who provides what, and whom the node keeps out.

use futures::channel::{mpsc, oneshot};
use futures::future::TryFutureExt as _;
use libp2p_identity::PeerId;

use super::{Client, of_kind};
use crate::dht::bans::{Ban, BanTarget};
use crate::dht::op::{AddProviderError, AddProviderResult, Command, ProvideReport};
use crate::error::{ClientBanError, ClientError};
use crate::net::command_channel::{CancelOnDrop, ClientCommand, MAX_RESULTS, ReplySender};
use crate::net::providers::Providers;
use crate::net::timer;
use crate::record::RecordKey;
use crate::region::NetworkSize;
use crate::routing::Experience;
use crate::time::SystemTime;

impl Client {
    /// Tells the peers closest to a key that this node provides it, `k` unless
    /// [fewer](crate::Config::with_replication_factor) are configured, and returns when 75 % of them really have been sent
    /// it, or [as many](crate::Config::with_provided_percent) as are configured; the others are told in the background.
    ///
    /// From the call on the node provides the key: it tells others anew from time to time until
    /// [`stop_providing`](Self::stop_providing), and tries again by itself if too few could be told. Dropping the future
    /// does not change that. Nobody is told who could not use any of this node's addresses.
    ///
    /// ```no_run
    /// # async fn example(client: libp2p_kademlia::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use futures::StreamExt as _;
    ///
    /// let report = client.provide("a file").await?;
    /// println!("{} peers were told", report.sent.len());
    /// // Elsewhere:
    /// let mut providers = client.providers("a file");
    /// while let Some(peer) = providers.next().await {
    ///     println!("{} has it, at {:?}", peer.peer_id, peer.addrs);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AddProviderError::TooFew`], [`AddProviderError::NoAddress`] and [`AddProviderError::Query`], which say what became
    /// of each peer, and [`AddProviderError::Store`]. After the last, and after
    /// [`QueryError::Busy`](crate::QueryError::Busy) and [`QueryError::Closed`](crate::QueryError::Closed), the node does
    /// not provide the key: call again. After the others it tries again by itself.
    pub async fn provide(&self, key: impl Into<RecordKey>) -> Result<ProvideReport, AddProviderError> {
        let key = key.into();
        self.provide_by(Command::StartProviding { key: key.clone() }, key).await
    }

    pub(crate) async fn provide_by(
        &self,
        command: Command,
        key: RecordKey,
    ) -> Result<ProvideReport, AddProviderError> {
        let (reply, answer) = oneshot::channel();
        let id = self.commands.next_id();
        let sent = self.commands.send(ClientCommand::Query { id, command, reply: ReplySender::First(reply) });
        sent.map_err(|error| AddProviderError::of_query(error, key.clone()))?;
        let answer = self.within(answer.map_err(|_| ClientError::Closed)).await;
        match answer.and_then(of_kind::<AddProviderResult>) {
            Ok(result) => result.map(|ok| ok.report),
            Err(error) => Err(AddProviderError::of_query(error, key)),
        }
    }

    /// Tells nobody any more that this node provides a key. Others believe it until it ends there.
    ///
    /// # Errors
    /// [`AddProviderError::Store`] if this node's store cannot, [`AddProviderError::Query`] if the call was not carried out:
    /// call again.
    pub async fn stop_providing(&self, key: impl Into<RecordKey>) -> Result<(), AddProviderError> {
        let key = key.into();
        match self.ask(|reply| ClientCommand::StopProviding(key.clone(), reply)).await {
            Ok(result) => result.map_err(|source| AddProviderError::Store { key, source }),
            Err(error) => Err(AddProviderError::of_query(error, key)),
        }
    }

    /// Searches the providers of a key, and returns each as it is found, with its addresses.
    ///
    /// The stream ends when the closest peers have all been asked; [`Providers::error`] tells then if it ended early. Drop it
    /// when there are enough: that ends the search. If this node provides the key, it is the first.
    pub fn providers(&self, key: impl Into<RecordKey>) -> Providers {
        let key = key.into();
        self.find(key.clone(), Command::GetProviders { key }, None)
    }

    pub(crate) fn find(&self, key: RecordKey, command: Command, but: Option<PeerId>) -> Providers {
        let (reply, results) = mpsc::channel(MAX_RESULTS);
        // Who watches waits for whoever may come.
        let is_watch = matches!(command, Command::WatchProviders { .. });
        let limit = self.limit.filter(|_| !is_watch).map(timer::sleep);
        let id = self.commands.next_id();
        let begun = self.commands.send(ClientCommand::Query { id, command, reply: ReplySender::Each(reply) });
        let guard = CancelOnDrop::new(&self.commands, begun.is_ok().then_some(id));
        Providers::new(key, (results, limit), guard, but, begun)
    }

    /// Keeps out a peer, an IP address or an IP network, until a time or for good; see
    /// [`Behaviour::ban`](crate::Behaviour::ban).
    ///
    /// # Errors
    /// [`ClientBanError::Ban`] if it cannot be banned, [`ClientBanError::Client`] if the call brought no result. Each says what
    /// to do.
    pub async fn ban(
        &self,
        target: impl Into<BanTarget>,
        until: Option<SystemTime>,
        why: impl Into<String>,
    ) -> Result<(), ClientBanError> {
        let (target, why) = (target.into(), why.into());
        Ok(self.ask(|reply| ClientCommand::Ban(target, until, why, reply)).await??)
    }

    /// Lifts a ban. Returns whether there was one of just that target.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn unban(&self, target: impl Into<BanTarget>) -> Result<bool, ClientError> {
        let target = target.into();
        self.ask(|reply| ClientCommand::Unban(target, reply)).await
    }

    /// Tells what the application has experienced with a peer; see [`Behaviour::report`](crate::Behaviour::report). Returns whether
    /// the peer is in the routing table or waits for a place in it.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn report(&self, peer: PeerId, experience: Experience) -> Result<bool, ClientError> {
        self.ask(|reply| ClientCommand::Report(peer, experience, reply)).await
    }

    /// Returns how large the network is: how many servers there are, as lookups of random keys tell. `None` as long as no other
    /// is known.
    ///
    /// The node makes sixteen such lookups in two hours; before there are five it believes its own routing table, and the interval
    /// is wide.
    ///
    /// ```no_run
    /// # async fn example(client: libp2p_kademlia::Client) -> Result<(), libp2p_kademlia::ClientError> {
    /// if let Some(size) = client.network_size().await? {
    ///     println!("{} servers, between {} and {}", size.estimate, size.low, size.high);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn network_size(&self) -> Result<Option<NetworkSize>, ClientError> {
        self.ask(ClientCommand::NetworkSize).await
    }

    /// Returns who is banned, until when and why.
    ///
    /// # Errors
    /// Each [`ClientError`], which says whether to call again.
    pub async fn bans(&self) -> Result<Vec<Ban>, ClientError> {
        self.ask(ClientCommand::Bans).await
    }
}
