//! Replays the corpora of the fuzz targets through the functions that the targets call.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own")]
mod bodies;

/// Calls `body` with every file of a corpus, and returns how many there were.
fn replay(target: &str, body: fn(&[u8])) -> usize {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        let bytes = fs::read(file).unwrap();
        // The body's own message, printed before this one, does not tell which file it was.
        let done = std::panic::catch_unwind(|| body(&bytes));
        assert!(done.is_ok(), "{} in {target}", file.display());
    }
    files.len()
}

#[test]
fn decode() {
    assert!(replay("decode", bodies::decode) > 50);
}

#[test]
fn framing() {
    assert!(replay("framing", bodies::framing) > 20);
}

#[test]
fn dht() {
    assert!(replay("dht", bodies::dht) > 50);
}

#[test]
fn handler() {
    assert!(replay("handler", bodies::handler) > 50);
}

#[test]
fn addrs() {
    assert!(replay("addrs", bodies::addrs) > 10);
}

#[test]
#[cfg(feature = "ipns")]
fn cbor() {
    assert!(replay("cbor", bodies::cbor) > 10);
}

#[test]
fn chat() {
    assert!(replay("chat", bodies::chat) > 10);
}

#[test]
#[cfg(feature = "ipns")]
fn ipns() {
    assert!(replay("ipns", bodies::ipns) > 10);
}

#[test]
fn store() {
    assert!(replay("store", bodies::store) > 10);
}

#[test]
#[cfg(feature = "ipns")]
fn time() {
    assert!(replay("time", bodies::time) > 10);
}
