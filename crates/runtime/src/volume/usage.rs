//! How much of the disk a volume takes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes on disk of the tree at `top`, a file with several names once. What goes away while we look
/// is not counted.
pub(super) fn of(top: &Path) -> u64 {
    let mut total = 0;
    let mut linked = HashSet::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.nlink() > 1 && !meta.is_dir() && !linked.insert((meta.dev(), meta.ino())) {
            continue;
        }
        total += meta.blocks() * 512;
        if meta.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            todo.extend(entries.map(|entry| entry.path()));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once() {
        let temp = tempfile::tempdir().unwrap();
        let empty = of(temp.path());
        fs::write(temp.path().join("a"), vec![1; 100_000]).unwrap();
        fs::hard_link(temp.path().join("a"), temp.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("root")).unwrap();
        let used = of(temp.path()) - empty;
        assert!((100_000..200_000).contains(&used), "{used}");
    }
}
