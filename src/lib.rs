//! A Kademlia DHT for libp2p: peer discovery, and routing to whoever is closest to a key.
//!
//! It speaks `/ipfs/kad/1.0.0`, or a protocol name of your own, with every other implementation. Add a [`Behaviour`] to
//! your swarm, beside `identify`, and that is all the wiring there is:
//!
//! ```
//! use libp2p_kademlia::{Behaviour, Mode, store::MemoryStore};
//!
//! # let keypair = libp2p_identity::Keypair::generate_ed25519();
//! let peer_id = keypair.public().to_peer_id();
//! let mut kademlia = Behaviour::new(peer_id, MemoryStore::new(peer_id));
//! kademlia.set_mode(Some(Mode::Server)); // if others can dial this node
//! let client = kademlia.client();        // a handle for other tasks
//! ```
//!
//! # Where to look
//! - [`Behaviour`] for the swarm, [`Client`] for everybody else, [`Event`] for what happens, [`Config`] for every number.
//! - [`dht::Dht`] is the protocol itself: one pure, deterministic state machine without I/O, clock or entropy. Whoever
//!   has another transport or encoding drives it himself.
//! - [`wire`] turns bytes into messages and back; [`routing`] is the routing table, usable alone.
//!
//! # Discrepancies
//! Where this crate differs from the specification or from `libp2p-kad`, the item says so; the README lists what changes
//! for an application that moves over.

#![cfg_attr(
    test,
    expect(
        clippy::wildcard_enum_match_arm,
        reason = "a test says what it expects; whatever else comes fails it"
    )
)]

pub mod addrs;
mod client;
pub mod command;
mod config;
pub mod dht;
mod discovery;
mod error;
mod event;
mod key;
pub mod message;
mod net;
mod peer;
mod protobuf;
mod query;
mod record;
mod rng;
pub mod routing;
#[cfg(feature = "simulator")]
pub mod sim;
pub mod stats;
pub mod store;
pub mod time;
pub mod validate;
pub mod wire;

pub use addrs::Addresses;
pub use client::{Client, Found};
pub use config::{
    AddressFilter, BucketInserts, Caching, Config, IpDiversity, Joining, K_VALUE, KeepAlive, OwnRecords,
    PROTOCOL_NAME, Parallelism, Percentile, StoreInserts, TimeoutPolicy,
};
pub use dht::QueryRef;
pub use discovery::{Advertisement, rendezvous_key};
pub use error::{
    AddAddressError, AddProviderError, AddressError, AskPeerError, BootstrapError, ClientError, ConfigError,
    ConnectError, Fates, FindPeerError, GetClosestPeersError, GetProvidersError, GetRecordError,
    NoKnownPeers, PingError, ProvideReport, PutRecordError, PutReport, QueryError, RequestError, SeedOutcome,
    StoreError,
};
pub use event::{
    AddProviderOk, AddProviderResult, AskPeerOk, AskPeerResult, BootstrapOk, BootstrapResult, ConnectOk,
    ConnectResult, Event, Evidence, FindPeerOk, FindPeerResult, GetClosestPeersOk, GetClosestPeersResult,
    GetProvidersOk, GetProvidersResult, GetRecordOk, GetRecordResult, HeldId, InboundRequest, Mode, PingOk,
    PingResult, Precision, ProgressStep, PutRecordOk, PutRecordResult, QueryId, QueryInfo, QueryResult,
    QueryStats, RoutingUpdate, Shortage,
};
pub use key::{
    BucketIndex, Distance as KBucketDistance, KBucketKey, Key, KeyHash, MAX_PREIMAGE_PREFIX, Preimage, U256,
};
pub use net::behaviour::{Behaviour, QueryMut};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use net::handler::door as fuzzing;
pub use net::providers::Providers;
pub use peer::{ConnectionType, KadPeer, PeerInfo};
pub use record::{PeerRecord, ProviderRecord, Quorum, Record, RecordKey};
pub use rng::Rng;
pub use routing::{EntryView, KBucketRef, NodeStatus};
pub use stats::Stats;

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
