//! Rendezvous by name: peers that share a name find each other.
//!
//! Knows the client. A name is a key that its peers provide, as with go-libp2p's routing discovery, so that both meet.

use std::fmt;

use crate::client::Client;
use crate::dht::op::{AddProviderError, Command, ProvideReport};
use crate::error::QueryError;
use crate::key::Key;
use crate::net::command_channel::{ClientCommand, CommandSender};
use crate::net::providers::Providers;
use crate::record::RecordKey;

/// Returns the key that the peers of a name provide: the multihash of the SHA-256 of its UTF-8 bytes.
pub fn rendezvous_key(name: &str) -> RecordKey {
    let mut key = vec![0x12, 0x20];
    key.extend_from_slice(Key::sha256(name.as_bytes()).as_bytes());
    RecordKey::from(key)
}

/// This node is advertised under a name until this is dropped.
///
/// The node tells others anew from time to time, and tries again by itself while nobody could be told. Others find it for up
/// to 48 hours after the last time.
#[must_use = "the node is not advertised any more when this is dropped, which `let _ =` does at once"]
pub struct Advertisement {
    name: String,
    key: RecordKey,
    commands: CommandSender,
    first: Result<ProvideReport, AddProviderError>,
}

impl Advertisement {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key that stands for the name.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Returns what came of telling others for the first time. If that failed, it was tried again since.
    pub const fn first(&self) -> &Result<ProvideReport, AddProviderError> {
        &self.first
    }
}

impl fmt::Debug for Advertisement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Advertisement").field("name", &self.name).field("first", &self.first).finish()
    }
}

impl Drop for Advertisement {
    fn drop(&mut self) {
        // Nothing to take back if the swarm is gone.
        let _ = self.commands.send(ClientCommand::Retire(self.key.clone()));
    }
}

impl Client {
    /// Advertises this node under a name, until what is returned is dropped. A node that [`discovers`](Self::discover) the name
    /// finds it.
    ///
    /// Returns when enough peers have been told, or when it is clear that this takes longer: the node goes on trying then,
    /// and [`Advertisement::first`] tells why. A name that is advertised several times at once is until the last one is
    /// dropped. A store on disk takes no note of it: after a restart nothing is advertised that is not advertised anew.
    ///
    /// ```no_run
    /// # async fn example(client: libp2p_kademlia::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let lobby = client.advertise("my-app/lobby").await?;
    /// if let Err(error) = lobby.first() {
    ///     println!("nobody knows yet that we are in the {}: {error}", lobby.name());
    /// }
    /// // … and when we leave:
    /// drop(lobby);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AddProviderError::Store`] if as many keys are advertised as may be, 65,536: drop another.
    /// [`AddProviderError::Query`] with [`QueryError::Closed`] if the swarm is gone, or with [`QueryError::Busy`] if too
    /// many calls wait: each says what to do.
    ///
    /// # Spec
    /// As go-libp2p's routing discovery.
    pub async fn advertise(&self, name: impl Into<String>) -> Result<Advertisement, AddProviderError> {
        let name = name.into();
        let (key, commands) = (rendezvous_key(&name), self.commands().clone());
        let sent = commands.send(ClientCommand::Advertise(key.clone()));
        sent.map_err(|error| AddProviderError::of_query(error, key.clone()))?;
        // From here on dropping takes it back.
        let pending = AddProviderError::of_query(QueryError::NoKnownPeers, key.clone());
        let mut this = Advertisement { name, key: key.clone(), commands, first: Err(pending) };
        this.first = self.provide_by(Command::Advertise { key: key.clone() }, key).await;
        match &this.first {
            Err(
                error @ (AddProviderError::Store { .. }
                | AddProviderError::Query { cause: QueryError::Closed | QueryError::Busy, .. }),
            ) => Err(error.clone()),
            Ok(_) | Err(_) => Ok(this),
        }
    }

    /// Finds the peers that are advertised under a name, with their addresses, and goes on watching for others until the
    /// stream is dropped. It connects to nobody.
    ///
    /// Each peer comes once; one that comes a second time had no addresses before. This node itself is left out. The network
    /// is asked at once, a second later, and then after twice as long each time, up to five minutes.
    ///
    /// ```no_run
    /// # async fn example(client: libp2p_kademlia::Client) {
    /// use futures::StreamExt as _;
    ///
    /// let mut peers = client.discover("my-app/lobby");
    /// while let Some(peer) = peers.next().await {
    ///     println!("{} is there, at {:?}", peer.peer_id, peer.addrs); // to be dialled
    /// }
    /// # }
    /// ```
    pub fn discover(&self, name: impl AsRef<str>) -> Providers {
        let key = rendezvous_key(name.as_ref());
        self.find(key.clone(), Command::WatchProviders { key }, Some(self.local_peer_id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_multihash_of_its_sha_256() {
        // sha256("my-app/lobby"), and that of nothing, by coreutils.
        let hex = |key: &RecordKey| key.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(&rendezvous_key("")),
            "1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(&rendezvous_key("my-app/lobby")),
            "12209e13f0ea0a6dc9bfb38ff89a7fc8780096cb3af41475464789b95f6344726647"
        );
    }
}
