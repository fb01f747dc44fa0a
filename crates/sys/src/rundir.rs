//! The run directory: where one run of `holdfast` keeps what cannot vanish by itself.
//!
//! ```text
//!   <state>/.lock            held while a run directory is made or a dead one is removed
//!   <state>/<run>/lock       held by the launcher as long as it lives
//!   <state>/<run>/cgroup     the path of the run's cgroup
//! ```
//! Whoever can take a run's `lock` knows that its owner is dead, kills what is left in its cgroup and
//! removes both. Nothing else outlives a launcher: mounts and networks are in namespaces.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::cgroup::Cgroup;
use crate::paths;

/// How long a dead run's processes may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// A run directory that we own. The lock goes with the value (and with the process).
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    state: PathBuf,
    lock: File,
}

impl RunDir {
    /// Makes `<state>/<run>` and locks it; `state` is made if missing, for its owner only.
    ///
    /// # Errors
    /// EACCES and its kin; EEXIST if a run of that name is there.
    pub fn create(state: &Path, run: &str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
        check_owner(state)?;
        let _guard = lock_state(state)?;
        let path = state.join(run);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::create(path.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, state: state.to_owned(), lock })
    }

    /// Takes over the directory of a run whose owner is dead; `None` if it lives, or if there is no
    /// such directory.
    ///
    /// # Errors
    /// What stood in the way.
    pub fn take_over(state: &Path, run: &str) -> io::Result<Option<Self>> {
        let path = state.join(run);
        let _guard = match lock_state(state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let lock = match File::open(path.join("lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Some(Self { path, state: state.to_owned(), lock })),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its staging area: what is mounted there is in the launcher's mount namespace only.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.path.join("mnt")
    }

    /// Writes down the run's cgroup, before that is made.
    ///
    /// # Errors
    /// What writing says.
    pub fn record_cgroup(&self, cgroup: &Cgroup) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        fs::write(self.path.join("cgroup"), cgroup.path().as_os_str().as_bytes())
    }

    /// Lets go of the lock in a copy of the owner that will not come back: the run must look dead as
    /// soon as its owner is.
    ///
    /// The value must not be used or dropped any more: callers exec or `_exit`.
    pub(crate) fn forget_lock_in_child(&self) {
        use std::os::fd::AsRawFd;
        // SAFETY: the callers diverge, so this value, the only owner of the descriptor in this
        // process, never acts on it again.
        unsafe { libc::close(self.lock.as_raw_fd()) };
    }

    /// Removes it.
    ///
    /// # Errors
    /// What stood in the way.
    pub fn remove(self) -> io::Result<()> {
        let _guard = lock_state(&self.state)?;
        remove_run(&self.path)
    }
}

/// Removes a run directory, the lock last: without it nobody would dare to finish what we left.
fn remove_run(run: &Path) -> io::Result<()> {
    let lock = run.join("lock");
    for entry in fs::read_dir(run)? {
        let path = entry?.path();
        if path == lock {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(_) => paths::remove_tree(&path)?,
        }
    }
    fs::remove_file(lock)?;
    fs::remove_dir(run)
}

/// Refuses a state directory that someone else made or may change: what we find there we would kill and
/// remove, and in `/tmp` anyone can have been first.
fn check_owner(state: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(state)?;
    let problem = if meta.uid() != rustix::process::geteuid().as_raw() {
        format!("it belongs to user {}", meta.uid())
    } else if meta.mode() & 0o002 != 0 {
        "everyone may write to it".to_owned()
    } else {
        return Ok(());
    };
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} is no safe place for it: {problem}", state.display()),
    ))
}

fn lock_state(state: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(state.join(".lock"))?;
    loop {
        match rustix::fs::flock(file.as_fd(), FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|()| file).map_err(io::Error::from),
        }
    }
}

/// Removes what runs left that were killed together with their launcher. The answer tells what could
/// not be removed, a line each.
#[must_use]
pub fn cleanup_stale(state: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(state) else { return Vec::new() };
    let runs: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|p| p.is_dir()).collect();
    if runs.is_empty() {
        return Vec::new();
    }
    let _guard = match lock_state(state) {
        Ok(guard) => guard,
        Err(error) => return vec![format!("cannot lock {}: {error}", state.display())],
    };
    let mut problems = Vec::new();
    for run in runs {
        if let Err(error) = cleanup_one(&run) {
            let run = run.display();
            problems.push(format!("cannot remove what a dead run left in {run}: {error}"));
        }
    }
    problems
}

/// Removes what one run left whose launcher is known to be dead. Waits for the launcher's last children
/// to notice, for a short time.
///
/// # Errors
/// What could not be removed.
pub fn cleanup_dead(run: &Path) -> io::Result<()> {
    let Some(state) = run.parent() else { return Ok(()) };
    if !run.exists() {
        return Ok(());
    }
    let lock = File::open(run.join("lock"));
    if let Ok(lock) = lock {
        // A wait with a limit: flock has none of its own, so a thread waits for us.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = rustix::fs::flock(&lock, FlockOperation::LockExclusive);
            let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
            let _ = sender.send(());
        });
        let _ = receiver.recv_timeout(PATIENCE);
    }
    let _guard = lock_state(state)?;
    cleanup_one(run)
}

fn cleanup_one(run: &Path) -> io::Result<()> {
    // Without a lock file it was being made when its owner died (making it needs the state lock, which
    // we hold), or it is not ours at all; then it is not empty, and removing it fails.
    match File::open(run.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Its owner may have removed it before we had the state lock.
            return match fs::remove_dir(run) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        }
        Err(error) => return Err(error),
        Ok(lock) => match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()), // alive
            other => other?,
        },
    }
    if let Ok(cgroup) = fs::read(run.join("cgroup")) {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(std::ffi::OsString::from_vec(cgroup));
        // A torn write must not make us remove someone else's group.
        let ours = |run: &std::ffi::OsStr| {
            let mut name = std::ffi::OsString::from(crate::cgroup::PREFIX);
            name.push(run);
            path.file_name() == Some(&name)
        };
        if run.file_name().is_some_and(ours) && path.is_dir() {
            Cgroup::at(path).destroy(PATIENCE)?;
        }
    }
    remove_run(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_run_is_left_alone_and_a_dead_one_removed() {
        let state = tempfile::tempdir().unwrap();
        let alive = RunDir::create(state.path(), "alive").unwrap();
        let dead = RunDir::create(state.path(), "dead").unwrap();
        fs::create_dir(dead.path().join("volumes")).unwrap();
        let dead_path = dead.path().to_owned();
        drop(dead);
        fs::create_dir(state.path().join("half-made")).unwrap();
        assert_eq!(cleanup_stale(state.path()), Vec::<String>::new());
        assert!(alive.path().exists());
        assert!(!dead_path.exists());
        assert!(!state.path().join("half-made").exists());
        let path = alive.path().to_owned();
        alive.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn only_the_directory_of_a_dead_run_is_taken_over() {
        let state = tempfile::tempdir().unwrap();
        let take = |run| RunDir::take_over(state.path(), run).unwrap();
        assert!(take("none").is_none());
        let run = RunDir::create(state.path(), "run").unwrap();
        assert!(take("run").is_none(), "it lives");
        drop(run);
        let dead = take("run").unwrap();
        assert!(take("run").is_none(), "it is ours now");
        dead.remove().unwrap();
        assert!(take("run").is_none());
        assert!(RunDir::take_over(&state.path().join("none"), "x").unwrap().is_none());
    }

    #[test]
    fn a_run_that_ended_meanwhile_is_no_problem() {
        let state = tempfile::tempdir().unwrap();
        assert!(cleanup_one(&state.path().join("gone")).is_ok());
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = RunDir::create(state.path(), "run").unwrap_err();
        assert!(error.to_string().contains("everyone may write"), "{error}");
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        RunDir::create(state.path(), "run").unwrap();
    }

    #[test]
    fn what_is_not_ours_is_reported_and_kept() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("other")).unwrap();
        fs::write(state.path().join("other/file"), "x").unwrap();
        assert_eq!(cleanup_stale(state.path()).len(), 1);
        assert!(state.path().join("other/file").exists());
    }
}
