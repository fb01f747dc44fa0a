//! The agent as the first process of a PID namespace.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::{Agent, obedient, until};

/// A PID namespace with a /proc of its own; it ends with its first process, and that with the wrapper.
const PID_1: &[&str] = &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"];
/// The same without anything mounted on /proc.
const BARE: &[&str] = &[
    "unshare",
    "--pid",
    "--fork",
    "--mount",
    "--kill-child=KILL",
    "sh",
    "-c",
    "umount -l /proc; exec \"$@\"",
    "sh",
];

pub(crate) fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "{test} needs root, and CI is set");
    if !root {
        println!("{test}: skipped, it needs root");
    }
    root
}

/// States of the children of a process, by name.
fn children(of: i32) -> Vec<(String, char)> {
    let list = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let state = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.to_owned(), rest.chars().next()?))
    };
    list.split_whitespace().filter_map(state).collect()
}

#[test]
fn orphans_are_reaped_and_the_end_is_orderly() {
    if !is_root("orphans_are_reaped_and_the_end_is_orderly") {
        return;
    }
    let mut agent = Agent::new(PID_1);
    let ends = agent.path("ends");
    agent.pod("1.yaml", "base", &obedient(&ends, "base"));
    agent.pod("2.yaml", "top", &obedient(&ends, "top"));
    agent.start(&[]);
    agent.wait_for("base", "Running");
    agent.wait_for("top", "Running");
    assert_eq!(agent.status().unwrap()["pid"], 1);

    // A process of the namespace whose parent ends: PID 1 inherits it, and has to reap it.
    let pid = agent.pid().as_raw();
    let orphan = "for i in 1 2 3 4 5; do sleep 0.3 & done";
    let entered = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "--pid", "--mount", "sh", "-c", orphan])
        .status()
        .unwrap();
    assert!(entered.success());
    until("the orphans are PID 1's", || {
        children(pid).iter().filter(|c| c.0 == "sleep").count() == 5
    });
    until("they are reaped", || children(pid).iter().all(|c| c.0 != "sleep"));
    assert!(children(pid).iter().all(|c| c.1 != 'Z'), "{:?}", children(pid));
    assert_eq!(
        agent.sees("top").as_deref(),
        Some("Running"),
        "nobody else was taken for an orphan"
    );

    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert_eq!(fs::read_to_string(ends).unwrap(), "top\nbase\n");
}

#[test]
fn what_is_missing_is_mounted_first() {
    if !is_root("what_is_missing_is_mounted_first") {
        return;
    }
    let mut agent = Agent::new(BARE);
    agent.pod("1.yaml", "one", "ls /proc/self/status && sleep 100");
    agent.start(&["--mount-missing"]);
    until("it serves", || agent.log().contains("agent: serving"));
    assert!(agent.log().contains("agent: mounted /proc\n"), "{}", agent.log());
    agent.wait_for("one", "Running");
    // Without being asked, it says what it misses and runs nothing.
    let mut other = Agent::new(BARE);
    other.start(&[]);
    assert_ne!(other.wait(), Some(0));
    assert!(other.log().contains("/proc"), "{}", other.log());
}
