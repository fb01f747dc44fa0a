//! `hostPath`: a file or directory of the host.

use std::fs::{self, FileType};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path};

/// Checks what is at `path` against `hostPath.type`, and makes it for the `…OrCreate` types
/// (kubelet: pkg/volume/hostpath, `checkType`).
///
/// # Errors
/// Kubernetes' sentence.
pub(super) fn check(path: &str, kind: &str) -> Result<(), String> {
    let at = Path::new(path);
    if at.components().any(|part| part == Component::ParentDir) {
        return Err(format!("invalid HostPath `{path}`: must not contain '..'"));
    }
    if !at.is_absolute() {
        return Err(format!("invalid HostPath `{path}`: must be an absolute path"));
    }
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if !at.exists() => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(at)
            .map_err(|err| format!("mkdir {path}: {err}")),
        "FileOrCreate" if !at.exists() => fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(at)
            .map(drop)
            .map_err(|err| format!("open {path}: {err}")),
        "DirectoryOrCreate" | "Directory" => expect(path, "directory", FileType::is_dir),
        "FileOrCreate" | "File" => expect(path, "file", FileType::is_file),
        "Socket" => expect(path, "socket file", FileTypeExt::is_socket),
        "CharDevice" => expect(path, "character device", FileTypeExt::is_char_device),
        "BlockDevice" => expect(path, "block device", FileTypeExt::is_block_device),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

/// Whether `path` leads to what `is_it` says; one that leads nowhere does not (kubelet:
/// `checkTypeInternal`; the newest, with `typeMatchedOrError`, tells a missing path apart and adds what
/// it found instead).
fn expect(path: &str, words: &str, is_it: fn(&FileType) -> bool) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(meta) if is_it(&meta.file_type()) => Ok(()),
        _ => Err(format!("hostPath type check failed: {path} is not a {words}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn types_are_checked_in_kubernetes_words() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "x").unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for (name, kind) in [
            ("dir", "Directory"),
            ("dir", "DirectoryOrCreate"),
            ("file", "File"),
            ("file", "FileOrCreate"),
            ("socket", "Socket"),
            ("missing", ""),
        ] {
            assert_eq!(check(&at(name), kind), Ok(()), "{name} {kind}");
        }
        assert_eq!(check("/dev/null", "CharDevice"), Ok(()));
        let error = |name: &str, kind: &str| check(&at(name), kind).unwrap_err();
        for (name, kind, words) in [
            ("file", "Directory", "directory"),
            ("file", "DirectoryOrCreate", "directory"),
            ("dir", "File", "file"),
            ("dir", "FileOrCreate", "file"),
            ("pipe", "File", "file"),
            ("file", "Socket", "socket file"),
            ("file", "CharDevice", "character device"),
            ("file", "BlockDevice", "block device"),
            // Nothing is not what was asked for either.
            ("none", "Directory", "directory"),
            ("none", "File", "file"),
            ("none", "Socket", "socket file"),
            ("none", "CharDevice", "character device"),
            ("none", "BlockDevice", "block device"),
        ] {
            let expected = format!("hostPath type check failed: {} is not a {words}", at(name));
            assert_eq!(error(name, kind), expected, "{name} {kind}");
        }
        assert_eq!(error("file", "Floppy"), "Floppy is an invalid volume type");
        assert!(check("/a/../b", "").unwrap_err().contains("must not contain '..'"));
        assert!(check("a", "").is_err());
    }

    #[test]
    fn or_create_creates() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
        check(&at("a/b"), "DirectoryOrCreate").unwrap();
        assert!(temp.path().join("a/b").is_dir());
        check(&at("f"), "FileOrCreate").unwrap();
        assert!(temp.path().join("f").is_file());
        // As in Kubernetes, the directory of a file is not made.
        assert!(check(&at("no/f"), "FileOrCreate").is_err());
    }
}
