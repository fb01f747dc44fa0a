//! Shell completions and man pages, made from the definition of the command line.
//!
//! Only these two tasks need the product itself. So that the others run while it does not build,
//! they sit behind the feature `generate`, and the plain xtask starts itself anew with it.

use std::path::PathBuf;

use anyhow::Result;

/// Options of `completions` and `man`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write [default: target/completions or target/man]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What to write.
#[derive(Clone, Copy)]
pub(crate) enum What {
    Completions,
    Man,
}

impl What {
    /// The name of the task, and of the directory below `target/`.
    const fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Man => "man",
        }
    }
}

#[cfg(not(feature = "generate"))]
pub(crate) fn run(what: What, args: Args) -> Result<()> {
    let mut words = vec![what.name().into()];
    if let Some(dir) = args.dir {
        words.extend(["--dir".into(), std::path::absolute(dir)?.into_os_string()]);
    }
    crate::run::cargo(["run", "--quiet", "--package", "xtask", "--features", "generate", "--"])
        .args::<std::ffi::OsString>(words)
        .go()
}

#[cfg(feature = "generate")]
pub(crate) fn run(what: What, args: Args) -> Result<()> {
    use anyhow::Context as _;

    let dir = args.dir.unwrap_or_else(|| crate::run::root().join("target").join(what.name()));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let mut command = holdfast_cli::command();
    match what {
        What::Completions => {
            let name = command.get_name().to_owned();
            for shell in [
                clap_complete::Shell::Bash,
                clap_complete::Shell::Elvish,
                clap_complete::Shell::Fish,
                clap_complete::Shell::Zsh,
            ] {
                let file = clap_complete::generate_to(shell, &mut command, &name, &dir)
                    .with_context(|| format!("{shell} completions in {}", dir.display()))?;
                println!("{}", file.display());
            }
        }
        What::Man => {
            clap_mangen::generate_to(command, &dir)
                .with_context(|| format!("man pages in {}", dir.display()))?;
            println!("{}", dir.display());
        }
    }
    Ok(())
}
