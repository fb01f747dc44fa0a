//! Debian packages that the bench runs programs of.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A program, and the package it is in.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// A program in PATH, or the path of a file.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// A program, and the package it is in.
#[must_use]
pub const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What a node needs.
pub const NODE: &[Tool] = &[
    tool("/usr/lib/cni/ptp", "containernetworking-plugins"),
    tool("conntrack", "conntrack"),
    tool("containerd", "containerd"),
    tool("ctr", "containerd"),
    tool("ethtool", "ethtool"),
    tool("ip", "iproute2"),
    tool("iptables", "iptables"),
    tool("nsenter", "util-linux"),
    tool("runc", "runc"),
    tool("socat", "socat"),
];

/// Installs what is missing.
///
/// # Errors
/// When apt cannot, or is not there: what to install by hand.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let mut missing: Vec<&str> =
        tools.iter().filter(|tool| !installed(tool.program)).map(|tool| tool.package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand = || format!("install them by hand: apt-get install {packages}");
    if std::env::var_os("BENCH_NO_INSTALL").is_some() {
        bail!("the bench needs {packages}, and nothing is to be installed: {}", by_hand());
    }
    if !installed("apt-get") {
        bail!("the bench needs {packages}, and this is no Debian: {}", by_hand());
    }
    eprintln!("installing {packages} …");
    // A fresh system has no lists; an old list may name packages that are gone.
    apt(&["update"]).with_context(by_hand)?;
    let mut words = vec!["install", "-y", "--no-install-recommends"];
    words.extend(missing);
    apt(&words).with_context(by_hand)
}

fn apt(words: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    // Nothing is started: Debian's containerd service is not the bench's.
    let output = command
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .output()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        bail!("apt-get {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
