//! A Kademlia DHT for libp2p: peer discovery, and routing to the peers closest to a key.
//!
//! It speaks `/ipfs/kad/1.0.0`, or a protocol name of your own, with every other implementation. Add a [`Behaviour`] to
//! your swarm, beside `identify`, and that is all the wiring there is:
//!
//! ```no_run
//! use libp2p::futures::StreamExt as _;
//! use libp2p::{SwarmBuilder, identify, noise, swarm::NetworkBehaviour, tcp, yamux};
//! use libp2p_kademlia::{Behaviour, Mode, store::MemoryStore};
//!
//! #[derive(NetworkBehaviour)]
//! struct Node { kademlia: Behaviour, identify: identify::Behaviour }
//!
//! # async fn run(friend: libp2p::PeerId, at: libp2p::Multiaddr) -> Result<(), Box<dyn std::error::Error>> {
//! let builder = SwarmBuilder::with_new_identity().with_tokio();
//! let builder = builder.with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?;
//! let mut swarm = builder.with_behaviour(|key| {
//!     let id = key.public().to_peer_id();
//!     let identify = identify::Behaviour::new(identify::Config::new("/app/1.0.0".into(), key.public()));
//!     Node { kademlia: Behaviour::new(id, MemoryStore::new(id)), identify }
//! })?.build();
//! swarm.listen_on("/ip4/0.0.0.0/tcp/0".parse()?)?;
//! swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server)); // if others can dial this node
//! swarm.behaviour_mut().kademlia.add_address(&friend, at);     // it joins by itself
//! let client = swarm.behaviour().kademlia.client();            // for other tasks, on any executor
//! tokio::spawn(async move { loop { swarm.select_next_some().await; } });
//! println!("{} nodes are closest", client.closest_peers(*b"any bytes").await?.len());
//! # Ok(()) }
//! ```
//!
//! # A tour
//! 1. **Find each other**: [`Client::advertise`] a name and [`Client::discover`] the other nodes that do; below them lie
//!    [`Client::provide`] and [`Client::providers`].
//! 2. **Keep values**: [`Client::put`] and [`Client::get`]; a [`Validator`](validate::Validator) says which are valid and
//!    which of two stands. A [`RecordStore`](store::RecordStore) keeps those of others: [`MemoryStore`](store::MemoryStore),
//!    `store::Redb` on disk (feature `redb`), or your own.
//! 3. **Watch**: [`Event`] says what happens, [`Client::routing_table`] who is known, [`Client::stats`] how much of everything
//!    there was, and each error what became of every peer
//!    that was asked.
//! 4. **Configure**: [`Config`] has every number with its default and where that comes from, value by value or in groups
//!    ([`config::Routing`], [`config::Lookups`], [`config::Records`], [`config::Providers`], [`config::Limits`]).
//! 5. **Simulate**: `sim` runs thousands of real nodes on virtual time (feature `simulator`).
//! 6. **Drive it yourself**: [`dht::Dht`] is the protocol itself: one pure, deterministic state machine without I/O, clock or
//!    entropy, for applications with another transport or encoding. [`wire`] turns bytes into messages and back; [`routing`] is
//!    the routing table, usable alone.
//!
//! # Features
//! None is on by default. `redb`: `store::Redb`. `ipns`: `validate::Ipns`. `serde`: [`RecordKey`] can be serialized.
//! `simulator`: `sim`. `fuzzing` is for this crate's own fuzz targets, and no part of the interface.
//!
//! # Discrepancies
//! Where this crate differs from the specification or from `libp2p-kad`, the item says so; the README lists what changes
//! for an application that moves over.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    test,
    expect(
        clippy::wildcard_enum_match_arm,
        reason = "a test says what it expects; whatever else comes fails it"
    )
)]

pub mod addrs;
mod client;
#[doc(hidden)]
pub mod command;
pub mod config;
pub mod dht;
mod discovery;
mod error;
mod event;
mod failures;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod key;
mod map;
pub mod message;
mod net;
mod peer;
mod protobuf;
mod query;
mod record;
mod region;
mod rng;
pub mod routing;
#[cfg(feature = "simulator")]
#[cfg_attr(docsrs, doc(cfg(feature = "simulator")))]
pub mod sim;
pub mod stats;
pub mod store;
pub mod time;
pub mod validate;
pub mod wire;

pub use addrs::Addresses;
pub use client::{Client, Found};
pub use config::{
    AddressFilter, AsnLookup, BucketInserts, Caching, Config, ConfigBuilder, IpDiversity, IpLimits, Joining,
    K_VALUE, KeepAlive, OfferedRequest, OwnRecords, Parallelism, Percentile, Protection, RequestFilter,
    RequestVerdict, RequestWindow, StoreInserts, TimeoutPolicy,
};
pub use dht::bans::{Ban, BanTarget};
pub use dht::op::*;
pub use dht::op::{Command, QueryInfo, QueryResult};
pub use dht::{Event, QueryRef};
pub use discovery::{Advertisement, rendezvous_key};
pub use error::{
    AddAddressError, AddressError, BanError, ClientBanError, ClientError, ConfigError, Fates, NoKnownPeers,
    QueryError, RequestError, SeedOutcome, StoreError,
};
pub use event::{
    HeldId, InboundRequest, Mode, Precision, ProgressStep, QueryId, QueryStats, RoutingUpdate, Shortage,
};
pub use key::{
    BucketIndex, Distance as KBucketDistance, KBucketKey, Key, KeyHash, MAX_PREIMAGE_PREFIX, Preimage, U256,
};
pub use net::behaviour::{Behaviour, QueryMut};
pub use net::config::{ALPHA_VALUE, PROTOCOL_NAME};
pub use net::providers::Providers;
pub use net::resolved::{AboveDns, BelowDns, DialByName, ResolvedAddresses};
pub use peer::{ConnectionType, KadPeer, PeerInfo};
pub use record::{PeerRecord, ProviderRecord, Quorum, Record, RecordKey};
pub use region::NetworkSize;
pub use rng::Rng;
pub use routing::{EntryView, KBucketRef, NodeStatus};
pub use stats::Stats;

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
