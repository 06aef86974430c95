//! Thousands of nodes on a virtual clock: what lookups cost and find in whatever network the options describe.
//!
//! `simulate --nodes 10000 --silent 0.1` runs one scenario and prints its report. With `--compare OPTIONS` it runs one more
//! for each, which is the first with these options besides, and prints them side by side. With `--plots DIR` it draws them,
//! with `--stats` it prints what the nodes have counted, too.
//! The exit code is 0 only if no node ever broke one of its invariants.
//!
//! The last line is `hash` and 16 hexadecimal digits: the same options have the same hash on every machine. It is that of
//! the run, or of several runs the FNV-1a hash of theirs in their order, eight bytes each, most significant first.

mod options;
mod plots;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use libp2p_kademlia::sim::{Report, Scenario, Violation};

use options::Options;

#[derive(Parser)]
#[command(
    name = "simulate",
    about = "Thousands of nodes on a virtual clock",
    after_help = "Times are written 100ms, 2.5s, 10m, 1h, 1d; shares from 0 to 1. Where an option that counts once is \
        given again, the last one counts.",
    args_override_self = true
)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    /// Run one more scenario with these options besides; any number of times. Options are parted by spaces.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, help_heading = "What comes of it")]
    compare: Vec<String>,
    /// What the scenario is called beside others [default: base].
    #[arg(long, value_name = "TEXT", help_heading = "What comes of it")]
    label: Option<String>,
    /// Draw latencies, hops and, if it was sampled, the health of the tables into this directory.
    #[arg(long, value_name = "DIRECTORY", help_heading = "What comes of it")]
    plots: Option<PathBuf>,
    /// Print what the nodes have counted, too, all together: a line for each number that is not zero.
    #[arg(long, help_heading = "What comes of it")]
    stats: bool,
}

/// A scenario and what it is called.
struct Setting {
    label: String,
    scenario: Scenario,
}

/// A setting and what came of it.
struct Run {
    label: String,
    report: Report,
}

/// Returns the scenario of the command line, and those it is compared with.
fn settings(line: &CommandLine, args: &[String]) -> Result<Vec<Setting>, clap::Error> {
    let invalid = |why: String| CommandLine::command().error(ErrorKind::ValueValidation, why);
    let base = line.options.scenario().map_err(invalid)?;
    let label = line.label.clone().unwrap_or_else(|| "base".to_owned());
    let mut settings = vec![Setting { label, scenario: base }];
    for more in &line.compare {
        let within = |why: &dyn std::fmt::Display| invalid(format!("in --compare '{more}': {why}"));
        let all = args.iter().map(String::as_str).chain(more.split_whitespace());
        let other = CommandLine::try_parse_from(all).map_err(|error| {
            // Its first paragraph says what is wrong; the others how to ask for help.
            let text = error.to_string();
            let why = text.split("\n\n").next().unwrap_or_default();
            within(&why.trim_start_matches("error: "))
        })?;
        if other.compare != line.compare || other.plots != line.plots || other.stats != line.stats {
            return Err(within(&"only options of a scenario, and --label"));
        }
        let scenario = other.options.scenario().map_err(|why| within(&why))?;
        let label = match other.label {
            Some(label) if line.label.as_ref() != Some(&label) => label,
            Some(_) | None => more.trim_start_matches('-').to_owned(),
        };
        settings.push(Setting { label, scenario });
    }
    Ok(settings)
}

/// Runs a scenario under a progress bar, which is hidden where nobody would see it.
fn run(setting: Setting) -> Result<Run, Violation> {
    const PARTS: f64 = 1000.0;
    let style = ProgressStyle::with_template("{msg:16} [{bar:40}] {percent:>3} % {elapsed}");
    let bar = ProgressBar::new(1000).with_message(setting.label.clone());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between nothing and all of the parts"
    )]
    let report = setting.scenario.run_and_watch(|_, done| bar.set_position((done * PARTS) as u64));
    bar.finish_and_clear();
    Ok(Run { label: setting.label, report: report? })
}

/// Mixes the hashes of several runs.
fn mixed(runs: &[Run]) -> u64 {
    if let [run] = runs {
        return run.report.hash;
    }
    let bytes = runs.iter().flat_map(|run| run.report.hash.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let line = CommandLine::try_parse_from(&args).unwrap_or_else(|error| error.exit());
    let settings = settings(&line, &args).unwrap_or_else(|error| error.exit());
    if let Some(directory) = &line.plots {
        std::fs::create_dir_all(directory)?;
    }
    let mut runs = Vec::new();
    for setting in settings {
        match run(setting) {
            Ok(run) => runs.push(run),
            Err(violation) => {
                writeln!(std::io::stderr(), "{violation}")?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    if let Some(directory) = &line.plots {
        plots::draw(directory, &runs)?;
    }
    let mut out = std::io::stdout().lock();
    for run in runs.iter().filter(|_| line.stats) {
        writeln!(out, "{}:\n{}", run.label, run.report.stats)?;
    }
    if let [run] = &runs[..] {
        write!(out, "{}", run.report)?;
    } else {
        write!(out, "{}", table::Table(&runs))?;
        writeln!(out, "hash {:016x}", mixed(&runs))?;
    }
    Ok(ExitCode::SUCCESS)
}
