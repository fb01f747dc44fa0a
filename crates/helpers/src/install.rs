//! Copies the running program to a directory that another container mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::place::{Attributes, put};

/// What the copy is called.
pub const NAME: &str = "holdfast";

/// Why the program could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The running program cannot be read.
    #[error("cannot read the running program: {0}")]
    Program(io::Error),
    /// The copy cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Copies the running program to `directory`, which is made if it is missing, and says where it is.
///
/// The copy appears whole or not at all, also when this is killed half-way or runs twice at once. A
/// container that runs an older copy keeps what it runs. A copy that is there and the same is left alone.
///
/// # Errors
/// See [`InstallError`].
pub fn install(directory: &Path) -> Result<PathBuf, InstallError> {
    let place = directory.join(NAME);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |cause| InstallError::Write { path, cause }
    };
    fs::create_dir_all(directory).map_err(at(directory))?;
    // The file itself, even if its name leads to a newer program by now.
    let own = fs::read("/proc/self/exe").map_err(InstallError::Program)?;
    put(&place, &own, Attributes::Mode(0o755), false).map_err(at(&place))?;
    Ok(place)
}
