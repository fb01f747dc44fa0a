//! Takes a cluster down, or what is left of one.

use std::fs;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::cgroups;
use super::layout::Layout;
use super::network::ip;
use super::state::{self, Process, State};

/// Ends everything of the cluster and removes its directory.
///
/// # Errors
/// What could not be ended or removed.
pub fn down(layout: &Layout) -> Result<()> {
    let lock = state::lock(layout)?;
    clear(layout)?;
    // The lock's file goes last, and while the lock is held.
    fs::remove_dir_all(layout.dir()).with_context(|| layout.dir().display().to_string())?;
    drop(lock);
    Ok(())
}

/// As [`down`], but leaves the directory, empty but for the lock.
pub(super) fn clear(layout: &Layout) -> Result<()> {
    let block = State::read(layout).and_then(|state| state.block);
    end_processes(layout)?;
    // The keepers have done so, unless they were killed themselves.
    cgroups::remove(layout, None)?;
    if let Some(block) = block {
        wait_for_link(&block.link(), layout)?;
    }
    for entry in fs::read_dir(layout.dir())?.flatten() {
        let path = entry.path();
        if path == layout.lock() {
            continue;
        }
        // Mounts were the units', so that there is nothing below but the cluster's own files.
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| path.display().to_string())?;
    }
    Ok(())
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
        let mut waiting = Vec::new();
        for process in &all {
            let Some(pid) = Pid::from_raw(process.pid) else { continue };
            // A process that is gone by now is what is wanted.
            let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if process.lives() {
                if is_init(process) {
                    let _ = pidfd_send_signal(&fd, rustix::process::Signal::KILL);
                }
                waiting.push(fd);
            }
        }
        for fd in waiting {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let mut event = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
            if poll(&mut event, Some(&timeout))? == 0 {
                // It waits for an init that never was, or is stuck: not for ever.
                let _ = pidfd_send_signal(&fd, rustix::process::Signal::KILL);
            }
        }
        if Instant::now() > end + PATIENCE {
            let pids: Vec<_> = all.iter().map(|process| process.pid.to_string()).collect();
            bail!("processes {} of the cluster do not end", pids.join(", "));
        }
    }
}

fn is_init(process: &Process) -> bool {
    fs::read(format!("/proc/{}/cmdline", process.pid))
        .is_ok_and(|words| words.split(|byte| *byte == 0).nth(2) == Some(b"init"))
}

/// The kernel takes network namespaces apart after their last process, in its own time.
fn wait_for_link(link: &str, layout: &Layout) -> Result<()> {
    let _ = layout;
    let end = Instant::now() + PATIENCE;
    while ip(&["link", "show", link]).is_ok() {
        if Instant::now() > end {
            bail!("the link {link} does not go, although its namespace should have ended");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// How long the kernel may take for what it does on its own.
const PATIENCE: Duration = Duration::from_secs(20);
