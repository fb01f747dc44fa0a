//! The host's own files as a container's root: which parts are copied on write, which are bound.
//!
//! An overlay shows one file system and never what is mounted on it, so a root made of the host's `/`
//! is put together from one overlay for each of the host's mounts. Inside a user namespace the kernel
//! refuses an overlay of a directory with anything mounted below it (it would uncover what is hidden
//! there); such a directory is made anew, with an overlay for each of its entries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::mountinfo::MountEntry;

/// One part of the root, in the order they are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A directory copied on write.
    Overlay(PathBuf),
    /// A file, or a tree that must stay read-only.
    Bind(PathBuf),
    /// A new directory of this mode.
    Directory(PathBuf, u32),
    /// A symbolic link to something.
    Link(PathBuf, PathBuf),
}

/// What a container gets anew, whatever the host has there.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Kernel interfaces: shown, never written.
const KERNEL: [&str; 16] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Works out the parts from the host's visible mounts.
pub(super) fn parts(mounts: &[&MountEntry], locked: bool, staging: &Path) -> Vec<Part> {
    let mounts: Vec<&MountEntry> =
        mounts.iter().copied().filter(|entry| !skipped(entry, staging)).collect();
    let mut parts = Vec::new();
    if locked {
        // What lies below decides, also what is left out of the result.
        expand(Path::new("/"), &mounts, &mut parts, 0);
        return parts;
    }
    for entry in mounts {
        let bound = |part: &Part| matches!(part, Part::Bind(p) if entry.target.starts_with(p));
        if !parts.iter().any(bound) {
            parts.push(part_of(entry));
        }
    }
    parts
}

fn skipped(entry: &MountEntry, staging: &Path) -> bool {
    OWN.iter().any(|own| entry.target.starts_with(own))
        || entry.target == Path::new("/tmp")
        || entry.target.starts_with(staging)
        // An automounter's directory would be mounted by our looking at it; a namespace file is no
        // directory and nothing a container needs.
        || entry.fstype == "autofs"
        || entry.fstype == "nsfs"
}

fn part_of(entry: &MountEntry) -> Part {
    let path = entry.target.clone();
    // Kept as it is: what cannot be written anyway, kernel interfaces, and single files.
    if entry.target != Path::new("/")
        && (entry.read_only || KERNEL.contains(&entry.fstype.as_str()) || !path.is_dir())
    {
        return Part::Bind(path);
    }
    Part::Overlay(path)
}

/// Deeper mount points than this are bound with all around them.
const MAX_DEPTH: usize = 16;

fn expand(path: &Path, mounts: &[&MountEntry], parts: &mut Vec<Part>, depth: usize) {
    let mounted = mounts.iter().rev().find(|entry| entry.target == path);
    if let Some(Part::Bind(path)) = mounted.map(|entry| part_of(entry)) {
        parts.push(Part::Bind(path));
        return;
    }
    let own = OWN.iter().any(|own| Path::new(own).starts_with(path));
    let below = own || mounts.iter().any(|e| e.target != path && e.target.starts_with(path));
    if !below {
        parts.push(Part::Overlay(path.to_owned()));
        return;
    }
    let Ok(entries) = fs::read_dir(path) else {
        return; // not ours to read: nothing the container could see either
    };
    if depth > MAX_DEPTH {
        parts.push(Part::Bind(path.to_owned()));
        return;
    }
    let mode = fs::metadata(path).map_or(0o755, |m| m.permissions().mode() & 0o7777);
    parts.push(Part::Directory(path.to_owned(), mode));
    let mut names: Vec<_> = entries.filter_map(Result::ok).collect();
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let child = entry.path();
        if OWN.iter().any(|own| child == Path::new(own)) {
            parts.push(Part::Directory(child, 0o755));
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => {
                if let Ok(target) = fs::read_link(&child) {
                    parts.push(Part::Link(child, target));
                }
            }
            Ok(kind) if kind.is_dir() => expand(&child, mounts, parts, depth + 1),
            Ok(kind) if kind.is_file() => parts.push(Part::Bind(child)),
            // Sockets and devices of the host are not the container's.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo;

    fn entries(text: &str) -> Vec<MountEntry> {
        mountinfo::parse(text)
    }

    #[test]
    fn each_mount_is_a_part_of_its_own() {
        let all = entries(
            "1 0 8:1 / / rw - ext4 d rw\n\
             2 1 0:1 / /proc rw - proc p rw\n\
             3 1 0:2 / /tmp rw - tmpfs t rw\n\
             4 1 0:3 / /usr rw - xfs d rw\n\
             5 1 0:4 / /etc ro - ext4 d rw\n\
             6 1 0:4 / /run/hf/x/mnt rw - tmpfs d rw\n\
             7 5 0:4 / /etc/sub rw - tmpfs d rw\n",
        );
        let refs: Vec<&MountEntry> = all.iter().collect();
        assert_eq!(
            parts(&refs, false, Path::new("/run/hf/x/mnt")),
            [
                Part::Overlay("/".into()),
                Part::Overlay("/usr".into()),
                Part::Bind("/etc".into()), // with what is mounted below it
            ]
        );
    }

    #[test]
    fn in_a_user_namespace_directories_with_mounts_below_are_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(at("a/mounted")).unwrap();
        fs::create_dir_all(at("b")).unwrap();
        fs::write(at("a/file"), "").unwrap();
        std::os::unix::fs::symlink("b", at("link")).unwrap();
        let text = format!("2 1 0:1 / {} rw - tmpfs t rw\n", at("a/mounted").display());
        let all = entries(&text);
        let refs: Vec<&MountEntry> = all.iter().collect();
        let mut parts = Vec::new();
        expand(dir.path(), &refs, &mut parts, 0);
        assert!(matches!(&parts[0], Part::Directory(path, 0o700) if path == dir.path()));
        assert!(matches!(&parts[1], Part::Directory(path, _) if *path == at("a")));
        assert_eq!(
            parts[2..],
            [
                Part::Bind(at("a/file")),
                Part::Overlay(at("a/mounted")),
                Part::Overlay(at("b")),
                Part::Link(at("link"), "b".into()),
            ]
        );
    }
}
