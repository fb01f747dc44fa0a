//! The launcher: the small process that makes, watches and cleans up all containers.
//!
//! [`fork`] splits it off before `holdfast` has any thread. It stays a process of one thread for ever,
//! so that what it clones is a sane copy of it; it is the parent of every container, so that their ends
//! cannot be missed; and it outlives a killed `holdfast` for just as long as cleaning up takes:
//!
//! | who is killed | what takes the containers down | what removes the rest |
//! |---|---|---|
//! | `holdfast` | the launcher, which sees its socket close | the launcher |
//! | the launcher | PR_SET_PDEATHSIG in every container's PID 1, or its shim | the kernel; `holdfast`, or the next start ([`crate::rundir`]) |
//! | both | the same | the kernel; the next start |
//!
//! Mounts and networks live in namespaces that nobody else holds; only the cgroup directories and the
//! run directory have to be removed by someone.

mod child;
mod context;
mod host;
mod init;
mod launch;
mod memory;
mod parent;
pub mod protocol;
mod rootfs;
mod sandbox;
mod server;
mod shim;
pub mod socket;
mod spare;
mod system;

use std::io;
use std::os::fd::OwnedFd;

use crate::clone::{Cloned, Pid, clone3, exit_now, threads};
use crate::signals::{self, SignalFd};

/// Why there is no launcher.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// Threads exist already.
    #[error("the launcher must be forked before any thread exists, but there are {0}")]
    Threads(usize),
    /// Nothing can be known of this process.
    #[error("cannot read /proc/self/task: {0}; is /proc mounted?")]
    NoProc(#[source] io::Error),
    /// The system refused.
    #[error("cannot fork the launcher: {0}")]
    Io(#[from] io::Error),
}

/// `holdfast`'s end of its launcher. Closing the socket ends the launcher and every container.
#[derive(Debug)]
pub struct Launcher {
    /// The socket, for [`socket::send`] and [`socket::Inbox::receive`].
    pub socket: OwnedFd,
    pid: Pid,
}

impl Launcher {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end and reaps it. Call this when the socket has closed.
    pub fn wait(pid: Pid) {
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    }
}

/// Forks the launcher. To be called first thing in `main`.
///
/// # Errors
/// If threads exist, or the system refuses.
pub fn fork() -> Result<Launcher, ForkError> {
    match threads().map_err(ForkError::NoProc)? {
        1 => {}
        many => return Err(ForkError::Threads(many)),
    }
    let (ours, theirs) = socket::pair()?;
    // SAFETY: there is one thread, as just counted; it is this one, so there will be no other either.
    match unsafe { clone3(0, None) }? {
        Cloned::Parent(pid) => Ok(Launcher { socket: ours, pid }),
        Cloned::Child => {
            drop(ours);
            run(theirs)
        }
    }
}

/// The launcher's life.
fn run(socket: OwnedFd) -> ! {
    // A name of its own, so that `pkill holdfast` does not take it along.
    let _ = rustix::thread::set_name(c"hf-launcher");
    // Not the terminal's business: Ctrl-C is for `holdfast`, which then tells us what to do.
    let _ = rustix::process::setsid();
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ] {
        signals::ignore(signal);
    }
    // Whoever reads our output must not wait for us.
    if let Ok(null) = context::open_null() {
        let _ = context::put(&null, 0);
        let _ = context::put(&null, 1);
    }
    let _ = rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1));
    match SignalFd::new(&[libc::SIGCHLD], false) {
        Ok(news) => server::Server::new(socket, news).run(),
        Err(_) => exit_now(1),
    }
    exit_now(0)
}
