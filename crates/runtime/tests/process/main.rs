//! The process runtime on real processes.
//!
//! A launcher must be forked before any thread exists, so this has a `main` of its own: it runs every
//! test in a process of its own, several at a time, and each of those forks its launcher first.
//!
//! Most of it needs root. Without root those tests are skipped with that reason; with `CI` set in the
//! environment they fail instead.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "a test program: it may fail"
)]

mod harness;

mod basics;
mod exec;
mod isolation;
mod killing;
mod memory;
mod network;
mod output;
mod root;
mod security;
mod timing;

use harness::Test;

fn main() -> std::process::ExitCode {
    let tests: Vec<Test> = [
        basics::TESTS,
        exec::TESTS,
        isolation::TESTS,
        killing::TESTS,
        memory::TESTS,
        network::TESTS,
        output::TESTS,
        root::TESTS,
        security::TESTS,
        timing::TESTS,
    ]
    .concat();
    harness::main(&tests)
}
