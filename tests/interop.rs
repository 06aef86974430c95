//! Other implementations as real peers: what `cargo test` leaves out, since it needs them installed.

use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "needs node and python3; it is run by tests/interop/run"]
fn real_peers_and_ours_live_with_each_other() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/run");
    assert!(Command::new(run).status().unwrap().success());
}
