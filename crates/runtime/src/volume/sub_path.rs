//! `subPath`: a part of a volume, never anything outside it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::MountError;
use crate::beneath::{self, Scope};

/// Finds the part `sub_path` of the volume at `volume` and makes a directory if there is nothing.
/// Returns a path without symbolic links (kubelet: `makeMounts`, `doBindSubPath`).
///
/// # Errors
/// Kubernetes' sentences, which keep the host's details to themselves.
pub(super) fn resolve(
    volume: &Path,
    sub_path: &str,
    mount: &str,
    container: &str,
) -> Result<PathBuf, MountError> {
    let path = check(sub_path)?;
    let failed = |making: bool| {
        let (mount, container) = (mount.to_owned(), container.to_owned());
        move |source: io::Error| match making {
            true => MountError::SubPathCreate { mount, container, source },
            false => MountError::SubPath { mount, container, source },
        }
    };
    let root = beneath::open_root(volume).map_err(failed(false))?;
    let found = match beneath::open(&root, path, OFlags::PATH, Scope::Beneath) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            // It gets the volume's mode, so that fsGroup and emptyDir stay writable.
            let mode = fs::metadata(volume).map_err(failed(true))?.permissions().mode() & 0o7777;
            let mode = Mode::from_raw_mode(mode);
            beneath::make_dirs(&root, path, mode, Scope::Beneath).map_err(failed(true))?
        }
        other => other.map_err(failed(false))?,
    };
    real_path(&found).map_err(failed(false))
}

/// Refuses what cannot be a part of a volume whatever is in that.
pub(super) fn check(sub_path: &str) -> Result<&Path, MountError> {
    let path = Path::new(sub_path);
    if path.is_absolute() {
        return Err(MountError::SubPathAbsolute(sub_path.to_owned()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(MountError::SubPathBackstep(sub_path.to_owned()));
    }
    Ok(path)
}

/// Where the file that a descriptor stands for is now.
fn real_path(fd: &OwnedFd) -> io::Result<PathBuf> {
    let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))?;
    // A file that was removed meanwhile shows as `… (deleted)`, or as another file of that name.
    let (here, there) = (rustix::fs::fstat(fd)?, rustix::fs::lstat(&path)?);
    if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn find(volume: &Path, sub_path: &str) -> Result<PathBuf, String> {
        resolve(volume, sub_path, "v", "c").map_err(|err| err.to_string())
    }

    #[test]
    fn parts_are_found_or_made() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("v");
        fs::create_dir_all(volume.join("..data_1")).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(volume.join("..data_1/key"), "x").unwrap();
        symlink("..data_1", volume.join("..data")).unwrap();
        symlink("..data/key", volume.join("key")).unwrap();
        assert_eq!(find(&volume, "key"), Ok(volume.join("..data_1/key")));
        assert_eq!(find(&volume, "a/b"), Ok(volume.join("a/b")));
        for made in ["a", "a/b"] {
            let mode = fs::metadata(volume.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o777, "{made} has the volume's mode");
        }
        assert_eq!(find(&volume, "."), Ok(volume.clone()));
    }

    #[test]
    fn nothing_outside_is_reached() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::write(temp.path().join("secret"), "x").unwrap();
        symlink("../secret", volume.join("up")).unwrap();
        symlink(temp.path(), volume.join("abs")).unwrap();
        symlink("/", volume.join("root")).unwrap();
        symlink("dangling", volume.join("dangling-link")).unwrap();
        let words = "failed to prepare subPath for volumeMount \"v\" of container \"c\"";
        for out in ["up", "abs/secret", "root", "root/etc/passwd"] {
            assert_eq!(find(&volume, out), Err(words.into()), "{out}");
        }
        let words = "failed to create subPath directory for volumeMount \"v\" of container \"c\"";
        assert_eq!(find(&volume, "dangling-link"), Err(words.into()));
        // Nothing is made through a link that leads out.
        assert!(find(&volume, "abs/made").is_err());
        assert!(!temp.path().join("made").exists());
        let error = find(&volume, "/etc").unwrap_err();
        assert_eq!(error, "error SubPath `/etc` must not be an absolute path");
        let error = find(&volume, "a/../../b").unwrap_err();
        assert_eq!(error, "unable to provision SubPath `a/../../b`: must not contain '..'");
    }
}
