//! The cgroups of a cluster: one directory in each hierarchy, one below it for each unit.
//!
//! A unit's cgroup namespace begins at its own cgroup, so that whatever a kubelet, containerd or runc
//! make at "the root" is below it, and goes with it. Both worlds are supported: one mount for each
//! controller (version 1, also hybrid), and the unified hierarchy (version 2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::layout::Layout;
use super::unit::mount;

/// A mounted hierarchy.
#[derive(Debug, Clone)]
struct Hierarchy {
    path: PathBuf,
    fstype: String,
    /// What to mount it with; empty for version 2.
    options: String,
}

/// The hierarchies as the host mounts them.
#[derive(Debug)]
pub(super) struct Mounts(Vec<Hierarchy>);

/// Finds out how cgroups are mounted here.
pub(super) fn mounts() -> Result<Mounts> {
    let text = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let controllers = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let mut found: Vec<Hierarchy> = text.lines().filter_map(|l| parse(l, &controllers)).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    if found.is_empty() {
        anyhow::bail!("no cgroups are mounted under {ROOT}: neither version 1 nor 2");
    }
    Ok(Mounts(found))
}

/// A line of `/proc/self/mounts`, if it is of a cgroup hierarchy.
fn parse(line: &str, controllers: &str) -> Option<Hierarchy> {
    let mut fields = line.split(' ').skip(1);
    let path = PathBuf::from(fields.next()?);
    let fstype = fields.next()?.to_owned();
    if !path.starts_with(ROOT) || !matches!(fstype.as_str(), "cgroup" | "cgroup2") {
        return None;
    }
    let known = |word: &&str| {
        word.starts_with("name=")
            || controllers.lines().any(|line| line.split('\t').next() == Some(word))
    };
    let mut options: Vec<&str> = match fstype.as_str() {
        "cgroup" => fields.next()?.split(',').filter(known).collect(),
        _ => Vec::new(),
    };
    if options.iter().any(|word| word.starts_with("name=")) {
        options.insert(0, "none");
    }
    Some(Hierarchy { path, options: options.join(","), fstype })
}

impl Mounts {
    /// Mounts the same hierarchies in a new mount namespace with a fresh `/sys`.
    pub(super) fn mount(&self) -> Result<()> {
        let unified = self.0.iter().any(|hierarchy| hierarchy.path == Path::new(ROOT));
        if !unified {
            mount("tmpfs", ROOT, "mode=755")?;
        }
        for Hierarchy { path, fstype, options } in &self.0 {
            let target = path.to_string_lossy();
            fs::create_dir_all(path).with_context(|| target.clone().into_owned())?;
            mount(fstype, &target, options)?;
        }
        Ok(())
    }
}

/// Makes the cgroups of a unit.
pub(super) fn create(layout: &Layout, unit: &str) -> Result<()> {
    for Hierarchy { path, .. } in mounts()?.0 {
        hand_on(&path);
        let cluster = path.join(layout.cgroup());
        make(&cluster)?;
        hand_on(&cluster);
        make(&cluster.join(unit))?;
    }
    Ok(())
}

/// Moves the calling process into the cgroups of a unit.
pub(super) fn join(layout: &Layout, unit: &str) -> Result<()> {
    for Hierarchy { path, .. } in mounts()?.0 {
        move_to(&path.join(layout.cgroup()).join(unit))?;
    }
    Ok(())
}

/// As [`join`], of a unit that has its own processes in a [`leaf`].
pub(super) fn join_from_outside(layout: &Layout, unit: &str) -> Result<()> {
    for Hierarchy { path, .. } in mounts()?.0 {
        let own = path.join(layout.cgroup()).join(unit);
        let leaf = own.join(LEAF);
        move_to(if leaf.is_dir() { &leaf } else { &own })?;
    }
    Ok(())
}

/// In a unit's own namespaces: where a hierarchy is of version 2, processes may not be in a cgroup that
/// hands controllers on, so that they move one level down.
pub(super) fn leaf() -> Result<()> {
    let root = Path::new(ROOT);
    if !root.join("cgroup.controllers").is_file() {
        return Ok(());
    }
    let leaf = root.join(LEAF);
    make(&leaf)?;
    move_to(&leaf)?;
    hand_on(root);
    Ok(())
}

/// Removes the cgroups of a unit, or of the whole cluster. No process may be in them any more.
pub(super) fn remove(layout: &Layout, unit: Option<&str>) -> Result<()> {
    for Hierarchy { path, .. } in mounts()?.0 {
        let cluster = path.join(layout.cgroup());
        match unit {
            None => remove_tree(&cluster)?,
            Some(unit) => {
                remove_tree(&cluster.join(unit))?;
                // The last one takes the cluster's along.
                let _ = fs::remove_dir(&cluster);
            }
        }
    }
    Ok(())
}

/// Removes the cgroups of clusters that nothing is left of but these: their keepers were killed, and nobody
/// has taken them down, or knows any more where they were.
pub(super) fn sweep() -> Result<()> {
    for Hierarchy { path, .. } in mounts()?.0 {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(CLUSTER) {
                remove_abandoned(&entry.path(), NEW);
            }
        }
    }
    Ok(())
}

/// Removes a cgroup in which, and below which, there is no process, unless it is so new that there soon may
/// be one. True if it is gone.
fn remove_abandoned(path: &Path, new: Duration) -> bool {
    let age = fs::metadata(path).and_then(|meta| meta.modified()).map(|time| time.elapsed());
    let is_old = matches!(age, Ok(Ok(age)) if age >= new);
    // If someone comes after all, the kernel does not let it go.
    is_old && !is_used(path) && remove_tree(path).is_ok()
}

fn is_used(path: &Path) -> bool {
    let used = fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|text| !text.is_empty());
    let mut below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    used || below.any(|path| path.is_dir() && is_used(&path))
}

/// The cluster's cgroups that are there.
pub(super) fn left(layout: &Layout) -> Result<Vec<PathBuf>> {
    let all = mounts()?.0.into_iter().map(|hierarchy| hierarchy.path.join(layout.cgroup()));
    Ok(all.filter(|path| path.exists()).collect())
}

fn make(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).with_context(|| format!("{}: no cgroup can be made", path.display()));
        }
        _ => {}
    }
    // Version 1: a cpuset without processors and memory takes no process.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = path.join(file);
        if path.join("cgroup.clone_children").exists()
            && fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty())
            && let Some(above) = path.parent()
        {
            fs::write(&own, fs::read_to_string(above.join(file))?)
                .with_context(|| own.display().to_string())?;
        }
    }
    Ok(())
}

fn move_to(cgroup: &Path) -> Result<()> {
    // 0 is the writer, in whichever process namespace.
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("{}: cannot be joined", file.display()))
}

/// Version 2: lets what is below use the controllers. Some may not be there to hand on; the kubelet will
/// say which it misses.
fn hand_on(cgroup: &Path) {
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        let _ = fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    let end = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            // The kernel lets go of the last process of a cgroup a moment after its parent knows.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("{}: cannot be removed", path.display()));
            }
            _ => return Ok(()),
        }
    }
}

/// Where cgroups are mounted, on every Linux.
const ROOT: &str = "/sys/fs/cgroup";
/// The cgroup of a unit's own processes, where they need one.
const LEAF: &str = "bench";
/// What the names of clusters' cgroups begin with.
pub(super) const CLUSTER: &str = "holdfast-bench-";
/// How long a cgroup may be without a process that is to have some.
const NEW: Duration = Duration::from_secs(60);
/// How long the kernel may take to let go of a dead process.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_removed() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "cgroups take root, and CI is set");
            return eprintln!("skipped: cgroups take root");
        }
        for Hierarchy { path, .. } in mounts().unwrap().0 {
            // Not a name that a sweep looks for.
            let cgroup = path.join(format!("holdfast-test-{}", std::process::id()));
            let below = cgroup.join("unit");
            make(&cgroup).unwrap();
            make(&below).unwrap();
            let mut process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            fs::write(below.join("cgroup.procs"), process.id().to_string()).unwrap();
            assert!(!remove_abandoned(&cgroup, Duration::ZERO), "a process is in it");
            process.kill().unwrap();
            process.wait().unwrap();
            assert!(!remove_abandoned(&cgroup, Duration::from_secs(1000)), "it is new");
            let end = Instant::now() + PATIENCE;
            while !remove_abandoned(&cgroup, Duration::ZERO) {
                assert!(Instant::now() < end, "{} stays", cgroup.display());
            }
            assert!(!cgroup.exists());
        }
    }

    #[test]
    fn both_versions_are_understood() {
        let controllers = "#subsys_name\thierarchy\ncpu\t3\ncpuacct\t3\nmemory\t5\n";
        let v1 = parse(
            "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,relatime,cpu,cpuacct 0 0",
            controllers,
        )
        .unwrap();
        assert_eq!(v1.options, "cpu,cpuacct");
        let named =
            parse("cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0", controllers)
                .unwrap();
        assert_eq!(named.options, "none,name=systemd");
        let v2 =
            parse("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0", controllers).unwrap();
        assert_eq!((v2.fstype.as_str(), v2.options.as_str()), ("cgroup2", ""));
        assert!(parse("tmpfs /sys/fs/cgroup tmpfs rw 0 0", controllers).is_none());
    }
}
