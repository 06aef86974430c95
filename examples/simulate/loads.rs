//! Puts, gets, announcements and searches as options.

use std::time::Duration;

use clap::Args;
use libp2p_kademlia::Quorum;
use libp2p_kademlia::sim::{Load, Records};

use super::values::{LONGEST, lookups, quorum, span, value_bytes};

/// What the nodes are asked besides lookups; nothing means what [`Records`] says.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Records and providers")]
pub(crate) struct Loads {
    /// How many records are put, each with a key of its own [default: 0].
    #[arg(long, value_name = "PUTS", value_parser = lookups)]
    puts: Option<usize>,
    /// When the first is put; without it at once.
    #[arg(long, value_name = "TIME", value_parser = span)]
    puts_at: Option<Duration>,
    /// The time from one to the next [default: 100ms].
    #[arg(long, value_name = "TIME", value_parser = span)]
    puts_every: Option<Duration>,
    /// How many gets there are, each of the next record that was acknowledged before [default: 0].
    #[arg(long, value_name = "GETS", value_parser = lookups)]
    gets: Option<usize>,
    /// When the first begins; without it ten seconds after the last record was put.
    #[arg(long, value_name = "TIME", value_parser = span)]
    gets_at: Option<Duration>,
    /// The time from one to the next [default: 100ms].
    #[arg(long, value_name = "TIME", value_parser = span)]
    gets_every: Option<Duration>,
    /// How many keys are provided, each by one node [default: 0].
    #[arg(long, value_name = "KEYS", value_parser = lookups)]
    provides: Option<usize>,
    /// When the first is; without it at once.
    #[arg(long, value_name = "TIME", value_parser = span)]
    provides_at: Option<Duration>,
    /// The time from one to the next [default: 100ms].
    #[arg(long, value_name = "TIME", value_parser = span)]
    provides_every: Option<Duration>,
    /// How many searches for providers there are, each of the next key of which enough were told before [default: 0].
    #[arg(long, value_name = "SEARCHES", value_parser = lookups)]
    searches: Option<usize>,
    /// When the first begins; without it ten seconds after the last key was provided.
    #[arg(long, value_name = "TIME", value_parser = span)]
    searches_at: Option<Duration>,
    /// The time from one to the next [default: 100ms].
    #[arg(long, value_name = "TIME", value_parser = span)]
    searches_every: Option<Duration>,
    /// How many must acknowledge a put: one, majority, all, or a number [default: majority].
    #[arg(long, value_name = "QUORUM", value_parser = quorum)]
    put_quorum: Option<Quorum>,
    /// How many must have the record for a get: one, majority, all, or a number; without it as a node does by itself.
    #[arg(long, value_name = "QUORUM", value_parser = quorum)]
    get_quorum: Option<Quorum>,
    /// How many bytes a value has [default: 256].
    #[arg(long, value_name = "BYTES", value_parser = value_bytes)]
    value_bytes: Option<usize>,
}

impl Loads {
    /// Returns what the nodes are asked.
    pub(crate) fn records(&self) -> Records {
        let default = Records::default();
        let load =
            |count: Option<usize>, first_at: Option<Duration>, every: Option<Duration>, default: Load| Load {
                count: count.unwrap_or(default.count),
                first_at: first_at.or(default.first_at),
                every: every.unwrap_or(default.every),
            };
        Records {
            puts: load(self.puts, self.puts_at, self.puts_every, default.puts),
            gets: load(self.gets, self.gets_at, self.gets_every, default.gets),
            provides: load(self.provides, self.provides_at, self.provides_every, default.provides),
            searches: load(self.searches, self.searches_at, self.searches_every, default.searches),
            put_quorum: self.put_quorum.unwrap_or(default.put_quorum),
            get_quorum: self.get_quorum.or(default.get_quorum),
            value_bytes: self.value_bytes.unwrap_or(default.value_bytes),
        }
    }
}

/// Returns when the last query of some loads has begun, or refuses what makes no sense.
pub(crate) fn end(records: &Records) -> Result<Duration, String> {
    let Records { puts, gets, provides, searches, .. } = records;
    for (asked, of, name, first) in
        [(gets, puts, "gets", "--puts"), (searches, provides, "searches", "--provides")]
    {
        if asked.count > 0 && of.count == 0 {
            return Err(format!("there is nothing that {name} could find; use {first}"));
        }
    }
    let span = |load: &Load| {
        let count = u32::try_from(load.count).ok();
        count.and_then(|count| load.every.checked_mul(count)).unwrap_or(Duration::MAX)
    };
    let mut last = Duration::ZERO;
    for (first, second, names) in [(puts, gets, "puts or gets"), (provides, searches, "provides or searches")]
    {
        let end = span(first).saturating_add(first.first_at.unwrap_or_default());
        // The second begins when the first has ended, and a little later, if nobody says when.
        let begins = second.first_at.unwrap_or_else(|| end.saturating_add(AFTERWARDS));
        let end = end.max(span(second).saturating_add(begins));
        if end > LONGEST {
            return Err(format!("the {names} take longer than 3650d"));
        }
        last = last.max(end);
    }
    Ok(last)
}

/// How much later that is, as the library has it.
const AFTERWARDS: Duration = Duration::from_secs(10);
