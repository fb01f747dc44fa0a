//! The parent of a container that has no PID namespace of its own.
//!
//! It adopts what the main process leaves behind (PR_SET_CHILD_SUBREAPER), kills that when the main
//! process ends, and ends with the main process' exit code. A command in such a container has a shim
//! too, which reports the exit code at once and then stays as long as anything lives below it. When the launcher dies it gets a signal
//! rather than SIGKILL, so that it can still take everything below it along.

use std::os::fd::OwnedFd;

use super::child::{Birth, Kind, become_container};
use super::parent::{Parent, close_all_but, die_with};
use super::protocol::{Failure, Mode};
use crate::clone::{Cloned, Pid, clone3, exit_now};
use crate::signals::{self, SignalFd};

/// The byte in front of the main process' id in the status pipe.
pub(super) const MAIN: u8 = b'#';

/// Goes on as the shim; never returns.
pub(super) fn run(birth: &Birth<'_>, status: &OwnedFd, report: Option<OwnedFd>) -> ! {
    match begin(birth, status) {
        Ok(main) => attend(main, report.as_ref()),
        Err(error) => {
            let failure = Failure::run(format!("cannot make the container's shim: {error}"));
            let _ = rustix::io::write(status, &serde_json::to_vec(&failure).unwrap_or_default());
            exit_now(127)
        }
    }
}

fn begin(birth: &Birth<'_>, status: &OwnedFd) -> std::io::Result<Pid> {
    use std::os::fd::AsFd;
    let _ = rustix::thread::set_name(c"hf-shim");
    let _ = rustix::process::setsid();
    // Blocked before the wish is made: the signal waits for us.
    let listen = [libc::SIGCHLD, signals::parent_gone(), signals::forward(), signals::kill_all()];
    drop(SignalFd::new(&listen, true)?);
    die_with(&Parent::Launcher(birth.context.alive.as_fd()), signals::parent_gone())?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    let own = nix::unistd::getpid().as_raw();
    let builds = !matches!(birth.kind, Kind::Join { .. }) && birth.context.mode != Mode::Plain;
    let flags = if builds { libc::CLONE_NEWNS } else { 0 };
    // SAFETY: a copy of the launcher, which has one thread.
    match unsafe { clone3(flags, None) }? {
        Cloned::Child => become_container(birth, &Parent::Shim(own), status),
        Cloned::Parent(main) => {
            let mut id = vec![MAIN];
            id.extend(main.to_ne_bytes());
            rustix::io::write(status, &id)?;
            Ok(main)
        }
    }
}

/// Lets go of everything inherited (the status pipe must close with the main process' exec) and waits
/// for what happens.
fn attend(main: Pid, report: Option<&OwnedFd>) -> ! {
    close_all_but(report);
    let listen = [libc::SIGCHLD, signals::parent_gone(), signals::forward(), signals::kill_all()];
    let Ok(news) = SignalFd::new(&listen, true) else {
        end(main, None);
    };
    let mut ended = None;
    let mut reported = false;
    loop {
        while let Some(child) = signals::reap(false) {
            if child.pid == main {
                ended = Some(child.code);
            }
        }
        match (ended, report) {
            (Some(_), None) => end(main, ended),
            (Some(code), Some(pipe)) => {
                if !reported {
                    let _ = rustix::io::write(pipe, &code.to_ne_bytes());
                    reported = true;
                }
                if children().is_empty() {
                    exit_now(code);
                }
            }
            (None, _) => {}
        }
        match news.take() {
            // Not to someone who has its number by now.
            Some(news) if news.signal == signals::forward() && ended.is_some() => {}
            Some(news) if news.signal == signals::forward() => signals::kill(main, news.value),
            Some(news) if news.signal == libc::SIGCHLD => {}
            Some(_) => end(main, ended),
            None => {}
        }
    }
}

/// Kills everything below, waits for it and ends.
fn end(main: Pid, mut code: Option<i32>) -> ! {
    loop {
        for child in children() {
            signals::kill(child, libc::SIGKILL);
        }
        // Orphans of what was killed come to us, so it is over when there are no children at all.
        match signals::reap(true) {
            Some(child) if child.pid == main => code = Some(child.code),
            Some(_) => {}
            None => exit_now(code.unwrap_or(128 + libc::SIGKILL)),
        }
    }
}

/// The children of the calling process of one thread.
pub(super) fn children() -> Vec<Pid> {
    let own = std::process::id();
    match std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(text) => text.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        // A kernel without CONFIG_PROC_CHILDREN: look at every process.
        Err(_) => all_children(own),
    }
}

fn all_children(parent: u32) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(Result::ok).filter_map(|e| e.file_name().to_str()?.parse().ok());
    let is_child = |pid: &Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; the state and the parent follow it.
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        after.and_then(|after| after.split(' ').nth(1)?.parse().ok()) == Some(parent)
    };
    pids.filter(is_child).collect()
}
