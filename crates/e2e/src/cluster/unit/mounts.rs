//! What a unit sees of the file system: the host's, with its own /proc, /sys, /run and /var.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use holdfast_sys::mount::{attach, clone_tree};
use nix::mount::{MsFlags, mount};

use super::super::cgroups;
use super::super::layout::Layout;

/// Makes the mounts of the calling process' new namespace a unit's.
///
/// `/run` and `/var` are empty, because programs of a node have fixed places there that two nodes would
/// fight over (`/run/xtables.lock`, `/run/netns`, `/run/containerd`, `/var/log/containers`,
/// `/var/lib/kubelet/device-plugins`). What the bench itself needs is put back.
pub(super) fn build(layout: &Layout, unit: &str) -> Result<()> {
    // Mounts of the host arrive here, mounts of the unit do not get out; within, they propagate, as
    // volumes with mountPropagation want it.
    change(MsFlags::MS_SLAVE)?;
    change(MsFlags::MS_SHARED)?;
    let cgroups = cgroups::mounts()?;
    let kept: Vec<_> = kept(layout)
        .into_iter()
        .map(|path| {
            let tree = clone_tree(&path, true)
                .with_context(|| format!("{}: cannot be bound", path.display()))?;
            Ok((path, tree))
        })
        .collect::<Result<_>>()?;
    new("proc", "/proc", "")?;
    new("sysfs", "/sys", "")?;
    new("tmpfs", "/run", "mode=755")?;
    new("tmpfs", "/var", "mode=755")?;
    for dir in
        ["/run/lock", "/run/netns", "/var/cache", "/var/lib", "/var/log", "/var/spool", "/var/tmp"]
    {
        std::fs::create_dir_all(dir).with_context(|| dir.to_owned())?;
    }
    std::os::unix::fs::symlink("/run", "/var/run").context("/var/run")?;
    std::os::unix::fs::symlink("/run/lock", "/var/lock").context("/var/lock")?;
    for (path, tree) in kept {
        std::fs::create_dir_all(&path)?;
        let target = std::fs::File::open(&path)?;
        attach(tree.as_fd(), target.as_fd())
            .with_context(|| format!("{}: cannot be mounted", path.display()))?;
    }
    cgroups.mount()?;
    std::fs::create_dir_all(layout.unit(unit).join("tmp"))?;
    Ok(())
}

/// What must stay visible although it may be below a directory that is emptied.
fn kept(layout: &Layout) -> Vec<PathBuf> {
    let program = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let workspace = crate::workspace();
    let mut paths: Vec<PathBuf> = [Some(layout.dir().to_owned()), program, Some(workspace)]
        .into_iter()
        .flatten()
        .filter(|path| HIDDEN.iter().any(|hidden| path.starts_with(hidden)))
        .collect();
    // A directory before what is in it, else it would cover it.
    paths.sort();
    paths.dedup();
    paths
}

fn change(flags: MsFlags) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, flags | MsFlags::MS_REC, None::<&str>)
        .context("the propagation of / cannot be changed")
}

/// Mounts a new file system.
pub(in super::super) fn new(fstype: &str, target: &str, options: &str) -> Result<()> {
    mount(Some(fstype), target, Some(fstype), MsFlags::empty(), Some(options))
        .with_context(|| format!("{fstype} cannot be mounted on {target}"))
}

/// What a unit has of its own.
const HIDDEN: &[&str] = &["/proc", "/run", "/sys", "/var"];
