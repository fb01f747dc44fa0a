//! `holdfast run` from end to end: the real binary, real processes, real signals.
//!
//! Some tests need root. Without it they are skipped and say so; with `CI` set they fail instead.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "a test program")]

/// The word that makes this program the judge's actor.
const ACTOR: &str = "as-actor";

mod containerd;
mod harness;
mod image_archive;
mod objects;
mod registry;
mod run;

mod bad_input;
mod cgroup2;
mod config;
mod cri;
mod cri_images;
mod cri_output;
mod cronjobs;
mod ending;
mod examples;
mod explained;
mod full_disk;
mod images;
mod inits;
mod isolation;
mod killing;
mod output;
mod racks;
mod readers;
mod sidecars;
mod size;
mod timelines;

fn main() -> std::process::ExitCode {
    // In a container of a test, which has this program for it.
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == ACTOR).is_some() {
        return holdfast_actor::act(words);
    }
    let tests = [
        cronjobs::TESTS,
        bad_input::TESTS,
        cgroup2::TESTS,
        config::TESTS,
        ending::TESTS,
        killing::TESTS,
        output::TESTS,
        racks::TESTS,
        readers::TESTS,
        size::TESTS,
        timelines::TESTS,
        examples::TESTS,
        explained::TESTS,
        full_disk::TESTS,
        images::TESTS,
        inits::TESTS,
        isolation::TESTS,
        sidecars::TESTS,
        cri::TESTS,
        cri_images::TESTS,
        cri_output::TESTS,
    ]
    .concat();
    let with_containerd = harness::with_containerd(&tests, cri::AS_WITH_PROCESSES);
    harness::main(&[tests, with_containerd].concat())
}
