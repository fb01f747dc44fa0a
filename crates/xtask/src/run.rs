//! Runs other programs, and says which one failed.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`; the place of compilation is as good elsewhere.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors().nth(2).map_or_else(|| here.clone(), Path::to_path_buf)
}

/// Cargo, in the root of the repository.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Run {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Run::new(&cargo).args(args)
}

/// A command to be run in the root of the repository.
pub(crate) struct Run(Command);

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(root());
        Self(command)
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it in another directory.
    pub(crate) fn within(mut self, dir: &Path) -> Self {
        self.0.current_dir(dir);
        self
    }

    /// Runs it with our own stdout and stderr, after printing it to stderr.
    ///
    /// # Errors
    /// If it cannot be started or does not end well.
    pub(crate) fn go(self) -> Result<()> {
        eprintln!("xtask: {}", self.shown());
        self.quietly()
    }

    /// The same without printing it.
    ///
    /// # Errors
    /// As [`Run::go`].
    pub(crate) fn quietly(mut self) -> Result<()> {
        let shown = self.shown();
        let status = self.0.status().with_context(|| format!("cannot run `{shown}`"))?;
        if !status.success() {
            bail!("`{shown}` failed: {status}");
        }
        Ok(())
    }

    /// Runs it and returns its stdout.
    ///
    /// # Errors
    /// If it cannot be started, does not end well, or writes no text.
    pub(crate) fn text(mut self) -> Result<String> {
        let shown = self.shown();
        self.0.stderr(Stdio::inherit());
        let output = self.0.output().with_context(|| format!("cannot run `{shown}`"))?;
        if !output.status.success() {
            bail!("`{shown}` failed: {}", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("output of `{shown}`"))
    }

    /// The command as one would type it: without the path of the program.
    fn shown(&self) -> String {
        let program = Path::new(self.0.get_program()).file_name().unwrap_or_default();
        let words = std::iter::once(program).chain(self.0.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a program is in `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // The system's directories are not always in the path of a user that is not root.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).any(|dir| dir.join(program).is_file())
}

/// Installs a cargo subcommand of a pinned version below `target/`, once, and returns its path.
///
/// It is built without optimizations: it runs for seconds, and building it takes minutes.
///
/// # Errors
/// If cargo cannot build it.
pub(crate) fn tool(name: &str, version: &str) -> Result<PathBuf> {
    let dir = root().join("target/tools").join(format!("{name}-{version}"));
    let program = dir.join("bin").join(name);
    if !program.is_file() {
        let dir = dir.to_string_lossy();
        let package = format!("{name}@{version}");
        cargo(["install", "--locked", "--debug", "--root", &dir, &package])
            .go()
            .with_context(|| format!("{name} {version} is needed and could not be installed"))?;
    }
    Ok(program)
}
