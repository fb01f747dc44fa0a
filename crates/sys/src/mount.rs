//! Mounts by file descriptor: the new mount API (Linux 5.2, `mount_setattr` 5.12), so that nothing is
//! looked up twice and a bind keeps the inode it was made from.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

/// `MOUNT_ATTR_RDONLY` and its siblings for [`set_attr`].
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// No set-user-id.
    pub const NOSUID: u64 = 0x2;
    /// No devices.
    pub const NODEV: u64 = 0x4;
    /// No programs.
    pub const NOEXEC: u64 = 0x8;
}

/// What [`set_attr`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// Attributes to set ([`attr`]).
    pub set: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, or 0 to leave the propagation.
    pub propagation: u64,
    /// Whether the mounts below change as well.
    pub recursive: bool,
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of the mount that `mount` is the root of.
///
/// # Errors
/// What `mount_setattr` says; EPERM where an attribute is locked by an outer user namespace.
pub fn set_attr(mount: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    let args =
        MountAttr { set: change.set, clear: 0, propagation: change.propagation, userns_fd: 0 };
    let mut flags = libc::AT_EMPTY_PATH;
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string, `args` is live and of the size given; the kernel only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const args,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A copy of the mount tree at `path`, mounted nowhere yet: the bind of its inode.
///
/// # Errors
/// ENOENT and its kin for the path; EINVAL where the copy would uncover what an outer user namespace
/// hides.
pub fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// As [`clone_tree`], of what a descriptor stands for.
///
/// # Errors
/// As [`clone_tree`].
pub fn clone_tree_at(at: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(at, "", flags)?)
}

/// A descriptor of the mount at `path` itself, to be moved by [`attach`].
///
/// # Errors
/// ENOENT and its kin.
pub fn open_mount(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::mount::open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// Mounts `mount` (of [`clone_tree`], [`new_fs`] or [`open_mount`]) on `target`.
///
/// # Errors
/// ENOTDIR where one is a directory and the other is not.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// A new file system, mounted nowhere yet. An option without a value is a flag.
///
/// # Errors
/// What the file system says.
pub fn new_fs(fstype: &str, options: &[(&str, Option<&str>)], attrs: u64) -> io::Result<OwnedFd> {
    let context = configure(fstype, options)?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attrs as u32),
    )?)
}

/// Whether a file system could be made like that. It is not mounted, so nobody has to wait for its end.
///
/// # Errors
/// What the file system says.
pub fn try_fs(fstype: &str, options: &[(&str, Option<&str>)]) -> io::Result<()> {
    configure(fstype, options).map(drop)
}

fn configure(fstype: &str, options: &[(&str, Option<&str>)]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => {
                rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
            }
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), *key)?,
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(context)
}

/// The classic `mount`, for what the new API cannot say (overlays with long options).
///
/// # Errors
/// What the file system says.
pub fn mount(fstype: &str, target: &Path, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(fstype, target, fstype, MountFlags::empty(), options.as_c_str())?)
}

/// Makes every mount of the namespace receive the changes of the one it was copied from, and send
/// none back.
///
/// # Errors
/// EPERM without the right to mount.
pub fn make_all_slaves() -> io::Result<()> {
    use rustix::mount::MountPropagationFlags;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// Makes one mount send and receive nothing.
///
/// # Errors
/// EINVAL if `path` is not a mount point.
pub fn make_private(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_change(path, rustix::mount::MountPropagationFlags::PRIVATE)?)
}

/// Takes a mount away, at once from the tree and for good when nobody uses it any more.
///
/// # Errors
/// EINVAL if `path` is not a mount point.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}
