//! The command line that repeats a scenario.

use std::fmt::Display;
use std::num::NonZeroUsize;

use super::links::{Links, RoundTrip, Transport};
use super::scenario::{
    Churn, Group, Hosting, Incident, Load, Lookups, Records, Roles, Scenario, Size, Start,
};
use crate::config::{
    self, BucketInserts, Config, IpDiversity, IpLimits, Joining, KeepAlive, Parallelism, Protection,
    RequestWindow, Routing, TimeoutPolicy,
};
use crate::event::Precision;
use crate::record::Quorum;
use crate::time::Duration;

/// What runs the example.
const EXAMPLE: &str = "cargo run --release --example simulate --features simulator";

impl Scenario {
    /// Returns the command that runs this scenario with the example `simulate`.
    ///
    /// It names what differs from [`Scenario::default`], each number exactly. What no command line can say is left out:
    /// the configuration's key hash, address filter and seed, roles that the simulator does not bring, and times that a function
    /// draws; and what the simulator has no use for: the name of the
    /// protocol, the size of messages, and streams with their timeouts. A matrix of round trips is written with as many
    /// columns as rows, and an adaptive parallelism with a maximum that is not below its start, which both mean the same.
    pub fn command(&self) -> String {
        // Whoever adds a field is told by the compiler to write it here.
        let Self {
            nodes,
            seed,
            config,
            links,
            work,
            start,
            groups,
            roles,
            // No command line can say these.
            own_roles: _,
            sessions: _,
            churn,
            hosting,
            incidents,
            lookups,
            records,
            settle,
            lasts,
            sample_every,
            // It makes no difference.
            threads: _,
        } = self;
        let default = Self::default();
        let mut line = Line::default();
        line.differing("nodes", *nodes, default.nodes);
        line.differing("seed", *seed, default.seed);
        match *start {
            Start::Ideal => {}
            Start::Join { every, seeds } => {
                line.option("join-every", span(every));
                line.option("known", seeds);
            }
        }
        line.span("settle", *settle, default.settle);
        line.links(links, &default.links);
        line.span("work", *work, default.work);
        line.hosting(*hosting);
        groups.iter().for_each(|group| line.group(group, &default.config));
        line.roles(roles);
        line.churn(churn.as_ref());
        incidents.iter().for_each(|(at, incident)| line.incident(*at, *incident));
        line.lookups(lookups, &default.lookups);
        line.records(records, &default.records);
        line.span("lasts", *lasts, default.lasts);
        if let Some(every) = sample_every {
            line.option("sample-every", span(*every));
        }
        line.config(config, &default.config);
        if line.0.is_empty() { EXAMPLE.to_owned() } else { format!("{EXAMPLE} --{}", line.0) }
    }
}

/// Options, each behind a space.
#[derive(Default)]
struct Line(String);

impl Line {
    fn flag(&mut self, name: &str, is_set: bool) {
        if is_set {
            self.0.push_str(" --");
            self.0.push_str(name);
        }
    }

    fn option(&mut self, name: &str, value: impl Display) {
        self.flag(name, true);
        self.0.push(' ');
        self.0.push_str(&value.to_string());
    }

    fn differing<T: Display + PartialEq>(&mut self, name: &str, value: T, default: T) {
        if value != default {
            self.option(name, value);
        }
    }

    fn span(&mut self, name: &str, value: Duration, default: Duration) {
        self.differing(name, span(value), span(default));
    }

    fn real(&mut self, name: &str, value: f64, default: f64) {
        self.differing(name, real(value), real(default));
    }

    fn hosting(&mut self, hosting: Hosting) {
        match hosting {
            Hosting::Spread => {}
            Hosting::OneNetwork => self.option("hosting", "one-network"),
            Hosting::OneAddress => self.option("hosting", "one-address"),
            Hosting::OneV6Network => self.option("hosting", "one-v6-network"),
            Hosting::OneRelay => self.option("hosting", "one-relay"),
            Hosting::RelaysOfOneHost => self.option("hosting", "relays-of-one-host"),
            Hosting::OneDomain => self.option("hosting", "one-domain"),
        }
    }

    fn links(&mut self, links: &Links, default: &Links) {
        let Links {
            rtt,
            jitter,
            loss,
            transport,
            lazy,
            warm,
            idle_timeout,
            bandwidth,
            uplink,
            // No command line can say this.
            delay: _,
        } = links;
        self.differing("rtt", round_trip(rtt), round_trip(&default.rtt));
        self.real("jitter", *jitter, default.jitter);
        self.real("loss", *loss, default.loss);
        match transport {
            Transport::Quic => {}
            Transport::Tcp => self.option("transport", "tcp"),
        }
        self.flag("no-lazy", !lazy);
        self.flag("warm", *warm);
        self.span("idle-timeout", *idle_timeout, default.idle_timeout);
        for (name, rate) in [("bandwidth", bandwidth), ("uplink", uplink)] {
            if let Some(rate) = rate {
                self.option(name, rate);
            }
        }
    }

    /// `nodes=5,bucket-size=8`: what the configuration differs in from the default, without spaces.
    fn group(&mut self, Group { size, config }: &Group, default: &Config) {
        let mut line = Self::default();
        line.config(config, default);
        let size = match size {
            Size::Share(share) => format!("share={}", real(*share)),
            Size::Nodes(count) => format!("nodes={count}"),
        };
        let options = line.0.split(" --").skip(1).map(|option| option.replacen(' ', "=", 1));
        self.option("group", std::iter::once(size).chain(options).collect::<Vec<_>>().join(","));
    }

    fn roles(&mut self, roles: &Roles) {
        let Roles { clients, undialable, colluders, poisoners, liars, stuffers, laggards } = *roles;
        self.real("clients", clients, 0.0);
        self.real("undialable", undialable, 0.0);
        self.real("colluders", colluders, 0.0);
        self.real("poisoners", poisoners, 0.0);
        self.real("liars", liars, 0.0);
        self.real("stuffers", stuffers, 0.0);
        self.real("laggards", laggards, 0.0);
    }

    fn churn(&mut self, churn: Option<&Churn>) {
        let Some(Churn { mean_session, new_ids, crashes }) = churn else {
            return;
        };
        let default = Churn::default();
        self.option("churn", span(*mean_session));
        self.real("new-ids", *new_ids, default.new_ids);
        self.real("crashes", *crashes, default.crashes);
    }

    fn incident(&mut self, at: Duration, incident: Incident) {
        let (name, share) = match incident {
            Incident::Freeze(share) => ("silent", share),
            Incident::Kill(share) => ("killed", share),
            Incident::CutUplinks(share) => ("cut-uplinks", share),
            Incident::Partition { share, one_way: false } => ("partition", share),
            Incident::Partition { share, one_way: true } => ("one-way-partition", share),
            Incident::Heal => return self.option("heal", span(at)),
        };
        if at.is_zero() {
            self.option(name, real(share));
        } else {
            self.option(name, format_args!("{}@{}", real(share), span(at)));
        }
    }

    fn lookups(&mut self, lookups: &Lookups, default: &Lookups) {
        let Lookups { count, first_at, every, precision } = lookups;
        self.differing("lookups", *count, default.count);
        self.span("lookups-at", *first_at, default.first_at);
        self.span("every", *every, default.every);
        match precision {
            Precision::Exact => {}
            Precision::Near => self.option("precision", "near"),
        }
    }

    fn records(&mut self, records: &Records, default: &Records) {
        let Records { puts, gets, provides, searches, put_quorum, get_quorum, value_bytes } = records;
        self.load("puts", puts, &default.puts);
        self.load("gets", gets, &default.gets);
        self.load("provides", provides, &default.provides);
        self.load("searches", searches, &default.searches);
        self.differing("put-quorum", quorum(*put_quorum), quorum(default.put_quorum));
        if let Some(get_quorum) = get_quorum {
            self.option("get-quorum", quorum(*get_quorum));
        }
        self.differing("value-bytes", *value_bytes, default.value_bytes);
    }

    fn load(&mut self, name: &str, load: &Load, default: &Load) {
        let Load { count, first_at, every } = load;
        self.differing(name, *count, default.count);
        if let Some(at) = first_at {
            self.option(&format!("{name}-at"), span(*at));
        }
        self.span(&format!("{name}-every"), *every, default.every);
    }

    fn config(&mut self, config: &Config, default: &Config) {
        let Config {
            routing,
            lookups,
            limits,
            // No command line can say these, nor has the simulator a use for the name.
            key_hash: _,
            seed: _,
            protocol_name: _,
            records: _,
            providers: _,
        } = config;
        self.table(routing, &default.routing);
        self.lookup(lookups, &default.lookups);
        self.limits(limits, &default.limits);
        self.joining(routing, &default.routing);
    }

    fn table(&mut self, routing: &Routing, default: &Routing) {
        let Routing {
            bucket_size,
            replacement_cache,
            grace_period,
            bucket_inserts,
            ip_diversity,
            ip_limits,
            // No command line can say these.
            asn: _,
            membership: _,
            request_filter: _,
            disconnects_banned: _,
            address_filter: _,
            replication_factor: _,
            // Said at the end.
            joining: _,
            refresh_interval: _,
            low_peers: _,
            keep_alive: _,
        } = routing;
        self.differing("bucket-size", *bucket_size, default.bucket_size);
        self.differing("replacements", *replacement_cache, default.replacement_cache);
        self.span("grace-period", *grace_period, default.grace_period);
        self.flag("manual-inserts", *bucket_inserts == BucketInserts::Manual);
        self.diversity(*ip_diversity, ip_limits);
    }

    fn joining(&mut self, routing: &Routing, default: &Routing) {
        self.flag("join-on-request", routing.joining == Joining::OnRequest);
        let or_never = |interval: Option<Duration>| interval.map_or_else(|| "never".to_owned(), span);
        let (interval, by_default) = (routing.refresh_interval, default.refresh_interval);
        self.differing("refresh-interval", or_never(interval), or_never(by_default));
        self.differing("low-peers", routing.low_peers, default.low_peers);
        match routing.keep_alive {
            KeepAlive::Closest => {}
            KeepAlive::Table => self.option("keep-alive", "table"),
            KeepAlive::Nobody => self.option("keep-alive", "nobody"),
        }
    }

    fn lookup(&mut self, lookups: &config::Lookups, default: &config::Lookups) {
        let config::Lookups {
            parallelism: asked_at_once,
            beta,
            disjoint_paths,
            query_timeout,
            request_timeout,
            soft_timeout,
            timeout_policy,
            protection,
        } = lookups;
        self.differing("parallelism", parallelism(*asked_at_once), parallelism(default.parallelism));
        self.differing("beta", *beta, default.beta);
        self.differing("disjoint-paths", *disjoint_paths, default.disjoint_paths);
        self.span("query-timeout", *query_timeout, default.query_timeout);
        self.span("request-timeout", *request_timeout, default.request_timeout);
        if *soft_timeout != default.soft_timeout {
            let (start, end) = (span(*soft_timeout.start()), span(*soft_timeout.end()));
            self.option("soft-timeout", format_args!("{start}-{end}"));
        }
        match timeout_policy {
            TimeoutPolicy::Fitted => {}
            TimeoutPolicy::Quantile(percentile) => {
                self.option("timeout-policy", format_args!("p{}", percentile.get()));
            }
        }
        match protection {
            Protection::ByProtocol => {}
            Protection::Off => self.option("protection", "off"),
            Protection::Providers => self.option("protection", "providers"),
            Protection::All => self.option("protection", "all"),
        }
    }

    fn limits(&mut self, limits: &config::Limits, default: &config::Limits) {
        let config::Limits {
            max_queries,
            request_window: window,
            max_dials,
            max_known_peers,
            max_seeds,
            // The simulator has no use for these.
            max_message_size: _,
            max_inbound_streams: _,
            inbound_idle_timeout: _,
            outbound_idle_timeout: _,
            stream_timeout: _,
            max_connection_buffer: _,
            max_node_buffer: _,
            rates: _,
        } = limits;
        self.differing("max-queries", *max_queries, default.max_queries);
        self.differing("request-window", request_window(*window), request_window(default.request_window));
        self.differing("max-dials", *max_dials, default.max_dials);
        self.differing("max-known-peers", *max_known_peers, default.max_known_peers);
        self.differing("max-seeds", *max_seeds, default.max_seeds);
    }

    fn diversity(&mut self, diversity: IpDiversity, IpLimits { per_bucket, per_table, exempt }: &IpLimits) {
        match diversity {
            IpDiversity::ByProtocol => {}
            IpDiversity::Strict => self.option("ip-diversity", "strict"),
            IpDiversity::Soft => self.option("ip-diversity", "soft"),
            IpDiversity::Off => self.option("ip-diversity", "off"),
        }
        let default = IpLimits::default();
        self.differing("ip-per-bucket", *per_bucket, default.per_bucket);
        self.differing("ip-per-table", *per_table, default.per_table);
        for (net, bits) in exempt {
            self.option("ip-exempt", format_args!("{net}/{bits}"));
        }
    }
}

/// The units of spans of time in nanoseconds, longest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Writes a span of time exactly, as a whole number of the longest unit that allows it.
fn span(span: Duration) -> String {
    if span.is_zero() {
        return "0s".to_owned();
    }
    let nanos = span.as_nanos();
    let unit = UNITS.iter().find(|(_, unit)| nanos.is_multiple_of(*unit));
    unit.map_or_else(String::new, |(name, unit)| format!("{}{name}", nanos / unit))
}

/// Writes a real number in the shortest form that is read as the same number.
fn real(number: f64) -> String {
    let (plain, scientific) = (format!("{number}"), format!("{number:e}"));
    if scientific.len() < plain.len() { scientific } else { plain }
}

fn round_trip(rtt: &RoundTrip) -> String {
    match rtt {
        RoundTrip::Constant(rtt) => span(*rtt),
        RoundTrip::Lognormal { median, sigma } => format!("lognormal:{}:{}", span(*median), real(*sigma)),
        // No command line can say it.
        RoundTrip::Drawn(_) => round_trip(&Links::default().rtt),
        RoundTrip::Regions(matrix) if matrix.is_empty() => span(Duration::ZERO),
        RoundTrip::Regions(matrix) => {
            let number = |row: &Vec<Duration>, n| span(row.get(n).copied().unwrap_or_default());
            let row = |row| (0..matrix.len()).map(|n| number(row, n)).collect::<Vec<_>>().join(",");
            format!("regions:{}", matrix.iter().map(row).collect::<Vec<_>>().join("/"))
        }
    }
}

fn request_window(window: RequestWindow) -> String {
    match window {
        RequestWindow::Fixed(NonZeroUsize::MAX) => "none".to_owned(),
        RequestWindow::Fixed(width) => width.to_string(),
        RequestWindow::Adaptive { least, most } => format!("{least}-{}", most.max(least)),
    }
}

fn parallelism(parallelism: Parallelism) -> String {
    match parallelism {
        Parallelism::Fixed(n) => n.to_string(),
        Parallelism::Adaptive { start, max } => format!("{start}-{}", max.max(start)),
    }
}

fn quorum(quorum: Quorum) -> String {
    match quorum {
        Quorum::One => "one".to_owned(),
        Quorum::Majority => "majority".to_owned(),
        Quorum::All => "all".to_owned(),
        Quorum::N(n) => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_exact_and_short() {
        let written = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_micros(1500), "1500us"),
            (Duration::from_millis(100), "100ms"),
            (Duration::from_secs(90), "90s"),
            (Duration::from_secs(10_000), "10000s"),
            (Duration::from_secs(7200), "2h"),
            (Duration::from_secs(86_400), "1d"),
            (Duration::MAX, "18446744073709551615999999999ns"),
        ];
        for (time, expected) in written {
            assert_eq!(span(time), expected);
        }
    }

    #[test]
    fn reals_are_short() {
        for (number, expected) in
            [(0.1, "0.1"), (1.0, "1"), (1e-9, "1e-9"), (0.1 + 0.2, "0.30000000000000004")]
        {
            assert_eq!(real(number), expected);
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_as_usual() {
        assert_eq!(Scenario::default().command(), EXAMPLE);
        let other = Scenario { nodes: 7, ..Scenario::default() };
        assert_eq!(other.command(), format!("{EXAMPLE} -- --nodes 7"));
    }
}
