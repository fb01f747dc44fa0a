//! Puts a file in its place: whole or not at all, and only if it changes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

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
/// The bits of `st_mode` that are the mode, and not the kind of file.
const MODE: u32 = 0o7777;

/// Who owns a file, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// As those of the file that was there.
    Kept,
    /// It is ours, with this mode.
    Mode(u32),
}

/// Gives a file its content, or with `check` only says what that would be. A link is followed.
pub(crate) fn put(
    path: &Path,
    content: &[u8],
    attributes: Attributes,
    check: bool,
) -> io::Result<Change> {
    let path = resolve(path)?;
    // Before it is opened: that would wait for the other end of a pipe.
    let old = match fs::metadata(&path) {
        Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is no regular file")),
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && (attributes == Attributes::Kept || attributes == Attributes::Mode(old.mode() & MODE))
        && has(&path, old, content)?
    {
        return Ok(Change::None);
    }
    let change = if old.is_some() { Change::Replaced } else { Change::Created };
    if !check {
        replace(&path, |new| {
            match (attributes, &old) {
                (Attributes::Kept, Some(old)) => keep(new, old)?,
                (Attributes::Kept, None) => {}
                (Attributes::Mode(mode), _) => set_mode(new, mode)?,
            }
            new.write_all(content)
        })?;
    }
    Ok(change)
}

/// Where a path leads: a link is followed, also one to a file that is not there yet.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as the kernel follows.
    for _ in 0..40 {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let Ok(next) = fs::read_link(&path) else { return Ok(path) };
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(Errno::LOOP.into())
}

fn keep(new: &File, old: &Metadata) -> io::Result<()> {
    let meta = new.metadata()?;
    if (meta.uid(), meta.gid()) != (old.uid(), old.gid()) {
        let (uid, gid) = (Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
        rustix::fs::fchown(new, Some(uid), Some(gid))?;
    }
    // After the owner, whose change takes set-user-ID away.
    set_mode(new, old.mode() & MODE)
}

fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Whether a file has this content.
fn has(path: &Path, meta: &Metadata, content: &[u8]) -> io::Result<bool> {
    if meta.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut bytes = Vec::with_capacity(content.len());
    File::open(path)?.take(content.len() as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes == content)
}

/// Puts a new file in the place of `path`, whether there is one or not; `fill` gives it its content.
///
/// The new file has no name until it is whole and on the disk, so that a process killed half-way leaves
/// nothing; only between its getting a name and that name's becoming `path` (two system calls) is there a
/// hidden file, which the next call removes.
fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::other("it has no name"));
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut hidden = OsString::from(".");
    // A name has at most 255 bytes.
    hidden.push(OsStr::from_bytes(&name.as_bytes()[..name.len().min(200)]));
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
    let filled = fill(&mut new.file).and_then(|()| new.file.sync_all());
    if let Err(error) = filled.and_then(|()| new.publish(path)) {
        let _ = fs::remove_file(&hidden);
        return Err(error);
    }
    // The name is as durable as the content.
    opened.sync_all()
}

/// The new file, without a name where the file system can do that.
struct New<'a> {
    file: File,
    hidden: &'a Path,
    named: bool,
}

impl<'a> New<'a> {
    fn create(directory: &Path, hidden: &'a Path) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(NEW);
        if let Ok(fd) = rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
            return Ok(Self { file: fd.into(), hidden, named: false });
        }
        // Not every file system has files without a name.
        let fd = rustix::fs::open(hidden, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
        Ok(Self { file: fd.into(), hidden, named: true })
    }

    /// Gives it its name.
    fn publish(&self, path: &Path) -> io::Result<()> {
        if !self.named {
            // If nothing is there yet, it takes one step and not two.
            match self.link(path) {
                Err(Errno::EXIST) => self.link(self.hidden)?,
                linked => return Ok(linked?),
            }
        }
        fs::rename(self.hidden, path)
    }

    fn link(&self, to: &Path) -> Result<(), Errno> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, own, CWD, to, AtFlags::SYMLINK_FOLLOW)
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
        assert_eq!(put(&path, b"one", Attributes::Kept, true).unwrap(), Change::Created);
        assert!(names(temp.path()).is_empty());
        assert_eq!(put(&path, b"one", Attributes::Kept, false).unwrap(), Change::Created);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
        let first = fs::metadata(&path).unwrap();
        assert_eq!(put(&path, b"one", Attributes::Kept, false).unwrap(), Change::None);
        let same = fs::metadata(&path).unwrap();
        assert_eq!((same.ino(), same.ctime_nsec()), (first.ino(), first.ctime_nsec()));
        assert_eq!(put(&path, b"two", Attributes::Kept, true).unwrap(), Change::Replaced);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        // What a killed call left.
        fs::write(temp.path().join(".f.holdfast-part"), "half").unwrap();
        assert_eq!(put(&path, b"two", Attributes::Kept, false).unwrap(), Change::Replaced);
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
        assert_eq!(put(&link, b"two", Attributes::Kept, false).unwrap(), Change::Replaced);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"two");
        // Before there is anything where it leads.
        fs::create_dir(temp.path().join("d")).unwrap();
        let far = temp.path().join("far");
        std::os::unix::fs::symlink("d/near", &far).unwrap();
        std::os::unix::fs::symlink("../new", temp.path().join("d/near")).unwrap();
        assert_eq!(put(&far, b"three", Attributes::Kept, false).unwrap(), Change::Created);
        assert_eq!(fs::read(temp.path().join("new")).unwrap(), b"three");
        assert!(fs::symlink_metadata(&far).unwrap().is_symlink());
        std::os::unix::fs::symlink("round", temp.path().join("round")).unwrap();
        let error = put(&temp.path().join("round"), b"x", Attributes::Kept, false).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn a_name_may_be_as_long_as_names_are() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x".repeat(255));
        for content in ["one", "two"] {
            put(&path, content.as_bytes(), Attributes::Kept, false).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(names(temp.path()).len(), 1);
    }

    #[test]
    fn what_cannot_be_written_stays() {
        let temp = tempfile::tempdir().unwrap();
        assert!(put(&temp.path().join("no/such/f"), b"x", Attributes::Kept, false).is_err());
        assert!(put(temp.path(), b"x", Attributes::Kept, false).is_err());
        let socket = temp.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(put(&socket, b"x", Attributes::Kept, false).is_err());
        assert_eq!(names(temp.path()), ["socket"]);
    }
}
