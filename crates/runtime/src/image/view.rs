//! Looks at files in the root of an image without mounting it, for /etc/passwd and the like.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::beneath::{self, Scope};
use crate::contract::RootFs;

/// What is at a path of one layer.
enum At {
    /// Nothing: look further down.
    Nothing,
    /// A whiteout: it does not exist.
    Removed,
    Link(PathBuf),
    Dir {
        opaque: bool,
    },
    File,
}

/// Reads a regular file of at most `limit` bytes in `root`; `None` if there is none. Symbolic links
/// are followed inside the root.
///
/// # Errors
/// The system's, and `InvalidData` for a file that is larger.
pub(crate) fn read_file(root: &RootFs, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match root {
        RootFs::Host => match File::open(path) {
            Ok(file) => file,
            Err(err) if absent(&err) => return Ok(None),
            Err(err) => return Err(err),
        },
        RootFs::Layers(layers) => {
            let layers =
                layers.iter().rev().map(|dir| beneath::open_root(dir)).collect::<Result<_, _>>()?;
            match (Stack { layers }).open(path)? {
                Some(file) => file,
                None => return Ok(None),
            }
        }
        // Only the runtime sees into it.
        RootFs::Image(_) => return Ok(None),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut data = Vec::new();
    file.take(limit + 1).read_to_end(&mut data)?;
    if data.len() as u64 > limit {
        let message = format!("{} is larger than {limit} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(Some(data))
}

fn absent(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Layers, uppermost first.
struct Stack {
    layers: Vec<OwnedFd>,
}

impl Stack {
    /// Opens a file as overlayfs would show it.
    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        let mut resolved = PathBuf::new();
        let mut todo: Vec<PathBuf> = vec![path.to_owned()];
        let mut links = 0;
        // The layers in which the directory so far is visible.
        let mut visible: Vec<usize> = (0..self.layers.len()).collect();
        while let Some(next) = todo.pop() {
            let mut parts = next.components();
            let Some(part) = parts.next() else { continue };
            let rest = parts.as_path().to_owned();
            if !rest.as_os_str().is_empty() {
                todo.push(rest);
            }
            let name = match part {
                Component::Normal(name) => name,
                Component::RootDir => {
                    resolved.clear();
                    visible = (0..self.layers.len()).collect();
                    continue;
                }
                Component::ParentDir => {
                    // Walk again from the top: a lower directory may be hidden at any step.
                    let parent = resolved.parent().unwrap_or(Path::new("")).to_owned();
                    todo.push(parent);
                    resolved.clear();
                    visible = (0..self.layers.len()).collect();
                    continue;
                }
                _ => continue,
            };
            let here = resolved.join(name);
            let mut below = Vec::new();
            let mut found = None;
            for &layer in &visible {
                match (look(&self.layers[layer], &here)?, &found) {
                    (At::Nothing, _) => {}
                    (At::Dir { opaque }, None | Some(At::Dir { .. })) => {
                        below.push(layer);
                        found = Some(At::Dir { opaque });
                        if opaque {
                            break;
                        }
                    }
                    (_, Some(_)) => break,
                    (other, None) => {
                        below.push(layer);
                        found = Some(other);
                        break;
                    }
                }
            }
            match found {
                None | Some(At::Removed | At::Nothing) => return Ok(None),
                Some(At::Dir { .. }) => {
                    resolved = here;
                    visible = below;
                }
                Some(At::Link(target)) => {
                    links += 1;
                    if links > 40 {
                        return Err(Errno::LOOP.into());
                    }
                    todo.push(target);
                }
                Some(At::File) => {
                    if !todo.is_empty() {
                        return Ok(None);
                    }
                    // NONBLOCK: a pipe must not make us wait for its writer.
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                    let layer = &self.layers[below[0]];
                    let fd = beneath::open(layer, &here, flags, Scope::InRoot)?;
                    return Ok(Some(fd.into()));
                }
            }
        }
        Ok(None)
    }
}

/// What one layer has at a path whose parents are directories (or links) in it.
fn look(layer: &OwnedFd, path: &Path) -> io::Result<At> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Ok(At::Nothing);
    };
    let dir = OFlags::PATH | OFlags::DIRECTORY;
    let parent = match beneath::open(layer, parent, dir, Scope::InRoot) {
        Ok(parent) => parent,
        Err(err) if absent(&err) => return Ok(At::Nothing),
        Err(err) => return Err(err),
    };
    let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(At::Nothing),
        Err(err) => return Err(err.into()),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice if stat.st_rdev == 0 => At::Removed,
        FileType::Directory => {
            let fd = beneath::open(layer, path, OFlags::RDONLY | OFlags::DIRECTORY, Scope::InRoot)?;
            let mut value = [0_u8; 1];
            let got = rustix::fs::fgetxattr(&fd, "trusted.overlay.opaque", &mut value);
            At::Dir { opaque: got == Ok(1) && value == *b"y" }
        }
        FileType::Symlink => {
            use std::os::unix::ffi::OsStringExt;
            let target = rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes();
            At::Link(std::ffi::OsString::from_vec(target).into())
        }
        _ => At::File,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(layers: &[PathBuf], path: &str) -> Option<String> {
        let root = RootFs::Layers(layers.to_vec());
        let data = read_file(&root, Path::new(path), 100).unwrap()?;
        Some(String::from_utf8(data).unwrap())
    }

    #[test]
    fn the_upper_layer_wins_and_links_cross_layers() {
        let temp = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["low", "mid", "top"].map(|l| temp.path().join(l)).into();
        let write = |layer: usize, path: &str, text: &str| {
            let path = layers[layer].join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(0, "etc/passwd", "low");
        write(0, "etc/group", "low group");
        write(0, "usr/etc/real", "through");
        write(1, "etc/passwd", "mid");
        write(2, "other", "x");
        write(2, "file/below", "dir");
        write(0, "file", "hidden by a directory");
        symlink("/usr/etc/real", layers[2].join("abs")).unwrap();
        symlink("usr/../etc/group", layers[1].join("dots")).unwrap();
        symlink("usr/etc", layers[0].join("dir")).unwrap();
        symlink("me", layers[0].join("me")).unwrap();
        symlink("../../../other", layers[0].join("up")).unwrap();
        assert_eq!(read(&layers, "/etc/passwd").as_deref(), Some("mid"));
        assert_eq!(read(&layers, "/etc/group").as_deref(), Some("low group"));
        assert_eq!(read(&layers, "abs").as_deref(), Some("through"));
        assert_eq!(read(&layers, "dots").as_deref(), Some("low group"));
        assert_eq!(read(&layers, "/dir/real").as_deref(), Some("through"));
        assert_eq!(read(&layers, "up").as_deref(), Some("x"));
        for none in ["/etc", "/missing/x", "/etc/passwd/x", "file", "/"] {
            assert_eq!(read(&layers, none), None, "{none}");
        }
        let root = RootFs::Layers(layers.clone());
        assert!(read_file(&root, Path::new("/me"), 100).is_err());
        assert!(read_file(&root, Path::new("/etc/group"), 3).is_err());
        assert_eq!(read_file(&RootFs::Host, Path::new("/no/such"), 3).unwrap(), None);
    }

    #[test]
    fn whiteouts_hide() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: whiteouts need root");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["low", "top"].map(|l| temp.path().join(l)).into();
        for file in ["gone", "dir/old", "dir/sub/old", "seen/old"] {
            let path = layers[0].join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "low").unwrap();
        }
        fs::create_dir_all(layers[1].join("dir/sub")).unwrap();
        fs::create_dir_all(layers[1].join("seen")).unwrap();
        let gone = layers[1].join("gone");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &gone,
            FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        )
        .unwrap();
        rustix::fs::lsetxattr(
            layers[1].join("dir"),
            "trusted.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        for none in ["gone", "dir/old", "dir/sub/old", "dir/sub/../old"] {
            assert_eq!(read(&layers, none), None, "{none}");
        }
        assert_eq!(read(&layers, "seen/old").as_deref(), Some("low"));
    }
}
