//! User namespaces with one mapped identity, as anyone may make them.

use std::io;

use nix::sched::{CloneFlags, unshare};

/// Moves the calling process (of one thread) into a new user namespace in which its user and group
/// appear as `uid` and `gid`. No other identity exists there, and the groups can no longer be changed.
///
/// # Errors
/// EPERM where the machine forbids it (Ubuntu's AppArmor rule, a container's seccomp filter), ENOSPC
/// where `user.max_user_namespaces` is used up.
pub fn enter(uid: u32, gid: u32) -> io::Result<()> {
    let (outer_uid, outer_gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // The kernel demands this before a group may be mapped without privilege (user_namespaces(7)).
    match std::fs::write("/proc/self/setgroups", "deny") {
        // Denied already by the namespace around us, or a kernel before 3.19.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    std::fs::write("/proc/self/uid_map", format!("{uid} {outer_uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {outer_gid} 1"))
}

/// Whether the calling process is in a user namespace other than the machine's first.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn inside() -> io::Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    Ok(map.split_whitespace().ne(["0", "0", "4294967295"]))
}
