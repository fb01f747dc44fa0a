//! Fuzzing with libFuzzer.

use std::fs;

use anyhow::{Context as _, Result, bail};

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
        // What is found goes to the first directory; the seeds stay as they are committed.
        let found = root().join("fuzz/corpus").join(&target);
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let seeds = root().join("fuzz/seeds").join(&target);
        let dictionary = format!("fuzz/{target}.dict");
        let dictionary = root().join(&dictionary).is_file().then(|| format!("-dict={dictionary}"));
        // No sanitizer: outside of `sys` there is no unsafe code for one to look at. The options of
        // a fuzzing build are unstable; the stable compiler has them when told so. RUSTFLAGS, which
        // cargo-fuzz sets, take the place of this repository's own.
        Run::new(&cargo_fuzz)
            .args(["fuzz", "run", "--sanitizer", "none", &target])
            .args([&found])
            .args(seeds.is_dir().then_some(&seeds))
            .args(["--", &time, "-max_len=65536", "-timeout=5", "-rss_limit_mb=1024"])
            .args(dictionary)
            .env("RUSTC_BOOTSTRAP", "1")
            .go()?;
    }
    Ok(())
}
