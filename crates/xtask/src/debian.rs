//! Debian packages that tasks need.

use anyhow::{Result, bail};

use crate::run::{Run, is_installed};

/// A program that a task runs.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// The Debian package it is in.
    pub(crate) package: &'static str,
    /// What needs it.
    pub(crate) suite: &'static str,
}

/// Installs the packages of the tools that are missing, or says what is missing for what.
///
/// # Errors
/// If something is missing and may not or cannot be installed.
pub(crate) fn ensure(tools: &[Tool], no_install: bool) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !is_installed(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let needs = missing
        .iter()
        .map(|tool| format!("  {} (package {}): {}", tool.program, tool.package, tool.suite))
        .collect::<Vec<_>>()
        .join("\n");
    let by_hand = format!("install them by hand, e.g. apt-get install {}", packages.join(" "));
    if no_install || !is_installed("apt-get") {
        bail!("the tests need programs that are not installed:\n{needs}\n{by_hand}");
    }
    eprintln!("xtask: installing what the tests need:\n{needs}");
    let mut words = vec!["install", "-y", "--no-install-recommends"];
    words.extend(&packages);
    update()
        .and_then(|()| apt(&words))
        .map_err(|e| e.context(format!("the tests need:\n{needs}\n{by_hand}")))
}

/// Fetches the lists of packages.
///
/// # Errors
/// If apt cannot.
pub(crate) fn update() -> Result<()> {
    apt(&["update"])
}

fn apt(words: &[&str]) -> Result<()> {
    let run =
        if is_root()? { Run::new("apt-get") } else { Run::new("sudo").args(["-n", "apt-get"]) };
    // In that runlevel no package starts its service (invoke-rc.d): only the programs are wanted.
    run.args(words).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").go()
}

fn is_root() -> Result<bool> {
    Ok(Run::new("id").args(["-u"]).text()?.trim() == "0")
}
