//! What is known of a cluster: its file, and the processes that are its.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::layout::{Layout, write};
use super::network::Block;

/// `cluster.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Whether `up` came to its end.
    pub(super) up: bool,
    /// The version of Kubernetes, such as `1.35.4`.
    pub(super) kubernetes: String,
    pub(super) nodes: usize,
    pub(super) kubelet: Map<String, Value>,
    pub(super) block: Option<Block>,
    /// Process 1 of each unit, as the host counts.
    pub(super) units: BTreeMap<String, Process>,
}

/// A process that is not mistaken for a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Field 22 of `/proc/PID/stat`, in ticks since boot.
    pub(super) started: u64,
}

impl Process {
    pub(super) fn of(pid: i32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, started })
    }

    pub(super) fn lives(self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

impl State {
    pub(super) fn read(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&fs::read(layout.state()).ok()?).ok()
    }

    pub(super) fn write(&self, layout: &Layout) -> Result<()> {
        // Never half a file.
        let partial = layout.state().with_extension("partial");
        write(&partial, serde_json::to_string_pretty(self)?)?;
        fs::rename(&partial, layout.state()).context("cluster.json")
    }

    /// The process 1 of a unit that runs.
    pub(super) fn init(&self, unit: &str) -> Result<i32> {
        let names = || self.units.keys().cloned().collect::<Vec<_>>().join(", ");
        let process = self
            .units
            .get(unit)
            .with_context(|| format!("there is no unit {unit}; there are {}", names()))?;
        if !process.lives() {
            bail!("unit {unit} has ended");
        }
        Ok(process.pid)
    }
}

/// The directory of a cluster, locked: nobody else changes it as long as this is held.
pub(super) fn lock(layout: &Layout) -> Result<File> {
    let dir = layout.dir();
    let ours = layout.lock().exists();
    let used = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if used && !ours {
        bail!("{} is not empty, and not a cluster's: choose another directory", dir.display());
    }
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = layout.lock();
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    file.lock().with_context(|| path.display().to_string())?;
    Ok(file)
}

/// All processes that hold a unit of the cluster from outside or are its process 1, whatever became of
/// its files: they are known by their arguments.
pub(super) fn processes(layout: &Layout) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(words) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).skip(1).take(3).collect();
        let ours = matches!(words[..], [b"cluster", b"keep" | b"init", dir]
            if dir == layout.dir().as_os_str().as_encoded_bytes());
        if ours && let Some(started) = started(pid) {
            found.push(Process { pid, started });
        }
    }
    Ok(found)
}

/// When a process was started; `None` if there is none, or if it is dead and only not waited for.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
