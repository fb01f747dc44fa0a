//! The mounts of a mount namespace, read from `/proc/self/mountinfo` (proc(5)).

use std::io;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Its id.
    pub id: u32,
    /// The id of the mount it is on.
    pub parent: u32,
    /// Which part of the file system it shows.
    pub root: PathBuf,
    /// Where it is.
    pub target: PathBuf,
    /// Whether it, or its file system, is read-only.
    pub read_only: bool,
    /// The type of its file system.
    pub fstype: String,
}

/// Reads the mounts of the calling process, in mount order.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn read() -> io::Result<Vec<MountEntry>> {
    use std::io::Read;
    let mut text = String::with_capacity(USUAL_SIZE);
    std::fs::File::open("/proc/self/mountinfo")?.read_to_string(&mut text)?;
    Ok(parse(&text))
}

/// Room for the text of most machines: the kernel makes it anew from the start of a line for every
/// piece that is asked for, and a file of `/proc` does not say how long it is.
pub(crate) const USUAL_SIZE: usize = 8 * 1024;

/// Parses the text of a `mountinfo`; lines it cannot read are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<MountEntry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<MountEntry> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let id = front.next()?.parse().ok()?;
    let parent = front.next()?.parse().ok()?;
    let _device = front.next()?;
    let root = unescape(front.next()?);
    let target = unescape(front.next()?);
    let options = front.next()?;
    let mut back = back.split(' ');
    let fstype = back.next()?.to_owned();
    let super_options = back.nth(1).unwrap_or_default();
    let ro = |options: &str| options.split(',').any(|option| option == "ro");
    Some(MountEntry {
        id,
        parent,
        root,
        target,
        read_only: ro(options) || ro(super_options),
        fstype,
    })
}

/// Undoes the `\040` escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\').and_then(|digits| {
            digits.iter().try_fold(0_u32, |sum, digit| {
                (b'0'..=b'7').contains(digit).then(|| sum * 8 + u32::from(digit - b'0'))
            })
        });
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

/// The mounts that can be seen from `/`, parents before children: what is hidden under a later mount
/// is left out.
#[must_use]
pub fn visible(all: &[MountEntry]) -> Vec<&MountEntry> {
    let Some(root) = all.iter().rev().find(|entry| entry.target == Path::new("/")) else {
        return Vec::new();
    };
    let mut seen = vec![root];
    let mut at = 0;
    while at < seen.len() {
        let parent = seen[at];
        for child in all.iter().filter(|e| e.parent == parent.id && e.id != parent.id) {
            // A mount on the same place as one of its siblings hides it; mountinfo lists it as that
            // sibling's child, so equal targets under one parent do not occur.
            let hidden = all.iter().any(|over| {
                over.parent == parent.id
                    && over.id != child.id
                    && child.target != over.target
                    && child.target.starts_with(&over.target)
            });
            if !hidden {
                seen.push(child);
            }
        }
        at += 1;
    }
    // Of mounts stacked on one place only the topmost, which comes last, is seen.
    let mut result: Vec<&MountEntry> = Vec::with_capacity(seen.len());
    for entry in seen {
        match result.iter_mut().find(|other| other.target == entry.target) {
            Some(below) => *below = entry,
            None => result.push(entry),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
21 20 0:5 / /proc rw - proc proc rw
22 20 0:6 / /home rw - ext4 /dev/sdb rw
23 22 0:7 / /home/a\\040b ro,relatime - tmpfs tmpfs rw,size=4k
24 22 0:8 / /home rw - tmpfs tmpfs rw
broken line
25 20 0:9 /sub /mnt/c rw master:2 - vfat /dev/sdc ro
";

    #[test]
    fn fields_are_read() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts.len(), 6);
        assert_eq!(mounts[3].target, Path::new("/home/a b"));
        assert!(mounts[3].read_only);
        assert!(!mounts[0].read_only, "errors=remount-ro is not ro");
        assert!(mounts[5].read_only, "the file system is read-only");
        assert_eq!(mounts[5].root, Path::new("/sub"));
        assert_eq!(mounts[5].fstype, "vfat");
    }

    #[test]
    fn a_hidden_mount_is_not_visible() {
        let mounts = parse(SAMPLE);
        let targets: Vec<_> = visible(&mounts)
            .iter()
            .map(|e| (e.id, e.target.to_str().unwrap().to_owned()))
            .collect();
        assert!(targets.contains(&(24, "/home".to_owned())), "{targets:?}");
        assert!(!targets.iter().any(|(id, _)| *id == 22 || *id == 23), "{targets:?}");
    }

    #[test]
    fn our_own_mounts_are_read() {
        let all = read().unwrap();
        assert!(visible(&all).iter().any(|e| e.target == Path::new("/proc") && e.fstype == "proc"));
    }
}
