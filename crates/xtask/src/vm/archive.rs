//! An initramfs: a cpio archive in the format "newc" (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An archive that is being written. Everything in it belongs to root.
pub(super) struct Archive<W> {
    out: W,
    /// The number of the last entry, which stands for an inode.
    last: u32,
    /// The directories and files that are there, without their leading slash.
    known: BTreeSet<PathBuf>,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, last: 0, known: BTreeSet::new() }
    }

    /// A directory, with those above it.
    pub(super) fn directory(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = relative(path.as_ref());
        if path.as_os_str().is_empty() || !self.known.insert(path.to_owned()) {
            return Ok(());
        }
        self.parent(path)?;
        self.entry(path, DIRECTORY | 0o755, [0, 0], &[])
    }

    /// A file with this content.
    pub(super) fn file(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        content: &[u8],
    ) -> io::Result<()> {
        self.leaf(path.as_ref(), FILE | mode, [0, 0], content)
    }

    /// A copy of a file, unless something is there under that name already.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        if self.has(to) {
            return Ok(());
        }
        let with_path = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", from.display()));
        let mode = fs::metadata(from).map_err(with_path)?.permissions().mode() & 0o7777;
        self.file(to, mode, &fs::read(from).map_err(with_path)?)
    }

    /// Whether something is there under that name.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.known.contains(relative(path))
    }

    /// A symbolic link.
    pub(super) fn symlink(&mut self, path: impl AsRef<Path>, target: &str) -> io::Result<()> {
        self.leaf(path.as_ref(), SYMLINK | 0o777, [0, 0], target.as_bytes())
    }

    /// A character device.
    pub(super) fn device(&mut self, path: &str, mode: u32, number: [u32; 2]) -> io::Result<()> {
        self.leaf(path.as_ref(), CHARACTER_DEVICE | mode, number, &[])
    }

    /// Writes the end.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.last = 0;
        self.entry(Path::new("TRAILER!!!"), 0, [0, 0], &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn leaf(&mut self, path: &Path, mode: u32, device: [u32; 2], content: &[u8]) -> io::Result<()> {
        let path = relative(path);
        if !self.known.insert(path.to_owned()) {
            return Err(io::Error::other(format!("/{} is there already", path.display())));
        }
        self.parent(path)?;
        self.entry(path, mode, device, content)
    }

    fn parent(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(
        &mut self,
        path: &Path,
        mode: u32,
        device: [u32; 2],
        content: &[u8],
    ) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let name = path.as_os_str().as_bytes();
        let too_large = |_| io::Error::other(format!("{}: too large for cpio", path.display()));
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        self.last += 1;
        let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
        // inode, mode, uid, gid, links, time, size, device (2), number of the device (2), name, check
        let [major, minor] = device;
        let fields = [self.last, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            header.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        header.extend_from_slice(name);
        header.push(0);
        header.resize(header.len().next_multiple_of(4), 0);
        self.out.write_all(&header)?;
        self.out.write_all(content)?;
        self.out.write_all(&[0; 3][..content.len().next_multiple_of(4) - content.len()])
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_as_the_kernel_reads_it() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/b", 0o755, b"hello").unwrap();
        archive.directory("/a").unwrap();
        archive.device("/dev/console", 0o600, [5, 1]).unwrap();
        assert!(archive.symlink("/a/b", "x").is_err(), "twice the same name");
        let bytes = archive.finish().unwrap();
        // name size 2 ("a", 0), no content
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed", "a directory, 0755");
        assert_eq!(&bytes[94..102], b"00000002");
        assert_eq!(&bytes[110..112], b"a\0");
        let second = &bytes[112..];
        assert_eq!(&second[14..22], b"000081ed", "a file, 0755");
        assert_eq!(&second[54..62], b"00000005");
        assert_eq!(&second[110..124], b"a/b\0\0\0hello\0\0\0");
        assert!(bytes.len().is_multiple_of(4));
        let names = |name: &[u8]| bytes.windows(name.len()).filter(|w| *w == name).count();
        assert_eq!(names(b"dev/console\0"), 1);
        assert_eq!(names(b"TRAILER!!!\0"), 1);
    }
}
