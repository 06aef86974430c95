//! Options: everything a scenario can say, on a command line. Without any they mean [`Scenario::default`].

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::{Args, ValueEnum};
use libp2p_kademlia::Precision;
use libp2p_kademlia::sim::{Churn, Hosting, Links, Lookups, Roles, RoundTrip, Scenario, Start, Transport};

// A test includes this file from elsewhere; with their paths the modules are found from both.
#[path = "groups.rs"]
mod groups;
#[path = "incidents.rs"]
mod incidents;
#[path = "loads.rs"]
mod loads;
#[path = "node.rs"]
mod node;
#[path = "values.rs"]
mod values;

use incidents::Incidents;
use loads::Loads;
use node::Node;
use values::{LONGEST, interval, jitter, lookups, nodes, rate, round_trip, share, span, threads};
pub(crate) use values::{Seeds, seeds};

/// The options of a scenario.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    links: Between,
    #[command(flatten)]
    roles: Shares,
    #[command(flatten)]
    churn: Sessions,
    #[command(flatten)]
    incidents: Incidents,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    loads: Loads,
    #[command(flatten)]
    node: Node,
    /// A group of nodes with options of their own from among those above; the others are for those in no group. Any number of
    /// times.
    ///
    /// `share=0.3,bucket-size=8,ip-diversity=off`, or `nodes=5,..`: the size, then options without `--`.
    #[arg(long, value_name = "SIZE,OPTIONS", value_parser = groups::group, help_heading = "Every node")]
    group: Vec<groups::Written>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The network")]
struct Network {
    /// How many nodes there are at the beginning [default: 1000].
    #[arg(long, value_name = "NODES", value_parser = nodes)]
    nodes: Option<usize>,
    /// From which everything random follows [default: 1].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Begin with ideal tables; that is the default.
    #[arg(long, overrides_with_all = ["join_every", "known"])]
    ideal: bool,
    /// Begin with nothing: the nodes join one after another, so much later each.
    #[arg(long, value_name = "TIME", value_parser = span)]
    join_every: Option<Duration>,
    /// How many of the first nodes are known to those that join [default: 1].
    #[arg(long, value_name = "NODES", requires = "join_every")]
    known: Option<usize>,
    /// Where the nodes are: each in a network of its own, or all together, with one owner as far as addresses tell [default: spread].
    #[arg(long, value_name = "WHERE", value_enum)]
    hosting: Option<At>,
    /// How long a node works on each message that arrives, one after another, as `50us` [default: 0s].
    #[arg(long, value_name = "TIME", value_parser = span)]
    work: Option<Duration>,
    /// How long the network is left alone before time counts [default: 1m].
    #[arg(long, value_name = "TIME", value_parser = span)]
    settle: Option<Duration>,
    /// How long the simulation lasts at least [default: 0s].
    #[arg(long, value_name = "TIME", value_parser = span)]
    lasts: Option<Duration>,
    /// How often the health of the tables is looked at; without it only at the end.
    #[arg(long, value_name = "TIME", value_parser = interval)]
    sample_every: Option<Duration>,
    /// How many threads work, at most 64, which makes no difference to what comes of it; without it one for each core, up to 4.
    #[arg(long, value_name = "THREADS", value_parser = threads)]
    threads: Option<NonZeroUsize>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum At {
    Spread,
    OneNetwork,
    OneAddress,
    OneV6Network,
    OneRelay,
    RelaysOfOneHost,
    OneDomain,
}

impl From<At> for Hosting {
    fn from(at: At) -> Self {
        match at {
            At::Spread => Self::Spread,
            At::OneNetwork => Self::OneNetwork,
            At::OneAddress => Self::OneAddress,
            At::OneV6Network => Self::OneV6Network,
            At::OneRelay => Self::OneRelay,
            At::RelaysOfOneHost => Self::RelaysOfOneHost,
            At::OneDomain => Self::OneDomain,
        }
    }
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Links")]
struct Between {
    /// The round trip between two nodes [default: lognormal:100ms:0.6].
    ///
    /// `100ms` between all; `lognormal:MEDIAN:SIGMA` over the pairs; `matrix:FILE` between regions, a line of
    /// milliseconds with commas for each; `regions:10ms,80ms/80ms,20ms`, the same without a file.
    #[arg(long, value_name = "ROUND-TRIP", value_parser = round_trip)]
    rtt: Option<RoundTrip>,
    /// By up to what share of its time a message is late [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = jitter)]
    jitter: Option<f64>,
    /// The share of messages that are lost and sent again [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    loss: Option<f64>,
    /// Over what nodes connect [default: quic].
    #[arg(long, value_name = "OVER", value_enum)]
    transport: Option<Over>,
    /// Negotiate each stream before its first request, for a round trip more.
    #[arg(long)]
    no_lazy: bool,
    /// All nodes are connected to each other: nothing is ever dialled.
    #[arg(long)]
    warm: bool,
    /// How long a connection that nobody uses stays open [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = interval)]
    idle_timeout: Option<Duration>,
    /// How many bytes a second a connection takes each way, as `125kB`; without it any.
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    bandwidth: Option<NonZeroU64>,
    /// How many bytes a second a node sends to all others together, as `1MB`; without it any.
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    uplink: Option<NonZeroU64>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Over {
    Quic,
    Tcp,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Who does not play along: shares of the nodes")]
struct Shares {
    /// Clients behind a router [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    clients: Option<f64>,
    /// Servers that cannot be dialled [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    undialable: Option<f64>,
    /// Name only each other [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    colluders: Option<f64>,
    /// Name made-up peers that are nearest to what is asked for [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    poisoners: Option<f64>,
    /// Name the right peers at addresses of others [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    liars: Option<f64>,
    /// Name a thousand made-up peers [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    stuffers: Option<f64>,
    /// Answer late, and name made-up peers [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    laggards: Option<f64>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Churn")]
struct Sessions {
    /// Nodes come and go; this is the mean of their sessions.
    #[arg(long, value_name = "TIME", value_parser = interval)]
    churn: Option<Duration>,
    /// The share of newcomers that have never been there [default: 0.5].
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "churn")]
    new_ids: Option<f64>,
    /// The share that vanishes without ending its connections [default: 0.5].
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "churn")]
    crashes: Option<f64>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Lookups")]
struct Asked {
    /// How many lookups of random keys there are [default: 1000].
    #[arg(long, value_name = "LOOKUPS", value_parser = lookups)]
    lookups: Option<usize>,
    /// When the first begins [default: 0s].
    #[arg(long, value_name = "TIME", value_parser = span)]
    lookups_at: Option<Duration>,
    /// The time from one to the next [default: 100ms].
    #[arg(long, value_name = "TIME", value_parser = span)]
    every: Option<Duration>,
    /// How precise they are [default: exact].
    #[arg(long, value_name = "HOW", value_enum)]
    precision: Option<Precise>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Precise {
    Exact,
    Near,
}

/// How many threads work by default at most. Chosen, not measured: the less a window holds, the longer the fastest wait.
const MOST_THREADS: usize = 4;

/// Returns for how many threads there are cores.
fn cores() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(cores.get().min(MOST_THREADS)).unwrap_or(NonZeroUsize::MIN)
}

impl Options {
    /// Returns the scenario.
    pub(crate) fn scenario(&self) -> Result<Scenario, String> {
        let default = Scenario::default();
        let network = &self.network;
        let start = match network.join_every {
            Some(every) => Start::Join { every, seeds: network.known.unwrap_or(1) },
            None => default.start,
        };
        let scenario = Scenario {
            nodes: network.nodes.unwrap_or(default.nodes),
            seed: network.seed.unwrap_or(default.seed),
            config: self.node.config()?,
            links: self.links.links(default.links),
            hosting: network.hosting.map_or(default.hosting, Hosting::from),
            work: network.work.unwrap_or(default.work),
            start,
            groups: self.group.iter().map(|written| written.group.clone()).collect(),
            roles: self.roles.roles(),
            own_roles: default.own_roles,
            churn: self.churn.churn(),
            sessions: default.sessions,
            incidents: self.incidents.0.clone(),
            lookups: self.asked.lookups(default.lookups),
            records: self.loads.records(),
            settle: network.settle.unwrap_or(default.settle),
            lasts: network.lasts.unwrap_or(default.lasts),
            sample_every: network.sample_every.or(default.sample_every),
            threads: network.threads.unwrap_or_else(cores),
        };
        self.check(&scenario)?;
        Ok(scenario)
    }

    /// Refuses what each option alone would allow, but not together.
    fn check(&self, scenario: &Scenario) -> Result<(), String> {
        let times = |span: Duration, times: usize| {
            u32::try_from(times).ok().and_then(|times| span.checked_mul(times)).unwrap_or(Duration::MAX)
        };
        if scenario.hosting != Hosting::Spread && scenario.nodes > MOST_TOGETHER {
            return Err(format!("of nodes that are together there are at most {MOST_TOGETHER}"));
        }
        let lookups = &scenario.lookups;
        let end = times(lookups.every, lookups.count).saturating_add(lookups.first_at);
        if end > LONGEST {
            return Err("the lookups take longer than 3650d".to_owned());
        }
        let end = end.max(loads::end(&scenario.records)?);
        let end = scenario.incidents.iter().map(|(at, _)| *at).fold(end.max(scenario.lasts), Duration::max);
        if scenario.sample_every.is_some_and(|every| end > times(every, MOST_SAMPLES)) {
            return Err(format!("there are more than {MOST_SAMPLES} samples; take them less often"));
        }
        if let Start::Join { every, .. } = scenario.start {
            let all = times(every, scenario.nodes);
            return if all > LONGEST { Err("joining takes longer than 3650d".to_owned()) } else { Ok(()) };
        }
        if self.node.inserts_manually() || self.group.iter().any(|group| group.inserts_manually) {
            return Err("with manual inserts there are no ideal tables; use --join-every".to_owned());
        }
        Ok(())
    }
}

/// As many as have addresses (`Hosting`).
const MOST_TOGETHER: usize = 60_000;

/// Samples are kept until the end.
const MOST_SAMPLES: usize = 1_000_000;

impl Between {
    fn links(&self, default: Links) -> Links {
        Links {
            rtt: self.rtt.clone().unwrap_or(default.rtt),
            jitter: self.jitter.unwrap_or(default.jitter),
            loss: self.loss.unwrap_or(default.loss),
            transport: self.transport.map_or(default.transport, |over| match over {
                Over::Quic => Transport::Quic,
                Over::Tcp => Transport::Tcp,
            }),
            lazy: default.lazy && !self.no_lazy,
            warm: default.warm || self.warm,
            idle_timeout: self.idle_timeout.unwrap_or(default.idle_timeout),
            bandwidth: self.bandwidth.or(default.bandwidth),
            uplink: self.uplink.or(default.uplink),
            delay: default.delay,
        }
    }
}

impl Shares {
    fn roles(&self) -> Roles {
        let default = Roles::default();
        Roles {
            clients: self.clients.unwrap_or(default.clients),
            undialable: self.undialable.unwrap_or(default.undialable),
            colluders: self.colluders.unwrap_or(default.colluders),
            poisoners: self.poisoners.unwrap_or(default.poisoners),
            liars: self.liars.unwrap_or(default.liars),
            stuffers: self.stuffers.unwrap_or(default.stuffers),
            laggards: self.laggards.unwrap_or(default.laggards),
        }
    }
}

impl Sessions {
    fn churn(&self) -> Option<Churn> {
        let default = Churn::default();
        self.churn.map(|mean_session| Churn {
            mean_session,
            new_ids: self.new_ids.unwrap_or(default.new_ids),
            crashes: self.crashes.unwrap_or(default.crashes),
        })
    }
}

impl Asked {
    fn lookups(&self, default: Lookups) -> Lookups {
        Lookups {
            count: self.lookups.unwrap_or(default.count),
            first_at: self.lookups_at.unwrap_or(default.first_at),
            every: self.every.unwrap_or(default.every),
            precision: self.precision.map_or(default.precision, |precise| match precise {
                Precise::Exact => Precision::Exact,
                Precise::Near => Precision::Near,
            }),
        }
    }
}
