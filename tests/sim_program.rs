//! The example `simulate` as its user meets it: what it prints, writes and returns.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "it waits for another process")]

#[path = "../examples/simulate/main.rs"]
#[expect(dead_code, reason = "the program's own `main` is not called")]
mod simulate;

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The options of a process that this test starts, one a line.
const OPTIONS: &str = "SIMULATE_OPTIONS";

/// What stands before all that it prints.
const BEFORE: &str = "the_program_itself ... ";

/// Is the program, in a process of its own.
#[test]
fn the_program_itself() {
    let Ok(options) = std::env::var(OPTIONS) else {
        return;
    };
    let args = std::iter::once("simulate").chain(options.lines()).map(str::to_owned);
    std::process::exit(simulate::run_with(&args.collect::<Vec<_>>()).into());
}

fn start(options: &[&str]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["the_program_itself", "--exact", "--nocapture", "--test-threads", "1"])
        .env(OPTIONS, options.join("\n"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What came of a process: its exit code, what it has printed behind what the test prints, and its errors.
fn ended(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout);
    let printed = printed.split_once(BEFORE).map_or(printed.as_str(), |(_, printed)| printed);
    (output.status.code(), printed.to_owned(), text(&output.stderr))
}

/// A directory of a test, which is empty.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("libp2p-kademlia-simulate-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// The hash of some options, which is on the last line.
fn hash(printed: &str) -> &str {
    printed.lines().last().and_then(|line| line.strip_prefix("hash ")).unwrap_or_else(|| panic!("{printed}"))
}

#[test]
fn the_report_says_whether_tables_were_ideal() {
    let (code, printed, errors) = ended(start(&["--nodes", "40", "--lookups", "5"]));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{printed}");
    assert!(printed.contains("ideal: none had to join"), "{printed}");
    assert!(printed.contains("stale entries, of which none is probed"), "{printed}");
    let joining = ["--nodes", "40", "--lookups", "5", "--join-every", "10ms", "--known", "2"];
    let (code, joined, _) = ended(start(&joining));
    assert_eq!(code, Some(0));
    assert!(!joined.contains("ideal") && !joined.contains("none is probed"), "{joined}");
    let row = joined.lines().find(|line| line.starts_with("joined by themselves")).unwrap();
    assert_eq!(row.split_whitespace().last(), Some("40"));
    assert_ne!(hash(&printed), hash(&joined));
}

#[test]
fn each_outcome_is_a_line_and_json_has_the_summary_too() {
    let directory = directory("files");
    let (csv, json) = (directory.join("all.csv"), directory.join("all.json"));
    fs::write(&csv, "what was there before, and is longer than nothing\n".repeat(1000)).unwrap();
    let options = ["--nodes", "40", "--lookups", "7", "--label", "a, \"b\""];
    let files = ["--csv", csv.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let (code, printed, _) = ended(start(&[&options[..], &files].concat()));
    assert_eq!(code, Some(0), "{printed}");
    let mut lines = csv::Reader::from_path(&csv).unwrap();
    let column = |lines: &mut csv::Reader<fs::File>, name: &str| {
        lines.headers().unwrap().iter().position(|column| column == name).unwrap()
    };
    let [setting, kind, requests, recall] =
        ["setting", "kind", "requests", "recall"].map(|name| column(&mut lines, name));
    let rows: Vec<_> = lines.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 7);
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let run = &document["settings"][0]["runs"][0];
    assert_eq!(run["hash"], hash(&printed));
    assert_eq!(document["interrupted"], false);
    let outcomes = run["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 7);
    let mut sum = 0.0;
    for (row, outcome) in rows.iter().zip(outcomes) {
        assert_eq!((&row[setting], &row[kind]), ("a, \"b\"", "lookup"));
        assert_eq!(row[requests], outcome["requests"].to_string());
        assert_eq!(row[recall].parse::<f64>().ok(), outcome["recall"].as_f64());
        sum += outcome["requests"].as_f64().unwrap();
    }
    let mean = run["figures"]["lookup_requests"].as_f64().unwrap();
    assert!((mean - sum / 7.0).abs() < 1e-9, "{mean} {sum}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn several_seeds_have_a_mean_and_an_interval() {
    let options = ["--nodes", "40", "--lookups", "5", "--seeds", "1..3", "--compare", "--parallelism 1"];
    let (code, printed, errors) = ended(start(&options));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{printed}");
    let row = |name: &str| printed.lines().find(|line| line.starts_with(name)).unwrap();
    assert_eq!(row("seeds").split_whitespace().skip(1).collect::<Vec<_>>(), ["3", "3"]);
    assert_eq!(row("latency p50").matches('±').count(), 2, "{printed}");
    // Each seed as if it had run alone: the hash is made of theirs.
    let alone = |seed: &'static str, more: &[&'static str]| {
        let (_, printed, _) =
            ended(start(&[&["--nodes", "40", "--lookups", "5", "--seed", seed], more].concat()));
        u64::from_str_radix(hash(&printed), 16).unwrap()
    };
    let hashes = ["1", "2", "3"].map(|seed| alone(seed, &[]));
    let others = ["1", "2", "3"].map(|seed| alone(seed, &["--parallelism", "1"]));
    let bytes = hashes.iter().chain(&others).flat_map(|hash| hash.to_be_bytes());
    let mixed = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    assert_eq!(hash(&printed), format!("{mixed:016x}"));
}

#[test]
fn rates_are_offered_one_after_another_and_drawn_together() {
    let directory = directory("offered");
    let (plots, json) = (directory.join("plots"), directory.join("all.json"));
    let options =
        ["--nodes", "40", "--work", "1ms", "--lookups", "20", "--every", "100ms", "--offered", "5,50"];
    let shown = ["--plots", plots.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let others = ["--label", "a", "--compare", "--label b --request-window none"];
    let (code, printed, errors) = ended(start(&[&options[..], &shown, &others].concat()));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{printed}");
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let settings = document["settings"].as_array().unwrap();
    let told = settings.iter().map(|setting| {
        let lookups = setting["runs"][0]["outcomes"].as_array().unwrap();
        let began = || lookups.iter().map(|lookup| lookup["began_ms"].as_f64().unwrap());
        let span = began().fold(0.0, f64::max) - began().fold(f64::MAX, f64::min);
        let rate = 1e3 * f64::from(u32::try_from(lookups.len() - 1).unwrap()) / span;
        (setting["setting"].as_str().unwrap(), lookups.len(), rate.round())
    });
    let expected = [("a, 5/s", 10, 5.0), ("a, 50/s", 100, 50.0), ("b, 5/s", 10, 5.0), ("b, 50/s", 100, 50.0)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let rates = document["settings"][1]["runs"][0]["figures"]["lookups_a_second"].as_f64().unwrap();
    assert!(rates > 25.0 && rates < 50.0, "{rates}");
    let names: Vec<_> = fs::read_dir(&plots).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["load.svg"]);
    let picture = fs::read_to_string(plots.join("load.svg")).unwrap();
    for title in ["Lookups that finish", "What they find", "What they cost", "lookups offered a second"] {
        assert!(picture.contains(title), "{title}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn rates_that_make_no_sense_are_refused() {
    for (options, why) in [
        (&["--offered", "0"][..], "0"),
        (&["--offered", "5", "--lookups", "0"], "no time is left to offer lookups in"),
        (&["--offered", "5", "--every", "0s"], "no time is left to offer lookups in"),
        (&["--offered", "4000000", "--lookups", "1000", "--every", "1m"], "more than anybody waits for"),
        (&["--offered", "5", "--compare", "--offered 6"], "only options of a scenario"),
    ] {
        let (code, printed, errors) = ended(start(options));
        assert_eq!((code, printed.as_str()), (Some(2), ""), "{options:?}");
        assert!(errors.contains(why), "{options:?}: {errors}");
    }
}

/// What cannot be written is told in one line, before anything runs.
#[test]
fn a_file_that_cannot_be_written_is_found_out_before_the_run() {
    let directory = directory("unwritable");
    let name = directory.to_str().unwrap();
    fs::write(directory.join("file"), "").unwrap();
    fs::create_dir(directory.join("latency.svg")).unwrap();
    let below = format!("{name}/file/below");
    // So much would run for hours.
    let long = ["--nodes", "1000", "--lookups", "10000000"];
    for option in [["--csv", name], ["--json", &below], ["--plots", &below], ["--plots", name]] {
        let (code, printed, errors) = ended(start(&[&long[..], &option].concat()));
        assert_eq!((code, printed.as_str()), (Some(2), ""), "{option:?}");
        assert!(errors.starts_with("simulate: ") && errors.contains(" cannot be written: "), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    fs::remove_dir_all(directory).unwrap();
}

/// Whoever reads has gone, as `head -1` does.
#[test]
fn a_broken_pipe_is_one_line_and_an_exit_code() {
    let mut child = start(&["--nodes", "40", "--lookups", "5"]);
    let mut out = child.stdout.take().unwrap();
    // What the test says itself comes first.
    let mut first = Vec::new();
    while !first.ends_with(BEFORE.as_bytes()) {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        first.extend(byte);
    }
    drop(out);
    let (code, _, errors) = ended(child);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.starts_with("simulate: the standard output cannot be written"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

/// Ctrl-C ends a run that would last for years; what there is by then is told.
#[cfg(unix)]
#[test]
fn an_interrupted_run_tells_what_it_has() {
    let directory = directory("interrupted");
    let json = directory.join("all.json");
    let options =
        ["--nodes", "30", "--join-every", "10ms", "--every", "1s", "--lookups", "1000000", "--seeds", "1..2"];
    let child = start(&[&options[..], &["--json", json.to_str().unwrap()]].concat());
    // The file is opened when Ctrl-C is heard already.
    let since = Instant::now();
    while !json.exists() {
        assert!(since.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let (code, printed, errors) = ended(child);
    assert_eq!(code, Some(130), "{printed}{errors}");
    assert_eq!(errors.lines().last(), Some("simulate: interrupted; this is what there was until then"));
    assert!(printed.contains("stopped early") && !printed.contains("hash"), "{printed}");
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(document["interrupted"], true);
    let runs = document["settings"][0]["runs"].as_array().unwrap();
    assert!(
        runs.len() == 1 && runs[0]["stopped"]["done"].as_f64().unwrap() < 1.0 && runs[0]["hash"].is_null()
    );
    fs::remove_dir_all(directory).unwrap();
}
