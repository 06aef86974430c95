//! Thousands of nodes on a virtual clock: what lookups cost and find in whatever network the options describe.
//!
//! `simulate --nodes 10000 --silent 0.1` runs one scenario and prints its report. With `--compare OPTIONS` it runs one more
//! for each, which is the first with these options besides, and prints them side by side. With `--seeds 1..20` it runs each
//! with twenty seeds, and prints means and how sure they are. With `--offered 100,200` it runs each with so many lookups a
//! second. With `--plots DIR` it draws them, with `--csv FILE` and
//! `--json FILE` it writes down each outcome, with `--stats` it prints what the nodes have counted, too.
//!
//! Ctrl-C ends the run that is under way; what there is by then is printed and written. A second one ends the program.
//!
//! The exit code is 0 if no node has broken one of its invariants and 1 if one has; 2 if the options make no sense, or if
//! something cannot be written; 130 after Ctrl-C.
//!
//! The last line is `hash` and 16 hexadecimal digits: the same options have the same hash on every machine. It is that of
//! the run, or of several runs the FNV-1a hash of theirs in their order, eight bytes each, most significant first. What was
//! interrupted has none.

mod figures;
mod files;
mod options;
mod outcomes;
mod plots;
mod setting;
mod table;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use libp2p_kademlia::sim::{Report, Scenario, Violation};

use files::Sink;
use options::{Options, Seeds};
use setting::{Run, Setting};

#[derive(Parser)]
#[command(
    name = "simulate",
    about = "Thousands of nodes on a virtual clock",
    after_help = "Times are written 100ms, 2.5s, 10m, 1h, 1d; shares from 0 to 1. Where an option that counts once is \
        given again, the last one counts. Ctrl-C prints what there is so far; the exit code is 130 then, 1 if a node has \
        broken an invariant, and 2 if something cannot be written.",
    args_override_self = true
)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    /// Run with each of these seeds, the last included, and print means with 95 % intervals: `1..20`, or `3,5,8`.
    #[arg(long, value_name = "SEEDS", value_parser = options::seeds, conflicts_with = "seed",
        help_heading = "What comes of it")]
    seeds: Option<Seeds>,
    /// Run one more scenario with these options besides; any number of times. Options are parted by spaces.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, help_heading = "What comes of it")]
    compare: Vec<String>,
    /// Run each scenario with so many lookups a second, one after another, each for as long as its lookups take by `--lookups`
    /// and `--every`: `100,200,500`.
    #[arg(long, value_name = "RATES", value_delimiter = ',', help_heading = "What comes of it")]
    offered: Vec<NonZeroU32>,
    /// What the scenario is called beside others [default: base].
    #[arg(long, value_name = "TEXT", help_heading = "What comes of it")]
    label: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// Where it goes.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "What comes of it")]
struct Shown {
    /// Draw latencies, hops and, if it was sampled, the health of the tables into this directory; with `--offered` instead what
    /// comes of each rate. Of several seeds the lookups are drawn together, and the health of the first.
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
    /// Write each outcome into this file, with commas: a line for each, below one of names.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write each outcome into this file as JSON, and what each run and setting came to.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print what the nodes have counted, too, all together: a line for each number that is not zero.
    #[arg(long)]
    stats: bool,
}

/// Why the program ends before its time, in one line.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn file(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self(format!("{} cannot be written: {error}", path.display()))
    }

    fn output(error: &io::Error) -> Self {
        Self(format!("the standard output cannot be written: {error}"))
    }
}

/// Whether Ctrl-C was pressed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A node has broken an invariant.
const VIOLATED: u8 = 1;

/// Something cannot be written: as where options make no sense.
const UNWRITABLE: u8 = 2;

/// What shells report of a program that SIGINT has ended.
const INTERRUPTED_CODE: u8 = 130;

/// Where the bar is full.
const PARTS: f64 = 1000.0;

/// Returns the scenario of the command line, and those it is compared with.
fn settings(line: &CommandLine, args: &[String]) -> Result<Vec<Setting>, clap::Error> {
    let invalid = |why: String| CommandLine::command().error(ErrorKind::ValueValidation, why);
    let setting = |label: String, scenario: Scenario| {
        let seeds = line.seeds.as_ref().map_or_else(|| vec![scenario.seed], |seeds| seeds.0.clone());
        Setting { label, offered: None, scenario, seeds, runs: Vec::new() }
    };
    let base = line.options.scenario().map_err(invalid)?;
    let label = line.label.clone().unwrap_or_else(|| "base".to_owned());
    let mut settings = vec![setting(label, base)];
    for more in &line.compare {
        let within = |why: &dyn std::fmt::Display| invalid(format!("in --compare '{more}': {why}"));
        let all = args.iter().map(String::as_str).chain(more.split_whitespace());
        let other = CommandLine::try_parse_from(all).map_err(|error| {
            // Its first paragraph says what is wrong; the others how to ask for help.
            let text = error.to_string();
            let why = text.split("\n\n").next().unwrap_or_default();
            within(&why.trim_start_matches("error: "))
        })?;
        if other.compare != line.compare
            || other.seeds != line.seeds
            || other.offered != line.offered
            || other.shown != line.shown
        {
            return Err(within(&"only options of a scenario, and --label"));
        }
        let scenario = other.options.scenario().map_err(|why| within(&why))?;
        let label = match other.label {
            Some(label) if line.label.as_ref() != Some(&label) => label,
            Some(_) | None => more.trim_start_matches('-').to_owned(),
        };
        settings.push(setting(label, scenario));
    }
    if line.offered.is_empty() {
        return Ok(settings);
    }
    let rates =
        |setting: &Setting| line.offered.iter().map(|rate| setting.at_rate(*rate)).collect::<Vec<_>>();
    settings.iter().flat_map(rates).collect::<Result<_, _>>().map_err(invalid)
}

/// Runs a scenario under a progress bar, which is hidden where nobody would see it.
fn run(name: &str, scenario: &Scenario) -> Result<Report, Violation> {
    let style = ProgressStyle::with_template("{prefix}: {msg:13} [{bar:40}] {percent:>3} % {elapsed}");
    let bar = ProgressBar::new(1000).with_prefix(name.to_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    let mut stage = None;
    let report = scenario.run_while(|_, progress| {
        if stage.replace(progress.stage) != Some(progress.stage) {
            bar.set_message(progress.stage.to_string());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between nothing and all of the parts"
        )]
        bar.set_position((progress.done * PARTS) as u64);
        !INTERRUPTED.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    report
}

/// Runs each setting with each seed, until all have run or one must not go on. A node that has broken an invariant ends it.
fn run_all(settings: &mut [Setting]) -> Result<(), Violation> {
    let count: usize = settings.iter().map(|setting| setting.seeds.len()).sum();
    let mut number = 0;
    for setting in settings {
        for seed in setting.seeds.clone() {
            number += 1;
            let place =
                if count > 1 { format!("{number}/{count} {}", setting.label) } else { setting.label.clone() };
            let report = run(&place, &setting.with_seed(seed))?;
            setting.runs.push(Run { seed, report });
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Mixes the hashes of several runs.
fn mixed(settings: &[Setting]) -> u64 {
    let hashes: Vec<u64> = settings.iter().flat_map(|all| &all.runs).map(|run| run.report.hash).collect();
    if let [hash] = hashes[..] {
        return hash;
    }
    hashes.iter().flat_map(|hash| hash.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns what is printed of all that has run.
fn text(settings: &[Setting], with_stats: bool, is_whole: bool) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let runs: Vec<_> = settings.iter().flat_map(|all| all.runs.iter().map(move |run| (all, run))).collect();
    let several = settings.iter().map(|setting| setting.seeds.len()).sum::<usize>() > 1;
    for (setting, run) in runs.iter().filter(|_| with_stats) {
        writeln!(out, "{}, seed {}:\n{}", setting.label, run.seed, run.report.stats)?;
    }
    if several && settings.iter().any(|setting| setting.whole().next().is_some()) {
        write!(out, "{}", table::Table(settings))?;
    }
    for (setting, run) in &runs {
        if !several {
            write!(out, "{}", run.report)?;
        } else if run.report.stopped.is_some() {
            write!(
                out,
                "\n{}, seed {}, which is none of the above:\n{}",
                setting.label, run.seed, run.report
            )?;
        }
    }
    if several && is_whole {
        writeln!(out, "hash {:016x}", mixed(settings))?;
    }
    Ok(out)
}

/// Opens a file that was asked for, if one was.
fn open(path: Option<&PathBuf>) -> Result<Option<Sink>, Failure> {
    path.map(|path| Sink::open(path)).transpose()
}

fn simulate(line: &CommandLine, mut settings: Vec<Setting>) -> Result<u8, Failure> {
    let shown = &line.shown;
    let on_interrupt = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED_CODE.into());
        }
    };
    // Without, Ctrl-C ends the program as it would any other.
    let _ = ctrlc::set_handler(on_interrupt);
    if shown.csv.is_some() && shown.csv == shown.json {
        return Err(Failure("--csv and --json name the same file".to_owned()));
    }
    // What cannot be written is better known before than after.
    let (csv, json) = (open(shown.csv.as_ref())?, open(shown.json.as_ref())?);
    if let Some(directory) = &shown.plots {
        files::directory(directory, &plots::NAMES)?;
    }
    let violation = run_all(&mut settings).err();
    let interrupted = INTERRUPTED.load(Ordering::Relaxed);
    // Whatever cannot be written, the rest is.
    let written = [
        csv.map_or(Ok(()), |csv| csv.write(|to| outcomes::write_csv(&settings, to))),
        json.map_or(Ok(()), |json| json.write(|to| outcomes::write_json(&settings, interrupted, to))),
        shown.plots.as_ref().map_or(Ok(()), |directory| {
            plots::draw(directory, &settings).map_err(|error| Failure::file(directory, &error))
        }),
        print(&settings, shown.stats, violation.is_none() && !interrupted),
    ];
    if let Some(violation) = violation {
        let _ = writeln!(io::stderr(), "{violation}");
        return Ok(VIOLATED);
    }
    written.into_iter().collect::<Result<(), _>>()?;
    if interrupted {
        let _ = writeln!(io::stderr(), "simulate: interrupted; this is what there was until then");
        return Ok(INTERRUPTED_CODE);
    }
    Ok(0)
}

/// Prints what has run.
fn print(settings: &[Setting], with_stats: bool, is_whole: bool) -> Result<(), Failure> {
    let text = text(settings, with_stats, is_whole).map_err(|error| Failure(error.to_string()))?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Is the program: returns its exit code, or ends it where the command line makes no sense.
pub(crate) fn run_with(args: &[String]) -> u8 {
    let line = CommandLine::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let settings = settings(&line, args).unwrap_or_else(|error| error.exit());
    simulate(&line, settings).unwrap_or_else(|Failure(why)| {
        // If that cannot be written either, nobody is there to read it.
        let _ = writeln!(io::stderr(), "simulate: {why}");
        UNWRITABLE
    })
}

fn main() -> ExitCode {
    run_with(&std::env::args().collect::<Vec<_>>()).into()
}
