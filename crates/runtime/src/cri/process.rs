//! The main process of a container or sandbox, as far as this machine has it.
//!
//! A CRI runtime tells the process id of what it runs (`ContainerStatus` with `verbose`). A pidfd of it
//! makes an end known at once, where the runtime itself would have to be asked again and again.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;

use holdfast_sys::pidfd;

/// A process of this machine.
#[derive(Debug)]
pub(super) struct Process {
    /// A pidfd in the clothes of a pipe: all that is asked of it is whether it is readable.
    fd: Receiver,
}

impl Process {
    /// The process that the verbose information about `id` tells of. `None` if it tells of none, or of
    /// one that is not here: the runtime may live in another process namespace.
    pub(super) fn of(info: &HashMap<String, String>, id: &str) -> Option<Self> {
        let pid = Self::named(info)?;
        let fd = pidfd::open(pid).ok()?;
        // Looked at after the descriptor is open, so this is about the same process.
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups
            .contains(id)
            .then(|| Receiver::from_owned_fd_unchecked(fd).ok())
            .flatten()
            .map(|fd| Self { fd })
    }

    /// The number that verbose information tells of.
    pub(super) fn named(info: &HashMap<String, String>) -> Option<u32> {
        #[derive(serde::Deserialize)]
        struct Info {
            pid: u32,
        }
        serde_json::from_str(info.get("info")?).ok().map(|Info { pid }| pid)
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) {
        // An error would mean that the reactor is gone.
        let _ = self.fd.readable().await;
    }

    /// The exit code of a process that has ended, as shells count; `None` if the kernel does not tell, or
    /// whoever started it takes its time to wait for it.
    pub(super) async fn exit_code(&self) -> Option<i32> {
        for _ in 0..REAPED {
            if let Some(status) = pidfd::exit_status(self.fd.as_fd()).ok()? {
                let status = ExitStatus::from_raw(status);
                return status.code().or_else(|| Some(128 + status.signal()?));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// ESRCH if it has ended.
    pub(super) fn signal(&self, number: i32) -> io::Result<()> {
        pidfd::signal(self.fd.as_fd(), number)
    }
}

/// For how many milliseconds a process may stay a zombie.
const REAPED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_must_be_in_the_cgroup_of_its_container() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id();
        let info = |text: &str| HashMap::from([("info".to_owned(), text.to_owned())]);
        // Every process is in some group, and every line of the file has a slash.
        let process = Process::of(&info(&format!(r#"{{"pid":{pid},"x":1}}"#)), "/").unwrap();
        assert!(Process::of(&info(&format!(r#"{{"pid":{pid}}}"#)), "0123456789abcdef").is_none());
        for text in ["", "{}", r#"{"pid":0}"#, r#"{"pid":-1}"#] {
            assert!(Process::of(&info(text), "/").is_none(), "{text}");
        }
        process.signal(15).unwrap();
        process.ended().await;
        child.wait().unwrap();
        assert!(process.signal(15).is_err());
    }
}
