//! The files of an image as it lies on disk: a directory, or a tar read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::compression::decompress;
use crate::beneath::{self, Scope};

/// Manifests and configs are small; no one needs more (containerd's limit is 8 MiB).
const MAX_DOCUMENT: u64 = 8 << 20;

/// A set of named files.
pub(super) enum Blobs {
    /// In a directory.
    Dir(OwnedFd),
    /// In a tar archive that is not compressed.
    Tar { file: File, entries: HashMap<PathBuf, Place> },
}

/// Where a file lies in an archive.
#[derive(Clone)]
pub(super) enum Place {
    At {
        offset: u64,
        size: u64,
    },
    /// `docker save` writes a layer that occurs twice as a link to the first.
    Link(PathBuf),
}

impl Blobs {
    pub(super) fn in_dir(path: &Path) -> io::Result<Self> {
        Ok(Self::Dir(beneath::open_root(path)?))
    }

    /// Opens an archive. A compressed one is unpacked into an unnamed file in `temp` first, as the
    /// manifest says only later which blobs are wanted.
    pub(super) fn in_archive(path: &Path, temp: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut start = [0; 6];
        let got = file.read_at(&mut start, 0)?;
        let plain = !matches!(
            &start[..got],
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [_, 0x2a, 0x4d, 0x18, ..]
        );
        if !plain {
            let mut unpacked = unnamed_file(temp)?;
            io::copy(&mut decompress(file)?, &mut unpacked)?;
            unpacked.seek(SeekFrom::Start(0))?;
            file = unpacked;
        }
        let mut entries = HashMap::new();
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = normal(&entry.path()?);
            let kind = entry.header().entry_type();
            let place = if kind.is_file() {
                Place::At { offset: entry.raw_file_position(), size: entry.size() }
            } else if kind.is_symlink() || kind.is_hard_link() {
                let Some(target) = entry.link_name()? else { continue };
                let base = if kind.is_symlink() { name.parent() } else { None };
                Place::Link(normal(&base.unwrap_or(Path::new("")).join(target)))
            } else {
                continue;
            };
            entries.insert(name, place);
        }
        Ok(Self::Tar { file: archive.into_inner(), entries })
    }

    /// Opens a file for reading from its start.
    pub(super) fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Dir(root) => {
                let fd = beneath::open(root, Path::new(name), OFlags::RDONLY, Scope::Beneath)?;
                Ok(Box::new(File::from(fd)))
            }
            Self::Tar { file, entries } => {
                let mut name = normal(Path::new(name));
                // Links to links do not occur; the bound only stops a circle.
                for _ in 0..8 {
                    match entries.get(&name) {
                        Some(&Place::At { offset, size }) => {
                            return Ok(Box::new(Slice { file, offset, left: size }));
                        }
                        Some(Place::Link(target)) => name.clone_from(target),
                        None => break,
                    }
                }
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// Reads a small file whole.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        self.open(name)?.take(MAX_DOCUMENT + 1).read_to_end(&mut data)?;
        if data.len() as u64 > MAX_DOCUMENT {
            let message = format!("larger than {MAX_DOCUMENT} bytes, which no manifest is");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(data)
    }
}

/// A file that goes away by itself.
fn unnamed_file(dir: &Path) -> io::Result<File> {
    use rustix::fs::Mode;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(fd.into()),
        // Not every file system has O_TMPFILE (overlayfs before Linux 6.1).
        Err(_) => {
            let path = dir.join(format!("unpacked-{}", std::process::id()));
            let file =
                File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

/// A name without `.`, `..` and a leading slash.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normal
}

/// A part of a file, read by position so that several can be open at once.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.file.read_at(&mut buffer[..most], self.offset)?;
        if got == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}
