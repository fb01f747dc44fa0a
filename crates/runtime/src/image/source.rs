//! Where an image's files come from: the SOURCE of `--image NAME=SOURCE`.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where an image's files come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `host`: the host's files. A container of it needs a `command`.
    Host,
    /// A path whose kind is found by looking at it when the image is wanted.
    Auto(PathBuf),
    /// `dir:PATH`: a directory that is the root.
    Dir(PathBuf),
    /// `oci:PATH[:REF]`: a directory in the OCI image layout; REF picks one of several images in it.
    Oci(PathBuf, Option<String>),
    /// `archive:PATH[:REF]`: a tar of an OCI layout, or what `docker save` writes; may be compressed.
    Archive(PathBuf, Option<String>),
    /// `exec:PATH`: the host's files with this executable as the entrypoint.
    Exec(PathBuf),
}

/// Why a SOURCE, or `NAME=SOURCE`, is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no `=`.
    #[error("{0:?} is not NAME=SOURCE, for example nginx=host or example/app=./rootfs")]
    NoEquals(String),
    /// There is nothing after the `=` or the prefix.
    #[error(
        "the source of {0:?} is empty; it is host, a root directory, an OCI layout or archive, or an \
         executable"
    )]
    Empty(String),
}

impl Source {
    /// Reads a SOURCE. Relative paths are taken from `base` (the working directory for a command line,
    /// the directory of `holdfast.yaml` for its map). The file system is only asked whether the end of
    /// `oci:PATH:REF` is a reference.
    ///
    /// # Errors
    /// [`SourceError::Empty`].
    pub fn parse(text: &str, base: &Path) -> Result<Self, SourceError> {
        let path = |path: &str| match path {
            "" => Err(SourceError::Empty(text.to_owned())),
            _ => Ok(base.join(path)),
        };
        let referenced = |rest: &str| -> Result<(PathBuf, Option<String>), SourceError> {
            let whole = path(rest)?;
            // A reference may have a colon itself (`oci:layout:example.com/app:v2`).
            let split = || {
                rest.rmatch_indices(':')
                    .map(|(at, _)| (&rest[..at], &rest[at + 1..]))
                    .find(|(start, end)| !end.is_empty() && path(start).is_ok_and(|p| p.exists()))
            };
            Ok(match if whole.exists() { None } else { split() } {
                Some((start, end)) => (path(start)?, Some(end.to_owned())),
                None => (whole, None),
            })
        };
        Ok(match text.split_once(':') {
            _ if text == "host" => Self::Host,
            Some(("dir", rest)) => Self::Dir(path(rest)?),
            Some(("exec", rest)) => Self::Exec(path(rest)?),
            Some(("oci", rest)) => referenced(rest).map(|(p, r)| Self::Oci(p, r))?,
            Some(("archive", rest)) => referenced(rest).map(|(p, r)| Self::Archive(p, r))?,
            _ => Self::Auto(path(text)?),
        })
    }

    /// Reads `NAME=SOURCE`, the value of `--image`. The name is checked by
    /// [`ImageStore::new`](super::ImageStore::new).
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn parse_mapping(text: &str, base: &Path) -> Result<(String, Self), SourceError> {
        let (name, source) =
            text.split_once('=').ok_or_else(|| SourceError::NoEquals(text.to_owned()))?;
        if name.is_empty() {
            return Err(SourceError::NoEquals(text.to_owned()));
        }
        if source.is_empty() {
            return Err(SourceError::Empty(text.to_owned()));
        }
        Ok((name.to_owned(), Self::parse(source, base)?))
    }

    /// The path, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Host => None,
            Self::Auto(path) | Self::Dir(path) | Self::Exec(path) => Some(path),
            Self::Oci(path, _) | Self::Archive(path, _) => Some(path),
        }
    }

    /// Finds out what an [`Auto`](Self::Auto) is, and checks that the others are what they say.
    ///
    /// # Errors
    /// A sentence that names the path and says what was found.
    pub(super) fn detect(&self) -> Result<Self, String> {
        let Some(path) = self.path() else { return Ok(Self::Host) };
        let shown = path.display();
        let meta = fs::metadata(path).map_err(|err| match err.kind() {
            io::ErrorKind::NotFound => format!("{shown} does not exist"),
            _ => format!("cannot look at {shown}: {err}"),
        })?;
        // Only now: a symbolic link to the image may be replaced between two runs.
        let path =
            fs::canonicalize(path).map_err(|err| format!("cannot resolve {shown}: {err}"))?;
        let is_dir = meta.is_dir();
        match self {
            Self::Dir(_) if is_dir => Ok(Self::Dir(path)),
            Self::Dir(_) => Err(format!("{shown} is not a directory")),
            Self::Oci(_, reference)
                if ["index.json", "manifest.json"].iter().any(|f| path.join(f).is_file()) =>
            {
                Ok(Self::Oci(path, reference.clone()))
            }
            Self::Oci(_, _) if is_dir => {
                Err(format!("{shown} is no OCI layout: it has no index.json or manifest.json"))
            }
            Self::Oci(_, reference) | Self::Archive(_, reference) if meta.is_file() => {
                match look(&path)? {
                    Seen::Tar | Seen::Compressed => Ok(Self::Archive(path, reference.clone())),
                    seen => Err(format!("{shown} is no tar archive but {}", seen.words())),
                }
            }
            Self::Archive(_, _) => Err(format!("{shown} is no archive but a directory; use oci:")),
            Self::Exec(_) if meta.is_file() => executable(&path, &meta).map(|()| Self::Exec(path)),
            Self::Exec(_) => Err(format!("{shown} is not a file")),
            Self::Auto(_) if is_dir && path.join("oci-layout").exists() => {
                Ok(Self::Oci(path, None))
            }
            Self::Auto(_) if is_dir && looks_like_layout(&path) => Ok(Self::Oci(path, None)),
            Self::Auto(_) if is_dir => Ok(Self::Dir(path)),
            Self::Auto(_) if meta.is_file() => match look(&path)? {
                Seen::Tar | Seen::Compressed => Ok(Self::Archive(path, None)),
                _ => executable(&path, &meta).map(|()| Self::Exec(path)),
            },
            _ => {
                let kind = meta.file_type();
                let what = if kind.is_socket() {
                    "a socket"
                } else if kind.is_fifo() {
                    "a pipe"
                } else {
                    "a device"
                };
                Err(format!(
                    "{shown} is {what}, not a root directory, an OCI layout or archive, or an \
                     executable"
                ))
            }
        }
    }
}

/// Whether a directory holds an image rather than a root file system.
fn looks_like_layout(dir: &Path) -> bool {
    // A root file system may well have a file of one of these names; both, with blobs, it has not.
    dir.join("oci-layout").is_file()
        || (dir.join("index.json").is_file() && dir.join("blobs").is_dir())
        || (dir.join("manifest.json").is_file() && !dir.join("bin").exists())
}

/// What the first bytes of a file say.
enum Seen {
    Tar,
    Compressed,
    Elf,
    Script,
    Other,
}

impl Seen {
    fn words(&self) -> &'static str {
        match self {
            Self::Tar => "a tar archive",
            Self::Compressed => "a compressed file",
            Self::Elf => "an executable; use exec:",
            Self::Script => "a script; use exec:",
            Self::Other => "something else",
        }
    }
}

fn look(path: &Path) -> Result<Seen, String> {
    let failed = |err: io::Error| format!("cannot read {}: {err}", path.display());
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut start = [0; 4];
    let mut magic = [0; 5];
    let got = file.read(&mut start).map_err(failed)?;
    if file.read_exact_at(&mut magic, 257).is_ok() && &magic == b"ustar" {
        return Ok(Seen::Tar);
    }
    Ok(match &start[..got] {
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [b'B', b'Z', b'h', _] => Seen::Compressed,
        [0xfd, b'7', b'z', b'X'] => Seen::Compressed,
        [0x7f, b'E', b'L', b'F'] => Seen::Elf,
        [b'#', b'!', ..] => Seen::Script,
        _ => Seen::Other,
    })
}

fn executable(path: &Path, meta: &fs::Metadata) -> Result<(), String> {
    let shown = path.display();
    if meta.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(match look(path)? {
        Seen::Elf | Seen::Script => format!("{shown} is not executable; try chmod +x {shown}"),
        _ => format!("{shown} is neither a tar archive of an image nor an executable"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Source {
        Source::parse(text, Path::new("/base")).unwrap()
    }

    #[test]
    fn prefixes_and_paths() {
        assert_eq!(parse("host"), Source::Host);
        assert_eq!(parse("./host"), Source::Auto("/base/./host".into()));
        assert_eq!(parse("rootfs"), Source::Auto("/base/rootfs".into()));
        assert_eq!(parse("dir:/srv/root"), Source::Dir("/srv/root".into()));
        assert_eq!(parse("exec:bin/app"), Source::Exec("/base/bin/app".into()));
        assert_eq!(parse("oci:l:v1"), Source::Oci("/base/l:v1".into(), None));
        assert_eq!(parse("archive:a.tar"), Source::Archive("/base/a.tar".into(), None));
        assert_eq!(parse("a:b"), Source::Auto("/base/a:b".into()));
        assert!(Source::parse("dir:", Path::new("/")).is_err());
        let base = Path::new("/");
        let (name, source) = Source::parse_mapping("a/b:c=host", base).unwrap();
        assert_eq!((name.as_str(), source), ("a/b:c", Source::Host));
        for bad in ["nginx", "=host", "nginx="] {
            assert!(Source::parse_mapping(bad, base).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_follows_what_exists() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("layout")).unwrap();
        for (text, reference) in [
            ("oci:layout", None),
            ("oci:layout:v1", Some("v1")),
            ("oci:layout:example.com/app:v2", Some("example.com/app:v2")),
        ] {
            let expected = Source::Oci(temp.path().join("layout"), reference.map(str::to_owned));
            assert_eq!(Source::parse(text, temp.path()).unwrap(), expected);
        }
    }

    #[test]
    fn kinds_are_found_by_looking() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let auto = |name: &str| Source::Auto(at(name)).detect();
        fs::create_dir(at("root")).unwrap();
        fs::create_dir(at("layout")).unwrap();
        fs::write(at("layout/oci-layout"), "{}").unwrap();
        fs::write(at("program"), b"\x7fELF...").unwrap();
        fs::write(at("image.tgz"), b"\x1f\x8b\x08\x00").unwrap();
        fs::write(at("text"), "hello").unwrap();
        assert_eq!(auto("root"), Ok(Source::Dir(at("root"))));
        assert_eq!(auto("layout"), Ok(Source::Oci(at("layout"), None)));
        assert_eq!(auto("image.tgz"), Ok(Source::Archive(at("image.tgz"), None)));
        assert!(auto("program").unwrap_err().contains("chmod +x"));
        fs::set_permissions(at("program"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(auto("program"), Ok(Source::Exec(at("program"))));
        assert!(auto("missing").unwrap_err().contains("does not exist"));
        assert!(auto("text").unwrap_err().contains("neither a tar archive"));
        assert!(Source::Archive(at("program"), None).detect().unwrap_err().contains("use exec:"));
        assert!(Source::Dir(at("text")).detect().is_err());
        assert!(Source::Oci(at("root"), None).detect().is_err());
        assert!(Source::Auto("/dev/null".into()).detect().unwrap_err().contains("a device"));
    }
}
