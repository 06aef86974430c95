//! The command that a scenario tells and the options of the example `simulate` say the same.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../examples/simulate/options.rs"]
mod options;

use std::collections::BTreeSet;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use libp2p_kademlia::sim::{
    Churn, Group, Hosting, Incident, Links, Load, Lookups, Records, Roles, RoundTrip, Scenario, Size, Start,
    Transport,
};
use libp2p_kademlia::{
    BucketInserts, Config, IpDiversity, IpLimits, Joining, KeepAlive, Parallelism, Percentile, Precision,
    Protection, Quorum, RequestWindow, TimeoutPolicy,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use options::Options;

const MS: Duration = Duration::from_millis(1);

#[derive(Parser)]
#[command(args_override_self = true)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// What is said behind `--`, word by word.
fn words(scenario: &Scenario) -> Vec<String> {
    let command = scenario.command();
    let words = command.split_once(" -- ").map_or("", |(_, options)| options);
    words.split_whitespace().map(str::to_owned).collect()
}

fn parsed<T: AsRef<str>>(words: &[T]) -> Result<Scenario, String> {
    let line = std::iter::once("simulate").chain(words.iter().map(AsRef::as_ref));
    Line::try_parse_from(line).map_err(|error| error.to_string())?.options.scenario()
}

fn same(scenario: &Scenario) -> Scenario {
    let command = scenario.command();
    let back = parsed(&words(scenario)).unwrap_or_else(|why| panic!("{command}\n{why}"));
    assert_eq!(back.command(), command);
    // How many threads work is no part of a scenario: by default one for each core.
    let back = Scenario { threads: scenario.threads, ..back };
    assert_eq!(format!("{back:?}"), format!("{scenario:?}"), "{command}");
    back
}

fn nz8(n: u8) -> NonZeroU8 {
    NonZeroU8::new(n).unwrap()
}

fn nz(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

fn with_links(links: Links) -> Scenario {
    Scenario { links, ..Scenario::default() }
}

fn with_config(change: impl FnOnce(Config) -> Config) -> Scenario {
    Scenario { config: change(Config::default()), ..Scenario::default() }
}

fn with_lookups(lookups: Lookups) -> Scenario {
    Scenario { lookups, ..Scenario::default() }
}

fn with_roles(roles: Roles) -> Scenario {
    Scenario { roles, ..Scenario::default() }
}

/// Scenarios that each differ from the default in one thing, and what is said of it.
fn one_by_one() -> Vec<(Scenario, &'static str)> {
    let usual = Scenario::default;
    let (links, roles, lookups) = (Links::default, Roles::default, Lookups::default);
    let seconds = Duration::from_secs;
    let churn = |churn| Scenario { churn: Some(churn), ..usual() };
    let join = |every, seeds| Scenario { start: Start::Join { every, seeds }, ..usual() };
    let ten = RoundTrip::Regions(vec![vec![10 * MS, 80 * MS], vec![80 * MS, MS / 2]]);
    vec![
        (usual(), ""),
        (Scenario { nodes: 10_000, ..usual() }, "--nodes 10000"),
        (Scenario { seed: u64::MAX, ..usual() }, "--seed 18446744073709551615"),
        (join(100 * MS, 1), "--join-every 100ms --known 1"),
        (join(Duration::ZERO, 7), "--join-every 0s --known 7"),
        (Scenario { work: Duration::from_micros(50), ..usual() }, "--work 50us"),
        (Scenario { hosting: Hosting::OneNetwork, ..usual() }, "--hosting one-network"),
        (Scenario { hosting: Hosting::OneAddress, ..usual() }, "--hosting one-address"),
        (Scenario { hosting: Hosting::OneV6Network, ..usual() }, "--hosting one-v6-network"),
        (Scenario { hosting: Hosting::OneRelay, ..usual() }, "--hosting one-relay"),
        (Scenario { hosting: Hosting::OneDomain, ..usual() }, "--hosting one-domain"),
        (Scenario { settle: seconds(5400), ..usual() }, "--settle 90m"),
        (Scenario { lasts: seconds(2 * 86_400), ..usual() }, "--lasts 2d"),
        (Scenario { sample_every: Some(seconds(30)), ..usual() }, "--sample-every 30s"),
        (with_links(Links { rtt: RoundTrip::Constant(Duration::from_nanos(1)), ..links() }), "--rtt 1ns"),
        (
            with_links(Links { rtt: RoundTrip::Lognormal { median: 80 * MS, sigma: 0.5 }, ..links() }),
            "--rtt lognormal:80ms:0.5",
        ),
        (with_links(Links { rtt: ten, ..links() }), "--rtt regions:10ms,80ms/80ms,500us"),
        (with_links(Links { jitter: 0.25, ..links() }), "--jitter 0.25"),
        (with_links(Links { loss: 1e-7, ..links() }), "--loss 1e-7"),
        (with_links(Links { transport: Transport::Tcp, ..links() }), "--transport tcp"),
        (with_links(Links { lazy: false, ..links() }), "--no-lazy"),
        (with_links(Links { warm: true, ..links() }), "--warm"),
        (with_links(Links { idle_timeout: seconds(90), ..links() }), "--idle-timeout 90s"),
        (with_links(Links { bandwidth: NonZeroU64::new(1), ..links() }), "--bandwidth 1"),
        (with_links(Links { uplink: NonZeroU64::new(125_000), ..links() }), "--uplink 125000"),
        (with_roles(Roles { clients: 0.1, ..roles() }), "--clients 0.1"),
        (with_roles(Roles { undialable: 0.2, ..roles() }), "--undialable 0.2"),
        (with_roles(Roles { colluders: 1.0, ..roles() }), "--colluders 1"),
        (with_roles(Roles { poisoners: 0.1 + 0.2, ..roles() }), "--poisoners 0.30000000000000004"),
        (with_roles(Roles { liars: 0.01, ..roles() }), "--liars 0.01"),
        (with_roles(Roles { stuffers: 0.05, ..roles() }), "--stuffers 0.05"),
        (with_roles(Roles { laggards: 0.04, ..roles() }), "--laggards 0.04"),
        (churn(Churn::default()), "--churn 10000s"),
        (
            churn(Churn { new_ids: 0.0, crashes: 1.0, ..Churn::default() }),
            "--churn 10000s --new-ids 0 --crashes 1",
        ),
        (Scenario { incidents: all_incidents(), ..usual() }, ALL_INCIDENTS),
        (with_lookups(Lookups { count: 0, ..lookups() }), "--lookups 0"),
        (with_lookups(Lookups { first_at: seconds(3600), ..lookups() }), "--lookups-at 1h"),
        (with_lookups(Lookups { every: 5 * MS, ..lookups() }), "--every 5ms"),
        (with_lookups(Lookups { precision: Precision::Near, ..lookups() }), "--precision near"),
    ]
}

/// The same for what is put, got, provided and searched.
fn one_by_one_of_records() -> Vec<(Scenario, &'static str)> {
    let (records, some) = (Records::default, Load { count: 7, ..Load::default() });
    let later = Load { first_at: Some(Duration::ZERO), every: 5 * MS, ..some };
    let with = |records| Scenario { records, ..Scenario::default() };
    let quorum = |put_quorum, get_quorum| with(Records { put_quorum, get_quorum, ..records() });
    vec![
        (with(Records { puts: some, ..records() }), "--puts 7"),
        (with(Records { puts: later, ..records() }), "--puts 7 --puts-at 0s --puts-every 5ms"),
        (with(Records { puts: some, gets: some, ..records() }), "--puts 7 --gets 7"),
        (
            with(Records { puts: some, gets: later, ..records() }),
            "--puts 7 --gets 7 --gets-at 0s --gets-every 5ms",
        ),
        (
            with(Records { provides: later, ..records() }),
            "--provides 7 --provides-at 0s --provides-every 5ms",
        ),
        (
            with(Records { provides: some, searches: later, ..records() }),
            "--provides 7 --searches 7 --searches-at 0s --searches-every 5ms",
        ),
        (quorum(Quorum::One, None), "--put-quorum one"),
        (quorum(Quorum::All, Some(Quorum::Majority)), "--put-quorum all --get-quorum majority"),
        (quorum(Quorum::N(nz(3)), Some(Quorum::N(nz(1)))), "--put-quorum 3 --get-quorum 1"),
        (with(Records { value_bytes: 0, ..records() }), "--value-bytes 0"),
    ]
}

fn all_incidents() -> Vec<(Duration, Incident)> {
    let minute = Duration::from_secs(60);
    let partition = |share, one_way| Incident::Partition { share, one_way };
    vec![
        (Duration::ZERO, Incident::Freeze(0.1)),
        (2 * minute, partition(0.5, true)),
        (Duration::ZERO, Incident::Heal),
        (minute, Incident::Kill(0.2)),
        // The same again, and of two at one time the order counts.
        (minute, Incident::Freeze(0.1)),
        (3 * minute, partition(0.25, false)),
        (Duration::from_millis(2500), Incident::CutUplinks(0.3)),
        (4 * minute, Incident::Heal),
    ]
}

const ALL_INCIDENTS: &str = "--silent 0.1 --one-way-partition 0.5@2m --heal 0s --killed 0.2@1m --silent 0.1@1m \
    --partition 0.25@3m --cut-uplinks 0.3@2500ms --heal 4m";

/// The same for the configuration of the nodes.
fn one_by_one_in_the_config() -> Vec<(Scenario, &'static str)> {
    let seconds = Duration::from_secs;
    let exempt = vec![("10.0.0.0".parse().unwrap(), 8), ("2001:db8::".parse().unwrap(), 32)];
    let exempt = IpLimits { exempt, ..IpLimits::default() };
    let loose =
        IpLimits { per_bucket: nz8(20), per_table: NonZeroU16::new(1000).unwrap(), exempt: Vec::new() };
    let adaptive = Parallelism::Adaptive { start: nz8(3), max: nz8(10) };
    let short = |config: Config| config.with_soft_timeout(MS..=500 * MS).unwrap();
    let patient = |config: Config| config.with_request_timeout(seconds(60)).unwrap();
    let window = |window| with_config(|config| config.with_request_window(window));
    vec![
        (with_config(|config| config.with_bucket_size(nz8(8))), "--bucket-size 8"),
        (with_config(|config| config.with_replacement_cache(0)), "--replacements 0"),
        (with_config(|config| config.with_grace_period(seconds(300)).unwrap()), "--grace-period 5m"),
        (
            Scenario {
                start: Start::Join { every: MS, seeds: 1 },
                ..with_config(|config| config.with_bucket_inserts(BucketInserts::Manual))
            },
            "--join-every 1ms --known 1 --manual-inserts",
        ),
        (with_config(|config| config.with_protection(Protection::Off)), "--protection off"),
        (with_config(|config| config.with_protection(Protection::Providers)), "--protection providers"),
        (with_config(|config| config.with_protection(Protection::All)), "--protection all"),
        (with_config(|config| config.with_ip_diversity(IpDiversity::Off)), "--ip-diversity off"),
        (with_config(|config| config.with_ip_diversity(IpDiversity::Soft)), "--ip-diversity soft"),
        (with_config(|config| config.with_ip_diversity(IpDiversity::Strict)), "--ip-diversity strict"),
        (with_config(|config| config.with_ip_limits(loose)), "--ip-per-bucket 20 --ip-per-table 1000"),
        (
            with_config(|config| config.with_ip_limits(exempt)),
            "--ip-exempt 10.0.0.0/8 --ip-exempt 2001:db8::/32",
        ),
        (with_config(|config| config.with_parallelism(Parallelism::Fixed(nz8(3)))), "--parallelism 3"),
        (with_config(|config| config.with_parallelism(adaptive)), "--parallelism 3-10"),
        (with_config(|config| config.with_beta(nz8(5))), "--beta 5"),
        (with_config(|config| config.with_disjoint_paths(nz8(4))), "--disjoint-paths 4"),
        (with_config(|config| config.with_query_timeout(seconds(10)).unwrap()), "--query-timeout 10s"),
        (with_config(patient), "--request-timeout 1m"),
        (with_config(short), "--soft-timeout 1ms-500ms"),
        (
            with_config(|config| short(config).with_request_timeout(600 * MS).unwrap()),
            "--request-timeout 600ms --soft-timeout 1ms-500ms",
        ),
        (
            with_config(|config| patient(config).with_soft_timeout(MS..=seconds(30)).unwrap()),
            "--request-timeout 1m --soft-timeout 1ms-30s",
        ),
        (
            with_config(|config| config.with_timeout_policy(TimeoutPolicy::Quantile(Percentile::P90))),
            "--timeout-policy p90",
        ),
        (with_config(|config| config.with_max_queries(nz(7))), "--max-queries 7"),
        (window(RequestWindow::Fixed(nz(8))), "--request-window 8"),
        (window(RequestWindow::Fixed(NonZeroUsize::MAX)), "--request-window none"),
        (window(RequestWindow::Adaptive { least: nz(8), most: nz(9) }), "--request-window 8-9"),
        (with_config(|config| config.with_max_dials(nz(8))), "--max-dials 8"),
        (with_config(|config| config.with_max_known_peers(nz(9))), "--max-known-peers 9"),
        (with_config(|config| config.with_max_seeds(nz(10))), "--max-seeds 10"),
        (with_config(|config| config.with_joining(Joining::OnRequest)), "--join-on-request"),
        (with_config(|config| config.with_refresh_interval(None).unwrap()), "--refresh-interval never"),
        (with_config(|config| config.with_refresh_interval(Some(Duration::MAX)).unwrap()), {
            "--refresh-interval never"
        }),
        (with_config(|config| config.with_low_peers(0)), "--low-peers 0"),
        (with_config(|config| config.with_keep_alive(KeepAlive::Table)), "--keep-alive table"),
        (with_config(|config| config.with_keep_alive(KeepAlive::Nobody)), "--keep-alive nobody"),
    ]
}

/// Groups, whose options are those of a node.
fn one_by_one_of_groups() -> Vec<(Scenario, String)> {
    let group = |size, config| Scenario { groups: vec![Group { size, config }], ..Scenario::default() };
    let mut all = vec![
        (group(Size::Share(0.25), Config::default()), "--group share=0.25".to_owned()),
        (group(Size::Nodes(7), Config::default()), "--group nodes=7".to_owned()),
    ];
    // Whatever can be said of all nodes can be said of a group.
    for (scenario, said) in one_by_one_in_the_config() {
        let said = said.strip_prefix("--join-every 1ms --known 1 ").unwrap_or(said);
        let options = said.split("--").skip(1).map(|option| option.trim().replacen(' ', "=", 1));
        let options: Vec<_> = std::iter::once("share=1".to_owned()).chain(options).collect();
        let start = if scenario.start == Start::Ideal { "" } else { "--join-every 1ms --known 1 " };
        let of_group = group(Size::Share(1.0), scenario.config);
        let of_group = Scenario { start: scenario.start, ..of_group };
        all.push((of_group, format!("{start}--group {}", options.join(","))));
    }
    let mut two = group(Size::Nodes(1), Config::default());
    two.groups.push(Group { size: Size::Share(0.0), config: Config::default().with_beta(nz8(5)) });
    all.push((two, "--group nodes=1 --group share=0,beta=5".to_owned()));
    all
}

#[test]
fn every_option_is_written_and_read() {
    let mut said = BTreeSet::new();
    for (scenario, expected) in one_by_one_of_groups() {
        assert_eq!(words(&scenario).join(" "), expected);
        same(&scenario);
        said.insert("group".to_owned());
    }
    let records = one_by_one_of_records();
    for (scenario, expected) in one_by_one().into_iter().chain(records).chain(one_by_one_in_the_config()) {
        assert_eq!(words(&scenario).join(" "), expected);
        same(&scenario);
        said.extend(
            words(&scenario).into_iter().filter_map(|word| Some(word.strip_prefix("--")?.to_owned())),
        );
    }
    let command = Line::command();
    let there_are = command.get_arguments().filter_map(|arg| arg.get_long());
    let unsaid: Vec<_> = there_are.filter(|option| !said.contains(*option)).collect();
    // What is the default is not said, and what makes no difference.
    assert_eq!(unsaid, ["ideal", "threads"]);
    assert_eq!(parsed(&["--threads", "3"]).unwrap().threads, nz(3));
    assert!(parsed(&["--threads", "0"]).is_err() && parsed(&["--threads", "65"]).is_err());
}

#[test]
fn without_options_it_is_the_default_and_the_help_says_which() {
    let usual = parsed::<&str>(&[]).unwrap();
    let default = Scenario { threads: usual.threads, ..Scenario::default() };
    assert_eq!(format!("{usual:?}"), format!("{default:?}"));
    assert_eq!(usual.command(), Scenario::default().command());
    let mut told = 0;
    for arg in Line::command().get_arguments() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let Some((_, default)) = help.split_once("[default: ") else {
            continue;
        };
        let option = format!("--{}", arg.get_long().unwrap());
        let mut words = vec![option.as_str(), default.split(']').next().unwrap()];
        // Some are about another option.
        let (with, expected) = match words[0] {
            "--known" => (vec!["--join-every", "1ms"], "--join-every 1ms --known 1"),
            "--new-ids" | "--crashes" => (vec!["--churn", "1ms"], "--churn 1ms"),
            _ => (Vec::new(), ""),
        };
        words.extend(with);
        assert_eq!(self::words(&parsed(&words).unwrap()).join(" "), expected, "{words:?}");
        told += 1;
    }
    assert!(told > 30, "{told}");
}

#[test]
fn the_last_one_counts_and_incidents_add_up() {
    for (line, expected) in [
        ("--nodes 5 --nodes 6", "--nodes 6"),
        ("--join-every 1s --known 2 --ideal", ""),
        ("--ideal --join-every 1s --known 2", "--join-every 1s --known 2"),
        ("--ip-diversity off --ip-per-bucket 5 --ip-diversity soft", "--ip-diversity soft --ip-per-bucket 5"),
        ("--silent 0.1 --warm --silent 0.2@1500ms --warm", "--warm --silent 0.1 --silent 0.2@1500ms"),
        ("--settle 2.5s --every 0.000000001s --lasts 1.5d", "--settle 2500ms --every 1ns --lasts 36h"),
        ("--precision near --precision exact --keep-alive nobody --keep-alive closest", ""),
    ] {
        let line: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words(&parsed(&line).unwrap()).join(" "), expected);
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_the_error_says_why() {
    for (line, why) in [
        ("--nodes 0", "does not lie between 1 and"),
        ("--nodes many", "is not a whole number"),
        ("--silent 1.1", "does not lie between 0 and 1"),
        ("--silent NaN", "does not lie between 0 and 1"),
        ("--silent 0.1@", "it has no unit"),
        ("--silent 0.1@5", "it has no unit"),
        ("--heal", "a value is required"),
        ("--settle 5", "it has no unit"),
        ("--settle 5x", "`x` is no unit"),
        ("--settle s", "is not a number"),
        ("--settle 1.s", "is not a number"),
        ("--settle=-1s", "is not a number"),
        ("--settle 1e3s", "is no unit"),
        ("--settle 1é", "it has no unit"),
        ("--settle 0.5ns", "finer than a nanosecond"),
        ("--settle 0.0000000000000000000000001d", "finer than a nanosecond"),
        ("--settle 99999999999999999999999999999999999999999d", "too long"),
        ("--settle 4000d", "longer than 3650d"),
        ("--refresh-interval 18446744073709551616s", "too long"),
        ("--sample-every 0s", "shorter than 1ms"),
        ("--idle-timeout 0s", "shorter than 1ms"),
        ("--refresh-interval 0s", "shorter than 1ms"),
        ("--sample-every 1ms --lasts 1h", "more than 1000000 samples"),
        ("--every 1d", ""),
        ("--every 4d", "lookups take longer"),
        ("--join-every 4d", "joining takes longer"),
        ("--known 2", "--join-every"),
        ("--crashes 0.1", "--churn"),
        ("--rtt 2h", "longer than 1h"),
        ("--rtt lognormal:100ms", "lognormal:MEDIAN:SIGMA"),
        ("--rtt lognormal:100ms:9", "does not lie between 0 and 3"),
        ("--rtt matrix:/nowhere/at/all", "/nowhere/at/all"),
        ("--rtt regions:1ms,2ms/3ms", "row 2 has another number"),
        ("--rtt regions:", "row 1"),
        ("--parallelism 0", "does not lie between 1 and 255"),
        ("--parallelism 6-4", "6 is more than 4"),
        ("--request-window 0", "is not a number from 1 on, nor `none`"),
        ("--request-window 6-4", "6 is more than 4"),
        ("--timeout-policy p100", "write fitted, or p50 to p99"),
        ("--timeout-policy 90", "write fitted, or p50 to p99"),
        ("--soft-timeout 1s", "write two times"),
        ("--soft-timeout 2s-1s", "must not begin after its end"),
        ("--soft-timeout 0s-1s", "the soft timeout must be at least 1ms"),
        ("--request-timeout 1ms --soft-timeout 1ms-1ms", "the request timeout must be at least 100ms"),
        ("--query-timeout 0s", "the query timeout must be at least 100ms"),
        ("--grace-period 0s", "the grace period must be at least 10s"),
        ("--refresh-interval 1ms", "the refresh interval must be at least 10s"),
        ("--request-timeout 1s", "nor end after the request timeout"),
        ("--ip-exempt 10.0.0.0", "ADDRESS/BITS"),
        ("--ip-exempt 10.0.0.0/33", "does not lie between 0 and 32"),
        ("--keep-alive all", "closest, table, nobody"),
        ("--manual-inserts", "no ideal tables"),
        ("--nodes 200000", ""),
        ("--nodes 200000 --ip-per-bucket 1", ""),
    ] {
        assert_refused(line, why);
    }
}

#[test]
fn loads_rates_and_groups_that_make_no_sense_are_refused() {
    for (line, why) in [
        ("--gets 1", "use --puts"),
        ("--searches 1", "use --provides"),
        ("--puts 1000 --puts-every 4d", "the puts or gets take longer"),
        (
            "--provides 1000 --provides-every 3d --searches 1000 --searches-every 1d",
            "the provides or searches",
        ),
        ("--puts 1 --put-quorum 0", "write one, majority, all, or a number"),
        ("--bandwidth 0", "does not lie between 1 and"),
        ("--bandwidth 1kb", "no number of bytes"),
        ("--uplink 18446744073709551615kB", "does not lie between 1 and"),
        ("--uplink 125kB", ""),
        ("--group bucket-size=8", "share=SHARE or nodes=NODES"),
        ("--group share=2", "does not lie between 0 and 1"),
        ("--group share=0.1,lookups=3", "--lookups"),
        ("--group share=0.1,grace-period=0s", "the grace period must be at least 10s"),
        ("--group share=0.1,manual-inserts", "no ideal tables"),
        ("--value-bytes 65537", "does not lie between 0 and 65536"),
        ("--sample-every 1ms --puts 10000 --lookups 0", "more than 1000000 samples"),
    ] {
        assert_refused(line, why);
    }
}

/// That a command line is refused for some reason, or accepted if there is none.
fn assert_refused(line: &str, why: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    match parsed(&words) {
        Ok(_) => assert_eq!(why, "", "{line}"),
        Err(error) => assert!(!why.is_empty() && error.contains(why), "{line}: {error}"),
    }
}

#[test]
fn seeds_are_a_range_or_a_list() {
    for (text, expected) in [
        ("1..20", (1..=20).collect::<Vec<_>>()),
        ("7..7", vec![7]),
        ("3,5,18446744073709551615", vec![3, 5, u64::MAX]),
        ("9", vec![9]),
    ] {
        assert_eq!(options::seeds(text), Ok(options::Seeds(expected)));
    }
    for (text, why) in [
        ("20..1", "20 is more than 1"),
        ("1..10001", "more than 10000"),
        ("3,5,3", "3 is there twice"),
        ("1..", "`` is not a whole number"),
        ("a", "`a` is not a whole number"),
    ] {
        assert!(options::seeds(text).unwrap_err().contains(why), "{text}");
    }
}

#[test]
fn a_matrix_of_milliseconds_is_read_from_a_file() {
    let path = std::env::temp_dir().join(format!("libp2p-kademlia-matrix-{}", std::process::id()));
    let rtt = format!("matrix:{}", path.display());
    std::fs::write(&path, "10, 80.5\n\n80.5,20\n").unwrap();
    let read = parsed(&["--rtt", &rtt]);
    std::fs::write(&path, "10,x\n80,20\n").unwrap();
    let bad = parsed(&["--rtt", &rtt]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(words(&read.unwrap()), ["--rtt", "regions:10ms,80500us/80500us,20ms"]);
    assert!(bad.unwrap_err().contains("row 1"));
}

/// As long as an option allows, to the nanosecond, and round numbers of each unit.
fn span() -> impl Strategy<Value = Duration> {
    let round = (0u64..100, prop::sample::select(vec![1, 60, 3600, 86_400]));
    prop_oneof![
        (0..86_400u64, 0..1_000_000_000u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        (0..100_000u64).prop_map(Duration::from_millis),
        round.prop_map(|(number, unit)| Duration::from_secs(number * unit)),
    ]
}

fn trip() -> impl Strategy<Value = Duration> {
    (0..3_600_000_000_000u64).prop_map(Duration::from_nanos)
}

fn share() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..=1.0, (0..=100u8).prop_map(|n| f64::from(n) / 100.0), Just(f64::MIN_POSITIVE)]
}

fn links() -> impl Strategy<Value = Links> {
    let regions = (1..4usize).prop_flat_map(|n| vec(vec(trip(), n), n));
    let rtt = prop_oneof![
        trip().prop_map(RoundTrip::Constant),
        (trip(), 0.0..3.0).prop_map(|(median, sigma)| RoundTrip::Lognormal { median, sigma }),
        regions.prop_map(RoundTrip::Regions),
    ];
    let rates = any::<[Option<NonZeroU64>; 2]>();
    (rtt, 0.0..100.0, share(), any::<[bool; 3]>(), span().prop_map(|span| span.max(MS)), rates).prop_map(
        |(rtt, jitter, loss, [tcp, lazy, warm], idle_timeout, [bandwidth, uplink])| Links {
            rtt,
            jitter,
            loss,
            transport: if tcp { Transport::Tcp } else { Transport::Quic },
            lazy,
            warm,
            idle_timeout,
            bandwidth,
            uplink,
            delay: None,
        },
    )
}

fn roles() -> impl Strategy<Value = Roles> {
    [share(), share(), share(), share(), share(), share(), share()].prop_map(
        |[clients, undialable, colluders, poisoners, liars, stuffers, laggards]| Roles {
            clients,
            undialable,
            colluders,
            poisoners,
            liars,
            stuffers,
            laggards,
        },
    )
}

fn incident() -> impl Strategy<Value = Incident> {
    prop_oneof![
        share().prop_map(Incident::Freeze),
        share().prop_map(Incident::Kill),
        share().prop_map(Incident::CutUplinks),
        (share(), any::<bool>()).prop_map(|(share, one_way)| Incident::Partition { share, one_way }),
        Just(Incident::Heal),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let numbers = (any::<[NonZeroU8; 5]>(), any::<[NonZeroUsize; 6]>(), any::<(u8, usize, bool)>());
    let times =
        ([span(), span(), span(), span(), span()], option::of(span().prop_map(|span| span.max(10_000 * MS))));
    let exempt = vec((any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, bits)| (ip.into(), bits)), 0..3);
    let limits = (any::<(NonZeroU8, NonZeroU16)>(), exempt);
    let limits =
        limits.prop_map(|((per_bucket, per_table), exempt)| IpLimits { per_bucket, per_table, exempt });
    let diversity = prop::sample::select(vec![
        IpDiversity::ByProtocol,
        IpDiversity::Strict,
        IpDiversity::Soft,
        IpDiversity::Off,
    ]);
    let keep = prop::sample::select(vec![KeepAlive::Closest, KeepAlive::Table, KeepAlive::Nobody]);
    (numbers, times, (diversity, limits), keep, any::<bool>()).prop_map(
        |(
            (small, large, (cache, low, is_fixed)),
            (mut times, refresh),
            (diversity, limits),
            keep,
            on_request,
        )| {
            let [k, beta, paths, start, max] = small;
            // Soft timeouts from the shortest to the next, and requests time out after both.
            times[..3].sort();
            times[..2].iter_mut().for_each(|time| *time = (*time).max(MS));
            times[2..].iter_mut().for_each(|time| *time = (*time).max(10_000 * MS));
            let parallelism = if is_fixed {
                Parallelism::Fixed(start)
            } else {
                Parallelism::Adaptive { start: start.min(max), max: start.max(max) }
            };
            let (least, most) = (large[4].min(large[5]), large[4].max(large[5]));
            let window =
                if is_fixed { RequestWindow::Fixed(least) } else { RequestWindow::Adaptive { least, most } };
            let config = Config::default()
                .with_soft_timeout(MS..=MS)
                .and_then(|config| config.with_request_timeout(times[2]))
                .and_then(|config| config.with_soft_timeout(times[0]..=times[1]));
            config
                .unwrap()
                .with_bucket_size(k)
                .with_replacement_cache(cache)
                .with_grace_period(times[3])
                .unwrap()
                .with_ip_diversity(diversity)
                .with_ip_limits(limits)
                .with_parallelism(parallelism)
                .with_beta(beta)
                .with_disjoint_paths(paths)
                .with_query_timeout(times[4])
                .unwrap()
                .with_max_queries(large[0])
                .with_request_window(window)
                .with_max_dials(large[1])
                .with_max_known_peers(large[2])
                .with_max_seeds(large[3])
                .with_joining(if on_request { Joining::OnRequest } else { Joining::Automatic })
                .with_refresh_interval(refresh)
                .unwrap()
                .with_low_peers(low)
                .with_keep_alive(keep)
        },
    )
}

fn load() -> impl Strategy<Value = Load> {
    (1..40usize, option::of(span()), trip()).prop_map(|(count, first_at, every)| Load {
        count,
        first_at,
        every,
    })
}

fn quorum() -> impl Strategy<Value = Quorum> {
    prop_oneof![
        Just(Quorum::One),
        Just(Quorum::Majority),
        Just(Quorum::All),
        any::<NonZeroUsize>().prop_map(Quorum::N)
    ]
}

fn records() -> impl Strategy<Value = Records> {
    ([load(), load(), load(), load()], quorum(), option::of(quorum()), 0..=65_536usize).prop_map(
        |([puts, gets, provides, searches], put_quorum, get_quorum, value_bytes)| Records {
            puts,
            gets,
            provides,
            searches,
            put_quorum,
            get_quorum,
            value_bytes,
        },
    )
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let long = || span().prop_map(|span| span.max(MS));
    let start = prop_oneof![
        Just(Start::Ideal),
        (trip(), any::<usize>()).prop_map(|(every, seeds)| Start::Join { every, seeds }),
    ];
    let churn = (long(), share(), share());
    let churn = churn.prop_map(|(mean_session, new_ids, crashes)| Churn { mean_session, new_ids, crashes });
    let lookups =
        (0..40usize, span(), trip(), any::<bool>()).prop_map(|(count, first_at, every, is_near)| Lookups {
            count,
            first_at,
            every,
            precision: if is_near { Precision::Near } else { Precision::Exact },
        });
    // Samples often enough, but not more than are allowed.
    let often = long().prop_map(|every| every.max(Duration::from_secs(100)));
    let size = prop_oneof![share().prop_map(Size::Share), (1..50usize).prop_map(Size::Nodes)];
    let hosting = prop::sample::select(vec![
        Hosting::Spread,
        Hosting::OneNetwork,
        Hosting::OneAddress,
        Hosting::OneV6Network,
        Hosting::OneRelay,
        Hosting::RelaysOfOneHost,
        Hosting::OneDomain,
    ]);
    let groups = vec((size, config()).prop_map(|(size, config)| Group { size, config }), 0..3);
    (
        (1..40usize, any::<u64>(), config(), (links(), hosting, span()), start, (roles(), groups)),
        (option::of(churn), vec((span(), incident()), 0..6), lookups, records(), span(), span()),
        option::of(often),
    )
        .prop_map(|(network, (churn, incidents, lookups, records, settle, lasts), sample_every)| {
            let (nodes, seed, config, (links, hosting, work), start, (roles, groups)) = network;
            Scenario {
                nodes,
                seed,
                config,
                links,
                hosting,
                work,
                start,
                groups,
                roles,
                own_roles: Vec::new(),
                churn,
                sessions: None,
                incidents,
                lookups,
                records,
                settle,
                lasts,
                sample_every,
                threads: NonZeroUsize::MIN,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_scenario_says_its_command_says_too(scenario in scenario()) {
        same(&scenario);
    }
}
