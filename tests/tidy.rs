//! The house rules: who may import whom, how long a file is, who reads clocks, what is public, and more.
//!
//! Each rule is a function from a file's path and text to what is wrong with it, so that it can be shown to bite.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/modules.rs"]
mod modules;

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
        "time" | "rng" | "key" | "map" | "protobuf" => 0,
        "addrs" | "failures" | "peer" | "record" | "message" | "config" | "error" | "event" | "stats"
        | "validate" => 1,
        "wire" | "region" | "routing" | "query" | "store" => 2,
        "dht" => 3,
        "net" => 4,
        "client" | "command" | "discovery" | "fuzzing" | "sim" | "lib" => 5,
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
        // The order of a map is that of insertion, whatever its hash.
        &["net/entropy.rs", "map.rs"],
        "asks for entropy: randomness comes from the seeded generator",
    ),
    (&["rand_chacha"], &["rng.rs"], "has a generator of its own"),
    (&["quick_protobuf", "generated::"], &["wire/", "wire.rs"], "knows protobuf, which only `wire` does"),
    (
        &["libp2p_swarm", "std::task", "futures_timer"],
        &["net/", "net.rs"],
        "knows the swarm, which only `net` does",
    ),
    (
        &["async fn", "async move", ".await", "futures::"],
        &["net/", "net.rs", "client/", "client.rs", "discovery.rs"],
        "is asynchronous",
    ),
    (
        &["std::thread"],
        &["store/redb/writer.rs", "sim/crew.rs"],
        "has a thread: only what writes to the disk does, and the simulator",
    ),
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
    // What `lib.rs` names, and what it hands on from others.
    let public = fs::read_to_string(root().join("tests/tidy/public.txt")).unwrap();
    let named = code(&lib);
    let named = named.split(|c: char| !c.is_alphanumeric() && c != '_');
    let exports: BTreeSet<&str> = named.chain(public.lines()).collect();
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
        from_first.take(7).map(|line| line.trim_start_matches("///").trim().to_owned()).collect()
    };
    assert_eq!(lines(&readme), lines(&lookup));
    assert_eq!(lines(&readme).len(), 7);
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

/// Whether a text has an identifier of the operation `Sample`: `Sample`, `SampleOk`, `sample::`, `fn sample`, `mod sample`.
fn has_sample(text: &str) -> bool {
    let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let is_type = |word: &&str| {
        let rest = word.strip_prefix("Sample");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_uppercase))
    };
    words.iter().any(is_type)
        || ["sample::", "fn sample(", "mod sample;"].iter().any(|name| text.contains(name))
}

/// The files that ARCHITECTURE says are touched by a new operation.
fn touched_by_an_operation(architecture: &str) -> BTreeSet<String> {
    let section = architecture.split("### To add an operation\n").nth(1).unwrap_or_default();
    let section = section.split("\n###").next().unwrap_or_default();
    let is_numbered = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    let paths = section.lines().filter(is_numbered).filter_map(|line| line.split('`').nth(1));
    paths.map(str::to_owned).collect()
}

#[test]
fn an_operation_touches_the_four_files_that_architecture_names() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let is_touched = |path: &&PathBuf| has_sample(&fs::read_to_string(path).unwrap());
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
    let touched: BTreeSet<_> = files.iter().filter(is_touched).map(relative).collect();
    assert_eq!(touched, touched_by_an_operation(&architecture));
    assert!((1..=4).contains(&touched.len()), "{touched:?}");
    assert!(has_sample("Command::Sample { count }") && has_sample("pub use sample::{SampleOk};"));
    assert!(!has_sample("struct Samples { samples: u8 } fn record(sample: Duration)"));
    assert_eq!(
        touched_by_an_operation("### To add an operation\n\n1. `a.rs`: x\n   `b.rs`\n### C\n2. `c`\n").len(),
        1
    );
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
    let security = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (_, bounds) = security.split_once("\n## Bounds\n").unwrap();
    let rows: Vec<_> = bounds.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10 && rows.iter().all(|row| row.matches('|').count() == 5 && row.contains('`')));
    assert_eq!(missing(bounds, &functions).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Rooms that still have circles of files. One without is to be struck: the list only gets shorter.
const CIRCULAR: &[&str] = &[];

/// Types whose `impl` blocks still stand in more files than [`MAX_IMPL_FILES`]. One that does no more is to be struck.
const SCATTERED: &[&str] = &[];

const MAX_IMPL_FILES: usize = 3;

/// Returns circles of files beyond those of some rooms, and rooms that have none.
fn circular(files: &modules::Files, allowed: &[&str]) -> Vec<String> {
    let circles = modules::circles(files);
    let is_in = |circle: &[String], allowed: &str| circle.iter().any(|path| room(path) == allowed);
    let new = circles.iter().filter(|circle| !allowed.iter().any(|allowed| is_in(circle, allowed)));
    let mut wrong: Vec<_> = new.map(|circle| format!("a circle: {}", circle.join(", "))).collect();
    let opened = allowed.iter().filter(|allowed| !circles.iter().any(|circle| is_in(circle, allowed)));
    wrong.extend(opened.map(|room| format!("`{room}` has no circle any more: strike it from the list")));
    wrong
}

/// Returns types beyond some whose `impl` blocks stand in too many files, and those of them that do not.
fn scattered(files: &modules::Files, allowed: &[&str]) -> Vec<String> {
    let impls = modules::impls(files).into_iter();
    let many = impls.filter(|(_, places)| places.len() > MAX_IMPL_FILES);
    let many: BTreeMap<_, _> =
        many.map(|((path, name), places)| (format!("{path}: {name}"), places)).collect();
    let new = many.iter().filter(|(name, _)| !allowed.contains(&name.as_str()));
    let mut wrong: Vec<_> = new.map(|(name, places)| format!("`impl` of {name} in {places:?}")).collect();
    let gathered = allowed.iter().filter(|allowed| !many.contains_key(**allowed));
    wrong.extend(gathered.map(|name| format!("{name} is in few files now: strike it from the list")));
    wrong
}

fn read_all<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> modules::Files {
    files.into_iter().map(|(path, text)| (path.to_owned(), modules::File::read(text))).collect()
}

fn modules() -> modules::Files {
    let sources = sources();
    read_all(sources.iter().map(|(path, text)| (path.as_str(), text.as_str())))
}

#[test]
fn no_files_know_each_other_in_a_circle() {
    assert_eq!(circular(&modules(), CIRCULAR), Vec::<String>::new());
}

#[test]
fn the_impl_blocks_of_a_type_stand_in_three_files_at_most() {
    assert_eq!(scattered(&modules(), SCATTERED), Vec::<String>::new());
}

#[test]
fn what_is_public_stands_in_the_list() {
    let path = root().join("tests/tidy/public.txt");
    let public: Vec<_> = modules::public(&modules()).into_iter().collect();
    if std::env::var_os("UPDATE_PUBLIC").is_some() {
        fs::write(&path, public.join("\n") + "\n").unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    let listed: Vec<_> = listed.lines().collect();
    let new: Vec<_> = public.iter().filter(|item| !listed.contains(&item.as_str())).collect();
    let gone: Vec<_> = listed.iter().filter(|item| !public.iter().any(|there| there == *item)).collect();
    let why = "if that is meant, run this test with UPDATE_PUBLIC=1";
    assert!(new.is_empty() && gone.is_empty(), "new: {new:?}, gone: {gone:?}; {why}");
    assert!(listed.is_sorted() && public.len() == listed.len());
}

#[test]
fn a_circle_of_files_is_found_however_the_path_is_written() {
    let circle = |files: &[(&str, &str)]| {
        let root = ("lib.rs", "mod a;\nmod x;\nmod y;\nmod z;\n");
        circular(&read_all(files.iter().copied().chain([root])), &[]).len()
    };
    let b = ("a/b.rs", "use super::A;\npub struct B;\n");
    for a in [
        "mod b;\npub struct A;\nuse b::B;\n",
        "mod b;\npub struct A(b::B);\n",
        "mod b;\npub struct A;\nfn f() { crate::a::b::B; }\n",
        "mod b;\npub struct A(B);\npub(crate) use self::b::B;\n",
        "mod b;\npub struct A;\nuse b::{B as C, self};\n",
    ] {
        assert_eq!(circle(&[("a.rs", a), b]), 1, "{a}");
    }
    for a in [
        "mod b;\npub struct A;\n",
        "mod b;\npub struct A;\npub use b::B;\n",
        "mod b;\npub struct A;\n// use b::B;\nconst TEXT: &str = \"b::B\";\n",
        "mod b;\npub struct A;\n#[cfg(test)]\nmod tests {\n    use super::b::B;\n}\n",
    ] {
        assert_eq!(circle(&[("a.rs", a), b]), 0, "{a}");
    }
    // Siblings, one of them by what their parent hands on, and three in a ring.
    let parent = ("a.rs", "mod b;\nmod c;\npub(crate) use c::C;\n");
    let c = ("a/c.rs", "use super::super::a::b;\npub struct C(b::B);\n");
    assert_eq!(circle(&[parent, ("a/b.rs", "use super::C;\npub struct B;\n"), c]), 1);
    assert_eq!(circle(&[parent, ("a/b.rs", "pub struct B;\n"), c]), 0);
    let ring = [
        ("x.rs", "use crate::y::Y;\npub struct X;\n"),
        ("y.rs", "pub struct Y(crate::z::Z);\n"),
        ("z.rs", "use super::x::*;\npub struct Z(X);\n"),
    ];
    assert_eq!(circle(&ring[..]), 1);
    let files = read_all(ring.into_iter().chain([("lib.rs", "mod x;\nmod y;\nmod z;\n")]));
    assert!(circular(&files, &["y"]).is_empty(), "it is allowed where one of its rooms is");
    assert_eq!(circular(&files, &["y", "w"]).len(), 1, "a room without a circle is struck");
}

#[test]
fn a_type_whose_impl_blocks_stand_in_many_files_is_found() {
    let a = ("a.rs", "mod b;\nmod c;\nmod d;\npub struct A<T>(T);\nimpl<T: Into<u8>> A<T> {}\n");
    let b = ("a/b.rs", "use super::A;\nimpl<'a, T> Iterator for A<&'a T> where T: Clone {}\n");
    let c = ("a/c.rs", "impl super::A<u8> {}\n");
    let d = ("a/d.rs", "use super::A as Other;\nimpl Other<u16> {}\n");
    let tested = ("a/d.rs", "use super::A;\n#[cfg(test)]\nimpl A<u16> {}\n");
    assert_eq!(scattered(&read_all([a, b, c]), &[]).len(), 0);
    assert_eq!(scattered(&read_all([a, b, c, tested]), &[]).len(), 0);
    assert_eq!(scattered(&read_all([a, b, c, d]), &[]).len(), 1);
    assert_eq!(scattered(&read_all([a, b, c, d]), &["a.rs: A"]).len(), 0);
    assert_eq!(scattered(&read_all([a, b, c]), &["a.rs: A"]).len(), 1, "it is to be struck");
}

#[test]
fn an_item_is_public_if_it_can_be_named_from_outside() {
    let files = read_all([
        ("lib.rs", "pub mod open;\nmod shut;\npub use shut::{Shown, Inner as Renamed};\nfn f() {}\n"),
        (
            "open.rs",
            "pub const fn f() {}\npub(crate) struct Own;\n#[doc(hidden)]\npub struct Hidden;\ngroups! { Counted { counter n: u64 } }\n",
        ),
        ("shut.rs", "pub struct Shown;\npub struct Inner;\npub struct Unseen;\n"),
    ]);
    let public: Vec<_> = modules::public(&files).into_iter().collect();
    assert_eq!(public, ["Renamed", "Shown", "open", "open::Counted", "open::f"]);
}

/// Words for what somebody who meets an error can do about it.
const ACTIONS: [&str; 23] = [
    "add",
    "ask",
    "call",
    "check",
    "choose",
    "configure",
    "correct",
    "give",
    "later",
    "poll",
    "raise",
    "remove",
    "repair",
    "report",
    "search",
    "see",
    "send",
    "set",
    "try",
    "update",
    "use",
    "wait",
    "nothing to do",
];

/// Returns the words of a text, each between spaces.
fn words(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    format!(" {} ", words.collect::<Vec<_>>().join(" "))
}

/// Returns whether a doc says what has happened, and then, in another clause, what to do about it.
fn says_what_to_do(doc: &str) -> bool {
    let doc = doc.to_lowercase().replace("::", " ");
    let mut clauses = doc.split(['.', ':', ';', ',']).map(str::trim).filter(|clause| !clause.is_empty());
    let happened = clauses.next();
    let acts = |clause: &str| ACTIONS.iter().any(|action| words(clause).contains(&format!(" {action} ")));
    happened.is_some() && clauses.any(acts)
}

/// Returns how many variants the public enums of errors of a file have, and those whose doc does not say what to do.
fn errors(path: &str, text: &str) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    // The enum that is read, how deep the line stands in it, and the doc in front of the line.
    let (mut name, mut depth, mut doc) = ("", 0usize, String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with("#[cfg(test)]") {
            skip_item(&mut lines);
            continue;
        }
        let identifier =
            |text: &'_ str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').count();
        if name.is_empty() {
            if let Some(rest) = line.strip_prefix("pub enum ") {
                let found = &rest[..identifier(rest)];
                if found.ends_with("Error") {
                    (name, depth) = (found, 1);
                    doc.clear();
                }
            }
            continue;
        }
        if let Some(comment) = line.strip_prefix("///") {
            if depth == 1 {
                doc.push_str(comment);
            }
            continue;
        }
        if depth == 1 && line.starts_with(char::is_uppercase) {
            count += 1;
            if !says_what_to_do(&doc) {
                wrong.push(format!(
                    "{path}: {name}::{}: says not what to do:{doc}",
                    &line[..identifier(line)]
                ));
            }
            doc.clear();
        }
        depth += line.matches('{').count();
        depth -= line.matches('}').count();
        if depth == 0 {
            name = "";
        }
    }
    (count, wrong)
}

#[test]
fn each_error_variant_says_what_to_do() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (path, text) in sources() {
        let (variants, those) = errors(&path, &text);
        count += variants;
        wrong.extend(those);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 80, "{count} variants were found");

    let planted = "\
        /// Try: this is not the doc of a variant.\n\
        pub enum SomeError {\n\
        \x20   /// It is broken. Try\n    /// another.\n    #[error(\"{0}\")]\n    Good(String),\n\
        \x20   Undocumented,\n\
        \x20   /// It is broken. It was whole; now it is not.\n    NoAction,\n\
        \x20   /// Try another.\n    NothingHappened,\n\
        \x20   /// It is broken, as trying has shown.\n    OnlyPartOfAWord {\n\
        \x20       /// It is broken: use another.\n        field: u8,\n    },\n\
        \x20   /// It is broken: there is nothing to do.\n\
        \x20   #[error(\n        \"a {\",\n        \"}\"\n    )]\n    Hopeless,\n\
        }\n\
        enum PrivateError {\n    Undocumented,\n}\n\
        #[cfg(test)]\npub enum TestError {\n    Undocumented,\n}\n\
        pub enum Other {\n    Undocumented,\n}\n\
        pub enum Error {\n    Undocumented,\n}\n";
    let (count, wrong) = errors("planted.rs", planted);
    let names: Vec<_> = wrong.iter().map(|text| text.split(": ").nth(1).unwrap()).collect();
    let bad = ["Undocumented", "NoAction", "NothingHappened", "OnlyPartOfAWord"]
        .map(|name| format!("SomeError::{name}"));
    assert_eq!(count, 7);
    assert_eq!(names, [&bad[..], &["Error::Undocumented".to_owned()]].concat());
}

/// Types of numbers.
const NUMBERS: [&str; 17] = [
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
    "i64",
    "i128",
    "f64",
    "Duration",
    "NonZeroU8",
    "NonZeroU16",
    "NonZeroU64",
    "NonZeroUsize",
    "Least",
    "SilencePrior",
    "TailQuantile",
];

/// Words for where a number comes from.
const SOURCES: [&str; 22] = [
    "chosen",
    "computed",
    "derived",
    "golden",
    "measured",
    "source",
    "format",
    "unit",
    "paper",
    "mazières",
    "spec",
    "specification",
    "rfc",
    "iana",
    "ipfs",
    "libp2p",
    "linux",
    "multicodec",
    "proto",
    "dag cbor",
    "ipns record",
    "peer ids",
];

fn is_name_of_constant(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.len() > 1 && name.starts_with(char::is_uppercase) && name.chars().all(is_part)
}

/// Returns the name and the type of the constant that begins in a line, and what is behind them, up to its semicolon.
fn constant<'a>(
    line: &'a str,
    next: &mut impl Iterator<Item = &'a str>,
) -> Option<(&'a str, &'a str, String)> {
    let (visibility, rest) = line.split_once("const ")?;
    let (name, rest) = rest.split_once(": ")?;
    let (of, value) = rest.split_once(" =")?;
    if !is_name_of_constant(name) || !(visibility.is_empty() || visibility.starts_with("pub")) {
        return None;
    }
    let mut value = value.to_owned();
    while !value.contains(';') {
        value.push_str(next.next()?);
    }
    Some((name, of, value))
}

/// Returns how many constants of a file are numbers, and those of which nothing says where they come from.
///
/// A comment is about the constant below it and those in the lines that follow; that of a module about its first ones. What is
/// made of another constant is derived from that.
fn sourceless(path: &str, text: &str) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    if path.contains("/generated/") {
        return (count, wrong);
    }
    // What the comment above says, and whether it is over, so that the next one is another.
    let (mut comment, mut is_over) = (String::new(), false);
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]") {
            skip_item(&mut lines);
            comment.clear();
        } else if line.starts_with("//") {
            if std::mem::take(&mut is_over) {
                comment.clear();
            }
            comment.push_str(line);
        } else if let Some((name, of, value)) = constant(line, &mut lines) {
            is_over = true;
            let (value, at_the_end) = value.split_once("//").unwrap_or((value.as_str(), ""));
            let mut types = of.split(|c: char| !c.is_alphanumeric());
            if of.contains('&') || !types.any(|name| NUMBERS.contains(&name)) {
                continue;
            }
            count += 1;
            // `u64::MAX` is none of ours.
            let mut names = value.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
            let said = words(&format!("{comment} {at_the_end}").to_lowercase());
            let has_source = SOURCES.iter().any(|source| said.contains(&format!(" {source} ")));
            if !has_source && !names.any(is_name_of_constant) {
                wrong.push(format!("{path}: {name}: says not where it comes from: {comment}"));
            }
        } else if line.starts_with("mod ") || line.contains(" mod ") {
            is_over = true;
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    (count, wrong)
}

#[test]
fn each_number_says_where_it_comes_from() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (path, text) in sources() {
        let (numbers, those) = sourceless(&path, &text);
        count += numbers;
        wrong.extend(those);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 250, "{count} numbers were found");

    let planted = "\
        //! By the paper.\n\n\
        const UNDOCUMENTED: usize = 1;\n\n\
        /// So many. Chosen,\n/// not measured.\n#[cfg(unix)]\nconst GOOD: usize = 2;\nconst BEHIND_IT: u64 = 3;\n\n\
        const APART: u64 = 4;\n\
        /// So long, especially here.\npub(super) const PART_OF_A_WORD: Duration = Duration::from_secs(5);\n\
        /// RFC 6.\npub const CITED: u8 = 6;\n/// And this?\nconst ANOTHER: u8 = 7;\n\
        /// Twice that.\nconst DERIVED: usize = 2 * GOOD;\n\
        /// The most.\nconst GREATEST: u64 = u64::MAX;\n\
        const AT_ITS_END: u32 = 8; // A golden table.\n\
        const LISTED: [f64; 2] =\n    [0.1, 0.2];\n\
        /// Fields of the spec.\npub(super) mod field {\n    pub(in crate::a) const FIRST: u32 = 1;\n    const SECOND: u32 = 2;\n}\n\
        /// By the paper.\nfn f() {\n    const WITHIN: u32 = 9;\n}\n\
        const TEXT: &[u8] = b\"\";\nconst fn f<const N: usize>() {}\n\
        #[cfg(test)]\nmod tests {\n    const TESTED: usize = 10;\n}\n";
    let (count, wrong) = sourceless("planted.rs", planted);
    let names: Vec<_> = wrong.iter().map(|text| text.split(": ").nth(1).unwrap()).collect();
    assert_eq!(count, 14);
    let bad = ["UNDOCUMENTED", "APART", "PART_OF_A_WORD", "ANOTHER", "GREATEST", "LISTED", "WITHIN"];
    assert_eq!(names, bad);
    assert_eq!(sourceless("wire/generated/planted.rs", planted), (0, Vec::new()));
}

/// Names that are public in two modules each, beside what they are of: `config::Limits`, `store::Limits`.
const NAMESAKES: [&str; 5] = ["Limits", "Lookups", "Progress", "Providers", "Records"];

/// The names that stand for two types, and where; those behind a deprecated alias and what is generated aside.
fn ambiguous(sources: &[(String, String)]) -> Vec<String> {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources.iter().filter(|(path, _)| !path.contains("/generated/")) {
        let mut is_deprecated = false;
        for line in code(text).lines() {
            is_deprecated |= line.starts_with("#[deprecated");
            let (indent, mut words) = (line.len() - line.trim_start().len(), line.split_whitespace());
            let mut word = words.next().unwrap_or_default();
            if word.starts_with("pub") {
                word = if word == "pub(in" { words.nth(1) } else { words.next() }.unwrap_or_default();
            }
            // An alias within braces is that of a trait.
            if ["struct", "enum", "trait"].contains(&word) || (word == "type" && indent == 0) {
                let name: String =
                    words.next().unwrap_or_default().chars().take_while(|c| c.is_alphanumeric()).collect();
                if !std::mem::take(&mut is_deprecated) {
                    types.entry(name).or_default().push(path.clone());
                }
            }
        }
    }
    types.retain(|name, places| places.len() > 1 && !NAMESAKES.contains(&name.as_str()));
    types
        .iter()
        .map(|(name, places)| format!("`{name}` stands for {} things: {places:?}", places.len()))
        .collect()
}

#[test]
fn a_name_stands_for_one_thing() {
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let twice =
        [source("a.rs", "pub(in crate::dht) struct Thing<T>(T);\n"), source("b.rs", "enum Thing {}\n")];
    assert_eq!(ambiguous(&twice), ["`Thing` stands for 2 things: [\"a.rs\", \"b.rs\"]"]);
    let deprecated = "#[deprecated]\npub type Thing = a::Thing;\nimpl A for B {\n    type Thing = u8;\n}\n";
    assert!(ambiguous(&[twice[0].clone(), source("b.rs", deprecated)]).is_empty());
    let found = ambiguous(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}
