//! Takes a cluster down, or what is left of one.

use std::fs;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::layout::Layout;
use super::state::{self, Process};
use super::{cgroups, network};

/// Ends everything of the cluster and removes its directory.
///
/// # Errors
/// What could not be ended or removed.
pub fn down(layout: &Layout) -> Result<()> {
    if !layout.dir().exists() && leftovers(layout)?.is_empty() {
        return Ok(());
    }
    let lock = state::lock(layout)?;
    clear(layout)?;
    // The lock's file goes last, and while the lock is held.
    fs::remove_dir_all(layout.dir()).with_context(|| layout.dir().display().to_string())?;
    drop(lock);
    Ok(())
}

/// As [`down`], but leaves the directory, empty but for the lock.
pub(super) fn clear(layout: &Layout) -> Result<()> {
    end(layout)?;
    for entry in fs::read_dir(layout.dir())?.flatten() {
        let path = entry.path();
        if path == layout.lock() {
            continue;
        }
        // Nothing is mounted below, so that these are the cluster's own files and nobody else's.
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Ends everything of the cluster, and leaves its files.
pub(super) fn end(layout: &Layout) -> Result<()> {
    end_processes(layout)?;
    // The keepers have done so, unless they were killed themselves.
    cgroups::remove(layout, None)?;
    // The kernel takes namespaces apart after their last process, in its own time.
    let end = Instant::now() + PATIENCE;
    loop {
        let left = leftovers(layout)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{}: what does not go: {}", layout.dir().display(), left.join("; "));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What there is of a cluster outside of its directory: processes, mounts, cgroups and links. Found by
/// looking at all of the host's, not by what the cluster remembers.
///
/// # Errors
/// When the host cannot be looked at.
pub fn leftovers(layout: &Layout) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let cgroup = format!("/{}", layout.cgroup());
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let file = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let words = || file("cmdline").replace('\0', " ");
        // Every process of a unit is in its cgroup, whoever started it.
        if file("cgroup").lines().any(|line| line.contains(&cgroup)) && Process::of(pid).is_ok() {
            left.push(format!("process {pid} ({})", words().trim()));
        } else if mounted(&file("mountinfo"), layout) {
            left.push(format!("a mount that process {pid} ({}) sees", words().trim()));
        }
    }
    for process in state::processes(layout)? {
        left.push(format!("process {} of the bench", process.pid));
    }
    left.extend(cgroups::left(layout)?.iter().map(|path| format!("cgroup {}", path.display())));
    left.extend(network::links(layout)?.iter().map(|link| format!("link {link}")));
    Ok(left)
}

/// Whether a mount is below the cluster's directory.
fn mounted(mountinfo: &str, layout: &Layout) -> bool {
    holdfast_sys::mountinfo::parse(mountinfo)
        .iter()
        .any(|mount| mount.target != layout.dir() && mount.target.starts_with(layout.dir()))
}

/// Kills the units. Process 1 of a process namespace takes everything in it along; a keeper whose init
/// is dead clears up and ends by itself.
fn end_processes(layout: &Layout) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = state::processes(layout)?;
        if all.is_empty() {
            return Ok(());
        }
        if Instant::now() > end + PATIENCE {
            let pids: Vec<_> = all.iter().map(|process| process.pid.to_string()).collect();
            bail!("processes {} of the cluster do not end", pids.join(", "));
        }
        let mut waiting = Vec::new();
        for process in &all {
            let Some(pid) = Pid::from_raw(process.pid) else { continue };
            // A process that is gone by now is what is wanted.
            let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if process.lives() {
                if is_init(process) {
                    let _ = pidfd_send_signal(&fd, Signal::KILL);
                }
                waiting.push(fd);
            }
        }
        for fd in waiting {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let mut event = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
            if poll(&mut event, Some(&timeout))? == 0 {
                // A keeper that waits for an init that never was, or is stuck: not for ever.
                let _ = pidfd_send_signal(&fd, Signal::KILL);
            }
        }
    }
}

fn is_init(process: &Process) -> bool {
    fs::read(format!("/proc/{}/cmdline", process.pid))
        .is_ok_and(|words| words.split(|byte| *byte == 0).nth(2) == Some(b"init"))
}

/// How long the kernel may take for what it does on its own.
const PATIENCE: Duration = Duration::from_secs(20);
