//! Examples as programs: where they are, once they are built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Returns an example as a command that reads from a pipe and writes to one.
pub(crate) fn command(example: &str, options: &[&str]) -> Command {
    let mut command = Command::new(program(example));
    command.args(options).env_remove("RUST_LOG").stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Returns where an example is. `cargo test` has built it; if only one test was asked for, it may be missing, or old.
fn program(example: &str) -> PathBuf {
    // One build at a time is enough.
    static BUILDING: Mutex<()> = Mutex::new(());
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().and_then(Path::parent).unwrap();
    let program = directory.join("examples").join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    let building = BUILDING.lock().unwrap();
    if !program.exists() {
        build(directory, example);
    }
    drop(building);
    program
}

/// Builds the example beside this test, as a user would, whichever member the test is of: what this run of cargo says of itself
/// would build all anew.
fn build(directory: &Path, example: &str) {
    let profile = match directory.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut build = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            build.env_remove(name);
        }
    }
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = above.find(|directory| directory.join("Cargo.lock").exists()).unwrap();
    build.args(["build", "--quiet", "--example", example, "--features", "redb", "--profile", profile]);
    build.arg("--target-dir").arg(directory.parent().unwrap()).current_dir(root);
    assert!(build.status().unwrap().success());
}
