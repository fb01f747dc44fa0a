//! Control groups, version 2 only: one tree a run, a directory a pod, a leaf a container.
//!
//! ```text
//!   holdfast-<run>/<pod>/<instance>
//! ```
//! A leaf is what makes "kill the whole container" one write (`cgroup.kill`), with or without a PID
//! namespace; limits are set where the machine hands the controller on to us.
//!
//! The values are the kubelet's and runc's: `cargo xtask vm` holds them against a real kernel.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Mode, OFlags};

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

/// Which controllers containers can have here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    /// Why there are no CPU limits and weights; `None` if there are.
    no_cpu: Option<String>,
    /// Why there are no memory limits; `None` if there are.
    no_memory: Option<String>,
}

impl Controllers {
    /// What must be said about these limits: which of them are not kept, and why.
    #[must_use]
    pub fn not_kept(&self, limits: &Limits) -> Vec<String> {
        let cpu = limits.cpu_milli.is_some() || limits.cpu_request_milli.is_some();
        let memory = limits.memory.is_some();
        let say = |wanted: bool, name: &str, why: &Option<String>| {
            let why = why.as_ref().filter(|_| wanted)?;
            Some(format!("{name} limits are not kept: {why}"))
        };
        let said = [say(cpu, "cpu", &self.no_cpu), say(memory, "memory", &self.no_memory)];
        said.into_iter().flatten().collect()
    }

    /// What to write to hand them on.
    fn words(&self) -> Option<&'static str> {
        match (self.no_cpu.is_none(), self.no_memory.is_none()) {
            (true, true) => Some("+cpu +memory"),
            (true, false) => Some("+cpu"),
            (false, true) => Some("+memory"),
            (false, false) => None,
        }
    }
}

/// Finds where a run may make its cgroups: for root the top of the tree, where controllers can be
/// handed on; for others the highest of the groups around them that was delegated to them, because
/// their own has processes, which stands in the way of limits.
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
        let own = mount.target.join(inside);
        let around = own.ancestors().skip(1).take_while(|group| group.starts_with(&mount.target));
        Some(around.take_while(|group| is_delegated(group)).last().unwrap_or(&own).to_owned())
    }))
}

/// Whether the caller may make groups in this one and move processes between them ("Delegation
/// Containment" in the kernel's documentation).
fn is_delegated(group: &Path) -> bool {
    let may = |path: &Path, access| {
        rustix::fs::accessat(rustix::fs::CWD, path, access, AtFlags::EACCESS).is_ok()
    };
    may(group, Access::WRITE_OK | Access::EXEC_OK)
        && may(&group.join("cgroup.procs"), Access::WRITE_OK)
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

    /// Hands the controllers that limits need on to the children of this group, which is to be a
    /// child of `base`, and says which of them are not to be had.
    ///
    /// What is handed on by `base` stays so: others may rely on it by the time we end.
    #[must_use]
    pub fn take_controllers(&self, base: &Self) -> Controllers {
        let handed_on = base.words_of(SUBTREE);
        let take = |name: &str| {
            if handed_on.iter().any(|word| word == name) { None } else { base.hand_on(name).err() }
        };
        let mut controllers = Controllers { no_cpu: take("cpu"), no_memory: take("memory") };
        if let Err(error) = self.hand_on_all(&controllers) {
            let why = format!("{} cannot hand on controllers: {error}", self.path.display());
            controllers.no_cpu.get_or_insert_with(|| why.clone());
            controllers.no_memory.get_or_insert(why);
        }
        controllers
    }

    fn words_of(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Hands one controller on to the children; the error says why that cannot be.
    fn hand_on(&self, controller: &str) -> Result<(), String> {
        let path = self.path.display();
        if !self.words_of("cgroup.controllers").iter().any(|word| word == controller) {
            return Err(format!(
                "there is no {controller} controller in {path} (cgroup v1 has it, or it was not \
                 delegated)"
            ));
        }
        // The kernel refuses that for some controllers; with others it would make a threaded group of
        // this one, in whose children nothing can be started. Only the very top is exempt.
        if self.path.join("cgroup.type").exists() && self.processes().is_ok_and(|p| !p.is_empty()) {
            return Err(format!(
                "{path} has processes of its own, so it cannot hand on the {controller} controller"
            ));
        }
        self.write(SUBTREE, &format!("+{controller}"))
            .map_err(|error| format!("{path} cannot hand on the {controller} controller: {error}"))
    }

    /// Hands on what there is.
    fn hand_on_all(&self, controllers: &Controllers) -> io::Result<()> {
        controllers.words().map_or(Ok(()), |words| self.write(SUBTREE, words))
    }

    /// Makes this group that of a pod, whose containers request so many thousandths of a core in all.
    ///
    /// # Errors
    /// If the kernel refuses what it has just given.
    pub fn prepare_pod(&self, controllers: &Controllers, cpu_request_milli: u64) -> io::Result<()> {
        self.hand_on_all(controllers)?;
        if controllers.no_cpu.is_none() {
            self.write("cpu.weight", &pod_weight(cpu_request_milli).to_string())?;
        }
        Ok(())
    }

    /// Makes this group the leaf of a container with these limits, as far as there are controllers.
    ///
    /// # Errors
    /// If the kernel refuses a value.
    pub fn prepare_leaf(&self, controllers: &Controllers, limits: &Limits) -> io::Result<()> {
        if controllers.no_memory.is_none() {
            // kubelet: singleProcessOOMKill is false, so a container is killed as a whole, also if it
            // is the machine that has no memory left.
            self.write("memory.oom.group", "1")?;
            if let Some(memory) = limits.memory {
                self.write("memory.max", &memory.to_string())?;
                // No swap beyond the limit (kubelet: NoSwap). Not every kernel has the file.
                let _ = self.write("memory.swap.max", "0");
            }
        }
        if controllers.no_cpu.is_none() {
            if let Some(milli) = limits.cpu_milli {
                self.write("cpu.max", &format!("{} {PERIOD}", quota(milli)))?;
            }
            let weight = container_weight(limits.cpu_request_milli.unwrap_or_default());
            self.write("cpu.weight", &weight.to_string())?;
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

/// Where a group says which controllers its children have.
const SUBTREE: &str = "cgroup.subtree_control";

/// The period of `cpu.max` in microseconds (kubelet: `QuotaPeriod`).
const PERIOD: u64 = 100_000;

/// Microseconds in a period for a limit in thousandths of a core (kubelet: `MilliCPUToQuota`).
fn quota(milli: u64) -> u64 {
    (milli.saturating_mul(PERIOD) / 1000).max(1000)
}

/// Shares for a request in thousandths of a core (kubelet: `MilliCPUToShares`). No request at all is
/// the least there is.
fn shares(milli: u64) -> u32 {
    let shares = (milli.saturating_mul(1024) / 1000).clamp(2, 262_144);
    u32::try_from(shares).unwrap_or(u32::MAX)
}

/// `cpu.weight` of a container: runc's (`ConvertCPUSharesToCgroupV2Value` since 1.3.2), through 1 for 2
/// shares, 100 for 1024 and 10,000 for 262,144.
fn container_weight(request_milli: u64) -> u32 {
    let log = f64::from(shares(request_milli)).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10_f64.powf(exponent).ceil() as u32
}

/// `cpu.weight` of a pod: the kubelet's own (`getCPUWeight`).
fn pod_weight(request_milli: u64) -> u32 {
    let shares = u64::from(shares(request_milli));
    u32::try_from(1 + (shares - 2) * 9999 / 262_142).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_quotas() {
        // opencontainers/cgroups: TestConvertCPUSharesToCgroupV2Value, where they are the same.
        let containers = [(0, 1), (2, 1), (100, 17), (250, 35), (500, 59), (1000, 100)];
        for (milli, weight) in containers {
            assert_eq!(container_weight(milli), weight, "{milli}m");
        }
        assert_eq!(container_weight(u64::MAX), 10_000);
        for (milli, weight) in [(0, 1), (1000, 39), (3000, 118), (u64::MAX, 10_000)] {
            assert_eq!(pod_weight(milli), weight, "{milli}m");
        }
        for (milli, micros) in [(1, 1000), (10, 1000), (100, 10_000), (2500, 250_000)] {
            assert_eq!(quota(milli), micros, "{milli}m");
        }
    }

    /// A directory that looks like a group with these controllers.
    fn group(path: PathBuf, controllers: &str) -> Cgroup {
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(path.join(SUBTREE), "").unwrap();
        Cgroup::at(path)
    }

    #[test]
    fn missing_controllers_are_named_once_they_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let base = group(dir.path().to_owned(), "cpu io");
        let run = group(dir.path().join("run"), "cpu");
        let controllers = run.take_controllers(&base);
        let not_kept = |limits: Limits| controllers.not_kept(&limits);
        assert!(not_kept(Limits { cpu_milli: Some(1), ..Limits::default() }).is_empty());
        let said = not_kept(Limits { memory: Some(1), ..Limits::default() });
        let path = dir.path().display();
        let expected = format!(
            "memory limits are not kept: there is no memory controller in {path} (cgroup v1 has it, or \
             it was not delegated)"
        );
        assert_eq!(said, [expected]);
        assert_eq!(controllers.words(), Some("+cpu"));
    }
}
