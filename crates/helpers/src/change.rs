//! Tells when something may have changed at a path.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::sleep;

/// Watches the directories that paths are in, or as long as there is none the nearest one above.
///
/// Where the kernel tells nothing (a file system of another machine, a link that leads elsewhere), it is
/// time to look again after a while.
#[derive(Debug)]
pub(crate) struct PathWatch {
    paths: Vec<PathBuf>,
    again: Duration,
    events: Option<Receiver>,
}

impl PathWatch {
    /// `again` is the longest time until [`changed`](Self::changed) says so without knowing.
    pub(crate) fn new<'a>(paths: impl IntoIterator<Item = &'a Path>, again: Duration) -> Self {
        // A relative path means the directory we are in now.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { paths: paths.into_iter().map(absolute).collect(), again, events: None }
    }

    /// Watches from now on. To be called before the paths are looked at, so that nothing is missed
    /// between the two.
    pub(crate) fn arm(&mut self) {
        self.events = self.watch().ok();
    }

    fn watch(&self) -> io::Result<Receiver> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let wanted = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        for path in &self.paths {
            let mut watched = None;
            // What has appeared since belongs to a directory nearer to the path.
            while let Some(nearest) = path.ancestors().skip(1).find(|dir| dir.is_dir())
                && watched != Some(nearest)
            {
                inotify::add_watch(&fd, nearest, wanted)?;
                watched = Some(nearest);
            }
        }
        // A descriptor that is read as a pipe is.
        Receiver::from_owned_fd_unchecked(fd)
    }

    /// Waits for a change since [`arm`](Self::arm).
    pub(crate) async fn changed(&self) {
        let event = async {
            match &self.events {
                // The next `arm` begins anew, so that nobody needs to read what it says.
                Some(events) => drop(events.readable().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = event => {}
            () = sleep(self.again) => {}
        }
    }
}
