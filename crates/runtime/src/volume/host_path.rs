//! `hostPath`: a file or directory of the host.

use std::fs;
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
        "DirectoryOrCreate" | "Directory" => expect(path, "Directory", "directory"),
        "FileOrCreate" | "File" => expect(path, "File", "file"),
        "Socket" => expect(path, "Socket", "socket file"),
        "CharDevice" => expect(path, "CharDevice", "character device"),
        "BlockDevice" => expect(path, "BlockDevice", "block device"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

fn expect(path: &str, wanted: &str, words: &str) -> Result<(), String> {
    let Ok(meta) = fs::metadata(path) else {
        return Err(format!("hostPath {path} doesn't exist"));
    };
    let kind = meta.file_type();
    let found = if kind.is_dir() {
        "Directory"
    } else if kind.is_file() {
        "File"
    } else if kind.is_socket() {
        "Socket"
    } else if kind.is_char_device() {
        "CharDevice"
    } else if kind.is_block_device() {
        "BlockDevice"
    } else {
        return Err(format!(
            "hostPath type check failed, {path} is not a {words}, unable to determine its type: only \
             recognise file, directory, socket, block device and character device"
        ));
    };
    if found == wanted {
        return Ok(());
    }
    Err(format!("hostPath type check failed: {path} is not a {words}, it's a {found}"))
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
        assert_eq!(error("none", "Directory"), format!("hostPath {} doesn't exist", at("none")));
        assert_eq!(
            error("file", "Directory"),
            format!("hostPath type check failed: {} is not a directory, it's a File", at("file"))
        );
        assert!(error("dir", "FileOrCreate").ends_with("is not a file, it's a Directory"));
        assert!(error("file", "Socket").ends_with("is not a socket file, it's a File"));
        assert!(error("file", "CharDevice").ends_with("is not a character device, it's a File"));
        assert!(error("file", "BlockDevice").ends_with("is not a block device, it's a File"));
        assert!(error("pipe", "File").contains("unable to determine its type"));
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
