//! `holdfast wait`, `render` and `install` as a container sees them: the real binary, real servers, files
//! and interfaces.
//!
//! Some tests need root. Without it they are skipped and say so; with `CI` set they fail instead.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test program")]

mod install;
mod render;
mod wait;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// No test has to wait longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn holdfast(args: &[&str]) -> Command {
    let mut command = Command::new(HOLDFAST);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What came of a command: its exit code, and what it said.
fn done(mut command: Command) -> (i32, String) {
    told(&command.output().unwrap())
}

fn told(output: &Output) -> (i32, String) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code().unwrap_or_else(|| panic!("{}: {said}", output.status)), said)
}

/// Waits until something is the case.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether this is root; without `CI` a test may be skipped for it.
fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "{test} needs root, and CI is set");
    if !root {
        println!("{test}: skipped, it needs root");
    }
    root
}
