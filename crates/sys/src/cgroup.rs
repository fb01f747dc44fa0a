//! Control groups, version 2 only: one tree a run, a directory a pod, a leaf a container.
//!
//! ```text
//!   holdfast-<run>/<pod>/<instance>
//! ```
//! A leaf is what makes "kill the whole container" one write (`cgroup.kill`), with or without a PID
//! namespace; limits are set where the machine delegates the controller.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::mountinfo::{self, MountEntry};

/// The prefix of a run's directory.
pub const PREFIX: &str = "holdfast-";

/// A directory of the cgroup file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

/// Limits of one leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// `memory.max`, in bytes.
    pub memory: Option<u64>,
    /// `cpu.max`, in thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// What `cpu.weight` is made of, in thousandths of a core.
    pub cpu_request_milli: Option<u64>,
}

impl Limits {
    /// The controllers these limits need.
    fn controllers(&self) -> impl Iterator<Item = &'static str> {
        let cpu = self.cpu_milli.is_some() || self.cpu_request_milli.is_some();
        [self.memory.map(|_| "memory"), cpu.then_some("cpu")].into_iter().flatten()
    }
}

/// Finds where a run may make its cgroups: for root the top of the tree, where controllers can be
/// handed on; for others their own group, if it was delegated to them.
///
/// `None` if no cgroup v2 is mounted.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn base(mounts: &[MountEntry], root: bool) -> io::Result<Option<PathBuf>> {
    let visible = mountinfo::visible(mounts);
    let Some(mount) = visible.iter().find(|entry| entry.fstype == "cgroup2") else {
        return Ok(None);
    };
    if root {
        return Ok(Some(mount.target.clone()));
    }
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(own.and_then(|own| {
        let inside = Path::new(own).strip_prefix(&mount.root).ok()?;
        Some(mount.target.join(inside))
    }))
}

impl Cgroup {
    /// The cgroup at `path`, which need not exist yet.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes its directory.
    ///
    /// # Errors
    /// EACCES without delegation, EROFS in many containers.
    pub fn create(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// A cgroup below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// A descriptor for [`crate::clone::clone3`].
    ///
    /// # Errors
    /// If it does not exist.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.path, flags, Mode::empty())?)
    }

    /// Hands a controller on to the children.
    ///
    /// # Errors
    /// ENOENT where the controller is not here, EBUSY where processes are (the "no internal processes"
    /// rule), EACCES without delegation.
    pub fn hand_on(&self, controller: &str) -> io::Result<()> {
        let path = self.path.join("cgroup.subtree_control");
        let has = fs::read_to_string(&path)?;
        if has.split_whitespace().any(|word| word == controller) {
            return Ok(());
        }
        fs::write(path, format!("+{controller}"))
    }

    /// Sets limits on this leaf; `above` are the groups on the way to it, highest first. The answer
    /// names the controllers that are missing here, whose limits are therefore not kept.
    ///
    /// # Errors
    /// If the kernel refuses a value.
    pub fn limit(&self, limits: &Limits, above: &[&Self]) -> io::Result<Vec<&'static str>> {
        let mut missing = Vec::new();
        for controller in limits.controllers() {
            if above.iter().any(|group| group.hand_on(controller).is_err()) {
                missing.push(controller);
                continue;
            }
            match controller {
                "memory" => self.limit_memory(limits)?,
                _ => self.limit_cpu(limits)?,
            }
        }
        Ok(missing)
    }

    fn limit_memory(&self, limits: &Limits) -> io::Result<()> {
        let Some(memory) = limits.memory else { return Ok(()) };
        self.write("memory.max", &memory.to_string())?;
        // As the kubelet: no swap beyond the limit (NoSwap), and a container is killed as a whole
        // (singleProcessOOMKill: false). Neither file is everywhere.
        let _ = self.write("memory.swap.max", "0");
        let _ = self.write("memory.oom.group", "1");
        Ok(())
    }

    fn limit_cpu(&self, limits: &Limits) -> io::Result<()> {
        if let Some(milli) = limits.cpu_milli {
            // kubelet: MilliCPUToQuota; the kernel takes no quota under 1 ms.
            let quota = (milli.saturating_mul(100)).max(1000);
            self.write("cpu.max", &format!("{quota} 100000"))?;
        }
        if let Some(milli) = limits.cpu_request_milli {
            self.write("cpu.weight", &weight(milli).to_string())?;
        }
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path.join(file), value)
    }

    /// Kills every process in it and below (Linux 5.14; one by one before that).
    ///
    /// # Errors
    /// If it could not be asked for; a group that is gone is none.
    pub fn kill(&self) -> io::Result<()> {
        // Not created if missing: that would be refused with EACCES rather than ENOENT.
        let file = fs::OpenOptions::new().write(true).open(self.path.join("cgroup.kill"));
        match file.and_then(|mut file| io::Write::write_all(&mut file, b"1")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_each(),
            other => other,
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        for child in self.children()? {
            child.kill_each()?;
        }
        for pid in self.processes()? {
            crate::signals::kill(pid, libc::SIGKILL);
        }
        Ok(())
    }

    /// The processes in it (not below).
    ///
    /// # Errors
    /// If it cannot be read; a group that is gone has none.
    pub fn processes(&self) -> io::Result<Vec<crate::clone::Pid>> {
        match fs::read_to_string(self.path.join("cgroup.procs")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other?.lines().filter_map(|line| line.parse().ok()).collect()),
        }
    }

    fn children(&self) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut children = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                children.push(Self { path: entry.path() });
            }
        }
        Ok(children)
    }

    /// Whether the kernel has killed something in it for memory.
    #[must_use]
    pub fn oom_killed(&self) -> bool {
        let Ok(events) = fs::read_to_string(self.path.join("memory.events")) else {
            return false; // no memory controller here
        };
        events
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count.trim() != "0")
    }

    /// Opens `cgroup.events`, which polls as an exception (POLLPRI) when it changes.
    ///
    /// # Errors
    /// If the group is gone.
    pub fn events(&self) -> io::Result<fs::File> {
        fs::File::open(self.path.join("cgroup.events"))
    }

    /// Removes it and everything below. It must be empty of processes.
    ///
    /// # Errors
    /// EBUSY while a process is in it; a group that is gone is none.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => {}
        }
        for child in self.children()? {
            child.remove()?;
        }
        fs::remove_dir(&self.path)
    }

    /// Kills and removes it with everything below, waiting for the last process to be gone; gives up
    /// after `patience`.
    ///
    /// # Errors
    /// What still stood in the way.
    pub fn destroy(&self, patience: std::time::Duration) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        let deadline = std::time::Instant::now() + patience;
        self.kill()?;
        loop {
            // Opened before the attempt, so that no change between the two is missed.
            let Ok(events) = self.events() else { return self.remove() };
            let mut text = String::new();
            let _ = io::Read::read_to_string(&mut &events, &mut text);
            let error = match self.remove() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(error);
            }
            // "populated 0" and yet busy happens while the last process is on its way out of the
            // kernel's lists; that has no event of its own.
            let wait = if text.contains("populated 1") { left } else { left.min(BUSY_RETRY) };
            let timeout = rustix::event::Timespec::try_from(wait).unwrap_or_default();
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
        }
    }
}

/// How soon an empty but busy group is tried again.
const BUSY_RETRY: std::time::Duration = std::time::Duration::from_millis(2);

/// `cpu.weight` for a request (kubelet: `CPUSharesToCPUWeight` of `MilliCPUToShares`, KEP-2254).
fn weight(milli: u64) -> u64 {
    let shares = (milli.saturating_mul(1024) / 1000).clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_kubelets() {
        assert_eq!(weight(0), 1);
        assert_eq!(weight(1000), 39);
        assert_eq!(weight(u64::MAX), 10_000);
    }

    #[test]
    fn missing_controllers_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let top = Cgroup::at(dir.path().join("none"));
        let leaf = top.child("leaf");
        let limits = Limits { memory: Some(1), cpu_milli: Some(1), cpu_request_milli: None };
        assert_eq!(leaf.limit(&limits, &[&top]).unwrap(), ["memory", "cpu"]);
        assert!(leaf.limit(&Limits::default(), &[&top]).unwrap().is_empty());
    }

    #[test]
    fn limits_are_written_where_the_controllers_are() {
        let dir = tempfile::tempdir().unwrap();
        let top = Cgroup::at(dir.path().to_owned());
        std::fs::write(dir.path().join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        let leaf = top.child("leaf");
        leaf.create().unwrap();
        let limits =
            Limits { memory: Some(1 << 20), cpu_milli: Some(250), cpu_request_milli: Some(100) };
        assert!(leaf.limit(&limits, &[&top]).unwrap().is_empty());
        let read = |file: &str| std::fs::read_to_string(leaf.path().join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("cpu.max"), "25000 100000");
        assert_eq!(read("cpu.weight"), "4");
    }
}
