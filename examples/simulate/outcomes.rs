//! Outcomes as rows: each lookup by itself, for files of commas and of JSON.

use std::io::{self, Write};

use libp2p_kademlia::sim::{LookupOutcome, Reached, RecordOutcome, RecordQuery, Report};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::figures::{FIGURES, Sums, mean, millis};
use super::setting::{Run, Setting};

/// What is told of each outcome, in the order of the columns; what it has not is empty, and left out in JSON.
const COLUMNS: [&str; 22] = [
    "kind",
    "node",
    "began_ms",
    "took_ms",
    "first_ms",
    "success",
    "requests",
    "soft_timeouts",
    "dials",
    "hops",
    "recall",
    "of_closest",
    "of_honest",
    "honest",
    "key",
    "stored",
    "refused",
    "told",
    "failed",
    "pending",
    "found",
    "error",
];

/// What is told of one, by its columns.
type Row = Map<String, Value>;

fn row(of: Value) -> Row {
    match of {
        Value::Object(row) => row,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Row::new(),
    }
}

fn lookup(of: &LookupOutcome) -> Row {
    row(json!({
        "kind": "lookup",
        "node": of.asker,
        "began_ms": millis(of.began),
        "took_ms": millis(of.took),
        "success": of.success,
        "requests": of.requests,
        "soft_timeouts": of.soft_timeouts,
        "dials": of.dials,
        "hops": of.hops,
        "recall": of.recall,
        "of_closest": of.of_closest,
        "of_honest": of.of_honest,
        "honest": of.honest,
    }))
}

fn record(of: &RecordOutcome) -> Row {
    let kind = match of.kind {
        RecordQuery::Put => "put",
        RecordQuery::Get => "get",
        RecordQuery::Provide => "provide",
        RecordQuery::Search => "search",
    };
    let mut told = row(json!({
        "kind": kind,
        "node": of.node,
        "began_ms": millis(of.began),
        "took_ms": millis(of.took),
        "success": of.success,
        "requests": of.requests,
        "soft_timeouts": of.soft_timeouts,
        "dials": of.dials,
        "hops": of.hops,
        "key": of.key.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    }));
    if let Some(first) = of.first {
        told.insert("first_ms".to_owned(), millis(first).into());
    }
    let reached: Vec<(&str, Value)> = match &of.reached {
        Reached::Put(report) => vec![
            ("stored", report.stored.len().into()),
            ("refused", report.refused.len().into()),
            ("failed", report.failed.len().into()),
            ("pending", report.pending.len().into()),
        ],
        Reached::Provided(report) => vec![
            ("told", report.sent.len().into()),
            ("failed", report.failed.len().into()),
            ("pending", report.pending.len().into()),
        ],
        Reached::Got(_) => vec![("found", 1.into())],
        Reached::Found(providers) => vec![("found", providers.len().into())],
        Reached::Failed(why) => vec![("error", why.as_str().into())],
        // Whatever else there may be is told by its kind alone.
        _ => Vec::new(),
    };
    told.extend(reached.into_iter().map(|(name, value)| (name.to_owned(), value)));
    told
}

fn rows(report: &Report) -> impl Iterator<Item = Row> {
    report.lookups.iter().map(lookup).chain(report.records.iter().map(record))
}

/// Writes all outcomes: a line for each, below one of names.
pub(crate) fn write_csv(settings: &[Setting], to: impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(to);
    csv.write_record(["setting", "seed"].iter().chain(&COLUMNS))?;
    for setting in settings {
        for run in &setting.runs {
            let seed = run.seed.to_string();
            for row in rows(&run.report) {
                csv.write_field(&setting.label)?;
                csv.write_field(&seed)?;
                for column in COLUMNS {
                    match row.get(column) {
                        None | Some(Value::Null) => csv.write_field("")?,
                        Some(Value::String(text)) => csv.write_field(text)?,
                        Some(
                            value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)),
                        ) => {
                            csv.write_field(value.to_string())?;
                        }
                    }
                }
                csv.write_record(None::<&[u8]>)?;
            }
        }
    }
    csv.flush()
}

/// Writes what each setting came to, with its runs and their outcomes.
pub(crate) fn write_json(settings: &[Setting], interrupted: bool, mut to: impl Write) -> io::Result<()> {
    let settings = settings.iter().map(SettingOut::of).collect();
    serde_json::to_writer(&mut to, &Document { interrupted, settings })?;
    writeln!(to)?;
    to.flush()
}

#[derive(Serialize)]
struct Document<'a> {
    interrupted: bool,
    settings: Vec<SettingOut<'a>>,
}

#[derive(Serialize)]
struct SettingOut<'a> {
    setting: &'a str,
    command: String,
    /// Over all of its runs that were not stopped.
    figures: Row,
    runs: Vec<RunOut<'a>>,
}

#[derive(Serialize)]
struct RunOut<'a> {
    seed: u64,
    command: String,
    /// Of a run that was stopped there is none that could be repeated.
    hash: Option<String>,
    stopped: Option<Value>,
    figures: Row,
    health: Vec<Value>,
    outcomes: Outcomes<'a>,
}

/// The outcomes of a run, made one after another while they are written.
struct Outcomes<'a>(&'a Report);

impl Serialize for Outcomes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rows(self.0))
    }
}

impl<'a> SettingOut<'a> {
    fn of(setting: &'a Setting) -> Self {
        let sums: Vec<_> = setting.whole().map(|run| Sums::of(&run.report)).collect();
        let mut figures = Row::new();
        for figure in FIGURES {
            let numbers: Vec<_> = sums.iter().filter_map(|sums| figure.of(sums)).collect();
            if let Some(all) = mean(&numbers) {
                let interval = all.half.map(|half| [all.mean - half, all.mean + half]);
                figures.insert(figure.key.to_owned(), json!({ "mean": all.mean, "interval_95": interval }));
            }
        }
        Self {
            setting: &setting.label,
            command: setting.scenario.command(),
            figures,
            runs: setting.runs.iter().map(|run| RunOut::of(setting, run)).collect(),
        }
    }
}

impl<'a> RunOut<'a> {
    fn of(setting: &Setting, run: &'a Run) -> Self {
        let report = &run.report;
        let sums = Sums::of(report);
        let figures =
            FIGURES.iter().filter_map(|figure| Some((figure.key.to_owned(), figure.of(&sums)?.into())));
        let stopped = report.stopped;
        let health = report.health.iter().map(|health| {
            json!({
                "at_ms": millis(health.at),
                "alive": health.alive,
                "near": health.near,
                "stale": health.stale,
                "entries": health.entries,
            })
        });
        Self {
            seed: run.seed,
            command: setting.with_seed(run.seed).command(),
            hash: stopped.is_none().then(|| format!("{:016x}", report.hash)),
            stopped: stopped.map(|at| json!({ "stage": at.stage.to_string(), "done": at.done })),
            figures: figures.collect(),
            health: health.collect(),
            outcomes: Outcomes(report),
        }
    }
}
