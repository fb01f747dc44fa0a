//! Signals: masks, `signalfd`, and a clean slate for a program that is about to be exec'ed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::clone::Pid;

/// The signal a shim gets when the launcher dies.
pub(crate) fn parent_gone() -> i32 {
    libc::SIGRTMIN() + 5
}

/// The signal that asks a shim to pass on the signal in its value.
pub(crate) fn forward() -> i32 {
    libc::SIGRTMIN() + 6
}

/// The signal that asks a shim to kill everything below it.
pub(crate) fn kill_all() -> i32 {
    libc::SIGRTMIN() + 7
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set it is given; zeroed memory is a valid place for it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is live; an invalid signal number only makes sigaddset return an error.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
    }
    set
}

/// A descriptor that becomes readable when one of its signals arrives. The signals are blocked.
#[derive(Debug)]
pub(crate) struct SignalFd(OwnedFd);

/// A signal that arrived.
pub(crate) struct Arrived {
    /// Its number.
    pub(crate) signal: i32,
    /// The value sent with it by `sigqueue`.
    pub(crate) value: i32,
}

impl SignalFd {
    /// Blocks the signals and listens for them.
    pub(crate) fn new(signals: &[i32], blocking: bool) -> io::Result<Self> {
        let set = set_of(signals);
        let flags = libc::SFD_CLOEXEC | if blocking { 0 } else { libc::SFD_NONBLOCK };
        // SAFETY: `set` is live; the old mask is not asked for.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } != 0
        {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `set` is live; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes the next signal, `None` if none is pending (or the call was interrupted).
    pub(crate) fn take(&self) -> Option<Arrived> {
        // SAFETY: all-zero is a valid signalfd_siginfo.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` is live, plain data, and `size` bytes long.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        (read.cast_unsigned() == size)
            .then(|| Arrived { signal: info.ssi_signo.cast_signed(), value: info.ssi_int })
    }
}

impl std::os::fd::AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ignores a signal.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is a valid disposition; an invalid signal is only refused.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// The number of signals of every Linux but MIPS.
const SIGNALS: i32 = 64;

/// The signals that the caller ignores, and those that cannot be asked about. An exec gives every other
/// signal its default action by itself (execve(2)).
pub(crate) fn ignored() -> Vec<i32> {
    let is_ignored = |signal: &i32| {
        // SAFETY: all-zero is a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: `action` is live; nothing is changed.
        let asked = unsafe { libc::sigaction(*signal, std::ptr::null(), &raw mut action) };
        // The C library keeps two signals to itself and says nothing about them.
        asked != 0 || action.sa_sigaction == libc::SIG_IGN
    };
    (1..=SIGNALS).filter(is_ignored).collect()
}

/// Gives these signals (of [`ignored`]) their default action and unblocks all.
pub(crate) fn reset(ignored: &[i32]) {
    // The kernel's own sigaction, all zero: SIG_DFL, no flags, no mask. It is larger than any
    // architecture's. Not the C library's, which keeps two signals to itself and would not let us undo
    // what our own parent did to them.
    let default = [0_u64; 8];
    for signal in ignored {
        // SAFETY: `default` is live and at least as large as the kernel's struct; nothing is written.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                *signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                SIGNALS as usize / 8,
            )
        };
    }
    let none = set_of(&[]);
    // SAFETY: `none` is live.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

/// Whether a seccomp filter watches the caller's system calls.
pub(crate) fn is_filtered() -> bool {
    // SAFETY: PR_GET_SECCOMP takes no arguments and touches no memory.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) > 0 }
}

/// Sends a signal to a process; one that is gone already is no error.
pub(crate) fn kill(pid: Pid, signal: i32) {
    // SAFETY: kill has no memory preconditions.
    unsafe { libc::kill(pid, signal) };
}

/// Sends a signal with a value.
pub(crate) fn queue(pid: Pid, signal: i32, value: i32) {
    // The C union sigval holds an int or a pointer; the int is its low half on little-endian
    // machines, its high half on big-endian ones, so it is written through a pointer to the union.
    let mut sigval = libc::sigval { sival_ptr: std::ptr::null_mut() };
    // SAFETY: the union is at least as large as an int and as aligned, and is live.
    unsafe { (&raw mut sigval).cast::<libc::c_int>().write(value) };
    // SAFETY: sigqueue has no memory preconditions.
    unsafe { libc::sigqueue(pid, signal, sigval) };
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Which.
    pub(crate) pid: Pid,
    /// Its exit code, 128 + n for signal n.
    pub(crate) code: i32,
    /// Whether a signal killed it.
    pub(crate) signalled: bool,
}

/// Waits for the end of one child and reaps it.
pub(crate) fn wait(pid: Pid) -> Option<Ended> {
    reap_of(pid, 0)
}

/// Reaps one ended child of the caller, whichever it is. `None` if none has ended (when not
/// `blocking`) or if there are no children at all.
pub(crate) fn reap(blocking: bool) -> Option<Ended> {
    reap_of(-1, if blocking { 0 } else { libc::WNOHANG })
}

fn reap_of(which: Pid, flags: i32) -> Option<Ended> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is live.
        let pid = unsafe { libc::waitpid(which, &raw mut status, flags) };
        if pid > 0 {
            if libc::WIFEXITED(status) {
                return Some(Ended { pid, code: libc::WEXITSTATUS(status), signalled: false });
            }
            if libc::WIFSIGNALED(status) {
                return Some(Ended { pid, code: 128 + libc::WTERMSIG(status), signalled: true });
            }
        } else if pid == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}
