//! Copies the running program to a directory that another container mounts.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
/// The copy appears whole or not at all, also when this is killed half-way: it is written beside its
/// place and renamed. A container that runs an older copy keeps what it runs. A copy that is there and
/// the same is left alone.
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
    let mut own = File::open("/proc/self/exe").map_err(InstallError::Program)?;
    if is_same(&mut own, &place).map_err(InstallError::Program)? {
        return Ok(place);
    }
    // Always the same name: what a killed install left is overwritten by the next.
    let beside = directory.join(format!(".{NAME}.part"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&beside)(error)),
        _ => {}
    }
    let mut copy = File::create_new(&beside).map_err(at(&beside))?;
    let written = io::copy(&mut own, &mut copy)
        .and_then(|_| copy.set_permissions(Permissions::from_mode(0o755)))
        .and_then(|()| copy.sync_all())
        .and_then(|()| fs::rename(&beside, &place));
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(at(&place)(error));
    }
    Ok(place)
}

/// Whether a regular file that may be executed has the same bytes; leaves `own` at its beginning.
fn is_same(own: &mut File, place: &Path) -> io::Result<bool> {
    use io::{Read, Seek};
    let length = own.metadata()?.len();
    let Ok(mut other) = File::open(place) else { return Ok(false) };
    let is_program = |meta: fs::Metadata| {
        meta.is_file() && meta.len() == length && meta.permissions().mode() & 0o555 == 0o555
    };
    if !other.metadata().is_ok_and(is_program) {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let same = loop {
        let count = own.read(&mut ours)?;
        if count == 0 {
            break true;
        }
        if other.read_exact(&mut theirs[..count]).is_err() || ours[..count] != theirs[..count] {
            break false;
        }
    };
    own.rewind()?;
    Ok(same)
}
