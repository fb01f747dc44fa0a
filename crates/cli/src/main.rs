//! The `holdfast` binary: see the library of the same crate.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_cli::main()
}
