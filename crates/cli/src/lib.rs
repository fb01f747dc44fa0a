//! The `holdfast` command: argument parsing, wiring, output and exit codes.
//!
//! Data goes to stdout, messages to stderr. Exit codes are documented with each command.

#![forbid(unsafe_code)]

mod agent;
mod args;
mod doctor;
mod explain;
mod manager;
mod manifests;
mod output;
mod render;
mod run;
mod timeline;
mod wait;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};

/// Bad usage or a bad manifest.
const EXIT_USAGE: u8 = 2;

/// The definition of the command line, for completions and manual pages.
pub fn command() -> clap::Command {
    args::Cli::command()
}

/// An event loop of one thread.
fn reactor() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")
}

/// The exit code of a program that a signal ended, as shells say it.
fn exit_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn install(args: &args::InstallArgs) -> anyhow::Result<u8> {
    let place = holdfast_helpers::install::install(&args.directory)?;
    output::say!("installed {}", place.display());
    Ok(0)
}

/// The command line. Called `manager`, as in the Netmaker operator's image, the program is that command:
/// changing the image is enough.
fn words(mut args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let program = args.next().unwrap_or_default();
    let is_manager = Path::new(&program).file_name() == Some(OsStr::new("manager"));
    std::iter::once(program).chain(is_manager.then(|| "manager".into())).chain(args).collect()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse_from(words(std::env::args_os()));
    let result = match cli.command {
        args::Command::Run(args) => run::run(*args),
        args::Command::Explain(args) => explain::run(&args),
        args::Command::Timeline(args) => timeline::run(&args),
        args::Command::Wait(args) => wait::run(args),
        args::Command::Render(args) => render::run(args),
        args::Command::Install(args) => install(&args),
        args::Command::Manager(args) => manager::run(&args),
        args::Command::Agent(args) => agent::run(args),
        args::Command::Status(args) => agent::status(args),
        args::Command::Logs(args) => agent::logs(args),
        args::Command::Restart(args) => agent::restart(args),
        args::Command::Stop(args) => agent::stop(args),
        args::Command::Doctor(args) => doctor::run(&args),
    };
    let code = result.unwrap_or_else(|e| {
        output::error(format_args!("{e:#}"));
        EXIT_USAGE
    });
    output::wait();
    ExitCode::from(code)
}
