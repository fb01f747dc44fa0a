//! Tells when something in a directory has changed.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Watches one directory until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// An inotify descriptor in the clothes of a pipe, which is read in the same way.
    events: Receiver,
}

impl Watch {
    /// # Errors
    /// If the directory is not there, or the system has no more watches.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let wanted = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, dir, wanted)?;
        Ok(Self { events: Receiver::from_owned_fd_unchecked(fd)? })
    }

    /// Waits for a change; several at once are one.
    pub(crate) async fn changed(&self) {
        let mut buffer = [0; 4096];
        loop {
            if self.events.readable().await.is_err() {
                return std::future::pending().await;
            }
            let mut any = false;
            while let Ok(1..) = self.events.try_read(&mut buffer) {
                any = true;
            }
            if any {
                return;
            }
        }
    }
}
