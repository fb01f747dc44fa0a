//! The whole test suite.

use anyhow::{Result, bail};

use crate::run::{self, Run, is_installed};

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail rather than install Debian packages
    #[arg(long)]
    no_install: bool,
    /// Handed on to `cargo test`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// A program that some tests run.
struct Tool {
    program: &'static str,
    /// The Debian package it is in.
    package: &'static str,
    /// What needs it.
    suite: &'static str,
}

/// What the suites need beside Rust and a C compiler. The test bench (crate e2e) is not in this list: it
/// takes root, and knows itself what its nodes are made of.
const TOOLS: &[Tool] =
    &[Tool { program: "ip", package: "iproute2", suite: "pods with a network of their own" }];

pub(crate) fn run(args: Args) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !is_installed(tool.program)).collect();
    if !missing.is_empty() {
        install(&missing, &args)?;
    }
    // Suites share a cluster that is up, and leave it up for the next.
    let cluster = run::root().join("target/cluster/default");
    let was_up = cluster.exists();
    let mut tests = run::cargo(["test", "--workspace", "--locked"]).args(&args.rest);
    if args.no_install {
        tests = tests.env("BENCH_NO_INSTALL", "1");
    }
    let result = tests.go();
    if !was_up && cluster.exists() {
        run::cargo(["run", "--quiet", "--package", "holdfast-e2e", "--", "cluster", "down"])
            .go()?;
    }
    result
}

/// Installs Debian packages, or says what is missing for what.
fn install(missing: &[&Tool], args: &Args) -> Result<()> {
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let needs = missing
        .iter()
        .map(|tool| format!("  {} (package {}): {}", tool.program, tool.package, tool.suite))
        .collect::<Vec<_>>()
        .join("\n");
    let by_hand = format!("install them by hand, e.g. apt-get install {}", packages.join(" "));
    if args.no_install || !is_installed("apt-get") {
        bail!("the tests need programs that are not installed:\n{needs}\n{by_hand}");
    }
    eprintln!("xtask: installing what the tests need:\n{needs}");
    let apt = |words: &[&str]| {
        let run =
            if is_root()? { Run::new("apt-get") } else { Run::new("sudo").args(["-n", "apt-get"]) };
        run.args(words).env("DEBIAN_FRONTEND", "noninteractive").go()
    };
    let mut words = vec!["install", "-y", "--no-install-recommends"];
    words.extend(&packages);
    apt(&["update"])
        .and_then(|()| apt(&words))
        .map_err(|e| e.context(format!("the tests need:\n{needs}\n{by_hand}")))
}

fn is_root() -> Result<bool> {
    Ok(Run::new("id").args(["-u"]).text()?.trim() == "0")
}
