//! Paths that must stay inside a directory, whatever symbolic links someone put there.
//!
//! Images and volumes are written by programs that we do not trust with the host's files, so nothing
//! in them is ever opened by joining strings. Every look-up goes through [`open`]: `openat2` where the
//! kernel has it, else a walk of our own with one file descriptor a component.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// What an absolute symbolic link, or one that climbs too high, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It leaves the directory: an error (`EXDEV`), as for volumes.
    Beneath,
    /// The directory is the root of its own file system, as for images.
    InRoot,
}

/// As many symbolic links as the kernel follows in one look-up.
const MAX_LINKS: usize = 40;

/// Opens the directory that later look-ups stay in.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path`, never leaving `root`.
///
/// # Errors
/// The kernel's; `EXDEV` if the path leads out, `ELOOP` for too many links.
pub(crate) fn open(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    scope: Scope,
) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = match scope {
        Scope::Beneath => ResolveFlags::BENEATH,
        Scope::InRoot => ResolveFlags::IN_ROOT,
    } | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename raced with a `..` in the path; the kernel asks to try again.
    for _ in 0..16 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Older kernels, and sandboxes whose filter does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => break,
            other => return Ok(other?),
        }
    }
    walk(root, path, flags, scope)
}

/// [`open`] without `openat2`: holds a descriptor for every directory on the way, so that `..` means
/// the directory we came from even if it is moved meanwhile.
fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlags, scope: Scope) -> io::Result<OwnedFd> {
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut todo: VecDeque<OsString> = VecDeque::new();
    if path.is_absolute() && scope == Scope::Beneath {
        return Err(Errno::XDEV.into());
    }
    push_front(&mut todo, path.as_os_str().as_bytes());
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == "." {
            continue;
        }
        if name == ".." {
            if way.pop().is_none() && scope == Scope::Beneath {
                return Err(Errno::XDEV.into());
            }
            continue;
        }
        let here = way.last().map_or(root, AsFd::as_fd);
        let last = todo.is_empty();
        let link_flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(here, &*name, link_flags, Mode::empty())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if kind == FileType::Symlink && !(last && flags.contains(OFlags::NOFOLLOW)) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                if scope == Scope::Beneath {
                    return Err(Errno::XDEV.into());
                }
                way.clear();
            }
            push_front(&mut todo, &target);
        } else if last {
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return Ok(rustix::fs::openat(here, &*name, flags, Mode::empty())?);
        } else {
            way.push(fd);
        }
    }
    let here = way.last().map_or(root, AsFd::as_fd);
    Ok(rustix::fs::openat(here, ".", flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Puts the components of `path` before what is still to do.
fn push_front(todo: &mut VecDeque<OsString>, path: &[u8]) {
    for part in path.split(|&b| b == b'/').rev().filter(|part| !part.is_empty()) {
        todo.push_front(OsString::from_vec(part.to_vec()));
    }
}

/// Opens the directory `path`, making what is missing of it with `mode` (whatever the umask is).
pub(crate) fn make_dirs(
    root: impl AsFd,
    path: &Path,
    mode: Mode,
    scope: Scope,
) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open(root, path, flags, scope) {
        Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
        other => return other,
    }
    let mut parent = open(root, Path::new("."), flags, scope)?;
    let mut prefix = std::path::PathBuf::new();
    for part in path.components() {
        prefix.push(part);
        let Component::Normal(name) = part else {
            parent = open(root, &prefix, flags, scope)?;
            continue;
        };
        let found = open(root, &prefix, flags, scope);
        parent = match found {
            Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                rustix::fs::mkdirat(&parent, name, mode)?;
                let made = rustix::fs::openat(
                    &parent,
                    name,
                    OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                rustix::fs::fchmod(&made, mode)?;
                made
            }
            other => other?,
        };
    }
    Ok(parent)
}

/// Removes the file or tree `name` in `parent`. Symbolic links are removed, not followed; a mount in
/// the tree is an error, and what is under it stays.
///
/// Absent is fine. Works for trees of any depth with a bounded number of descriptors.
pub(crate) fn remove_tree(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let parent = parent.as_fd();
    let mut todo: Vec<OsString> = vec![name.to_os_string()];
    let mut moved = 0_u64;
    while let Some(name) = todo.pop() {
        remove(parent, &name, 0, &mut |dir, deep| {
            moved += 1;
            let away = OsString::from(format!(".holdfast-removing-{}-{moved}", std::process::id()));
            rustix::fs::renameat(dir, deep, parent, &*away)?;
            todo.push(away);
            Ok(())
        })?;
    }
    Ok(())
}

/// Depth from which directories are moved to the top instead of being entered: bounds both the stack
/// and the number of open descriptors.
const MAX_DEPTH: usize = 48;

type MoveAway<'a> = dyn FnMut(BorrowedFd<'_>, &OsStr) -> io::Result<()> + 'a;

fn remove(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    depth: usize,
    move_away: &mut MoveAway<'_>,
) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EISDIR on Linux, EPERM by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(err) => return Err(err.into()),
    }
    let stat = rustix::fs::statx(
        parent,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        StatxFlags::BASIC_STATS,
    )?;
    if !FileType::from_raw_mode(stat.stx_mode.into()).is_dir() {
        return Err(Errno::PERM.into());
    }
    if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{} is a mount point", name.display()),
        ));
    }
    if depth >= MAX_DEPTH {
        return move_away(parent, name);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        // A directory that its owner may not read: it is ours, so make it readable.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    if !stat.stx_mode & 0o300 != 0 {
        // Best effort: root does not need it, and others get the error of the unlink below.
        let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
    }
    for entry in names(&dir)? {
        remove(dir.as_fd(), &entry, depth + 1, move_away)?;
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// The names in a directory that is open for reading.
pub(crate) fn names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    type Open = fn(BorrowedFd<'_>, &Path, OFlags, Scope) -> io::Result<OwnedFd>;

    /// Both ways of resolving must agree; the kernel's is the reference.
    const WAYS: [(&str, Open); 2] =
        [("openat2", |root, path, flags, scope| open(root, path, flags, scope)), ("walk", walk)];

    fn read(way: Open, root: &OwnedFd, path: &str, scope: Scope) -> io::Result<String> {
        let fd = way(root.as_fd(), Path::new(path), OFlags::RDONLY, scope)?;
        let mut text = String::new();
        fs::File::from(fd).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn links_stay_inside() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path();
        fs::write(base.join("secret"), "outside").unwrap();
        let root = base.join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "inside").unwrap();
        fs::write(root.join("secret"), "mine").unwrap();
        symlink("a/file", root.join("rel")).unwrap();
        symlink("/a/file", root.join("abs")).unwrap();
        symlink("../../secret", root.join("a/up")).unwrap();
        symlink("../rel", root.join("a/twice")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = open_root(&root).unwrap();
        for (name, way) in WAYS {
            let beneath = |path| read(way, &fd, path, Scope::Beneath);
            let inside = |path| read(way, &fd, path, Scope::InRoot);
            assert_eq!(beneath("rel").unwrap(), "inside", "{name}");
            assert_eq!(beneath("a/twice").unwrap(), "inside", "{name}");
            assert_eq!(beneath("a/b/../file").unwrap(), "inside", "{name}");
            assert_eq!(inside("abs").unwrap(), "inside", "{name}");
            assert_eq!(inside("a/up").unwrap(), "mine", "{name}");
            assert_eq!(inside("/../../a/file").unwrap(), "inside", "{name}");
            for out in ["abs", "a/up", "../secret", "a/../../secret", "/secret"] {
                let errno = beneath(out).unwrap_err().raw_os_error();
                assert_eq!(errno, Some(Errno::XDEV.raw_os_error()), "{name}: {out}");
            }
            for scope in [Scope::Beneath, Scope::InRoot] {
                let errno = read(way, &fd, "loop", scope).unwrap_err().raw_os_error();
                assert_eq!(errno, Some(Errno::LOOP.raw_os_error()), "{name}");
            }
            let link =
                way(fd.as_fd(), Path::new("abs"), OFlags::PATH | OFlags::NOFOLLOW, Scope::Beneath)
                    .unwrap();
            let mode = rustix::fs::fstat(&link).unwrap().st_mode;
            assert!(FileType::from_raw_mode(mode).is_symlink(), "{name}");
        }
    }

    #[test]
    fn directories_are_made_inside() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        symlink("/real", root.join("link")).unwrap();
        symlink(temp.path(), root.join("out")).unwrap();
        let fd = open_root(&root).unwrap();
        let mode = Mode::from_raw_mode(0o775);
        make_dirs(&fd, Path::new("link/x/y"), mode, Scope::InRoot).unwrap();
        let made = fs::metadata(root.join("real/x/y")).unwrap();
        assert_eq!(made.permissions().mode() & 0o7777, 0o775);
        make_dirs(&fd, Path::new("out/x"), mode, Scope::Beneath).unwrap_err();
        assert!(!temp.path().join("x").exists());
    }

    #[test]
    fn removing_takes_deep_trees_and_leaves_targets() {
        let temp = tempfile::tempdir().unwrap();
        let kept = temp.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let tree = temp.path().join("tree");
        let mut dir = tree.clone();
        for _ in 0..200 {
            dir.push("d");
        }
        fs::create_dir_all(&dir).unwrap();
        symlink(&kept, dir.join("link")).unwrap();
        fs::write(dir.join("file"), "x").unwrap();
        fs::set_permissions(dir.parent().unwrap(), fs::Permissions::from_mode(0o000)).unwrap();
        let parent = open_root(temp.path()).unwrap();
        remove_tree(&parent, OsStr::new("tree")).unwrap();
        remove_tree(&parent, OsStr::new("tree")).unwrap();
        let left: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, std::slice::from_ref(&kept));
        assert!(kept.join("file").exists());
    }

    #[test]
    fn a_mount_is_not_entered() {
        // devpts lets no one remove its files, so a failure of this test does no harm.
        let dev = open_root(Path::new("/dev")).unwrap();
        let pts = rustix::fs::statx(&dev, "pts", AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
        let mounted = pts.is_ok_and(|s| s.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        if !mounted || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root and a mount at /dev/pts");
            return;
        }
        let error = remove_tree(&dev, OsStr::new("pts")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        assert!(error.to_string().contains("is a mount point"), "{error}");
    }
}
