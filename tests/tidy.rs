//! The house rules: who may import whom, how long a file is, who reads clocks, and more.
//!
//! Each rule is a function from a file's path and text to what is wrong with it, so that it can be shown to bite.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The files of `src` that are not tests, with their paths relative to it.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let relative = |path: &PathBuf| path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
    files
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).unwrap()))
        .filter(|(path, _)| !path.split('/').any(|part| part == "tests.rs" || part == "tests"))
        .collect()
}

/// The text without comments and without what is compiled for tests only.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            skip_item(&mut lines);
        } else {
            let line = line.split("//").next().unwrap_or_default();
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Skips the item behind an attribute: to its semicolon, or to the end of its block.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let mut depth = 0i32;
    for line in lines {
        depth += i32::try_from(line.matches('{').count()).unwrap();
        depth -= i32::try_from(line.matches('}').count()).unwrap();
        let is_attribute = line.trim_start().starts_with("#[");
        if depth == 0 && !is_attribute && (line.trim_end().ends_with(';') || line.contains('}')) {
            return;
        }
    }
}

/// The room of a file: the first part of its path.
fn room(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The layer of a room, ground first.
fn layer(room: &str) -> Option<u8> {
    Some(match room {
        "time" | "rng" | "key" => 0,
        "addrs" | "peer" | "record" | "message" | "command" | "config" | "error" | "event" | "validate" => 1,
        "wire" | "routing" | "query" | "store" => 2,
        "dht" => 3,
        "net" => 4,
        "client" | "discovery" | "sim" | "lib" => 5,
        _ => return None,
    })
}

/// The rooms that a file names by `crate::`.
fn imports(text: &str) -> Vec<String> {
    let code = code(text);
    let names = code
        .split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
    names.filter(|name| !name.is_empty()).collect()
}

fn layering(path: &str, text: &str) -> Vec<String> {
    let own = room(path);
    let Some(own_layer) = layer(own) else {
        return vec![format!("{path}: no layer is known for it")];
    };
    let mut wrong = Vec::new();
    for name in imports(text) {
        let Some(their_layer) = layer(&name) else {
            // Names at the root are for users; inside, everything has its room.
            if own != "lib" {
                wrong.push(format!("{path}: `crate::{name}` goes through the root"));
            }
            continue;
        };
        let allowed = match own_layer {
            0 | 1 => their_layer <= own_layer,
            // Parts do not know each other.
            2 => their_layer < 2 || name == own,
            3 | 4 => their_layer < own_layer || name == own,
            _ => true,
        };
        if !allowed {
            wrong.push(format!("{path}: imports `{name}`, which is not below it"));
        }
    }
    wrong
}

/// Words that may stand only in some places.
const RESERVED: [(&[&str], &[&str], &str); 7] = [
    (
        &["Instant::now", "SystemTime::now", ".elapsed()"],
        &["net/timer.rs"],
        "reads a clock: time is an argument",
    ),
    (
        &["RandomState", "getrandom", "thread_rng", "rand::random", "from_os_rng"],
        &["net/entropy.rs"],
        "asks for entropy: randomness comes from the seeded generator",
    ),
    (&["rand_chacha"], &["rng.rs"], "has a generator of its own"),
    (&["quick_protobuf", "generated::"], &["wire/", "wire.rs"], "knows protobuf, which only `wire` does"),
    (
        &["libp2p_swarm", "std::task", "futures_timer", "asynchronous_codec::Framed"],
        &["net/", "net.rs"],
        "knows the swarm, which only `net` does",
    ),
    (
        &["async fn", "async move", ".await", "futures::"],
        &["net/", "net.rs", "client/", "client.rs", "discovery.rs"],
        "is asynchronous",
    ),
    (&["std::thread"], &["store/redb/writer.rs"], "has a thread: only what writes to the disk does"),
];

fn reserved(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut wrong = Vec::new();
    for (words, places, why) in RESERVED {
        if places.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for word in words.iter().filter(|word| code.contains(**word)) {
            wrong.push(format!("{path}: `{word}`: {why}"));
        }
    }
    wrong
}

fn size(path: &str, text: &str) -> Vec<String> {
    if path.contains("/generated/") {
        return Vec::new();
    }
    // Comments count: a file is to be read.
    let mut lines = 0;
    let mut rest = text.lines();
    while let Some(line) = rest.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            skip_item(&mut rest);
        } else {
            lines += 1;
        }
    }
    if lines > MAX_LINES { vec![format!("{path}: {lines} lines, at most {MAX_LINES}")] } else { Vec::new() }
}

fn head(path: &str, text: &str) -> Vec<String> {
    if path.contains("/generated/") || text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{path}: does not begin by saying what it is")]
}

const RULES: [fn(&str, &str) -> Vec<String>; 4] = [layering, reserved, size, head];

#[test]
fn the_house_rules_are_kept() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        wrong.extend(RULES.iter().flat_map(|rule| rule(&path, &text)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_bites() {
    let upward = "//! A part.\nuse crate::dht::Dht;\n";
    let sideways = "//! A part.\nuse crate::routing::Table;\n";
    let inline = "//! A part.\nfn f() { crate::net::timer::now(); }\n";
    let through_root = "//! A part.\nuse crate::Config;\n";
    for (path, text) in [
        ("query/lookup.rs", upward),
        ("query/lookup.rs", sideways),
        ("key.rs", inline),
        ("dht.rs", through_root),
    ] {
        assert_eq!(layering(path, text).len(), 1, "{path}: {text}");
    }
    assert_eq!(layering("attic.rs", "//! New.\n").len(), 1, "a room without a layer");
    assert!(
        layering("dht/peers.rs", "//! x\nuse crate::query::rtt::Rtt;\nuse crate::dht::io::Input;\n")
            .is_empty()
    );
    assert!(layering("query.rs", "//! x\n// use crate::dht::Dht;\n").is_empty(), "comments do not count");
    let tested = "//! x\n#[cfg(test)]\nmod tests {\n    use crate::net::timer;\n}\n";
    assert!(layering("query.rs", tested).is_empty(), "nor do tests");
    for (path, text) in [
        ("dht.rs", "let now = Instant::now();"),
        ("routing/table.rs", "let since = start.elapsed();"),
        ("net/behaviour.rs", "SystemTime::now()"),
        ("dht/peers.rs", "let state = RandomState::new();"),
        ("net/handler.rs", "rand_chacha::ChaCha8Rng"),
        ("dht.rs", "use quick_protobuf::Writer;"),
        ("query/pool.rs", "use std::task::Poll;"),
        ("routing.rs", "async fn f() {}"),
        ("net/behaviour.rs", "std::thread::Builder::new()"),
    ] {
        assert_eq!(reserved(path, text).len(), 1, "{path}: {text}");
    }
    assert_eq!(size("dht.rs", &"x\n".repeat(MAX_LINES + 1)).len(), 1);
    let tests = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(MAX_LINES));
    assert!(size("dht.rs", &tests).is_empty());
    assert_eq!(head("dht.rs", "use std::fmt;\n").len(), 1);
}

/// Within the two lowest layers rooms may know each other, but not in a circle.
#[test]
fn the_ground_and_the_vocabulary_have_no_circles() {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources() {
        if layer(room(&path)).is_some_and(|layer| layer < 2) {
            let known = imports(&text).into_iter().filter(|name| name != room(&path));
            edges.entry(room(&path).to_owned()).or_default().extend(known);
        }
    }
    // Rooms that know nobody are taken away until none is left.
    while !edges.is_empty() {
        let free: Vec<_> =
            edges.iter().filter(|(_, known)| known.is_empty()).map(|(room, _)| room.clone()).collect();
        assert!(!free.is_empty(), "a circle among {edges:?}");
        for room in free {
            edges.remove(&room);
            edges.values_mut().for_each(|known| known.retain(|name| *name != room));
        }
    }
}

/// Everything `libp2p-kad` 0.49 exports.
const THEIR_NAMES: &str = "Addresses AddProviderContext AddProviderError AddProviderOk AddProviderPhase \
    AddProviderResult Behaviour BootstrapError BootstrapOk BootstrapResult BucketInserts Caching Config Event \
    GetClosestPeersError GetClosestPeersOk GetClosestPeersResult GetProvidersError GetProvidersOk \
    GetProvidersResult GetRecordError GetRecordOk GetRecordResult InboundRequest Mode NoKnownPeers PeerInfo \
    PeerRecord ProgressStep PutRecordContext PutRecordError PutRecordOk PutRecordPhase PutRecordResult QueryInfo \
    QueryMut QueryRef QueryResult QueryStats Quorum RoutingUpdate StoreInserts KBucketDistance EntryView \
    KBucketRef KBucketKey NodeStatus U256 ConnectionType KadPeer QueryId RecordKey ProviderRecord Record store \
    K_VALUE ALPHA_VALUE PROTOCOL_NAME";

#[test]
fn every_name_of_libp2p_kad_exists_here_or_stands_in_the_migration_table() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let exports: BTreeSet<String> =
        code(&lib).split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split("## Moving from libp2p-kad").nth(1).expect("the table has its heading");
    let table = table.split("\n## ").next().unwrap();
    let missing: Vec<_> = THEIR_NAMES
        .split_whitespace()
        .filter(|name| !exports.contains(*name) && !table.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "neither exported nor in the table: {missing:?}");
}

#[test]
fn the_diagram_of_the_readme_is_that_of_the_code() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lookup = fs::read_to_string(root().join("src/query/lookup.rs")).unwrap();
    let lines = |text: &str| -> Vec<String> {
        let from_first = text.lines().skip_while(|line| !line.contains("Unasked --"));
        from_first.take(5).map(|line| line.trim_start_matches("///").trim().to_owned()).collect()
    };
    assert_eq!(lines(&readme), lines(&lookup));
    assert_eq!(lines(&readme).len(), 5);
}

/// What is wrong with the commands of the README: all share one build, and the test command runs everything.
fn commands(readme: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in readme.lines().filter(|line| line.starts_with("cargo run")) {
        if !line.starts_with("cargo run --release --example ") {
            wrong.push(format!("{line}: is built in another profile than the others"));
        }
    }
    if !readme.lines().any(|line| line == "cargo test --all-features") {
        wrong.push("no command runs all tests".to_owned());
    }
    wrong
}

/// Features of all members add up: one that a member turned on would be built by everybody's first command.
fn member(path: &str, manifest: &str) -> Vec<String> {
    let shared = ["libp2p ", "libp2p.", "tokio ", "tokio.", "clap ", "clap.", "tracing-subscriber "];
    let dependencies = manifest.lines().filter(|line| shared.iter().any(|name| line.starts_with(name)));
    let own = dependencies.filter(|line| !line.ends_with("{ workspace = true }"));
    own.map(|line| format!("{path}: `{line}` is not that of the workspace")).collect()
}

#[test]
fn the_first_command_builds_little_and_the_others_share_it() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    assert_eq!(commands(&read("README.md")), Vec::<String>::new());
    assert_eq!(commands("cargo run --example node\n").len(), 2);
    let workspace = read("Cargo.toml");
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = "));
    let members: Vec<_> = members.unwrap().split('"').skip(1).step_by(2).collect();
    assert!(members.len() >= 6, "{members:?}");
    let default = workspace.lines().find(|line| line.starts_with("default-members = ")).unwrap();
    for path in members {
        assert!(default.contains(&format!("\"{path}\"")), "{path} is left out of `cargo test`");
        assert_eq!(member(path, &read(&format!("{path}/Cargo.toml"))), Vec::<String>::new());
    }
    assert_eq!(member("a", "libp2p = { workspace = true, features = [\"quic\"] }").len(), 1);
}

/// What is wrong with a list of acceptance rows, given the names of all functions there are.
fn rows(text: &str, functions: &BTreeSet<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| S")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, row, status, shown, _] = cells[..] else {
            wrong.push(format!("not three cells: {line}"));
            continue;
        };
        if !["done", "partly", "open"].contains(&status) || (status != "open" && shown.is_empty()) {
            wrong.push(format!("{row}: {status}, shown by {shown:?}"));
        }
        wrong.extend(missing(shown, functions).map(|name| format!("{row}: there is no test {name}")));
    }
    wrong
}

/// Names of tests in a text that there are not.
fn missing<'a>(text: &'a str, functions: &BTreeSet<&str>) -> impl Iterator<Item = &'a str> {
    let names = text.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| name.matches('_').count() >= 2 && !name.contains(['/', ':', '.', ' ']);
    names.filter(is_test).filter(|name| !functions.contains(name))
}

#[test]
fn acceptance_rows_and_quirks_are_all_there_and_name_tests_that_exist() {
    let acceptance = fs::read_to_string(root().join("tests/acceptance.md")).unwrap();
    let mut files = Vec::new();
    for dir in ["src", "tests", "examples"] {
        rust_files(&root().join(dir), &mut files);
    }
    let texts: Vec<_> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let functions: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| text.split("fn ").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect();
    assert_eq!(rows(&acceptance, &functions), Vec::<String>::new());
    assert_eq!(acceptance.lines().filter(|line| line.starts_with("| S")).count(), 98);
    let planted = "| S0-01 | done | |\n| S0-02 | done | `a_test_that_never_was` |\n| S0-03 | perhaps | `x` |";
    assert_eq!(rows(planted, &functions).len(), 3);
    let quirks = fs::read_to_string(root().join("tests/quirks.md")).unwrap();
    assert!(quirks.lines().filter(|line| line.starts_with("| ")).count() > 20);
    assert_eq!(missing(&quirks, &functions).collect::<Vec<_>>(), Vec::<&str>::new());
    let dependable = fs::read_to_string(root().join("tests/dependable.md")).unwrap();
    assert!(dependable.lines().filter(|line| line.starts_with("| ")).count() > 20);
    assert_eq!(missing(&dependable, &functions).collect::<Vec<_>>(), Vec::<&str>::new());
}
