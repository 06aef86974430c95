//! Values of options: how spans of time, shares, round trips and the like are written.

use std::fmt::Display;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use libp2p_kademlia::sim::RoundTrip;
use libp2p_kademlia::{Parallelism, Percentile, Quorum, RequestWindow, TimeoutPolicy};

/// The units of spans of time, in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Reads a span of time, exactly: `100ms`, `2.5s`, `10m`, `1h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() {
            "it has no unit; write 100ms, 2.5s, 10m, 1h or 1d".to_owned()
        } else {
            format!("`{unit}` is no unit; there are d, h, m, s, ms, us and ns")
        });
    };
    let nanos = nanos(number, *unit)?;
    let (seconds, rest) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    match (u64::try_from(seconds), u32::try_from(rest)) {
        (Ok(seconds), Ok(rest)) => Ok(Duration::new(seconds, rest)),
        _ => Err("it is too long".to_owned()),
    }
}

/// Reads a decimal number of units as nanoseconds; a part of a nanosecond is refused rather than rounded.
fn nanos(number: &str, unit: u128) -> Result<u128, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if [whole, fraction].iter().any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("`{number}` is not a number"));
    }
    let too_long = || "it is too long".to_owned();
    let whole: u128 = whole.parse().map_err(|_| too_long())?;
    let fraction = fraction.trim_end_matches('0');
    // More than sixteen digits no unit can have.
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 20);
    let scale = digits.map(|digits| 10u128.pow(digits));
    let (Some(scale), Ok(fraction)) = (scale, format!("0{fraction}").parse::<u128>()) else {
        return Err("it is finer than a nanosecond".to_owned());
    };
    if !(fraction * unit).is_multiple_of(scale) {
        return Err("it is finer than a nanosecond".to_owned());
    }
    let whole = whole.checked_mul(unit).ok_or_else(too_long)?;
    whole.checked_add(fraction * unit / scale).ok_or_else(too_long)
}

/// As long as anything may take in a simulation.
pub(crate) const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Reads a span of time of which sums are made: at most ten years.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    if span <= LONGEST { Ok(span) } else { Err("it is longer than 3650d".to_owned()) }
}

/// As often as anything may happen again: with nothing between two times, time would not pass.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads a span of time after which something happens again and again.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    span(text).and_then(not_too_short)
}

fn not_too_short(span: Duration) -> Result<Duration, String> {
    if span >= SHORTEST { Ok(span) } else { Err("it is shorter than 1ms".to_owned()) }
}

/// An interval, or never.
pub(crate) type OrNever = Option<Duration>;

/// Reads an interval of any length, or `never`.
pub(crate) fn or_never(text: &str) -> Result<OrNever, String> {
    if text == "never" { Ok(None) } else { duration(text).and_then(not_too_short).map(Some) }
}

fn real(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("`{text}` does not lie between {} and {}", range.start(), range.end()))
    }
}

/// Reads a part of a whole: from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    real(text, 0.0..=1.0)
}

/// Reads by how much of its time a message may be late.
pub(crate) fn jitter(text: &str) -> Result<f64, String> {
    real(text, 0.0..=100.0)
}

/// Reads `0.1@10m`: a share, and when; at once if it does not say when.
pub(crate) fn share_at(text: &str) -> Result<(f64, Duration), String> {
    let (share_text, time) = text.split_once('@').unwrap_or((text, "0s"));
    Ok((share(share_text)?, span(time)?))
}

fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is not a whole number"))?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{text} does not lie between {} and {}", range.start(), range.end()))
    }
}

/// Reads how many nodes there are.
pub(crate) fn nodes(text: &str) -> Result<usize, String> {
    count(text, 1..=1_000_000)
}

/// Reads how many threads there are.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let count = count(text, 1..=64)?;
    NonZeroUsize::new(count).ok_or_else(|| "no thread works".to_owned())
}

/// Reads how many lookups there are.
pub(crate) fn lookups(text: &str) -> Result<usize, String> {
    count(text, 0..=10_000_000)
}

/// Seeds, each of which is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Vec<u64>);

/// More seeds than anybody waits for.
const MOST_SEEDS: u64 = 10_000;

/// Reads `1..20`, from the first to the last, or `3,5,8`. None may be there twice: it would be the same run.
pub(crate) fn seeds(text: &str) -> Result<Seeds, String> {
    let seed = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a whole number"));
    let Some((first, last)) = text.split_once("..") else {
        let seeds = text.split(',').map(seed).collect::<Result<Vec<_>, _>>()?;
        let twice =
            seeds.iter().enumerate().find(|(at, seed)| seeds.iter().take(*at).any(|other| other == *seed));
        return twice.map_or(Ok(Seeds(seeds.clone())), |(_, seed)| Err(format!("{seed} is there twice")));
    };
    let (first, last) = (seed(first)?, seed(last.trim_start_matches('='))?);
    match last.checked_sub(first) {
        None => Err(format!("{first} is more than {last}")),
        Some(more) if more >= MOST_SEEDS => Err(format!("there are more than {MOST_SEEDS} seeds")),
        Some(_) => Ok(Seeds((first..=last).collect())),
    }
}

/// Reads the time of a round trip; an hour is more than any.
fn trip(text: &str) -> Result<Duration, String> {
    let trip = duration(text)?;
    if trip <= Duration::from_secs(3600) { Ok(trip) } else { Err(format!("`{text}` is longer than 1h")) }
}

/// Reads `100ms`, `lognormal:MEDIAN:SIGMA`, `matrix:FILE` or `regions:10ms,80ms/80ms,20ms`.
pub(crate) fn round_trip(text: &str) -> Result<RoundTrip, String> {
    if let Some(text) = text.strip_prefix("lognormal:") {
        let (median, sigma) = text.split_once(':').ok_or("write lognormal:MEDIAN:SIGMA")?;
        // Three standard deviations of e apart are more than any network has.
        return Ok(RoundTrip::Lognormal { median: trip(median)?, sigma: real(sigma, 0.0..=3.0)? });
    }
    if let Some(path) = text.strip_prefix("matrix:") {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return matrix(lines, |number| trip(&format!("{number}ms"))).map_err(|why| format!("{path}: {why}"));
    }
    match text.strip_prefix("regions:") {
        Some(rows) => matrix(rows.split('/'), trip),
        None => Ok(RoundTrip::Constant(trip(text)?)),
    }
}

/// Reads one row of round trips after the other.
fn matrix<'a>(
    rows: impl Iterator<Item = &'a str>,
    trip: impl Fn(&str) -> Result<Duration, String>,
) -> Result<RoundTrip, String> {
    let row = |(n, row): (usize, &str)| {
        let row: Result<Vec<_>, _> = row.split(',').map(|number| trip(number.trim())).collect();
        row.map_err(|why| format!("row {}: {why}", n + 1))
    };
    let rows = rows.enumerate().map(row).collect::<Result<Vec<_>, _>>()?;
    match rows.iter().position(|row| row.len() != rows.len()) {
        _ if rows.is_empty() => Err("it has no rows".to_owned()),
        None => Ok(RoundTrip::Regions(rows)),
        Some(n) => Err(format!("{} rows need as many columns; row {} has another number", rows.len(), n + 1)),
    }
}

/// Reads `3`, always so many, or `4-6`, from four to six.
pub(crate) fn parallelism(text: &str) -> Result<Parallelism, String> {
    let number = |text: &str| {
        text.parse::<NonZeroU8>().map_err(|_| format!("`{text}` does not lie between 1 and 255"))
    };
    Ok(match one_or_two(text, number)? {
        (n, None) => Parallelism::Fixed(n),
        (start, Some(max)) => Parallelism::Adaptive { start, max },
    })
}

/// Reads `100`, `32-4096`, or `none`.
pub(crate) fn request_window(text: &str) -> Result<RequestWindow, String> {
    if text == "none" {
        return Ok(RequestWindow::Fixed(NonZeroUsize::MAX));
    }
    let number = |text: &str| {
        text.parse::<NonZeroUsize>().map_err(|_| format!("`{text}` is not a number from 1 on, nor `none`"))
    };
    Ok(match one_or_two(text, number)? {
        (width, None) => RequestWindow::Fixed(width),
        (least, Some(most)) => RequestWindow::Adaptive { least, most },
    })
}

/// Reads `N`, or `N-M`, which is not less.
fn one_or_two<T: PartialOrd + Display>(
    text: &str,
    number: impl Fn(&str) -> Result<T, String>,
) -> Result<(T, Option<T>), String> {
    let Some((one, other)) = text.split_once('-') else {
        return Ok((number(text)?, None));
    };
    let (one, other) = (number(one)?, number(other)?);
    if one <= other { Ok((one, Some(other))) } else { Err(format!("{one} is more than {other}")) }
}

/// Reads `fitted`, or `p90`, a fixed percentile of round trips.
pub(crate) fn timeout_policy(text: &str) -> Result<TimeoutPolicy, String> {
    if text == "fitted" {
        return Ok(TimeoutPolicy::Fitted);
    }
    let percent = text.strip_prefix('p').and_then(|number| number.parse().ok());
    let percentile = percent.and_then(Percentile::new);
    percentile.map(TimeoutPolicy::Quantile).ok_or_else(|| "write fitted, or p50 to p99".to_owned())
}

/// Reads how many bytes pass in a second: `125000`, `125kB`, `1MB`, `1GB`.
pub(crate) fn rate(text: &str) -> Result<NonZeroU64, String> {
    let units = [("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let unit = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let wrong = |_| format!("`{text}` is no number of bytes; write 125000, 125kB or 1MB");
    let number: u64 = number.parse().map_err(wrong)?;
    number
        .checked_mul(unit)
        .and_then(NonZeroU64::new)
        .ok_or_else(|| format!("`{text}` does not lie between 1 and {}", u64::MAX))
}

/// Reads `one`, `majority`, `all` or a number.
pub(crate) fn quorum(text: &str) -> Result<Quorum, String> {
    match text {
        "one" => Ok(Quorum::One),
        "majority" => Ok(Quorum::Majority),
        "all" => Ok(Quorum::All),
        number => {
            number.parse().map(Quorum::N).map_err(|_| "write one, majority, all, or a number".to_owned())
        }
    }
}

/// Reads how many bytes a value has, of which a store takes so many.
pub(crate) fn value_bytes(text: &str) -> Result<usize, String> {
    count(text, 0..=65_536)
}

/// Reads `50ms-5s`.
pub(crate) fn range(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (start, end) = text.split_once('-').ok_or("write two times: 50ms-5s")?;
    Ok(duration(start)?..=duration(end)?)
}

/// Reads a network: `203.0.113.0/24`.
pub(crate) fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let (ip, bits) = text.split_once('/').ok_or("write ADDRESS/BITS")?;
    let ip: IpAddr = ip.parse().map_err(|_| format!("`{ip}` is not an IP address"))?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    match bits.parse::<u8>() {
        Ok(bits) if bits <= max => Ok((ip, bits)),
        _ => Err(format!("`{bits}` does not lie between 0 and {max}")),
    }
}
