//! The images that tests use.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::archive::{Image, Node};

/// The process that holds a pod's namespaces.
///
/// # Errors
/// When there is no C compiler.
pub fn pause() -> Result<Image> {
    let mut image =
        Image::new("registry.k8s.io/pause:3.10.1").with("pause", Node::File(build_pause()?));
    image.entrypoint = vec!["/pause".into()];
    image.user = "65535:65535".into();
    Ok(image)
}

/// A shell and the usual tools: Debian's static busybox, with a link for each of its applets.
///
/// # Errors
/// When busybox is not there.
pub fn busybox() -> Result<Image> {
    let path = find("busybox")?;
    let output = Command::new(&path).arg("--list").output().context("busybox --list")?;
    let mut image = Image::new("docker.io/library/busybox:latest");
    for applet in String::from_utf8_lossy(&output.stdout).lines() {
        if applet != "busybox" {
            image = image.with(&format!("bin/{applet}"), Node::Link("busybox".into()));
        }
    }
    image = image.with("bin/busybox", Node::File(path));
    image.cmd = vec!["sh".into()];
    Ok(image)
}

/// Builds the pause program, if its source has changed.
fn build_pause() -> Result<PathBuf> {
    let source = crate::workspace().join("e2e/cluster/images/pause.c");
    let program = crate::cache().join("bin/pause");
    let age = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified());
    if age(&program).is_ok_and(|built| age(&source).is_ok_and(|written| built > written)) {
        return Ok(program);
    }
    fs::create_dir_all(crate::cache().join("bin"))?;
    let partial = program.with_extension(format!("partial-{}", std::process::id()));
    let output = Command::new("cc")
        .args(["-static", "-Os", "-s", "-Wl,--build-id=none", "-o"])
        .args([&partial, &source])
        .output()
        .context("cannot run cc: install gcc and libc6-dev")?;
    if !output.status.success() {
        bail!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&partial, &program)?;
    Ok(program)
}

/// A program in PATH.
fn find(program: &str) -> Result<PathBuf> {
    std::env::var_os("PATH")
        .and_then(|path| {
            std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
        })
        .with_context(|| format!("there is no {program} in PATH"))
}
