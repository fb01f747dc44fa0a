//! The length of source files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::run::root;

/// The house rule is about 600 lines; from here on it is an error.
const MAX_LINES: usize = 650;

pub(crate) fn run() -> Result<()> {
    let mut long = Vec::new();
    let mut files = 0;
    for package in packages()? {
        for file in rust_files(&package.join("src"))? {
            files += 1;
            let lines = read(&file)?.lines().count();
            if lines > MAX_LINES {
                long.push((lines, file));
            }
        }
    }
    if long.is_empty() {
        eprintln!("xtask: {files} source files, none over {MAX_LINES} lines");
        return Ok(());
    }
    long.sort();
    for (lines, file) in long.iter().rev() {
        println!("{lines:5} {}", relative(file).display());
    }
    bail!("{} source files have more than {MAX_LINES} lines: split them", long.len())
}

/// The directories of all crates.
pub(crate) fn packages() -> Result<Vec<PathBuf>> {
    let crates = root().join("crates");
    let mut found = Vec::new();
    for entry in fs::read_dir(&crates).with_context(|| crates.display().to_string())? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Every Rust file below a directory, which need not be there.
pub(crate) fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// A path as seen from the root of the repository.
pub(crate) fn relative(file: &Path) -> PathBuf {
    file.strip_prefix(root()).unwrap_or(file).to_path_buf()
}
