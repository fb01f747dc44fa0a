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

/// How a process has ended: its wait status, as of `waitpid`. `None` as long as it lives or nobody has
/// waited for it. The descriptor must have been opened before.
///
/// # Errors
/// ENOTTY or EINVAL from a kernel before 6.15.
pub fn exit_status(process: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    // `struct pidfd_info`, as it was at first: later ones only add to its end.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const EXIT: u64 = 1 << 3;
    // `_IOWR(0xff, 11, struct pidfd_info)`.
    const GET_INFO: libc::c_ulong = 0xc000_ff0b | ((size_of::<Info>() as libc::c_ulong) << 16);
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes no more than the
    // size that is part of the request's number.
    let result = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO as _, &raw mut info) };
    if result != 0 {
        let error = io::Error::last_os_error();
        // It was asked in between: neither alive nor waited for.
        return if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) };
    }
    Ok((info.mask & EXIT != 0).then_some(info.exit_code))
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

    #[test]
    fn how_it_ended_is_known_when_somebody_has_waited_for_it() {
        for script in ["exit 7", "kill -9 $$"] {
            let mut child = Command::new("sh")
                .args(["-c", &format!("read x; {script}")])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let fd = open(child.id()).unwrap();
            match exit_status(fd.as_fd()) {
                Ok(status) => assert_eq!(status, None),
                // A kernel before 6.15.
                Err(error) => {
                    let known = [Some(libc::ENOTTY), Some(libc::EINVAL)];
                    assert!(known.contains(&error.raw_os_error()), "{error}");
                }
            }
            drop(child.stdin.take());
            let status = child.wait().unwrap();
            if let Ok(found) = exit_status(fd.as_fd()) {
                assert_eq!(found, Some(status.into_raw()));
            }
        }
    }
}
