//! The repository's own tasks: `cargo xtask TASK`.
//!
//! Each task is one thing that a developer and CI both do, so that what CI says can be had at home
//! with the same words. `.ci/run` is a list of them.

#![forbid(unsafe_code)]

mod deny;
mod fuzz;
mod generate;
mod loc;
mod purity;
mod run;
mod test;

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
        Task::Lint => lint(),
        Task::Purity => purity::run(),
        Task::Deny => deny::run(),
        Task::Loc => loc::run(),
        Task::Fuzz(args) => fuzz::run(args),
        Task::Completions(args) => generate::run(What::Completions, args),
        Task::Man(args) => generate::run(What::Man, args),
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
