//! Writes the files of a volume so that a reader sees all old or all new ones.
//!
//! ```text
//! volume/
//!   key        ─▶ ..data/key
//!   dir        ─▶ ..data/dir
//!   ..data     ─▶ ..2026_11_21_13_15_19.123456789     renamed over: the one step that counts
//!   ..2026_11_21_13_15_19.123456789/{key,dir/file}
//! ```
//!
//! After the kubelet's `AtomicWriter` (pkg/volume/util/atomic_writer.go).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::beneath;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Projected {
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
}

/// The files of a volume by their relative path.
pub(super) type Payload = BTreeMap<PathBuf, Projected>;

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("invalid path: {0}")]
    Path(String),
    #[error("{0:?} is both a file and a directory of the volume")]
    Overlap(PathBuf),
    #[error("cannot write {path:?}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Makes `dir` hold exactly `payload`. Returns whether anything had to be written.
///
/// `prepare` is called with the new files' directory before they become visible (ownership).
/// `keep_old` leaves the old files, which nothing points to any more, until the volume is removed.
pub(super) fn write(
    dir: &Path,
    payload: &Payload,
    keep_old: bool,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<bool, WriteError> {
    for path in payload.keys() {
        validate(path)?;
        if let Some(parent) = path.ancestors().skip(1).find(|parent| payload.contains_key(*parent))
        {
            return Err(WriteError::Overlap(parent.to_owned()));
        }
    }
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| WriteError::Io { path, source }
    };
    let data = dir.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(old) => Some(old),
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => return Err(at(&data)(err)),
    };
    if let Some(old) = &old
        && is_same(&dir.join(old), payload)
    {
        return Ok(false);
    }
    let (name, new) = new_directory(dir).map_err(at(dir))?;
    let fill = || {
        for (path, file) in payload {
            let path = new.join(path);
            write_file(&new, &path, file).map_err(at(&path))?;
        }
        prepare(&new).map_err(at(&new))
    };
    if let Err(err) = fill() {
        // The volume is as it was; what stays in the way is only disk space.
        let _ = beneath::open_root(dir).and_then(|fd| beneath::remove_tree(&fd, name.as_ref()));
        return Err(err);
    }
    let visible: BTreeSet<&Path> = payload.keys().filter_map(|path| first(path)).collect();
    for name in &visible {
        let link = dir.join(name);
        match symlink(Path::new(DATA).join(name), &link) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(at(&link))?,
        }
    }
    let data_new = dir.join(DATA_NEW);
    // A write that was interrupted left it.
    let _ = fs::remove_file(&data_new);
    symlink(&name, &data_new).map_err(at(&data_new))?;
    fs::rename(&data_new, &data).map_err(at(&data))?;
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        let name = entry.file_name();
        let is_old =
            !name.to_string_lossy().starts_with("..") && !visible.contains(Path::new(&name));
        if is_old {
            fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    if let Some(old) = old.filter(|_| !keep_old) {
        let fd = beneath::open_root(dir).map_err(at(dir))?;
        beneath::remove_tree(&fd, old.as_os_str()).map_err(at(&dir.join(&old)))?;
    }
    Ok(true)
}

/// A path must be relative, without `..`, not begin with `..`, and of bearable length
/// (`validatePath`).
fn validate(path: &Path) -> Result<(), WriteError> {
    let shown = path.display();
    let refuse = |why: String| Err(WriteError::Path(why));
    if path.as_os_str().is_empty() {
        return refuse("must not be empty".into());
    }
    if path.is_absolute() {
        return refuse(format!("must be relative path: {shown}"));
    }
    if path.as_os_str().len() > 4096 {
        return refuse("must be less than or equal to 4096 characters".into());
    }
    for part in path.components() {
        match part {
            Component::ParentDir => return refuse(format!("must not contain '..': {shown}")),
            Component::Normal(name) if name.len() > 255 => {
                return refuse("filenames must be less than or equal to 255 characters".into());
            }
            _ => {}
        }
    }
    match first(path) {
        None => refuse(format!("must name a file: {shown}")),
        Some(name) if name.to_string_lossy().starts_with("..") => {
            refuse(format!("must not start with '..': {shown}"))
        }
        Some(_) => Ok(()),
    }
}

/// The first component: what a user sees at the top of the volume.
fn first(path: &Path) -> Option<&Path> {
    path.components().find_map(|part| match part {
        Component::Normal(name) => Some(Path::new(name)),
        _ => None,
    })
}

/// Whether the files on disk are the payload, with its modes and nothing more.
fn is_same(dir: &Path, payload: &Payload) -> bool {
    let mut count = 0;
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        let Ok(entries) = fs::read_dir(&next) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(_) => count += 1,
                Err(_) => return false,
            }
        }
    }
    count == payload.len()
        && payload.iter().all(|(path, file)| {
            let path = dir.join(path);
            fs::read(&path).is_ok_and(|data| data == file.data)
                // fsGroup may have added to the mode that was asked for.
                && fs::metadata(&path)
                    .is_ok_and(|meta| meta.permissions().mode() & file.mode == file.mode)
        })
}

/// Makes a directory named after the time.
fn new_directory(dir: &Path) -> io::Result<(String, PathBuf)> {
    loop {
        let now = jiff::Timestamp::now();
        let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S");
        let name = format!("{stamp}.{:09}", now.subsec_nanosecond());
        let path = dir.join(&name);
        match fs::create_dir(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
                return Ok((name, path));
            }
            // The clock has not moved since the last write.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err),
        }
    }
}

fn write_file(base: &Path, path: &Path, file: &Projected) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        for dir in parent.ancestors().take_while(|dir| *dir != base) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
    }
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut out, &file.data)?;
    out.set_permissions(fs::Permissions::from_mode(file.mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| Projected { data: data.into(), mode: 0o640 };
        files.iter().map(|(path, data)| (PathBuf::from(path), file(data))).collect()
    }

    fn put(dir: &Path, files: &[(&str, &str)]) -> bool {
        write(dir, &payload(files), false, |_| Ok(())).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |e: io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_seen_through_links() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert!(put(dir, &[("a", "1"), ("sub/b", "2"), ("sub/deep/c", "3")]));
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_link(dir.join("sub")).unwrap(), Path::new("..data/sub"));
        assert_eq!(fs::read_to_string(dir.join("sub/deep/c")).unwrap(), "3");
        let mode = fs::metadata(dir.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(names(dir).len(), 4, "{:?}", names(dir));
    }

    #[test]
    fn an_update_swaps_and_removes() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        put(dir, &[("a", "1"), ("gone", "x"), ("sub/b", "2")]);
        let old = fs::read_link(dir.join("..data")).unwrap();
        // An open directory keeps showing the old files: nothing is written in place.
        assert!(!put(dir, &[("a", "1"), ("gone", "x"), ("sub/b", "2")]), "nothing changed");
        assert_eq!(fs::read_link(dir.join("..data")).unwrap(), old);
        assert!(put(dir, &[("a", "2"), ("new", "y")]));
        assert_ne!(fs::read_link(dir.join("..data")).unwrap(), old);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "2");
        let seen: Vec<String> = names(dir).into_iter().filter(|n| !n.starts_with("..")).collect();
        assert_eq!(seen, ["a", "new"]);
        assert!(!dir.join(&old).exists());
        assert!(put(dir, &[]));
        assert_eq!(names(dir).iter().filter(|n| !n.starts_with("..")).count(), 0);
    }

    #[test]
    fn a_file_may_become_a_directory() {
        let temp = tempfile::tempdir().unwrap();
        put(temp.path(), &[("x", "1")]);
        put(temp.path(), &[("x/y", "2")]);
        assert_eq!(fs::read_to_string(temp.path().join("x/y")).unwrap(), "2");
        put(temp.path(), &[("x", "3")]);
        assert_eq!(fs::read_to_string(temp.path().join("x")).unwrap(), "3");
    }

    #[test]
    fn old_files_can_be_kept() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        put(dir, &[("a", "1")]);
        let old = fs::canonicalize(dir.join("a")).unwrap();
        write(dir, &payload(&[("a", "2")]), true, |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(old).unwrap(), "1");
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "2");
    }

    #[test]
    fn a_failed_update_changes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        put(dir, &[("a", "1")]);
        let failed =
            write(dir, &payload(&[("a", "2")]), false, |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
        assert_eq!(names(dir).len(), 3, "{:?}", names(dir));
        // And the next one works.
        assert!(put(dir, &[("a", "2")]));
    }

    #[test]
    fn paths_are_checked() {
        let temp = tempfile::tempdir().unwrap();
        let long = "x".repeat(256);
        for path in ["", "/abs", "../up", "a/../b", "..data", "..x/y", ".", &long] {
            let written = write(temp.path(), &payload(&[(path, "")]), false, |_| Ok(()));
            assert!(matches!(written, Err(WriteError::Path(_))), "{path}: {written:?}");
        }
        let both = write(temp.path(), &payload(&[("a", ""), ("a/b", "")]), false, |_| Ok(()));
        assert!(matches!(both, Err(WriteError::Overlap(_))));
        assert!(names(temp.path()).is_empty());
        assert!(put(temp.path(), &[("a..b", ""), (".hidden", "")]));
    }
}
