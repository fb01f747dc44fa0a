//! Puts a file in its place: whole or not at all, and only if it changes.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It has other content.
    Replaced,
    /// Nothing: it is what it should be.
    None,
}

/// The mode of a file that was not there, before the umask.
const NEW: u32 = 0o644;

/// Gives a file its content, or with `check` only says what that would be.
///
/// A file that is there keeps its owner and mode; a link is followed. The new content has no name until
/// it is whole and on the disk, so that a process killed half-way leaves nothing; only between its
/// getting a name and that name's becoming the file's (two system calls) is there a hidden file, which
/// the next call removes.
pub(super) fn put(path: &Path, content: &[u8], check: bool) -> io::Result<Change> {
    // A link that leads nowhere yet is replaced: there is no file to keep.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // Before it is opened: that would wait for the other end of a pipe.
    let meta = match fs::metadata(&path) {
        Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is no regular file")),
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(meta) = &meta
        && has(&mut File::open(&path)?, meta, content)?
    {
        return Ok(Change::None);
    }
    let change = if meta.is_some() { Change::Replaced } else { Change::Created };
    if !check {
        replace(&path, content, meta.as_ref())?;
    }
    Ok(change)
}

/// Whether a file has this content.
fn has(file: &mut File, meta: &Metadata, content: &[u8]) -> io::Result<bool> {
    if meta.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut bytes = Vec::with_capacity(content.len());
    file.take(content.len() as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes == content)
}

fn replace(path: &Path, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::other("it has no name"));
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".holdfast-part");
    let hidden = directory.join(hidden);
    let opened = File::open(directory)?;
    // One at a time, for the sake of the hidden file's name; the end of a process gives the lock back.
    // Where directories cannot be locked, the slower one of two fails and leaves the file as it is.
    let _ = rustix::fs::flock(&opened, rustix::fs::FlockOperation::LockExclusive);
    match fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = New::create(directory, &hidden)?;
    let written = new.fill(content, old).and_then(|()| new.publish(path, old.is_some()));
    if written.is_err() {
        let _ = fs::remove_file(&hidden);
        return written;
    }
    // The name is as durable as the content.
    opened.sync_all()
}

/// The new file, without a name where the file system can do that.
struct New {
    file: File,
    hidden: PathBuf,
    named: bool,
}

impl New {
    fn create(directory: &Path, hidden: &Path) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(NEW);
        let hidden = hidden.to_owned();
        match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
            Ok(fd) => Ok(Self { file: fd.into(), hidden, named: false }),
            // Not every file system has files without a name.
            Err(_) => {
                let fd = rustix::fs::open(&hidden, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
                Ok(Self { file: fd.into(), hidden, named: true })
            }
        }
    }

    fn fill(&mut self, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
        if let Some(old) = old {
            let new = self.file.metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                let (uid, gid) = (Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
                rustix::fs::fchown(&self.file, Some(uid), Some(gid))?;
            }
            // After the owner, whose change takes set-user-ID away.
            self.file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        }
        self.file.write_all(content)?;
        self.file.sync_all()
    }

    /// Gives it its name.
    fn publish(&self, path: &Path, is_there: bool) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let link = |to: &Path| {
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, own, CWD, to, AtFlags::SYMLINK_FOLLOW)
        };
        if !self.named && !is_there {
            match link(path) {
                // Somebody was faster, and is replaced as if it had been there before.
                Err(rustix::io::Errno::EXIST) => {}
                linked => return Ok(linked?),
            }
        }
        if !self.named {
            link(&self.hidden)?;
        }
        fs::rename(&self.hidden, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_created_replaced_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        assert_eq!(put(&path, b"one", true).unwrap(), Change::Created);
        assert!(names(temp.path()).is_empty());
        assert_eq!(put(&path, b"one", false).unwrap(), Change::Created);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
        let first = fs::metadata(&path).unwrap();
        assert_eq!(put(&path, b"one", false).unwrap(), Change::None);
        let same = fs::metadata(&path).unwrap();
        assert_eq!((same.ino(), same.ctime_nsec()), (first.ino(), first.ctime_nsec()));
        assert_eq!(put(&path, b"two", true).unwrap(), Change::Replaced);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        // What a killed call left.
        fs::write(temp.path().join(".f.holdfast-part"), "half").unwrap();
        assert_eq!(put(&path, b"two", false).unwrap(), Change::Replaced);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let new = fs::metadata(&path).unwrap();
        assert_eq!(new.mode() & 0o7777, 0o4750);
        assert_ne!(new.ino(), first.ino());
        assert_eq!(names(temp.path()), ["f"]);
    }

    #[test]
    fn a_link_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (real, link) = (temp.path().join("real"), temp.path().join("link"));
        fs::write(&real, "one").unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        assert_eq!(put(&link, b"two", false).unwrap(), Change::Replaced);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"two");
    }

    #[test]
    fn what_cannot_be_written_stays() {
        let temp = tempfile::tempdir().unwrap();
        assert!(put(&temp.path().join("no/such/f"), b"x", false).is_err());
        assert!(put(temp.path(), b"x", false).is_err());
        assert!(put(Path::new("/dev/null"), b"x", false).is_err());
        assert!(names(temp.path()).is_empty());
    }
}
