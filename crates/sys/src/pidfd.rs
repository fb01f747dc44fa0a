//! Processes by descriptor: one that has ended is never mistaken for another with its number.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags};

/// A descriptor of a process, readable when it has ended.
///
/// # Errors
/// ESRCH if there is no such process.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Sends a signal, real-time signals among them.
///
/// # Errors
/// ESRCH if the process has ended, EINVAL for a number that is no signal.
pub fn signal(process: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel checks the number, and a
    // null `siginfo` asks it to make its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_signalled_once_it_is_gone_never() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let fd = open(child.id()).unwrap();
        let realtime = libc::SIGRTMIN() + 3;
        signal(fd.as_fd(), realtime).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(realtime));
        assert_eq!(
            signal(fd.as_fd(), libc::SIGTERM).unwrap_err().raw_os_error(),
            Some(libc::ESRCH)
        );
        assert!(open(0).is_err());
    }
}
