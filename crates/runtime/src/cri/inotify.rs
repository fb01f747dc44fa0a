//! Tells when a file has been written to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Watches files. Cheap to clone; all clones share one descriptor and one task.
#[derive(Clone, Debug)]
pub(super) struct Inotify {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// An inotify descriptor in the clothes of a pipe, which is read in the same way.
    events: Receiver,
    watched: RefCell<HashMap<i32, Rc<Seen>>>,
    task: RefCell<Option<AbortHandle>>,
}

/// What has been seen of one file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Wakes when there is more.
    pub(super) changed: Notify,
    moved: Cell<bool>,
    closed: Cell<bool>,
}

/// A file that is watched until this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    inner: Rc<Inner>,
    number: i32,
    seen: Rc<Seen>,
}

impl Inotify {
    /// # Errors
    /// If the system has no more of them.
    pub(super) fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let inner = Rc::new(Inner {
            events: Receiver::from_owned_fd_unchecked(fd)?,
            watched: RefCell::default(),
            task: RefCell::default(),
        });
        // The task must not keep alive what aborts it.
        let weak = Rc::downgrade(&inner);
        let task = tokio::task::spawn_local(async move {
            let mut buffer = [0; 16 * 1024];
            while let Some(inner) = weak.upgrade() {
                if inner.events.readable().await.is_err() {
                    return;
                }
                while let Ok(read @ 1..) = inner.events.try_read(&mut buffer) {
                    inner.take(&buffer[..read]);
                }
            }
        });
        *inner.task.borrow_mut() = Some(task.abort_handle());
        Ok(Self { inner })
    }

    /// Watches a file for writes, and for being closed or moved away.
    ///
    /// # Errors
    /// If it is not there.
    pub(super) fn watch(&self, file: &Path) -> io::Result<Watch> {
        let wanted = WatchFlags::MODIFY
            | WatchFlags::MOVE_SELF
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE;
        let number = inotify::add_watch(&self.inner.events, file, wanted)?;
        let seen = Rc::<Seen>::default();
        self.inner.watched.borrow_mut().insert(number, Rc::clone(&seen));
        Ok(Watch { inner: Rc::clone(&self.inner), number, seen })
    }

    /// Ends the task.
    pub(super) fn end(&self) {
        if let Some(task) = self.inner.task.borrow_mut().take() {
            task.abort();
        }
    }
}

impl Inner {
    /// Reads `struct inotify_event`s.
    fn take(&self, mut bytes: &[u8]) {
        let number = |bytes: &[u8], at: usize| {
            bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes)
        };
        while let (Some(watch), Some(mask), Some(name)) =
            (number(bytes, 0), number(bytes, 4), number(bytes, 12))
        {
            let mask = mask.cast_unsigned();
            let watched = self.watched.borrow();
            if mask & QUEUE_OVERFLOW != 0 {
                watched.values().for_each(|seen| seen.changed.notify_one());
            }
            if let Some(seen) = watched.get(&watch) {
                let has = |flag: WatchFlags| mask & flag.bits() != 0;
                if has(WatchFlags::MOVE_SELF | WatchFlags::ATTRIB) {
                    seen.moved.set(true);
                }
                if has(WatchFlags::CLOSE_WRITE) {
                    seen.closed.set(true);
                }
                seen.changed.notify_one();
            }
            let length = HEADER + usize::try_from(name).unwrap_or(0);
            bytes = bytes.get(length..).unwrap_or_default();
        }
    }
}

impl Watch {
    /// Waits for the next change.
    pub(super) async fn changed(&self) {
        self.seen.changed.notified().await;
    }

    /// Whether the file may be another one by now; asking resets it.
    pub(super) fn was_moved(&self) -> bool {
        self.seen.moved.replace(false)
    }

    /// Whether some writer has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.seen.closed.get()
    }

    /// Waits until some writer has closed it.
    pub(super) async fn closed(&self) {
        while !self.seen.closed.get() {
            self.changed().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inner.watched.borrow_mut().remove(&self.number);
        // The file may be gone, and the watch with it.
        let _ = inotify::remove_watch(&self.inner.events, self.number);
    }
}

/// `IN_Q_OVERFLOW`: something happened that there was no room to tell.
const QUEUE_OVERFLOW: u32 = 0x4000;
/// What comes before the name.
const HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn writes_moves_and_closes_are_seen() {
        let local = tokio::task::LocalSet::new();
        let patience = Duration::from_secs(5);
        local
            .run_until(async {
                let temp = tempfile::tempdir().unwrap();
                let path = temp.path().join("log");
                let mut file = std::fs::File::create(&path).unwrap();
                let inotify = Inotify::new().unwrap();
                let watch = inotify.watch(&path).unwrap();
                file.write_all(b"x").unwrap();
                tokio::time::timeout(patience, watch.changed()).await.unwrap();
                assert!(!watch.was_moved());
                std::fs::rename(&path, temp.path().join("old")).unwrap();
                tokio::time::timeout(patience, watch.changed()).await.unwrap();
                assert!(watch.was_moved() && !watch.was_moved());
                drop(file);
                tokio::time::timeout(patience, watch.closed()).await.unwrap();
                assert!(inotify.watch(&path).is_err());
                inotify.end();
            })
            .await;
    }
}
