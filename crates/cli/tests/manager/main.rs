//! `holdfast manager` as a pod has it: the real binary in a network namespace of its own, with interfaces
//! that come and go, and servers that play the API server and the Netmaker server.
//!
//! These tests need root. Without it they are skipped and say so; with `CI` set they fail instead.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test program")]

mod config;
mod ending;
mod health;
mod interface;
mod leading;
mod listener;
mod metrics;
mod ports;
mod process;
mod reference;
mod rotation;
mod tls;
mod users;
mod weight;

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

/// The binary under test.
const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// No test has to wait longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// What takes an event and not a timer takes no longer, on a machine that does other things too. What it
/// takes at rest is printed by `k10_bound_as_soon_as_there_is_an_address`.
const SOON: Duration = Duration::from_millis(1500);

/// Puts this test's thread, and all that it starts, into a network of its own; `false` without root.
fn own_network(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "{test} needs root, and CI is set");
    if !root {
        println!("{test}: skipped, it needs root");
        return false;
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    true
}

/// A pair of interfaces: `netmaker`, which is looked for, and its other end. Neither has an address.
fn netmaker() {
    ip("link add netmaker type veth peer name other");
    ip("link set other up");
    ip("link set netmaker up");
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until something is the case; how long that took.
fn until(what: &str, mut is: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    begin.elapsed()
}
