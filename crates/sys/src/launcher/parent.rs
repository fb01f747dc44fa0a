//! Dying with one's parent, without the gaps that PR_SET_PDEATHSIG has by itself (prctl(2)).
//!
//! The kernel forgets the wish at every change of credentials, so it is made last before the exec; and
//! a parent that died before the wish sends nothing, so one has to look afterwards.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clone::Pid;

/// How to see whether the parent is still there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parent<'a> {
    /// By its process descriptor: in a new PID namespace a parent outside always has the id 0.
    Launcher(BorrowedFd<'a>),
    /// By its id.
    Shim(Pid),
}

/// Asks for `signal` when the parent dies; an error if it is dead already.
pub(super) fn die_with(parent: &Parent<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if gone(parent) { Err(io::Error::other("the parent is gone")) } else { Ok(()) }
}

fn gone(parent: &Parent<'_>) -> bool {
    match parent {
        // A dying process gives its children away and only then becomes a zombie that its descriptor
        // reports, both under the kernel's tasklist lock. Asking for a group's priority takes that
        // lock too, so after it either our wish was in time or the descriptor tells.
        Parent::Launcher(pidfd) => {
            // SAFETY: getpriority touches no memory.
            let _ = unsafe { libc::getpriority(libc::PRIO_PGRP, 0) };
            poll(&mut [PollFd::from_borrowed_fd(*pidfd, PollFlags::IN)], Some(&Timespec::default()))
                != Ok(0)
        }
        Parent::Shim(pid) => nix::unistd::getppid().as_raw() != *pid,
    }
}

/// Closes every descriptor (but one), in a process that lives on without exec and needs none.
///
/// The Rust values that own them must not be used or dropped any more: callers never return.
pub(super) fn close_all_but(keep: Option<&OwnedFd>) {
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: the callers diverge, so no owner of these descriptors acts on them again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    match keep {
        None => close(0, u32::MAX),
        Some(keep) => {
            let keep = keep.as_raw_fd().cast_unsigned();
            if keep > 0 {
                close(0, keep - 1);
            }
            close(keep + 1, u32::MAX);
        }
    }
}

/// Makes every descriptor but the standard three close at exec.
pub(super) fn close_on_exec() -> io::Result<()> {
    // CLOSE_RANGE_CLOEXEC of linux/close_range.h (Linux 5.11).
    const CLOEXEC: libc::c_uint = 1 << 2;
    // SAFETY: only a flag of the descriptors changes.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
