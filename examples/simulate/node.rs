//! The configuration of every node, as options.

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args, ValueEnum};
use libp2p_kademlia::{
    BucketInserts, Config, ConfigError, IpDiversity, IpLimits, Joining, KeepAlive, Parallelism, Protection,
    RequestWindow, TimeoutPolicy,
};

use super::values::{
    OrNever, duration, network, or_never, parallelism, range, request_window, span, timeout_policy,
};

/// What a node is told; nothing means what [`Config`] says.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Every node")]
pub(crate) struct Node {
    /// k: how many peers a bucket holds and a lookup returns [default: 20].
    #[arg(long, value_name = "K")]
    bucket_size: Option<NonZeroU8>,
    /// How many peers wait for a place in a full bucket [default: 4].
    #[arg(long, value_name = "PEERS")]
    replacements: Option<u8>,
    /// For how long a peer may be silent before it is probed [default: 12m].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    grace_period: Option<Duration>,
    /// No peer enters a table by itself.
    #[arg(long)]
    manual_inserts: bool,
    /// What becomes of peers beyond the limits per IP group: they are refused, as they are without it in the public network, have
    /// only places that are empty, or there are no limits.
    #[arg(long, value_name = "RULE")]
    ip_diversity: Option<Diversity>,
    /// Peers of one IP group in a bucket [default: 2].
    #[arg(long, value_name = "PEERS")]
    ip_per_bucket: Option<NonZeroU8>,
    /// Peers of one IP group in a table [default: 3].
    #[arg(long, value_name = "PEERS")]
    ip_per_table: Option<NonZeroU16>,
    /// A network whose addresses belong to no IP group; any number of times.
    #[arg(long, value_name = "ADDRESS/BITS", value_parser = network)]
    ip_exempt: Vec<(IpAddr, u8)>,
    /// What is protected against peers that somebody has put around its key: nothing, providers as in the public network without it,
    /// or records, too.
    #[arg(long, value_name = "WHAT")]
    protection: Option<Protected>,
    /// How many requests of a lookup are in flight: N, or N-M, widening on soft timeouts [default: 4-6].
    #[arg(long, value_name = "N[-M]", value_parser = parallelism)]
    parallelism: Option<Parallelism>,
    /// How many of the closest must have answered before a near lookup stops [default: 3].
    #[arg(long, value_name = "PEERS")]
    beta: Option<NonZeroU8>,
    /// How many disjoint paths a lookup takes [default: 1].
    #[arg(long, value_name = "PATHS")]
    disjoint_paths: Option<NonZeroU8>,
    /// When a query ends with what it has [default: 1m].
    #[arg(long, value_name = "TIME", value_parser = span)]
    query_timeout: Option<Duration>,
    /// When a request has failed [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    request_timeout: Option<Duration>,
    /// Between what times the next peer is asked though an answer is awaited [default: 50ms-5s].
    #[arg(long, value_name = "TIME-TIME", value_parser = range)]
    soft_timeout: Option<RangeInclusive<Duration>>,
    /// How long slow peers are awaited: fitted to the share of silent ones, or a percentile of round trips [default: fitted].
    #[arg(long, value_name = "fitted|pN", value_parser = timeout_policy)]
    timeout_policy: Option<TimeoutPolicy>,
    /// How many queries run at once [default: 1024].
    #[arg(long, value_name = "QUERIES")]
    max_queries: Option<NonZeroUsize>,
    /// How many requests are in flight while further queries are begun: N, N-M, widening while a node keeps up, or `none`
    /// [default: 32-4096].
    #[arg(long, value_name = "N[-M]|none", value_parser = request_window)]
    request_window: Option<RequestWindow>,
    /// How many dials are under way at once [default: 64].
    #[arg(long, value_name = "DIALS")]
    max_dials: Option<NonZeroUsize>,
    /// Of how many peers outside its table a node remembers addresses [default: 1024].
    #[arg(long, value_name = "PEERS")]
    max_known_peers: Option<NonZeroUsize>,
    /// How many seeds a node keeps [default: 256].
    #[arg(long, value_name = "PEERS")]
    max_seeds: Option<NonZeroUsize>,
    /// No node joins by itself.
    #[arg(long)]
    join_on_request: bool,
    /// After how long an untouched bucket is looked up, or `never` [default: 10m].
    #[arg(long, value_name = "TIME", value_parser = or_never)]
    refresh_interval: Option<OrNever>,
    /// With how few peers in its table a node joins again [default: 10].
    #[arg(long, value_name = "PEERS")]
    low_peers: Option<usize>,
    /// Which unused connections are kept [default: closest].
    #[arg(long, value_name = "TO", value_enum)]
    keep_alive: Option<Kept>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Diversity {
    Strict,
    Soft,
    Off,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Protected {
    Off,
    Providers,
    All,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Kept {
    Closest,
    Table,
    Nobody,
}

impl Node {
    /// Returns the configuration.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let config = self.timeouts(Config::default())?;
        let config = with(config, self.bucket_size, Config::with_bucket_size);
        let config = with(config, self.replacements, Config::with_replacement_cache);
        let config = with(config, self.parallelism, Config::with_parallelism);
        let config = with(config, self.beta, Config::with_beta);
        let config = with(config, self.disjoint_paths, Config::with_disjoint_paths);
        let config = with(config, self.timeout_policy, Config::with_timeout_policy);
        let config = with(config, self.max_queries, Config::with_max_queries);
        let config = with(config, self.request_window, Config::with_request_window);
        let config = with(config, self.max_dials, Config::with_max_dials);
        let config = with(config, self.max_known_peers, Config::with_max_known_peers);
        let config = with(config, self.max_seeds, Config::with_max_seeds);
        let config = with(config, self.low_peers, Config::with_low_peers);
        let keep = self.keep_alive.map(|kept| match kept {
            Kept::Closest => KeepAlive::Closest,
            Kept::Table => KeepAlive::Table,
            Kept::Nobody => KeepAlive::Nobody,
        });
        let config = with(config, keep, Config::with_keep_alive);
        let manual = self.manual_inserts.then_some(BucketInserts::Manual);
        let config = with(config, manual, Config::with_bucket_inserts);
        let on_request = self.join_on_request.then_some(Joining::OnRequest);
        let config = with(config, on_request, Config::with_joining);
        let diversity = self.ip_diversity.map(|rule| match rule {
            Diversity::Strict => IpDiversity::Strict,
            Diversity::Soft => IpDiversity::Soft,
            Diversity::Off => IpDiversity::Off,
        });
        let config = with(config, diversity, Config::with_ip_diversity);
        let protection = self.protection.map(|what| match what {
            Protected::Off => Protection::Off,
            Protected::Providers => Protection::Providers,
            Protected::All => Protection::All,
        });
        let config = with(config, protection, Config::with_protection);
        Ok(config.with_ip_limits(self.limits()))
    }

    fn timeouts(&self, config: Config) -> Result<Config, String> {
        let config = try_with(config, self.grace_period, Config::with_grace_period)?;
        let config = try_with(config, self.refresh_interval, Config::with_refresh_interval)?;
        let config = try_with(config, self.query_timeout, Config::with_query_timeout)?;
        // The two limit each other: first both are as far apart as can be, then each is what it is to be.
        let soft = self.soft_timeout.clone().unwrap_or(DEFAULT_SOFT);
        config
            .with_soft_timeout(SHORTEST_SOFT..=SHORTEST_SOFT)
            .and_then(|config| match self.request_timeout {
                Some(timeout) => config.with_request_timeout(timeout),
                None => Ok(config),
            })
            .and_then(|config| config.with_soft_timeout(soft))
            .map_err(|error| {
                if matches!(error, ConfigError::TooShort { .. }) {
                    return error.to_string();
                }
                "a soft timeout must not begin after its end, nor end after the request timeout".to_owned()
            })
    }

    fn limits(&self) -> IpLimits {
        let default = IpLimits::default();
        IpLimits {
            per_bucket: self.ip_per_bucket.unwrap_or(default.per_bucket),
            per_table: self.ip_per_table.unwrap_or(default.per_table),
            exempt: self.ip_exempt.clone(),
        }
    }

    /// Returns whether no peer enters a table by itself.
    pub(crate) const fn inserts_manually(&self) -> bool {
        self.manual_inserts
    }
}

/// The least that a soft timeout may be.
const SHORTEST_SOFT: Duration = Duration::from_millis(1);

/// The range of the soft timeout of [`Config::default`], which has no getter; a test holds them together.
const DEFAULT_SOFT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

fn try_with<T>(
    config: Config,
    value: Option<T>,
    set: fn(Config, T) -> Result<Config, ConfigError>,
) -> Result<Config, String> {
    let config = match value {
        Some(value) => set(config, value),
        None => Ok(config),
    };
    config.map_err(|error| error.to_string())
}

fn with<T>(config: Config, value: Option<T>, set: fn(Config, T) -> Config) -> Config {
    match value {
        Some(value) => set(config, value),
        None => config,
    }
}
