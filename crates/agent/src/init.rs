//! Being PID 1: what is mounted before anything else, and the orphans of others.

use std::fs;
use std::io;
use std::path::Path;

use holdfast_sys::mount;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// What a machine needs to run pods: type, place, options, and what is there if it is there.
const MOUNTS: [(&str, &str, &str, &str); 8] = [
    ("proc", "/proc", "", "/proc/self"),
    ("sysfs", "/sys", "", "/sys/kernel"),
    ("devtmpfs", "/dev", "mode=0755", "/dev/null"),
    ("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620", "/dev/pts/ptmx"),
    ("tmpfs", "/dev/shm", "mode=1777", ""),
    ("tmpfs", "/run", "mode=0755", ""),
    ("tmpfs", "/tmp", "mode=1777", ""),
    ("cgroup2", "/sys/fs/cgroup", "", ""),
];

/// Something is missing and cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {kind} on {place}: {source}")]
pub struct MountError {
    kind: &'static str,
    place: &'static str,
    source: io::Error,
}

/// Mounts what is missing; the places where something was mounted.
///
/// A place that is mounted on, or has something in it, is taken for what it should be: in a container most of these
/// are there already, and mounted otherwise.
///
/// # Errors
/// The first that cannot be.
pub fn mount_missing() -> Result<Vec<&'static str>, MountError> {
    let mut mounted = Vec::new();
    for (kind, place, options, sign) in MOUNTS {
        let path = Path::new(place);
        let is_there = match sign {
            "" => is_mount_point(path) || is_filled(path),
            sign => Path::new(sign).symlink_metadata().is_ok(),
        };
        if is_there {
            continue;
        }
        fs::create_dir_all(path)
            .and_then(|()| mount::mount(kind, path, options))
            .map_err(|source| MountError { kind, place, source })?;
        mounted.push(place);
    }
    Ok(mounted)
}

fn is_filled(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether something is mounted there: it is of another device than what it is in.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Whether this process is the first of its PID namespace.
#[must_use]
pub fn is_pid_1() -> bool {
    std::process::id() == 1
}

/// Reaps ended children that are nobody's: a parent that ended left them to PID 1. How many there were.
///
/// `own` is a child whose end somebody else waits for; it is left alone.
pub fn reap_orphans(own: i32) -> usize {
    let mut reaped = 0;
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) =
            waitid(Id::All, peek)
        else {
            return reaped;
        };
        if pid == Pid::from_raw(own) || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return reaped;
        }
        reaped += 1;
    }
}
