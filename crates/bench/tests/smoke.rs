//! The bench works: every measurement is made once, in small. How long anything takes is not judged.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use holdfast_bench::run::{Holdfast, Size};
use holdfast_bench::{engine, run};

/// `holdfast` as it is in the sources now, built as this test was; of the whole workspace, whose features
/// it is built with when all tests are run, lest all that it depends on be built once more.
fn holdfast() -> PathBuf {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", "holdfast"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(build.success(), "holdfast-cli does not build");
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("tests are in target/…/deps");
    profile.join("holdfast")
}

#[test]
fn the_engine_is_measured() {
    let section = engine::report(1, Duration::from_millis(1), 100);
    assert_eq!(section.len(), 7, "{section}");
}

#[test]
fn real_processes_are_measured() {
    let holdfast = Holdfast::find(Some(holdfast())).expect("there is a binary");
    let section = run::report(&holdfast, Size::SMOKE).expect("every pod does what it should");
    assert_eq!(section.len(), 9, "{section}");
    assert!(!section.to_string().contains("NaN"), "{section}");
}
