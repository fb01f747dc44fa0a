//! Paths inside a container's root, followed without ever leaving it.
//!
//! [`resolve`] follows symbolic links as if the root were `/` (also through links whose end does not
//! exist yet, as `/etc/resolv.conf` often is); [`open_or_create`] then walks the result by descriptor
//! and refuses every link, so that nobody who writes at the same time can lead it out.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// As the kernel's limit.
const MAX_LINKS: usize = 40;

/// Follows `path` inside `root`. The answer is relative, without links and without `..`; its last
/// parts may not exist.
///
/// # Errors
/// ELOOP for too many links, and what reading a link says.
pub fn resolve(root: BorrowedFd<'_>, path: &Path) -> io::Result<PathBuf> {
    let mut pending: VecDeque<OsString> = parts(path).collect();
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(part) = pending.pop_front() {
        if part == ".." {
            done.pop();
            continue;
        }
        let candidate = done.join(&part);
        match rustix::fs::readlinkat(root, &candidate, Vec::new()) {
            Ok(link) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let link = Path::new(std::ffi::OsStr::from_bytes(link.to_bytes()));
                if link.is_absolute() {
                    done = PathBuf::new();
                }
                for part in parts(link).collect::<Vec<_>>().into_iter().rev() {
                    pending.push_front(part);
                }
            }
            // Not a link, or nothing there yet.
            Err(Errno::INVAL | Errno::NOENT) => done = candidate,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Opens (`O_PATH`) what is at `path` inside `root`, with links followed inside the root.
///
/// # Errors
/// ENOENT and its kin.
pub fn open(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let stay = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, stay)?)
}

/// Opens (`O_PATH`) a path of the host that has no symbolic link in it: one that somebody put there
/// since it was looked up is refused, so that a container cannot redirect the mounts of its siblings.
///
/// # Errors
/// ELOOP for a link, ENOENT and its kin.
pub fn open_canonical(path: &Path) -> io::Result<OwnedFd> {
    let strict = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, strict)?)
}

/// The root directory of the caller, as an `O_PATH` descriptor.
pub(crate) fn root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/", flags, Mode::empty())?)
}

/// `openat2` without its spurious EAGAIN, which it gives while anything is renamed or mounted.
fn openat2(
    at: BorrowedFd<'_>,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat2(at, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens (`O_PATH`) the place for a mount at `path` inside `root`; what is missing is made: directories
/// of mode 0755 on the way, and a directory or an empty file at its end.
///
/// # Errors
/// EROFS where it would have to be made on something read-only, ENOTDIR where a file is in the way.
pub fn open_or_create(root: BorrowedFd<'_>, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    // Nearly always everything is there: one call.
    if let Ok(found) = open(root, path) {
        return Ok(found);
    }
    let resolved = resolve(root, path)?;
    let mut at = open(root, Path::new("/"))?;
    let names: Vec<&std::ffi::OsStr> = resolved.iter().collect();
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        at = step(at.as_fd(), Path::new(name), directory || !last)?;
    }
    Ok(at)
}

/// Makes a directory and opens it (`O_PATH`); it may be there already, but no link.
///
/// # Errors
/// ELOOP for a link, EROFS and its kin.
pub(crate) fn make_directory(at: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    Ok(openat2(at, name, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?)
}

fn step(at: BorrowedFd<'_>, name: &Path, directory: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(at, name, flags, resolve) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let made = if directory {
        rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755))
    } else {
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, create, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(openat2(at, name, flags, resolve)?)
}

/// Opens (`O_PATH`) what is at `path` inside `root`, for a mount of a part of a volume: links are
/// followed as long as they do not lead out. Directories that are missing are made with the mode of
/// `root`, so that they are as open as it is.
///
/// # Errors
/// EXDEV for a path that leads out, ENOENT for a link to nothing, and their kin.
pub fn open_beneath_or_create(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(root)?.st_mode & 0o7777);
    let mut at = openat2(root, c".", flags, stay)?;
    let mut done = PathBuf::new();
    for part in path.components() {
        done.push(part);
        at = match openat2(root, &done, flags, stay) {
            Err(Errno::NOENT) => {
                let made = rustix::fs::mkdirat(&at, part.as_os_str(), mode);
                if !matches!(made, Ok(()) | Err(Errno::EXIST)) {
                    made?;
                }
                // A link to nothing is no place to make something in.
                let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let found = openat2(at.as_fd(), part.as_os_str(), flags, strict)?;
                if made.is_ok() {
                    chmod(found.as_fd(), mode)?;
                }
                found
            }
            other => other?,
        };
    }
    Ok(at)
}

/// Changes the mode of what an `O_PATH` descriptor stands for, whatever our umask is.
fn chmod(fd: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)?)
}

/// Whether a descriptor stands for a directory.
///
/// # Errors
/// What `fstat` says.
pub fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Removes a directory and everything in it, but never anything that is mounted inside: a mount point
/// is an error, and what is on it stays.
///
/// # Errors
/// The first thing that could not be removed; a directory that is not there is none.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    empty(directory.as_fd(), 0)?;
    Ok(rustix::fs::rmdir(path)?)
}

/// Deeper trees than this are not made by anyone in good faith; the limit keeps our stack.
const MAX_DEPTH: usize = 500;

fn empty(directory: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("directories nested too deep to remove"));
    }
    let names: Vec<_> = rustix::fs::Dir::read_from(directory)?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| name.as_c_str() != c"." && name.as_c_str() != c"..")
        .collect();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for name in names {
        use rustix::fs::AtFlags;
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            // A directory: EISDIR on Linux, EPERM by POSIX.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let child = match openat2(directory, name.as_c_str(), flags, stay) {
            // Its owner took its own rights away; we may give them back.
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(
                    directory,
                    &name,
                    Mode::from_raw_mode(0o700),
                    AtFlags::empty(),
                )?;
                openat2(directory, name.as_c_str(), flags, stay)?
            }
            other => other?,
        };
        if let Err(error) = empty(child.as_fd(), depth + 1) {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            rustix::fs::fchmod(&child, Mode::from_raw_mode(0o700))?;
            empty(child.as_fd(), depth + 1)?;
        }
        rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root_of(dir: &tempfile::TempDir) -> OwnedFd {
        rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("/etc", dir.path().join("a/b/out")).unwrap();
        symlink("../../../../../x", dir.path().join("a/up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = root_of(&dir);
        let resolve = |path: &str| resolve(root.as_fd(), Path::new(path));
        assert_eq!(resolve("/a/b/out/passwd").unwrap(), Path::new("etc/passwd"));
        assert_eq!(resolve("/a/up/y").unwrap(), Path::new("x/y"));
        assert_eq!(resolve("/../../z").unwrap(), Path::new("z"));
        assert!(resolve("/loop").is_err());
    }

    #[test]
    fn a_missing_place_is_made_where_the_link_leads() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        symlink("../run/stub/resolv.conf", dir.path().join("etc/resolv.conf")).unwrap();
        symlink("/data", dir.path().join("etc/data")).unwrap();
        let root = root_of(&dir);
        open_or_create(root.as_fd(), Path::new("/etc/resolv.conf"), false).unwrap();
        assert!(dir.path().join("run/stub/resolv.conf").is_file());
        let made = open_or_create(root.as_fd(), Path::new("/etc/data/x"), true).unwrap();
        assert!(is_directory(made.as_fd()).unwrap());
        assert!(dir.path().join("data/x").is_dir());
        assert!(!Path::new("/data/x").exists());
        let file_in_the_way =
            open_or_create(root.as_fd(), Path::new("/run/stub/resolv.conf/x"), true);
        assert!(file_in_the_way.is_err());
    }

    #[test]
    fn parts_of_a_volume_stay_inside() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        std::fs::create_dir(&volume).unwrap();
        std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::write(volume.join("file"), "").unwrap();
        symlink("made", volume.join("inside")).unwrap();
        symlink("../out", volume.join("up")).unwrap();
        symlink(dir.path(), volume.join("away")).unwrap();
        let root = rustix::fs::open(&volume, OFlags::PATH, Mode::empty()).unwrap();
        let open = |path: &str| open_beneath_or_create(root.as_fd(), Path::new(path));
        // A link to nothing is not a place where something is made.
        assert!(open("inside/x").is_err());
        open("made/deep").unwrap();
        for made in ["made", "made/deep"] {
            let mode = std::fs::metadata(volume.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o1777, "{made}");
        }
        assert!(is_directory(open("inside/deep").unwrap().as_fd()).unwrap());
        assert!(!is_directory(open("file").unwrap().as_fd()).unwrap());
        assert!(open(".").is_ok());
        for out in ["up", "away", "away/x", "up/x", "..", "../out", "/etc", "file/x"] {
            assert!(open(out).is_err(), "{out}");
        }
        assert!(!dir.path().join("out").exists() && !dir.path().join("x").exists());
    }

    #[test]
    fn a_tree_is_removed_but_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (doomed, kept) = (dir.path().join("doomed"), dir.path().join("kept"));
        std::fs::create_dir_all(doomed.join("a/b/c")).unwrap();
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        std::fs::write(doomed.join("a/file"), "x").unwrap();
        symlink(&kept, doomed.join("a/link")).unwrap();
        remove_tree(&doomed).unwrap();
        assert!(!doomed.exists());
        assert!(kept.join("file").exists());
        remove_tree(&doomed).unwrap();
    }
}
