//! `fsGroup`: gives a volume to a group.
//!
//! After the kubelet's `SetVolumeOwnership` (pkg/volume/volume_linux.go): every file gets the group
//! and is made readable (and writable, unless the volume is read-only) by it; directories also get
//! setgid, so that what is made in them later belongs to the group too.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const DIRECTORY: u32 = 0o110;
const SETGID: u32 = 0o2000;

/// Which group a volume is given to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FsGroup {
    pub(super) gid: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`: trust what the top of the volume says.
    pub(super) only_on_mismatch: bool,
}

/// Gives the tree at `top` to the group.
pub(super) fn give(top: &Path, group: FsGroup, read_only: bool) -> io::Result<()> {
    let mask = if read_only { READ_ONLY } else { READ_WRITE };
    if group.only_on_mismatch {
        let meta = fs::metadata(top)?;
        let wanted = mask | DIRECTORY | SETGID;
        if meta.gid() == group.gid && meta.permissions().mode() & wanted == wanted {
            return Ok(());
        }
    }
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let failed = |err: io::Error| {
            let hint = match err.kind() {
                io::ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => {
                    "; fsGroup of another group needs root"
                }
                _ => "",
            };
            io::Error::new(err.kind(), format!("lchown {}: {err}{hint}", path.display()))
        };
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // A container removed it meanwhile.
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return Err(err),
        };
        if meta.gid() != group.gid {
            lchown(&path, None, Some(group.gid)).map_err(failed)?;
        }
        if meta.is_symlink() {
            continue;
        }
        let extra = if meta.is_dir() { mask | DIRECTORY | SETGID } else { mask };
        let mode = meta.permissions().mode() & 0o7777;
        if mode | extra != mode {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | extra))?;
        }
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// A group this process may give files to.
    fn group(only_on_mismatch: bool) -> FsGroup {
        let root = rustix::process::geteuid().is_root();
        let gid = if root { 4321 } else { rustix::process::getegid().as_raw() };
        FsGroup { gid, only_on_mismatch }
    }

    #[test]
    fn files_and_directories_get_the_group() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().join("v");
        fs::create_dir_all(top.join("d")).unwrap();
        fs::write(top.join("d/f"), "").unwrap();
        fs::write(temp.path().join("outside"), "").unwrap();
        std::os::unix::fs::symlink(temp.path().join("outside"), top.join("link")).unwrap();
        for (path, mode) in [("v", 0o700), ("v/d", 0o755), ("v/d/f", 0o600), ("outside", 0o600)] {
            fs::set_permissions(temp.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let group = group(false);
        give(&top, group, false).unwrap();
        assert_eq!(mode(&top), 0o2770);
        assert_eq!(mode(&top.join("d")), 0o2775);
        assert_eq!(mode(&top.join("d/f")), 0o660);
        assert_eq!(fs::metadata(top.join("d/f")).unwrap().gid(), group.gid);
        assert_eq!(mode(&temp.path().join("outside")), 0o600, "links are not followed");
        fs::set_permissions(top.join("d/f"), fs::Permissions::from_mode(0o400)).unwrap();
        give(&top, group, true).unwrap();
        assert_eq!(mode(&top.join("d/f")), 0o440);
    }

    #[test]
    fn a_matching_top_may_be_trusted() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().join("v");
        fs::create_dir(&top).unwrap();
        give(&top, group(true), false).unwrap();
        fs::write(top.join("f"), "").unwrap();
        fs::set_permissions(top.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
        give(&top, group(true), false).unwrap();
        assert_eq!(mode(&top.join("f")), 0o600);
        give(&top, group(false), false).unwrap();
        assert_eq!(mode(&top.join("f")), 0o660);
    }
}
