//! Memory of processes, from `/proc`.

use std::path::Path;

use anyhow::{Result, ensure};

/// The memory of some processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// How many there are.
    pub(crate) processes: usize,
    /// Sum of their resident pages.
    pub(crate) rss_kib: u64,
    /// The same with each shared page shared out among those who have it.
    pub(crate) pss_kib: u64,
}

/// The memory of process `root` and its descendants, as far as they run `binary`.
pub(crate) fn of_program(root: u32, binary: &Path) -> Result<Used> {
    let mut used = Used::default();
    let mut todo = vec![root];
    while let Some(pid) = todo.pop() {
        todo.extend(children(pid));
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        if exe.is_ok_and(|exe| exe == binary)
            && let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        {
            used.processes += 1;
            used.rss_kib += kib(&text, "Rss:");
            used.pss_kib += kib(&text, "Pss:");
        }
    }
    ensure!(
        used.rss_kib > 0,
        "process {root} shows no memory: it has ended, or /proc is not there"
    );
    Ok(used)
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn kib(rollup: &str, key: &str) -> u64 {
    rollup
        .lines()
        .find_map(|l| l.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}
