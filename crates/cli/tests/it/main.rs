//! `holdfast run` from end to end: the real binary, real processes, real signals.
//!
//! Some tests need root. Without it they are skipped and say so; with `CI` set they fail instead.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "a test program")]

mod harness;
mod objects;
mod run;

mod cronjobs;

fn main() -> std::process::ExitCode {
    harness::main(&[cronjobs::TESTS].concat())
}
