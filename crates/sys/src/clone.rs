//! `clone3`, for a process of one thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A process id.
pub type Pid = i32;

/// Which of the two one is after [`clone3`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloned {
    /// The caller, with the child's id as its own PID namespace sees it.
    Parent(Pid),
    /// The new process.
    Child,
}

/// The flag that puts the child into `cgroup` without the slow migration of a running process.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Clones the calling process with the given `CLONE_*` flags, straight into a cgroup if one is given.
/// The child shares no memory with its parent and tells it of its end by SIGCHLD.
///
/// # Errors
/// What `clone3` says: EPERM without the right to make namespaces, ENOSYS before Linux 5.3.
///
/// # Safety
/// The calling process must have one thread only: the child goes on with a copy of its memory, and a
/// lock that another thread held would stay locked for ever.
pub unsafe fn clone3(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    // SAFETY: all-zero is a valid `clone_args`; it means "nothing asked for".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    if flags & libc::CLONE_PARENT == 0 {
        // A sibling has the exit signal of its maker.
        args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    }
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is live and of the size given; without CLONE_VM and CLONE_SETTLS the child runs
    // on a copy of this stack, so it returns from here like the child of a fork. One thread: the
    // caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        // A pid fits an i32: PID_MAX_LIMIT is 2^22.
        pid => Ok(Cloned::Parent(pid as Pid)),
    }
}

/// Ends the calling process at once: no destructors, no buffers flushed, as it must be in a child that
/// shares its parent's state.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// How many threads the calling process has.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
