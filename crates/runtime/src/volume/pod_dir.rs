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

/// A pod's directory, and its directory on a memory file system.
#[derive(Debug)]
pub(super) struct PodDir {
    path: PathBuf,
    /// Where `medium: Memory` volumes and `/dev/shm` are; made when first wanted.
    memory: Option<PathBuf>,
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
        Ok(Self { path, memory: None, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The pod's directory on a memory file system.
    pub(super) fn memory(&mut self) -> io::Result<&Path> {
        let found = match self.memory.take() {
            Some(found) => found,
            None => {
                let base = memory_base()?;
                let uid = self.path.file_name().unwrap_or_default().to_string_lossy();
                let path = base.join(memory_name(&uid));
                remove_in(&base, &memory_name(&uid))?;
                // Volumes in it are open to every user of the pod, and to no one else.
                fs::DirBuilder::new().mode(0o700).create(&path)?;
                path
            }
        };
        Ok(self.memory.insert(found))
    }

    /// Removes everything.
    pub(super) fn remove(mut self) -> io::Result<()> {
        let memory = self.memory.take();
        let first = memory.map_or(Ok(()), |path| remove_path(&path));
        first.and(remove_path(&self.path))
    }
}

/// The directory's name on the memory file system.
fn memory_name(uid: &str) -> String {
    format!("holdfast-{uid}")
}

/// A directory on a memory file system that this user may write to.
fn memory_base() -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let candidates = [Some(PathBuf::from("/dev/shm")), Some(PathBuf::from("/run")), runtime];
    candidates
        .into_iter()
        .flatten()
        .find(|path| {
            const TMPFS: u64 = 0x0102_1994;
            let tmpfs = rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == TMPFS);
            tmpfs && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
        })
        .ok_or_else(|| {
            let message = "no memory file system to write to: neither /dev/shm, /run nor \
                           $XDG_RUNTIME_DIR is one";
            io::Error::new(io::ErrorKind::Unsupported, message)
        })
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
    if let Ok(base) = memory_base() {
        remove_in(&base, &memory_name(uid))?;
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
        let mut dir = PodDir::create(temp.path(), &uid).unwrap();
        let memory = dir.memory().unwrap().to_owned();
        fs::write(memory.join("x"), "").unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        let path = dir.path().to_owned();
        assert_eq!(
            PodDir::create(temp.path(), &uid).unwrap_err().kind(),
            io::ErrorKind::ResourceBusy
        );
        remove_stale(temp.path()).unwrap();
        assert!(path.exists(), "in use");
        dir.remove().unwrap();
        assert!(!path.exists() && !memory.exists());
        assert!(PodDir::create(temp.path(), "../x").is_err());
    }

    #[test]
    fn what_a_killed_run_left_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let uid = format!("test-{}-b", std::process::id());
        let mut dir = PodDir::create(temp.path(), &uid).unwrap();
        let memory = dir.memory().unwrap().to_owned();
        let path = dir.path().to_owned();
        // Dropped without being removed: the lock goes, the files stay.
        drop(dir);
        assert!(path.exists() && memory.exists());
        remove_stale(temp.path()).unwrap();
        assert!(!path.exists() && !memory.exists());
        remove_stale(&temp.path().join("none")).unwrap();
    }
}
