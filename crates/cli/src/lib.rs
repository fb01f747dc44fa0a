//! The `holdfast` command: argument parsing, wiring, output and exit codes.
//!
//! Data goes to stdout, messages to stderr. Exit codes are documented with each command.

#![forbid(unsafe_code)]

mod args;
mod output;
mod run;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// Bad usage or a bad manifest.
const EXIT_USAGE: u8 = 2;

/// The definition of the command line, for completions and manual pages.
pub fn command() -> clap::Command {
    args::Cli::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let result = match cli.command {
        args::Command::Run(args) => run::run(*args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            let (red, reset) = (anstyle::AnsiColor::Red.on_default().bold(), anstyle::Reset);
            anstream::eprintln!("{red}error{reset}: {e:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
