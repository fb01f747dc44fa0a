//! Programs with the shared libraries that they need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::archive::{Image, Node};

/// Adds a program under `/bin`, and what it loads at start under the paths it looks for it.
///
/// # Errors
/// When a library is not on this machine.
pub fn program(mut image: Image, path: &Path) -> Result<Image> {
    let name = path.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    for library in libraries(path)? {
        image = image.with(&library.to_string_lossy(), Node::File(library.clone()));
    }
    Ok(image.with(&format!("bin/{name}"), Node::File(path.to_owned())))
}

/// A program in PATH.
///
/// # Errors
/// When there is none.
pub fn find(program: &str) -> Result<PathBuf> {
    std::env::var_os("PATH")
        .and_then(|path| {
            std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
        })
        .with_context(|| format!("there is no {program} in PATH"))
}

/// The loader and the libraries of a program, as the loader itself finds them.
fn libraries(path: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(path).output().context("cannot run ldd")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        // A static program, or a script.
        if format!("{said}{complained}").contains("not a dynamic executable") {
            return Ok(Vec::new());
        }
        bail!("ldd {}: {}", path.display(), complained.trim());
    }
    parse(&said).with_context(|| format!("ldd {}", path.display()))
}

/// Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux… (0x…)`.
fn parse(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines().map(str::trim) {
        let place = line.split_once("=> ").map_or(line, |(_, place)| place);
        match place.split(" (0x").next() {
            Some("not found") => bail!("{line}"),
            Some(path) if path.starts_with('/') => found.push(PathBuf::from(path)),
            // linux-vdso, which the kernel brings; "statically linked".
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ldd_says_is_understood() {
        let said = "\tlinux-vdso.so.1 (0x00007ffc8d3f2000)\n\
            \tlibiperf.so.0 => /lib/x86_64-linux-gnu/libiperf.so.0 (0x00007f1c2f0a0000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f1c2f2d0000)\n";
        let paths = parse(said).unwrap();
        let expected = ["/lib/x86_64-linux-gnu/libiperf.so.0", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert!(parse("\tlibx.so => not found\n").is_err());
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_shared_program_brings_its_loader() {
        let image = program(Image::new("bench.test/sh:1"), Path::new("/bin/sh")).unwrap();
        assert!(
            image.files.keys().any(|path| path.contains("libc.so")),
            "{:?}",
            image.files.keys()
        );
        assert!(image.files.keys().any(|path| path.contains("/ld-linux")));
    }
}
