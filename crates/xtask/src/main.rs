//! The repository's own tasks: `cargo xtask TASK`.
//!
//! Each task is one thing that a developer and CI both do, so that what CI says can be had at home
//! with the same words. `.ci/run` is a list of them.

#![forbid(unsafe_code)]

mod debian;
mod deny;
mod fuzz;
mod generate;
mod loc;
mod pictures;
mod purity;
mod run;
mod screens;
mod test;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use generate::What;

/// The repository's own tasks
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test of the workspace, after installing what they need
    Test(test::Args),
    /// Run tests in a virtual machine with a plain cgroup v2 (qemu; installed if missing)
    Vm(vm::Args),
    /// Check formatting, lints and rustdoc of the whole workspace, warnings denied
    Lint,
    /// Check that the crates depend on each other as the architecture says, and where `unsafe` is
    Purity,
    /// Check licences, bans and sources of the dependencies (cargo-deny; installed if missing)
    Deny,
    /// Check that no source file has grown too long
    Loc,
    /// Run the fuzz targets (cargo-fuzz; installed if missing)
    Fuzz(fuzz::Args),
    /// Write shell completions
    Completions(generate::Args),
    /// Write man pages
    Man(generate::Args),
    /// Draw the pictures of the documentation anew, from runs of the examples
    Pictures,
    /// Bring up, look at and take down a real Kubernetes on this machine (`cargo xtask cluster help`)
    #[command(disable_help_flag = true)]
    Cluster(Rest),
    /// Write the plain manifests of deploy/manifests anew, from the chart
    Deploy,
    /// Write container images from local files, without a registry
    #[command(disable_help_flag = true)]
    Image(Rest),
    /// Run pods on the kubelet and on Holdfast, and compare (`cargo xtask judge help`)
    #[command(disable_help_flag = true)]
    Judge(Rest),
    /// Run upstream's own node tests (`cargo xtask upstream --help`)
    #[command(disable_help_flag = true)]
    Upstream(Rest),
}

/// The words after a task that `crates/e2e` carries out: a program of its own, so that the other tasks
/// need not be built with it.
#[derive(clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Test(args) => test::run(args),
        Task::Vm(args) => vm::run(args),
        Task::Lint => lint(),
        Task::Purity => purity::run(),
        Task::Deny => deny::run(),
        Task::Loc => loc::run(),
        Task::Fuzz(args) => fuzz::run(args),
        Task::Completions(args) => generate::run(What::Completions, args),
        Task::Man(args) => generate::run(What::Man, args),
        Task::Pictures => pictures::run().and_then(|()| screens::run()),
        Task::Cluster(rest) => e2e("cluster", rest),
        Task::Deploy => e2e("deploy", Rest { words: Vec::new() }),
        Task::Image(rest) => e2e("image", rest),
        Task::Judge(rest) => e2e("judge", rest),
        Task::Upstream(rest) => e2e("upstream", rest),
    }
}

fn lint() -> anyhow::Result<()> {
    run::cargo(["fmt", "--all", "--check"]).go()?;
    run::cargo(["clippy", "--workspace", "--all-targets", "--locked", "--"])
        .args(["-D", "warnings", "-D", "clippy::undocumented_unsafe_blocks"])
        .go()?;
    run::cargo(["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .go()
}

fn e2e(task: &str, rest: Rest) -> anyhow::Result<()> {
    run::cargo(["run", "--quiet", "--package", "holdfast-e2e", "--", task]).args(rest.words).go()
}
