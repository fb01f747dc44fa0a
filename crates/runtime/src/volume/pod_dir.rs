//! The directory that holds all of a pod's files, and goes with the pod.
//!
//! `<state>/pods/<uid>/` has the layout of the kubelet's pod directory. A lock file in it is held as
//! long as its process lives, so that what a killed run left behind can be told from what is in use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::beneath;

/// A pod's directory.
#[derive(Debug)]
pub(super) struct PodDir {
    path: PathBuf,
    _lock: File,
}

impl PodDir {
    /// Makes the directory. What an earlier pod of this UID left is removed.
    pub(super) fn create(state: &Path, uid: &str) -> io::Result<Self> {
        if uid.is_empty() || uid.contains('/') || uid.starts_with('.') {
            let message = format!("{uid:?} cannot be the name of a directory");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let pods = state.join("pods");
        // Only root looks into the volumes of others: secrets lie in them.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&pods)?;
        let path = pods.join(uid);
        let _all = lock_all(&pods)?;
        remove_pod(&pods, uid)?;
        fs::DirBuilder::new().mode(0o750).create(&path)?;
        let lock = File::create_new(path.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes everything.
    pub(super) fn remove(self) -> io::Result<()> {
        remove_path(&self.path)
    }
}

fn remove_path(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    beneath::remove_tree(beneath::open_root(parent)?, name)
}

fn remove_in(dir: &Path, name: &str) -> io::Result<()> {
    beneath::remove_tree(beneath::open_root(dir)?, name.as_ref())
}

/// Held while directories come and go: one that has just been made has no lock of its own yet.
fn lock_all(pods: &Path) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(pods.join(".lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// Removes the directory of a pod that no process holds.
///
/// # Errors
/// `ResourceBusy` if one does.
fn remove_pod(pods: &Path, uid: &str) -> io::Result<()> {
    match File::open(pods.join(uid).join("lock")) {
        Ok(lock) => {
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                let message = format!("pod {uid} is already running from this state directory");
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(err),
    }
    remove_in(pods, uid)
}

/// Removes what killed runs left of their pods in `state`. Pods in use are left alone.
///
/// # Errors
/// The first that could not be removed; the others are.
pub fn remove_stale(state: &Path) -> io::Result<()> {
    let pods = state.join("pods");
    let entries = match fs::read_dir(&pods) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    let _all = lock_all(&pods)?;
    let mut result = Ok(());
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        match remove_pod(&pods, &name) {
            Err(err) if err.kind() == io::ErrorKind::ResourceBusy => {}
            other => result = result.and(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_directory_goes_with_its_pod() {
        let temp = tempfile::tempdir().unwrap();
        let uid = format!("test-{}-a", std::process::id());
        let dir = PodDir::create(temp.path(), &uid).unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        let path = dir.path().to_owned();
        assert_eq!(
            PodDir::create(temp.path(), &uid).unwrap_err().kind(),
            io::ErrorKind::ResourceBusy
        );
        remove_stale(temp.path()).unwrap();
        assert!(path.exists(), "in use");
        dir.remove().unwrap();
        assert!(!path.exists());
        assert!(PodDir::create(temp.path(), "../x").is_err());
    }

    #[test]
    fn what_a_killed_run_left_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let uid = format!("test-{}-b", std::process::id());
        let dir = PodDir::create(temp.path(), &uid).unwrap();
        let path = dir.path().to_owned();
        // Dropped without being removed: the lock goes, the files stay.
        drop(dir);
        assert!(path.exists());
        remove_stale(temp.path()).unwrap();
        assert!(!path.exists());
        remove_stale(&temp.path().join("none")).unwrap();
    }
}
