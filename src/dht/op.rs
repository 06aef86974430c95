//! Operations: what a query does, one file for each kind, and the list of all kinds.
//!
//! The file of a kind has its machine, what it has found, its errors, what is seen of it while it runs, and how it begins; it
//! knows nothing of this list. What they have in common stands in [`machine`].

pub(super) mod machine;
pub(super) mod region;
pub(super) mod search;

pub(super) mod add_provider;
pub(super) mod ask_peer;
pub(super) mod bootstrap;
pub(super) mod connect;
pub(super) mod find_peer;
pub(super) mod find_peers;
pub(super) mod get_providers;
pub(super) mod get_record;
pub(super) mod ping;
pub(super) mod put_record;
#[cfg(test)]
pub(super) mod sample;
pub(super) mod tell_one;
pub(super) mod watch_providers;

use std::num::NonZeroUsize;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

pub use add_provider::{AddProviderError, AddProviderOk, AddProviderResult, ProvideReport};
pub use ask_peer::{AskPeerError, AskPeerOk, AskPeerResult};
pub use bootstrap::{BootstrapError, BootstrapOk, BootstrapResult};
pub use connect::{ConnectError, ConnectOk, ConnectResult};
pub use find_peer::{Evidence, FindPeerError, FindPeerOk, FindPeerResult};
pub use find_peers::{GetClosestPeersError, GetClosestPeersOk, GetClosestPeersResult};
pub use get_providers::{GetProvidersError, GetProvidersOk, GetProvidersResult};
pub use get_record::{GetRecordError, GetRecordOk, GetRecordResult};
pub use ping::{PingError, PingOk, PingResult};
pub use put_record::{PutRecordError, PutRecordOk, PutRecordResult, PutReport};
#[cfg(test)]
pub use sample::{SampleError, SampleOk, SampleResult};

use crate::event::{Precision, ProgressStep};
use crate::record::{Quorum, Record, RecordKey};
use machine::{Findings, Machine};

/// The list of all kinds of operation, from which a macro makes something. Each entry has
///
/// - the result that the application is told, and the machines that tell it;
/// - what is seen of a query that runs, and the type by which the machines say so;
/// - the commands that begin it: each with the method of `Dht` that does so, or, where a command needs nothing but peers, with
///   `begin` and the machine.
macro_rules! kinds {
    ($make:ident) => {
        with_sample! { $make
            /// Of joining the network.
            Bootstrap(BootstrapResult) by bootstrap::Bootstrap;
            /// Joins the network.
            Bootstrap(bootstrap::BootstrapInfo) {
                /// This node.
                peer: PeerId,
                /// How many buckets are still to be looked up; `None` while the own id is.
                remaining: Option<u32>,
                /// Its next event.
                step: ProgressStep,
            }
            commands {
                /// Joins the network.
                Bootstrap => join_or_tell();
            }

            /// Of a search for the closest peers.
            GetClosestPeers(GetClosestPeersResult) by find_peers::FindPeers;
            /// Searches the closest peers.
            GetClosestPeers(find_peers::FindPeersInfo) {
                /// The bytes whose hash is looked for.
                key: Vec<u8>,
                /// How many peers are wanted.
                num_results: NonZeroUsize,
                /// Its next event.
                step: ProgressStep,
            }
            commands {
                /// Searches the peers closest to the hash of some bytes.
                FindClosest {
                    /// The bytes.
                    key: Vec<u8>,
                    /// How many peers, at most `k`; `k` if none is given.
                    count: Option<NonZeroUsize>,
                    /// When enough has been found.
                    precision: Precision,
                } => begin(find_peers::FindPeers);
            }

            /// Of a search for one peer.
            FindPeer(FindPeerResult) by find_peer::FindPeer;
            /// Searches one peer.
            FindPeer(find_peer::FindPeerInfo) {
                /// The peer.
                peer: PeerId,
            }
            commands {
                /// Searches one peer.
                FindPeer {
                    /// The peer.
                    peer: PeerId,
                } => begin(find_peer::FindPeer);
            }

            /// Of a ping.
            Ping(PingResult) by ping::Ping;
            /// Waits for a sign of life.
            Ping(ping::PingInfo) {
                /// The peer.
                peer: PeerId,
            }
            commands {
                /// Waits for a sign of life of one peer.
                Ping {
                    /// The peer.
                    peer: PeerId,
                } => begin(ping::Ping);
            }

            /// Of connecting to an address.
            Connect(ConnectResult) by connect::Connect;
            /// Connects to an address.
            Connect(connect::ConnectInfo) {
                /// The address.
                address: Multiaddr,
            }
            commands {
                /// Connects to an address, whichever peer is there.
                Connect {
                    /// The address.
                    address: Multiaddr,
                } => begin(connect::Connect);
            }

            /// Of searching a record.
            GetRecord(GetRecordResult) by get_record::GetRecord;
            /// Searches a record.
            GetRecord(get_record::GetRecordInfo) {
                /// Its key.
                key: RecordKey,
                /// How many must agree.
                quorum: Option<Quorum>,
                /// Of how many peers it was received so far.
                found: usize,
                /// Its next event.
                step: ProgressStep,
            }
            commands {
                /// Searches the record of a key.
                GetRecord {
                    /// The key.
                    key: RecordKey,
                    /// How many peers must agree; without one the search goes on until all of the closest have answered.
                    quorum: Option<Quorum>,
                } => get_record();
            }

            /// Of storing a record.
            PutRecord(PutRecordResult) by put_record::PutRecord;
            /// Stores a record.
            PutRecord(put_record::PutRecordInfo) {
                /// Its key.
                key: RecordKey,
                /// How many must have stored it.
                quorum: Quorum,
                /// How many have so far.
                stored: usize,
            }
            commands {
                /// Stores a record here and at the peers closest to its key.
                PutRecord {
                    /// The record.
                    record: Record,
                    /// At how many peers, at most `k`; as many as are configured if none is given.
                    copies: Option<NonZeroUsize>,
                    /// How many must have stored it.
                    quorum: Quorum,
                } => put_or_tell();
                /// Stores a record at some peers.
                PutRecordTo {
                    /// The record.
                    record: Record,
                    /// The peers.
                    peers: Vec<PeerId>,
                    /// How many must have stored it.
                    quorum: Quorum,
                } => put_record_to();
            }

            /// Of asking one peer.
            AskPeer(AskPeerResult) by ask_peer::AskPeer;
            /// Asks one peer.
            AskPeer(ask_peer::AskPeerInfo) {
                /// The peer.
                peer: PeerId,
            }
            commands {
                /// Asks one peer for the peers closest to the hash of some bytes.
                FindNodeAt {
                    /// Whom to ask.
                    peer: PeerId,
                    /// The bytes.
                    key: Vec<u8>,
                } => find_node_at();
                /// Asks one peer for a record.
                GetRecordAt {
                    /// Whom to ask.
                    peer: PeerId,
                    /// The key of the record.
                    key: RecordKey,
                } => get_record_at();
            }

            /// Of telling others that this node provides something.
            StartProviding(AddProviderResult) by add_provider::AddProvider, tell_one::TellOne;
            /// Tells others that this node provides a key.
            AddProvider(add_provider::AddProviderInfo) {
                /// The key.
                key: RecordKey,
                /// How many have been told so far.
                sent: usize,
                /// What became of each peer so far: the query runs until that of all is known.
                report: ProvideReport,
            }
            commands {
                /// Tells the peers closest to a key that this node provides it, now and from time to time until it is stopped.
                StartProviding {
                    /// The key.
                    key: RecordKey,
                } => provide_or_tell();
                /// Tells the peers closest to a key that this node provides it, now and from time to time until it is retired or
                /// the program ends.
                Advertise {
                    /// The key.
                    key: RecordKey,
                } => advertise_or_tell();
            }

            /// Of searching providers.
            GetProviders(GetProvidersResult) by get_providers::GetProviders, watch_providers::WatchProviders;
            /// Searches providers.
            GetProviders(get_providers::GetProvidersInfo) {
                /// The key.
                key: RecordKey,
                /// How many have been found so far.
                providers_found: usize,
                /// Whether the search is made again and again until it is cancelled.
                is_watch: bool,
                /// Its next event.
                step: ProgressStep,
            }
            commands {
                /// Searches the providers of a key.
                GetProviders {
                    /// The key.
                    key: RecordKey,
                } => get_providers();
                /// Searches the providers of a key again and again, until it is cancelled.
                WatchProviders {
                    /// The key.
                    key: RecordKey,
                } => watch_providers();
            }
        }
    };
}

/// Hands the list on to the macro that makes something of it.
#[cfg(not(test))]
macro_rules! with_sample {
    ($make:ident $($list:tt)*) => { $make! { $($list)* } };
}

/// Hands the list on to the macro that makes something of it, with one kind more: that of ARCHITECTURE's example.
#[cfg(test)]
macro_rules! with_sample {
    ($make:ident $($list:tt)*) => {
        $make! {
            $($list)*

            /// Of sampling peers.
            Sample(sample::SampleResult) by sample::Sample;
            /// Samples peers.
            Sample(sample::SampleInfo) {
                /// How many have answered so far.
                answered: usize,
            }
            commands {
                /// Asks some peers of the table whom they know.
                Sample {
                    /// How many.
                    count: usize,
                } => begin(sample::Sample);
            }
        }
    };
}

/// A result of one kind: it is taken out of a [`QueryResult`] here, and nowhere are kinds told apart again.
pub(crate) trait ResultOfKind: Sized {
    /// Returns a result as one of this kind; `None` if it is of another.
    fn of(result: QueryResult) -> Option<Self>;
}

/// Makes all operations, what they tell and how they are begun, of the list.
macro_rules! operations {
    ($(
        $(#[$result_doc:meta])+
        $result:ident($outcome:ty) by $($module:ident::$machine:ident),+;
        $(#[$info_doc:meta])+
        $info:ident($info_module:ident::$seen:ident) { $( $(#[$field_doc:meta])+ $field:ident: $type:ty, )* }
        commands {
            $(
                $(#[$command_doc:meta])+
                $command:ident $({ $( $(#[$argument_doc:meta])+ $argument:ident: $argument_type:ty, )+ })?
                    => $method:ident($($begun_module:ident::$begun:ident)?);
            )+
        }
    )*) => {
        /// All kinds of operation.
        #[derive(Debug)]
        pub(super) enum Operation {
            $($($machine($module::$machine),)+)*
        }

        impl Operation {
            /// Returns the state machine, to be moved on.
            pub(super) fn machine(&mut self) -> &mut dyn Machine<QueryResult, QueryInfo> {
                match self {
                    $($(Self::$machine(machine) => machine,)+)*
                }
            }

            /// Returns the state machine, to be looked at.
            pub(super) fn state(&self) -> &dyn Machine<QueryResult, QueryInfo> {
                match self {
                    $($(Self::$machine(machine) => machine,)+)*
                }
            }
        }

        $($(impl From<$module::$machine> for Operation {
            fn from(machine: $module::$machine) -> Self {
                Self::$machine(machine)
            }
        })+)*

        /// The result of a query: what it has reached.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum QueryResult {
            $( $(#[$result_doc])+ $result($outcome), )*
        }

        impl QueryResult {
            /// Returns whether a query has ended well.
            pub(super) const fn is_ok(&self) -> bool {
                match self {
                    $(Self::$result(result) => result.is_ok(),)*
                }
            }

            /// Returns what the node itself takes from it.
            pub(super) fn findings(&self) -> &dyn Findings {
                match self {
                    $(Self::$result(result) => result,)*
                }
            }
        }

        $(impl From<$outcome> for QueryResult {
            fn from(outcome: $outcome) -> Self {
                Self::$result(outcome)
            }
        }

        impl ResultOfKind for $outcome {
            fn of(result: QueryResult) -> Option<Self> {
                if let QueryResult::$result(outcome) = result { Some(outcome) } else { None }
            }
        })*

        /// The information on a running query: what it is about.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum QueryInfo {
            $( $(#[$info_doc])+ $info { $( $(#[$field_doc])+ $field: $type, )* }, )*
        }

        $(impl From<$info_module::$seen> for QueryInfo {
            fn from($info_module::$seen { $($field),* }: $info_module::$seen) -> Self {
                Self::$info { $($field),* }
            }
        })*

        /// A command: begins a query.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Command {
            $($( $(#[$command_doc])+ $command $({ $( $(#[$argument_doc])+ $argument: $argument_type, )+ })?, )+)*
        }
    };
}

kinds!(operations);

pub(super) use {kinds, with_sample};
