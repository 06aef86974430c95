//! This crate, `libp2p-kad` and a floor side by side in one run: what a request costs a server and a client, how many requests a
//! lookup takes, what a connection and a stored value take of the heap. Over memory, and over TCP with Noise; yamux over both.
//!
//! What is measured has a thread to itself, connection tasks included; counted are that thread's processor time, allocations and
//! bytes. The *floor* of a server is a behaviour that answers with bytes that were made before ([`floor`]), that of a client one
//! that asks without a DHT ([`lean`]). It fails if something could not be measured, or if a request costs more allocations than it
//! may; never because of a time.
//!
//! How many requests are there when a thread wakes up depends on whether its driver has a core to itself: `taskset -c 0` before it
//! all gives both one core, and ratios that vary less.
//!
//! ```sh
//! cargo bench --bench compare                   # all rows, a second of processor time for each figure
//! cargo bench --bench compare -- --quick        # a tenth of that
//! cargo bench --bench compare -- --markdown     # a table of Markdown
//! cargo bench --bench compare -- PUT_VALUE      # the rows whose name contains it
//! cargo bench --bench compare -- --requests=512 # so many requests of each server, and lookups of each client: for counting
//! ```

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench: it prints a table, and has threads of its own"
)]

mod carrier;
mod client;
mod driver;
mod flood;
mod floor;
mod keys;
mod lean;
mod measured;
mod member;
mod memory;
mod network;
mod nodes;
mod pipe;
mod querying;
mod responders;
mod server;
mod slow;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use libp2p::StreamProtocol;

use carrier::Carrier;
use table::Table;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");

/// Why something could not be measured.
type Failure = String;

/// What is measured, and for how long.
struct Options {
    /// How much processor time each figure takes at least.
    cpu: Duration,
    /// Whether nodes come to rest before they are measured.
    settles: bool,
    /// How many connections are idle.
    connections: usize,
    /// For how long they are watched.
    watched: Duration,
    /// How many lookups are begun at once.
    burst: usize,
    /// Whether networks have hundreds of nodes.
    is_whole: bool,
    /// How many requests of each server are made behind those that warm it up, and how many lookups of each client, whatever time
    /// they take; without it as many as take the time. Servers are made a multiple of 512.
    requests: Option<usize>,
    /// What the name of a row contains.
    filter: Option<String>,
}

impl Options {
    fn new(arguments: &[String]) -> Self {
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let filter = arguments.iter().find(|argument| !argument.starts_with("--")).cloned();
        let requests = arguments.iter().find_map(|argument| argument.strip_prefix("--requests="));
        let requests = requests.map(|number| number.parse().unwrap());
        let full = Self {
            cpu: Duration::from_secs(1),
            settles: true,
            connections: 1000,
            watched: Duration::from_secs(60),
            burst: 1000,
            is_whole: true,
            requests,
            filter,
        };
        if has("--test") {
            // `cargo test --benches` runs it too, only to see that it runs.
            let (cpu, watched) = (Duration::from_millis(1), Duration::from_millis(1));
            Self { cpu, settles: false, connections: 20, watched, burst: 100, is_whole: false, ..full }
        } else if has("--quick") {
            let (cpu, watched) = (Duration::from_millis(100), Duration::from_secs(3));
            Self { cpu, connections: 200, watched, ..full }
        } else {
            full
        }
    }

    /// Returns whether a row is to be measured.
    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let options = Options::new(&arguments);
    let mut table = Table::new(arguments.iter().any(|argument| argument == "--markdown"));
    for carrier in Carrier::ALL {
        server::rows(&options, carrier, &mut table);
    }
    for carrier in Carrier::ALL {
        client::rows(&options, carrier, &mut table);
    }
    for carrier in Carrier::ALL {
        flood::rows(&options, carrier, &mut table);
    }
    flood::refusal(&options, &mut table);
    memory::rows(&options, &mut table);
    network::rows(&options, &mut table);
    if table.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
