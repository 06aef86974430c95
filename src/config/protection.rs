//! The protection of content: against whom puts peers of their own around a key.
//!
//! Knows names of protocols; what is done is the operations' affair.

/// The protection against censorship: of what an attacker may put peers of its own around the key, so that others find neither it nor
/// its providers.
///
/// What is protected is stored at, and searched at, all peers of the key's region: where half as many more live than hold it, by
/// the [estimated size](crate::NetworkSize) of the network. Peers that an attacker adds do not make the region smaller, so the
/// honest ones in it are reached however many of others are nearer. Where nobody attacks it costs half as many stores more;
/// and of a search half as many requests more, unless the asker ends it when it has what it wants.
///
/// ```
/// use libp2p_kademlia::{Config, Protection};
///
/// let config = Config::for_protocol("/my-app/kad/1.0.0")?;
/// assert_eq!(config.protection(), Protection::All);
/// assert_eq!(Config::default().protection(), Protection::Providers);
/// let cheap = config.with_protection(Protection::Off);
/// assert_eq!(cheap.protection(), Protection::Off);
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protection {
    /// [`Providers`](Self::Providers) in the public IPFS network, where others hand records on only to the closest,
    /// [`Off`](Self::Off) in a network of that name's LAN (`/ipfs/lan/kad/1.0.0`), and [`All`](Self::All) in all others.
    #[default]
    ByProtocol,
    /// Nothing: only the closest are told and asked.
    Off,
    /// Announcements of providers.
    Providers,
    /// Announcements of providers, and records.
    All,
}
