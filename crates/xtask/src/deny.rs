//! Licences, bans and sources of the dependencies.

use anyhow::Result;

use crate::run::{Run, tool};

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

pub(crate) fn run() -> Result<()> {
    // Not `advisories`: their database comes from the network and changes by itself.
    Run::new(tool("cargo-deny", VERSION)?)
        .args(["--locked", "check", "bans", "licenses", "sources"])
        .go()
}
