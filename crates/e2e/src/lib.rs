//! The judge: a real Kubernetes for tests, and Holdfast held against it.
//!
//! Holdfast claims the kubelet's order, so what decides is the kubelet. This crate brings up a real
//! cluster on one machine ([`cluster`]), makes images without a registry ([`image`]), and compares what
//! the kubelet does with a pod to what Holdfast does with it ([`judge`], [`upstream`]).
//!
//! It is outside of the house: nothing that users run depends on it.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod deploy;
pub mod go;
pub mod image;
#[allow(rustdoc::private_intra_doc_links, reason = "its map is for those who read its sources")]
pub mod judge;
pub mod packages;
pub mod upstream;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// The repository that this was built from.
#[must_use]
pub fn workspace() -> PathBuf {
    // crates/e2e is two below it.
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Where what was built for the bench is kept, from one run to the next.
#[must_use]
pub fn cache() -> PathBuf {
    workspace().join("target/bench")
}

/// A command that is terminated when the thread that starts it ends, by whatever: what runs for minutes
/// should not outlive whoever waits for it.
#[must_use]
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}
