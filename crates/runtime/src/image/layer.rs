//! Unpacks one layer of an image.
//!
//! A layer is a tar of what changed against the layers below; `.wh.NAME` in it removes NAME, and
//! `.wh..wh..opq` hides all that lower layers have in a directory (OCI image spec, layer.md). The
//! archive is not trusted: no entry can reach outside the directory it is unpacked into.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use crate::beneath::{self, Scope};

/// How removed files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerForm {
    /// As overlayfs wants them in a lower directory: a character device 0:0 for a removed file,
    /// `trusted.overlay.opaque` for a replaced directory. Needs root.
    Overlay,
    /// All layers in one directory, in which the removed files are not. Owners are kept where the
    /// caller may set them, device files left out where it may not make them.
    Flat,
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    /// The archive cannot be read.
    #[error("the archive is damaged: {0}")]
    Archive(#[source] io::Error),
    /// An entry has `..` in its path.
    #[error("entry {0:?} leads out of the image; the archive may be hostile")]
    Outside(PathBuf),
    /// A hard link without its target.
    #[error("hard link {path:?} to {target:?}, which is not in the layer: {source}")]
    Link {
        /// The link.
        path: PathBuf,
        /// What it should be linked to.
        target: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file could not be made.
    #[error("cannot write {path:?}: {source}")]
    Write {
        /// The entry.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
const DEFAULT_DIR: Mode = Mode::from_raw_mode(0o755);

/// Modes and times of directories, which are set when everything is in them: making files changes the
/// time, and needs the mode to allow it where the caller is not root.
#[derive(Default)]
pub(super) struct Directories(Vec<(PathBuf, Mode, Timespec)>);

impl Directories {
    /// Sets them, those further down first.
    pub(super) fn finish(self, root: BorrowedFd<'_>) -> Result<(), LayerError> {
        let mut done = HashSet::new();
        // A later entry of the same directory counts.
        for (path, mode, time) in self.0.into_iter().rev() {
            if !done.insert(path.clone()) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let set = beneath::open(root, &path, flags, Scope::InRoot).and_then(|fd| {
                rustix::fs::fchmod(&fd, mode)?;
                Ok(rustix::fs::futimens(&fd, &times(time))?)
            });
            match set {
                Ok(()) => {}
                // It was removed or replaced further on.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) if err.kind() == io::ErrorKind::NotADirectory => {}
                Err(source) => return Err(LayerError::Write { path, source }),
            }
        }
        Ok(())
    }
}

/// Unpacks the tar `archive` into the directory `root`, on top of what is there.
pub(super) fn unpack(
    archive: impl Read,
    root: BorrowedFd<'_>,
    form: LayerForm,
    directories: &mut Directories,
) -> Result<(), LayerError> {
    let mut layer = Layer { root, form, parent: None, seen: HashSet::new(), directories };
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(LayerError::Archive)? {
        layer.entry(entry.map_err(LayerError::Archive)?)?;
    }
    Ok(())
}

/// Whether this process can make what [`LayerForm::Overlay`] needs in `dir`: looked up by doing it,
/// as root in a user namespace or with few capabilities looks like root and is none.
pub(super) fn can_make_overlay(dir: &Path) -> bool {
    let Ok(fd) = beneath::open_root(dir) else { return false };
    let name = OsStr::new(".overlay-probe");
    let made = whiteout(fd.as_fd(), name).is_ok()
        && rustix::fs::lsetxattr(dir, OPAQUE, b"n", XattrFlags::empty()).is_ok();
    // Best effort: a left-over probe is only an empty entry.
    let _ = rustix::fs::unlinkat(&fd, name, AtFlags::empty());
    made
}

/// A file that overlayfs takes for a removed one.
fn whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

struct Layer<'a> {
    root: BorrowedFd<'a>,
    form: LayerForm,
    /// The directory of the last entry: archives go through a tree directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
    /// What this layer itself brought, with its parents: its whiteouts do not apply to that, whatever
    /// the order of the entries.
    seen: HashSet<PathBuf>,
    directories: &'a mut Directories,
}

impl Layer<'_> {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), LayerError> {
        let raw = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let path = clean(&raw).ok_or_else(|| LayerError::Outside(raw.clone()))?;
        let written = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| LayerError::Write { path, source }
        };
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            if entry.header().entry_type() == EntryType::Directory {
                let root = beneath::open(
                    self.root,
                    Path::new("."),
                    OFlags::RDONLY | OFlags::DIRECTORY,
                    Scope::InRoot,
                )
                .map_err(written(&path))?;
                self.attributes(&mut entry, root.as_fd()).map_err(written(&path))?;
                self.directory_attributes(&entry, path.clone()).map_err(written(&path))?;
            }
            return Ok(());
        };
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = self.parent(&dir).map_err(written(&path))?;
        if name.as_bytes().starts_with(WHITEOUT) {
            let made = self.remove(parent.as_fd(), &dir, &name);
            self.parent = Some((dir, parent));
            return made.map_err(written(&path));
        }
        for part in path.ancestors().take_while(|part| !part.as_os_str().is_empty()) {
            if !self.seen.insert(part.to_owned()) {
                break;
            }
        }
        if entry.header().entry_type() == EntryType::Link {
            self.hard_link(&entry, &path, parent.as_fd(), &name)?;
        } else {
            self.make(&mut entry, &path, parent.as_fd(), &name).map_err(written(&path))?;
        }
        self.parent = Some((dir, parent));
        Ok(())
    }

    /// Opens (or makes) the directory an entry is in.
    fn parent(&mut self, dir: &Path) -> io::Result<OwnedFd> {
        match self.parent.take() {
            Some((known, fd)) if known == dir => Ok(fd),
            _ => beneath::make_dirs(self.root, dir, DEFAULT_DIR, Scope::InRoot),
        }
    }

    /// Makes the file of an entry in `parent`.
    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &Path,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<()> {
        match entry.header().entry_type() {
            EntryType::Directory => {
                self.directory(parent, name)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
                self.attributes(entry, fd.as_fd())?;
                self.directory_attributes(entry, path.to_owned())?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                beneath::remove_tree(parent, name)?;
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
                let mut file = File::from(fd);
                io::copy(entry, &mut file)?;
                self.attributes(entry, file.as_fd())?;
                rustix::fs::futimens(&file, &times(mtime(entry)))?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                beneath::remove_tree(parent, name)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
                self.own_node(entry, parent, name)?;
            }
            kind @ (EntryType::Fifo | EntryType::Char | EntryType::Block) => {
                beneath::remove_tree(parent, name)?;
                let header = entry.header();
                let file_type = match kind {
                    EntryType::Fifo => FileType::Fifo,
                    EntryType::Char => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                let part = |value: io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
                let device = makedev(part(header.device_major()), part(header.device_minor()));
                let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
                match rustix::fs::mknodat(parent, name, file_type, mode, device) {
                    Ok(()) => {
                        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
                        self.own_node(entry, parent, name)?;
                    }
                    // The runtime gives every container its own /dev.
                    Err(Errno::PERM) if self.form == LayerForm::Flat => {}
                    Err(err) => return Err(err.into()),
                }
            }
            // Global headers and vendor extensions bring no file.
            _ => {}
        }
        Ok(())
    }

    /// Makes a directory, or keeps the one that is there.
    fn directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        match rustix::fs::mkdirat(parent, name, DEFAULT_DIR) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(err) => return Err(err.into()),
        }
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Ok(());
        }
        let replaced = is_whiteout(&stat);
        beneath::remove_tree(parent, name)?;
        rustix::fs::mkdirat(parent, name, DEFAULT_DIR)?;
        // The layer removes the directory below and brings a new one of the same name.
        if replaced && self.form == LayerForm::Overlay {
            mark_opaque(parent, name)?;
        }
        Ok(())
    }

    fn hard_link<R: Read>(
        &self,
        entry: &Entry<'_, R>,
        path: &Path,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), LayerError> {
        let raw = entry.link_name_bytes().unwrap_or_default().into_owned();
        let raw = PathBuf::from(OsStr::from_bytes(&raw));
        let target = clean(&raw).ok_or_else(|| LayerError::Outside(raw.clone()))?;
        let failed =
            |source| LayerError::Link { path: path.to_owned(), target: raw.clone(), source };
        let (Some(target_name), target_dir) = (target.file_name(), target.parent()) else {
            return Err(failed(Errno::INVAL.into()));
        };
        if target == path {
            return Ok(());
        }
        let target_dir = beneath::open(
            self.root,
            target_dir.unwrap_or(Path::new("")),
            OFlags::PATH | OFlags::DIRECTORY,
            Scope::InRoot,
        )
        .map_err(failed)?;
        let link = || {
            // Looked at before the old file is removed: the two names may be one.
            rustix::fs::statat(&target_dir, target_name, AtFlags::SYMLINK_NOFOLLOW)?;
            beneath::remove_tree(parent, name)?;
            // Without AT_SYMLINK_FOLLOW a link to a link stays one.
            rustix::fs::linkat(&target_dir, target_name, parent, name, AtFlags::empty())?;
            Ok(())
        };
        link().map_err(failed)
    }

    /// Does what a whiteout says.
    fn remove(&mut self, parent: BorrowedFd<'_>, dir: &Path, mark: &OsStr) -> io::Result<()> {
        if mark.as_bytes() == WHITEOUT_OPAQUE {
            if self.form == LayerForm::Overlay {
                return Ok(rustix::fs::lsetxattr(proc_path(parent), OPAQUE, b"y", NO_FLAGS)?);
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let open = rustix::fs::openat(parent, ".", flags, Mode::empty())?;
            for name in beneath::names(&open)? {
                self.remove_lower(parent, &dir.join(&name), &name)?;
            }
            return Ok(());
        }
        let name = OsStr::from_bytes(&mark.as_bytes()[WHITEOUT.len()..]);
        // The other `.wh..wh.` names are bookkeeping of aufs.
        if name.as_bytes().starts_with(WHITEOUT) {
            return Ok(());
        }
        if name.is_empty() || name == "." || name == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a removal without a name"));
        }
        if self.form == LayerForm::Flat {
            return self.remove_lower(parent, &dir.join(name), name);
        }
        match whiteout(parent, name) {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    mark_opaque(parent, name)?;
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Removes what lower layers brought at `path` and keeps what this one did.
    fn remove_lower(&self, parent: BorrowedFd<'_>, path: &Path, name: &OsStr) -> io::Result<()> {
        if !self.seen.contains(path) {
            return beneath::remove_tree(parent, name);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(dir) => {
                for inner in beneath::names(&dir)? {
                    self.remove_lower(dir.as_fd(), &path.join(&inner), &inner)?;
                }
                Ok(())
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// Sets owner, mode and extended attributes. The owner comes first: changing it clears setuid
    /// bits and file capabilities.
    fn attributes<R: Read>(&self, entry: &mut Entry<'_, R>, fd: BorrowedFd<'_>) -> io::Result<()> {
        let (uid, gid) = owner(entry)?;
        self.forgive(rustix::fs::fchown(fd, Some(uid), Some(gid)))?;
        let mut mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        if entry.header().entry_type() == EntryType::Directory {
            mode |= Mode::RWXU;
        }
        rustix::fs::fchmod(fd, mode)?;
        let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
        for extension in extensions {
            let extension = extension?;
            let Ok(Some(name)) = extension.key().map(|key| key.strip_prefix("SCHILY.xattr."))
            else {
                continue;
            };
            // An image cannot tell overlayfs what it is made of.
            if name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") {
                continue;
            }
            match rustix::fs::fsetxattr(fd, name, extension.value_bytes(), NO_FLAGS) {
                // A file system without them (tmpfs has no user.*) is no reason to fail an image.
                Err(Errno::NOTSUP) => {}
                result => self.forgive(result)?,
            }
        }
        Ok(())
    }

    /// Remembers what a directory gets at the end.
    fn directory_attributes<R: Read>(
        &mut self,
        entry: &Entry<'_, R>,
        path: PathBuf,
    ) -> io::Result<()> {
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        self.directories.0.push((path, mode, mtime(entry)));
        Ok(())
    }

    /// Sets owner and time of a symbolic link or device.
    fn own_node<R: Read>(
        &self,
        entry: &Entry<'_, R>,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<()> {
        let (uid, gid) = owner(entry)?;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        self.forgive(rustix::fs::chownat(parent, name, Some(uid), Some(gid), nofollow))?;
        rustix::fs::utimensat(parent, name, &times(mtime(entry)), nofollow)?;
        Ok(())
    }

    /// Without root, owners that we may not give are ours.
    fn forgive(&self, result: rustix::io::Result<()>) -> io::Result<()> {
        match result {
            Err(Errno::PERM | Errno::INVAL | Errno::ACCESS) if self.form == LayerForm::Flat => {
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

const NO_FLAGS: XattrFlags = XattrFlags::empty();

/// The path of an entry below the root, `None` if it has a `..`.
fn clean(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

fn owner<R: Read>(entry: &Entry<'_, R>) -> io::Result<(Uid, Gid)> {
    let id = |id: u64| {
        // u32::MAX is "leave it" to the kernel.
        u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("owner {id} is out of range"))
        })
    };
    let header = entry.header();
    Ok((Uid::from_raw(id(header.uid()?)?), Gid::from_raw(id(header.gid()?)?)))
}

fn mtime<R: Read>(entry: &Entry<'_, R>) -> Timespec {
    let seconds = entry.header().mtime().ok().and_then(|time| i64::try_from(time).ok());
    Timespec { tv_sec: seconds.unwrap_or(0), tv_nsec: 0 }
}

fn times(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0
}

fn mark_opaque(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    Ok(rustix::fs::fsetxattr(&dir, OPAQUE, b"y", NO_FLAGS)?)
}

/// A path to what a descriptor is open on, for calls that take no `O_PATH` descriptor.
fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", fd.as_raw_fd()))
}
