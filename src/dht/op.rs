//! Operations: what a query does, one file for each kind.
//!
//! What they have in common stands in [`machine`].

pub(super) mod machine;
pub(super) mod search;

use machine::Machine;

/// The list of all kinds of operation: its module and its machine.
macro_rules! operations {
    ($($module:ident::$machine:ident,)*) => {
        $(pub(super) mod $module;)*

        /// All kinds of operation.
        #[derive(Debug)]
        pub(super) enum Operation {
            $($machine($module::$machine),)*
        }

        impl Operation {
            /// Returns the state machine, to be moved on.
            pub(super) fn machine(&mut self) -> &mut dyn Machine {
                match self {
                    $(Self::$machine(machine) => machine,)*
                }
            }

            /// Returns the state machine, to be looked at.
            pub(super) fn state(&self) -> &dyn Machine {
                match self {
                    $(Self::$machine(machine) => machine,)*
                }
            }
        }

        $(impl From<$module::$machine> for Operation {
            fn from(machine: $module::$machine) -> Self {
                Self::$machine(machine)
            }
        })*
    };
}

operations! {
    find_peers::FindPeers,
    find_peer::FindPeer,
    bootstrap::Bootstrap,
    ping::Ping,
    connect::Connect,
    get_record::GetRecord,
    put_record::PutRecord,
    ask_peer::AskPeer,
    add_provider::AddProvider,
    tell_one::TellOne,
    get_providers::GetProviders,
    watch_providers::WatchProviders,
}
