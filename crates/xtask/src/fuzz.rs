//! Fuzzing with libFuzzer.

use anyhow::{Result, bail};

use crate::loc::rust_files;
use crate::run::{Run, root, tool};

/// The version of cargo-fuzz.
const VERSION: &str = "0.13.2";

/// Options of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how many seconds each target runs
    #[arg(default_value_t = 60)]
    seconds: u32,
    /// Only the target of this name
    #[arg(long)]
    target: Option<String>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut targets: Vec<String> = rust_files(&root().join("fuzz/fuzz_targets"))?
        .iter()
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    targets.retain(|name| args.target.as_ref().is_none_or(|wanted| wanted == name));
    if targets.is_empty() {
        bail!("there is no such target in fuzz/fuzz_targets");
    }
    let cargo_fuzz = tool("cargo-fuzz", VERSION)?;
    let time = format!("-max_total_time={}", args.seconds);
    for target in targets {
        // Sanitizers are unstable options; the stable compiler has them when told so. RUSTFLAGS,
        // which cargo-fuzz sets, take the place of this repository's own: the sanitizer cannot be
        // linked statically.
        Run::new(&cargo_fuzz)
            .args(["fuzz", "run", &target, "--", &time])
            .env("RUSTC_BOOTSTRAP", "1")
            .go()?;
    }
    Ok(())
}
