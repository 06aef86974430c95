//! Every public item of `libp2p-kad` 0.49 is here with the same name, fields and types, or stands in the README's table.
//!
//! `moving/items.txt` lists the items, one a line: alone if it is here, which `moving/same.rs` shows by a text that compiles
//! with both crates; or before `->` and what the table says of it on its left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names what is alike, and uses it.
macro_rules! same {
    ($($name:literal => $use:expr;)*) => {
        pub(super) const SAME: &[&str] = &[$($name),*];

        pub(super) fn uses() {
            $(let _ = $use;)*
        }
    };
}

/// Compiles what is alike with one of the crates.
macro_rules! with {
    ($(#[$meta:meta])* $name:ident, $kad:ident) => {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a list of uses, which one of the crates has in another form"
        )]
        $(#[$meta])*
        mod $name {
            use std::borrow::Borrow;
            use std::num::NonZeroUsize;
            use std::time::Duration;

            use kad::store::RecordStore as _;
            use libp2p::core::multihash::Multihash;
            use libp2p::{Multiaddr, PeerId, StreamProtocol};
            use $kad as kad;

            use super::{behaviour, copy, debug, display, eq, error, hash};

            include!("moving/same.rs");
        }
    };
}

with!(
    #[expect(clippy::unneeded_struct_pattern, reason = "what has fields in the other crate only")]
    theirs,
    libp2p_kad
);
with!(ours, libp2p_kademlia);

fn debug<T: std::fmt::Debug>() {}
fn display<T: std::fmt::Display>() {}
fn error<T: std::error::Error>() {}
fn eq<T: Eq>() {}
fn hash<T: std::hash::Hash>() {}
fn copy<T: Copy>() {}
fn behaviour<B: libp2p::swarm::NetworkBehaviour<ToSwarm = E>, E>() {}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap_or_default()
}

/// The left cells of the README's table.
fn table() -> Vec<String> {
    let readme = read("README.md");
    let section = readme.split("## Moving from libp2p-kad").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.split(" | ").next().unwrap_or_default().to_owned()).collect()
}

/// Returns what is wrong with a list of items.
fn wrong(items: &str, same: &BTreeSet<&str>, table: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in items.lines().filter(|line| !line.is_empty()) {
        match line.split_once(" -> ") {
            None if !same.contains(line) => wrong.push(format!("{line}: nothing shows that it is here")),
            Some((item, _)) if same.contains(item) => wrong.push(format!("{item}: it is here")),
            Some((item, said)) if !table.iter().any(|cell| cell.contains(said)) => {
                wrong.push(format!("{item}: no row says `{said}`"));
            }
            None | Some(_) => {}
        }
    }
    wrong
}

#[test]
fn every_public_item_of_libp2p_kad_is_here_or_stands_in_the_table() {
    theirs::uses();
    ours::uses();
    assert_eq!(theirs::SAME, ours::SAME);
    let (items, same) = (read("tests/moving/items.txt"), ours::SAME.iter().copied().collect());
    assert_eq!(wrong(&items, &same, &table()), Vec::<String>::new());
    let listed: BTreeSet<_> = items.lines().collect();
    assert_eq!(listed.len(), items.lines().count(), "none twice");
    assert_eq!(same.difference(&listed).collect::<Vec<_>>(), Vec::<&&str>::new(), "what is alike is listed");
    assert!(listed.len() > 350, "{}", listed.len());
}

#[test]
fn an_item_that_is_nowhere_is_noticed() {
    let (same, table) = (BTreeSet::from(["Here"]), vec!["| `set_it`".to_owned()]);
    let wrong = |items| wrong(items, &same, &table).len();
    assert_eq!(wrong("Here\nConfig::set_it -> `set_it`"), 0);
    assert_eq!(
        (wrong("There"), wrong("Config::set_other -> `set_other`"), wrong("Here -> `set_it`")),
        (1, 1, 1)
    );
}
