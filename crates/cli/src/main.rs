//! The `holdfast` binary: see the library of the same crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_cli::main()
}
